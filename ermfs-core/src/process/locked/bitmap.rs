//! Which numbers are free: a bitmap, with a bitmap over it of the words that have a free bit, and so on
//! until one word is left.
//!
//! Promises: finding the lowest free number from a given one on, taking it and freeing it each touch
//! at most two words per level (4 levels for 16 million numbers). Never locks; its owner does.

use ermfs_memory::{AllocError, try_vec, try_zeroed_slice};

const BITS: usize = u64::BITS as usize;

pub(super) struct Bitmap {
    /// `levels[0]` has a bit per number, `levels[n + 1]` a bit per word of `levels[n]`; a set bit is, or
    /// leads to, a free number. The last level is one word.
    levels: Vec<Box<[u64]>>,
    used: usize,
}

impl Bitmap {
    /// All of `0 .. capacity` free.
    pub(super) fn new(capacity: usize) -> Result<Bitmap, AllocError> {
        let mut levels = try_vec(4)?;
        let mut bits = capacity;
        loop {
            let words = bits.div_ceil(BITS).max(1);
            let mut level = try_zeroed_slice::<u64>(words)?;
            level[..bits / BITS].fill(u64::MAX);
            if !bits.is_multiple_of(BITS) {
                level[bits / BITS] = (1 << (bits % BITS)) - 1;
            }
            levels.try_reserve(1)?;
            levels.push(level);
            if words == 1 {
                return Ok(Bitmap { levels, used: 0 });
            }
            bits = words;
        }
    }

    /// How many numbers are taken.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    pub(super) fn is_free(&self, number: usize) -> bool {
        self.levels[0].get(number / BITS).is_some_and(|word| word & (1 << (number % BITS)) != 0)
    }

    /// The lowest free number that is not below `from`.
    pub(super) fn lowest_from(&self, from: usize) -> Option<usize> {
        let mut from = from;
        for (height, level) in self.levels.iter().enumerate() {
            let word = from / BITS;
            let found = level.get(word)? & (u64::MAX << (from % BITS));
            if found != 0 {
                let top = word * BITS + found.trailing_zeros() as usize;
                // Down again: every word that a set bit leads to has a set bit.
                return Some(
                    self.levels[..height]
                        .iter()
                        .rev()
                        .fold(top, |at, below| at * BITS + below[at].trailing_zeros() as usize),
                );
            }
            from = word + 1;
        }
        None
    }

    /// Takes a free number.
    pub(super) fn take(&mut self, number: usize) {
        debug_assert!(self.is_free(number));
        self.used += 1;
        let mut at = number;
        for level in &mut self.levels {
            let word = &mut level[at / BITS];
            *word &= !(1 << (at % BITS));
            if *word != 0 {
                break;
            }
            at /= BITS;
        }
    }

    /// Frees a taken number.
    pub(super) fn free(&mut self, number: usize) {
        debug_assert!(!self.is_free(number));
        self.used -= 1;
        let mut at = number;
        for level in &mut self.levels {
            let word = &mut level[at / BITS];
            let was_full = *word == 0;
            *word |= 1 << (at % BITS);
            if !was_full {
                break;
            }
            at /= BITS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_come_lowest_first_until_none_is_left() {
        for capacity in [1, 2, 63, 64, 65, 4095, 4096, 4097, 10_000] {
            let mut bitmap = Bitmap::new(capacity).unwrap();
            for expected in 0..capacity {
                assert_eq!(bitmap.lowest_from(0), Some(expected), "of {capacity}");
                bitmap.take(expected);
            }
            assert_eq!((bitmap.lowest_from(0), bitmap.used()), (None, capacity));
            assert!(!bitmap.is_free(capacity));
            bitmap.free(capacity - 1);
            assert_eq!(bitmap.lowest_from(0), Some(capacity - 1));
            assert_eq!(bitmap.lowest_from(capacity), None);
        }
    }

    #[test]
    fn any_sequence_agrees_with_a_set() {
        const CAPACITY: usize = 5000;
        let mut bitmap = Bitmap::new(CAPACITY).unwrap();
        let mut free: BTreeSet<usize> = (0..CAPACITY).collect();
        let mut random = 1u64;
        for _ in 0..40_000 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let number = (random >> 33) as usize % (CAPACITY + 10);
            let lowest = free.range(number..).next().copied();
            assert_eq!(bitmap.lowest_from(number), lowest);
            match (lowest, random >> 32 & 1) {
                (Some(lowest), 0) => {
                    bitmap.take(lowest);
                    free.remove(&lowest);
                }
                _ if number < CAPACITY && !free.contains(&number) => {
                    bitmap.free(number);
                    free.insert(number);
                }
                _ => assert_eq!(bitmap.is_free(number), free.contains(&number)),
            }
            assert_eq!(bitmap.used(), CAPACITY - free.len());
        }
    }
}
