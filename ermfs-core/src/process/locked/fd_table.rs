//! The descriptor table of the locked mode.
//!
//! Promises: see [`FdTable`]. One mutex guards which numbers are free, and every change of what a
//! number names is made under it; a lookup takes only the lock of its own slot. Owns the references in
//! the slots; the chunks of slots come on first use and stay. Never drops a description under the
//! mutex: closing one may pack a whole file.

use core::ptr;
use core::sync::atomic::{
    AtomicPtr,
    Ordering::{Acquire, Relaxed, Release},
};

use ermfs_memory::{AllocError, Counted, Zeroable, try_zeroed_slice};
use parking_lot::{Mutex, MutexGuard};

use super::bitmap::Bitmap;
use super::slot::Slot;
use crate::errno::{Errno, Result};
use crate::process::fd_table::{FIRST_FD, FdTable};
use crate::process::open_file::OpenFile;

/// Slots that are allocated together: one page.
const CHUNK: usize = 512;

/// The way to one chunk: null until a number in it is first claimed, then never changed.
struct Chunk(AtomicPtr<Slot<OpenFile>>);

// SAFETY: null is the value of a chunk that is not there.
unsafe impl Zeroable for Chunk {}

/// See the module's page.
pub(in crate::process) struct Table {
    numbers: Mutex<Bitmap>,
    chunks: Box<[Chunk]>,
    capacity: usize,
}

impl Table {
    /// A table for `capacity` descriptors, all free.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(in crate::process) fn new(capacity: usize) -> Result<Table> {
        let chunks = try_zeroed_slice(capacity.div_ceil(CHUNK))?;
        Ok(Table { numbers: Mutex::new(Bitmap::new(capacity)?), chunks, capacity })
    }

    /// The slot of a number, if its chunk is there.
    #[inline]
    fn slot(&self, index: usize) -> Option<&Slot<OpenFile>> {
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
    ) -> core::result::Result<&Slot<OpenFile>, AllocError> {
        let chunk = &self.chunks[index / CHUNK].0;
        if chunk.load(Relaxed).is_null() {
            let slots = try_zeroed_slice::<Slot<OpenFile>>(CHUNK)?;
            chunk.store(Box::into_raw(slots).cast(), Release);
        }
        self.slot(index).ok_or(AllocError::Memory)
    }

    /// The number's place in the table; `None` outside of it.
    #[inline]
    fn index(&self, fd: i32) -> Option<usize> {
        let index = usize::try_from(fd.checked_sub(FIRST_FD)?).ok()?;
        (index < self.capacity).then_some(index)
    }

    #[inline]
    fn slot_of(&self, fd: i32) -> Result<&Slot<OpenFile>> {
        self.index(fd).and_then(|index| self.slot(index)).ok_or(Errno::EBADF)
    }
}

/// The descriptor at a place in the table.
fn number(index: usize) -> i32 {
    // Within the capacity, which ends far below i32::MAX - FIRST_FD.
    FIRST_FD + index as i32
}

impl FdTable for Table {
    #[inline]
    fn lookup(&self, fd: i32) -> Result<Counted<OpenFile>> {
        self.slot_of(fd)?.get().ok_or(Errno::EBADF)
    }

    /// The lowest in any case: a thread's own part of the table is for the mode in which threads do not
    /// meet at the mutex anyway.
    fn claim(&self, lowest: i32, _any: bool) -> Result<i32> {
        let from = usize::try_from(lowest.saturating_sub(FIRST_FD)).unwrap_or(0);
        let mut numbers = self.numbers.lock();
        let index = numbers.lowest_from(from).ok_or(Errno::EMFILE)?;
        self.slot_made(index, &numbers)?;
        numbers.take(index);
        Ok(number(index))
    }

    fn install(&self, fd: i32, file: Counted<OpenFile>, close_on_exec: bool) {
        if let Ok(slot) = self.slot_of(fd) {
            let before = slot.replace(Some(file), close_on_exec);
            debug_assert!(before.is_none(), "a claimed number was open");
        }
    }

    fn unclaim(&self, fd: i32) {
        if let Some(index) = self.index(fd) {
            self.numbers.lock().free(index);
        }
    }

    fn replace(
        &self,
        fd: i32,
        file: Counted<OpenFile>,
        close_on_exec: bool,
    ) -> Result<Option<Counted<OpenFile>>> {
        let index = self.index(fd).ok_or(Errno::EBADF)?;
        let mut numbers = self.numbers.lock();
        let slot = self.slot_made(index, &numbers)?;
        if numbers.is_free(index) {
            numbers.take(index);
        } else if slot.is_empty() {
            return Err(Errno::EBUSY);
        }
        Ok(slot.replace(Some(file), close_on_exec))
    }

    fn remove(&self, fd: i32) -> Result<Counted<OpenFile>> {
        let index = self.index(fd).ok_or(Errno::EBADF)?;
        let slot = self.slot(index).ok_or(Errno::EBADF)?;
        let mut numbers = self.numbers.lock();
        let file = slot.replace(None, false).ok_or(Errno::EBADF)?;
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

impl Drop for Table {
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
    use crate::fs::{Config, Fs};

    fn description() -> Counted<OpenFile> {
        let fs = Fs::new(&Config::default()).unwrap();
        OpenFile::of_directory(&fs, &fs.root()).unwrap()
    }

    fn open(table: &Table, file: &Counted<OpenFile>, lowest: i32) -> Result<i32> {
        let fd = table.claim(lowest, false)?;
        table.install(fd, file.clone(), false);
        Ok(fd)
    }

    #[test]
    fn numbers_are_lowest_first_and_end_at_the_capacity() {
        for capacity in [1, CHUNK - 1, CHUNK, CHUNK + 1, 3000] {
            let (table, file) = (Table::new(capacity).unwrap(), description());
            for index in 0..capacity {
                assert_eq!(open(&table, &file, 0), Ok(number(index)));
            }
            assert_eq!((table.used(), open(&table, &file, 0)), (capacity, Err(Errno::EMFILE)));
            let last = number(capacity - 1);
            assert_eq!(table.lookup(last + 1).err(), Some(Errno::EBADF));
            for fd in [number(capacity / 2), number(0)] {
                assert!(table.remove(fd).unwrap().ptr_eq(&file));
                assert_eq!(table.lookup(fd).err(), Some(Errno::EBADF));
                assert_eq!(open(&table, &file, 0), Ok(fd));
            }
            table.remove(last).unwrap();
            assert_eq!(table.claim(last, true), Ok(last));
            assert_eq!(table.remove(last).err(), Some(Errno::EBADF), "claimed is not open");
            table.unclaim(last);
            assert_eq!(table.used(), capacity - 1);
        }
    }

    #[test]
    fn a_lowest_number_is_heeded() {
        let (table, file) = (Table::new(1000).unwrap(), description());
        assert_eq!(open(&table, &file, number(600)), Ok(number(600)));
        assert_eq!(open(&table, &file, number(600)), Ok(number(601)));
        assert_eq!(open(&table, &file, 3), Ok(number(0)));
        assert_eq!(open(&table, &file, number(1000)), Err(Errno::EMFILE));
    }

    #[test]
    fn replacing_takes_free_and_open_numbers_within_the_table() {
        let (table, first, second) = (Table::new(1000).unwrap(), description(), description());
        let far = number(999);
        assert!(table.replace(far, first.clone(), true).unwrap().is_none());
        assert_eq!((table.used(), table.close_on_exec(far)), (1, Ok(true)));
        let before = table.replace(far, second.clone(), false).unwrap();
        assert!(before.is_some_and(|before| before.ptr_eq(&first)));
        assert!(table.lookup(far).unwrap().ptr_eq(&second));
        assert_eq!((table.used(), table.close_on_exec(far)), (1, Ok(false)));
        for fd in [number(1000), FIRST_FD - 1, 0, -1, i32::MIN, i32::MAX] {
            assert_eq!(table.replace(fd, first.clone(), false).err(), Some(Errno::EBADF));
            assert_eq!(table.lookup(fd).err(), Some(Errno::EBADF));
            assert_eq!(table.set_close_on_exec(fd, true), Err(Errno::EBADF));
        }
        let claimed = table.claim(0, false).unwrap();
        assert_eq!(table.replace(claimed, first.clone(), false).err(), Some(Errno::EBUSY));
        assert_eq!(table.close_on_exec(claimed), Err(Errno::EBADF));
    }

    #[test]
    fn threads_never_share_a_number() {
        let (table, file) = (Table::new(4096).unwrap(), description());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut held = Vec::new();
                    for round in 0..4000 {
                        if round % 3 < 2 {
                            let mine = OpenFile::of_directory(file.fs(), file.inode()).unwrap();
                            let fd = open(&table, &mine, 0).unwrap();
                            held.push((fd, mine));
                        } else if let Some((fd, mine)) = held.pop() {
                            assert!(table.lookup(fd).unwrap().ptr_eq(&mine));
                            assert!(table.remove(fd).unwrap().ptr_eq(&mine));
                        }
                        if held.len() > 500 {
                            for (fd, mine) in held.drain(..) {
                                assert!(table.remove(fd).unwrap().ptr_eq(&mine));
                            }
                        }
                    }
                    for (fd, mine) in held {
                        assert!(table.remove(fd).unwrap().ptr_eq(&mine));
                    }
                });
            }
        });
        assert_eq!((table.used(), open(&table, &file, 0)), (0, Ok(FIRST_FD)));
        drop(table);
        assert!(file.is_unique());
    }
}
