//! Calls that move bytes.
//!
//! Promises answers with everything that was read, and that a buffer holds nothing else afterwards. Owns the buffers.
//! After a NULL buffer was refused, both sides get the same size and times, because the kernel may have noted the read or
//! write before it looked for the bytes.

use super::answer::{Reply, bytes_text, empty_stat, errno_name, reply_text};
use super::field::{Data, Pattern};
use super::op::Op;
use super::world::{World, call};
use libc::{c_int, c_void, iovec};

impl World {
    pub(super) fn transfer(&mut self, op: &Op) -> String {
        match op {
            Op::Read { fd, len, null } => {
                let fd = self.number(*fd);
                self.read_with(fd, *len, *null, |world, buffer, len| call!(world, read(fd, buffer, len)))
            }
            Op::Pread { fd, len, off, null } => {
                let fd = self.number(*fd);
                self.read_with(fd, *len, *null, |world, buffer, len| {
                    call!(world, pread(fd, buffer, len, *off))
                })
            }
            Op::Readv { fd, lens } => {
                let fd = self.number(*fd);
                self.readv_with(&lens.0, |world, pieces| {
                    call!(world, readv(fd, pieces.as_ptr(), pieces.len() as c_int))
                })
            }
            Op::Preadv { fd, lens, off } => {
                let fd = self.number(*fd);
                let count = lens.0.len() as c_int;
                self.readv_with(&lens.0, |world, pieces| {
                    call!(world, preadv(fd, pieces.as_ptr(), count, *off))
                })
            }
            Op::Write { fd, data } => {
                let fd = self.number(*fd);
                self.write_with(fd, data, |world, bytes, len| call!(world, write(fd, bytes, len)))
            }
            Op::Pwrite { fd, data, off } => {
                let fd = self.number(*fd);
                self.write_with(fd, data, |world, bytes, len| call!(world, pwrite(fd, bytes, len, *off)))
            }
            Op::Writev { fd, data } => {
                let bytes: Vec<Vec<u8>> = data.0.iter().map(Data::bytes).collect();
                let pieces = vectors(&bytes);
                let fd = self.number(*fd);
                reply_text(&call!(self, writev(fd, pieces.as_ptr(), pieces.len() as c_int)))
            }
            Op::Pwritev { fd, data, off } => {
                let bytes: Vec<Vec<u8>> = data.0.iter().map(Data::bytes).collect();
                let pieces = vectors(&bytes);
                let fd = self.number(*fd);
                reply_text(&call!(self, pwritev(fd, pieces.as_ptr(), pieces.len() as c_int, *off)))
            }
            Op::Iovcnt { fd, write, count, null } => {
                const MOST: usize = 1025;
                let pieces = vec![iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; MOST];
                let pointer = if *null { std::ptr::null() } else { pieces.as_ptr() };
                let (fd, count) = (self.number(*fd), *count as c_int);
                let reply = if *write {
                    call!(self, writev(fd, pointer, count))
                } else {
                    call!(self, readv(fd, pointer, count))
                };
                if *null && refused(&reply) { "refused".into() } else { reply_text(&reply) }
            }
            Op::CopyRange { from, off_in, into, off_out, len, flags } => {
                let (mut input, mut output) = (*off_in, *off_out);
                let pointer =
                    |off: &mut Option<i64>| off.as_mut().map_or(std::ptr::null_mut(), |off| &raw mut *off);
                let (from, into) = (self.number(*from), self.number(*into));
                let (in_pointer, out_pointer) = (pointer(&mut input), pointer(&mut output));
                let (len, flags) = (*len as usize, *flags as u32);
                let reply = call!(self, copy_file_range(from, in_pointer, into, out_pointer, len, flags));
                format!("{} offsets {input:?} {output:?}", reply_text(&reply))
            }
            _ => unreachable!("{op:?} moves no bytes"),
        }
    }

    /// A write; with a NULL pointer, whose refusal leaves the size and notes the time on both sides, because the kernel
    /// may have grown the file and noted the write before it looked for the bytes.
    fn write_with(
        &mut self,
        fd: c_int,
        data: &Data,
        write: impl Fn(&World, *const c_void, usize) -> Reply,
    ) -> String {
        let bytes = data.bytes();
        if data.pattern != Pattern::Null || data.len == 0 {
            return reply_text(&write(self, bytes.as_ptr().cast(), data.len as usize));
        }
        let mut before = empty_stat();
        call!(self, fstat(fd, &raw mut before));
        let reply = write(self, std::ptr::null(), data.len as usize);
        if !refused(&reply) {
            return reply_text(&reply);
        }
        call!(self, ftruncate(fd, before.st_size));
        self.as_root(|world| call!(world, futimens(fd, std::ptr::null())));
        "refused".into()
    }

    /// Reads into a buffer of `len` bytes; a byte changed behind the answer is told.
    fn read_with(
        &mut self,
        fd: c_int,
        len: i64,
        null: bool,
        read: impl Fn(&World, *mut c_void, usize) -> Reply,
    ) -> String {
        const UNTOUCHED: u8 = 0xee;
        let len = len.max(0) as usize;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.resize(len + 64, UNTOUCHED);
        let pointer = if null { std::ptr::null_mut() } else { buffer.as_mut_ptr().cast::<c_void>() };
        let reply = read(self, pointer, len);
        if null && len > 0 && refused(&reply) {
            // A read that needed no buffer, at the end of the file, may have been noted.
            self.as_root(|world| call!(world, futimens(fd, std::ptr::null())));
            self.buffer = buffer;
            return "refused".into();
        }
        let got = reply.value.max(0) as usize;
        let mut text = reply_text(&reply);
        if got > len {
            text.push_str(" MORE THAN ASKED FOR");
        } else if !null {
            text.push(' ');
            text.push_str(&bytes_text(&buffer[..got]));
            if buffer[got..].iter().any(|&byte| byte != UNTOUCHED) {
                text.push_str(" BYTES BEHIND THE ANSWER CHANGED");
            }
        }
        self.buffer = buffer;
        text
    }

    fn readv_with(&mut self, lens: &[i64], read: impl Fn(&World, &[iovec]) -> Reply) -> String {
        let mut buffers: Vec<Vec<u8>> = lens.iter().map(|&len| vec![0xee; len.max(0) as usize]).collect();
        let to_vector =
            |buffer: &mut Vec<u8>| iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let pieces: Vec<iovec> = buffers.iter_mut().map(to_vector).collect();
        let reply = read(self, &pieces);
        let mut bytes = buffers.concat();
        bytes.truncate(reply.value.max(0) as usize);
        format!("{} {}", reply_text(&reply), bytes_text(&bytes))
    }

    /// Reads exactly these bytes of a file, or says why not.
    pub(super) fn read_window(&self, fd: c_int, off: i64, len: usize) -> Result<Vec<u8>, String> {
        let mut bytes = vec![0u8; len];
        let mut done = 0;
        while done < len {
            let rest = bytes[done..].as_mut_ptr().cast::<c_void>();
            let reply = call!(self, pread(fd, rest, len - done, off + done as i64));
            match reply.value {
                -1 => {
                    return Err(format!("pread at {} gives {}", off + done as i64, errno_name(reply.errno)));
                }
                0 => return Err(format!("the file ends at {}", off + done as i64)),
                more => done += more as usize,
            }
        }
        Ok(bytes)
    }
}

/// Whether this answers a NULL buffer. EFAULT does, as the C interface has it; but which of several errors a call finds
/// first is left open, and a read at a file's end needs no buffer.
fn refused(reply: &Reply) -> bool {
    const ERRORS: &[c_int] = &[libc::EFAULT, libc::EBADF, libc::EINVAL, libc::EISDIR, libc::EFBIG];
    reply.value == 0 || (reply.value == -1 && ERRORS.contains(&reply.errno))
}

fn vectors(bytes: &[Vec<u8>]) -> Vec<iovec> {
    bytes
        .iter()
        .map(|piece| iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() })
        .collect()
}
