//! A file as a `.gz` in BGZF layout (SAM specification, section 4.1).
//!
//! Promises: gunzip reads it whole and bgzip at random; members that are at rest are copied as they
//! are, only blocks that are not get compressed; a hole costs some 130 bytes for each 64 KiB. Every
//! member stands for at most one block. Owns nothing beyond the call.

use std::os::fd::{AsFd, OwnedFd};

use ermfs_memory::BLOCK_SIZE;

use super::ExportFlags;
use super::kernel;
use super::output::Output;
use crate::codec::{self, END_OF_FILE, HOLE_BLOCK, Packed, hole_member};
use crate::content::{Run, Scratch, Snapshot};
use crate::descriptor::Descriptor;
use crate::errno::{Errno, Result};
use crate::inject::allocation;

/// The largest file that is exported, in bytes: were it one hole, its `.gz` would have 2 GiB.
const LARGEST: u64 = 1 << 40;
const BLOCK: u64 = BLOCK_SIZE as u64;

/// A descriptor of a memfd that holds a `.gz` of the snapshot, offset 0, named after the end of `name`
/// with `.gz` behind it. It is never executable.
///
/// Without `SEALED` it is open read-write. With it, it is sealed and opened read-only (read-write where
/// no /proc is mounted); it is not shared with other exports.
///
/// # Errors
/// `EFBIG` for a file of more than 2^40 bytes, holes included; otherwise as
/// [`export_memfd`](super::export_memfd). A corrupt block at rest is copied as it is, without a look.
pub(crate) fn export_gzip(snapshot: &Snapshot, name: &[u8], flags: ExportFlags) -> Result<OwnedFd> {
    if snapshot.size() > LARGEST {
        return Err(Errno::EFBIG);
    }
    let mut full_name = Vec::new();
    allocation!("path")?;
    full_name.try_reserve_exact(name.len() + 3)?;
    full_name.extend_from_slice(name.split(|&byte| byte == 0).next().unwrap_or_default());
    full_name.extend_from_slice(b".gz");
    let fd = kernel::create(&full_name, false)?;
    write(snapshot, &fd)?;
    if flags.contains(ExportFlags::SEALED) {
        kernel::seal(&fd)?;
        if let Ok(read_only) = kernel::reopen(fd.as_fd(), flags) {
            return Ok(read_only.into_owned());
        }
    }
    Ok(kernel::hand_out(fd, flags)?.into_owned())
}

fn write(snapshot: &Snapshot, fd: &Descriptor) -> Result<()> {
    let mut scratch = Scratch::take()?;
    let (bytes, member) = scratch.both();
    let level = snapshot.space().policy().effective_level();
    let mut members =
        Members { output: Output::new(fd.as_fd()), level, bytes, member, at: 0, filled: 0, has_data: false };
    snapshot.for_each_run(|run| match run {
        Run::Hole(len) => members.hole(len),
        Run::Plain(bytes) => members.plain(bytes),
        Run::Member(block, member) => {
            members.end_part()?;
            members.at += block.raw_len() as u64;
            // SAFETY: a run of this snapshot.
            unsafe { members.output.push_run(snapshot, member) }
        }
    })?;
    members.end_part()?;
    members.output.push(&END_OF_FILE)?;
    members.output.flush()
}

/// Turns runs into members. What lies in one block and is not packed is gathered until the block ends.
struct Members<'a> {
    output: Output<'a>,
    level: i32,
    /// A block's room; the first `filled` bytes are the part that is being gathered.
    bytes: &'a mut [u8],
    member: &'a mut Vec<u8>,
    /// How far the file has been read, the part included.
    at: u64,
    filled: usize,
    /// Whether the part is more than a hole. While it is not, `bytes` has not been touched.
    has_data: bool,
}

impl Members<'_> {
    /// How much of `len` bytes lies in the block of `at`.
    fn in_block(&self, len: u64) -> usize {
        (BLOCK - self.at % BLOCK).min(len) as usize
    }

    fn hole(&mut self, mut len: u64) -> Result<()> {
        while len > 0 {
            let n = self.in_block(len);
            if self.has_data {
                self.bytes[self.filled..self.filled + n].fill(0);
            }
            self.take(n)?;
            len -= n as u64;
        }
        Ok(())
    }

    fn plain(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(self.in_block(bytes.len() as u64));
            if !self.has_data {
                self.bytes[..self.filled].fill(0);
                self.has_data = true;
            }
            self.bytes[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.take(now.len())?;
            bytes = later;
        }
        Ok(())
    }

    fn take(&mut self, n: usize) -> Result<()> {
        self.at += n as u64;
        self.filled += n;
        if self.at.is_multiple_of(BLOCK) { self.end_part() } else { Ok(()) }
    }

    /// Writes the part as a member, or two.
    fn end_part(&mut self) -> Result<()> {
        let part = &self.bytes[..core::mem::take(&mut self.filled)];
        if part.is_empty() {
            return Ok(());
        }
        if core::mem::take(&mut self.has_data) {
            match codec::pack(part, self.level, true, self.member)? {
                Packed::Zero => {}
                Packed::Member(len) => return self.output.put(&self.member[..len]),
                Packed::Incompressible => {
                    codec::store(part, self.member)?;
                    return self.output.put(self.member);
                }
            }
        }
        match part.len() {
            BLOCK_SIZE => self.output.push(HOLE_BLOCK.as_bytes()),
            len => self.output.put(hole_member(len)?.as_bytes()),
        }
    }
}
