//! The lockless mode's part of the process layer: a descriptor table whose numbers are claimed and freed by
//! compare-and-swap and whose slots are read under a pin of the epoch.
//!
//! # Protocol
//! A number is a bit of [`Bitmap`](bitmap::Bitmap) and a slot.
//!
//! | pair | one side | other side |
//! | --- | --- | --- |
//! | S1/S2 | claims the bit (Acquire), then stores the pointer (Release) | loads the pointer (Acquire), then looks at the description |
//! | S3/S4 | takes the pointer out (AcqRel), then clears the bit (Release), then lets the reference go | claims the bit (Acquire): the slot is empty by then |
//! | S5/S6 | lets the last reference go: the count to zero, then ends the description | a reader with a pin has looked at the description, fences (Acquire), then loads the count: an answer that a description gave before a count above zero was its own |
//! | H1/H2 | fills a word: sets its hint one level up, then looks at the word again by a read-modify-write, and takes the hint back if it has a free bit | frees a bit by a read-modify-write, then looks at the hint and clears it |
//! | D4 | sets a file's lock flag, fences, then loads the slot | takes the pointer out, then loads the lock flag (all sequentially consistent) |
//!
//! H1/H2: the two read-modify-writes of one word have an order. If the look comes first, the one that frees sees the hint;
//! if it comes second, the look sees the free bit. So no hint stays on a word with a free bit. While it does, between
//! two steps of the one that fills the word, a number of that word may be passed over by who looks for the lowest; before
//! `EMFILE` all words are looked at, whatever the hints say.

mod bitmap;
mod fd_table;
#[cfg(all(test, loom))]
mod loom;
mod slot;

pub(super) use fd_table::Table;
pub(super) use slot::Slot;
