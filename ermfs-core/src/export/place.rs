//! Giving an imported file its name.
//!
//! Promises: the name stands for what it stood for before until the file is complete, and for the
//! complete file from then on. The path is walked once, before the first byte is read. Owns the new
//! inode, which has no name and goes by itself when anything fails.

use std::io::{Cursor, Write};

use crate::content::Content;
use crate::errno::{Errno, Result};
use crate::fs::Fs;
use crate::inject::allocation;
use crate::namespace::{At, InodeKind, InodeRef, OpenHow, RenameFlags, TimeSet};

/// How many symlinks may stand for the file, one behind the other.
const MOST_SYMLINKS: usize = 40;
/// How many names are tried where an old file has to be replaced.
const MOST_NAMES: u32 = 100;

/// Makes a file of mode `mode` (the umask applied) that `fill` fills, and lets `path` name it. What
/// `path` named before is replaced as rename(2) would; a symlink is followed as open(2) with `O_CREAT`
/// would, so that what it points to is made or replaced. Where a file is replaced, the new one shows
/// for an instant as `.ermfs-import-N` beside it.
///
/// The file is packed by the policy before it takes its name. The inode comes back when it wants to be
/// queued for the background packer.
///
/// # Errors
/// `EISDIR` for a directory or a trailing slash, `ELOOP`, and those of walking the path and of making
/// and linking a file; those of `fill`. Nothing has changed then.
pub(crate) fn import(
    at: At<'_>,
    path: &[u8],
    mode: u32,
    fill: impl FnOnce(&Content) -> Result<()>,
) -> Result<Option<InodeRef>> {
    let place = Place::find(at, path)?;
    let how = OpenHow { write: true, tmpfile: true, mode, ..OpenHow::default() };
    let (inode, _) = Fs::open(place.at(at), b".", &how)?;
    let content = inode.content().ok_or(Errno::EIO)?;
    fill(content)?;
    // As a program that wrote it and closes it.
    content.open_writer();
    let wants_packing = content.close_writer(true);
    inode.set_times(TimeSet::Now, TimeSet::Now, at.who)?;
    place.name(at, &inode)?;
    Ok(wants_packing.then_some(inode))
}

/// A name that is free, or one of something that a rename replaces.
struct Place {
    dir: InodeRef,
    name: Vec<u8>,
}

impl Place {
    fn find(at: At<'_>, path: &[u8]) -> Result<Place> {
        let mut dir = at.dir.clone();
        let mut link: Option<InodeRef> = None;
        for _ in 0..=MOST_SYMLINKS {
            let path = link.as_ref().and_then(|link| link.symlink_target()).unwrap_or(path);
            let (parent, name) = split(path)?;
            if !parent.is_empty() {
                dir = Fs::lookup(At { dir: &dir, ..at }, parent, true)?;
            }
            let name = name.ok_or(Errno::EISDIR)?;
            let found = match Fs::lookup(At { dir: &dir, ..at }, name, false) {
                Ok(found) => found,
                Err(Errno::ENOENT) => return Place::new(dir, name),
                Err(error) => return Err(error),
            };
            match found.kind() {
                InodeKind::Directory => return Err(Errno::EISDIR),
                InodeKind::Symlink => link = Some(found),
                _ => return Place::new(dir, name),
            }
        }
        Err(Errno::ELOOP)
    }

    fn new(dir: InodeRef, name: &[u8]) -> Result<Place> {
        let mut owned = Vec::new();
        allocation!("path")?;
        owned.try_reserve_exact(name.len())?;
        owned.extend_from_slice(name);
        Ok(Place { dir, name: owned })
    }

    fn at<'a>(&'a self, start: At<'a>) -> At<'a> {
        At { dir: &self.dir, ..start }
    }

    /// Lets the name stand for `inode`.
    fn name(&self, at: At<'_>, inode: &InodeRef) -> Result<()> {
        let here = self.at(at);
        match Fs::link_inode(inode, here, &self.name) {
            Err(Errno::EEXIST) => self.replace(here, inode),
            linked => linked,
        }
    }

    fn replace(&self, here: At<'_>, inode: &InodeRef) -> Result<()> {
        for attempt in 0..MOST_NAMES {
            let mut name = Cursor::new([0; 64]);
            write!(name, ".ermfs-import-{}", inode.ino()).map_err(|_| Errno::ENAMETOOLONG)?;
            if attempt > 0 {
                write!(name, "-{attempt}").map_err(|_| Errno::ENAMETOOLONG)?;
            }
            let len = name.position() as usize;
            let name = &name.get_ref()[..len];
            match Fs::link_inode(inode, here, name) {
                Err(Errno::EEXIST) => continue,
                linked => linked?,
            }
            return Fs::rename(here, name, here, &self.name, RenameFlags::default()).inspect_err(|_| {
                // The call fails with the rename's error, whatever became of the other name.
                let _ = Fs::unlink(here, name);
            });
        }
        Err(Errno::EEXIST)
    }
}

/// The directory's path, empty for where the walk starts, and the name in it, or `None` where the path
/// can only mean a directory.
fn split(path: &[u8]) -> Result<(&[u8], Option<&[u8]>)> {
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
    let start = path[..end].iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let (parent, name) = (&path[..start], &path[start..end]);
    match name {
        _ if path.is_empty() => Err(Errno::ENOENT),
        // All slashes: the root.
        b"" => Ok((path, None)),
        b"." | b".." => Ok((parent, None)),
        _ if end < path.len() => Ok((parent, None)),
        _ => Ok((parent, Some(name))),
    }
}
