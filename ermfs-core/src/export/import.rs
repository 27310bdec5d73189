//! Filling a new file from a kernel descriptor.
//!
//! Promises: all of the descriptor is taken: what can be read at an offset from its start on, without
//! moving its own offset, anything else until its end. Holes stay holes, and so do 64 KiB of zeros at a
//! multiple of 64 KiB. Under the policy that packs on close, blocks are packed on the way, so that a
//! long file never stands here raw. Owns a second description of a regular file while it is read.
//! Never: holds a lock, or keeps a fork waiting, while it waits for the descriptor.

use std::os::fd::BorrowedFd;

use ermfs_memory::BLOCK_SIZE;
use rustix::fs::{FileType, OFlags, SeekFrom};

use super::ExportFlags;
use super::kernel::{self, retry};
use crate::codec::GzipReader;
use crate::content::{Content, MAX_FILE_SIZE, Scratch, Source};
use crate::descriptor::Descriptor;
use crate::errno::{Errno, Result};
use crate::gate;
use crate::inject::syscall;
use crate::space::Compress;

const BLOCK: u64 = BLOCK_SIZE as u64;
/// After how many bytes the finished blocks are packed.
const STEP: u64 = 4 << 20;

/// Fills `content`, which is new and nobody else's yet, with all that `fd` gives.
///
/// The descriptor must stay open during the call. What is read of a pipe or socket is gone from it,
/// also when the call fails.
///
/// # Errors
/// `EBADF` when it is not open for reading, `EISDIR` for a directory; what reading it gives (`EAGAIN`
/// among others); `ENOSPC`, `EFBIG`, `ENOMEM`.
pub(crate) fn fill_from_fd(content: &Content, fd: BorrowedFd<'_>) -> Result<()> {
    let mut input = Input::new(fd)?;
    let mut filling = Filling::new(content);
    let mut scratch = Scratch::take()?;
    let buffer = scratch.plain();
    if let Some(file) = input.regular_file() {
        filling.copy_data_of(&file, &mut input, buffer)?;
    }
    // No file system and no pipe has more; a read that would reach past it is refused.
    filling.copy(&mut input, MAX_FILE_SIZE, buffer)?;
    filling.finish()
}

/// Fills `content`, which is new and nobody else's yet, with the content of the gzip stream that `fd`
/// gives. The descriptor is read as by [`fill_from_fd`].
///
/// # Errors
/// `EIO` when the stream is cut off, damaged or not gzip; otherwise as [`fill_from_fd`].
pub(crate) fn fill_from_gzip(content: &Content, fd: BorrowedFd<'_>) -> Result<()> {
    let mut input = Input::new(fd)?;
    let mut filling = Filling::new(content);
    let mut scratch = Scratch::take()?;
    let buffer = scratch.plain();
    let mut reader = GzipReader::new(|room: &mut [u8]| input.read(room))?;
    loop {
        let n = reader.read_into(buffer)?;
        filling.put(&buffer[..n])?;
        if n < buffer.len() {
            return filling.finish();
        }
    }
}

/// A descriptor that is read from its start to its end.
struct Input<'f> {
    fd: BorrowedFd<'f>,
    /// Where to read next, unless reading moves the descriptor's own offset.
    position: Option<u64>,
    is_regular: bool,
}

impl<'f> Input<'f> {
    fn new(fd: BorrowedFd<'f>) -> Result<Input<'f>> {
        let flags = rustix::fs::fcntl_getfl(fd)?;
        if flags.contains(OFlags::PATH) || flags & OFlags::ACCMODE == OFlags::WRONLY {
            return Err(Errno::EBADF);
        }
        let kind = FileType::from_raw_mode(syscall!("import.stat", NOMEM, rustix::fs::fstat(fd))?.st_mode);
        if kind == FileType::Directory {
            return Err(Errno::EISDIR);
        }
        // Asking where the offset is does not move it.
        let can_seek = rustix::fs::tell(fd).is_ok();
        Ok(Input { fd, position: can_seek.then_some(0), is_regular: kind == FileType::RegularFile })
    }

    /// A description of a regular file whose offset may be moved, to look for holes with. There may be
    /// none, for want of /proc or of permission: then it is simply read.
    fn regular_file(&self) -> Option<Descriptor> {
        self.is_regular.then(|| kernel::reopen(self.fd, ExportFlags::empty()).ok()).flatten()
    }

    /// Reads to the front of `room`: at least a byte, except at the end.
    fn read(&mut self, room: &mut [u8]) -> Result<usize> {
        // It may be a pipe that nobody writes to for hours.
        let n = gate::outside(|| match self.position {
            Some(at) => retry(|| syscall!("import.read", IO, rustix::io::pread(self.fd, &mut *room, at))),
            None => retry(|| syscall!("import.read", IO, rustix::io::read(self.fd, &mut *room))),
        })?;
        self.position = self.position.map(|at| at + n as u64);
        Ok(n)
    }

    /// Reads until `room` is full or the end is reached.
    fn fill(&mut self, room: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < room.len() {
            match self.read(&mut room[filled..])? {
                0 => break,
                n => filled += n,
            }
        }
        Ok(filled)
    }
}

/// A content that grows from its start to its end.
struct Filling<'c> {
    content: &'c Content,
    /// The end so far, holes included.
    at: u64,
    /// How far it has been packed.
    packed: u64,
}

impl<'c> Filling<'c> {
    fn new(content: &'c Content) -> Filling<'c> {
        Filling { content, at: 0, packed: 0 }
    }

    /// Copies from the end so far on to `end` or to the end of the input, block by block. Answers
    /// whether `end` was reached.
    fn copy(&mut self, input: &mut Input<'_>, end: u64, buffer: &mut [u8]) -> Result<bool> {
        while self.at < end {
            let wanted = (BLOCK - self.at % BLOCK).min(end - self.at) as usize;
            let n = input.fill(&mut buffer[..wanted])?;
            self.put(&buffer[..n])?;
            if n < wanted {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Copies the data of a regular file and leaves its holes. Stops where the file says nothing useful
    /// of holes (as files in /proc and some devices do); what follows is then to be read.
    fn copy_data_of(&mut self, file: &Descriptor, input: &mut Input<'_>, buffer: &mut [u8]) -> Result<()> {
        let seek = |whence| {
            gate::outside(|| retry(|| syscall!("import.seek", INVAL, rustix::fs::seek(file, whence))))
        };
        loop {
            let start = match seek(SeekFrom::Data(self.at)) {
                Ok(start) if start >= self.at => start,
                // Only a hole follows, if anything.
                Err(Errno::ENXIO) => rustix::fs::fstat(file)?.st_size.cast_unsigned().max(self.at),
                _ => return Ok(()),
            };
            let end = seek(SeekFrom::Hole(start)).unwrap_or(start);
            (self.at, input.position) = (start, Some(start));
            if end <= start || !self.copy(input, end, buffer)? {
                return Ok(());
            }
        }
    }

    /// Appends `bytes`.
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let is_hole =
            bytes.len() == BLOCK_SIZE && self.at.is_multiple_of(BLOCK) && bytes.iter().all(|&byte| byte == 0);
        if is_hole {
            self.at += BLOCK;
        } else {
            self.write(bytes)?;
        }
        if self.at - self.packed >= STEP {
            self.packed = self.at;
            if self.content.space().policy().compress == Compress::OnClose {
                self.content.pack();
            }
        }
        gate::breathe();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let mut source = Source::new(bytes);
        let mut may_pack = self.content.space().policy().compress != Compress::Never;
        while source.remaining() > 0 {
            match self.content.write_at(self.at, &mut source) {
                Ok(n) => self.at += n as u64,
                // What would be packed later makes room now.
                Err(Errno::ENOSPC | Errno::EFBIG) if core::mem::take(&mut may_pack) => self.content.pack(),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives the file its size.
    fn finish(self) -> Result<()> {
        if self.at > self.content.size() { self.content.truncate(self.at) } else { Ok(()) }
    }
}
