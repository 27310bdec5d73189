//! Which blocks a thread has touched last: whether a page of one may still be in the processor's cache.
//!
//! Promises an answer at once, that is right often enough to choose between two ways of copying by, and no more. Some hundred
//! blocks are remembered, each in one place, where the next that belongs there takes its place: a block is forgotten after
//! about as many others were touched. By 4 KiB that is 2 MiB, more than a core's own cache; by whole blocks 32 MiB. Threads
//! have tables of their own, as far as [`own_line`] tells them apart. Never: a pointer that is followed.

use ermfs_memory::sync::atomic::{AtomicU16, Ordering::Relaxed};
use ermfs_memory::{LINES, own_line};

/// How many blocks a table remembers.
const PLACES: usize = 512;

#[repr(align(64))]
struct Table([AtomicU16; PLACES]);

static TOUCHED: [Table; LINES] = [const { Table([const { AtomicU16::new(0) }; PLACES]) }; LINES];

/// Notes that the block at this address is being read or written by the page; whether it was before, not long ago.
#[inline(always)]
pub(super) fn touch<T>(block: *const T) -> bool {
    // Fibonacci hashing; 0 stands for nothing.
    let hash = (block.addr() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (place, mark) = (hash >> (u64::BITS - PLACES.ilog2()), (hash >> 32) as u16 | 1);
    let place = &TOUCHED[own_line()].0[place as usize];
    let is_known = place.load(Relaxed) == mark;
    if !is_known {
        place.store(mark, Relaxed);
    }
    is_known
}

/// Forgets all: what is touched next is cold.
#[cfg(test)]
pub(super) fn forget() {
    TOUCHED.iter().flat_map(|table| &table.0).for_each(|place| place.store(0, Relaxed));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn touch_number(number: usize) -> bool {
        touch(core::ptr::without_provenance::<u64>(0x7f00_1234_0000 + number * 192))
    }

    #[test]
    fn few_blocks_are_remembered_and_of_many_the_last() {
        testing::alone(module_path!(), "few_blocks_are_remembered_and_of_many_the_last", || {
            assert_eq!((0..16).filter(|&number| touch_number(number)).count(), 0);
            let known = (0..16).filter(|&number| touch_number(number)).count();
            assert!(known >= 14, "{known}: the places of two may be one");
            let new = 16..16 + 8 * PLACES;
            assert_eq!(new.clone().filter(|&number| touch_number(number)).count(), 0);
            let again = new.filter(|&number| touch_number(number)).count();
            assert!(again < PLACES, "{again}");
        });
    }
}
