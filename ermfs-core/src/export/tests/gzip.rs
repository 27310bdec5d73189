use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::fs::{OFlags, SealFlags};

use super::forms::examples;
use super::*;
use crate::codec::{END_OF_FILE, GzipReader};
use crate::errno::Errno;
use crate::export::{ExportFlags, export_gzip};

fn export(content: &Content, flags: ExportFlags) -> OwnedFd {
    export_gzip(&content.snapshot().unwrap(), b"dir/name", flags).unwrap()
}

fn inflate(gz: &[u8], len: usize) -> Vec<u8> {
    let mut left = gz;
    let mut reader = GzipReader::new(|room: &mut [u8]| {
        let n = left.len().min(room.len());
        room[..n].copy_from_slice(&left[..n]);
        left = &left[n..];
        Ok(n)
    })
    .unwrap();
    let mut bytes = vec![0xee; len + 1];
    let n = reader.read_into(&mut bytes).unwrap();
    bytes.truncate(n);
    bytes
}

/// The members' lengths and those of their contents, as BGZF tells them.
fn members(mut gz: &[u8]) -> Vec<(usize, usize)> {
    let mut members = Vec::new();
    while !gz.is_empty() {
        assert_eq!(gz[12..16], *b"BC\x02\x00");
        let (member, rest) = gz.split_at(u16::from_le_bytes([gz[16], gz[17]]) as usize + 1);
        let (_, len) = member.split_last_chunk::<4>().unwrap();
        members.push((member.len(), u32::from_le_bytes(*len) as usize));
        gz = rest;
    }
    members
}

/// What gunzip(1) makes of `gz`.
fn gunzip(gz: Vec<u8>) -> Vec<u8> {
    let mut gunzip =
        Command::new("gunzip").arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = gunzip.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(&gz).unwrap());
    let output = gunzip.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn every_form_becomes_a_gz_that_others_read() {
    let space = space();
    for file in examples(&space) {
        let gz = read_to_end(&export(&file.content, ExportFlags::empty()));
        assert!(inflate(&gz, file.bytes.len()) == file.bytes, "{}", file.what);
        assert!(gunzip(gz.clone()) == file.bytes, "{}", file.what);
        assert!(gz.ends_with(&END_OF_FILE));
        let members = members(&gz);
        assert!(members.iter().all(|&(len, content)| len <= BLOCK && content <= BLOCK), "{}", file.what);
        assert_eq!(members.iter().map(|&(_, content)| content).sum::<usize>(), file.bytes.len());
        // No member reaches over the end of a block.
        let mut at = 0;
        for (_, content) in members {
            assert!(content == 0 || at / BLOCK == (at + content - 1) / BLOCK, "{}", file.what);
            at += content;
        }
    }
}

#[test]
fn members_at_rest_are_copied_and_holes_are_constant() {
    let space = space();
    let content = Content::new(&space);
    write(&content, 0, &text(1, 2 * BLOCK));
    write(&content, 100 * BLOCK as u64, &text(2, 5000));
    content.pack();
    content.truncate(1 << 30).unwrap();
    let packed = space.counters.blocks_packed.load(std::sync::atomic::Ordering::Relaxed);
    let gz = read_to_end(&export(&content, ExportFlags::empty()));
    let mut copied = 0;
    let look = |run: Run<'_>| {
        if let Run::Member(_, member) = run {
            copied += usize::from(gz.windows(member.len()).any(|part| part == member));
        }
        Ok(())
    };
    content.snapshot().unwrap().for_each_run(look).unwrap();
    assert_eq!((copied, packed), (3, 3));
    assert!(gz.len() < 200 * (1 << 30) / BLOCK + content.stored_bytes() as usize);
    let mut members = members(&gz);
    assert_eq!(members.pop(), Some((END_OF_FILE.len(), 0)));
    // The third packed block is followed by the hole in the rest of its block.
    assert_eq!(members.len(), (1 << 30) / BLOCK + 1);
}

#[test]
fn a_block_that_does_not_shrink_becomes_two_members() {
    let content = Content::new(&space());
    write(&content, 0, &random(1, BLOCK + 100));
    content.pack();
    let members = members(&read_to_end(&export(&content, ExportFlags::empty())));
    assert_eq!(
        members.iter().map(|&(_, content)| content).collect::<Vec<_>>(),
        [BLOCK / 2, BLOCK / 2, 100, 0]
    );
}

#[test]
fn the_descriptor_is_as_asked_for() {
    let content = Content::new(&space());
    write(&content, 0, b"content");
    let fd = export(&content, ExportFlags::empty());
    assert_eq!(rustix::fs::fcntl_getfl(&fd).unwrap() & OFlags::ACCMODE, OFlags::RDWR);
    assert_eq!(stat(&fd).st_mode & 0o111, 0);
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
    assert_eq!(
        rustix::fs::readlink(path.as_str(), Vec::new()).unwrap().to_bytes(),
        b"/memfd:dir/name.gz (deleted)"
    );
    let sealed = export(&content, ExportFlags::all());
    assert_eq!(rustix::fs::fcntl_getfl(&sealed).unwrap() & OFlags::ACCMODE, OFlags::RDONLY);
    assert!(rustix::fs::fcntl_get_seals(&sealed).unwrap().contains(SealFlags::WRITE | SealFlags::SEAL));
    assert!(rustix::io::fcntl_getfd(&sealed).unwrap().is_empty());
    assert_eq!(inflate(&read_to_end(&sealed), 7), b"content");
    assert_eq!(exported_bytes(content.space()), 0);
}

#[test]
fn what_would_have_no_end_is_refused() {
    let content = Content::new(&space());
    content.truncate((1 << 40) + 1).unwrap();
    let refused = export_gzip(&content.snapshot().unwrap(), b"huge", ExportFlags::empty());
    assert_eq!(refused.unwrap_err(), Errno::EFBIG);
}
