//! A raw block: up to sixteen pages of 4 KiB, any of which may be a hole. Where writes land.
//!
//! Promises: it changes through `&mut RawBlock`, which is given out when nobody else holds the block or looks at it, or past
//! its fill mark (B3), and a page only when nobody else holds the page. Whoever holds a counted reference therefore
//! sees the bytes of the moment it was taken. Every byte it takes was charged to its filesystem before and is released when
//! it is freed. Never: a lock.

mod pinned;

use core::mem::ManuallyDrop;
use core::ops::Range;
use core::ptr;

use ermfs_memory::sync::Arc;
use ermfs_memory::{BLOCK_SIZE, Counted, Kind, PAGE_SIZE, PAGES_PER_BLOCK, Page, Purpose};

use super::cells::{CellPage, PageCell};
use super::garbage;
use super::io::{Sink, Source};
use super::trace;
use super::warmth;
use crate::errno::{Errno, Result};
use crate::failpoint::failpoint;
use crate::space::Space;
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};

const PAGE: u64 = PAGE_SIZE as u64;

/// What [`RawBlock::make_writable`] reached.
pub(crate) struct Writable {
    /// Bytes from the start of the range that may be written now.
    pub(crate) len: usize,
    /// Pages that were a hole before.
    pub(crate) added: usize,
    /// Why it stopped short, if it did.
    pub(crate) error: Option<Errno>,
}

/// How many holes [`RawBlock::make_writable`] may fill, and on whose behalf.
#[derive(Clone, Copy)]
pub(crate) struct Holes {
    pub(crate) most: usize,
    pub(crate) purpose: Purpose,
}

impl Holes {
    /// As many as a block has.
    pub(crate) fn all(purpose: Purpose) -> Holes {
        Holes { most: PAGES_PER_BLOCK, purpose }
    }
}

/// A block of 4 KiB pages, some of which may be holes.
pub(crate) struct RawBlock {
    space: Arc<Space>,
    pages: [PageCell; PAGES_PER_BLOCK],
    /// The fill mark (B3): what a reader without the file's lock may look at ends here; the rest is zeros. A block that was
    /// written under locked mode's lock is all below it.
    mark: AtomicU32,
    /// A bit for each page that belongs to the block which this one is to replace.
    borrowed: u16,
    /// Looked at when it was packed last, and left raw because it does not shrink.
    settled: AtomicBool,
}

impl RawBlock {
    /// A block of holes.
    pub(crate) fn try_new(space: &Arc<Space>, purpose: Purpose) -> Result<Counted<RawBlock>> {
        RawBlock::with_pages(space, || [const { None }; PAGES_PER_BLOCK], 0, 0, purpose)
    }

    fn with_pages(
        space: &Arc<Space>,
        pages: impl FnOnce() -> [Option<Page>; PAGES_PER_BLOCK],
        borrowed: u16,
        mark: usize,
        purpose: Purpose,
    ) -> Result<Counted<RawBlock>> {
        let charge = space.charged(Kind::Metadata, Counted::<RawBlock>::footprint(), purpose)?;
        let block = RawBlock {
            space: Arc::clone(space),
            pages: pages().map(PageCell::new),
            mark: AtomicU32::new(mark as u32),
            borrowed,
            settled: AtomicBool::new(false),
        };
        // The block releases its charges itself, whether or not it could be allocated.
        charge.keep();
        Ok(Counted::try_new(block).map_err(|(error, _)| error)?)
    }

    /// Another block over the same pages, which are shared until one side writes.
    pub(crate) fn share_pages(&self, purpose: Purpose) -> Result<Counted<RawBlock>> {
        let pages = || core::array::from_fn(|i| self.page(i).map(|page| page.share()));
        RawBlock::with_pages(&self.space, pages, 0, self.mark(), purpose)
    }

    /// A block that is to replace this one and has its pages already, without counting them: it may not write to them,
    /// and they are this block's until [`RawBlock::pass_on`].
    ///
    /// # Safety
    /// This block lives, unchanged, for as long as pages are borrowed.
    pub(super) unsafe fn successor(&self, purpose: Purpose) -> Result<Counted<RawBlock>> {
        let present = (0..PAGES_PER_BLOCK).filter(|&i| self.page(i).is_some());
        let borrowed = present.fold(0, |mask, i| mask | 1 << i);
        // A borrowed page is forgotten, or becomes the successor's own when this block forgets it.
        let pages = || core::array::from_fn(|i| self.page(i).map(ManuallyDrop::into_inner));
        RawBlock::with_pages(&self.space, pages, borrowed, self.mark(), purpose)
    }

    /// The borrowed pages become this block's own. The result is a bit for each, for the block before to
    /// [forget](RawBlock::forget).
    pub(super) fn pass_on(&mut self) -> u16 {
        core::mem::take(&mut self.borrowed)
    }

    /// These pages are its successor's now.
    pub(super) fn forget(&mut self, passed_on: u16) {
        self.borrowed = passed_on;
    }

    /// A block that holds `bytes` from its start on, zeros up to the end of the last page, holes after.
    pub(crate) fn from_bytes(
        space: &Arc<Space>,
        bytes: &[u8],
        purpose: Purpose,
    ) -> Result<Counted<RawBlock>> {
        let mut counted = RawBlock::try_new(space, purpose)?;
        let block = counted.get_mut().expect("a new block has one reference");
        let ready = block.make_writable(0..bytes.len(), Holes::all(purpose), purpose);
        match ready.error {
            Some(error) => Err(error),
            None => {
                block.write(0, bytes.len(), &mut Source::new(bytes));
                Ok(counted)
            }
        }
    }

    /// The fill mark (B3).
    pub(super) fn mark(&self) -> usize {
        self.mark.load(Ordering::Relaxed) as usize
    }

    /// Puts the fill mark of a block that nobody else knows where its last byte that may not be zero ends.
    pub(super) fn set_mark(&mut self, mark: usize) {
        self.mark.store(mark as u32, Ordering::Relaxed);
    }

    fn is_ours(&self, index: usize) -> bool {
        self.borrowed & 1 << index == 0 && self.page(index).is_some_and(|page| page.is_unique())
    }

    pub(crate) fn page_count(&self) -> usize {
        self.pages.iter().filter(|cell| cell.word() != 0).count()
    }

    #[inline]
    pub(crate) fn page(&self, index: usize) -> Option<CellPage> {
        self.pages[index].get()
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }

    pub(crate) fn settle(&self) {
        self.settled.store(true, Ordering::Relaxed);
    }

    /// Calls `each(address or None for a hole, length)` for runs of memory that make up `from .. from + n`.
    #[inline]
    pub(crate) fn for_each_run(&self, from: usize, n: usize, each: impl FnMut(Option<*mut u8>, usize)) {
        for_each_run(|index| self.page(index), from, n, each);
    }

    /// Puts bytes `from .. from + n` into `sink`.
    #[inline]
    pub(crate) fn read(&self, from: usize, n: usize, sink: &mut Sink<'_>) {
        debug_assert!(from + n <= BLOCK_SIZE);
        self.for_each_run(from, n, |run, len| put(run, len, sink));
    }

    /// The bytes `0 .. n`, in place where they are contiguous, else gathered in `room`.
    pub(crate) fn gather<'a>(&'a self, n: usize, room: &'a mut [u8]) -> &'a [u8] {
        let mut runs = 0;
        let mut first = None;
        self.for_each_run(0, n, |run, _| {
            first = first.or(run);
            runs += 1;
        });
        match (runs, first) {
            // SAFETY: one run of n initialised bytes in pages this block holds; they do not change
            // while the block is borrowed (B1).
            (1, Some(address)) => unsafe { core::slice::from_raw_parts(address, n) },
            _ => {
                self.read(0, n, &mut Sink::new(&mut room[..n]));
                &room[..n]
            }
        }
    }

    /// Makes the pages under `range` ours alone, so that `range` can be written: holes get a page,
    /// of which everything outside `range` is zeroed; pages that a snapshot shares are copied, on
    /// behalf of `purpose`. At most `holes.most` holes are filled; one more is `EFBIG`.
    pub(crate) fn make_writable(&mut self, range: Range<usize>, holes: Holes, purpose: Purpose) -> Writable {
        let mut borrowed = self.borrowed;
        let ready = self.make_ready(range, holes, purpose, &mut borrowed);
        self.borrowed = borrowed;
        ready
    }

    /// The same for who may change the block, and knows that nobody looks at the cells of the pages under `range`.
    fn make_ready(
        &self,
        range: Range<usize>,
        holes: Holes,
        purpose: Purpose,
        borrowed: &mut u16,
    ) -> Writable {
        let mut done = Writable { len: 0, added: 0, error: None };
        if range == (0..BLOCK_SIZE) && holes.most >= PAGES_PER_BLOCK && self.page_count() == 0 {
            match self.fill_whole(holes.purpose) {
                Ok(()) => return Writable { len: BLOCK_SIZE, added: PAGES_PER_BLOCK, error: None },
                Err(Errno::ENOSPC) => {} // fewer pages may still fit
                Err(error) => return Writable { error: Some(error), ..done },
            }
        }
        for index in range.start / PAGE_SIZE..range.end.div_ceil(PAGE_SIZE) {
            let page_start = index * PAGE_SIZE;
            let cover =
                range.start.max(page_start) - page_start..range.end.min(page_start + PAGE_SIZE) - page_start;
            let step = match self.page(index) {
                Some(page) if *borrowed & 1 << index == 0 && page.is_unique() => Ok(()),
                Some(_) => self.replace_shared(index, &cover, purpose, borrowed),
                None if done.added == holes.most => Err(Errno::EFBIG),
                None => self.fill_hole(index, &cover, holes.purpose).inspect(|()| done.added += 1),
            };
            if let Err(error) = step {
                done.error = Some(error);
                break;
            }
            done.len += cover.len();
        }
        done
    }

    fn fill_whole(&self, purpose: Purpose) -> Result<()> {
        let charge = self.space.charged(Kind::Raw, BLOCK_SIZE as u64, purpose)?;
        let pages = Page::alloc_block()?;
        charge.keep();
        for (cell, page) in self.pages.iter().zip(pages) {
            cell.swap(Some(page));
        }
        Ok(())
    }

    fn fill_hole(&self, index: usize, cover: &Range<usize>, purpose: Purpose) -> Result<()> {
        let page = self.new_page(purpose)?;
        trace::written(page.as_ptr(), PAGE_SIZE);
        // SAFETY: the page is new, so nobody else can see it, and both ranges lie in it.
        unsafe {
            ptr::write_bytes(page.as_ptr(), 0, cover.start);
            ptr::write_bytes(page.as_ptr().add(cover.end), 0, PAGE_SIZE - cover.end);
        }
        self.pages[index].swap(Some(page));
        Ok(())
    }

    /// Gives each hole of `pages` a page of zeros, in order, and notes it as a bit of `added`, also when
    /// it fails on the way.
    pub(crate) fn fill_zeroed(
        &mut self,
        pages: Range<usize>,
        added: &mut u16,
        purpose: Purpose,
    ) -> Result<()> {
        for index in pages {
            if self.page(index).is_none() {
                self.fill_hole(index, &(0..0), purpose)?;
                *added |= 1 << index;
            }
        }
        Ok(())
    }

    /// Makes the pages of `mask`, which hold nothing but zeros, holes again.
    pub(crate) fn give_up(&mut self, mask: u16) {
        for index in (0..PAGES_PER_BLOCK).filter(|index| mask & 1 << index != 0) {
            self.let_page_go(index);
        }
    }

    /// Makes the page a hole.
    fn let_page_go(&mut self, index: usize) {
        let page = self.pages[index].swap(None);
        match self.borrowed & 1 << index {
            0 => release_page(&self.space, page),
            _ => core::mem::forget(page),
        }
        self.borrowed &= !(1 << index);
    }

    /// Puts a page of the block's own in the place of one that is shared, with the same bytes outside `cover`.
    fn replace_shared(
        &self,
        index: usize,
        cover: &Range<usize>,
        purpose: Purpose,
        borrowed: &mut u16,
    ) -> Result<()> {
        let page = self.page_like(index, cover, purpose)?;
        let shared = self.pages[index].swap(Some(page));
        match *borrowed & 1 << index {
            0 => release_page(&self.space, shared),
            _ => core::mem::forget(shared),
        }
        *borrowed &= !(1 << index);
        Ok(())
    }

    fn new_page(&self, purpose: Purpose) -> Result<Page> {
        let charge = self.space.charged(Kind::Raw, PAGE, purpose)?;
        let page = Page::alloc()?;
        charge.keep();
        Ok(page)
    }

    /// A new page with the bytes outside `cover` of the one at `index`.
    #[inline]
    fn page_like(&self, index: usize, cover: &Range<usize>, purpose: Purpose) -> Result<Page> {
        let charge = self.space.charged(Kind::Raw, PAGE, purpose)?;
        let page = match garbage::spare_page() {
            Some(page) => page,
            None => Page::alloc()?,
        };
        charge.keep();
        let other = self.page(index).expect("the page is there");
        // SAFETY: both are whole pages; the new one is seen by nobody else, what is copied of the other one is written
        // by nobody (B1).
        unsafe {
            let (from, to) = (other.as_ptr(), page.as_ptr());
            trace::written(to, PAGE_SIZE);
            ptr::copy_nonoverlapping(from, to, cover.start);
            ptr::copy_nonoverlapping(from.add(cover.end), to.add(cover.end), PAGE_SIZE - cover.end);
        }
        Ok(page)
    }

    /// Fills `from .. from + n`, which [`RawBlock::make_writable`] made ready, from `source`.
    #[inline]
    pub(crate) fn write(&mut self, from: usize, n: usize, source: &mut Source<'_>) {
        self.set_mark(BLOCK_SIZE);
        // SAFETY: the block is borrowed exclusively, and the pages are ours alone.
        unsafe { self.fill(from, n, source) }
    }

    /// The same where all the pages were there before, so that they may lie outside the processor's cache.
    #[inline]
    pub(crate) fn overwrite(&mut self, from: usize, n: usize, source: &mut Source<'_>) {
        if self.touch(n) {
            return self.write(from, n, source);
        }
        self.set_mark(BLOCK_SIZE);
        self.settled.store(false, Ordering::Relaxed);
        self.for_each_run(from, n, |run, len| {
            let address = run.expect("made ready before");
            trace::written(address, len);
            // SAFETY: the block is borrowed exclusively, and the pages are ours alone.
            unsafe { source.take_past_cache(address, len) }
        });
    }

    /// Notes that `n` bytes are being read or written; whether they are best left in the processor's cache, because they may be
    /// there, or are less than a page.
    #[inline(always)]
    pub(super) fn touch(&self, n: usize) -> bool {
        n < PAGE_SIZE || warmth::touch(self)
    }

    /// As [`RawBlock::touch`], out of the way of who reads something else.
    #[inline(never)]
    pub(super) fn note_read(&self, n: usize) {
        self.touch(n);
    }

    /// # Safety
    /// The pages under `from .. from + n` are there and ours alone, and nobody else looks at these bytes meanwhile.
    #[inline]
    unsafe fn fill(&self, from: usize, n: usize, source: &mut Source<'_>) {
        self.touch(n);
        self.settled.store(false, Ordering::Relaxed);
        self.for_each_run(from, n, |run, len| {
            let address = run.expect("made ready before");
            trace::written(address, len);
            // SAFETY: by this function's contract (B1, B3).
            unsafe { source.take(address, len) }
        });
    }

    /// Writes `range` in place if it lies past the fill mark, and moves the mark to its end (B3). `None` when readers may
    /// be looking there, or a page there is shared: whoever took it out of its cell and let it go could see it come back
    /// into that cell while a reader looks at it for the second time.
    ///
    /// # Safety
    /// The caller holds the file's lock alone, and the file's map has the only reference to the block.
    pub(super) unsafe fn extend(
        &self,
        range: Range<usize>,
        holes: Holes,
        purpose: Purpose,
        source: &mut Source<'_>,
    ) -> Option<Writable> {
        let (mark, first) = (self.mark(), range.start / PAGE_SIZE);
        let may_stay = |index: usize| match self.page(index) {
            Some(_) => self.is_ours(index),
            // Readers look at the cell of the page that the mark lies in.
            None => index > first || mark <= first * PAGE_SIZE,
        };
        if range.start < mark || !(first..range.end.div_ceil(PAGE_SIZE)).all(may_stay) {
            return None;
        }
        let ready = self.make_ready(range.clone(), holes, purpose, &mut 0);
        if ready.len > 0 {
            // SAFETY: the bytes past the mark are the lock's holder's, in pages that are the block's alone now.
            unsafe { self.fill(range.start, ready.len, source) };
            failpoint!("lockless.content.past_the_mark");
            // Release: whoever sees the mark sees the bytes below it, and the cells.
            self.mark.store((range.start + ready.len) as u32, Ordering::Release);
        }
        Some(ready)
    }

    /// Writes `range`, which lies in one page that is there, into a new page in its place. The result is the old page,
    /// which readers may be looking at. Not for what reaches past the fill mark.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`: nothing has changed.
    ///
    /// # Safety
    /// As for [`RawBlock::extend`].
    pub(super) unsafe fn replace_page(
        &self,
        range: Range<usize>,
        purpose: Purpose,
        source: &mut Source<'_>,
    ) -> Option<Result<Page>> {
        let index = range.start / PAGE_SIZE;
        if range.end > (index + 1) * PAGE_SIZE || range.end > self.mark() || self.page(index).is_none() {
            return None;
        }
        let start = index * PAGE_SIZE;
        let cover = range.start - start..range.end - start;
        let page = match self.page_like(index, &cover, purpose) {
            Ok(page) => page,
            Err(error) => return Some(Err(error)),
        };
        self.settled.store(false, Ordering::Relaxed);
        // SAFETY: the new page is seen by nobody else, and the range lies in it.
        unsafe {
            let to = page.as_ptr().add(cover.start);
            match self.touch(cover.len()) {
                true => source.take(to, cover.len()),
                false => source.take_past_cache(to, cover.len()),
            }
        }
        failpoint!("lockless.content.page_made");
        self.pages[index].swap(Some(page)).map(Ok)
    }

    /// Zeroes `from .. from + n`: whole pages become holes, the rest is overwritten. Returns the
    /// number of pages given up.
    ///
    /// # Errors
    /// `ENOSPC` or `ENOMEM` when a page that a snapshot shares cannot be copied; nothing has changed.
    pub(crate) fn zero(&mut self, from: usize, n: usize, keep_pages: bool) -> Result<usize> {
        let end = from + n;
        let whole = if keep_pages { 0..0 } else { from.div_ceil(PAGE_SIZE)..end / PAGE_SIZE };
        let mut borrowed = self.borrowed;
        // First whatever can fail: the pages that are only partly covered must be ours alone.
        for index in from / PAGE_SIZE..end.div_ceil(PAGE_SIZE) {
            if !whole.contains(&index) && self.page(index).is_some() && !self.is_ours(index) {
                let replaced = self.replace_shared(index, &(0..0), Purpose::Reserved, &mut borrowed);
                self.borrowed = borrowed;
                replaced?;
            }
        }
        self.settled.store(false, Ordering::Relaxed);
        let mut given_up = 0;
        for index in from / PAGE_SIZE..end.div_ceil(PAGE_SIZE) {
            if whole.contains(&index) {
                given_up += usize::from(self.page(index).is_some());
                self.let_page_go(index);
            } else if let Some(page) = self.page(index) {
                let start = index * PAGE_SIZE;
                let (from, to) = (from.max(start) - start, end.min(start + PAGE_SIZE) - start);
                trace::written(page.as_ptr().wrapping_add(from), to - from);
                // SAFETY: from <= to <= PAGE_SIZE, and the page is ours alone (checked above).
                unsafe { ptr::write_bytes(page.as_ptr().add(from), 0, to - from) };
            }
        }
        Ok(given_up)
    }
}

impl Drop for RawBlock {
    fn drop(&mut self) {
        for index in (0..PAGES_PER_BLOCK).filter(|index| self.borrowed & 1 << index != 0) {
            core::mem::forget(self.pages[index].swap(None));
        }
        release_pages(&self.space, &self.pages);
        self.space.release(Kind::Metadata, Counted::<RawBlock>::footprint());
    }
}

/// See [`RawBlock::for_each_run`].
#[inline]
fn for_each_run(
    page: impl Fn(usize) -> Option<CellPage>,
    from: usize,
    n: usize,
    mut each: impl FnMut(Option<*mut u8>, usize),
) {
    let end = from + n;
    let mut at = from;
    while at < end {
        let first = page(at / PAGE_SIZE);
        let address = first.as_ref().map(|page| page.as_ptr().wrapping_add(at % PAGE_SIZE));
        let mut run_end = (at / PAGE_SIZE + 1) * PAGE_SIZE;
        let mut last = first;
        while run_end < end {
            let next = page(run_end / PAGE_SIZE);
            let joins = match (&last, &next) {
                (Some(last), Some(next)) => last.is_followed_by(next),
                (None, None) => true,
                _ => false,
            };
            if !joins {
                break;
            }
            (last, run_end) = (next, run_end + PAGE_SIZE);
        }
        let run_end = run_end.min(end);
        each(address, run_end - at);
        at = run_end;
    }
}

/// Puts a run of a block into `sink`.
#[inline]
fn put(run: Option<*mut u8>, len: usize, sink: &mut Sink<'_>) {
    match run {
        // SAFETY: a run lies within pages that the block held when it was reached, and nobody writes what a reader of the
        // block may see (B1, B3).
        Some(address) => unsafe {
            trace::read(address, len);
            sink.put(address, len)
        },
        None => sink.put_zeros(len),
    }
}

fn release_pages(space: &Space, pages: &[PageCell]) {
    let freed = Page::release_all(pages.iter().filter_map(|cell| cell.swap(None)));
    if freed > 0 {
        space.release(Kind::Raw, freed as u64 * PAGE);
    }
}

pub(super) fn release_page(space: &Space, page: Option<Page>) {
    if page.is_some_and(Page::release) {
        space.release(Kind::Raw, PAGE);
    }
}
