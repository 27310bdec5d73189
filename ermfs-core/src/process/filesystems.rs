//! The default filesystem, the working directory, and where a path starts.
//!
//! Promises: the default filesystem is made by the first call that needs it, and stays; the working
//! directory keeps the filesystem it lies in alive. Owns both. A path that names neither costs no lock
//! of the process; a relative one takes, in locked mode, the working directory's slot for a few
//! instructions, and nothing while the working directory is still the root.

use std::sync::{Arc, OnceLock};

use ermfs_memory::Counted;
use ermfs_memory::sync::Mutex;

use super::calls::files::current_umask as umask;
use super::open_file::{OpenFile, OpenFileRef};
use super::place::Place;
use super::reclaim::ByEpoch;
use super::{AT_FDCWD, Operation, fd_table, working_directory};
use crate::credentials::Credentials;
use crate::errno::{Errno, Result};
use crate::fs::{Config, Fs, Mode};
use crate::namespace::{At, EXECUTE, InodeKind, InodeRef};

/// Longest path, the NUL that C needs included.
const PATH_MAX: usize = libc::PATH_MAX as usize;

static DEFAULT: OnceLock<Place> = OnceLock::new();
/// What the default filesystem is going to be made with; also held while it is made.
static DEFAULT_CONFIG: Mutex<Option<Config>> = Mutex::new(None);

/// Remembers what the default filesystem is to be made with.
///
/// # Errors
/// `EBUSY` once it was made.
pub(super) fn configure_default(config: &Config) -> Result<()> {
    let mut pending = DEFAULT_CONFIG.lock();
    if DEFAULT.get().is_some() {
        return Err(Errno::EBUSY);
    }
    *pending = Some(config.clone());
    Ok(())
}

/// Whether the default filesystem is of this mode, or will be.
pub(super) fn default_is(mode: Mode) -> bool {
    match DEFAULT.get() {
        Some(place) => place.fs().space().mode() == mode,
        None => DEFAULT_CONFIG.lock().as_ref().is_none_or(|config| config.mode == mode),
    }
}

/// The default filesystem, if there is one, and else what it will be made with, changed to `mode`. No other thread is inside
/// the library.
///
/// # Errors
/// `EBUSY` while anything of it is open; `ENOSPC`, `ENOMEM`: nothing has changed.
pub(super) fn switch_default(mode: Mode) -> Result<()> {
    match DEFAULT.get() {
        Some(place) if place.fs().open_descriptions() > 0 => Err(Errno::EBUSY),
        // SAFETY: no other thread is inside.
        Some(place) => unsafe { place.fs().set_mode(mode) },
        None => {
            if let Some(config) = &mut *DEFAULT_CONFIG.lock() {
                config.mode = mode;
            }
            Ok(())
        }
    }
}

/// The default filesystem, made if this is its first use.
///
/// # Errors
/// Those of [`Fs::new`].
pub fn default_fs() -> Result<Arc<Fs>> {
    let _inside = crate::gate::enter();
    Ok(Arc::clone(default_place()?.fs()))
}

/// The default filesystem's root.
#[inline]
fn default_place() -> Result<&'static Place> {
    match DEFAULT.get() {
        Some(place) => Ok(place),
        None => make_default(),
    }
}

#[cold]
fn make_default() -> Result<&'static Place> {
    let mut pending = DEFAULT_CONFIG.lock();
    if DEFAULT.get().is_none() {
        let fs = Fs::new(pending.as_ref().unwrap_or(&Config::default()))?;
        *pending = None;
        // Made under the lock, so nobody else has set it.
        let _ = DEFAULT.set(Place::of_default(fs));
    }
    DEFAULT.get().ok_or(Errno::ENOMEM)
}

/// Whether it is the default filesystem.
#[inline]
pub(super) fn is_default(fs: &Arc<Fs>) -> bool {
    DEFAULT.get().is_some_and(|place| Arc::ptr_eq(place.fs(), fs))
}

/// Where a path starts, or what a descriptor names, kept alive for the call.
pub(super) enum Start {
    Default(&'static Place),
    WorkingDirectory(Counted<Place, ByEpoch>),
    File(OpenFileRef),
}

impl Start {
    /// What `dirfd` means for `path`; for an absolute path only its filesystem counts.
    ///
    /// # Errors
    /// `ENAMETOOLONG`; `EBADF`; those of making the default filesystem.
    #[inline]
    pub(super) fn new(dirfd: i32, path: &[u8]) -> Result<Start> {
        if path.len() >= PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if dirfd != AT_FDCWD {
            return Start::of_descriptor(dirfd);
        }
        if path.first() == Some(&b'/') {
            return Ok(Start::Default(default_place()?));
        }
        Start::working_directory()
    }

    /// A call of its own, or the common start would be one.
    #[inline(never)]
    fn of_descriptor(dirfd: i32) -> Result<Start> {
        Ok(Start::File(fd_table::lookup(dirfd)?))
    }

    /// The working directory.
    ///
    /// # Errors
    /// Those of making the default filesystem.
    #[inline]
    pub(super) fn working_directory() -> Result<Start> {
        match working_directory::get() {
            Some(place) => Ok(Start::WorkingDirectory(place)),
            None => Ok(Start::Default(default_place()?)),
        }
    }

    #[inline]
    fn place(&self) -> &Place {
        match self {
            Start::Default(place) => place,
            Start::WorkingDirectory(place) => place,
            Start::File(file) => file.place(),
        }
    }

    #[inline]
    pub(super) fn fs(&self) -> &Arc<Fs> {
        self.place().fs()
    }

    /// The directory, or, for a descriptor, whatever it names.
    #[inline]
    pub(super) fn inode(&self) -> &InodeRef {
        self.place().inode()
    }

    /// As the start of the walk along `path`.
    ///
    /// # Errors
    /// `ENOENT` for the empty path, `ENOTDIR` when a relative path would start at what is no directory.
    #[inline]
    pub(super) fn at(&self, path: &[u8]) -> Result<At<'_>> {
        self.place().at(path)
    }
}

impl Place {
    /// See [`Start::at`].
    #[inline]
    fn at(&self, path: &[u8]) -> Result<At<'_>> {
        let first = *path.first().ok_or(Errno::ENOENT)?;
        let dir = self.inode();
        if first != b'/' && dir.kind() != InodeKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        Ok(At { fs: self.fs(), dir, who: self.fs().credentials(), umask: umask() })
    }
}

/// Runs `work` where the walk along `path` starts.
///
/// # Errors
/// Those of [`Start::new`] and [`Start::at`], `EIO` for a poisoned filesystem, and `work`'s.
#[inline]
pub(super) fn with_start<R>(dirfd: i32, path: &[u8], work: impl FnOnce(At<'_>) -> Result<R>) -> Result<R> {
    let _inside = crate::gate::enter();
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    let start = Start::new(dirfd, path)?;
    let _operation = Operation::begin(start.fs())?;
    work(start.at(path)?)
}

/// As [`with_start`], for `work` that reads only: it charges no memory and does not wait, so where lookups only pin, the
/// start is pinned instead of counted. Where that turns out to have ended meanwhile, it is done again with a counted one.
///
/// # Errors
/// As [`with_start`].
#[inline]
pub(super) fn with_start_briefly<R>(
    dirfd: i32,
    path: &[u8],
    work: impl Fn(At<'_>) -> Result<R>,
) -> Result<R> {
    if pins_start(dirfd, path) { with_pinned_start(dirfd, path, work) } else { with_start(dirfd, path, work) }
}

/// Whether [`with_pinned_start`] is of use: where lookups pin, unless the path needs no start that is counted, or is none.
#[inline]
pub(super) fn pins_start(dirfd: i32, path: &[u8]) -> bool {
    let counts_nothing = dirfd == AT_FDCWD && path.first() == Some(&b'/');
    !counts_nothing && (1..PATH_MAX).contains(&path.len()) && fd_table::mode() == Mode::Lockless
}

/// See [`with_start_briefly`].
///
/// # Errors
/// As [`with_start`].
#[inline(never)]
pub(super) fn with_pinned_start<R, W>(dirfd: i32, path: &[u8], work: W) -> Result<R>
where
    W: Fn(At<'_>) -> Result<R>,
{
    let _inside = crate::gate::enter();
    let start = |place: &Place| {
        let _operation = Operation::begin(place.fs())?;
        work(place.at(path)?)
    };
    let briefly = |place: &Place| place.is_in_default().then(|| start(place));
    if dirfd != AT_FDCWD {
        let briefly = |file: &OpenFile, (): &mut ()| briefly(file.place());
        return fd_table::with(dirfd, &mut (), briefly, |file, ()| start(file.place()));
    }
    match working_directory::with(briefly, start) {
        Some(answer) => answer,
        None => start(default_place()?),
    }
}

/// What stands for an inode in a call: how to come from the `dirfd` and the path to it.
#[derive(Clone, Copy)]
pub(super) struct Target {
    /// A symlink at the end is followed.
    pub(super) follow: bool,
    /// The empty path means what `dirfd` names (`AT_EMPTY_PATH`).
    pub(super) empty_path: bool,
}

impl Target {
    /// What Linux's `AT_SYMLINK_NOFOLLOW` and `AT_EMPTY_PATH` in `flags` ask for.
    pub(super) fn from_flags(flags: i32) -> Target {
        Target {
            follow: flags & libc::AT_SYMLINK_NOFOLLOW == 0,
            empty_path: flags & libc::AT_EMPTY_PATH != 0,
        }
    }
}

/// Runs `work` on the inode that `dirfd` and `path` name, for the process's effective ids.
///
/// # Errors
/// As [`with_start`], and the walk's.
#[inline]
pub(super) fn with_inode<R>(
    dirfd: i32,
    path: &[u8],
    target: Target,
    work: impl FnOnce(&Arc<Fs>, &InodeRef) -> Result<R>,
) -> Result<R> {
    with_inode_as(Fs::credentials, dirfd, path, target, work)
}

/// As [`with_inode`], the path being walked for whom `who` says.
///
/// # Errors
/// As [`with_inode`].
#[inline]
pub(super) fn with_inode_as<R>(
    who: impl FnOnce(&Fs) -> &'static Credentials,
    dirfd: i32,
    path: &[u8],
    target: Target,
    work: impl FnOnce(&Arc<Fs>, &InodeRef) -> Result<R>,
) -> Result<R> {
    let _inside = crate::gate::enter();
    if path.is_empty() {
        if !target.empty_path {
            return Err(Errno::ENOENT);
        }
        let start = Start::new(dirfd, path)?;
        let _operation = Operation::begin(start.fs())?;
        return work(start.fs(), start.inode());
    }
    let start = Start::new(dirfd, path)?;
    let _operation = Operation::begin(start.fs())?;
    let at = At { who: who(start.fs()), ..start.at(path)? };
    let inode = Fs::lookup(at, path, target.follow)?;
    work(start.fs(), &inode)
}

/// Makes `dir` the working directory.
///
/// # Errors
/// `ENOTDIR`, `EACCES`, `ENOMEM`.
pub(super) fn set_working_directory(fs: &Arc<Fs>, dir: &InodeRef) -> Result<()> {
    if dir.kind() != InodeKind::Directory {
        return Err(Errno::ENOTDIR);
    }
    dir.require(fs.credentials(), EXECUTE)?;
    let place = Counted::try_new_reclaimed(Place::new(fs, dir.clone()));
    let place = place.map_err(|(error, place)| {
        place.end_unshared();
        Errno::from(error)
    })?;
    drop(working_directory::replace(Some(place)));
    Ok(())
}
