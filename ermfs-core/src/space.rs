//! One filesystem's resources: its budget, what is kept only while there is room, its policy and
//! its counters.
//!
//! Promises: memory is charged here before it is taken; at the limit everything that can be made
//! again (inflated copies, sealed exports) is let go before a charge is refused; a refused charge
//! has changed nothing that a caller can see. Owns the [`Budget`], the cache of inflated copies and
//! the sealed exports. Never calls upwards into content or names.

use ermfs_memory::sync::Arc;
use ermfs_memory::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use ermfs_memory::{AllocError, Budget, Kind, Purpose};

use crate::content::cache::Cache;
use crate::content::garbage;
use crate::content::sealed::SealedExports;
use crate::epoch;
use crate::errno::{Errno, Result};
use crate::fs::Mode;
use crate::stripes::Stripes;

/// When the blocks of a file are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compress {
    /// When the last writable description of the file closes, before that `close` returns.
    OnClose,
    /// Soon after that, by the process's background thread.
    Background,
    /// Not at all.
    Never,
}

/// What does not change over a filesystem's life.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// When blocks are compressed.
    pub compress: Compress,
    /// libdeflate level, 1 to 12; 0 for the default of the policy (1 on close, 6 in the background).
    pub level: i32,
    /// The largest number of bytes one file's content may take, or 0 for no limit of its own.
    pub max_file_bytes: u64,
    /// How many bytes of inflated copies are kept at the most.
    pub cache_bytes: u64,
}

impl Policy {
    /// The level to compress with.
    pub(crate) fn effective_level(&self) -> i32 {
        match (self.level, self.compress) {
            (0, Compress::Background) => 6,
            (0, _) => 1,
            (level, _) => level,
        }
    }
}

/// Counters that only statistics read; all relaxed.
#[derive(Default)]
pub(crate) struct Counters {
    /// Sum of the files' data bytes, holes not counted. Every write that makes a file longer moves it.
    pub(crate) logical_bytes: Stripes,
    pub(crate) blocks_packed: AtomicU64,
    pub(crate) blocks_inflated: AtomicU64,
    pub(crate) blocks_stored: AtomicU64,
    /// Corrupt members met and internal panics caught.
    pub(crate) errors: AtomicU64,
}

/// How often a charge lets other threads run before it is refused, while what was let go for it is not
/// free yet: at first at once, then for a millisecond each time.
const YIELDS: usize = 64;
const SLEEPS: usize = 32;
const MILLISECOND: rustix::thread::Timespec = rustix::thread::Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// One filesystem's resources. See the module's page.
pub struct Space {
    budget: Budget,
    policy: Policy,
    pub(crate) cache: Cache,
    pub(crate) sealed: SealedExports,
    pub(crate) counters: Counters,
    /// Bytes that were taken out of files and directories and wait for the pins that may have seen them.
    retired: AtomicU64,
    poisoned: AtomicBool,
    /// Whether the filesystem is in lockless mode. Changes only while no other thread is inside the gate.
    lockless: AtomicBool,
}

impl Space {
    /// A space of `max_bytes`, all memory of the filesystem counted.
    pub fn new(max_bytes: u64, soft_limit_percent: u32, policy: Policy, mode: Mode) -> Arc<Space> {
        Arc::new(Space {
            budget: Budget::new(max_bytes, soft_limit_percent),
            policy,
            cache: Cache::new(policy.cache_bytes),
            sealed: SealedExports::new(),
            counters: Counters::default(),
            retired: AtomicU64::new(0),
            poisoned: AtomicBool::new(false),
            lockless: AtomicBool::new(mode == Mode::Lockless),
        })
    }

    /// The budget, for statistics and releases.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The policy this filesystem was made with.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How threads are kept apart in this filesystem.
    #[inline]
    pub fn mode(&self) -> Mode {
        if self.lockless.load(Ordering::Relaxed) { Mode::Lockless } else { Mode::Locked }
    }

    /// Notes that how threads are kept apart has changed, while no other thread is inside the gate.
    pub(crate) fn set_mode(&self, mode: Mode) {
        self.lockless.store(mode == Mode::Lockless, Ordering::Relaxed);
    }

    /// Charges `bytes` before they are taken.
    ///
    /// # Errors
    /// `ENOSPC` when the budget has no room even after everything that can be made again was let go.
    #[inline]
    #[cfg_attr(feature = "injector", track_caller)]
    pub fn charge(&self, kind: Kind, bytes: u64, purpose: Purpose) -> Result<()> {
        match self.budget.charge(kind, bytes, purpose) {
            Ok(()) => Ok(()),
            Err(_) => self.charge_under_pressure(kind, bytes, purpose),
        }
    }

    /// Like [`Space::charge`], as a value that gives the charge back unless it is kept.
    #[inline]
    #[cfg_attr(feature = "injector", track_caller)]
    pub(crate) fn charged(&self, kind: Kind, bytes: u64, purpose: Purpose) -> Result<Charge<'_>> {
        self.charge(kind, bytes, purpose)?;
        Ok(Charge { space: self, kind, bytes })
    }

    /// Gives back what was charged.
    #[inline]
    pub fn release(&self, kind: Kind, bytes: u64) {
        self.budget.release(kind, bytes);
    }

    /// Counts bytes as taken out of files or directories and waiting for pins to end: while some do, a charge waits a little
    /// before it is refused.
    #[inline]
    pub(crate) fn note_retired(&self, bytes: u64) {
        self.retired.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes as freed that waited.
    pub(crate) fn note_freed(&self, bytes: u64) {
        self.retired.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether something that was noted as retired is not free yet.
    pub(crate) fn has_garbage(&self) -> bool {
        self.retired.load(Ordering::Relaxed) > 0
    }

    /// Releases what was noted as retired and is free now.
    pub(crate) fn release_retired(&self, kind: Kind, bytes: u64) {
        // In this order: who needs room waits for as long as something is noted.
        self.release(kind, bytes);
        self.note_freed(bytes);
    }

    fn has_retired(&self) -> bool {
        self.cache.has_retired() || self.has_garbage()
    }

    #[cold]
    fn charge_under_pressure(&self, kind: Kind, bytes: u64, purpose: Purpose) -> Result<()> {
        let _pressing = self.cache.press();
        // In the order of what costs least to make again.
        let steps: [&dyn Fn(); 4] = [
            &garbage::settle,
            &|| {
                self.cache.shrink(bytes);
                garbage::settle();
            },
            // What went may have been held by views: then the others have to go too.
            &|| {
                self.cache.shrink(u64::MAX);
                garbage::settle();
            },
            &|| self.sealed.clear(self),
        ];
        for give_back in steps {
            give_back();
            match self.budget.charge(kind, bytes, purpose) {
                Ok(()) => return Ok(()),
                Err(AllocError::Memory) => return Err(Errno::ENOMEM),
                Err(AllocError::Budget) => {}
            }
        }
        // A reader that is looking at what was let go, or is not running just now, still holds it
        // back. It is pinned for one block's work: a few turns for the others are enough.
        for turn in 0..YIELDS + SLEEPS {
            if !self.has_retired() || epoch::is_pinned() {
                break;
            }
            match turn {
                ..YIELDS => std::thread::yield_now(),
                // A direct system call: an interruption is no failure, and leaves errno alone.
                _ => drop(rustix::thread::nanosleep(&MILLISECOND)),
            }
            self.cache.shrink(u64::MAX);
            garbage::settle();
            if self.budget.charge(kind, bytes, purpose).is_ok() {
                return Ok(());
            }
        }
        self.budget.note_hard_limit();
        Err(Errno::ENOSPC)
    }

    /// Marks the filesystem as not to be trusted: an internal panic was caught while it was worked on.
    pub fn poison(&self) {
        self.counters.errors.fetch_add(1, Ordering::Relaxed);
        self.poisoned.store(true, Ordering::Relaxed);
    }

    /// Whether every call on this filesystem has to answer `EIO`.
    #[inline]
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Relaxed)
    }
}

/// A charge that is given back when dropped, unless [`Charge::keep`] was called.
pub(crate) struct Charge<'a> {
    space: &'a Space,
    kind: Kind,
    bytes: u64,
}

impl Charge<'_> {
    /// The memory was taken: from now on whoever frees it releases the charge.
    #[inline]
    pub(crate) fn keep(self) {
        core::mem::forget(self);
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        self.space.release(self.kind, self.bytes);
    }
}
