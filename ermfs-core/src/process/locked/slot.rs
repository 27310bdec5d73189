//! One counted reference that threads read and replace, behind a lock of its own.
//!
//! Promises: a reader gets a reference of its own, or nothing; whoever replaces the content gets the
//! old reference out and drops it where it likes. Owns the reference. The lock is a bit of the pointer
//! and held for a few instructions, never across a call, so waiting is spinning.
//!
//! An empty slot is locked only by `replace`, which a slot of the descriptor table does not know: there it is filled by whoever
//! has claimed the number, in one store, which nobody who finds it empty can undo.
//!
//! Order: the lock bit is taken with Acquire and given back with Release, so what a thread put in is
//! seen whole by who takes it out.

use core::marker::PhantomData;
use core::ptr::{self, NonNull};

use ermfs_memory::sync::atomic::{
    AtomicPtr,
    Ordering::{Acquire, Relaxed, Release},
};
use ermfs_memory::{AtOnce, Counted, Reclaim, Zeroable};

use crate::failpoint::failpoint;

/// Somebody looks at or changes the slot.
const LOCKED: usize = 1;
/// A flag that the slot's owner keeps beside the reference.
const FLAG: usize = 2;
const TAGS: usize = LOCKED | FLAG;

/// Room for a `Counted<T, R>` and one flag.
pub(in crate::process) struct Slot<T, R: Reclaim<T> = AtOnce> {
    /// What `Counted::into_raw` gave, or null, with the tags in the low bits.
    word: AtomicPtr<T>,
    owns: PhantomData<Counted<T, R>>,
}

// SAFETY: null without tags is an empty slot.
unsafe impl<T, R: Reclaim<T>> Zeroable for Slot<T, R> {}

// SAFETY: a slot hands `Counted<T, R>` between threads, under its lock.
unsafe impl<T: Send + Sync, R: Reclaim<T>> Sync for Slot<T, R> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync, R: Reclaim<T>> Send for Slot<T, R> {}

impl<T, R: Reclaim<T>> Slot<T, R> {
    pub(in crate::process) const fn empty() -> Slot<T, R> {
        Slot { word: AtomicPtr::new(ptr::null_mut()), owns: PhantomData }
    }

    /// Whether nothing is in it; may be outdated when it answers.
    #[inline]
    pub(in crate::process) fn is_empty(&self) -> bool {
        pointer(self.word.load(Relaxed)).is_none()
    }

    /// One more reference to what is in it.
    #[inline(always)]
    pub(in crate::process) fn get(&self) -> Option<Counted<T, R>> {
        let (word, raw) = self.lock_filled()?;
        failpoint!("locked.slot.held");
        // SAFETY: the pointer came from `into_raw`, and the slot's own reference cannot leave while the
        // slot is locked.
        let shared = unsafe { Counted::share_raw_reclaimed(raw) };
        self.unlock(word);
        Some(shared)
    }

    /// Fills an empty slot, which nobody else may fill or `replace`.
    #[inline]
    pub(super) fn fill(&self, value: Counted<T, R>, flag: bool) {
        debug_assert!(self.is_empty(), "a claimed number was open");
        self.unlock(word_of(value, flag));
    }

    /// Puts `value` in the place of what is there, which is the answer; in an empty slot it is not put, but given back.
    pub(super) fn exchange(&self, value: Counted<T, R>, flag: bool) -> Result<Counted<T, R>, Counted<T, R>> {
        let Some((_, old)) = self.lock_filled() else { return Err(value) };
        self.unlock(word_of(value, flag));
        // SAFETY: the pointer came from `into_raw`, and having been swapped out it is taken back once.
        Ok(unsafe { Counted::from_raw_reclaimed(old) })
    }

    /// Takes out what is in it.
    #[inline]
    pub(super) fn take(&self) -> Option<Counted<T, R>> {
        let (_, old) = self.lock_filled()?;
        self.unlock(ptr::null_mut());
        // SAFETY: as in `exchange`.
        Some(unsafe { Counted::from_raw_reclaimed(old) })
    }

    /// Puts `value` in and gives back what was there.
    pub(in crate::process) fn replace(&self, value: Option<Counted<T, R>>) -> Option<Counted<T, R>> {
        let new = value.map_or(ptr::null_mut(), |value| word_of(value, false));
        let old = self.lock();
        self.unlock(new);
        // SAFETY: as in `exchange`.
        pointer(old).map(|raw| unsafe { Counted::from_raw_reclaimed(raw) })
    }

    /// The flag, unless the slot is empty.
    pub(super) fn flag(&self) -> Option<bool> {
        let word = self.word.load(Relaxed);
        pointer(word).map(|_| word.addr() & FLAG != 0)
    }

    /// Sets the flag; `None` when the slot is empty.
    pub(super) fn set_flag(&self, on: bool) -> Option<()> {
        let (word, _) = self.lock_filled()?;
        self.unlock(word.map_addr(|address| if on { address | FLAG } else { address & !FLAG }));
        Some(())
    }

    /// Locks the slot if something is in it: the word as it was, without the lock bit that it has now, and what it names.
    #[inline(always)]
    fn lock_filled(&self) -> Option<(*mut T, NonNull<T>)> {
        let word = self.word.load(Relaxed).map_addr(|address| address & !LOCKED);
        let raw = pointer(word)?;
        match self.word.compare_exchange(word, word.map_addr(|address| address | LOCKED), Acquire, Relaxed) {
            Ok(_) => Some((word, raw)),
            Err(_) => self.lock_contended(false).and_then(|word| Some((word, pointer(word)?))),
        }
    }

    /// Locks the slot: the word as it was, without the lock bit that it has now.
    fn lock(&self) -> *mut T {
        self.lock_contended(true).expect("an empty slot will do")
    }

    /// As [`Slot::lock`]; an empty slot is locked only if it `may_be_empty`.
    #[cold]
    fn lock_contended(&self, may_be_empty: bool) -> Option<*mut T> {
        for round in 1u32.. {
            let word = self.word.load(Relaxed).map_addr(|address| address & !LOCKED);
            if pointer(word).is_none() && !may_be_empty {
                return None;
            }
            let locked = word.map_addr(|address| address | LOCKED);
            if self.word.compare_exchange_weak(word, locked, Acquire, Relaxed).is_ok() {
                return Some(word);
            }
            if round % 64 == 0 {
                // The holder may have lost the processor.
                std::thread::yield_now();
            } else {
                core::hint::spin_loop();
            }
        }
        unreachable!("the loop ends only by returning")
    }

    #[inline]
    fn unlock(&self, word: *mut T) {
        self.word.store(word, Release);
    }
}

impl<T, R: Reclaim<T>> Drop for Slot<T, R> {
    fn drop(&mut self) {
        drop(self.replace(None));
    }
}

/// The word of a slot that holds `value`.
#[inline]
fn word_of<T, R: Reclaim<T>>(value: Counted<T, R>, flag: bool) -> *mut T {
    value.into_raw().as_ptr().map_addr(|address| address | if flag { FLAG } else { 0 })
}

#[inline]
fn pointer<T>(word: *mut T) -> Option<NonNull<T>> {
    NonNull::new(word.map_addr(|address| address & !TAGS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicBool, AtomicUsize};

    struct Noted<'a>(usize, &'a AtomicUsize);
    impl Drop for Noted<'_> {
        fn drop(&mut self) {
            self.1.fetch_add(1, Relaxed);
        }
    }

    fn counted<T>(value: T) -> Counted<T> {
        Counted::try_new(value).map_err(|(error, _)| error).unwrap()
    }

    #[test]
    fn a_flag_lives_beside_the_reference() {
        let drops = AtomicUsize::new(0);
        let slot = Slot::empty();
        assert!(
            slot.is_empty() && slot.get().is_none() && slot.flag().is_none() && slot.set_flag(true).is_none()
        );
        assert!(slot.take().is_none() && slot.exchange(counted(Noted(0, &drops)), true).is_err());
        assert_eq!(drops.swap(0, Relaxed), 1);
        slot.fill(counted(Noted(1, &drops)), true);
        assert_eq!((slot.flag(), slot.get().map(|value| value.0)), (Some(true), Some(1)));
        assert_eq!(slot.set_flag(false), Some(()));
        assert_eq!((slot.flag(), slot.get().map(|value| value.0)), (Some(false), Some(1)));
        let old = slot.exchange(counted(Noted(2, &drops)), false).ok();
        assert_eq!((old.as_ref().map(|old| old.0), drops.load(Relaxed)), (Some(1), 0));
        drop(old);
        drop(slot);
        assert_eq!(drops.load(Relaxed), 2);
    }

    #[test]
    fn readers_and_replacers_never_meet_a_freed_value() {
        const VALUES: usize = 20_000;
        let drops = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let slot: Slot<Noted<'_>> = Slot::empty();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut last = 0;
                    while !stop.load(Relaxed) {
                        if let Some(value) = slot.get() {
                            assert!(value.0 >= last, "values only grow");
                            last = value.0;
                        }
                        let _ = slot.set_flag(true);
                    }
                });
            }
            for n in 1..=VALUES {
                // By each of the two ways in which a slot changes.
                if n % 2 == 0 {
                    drop(slot.take());
                    slot.fill(counted(Noted(n, &drops)), false);
                } else {
                    drop(slot.replace(Some(counted(Noted(n, &drops)))));
                }
            }
            stop.store(true, Relaxed);
        });
        assert_eq!(drops.load(Relaxed), VALUES - 1);
        drop(slot);
        assert_eq!(drops.load(Relaxed), VALUES);
    }
}
