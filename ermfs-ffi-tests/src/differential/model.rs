//! One file as a vector of bytes: the judge of what tmpfs lacks.
//!
//! Promises the answers that c-api.md and ext4's manual pages give for pwrite, pread, ftruncate and every mode of
//! fallocate on one file, where no offset that succeeds lies beyond [`LARGEST`]. Owns the bytes. Never touches a
//! filesystem.

use super::answer::{Reply, bytes_text, reply_text};
use super::field::{Data, Pattern};
use super::op::Op;
use libc::{EBADF, EFBIG, EINVAL, ENOSPC, EOPNOTSUPP, c_int};

/// st_blksize, in whose multiples COLLAPSE_RANGE and INSERT_RANGE work.
const BLOCK: i64 = 65536;
/// What the model can hold; space for more is not there, as in a filesystem of this size.
const LARGEST: i64 = 1 << 30;

/// The file, and whether the one descriptor is open.
#[derive(Default)]
pub(super) struct Model {
    bytes: Vec<u8>,
    open: bool,
}

type Answer = Result<i64, c_int>;

impl Model {
    /// The answer to a call of a `file_sequence`.
    pub(super) fn run(&mut self, op: &Op) -> String {
        let answer = match op {
            Op::Open { flags, .. } => {
                // The shrinker tries others too.
                if flags.0 != libc::O_RDWR | libc::O_CREAT {
                    return "not for the model".into();
                }
                self.open = true;
                return "= descriptor 1".into();
            }
            Op::Pread { .. } if !self.open => return format!("{} {}", text(Err(EBADF)), bytes_text(&[])),
            _ if !self.open => Err(EBADF),
            Op::Close { .. } => {
                self.open = false;
                Ok(0)
            }
            Op::Pread { len, off, .. } => return self.pread(*off, *len),
            Op::Pwrite { data, off, .. } => self.pwrite(data, *off),
            Op::Ftruncate { len, .. } => {
                self.bytes.resize(*len as usize, 0);
                Ok(0)
            }
            Op::Fallocate { mode, off, len, .. } => self.fallocate(mode.0, *off, *len),
            _ => unreachable!("{op:?} is not for the model"),
        };
        text(answer)
    }

    fn size(&self) -> i64 {
        self.bytes.len() as i64
    }

    fn pread(&self, off: i64, len: i64) -> String {
        if off < 0 || off.checked_add(len).is_none() {
            return format!("{} {}", text(Err(EINVAL)), bytes_text(&[]));
        }
        let start = off.min(self.size());
        let end = (off + len).min(self.size()).max(start);
        format!("{} {}", text(Ok(end - start)), bytes_text(&self.bytes[start as usize..end as usize]))
    }

    fn pwrite(&mut self, data: &Data, off: i64) -> Answer {
        debug_assert!(data.pattern != Pattern::Null && off >= 0);
        let bytes = data.bytes();
        let end = off as usize + bytes.len();
        if bytes.is_empty() {
            return Ok(0);
        }
        self.bytes.resize(end.max(self.bytes.len()), 0);
        self.bytes[off as usize..][..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len() as i64)
    }

    fn fallocate(&mut self, mode: c_int, off: i64, len: i64) -> Answer {
        if off < 0 || len <= 0 {
            return Err(EINVAL);
        }
        let keep = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        match mode & !libc::FALLOC_FL_KEEP_SIZE {
            0 | libc::FALLOC_FL_ZERO_RANGE => {}
            libc::FALLOC_FL_PUNCH_HOLE if keep => {}
            libc::FALLOC_FL_COLLAPSE_RANGE | libc::FALLOC_FL_INSERT_RANGE if !keep => {}
            libc::FALLOC_FL_COLLAPSE_RANGE | libc::FALLOC_FL_INSERT_RANGE => return Err(EINVAL),
            _ => return Err(EOPNOTSUPP),
        }
        let end = off.checked_add(len).ok_or(EFBIG)?;
        match mode & !libc::FALLOC_FL_KEEP_SIZE {
            libc::FALLOC_FL_PUNCH_HOLE => self.zero(off, end),
            libc::FALLOC_FL_COLLAPSE_RANGE => return self.collapse(off, len),
            libc::FALLOC_FL_INSERT_RANGE => return self.insert(off, len),
            zero => {
                if len > LARGEST || (!keep && end > LARGEST) {
                    return Err(ENOSPC);
                }
                if zero == libc::FALLOC_FL_ZERO_RANGE {
                    self.zero(off, end);
                }
                if !keep && end > self.size() {
                    self.bytes.resize(end as usize, 0);
                }
            }
        }
        Ok(0)
    }

    fn zero(&mut self, off: i64, end: i64) {
        let (start, end) = (off.min(self.size()), end.min(self.size()));
        self.bytes[start as usize..end as usize].fill(0);
    }

    fn collapse(&mut self, off: i64, len: i64) -> Answer {
        if off % BLOCK != 0 || len % BLOCK != 0 || off + len >= self.size() {
            return Err(EINVAL);
        }
        self.bytes.drain(off as usize..(off + len) as usize);
        Ok(0)
    }

    fn insert(&mut self, off: i64, len: i64) -> Answer {
        if off % BLOCK != 0 || len % BLOCK != 0 {
            return Err(EINVAL);
        }
        // ext4 looks at the size first: a file that would grow too large is EFBIG.
        if self.size().checked_add(len).is_none() {
            return Err(EFBIG);
        }
        if off >= self.size() {
            return Err(EINVAL);
        }
        if self.size() + len > LARGEST {
            return Err(ENOSPC);
        }
        let at = off as usize;
        self.bytes.splice(at..at, std::iter::repeat_n(0, len as usize));
        Ok(0)
    }
}

fn text(answer: Answer) -> String {
    match answer {
        Ok(value) => reply_text(&Reply { value, errno: 0 }),
        Err(errno) => reply_text(&Reply { value: -1, errno }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::op::Step;
    use super::*;

    #[test]
    fn ranges_move_as_on_ext4() {
        let mut model = Model::default();
        let mut run = |line: &str| model.run(&Step::parse(line).expect(line).op);
        run("open to=f1 at=root path=\"a\" flags=O_RDWR|O_CREAT mode=0644");
        assert_eq!(run("pwrite fd=f1 data=words:4:1 off=65536"), "= 4");
        let collapse =
            |off, len| format!("fallocate fd=f1 mode=FALLOC_FL_COLLAPSE_RANGE off={off} len={len}");
        let insert = |off, len| format!("fallocate fd=f1 mode=FALLOC_FL_INSERT_RANGE off={off} len={len}");
        assert_eq!(run(&collapse(0, 4096)), "-1 EINVAL", "not a multiple of the block");
        assert_eq!(run(&collapse(65536, 65536)), "-1 EINVAL", "reaches the end");
        assert_eq!(run(&collapse(0, 65536)), "= 0");
        assert_eq!(run("pread fd=f1 len=10 off=0 null=false"), "= 4 \"line\"");
        assert_eq!(run(&insert(65536, 65536)), "-1 EINVAL", "behind the end");
        assert_eq!(run(&insert(0, 65536)), "= 0");
        assert_eq!(run("pread fd=f1 len=10 off=65535 null=false"), "= 5 \"\\x00line\"");
        assert_eq!(
            run("fallocate fd=f1 mode=FALLOC_FL_ZERO_RANGE|FALLOC_FL_KEEP_SIZE off=65538 len=9"),
            "= 0"
        );
        assert_eq!(run("pread fd=f1 len=10 off=65536 null=false"), "= 4 \"li\\x00\\x00\"");
        assert_eq!(run("fallocate fd=f1 mode=FALLOC_FL_ZERO_RANGE off=65538 len=9"), "= 0");
        assert_eq!(run("pread fd=f1 len=100 off=65545 null=false"), "= 2 \"\\x00\\x00\"");
    }
}
