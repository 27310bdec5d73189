//! What was taken out of a file and may still be looked at: blocks, nodes of the map, pages.
//!
//! Promises: dropping it frees what it was, and nothing that has another owner. Where readers take no lock it is dropped
//! through the collector, counted by bytes in its filesystem until then, and pushed towards being freed whenever a
//! thread has retired a stated number of bytes. Single pages that nobody looks at any more a thread keeps for its next
//! writes, as many as it retires together. Owns what it names.

use core::cell::{Cell, RefCell};
use core::mem::ManuallyDrop;

use ermfs_memory::sync::Arc;
use ermfs_memory::{Counted, Kind, PAGE_SIZE, Page, try_box};

use super::block::RawBlock;
use super::slot::Slot;
use crate::epoch;
use crate::gate;
use crate::space::Space;

/// How many bytes a thread retires before it hands them to all threads to be freed: what one that does nothing any more
/// keeps to itself stays below.
const PUSHED_AT: u64 = 64 << 10;

thread_local! {
    static UNPUSHED: Cell<u64> = const { Cell::new(0) };
    static MINE: Mine = const {
        Mine { replaced: RefCell::new(Pages::none()), spare: RefCell::new(None), replaces: Cell::new(false) }
    };
}

/// See the module's page.
pub(super) enum Garbage {
    /// A block, or a node with all that is below it. The bytes are those of the blocks.
    Tree { slot: Slot, bytes: u32 },
    /// The top node of a map, whose first slot has become the top: what that names is no part of this.
    Top(Slot),
    /// A raw block of which these pages, a bit for each, are its successor's now.
    Replaced { block: Counted<RawBlock>, passed_on: u16 },
}

const _: () = assert!(size_of::<Garbage>() <= 16, "the closure that drops it would be boxed");

impl Garbage {
    /// What a slot named, with blocks of so many bytes.
    pub(super) fn tree(slot: Slot, bytes: u64) -> Garbage {
        Garbage::Tree { slot, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) }
    }

    /// The same, of so many bytes.
    pub(super) fn with_bytes(self, bytes: u64) -> Garbage {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let mut garbage = self;
        if let Garbage::Tree { bytes: counted, .. } = &mut garbage {
            *counted = bytes;
        }
        garbage
    }

    /// What named a raw block that only the map held, and that passed these pages on.
    pub(super) fn replaced(old: Slot, passed_on: u16) -> Garbage {
        Garbage::Replaced { block: old.into_raw_block().expect("a raw block was replaced"), passed_on }
    }

    fn bytes(&self) -> u64 {
        match self {
            Garbage::Tree { bytes, .. } => u64::from(*bytes),
            Garbage::Top(_) => 0,
            Garbage::Replaced { block, passed_on } => {
                (block.page_count() - passed_on.count_ones() as usize) as u64 * PAGE_SIZE as u64
            }
        }
    }

    /// Drops it after every pin that there is now. `space` is the space of its file.
    pub(super) fn retire(self, space: &Arc<Space>) {
        if let Garbage::Tree { slot, .. } = &self
            && slot.is_empty()
        {
            return;
        }
        let bytes = self.bytes();
        space.note_retired(bytes);
        let retired = Retired { garbage: ManuallyDrop::new(self), space: Arc::clone(space) };
        let guard = epoch::pin();
        // Dropping it needs nothing of this thread.
        guard.defer(move || drop(retired));
        epoch::note_large(bytes);
        let unpushed = UNPUSHED.get() + bytes;
        UNPUSHED.set(if unpushed < PUSHED_AT { unpushed } else { 0 });
        if unpushed >= PUSHED_AT {
            guard.flush();
        }
    }
}

impl Drop for Garbage {
    fn drop(&mut self) {
        match self {
            Garbage::Tree { .. } => {}
            Garbage::Top(slot) => {
                if let Some(node) = slot.node_mut() {
                    node.forget_first();
                }
            }
            Garbage::Replaced { block, passed_on } => {
                // A block that is replaced so has one reference, and by now no reader is left.
                let block = block.get_mut().expect("nobody else has a block that was replaced");
                block.forget(*passed_on);
            }
        }
    }
}

/// Garbage on its way through the collector. Holds the space itself: the file it came from may be gone by then.
struct Retired {
    garbage: ManuallyDrop<Garbage>,
    space: Arc<Space>,
}

impl Drop for Retired {
    fn drop(&mut self) {
        let bytes = self.garbage.bytes();
        // SAFETY: `drop` runs once, and nothing uses the field after it.
        unsafe { ManuallyDrop::drop(&mut self.garbage) };
        // Afterwards: who needs room waits for as long as something is noted.
        self.space.note_freed(bytes);
    }
}

/// As many pages as a thread keeps to itself.
#[cfg(not(loom))]
const PAGES_AT: usize = PUSHED_AT as usize / PAGE_SIZE;
/// A model is to see each of them freed as soon as it may be.
#[cfg(loom)]
const PAGES_AT: usize = 1;

/// Pages of raw blocks that were replaced one by one: retired together, because each by itself would cost as much as the
/// write that replaced it. Dropping them frees them.
struct Pages {
    /// What the pages are charged to; `None` while there are none, and for spare ones, which are not.
    space: Option<Arc<Space>>,
    pages: [Option<Page>; PAGES_AT],
    len: usize,
}

impl Pages {
    const fn none() -> Pages {
        Pages { space: None, pages: [const { None }; PAGES_AT], len: 0 }
    }

    /// Whether a page of `space` may be added.
    #[inline]
    fn are_of(&self, space: &Arc<Space>) -> bool {
        self.space.as_ref().is_none_or(|mine| Arc::ptr_eq(mine, space))
    }

    /// Adds a page of `space`, as the others are; whether they are to be retired now. Nothing is returned by memory: a load of
    /// what was just stored in parts would wait until the bytes of the written page have left the store buffer.
    #[inline]
    fn add(&mut self, space: &Arc<Space>, page: Page) -> bool {
        debug_assert!(self.are_of(space));
        self.space.get_or_insert_with(|| Arc::clone(space));
        // There was none.
        core::mem::forget(self.pages[self.len].replace(page));
        self.len += 1;
        self.len == PAGES_AT
    }

    fn take(&mut self) -> Pages {
        core::mem::replace(self, Pages::none())
    }

    /// Lets them go after every pin that there is now.
    fn retire(self) {
        let Some(space) = &self.space else { return };
        let bytes = self.bytes();
        space.note_retired(bytes);
        let guard = epoch::pin();
        epoch::note_large(bytes);
        match try_box(self) {
            Ok(pages) => {
                // By whichever thread comes to it.
                guard.defer(move || pages.keep_or_drop());
            }
            // Without memory for all of them, one at a time, which takes none.
            Err((_, mut pages)) => {
                while let (Some(space), Some(page)) = (pages.space.clone(), pages.pop()) {
                    guard.defer(move || free(&space, [page]));
                }
            }
        }
        guard.flush();
    }

    fn bytes(&self) -> u64 {
        (self.len * PAGE_SIZE) as u64
    }

    #[inline]
    fn pop(&mut self) -> Option<Page> {
        self.len = self.len.checked_sub(1)?;
        self.pages[self.len].take()
    }

    /// When nobody looks at them any more: a thread that replaces pages, too, keeps them for its next writes, if it has none;
    /// else they go. Kept ones are no filesystem's: nobody else could come at them when it needs the room.
    fn keep_or_drop(mut self: Box<Self>) {
        let are_ours = self.pages.iter().flatten().all(Page::is_unique);
        // A model and a memory checker are to see each of them freed.
        let are_watched = cfg!(any(loom, feature = "check-memory"));
        if are_watched || !are_ours {
            return;
        }
        let given_up = MINE.try_with(|mine| {
            let mut spare = mine.spare.borrow_mut();
            if spare.is_some() || !mine.replaces.get() {
                return None;
            }
            let (space, bytes) = (self.space.take()?, self.bytes());
            *spare = Some(self);
            Some((space, bytes))
        });
        if let Ok(Some((space, bytes))) = given_up {
            space.release_retired(Kind::Raw, bytes);
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let Some(space) = self.space.take() {
            free(&space, self.pages.iter_mut().filter_map(Option::take));
        }
    }
}

/// Frees pages that were noted as retired.
fn free(space: &Space, pages: impl IntoIterator<Item = Page>) {
    let mut bytes = 0;
    let freed = Page::release_all(pages.into_iter().inspect(|_| bytes += PAGE_SIZE as u64));
    space.release(Kind::Raw, (freed * PAGE_SIZE) as u64);
    space.note_freed(bytes);
}

/// A thread's own pages, which go when it ends.
struct Mine {
    /// Retired when there are enough.
    replaced: RefCell<Pages>,
    /// For its next writes.
    spare: RefCell<Option<Box<Pages>>>,
    /// Whether it has replaced pages since it was last asked to let go of all.
    replaces: Cell<bool>,
}

impl Drop for Mine {
    fn drop(&mut self) {
        let _inside = gate::enter();
        self.replaced.get_mut().take().retire();
        drop(self.spare.take());
    }
}

/// Retires a page that a cell named, which its block's map holds alone.
#[inline]
pub(super) fn retire_page(space: &Arc<Space>, page: Page) {
    let mut page = Some(page);
    let full = MINE.try_with(|mine| {
        mine.replaces.set(true);
        if !mine.replaced.borrow().are_of(space) {
            push();
        }
        page.take().is_some_and(|page| mine.replaced.borrow_mut().add(space, page))
    });
    // Others may need what is kept, and cannot come at it here, when there is little room.
    if full == Ok(true) || space.budget().is_tight() {
        push();
    }
    // A thread that is too far in its end keeps none.
    if let Some(page) = page {
        let mut one = Pages::none();
        one.add(space, page);
        one.retire();
    }
}

/// A page of those that this thread keeps for its writes, charged to nobody. Its bytes are unspecified.
#[inline]
pub(super) fn spare_page() -> Option<Page> {
    let page = MINE.try_with(|mine| {
        let mut spare = mine.spare.borrow_mut();
        let pages = spare.as_mut()?;
        let page = pages.pop();
        if pages.len == 0 {
            // At once, so that there is room for the next ones, which come when as many were written.
            *spare = None;
        }
        page
    });
    page.ok().flatten()
}

/// Frees what this thread has retired or keeps to itself, as far as pins allow.
pub(crate) fn settle() {
    push();
    epoch::flush();
    // Also what was freed just now and kept.
    let spare = MINE.try_with(|mine| {
        mine.replaces.set(false);
        mine.spare.borrow_mut().take()
    });
    drop(spare);
}

/// Retires what this thread keeps to itself.
#[cold]
pub(crate) fn push() {
    let mine = MINE.try_with(|mine| mine.replaced.borrow_mut().take());
    if let Ok(mine) = mine {
        mine.retire();
    }
}
