//! Advisory locks on an open file.
//!
//! Promises the checks of fcntl(2)'s lock commands and of flock(2), in Linux's order. OFD locks and
//! `flock`s belong to the description and go with its last reference; POSIX record locks belong to the
//! process and go when it closes any descriptor of the file.

use core::ptr;

use super::OpenFile;
use crate::errno::{Errno, Result};
use crate::namespace::{Ended, Hold, LOCK_TO_END, Lock, LockKind, LockOwner, OnConflict};
use crate::process::Operation;

/// A bit of flock(2)'s argument with which Linux, since 5.17, does nothing and succeeds.
const LOCK_MAND: i32 = 32;

/// The commands of fcntl(2) on record locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockCommand {
    /// Whether a lock could be set.
    Get,
    /// Set or unset one, or fail.
    Set,
    /// Set or unset one, or wait.
    SetWait,
}

/// What `l_type` asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Shared,
    Exclusive,
    Nothing,
}

impl Wanted {
    /// # Errors
    /// `EINVAL`.
    fn of(flock: &libc::flock) -> Result<Wanted> {
        match i32::from(flock.l_type) {
            libc::F_RDLCK => Ok(Wanted::Shared),
            libc::F_WRLCK => Ok(Wanted::Exclusive),
            libc::F_UNLCK => Ok(Wanted::Nothing),
            _ => Err(Errno::EINVAL),
        }
    }
}

impl OpenFile {
    /// Whose the description's own locks are.
    pub(super) fn lock_owner(&self) -> LockOwner {
        LockOwner::Description(ptr::from_ref(self).addr() as u64)
    }

    /// A descriptor of this process that named the description does so no more.
    pub(in crate::process) fn descriptor_closed(&self) {
        if self.inode().has_locks() && self.usable().is_ok() {
            self.inode().unlock_all(LockOwner::THIS_PROCESS);
        }
    }

    /// Gets or sets a record lock, the description's own with `ofd` and else the process's. See fcntl(2).
    ///
    /// # Errors
    /// `EBADF` for an `O_PATH` description, a read lock unless it is open for reading, and a write lock unless it is open
    /// for writing; `EINVAL` and `EOVERFLOW` for a bad `flock`; `EAGAIN`, `EDEADLK`, `EINTR`, `ENOLCK`, `EIO`.
    pub fn record_lock(
        &self,
        command: LockCommand,
        ofd: bool,
        flock: &mut libc::flock,
        hold: Option<Hold>,
    ) -> Result<Ended> {
        let _operation = Operation::begin(self.fs())?;
        self.usable()?;
        if command == LockCommand::Get {
            return self.get_lock(ofd, flock).map(|()| Ended::Granted);
        }
        let (start, end) = self.range_of(flock)?;
        let wanted = Wanted::of(flock)?;
        match wanted {
            Wanted::Shared if !self.is_readable() => return Err(Errno::EBADF),
            Wanted::Exclusive if !self.is_writable() => return Err(Errno::EBADF),
            _ if ofd && flock.l_pid != 0 => return Err(Errno::EINVAL),
            _ => {}
        }
        let (owner, pid) = self.owner_of(ofd);
        if wanted == Wanted::Nothing {
            self.inode().unlock(LockKind::Record, owner, start, end)?;
            return Ok(Ended::Granted);
        }
        let on_conflict =
            if command == LockCommand::SetWait { OnConflict::Wait(hold) } else { OnConflict::Fail };
        let lock = Lock { owner, pid, exclusive: wanted == Wanted::Exclusive, start, end };
        self.inode().set_lock(LockKind::Record, &lock, on_conflict)
    }

    fn owner_of(&self, ofd: bool) -> (LockOwner, i32) {
        if ofd {
            (self.lock_owner(), -1)
        } else {
            (LockOwner::THIS_PROCESS, rustix::process::getpid().as_raw_pid())
        }
    }

    /// The description's own answer to `F_UNLCK` is its first lock in the range.
    fn get_lock(&self, ofd: bool, flock: &mut libc::flock) -> Result<()> {
        if !ofd && !matches!(i32::from(flock.l_type), libc::F_RDLCK | libc::F_WRLCK) {
            return Err(Errno::EINVAL);
        }
        let (start, end) = self.range_of(flock)?;
        let wanted = Wanted::of(flock)?;
        if ofd && flock.l_pid != 0 {
            return Err(Errno::EINVAL);
        }
        let (owner, pid) = self.owner_of(ofd);
        let found = match wanted {
            Wanted::Nothing => self.inode().own_lock(owner, start, end),
            _ => {
                let exclusive = wanted == Wanted::Exclusive;
                self.inode().conflicting_lock(&Lock { owner, pid, exclusive, start, end })
            }
        };
        let Some(found) = found else {
            flock.l_type = libc::F_UNLCK as libc::c_short;
            return Ok(());
        };
        flock.l_type = if found.exclusive { libc::F_WRLCK } else { libc::F_RDLCK } as libc::c_short;
        flock.l_whence = libc::SEEK_SET as libc::c_short;
        // No byte of a lock lies past the largest off_t.
        flock.l_start = found.start as i64;
        flock.l_len = if found.end == LOCK_TO_END { 0 } else { (found.end - found.start + 1) as i64 };
        flock.l_pid = found.pid;
        Ok(())
    }

    /// The first and last byte that a `struct flock` means now.
    ///
    /// # Errors
    /// `EINVAL` for an unknown whence and for what begins before the file; `EOVERFLOW` past the largest offset.
    fn range_of(&self, flock: &libc::flock) -> Result<(u64, u64)> {
        const MAX: i64 = i64::MAX;
        let base = match i32::from(flock.l_whence) {
            libc::SEEK_SET => 0,
            libc::SEEK_CUR => *self.offset.lock() as i64,
            libc::SEEK_END => self.inode().stat().size as i64,
            _ => return Err(Errno::EINVAL),
        };
        if flock.l_start > MAX - base {
            return Err(Errno::EOVERFLOW);
        }
        // Neither sum leaves i64: what is added to is not negative, and what is added was compared or is negative.
        let start = base + flock.l_start;
        if start < 0 {
            return Err(Errno::EINVAL);
        }
        let (start, end) = match flock.l_len {
            0 => (start, MAX),
            len if len > 0 && len - 1 > MAX - start => return Err(Errno::EOVERFLOW),
            len if len > 0 => (start, start + (len - 1)),
            len if start + len < 0 => return Err(Errno::EINVAL),
            len => (start + len, start - 1),
        };
        Ok((start as u64, end as u64))
    }

    /// Locks or unlocks the file as a whole: `LOCK_SH`, `LOCK_EX` or `LOCK_UN`, with `LOCK_NB` or without. See flock(2).
    /// Another type of the description's own lock is given up first, and is gone if the new one is not to be had.
    ///
    /// # Errors
    /// `EINVAL` for another operation; `EBADF` for an `O_PATH` description and one that was opened for neither reading nor
    /// writing; `EAGAIN`, which is `EWOULDBLOCK`; `EINTR`, `ENOLCK`, `EIO`.
    pub fn flock(&self, operation: i32, hold: Option<Hold>) -> Result<Ended> {
        let Some(operation) = flock_operation(operation)? else { return Ok(Ended::Granted) };
        let _operation = Operation::begin(self.fs())?;
        self.usable()?;
        let FlockOperation::Lock { exclusive, wait } = operation else {
            self.inode().unlock(LockKind::Flock, self.lock_owner(), 0, LOCK_TO_END)?;
            return Ok(Ended::Granted);
        };
        if !self.is_readable() && !self.is_writable() {
            return Err(Errno::EBADF);
        }
        let on_conflict = if wait { OnConflict::Wait(hold) } else { OnConflict::Fail };
        self.inode().set_lock(LockKind::Flock, &Lock::whole(self.lock_owner(), exclusive), on_conflict)
    }
}

/// What flock(2) is asked for.
pub(in crate::process) enum FlockOperation {
    Lock { exclusive: bool, wait: bool },
    Unlock,
}

/// What flock(2) looks at before the descriptor; `None` when it does nothing.
///
/// # Errors
/// `EINVAL`.
pub(in crate::process) fn flock_operation(operation: i32) -> Result<Option<FlockOperation>> {
    if operation & LOCK_MAND != 0 {
        return Ok(None);
    }
    let wait = operation & libc::LOCK_NB == 0;
    match operation & !libc::LOCK_NB {
        libc::LOCK_SH => Ok(Some(FlockOperation::Lock { exclusive: false, wait })),
        libc::LOCK_EX => Ok(Some(FlockOperation::Lock { exclusive: true, wait })),
        libc::LOCK_UN => Ok(Some(FlockOperation::Unlock)),
        _ => Err(Errno::EINVAL),
    }
}
