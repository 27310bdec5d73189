//! A reference-counted value whose allocation can fail.
//!
//! Promises what `std::sync::Arc` promises without its weak references: shared ownership across threads, the value
//! dropped exactly once, by whoever lets go last, after everything that other owners did with it. Differs in that
//! creating one returns an error instead of aborting, in that there is one count, next to the value, and in that a type may
//! say what becomes of a value without owners ([`Reclaim`]): the lockless mode leaves the memory to readers that do not
//! count. Owns one heap allocation per value.
//!
//! Order: letting go is a Release decrement, and the last owner's Acquire load of 0 (or one that finds 1) makes
//! all earlier owners' accesses happen before the drop or the exclusive access. Who reaches a value without owning it
//! becomes an owner by compare-and-swap from a count that is not zero, which it never is again after it was.

#[cfg(not(loom))]
use crate::sync::atomic::{AtomicUsize, fence};
use crate::{AllocError, inject};
use core::alloc::Layout;
use core::fmt;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, offset_of};
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
#[cfg(loom)]
use loom::sync::atomic::{AtomicUsize, fence};
use std::alloc::{alloc, dealloc};

/// The count comes first, so that a value of any alignment lies at a multiple of 8.
#[repr(C, align(8))]
struct Inner<T> {
    count: AtomicUsize,
    value: T,
}

/// Shared ownership of a `T`; see the module's text. One pointer wide, never null, and `Option<Counted<T>>` is no
/// larger.
///
/// A raw pointer to the value ([`Counted::into_raw`]) is a multiple of 8: its three lowest bits are free for tags.
pub struct Counted<T, R: Reclaim<T> = AtOnce> {
    inner: NonNull<Inner<T>>,
    owns: PhantomData<(Inner<T>, R)>,
}

/// What becomes of a value when its last owner has gone.
pub trait Reclaim<T> {
    /// Called once, by the thread that let go last. Dropping `value` drops it and frees its memory.
    fn reclaim(value: Ownerless<T>);
}

/// Dropped and freed there and then.
pub struct AtOnce;

impl<T> Reclaim<T> for AtOnce {
    #[inline]
    fn reclaim(value: Ownerless<T>) {
        drop(value);
    }
}

/// A value that no [`Counted`] owns any more. Dropping this drops the value and frees its memory.
pub struct Ownerless<T> {
    inner: NonNull<Inner<T>>,
    owns: PhantomData<Inner<T>>,
}

// SAFETY: as for `Arc`: owners on several threads share `&T` (hence `T: Sync`), and any one may be the last and drop
// the value (hence `T: Send`); the count is atomic.
unsafe impl<T: Send + Sync, R: Reclaim<T>> Send for Counted<T, R> {}
// SAFETY: as above; `&Counted<T>` can be cloned into an owner.
unsafe impl<T: Send + Sync, R: Reclaim<T>> Sync for Counted<T, R> {}

impl<T> Counted<T> {
    /// Moves `value` into an allocation of its own, with one owner.
    ///
    /// # Errors
    /// [`AllocError::Memory`], and the value back, when the allocator has no memory.
    #[cfg_attr(feature = "injector", track_caller)]
    pub fn try_new(value: T) -> Result<Counted<T>, (AllocError, T)> {
        Counted::try_new_reclaimed(value)
    }

    /// What one value takes of the heap, in bytes: the count, the value, and the word and rounding that a malloc of
    /// 16-byte granularity (glibc's) adds. The amount to charge.
    pub const fn footprint() -> u64 {
        let size = (Self::LAYOUT.size() + 8).next_multiple_of(16);
        // Above malloc's own alignment the allocator aligns by hand and loses up to the alignment.
        let align = if Self::LAYOUT.align() > 16 { Self::LAYOUT.align() } else { 0 };
        (if size < 32 { 32 } else { size } + align) as u64
    }

    /// As [`Counted::from_raw_reclaimed`], of a value that is dropped at once.
    ///
    /// # Safety
    /// As there.
    pub unsafe fn from_raw(raw: NonNull<T>) -> Counted<T> {
        // SAFETY: by contract.
        unsafe { Counted::from_raw_reclaimed(raw) }
    }

    /// As [`Counted::share_raw_reclaimed`], of a value that is dropped at once.
    ///
    /// # Safety
    /// As there.
    pub unsafe fn share_raw(raw: NonNull<T>) -> Counted<T> {
        // SAFETY: by contract.
        unsafe { Counted::share_raw_reclaimed(raw) }
    }
}

impl<T, R: Reclaim<T>> Counted<T, R> {
    const LAYOUT: Layout = Layout::new::<Inner<T>>();

    /// As [`Counted::try_new`], `R` saying what becomes of the value in the end.
    ///
    /// # Errors
    /// As [`Counted::try_new`].
    #[cfg_attr(feature = "injector", track_caller)]
    pub fn try_new_reclaimed(value: T) -> Result<Counted<T, R>, (AllocError, T)> {
        match Unfilled::new() {
            Ok(memory) => Ok(memory.fill(value)),
            Err(error) => Err((error, value)),
        }
    }

    fn count(&self) -> &AtomicUsize {
        // SAFETY: `self` owns a reference, so the allocation lives.
        unsafe { &self.inner.as_ref().count }
    }

    /// Whether this is the only owner. While the caller holds the only `Counted` by value or by `&mut`, nobody else can
    /// change a `true` answer.
    pub fn is_unique(&self) -> bool {
        self.count().load(Acquire) == 1
    }

    /// The value for changing, if this is the only owner.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        if !self.is_unique() {
            return None;
        }
        // SAFETY: the only owner is borrowed exclusively, and `is_unique`'s Acquire load ordered former owners'
        // accesses before this.
        Some(unsafe { &mut self.inner.as_mut().value })
    }

    /// Whether both own the same value.
    pub fn ptr_eq(&self, other: &Counted<T, R>) -> bool {
        self.inner == other.inner
    }

    /// The value's address, which stays the same and valid as long as there is an owner. A multiple of 8.
    pub fn as_raw(&self) -> NonNull<T> {
        // SAFETY: the allocation lives and holds an `Inner<T>`; the field's address is inside it and not null.
        unsafe { NonNull::new_unchecked(&raw mut (*self.inner.as_ptr()).value) }
    }

    /// Gives up this owner without giving up its reference: [`Counted::from_raw_reclaimed`] takes it back. A multiple of 8.
    pub fn into_raw(self) -> NonNull<T> {
        ManuallyDrop::new(self).as_raw()
    }

    /// Takes back the reference that a call of [`Counted::into_raw`] left behind.
    ///
    /// # Safety
    /// `raw` must have come from `into_raw` of the same `T` (tags removed), and each such reference may be taken back
    /// once.
    pub unsafe fn from_raw_reclaimed(raw: NonNull<T>) -> Counted<T, R> {
        // SAFETY: by contract `raw` is the `value` field of an `Inner<T>`.
        Counted { inner: unsafe { inner_of(raw) }, owns: PhantomData }
    }

    /// One more owner of the value at `raw`, whose own reference stays where it is.
    ///
    /// # Safety
    /// `raw` must have come from `into_raw` or `as_raw` of the same `T` (tags removed), and the value must have an
    /// owner during the call (a reference that is held, or one that cannot be dropped yet because the epoch is pinned).
    pub unsafe fn share_raw_reclaimed(raw: NonNull<T>) -> Counted<T, R> {
        // SAFETY: by contract; the extra `Counted` is not dropped, so the count it stands for is not taken away.
        let held = ManuallyDrop::new(unsafe { Counted::<T, R>::from_raw_reclaimed(raw) });
        Counted::clone(&held)
    }

    /// One more owner of the value at `raw`, unless it has none left (`None`).
    ///
    /// # Safety
    /// `raw` must have come from `into_raw` or `as_raw` of the same `T` (tags removed), and its memory must not be freed
    /// during the call.
    #[inline]
    pub unsafe fn try_share_raw(raw: NonNull<T>) -> Option<Counted<T, R>> {
        // SAFETY: by contract.
        let inner = unsafe { inner_of(raw) };
        // SAFETY: by contract the memory is there, and a count is never borrowed exclusively.
        let count = unsafe { &(*inner.as_ptr()).count };
        let mut owners = count.load(Relaxed);
        while owners != 0 {
            // Acquire on failure too: who is told that nobody is left sees what the last owner did before.
            match count.compare_exchange_weak(owners, owners + 1, Relaxed, Acquire) {
                Ok(_) => return Some(Counted { inner, owns: PhantomData }),
                Err(now) => owners = now,
            }
        }
        fence(Acquire);
        None
    }

    /// Whether the value at `raw` still has an owner. What the caller has read of it before a `true` was read while it had.
    ///
    /// # Safety
    /// As for [`Counted::try_share_raw`].
    #[inline]
    pub unsafe fn has_owner(raw: NonNull<T>) -> bool {
        // What was read before must not be read after.
        fence(Acquire);
        // SAFETY: by contract.
        unsafe { &(*inner_of(raw).as_ptr()).count }.load(Relaxed) != 0
    }

    /// The last owner's part of `drop`, kept out of the common path.
    #[cold]
    #[inline(never)]
    fn reclaim(&mut self) {
        R::reclaim(Ownerless { inner: self.inner, owns: PhantomData });
    }
}

/// Memory for one counted value that is not there yet: for a call that must not fail any more once it has what the value is
/// made of. Dropping it frees the memory.
pub struct Unfilled<T, R: Reclaim<T> = AtOnce> {
    inner: NonNull<Inner<T>>,
    owns: PhantomData<(Inner<T>, R)>,
}

impl<T, R: Reclaim<T>> Unfilled<T, R> {
    /// # Errors
    /// [`AllocError::Memory`], when the allocator has no memory.
    #[inline]
    #[cfg_attr(feature = "injector", track_caller)]
    pub fn new() -> Result<Unfilled<T, R>, AllocError> {
        inject::allocation("counted")?;
        // SAFETY: `Inner` holds a counter, so the layout's size is not 0.
        let pointer = unsafe { alloc(Counted::<T, R>::LAYOUT) }.cast::<Inner<T>>();
        let inner = NonNull::new(pointer).ok_or(AllocError::Memory)?;
        Ok(Unfilled { inner, owns: PhantomData })
    }

    /// Moves `value` in; it has one owner.
    #[inline]
    pub fn fill(self, value: T) -> Counted<T, R> {
        let memory = ManuallyDrop::new(self);
        // SAFETY: memory of `Inner<T>`'s layout that nobody else knows.
        unsafe { memory.inner.write(Inner { count: AtomicUsize::new(1), value }) };
        Counted { inner: memory.inner, owns: PhantomData }
    }

    /// Where the value would be, for a later [`Unfilled::from_raw`].
    pub fn into_raw(self) -> NonNull<T> {
        let memory = ManuallyDrop::new(self);
        // SAFETY: the allocation lives; the field's address is inside it and not null.
        unsafe { NonNull::new_unchecked(&raw mut (*memory.inner.as_ptr()).value) }
    }

    /// Takes back what a call of [`Unfilled::into_raw`] left behind, or takes the memory of a value that nobody owns.
    ///
    /// # Safety
    /// `raw` must have come from `into_raw` of this or of [`Ownerless`], of the same `T`, and is taken back once. Nobody reaches
    /// the value any more, and it is not dropped.
    pub unsafe fn from_raw(raw: NonNull<T>) -> Unfilled<T, R> {
        // SAFETY: by contract.
        Unfilled { inner: unsafe { inner_of(raw) }, owns: PhantomData }
    }
}

impl<T, R: Reclaim<T>> Drop for Unfilled<T, R> {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with this layout, and there is no value in it.
        unsafe { dealloc(self.inner.as_ptr().cast(), Counted::<T, R>::LAYOUT) };
    }
}

/// The whole of which `raw` is the value.
///
/// # Safety
/// `raw` is the `value` field of an `Inner<T>` and was derived from a pointer to the whole.
#[inline]
unsafe fn inner_of<T>(raw: NonNull<T>) -> NonNull<Inner<T>> {
    // SAFETY: by contract.
    unsafe { raw.byte_sub(offset_of!(Inner<T>, value)).cast::<Inner<T>>() }
}

impl<T> Ownerless<T> {
    /// The value's address, for a later [`Ownerless::from_raw`].
    pub fn into_raw(self) -> NonNull<T> {
        let this = ManuallyDrop::new(self);
        // SAFETY: the allocation lives; the field's address is inside it and not null.
        unsafe { NonNull::new_unchecked(&raw mut (*this.inner.as_ptr()).value) }
    }

    /// Takes back what a call of [`Ownerless::into_raw`] left behind.
    ///
    /// # Safety
    /// `raw` must have come from `into_raw` of the same `T`, and is taken back once.
    pub unsafe fn from_raw(raw: NonNull<T>) -> Ownerless<T> {
        // SAFETY: by contract.
        Ownerless { inner: unsafe { inner_of(raw) }, owns: PhantomData }
    }
}

impl<T> Deref for Ownerless<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the value is dropped and freed by this value's drop only; `&mut` to it is given to nobody.
        unsafe { &(*self.inner.as_ptr()).value }
    }
}

impl<T> Drop for Ownerless<T> {
    fn drop(&mut self) {
        /// Frees the allocation even if the value's own drop unwinds.
        struct Allocation(NonNull<u8>, Layout);
        impl Drop for Allocation {
            fn drop(&mut self) {
                // SAFETY: allocated in `try_new_reclaimed` with this layout, and nobody owns or reaches it any more.
                unsafe { dealloc(self.0.as_ptr(), self.1) };
            }
        }
        let _allocation = Allocation(self.inner.cast(), Layout::new::<Inner<T>>());
        // SAFETY: there is no owner, and whoever reclaims drops this when nobody reaches the value any more.
        unsafe { core::ptr::drop_in_place(self.inner.as_ptr()) };
    }
}

impl<T, R: Reclaim<T>> Clone for Counted<T, R> {
    fn clone(&self) -> Counted<T, R> {
        // Relaxed: a new reference is made from one that is held, so the value cannot go away meanwhile.
        let before = self.count().fetch_add(1, Relaxed);
        debug_assert!(before > 0 && before < usize::MAX / 2, "count {before} of a shared value");
        Counted { inner: self.inner, owns: PhantomData }
    }
}

impl<T, R: Reclaim<T>> Deref for Counted<T, R> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `self` owns a reference, so the value lives, and only `get_mut` of the only owner gives out `&mut`.
        unsafe { &self.inner.as_ref().value }
    }
}

impl<T, R: Reclaim<T>> Drop for Counted<T, R> {
    fn drop(&mut self) {
        let before = self.count().fetch_sub(1, Release);
        debug_assert!(before > 0, "a value was let go more often than it was shared");
        if before == 1 {
            // Reads this decrement's 0, which all earlier ones lead to. A fence, which ThreadSanitizer does not see, costs no less.
            self.count().load(Acquire);
            self.reclaim();
        }
    }
}

impl<T: fmt::Debug, R: Reclaim<T>> fmt::Debug for Counted<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU32;

    struct Noted<'a>(&'a AtomicU32);
    impl Drop for Noted<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn counted<T>(value: T) -> Counted<T> {
        Counted::try_new(value).map_err(|(error, _)| error).unwrap()
    }

    #[test]
    fn the_last_owner_drops_the_value_once() {
        let drops = AtomicU32::new(0);
        let mut first = counted(Noted(&drops));
        assert!(first.is_unique() && first.get_mut().is_some());
        let second = first.clone();
        assert!(first.ptr_eq(&second) && !first.is_unique() && first.get_mut().is_none());
        drop(first);
        assert_eq!(drops.load(Relaxed), 0);
        assert!(second.is_unique());
        drop(second);
        assert_eq!(drops.load(Relaxed), 1);
    }

    #[test]
    fn memory_is_filled_later_or_given_back() {
        let drops = AtomicU32::new(0);
        let memory = Unfilled::<_>::new().unwrap();
        let value: Counted<_> = memory.fill(Noted(&drops));
        assert!(value.is_unique());
        drop(Unfilled::<Noted<'_>>::new().unwrap());
        assert_eq!(drops.load(Relaxed), 0);
        drop(value);
        assert_eq!(drops.load(Relaxed), 1);
    }

    #[test]
    fn memory_without_a_value_goes_out_and_comes_back() {
        let raw = Unfilled::<u64>::new().unwrap().into_raw();
        // SAFETY: `into_raw` gave it.
        let value: Counted<u64> = unsafe { Unfilled::from_raw(raw) }.fill(7);
        assert_eq!((*value, core::ptr::from_ref(&*value).addr()), (7, raw.addr().get()));
    }

    #[test]
    fn raw_references_go_out_and_come_back() {
        let drops = AtomicU32::new(0);
        let raw = counted(Noted(&drops)).into_raw();
        // SAFETY: `raw` holds the one reference.
        let shared = unsafe { Counted::share_raw(raw) };
        assert_eq!(shared.as_raw(), raw);
        // SAFETY: taken back once.
        let back = unsafe { Counted::from_raw(raw) };
        assert!(!back.is_unique());
        drop(shared);
        assert!(back.is_unique());
        drop(back);
        assert_eq!(drops.load(Relaxed), 1);
    }

    #[test]
    fn raw_pointers_leave_three_bits_for_tags() {
        #[repr(align(64))]
        #[derive(Debug, PartialEq)]
        struct Line(u8);
        for _ in 0..50 {
            let (small, large, none) = (counted(1u8), counted(Line(2)), counted(()));
            assert_eq!(small.as_raw().addr().get() % 8, 0);
            assert_eq!(none.as_raw().addr().get() % 8, 0);
            assert_eq!(large.as_raw().addr().get() % 64, 0);
            // SAFETY: taken back once.
            let (small, large) =
                unsafe { (Counted::from_raw(small.into_raw()), Counted::from_raw(large.into_raw())) };
            assert_eq!((*small, &*large), (1, &Line(2)));
        }
        assert_eq!(size_of::<Option<Counted<u8>>>(), size_of::<usize>());
    }

    #[test]
    fn footprints_are_what_malloc_takes() {
        assert_eq!(Counted::<u8>::footprint(), 32);
        assert_eq!(Counted::<[u64; 2]>::footprint(), 32);
        assert_eq!(Counted::<[u64; 3]>::footprint(), 48);
        assert_eq!(Counted::<[u64; 4]>::footprint(), 48);
        let value = counted([0u64; 20]);
        // SAFETY: the start of a live allocation of malloc, which is Rust's default allocator here.
        let usable = unsafe { libc::malloc_usable_size(value.inner.as_ptr().cast()) };
        // malloc hands out 16 bytes more where too little would remain to be of use.
        assert!(usable as u64 + 8 <= Counted::<[u64; 20]>::footprint() + 16);
    }

    #[test]
    fn a_value_whose_drop_panics_is_still_freed() {
        struct Thrower(#[expect(dead_code, reason = "gives the value memory of its own to lose")] String);
        impl Drop for Thrower {
            fn drop(&mut self) {
                panic!("from the value's drop");
            }
        }
        let value = counted(Thrower("owned".into()));
        assert!(std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| drop(value))).is_err());
    }

    /// Leaves the memory to whoever has the address; the value is not dropped before.
    struct Leave;
    impl Reclaim<Noted<'static>> for Leave {
        fn reclaim(value: Ownerless<Noted<'static>>) {
            value.0.fetch_add(100, Relaxed);
            value.into_raw();
        }
    }

    #[test]
    fn a_value_without_owners_gets_none_again() {
        static DROPS: AtomicU32 = AtomicU32::new(0);
        let made: Result<Counted<_, Leave>, _> = Counted::try_new_reclaimed(Noted(&DROPS));
        let first = made.map_err(|(error, _)| error).unwrap();
        let raw = first.as_raw();
        // SAFETY: the memory is freed below.
        unsafe {
            let second = Counted::<_, Leave>::try_share_raw(raw).unwrap();
            assert!(second.ptr_eq(&first) && Counted::<_, Leave>::has_owner(raw));
            drop((first, second));
            assert_eq!(DROPS.load(Relaxed), 100);
            assert!(!Counted::<_, Leave>::has_owner(raw));
            assert!(Counted::<_, Leave>::try_share_raw(raw).is_none());
            drop(Ownerless::from_raw(raw));
        }
        assert_eq!(DROPS.load(Relaxed), 101);
    }

    #[test]
    fn threads_share_and_let_go() {
        let drops = AtomicU32::new(0);
        let value = counted(Noted(&drops));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let mine = value.clone();
                scope.spawn(move || {
                    for _ in 0..10_000 {
                        let other = mine.clone();
                        assert!(!other.is_unique());
                    }
                });
            }
            drop(value);
        });
        assert_eq!(drops.load(Relaxed), 1);
    }
}
