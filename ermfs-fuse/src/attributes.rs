//! The engine's words and FUSE's, both ways.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ermfs_core::{Errno, InodeKind, Metadata, TimeSet};
use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};

/// What `st_blksize` shows through a mount: the page, in which the kernel deals with the file.
const BLOCK_SIZE: u32 = 4096;

pub(crate) fn file_type(kind: InodeKind) -> FileType {
    match kind {
        InodeKind::File => FileType::RegularFile,
        InodeKind::Directory => FileType::Directory,
        InodeKind::Symlink => FileType::Symlink,
        InodeKind::Fifo => FileType::NamedPipe,
        InodeKind::Socket => FileType::Socket,
        InodeKind::CharDevice => FileType::CharDevice,
        InodeKind::BlockDevice => FileType::BlockDevice,
    }
}

pub(crate) fn attributes(metadata: &Metadata) -> FileAttr {
    FileAttr {
        ino: INodeNo(metadata.ino),
        size: metadata.size,
        blocks: metadata.blocks_bytes.div_ceil(512),
        atime: system_time(metadata.atime),
        mtime: system_time(metadata.mtime),
        ctime: system_time(metadata.ctime),
        crtime: system_time(metadata.btime),
        kind: file_type(metadata.kind),
        perm: (metadata.mode & 0o7777) as u16,
        // More names than a u32 counts do not fit any budget.
        nlink: u32::try_from(metadata.nlink).unwrap_or(u32::MAX),
        uid: metadata.uid,
        gid: metadata.gid,
        rdev: metadata.rdev as u32,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

/// The engine's times reach from 1677 to 2262, which a `SystemTime` holds.
fn system_time((seconds, nanoseconds): (i64, u32)) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 { UNIX_EPOCH - whole } else { UNIX_EPOCH + whole };
    time + Duration::from_nanos(nanoseconds.into())
}

pub(crate) fn time_set(time: Option<TimeOrNow>) -> TimeSet {
    match time {
        None => TimeSet::Omit,
        Some(TimeOrNow::Now) => TimeSet::Now,
        Some(TimeOrNow::SpecificTime(time)) => match time.duration_since(UNIX_EPOCH) {
            Ok(after) => TimeSet::At(after.as_secs().cast_signed(), after.subsec_nanos()),
            // fuser takes a time of -2 s and 1 ns, which is a little less than 2 s before 1970, for a little more than 2 s
            // before: its seconds and nanoseconds are what the kernel gave.
            Err(error) => {
                let before = error.duration();
                // The least number of seconds has no counterpart above zero.
                TimeSet::At(before.as_secs().wrapping_neg().cast_signed(), before.subsec_nanos())
            }
        },
    }
}

pub(crate) fn errno(error: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(error.raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_that_the_kernel_gave() {
        // As fuser 0.18.0 reads them; it writes them rightly.
        let read = |(seconds, nanoseconds): (i64, u32)| match u64::try_from(seconds) {
            Ok(seconds) => UNIX_EPOCH + Duration::new(seconds, nanoseconds),
            Err(_) => UNIX_EPOCH - Duration::new(seconds.unsigned_abs(), nanoseconds),
        };
        for time in
            [(0, 0), (1, 999_999_999), (-1, 0), (-1, 1), (-5, 999_999_999), (9_000_000_000, 7), (i64::MIN, 0)]
        {
            assert_eq!(time_set(Some(TimeOrNow::SpecificTime(read(time)))), TimeSet::At(time.0, time.1));
        }
        assert_eq!((time_set(None), time_set(Some(TimeOrNow::Now))), (TimeSet::Omit, TimeSet::Now));
        assert_eq!(system_time((-2, 1)), UNIX_EPOCH - Duration::new(1, 999_999_999));
    }
}
