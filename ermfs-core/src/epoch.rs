//! The process's one epoch collector (crossbeam-epoch), for what readers reach without holding a
//! lock or a reference: inodes during a path walk, inflated copies during a read.
//!
//! Promises: what is deferred under a pin is dropped only after every pin that could have seen it
//! is gone, and by a thread that is inside the [gate](crate::gate), also while that thread ends.
//! The collector is the library's own: crossbeam's default one is shared with whatever else the program
//! is made of, whose pins would hold our memory back (for good, in a fork child that lost the pinned
//! thread) and whose threads would drop our things outside the gate. Never: a pin held across a wait, a
//! system call, or more than one block's worth of work; a stalled pin holds back the memory of the
//! whole process.

use core::cell::Cell;
use std::sync::OnceLock;

pub(crate) use crossbeam_epoch::Guard;
use crossbeam_epoch::{Collector, LocalHandle};

use crate::gate::{self, InOperation};

static COLLECTOR: OnceLock<Collector> = OnceLock::new();

/// A thread's part of the collector.
struct Participant {
    handle: LocalHandle,
    /// Filled when the thread ends, so that `handle`, whose drop may free what others retired, goes inside the gate.
    /// Dropped after it.
    inside: Cell<Option<InOperation>>,
}

impl Drop for Participant {
    fn drop(&mut self) {
        self.inside.set(Some(gate::enter()));
    }
}

thread_local! {
    static PARTICIPANT: Participant = Participant { handle: register(), inside: Cell::new(None) };
}

#[cold]
fn register() -> LocalHandle {
    COLLECTOR.get_or_init(Collector::new).register()
}

/// Pins the calling thread: nothing reachable now is freed before the guard is dropped.
#[inline]
pub(crate) fn pin() -> Guard {
    // A thread that is too far in its end for a part of its own gets one for as long as the guard.
    PARTICIPANT.try_with(|part| part.handle.pin()).unwrap_or_else(|_| register().pin())
}

/// Whether the calling thread is pinned: then nothing that it retires can be freed before it unpins.
pub(crate) fn is_pinned() -> bool {
    PARTICIPANT.try_with(|part| part.handle.is_pinned()).unwrap_or(false)
}

/// Pushes what this thread retired towards being freed, as far as other threads' pins allow.
///
/// Called when a budget is at its limit and when a filesystem goes away. It takes no lock and may
/// free nothing: another thread that is pinned right now is not waited for.
pub(crate) fn flush() {
    // The epoch must move twice past the retiring pin; each round of pin, flush and unpin tries to
    // move it once.
    for _ in 0..4 {
        pin().flush();
    }
}

#[cfg(test)]
mod tests {
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
}
