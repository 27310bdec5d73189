//! Kernel descriptors in.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::common::{BLOCK, errno, for_each_policy, mixed, new_fs, sizes, text};

fn memfd(content: &[u8]) -> fs::File {
    let mut file = fs::File::from(memfd_create("test", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(content).unwrap();
    file
}

#[test]
fn the_whole_file_is_taken_whatever_its_offset() {
    for_each_policy(|fs| {
        for size in sizes() {
            let content = text(1, size);
            let mut file = memfd(&content);
            file.seek(SeekFrom::Start(size as u64 / 2)).unwrap();
            fs.import_fd("/file", &file, 0o751).unwrap();
            assert_eq!(fs.read("/file").unwrap(), content);
            assert_eq!(file.stream_position().unwrap(), size as u64 / 2);
            assert_eq!(fs.metadata("/file").unwrap().mode() & 0o7777, 0o751);
        }
        fs.import_fd("/file", memfd(&mixed(2)), 0o600).unwrap();
        assert!(fs.read("/file").unwrap() == mixed(2));
    });
}

#[test]
fn a_pipe_is_read_to_its_end() {
    for_each_policy(|fs| {
        let (reader, writer): (OwnedFd, OwnedFd) = rustix::pipe::pipe().unwrap();
        let content = mixed(3);
        let sent = content.clone();
        let sender = std::thread::spawn(move || fs::File::from(writer).write_all(&sent).unwrap());
        fs.import_fd("/file", reader, 0o644).unwrap();
        sender.join().unwrap();
        assert!(fs.read("/file").unwrap() == content);
    });
}

#[test]
fn a_failed_import_replaces_nothing_and_leaves_nothing() {
    for_each_policy(|fs| {
        fs.write("/file", "kept").unwrap();
        let before = fs.statistics().unwrap();
        assert_eq!(errno(fs.import_gzip("/file", memfd(b"this is no gzip stream"), 0o644)), libc::EIO);
        assert_eq!(errno(fs.import_gzip("/new", memfd(b"\x1f\x8b\x08"), 0o644)), libc::EIO);
        assert_eq!(errno(fs.import_fd("/file", fs::File::open("/").unwrap(), 0o644)), libc::EISDIR);
        assert_eq!(fs.read("/file").unwrap(), b"kept");
        assert_eq!(fs.read_dir("/").unwrap().count(), 1);
        assert_eq!(fs.statistics().unwrap().files, before.files);
        assert_eq!(errno(fs.import_fd("/no/such/place", memfd(b""), 0o644)), libc::ENOENT);
        assert_eq!(errno(fs.import_fd("/", memfd(b""), 0o644)), libc::EISDIR);
    });
}

#[test]
fn readers_of_a_replaced_file_keep_it() {
    let fs = new_fs();
    fs.write("/file", "old").unwrap();
    let old = fs.open("/file").unwrap();
    fs.import_fd("/file", memfd(b"new"), 0o644).unwrap();
    assert_eq!(std::io::read_to_string(old).unwrap(), "old");
    assert_eq!(fs.read("/file").unwrap(), b"new");
}

#[test]
fn an_import_larger_than_the_budget_fits_if_it_compresses() {
    let fs = ermfs::Fs::builder().max_bytes(16 << 20).build().unwrap();
    let content = text(4, 1 << 20);
    let mut file = memfd(b"");
    for _ in 0..64 {
        file.write_all(&content).unwrap();
    }
    fs.import_fd("/file", &file, 0o644).unwrap();
    assert_eq!(fs.metadata("/file").unwrap().len(), 64 << 20);
    assert!(fs.statistics().unwrap().bytes_in_use < 4 << 20);
    let last = fs.open("/file").unwrap().view((63 << 20) + BLOCK as u64..).unwrap();
    assert!(last.pieces().collect::<Vec<_>>().concat() == content[BLOCK..]);
}
