//! Safe calls of libdeflate, with its state kept per thread. The codec's only unsafe FFI.
//!
//! Promises: want of memory is `ENOMEM`. Owns: one compressor (of the level used last) and one
//! decompressor per thread, freed when the thread ends. Never: keeps a pointer to a caller's bytes.

use core::cell::Cell;
use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};
use std::thread::LocalKey;

use libdeflate_sys as sys;

use crate::errno::{Errno, Result};
use crate::inject::allocation;

struct Compressor {
    state: NonNull<sys::libdeflate_compressor>,
    level: i32,
}

impl Compressor {
    fn new(level: i32) -> Result<Compressor> {
        allocation!("codec.state")?;
        // SAFETY: no precondition; a level out of range or want of memory yields null.
        let state = unsafe { sys::libdeflate_alloc_compressor(level) };
        let state = NonNull::new(state).ok_or(Errno::ENOMEM)?;
        Ok(Compressor { state, level })
    }
}

impl Drop for Compressor {
    fn drop(&mut self) {
        // SAFETY: `state` came from libdeflate_alloc_compressor and this is its only owner.
        unsafe { sys::libdeflate_free_compressor(self.state.as_ptr()) }
    }
}

struct Decompressor(NonNull<sys::libdeflate_decompressor>);

impl Decompressor {
    fn new() -> Result<Decompressor> {
        allocation!("codec.state")?;
        // SAFETY: no precondition; want of memory yields null.
        let state = unsafe { sys::libdeflate_alloc_decompressor() };
        NonNull::new(state).map(Decompressor).ok_or(Errno::ENOMEM)
    }
}

impl Drop for Decompressor {
    fn drop(&mut self) {
        // SAFETY: the pointer came from libdeflate_alloc_decompressor and this is its only owner.
        unsafe { sys::libdeflate_free_decompressor(self.0.as_ptr()) }
    }
}

thread_local! {
    static COMPRESSOR: Cell<Option<Compressor>> = const { Cell::new(None) };
    static DECOMPRESSOR: Cell<Option<Decompressor>> = const { Cell::new(None) };
}

/// Takes what the thread keeps, if it keeps anything and is not already ending.
///
/// State is taken out while it is used and given back afterwards, so that nothing can find it in
/// use.
fn take<T>(slot: &'static LocalKey<Cell<Option<T>>>) -> Option<T> {
    slot.try_with(Cell::take).ok().flatten()
}

/// Gives state back to the thread; a thread that is ending drops it.
fn keep<T>(slot: &'static LocalKey<Cell<Option<T>>>, state: T) {
    // An error means that the slot is gone already; the closure, and the state with it, is dropped.
    let _ = slot.try_with(move |slot| slot.set(Some(state)));
}

/// Compresses `input` into a raw deflate stream in `out`: its length, or `None` if it does not fit.
/// Bytes of `out` up to that length are initialised.
///
/// # Errors
/// `ENOMEM`: no memory for the state.
pub(super) fn compress(input: &[u8], level: i32, out: &mut [MaybeUninit<u8>]) -> Result<Option<usize>> {
    let kept = take(&COMPRESSOR).filter(|kept| kept.level == level);
    let compressor = match kept {
        Some(kept) => kept,
        None => Compressor::new(level)?,
    };
    // SAFETY: the compressor is live and used by this thread alone; both ranges are those of the
    // slices, and libdeflate reads only the first and writes only the second.
    let len = unsafe {
        sys::libdeflate_deflate_compress(
            compressor.state.as_ptr(),
            input.as_ptr().cast::<c_void>(),
            input.len(),
            out.as_mut_ptr().cast::<c_void>(),
            out.len(),
        )
    };
    keep(&COMPRESSOR, compressor);
    Ok((len != 0).then_some(len))
}

/// Inflates a raw deflate stream that is all of `input` and fills exactly all of `out`, and answers
/// with the bytes.
///
/// # Errors
/// `EIO`: the stream is damaged, or is not exactly `input`, or does not make exactly `out.len()`
/// bytes; what `out` then holds is undefined. `ENOMEM`: no memory for the state.
pub(super) fn decompress<'a>(input: &[u8], out: &'a mut [MaybeUninit<u8>]) -> Result<&'a [u8]> {
    let decompressor = match take(&DECOMPRESSOR) {
        Some(kept) => kept,
        None => Decompressor::new()?,
    };
    let mut used = 0;
    // SAFETY: the decompressor is live and used by this thread alone; both ranges are those of the
    // slices, libdeflate reads only the first and writes only the second, and `used` outlives the
    // call. A null in place of the output length demands that `out` is filled exactly.
    let verdict = unsafe {
        sys::libdeflate_deflate_decompress_ex(
            decompressor.0.as_ptr(),
            input.as_ptr().cast::<c_void>(),
            input.len(),
            out.as_mut_ptr().cast::<c_void>(),
            out.len(),
            &mut used,
            ptr::null_mut(),
        )
    };
    keep(&DECOMPRESSOR, decompressor);
    if verdict != sys::libdeflate_result_LIBDEFLATE_SUCCESS || used != input.len() {
        return Err(Errno::EIO);
    }
    // SAFETY: success without an output length means that all of `out` was written.
    Ok(unsafe { out.assume_init_ref() })
}

/// Continues a CRC-32 (RFC 1952, section 8) over `bytes`; a new one starts from 0.
pub(super) fn crc32(crc: u32, bytes: &[u8]) -> u32 {
    // The pointer of an empty slice is never null, which libdeflate would take for "start anew".
    // SAFETY: the range is that of the slice and is only read.
    unsafe { sys::libdeflate_crc32(crc, bytes.as_ptr().cast::<c_void>(), bytes.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::text;

    unsafe extern "C" fn no_memory(_: usize) -> *mut c_void {
        ptr::null_mut()
    }

    /// The allocator of libdeflate is the process's, so the test runs in one of its own.
    #[test]
    fn want_of_memory_is_enomem() {
        const CHILD: &str = "ERMFS_TEST_WITHOUT_MEMORY";
        if std::env::var_os(CHILD).is_none() {
            let (_, module) = module_path!().split_once("::").unwrap();
            let child = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", &format!("{module}::want_of_memory_is_enomem")])
                .env(CHILD, "1")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&child.stdout);
            assert!(child.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let block = text(4096);
        let mut member = Vec::new();
        crate::codec::pack(&block, 1, true, &mut member).unwrap();
        // SAFETY: this process runs this test alone, and no other thread of it uses libdeflate.
        unsafe { sys::libdeflate_set_memory_allocator(no_memory, libc::free) };
        let mut out = [MaybeUninit::uninit(); 4096];
        let mut scratch = Vec::new();
        assert_eq!(crate::codec::pack(&block, 1, true, &mut scratch).err(), None, "state is kept");
        assert_eq!(crate::codec::pack(&block, 2, true, &mut scratch), Err(Errno::ENOMEM));
        assert_eq!(crate::codec::unpack(&member, &mut out), Err(Errno::ENOMEM));
        // SAFETY: as above; malloc and free are a pair.
        unsafe { sys::libdeflate_set_memory_allocator(libc::malloc, libc::free) };
        assert_eq!(crate::codec::unpack(&member, &mut out), Ok(()), "and later it works again");
        assert_eq!(crate::codec::pack(&block, 2, true, &mut scratch).err(), None);
    }
}
