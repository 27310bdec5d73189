//! What happens at the edges: of the budget, of the limit of one file, of a view's pieces, of the
//! largest offset; and blocks that come and go under readers of a small cache.

use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;

use super::*;
use crate::fs::Mode;
use crate::testing::usage;

/// Bytes that shrink to a fortieth, different for each seed.
fn steps(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at / 3000 + seed) as u8).collect()
}

/// `blocks` blocks that are packed one at a time, so that they never take much room.
fn packed(space: &Arc<Space>, blocks: u64) -> Content {
    let content = Content::new(space);
    for index in 0..blocks {
        write(&content, index * BLOCK, &steps(index, BLOCK_SIZE)).expect("written");
        close(&content);
    }
    content
}

/// Takes all room but `left` bytes; returns what to release.
fn take_all_but(space: &Space, left: u64) -> u64 {
    let usage = usage(space);
    let bytes = usage.max - (256 << 10) - usage.total - left;
    space.charge(Kind::Exported, bytes, Purpose::Ordinary).expect("room");
    bytes
}

#[test]
fn a_view_of_few_pieces_holds_all_it_shows() {
    const BLOCKS: usize = 8;
    let space = space_of(64 << 20, Compress::Never);
    let content = Content::new(&space);
    // Neighbours in memory, whose pages join to one piece until the hole in every second block.
    let fill = |byte| {
        write(&content, 0, &vec![byte; BLOCKS * BLOCK_SIZE]).expect("written");
        for index in (1..BLOCKS as u64).step_by(2) {
            content.punch_hole(index * BLOCK + 8192, 8192).expect("punched");
        }
    };
    for max_pieces in 1..=3 * BLOCKS {
        for from in 0..BLOCKS as u64 {
            fill(7);
            let before = read(&content, from * BLOCK, BLOCKS * BLOCK_SIZE).expect("read");
            let view = content.view(from * BLOCK, usize::MAX, max_pieces).expect("a view");
            assert!(!view.is_empty() && view.pieces().len() <= max_pieces);
            fill(9);
            assert!(
                view.pieces().flatten().eq(&before[..view.len()]),
                "{max_pieces} pieces from block {from}"
            );
        }
    }
    assert_eq!(content.view(BLOCK, usize::MAX, 1).expect("a view").len(), 8192, "as far as one piece goes");
}

#[test]
fn a_view_of_a_huge_hole_stays_within_the_budget() {
    let space = space_of(1 << 20, Compress::OnClose);
    let content = Content::new(&space);
    content.truncate(1 << 45).expect("grows");
    let before = usage(&space);
    let view = content.view(0, usize::MAX, usize::MAX).expect("a part");
    assert!(view.len() > BLOCK_SIZE && usage(&space).metadata >= 16 * view.pieces().len() as u64);
    drop(view);
    assert_eq!(usage(&space).total, before.total);
}

#[test]
fn refused_writes_leave_no_metadata() {
    let policy = Policy { compress: Compress::Never, level: 0, max_file_bytes: 8192, cache_bytes: 0 };
    let space = Space::new(1 << 20, 85, policy, Mode::default());
    let content = Content::new(&space);
    assert_eq!(write(&content, 0, &[7; 20_000]), Ok(8192));
    let before = usage(&space).metadata;
    for index in 1..100 {
        assert_eq!(write(&content, index * 33 * BLOCK, b"x"), Err(Errno::EFBIG));
        assert_eq!(content.allocate(index * 33 * BLOCK, 1, true), Err(Errno::EFBIG));
    }
    assert_eq!(usage(&space).metadata, before);
}

#[test]
fn refused_allocations_leave_nothing() {
    let space = space_of(1 << 20, Compress::Never);
    let content = Content::new(&space);
    write(&content, 0, b"x").expect("written");
    content.allocate(4096, 8192, true).expect("room");
    // The pages alone would fit, but not the nodes and the block that they hang on.
    let taken = take_all_but(&space, 2 * 4096 + 100);
    let before = (usage(&space).total, content.stored_bytes());
    for index in 1..100 {
        assert_eq!(content.allocate(index * 33 * BLOCK, 8192, true), Err(Errno::ENOSPC));
        assert_eq!((usage(&space).total, content.stored_bytes()), before);
    }
    space.release(Kind::Exported, taken);
    assert_eq!(content.allocate(33 * BLOCK, 8192, true), Ok(()));
}

#[test]
fn filling_holes_does_not_use_up_the_reserve() {
    let space = space_of(2 << 20, Compress::OnClose);
    let content = Content::new(&space);
    content.open_writer();
    for index in 0..40 {
        write(&content, index * BLOCK, &steps(index, 4096)).expect("written");
    }
    content.truncate(40 * BLOCK).expect("grows");
    let refused =
        (0..40).flat_map(|index| (1..16).map(move |page| index * BLOCK + page * 4096)).find_map(|offset| {
            let filled = write(&content, offset, &steps(offset, 4096));
            filled.err()
        });
    assert_eq!(refused, Some(Errno::ENOSPC));
    let found = usage(&space);
    assert!(found.total <= found.max - (256 << 10));
    content.close_writer(true);
    assert_eq!((usage(&space).raw, content.info().form), (0, Form::Packed));
}

#[test]
fn the_limit_of_one_file_holds_when_blocks_at_rest_are_changed() {
    const LIMIT: u64 = 300_000;
    let policy = Policy { compress: Compress::OnClose, level: 0, max_file_bytes: LIMIT, cache_bytes: 0 };
    let space = Space::new(64 << 20, 85, policy, Mode::default());
    let content = packed(&space, 64);
    let refused = (0..64).find_map(|index| {
        let written = write(&content, index * BLOCK + 100, b"x");
        assert!(content.stored_bytes() <= LIMIT);
        written.err()
    });
    assert_eq!(refused, Some(Errno::EFBIG));
    assert_eq!(content.truncate(63 * BLOCK + 9), Ok(()), "shrinking is not refused");
    close(&content);
    assert_eq!((content.info().form, write(&content, 9 * BLOCK, b"x")), (Form::Packed, Ok(1)));
}

#[test]
fn copying_a_hole_costs_nothing() {
    let space = space_of(1 << 20, Compress::Never);
    let (from, to) = (Content::new(&space), Content::new(&space));
    from.truncate(100 * BLOCK).expect("grows");
    write(&from, 50 * BLOCK, b"x").expect("written");
    write(&to, 3 * BLOCK, &[7; BLOCK_SIZE]).expect("written");
    assert_eq!(from.copy_range(0, &to, 0, u64::MAX), Ok(100 * BLOCK));
    assert_eq!((to.size(), to.stored_bytes(), to.info().blocks_hole), (100 * BLOCK, 4096, 99));
    assert_eq!(read(&to, 50 * BLOCK, 2).as_deref(), Ok(&b"x\0"[..]));
    assert_eq!(to.seek_data(0), Ok(50 * BLOCK));
}

#[test]
fn punching_a_part_of_what_was_allocated_keeps_the_rest() {
    let space = space_of(1 << 20, Compress::Never);
    let content = Content::new(&space);
    write(&content, 0, b"x").expect("written");
    content.allocate(0, BLOCK, true).expect("room");
    content.punch_hole(0, 4096).expect("punched");
    assert_eq!((content.stored_bytes(), content.size()), (BLOCK - 4096, 1));
    content.punch_hole(4096, u64::MAX).expect("punched");
    assert_eq!((content.stored_bytes(), read(&content, 0, 9)), (0, Ok(vec![0])));
}

#[test]
fn copies_that_views_hold_do_not_stand_in_the_way_of_others() {
    let space = space_of(8 << 20, Compress::OnClose);
    let content = packed(&space, 14);
    // The first to go by the clock, and letting go of them frees nothing.
    let held: Vec<_> =
        (0..7).map(|index| content.view(index * BLOCK, BLOCK_SIZE, 1).expect("a view")).collect();
    for index in 7..14 {
        read(&content, index * BLOCK, 9).expect("read");
    }
    let taken = take_all_but(&space, 0);
    space.charge(Kind::Exported, 10_000, Purpose::Ordinary).expect("the other copies make way");
    assert!(held[3].pieces().flatten().eq(&steps(3, BLOCK_SIZE)));
    space.release(Kind::Exported, taken + 10_000);
}

#[test]
fn the_largest_offsets_are_offsets() {
    const LAST: u64 = MAX_FILE_SIZE - 1;
    let space = space_of(1 << 20, Compress::Never);
    let content = Content::new(&space);
    for (offset, len) in
        [(MAX_FILE_SIZE, 1), (0, MAX_FILE_SIZE), (1, u64::MAX), (u64::MAX, 1), (u64::MAX, u64::MAX)]
    {
        write(&content, LAST, b"x").expect("written");
        assert_eq!(content.punch_hole(offset, len), Ok(()));
        let left = if offset <= LAST { 0 } else { b'x' };
        assert_eq!((read(&content, LAST, 9), content.size()), (Ok(vec![left]), MAX_FILE_SIZE));
    }
    assert_eq!(content.seek_hole(LAST), Ok(MAX_FILE_SIZE));
    assert_eq!(content.zero_range(MAX_FILE_SIZE - 10, 10, false), Ok(()));
    assert_eq!((content.seek_data(0), content.seek_hole(LAST)), (Ok(LAST / 4096 * 4096), Ok(MAX_FILE_SIZE)));
    assert_eq!(content.insert_range(0, BLOCK), Err(Errno::EFBIG));
    assert_eq!(content.view(u64::MAX, usize::MAX, 1).map(|view| view.len()), Ok(0));
    assert_eq!(content.collapse_range(BLOCK, (MAX_FILE_SIZE / BLOCK - 1) * BLOCK), Ok(()));
    assert_eq!((content.size(), content.stored_bytes()), (2 * BLOCK - 1, 4096));
}

/// Readers keep filling a cache of two copies with blocks that writers replace and closes pack, so
/// that the clock takes copies off blocks while these are dropped.
#[test]
fn blocks_come_and_go_under_the_clock() {
    let policy = Policy { compress: Compress::OnClose, level: 0, max_file_bytes: 0, cache_bytes: 140_000 };
    let space = Space::new(16 << 20, 85, policy, Mode::default());
    {
        let contents: Vec<Content> = (0..3).map(|_| packed(&space, 4)).collect();
        for content in &contents {
            write(content, 0, &vec![1; 4 * BLOCK_SIZE]).expect("written");
        }
        std::thread::scope(|scope| {
            for (number, content) in contents.iter().enumerate() {
                scope.spawn(move || {
                    for round in 0..400u64 {
                        write(
                            content,
                            round % 4 * BLOCK,
                            &vec![(round + 7 * number as u64) as u8; BLOCK_SIZE],
                        )
                        .expect("written");
                        close(content);
                    }
                });
            }
            for number in 0..2 {
                let (contents, space) = (&contents, &space);
                scope.spawn(move || {
                    for round in 0..3000u64 {
                        let content = &contents[(round as usize + number) % 3];
                        let bytes = read(content, round % 4 * BLOCK + 9, 900).expect("read");
                        assert!(bytes.iter().all(|byte| *byte == bytes[0]));
                        if round % 8 == 0 {
                            let view = content.view(BLOCK, BLOCK_SIZE, 16).expect("a view");
                            let first = view.pieces().next().expect("a piece")[0];
                            assert!(view.pieces().flatten().all(|byte| *byte == first));
                            let cached = usage(space).cached;
                            assert!(cached < 12 * BLOCK, "{cached} bytes of copies");
                        }
                    }
                });
            }
        });
    }
    space.cache.shrink(u64::MAX);
    epoch::flush();
    let usage = usage(&space);
    assert_eq!((usage.raw, usage.packed, usage.metadata), (0, 0, 0));
}

/// Copies stay for the time that a reader's pin holds them, which is not a reason to refuse anybody.
#[test]
fn copies_make_way_under_busy_readers() {
    const ROUNDS: usize = 1000;
    let space = space_of(8 << 20, Compress::OnClose);
    let (content, other) = (packed(&space, 14), Content::new(&space));
    let taken = take_all_but(&space, 900_000);
    let done = AtomicBool::new(false);
    let refused = std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for index in 0..14 {
                        assert_eq!(read(&content, index * BLOCK, 60_000), Ok(steps(index, 60_000)));
                    }
                }
            });
        }
        let mut refused = 0;
        for _ in 0..ROUNDS {
            refused += usize::from(write(&other, 0, &[7; 500_000]) != Ok(500_000));
            other.truncate(0).expect("shrinks");
        }
        done.store(true, Ordering::Relaxed);
        refused
    });
    space.release(Kind::Exported, taken);
    assert!(refused * 50 < ROUNDS, "{refused} of {ROUNDS} writes refused");
}

#[test]
fn what_a_sleeping_thread_let_go_is_free() {
    let space = space_of(8 << 20, Compress::OnClose);
    let content = packed(&space, 10);
    let (go, wait) = channel::<()>();
    let (done, ready) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for index in 0..10 {
                read(&content, index * BLOCK, 9).expect("read");
            }
            drop(content);
            done.send(()).expect("somebody waits");
            // Ends when the other side is gone.
            assert!(wait.recv().is_err());
        });
        ready.recv().expect("dropped");
        let taken = take_all_but(&space, 0);
        drop(go);
        space.release(Kind::Exported, taken);
        let usage = usage(&space);
        assert!(taken > usage.max - (256 << 10) - 1000, "{usage:?}");
    });
}

/// What a thread keeps for its next writes is no filesystem's: nobody else could have it where room runs out.
#[test]
fn what_idle_threads_keep_takes_no_room() {
    const THREADS: usize = 8;
    let space = space_of(2 << 20, Compress::Never);
    let content = Content::new(&space);
    write(&content, 0, &[1; BLOCK_SIZE]).expect("written");
    let (go, gone) = (std::sync::Barrier::new(THREADS + 1), std::sync::Barrier::new(THREADS + 1));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                replace_pages(&content);
                go.wait();
                gone.wait();
            });
        }
        go.wait();
        let before = usage(&space).raw;
        let other = Content::new(&space);
        let room = usize::try_from(space.budget().usage().max).unwrap() - (256 << 10) - 100_000;
        let written = write(&other, 0, &vec![3; room]);
        gone.wait();
        assert_eq!((before, written), (BLOCK, Ok(room)));
    });
}

/// Overwrites a part of each page of the first block again and again, with as many pages as make whole batches.
fn replace_pages(content: &Content) {
    for round in 0..400 {
        let _inside = crate::gate::enter();
        write(content, round % 16 * 4096 + 7, b"abcd").expect("written");
    }
}

#[test]
fn what_a_thread_keeps_of_a_filesystem_that_is_gone_serves_it_in_another() {
    let make = || {
        let space = space_of(16 << 20, Compress::Never);
        let content = Content::new(&space);
        write(&content, 0, &[1; BLOCK_SIZE]).expect("written");
        (space, content)
    };
    let (space, content) = make();
    replace_pages(&content);
    drop(content);
    // Not by asking what it uses, which has the thread give up what it keeps.
    for _ in 0..10_000 {
        epoch::flush();
        if space.budget().usage().total == 0 && Arc::strong_count(&space) == 1 {
            break;
        }
        std::thread::yield_now();
    }
    assert_eq!((space.budget().usage().total, Arc::strong_count(&space)), (0, 1), "nobody holds it");
    let (space, content) = make();
    replace_pages(&content);
    assert_eq!((usage(&space).raw, read(&content, 7, 4)), (BLOCK, Ok(b"abcd".to_vec())));
}

/// The room is there when the call looks, and gone when the last of it is taken.
#[test]
fn a_refused_fallocate_leaves_no_node() {
    let space = space_of(16 << 20, Compress::Never);
    let content = Content::new(&space);
    let before = usage(&space).metadata;
    let mut refused = 0;
    // From room for the page alone to room for all that leads to it.
    for extra in (0..4000).step_by(100) {
        let taken = take_all_but(&space, 4096 + extra);
        if content.allocate(1 << 30, 4096, false).is_err() {
            refused += 1;
            assert_eq!((usage(&space).metadata, content.map.is_empty()), (before, true), "{extra}");
        }
        content.truncate(0).expect("cut");
        space.release(Kind::Exported, taken);
    }
    assert!((1..40).contains(&refused), "{refused}");
}
