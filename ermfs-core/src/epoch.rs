//! The process's one epoch collector (crossbeam-epoch), for what readers reach without holding a
//! lock or a reference: inodes during a path walk, inflated copies during a read.
//!
//! Promises: what is deferred under a pin is dropped only after every pin that could have seen it
//! is gone. Never: a pin held across a wait, a system call, or more than one block's worth of work;
//! a stalled pin holds back the memory of the whole process.

pub(crate) use crossbeam_epoch::Guard;

/// Pins the calling thread: nothing reachable now is freed before the guard is dropped.
#[inline]
pub(crate) fn pin() -> Guard {
    crossbeam_epoch::pin()
}

/// Whether the calling thread is pinned: then nothing that it retires can be freed before it unpins.
pub(crate) fn is_pinned() -> bool {
    crossbeam_epoch::is_pinned()
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
