//! Directories in lockless mode: who looks up takes no lock and waits for nobody.
//!
//! Promises what `Entries` promises. A look-up writes nothing; whoever is stopped anywhere in a change
//! stops no look-up. Those who change one directory exclude one another by its lock, in the order in
//! which locked mode takes such locks. Owns the tables, the dentries and the order of cookies.
//! Never: a look-up's access to what the lock guards, or a dentry or table freed while a pin may see it.
//!
//! # The protocol
//! A directory has a table of slots (`table`), each *never used* (null), a dentry or TOMBSTONE. A slot goes through these in
//! this order and never back: so the chain from a name's first slot to the first never-used one, once seen to lead to the
//! name, leads there for as long as the table lives. A dentry (`dentry`) has a name that never changes and one *word*: null
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

use core::cell::Cell;
use std::sync::Arc;

use ermfs_memory::Kind;

pub(super) use directory::{Directory, Sealed};

use crate::epoch::Guard;
use crate::space::Space;

/// What a thread may retire before it has the collector look at what can be freed.
const RETIRED_MAX: u64 = 64 * 1024;

thread_local! {
    /// What this thread has retired since it last did.
    static RETIRED: Cell<u64> = const { Cell::new(0) };
}

/// Has `free` run when every pin of now is gone, and what it answers, which is `bytes` of metadata, released.
///
/// # Safety
/// No new look-up can come to what `free` frees, which may run on any thread, once.
unsafe fn retire(guard: &Guard, space: &Arc<Space>, bytes: u64, free: impl FnOnce() -> u64) {
    space.note_retired(bytes);
    let space = Arc::clone(space);
    // SAFETY: by this function's contract; what the closure owns beside it is an `Arc` that is `Send`.
    unsafe {
        guard.defer_unchecked(move || space.release_retired(Kind::Metadata, free()));
    }
    let retired = RETIRED.get() + bytes;
    RETIRED.set(if retired > RETIRED_MAX { 0 } else { retired });
    if retired > RETIRED_MAX {
        guard.flush();
    }
}
