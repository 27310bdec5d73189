//! Memory for ERMFS; knows nothing of files.
//!
//! Promises: every allocation can fail and says so with [`AllocError`]; nothing here aborts because of a size that came
//! from data, nothing starts a thread, and nothing but anonymous memory is ever mapped.
//!
//! Owns, for the whole process:
//! - [`Page`]s of 4 KiB with a reference count each, carved out of 2 MiB arenas;
//! - [`Piece`]s, variable-size allocations for what is smaller or odder than pages;
//! - nodes ([`Nodes`]), what trees of files are made of, close together.
//!
//! Owned by the caller: [`Budget`] (what one filesystem may take: callers charge it *before* they allocate; the
//! allocators themselves do not know budgets), [`Counted`] (a reference-counted value) and the fallible counterparts of
//! `Box` and `Vec` in this crate's root.
//!
//! It is a part of ERMFS; what is here may change with any version.
//!
//! ```
//! use ermfs_memory::{AllocError, Budget, Kind, PAGE_SIZE, Page, Piece, Purpose};
//!
//! # fn main() -> Result<(), AllocError> {
//! let budget = Budget::new(1 << 20, 85);
//! budget.charge(Kind::Raw, PAGE_SIZE as u64, Purpose::Ordinary)?;
//! let page = Page::alloc()?;
//! let shared = page.share();
//! assert!(!page.is_unique());
//! drop((page, shared));
//! budget.release(Kind::Raw, PAGE_SIZE as u64);
//!
//! let piece = Piece::alloc_from(b"of any length")?;
//! assert_eq!(piece.as_slice(), b"of any length");
//! assert_eq!(budget.charge(Kind::Raw, 2 << 20, Purpose::Ordinary), Err(AllocError::Budget));
//! # Ok(())
//! # }
//! ```
//!
//! All of it may be used from any thread. In a forked child all of it is a private copy of the parent's and stays
//! usable, provided that no other thread of the parent was inside a call of this crate at the moment of the fork.

mod arena;
mod bitmap;
mod budget;
mod counted;
mod fallible;
mod heap;
pub mod inject;
mod lines;
mod nodes;
mod pages;
mod past_cache;
mod poison;
mod prefetch;
mod reserve;
pub mod sync;
mod tlsf;

pub use allocator_api2::alloc::Allocator;
pub use budget::{Budget, Kind, Purpose, Usage};
pub use counted::{AtOnce, Counted, Ownerless, Reclaim, Unfilled};
pub use fallible::{Zeroable, try_box, try_vec, try_zeroed_slice};
pub use heap::{MAX_PIECE, Piece};
pub use lines::{LINES, own_line};
pub use nodes::{NodeBox, NodeVec, Nodes, find_leak_checker, malloc_footprint, try_node, try_node_vec};
pub use pages::{BLOCK_SIZE, PAGE_SIZE, PAGES_PER_BLOCK, Page};
pub use past_cache::copy_past_cache;
pub use prefetch::prefetch;

use core::fmt;
use std::collections::TryReserveError;

// The address range is reserved in one piece of up to 1 TiB.
const _: () = assert!(usize::BITS == 64, "ermfs-memory needs a 64-bit address space");

/// Why an allocation was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocError {
    /// The filesystem's own limit ([`Budget`]); `ENOSPC` to its user.
    Budget,
    /// The kernel or the allocator has no memory or address space left; `ENOMEM` to the user.
    Memory,
}

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AllocError::Budget => "the budget is exhausted",
            AllocError::Memory => "out of memory",
        })
    }
}

impl core::error::Error for AllocError {}

impl From<TryReserveError> for AllocError {
    fn from(_: TryReserveError) -> AllocError {
        AllocError::Memory
    }
}

/// What this process's allocators hold, in bytes; see [`process_memory`].
///
/// `mapped` is the sum of the arenas that pages, pieces, nodes and the warm pool stand in. It is an upper bound of what they
/// contribute to the resident set: a part of an arena that was never written has not been faulted in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessMemory {
    /// Address space set aside for arenas; not memory.
    pub reserved: u64,
    /// Arenas that may be backed by memory.
    pub mapped: u64,
    /// The part of `mapped` that is wholly free and kept for reuse.
    pub warm: u64,
    /// Arenas whose memory went back to the kernel and that are used again before new ones are carved; not in `mapped`.
    pub cold: u64,
    /// Pages that somebody holds a reference of.
    pub pages_in_use: u64,
    /// The part of `mapped` that pieces and nodes are cut from.
    pub pieces_mapped: u64,
    /// Pieces that somebody owns, headers and rounding included.
    pub pieces_in_use: u64,
    /// The same of nodes, but for what malloc gave.
    pub nodes_in_use: u64,
    /// The allocators' own tables (page counts, arena maps).
    pub tables: u64,
}

/// What this process's allocators hold now. Takes the allocators' locks, one after the other, so the
/// parts of the answer may be an instant apart.
pub fn process_memory() -> ProcessMemory {
    let mut memory = ProcessMemory::default();
    pages::describe(&mut memory);
    heap::describe(&mut memory);
    nodes::describe(&mut memory);
    memory
}
