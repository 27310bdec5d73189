//! What a directory's table of entries does, in either mode.
//!
//! Promises, of every implementation: each method is one step that others see wholly or not at all;
//! a method that fails has changed nothing; closures named `judge` run before anything is done and
//! may refuse, those named `commit` after the last thing that can fail and before anyone else changes
//! the directory. What goes has gone for all who look when `commit` runs, what comes is not there yet,
//! so that an inode has its link for as long as it has the name. Removing never needs memory. Entries
//! come in the order of cookies, which only grow, so an entry that is left alone is listed exactly once.

use core::cell::Cell;
use core::ops::ControlFlow;
use core::ptr::NonNull;

use ermfs_memory::sync::Arc;
use ermfs_memory::{Kind, Purpose};

use super::inode::{Inode, Reached};
use super::name::Name;
use crate::epoch::{self, Guard};
use crate::errno::{Errno, Result};
use crate::space::Space;

/// Cookies below are taken by the start, "." and "..".
pub(super) const FIRST_COOKIE: u64 = 3;

/// A directory's table. The table holds one link of every inode in it.
pub(super) trait Entries: Sized {
    /// See [`Entries::seal`].
    type Sealed<'a>: Bury
    where
        Self: 'a;

    /// The inode that `name` stands for.
    fn lookup<'g>(&self, name: Name<'_>, guard: &'g Guard) -> Option<Reached<'g>>;

    /// Enters `name` for `child`. `commit` counts the link.
    ///
    /// # Errors
    /// `EEXIST`; `ENOENT` in a dead directory; `ENOSPC`, `ENOMEM`; those of `commit`.
    fn insert(
        &self,
        name: Name<'_>,
        child: Reached<'_>,
        room: &Room<'_>,
        guard: &Guard,
        commit: impl FnOnce() -> Result<()>,
    ) -> Result<()>;

    /// Takes `name` out, unless `judge` refuses. The entry's link is `commit`'s to give up.
    ///
    /// # Errors
    /// `ENOENT`; those of `judge`.
    fn remove<'g, J, R>(
        &self,
        name: Name<'_>,
        space: &Arc<Space>,
        guard: &'g Guard,
        judge: impl FnOnce(Reached<'g>) -> Result<J>,
        commit: impl FnOnce(Reached<'g>, J) -> R,
    ) -> Result<R>;

    /// Moves, replaces or exchanges, as `judge` says after it has seen what both names stand for now. With `Move` over an entry, that entry's link is `commit`'s to give up.
    ///
    /// # Errors
    /// `ENOENT` when there is no source, or the target directory is dead; `ENOSPC` and `ENOMEM` when nothing is replaced;
    /// those of `judge`.
    fn rename<'g, J>(
        places: Places<'_, Self>,
        room: &Room<'_>,
        guard: &'g Guard,
        judge: impl FnOnce(Reached<'g>, Option<Reached<'g>>) -> Result<(Change, J)>,
        commit: impl FnOnce(J),
    ) -> Result<()>;

    /// Hands over the entries whose cookie is above `cookie`, in order, until told to stop.
    fn next_after(&self, cookie: u64, emit: &mut Emit<'_>);

    /// Hands over the name of `child`, whose hash is known.
    fn name_of<R>(&self, child: Reached<'_>, hash: u32, found: impl FnOnce(&[u8]) -> R) -> Option<R>;

    /// The number of entries.
    fn len(&self) -> usize;

    /// Keeps an empty directory empty until the result is dropped: who would enter something waits.
    ///
    /// # Errors
    /// `ENOTEMPTY`.
    fn seal(&self) -> Result<Self::Sealed<'_>>;

    /// Takes some entry out, and its link. For a filesystem that nobody walks any more.
    fn take_any(&self, space: &Space) -> Option<NonNull<Inode>>;

    /// Frees the memory of a table that is or will stay empty; with a guard when nobody looks at it any more, without at
    /// once: then nobody does.
    fn clear(&self, space: &Arc<Space>, guard: Option<&Guard>);
}

/// An empty directory that is kept empty.
pub(super) trait Bury {
    /// Makes it one that nothing can be entered in any more.
    fn bury(self);
}

/// Takes an entry's cookie, name and inode, and says whether to go on.
pub(super) type Emit<'a> = dyn FnMut(u64, &[u8], &Inode) -> ControlFlow<()> + 'a;

/// The two names of a rename.
pub(super) struct Places<'a, E> {
    pub(super) from: (&'a E, Name<'a>),
    /// `None`: in the same directory.
    pub(super) to: (Option<&'a E>, Name<'a>),
    /// Whether the target directory's lock comes before the source's.
    pub(super) to_first: bool,
}

/// What a rename comes to.
pub(super) enum Change {
    /// Both names are the same inode.
    Nothing,
    Move,
    Exchange,
}

/// Where new metadata is charged: under a pin and under locks, so that it never makes room by itself but notes how much
/// was missing. [`Room::attempt`] makes room outside of both, and tries again.
pub(super) struct Room<'a> {
    space: &'a Arc<Space>,
    taken: Cell<u64>,
    missing: Cell<u64>,
}

/// How often a call is tried while others take the room that was made for it.
const ATTEMPTS: u32 = 8;

impl<'a> Room<'a> {
    /// Runs `operation`, again when it ran out of budget and room could be made.
    ///
    /// # Errors
    /// Those of `operation`; `ENOSPC` for good.
    pub(super) fn attempt<R>(
        space: &'a Arc<Space>,
        mut operation: impl FnMut(&Room<'a>) -> Result<R>,
    ) -> Result<R> {
        let mut room = Room { space, taken: Cell::new(0), missing: Cell::new(0) };
        for _ in 0..ATTEMPTS {
            match operation(&room) {
                Err(Errno::ENOSPC) if room.missing.get() > 0 => {
                    // What this thread has retired must be seen by the collector before it can go.
                    epoch::flush();
                    drop(space.charged(Kind::Metadata, room.missing.get(), Purpose::Ordinary)?);
                    room = Room { space, taken: Cell::new(0), missing: Cell::new(0) };
                }
                done => return done,
            }
        }
        Err(Errno::ENOSPC)
    }

    pub(super) fn space(&self) -> &'a Arc<Space> {
        self.space
    }

    /// Charges `bytes` of metadata, until the result is dropped or kept.
    pub(super) fn charge(&self, bytes: u64) -> Result<Charged<'a>> {
        self.taken.set(self.taken.get() + bytes);
        match self.space.budget().charge(Kind::Metadata, bytes, Purpose::Ordinary) {
            Ok(()) => Ok(Charged { space: self.space, bytes }),
            Err(error) => {
                self.missing.set(self.taken.get());
                Err(error.into())
            }
        }
    }
}

/// Charged metadata that is not allocated yet.
pub(super) struct Charged<'a> {
    space: &'a Space,
    bytes: u64,
}

impl Charged<'_> {
    /// The memory was taken: whoever frees it releases the charge.
    pub(super) fn keep(self) {
        core::mem::forget(self);
    }
}

impl Drop for Charged<'_> {
    fn drop(&mut self) {
        self.space.release(Kind::Metadata, self.bytes);
    }
}
