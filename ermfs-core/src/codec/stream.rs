//! Any gzip stream (RFC 1952) in, its content out.
//!
//! Promises: every member's CRC-32, length and, where there is one, header CRC is checked; a stream
//! that is cut off, damaged or not gzip ends in `EIO`. As with gzip(1), several members are one
//! content, an empty input is cut off, and zeros may follow the last member; where gzip(1) warns of
//! other bytes there and exits with 2, the answer is `EIO`. A cut exactly between two members
//! cannot be told from an end. Owns: about 110 KiB per reader, whatever the stream says. Never:
//! trusts a length from the stream.

use core::hint::black_box;
use std::panic::catch_unwind;

use flate2::{Decompress, FlushDecompress, Status};

use super::deflate::crc32;
use crate::errno::{Errno, Result};
use crate::inject::allocation;

const INPUT: usize = 64 * 1024;
/// More than zlib-rs takes for its state and window.
const INFLATE_STATE: usize = 64 * 1024;

/// Flags of a member's header, RFC 1952, section 2.3.1.
const HEADER_CRC: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;

/// Reads the content of a gzip stream; see the module.
///
/// The source fills the front of the slice it is given and answers with the count, 0 at its end.
/// It deals with interruptions itself.
pub(crate) struct GzipReader<S> {
    source: S,
    /// Always of its full length; what is not yet used lies at `start..end`.
    input: Vec<u8>,
    start: usize,
    end: usize,
    exhausted: bool,
    inflate: Decompress,
    /// Of the header while that is read, then of the content.
    crc: u32,
    /// Length of the member's content so far, modulo 2^32.
    size: u32,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    /// Before the first member.
    Start,
    /// Within a member's deflate stream.
    Body,
    /// After a member.
    Between,
    /// After the end.
    Finished,
    /// For good.
    Failed(Errno),
}

impl<S: FnMut(&mut [u8]) -> Result<usize>> GzipReader<S> {
    /// A reader at the start of `source`, from which nothing is read yet.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn new(source: S) -> Result<GzipReader<S>> {
        let mut input = Vec::new();
        allocation!("inflate.input")?;
        input.try_reserve_exact(INPUT)?;
        input.resize(INPUT, 0);
        Ok(GzipReader {
            source,
            input,
            start: 0,
            end: 0,
            exhausted: false,
            inflate: new_inflate()?,
            crc: 0,
            size: 0,
            state: State::Start,
        })
    }

    /// Fills `buf`, or as much of it as there is content: fewer bytes only at the end, 0 after it.
    ///
    /// The stream is known to be whole only when fewer bytes than asked for came back. After an
    /// error every further call gives it again.
    ///
    /// # Errors
    /// `EIO`: cut off, damaged or not gzip; bytes given before may be wrong where their member's
    /// CRC had not been reached. Errors of the source as they are.
    pub(crate) fn read_into(&mut self, buf: &mut [u8]) -> Result<usize> {
        self.advance(buf).inspect_err(|&error| self.state = State::Failed(error))
    }

    fn advance(&mut self, buf: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.state {
                State::Start => self.begin_member()?,
                State::Body => filled += self.inflate_into(&mut buf[filled..])?,
                State::Between => match self.peek()? {
                    None => self.state = State::Finished,
                    Some(0) => self.skip_padding()?,
                    Some(_) => self.begin_member()?,
                },
                State::Finished => break,
                State::Failed(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Reads a member's header.
    fn begin_member(&mut self) -> Result<()> {
        self.crc = 0;
        let [magic_1, magic_2, method, flags, ..] = self.header_bytes::<10>()?;
        if [magic_1, magic_2, method] != [0x1f, 0x8b, 8] || flags & RESERVED != 0 {
            return Err(Errno::EIO);
        }
        if flags & EXTRA != 0 {
            for _ in 0..u16::from_le_bytes(self.header_bytes()?) {
                self.header_bytes::<1>()?;
            }
        }
        if flags & NAME != 0 {
            self.skip_string()?;
        }
        if flags & COMMENT != 0 {
            self.skip_string()?;
        }
        if flags & HEADER_CRC != 0 {
            // The lower half of the CRC-32 of all that came before.
            let expected = self.crc as u16;
            if u16::from_le_bytes(self.header_bytes()?) != expected {
                return Err(Errno::EIO);
            }
        }
        self.inflate.reset(false);
        self.crc = 0;
        self.size = 0;
        self.state = State::Body;
        Ok(())
    }

    fn skip_string(&mut self) -> Result<()> {
        while self.header_bytes::<1>()? != [0] {}
        Ok(())
    }

    /// Inflates until `buf` is full or the member ends, and then checks its trailer.
    fn inflate_into(&mut self, buf: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            self.refill()?;
            let (input, out) = (&self.input[self.start..self.end], &mut buf[filled..]);
            let (total_in, total_out) = (self.inflate.total_in(), self.inflate.total_out());
            let status =
                self.inflate.decompress(input, out, FlushDecompress::None).map_err(|_| Errno::EIO)?;
            let used = (self.inflate.total_in() - total_in) as usize;
            let made = (self.inflate.total_out() - total_out) as usize;
            self.crc = crc32(self.crc, &out[..made]);
            self.size = self.size.wrapping_add(made as u32);
            self.start += used;
            filled += made;
            if status == Status::StreamEnd {
                self.end_member()?;
                break;
            }
            // No input is left, or it says nothing: the stream is cut off.
            if used == 0 && made == 0 {
                return Err(Errno::EIO);
            }
        }
        Ok(filled)
    }

    fn end_member(&mut self) -> Result<()> {
        let (crc, size) = (self.crc, self.size);
        if self.header_bytes()? != crc.to_le_bytes() || self.header_bytes()? != size.to_le_bytes() {
            return Err(Errno::EIO);
        }
        self.state = State::Between;
        Ok(())
    }

    /// After a zero behind a member there may be only zeros.
    fn skip_padding(&mut self) -> Result<()> {
        while self.refill()? {
            if self.input[self.start..self.end].iter().any(|&byte| byte != 0) {
                return Err(Errno::EIO);
            }
            self.start = self.end;
        }
        self.state = State::Finished;
        Ok(())
    }

    /// The next `N` bytes, which are counted in the running CRC.
    fn header_bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        for byte in &mut bytes {
            *byte = self.peek()?.ok_or(Errno::EIO)?;
            self.start += 1;
        }
        self.crc = crc32(self.crc, &bytes);
        Ok(bytes)
    }

    fn peek(&mut self) -> Result<Option<u8>> {
        Ok(self.refill()?.then(|| self.input[self.start]))
    }

    /// Whether there is input, after asking the source if there was none.
    fn refill(&mut self) -> Result<bool> {
        if self.start == self.end && !self.exhausted {
            let count = (self.source)(&mut self.input)?;
            if count > self.input.len() {
                return Err(Errno::EIO);
            }
            self.exhausted = count == 0;
            (self.start, self.end) = (0, count);
        }
        Ok(self.start < self.end)
    }
}

/// A decoder of raw deflate.
///
/// flate2 panics where it gets no memory. Trying the size first makes that all but impossible, and
/// the rest (another thread took it in between) is caught.
fn new_inflate() -> Result<Decompress> {
    let mut trial = Vec::<u8>::new();
    allocation!("inflate.state")?;
    trial.try_reserve_exact(INFLATE_STATE)?;
    // An allocation that nobody looks at may be optimised away.
    drop(black_box(trial));
    catch_unwind(|| Decompress::new(false)).map_err(|_| Errno::ENOMEM)
}
