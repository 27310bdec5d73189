//! A vector whose memory is charged to a filesystem.
//!
//! Promises: growing fails with an error instead of aborting, and never takes memory that was not
//! charged before. Owns the charge, and releases it when dropped.

use core::ops::Deref;

use ermfs_memory::sync::Arc;
use ermfs_memory::{Kind, Purpose};

use crate::errno::Result;
use crate::inject::allocation;
use crate::space::Space;

/// See the module's page.
pub(super) struct ChargedVec<T> {
    space: Arc<Space>,
    purpose: Purpose,
    items: Vec<T>,
    charged: u64,
}

impl<T> ChargedVec<T> {
    pub(super) fn new(space: &Arc<Space>, purpose: Purpose) -> ChargedVec<T> {
        ChargedVec { space: Arc::clone(space), purpose, items: Vec::new(), charged: 0 }
    }

    /// Makes sure that one more [`ChargedVec::push`] cannot fail.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`.
    pub(super) fn reserve_one(&mut self) -> Result<()> {
        if self.items.len() < self.items.capacity() {
            return Ok(());
        }
        let more = self.items.capacity().max(4);
        let bytes = (more * size_of::<T>()) as u64;
        let charge = self.space.charged(Kind::Metadata, bytes, self.purpose)?;
        allocation!("charged.grow")?;
        self.items.try_reserve_exact(more)?;
        charge.keep();
        self.charged += bytes;
        Ok(())
    }

    /// Appends `item`.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`.
    pub(super) fn push(&mut self, item: T) -> Result<()> {
        self.reserve_one()?;
        self.items.push(item);
        Ok(())
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut T> {
        self.items.last_mut()
    }
}

impl<T> Deref for ChargedVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<T> Drop for ChargedVec<T> {
    fn drop(&mut self) {
        self.items = Vec::new();
        self.space.release(Kind::Metadata, self.charged);
    }
}
