//! `std::sync::Arc` that notes who makes its owners more or fewer. See the module above.

use core::ops::Deref;
use std::sync::Arc as Plain;

use super::count::{Kind, note};

/// `std::sync::Arc`, noted.
pub struct Arc<T>(Plain<T>);

impl<T> Arc<T> {
    /// As std's.
    pub fn new(value: T) -> Arc<T> {
        Arc(Plain::new(value))
    }

    /// As std's.
    pub fn ptr_eq(this: &Arc<T>, other: &Arc<T>) -> bool {
        Plain::ptr_eq(&this.0, &other.0)
    }

    /// As std's.
    pub fn strong_count(this: &Arc<T>) -> usize {
        Plain::strong_count(&this.0)
    }

    /// Where the count is: two words come before the value.
    fn count(&self) -> *const usize {
        let before = (2 * size_of::<usize>()).next_multiple_of(align_of::<T>());
        Plain::as_ptr(&self.0).cast::<usize>().wrapping_byte_sub(before)
    }
}

impl<T> Clone for Arc<T> {
    #[inline]
    #[track_caller]
    fn clone(&self) -> Arc<T> {
        note(self.count(), Kind::ReadModifyWrite);
        Arc(Plain::clone(&self.0))
    }
}

impl<T> Drop for Arc<T> {
    #[inline]
    fn drop(&mut self) {
        note(self.count(), Kind::ReadModifyWrite);
    }
}

impl<T> Deref for Arc<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}
