//! The layout of a member: a gzip member (RFC 1952) with BGZF's extra field (SAM specification,
//! 4.1).
//!
//! ```text
//!  0  1f 8b 08 04   gzip, deflate, an extra field follows
//!  4  00 00 00 00   no time stamp: equal blocks make equal members
//!  8  00 or 04      extra flags, chosen so that the whole member has an even number of one bits
//!  9  ff            no operating system
//! 10  06 00         length of the extra field
//! 12  42 43 02 00   subfield "BC", two bytes
//! 16  BSIZE         length of the member less one, little-endian
//! 18  deflate       the content
//! -8  CRC-32        of the content, little-endian
//! -4  ISIZE         length of the content, little-endian
//! ```
//!
//! Promises: every bit of a member is constant, checked, or counted in the parity. The parity is
//! there because a deflate stream has bits that no decoder looks at (the rest of its last byte, the
//! padding before a stored part, code lengths of symbols that never occur); RFC 1952 gives deflate
//! the values 2 and 4 of the extra flags and compressors 0 as the default, and readers ignore them.
//! Never: allocates beyond the caller's buffer.

use core::mem::MaybeUninit;

use super::deflate;
use crate::errno::{Errno, Result};
use crate::inject::allocation;
use ermfs_memory::BLOCK_SIZE;

const HEADER: usize = 18;
const TRAILER: usize = 8;
/// What a member adds to its deflate stream.
const FRAME: usize = HEADER + TRAILER;
/// The longest member that BSIZE can tell.
const LONGEST: usize = 65536;

const EXTRA_FLAGS: usize = 8;
/// The extra flags of a member whose other bits have odd parity.
const ODD: u8 = 4;

/// The empty member that ends a BGZF file, byte for byte as the SAM specification prescribes it.
pub(crate) static END_OF_FILE: [u8; 28] = [
    0x1f, 0x8b, 0x08, 0x04, 0, 0, 0, 0, 0, 0xff, 6, 0, b'B', b'C', 2, 0, 0x1b, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0,
    0,
];

/// The header of a member of `len` bytes, 1 to [`LONGEST`], with the extra flags 0.
const fn header(len: usize) -> [u8; HEADER] {
    let [low, high] = ((len - 1) as u16).to_le_bytes();
    [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 6, 0, b'B', b'C', 2, 0, low, high]
}

const fn trailer(crc: u32, content: usize) -> [u8; TRAILER] {
    let [a, b, c, d] = crc.to_le_bytes();
    let [e, f, g, h] = (content as u32).to_le_bytes();
    [a, b, c, d, e, f, g, h]
}

/// Whether the number of one bits in `bytes` is odd.
const fn is_odd(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut folded = 0;
    let mut i = 0;
    while i < words.len() {
        folded ^= u64::from_ne_bytes(words[i]);
        i += 1;
    }
    let mut i = 0;
    while i < rest.len() {
        folded ^= rest[i] as u64;
        i += 1;
    }
    folded.count_ones() % 2 == 1
}

/// Compresses `block` into a member of at most `most` bytes (itself at most [`LONGEST`]), which
/// then is all that `out` holds: its length, or `None` where it would be longer.
///
/// # Errors
/// `ENOMEM`: no memory for the compressor or for `out`.
pub(super) fn compress(block: &[u8], level: i32, most: usize, out: &mut Vec<u8>) -> Result<Option<usize>> {
    out.clear();
    // The shortest deflate stream with content is two bytes long.
    if most < FRAME + 2 {
        return Ok(None);
    }
    allocation!("codec.room")?;
    out.try_reserve(most)?;
    out.extend_from_slice(&[0; HEADER]);
    let room = &mut out.spare_capacity_mut()[..most - FRAME];
    let Some(deflated) = deflate::compress(block, level, room)? else {
        out.clear();
        return Ok(None);
    };
    // SAFETY: the header was pushed, the compressor initialised `deflated` bytes behind it, and the
    // capacity is at least `most`.
    unsafe { out.set_len(HEADER + deflated) };
    seal(out, 0, block);
    Ok(Some(out.len()))
}

/// Completes the member that starts at `start` and so far is a blank header and a deflate stream of
/// `content`. There must be capacity for the trailer.
fn seal(out: &mut Vec<u8>, start: usize, content: &[u8]) {
    debug_assert!(out.capacity() - out.len() >= TRAILER);
    out.extend_from_slice(&trailer(deflate::crc32(0, content), content.len()));
    let member = &mut out[start..];
    let header = header(member.len());
    member[..HEADER].copy_from_slice(&header);
    if is_odd(member) {
        member[EXTRA_FLAGS] = ODD;
    }
}

/// Inflates `member` into `out`, all of it. Any thread may call it.
///
/// # Errors
/// `EIO`: `member` is not one whole, undamaged member of [`pack`](super::pack), [`store`] or
/// [`hole_member`] with a content of `out.len()` bytes; what `out` then holds is undefined.
/// `ENOMEM`: no memory for the decompressor's state.
pub(crate) fn unpack(member: &[u8], out: &mut [MaybeUninit<u8>]) -> Result<()> {
    let (deflated, trailer) = open(member)?;
    let [a, b, c, d, e, f, g, h] = *trailer;
    // Before inflating: a wrong length would otherwise be noticed only after all the work.
    if u32::from_le_bytes([e, f, g, h]) as usize != out.len() || is_odd(member) {
        return Err(Errno::EIO);
    }
    let content = deflate::decompress(deflated, out)?;
    if deflate::crc32(0, content) != u32::from_le_bytes([a, b, c, d]) {
        return Err(Errno::EIO);
    }
    Ok(())
}

/// Checks a member's header and splits off its deflate stream and its trailer.
fn open(member: &[u8]) -> Result<(&[u8], &[u8; TRAILER])> {
    if member.len() <= FRAME || member.len() > LONGEST {
        return Err(Errno::EIO);
    }
    let mut expected = header(member.len());
    if member[EXTRA_FLAGS] == ODD {
        expected[EXTRA_FLAGS] = ODD;
    }
    let body = member.strip_prefix(&expected).ok_or(Errno::EIO)?;
    body.split_last_chunk().ok_or(Errno::EIO)
}

/// Bytes that fit one member uncompressed: a stored part of deflate has five bytes of its own.
const STORED_MOST: usize = LONGEST - FRAME - STORED_HEADER;
const STORED_HEADER: usize = 5;

/// Writes a block of 1 to 65,536 bytes uncompressed, as one member or, where it does not fit one,
/// two. They are then all that `out` holds.
///
/// # Errors
/// `EINVAL`: an empty or too long block. `ENOMEM`: no memory for `out`.
pub(crate) fn store(block: &[u8], out: &mut Vec<u8>) -> Result<()> {
    if block.is_empty() || block.len() > BLOCK_SIZE {
        return Err(Errno::EINVAL);
    }
    out.clear();
    allocation!("codec.room")?;
    out.try_reserve(block.len() + 2 * (FRAME + STORED_HEADER))?;
    let cut = if block.len() <= STORED_MOST { block.len() } else { BLOCK_SIZE / 2 };
    for part in block.chunks(cut) {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER]);
        // A final stored part, then its length and the complement (RFC 1951, section 3.2.4). The
        // length fits 16 bits because the whole member does.
        let len = part.len() as u16;
        out.push(1);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&(!len).to_le_bytes());
        out.extend_from_slice(part);
        seal(out, start, part);
    }
    Ok(())
}

/// A member whose content is zeros.
#[derive(Clone, Copy)]
pub(crate) struct HoleMember {
    bytes: [u8; HoleMember::MOST],
    len: usize,
}

impl HoleMember {
    /// The longest one: 258 literals, 253 matches, code lengths and end of block are 1,130 bits.
    const MOST: usize = FRAME + 142;

    /// The member's bytes.
    pub(crate) const fn as_bytes(&self) -> &[u8] {
        self.bytes.split_at(self.len).0
    }
}

/// The member of a hole of a whole block.
pub(crate) static HOLE_BLOCK: HoleMember = match hole_member(BLOCK_SIZE) {
    Ok(member) => member,
    Err(_) => panic!("a block is no hole"),
};

/// The member of a hole of `len` bytes, 1 to 65,536.
///
/// # Errors
/// `EINVAL`: another length.
pub(crate) const fn hole_member(len: usize) -> Result<HoleMember> {
    if len == 0 || len > BLOCK_SIZE {
        return Err(Errno::EINVAL);
    }
    let mut bits = BitWriter { bytes: [0; HoleMember::MOST], at: HEADER * 8 };
    bits.put_hole_codes();
    // Literals for what is left beside whole matches, at least one for the matches to refer to.
    let matches = (len - 1) / LONGEST_MATCH;
    let mut literals = len - matches * LONGEST_MATCH;
    while literals > 0 {
        bits.put(0b01, 2);
        literals -= 1;
    }
    // A longest match is the code 0 and its distance, one byte, the code 0 again.
    bits.at += 2 * matches;
    bits.put(0b11, 2);
    let tail = bits.at.div_ceil(8);
    let mut member = HoleMember { bytes: bits.bytes, len: tail + TRAILER };
    put(&mut member.bytes, 0, &header(member.len));
    put(&mut member.bytes, tail, &trailer(crc_of_zeros(len), len));
    if is_odd(member.as_bytes()) {
        member.bytes[EXTRA_FLAGS] = ODD;
    }
    Ok(member)
}

/// The longest match that deflate has.
const LONGEST_MATCH: usize = 258;

const fn put(bytes: &mut [u8; HoleMember::MOST], at: usize, from: &[u8]) {
    bytes.split_at_mut(at).1.split_at_mut(from.len()).0.copy_from_slice(from);
}

/// Writes deflate's bits: from the lowest bit of each byte up.
struct BitWriter {
    bytes: [u8; HoleMember::MOST],
    at: usize,
}

impl BitWriter {
    const fn put(&mut self, value: u32, bits: usize) {
        let mut i = 0;
        while i < bits {
            self.bytes[self.at / 8] |= ((value >> i & 1) as u8) << (self.at % 8);
            self.at += 1;
            i += 1;
        }
    }

    /// The head of a final part with codes of its own (RFC 1951, section 3.2.7): the longest match
    /// has the code 0, the literal zero 10 and the end 11; distance 1 has the code 0, distance 2,
    /// never used, the code 1, because some decoders want every code complete. (Code bits come
    /// first bit first, so that as numbers they are mirrored.)
    const fn put_hole_codes(&mut self) {
        self.put(1, 1); // the final part
        self.put(2, 2); // with dynamic codes
        self.put(286 - 257, 5); // literals and lengths
        self.put(2 - 1, 5); // distances
        self.put(18 - 4, 4); // lengths in the code of code lengths:
        // in the order 16 17 18 0 8 7 9 6 10 5 11 4 12 3 13 2 14 1, 18 has one bit, 1 and 2 have
        // two
        let mut i = 0;
        while i < 18 {
            self.put([0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 2][i], 3);
            i += 1;
        }
        self.put(0b11, 2); // the literal 0: length 2
        self.put(0, 1); // 138 and 117 times none
        self.put(138 - 11, 7);
        self.put(0, 1);
        self.put(117 - 11, 7);
        self.put(0b11, 2); // 256, the end: length 2
        self.put(0, 1); // 28 times none
        self.put(28 - 11, 7);
        self.put(0b01, 2); // 285, the longest match: length 1
        self.put(0b01, 2); // both distances: length 1
        self.put(0b01, 2);
    }
}

/// The CRC-32 of `len` zero bytes: each multiplies the remainder by x^8, so the power is taken at
/// once.
const fn crc_of_zeros(len: usize) -> u32 {
    // Polynomials are mirrored, the highest bit is x^0.
    const ONE: u32 = 1 << 31;
    let mut power = ONE >> 8;
    let mut result = !0;
    let mut left = len;
    while left > 0 {
        if left % 2 == 1 {
            result = multiply(result, power);
        }
        power = multiply(power, power);
        left /= 2;
    }
    !result
}

/// The product of two polynomials over GF(2) modulo that of CRC-32.
const fn multiply(a: u32, b: u32) -> u32 {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let mut product = 0;
    let mut shifted = b;
    let mut bit = 32;
    while bit > 0 {
        bit -= 1;
        if a >> bit & 1 == 1 {
            product ^= shifted;
        }
        shifted = if shifted & 1 == 1 { shifted >> 1 ^ POLYNOMIAL } else { shifted >> 1 };
    }
    product
}
