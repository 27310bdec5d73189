//! The word that decides how long an inode lives: links (names) and opens (counted references).
//!
//! Promises: exactly one caller is told that both are zero, and from then on [`Counts::acquire`]
//! refuses. Owns nothing but the word.
//!
//! Order: giving up a link or an open is a Release, and whoever brings the word to zero loads it
//! with Acquire before it frees, so everything others did with the inode happens before.

use crate::errno::{Errno, Result};
use crate::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

const OPEN: u64 = 1;
const LINK: u64 = 1 << 32;
/// The largest number of names of one inode.
pub(super) const LINK_MAX: u32 = 1 << 31;
/// The largest number of references. It takes 16 GiB of them to get there without forgetting some.
const OPEN_MAX: u32 = 1 << 31;

/// Links in the upper, opens in the lower 32 bits.
pub(super) struct Counts(AtomicU64);

const fn links_of(word: u64) -> u32 {
    (word >> 32) as u32
}

const fn opens_of(word: u64) -> u32 {
    word as u32
}

impl Counts {
    /// No name, one reference.
    pub(super) fn new() -> Counts {
        Counts(AtomicU64::new(OPEN))
    }

    pub(super) fn links(&self) -> u32 {
        links_of(self.0.load(Relaxed))
    }

    /// Whether nothing holds the inode any more: whoever reached it has to look again.
    pub(super) fn is_gone(&self) -> bool {
        // What was read of the inode before must not be read after.
        fence(Acquire);
        self.0.load(Relaxed) == 0
    }

    /// One more open, unless the inode is gone (`false`).
    #[inline]
    pub(super) fn acquire(&self) -> bool {
        let mut word = self.0.load(Relaxed);
        while word != 0 {
            refuse_overflow(word);
            match self.0.compare_exchange_weak(word, word + OPEN, Acquire, Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// One more open, by someone who has one.
    #[inline]
    pub(super) fn open_again(&self) {
        refuse_overflow(self.0.fetch_add(OPEN, Relaxed));
    }

    /// One open less; `true` when the caller has to free the inode.
    #[inline]
    #[must_use]
    pub(super) fn close(&self) -> bool {
        self.give_up(OPEN)
    }

    /// One name more, for an inode that the caller holds open or has just found a name of.
    ///
    /// # Errors
    /// `ENOENT` when it has no name and `from_zero` is not given; `EMLINK` when it has too many.
    pub(super) fn link(&self, from_zero: bool) -> Result<()> {
        let mut word = self.0.load(Relaxed);
        loop {
            match links_of(word) {
                0 if !from_zero => return Err(Errno::ENOENT),
                LINK_MAX.. => return Err(Errno::EMLINK),
                _ => {}
            }
            match self.0.compare_exchange_weak(word, word + LINK, Relaxed, Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
    }

    /// One name less; `true` when the caller has to free the inode.
    #[inline]
    #[must_use]
    pub(super) fn unlink(&self) -> bool {
        self.give_up(LINK)
    }

    #[inline]
    fn give_up(&self, unit: u64) -> bool {
        let before = self.0.fetch_sub(unit, Release);
        debug_assert!(if unit == LINK { links_of(before) > 0 } else { opens_of(before) > 0 });
        if before == unit {
            // Reads this 0, which all earlier Releases lead to; ThreadSanitizer sees no fences.
            self.0.load(Acquire);
            return true;
        }
        false
    }
}

/// As `Arc` does: going on would free what is still referred to, and there is no error to return.
#[inline]
fn refuse_overflow(word: u64) {
    if opens_of(word) >= OPEN_MAX {
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_who_brings_both_to_zero_frees() {
        let counts = Counts::new();
        assert_eq!(counts.link(false), Err(Errno::ENOENT));
        assert_eq!(counts.link(true), Ok(()));
        assert_eq!(counts.link(false), Ok(()));
        assert_eq!(counts.links(), 2);
        counts.open_again();
        assert!(!counts.close() && !counts.unlink() && !counts.close());
        assert!(counts.acquire() && !counts.close() && !counts.is_gone());
        assert!(counts.unlink());
        assert!(counts.is_gone() && !counts.acquire());
    }

    #[test]
    fn links_end_at_the_limit() {
        let counts = Counts(AtomicU64::new(u64::from(LINK_MAX - 1) << 32));
        assert_eq!(counts.link(false), Ok(()));
        assert_eq!(counts.link(false), Err(Errno::EMLINK));
        assert_eq!(counts.links(), LINK_MAX);
    }

    #[test]
    fn threads_agree_on_who_is_last() {
        for _ in 0..200 {
            let counts = Counts::new();
            counts.link(true).unwrap();
            let last = std::thread::scope(|scope| {
                let threads: Vec<_> = [false, true]
                    .into_iter()
                    .map(|link| {
                        let counts = &counts;
                        scope.spawn(move || {
                            let extra = counts.acquire() && counts.close();
                            u32::from(extra) + u32::from(if link { counts.unlink() } else { counts.close() })
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>()
            });
            assert_eq!(last, 1);
        }
    }
}

#[cfg(all(test, loom))]
mod loom {
    use super::*;
    use crate::sync::atomic::AtomicU32;
    use crate::sync::model;
    use ::loom::cell::UnsafeCell;
    use ::loom::sync::Arc;
    use ::loom::thread;

    /// An inode: what its holders write, and who frees it must have seen.
    struct Held {
        counts: Counts,
        by_name: UnsafeCell<u32>,
        by_reference: UnsafeCell<u32>,
        freed: AtomicU32,
    }

    impl Held {
        /// One name, one open.
        fn new() -> Arc<Held> {
            let counts = Counts::new();
            counts.link(true).unwrap();
            let (by_name, by_reference) = (UnsafeCell::new(0), UnsafeCell::new(0));
            Arc::new(Held { counts, by_name, by_reference, freed: AtomicU32::new(0) })
        }

        fn free_if(&self, last: bool) {
            if last {
                let write = |it: &UnsafeCell<u32>| it.with_mut(|it| unsafe { *it += 1 });
                // A race, if a former holder's write does not happen before.
                write(&self.by_name);
                write(&self.by_reference);
                self.freed.fetch_add(1, Relaxed);
            }
        }

        fn close(&self) {
            // SAFETY: the one who has the open writes here, and after it who frees.
            self.by_reference.with_mut(|it| unsafe { *it = 5 });
            self.free_if(self.counts.close());
        }

        fn unlink(&self) {
            // SAFETY: the one who has the name writes here, and after it who frees.
            self.by_name.with_mut(|it| unsafe { *it = 5 });
            self.free_if(self.counts.unlink());
        }
    }

    #[test]
    fn loom_last_close_against_unlink() {
        model(|| {
            let held = Held::new();
            let closer = {
                let held = held.clone();
                thread::spawn(move || held.close())
            };
            held.unlink();
            closer.join().unwrap();
            assert_eq!(held.freed.load(Relaxed), 1);
            assert!(held.counts.is_gone() && !held.counts.acquire());
        });
    }

    #[test]
    fn loom_last_close_against_unlink_and_an_open() {
        model(|| {
            let held = Held::new();
            let closer = {
                let held = held.clone();
                thread::spawn(move || held.close())
            };
            let opener = {
                let held = held.clone();
                thread::spawn(move || {
                    if held.counts.acquire() {
                        assert_eq!(held.freed.load(Relaxed), 0, "opened after it was freed");
                        held.free_if(held.counts.close());
                    }
                })
            };
            held.unlink();
            closer.join().unwrap();
            opener.join().unwrap();
            assert_eq!(held.freed.load(Relaxed), 1);
        });
    }
}
