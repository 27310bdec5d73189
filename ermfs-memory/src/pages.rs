//! 4 KiB pages with a reference count each, process-wide.
//!
//! Promises: a page belongs to whoever holds a [`Page`] of it and goes back to the free pages with the last one; its
//! number fits 32 bits, so a map of pages is a map of `u32`s. Owns the process's arenas and the lock around them. Never
//! looks at or clears a page's bytes: those of a new page are what its last owner left there.
//!
//! The counts of all pages lie in one array beside the arenas, which grows and never moves. Sharing a page and letting
//! go of a reference that is not the last touch the count and no lock.
//!
//! Order, as in `Arc`: letting go is a Release decrement, and whoever finds himself alone does so with an Acquire load,
//! or with the decrement and an Acquire load after it, so all earlier owners' accesses to the page happen before its reuse.

use crate::arena::{ARENA_SIZE, Arenas, BLOCK_PAGES, PAGE_SHIFT, Surplus};
use crate::poison::{self, Quarantine};
use crate::sync::atomic::{
    AtomicPtr, AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};
use crate::sync::{Mutex, MutexGuard};
use crate::{AllocError, ProcessMemory, inject, reserve};
use core::mem::ManuallyDrop;
use core::num::NonZeroU32;
use core::ptr::NonNull;

/// Bytes of a page, the unit of copy-on-write.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;
/// Bytes of a block, the unit of compression.
pub const BLOCK_SIZE: usize = PAGE_SIZE * PAGES_PER_BLOCK;
/// Pages of a block.
pub const PAGES_PER_BLOCK: usize = BLOCK_PAGES;

/// How much address space to reserve if the system lets us: more than a machine has memory, little of what it can
/// address.
const ADDRESS_SPACE: usize = 1 << 40;

type ProcessArenas = Arenas<{ ADDRESS_SPACE / ARENA_SIZE }>;

static ARENAS: Mutex<ProcessArenas> = Mutex::new(ProcessArenas::new());

/// Pages of one block each, as the number of its first page and a bit for each.
static FREED: Quarantine<(u32, u16)> = Quarantine::new();

/// Where page 0 would lie, and where the counts lie. Written once, under the lock, before the first page is handed out.
/// Relaxed loads suffice: whoever holds a page got it from a thread that had the lock after that.
static BASE: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());
static COUNTS: AtomicPtr<AtomicU32> = AtomicPtr::new(core::ptr::null_mut());

/// One reference of a 4 KiB page. 4 bytes, and `Option<Page>` is no larger.
///
/// Dropping it lets go of the reference. May be sent to and shared between threads; who may touch the page's bytes when
/// is the business of those who hold references of it.
#[derive(Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Page(NonZeroU32);

impl Page {
    /// A page of the caller's own. Its bytes are unspecified: zeroes or what the last owner left.
    ///
    /// # Errors
    /// [`AllocError::Memory`] when the kernel gives no more memory or address space.
    #[cfg_attr(feature = "injector", track_caller)]
    pub fn alloc() -> Result<Page, AllocError> {
        inject::allocation("page")?;
        let number = arenas()?.take_page()?;
        Ok(Page::first_reference(number))
    }

    /// 16 pages of the caller's own that follow each other in memory, the first at a multiple of 64 KiB. Each is then
    /// an independent page. Their bytes are unspecified.
    ///
    /// # Errors
    /// [`AllocError::Memory`], as [`Page::alloc`].
    #[cfg_attr(feature = "injector", track_caller)]
    pub fn alloc_block() -> Result<[Page; PAGES_PER_BLOCK], AllocError> {
        inject::allocation("page.block")?;
        let first = arenas()?.take_block()?;
        Ok(core::array::from_fn(|i| Page::first_reference(first + i as u32)))
    }

    /// Gives up this reference without letting go of it: [`Page::from_raw`] takes it back. Different for pages that are
    /// there at the same time.
    pub fn into_raw(self) -> NonZeroU32 {
        ManuallyDrop::new(self).0
    }

    /// Takes back the reference that a call of [`Page::into_raw`] left behind.
    ///
    /// # Safety
    /// `raw` must have come from `into_raw`, and each such reference may be taken back once.
    pub unsafe fn from_raw(raw: NonZeroU32) -> Page {
        Page(raw)
    }

    /// The page's 4096 bytes, at a multiple of 4096. Valid while somebody holds a reference of the page.
    pub fn as_ptr(&self) -> *mut u8 {
        // SAFETY: a page's number is below the number of reserved pages, so this stays inside the reservation.
        unsafe { BASE.load(Relaxed).add((self.0.get() as usize) << PAGE_SHIFT) }
    }

    /// One more reference of the same page. Takes no lock.
    pub fn share(&self) -> Page {
        // Relaxed: a new reference is made from one that is held.
        let before = self.count().fetch_add(1, Relaxed);
        debug_assert!(before > 0 && before < u32::MAX, "count {before} of a shared page");
        Page(self.0)
    }

    /// Whether this is the only reference. While the caller alone can reach this `Page`, nobody can change a `true`
    /// answer.
    pub fn is_unique(&self) -> bool {
        self.count().load(Acquire) == 1
    }

    /// Whether `next`'s bytes begin where this page's end.
    pub fn is_followed_by(&self, next: &Page) -> bool {
        next.0.get() == self.0.get() + 1
    }

    /// Lets go of the reference; `true` when it was the last and the page is free again. Takes no lock when it is not.
    pub fn release(self) -> bool {
        let page = ManuallyDrop::new(self);
        let last = page.let_go();
        if last {
            page.give_back();
        }
        last
    }

    /// Lets go of many references and answers how many pages that made free. Takes the lock once for successive pages
    /// of one block, where [`Page::release`] and dropping take it for each page: for a whole block a fifth of the time.
    pub fn release_all(pages: impl IntoIterator<Item = Page>) -> usize {
        let mut freed = 0;
        let mut run = Run { first: 0, mask: 0 };
        for page in pages {
            let page = ManuallyDrop::new(page);
            if page.let_go() {
                run.add(page.0.get());
                freed += 1;
            }
        }
        freed
    }

    fn first_reference(number: u32) -> Page {
        let page = Page(NonZeroU32::new(number).expect("page 0 lies in the unused arena"));
        debug_assert_eq!(page.count().load(Relaxed), 0, "page {number} was handed out twice");
        page.count().store(1, Relaxed);
        // SAFETY: the page's bytes, which become its owner's here.
        unsafe { poison::hand_out(page.as_ptr(), PAGE_SIZE) };
        page
    }

    fn count(&self) -> &AtomicU32 {
        // SAFETY: a page's count is an element of the counts' table that was made accessible before the page was
        // carved. The table never moves or shrinks, and is accessed as nothing but atomics.
        unsafe { &*COUNTS.load(Relaxed).add(self.0.get() as usize) }
    }

    /// Gives up the reference in the count only; `true` when the caller must now free the page.
    fn let_go(&self) -> bool {
        let count = self.count();
        // Alone there is nobody to race with: a plain store is as good as the decrement, and half its price.
        if count.load(Acquire) == 1 {
            count.store(0, Relaxed);
            return true;
        }
        let before = count.fetch_sub(1, Release);
        debug_assert!(before > 0, "a page was let go more often than it was shared");
        if before != 1 {
            return false;
        }
        // As in `Counted`: a load, because ThreadSanitizer sees no fences.
        count.load(Acquire);
        true
    }

    /// Puts the page, whose count is 0, back among the free ones.
    fn give_back(&self) {
        let number = self.0.get();
        put_pages(number - number % BLOCK_PAGES as u32, 1 << (number % BLOCK_PAGES as u32));
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if self.let_go() {
            self.give_back();
        }
    }
}

/// Pages of one block that are to be put back together; dropping it does that.
struct Run {
    first: u32,
    mask: u16,
}

impl Run {
    fn add(&mut self, number: u32) {
        let first = number - number % BLOCK_PAGES as u32;
        if first != self.first {
            self.put_back();
            self.first = first;
        }
        self.mask |= 1 << (number - first);
    }

    fn put_back(&mut self) {
        if self.mask != 0 {
            put_pages(self.first, core::mem::take(&mut self.mask));
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.put_back();
    }
}

/// All of a 2 MiB arena, at a multiple of 2 MiB, for an allocator that cuts it up itself.
pub(crate) fn alloc_arena() -> Result<NonNull<u8>, AllocError> {
    inject::allocation("arena")?;
    let first = arenas()?.take_arena()?;
    // SAFETY: the arena lies inside the reservation.
    NonNull::new(unsafe { BASE.load(Relaxed).add((first as usize) << PAGE_SHIFT) }).ok_or(AllocError::Memory)
}

/// Puts back what [`alloc_arena`] gave.
///
/// # Safety
/// `start` must have come from `alloc_arena`, and nobody may use the arena any more.
pub(crate) unsafe fn free_arena(start: NonNull<u8>) {
    let first = (start.addr().get() - BASE.load(Relaxed).addr()) >> PAGE_SHIFT;
    let surplus = ARENAS.lock().put_arena(first as u32);
    give_to_kernel(surplus);
}

/// The page layer's part of [`crate::process_memory`].
pub(crate) fn describe(memory: &mut ProcessMemory) {
    crate::heap::free_kept();
    free_kept();
    let usage = ARENAS.lock().usage();
    memory.reserved = usage.reserved as u64;
    memory.mapped = usage.mapped as u64;
    memory.warm = usage.warm as u64;
    memory.cold = usage.cold as u64;
    memory.pages_in_use = usage.pages_in_use as u64;
    memory.pieces_mapped = usage.taken_whole as u64;
    memory.tables = usage.tables as u64;
}

/// Frees what is kept out of use, so that figures are of what there would be without.
fn free_kept() {
    while let Some((first, mask)) = FREED.take() {
        free_pages(first, mask);
    }
}

/// The arenas, locked, with their address range reserved and known.
fn arenas() -> Result<MutexGuard<'static, ProcessArenas>, AllocError> {
    let mut arenas = ARENAS.lock();
    if BASE.load(Relaxed).is_null() {
        publish(&mut arenas)?;
    }
    Ok(arenas)
}

#[cold]
fn publish(arenas: &mut ProcessArenas) -> Result<(), AllocError> {
    let (base, counts) = arenas.prepare()?;
    COUNTS.store(counts.as_ptr(), Relaxed);
    BASE.store(base.as_ptr(), Relaxed);
    Ok(())
}

/// Takes back pages that nobody has a reference of, for now or, where they are kept out of use for a while, for later.
fn put_pages(first: u32, mask: u16) {
    for page in (0..BLOCK_PAGES as u32).filter(|page| mask & (1 << page) != 0) {
        // SAFETY: the page lies inside the reservation, and its last reference is gone.
        unsafe {
            let start = BASE.load(Relaxed).add(((first + page) as usize) << PAGE_SHIFT);
            poison::close(start, PAGE_SIZE);
        }
    }
    if let Some((first, mask)) = FREED.keep((first, mask)) {
        free_pages(first, mask);
    }
}

fn free_pages(first: u32, mask: u16) {
    let surplus = ARENAS.lock().put_pages(first, mask);
    give_to_kernel(surplus);
}

/// Gives a surplus arena's memory back without holding the lock for the system call's time.
fn give_to_kernel(surplus: Option<Surplus>) {
    let Some(surplus) = surplus else { return };
    // SAFETY: the arena lies inside the reservation, it is committed, wholly free and on no shelf: nobody uses it and
    // nobody can be given a part of it until `shelve_cold`.
    unsafe {
        let start = NonNull::new_unchecked(BASE.load(Relaxed).add(surplus.offset()));
        reserve::discard(start, ARENA_SIZE);
    }
    ARENAS.lock().shelve_cold(surplus);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(page: &Page, byte: u8) {
        // SAFETY: the caller holds the page and no other thread touches it.
        unsafe { page.as_ptr().write_bytes(byte, PAGE_SIZE) };
    }

    fn holds(page: &Page, byte: u8) -> bool {
        // SAFETY: the caller holds the page, which `fill` wrote, and nobody writes it now.
        unsafe { core::slice::from_raw_parts(page.as_ptr(), PAGE_SIZE) }.iter().all(|&b| b == byte)
    }

    #[test]
    fn a_reference_is_four_bytes() {
        assert_eq!((size_of::<Page>(), size_of::<Option<Page>>()), (4, 4));
    }

    #[test]
    fn the_last_reference_frees_the_page() {
        let page = Page::alloc().unwrap();
        assert!(page.is_unique() && page.as_ptr().addr().is_multiple_of(PAGE_SIZE));
        fill(&page, 1);
        let other = page.share();
        assert!(page == other && !page.is_unique() && !other.is_unique());
        assert!(!page.release());
        assert!(other.is_unique() && holds(&other, 1));
        assert!(other.release());
    }

    #[test]
    fn a_block_is_contiguous_aligned_and_made_of_pages() {
        let mut block = Page::alloc_block().unwrap();
        assert!(block[0].as_ptr().addr().is_multiple_of(BLOCK_SIZE));
        for i in 1..PAGES_PER_BLOCK {
            assert!(block[i - 1].is_followed_by(&block[i]) && !block[i].is_followed_by(&block[i - 1]));
            assert_eq!(block[i].as_ptr().addr() - block[0].as_ptr().addr(), i * PAGE_SIZE);
        }
        assert!(!block[0].is_followed_by(&block[0]) && !block[0].is_followed_by(&block[2]));
        for (i, page) in block.iter().enumerate() {
            fill(page, i as u8);
        }
        block[7] = Page::alloc().unwrap();
        fill(&block[7], 7);
        assert!(block.iter().enumerate().all(|(i, page)| holds(page, i as u8)));
        let kept = block[3].share();
        assert_eq!(Page::release_all(block), 15);
        assert!(kept.is_unique() && holds(&kept, 3));
    }

    #[test]
    fn releasing_many_counts_what_became_free() {
        assert_eq!(Page::release_all([]), 0);
        let pages: Vec<Page> = (0..100).map(|_| Page::alloc().unwrap()).collect();
        let again: Vec<Page> = pages.iter().step_by(3).map(Page::share).collect();
        assert_eq!(Page::release_all(pages), 100 - again.len());
        assert_eq!(Page::release_all(again), 34);
    }

    #[test]
    fn pages_cross_threads_with_their_contents() {
        let (to_other, from_here) = std::sync::mpsc::channel::<(Page, u8)>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for (page, byte) in from_here {
                    assert!(holds(&page, byte));
                }
            });
            for i in 0..5000u32 {
                let page = Page::alloc().unwrap();
                fill(&page, i as u8);
                let copy = page.share();
                to_other.send((page, i as u8)).unwrap();
                assert!(holds(&copy, i as u8));
            }
            drop(to_other);
        });
    }

    #[test]
    fn threads_never_get_the_same_page() {
        std::thread::scope(|scope| {
            for thread in 0..4u8 {
                scope.spawn(move || {
                    for _ in 0..50 {
                        let mut held: Vec<Page> = (0..40).map(|_| Page::alloc().unwrap()).collect();
                        held.extend(Page::alloc_block().unwrap());
                        held.iter().for_each(|page| fill(page, thread));
                        assert!(held.iter().all(|page| holds(page, thread)));
                        if thread % 2 == 0 {
                            assert_eq!(Page::release_all(held), 56);
                        }
                    }
                });
            }
        });
    }
}
