//! Ranges of address space, and the memory behind parts of them.
//!
//! Promises: a reserved range stays at its address and costs no memory until a part of it is committed. Owns the
//! mapping of each [`Reservation`]. Never touches memory that it did not map, never maps anything but private anonymous
//! memory.

use crate::fallible::Zeroable;
use crate::{AllocError, inject};
use core::ffi::c_void;
use core::marker::PhantomData;
use core::ptr::NonNull;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};

/// Tables grow in steps of this many bytes: a multiple of every page size that Linux runs with.
const TABLE_STEP: usize = 64 * 1024;

/// A range of address space of its own.
pub(crate) struct Reservation {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the range is not tied to a thread; all methods but `base` and `len` of a shared one are system calls on it.
unsafe impl Send for Reservation {}

impl Reservation {
    /// Reserves `len` bytes at a multiple of `align` (a power of two). Both must be multiples of the system's page
    /// size.
    pub(crate) fn new(len: usize, align: usize) -> Result<Reservation, AllocError> {
        debug_assert!(align.is_power_of_two());
        let padded = len.checked_add(align).ok_or(AllocError::Memory)?;
        inject::allocation("mmap")?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let start = unsafe { mmap_anonymous(core::ptr::null_mut(), padded, ProtFlags::empty(), flags) };
        let start = start.map_err(|_| AllocError::Memory)?.cast::<u8>();
        let before = start.align_offset(align);
        let after = align - before;
        // SAFETY: `before` is less than `align`, so the aligned range lies inside the mapping, and both cut-off ends
        // are parts of it that nobody was given. That they could not be unmapped would only waste address space.
        unsafe {
            let base = NonNull::new(start.add(before)).ok_or(AllocError::Memory)?;
            if before > 0 {
                let _ = munmap(start.cast(), before);
            }
            let _ = munmap(base.as_ptr().add(len).cast(), after);
            Ok(Reservation { base, len })
        }
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Asks for huge pages in all of it.
    pub(crate) fn advise_huge(&self) {
        advise_pages(self.base, self.len, PageSize::Huge);
    }

    /// Makes a part readable and writable. Its bytes are 0 until written.
    pub(crate) fn commit(&self, offset: usize, len: usize) -> Result<(), AllocError> {
        inject::allocation("mprotect")?;
        let access = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: `part` checked the bounds; nobody relies on the range being inaccessible.
        unsafe { mprotect(self.part(offset, len), len, access) }.map_err(|_| AllocError::Memory)
    }

    fn part(&self, offset: usize, len: usize) -> *mut c_void {
        assert!(offset <= self.len && len <= self.len - offset, "part of a reservation out of bounds");
        // SAFETY: inside the mapping, as just checked.
        unsafe { self.base.as_ptr().add(offset).cast() }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: this object owns the mapping, and whoever used it borrowed from this object.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// What pages memory is to have that is not there yet.
#[derive(Clone, Copy)]
pub(crate) enum PageSize {
    Small,
    Huge,
}

/// Asks for pages of that size. A kernel without huge ones says no, which changes nothing but speed.
pub(crate) fn advise_pages(start: NonNull<u8>, len: usize, size: PageSize) {
    let advice = match size {
        PageSize::Small => Advice::LinuxNoHugepage,
        PageSize::Huge => Advice::LinuxHugepage,
    };
    // SAFETY: the advice changes what no byte holds, whoever the range belongs to.
    let _ = unsafe { madvise(start.as_ptr().cast(), len, advice) };
}

/// Gives the memory behind committed address space back to the kernel; it stays accessible, its bytes are 0 or, where
/// the kernel refused (locked memory), unchanged. A function and not a method, so that it can run outside the lock that
/// a reservation is kept under.
///
/// # Safety
/// The `len` bytes at `start` must be a committed part of a reservation, and nobody may rely on what they hold.
pub(crate) unsafe fn discard(start: NonNull<u8>, len: usize) {
    // SAFETY: by contract the range is a private anonymous mapping of this module whose contents are given up.
    let _ = unsafe { madvise(start.as_ptr().cast(), len, Advice::LinuxDontNeed) };
}

/// An array that grows in place up to a length fixed at the start; new elements are zero.
pub(crate) struct Table<T: Zeroable> {
    memory: Reservation,
    committed_bytes: usize,
    elements: PhantomData<T>,
}

impl<T: Zeroable> Table<T> {
    pub(crate) fn new(max_len: usize) -> Result<Table<T>, AllocError> {
        const { assert!(align_of::<T>() <= TABLE_STEP) };
        let bytes = max_len.checked_mul(size_of::<T>()).ok_or(AllocError::Memory)?;
        let memory = Reservation::new(bytes.next_multiple_of(TABLE_STEP), TABLE_STEP)?;
        Ok(Table { memory, committed_bytes: 0, elements: PhantomData })
    }

    /// Makes the elements below `len` usable.
    pub(crate) fn grow(&mut self, len: usize) -> Result<(), AllocError> {
        let wanted = len.checked_mul(size_of::<T>()).ok_or(AllocError::Memory)?.next_multiple_of(TABLE_STEP);
        if wanted > self.memory.len() {
            return Err(AllocError::Memory);
        }
        if wanted > self.committed_bytes {
            self.memory.commit(self.committed_bytes, wanted - self.committed_bytes)?;
            self.committed_bytes = wanted;
        }
        Ok(())
    }

    /// The first element's address, which never changes.
    pub(crate) fn base(&self) -> NonNull<T> {
        self.memory.base().cast()
    }

    pub(crate) fn committed_bytes(&self) -> usize {
        self.committed_bytes
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        let len = self.committed_bytes / size_of::<T>();
        // SAFETY: the committed part is accessible memory that this object owns, aligned to `TABLE_STEP`, and was zero,
        // which `Zeroable` makes valid, until it was written as `T`.
        unsafe { core::slice::from_raw_parts_mut(self.base().as_ptr(), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn a_reservation_is_aligned_and_usable_where_committed() {
        let range = Reservation::new(8 * MIB, 2 * MIB).unwrap();
        range.advise_huge();
        assert_eq!((range.base().addr().get() % (2 * MIB), range.len()), (0, 8 * MIB));
        range.commit(2 * MIB, 2 * MIB).unwrap();
        // SAFETY: the committed 2 MiB, which this test alone uses.
        let bytes = unsafe { core::slice::from_raw_parts_mut(range.base().as_ptr().add(2 * MIB), 2 * MIB) };
        assert!(bytes.iter().all(|&byte| byte == 0));
        bytes.fill(7);
        // SAFETY: the committed part; the test does not rely on the old contents.
        unsafe { discard(range.base().add(2 * MIB), 2 * MIB) };
        assert!(bytes.iter().all(|&byte| byte == 0));
    }

    #[test]
    fn what_cannot_be_reserved_is_an_error() {
        for len in [usize::MAX & !(2 * MIB - 1), 1 << 60] {
            assert!(matches!(Reservation::new(len, 2 * MIB), Err(AllocError::Memory)));
        }
        assert!(matches!(Table::<u64>::new(usize::MAX / 4), Err(AllocError::Memory)));
    }

    #[test]
    fn a_table_grows_to_its_length_and_no_further() {
        let mut table = Table::<u64>::new(TABLE_STEP / 8 * 2).unwrap();
        assert_eq!(table.as_mut_slice().len(), 0);
        table.grow(1).unwrap();
        table.as_mut_slice()[0] = 1;
        table.grow(TABLE_STEP / 8).unwrap();
        assert_eq!(table.committed_bytes(), TABLE_STEP);
        table.grow(TABLE_STEP / 8 + 1).unwrap();
        assert_eq!(table.committed_bytes(), 2 * TABLE_STEP);
        assert_eq!(table.grow(TABLE_STEP / 8 * 2 + 1), Err(AllocError::Memory));
        assert_eq!((table.as_mut_slice()[0], table.as_mut_slice()[TABLE_STEP / 8]), (1, 0));
    }
}
