//! Which pages of the process's arenas are free, and the policy of handing them out.
//!
//! Promises: every operation takes a bounded number of steps however many arenas there are; a page is handed out to one
//! taker at a time. Owns the address range that all arenas lie in and the tables beside it. Never looks at a page's
//! bytes and does not count references: that is `pages`, which also holds the lock around this.
//!
//! An arena is 2 MiB, a huge page's size and alignment: 32 blocks of 16 pages. A block is *whole* while all its pages
//! are free, *split* while some are. Each arena that has anything free stands on shelves:
//! - `split`, `whole`: it is in use and has at least one block of that sort (an arena can stand on both);
//! - `warm`: nothing of it is in use and its memory is still there;
//! - `cold`: nothing of it is in use and its memory went back to the kernel.
//!
//! Single pages come from split blocks before they split another one; everything comes from the lowest arena that has
//! it, so that high arenas drain and can go back to the kernel whole, which is the only way that frees a huge page. A
//! wholly free arena is taken only when no arena in use has what is wanted: warm before cold, cold before a new one.

use crate::AllocError;
use crate::bitmap::{Bitmap, CAPACITY};
use crate::fallible::Zeroable;
use crate::poison;
use crate::reserve::{Reservation, Table};
use crate::sync::atomic::AtomicU32;
use core::ptr::NonNull;

/// log2 of the page size; a page's number is its offset shifted by this.
pub(crate) const PAGE_SHIFT: usize = 12;
/// Pages of a block.
pub(crate) const BLOCK_PAGES: usize = 16;
/// Bytes of an arena.
pub(crate) const ARENA_SIZE: usize = 2 * 1024 * 1024;

const ARENA_BLOCKS: usize = 32;
const ARENA_PAGES: usize = ARENA_BLOCKS * BLOCK_PAGES;
const ALL_PAGES: u16 = u16::MAX;
const ALL_BLOCKS: u32 = u32::MAX;

/// How many wholly free arenas stay faulted in: 8 MiB, enough for a store that breathes by a few blocks to run at
/// memcpy speed, little enough not to be missed elsewhere.
const WARM_ARENAS: usize = 4;

/// The least address space to go on with when more cannot be had.
const SMALLEST_RESERVATION: usize = 1 << 30;

/// One arena's free pages. All zero: nothing free. Two cache lines, so that two arenas never share one.
#[repr(align(128))]
struct Arena {
    /// Per block a bit for each free page.
    free: [u16; ARENA_BLOCKS],
    /// The blocks of which all pages are free.
    whole: u32,
    /// The blocks of which some, but not all, pages are free.
    split: u32,
}

// SAFETY: all fields are integers.
unsafe impl Zeroable for Arena {}

/// What decides on which shelves an arena in use stands.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shelves {
    split: bool,
    whole: bool,
}

/// The shelves of an arena that is on none because all of it is in use, or because it is about to be.
const OFF_SHELVES: Shelves = Shelves { split: false, whole: false };

impl Arena {
    fn shelves(&self) -> Shelves {
        Shelves { split: self.split != 0, whole: self.whole != 0 }
    }

    /// Takes one page, out of a split block if there is one; there must be a free page. Answers its place in the arena.
    fn take_page(&mut self) -> usize {
        let from = if self.split != 0 { self.split } else { self.whole };
        let block = from.trailing_zeros() as usize;
        let free = self.free[block];
        let page = free.trailing_zeros() as usize;
        self.set_free(block, free & (free - 1));
        block * BLOCK_PAGES + page
    }

    /// Takes the lowest whole block; there must be one. Answers the place of its first page in the arena.
    fn take_block(&mut self) -> usize {
        let block = self.whole.trailing_zeros() as usize;
        self.set_free(block, 0);
        block * BLOCK_PAGES
    }

    fn set_free(&mut self, block: usize, free: u16) {
        let bit = 1u32 << block;
        self.free[block] = free;
        self.whole &= !bit;
        self.split &= !bit;
        match free {
            0 => {}
            ALL_PAGES => self.whole |= bit,
            _ => self.split |= bit,
        }
    }

    fn set_all(&mut self, free: bool) {
        *self = Arena {
            free: [if free { ALL_PAGES } else { 0 }; ARENA_BLOCKS],
            whole: if free { ALL_BLOCKS } else { 0 },
            split: 0,
        };
    }
}

/// The mappings, made at first use.
struct Memory {
    range: Reservation,
    counts: Table<AtomicU32>,
    arenas: Table<Arena>,
}

/// All arenas of a process: at most `MOST`, of which arena 0 is never used, so that no page has the number 0.
///
/// All zero when new, so that a static one costs neither memory nor room in the executable before it is used.
pub(crate) struct Arenas<const MOST: usize> {
    memory: Option<Memory>,
    split: Bitmap,
    whole: Bitmap,
    warm: Bitmap,
    cold: Bitmap,
    /// Arenas 1 to this number have been made accessible; the others never were.
    carved: usize,
    pages_in_use: usize,
    /// Arenas that `take_arena` handed out; their pages are not in `pages_in_use`.
    taken_whole: usize,
}

/// A wholly free arena beyond the warm mark: off all shelves, for the caller to discard and then to put back
/// with [`Arenas::shelve_cold`]. The system call between the two runs without the lock, because it takes long.
#[must_use]
#[derive(Debug)]
pub(crate) struct Surplus(usize);

impl Surplus {
    /// The arena's distance from page 0, in bytes.
    pub(crate) fn offset(&self) -> usize {
        self.0 * ARENA_SIZE
    }
}

/// Bytes of address space, of accessible arenas that may have memory behind them, and so on; see
/// [`crate::ProcessMemory`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ArenaUsage {
    pub(crate) reserved: usize,
    pub(crate) mapped: usize,
    pub(crate) warm: usize,
    pub(crate) cold: usize,
    pub(crate) pages_in_use: usize,
    pub(crate) taken_whole: usize,
    pub(crate) tables: usize,
}

impl Memory {
    /// Reserves `largest` bytes for arenas, or half of that, or half of that, as the system allows.
    fn reserve(largest: usize) -> Result<Memory, AllocError> {
        let mut len = largest;
        loop {
            match Memory::reserve_exactly(len) {
                Ok(memory) => return Ok(memory),
                Err(error) if len / 2 < SMALLEST_RESERVATION => return Err(error),
                Err(_) => len /= 2,
            }
        }
    }

    fn reserve_exactly(len: usize) -> Result<Memory, AllocError> {
        let arenas = len / ARENA_SIZE;
        let memory = Memory {
            range: Reservation::new(len, ARENA_SIZE)?,
            counts: Table::new(arenas * ARENA_PAGES)?,
            arenas: Table::new(arenas)?,
        };
        // Before anything is accessible: parts made accessible later inherit it and merge into one kernel mapping.
        memory.range.advise_huge();
        Ok(memory)
    }
}

impl<const MOST: usize> Arenas<MOST> {
    /// No arenas yet: the first allocation reserves their address space.
    pub(crate) const fn new() -> Arenas<MOST> {
        const { assert!(MOST <= CAPACITY) };
        Arenas {
            memory: None,
            split: Bitmap::new(),
            whole: Bitmap::new(),
            warm: Bitmap::new(),
            cold: Bitmap::new(),
            carved: 0,
            pages_in_use: 0,
            taken_whole: 0,
        }
    }

    /// Reserves the address range unless that has been done, and answers where page 0 would lie and where the pages'
    /// counts lie. Both stay the same from then on.
    pub(crate) fn prepare(&mut self) -> Result<(NonNull<u8>, NonNull<AtomicU32>), AllocError> {
        let memory = match &mut self.memory {
            Some(memory) => memory,
            none => none.insert(Memory::reserve(MOST * ARENA_SIZE)?),
        };
        Ok((memory.range.base(), memory.counts.base()))
    }

    /// Takes one page and answers its number.
    pub(crate) fn take_page(&mut self) -> Result<u32, AllocError> {
        let number = match self.split.first().or_else(|| self.whole.first()) {
            Some(number) => number,
            None => self.wholly_free()?,
        };
        Ok(self.take(number, 1, Arena::take_page))
    }

    /// Takes a whole block and answers its first page's number, a multiple of 16.
    pub(crate) fn take_block(&mut self) -> Result<u32, AllocError> {
        let number = match self.whole.first() {
            Some(number) => number,
            None => self.wholly_free()?,
        };
        Ok(self.take(number, BLOCK_PAGES, Arena::take_block))
    }

    /// Takes all of an arena and answers its first page's number.
    pub(crate) fn take_arena(&mut self) -> Result<u32, AllocError> {
        let number = self.wholly_free()?;
        self.arena(number).set_all(false);
        self.taken_whole += 1;
        Ok((number * ARENA_PAGES) as u32)
    }

    /// Puts back pages of one block: bit i of `mask` is page `first + i`, `first` being the number of the block's first
    /// page. A surplus arena comes back to be discarded.
    pub(crate) fn put_pages(&mut self, first: u32, mask: u16) -> Option<Surplus> {
        let (number, block) = (first as usize / ARENA_PAGES, first as usize % ARENA_PAGES / BLOCK_PAGES);
        self.pages_in_use -= mask.count_ones() as usize;
        let arena = self.arena(number);
        let before = arena.shelves();
        let free = arena.free[block];
        debug_assert_eq!(free & mask, 0, "pages of block {first} were freed twice");
        arena.set_free(block, free | mask);
        let after = arena.shelves();
        if arena.whole != ALL_BLOCKS {
            self.move_shelves(number, before, after);
            return None;
        }
        self.move_shelves(number, before, OFF_SHELVES);
        self.shelve_warm(number)
    }

    /// Puts back what `take_arena` took. A surplus arena (this one or a higher one) comes back to be discarded.
    pub(crate) fn put_arena(&mut self, first: u32) -> Option<Surplus> {
        let number = first as usize / ARENA_PAGES;
        self.taken_whole -= 1;
        self.arena(number).set_all(true);
        self.shelve_warm(number)
    }

    /// Puts an arena whose memory has gone back to the kernel where it is found again.
    pub(crate) fn shelve_cold(&mut self, surplus: Surplus) {
        self.cold.insert(surplus.0);
    }

    pub(crate) fn usage(&self) -> ArenaUsage {
        let Some(memory) = &self.memory else {
            return ArenaUsage::default();
        };
        ArenaUsage {
            reserved: memory.range.len(),
            mapped: (self.carved - self.cold.len()) * ARENA_SIZE,
            warm: self.warm.len() * ARENA_SIZE,
            cold: self.cold.len() * ARENA_SIZE,
            pages_in_use: self.pages_in_use << PAGE_SHIFT,
            taken_whole: self.taken_whole * ARENA_SIZE,
            tables: memory.counts.committed_bytes() + memory.arenas.committed_bytes(),
        }
    }

    /// The one way pages leave: `take` out of arena `number`, which must have what `take` wants.
    fn take(&mut self, number: usize, pages: usize, take: fn(&mut Arena) -> usize) -> u32 {
        self.pages_in_use += pages;
        let arena = self.arena(number);
        // A wholly free arena was taken off its shelf by whoever found it.
        let before = if arena.whole == ALL_BLOCKS { OFF_SHELVES } else { arena.shelves() };
        let place = take(arena);
        let after = arena.shelves();
        self.move_shelves(number, before, after);
        (number * ARENA_PAGES + place) as u32
    }

    /// The warm, cold or new arena that is used next, off its shelf.
    fn wholly_free(&mut self) -> Result<usize, AllocError> {
        match self.warm.take_first().or_else(|| self.cold.take_first()) {
            Some(number) => Ok(number),
            None => self.carve(),
        }
    }

    #[cold]
    fn carve(&mut self) -> Result<usize, AllocError> {
        self.prepare()?;
        let Some(memory) = &mut self.memory else {
            return Err(AllocError::Memory);
        };
        let number = self.carved + 1;
        if number >= memory.range.len() / ARENA_SIZE {
            return Err(AllocError::Memory);
        }
        memory.counts.grow((number + 1) * ARENA_PAGES)?;
        memory.arenas.grow(number + 1)?;
        memory.range.commit(number * ARENA_SIZE, ARENA_SIZE)?;
        // SAFETY: memory that nobody was given.
        unsafe { poison::close(memory.range.base().as_ptr().add(number * ARENA_SIZE), ARENA_SIZE) };
        memory.arenas.as_mut_slice()[number].set_all(true);
        self.carved = number;
        Ok(number)
    }

    fn shelve_warm(&mut self, number: usize) -> Option<Surplus> {
        self.warm.insert(number);
        if self.warm.len() <= WARM_ARENAS {
            return None;
        }
        let highest = self.warm.last()?;
        self.warm.remove(highest);
        Some(Surplus(highest))
    }

    fn move_shelves(&mut self, number: usize, before: Shelves, after: Shelves) {
        match (before.split, after.split) {
            (false, true) => self.split.insert(number),
            (true, false) => self.split.remove(number),
            _ => {}
        }
        match (before.whole, after.whole) {
            (false, true) => self.whole.insert(number),
            (true, false) => self.whole.remove(number),
            _ => {}
        }
    }

    fn arena(&mut self, number: usize) -> &mut Arena {
        match &mut self.memory {
            Some(memory) => &mut memory.arenas.as_mut_slice()[number],
            None => unreachable!("an arena number without arenas"),
        }
    }
}

#[cfg(feature = "check-memory")]
impl<const MOST: usize> Drop for Arenas<MOST> {
    /// The address range may become somebody else's, to whom nothing of it is forbidden.
    fn drop(&mut self) {
        if let Some(memory) = &self.memory {
            // SAFETY: the carved arenas, which nobody uses any more.
            unsafe {
                poison::hand_out(memory.range.base().as_ptr().add(ARENA_SIZE), self.carved * ARENA_SIZE)
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// Arenas of which all but one can be handed out.
    fn arenas<const MOST: usize>() -> Box<Arenas<MOST>> {
        Box::new(Arenas::new())
    }

    /// What the process-wide layer does with a surplus, without the system call.
    fn put<const MOST: usize>(arenas: &mut Arenas<MOST>, first: u32, mask: u16) {
        if let Some(surplus) = arenas.put_pages(first, mask) {
            arenas.shelve_cold(surplus);
        }
    }

    #[test]
    fn single_pages_come_from_one_split_block() {
        let mut arenas = arenas::<3>();
        let first = arenas.take_page().unwrap();
        assert_eq!(first as usize, ARENA_PAGES, "arena 0 is never used");
        let block = arenas.take_block().unwrap();
        assert_eq!(block, first + 16);
        for expected in first + 1..first + 16 {
            assert_eq!(arenas.take_page().unwrap(), expected);
        }
        assert_eq!(arenas.take_page().unwrap(), block + 16);
        put(&mut arenas, first, 1 << 3);
        assert_eq!(arenas.take_page().unwrap(), first + 3, "the lowest split block comes first");
        assert_eq!(arenas.usage().pages_in_use, 33 << PAGE_SHIFT);
    }

    #[test]
    fn a_split_block_of_a_high_arena_spares_a_whole_one_of_a_low_arena() {
        let mut arenas = arenas::<3>();
        let low: Vec<u32> = (0..ARENA_BLOCKS).map(|_| arenas.take_block().unwrap()).collect();
        let high = arenas.take_page().unwrap();
        assert_eq!(high as usize, 2 * ARENA_PAGES);
        put(&mut arenas, low[4], ALL_PAGES);
        assert_eq!(arenas.take_page().unwrap(), high + 1);
        assert_eq!(arenas.take_block().unwrap(), low[4], "blocks come from the lowest arena");
    }

    #[test]
    fn a_completed_block_is_whole_again() {
        let mut arenas = arenas::<2>();
        let pages: Vec<u32> = (0..17).map(|_| arenas.take_page().unwrap()).collect();
        let base = pages[0];
        for &page in &pages[..15] {
            put(&mut arenas, base, 1 << (page - base));
        }
        assert_eq!(arenas.take_block().unwrap(), base + 32, "one page still splits the lowest block");
        put(&mut arenas, base, 1 << 15);
        assert_eq!(arenas.take_block().unwrap(), base);
    }

    #[test]
    fn free_arenas_are_warm_up_to_the_mark_and_cold_beyond() {
        let mut arenas = arenas::<11>();
        let taken: Vec<u32> = (0..7).map(|_| arenas.take_arena().unwrap()).collect();
        let mut surplus = Vec::new();
        for &first in &taken {
            surplus.extend(arenas.put_arena(first));
        }
        assert_eq!(
            surplus.iter().map(Surplus::offset).collect::<Vec<_>>(),
            [5, 6, 7].map(|n| n * ARENA_SIZE)
        );
        assert_eq!(arenas.usage().warm, WARM_ARENAS * ARENA_SIZE);
        assert_eq!(arenas.usage().mapped, 7 * ARENA_SIZE);
        for arena in surplus {
            arenas.shelve_cold(arena);
        }
        assert_eq!((arenas.usage().mapped, arenas.usage().cold), (4 * ARENA_SIZE, 3 * ARENA_SIZE));
        // A block's page range within an arena in use comes before any wholly free arena; then warm, cold, new.
        assert_eq!(arenas.take_page().unwrap(), taken[0]);
        let order: Vec<u32> = (0..9).map(|_| arenas.take_arena().unwrap() / ARENA_PAGES as u32).collect();
        assert_eq!(order, [2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(arenas.take_arena(), Err(AllocError::Memory));
    }

    #[test]
    fn exhaustion_is_an_error_and_nothing_else() {
        let mut arenas = arenas::<2>();
        let blocks: Vec<u32> = (0..ARENA_BLOCKS).map(|_| arenas.take_block().unwrap()).collect();
        let before = arenas.usage();
        assert_eq!(arenas.take_block(), Err(AllocError::Memory));
        assert_eq!(arenas.take_page(), Err(AllocError::Memory));
        assert_eq!(arenas.take_arena(), Err(AllocError::Memory));
        assert_eq!(arenas.usage(), before);
        put(&mut arenas, blocks[5], 0x8000);
        assert_eq!(arenas.take_block(), Err(AllocError::Memory));
        assert_eq!(arenas.take_page().unwrap(), blocks[5] + 15);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Page,
        Block,
        Arena,
        /// Frees one of the things held, chosen by the number; of a block the pages of the mask.
        Free(usize, u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => Just(Step::Page),
            6 => Just(Step::Block),
            1 => Just(Step::Arena),
            9 => (any::<usize>(), prop_oneof![Just(u16::MAX), any::<u16>()]).prop_map(|(n, mask)| Step::Free(n, mask)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]
        #[test]
        fn nothing_is_handed_out_twice_or_lost(steps in prop::collection::vec(step(), 1..600)) {
            let mut arenas = arenas::<9>();
            let mut held = BTreeSet::new();
            let mut whole = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Page => {
                        if let Ok(page) = arenas.take_page() {
                            prop_assert!(held.insert(page));
                        }
                    }
                    Step::Block => {
                        if let Ok(first) = arenas.take_block() {
                            prop_assert_eq!(first as usize % BLOCK_PAGES, 0);
                            for page in first..first + 16 {
                                prop_assert!(held.insert(page));
                            }
                        }
                    }
                    Step::Arena => {
                        if let Ok(first) = arenas.take_arena() {
                            prop_assert!(held.range(first..first + ARENA_PAGES as u32).next().is_none());
                            prop_assert!(whole.insert(first, ()).is_none());
                        }
                    }
                    Step::Free(n, mask) if !held.is_empty() && (whole.is_empty() || n % 8 != 0) => {
                        let first = *held.iter().nth(n % held.len()).unwrap() / 16 * 16;
                        let freed = (0..16).filter(|i| mask & (1 << i) != 0 && held.remove(&(first + i)));
                        let mask = freed.fold(0, |mask, i| mask | 1 << i);
                        put(&mut arenas, first, mask);
                    }
                    Step::Free(n, _) => {
                        if let Some(&first) = whole.keys().nth(n % whole.len().max(1)) {
                            whole.remove(&first);
                            if let Some(surplus) = arenas.put_arena(first) {
                                arenas.shelve_cold(surplus);
                            }
                        }
                    }
                }
                let usage = arenas.usage();
                prop_assert_eq!(usage.pages_in_use, held.len() << PAGE_SHIFT);
                prop_assert_eq!(usage.taken_whole, whole.len() * ARENA_SIZE);
            }
            for page in std::mem::take(&mut held) {
                put(&mut arenas, page / 16 * 16, 1 << (page % 16));
            }
            for &first in whole.keys() {
                if let Some(surplus) = arenas.put_arena(first) {
                    arenas.shelve_cold(surplus);
                }
            }
            let usage = arenas.usage();
            prop_assert_eq!(usage.warm + usage.cold, arenas.carved * ARENA_SIZE);
            prop_assert_eq!((usage.mapped, usage.pages_in_use, usage.taken_whole), (usage.warm, 0, 0));
            prop_assert_eq!((arenas.split.len(), arenas.whole.len()), (0, 0));
        }
    }
}
