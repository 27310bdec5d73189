//! Inodes: what they hold, who keeps them, and how they go.
//!
//! Promises: an inode lives while it has a name or a counted reference ([`InodeRef`]). When the
//! last of both goes, its content is freed at once and its shell once no pinned thread can be
//! looking at it. Whoever reached an inode without a reference holds a [`Reached`], which is good
//! for as long as the pin. Owns the shells and their charge. Never: a lock, except of the directory
//! that is being freed.
//!
//! A directory keeps a counted reference of its parent (the root does not: its parent is itself),
//! so that `..` works in one that was removed. It is given up when the directory is freed, and
//! exchanged when the directory moves.

use core::fmt;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, offset_of};
use core::ops::Deref;
use core::ptr::NonNull;

use ermfs_memory::sync::atomic::{
    AtomicI64, AtomicPtr, AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use ermfs_memory::{Counted, NodeBox, Nodes, prefetch, try_node};

use super::counts::Counts;
use super::directory::Directory;
use super::entries::{Entries, Room};
use super::malloc_footprint;
use super::metadata::{ChangeTime, InodeKind};
use crate::content::Content;
use crate::epoch::{self, Guard};
use crate::errno::{Errno, Result};
use crate::failpoint::failpoint;
use crate::fs::{Mode, Shared};
use crate::space::Space;
use crate::time;

/// An `O_TMPFILE` inode that may still be given its first name.
pub(super) const LINKABLE: u32 = 1;
/// A [`Queued`] of the inode is alive.
const QUEUED: u32 = 2;
/// The inode was freed but for its shell. Set once, by `free`, which leaves the shell to the `Queued` if it finds `QUEUED`.
const GONE: u32 = 4;
/// The inode has extended attributes. Changes under their lock.
pub(super) const ATTRIBUTES: u32 = 8;
/// The inode has advisory locks. Changes under their mutex.
pub(super) const LOCKS: u32 = 16;

/// A file, directory, symbolic link or special node: identity, metadata, content. All methods may be called from any thread.
///
/// Every open and close writes to the counts, so they lie behind what is seldom looked at (the end of [`Content`]), a cache
/// line from what each open and read looks at: these do not wait for other threads' opens of the file.
#[repr(C)]
pub struct Inode {
    pub(super) ctime: ChangeTime,
    pub(super) mtime: AtomicI64,
    pub(super) atime: AtomicI64,
    pub(super) mode: AtomicU32,
    pub(super) uid: AtomicU32,
    pub(super) gid: AtomicU32,
    pub(super) flags: AtomicU32,
    pub(super) shared: Counted<Shared>,
    pub(super) body: Body,
    pub(super) counts: Counts,
    pub(super) ino: u64,
    pub(super) btime: i64,
}

/// What an inode is besides its metadata.
pub(super) enum Body {
    File(Content),
    Directory(DirectoryBody),
    Symlink(Box<[u8]>),
    Special(Special),
}

/// A fifo, socket or device: a name and a number, with nothing of ERMFS's behind it.
#[derive(Clone, Copy)]
pub(super) struct Special {
    pub(super) kind: InodeKind,
    /// `st_rdev` of a device, else 0.
    pub(super) rdev: u64,
}

/// A directory's entries and its place in the tree.
pub(super) struct DirectoryBody {
    pub(super) entries: Directory,
    /// The parent, of which a counted reference is held. Changes only under the topology lock held exclusively.
    parent: AtomicPtr<Inode>,
    pub(super) subdirectories: AtomicU32,
    /// Hash of the name in the parent, so that `path_of` finds the entry. Changes under the parent's lock.
    pub(super) name_hash: AtomicU32,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Inode>() <= 184, "the inode has grown");
#[cfg(not(loom))]
const _: () = assert!(
    // The body's tag comes before the content.
    offset_of!(Inode, counts)
        >= offset_of!(Inode, body) + size_of::<Body>() - size_of::<Content>() + Content::LOOKED_AT + 64,
    "opens are counted in a line that reads look at"
);

/// What an inode's shell takes.
const SHELL: u64 = malloc_footprint(size_of::<Inode>());

impl Body {
    fn footprint(&self) -> u64 {
        match self {
            Body::Symlink(target) => SHELL + malloc_footprint(target.len()),
            Body::File(_) | Body::Directory(_) | Body::Special(_) => SHELL,
        }
    }
}

/// What a new inode starts with.
pub(super) struct Seed {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) flags: u32,
}

impl Inode {
    /// A new inode without a name, in the state of being open once. `body` is made only when there is room, and takes
    /// `extra` bytes of memory of its own. Directories are made by [`InodeRef::make_directory`].
    pub(super) fn create(
        shared: &Counted<Shared>,
        room: &Room<'_>,
        seed: Seed,
        body: impl FnOnce() -> Result<Body>,
        extra: usize,
    ) -> Result<InodeRef> {
        let bytes = SHELL + if extra > 0 { malloc_footprint(extra) } else { 0 };
        let charge = room.charge(bytes)?;
        let body = body()?;
        debug_assert_eq!(body.footprint(), bytes);
        let now = time::coarse();
        let inode = Inode {
            counts: Counts::new(),
            ino: shared.next_ino(),
            mode: AtomicU32::new(seed.mode),
            uid: AtomicU32::new(seed.uid),
            gid: AtomicU32::new(seed.gid),
            flags: AtomicU32::new(seed.flags),
            ctime: ChangeTime::new(now),
            mtime: AtomicI64::new(now),
            atime: AtomicI64::new(now),
            btime: now,
            shared: shared.clone(),
            body,
        };
        let shell = try_node(inode).map_err(|(error, _)| error)?;
        charge.keep();
        shared.count_of(shell.kind()).fetch_add(1, Relaxed);
        Ok(InodeRef { inode: NonNull::from(NodeBox::leak(shell)) })
    }

    /// Asks for what is looked at of an inode, whether or not there is one at this address. Not for the counts: a copy of their line
    /// would only have to be called in again by the next thread that opens or closes the file.
    #[inline]
    pub(super) fn prefetch(inode: *const Inode) {
        prefetch(inode, offset_of!(Inode, counts));
    }

    /// The number that `st_ino` shows: unique in the filesystem, never used again. The root's is 1.
    pub fn ino(&self) -> u64 {
        self.ino
    }

    /// What kind of inode this is; never changes.
    #[inline]
    pub fn kind(&self) -> InodeKind {
        match self.body {
            Body::File(_) => InodeKind::File,
            Body::Directory(_) => InodeKind::Directory,
            Body::Symlink(_) => InodeKind::Symlink,
            Body::Special(special) => special.kind,
        }
    }

    /// The resources of the filesystem it lies in.
    #[inline]
    pub(crate) fn space(&self) -> &Space {
        self.shared.space()
    }

    /// A regular file's bytes.
    #[inline]
    pub fn content(&self) -> Option<&Content> {
        match &self.body {
            Body::File(content) => Some(content),
            _ => None,
        }
    }

    /// Where a symbolic link points.
    #[inline]
    pub fn symlink_target(&self) -> Option<&[u8]> {
        match &self.body {
            Body::Symlink(target) => Some(target),
            _ => None,
        }
    }

    /// Whether the inode has a name now. Once it has none, only an `O_TMPFILE` inode can get one.
    pub fn is_linked(&self) -> bool {
        self.counts.links() > 0
    }

    #[inline]
    pub(super) fn directory(&self) -> Option<&DirectoryBody> {
        match &self.body {
            Body::Directory(directory) => Some(directory),
            _ => None,
        }
    }
}

impl DirectoryBody {
    fn with_parent(parent: *mut Inode, mode: Mode) -> DirectoryBody {
        DirectoryBody {
            entries: Directory::new(mode),
            parent: AtomicPtr::new(parent),
            subdirectories: AtomicU32::new(0),
            name_hash: AtomicU32::new(0),
        }
    }

    /// The parent; for the root, itself.
    #[inline]
    pub(super) fn parent<'g>(&self, _guard: &'g Guard) -> Reached<'g> {
        let parent = NonNull::new(self.parent.load(Acquire));
        // `make_directory` and `make_root` set it, `move_below` replaces it, nothing clears it.
        let inode = parent.expect("a directory has a parent");
        // The caller reached this directory under the pin of `guard` or by a reference. Its count of the parent was
        // given up no earlier than during that pin, so the parent's shell outlives it.
        Reached { inode, pin: PhantomData }
    }

    /// Makes `parent`, which has a name, the parent. The topology lock is held exclusively. The result is the reference
    /// of the one it was before.
    pub(super) fn move_below(&self, parent: Reached<'_>) -> InodeRef {
        parent.counts.open_again();
        let old = self.parent.swap(parent.inode.as_ptr(), Release);
        InodeRef { inode: NonNull::new(old).expect("a directory has a parent") }
    }
}

/// A counted reference to an inode, which keeps it whether or not it has a name. One pointer wide. The last one of an
/// inode without a name frees its content when it is dropped.
pub struct InodeRef {
    inode: NonNull<Inode>,
}

// SAFETY: an inode's state is atomics, locks, and what never changes; the counts keep it alive on any thread, and whichever
// thread drops the last reference frees what is `Send`.
unsafe impl Send for InodeRef {}
// SAFETY: as above.
unsafe impl Sync for InodeRef {}

impl InodeRef {
    /// The inode as a walk sees it, without counting.
    #[inline]
    pub(super) fn reach(&self) -> Reached<'_> {
        Reached { inode: self.inode, pin: PhantomData }
    }

    /// A new, empty directory below `parent`, without a name yet.
    ///
    /// # Errors
    /// `ENOENT` when the parent is gone; `ENOSPC`, `ENOMEM`.
    pub(super) fn make_directory(
        shared: &Counted<Shared>,
        room: &Room<'_>,
        seed: Seed,
        parent: Reached<'_>,
    ) -> Result<InodeRef> {
        let held = parent.acquire().ok_or(Errno::ENOENT)?;
        let mode = shared.space().mode();
        let body = || Ok(Body::Directory(DirectoryBody::with_parent(held.inode.as_ptr(), mode)));
        let directory = Inode::create(shared, room, seed, body, 0)?;
        // The count is the directory's now, and given up in `free`.
        core::mem::forget(held);
        Ok(directory)
    }

    /// Drops the reference to a new inode that was never given a name: its memory is free again at once.
    pub(super) fn discard(self, guard: &Guard) {
        let unnamed = ManuallyDrop::new(self);
        if unnamed.counts.close() {
            // SAFETY: `close` answered that this was the last of links and opens, and only by a name could others have
            // reached it.
            unsafe { free(unnamed.inode, Onlookers::AboveIt(guard)) };
        }
    }

    /// A new filesystem's root, linked once and for all.
    pub(super) fn make_root(shared: &Counted<Shared>, room: &Room<'_>, seed: Seed) -> Result<InodeRef> {
        let mode = shared.space().mode();
        let body = || Ok(Body::Directory(DirectoryBody::with_parent(core::ptr::null_mut(), mode)));
        let root = Inode::create(shared, room, seed, body, 0)?;
        root.counts.link(true)?;
        let directory = root.directory().expect("the root is a directory");
        directory.parent.store(root.inode.as_ptr(), Release);
        Ok(root)
    }
}

/// A file that waits for the background packer. Keeps the shell but not the file: one that loses its last name and
/// reference meanwhile is freed at once, as if it did not wait. An inode has one of them at the most.
pub(crate) struct Queued {
    inode: NonNull<Inode>,
}

// SAFETY: as for `InodeRef`; what it frees is `Send`.
unsafe impl Send for Queued {}

impl InodeRef {
    /// The file as one that waits, or `None` when it does already; then whoever takes it from there sees what the caller
    /// did to it before.
    pub(crate) fn wait_in_queue(&self) -> Option<Queued> {
        let waits = self.flags.fetch_or(QUEUED, AcqRel) & QUEUED != 0;
        // Lazily: dropping one ends the waiting.
        (!waits).then(|| Queued { inode: self.inode })
    }
}

impl Queued {
    /// Ends the waiting: whoever changes the file from now on has it wait again. `None` when it is gone.
    pub(crate) fn take(self) -> Option<InodeRef> {
        // SAFETY: the shell stays until `self` is dropped, which is after this use.
        unsafe { Reached::new(self.inode) }.acquire()
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        let inode = self.inode;
        // SAFETY: `free` leaves the shell alone while `QUEUED` is set, and it is set until here.
        let flags = unsafe { inode.as_ref() }.flags.fetch_and(!QUEUED, AcqRel);
        if flags & GONE != 0 {
            // SAFETY: `free` has found `QUEUED` and left the shell to this value; threads with a pin may still look at it.
            unsafe { epoch::pin().defer_unchecked(move || free_shell(inode)) };
        }
    }
}

impl Clone for InodeRef {
    #[inline]
    fn clone(&self) -> InodeRef {
        self.counts.open_again();
        InodeRef { inode: self.inode }
    }
}

impl Deref for InodeRef {
    type Target = Inode;

    #[inline]
    fn deref(&self) -> &Inode {
        // SAFETY: this value stands for one open, and while there is one the inode is not freed.
        unsafe { self.inode.as_ref() }
    }
}

impl PartialEq for InodeRef {
    /// Whether both are the same inode.
    fn eq(&self, other: &InodeRef) -> bool {
        self.inode == other.inode
    }
}

impl Eq for InodeRef {}

impl fmt::Debug for InodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InodeRef").field("ino", &self.ino).field("kind", &self.kind()).finish()
    }
}

impl Drop for InodeRef {
    #[inline]
    fn drop(&mut self) {
        if self.counts.close() {
            let guard = epoch::pin();
            // SAFETY: `close` answered that this was the last of links and opens.
            unsafe { free(self.inode, Onlookers::Pinned(&guard)) };
        }
    }
}

/// An inode that was reached under a pin (or through a reference), not counted.
#[derive(Clone, Copy)]
pub(crate) struct Reached<'g> {
    inode: NonNull<Inode>,
    pin: PhantomData<&'g Inode>,
}

impl<'g> Reached<'g> {
    /// # Safety
    /// The inode was found under the pin or reference that `'g` is the life of, in a place that holds a count of it: so
    /// its shell is not freed before `'g` ends.
    pub(super) unsafe fn new(inode: NonNull<Inode>) -> Reached<'g> {
        Reached { inode, pin: PhantomData }
    }

    pub(super) fn as_ptr(self) -> NonNull<Inode> {
        self.inode
    }

    /// The inode, for as long as the pin.
    #[inline]
    pub(super) fn get(self) -> &'g Inode {
        // SAFETY: by the contract of `new`; the other constructors give their reason where they are.
        unsafe { self.inode.as_ref() }
    }

    pub(super) fn is_gone(self) -> bool {
        self.get().counts.is_gone()
    }

    pub(super) fn is(self, other: Reached<'_>) -> bool {
        self.inode == other.inode
    }

    /// A counted reference, or `None` when the inode was given up meanwhile: then look again.
    #[inline]
    pub(super) fn acquire(self) -> Option<InodeRef> {
        // Lazily: an `InodeRef` that was never counted must not be dropped.
        let acquired = self.counts.acquire().then(|| InodeRef { inode: self.inode });
        failpoint!("inode.acquired");
        acquired
    }

    /// One name less, whose entry is being removed. The result frees the inode if this was its last hold.
    #[must_use]
    pub(super) fn drop_link(self, guard: &'g Guard) -> Doomed<'g> {
        Doomed(self.counts.unlink().then_some((self.inode, guard)))
    }
}

impl Deref for Reached<'_> {
    type Target = Inode;

    #[inline]
    fn deref(&self) -> &Inode {
        self.get()
    }
}

/// An inode that has perhaps lost its last hold; freed when this is dropped, which is to be after the locks.
pub(super) struct Doomed<'g>(Option<(NonNull<Inode>, &'g Guard)>);

impl Drop for Doomed<'_> {
    fn drop(&mut self) {
        if let Some((inode, guard)) = self.0.take() {
            // SAFETY: `unlink` answered that this was the last of links and opens.
            unsafe { free(inode, Onlookers::Pinned(guard)) };
        }
    }
}

/// Who may still be looking at an inode that is being freed.
enum Onlookers<'g> {
    /// Threads with a pin.
    Pinned(&'g Guard),
    /// Nobody, for it never had a name; but threads with a pin may look at those above it.
    AboveIt(&'g Guard),
    /// Nobody at all: no thread is in a walk of this filesystem.
    Nobody,
}

/// Frees an inode: what it holds now, its shell when nobody can be looking. Goes on with the parents whose last hold this
/// was, in a loop, because removed directories can hang on one another in any number.
///
/// # Safety
/// The caller brought the counts to zero, and `onlookers` is true.
unsafe fn free(inode: NonNull<Inode>, mut onlookers: Onlookers<'_>) {
    let mut next = Some(inode);
    while let Some(inode) = next.take() {
        // SAFETY: the counts of `inode` are zero and only this call frees it.
        let it = unsafe { inode.as_ref() };
        failpoint!("inode.ended");
        match &it.body {
            Body::File(content) => content.clear(),
            Body::Symlink(_) | Body::Special(_) => {}
            Body::Directory(directory) => {
                let guard = match onlookers {
                    Onlookers::Pinned(guard) => Some(guard),
                    Onlookers::AboveIt(_) | Onlookers::Nobody => None,
                };
                directory.entries.clear(it.shared.space(), guard);
                let parent = directory.parent.load(Acquire);
                // The root's parent is itself, of which it holds no count.
                if let Some(parent) = NonNull::new(parent).filter(|parent| *parent != inode) {
                    let held = ManuallyDrop::new(InodeRef { inode: parent });
                    next = held.counts.close().then_some(parent);
                }
            }
        }
        if it.has_attributes() {
            it.shared.attributes().forget(it.ino, it.shared.space());
        }
        if it.has_locks() {
            it.shared.locks().forget(it.ino, it.shared.space());
        }
        it.shared.count_of(it.kind()).fetch_sub(1, Relaxed);
        let waits = it.flags.fetch_or(GONE, AcqRel) & QUEUED != 0;
        match onlookers {
            // The shell goes with the `Queued`, at any moment from here on.
            _ if waits => {}
            // SAFETY: the counts are zero, so no new `Reached` comes into being; those there are, were made under pins
            // that the collector waits for. The closure owns nothing that is not `Send`.
            Onlookers::Pinned(guard) => unsafe { guard.defer_unchecked(move || free_shell(inode)) },
            // SAFETY: by this function's contract.
            Onlookers::AboveIt(_) | Onlookers::Nobody => unsafe { free_shell(inode) },
        }
        if let Onlookers::AboveIt(guard) = onlookers {
            onlookers = Onlookers::Pinned(guard);
        }
    }
}

/// # Safety
/// Nobody can reach the inode any more; called once.
unsafe fn free_shell(inode: NonNull<Inode>) {
    // SAFETY: made by `NodeBox::leak` in `Inode::create`, and not freed before.
    let shell = unsafe { NodeBox::from_raw_in(inode.as_ptr(), Nodes) };
    let bytes = shell.body.footprint();
    let Inode { shared, body, .. } = NodeBox::into_inner(shell);
    drop(body);
    shared.space().release(ermfs_memory::Kind::Metadata, bytes);
}

/// Takes a whole tree apart without recursion or memory: down by taking entries out, up by the parent pointers.
///
/// # Safety
/// Nobody can walk the filesystem any more, and `root` is its root.
pub(super) unsafe fn dismantle(root: InodeRef) {
    let mut at = root.inode;
    loop {
        // SAFETY: `at` is the root, which the caller holds, or a directory that still has its link: it loses it below.
        let it = unsafe { at.as_ref() };
        let directory = it.directory().expect("only directories are gone into");
        let last_hold = match directory.entries.take_any(it.shared.space()) {
            // SAFETY: its entry's link is now ours.
            Some(child) if unsafe { child.as_ref() }.kind() == InodeKind::Directory => {
                at = child;
                continue;
            }
            Some(child) => child,
            None if at == root.inode => {
                directory.entries.clear(it.shared.space(), None);
                break;
            }
            None => {
                // It may be held, and stay, but its table has served.
                directory.entries.clear(it.shared.space(), None);
                let emptied = at;
                at = NonNull::new(directory.parent.load(Acquire)).expect("a directory has a parent");
                emptied
            }
        };
        // SAFETY: the link that the entry stood for is given up here, once. A directory that goes gives up its count of
        // `at`, which has its link (or is the root) and stays.
        unsafe {
            if last_hold.as_ref().counts.unlink() {
                free_dismantled(last_hold);
            }
        }
    }
    let last_link = root.counts.unlink();
    debug_assert!(!last_link, "the caller holds the root");
    let root = ManuallyDrop::new(root);
    if root.counts.close() {
        // SAFETY: this was the last hold, and nobody walks.
        unsafe { free_dismantled(root.inode) };
    }
}

/// Frees an inode of a tree that nobody walks. Where descriptors are looked at without being counted, a thread that is just
/// doing so may still be at the shell of one whose description has ended.
///
/// # Safety
/// As for [`free`].
unsafe fn free_dismantled(inode: NonNull<Inode>) {
    match Mode::default() {
        // SAFETY: by this function's contract; in locked mode descriptors are counted.
        Mode::Locked => unsafe { free(inode, Onlookers::Nobody) },
        // SAFETY: by this function's contract.
        Mode::Lockless => unsafe { free(inode, Onlookers::Pinned(&epoch::pin())) },
    }
}
