use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags, SealFlags};
use rustix::io::{Errno as Refused, FdFlags};

use super::forms::examples;
use super::*;
use crate::errno::Errno;
use crate::export::{ExportFlags, export_memfd};
use crate::testing::usage;

const PRIVATE: ExportFlags = ExportFlags::empty();
const SEALED: ExportFlags = ExportFlags::SEALED;

/// What is kept for a content is known by its address: a test that drops one while something is kept has it in a
/// `Box`, as an inode has.
fn export(content: &Content, flags: ExportFlags) -> OwnedFd {
    export_memfd(content, b"name", flags).unwrap()
}

fn path_of(fd: &OwnedFd) -> Vec<u8> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::readlink(path.as_str(), Vec::new()).unwrap().into_bytes()
}

fn is_close_on_exec(fd: &OwnedFd) -> bool {
    rustix::io::fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC)
}

#[test]
fn every_form_is_exported_with_its_bytes_and_holes() {
    let space = space();
    for file in examples(&space) {
        let before = usage(&space);
        for flags in [PRIVATE, SEALED, SEALED, SEALED | ExportFlags::NOEXEC] {
            let fd = export(&file.content, flags);
            assert_eq!(stat(&fd).st_size as usize, file.bytes.len(), "{}", file.what);
            assert!(read_to_end(&fd) == file.bytes, "{}: {flags:?}", file.what);
            let mut at = 0;
            for (start, end) in extents(&fd) {
                assert!(file.bytes[at..start as usize].iter().all(|&byte| byte == 0), "{}", file.what);
                at = end as usize;
            }
            // What the file keeps as a hole of whole pages takes no memory in the memfd either.
            let data = file.content.info();
            let most = (data.blocks_raw + data.blocks_packed) * BLOCK as u64;
            assert!(stat(&fd).st_blocks as u64 * 512 <= most, "{}", file.what);
        }
        let after = usage(&space);
        assert_eq!((after.raw, after.packed, after.cached), (before.raw, before.packed, before.cached));
    }
    assert_eq!(exported_bytes(&space), 0);
}

#[test]
fn holes_between_raw_pages_stay_holes() {
    let content = Content::new(&space());
    for page in [1, 4, 40] {
        write(&content, page * PAGE as u64, &text(page, PAGE));
    }
    content.truncate(3 * BLOCK as u64).unwrap();
    let fd = export(&content, PRIVATE);
    let page = |n: u64| (n * PAGE as u64, (n + 1) * PAGE as u64);
    assert_eq!(extents(&fd), [page(1), page(4), page(40)]);
    assert_eq!(stat(&fd).st_blocks, 3 * 8);
}

#[test]
fn the_largest_file_is_a_hole_away() {
    let content = Content::new(&space());
    write(&content, 5 << 40, b"far");
    content.truncate(i64::MAX as u64).unwrap();
    for flags in [PRIVATE, SEALED] {
        let fd = export(&content, flags);
        assert_eq!((stat(&fd).st_size, stat(&fd).st_blocks), (i64::MAX, 8));
        let mut far = [0; 4];
        rustix::io::pread(&fd, &mut far, 5 << 40).unwrap();
        assert_eq!(&far, b"far\0");
    }
}

#[test]
fn a_private_export_is_its_holders() {
    let content = Content::new(&space());
    write(&content, 0, b"as it was");
    let fd = export(&content, PRIVATE);
    write(&content, 0, b"changed..");
    assert_eq!(rustix::io::pwrite(&fd, b"AS", 0), Ok(2));
    assert_eq!(read_to_end(&fd), b"AS it was");
    assert_eq!(contents(&content), b"changed..");
    assert_eq!(rustix::fs::fcntl_getfl(&fd).unwrap() & OFlags::ACCMODE, OFlags::RDWR);
    assert_eq!(stat(&fd).st_mode & 0o777, 0o777);
    assert_eq!(rustix::fs::fcntl_get_seals(&fd), Ok(SealFlags::empty()));
    rustix::fs::fcntl_add_seals(&fd, SealFlags::WRITE).unwrap();
}

#[test]
fn flags_are_close_on_exec_and_executable() {
    let content = Content::new(&space());
    write(&content, 0, b"x");
    for sealed in [PRIVATE, SEALED] {
        // Twice: made, and shared.
        for _ in 0..2 {
            assert!(is_close_on_exec(&export(&content, sealed)));
            assert!(!is_close_on_exec(&export(&content, sealed | ExportFlags::NOCLOEXEC)));
            let fd = export(&content, sealed | ExportFlags::NOEXEC);
            assert_eq!(stat(&fd).st_mode & 0o111, 0);
            assert_eq!(rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755)), Err(Refused::PERM));
            assert_eq!(stat(export(&content, sealed)).st_mode & 0o111, 0o111);
        }
    }
    assert_eq!(ExportFlags::from_raw(7), Ok(ExportFlags::all()));
    for flags in [8, 16 | 1, -1, i32::MIN] {
        assert_eq!(ExportFlags::from_raw(flags), Err(Errno::EINVAL));
    }
}

#[test]
fn names_are_the_end_of_the_path() {
    let content = Content::new(&space());
    let long: Vec<u8> = (0..300).map(|i| b'a' + (i % 26) as u8).collect();
    let cases: [(&[u8], &[u8]); 6] = [
        (b"dir/file", b"dir/file"),
        (b"", b""),
        (b"one\0two", b"one"),
        (b"\xff\xfe/\x80", b"\xff\xfe/\x80"),
        (&long[..249], &long[..249]),
        (&long, &long[51..]),
    ];
    for (name, shown) in cases {
        let fd = export_memfd(&content, name, PRIVATE).unwrap();
        assert_eq!(path_of(&fd), [b"/memfd:", shown, b" (deleted)"].concat());
    }
}

#[test]
fn nobody_can_change_a_sealed_export() {
    let content = Content::new(&space());
    write(&content, 0, &text(1, 10_000));
    let fd = export(&content, SEALED);
    assert_eq!(rustix::io::pwrite(&fd, b"no", 0), Err(Refused::BADF));
    let seals = rustix::fs::fcntl_get_seals(&fd).unwrap();
    assert!(seals.contains(SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL));
    // Opened for writing through /proc, it refuses all the same.
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let again = rustix::fs::open(path.as_str(), OFlags::RDWR, Mode::empty()).unwrap();
    assert_eq!(rustix::io::pwritev(&again, &[IoSlice::new(b"no")], 0), Err(Refused::PERM));
    assert_eq!(rustix::fs::ftruncate(&again, 5), Err(Refused::PERM));
    assert_eq!(rustix::fs::ftruncate(&again, 50_000), Err(Refused::PERM));
    assert_eq!(rustix::fs::fchmod(&again, Mode::from_raw_mode(0o600)), Err(Refused::PERM));
    assert_eq!(rustix::fs::fcntl_add_seals(&again, SealFlags::FUTURE_WRITE), Err(Refused::PERM));
    assert!(read_to_end(&fd) == text(1, 10_000));
}

#[test]
fn sealed_exports_of_an_unchanged_file_share_one_inode() {
    let space = space();
    let content = Box::new(Content::new(&space));
    let old = text(1, 3 * BLOCK);
    write(&content, 0, &old);
    let (first, second) = (export(&content, SEALED), export(&content, SEALED));
    assert_eq!(stat(&first).st_ino, stat(&second).st_ino);
    assert_eq!(exported_bytes(&space), stat(&first).st_blocks as u64 * 512);
    // Each has an offset of its own, and what is packed has not changed.
    rustix::fs::seek(&first, SeekFrom::Start(100)).unwrap();
    content.pack();
    let third = export(&content, SEALED);
    assert_eq!((rustix::fs::tell(&third), stat(&third).st_ino), (Ok(0), stat(&first).st_ino));
    drop(first);
    // A change lets go of it; who has it keeps what it was.
    write(&content, 5, b"new");
    assert_eq!(exported_bytes(&space), 0);
    let fourth = export(&content, SEALED);
    assert_ne!(stat(&fourth).st_ino, stat(&second).st_ino);
    assert!(read_to_end(&second) == old && read_to_end(&fourth) == contents(&content));
    content.truncate(10).unwrap();
    assert_eq!(read_to_end(&export(&content, SEALED)), contents(&content));
    assert!(exported_bytes(&space) > 0);
    drop(content);
    assert_eq!(usage(&space).total, 0);
}

#[test]
fn what_is_executable_is_never_shared_with_what_is_not() {
    let space = space();
    let content = Content::new(&space);
    write(&content, 0, b"#!");
    for flags in [SEALED, SEALED | ExportFlags::NOEXEC, SEALED, SEALED | ExportFlags::NOEXEC] {
        let (made, shared) = (export(&content, flags), export(&content, flags));
        assert_eq!(stat(&made).st_ino, stat(&shared).st_ino);
        assert_eq!(stat(&shared).st_mode & 0o111 == 0, flags.contains(ExportFlags::NOEXEC));
        // One of them is kept at a time.
        assert_eq!(exported_bytes(&space), PAGE as u64);
    }
}

#[test]
fn a_full_filesystem_exports_but_keeps_nothing() {
    let space = space_of(1 << 20, Compress::Never);
    let content = Content::new(&space);
    let bytes = random(1, 600 << 10);
    write(&content, 0, &bytes);
    let (first, second) = (export(&content, SEALED), export(&content, SEALED));
    assert_ne!(stat(&first).st_ino, stat(&second).st_ino);
    assert!(read_to_end(&first) == bytes && read_to_end(&second) == bytes);
    let usage = usage(&space);
    assert_eq!((usage.exported, usage.hard_limit_hits), (0, 0));
    // What was kept goes when its room is needed.
    let small = Content::new(&space);
    write(&small, 0, b"small");
    let kept = export(&small, SEALED);
    assert_eq!(exported_bytes(&space), PAGE as u64);
    let mut at = 600 << 10;
    while exported_bytes(&space) > 0 {
        write(&content, at, &random(at, PAGE));
        at += PAGE as u64;
    }
    assert_eq!(read_to_end(&kept), b"small");
    assert_eq!(read_to_end(&export(&small, SEALED)), b"small");
}

#[test]
fn a_kept_descriptor_that_a_stranger_took_is_left_alone() {
    let content = Box::new(Content::new(&space()));
    write(&content, 0, b"the file");
    drop(export(&content, SEALED));
    let number = content.with_export(|kept| kept.as_raw_fd()).unwrap();
    let stranger = memfd_of(b"a stranger");
    // As closefrom(3) and then some open would.
    // SAFETY: takes the number over in one step; that nobody uses it as the old file is what is tested.
    assert_eq!(unsafe { libc::dup3(stranger.as_raw_fd(), number, libc::O_CLOEXEC) }, number);
    assert_eq!(read_to_end(&export(&content, SEALED)), b"the file");
    drop(content);
    // SAFETY: the number is the stranger's, which was not closed, and nobody else's.
    let stranger_again = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(number) };
    assert_eq!(stat(&stranger_again).st_ino, stat(&stranger).st_ino);
}

#[test]
fn a_damaged_block_is_an_error_and_leaves_nothing() {
    let space = space();
    let content = damaged(&space, 3);
    let before = usage(&space).total;
    for flags in [PRIVATE, SEALED] {
        assert_eq!(export_memfd(&content, b"name", flags).unwrap_err(), Errno::EIO);
    }
    assert_eq!(usage(&space).total, before);
}

#[test]
fn threads_export_whole_versions_while_others_write() {
    let space = space();
    let content = Box::new(Content::new(&space));
    write(&content, 0, &[0; 3 * BLOCK]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for version in 1..200u8 {
                write(&content, 0, &[version; 3 * BLOCK]);
                content.pack();
            }
        });
        for flags in [PRIVATE, SEALED] {
            let content: &Content = &content;
            scope.spawn(move || {
                for _ in 0..100 {
                    let bytes = read_to_end(&export(content, flags));
                    assert!(bytes.iter().all(|&byte| byte == bytes[0]), "a mixture of versions");
                }
            });
        }
    });
    assert!(read_to_end(&export(&content, SEALED)) == [199; 3 * BLOCK]);
    drop(content);
    assert_eq!(exported_bytes(&space), 0);
}
