//! Readers beside writers of one file: what a read may show in either mode.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use super::*;

/// How many steps a writer makes.
const STEPS: u64 = 4000;
const RECORD: usize = 64;

/// Runs `work` on threads of its own, and `look` on two more for as long as one of them is at it. Last, on a thread that
/// does nothing else, packs whenever it may.
fn beside(content: &Content, work: &[&(dyn Fn() + Sync)], look: &(dyn Fn(&[u8], u64) + Sync)) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut room = vec![0; BLOCK_SIZE];
                while !done.load(SeqCst) {
                    let n = content.read_at(0, &mut Sink::new(&mut room)).unwrap();
                    look(&room[..n], content.size());
                }
            });
        }
        scope.spawn(|| {
            while !done.load(SeqCst) {
                content.open_writer();
                content.close_writer(true);
                drop(content.snapshot());
                thread::yield_now();
            }
        });
        let workers: Vec<_> = work.iter().map(|work| scope.spawn(work)).collect();
        let ended: Vec<_> = workers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, SeqCst);
        for worker in ended {
            worker.unwrap();
        }
    });
}

fn in_each_policy(test: impl Fn(Content)) {
    for compress in [Compress::Never, Compress::OnClose] {
        let space = space_of(64 << 20, compress);
        test(Content::new(&space));
        // A scope does not wait for what its threads do at their end: they hand on what they have retired.
        for _ in 0..5000 {
            if usage(&space).total == 0 {
                break;
            }
            thread::sleep(core::time::Duration::from_millis(1));
        }
        assert_eq!(usage(&space).total, 0);
    }
}

/// The numbers at which two looks at a file's bytes differ in what is the same all over.
fn is_uniform(bytes: &[u8]) -> bool {
    bytes.windows(2).all(|pair| pair[0] == pair[1])
}

#[test]
fn a_write_within_a_block_is_seen_whole_or_not_at_all() {
    // Within a page, across two, over many, and all of it; and a page, which is written past the cache where it is cold.
    for range in [100..3000, 4000..4200, 1000..40_000, 0..BLOCK_SIZE, 4096..8192] {
        in_each_policy(|content| {
            write(&content, 0, &[1; BLOCK_SIZE]).unwrap();
            let work = || {
                for step in 0..STEPS / 4 {
                    let bytes = vec![step as u8; range.len()];
                    warmth::forget();
                    assert_eq!(write(&content, range.start as u64, &bytes), Ok(range.len()));
                }
            };
            beside(&content, &[&work, &work], &|bytes, _| {
                assert_eq!(bytes.len(), BLOCK_SIZE);
                assert!(is_uniform(&bytes[range.clone()]), "parts of two writes to {range:?}");
                assert!(is_uniform(&bytes[..range.start]) && is_uniform(&bytes[range.end..]));
            });
        });
    }
}

#[test]
fn two_writes_are_seen_in_their_order() {
    in_each_policy(|content| {
        write(&content, 0, &[0; 3 * 4096]).unwrap();
        let work = || {
            for step in 0..STEPS {
                // The second page is written after the first.
                write(&content, 0, &step.to_le_bytes()).unwrap();
                write(&content, 8192, &step.to_le_bytes()).unwrap();
            }
        };
        let number = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        beside(&content, &[&work], &|bytes, _| {
            let (first, second) = (number(bytes, 0), number(bytes, 8192));
            assert!(first == second || first == second + 1, "{first} and {second}");
        });
    });
}

#[test]
fn appended_records_are_whole_and_follow_each_other() {
    in_each_policy(|content| {
        let next = AtomicU64::new(1);
        let append = || {
            for _ in 0..STEPS {
                let record = next.fetch_add(1, SeqCst).to_le_bytes().repeat(RECORD / 8);
                let (at, n) = content.append(&mut Source::new(&record)).unwrap();
                assert_eq!((at % RECORD as u64, n), (0, RECORD));
            }
        };
        let cut = || {
            for step in 0..STEPS / 8 {
                let records = content.size() / RECORD as u64;
                content.truncate(records * (step % 3) / 3 * RECORD as u64).unwrap();
                thread::yield_now();
            }
        };
        beside(&content, &[&append, &append, &cut], &|bytes, _| {
            assert_eq!(bytes.len() % RECORD, 0, "a part of a record");
            for record in bytes.chunks_exact(RECORD) {
                assert_ne!(record[..8], [0; 8], "bytes that nobody wrote");
                assert!(record.chunks_exact(8).all(|part| *part == record[..8]), "parts of two records");
            }
        });
    });
}

#[test]
fn what_crosses_the_end_is_seen_with_the_new_end() {
    in_each_policy(|content| {
        write(&content, 0, &[0; 1000]).unwrap();
        let work = || {
            for step in 1..STEPS.min(240) {
                write(&content, 990 + 10 * (step - 1), &[step as u8; 20]).unwrap();
            }
            content.truncate(1000).unwrap();
        };
        beside(&content, &[&work], &|bytes, _| {
            let (end, step) = (bytes.len(), bytes[bytes.len() - 1]);
            assert!(end >= 1000);
            if end > 1000 {
                assert_eq!(end, 1000 + 10 * usize::from(step));
                assert!(is_uniform(&bytes[end - 20..]), "the end of another step");
            }
        });
    });
}

#[test]
fn a_read_that_ends_with_the_file_is_of_one_moment() {
    in_each_policy(|content| {
        write(&content, 0, &0u64.to_le_bytes()).unwrap();
        let work = || {
            for step in 1..8000u64 {
                // It grows first, and then says by how much.
                content.append(&mut Source::new(&[1; 8])).unwrap();
                write(&content, 0, &step.to_le_bytes()).unwrap();
            }
        };
        beside(&content, &[&work], &|bytes, size_after| {
            let said = u64::from_le_bytes(bytes[..8].try_into().unwrap());
            let has = bytes.len() as u64 / 8 - 1;
            assert!(has == said || has == said + 1, "{has} appended, {said} said");
            assert!(size_after >= bytes.len() as u64);
        });
    });
}

#[test]
fn moving_blocks_about_is_seen_at_once() {
    in_each_policy(|content| {
        let first: Vec<u8> = vec![7; BLOCK_SIZE];
        write(&content, 0, &first).unwrap();
        write(&content, BLOCK, &[8; 5000]).unwrap();
        let work = || {
            for _ in 0..STEPS / 4 {
                content.insert_range(0, BLOCK).unwrap();
                content.collapse_range(0, BLOCK).unwrap();
            }
        };
        beside(&content, &[&work], &|bytes, _| {
            assert!(is_uniform(bytes) && [0, 7].contains(&bytes[0]), "{}", bytes[0]);
        });
    });
}

#[test]
fn a_read_over_a_boundary_does_not_end_where_the_file_ended_before() {
    in_each_policy(|content| {
        // Its end moves between the end of the first block and some way into the second one, after which, and not before,
        // the last bytes of the first one say so.
        let work = || {
            for step in 1..STEPS / 4 {
                content.truncate(BLOCK).unwrap();
                write(&content, BLOCK - 8, &0u64.to_le_bytes()).unwrap();
                write(&content, BLOCK, &[1; 100]).unwrap();
                write(&content, BLOCK - 8, &step.to_le_bytes()).unwrap();
                write(&content, BLOCK - 8, &0u64.to_le_bytes()).unwrap();
            }
        };
        write(&content, 0, &[0; BLOCK_SIZE]).unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut bytes = [0; 20];
                    while !done.load(SeqCst) {
                        let n = content.read_at(BLOCK - 8, &mut Sink::new(&mut bytes)).unwrap();
                        let said = u64::from_le_bytes(bytes[..8].try_into().unwrap());
                        assert!(said == 0 || n == 20, "{said} says that there is more, and {n} bytes came");
                    }
                });
            }
            scope.spawn(work).join().unwrap();
            done.store(true, SeqCst);
        });
    });
}
