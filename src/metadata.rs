//! What is known of a file without reading it.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ermfs_core::{Errno, InodeKind, TimeSet};

use crate::error::os;

/// What an entry is. Beside the methods of [`std::fs::FileType`] it has those of [`std::os::unix::fs::FileTypeExt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileType {
    kind: InodeKind,
}

impl FileType {
    pub(crate) fn new(kind: InodeKind) -> FileType {
        FileType { kind }
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind == InodeKind::File
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == InodeKind::Directory
    }

    /// Whether it is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.kind == InodeKind::Symlink
    }

    /// Whether it is a named pipe.
    pub fn is_fifo(&self) -> bool {
        self.kind == InodeKind::Fifo
    }

    /// Whether it is a socket.
    pub fn is_socket(&self) -> bool {
        self.kind == InodeKind::Socket
    }

    /// Whether it is a character device.
    pub fn is_char_device(&self) -> bool {
        self.kind == InodeKind::CharDevice
    }

    /// Whether it is a block device.
    pub fn is_block_device(&self) -> bool {
        self.kind == InodeKind::BlockDevice
    }
}

/// What `stat(2)` tells of a file, at the moment of the call. Methods have the names and meanings that
/// [`std::fs::Metadata`] and [`std::os::unix::fs::MetadataExt`] give them.
#[derive(Clone, Copy, Debug)]
pub struct Metadata {
    stat: ermfs_core::Metadata,
    device: u64,
}

/// `st_blksize`: the unit of compression.
const BLOCK_SIZE: u64 = 65_536;

impl Metadata {
    pub(crate) fn new(stat: ermfs_core::Metadata, device: u64) -> Metadata {
        Metadata { stat, device }
    }

    /// What it is.
    pub fn file_type(&self) -> FileType {
        FileType::new(self.stat.kind)
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.file_type().is_file()
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.file_type().is_dir()
    }

    /// Whether it is a symbolic link, which only [`Fs::symlink_metadata`] and directory entries show.
    ///
    /// [`Fs::symlink_metadata`]: crate::Fs::symlink_metadata
    pub fn is_symlink(&self) -> bool {
        self.file_type().is_symlink()
    }

    /// The size in bytes, holes included; of a symbolic link, the length of its target.
    #[allow(clippy::len_without_is_empty, reason = "the face of std::fs::Metadata, which has none")]
    pub fn len(&self) -> u64 {
        self.stat.size
    }

    /// The size, as [`Metadata::len`].
    pub fn size(&self) -> u64 {
        self.stat.size
    }

    /// The permission bits.
    pub fn permissions(&self) -> Permissions {
        Permissions::from_mode(self.stat.mode)
    }

    /// Kind and permission bits (`st_mode`).
    pub fn mode(&self) -> u32 {
        self.stat.mode
    }

    /// The filesystem's number (`st_dev`), different for each in the process.
    pub fn dev(&self) -> u64 {
        self.device
    }

    /// A device node's number (`st_rdev`), else 0.
    pub fn rdev(&self) -> u64 {
        self.stat.rdev
    }

    /// The file's number, never used again while the filesystem lives.
    pub fn ino(&self) -> u64 {
        self.stat.ino
    }

    /// The number of names. A directory has 2 and one for each directory in it, a removed one 0.
    pub fn nlink(&self) -> u64 {
        self.stat.nlink
    }

    /// The owner's id.
    pub fn uid(&self) -> u32 {
        self.stat.uid
    }

    /// The group's id.
    pub fn gid(&self) -> u32 {
        self.stat.gid
    }

    /// 65,536 bytes, the unit of compression (`st_blksize`).
    pub fn blksize(&self) -> u64 {
        BLOCK_SIZE
    }

    /// The memory that the content takes now, in units of 512 bytes (`st_blocks`). It falls when the file is
    /// compressed.
    pub fn blocks(&self) -> u64 {
        self.stat.blocks_bytes.div_ceil(512)
    }

    /// When the content changed last.
    ///
    /// # Errors
    /// `EOVERFLOW` for a time that [`SystemTime`] cannot hold; on Linux it holds all that a file can have.
    pub fn modified(&self) -> io::Result<SystemTime> {
        system_time(self.stat.mtime)
    }

    /// When the content was read last, as under the mount option `relatime`.
    ///
    /// # Errors
    /// As [`Metadata::modified`].
    pub fn accessed(&self) -> io::Result<SystemTime> {
        system_time(self.stat.atime)
    }

    /// When the file was made.
    ///
    /// # Errors
    /// As [`Metadata::modified`].
    pub fn created(&self) -> io::Result<SystemTime> {
        system_time(self.stat.btime)
    }

    /// When content or metadata changed last (`st_ctime`).
    ///
    /// # Errors
    /// As [`Metadata::modified`].
    pub fn changed(&self) -> io::Result<SystemTime> {
        system_time(self.stat.ctime)
    }
}

fn system_time((seconds, nanoseconds): (i64, u32)) -> io::Result<SystemTime> {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    base.and_then(|base| base.checked_add(Duration::from_nanos(nanoseconds.into())))
        .ok_or_else(|| os(Errno::EOVERFLOW))
}

/// What the engine is to set a time to; `None` leaves it.
///
/// # Errors
/// `EOVERFLOW` for a time whose seconds do not fit 64 bits.
pub(crate) fn time_set(time: Option<SystemTime>) -> io::Result<TimeSet> {
    let Some(time) = time else { return Ok(TimeSet::Omit) };
    let seconds = |since: Duration| i64::try_from(since.as_secs()).map_err(|_| os(Errno::EOVERFLOW));
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Ok(TimeSet::At(seconds(after)?, after.subsec_nanos())),
        // Seconds are rounded down, so that the nanoseconds count upwards from them.
        Err(before) => {
            let before = before.duration();
            Ok(match before.subsec_nanos() {
                0 => TimeSet::At(-seconds(before)?, 0),
                nanoseconds => TimeSet::At(-seconds(before)? - 1, 1_000_000_000 - nanoseconds),
            })
        }
    }
}
