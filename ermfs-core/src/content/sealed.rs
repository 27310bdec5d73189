//! Sealed exports that repeated exports of an unchanged file share.
//!
//! Promises: at most one sealed memfd a file, charged as exported; it goes when the file changes,
//! when its inode is freed, or under pressure, whichever is first. Descriptors handed out live on:
//! they are their holder's. Owns the kernel descriptors; makes none itself. A program that closes
//! every descriptor it finds (closefrom(3)) closes these too, and their numbers may stand for other
//! files then: such a descriptor is neither used nor closed.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};

use ermfs_memory::Kind;
use ermfs_memory::sync::Mutex;

use crate::descriptor::Descriptor;
use crate::inject::fails;
use crate::space::Space;

struct Sealed {
    /// There until this is dropped.
    fd: Option<Descriptor>,
    /// Device and inode number of what `fd` was when it came.
    identity: Option<(u64, u64)>,
    version: u64,
    bytes: u64,
}

impl Sealed {
    fn new(fd: Descriptor, version: u64, bytes: u64) -> Sealed {
        Sealed { identity: identity(fd.as_fd()), fd: Some(fd), version, bytes }
    }

    /// The descriptor, if it is still the one that came.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        let fd = self.fd.as_ref()?.as_fd();
        (self.identity.is_some() && self.identity == identity(fd)).then_some(fd)
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        if self.descriptor().is_none() {
            // Somebody else's by now: the number is forgotten, not closed.
            self.fd.take().map(Descriptor::forget);
        }
    }
}

fn identity(fd: BorrowedFd<'_>) -> Option<(u64, u64)> {
    rustix::fs::fstat(fd).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

/// The sealed exports of one filesystem, by the address of the content they were made of.
pub(crate) struct SealedExports(Mutex<HashMap<usize, Sealed>>);

impl SealedExports {
    pub(crate) fn new() -> SealedExports {
        SealedExports(Mutex::default())
    }

    /// Runs `use_fd` on the export of `key` if one of this `version` is kept.
    pub(super) fn with<R>(
        &self,
        key: usize,
        version: u64,
        use_fd: impl FnOnce(BorrowedFd<'_>) -> R,
    ) -> Option<R> {
        let exports = self.0.lock();
        let sealed = exports.get(&key).filter(|sealed| sealed.version == version)?;
        sealed.descriptor().map(use_fd)
    }

    /// Keeps `fd`, of `bytes` that are already charged, instead of what was kept for `key`.
    pub(super) fn insert(&self, space: &Space, key: usize, version: u64, fd: Descriptor, bytes: u64) {
        let mut exports = self.0.lock();
        if fails!("sealed.grow") || exports.try_reserve(1).is_err() {
            return space.release(Kind::Exported, bytes);
        }
        if let Some(old) = exports.insert(key, Sealed::new(fd, version, bytes)) {
            space.release(Kind::Exported, old.bytes);
        }
    }

    /// Lets go of what is kept for `key`.
    pub(super) fn remove(&self, space: &Space, key: usize) {
        if let Some(old) = self.0.lock().remove(&key) {
            space.release(Kind::Exported, old.bytes);
        }
    }

    /// Lets go of everything.
    pub(crate) fn clear(&self, space: &Space) {
        for (_, old) in self.0.lock().drain() {
            space.release(Kind::Exported, old.bytes);
        }
    }
}
