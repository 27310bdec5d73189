//! Opening, reading and writing whole files.

use std::io::{IoSlice, IoSliceMut, Read, Seek, Write};

use ermfs::{File, Fs, OpenOptions};

use crate::common::{BLOCK, errno, for_each_policy, mixed, new_fs, noise, sizes, text};

#[test]
fn what_was_written_is_read_at_every_size() {
    for_each_policy(|fs| {
        for size in sizes() {
            for content in [text(1, size), noise(2, size), vec![0; size]] {
                fs.write("/file", &content).unwrap();
                assert_eq!(fs.read("/file").unwrap(), content, "{size} bytes");
                assert_eq!(fs.metadata("/file").unwrap().len(), size as u64);
            }
        }
    });
}

#[test]
fn text_is_read_as_a_string_and_other_bytes_are_not() {
    let fs = new_fs();
    fs.write("/text", "grün").unwrap();
    assert_eq!(fs.read_to_string("/text").unwrap(), "grün");
    fs.write("/bytes", [0xff, 0xfe]).unwrap();
    assert_eq!(fs.read_to_string("/bytes").unwrap_err().kind(), std::io::ErrorKind::InvalidData);
}

#[test]
fn writing_again_replaces_the_whole_content() {
    for_each_policy(|fs| {
        fs.write("/file", mixed(1)).unwrap();
        fs.write("/file", "short").unwrap();
        assert_eq!(fs.read("/file").unwrap(), b"short");
    });
}

#[test]
fn overwriting_in_the_middle_of_a_closed_file_keeps_the_rest() {
    for_each_policy(|fs| {
        let mut content = mixed(3);
        fs.write("/file", &content).unwrap();
        for (at, patch) in [(10, "first"), (BLOCK - 3, "over the edge"), (5 * BLOCK + 7, "in the zeros")] {
            let file = OpenOptions::new().write(true).open(fs, "/file").unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, patch.as_bytes(), at as u64).unwrap();
            content[at..at + patch.len()].copy_from_slice(patch.as_bytes());
            drop(file);
            assert_eq!(fs.read("/file").unwrap(), content);
        }
    });
}

#[test]
fn appending_to_a_closed_file_goes_to_its_end_whatever_the_offset() {
    for_each_policy(|fs| {
        let mut content = text(4, BLOCK - 10);
        fs.write("/log", &content).unwrap();
        for round in 0..5 {
            let mut log = OpenOptions::new().append(true).open(fs, "/log").unwrap();
            log.rewind().unwrap();
            let line = format!("round {round}\n");
            log.write_all(line.as_bytes()).unwrap();
            content.extend(line.as_bytes());
        }
        assert_eq!(fs.read("/log").unwrap(), content);
    });
}

#[test]
fn vectored_calls_use_all_buffers_in_order() {
    for_each_policy(|fs| {
        let mut file = OpenOptions::new().read(true).write(true).create(true).open(fs, "/file").unwrap();
        let parts = [IoSlice::new(b"one"), IoSlice::new(b""), IoSlice::new(b"three")];
        assert_eq!(file.write_vectored(&parts).unwrap(), 8);
        file.rewind().unwrap();
        let (mut first, mut second) = ([0; 5], [0; 10]);
        let mut room = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        assert_eq!(file.read_vectored(&mut room).unwrap(), 8);
        assert_eq!((&first, &second[..3]), (b"oneth", &b"ree"[..]));
    });
}

#[test]
fn reading_to_the_end_starts_at_the_offset_and_appends_to_the_vector() {
    for_each_policy(|fs| {
        let content = mixed(5);
        fs.write("/file", &content).unwrap();
        let mut file = fs.open("/file").unwrap();
        let mut start = [0; 1000];
        file.read_exact(&mut start).unwrap();
        let mut all = start.to_vec();
        assert_eq!(file.read_to_end(&mut all).unwrap(), content.len() - 1000);
        assert_eq!(all, content);
        assert_eq!(file.read(&mut start).unwrap(), 0);
        assert_eq!(file.read_to_end(&mut all).unwrap(), 0);
    });
}

#[test]
fn an_unlinked_file_lives_until_it_is_closed() {
    for_each_policy(|fs| {
        let mut file = OpenOptions::new().read(true).write(true).create(true).open(fs, "/file").unwrap();
        file.write_all(&text(6, 2 * BLOCK)).unwrap();
        fs.remove_file("/file").unwrap();
        assert_eq!(file.metadata().unwrap().nlink(), 0);
        file.write_all(b"more").unwrap();
        file.rewind().unwrap();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        assert_eq!(content.len(), 2 * BLOCK + 4);
        assert_eq!(fs.statistics().unwrap().files, 1);
        drop(file);
        let after = fs.statistics().unwrap();
        assert_eq!((after.files, after.logical_bytes, after.raw_bytes, after.packed_bytes), (0, 0, 0, 0));
    });
}

#[test]
fn create_new_makes_a_file_once() {
    let fs = new_fs();
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    options.open(&fs, "/lock").unwrap();
    assert_eq!(errno(options.open(&fs, "/lock")), libc::EEXIST);
    fs.symlink("/nowhere", "/link").unwrap();
    assert_eq!(errno(options.open(&fs, "/link")), libc::EEXIST);
}

#[test]
fn options_that_make_no_sense_are_refused_as_by_the_standard_library() {
    let fs = new_fs();
    fs.write("/file", "content").unwrap();
    let attempts: [fn(&mut OpenOptions); 5] = [
        |_| {},
        |options| {
            options.read(true).create(true);
        },
        |options| {
            options.read(true).truncate(true);
        },
        |options| {
            options.append(true).truncate(true);
        },
        |options| {
            options.read(true).create_new(true);
        },
    ];
    for set in attempts {
        let mut ours = OpenOptions::new();
        set(&mut ours);
        assert_eq!(errno(ours.open(&fs, "/file")), libc::EINVAL, "{ours:?}");
    }
    assert_eq!(fs.read("/file").unwrap(), b"content");
}

#[test]
fn what_a_file_was_not_opened_for_is_ebadf() {
    let fs = new_fs();
    let mut writer = fs.create("/file").unwrap();
    assert_eq!(errno(writer.read(&mut [0; 4])), libc::EBADF);
    assert_eq!(errno(writer.view(..)), libc::EBADF);
    let mut reader = File::open(&fs, "/file").unwrap();
    assert_eq!(errno(reader.write(b"x")), libc::EBADF);
    assert_eq!(errno(reader.set_len(1)), libc::EINVAL);
    assert_eq!(errno(reader.allocate(0, 1)), libc::EBADF);
}

#[test]
fn custom_flags_reach_open() {
    let fs = new_fs();
    fs.write("/file", "content").unwrap();
    fs.symlink("file", "/link").unwrap();
    let nofollow = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&fs, "/link");
    assert_eq!(errno(nofollow), libc::ELOOP);
    let directory = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(&fs, "/file");
    assert_eq!(errno(directory), libc::ENOTDIR);
    let mut nameless =
        File::options().read(true).write(true).custom_flags(libc::O_TMPFILE).open(&fs, "/").unwrap();
    nameless.write_all(b"nobody sees this").unwrap();
    assert_eq!(fs.read_dir("/").unwrap().count(), 2);
    assert_eq!(nameless.metadata().unwrap().len(), 16);
}

#[test]
fn a_copy_has_the_content_and_mode_and_goes_its_own_way() {
    for_each_policy(|fs| {
        let content = mixed(7);
        fs.write("/from", &content).unwrap();
        fs.set_permissions("/from", std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        fs.write("/to", "something longer than nothing").unwrap();
        assert_eq!(fs.copy("/from", "/to").unwrap(), content.len() as u64);
        assert_eq!(fs.read("/to").unwrap(), content);
        assert_eq!(fs.metadata("/to").unwrap().mode() & 0o7777, 0o640);

        let to = OpenOptions::new().write(true).open(fs, "/to").unwrap();
        std::os::unix::fs::FileExt::write_all_at(&to, b"changed", 3).unwrap();
        drop(to);
        assert_eq!(fs.read("/from").unwrap(), content);
        assert_eq!(&fs.read("/to").unwrap()[..12], [&content[..3], b"changed", &content[10..12]].concat());

        fs.hard_link("/from", "/same").unwrap();
        assert_eq!(errno(fs.copy("/from", "/same")), libc::EINVAL);
        assert_eq!(fs.read("/from").unwrap(), content);
    });
}

#[test]
fn filesystems_are_independent() {
    let (one, other) = (new_fs(), new_fs());
    one.write("/file", "one").unwrap();
    assert!(!other.exists("/file").unwrap());
    assert_ne!(one.metadata("/").unwrap().dev(), other.metadata("/").unwrap().dev());
    let clone: Fs = one.clone();
    clone.write("/file", "clone").unwrap();
    assert_eq!(one.read("/file").unwrap(), b"clone");
}

#[test]
fn an_open_file_outlives_the_handle_of_its_filesystem() {
    for_each_policy(|_| {
        let fs = new_fs();
        fs.write("/file", mixed(8)).unwrap();
        let mut file = fs.open("/file").unwrap();
        drop(fs);
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        assert_eq!(content, mixed(8));
    });
}
