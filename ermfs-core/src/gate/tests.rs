//! The gate under forks, nesting and ending threads.

use super::*;
use core::sync::atomic::AtomicU64;
use std::sync::Mutex;

/// Forks are the process's: tests that count records or fork take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Forks; the child runs `check` and exits with 0 if it holds. Returns whether it did.
fn child_says(check: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child does nothing but run `check` and leave by _exit; the handlers under test are
    // what makes `check` sound.
    match unsafe { libc::fork() } {
        -1 => panic!("fork failed"),
        0 => {
            let code = if check() { 0 } else { 1 };
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(code) }
        }
        child => {
            let mut status = 0;
            // SAFETY: `status` is writable, `child` is ours.
            let waited = unsafe { libc::waitpid(child, &mut status, 0) };
            waited == child && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
        }
    }
}

fn records() -> usize {
    LIST.lock();
    let mut n = 0;
    let mut at = FIRST.load(Relaxed);
    // SAFETY: records in the list live while the list is locked.
    while let Some(record) = unsafe { at.as_ref() } {
        n += 1;
        at = record.next.load(Relaxed);
    }
    LIST.unlock();
    n
}

fn depth() -> u32 {
    LOCAL.with(|local| local.depth.get())
}

#[test]
fn entries_nest_and_outside_steps_out_of_all_of_them() {
    let first = enter();
    let second = enter();
    assert_eq!(depth(), 2);
    LOCAL.with(|local| assert_eq!(local.record.inside.load(Relaxed), 1));
    let seen = outside(|| {
        LOCAL.with(|local| assert_eq!(local.record.inside.load(Relaxed), 0));
        let again = enter();
        let seen = depth();
        drop(again);
        seen
    });
    assert_eq!((seen, depth()), (1, 2));
    drop(first);
    LOCAL.with(|local| assert_eq!(local.record.inside.load(Relaxed), 1));
    drop(second);
    LOCAL.with(|local| assert_eq!((local.depth.get(), local.record.inside.load(Relaxed)), (0, 0)));
}

#[test]
fn a_thread_is_in_the_list_while_it_lives() {
    let _turn = TURN.lock();
    let found = |address: usize| {
        LIST.lock();
        let mut at = FIRST.load(Relaxed);
        let mut found = false;
        // SAFETY: records in the list live while the list is locked.
        while let Some(record) = unsafe { at.as_ref() } {
            found |= at.addr() == address;
            at = record.next.load(Relaxed);
        }
        LIST.unlock();
        found
    };
    let address = std::thread::spawn(move || {
        drop(enter());
        let address = LOCAL.with(|local| ptr::from_ref(&local.record).addr());
        assert!(found(address));
        address
    })
    .join()
    .unwrap();
    // The memory may serve a thread of another test by now; it is then that thread's record, so only a
    // list without it proves anything, and one with it is looked at again.
    assert!((0..1000).any(|_| {
        std::thread::yield_now();
        !found(address)
    }));
}

#[test]
fn a_thread_that_is_ending_can_still_enter() {
    struct Late;
    impl Drop for Late {
        fn drop(&mut self) {
            let _in = enter();
            assert_eq!(depth(), 1);
        }
    }
    thread_local!(static LATE: Late = const { Late });
    let _turn = TURN.lock();
    std::thread::spawn(|| {
        // Destructors run in an order of the system's choosing: both orders are tried.
        LATE.with(|_| ());
        drop(enter());
    })
    .join()
    .unwrap();
    std::thread::spawn(|| {
        drop(enter());
        LATE.with(|_| ());
    })
    .join()
    .unwrap();
    assert!(child_says(|| records() <= 1));
}

/// Forks while threads change two words that are equal whenever nobody is inside.
fn fork_among_writers(forks: u32) {
    static PAIR: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
    static WRITER: Mutex<()> = Mutex::new(());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    let _in = enter();
                    let writer = WRITER.lock();
                    let n = PAIR[0].load(Relaxed) + 1;
                    PAIR[0].store(n, Relaxed);
                    core::hint::spin_loop();
                    PAIR[1].store(n, Relaxed);
                    drop(writer);
                }
            });
        }
        for _ in 0..forks {
            assert!(child_says(|| {
                let _in = enter();
                let free = WRITER.try_lock().is_ok();
                free && PAIR[0].load(Relaxed) == PAIR[1].load(Relaxed) && records() == 1
            }));
        }
        stop.store(true, Relaxed);
    });
    assert!(PAIR[0].load(Relaxed) > 0);
}

#[test]
fn a_child_never_sees_half_an_operation() {
    let _turn = TURN.lock();
    fork_among_writers(100);
}

#[test]
fn fences_do_where_there_is_no_membarrier() {
    let _turn = TURN.lock();
    drop(enter());
    STATE.fetch_or(NEEDS_FENCE, SeqCst);
    fork_among_writers(30);
    use_membarrier();
}

#[test]
fn long_work_lets_a_fork_through_where_it_breathes() {
    let _turn = TURN.lock();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _outer = enter();
            let _inner = enter();
            while !stop.load(Relaxed) {
                breathe();
            }
            assert_eq!(depth(), 2);
        });
        for _ in 0..10 {
            assert!(child_says(|| records() <= 1));
        }
        stop.store(true, Relaxed);
    });
}

#[test]
fn every_generation_has_a_number_of_its_own() {
    let _turn = TURN.lock();
    drop(enter());
    let mine = generation();
    assert!(child_says(|| generation() == mine + 1 && child_says(|| generation() == mine + 2)));
    assert_eq!(generation(), mine);
}

#[test]
fn forks_from_several_threads_and_from_inside_do_not_hang() {
    let _turn = TURN.lock();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..10 {
                    assert!(child_says(|| {
                        drop(enter());
                        true
                    }));
                }
            });
        }
    });
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let _in = enter();
                    assert!(child_says(|| depth() == 1 && child_says(|| depth() == 1)));
                    assert_eq!(depth(), 1);
                }
            });
        }
    });
}

#[test]
fn a_last_thing_that_panics_leaves_its_thread_outside() {
    std::thread::spawn(|| {
        let call = || {
            let _inside = enter();
            before_leaving(|| panic!("on purpose"));
        };
        assert!(std::panic::catch_unwind(call).is_err());
        let is_marked = || LOCAL.with(|local| local.record.inside.load(Relaxed) != 0);
        assert_eq!((depth(), is_marked()), (0, false));
        // A call that panics itself leaves it to the next one.
        static DONE: AtomicU64 = AtomicU64::new(0);
        let call = || {
            let _inside = enter();
            before_leaving(|| _ = DONE.fetch_add(1, Relaxed));
            panic!("on purpose");
        };
        assert!(std::panic::catch_unwind(call).is_err());
        assert_eq!((depth(), is_marked(), DONE.load(Relaxed)), (0, false, 0));
        drop(enter());
        assert_eq!(DONE.load(Relaxed), 1);
    })
    .join()
    .unwrap();
}
