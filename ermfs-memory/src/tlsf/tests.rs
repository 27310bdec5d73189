//! The allocator against a model, and its chunks' invariants after every step.

use super::*;
use core::alloc::Layout;
use proptest::prelude::*;
use std::alloc::{alloc, dealloc};
use std::collections::{BTreeMap, BTreeSet};

const CHUNK: Layout = match Layout::from_size_align(CHUNK_SIZE, CHUNK_SIZE) {
    Ok(layout) => layout,
    Err(_) => unreachable!(),
};

/// The allocator with a model beside it: chunks from the standard allocator, so that a sanitizer sees their ends, and
/// every block given out filled with a pattern of its own.
struct Modelled {
    heap: Tlsf,
    chunks: BTreeSet<usize>,
    /// Address of the owner's part -> its length and the byte it is filled with.
    held: BTreeMap<usize, (NonNull<u8>, usize, u8)>,
    count: usize,
}

impl Modelled {
    fn new() -> Modelled {
        Modelled { heap: Tlsf::new(), chunks: BTreeSet::new(), held: BTreeMap::new(), count: 0 }
    }

    fn alloc(&mut self, len: usize) -> usize {
        let start = self.heap.alloc(block_size(len)).unwrap_or_else(|| {
            // SAFETY: not of size 0.
            let chunk = NonNull::new(unsafe { alloc(CHUNK) }).expect("memory for a test");
            self.chunks.insert(chunk.addr().get());
            // SAFETY: fresh memory of a chunk's layout.
            unsafe { self.heap.add_chunk(chunk) };
            self.heap.alloc(block_size(len)).expect("a new chunk holds it")
        });
        let address = start.addr().get();
        assert_eq!(address % GRANULE, 0);
        let chunk = address - address % CHUNK_SIZE;
        assert!(self.chunks.contains(&chunk) && address + len <= chunk + CHUNK_SIZE);
        if let Some((&left, &(_, left_len, _))) = self.held.range(..=address).next_back() {
            assert!(left + left_len <= address, "overlaps its left neighbour");
        }
        if let Some((&right, _)) = self.held.range(address..).next() {
            assert!(address + len <= right, "overlaps its right neighbour");
        }
        self.count += 1;
        let byte = self.count as u8;
        // SAFETY: the owner's part, `len` bytes, inside the chunk; as whoever hands it out, this opens it.
        unsafe {
            poison::hand_out(start.as_ptr(), len);
            start.write_bytes(byte, len);
        }
        self.held.insert(address, (start, len, byte));
        address
    }

    fn free(&mut self, address: usize) {
        let (start, len, byte) = self.held.remove(&address).expect("a block that is held");
        // SAFETY: the block is held, `alloc` filled it.
        let bytes = unsafe { core::slice::from_raw_parts(start.as_ptr(), len) };
        assert!(bytes.iter().all(|&b| b == byte), "somebody wrote into a block that was held");
        // SAFETY: held until now, and not used any more.
        let chunk = unsafe {
            poison::close(start.as_ptr(), len);
            self.heap.free(start)
        };
        if let Some(chunk) = chunk {
            assert!(self.chunks.remove(&chunk.addr().get()));
            // SAFETY: came from `alloc` with this layout; the allocator has let go of it.
            unsafe { dealloc(chunk.as_ptr(), CHUNK) };
        }
    }

    /// Walks all chunks and compares what stands there with the lists and the model.
    fn check(&self) {
        let mut used = 0;
        let mut free = BTreeSet::new();
        for &chunk in &self.chunks {
            let mut block = Block((chunk + HEADER) as *mut u8);
            let mut left_free = None;
            // SAFETY: the walk stays on headers as long as the chunk's invariant holds, which is what it checks.
            unsafe {
                loop {
                    let (word, size) = (block.word(), block.size());
                    assert_eq!(word & LEFT_FREE != 0, left_free.is_some());
                    if let Some(left) = left_free {
                        assert!(block.left() == left && word & FREE == 0, "two free blocks side by side");
                    }
                    if size == 0 {
                        break;
                    }
                    if word & FREE != 0 {
                        left_free = Some(block);
                        if size >= SMALLEST {
                            free.insert(block.0.addr());
                        }
                    } else {
                        left_free = None;
                        used += size;
                        let (_, len, _) = self.held[&(block.0.addr() + HEADER)];
                        assert_eq!(size, block_size(len), "a block takes more than its footprint");
                    }
                    block = block.at(size);
                }
                assert_eq!(block.0.addr(), chunk + CHUNK_SIZE - HEADER);
            }
        }
        assert_eq!(used, self.heap.used());
        assert_eq!(used, self.held.values().map(|&(_, len, _)| block_size(len)).sum::<usize>());
        assert_eq!(free, self.listed());
    }

    /// The blocks in all lists, each in the list of its class.
    fn listed(&self) -> BTreeSet<usize> {
        let mut listed = BTreeSet::new();
        for row in 0..ROWS {
            assert_eq!(self.heap.rows & 1 << row != 0, self.heap.classes[row] != 0);
            for class in 0..SUBCLASSES {
                let mut block = self.heap.heads[row][class];
                assert_eq!(self.heap.classes[row] & 1 << class != 0, !block.is_none());
                let mut previous = null_mut();
                while !block.is_none() {
                    // SAFETY: listed blocks are free and have links.
                    unsafe {
                        assert_eq!(class_of(block.size()), (row, class));
                        let links = block.links();
                        assert_eq!(links.previous, previous);
                        assert!(listed.insert(block.0.addr()));
                        previous = block.0;
                        block = Block(links.next);
                    }
                }
            }
        }
        listed
    }

    /// Frees what is left; at most one chunk, wholly free, may remain.
    fn finish(mut self) {
        while let Some((&address, _)) = self.held.iter().nth(self.held.len() / 2) {
            self.free(address);
        }
        self.check();
        assert_eq!(self.heap.used(), 0);
        assert_eq!(
            (self.heap.empty_chunks, self.chunks.len()),
            (self.chunks.len(), self.chunks.len().min(1))
        );
        for &chunk in &self.chunks {
            // SAFETY: came from `alloc` with this layout; the allocator goes away with this function.
            unsafe { dealloc(chunk as *mut u8, CHUNK) };
        }
    }
}

#[test]
fn every_block_of_the_class_above_is_large_enough() {
    let mut last = (0, 0);
    for size in (SMALLEST..=WHOLE_CHUNK).step_by(GRANULE) {
        let (own, above) = (class_of(size), class_above(size));
        assert!(own >= last && above >= own && own.0 < ROWS && own.1 < SUBCLASSES, "{size}");
        assert!(above != own || class_of(size - GRANULE) < own, "{size} is not the least of class {own:?}");
        last = own;
    }
}

#[test]
fn sizes_at_class_boundaries_fit_exactly() {
    let mut heap = Modelled::new();
    let powers = (4..=20).map(|power| 1usize << power);
    let boundaries = powers.flat_map(|size| [size, size + size / 32, size * 3 / 2, size - HEADER]);
    for size in boundaries.chain([LINEAR_LIMIT, WHOLE_CHUNK - HEADER - 1]) {
        let three = [size - 1, size, size + 1].map(|len| heap.alloc(len));
        heap.check();
        heap.free(three[1]);
        heap.check();
        let again = heap.alloc(size);
        heap.check();
        for address in [three[0], again, three[2]] {
            heap.free(address);
        }
    }
    for len in 0..64 {
        heap.alloc(len);
    }
    heap.check();
    heap.finish();
}

#[test]
fn a_piece_can_be_a_whole_chunk_and_one_empty_chunk_is_kept() {
    let mut heap = Modelled::new();
    let all = [0; 3].map(|_| heap.alloc(WHOLE_CHUNK - HEADER));
    assert_eq!((heap.chunks.len(), heap.heap.empty_chunks), (3, 0));
    heap.check();
    heap.free(all[1]);
    assert_eq!((heap.chunks.len(), heap.heap.empty_chunks), (3, 1));
    heap.free(all[0]);
    assert_eq!((heap.chunks.len(), heap.heap.empty_chunks), (2, 1));
    heap.alloc(WHOLE_CHUNK - HEADER);
    assert_eq!((heap.chunks.len(), heap.heap.empty_chunks), (2, 0), "the kept chunk is used again");
    heap.finish();
}

#[test]
fn freeing_joins_with_either_side_both_or_none() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for len in [24, 25, 4096, 65_536] {
            let mut heap = Modelled::new();
            let blocks = [0; 3].map(|_| heap.alloc(len));
            let guard = heap.alloc(100);
            for i in order {
                heap.free(blocks[i]);
                heap.check();
            }
            let joined = heap.alloc(3 * block_size(len) - HEADER);
            assert_eq!(joined, blocks[0], "three neighbours make one block again");
            heap.free(guard);
            heap.finish();
        }
    }
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![0..64usize, 64..2000usize, 2000..70_000usize, 70_000..300_000usize]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]
    #[test]
    fn agrees_with_the_model(steps in prop::collection::vec((len(), any::<Option<usize>>()), 1..250)) {
        let mut heap = Modelled::new();
        for (i, (len, free)) in steps.into_iter().enumerate() {
            match free {
                Some(n) if !heap.held.is_empty() => {
                    let address = *heap.held.keys().nth(n % heap.held.len()).unwrap();
                    heap.free(address);
                }
                _ => {
                    heap.alloc(len);
                }
            }
            if i % 10 == 0 {
                heap.check();
            }
        }
        heap.check();
        heap.finish();
    }
}
