//! The forms of one block of a file: raw pages, or packed at rest.
//!
//! Promises: a packed block never changes; a raw block changes only through `&mut RawBlock`, which
//! the map gives out when nobody else holds the block, and a page only when nobody else holds the
//! page. Whoever holds a counted reference therefore sees the bytes of the moment it was taken.
//! Every byte a block takes was charged to its filesystem before and is released when it is freed.
//! Never: a lock, except the cache's mutex when an inflated copy comes or goes.

use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::Arc;

use ermfs_memory::{BLOCK_SIZE, Counted, Kind, PAGE_SIZE, PAGES_PER_BLOCK, Page, Piece, Purpose};

use super::cache::InflatedCopy;
use super::io::{Sink, Source};
use super::scratch::Scratch;
use crate::codec;
use crate::epoch;
use crate::errno::{Errno, Result};
use crate::space::Space;

const PAGE: u64 = PAGE_SIZE as u64;

/// A counted reference to one block.
pub(crate) enum Block {
    Raw(Counted<RawBlock>),
    Packed(Counted<PackedBlock>),
}

/// A borrowed block.
#[derive(Clone, Copy)]
pub(crate) enum BlockRef<'a> {
    Raw(&'a RawBlock),
    Packed(&'a PackedBlock),
}

impl BlockRef<'_> {
    /// Puts bytes `from .. from + n` of the block into `sink`.
    ///
    /// # Errors
    /// `EIO` when the member is corrupt; nothing was consumed of the sink then.
    #[inline]
    pub(crate) fn read(&self, from: usize, n: usize, sink: &mut Sink<'_>) -> Result<()> {
        match self {
            BlockRef::Raw(block) => {
                block.read(from, n, sink);
                Ok(())
            }
            BlockRef::Packed(block) => block.read(from, n, sink),
        }
    }

    /// Bytes of memory the block's content takes.
    pub(crate) fn stored_bytes(&self) -> u64 {
        match self {
            BlockRef::Raw(block) => block.page_count() as u64 * PAGE,
            BlockRef::Packed(block) => block.stored_bytes(),
        }
    }

    /// Bytes of the file that are kept here and not a hole.
    pub(crate) fn data_bytes(&self) -> u64 {
        match self {
            BlockRef::Raw(block) => block.page_count() as u64 * PAGE,
            BlockRef::Packed(block) => block.raw_len() as u64,
        }
    }
}

impl Block {
    pub(crate) fn as_ref(&self) -> BlockRef<'_> {
        match self {
            Block::Raw(block) => BlockRef::Raw(block),
            Block::Packed(block) => BlockRef::Packed(block),
        }
    }
}

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
    pages: [Option<Page>; PAGES_PER_BLOCK],
    /// Looked at when it was packed last, and left raw because it does not shrink.
    settled: AtomicBool,
}

impl RawBlock {
    /// A block of holes.
    pub(crate) fn try_new(space: &Arc<Space>, purpose: Purpose) -> Result<Counted<RawBlock>> {
        RawBlock::with_pages(space, [const { None }; PAGES_PER_BLOCK], purpose)
    }

    fn with_pages(
        space: &Arc<Space>,
        pages: [Option<Page>; PAGES_PER_BLOCK],
        purpose: Purpose,
    ) -> Result<Counted<RawBlock>> {
        let footprint = Counted::<RawBlock>::footprint();
        let block = |pages| RawBlock { space: Arc::clone(space), pages, settled: AtomicBool::new(false) };
        match space.charge(Kind::Metadata, footprint, purpose) {
            // The block releases its charges itself, whether or not it could be allocated.
            Ok(()) => Ok(Counted::try_new(block(pages)).map_err(|(error, _)| error)?),
            Err(error) => {
                release_pages(space, &mut { pages });
                Err(error)
            }
        }
    }

    /// Another block over the same pages, which are shared until one side writes.
    pub(crate) fn share_pages(&self, purpose: Purpose) -> Result<Counted<RawBlock>> {
        let pages = core::array::from_fn(|i| self.pages[i].as_ref().map(Page::share));
        RawBlock::with_pages(&self.space, pages, purpose)
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

    pub(crate) fn page_count(&self) -> usize {
        self.pages.iter().flatten().count()
    }

    pub(crate) fn page(&self, index: usize) -> Option<&Page> {
        self.pages[index].as_ref()
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }

    pub(crate) fn settle(&self) {
        self.settled.store(true, Ordering::Relaxed);
    }

    /// Calls `each(address or None for a hole, length)` for runs of memory that make up `from .. from + n`.
    #[inline]
    pub(crate) fn for_each_run(&self, from: usize, n: usize, mut each: impl FnMut(Option<*mut u8>, usize)) {
        let end = from + n;
        let mut at = from;
        while at < end {
            let index = at / PAGE_SIZE;
            let mut run_end = (index + 1) * PAGE_SIZE;
            let mut last = self.pages[index].as_ref();
            while run_end < end {
                let next = self.pages[run_end / PAGE_SIZE].as_ref();
                let joins = match (last, next) {
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
            let address = self.pages[index].as_ref().map(|page| page.as_ptr().wrapping_add(at % PAGE_SIZE));
            each(address, run_end - at);
            at = run_end;
        }
    }

    /// Puts bytes `from .. from + n` into `sink`.
    #[inline]
    pub(crate) fn read(&self, from: usize, n: usize, sink: &mut Sink<'_>) {
        debug_assert!(from + n <= BLOCK_SIZE);
        self.for_each_run(from, n, |run, len| match run {
            // SAFETY: a run lies within pages this block holds, and nobody writes a page that a
            // shared reference to its block can see (block protocol, docs/INVARIANTS.md B1).
            Some(address) => unsafe { sink.put(address, len) },
            None => sink.put_zeros(len),
        });
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
            let step = match &self.pages[index] {
                Some(page) if page.is_unique() => Ok(()),
                Some(_) => self.replace_shared(index, &cover, purpose),
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

    fn fill_whole(&mut self, purpose: Purpose) -> Result<()> {
        let charge = self.space.charged(Kind::Raw, BLOCK_SIZE as u64, purpose)?;
        let pages = Page::alloc_block()?;
        charge.keep();
        self.pages = pages.map(Some);
        Ok(())
    }

    fn fill_hole(&mut self, index: usize, cover: &Range<usize>, purpose: Purpose) -> Result<()> {
        let charge = self.space.charged(Kind::Raw, PAGE, purpose)?;
        let page = Page::alloc()?;
        charge.keep();
        // SAFETY: the page was just allocated, so nobody else can see it, and both ranges lie in it.
        unsafe {
            ptr::write_bytes(page.as_ptr(), 0, cover.start);
            ptr::write_bytes(page.as_ptr().add(cover.end), 0, PAGE_SIZE - cover.end);
        }
        self.pages[index] = Some(page);
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
            if self.pages[index].is_none() {
                self.fill_hole(index, &(0..0), purpose)?;
                *added |= 1 << index;
            }
        }
        Ok(())
    }

    /// Makes the pages of `mask`, which hold nothing but zeros, holes again.
    pub(crate) fn give_up(&mut self, mask: u16) {
        for (index, page) in self.pages.iter_mut().enumerate() {
            if mask & (1 << index) != 0 {
                release_page(&self.space, page.take());
            }
        }
    }

    fn replace_shared(&mut self, index: usize, cover: &Range<usize>, purpose: Purpose) -> Result<()> {
        let charge = self.space.charged(Kind::Raw, PAGE, purpose)?;
        let page = Page::alloc()?;
        charge.keep();
        let shared = self.pages[index].as_ref().expect("a shared page is there");
        // SAFETY: both are whole pages; the new one is seen by nobody else, the shared one is written
        // by nobody (B1).
        unsafe {
            let (from, to) = (shared.as_ptr(), page.as_ptr());
            ptr::copy_nonoverlapping(from, to, cover.start);
            ptr::copy_nonoverlapping(from.add(cover.end), to.add(cover.end), PAGE_SIZE - cover.end);
        }
        release_page(&self.space, self.pages[index].replace(page));
        Ok(())
    }

    /// Fills `from .. from + n`, which [`RawBlock::make_writable`] made ready, from `source`.
    #[inline]
    pub(crate) fn write(&mut self, from: usize, n: usize, source: &mut Source<'_>) {
        self.settled.store(false, Ordering::Relaxed);
        self.for_each_run(from, n, |run, len| {
            let address = run.expect("made writable before");
            // SAFETY: make_writable left this block the only holder of these pages (B1), and we hold the
            // block exclusively.
            unsafe { source.take(address, len) }
        });
    }

    /// Zeroes `from .. from + n`: whole pages become holes, the rest is overwritten. Returns the
    /// number of pages given up.
    ///
    /// # Errors
    /// `ENOSPC` or `ENOMEM` when a page that a snapshot shares cannot be copied; nothing has changed.
    pub(crate) fn zero(&mut self, from: usize, n: usize, keep_pages: bool) -> Result<usize> {
        let end = from + n;
        let whole = if keep_pages { 0..0 } else { from.div_ceil(PAGE_SIZE)..end / PAGE_SIZE };
        // First whatever can fail: the pages that are only partly covered must be ours alone.
        for index in from / PAGE_SIZE..end.div_ceil(PAGE_SIZE) {
            if !whole.contains(&index) && self.pages[index].as_ref().is_some_and(|page| !page.is_unique()) {
                self.replace_shared(index, &(0..0), Purpose::Reserved)?;
            }
        }
        self.settled.store(false, Ordering::Relaxed);
        let mut given_up = 0;
        for index in from / PAGE_SIZE..end.div_ceil(PAGE_SIZE) {
            if whole.contains(&index) {
                given_up += usize::from(self.pages[index].is_some());
                release_page(&self.space, self.pages[index].take());
            } else if let Some(page) = &self.pages[index] {
                let start = index * PAGE_SIZE;
                let (from, to) = (from.max(start) - start, end.min(start + PAGE_SIZE) - start);
                // SAFETY: from <= to <= PAGE_SIZE, and the page is ours alone (checked above).
                unsafe { ptr::write_bytes(page.as_ptr().add(from), 0, to - from) };
            }
        }
        Ok(given_up)
    }
}

impl Drop for RawBlock {
    fn drop(&mut self) {
        release_pages(&self.space, &mut self.pages);
        self.space.release(Kind::Metadata, Counted::<RawBlock>::footprint());
    }
}

fn release_pages(space: &Space, pages: &mut [Option<Page>]) {
    let freed = Page::release_all(pages.iter_mut().filter_map(Option::take));
    if freed > 0 {
        space.release(Kind::Raw, freed as u64 * PAGE);
    }
}

fn release_page(space: &Space, page: Option<Page>) {
    if page.is_some_and(Page::release) {
        space.release(Kind::Raw, PAGE);
    }
}

/// The form of a packed block.
pub(crate) enum AtRest<'a> {
    /// A gzip member.
    Member(&'a [u8]),
    /// The bytes themselves.
    Plain(&'a [u8]),
}

/// A block at rest: a gzip member, or the bytes themselves where they do not shrink.
pub(crate) struct PackedBlock {
    space: Arc<Space>,
    piece: Piece,
    /// Bytes of the block the piece stands for, 1 to 65,536; the rest of the block reads as zeros.
    raw_len: u32,
    is_member: bool,
    /// A part of it was read, and no copy kept.
    touched: AtomicBool,
    /// The inflated copy, if one is kept. Written under the cache's mutex, read under an epoch pin
    /// (copy protocol, docs/INVARIANTS.md B4).
    pub(super) copy: AtomicPtr<InflatedCopy>,
}

impl PackedBlock {
    /// The gzip member `member`, of a block that began with `raw_len` bytes.
    pub(crate) fn member(space: &Arc<Space>, member: &[u8], raw_len: usize) -> Result<Counted<PackedBlock>> {
        PackedBlock::try_new(space, member, raw_len, true)
    }

    /// `bytes` as they are: for the short end of a file that does not shrink.
    pub(crate) fn plain(space: &Arc<Space>, bytes: &[u8]) -> Result<Counted<PackedBlock>> {
        PackedBlock::try_new(space, bytes, bytes.len(), false)
    }

    fn try_new(
        space: &Arc<Space>,
        bytes: &[u8],
        raw_len: usize,
        is_member: bool,
    ) -> Result<Counted<PackedBlock>> {
        debug_assert!((1..=BLOCK_SIZE).contains(&raw_len));
        // Packing frees more than it takes, a moment later: it may use the reserve.
        let node = space.charged(Kind::Metadata, Counted::<PackedBlock>::footprint(), Purpose::Reserved)?;
        let charge = space.charged(Kind::Packed, Piece::footprint(bytes.len()), Purpose::Reserved)?;
        let piece = Piece::alloc_from(bytes)?;
        charge.keep();
        node.keep();
        let block = PackedBlock {
            space: Arc::clone(space),
            piece,
            raw_len: raw_len as u32,
            is_member,
            touched: AtomicBool::new(false),
            copy: AtomicPtr::new(ptr::null_mut()),
        };
        Ok(Counted::try_new(block).map_err(|(error, _)| error)?)
    }

    pub(crate) fn raw_len(&self) -> usize {
        self.raw_len as usize
    }

    pub(crate) fn stored_bytes(&self) -> u64 {
        Piece::footprint(self.piece.len())
    }

    /// What is kept.
    pub(crate) fn at_rest(&self) -> AtRest<'_> {
        match self.is_member {
            true => AtRest::Member(self.piece.as_slice()),
            false => AtRest::Plain(self.piece.as_slice()),
        }
    }

    /// Fills `room`, of exactly `raw_len` bytes, without touching the cache.
    pub(crate) fn inflate(&self, room: &mut [core::mem::MaybeUninit<u8>]) -> Result<()> {
        debug_assert_eq!(room.len(), self.raw_len());
        if !self.is_member {
            room.write_copy_of_slice(self.piece.as_slice());
            return Ok(());
        }
        let counters = &self.space.counters;
        counters.blocks_inflated.fetch_add(1, Ordering::Relaxed);
        codec::unpack(self.piece.as_slice(), room).inspect_err(|_| {
            counters.errors.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn read(&self, from: usize, n: usize, sink: &mut Sink<'_>) -> Result<()> {
        let data = n.min(self.raw_len().saturating_sub(from));
        if data > 0 {
            self.read_data(from, data, sink)?;
        }
        sink.put_zeros(n - data);
        Ok(())
    }

    fn read_data(&self, from: usize, n: usize, sink: &mut Sink<'_>) -> Result<()> {
        if !self.is_member {
            sink.put_slice(&self.piece.as_slice()[from..from + n]);
            return Ok(());
        }
        if self.with_copy(|bytes| sink.put_slice(&bytes[from..from + n])) {
            return Ok(());
        }
        if n < self.raw_len() {
            // A copy is worth its memory when more of the block is asked for: a read that starts with the
            // block is likely to go on, any other shows it by coming back.
            let comes_back = from == 0 || self.touched.swap(true, Ordering::Relaxed);
            if comes_back && let Some(copy) = self.space.cache.inflate(&self.space, self)? {
                sink.put_slice(&copy.bytes()[from..from + n]);
                return Ok(());
            }
        } else if let Some(room) = sink.contiguous(n) {
            self.inflate(room)?;
            sink.advance(n);
            return Ok(());
        }
        let mut scratch = Scratch::take()?;
        sink.put_slice(&self.inflate_into_scratch(&mut scratch)?[from..from + n]);
        Ok(())
    }

    /// Runs `use_bytes` on the inflated copy, if one is kept.
    #[inline]
    fn with_copy(&self, use_bytes: impl FnOnce(&[u8])) -> bool {
        if self.copy.load(Ordering::Relaxed).is_null() {
            return false;
        }
        let _pin = epoch::pin();
        // SAFETY: a copy that is taken off the block is dropped through the epoch collector, so what
        // was loaded under this pin stays until the pin is gone (B4).
        let Some(copy) = (unsafe { self.copy.load(Ordering::Acquire).as_ref() }) else { return false };
        copy.mark_used();
        use_bytes(copy.bytes());
        true
    }

    /// The block's bytes, from the kept copy where there is one.
    pub(crate) fn inflate_into_scratch<'a>(&self, scratch: &'a mut Scratch) -> Result<&'a [u8]> {
        let room = &mut scratch.plain()[..self.raw_len()];
        if !self.with_copy(|bytes| room.copy_from_slice(bytes)) {
            // SAFETY: initialised bytes may be looked at as possibly uninitialised ones as long as
            // nothing uninitialised is written, and inflating writes only values.
            self.inflate(unsafe { &mut *(ptr::from_mut(room) as *mut [core::mem::MaybeUninit<u8>]) })?;
        }
        Ok(room)
    }

    /// An inflated copy that the caller holds: the kept one, or one more.
    ///
    /// # Errors
    /// `EIO` when the member is corrupt; `ENOSPC`, `ENOMEM`.
    pub(super) fn held_copy(&self) -> Result<Counted<InflatedCopy>> {
        {
            let _pin = epoch::pin();
            if let Some(copy) = ptr::NonNull::new(self.copy.load(Ordering::Acquire)) {
                // SAFETY: under the pin the reference that the block held, or just gave up, is not dropped
                // yet (B4), so the copy has an owner during the call.
                return Ok(unsafe { Counted::share_raw(copy) });
            }
        }
        match self.space.cache.inflate(&self.space, self)? {
            Some(copy) => Ok(copy),
            None => InflatedCopy::of(&self.space, self, Purpose::Ordinary),
        }
    }
}

impl Drop for PackedBlock {
    fn drop(&mut self) {
        // Not `get_mut`: the clock may be taking the copy off at this moment. Acquire pairs with its
        // Release store of null, after which it does not touch the block any more.
        if !self.copy.load(Ordering::Acquire).is_null() {
            self.space.cache.forget(self);
        }
        self.space.release(Kind::Packed, self.stored_bytes());
        self.space.release(Kind::Metadata, Counted::<PackedBlock>::footprint());
    }
}
