//! What one filesystem may take, and what it has taken.
//!
//! Promises: the total of what was charged never exceeds the limit, whatever threads do at once; a charge happens
//! wholly or not at all, and is refused when there is no room for it, or while what it would need is on its way between the
//! total and a line, which is a moment. Owns counters only, no memory. Never waits, never locks.
//!
//! # Credit
//! One word that every charge moves would be all that threads wait for. So while there is plenty, a charge takes a portion more
//! than it asks for, and a release keeps what it gives back: as *credit* of one of a few cache lines, which the next charges of the same
//! thread are served from. The total counts it. Near the limit nobody takes from credit or adds to it, and who finds
//! no room recalls that of all lines first, with nobody taking any meanwhile. Credit is a number, not memory, so whoever had it
//! is not asked.
//!
//! All accesses are relaxed: the numbers order nothing but themselves. A charge moves the total or the credit first and a
//! release moves it last, so at every moment the kinds add up to no more than the total.

use crate::lines::{LINES, own_line};
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::{AllocError, inject};

/// The most that a budget keeps back for [`Purpose::Reserved`], in bytes.
const LARGEST_RESERVE: u64 = 256 * 1024;

/// The most that a charge takes as credit, in bytes; a budget whose 1024th part is less takes that, in pages. A line has
/// at the most twice as much, unless threads share it.
const LARGEST_PORTION: u64 = 64 * 1024;
/// A portion is a multiple of this.
const PORTION_STEP: u64 = 4096;

/// What a charge is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Pages that hold file content as it was written.
    Raw,
    /// Compressed members.
    Packed,
    /// Inflated copies of packed blocks; the first to go under pressure.
    Cached,
    /// What is shared with kernel descriptors (sealed memfds).
    Exported,
    /// Everything that is not content: inodes, names, block maps.
    Metadata,
}

const KINDS: usize = 5;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Everything that may fail when the filesystem is full.
    Ordinary,
    /// Operations that must work in a full filesystem (unlink, packing, shrinking, a single overwrite): these may take
    /// the reserve that ordinary charges leave free.
    Reserved,
}

/// What the threads of one line have charged.
#[derive(Debug)]
#[repr(align(64))]
struct Line {
    /// Part of the total, and nobody's charge.
    credit: AtomicU64,
    /// What they have charged less what they have released of it: below zero, wrapped round, where others had charged it.
    kinds: [AtomicU64; KINDS],
}

impl Line {
    const fn new() -> Line {
        Line { credit: AtomicU64::new(0), kinds: [const { AtomicU64::new(0) }; KINDS] }
    }

    fn add(&self, kind: Kind, bytes: u64) {
        self.kinds[kind as usize].fetch_add(bytes, Relaxed);
    }

    fn subtract(&self, kind: Kind, bytes: u64) {
        self.kinds[kind as usize].fetch_sub(bytes, Relaxed);
    }
}

/// A limit in bytes and the counters under it. `Send` and `Sync`; all methods may be called from any thread.
#[derive(Debug)]
pub struct Budget {
    max: u64,
    /// `max` less the reserve: where ordinary charges end.
    ordinary_max: u64,
    soft_limit: u64,
    /// Above this the total is near the limit, and there is no credit.
    plenty: u64,
    /// What a charge takes as credit; 0 for a small budget.
    portion: u64,
    /// How many threads are recalling credit. Beside the total, with which it is looked at.
    recalling: AtomicU64,
    total: AtomicU64,
    peak: AtomicU64,
    soft_limit_hits: AtomicU64,
    hard_limit_hits: AtomicU64,
    lines: [Line; LINES],
}

/// A budget's counters, in bytes unless said otherwise, credit not counted. Exact, and of one moment, while nobody charges or
/// releases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Charged as [`Kind::Raw`].
    pub raw: u64,
    /// Charged as [`Kind::Packed`].
    pub packed: u64,
    /// Charged as [`Kind::Cached`].
    pub cached: u64,
    /// Charged as [`Kind::Exported`].
    pub exported: u64,
    /// Charged as [`Kind::Metadata`].
    pub metadata: u64,
    /// All kinds together.
    pub total: u64,
    /// The highest total so far, give or take the credit that there was: what is charged from that is looked at when it is used
    /// up. Not below the total that is told with it.
    pub peak: u64,
    /// The limit.
    pub max: u64,
    /// What of it is kept for [`Purpose::Reserved`].
    pub reserve: u64,
    /// How often the total, credit included, went from below the soft limit to it or above it.
    pub soft_limit_hits: u64,
    /// How often a call failed because of the limit; counted by [`Budget::note_hard_limit`].
    pub hard_limit_hits: u64,
}

impl Budget {
    /// A budget of `max_bytes`, of which 256 KiB, but at most a quarter, are kept for [`Purpose::Reserved`]. The soft
    /// limit is `soft_limit_percent` of `max_bytes`, rounded down; 0, or more than 100, means that there is none.
    pub fn new(max_bytes: u64, soft_limit_percent: u32) -> Budget {
        let soft_limit = match soft_limit_percent {
            1..=100 => (u128::from(max_bytes) * u128::from(soft_limit_percent) / 100) as u64,
            _ => u64::MAX,
        };
        let reserve = LARGEST_RESERVE.min(max_bytes / 4);
        Budget {
            max: max_bytes,
            ordinary_max: max_bytes - reserve,
            plenty: max_bytes - 2 * reserve,
            portion: LARGEST_PORTION.min(max_bytes / 1024 / PORTION_STEP * PORTION_STEP),
            // A limit of 0 would be one that the total never comes to from below.
            soft_limit: soft_limit.max(1),
            recalling: AtomicU64::new(0),
            total: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            soft_limit_hits: AtomicU64::new(0),
            hard_limit_hits: AtomicU64::new(0),
            lines: [const { Line::new() }; LINES],
        }
    }

    /// Takes `bytes` of the budget; call it before the memory is taken. Charging 0 bytes always succeeds.
    ///
    /// # Errors
    /// [`AllocError::Budget`] when the total would pass the limit that `purpose` has; nothing has changed then.
    #[cfg_attr(feature = "injector", track_caller)]
    pub fn charge(&self, kind: Kind, bytes: u64, purpose: Purpose) -> Result<(), AllocError> {
        if bytes == 0 {
            return Ok(());
        }
        let (limit, label) = match purpose {
            Purpose::Ordinary => (self.ordinary_max, "budget.ordinary"),
            Purpose::Reserved => (self.max, "budget.reserved"),
        };
        if inject::fails(label) {
            return Err(AllocError::Budget);
        }
        let line = self.own();
        if !self.take_credit(line, bytes) {
            self.charge_total(line, bytes, limit)?;
        }
        line.add(kind, bytes);
        Ok(())
    }

    /// Gives back what was charged as `kind`; call it after the memory is free. Giving back more than was charged is a
    /// bug of the caller, after which the figures are wrong; where it is more than the total it panics in debug builds.
    pub fn release(&self, kind: Kind, bytes: u64) {
        debug_assert!(
            self.total.load(Relaxed) >= bytes,
            "released {bytes} bytes of {}",
            self.total.load(Relaxed)
        );
        let line = self.own();
        line.subtract(kind, bytes);
        let most = 2 * self.portion;
        if bytes > most || !self.is_plenty() {
            return subtract(&self.total, bytes);
        }
        if line.credit.fetch_add(bytes, Relaxed) + bytes > most {
            self.give_back(line);
        }
    }

    /// Charges `bytes` that were charged as `from` as `to` instead; the total does not move, so this cannot fail.
    pub fn transfer(&self, from: Kind, to: Kind, bytes: u64) {
        let line = self.own();
        line.subtract(from, bytes);
        line.add(to, bytes);
    }

    #[inline]
    fn own(&self) -> &Line {
        &self.lines[own_line()]
    }

    /// Takes what is charged from the line's credit; whether it was there, and is to be used.
    #[inline]
    fn take_credit(&self, line: &Line, bytes: u64) -> bool {
        let mut credit = line.credit.load(Relaxed);
        while credit >= bytes && self.is_plenty() {
            match line.credit.compare_exchange_weak(credit, credit - bytes, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(now) => credit = now,
            }
        }
        false
    }

    /// Takes what is charged from what the total leaves, and a portion more while there is plenty.
    #[inline(never)]
    fn charge_total(&self, line: &Line, bytes: u64, limit: u64) -> Result<(), AllocError> {
        if bytes <= self.portion && self.is_plenty() && self.take(bytes + self.portion, 0, self.plenty) {
            line.credit.fetch_add(self.portion, Relaxed);
        } else if !self.take(bytes, 0, limit) && !self.take_with_credit(bytes, limit) {
            return Err(AllocError::Budget);
        }
        self.note_peak();
        Ok(())
    }

    /// Moves the total up, less what is `given` back with it, if it stays within `limit`.
    fn take(&self, bytes: u64, given: u64, limit: u64) -> bool {
        let mut before = self.total.load(Relaxed);
        let after = loop {
            let after = match before.saturating_sub(given).checked_add(bytes) {
                Some(after) if after <= limit => after,
                _ => return false,
            };
            match self.total.compare_exchange_weak(before, after, Relaxed, Relaxed) {
                Ok(_) => break after,
                Err(now) => before = now,
            }
        };
        if before < self.soft_limit && after >= self.soft_limit {
            self.soft_limit_hits.fetch_add(1, Relaxed);
        }
        true
    }

    /// Gives the total what a line has above one portion.
    #[cold]
    fn give_back(&self, line: &Line) {
        let credit = line.credit.load(Relaxed);
        let excess = credit.saturating_sub(self.portion);
        // Another thread of the line may have been faster.
        if line.credit.compare_exchange(credit, credit - excess, Relaxed, Relaxed).is_ok() {
            subtract(&self.total, excess);
        }
    }

    /// As [`Budget::take`], with all credit there is given back.
    #[cold]
    fn take_with_credit(&self, bytes: u64, limit: u64) -> bool {
        self.recalling.fetch_add(1, Relaxed);
        let credit =
            |line: &Line| if line.credit.load(Relaxed) > 0 { line.credit.swap(0, Relaxed) } else { 0 };
        let recalled = self.lines.iter().map(credit).sum();
        // In one step, so that no other charge comes in between.
        let taken = self.take(bytes, recalled, limit);
        if !taken && recalled > 0 {
            subtract(&self.total, recalled);
        }
        self.recalling.fetch_sub(1, Relaxed);
        taken
    }

    /// Whether there is so much left that credit is of use.
    #[inline]
    fn is_plenty(&self) -> bool {
        self.total.load(Relaxed) <= self.plenty && self.recalling.load(Relaxed) == 0
    }

    fn credit(&self) -> u64 {
        self.lines.iter().fold(0, |sum: u64, line| sum.saturating_add(line.credit.load(Relaxed)))
    }

    fn note_peak(&self) {
        let charged = self.total.load(Relaxed).saturating_sub(self.credit());
        if charged > self.peak.load(Relaxed) {
            self.peak.fetch_max(charged, Relaxed);
        }
    }

    /// Counts a call that failed with `ENOSPC`: once for the call, however often it retried.
    pub fn note_hard_limit(&self) {
        self.hard_limit_hits.fetch_add(1, Relaxed);
    }

    /// Whether so little is left that what could be given back should not be kept: less than the reserve twice.
    #[inline]
    pub fn is_tight(&self) -> bool {
        self.total.load(Relaxed) > self.plenty
    }

    /// The counters now.
    pub fn usage(&self) -> Usage {
        let kind = |kind: Kind| {
            let lines = self.lines.iter().map(|line| line.kinds[kind as usize].load(Relaxed));
            // Of different moments while others charge and release: then it may seem to be below zero. Nobody has 2^63 bytes.
            lines.fold(0u64, u64::wrapping_add).cast_signed().max(0).cast_unsigned()
        };
        let total = self.total.load(Relaxed).saturating_sub(self.credit());
        let peak = self.peak.fetch_max(total, Relaxed).max(total);
        Usage {
            raw: kind(Kind::Raw),
            packed: kind(Kind::Packed),
            cached: kind(Kind::Cached),
            exported: kind(Kind::Exported),
            metadata: kind(Kind::Metadata),
            total,
            peak,
            max: self.max,
            reserve: self.max - self.ordinary_max,
            soft_limit_hits: self.soft_limit_hits.load(Relaxed),
            hard_limit_hits: self.hard_limit_hits.load(Relaxed),
        }
    }
}

/// Subtracts without ever wrapping round: a wrapped counter would refuse every later charge.
fn subtract(counter: &AtomicU64, bytes: u64) {
    let mut before = counter.load(Relaxed);
    loop {
        debug_assert!(before >= bytes, "released {bytes} bytes of {before}");
        match counter.compare_exchange_weak(before, before.saturating_sub(bytes), Relaxed, Relaxed) {
            Ok(_) => return,
            Err(now) => before = now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Purpose::{Ordinary, Reserved};

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn each_purpose_ends_exactly_at_its_limit() {
        for (max, reserve) in [(MIB, MIB / 4), (16 * MIB, 256 * 1024), (1000, 250), (3, 0), (0, 0)] {
            for (purpose, limit) in [(Ordinary, max - reserve), (Reserved, max)] {
                for bytes in [limit.saturating_sub(1), limit, limit + 1] {
                    let budget = Budget::new(max, 0);
                    let expected = if bytes <= limit { Ok(()) } else { Err(AllocError::Budget) };
                    assert_eq!(budget.charge(Kind::Raw, bytes, purpose), expected, "{bytes} of {max}");
                    let usage = budget.usage();
                    let taken = if bytes <= limit { bytes } else { 0 };
                    assert_eq!((usage.raw, usage.total, usage.peak, usage.max), (taken, taken, taken, max));
                }
            }
        }
    }

    #[test]
    fn reserved_charges_take_what_ordinary_ones_leave() {
        let budget = Budget::new(16 * MIB, 90);
        let reserve = 256 * 1024;
        budget.charge(Kind::Raw, 16 * MIB - reserve, Ordinary).unwrap();
        assert_eq!(budget.charge(Kind::Raw, 1, Ordinary), Err(AllocError::Budget));
        budget.charge(Kind::Packed, reserve, Reserved).unwrap();
        assert_eq!(budget.charge(Kind::Packed, 1, Reserved), Err(AllocError::Budget));
        assert_eq!(budget.charge(Kind::Metadata, 0, Ordinary), Ok(()));
        budget.release(Kind::Raw, 16 * MIB - reserve);
        let usage = budget.usage();
        assert_eq!((usage.raw, usage.packed, usage.total, usage.peak), (0, reserve, reserve, 16 * MIB));
    }

    #[test]
    fn sums_that_overflow_are_refused() {
        let budget = Budget::new(u64::MAX, 100);
        budget.charge(Kind::Raw, 10, Ordinary).unwrap();
        assert_eq!(budget.charge(Kind::Raw, u64::MAX - 9, Reserved), Err(AllocError::Budget));
        assert_eq!(budget.charge(Kind::Raw, u64::MAX, Reserved), Err(AllocError::Budget));
        assert_eq!(budget.charge(Kind::Raw, u64::MAX - 10, Reserved), Ok(()));
        assert_eq!(budget.usage().total, u64::MAX);
    }

    #[test]
    fn the_soft_limit_counts_crossings_from_below() {
        let budget = Budget::new(1000, 50);
        budget.charge(Kind::Raw, 499, Ordinary).unwrap();
        assert_eq!(budget.usage().soft_limit_hits, 0);
        budget.charge(Kind::Raw, 1, Ordinary).unwrap();
        budget.charge(Kind::Raw, 1, Ordinary).unwrap();
        assert_eq!(budget.usage().soft_limit_hits, 1);
        budget.release(Kind::Raw, 2);
        budget.charge(Kind::Raw, 200, Ordinary).unwrap();
        assert_eq!(budget.usage().soft_limit_hits, 2);
        for percent in [0, 101, u32::MAX] {
            let without = Budget::new(1000, percent);
            without.charge(Kind::Raw, 1000, Reserved).unwrap();
            assert_eq!(without.usage().soft_limit_hits, 0);
        }
        assert_eq!(budget.usage().hard_limit_hits, 0);
        budget.note_hard_limit();
        assert_eq!(budget.usage().hard_limit_hits, 1);
    }

    #[test]
    fn a_transfer_moves_kinds_and_not_the_total() {
        let budget = Budget::new(MIB, 0);
        budget.charge(Kind::Raw, 100, Ordinary).unwrap();
        budget.charge(Kind::Exported, 7, Ordinary).unwrap();
        budget.transfer(Kind::Raw, Kind::Cached, 40);
        let usage = budget.usage();
        assert_eq!((usage.raw, usage.cached, usage.exported, usage.total), (60, 40, 7, 107));
        budget.transfer(Kind::Cached, Kind::Cached, 40);
        assert_eq!(budget.usage(), usage);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "released 2 bytes of 1")]
    fn releasing_more_than_was_charged_is_caught() {
        let budget = Budget::new(MIB, 0);
        budget.charge(Kind::Raw, 1, Ordinary).unwrap();
        budget.release(Kind::Raw, 2);
    }

    /// Charges of a page until one is refused; how many there were.
    fn fill(budget: &Budget) -> u64 {
        (0..).find(|_| budget.charge(Kind::Raw, 4096, Ordinary).is_err()).unwrap()
    }

    #[test]
    fn credit_is_used_before_the_total_moves_and_is_not_counted_as_taken() {
        let budget = Budget::new(64 * MIB, 0);
        budget.charge(Kind::Raw, 4096, Ordinary).unwrap();
        let total = budget.total.load(Relaxed);
        assert_eq!(total, 4096 + LARGEST_PORTION);
        for _ in 0..LARGEST_PORTION / 4096 {
            budget.charge(Kind::Metadata, 4096, Reserved).unwrap();
        }
        let usage = budget.usage();
        assert_eq!((usage.raw, usage.metadata, usage.total), (4096, LARGEST_PORTION, total));
        assert_eq!((budget.total.load(Relaxed), budget.credit(), usage.peak), (total, 0, total));
        budget.release(Kind::Metadata, LARGEST_PORTION);
        budget.release(Kind::Raw, 4096);
        assert_eq!((budget.total.load(Relaxed), budget.usage().total), (total, 0));
        // A line keeps two portions, and gives back all but one when it has more.
        budget.charge(Kind::Raw, 3 * LARGEST_PORTION, Ordinary).unwrap();
        (0..3).for_each(|_| budget.release(Kind::Raw, LARGEST_PORTION));
        assert!(budget.credit() <= 2 * LARGEST_PORTION);
        assert_eq!(budget.usage().total, 0);
    }

    #[test]
    fn whoever_has_credit_what_is_left_can_be_had() {
        for max in [4 * MIB - 1, 4 * MIB, 64 * MIB, 65 * MIB + 4097] {
            let budget = Budget::new(max, 0);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        budget.charge(Kind::Raw, 4096, Ordinary).unwrap();
                        budget.release(Kind::Raw, 4096);
                    });
                }
            });
            assert_eq!(budget.usage().total, 0);
            assert_eq!(fill(&budget), budget.ordinary_max / 4096, "{max}");
            let left = max - budget.usage().total;
            assert_eq!(budget.charge(Kind::Packed, left + 1, Reserved), Err(AllocError::Budget));
            assert_eq!(budget.charge(Kind::Packed, left, Reserved), Ok(()));
            assert_eq!((budget.usage().total, budget.usage().peak), (max, max));
        }
    }

    /// A charge that needs nearly all that others have as credit, while they go on charging and releasing.
    #[test]
    fn what_busy_threads_have_as_credit_can_be_had() {
        let budget = Budget::new(64 * MIB, 0);
        let busy = 4 * 4096;
        let rest = budget.ordinary_max - busy;
        let stop = crate::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(Relaxed) {
                        if budget.charge(Kind::Raw, 4096, Ordinary).is_ok() {
                            budget.release(Kind::Raw, 4096);
                        }
                    }
                });
            }
            for _ in 0..500 {
                // What is on its way from the total to a line when others look there is missing for that moment.
                while budget.charge(Kind::Packed, rest, Ordinary).is_err() {
                    std::thread::yield_now();
                }
                budget.release(Kind::Packed, rest);
            }
            stop.store(true, Relaxed);
        });
        assert_eq!(budget.usage().total, 0);
    }

    #[test]
    fn threads_that_fill_a_budget_together_leave_no_room() {
        let budget = Budget::new(16 * MIB, 0);
        let charged: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| fill(&budget))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        // A thread may have been refused what another was recalling.
        assert_eq!((charged + fill(&budget)) * 4096, budget.ordinary_max);
        assert_eq!(budget.usage().total, budget.ordinary_max);
    }

    #[test]
    fn threads_with_credit_never_pass_the_limit_and_give_everything_back() {
        let budget = Budget::new(5 * MIB, 50);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let budget = &budget;
                scope.spawn(move || {
                    let mut held = Vec::new();
                    for i in 0..30_000u64 {
                        let bytes = 1 + (i * 7919 + thread) % 12_000;
                        if (i / 300) % 2 == 0 && budget.charge(Kind::Raw, bytes, Reserved).is_ok() {
                            held.push(bytes);
                        } else if let Some(bytes) = held.pop() {
                            budget.release(Kind::Raw, bytes);
                        }
                        assert!(
                            budget.total.load(Relaxed) <= budget.max && budget.usage().total <= budget.max
                        );
                    }
                    held.drain(..).for_each(|bytes| budget.release(Kind::Raw, bytes));
                });
            }
        });
        let usage = budget.usage();
        assert_eq!((usage.raw, usage.total), (0, 0));
        assert_eq!(budget.charge(Kind::Raw, 5 * MIB, Reserved), Ok(()));
    }

    #[test]
    fn threads_never_pass_the_limit_and_give_everything_back() {
        const KINDS_IN_TURN: [Kind; 5] =
            [Kind::Raw, Kind::Packed, Kind::Cached, Kind::Exported, Kind::Metadata];
        let budget = Budget::new(10_000, 50);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let budget = &budget;
                scope.spawn(move || {
                    for i in 0..20_000u64 {
                        let (kind, bytes) = (KINDS_IN_TURN[(i % 5) as usize], 1 + (i * 37 + thread) % 4000);
                        if budget.charge(kind, bytes, Reserved).is_ok() {
                            assert!(budget.usage().total <= 10_000);
                            budget.release(kind, bytes);
                        }
                    }
                });
            }
        });
        let usage = budget.usage();
        assert!(usage.peak > 0 && usage.peak <= 10_000);
        let left = usage.raw + usage.packed + usage.cached + usage.exported + usage.metadata;
        assert_eq!((left, usage.total), (0, 0));
    }
}
