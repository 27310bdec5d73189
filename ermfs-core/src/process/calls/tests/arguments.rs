//! What the calls answer to good and bad arguments, in the kernel's order of checks.

use super::*;

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
