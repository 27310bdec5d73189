//! parking_lot's locks that note who takes them and lets them go. See the module above.
//!
//! Taking one is one read-modify-write of its word, and so is letting it go; what threads do that wait is not noted.

use parking_lot::lock_api;

use super::count::{Kind, note};

/// parking_lot's mutex, noted.
pub type Mutex<T> = lock_api::Mutex<RawMutex, T>;
/// Its guard.
pub type MutexGuard<'a, T> = lock_api::MutexGuard<'a, RawMutex, T>;
/// parking_lot's readers-writer lock, noted.
pub type RwLock<T> = lock_api::RwLock<RawRwLock, T>;
/// Its guard of a reader.
pub type RwLockReadGuard<'a, T> = lock_api::RwLockReadGuard<'a, RawRwLock, T>;
/// Its guard of a writer.
pub type RwLockWriteGuard<'a, T> = lock_api::RwLockWriteGuard<'a, RawRwLock, T>;

/// The word of a [`Mutex`].
#[repr(transparent)]
pub struct RawMutex(parking_lot::RawMutex);

// SAFETY: each method is parking_lot's.
unsafe impl lock_api::RawMutex for RawMutex {
    #[allow(clippy::declare_interior_mutable_const, reason = "how lock_api has a lock begin")]
    const INIT: RawMutex = RawMutex(<parking_lot::RawMutex as lock_api::RawMutex>::INIT);
    type GuardMarker = <parking_lot::RawMutex as lock_api::RawMutex>::GuardMarker;

    #[inline]
    #[track_caller]
    fn lock(&self) {
        note(self, Kind::ReadModifyWrite);
        self.0.lock();
    }

    #[inline]
    #[track_caller]
    fn try_lock(&self) -> bool {
        note(self, Kind::ReadModifyWrite);
        self.0.try_lock()
    }

    #[inline]
    #[track_caller]
    unsafe fn unlock(&self) {
        note(self, Kind::ReadModifyWrite);
        // SAFETY: by contract.
        unsafe { self.0.unlock() };
    }

    fn is_locked(&self) -> bool {
        self.0.is_locked()
    }
}

/// The word of a [`RwLock`].
#[repr(transparent)]
pub struct RawRwLock(parking_lot::RawRwLock);

// SAFETY: each method is parking_lot's.
unsafe impl lock_api::RawRwLock for RawRwLock {
    #[allow(clippy::declare_interior_mutable_const, reason = "how lock_api has a lock begin")]
    const INIT: RawRwLock = RawRwLock(<parking_lot::RawRwLock as lock_api::RawRwLock>::INIT);
    type GuardMarker = <parking_lot::RawRwLock as lock_api::RawRwLock>::GuardMarker;

    #[inline]
    #[track_caller]
    fn lock_shared(&self) {
        note(self, Kind::ReadModifyWrite);
        self.0.lock_shared();
    }

    #[inline]
    #[track_caller]
    fn try_lock_shared(&self) -> bool {
        note(self, Kind::ReadModifyWrite);
        self.0.try_lock_shared()
    }

    #[inline]
    #[track_caller]
    unsafe fn unlock_shared(&self) {
        note(self, Kind::ReadModifyWrite);
        // SAFETY: by contract.
        unsafe { self.0.unlock_shared() };
    }

    #[inline]
    #[track_caller]
    fn lock_exclusive(&self) {
        note(self, Kind::ReadModifyWrite);
        self.0.lock_exclusive();
    }

    #[inline]
    #[track_caller]
    fn try_lock_exclusive(&self) -> bool {
        note(self, Kind::ReadModifyWrite);
        self.0.try_lock_exclusive()
    }

    #[inline]
    #[track_caller]
    unsafe fn unlock_exclusive(&self) {
        note(self, Kind::ReadModifyWrite);
        // SAFETY: by contract.
        unsafe { self.0.unlock_exclusive() };
    }

    fn is_locked(&self) -> bool {
        self.0.is_locked()
    }
}
