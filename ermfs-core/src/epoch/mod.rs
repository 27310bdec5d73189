//! The process's one epoch collector, for what readers reach without holding a lock or a reference: inodes
//! during a path walk, inflated copies during a read, and what the lockless mode's readers look at.
//!
//! Promises: what is retired or deferred under a pin is freed only after every pin that could have seen it
//! is gone, and by a thread that is inside the [gate](crate::gate), also while that thread ends. A thread that
//! has retired [`FLUSH_BYTES`] hands them on to all threads at once, and pushes them towards being freed at its next
//! pin; one whose calls have retired [`FREE_BYTES`] of files' contents does so when its call ends. Never: a pin held across a wait, a system call, or more than one block's worth of work; a stalled pin holds back the memory of the
//! whole process.
//!
//! Built with `--cfg loom`, a collector of the tests' own (`model`) stands in for crossbeam-epoch: it frees as
//! early as the promise allows, and a test in which something is looked at that is freed, or freed while it is
//! looked at, fails. It learns what is looked at from [`look`] and [`note_look`], and what is freed from
//! [`retire`] and [`retire_with`], which the lock-free modules therefore use.

#[cfg(not(loom))]
mod collector;
#[cfg(loom)]
pub(crate) mod model;

use core::ptr::NonNull;

#[cfg(not(loom))]
use collector as backend;
#[cfg(loom)]
use model as backend;

pub(crate) use backend::{Guard, is_pinned, pin};

/// How much a thread retires before it looks, at its next pin, what of it can be freed.
pub(crate) const FLUSH_BYTES: usize = 256 * 1024;

/// How much of the contents of files a thread retires before it looks, when its call ends, what of it can be freed: what
/// nobody comes to free after that is less.
pub(crate) const FREE_BYTES: u64 = 1 << 20;

/// Notes that the calling thread has deferred the freeing of so many bytes of a file's content.
#[inline]
pub(crate) fn note_large(bytes: u64) {
    backend::note_large(bytes);
}

/// Has `free` called with `at` once no pin of now is left. `bytes` is what that will free, about.
///
/// # Safety
/// Nobody can reach `at` any more but by a pin of now; it is freed by this call alone, which `free` must be
/// right for, on whatever thread.
#[inline]
pub(crate) unsafe fn retire<T>(at: NonNull<T>, bytes: usize, free: unsafe fn(NonNull<T>), guard: &Guard) {
    // SAFETY: by this function's contract.
    unsafe { backend::retire(at, bytes, free, guard) };
}

/// As [`retire`], with something that `free` needs: no more than two words, to need no memory.
///
/// # Safety
/// As there; `context` may go to another thread, too.
#[inline]
pub(crate) unsafe fn retire_with<T, C>(
    at: NonNull<T>,
    bytes: usize,
    context: C,
    free: impl FnOnce(NonNull<T>, C),
    guard: &Guard,
) {
    // SAFETY: by this function's contract.
    unsafe { backend::retire_with(at, bytes, context, free, guard) };
}

/// Notes, in a model, that the calling thread looks at what `at` points to under whatever pins or locks it has.
#[inline]
pub(crate) fn note_look<T>(at: NonNull<T>) {
    backend::note_look_of_thread(at);
}

/// What `at` points to, for as long as the pin.
///
/// # Safety
/// `at` was found under the pin of `guard` in a place that it is taken out of before it is retired.
#[inline]
pub(crate) unsafe fn look<T>(at: NonNull<T>, guard: &Guard) -> &T {
    backend::note_look(at, guard);
    // SAFETY: by contract, `at` is not freed while `guard` is there.
    unsafe { at.as_ref() }
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
