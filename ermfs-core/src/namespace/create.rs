//! Calls that open, make and link files.
//!
//! Promises what the module above promises. A new inode is charged and filled before the directory
//! is locked, and goes again if its name is taken by then. Owns nothing.

use core::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use super::entries::{Entries, Room};
use super::inode::{Body, Inode, InodeRef, LINKABLE, Reached, Seed, Special};
use super::name::Name;
use super::walk::{Last, PATH_MAX, Walk, check_path, directory_of};
use super::{At, EXECUTE, InodeKind, READ, WRITE};
use crate::content::Content;
use crate::credentials::Credentials;
use crate::epoch::{self, Guard};
use crate::errno::{Errno, Result};
use crate::failpoint::failpoint;
use crate::fs::Fs;

/// How [`Fs::open`] opens: `open(2)`'s flags as far as they concern names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenHow {
    /// Open for reading.
    pub read: bool,
    /// Open for writing: `EISDIR` on a directory.
    pub write: bool,
    /// `O_CREAT`.
    pub create: bool,
    /// `O_EXCL`; with `tmpfile`: the file can never be linked.
    pub exclusive: bool,
    /// `O_TRUNC`: `EISDIR` on a directory. To truncate is the caller's part, unless the file is new.
    pub truncate: bool,
    /// `O_DIRECTORY`.
    pub directory: bool,
    /// `O_NOFOLLOW`.
    pub nofollow: bool,
    /// `O_TMPFILE`: the path names a directory, the file gets no name.
    pub tmpfile: bool,
    /// `O_NOATIME`: `EPERM` for who is not the owner.
    pub noatime: bool,
    /// `O_PATH`: with `nofollow` a symbolic link itself; `create`, `write` and `truncate` are ignored.
    pub path_only: bool,
    /// Permission bits of a new file, before the umask.
    pub mode: u32,
}

/// What `O_CREAT` found on one walk.
enum Creation {
    Done(InodeRef, bool),
    /// Another thread was faster: walk again.
    Again,
}

impl Fs {
    /// `openat(2)`: the inode, and whether this call created it. One walk, made again only when another thread changed
    /// what it found.
    ///
    /// # Errors
    /// Those of `open(2)` on tmpfs: those of [`Fs::lookup`], `EACCES`, `EPERM`, `EEXIST`, `EISDIR`, `ENOTDIR`, `ELOOP`,
    /// `EINVAL`, `ENOSPC`, `ENOMEM`; `ENXIO` for a special node, which has nothing behind it.
    pub fn open(at: At<'_>, path: &[u8], how: &OpenHow) -> Result<(InodeRef, bool)> {
        if how.tmpfile && !how.path_only {
            let inode = Fs::open_tmpfile(at, path, how)?;
            return Ok((inode, true));
        }
        if how.create && !how.path_only {
            if how.directory {
                return Err(Errno::EINVAL);
            }
            check_path(path)?;
            return Room::attempt(at.fs.space(), |room| {
                loop {
                    if let Creation::Done(inode, created) = create_once(at, path, how, room)? {
                        return Ok((inode, created));
                    }
                }
            });
        }
        check_path(path)?;
        loop {
            let guard = epoch::pin();
            let found = Walk::new(at, &guard).resolve(at.dir.reach(), path, !how.nofollow)?;
            found.get().may_open(how, at.who)?;
            failpoint!("open.resolved");
            if let Some(inode) = found.acquire() {
                return Ok((inode, false));
            }
            at.check_start()?;
        }
    }

    fn open_tmpfile(at: At<'_>, path: &[u8], how: &OpenHow) -> Result<InodeRef> {
        check_path(path)?;
        Room::attempt(at.fs.space(), |room| {
            let guard = epoch::pin();
            let dir = Walk::new(at, &guard).resolve(at.dir.reach(), path, !how.nofollow)?;
            directory_of(dir)?;
            dir.get().require(at.who, WRITE | EXECUTE)?;
            let flags = if how.exclusive { 0 } else { LINKABLE };
            make_file(at, room, dir, how.mode, flags)
        })
    }

    /// `mkdirat(2)`.
    ///
    /// # Errors
    /// Those of [`Fs::lookup`], `EACCES`, `EEXIST`, `ENOSPC`, `ENOMEM`.
    pub fn mkdir(at: At<'_>, path: &[u8], mode: u32) -> Result<()> {
        make_named(at, path, true, |room, dir| {
            let seed = seed(at, dir.get(), InodeKind::Directory, mode, 0);
            InodeRef::make_directory(at.fs.shared(), room, seed, dir)
        })
    }

    /// `mknodat(2)` of a regular file or a special node, as the `S_IFMT` bits of `mode` say (none: a file). `rdev`
    /// counts for devices.
    ///
    /// # Errors
    /// `EPERM` for a directory, `EINVAL` for another kind; those of [`Fs::lookup`], `EACCES`, `EEXIST`, `EPERM` for a device
    /// of who is not privileged (the whiteout, a character device 0, is free to all), `ENOSPC`, `ENOMEM`.
    pub fn mknod(at: At<'_>, path: &[u8], mode: u32, rdev: u64) -> Result<()> {
        let kind = Fs::mknod_kind(mode)?;
        let is_device = matches!(kind, InodeKind::CharDevice | InodeKind::BlockDevice);
        let is_whiteout = kind == InodeKind::CharDevice && rdev == 0;
        let special = Special { kind, rdev: if is_device { rdev } else { 0 } };
        make_named(at, path, false, |room, dir| {
            if is_device && !is_whiteout && !at.who.is_privileged() {
                return Err(Errno::EPERM);
            }
            if kind == InodeKind::File {
                return make_file(at, room, dir, mode, 0);
            }
            let seed = seed(at, dir.get(), kind, mode, 0);
            Inode::create(at.fs.shared(), room, seed, || Ok(Body::Special(special)), 0)
        })
    }

    /// What [`Fs::mknod`] makes of a mode; looked at before the path.
    ///
    /// # Errors
    /// `EPERM` for a directory, `EINVAL` for what it does not make.
    pub(crate) fn mknod_kind(mode: u32) -> Result<InodeKind> {
        match InodeKind::from_mode_bits(mode) {
            None if mode & libc::S_IFMT == 0 => Ok(InodeKind::File),
            None | Some(InodeKind::Symlink) => Err(Errno::EINVAL),
            Some(InodeKind::Directory) => Err(Errno::EPERM),
            Some(kind) => Ok(kind),
        }
    }

    /// `symlinkat(2)`.
    ///
    /// # Errors
    /// `ENOENT` for an empty target, `ENAMETOOLONG` for one above 4095 bytes; those of [`Fs::lookup`], `EACCES`,
    /// `EEXIST`, `ENOSPC`, `ENOMEM`.
    pub fn symlink(target: &[u8], at: At<'_>, path: &[u8]) -> Result<()> {
        match target.len() {
            0 => return Err(Errno::ENOENT),
            PATH_MAX.. => return Err(Errno::ENAMETOOLONG),
            _ => {}
        }
        make_named(at, path, false, |room, dir| {
            let body = || {
                let mut copy = ermfs_memory::try_vec(target.len())?;
                copy.extend_from_slice(target);
                Ok(Body::Symlink(copy.into_boxed_slice()))
            };
            let seed = seed(at, dir.get(), InodeKind::Symlink, 0o777, 0);
            Inode::create(at.fs.shared(), room, seed, body, target.len())
        })
    }

    /// `linkat(2)`; `follow` is `AT_SYMLINK_FOLLOW`.
    ///
    /// # Errors
    /// `EPERM` for a directory, and for a file of somebody else that `at_new.who` may not read and write or that is set-id;
    /// `EACCES`, `EXDEV` between filesystems, `EMLINK`, `EEXIST`, `ENOSPC`, `ENOMEM`; those of
    /// [`Fs::lookup`].
    pub fn link(at_old: At<'_>, old: &[u8], at_new: At<'_>, new: &[u8], follow: bool) -> Result<()> {
        check_path(old)?;
        Room::attempt(at_new.fs.space(), |room| {
            let guard = epoch::pin();
            let found = Walk::new(at_old, &guard).resolve(at_old.dir.reach(), old, follow)?;
            check_path(new)?;
            let mut walk = Walk::new(at_new, &guard);
            let (dir, name) = new_name(&mut walk, at_new, new, false)?;
            if !Arc::ptr_eq(at_old.fs, at_new.fs) {
                return Err(Errno::EXDEV);
            }
            enter_link(dir, name, found, at_new.who, room, &guard)
        })
    }

    /// `linkat(2)` with `AT_EMPTY_PATH`, or through `/proc/self/fd`: a name for an open inode, which must be one of
    /// `at_new`'s filesystem.
    ///
    /// # Errors
    /// `ENOENT` for an inode without a name, but for one of `O_TMPFILE` without `O_EXCL` that never had any; else those of
    /// [`Fs::link`].
    pub fn link_inode(inode: &InodeRef, at_new: At<'_>, new: &[u8]) -> Result<()> {
        check_path(new)?;
        Room::attempt(at_new.fs.space(), |room| {
            let guard = epoch::pin();
            let mut walk = Walk::new(at_new, &guard);
            let (dir, name) = new_name(&mut walk, at_new, new, false)?;
            if !inode.shared.ptr_eq(at_new.fs.shared()) {
                return Err(Errno::EXDEV);
            }
            enter_link(dir, name, inode.reach(), at_new.who, room, &guard)
        })
    }
}

impl Inode {
    /// Refuses what cannot be opened so, in the order in which do_open and may_open do.
    ///
    /// # Errors
    /// `ENOTDIR`, `ELOOP`, `EISDIR`, `EACCES`, `EPERM`, `ENXIO`.
    pub(crate) fn may_open(&self, how: &OpenHow, who: &Credentials) -> Result<()> {
        let kind = self.kind();
        if how.directory && kind != InodeKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        if how.path_only {
            return Ok(());
        }
        match kind {
            InodeKind::Symlink => return Err(Errno::ELOOP),
            InodeKind::Directory if how.write || how.truncate => return Err(Errno::EISDIR),
            _ => {}
        }
        let wanted = if how.read { READ } else { 0 } | if how.write || how.truncate { WRITE } else { 0 };
        self.require(who, wanted)?;
        if how.noatime {
            self.require_owner(who)?;
        }
        match kind {
            InodeKind::File | InodeKind::Directory => Ok(()),
            _ => Err(Errno::ENXIO),
        }
    }
}

fn create_once(at: At<'_>, path: &[u8], how: &OpenHow, room: &Room<'_>) -> Result<Creation> {
    let guard = epoch::pin();
    let mut walk = Walk::new(at, &guard);
    let (mut start, mut path) = (at.dir.reach(), path);
    loop {
        let parent = walk.parent(start, path)?;
        let name = match parent.last {
            Last::Name(name) if !parent.slashes => walk.name(parent.dir, name)?,
            Last::Root | Last::Dot | Last::DotDot if how.exclusive => return Err(Errno::EEXIST),
            _ => return Err(Errno::EISDIR),
        };
        let Some(found) = directory_of(parent.dir)?.entries.lookup(name, &guard) else {
            parent.dir.get().may_create_in(at.who)?;
            let inode = make_file(at, room, parent.dir, how.mode, 0)?;
            return match enter_new(parent.dir, name, inode, room, &guard) {
                Ok(inode) => Ok(Creation::Done(inode, true)),
                Err(Errno::EEXIST) if !how.exclusive => Ok(Creation::Again),
                Err(error) => Err(error),
            };
        };
        if how.exclusive {
            return Err(Errno::EEXIST);
        }
        match (found.get().kind(), found.get().symlink_target()) {
            (InodeKind::Directory, _) => return Err(Errno::EISDIR),
            (_, None) => {
                parent.dir.get().may_meet(at.who, found.get())?;
                found.get().may_open(how, at.who)?;
                return Ok(found.acquire().map_or(Creation::Again, |inode| Creation::Done(inode, false)));
            }
            (_, Some(_)) if how.nofollow => {
                parent.dir.get().may_meet(at.who, found.get())?;
                return Err(Errno::ELOOP);
            }
            (_, Some(target)) => {
                walk.count_link(found.get())?;
                (start, path) = (parent.dir, target);
            }
        }
    }
}

/// Where a name is to be made that must not exist.
fn new_name<'g>(
    walk: &mut Walk<'g>,
    at: At<'g>,
    path: &'g [u8],
    directory: bool,
) -> Result<(Reached<'g>, Name<'g>)> {
    let parent = walk.parent(at.dir.reach(), path)?;
    let Last::Name(name) = parent.last else {
        return Err(Errno::EEXIST);
    };
    if walk.last_of(&parent)?.is_some() {
        return Err(Errno::EEXIST);
    }
    // A removed directory says so before anything is said about what would come into it.
    if parent.slashes && !directory || !parent.dir.get().is_linked() {
        return Err(Errno::ENOENT);
    }
    Ok((parent.dir, walk.name(parent.dir, name)?))
}

/// Makes an inode by `make` and enters it.
fn make_named(
    at: At<'_>,
    path: &[u8],
    directory: bool,
    make: impl Fn(&Room<'_>, Reached<'_>) -> Result<InodeRef>,
) -> Result<()> {
    check_path(path)?;
    Room::attempt(at.fs.space(), |room| {
        let guard = epoch::pin();
        let mut walk = Walk::new(at, &guard);
        let (dir, name) = new_name(&mut walk, at, path, directory)?;
        dir.get().may_create_in(at.who)?;
        let inode = make(room, dir)?;
        enter_new(dir, name, inode, room, &guard).map(drop)
    })
}

fn make_file(at: At<'_>, room: &Room<'_>, dir: Reached<'_>, mode: u32, flags: u32) -> Result<InodeRef> {
    let seed = seed(at, dir.get(), InodeKind::File, mode, flags);
    Inode::create(at.fs.shared(), room, seed, || Ok(Body::File(Content::new(at.fs.space()))), 0)
}

/// Owner and mode of something new in `dir`.
fn seed(at: At<'_>, dir: &Inode, kind: InodeKind, mode: u32, flags: u32) -> Seed {
    const GROUP_RUNS: u32 = libc::S_ISGID | libc::S_IXGRP;
    let who = at.who;
    let inherited = dir.mode.load(Relaxed) & libc::S_ISGID;
    let gid = if inherited != 0 { dir.gid.load(Relaxed) } else { who.gid() };
    let permissions = match kind {
        InodeKind::Directory => mode & 0o1777 & !at.umask | inherited,
        InodeKind::Symlink => mode,
        // By what was asked for, before the umask. Else anybody could have a program that runs for the directory's group.
        _ if inherited != 0 && mode & GROUP_RUNS == GROUP_RUNS && !Inode::keeps_group_id(who, gid) => {
            mode & 0o7777 & !libc::S_ISGID & !at.umask
        }
        _ => mode & 0o7777 & !at.umask,
    };
    Seed { mode: kind.mode_bits() | permissions, uid: who.uid(), gid, flags }
}

/// Gives a new inode its first name, or discards it.
fn enter_new(
    dir: Reached<'_>,
    name: Name<'_>,
    inode: InodeRef,
    room: &Room<'_>,
    guard: &Guard,
) -> Result<InodeRef> {
    let parent = directory_of(dir)?;
    failpoint!("create.made");
    let entered = parent.entries.insert(name, inode.reach(), room, guard, || {
        inode.counts.link(true)?;
        if let Some(directory) = inode.directory() {
            directory.name_hash.store(name.hash, Relaxed);
            parent.subdirectories.fetch_add(1, Relaxed);
        }
        dir.get().note_modified();
        Ok(())
    });
    match entered {
        Ok(()) => {
            dir.get().note_entry(name, None);
            Ok(inode)
        }
        Err(error) => {
            inode.discard(guard);
            Err(error)
        }
    }
}

/// Gives an inode one more name.
fn enter_link(
    dir: Reached<'_>,
    name: Name<'_>,
    found: Reached<'_>,
    who: &Credentials,
    room: &Room<'_>,
    guard: &Guard,
) -> Result<()> {
    let inode = found.get();
    inode.may_link(who)?;
    dir.get().may_create_in(who)?;
    if found.is_directory() {
        return Err(Errno::EPERM);
    }
    directory_of(dir)?.entries.insert(name, found, room, guard, || {
        inode.counts.link(inode.flags.load(Relaxed) & LINKABLE != 0)?;
        inode.flags.fetch_and(!LINKABLE, Relaxed);
        inode.note_change();
        dir.get().note_modified();
        Ok(())
    })?;
    dir.get().note_entry(name, Some(inode));
    Ok(())
}
