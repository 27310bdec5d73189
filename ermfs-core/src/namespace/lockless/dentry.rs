//! A dentry: a name and the word that says what it stands for, in one allocation.
//!
//! Promises: name, hash and cookie never change; the word is changed by the holder of the directory's
//! lock only. Owns its memory and the charge of it. Knows no tables.

use core::alloc::Layout;
use core::marker::PhantomData;
use core::mem::offset_of;
use core::ptr::{self, NonNull};
use core::slice;

use ermfs_memory::sync::Arc;
use ermfs_memory::{Allocator, Kind, Nodes};

use crate::epoch::{self, Guard};
use crate::errno::{Errno, Result};
use crate::inject::allocation;
use crate::namespace::entries::Room;
use crate::namespace::inode::Inode;
use crate::namespace::malloc_footprint;
use crate::namespace::name::Name;
use crate::space::Space;
use crate::sync::atomic::{
    AtomicPtr,
    Ordering::{Acquire, Relaxed, Release},
};

/// In a word: a rename of the name is under way, and the directory's record says what came of it.
const PENDING: usize = 1;

/// The address of a dentry is a multiple of this: what every allocator gives, and some bits for a table to use.
pub(super) const ALIGN: usize = 16;

/// What stands before the name.
#[repr(C)]
pub(super) struct Header {
    word: AtomicPtr<Inode>,
    cookie: u64,
    hash: u32,
    len: u8,
    /// `len` bytes from here on.
    name: [u8; 0],
}

#[cfg(not(loom))]
const _: () = assert!(offset_of!(Header, name) == 21, "the dentry has grown");

/// What a dentry's word says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(*mut Inode);

impl Word {
    pub(super) const ABSENT: Word = Word(ptr::null_mut());

    pub(super) fn of(inode: NonNull<Inode>) -> Word {
        Word(inode.as_ptr())
    }

    pub(super) fn pending(self) -> Word {
        Word(self.0.map_addr(|address| address | PENDING))
    }

    #[inline]
    pub(super) fn is_pending(self) -> bool {
        self.0.addr() & PENDING != 0
    }

    /// The inode, whether or not PENDING is there.
    #[inline]
    pub(super) fn inode(self) -> Option<NonNull<Inode>> {
        NonNull::new(self.0.map_addr(|address| address & !PENDING))
    }
}

/// A dentry that is good for `'a`: a pin, or the time that the directory's lock is held.
#[derive(Clone, Copy)]
pub(super) struct Dentry<'a> {
    at: NonNull<Header>,
    good: PhantomData<&'a Header>,
}

impl PartialEq for Dentry<'_> {
    /// Whether both are the same dentry.
    fn eq(&self, other: &Dentry<'_>) -> bool {
        self.at == other.at
    }
}

fn layout(len: usize) -> Layout {
    let size = size_of::<Header>().max(offset_of!(Header, name) + len);
    Layout::from_size_align(size, ALIGN).expect("a name is short")
}

fn footprint(len: usize) -> u64 {
    malloc_footprint(layout(len).size())
}

/// Asks for the inode of a dentry that is about to be looked at, so that the two come to the cache at a time. It is guessed: an
/// inode is made right before its first dentry, and where memory was fresh, as when a tree is filled, lies right before it.
/// Elsewhere something is fetched that nobody needs.
#[inline]
pub(super) fn prefetch_inode(dentry: NonNull<Header>) {
    const BEFORE: usize = malloc_footprint(size_of::<Inode>()) as usize;
    Inode::prefetch(dentry.as_ptr().cast_const().cast::<u8>().wrapping_sub(BEFORE).cast());
}

/// A dentry that nobody else can see.
pub(super) struct Prepared(NonNull<Header>);

impl Prepared {
    /// A dentry for `name`, which stands for nothing.
    pub(super) fn new(name: Name<'_>, cookie: u64, room: &Room<'_>) -> Result<Prepared> {
        let len = name.bytes.len();
        let charge = room.charge(footprint(len))?;
        allocation!("lockless.names.dentry")?;
        let at = Nodes.allocate(layout(len)).map_err(|_| Errno::ENOMEM)?.cast::<Header>();
        let word = AtomicPtr::new(ptr::null_mut());
        let header = Header { word, cookie, hash: name.hash, len: len as u8, name: [] };
        // SAFETY: fresh memory of `layout(len)`, which has room for the header and, from the offset of `name`, for `len` bytes.
        unsafe {
            at.write(header);
            let stored = (&raw mut (*at.as_ptr()).name).cast::<u8>();
            stored.copy_from_nonoverlapping(name.bytes.as_ptr(), len);
        }
        charge.keep();
        Ok(Prepared(at))
    }

    /// Frees it again.
    pub(super) fn discard(self, space: &Space) {
        // SAFETY: nobody else has seen it.
        space.release(Kind::Metadata, unsafe { Dentry::from_raw(self.0).free() });
    }

    /// The dentry, to be shown to others: from now on the directory owns it.
    pub(super) fn publish<'a>(self, word: Word) -> Dentry<'a> {
        // SAFETY: it is freed by who takes it out of the directory, no sooner.
        let dentry = unsafe { Dentry::from_raw(self.0) };
        dentry.set(word);
        dentry
    }
}

impl<'a> Dentry<'a> {
    /// # Safety
    /// It was published, and is not freed before `'a` ends: it was found in a directory under a pin or lock that `'a` is the
    /// time of.
    #[inline]
    pub(super) unsafe fn from_raw(at: NonNull<Header>) -> Dentry<'a> {
        Dentry { at, good: PhantomData }
    }

    pub(super) fn as_ptr(self) -> *mut Header {
        self.at.as_ptr()
    }

    #[inline]
    fn header(self) -> &'a Header {
        epoch::note_look(self.at);
        // SAFETY: good for `'a` by the contract of `from_raw`, and only the word changes, which is atomic.
        unsafe { self.at.as_ref() }
    }

    #[inline]
    pub(super) fn hash(self) -> u32 {
        self.header().hash
    }

    pub(super) fn cookie(self) -> u64 {
        self.header().cookie
    }

    #[inline]
    pub(super) fn name(self) -> &'a [u8] {
        let len = usize::from(self.header().len);
        // SAFETY: good for `'a`; `Prepared::new` wrote `len` bytes there. The pointer is the allocation's, not the header's.
        unsafe { slice::from_raw_parts((&raw const (*self.at.as_ptr()).name).cast(), len) }
    }

    /// What it stands for; pairs with `set`.
    #[inline]
    pub(super) fn word(self) -> Word {
        Word(self.header().word.load(Acquire))
    }

    /// The inode, for who holds the lock: no rename is under way.
    pub(super) fn inode(self) -> Option<NonNull<Inode>> {
        let word = Word(self.header().word.load(Relaxed));
        debug_assert!(!word.is_pending(), "a rename ends before its locks are let go");
        word.inode()
    }

    /// By the holder of the lock: whoever sees it, sees all that was done before.
    pub(super) fn set(self, word: Word) {
        self.header().word.store(word.0, Release);
    }

    /// Frees it when no pin can see it.
    ///
    /// # Safety
    /// It stands for nothing, and no new look-up can come to it. Called once.
    pub(super) unsafe fn retire(self, guard: &Guard, space: &Arc<Space>) {
        let bytes = footprint(usize::from(self.header().len));
        // SAFETY: by this function's contract. The closure runs when nobody sees it.
        unsafe { super::retire(self.at, bytes, space, guard, |at| Dentry::from_raw(at).free()) };
    }

    /// Frees it; what is to be released.
    ///
    /// # Safety
    /// Nobody sees it any more.
    pub(super) unsafe fn free(self) -> u64 {
        // SAFETY: by this function's contract; made by `Prepared::new` with this layout, freed once.
        unsafe {
            let len = usize::from(self.at.as_ref().len);
            self.at.drop_in_place();
            Nodes.deallocate(self.at.cast(), layout(len));
            footprint(len)
        }
    }
}
