//! ERMFS is a filesystem in the memory of a process. It behaves as POSIX says, keeps closed files gzip-compressed, and
//! hands any file to the kernel as a real descriptor. Nothing is written to a disk, nothing has to be mounted, and no
//! privilege is needed. Linux only.
//!
//! | to | there is |
//! | --- | --- |
//! | make a filesystem | [`Fs::new`], or [`Fs::builder`] for a budget, a policy, a level |
//! | work with names | the methods of [`Fs`], [`ReadDir`], [`DirEntry`] |
//! | work with bytes | [`File`], opened by [`Fs::open`], [`Fs::create`] or [`OpenOptions`] |
//! | know what something is | [`Metadata`], [`FileType`] |
//! | read without a copy | [`File::view`] |
//! | give a file to the kernel, and take one back | [`Fs::export_memfd`], [`Fs::export_gzip`], [`Fs::import_fd`], [`Fs::import_gzip`] |
//! | know what it costs | [`Fs::statistics`], [`File::info`] |
//! | keep others out | [`File::lock`] |
//!
//! # Files
//!
//! An [`Fs`] is one independent tree. Its methods are those of [`std::fs`], errors are [`std::io::Error`]s with the
//! number that the kernel would give, and a [`File`] reads, writes and seeks through the standard traits.
//!
//! ```
//! use std::io::{Read, Seek, SeekFrom, Write};
//! use ermfs::{Fs, OpenOptions};
//!
//! # fn main() -> std::io::Result<()> {
//! let fs = Fs::new()?;
//! fs.create_dir_all("/etc/app")?;
//! fs.write("/etc/app/config", "answer = 42\n")?;
//! assert_eq!(fs.read_to_string("/etc/app/config")?, "answer = 42\n");
//!
//! let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&fs, "/data")?;
//! file.write_all(b"0123456789")?;
//! file.seek(SeekFrom::Start(4))?;
//! let mut two = [0; 2];
//! file.read_exact(&mut two)?;
//! assert_eq!(&two, b"45");
//!
//! let error = fs.remove_dir("/etc").unwrap_err();
//! assert_eq!(error.kind(), std::io::ErrorKind::DirectoryNotEmpty);
//! # Ok(())
//! # }
//! ```
//!
//! Paths have no working directory to start from, so `"data"` and `"/data"` are the same. Names are replaced as a
//! whole, so the usual way to change a file under the eyes of its readers works:
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! # let fs = ermfs::Fs::new()?;
//! # fs.write("/state", "old")?;
//! let before = fs.open("/state")?;
//! fs.write("/state.new", "new")?;
//! fs.rename("/state.new", "/state")?;
//! assert_eq!(fs.read("/state")?, b"new");
//! assert_eq!(before.view(..)?.pieces().collect::<Vec<_>>().concat(), b"old");
//! # Ok(())
//! # }
//! ```
//!
//! # Kernel descriptors
//!
//! A [`File`] is no kernel file. What wants one (`mmap`, a library that opens paths, another process) gets a copy
//! that the kernel holds: [`Fs::export_memfd`], and back with [`Fs::import_fd`].
//!
//! ```
//! use std::os::fd::AsRawFd;
//! use ermfs::{ExportFlags, Fs};
//!
//! # fn main() -> std::io::Result<()> {
//! let fs = Fs::new()?;
//! fs.write("/words", "for those who want a path")?;
//! let fd = fs.export_memfd("/words", ExportFlags::SEALED)?;
//! let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
//! assert_eq!(std::fs::read_to_string(path)?, "for those who want a path");
//!
//! fs.import_fd("/copy", fd, 0o644)?;
//! assert_eq!(fs.read("/copy")?, fs.read("/words")?);
//! # Ok(())
//! # }
//! ```
//!
//! # Memory
//!
//! Every filesystem has a budget that covers all it takes; at its limit calls fail with `ENOSPC` and the process goes
//! on. A file is compressed when its last writer closes it, block by block of 64 KiB, and read without being
//! decompressed as a whole; what does not shrink is left as it is. [`Builder`] sets budget and policy,
//! [`Fs::statistics`] and [`File::info`] tell what is used.
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! let fs = ermfs::Fs::builder().max_bytes(16 << 20).build()?;
//! fs.write("/log", "the same line again and again\n".repeat(100_000))?;
//! assert_eq!(fs.metadata("/log")?.len(), 3_000_000);
//! assert!(fs.open("/log")?.stored_bytes()? < 100_000);
//! # Ok(())
//! # }
//! ```
//!
//! # Errors
//!
//! Every error is an [`std::io::Error`] with a number of the operating system, and each method says which come and why. Two
//! come from anywhere: `ENOMEM`, when the machine has no memory left, and `EIO`, once the library has met a fault of its own in
//! this filesystem. A call that fails has changed nothing, unless it says so.
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! let fs = ermfs::Fs::builder().max_bytes(1 << 20).compress(ermfs::Compress::Never).build()?;
//! let error = fs.write("/too-much", vec![1; 2 << 20]).unwrap_err();
//! assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
//! fs.remove_file("/too-much")?; // which works in a full filesystem, too
//! fs.write("/less", vec![1; 1 << 19])?;
//! # Ok(())
//! # }
//! ```
//!
//! # Threads and processes
//!
//! Everything is [`Send`] and [`Sync`], and one call is one step for all others: reads see no part of a write within a
//! block, appends do not overlap, a rename has no in-between. After `fork` the child has a private copy of everything.
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! let fs = ermfs::Fs::new()?;
//! let log = ermfs::OpenOptions::new().append(true).create(true).open(&fs, "/log")?;
//! std::thread::scope(|scope| {
//!     for _ in 0..4 {
//!         scope.spawn(|| {
//!             use std::io::Write;
//!             for _ in 0..100 {
//!                 (&log).write_all(b"one line\n").expect("there is room");
//!             }
//!         });
//!     }
//! });
//! assert_eq!(fs.read_to_string("/log")?.lines().filter(|line| *line == "one line").count(), 400);
//! # Ok(())
//! # }
//! ```
//!
//! Threads are kept apart in one of two modes. *Locked*: readers of a file share its lock, writers hold it alone. *Lockless*: who
//! looks up, reads, opens what is there or closes takes no lock. Both do the same; a filesystem has the mode that
//! `ERMFS_LOCKLESS` (0 or 1) in the environment says when the first one is made, else locked, or lockless with the feature of that
//! name.
//!
//! # Features
//!
//! None is on by default.
//!
//! - `lockless`: the lockless mode where the environment says nothing.
//! - `cli`: the command `ermfs`, which mounts a filesystem of its own kind by FUSE. A program that wants to mount its own takes the
//!   crate `ermfs-fuse`.
//! - `header-check`, `failpoints` and `count-atomics` serve the project's own tests, and may change or go at any time.
//!
//! # Users
//!
//! Permission bits bind the process as they would on the kernel's filesystems: by its effective ids as they were when the
//! [`Fs`] was made, or when [`refresh_credentials`] was called last. User 0 passes all checks.
//!
//! # What it is not for
//!
//! Nothing here outlives the process. Two processes share a file only through an exported descriptor, and mapping a
//! live file is mapping a copy of it. Programs that open paths by themselves do not see an [`Fs`]. The README says
//! more.

mod buffers;
mod builder;
mod dir;
mod error;
mod file;
mod fs;
mod held;
mod metadata;
mod open_options;
mod tree;
mod view;

pub use builder::Builder;
pub use dir::{DirEntry, ReadDir};
pub use ermfs_core::{Compress, ExportFlags, FileInfo, Form, Statistics};
pub use file::File;
pub use fs::Fs;
pub use metadata::{FileType, Metadata};
pub use open_options::OpenOptions;
pub use view::View;

/// Reads the process's ids again, by which permissions are judged and to which new files belong, for all filesystems.
///
/// # Errors
/// `ENOMEM`; nothing has changed then.
pub fn refresh_credentials() -> std::io::Result<()> {
    ermfs_core::process::refresh_credentials().map_err(error::os)
}

/// The examples of the README, which are to work as they stand there.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
