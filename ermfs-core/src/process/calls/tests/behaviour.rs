//! Offsets and flags that descriptors share, threads, the working directory, streams, packing, forks.

use super::*;
use crate::testing;

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
    default_fs().unwrap();
    assert_eq!(configure_default(&Config::default()), Err(Errno::EBUSY));
    let root = Root::new();
    let mode = is_lockless();
    assert_eq!((set_lockless_mode(mode), set_lockless_mode(!mode)), (Ok(()), Err(Errno::EBUSY)));
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
pub(super) fn in_child(work: impl FnOnce() -> i32) -> Option<i32> {
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

/// What a call took out of files is free when it returns: there may be no other call for long.
#[test]
fn memory_of_a_large_file_is_given_back_by_the_call_that_ends_it() {
    testing::alone(module_path!(), "memory_of_a_large_file_is_given_back_by_the_call_that_ends_it", || {
        const SIZE: usize = 8 << 20;
        let fs = default_fs().unwrap();
        let raw = || fs.space().budget().usage().raw;
        // Nothing that packing makes smaller.
        let mut state = 1u64;
        let bytes: Vec<u8> = (0..SIZE)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        let write = |name: &[u8]| {
            let fd = openat(AT_FDCWD, name, O_RDWR | O_CREAT, 0o644).unwrap();
            assert_eq!(put_at(fd, &bytes, 0), Ok(SIZE));
            assert_eq!(raw(), SIZE as u64);
            fd
        };
        let fd = write(b"cut");
        ftruncate(fd, 0).unwrap();
        assert_eq!(raw(), 0, "after ftruncate");
        close(fd).unwrap();
        let fd = write(b"closed");
        unlinkat(AT_FDCWD, b"closed", 0).unwrap();
        close(fd).unwrap();
        assert_eq!(raw(), 0, "after the last close");
        close(write(b"unlinked")).unwrap();
        assert_eq!(raw(), SIZE as u64);
        unlinkat(AT_FDCWD, b"unlinked", 0).unwrap();
        assert_eq!(raw(), 0, "after unlink");
    });
}
