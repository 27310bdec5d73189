//! Streams that others wrote.

use proptest::prelude::*;

use super::super::{END_OF_FILE, GzipReader, HOLE_BLOCK, deflate, store};
use super::{packed, random, text};
use crate::errno::{Errno, Result};

const TEXT: u8 = 1;
const HEADER_CRC: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;

/// A member with the header fields that `flags` asks for.
pub(super) fn member(flags: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 2, 3];
    if flags & EXTRA != 0 {
        out.extend_from_slice(b"\x09\x00Ab\x05\x00\x00\xff\x1f\x8b\x08");
    }
    if flags & NAME != 0 {
        out.extend_from_slice(b"a name\xff\0");
    }
    if flags & COMMENT != 0 {
        out.extend_from_slice(b"\0");
    }
    if flags & HEADER_CRC != 0 {
        let crc = deflate::crc32(0, &out) as u16;
        out.extend_from_slice(&crc.to_le_bytes());
    }
    let start = out.len();
    out.reserve(content.len() + 100);
    let deflated = deflate::compress(content, 6, out.spare_capacity_mut()).unwrap().unwrap();
    // SAFETY: the compressor initialised as many bytes behind the vector's end.
    unsafe { out.set_len(start + deflated) };
    out.extend_from_slice(&deflate::crc32(0, content).to_le_bytes());
    out.extend_from_slice(&(content.len() as u32).to_le_bytes());
    out
}

/// A source that gives at most `most` bytes at a time.
fn source(mut bytes: &[u8], most: usize) -> impl FnMut(&mut [u8]) -> Result<usize> {
    move |buf| {
        let count = bytes.len().min(buf.len()).min(most);
        buf[..count].copy_from_slice(&bytes[..count]);
        bytes = &bytes[count..];
        Ok(count)
    }
}

/// The whole content, read `ask` bytes at a time from a source that gives `give`.
fn read_by(stream: &[u8], give: usize, ask: usize) -> Result<Vec<u8>> {
    let mut reader = GzipReader::new(source(stream, give))?;
    let mut content = Vec::new();
    let mut buf = vec![0xa5; ask];
    loop {
        let count = reader.read_into(&mut buf)?;
        content.extend_from_slice(&buf[..count]);
        if count < ask {
            assert_eq!(reader.read_into(&mut buf), Ok(0), "the end stays the end");
            return Ok(content);
        }
    }
}

pub(super) fn read(stream: &[u8]) -> Result<Vec<u8>> {
    read_by(stream, usize::MAX, 65536)
}

/// Three members, the middle one empty, and where they end.
fn three() -> (Vec<u8>, Vec<u8>, [usize; 3]) {
    let parts = [text(300), Vec::new(), random(200, 2)];
    let mut stream = Vec::new();
    let mut ends = [0; 3];
    for (i, part) in parts.iter().enumerate() {
        stream.extend(member([NAME | EXTRA, 0, HEADER_CRC][i], part));
        ends[i] = stream.len();
    }
    (stream, parts.concat(), ends)
}

#[test]
fn every_header_field() {
    for flags in 0..32 {
        let content = text(1000);
        assert_eq!(read(&member(flags, &content)), Ok(content), "flags {flags:#x}");
    }
    for flags in [0x20, 0x40, 0x80] {
        assert_eq!(read(&member(flags, b"x")), Err(Errno::EIO), "reserved");
    }
}

#[test]
fn the_header_crc_is_checked() {
    let stream = member(TEXT | HEADER_CRC | EXTRA | NAME | COMMENT, b"content");
    let header = stream.len() - member(0, b"content").len() + 10;
    for bit in 0..header * 8 {
        let mut damaged = stream.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(read(&damaged), Err(Errno::EIO), "bit {bit}");
    }
}

#[test]
fn any_sizes_of_pieces() {
    let (stream, content, _) = three();
    for give in [1, 2, 3, 7, 64, 1000] {
        for ask in [1, 2, 3, 64, 299, 300, 301, 499, 500, 501, 100_000] {
            assert_eq!(read_by(&stream, give, ask).as_ref(), Ok(&content), "{give} {ask}");
        }
    }
    assert_eq!(GzipReader::new(source(&stream, 1)).unwrap().read_into(&mut []), Ok(0));
}

#[test]
fn cut_off_anywhere() {
    let (stream, content, ends) = three();
    for cut in 0..stream.len() {
        let got = read(&stream[..cut]);
        match ends.iter().position(|&end| end == cut) {
            // What is cut between members is a shorter stream.
            Some(_) => assert_eq!(got.as_deref(), Ok(&content[..300])),
            None => assert_eq!(got, Err(Errno::EIO), "cut at {cut}"),
        }
        assert_eq!(read_by(&stream[..cut], 1, 10).is_ok(), ends.contains(&cut));
    }
}

#[test]
fn flipped_bits_never_give_wrong_bytes() {
    let (stream, content, _) = three();
    let mut unnoticed = 0;
    for bit in 0..stream.len() * 8 {
        let mut damaged = stream.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        match read(&damaged) {
            Ok(got) => {
                assert_eq!(got, content, "bit {bit}");
                unnoticed += 1;
            }
            Err(error) => assert_eq!(error, Errno::EIO),
        }
    }
    // The first two headers have no CRC: time, name and the like may change.
    assert!(unnoticed < 2 * 40 * 8, "{unnoticed}");
}

#[test]
fn not_gzip() {
    for stream in [
        &b""[..],
        b"\x1f",
        b"\0",
        b"\0\0\0\0",
        b"plain text, longer than a header",
        b"PK\x03\x04",
        b"\x1f\x8b",
    ] {
        assert_eq!(read(stream), Err(Errno::EIO), "{stream:?}");
    }
    let mut other_method = member(0, b"x");
    other_method[2] = 7;
    assert_eq!(read(&other_method), Err(Errno::EIO));
    assert_eq!(read(&random(100_000, 4)), Err(Errno::EIO));
}

#[test]
fn only_zeros_may_follow() {
    let content = text(5000);
    let stream = member(0, &content);
    let followed = |by: &[u8]| read(&[&stream[..], by].concat());
    for zeros in [1, 2, 511, 512, 65536, 200_000] {
        assert_eq!(followed(&vec![0; zeros]).as_ref(), Ok(&content));
        let mut more = vec![0; zeros];
        more.push(1);
        assert_eq!(followed(&more), Err(Errno::EIO));
    }
    assert_eq!(followed(b"garbage"), Err(Errno::EIO));
    assert_eq!(followed(b"\x1f"), Err(Errno::EIO));
    assert_eq!(followed(&[&[0], &stream[..]].concat()), Err(Errno::EIO), "a member behind padding");
}

#[test]
fn wrong_trailers() {
    let stream = member(0, &text(5000));
    for at in stream.len() - 8..stream.len() {
        let mut damaged = stream.clone();
        damaged[at] ^= 0x40;
        assert_eq!(read(&damaged), Err(Errno::EIO));
    }
}

#[test]
fn errors_of_the_source_come_through_and_stay() {
    let stream = member(0, &text(5000));
    let mut calls = 0;
    let mut inner = source(&stream, 100);
    let mut reader = GzipReader::new(|buf: &mut [u8]| {
        calls += 1;
        if calls == 3 { Err(Errno::ENXIO) } else { inner(buf) }
    })
    .unwrap();
    let mut buf = [0; 6000];
    assert_eq!(reader.read_into(&mut buf), Err(Errno::ENXIO));
    assert_eq!(reader.read_into(&mut buf), Err(Errno::ENXIO));
    assert_eq!(calls, 3);
    let mut lying = GzipReader::new(|buf: &mut [u8]| Ok(buf.len() + 1)).unwrap();
    assert_eq!(lying.read_into(&mut buf), Err(Errno::EIO));
}

#[test]
fn reads_what_we_write() {
    let mut stream = packed(&text(65536), 1);
    stream.extend_from_slice(HOLE_BLOCK.as_bytes());
    let mut stored = Vec::new();
    store(&random(65536, 6), &mut stored).unwrap();
    stream.extend_from_slice(&stored);
    stream.extend_from_slice(&END_OF_FILE);
    let content = [text(65536), vec![0; 65536], random(65536, 6)].concat();
    assert_eq!(read(&stream).as_ref(), Ok(&content));
    assert_eq!(read_by(&stream, 1000, 777).as_ref(), Ok(&content));
    assert_eq!(read(&END_OF_FILE), Ok(Vec::new()));
}

proptest! {
    #![proptest_config(super::cases())]

    #[test]
    fn any_members_come_back(
        parts in prop::collection::vec(
            (0..32u8, prop::collection::vec(any::<u8>(), 0..3000)),
            1..6,
        ),
        zeros in 0..3usize, give in 1..5000usize, ask in 1..5000usize,
    ) {
        let mut stream = Vec::new();
        let mut content = Vec::new();
        for (flags, part) in &parts {
            stream.extend(member(*flags, part));
            content.extend_from_slice(part);
        }
        stream.resize(stream.len() + zeros, 0);
        prop_assert_eq!(read_by(&stream, give, ask), Ok(content));
    }

    #[test]
    fn any_bytes_are_survived(
        mut bytes in prop::collection::vec(any::<u8>(), 0..500),
        honest: bool,
    ) {
        if honest && bytes.len() >= 10 {
            bytes[..3].copy_from_slice(&[0x1f, 0x8b, 8]);
            bytes[3] &= 0x1f;
        }
        if let Ok(content) = read(&bytes) {
            // Chance alone does not make a member with a right CRC-32.
            prop_assert!(content.is_empty());
        }
    }
}
