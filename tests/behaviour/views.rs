//! Views: reading without a copy.

use std::os::unix::fs::FileExt;

use ermfs::{OpenOptions, View};

use crate::common::{BLOCK, errno, for_each_policy, mixed, new_fs, noise, text, wait_until};

fn bytes(view: &View) -> Vec<u8> {
    let bytes = view.pieces().collect::<Vec<_>>().concat();
    assert_eq!(bytes.len(), view.len());
    assert_eq!(bytes.is_empty(), view.is_empty());
    bytes
}

#[test]
fn a_view_shows_the_range_it_was_asked_for() {
    for_each_policy(|fs| {
        let content = mixed(1);
        fs.write("/file", &content).unwrap();
        let file = fs.open("/file").unwrap();
        let end = content.len() as u64;
        assert!(bytes(&file.view(..).unwrap()) == content);
        for (from, to) in
            [(0, 0), (0, 1), (1, 70_000), (BLOCK as u64, 2 * BLOCK as u64), (100, end), (end - 1, end)]
        {
            let expected = &content[from as usize..to as usize];
            assert!(bytes(&file.view(from..to).unwrap()) == expected, "{from}..{to}");
        }
        assert_eq!(bytes(&file.view(10..=12).unwrap()), &content[10..13]);
        assert_eq!(bytes(&file.view(..5).unwrap()), &content[..5]);
    });
}

#[test]
fn a_view_ends_where_the_file_does() {
    let fs = new_fs();
    fs.write("/file", "0123456789").unwrap();
    let file = fs.open("/file").unwrap();
    assert_eq!(bytes(&file.view(8..1000).unwrap()), b"89");
    assert!(file.view(10..).unwrap().is_empty());
    assert!(file.view(1000..).unwrap().is_empty());
    assert_eq!(errno(file.view(0..=u64::MAX)), libc::EINVAL);
    assert_eq!(errno(file.view(0..1 << 63)), libc::EINVAL);
    let (start, end) = (5, 4);
    assert_eq!(errno(file.view(start..end)), libc::EINVAL);
    assert_eq!(errno(fs.open("/").unwrap().view(..)), libc::EISDIR);
}

#[test]
fn a_view_does_not_change_whatever_is_done_to_the_file() {
    for_each_policy(|fs| {
        for content in [mixed(2), noise(3, 3 * BLOCK), text(4, 500)] {
            fs.write("/file", &content).unwrap();
            let file = OpenOptions::new().read(true).write(true).open(fs, "/file").unwrap();
            let closed = file.view(..).unwrap();
            file.write_all_at(&[b'!'; 300], 100).unwrap();
            let mut written = content.clone();
            written[100..400].fill(b'!');
            let open = file.view(..).unwrap();
            file.write_all_at(b"again", 120).unwrap();
            file.punch_hole(0, 200).unwrap();
            file.set_len(10).unwrap();
            file.set_len(1 << 20).unwrap();
            drop(file);
            fs.write("/file", "gone").unwrap();
            fs.remove_file("/file").unwrap();
            assert!(bytes(&closed) == content);
            assert!(bytes(&open) == written);
        }
    });
}

#[test]
fn a_view_outlives_file_and_filesystem_and_may_go_to_another_thread() {
    let fs = new_fs();
    fs.write("/file", mixed(5)).unwrap();
    let view = fs.open("/file").unwrap().view(..).unwrap();
    drop(fs);
    std::thread::spawn(move || assert!(bytes(&view) == mixed(5))).join().unwrap();
}

#[test]
fn what_a_view_holds_is_counted_until_it_is_dropped() {
    for_each_policy(|fs| {
        let mut file = OpenOptions::new().read(true).write(true).create(true).open(fs, "/file").unwrap();
        std::io::Write::write_all(&mut file, &noise(6, 8 * BLOCK)).unwrap();
        let view = file.view(..).unwrap();
        drop(file);
        fs.remove_file("/file").unwrap();
        assert!(fs.statistics().unwrap().bytes_in_use >= 8 * BLOCK as u64);
        drop(view);
        wait_until("the memory", || fs.statistics().unwrap().bytes_in_use < BLOCK as u64);
    });
}

#[test]
fn holes_are_seen_as_zeros() {
    for_each_policy(|fs| {
        let file = OpenOptions::new().read(true).write(true).create(true).open(fs, "/file").unwrap();
        file.write_all_at(b"x", 3 * BLOCK as u64).unwrap();
        let mut expected = vec![0; 3 * BLOCK];
        expected.push(b'x');
        assert!(bytes(&file.view(..).unwrap()) == expected);
        assert!(file.view(..).unwrap().pieces().all(|piece| !piece.is_empty()));
    });
}
