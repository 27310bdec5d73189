//! Models of the protocols that the module's page and `record` tell. Each thread's calls are few, so that all orders of
//! their accesses can be tried; what looks up in a second step is what finds a moment with both names, or neither.

use ::loom::thread;

use ermfs_memory::sync::Arc;

use super::harness::*;
use super::*;
use crate::sync::model;

fn name(bytes: &'static [u8], hash: u32) -> Name<'static> {
    Name { bytes, hash }
}

/// Names in one chain.
fn old() -> Name<'static> {
    name(b"old", 3)
}

fn new() -> Name<'static> {
    name(b"new", 3)
}

/// Two directories, in one space.
struct World {
    space: Arc<Space>,
    here: Directory,
    there: Directory,
}

impl World {
    fn with(entries: &[(Name<'static>, usize)]) -> Arc<World> {
        let world = World { space: space(1 << 20), here: Directory::new(), there: Directory::new() };
        for (name, number) in entries {
            insert(&world.here, &world.space, *name, *number).unwrap();
        }
        Arc::new(world)
    }

    /// The directory that the target of a move is in.
    fn target(&self, across: bool) -> &Directory {
        if across { &self.there } else { &self.here }
    }

    fn end(&self) {
        dismantle(&self.here, &self.space);
        dismantle(&self.there, &self.space);
    }
}

fn spawn<R: 'static>(world: &Arc<World>, work: impl FnOnce(&World) -> R + 'static) -> thread::JoinHandle<R> {
    let world = Arc::clone(world);
    thread::spawn(move || work(&world))
}

#[test]
fn loom_insert_and_remove_against_a_look_up() {
    model(|| {
        let world = World::with(&[(name(b"kept", 3), 1), (old(), 2)]);
        let looker = spawn(&world, |world| {
            let (first, second) = (lookup(&world.here, new()), lookup(&world.here, old()));
            assert!(first.is_none() || second.is_none(), "`old` had gone before `new` came");
            assert_eq!(lookup(&world.here, name(b"kept", 3)), Some(1));
        });
        assert_eq!(remove(&world.here, &world.space, old()), Ok(2));
        insert(&world.here, &world.space, new(), 3).unwrap();
        looker.join().unwrap();
        world.end();
    });
}

#[test]
fn loom_a_new_table_against_a_look_up() {
    const NAMES: [&[u8]; 6] = [b"a", b"b", b"c", b"d", b"e", b"f"];
    model(|| {
        let entries: Vec<_> = NAMES.into_iter().map(|bytes| (name(bytes, 6), 1)).collect();
        let world = World::with(&entries);
        // The table is full now: the next one makes a new one.
        let looker = spawn(&world, |world| {
            let came = lookup(&world.here, new());
            assert_eq!(lookup(&world.here, name(b"f", 6)), Some(1));
            let still = lookup(&world.here, new());
            assert!(came.is_none() || still.is_some());
        });
        insert(&world.here, &world.space, new(), 2).unwrap();
        looker.join().unwrap();
        world.end();
    });
}

#[test]
fn loom_one_of_two_inserts_of_a_name_is_refused() {
    model(|| {
        let world = World::with(&[]);
        let other = spawn(&world, |world| insert(&world.here, &world.space, new(), 1));
        let mine = insert(&world.here, &world.space, new(), 2);
        let others = other.join().unwrap();
        let expected = match (others, mine) {
            (Ok(()), Err(Errno::EEXIST)) => 1,
            (Err(Errno::EEXIST), Ok(())) => 2,
            results => panic!("{results:?}"),
        };
        assert_eq!((lookup(&world.here, new()), world.here.len()), (Some(expected), 1));
        world.end();
    });
}

fn a_move_against_two_look_ups(across: bool) {
    model(move || {
        let world = World::with(&[(old(), 1)]);
        let looker = spawn(&world, move |world| {
            if lookup(world.target(across), new()).is_some() {
                assert_eq!(lookup(&world.here, old()), None, "both names");
            }
        });
        let other = spawn(&world, move |world| {
            if lookup(&world.here, old()).is_none() {
                assert_eq!(lookup(world.target(across), new()), Some(1), "neither name");
            }
        });
        let target = (world.target(across), new());
        assert_eq!(rename((&world.here, old()), target, false, &world.space), Ok(None));
        looker.join().unwrap();
        other.join().unwrap();
        world.end();
    });
}

#[test]
fn loom_a_name_that_changes_is_seen_once() {
    a_move_against_two_look_ups(false);
}

#[test]
fn loom_a_move_to_another_directory_is_seen_once() {
    a_move_against_two_look_ups(true);
}

#[test]
fn loom_a_replaced_name_is_always_there() {
    model(|| {
        let world = World::with(&[(old(), 1), (new(), 2)]);
        let looker = spawn(&world, |world| {
            let found = lookup(&world.here, new());
            assert!(matches!(found, Some(1 | 2)), "{found:?}");
            if found == Some(1) {
                assert_eq!(lookup(&world.here, old()), None, "both names");
            } else if lookup(&world.here, old()).is_none() {
                assert_eq!(lookup(&world.here, new()), Some(1), "neither name");
            }
        });
        assert_eq!(rename((&world.here, old()), (&world.here, new()), false, &world.space), Ok(Some(2)));
        looker.join().unwrap();
        world.end();
    });
}

#[test]
fn loom_an_exchange_is_one_moment() {
    model(|| {
        let world = World::with(&[(old(), 1)]);
        insert(&world.there, &world.space, new(), 2).unwrap();
        let looker = spawn(&world, |world| {
            let (first, second) = (lookup(&world.here, old()), lookup(&world.there, new()));
            assert!(first.is_some() && second.is_some());
            assert!(first != Some(2) || second == Some(1), "{first:?} {second:?}");
            assert!(second != Some(1) || lookup(&world.here, old()) == Some(2));
        });
        let (left, right) = ((&world.here, old()), (&world.there, new()));
        assert_eq!(rename(left, right, true, &world.space), Ok(Some(2)));
        looker.join().unwrap();
        world.end();
    });
}

/// The record is used again, and the names' words come back to what they were, while a look-up is at it.
#[test]
fn loom_two_exchanges_and_a_look_up_between_them() {
    model(|| {
        let world = World::with(&[(old(), 1), (new(), 2), (name(b"third", 3), 3)]);
        let looker = spawn(&world, |world| {
            let found = lookup(&world.here, old());
            assert!(matches!(found, Some(1..=3)), "{found:?}");
            // 1, then 2, then 3: it never goes back.
            assert!(lookup(&world.here, old()) >= found);
        });
        let (left, right) = ((&world.here, old()), (&world.here, new()));
        assert_eq!(rename(left, right, true, &world.space), Ok(Some(2)));
        assert_eq!(rename(left, (&world.here, name(b"third", 3)), true, &world.space), Ok(Some(3)));
        looker.join().unwrap();
        world.end();
    });
}

/// The name that the record of a rename points to goes at once, and its memory with it.
#[test]
fn loom_the_target_of_a_rename_goes_while_it_is_looked_at() {
    model(|| {
        let world = World::with(&[(old(), 1)]);
        let looker = spawn(&world, |world| {
            let found = lookup(&world.here, old());
            assert!(matches!(found, None | Some(1)), "{found:?}");
        });
        let target = (&world.there, new());
        assert_eq!(rename((&world.here, old()), target, false, &world.space), Ok(None));
        assert_eq!(remove(&world.there, &world.space, new()), Ok(1));
        looker.join().unwrap();
        world.end();
    });
}

#[test]
fn loom_create_against_rmdir() {
    model(|| {
        // `there` stands in `here` as `old`.
        let world = World::with(&[(old(), 1)]);
        let maker = spawn(&world, |world| {
            let made = insert(&world.there, &world.space, new(), 2);
            match made {
                Err(Errno::ENOENT) => assert_eq!(lookup(&world.here, old()), None, "gone, and yet there"),
                made => assert_eq!(made, Ok(())),
            }
            made
        });
        let gone = remove_directory(&world.here, &world.space, old(), &world.there);
        match (gone, maker.join().unwrap()) {
            (Ok(()), Err(Errno::ENOENT)) => assert_eq!(lookup(&world.there, new()), None),
            (Err(Errno::ENOTEMPTY), Ok(())) => {
                assert_eq!((lookup(&world.here, old()), lookup(&world.there, new())), (Some(1), Some(2)));
            }
            results => panic!("{results:?}"),
        }
        world.end();
    });
}
