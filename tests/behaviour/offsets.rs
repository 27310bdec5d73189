//! The offset of an open file, and calls that leave it alone.

use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use ermfs::OpenOptions;

use crate::common::{BLOCK, errno, for_each_policy, new_fs, text};

#[test]
fn seeking_is_from_the_start_the_end_and_where_one_is() {
    let fs = new_fs();
    fs.write("/file", "0123456789").unwrap();
    let mut file = fs.open("/file").unwrap();
    let mut one = [0];
    for (to, position, byte) in [
        (SeekFrom::Start(3), 3, b'3'),
        (SeekFrom::Current(2), 6, b'6'),
        (SeekFrom::Current(-7), 0, b'0'),
        (SeekFrom::End(-1), 9, b'9'),
    ] {
        assert_eq!(file.seek(to).unwrap(), position);
        file.read_exact(&mut one).unwrap();
        assert_eq!(one[0], byte);
    }
    assert_eq!(file.stream_position().unwrap(), 10);
}

#[test]
fn an_offset_that_cannot_be_is_einval_and_moves_nothing() {
    let fs = new_fs();
    fs.write("/file", "0123456789").unwrap();
    let mut file = fs.open("/file").unwrap();
    file.seek(SeekFrom::Start(5)).unwrap();
    for to in
        [SeekFrom::Current(-6), SeekFrom::End(-11), SeekFrom::Start(1 << 63), SeekFrom::Current(i64::MAX)]
    {
        assert_eq!(errno(file.seek(to)), libc::EINVAL, "{to:?}");
        assert_eq!(file.stream_position().unwrap(), 5);
    }
    assert_eq!(errno(file.read_at(&mut [0], u64::MAX)), libc::EINVAL);
}

#[test]
fn positioned_calls_do_not_move_the_offset() {
    for_each_policy(|fs| {
        let mut file = OpenOptions::new().read(true).write(true).create(true).open(fs, "/file").unwrap();
        file.write_all(b"abc").unwrap();
        file.write_all_at(b"far", 2 * BLOCK as u64).unwrap();
        let mut three = [0; 3];
        file.read_exact_at(&mut three, 2 * BLOCK as u64).unwrap();
        assert_eq!(&three, b"far");
        assert_eq!(file.stream_position().unwrap(), 3);
        assert_eq!(file.read_at(&mut three, 3 * BLOCK as u64).unwrap(), 0);
        let beyond = file.read_exact_at(&mut three, 2 * BLOCK as u64 + 1).unwrap_err();
        assert_eq!(beyond.kind(), std::io::ErrorKind::UnexpectedEof);
    });
}

#[test]
fn a_clone_shares_the_offset_and_a_second_open_does_not() {
    let fs = new_fs();
    fs.write("/file", text(1, 100)).unwrap();
    let mut file = fs.open("/file").unwrap();
    let mut clone = file.try_clone().unwrap();
    let mut other = fs.open("/file").unwrap();
    file.seek(SeekFrom::Start(42)).unwrap();
    assert_eq!(clone.stream_position().unwrap(), 42);
    assert_eq!(other.stream_position().unwrap(), 0);
    drop(file);
    clone.read_exact(&mut [0; 8]).unwrap();
    assert_eq!(clone.stream_position().unwrap(), 50);
}

#[test]
fn shared_references_read_and_write_as_well() {
    for_each_policy(|fs| {
        let file = OpenOptions::new().read(true).write(true).create(true).open(fs, "/file").unwrap();
        (&file).write_all(b"through a reference").unwrap();
        (&file).rewind().unwrap();
        assert_eq!(std::io::read_to_string(&file).unwrap(), "through a reference");
        file.sync_all().unwrap();
        file.sync_data().unwrap();
        (&file).flush().unwrap();
    });
}
