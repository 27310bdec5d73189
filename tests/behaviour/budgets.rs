//! Budgets: what happens at the limit.

use std::io::Write;
use std::os::unix::fs::FileExt;

use ermfs::{Compress, Fs, OpenOptions};

use crate::common::{BLOCK, errno, noise, text, wait_until};

const MIB: u64 = 1 << 20;

/// Small filesystems with every policy.
fn small(max_bytes: u64, test: impl Fn(&Fs)) {
    for policy in [Compress::OnClose, Compress::Background, Compress::Never] {
        test(&Fs::builder().max_bytes(max_bytes).compress(policy).build().unwrap());
    }
}

#[test]
fn a_write_that_finds_too_little_room_is_partial_and_the_next_one_is_enospc() {
    small(4 * MIB, |fs| {
        let content = noise(1, 8 * MIB as usize);
        let mut file = OpenOptions::new().read(true).write(true).create(true).open(fs, "/file").unwrap();
        let mut written = 0;
        let error = loop {
            match file.write(&content[written..]) {
                Ok(n) => {
                    assert!(n > 0);
                    written += n;
                }
                Err(error) => break error,
            }
        };
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        assert!(written as u64 > 3 * MIB, "{written}");
        assert_eq!(file.metadata().unwrap().len(), written as u64);
        let mut read = vec![0; written];
        file.read_exact_at(&mut read, 0).unwrap();
        assert!(read == content[..written]);
        let statistics = fs.statistics().unwrap();
        assert!(
            statistics.bytes_in_use <= statistics.max_bytes && statistics.peak_bytes <= statistics.max_bytes
        );
        assert!(statistics.hard_limit_hits > 0 && statistics.soft_limit_hits > 0);
    });
}

#[test]
fn a_full_filesystem_can_be_emptied_and_used_again() {
    small(4 * MIB, |fs| {
        for round in 0..3 {
            let mut count = 0;
            while fs.write(format!("/{count}"), noise(count, 100_000)).is_ok() {
                count += 1;
            }
            assert!(count > 20, "{count}");
            // Overwriting in place and cutting need no room, or find it in the reserve.
            let file = OpenOptions::new().write(true).open(fs, "/0").unwrap();
            file.write_all_at(b"still possible", 50_000).unwrap();
            file.set_len(70_000).unwrap();
            drop(file);
            for number in 0..=count {
                fs.remove_file(format!("/{number}")).unwrap_or_else(|error| {
                    assert_eq!((number, error.raw_os_error()), (count, Some(libc::ENOENT)), "round {round}");
                });
            }
            wait_until("the memory", || fs.statistics().unwrap().bytes_in_use < 100_000);
        }
    });
}

#[test]
fn names_cost_too() {
    small(MIB, |fs| {
        let mut count = 0;
        let error = loop {
            match fs.create_dir(format!("/{count:0200}")) {
                Ok(()) => count += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        assert!((1000..5000).contains(&count), "{count}");
        assert_eq!(fs.read_dir("/").unwrap().count(), count);
    });
}

#[test]
fn allocating_beyond_the_budget_changes_nothing() {
    small(4 * MIB, |fs| {
        let file = OpenOptions::new().read(true).write(true).create(true).open(fs, "/file").unwrap();
        (&file).write_all(b"content").unwrap();
        let before = fs.statistics().unwrap();
        assert_eq!(errno(file.allocate(0, 64 * MIB)), libc::ENOSPC);
        let after = fs.statistics().unwrap();
        assert_eq!((after.raw_bytes, after.logical_bytes), (before.raw_bytes, before.logical_bytes));
        assert_eq!(file.metadata().unwrap().len(), 7);
    });
}

#[test]
fn one_file_can_have_a_limit_of_its_own() {
    let fs = Fs::builder().max_file_bytes(MIB).compress(Compress::Never).build().unwrap();
    assert_eq!(errno(fs.write("/file", noise(2, 2 * MIB as usize))), libc::EFBIG);
    assert!(fs.metadata("/file").unwrap().len() <= MIB);
    fs.write("/other", noise(3, MIB as usize / 2)).unwrap();
}

#[test]
fn a_budget_holds_more_than_its_size_when_files_compress() {
    let fs = Fs::builder().max_bytes(8 * MIB).build().unwrap();
    for number in 0..64 {
        fs.write(format!("/{number}"), text(number, MIB as usize)).unwrap();
    }
    let statistics = fs.statistics().unwrap();
    assert_eq!((statistics.files, statistics.logical_bytes), (64, 64 * MIB));
    assert!(statistics.bytes_in_use < 2 * MIB);
    for number in 0..64 {
        assert!(fs.read(format!("/{number}")).unwrap() == text(number, MIB as usize));
    }
}

#[test]
fn inflated_copies_give_way() {
    let fs = Fs::builder().max_bytes(4 * MIB).cache_bytes(3 * MIB).build().unwrap();
    fs.write("/text", text(4, 3 * MIB as usize)).unwrap();
    let file = fs.open("/text").unwrap();
    for block in 0..40 {
        file.read_exact_at(&mut [0; 10], block * BLOCK as u64).unwrap();
    }
    assert!(fs.statistics().unwrap().cached_bytes > MIB);
    let mut noisy = fs.create("/noise").unwrap();
    noisy.write_all(&noise(5, 3 * MIB as usize)).unwrap();
    assert!(fs.statistics().unwrap().cached_bytes < MIB);
    assert!(fs.read("/text").unwrap() == text(4, 3 * MIB as usize));
}

#[test]
fn settings_that_no_filesystem_can_have_are_refused() {
    assert_eq!(errno(Fs::builder().level(13).build()), libc::EINVAL);
    assert_eq!(errno(Fs::builder().level(-1).build()), libc::EINVAL);
    assert_eq!(errno(Fs::builder().soft_limit_percent(101).build()), libc::EINVAL);
    assert_eq!(errno(Fs::builder().max_bytes(1).build()), libc::ENOSPC);
}
