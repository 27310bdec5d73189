//! Names: a small tree, and what may be done to it.
//!
//! Atomic is what a call does in one directory, and a rename in two; a walk looks up one name after the other, and others
//! may come between. `link` looks its file up first. Link counts are looked at when all is quiet.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use ermfs_core::process::Operation as Inside;
use ermfs_core::{At, Config, Errno, Fs, InodeKind, OpenHow, RenameFlags};

use crate::checker::{Call, History, Model, Step, check};
use crate::recorder::{Clock, Random, Recorder, plans, play, run_all};

type Path = &'static str;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    /// A new file, with `O_EXCL`.
    Create(Path),
    /// A file, made if it is not there.
    Ensure(Path),
    Open(Path),
    Stat(Path),
    Unlink(Path),
    Mkdir(Path),
    Rmdir(Path),
    Rename(Path, Path),
    RenameNew(Path, Path),
    Exchange(Path, Path),
    Link(Path, Path),
    /// The names in the root.
    List,
    /// As `Stat`, with the number of links; when all is quiet.
    Inspect(Path),
    /// How many inodes there are; when all is quiet.
    Census,
}
use Operation::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Done,
    /// The number of a file that the call has made.
    Made(u64),
    File(u64),
    Directory(u64),
    Linked(u64, u64),
    /// A bit for each of `NAMES`.
    Names(u32),
    Inodes {
        files: u64,
        directories: u64,
    },
    Failed(Errno),
}

/// What an entry stands for. The calls that make directories do not tell their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Id {
    Root,
    File(u64),
    /// By the call that made it.
    Directory(u32),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Directory {
    entries: BTreeMap<&'static str, Id>,
    /// Its number, once it was seen.
    ino: Option<u64>,
}

/// All directories that have a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Tree(BTreeMap<Id, Directory>);

/// How far a call is: the directories that its paths led to, and what `link` found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Walked {
    from: Option<Id>,
    found: Option<Id>,
    to: Option<Id>,
}

/// What there can be in the root.
const NAMES: [&str; 30] = [
    "a", "b", "c", "d", "e", "f", "n0", "n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8", "n9", "n10", "n11",
    "n12", "n13", "n14", "n15", "n16", "n17", "n18", "n19", "n20", "n21", "n22", "n23",
];

fn bit_of(name: &str) -> u32 {
    let place = NAMES.iter().position(|other| *other == name);
    1 << place.unwrap_or_else(|| panic!("{name} is listed, which nobody made"))
}

fn split(path: Path) -> (Option<&'static str>, &'static str) {
    match path.split_once('/') {
        Some((directory, name)) => (Some(directory), name),
        None => (None, path),
    }
}

impl Operation {
    fn paths(self) -> (Path, Option<Path>) {
        match self {
            Create(path) | Ensure(path) | Open(path) | Stat(path) | Unlink(path) | Mkdir(path)
            | Rmdir(path) | Inspect(path) => (path, None),
            Rename(old, new) | RenameNew(old, new) | Exchange(old, new) | Link(old, new) => (old, Some(new)),
            List | Census => (".", None),
        }
    }
}

impl Tree {
    fn new() -> Tree {
        Tree(BTreeMap::from([(Id::Root, Directory::default())]))
    }

    fn find(&self, dir: Id, name: &str) -> Option<Id> {
        self.0.get(&dir)?.entries.get(name).copied()
    }

    fn names_of(&self, id: Id) -> u64 {
        self.0.values().flat_map(|directory| directory.entries.values()).filter(|other| **other == id).count()
            as u64
    }

    fn subdirectories(&self, dir: Id) -> u64 {
        let entries = self.0.get(&dir).into_iter().flat_map(|directory| directory.entries.values());
        entries.filter(|id| matches!(id, Id::Directory(_))).count() as u64
    }

    fn is_within(&self, dir: Id, above: Id) -> bool {
        let parent_of = |id: &Id| {
            let has = |directory: &Directory| directory.entries.values().any(|entry| entry == id);
            self.0.iter().find(|(_, directory)| has(directory)).map(|(parent, _)| *parent)
        };
        std::iter::successors(Some(dir), parent_of).any(|id| id == above)
    }

    /// A step of a walk: from the root to the directory that holds the path's last name.
    fn walk(&self, path: Path) -> Result<Id, Errno> {
        match split(path).0.map(|directory| self.find(Id::Root, directory)) {
            None => Ok(Id::Root),
            Some(None) => Err(Errno::ENOENT),
            Some(Some(Id::File(_))) => Err(Errno::ENOTDIR),
            Some(Some(directory)) => Ok(directory),
        }
    }

    fn enter(&mut self, dir: Id, name: &'static str, id: Id) -> Result<(), Errno> {
        let directory = self.0.get_mut(&dir).ok_or(Errno::ENOENT)?;
        if directory.entries.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        directory.entries.insert(name, id);
        Ok(())
    }

    fn take(&mut self, dir: Id, name: &str) {
        if let Some(directory) = self.0.get_mut(&dir) {
            directory.entries.remove(name);
        }
    }

    /// A directory goes that must be empty.
    fn bury(&mut self, id: Id) -> Result<(), Errno> {
        if self.0.get(&id).is_some_and(|directory| !directory.entries.is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        self.0.remove(&id);
        Ok(())
    }

    /// What stat tells of `id`, if it can be what was seen.
    fn seen(&mut self, id: Id, answer: Answer) -> Answer {
        let links = match id {
            Id::File(_) => self.names_of(id),
            Id::Root | Id::Directory(_) => 2 + self.subdirectories(id),
        };
        let ino = match (id, answer) {
            (Id::File(ino), _) => ino,
            (_, Answer::Directory(ino) | Answer::Linked(ino, _)) => {
                // No two have the same number; one that was not seen yet may have any other.
                let others =
                    self.0.iter().any(|(other, directory)| *other != id && directory.ino == Some(ino));
                let directory = self.0.get_mut(&id).expect("an entry's directory is there");
                if directory.ino.is_none() && !others {
                    directory.ino = Some(ino);
                }
                directory.ino.unwrap_or(0)
            }
            _ => 0,
        };
        match (answer, id) {
            (Answer::Linked(..), _) => Answer::Linked(ino, links),
            (_, Id::File(_)) => Answer::File(ino),
            (_, Id::Root | Id::Directory(_)) => Answer::Directory(ino),
        }
    }

    /// The one moment of a call that has walked its paths.
    fn act(
        &mut self,
        operation: Operation,
        number: u32,
        walked: Walked,
        answer: Answer,
    ) -> Result<Answer, Errno> {
        let (old, new) = operation.paths();
        let dir = walked.from.unwrap_or(Id::Root);
        let name = split(old).1;
        let found = self.find(dir, name);
        let new_file = |tree: &mut Tree| match answer {
            Answer::Made(ino) => tree.enter(dir, name, Id::File(ino)).map(|()| answer),
            // It would have been made.
            _ => tree.enter(dir, name, Id::File(0)).map(|()| Answer::Made(0)),
        };
        match operation {
            Create(_) => new_file(self),
            Ensure(_) => match found {
                None => new_file(self),
                Some(Id::File(ino)) => Ok(Answer::File(ino)),
                Some(_) => Err(Errno::EISDIR),
            },
            Open(_) | Stat(_) | Inspect(_) => Ok(self.seen(found.ok_or(Errno::ENOENT)?, answer)),
            Unlink(_) => match found.ok_or(Errno::ENOENT)? {
                Id::File(_) => {
                    self.take(dir, name);
                    Ok(Answer::Done)
                }
                _ => Err(Errno::EISDIR),
            },
            Mkdir(_) => {
                self.enter(dir, name, Id::Directory(number))?;
                self.0.insert(Id::Directory(number), Directory::default());
                Ok(Answer::Done)
            }
            Rmdir(_) => match found.ok_or(Errno::ENOENT)? {
                Id::File(_) => Err(Errno::ENOTDIR),
                id => {
                    self.bury(id)?;
                    self.take(dir, name);
                    Ok(Answer::Done)
                }
            },
            Rename(..) | RenameNew(..) | Exchange(..) => {
                let to = (walked.to.unwrap_or(Id::Root), split(new.unwrap_or(old)).1);
                self.rename(operation, (dir, name), to).map(|()| Answer::Done)
            }
            Link(..) => {
                let (to, name) = (walked.to.unwrap_or(Id::Root), split(new.unwrap_or(old)).1);
                let id = walked.found.ok_or(Errno::ENOENT)?;
                match (id, self.0.get(&to)) {
                    (_, None) => Err(Errno::ENOENT),
                    (_, Some(directory)) if directory.entries.contains_key(name) => Err(Errno::EEXIST),
                    (Id::Root | Id::Directory(_), _) => Err(Errno::EPERM),
                    (Id::File(_), _) if self.names_of(id) == 0 => Err(Errno::ENOENT),
                    (Id::File(_), _) => self.enter(to, name, id).map(|()| Answer::Done),
                }
            }
            List => {
                let root = &self.0[&Id::Root];
                Ok(Answer::Names(root.entries.keys().map(|name| bit_of(name)).sum()))
            }
            Census => {
                let mut files: Vec<Id> =
                    self.0.values().flat_map(|dir| dir.entries.values().copied()).collect();
                files.retain(|id| matches!(id, Id::File(_)));
                files.sort();
                files.dedup();
                Ok(Answer::Inodes { files: files.len() as u64, directories: self.0.len() as u64 })
            }
        }
    }

    fn rename(
        &mut self,
        operation: Operation,
        (from, old): (Id, &'static str),
        (to, new): (Id, &'static str),
    ) -> Result<(), Errno> {
        let exchange = matches!(operation, Exchange(..));
        if !self.0.contains_key(&to) {
            return Err(Errno::ENOENT);
        }
        let moved = self.find(from, old).ok_or(Errno::ENOENT)?;
        let other = self.find(to, new);
        if matches!(operation, RenameNew(..)) && other.is_some() {
            return Err(Errno::EEXIST);
        }
        if exchange && other.is_none() {
            return Err(Errno::ENOENT);
        }
        let is_directory = |id: Id| !matches!(id, Id::File(_));
        if from != to && is_directory(moved) && self.is_within(to, moved) {
            return Err(Errno::EINVAL);
        }
        if from != to && other.is_some_and(|other| is_directory(other) && self.is_within(from, other)) {
            return Err(if exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
        }
        match other {
            Some(other) if other == moved => return Ok(()),
            Some(other) if exchange => {
                self.take(from, old);
                self.enter(from, old, other)?;
            }
            Some(other) => {
                match (is_directory(moved), is_directory(other)) {
                    (true, false) => return Err(Errno::ENOTDIR),
                    (false, true) => return Err(Errno::EISDIR),
                    (true, true) => self.bury(other)?,
                    (false, false) => {}
                }
                self.take(from, old);
            }
            None => self.take(from, old),
        }
        self.take(to, new);
        self.enter(to, new, moved)
    }
}

struct Names;

impl Model for Names {
    type Operation = Operation;
    type Answer = Answer;
    type State = Tree;
    type Local = Walked;

    fn only_looks(&self, operation: &Operation, answer: &Answer) -> bool {
        // What is seen of a directory settles its number for the rest.
        matches!(answer, Answer::Failed(_) | Answer::File(_) | Answer::Names(_))
            || matches!(operation, Census)
    }

    fn step(
        &self,
        tree: &Tree,
        number: u32,
        (operation, answer): (&Operation, &Answer),
        walked: &Walked,
    ) -> Vec<Step<Tree, Walked>> {
        let (old, new) = operation.paths();
        let mut walked = *walked;
        let fails = |error: Errno| match *answer {
            Answer::Failed(seen) if seen == error => vec![Step::Ends(tree.clone())],
            _ => vec![],
        };
        if walked.from.is_none() {
            match tree.walk(old) {
                Ok(dir) => walked.from = Some(dir),
                Err(error) => return fails(error),
            }
            // The root is no step: it is always there.
            if split(old).0.is_some() {
                return vec![Step::Goes(tree.clone(), walked)];
            }
        }
        if matches!(operation, Link(..)) && walked.found.is_none() {
            let dir = walked.from.unwrap_or(Id::Root);
            walked.found = tree.find(dir, split(old).1);
            return match walked.found {
                Some(_) => vec![Step::Goes(tree.clone(), walked)],
                None => fails(Errno::ENOENT),
            };
        }
        if let Some(new) = new.filter(|_| walked.to.is_none()) {
            match tree.walk(new) {
                Ok(dir) => walked.to = Some(dir),
                Err(error) => return fails(error),
            }
            if split(new).0.is_some() {
                return vec![Step::Goes(tree.clone(), walked)];
            }
        }
        let mut after = tree.clone();
        match after.act(*operation, number, walked, *answer) {
            Ok(right) if right == *answer => vec![Step::Ends(after)],
            Ok(_) => vec![],
            Err(error) => fails(error),
        }
    }
}

fn call(fs: &Arc<Fs>, operation: &Operation) -> Answer {
    let _inside = Inside::begin(fs).expect("a filesystem that is well");
    answer_of(fs, *operation).unwrap_or_else(Answer::Failed)
}

fn answer_of(fs: &Arc<Fs>, operation: Operation) -> Result<Answer, Errno> {
    let root = fs.root();
    let at = At { fs, dir: &root, who: fs.credentials(), umask: 0 };
    let (old, new) = operation.paths();
    let (path, new) = (old.as_bytes(), new.unwrap_or("").as_bytes());
    let seen = |kind: InodeKind, ino| {
        if kind == InodeKind::Directory { Answer::Directory(ino) } else { Answer::File(ino) }
    };
    let plain = OpenHow { read: true, mode: 0o644, ..OpenHow::default() };
    let rename = |no_replace, exchange| Fs::rename(at, path, at, new, RenameFlags { no_replace, exchange });
    match operation {
        Create(_) | Ensure(_) => {
            let exclusive = matches!(operation, Create(_));
            let (inode, made) = Fs::open(at, path, &OpenHow { create: true, exclusive, ..plain })?;
            return Ok(if made { Answer::Made(inode.ino()) } else { Answer::File(inode.ino()) });
        }
        Open(_) => return Fs::open(at, path, &plain).map(|(inode, _)| seen(inode.kind(), inode.ino())),
        Stat(_) => return Fs::stat(at, path, false).map(|it| seen(it.kind, it.ino)),
        Inspect(_) => return Fs::stat(at, path, false).map(|it| Answer::Linked(it.ino, it.nlink)),
        List => {
            let mut names = 0;
            fs.read_dir(&root, 0, &mut |entry| {
                if !matches!(entry.name, b"." | b"..") {
                    let bit = bit_of(std::str::from_utf8(entry.name).expect("a name that was made"));
                    assert_eq!(names & bit, 0, "a name that is listed twice");
                    names |= bit;
                }
                ControlFlow::Continue(())
            })?;
            return Ok(Answer::Names(names));
        }
        Census => {
            let statistics = fs.statistics();
            return Ok(Answer::Inodes { files: statistics.files, directories: statistics.directories });
        }
        Unlink(_) => Fs::unlink(at, path),
        Mkdir(_) => Fs::mkdir(at, path, 0o755),
        Rmdir(_) => Fs::rmdir(at, path),
        Rename(..) => rename(false, false),
        RenameNew(..) => rename(true, false),
        Exchange(..) => rename(false, true),
        Link(..) => Fs::link(at, path, at, new, false),
    }?;
    Ok(Answer::Done)
}

/// Random operations on `paths`, of the kinds that `kinds` makes.
fn one_run(
    seed: u64,
    paths: &[Path],
    first: &[Operation],
    kinds: &(dyn Fn(&mut Random, Path, Path) -> Operation + Sync),
) -> (Tree, History<Operation, Answer>) {
    let mut random = Random::new(seed);
    let fs = Fs::new(&Config { max_bytes: 16 << 20, ..Config::default() }).expect("a filesystem");
    let clock = Clock::default();
    let mut before = Recorder::new(&clock, Random::new(!seed));
    for operation in first.iter().filter(|_| random.below(4) > 0) {
        before.record(*operation, |operation| call(&fs, operation));
    }
    let plans = plans(&mut random, |random, _| {
        let (one, other) = (random.pick(paths), random.pick(paths));
        kinds(random, one, other)
    });
    let mut history = play(&clock, seed, plans, |_| (), |(), operation| call(&fs, operation));
    let mut after = Recorder::new(&clock, Random::new(!seed));
    for operation in paths.iter().map(|path| Inspect(path)).chain([List, Census]) {
        after.record(operation, |operation| call(&fs, operation));
    }
    history.extend([before.calls(), after.calls()]);
    let made = history.iter().flatten().filter_map(|call| match call.answer {
        Answer::Made(ino) => Some(ino),
        _ => None,
    });
    let mut made: Vec<u64> = made.collect();
    made.sort_unstable();
    assert!(made.is_sorted_by(|one, other| one < other), "an inode number was used again: {made:?}");
    (Tree::new(), history)
}

#[test]
fn names_of_one_directory() {
    run_all(&Names, |seed| {
        one_run(seed, &["a", "b", "c"], &[Create("a"), Create("b")], &|random, one, other| match random
            .below(15)
        {
            0 | 1 => Create(one),
            2 => Ensure(one),
            3 => Open(one),
            4..=6 => Stat(one),
            7 => Unlink(one),
            8 | 9 => Rename(one, other),
            10 => RenameNew(one, other),
            11 | 12 => Exchange(one, other),
            13 => List,
            _ => Link(one, other),
        })
    });
}

#[test]
fn names_of_many_files_in_a_table_that_grows_and_is_rebuilt() {
    let paths = &NAMES[6..];
    let first: Vec<Operation> = paths[..12].iter().map(|path| Create(path)).collect();
    run_all(&Names, |seed| {
        // Few names are asked for at the same time, many come and go.
        one_run(seed, paths, &first, &|random, one, other| {
            let near = paths[(seed as usize + random.below(3)) % paths.len()];
            match random.below(11) {
                0 | 1 => Create(one),
                2 => Create(near),
                3 | 4 => Unlink(one),
                5 => Unlink(near),
                6 => Rename(one, near),
                7 => Rename(near, other),
                8 => List,
                _ => Stat(near),
            }
        })
    });
}

#[test]
fn names_of_directories_that_come_and_go() {
    let first = [Mkdir("d"), Create("f"), Create("d/x"), Mkdir("e")];
    run_all(&Names, |seed| {
        one_run(seed, &["d", "e", "f", "d/x", "d/y", "e/x"], &first, &|random, one, other| match random
            .below(17)
        {
            0 | 1 => Create(random.pick(&["d/x", "d/y", "e/x", "f"])),
            2 => Ensure(one),
            3 | 4 => Mkdir(random.pick(&["d", "e", "d/y"])),
            5..=7 => Rmdir(random.pick(&["d", "e", "d/y"])),
            8 => Unlink(one),
            9 | 10 => Rename(one, other),
            11 => Rename(random.pick(&["d", "e"]), random.pick(&["d", "e"])),
            12 => Exchange(one, other),
            13 => Link(one, other),
            14 => Open(one),
            15 => List,
            _ => Stat(one),
        })
    });
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
    check(&Names, Tree::new(), &history).is_ok()
}

const MADE: (u64, u64, Operation, Answer) = (0, 1, Create("a"), Answer::Made(7));
const GONE: Answer = Answer::Failed(Errno::ENOENT);

#[test]
fn a_rename_that_shows_both_names_or_neither_is_refused() {
    for (first, second, fine) in [
        (Answer::File(7), GONE, true),
        (GONE, Answer::File(7), true),
        // The old name, then the new one: it was moved between.
        (Answer::File(7), Answer::File(7), true),
        (GONE, GONE, false),
    ] {
        let rename = [(2, 9, Rename("a", "b"), Answer::Done)];
        let looks = [(3, 4, Stat("a"), first), (5, 6, Stat("b"), second)];
        assert_eq!(planted(&[&[MADE], &rename, &looks]), fine, "{first:?} {second:?}");
    }
    // The new name, then the old one.
    let rename = [(2, 9, Rename("a", "b"), Answer::Done)];
    let looks = [(3, 4, Stat("b"), Answer::File(7)), (5, 6, Stat("a"), Answer::File(7))];
    assert!(!planted(&[&[MADE], &rename, &looks]));
}

#[test]
fn a_name_made_twice_lost_or_risen_again_is_refused() {
    let twice = [(2, 5, Create("a"), Answer::Made(8))];
    assert!(!planted(&[&[MADE], &twice]));
    assert!(!planted(&[&[MADE], &[(2, 3, Stat("a"), GONE)]]));
    assert!(!planted(&[&[MADE], &[(2, 3, Unlink("a"), Answer::Done), (4, 5, Stat("a"), Answer::File(7))]]));
    let both_remove = [(2, 6, Unlink("a"), Answer::Done)];
    assert!(!planted(&[&[MADE], &both_remove, &[(3, 7, Unlink("a"), Answer::Done)]]));
    assert!(planted(&[&[MADE], &both_remove, &[(3, 7, Unlink("a"), GONE)]]));
}

#[test]
fn a_file_in_a_directory_that_was_removed_is_refused() {
    let setup = [(0, 1, Mkdir("d"), Answer::Done)];
    let create = [(2, 8, Create("d/x"), Answer::Made(7))];
    assert!(!planted(&[&setup, &create, &[(3, 9, Rmdir("d"), Answer::Done)]]));
    assert!(planted(&[&setup, &create, &[(3, 9, Rmdir("d"), Answer::Failed(Errno::ENOTEMPTY))]]));
    assert!(planted(&[&setup, &[(2, 8, Create("d/x"), GONE)], &[(3, 9, Rmdir("d"), Answer::Done)]]));
}

#[test]
fn an_exchange_seen_by_halves_a_wrong_listing_and_a_wrong_link_count_are_refused() {
    let files = [(0, 1, Create("a"), Answer::Made(7)), (2, 3, Create("b"), Answer::Made(8))];
    let exchange = [(4, 9, Exchange("a", "b"), Answer::Done)];
    let halves = [(5, 6, Stat("a"), Answer::File(8)), (7, 8, Stat("b"), Answer::File(8))];
    assert!(!planted(&[&files, &exchange, &halves]));
    for (names, fine) in [(&["a", "b"][..], true), (&["a"], false), (&["a", "b", "c"], false)] {
        let names = names.iter().map(|name| bit_of(name)).sum();
        assert_eq!(planted(&[&files, &exchange, &[(5, 6, List, Answer::Names(names))]]), fine);
    }
    let linked = [(4, 5, Link("a", "c"), Answer::Done)];
    for (count, fine) in [(1, false), (2, true)] {
        assert_eq!(planted(&[&files, &linked, &[(6, 7, Inspect("a"), Answer::Linked(7, count))]]), fine);
    }
    let census = |files| Answer::Inodes { files, directories: 1 };
    assert!(planted(&[&files, &linked, &[(6, 7, Census, census(2))]]));
    assert!(!planted(&[&files, &linked, &[(6, 7, Census, census(3))]]));
}
