//! Copying to memory that is not in the processor's cache and need not come there.
//!
//! Promises: what [`copy_past_cache`] has written is seen by whoever sees a store that is made after it, as from any other
//! copy. An ordinary store to a line that is not in the cache fetches it first, only to overwrite it; these do not. A line that
//! is in the cache is written back and leaves it, which makes them several times slower there: the caller knows better. Where
//! the processor has no such stores that are known here, and in a build for a memory checker, which is to see each access,
//! it is an ordinary copy. ThreadSanitizer does not see them.

use core::ptr;

/// Copies as [`ptr::copy_nonoverlapping`] does.
///
/// # Safety
/// As there: `from` is valid for reads of `len` bytes, `to` for writes, and they do not overlap.
#[inline]
pub unsafe fn copy_past_cache(from: *const u8, to: *mut u8, len: usize) {
    #[cfg(all(target_arch = "x86_64", not(any(miri, loom, feature = "check-memory"))))]
    // SAFETY: by this function's contract.
    unsafe {
        streamed(from, to, len);
    }
    #[cfg(not(all(target_arch = "x86_64", not(any(miri, loom, feature = "check-memory")))))]
    // SAFETY: by this function's contract.
    unsafe {
        ptr::copy_nonoverlapping(from, to, len);
    }
}

/// # Safety
/// As for [`copy_past_cache`].
#[cfg(all(target_arch = "x86_64", not(any(miri, loom, feature = "check-memory"))))]
unsafe fn streamed(from: *const u8, to: *mut u8, len: usize) {
    use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
    const LINE: usize = 64;

    // What lies before the first whole line, and after the last.
    let head = to.align_offset(LINE).min(len);
    let end = head + (len - head) / LINE * LINE;
    // SAFETY: all offsets are below `len`, up to which both are valid; the stores go to multiples of 16, for `to + head` is one
    // of 64 wherever there is a whole line. The fence orders them before what the caller does next.
    unsafe {
        ptr::copy_nonoverlapping(from, to, head);
        for at in (head..end).step_by(LINE) {
            let (from, to) = (from.add(at).cast::<__m128i>(), to.add(at).cast::<__m128i>());
            let line: [__m128i; 4] = core::array::from_fn(|part| _mm_loadu_si128(from.add(part)));
            for (part, bytes) in line.into_iter().enumerate() {
                _mm_stream_si128(to.add(part), bytes);
            }
        }
        ptr::copy_nonoverlapping(from.add(end), to.add(end), len - end);
        _mm_sfence();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_every_length_and_alignment_are_whole_and_no_more() {
        let source: Vec<u8> = (0..600u32).map(|i| (i * 7 % 251) as u8).collect();
        for to in 0..66 {
            for from in [0, 1, 15, 16] {
                for len in (0..140).chain([255, 256, 257, 511, 512, 513]) {
                    let mut room = [0xee_u8; 700];
                    // SAFETY: both buffers hold these ranges.
                    unsafe { copy_past_cache(source.as_ptr().add(from), room.as_mut_ptr().add(to), len) };
                    assert_eq!(room[to..to + len], source[from..from + len], "{from} {to} {len}");
                    assert!(room[..to].iter().chain(&room[to + len..]).all(|&byte| byte == 0xee));
                }
            }
        }
    }
}
