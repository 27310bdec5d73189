//! One side of a comparison inside its own process: ERMFS in one of its modes, or what it is compared to.

use std::ffi::{CStr, CString, c_void};
use std::str::FromStr;
use std::time::Instant;

use ermfs_ffi_tests::abi::{self, Abi, Ermfs, ErmfsConfig};

/// `compress` of the C interface's configuration.
pub(crate) const ON_CLOSE: u32 = 0;
pub(crate) const NEVER: u32 = 2;

/// Which side a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    Locked,
    Lockless,
    Other,
}

impl Who {
    pub(crate) const OURS: [Who; 2] = [Who::Locked, Who::Lockless];
    pub(crate) const ALL: [Who; 3] = [Who::Locked, Who::Lockless, Who::Other];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Who::Locked => "locked",
            Who::Lockless => "lockless",
            Who::Other => "other",
        }
    }
}

impl FromStr for Who {
    type Err = String;

    fn from_str(text: &str) -> Result<Who, String> {
        Who::ALL.into_iter().find(|who| who.name() == text).ok_or(format!("no side is called {text}"))
    }
}

/// The functions of this process's side. Paths are relative: to a directory of a tmpfs, or to the root of ERMFS's
/// default filesystem.
#[derive(Clone, Copy)]
pub(crate) struct Side {
    pub(crate) abi: Abi,
}

impl Side {
    /// For ERMFS its mode, and the default filesystem, empty. Once a process.
    pub(crate) fn enter(who: Who, compress: u32) -> Side {
        if who == Who::Other {
            return Side { abi: Abi::kernel() };
        }
        let ermfs = abi::library().and_then(Ermfs::load).expect("the library is built");
        let lockless = who == Who::Lockless;
        let config = ErmfsConfig {
            struct_size: size_of::<ErmfsConfig>(),
            max_bytes: 8 << 30,
            compress,
            level: 1,
            mode: if lockless { 2 } else { 1 },
            ..ErmfsConfig::default()
        };
        // SAFETY: the library is loaded; the functions have these types (ermfs.h); the configuration is a live, complete structure.
        let configured = unsafe {
            let is_lockless = std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> bool>(symbol(
                c"ermfs_is_lockless",
            ));
            assert_eq!(is_lockless(), lockless, "ERMFS_LOCKLESS is heeded");
            (ermfs.configure_default)(&config)
        };
        assert_eq!(configured, 0, "nothing was done before");
        Side { abi: ermfs.abi }
    }

    /// Opens a file or says which one failed.
    pub(crate) fn open(&self, name: &str, flags: i32) -> i32 {
        // SAFETY: a NUL-terminated path.
        let fd = unsafe { (self.abi.open)(path(name).as_ptr(), flags, 0o644) };
        assert!(fd >= 0, "{name}: {}", std::io::Error::last_os_error());
        fd
    }

    pub(crate) fn close(&self, fd: i32) {
        // SAFETY: no pointers.
        assert_eq!(unsafe { (self.abi.close)(fd) }, 0);
    }

    pub(crate) fn write(&self, fd: i32, bytes: &[u8]) {
        // SAFETY: a live buffer of that length.
        assert_eq!(unsafe { (self.abi.write)(fd, bytes.as_ptr().cast(), bytes.len()) }, bytes.len() as isize);
    }

    /// Fills the buffer.
    #[inline]
    pub(crate) fn pread(&self, fd: i32, buffer: &mut [u8], offset: usize) {
        // SAFETY: a live buffer of that length.
        let n = unsafe { (self.abi.pread)(fd, buffer.as_mut_ptr().cast(), buffer.len(), offset as i64) };
        assert_eq!(n, buffer.len() as isize);
    }

    #[inline]
    pub(crate) fn pwrite(&self, fd: i32, bytes: &[u8], offset: usize) {
        // SAFETY: a live buffer of that length.
        let n = unsafe { (self.abi.pwrite)(fd, bytes.as_ptr().cast(), bytes.len(), offset as i64) };
        assert_eq!(n, bytes.len() as isize);
    }

    /// A file of these bytes, written in parts of 1 MiB.
    pub(crate) fn write_file(&self, name: &str, bytes: &[u8]) {
        let fd = self.open(name, libc::O_CREAT | libc::O_TRUNC | libc::O_WRONLY);
        bytes.chunks(1 << 20).for_each(|part| self.write(fd, part));
        self.close(fd);
    }

    /// Reads a file to its end in calls of 1 MiB, into `buffer`.
    pub(crate) fn read_file(&self, name: &str, buffer: &mut [u8]) {
        let fd = self.open(name, libc::O_RDONLY);
        // SAFETY: a live buffer of that length.
        while unsafe { (self.abi.read)(fd, buffer.as_mut_ptr().cast(), buffer.len()) } > 0 {}
        self.close(fd);
    }

    pub(crate) fn make_dir(&self, name: &str) {
        // SAFETY: a NUL-terminated path.
        assert_eq!(unsafe { (self.abi.mkdir)(path(name).as_ptr(), 0o755) }, 0, "{name}");
    }

    pub(crate) fn unlink(&self, name: &str) {
        // SAFETY: a NUL-terminated path.
        assert_eq!(unsafe { (self.abi.unlink)(path(name).as_ptr()) }, 0, "{name}");
    }

    /// What ERMFS's filesystem says of itself.
    pub(crate) fn statistics(&self) -> Statistics {
        type GetStats = unsafe extern "C" fn(i32, *mut u64, usize) -> i32;
        let mut numbers = [0u64; 10];
        // SAFETY: the library is loaded; this function has this type (a structure of 64-bit numbers, ermfs.h), and fills what it is
        // told to.
        let answer = unsafe {
            let get = std::mem::transmute::<*mut c_void, GetStats>(symbol(c"ermfs_get_stats"));
            get(libc::AT_FDCWD, numbers.as_mut_ptr(), size_of_val(&numbers))
        };
        assert_eq!(answer, 0);
        Statistics { content: (numbers[4] + numbers[5]) as f64, in_use: numbers[9] as f64 }
    }
}

/// In bytes.
pub(crate) struct Statistics {
    /// `raw_bytes` and `packed_bytes`.
    pub(crate) content: f64,
    /// `bytes_in_use`.
    pub(crate) in_use: f64,
}

/// A function of the library that no POSIX function is like.
pub(crate) fn symbol(name: &CStr) -> *mut c_void {
    let library = path(abi::library().expect("loaded before").to_str().expect("a path of text"));
    // SAFETY: NUL-terminated strings; the library is loaded already and never unloaded.
    let symbol = unsafe { libc::dlsym(libc::dlopen(library.as_ptr(), libc::RTLD_NOW), name.as_ptr()) };
    assert!(!symbol.is_null(), "{name:?}");
    symbol
}

pub(crate) fn path(text: &str) -> CString {
    CString::new(text).expect("no NUL")
}

/// Nanoseconds of the second of two times that `work` is done at once: a virtual machine gives free memory back to its host in
/// seconds, and whoever touches it first pays for that.
pub(crate) fn second_time(mut work: impl FnMut()) -> f64 {
    work();
    nanoseconds(1, work)
}

/// Nanoseconds an operation of `work`, which does `operations` of them.
pub(crate) fn nanoseconds(operations: usize, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / operations as f64
}

/// The same numbers in the same order in every process.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}
