//! The cells of a raw block: each names a page, or none, in one atomic word.
//!
//! Promises: a cell owns one reference of the page that it names, and hands it over when it is made to name another. Who finds
//! a page in a cell finds its bytes. Never: a lock; who may change a cell, and who may look at it, is `raw`'s affair (B1, B3).

use core::mem::ManuallyDrop;
use core::num::NonZeroU32;

use ermfs_memory::{PAGES_PER_BLOCK, Page};

use crate::sync::atomic::{AtomicU32, Ordering};

/// One page of a raw block, or a hole: what `Page::into_raw` gave, or 0.
pub(super) struct PageCell(AtomicU32);

/// A page as a cell names it: the reference is the cell's. Good for as long as what keeps the block is held, and the cell is
/// not changed or what it named is retired.
pub(super) type CellPage = ManuallyDrop<Page>;

impl PageCell {
    pub(super) fn new(page: Option<Page>) -> PageCell {
        PageCell(AtomicU32::new(page.map_or(0, |page| page.into_raw().get())))
    }

    /// What stands for the page, or 0.
    #[inline]
    pub(super) fn word(&self) -> u32 {
        // Acquire pairs with the Release of `swap`: the page's bytes are there.
        self.0.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn page_of(word: u32) -> Option<CellPage> {
        // SAFETY: a cell's word came from `into_raw`; the page is not dropped here.
        NonZeroU32::new(word).map(|raw| ManuallyDrop::new(unsafe { Page::from_raw(raw) }))
    }

    #[inline]
    pub(super) fn get(&self) -> Option<CellPage> {
        PageCell::page_of(self.word())
    }

    /// Names `page` from now on; the result is what it named. Only who may change the block calls it.
    #[inline]
    pub(super) fn swap(&self, page: Option<Page>) -> Option<Page> {
        let word = page.map_or(0, |page| page.into_raw().get());
        // Not one step: nobody else changes the cell. Release: whoever sees the page sees its bytes.
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(word, Ordering::Release);
        // SAFETY: the cell's reference is taken back once, for the cell names something else now.
        NonZeroU32::new(before).map(|raw| unsafe { Page::from_raw(raw) })
    }
}

/// The cells of a part of a block, as they were at one moment.
#[derive(PartialEq)]
pub(super) struct Cells {
    pub(super) words: [u32; PAGES_PER_BLOCK],
    pub(super) first: usize,
}
