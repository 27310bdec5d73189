//! How threads that work on one file are kept apart: what the two modes do differently.
//!
//! Promises, of every implementation: a reader sees a write that lies within one block whole or not at all, and no byte
//! that nobody wrote; whoever changes the file holds its lock alone. The operations (`read`, `write`, `range`, `pack`)
//! are written once, over this trait. Owns nothing.

use super::file::Books;
use super::garbage::Garbage;
use super::write::Part;
use super::{Content, Sink, Source};
use crate::content::block::{Holes, RawBlock, Writable};
use crate::errno::Result;
use ermfs_memory::Purpose;

/// A mode's way; see the module's page. `content` and `books` are always of one file.
pub(super) trait Exclusion {
    /// See [`Content::read_at`].
    fn read_at(content: &Content, offset: u64, sink: &mut Sink<'_>) -> Result<usize>;

    /// Writes in place what no reader can be looking at, if that is so for all of `part`. `None`: it is not.
    fn write_unseen(
        content: &Content,
        books: &mut Books,
        part: &Part,
        holes: Holes,
        source: &mut Source<'_>,
    ) -> Option<Writable>;

    /// Runs `change` on the raw block at `index`, to which there is a way, with the bytes that are there now; without
    /// them when `change` overwrites all (`whole`). On failure, its own included, nothing has changed.
    fn change_block<R>(
        content: &Content,
        books: &mut Books,
        index: u64,
        draft: Draft,
        change: impl FnOnce(&mut RawBlock) -> Result<Changed<R>>,
    ) -> Result<R>;

    /// Removes everything from `size` on and makes that the size.
    ///
    /// # Errors
    /// `EIO`, `ENOSPC`, `ENOMEM`: nothing has changed.
    fn cut(content: &Content, books: &mut Books, size: u64) -> Result<()>;

    /// Runs `change`, of whose steps readers see all or nothing: for what changes bytes below the end and the end with them,
    /// or moves blocks to other places.
    fn at_once<R>(content: &Content, change: impl FnOnce() -> R) -> R;

    /// Frees what was taken out of the file when nobody can be looking at it any more.
    fn let_go(content: &Content, garbage: Garbage);
}

/// What was done to a raw block.
pub(super) struct Changed<R> {
    pub(super) result: R,
    /// How many pages it has more than before.
    pub(super) pages: isize,
    /// Where the last byte that was written ends; 0 for what only wrote zeros.
    pub(super) end: usize,
}

/// What [`Exclusion::change_block`] is to make where the block is not raw, or not to be written in place.
#[derive(Clone, Copy)]
pub(super) struct Draft {
    /// All its bytes are going to be overwritten.
    pub(super) whole: bool,
    /// On whose behalf its memory is charged.
    pub(super) purpose: Purpose,
}
