//! The locked mode's part of the process layer: a descriptor table whose numbers are guarded by one
//! mutex and whose slots each have a lock of their own.

mod bitmap;
mod fd_table;
mod slot;

pub(super) use fd_table::Table;
pub(super) use slot::Slot;
