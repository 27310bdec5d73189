//! The allocator under `heap`: two-level segregated fit over 2 MiB chunks.
//!
//! After M. Masmano et al., "TLSF: a new dynamic memory allocator for real-time systems" (2004). Promises: allocating
//! and freeing take a bounded number of steps; a freed block is joined with free neighbours at once, so that two free
//! blocks never lie side by side; a block takes exactly [`block_size`] bytes. Owns the chunks it was given until it
//! hands them back. Never gets memory itself, never locks: that is `heap`'s part.
//!
//! A chunk is a row of blocks. Each begins with a header of 8 bytes; what the owner gets is the rest, at a multiple of
//! 16, so headers lie at 8 modulo 16 and the first 8 bytes of a chunk stay unused. A header of size 0 ends the row.
//!
//! ```text
//!   in use:  | size, flags | the owner's bytes ............................ |
//!   free:    | size, flags | next | previous | .................... | size |
//! ```
//! The size at a free block's end lets its right neighbour find its start; the neighbour's flag says whether it is there.
//! A free block of 16 bytes has no room for links: it is in no list and waits for a neighbour to be freed.

use crate::arena::ARENA_SIZE;
use crate::poison;
use core::ptr::{NonNull, null_mut};

/// Bytes of a chunk, and its alignment.
pub(crate) const CHUNK_SIZE: usize = ARENA_SIZE;
/// Bytes before the owner's.
pub(crate) const HEADER: usize = 8;
/// All sizes are multiples of this, all addresses given out are too.
pub(crate) const GRANULE: usize = 16;
/// The least that a block given out takes: what can go into a list once it is free.
const SMALLEST: usize = 32;
/// A chunk's blocks together: all but the unused word at its start and the header at its end.
pub(crate) const WHOLE_CHUNK: usize = CHUNK_SIZE - 2 * HEADER;

/// Each power of two is divided into this many classes.
const SUBCLASSES: usize = 1 << SUBCLASS_BITS;
const SUBCLASS_BITS: u32 = 5;
/// Below this size there is a class for each multiple of 16.
const LINEAR_LIMIT: usize = SUBCLASSES * GRANULE;
/// One class row for the linear part and one for each power of two up to a chunk's.
const ROWS: usize = (CHUNK_SIZE / LINEAR_LIMIT).ilog2() as usize + 1;
/// How many blocks of a request's own class are looked at before a larger class (or a new chunk) is used: some of them
/// are large enough. A few keep chunks full; the number is a bound on the time.
const OWN_CLASS_TRIES: usize = 8;

/// In the size word: this block is free.
const FREE: usize = 1;
/// In the size word: the block to the left is free, and its size stands before this header.
const LEFT_FREE: usize = 2;
const FLAGS: usize = FREE | LEFT_FREE;

/// The bytes that a block of `len` bytes takes, header and rounding included. `len` must not be near `usize::MAX`.
pub(crate) const fn block_size(len: usize) -> usize {
    let size = (len + HEADER).next_multiple_of(GRANULE);
    if size < SMALLEST { SMALLEST } else { size }
}

/// The class that a free block of `size` bytes belongs to.
fn class_of(size: usize) -> (usize, usize) {
    if size < LINEAR_LIMIT {
        return (0, size / GRANULE);
    }
    let power = size.ilog2();
    let subclass = (size >> (power - SUBCLASS_BITS)) & (SUBCLASSES - 1);
    ((power - LINEAR_LIMIT.ilog2()) as usize + 1, subclass)
}

/// The least class of which every block has `size` bytes; beyond the last row if none has.
fn class_above(size: usize) -> (usize, usize) {
    if size < LINEAR_LIMIT {
        return class_of(size);
    }
    class_of(size + (1 << (size.ilog2() - SUBCLASS_BITS)) - 1)
}

/// A block's header. The address of one has provenance over its whole chunk.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Block(*mut u8);

/// The links of a free block's list, after the header.
#[repr(C)]
#[derive(Clone, Copy)]
struct Links {
    next: *mut u8,
    previous: *mut u8,
}

/// Reads words of the allocator's own, which are closed to everybody else.
///
/// # Safety
/// As for [`core::ptr::read`]; `at` is a multiple of 8.
unsafe fn read<T>(at: *const T) -> T {
    // SAFETY: by contract.
    unsafe {
        poison::open(at.cast(), size_of::<T>());
        let value = at.read();
        poison::close(at.cast(), size_of::<T>());
        value
    }
}

/// Writes words of the allocator's own, and closes them to everybody else.
///
/// # Safety
/// As for [`core::ptr::write`]; `at` is a multiple of 8.
unsafe fn write<T>(at: *mut T, value: T) {
    // SAFETY: by contract.
    unsafe {
        poison::open(at.cast(), size_of::<T>());
        at.write(value);
        poison::close(at.cast(), size_of::<T>());
    }
}

// The methods below are unsafe for one reason, which their callers name: `self` must be a block of a chunk that the
// allocator owns, whose headers and, of free blocks, links and end marks are as the module's text says.
impl Block {
    const NONE: Block = Block(null_mut());

    fn is_none(self) -> bool {
        self.0.is_null()
    }

    /// # Safety
    /// `self` is a block's header.
    unsafe fn word(self) -> usize {
        // SAFETY: a header is 8 readable bytes at a multiple of 8.
        unsafe { read(self.0.cast()) }
    }

    /// # Safety
    /// `self` is the place of a block's header.
    unsafe fn set_word(self, word: usize) {
        // SAFETY: a header is 8 writable bytes at a multiple of 8.
        unsafe { write(self.0.cast(), word) }
    }

    /// # Safety
    /// `self` is a block's header.
    unsafe fn size(self) -> usize {
        // SAFETY: passed on.
        unsafe { self.word() & !FLAGS }
    }

    /// The block that begins `size` bytes further on.
    ///
    /// # Safety
    /// `self` is a block's header, and `size` ends within the chunk, whose last header counts as a block.
    unsafe fn at(self, size: usize) -> Block {
        // SAFETY: inside the chunk by contract.
        Block(unsafe { self.0.add(size) })
    }

    /// # Safety
    /// `self` is a block's header with `LEFT_FREE` set.
    unsafe fn left(self) -> Block {
        // SAFETY: by the flag, the word before the header is the end mark of a free block, which holds its size.
        unsafe { Block(self.0.sub(read(self.0.sub(HEADER).cast::<usize>()))) }
    }

    /// # Safety
    /// `self` is a free block of at least `SMALLEST` bytes, and in a list.
    unsafe fn links(self) -> Links {
        // SAFETY: such a block has 16 bytes at a multiple of 16 after its header.
        unsafe { read(self.0.add(HEADER).cast()) }
    }

    /// # Safety
    /// `self` is a free block of at least `SMALLEST` bytes.
    unsafe fn set_links(self, links: Links) {
        // SAFETY: such a block has 16 bytes at a multiple of 16 after its header.
        unsafe { write(self.0.add(HEADER).cast(), links) }
    }

    /// Writes header and end mark of a free block, whose left neighbour is in use, and tells its right neighbour.
    ///
    /// # Safety
    /// The `size` bytes from `self` on are the allocator's to use and end at a header.
    unsafe fn mark_free(self, size: usize) {
        // SAFETY: header and end mark (the last 8 bytes) lie within the free bytes; a header follows.
        unsafe {
            self.set_word(size | FREE);
            let right = self.at(size);
            write(right.0.sub(HEADER).cast::<usize>(), size);
            right.set_word(right.word() | LEFT_FREE);
        }
    }
}

/// The free blocks of all chunks, by class.
pub(crate) struct Tlsf {
    /// Which rows have a class that is not empty.
    rows: u32,
    /// Per row, which classes are not empty.
    classes: [u32; ROWS],
    heads: [[Block; SUBCLASSES]; ROWS],
    /// How many chunks are wholly free.
    empty_chunks: usize,
    /// Bytes of blocks that are in use.
    used: usize,
}

// SAFETY: the pointers lead to chunks that the allocator owns; nothing of it is tied to a thread.
unsafe impl Send for Tlsf {}

impl Tlsf {
    pub(crate) const fn new() -> Tlsf {
        Tlsf {
            rows: 0,
            classes: [0; ROWS],
            heads: [[Block::NONE; SUBCLASSES]; ROWS],
            empty_chunks: 0,
            used: 0,
        }
    }

    /// Bytes in use, headers and rounding included.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Takes over a chunk.
    ///
    /// # Safety
    /// `chunk` must be `CHUNK_SIZE` bytes of memory at a multiple of `CHUNK_SIZE` that nobody else uses until `free`
    /// hands it back.
    pub(crate) unsafe fn add_chunk(&mut self, chunk: NonNull<u8>) {
        // SAFETY: all writes lie within the chunk, which is this allocator's alone.
        unsafe {
            let block = Block(chunk.as_ptr().add(HEADER));
            block.at(WHOLE_CHUNK).set_word(0);
            block.mark_free(WHOLE_CHUNK);
            self.empty_chunks += 1;
            self.link(block, WHOLE_CHUNK);
        }
    }

    /// A block of `size` bytes ([`block_size`]), as the address of its owner's part; `None` when no chunk has one free.
    pub(crate) fn alloc(&mut self, size: usize) -> Option<NonNull<u8>> {
        let block = self.find(size)?;
        // SAFETY: `find` answers a block from a list; lists hold free blocks of chunks that this allocator owns. The
        // part beyond `size` lies within the block, which is no smaller.
        unsafe {
            let whole = block.size();
            self.unlink(block, whole);
            if whole == WHOLE_CHUNK {
                self.empty_chunks -= 1;
            }
            block.set_word(size);
            let rest = block.at(size);
            if whole == size {
                rest.set_word(rest.word() & !LEFT_FREE);
            } else {
                rest.mark_free(whole - size);
                self.link(rest, whole - size);
            }
            self.used += size;
            NonNull::new(block.0.add(HEADER))
        }
    }

    /// Takes a block back. When that leaves a chunk wholly free, and there is another such one already, the chunk comes
    /// back and is the caller's again.
    ///
    /// # Safety
    /// `pointer` must have come from `alloc` of this allocator, and nobody may use it any more.
    pub(crate) unsafe fn free(&mut self, pointer: NonNull<u8>) -> Option<NonNull<u8>> {
        // SAFETY: by contract there is a block in use before `pointer`, in a chunk that this allocator owns; its
        // neighbours are found through the words that the chunk's invariant puts there.
        unsafe {
            let mut block = Block(pointer.as_ptr().sub(HEADER));
            let word = block.word();
            let mut size = word & !FLAGS;
            debug_assert!(
                word & FREE == 0 && size >= SMALLEST,
                "a piece was freed twice or its header overwritten"
            );
            self.used -= size;
            let right = block.at(size);
            if right.word() & FREE != 0 {
                let right_size = right.size();
                self.unlink(right, right_size);
                size += right_size;
            }
            if word & LEFT_FREE != 0 {
                block = block.left();
                let left_size = block.size();
                self.unlink(block, left_size);
                size += left_size;
            }
            if size == WHOLE_CHUNK {
                if self.empty_chunks > 0 {
                    return NonNull::new(block.0.sub(HEADER));
                }
                self.empty_chunks += 1;
            }
            block.mark_free(size);
            self.link(block, size);
        }
        None
    }

    /// A free block of at least `size` bytes, still in its list.
    fn find(&self, size: usize) -> Option<Block> {
        let (row, class) = class_above(size);
        if row < ROWS {
            let here = self.classes[row] & (u32::MAX << class);
            if here != 0 {
                return Some(self.heads[row][here.trailing_zeros() as usize]);
            }
        }
        if let Some(block) = self.find_in_own_class(size) {
            return Some(block);
        }
        let above = self.rows & u32::MAX.checked_shl(row as u32 + 1).unwrap_or(0);
        if above == 0 {
            return None;
        }
        let row = above.trailing_zeros() as usize;
        Some(self.heads[row][self.classes[row].trailing_zeros() as usize])
    }

    fn find_in_own_class(&self, size: usize) -> Option<Block> {
        let (row, class) = class_of(size);
        if row >= ROWS {
            return None;
        }
        let mut block = self.heads[row][class];
        for _ in 0..OWN_CLASS_TRIES {
            if block.is_none() {
                return None;
            }
            // SAFETY: a block from a list is free, has links, and lies in a chunk that this allocator owns.
            unsafe {
                if block.size() >= size {
                    return Some(block);
                }
                block = Block(block.links().next);
            }
        }
        None
    }

    /// Puts a free block into its list, unless it is too small for one.
    ///
    /// # Safety
    /// `block` must be marked free with `size` and be in no list.
    unsafe fn link(&mut self, block: Block, size: usize) {
        if size < SMALLEST {
            return;
        }
        let (row, class) = class_of(size);
        let head = self.heads[row][class];
        // SAFETY: `block` is free and has room for links; `head`, if any, is a free block of a list.
        unsafe {
            block.set_links(Links { next: head.0, previous: null_mut() });
            if !head.is_none() {
                head.set_links(Links { previous: block.0, ..head.links() });
            }
        }
        self.heads[row][class] = block;
        self.classes[row] |= 1 << class;
        self.rows |= 1 << row;
    }

    /// Takes a free block out of its list, unless it is too small for one.
    ///
    /// # Safety
    /// `block` must be marked free with `size` and, if it is large enough, be in its list.
    unsafe fn unlink(&mut self, block: Block, size: usize) {
        if size < SMALLEST {
            return;
        }
        let (row, class) = class_of(size);
        // SAFETY: `block` is in a list, so its links lead to free blocks of the same list or nowhere.
        unsafe {
            let Links { next, previous } = block.links();
            if !next.is_null() {
                let next = Block(next);
                next.set_links(Links { previous, ..next.links() });
            }
            if !previous.is_null() {
                let previous = Block(previous);
                previous.set_links(Links { next, ..previous.links() });
                return;
            }
            self.heads[row][class] = Block(next);
            if next.is_null() {
                self.classes[row] &= !(1 << class);
                if self.classes[row] == 0 {
                    self.rows &= !(1 << row);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
