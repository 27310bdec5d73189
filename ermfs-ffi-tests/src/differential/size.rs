//! Calls about a file's size, position and allocation, and the judging of SEEK_DATA and SEEK_HOLE.
//!
//! Promises that an answer of SEEK_DATA or SEEK_HOLE passes exactly when it does not contradict the file's bytes and
//! size. Owns nothing. Never asks for a granularity: tmpfs has pages, ERMFS has blocks once a file is packed.

use super::answer::{empty_stat, errno_name, reply_text};
use super::op::Op;
use super::world::{World, call};
use libc::c_int;
use std::ffi::CString;

/// What is answered for a position that does not contradict the bytes.
pub(super) const FITTING: &str = "an answer that fits the bytes";
/// Where the generator's offsets lie; contents between them are holes unless a file grew by appending.
const ANCHORS: &[i64] = &[1 << 32, 1 << 62, i64::MAX];
/// The first bytes of a file that are always looked at.
const HEAD: i64 = 3 << 20;
/// What is looked at before and behind an anchor and before the end.
const BEFORE: i64 = 1 << 17;
const BEHIND: i64 = (1 << 20) + (1 << 18);

/// The parts of a file of this size where bytes can be, as (offset, length), in order and without overlap.
pub(super) fn windows(size: i64) -> Vec<(i64, usize)> {
    let mut parts = vec![(0, HEAD)];
    for &anchor in ANCHORS {
        parts.push((anchor - BEFORE, anchor.saturating_add(BEHIND)));
    }
    parts.push((size - BEHIND, size));
    parts.sort_unstable();
    let mut windows = Vec::new();
    let mut done = 0;
    for (start, end) in parts {
        let (start, end) = (start.max(done), end.min(size));
        if start < end {
            windows.push((start, (end - start) as usize));
            done = end;
        }
    }
    windows
}

impl World {
    pub(super) fn size_call(&mut self, op: &Op) -> String {
        let reply = match op {
            Op::Lseek { fd, off, whence } => return self.lseek(self.number(*fd), *off, whence.0),
            Op::Truncate { path, len } => {
                let path = path.0.as_ref().map(|bytes| CString::new(bytes.as_slice()).unwrap_or_default());
                let pointer = path.as_ref().map_or(std::ptr::null(), |path| path.as_ptr());
                let mut before = empty_stat();
                let known = call!(self, stat(pointer, &raw mut before)).value == 0;
                let reply = call!(self, truncate(pointer, *len));
                if reply.value == 0 && known && before.st_size == *len {
                    // tmpfs then moves the times only if the file has pages, which is no business of ERMFS's.
                    self.as_root(|world| {
                        call!(world, utimensat(libc::AT_FDCWD, pointer, std::ptr::null(), 0))
                    });
                }
                reply
            }
            Op::Ftruncate { fd, len } => call!(self, ftruncate(self.number(*fd), *len)),
            Op::Fallocate { fd, mode, off, len } => {
                call!(self, fallocate(self.number(*fd), mode.0, *off, *len))
            }
            Op::Fadvise { fd, off, len, advice } => {
                call!(self, posix_fadvise(self.number(*fd), *off, *len, *advice as c_int))
            }
            Op::Fsync { fd, data: true } => call!(self, fdatasync(self.number(*fd))),
            Op::Fsync { fd, data: false } => call!(self, fsync(self.number(*fd))),
            _ => unreachable!("{op:?} is no call on sizes"),
        };
        reply_text(&reply)
    }

    fn lseek(&mut self, fd: c_int, off: i64, whence: c_int) -> String {
        let mut status = empty_stat();
        let known = call!(self, fstat(fd, &raw mut status)).value == 0;
        if known && status.st_mode & libc::S_IFMT == libc::S_IFDIR && (off, whence) != (0, libc::SEEK_SET) {
            // A directory's positions are its own affair; telldir and seekdir are tested on streams.
            return "not asked: a position in a directory".into();
        }
        let reply = call!(self, lseek(fd, off, whence));
        let seeks_data = matches!(whence, libc::SEEK_DATA | libc::SEEK_HOLE);
        // Near the largest offset a tmpfs answers with one that has overflowed.
        let judged = reply.value != -1 || reply.errno == libc::ENXIO;
        if !seeks_data || !judged || !known || off < 0 || off >= status.st_size {
            return reply_text(&reply);
        }
        // A file opened for writing alone cannot be looked at.
        let verdict = match self.judge(fd, off, whence, reply.value, status.st_size) {
            Err(text) => format!("WRONG ({}, {}): {text}", reply.value, errno_name(reply.errno)),
            Ok(()) => FITTING.into(),
        };
        // Both sides go on from one position, and from one access time: how much was looked at depends on the answer.
        call!(self, lseek(fd, off, libc::SEEK_SET));
        let read_now =
            [libc::UTIME_NOW, libc::UTIME_OMIT].map(|tv_nsec| libc::timespec { tv_sec: 0, tv_nsec });
        self.as_root(|world| call!(world, futimens(fd, read_now.as_ptr())));
        verdict
    }

    /// Whether the answer of SEEK_DATA or SEEK_HOLE from `off`, which lies in the file, can be true.
    fn judge(&self, fd: c_int, off: i64, whence: c_int, answer: i64, size: i64) -> Result<(), String> {
        if whence == libc::SEEK_HOLE {
            if answer < off || answer > size {
                return Err(format!("a hole outside of {off}..={size}"));
            }
            return if answer == size { Ok(()) } else { self.expect_zeros(fd, answer, answer + 1) };
        }
        if answer == -1 {
            return self.expect_zeros(fd, off, size);
        }
        if answer < off || answer >= size {
            return Err(format!("data outside of {off}..{size}"));
        }
        self.expect_zeros(fd, off, answer)
    }

    fn expect_zeros(&self, fd: c_int, start: i64, end: i64) -> Result<(), String> {
        let mut byte = 0u8;
        if call!(self, pread(fd, (&raw mut byte).cast(), 1, start)).errno == libc::EBADF {
            return Ok(());
        }
        for (from, len) in windows(end) {
            let to = from + len as i64;
            let from = from.max(start);
            if from < to {
                let bytes = self.read_window(fd, from, (to - from) as usize)?;
                if let Some(at) = bytes.iter().position(|&byte| byte != 0) {
                    return Err(format!("byte {} is not 0", from + at as i64));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_a_file_once() {
        for size in [0, 1, HEAD - 1, HEAD, HEAD + 1, (1 << 32) - 1, 1 << 32, (1 << 32) + 1, 1 << 62, i64::MAX]
        {
            let windows = windows(size);
            let mut end = 0;
            for &(off, len) in &windows {
                assert!(len > 0 && off >= end && off + len as i64 <= size, "{size}: {windows:?}");
                end = off + len as i64;
            }
            assert_eq!(end, size, "the end of a file of {size} is looked at");
            assert_eq!(windows.first().map_or(0, |first| first.1), size.min(HEAD) as usize);
        }
    }
}
