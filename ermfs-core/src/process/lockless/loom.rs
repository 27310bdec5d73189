//! Models of the descriptor table: every order of two or three threads' accesses.

use super::Table;
use crate::errno::{Errno, Result};
use crate::process::fd_table::{FIRST_FD, FdTable};
use crate::process::reclaim::{ByEpoch, Ends};
use crate::sync::atomic::{
    AtomicU32,
    Ordering::{Relaxed, Release},
};
use crate::sync::model;
use ::loom::cell::UnsafeCell;
use ::loom::sync::Arc;
use ::loom::thread::{self, JoinHandle};
use ermfs_memory::Counted;

const FD: i32 = FIRST_FD;
/// What is read of a description that has ended.
const ENDED: u32 = 1000;

/// Stands for a description, and the inode it holds.
struct Payload {
    /// What readers are told; changed by the end.
    answer: AtomicU32,
    /// What who holds a reference writes, and the end reads: packing.
    written: UnsafeCell<u32>,
    ends: Arc<AtomicU32>,
}

// SAFETY: loom looks whether accesses of `written` are ordered.
unsafe impl Sync for Payload {}

impl Ends for Payload {
    fn end(&self) {
        // SAFETY: every former holder's writes happened before; loom looks.
        self.written.with_mut(|it| unsafe { *it += 1 });
        self.answer.store(ENDED, Release);
        self.ends.fetch_add(1, Relaxed);
    }
}

type File = Counted<Payload, ByEpoch>;

/// A table, and how many of its descriptions have ended.
struct World {
    table: Table<Payload, ByEpoch>,
    ends: Arc<AtomicU32>,
}

impl World {
    /// With the number `FD` open and answering 1.
    fn new(capacity: usize) -> Arc<World> {
        let world = World { table: Table::new(capacity).unwrap(), ends: Arc::new(AtomicU32::new(0)) };
        assert_eq!(world.open(1), Ok(FD));
        Arc::new(world)
    }

    fn file(&self, answer: u32) -> File {
        let (answer, written) = (AtomicU32::new(answer), UnsafeCell::new(0));
        let made = Counted::try_new_reclaimed(Payload { answer, written, ends: self.ends.clone() });
        made.map_err(|(error, _)| error).unwrap()
    }

    fn open(&self, answer: u32) -> Result<i32> {
        let fd = self.table.claim(0, false)?;
        self.table.install(fd, self.file(answer), false);
        Ok(fd)
    }

    fn close(&self, fd: i32) -> Result<()> {
        self.table.remove(fd).map(drop)
    }

    fn dup2(&self, answer: u32, fd: i32) -> Result<bool> {
        self.table.replace(fd, self.file(answer), false).map(|before| before.is_some())
    }

    /// As fstat: by a pin, and where the description ended under it by a reference to what is there then.
    fn read(&self, fd: i32) -> Result<u32> {
        let read = |file: &Payload| file.answer.load(Relaxed);
        self.table.with(fd, &mut (), |file, ()| Some(Ok(read(file))), |file, ()| Ok(read(file)))
    }

    /// As write: by a reference.
    fn write(&self, fd: i32) -> Result<u32> {
        let file = self.table.lookup(fd)?;
        // SAFETY: one thread of a model writes; loom looks.
        file.written.with_mut(|it| unsafe { *it += 1 });
        Ok(file.answer.load(Relaxed))
    }

    fn ends(&self) -> u32 {
        self.ends.load(Relaxed)
    }
}

fn spawn<R: 'static>(world: &Arc<World>, work: impl FnOnce(&World) -> R + 'static) -> JoinHandle<R> {
    let world = world.clone();
    thread::spawn(move || work(&world))
}

#[test]
fn loom_close_against_a_pinned_reader() {
    model(|| {
        let world = World::new(1);
        let reader = spawn(&world, |world| world.read(FD));
        assert_eq!(world.close(FD), Ok(()));
        let read = reader.join().unwrap();
        assert!(matches!(read, Ok(1) | Err(Errno::EBADF)), "{read:?}");
        assert_eq!((world.ends(), world.table.used()), (1, 0));
    });
}

#[test]
fn loom_last_close_against_a_writer_under_way() {
    model(|| {
        let world = World::new(1);
        let writer = spawn(&world, |world| world.write(FD));
        assert_eq!(world.close(FD), Ok(()));
        let written = writer.join().unwrap();
        assert!(matches!(written, Ok(1) | Err(Errno::EBADF)), "{written:?}");
        assert_eq!(world.ends(), 1);
    });
}

#[test]
fn loom_two_closes_of_one_number_and_an_open() {
    model(|| {
        let world = World::new(1);
        let closer = spawn(&world, |world| world.close(FD));
        let opener = spawn(&world, |world| world.open(2));
        let mine = world.close(FD);
        let (others, opened) = (closer.join().unwrap(), opener.join().unwrap());
        let closed = [mine, others].iter().filter(|closed| closed.is_ok()).count() as u32;
        let descriptions = 1 + u32::from(opened.is_ok());
        assert!(closed >= 1 && closed <= descriptions);
        assert!(matches!(opened, Ok(FD) | Err(Errno::EMFILE)));
        assert_eq!((world.ends(), world.table.used() as u32), (closed, descriptions - closed));
    });
}

#[test]
fn loom_dup2_against_close_and_a_reader() {
    model(|| {
        let world = World::new(1);
        let closer = spawn(&world, |world| world.close(FD));
        let reader = spawn(&world, |world| world.read(FD));
        let replaced = world.dup2(2, FD);
        assert_eq!(closer.join().unwrap(), Ok(()));
        let read = reader.join().unwrap();
        assert!(matches!(read, Ok(1 | 2) | Err(Errno::EBADF)), "{read:?}");
        match replaced {
            // Before the close, or between its two steps: what was put in, or not, is gone.
            Ok(true) | Err(Errno::EBUSY) => assert_eq!((world.ends(), world.table.used()), (2, 0)),
            // After it.
            Ok(false) => {
                assert_eq!((world.ends(), world.read(FD)), (1, Ok(2)));
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn loom_open_against_a_reader_and_a_writer() {
    model(|| {
        let world = World::new(2);
        let opener = spawn(&world, |world| world.open(2));
        let reader = spawn(&world, |world| world.read(FD + 1));
        let written = world.write(FD + 1);
        assert_eq!(opener.join().unwrap(), Ok(FD + 1));
        let read = reader.join().unwrap();
        for answer in [read, written] {
            assert!(matches!(answer, Ok(2) | Err(Errno::EBADF)), "{answer:?}");
        }
        assert_eq!(world.close(FD + 1), Ok(()));
        assert_eq!(world.ends(), 1);
    });
}

#[test]
fn loom_two_openers_of_the_last_number() {
    model(|| {
        let world = World::new(2);
        let opener = spawn(&world, |world| world.open(2));
        let mine = world.open(3);
        let others = opener.join().unwrap();
        match (mine, others) {
            (Ok(fd), Err(Errno::EMFILE)) => assert_eq!((fd, world.read(fd)), (FD + 1, Ok(3))),
            (Err(Errno::EMFILE), Ok(fd)) => assert_eq!((fd, world.read(fd)), (FD + 1, Ok(2))),
            other => panic!("{other:?}"),
        }
    });
}
