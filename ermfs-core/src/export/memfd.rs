//! A file as a memfd of the same bytes, size and holes.
//!
//! Promises: a private one belongs to its holder, who may write and seal it. A sealed one can be
//! changed by nobody; as long as the file does not change, all sealed exports of it that are alike in
//! being executable share one inode and its memory. Packed blocks are inflated one at a time and
//! leave no inflated copies behind.

use std::os::fd::{AsFd, OwnedFd};

use ermfs_memory::{Kind, Purpose};

use super::ExportFlags;
use super::kernel::{self, retry};
use super::output::Output;
use crate::content::{Content, Run, Scratch, Snapshot};
use crate::descriptor::Descriptor;
use crate::errno::Result;
use crate::inject::syscall;

/// A descriptor of the file's bytes as they are now, offset 0, named after the end of `name`.
///
/// Without `SEALED` it is a memfd of the caller's own, read-write. With it, it is read-only and a
/// description of its own of a memfd that may be shared; where no /proc is mounted, it is a sealed
/// memfd of the caller's own, opened read-write. What is kept for sharing is charged to the budget; it
/// is let go when the file changes or the budget is needed, and not kept at all where there is no room.
///
/// Unless `NOEXEC` is given it has mode 0777 and can be executed, except where the machine forbids that
/// (see [`kernel::create`]).
///
/// # Errors
/// `EIO` for a corrupt block; `ENOSPC`, `ENOMEM`; `EMFILE`, `ENFILE`, `EFBIG`, and what else the kernel
/// answers to making and writing a memfd.
pub(crate) fn export_memfd(content: &Content, name: &[u8], flags: ExportFlags) -> Result<OwnedFd> {
    let fd = match flags.contains(ExportFlags::SEALED) {
        true => sealed(content, name, flags)?,
        false => kernel::hand_out(copy(&content.snapshot()?, name, flags)?, flags)?,
    };
    Ok(fd.into_owned())
}

fn sealed(content: &Content, name: &[u8], flags: ExportFlags) -> Result<Descriptor> {
    let executable = !flags.contains(ExportFlags::NOEXEC);
    let kept = content.with_export(|kept| {
        kernel::is_as_executable_as(kept, executable).then(|| kernel::reopen(kept, flags).ok()).flatten()
    });
    if let Some(shared) = kept.flatten() {
        return Ok(shared);
    }
    let snapshot = content.snapshot()?;
    let fd = copy(&snapshot, name, flags)?;
    kernel::seal(&fd)?;
    match kernel::reopen(fd.as_fd(), flags) {
        Ok(shared) => {
            keep(content, snapshot.version(), fd);
            Ok(shared)
        }
        // Without /proc nobody can share it.
        Err(_) => kernel::hand_out(fd, flags),
    }
}

/// Keeps a sealed memfd for later exports if the budget has room for it as it is: nothing else is let
/// go for the sake of what can be made again.
fn keep(content: &Content, version: u64, fd: Descriptor) {
    let Ok(stat) = syscall!("memfd.stat", NOMEM, rustix::fs::fstat(&fd)) else { return };
    // Unsigned on some machines' kernels, never negative.
    let bytes = stat.st_blocks as u64 * 512;
    if content.space().budget().charge(Kind::Exported, bytes, Purpose::Ordinary).is_ok() {
        content.keep_export(version, fd, bytes);
    }
}

fn copy(snapshot: &Snapshot, name: &[u8], flags: ExportFlags) -> Result<Descriptor> {
    let fd = kernel::create(name, !flags.contains(ExportFlags::NOEXEC))?;
    retry(|| syscall!("memfd.truncate", NOSPC, rustix::fs::ftruncate(&fd, snapshot.size())))?;
    let mut scratch = Scratch::take()?;
    let mut output = Output::new(fd.as_fd());
    snapshot.for_each_run(|run| match run {
        Run::Hole(bytes) => output.skip(bytes),
        // SAFETY: a run of this snapshot.
        Run::Plain(bytes) => unsafe { output.push_run(snapshot, bytes) },
        Run::Member(block, _) => output.put(block.inflate_into_scratch(&mut scratch)?),
    })?;
    output.flush()?;
    Ok(fd)
}
