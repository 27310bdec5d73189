//! Kernel descriptors out: memfds and gzip.

use std::fs;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

use ermfs::{ExportFlags, OpenOptions};
use rustix::fs::{SealFlags, fcntl_get_seals};
use rustix::io::{FdFlags, fcntl_getfd};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::common::{BLOCK, errno, for_each_policy, mixed, new_fs, noise, sizes, text};

fn kernel_bytes(fd: OwnedFd) -> Vec<u8> {
    let mut bytes = Vec::new();
    fs::File::from(fd).read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn the_kernel_reads_what_was_written_at_every_size() {
    for_each_policy(|fs| {
        for flags in [ExportFlags::empty(), ExportFlags::SEALED, ExportFlags::NOEXEC] {
            for size in sizes() {
                let content = text(1, size);
                fs.write("/file", &content).unwrap();
                assert_eq!(
                    kernel_bytes(fs.export_memfd("/file", flags).unwrap()),
                    content,
                    "{size}, {flags:?}"
                );
            }
            fs.write("/file", mixed(2)).unwrap();
            assert!(kernel_bytes(fs.export_memfd("/file", flags).unwrap()) == mixed(2));
        }
    });
}

#[test]
fn a_memfd_can_be_mapped() {
    for_each_policy(|fs| {
        let content = mixed(3);
        fs.write("/file", &content).unwrap();
        let fd = fs.export_memfd("/file", ExportFlags::SEALED).unwrap();
        let len = content.len();
        // SAFETY: a new mapping at an address of the kernel's choice.
        let address =
            unsafe { mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::SHARED, &fd, 0) }.unwrap();
        // SAFETY: the mapping is `len` bytes long, readable, and sealed against every change.
        assert!(unsafe { std::slice::from_raw_parts(address.cast::<u8>(), len) } == content);
        // SAFETY: mapped above, and the slice is gone.
        unsafe { munmap(address, len) }.unwrap();
    });
}

#[test]
fn an_export_is_the_file_at_that_moment_and_nobody_elses() {
    for_each_policy(|fs| {
        fs.write("/file", "before").unwrap();
        let mut exported = fs::File::from(fs.export_memfd("/file", ExportFlags::empty()).unwrap());
        fs.write("/file", "after").unwrap();
        exported.write_all_at(b"BE", 0).unwrap();
        let mut text = String::new();
        exported.read_to_string(&mut text).unwrap();
        assert_eq!(text, "BEfore");
        assert_eq!(fs.read("/file").unwrap(), b"after");
    });
}

#[test]
fn sealed_exports_of_an_unchanged_file_are_one_inode() {
    use std::os::unix::fs::MetadataExt;
    let fs = new_fs();
    fs.write("/file", text(4, 3 * BLOCK)).unwrap();
    let export = || fs::File::from(fs.export_memfd("/file", ExportFlags::SEALED).unwrap());
    let (mut one, other) = (export(), export());
    assert_eq!(one.metadata().unwrap().ino(), other.metadata().unwrap().ino());
    assert_eq!(fs.statistics().unwrap().exported_bytes, 3 * BLOCK as u64);
    one.seek(std::io::SeekFrom::End(0)).unwrap();
    assert_eq!((&other).stream_position().unwrap(), 0);
    assert!(fcntl_get_seals(&one).unwrap().contains(SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW));
    assert!(one.write(b"x").is_err());

    let file = OpenOptions::new().write(true).open(&fs, "/file").unwrap();
    file.write_all_at(b"changed", 0).unwrap();
    let third = export();
    assert_ne!(third.metadata().unwrap().ino(), other.metadata().unwrap().ino());
    let mut start = [0; 7];
    third.read_exact_at(&mut start, 0).unwrap();
    assert_eq!(&start, b"changed");
}

#[test]
fn flags_decide_over_exec() {
    let fs = new_fs();
    fs.write("/file", "content").unwrap();
    let is_cloexec = |flags| {
        let fd = fs.export_memfd("/file", flags).unwrap();
        fcntl_getfd(&fd).unwrap().contains(FdFlags::CLOEXEC)
    };
    assert!(is_cloexec(ExportFlags::empty()));
    assert!(is_cloexec(ExportFlags::SEALED));
    assert!(!is_cloexec(ExportFlags::NOCLOEXEC));
    let noexec = fs::File::from(fs.export_memfd("/file", ExportFlags::NOEXEC).unwrap());
    let mode = std::os::unix::fs::MetadataExt::mode(&noexec.metadata().unwrap());
    assert_eq!(mode & 0o111, 0);
}

#[test]
fn a_program_runs_from_its_memfd() {
    let fs = new_fs();
    fs.import_fd("/echo", fs::File::open("/bin/echo").unwrap(), 0o755).unwrap();
    let fd = fs.export_memfd("/echo", ExportFlags::SEALED).unwrap();
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let output = Command::new(path).arg("from memory").output().unwrap();
    assert_eq!(output.stdout, b"from memory\n");
}

#[test]
fn an_open_file_is_exported_with_or_without_a_name() {
    for_each_policy(|fs| {
        let file = OpenOptions::new().read(true).write(true).create(true).open(fs, "/file").unwrap();
        (&file).write_all(&mixed(5)).unwrap();
        fs.remove_file("/file").unwrap();
        assert!(kernel_bytes(file.export_memfd(ExportFlags::empty()).unwrap()) == mixed(5));
        let writer = fs.create("/other").unwrap();
        assert_eq!(errno(writer.export_memfd(ExportFlags::empty())), libc::EBADF);
    });
}

#[test]
fn holes_stay_holes() {
    let fs = new_fs();
    let file = OpenOptions::new().read(true).write(true).create(true).open(&fs, "/file").unwrap();
    let size = 1 << 30;
    file.write_all_at(b"end", size - 3).unwrap();
    let exported = fs::File::from(file.export_memfd(ExportFlags::empty()).unwrap());
    let metadata = exported.metadata().unwrap();
    assert_eq!(metadata.len(), size);
    assert!(std::os::unix::fs::MetadataExt::blocks(&metadata) * 512 <= 2 * BLOCK as u64);
}

#[test]
fn gunzip_reads_an_exported_gz() {
    for_each_policy(|fs| {
        for content in [Vec::new(), text(6, 10), mixed(7), noise(8, 2 * BLOCK + 1)] {
            fs.write("/file", &content).unwrap();
            let gz = fs.export_gzip("/file", ExportFlags::empty()).unwrap();
            fs.import_gzip("/back", gz.as_fd(), 0o600).unwrap();
            assert!(fs.read("/back").unwrap() == content);
            let output = Command::new("gzip").arg("-dc").stdin(Stdio::from(gz)).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(output.stdout == content);
        }
    });
}

#[test]
fn what_has_no_content_is_not_exported() {
    let fs = new_fs();
    assert_eq!(errno(fs.export_memfd("/", ExportFlags::empty())), libc::EISDIR);
    assert_eq!(errno(fs.export_gzip("/", ExportFlags::empty())), libc::EISDIR);
    assert_eq!(errno(fs.export_memfd("/missing", ExportFlags::empty())), libc::ENOENT);
    fs.write("/file", "content").unwrap();
    fs.symlink("file", "/link").unwrap();
    assert_eq!(kernel_bytes(fs.export_memfd("/link", ExportFlags::empty()).unwrap()), b"content");
}
