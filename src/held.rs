//! What is given up inside the gate.
//!
//! Promises: whatever the value's drop frees (the last hold of a file, a view's blocks, a whole tree), a fork of
//! another thread waits until that is done, so that the child never inherits half of it.

use std::ops::Deref;

use ermfs_core::gate;

/// A value whose drop is work on a filesystem. `None` only while it is being dropped.
#[derive(Clone)]
pub(crate) struct Held<T>(Option<T>);

impl<T> Held<T> {
    pub(crate) fn new(value: T) -> Held<T> {
        Held(Some(value))
    }
}

impl<T> Deref for Held<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.0.as_ref().expect("held until dropped")
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        let _inside = gate::enter();
        self.0 = None;
    }
}
