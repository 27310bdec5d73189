//! Exports against the bytes they were made of, imports against what they were made from.

mod forms;
mod gzip;
mod import;
mod memfd;
mod program;

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use ermfs_memory::sync::Arc;
use rustix::fs::{SeekFrom, Stat};

use crate::content::{Content, Run, Sink, Source};
use crate::fs::Mode;
use crate::space::{Compress, Policy, Space};
use crate::testing::usage;

const PAGE: usize = 4096;
const BLOCK: usize = 65536;

fn space_of(max_bytes: u64, compress: Compress) -> Arc<Space> {
    Space::new(
        max_bytes,
        85,
        Policy { compress, level: 0, max_file_bytes: 0, cache_bytes: max_bytes / 8 },
        Mode::default(),
    )
}

fn space() -> Arc<Space> {
    space_of(64 << 20, Compress::OnClose)
}

fn write(content: &Content, offset: u64, bytes: &[u8]) {
    assert_eq!(content.write_at(offset, &mut Source::new(bytes)), Ok(bytes.len()));
}

fn contents(content: &Content) -> Vec<u8> {
    let mut bytes = vec![0xee; content.size() as usize + 1];
    let n = content.read_at(0, &mut Sink::new(&mut bytes)).unwrap();
    bytes.truncate(n);
    bytes
}

/// Text that compresses, different for each seed.
fn text(seed: u64, len: usize) -> Vec<u8> {
    random(seed, len).into_iter().map(|byte| b'a' + byte % 7).collect()
}

/// Bytes that do not compress, different for each seed.
fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// All bytes of a descriptor, read at offset 0 on through an offset that must be there.
fn read_to_end(fd: &OwnedFd) -> Vec<u8> {
    assert_eq!(rustix::fs::tell(fd), Ok(0));
    let mut bytes = Vec::new();
    std::fs::File::from(fd.try_clone().unwrap()).read_to_end(&mut bytes).unwrap();
    rustix::fs::seek(fd, SeekFrom::Start(0)).unwrap();
    bytes
}

fn stat(fd: impl AsFd) -> Stat {
    rustix::fs::fstat(fd).unwrap()
}

/// Where data begins and ends, as `lseek` tells.
fn extents(fd: &OwnedFd) -> Vec<(u64, u64)> {
    let mut extents = Vec::new();
    let mut at = 0;
    while let Ok(start) = rustix::fs::seek(fd, SeekFrom::Data(at)) {
        at = rustix::fs::seek(fd, SeekFrom::Hole(start)).unwrap();
        extents.push((start, at));
    }
    rustix::fs::seek(fd, SeekFrom::Start(0)).unwrap();
    extents
}

fn exported_bytes(space: &Space) -> u64 {
    usage(space).exported
}

/// A memfd that holds `bytes`, with the offset at their start.
fn memfd_of(bytes: &[u8]) -> OwnedFd {
    let fd = rustix::fs::memfd_create("input", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let mut written = 0;
    while written < bytes.len() {
        written += rustix::io::pwrite(&fd, &bytes[written..], written as u64).unwrap();
    }
    fd
}

/// A content of `blocks` packed blocks, the last one damaged.
fn damaged(space: &Arc<Space>, blocks: usize) -> Content {
    let content = Content::new(space);
    write(&content, 0, &text(1, blocks * BLOCK));
    content.pack();
    let mut last = None;
    let look = |run: Run<'_>| {
        if let Run::Member(_, member) = run {
            last = Some((member.as_ptr().cast_mut(), member.len()));
        }
        Ok(())
    };
    content.snapshot().unwrap().for_each_run(look).unwrap();
    let (member, len) = last.unwrap();
    // SAFETY: the middle of a member that `content` holds, memory of the allocator's own mapping; no
    // reference to it exists at the moment, and no other thread knows it.
    unsafe { *member.add(len / 2) ^= 0x10 };
    content
}
