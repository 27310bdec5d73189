//! What a process sees of ERMFS: descriptors, open file descriptions, the working directory, and the
//! calls that take the parameters of their POSIX namesakes.
//!
//! Promises: every call answers with the errno, and in the order of checks, that Linux has on tmpfs
//! (ext4 for what tmpfs lacks); `read` and `write` on one description are atomic with respect to its
//! offset; a descriptor's file goes away only after the last call on it has ended. Flag and mode
//! values are libc's. Every call may be made from any thread. Owns the descriptor table, the default
//! filesystem, the working directory, the umask and the background packer; all of them are the
//! process's, none is the filesystem's. Never looks inside content or directories.
//!
//! A panic inside a call poisons the filesystem it works on while it unwinds (see [`Operation`]), so
//! whoever catches it has nothing to do but answer `EIO`.
//!
//! `calls` holds the calls by family, `locked` and `lockless` the two modes' descriptor tables behind the
//! trait in `fd_table`.

mod calls;
mod exchange;
mod fd_table;
mod filesystems;
mod locked;
mod lockless;
mod open_file;
mod operation;
mod packer;
mod place;
mod reclaim;
mod recycle;
mod working_directory;

pub use calls::descriptor::{close, dup, dup2, dup3, fcntl};
pub use calls::directory::DirStream;
pub use calls::export::{
    FileView, execve, export_gzip, export_memfd, export_memfdat, fexport_memfd, import_fd, import_gzip,
    kernel_fd, view_open,
};
pub use calls::files::{creat, openat, umask};
pub use calls::filesystem::{
    configure_default, file_info, fsmount, fstatvfs, is_lockless, set_lockless_mode, statistics, statvfs,
};
pub use calls::io::{lseek, pread, preadv, pwrite, read, readv, write};
pub use calls::locks::{flock, lock};
pub use calls::metadata::{
    fchmod, fchmodat, fchown, fchownat, fstat, fstatat, futimens, refresh_credentials, utimensat,
};
pub use calls::names::{
    chdir, faccessat, fchdir, getcwd, linkat, mkdirat, mknodat, readlinkat, realpath, renameat2, symlinkat,
    unlinkat,
};
pub use calls::space::{copy_file_range, fallocate, fdatasync, fsync, ftruncate, posix_fadvise, truncate};
pub use calls::xattr::{XattrOf, getxattr, listxattr, removexattr, setxattr, xattr_flags};
pub use fd_table::FIRST_FD;
pub use filesystems::default_fs;
pub use open_file::{LockCommand, MAX_TRANSFER, OpenFile, OpenFileRef};
pub use operation::Operation;
pub use reclaim::ByEpoch;

use crate::errno::Result;

/// The `dirfd` that means the default filesystem and the working directory; Linux's `AT_FDCWD`.
pub const AT_FDCWD: i32 = libc::AT_FDCWD;

/// In `openat`'s flags: any free descriptor will do, not only the lowest. No kernel flag has this bit.
pub const O_ANYFD: i32 = 0x4000_0000;

/// The open file description that `fd` names, as a counted reference: it stays usable whatever happens
/// to the descriptor.
///
/// # Errors
/// `EBADF` when `fd` is no open ERMFS descriptor.
pub fn open_file(fd: i32) -> Result<OpenFileRef> {
    let _inside = crate::gate::enter();
    fd_table::lookup(fd)
}
