//! What a file is: numbers, modes, times.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ermfs::OpenOptions;

use crate::common::{BLOCK, for_each_policy, new_fs, text};

#[test]
fn new_files_belong_to_the_process_and_have_the_mode_they_are_given() {
    let fs = new_fs();
    fs.write("/file", "").unwrap();
    let metadata = fs.metadata("/file").unwrap();
    assert_eq!(metadata.mode(), libc::S_IFREG | 0o644);
    assert_eq!(metadata.uid(), rustix::process::geteuid().as_raw());
    assert_eq!(metadata.gid(), rustix::process::getegid().as_raw());
    OpenOptions::new().write(true).create(true).mode(0o7777).open(&fs, "/all").unwrap();
    assert_eq!(fs.metadata("/all").unwrap().mode() & 0o7777, 0o7777);
    assert_eq!(fs.metadata("/").unwrap().mode() & libc::S_IFMT, libc::S_IFDIR);
}

#[test]
fn permissions_are_set_by_path_and_by_file() {
    let fs = new_fs();
    fs.write("/file", "").unwrap();
    fs.symlink("file", "/link").unwrap();
    fs.set_permissions("/link", Permissions::from_mode(0o600)).unwrap();
    assert_eq!(fs.metadata("/file").unwrap().permissions().mode() & 0o7777, 0o600);
    fs.open("/file").unwrap().set_permissions(Permissions::from_mode(0o444)).unwrap();
    assert!(fs.metadata("/file").unwrap().permissions().readonly());
}

#[test]
fn times_are_set_and_left() {
    let fs = new_fs();
    fs.write("/file", "").unwrap();
    let before_the_epoch = UNIX_EPOCH - Duration::new(1_000_000, 250_000_000);
    let later = UNIX_EPOCH + Duration::new(4_000_000_000, 999_999_999);
    fs.set_times("/file", Some(before_the_epoch), Some(later)).unwrap();
    let metadata = fs.metadata("/file").unwrap();
    assert_eq!((metadata.accessed().unwrap(), metadata.modified().unwrap()), (before_the_epoch, later));

    fs.open("/file").unwrap().set_times(None, Some(UNIX_EPOCH)).unwrap();
    let after = fs.metadata("/file").unwrap();
    assert_eq!((after.accessed().unwrap(), after.modified().unwrap()), (before_the_epoch, UNIX_EPOCH));
    assert!(after.changed().unwrap() > metadata.changed().unwrap());
    assert_eq!(after.created().unwrap(), metadata.created().unwrap());
}

#[test]
fn a_change_after_a_look_is_seen_as_later() {
    for_each_policy(|fs| {
        let start = SystemTime::now() - Duration::from_secs(1);
        fs.write("/file", "").unwrap();
        let mut last = fs.metadata("/file").unwrap().modified().unwrap();
        assert!(last > start);
        for content in ["one", "two", "three", "four"] {
            fs.write("/file", content).unwrap();
            let now = fs.metadata("/file").unwrap().modified().unwrap();
            assert!(now > last, "{content}");
            last = now;
        }
        fs.read("/file").unwrap();
        assert_eq!(fs.metadata("/file").unwrap().modified().unwrap(), last);
    });
}

#[test]
fn inode_numbers_are_never_used_again() {
    let fs = new_fs();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..100 {
        fs.write("/file", "").unwrap();
        assert!(seen.insert(fs.metadata("/file").unwrap().ino()));
        fs.remove_file("/file").unwrap();
    }
}

#[test]
fn blocks_count_the_memory_taken() {
    for_each_policy(|fs| {
        let mut file = fs.create("/file").unwrap();
        std::io::Write::write_all(&mut file, &text(1, 4 * BLOCK)).unwrap();
        let open = file.metadata().unwrap();
        assert_eq!((open.len(), open.size(), open.blocks()), (4 * BLOCK as u64, 4 * BLOCK as u64, 4 * 128));
        assert_eq!(open.blksize(), BLOCK as u64);
        assert_eq!(file.stored_bytes().unwrap(), 4 * BLOCK as u64);
    });
}

#[test]
fn one_file_has_one_metadata_by_whatever_way() {
    let fs = new_fs();
    fs.write("/file", "content").unwrap();
    fs.symlink("file", "/link").unwrap();
    let by_file = fs.open("/file").unwrap().metadata().unwrap();
    for metadata in [
        fs.metadata("/file").unwrap(),
        fs.metadata("/link").unwrap(),
        fs.symlink_metadata("/file").unwrap(),
        fs.read_dir("/").unwrap().next().unwrap().unwrap().metadata().unwrap(),
    ] {
        assert_eq!((metadata.ino(), metadata.dev(), metadata.len()), (by_file.ino(), by_file.dev(), 7));
    }
    assert_eq!(fs.symlink_metadata("/link").unwrap().len(), 4);
}
