use super::*;

use ermfs_memory::inject::{Which, arm, disarm};

use crate::content::{Sink, Source};
use crate::errno::Errno;
use crate::fs::Config;
use crate::process::{
    close, fallocate, fsmount, fstat, fstatat, openat, pread, pwrite, statistics, unlinkat,
};
use crate::testing;

#[test]
fn labels_are_listed_once() {
    for (at, label) in LABELS.iter().enumerate() {
        assert!(is_ours(label) && !is_listed(&LABELS[..at], label), "{label}");
        assert!(!is_listed(ermfs_memory::inject::LABELS, label), "{label}");
    }
}

/// Makes `call` while all places of one label refuse, and so with every label: `check` looks at what each failure has left,
/// and is told the label. What it gave where nothing kept it from that is given up, but for the last.
fn by_label<R>(
    mut call: impl FnMut() -> crate::Result<R>,
    mut undo: impl FnMut(R),
    mut check: impl FnMut(&str),
) -> R {
    for label in ermfs_memory::inject::LABELS.iter().chain(LABELS) {
        arm(Which::Named(label));
        let answer = call();
        disarm();
        match answer {
            Ok(answer) => undo(answer),
            Err(_) => check(label),
        }
    }
    call().unwrap()
}

#[test]
fn an_open_that_fails_has_neither_made_nor_emptied_a_file() {
    testing::alone(module_path!(), "an_open_that_fails_has_neither_made_nor_emptied_a_file", || {
        let root = fsmount(&Config::default()).unwrap();
        let mut failed = Vec::new();
        // Not closed: the next one would be opened in the memory of a closed one.
        let held = core::cell::RefCell::new(Vec::new());
        let fd = by_label(
            || openat(root, b"f", libc::O_CREAT | libc::O_RDWR, 0o644),
            |fd| {
                held.borrow_mut().push(fd);
                unlinkat(root, b"f", 0).unwrap();
            },
            |label| {
                failed.push(label.to_owned());
                assert_eq!(fstatat(root, b"f", 0).err(), Some(Errno::ENOENT), "{label}: it is there");
            },
        );
        let write = || assert_eq!(pwrite(fd, &mut Source::new(b"kept"), 0), Ok(4));
        write();
        let again = by_label(
            || openat(root, b"f", libc::O_WRONLY | libc::O_TRUNC, 0),
            |fd| {
                held.borrow_mut().push(fd);
                write();
            },
            |label| assert_eq!(fstat(fd).unwrap().st_size, 4, "{label}: it was emptied"),
        );
        assert!(failed.len() > 2, "{failed:?}");
        held.into_inner().into_iter().chain([again, fd]).for_each(|fd| close(fd).unwrap());
    });
}

#[test]
fn an_allocation_that_fails_on_its_way_leaves_the_file_as_it_was() {
    testing::alone(module_path!(), "an_allocation_that_fails_on_its_way_leaves_the_file_as_it_was", || {
        let root = fsmount(&Config::default()).unwrap();
        for number in 1..60 {
            let fd = openat(root, b"f", libc::O_CREAT | libc::O_TRUNC | libc::O_RDWR, 0o644).unwrap();
            // Blocks that there is no way to yet; of the first ones some get their pages.
            arm(Which::All(number));
            let allocated = fallocate(fd, 0, 1000, 40 << 16);
            disarm();
            let size = fstat(fd).unwrap().st_size;
            assert_eq!(
                size,
                if allocated.is_ok() { 1000 + (40 << 16) } else { 0 },
                "{number}: {allocated:?}"
            );
            assert_eq!(statistics(root).unwrap().errors, 0);
            close(fd).unwrap();
        }
    });
}

#[test]
fn want_of_memory_is_not_counted_as_damage() {
    testing::alone(module_path!(), "want_of_memory_is_not_counted_as_damage", || {
        let root = fsmount(&Config::default()).unwrap();
        let fd = openat(root, b"f", libc::O_CREAT | libc::O_RDWR, 0o644).unwrap();
        assert_eq!(pwrite(fd, &mut Source::new(&[b'x'; 5000]), 0), Ok(5000));
        close(fd).unwrap();
        let fd = openat(root, b"f", libc::O_RDONLY, 0).unwrap();
        let mut room = [0; 5000];
        // A thread that has inflated nothing yet.
        arm(Which::Named("codec.state"));
        assert_eq!(pread(fd, &mut Sink::new(&mut room), 0), Err(Errno::ENOMEM));
        disarm();
        assert_eq!(pread(fd, &mut Sink::new(&mut room), 0), Ok(5000));
        assert_eq!((statistics(root).unwrap().errors, room), (0, [b'x'; 5000]));
        close(fd).unwrap();
    });
}
