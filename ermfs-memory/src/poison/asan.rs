//! AddressSanitizer's face for allocators (sanitizer/asan_interface.h).

use core::ffi::c_void;

unsafe extern "C" {
    fn __asan_poison_memory_region(start: *const c_void, len: usize);
    fn __asan_unpoison_memory_region(start: *const c_void, len: usize);
}

pub(super) fn no_access(start: *const u8, len: usize) {
    // SAFETY: changes what the sanitizer knows of the bytes, not the bytes.
    unsafe { __asan_poison_memory_region(start.cast(), len) };
}

pub(super) fn undefined(start: *const u8, len: usize) {
    // SAFETY: as above.
    unsafe { __asan_unpoison_memory_region(start.cast(), len) };
}

/// It does not know what is initialised.
pub(super) fn defined(start: *const u8, len: usize) {
    undefined(start, len);
}
