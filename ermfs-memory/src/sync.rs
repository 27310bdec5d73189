//! Where this crate and the engine get their atomics and locks from.
//!
//! Promises: the names and meanings of `core::sync::atomic`, of parking_lot's locks and of `std::sync::Arc`, and without the
//! feature `count-atomics` nothing else: these very types. With it they are wrappers that do the same and note each access
//! that `count` was asked to record, so that a bench can say what a call writes to memory and who else uses it. Owns
//! nothing but the records.

#[cfg(not(feature = "count-atomics"))]
pub use core::sync::atomic;
#[cfg(not(feature = "count-atomics"))]
pub use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
#[cfg(not(feature = "count-atomics"))]
pub use std::sync::Arc;

#[cfg(feature = "count-atomics")]
mod arc;
#[cfg(feature = "count-atomics")]
pub mod atomic;
#[cfg(feature = "count-atomics")]
pub mod count;
#[cfg(feature = "count-atomics")]
mod locks;

#[cfg(feature = "count-atomics")]
pub use arc::Arc;
#[cfg(feature = "count-atomics")]
pub use locks::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
