//! What a filesystem is made with.

use std::io;

use ermfs_core::{Compress, Config};

use crate::Fs;

/// The settings of a new filesystem, from [`Fs::builder`].
///
/// ```
/// use ermfs::{Compress, Fs};
///
/// let fs = Fs::builder().max_bytes(64 << 20).compress(Compress::Never).build()?;
/// assert_eq!(fs.statistics()?.max_bytes, 64 << 20);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder makes nothing until `build` is called"]
pub struct Builder {
    config: Config,
}

impl Builder {
    /// The budget in bytes, for everything the filesystem takes: content, names, copies. Beyond it calls fail with
    /// `ENOSPC`. Default: 1 GiB.
    pub fn max_bytes(mut self, bytes: u64) -> Builder {
        self.config.max_bytes = bytes;
        self
    }

    /// The most memory that one file's content may take, in bytes; beyond it calls fail with `EFBIG`. 0, the default:
    /// no limit but the budget.
    pub fn max_file_bytes(mut self, bytes: u64) -> Builder {
        self.config.max_file_bytes = bytes;
        self
    }

    /// The part of the budget, in per cent, whose crossing is counted in [`Statistics::soft_limit_hits`]. Nothing else
    /// comes of it. Default: 85.
    ///
    /// [`Statistics::soft_limit_hits`]: crate::Statistics::soft_limit_hits
    pub fn soft_limit_percent(mut self, percent: u32) -> Builder {
        self.config.soft_limit_percent = percent;
        self
    }

    /// When files are compressed. Default: [`Compress::OnClose`].
    pub fn compress(mut self, when: Compress) -> Builder {
        self.config.compress = when;
        self
    }

    /// How hard to try: libdeflate's levels, 1 (fast) to 12 (small). 0, the default: 1 on close, 6 in the background.
    pub fn level(mut self, level: i32) -> Builder {
        self.config.level = level;
        self
    }

    /// How many bytes of inflated blocks are kept for those who read compressed files in small pieces. They count
    /// against the budget and go first when it is short. 0, the default: an eighth of the budget.
    pub fn cache_bytes(mut self, bytes: u64) -> Builder {
        self.config.cache_bytes = bytes;
        self
    }

    /// Makes the filesystem: empty but for its root, which belongs to the process's effective ids.
    ///
    /// # Errors
    /// `EINVAL` for settings no filesystem can have (a level above 12, more than 100 per cent), `ENOSPC` for a budget
    /// that does not hold a root, `ENOMEM`.
    pub fn build(&self) -> io::Result<Fs> {
        Fs::with_config(&self.config)
    }
}
