//! The collector that models are tested with: what is retired is freed at the very moment when the last pin of
//! its retirement is gone.
//!
//! Promises: a model fails in which something is looked at after it was freed, or freed while a pin that looked
//! at it lasts. Memory that counts as freed is really freed at the end of the execution only, so that no address
//! is used twice in one. Owns the books, which belong to the operating system's thread: loom runs all threads of
//! a model on one.
//!
//! Pinning, retiring and unpinning are fences of sequential consistency, which is what crossbeam-epoch makes of
//! them: a pin that comes after a retirement sees what was taken out of reach before it.

use core::cell::RefCell;
use core::ptr::NonNull;
use std::collections::{BTreeMap, BTreeSet};

use ::loom::sync::atomic::{Ordering::SeqCst, fence};
use ::loom::thread::{ThreadId, current};

/// A pin, and what was looked at under it.
struct Pin {
    thread: ThreadId,
    looked_at: BTreeSet<usize>,
}

type Free = Box<dyn FnOnce()>;

/// Something retired, and the pins it waits for.
struct Waiting {
    address: Option<usize>,
    pins: BTreeSet<u64>,
    free: Free,
}

#[derive(Default)]
struct Books {
    pinned_so_far: u64,
    pins: BTreeMap<u64, Pin>,
    waiting: Vec<Waiting>,
    freed: BTreeSet<usize>,
    /// What counts as freed.
    quarantine: Vec<Free>,
}

std::thread_local! {
    static BOOKS: RefCell<Books> = RefCell::default();
}

fn with<R>(work: impl FnOnce(&mut Books) -> R) -> R {
    BOOKS.with(|books| work(&mut books.borrow_mut()))
}

/// A pin, until it is dropped.
pub(crate) struct Guard {
    number: u64,
}

/// Pins the calling thread: nothing reachable now is freed before the guard is dropped.
pub(crate) fn pin() -> Guard {
    fence(SeqCst);
    let thread = current().id();
    with(|books| {
        books.pinned_so_far += 1;
        let number = books.pinned_so_far;
        books.pins.insert(number, Pin { thread, looked_at: BTreeSet::new() });
        Guard { number }
    })
}

/// Whether the calling thread is pinned.
pub(crate) fn is_pinned() -> bool {
    let thread = current().id();
    with(|books| books.pins.values().any(|pin| pin.thread == thread))
}

impl Guard {
    /// Has `free` called once no pin of now is left.
    ///
    /// # Safety
    /// It may be called on any thread of the model.
    pub(crate) unsafe fn defer_unchecked<R>(&self, free: impl FnOnce() -> R) {
        let free: Box<dyn FnOnce() + '_> = Box::new(move || drop(free()));
        // SAFETY: by contract; what it borrows outlives the model's execution, at whose end it has run.
        self.defer_free(None, unsafe { core::mem::transmute::<Box<dyn FnOnce() + '_>, Free>(free) });
    }

    /// As `defer_unchecked`, for what may be sent.
    pub(crate) fn defer<R>(&self, free: impl FnOnce() -> R + Send + 'static) {
        self.defer_free(None, Box::new(move || drop(free())));
    }

    /// What can be freed is freed without being asked for.
    pub(crate) fn flush(&self) {}

    fn defer_free(&self, address: Option<usize>, free: Free) {
        fence(SeqCst);
        with(|books| {
            debug_assert!(books.pins.contains_key(&self.number));
            let pins = books.pins.keys().copied().collect();
            books.waiting.push(Waiting { address, pins, free });
        });
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        fence(SeqCst);
        let number = self.number;
        let due = with(|books| {
            books.pins.remove(&number);
            for waiting in &mut books.waiting {
                waiting.pins.remove(&number);
            }
            let (due, waiting) =
                core::mem::take(&mut books.waiting).into_iter().partition(|it| it.pins.is_empty());
            books.waiting = waiting;
            due
        });
        let due: Vec<Waiting> = due;
        for Waiting { address, free, .. } in due {
            match address {
                Some(address) => note_freed(address, free),
                // What it frees is not known by its address; it may retire more.
                None => free(),
            }
        }
    }
}

fn note_freed(address: usize, free: Free) {
    with(|books| {
        let looking = books.pins.values().any(|pin| pin.looked_at.contains(&address));
        assert!(!looking, "{address:#x} is freed while it is looked at");
        assert!(books.freed.insert(address), "{address:#x} is freed twice");
        books.quarantine.push(free);
    });
}

/// See [`super::retire`].
///
/// # Safety
/// As there.
pub(super) unsafe fn retire<T>(at: NonNull<T>, bytes: usize, free: unsafe fn(NonNull<T>), guard: &Guard) {
    // SAFETY: by contract.
    unsafe { retire_with(at, bytes, (), move |at, ()| free(at), guard) };
}

/// See [`super::retire_with`].
///
/// # Safety
/// As there.
pub(super) unsafe fn retire_with<T, C>(
    at: NonNull<T>,
    _bytes: usize,
    context: C,
    free: impl FnOnce(NonNull<T>, C),
    guard: &Guard,
) {
    let free = move || free(at, context);
    // SAFETY: extends the lives of `T` and `C` in the closure's type only; called before the execution ends.
    let free = unsafe { core::mem::transmute::<Box<dyn FnOnce() + '_>, Free>(Box::new(free)) };
    guard.defer_free(Some(at.addr().get()), free);
}

/// Frees what no other thread can have looked at, at once.
///
/// # Safety
/// Nobody can reach `at`, now or later, and `free` is right for it.
pub(crate) unsafe fn free_unseen<T>(at: NonNull<T>, free: unsafe fn(NonNull<T>)) {
    let free = move || {
        // SAFETY: by contract.
        unsafe { free(at) };
    };
    // SAFETY: as in `retire`.
    let free = unsafe { core::mem::transmute::<Box<dyn FnOnce() + '_>, Free>(Box::new(free)) };
    note_freed(at.addr().get(), free);
}

/// See [`super::look`].
pub(super) fn note_look<T>(at: NonNull<T>, guard: &Guard) {
    let address = at.addr().get();
    with(|books| {
        assert!(!books.freed.contains(&address), "{address:#x} is looked at after it was freed");
        let pin = books.pins.get_mut(&guard.number).expect("a guard is a pin");
        pin.looked_at.insert(address);
    });
}

/// See [`super::note_large`]: everything is freed as early as may be.
pub(super) fn note_large(_bytes: u64) {}

/// See [`super::note_look`].
pub(super) fn note_look_of_thread<T>(at: NonNull<T>) {
    let (address, thread) = (at.addr().get(), current().id());
    with(|books| {
        assert!(!books.freed.contains(&address), "{address:#x} is looked at after it was freed");
        for pin in books.pins.values_mut().filter(|pin| pin.thread == thread) {
            pin.looked_at.insert(address);
        }
    });
}

/// One execution of a model: its own books, and at its end everything retired is freed.
pub(crate) fn execution(work: impl FnOnce()) {
    BOOKS.with(|books| drop(books.take()));
    work();
    let left = with(|books| (books.pins.len(), books.waiting.len()));
    assert_eq!(left, (0, 0), "pins, and retired things that wait for one");
    loop {
        let quarantine = with(|books| core::mem::take(&mut books.quarantine));
        if quarantine.is_empty() {
            break;
        }
        for free in quarantine {
            free();
        }
    }
}

#[cfg(test)]
mod loom {
    use super::super::{look, pin, retire};
    use super::free_unseen;
    use crate::sync::atomic::{
        AtomicPtr, AtomicU32,
        Ordering::{AcqRel, Acquire, Relaxed},
    };
    use crate::sync::model;
    use ::loom::sync::Arc;
    use ::loom::thread;
    use core::ptr::{self, NonNull};

    unsafe fn free(at: NonNull<AtomicU32>) {
        // SAFETY: made by `Box::into_raw` in the models, and freed once.
        drop(unsafe { Box::from_raw(at.as_ptr()) });
    }

    /// One thread looks at what another takes away, and, `deferring` or not, frees.
    fn taken_while_looked_at(deferring: bool) {
        let slot = Arc::new(AtomicPtr::new(Box::into_raw(Box::new(AtomicU32::new(7)))));
        let looker = {
            let slot = slot.clone();
            thread::spawn(move || {
                let guard = pin();
                if let Some(at) = NonNull::new(slot.load(Acquire)) {
                    // SAFETY: taken out of the slot before it is retired.
                    assert_eq!(unsafe { look(at, &guard) }.load(Relaxed), 7);
                }
            })
        };
        let taken = NonNull::new(slot.swap(ptr::null_mut(), AcqRel)).unwrap();
        if deferring {
            // SAFETY: out of reach by the swap.
            unsafe { retire(taken, 4, free, &pin()) };
        } else {
            // SAFETY: not at all, which the model is to find out; the memory stays until the execution ends.
            unsafe { free_unseen(taken, free) };
        }
        looker.join().unwrap();
    }

    #[test]
    fn loom_what_is_retired_outlives_who_looks_at_it() {
        model(|| taken_while_looked_at(true));
    }

    #[test]
    #[should_panic(expected = "looked at")]
    fn loom_what_is_not_retired_is_reported() {
        model(|| taken_while_looked_at(false));
    }
}
