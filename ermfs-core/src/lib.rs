//! The ERMFS engine: a POSIX filesystem that lives in the memory of one process.
//!
//! Layers, each calling only downwards: [`process`] (descriptor table, open file descriptions, the
//! calls), `export` (memfd and gzip, in and out), `namespace` (inodes, dentries, path walk),
//! `content` (the bytes of one file), `codec` (one block, one gzip member), and below them the
//! crate `ermfs-memory`. The design is told in docs/DESIGN.md, what must hold in
//! docs/INVARIANTS.md.

#![cfg_attr(
    loom,
    allow(dead_code, unused_imports, reason = "what the models stand in for, and what none of them needs")
)]

mod codec;
mod content;
mod credentials;
mod descriptor;
mod epoch;
mod errno;
mod export;
#[cfg(feature = "failpoints")]
pub mod failpoint;
#[cfg(not(feature = "failpoints"))]
mod failpoint;
mod fs;
pub mod gate;
#[cfg(feature = "injector")]
pub mod inject;
#[cfg(not(feature = "injector"))]
mod inject;
mod namespace;
mod observer;
pub mod process;
mod space;
mod stripes;
mod sync;
#[cfg(test)]
mod testing;
mod time;

pub use content::{Content, FileInfo, Form, MAX_FILE_SIZE, Sink, Source, View};
pub use credentials::Credentials;
pub use errno::{Errno, Result};
pub use export::ExportFlags;
pub use fs::{Config, Fs, Mode, Statistics, Status};
pub use namespace::{
    At, DirEntry, Ended, Hold, Inode, InodeKind, InodeRef, LOCK_TO_END, Lock, LockKind, LockOwner, Metadata,
    OnConflict, OpenHow, RenameFlags, TimeSet, XATTR_SIZE_MAX, XattrName, XattrSet,
};
pub use observer::{Changed, Observer};
pub use space::{Compress, Policy, Space};
