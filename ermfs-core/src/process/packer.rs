//! The background packer: one thread that compresses files after they were closed.
//!
//! Promises: `close` does not wait for it; a file that cannot be queued, or finds no thread to be made
//! for it, is packed by the closing thread itself, so that none stays unpacked for want of memory. The
//! thread exists only in processes that use a filesystem with `Compress::Background`; a fork child makes
//! its own. Owns the queue, which keeps the queued inodes open. Packs nothing that was unlinked
//! meanwhile. Never holds the queue's lock while it packs, and stands outside the gate while it sleeps.

use core::mem::MaybeUninit;
use core::sync::atomic::{
    AtomicI32, AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};
use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::thread::futex;

use super::Operation;
use crate::fs::Fs;
use crate::gate;
use crate::namespace::InodeRef;

/// A file that waits, and the filesystem it lies in.
struct Job {
    // Let go before its filesystem.
    inode: InodeRef,
    fs: Arc<Fs>,
}

static QUEUE: Mutex<VecDeque<Job>> = Mutex::new(VecDeque::new());
/// Moves with every job queued: what the thread sleeps on. A plain futex, because a thread that sleeps
/// in a parking lot would be left there in a fork child that does not have it.
static QUEUED: AtomicU32 = AtomicU32::new(0);
/// The packer thread's stack; what it works with lies on the heap.
const STACK_BYTES: usize = 512 * 1024;
/// The process that has a packer thread; 0 for none.
static HOME: AtomicI32 = AtomicI32::new(0);

/// Has a file packed soon.
pub(super) fn queue(fs: &Arc<Fs>, inode: &InodeRef) {
    let job = Job { fs: Arc::clone(fs), inode: inode.clone() };
    let left_over = {
        let mut queue = QUEUE.lock();
        match queue.try_reserve(1) {
            Ok(()) => {
                queue.push_back(job);
                None
            }
            Err(_) => Some(job),
        }
    };
    if let Some(job) = left_over {
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

/// Whether this process has a packer thread, one being made if it has none yet.
fn has_thread() -> bool {
    let process = std::process::id() as i32;
    let home = HOME.load(Acquire);
    if home == process {
        return true;
    }
    if HOME.compare_exchange(home, process, Acquire, Relaxed).is_err() {
        // Another thread is making it; should it fail, it looks through the queue itself.
        return true;
    }
    let made = without_signals(|| {
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
        // A panic poisons the filesystem (see `Operation`) and must not take the thread with it.
        let packing = std::panic::AssertUnwindSafe(|| {
            let Ok(_operation) = Operation::begin(&self.fs) else { return };
            if let Some(content) = self.inode.content().filter(|_| self.inode.is_linked()) {
                content.pack();
            }
        });
        // The filesystem has noted it.
        let _ = std::panic::catch_unwind(packing);
    }
}
