//! Rust's buffers as the engine's sources and sinks; the face's only unsafe code.
//!
//! Promises: what is read is in the buffers it was asked for, and a vector's length never covers a byte that was not
//! written.

use std::io::{self, IoSlice, IoSliceMut};

use ermfs_core::{Result, Sink, Source};

use crate::error::os;

/// The concatenation of `buffers`, to be written.
pub(crate) fn source<'a>(buffers: &'a [IoSlice<'_>]) -> Source<'a> {
    // SAFETY: an IoSlice has the layout of an iovec on Unix, as its documentation promises, and borrows its bytes for
    // longer than `'a`.
    unsafe { Source::from_iovecs(std::slice::from_raw_parts(buffers.as_ptr().cast(), buffers.len())) }
}

/// The concatenation of `buffers`, to be read into.
pub(crate) fn sink<'a>(buffers: &'a mut [IoSliceMut<'_>]) -> Sink<'a> {
    // SAFETY: an IoSliceMut has the layout of an iovec on Unix, as its documentation promises, and borrows its bytes
    // exclusively for longer than `'a`.
    unsafe { Sink::from_iovecs(std::slice::from_raw_parts(buffers.as_ptr().cast(), buffers.len())) }
}

/// Reads once into the room that `bytes` has beyond its length, and takes what came into its length.
///
/// # Errors
/// `read`'s.
pub(crate) fn read_into_spare(
    bytes: &mut Vec<u8>,
    read: impl FnOnce(&mut Sink<'_>) -> Result<usize>,
) -> io::Result<usize> {
    let room = bytes.spare_capacity_mut();
    let most = room.len();
    let n = read(&mut Sink::uninit(room)).map_err(os)?;
    assert!(n <= most, "a read reports no more than there was room for");
    // SAFETY: a read reports the bytes at the front of its sink that it has initialised, and they lie in the capacity.
    unsafe { bytes.set_len(bytes.len() + n) };
    Ok(n)
}
