//! Variable-size allocations, process-wide: compressed members, small contents, whatever is not a page; and, in a heap
//! of their own, nodes (`nodes`).
//!
//! Promises: allocating and freeing take a bounded number of steps; a piece stays at its address until it is freed, and
//! costs at most 23 bytes more than its length (but at least 32). Owns the chunks (2 MiB arenas) that pieces are cut
//! from and the lock around them. Never moves a piece, never knows who holds it.
//!
//! Why not a log with compaction, which packs tighter: emptying a segment means moving live members, so each would need
//! a way back to the block that points to it, and readers who copy from a member without a lock would have to be waited
//! for before its old place is reused. Two-level segregated fit (`tlsf`) needs neither: its waste is bounded by joining
//! free neighbours at once, and a chunk goes back to the page layer as soon as its last piece is gone. One wholly free
//! chunk is kept, so that a piece that comes and goes alone does not take an arena with it each time.

use crate::poison::{self, Quarantine};
use crate::sync::Mutex;
use crate::tlsf::{HEADER, Tlsf, WHOLE_CHUNK, block_size};
use crate::{AllocError, ProcessMemory, inject, pages};
use core::fmt;
use core::ptr::NonNull;

/// The largest length of a [`Piece`], in bytes: what fits one chunk.
pub const MAX_PIECE: usize = WHOLE_CHUNK - HEADER;

static PIECES: Heap = Heap::new(|_| (), |_| ());

/// Chunks, and what is cut from them.
pub(crate) struct Heap {
    chunks: Mutex<Tlsf>,
    /// What is done with a chunk before its first byte is touched, and after its last use; not under the lock.
    begin: fn(NonNull<u8>),
    end: fn(NonNull<u8>),
}

impl Heap {
    pub(crate) const fn new(begin: fn(NonNull<u8>), end: fn(NonNull<u8>)) -> Heap {
        Heap { chunks: Mutex::new(Tlsf::new()), begin, end }
    }

    /// `len` bytes at a multiple of 16, at most [`MAX_PIECE`].
    #[inline]
    pub(crate) fn alloc(&self, len: usize) -> Result<NonNull<u8>, AllocError> {
        let size = block_size(len);
        let found = self.chunks.lock().alloc(size);
        match found {
            Some(start) => Ok(start),
            None => self.alloc_from_new_chunk(size),
        }
    }

    /// Gets a chunk without holding the heap's lock, since that may take a system call and a page fault.
    #[cold]
    #[inline(never)]
    fn alloc_from_new_chunk(&self, size: usize) -> Result<NonNull<u8>, AllocError> {
        let chunk = pages::alloc_arena()?;
        (self.begin)(chunk);
        // The page fault, if there is one, happens here and not under the lock.
        // SAFETY: the arena is this function's alone.
        unsafe {
            poison::hand_out(chunk.as_ptr(), HEADER);
            chunk.write_volatile(0);
            poison::close(chunk.as_ptr(), HEADER);
        }
        let mut heap = self.chunks.lock();
        // SAFETY: an arena is a chunk's size and alignment, and nobody else uses it.
        unsafe { heap.add_chunk(chunk) };
        // A whole chunk holds any size up to `MAX_PIECE`, so this finds one.
        heap.alloc(size).ok_or(AllocError::Memory)
    }

    /// Frees what [`Heap::alloc`] gave.
    ///
    /// # Safety
    /// It came from this heap, and has no owner.
    #[inline]
    pub(crate) unsafe fn free(&self, start: NonNull<u8>) {
        // SAFETY: by contract.
        let chunk = unsafe { self.chunks.lock().free(start) };
        if let Some(chunk) = chunk {
            (self.end)(chunk);
            // SAFETY: chunks come from `alloc_arena`, and the allocator has let go of this one.
            unsafe { pages::free_arena(chunk) };
        }
    }

    /// Bytes that somebody owns, headers and rounding included.
    pub(crate) fn used(&self) -> u64 {
        self.chunks.lock().used() as u64
    }
}

static FREED: Quarantine<Freed> = Quarantine::new();

/// One allocation of up to [`MAX_PIECE`] bytes, at a multiple of 16. Dropping it frees it. 16 bytes, and
/// `Option<Piece>` is no larger.
///
/// Whoever made it fills it once, through [`Piece::as_ptr`], before others read it; from then on it does not change.
pub struct Piece {
    start: NonNull<u8>,
    len: u32,
}

// SAFETY: a piece is plain bytes that its owner alone frees; the allocator's own words beside them are only touched
// under the allocator's lock.
unsafe impl Send for Piece {}
// SAFETY: through `&Piece` safe code only reads; writing through `as_ptr` is unsafe and excludes readers by contract.
unsafe impl Sync for Piece {}

impl Piece {
    /// A piece of `len` bytes, whose values are unspecified. A length of 0 is possible and takes memory all the same.
    ///
    /// # Errors
    /// [`AllocError::Memory`] when the kernel gives no more memory or address space, or `len` is above [`MAX_PIECE`].
    #[cfg_attr(feature = "injector", track_caller)]
    pub fn alloc(len: usize) -> Result<Piece, AllocError> {
        inject::allocation("piece")?;
        if len > MAX_PIECE {
            return Err(AllocError::Memory);
        }
        let start = PIECES.alloc(len)?;
        // SAFETY: the block is this piece's; what lies between its end and the next block's stays closed.
        unsafe { poison::hand_out(start.as_ptr(), len) };
        Ok(Piece { start, len: len as u32 })
    }

    /// A piece that holds a copy of `bytes`.
    ///
    /// # Errors
    /// As [`Piece::alloc`].
    #[cfg_attr(feature = "injector", track_caller)]
    pub fn alloc_from(bytes: &[u8]) -> Result<Piece, AllocError> {
        let piece = Piece::alloc(bytes.len())?;
        // SAFETY: the piece is new, has room for as many bytes, and nobody else knows it.
        unsafe { piece.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(piece)
    }

    /// The length that was asked for, in bytes.
    #[expect(
        clippy::len_without_is_empty,
        reason = "it is an allocation's size: emptiness is of no interest"
    )]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// The first of [`Piece::len`] bytes, at a multiple of 16. Valid until the piece is dropped. Writing through it is
    /// up to the caller: nobody may read or hold a slice of the piece meanwhile.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The bytes. Before the piece was filled they are unspecified, but still bytes that may be read.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `len` bytes from `start` belong to this piece as long as it lives. They are initialised: chunks are
        // anonymous mappings, which the kernel fills with zeroes. Whoever writes excludes readers (see `as_ptr`).
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.len as usize) }
    }

    /// The bytes that a piece of `len` bytes really takes, header and rounding included: what to charge.
    pub const fn footprint(len: usize) -> u64 {
        block_size(if len > MAX_PIECE { MAX_PIECE } else { len }) as u64
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // SAFETY: the bytes are the piece's, whose owner is going away.
        unsafe { poison::close(self.start.as_ptr(), self.len()) };
        if let Some(freed) = FREED.keep(Freed(self.start)) {
            freed.free();
        }
    }
}

/// A piece's bytes without an owner.
struct Freed(NonNull<u8>);

// SAFETY: nothing of an allocation is tied to a thread.
unsafe impl Send for Freed {}

impl Freed {
    #[inline]
    fn free(self) {
        // SAFETY: it came from this heap, and has no owner.
        unsafe { PIECES.free(self.0) };
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Piece").field("start", &self.start).field("len", &self.len).finish()
    }
}

/// Frees what is kept out of use, so that figures are of what there would be without.
pub(crate) fn free_kept() {
    while let Some(freed) = FREED.take() {
        freed.free();
    }
}

/// The heap's part of [`crate::process_memory`].
pub(crate) fn describe(memory: &mut ProcessMemory) {
    memory.pieces_in_use = PIECES.used();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_holds_its_bytes_and_nothing_else_changes_them() {
        assert_eq!((size_of::<Piece>(), size_of::<Option<Piece>>()), (16, 16));
        let contents = |n: usize| -> Vec<u8> { (0..n).map(|i| (i * 31 + n) as u8).collect() };
        let lens =
            [0, 1, 15, 16, 17, 23, 24, 25, 4095, 4096, 4097, 65_535, 65_536, 65_537, 131_072, MAX_PIECE];
        let pieces: Vec<Piece> = lens.iter().map(|&n| Piece::alloc_from(&contents(n)).unwrap()).collect();
        for (piece, &n) in pieces.iter().zip(&lens) {
            assert_eq!((piece.len(), piece.as_ptr().addr() % 16), (n, 0));
            assert!(piece.as_slice() == contents(n), "{n} bytes");
        }
    }

    #[test]
    fn what_no_chunk_holds_is_refused() {
        for len in [MAX_PIECE + 1, usize::MAX - 7, usize::MAX] {
            assert_eq!(Piece::alloc(len).unwrap_err(), AllocError::Memory);
        }
        assert_eq!(Piece::alloc(MAX_PIECE).unwrap().len(), MAX_PIECE);
    }

    #[test]
    fn footprints_count_header_and_rounding() {
        for (len, bytes) in [(0, 32), (1, 32), (24, 32), (25, 48), (40, 48), (41, 64), (65_536, 65_552)] {
            assert_eq!(Piece::footprint(len), bytes);
        }
        assert_eq!(Piece::footprint(MAX_PIECE), WHOLE_CHUNK as u64);
        assert_eq!(Piece::footprint(usize::MAX), WHOLE_CHUNK as u64);
    }

    #[test]
    fn threads_allocate_and_free_each_others_pieces() {
        let (sender, receiver) = std::sync::mpsc::channel::<(Piece, u8)>();
        std::thread::scope(|scope| {
            for thread in 0..3u32 {
                let sender = sender.clone();
                scope.spawn(move || {
                    for i in 0..2000u32 {
                        let len = (i.wrapping_mul(2_654_435_761).wrapping_add(thread) >> 18) as usize;
                        let byte = i as u8;
                        sender.send((Piece::alloc_from(&vec![byte; len]).unwrap(), byte)).unwrap();
                    }
                });
            }
            drop(sender);
            for (piece, byte) in receiver {
                assert!(piece.as_slice().iter().all(|&b| b == byte));
            }
        });
    }
}
