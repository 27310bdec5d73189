//! Descriptors: a few numbers, and what they name.
//!
//! A call answers for the file that its number named at one moment of the call, or EBADF if it named none then. `open`
//! and `dup` look at one number after the other, take the first that is free, and open it later; till then it is
//! nobody's: not open, and EBUSY to `dup2`. So it is between the two steps of a close. With `O_ANYFD` any
//! free number will do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use ermfs_core::process::{self, FIRST_FD};
use ermfs_core::{Errno, Sink, Source};

use crate::checker::{Call, History, Model, Step, check};
use crate::recorder::{Clock, Random, Recorder, plans, play, run_all};

/// Numbers that calls name; `open` and `dup` may answer higher ones.
const NUMBERS: usize = 3;
const FILES: usize = 3;

/// Numbers and files as places in their rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Open(usize),
    /// With `O_ANYFD`.
    OpenAny(usize),
    Close(usize),
    Dup(usize),
    Dup2(usize, usize),
    Stat(usize),
    Read(usize),
}
use Operation::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Done,
    Number(usize),
    File(usize),
    Failed(Errno),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Slot {
    /// Taken and not open, or closed and not free.
    Claimed,
    Names(usize),
}

/// The numbers that are not free.
type Table = BTreeMap<usize, Slot>;

/// How far a call is: what it has looked up, and which number it is to look at or has claimed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Progress {
    file: Option<usize>,
    at: usize,
    claimed: bool,
}

struct Descriptors;

impl Model for Descriptors {
    type Operation = Operation;
    type Answer = Answer;
    type State = Table;
    type Local = Progress;

    fn only_looks(&self, operation: &Operation, answer: &Answer) -> bool {
        matches!(operation, Stat(_) | Read(_)) || matches!(answer, Answer::Failed(_))
    }

    fn step(
        &self,
        table: &Table,
        _: u32,
        (operation, answer): (&Operation, &Answer),
        progress: &Progress,
    ) -> Vec<Step<Table, Progress>> {
        let ends = |right: Answer| if right == *answer { vec![Step::Ends(table.clone())] } else { vec![] };
        let named = |number: usize| match table.get(&number) {
            Some(Slot::Names(file)) => Some(*file),
            Some(Slot::Claimed) | None => None,
        };
        let bad = Answer::Failed(Errno::EBADF);
        match *operation {
            Stat(number) | Read(number) => ends(named(number).map_or(bad, Answer::File)),
            Open(file) => take_lowest(table, answer, Progress { file: Some(file), ..*progress }),
            OpenAny(file) => match *answer {
                Answer::Number(at) => {
                    take_lowest(table, answer, Progress { file: Some(file), at, ..*progress })
                }
                _ => vec![],
            },
            Close(number) if progress.claimed => {
                let mut after = table.clone();
                after.remove(&number);
                if *answer == Answer::Done { vec![Step::Ends(after)] } else { vec![] }
            }
            Close(number) => match named(number) {
                None => ends(bad),
                Some(_) => claim(table, number, *progress),
            },
            Dup(old) | Dup2(old, _) if progress.file.is_none() => match (named(old), *operation) {
                (None, _) => ends(bad),
                (Some(_), Dup2(_, new)) if new == old => ends(Answer::Number(new)),
                (file, _) => vec![Step::Goes(table.clone(), Progress { file, ..*progress })],
            },
            Dup(_) => take_lowest(table, answer, *progress),
            Dup2(_, new) => {
                let names = Slot::Names(progress.file.expect("looked up"));
                match table.get(&new) {
                    Some(Slot::Claimed) if !progress.claimed => ends(Answer::Failed(Errno::EBUSY)),
                    None => claim(table, new, *progress),
                    Some(_) => install(table, answer, new, names),
                }
            }
        }
    }
}

fn claim(table: &Table, number: usize, progress: Progress) -> Vec<Step<Table, Progress>> {
    let mut after = table.clone();
    after.insert(number, Slot::Claimed);
    vec![Step::Goes(after, Progress { claimed: true, ..progress })]
}

fn install(table: &Table, answer: &Answer, number: usize, slot: Slot) -> Vec<Step<Table, Progress>> {
    let mut after = table.clone();
    after.insert(number, slot);
    if *answer == Answer::Number(number) { vec![Step::Ends(after)] } else { vec![] }
}

/// Looks at one number after the other.
fn take_lowest(table: &Table, answer: &Answer, progress: Progress) -> Vec<Step<Table, Progress>> {
    let Progress { file, at, claimed } = progress;
    let file = file.expect("known before");
    match table.get(&at) {
        Some(_) if claimed => install(table, answer, at, Slot::Names(file)),
        // It takes the number that was answered: others need not be tried.
        None if *answer == Answer::Number(at) => claim(table, at, progress),
        Some(_) if *answer != Answer::Number(at) => vec![Step::Passes(Progress { at: at + 1, ..progress })],
        None | Some(_) => vec![],
    }
}

fn number_of(fd: i32) -> usize {
    usize::try_from(fd - FIRST_FD).expect("a number of the table")
}

fn fd_of(number: usize) -> i32 {
    FIRST_FD + number as i32
}

/// Files of the default filesystem, by their inode numbers; each is full of its own number.
struct Files([u64; FILES]);

const PATHS: [&[u8]; FILES] = [b"/history0", b"/history1", b"/history2"];

impl Files {
    fn make() -> Files {
        Files([0, 1, 2].map(|file| {
            let fd = process::openat(process::AT_FDCWD, PATHS[file], libc::O_CREAT | libc::O_RDWR, 0o644)
                .expect("a file");
            let bytes = [file as u8; 5_000];
            process::pwrite(fd, &mut Source::new(&bytes), 0).expect("written");
            let ino = process::fstat(fd).expect("its status").st_ino;
            process::close(fd).expect("closed");
            ino
        }))
    }

    fn call(&self, operation: &Operation) -> Answer {
        self.answer_to(*operation).unwrap_or_else(Answer::Failed)
    }

    fn answer_to(&self, operation: Operation) -> Result<Answer, Errno> {
        match operation {
            Open(file) | OpenAny(file) => {
                let any = if matches!(operation, OpenAny(_)) { process::O_ANYFD } else { 0 };
                let fd = process::openat(process::AT_FDCWD, PATHS[file], libc::O_RDONLY | any, 0)?;
                Ok(Answer::Number(number_of(fd)))
            }
            Close(number) => process::close(fd_of(number)).map(|()| Answer::Done),
            Dup(number) => process::dup(fd_of(number)).map(|fd| Answer::Number(number_of(fd))),
            Dup2(old, new) => process::dup2(fd_of(old), fd_of(new)).map(|fd| Answer::Number(number_of(fd))),
            Stat(number) => {
                let ino = process::fstat(fd_of(number))?.st_ino;
                Ok(Answer::File(self.0.iter().position(|of| *of == ino).expect("one of the files")))
            }
            Read(number) => {
                let mut bytes = [255; 5_000];
                let read = process::pread(fd_of(number), &mut Sink::new(&mut bytes), 0)?;
                assert!(read == 5_000 && bytes.iter().all(|byte| *byte == bytes[0]), "{read} bytes");
                Ok(Answer::File(bytes[0].into()))
            }
        }
    }
}

/// The table is the process's.
static ALONE: Mutex<()> = Mutex::new(());

fn one_run(
    seed: u64,
    files: &Files,
    kinds: &(dyn Fn(&mut Random) -> Operation + Sync),
) -> (Table, History<Operation, Answer>) {
    let mut random = Random::new(seed);
    let clock = Clock::default();
    let mut before = Recorder::new(&clock, Random::new(!seed));
    for _ in 0..random.below(NUMBERS + 1) {
        before.record(Open(random.below(FILES)), |operation| files.call(operation));
    }
    let plans = plans(&mut random, |random, _| kinds(random));
    let mut history = play(&clock, seed, plans, |_| (), |(), operation| files.call(operation));
    let mut after = Recorder::new(&clock, Random::new(!seed));
    let given = history.iter().flatten().filter_map(|call| match call.answer {
        Answer::Number(number) => Some(number),
        _ => None,
    });
    let numbers: BTreeSet<usize> = given.chain(0..NUMBERS).collect();
    for number in numbers {
        after.record(Stat(number), |operation| files.call(operation));
        after.record(Close(number), |operation| files.call(operation));
    }
    // That the table is empty again, and gives the lowest number first.
    after.record(Open(0), |operation| files.call(operation));
    after.record(Close(0), |operation| files.call(operation));
    history.extend([before.calls(), after.calls()]);
    (Table::new(), history)
}

fn run_descriptors(kinds: &(dyn Fn(&mut Random) -> Operation + Sync)) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let files = Files::make();
    run_all(&Descriptors, |seed| one_run(seed, &files, kinds));
}

#[test]
fn descriptors_that_are_opened_closed_and_used() {
    run_descriptors(&|random| match random.below(9) {
        0 | 1 => Open(random.below(FILES)),
        8 => OpenAny(random.below(FILES)),
        2 | 3 => Close(random.below(NUMBERS)),
        4 => Dup(random.below(NUMBERS)),
        5 => Read(random.below(NUMBERS)),
        _ => Stat(random.below(NUMBERS)),
    });
}

#[test]
fn descriptors_that_are_replaced_while_they_are_used() {
    run_descriptors(&|random| match random.below(9) {
        0 => Open(random.below(FILES)),
        1 => Close(random.below(NUMBERS)),
        2..=5 => Dup2(random.below(NUMBERS), random.below(NUMBERS)),
        6 | 7 => Read(random.below(NUMBERS)),
        _ => Stat(random.below(NUMBERS)),
    });
}

#[test]
fn every_open_file_description_ends_and_ends_once() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let files = Files::make();
    let before = process::statistics(process::AT_FDCWD).expect("statistics").open_descriptions;
    let kinds = |random: &mut Random| match random.below(3) {
        0 => Open(random.below(FILES)),
        1 => Close(random.below(NUMBERS)),
        _ => Dup2(random.below(NUMBERS), random.below(NUMBERS)),
    };
    run_all(&Descriptors, |seed| one_run(seed, &files, &kinds));
    let after = process::statistics(process::AT_FDCWD).expect("statistics").open_descriptions;
    assert_eq!(after, before, "open file descriptions that did not end, or ended twice");
}

/// Calls of other threads, each given its beginning and end.
fn planted(threads: &[&[(u64, u64, Operation, Answer)]]) -> bool {
    let history: Vec<Vec<_>> = threads
        .iter()
        .map(|calls| {
            let call = |&(began, ended, operation, answer)| Call { began, ended, operation, answer };
            calls.iter().map(call).collect()
        })
        .collect();
    check(&Descriptors, Table::new(), &history).is_ok()
}

const OPENED: [(u64, u64, Operation, Answer); 2] =
    [(0, 1, Open(0), Answer::Number(0)), (2, 3, Open(1), Answer::Number(1))];
const BAD: Answer = Answer::Failed(Errno::EBADF);

#[test]
fn a_number_given_out_twice_or_not_the_lowest_is_refused() {
    assert!(planted(&[&OPENED]));
    assert!(!planted(&[&OPENED, &[(4, 5, Open(2), Answer::Number(1))]]));
    assert!(!planted(&[&OPENED, &[(4, 5, Open(2), Answer::Number(3))]]));
    let closed = [(4, 5, Close(0), Answer::Done)];
    assert!(planted(&[&OPENED, &closed, &[(6, 7, Open(2), Answer::Number(0))]]));
    assert!(!planted(&[&OPENED, &closed, &[(6, 7, Open(2), Answer::Number(2))]]));
    // With O_ANYFD it need not be the lowest, but free.
    assert!(planted(&[&OPENED, &[(4, 5, OpenAny(2), Answer::Number(65_535))]]));
    assert!(!planted(&[&OPENED, &[(4, 5, OpenAny(2), Answer::Number(1))]]));
    // While it is being closed it may be free or not.
    for number in [0, 2] {
        assert!(planted(&[&OPENED, &closed, &[(3, 6, Open(2), Answer::Number(number))]]));
    }
}

#[test]
fn a_descriptor_that_outlives_its_close_or_is_closed_twice_is_refused() {
    let closed = [(4, 7, Close(0), Answer::Done)];
    for (began, seen, fine) in
        [(5, Answer::File(0), true), (5, BAD, true), (8, BAD, true), (8, Answer::File(0), false)]
    {
        assert_eq!(planted(&[&OPENED, &closed, &[(began, began + 1, Stat(0), seen)]]), fine);
    }
    assert!(!planted(&[&OPENED, &closed, &[(5, 6, Close(0), Answer::Done)]]));
}

#[test]
fn a_number_that_dup2_replaces_names_one_or_the_other() {
    let replaced = [(4, 7, Dup2(1, 0), Answer::Number(0))];
    for (seen, fine) in
        [(Answer::File(0), true), (Answer::File(1), true), (Answer::File(2), false), (BAD, false)]
    {
        assert_eq!(planted(&[&OPENED, &replaced, &[(5, 6, Read(0), seen)]]), fine, "{seen:?}");
    }
}
