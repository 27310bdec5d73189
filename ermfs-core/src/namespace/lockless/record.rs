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
        self.turn.store(self.turn.load(Relaxed) + 1, Release);
        self.partner.store(target.as_ptr(), Release);
        self.after.store(after.map_or(ptr::null_mut(), NonNull::as_ptr), Release);
        source.set(before.pending());
        target.set(before);
        source.set(after.map_or(Word::ABSENT, Word::of));
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
