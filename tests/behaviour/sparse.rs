//! Sizes, holes, and memory taken ahead.

use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use ermfs::{Form, OpenOptions};

use crate::common::{BLOCK, PAGE, errno, for_each_policy, new_fs, noise, sizes, text};

#[test]
fn what_a_write_past_the_end_skips_reads_as_zeros_and_takes_nothing() {
    for_each_policy(|fs| {
        let mut file = OpenOptions::new().read(true).write(true).create(true).open(fs, "/file").unwrap();
        let far = 1 << 40;
        file.seek(SeekFrom::Start(far)).unwrap();
        file.write_all(b"end").unwrap();
        assert_eq!(file.metadata().unwrap().len(), far + 3);
        assert!(file.stored_bytes().unwrap() <= PAGE as u64);
        let mut middle = [7; 1000];
        file.read_exact_at(&mut middle, far / 2).unwrap();
        assert_eq!(middle, [0; 1000]);
        drop(file);
        let mut end = [7; 5];
        fs.open("/file").unwrap().read_exact_at(&mut end, far - 2).unwrap();
        assert_eq!(&end, b"\0\0end");
    });
}

#[test]
fn data_and_holes_are_found() {
    let fs = new_fs();
    let file = OpenOptions::new().read(true).write(true).create(true).open(&fs, "/file").unwrap();
    file.write_all_at(&noise(1, BLOCK), 2 * BLOCK as u64).unwrap();
    file.set_len(5 * BLOCK as u64).unwrap();
    let block = BLOCK as u64;
    assert_eq!(file.seek_data(0).unwrap(), 2 * block);
    assert_eq!((&file).stream_position().unwrap(), 2 * block);
    assert_eq!(file.seek_hole(2 * block + 5).unwrap(), 3 * block);
    assert_eq!(file.seek_hole(0).unwrap(), 0);
    assert_eq!(errno(file.seek_data(3 * block)), libc::ENXIO);
    assert_eq!(errno(file.seek_hole(5 * block)), libc::ENXIO);
}

#[test]
fn cutting_and_growing_shows_zeros_never_what_was_there() {
    for_each_policy(|fs| {
        for size in sizes() {
            let content = noise(2, 3 * BLOCK + 10);
            fs.write("/file", &content).unwrap();
            let file = OpenOptions::new().read(true).write(true).open(fs, "/file").unwrap();
            file.set_len(size as u64).unwrap();
            file.set_len(4 * BLOCK as u64).unwrap();
            drop(file);
            let mut expected = content;
            expected.truncate(size);
            expected.resize(4 * BLOCK, 0);
            assert!(fs.read("/file").unwrap() == expected, "cut to {size}");
        }
    });
}

#[test]
fn the_largest_size_is_two_to_the_63_less_one() {
    let fs = new_fs();
    let file = OpenOptions::new().read(true).write(true).create(true).open(&fs, "/file").unwrap();
    file.set_len(i64::MAX as u64).unwrap();
    assert_eq!(file.metadata().unwrap().len(), i64::MAX as u64);
    assert_eq!(errno(file.set_len(1 << 63)), libc::EINVAL);
    let mut last = [1];
    file.read_exact_at(&mut last, i64::MAX as u64 - 1).unwrap();
    assert_eq!(last, [0]);
}

#[test]
fn punching_gives_memory_back_and_leaves_the_size() {
    for_each_policy(|fs| {
        let mut content = noise(3, 4 * BLOCK);
        fs.write("/file", &content).unwrap();
        let mut file = OpenOptions::new().read(true).write(true).open(fs, "/file").unwrap();
        let before = file.stored_bytes().unwrap();
        let (start, len) = (BLOCK + 100, 2 * BLOCK);
        file.punch_hole(start as u64, len as u64).unwrap();
        content[start..start + len].fill(0);
        assert!(file.stored_bytes().unwrap() <= before - BLOCK as u64);
        let mut now = Vec::new();
        file.read_to_end(&mut now).unwrap();
        assert!(now == content);
        assert_eq!(errno(file.punch_hole(0, 0)), libc::EINVAL);
    });
}

#[test]
fn allocating_takes_the_memory_and_grows_the_file() {
    for_each_policy(|fs| {
        let file = OpenOptions::new().read(true).write(true).create(true).open(fs, "/file").unwrap();
        file.allocate(BLOCK as u64, 3 * BLOCK as u64).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 4 * BLOCK as u64);
        assert_eq!(file.stored_bytes().unwrap(), 3 * BLOCK as u64);
        let info = file.info().unwrap();
        assert_eq!((info.form, info.blocks, info.blocks_raw, info.blocks_hole), (Form::Raw, 4, 3, 1));
    });
}

#[test]
fn zeros_at_rest_are_holes() {
    let fs = new_fs();
    let mut content = text(4, BLOCK);
    content.extend(vec![0; 6 * BLOCK]);
    content.extend(text(5, 10));
    fs.write("/file", &content).unwrap();
    let info = fs.open("/file").unwrap().info().unwrap();
    assert_eq!((info.blocks, info.blocks_hole, info.blocks_packed), (8, 6, 2));
    assert_eq!(fs.read("/file").unwrap(), content);
}
