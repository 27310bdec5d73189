//! The collector that the library is built with: crossbeam-epoch's.
//!
//! It is the library's own: crossbeam's default one is shared with whatever else the program is made of,
//! whose pins would hold our memory back (for good, in a fork child that lost the pinned thread) and whose
//! threads would drop our things outside the gate.

use core::cell::Cell;
use core::ptr::{self, NonNull};
use std::sync::OnceLock;

pub(crate) use crossbeam_epoch::Guard;
use crossbeam_epoch::{Collector, LocalHandle};

use super::{FLUSH_BYTES, FREE_BYTES};
use crate::gate::{self, InOperation};

static COLLECTOR: OnceLock<Collector> = OnceLock::new();

/// A thread's part of the collector.
struct Participant {
    handle: LocalHandle,
    /// Bytes that the thread has retired since it last pushed them on.
    retired: Cell<usize>,
    /// The same of what [`super::note_large`] was told of.
    large: Cell<u64>,
    /// Filled when the thread ends, so that `handle`, whose drop may free what others retired, goes inside the gate.
    /// Dropped after it.
    inside: Cell<Option<InOperation>>,
}

impl Drop for Participant {
    fn drop(&mut self) {
        OWN.set(ptr::null());
        self.inside.set(Some(gate::enter()));
    }
}

thread_local! {
    static PARTICIPANT: Participant =
        Participant { handle: register(), retired: Cell::new(0), large: Cell::new(0), inside: Cell::new(None) };
    /// Where `PARTICIPANT` is, from its first use until its drop begins. What has no destructor is reached without asking
    /// whether it is there, in a few instructions.
    static OWN: Cell<*const Participant> = const { Cell::new(ptr::null()) };
}

#[cold]
fn register() -> LocalHandle {
    COLLECTOR.get_or_init(Collector::new).register()
}

/// The calling thread's part, if it has one now.
#[inline(always)]
fn own<R>(work: impl FnOnce(&Participant) -> R) -> Option<R> {
    // SAFETY: not null only while the thread's own participant is there, which stays where it is and is not dropped while
    // this thread is in `work`.
    unsafe { OWN.get().as_ref() }.map(work)
}

/// Pins the calling thread: nothing reachable now is freed before the guard is dropped.
#[inline(always)]
pub(crate) fn pin() -> Guard {
    own(Participant::pin).unwrap_or_else(pin_first)
}

#[cold]
fn pin_first() -> Guard {
    let first = |part: &Participant| {
        OWN.set(part);
        part.pin()
    };
    // A thread that is too far in its end for a part of its own gets one for as long as the guard.
    PARTICIPANT.try_with(first).unwrap_or_else(|_| register().pin())
}

impl Participant {
    #[inline(always)]
    fn pin(&self) -> Guard {
        if self.retired.get() >= FLUSH_BYTES {
            self.push_on();
        }
        self.handle.pin()
    }

    /// Not under a pin, which is no place to free what others retired.
    #[cold]
    fn push_on(&self) {
        if !self.handle.is_pinned() {
            self.retired.set(0);
            super::flush();
        }
    }
}

/// See [`super::retire`].
///
/// # Safety
/// As there.
#[inline]
pub(super) unsafe fn retire<T>(at: NonNull<T>, bytes: usize, free: unsafe fn(NonNull<T>), guard: &Guard) {
    // SAFETY: by contract.
    unsafe { retire_with(at, bytes, (), move |at, ()| free(at), guard) };
}

/// See [`super::retire_with`].
///
/// # Safety
/// As there.
#[inline]
pub(super) unsafe fn retire_with<T, C>(
    at: NonNull<T>,
    bytes: usize,
    context: C,
    free: impl FnOnce(NonNull<T>, C),
    guard: &Guard,
) {
    // SAFETY: by contract, whatever thread it runs on.
    unsafe { guard.defer_unchecked(move || free(at, context)) };
    // A thread that is too far in its end to count frees by its last pin.
    let retired = own(|part| {
        part.retired.set(part.retired.get().saturating_add(bytes));
        part.retired.get()
    });
    if retired.is_some_and(|retired| retired >= FLUSH_BYTES) {
        // Handed on to all threads: this one may do nothing more for long.
        guard.flush();
    }
}

/// See [`super::note_large`].
pub(super) fn note_large(bytes: u64) {
    let large = PARTICIPANT.try_with(|part| {
        part.large.set(part.large.get().saturating_add(bytes));
        part.large.get()
    });
    if large.is_ok_and(|large| large >= FREE_BYTES) {
        gate::before_leaving(free_large);
    }
}

fn free_large() {
    let _ = PARTICIPANT.try_with(|part| part.large.set(0));
    super::flush();
}

/// See [`super::look`]: nothing to note here.
#[inline]
pub(super) fn note_look<T>(_at: NonNull<T>, _guard: &Guard) {}

/// See [`super::note_look`]: nothing to note here.
#[inline]
pub(super) fn note_look_of_thread<T>(_at: NonNull<T>) {}

/// Whether the calling thread is pinned: then nothing that it retires can be freed before it unpins.
pub(crate) fn is_pinned() -> bool {
    own(|part| part.handle.is_pinned()).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::super::flush;
    use super::*;
    use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

    use crate::testing;

    /// How often crossbeam looks for what can be freed: at every 128th pin of a thread, the first included.
    const BETWEEN_COLLECTIONS: usize = 128;

    #[test]
    fn a_thread_that_ends_frees_inside_the_gate() {
        testing::alone(module_path!(), "a_thread_that_ends_frees_inside_the_gate", || {
            static FREED: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
            std::thread::spawn(|| {
                let _inside = gate::enter();
                drop(pin());
                let guard = pin();
                guard.defer(|| FREED[usize::from(gate::is_inside())].fetch_add(1, SeqCst));
                // One of the two steps that it takes; the pin of the thread's end makes the other.
                guard.flush();
                drop(guard);
                for _ in 2..BETWEEN_COLLECTIONS {
                    drop(pin());
                }
            })
            .join()
            .unwrap();
            assert_eq!(FREED.each_ref().map(|count| count.load(SeqCst)), [0, 1], "outside, inside");
        });
    }

    #[test]
    fn strangers_pins_hold_nothing_back() {
        testing::alone(module_path!(), "strangers_pins_hold_nothing_back", || {
            static FREED: AtomicU32 = AtomicU32::new(0);
            let stranger = crossbeam_epoch::pin();
            pin().defer(|| FREED.fetch_add(1, SeqCst));
            flush();
            assert_eq!(FREED.load(SeqCst), 1);
            drop(stranger);
        });
    }

    #[test]
    fn a_thread_that_retires_much_frees_as_it_goes() {
        testing::alone(module_path!(), "a_thread_that_retires_much_frees_as_it_goes", || {
            static FREED: AtomicU32 = AtomicU32::new(0);
            unsafe fn count(_at: NonNull<u8>) {
                FREED.fetch_add(1, SeqCst);
            }
            let _inside = gate::enter();
            // Fewer pins than crossbeam would collect at by itself.
            for _ in 0..8 {
                // SAFETY: `count` frees nothing.
                unsafe { retire(NonNull::dangling(), FLUSH_BYTES, count, &pin()) };
            }
            assert_eq!(FREED.load(SeqCst), 7, "all but the last, which no pin came after");
        });
    }
}
