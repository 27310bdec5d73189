//! What a reader that has a pin and no lock sees of a raw block (B3).
//!
//! Promises: the bytes it puts into a sink are those of one moment; past the fill mark they are zeros. Never: a lock, a wait, a store
//! to the block.

use ermfs_memory::{PAGE_SIZE, PAGES_PER_BLOCK};

use super::{RawBlock, for_each_run, put};
use crate::content::cells::{Cells, PageCell};
use crate::content::io::Sink;
use crate::failpoint::failpoint;
use crate::sync::atomic::Ordering;

impl RawBlock {
    /// The cells of `from .. from + n`, each as it was at some moment.
    #[inline]
    pub(in crate::content) fn cells(&self, from: usize, n: usize) -> Cells {
        let (first, end) = (from / PAGE_SIZE, (from + n).div_ceil(PAGE_SIZE));
        let mut words = [0; PAGES_PER_BLOCK];
        for (word, cell) in words.iter_mut().zip(&self.pages[first..end]) {
            *word = cell.word();
        }
        Cells { words, first }
    }

    /// As [`RawBlock::read`], of one moment.
    #[inline]
    pub(in crate::content) fn read_pinned(&self, from: usize, n: usize, sink: &mut Sink<'_>) {
        self.touch(n);
        // Most reads lie in one page, and need to look at no other cell.
        if from / PAGE_SIZE != (from + n - 1) / PAGE_SIZE {
            let (cells, mark) = self.at_one_moment(|| self.cells(from, n));
            return self.read_cells(&cells, mark, from, n, sink);
        }
        let cell = &self.pages[from / PAGE_SIZE];
        let (word, mark) = self.at_one_moment(|| cell.word());
        let granted = n.min(mark.saturating_sub(from));
        put(PageCell::page_of(word).map(|page| page.as_ptr().wrapping_add(from % PAGE_SIZE)), granted, sink);
        if granted < n {
            sink.put_zeros(n - granted);
        }
    }

    /// What `look` finds in cells, and the fill mark, of one moment: a page that a cell below the mark named does not come back
    /// while there is a pin, so two looks that find the same have found what was there when the mark between them was
    /// loaded.
    #[inline]
    fn at_one_moment<L: PartialEq>(&self, look: impl Fn() -> L) -> (L, usize) {
        let mut found = look();
        loop {
            let mark = self.granted();
            let again = look();
            if again == found {
                failpoint!("lockless.read.cells");
                return (found, mark);
            }
            found = again;
        }
    }

    /// Where what a reader without the lock may look at ends.
    #[inline]
    pub(in crate::content) fn granted(&self) -> usize {
        // Acquire pairs with the Release of `extend`.
        self.mark.load(Ordering::Acquire) as usize
    }

    /// Puts bytes `from .. from + n` into `sink`, by what was found in the cells before and after the mark was loaded. What lies
    /// past it may be written meanwhile, and counts as zeros.
    #[inline]
    pub(in crate::content) fn read_cells(
        &self,
        cells: &Cells,
        mark: usize,
        from: usize,
        n: usize,
        sink: &mut Sink<'_>,
    ) {
        let granted = n.min(mark.saturating_sub(from));
        for_each_run(
            |index| PageCell::page_of(cells.words[index - cells.first]),
            from,
            granted,
            |run, len| put(run, len, sink),
        );
        sink.put_zeros(n - granted);
    }

    /// Whether the cells of `from .. from + n` are what they were.
    #[inline]
    pub(in crate::content) fn has_still(&self, cells: &Cells, from: usize, n: usize) -> bool {
        self.cells(from, n) == *cells
    }
}
