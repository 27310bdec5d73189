//! Who a call is made for.
//!
//! Promises: every call of the engine that makes, names or changes something is told for whom, by a
//! [`Credentials`]; nothing in the engine asks the kernel in the middle of a call. What the C library
//! and the Rust face pass are the process's own, read when a filesystem is made and again on
//! [`refresh`]. Owns the process's credentials, one of each that differs, for the life of the process,
//! so that a call holds them without counting. Never: a decision about a file, which is the
//! namespace's.

use std::sync::Arc;

use ermfs_memory::sync::Mutex;
use ermfs_memory::sync::atomic::{
    AtomicPtr,
    Ordering::{Acquire, Release},
};
use ermfs_memory::{try_box, try_vec};

use crate::errno::{Errno, Result};
use crate::inject::allocation;

/// The ids that permissions are judged by. Immutable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    uid: u32,
    gid: u32,
    privileged: bool,
    groups: Vec<u32>,
}

impl Credentials {
    /// A user with a group and supplementary groups; user 0 passes every check that Linux lets a process with all
    /// capabilities pass.
    pub fn new(uid: u32, gid: u32, groups: Vec<u32>) -> Credentials {
        Credentials { uid, gid, privileged: uid == 0, groups }
    }

    /// Passes every check, and yet makes files that belong to these ids: for a caller that has judged already, as the
    /// kernel has for a mount.
    pub const fn superuser_as(uid: u32, gid: u32) -> Credentials {
        Credentials { uid, gid, privileged: true, groups: Vec::new() }
    }

    /// The owner of what is made.
    #[inline]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The group of what is made.
    #[inline]
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// Whether permissions do not bind it.
    #[inline]
    pub fn is_privileged(&self) -> bool {
        self.privileged
    }

    /// Whether it belongs to a group.
    pub fn has_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }
}

/// What the process is to a filesystem: the effective ids act, the real ones are asked for by `access(2)`.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    effective: Credentials,
    real: Credentials,
}

impl Identity {
    /// Those of the calling thread, which are the process's unless it has set them apart with a bare system call.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn of_process() -> Result<Identity> {
        use rustix::process::{getegid, geteuid, getgid, getgroups, getuid};
        let mut groups = try_vec(0)?;
        for group in getgroups()? {
            allocation!("credentials")?;
            groups.try_reserve(1)?;
            groups.push(group.as_raw());
        }
        let mut again = try_vec(groups.len())?;
        again.extend_from_slice(&groups);
        Ok(Identity {
            effective: Credentials::new(geteuid().as_raw(), getegid().as_raw(), groups),
            real: Credentials::new(getuid().as_raw(), getgid().as_raw(), again),
        })
    }
}

/// Where a filesystem keeps who the process is.
pub(crate) struct Holder(AtomicPtr<Identity>);

impl Holder {
    /// For the process as it is now.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Holder>> {
        let mut known = KNOWN.lock();
        let identity = known.interned(Identity::of_process()?)?;
        let holder = Arc::new(Holder(AtomicPtr::new(core::ptr::from_ref(identity).cast_mut())));
        known.remember(&holder)?;
        Ok(holder)
    }

    #[inline]
    fn identity(&self) -> &'static Identity {
        // SAFETY: only `interned` identities are stored, which are never freed or changed; Acquire pairs with the
        // Release of `refresh`, so what it points to is complete.
        unsafe { &*self.0.load(Acquire) }
    }

    /// The effective ids.
    #[inline]
    pub(crate) fn effective(&self) -> &'static Credentials {
        &self.identity().effective
    }

    /// The real ids.
    pub(crate) fn real(&self) -> &'static Credentials {
        &self.identity().real
    }
}

/// All identities that the process ever had, each once, and the holders to be told of a new one.
struct Known {
    identities: Vec<&'static Identity>,
    holders: Vec<Arc<Holder>>,
}

static KNOWN: Mutex<Known> = Mutex::new(Known { identities: Vec::new(), holders: Vec::new() });

impl Known {
    /// The one that is equal to `identity`, which becomes it if there is none.
    ///
    /// # Errors
    /// `ENOMEM`.
    fn interned(&mut self, identity: Identity) -> Result<&'static Identity> {
        if let Some(known) = self.identities.iter().find(|known| ***known == identity) {
            return Ok(known);
        }
        allocation!("credentials")?;
        self.identities.try_reserve(1)?;
        let kept: &'static Identity = Box::leak(try_box(identity).map_err(|(error, _)| Errno::from(error))?);
        self.identities.push(kept);
        Ok(kept)
    }

    /// # Errors
    /// `ENOMEM`.
    fn remember(&mut self, holder: &Arc<Holder>) -> Result<()> {
        if self.holders.len() == self.holders.capacity() {
            // Those that only this list still holds went with their filesystems.
            self.holders.retain(|holder| Arc::strong_count(holder) > 1);
            allocation!("credentials")?;
            self.holders.try_reserve(self.holders.len() + 1)?;
        }
        self.holders.push(Arc::clone(holder));
        Ok(())
    }
}

/// Reads the process's ids again, for all filesystems.
///
/// # Errors
/// `ENOMEM`; everything is as before then.
pub(crate) fn refresh() -> Result<()> {
    let mut known = KNOWN.lock();
    let identity = known.interned(Identity::of_process()?)?;
    for holder in &known.holders {
        holder.0.store(core::ptr::from_ref(identity).cast_mut(), Release);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_count_and_only_user_0_is_privileged_by_itself() {
        let user = Credentials::new(7, 8, vec![9, 10]);
        assert!(user.has_group(8) && user.has_group(10) && !user.has_group(7) && !user.is_privileged());
        assert!(Credentials::new(0, 8, Vec::new()).is_privileged());
        let mount = Credentials::superuser_as(7, 8);
        assert!(mount.is_privileged() && mount.uid() == 7 && mount.gid() == 8 && !mount.has_group(0));
    }

    #[test]
    fn an_identity_is_kept_once_and_holders_go_with_their_filesystems() {
        let mut known = Known { identities: Vec::new(), holders: Vec::new() };
        let identity = |uid| Identity {
            effective: Credentials::new(uid, 1, vec![2]),
            real: Credentials::new(uid, 1, Vec::new()),
        };
        let first = known.interned(identity(5)).unwrap();
        assert!(core::ptr::eq(first, known.interned(identity(5)).unwrap()));
        assert!(!core::ptr::eq(first, known.interned(identity(6)).unwrap()));
        assert_eq!(known.identities.len(), 2);
        let holder = || Arc::new(Holder(AtomicPtr::new(core::ptr::from_ref(first).cast_mut())));
        let kept = holder();
        known.remember(&kept).unwrap();
        for _ in 0..1000 {
            known.remember(&holder()).unwrap();
        }
        assert!(known.holders.len() < 20 && known.holders.iter().any(|other| Arc::ptr_eq(other, &kept)));
        assert_eq!((kept.effective().uid(), kept.real().gid()), (5, 1));
        // They stay for good; LeakSanitizer is to find them.
        static STAYS: Mutex<Vec<&Identity>> = Mutex::new(Vec::new());
        STAYS.lock().append(&mut known.identities);
    }

    #[test]
    fn a_refresh_reaches_every_holder() {
        let (one, two) = (Holder::new().unwrap(), Holder::new().unwrap());
        refresh().unwrap();
        assert!(core::ptr::eq(one.effective(), two.effective()));
        assert_eq!(one.effective().uid(), rustix::process::geteuid().as_raw());
    }
}
