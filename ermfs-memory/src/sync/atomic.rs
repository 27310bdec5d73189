//! The atomics of `core` that note who touches them. See the module above.
//!
//! A wrapper lies in memory as what it wraps, and lends it: what is not wrapped goes by unnoted.

use core::fmt;
use core::ops::{Deref, DerefMut};
use core::sync::atomic as plain;

pub use plain::{Ordering, compiler_fence, fence};

use super::count::{Kind, note};

/// The methods that every atomic has.
macro_rules! common {
    ($name:ident $(<$generic:ident>)?, $value:ty) => {
        impl $(<$generic>)? $name $(<$generic>)? {
            /// As `core`'s.
            pub const fn new(value: $value) -> Self {
                Self(plain::$name::new(value))
            }

            /// As `core`'s.
            #[inline]
            #[track_caller]
            pub fn load(&self, order: Ordering) -> $value {
                note(self, Kind::Load);
                self.0.load(order)
            }

            /// As `core`'s.
            #[inline]
            #[track_caller]
            pub fn store(&self, value: $value, order: Ordering) {
                note(self, Kind::Store);
                self.0.store(value, order);
            }

            /// As `core`'s.
            #[inline]
            #[track_caller]
            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                note(self, Kind::ReadModifyWrite);
                self.0.swap(value, order)
            }

            /// As `core`'s.
            ///
            /// # Errors
            /// As there.
            #[inline]
            #[track_caller]
            pub fn compare_exchange(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                note(self, Kind::ReadModifyWrite);
                self.0.compare_exchange(old, new, success, failure)
            }

            /// As `core`'s.
            ///
            /// # Errors
            /// As there.
            #[inline]
            #[track_caller]
            pub fn compare_exchange_weak(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                note(self, Kind::ReadModifyWrite);
                self.0.compare_exchange_weak(old, new, success, failure)
            }

            /// As `core`'s.
            ///
            /// # Errors
            /// As there.
            #[inline]
            #[track_caller]
            pub fn fetch_update(
                &self,
                set: Ordering,
                fetch: Ordering,
                mut change: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                let mut old = self.load(fetch);
                while let Some(new) = change(old) {
                    match self.compare_exchange_weak(old, new, set, fetch) {
                        Ok(old) => return Ok(old),
                        Err(now) => old = now,
                    }
                }
                Err(old)
            }

            /// As `core`'s.
            pub fn into_inner(self) -> $value {
                self.0.into_inner()
            }
        }

        impl $(<$generic>)? Deref for $name $(<$generic>)? {
            type Target = plain::$name $(<$generic>)?;

            #[inline]
            fn deref(&self) -> &Self::Target {
                &self.0
            }
        }

        impl $(<$generic>)? DerefMut for $name $(<$generic>)? {
            #[inline]
            fn deref_mut(&mut self) -> &mut Self::Target {
                &mut self.0
            }
        }

        impl $(<$generic>)? Default for $name $(<$generic>)? {
            fn default() -> Self {
                Self(Default::default())
            }
        }

        impl $(<$generic>)? fmt::Debug for $name $(<$generic>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

/// The methods of those that change a value by another.
macro_rules! fetches {
    ($name:ident, $value:ty: $($method:ident)*) => {
        impl $name {$(
            /// As `core`'s.
            #[inline]
            #[track_caller]
            pub fn $method(&self, value: $value, order: Ordering) -> $value {
                note(self, Kind::ReadModifyWrite);
                self.0.$method(value, order)
            }
        )*}
    };
}

macro_rules! integers {
    ($($name:ident $value:ty)*) => {$(
        #[doc = concat!("`core::sync::atomic::", stringify!($name), "`, noted.")]
        #[repr(transparent)]
        pub struct $name(plain::$name);

        common!($name, $value);
        fetches!($name, $value: fetch_add fetch_sub fetch_and fetch_or fetch_xor fetch_max fetch_min);
    )*};
}

integers! {
    AtomicU8 u8
    AtomicU16 u16
    AtomicU32 u32
    AtomicU64 u64
    AtomicUsize usize
    AtomicI32 i32
    AtomicI64 i64
}

/// `core::sync::atomic::AtomicBool`, noted.
#[repr(transparent)]
pub struct AtomicBool(plain::AtomicBool);

common!(AtomicBool, bool);
fetches!(AtomicBool, bool: fetch_and fetch_or fetch_xor);

/// `core::sync::atomic::AtomicPtr`, noted.
#[repr(transparent)]
pub struct AtomicPtr<T>(plain::AtomicPtr<T>);

common!(AtomicPtr<T>, *mut T);
