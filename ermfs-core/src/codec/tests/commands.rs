//! The codec beside gzip(1), Python's gzip module and bgzip(1) (Debian package `tabix`).
//!
//! Everything goes through pipes; nothing is written to a file.

use std::io::Write;
use std::process::{Command, Stdio};

use super::super::{END_OF_FILE, HOLE_BLOCK, hole_member, store};
use super::stream::{member, read};
use super::{packed, random, text};
use crate::errno::Errno;

/// What a command makes of its input: its exit status and its output.
fn pipe(command: &[&str], input: &[u8]) -> (Option<i32>, Vec<u8>) {
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{} is needed for this test: {error}", command[0]));
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // A command that refuses its input may close the pipe early.
        scope.spawn(move || drop(stdin.write_all(input)));
        let output = child.wait_with_output().unwrap();
        (output.status.code(), output.stdout)
    })
}

/// Whether the machine has the command; without it, what it would judge is skipped aloud.
fn is_there(command: &[&str]) -> bool {
    let there =
        Command::new(command[0]).arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).status().is_ok();
    if !there {
        println!("SKIPPED: {} is not installed", command[0]);
    }
    there
}

/// A file with a block of every kind, as an export writes it, and its content.
fn exported() -> (Vec<u8>, Vec<u8>) {
    let mut stream = Vec::new();
    let mut content = Vec::new();
    for level in 1..=12 {
        let block = text(65536 - level as usize % 2);
        stream.extend(packed(&block, level));
        content.extend(block);
    }
    let mut stored = Vec::new();
    for size in [65536, 65505, 1] {
        stream.extend_from_slice(HOLE_BLOCK.as_bytes());
        content.resize(content.len() + 65536, 0);
        let block = random(size, 8);
        store(&block, &mut stored).unwrap();
        stream.extend_from_slice(&stored);
        content.extend(block);
    }
    for size in [1, 258, 259, 4096, 65535] {
        stream.extend_from_slice(hole_member(size).unwrap().as_bytes());
        content.resize(content.len() + size, 0);
    }
    stream.extend_from_slice(&END_OF_FILE);
    (stream, content)
}

#[test]
fn others_read_what_we_write() {
    let (stream, content) = exported();
    let python = "import sys, gzip; sys.stdout.buffer.write(gzip.decompress(sys.stdin.buffer.read()))";
    for command in
        [&["gzip", "-dc"][..], &["python3", "-c", python], &["bgzip", "-dc"], &["bgzip", "-dc", "-@2"]]
    {
        if !is_there(command) {
            continue;
        }
        let (status, output) = pipe(command, &stream);
        assert_eq!(status, Some(0), "{command:?}");
        assert!(output == content, "{command:?} gave {} bytes of {}", output.len(), content.len());
    }
    assert_eq!(read(&stream), Ok(content));
}

#[test]
fn we_read_what_others_write() {
    let content = [text(1 << 20), vec![0; 300_000], random(200_000, 4)].concat();
    for command in [&["gzip", "-1c"][..], &["gzip", "-9c"], &["bgzip", "-c"]] {
        if !is_there(command) {
            continue;
        }
        let (status, stream) = pipe(command, &content);
        assert_eq!(status, Some(0), "{command:?}");
        assert!(read(&stream).as_ref() == Ok(&content), "{command:?}");
        assert_eq!(read(&stream[..stream.len() - 1]), Err(Errno::EIO));
    }
}

#[test]
fn we_refuse_what_gzip_complains_of() {
    let one = member(0, b"some content");
    let named = member(8 | 16 | 2, b"other content");
    let wrong_header_crc = {
        let mut stream = named.clone();
        stream[4] ^= 1;
        stream
    };
    let reserved = member(0x40, b"content");
    let cases: [&[&[u8]]; 18] = [
        &[],
        &[&[0]],
        &[b"no gzip at all, and long enough"],
        &[&one],
        &[&one, &named],
        &[&named, &one, &member(4, b"")],
        &[&one, &[0]],
        &[&one, &[0; 1000]],
        &[&one, &[0; 10], b"x"],
        &[&one, &[0; 10], &one],
        &[&one, b"garbage"],
        &[&one, &[0x1f]],
        &[&one, &[0x1f, 0x8b]],
        &[&one[..one.len() - 1]],
        &[&one[..9]],
        &[&wrong_header_crc],
        &[&reserved],
        &[&END_OF_FILE],
    ];
    for parts in cases {
        let stream = parts.concat();
        let (status, output) = pipe(&["gzip", "-dc"], &stream);
        match read(&stream) {
            Ok(content) => assert_eq!((status, output), (Some(0), content), "{stream:x?}"),
            Err(error) => assert!(error == Errno::EIO && status != Some(0), "{status:?} {stream:x?}"),
        }
    }
}
