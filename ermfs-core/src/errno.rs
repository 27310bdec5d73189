//! The engine's one error type: a Linux errno value.
//!
//! Every fallible call of the engine answers with an [`Errno`], so that the C library hands it on
//! unchanged and the Rust face wraps it in `std::io::Error::from_raw_os_error`. No error carries
//! a string, allocates, or wraps another.

use core::fmt;

use ermfs_memory::AllocError;

/// A Linux error number as `errno(3)` lists them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(i32);

/// What a call of the engine returns.
pub type Result<T> = core::result::Result<T, Errno>;

macro_rules! errnos {
    ($($name:ident),+ $(,)?) => {
        impl Errno {
            $(
                #[doc = concat!("`", stringify!($name), "`, see `errno(3)`.")]
                pub const $name: Errno = Errno(libc::$name);
            )+

            /// The symbolic name, or `None` for a number the engine never makes itself.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $(libc::$name => Some(stringify!($name)),)+
                    _ => None,
                }
            }
        }
    };
}

errnos!(
    E2BIG,
    EACCES,
    EAGAIN,
    EBADF,
    EBUSY,
    EDEADLK,
    EEXIST,
    EFAULT,
    EFBIG,
    EINTR,
    EINVAL,
    EIO,
    EISDIR,
    ELOOP,
    EMFILE,
    EMLINK,
    ENAMETOOLONG,
    ENFILE,
    ENODATA,
    ENODEV,
    ENOENT,
    ENOEXEC,
    ENOLCK,
    ENOMEM,
    ENOSPC,
    ENOSYS,
    ENOTDIR,
    ENOTEMPTY,
    ENOTTY,
    ENXIO,
    EOPNOTSUPP,
    EOVERFLOW,
    EPERM,
    EPIPE,
    ERANGE,
    EROFS,
    ESPIPE,
    ESTALE,
    ETXTBSY,
    EXDEV,
);

impl Errno {
    /// Wraps a number that the kernel gave.
    pub const fn from_raw(raw: i32) -> Errno {
        Errno(raw)
    }

    /// The number, as C's `errno` holds it.
    pub const fn raw(self) -> i32 {
        self.0
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl core::error::Error for Errno {}

impl From<AllocError> for Errno {
    /// The filesystem's own limit is "no space left on device"; the machine's is "out of memory".
    fn from(error: AllocError) -> Errno {
        match error {
            AllocError::Budget => Errno::ENOSPC,
            AllocError::Memory => Errno::ENOMEM,
        }
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(error: rustix::io::Errno) -> Errno {
        Errno(error.raw_os_error())
    }
}

impl From<std::collections::TryReserveError> for Errno {
    fn from(_: std::collections::TryReserveError) -> Errno {
        Errno::ENOMEM
    }
}
