//! Does the one wrong thing that its argument names, for a memory checker to report; scripts/test-checkers.sh runs it.
//!
//! Exits with 0, if it is let. `none` does nothing wrong.

use ermfs_memory::{Counted, PAGE_SIZE, Page, Piece};
use std::hint::black_box;

/// Reads one byte that is not for the asking.
fn touch(at: *const u8) {
    // SAFETY: none; this is what is to be reported. The byte lies in memory that the process has.
    black_box(unsafe { at.read_volatile() });
}

/// Goes one way or the other by a byte that nobody wrote.
fn judge(at: *const u8) {
    // SAFETY: as above.
    if unsafe { at.read_volatile() } == 7 {
        println!("seven");
    }
}

fn page() -> Page {
    Page::alloc().expect("memory for a page")
}

fn piece(len: usize) -> Piece {
    Piece::alloc_from(&vec![1; len]).expect("memory for a piece")
}

fn main() {
    let fault = std::env::args().nth(1).expect("which fault?");
    let neighbours = [piece(24), piece(20), piece(24)];
    match fault.as_str() {
        "none" => {
            let (page, piece) = (page(), piece(20));
            // SAFETY: a page of this program's own.
            unsafe { page.as_ptr().write_bytes(1, PAGE_SIZE) };
            judge(page.as_ptr().wrapping_add(PAGE_SIZE - 1));
            judge(piece.as_ptr().wrapping_add(19));
        }
        "page-after-free" => {
            let page = page();
            let at = page.as_ptr();
            assert!(page.release());
            touch(at.wrapping_add(1000));
        }
        "page-of-block-after-free" => {
            let mut block: Vec<Page> = Page::alloc_block().expect("memory for a block").into();
            let at = block[5].as_ptr();
            assert!(block.remove(5).release());
            touch(at.wrapping_add(PAGE_SIZE - 1));
        }
        "page-after-free-and-more" => {
            let freed = page();
            let at = freed.as_ptr();
            assert!(freed.release());
            let others: Vec<Page> = (0..40).map(|_| page()).collect();
            touch(at);
            drop(others);
        }
        "page-overrun" => touch(page().as_ptr().wrapping_add(PAGE_SIZE)),
        "piece-after-free" => {
            let piece = piece(5000);
            let at = piece.as_ptr();
            drop(piece);
            touch(at.wrapping_add(4999));
        }
        "piece-after-free-and-more" => {
            let freed = piece(5000);
            let at = freed.as_ptr();
            drop(freed);
            let others: Vec<Piece> = (0..40).map(|_| piece(5000)).collect();
            touch(at);
            drop(others);
        }
        "piece-overrun-into-its-rounding" => touch(neighbours[1].as_ptr().wrapping_add(20)),
        "piece-overrun-into-the-next" => touch(neighbours[0].as_ptr().wrapping_add(24)),
        "piece-underrun" => touch(neighbours[2].as_ptr().wrapping_sub(1)),
        "counted-after-free" => {
            let value = Counted::try_new(7u64).map_err(|(error, _)| error).expect("memory for a value");
            let at = value.as_raw();
            drop(value);
            touch(at.as_ptr().cast());
        }
        "page-uninitialised" => judge(page().as_ptr()),
        "piece-uninitialised" => judge(Piece::alloc(20).expect("memory for a piece").as_ptr()),
        _ => panic!("no such fault"),
    }
}
