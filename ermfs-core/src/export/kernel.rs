//! Memfds: made, sealed, opened anew.
//!
//! Promises: whether a memfd is executable is always said to the kernel, so that `vm.memfd_noexec`
//! decides nothing silently. Owns nothing but the memory of what this kernel refused.

use core::ffi::CStr;
use std::io::{Cursor, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use ermfs_memory::sync::atomic::{AtomicBool, Ordering::Relaxed};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::{Errno as Refused, FdFlags};

use super::ExportFlags;
use crate::descriptor::Descriptor;
use crate::errno::{Errno, Result};
use crate::inject::syscall;

/// The longest name of a memfd; `memfd_create(2)`.
const LONGEST_NAME: usize = 249;

/// `vm.memfd_noexec` is 2, which can only be raised: there are no executable memfds any more.
static NO_EXECUTABLES: AtomicBool = AtomicBool::new(false);

/// Repeats a system call that a signal interrupted.
pub(super) fn retry<R>(call: impl FnMut() -> rustix::io::Result<R>) -> Result<R> {
    Ok(rustix::io::retry_on_intr(call)?)
}

/// A new memfd, close-on-exec, that can be sealed. Its name is the last [`LONGEST_NAME`] bytes of
/// `name` up to the first NUL in them.
///
/// An executable one has mode 0777. Where the machine forbids executable memfds
/// (`vm.memfd_noexec` = 2), it is not executable instead, with mode 0666. Without `executable` the
/// kernel keeps anybody from making it so (`MFD_NOEXEC_SEAL`); before Linux 6.3 only the mode says it.
///
/// # Errors
/// `EMFILE`, `ENFILE`, `ENOMEM`, and whatever else the kernel answers.
pub(super) fn create(name: &[u8], executable: bool) -> Result<Descriptor> {
    let name = &name[name.len().saturating_sub(LONGEST_NAME)..];
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let permission = if executable { MemfdFlags::EXEC } else { MemfdFlags::NOEXEC_SEAL };
    match syscall!("memfd.create", NFILE, rustix::fs::memfd_create(name, flags | permission)) {
        // Linux before 6.3 knows neither flag, and makes all of them executable.
        Err(Refused::INVAL) => {
            let fd = Descriptor::from(rustix::fs::memfd_create(name, flags)?);
            if !executable {
                rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o666))?;
            }
            Ok(fd)
        }
        Err(Refused::ACCESS) if executable => {
            let fd = rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL)?;
            NO_EXECUTABLES.store(true, Relaxed);
            Ok(fd.into())
        }
        made => Ok(made?.into()),
    }
}

/// Whether an export that asks to be executable, or not to be, can be given this memfd.
pub(super) fn is_as_executable_as(fd: BorrowedFd<'_>, executable: bool) -> bool {
    let Ok(stat) = syscall!("memfd.stat", NOMEM, rustix::fs::fstat(fd)) else { return false };
    let is_executable = stat.st_mode & 0o111 != 0;
    is_executable == executable || (executable && NO_EXECUTABLES.load(Relaxed))
}

/// Forbids every further change of the memfd's bytes, size and seals, and of whether it is executable
/// (the last since Linux 6.3).
///
/// # Errors
/// What the kernel answers.
pub(super) fn seal(fd: &Descriptor) -> Result<()> {
    let content = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    match syscall!("memfd.seal", BUSY, rustix::fs::fcntl_add_seals(fd, content | SealFlags::EXEC)) {
        Err(Refused::INVAL) => Ok(rustix::fs::fcntl_add_seals(fd, content)?),
        sealed => Ok(sealed?),
    }
}

/// Another, read-only description of the file, with an offset of its own.
///
/// # Errors
/// `ENOENT` where no /proc is mounted; `ESTALE` when /proc gave another file; `EACCES`, `EMFILE`,
/// `ENFILE`, `ENOMEM`.
pub(super) fn reopen(fd: BorrowedFd<'_>, flags: ExportFlags) -> Result<Descriptor> {
    let mut how = OFlags::RDONLY;
    how.set(OFlags::CLOEXEC, !flags.contains(ExportFlags::NOCLOEXEC));
    // The thread's own table: it need not be the process's.
    let path = FdPath::new("/proc/thread-self/fd", fd);
    let new = Descriptor::from(retry(|| {
        syscall!("memfd.reopen", NOENT, rustix::fs::open(path.as_c_str(), how, Mode::empty()))
    })?);
    let (old, opened) = (rustix::fs::fstat(fd)?, syscall!("memfd.stat", NOMEM, rustix::fs::fstat(&new))?);
    match (old.st_dev, old.st_ino) == (opened.st_dev, opened.st_ino) {
        true => Ok(new),
        false => Err(Errno::ESTALE),
    }
}

/// Hands out a memfd that is complete.
///
/// # Errors
/// What the kernel answers.
pub(super) fn hand_out(fd: Descriptor, flags: ExportFlags) -> Result<Descriptor> {
    if flags.contains(ExportFlags::NOCLOEXEC) {
        syscall!("memfd.setfd", NOMEM, rustix::io::fcntl_setfd(&fd, FdFlags::empty()))?;
    }
    Ok(fd)
}

/// The path by which a descriptor can be opened anew.
pub(super) struct FdPath([u8; 40]);

impl FdPath {
    /// `directory`, at most 24 bytes of it, and the descriptor's number.
    pub(super) fn new(directory: &str, fd: impl AsFd) -> FdPath {
        let mut path = Cursor::new([0; 40]);
        // Directory, slash, at most 11 digits and a NUL always fit.
        let written = write!(path, "{directory:.24}/{}", fd.as_fd().as_raw_fd());
        debug_assert!(written.is_ok());
        FdPath(path.into_inner())
    }

    pub(super) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }
}
