//! The memory of open file descriptions that ended, for the calling thread's next ones.
//!
//! Promises: what a thread ends is opened again from the same memory, which is in its cache and needs no allocator, once nobody
//! can be looking at it any more; at most [`MOST`] descriptions' memory is kept a thread, and given back when it ends. Where
//! readers only pin, memory goes through the collector in batches: whichever thread finds that a batch is free says so in the
//! batch, and its owner comes to see. Never: waits, or fails an open for want of anything but memory.
//!
//! Freed one by one through the collector, descriptions were freed by the threads that did not open them half of the time,
//! who then met in the allocator.

use core::cell::RefCell;
use core::mem::{ManuallyDrop, needs_drop};
use core::ptr::NonNull;

use ermfs_memory::{AllocError, Counted, Ownerless, Unfilled};

use super::open_file::OpenFile;
use super::reclaim::{ByEpoch, has_pinning_readers};
use crate::epoch;
use crate::gate;
use crate::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Relaxed, Release},
};

/// Descriptions that wait for the collector together.
const BATCH: usize = 128;
/// Batches that a thread waits for.
const WAITING: usize = 2;
/// See the module's page.
#[cfg(all(test, not(feature = "check-memory")))]
const MOST: usize = (2 + WAITING) * BATCH;

/// A memory checker is to see each description freed as soon as it may be.
const IS_WATCHED: bool = cfg!(feature = "check-memory");

/// Memory for one description.
type Room = Unfilled<OpenFile, ByEpoch>;

// What a description holds it gives up when it ends, so its memory may be filled again without more ado, and late.
const _: () = assert!(!needs_drop::<OpenFile>());

thread_local! {
    static MINE: Mine = const { Mine(RefCell::new(Stock { free: Batch::EMPTY, ended: Batch::EMPTY, waiting: [const { None }; WAITING] })) };
}

/// What one thread keeps.
struct Stock {
    /// Nobody looks at these.
    free: Batch,
    /// Somebody may.
    ended: Batch,
    /// The same, and the collector has been asked. The oldest first.
    waiting: [Option<Counted<Waiting>>; WAITING],
}

/// Memory of descriptions that ended, or never were; dropping it frees that.
struct Batch {
    memory: [Option<NonNull<OpenFile>>; BATCH],
    len: usize,
}

impl Batch {
    const EMPTY: Batch = Batch { memory: [None; BATCH], len: 0 };

    fn push(&mut self, memory: NonNull<OpenFile>) {
        self.memory[self.len] = Some(memory);
        self.len += 1;
    }

    fn pop(&mut self) -> Option<NonNull<OpenFile>> {
        self.len = self.len.checked_sub(1)?;
        self.memory[self.len].take()
    }

    fn is_full(&self) -> bool {
        self.len == BATCH
    }
}

// SAFETY: it owns what it names, which are `Send`.
unsafe impl Send for Batch {}
// SAFETY: through a shared reference nothing can be reached.
unsafe impl Sync for Batch {}

impl Drop for Batch {
    fn drop(&mut self) {
        while let Some(memory) = self.pop() {
            // SAFETY: a batch owns what is in it, and is dropped only when nobody looks at that.
            drop(unsafe { Room::from_raw(memory) });
        }
    }
}

/// A batch on its way through the collector. Its owner and the collector have a reference each.
struct Waiting {
    batch: ManuallyDrop<Batch>,
    /// Nobody looks at what is in it. Release, with the owner's Acquire: what they did happens before it is filled again.
    is_free: AtomicBool,
    /// The owner has what is in it. Written and read by who is known to be alone, or by the owner.
    is_taken: AtomicBool,
}

impl Waiting {
    /// What is in it, once, for the owner, if nobody looks at it any more.
    fn take(&self) -> Option<Batch> {
        if !self.is_free.load(Acquire) || self.is_taken.load(Relaxed) {
            return None;
        }
        self.is_taken.store(true, Relaxed);
        // SAFETY: only the owner comes here, once; `drop` leaves the batch alone from now on.
        Some(unsafe { core::ptr::read(&*self.batch) })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Relaxed: letting a reference of a counted value go orders the owner's store before this.
        if !self.is_taken.load(Relaxed) {
            // SAFETY: the last reference goes, so the collector has let its own go, which it does when nobody looks at
            // what is in the batch; and nobody has taken it.
            unsafe { ManuallyDrop::drop(&mut self.batch) };
        }
    }
}

/// Makes sure that the next [`room`] of this thread does not fail.
///
/// # Errors
/// [`AllocError::Memory`].
#[inline]
pub(super) fn reserve() -> Result<(), AllocError> {
    MINE.try_with(|mine| {
        let stock = &mut *mine.0.borrow_mut();
        if stock.free.len == 0 && !stock.restock() {
            stock.free.push(Room::new()?.into_raw());
        }
        Ok(())
    })
    // A thread that is too far in its end keeps none.
    .unwrap_or(Ok(()))
}

/// Memory for a description.
///
/// # Errors
/// [`AllocError::Memory`].
#[inline]
pub(super) fn room() -> Result<Room, AllocError> {
    match MINE.try_with(|mine| mine.0.borrow_mut().take()) {
        // SAFETY: it came from `into_raw`, and nobody looks at it.
        Ok(Some(memory)) => Ok(unsafe { Room::from_raw(memory) }),
        _ => Room::new(),
    }
}

/// Keeps the memory of a description that has ended, or frees it.
#[inline]
pub(super) fn put(ended: Ownerless<OpenFile>) {
    let ended = ended.into_raw();
    if IS_WATCHED {
        return retire_one(ended);
    }
    let batch = MINE.try_with(|mine| {
        let stock = &mut *mine.0.borrow_mut();
        let shelf = if has_pinning_readers() { &mut stock.ended } else { &mut stock.free };
        if shelf.is_full() {
            // Of those that are free, only `free` ever is.
            return Err(ended);
        }
        shelf.push(ended);
        Ok(stock.ended.is_full().then(|| core::mem::replace(&mut stock.ended, Batch::EMPTY)))
    });
    match batch {
        Ok(Ok(None)) => {}
        Ok(Ok(Some(batch))) => retire(batch),
        // SAFETY: nobody looks at it: there are no readers that only pin.
        Ok(Err(ended)) if !has_pinning_readers() => drop(unsafe { Room::from_raw(ended) }),
        Ok(Err(ended)) => retire_one(ended),
        // A thread that is too far in its end keeps none.
        Err(_) => retire_one(ended),
    }
}

impl Stock {
    #[inline]
    fn take(&mut self) -> Option<NonNull<OpenFile>> {
        if self.free.len == 0 && !self.restock() {
            return None;
        }
        self.free.pop()
    }

    /// Has the oldest batch that waits for `free`, which is empty, if it may be had.
    #[cold]
    fn restock(&mut self) -> bool {
        let Some(batch) = self.waiting[0].as_ref().and_then(|oldest| oldest.take()) else { return false };
        self.free = batch;
        self.waiting[0] = None;
        self.waiting.rotate_left(1);
        true
    }

    /// Waits for one more, if there is room for it.
    fn wait_for(&mut self, batch: Counted<Waiting>) {
        if let Some(place) = self.waiting.iter_mut().find(|place| place.is_none()) {
            *place = Some(batch);
        }
    }
}

/// Sends a batch through the collector.
#[cold]
fn retire(batch: Batch) {
    let waiting = Waiting {
        batch: ManuallyDrop::new(batch),
        is_free: AtomicBool::new(false),
        is_taken: AtomicBool::new(false),
    };
    match Counted::try_new(waiting) {
        Ok(waiting) => {
            let ours: Counted<Waiting> = waiting.clone();
            let guard = epoch::pin();
            guard.defer(move || waiting.is_free.store(true, Release));
            // Else it would wait until so many more have come.
            guard.flush();
            // Not while the stock is borrowed: what is freed on the way may end descriptions.
            let _ = MINE.try_with(move |mine| mine.0.borrow_mut().wait_for(ours));
        }
        Err((_, mut waiting)) => {
            while let Some(ended) = waiting.batch.pop() {
                retire_one(ended);
            }
        }
    }
}

fn retire_one(ended: NonNull<OpenFile>) {
    unsafe fn free(ended: NonNull<OpenFile>) {
        // SAFETY: by `retire`'s contract, once.
        drop(unsafe { Room::from_raw(ended) });
    }
    // SAFETY: without an owner nobody new finds it; this is the only way it is freed.
    unsafe { epoch::retire(ended, size_of::<OpenFile>(), free, &epoch::pin()) };
}

/// A thread's stock, which goes when the thread does.
struct Mine(RefCell<Stock>);

impl Drop for Mine {
    fn drop(&mut self) {
        let _inside = gate::enter();
        while let Some(ended) = self.0.get_mut().ended.pop() {
            retire_one(ended);
        }
        // What waits the collector frees.
    }
}

#[cfg(all(test, not(feature = "check-memory")))]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::process::fd_table;
    use crate::process::{AT_FDCWD, close, openat};
    use crate::testing;

    #[test]
    fn what_a_thread_closes_it_opens_again_in_the_same_memory() {
        testing::alone(module_path!(), "what_a_thread_closes_it_opens_again_in_the_same_memory", || {
            let mut places = HashSet::new();
            for round in 0..20 * MOST {
                let fd = openat(AT_FDCWD, b"f", libc::O_RDWR | libc::O_CREAT, 0o600).unwrap();
                places.insert(core::ptr::from_ref(&*fd_table::lookup(fd).unwrap()).addr());
                close(fd).unwrap();
                assert!(places.len() <= MOST, "in round {round}");
            }
            assert!(places.len() > 1 || !has_pinning_readers(), "one that has ended may still be looked at");
        });
    }

    #[test]
    fn threads_that_close_what_others_opened_keep_no_more_than_their_stock() {
        testing::alone(
            module_path!(),
            "threads_that_close_what_others_opened_keep_no_more_than_their_stock",
            || {
                let open = || openat(AT_FDCWD, b"f", libc::O_RDWR | libc::O_CREAT, 0o600).unwrap();
                for _ in 0..20 {
                    let fds: Vec<i32> = (0..2 * MOST).map(|_| open()).collect();
                    let closer =
                        std::thread::spawn(move || fds.into_iter().for_each(|fd| close(fd).unwrap()));
                    closer.join().unwrap();
                }
                let kept = MINE.with(|mine| {
                    let stock = mine.0.borrow();
                    (stock.free.len + stock.ended.len, stock.waiting.iter().flatten().count())
                });
                assert_eq!(kept, (0, 0), "it closed nothing itself");
            },
        );
    }
}
