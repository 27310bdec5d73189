//! A filesystem: one tree of files with its own budget.
//!
//! Promises: filesystems share nothing but the process's allocators and its epoch collector. When
//! the last [`Fs`] handle goes, the whole tree is freed at once; only inodes that are still held by
//! an `InodeRef` stay, without names, until that is dropped. Owns the root, and what all inodes of
//! the tree share. Never: the descriptors, which are the process's.

use core::mem::ManuallyDrop;
use std::sync::Arc;

use ermfs_memory::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use ermfs_memory::sync::{self, RwLock};
use ermfs_memory::{Counted, Usage};

use crate::content::garbage;
use crate::credentials::{self, Credentials};
use crate::epoch;
use crate::errno::{Errno, Result};
use crate::namespace::{self, Attributes, InodeKind, InodeRef, Locks, NameHasher};
use crate::observer::{Observer, Observers};
use crate::space::{Compress, Policy, Space};
use crate::stripes::Stripes;

/// How names, descriptors and content are kept from disturbing one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By locks.
    Locked,
    /// Readers take no lock.
    Lockless,
}

impl Mode {
    const LOCKLESS_SETTING: &str = "ERMFS_LOCKLESS";

    /// What a setting of `ERMFS_LOCKLESS` asks for; anything but 0 and 1 is not heeded.
    fn of_setting(setting: Option<&str>) -> Mode {
        match setting.map(str::trim) {
            Some("1") => Mode::Lockless,
            Some("0") => Mode::Locked,
            _ if cfg!(feature = "lockless") => Mode::Lockless,
            _ => Mode::Locked,
        }
    }
}

/// The process's mode: 0 while nobody has asked, else one more than the `Mode`.
static PROCESS_MODE: AtomicU8 = AtomicU8::new(0);

impl Mode {
    /// The process's mode from now on. No other thread is inside the library.
    pub(crate) fn set_for_process(self) {
        PROCESS_MODE.store(self as u8 + 1, Relaxed);
    }

    #[cold]
    fn ask_environment() -> Mode {
        let mode = Mode::of_setting(std::env::var(Mode::LOCKLESS_SETTING).ok().as_deref());
        // Whoever was faster has found the same, or switched it since.
        let _ = PROCESS_MODE.compare_exchange(0, mode as u8 + 1, Relaxed, Relaxed);
        Mode::default()
    }
}

impl Default for Mode {
    /// The process's mode: what it was switched to last
    /// ([`process::set_lockless_mode`](crate::process::set_lockless_mode)); before that what `ERMFS_LOCKLESS` (0 or 1)
    /// asked for at the first question; else what the library was built with: locked, or with the feature `lockless`
    /// lockless.
    #[inline]
    fn default() -> Mode {
        match PROCESS_MODE.load(Relaxed) {
            0 => Mode::ask_environment(),
            1 => Mode::Locked,
            _ => Mode::Lockless,
        }
    }
}

/// What a filesystem is made with. [`Config::default`] is 1 GiB, compressed on close, of the default mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// All memory the filesystem may take, in bytes; `ENOSPC` beyond.
    pub max_bytes: u64,
    /// The largest number of bytes one file's content may take; `EFBIG` beyond. 0: only `max_bytes` limits it.
    pub max_file_bytes: u64,
    /// Per cent of `max_bytes` whose crossing is counted in [`Statistics::soft_limit_hits`].
    pub soft_limit_percent: u32,
    /// When files are compressed.
    pub compress: Compress,
    /// libdeflate level, 1 to 12; 0: what suits `compress`.
    pub level: i32,
    /// Bytes of inflated blocks kept for closed files; 0: an eighth of `max_bytes`.
    pub cache_bytes: u64,
    /// How threads are kept apart.
    pub mode: Mode,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            max_bytes: 1 << 30,
            max_file_bytes: 0,
            soft_limit_percent: 85,
            compress: Compress::OnClose,
            level: 0,
            cache_bytes: 0,
            mode: Mode::default(),
        }
    }
}

impl Config {
    fn check(&self) -> Result<()> {
        let in_range = self.max_bytes > 0 && self.soft_limit_percent <= 100 && (0..=12).contains(&self.level);
        if in_range { Ok(()) } else { Err(Errno::EINVAL) }
    }
}

/// What a filesystem holds and has done; `struct ermfs_stats` in C. Amounts are bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Inodes that are no directory, open ones without a name included.
    pub files: u64,
    /// Directories, the root included.
    pub directories: u64,
    /// Open file descriptions.
    pub open_descriptions: u64,
    /// Sum of file sizes, holes not counted.
    pub logical_bytes: u64,
    /// Content as it was written.
    pub raw_bytes: u64,
    /// Content at rest.
    pub packed_bytes: u64,
    /// Inflated copies.
    pub cached_bytes: u64,
    /// Shared with kernel descriptors.
    pub exported_bytes: u64,
    /// Everything else.
    pub metadata_bytes: u64,
    /// The sum of the five above.
    pub bytes_in_use: u64,
    /// Its highest value so far, give or take the 128 KiB that each of a few threads may have charged ahead.
    pub peak_bytes: u64,
    /// The limit.
    pub max_bytes: u64,
    /// Blocks compressed so far.
    pub blocks_packed: u64,
    /// Blocks inflated so far.
    pub blocks_inflated: u64,
    /// Blocks that were left uncompressed because they do not shrink.
    pub blocks_stored: u64,
    /// How often the soft limit was crossed upwards, what threads have charged ahead included.
    pub soft_limit_hits: u64,
    /// How many calls failed at the limit.
    pub hard_limit_hits: u64,
    /// Corrupt blocks met and internal errors caught.
    pub errors: u64,
}

/// What there is room for; `struct statvfs` in C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The budget, in bytes.
    pub total_bytes: u64,
    /// What of it could be taken if nothing were kept for speed: inflated copies and sealed exports go when room is needed.
    pub free_bytes: u64,
    /// The same without the reserve, which only what shrinks or changes in place may use.
    pub available_bytes: u64,
    /// Inodes there are.
    pub inodes: u64,
    /// Inodes with names of ordinary length that `available_bytes` has room for.
    pub free_inodes: u64,
}

/// What an inode with a name of ordinary length takes; turns free bytes into free inodes.
const BYTES_PER_INODE: u64 = 256;

/// What all inodes of a filesystem share and keep alive.
pub(crate) struct Shared {
    space: sync::Arc<Space>,
    hasher: NameHasher,
    process: Arc<credentials::Holder>,
    next_ino: AtomicU64,
    files: AtomicU64,
    directories: AtomicU64,
    /// Who holds it shared may rely on every directory's parent staying what it is; moving a directory takes it alone.
    topology: RwLock<()>,
    attributes: Attributes,
    observers: Observers,
    locks: Locks,
}

impl Shared {
    #[inline]
    pub(crate) fn space(&self) -> &sync::Arc<Space> {
        &self.space
    }

    #[inline]
    pub(crate) fn hasher(&self) -> &NameHasher {
        &self.hasher
    }

    /// Who the process is.
    #[inline]
    pub(crate) fn process(&self) -> &credentials::Holder {
        &self.process
    }

    pub(crate) fn topology(&self) -> &RwLock<()> {
        &self.topology
    }

    pub(crate) fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    #[inline]
    pub(crate) fn observers(&self) -> &Observers {
        &self.observers
    }

    pub(crate) fn locks(&self) -> &Locks {
        &self.locks
    }

    /// An inode number that was not given out before.
    pub(crate) fn next_ino(&self) -> u64 {
        self.next_ino.fetch_add(1, Relaxed)
    }

    /// The count of the inodes of this kind that there are.
    pub(crate) fn count_of(&self, kind: InodeKind) -> &AtomicU64 {
        match kind {
            InodeKind::Directory => &self.directories,
            _ => &self.files,
        }
    }
}

/// `st_dev` of the next filesystem: a major number that no kernel device has, and a running minor one.
static NEXT_DEVICE: AtomicU64 = AtomicU64::new(libc::makedev(0xe2f5, 1));

/// One independent tree of files. All methods may be called from any thread.
pub struct Fs {
    shared: Counted<Shared>,
    /// Dropped by taking the tree apart.
    root: ManuallyDrop<InodeRef>,
    device: u64,
    open_descriptions: Stripes,
}

impl Fs {
    /// A new filesystem: an empty root, of mode 01777, owned by the process's effective ids.
    ///
    /// # Errors
    /// `EINVAL` for a configuration out of range; `ENOSPC` when
    /// `max_bytes` has no room for the root; `ENOMEM`.
    pub fn new(config: &Config) -> Result<Arc<Fs>> {
        config.check()?;
        let policy = Policy {
            compress: config.compress,
            level: config.level,
            max_file_bytes: config.max_file_bytes,
            cache_bytes: if config.cache_bytes == 0 { config.max_bytes / 8 } else { config.cache_bytes },
        };
        let shared = Shared {
            space: Space::new(config.max_bytes, config.soft_limit_percent, policy, config.mode),
            hasher: NameHasher::new(),
            process: credentials::Holder::new()?,
            next_ino: AtomicU64::new(1),
            files: AtomicU64::new(0),
            directories: AtomicU64::new(0),
            topology: RwLock::new(()),
            attributes: Attributes::new(),
            observers: Observers::new(),
            locks: Locks::new(),
        };
        let shared = Counted::try_new(shared).map_err(|(error, _)| error)?;
        let root = namespace::make_root(&shared)?;
        Ok(Arc::new(Fs {
            shared,
            root: ManuallyDrop::new(root),
            device: NEXT_DEVICE.fetch_add(1, Relaxed),
            open_descriptions: Stripes::new(),
        }))
    }

    /// The root directory.
    pub fn root(&self) -> InodeRef {
        InodeRef::clone(&self.root)
    }

    pub(crate) fn root_ref(&self) -> &InodeRef {
        &self.root
    }

    #[inline]
    pub(crate) fn shared(&self) -> &Counted<Shared> {
        &self.shared
    }

    /// Budget, policy and counters.
    pub fn space(&self) -> &sync::Arc<Space> {
        &self.shared.space
    }

    /// Changes how threads are kept apart.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`: for a moment there must be room for the directories' tables twice.
    ///
    /// # Safety
    /// No other thread is inside the library, nor comes in before this returns.
    pub unsafe fn set_mode(&self, mode: Mode) -> Result<()> {
        // SAFETY: by this function's contract; `root` is the root.
        unsafe { namespace::convert(&self.root, mode)? };
        self.space().set_mode(mode);
        Ok(())
    }

    /// `st_dev`: differs from that of every other filesystem of the process.
    pub fn device(&self) -> u64 {
        self.device
    }

    /// An open file description of this filesystem was made; for [`Statistics::open_descriptions`].
    pub fn description_opened(&self) {
        self.open_descriptions.add(1);
    }

    /// How many open file descriptions there are.
    pub(crate) fn open_descriptions(&self) -> u64 {
        self.open_descriptions.sum()
    }

    /// An open file description of this filesystem went.
    pub fn description_closed(&self) {
        self.open_descriptions.subtract(1);
    }

    /// Who the process is to this filesystem: its effective ids as they were when the filesystem was made, or when
    /// [`process::refresh_credentials`](crate::process::refresh_credentials) was called last.
    #[inline]
    pub fn credentials(&self) -> &'static Credentials {
        self.shared.process().effective()
    }

    /// As [`Fs::credentials`], with the real ids.
    pub(crate) fn real_credentials(&self) -> &'static Credentials {
        self.shared.process().real()
    }

    /// Has `observer` told of every change from now on.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn observe(&self, observer: Arc<dyn Observer>) -> Result<()> {
        self.shared.observers.add(observer)
    }

    /// Ends what [`Fs::observe`] began with the same value.
    pub fn stop_observing(&self, observer: &Arc<dyn Observer>) {
        self.shared.observers.remove(observer);
    }

    /// What is charged, after what nobody looks at any more was freed.
    fn usage(&self) -> Usage {
        if !epoch::is_pinned() {
            garbage::settle();
        }
        self.space().budget().usage()
    }

    /// What there is room for.
    pub fn status(&self) -> Status {
        let usage = self.usage();
        let used = usage.total.saturating_sub(usage.cached).saturating_sub(usage.exported);
        let free_bytes = usage.max.saturating_sub(used);
        let available_bytes = free_bytes.saturating_sub(usage.reserve);
        let inodes = self.shared.files.load(Relaxed) + self.shared.directories.load(Relaxed);
        let free_inodes = available_bytes / BYTES_PER_INODE;
        Status { total_bytes: usage.max, free_bytes, available_bytes, inodes, free_inodes }
    }

    /// What it holds and has done. Each number is exact; together they are of one moment only while nothing happens.
    pub fn statistics(&self) -> Statistics {
        let usage = self.usage();
        let counters = &self.space().counters;
        Statistics {
            files: self.shared.files.load(Relaxed),
            directories: self.shared.directories.load(Relaxed),
            open_descriptions: self.open_descriptions.sum(),
            logical_bytes: counters.logical_bytes.sum(),
            raw_bytes: usage.raw,
            packed_bytes: usage.packed,
            cached_bytes: usage.cached,
            exported_bytes: usage.exported,
            metadata_bytes: usage.metadata,
            bytes_in_use: usage.total,
            peak_bytes: usage.peak,
            max_bytes: usage.max,
            blocks_packed: counters.blocks_packed.load(Relaxed),
            blocks_inflated: counters.blocks_inflated.load(Relaxed),
            blocks_stored: counters.blocks_stored.load(Relaxed),
            soft_limit_hits: usage.soft_limit_hits,
            hard_limit_hits: usage.hard_limit_hits,
            errors: counters.errors.load(Relaxed),
        }
    }
}

impl Drop for Fs {
    fn drop(&mut self) {
        let _inside = crate::gate::enter();
        // SAFETY: `drop` runs once and uses the field nowhere else.
        let root = unsafe { ManuallyDrop::take(&mut self.root) };
        // SAFETY: a walk borrows an `Arc<Fs>`, or is in the default filesystem, which is never dropped; and the last `Arc` is
        // being dropped. `root` is the root.
        unsafe { namespace::dismantle(root) };
        epoch::flush();
    }
}
