//! Descriptors: close, dup, dup2, dup3, fcntl.

use super::with_file;
use crate::errno::{Errno, Result};
use crate::failpoint::failpoint;
use crate::gate;
use crate::process::fd_table::{self, Claimed};

/// Frees a descriptor; with its description's last one the file is closed, which may pack it. See close(2).
///
/// # Errors
/// `EBADF`; `EIO` for a poisoned filesystem, the descriptor being closed all the same.
pub fn close(fd: i32) -> Result<()> {
    let _inside = gate::enter();
    let file = fd_table::remove(fd)?;
    failpoint!("fd.removed");
    file.descriptor_closed();
    if file.fs().space().is_poisoned() { Err(Errno::EIO) } else { Ok(()) }
}

/// Makes the lowest free descriptor name what `fd` names; see dup(2).
///
/// # Errors
/// `EBADF`, `EMFILE`, `ENOMEM`.
pub fn dup(fd: i32) -> Result<i32> {
    duplicate(fd, 0, false)
}

/// Makes `new` name what `old` names and closes what it named before; see dup2(2).
///
/// # Errors
/// `EBADF` when `old` is not open or `new` outside the table, `EBUSY` while another thread is opening
/// `new`, `ENOMEM`.
pub fn dup2(old: i32, new: i32) -> Result<i32> {
    if old == new {
        return with_file(old, |_| Ok(new));
    }
    dup3(old, new, 0)
}

/// As [`dup2`], with `O_CLOEXEC` as its only flag; see dup3(2).
///
/// # Errors
/// Those of [`dup2`]; `EINVAL` for another flag or when both are the same.
pub fn dup3(old: i32, new: i32, flags: i32) -> Result<i32> {
    if flags & !libc::O_CLOEXEC != 0 || old == new {
        return Err(Errno::EINVAL);
    }
    let _inside = gate::enter();
    if !fd_table::is_in_range(new) {
        return Err(Errno::EBADF);
    }
    let file = fd_table::lookup(old)?;
    failpoint!("dup2.looked_up");
    // What it named before is closed here, outside the table's lock.
    if let Some(before) = fd_table::replace(new, file, flags & libc::O_CLOEXEC != 0)? {
        failpoint!("dup2.replaced");
        before.descriptor_closed();
    }
    Ok(new)
}

/// `F_DUPFD`, `F_DUPFD_CLOEXEC`, `F_GETFD`, `F_SETFD`, `F_GETFL` and `F_SETFL` of fcntl(2). `argument` is
/// ignored by the commands that have none.
///
/// # Errors
/// `EBADF`; `EINVAL` for another command, or for a lowest descriptor outside the table; `EMFILE`, `ENOMEM`.
pub fn fcntl(fd: i32, command: i32, argument: i32) -> Result<i32> {
    match command {
        libc::F_DUPFD => duplicate(fd, argument, false),
        libc::F_DUPFD_CLOEXEC => duplicate(fd, argument, true),
        libc::F_GETFD => {
            let _inside = gate::enter();
            fd_table::close_on_exec(fd).map(|on| if on { libc::FD_CLOEXEC } else { 0 })
        }
        libc::F_SETFD => {
            let _inside = gate::enter();
            fd_table::set_close_on_exec(fd, argument & libc::FD_CLOEXEC != 0).map(|()| 0)
        }
        libc::F_GETFL => with_file(fd, |file| Ok(file.flags())),
        libc::F_SETFL => with_file(fd, |file| file.set_flags(argument)).map(|()| 0),
        _ => with_file(fd, |file| file.usable().and(Err(Errno::EINVAL))),
    }
}

fn duplicate(fd: i32, lowest: i32, close_on_exec: bool) -> Result<i32> {
    with_file(fd, |file| {
        if lowest < 0 || (lowest >= fd_table::FIRST_FD && !fd_table::is_in_range(lowest)) {
            return Err(Errno::EINVAL);
        }
        Ok(Claimed::new(lowest, false)?.install(file.clone(), close_on_exec))
    })
}
