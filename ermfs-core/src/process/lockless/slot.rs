//! One counted reference that threads read and replace without a lock.
//!
//! Promises: a reader under a pin sees the value that is in, whose memory stays for as long as the pin, and gets a
//! reference of its own if it wants one; whoever takes the content out gets the slot's reference and drops it where it
//! likes, which is not under a pin. Reading writes nothing. Owns the reference. See the protocol of the module above.

use core::marker::PhantomData;
use core::ptr::{self, NonNull};

use ermfs_memory::{Counted, Reclaim};

use crate::epoch::{self, Guard};
use crate::sync::atomic::{
    AtomicPtr,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
};

/// A flag that the slot's owner keeps beside the reference.
const FLAG: usize = 1;

/// Room for a `Counted<T, R>` and one flag.
pub(in crate::process) struct Slot<T, R: Reclaim<T>> {
    /// What `Counted::into_raw` gave, or null, with the flag in the lowest bit.
    word: AtomicPtr<T>,
    owns: PhantomData<Counted<T, R>>,
}

#[cfg(not(loom))]
// SAFETY: null without a flag is an empty slot.
unsafe impl<T, R: Reclaim<T>> ermfs_memory::Zeroable for Slot<T, R> {}

// SAFETY: a slot hands `Counted<T, R>` and `&T` between threads.
unsafe impl<T: Send + Sync, R: Reclaim<T>> Sync for Slot<T, R> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync, R: Reclaim<T>> Send for Slot<T, R> {}

/// What a slot held at a moment under the pin that `'g` is the life of.
pub(in crate::process) struct Seen<'g, T, R: Reclaim<T>> {
    raw: NonNull<T>,
    guard: &'g Guard,
    shared: PhantomData<Counted<T, R>>,
}

impl<'g, T, R: Reclaim<T>> Seen<'g, T, R> {
    /// The value; it may have lost its last owner.
    #[inline]
    pub(in crate::process) fn get(&self) -> &'g T {
        // SAFETY: found in the slot under the pin; a value is retired only when it has no owner, and the slot is one.
        unsafe { epoch::look(self.raw, self.guard) }
    }

    /// S6: whether the value has an owner still, so that what it answered before was its own.
    #[inline]
    pub(in crate::process) fn has_owner(&self) -> bool {
        // SAFETY: as in `get`.
        unsafe { Counted::<T, R>::has_owner(self.raw) }
    }
}

impl<T, R: Reclaim<T>> Slot<T, R> {
    #[cfg(not(loom))]
    pub(in crate::process) const fn empty() -> Slot<T, R> {
        Slot { word: AtomicPtr::new(ptr::null_mut()), owns: PhantomData }
    }

    #[cfg(loom)]
    pub(in crate::process) fn empty() -> Slot<T, R> {
        Slot { word: AtomicPtr::new(ptr::null_mut()), owns: PhantomData }
    }

    /// What is in it, for as long as the pin.
    #[inline]
    pub(in crate::process) fn see<'g>(&self, guard: &'g Guard) -> Option<Seen<'g, T, R>> {
        // S2.
        pointer(self.word.load(Acquire)).map(|raw| Seen { raw, guard, shared: PhantomData })
    }

    /// One more reference to what is in it.
    #[inline]
    pub(in crate::process) fn get(&self) -> Option<Counted<T, R>> {
        let guard = epoch::pin();
        loop {
            let seen = self.see(&guard)?;
            seen.get();
            // SAFETY: as in `Seen::get`, the memory stays for as long as the pin.
            if let Some(shared) = unsafe { Counted::try_share_raw(seen.raw) } {
                return Some(shared);
            }
            // Nobody owns it any more, so the slot does not: it has something else by now, or nothing.
        }
    }

    /// Whether `value` is what is in it now. Sequentially consistent with taking it out, after a fence (D4).
    pub(in crate::process) fn holds(&self, value: &Counted<T, R>) -> bool {
        pointer(self.word.load(Acquire)) == Some(value.as_raw())
    }

    /// S1: fills an empty slot that nobody else may fill.
    #[inline]
    pub(in crate::process) fn publish(&self, value: Counted<T, R>, flag: bool) {
        debug_assert!(pointer(self.word.load(Relaxed)).is_none(), "a claimed number was open");
        self.word.store(word_of(value, flag), Release);
    }

    /// Puts `value` in the place of what is there, which is the answer; in an empty slot it is not put, but given back.
    pub(in crate::process) fn exchange(
        &self,
        value: Counted<T, R>,
        flag: bool,
    ) -> Result<Counted<T, R>, Counted<T, R>> {
        let new = word_of(value, flag);
        let exchanged = self.word.fetch_update(SeqCst, Acquire, |now| pointer(now).map(|_| new));
        // SAFETY: what was swapped out, or `new` if it was not put in, came from `into_raw` and is taken back once.
        let out =
            |word: *mut T| unsafe { Counted::from_raw_reclaimed(NonNull::new_unchecked(untagged(word))) };
        exchanged.map(out).map_err(|_| out(new))
    }

    /// S3: takes out what is in it. Writes nothing when that is nothing: somebody may be about to fill it.
    #[inline]
    pub(in crate::process) fn take(&self) -> Option<Counted<T, R>> {
        let empty = |now| pointer(now).map(|_| ptr::null_mut());
        let old = self.word.fetch_update(SeqCst, Acquire, empty).ok()?;
        // SAFETY: it came from `into_raw`, and having been swapped out it is taken back once.
        pointer(old).map(|raw| unsafe { Counted::from_raw_reclaimed(raw) })
    }

    /// Puts `value` in and gives back what was there.
    pub(in crate::process) fn replace(&self, value: Option<Counted<T, R>>) -> Option<Counted<T, R>> {
        let new = value.map_or(ptr::null_mut(), |value| word_of(value, false));
        let old = self.word.swap(new, AcqRel);
        // SAFETY: as in `take`.
        pointer(old).map(|raw| unsafe { Counted::from_raw_reclaimed(raw) })
    }

    /// The flag, unless the slot is empty.
    pub(super) fn flag(&self) -> Option<bool> {
        let word = self.word.load(Relaxed);
        pointer(word).map(|_| word.addr() & FLAG != 0)
    }

    /// Sets the flag; `None` when the slot is empty.
    pub(super) fn set_flag(&self, on: bool) -> Option<()> {
        let change = |word: *mut T| {
            pointer(word).map(|_| word.map_addr(|addr| if on { addr | FLAG } else { addr & !FLAG }))
        };
        // AcqRel, so that who reads the pointer from this store sees what is behind it.
        self.word.fetch_update(AcqRel, Relaxed, change).ok().map(|_| ())
    }
}

impl<T, R: Reclaim<T>> Drop for Slot<T, R> {
    fn drop(&mut self) {
        drop(self.replace(None));
    }
}

#[inline]
fn untagged<T>(word: *mut T) -> *mut T {
    word.map_addr(|address| address & !FLAG)
}

#[inline]
fn pointer<T>(word: *mut T) -> Option<NonNull<T>> {
    NonNull::new(untagged(word))
}

#[inline]
fn word_of<T, R: Reclaim<T>>(value: Counted<T, R>, flag: bool) -> *mut T {
    value.into_raw().as_ptr().map_addr(|address| address | if flag { FLAG } else { 0 })
}
