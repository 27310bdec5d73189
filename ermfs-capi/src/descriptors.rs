//! Duplicates of descriptors, their flags, locks, and the file mode creation mask.

use core::ffi::c_int;

use ermfs_core::process;
use libc::mode_t;

use crate::boundary::{boundary, fill};

/// Behind the variadic ermfs_fcntl.
#[unsafe(no_mangle)]
extern "C" fn ermfs_fixed_fcntl(fd: c_int, command: c_int, argument: c_int) -> c_int {
    boundary! { process::fcntl(fd, command, argument) }
}

/// Behind the variadic ermfs_fcntl: its commands on record locks.
#[unsafe(no_mangle)]
unsafe extern "C" fn ermfs_fixed_lock(fd: c_int, command: c_int, lock: *mut libc::flock) -> c_int {
    boundary! {
        // SAFETY: the header's contract for a lock: NULL, or readable and writable. A copy, because other threads may use
        // the struct during a wait.
        let mut asked = unsafe { lock.as_ref().copied() };
        process::lock(fd, command, asked.as_mut())?;
        match asked {
            Some(answer) if matches!(command, libc::F_GETLK | libc::F_OFD_GETLK) => fill!(lock, answer),
            _ => Ok(()),
        }
    }
}

/// Locks a file as a whole for the open file description: LOCK_SH beside others, LOCK_EX alone, with LOCK_NB without
/// waiting; or unlocks it, LOCK_UN. Another kind of lock that the description has is given up first. A lock goes with
/// the last descriptor of the description, and is apart from those of ermfs_fcntl. It keeps nobody from reading or writing.
/// EBADF, EINTR, EINVAL, ENOLCK (no memory), EWOULDBLOCK. Source: flock(2).
#[unsafe(no_mangle)]
pub extern "C" fn ermfs_flock(fd: c_int, operation: c_int) -> c_int {
    boundary! { process::flock(fd, operation) }
}

/// The lowest free descriptor as a second name of the same open file description. EBADF, EMFILE. Source: dup(2).
#[unsafe(no_mangle)]
pub extern "C" fn ermfs_dup(fd: c_int) -> c_int {
    boundary! { process::dup(fd) }
}

/// Makes `newfd` a second name of fd's open file description, closing what it named before, in one step. newfd is an
/// ERMFS number, 1,048,576 or above; it may be fd itself. EBADF. Source: dup2(2).
#[unsafe(no_mangle)]
pub extern "C" fn ermfs_dup2(fd: c_int, newfd: c_int) -> c_int {
    boundary! { process::dup2(fd, newfd) }
}

/// ermfs_dup2 with flags (0 or O_CLOEXEC). EINVAL also for newfd equal to fd. Source: dup3(2).
#[unsafe(no_mangle)]
pub extern "C" fn ermfs_dup3(fd: c_int, newfd: c_int, flags: c_int) -> c_int {
    boundary! { process::dup3(fd, newfd, flags) }
}

/// Sets the process's mask for ERMFS, 022 at first, apart from the kernel's. Answers the one before; never fails.
/// Source: umask(2).
#[unsafe(no_mangle)]
pub extern "C" fn ermfs_umask(mask: mode_t) -> mode_t {
    boundary! { Ok(process::umask(mask)) }
}
