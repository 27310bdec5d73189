//! Advisory locks: the lock commands of fcntl, and flock.

use core::mem;

use crate::errno::{Errno, Result};
use crate::gate;
use crate::namespace::{Ended, Hold, LockOwner};
use crate::process::fd_table;
use crate::process::open_file::{LockCommand, OpenFileRef, flock_operation};

/// `F_GETLK`, `F_SETLK` and `F_SETLKW` of fcntl(2) and their `F_OFD_` forms; `None` stands for a NULL pointer.
///
/// # Errors
/// `EFAULT` for NULL; `EINVAL` and `EOVERFLOW` for a bad `flock`, `EINVAL` for another command; `EBADF`, also for `O_PATH`
/// and for a lock that the descriptor was not opened for, and when the descriptor was closed during the wait; `EAGAIN`,
/// `EDEADLK`, `EINTR`, `ENOLCK`.
pub fn lock(fd: i32, command: i32, flock: Option<&mut libc::flock>) -> Result<()> {
    let _inside = gate::enter();
    let file = fd_table::lookup(fd)?;
    file.usable()?;
    let flock = flock.ok_or(Errno::EFAULT)?;
    let (command, ofd) = match command {
        libc::F_GETLK => (LockCommand::Get, false),
        libc::F_SETLK => (LockCommand::Set, false),
        libc::F_SETLKW => (LockCommand::SetWait, false),
        libc::F_OFD_GETLK => (LockCommand::Get, true),
        libc::F_OFD_SETLK => (LockCommand::Set, true),
        libc::F_OFD_SETLKW => (LockCommand::SetWait, true),
        _ => return Err(Errno::EINVAL),
    };
    let file = held(file, |file, hold| file.record_lock(command, ofd, flock, Some(hold)))?;
    let unlocks = i32::from(flock.l_type) == libc::F_UNLCK;
    if command != LockCommand::Get && !ofd && !unlocks {
        // A close of the descriptor that came before the lock did not find it, so it is found here.
        if !fd_table::still_names(fd, &file) {
            file.inode().unlock_all(LockOwner::THIS_PROCESS);
            return Err(Errno::EBADF);
        }
    }
    Ok(())
}

/// Locks or unlocks a file as a whole; see flock(2).
///
/// # Errors
/// `EINVAL` for another operation; `EBADF`, also for `O_PATH`; `EAGAIN`, `EINTR`, `ENOLCK`.
pub fn flock(fd: i32, operation: i32) -> Result<()> {
    if flock_operation(operation)?.is_none() {
        return Ok(());
    }
    let _inside = gate::enter();
    held(fd_table::lookup(fd)?, |file, hold| file.flock(operation, Some(hold))).map(drop)
}

/// Runs `work`, which may wait; a fork child lets go of `file` if it has not the thread that waits.
fn held(file: OpenFileRef, work: impl FnOnce(&OpenFileRef, Hold) -> Result<Ended>) -> Result<OpenFileRef> {
    // SAFETY: `file` is held until `work` returns, and forgotten where it is not ours any more.
    let hold = unsafe { Hold::of(&file) };
    match work(&file, hold)? {
        Ended::Granted => Ok(file),
        Ended::Forked => {
            mem::forget(file);
            Err(Errno::EINTR)
        }
    }
}
