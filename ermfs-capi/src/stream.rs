//! `ermfs_fopen`: a standard I/O stream over a descriptor, by `fopencookie(3)`.
//!
//! stdio calls the functions here with its own locks held: the stream's, and in `fflush(NULL)` and `exit` that of its
//! list of streams. A fork waits for both sides: the library's gate for who is inside, glibc for the list's lock, but
//! glibc only after all fork handlers. So that nobody waits at the gate with a lock that the forking thread comes for,
//! a fork takes the list's lock before it closes the gate (`stdio_lock.c`).

use core::ffi::{CStr, c_char, c_int, c_void};
use core::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};

use ermfs_core::{Errno, Result, process};
use libc::{FILE, off_t, size_t, ssize_t};

use crate::boundary::{boundary, c_path, needed, sink, source};

/// The permission bits that fopen asks for, before the umask.
const STREAM_MODE: u32 = 0o666;

/// How many letters of a mode after the first glibc looks at.
const MODE_LETTERS: usize = 6;

/// `cookie_io_functions_t` of `stdio.h`.
#[repr(C)]
struct CookieFunctions {
    read: unsafe extern "C" fn(*mut c_void, *mut c_char, size_t) -> ssize_t,
    write: unsafe extern "C" fn(*mut c_void, *const c_char, size_t) -> ssize_t,
    seek: unsafe extern "C" fn(*mut c_void, *mut off_t, c_int) -> c_int,
    close: unsafe extern "C" fn(*mut c_void) -> c_int,
}

unsafe extern "C" {
    fn fopencookie(cookie: *mut c_void, mode: *const c_char, functions: CookieFunctions) -> *mut FILE;
    /// In `stdio_lock.c`: has every fork take the lock of stdio's list first. 0 or an error number.
    safe fn ermfs_fixed_guard_streams() -> c_int;
}

/// Opens a file as a stream for fread, fprintf, fclose and the rest of stdio; fileno has no descriptor to give. The
/// letters of `mode`: r, w or a, then + x e and, without effect, b c m. A file is made with 0666 & ~umask.
/// EINVAL (another mode), ENOMEM, and the errors of ermfs_open. Source: fopen(3), as glibc has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_fopen(path: *const c_char, mode: *const c_char) -> *mut FILE {
    boundary! {
        needed!(mode);
        // SAFETY: the header's contract for a mode: NUL-terminated.
        let mode = StreamMode::parse(unsafe { CStr::from_ptr(mode) }.to_bytes())?;
        let fd = process::openat(process::AT_FDCWD, c_path!(path), mode.flags, STREAM_MODE)?;
        stream(fd, &mode).inspect_err(|_| {
            // Nobody else knows the descriptor; the error that is answered is the first one.
            let _ = process::close(fd);
        })
    }
}

/// What a mode string asks for.
struct StreamMode {
    flags: c_int,
    /// The same for fopencookie, which knows fewer letters.
    cookie: &'static CStr,
}

impl StreamMode {
    fn parse(mode: &[u8]) -> Result<StreamMode> {
        let (&kind, letters) = mode.split_first().ok_or(Errno::EINVAL)?;
        let letters = &letters[..letters.len().min(MODE_LETTERS)];
        let both = letters.contains(&b'+');
        let (access, mut flags, cookie) = match (kind, both) {
            (b'r', false) => (libc::O_RDONLY, 0, c"r"),
            (b'r', true) => (libc::O_RDWR, 0, c"r+"),
            (b'w', false) => (libc::O_WRONLY, libc::O_CREAT | libc::O_TRUNC, c"w"),
            (b'w', true) => (libc::O_RDWR, libc::O_CREAT | libc::O_TRUNC, c"w+"),
            (b'a', false) => (libc::O_WRONLY, libc::O_CREAT | libc::O_APPEND, c"a"),
            (b'a', true) => (libc::O_RDWR, libc::O_CREAT | libc::O_APPEND, c"a+"),
            _ => return Err(Errno::EINVAL),
        };
        if letters.contains(&b'x') {
            flags |= libc::O_EXCL;
        }
        if letters.contains(&b'e') {
            flags |= libc::O_CLOEXEC;
        }
        Ok(StreamMode { flags: access | flags, cookie })
    }
}

/// A stream that owns `fd` once it is made.
fn stream(fd: c_int, mode: &StreamMode) -> Result<*mut FILE> {
    guard_forks()?;
    if mode.cookie == c"a" {
        // What is only appended to begins at its end, for ftell's sake.
        process::lseek(fd, 0, libc::SEEK_END)?;
    }
    let functions = CookieFunctions { read, write, seek, close };
    // SAFETY: the functions take the cookie for what it is, a descriptor; the mode is NUL-terminated.
    let stream = unsafe { fopencookie(cookie(fd), mode.cookie.as_ptr(), functions) };
    if stream.is_null() { Err(Errno::ENOMEM) } else { Ok(stream) }
}

/// Before the first stream. After the gate has put up its handlers, as it has once any call was made: those that come later
/// run earlier. Threads that meet here may do it twice, which does no harm, since the lock nests.
fn guard_forks() -> Result<()> {
    static GUARDED: AtomicBool = AtomicBool::new(false);
    if !GUARDED.load(Acquire) {
        match ermfs_fixed_guard_streams() {
            0 => GUARDED.store(true, Release),
            _ => return Err(Errno::ENOMEM),
        }
    }
    Ok(())
}

/// The descriptor as the pointer that fopencookie hands back. It is never followed.
fn cookie(fd: c_int) -> *mut c_void {
    core::ptr::without_provenance_mut(fd as usize)
}

fn descriptor(cookie: *mut c_void) -> c_int {
    cookie.addr() as c_int
}

unsafe extern "C" fn read(cookie: *mut c_void, buf: *mut c_char, size: size_t) -> ssize_t {
    boundary! { process::read(descriptor(cookie), &mut sink!(buf.cast(), size)) }
}

/// stdio takes anything short of `size` for an error and never looks at a negative count. A write may take less than all
/// of it, at the most `process::MAX_TRANSFER`, and so is made again.
unsafe extern "C" fn write(cookie: *mut c_void, buf: *const c_char, size: size_t) -> ssize_t {
    let mut done = 0;
    let _: c_int = boundary! {
        while done < size {
            done += process::write(descriptor(cookie), &mut source!(buf.wrapping_add(done).cast(), size - done))?;
        }
        Ok(())
    };
    done as ssize_t
}

unsafe extern "C" fn seek(cookie: *mut c_void, offset: *mut off_t, whence: c_int) -> c_int {
    boundary! {
        needed!(offset);
        // SAFETY: stdio's own variable, not NULL, ours during the call.
        let offset = unsafe { &mut *offset };
        *offset = process::lseek(descriptor(cookie), *offset, whence)?;
        Ok(())
    }
}

unsafe extern "C" fn close(cookie: *mut c_void) -> c_int {
    boundary! { process::close(descriptor(cookie)) }
}

#[cfg(test)]
mod tests {
    use ermfs_core::Config;

    use super::*;

    #[test]
    fn a_mode_means_what_fopen_says() {
        let flags = |mode: &[u8]| StreamMode::parse(mode).map(|mode| (mode.flags, mode.cookie));
        let (w, a) = (libc::O_CREAT | libc::O_TRUNC, libc::O_CREAT | libc::O_APPEND);
        assert_eq!(flags(b"r"), Ok((libc::O_RDONLY, c"r")));
        assert_eq!(flags(b"rb+"), Ok((libc::O_RDWR, c"r+")));
        assert_eq!(flags(b"w"), Ok((libc::O_WRONLY | w, c"w")));
        assert_eq!(flags(b"w+be"), Ok((libc::O_RDWR | w | libc::O_CLOEXEC, c"w+")));
        assert_eq!(flags(b"wx"), Ok((libc::O_WRONLY | w | libc::O_EXCL, c"w")));
        assert_eq!(flags(b"a"), Ok((libc::O_WRONLY | a, c"a")));
        assert_eq!(flags(b"a+"), Ok((libc::O_RDWR | a, c"a+")));
        assert_eq!(flags(b"rbbbbbb+"), Ok((libc::O_RDONLY, c"r")));
        for bad in [&b""[..], b"+", b"q", b" r"] {
            assert_eq!(flags(bad), Err(Errno::EINVAL));
        }
    }

    #[test]
    fn a_write_that_ends_early_tells_how_much_it_wrote() {
        const SIZE: usize = process::MAX_TRANSFER + (1 << 30);
        let root = process::fsmount(&Config { max_bytes: 1 << 20, ..Config::default() }).unwrap();
        let fd = process::openat(root, b"f", libc::O_CREAT | libc::O_RDWR, 0o600).unwrap();
        // SAFETY: a new mapping of zeros that takes no memory; it is only read and stays until it is unmapped below.
        let written = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            let zeros = libc::mmap(core::ptr::null_mut(), SIZE, libc::PROT_READ, flags, -1, 0);
            assert_ne!(zeros, libc::MAP_FAILED);
            let written = write(cookie(fd), zeros.cast(), SIZE);
            libc::munmap(zeros, SIZE);
            written
        };
        let size = process::fstat(fd).unwrap().st_size;
        assert!(size > 0 && written as i64 == size, "{written} of {size}");
        process::close(fd).unwrap();
        process::close(root).unwrap();
    }

    #[test]
    fn a_descriptor_comes_back_from_its_cookie() {
        for fd in [0, 1_048_576, c_int::MAX] {
            assert_eq!(descriptor(cookie(fd)), fd);
        }
    }
}
