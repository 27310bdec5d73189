//! The open file description: what `open` makes and `dup` shares.
//!
//! Promises: its offset moves by exactly what each `read` and `write` transferred, in one step with
//! the transfer; its file stays until the last reference to it is dropped, and only then counts as
//! closed, so a call under way on another thread finishes first. It ends in the thread that drops that
//! reference, at once; its memory may stay for readers that only pinned. Owns a reference to its inode and
//! one to its filesystem. Knows no descriptor numbers; the calls and the Rust face both work through
//! it.
//!
//! `transfer` moves bytes and the offset, `space` sizes and blocks, `locks` sets advisory locks, `brief` has what can be
//! done without a reference.

mod brief;
mod locks;
mod space;
mod transfer;

use core::ops::ControlFlow;
use std::sync::Arc;

use ermfs_memory::sync::Mutex;
use ermfs_memory::sync::atomic::{
    AtomicI32,
    Ordering::{AcqRel, Acquire, Relaxed},
};
use ermfs_memory::{Counted, Ownerless};

use super::place::Place;
use super::reclaim::{ByEpoch, Ends};
use super::{O_ANYFD, Operation, packer, recycle};
use crate::content::Content;
use crate::credentials::Credentials;
use crate::errno::{Errno, Result};
use crate::failpoint::failpoint;
use crate::fs::Fs;
use crate::namespace::{At, DirEntry, InodeKind, InodeRef, Metadata, OpenHow};

pub use locks::LockCommand;
pub(super) use locks::flock_operation;
pub use transfer::MAX_TRANSFER;

/// `O_SYNC` without the `O_DSYNC` that it contains.
const O_SYNC_ALONE: i32 = libc::O_SYNC & !libc::O_DSYNC;
/// `O_TMPFILE` without the `O_DIRECTORY` that it contains.
const O_TMPFILE_ALONE: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;
/// What a 64-bit kernel adds to every open and `F_GETFL` therefore shows; the C library calls it 0.
#[cfg(not(any(target_arch = "aarch64", target_arch = "powerpc64")))]
const O_LARGEFILE: i32 = 0o100000;
/// What a 64-bit kernel adds to every open and `F_GETFL` therefore shows; the C library calls it 0.
#[cfg(target_arch = "aarch64")]
const O_LARGEFILE: i32 = 0o400000;
/// What a 64-bit kernel adds to every open and `F_GETFL` therefore shows; the C library calls it 0.
#[cfg(target_arch = "powerpc64")]
const O_LARGEFILE: i32 = 0o200000;

/// The flags that `open` knows; it ignores all others.
const KNOWN_FLAGS: i32 = libc::O_ACCMODE
    | libc::O_CREAT
    | libc::O_EXCL
    | libc::O_NOCTTY
    | libc::O_TRUNC
    | libc::O_APPEND
    | libc::O_NONBLOCK
    | libc::O_SYNC
    | libc::O_ASYNC
    | libc::O_DIRECT
    | O_LARGEFILE
    | libc::O_DIRECTORY
    | libc::O_NOFOLLOW
    | libc::O_NOATIME
    | libc::O_CLOEXEC
    | libc::O_PATH
    | O_TMPFILE_ALONE;
const _: () = assert!(KNOWN_FLAGS & O_ANYFD == 0);
/// All that counts beside `O_PATH`.
const PATH_FLAGS: i32 = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
/// What `open` acts on and `F_GETFL` does not show.
const OPENING_FLAGS: i32 = libc::O_CREAT | libc::O_EXCL | libc::O_NOCTTY | libc::O_TRUNC | libc::O_CLOEXEC;
/// What `F_SETFL` can change.
const SETTABLE_FLAGS: i32 = libc::O_APPEND | libc::O_NONBLOCK | libc::O_DIRECT | libc::O_NOATIME;

/// A counted reference to an open file description, which ends with its last one.
pub type OpenFileRef = Counted<OpenFile, ByEpoch>;

/// An open file description. `Send` and `Sync`; every method may be called from any thread.
pub struct OpenFile {
    place: Place,
    /// The filesystem's number, for who may not look at that.
    device: u64,
    /// As `F_GETFL` shows them; the access mode and `O_PATH` never change.
    flags: AtomicI32,
    /// Bytes in a file, a cookie in a directory. Locked for the whole of a call that moves it.
    offset: Mutex<u64>,
}

impl OpenFile {
    /// Opens `path` as `open(2)` does, the umask of `at` being applied to `mode`.
    ///
    /// # Errors
    /// `EINVAL` for flags that exclude each other, and those of the walk, of creating and truncating
    /// (see open(2)).
    pub fn open(at: At<'_>, path: &[u8], flags: i32, mode: u32) -> Result<OpenFileRef> {
        let flags = checked_flags(flags)?;
        let _operation = Operation::begin(at.fs)?;
        OpenFile::open_checked(at, path, flags, mode)
    }

    /// As [`OpenFile::open`], with what [`checked_flags`] made of the flags, in an operation of the caller's on the filesystem.
    ///
    /// # Errors
    /// As [`OpenFile::open`], but for those of the flags.
    #[inline]
    pub(super) fn open_checked(at: At<'_>, path: &[u8], flags: i32, mode: u32) -> Result<OpenFileRef> {
        let how = how_of(flags, mode);
        // Before anything is changed that this could not take back.
        recycle::reserve()?;
        let (inode, created) = Fs::open(at, path, &how)?;
        let file = OpenFile::new(at.fs, inode, flags & !OPENING_FLAGS)?;
        if how.truncate && !created {
            file.truncate_at_open(at.who)?;
        }
        Ok(file)
    }

    /// Opens an inode that the caller holds, as `open(2)` of a path that leads to it would: for who knows inodes instead
    /// of paths, as a mount does.
    ///
    /// # Errors
    /// `EINVAL` for flags that exclude each other, `EEXIST` when they ask for a new file, and those of `open(2)` for what
    /// is there already.
    pub fn open_inode(fs: &Arc<Fs>, inode: &InodeRef, flags: i32, who: &Credentials) -> Result<OpenFileRef> {
        let flags = checked_flags(flags)?;
        let _operation = Operation::begin(fs)?;
        let how = how_of(flags, 0);
        if how.create && how.exclusive || how.tmpfile {
            return Err(Errno::EEXIST);
        }
        if how.create && inode.kind() == InodeKind::Directory {
            return Err(Errno::EISDIR);
        }
        inode.may_open(&how, who)?;
        let file = OpenFile::new(fs, inode.clone(), flags & !OPENING_FLAGS)?;
        if how.truncate {
            file.truncate_at_open(who)?;
        }
        Ok(file)
    }

    fn truncate_at_open(&self, who: &Credentials) -> Result<()> {
        if let Some(content) = self.inode().content() {
            content.truncate(0)?;
            self.inode().note_write(who);
        }
        Ok(())
    }

    /// A description of a directory, for reading.
    ///
    /// # Errors
    /// `ENOMEM`, `EIO` for a poisoned filesystem.
    pub fn of_directory(fs: &Arc<Fs>, dir: &InodeRef) -> Result<OpenFileRef> {
        let _operation = Operation::begin(fs)?;
        OpenFile::new(fs, dir.clone(), libc::O_RDONLY | libc::O_DIRECTORY | O_LARGEFILE)
    }

    fn new(fs: &Arc<Fs>, inode: InodeRef, flags: i32) -> Result<OpenFileRef> {
        let room = recycle::room()?;
        fs.description_opened();
        failpoint!("description.made");
        let file = OpenFile {
            place: Place::new(fs, inode),
            device: fs.device(),
            flags: AtomicI32::new(flags),
            offset: Mutex::new(0),
        };
        if file.is_writable()
            && let Some(content) = file.inode().content()
        {
            content.open_writer();
        }
        Ok(room.fill(file))
    }

    /// The file, directory or, with `O_PATH`, symlink that it is open on.
    #[inline]
    pub fn inode(&self) -> &InodeRef {
        self.place.inode()
    }

    /// The filesystem it lies in.
    #[inline]
    pub fn fs(&self) -> &Arc<Fs> {
        self.place.fs()
    }

    #[inline]
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// `st_dev`: the filesystem's number.
    #[inline]
    pub fn device(&self) -> u64 {
        self.device
    }

    /// Access mode and status flags, as `fcntl(F_GETFL)` answers them.
    #[inline]
    pub fn flags(&self) -> i32 {
        self.flags.load(Relaxed)
    }

    /// Changes those of the status flags that `fcntl(F_SETFL)` can change, and ignores the rest.
    ///
    /// # Errors
    /// `EBADF` for an `O_PATH` description, `EPERM` for `O_NOATIME` of who is not the owner.
    pub fn set_flags(&self, flags: i32) -> Result<()> {
        self.usable()?;
        let without_atime = flags & !self.flags() & libc::O_NOATIME != 0;
        if without_atime && !self.inode().is_owned_by(self.fs().credentials()) {
            return Err(Errno::EPERM);
        }
        let change = |old| Some(old & !SETTABLE_FLAGS | flags & SETTABLE_FLAGS);
        // The update never declines, so there is no error to look at.
        let _ = self.flags.fetch_update(AcqRel, Acquire, change);
        Ok(())
    }

    /// What `fstat(2)` answers; `O_PATH` descriptions have it too.
    ///
    /// # Errors
    /// `EIO` for a poisoned filesystem.
    #[inline(always)]
    pub fn stat(&self) -> Result<Metadata> {
        let _operation = Operation::on(self.inode().space())?;
        Ok(self.inode().stat())
    }

    /// Gives `emit` the entries of a directory from the offset on, until it breaks or the directory
    /// ends. An entry that `emit` breaks at is not taken: it comes first next time. The offset is locked
    /// meanwhile, and so is the directory: `emit` calls nothing of the filesystem.
    ///
    /// # Errors
    /// `EBADF` for an `O_PATH` description, `ENOTDIR`, `ENOENT` for a removed directory.
    pub fn read_directory(&self, emit: &mut dyn FnMut(&DirEntry<'_>) -> ControlFlow<()>) -> Result<()> {
        let _operation = Operation::begin(self.fs())?;
        self.usable()?;
        if self.inode().kind() != InodeKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        let mut offset = self.offset.lock();
        if !self.inode().is_linked() {
            return Err(Errno::ENOENT);
        }
        let mut next = *offset;
        self.fs().read_dir(self.inode(), next, &mut |entry| {
            let answer = emit(&entry);
            if answer.is_continue() {
                next = entry.next_cookie;
            }
            answer
        })?;
        *offset = next;
        self.note_read();
        Ok(())
    }

    /// Whether it was opened for reading.
    #[inline]
    pub fn is_readable(&self) -> bool {
        let flags = self.flags();
        flags & libc::O_PATH == 0 && matches!(flags & libc::O_ACCMODE, libc::O_RDONLY | libc::O_RDWR)
    }

    /// Whether it was opened for writing.
    #[inline]
    pub fn is_writable(&self) -> bool {
        let flags = self.flags();
        flags & libc::O_PATH == 0 && matches!(flags & libc::O_ACCMODE, libc::O_WRONLY | libc::O_RDWR)
    }

    /// # Errors
    /// `EBADF` for an `O_PATH` description, which no call but a few on names and status accepts.
    #[inline]
    pub fn usable(&self) -> Result<()> {
        if self.flags() & libc::O_PATH != 0 { Err(Errno::EBADF) } else { Ok(()) }
    }

    /// # Errors
    /// `EISDIR` for what has no bytes. A symlink is no case of its own: it opens with `O_PATH` only.
    #[inline]
    fn content(&self) -> Result<&Content> {
        self.inode().content().ok_or(Errno::EISDIR)
    }

    #[inline]
    fn note_read(&self) {
        if self.flags() & libc::O_NOATIME == 0 {
            self.inode().note_read();
        }
    }
}

impl Ends for OpenFile {
    #[inline]
    fn free(ended: Ownerless<OpenFile>) {
        recycle::put(ended);
    }

    fn end(&self) {
        /// Lets go of the place even if packing unwinds.
        struct Left<'a>(&'a Place);
        impl Drop for Left<'_> {
            fn drop(&mut self) {
                self.0.fs().description_closed();
                // SAFETY: without a reference nobody ends the description again, and who still looks on only pinned
                // (`brief`).
                unsafe { self.0.end() };
            }
        }
        failpoint!("description.ended");
        let _left = Left(&self.place);
        // Also in a poisoned filesystem: whoever waits for them wakes up and sees.
        self.inode().unlock_all(self.lock_owner());
        if self.is_writable()
            && let Some(content) = self.inode().content()
            // In a poisoned filesystem nothing is worked on any more.
            && let Ok(_operation) = Operation::begin(self.fs())
            && self.inode().packing(content, || content.close_writer(self.inode().is_linked()))
        {
            packer::queue(self.fs(), self.inode());
        }
    }
}

/// What checked flags ask of the namespace.
fn how_of(flags: i32, mode: u32) -> OpenHow {
    let has = |flag| flags & flag == flag;
    let access = flags & libc::O_ACCMODE;
    let creating = flags & (libc::O_CREAT | O_TMPFILE_ALONE) != 0;
    OpenHow {
        // Access mode 3 asks for both permissions and gives a description that can do neither.
        read: access != libc::O_WRONLY && !has(libc::O_PATH),
        write: access != libc::O_RDONLY,
        create: has(libc::O_CREAT),
        exclusive: has(libc::O_EXCL),
        truncate: has(libc::O_TRUNC),
        directory: has(libc::O_DIRECTORY),
        nofollow: has(libc::O_NOFOLLOW),
        noatime: has(libc::O_NOATIME),
        tmpfile: has(O_TMPFILE_ALONE),
        path_only: has(libc::O_PATH),
        mode: if creating { mode & 0o7777 } else { 0 },
    }
}

/// What is left of `open`'s flags when those it ignores are gone.
///
/// # Errors
/// `EINVAL` as open(2) has it: `O_CREAT` with `O_DIRECTORY`, `O_TMPFILE` without `O_DIRECTORY` or
/// write access.
pub(super) fn checked_flags(flags: i32) -> Result<i32> {
    let flags = flags & KNOWN_FLAGS;
    if flags & libc::O_PATH != 0 {
        return Ok(flags & PATH_FLAGS);
    }
    let has = |flag| flags & flag == flag;
    if has(libc::O_CREAT | libc::O_DIRECTORY) {
        return Err(Errno::EINVAL);
    }
    if has(O_TMPFILE_ALONE) && (!has(libc::O_DIRECTORY) || flags & libc::O_ACCMODE == libc::O_RDONLY) {
        return Err(Errno::EINVAL);
    }
    let implied = if has(O_SYNC_ALONE) { libc::O_DSYNC } else { 0 };
    Ok(flags | implied | O_LARGEFILE)
}
