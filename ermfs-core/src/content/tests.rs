//! Content against a byte model, with every policy, and what happens when room or bytes are bad.

mod limits;
#[cfg(feature = "failpoints")]
mod stopped;
mod threads;

use ermfs_memory::sync::Arc;
use ermfs_memory::{BLOCK_SIZE, Kind, Purpose};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{Content, Form, MAX_FILE_SIZE, Sink, Source, warmth};
use crate::epoch;
use crate::errno::{Errno, Result};
use crate::fs::Mode;
use crate::space::{Compress, Policy, Space};
use crate::testing::usage;

const BLOCK: u64 = BLOCK_SIZE as u64;

fn space_of(max_bytes: u64, compress: Compress) -> Arc<Space> {
    Space::new(
        max_bytes,
        85,
        Policy { compress, level: 0, max_file_bytes: 0, cache_bytes: max_bytes / 8 },
        Mode::default(),
    )
}

fn write(content: &Content, offset: u64, bytes: &[u8]) -> Result<usize> {
    content.write_at(offset, &mut Source::new(bytes))
}

fn read(content: &Content, offset: u64, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0xee; len];
    let n = content.read_at(offset, &mut Sink::new(&mut bytes))?;
    bytes.truncate(n);
    Ok(bytes)
}

/// Closes as a writer would: packs under the policies that pack.
fn close(content: &Content) {
    content.open_writer();
    if content.close_writer(true) {
        content.pack();
    }
}

/// Whole pages and parts, of one piece and of several, in a file of more blocks than are remembered and in one that was just
/// forgotten.
#[test]
fn what_is_written_over_cold_pages_is_read_back() {
    const BLOCKS: usize = 700;
    for (blocks, forget) in [(BLOCKS, false), (2, true)] {
        let content = Content::new(&space_of(1 << 30, Compress::Never));
        let mut model = vec![0; blocks * BLOCK_SIZE];
        for block in 0..blocks {
            let bytes = pattern(2, block as u64, 3 * 4096);
            write(&content, block as u64 * BLOCK, &bytes).unwrap();
            model[block * BLOCK_SIZE..][..bytes.len()].copy_from_slice(&bytes);
        }
        for step in 0..2 * BLOCKS {
            let at = step * 48_271 % blocks * BLOCK_SIZE + [0, 4096, 4096, 1, 4000][step % 5];
            let bytes = pattern(2, step as u64, [4096, 8192, 4096, 8190, 4095][step % 5]);
            if forget {
                warmth::forget();
            }
            let (one, other) = bytes.split_at(step % bytes.len());
            let parts = [one, other]
                .map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
            // SAFETY: both parts lie in `bytes`.
            let mut source = unsafe { Source::from_iovecs(&parts) };
            assert_eq!(content.write_at(at as u64, &mut source), Ok(bytes.len()));
            model[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        for block in 0..blocks {
            let (at, len) = (block * BLOCK_SIZE, 3 * 4096);
            assert!(
                read(&content, at as u64, len).unwrap() == model[at..at + len],
                "block {block} of {blocks}"
            );
        }
    }
}

/// Bytes that compress (0), are zero (1) or do not compress (2), different for each seed.
fn pattern(kind: u8, seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    match kind {
        0 => {
            let words: Vec<u64> = (0..16).map(|_| next()).collect();
            (0..len).map(|_| (words[(next() % 16) as usize] % 23) as u8 + 65).collect()
        }
        1 => vec![0; len],
        _ => (0..len).map(|_| (next() >> 32) as u8).collect(),
    }
}

#[derive(Clone, Debug)]
enum Op {
    Write { at: u64, len: usize, kind: u8, seed: u64 },
    Append { len: usize, kind: u8, seed: u64 },
    Read { at: u64, len: usize },
    Truncate(u64),
    Allocate { at: u64, len: u64, keep: bool },
    Punch { at: u64, len: u64 },
    Zero { at: u64, len: u64, keep: bool },
    Collapse { at: u64, len: u64 },
    Insert { at: u64, len: u64 },
    CopyWithin { from: u64, to: u64, len: u64 },
    Close,
    Hold,
    LetGo,
}

/// Offsets and lengths that like the boundaries of pages, blocks and map nodes.
fn boundary() -> impl Strategy<Value = u64> {
    let near = |base: u64| (base.saturating_sub(1)..=base + 1).boxed();
    prop_oneof![
        2 => near(0), 2 => near(4096), 3 => near(BLOCK), 2 => near(2 * BLOCK), 1 => near(3 * BLOCK + 4096),
        1 => near(31 * BLOCK), 1 => near(32 * BLOCK), 1 => near(33 * BLOCK), 3 => 0u64..5 * BLOCK,
    ]
}

fn length() -> impl Strategy<Value = usize> {
    boundary().prop_map(|len| len.min(3 * BLOCK) as usize)
}

fn op() -> impl Strategy<Value = Op> {
    let blocks = || (0u64..5).prop_map(|n| n * BLOCK);
    prop_oneof![
        6 => (boundary(), length(), 0u8..3, any::<u64>()).prop_map(|(at, len, kind, seed)| Op::Write { at, len, kind, seed }),
        2 => (length(), 0u8..3, any::<u64>()).prop_map(|(len, kind, seed)| Op::Append { len, kind, seed }),
        4 => (boundary(), length()).prop_map(|(at, len)| Op::Read { at, len }),
        2 => boundary().prop_map(Op::Truncate),
        1 => (boundary(), 1u64..3 * BLOCK, any::<bool>()).prop_map(|(at, len, keep)| Op::Allocate { at, len, keep }),
        2 => (boundary(), 1u64..3 * BLOCK).prop_map(|(at, len)| Op::Punch { at, len }),
        1 => (boundary(), 1u64..3 * BLOCK, any::<bool>()).prop_map(|(at, len, keep)| Op::Zero { at, len, keep }),
        1 => (blocks(), blocks()).prop_map(|(at, len)| Op::Collapse { at, len: len + BLOCK }),
        1 => (blocks(), blocks()).prop_map(|(at, len)| Op::Insert { at, len: len + BLOCK }),
        2 => (boundary(), boundary(), 1u64..3 * BLOCK).prop_map(|(from, to, len)| Op::CopyWithin { from, to, len }),
        4 => Just(Op::Close),
        1 => Just(Op::Hold),
        1 => Just(Op::LetGo),
    ]
}

fn grow(model: &mut Vec<u8>, end: u64) {
    if model.len() < end as usize {
        model.resize(end as usize, 0);
    }
}

fn fill(model: &mut [u8], at: u64, len: u64) {
    let end = (at + len).min(model.len() as u64) as usize;
    if (at as usize) < end {
        model[at as usize..end].fill(0);
    }
}

/// One operation on both, with the same outcome.
fn apply(content: &Content, model: &mut Vec<u8>, op: &Op) {
    match *op {
        Op::Write { at, len, kind, seed } => {
            let bytes = pattern(kind, seed, len);
            assert_eq!(write(content, at, &bytes), Ok(len));
            if len > 0 {
                grow(model, at + len as u64);
                model[at as usize..at as usize + len].copy_from_slice(&bytes);
            }
        }
        Op::Append { len, kind, seed } => {
            let bytes = pattern(kind, seed, len);
            assert_eq!(content.append(&mut Source::new(&bytes)), Ok((model.len() as u64, len)));
            model.extend_from_slice(&bytes);
        }
        Op::Read { at, len } => {
            let from = (at as usize).min(model.len());
            let expected = &model[from..(from + len).min(model.len())];
            assert!(read(content, at, len).as_deref() == Ok(expected), "read of {len} at {at}");
        }
        Op::Truncate(size) => {
            assert_eq!(content.truncate(size), Ok(()));
            model.resize(size as usize, 0);
        }
        Op::Allocate { at, len, keep } => {
            assert_eq!(content.allocate(at, len, keep), Ok(()));
            if !keep {
                grow(model, at + len);
            }
        }
        Op::Punch { at, len } => {
            assert_eq!(content.punch_hole(at, len), Ok(()));
            fill(model, at, len);
        }
        Op::Zero { at, len, keep } => {
            assert_eq!(content.zero_range(at, len, keep), Ok(()));
            if !keep {
                grow(model, at + len);
            }
            fill(model, at, len);
        }
        Op::Collapse { at, len } => {
            let fits = at + len < model.len() as u64;
            assert_eq!(content.collapse_range(at, len), if fits { Ok(()) } else { Err(Errno::EINVAL) });
            if fits {
                model.drain(at as usize..(at + len) as usize);
            }
        }
        Op::Insert { at, len } => {
            let fits = at < model.len() as u64;
            assert_eq!(content.insert_range(at, len), if fits { Ok(()) } else { Err(Errno::EINVAL) });
            if fits {
                model.splice(at as usize..at as usize, core::iter::repeat_n(0, len as usize));
            }
        }
        Op::CopyWithin { from, to, len } => {
            let len = len.min((model.len() as u64).saturating_sub(from));
            if from.abs_diff(to) >= len {
                assert_eq!(content.copy_range(from, content, to, len), Ok(len));
                if len > 0 {
                    grow(model, to + len);
                    model.copy_within(from as usize..(from + len) as usize, to as usize);
                }
            }
        }
        Op::Close => close(content),
        Op::Hold | Op::LetGo => {}
    }
}

/// What must hold after every operation.
fn check(content: &Content, model: &[u8]) {
    assert_eq!(content.size(), model.len() as u64);
    assert!(read(content, 0, model.len() + 1).as_deref() == Ok(model), "the bytes differ");
    let mut at = 0;
    while at < model.len() as u64 {
        let data = content.seek_data(at).unwrap_or(model.len() as u64);
        assert!(model[at as usize..data as usize].iter().all(|&byte| byte == 0), "a hole hides data at {at}");
        if data == model.len() as u64 {
            break;
        }
        at = content.seek_hole(data).expect("the end is a hole");
        assert!(at > data);
    }
    assert!(content.is_booked(), "C3");
    let state = content.info();
    assert_eq!(state.blocks, state.blocks_hole + state.blocks_packed + state.blocks_raw);
    assert_eq!(state.form == Form::Empty, state.blocks_packed + state.blocks_raw == 0);
}

fn run(compress: Compress, ops: &[Op]) {
    let space = space_of(1 << 30, compress);
    {
        let content = Content::new(&space);
        let mut model = Vec::new();
        let mut held = Vec::new();
        for op in ops {
            apply(&content, &mut model, op);
            match op {
                Op::Hold => held.push((content.view(0, usize::MAX, 4096).expect("a view"), model.clone())),
                Op::LetGo => drop(held.pop()),
                _ => {}
            }
            check(&content, &model);
            for (view, bytes) in &held {
                assert!(view.pieces().flatten().eq(bytes.iter()), "a view changed");
            }
        }
    }
    epoch::flush();
    let usage = usage(&space);
    assert_eq!((usage.raw, usage.packed, usage.metadata, usage.exported), (0, 0, 0, 0));
    space.cache.shrink(u64::MAX);
    assert_eq!(space.counters.logical_bytes.sum(), 0);
}

fn random_operations(compress: Compress) {
    let config = Config { cases: 150, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&prop::collection::vec(op(), 1..40), |ops| {
            run(compress, &ops);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn random_operations_packed_on_close() {
    random_operations(Compress::OnClose);
}

#[test]
fn random_operations_packed_in_the_background() {
    random_operations(Compress::Background);
}

#[test]
fn random_operations_never_packed() {
    random_operations(Compress::Never);
}

#[test]
fn every_size_at_a_boundary_survives_packing() {
    for base in [0u64, 64, 4096, 2 * 4096, BLOCK, 2 * BLOCK, 32 * BLOCK] {
        for size in base.saturating_sub(1)..=base + 1 {
            for kind in 0..3 {
                let space = space_of(1 << 30, Compress::OnClose);
                let content = Content::new(&space);
                let bytes = pattern(kind, size, size as usize);
                assert_eq!(write(&content, 0, &bytes), Ok(bytes.len()));
                close(&content);
                assert!(
                    read(&content, 0, bytes.len() + 9).as_deref() == Ok(&bytes[..]),
                    "size {size}, kind {kind}"
                );
                assert!(content.stored_bytes() <= size.next_multiple_of(16) + 32 + 8 * size.div_ceil(BLOCK));
                let whole = content.view(0, usize::MAX, 1 << 20).expect("a view");
                assert!(whole.pieces().flatten().eq(bytes.iter()));
            }
        }
    }
}

#[test]
fn holes_cost_nothing_at_any_offset() {
    let space = space_of(1 << 20, Compress::OnClose);
    let content = Content::new(&space);
    for offset in [0, BLOCK * 32, (1 << 32) + 1, 1 << 47, MAX_FILE_SIZE - 1] {
        assert_eq!(write(&content, offset, b"x"), Ok(1));
    }
    assert_eq!(content.size(), MAX_FILE_SIZE);
    assert_eq!(write(&content, MAX_FILE_SIZE, b"x"), Err(Errno::EFBIG));
    assert_eq!(write(&content, MAX_FILE_SIZE - 1, b"xy"), Ok(1));
    close(&content);
    assert_eq!(content.seek_data((1 << 32) + 2 + BLOCK), Ok((1 << 47) / BLOCK * BLOCK));
    assert_eq!(read(&content, (1 << 32) - 1, 4).as_deref(), Ok(&[0, 0, b'x', 0][..]));
    content.truncate(1).expect("cut");
    assert_eq!(read(&content, 0, 9).as_deref(), Ok(&b"x"[..]));
    assert!(usage(&space).metadata < 256);
}

#[test]
fn only_what_changed_is_packed_again() {
    let space = space_of(1 << 30, Compress::OnClose);
    let content = Content::new(&space);
    let bytes = pattern(0, 1, 40 * BLOCK_SIZE);
    write(&content, 0, &bytes).expect("written");
    close(&content);
    let packed = || space.counters.blocks_packed.load(core::sync::atomic::Ordering::Relaxed);
    assert_eq!(packed(), 40);
    content.append(&mut Source::new(&pattern(0, 2, 4096))).expect("appended");
    close(&content);
    assert_eq!(packed(), 41);
    write(&content, 7 * BLOCK + 5, b"changed").expect("written");
    close(&content);
    assert_eq!((packed(), content.info().form), (42, Form::Packed));
}

#[test]
fn blocks_that_do_not_shrink_are_looked_at_once() {
    let space = space_of(1 << 30, Compress::OnClose);
    let content = Content::new(&space);
    write(&content, 0, &pattern(2, 3, 3 * BLOCK_SIZE)).expect("written");
    close(&content);
    close(&content);
    assert_eq!(space.counters.blocks_stored.load(core::sync::atomic::Ordering::Relaxed), 3);
    assert_eq!((content.info().form, content.stored_bytes()), (Form::Raw, 3 * BLOCK));
}

/// Fills a space and then does everything that must still work.
#[test]
fn a_full_filesystem_still_reads_overwrites_shrinks_and_packs() {
    for compress in [Compress::OnClose, Compress::Background, Compress::Never] {
        let space = space_of(2 << 20, compress);
        let (content, other) = (Content::new(&space), Content::new(&space));
        let bytes = pattern(0, 5, 8 * BLOCK_SIZE);
        write(&content, 0, &bytes).expect("written");
        close(&content);
        let chunk = pattern(2, 6, 10_000);
        let mut filled = 0;
        let error = loop {
            match write(&other, filled, &chunk) {
                Ok(n) => filled += n as u64,
                Err(error) => break error,
            }
        };
        assert_eq!((error, other.size()), (Errno::ENOSPC, filled));
        assert_eq!(write(&other, filled, b"x"), if filled % 4096 == 0 { Err(Errno::ENOSPC) } else { Ok(1) });
        other.truncate(filled).expect("shrinks");
        assert_eq!(write(&content, 3 * BLOCK + 1, b"over"), Ok(4), "single overwrites fit the reserve");
        assert_eq!(read(&content, 3 * BLOCK, 6).map(|bytes| bytes[1..5].to_vec()), Ok(b"over".to_vec()));
        content.truncate(2 * BLOCK + 77).expect("shrinks");
        assert!(read(&content, 0, 3 * BLOCK_SIZE).as_deref() == Ok(&bytes[..2 * BLOCK_SIZE + 77]));
        close(&content);
        close(&other);
        assert!(read(&content, 0, 3 * BLOCK_SIZE).as_deref() == Ok(&bytes[..2 * BLOCK_SIZE + 77]));
        let usage = usage(&space);
        assert!(usage.total <= usage.max && usage.peak <= usage.max);
    }
}

#[test]
fn a_refused_call_changes_nothing() {
    let space = space_of(1 << 20, Compress::Never);
    let content = Content::new(&space);
    write(&content, 100, b"data").expect("written");
    let before = (content.size(), content.stored_bytes(), usage(&space).raw);
    assert_eq!(content.allocate(0, 1 << 40, false), Err(Errno::ENOSPC));
    assert_eq!(content.allocate(MAX_FILE_SIZE, 1, false), Err(Errno::EFBIG));
    assert_eq!(content.zero_range(0, 1 << 40, false), Err(Errno::ENOSPC));
    assert_eq!(content.truncate(MAX_FILE_SIZE + 1), Err(Errno::EFBIG));
    content.truncate(BLOCK).expect("grows");
    assert_eq!(content.insert_range(0, MAX_FILE_SIZE / BLOCK * BLOCK), Err(Errno::EFBIG));
    content.truncate(before.0).expect("shrinks");
    assert_eq!(content.collapse_range(0, BLOCK), Err(Errno::EINVAL));
    assert_eq!(before, (content.size(), content.stored_bytes(), usage(&space).raw));
    assert_eq!(read(&content, 99, 9).as_deref(), Ok(&b"\0data"[..]));
}

#[test]
fn one_file_has_a_limit_of_its_own() {
    let policy = Policy { compress: Compress::OnClose, level: 0, max_file_bytes: 10_000, cache_bytes: 0 };
    let space = Space::new(1 << 20, 85, policy, Mode::default());
    let content = Content::new(&space);
    assert_eq!(write(&content, 0, &[7; 20_000]), Ok(8192));
    assert_eq!(write(&content, 8192, &[7; 10]), Err(Errno::EFBIG));
    assert_eq!(content.allocate(1 << 20, 1, true), Err(Errno::EFBIG));
    assert_eq!((content.size(), content.stored_bytes()), (8192, 8192));
}

/// Any one bit of any member flipped: EIO where that block is needed, everything else readable. ERMFS_LIMITS=all: every bit.
#[test]
fn a_flipped_bit_is_eio_for_its_block_alone() {
    let all = std::env::var("ERMFS_LIMITS").as_deref() == Ok("all");
    let space = space_of(1 << 30, Compress::OnClose);
    let content = Content::new(&space);
    // Text, what a program may look like, and a short end.
    let mut bytes = pattern(0, 9, 3 * BLOCK_SIZE);
    for (at, byte) in bytes[BLOCK_SIZE..2 * BLOCK_SIZE].iter_mut().enumerate() {
        *byte = (at as u32).wrapping_mul(0x9e37_79b9).leading_zeros() as u8 ^ (at >> 9) as u8;
    }
    bytes.truncate(2 * BLOCK_SIZE + 3000);
    write(&content, 0, &bytes).expect("written");
    close(&content);
    let blocks = || bytes.chunks(BLOCK_SIZE).enumerate();
    let whole = || read(&content, 0, bytes.len());
    for (index, block) in blocks() {
        let (member, start) = (member_of(&content, index), index as u64 * BLOCK);
        let flip = |bit: usize| {
            // SAFETY: the test owns the file, and nobody reads the member meanwhile.
            unsafe { *member.as_ptr().cast_mut().add(bit / 8) ^= 1 << (bit % 8) };
        };
        let bits = 0..member.len() * 8;
        for bit in bits.clone().filter(|bit| all || bit % 97 == 0 || *bit < 18 * 8 || bits.end - bit <= 64) {
            flip(bit);
            assert_eq!(read(&content, start, block.len()), Err(Errno::EIO), "bit {bit} of {index}");
            assert_eq!(read(&content, start + 9, 9), Err(Errno::EIO), "bit {bit} of {index}");
            for (other, block) in blocks().filter(|(other, _)| *other != index) {
                assert!(read(&content, other as u64 * BLOCK, block.len()).as_deref() == Ok(block));
            }
            // One that goes on over it is short.
            let before = if index == 0 { Err(Errno::EIO) } else { Ok(&bytes[..start as usize]) };
            assert!(whole().as_deref().map_err(|error| *error) == before, "bit {bit} of {index}");
            assert_eq!(write(&content, start + 1, b"x"), Err(Errno::EIO));
            assert_eq!(content.truncate(start + 1), Err(Errno::EIO));
            flip(bit);
        }
        assert!(whole().as_deref() == Ok(&bytes[..]), "flipped back");
        println!("{} bits of a member of {} bytes", bits.end, block.len());
    }
    assert!(space.counters.errors.load(core::sync::atomic::Ordering::Relaxed) > 0);
    assert_eq!(write(&content, BLOCK, &bytes[..BLOCK_SIZE]), Ok(BLOCK_SIZE));
}

fn member_of(content: &Content, index: usize) -> &'static [u8] {
    let mut members = Vec::new();
    let snapshot = content.snapshot().expect("a snapshot");
    snapshot
        .for_each_run(|run| {
            if let super::Run::Member(_, member) = run {
                members.push((member.as_ptr(), member.len()));
            }
            Ok(())
        })
        .expect("runs");
    let (address, len) = members[index];
    // SAFETY: the file keeps its member for the length of the test.
    unsafe { core::slice::from_raw_parts(address, len) }
}

#[test]
fn inflated_copies_go_first_under_pressure() {
    let space = space_of(4 << 20, Compress::OnClose);
    let content = Content::new(&space);
    let bytes = pattern(0, 4, 16 * BLOCK_SIZE);
    for (index, block) in bytes.chunks(BLOCK_SIZE).enumerate() {
        write(&content, index as u64 * BLOCK, block).expect("written");
        close(&content);
    }
    // A copy is kept for who comes back.
    for index in (0..16).chain(0..16) {
        assert_eq!(
            read(&content, index * BLOCK + 5, 5).as_deref(),
            Ok(&bytes[(index * BLOCK) as usize + 5..][..5])
        );
    }
    let cached = usage(&space).cached;
    assert!(cached > 0 && cached <= (4 << 20) / 8, "{cached} bytes of copies");
    let room = usage(&space);
    let rest = room.max - room.total + cached / 2 - (256 << 10);
    space.charge(Kind::Metadata, rest, Purpose::Ordinary).expect("copies make way");
    assert!(usage(&space).cached < cached);
    space.release(Kind::Metadata, rest);
}

/// Writers of whole blocks and readers of one file: a read of one block never mixes two writes.
#[test]
fn a_write_within_a_block_is_seen_whole() {
    let space = space_of(64 << 20, Compress::OnClose);
    let content = Content::new(&space);
    write(&content, 0, &vec![1; 2 * BLOCK_SIZE]).expect("written");
    std::thread::scope(|scope| {
        for writer in 2..4u8 {
            let content = &content;
            scope.spawn(move || {
                for round in 0..300 {
                    let byte = writer.wrapping_mul(50).wrapping_add(round as u8 % 40);
                    write(content, BLOCK * (round % 2), &vec![byte; BLOCK_SIZE]).expect("written");
                    close(content);
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                for round in 0..2000 {
                    let bytes = read(&content, BLOCK * (round % 2) + 100, 5000).expect("read");
                    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "two writes in one read");
                }
            });
        }
    });
}

#[test]
fn appends_of_many_threads_never_overlap() {
    let space = space_of(64 << 20, Compress::OnClose);
    let content = Content::new(&space);
    std::thread::scope(|scope| {
        for id in 1..=4u8 {
            let content = &content;
            scope.spawn(move || {
                for _ in 0..2000 {
                    content.append(&mut Source::new(&[id; 37])).expect("appended");
                    if id == 1 {
                        close(content);
                    }
                }
            });
        }
    });
    let bytes = read(&content, 0, 4 * 2000 * 37 + 1).expect("read");
    assert_eq!(bytes.len(), 4 * 2000 * 37);
    assert!(bytes.chunks(37).all(|record| record.iter().all(|byte| *byte == record[0])));
}

#[test]
fn map_walks_skip_what_is_not_there() {
    let space = space_of(64 << 20, Compress::Never);
    let content = Content::new(&space);
    for index in [0, 31, 32, 1023, 1024, 40_000] {
        write(&content, index * BLOCK, b"x").expect("written");
    }
    let mut seen = Vec::new();
    let snapshot = content.snapshot().expect("a snapshot");
    let mut at = 0;
    snapshot
        .for_each_run(|run| {
            match run {
                super::Run::Hole(len) => at += len,
                super::Run::Plain(bytes) => {
                    seen.push(at / BLOCK);
                    at += bytes.len() as u64;
                }
                super::Run::Member(..) => unreachable!("nothing is packed"),
            }
            Ok(())
        })
        .expect("runs");
    assert_eq!((seen, at), (vec![0, 31, 32, 1023, 1024, 40_000], content.size()));
}
