//! Rename, replace and exchange.
//!
//! Promises what the module above promises: whoever looks sees the names before or after. A
//! directory never comes to be below itself. Replacing needs no memory. Owns nothing.
//!
//! The topology lock: while it is held, shared, no directory changes its parent, and while it is
//! held alone no directory changes its name or parent. A file that changes its directory needs it
//! shared, so that the two directories' depths, by which they are locked, stand still. A directory
//! that changes its name needs it shared, so that `path_of` can exclude that. A directory that
//! changes its parent needs it alone. What moves is known only when its entry is locked, so a first
//! try may find that it holds too little, lets go and starts again.
//!
//! No deadlock: everyone who locks two directories goes from smaller to larger (depth, inode
//! number), except that one who moves directories also locks an emptied target below the two; that
//! one is alone in moving, and all others who hold a lock then wait only for directories below it,
//! of which none is held (the checks for loops see to that).

use core::cell::Cell;
use core::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use ermfs_memory::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::directory::{Directory, Sealed};
use super::entries::{Bury, Change, Entries, Places, Room};
use super::inode::{Doomed, InodeRef, Reached};
use super::walk::{Last, Parent, Walk, check_path, directory_of};
use super::{At, WRITE};
use crate::epoch::{self, Guard};
use crate::errno::{Errno, Result};
use crate::fs::Fs;

/// `renameat2(2)`'s flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RenameFlags {
    /// `RENAME_NOREPLACE`: `EEXIST` when the target exists.
    pub no_replace: bool,
    /// `RENAME_EXCHANGE`: both names exist, and change what they stand for.
    pub exchange: bool,
}

/// How much of the topology lock is held.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hold {
    Nothing,
    Shared,
    Alone,
}

/// The guards only wait to be dropped.
enum Topology<'a> {
    Nothing,
    Shared { _guard: RwLockReadGuard<'a, ()> },
    Alone { _guard: RwLockWriteGuard<'a, ()> },
}

impl<'a> Topology<'a> {
    fn hold(lock: &'a RwLock<()>, hold: Hold) -> Topology<'a> {
        match hold {
            Hold::Nothing => Topology::Nothing,
            Hold::Shared => Topology::Shared { _guard: lock.read() },
            Hold::Alone => Topology::Alone { _guard: lock.write() },
        }
    }
}

/// One rename, its paths walked.
struct Renaming<'g> {
    at: At<'g>,
    guard: &'g Guard,
    old: Parent<'g>,
    new: Parent<'g>,
    flags: RenameFlags,
}

/// What is to be done after both locks are open again.
#[derive(Default)]
struct Leftovers<'g> {
    _doomed: Option<Doomed<'g>>,
    _parents: [Option<InodeRef>; 2],
}

/// What was found fit to be done.
struct Verdict<'g> {
    moved: Reached<'g>,
    other: Option<Reached<'g>>,
    exchange: bool,
    /// The directory that goes.
    emptied: Option<Sealed<'g>>,
}

impl Fs {
    /// `renameat2(2)`.
    ///
    /// # Errors
    /// Those of `rename(2)` on tmpfs: `EACCES` and `EPERM` for who may not (`at_old.who`), `EBUSY` for `.`, `..` and the root, `EEXIST`, `EINVAL` for both
    /// flags or a directory into itself, `EISDIR`, `ENOTDIR`, `ENOTEMPTY`, `EXDEV` between filesystems; those of
    /// [`Fs::lookup`]; `ENOSPC` and `ENOMEM` when a new name has to be made.
    pub fn rename(at_old: At<'_>, old: &[u8], at_new: At<'_>, new: &[u8], flags: RenameFlags) -> Result<()> {
        if flags.no_replace && flags.exchange {
            return Err(Errno::EINVAL);
        }
        check_path(old)?;
        Room::attempt(at_old.fs.space(), |room| {
            let guard = epoch::pin();
            let old = Walk::new(at_old, &guard).parent(at_old.dir.reach(), old)?;
            check_path(new)?;
            let new = Walk::new(at_new, &guard).parent(at_new.dir.reach(), new)?;
            if !Arc::ptr_eq(at_old.fs, at_new.fs) {
                return Err(Errno::EXDEV);
            }
            let renaming = Renaming { at: at_old, guard: &guard, old, new, flags };
            // Right for files; directories find that they need more.
            let mut hold = if renaming.within_directory() { Hold::Nothing } else { Hold::Shared };
            while let Some(needed) = renaming.run(hold, room)? {
                hold = needed;
            }
            Ok(())
        })
    }
}

impl<'g> Renaming<'g> {
    fn within_directory(&self) -> bool {
        self.old.dir.is(self.new.dir)
    }

    /// Does it, or answers how much of the topology lock it needs.
    fn run(&self, hold: Hold, room: &Room<'_>) -> Result<Option<Hold>> {
        let Last::Name(old_name) = self.old.last else {
            return Err(Errno::EBUSY);
        };
        let Last::Name(new_name) = self.new.last else {
            return Err(if self.flags.no_replace { Errno::EEXIST } else { Errno::EBUSY });
        };
        let walk = Walk::new(self.at, self.guard);
        let old_name = walk.name(self.old.dir, old_name)?;
        let (from, to) = (directory_of(self.old.dir)?, directory_of(self.new.dir)?);
        if new_name.len() > super::name::NAME_MAX {
            // The source is looked up first.
            from.entries.lookup(old_name, self.guard).ok_or(Errno::ENOENT)?;
        }
        let new_name = walk.name(self.new.dir, new_name)?;
        // A removed directory stays removed, and says so before anything is said about what would come into it.
        if !self.new.dir.get().is_linked() {
            return Err(Errno::ENOENT);
        }

        let mut leftovers = Leftovers::default();
        let needed = Cell::new(None);
        let topology = Topology::hold(self.at.fs.shared().topology(), hold);
        let places = Places {
            from: (&from.entries, old_name),
            to: ((!self.within_directory()).then_some(&to.entries), new_name),
            to_first: !self.within_directory() && self.lock_rank(self.new.dir) < self.lock_rank(self.old.dir),
        };
        let done = Directory::rename(
            places,
            room,
            self.guard,
            |moved, other| {
                let need = self.needs(moved, other);
                if need > hold {
                    needed.set(Some(need));
                    return Err(Errno::EAGAIN);
                }
                self.judge(moved, other)
            },
            |verdict| self.commit(verdict, [old_name.hash, new_name.hash], &mut leftovers),
        );
        drop(topology);
        if done.is_ok() {
            self.old.dir.get().note_entry(old_name, None);
            self.new.dir.get().note_entry(new_name, None);
        }
        match (done, needed.get()) {
            (Err(_), Some(needed)) => Ok(Some(needed)),
            (done, _) => done.map(|()| None),
        }
    }

    fn needs(&self, moved: Reached<'_>, other: Option<Reached<'_>>) -> Hold {
        let exchanged = other.filter(|_| self.flags.exchange);
        let directory = moved.is_directory() || exchanged.is_some_and(Reached::is_directory);
        match (self.within_directory(), directory) {
            (true, false) => Hold::Nothing,
            (true, true) | (false, false) => Hold::Shared,
            (false, true) => Hold::Alone,
        }
    }

    /// Where a directory comes in the order of locking. The topology stands still.
    fn lock_rank(&self, dir: Reached<'g>) -> (usize, u64) {
        (self.ancestors(dir).count(), dir.get().ino())
    }

    /// A directory and those above it, up to the root.
    fn ancestors(&self, dir: Reached<'g>) -> impl Iterator<Item = Reached<'g>> {
        core::iter::successors(Some(dir), |dir| {
            let parent = dir.get().directory()?.parent(self.guard);
            (!parent.is(*dir)).then_some(parent)
        })
    }

    /// The errors in the order in which Linux finds them.
    fn judge(&self, moved: Reached<'g>, other: Option<Reached<'g>>) -> Result<(Change, Verdict<'g>)> {
        let RenameFlags { no_replace, exchange } = self.flags;
        if no_replace && other.is_some() {
            return Err(Errno::EEXIST);
        }
        if exchange && !other.ok_or(Errno::ENOENT)?.is_directory() && self.new.slashes {
            return Err(Errno::ENOTDIR);
        }
        if !moved.is_directory() && (self.old.slashes || self.new.slashes && !exchange) {
            return Err(Errno::ENOTDIR);
        }
        if !self.within_directory() {
            self.refuse_loops(moved, other)?;
        }
        let mut verdict = Verdict { moved, other, exchange, emptied: None };
        if other.is_some_and(|other| other.is(moved)) {
            return Ok((Change::Nothing, verdict));
        }
        self.refuse_strangers(moved, other)?;
        match other {
            Some(_) if exchange => return Ok((Change::Exchange, verdict)),
            // The last thing that can fail, since replacing needs no memory.
            Some(other) if other.is_directory() => {
                verdict.emptied = Some(directory_of(other)?.entries.seal()?);
            }
            _ => {}
        }
        Ok((Change::Move, verdict))
    }

    /// What vfs_rename asks of both directories, and, because its `..` changes, of a directory that gets another parent. A
    /// target of the wrong kind is told between the two.
    fn refuse_strangers(&self, moved: Reached<'g>, other: Option<Reached<'g>>) -> Result<()> {
        let who = self.at.who;
        self.old.dir.get().may_remove_from(who, moved.get())?;
        match other {
            None => self.new.dir.get().may_create_in(who)?,
            Some(other) => {
                self.new.dir.get().may_remove_from(who, other.get())?;
                match (moved.is_directory(), other.is_directory()) {
                    _ if self.flags.exchange => {}
                    (true, false) => return Err(Errno::ENOTDIR),
                    (false, true) => return Err(Errno::EISDIR),
                    _ => {}
                }
            }
        }
        if !self.within_directory() {
            let exchanged = other.filter(|_| self.flags.exchange);
            for directory in [Some(moved), exchanged].into_iter().flatten().filter(|it| it.is_directory()) {
                directory.get().require(who, WRITE)?;
            }
        }
        Ok(())
    }

    fn refuse_loops(&self, moved: Reached<'g>, other: Option<Reached<'g>>) -> Result<()> {
        if moved.is_directory() && self.ancestors(self.new.dir).any(|dir| dir.is(moved)) {
            return Err(Errno::EINVAL);
        }
        match other.filter(|other| other.is_directory()) {
            Some(other) if self.ancestors(self.old.dir).any(|dir| dir.is(other)) => {
                Err(if self.flags.exchange { Errno::EINVAL } else { Errno::ENOTEMPTY })
            }
            _ => Ok(()),
        }
    }

    /// Times, link counts and parents of what has been moved. `hashes` are those of the old and the new name.
    fn commit(&self, verdict: Verdict<'g>, hashes: [u32; 2], leftovers: &mut Leftovers<'g>) {
        let Verdict { moved, other, exchange, emptied } = verdict;
        if other.is_some_and(|other| other.is(moved)) {
            return;
        }
        let [old_hash, new_hash] = hashes;
        leftovers._parents[0] = settle(moved, self.old.dir, self.new.dir, new_hash);
        match other {
            Some(other) if exchange => {
                leftovers._parents[1] = settle(other, self.new.dir, self.old.dir, old_hash)
            }
            Some(other) => {
                other.get().note_change();
                if let Some(emptied) = emptied {
                    emptied.bury();
                    count_subdirectory(self.new.dir, false);
                }
                leftovers._doomed = Some(other.drop_link(self.guard));
            }
            None => {}
        }
        self.old.dir.get().note_modified();
        if !self.within_directory() {
            self.new.dir.get().note_modified();
        }
    }
}

/// Notes that `inode` has gone from one directory to another, under a name of this hash. The result is the reference that it
/// held of its parent until now.
fn settle(inode: Reached<'_>, from: Reached<'_>, to: Reached<'_>, hash: u32) -> Option<InodeRef> {
    inode.get().note_change();
    let directory = inode.get().directory()?;
    directory.name_hash.store(hash, Relaxed);
    if from.is(to) {
        return None;
    }
    count_subdirectory(from, false);
    count_subdirectory(to, true);
    Some(directory.move_below(to))
}

fn count_subdirectory(dir: Reached<'_>, more: bool) {
    if let Some(directory) = dir.get().directory() {
        match more {
            true => directory.subdirectories.fetch_add(1, Relaxed),
            false => directory.subdirectories.fetch_sub(1, Relaxed),
        };
    }
}
