//! Asking for memory before it is needed.
//!
//! Promises: nothing is read or written, and no address is wrong to ask for. Where the processor has no such instruction that is
//! known here, nothing happens.

/// Has the cache lines of `bytes` bytes from `start` on fetched, while the caller goes on.
#[inline(always)]
pub fn prefetch<T>(start: *const T, bytes: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        const LINE: usize = 64;

        let start = start.cast::<i8>();
        // SAFETY: a prefetch has no effect that a program can see, and does not fault, whatever the address.
        let line = |offset: usize| unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(offset)) };
        // The last line is asked for by the last byte.
        (0..bytes).step_by(LINE).chain(bytes.checked_sub(1)).for_each(line);
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = (start, bytes);
}
