//! Which numbers are free: a bitmap, with a bitmap over it of the words that were seen full, and so on until one word is
//! left.
//!
//! Promises: a number is claimed by one thread at a time; the lowest free one is found by looking at a few words, as far
//! as no other thread is just filling the word it is in (see the protocol, H1/H2); a claim fails only after every word
//! was seen full. Takes no lock; a thread that stops anywhere holds back nobody. Memory is touched only where numbers are
//! claimed.

use ermfs_memory::AllocError;

use crate::stripes::thread_number;
use crate::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};
use crate::sync::zeroed;

const BITS: usize = u64::BITS as usize;
/// Words in a cache line.
const LINE: usize = 8;

/// A cache line, and of the lowest level one thread's part.
#[repr(align(64))]
#[derive(Default)]
struct Line([AtomicU64; LINE]);

#[cfg(not(loom))]
// SAFETY: integers.
unsafe impl ermfs_memory::Zeroable for Line {}

/// A bitmap of one level.
struct Level {
    lines: Box<[Line]>,
    words: usize,
}

impl Level {
    #[inline]
    fn word(&self, at: usize) -> &AtomicU64 {
        &self.lines[at / LINE].0[at % LINE]
    }
}

pub(super) struct Bitmap {
    /// `levels[0]` has a bit per number, set while it is taken; `levels[n + 1]` a bit per word of `levels[n]`, set when that
    /// was seen full. The last level is one word.
    levels: Vec<Level>,
    /// Bits of the last word of `levels[0]` that are no numbers, and set.
    beyond: usize,
}

/// The bit of `at` in its word.
const fn bit(at: usize) -> u64 {
    1 << (at % BITS)
}

impl Bitmap {
    /// All of `0 .. capacity` free.
    pub(super) fn new(capacity: usize) -> Result<Bitmap, AllocError> {
        let mut levels = ermfs_memory::try_vec(4)?;
        let mut bits = capacity;
        loop {
            let words = bits.div_ceil(BITS).max(1);
            let level = Level { lines: zeroed(words.div_ceil(LINE), Line::default)?, words };
            if bits < words * BITS {
                // What is beyond the end is as good as full.
                level.word(words - 1).store(u64::MAX << (bits % BITS), Relaxed);
            }
            levels.try_reserve(1)?;
            levels.push(level);
            if words == 1 {
                return Ok(Bitmap { levels, beyond: capacity.div_ceil(BITS).max(1) * BITS - capacity });
            }
            bits = words;
        }
    }

    /// How many numbers are taken; of one moment only while nothing happens.
    pub(super) fn used(&self) -> usize {
        let leaves = &self.levels[0];
        let taken = |word: usize| leaves.word(word).load(Acquire).count_ones() as usize;
        (0..leaves.words).map(taken).sum::<usize>() - self.beyond
    }

    /// Takes the lowest free number that is not below `from`.
    pub(super) fn claim_from(&self, from: usize) -> Option<usize> {
        let mut at = from;
        while let Some(word) = self.likely_word(at) {
            if let Some(number) = self.claim_in(word, at) {
                return Some(number);
            }
            at = (word + 1) * BITS;
        }
        // The hints may have hidden some.
        (from / BITS..self.levels[0].words).find_map(|word| self.claim_in(word, from))
    }

    /// Takes a free number of the calling thread's own part, or if it has none left, of any.
    pub(super) fn claim_any(&self) -> Option<usize> {
        let words = self.levels[0].words;
        let parts = words.div_ceil(LINE);
        // From the end, for the lowest go to those who ask for the lowest.
        let own = parts - 1 - thread_number() % parts;
        (0..parts).find_map(|distance| {
            let first = (own + parts - distance) % parts * LINE;
            (first..words.min(first + LINE)).find_map(|word| self.claim_in(word, 0))
        })
    }

    /// Takes this very number, if it is free.
    pub(super) fn claim(&self, number: usize) -> bool {
        let word = number / BITS;
        let before = self.levels[0].word(word).fetch_or(bit(number), AcqRel);
        if before & bit(number) != 0 {
            return false;
        }
        if before | bit(number) == u64::MAX {
            self.note_full(word);
        }
        true
    }

    /// Frees a taken number.
    pub(super) fn free(&self, number: usize) {
        // S3, H2.
        let before = self.levels[0].word(number / BITS).fetch_and(!bit(number), AcqRel);
        debug_assert!(before & bit(number) != 0, "a number was freed that was free");
        self.note_room(1, number / BITS);
    }

    /// H2: takes back that the word at `at` below `level` is full, and so on. All the way up, because who else has made
    /// room in one of these words may not have come to the next.
    #[inline]
    fn note_room(&self, level: usize, at: usize) {
        let mut at = at;
        for hints in &self.levels[level..] {
            let hint = hints.word(at / BITS);
            if hint.load(Acquire) & bit(at) != 0 {
                hint.fetch_and(!bit(at), AcqRel);
            }
            at /= BITS;
        }
    }

    /// The first word from the one of `from` on that no hint calls full.
    fn likely_word(&self, from: usize) -> Option<usize> {
        let mut at = from / BITS;
        if at >= self.levels[0].words {
            return None;
        }
        for (height, hints) in self.levels.iter().enumerate().skip(1) {
            let word = at / BITS;
            if word >= hints.words {
                return None;
            }
            let likely = !hints.word(word).load(Acquire) & (u64::MAX << (at % BITS));
            if likely != 0 {
                let top = word * BITS + likely.trailing_zeros() as usize;
                // Down again; in a word that was filled meanwhile any place does, for what is found is only likely.
                return Some(self.levels[1..height].iter().rev().fold(top, |at, below| {
                    at * BITS + (!below.word(at).load(Acquire)).trailing_zeros() as usize % BITS
                }));
            }
            at = word + 1;
        }
        // One level only: one word.
        (self.levels.len() == 1).then_some(at)
    }

    /// Takes the lowest free number of a word that is not below `from`.
    fn claim_in(&self, word: usize, from: usize) -> Option<usize> {
        let leaf = self.levels[0].word(word);
        let below = if from / BITS == word { !(u64::MAX << (from % BITS)) } else { 0 };
        let mut now = leaf.load(Relaxed);
        loop {
            let free = !(now | below);
            if free == 0 {
                return None;
            }
            let taken = now | (free & free.wrapping_neg());
            match leaf.compare_exchange_weak(now, taken, AcqRel, Relaxed) {
                Ok(_) => {
                    if taken == u64::MAX {
                        self.note_full(word);
                    }
                    return Some(word * BITS + free.trailing_zeros() as usize);
                }
                Err(other) => now = other,
            }
        }
    }

    /// H1: says one level up that the word at `at` is full, and so on while that fills a word.
    #[cold]
    fn note_full(&self, at: usize) {
        let mut at = at;
        for level in 1..self.levels.len() {
            let hint = self.levels[level].word(at / BITS);
            let filled = hint.fetch_or(bit(at), AcqRel) | bit(at) == u64::MAX;
            if self.levels[level - 1].word(at).fetch_or(0, AcqRel) != u64::MAX {
                self.note_room(level, at);
                break;
            }
            if !filled {
                break;
            }
            at /= BITS;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_come_lowest_first_until_none_is_left() {
        for capacity in [1, 2, 63, 64, 65, 4095, 4096, 4097, 10_000] {
            let bitmap = Bitmap::new(capacity).unwrap();
            for expected in 0..capacity {
                assert_eq!(bitmap.claim_from(0), Some(expected), "of {capacity}");
            }
            assert_eq!((bitmap.claim_from(0), bitmap.claim_any(), bitmap.used()), (None, None, capacity));
            bitmap.free(capacity - 1);
            assert!(bitmap.claim(capacity - 1) && !bitmap.claim(capacity - 1));
            assert_eq!(bitmap.claim_from(capacity), None);
            for number in [0, capacity / 2] {
                bitmap.free(number);
                assert_eq!(bitmap.claim_any(), Some(number));
            }
        }
    }

    #[test]
    fn any_sequence_agrees_with_a_set() {
        const CAPACITY: usize = 5000;
        let bitmap = Bitmap::new(CAPACITY).unwrap();
        let mut free: BTreeSet<usize> = (0..CAPACITY).collect();
        let mut random = 1u64;
        for _ in 0..40_000 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let number = (random >> 33) as usize % (CAPACITY + 10);
            let taken = number < CAPACITY && !free.contains(&number);
            if random >> 32 & 1 == 1 && taken {
                bitmap.free(number);
                free.insert(number);
            } else if random >> 30 & 3 == 1 && number < CAPACITY {
                assert_eq!(bitmap.claim(number), free.remove(&number));
            } else {
                let lowest = free.range(number..).next().copied();
                assert_eq!(bitmap.claim_from(number), lowest);
                lowest.map(|lowest| free.remove(&lowest));
            }
            assert_eq!(bitmap.used(), CAPACITY - free.len());
        }
    }

    #[test]
    fn threads_start_apart_and_use_each_others_room_in_the_end() {
        const CAPACITY: usize = 4 * LINE * BITS;
        let bitmap = Bitmap::new(CAPACITY).unwrap();
        let claimed: Vec<usize> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| bitmap.claim_any().unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        // Numbers of threads follow one another unless tests run at once, whose threads take some in between.
        assert!(claimed.iter().all(|number| number % (LINE * BITS) < 3));
        let rest: BTreeSet<usize> = core::iter::from_fn(|| bitmap.claim_any()).collect();
        assert_eq!((rest.len(), bitmap.used()), (CAPACITY - claimed.len(), CAPACITY));
    }

    #[test]
    fn no_number_is_lost_or_given_twice() {
        const CAPACITY: usize = 130;
        const THREADS: usize = 4;
        let bitmap = Bitmap::new(CAPACITY).unwrap();
        let held: Vec<AtomicU64> = (0..CAPACITY).map(|_| AtomicU64::new(0)).collect();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (bitmap, held) = (&bitmap, &held);
                scope.spawn(move || {
                    for round in 0..20_000 {
                        let first = if thread % 2 == 0 { bitmap.claim_from(0) } else { bitmap.claim_any() };
                        // As many again as fill the words, so that hints are set and taken back all the time.
                        let more = (round % 40..40).map_while(|_| bitmap.claim_from(round % CAPACITY));
                        let mine: Vec<usize> = first.into_iter().chain(more).collect();
                        for &number in &mine {
                            assert_eq!(held[number].swap(1, Relaxed), 0, "{number} was given twice");
                        }
                        for &number in mine.iter().rev() {
                            held[number].store(0, Relaxed);
                            bitmap.free(number);
                        }
                    }
                });
            }
        });
        assert_eq!(bitmap.used(), 0);
        for expected in 0..CAPACITY {
            assert_eq!(bitmap.claim_from(0), Some(expected), "no hint stays on a word with room");
        }
    }
}

#[cfg(all(test, loom))]
mod loom {
    use super::*;
    use crate::sync::model;
    use ::loom::sync::Arc;
    use ::loom::thread;

    /// All numbers but `free` taken.
    fn full_but(capacity: usize, free: &[usize]) -> Arc<Bitmap> {
        let bitmap = Bitmap::new(capacity).unwrap();
        while bitmap.claim_from(0).is_some() {}
        for &number in free {
            bitmap.free(number);
        }
        Arc::new(bitmap)
    }

    #[test]
    fn loom_the_last_free_number_goes_to_one() {
        model(|| {
            let bitmap = full_but(65, &[64]);
            let other = {
                let bitmap = bitmap.clone();
                thread::spawn(move || bitmap.claim_from(0))
            };
            let mine = bitmap.claim_any();
            let others = other.join().unwrap();
            assert!(matches!((mine, others), (Some(64), None) | (None, Some(64))), "{mine:?} {others:?}");
        });
    }

    #[test]
    fn loom_no_hint_hides_a_number_that_was_freed() {
        model(|| {
            // One thread fills the first word while another makes room in it.
            let bitmap = full_but(65, &[7]);
            let other = {
                let bitmap = bitmap.clone();
                thread::spawn(move || bitmap.free(3))
            };
            let mine = bitmap.claim_from(0);
            other.join().unwrap();
            let left = if mine == Some(3) { 7 } else { 3 };
            assert_eq!(bitmap.levels[1].word(0).load(Relaxed) & 1, 0, "a hint stayed");
            assert_eq!(bitmap.claim_from(0), Some(left));
        });
    }

    #[test]
    fn loom_two_fill_a_word_that_a_third_makes_room_in() {
        model(|| {
            let bitmap = full_but(65, &[7]);
            let freer = {
                let bitmap = bitmap.clone();
                thread::spawn(move || bitmap.free(3))
            };
            let claimer = {
                let bitmap = bitmap.clone();
                thread::spawn(move || bitmap.claim_from(0))
            };
            let mine = bitmap.claim_from(0);
            freer.join().unwrap();
            let others = claimer.join().unwrap();
            assert!(mine.is_none() || mine != others);
            let taken = [mine, others].iter().flatten().count();
            assert!(taken > 0, "one was free all along");
            assert_eq!(bitmap.claim_from(0).is_some(), taken < 2, "as many as are free");
        });
    }
}
