//! Telling those who keep copies of what a filesystem holds, as the kernel does for a mount, that it changed.
//!
//! Promises: who observes before a change begins is told of it after it can be seen. Without an observer a change costs one
//! relaxed load. Owns the list of observers. Never: anything of the filesystem that an observer could wait for; it may be
//! told under locks, so it only takes a note.

use std::sync::Arc;

use ermfs_memory::sync::RwLock;
use ermfs_memory::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::errno::Result;
use crate::inject::allocation;

/// What changed of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Changed {
    /// What `stat(2)` or `getxattr(2)` tells. Access times may move untold.
    Metadata,
    /// The bytes of a file, and with them its metadata.
    Content,
}

/// Told of changes, possibly while locks of the filesystem are held: it must not call the filesystem, nor wait.
pub trait Observer: Send + Sync {
    /// An inode changed.
    fn inode_changed(&self, ino: u64, changed: Changed);

    /// What a name in a directory stands for changed, and with it the directory.
    fn entry_changed(&self, directory: u64, name: &[u8]);
}

/// The observers of one filesystem.
pub(crate) struct Observers {
    any: AtomicBool,
    list: RwLock<Vec<Arc<dyn Observer>>>,
}

impl Observers {
    pub(crate) const fn new() -> Observers {
        Observers { any: AtomicBool::new(false), list: RwLock::new(Vec::new()) }
    }

    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn add(&self, observer: Arc<dyn Observer>) -> Result<()> {
        let mut list = self.list.write();
        allocation!("observers.grow")?;
        list.try_reserve(1)?;
        list.push(observer);
        self.any.store(true, Relaxed);
        Ok(())
    }

    pub(crate) fn remove(&self, observer: &Arc<dyn Observer>) {
        let mut list = self.list.write();
        list.retain(|other| !Arc::ptr_eq(other, observer));
        self.any.store(!list.is_empty(), Relaxed);
    }

    /// Whether there is anybody to be told.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.any.load(Relaxed)
    }

    #[inline]
    pub(crate) fn inode_changed(&self, ino: u64, changed: Changed) {
        if self.any() {
            self.tell(&|observer| observer.inode_changed(ino, changed));
        }
    }

    #[inline]
    pub(crate) fn entry_changed(&self, directory: u64, name: &[u8]) {
        if self.any() {
            self.tell(&|observer| observer.entry_changed(directory, name));
        }
    }

    #[cold]
    fn tell(&self, of: &dyn Fn(&dyn Observer)) {
        self.list.read().iter().for_each(|observer| of(&**observer));
    }
}
