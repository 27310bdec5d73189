//! Running a file as a program.
//!
//! Promises: the process image is replaced or the answer is an error and everything is as before. The
//! new image keeps no descriptor of it, except that a `#!` script's interpreter gets one to read the
//! script from.

use core::ffi::c_char;
use std::os::fd::AsRawFd;

use super::ExportFlags;
use super::kernel::FdPath;
use super::memfd::export_memfd;
use crate::content::{Content, Sink};
use crate::descriptor::Descriptor;
use crate::errno::{Errno, Result};

/// A program that is ready to run.
pub(crate) struct Program {
    fd: Descriptor,
    is_script: bool,
}

impl Program {
    /// The file as it is now, `name` being what the system shows of it.
    ///
    /// # Errors
    /// As [`export_memfd`].
    pub(crate) fn new(content: &Content, name: &[u8]) -> Result<Program> {
        let mut start = [0; 2];
        let n = content.read_at(0, &mut Sink::new(&mut start))?;
        let is_script = start[..n] == *b"#!";
        // Sealed: nobody can change a program that runs, and a second start needs no copy.
        let mut flags = ExportFlags::SEALED;
        flags.set(ExportFlags::NOCLOEXEC, is_script);
        Ok(Program { fd: export_memfd(content, name, flags)?.into(), is_script })
    }
}

/// Replaces the process image, as execve(2). Returns only on failure; the program's descriptor is
/// closed then.
///
/// A `#!` script's interpreter is given `/proc/self/fd/N` as the script's name. It is opened anew by
/// that name, so /proc must be mounted.
///
/// # Errors
/// What the kernel answers: `ENOEXEC`, `E2BIG`, `ENOENT` for a missing interpreter, `EACCES` where the
/// machine forbids executable memfds, `EFAULT`, `ENOMEM` and others.
///
/// # Safety
/// `argv` and `envp` are null or arrays of pointers to strings, the last of them null.
pub(crate) unsafe fn execute(
    program: Program,
    argv: *const *const c_char,
    envp: *const *const c_char,
) -> Errno {
    let fd = program.fd.as_raw_fd();
    if !program.is_script {
        // SAFETY: the arrays are the caller's promise; the path is a string. syscall(2) is no cancellation
        // point.
        unsafe { libc::syscall(libc::SYS_execveat, fd, c"".as_ptr(), argv, envp, libc::AT_EMPTY_PATH) };
    } else {
        let path = FdPath::new("/proc/self/fd", &program.fd);
        // SAFETY: as above.
        unsafe { libc::syscall(libc::SYS_execve, path.as_c_str().as_ptr(), argv, envp) };
    }
    Errno::from_raw(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::ENOEXEC))
}
