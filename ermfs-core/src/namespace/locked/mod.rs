//! Directories in locked mode: each one's table is under a lock of its own.
//!
//! Promises what `Entries` promises, by exclusion. A look-up takes one directory's lock, shared, for
//! itself; a change takes it alone; a rename across directories takes both.

mod directory;
mod index;
mod table;

pub(super) use directory::{Directory, Sealed};
