//! What a memory checker is told of arenas, which it would otherwise take for memory that is always in use.
//!
//! Promises, in a build with the feature `check-memory`: what belongs to nobody is poisoned, so that AddressSanitizer (if
//! built with it) or Valgrind (if run by it) reports whoever touches it; what is handed out is open for exactly the bytes
//! that were asked for, and Valgrind takes them for uninitialised; and what is freed stays so for a while before it is handed
//! out again ([`Quarantine`]). The allocators' own words between the pieces are open to the allocator only. In other builds
//! none of this costs an instruction. Never reads or writes the memory itself.
//!
//! What comes from the process's malloc (counted values, boxes, vectors, also those that the collector frees) is not told
//! here: both checkers put themselves in malloc's place.

#[cfg(all(feature = "check-memory", address_sanitizer))]
#[path = "poison/asan.rs"]
mod checker;
#[cfg(all(feature = "check-memory", not(address_sanitizer)))]
#[path = "poison/valgrind.rs"]
mod checker;
#[cfg(not(feature = "check-memory"))]
mod checker {
    #[inline(always)]
    pub(super) fn no_access(_start: *const u8, _len: usize) {}
    #[inline(always)]
    pub(super) fn undefined(_start: *const u8, _len: usize) {}
    #[inline(always)]
    pub(super) fn defined(_start: *const u8, _len: usize) {}
}

/// Nobody may touch these bytes from now on.
///
/// # Safety
/// They are memory of the caller's, and nobody uses them.
#[inline(always)]
pub(crate) unsafe fn close(start: *const u8, len: usize) {
    checker::no_access(start, len);
}

/// These bytes are a new owner's. `start` is a multiple of 8.
///
/// # Safety
/// They are memory of the caller's; what they hold is of no interest to anybody.
#[inline(always)]
pub(crate) unsafe fn hand_out(start: *const u8, len: usize) {
    checker::undefined(start, len);
}

/// These bytes, which hold something, may be touched again. `start` is a multiple of 8.
///
/// # Safety
/// They are memory of the caller's, and were written.
#[inline(always)]
pub(crate) unsafe fn open(start: *const u8, len: usize) {
    checker::defined(start, len);
}

/// What was freed last, kept from being handed out again. Without the feature `check-memory` it keeps nothing, and has no lock.
pub(crate) struct Quarantine<T>(kept::Kept<T>);

impl<T> Quarantine<T> {
    pub(crate) const fn new() -> Quarantine<T> {
        Quarantine(kept::Kept::new())
    }

    /// Keeps `freed`, and gives back what is to be freed really.
    #[inline(always)]
    pub(crate) fn keep(&self, freed: T) -> Option<T> {
        self.0.keep(freed)
    }

    /// Gives back something that was kept, until there is nothing.
    #[inline(always)]
    pub(crate) fn take(&self) -> Option<T> {
        self.0.take()
    }
}

#[cfg(feature = "check-memory")]
mod kept {
    use crate::sync::Mutex;

    /// How many things are kept: with blocks or members of 64 KiB, 8 MiB.
    pub(super) const MOST: usize = 128;

    pub(super) struct Kept<T>(Mutex<Ring<T>>);

    struct Ring<T> {
        things: [Option<T>; MOST],
        /// Where the oldest is, or an empty place.
        next: usize,
    }

    impl<T> Kept<T> {
        pub(super) const fn new() -> Kept<T> {
            Kept(Mutex::new(Ring { things: [const { None }; MOST], next: 0 }))
        }

        pub(super) fn keep(&self, freed: T) -> Option<T> {
            let mut ring = self.0.lock();
            let at = ring.next;
            ring.next = (at + 1) % MOST;
            ring.things[at].replace(freed)
        }

        pub(super) fn take(&self) -> Option<T> {
            self.0.lock().things.iter_mut().find_map(Option::take)
        }
    }
}

#[cfg(not(feature = "check-memory"))]
mod kept {
    pub(super) struct Kept<T>(core::marker::PhantomData<fn(T)>);

    impl<T> Kept<T> {
        pub(super) const fn new() -> Kept<T> {
            Kept(core::marker::PhantomData)
        }

        #[inline(always)]
        pub(super) fn keep(&self, freed: T) -> Option<T> {
            Some(freed)
        }

        #[inline(always)]
        pub(super) fn take(&self) -> Option<T> {
            None
        }
    }
}

#[cfg(all(test, feature = "check-memory"))]
mod tests {
    use super::Quarantine;
    use super::kept::MOST;

    #[test]
    fn what_was_freed_comes_back_in_order_and_once() {
        let quarantine = Quarantine::new();
        assert!((0..MOST).all(|i| quarantine.keep(i).is_none()));
        assert!((0..2 * MOST).all(|i| quarantine.keep(MOST + i) == Some(i)));
        let mut rest: Vec<usize> = core::iter::from_fn(|| quarantine.take()).collect();
        rest.sort_unstable();
        assert!(rest.into_iter().eq(2 * MOST..3 * MOST));
        assert!(quarantine.keep(0).is_none());
    }
}
