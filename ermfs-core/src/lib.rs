//! The ERMFS engine: a POSIX filesystem that lives in the memory of one process.
//!
//! Layers, each calling only downwards: [`process`] (descriptor table, open file descriptions, the
//! calls), `export` (memfd and gzip, in and out), `namespace` (inodes, dentries, path walk),
//! `content` (the bytes of one file), `codec` (one block, one gzip member), and below them the
//! crate `ermfs-memory`. The design is told in docs/DESIGN.md, what must hold in
//! docs/INVARIANTS.md.
//!
//! This is what `ermfs` (for Rust), `libermfs` (for C) and `ermfs-fuse` are made of, and speaks the language of system calls:
//! numbers for descriptors, libc's flags, bytes for paths, an [`Errno`] for an error. Programs are better off with `ermfs`;
//! what is here may change with any version.
//!
//! ```
//! use ermfs_core::{Config, Errno, Sink, Source, process};
//!
//! # fn main() -> ermfs_core::Result<()> {
//! let root = process::fsmount(&Config { max_bytes: 1 << 20, ..Config::default() })?;
//! let fd = process::openat(root, b"file", libc::O_CREAT | libc::O_RDWR, 0o600)?;
//! assert_eq!(process::write(fd, &mut Source::new(b"bytes"))?, 5);
//! let mut room = [0; 8];
//! assert_eq!(process::pread(fd, &mut Sink::new(&mut room), 1)?, 4);
//! assert_eq!(&room[..4], b"ytes");
//! process::close(fd)?;
//! assert_eq!(process::openat(root, b"none", libc::O_RDONLY, 0), Err(Errno::ENOENT));
//! process::close(root)
//! # }
//! ```
//!
//! Every function may be called from any thread, in a fork child as well. Sizes and offsets are bytes.

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
#[cfg(feature = "members")]
pub mod members;
#[cfg(feature = "micro")]
pub mod micro;
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
