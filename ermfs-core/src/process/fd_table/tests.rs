//! Both tables by the same tests.

use super::*;
use crate::gate;
use crate::process::reclaim::Ends;
use crate::testing;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

/// Stands for a description.
struct Payload<'a> {
    number: usize,
    ended: Option<&'a AtomicUsize>,
}

impl Ends for Payload<'_> {
    fn end(&self) {
        if let Some(ended) = self.ended {
            ended.fetch_add(1, SeqCst);
        }
    }
}

type File<'a> = Counted<Payload<'a>, ByEpoch>;

fn file(number: usize) -> File<'static> {
    file_noting(number, None)
}

fn file_noting(number: usize, ended: Option<&AtomicUsize>) -> File<'_> {
    Counted::try_new_reclaimed(Payload { number, ended }).map_err(|(error, _)| error).unwrap()
}

fn open<'a>(table: &impl FdTable<Payload<'a>, ByEpoch>, file: &File<'a>, lowest: i32) -> Result<i32> {
    let fd = table.claim(lowest, false)?;
    table.install(fd, file.clone(), false);
    Ok(fd)
}

/// A test for each of the tables.
macro_rules! for_both_tables {
    ($($test:ident)*) => {
        mod locked_table {
            $(#[test]
            fn $test() {
                super::$test(|capacity| super::locked::Table::new(capacity).unwrap());
            })*
        }
        mod lockless_table {
            $(#[test]
            fn $test() {
                super::$test(|capacity| super::lockless::Table::new(capacity).unwrap());
            })*
        }
    };
}

for_both_tables! {
    numbers_are_lowest_first_and_end_at_the_capacity
    a_lowest_number_is_heeded
    any_number_is_given_out_once_and_till_none_is_left
    replacing_takes_free_and_open_numbers_within_the_table
    an_answer_of_a_description_that_ended_does_not_count
    threads_never_share_a_number
    what_is_closed_and_replaced_ends_once_and_is_not_seen_after
}

const CHUNK: usize = 512;

fn numbers_are_lowest_first_and_end_at_the_capacity<T: FdTable<Payload<'static>, ByEpoch>>(
    new: impl Fn(usize) -> T,
) {
    for capacity in [1, 63, 64, 65, CHUNK - 1, CHUNK, CHUNK + 1, 3000] {
        let (table, file) = (new(capacity), file(0));
        for index in 0..capacity {
            assert_eq!(open(&table, &file, 0), Ok(number(index)));
        }
        assert_eq!((table.used(), open(&table, &file, 0)), (capacity, Err(Errno::EMFILE)));
        let last = number(capacity - 1);
        assert_eq!(table.lookup(last + 1).err(), Some(Errno::EBADF));
        for fd in [number(capacity / 2), number(0)] {
            assert!(table.still_names(fd, &file));
            assert!(table.remove(fd).unwrap().ptr_eq(&file));
            assert_eq!(table.lookup(fd).err(), Some(Errno::EBADF));
            assert!(!table.still_names(fd, &file));
            assert_eq!(open(&table, &file, 0), Ok(fd));
        }
        table.remove(last).unwrap();
        assert_eq!(table.claim(last, true), Ok(last));
        assert_eq!(table.remove(last).err(), Some(Errno::EBADF), "claimed is not open");
        table.unclaim(last);
        assert_eq!((table.used(), table.capacity()), (capacity - 1, capacity));
    }
}

fn a_lowest_number_is_heeded<T: FdTable<Payload<'static>, ByEpoch>>(new: impl Fn(usize) -> T) {
    let (table, file) = (new(1000), file(0));
    assert_eq!(open(&table, &file, number(600)), Ok(number(600)));
    assert_eq!(open(&table, &file, number(600)), Ok(number(601)));
    assert_eq!(open(&table, &file, 3), Ok(number(0)));
    assert_eq!(open(&table, &file, number(1000)), Err(Errno::EMFILE));
}

fn any_number_is_given_out_once_and_till_none_is_left<T: FdTable<Payload<'static>, ByEpoch>>(
    new: impl Fn(usize) -> T,
) {
    for capacity in [1, 100, 2000] {
        let (table, file) = (new(capacity), file(0));
        for _ in 0..capacity {
            let fd = table.claim(0, true).unwrap();
            table.install(fd, file.clone(), true);
            assert_eq!(table.close_on_exec(fd), Ok(true));
        }
        assert_eq!((table.used(), table.claim(0, true)), (capacity, Err(Errno::EMFILE)));
        table.remove(number(capacity / 3)).unwrap();
        assert_eq!(table.claim(0, true), Ok(number(capacity / 3)));
    }
}

fn replacing_takes_free_and_open_numbers_within_the_table<T: FdTable<Payload<'static>, ByEpoch>>(
    new: impl Fn(usize) -> T,
) {
    let (table, first, second) = (new(1000), file(1), file(2));
    let far = number(999);
    assert!(table.replace(far, first.clone(), true).unwrap().is_none());
    assert_eq!((table.used(), table.close_on_exec(far)), (1, Ok(true)));
    let before = table.replace(far, second.clone(), false).unwrap();
    assert!(before.is_some_and(|before| before.ptr_eq(&first)));
    assert!(table.lookup(far).unwrap().ptr_eq(&second));
    assert_eq!((table.used(), table.close_on_exec(far)), (1, Ok(false)));
    assert_eq!(table.set_close_on_exec(far, true), Ok(()));
    assert_eq!(table.close_on_exec(far), Ok(true));
    assert!(table.lookup(far).unwrap().ptr_eq(&second));
    for fd in [number(1000), FIRST_FD - 1, 0, -1, i32::MIN, i32::MAX] {
        assert_eq!(table.replace(fd, first.clone(), false).err(), Some(Errno::EBADF));
        assert_eq!(table.lookup(fd).err(), Some(Errno::EBADF));
        assert_eq!(table.set_close_on_exec(fd, true), Err(Errno::EBADF));
        assert!(!table.still_names(fd, &first));
    }
    let claimed = table.claim(0, false).unwrap();
    assert_eq!(table.replace(claimed, first.clone(), false).err(), Some(Errno::EBUSY));
    assert_eq!(table.close_on_exec(claimed), Err(Errno::EBADF));
}

fn an_answer_of_a_description_that_ended_does_not_count<T: FdTable<Payload<'static>, ByEpoch>>(
    new: impl Fn(usize) -> T,
) {
    let table = new(10);
    let fd = open(&table, &file(7), 0).unwrap();
    let seen = table.with(fd, &mut (), |file, ()| Some(Ok(file.number)), |file, ()| Ok(file.number));
    assert_eq!(seen, Ok(7));
    let held = table.with(fd, &mut (), |_, ()| None, |file, ()| Ok(file.number));
    assert_eq!(held, Ok(7));
    // Closed while it is being looked at: a counted reference keeps it, a pin does not.
    let mut briefly = false;
    let answer = table.with(
        fd,
        &mut briefly,
        |file, briefly| {
            *briefly = true;
            table.remove(fd).unwrap();
            Some(Ok(file.number))
        },
        |file, _| {
            table.remove(fd).unwrap();
            Ok(file.number)
        },
    );
    assert_eq!(answer, if briefly { Err(Errno::EBADF) } else { Ok(7) });
    assert_eq!(table.used(), 0);
}

fn threads_never_share_a_number<T: FdTable<Payload<'static>, ByEpoch>>(new: impl Fn(usize) -> T) {
    let (table, shared) = (new(4096), file(0));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (table, shared) = (&table, &shared);
            scope.spawn(move || {
                let mut held = Vec::new();
                for round in 0..4000 {
                    if round % 3 < 2 {
                        let mine = file(round);
                        let fd = table.claim(0, thread % 2 == 1).unwrap();
                        table.install(fd, mine.clone(), false);
                        held.push((fd, mine));
                    } else if let Some((fd, mine)) = held.pop() {
                        assert!(table.lookup(fd).unwrap().ptr_eq(&mine));
                        assert!(table.remove(fd).unwrap().ptr_eq(&mine));
                    }
                    if held.len() > 500 {
                        for (fd, mine) in held.drain(..) {
                            let before = table.replace(fd, shared.clone(), false).unwrap();
                            assert!(before.is_some_and(|before| before.ptr_eq(&mine)));
                            assert!(table.remove(fd).unwrap().ptr_eq(shared));
                        }
                    }
                }
                for (fd, mine) in held {
                    assert!(table.remove(fd).unwrap().ptr_eq(&mine));
                }
            });
        }
    });
    assert_eq!((table.used(), open(&table, &shared, 0)), (0, Ok(FIRST_FD)));
    drop(table);
    assert!(shared.is_unique());
}

fn what_is_closed_and_replaced_ends_once_and_is_not_seen_after<'a, T: FdTable<Payload<'a>, ByEpoch>>(
    new: impl Fn(usize) -> T,
) {
    static ENDED: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
    const ROUNDS: usize = 10_000;
    const NUMBERS: usize = 3;
    let table = new(NUMBERS);
    let lockless = core::any::type_name::<T>().contains("lockless");
    let ended = &ENDED[usize::from(lockless)];
    let made = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let changing = |thread: usize| {
        for round in 0..ROUNDS {
            let _inside = gate::enter();
            let fd = number((round + thread) % NUMBERS);
            let mine = file_noting(made.fetch_add(1, SeqCst), Some(ended));
            match round % 3 {
                0 => drop(table.replace(fd, mine, false)),
                1 => drop(table.remove(fd)),
                _ => match table.claim(0, round % 2 == 0) {
                    Ok(fd) => table.install(fd, mine, false),
                    Err(error) => assert_eq!(error, Errno::EMFILE),
                },
            }
        }
    };
    let looking = || {
        while !stop.load(SeqCst) {
            for index in 0..NUMBERS {
                let _inside = gate::enter();
                let read = |file: &Payload<'_>| file.number;
                let read = table.with(number(index), &mut (), |f, ()| Some(Ok(read(f))), |f, ()| Ok(read(f)));
                assert!(read.is_err() || read.is_ok_and(|read| read < made.load(SeqCst)));
                if let Ok(held) = table.lookup(number(index)) {
                    assert!(held.number < made.load(SeqCst));
                }
                let _ = table.set_close_on_exec(number(index), true);
            }
        }
    };
    std::thread::scope(|scope| {
        let changers: Vec<_> = (0..2).map(|thread| scope.spawn(move || changing(thread))).collect();
        scope.spawn(looking);
        scope.spawn(looking);
        for changer in changers {
            changer.join().unwrap();
        }
        stop.store(true, SeqCst);
    });
    for index in 0..NUMBERS {
        let _ = table.remove(number(index));
    }
    assert_eq!((table.used(), ended.load(SeqCst)), (0, made.load(SeqCst)));
}

#[test]
fn the_process_changes_tables_while_it_has_no_descriptors() {
    testing::alone(module_path!(), "the_process_changes_tables_while_it_has_no_descriptors", || {
        use crate::process::{AT_FDCWD, chdir, close, fstat, getcwd, mkdirat, openat};
        mkdirat(AT_FDCWD, b"/d", 0o700).unwrap();
        chdir(b"d").unwrap();
        let first = mode();
        let other = if first == Mode::Locked { Mode::Lockless } else { Mode::Locked };
        for to in [other, first, other] {
            let _inside = gate::enter();
            let fd = openat(AT_FDCWD, b"f", libc::O_CREAT | libc::O_RDWR, 0o600).unwrap();
            assert_eq!((fd, switch(to)), (FIRST_FD, Err(Errno::EBUSY)));
            assert_eq!(fstat(fd).unwrap().st_size, 0);
            close(fd).unwrap();
            assert_eq!(switch(to), Ok(()));
            assert_eq!((mode(), getcwd()), (to, Ok(b"/d".to_vec())));
        }
    });
}

#[test]
fn only_sensible_capacities_are_heeded() {
    for (setting, capacity) in [
        (None, 65_536),
        (Some("1"), 1),
        (Some(" 300\n"), 300),
        (Some("16777216"), 1 << 24),
        (Some("16777217"), 65_536),
        (Some("0"), 65_536),
        (Some("-5"), 65_536),
        (Some("many"), 65_536),
        (Some(""), 65_536),
    ] {
        assert_eq!(capacity_of(setting), capacity, "{setting:?}");
    }
}
