//! The calls as a program makes them: what they answer to good and bad arguments (probed on a Linux
//! 6.18 tmpfs), offsets shared by descriptors, threads, and forks.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use crate::content::{Sink, Source};
use crate::errno::{Errno, Result};
use crate::fs::{Config, Mode};
use crate::process::*;
use libc::{
    AT_EACCESS, AT_EMPTY_PATH, AT_NO_AUTOMOUNT, AT_REMOVEDIR, AT_SYMLINK_NOFOLLOW, F_DUPFD, F_DUPFD_CLOEXEC,
    F_GETFD, F_GETFL, F_OK, F_SETFD, F_SETFL, FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE,
    FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE, FD_CLOEXEC, O_ACCMODE, O_APPEND,
    O_ASYNC, O_CLOEXEC, O_CREAT, O_DIRECT, O_DIRECTORY, O_EXCL, O_NOATIME, O_NOCTTY, O_NOFOLLOW, O_NONBLOCK,
    O_PATH, O_RDONLY, O_RDWR, O_SYNC, O_TMPFILE, O_TRUNC, O_WRONLY, POSIX_FADV_DONTNEED, R_OK, S_IFDIR,
    S_IFLNK, S_IFMT, S_IFREG, SEEK_CUR, SEEK_DATA, SEEK_END, SEEK_HOLE, SEEK_SET, UTIME_NOW, UTIME_OMIT,
    W_OK, X_OK, timespec,
};

/// The working directory, the umask and fork belong to the process: their tests take turns.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A filesystem of its own for one test, by its root's descriptor.
struct Root(i32);

impl Root {
    fn new() -> Root {
        Root(fsmount(&Config::default()).unwrap())
    }

    fn open(&self, path: &str, flags: i32) -> Result<i32> {
        openat(self.0, path.as_bytes(), flags, 0o644)
    }

    /// A file that holds `bytes`, open for reading and writing, its offset at the start.
    fn file(&self, path: &str, bytes: &[u8]) -> i32 {
        let fd = self.open(path, O_RDWR | O_CREAT).unwrap();
        assert_eq!(put_at(fd, bytes, 0), Ok(bytes.len()));
        fd
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        close(self.0).unwrap();
    }
}

fn put(fd: i32, bytes: &[u8]) -> Result<usize> {
    write(fd, &mut Source::new(bytes))
}

fn put_at(fd: i32, bytes: &[u8], offset: i64) -> Result<usize> {
    pwrite(fd, &mut Source::new(bytes), offset)
}

fn get(fd: i32, room: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; room];
    let n = read(fd, &mut Sink::new(&mut bytes))?;
    bytes.truncate(n);
    Ok(bytes)
}

fn get_at(fd: i32, room: usize, offset: i64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; room];
    let n = pread(fd, &mut Sink::new(&mut bytes), offset)?;
    bytes.truncate(n);
    Ok(bytes)
}

fn names(stream: &mut DirStream) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    while let Some(entry) = stream.readdir().unwrap() {
        names.push(entry.name.to_vec());
    }
    names.sort();
    names
}

const BAD_FD: i32 = FIRST_FD + 60_000;

#[test]
fn open_checks_flags_as_linux_does() {
    let root = Root::new();
    root.file("f", b"hello");
    mkdirat(root.0, b"d", 0o755).unwrap();
    symlinkat(b"f", root.0, b"s").unwrap();
    for (path, flags, error) in [
        ("f", O_RDWR | O_CREAT | O_DIRECTORY, Errno::EINVAL),
        (".", O_TMPFILE | O_RDONLY, Errno::EINVAL),
        (".", (O_TMPFILE & !O_DIRECTORY) | O_RDWR, Errno::EINVAL),
        (".", O_TMPFILE | O_CREAT | O_RDWR, Errno::EINVAL),
        ("", O_TMPFILE | O_RDONLY, Errno::EINVAL),
        ("d", O_RDONLY | O_TRUNC, Errno::EISDIR),
        ("d", O_ACCMODE, Errno::EISDIR),
        ("d", O_RDONLY | O_CREAT, Errno::EISDIR),
        ("d", O_RDWR, Errno::EISDIR),
        ("", O_RDONLY, Errno::ENOENT),
        ("no", O_RDONLY, Errno::ENOENT),
        ("s", O_RDONLY | O_NOFOLLOW, Errno::ELOOP),
        ("s", O_RDONLY | O_DIRECTORY, Errno::ENOTDIR),
        ("s", O_RDWR | O_CREAT | O_EXCL, Errno::EEXIST),
        ("f/x", O_RDONLY, Errno::ENOTDIR),
    ] {
        assert_eq!(root.open(path, flags), Err(error), "{path} {flags:#x}");
    }
    assert_eq!(openat(BAD_FD, b"", O_RDONLY, 0), Err(Errno::ENOENT));
    assert_eq!(openat(BAD_FD, b"f", O_RDONLY, 0), Err(Errno::EBADF));
    assert_eq!(openat(BAD_FD, &[b'a'; 4096], O_RDONLY, 0), Err(Errno::ENAMETOOLONG));
    assert_eq!(openat(0, b"f", O_RDONLY, 0), Err(Errno::EBADF));
    let f = root.open("f", O_RDONLY).unwrap();
    assert_eq!(openat(f, b"x", O_RDONLY, 0), Err(Errno::ENOTDIR));
}

#[test]
fn getfl_shows_what_the_kernel_would() {
    const LARGE: i32 = if cfg!(target_arch = "aarch64") { 0o400000 } else { 0o100000 };
    let root = Root::new();
    root.file("f", b"");
    symlinkat(b"f", root.0, b"s").unwrap();
    let shown = |path: &str, flags| fcntl(root.open(path, flags).unwrap(), F_GETFL, 0).unwrap();
    let all = O_RDWR | O_SYNC | O_NONBLOCK | O_DIRECT | O_NOATIME | O_NOFOLLOW | O_ASYNC;
    assert_eq!(shown("f", all | O_CLOEXEC | O_NOCTTY | O_TRUNC | O_CREAT), all | LARGE);
    assert_eq!(shown("f", O_RDONLY), LARGE);
    assert_eq!(shown("f", O_ACCMODE), O_ACCMODE | LARGE);
    assert_eq!(shown("f", O_RDWR | O_ANYFD | 0x1000_0000), O_RDWR | LARGE);
    assert_eq!(shown(".", O_RDWR | O_TMPFILE), O_RDWR | O_TMPFILE | LARGE);
    assert_eq!(shown("s", O_PATH | O_NOFOLLOW | O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC), O_PATH | O_NOFOLLOW);
    let f = root.open("f", O_RDWR | O_CLOEXEC).unwrap();
    let asked = O_APPEND | O_ASYNC | O_NONBLOCK | O_DIRECT | O_NOATIME | O_SYNC | O_WRONLY;
    assert_eq!(fcntl(f, F_SETFL, asked), Ok(0));
    assert_eq!(fcntl(f, F_GETFL, 0), Ok(O_RDWR | LARGE | O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME));
    assert_eq!(fcntl(f, F_SETFL, 0), Ok(0));
    assert_eq!(fcntl(f, F_GETFL, 0), Ok(O_RDWR | LARGE));
    assert_eq!(fcntl(f, F_GETFD, 0), Ok(FD_CLOEXEC));
    assert_eq!(fcntl(f, F_SETFD, 0), Ok(0));
    assert_eq!(fcntl(f, F_GETFD, 0), Ok(0));
}

#[test]
fn transfers_need_the_right_access_and_range() {
    const MAX: i64 = i64::MAX;
    let root = Root::new();
    let rw = root.file("f", b"hello world");
    let ro = root.open("f", O_RDONLY).unwrap();
    let wo = root.open("f", O_WRONLY).unwrap();
    let neither = root.open("f", O_ACCMODE).unwrap();
    let path = root.open("f", O_PATH).unwrap();
    for fd in [wo, neither, path, BAD_FD, 3] {
        assert_eq!(
            (get(fd, 1), get(fd, 0), get_at(fd, 1, 0)),
            (Err(Errno::EBADF), Err(Errno::EBADF), Err(Errno::EBADF))
        );
        assert_eq!(get_at(fd, 1, -1), Err(Errno::EINVAL));
    }
    for fd in [ro, neither, path, BAD_FD, 3, root.0] {
        assert_eq!((put(fd, b"x"), put(fd, b"")), (Err(Errno::EBADF), Err(Errno::EBADF)));
        assert_eq!((put_at(fd, b"x", 0), put_at(fd, b"x", -1)), (Err(Errno::EBADF), Err(Errno::EINVAL)));
    }
    assert_eq!((get(root.0, 1), get(root.0, 0)), (Err(Errno::EISDIR), Err(Errno::EISDIR)));
    assert_eq!((get_at(root.0, 1, 0), get_at(root.0, 1, MAX)), (Err(Errno::EISDIR), Err(Errno::EINVAL)));
    assert_eq!(readv(root.0, &mut Sink::new(&mut [])), Ok(0));
    assert_eq!(readv(root.0, &mut Sink::new(&mut [0])), Err(Errno::EISDIR));
    assert_eq!(preadv(wo, &mut Sink::new(&mut []), 0), Err(Errno::EBADF));
    assert_eq!(preadv(rw, &mut Sink::new(&mut [0; 3]), 9), Ok(2));
    assert_eq!(
        (get_at(rw, 1, MAX), get_at(rw, 0, MAX), get_at(rw, 1, MAX - 1)),
        (Err(Errno::EINVAL), Ok(vec![]), Ok(vec![]))
    );
    assert_eq!((put_at(rw, b"x", MAX), put_at(rw, b"", MAX)), (Err(Errno::EINVAL), Ok(0)));
    assert_eq!(lseek(rw, MAX, SEEK_SET), Ok(MAX));
    assert_eq!((get(rw, 1), get(rw, 0), put(rw, b"x")), (Err(Errno::EINVAL), Ok(vec![]), Err(Errno::EINVAL)));
    assert_eq!(get_at(rw, 100, 6).unwrap(), b"world");
}

#[test]
fn seeking_checks_whence_and_result() {
    let root = Root::new();
    let f = root.file("f", b"0123456789a");
    let path = root.open("f", O_PATH).unwrap();
    for (fd, offset, whence, answer) in [
        (f, -1, SEEK_SET, Err(Errno::EINVAL)),
        (f, 4, SEEK_SET, Ok(4)),
        (f, -5, SEEK_CUR, Err(Errno::EINVAL)),
        (f, 2, SEEK_CUR, Ok(6)),
        (f, i64::MAX, SEEK_CUR, Err(Errno::EINVAL)),
        (f, i64::MAX, SEEK_END, Err(Errno::EINVAL)),
        (f, -11, SEEK_END, Ok(0)),
        (f, -12, SEEK_END, Err(Errno::EINVAL)),
        (f, 100, SEEK_END, Ok(111)),
        (f, -1, SEEK_DATA, Err(Errno::ENXIO)),
        (f, 11, SEEK_DATA, Err(Errno::ENXIO)),
        (f, 3, SEEK_DATA, Ok(3)),
        (f, 3, SEEK_HOLE, Ok(11)),
        (f, 0, 7, Err(Errno::EINVAL)),
        (f, 0, SEEK_CUR, Ok(11)),
        (path, 0, SEEK_SET, Err(Errno::EBADF)),
        (BAD_FD, 0, 7, Err(Errno::EBADF)),
        (root.0, 0, SEEK_END, Err(Errno::EINVAL)),
        (root.0, 0, SEEK_DATA, Err(Errno::EINVAL)),
        (root.0, -1, SEEK_SET, Err(Errno::EINVAL)),
        (root.0, 0, SEEK_SET, Ok(0)),
    ] {
        assert_eq!(lseek(fd, offset, whence), answer, "{offset} {whence}");
    }
}

#[test]
fn sizes_and_ranges_are_checked_in_the_kernels_order() {
    const KEEP: i32 = FALLOC_FL_KEEP_SIZE;
    const BLOCK: i64 = 65_536;
    let root = Root::new();
    let rw = root.file("f", &[7; 3 * 65_536]);
    let ro = root.open("f", O_RDONLY).unwrap();
    let path = root.open("f", O_PATH).unwrap();
    for (fd, size, answer) in [
        (BAD_FD, -1, Err(Errno::EINVAL)),
        (rw, -1, Err(Errno::EINVAL)),
        (ro, 5, Err(Errno::EINVAL)),
        (root.0, 5, Err(Errno::EINVAL)),
        (path, 5, Err(Errno::EBADF)),
        (BAD_FD, 5, Err(Errno::EBADF)),
        (rw, 3 * BLOCK, Ok(())),
    ] {
        assert_eq!(ftruncate(fd, size), answer, "{size}");
    }
    for (fd, mode, offset, len, answer) in [
        (rw, 0, -1, 1, Err(Errno::EINVAL)),
        (rw, 0, 0, 0, Err(Errno::EINVAL)),
        (ro, 0x1000, 0, 0, Err(Errno::EINVAL)),
        (ro, 0, 0, 1, Err(Errno::EBADF)),
        (root.0, 0, 0, 1, Err(Errno::EBADF)),
        (path, 0, 0, 1, Err(Errno::EBADF)),
        (rw, FALLOC_FL_PUNCH_HOLE, 0, 1, Err(Errno::EOPNOTSUPP)),
        (ro, FALLOC_FL_PUNCH_HOLE, 0, 1, Err(Errno::EOPNOTSUPP)),
        (rw, 0x1000, 0, 1, Err(Errno::EOPNOTSUPP)),
        (rw, FALLOC_FL_COLLAPSE_RANGE | KEEP, 0, BLOCK, Err(Errno::EOPNOTSUPP)),
        (rw, 0, i64::MAX, 1, Err(Errno::EFBIG)),
        (rw, FALLOC_FL_COLLAPSE_RANGE, 1, BLOCK, Err(Errno::EINVAL)),
        (rw, FALLOC_FL_COLLAPSE_RANGE, BLOCK, BLOCK - 1, Err(Errno::EINVAL)),
        (rw, FALLOC_FL_COLLAPSE_RANGE, BLOCK, 2 * BLOCK, Err(Errno::EINVAL)),
        (rw, FALLOC_FL_INSERT_RANGE, 3 * BLOCK, BLOCK, Err(Errno::EINVAL)),
        (rw, FALLOC_FL_INSERT_RANGE, 0, i64::MAX - BLOCK + 1, Err(Errno::EFBIG)),
        (rw, FALLOC_FL_COLLAPSE_RANGE, BLOCK, BLOCK, Ok(())),
        (rw, FALLOC_FL_INSERT_RANGE, BLOCK, BLOCK, Ok(())),
        (rw, FALLOC_FL_PUNCH_HOLE | KEEP, 0, 10, Ok(())),
        (rw, FALLOC_FL_ZERO_RANGE, 3 * BLOCK - 5, 10, Ok(())),
        (rw, KEEP, 0, 4 * BLOCK, Ok(())),
    ] {
        assert_eq!(fallocate(fd, mode, offset, len), answer, "{mode:#x} {offset} {len}");
    }
    assert_eq!(fstat(rw).unwrap().st_size, 3 * BLOCK + 5);
    assert_eq!(get_at(rw, 12, 0).unwrap(), [[0; 10].as_slice(), &[7; 2]].concat());
    assert_eq!(get_at(rw, 2, BLOCK - 1).unwrap(), [7, 0]);
    assert_eq!(get_at(rw, 2, 2 * BLOCK - 1).unwrap(), [0, 7]);
    assert_eq!(get_at(rw, 8, 3 * BLOCK - 6).unwrap(), [7, 0, 0, 0, 0, 0, 0, 0]);
    for (fd, len, advice, answer) in [
        (rw, -1, 0, Err(Errno::EINVAL)),
        (rw, 0, 99, Err(Errno::EINVAL)),
        (root.0, 0, POSIX_FADV_DONTNEED, Ok(())),
        (path, 0, 0, Err(Errno::EBADF)),
        (BAD_FD, 0, 99, Err(Errno::EBADF)),
    ] {
        assert_eq!(posix_fadvise(fd, -5, len, advice), answer);
    }
    for (fd, answer) in
        [(path, Err(Errno::EBADF)), (BAD_FD, Err(Errno::EBADF)), (root.0, Ok(())), (ro, Ok(()))]
    {
        assert_eq!((fsync(fd), fdatasync(fd)), (answer, answer));
    }
}

#[test]
fn copying_ranges_checks_as_linux_does_and_moves_what_it_should() {
    let root = Root::new();
    let rw = root.file("f", b"0123456789");
    let to = root.file("t", b"");
    let open = |flags| root.open("f", flags).unwrap();
    let (ro, wo, append, path) = (open(O_RDONLY), open(O_WRONLY), open(O_RDWR | O_APPEND), open(O_PATH));
    let copy = |from, mut a: i64, to, mut b: i64, len, flags| {
        copy_file_range(from, Some(&mut a), to, Some(&mut b), len, flags).map(|n| (n, a, b))
    };
    for (from, a, target, b, len, flags, error) in [
        (root.0, 0, rw, 0, 1, 0, Errno::EISDIR),
        (rw, 0, root.0, 0, 1, 0, Errno::EISDIR),
        (wo, 0, to, 0, 1, 0, Errno::EBADF),
        (rw, 0, ro, 0, 1, 0, Errno::EBADF),
        (rw, 0, append, 0, 1, 0, Errno::EBADF),
        (path, 0, rw, 0, 1, 1, Errno::EBADF),
        (BAD_FD, 0, rw, 0, 1, 1, Errno::EBADF),
        (rw, 0, to, 0, 1, 1, Errno::EINVAL),
        (rw, 0, rw, 3, 10, 0, Errno::EINVAL),
        (rw, -1, to, 0, 1, 0, Errno::EOVERFLOW),
        (rw, 0, to, -1, 100, 0, Errno::EOVERFLOW),
        (rw, 0, to, 100, usize::MAX, 0, Errno::EOVERFLOW),
        (rw, -5, to, 0, 2, 0, Errno::EINVAL),
        (rw, 0, to, i64::MAX, 1, 0, Errno::EFBIG),
        (rw, 0, to, i64::MAX, 0, 0, Errno::EFBIG),
    ] {
        assert_eq!(copy(from, a, target, b, len, flags), Err(error), "{a} {b} {len}");
    }
    assert_eq!(copy(rw, i64::MAX, to, 0, 1, 0), Ok((0, i64::MAX, 0)));
    assert_eq!(copy(rw, 2, to, 1, 5, 0), Ok((5, 7, 6)));
    assert_eq!(get_at(to, 10, 0).unwrap(), b"\x0023456");
    assert_eq!(copy(rw, 0, wo, 20, 4, 0), Ok((4, 4, 24)));
    assert_eq!(get_at(rw, 4, 20).unwrap(), b"0123");
    assert_eq!((lseek(ro, 8, SEEK_SET), lseek(to, 0, SEEK_END)), (Ok(8), Ok(6)));
    assert_eq!(copy_file_range(ro, None, to, None, 2, 0), Ok(2));
    assert_eq!((lseek(ro, 0, SEEK_CUR), lseek(to, 0, SEEK_CUR)), (Ok(10), Ok(8)));
    assert_eq!(get_at(to, 10, 6).unwrap(), b"89");
    // Between filesystems, more than one buffer.
    let other = Root::new();
    let long: Vec<u8> = (0..150_000u32).map(|n| (n / 7) as u8).collect();
    let (source, target) = (root.file("long", &long), other.file("long", b""));
    assert_eq!(copy(source, 10, target, 0, 1 << 20, 0), Ok((149_990, 150_000, 149_990)));
    assert_eq!(get_at(target, 150_000, 0).unwrap(), &long[10..]);
}

#[test]
fn duplicates_share_one_offset_and_flags_but_not_cloexec() {
    let root = Root::new();
    let f = root.file("f", b"abcdef");
    let second = dup(f).unwrap();
    assert_eq!((get(f, 2).unwrap(), get(second, 2).unwrap()), (b"ab".to_vec(), b"cd".to_vec()));
    assert_eq!(fcntl(f, F_SETFL, O_APPEND), Ok(0));
    assert_eq!(fcntl(second, F_GETFL, 0).unwrap() & O_APPEND, O_APPEND);
    assert_eq!(put_at(second, b"gh", 0), Ok(2));
    assert_eq!(lseek(second, 0, SEEK_CUR), Ok(4));
    assert_eq!(put(second, b"i"), Ok(1));
    assert_eq!((lseek(f, 0, SEEK_CUR), get_at(f, 20, 0).unwrap()), (Ok(9), b"abcdefghi".to_vec()));
    let third = fcntl(f, F_DUPFD_CLOEXEC, FIRST_FD + 50_000).unwrap();
    assert!(third >= FIRST_FD + 50_000);
    assert_eq!((fcntl(third, F_GETFD, 0), fcntl(f, F_GETFD, 0)), (Ok(FD_CLOEXEC), Ok(0)));
    for (fd, lowest, answer) in [
        (BAD_FD, -1, Err(Errno::EBADF)),
        (f, -1, Err(Errno::EINVAL)),
        (f, FIRST_FD + 65_536, Err(Errno::EINVAL)),
        (f, i32::MAX, Err(Errno::EINVAL)),
    ] {
        assert_eq!(fcntl(fd, F_DUPFD, lowest), answer);
    }
    let path = root.open("f", O_PATH).unwrap();
    assert_eq!((fcntl(path, F_SETFL, 0), fcntl(path, 9999, 0)), (Err(Errno::EBADF), Err(Errno::EBADF)));
    assert_eq!((fcntl(f, 9999, 0), fcntl(BAD_FD, F_GETFL, 0)), (Err(Errno::EINVAL), Err(Errno::EBADF)));
    let copy = fcntl(path, F_DUPFD, 0).unwrap();
    close(second).unwrap();
    assert_eq!((close(second), close(copy)), (Err(Errno::EBADF), Ok(())));
    assert_eq!(get_at(f, 1, 0).unwrap(), b"a");
}

#[test]
fn dup2_replaces_and_refuses_as_linux_does() {
    let root = Root::new();
    let (a, b) = (root.file("a", b"a"), root.file("b", b"b"));
    for (old, new, answer) in [
        (BAD_FD, BAD_FD, Err(Errno::EBADF)),
        (BAD_FD, b, Err(Errno::EBADF)),
        (a, -1, Err(Errno::EBADF)),
        (a, 5, Err(Errno::EBADF)),
        (a, FIRST_FD + 65_536, Err(Errno::EBADF)),
        (a, a, Ok(a)),
        (a, b, Ok(b)),
    ] {
        assert_eq!(dup2(old, new), answer, "{old} {new}");
    }
    assert_eq!(get_at(b, 1, 0).unwrap(), b"a");
    let far = FIRST_FD + 40_000;
    for (old, new, flags, answer) in [
        (a, a, 0, Err(Errno::EINVAL)),
        (a, -1, 1, Err(Errno::EINVAL)),
        (a, far, O_APPEND, Err(Errno::EINVAL)),
        (BAD_FD, far, 0, Err(Errno::EBADF)),
        (a, far, O_CLOEXEC, Ok(far)),
    ] {
        assert_eq!(dup3(old, new, flags), answer, "{old} {new} {flags}");
    }
    assert_eq!((fcntl(far, F_GETFD, 0), close(far), close(far)), (Ok(FD_CLOEXEC), Ok(()), Err(Errno::EBADF)));
}

#[test]
fn appends_by_many_threads_neither_tear_nor_get_lost() {
    const THREADS: u8 = 4;
    const ROUNDS: usize = 500;
    let root = Root::new();
    root.file("log", b"");
    let shared = root.open("log", O_WRONLY | O_APPEND).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let root = &root;
            scope.spawn(move || {
                let own = root.open("log", O_WRONLY | O_APPEND).unwrap();
                for round in 0..ROUNDS {
                    let fd = if round % 2 == 0 { own } else { shared };
                    assert_eq!(put(fd, &[b'a' + thread; 37]), Ok(37));
                }
                close(own).unwrap();
            });
        }
    });
    let all = get_at(root.open("log", O_RDONLY).unwrap(), 1 << 20, 0).unwrap();
    assert_eq!(all.len(), usize::from(THREADS) * ROUNDS * 37);
    for thread in 0..THREADS {
        let whole = all.chunks(37).filter(|record| *record == [b'a' + thread; 37]).count();
        assert_eq!(whole, ROUNDS);
    }
}

#[test]
fn writes_through_one_offset_never_overlap() {
    let root = Root::new();
    let f = root.file("f", b"");
    std::thread::scope(|scope| {
        for thread in 1..=4u8 {
            scope.spawn(move || {
                for _ in 0..500 {
                    assert_eq!(put(f, &[thread; 11]), Ok(11));
                }
            });
        }
    });
    let all = get_at(f, 1 << 20, 0).unwrap();
    assert_eq!(all.len(), 4 * 500 * 11);
    assert!(all.chunks(11).all(|record| record.iter().all(|&byte| byte == record[0] && byte > 0)));
}

#[test]
fn a_closed_file_lives_until_the_call_on_it_has_ended() {
    let root = Root::new();
    let stop = AtomicBool::new(false);
    let f = root.file("f", &[1; 5000]);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    match get_at(f, 5000, 0) {
                        // The number names this file, or (between close and the next dup2) nothing.
                        Ok(bytes) => assert_eq!(bytes, [1; 5000]),
                        Err(error) => assert_eq!(error, Errno::EBADF),
                    }
                }
            });
        }
        for _ in 0..3000 {
            let again = root.open("f", O_RDWR).unwrap();
            close(f).unwrap();
            assert_eq!(dup2(again, f), Ok(f));
            close(again).unwrap();
        }
        stop.store(true, Relaxed);
    });
    assert_eq!(statistics(root.0).unwrap().open_descriptions, 2);
}

#[test]
fn names_check_their_flags() {
    let root = Root::new();
    let f = root.file("f", b"x");
    symlinkat(b"f", root.0, b"s").unwrap();
    mkdirat(root.0, b"d", 0o7777).unwrap();
    let link = |old, path: &[u8], new: &[u8], flags| linkat(old, path, root.0, new, flags);
    assert_eq!(unlinkat(root.0, b"no", 1), Err(Errno::EINVAL));
    assert_eq!(unlinkat(root.0, b"", 0), Err(Errno::ENOENT));
    assert_eq!(unlinkat(BAD_FD, b"f", 0), Err(Errno::EBADF));
    assert_eq!(unlinkat(root.0, b"d", 0), Err(Errno::EISDIR));
    assert_eq!(unlinkat(root.0, b"f", AT_REMOVEDIR), Err(Errno::ENOTDIR));
    assert_eq!(link(root.0, b"f", b"g", 1), Err(Errno::EINVAL));
    assert_eq!(link(f, b"", b"g", 0), Err(Errno::ENOENT));
    assert_eq!(link(root.0, b"", b"g", AT_EMPTY_PATH), Err(Errno::EPERM));
    assert_eq!(link(f, b"", b"g", AT_EMPTY_PATH), Ok(()));
    assert_eq!(fstat(f).unwrap().st_nlink, 2);
    let free = openat(root.0, b".", O_TMPFILE | O_RDWR, 0o600).unwrap();
    let bound = openat(root.0, b".", O_TMPFILE | O_RDWR | O_EXCL, 0o600).unwrap();
    assert_eq!(link(bound, b"", b"h", AT_EMPTY_PATH), Err(Errno::ENOENT));
    assert_eq!((link(free, b"", b"h", AT_EMPTY_PATH), fstat(free).unwrap().st_nlink), (Ok(()), 1));
    for flags in [3, 4, 8] {
        assert_eq!(renameat2(root.0, b"no", root.0, b"q", flags), Err(Errno::EINVAL));
    }
    assert_eq!(symlinkat(b"", root.0, b"q"), Err(Errno::ENOENT));
    assert_eq!(symlinkat(&[b'a'; 4096], root.0, b"q"), Err(Errno::ENAMETOOLONG));
    let other = Root::new();
    assert_eq!(renameat2(root.0, b"f", other.0, b"f", 0), Err(Errno::EXDEV));
    assert_eq!(linkat(root.0, b"f", other.0, b"f", 0), Err(Errno::EXDEV));
    assert_eq!(linkat(f, b"", other.0, b"f", AT_EMPTY_PATH), Err(Errno::EXDEV));
    let link_fd = root.open("s", O_PATH | O_NOFOLLOW).unwrap();
    assert_eq!(readlinkat(link_fd, b"").unwrap(), b"f");
    assert_eq!(readlinkat(root.0, b"s").unwrap(), b"f");
    assert_eq!(readlinkat(f, b""), Err(Errno::ENOENT));
    assert_eq!(readlinkat(root.0, b"f"), Err(Errno::EINVAL));
    assert_eq!(readlinkat(BAD_FD, b""), Err(Errno::EBADF));
    assert_eq!(
        (fchdir(f), fchdir(link_fd), fchdir(BAD_FD)),
        (Err(Errno::ENOTDIR), Err(Errno::ENOTDIR), Err(Errno::EBADF))
    );
    assert_eq!(faccessat(root.0, b"f", 8, 0), Err(Errno::EINVAL));
    assert_eq!(faccessat(root.0, b"f", F_OK, 1), Err(Errno::EINVAL));
    assert_eq!(faccessat(root.0, b"f", X_OK, 0), Err(Errno::EACCES));
    assert_eq!(faccessat(root.0, b"s", R_OK | X_OK, AT_SYMLINK_NOFOLLOW), Ok(()));
    assert_eq!(faccessat(f, b"", R_OK | W_OK, AT_EMPTY_PATH | AT_EACCESS), Ok(()));
    assert_eq!(faccessat(root.0, b"no", F_OK, 0), Err(Errno::ENOENT));
}

#[test]
fn metadata_calls_check_their_flags() {
    let root = Root::new();
    let f = root.file("f", b"xyz");
    symlinkat(b"f", root.0, b"s").unwrap();
    let (path, link) = (root.open("f", O_PATH).unwrap(), root.open("s", O_PATH | O_NOFOLLOW).unwrap());
    assert_eq!(fstatat(root.0, b"f", 1).err(), Some(Errno::EINVAL));
    assert_eq!(fstatat(BAD_FD, b"", 0).err(), Some(Errno::ENOENT));
    assert_eq!(fstatat(BAD_FD, b"", AT_EMPTY_PATH).err(), Some(Errno::EBADF));
    let status = fstatat(path, b"", AT_EMPTY_PATH | AT_NO_AUTOMOUNT | 0x6000).unwrap();
    assert_eq!((status.st_size, status.st_mode, status.st_nlink), (3, S_IFREG | 0o644, 1));
    assert_eq!((status.st_blksize, fstat(f).unwrap().st_ino), (65_536, status.st_ino));
    assert_eq!(fstatat(root.0, b"s", AT_SYMLINK_NOFOLLOW).unwrap().st_mode & S_IFMT, S_IFLNK);
    assert_ne!(Root::new().0, root.0);
    assert_ne!(fstat(Root::new().0).unwrap().st_dev, status.st_dev);
    assert_eq!(fchmod(path, 0o600), Err(Errno::EBADF));
    assert_eq!(fchmodat(root.0, b"s", 0o600, AT_SYMLINK_NOFOLLOW), Err(Errno::EOPNOTSUPP));
    assert_eq!(fchmodat(link, b"", 0o600, AT_EMPTY_PATH), Err(Errno::EOPNOTSUPP));
    assert_eq!(fchmodat(root.0, b"f", 0o600, 1), Err(Errno::EINVAL));
    assert_eq!(fchmodat(path, b"", 0o107_640, AT_EMPTY_PATH), Ok(()));
    assert_eq!(fstat(f).unwrap().st_mode, S_IFREG | 0o7640);
    assert_eq!(fchown(path, 1, 1), Err(Errno::EBADF));
    assert_eq!(fchownat(root.0, b"f", 1, 1, 1), Err(Errno::EINVAL));
    assert_eq!((fchown(f, 7, u32::MAX), fchownat(path, b"", u32::MAX, 8, AT_EMPTY_PATH)), (Ok(()), Ok(())));
    let status = fstat(f).unwrap();
    assert_eq!((status.st_uid, status.st_gid), (7, 8));
}

#[test]
fn times_are_checked_after_the_path() {
    let time = |tv_sec, tv_nsec| timespec { tv_sec, tv_nsec };
    let omit = [time(0, UTIME_OMIT); 2];
    let wrong = [time(1, -1), time(1, 0)];
    let root = Root::new();
    let f = root.file("f", b"");
    let path = root.open("f", O_PATH).unwrap();
    for (dirfd, name, times, flags, answer) in [
        (root.0, Some("no"), Some(wrong), 0, Err(Errno::ENOENT)),
        (root.0, Some("f"), Some(wrong), 0, Err(Errno::EINVAL)),
        (root.0, Some("f"), Some([time(1, UTIME_OMIT), time(1, 1_000_000_000)]), 0, Err(Errno::EINVAL)),
        (root.0, Some("no"), Some(omit), 0, Ok(())),
        (root.0, Some("f"), Some(omit), 1, Ok(())),
        (root.0, Some("f"), None, 1, Err(Errno::EINVAL)),
        (AT_FDCWD, None, None, 0, Err(Errno::EFAULT)),
        (BAD_FD, None, Some(omit), 0, Ok(())),
        (BAD_FD, None, None, 0, Err(Errno::EBADF)),
        (f, None, None, AT_EMPTY_PATH, Err(Errno::EINVAL)),
        (path, None, None, 0, Err(Errno::EBADF)),
        (path, Some(""), None, AT_EMPTY_PATH, Ok(())),
        (f, None, Some([time(5, 6), time(-7, 999_999_999)]), 0, Ok(())),
    ] {
        assert_eq!(
            utimensat(dirfd, name.map(str::as_bytes), times.as_ref(), flags),
            answer,
            "{name:?} {flags}"
        );
    }
    let times = |fd| {
        let status = fstat(fd).unwrap();
        [(status.st_atime, status.st_atime_nsec), (status.st_mtime, status.st_mtime_nsec)]
    };
    assert_eq!(times(f), [(5, 6), (-7, 999_999_999)]);
    assert_eq!(futimens(f, Some(&[time(9, 9), time(0, UTIME_OMIT)])), Ok(()));
    assert_eq!(times(f), [(9, 9), (-7, 999_999_999)]);
    assert_eq!(futimens(f, Some(&[time(0, UTIME_OMIT), time(0, UTIME_NOW)])), Ok(()));
    assert!(times(f)[0] == (9, 9) && times(f)[1].0 > 1_000_000_000);
    // An empty write leaves the times alone, any other moves mtime.
    futimens(f, Some(&[time(1, 0), time(1, 0)])).unwrap();
    assert_eq!((put(f, b""), times(f)[1]), (Ok(0), (1, 0)));
    assert_eq!((put(f, b"x"), times(f)[1].0 > 1), (Ok(1), true));
}

#[test]
fn truncating_opens_and_paths_work_on_files_only() {
    let root = Root::new();
    let f = root.file("f", b"hello");
    let again = root.open("f", O_RDONLY | O_TRUNC).unwrap();
    assert_eq!((fstat(again).unwrap().st_size, put_at(f, b"hello", 0)), (0, Ok(5)));
    let created = root.open("new", O_RDONLY | O_TRUNC | O_CREAT).unwrap();
    assert_eq!(fstat(created).unwrap().st_size, 0);
    let _turn = turn();
    fchdir(root.0).unwrap();
    assert_eq!((truncate(b"f", 2), fstat(f).unwrap().st_size), (Ok(()), 2));
    assert_eq!(
        (truncate(b".", 2), truncate(b"no", 2), truncate(b"no", -1)),
        (Err(Errno::EISDIR), Err(Errno::ENOENT), Err(Errno::EINVAL))
    );
    let c = creat(b"f", 0o600).unwrap();
    assert_eq!((fstat(c).unwrap().st_size, get(c, 1)), (0, Err(Errno::EBADF)));
    chdir(b"/").unwrap();
}

#[test]
fn the_working_directory_moves_between_filesystems_and_keeps_them() {
    let _turn = turn();
    chdir(b"/").unwrap();
    assert_eq!(getcwd().unwrap(), b"/");
    let default_device = fstatat(AT_FDCWD, b".", 0).unwrap().st_dev;
    let root = Root::new();
    mkdirat(root.0, b"a", 0o755).unwrap();
    mkdirat(root.0, b"a/b", 0o755).unwrap();
    symlinkat(b"../b/file", root.0, b"a/b/link").unwrap();
    symlinkat(b"link", root.0, b"a/b/chain").unwrap();
    close(root.file("a/b/file", b"x")).unwrap();
    fchdir(root.open("a", O_RDONLY | O_DIRECTORY).unwrap()).unwrap();
    let device = fstat(root.0).unwrap().st_dev;
    drop(root);
    assert_eq!((chdir(b"b"), getcwd().unwrap()), (Ok(()), b"/a/b".to_vec()));
    assert_eq!(fstatat(AT_FDCWD, b".", 0).unwrap().st_dev, device);
    assert_eq!(realpath(b"chain").unwrap(), b"/a/b/file");
    assert_eq!(realpath(b"./../b//file").unwrap(), b"/a/b/file");
    assert_eq!(realpath(b"..").unwrap(), b"/a");
    assert_eq!(
        (realpath(b"no"), realpath(b"file/"), realpath(b"")),
        (Err(Errno::ENOENT), Err(Errno::ENOTDIR), Err(Errno::ENOENT))
    );
    // An absolute path without a dirfd is the default filesystem's, wherever the working directory is.
    assert_eq!(fstatat(AT_FDCWD, b"/", 0).unwrap().st_dev, default_device);
    assert_eq!(chdir(b"file"), Err(Errno::ENOTDIR));
    assert_eq!(unlinkat(AT_FDCWD, b"../b/link", 0), Ok(()));
    let here = openat(AT_FDCWD, b".", O_RDONLY, 0).unwrap();
    for name in [b"chain".as_slice(), b"file"] {
        unlinkat(here, name, 0).unwrap();
    }
    assert_eq!(unlinkat(here, b"../b", AT_REMOVEDIR), Ok(()));
    assert_eq!(getcwd(), Err(Errno::ENOENT));
    assert_eq!(openat(AT_FDCWD, b"x", O_CREAT | O_RDWR, 0o600), Err(Errno::ENOENT));
    let mut stream = DirStream::fdopendir(here).unwrap();
    assert!(stream.readdir().unwrap().is_none());
    chdir(b"/").unwrap();
    assert_eq!(getcwd().unwrap(), b"/");
}

#[test]
fn the_umask_takes_bits_from_new_files_and_directories() {
    let _turn = turn();
    let root = Root::new();
    let before = umask(0o107_027);
    let f = openat(root.0, b"f", O_CREAT | O_RDWR, 0o177_777).unwrap();
    mkdirat(root.0, b"d", 0o177_777).unwrap();
    assert_eq!((before, umask(0o022)), (0o022, 0o027));
    assert_eq!(fstat(f).unwrap().st_mode, S_IFREG | 0o7750);
    assert_eq!(fstatat(root.0, b"d", 0).unwrap().st_mode, S_IFDIR | 0o1750);
}

#[test]
fn streams_read_every_entry_once_and_seek_back() {
    const FILES: usize = 3000;
    let root = Root::new();
    let mut expected = vec![b".".to_vec(), b"..".to_vec()];
    for n in 0..FILES {
        let name = format!("a name of some length {n}");
        close(root.open(&name, O_CREAT | O_RDWR).unwrap()).unwrap();
        expected.push(name.into_bytes());
    }
    expected.sort();
    let mut stream = DirStream::fdopendir(root.open(".", O_RDONLY).unwrap()).unwrap();
    assert_eq!(stream.telldir(), 0);
    assert_eq!(names(&mut stream), expected);
    assert!(stream.readdir().unwrap().is_none());
    stream.rewinddir();
    for _ in 0..FILES / 2 {
        stream.readdir().unwrap().unwrap();
    }
    let place = stream.telldir();
    let next = stream.readdir().unwrap().unwrap().name.to_vec();
    let rest = names(&mut stream).len();
    stream.seekdir(place);
    assert_eq!(stream.readdir().unwrap().unwrap().name, next);
    assert_eq!((names(&mut stream).len(), rest), (rest, FILES / 2 + 1));
    let fd = stream.dirfd();
    assert_eq!((stream.closedir(), fcntl(fd, F_GETFD, 0).is_err()), (Ok(()), true));
    let file = root.open(std::str::from_utf8(&next).unwrap_or("."), O_RDONLY | O_NOFOLLOW).unwrap();
    let kind = fstat(file).unwrap().st_mode & S_IFMT;
    let opened = DirStream::fdopendir(file).map(|_| ());
    assert_eq!(opened, if kind == S_IFDIR { Ok(()) } else { Err(Errno::ENOTDIR) });
    assert_eq!(DirStream::fdopendir(root.open(".", O_PATH).unwrap()).err(), Some(Errno::EBADF));
    assert_eq!(DirStream::fdopendir(BAD_FD).err(), Some(Errno::EBADF));
    assert_eq!(DirStream::opendir(b"/no such").err(), Some(Errno::ENOENT));
}

#[test]
fn filesystems_and_modes_answer_what_this_build_has() {
    let lockless = Config { mode: Mode::Lockless, ..Config::default() };
    assert_eq!(
        (fsmount(&lockless), configure_default(&lockless)),
        (Err(Errno::EOPNOTSUPP), Err(Errno::EOPNOTSUPP))
    );
    default_fs().unwrap();
    assert_eq!(configure_default(&Config::default()), Err(Errno::EBUSY));
    let root = Root::new();
    assert_eq!(
        (is_lockless(), set_lockless_mode(false), set_lockless_mode(true)),
        (false, Ok(()), Err(Errno::EBUSY))
    );
    assert_eq!(fcntl(root.0, F_GETFD, 0), Ok(FD_CLOEXEC));
    let f = root.file("f", &[9; 10_000]);
    let status = fstatvfs(f).unwrap();
    assert_eq!((status.f_bsize, status.f_namemax, status.f_blocks), (4096, 255, (1 << 30) / 4096));
    assert!(status.f_bfree <= status.f_blocks && status.f_ffree <= status.f_files);
    assert_eq!(statvfs(b"/").unwrap().f_blocks, (1 << 30) / 4096);
    assert_eq!(statistics(f).unwrap().open_descriptions, 2);
    assert_eq!(file_info(f).unwrap().size, 10_000);
    assert_eq!((file_info(root.0).err(), file_info(BAD_FD).err()), (Some(Errno::EINVAL), Some(Errno::EBADF)));
    assert!(statistics(BAD_FD).is_err() && statistics(AT_FDCWD).is_ok());
}

#[test]
fn a_panic_poisons_the_filesystem_it_went_through() {
    let root = Root::new();
    let f = root.file("f", b"x");
    let file = open_file(f).unwrap();
    let fs = std::sync::Arc::clone(file.fs());
    drop(file);
    std::thread::spawn(move || {
        let _operation = Operation::begin(&fs).unwrap();
        panic!("as a bug would");
    })
    .join()
    .unwrap_err();
    assert_eq!(
        (get(f, 1), put(f, b"y"), root.open("f", O_RDONLY)),
        (Err(Errno::EIO), Err(Errno::EIO), Err(Errno::EIO))
    );
    assert_eq!((fstat(f).err(), fsync(f).err()), (Some(Errno::EIO), Some(Errno::EIO)));
    // The descriptor goes all the same.
    assert_eq!((close(f), close(f)), (Err(Errno::EIO), Err(Errno::EBADF)));
    let copy = dup(root.0).unwrap();
    assert_eq!(dup2(copy, root.0), Ok(root.0));
    let healthy = Root::new();
    assert_eq!(dup2(healthy.0, root.0), Ok(root.0));
    assert_eq!(close(copy), Err(Errno::EIO));
}

#[test]
fn files_of_a_background_filesystem_are_packed_after_close() {
    let config = Config { compress: crate::Compress::Background, ..Config::default() };
    let root = Root(fsmount(&config).unwrap());
    let f = root.file("f", &[b'z'; 1 << 20]);
    let other = root.open("f", O_RDONLY).unwrap();
    close(f).unwrap();
    let packed = (0..2000).any(|_| {
        std::thread::sleep(core::time::Duration::from_millis(5));
        file_info(other).unwrap().blocks_packed == 16
    });
    assert!(packed);
    assert_eq!(get_at(other, 1 << 20, 0).unwrap(), vec![b'z'; 1 << 20]);
}

#[test]
fn a_fork_child_finds_everything_usable_whatever_threads_were_doing() {
    let name = "a_fork_child_finds_everything_usable_whatever_threads_were_doing";
    crate::testing::alone(module_path!(), name, fork_while_threads_work);
}

fn fork_while_threads_work() {
    let _turn = turn();
    let root = Root::new();
    let stop = AtomicBool::new(false);
    let shared = root.file("shared", &[1; 8192]);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (root, stop) = (&root, &stop);
            scope.spawn(move || {
                let name = format!("own {thread}");
                while !stop.load(Relaxed) {
                    let f = root.open(&name, O_CREAT | O_RDWR).unwrap();
                    put(f, &[thread; 3000]).unwrap();
                    put_at(shared, &[thread; 100], i64::from(thread) * 100).unwrap();
                    get_at(shared, 4096, 0).unwrap();
                    close(f).unwrap();
                    unlinkat(root.0, name.as_bytes(), 0).unwrap();
                }
            });
        }
        for _ in 0..100 {
            assert_eq!(in_child(|| in_the_child(&root, shared)), Some(0));
        }
        stop.store(true, Relaxed);
    });
}

/// What the child of a fork does; the answer says at which step it failed.
fn in_the_child(root: &Root, shared: i32) -> i32 {
    let steps: [&dyn Fn() -> bool; 5] = [
        &|| get_at(shared, 8192, 0).is_ok_and(|bytes| bytes.len() == 8192 && bytes[8191] == 1),
        &|| put(shared, &[5; 100]) == Ok(100),
        &|| {
            root.open("child", O_CREAT | O_RDWR | O_EXCL).and_then(|f| put(f, b"mine").and(close(f)))
                == Ok(())
        },
        &|| unlinkat(root.0, b"child", 0) == Ok(()),
        &|| DirStream::fdopendir(dup(root.0).unwrap_or(-1)).is_ok_and(|mut s| names(&mut s).len() >= 3),
    ];
    steps.iter().position(|step| !step()).map_or(0, |at| at as i32 + 1)
}

/// Forks; the child exits with what `work` answers. `None` when it died or hung.
fn in_child(work: impl FnOnce() -> i32) -> Option<i32> {
    // SAFETY: the child runs `work`, which calls nothing but ERMFS and the allocator (safe after fork
    // in glibc), and leaves by _exit. alarm ends it should it hang.
    match unsafe { libc::fork() } {
        -1 => panic!("fork failed"),
        0 => {
            // SAFETY: as above.
            unsafe {
                libc::alarm(20);
                libc::_exit(work())
            }
        }
        child => {
            let mut status = 0;
            // SAFETY: `status` is writable and `child` our own.
            let waited = unsafe { libc::waitpid(child, &mut status, 0) };
            (waited == child && libc::WIFEXITED(status)).then(|| libc::WEXITSTATUS(status))
        }
    }
}
