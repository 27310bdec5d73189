//! The content of one file, around the boundary of its first two blocks.
//!
//! Atomic is every write and read that lies within one block, the number of bytes that it tells included, every cut, and
//! the size. An append over the boundary may be seen to have filled the first block only; but no other change comes between
//! its parts. Other calls over the boundary are not made. Closing and opening again, which packs and unpacks, changes
//! nothing.

use std::sync::Arc;

use ermfs_core::process::{OpenFile, OpenFileRef};
use ermfs_core::{At, Compress, Config, Errno, Fs, Sink, Source};

use crate::checker::{Call, History, Model, Step, check};
use crate::recorder::{Clock, Random, Recorder, plans, play, run_all};

/// What is written and read at once: no boundary of a page but that of the block is one of cells.
const CELL: usize = 1_500;
const BLOCK: usize = 65_536;
/// Cells on either side of the boundary.
const HALF: usize = 5;
/// Where the first cell is.
const START: usize = BLOCK - HALF * CELL;
/// What a cell reads as that is not of one write.
const TORN: u8 = 255;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    /// From a cell on, so many cells, of this byte.
    Write(usize, usize, u8),
    Read(usize, usize),
    Append(usize, u8),
    Cut(usize),
    Size,
    Reopen,
}
use Operation::*;

/// Sizes and places are in cells from `START` on.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Done,
    Bytes(Vec<u8>),
    At(usize),
    Size(Option<usize>),
    Failed(Errno),
}

/// What the cells hold, up to the file's size.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct File {
    cells: Vec<u8>,
    /// An append has filled the first block and has more to write: no other change may come between.
    appending: bool,
}

struct Contents;

impl Model for Contents {
    type Operation = Operation;
    type Answer = Answer;
    type State = File;
    /// Where an append has begun.
    type Local = Option<usize>;

    fn only_looks(&self, operation: &Operation, answer: &Answer) -> bool {
        matches!(operation, Read(..) | Size | Reopen) || matches!(answer, Answer::Failed(_))
    }

    fn step(
        &self,
        file: &File,
        _: u32,
        (operation, answer): (&Operation, &Answer),
        began: &Option<usize>,
    ) -> Vec<Step<File, Option<usize>>> {
        let File { mut cells, appending } = file.clone();
        let size = cells.len();
        let changes = !matches!(operation, Read(..) | Size | Reopen);
        if changes && appending && began.is_none() {
            return vec![];
        }
        let right = match *operation {
            Write(at, count, byte) => {
                cells.resize(size.max(at + count), 0);
                cells[at..at + count].fill(byte);
                Answer::Done
            }
            Read(at, count) => {
                let end = (at + count).min(size);
                Answer::Bytes(cells[at.min(end)..end].to_vec())
            }
            // What lies in the first block can be seen before the rest.
            Append(count, byte) if size < HALF && size + count > HALF => {
                cells.resize(HALF, byte);
                return vec![Step::Goes(File { cells, appending: true }, Some(size))];
            }
            Append(count, byte) => {
                let at = began.unwrap_or(size);
                cells.resize(at + count, byte);
                Answer::At(at)
            }
            Cut(to) => {
                cells.resize(to, 0);
                Answer::Done
            }
            Size => Answer::Size(Some(size)),
            Reopen => Answer::Done,
        };
        let appending = appending && !changes;
        if right == *answer { vec![Step::Ends(File { cells, appending })] } else { vec![] }
    }
}

/// A place in the file as a cell, unless it is none.
fn cell_at(offset: usize) -> Option<usize> {
    let within = offset.checked_sub(START)?;
    within.is_multiple_of(CELL).then_some(within / CELL)
}

fn offset_of(cell: usize) -> usize {
    START + cell * CELL
}

/// A thread's own open file descriptions: one that writes anywhere, and one that appends.
struct Handles {
    fs: Arc<Fs>,
    plain: Option<OpenFileRef>,
    append: Option<OpenFileRef>,
}

impl Handles {
    fn open(fs: &Arc<Fs>) -> Handles {
        let mut handles = Handles { fs: Arc::clone(fs), plain: None, append: None };
        handles.reopen().expect("the file can be opened");
        handles
    }

    fn reopen(&mut self) -> Result<(), Errno> {
        (self.plain, self.append) = (None, None);
        let root = self.fs.root();
        let at = At { fs: &self.fs, dir: &root, who: self.fs.credentials(), umask: 0 };
        let flags = libc::O_CREAT | libc::O_RDWR;
        self.plain = Some(OpenFile::open(at, b"file", flags, 0o644)?);
        self.append = Some(OpenFile::open(at, b"file", flags | libc::O_APPEND, 0o644)?);
        Ok(())
    }

    fn call(&mut self, operation: &Operation) -> Answer {
        self.answer_to(*operation).unwrap_or_else(Answer::Failed)
    }

    fn answer_to(&mut self, operation: Operation) -> Result<Answer, Errno> {
        let plain = self.plain.as_ref().ok_or(Errno::EBADF)?;
        match operation {
            Write(at, count, byte) => {
                let bytes = vec![byte; count * CELL];
                let written = plain.write_at(&mut Source::new(&bytes), offset_of(at) as i64)?;
                assert_eq!(written, bytes.len());
            }
            Read(at, count) => {
                let mut bytes = vec![TORN; count * CELL];
                let read = plain.read_at(&mut Sink::new(&mut bytes), offset_of(at) as i64)?;
                let of_one = |cell: &[u8]| cell.len() == CELL && cell.iter().all(|byte| *byte == cell[0]);
                let cells = bytes[..read].chunks(CELL).map(|cell| if of_one(cell) { cell[0] } else { TORN });
                return Ok(Answer::Bytes(cells.collect()));
            }
            Append(count, byte) => {
                let append = self.append.as_ref().ok_or(Errno::EBADF)?;
                let bytes = vec![byte; count * CELL];
                let written = append.write(&mut Source::new(&bytes))?;
                assert_eq!(written, bytes.len());
                let end = append.seek(0, libc::SEEK_CUR)? as usize;
                return Ok(cell_at(end - written).map_or(Answer::Size(None), Answer::At));
            }
            Cut(size) => plain.set_len(offset_of(size) as i64)?,
            Size => return Ok(Answer::Size(cell_at(plain.stat()?.size as usize))),
            Reopen => self.reopen()?,
        }
        Ok(Answer::Done)
    }
}

/// A first cell and a number of cells that lie within one block.
fn within_a_block(random: &mut Random) -> (usize, usize) {
    let half = random.below(2) * HALF;
    let at = random.below(HALF);
    (half + at, 1 + random.below(HALF - at))
}

/// Random operations, drawn evenly from `kinds`.
fn one_run(
    seed: u64,
    compress: Compress,
    kinds: &[fn(&mut Random, u8) -> Operation],
) -> (File, History<Operation, Answer>) {
    let mut random = Random::new(seed);
    let config = Config { max_bytes: 32 << 20, compress, ..Config::default() };
    let fs = Fs::new(&config).expect("a filesystem");
    let clock = Clock::default();

    // A file that ends somewhere in the cells, written or a hole, packed or not.
    let mut before = Handles::open(&fs);
    assert_eq!(before.call(&Cut(0)), Answer::Done);
    let start = vec![random.pick(&[0, 200]); random.below(2 * HALF)];
    if start.first().is_some_and(|byte| *byte > 0) {
        assert!(matches!(before.call(&Append(start.len(), start[0])), Answer::At(0)));
    } else {
        assert_eq!(before.call(&Cut(start.len())), Answer::Done);
    }
    let kept_open = (random.below(2) == 0).then_some(before);

    let mut byte = 0;
    let plans = plans(&mut random, |random, _| {
        byte += 1;
        random.pick(kinds)(random, byte)
    });
    let mut history = play(&clock, seed, plans, |_| Handles::open(&fs), Handles::call);
    drop(kept_open);
    let mut handles = Handles::open(&fs);
    let mut after = Recorder::new(&clock, Random::new(!seed));
    for operation in [Size, Read(0, HALF), Read(HALF, HALF)] {
        after.record(operation, |operation| handles.call(operation));
    }
    history.push(after.calls());
    (File { cells: start, appending: false }, history)
}

fn write(random: &mut Random, byte: u8) -> Operation {
    let (at, count) = within_a_block(random);
    Write(at, count, byte)
}

fn read(random: &mut Random, _: u8) -> Operation {
    let (at, count) = within_a_block(random);
    Read(at, count)
}

fn append(random: &mut Random, byte: u8) -> Operation {
    Append(1 + random.below(3), byte)
}

fn cut(random: &mut Random, _: u8) -> Operation {
    Cut(random.below(2 * HALF))
}

fn size(_: &mut Random, _: u8) -> Operation {
    Size
}

fn reopen(_: &mut Random, _: u8) -> Operation {
    Reopen
}

const POLICIES: [Compress; 3] = [Compress::OnClose, Compress::Never, Compress::Background];

fn policy(seed: u64) -> Compress {
    POLICIES[(seed % 3) as usize]
}

#[test]
fn writes_and_reads_of_two_blocks() {
    run_all(&Contents, |seed| one_run(seed, policy(seed), &[write, write, read, read, size]));
}

#[test]
fn appends_cuts_and_reads() {
    run_all(&Contents, |seed| one_run(seed, policy(seed), &[append, append, read, read, cut, size]));
}

#[test]
fn all_that_is_done_to_a_file_while_it_is_packed_and_unpacked() {
    run_all(&Contents, |seed| {
        one_run(seed, policy(seed), &[write, append, read, read, cut, size, reopen, reopen])
    });
}

/// Calls of other threads, each given its beginning and end, on a file of two cells of 9.
fn planted(threads: &[&[(u64, u64, Operation, Answer)]]) -> bool {
    let history: Vec<Vec<_>> = threads
        .iter()
        .map(|calls| {
            let call = |(began, ended, operation, answer): &(u64, u64, Operation, Answer)| Call {
                began: *began,
                ended: *ended,
                operation: *operation,
                answer: answer.clone(),
            };
            calls.iter().map(call).collect()
        })
        .collect();
    check(&Contents, File { cells: vec![9, 9], appending: false }, &history).is_ok()
}

#[test]
fn a_torn_block_is_refused() {
    for (seen, fine) in [
        ([9, 9], true),
        ([1, 1], true),
        ([9, 1], false),
        ([1, 9], false),
        ([TORN, 1], false),
        ([0, 0], false),
    ] {
        let write = [(0, 5, Write(0, 2, 1), Answer::Done)];
        let read = [(1, 4, Read(0, 2), Answer::Bytes(seen.to_vec()))];
        assert_eq!(planted(&[&write, &read]), fine, "{seen:?}");
    }
}

#[test]
fn a_lost_update_is_refused() {
    let writes = [(0, 5, Write(0, 1, 1), Answer::Done)];
    let others = [(1, 6, Write(1, 1, 2), Answer::Done)];
    for (seen, fine) in [([1, 2], true), ([9, 2], false), ([1, 9], false)] {
        let read = [(7, 8, Read(0, 2), Answer::Bytes(seen.to_vec()))];
        assert_eq!(planted(&[&writes, &others, &read]), fine, "{seen:?}");
    }
}

#[test]
fn appends_that_overlap_or_leave_a_hole_are_refused() {
    for (place, fine) in [(2, false), (3, true), (4, false)] {
        let one = [(0, 5, Append(1, 1), Answer::At(2))];
        let other = [(1, 6, Append(1, 2), Answer::At(place))];
        assert_eq!(planted(&[&one, &other]), fine, "{place}");
    }
}

#[test]
fn an_append_over_the_boundary_may_be_seen_by_blocks_but_nothing_comes_between() {
    let filled = [(0, 1, Append(HALF - 3, 1), Answer::At(2))];
    let over = [(2, 9, Append(3, 2), Answer::At(HALF - 1))];
    for (size, fine) in [(HALF - 1, true), (HALF, true), (HALF + 1, false), (HALF + 2, true)] {
        let look = [(4, 5, Size, Answer::Size(Some(size)))];
        assert_eq!(planted(&[&filled, &over, &look]), fine, "{size}");
    }
    let between = [(3, 8, Append(1, 3), Answer::At(HALF))];
    assert!(!planted(&[&filled, &over, &between]));
}

#[test]
fn bytes_that_come_back_after_a_cut_are_refused() {
    let cut = [(0, 1, Cut(1), Answer::Done), (2, 3, Write(2, 1, 5), Answer::Done)];
    for (seen, fine) in [(vec![9, 0, 5], true), (vec![9, 9, 5], false), (vec![9, 0], false)] {
        assert_eq!(planted(&[&cut, &[(4, 5, Read(0, 3), Answer::Bytes(seen))]]), fine);
    }
    assert!(!planted(&[&cut[..1], &[(2, 3, Size, Answer::Size(Some(2)))]]));
    assert!(!planted(&[&cut[..1], &[(2, 3, Size, Answer::Size(None))]]));
}
