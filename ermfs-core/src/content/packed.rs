//! A block at rest: a gzip member, or the bytes themselves where they do not shrink.
//!
//! Promises: it never changes. Every byte it takes was charged to its filesystem before and is released when it is freed, the
//! inflated copy that hangs on it included. Never: a lock, except the cache's mutex when that copy comes or goes.

use core::ptr;

use ermfs_memory::sync::Arc;
use ermfs_memory::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use ermfs_memory::{BLOCK_SIZE, Counted, Kind, Piece, Purpose};

use super::cache::InflatedCopy;
use super::io::Sink;
use super::scratch::Scratch;
use crate::codec;
use crate::epoch;
use crate::errno::{Errno, Result};
use crate::space::Space;

/// The form of a packed block.
pub(crate) enum AtRest<'a> {
    /// A gzip member.
    Member(&'a [u8]),
    /// The bytes themselves.
    Plain(&'a [u8]),
}

/// A block at rest: a gzip member, or the bytes themselves where they do not shrink.
pub(crate) struct PackedBlock {
    space: Arc<Space>,
    piece: Piece,
    /// Bytes of the block the piece stands for, 1 to 65,536; the rest of the block reads as zeros.
    raw_len: u32,
    is_member: bool,
    /// A part of it was read, and no copy kept.
    touched: AtomicBool,
    /// The inflated copy, if one is kept. Written under the cache's mutex, read under an epoch pin
    /// (copy protocol, docs/INVARIANTS.md B4).
    pub(super) copy: AtomicPtr<InflatedCopy>,
}

impl PackedBlock {
    /// The gzip member `member`, of a block that began with `raw_len` bytes.
    pub(crate) fn member(space: &Arc<Space>, member: &[u8], raw_len: usize) -> Result<Counted<PackedBlock>> {
        PackedBlock::try_new(space, member, raw_len, true)
    }

    /// `bytes` as they are: for the short end of a file that does not shrink.
    pub(crate) fn plain(space: &Arc<Space>, bytes: &[u8]) -> Result<Counted<PackedBlock>> {
        PackedBlock::try_new(space, bytes, bytes.len(), false)
    }

    fn try_new(
        space: &Arc<Space>,
        bytes: &[u8],
        raw_len: usize,
        is_member: bool,
    ) -> Result<Counted<PackedBlock>> {
        debug_assert!((1..=BLOCK_SIZE).contains(&raw_len));
        // Packing frees more than it takes, a moment later: it may use the reserve.
        let node = space.charged(Kind::Metadata, Counted::<PackedBlock>::footprint(), Purpose::Reserved)?;
        let charge = space.charged(Kind::Packed, Piece::footprint(bytes.len()), Purpose::Reserved)?;
        let piece = Piece::alloc_from(bytes)?;
        charge.keep();
        node.keep();
        let block = PackedBlock {
            space: Arc::clone(space),
            piece,
            raw_len: raw_len as u32,
            is_member,
            touched: AtomicBool::new(false),
            copy: AtomicPtr::new(ptr::null_mut()),
        };
        Ok(Counted::try_new(block).map_err(|(error, _)| error)?)
    }

    pub(crate) fn raw_len(&self) -> usize {
        self.raw_len as usize
    }

    pub(crate) fn stored_bytes(&self) -> u64 {
        Piece::footprint(self.piece.len())
    }

    /// What is kept.
    pub(crate) fn at_rest(&self) -> AtRest<'_> {
        match self.is_member {
            true => AtRest::Member(self.piece.as_slice()),
            false => AtRest::Plain(self.piece.as_slice()),
        }
    }

    /// Fills `room`, of exactly `raw_len` bytes, without touching the cache.
    pub(crate) fn inflate(&self, room: &mut [core::mem::MaybeUninit<u8>]) -> Result<()> {
        debug_assert_eq!(room.len(), self.raw_len());
        if !self.is_member {
            room.write_copy_of_slice(self.piece.as_slice());
            return Ok(());
        }
        let counters = &self.space.counters;
        counters.blocks_inflated.fetch_add(1, Ordering::Relaxed);
        codec::unpack(self.piece.as_slice(), room).inspect_err(|error| {
            // Want of memory is no damage.
            if *error == Errno::EIO {
                counters.errors.fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    pub(super) fn read(&self, from: usize, n: usize, sink: &mut Sink<'_>) -> Result<()> {
        let data = n.min(self.raw_len().saturating_sub(from));
        if data > 0 && !self.put_kept(from, data, sink) {
            self.read_inflated(from, data, sink)?;
        }
        if data < n {
            sink.put_zeros(n - data);
        }
        Ok(())
    }

    /// As [`BlockRef::read`], if that takes no inflating: whether it was done.
    #[inline]
    pub(super) fn read_kept(&self, from: usize, n: usize, sink: &mut Sink<'_>) -> bool {
        let data = n.min(self.raw_len().saturating_sub(from));
        let kept = data == 0 || self.put_kept(from, data, sink);
        if kept && data < n {
            sink.put_zeros(n - data);
        }
        kept
    }

    #[inline(always)]
    fn put_kept(&self, from: usize, n: usize, sink: &mut Sink<'_>) -> bool {
        if !self.is_member {
            sink.put_slice(&self.piece.as_slice()[from..from + n]);
            return true;
        }
        self.with_copy(|bytes| sink.put_slice(&bytes[from..from + n]))
    }

    #[cold]
    fn read_inflated(&self, from: usize, n: usize, sink: &mut Sink<'_>) -> Result<()> {
        if n < self.raw_len() {
            // A copy is worth its memory when more of the block is asked for: a read that starts with the
            // block is likely to go on, any other shows it by coming back.
            let comes_back = from == 0 || self.touched.swap(true, Ordering::Relaxed);
            if comes_back && let Some(copy) = self.space.cache.inflate(&self.space, self)? {
                sink.put_slice(&copy.bytes()[from..from + n]);
                return Ok(());
            }
        } else if let Some(room) = sink.contiguous(n) {
            self.inflate(room)?;
            sink.advance(n);
            return Ok(());
        }
        let mut scratch = Scratch::take()?;
        sink.put_slice(&self.inflate_into_scratch(&mut scratch)?[from..from + n]);
        Ok(())
    }

    /// Runs `use_bytes` on the inflated copy, if one is kept.
    #[inline(always)]
    fn with_copy(&self, use_bytes: impl FnOnce(&[u8])) -> bool {
        let _pin = epoch::pin();
        // SAFETY: a copy that is taken off the block is dropped through the epoch collector, so what
        // was loaded under this pin stays until the pin is gone (B4).
        let Some(copy) = (unsafe { self.copy.load(Ordering::Acquire).as_ref() }) else { return false };
        copy.mark_used();
        use_bytes(copy.bytes());
        true
    }

    /// The block's bytes, from the kept copy where there is one.
    pub(crate) fn inflate_into_scratch<'a>(&self, scratch: &'a mut Scratch) -> Result<&'a [u8]> {
        let room = &mut scratch.plain()[..self.raw_len()];
        if !self.with_copy(|bytes| room.copy_from_slice(bytes)) {
            // SAFETY: initialised bytes may be looked at as possibly uninitialised ones as long as
            // nothing uninitialised is written, and inflating writes only values.
            self.inflate(unsafe { &mut *(ptr::from_mut(room) as *mut [core::mem::MaybeUninit<u8>]) })?;
        }
        Ok(room)
    }

    /// An inflated copy that the caller holds: the kept one, or one more.
    ///
    /// # Errors
    /// `EIO` when the member is corrupt; `ENOSPC`, `ENOMEM`.
    pub(super) fn held_copy(&self) -> Result<Counted<InflatedCopy>> {
        {
            let _pin = epoch::pin();
            if let Some(copy) = ptr::NonNull::new(self.copy.load(Ordering::Acquire)) {
                // SAFETY: under the pin the reference that the block held, or just gave up, is not dropped
                // yet (B4), so the copy has an owner during the call.
                return Ok(unsafe { Counted::share_raw(copy) });
            }
        }
        match self.space.cache.inflate(&self.space, self)? {
            Some(copy) => Ok(copy),
            None => InflatedCopy::of(&self.space, self, Purpose::Ordinary),
        }
    }
}

impl Drop for PackedBlock {
    fn drop(&mut self) {
        // Not `get_mut`: the clock may be taking the copy off at this moment. Acquire pairs with its
        // Release store of null, after which it does not touch the block any more.
        if !self.copy.load(Ordering::Acquire).is_null() {
            self.space.cache.forget(self);
        }
        self.space.release(Kind::Packed, self.stored_bytes());
        self.space.release(Kind::Metadata, Counted::<PackedBlock>::footprint());
    }
}
