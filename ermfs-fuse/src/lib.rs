//! A mount of an ERMFS filesystem, by FUSE: any program, static or not, sees it as the kernel's own.
//!
//! Promises: what a program does through the mount is what the same call does in process, for the same file at the same
//! moment; the kernel judges permissions, locks and open modes (it always gets `default_permissions`), and keeps pages,
//! names and attributes for as long as nobody else changes them. Changes that this process makes beside the mount reach
//! the kernel's caches within milliseconds. A request never ends the server: a panic while one is answered is `EIO` for
//! it and, as everywhere, for that filesystem from then on. Owns the connection and its threads, the kernel's references to
//! inodes (`nodes`) and its handles (`handles`). Never: logic of its own about files; it translates.
//!
//! Mounting takes /dev/fuse, and root or `fusermount3` (Debian: fuse3).
//!
//! ```no_run
//! use ermfs_core::{Config, Fs};
//! use ermfs_fuse::{Mount, MountOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let fs = Fs::new(&Config::default())?;
//! let mount = Mount::new(fs, "/mnt/scratch".as_ref(), &MountOptions::default())?;
//! // Any program can use /mnt/scratch now.
//! mount.wait();
//! # Ok(())
//! # }
//! ```
//!
//! A [`Mount`] may be used from any thread. The process that serves a mount does not use it by the kernel's calls itself: killed in
//! the middle of one it could not end, and the mount would stay.

mod attributes;
mod caller;
mod connect;
mod handles;
mod mount;
mod nodes;
mod observer;
mod operations;
mod server;
mod statistics;

pub use mount::{Mount, MountOptions, unmount};
pub use statistics::{FILE_XATTR, STATISTICS_XATTR, statistics_json};
