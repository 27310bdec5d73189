//! Where a write's bytes come from and where a read's bytes go: one buffer or a list of them.
//!
//! Promises: a [`Source`] yields and a [`Sink`] takes each byte once, in order. Neither owns the
//! memory. The unsafe constructors exist for C callers, whose buffers may be uninitialised or
//! written by other threads meanwhile; no Rust reference to such memory is ever made here.

use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr;

use ermfs_memory::copy_past_cache;

/// A cursor over one contiguous part and the parts that follow it.
#[derive(Clone, Copy)]
struct Parts<'a> {
    current: *mut u8,
    current_len: usize,
    rest: &'a [libc::iovec],
    remaining: usize,
}

impl<'a> Parts<'a> {
    fn one(current: *mut u8, len: usize) -> Parts<'a> {
        Parts { current, current_len: len, rest: &[], remaining: len }
    }

    fn many(parts: &'a [libc::iovec]) -> Parts<'a> {
        let remaining = parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.iov_len));
        Parts { current: ptr::null_mut(), current_len: 0, rest: parts, remaining }
    }

    /// The contiguous part at the cursor: its address and length; length 0 only at the end.
    #[inline]
    fn part(&mut self) -> (*mut u8, usize) {
        while self.current_len == 0 {
            let Some((next, rest)) = self.rest.split_first() else { break };
            (self.current, self.current_len, self.rest) = (next.iov_base.cast(), next.iov_len, rest);
        }
        (self.current, self.current_len.min(self.remaining))
    }

    #[inline]
    fn advance(&mut self, n: usize) {
        debug_assert!(n <= self.current_len && n <= self.remaining);
        self.current = self.current.wrapping_add(n);
        self.current_len -= n;
        self.remaining -= n;
    }

    /// Hands out `n` bytes' worth of contiguous parts.
    #[inline]
    fn for_each(&mut self, n: usize, mut use_part: impl FnMut(*mut u8, usize, usize)) {
        assert!(n <= self.remaining, "more bytes asked for than the buffers hold");
        if n > self.current_len {
            return self.for_each_of_several(n, use_part);
        }
        if n > 0 {
            use_part(self.current, n, 0);
            self.advance(n);
        }
    }

    /// The same where it is more than the rest of one part.
    #[cold]
    fn for_each_of_several(&mut self, n: usize, mut use_part: impl FnMut(*mut u8, usize, usize)) {
        let mut done = 0;
        while done < n {
            let (part, len) = self.part();
            let len = len.min(n - done);
            use_part(part, len, done);
            self.advance(len);
            done += len;
        }
    }
}

/// The bytes of a write, consumed from the front.
pub struct Source<'a> {
    parts: Parts<'a>,
    borrow: PhantomData<&'a [u8]>,
}

impl<'a> Source<'a> {
    /// All of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Source<'a> {
        Source { parts: Parts::one(bytes.as_ptr().cast_mut(), bytes.len()), borrow: PhantomData }
    }

    /// `len` bytes at `bytes`.
    ///
    /// # Safety
    /// The range must be readable for `'a`.
    pub unsafe fn from_raw(bytes: *const u8, len: usize) -> Source<'a> {
        Source { parts: Parts::one(bytes.cast_mut(), len), borrow: PhantomData }
    }

    /// The concatenation of `parts`.
    ///
    /// # Safety
    /// Every part must be readable for `'a`.
    pub unsafe fn from_iovecs(parts: &'a [libc::iovec]) -> Source<'a> {
        Source { parts: Parts::many(parts), borrow: PhantomData }
    }

    /// How many bytes are left.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.parts.remaining
    }

    /// Forgets all but the first `max` bytes.
    pub fn limit(&mut self, max: usize) {
        self.parts.remaining = self.parts.remaining.min(max);
    }

    /// Moves the next `n` bytes to `to`.
    ///
    /// # Safety
    /// `to` must be valid for `n` bytes of writes and not overlap the source.
    #[inline]
    pub(crate) unsafe fn take(&mut self, to: *mut u8, n: usize) {
        self.parts.for_each(n, |from, len, done| {
            // SAFETY: `from` is a readable part (constructor's contract); `to` is valid for n bytes
            // and done + len <= n.
            unsafe { ptr::copy_nonoverlapping(from, to.add(done), len) }
        });
    }

    /// The same where `to` is not in the processor's cache and need not come there.
    ///
    /// # Safety
    /// As for [`Source::take`].
    pub(crate) unsafe fn take_past_cache(&mut self, to: *mut u8, n: usize) {
        self.parts.for_each(n, |from, len, done| {
            // SAFETY: as in `take`.
            unsafe { copy_past_cache(from, to.add(done), len) }
        });
    }
}

/// The room of a read, filled from the front.
pub struct Sink<'a> {
    parts: Parts<'a>,
    borrow: PhantomData<&'a mut [u8]>,
}

/// A place in a [`Sink`].
pub(crate) struct SinkPlace<'a>(Parts<'a>);

impl<'a> Sink<'a> {
    /// All of `room`.
    pub fn new(room: &'a mut [u8]) -> Sink<'a> {
        Sink { parts: Parts::one(room.as_mut_ptr(), room.len()), borrow: PhantomData }
    }

    /// All of `room`, which need not hold anything yet. What a read reports as read is initialised.
    pub fn uninit(room: &'a mut [MaybeUninit<u8>]) -> Sink<'a> {
        Sink { parts: Parts::one(room.as_mut_ptr().cast(), room.len()), borrow: PhantomData }
    }

    /// `len` bytes at `room`.
    ///
    /// # Safety
    /// The range must be writable for `'a`.
    pub unsafe fn from_raw(room: *mut u8, len: usize) -> Sink<'a> {
        Sink { parts: Parts::one(room, len), borrow: PhantomData }
    }

    /// The concatenation of `parts`.
    ///
    /// # Safety
    /// Every part must be writable for `'a`.
    pub unsafe fn from_iovecs(parts: &'a [libc::iovec]) -> Sink<'a> {
        Sink { parts: Parts::many(parts), borrow: PhantomData }
    }

    /// How many bytes of room are left.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.parts.remaining
    }

    /// Where the next byte goes, for [`Sink::go_back`].
    pub(crate) fn place(&self) -> SinkPlace<'a> {
        SinkPlace(self.parts)
    }

    /// Takes what comes from where it was at `place` on, again.
    pub(crate) fn go_back(&mut self, place: &SinkPlace<'a>) {
        self.parts = place.0;
    }

    /// Forgets all but the first `max` bytes of room.
    pub fn limit(&mut self, max: usize) {
        self.parts.remaining = self.parts.remaining.min(max);
    }

    /// Fills the next `n` bytes from `from`.
    ///
    /// # Safety
    /// `from` must be valid for `n` bytes of reads and not overlap the sink.
    #[inline]
    pub(crate) unsafe fn put(&mut self, from: *const u8, n: usize) {
        self.parts.for_each(n, |to, len, done| {
            // SAFETY: `to` is a writable part (constructor's contract); `from` is valid for n bytes
            // and done + len <= n.
            unsafe { ptr::copy_nonoverlapping(from.add(done), to, len) }
        });
    }

    /// Fills the next `bytes.len()` bytes.
    pub(crate) fn put_slice(&mut self, bytes: &[u8]) {
        // SAFETY: a slice is readable for its length, and an exclusively borrowed sink cannot overlap it.
        unsafe { self.put(bytes.as_ptr(), bytes.len()) }
    }

    /// Fills the next `n` bytes with zeros.
    #[inline]
    pub(crate) fn put_zeros(&mut self, n: usize) {
        self.parts.for_each(n, |to, len, _| {
            // SAFETY: `to` is a writable part of at least `len` bytes (constructor's contract).
            unsafe { ptr::write_bytes(to, 0, len) }
        });
    }

    /// The next `n` bytes as one piece of memory to be filled in place, when they lie in one part.
    /// Nothing is consumed: [`Sink::advance`] does that once they are filled.
    pub(crate) fn contiguous(&mut self, n: usize) -> Option<&mut [MaybeUninit<u8>]> {
        let (part, len) = self.parts.part();
        // SAFETY: the part is writable for `len` >= n bytes, and MaybeUninit claims nothing about what
        // it holds.
        (len >= n).then(|| unsafe { core::slice::from_raw_parts_mut(part.cast(), n) })
    }

    /// Counts `n` bytes that were filled through [`Sink::contiguous`].
    pub(crate) fn advance(&mut self, n: usize) {
        self.parts.advance(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iovec(part: &mut [u8]) -> libc::iovec {
        libc::iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() }
    }

    #[test]
    fn vectors_are_walked_in_order_with_empty_parts_between() {
        let (mut a, mut b, mut none) = (*b"abc", *b"defgh", []);
        let parts = [iovec(&mut none), iovec(&mut a), iovec(&mut none), iovec(&mut b), iovec(&mut none)];
        // SAFETY: the parts are live local arrays.
        let mut source = unsafe { Source::from_iovecs(&parts) };
        assert_eq!(source.remaining(), 8);
        let mut out = [0u8; 8];
        // SAFETY: `out` holds 8 bytes.
        unsafe {
            source.take(out.as_mut_ptr(), 2);
            source.take(out.as_mut_ptr().add(2), 6);
        }
        assert_eq!((&out, source.remaining()), (b"abcdefgh", 0));
    }

    #[test]
    fn a_limited_sink_takes_no_more_and_offers_whole_parts() {
        let (mut a, mut b) = ([9u8; 3], [9u8; 5]);
        let parts = [iovec(&mut a), iovec(&mut b)];
        // SAFETY: the parts are live local arrays.
        let mut sink = unsafe { Sink::from_iovecs(&parts) };
        sink.limit(6);
        assert!(sink.contiguous(4).is_none());
        sink.put_slice(b"xyz");
        assert_eq!(sink.contiguous(3).map(|room| room.len()), Some(3));
        assert!(sink.contiguous(4).is_none());
        sink.put_zeros(3);
        assert_eq!((a, b, sink.remaining()), (*b"xyz", [0, 0, 0, 9, 9], 0));
    }
}
