//! Extended attributes: getxattr, setxattr, listxattr and removexattr, each with its l- and f- form.

use super::with_file;
use crate::credentials::Credentials;
use crate::errno::{Errno, Result};
use crate::namespace::{InodeRef, XattrName, XattrSet};
use crate::process::filesystems::{Target, with_inode};
use crate::process::{AT_FDCWD, Operation};

/// What a call on attributes is about.
#[derive(Clone, Copy)]
pub enum XattrOf<'a> {
    /// What a path names, symlinks followed.
    Path(&'a [u8]),
    /// What a path names, be it a symlink: the l- forms.
    Link(&'a [u8]),
    /// What a descriptor names: the f- forms.
    Descriptor(i32),
}

impl XattrOf<'_> {
    /// # Errors
    /// The walk's; `EBADF`, also for `O_PATH`; `EIO` for a poisoned filesystem; `work`'s.
    fn with<R>(self, work: impl FnOnce(&InodeRef, &Credentials) -> Result<R>) -> Result<R> {
        let (path, follow) = match self {
            XattrOf::Path(path) => (path, true),
            XattrOf::Link(path) => (path, false),
            XattrOf::Descriptor(fd) => {
                return with_file(fd, |file| {
                    file.usable()?;
                    let _operation = Operation::begin(file.fs())?;
                    work(file.inode(), file.fs().credentials())
                });
            }
        };
        with_inode(AT_FDCWD, path, Target { follow, empty_path: false }, |fs, inode| {
            work(inode, fs.credentials())
        })
    }
}

/// `XATTR_CREATE` and `XATTR_REPLACE` in a set's flags.
///
/// # Errors
/// `EINVAL` for any other.
pub fn xattr_flags(flags: i32) -> Result<XattrSet> {
    if flags & !(libc::XATTR_CREATE | libc::XATTR_REPLACE) != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(XattrSet { create: flags & libc::XATTR_CREATE != 0, replace: flags & libc::XATTR_REPLACE != 0 })
}

/// An attribute's value; see getxattr(2).
///
/// # Errors
/// `ENODATA` when there is none of that name, `EOPNOTSUPP` outside `user.`, `trusted.` and `security.`, `EINVAL` for
/// one of these alone, `EACCES`, `ENOMEM`, `EBADF`, the walk's.
pub fn getxattr(of: XattrOf<'_>, name: XattrName<'_>) -> Result<Vec<u8>> {
    of.with(|inode, who| inode.xattr(name, who))
}

/// Sets an attribute; see setxattr(2).
///
/// # Errors
/// `E2BIG` for more than 65,536 bytes, `EEXIST` and `ENODATA` as `how` has it, `EPERM`, `ENOSPC`, and those of
/// [`getxattr`].
pub fn setxattr(of: XattrOf<'_>, name: XattrName<'_>, value: &[u8], how: XattrSet) -> Result<()> {
    of.with(|inode, who| inode.set_xattr(name, value, how, who))
}

/// The names of all attributes, a NUL after each; see listxattr(2).
///
/// # Errors
/// `ENOMEM`, `EBADF`, the walk's.
pub fn listxattr(of: XattrOf<'_>) -> Result<Vec<u8>> {
    of.with(|inode, who| inode.xattr_names(who))
}

/// Removes an attribute; see removexattr(2).
///
/// # Errors
/// `EPERM`, and those of [`getxattr`].
pub fn removexattr(of: XattrOf<'_>, name: XattrName<'_>) -> Result<()> {
    of.with(|inode, who| inode.remove_xattr(name, who))
}
