//! The background packer: one thread that compresses files after they were closed.
//!
//! Promises: `close` does not wait for it; a file that cannot be queued, or finds no thread to be made
//! for it, is packed by the closing thread itself, so that none stays unpacked for want of memory. The
//! thread exists only in processes that use a filesystem with `Compress::Background`; a fork child makes
//! its own. Owns the queue, which has a file once, and keeps none from being freed that loses its last name
//! and opener. Packs nothing that was unlinked meanwhile. Never holds the queue's lock while it packs, and
//! stands outside the gate while it sleeps.

use core::mem::MaybeUninit;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ermfs_memory::sync::Mutex;
use ermfs_memory::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};
use rustix::thread::futex;

use super::Operation;
use crate::content::garbage;
use crate::fs::Fs;
use crate::gate;
use crate::inject::fails;
use crate::namespace::{InodeRef, Queued};

/// A file that waits, and the filesystem it lies in.
struct Job {
    // Let go before its filesystem.
    file: Queued,
    fs: Arc<Fs>,
}

static QUEUE: Mutex<VecDeque<Job>> = Mutex::new(VecDeque::new());
/// Moves with every job queued: what the thread sleeps on. A plain futex, because a thread that sleeps
/// in a parking lot would be left there in a fork child that does not have it.
static QUEUED: AtomicU32 = AtomicU32::new(0);
/// The packer thread's stack; what it works with lies on the heap.
const STACK_BYTES: usize = 512 * 1024;
/// The process that has a packer thread, by [`gate::generation`]; 0 for none. Not by its id, which a
/// descendant may have again, at once where it is the first process of a PID namespace.
static HOME: AtomicU32 = AtomicU32::new(0);

/// Has a file packed soon.
pub(super) fn queue(fs: &Arc<Fs>, inode: &InodeRef) {
    // One that waits already is packed as it will be then. In a fork child the thread is still to be made.
    if let Some(file) = inode.wait_in_queue()
        && let Err(job) = push(Job { file, fs: Arc::clone(fs) })
    {
        job.run();
        return;
    }
    QUEUED.fetch_add(1, Release);
    if has_thread() {
        // An error means that it was awake.
        let _ = futex::wake(&QUEUED, futex::Flags::PRIVATE, 1);
    } else {
        while let Some(job) = next_job() {
            job.run();
        }
    }
}

/// Puts a job at the end of the queue; without memory for that it comes back.
fn push(job: Job) -> Result<(), Job> {
    let mut queue = QUEUE.lock();
    if fails!("packer.queue") {
        return Err(job);
    }
    match queue.try_reserve(1) {
        Ok(()) => {
            queue.push_back(job);
            Ok(())
        }
        Err(_) => Err(job),
    }
}

/// Whether this process has a packer thread, one being made if it has none yet.
fn has_thread() -> bool {
    let process = gate::generation();
    let home = HOME.load(Acquire);
    if home == process {
        return true;
    }
    if HOME.compare_exchange(home, process, Acquire, Relaxed).is_err() {
        // Another thread is making it; should it fail, it looks through the queue itself.
        return true;
    }
    let made = without_signals(|| {
        if fails!("packer.thread") {
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        std::thread::Builder::new().name("ermfs-packer".into()).stack_size(STACK_BYTES).spawn(work)
    });
    if made.is_err() {
        HOME.store(0, Release);
    }
    made.is_ok()
}

/// Runs `make` with all signals blocked: a thread made there inherits that, so the program's handlers
/// never run on it.
fn without_signals<R>(make: impl FnOnce() -> R) -> R {
    let mut all = MaybeUninit::uninit();
    let mut before = MaybeUninit::uninit();
    // SAFETY: both are places for a signal set; the first is filled before it is read.
    let blocked = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) == 0
    };
    let made = make();
    if blocked {
        // SAFETY: the successful call above has filled `before`.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), core::ptr::null_mut()) };
    }
    made
}

fn next_job() -> Option<Job> {
    QUEUE.lock().pop_front()
}

/// The thread: packs what is queued, and sleeps.
fn work() {
    loop {
        let seen = QUEUED.load(Acquire);
        loop {
            let _inside = gate::enter();
            let Some(job) = next_job() else { break };
            job.run();
        }
        // Something queued since then, or an interruption, ends the wait at once.
        let _ = futex::wait(&QUEUED, futex::Flags::PRIVATE, seen, None);
    }
}

impl Job {
    fn run(self) {
        // A panic must not take the thread with it; the filesystem that was worked on has noted it (see `Operation`).
        let _ = catch_unwind(AssertUnwindSafe(|| self.pack()));
        // This thread may now sleep for long, and would keep to itself what it retired: that of the file, or, where it went
        // while it waited, its shell.
        let _ = catch_unwind(garbage::settle);
    }

    fn pack(self) {
        let Job { file, fs } = self;
        // Perhaps the last references; then all of the file goes here, and the filesystem.
        let Some(inode) = file.take() else { return };
        let Ok(_operation) = Operation::begin(&fs) else { return };
        if let Some(content) = inode.content().filter(|_| inode.is_linked()) {
            inode.packing(content, || content.pack());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Source;
    use crate::fs::{Config, Statistics};
    use crate::namespace::At;
    use crate::process::OpenFile;
    use crate::space::Compress;
    use crate::testing;

    /// A filesystem whose files are queued as if there were a packer, which gets to nothing.
    fn without_a_packer() -> Arc<Fs> {
        HOME.store(gate::generation(), Release);
        Fs::new(&Config { compress: Compress::Background, ..Config::default() }).unwrap()
    }

    /// Opens, writes and closes the file `f`.
    fn write_file(at: At<'_>) -> InodeRef {
        let file = OpenFile::open(at, b"f", libc::O_CREAT | libc::O_WRONLY, 0o600).unwrap();
        assert_eq!(file.write_at(&mut Source::new(&[b'x'; 5000]), 0), Ok(5000));
        file.inode().clone()
    }

    /// What it holds once its directory's table is there, which stays.
    fn statistics_of_empty(at: At<'_>) -> Statistics {
        Fs::mknod(at, b"f", 0o600, 0).unwrap();
        Fs::unlink(at, b"f").unwrap();
        testing::settle();
        at.fs.statistics()
    }

    #[test]
    fn a_file_waits_once_however_often_it_is_closed() {
        testing::alone(module_path!(), "a_file_waits_once_however_often_it_is_closed", || {
            let fs = without_a_packer();
            let root = fs.root();
            let at = At { fs: &fs, dir: &root, who: fs.credentials(), umask: 0 };
            for _ in 0..3 {
                let mut inode = write_file(at);
                for _ in 0..100 {
                    inode = write_file(at);
                }
                assert_eq!(QUEUE.lock().len(), 1);
                next_job().unwrap().run();
                assert_eq!(inode.content().unwrap().info().blocks_packed, 1);
            }
        });
    }

    #[test]
    fn a_waiting_file_that_is_unlinked_goes_at_once() {
        testing::alone(module_path!(), "a_waiting_file_that_is_unlinked_goes_at_once", || {
            let fs = without_a_packer();
            let root = fs.root();
            let at = At { fs: &fs, dir: &root, who: fs.credentials(), umask: 0 };
            let empty = statistics_of_empty(at);
            for _ in 0..3 {
                drop(write_file(at));
                Fs::unlink(at, b"f").unwrap();
                let left = fs.statistics();
                assert_eq!((left.files, left.raw_bytes, QUEUE.lock().len()), (0, 0, 1));
                assert!(left.metadata_bytes > empty.metadata_bytes, "the shell waits");
                next_job().unwrap().run();
            }
            crate::epoch::flush();
            assert_eq!(fs.statistics().metadata_bytes, empty.metadata_bytes);
            assert_eq!(Arc::strong_count(&fs), 1);
        });
    }

    #[test]
    fn what_a_sleeping_packer_met_gone_is_freed() {
        testing::alone(module_path!(), "what_a_sleeping_packer_met_gone_is_freed", || {
            let fs = without_a_packer();
            let root = fs.root();
            let at = At { fs: &fs, dir: &root, who: fs.credentials(), umask: 0 };
            let empty = statistics_of_empty(at).metadata_bytes;
            drop(write_file(at));
            Fs::unlink(at, b"f").unwrap();
            let (sleeps, awake) = std::sync::mpsc::channel();
            let (end, ends) = std::sync::mpsc::channel::<()>();
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    next_job().unwrap().run();
                    sleeps.send(()).unwrap();
                    // The thread goes on, and does nothing.
                    let _ = ends.recv();
                });
                awake.recv().unwrap();
                testing::settle();
                assert_eq!(fs.statistics().metadata_bytes, empty);
                drop(end);
            });
        });
    }

    #[test]
    fn files_are_written_unlinked_and_packed_at_once() {
        testing::alone(module_path!(), "files_are_written_unlinked_and_packed_at_once", || {
            let fs = Fs::new(&Config { compress: Compress::Background, ..Config::default() }).unwrap();
            let root = fs.root();
            let at = At { fs: &fs, dir: &root, who: fs.credentials(), umask: 0 };
            let changing = |thread: u8| {
                for round in 0..3000u32 {
                    let name = [b'a' + (round % 3) as u8];
                    let flags = libc::O_CREAT | libc::O_WRONLY;
                    if let Ok(file) = OpenFile::open(at, &name, flags, 0o600) {
                        file.write_at(&mut Source::new(&[thread; 100]), 0).unwrap();
                    }
                    if round % 2 == 0 {
                        let _ = Fs::unlink(at, &name);
                    }
                }
            };
            std::thread::scope(|scope| {
                for thread in 0..3 {
                    scope.spawn(move || changing(thread));
                }
            });
            for name in [b"a", b"b", b"c"] {
                let _ = Fs::unlink(at, name);
            }
            // The packer's last jobs hold the filesystem.
            let left = || {
                let left = fs.statistics();
                (left.files, left.raw_bytes, left.packed_bytes)
            };
            // And a thread hands on what it has retired when it has ended, which a scope does not wait for.
            for _ in 0..10_000 {
                if Arc::strong_count(&fs) == 1 && left() == (0, 0, 0) {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            assert_eq!(left(), (0, 0, 0));
        });
    }
}
