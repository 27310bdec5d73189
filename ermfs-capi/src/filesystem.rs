//! Filesystems: making one, setting up the default one, what they cost, and the library's own affairs.

use core::ffi::{c_char, c_int};
use core::mem::{offset_of, size_of};
use core::{ptr, slice};

use ermfs_core::{Compress, Config, Errno, Mode, Result, process};
use libc::size_t;

use crate::boundary::{boundary, needed};

/// The version that a program is compiled for; ermfs_version gives the one that it runs with.
pub const ERMFS_VERSION_MAJOR: u32 = 0;
/// See ERMFS_VERSION_MAJOR.
pub const ERMFS_VERSION_MINOR: u32 = 1;
/// See ERMFS_VERSION_MAJOR.
pub const ERMFS_VERSION_PATCH: u32 = 0;

/// compress: a file is packed by the call that closes its last writable description.
pub const ERMFS_COMPRESS_ON_CLOSE: u32 = 0;
/// compress: a thread of the library packs files after they were closed.
pub const ERMFS_COMPRESS_BACKGROUND: u32 = 1;
/// compress: files are never packed.
pub const ERMFS_COMPRESS_NEVER: u32 = 2;

/// mode: what the process is set to.
pub const ERMFS_MODE_DEFAULT: u32 = 0;
/// mode: readers of a file share its lock.
pub const ERMFS_MODE_LOCKED: u32 = 1;
/// mode: readers take no lock.
pub const ERMFS_MODE_LOCKLESS: u32 = 2;

/// How a filesystem is set up. A member that is 0 has its default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ermfs_config {
    /// sizeof(struct ermfs_config)
    pub struct_size: size_t,
    /// Hard budget in bytes for all memory of this filesystem, beyond which calls fail with ENOSPC. Default: 1 GiB.
    pub max_bytes: u64,
    /// Largest single file's allocated bytes, beyond which calls fail with EFBIG. Default: no limit but max_bytes.
    pub max_file_bytes: u64,
    /// In per cent of max_bytes; crossing it counts in soft_limit_hits. At most 100. Default: 85.
    pub soft_limit_percent: u32,
    /// ERMFS_COMPRESS_ON_CLOSE (the default), ERMFS_COMPRESS_BACKGROUND or ERMFS_COMPRESS_NEVER.
    pub compress: u32,
    /// gzip level as libdeflate has them, 1 to 12. Default: 1, or 6 in the background.
    pub level: i32,
    /// Inflated blocks kept for closed files, in bytes. Default: max_bytes / 8.
    pub cache_bytes: u64,
    /// ERMFS_MODE_DEFAULT, ERMFS_MODE_LOCKED or ERMFS_MODE_LOCKLESS.
    pub mode: u32,
    /// 0
    pub reserved: u32,
}

/// What a filesystem holds and costs at one moment.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ermfs_stats {
    /// Files and symbolic links, unlinked but open ones too.
    pub files: u64,
    /// Directories, the root too.
    pub directories: u64,
    /// Open file descriptions.
    pub open_descriptions: u64,
    /// Sum of the files' sizes in bytes, holes not counted.
    pub logical_bytes: u64,
    /// Memory of blocks that are not packed, in bytes.
    pub raw_bytes: u64,
    /// Memory of packed blocks, in bytes.
    pub packed_bytes: u64,
    /// Memory of inflated copies of packed blocks, in bytes.
    pub cached_bytes: u64,
    /// Memory of shared exports, in bytes.
    pub exported_bytes: u64,
    /// Memory of names, inodes and block maps, in bytes.
    pub metadata_bytes: u64,
    /// The sum of the five above.
    pub bytes_in_use: u64,
    /// The largest bytes_in_use so far, give or take the 128 KiB that each of a few threads may have charged ahead.
    pub peak_bytes: u64,
    /// The budget.
    pub max_bytes: u64,
    /// Blocks packed so far.
    pub blocks_packed: u64,
    /// Blocks inflated so far.
    pub blocks_inflated: u64,
    /// Blocks that did not shrink and were left as they were, so far.
    pub blocks_stored: u64,
    /// How often the soft limit was crossed upwards, what threads have charged ahead included.
    pub soft_limit_hits: u64,
    /// Calls that failed for lack of budget.
    pub hard_limit_hits: u64,
    /// Damaged blocks met, and panics inside the library.
    pub errors: u64,
}

/// file_info.form: no content, holes only included.
pub const ERMFS_FORM_EMPTY: u32 = 0;
/// file_info.form: no block is packed.
pub const ERMFS_FORM_RAW: u32 = 1;
/// file_info.form: every block is packed.
pub const ERMFS_FORM_PACKED: u32 = 2;
/// file_info.form: packed and raw blocks.
pub const ERMFS_FORM_MIXED: u32 = 3;

/// In what form a file's content lies in memory.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ermfs_file_info {
    /// st_size, in bytes.
    pub size: u64,
    /// Memory that the content takes now, in bytes.
    pub stored_bytes: u64,
    /// ERMFS_FORM_EMPTY, ERMFS_FORM_RAW, ERMFS_FORM_PACKED or ERMFS_FORM_MIXED.
    pub form: u32,
    /// Blocks of 65,536 bytes, the last one perhaps begun; the three below add up to it. 2^32 - 1 for more than that.
    pub blocks: u32,
    /// Packed blocks.
    pub blocks_packed: u32,
    /// Blocks that lie there as they are.
    pub blocks_raw: u32,
    /// Blocks that take no memory.
    pub blocks_hole: u32,
}

/// Makes a new, empty filesystem and answers a directory descriptor of its root, close-on-exec. It lives as long as
/// any descriptor or view of it. NULL: the defaults. Not a POSIX function.
/// E2BIG (a member unknown to this library is not 0), EINVAL, EMFILE, ENOMEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_fsmount(config: *const ermfs_config) -> c_int {
    boundary! {
        // SAFETY: the header's contract for a config: NULL or readable for its struct_size.
        process::fsmount(&unsafe { read_config(config) }?)
    }
}

/// Sets up the default filesystem, the one that every path without a dirfd means, before its first use. NULL: the
/// defaults. Errors as ermfs_fsmount, and EBUSY after the first use. Not a POSIX function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_configure_default(config: *const ermfs_config) -> c_int {
    boundary! {
        // SAFETY: the header's contract for a config: NULL or readable for its struct_size.
        process::configure_default(&unsafe { read_config(config) }?)
    }
}

/// Fills what the filesystem of `dirfd` (any descriptor of it, or ERMFS_AT_FDCWD) holds and costs. `size` is
/// sizeof(struct ermfs_stats) as the caller was compiled; the smaller of that and the library's is filled.
/// EBADF, EFAULT. Not a POSIX function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_get_stats(dirfd: c_int, stats: *mut ermfs_stats, size: size_t) -> c_int {
    boundary! {
        needed!(stats);
        let s = process::statistics(dirfd)?;
        let ours = ermfs_stats {
            files: s.files,
            directories: s.directories,
            open_descriptions: s.open_descriptions,
            logical_bytes: s.logical_bytes,
            raw_bytes: s.raw_bytes,
            packed_bytes: s.packed_bytes,
            cached_bytes: s.cached_bytes,
            exported_bytes: s.exported_bytes,
            metadata_bytes: s.metadata_bytes,
            bytes_in_use: s.bytes_in_use,
            peak_bytes: s.peak_bytes,
            max_bytes: s.max_bytes,
            blocks_packed: s.blocks_packed,
            blocks_inflated: s.blocks_inflated,
            blocks_stored: s.blocks_stored,
            soft_limit_hits: s.soft_limit_hits,
            hard_limit_hits: s.hard_limit_hits,
            errors: s.errors,
        };
        // SAFETY: the header's contract for `stats`: writable for `size` bytes.
        unsafe { copy_prefix(&ours, stats, size) };
        Ok(())
    }
}

/// Fills in what form an open file's content lies in memory. `size` as for ermfs_get_stats, of
/// struct ermfs_file_info. EBADF, EFAULT, EINVAL (not a regular file). Not a POSIX function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_fget_info(fd: c_int, info: *mut ermfs_file_info, size: size_t) -> c_int {
    boundary! {
        needed!(info);
        let i = process::file_info(fd)?;
        let ours = ermfs_file_info {
            size: i.size,
            stored_bytes: i.stored_bytes,
            form: i.form as u32,
            blocks: saturate(i.blocks),
            blocks_packed: saturate(i.blocks_packed),
            blocks_raw: saturate(i.blocks_raw),
            blocks_hole: saturate(i.blocks_hole),
        };
        // SAFETY: the header's contract for `info`: writable for `size` bytes.
        unsafe { copy_prefix(&ours, info, size) };
        Ok(())
    }
}

/// Sets whether readers take locks, for the process and its default filesystem; files survive the switch, and calls
/// in flight are waited for; other filesystems keep their mode. EBUSY while any descriptor or directory stream is open;
/// ENOSPC, ENOMEM when there is no room for the directories' tables twice, for a moment: nothing has changed then. Not a POSIX
/// function.
#[unsafe(no_mangle)]
pub extern "C" fn ermfs_set_lockless_mode(enable: bool) -> c_int {
    boundary! { process::set_lockless_mode(enable) }
}

/// What ermfs_set_lockless_mode or the environment variable ERMFS_LOCKLESS set; never fails. Not a POSIX function.
#[unsafe(no_mangle)]
pub extern "C" fn ermfs_is_lockless() -> bool {
    boundary! { Ok(process::is_lockless()) }
}

/// The library's version, "major.minor.patch"; stays valid. Not a POSIX function.
#[unsafe(no_mangle)]
pub extern "C" fn ermfs_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// A sparse file can have more blocks than the member counts.
fn saturate(blocks: u64) -> u32 {
    u32::try_from(blocks).unwrap_or(u32::MAX)
}

/// What this library knows of a config. A program compiled for an older one gives less, the rest being 0.
const CONFIG_SIZE: usize = size_of::<ermfs_config>();

/// No struct_size above this is believed: more likely it was never set.
const CONFIG_LIMIT: usize = 4096;

const _: () = assert!(CONFIG_SIZE == 56 && offset_of!(ermfs_config, cache_bytes) == 40);
const _: () = assert!(size_of::<ermfs_stats>() == 18 * 8);
const _: () = assert!(size_of::<ermfs_file_info>() == 40);

/// The settings that a config asks for: those of NULL, or of its first struct_size bytes with 0 for the rest.
///
/// # Safety
/// `config` is NULL or readable for its struct_size.
unsafe fn read_config(config: *const ermfs_config) -> Result<Config> {
    if config.is_null() {
        return Ok(Config::default());
    }
    // SAFETY: the contract: at least the first member is there.
    let size = unsafe { ptr::addr_of!((*config).struct_size).read() };
    if size < size_of::<size_t>() {
        return Err(Errno::EINVAL);
    }
    if size > CONFIG_LIMIT {
        return Err(Errno::E2BIG);
    }
    // SAFETY: the contract: readable for `size` bytes.
    let given = unsafe { slice::from_raw_parts(config.cast::<u8>(), size) };
    if given.iter().skip(CONFIG_SIZE).any(|&byte| byte != 0) {
        return Err(Errno::E2BIG);
    }
    let mut bytes = [0u8; CONFIG_SIZE];
    let known = size.min(CONFIG_SIZE);
    bytes[..known].copy_from_slice(&given[..known]);
    // SAFETY: as many bytes as the struct has, whose members take any bit pattern.
    translate(&unsafe { ptr::read_unaligned(bytes.as_ptr().cast::<ermfs_config>()) })
}

/// EINVAL for values that have no counterpart in the engine, which checks the rest.
fn translate(c: &ermfs_config) -> Result<Config> {
    let defaults = Config::default();
    if c.reserved != 0 {
        return Err(Errno::EINVAL);
    }
    let compress = match c.compress {
        ERMFS_COMPRESS_ON_CLOSE => Compress::OnClose,
        ERMFS_COMPRESS_BACKGROUND => Compress::Background,
        ERMFS_COMPRESS_NEVER => Compress::Never,
        _ => return Err(Errno::EINVAL),
    };
    let mode = match c.mode {
        ERMFS_MODE_DEFAULT => defaults.mode,
        ERMFS_MODE_LOCKED => Mode::Locked,
        ERMFS_MODE_LOCKLESS => Mode::Lockless,
        _ => return Err(Errno::EINVAL),
    };
    Ok(Config {
        max_bytes: if c.max_bytes == 0 { defaults.max_bytes } else { c.max_bytes },
        max_file_bytes: c.max_file_bytes,
        soft_limit_percent: if c.soft_limit_percent == 0 {
            defaults.soft_limit_percent
        } else {
            c.soft_limit_percent
        },
        compress,
        level: c.level,
        cache_bytes: c.cache_bytes,
        mode,
    })
}

/// Fills the first `size` bytes of what the caller takes for a `T`, but not more than a `T` has.
///
/// # Safety
/// `place` is writable for `size` bytes.
unsafe fn copy_prefix<T: Copy>(ours: &T, place: *mut T, size: usize) {
    // SAFETY: the contract; `ours` is a T without padding between its members, and the two never overlap.
    unsafe {
        ptr::copy_nonoverlapping(ptr::from_ref(ours).cast::<u8>(), place.cast(), size.min(size_of::<T>()))
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_names_the_version() {
        let header = format!("{ERMFS_VERSION_MAJOR}.{ERMFS_VERSION_MINOR}.{ERMFS_VERSION_PATCH}");
        assert_eq!(header, env!("CARGO_PKG_VERSION"));
        // SAFETY: a string of the library's, with a NUL.
        let library = unsafe { core::ffi::CStr::from_ptr(ermfs_version()) };
        assert_eq!(library.to_str(), Ok(env!("CARGO_PKG_VERSION")));
    }

    /// A config of the size given, followed by bytes that a newer program may have set.
    #[repr(C)]
    struct Newer {
        known: ermfs_config,
        unknown: [u64; 2],
    }

    fn newer(struct_size: usize, unknown: u64) -> Newer {
        // SAFETY: the struct is integers, for which zeros will do.
        let mut newer: Newer = unsafe { core::mem::zeroed() };
        newer.known.struct_size = struct_size;
        newer.known.max_bytes = 1 << 20;
        newer.known.cache_bytes = 4096;
        newer.unknown = [0, unknown];
        newer
    }

    fn read(newer: &Newer) -> Result<(u64, u64)> {
        // SAFETY: no test gives a size that is read and larger than Newer.
        unsafe { read_config(ptr::from_ref(newer).cast()) }
            .map(|config| (config.max_bytes, config.cache_bytes))
    }

    #[test]
    fn a_config_may_be_older_or_newer_than_the_library() {
        let whole = size_of::<Newer>();
        assert_eq!(read(&newer(CONFIG_SIZE, 1)), Ok((1 << 20, 4096)));
        assert_eq!(read(&newer(offset_of!(ermfs_config, cache_bytes), 1)), Ok((1 << 20, 0)));
        assert_eq!(read(&newer(8, 1)), Ok((Config::default().max_bytes, 0)));
        assert_eq!(read(&newer(whole, 0)), Ok((1 << 20, 4096)));
        assert_eq!(read(&newer(whole, 1)), Err(Errno::E2BIG));
        assert_eq!(read(&newer(CONFIG_LIMIT + 1, 0)), Err(Errno::E2BIG));
        for size in [0, 7] {
            assert_eq!(read(&newer(size, 0)), Err(Errno::EINVAL));
        }
    }

    #[test]
    fn a_config_of_unknown_values_is_refused() {
        let set: [fn(&mut ermfs_config); 3] = [|c| c.reserved = 1, |c| c.compress = 3, |c| c.mode = 3];
        for set in set {
            let mut config = newer(CONFIG_SIZE, 0);
            set(&mut config.known);
            assert_eq!(read(&config), Err(Errno::EINVAL));
        }
    }
}
