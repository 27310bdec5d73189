//! What the process-wide allocators hold and give back. One test, in a process of its own: the figures are the
//! process's.

use ermfs_memory::{BLOCK_SIZE, Counted, PAGE_SIZE, Page, Piece, process_memory};

const MIB: u64 = 1024 * 1024;

/// xorshift64: the same sequence in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound
    }
}

#[test]
fn memory_is_accounted_for_reused_and_given_back() {
    nothing_is_held_before_the_first_use();
    pages_are_counted_and_their_arenas_go_back();
    reuse_comes_before_new_arenas();
    churn_of_pieces_stays_near_what_is_live();
    a_forked_child_has_its_own_copy();
}

fn nothing_is_held_before_the_first_use() {
    let value = Counted::try_new(1).map_err(|(error, _)| error).unwrap();
    assert_eq!(process_memory(), Default::default(), "counted values and figures take no arena");
    drop(value);
}

fn pages_are_counted_and_their_arenas_go_back() {
    let blocks: Vec<_> = (0..64 * 32).map(|_| Page::alloc_block().unwrap()).collect();
    for page in blocks.iter().flatten() {
        // SAFETY: a page of this test's own.
        unsafe { page.as_ptr().write(1) };
    }
    let full = process_memory();
    assert_eq!((full.pages_in_use, full.mapped, full.warm, full.cold), (128 * MIB, 128 * MIB, 0, 0));
    assert!(full.reserved >= 1024 * MIB && full.pieces_mapped == 0 && full.tables > 0);
    let resident = resident_bytes();
    drop(blocks);
    let empty = process_memory();
    assert_eq!((empty.pages_in_use, empty.mapped, empty.warm, empty.cold), (0, 8 * MIB, 8 * MIB, 120 * MIB));
    assert!(resident_bytes() + 100 * MIB < resident, "the arenas' memory went back to the kernel");
}

fn reuse_comes_before_new_arenas() {
    let blocks: Vec<_> = (0..64 * 32).map(|_| Page::alloc_block().unwrap()).collect();
    let full = process_memory();
    assert_eq!((full.mapped, full.cold), (128 * MIB, 0), "cold arenas were used again");
    let pages: Vec<Page> = blocks.into_iter().flatten().collect();
    // One page in each arena pins it; the others are free for blocks.
    let per_arena = 32 * BLOCK_SIZE / PAGE_SIZE;
    let pinned: Vec<Page> = pages.iter().step_by(per_arena).map(Page::share).collect();
    assert_eq!(Page::release_all(pages), 64 * (per_arena - 1));
    assert_eq!(process_memory().mapped, 128 * MIB);
    let again: Vec<_> = (0..64 * 31).map(|_| Page::alloc_block().unwrap()).collect();
    assert_eq!(process_memory().mapped, 128 * MIB);
    drop((pinned, again));
    assert_eq!((process_memory().pages_in_use, process_memory().mapped), (0, 8 * MIB));
}

fn churn_of_pieces_stays_near_what_is_live() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut len = move || 1024 + random.below(63 * 1024 + 1);
    let mut choice = Random(88_172_645_463_325_252);
    let mut held: Vec<Piece> = (0..2000).map(|_| Piece::alloc(len()).unwrap()).collect();
    for _ in 0..100_000 {
        drop(held.swap_remove(choice.below(held.len())));
        held.push(Piece::alloc(len()).unwrap());
    }
    let live: u64 = held.iter().map(|piece| piece.len() as u64).sum();
    let footprints: u64 = held.iter().map(|piece| Piece::footprint(piece.len())).sum();
    let now = process_memory();
    assert_eq!(now.pieces_in_use, footprints);
    let percent = (now.pieces_mapped - live) as f64 * 100.0 / live as f64;
    println!("churn: {} MiB live in {} MiB mapped, {percent:.1} % more", live / MIB, now.pieces_mapped / MIB);
    assert!(now.pieces_mapped * 4 <= live * 5, "mapped {} for {live} live", now.pieces_mapped);
    drop(held);
    let after = process_memory();
    assert_eq!((after.pieces_in_use, after.pieces_mapped), (0, 2 * MIB), "one chunk is kept");
    assert!(after.mapped <= 2 * MIB + 8 * MIB);
}

fn a_forked_child_has_its_own_copy() {
    let page = Page::alloc().unwrap();
    let piece = Piece::alloc_from(b"of the parent").unwrap();
    // SAFETY: a page of this test's own.
    unsafe { page.as_ptr().write(1) };
    // SAFETY: no other thread of this process is inside the crate; the child leaves through _exit.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        // SAFETY: the child's own copy of the page.
        unsafe { page.as_ptr().write(2) };
        let intact = piece.as_slice() == b"of the parent";
        drop(piece);
        let more = Page::alloc_block().is_ok() && Piece::alloc(100_000).is_ok();
        let last = page.release();
        // SAFETY: leaves the child without running the test harness in it.
        unsafe { libc::_exit(if intact && more && last { 0 } else { 1 }) };
    }
    let mut status = -1;
    // SAFETY: waits for the child just made; `status` is writable.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
    // SAFETY: a page of this test's own.
    assert_eq!(unsafe { page.as_ptr().read() }, 1);
    assert_eq!(piece.as_slice(), b"of the parent");
    assert!(page.release());
}

/// This process's resident set in bytes, from proc_pid_statm(5).
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    // SAFETY: no pointers involved.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64;
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * page
}
