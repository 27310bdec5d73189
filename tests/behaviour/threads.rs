//! Many threads on one filesystem.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::scope;

use ermfs::{Builder, DirEntry, File, Fs, Metadata, OpenOptions, ReadDir, View};

use crate::common::{BLOCK, for_each_policy, text, wait_until};

const THREADS: usize = 4;

#[test]
fn everything_may_be_used_from_any_thread() {
    fn shared<T: Send + Sync>() {}
    shared::<Fs>();
    shared::<File>();
    shared::<View>();
    shared::<ReadDir>();
    shared::<DirEntry>();
    shared::<Metadata>();
    shared::<OpenOptions>();
    shared::<Builder>();
}

#[test]
fn appends_never_overlap_and_leave_no_gap() {
    for_each_policy(|fs| {
        const RECORDS: usize = 500;
        scope(|threads| {
            for thread in 0..THREADS {
                threads.spawn(move || {
                    for record in 0..RECORDS {
                        let mut log = OpenOptions::new().append(true).create(true).open(fs, "/log").unwrap();
                        let line = format!("{thread:03} {record:07} {}\n", "x".repeat(record % 200));
                        log.write_all(line.as_bytes()).unwrap();
                    }
                });
            }
        });
        let log = fs.read_to_string("/log").unwrap();
        let mut next = [0; THREADS];
        for line in log.lines() {
            let mut words = line.split(' ');
            let thread: usize = words.next().unwrap().parse().unwrap();
            let record: usize = words.next().unwrap().parse().unwrap();
            assert_eq!(record, next[thread]);
            assert_eq!(words.next().unwrap(), "x".repeat(record % 200));
            next[thread] += 1;
        }
        assert_eq!(next, [RECORDS; THREADS]);
    });
}

#[test]
fn one_offset_shared_by_many_readers_gives_each_byte_once() {
    for_each_policy(|fs| {
        const RECORD: usize = 8;
        let records = 20_000_u64;
        let content: Vec<u8> = (0..records).flat_map(u64::to_le_bytes).collect();
        fs.write("/file", &content).unwrap();
        let file = &fs.open("/file").unwrap();
        let seen: Vec<Vec<u64>> = scope(|threads| {
            let readers: Vec<_> = (0..THREADS)
                .map(|_| {
                    threads.spawn(move || {
                        let (mut seen, mut record) = (Vec::new(), [0; RECORD]);
                        while (&mut &*file).read(&mut record).unwrap() == RECORD {
                            seen.push(u64::from_le_bytes(record));
                        }
                        seen
                    })
                })
                .collect();
            readers.into_iter().map(|reader| reader.join().unwrap()).collect()
        });
        let all: HashSet<u64> = seen.iter().flatten().copied().collect();
        assert_eq!((all.len() as u64, seen.iter().map(Vec::len).sum::<usize>() as u64), (records, records));
    });
}

#[test]
fn a_read_sees_a_write_within_a_block_wholly_or_not_at_all() {
    for_each_policy(|fs| {
        fs.write("/file", vec![0; BLOCK]).unwrap();
        let (file, stop) =
            (&OpenOptions::new().read(true).write(true).open(fs, "/file").unwrap(), &AtomicBool::new(false));
        scope(|threads| {
            for _ in 0..2 {
                threads.spawn(move || {
                    let mut block = vec![0; 10_000];
                    while !stop.load(Relaxed) {
                        file.read_exact_at(&mut block, 5_000).unwrap();
                        assert!(block.iter().all(|byte| *byte == block[0]), "half of a write");
                    }
                });
            }
            for round in 0..2_000 {
                file.write_all_at(&[round as u8; 10_000], 5_000).unwrap();
            }
            stop.store(true, Relaxed);
        });
    });
}

#[test]
fn a_name_that_is_replaced_again_and_again_is_always_there_and_whole() {
    for_each_policy(|fs| {
        let stop = &AtomicBool::new(false);
        fs.write("/state", text(0, 3000)).unwrap();
        scope(|threads| {
            for _ in 0..2 {
                threads.spawn(move || {
                    while !stop.load(Relaxed) {
                        let state = fs.read("/state").unwrap();
                        assert_eq!(state.len(), 3000);
                        let line = state.split(|byte| *byte == b'\n').next().unwrap();
                        assert!(
                            state
                                .chunks(line.len() + 1)
                                .all(|other| line.starts_with(&other[..other.len() - 1]))
                        );
                    }
                });
            }
            for round in 0..1_000 {
                fs.write("/state.new", text(round, 3000)).unwrap();
                fs.rename("/state.new", "/state").unwrap();
            }
            stop.store(true, Relaxed);
        });
    });
}

#[test]
fn each_name_is_made_by_one_and_removed_by_one() {
    for_each_policy(|fs| {
        const NAMES: usize = 300;
        fs.create_dir("/dir").unwrap();
        let total = |work: &(dyn Fn(usize) -> bool + Sync)| {
            scope(|threads| {
                let workers: Vec<_> = (0..THREADS)
                    .map(|_| threads.spawn(move || (0..NAMES).filter(|&number| work(number)).count()))
                    .collect();
                workers.into_iter().map(|worker| worker.join().unwrap()).sum::<usize>()
            })
        };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        assert_eq!(total(&|number| options.open(fs, format!("/dir/{number}")).is_ok()), NAMES);
        assert_eq!(fs.read_dir("/dir").unwrap().count(), NAMES);
        assert_eq!(total(&|number| fs.remove_file(format!("/dir/{number}")).is_ok()), NAMES);
        fs.remove_dir("/dir").unwrap();
        wait_until("the packer", || fs.statistics().unwrap().files == 0);
    });
}

#[test]
fn trees_come_and_go_under_many_hands() {
    for_each_policy(|fs| {
        scope(|threads| {
            for thread in 0..THREADS as u64 {
                threads.spawn(move || {
                    for round in 0..30 {
                        let (one, two) =
                            (format!("/{thread}/{round}/a"), format!("/{}/{round}", (thread + 1) % 4));
                        fs.create_dir_all(&one).unwrap_or(());
                        let _ = fs.write(format!("{one}/file"), text(thread, 70_000));
                        // Any of these may find that another thread was faster.
                        let _ = fs.rename(&one, format!("{two}/moved"));
                        let _ = fs.remove_dir_all(&two);
                    }
                });
            }
        });
        // Whatever became of it, it can be listed and removed to the last byte.
        for entry in fs.read_dir("/").unwrap() {
            fs.remove_dir_all(entry.unwrap().path()).unwrap();
        }
        // The packer may still be at work on one that was removed.
        wait_until("the packer", || fs.statistics().unwrap().files == 0);
        let statistics = fs.statistics().unwrap();
        assert_eq!((statistics.directories, statistics.logical_bytes), (1, 0));
    });
}
