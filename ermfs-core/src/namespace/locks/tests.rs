//! Ranges beside a map of bytes, waiting and waking, cycles, signals, memory.

use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::fs::{Config, Fs};
use crate::namespace::{At, InodeRef, OpenHow};

const MAX: u64 = LOCK_TO_END;

fn file_in(fs: &Arc<Fs>, name: &str) -> Result<InodeRef> {
    let how = OpenHow { read: true, write: true, create: true, mode: 0o600, ..OpenHow::default() };
    let at = At { fs, dir: &fs.root(), who: fs.credentials(), umask: 0 };
    Fs::open(at, name.as_bytes(), &how).map(|(inode, _)| inode)
}

fn a_file() -> (Arc<Fs>, InodeRef) {
    let fs = Fs::new(&Config::default()).unwrap();
    let file = file_in(&fs, "f").unwrap();
    (fs, file)
}

fn process(id: u64) -> LockOwner {
    LockOwner::Process(id)
}

fn lock(owner: LockOwner, exclusive: bool, start: u64, end: u64) -> Lock {
    let pid = if let LockOwner::Process(id) = owner { id as i32 } else { -1 };
    Lock { owner, pid, exclusive, start, end }
}

fn set(file: &InodeRef, lock: Lock) -> Result<()> {
    file.set_lock(LockKind::Record, &lock, OnConflict::Fail).map(|ended| assert_eq!(ended, Ended::Granted))
}

fn set_waiting(file: &InodeRef, lock: Lock) -> Result<()> {
    let ended = file.set_lock(LockKind::Record, &lock, OnConflict::Wait(None));
    ended.map(|ended| assert_eq!(ended, Ended::Granted))
}

fn unset(file: &InodeRef, owner: LockOwner, start: u64, end: u64) -> Result<()> {
    file.unlock(LockKind::Record, owner, start, end)
}

fn flock(file: &InodeRef, owner: u64, exclusive: bool, wait: bool) -> Result<()> {
    let on_conflict = if wait { OnConflict::Wait(None) } else { OnConflict::Fail };
    let lock = Lock::whole(LockOwner::Description(owner), exclusive);
    file.set_lock(LockKind::Flock, &lock, on_conflict).map(|ended| assert_eq!(ended, Ended::Granted))
}

/// What is locked, in the list's order.
fn held(file: &InodeRef) -> Vec<(LockOwner, bool, u64, u64)> {
    let table = file.lock_table();
    let entry = table.entries.get(file.ino);
    assert_eq!(entry.is_some(), file.has_locks());
    let list = entry.map_or(&[][..], |entry| entry.records.list());
    list.iter().map(|it| (it.owner, it.exclusive, it.start, it.end)).collect()
}

fn waiting(file: &InodeRef) -> usize {
    file.lock_table().waiters.len()
}

fn until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "it does not come to pass");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// A file's bytes as so many cells: each of the first and last few alone, all between them as one.
const EDGE: u64 = 12;
const CELLS: usize = 2 * EDGE as usize + 1;

fn first_byte(cell: usize) -> u64 {
    if cell <= EDGE as usize { cell as u64 } else { MAX - (CELLS - 1 - cell) as u64 }
}

fn last_byte(cell: usize) -> u64 {
    if cell + 1 == CELLS { MAX } else { first_byte(cell + 1) - 1 }
}

/// Which lock each owner has on each cell, and the owners by their first lock.
struct Model {
    owners: Vec<LockOwner>,
    cells: [Vec<Option<bool>>; 4],
}

impl Model {
    fn list(&self, owner: LockOwner) -> Vec<(LockOwner, bool, u64, u64)> {
        let mut list: Vec<(LockOwner, bool, u64, u64)> = Vec::new();
        let mut before = None;
        for (cell, now) in self.cells[index(owner)].iter().enumerate() {
            match (now, list.last_mut()) {
                (Some(exclusive), Some(last)) if before == Some(*exclusive) => last.3 = last_byte(cell),
                (Some(exclusive), _) => list.push((owner, *exclusive, first_byte(cell), last_byte(cell))),
                (None, _) => {}
            }
            before = *now;
        }
        list
    }

    fn conflicts(&self, owner: LockOwner, exclusive: bool, cells: &[usize]) -> bool {
        let others = (0..4).filter(|other| *other != index(owner));
        others.flat_map(|other| cells.iter().map(move |cell| self.cells[other][*cell])).any(|cell| match cell
        {
            Some(theirs) => theirs || exclusive,
            None => false,
        })
    }

    fn put(&mut self, owner: LockOwner, cells: &[usize], value: Option<bool>) {
        for cell in cells {
            self.cells[index(owner)][*cell] = value;
        }
        let has = self.cells[index(owner)].iter().any(Option::is_some);
        let known = self.owners.contains(&owner);
        if has && !known {
            self.owners.push(owner);
        } else if !has {
            self.owners.retain(|other| *other != owner);
        }
    }
}

const OWNERS: [LockOwner; 4] =
    [LockOwner::Process(1), LockOwner::Process(2), LockOwner::Description(1), LockOwner::Description(2)];

fn index(owner: LockOwner) -> usize {
    OWNERS.iter().position(|it| *it == owner).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ranges_are_a_map_of_bytes(
        steps in proptest::collection::vec((0..4usize, 0..7u8, 0..CELLS, 0..CELLS), 1..120)
    ) {
        let (fs, file) = a_file();
        let before = fs.space().budget().usage().metadata;
        let mut model = Model { owners: Vec::new(), cells: core::array::from_fn(|_| vec![None; CELLS]) };
        for (owner, what, one, other) in steps {
            let owner = OWNERS[owner];
            let cells: Vec<usize> = (one.min(other)..=one.max(other)).collect();
            let (start, end) = (first_byte(cells[0]), last_byte(cells[cells.len() - 1]));
            if what >= 5 {
                prop_assert_eq!(unset(&file, owner, start, end), Ok(()));
                model.put(owner, &cells, None);
            } else {
                let exclusive = what < 3;
                let wanted = lock(owner, exclusive, start, end);
                let refused = model.conflicts(owner, exclusive, &cells);
                prop_assert_eq!(file.conflicting_lock(&wanted).is_some(), refused);
                prop_assert_eq!(set(&file, wanted), if refused { Err(Errno::EAGAIN) } else { Ok(()) });
                if !refused {
                    model.put(owner, &cells, Some(exclusive));
                }
            }
            let expected: Vec<_> = model.owners.iter().flat_map(|owner| model.list(*owner)).collect();
            prop_assert_eq!(held(&file), expected);
        }
        for owner in OWNERS {
            file.unlock_all(owner);
        }
        prop_assert!(!file.has_locks());
        prop_assert_eq!(fs.space().budget().usage().metadata, before);
    }
}

#[test]
fn borders_are_exact() {
    let (_fs, file) = a_file();
    let (one, two) = (process(1), process(2));
    set(&file, lock(one, true, 10, 19)).unwrap();
    for (start, end, free) in
        [(0, 9, true), (0, 10, false), (19, 19, false), (20, MAX, true), (0, MAX, false)]
    {
        assert_eq!(set(&file, lock(two, false, start, end)).is_ok(), free, "{start}..={end}");
        unset(&file, two, 0, MAX).unwrap();
    }
    set(&file, lock(one, true, 20, 20)).unwrap();
    set(&file, lock(one, true, 9, 9)).unwrap();
    assert_eq!(held(&file), [(one, true, 9, 20)]);
    // Types that touch stay apart; one that is put between two joins them.
    set(&file, lock(one, false, 12, 14)).unwrap();
    assert_eq!(held(&file), [(one, true, 9, 11), (one, false, 12, 14), (one, true, 15, 20)]);
    set(&file, lock(one, true, 12, 14)).unwrap();
    assert_eq!(held(&file), [(one, true, 9, 20)]);
    set(&file, lock(one, true, MAX - 1, MAX)).unwrap();
    unset(&file, one, MAX, MAX).unwrap();
    assert_eq!(held(&file), [(one, true, 9, 20), (one, true, MAX - 1, MAX - 1)]);
    let seen = file.conflicting_lock(&lock(two, false, 20, MAX)).unwrap();
    assert_eq!((seen.start, seen.end, seen.pid), (9, 20, 1));
    assert_eq!(file.own_lock(one, 21, MAX).map(|it| it.start), Some(MAX - 1));
    assert_eq!((file.own_lock(one, 21, 22), file.own_lock(two, 0, MAX)), (None, None));
}

#[test]
fn flock_and_record_locks_do_not_meet() {
    let (_fs, file) = a_file();
    let description = LockOwner::Description(1);
    set(&file, lock(description, true, 0, MAX)).unwrap();
    flock(&file, 2, true, false).unwrap();
    assert_eq!(flock(&file, 1, false, false), Err(Errno::EAGAIN));
    // A change of type that fails has given up the lock.
    flock(&file, 2, false, false).unwrap();
    flock(&file, 1, false, false).unwrap();
    assert_eq!(flock(&file, 1, true, false), Err(Errno::EAGAIN));
    assert_eq!(flock(&file, 2, true, false), Ok(()));
    file.unlock_all(LockOwner::Description(2));
    assert_eq!(held(&file), [(description, true, 0, MAX)]);
    file.unlock_all(description);
    assert!(!file.has_locks());
}

#[test]
fn who_waits_is_woken_in_the_order_of_coming() {
    let (_fs, file) = a_file();
    let order = AtomicU32::new(0);
    set(&file, lock(process(99), true, 0, MAX)).unwrap();
    std::thread::scope(|scope| {
        for id in 1..=6u64 {
            let (file, order) = (&file, &order);
            scope.spawn(move || {
                set_waiting(file, lock(process(id), true, 5 * id, MAX)).unwrap();
                assert_eq!(u64::from(order.fetch_add(1, SeqCst)) + 1, id);
                unset(file, process(id), 0, MAX).unwrap();
            });
            until(|| waiting(file) == id as usize);
        }
        unset(&file, process(99), 0, MAX).unwrap();
    });
    assert_eq!((order.load(SeqCst), waiting(&file), file.has_locks()), (6, 0, false));
}

#[test]
fn a_weaker_lock_lets_readers_in() {
    let (_fs, file) = a_file();
    set(&file, lock(process(9), true, 0, MAX)).unwrap();
    let inside = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for id in 1..=3 {
            let (file, inside) = (&file, &inside);
            scope.spawn(move || {
                set_waiting(file, lock(process(id), false, 0, id)).unwrap();
                inside.fetch_add(1, SeqCst);
                until(|| inside.load(SeqCst) == 3);
                file.unlock_all(process(id));
            });
        }
        scope.spawn(|| {
            flock(&file, 1, true, true).unwrap();
            flock(&file, 1, false, true).unwrap();
        });
        until(|| waiting(&file) == 3);
        set(&file, lock(process(9), false, 0, MAX)).unwrap();
    });
    assert_eq!(held(&file), [(process(9), false, 0, MAX)]);
}

#[test]
fn cycles_of_two_and_three_are_refused() {
    let (fs, file) = a_file();
    let other = file_in(&fs, "g").unwrap();
    for count in [2u64, 3, 12] {
        // Owner n holds byte n, of one file or the other, and waits for the next one's.
        let place = |id: u64| if id.is_multiple_of(2) { &file } else { &other };
        for id in 0..count {
            set(place(id), lock(process(id), true, id, id)).unwrap();
        }
        std::thread::scope(|scope| {
            for id in 0..count - 1 {
                let place = &place;
                scope.spawn(move || {
                    set_waiting(place(id + 1), lock(process(id), id > 0, id + 1, id + 1)).unwrap();
                    file_done(place(id), place(id + 1), id);
                });
                until(|| waiting(&file) == id as usize + 1);
            }
            let last = process(count - 1);
            assert_eq!(set_waiting(place(0), lock(last, false, 0, 0)), Err(Errno::EDEADLK));
            assert_eq!(set(place(0), lock(last, false, 0, 0)), Err(Errno::EAGAIN));
            // No cycle: what it waits for is what nobody waits for it to give up.
            file_done(place(count - 1), place(count - 1), count - 1);
        });
        assert_eq!((waiting(&file), file.has_locks(), other.has_locks()), (0, false, false));
    }
}

/// Linux looks through a description that holds what a process would wait for, and no further.
#[test]
fn a_cycle_through_one_description_is_refused() {
    let (_fs, file) = a_file();
    let (own, first, second) = (process(1), LockOwner::Description(7), LockOwner::Description(8));
    for (owner, at) in [(own, 0), (first, 1), (second, 2)] {
        set(&file, lock(owner, true, at, at)).unwrap();
    }
    std::thread::scope(|scope| {
        let wait = |owner, at| {
            let file = &file;
            scope.spawn(move || {
                set_waiting(file, lock(owner, true, at, at)).unwrap();
                file.unlock_all(owner);
            });
        };
        wait(first, 0);
        until(|| waiting(&file) == 1);
        assert_eq!(set_waiting(&file, lock(own, true, 1, 1)), Err(Errno::EDEADLK));
        assert_eq!(set_waiting(&file, lock(process(1), false, 0, MAX)), Err(Errno::EDEADLK));
        wait(second, 1);
        until(|| waiting(&file) == 2);
        // 1 waits for 8, 8 for 7, 7 for 1: told to nobody.
        wait(own, 2);
        until(|| waiting(&file) == 3);
        unset(&file, own, 0, 0).unwrap();
    });
    // A description that closes the cycle is not told either.
    set(&file, lock(own, true, 0, 0)).unwrap();
    set(&file, lock(first, true, 1, 1)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| set_waiting(&file, lock(own, true, 1, 1)).unwrap());
        until(|| waiting(&file) == 1);
        scope.spawn(|| set_waiting(&file, lock(first, true, 0, 0)).unwrap());
        until(|| waiting(&file) == 2);
        unset(&file, own, 0, 0).unwrap();
        until(|| waiting(&file) == 1);
        file.unlock_all(first);
    });
    file.unlock_all(own);
    assert_eq!((file.has_locks(), waiting(&file)), (false, 0));
}

fn file_done(one: &InodeRef, other: &InodeRef, id: u64) {
    one.unlock_all(process(id));
    other.unlock_all(process(id));
}

extern "C" fn on_signal(_: i32) {}

/// Has `signal` interrupt, with or without SA_RESTART.
fn handle(signal: i32, flags: i32) {
    // SAFETY: a sigaction of zeros but for the handler, which does nothing, and its flags.
    unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = flags;
        assert_eq!(libc::sigaction(signal, &action, core::ptr::null_mut()), 0);
    }
}

#[test]
fn a_signal_ends_the_wait() {
    handle(libc::SIGUSR1, 0);
    let (_fs, file) = a_file();
    set(&file, lock(process(1), true, 0, MAX)).unwrap();
    flock(&file, 1, true, false).unwrap();
    for kind in [LockKind::Record, LockKind::Flock] {
        std::thread::scope(|scope| {
            let (tell, told) = std::sync::mpsc::channel();
            let waiter = scope.spawn({
                let file = &file;
                move || {
                    // SAFETY: asks for the thread's own id.
                    tell.send(unsafe { libc::pthread_self() }).unwrap();
                    let lock = Lock::whole(LockOwner::Description(2), false);
                    file.set_lock(kind, &lock, OnConflict::Wait(None))
                }
            });
            let thread = told.recv().unwrap();
            until(|| waiting(&file) == 1);
            until(|| {
                // SAFETY: the thread is not joined yet.
                assert_eq!(unsafe { libc::pthread_kill(thread, libc::SIGUSR1) }, 0);
                std::thread::sleep(Duration::from_millis(5));
                waiter.is_finished()
            });
            assert_eq!(waiter.join().unwrap(), Err(Errno::EINTR));
        });
        assert_eq!(waiting(&file), 0);
    }
    // Nothing is left of those who gave up.
    file.unlock_all(process(1));
    set(&file, lock(process(2), true, 0, MAX)).unwrap();
    assert_eq!(held(&file).len(), 1);
}

#[test]
fn threads_never_hold_it_together() {
    let (fs, file) = a_file();
    let before = fs.space().budget().usage().metadata;
    let (writers, readers) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for id in 0..6u64 {
            let (file, writers, readers) = (&file, &writers, &readers);
            scope.spawn(move || {
                for round in 0..600u64 {
                    let exclusive = (round + id) % 3 > 0;
                    let whole = round % 2 == 0;
                    let (kind, owner) = (LockKind::Record, LockOwner::Description(id));
                    let (start, end) = if whole { (0, MAX) } else { (50 - id, 50 + id + round) };
                    let wanted = lock(owner, exclusive, start, end);
                    match file.set_lock(kind, &wanted, OnConflict::Wait(None)) {
                        Ok(Ended::Granted) => {}
                        other => panic!("{other:?}"),
                    }
                    // Every range has byte 50.
                    if exclusive {
                        assert_eq!((writers.fetch_add(1, SeqCst), readers.load(SeqCst)), (0, 0));
                        writers.fetch_sub(1, SeqCst);
                    } else {
                        readers.fetch_add(1, SeqCst);
                        assert_eq!(writers.load(SeqCst), 0);
                        readers.fetch_sub(1, SeqCst);
                    }
                    if round % 5 == 0 {
                        unset(file, owner, 49, 51).unwrap();
                    }
                    unset(file, owner, 0, MAX).unwrap();
                }
            });
        }
    });
    assert_eq!((file.has_locks(), waiting(&file)), (false, 0));
    assert_eq!(fs.space().budget().usage().metadata, before);
}

#[test]
fn without_room_there_are_no_locks() {
    let (mut refused, mut complete) = (0, 0);
    for max in (4_000..60_000).step_by(977) {
        let Ok(fs) = Fs::new(&Config { max_bytes: max, ..Config::default() }) else { continue };
        let Ok(files) = (0..10).map(|i| file_in(&fs, &format!("f{i}"))).collect::<Result<Vec<_>>>() else {
            continue;
        };
        let before = fs.space().budget().usage().total;
        let mut full = false;
        for i in 0..300u64 {
            let file = &files[i as usize % 10];
            let (charged, list) = (fs.space().budget().usage().total, held(file));
            match set(file, lock(process(1), true, 1000 * i, 1000 * i + 100)) {
                Ok(()) => assert_eq!(held(file).len(), list.len() + 1),
                Err(error) => {
                    assert_eq!((error, held(file)), (Errno::ENOLCK, list));
                    // What was retired before may have been freed meanwhile.
                    assert!(fs.space().budget().usage().total <= charged);
                    full = true;
                }
            }
        }
        // Giving up needs no room, unless a lock is cut in two.
        let cut = unset(&files[0], process(1), 50, 60);
        assert!(cut == Ok(()) || cut == Err(Errno::ENOLCK));
        for file in &files {
            unset(file, process(1), 0, 40).unwrap();
            unset(file, process(1), 0, MAX).unwrap();
            assert!(!file.has_locks());
        }
        assert!(fs.space().budget().usage().total <= before);
        (refused, complete) = (refused + u32::from(full), complete + u32::from(!full));
    }
    assert!(refused > 0 && complete > 0, "{refused} refused, {complete} complete");
}

#[test]
fn locks_go_with_their_inode() {
    let (fs, file) = a_file();
    let before = fs.space().budget().usage().metadata;
    for i in 0..100u64 {
        let other = file_in(&fs, &format!("o{i}")).unwrap();
        set(&other, lock(process(1), true, 0, 0)).unwrap();
        Fs::unlink(
            At { fs: &fs, dir: &fs.root(), who: fs.credentials(), umask: 0 },
            format!("o{i}").as_bytes(),
        )
        .unwrap();
        assert_eq!(held(&other).len(), 1);
    }
    assert!(!file.has_locks());
    until(|| {
        crate::epoch::flush();
        fs.space().budget().usage().metadata <= before + 4096
    });
    let entries = fs.shared().locks().0.lock().entries.values_mut().count();
    assert_eq!(entries, 0);
}

/// Has the calling thread be one that was woken and has not tried again.
fn woken_in_time(file: &InodeRef, hold: Option<Hold>) -> Ticket {
    let wanted = lock(LockOwner::Description(2), true, 0, MAX);
    let want = Want { inode: file, kind: LockKind::Record, lock: &wanted };
    set(file, lock(process(1), true, 0, 0)).unwrap();
    let (ticket, mut hold) = (wait::ticket().unwrap(), hold);
    assert_eq!(file.attempt(&want, Some((&ticket, &mut hold))), Ok(false));
    unset(file, process(1), 0, 0).unwrap();
    assert!(matches!(wait::sleep(&ticket), Slept::Woken));
    ticket
}

#[test]
fn who_was_woken_is_found_until_it_has_tried() {
    let (fs, file) = a_file();
    let before = fs.space().budget().usage().metadata;
    let ticket = woken_in_time(&file, None);
    assert!(file.has_locks() && held(&file).is_empty());
    let wanted = lock(LockOwner::Description(2), true, 0, MAX);
    let want = Want { inode: &file, kind: LockKind::Record, lock: &wanted };
    assert_eq!(file.attempt(&want, Some((&ticket, &mut None))), Ok(true));
    assert_eq!((held(&file).len(), waiting(&file)), (1, 0));
    file.unlock_all(wanted.owner);
    assert!(!file.has_locks());
    assert_eq!(fs.space().budget().usage().metadata, before);
}

#[test]
fn a_fork_after_the_waking_leaves_nothing_held() {
    let name = "a_fork_after_the_waking_leaves_nothing_held";
    crate::testing::alone(module_path!(), name, || {
        // The calls that wait are made inside: by then the gate counts forks.
        drop(gate::enter());
        let (fs, file) = a_file();
        let before = fs.space().budget().usage().metadata;
        let shared = ermfs_memory::Counted::try_new(7).unwrap();
        let mut of_the_thread = core::mem::ManuallyDrop::new(shared.clone());
        // SAFETY: the reference stays until the end here; the child lets it go for the thread that it does not have.
        let _ticket = woken_in_time(&file, Some(unsafe { Hold::of(&of_the_thread) }));
        // SAFETY: the child only looks at what it has, and ends without the harness's handlers.
        match unsafe { libc::fork() } {
            0 => {
                file.unlock_all(LockOwner::Description(99));
                let clean =
                    shared.is_unique() && !file.has_locks() && fs.space().budget().usage().metadata == before;
                // SAFETY: as above.
                unsafe { libc::_exit(if clean { 0 } else { 1 }) }
            }
            child => {
                let mut status = -1;
                // SAFETY: our own child and a local status.
                assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                assert_eq!((status, shared.is_unique()), (0, false));
                // SAFETY: once, and nobody else here lets it go.
                unsafe { core::mem::ManuallyDrop::drop(&mut of_the_thread) };
            }
        }
    });
}

#[test]
fn a_handler_that_restarts_lets_the_wait_go_on() {
    handle(libc::SIGUSR2, libc::SA_RESTART);
    let (_fs, file) = a_file();
    set(&file, lock(process(1), true, 0, MAX)).unwrap();
    std::thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        let waiter = scope.spawn({
            let file = &file;
            move || {
                // SAFETY: asks for the thread's own id.
                tell.send(unsafe { libc::pthread_self() }).unwrap();
                set_waiting(file, lock(process(2), true, 0, MAX))
            }
        });
        let thread = told.recv().unwrap();
        until(|| waiting(&file) == 1);
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(2));
            // SAFETY: the thread is not joined yet.
            assert_eq!(unsafe { libc::pthread_kill(thread, libc::SIGUSR2) }, 0);
        }
        assert!(!waiter.is_finished() && waiting(&file) == 1);
        unset(&file, process(1), 0, MAX).unwrap();
        assert_eq!(waiter.join().unwrap(), Ok(()));
    });
    file.unlock_all(process(2));
}
