//! The open file descriptions that the kernel holds.
//!
//! Promises: a handle names one description from its open to its release. Owns a reference to each.

use ermfs_core::process::OpenFileRef;
use ermfs_core::{Errno, Result};
use parking_lot::RwLock;
use slab::Slab;

/// See the module's page.
#[derive(Default)]
pub(crate) struct Handles(RwLock<Slab<OpenFileRef>>);

impl Handles {
    /// A handle for `file`.
    pub(crate) fn insert(&self, file: OpenFileRef) -> u64 {
        self.0.write().insert(file) as u64
    }

    /// What a handle names.
    ///
    /// # Errors
    /// `EBADF`, which no kernel should see.
    pub(crate) fn get(&self, handle: u64) -> Result<OpenFileRef> {
        let index = usize::try_from(handle).map_err(|_| Errno::EBADF)?;
        self.0.read().get(index).cloned().ok_or(Errno::EBADF)
    }

    /// Ends a handle. What it named is closed by whoever lets go of it last.
    pub(crate) fn remove(&self, handle: u64) -> Option<OpenFileRef> {
        self.0.write().try_remove(usize::try_from(handle).ok()?)
    }
}
