//! Locks on files, as `std::fs::File` has them.

use std::fs::TryLockError;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread::{scope, sleep};
use std::time::Duration;

use ermfs::{Fs, OpenOptions};

fn is_taken(answer: Result<(), TryLockError>) -> bool {
    matches!(answer, Err(TryLockError::WouldBlock))
}

#[test]
fn an_open_file_locks_out_others_and_not_its_clones() {
    let fs = Fs::new().unwrap();
    let (one, two) = (fs.create("/f").unwrap(), fs.open("/f").unwrap());
    let clone = one.try_clone().unwrap();
    one.lock().unwrap();
    clone.try_lock().unwrap();
    assert!(is_taken(two.try_lock_shared()) && is_taken(two.try_lock()));
    clone.lock_shared().unwrap();
    two.try_lock_shared().unwrap();
    // A change that is refused loses the lock.
    assert!(is_taken(one.try_lock()));
    two.lock().unwrap();
    two.unlock().unwrap();
    two.unlock().unwrap();
    one.lock().unwrap();
    drop(one);
    assert!(is_taken(two.try_lock()));
    drop(clone);
    two.try_lock().unwrap();
    fs.remove_file("/f").unwrap();
    assert!(fs.create("/f").unwrap().try_lock().is_ok(), "another file");
}

#[test]
fn directories_are_locked_too() {
    let fs = Fs::new().unwrap();
    let (one, two) = (fs.open("/").unwrap(), fs.open("/").unwrap());
    one.lock().unwrap();
    assert!(is_taken(two.try_lock_shared()));
    one.unlock().unwrap();
    two.lock_shared().unwrap();
}

#[test]
fn a_lock_is_waited_for() {
    let fs = Fs::new().unwrap();
    let held = fs.create("/f").unwrap();
    held.lock().unwrap();
    let (given, inside) = (AtomicBool::new(false), AtomicU32::new(0));
    scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                let mine = OpenOptions::new().write(true).open(&fs, "/f").unwrap();
                for _ in 0..50 {
                    mine.lock().unwrap();
                    assert!(given.load(SeqCst));
                    assert_eq!(inside.fetch_add(1, SeqCst), 0);
                    inside.fetch_sub(1, SeqCst);
                    mine.unlock().unwrap();
                }
            });
        }
        sleep(Duration::from_millis(50));
        given.store(true, SeqCst);
        held.unlock().unwrap();
    });
    held.try_lock().unwrap();
}
