//! `Box` and `Vec` without the abort: the same allocations, answered with an error when memory is out.
//!
//! Owns nothing and keeps no state.

use crate::sync::atomic::{AtomicI32, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize};
use crate::{AllocError, inject};
use core::alloc::Layout;
use std::alloc::{alloc, alloc_zeroed};

/// Types of which all-zero bytes are a value.
///
/// # Safety
/// Memory of the type's size that is filled with zero bytes must be a valid value of the type.
pub unsafe trait Zeroable {}

macro_rules! zeroable {
    ($($type:ty)*) => {$(
        // SAFETY: an integer, or an atomic that has the representation of one: every bit pattern is a value.
        unsafe impl Zeroable for $type {}
    )*};
}
zeroable!(u8 u16 u32 u64 usize i32 i64 AtomicU8 AtomicU16 AtomicU32 AtomicU64 AtomicUsize AtomicI32 AtomicI64);

/// `Box::new` that hands the value back when memory is out.
///
/// # Errors
/// [`AllocError::Memory`].
#[cfg_attr(feature = "injector", track_caller)]
pub fn try_box<T>(value: T) -> Result<Box<T>, (AllocError, T)> {
    let layout = Layout::new::<T>();
    if layout.size() == 0 {
        return Ok(Box::new(value));
    }
    if inject::fails("box") {
        return Err((AllocError::Memory, value));
    }
    // SAFETY: the layout's size is not 0.
    let pointer = unsafe { alloc(layout) }.cast::<T>();
    if pointer.is_null() {
        return Err((AllocError::Memory, value));
    }
    // SAFETY: `pointer` is fresh memory from the global allocator of exactly `T`'s layout, which is what `Box` frees.
    unsafe {
        pointer.write(value);
        Ok(Box::from_raw(pointer))
    }
}

/// An empty vector with room for `capacity` elements.
///
/// # Errors
/// [`AllocError::Memory`], also when `capacity` elements are more than an address space holds.
#[cfg_attr(feature = "injector", track_caller)]
pub fn try_vec<T>(capacity: usize) -> Result<Vec<T>, AllocError> {
    let mut vec = Vec::new();
    if capacity > 0 {
        inject::allocation("vec")?;
    }
    vec.try_reserve_exact(capacity)?;
    Ok(vec)
}

/// A slice of `len` zeroes; large ones come from the kernel already zero and are not touched.
///
/// # Errors
/// [`AllocError::Memory`], also when `len` elements are more than an address space holds.
#[cfg_attr(feature = "injector", track_caller)]
pub fn try_zeroed_slice<T: Zeroable>(len: usize) -> Result<Box<[T]>, AllocError> {
    let layout = Layout::array::<T>(len).map_err(|_| AllocError::Memory)?;
    if layout.size() == 0 {
        // No memory is involved: either there are no elements or they have no size.
        let nothing = core::ptr::slice_from_raw_parts_mut(core::ptr::dangling_mut::<T>(), len);
        // SAFETY: a slice of size 0 may lie at any aligned address, and `Zeroable` makes its elements valid.
        return Ok(unsafe { Box::from_raw(nothing) });
    }
    inject::allocation("zeroed")?;
    // SAFETY: the layout's size is not 0.
    let pointer = unsafe { alloc_zeroed(layout) }.cast::<T>();
    if pointer.is_null() {
        return Err(AllocError::Memory);
    }
    // SAFETY: fresh memory from the global allocator of the layout that `Box<[T]>` of `len` frees; zero is valid by
    // `Zeroable`.
    Ok(unsafe { Box::from_raw(core::ptr::slice_from_raw_parts_mut(pointer, len)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::Ordering::Relaxed;

    #[test]
    fn boxes_hold_what_they_were_given() {
        assert_eq!(*try_box(String::from("name")).unwrap(), "name");
        assert_eq!(*try_box([7u64; 100]).unwrap(), [7u64; 100]);
        try_box(()).unwrap();
    }

    #[test]
    fn slices_are_zero_and_sizes_that_cannot_be_are_refused() {
        let words = try_zeroed_slice::<AtomicU64>(1000).unwrap();
        assert!(words.len() == 1000 && words.iter().all(|word| word.load(Relaxed) == 0));
        assert_eq!(try_zeroed_slice::<u64>(0).unwrap().len(), 0);
        for len in [usize::MAX, usize::MAX / 8, isize::MAX as usize / 8 + 1] {
            assert_eq!(try_zeroed_slice::<u64>(len).unwrap_err(), AllocError::Memory);
            assert_eq!(try_vec::<u64>(len).unwrap_err(), AllocError::Memory);
        }
        assert!(try_vec::<u64>(10).unwrap().capacity() >= 10);
    }
}
