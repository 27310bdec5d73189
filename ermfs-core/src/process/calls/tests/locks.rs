//! Whose locks are when descriptors close, threads wait and processes fork.

use core::sync::atomic::{AtomicI32, Ordering::SeqCst};
use core::time::Duration;

use super::*;
use libc::{
    F_GETLK, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_RDLCK, F_SETLK, F_SETLKW, F_UNLCK, F_WRLCK, LOCK_EX,
    LOCK_NB, LOCK_SH,
};

fn range(kind: i32, start: i64, len: i64) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: 0, l_start: start, l_len: len, l_pid: 0 }
}

fn set(fd: i32, command: i32, kind: i32, start: i64, len: i64) -> Result<()> {
    lock(fd, command, Some(&mut range(kind, start, len)))
}

/// The first lock in the way of a write lock on everything, as (type, start, length, pid).
fn found(fd: i32, command: i32) -> Option<(i32, i64, i64, i32)> {
    let mut asked = range(F_WRLCK, 0, 0);
    lock(fd, command, Some(&mut asked)).unwrap();
    let kind = i32::from(asked.l_type);
    (kind != F_UNLCK).then_some((kind, asked.l_start, asked.l_len, asked.l_pid))
}

fn metadata(fd: i32) -> u64 {
    statistics(fd).unwrap().metadata_bytes
}

#[test]
fn any_close_drops_the_processs_locks_and_no_others() {
    let root = Root::new();
    let (one, two) = (root.file("f", b""), root.open("f", O_RDWR).unwrap());
    close(root.file("other", b"")).unwrap();
    let before = metadata(root.0);
    let closes: [&dyn Fn(); 5] = [
        &|| close(root.open("f", O_RDONLY).unwrap()).unwrap(),
        &|| close(dup(one).unwrap()).unwrap(),
        &|| {
            let spare = dup(one).unwrap();
            assert_eq!(dup2(root.0, spare), Ok(spare));
            close(spare).unwrap();
        },
        &|| {
            let spare = root.open("f", O_WRONLY).unwrap();
            assert_eq!(dup3(root.0, spare, O_CLOEXEC), Ok(spare));
            close(spare).unwrap();
        },
        &|| {
            root.open("f", O_CREAT | O_TRUNC | O_WRONLY).and_then(close).unwrap();
        },
    ];
    for drop_locks in closes {
        set(one, F_SETLK, F_WRLCK, 5, 5).unwrap();
        set(two, F_OFD_SETLK, F_RDLCK, 20, 1).unwrap();
        flock(two, LOCK_EX | LOCK_NB).unwrap();
        close(root.open("f", O_PATH).unwrap()).unwrap();
        close(root.file("other", b"")).unwrap();
        // SAFETY: asks for a number only.
        assert_eq!(found(two, F_OFD_GETLK), Some((F_WRLCK, 5, 5, unsafe { libc::getpid() })));
        drop_locks();
        assert_eq!(found(two, F_OFD_GETLK), None);
        assert_eq!(found(one, F_GETLK), Some((F_RDLCK, 20, 1, -1)));
        assert_eq!(flock(one, LOCK_SH | LOCK_NB), Err(Errno::EAGAIN));
    }
    let again = dup(two).unwrap();
    close(two).unwrap();
    assert_eq!(found(one, F_GETLK), Some((F_RDLCK, 20, 1, -1)));
    close(again).unwrap();
    assert_eq!((found(one, F_GETLK), flock(one, LOCK_EX | LOCK_NB)), (None, Ok(())));
    close(one).unwrap();
    assert_eq!(metadata(root.0), before);
}

#[test]
fn directories_streams_and_tmpfiles_have_locks() {
    let root = Root::new();
    let directory = root.open(".", O_RDONLY | O_DIRECTORY).unwrap();
    set(directory, F_SETLK, F_RDLCK, 3, 0).unwrap();
    assert_eq!(set(directory, F_SETLK, F_WRLCK, 3, 0), Err(Errno::EBADF));
    assert_eq!(found(root.0, F_OFD_GETLK).map(|found| found.1), Some(3));
    // The close of a stream is that of its descriptor.
    DirStream::fdopendir(dup(root.0).unwrap()).unwrap().closedir().unwrap();
    assert_eq!(found(root.0, F_OFD_GETLK), None);
    close(directory).unwrap();
    let nameless = root.open(".", O_TMPFILE | O_RDWR).unwrap();
    flock(nameless, LOCK_EX).unwrap();
    set(nameless, F_OFD_SETLK, F_WRLCK, 0, 0).unwrap();
    close(nameless).unwrap();
}

/// Runs `wait` in a thread that sleeps when `meanwhile` begins.
fn while_waiting(
    wait: impl FnOnce() -> Result<()> + Send,
    meanwhile: impl FnOnce(libc::pthread_t),
) -> Result<()> {
    std::thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        let waiter = scope.spawn(move || {
            // SAFETY: asks for the thread's own id and number.
            tell.send(unsafe { (libc::pthread_self(), libc::gettid()) }).unwrap();
            wait()
        });
        let (thread, number) = told.recv().unwrap();
        // Asleep in futex(2), of which this thread has just one.
        while !std::fs::read_to_string(format!("/proc/self/task/{number}/syscall"))
            .is_ok_and(|call| call.starts_with(&libc::SYS_futex.to_string()))
        {
            assert!(!waiter.is_finished(), "it did not wait");
            std::thread::sleep(Duration::from_millis(1));
        }
        meanwhile(thread);
        waiter.join().unwrap()
    })
}

#[test]
fn a_wait_outlives_its_descriptor() {
    let root = Root::new();
    let holder = root.file("f", b"");
    for (command, answer) in [(F_OFD_SETLKW, Ok(())), (F_SETLKW, Err(Errno::EBADF)), (0, Ok(()))] {
        let waiting = root.open("f", O_RDWR).unwrap();
        set(holder, F_OFD_SETLK, F_WRLCK, 0, 10).unwrap();
        flock(holder, LOCK_EX).unwrap();
        let wait =
            || if command == 0 { flock(waiting, LOCK_SH) } else { set(waiting, command, F_WRLCK, 9, 1) };
        let done = while_waiting(wait, |_| {
            close(waiting).unwrap();
            set(holder, F_OFD_SETLK, F_UNLCK, 0, 0).unwrap();
            flock(holder, libc::LOCK_UN).unwrap();
        });
        assert_eq!(done, answer);
        assert_eq!((found(holder, F_OFD_GETLK), flock(holder, LOCK_EX | LOCK_NB)), (None, Ok(())));
    }
    close(holder).unwrap();
}

#[test]
fn a_poisoned_filesystem_ends_the_wait() {
    let root = Root::new();
    let (holder, other) = (root.file("f", b""), root.open("f", O_RDWR).unwrap());
    flock(holder, LOCK_EX).unwrap();
    let done = while_waiting(
        || flock(other, LOCK_EX),
        |_| {
            open_file(holder).unwrap().fs().space().poison();
            assert_eq!(close(holder), Err(Errno::EIO));
        },
    );
    assert_eq!(done, Err(Errno::EIO));
    assert_eq!((close(other), close(root.0)), (Err(Errno::EIO), Err(Errno::EIO)));
    core::mem::forget(root);
}

#[test]
fn a_fork_child_has_the_descriptions_locks_alone() {
    let name = "a_fork_child_has_the_descriptions_locks_alone";
    crate::testing::alone(module_path!(), name, fork_while_a_thread_waits);
}

fn fork_while_a_thread_waits() {
    let root = Root::new();
    let (one, two, three) =
        (root.file("f", b""), root.open("f", O_RDWR).unwrap(), root.open("f", O_RDWR).unwrap());
    set(one, F_SETLK, F_WRLCK, 0, 10).unwrap();
    set(one, F_OFD_SETLK, F_WRLCK, 100, 5).unwrap();
    set(two, F_OFD_SETLK, F_WRLCK, 300, 5).unwrap();
    flock(one, LOCK_EX).unwrap();
    let in_the_child = || {
        let steps: [&dyn Fn() -> bool; 6] = [
            &|| found(three, F_OFD_GETLK) == Some((F_WRLCK, 100, 5, -1)),
            &|| flock(three, LOCK_EX | LOCK_NB) == Err(Errno::EAGAIN),
            // What the waiting thread held of its description goes too.
            &|| close(two) == Ok(()) && set(three, F_SETLK, F_WRLCK, 300, 5) == Ok(()),
            &|| statistics(root.0).is_ok_and(|it| it.open_descriptions == 3),
            &|| close(one) == Ok(()) && flock(three, LOCK_EX | LOCK_NB) == Ok(()),
            &|| set(three, F_OFD_SETLKW, F_WRLCK, 0, 10) == Ok(()) && close(three) == Ok(()),
        ];
        steps.iter().position(|step| !step()).map_or(0, |at| at as i32 + 1)
    };
    let done = while_waiting(
        || set(two, F_OFD_SETLKW, F_WRLCK, 100, 1),
        |_| {
            for _ in 0..20 {
                assert_eq!(behaviour::in_child(in_the_child), Some(0));
            }
            assert!(found(three, F_OFD_GETLK).is_some_and(|found| found.3 > 0), "the parent has all it had");
            set(one, F_OFD_SETLK, F_UNLCK, 0, 0).unwrap();
        },
    );
    assert_eq!(done, Ok(()));
    assert_eq!([one, two, three].map(close), [Ok(()); 3]);
}

static FORKED: AtomicI32 = AtomicI32::new(-1);

extern "C" fn fork_in_handler(_: i32) {
    // SAFETY: the interrupted thread is in a system call outside the library and holds no lock.
    FORKED.store(unsafe { libc::fork() }, SeqCst);
}

#[test]
fn a_handler_that_forks_during_a_wait_leaves_both_sides_whole() {
    let name = "a_handler_that_forks_during_a_wait_leaves_both_sides_whole";
    crate::testing::alone(module_path!(), name, fork_from_the_handler);
}

fn fork_from_the_handler() {
    // SAFETY: a sigaction of zeros but for the handler, without SA_RESTART.
    unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = fork_in_handler as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR2, &action, core::ptr::null_mut()), 0);
    }
    let root = Root::new();
    let (one, two) = (root.file("f", b""), root.open("f", O_RDWR).unwrap());
    flock(one, LOCK_EX).unwrap();
    let wait = || {
        let done = flock(two, LOCK_EX);
        if FORKED.load(SeqCst) == 0 {
            // The child, which has this thread only.
            let whole = done == Err(Errno::EINTR)
                && close(one) == Ok(())
                && flock(two, LOCK_EX | LOCK_NB) == Ok(())
                && close(two) == Ok(())
                && statistics(root.0).is_ok_and(|it| it.open_descriptions == 1);
            // SAFETY: ends the child without the harness's handlers.
            unsafe { libc::_exit(if whole { 0 } else { 1 }) };
        }
        done
    };
    let done = while_waiting(wait, |thread| {
        // SAFETY: the thread is not joined yet.
        assert_eq!(unsafe { libc::pthread_kill(thread, libc::SIGUSR2) }, 0);
    });
    assert_eq!(done, Err(Errno::EINTR));
    let (child, mut status) = (FORKED.load(SeqCst), -1);
    // SAFETY: our own child and a local status.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);
    assert_eq!([one, two].map(close), [Ok(()); 2]);
}
