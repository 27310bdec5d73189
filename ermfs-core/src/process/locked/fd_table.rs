//! The descriptor table of the locked mode.
//!
//! Promises: see [`FdTable`]. One mutex guards which numbers are free, and every change of what a
//! number names is made under it; a lookup takes only the lock of its own slot. Owns the references in
//! the slots; the chunks of slots come on first use and stay. Never drops a description under the
//! mutex: closing one may pack a whole file.

use core::ptr;

use ermfs_memory::sync::atomic::{
    AtomicPtr,
    Ordering::{Acquire, Relaxed, Release},
};
use ermfs_memory::sync::{Mutex, MutexGuard};
use ermfs_memory::{AllocError, Counted, Reclaim, Zeroable, try_zeroed_slice};

use super::bitmap::Bitmap;
use super::slot::Slot;
use crate::errno::{Errno, Result};
use crate::process::fd_table::{FdTable, index_in, number, start_of};

/// Slots that are allocated together: one page.
const CHUNK: usize = 512;

/// The way to one chunk: null until a number in it is first claimed, then never changed.
struct Chunk<T, R: Reclaim<T>>(AtomicPtr<Slot<T, R>>);

// SAFETY: null is the value of a chunk that is not there.
unsafe impl<T, R: Reclaim<T>> Zeroable for Chunk<T, R> {}

/// See the module's page.
pub(in crate::process) struct Table<T, R: Reclaim<T>> {
    numbers: Mutex<Bitmap>,
    chunks: Box<[Chunk<T, R>]>,
    capacity: usize,
}

impl<T, R: Reclaim<T>> Table<T, R> {
    /// A table for `capacity` descriptors, all free.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(in crate::process) fn new(capacity: usize) -> Result<Table<T, R>> {
        let chunks = try_zeroed_slice(capacity.div_ceil(CHUNK))?;
        Ok(Table { numbers: Mutex::new(Bitmap::new(capacity)?), chunks, capacity })
    }

    /// The slot of a number, if its chunk is there.
    #[inline]
    fn slot(&self, index: usize) -> Option<&Slot<T, R>> {
        let chunk = self.chunks.get(index / CHUNK)?.0.load(Acquire);
        if chunk.is_null() {
            return None;
        }
        // SAFETY: a chunk has CHUNK slots and lives as long as the table.
        Some(unsafe { &*chunk.add(index % CHUNK) })
    }

    /// The slot of a number within the capacity, its chunk being made if need be. Needs the mutex, so
    /// that a chunk is made once.
    fn slot_made(
        &self,
        index: usize,
        _numbers: &MutexGuard<'_, Bitmap>,
    ) -> core::result::Result<&Slot<T, R>, AllocError> {
        let chunk = &self.chunks[index / CHUNK].0;
        if chunk.load(Relaxed).is_null() {
            let slots = try_zeroed_slice::<Slot<T, R>>(CHUNK)?;
            chunk.store(Box::into_raw(slots).cast(), Release);
        }
        self.slot(index).ok_or(AllocError::Memory)
    }

    #[inline]
    fn slot_of(&self, fd: i32) -> Result<&Slot<T, R>> {
        index_in(self.capacity, fd).and_then(|index| self.slot(index)).ok_or(Errno::EBADF)
    }
}

impl<T: Send + Sync, R: Reclaim<T>> FdTable<T, R> for Table<T, R> {
    #[inline(always)]
    fn lookup(&self, fd: i32) -> Result<Counted<T, R>> {
        self.slot_of(fd)?.get().ok_or(Errno::EBADF)
    }

    /// Never: what is looked at is counted.
    #[inline(always)]
    fn briefly<A>(&self, _fd: i32, _look: impl FnOnce(&T) -> Option<Result<A>>) -> Option<Result<A>> {
        None
    }

    /// The slot's own lock orders the look after what was set.
    fn still_names(&self, fd: i32, file: &Counted<T, R>) -> bool {
        self.lookup(fd).is_ok_and(|now| now.ptr_eq(file))
    }

    /// The lowest in any case: a thread's own part of the table is for the mode in which threads do not
    /// meet at the mutex anyway.
    fn claim(&self, lowest: i32, _any: bool) -> Result<i32> {
        let mut numbers = self.numbers.lock();
        let index = numbers.lowest_from(start_of(lowest)).ok_or(Errno::EMFILE)?;
        self.slot_made(index, &numbers)?;
        numbers.take(index);
        Ok(number(index))
    }

    fn install(&self, fd: i32, file: Counted<T, R>, close_on_exec: bool) {
        if let Ok(slot) = self.slot_of(fd) {
            slot.fill(file, close_on_exec);
        }
    }

    fn unclaim(&self, fd: i32) {
        if let Some(index) = index_in(self.capacity, fd) {
            self.numbers.lock().free(index);
        }
    }

    fn replace(&self, fd: i32, file: Counted<T, R>, close_on_exec: bool) -> Result<Option<Counted<T, R>>> {
        let index = index_in(self.capacity, fd).ok_or(Errno::EBADF)?;
        let mut numbers = self.numbers.lock();
        let slot = self.slot_made(index, &numbers)?;
        if numbers.is_free(index) {
            numbers.take(index);
            slot.fill(file, close_on_exec);
            return Ok(None);
        }
        let exchanged = slot.exchange(file, close_on_exec);
        drop(numbers);
        // What was not put in may be the last reference, and goes without the lock.
        exchanged.map(Some).map_err(|_refused| Errno::EBUSY)
    }

    fn remove(&self, fd: i32) -> Result<Counted<T, R>> {
        let index = index_in(self.capacity, fd).ok_or(Errno::EBADF)?;
        let slot = self.slot(index).ok_or(Errno::EBADF)?;
        let mut numbers = self.numbers.lock();
        let file = slot.take().ok_or(Errno::EBADF)?;
        numbers.free(index);
        Ok(file)
    }

    fn close_on_exec(&self, fd: i32) -> Result<bool> {
        self.slot_of(fd)?.flag().ok_or(Errno::EBADF)
    }

    fn set_close_on_exec(&self, fd: i32, on: bool) -> Result<()> {
        self.slot_of(fd)?.set_flag(on).ok_or(Errno::EBADF)
    }

    fn used(&self) -> usize {
        self.numbers.lock().used()
    }

    fn capacity(&self) -> usize {
        self.capacity
    }
}

impl<T, R: Reclaim<T>> Drop for Table<T, R> {
    fn drop(&mut self) {
        for chunk in &mut self.chunks {
            let slots = *chunk.0.get_mut();
            if !slots.is_null() {
                // SAFETY: made by `Box::into_raw` of a slice of CHUNK slots, and nobody looks any more.
                drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(slots, CHUNK)) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::reclaim::{ByEpoch, Ends};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    static TABLE: OnceLock<Table<Asking, ByEpoch>> = OnceLock::new();
    /// How many have ended under the mutex, and not.
    static ENDED: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];

    struct Asking;
    impl Ends for Asking {
        fn end(&self) {
            let is_free = TABLE.get().is_some_and(|table| table.numbers.try_lock().is_some());
            ENDED[usize::from(is_free)].fetch_add(1, SeqCst);
        }
    }

    fn asking() -> Counted<Asking, ByEpoch> {
        Counted::try_new_reclaimed(Asking).map_err(|(error, _)| error).unwrap()
    }

    #[test]
    fn what_is_closed_replaced_or_refused_ends_without_the_mutex() {
        let table = TABLE.get_or_init(|| Table::new(10).unwrap());
        let claimed = table.claim(0, false).unwrap();
        assert_eq!(table.replace(claimed, asking(), false).err(), Some(Errno::EBUSY));
        assert_eq!(table.remove(claimed).err(), Some(Errno::EBADF));
        table.install(claimed, asking(), false);
        drop(table.replace(claimed, asking(), false).unwrap());
        drop(table.remove(claimed).unwrap());
        assert_eq!(ENDED.each_ref().map(|count| count.load(SeqCst)), [0, 3]);
        assert_eq!(table.used(), 0);
    }
}
