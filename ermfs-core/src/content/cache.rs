//! Inflated copies of packed blocks, kept while there is room.
//!
//! Promises: a copy hangs on the block it was made of, so it cannot be stale; all copies of a
//! filesystem together stay under its `cache_bytes` and are charged to its budget; under pressure
//! they go first. Whoever reads waits for none of it. Which go is decided by a clock: a copy that was read since the hand came by stays
//! for another round.
//!
//! Copy protocol (B4 in docs/INVARIANTS.md): `PackedBlock::copy` is written only under the clock's
//! mutex. A reader pins the epoch, loads it with Acquire (pairs with the Release store in
//! [`Cache::inflate`]) and uses the copy while pinned. Whoever takes a copy off a block drops its
//! reference through the collector, after the pins that may have seen it. A block that is dropped
//! takes its copy along under the mutex, so the clock never holds a dangling block. Whoever locks the
//! clock to take copies out pins first: pinning may run what others retired, and that must not happen
//! under a mutex.

use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};

use ermfs_memory::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use ermfs_memory::sync::{Arc, Mutex, MutexGuard};
use ermfs_memory::{Counted, Kind, Piece, Purpose};

use super::block::PackedBlock;
use crate::epoch;
use crate::errno::{Errno, Result};
use crate::failpoint::failpoint;
use crate::inject::fails;
use crate::space::Space;

/// The plain bytes of one packed block.
pub(crate) struct InflatedCopy {
    space: Arc<Space>,
    piece: Piece,
    used: AtomicBool,
    /// Where the clock keeps the block. Written and read under the clock's mutex.
    position: AtomicUsize,
}

impl InflatedCopy {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.piece.as_slice()
    }

    #[inline]
    pub(super) fn mark_used(&self) {
        // Not written when already set: readers of a hot copy share its cache line.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    fn footprint(len: usize) -> u64 {
        Piece::footprint(len) + Counted::<InflatedCopy>::footprint()
    }

    /// A copy of `block` that hangs nowhere and lives as long as it is held.
    pub(super) fn of(
        space: &Arc<Space>,
        block: &PackedBlock,
        purpose: Purpose,
    ) -> Result<Counted<InflatedCopy>> {
        space.charge(Kind::Cached, InflatedCopy::footprint(block.raw_len()), purpose)?;
        InflatedCopy::charged(space, block)
    }

    /// A copy whose charge was taken; on failure the charge is released.
    fn charged(space: &Arc<Space>, block: &PackedBlock) -> Result<Counted<InflatedCopy>> {
        let piece = Piece::alloc(block.raw_len()).inspect_err(|_| {
            space.release(Kind::Cached, InflatedCopy::footprint(block.raw_len()));
        })?;
        let copy = InflatedCopy {
            space: Arc::clone(space),
            piece,
            used: AtomicBool::new(false),
            position: AtomicUsize::new(0),
        };
        // SAFETY: the piece is ours alone and raw_len bytes long.
        let room = unsafe {
            core::slice::from_raw_parts_mut(copy.piece.as_ptr().cast::<MaybeUninit<u8>>(), copy.piece.len())
        };
        block.inflate(room)?;
        Ok(Counted::try_new(copy).map_err(|(error, _)| error)?)
    }
}

impl Drop for InflatedCopy {
    fn drop(&mut self) {
        self.space.release(Kind::Cached, InflatedCopy::footprint(self.piece.len()));
    }
}

/// A block in the clock. The pointer is valid while the clock's mutex is held.
struct Entry(NonNull<PackedBlock>);

// SAFETY: the pointer is only followed under the clock's mutex, and a block takes itself out of the
// clock, under the same mutex, before it is freed.
unsafe impl Send for Entry {}

#[derive(Default)]
struct Clock {
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    hand: usize,
    bytes: u64,
}

/// All inflated copies of one filesystem.
pub(crate) struct Cache {
    limit: u64,
    clock: Mutex<Clock>,
    /// Bytes of copies that were taken off their blocks and wait for the pins that may have seen them.
    retired: AtomicU64,
    /// Charges that look for room right now.
    pressing: AtomicUsize,
}

/// Keeps new copies away until it is dropped.
pub(crate) struct Pressing<'a>(&'a Cache);

impl Drop for Pressing<'_> {
    fn drop(&mut self) {
        self.0.pressing.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Cache {
    pub(crate) fn new(limit: u64) -> Cache {
        Cache { limit, clock: Mutex::default(), retired: AtomicU64::new(0), pressing: AtomicUsize::new(0) }
    }

    /// No copies are kept anew until the answer is dropped: what is let go meanwhile is for the caller.
    pub(crate) fn press(&self) -> Pressing<'_> {
        self.pressing.fetch_add(1, Ordering::Relaxed);
        Pressing(self)
    }

    /// Whether copies that were let go are not freed yet, because a pin may have seen them.
    pub(crate) fn has_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed) > 0
    }

    /// Inflates `block` into a copy that is kept, and returns it; `None` when there is no room for one.
    ///
    /// # Errors
    /// `EIO` when the member is corrupt.
    pub(super) fn inflate(
        &self,
        space: &Arc<Space>,
        block: &PackedBlock,
    ) -> Result<Option<Counted<InflatedCopy>>> {
        let bytes = InflatedCopy::footprint(block.raw_len());
        if bytes > self.limit || self.pressing.load(Ordering::Relaxed) > 0 {
            return Ok(None);
        }
        // A reader waits for nobody: where another thread has the clock, no copy is kept.
        if !self.try_shrink_to(|_| self.limit - bytes) {
            return Ok(None);
        }
        // Where a thread that is pinned does not run, what was retired stays: it counts like what is kept.
        if self.retired.load(Ordering::Relaxed) + bytes > self.limit {
            return Ok(None);
        }
        // Straight to the budget: a copy is not worth pushing anything else out for.
        if space.budget().charge(Kind::Cached, bytes, Purpose::Ordinary).is_err() {
            return Ok(None);
        }
        let copy = match InflatedCopy::charged(space, block) {
            Err(Errno::ENOMEM) => return Ok(None),
            copy => copy?,
        };
        failpoint!("cache.keep");
        if let Some(mut clock) = self.clock.try_lock() {
            clock.keep(block, &copy);
        }
        Ok(Some(copy))
    }

    /// Lets go of copies until about `bytes` came free.
    pub(crate) fn shrink(&self, bytes: u64) {
        self.shrink_to(|kept| kept.saturating_sub(bytes));
    }

    /// Turns the hand until at most `target(bytes kept now)` bytes are kept, and has them freed.
    fn shrink_to(&self, target: impl FnOnce(u64) -> u64) {
        let pin = epoch::pin();
        self.shrink_clock(self.clock.lock(), pin, target);
    }

    /// The same, unless another thread has the clock: then `false`.
    fn try_shrink_to(&self, target: impl FnOnce(u64) -> u64) -> bool {
        let pin = epoch::pin();
        let Some(clock) = self.clock.try_lock() else { return false };
        self.shrink_clock(clock, pin, target);
        true
    }

    fn shrink_clock(
        &self,
        mut clock: MutexGuard<'_, Clock>,
        pin: epoch::Guard,
        target: impl FnOnce(u64) -> u64,
    ) {
        let target = target(clock.bytes);
        if clock.bytes > target {
            clock.make_room(target, &pin);
            drop(clock);
            drop(pin);
            // Retired copies are charged until they are freed, and they are what is large here.
            epoch::flush();
        }
    }

    /// Takes the copy off a block that is being dropped.
    pub(super) fn forget(&self, block: &PackedBlock) {
        let mut clock = self.clock.lock();
        let copy = NonNull::new(block.copy.swap(ptr::null_mut(), Ordering::AcqRel));
        let copy = copy.map(|copy| clock.take_out(copy));
        drop(clock);
        // At once: whoever reads a copy through its block holds the block, and nobody does any more.
        drop(copy);
    }
}

impl Clock {
    /// Hangs `copy` on `block`, unless another thread was faster.
    fn keep(&mut self, block: &PackedBlock, copy: &Counted<InflatedCopy>) {
        if !block.copy.load(Ordering::Relaxed).is_null() {
            return;
        }
        let position = match self.free.pop() {
            Some(position) => position,
            // Room in `free` for every entry, so that giving one back never allocates.
            None if fails!("cache.grow")
                || self.entries.try_reserve(1).is_err()
                || self.free.try_reserve(self.entries.len() + 1).is_err() =>
            {
                return;
            }
            None => {
                self.entries.push(None);
                self.entries.len() - 1
            }
        };
        self.entries[position] = Some(Entry(NonNull::from(block)));
        copy.position.store(position, Ordering::Relaxed);
        self.bytes += InflatedCopy::footprint(copy.piece.len());
        block.copy.store(Counted::into_raw(Counted::clone(copy)).as_ptr(), Ordering::Release);
    }

    /// Removes the entry of a copy that was just taken off its block, and gives the block's reference.
    fn take_out(&mut self, copy: NonNull<InflatedCopy>) -> Counted<InflatedCopy> {
        // SAFETY: taken off under the mutex, by one thread only, so this is exactly the reference that
        // keep() gave to the block.
        let copy = unsafe { Counted::from_raw(copy) };
        let position = copy.position.load(Ordering::Relaxed);
        self.entries[position] = None;
        self.free.push(position);
        self.bytes -= InflatedCopy::footprint(copy.piece.len());
        copy
    }

    /// Turns the hand until at most `target` bytes are kept.
    fn make_room(&mut self, target: u64, pin: &epoch::Guard) {
        // Two rounds take the used mark off everything and then everything out.
        let mut steps = self.entries.len() * 2;
        while self.bytes > target && steps > 0 {
            steps -= 1;
            let position = self.hand;
            self.hand = (self.hand + 1) % self.entries.len();
            let Some(Entry(block)) = &self.entries[position] else { continue };
            // SAFETY: entries are valid while the mutex is held (see Entry).
            let slot = unsafe { &block.as_ref().copy };
            let Some(copy) = NonNull::new(slot.load(Ordering::Relaxed)) else { continue };
            // SAFETY: the block's own reference keeps the copy while the mutex is held.
            if unsafe { copy.as_ref() }.used.swap(false, Ordering::Relaxed) {
                continue;
            }
            slot.store(ptr::null_mut(), Ordering::Release);
            let copy = self.take_out(copy);
            let bytes = InflatedCopy::footprint(copy.piece.len());
            copy.space.cache.retired.fetch_add(bytes, Ordering::Relaxed);
            // SAFETY: a counted reference may be dropped on any thread, and what it frees is not borrowed
            // from anything: the space it names is kept by an Arc of its own.
            unsafe {
                pin.defer_unchecked(move || {
                    let space = Arc::clone(&copy.space);
                    drop(copy);
                    space.cache.retired.fetch_sub(bytes, Ordering::Relaxed);
                });
            }
        }
    }
}
