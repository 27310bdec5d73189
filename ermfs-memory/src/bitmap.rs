//! A set of arena numbers that finds its lowest and its highest member in three steps.
//!
//! Promises: no operation depends on how many arenas there are. Owns its words inline (66 KiB, all zero when empty, so
//! that a static one costs no memory until it is used). Never allocates.

/// How many numbers a set can hold: 0 up to, but not including, this. The arenas of 1 TiB.
pub(crate) const CAPACITY: usize = 512 * 1024;

const LEAVES: usize = CAPACITY / 64;
const MIDDLES: usize = LEAVES / 64;
const TOPS: usize = MIDDLES / 64;

/// Three levels of bits; a bit above is set when the word below it is not 0.
pub(crate) struct Bitmap {
    tops: [u64; TOPS],
    middles: [u64; MIDDLES],
    leaves: [u64; LEAVES],
    len: usize,
}

impl Bitmap {
    pub(crate) const fn new() -> Bitmap {
        Bitmap { tops: [0; TOPS], middles: [0; MIDDLES], leaves: [0; LEAVES], len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds a number that is not in the set.
    pub(crate) fn insert(&mut self, number: usize) {
        let (leaf, middle) = (number / 64, number / 4096);
        debug_assert!(!self.contains(number), "{number} is in the set already");
        self.leaves[leaf] |= 1 << (number % 64);
        self.middles[middle] |= 1 << (leaf % 64);
        self.tops[middle / 64] |= 1 << (middle % 64);
        self.len += 1;
    }

    /// Removes a number that is in the set.
    pub(crate) fn remove(&mut self, number: usize) {
        let (leaf, middle) = (number / 64, number / 4096);
        debug_assert!(self.contains(number), "{number} is not in the set");
        self.len -= 1;
        self.leaves[leaf] &= !(1 << (number % 64));
        if self.leaves[leaf] == 0 {
            self.middles[middle] &= !(1 << (leaf % 64));
            if self.middles[middle] == 0 {
                self.tops[middle / 64] &= !(1 << (middle % 64));
            }
        }
    }

    pub(crate) fn contains(&self, number: usize) -> bool {
        self.leaves[number / 64] & (1 << (number % 64)) != 0
    }

    /// The lowest number in the set.
    pub(crate) fn first(&self) -> Option<usize> {
        let top = self.tops.iter().position(|&word| word != 0)?;
        let middle = top * 64 + self.tops[top].trailing_zeros() as usize;
        let leaf = middle * 64 + self.middles[middle].trailing_zeros() as usize;
        Some(leaf * 64 + self.leaves[leaf].trailing_zeros() as usize)
    }

    /// The highest number in the set.
    pub(crate) fn last(&self) -> Option<usize> {
        let highest = |word: u64| 63 - word.leading_zeros() as usize;
        let top = self.tops.iter().rposition(|&word| word != 0)?;
        let middle = top * 64 + highest(self.tops[top]);
        let leaf = middle * 64 + highest(self.middles[middle]);
        Some(leaf * 64 + highest(self.leaves[leaf]))
    }

    /// Takes the lowest number out of the set.
    pub(crate) fn take_first(&mut self) -> Option<usize> {
        let number = self.first()?;
        self.remove(number);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn finds_the_ends_across_word_boundaries() {
        let mut set = Bitmap::new();
        assert_eq!((set.first(), set.last(), set.take_first(), set.len()), (None, None, None, 0));
        let edges = [0, 1, 63, 64, 65, 4095, 4096, 4097, 262_143, 262_144, 262_145, CAPACITY - 1];
        for number in edges.into_iter().rev() {
            set.insert(number);
            assert_eq!((set.first(), set.last()), (Some(number), Some(CAPACITY - 1)));
        }
        assert_eq!(set.len(), edges.len());
        for number in edges {
            assert_eq!(set.take_first(), Some(number));
        }
        assert_eq!((set.first(), set.len()), (None, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]
        #[test]
        fn agrees_with_a_btree_set(numbers in prop::collection::vec(0..CAPACITY, 1..200)) {
            let (mut set, mut model) = (Bitmap::new(), BTreeSet::new());
            for number in numbers.iter().flat_map(|&n| [n, n / 64, n % 128]) {
                if model.insert(number) {
                    set.insert(number);
                } else {
                    model.remove(&number);
                    set.remove(number);
                }
                prop_assert_eq!(set.first(), model.first().copied());
                prop_assert_eq!(set.last(), model.last().copied());
                prop_assert_eq!((set.len(), set.contains(number)), (model.len(), model.contains(&number)));
            }
        }
    }
}
