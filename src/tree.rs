//! What takes several calls: whole paths, whole trees, whole files.
//!
//! Promises: a directory is gone through as the very directory it is, so one that is moved away meanwhile, or
//! replaced by a link, leads nowhere else; no recursion, so the depth of a tree does not matter.

use std::ffi::OsString;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use ermfs_core::process::MAX_TRANSFER;
use ermfs_core::{At, Errno, Fs as Engine, InodeKind, InodeRef, Result, gate};
use ermfs_memory::try_vec;

use crate::error::os;
use crate::fs::Fs;
use crate::open_options::OpenOptions;

/// Longest path, and so the room for any link's target.
const PATH_MAX: usize = libc::PATH_MAX as usize;
/// Most links that one path may lead through.
const MAX_SYMLINKS: usize = 40;
/// How many entries are removed at a time.
const BATCH: usize = 64;

/// See [`Fs::copy`].
pub(crate) fn copy(fs: &Fs, from: &Path, to: &Path) -> io::Result<u64> {
    let source = fs.open(from)?;
    let mode = source.metadata()?.mode();
    let target = OpenOptions::new().write(true).create(true).mode(mode & 0o7777).open(fs, to)?;
    let (from, to) = (source.description(), target.description());
    if from.inode() == to.inode() {
        return Err(os(Errno::EINVAL));
    }
    if from.inode().kind() == InodeKind::Directory {
        return Err(os(Errno::EISDIR));
    }
    target.set_len(0)?;
    let (mut read, mut written) = (0, 0);
    while from.copy_range_to(Some(&mut read), to, Some(&mut written), MAX_TRANSFER).map_err(os)? > 0 {}
    to.inode().chmod(mode, to.fs().credentials()).map_err(os)?;
    Ok(written as u64)
}

/// See [`Fs::create_dir_all`].
pub(crate) fn create_dir_all(fs: &Fs, path: &Path) -> io::Result<()> {
    // Upwards until one is there or can be made, then down again.
    let mut missing: Vec<&Path> = Vec::new();
    for directory in path.ancestors().filter(|directory| !directory.as_os_str().is_empty()) {
        match fs.create_dir(directory) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                missing.try_reserve(1).map_err(|_| os(Errno::ENOMEM))?;
                missing.push(directory);
            }
            made => {
                there(fs, directory, made)?;
                break;
            }
        }
    }
    missing.into_iter().rev().try_for_each(|directory| there(fs, directory, fs.create_dir(directory)))
}

/// Whether a directory is there after the try to make it.
fn there(fs: &Fs, directory: &Path, made: io::Result<()>) -> io::Result<()> {
    made.or_else(|error| match fs.metadata(directory) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        _ => Err(error),
    })
}

/// See [`Fs::remove_dir_all`].
pub(crate) fn remove_dir_all(fs: &Fs, path: &Path) -> io::Result<()> {
    fs.at(path, |at, path| {
        let top = Engine::lookup(at, path, false)?;
        match top.kind() {
            InodeKind::Directory => {
                empty(at, top)?;
                Engine::rmdir(at, path)
            }
            InodeKind::Symlink => Engine::unlink(at, path),
            _ => Err(Errno::ENOTDIR),
        }
    })
}

/// Removes everything in `top`.
fn empty(at: At<'_>, top: InodeRef) -> Result<()> {
    // The way down to where the work is, each with its name in the one before.
    let mut way: Vec<(InodeRef, Vec<u8>)> = vec![(top, Vec::new())];
    while let Some((directory, name)) = way.last() {
        gate::breathe();
        let here = At { dir: directory, ..at };
        let entries = some_entries(here)?;
        if entries.is_empty() {
            let [.., (parent, _), _] = way.as_slice() else { break };
            gone(Engine::rmdir(At { dir: parent, ..at }, name))?;
            way.pop();
            continue;
        }
        let mut below = None;
        for (kind, name) in entries {
            let removed = match kind {
                InodeKind::Directory => Engine::rmdir(here, &name),
                _ => Engine::unlink(here, &name),
            };
            if removed == Err(Errno::ENOTEMPTY) {
                match Engine::lookup(here, &name, false) {
                    Ok(inode) => below = Some((inode, name)),
                    Err(error) => gone(Err(error))?,
                }
                break;
            }
            gone(removed)?;
        }
        if let Some(below) = below {
            way.try_reserve(1)?;
            way.push(below);
        }
    }
    Ok(())
}

/// That something is gone is no error, whoever removed it.
fn gone(removed: Result<()>) -> Result<()> {
    if removed == Err(Errno::ENOENT) { Ok(()) } else { removed }
}

/// The first few entries of a directory.
fn some_entries(at: At<'_>) -> Result<Vec<(InodeKind, Vec<u8>)>> {
    let mut entries = try_vec(BATCH)?;
    let mut result = Ok(());
    at.fs.read_dir(at.dir, 0, &mut |entry| {
        if entry.name != b"." && entry.name != b".." {
            match copied(entry.name) {
                Ok(name) => entries.push((entry.kind, name)),
                Err(error) => result = Err(error),
            }
        }
        if entries.len() < BATCH && result.is_ok() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    result.map(|()| entries)
}

/// See [`Fs::read_link`].
pub(crate) fn read_link(fs: &Fs, path: &Path) -> io::Result<PathBuf> {
    fs.at(path, |at, path| {
        let mut target = [0; PATH_MAX];
        let n = Engine::readlink(at, path, &mut target)?;
        copied(&target[..n])
    })
    .map(path_from)
}

/// See [`Fs::canonicalize`].
pub(crate) fn canonicalize(fs: &Fs, path: &Path) -> io::Result<PathBuf> {
    fs.at(path, |at, path| {
        let inode = Engine::lookup(at, path, true)?;
        if inode.kind() == InodeKind::Directory {
            return at.fs.path_of(&inode);
        }
        // It names no directory, so it does not end in a slash: the part behind the last one is its name, or a link's.
        let (mut dir, mut path) = (at.dir.clone(), copied(path)?);
        for _ in 0..=MAX_SYMLINKS {
            let name_at = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
            let (parent, name) = path.split_at(name_at);
            if !parent.is_empty() {
                dir = Engine::lookup(At { dir: &dir, ..at }, parent, true)?;
            }
            let last = Engine::lookup(At { dir: &dir, ..at }, name, false)?;
            match last.symlink_target() {
                Some(target) => path = copied(target)?,
                None => return joined(at.fs.path_of(&dir)?, name),
            }
        }
        Err(Errno::ELOOP)
    })
    .map(path_from)
}

fn joined(mut directory: Vec<u8>, name: &[u8]) -> Result<Vec<u8>> {
    directory.try_reserve(name.len() + 1)?;
    if directory != b"/" {
        directory.push(b'/');
    }
    directory.extend_from_slice(name);
    Ok(directory)
}

/// The bytes on their own.
///
/// # Errors
/// `ENOMEM`.
pub(crate) fn copied(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut copy = try_vec(bytes.len())?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

fn path_from(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}
