//! A rename's record: how two words change in one moment.
//!
//! Promises: for all who look, the moment at which the new name's word is stored is the moment at
//! which the old name's changes too. Needs no memory: each directory has one record, for the renames
//! out of it, which exclude one another by its lock. Owns nothing.
//!
//! # The protocol
//! A rename moves the inode *x* from dentry *A* to dentry *B*; then A stands for *y*: nothing, or, in an exchange, what B
//! stood for. B's word is never *x* before. Under the locks of both directories, in this order, each store a Release:
//!
//! 1. `turn` + 1, `partner` = B, `after` = y in the record of A's directory
//! 2. A's word: x, PENDING
//! 3. B's word: x. This decides.
//! 4. A's word: y
//!
//! Who looks B up sees a plain word. Who finds A PENDING reads `turn`, A's word, `partner`, `after` and B's word, in this
//! order, each load an Acquire, then `turn` and A's word once more. If these are what they were, everything was read
//! within one rename, for: a later rename's record comes after its `turn`, which the second load would then see; a later
//! store to B's word comes after step 4, which it would see too. So A stands for *y* if B's word is *x*, else for *x*. If
//! they are not, a rename has ended meanwhile, and the look-up tries again: it waits for nobody.
//!
//! `partner` is followed before that is known. It names the B of the rename of which A's word was read, or of a later one
//! from this directory, and both are retired after step 4 of the first: who has seen A PENDING has a pin from before.

use core::ptr::{self, NonNull};

use super::dentry::{self, Dentry, Word};
use crate::failpoint::failpoint;
use crate::namespace::inode::Inode;
use crate::sync::atomic::{
    AtomicPtr, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// See the module's page.
pub(super) struct Record {
    turn: AtomicU64,
    partner: AtomicPtr<dentry::Header>,
    after: AtomicPtr<Inode>,
}

impl Record {
    pub(super) fn new() -> Record {
        Record {
            turn: AtomicU64::new(0),
            partner: AtomicPtr::new(ptr::null_mut()),
            after: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Has `target` stand for what `source`, which stands in this record's directory, stands for; and `source` for `after`.
    /// Under the locks of both directories.
    pub(super) fn switch(&self, source: Dentry<'_>, target: Dentry<'_>, after: Option<NonNull<Inode>>) {
        let before = source.word();
        debug_assert!(before != Word::ABSENT && before != target.word(), "judged before");
        self.announce(source, target, after);
        failpoint!("names.rename");
        target.set(before);
        failpoint!("lockless.names.renamed");
        source.set(after.map_or(Word::ABSENT, Word::of));
    }

    /// The steps before the one that decides.
    fn announce(&self, source: Dentry<'_>, target: Dentry<'_>, after: Option<NonNull<Inode>>) {
        self.turn.store(self.turn.load(Relaxed) + 1, Release);
        self.partner.store(target.as_ptr(), Release);
        self.after.store(after.map_or(ptr::null_mut(), NonNull::as_ptr), Release);
        source.set(source.word().pending());
    }

    /// What a dentry of this record's directory stands for, for who holds no lock.
    #[inline]
    pub(super) fn value(&self, dentry: Dentry<'_>) -> Option<NonNull<Inode>> {
        let word = dentry.word();
        if word.is_pending() { self.value_in_rename(dentry) } else { word.inode() }
    }

    #[cold]
    fn value_in_rename(&self, dentry: Dentry<'_>) -> Option<NonNull<Inode>> {
        loop {
            let turn = self.turn.load(Acquire);
            let word = dentry.word();
            if !word.is_pending() {
                return word.inode();
            }
            let partner = self.partner.load(Acquire);
            let after = self.after.load(Acquire);
            // SAFETY: as the module's page says, it is retired after this pin began.
            let decided = NonNull::new(partner)
                .is_some_and(|partner| unsafe { Dentry::from_raw(partner).word().inode() == word.inode() });
            if self.turn.load(Relaxed) == turn && dentry.word() == word {
                return if decided { NonNull::new(after) } else { word.inode() };
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use core::num::NonZero;

    use ermfs_memory::sync::Arc;

    use super::super::dentry::Prepared;
    use super::*;
    use crate::fs::Mode;
    use crate::namespace::entries::Room;
    use crate::namespace::name::Name;
    use crate::space::{Compress, Policy, Space};

    /// The number of an inode that is not looked at.
    fn inode(number: usize) -> NonNull<Inode> {
        NonNull::without_provenance(NonZero::new(number * align_of::<Inode>()).unwrap())
    }

    fn dentry<'a>(space: &Arc<Space>, word: Word) -> Dentry<'a> {
        let name = Name { bytes: b"name", hash: 0 };
        Room::attempt(space, |room| Prepared::new(name, 3, room)).unwrap().publish(word)
    }

    /// A rename that is stopped after any of its steps, for good: look-ups say what they said before it decided, or what
    /// they will say for ever.
    #[test]
    fn a_rename_that_stops_stops_no_look_up() {
        let policy = Policy { compress: Compress::Never, level: 0, max_file_bytes: 0, cache_bytes: 0 };
        let space = Space::new(1 << 20, 0, policy, Mode::Lockless);
        let cases = [(Word::ABSENT, None), (Word::of(inode(2)), None), (Word::of(inode(2)), Some(inode(2)))];
        for (target_word, after) in cases {
            let (record, source) = (Record::new(), dentry(&space, Word::of(inode(1))));
            let target = dentry(&space, target_word);
            let seen = || (record.value(source), record.value(target));
            let before = (Some(inode(1)), target_word.inode());
            assert_eq!(seen(), before);
            record.announce(source, target, after);
            assert_eq!(seen(), before);
            target.set(Word::of(inode(1)));
            assert_eq!(seen(), (after, Some(inode(1))));
            source.set(after.map_or(Word::ABSENT, Word::of));
            assert_eq!(seen(), (after, Some(inode(1))));
            for dentry in [source, target] {
                // SAFETY: nobody else has seen it.
                space.release(ermfs_memory::Kind::Metadata, unsafe { dentry.free() });
            }
        }
        assert_eq!(space.budget().usage().total, 0);
    }
}
