//! How a value that readers reach without counting goes: it ends at once, its memory later.
//!
//! Promises: [`Ends::end`] runs once, in the thread that let the last counted reference go; the memory is freed there and
//! then, unless there are readers that only pin: then after every pin that could have seen the value. Owns the word that
//! says whether there are such readers.

use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use ermfs_memory::sync::atomic::AtomicBool;
use ermfs_memory::{Ownerless, Reclaim};

use crate::epoch;
use crate::sync::atomic::{
    Ordering::{Relaxed, Release},
    fence,
};

/// What a value gives up with its last owner. Readers with a pin may look at it during and after that.
pub trait Ends: Sized {
    /// Called once, inside the [gate](crate::gate). What readers may look at must outlive their pins, so this frees none of
    /// it directly.
    fn end(&self);

    /// Frees the memory of a value that has ended, as soon as nobody looks at it.
    fn free(ended: Ownerless<Self>) {
        if has_pinning_readers() {
            // SAFETY: without an owner nobody new finds the value (a slot that names it owns it, and gives out no
            // reference once the count is zero); this is the only way it is freed.
            unsafe { epoch::retire(ended.into_raw(), size_of::<Self>(), free::<Self>, &epoch::pin()) };
        }
    }
}

/// Ends a value at once; see the module's page.
pub struct ByEpoch;

/// Whether a table was made whose readers only pin. Set before anything is in it.
static PINNING_READERS: AtomicBool = AtomicBool::new(false);

/// Whether there may be readers that only pin.
#[inline]
pub(super) fn has_pinning_readers() -> bool {
    PINNING_READERS.load(Relaxed)
}

/// To be called before anything is put where readers find it that only pin.
pub(super) fn expect_pinning_readers() {
    PINNING_READERS.store(true, Relaxed);
}

impl<T: Ends> Reclaim<T> for ByEpoch {
    #[inline]
    fn reclaim(value: Ownerless<T>) {
        // Retiring is an affair of the library too, also for who lets a description go outside of any call.
        let _inside = crate::gate::enter();
        // Who reads what `end` changes also reads, after that and an acquiring fence, that there is no owner.
        fence(Release);
        let memory = Memory(ManuallyDrop::new(value));
        memory.0.end();
    }
}

/// The memory of a value that ends; freed when dropped, also by a panic of the value's end.
struct Memory<T: Ends>(ManuallyDrop<Ownerless<T>>);

impl<T: Ends> Drop for Memory<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `drop` runs once, and nothing uses the field after it.
        T::free(unsafe { ManuallyDrop::take(&mut self.0) });
    }
}

/// # Safety
/// `value` came from `Ownerless::into_raw`, and nobody looks at it any more.
unsafe fn free<T>(value: NonNull<T>) {
    // SAFETY: by contract, once.
    drop(unsafe { Ownerless::from_raw(value) });
}
