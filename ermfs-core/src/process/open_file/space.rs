//! Sizes, blocks, and copying between files.
//!
//! Promises: errors and their order as in ftruncate(2), fallocate(2) (on tmpfs; on ext4 for
//! `ZERO_RANGE`, `COLLAPSE_RANGE` and `INSERT_RANGE`) and copy_file_range(2).

use std::sync::Arc;

use ermfs_memory::{BLOCK_SIZE, try_vec};

use super::OpenFile;
use super::transfer::MAX_TRANSFER;
use crate::content::{Content, MAX_FILE_SIZE, Sink, Source};
use crate::errno::{Errno, Result};
use crate::gate;
use crate::namespace::InodeKind;
use crate::process::Operation;

const KEEP_SIZE: i32 = libc::FALLOC_FL_KEEP_SIZE;
const PUNCH_HOLE: i32 = libc::FALLOC_FL_PUNCH_HOLE;
const COLLAPSE_RANGE: i32 = libc::FALLOC_FL_COLLAPSE_RANGE;
const ZERO_RANGE: i32 = libc::FALLOC_FL_ZERO_RANGE;
const INSERT_RANGE: i32 = libc::FALLOC_FL_INSERT_RANGE;

impl OpenFile {
    /// Sets the size in bytes, as ftruncate(2).
    ///
    /// # Errors
    /// `EINVAL` for a negative size or unless open for writing on a regular file, `EBADF` for an `O_PATH`
    /// description, `ENOSPC`, `ENOMEM`.
    pub fn set_len(&self, size: i64) -> Result<()> {
        let size = u64::try_from(size).map_err(|_| Errno::EINVAL)?;
        let _operation = Operation::begin(self.fs())?;
        self.usable()?;
        let content = self.inode().content().filter(|_| self.is_writable()).ok_or(Errno::EINVAL)?;
        content.truncate(size)?;
        self.inode().note_write(self.fs().credentials());
        Ok(())
    }

    /// What fallocate(2) does with `mode`: 0, `KEEP_SIZE`, `PUNCH_HOLE | KEEP_SIZE`, `ZERO_RANGE` with or
    /// without `KEEP_SIZE`, `COLLAPSE_RANGE` or `INSERT_RANGE`, the last two in multiples of 65,536 bytes.
    ///
    /// # Errors
    /// `EBADF` unless open for writing, `EINVAL`, `EOPNOTSUPP` for another mode, `EFBIG`, `ENOSPC`,
    /// `ENOMEM`.
    pub fn allocate(&self, mode: i32, offset: i64, len: i64) -> Result<()> {
        let _operation = Operation::begin(self.fs())?;
        self.usable()?;
        let (offset, len) = match (u64::try_from(offset), u64::try_from(len)) {
            (Ok(offset), Ok(len)) if len > 0 => (offset, len),
            _ => return Err(Errno::EINVAL),
        };
        let what = mode & !KEEP_SIZE;
        let keep_size = mode & KEEP_SIZE != 0;
        match (what, keep_size) {
            (0 | ZERO_RANGE, _) | (PUNCH_HOLE, true) | (COLLAPSE_RANGE | INSERT_RANGE, false) => {}
            _ => return Err(Errno::EOPNOTSUPP),
        }
        if !self.is_writable() {
            return Err(Errno::EBADF);
        }
        let content = self.inode().content().ok_or(Errno::ENODEV)?;
        if offset.checked_add(len).is_none_or(|end| end > MAX_FILE_SIZE) {
            return Err(Errno::EFBIG);
        }
        match what {
            0 => content.allocate(offset, len, keep_size),
            PUNCH_HOLE => content.punch_hole(offset, len),
            ZERO_RANGE => content.zero_range(offset, len, keep_size),
            COLLAPSE_RANGE => {
                check_collapse(content, offset, len).and_then(|()| content.collapse_range(offset, len))
            }
            _ => check_insert(content, offset, len).and_then(|()| content.insert_range(offset, len)),
        }?;
        self.inode().note_write(self.fs().credentials());
        Ok(())
    }

    /// What posix_fadvise(2) checks. Nothing is done with the advice: there is no device to read ahead
    /// from.
    ///
    /// # Errors
    /// `EBADF` for an `O_PATH` description, `EINVAL` for a negative length or an unknown advice.
    pub fn advise(&self, len: i64, advice: i32) -> Result<()> {
        self.usable()?;
        let known = matches!(
            advice,
            libc::POSIX_FADV_NORMAL
                | libc::POSIX_FADV_RANDOM
                | libc::POSIX_FADV_SEQUENTIAL
                | libc::POSIX_FADV_WILLNEED
                | libc::POSIX_FADV_DONTNEED
                | libc::POSIX_FADV_NOREUSE
        );
        if len < 0 || !known { Err(Errno::EINVAL) } else { Ok(()) }
    }

    /// What fsync(2) checks; there is nothing behind memory to bring the file to.
    ///
    /// # Errors
    /// `EBADF` for an `O_PATH` description, `EIO` for a poisoned filesystem.
    pub fn sync(&self) -> Result<()> {
        let _operation = Operation::begin(self.fs())?;
        self.usable()
    }

    /// Copies up to `len` bytes to another file, or to another place of the same one, as
    /// copy_file_range(2). An offset that is given is read and moved; in the place of one that is not,
    /// the description's own offset is.
    ///
    /// # Errors
    /// `EISDIR`; `EBADF` unless open for reading and `target` for writing without `O_APPEND`;
    /// `EOVERFLOW`; `EINVAL` for ranges of one file that overlap or a negative offset; `EFBIG`; `ENOSPC`;
    /// `ENOMEM`; `EIO`.
    pub fn copy_range_to(
        &self,
        offset: Option<&mut i64>,
        target: &OpenFile,
        target_offset: Option<&mut i64>,
        len: usize,
    ) -> Result<usize> {
        let _reading = Operation::begin(self.fs())?;
        let _writing = Operation::begin(target.fs())?;
        self.usable()?;
        target.usable()?;
        let from = offset.as_deref().copied().unwrap_or_else(|| *self.offset.lock() as i64);
        let to = target_offset.as_deref().copied().unwrap_or_else(|| *target.offset.lock() as i64);
        let n = self.copy_range(from, target, to, len)?;
        // Below the largest offset: checked before anything was copied.
        let step = n as i64;
        match offset {
            Some(offset) => *offset = from + step,
            None => *self.offset.lock() = (from + step) as u64,
        }
        match target_offset {
            Some(offset) => *offset = to + step,
            None => *target.offset.lock() = (to + step) as u64,
        }
        Ok(n)
    }

    fn copy_range(&self, from: i64, target: &OpenFile, to: i64, len: usize) -> Result<usize> {
        if self.inode().kind() == InodeKind::Directory || target.inode().kind() == InodeKind::Directory {
            return Err(Errno::EISDIR);
        }
        if !self.is_readable() || !target.is_writable() || target.flags() & libc::O_APPEND != 0 {
            return Err(Errno::EBADF);
        }
        let (source_content, target_content) = (self.content()?, target.content()?);
        // As the kernel adds them: offsets that are signed to a length that is not.
        let asked = len as u64;
        if (from as u64).checked_add(asked).is_none() || (to as u64).checked_add(asked).is_none() {
            return Err(Errno::EOVERFLOW);
        }
        // The kernel looks at the limit before the signs.
        if to >= MAX_FILE_SIZE as i64 {
            return Err(Errno::EFBIG);
        }
        let (start, to_start) = match (u64::try_from(from), u64::try_from(to)) {
            (Ok(start), Ok(to_start)) => (start, to_start),
            _ => return Err(Errno::EINVAL),
        };
        let count = asked.min(source_content.size().saturating_sub(start)).min(MAX_FILE_SIZE - to_start);
        if self.inode() == target.inode() && to_start + count > start && to_start < start + count {
            return Err(Errno::EINVAL);
        }
        let count = count.min(MAX_TRANSFER as u64);
        if count == 0 {
            return Ok(0);
        }
        let copied = if Arc::ptr_eq(self.fs(), target.fs()) {
            source_content.copy_range(start, target_content, to_start, count)
        } else {
            copy_between(source_content, start, target_content, to_start, count)
        };
        self.note_read();
        target.inode().note_write(target.fs().credentials());
        copied.map(|n| n as usize)
    }
}

/// Copies through a buffer, for contents that cannot share blocks because each is charged to a
/// filesystem of its own.
fn copy_between(source: &Content, start: u64, target: &Content, to: u64, count: u64) -> Result<u64> {
    let mut buffer = try_vec::<u8>(BLOCK_SIZE)?;
    let mut done = 0;
    while done < count {
        buffer.clear();
        let room = BLOCK_SIZE.min((count - done) as usize);
        let copied = source
            .read_at(start + done, &mut Sink::uninit(&mut buffer.spare_capacity_mut()[..room]))
            .and_then(|n| {
                // SAFETY: a read reports the bytes at the front of its sink that it has initialised.
                unsafe { buffer.set_len(n) };
                target.write_at(to + done, &mut Source::new(&buffer))
            });
        match copied {
            Ok(0) => break,
            Ok(n) => done += n as u64,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
        gate::breathe();
    }
    Ok(done)
}

/// # Errors
/// `EINVAL` unless both are whole blocks and the range ends before the file does.
fn check_collapse(content: &Content, offset: u64, len: u64) -> Result<()> {
    check_whole_blocks(offset, len)?;
    if offset + len >= content.size() { Err(Errno::EINVAL) } else { Ok(()) }
}

/// # Errors
/// `EINVAL` unless both are whole blocks and the offset lies in the file, `EFBIG` when the file would
/// become too large.
fn check_insert(content: &Content, offset: u64, len: u64) -> Result<()> {
    check_whole_blocks(offset, len)?;
    let size = content.size();
    if len > MAX_FILE_SIZE - size {
        return Err(Errno::EFBIG);
    }
    if offset >= size { Err(Errno::EINVAL) } else { Ok(()) }
}

fn check_whole_blocks(offset: u64, len: u64) -> Result<()> {
    const BLOCK: u64 = BLOCK_SIZE as u64;
    if offset.is_multiple_of(BLOCK) && len.is_multiple_of(BLOCK) { Ok(()) } else { Err(Errno::EINVAL) }
}
