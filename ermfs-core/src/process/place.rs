//! An inode and the filesystem it lies in, as descriptions and the working directory hold them.
//!
//! Promises: both stay until the place ends, and the filesystem is let go last. The default filesystem stays anyway and is
//! held without counting, so that opening a file there moves no count that all threads share. Who only pinned may look at
//! the inode of a place that has ended, not at its filesystem, unless that is the default one.

use core::mem::ManuallyDrop;
use std::sync::Arc;

use super::filesystems::is_default;
use super::reclaim::Ends;
use crate::fs::Fs;
use crate::namespace::InodeRef;

pub(super) struct Place {
    /// Dropped by `end`, through a shared reference, because others may be looking.
    inode: ManuallyDrop<InodeRef>,
    /// As above; a copy that was not counted, which is not dropped, if it is the default filesystem.
    fs: ManuallyDrop<Arc<Fs>>,
}

impl Place {
    pub(super) fn new(fs: &Arc<Fs>, inode: InodeRef) -> Place {
        let fs = if is_default(fs) {
            // SAFETY: the default filesystem's own reference is never dropped, and neither is this copy of it.
            ManuallyDrop::new(unsafe { core::ptr::read(fs) })
        } else {
            ManuallyDrop::new(Arc::clone(fs))
        };
        Place { inode: ManuallyDrop::new(inode), fs }
    }

    /// The root of what becomes the default filesystem; does not end.
    pub(super) fn of_default(fs: Arc<Fs>) -> Place {
        Place { inode: ManuallyDrop::new(fs.root()), fs: ManuallyDrop::new(fs) }
    }

    #[inline]
    pub(super) fn inode(&self) -> &InodeRef {
        &self.inode
    }

    #[inline]
    pub(super) fn fs(&self) -> &Arc<Fs> {
        &self.fs
    }

    /// Whether the filesystem, too, may be looked at under a pin alone.
    #[inline]
    pub(super) fn is_in_default(&self) -> bool {
        is_default(&self.fs)
    }

    /// Lets go of both, nobody else having seen the place.
    pub(super) fn end_unshared(self) {
        // SAFETY: it is used no more.
        unsafe { Place::end(&self) };
    }

    /// Lets go of both.
    ///
    /// # Safety
    /// Called once, and neither is used afterwards but as the module's page says.
    pub(super) unsafe fn end(&self) {
        // SAFETY: by contract this copy is the one that counts from now on. An inode's shell, which readers may still look
        // at, goes through the epoch.
        drop(unsafe { core::ptr::read(&*self.inode) });
        if !self.is_in_default() {
            // SAFETY: as above, and readers with a pin leave it alone.
            drop(unsafe { core::ptr::read(&*self.fs) });
        }
    }
}

impl Ends for Place {
    fn end(&self) {
        // SAFETY: the one who calls this has taken the last reference away.
        unsafe { Place::end(self) };
    }
}
