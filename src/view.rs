//! Reading without a copy.

use std::fmt;

use ermfs_core::View as Pieces;

use crate::held::Held;

/// A part of a file as it was at one moment, in the file's own memory: from [`File::view`].
///
/// The bytes never change and stay valid for as long as the view lives, whatever is written to the file, and whether
/// or not it, its name, or the [`Fs`] value are still there. They may come in several pieces, because a file is not
/// contiguous in memory; blocks that were compressed are inflated when the view is made. What a view holds counts
/// against the budget until it is dropped. `Send` and `Sync`.
///
/// [`File::view`]: crate::File::view
/// [`Fs`]: crate::Fs
pub struct View {
    pieces: Held<Pieces>,
}

impl View {
    pub(crate) fn new(pieces: Pieces) -> View {
        View { pieces: Held::new(pieces) }
    }

    /// The pieces, in the order of the file, none of them empty.
    pub fn pieces(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.pieces.pieces()
    }

    /// How many bytes the pieces hold together. Less than was asked for only where the file ended.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("len", &self.len()).field("pieces", &self.pieces().count()).finish()
    }
}
