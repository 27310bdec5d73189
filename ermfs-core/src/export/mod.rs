//! Kernel descriptors: files handed out as memfds and `.gz` files, run as programs, and taken in.
//!
//! Promises: what is exported is the file as it was at one moment, whatever happens to it meanwhile; a
//! descriptor that is handed out is its holder's and outlives the file and the filesystem; what is
//! imported appears under its name whole or not at all, and a failed import leaves names and budget
//! as they were. Every descriptor a call makes on its way is close-on-exec until it is handed out, and
//! closed when the call fails.
//!
//! Memory of a descriptor that was handed out is the kernel's and its holder's: it is not charged to
//! the filesystem's budget, except while a sealed one is kept for sharing. Beside it an export takes
//! references to the file's blocks (24 bytes for each 64 KiB, charged) and the thread's scratch
//! buffers, an import the scratch buffers and at most a few MiB that are not packed yet.
//!
//! System calls go through rustix or `syscall(2)`, none of which is a cancellation point. A kernel
//! limit that a program sets itself holds here as well: a file larger than `RLIMIT_FSIZE` raises
//! `SIGXFSZ`. No lock of the filesystem is held during any of them except that of the sealed exports
//! while one is opened anew.
//!
//! `kernel` makes, seals and reopens memfds, `output` writes to them; `memfd`, `gzip` and `program`
//! export; `import` fills a file and `place` gives it its name.

mod gzip;
mod import;
mod kernel;
mod memfd;
mod output;
mod place;
mod program;
#[cfg(test)]
mod tests;

pub(crate) use gzip::export_gzip;
pub(crate) use import::{fill_from_fd, fill_from_gzip};
pub(crate) use memfd::export_memfd;
pub(crate) use place::import;
pub(crate) use program::{Program, execute};

use crate::errno::{Errno, Result};

bitflags::bitflags! {
    /// How a descriptor is exported.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ExportFlags: u32 {
        /// Read-only, sealed, and shared by repeated exports of the unchanged file.
        const SEALED = 1;
        /// Not close-on-exec.
        const NOCLOEXEC = 2;
        /// Not executable, for good.
        const NOEXEC = 4;
    }
}

impl ExportFlags {
    /// The flags of a call.
    ///
    /// # Errors
    /// `EINVAL` for an unknown one.
    pub fn from_raw(flags: i32) -> Result<ExportFlags> {
        ExportFlags::from_bits(flags.cast_unsigned()).ok_or(Errno::EINVAL)
    }
}
