//! Who touched which word, how, and from where in the source.
//!
//! Promises: every access of a wrapped atomic, lock or `Arc` that a thread makes while it is recorded is in its record, in
//! order. Owns a thread's record. Never touches what another thread uses.

use core::cell::{Cell, RefCell};
use core::panic::Location;

/// What an access does to the word's cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Leaves it shared.
    Load,
    /// Needs it alone.
    Store,
    /// Needs it alone, and holds it for the whole of the access. A compare-and-swap that fails is one too.
    ReadModifyWrite,
}

/// One access.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// The word's address.
    pub address: usize,
    /// What was done.
    pub kind: Kind,
    /// Where it was asked for; of the end of a guard, a place in the crate of the locks.
    pub place: &'static Location<'static>,
}

thread_local! {
    static RECORDING: Cell<bool> = const { Cell::new(false) };
    /// Lent by who records.
    static RECORD: RefCell<Vec<Access>> = const { RefCell::new(Vec::new()) };
}

/// Runs `work` and adds to `record` what it does to atomics, locks and `Arc`s in the calling thread. Does not nest.
pub fn record<R>(record: &mut Vec<Access>, work: impl FnOnce() -> R) -> R {
    /// Ends the recording even if `work` unwinds.
    struct Recording<'a>(&'a mut Vec<Access>);
    impl Drop for Recording<'_> {
        fn drop(&mut self) {
            RECORDING.set(false);
            RECORD.with_borrow_mut(|record| core::mem::swap(record, self.0));
        }
    }
    RECORD.with_borrow_mut(|mine| core::mem::swap(mine, record));
    RECORDING.set(true);
    let _recording = Recording(record);
    work()
}

/// Notes an access by whoever called the caller.
#[inline]
#[track_caller]
pub(super) fn note<T>(word: *const T, kind: Kind) {
    if RECORDING.get() {
        let address = word.addr();
        let place = Location::caller();
        RECORD.with_borrow_mut(|record| record.push(Access { address, kind, place }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering::Relaxed};
    use crate::sync::{Arc, Mutex, RwLock};
    use Kind::{Load, ReadModifyWrite, Store};

    fn kinds(work: impl FnOnce()) -> Vec<Kind> {
        let mut accesses = Vec::new();
        record(&mut accesses, work);
        accesses.iter().map(|access| access.kind).collect()
    }

    #[test]
    fn each_access_is_recorded_once_with_its_word_and_place() {
        let word = AtomicU32::new(1);
        let mut accesses = Vec::new();
        let answer = record(&mut accesses, || word.fetch_add(1, Relaxed));
        let line = line!() - 1;
        let [access] = accesses[..] else { panic!("{accesses:?}") };
        assert_eq!((answer, access.kind, access.address), (1, ReadModifyWrite, word.as_ptr().addr()));
        assert_eq!((access.place.file(), access.place.line()), (file!(), line));
        word.store(7, Relaxed);
        assert_eq!(kinds(|| assert_eq!(word.load(Relaxed), 7)), [Load], "only what is recorded, and once");
    }

    #[test]
    fn updates_are_a_load_and_a_swap_unless_they_decline() {
        let (word, pointer) = (AtomicU32::new(4), AtomicPtr::new(core::ptr::null_mut::<u8>()));
        let declined = || assert_eq!(word.fetch_update(Relaxed, Relaxed, |_| None), Err(4));
        assert_eq!(kinds(declined), [Load]);
        let doubled = || assert_eq!(word.fetch_update(Relaxed, Relaxed, |old| Some(old * 2)), Ok(4));
        assert_eq!(kinds(doubled), [Load, ReadModifyWrite]);
        assert_eq!(word.load(Relaxed), 8);
        let kept = || assert!(pointer.fetch_update(Relaxed, Relaxed, Some).is_ok_and(|old| old.is_null()));
        assert_eq!(kinds(kept), [Load, ReadModifyWrite]);
        let fails = || assert_eq!(word.compare_exchange(0, 1, Relaxed, Relaxed), Err(8));
        assert_eq!(kinds(fails), [ReadModifyWrite]);
        assert_eq!(kinds(|| AtomicBool::new(false).store(true, Relaxed)), [Store]);
    }

    #[test]
    fn locks_and_arcs_are_two_swaps_each() {
        let (mutex, lock, arc) = (Mutex::new(1), RwLock::new(2), Arc::new(3));
        assert_eq!(kinds(|| *mutex.lock() += 1), [ReadModifyWrite; 2]);
        assert_eq!(kinds(|| assert_eq!(*lock.read(), 2)), [ReadModifyWrite; 2]);
        assert_eq!(kinds(|| *lock.write() += 1), [ReadModifyWrite; 2]);
        assert_eq!(kinds(|| drop(Arc::clone(&arc))), [ReadModifyWrite; 2]);
        assert_eq!((*mutex.lock(), *lock.read(), *arc), (2, 3, 3));
    }
}
