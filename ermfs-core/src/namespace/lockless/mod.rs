//! Directories in lockless mode: who looks up takes no lock and waits for nobody.
//!
//! Promises what `Entries` promises. A look-up writes nothing; whoever is stopped anywhere in a change
//! stops no look-up. Those who change one directory exclude one another by its lock, in the order in
//! which locked mode takes such locks. Owns the tables, the dentries and the order of cookies.
//! Never: a look-up's access to what the lock guards, or a dentry or table freed while a pin may see it.
//!
//! # The protocol
//! A directory has a table of slots (`table`), each *never used* (null), a dentry (and four bits of its hash) or TOMBSTONE. A slot
//! goes through these in this order and never back: so the chain from a name's first slot to the first never-used one, once
//! seen to lead to the name, leads there for as long as the table lives. A dentry (`dentry`) has a name that never changes and one *word*: null
//! (nothing by that name), an inode, or an inode with PENDING.
//!
//! | step | stores, in this order | pairs with |
//! | --- | --- | --- |
//! | insert | the dentry whole; the slot (Release) | a look-up's load of the slot (Acquire) |
//! | remove | the word to null (Release): here the name goes; the slot to TOMBSTONE; the dentry is retired | the load of the word (Acquire) |
//! | rebuild | a new table whole; the directory's pointer to it (Release); the old table is retired | the load of the pointer (Acquire) |
//! | rename | see `record` | |
//!
//! A look-up that is in an old table meanwhile sees what was there when it loaded the pointer, and since the dentries are the
//! same, every removal and rename of it; it misses only what was entered after that load.
//!
//! A dentry is retired when no slot that a new look-up can come to has it, a table when the pointer has another: so whoever
//! has one in hand has a pin from before. Retired memory stays charged until it is freed.

mod dentry;
mod directory;
mod order;
mod record;
mod table;

use core::ptr::NonNull;

use ermfs_memory::Kind;
use ermfs_memory::sync::Arc;

pub(super) use directory::{Directory, Sealed};

use crate::epoch::{self, Guard};
use crate::space::Space;

/// Has `free` run when every pin of now is gone, and the `bytes` of metadata that it answers then released.
///
/// # Safety
/// No new look-up can come to `at`; `free`, which may run on any thread, is right for it, and the only call that frees it.
unsafe fn retire<T>(
    at: NonNull<T>,
    bytes: u64,
    space: &Arc<Space>,
    guard: &Guard,
    free: impl FnOnce(NonNull<T>) -> u64,
) {
    space.note_retired(bytes);
    let release = move |at, space: Arc<Space>| space.release_retired(Kind::Metadata, free(at));
    // SAFETY: by this function's contract; an `Arc` may go anywhere.
    unsafe { epoch::retire_with(at, bytes as usize, Arc::clone(space), release, guard) };
}
