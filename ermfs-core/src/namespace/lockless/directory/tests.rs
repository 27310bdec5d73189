//! Changes against a model, with hashes that collide and without; and look-ups against changes.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::harness::*;
use super::*;
use crate::epoch;

/// A small generator of test cases (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }
}

/// How names are hashed.
type Hash = fn(&[u8]) -> u32;

fn spread(bytes: &[u8]) -> u32 {
    bytes.iter().fold(17, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193).rotate_left(11))
}

fn three_values(bytes: &[u8]) -> u32 {
    // Far from each other, at the end of small tables, and at their start.
    [7, 0xffff_ffff, 0x8000_0000][spread(bytes) as usize % 3]
}

fn one_value(_bytes: &[u8]) -> u32 {
    5
}

const HASHES: [Hash; 3] = [spread, three_values, one_value];

/// What a directory is to be: name to number and cookie.
type Model = BTreeMap<Vec<u8>, (usize, u64)>;

fn check(directory: &Directory, model: &Model, hash: Hash) {
    let state = directory.state.lock();
    let mut expected: Vec<_> = model.iter().map(|(name, (_, cookie))| (*cookie, name.clone())).collect();
    expected.sort_unstable();
    let listed: Vec<_> =
        state.order.after(0).map(|dentry| (dentry.cookie(), dentry.name().to_vec())).collect();
    assert_eq!(listed, expected);
    for (at, (cookie, _)) in expected.iter().enumerate() {
        assert_eq!(state.order.after(*cookie).count(), expected.len() - at - 1);
        assert_eq!(state.order.after(*cookie - 1).next().map(Dentry::cookie), Some(*cookie));
    }
    drop(state);
    assert_eq!(directory.len(), model.len());
    for (name, (number, _)) in model {
        assert_eq!(lookup(directory, Name { bytes: name, hash: hash(name) }), Some(*number));
    }
    if let Some(table) = directory.table() {
        assert!(table.has_never_used_quarter(), "{}", table.capacity());
        assert!(table.capacity() <= 4 * table::capacity_for(model.len() + 1), "{}", model.len());
    }
}

/// The model's part of a rename.
fn move_in_model(models: &mut [Model; 2], from: (usize, &[u8]), to: (usize, &[u8]), exchange: bool) {
    let (number, cookie) = models[from.0][from.1];
    let replaced = models[to.0].get(to.1).copied();
    match replaced {
        Some((other, _)) if other == number => {}
        Some((other, kept)) => {
            models[to.0].insert(to.1.to_vec(), (number, kept));
            match exchange {
                true => drop(models[from.0].insert(from.1.to_vec(), (other, cookie))),
                false => drop(models[from.0].remove(from.1)),
            }
        }
        None => {
            models[from.0].remove(from.1);
            models[to.0].insert(to.1.to_vec(), (number, if from.0 == to.0 { cookie } else { 0 }));
        }
    }
}

/// New entries get their cookie in the model from the directory, after a look that it is the highest.
fn take_cookies(directory: &Directory, model: &mut Model) {
    let highest = model.values().map(|(_, cookie)| *cookie).max().unwrap_or(0);
    let state = directory.state.lock();
    for (name, (_, cookie)) in model.iter_mut().filter(|(_, (_, cookie))| *cookie == 0) {
        let dentry = state.order.after(highest).find(|dentry| dentry.name() == name);
        *cookie = dentry.expect("it comes after all others").cookie();
    }
}

fn random_changes(hash: Hash, seed: u64, names: usize, steps: usize) {
    let space = space(1 << 30);
    let directories = [Directory::new(), Directory::new()];
    let mut models = [Model::new(), Model::new()];
    let mut random = Random(seed);
    let named = |i: usize| format!("{}-{i}", &"a name that may be long, or not"[..i % 32]).into_bytes();
    for step in 0..steps {
        let (one, two) = (random.below(2), random.below(2));
        let (name, other) = (named(random.below(names)), named(random.below(names)));
        let (key, other_key) =
            (Name { bytes: &name, hash: hash(&name) }, Name { bytes: &other, hash: hash(&other) });
        // Now more is made than removed, now less.
        let making = (step / (names * 8)).is_multiple_of(2);
        match random.below(8) {
            0..4 if making => {
                let done = insert(&directories[one], &space, key, step + 1);
                match models[one].contains_key(&name) {
                    true => assert_eq!(done, Err(Errno::EEXIST)),
                    false => drop(models[one].insert(name.clone(), (step + 1, 0))),
                }
            }
            0..6 => {
                let done = remove(&directories[one], &space, key);
                let expected = models[one].remove(&name).map(|(number, _)| number);
                assert_eq!(done, expected.ok_or(Errno::ENOENT));
            }
            what => {
                let exchange = what == 6;
                let (from, to) = ((&directories[one], key), (&directories[two], other_key));
                let done = rename(from, to, exchange, &space);
                let there = models[two].get(&other).map(|(number, _)| *number);
                if !models[one].contains_key(&name) || exchange && there.is_none() {
                    assert_eq!(done, Err(Errno::ENOENT));
                } else {
                    assert_eq!(done, Ok(there));
                    move_in_model(&mut models, (one, &name), (two, &other), exchange);
                }
            }
        }
        for (directory, model) in directories.iter().zip(&mut models) {
            take_cookies(directory, model);
        }
        if step % 7 == 0 || names < 20 {
            directories.iter().zip(&models).for_each(|(directory, model)| check(directory, model, hash));
        }
        for absent in (0..names).map(named).filter(|name| !models[one].contains_key(name)).take(3) {
            let absent = Name { bytes: &absent, hash: hash(&absent) };
            assert_eq!(lookup(&directories[one], absent), None);
        }
    }
    directories.iter().for_each(|directory| dismantle(directory, &space));
    all_comes_back(&space);
}

fn all_comes_back(space: &Space) {
    let start = Instant::now();
    while space.budget().usage().total > 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", space.budget().usage());
        epoch::flush();
        std::thread::yield_now();
    }
}

#[test]
fn random_changes_do_as_a_model_does() {
    for (i, hash) in HASHES.into_iter().enumerate() {
        for names in [3, 12, 60] {
            random_changes(hash, 0x9e37_79b9 + (i * 100 + names) as u64, names, 6_000);
        }
    }
    random_changes(spread, 0x5eed, 1000, 30_000);
}

#[test]
fn tombstones_do_not_pile_up() {
    for hash in HASHES {
        let (space, directory) = (space(1 << 20), Directory::new());
        let kept = Name { bytes: b"kept", hash: hash(b"kept") };
        insert(&directory, &space, kept, 1).unwrap();
        for i in 0..5_000 {
            let bytes = format!("n{i}").into_bytes();
            let name = Name { bytes: &bytes, hash: hash(&bytes) };
            insert(&directory, &space, name, 2).unwrap();
            assert_eq!((lookup(&directory, name), lookup(&directory, kept)), (Some(2), Some(1)));
            assert_eq!(remove(&directory, &space, name), Ok(2));
            assert_eq!((lookup(&directory, name), lookup(&directory, kept)), (None, Some(1)));
            assert_eq!(directory.table().unwrap().capacity(), 8);
        }
        dismantle(&directory, &space);
        all_comes_back(&space);
    }
}

#[test]
fn what_was_large_gives_its_memory_back() {
    let (space, directory) = (space(1 << 30), Directory::new());
    let names: Vec<Vec<u8>> = (0..20_000).map(|i| format!("name-number-{i:04}").into_bytes()).collect();
    let name = |i: usize| Name { bytes: &names[i], hash: spread(&names[i]) };
    (0..names.len()).for_each(|i| insert(&directory, &space, name(i), i + 1).unwrap());
    all_settles(&space);
    let each = space.budget().usage().total / names.len() as u64;
    assert!(each <= 80, "{each} bytes an entry");
    for i in 0..names.len() - 10 {
        assert_eq!(remove(&directory, &space, name(i * 7919 % names.len())), Ok(i * 7919 % names.len() + 1));
    }
    all_settles(&space);
    assert!(space.budget().usage().total < 2_000, "{:?}", space.budget().usage());
    dismantle(&directory, &space);
    all_comes_back(&space);
}

/// Waits until nothing that was retired is charged.
fn all_settles(space: &Space) {
    let start = Instant::now();
    while space.has_garbage() {
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", space.budget().usage());
        epoch::flush();
        std::thread::yield_now();
    }
}

#[test]
fn removing_and_replacing_need_no_room() {
    let (space, directories) = (space(40_000), [Directory::new(), Directory::new()]);
    let names: Vec<Vec<u8>> = (0..2_000).map(|i| format!("a-name-of-its-own-{i}").into_bytes()).collect();
    let name = |i: usize| Name { bytes: &names[i], hash: spread(&names[i]) };
    let of = |i: usize| &directories[i % 2];
    let made = (0..names.len()).take_while(|i| insert(of(*i), &space, name(*i), i + 1).is_ok()).count();
    assert!(made > 100 && made < names.len());
    let room = space.budget().usage().max - space.budget().usage().total;
    let reserved = space.budget().charge(Kind::Metadata, room, Purpose::Reserved);
    assert_eq!((reserved, space.budget().usage().total), (Ok(()), 40_000));
    for i in 0..10 {
        let (one, two) = (2 * i, 2 * i + 1);
        let done = rename((of(one), name(one)), (of(two), name(two)), true, &space);
        assert_eq!(done, Ok(Some(two + 1)));
        let done = rename((of(one), name(one)), (of(two), name(two)), false, &space);
        assert_eq!(done, Ok(Some(one + 1)));
        assert_eq!(lookup(of(two), name(two)), Some(two + 1));
        assert_eq!(remove(of(one), &space, name(one)), Err(Errno::ENOENT));
    }
    for i in 20..made {
        assert_eq!(remove(of(i), &space, name(i)), Ok(i + 1));
    }
    space.release(Kind::Metadata, room);
    directories.iter().for_each(|directory| dismantle(directory, &space));
    all_comes_back(&space);
}

/// Runs `look` in three threads while `change` runs.
fn race(change: impl FnOnce() + Send, look: impl Fn() + Sync) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    look();
                }
            });
        }
        scope.spawn(|| {
            change();
            done.store(true, SeqCst);
        });
    });
}

#[test]
fn a_look_up_never_misses_what_nobody_touches() {
    for hash in HASHES {
        let (space, directory) = (space(1 << 30), Directory::new());
        let names: Vec<Vec<u8>> = (0..240).map(|i| format!("n{i}").into_bytes()).collect();
        let name = |i: usize| Name { bytes: &names[i], hash: hash(&names[i]) };
        // Every fourth stays.
        (0..names.len()).step_by(4).for_each(|i| insert(&directory, &space, name(i), i + 1).unwrap());
        let change = || {
            for round in 0..60 {
                // Fewer at a time in some rounds, so that tables grow and shrink.
                let these = || (0..names.len() / (1 + round % 5)).filter(|i| i % 4 != 0);
                these().for_each(|i| insert(&directory, &space, name(i), i + 1).unwrap());
                these().for_each(|i| assert_eq!(remove(&directory, &space, name(i)), Ok(i + 1)));
            }
        };
        race(change, || {
            for i in 0..names.len() {
                let found = lookup(&directory, name(i));
                assert!(found == Some(i + 1) || found.is_none() && i % 4 != 0, "{i}: {found:?}");
            }
        });
        dismantle(&directory, &space);
        all_comes_back(&space);
    }
}

#[test]
fn a_moving_inode_has_one_name_at_a_time() {
    const MOVES: usize = 30_000;
    let (space, directories) = (space(1 << 30), [Directory::new(), Directory::new()]);
    let names: Vec<Vec<u8>> = (0..MOVES + 2).map(|i| i.to_string().into_bytes()).collect();
    let name = |i: usize| Name { bytes: &names[i], hash: spread(&names[i]) };
    // Two moves within a directory, one to the other, and so on.
    let of = |i: usize| &directories[i / 3 % 2];
    let done = AtomicUsize::new(0);
    insert(of(0), &space, name(0), 1).unwrap();
    let change = || {
        for i in 0..MOVES {
            assert_eq!(rename((of(i), name(i)), (of(i + 1), name(i + 1)), false, &space), Ok(None));
            done.store(i + 1, SeqCst);
        }
    };
    race(change, || {
        let now = done.load(SeqCst);
        if lookup(of(now + 1), name(now + 1)).is_some() {
            assert_eq!(lookup(of(now), name(now)), None, "both names of move {now}");
        }
        let now = done.load(SeqCst);
        if lookup(of(now), name(now)).is_none() && lookup(of(now + 1), name(now + 1)).is_none() {
            assert!(done.load(SeqCst) > now, "neither name of move {now}");
        }
    });
    directories.iter().for_each(|directory| dismantle(directory, &space));
    all_comes_back(&space);
}

#[test]
fn a_name_that_is_replaced_or_exchanged_is_always_there() {
    let (space, directories) = (space(1 << 30), [Directory::new(), Directory::new()]);
    let [here, there] = &directories;
    let name = |bytes: &'static [u8]| Name { bytes, hash: 3 };
    insert(there, &space, name(b"target"), 1).unwrap();
    insert(here, &space, name(b"left"), 2).unwrap();
    insert(there, &space, name(b"right"), 3).unwrap();
    let change = || {
        for i in 4..30_000 {
            insert(here, &space, name(b"temporary"), i).unwrap();
            let from = if i % 2 == 0 { here } else { there };
            if i % 2 == 1 {
                rename((here, name(b"temporary")), (there, name(b"temporary")), false, &space).unwrap();
            }
            rename((from, name(b"temporary")), (there, name(b"target")), false, &space).unwrap();
            let sides = [(here, name(b"left")), (there, name(b"right"))];
            let sides = if i % 2 == 0 { [sides[0], sides[1]] } else { [sides[1], sides[0]] };
            rename(sides[0], sides[1], true, &space).unwrap();
        }
    };
    let newest = AtomicUsize::new(0);
    race(change, || {
        let before = newest.load(SeqCst);
        let found = lookup(there, name(b"target")).expect("it is always there");
        assert!(found >= before, "{found} after {before}");
        newest.fetch_max(found, SeqCst);
        let sides = [lookup(here, name(b"left")), lookup(there, name(b"right"))];
        assert!(sides.iter().all(|side| matches!(side, Some(2 | 3))), "{sides:?}");
    });
    directories.iter().for_each(|directory| dismantle(directory, &space));
    all_comes_back(&space);
}

#[test]
fn nothing_comes_into_a_directory_that_is_gone() {
    for round in 0..2_000 {
        let (space, parent, child) = (space(1 << 20), Directory::new(), Directory::new());
        let name = Name { bytes: b"name", hash: 1 };
        insert(&parent, &space, name, 1).unwrap();
        let (made, gone) = std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                let made = insert(&child, &space, name, 2);
                if made == Err(Errno::ENOENT) {
                    assert_eq!(lookup(&parent, name), None, "gone for one, there for another");
                }
                made
            });
            let gone = remove_directory(&parent, &space, name, &child);
            (made.join().unwrap(), gone)
        });
        match gone {
            Ok(()) => assert_eq!((made, lookup(&child, name)), (Err(Errno::ENOENT), None), "{round}"),
            Err(error) => {
                assert_eq!((error, made), (Errno::ENOTEMPTY, Ok(())));
                assert_eq!((lookup(&parent, name), lookup(&child, name)), (Some(1), Some(2)));
            }
        }
        dismantle(&parent, &space);
        dismantle(&child, &space);
        all_comes_back(&space);
    }
}
