//! The line between C and Rust, crossed the same way by every function of the library.
//!
//! Promises: no panic leaves, errno is set on failure and only then, a NULL where a pointer is
//! needed is EFAULT, and what comes in from C is turned into a slice, a [`Source`] or a [`Sink`]
//! here and nowhere else. Owns nothing. Never decides what a call does, never waits and never makes
//! a system call, so nothing here is held across a cancellation point.

use core::ffi::{c_char, c_int};
use core::mem::MaybeUninit;
use core::{alloc::Layout, slice};
use std::alloc;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ermfs_core::{Errno, Result, Sink, Source};

/// The longest path with its NUL, as `limits.h` has it.
const PATH_MAX: usize = libc::PATH_MAX as usize;

/// The most elements `readv(2)` and its kin take.
const IOV_MAX: c_int = 1024;

/// What a successful call answers in Rust, and how C sees it.
pub(crate) trait Answer {
    /// The type that the C function returns.
    type C;
    /// What the C function returns when it fails.
    const FAILURE: Self::C;
    /// The answer as C sees it.
    fn into_c(self) -> Self::C;
}

macro_rules! answers {
    ($($rust:ty => $c:ty, $failure:expr;)+) => {
        $(impl Answer for $rust {
            type C = $c;
            const FAILURE: $c = $failure;
            #[inline]
            fn into_c(self) -> $c {
                self as $c
            }
        })+
    };
}

// Byte counts are at most what the caller's buffers hold and offsets at most the largest off_t, so
// the casts keep the value.
answers! {
    i32 => c_int, -1;
    u32 => libc::mode_t, libc::mode_t::MAX;
    usize => libc::ssize_t, -1;
    u64 => libc::off_t, -1;
    i64 => libc::off_t, -1;
}

impl Answer for () {
    type C = c_int;
    const FAILURE: c_int = -1;
    #[inline]
    fn into_c(self) -> c_int {
        0
    }
}

impl Answer for bool {
    type C = bool;
    const FAILURE: bool = false;
    #[inline]
    fn into_c(self) -> bool {
        self
    }
}

impl<T> Answer for *mut T {
    type C = *mut T;
    const FAILURE: *mut T = core::ptr::null_mut();
    #[inline]
    fn into_c(self) -> *mut T {
        self
    }
}

/// Runs `body`; a panic in it becomes EIO, now and from then on for the filesystem it was working on.
#[inline]
pub(crate) fn guarded<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    // Nothing that a panic left half done is looked at again: `process::Operation` has poisoned the filesystem.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        // Dropping a payload runs foreign code that may panic again.
        core::mem::forget(payload);
        Err(Errno::EIO)
    })
}

/// Runs `body` and answers as C expects: its result, or the failure value with errno set.
#[inline]
pub(crate) fn answer<T: Answer>(body: impl FnOnce() -> Result<T>) -> T::C {
    match guarded(body) {
        Ok(value) => value.into_c(),
        Err(error) => {
            set_errno(error);
            T::FAILURE
        }
    }
}

/// Sets the calling thread's errno.
#[cold]
pub(crate) fn set_errno(error: Errno) {
    // SAFETY: the C library gives the address of the calling thread's own errno.
    unsafe { *libc::__errno_location() = error.raw() }
}

/// The panic boundary: the body of an exported function, in which `?` and `return Err(errno)` work.
macro_rules! boundary {
    ($($body:tt)*) => {
        $crate::boundary::answer(|| -> ::ermfs_core::Result<_> { $($body)* })
    };
}
pub(crate) use boundary;

/// The NULL check: each pointer named must be there, else the call fails with EFAULT.
macro_rules! needed {
    ($($pointer:expr),+ $(,)?) => {
        $(if $pointer.is_null() {
            return Err(::ermfs_core::Errno::EFAULT);
        })+
    };
}
pub(crate) use needed;

/// The bytes of a NUL-terminated path, without the NUL; the first PATH_MAX of them when there are so many. A path of
/// PATH_MAX bytes is too long for the engine, which says so when it has looked at the flags, as the kernel does.
///
/// # Safety
/// `path` is NULL, or readable up to its NUL or for PATH_MAX bytes, and unchanged for `'a`.
#[inline]
pub(crate) unsafe fn path_bytes<'a>(path: *const c_char) -> Result<&'a [u8]> {
    needed!(path);
    // SAFETY: the caller's contract; strnlen reads no further than the NUL or PATH_MAX bytes.
    let len = unsafe { libc::strnlen(path, PATH_MAX) };
    // SAFETY: strnlen has just read these bytes.
    Ok(unsafe { slice::from_raw_parts(path.cast(), len) })
}

/// `count` bytes at `buffer` as a write's source. NULL will do for none.
///
/// # Safety
/// `buffer` is NULL or readable for `count` bytes during `'a`.
#[inline]
pub(crate) unsafe fn source_at<'a>(buffer: *const libc::c_void, count: usize) -> Result<Source<'a>> {
    check_buffer(buffer, count)?;
    // SAFETY: the caller's contract, and not NULL unless empty.
    Ok(unsafe { Source::from_raw(buffer.cast(), count) })
}

/// `count` bytes at `buffer` as a read's sink. NULL will do for none.
///
/// # Safety
/// `buffer` is NULL or writable for `count` bytes during `'a`.
#[inline]
pub(crate) unsafe fn sink_at<'a>(buffer: *mut libc::c_void, count: usize) -> Result<Sink<'a>> {
    check_buffer(buffer, count)?;
    // SAFETY: the caller's contract, and not NULL unless empty.
    Ok(unsafe { Sink::from_raw(buffer.cast(), count) })
}

/// A count that an ssize_t cannot answer is EINVAL, as in the kernel.
#[inline]
fn check_buffer(buffer: *const libc::c_void, count: usize) -> Result<()> {
    if count > isize::MAX as usize {
        return Err(Errno::EINVAL);
    }
    if buffer.is_null() && count > 0 {
        return Err(Errno::EFAULT);
    }
    Ok(())
}

/// The elements of a scatter/gather list: EINVAL for a count outside 0..=1024 or a sum over SSIZE_MAX.
///
/// # Safety
/// `parts` is NULL or readable for `count` elements, unchanged during `'a`.
pub(crate) unsafe fn iovec_slice<'a>(parts: *const libc::iovec, count: c_int) -> Result<&'a [libc::iovec]> {
    if !(0..=IOV_MAX).contains(&count) {
        return Err(Errno::EINVAL);
    }
    if count == 0 {
        return Ok(&[]);
    }
    needed!(parts);
    // SAFETY: the caller's contract; count is positive.
    let parts = unsafe { slice::from_raw_parts(parts, count as usize) };
    let mut sum = 0usize;
    for part in parts {
        sum = sum.checked_add(part.iov_len).filter(|&sum| sum <= isize::MAX as usize).ok_or(Errno::EINVAL)?;
        check_buffer(part.iov_base, part.iov_len)?;
    }
    Ok(parts)
}

/// The five below take a pointer parameter of an exported function into Rust, or fail the call. They may
/// stand only in an `unsafe extern "C"` function whose parameter the pointer is.
macro_rules! c_path {
    ($pointer:expr) => {
        // SAFETY: the header's contract for a path: NULL, or NUL-terminated and unchanged during the call.
        unsafe { $crate::boundary::path_bytes($pointer) }?
    };
}
pub(crate) use c_path;

macro_rules! source {
    ($buffer:expr, $count:expr) => {
        // SAFETY: the header's contract for a buffer: readable for `count` bytes during the call.
        unsafe { $crate::boundary::source_at($buffer, $count) }?
    };
}
pub(crate) use source;

macro_rules! sink {
    ($buffer:expr, $count:expr) => {
        // SAFETY: the header's contract for a buffer: writable for `count` bytes during the call.
        unsafe { $crate::boundary::sink_at($buffer, $count) }?
    };
}
pub(crate) use sink;

// A list that cannot be one is told only after what is wrong with the descriptor, which `$transfer`, the call without any
// buffers, finds.
macro_rules! iovecs {
    ($parts:expr, $count:expr, $transfer:expr) => {
        // SAFETY: the header's contract for a list of buffers: `count` elements, unchanged during the call.
        match unsafe { $crate::boundary::iovec_slice($parts, $count) } {
            Ok(parts) => parts,
            Err(error) => {
                $transfer?;
                return Err(error);
            }
        }
    };
}
pub(crate) use iovecs;

macro_rules! fill {
    ($place:expr, $value:expr) => {{
        let (place, value) = ($place, $value);
        // SAFETY: the header's contract for a result: NULL or writable for one value of its type.
        unsafe { $crate::boundary::fill_place(place, value) }
    }};
}
pub(crate) use fill;

/// A value that the caller wants filled.
///
/// # Safety
/// `place` is NULL or writable for a `T`.
#[inline]
pub(crate) unsafe fn fill_place<T: Copy>(place: *mut T, value: T) -> Result<()> {
    needed!(place);
    // SAFETY: the caller's contract, and not NULL.
    unsafe { place.write(value) };
    Ok(())
}

/// Gives what `make` makes to C as a pointer to the opaque `H`, which must come back through [`take_back`]. ENOMEM, before
/// anything is made.
pub(crate) fn hand_out<T, H>(make: impl FnOnce() -> Result<T>) -> Result<*mut H> {
    const { assert!(size_of::<T>() > 0) };
    // SAFETY: the layout is not of size 0.
    let place = unsafe { alloc::alloc(Layout::new::<T>()) }.cast::<MaybeUninit<T>>();
    if place.is_null() {
        return Err(Errno::ENOMEM);
    }
    // SAFETY: fresh memory of T's layout from the global allocator.
    let place = unsafe { Box::from_raw(place) };
    Ok(Box::into_raw(Box::write(place, make()?)).cast())
}

/// What was handed out, for the length of a call.
///
/// # Safety
/// `handle` is NULL or came from [`hand_out`] of a `T`, was not taken back, and is used by this thread alone during `'a`.
pub(crate) unsafe fn borrow<'a, T, H>(handle: *mut H) -> Result<&'a mut T> {
    needed!(handle);
    // SAFETY: the caller's contract, and not NULL.
    Ok(unsafe { &mut *handle.cast::<T>() })
}

/// Ends what [`hand_out`] began.
///
/// # Safety
/// As for [`borrow`], and C uses the pointer no more.
pub(crate) unsafe fn take_back<T, H>(handle: *mut H) -> Result<T> {
    needed!(handle);
    // SAFETY: hand_out allocated it with T's layout and the global allocator, as a Box does; C gives it up.
    Ok(*unsafe { Box::from_raw(handle.cast::<T>()) })
}

/// Keeps panics off the host program's standard error: the errno is the message. A library with
/// debug assertions is for those who look for the panic, and tells them.
#[cfg(not(debug_assertions))]
#[used]
#[unsafe(link_section = ".init_array")]
static SILENCE_PANICS: extern "C" fn() = {
    extern "C" fn silence_panics() {
        std::panic::set_hook(Box::new(|_| {}));
    }
    silence_panics
};
