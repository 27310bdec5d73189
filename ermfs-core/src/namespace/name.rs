//! Names: hashed for a look-up, and stored in a directory.
//!
//! Promises: a name of up to 19 bytes takes no memory beyond its entry; longer ones take one
//! allocation, whose charge is [`StoredName::footprint`]. Hashes depend on a random seed of the
//! filesystem, so that nobody can prepare names that collide. Owns the allocated names.
//!
//! The hash is our own few lines (two 64-bit words folded by one 128-bit product, the construction
//! of wyhash and its relatives) instead of a crate's `Hasher`: names are short byte strings, the
//! whole is one inlined function without state, and only 32 bits of the result are kept.

use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};
use core::slice;
use std::hash::{BuildHasher, RandomState};

use ermfs_memory::{AllocError, NodeBox, Nodes, try_node_vec};

use super::malloc_footprint;
use crate::errno::{Errno, Result};

/// The longest name, in bytes.
pub(super) const NAME_MAX: usize = 255;

/// A name to look for, and its hash.
#[derive(Clone, Copy)]
pub(crate) struct Name<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) hash: u32,
}

/// The filesystem's hash function.
pub(crate) struct NameHasher {
    seed: [u64; 2],
}

const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

#[inline]
fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

impl NameHasher {
    pub(crate) fn new() -> NameHasher {
        // The standard library's keys are random per process and differ from call to call.
        let random = RandomState::new();
        NameHasher { seed: [random.hash_one(0u64), random.hash_one(1u64)] }
    }

    /// `bytes` with its hash.
    ///
    /// # Errors
    /// `ENAMETOOLONG` above [`NAME_MAX`] bytes.
    #[inline]
    pub(super) fn name<'a>(&self, bytes: &'a [u8]) -> Result<Name<'a>> {
        if bytes.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        Ok(Name { bytes, hash: self.hash(bytes) })
    }

    #[inline(never)]
    fn hash(&self, bytes: &[u8]) -> u32 {
        let n = bytes.len();
        let mut state = self.seed[0] ^ n as u64;
        let (a, b) = match n {
            0 => (0, 0),
            1..4 => (u64::from(bytes[0]) << 16 | u64::from(bytes[n / 2]) << 8 | u64::from(bytes[n - 1]), 0),
            4..8 => {
                let half = |at: usize| {
                    u64::from(u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]))
                };
                (half(0), half(n - 4))
            }
            8..=16 => (word(bytes, 0), word(bytes, n - 8)),
            _ => {
                let mut at = 0;
                while at + 16 < n {
                    state = fold(word(bytes, at) ^ self.seed[1], word(bytes, at + 8) ^ state);
                    at += 16;
                }
                (word(bytes, n - 16), word(bytes, n - 8))
            }
        };
        let mixed = fold(a ^ self.seed[1], b ^ state);
        // A second product: the first alone leaves the low bits of short names too regular.
        fold(mixed ^ self.seed[0], 0x9e37_79b9_7f4a_7c15) as u32
    }
}

/// Where a table of so many slots, by open addressing, looks first for what has this hash: its high bits tell, so that the number
/// need not be a power of two and a table is never much larger than its entries need. A slot that is not in the cache costs
/// more than the product.
#[inline]
pub(super) fn first_slot(hash: u32, slots: usize) -> usize {
    ((u64::from(hash) * slots as u64) >> u32::BITS) as usize
}

const INLINE: usize = 19;
/// Where a long name's address lies in `bytes`: 8-byte-aligned in a directory's entry.
const ADDRESS_AT: usize = 3;

/// A name as a directory keeps it: 20 bytes of any alignment.
pub(super) struct StoredName {
    len: u8,
    /// The name itself, or, above `INLINE` bytes, its address at `ADDRESS_AT`.
    bytes: [MaybeUninit<u8>; INLINE],
}

// SAFETY: a long name's allocation belongs to this value alone and holds plain bytes.
unsafe impl Send for StoredName {}
// SAFETY: as above; shared access only reads them.
unsafe impl Sync for StoredName {}

impl StoredName {
    /// A name that takes nothing: for an entry that is a hole.
    pub(super) const EMPTY: StoredName = StoredName { len: 0, bytes: [MaybeUninit::uninit(); INLINE] };

    /// What a name of `len` bytes takes beyond its entry: the amount to charge.
    pub(super) const fn footprint(len: usize) -> u64 {
        if len <= INLINE { 0 } else { malloc_footprint(len) }
    }

    /// A copy of `name`, at most [`NAME_MAX`] bytes.
    ///
    /// # Errors
    /// [`AllocError::Memory`] when a long name finds no memory.
    pub(super) fn try_new(name: &[u8]) -> core::result::Result<StoredName, AllocError> {
        debug_assert!(name.len() <= NAME_MAX);
        let mut stored = StoredName { len: name.len() as u8, ..StoredName::EMPTY };
        if name.len() <= INLINE {
            stored.bytes[..name.len()].write_copy_of_slice(name);
            return Ok(stored);
        }
        let mut copy = try_node_vec(name.len())?;
        copy.extend_from_slice(name);
        let address: *mut [u8] = NodeBox::into_raw(copy.into_boxed_slice());
        // SAFETY: `ADDRESS_AT` and 8 bytes lie inside `bytes`; unaligned access is asked for.
        unsafe {
            stored.bytes.as_mut_ptr().add(ADDRESS_AT).cast::<*mut u8>().write_unaligned(address.cast())
        };
        Ok(stored)
    }

    fn long(&self) -> Option<NonNull<[u8]>> {
        if usize::from(self.len) <= INLINE {
            return None;
        }
        // SAFETY: `try_new` wrote the address there for every name this long.
        let address = unsafe { self.bytes.as_ptr().add(ADDRESS_AT).cast::<*mut u8>().read_unaligned() };
        NonNull::new(ptr::slice_from_raw_parts_mut(address, usize::from(self.len)))
    }

    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self.long() {
            // SAFETY: the allocation of `len` bytes that `try_new` made and `drop` has not freed.
            Some(long) => unsafe { long.as_ref() },
            // SAFETY: `try_new` initialised the first `len` bytes.
            None => unsafe { slice::from_raw_parts(self.bytes.as_ptr().cast(), usize::from(self.len)) },
        }
    }

    /// What this name takes beyond its entry.
    pub(super) fn charged(&self) -> u64 {
        StoredName::footprint(usize::from(self.len))
    }
}

impl Drop for StoredName {
    fn drop(&mut self) {
        if let Some(long) = self.long() {
            // SAFETY: made by `NodeBox::into_raw` in `try_new`, freed once.
            drop(unsafe { NodeBox::from_raw_in(long.as_ptr(), Nodes) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn stored_names_come_back_at_every_length() {
        let bytes: Vec<u8> = (0..=NAME_MAX as u32).map(|i| (i * 7) as u8).collect();
        for len in 0..=NAME_MAX {
            let stored = StoredName::try_new(&bytes[..len]).unwrap();
            assert_eq!(stored.as_bytes(), &bytes[..len]);
            assert_eq!(stored.charged() > 0, len > INLINE);
        }
        assert_eq!(size_of::<StoredName>(), 20);
    }

    #[test]
    fn names_of_all_lengths_hash_apart() {
        let hasher = NameHasher::new();
        let mut seen = HashSet::new();
        let mut count = 0;
        for len in 1..=NAME_MAX {
            for i in 0..40u8 {
                let mut name = vec![b'a'; len];
                name[(usize::from(i) * 13) % len] = b'A' + i;
                count += usize::from(seen.insert((hasher.name(&name).unwrap().hash, len)));
            }
        }
        assert!(count > NAME_MAX * 40 - 4, "{count}");
        assert_eq!(hasher.name(&[b'x'; 256]).err(), Some(Errno::ENAMETOOLONG));
    }

    #[test]
    fn hashes_spread_over_both_ends_of_the_word() {
        let hasher = NameHasher::new();
        let (mut low, mut high) = ([0u32; 64], [0u32; 64]);
        for i in 0..64_000 {
            let hash = hasher.name(format!("file{i}").as_bytes()).unwrap().hash;
            low[(hash % 64) as usize] += 1;
            high[(hash >> 26) as usize] += 1;
        }
        for count in low.iter().chain(&high) {
            assert!((800..1200).contains(count), "{count}");
        }
    }

    #[test]
    fn seeds_differ() {
        let hashes: HashSet<u32> = (0..32).map(|_| NameHasher::new().name(b"name").unwrap().hash).collect();
        assert!(hashes.len() > 30);
    }
}
