//! A reader that is stopped in its middle, and what it finds when it goes on.

use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::*;
use crate::content::block::RawBlock;
use crate::content::raw::Holes;
use crate::failpoint::{self, Parking, Plan};
use crate::testing::settle;

/// Reads `len` bytes at `at`, and does `meanwhile` while the reader stands at the label.
fn read_around(
    content: &Content,
    label: &'static str,
    at: u64,
    len: usize,
    meanwhile: impl FnOnce(),
) -> Vec<u8> {
    thread::scope(|scope| {
        let parking = Arc::new(Parking::default());
        let reader = scope.spawn({
            let parking = Arc::clone(&parking);
            move || {
                failpoint::set(Plan::Park(label, 0, parking));
                read(content, at, len).unwrap()
            }
        });
        assert!(parking.wait(Duration::from_secs(60)), "nobody came to {label}");
        meanwhile();
        parking.release();
        reader.join().unwrap()
    })
}

fn lockless_space() -> Arc<Space> {
    let policy = Policy { compress: Compress::Never, level: 0, max_file_bytes: 0, cache_bytes: 0 };
    Space::new(16 << 20, 85, policy, Mode::Lockless)
}

#[test]
fn a_write_over_a_page_and_a_hole_is_not_seen_by_halves() {
    let content = Content::new(&lockless_space());
    content.truncate(BLOCK).unwrap();
    write(&content, 0, &[b'a'; 100]).unwrap();
    let write_on = || assert_eq!(write(&content, 100, &[b'b'; 8000]), Ok(8000));
    let seen = read_around(&content, "lockless.read.cells", 0, 8192, write_on);
    assert_eq!(seen[100] == b'b', seen[4096] == b'b');
}

#[test]
fn a_page_that_went_to_another_file_is_not_read() {
    let space = lockless_space();
    let (content, other) = (Content::new(&space), Content::new(&space));
    content.allocate(0, BLOCK, false).unwrap();
    let snapshot = content.snapshot().unwrap();
    write(&content, 0, &[b'a'; 10]).unwrap();
    settle();
    let at = 5 * 4096;
    let seen = read_around(&content, "lockless.read.cells", at, 4096, || {
        write(&content, at, &[b'b'; 4096]).unwrap();
        drop(snapshot);
        for index in 0..64 {
            write(&other, index * BLOCK, &[b'X'; 4096]).unwrap();
        }
    });
    assert!(seen.iter().all(|byte| [0, b'b'].contains(byte)), "another file's bytes");
}

#[test]
fn a_shared_page_past_the_fill_mark_stays_in_its_cell() {
    let purpose = Purpose::Ordinary;
    let mut block = RawBlock::try_new(&lockless_space(), purpose).unwrap();
    let alone = block.get_mut().unwrap();
    assert!(alone.make_writable(0..3 * 4096, Holes::all(purpose), purpose).error.is_none());
    alone.write(0, 100, &mut Source::new(&[b'a'; 100]));
    alone.set_mark(100);
    let other = alone.share_pages(purpose).unwrap();
    let extend = |range: Range<usize>| {
        let bytes = [b'b'; 8192];
        // SAFETY: nobody else knows the block.
        let done = unsafe {
            block.extend(range.clone(), Holes::all(purpose), purpose, &mut Source::new(&bytes[..range.len()]))
        };
        done.map(|done| done.len)
    };
    for range in [100..101, 100..4097, 4096..4097, 4097..8192, 8192..8193, 3 * 4096 - 1..3 * 4096 + 1] {
        assert_eq!(extend(range.clone()), None, "{range:?}");
    }
    assert_eq!(extend(3 * 4096..3 * 4096 + 1), Some(1), "a hole past the mark");
    drop(other);
    assert_eq!(extend(100..101), None, "below the mark");
}
