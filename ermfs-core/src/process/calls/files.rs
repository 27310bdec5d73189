//! Opening and creating: openat, creat, umask.

use ermfs_memory::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::errno::Result;
use crate::failpoint::failpoint;
use crate::gate;
use crate::namespace::At;
use crate::process::fd_table::Claimed;
use crate::process::filesystems::{pins_start, with_pinned_start, with_start};
use crate::process::open_file::{OpenFile, OpenFileRef, checked_flags};
use crate::process::{AT_FDCWD, O_ANYFD};

/// The process's file mode creation mask.
static UMASK: AtomicU32 = AtomicU32::new(0o022);

/// The mask as it is now.
pub(in crate::process) fn current_umask() -> u32 {
    UMASK.load(Relaxed)
}

/// Opens a file and answers its descriptor; see open(2). `mode` counts with `O_CREAT` and `O_TMPFILE`
/// only. With [`O_ANYFD`] the descriptor need not be the lowest free one.
///
/// # Errors
/// `EMFILE` when the table is full, `EBADF`, and those of [`OpenFile::open`].
pub fn openat(dirfd: i32, path: &[u8], flags: i32, mode: u32) -> Result<i32> {
    // Looked at before the path, as the kernel does.
    let checked = checked_flags(flags)?;
    // The number first: a call that fails for want of one must not have created anything.
    let open = |at: At<'_>| {
        let claimed = Claimed::new(0, flags & O_ANYFD != 0)?;
        failpoint!("fd.claimed");
        Ok((claimed, OpenFile::open_checked(at, path, checked, mode)?))
    };
    let install =
        |(claimed, file): (Claimed, OpenFileRef)| claimed.install(file, flags & libc::O_CLOEXEC != 0);
    if !opens_briefly(dirfd, path, flags) {
        return with_start(dirfd, path, |at| open(at).map(install));
    }
    let _inside = gate::enter();
    // Not installed under the pin: should the start have ended meanwhile, what was opened is closed again.
    with_pinned_start(dirfd, path, open).map(install)
}

/// Whether `open` can do with a start that is only pinned: it is to change nothing.
#[inline]
fn opens_briefly(dirfd: i32, path: &[u8], flags: i32) -> bool {
    const CHANGING: i32 = libc::O_CREAT | libc::O_TRUNC | libc::O_TMPFILE & !libc::O_DIRECTORY;
    flags & CHANGING == 0 && pins_start(dirfd, path)
}

/// `openat` with `O_CREAT | O_WRONLY | O_TRUNC` from the working directory; see creat(2).
///
/// # Errors
/// As [`openat`].
pub fn creat(path: &[u8], mode: u32) -> Result<i32> {
    openat(AT_FDCWD, path, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode)
}

/// Sets the file mode creation mask, 022 at start, and answers the one before; see umask(2). Bits
/// beyond 0777 are ignored.
pub fn umask(mask: u32) -> u32 {
    UMASK.swap(mask & 0o777, Relaxed)
}
