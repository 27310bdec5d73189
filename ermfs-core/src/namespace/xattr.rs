//! Extended attributes as tmpfs has them: which names there are, and who may do what with them.
//!
//! Promises the order of errors of vfs_setxattr and its kin, after the checks of name and size that
//! need no inode. `user.` is for regular files and directories, `trusted.` for the superuser,
//! `security.` is set by the superuser; every other name is `EOPNOTSUPP`, so are
//! `security.capability` and the POSIX ACLs, whose values the kernel would have to understand. Owns
//! nothing; `attributes` keeps them. Never: a lock for an inode that has none, which a flag tells.

use core::sync::atomic::Ordering::Relaxed;

use ermfs_memory::try_vec;

use super::attributes::{Attribute, XattrSet};
use super::entries::Room;
use super::inode::{ATTRIBUTES, Inode, InodeRef};
use super::metadata::InodeKind;
use super::{READ, WRITE};
use crate::credentials::Credentials;
use crate::errno::{Errno, Result};

/// Longest name, in bytes, its namespace included.
const NAME_MAX: usize = 255;
/// Longest value, in bytes.
pub const XATTR_SIZE_MAX: usize = 65_536;
const TRUSTED: &[u8] = b"trusted.";
const SECURITY: &[u8] = b"security.";
/// Names that have a namespace.
const PREFIXES: [&[u8]; 3] = [b"user.", TRUSTED, SECURITY];

/// The name of an extended attribute, of a length that one can have.
#[derive(Clone, Copy)]
pub struct XattrName<'a>(&'a [u8]);

impl<'a> XattrName<'a> {
    /// # Errors
    /// `ERANGE` when it is empty or longer than 255 bytes.
    pub fn new(name: &'a [u8]) -> Result<XattrName<'a>> {
        if name.is_empty() || name.len() > NAME_MAX { Err(Errno::ERANGE) } else { Ok(XattrName(name)) }
    }

    /// # Errors
    /// `EOPNOTSUPP` outside the namespaces there are; `EINVAL` for a namespace alone.
    fn check_namespace(self) -> Result<()> {
        match PREFIXES.iter().find(|prefix| self.0.starts_with(prefix)) {
            Some(prefix) if self.0.len() == prefix.len() => Err(Errno::EINVAL),
            Some(_) if self.0 != b"security.capability" => Ok(()),
            _ => Err(Errno::EOPNOTSUPP),
        }
    }
}

impl Inode {
    /// Whether it has attributes; costs one load.
    #[inline]
    pub(super) fn has_attributes(&self) -> bool {
        self.flags.load(Relaxed) & ATTRIBUTES != 0
    }

    /// As xattr_permission and, for `security.`, cap_inode_setxattr have it.
    ///
    /// # Errors
    /// `EPERM`, `EACCES`; those of [`XattrName::check_namespace`].
    fn may_set(&self, name: XattrName<'_>, who: &Credentials) -> Result<()> {
        let allowed = match name.0 {
            name if name.starts_with(b"user.") => match self.kind() {
                InodeKind::File => true,
                InodeKind::Directory => self.mode.load(Relaxed) & libc::S_ISVTX == 0 || self.is_owned_by(who),
                _ => false,
            },
            name if name.starts_with(TRUSTED) || name.starts_with(SECURITY) => who.is_privileged(),
            _ => true,
        };
        if !allowed {
            return Err(Errno::EPERM);
        }
        self.check_access(name, who, WRITE)
    }

    /// # Errors
    /// `ENODATA`, `EACCES`; those of [`XattrName::check_namespace`].
    fn may_get(&self, name: XattrName<'_>, who: &Credentials) -> Result<()> {
        let hidden = name.0.starts_with(TRUSTED) && !who.is_privileged()
            || name.0.starts_with(b"user.") && !matches!(self.kind(), InodeKind::File | InodeKind::Directory);
        if hidden { Err(Errno::ENODATA) } else { self.check_access(name, who, READ) }
    }

    /// The permission bits count for `user.`, and for names outside all namespaces; the others have rules of their own.
    fn check_access(&self, name: XattrName<'_>, who: &Credentials, wanted: u32) -> Result<()> {
        let ruled = [TRUSTED, SECURITY, b"system."].iter().any(|prefix| name.0.starts_with(prefix));
        if !ruled {
            self.require(who, wanted)?;
        }
        name.check_namespace()
    }

    /// `fgetxattr(2)`: a copy of an attribute's value.
    ///
    /// # Errors
    /// `EACCES`; `ENODATA` when there is none of that name; `EOPNOTSUPP` and `EINVAL` for a name that none can have; `ENOMEM`.
    pub fn xattr(&self, name: XattrName<'_>, who: &Credentials) -> Result<Vec<u8>> {
        self.may_get(name, who)?;
        if !self.has_attributes() {
            return Err(Errno::ENODATA);
        }
        self.shared.attributes().with(self.ino, |list| {
            let found = list.iter().find(|attribute| attribute.name() == name.0).ok_or(Errno::ENODATA)?;
            let mut value = try_vec(found.value().len())?;
            value.extend_from_slice(found.value());
            Ok(value)
        })
    }

    /// `flistxattr(2)`: the names of the attributes, a NUL after each, in no particular order. `trusted.` ones are shown
    /// to the superuser only.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn xattr_names(&self, who: &Credentials) -> Result<Vec<u8>> {
        if !self.has_attributes() {
            return Ok(Vec::new());
        }
        let all = who.is_privileged();
        self.shared.attributes().with(self.ino, |list| {
            let shown = || list.iter().map(Attribute::name).filter(|name| all || !name.starts_with(TRUSTED));
            let mut names = try_vec(shown().map(|name| name.len() + 1).sum())?;
            for name in shown() {
                names.extend_from_slice(name);
                names.push(0);
            }
            Ok(names)
        })
    }
}

impl InodeRef {
    /// `fsetxattr(2)`: sets an attribute and moves the ctime.
    ///
    /// # Errors
    /// `E2BIG` for a value longer than 65,536 bytes; `EPERM` where the namespace does not allow it, `EACCES`; `EOPNOTSUPP` and
    /// `EINVAL` for a name that none can have; `EEXIST` and `ENODATA` as `how` has it; `ENOSPC`, `ENOMEM`.
    pub fn set_xattr(
        &self,
        name: XattrName<'_>,
        value: &[u8],
        how: XattrSet,
        who: &Credentials,
    ) -> Result<()> {
        if value.len() > XATTR_SIZE_MAX {
            return Err(Errno::E2BIG);
        }
        self.may_set(name, who)?;
        Room::attempt(self.shared.space(), |room| {
            self.shared.attributes().set(self.ino, (name.0, value), how, room, || {
                self.flags.fetch_or(ATTRIBUTES, Relaxed);
                self.note_change();
            })
        })
    }

    /// `fremovexattr(2)`: removes an attribute and moves the ctime.
    ///
    /// # Errors
    /// `ENODATA` when there is none of that name; `EPERM`, `EACCES`, `EOPNOTSUPP`, `EINVAL` as for [`InodeRef::set_xattr`].
    pub fn remove_xattr(&self, name: XattrName<'_>, who: &Credentials) -> Result<()> {
        self.may_set(name, who)?;
        if !self.has_attributes() {
            return Err(Errno::ENODATA);
        }
        self.shared.attributes().remove(self.ino, name.0, self.shared.space(), |last| {
            if last {
                self.flags.fetch_and(!ATTRIBUTES, Relaxed);
            }
            self.note_change();
        })
    }
}
