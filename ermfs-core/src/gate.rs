//! The gate: which threads are inside the library, so that `fork` never copies half of an operation.
//!
//! Promises: while `fork(2)` runs, no other thread is inside, so that the child finds every
//! structure of the library whole and every lock free; the same while `alone` runs something; entering costs a store and a
//! load of memory that nobody else writes. Owns one record per thread that ever entered and the fork handlers.
//! Never holds a thread back except while another one forks; never allocates after a thread's
//! first entry.
//!
//! # Protocol
//! Each thread has a record with one word, `inside`; one word of the process, `STATE`, says whether a
//! fork is pending.
//!
//! | pair | entering thread | forking thread |
//! | --- | --- | --- |
//! | E1/F1 | store `inside` = 1, then load `STATE` | store `STATE` \|= PENDING, then load every `inside` |
//! | E2/F2 | store `inside` = 0 (Release) on leaving | load `inside` = 0 (Acquire) |
//!
//! E1/F1 is Dekker's pattern: at least one of the two must see the other's store. The forking
//! thread's `membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED)` between its store and its loads acts as a
//! full fence in every running thread of the process, so the entering side needs only a compiler
//! fence. Where the kernel has no membarrier, `STATE` carries `NEEDS_FENCE`, which sends every entry
//! through the slow path with a fence of its own. A thread that sees PENDING takes its store back and
//! sleeps until the fork is over. E2/F2 makes everything a thread did inside happen before the fork.
//!
//! The list of records has a lock. A thread registers and unregisters under it, outside; the forking
//! thread holds it from before its loads until the fork is done, so no record appears or goes away
//! meanwhile, and the child finds it held by its only thread. The child keeps its own record and
//! forgets the others', whose memory went with their threads.
//!
//! A thread whose thread-local destructors have begun can no longer register; it is counted in
//! `ORPHANS` instead, with sequentially consistent accesses in the places of E1 and E2.
//!
//! Not covered: `vfork`, raw `clone`, and a fork from a signal handler that interrupted a call of the
//! library in the same thread: that thread neither waits for itself nor holds up another thread's fork,
//! and the children have the interrupted call half done.

use core::cell::Cell;
use core::ptr;
use core::time::Duration;

use ermfs_memory::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU32,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    compiler_fence, fence,
};
use rustix::thread::{MembarrierCommand, futex, membarrier};

/// A thread is about to fork, or forking.
const PENDING: u32 = 1;
/// Entries must fence by themselves: there is no membarrier, or nobody has registered for it yet.
const NEEDS_FENCE: u32 = 2;

static STATE: AtomicU32 = AtomicU32::new(NEEDS_FENCE);
static ARMED: AtomicBool = AtomicBool::new(false);
/// Threads inside that have no record.
static ORPHANS: AtomicU32 = AtomicU32::new(0);
/// Held through a fork, so that there is one at a time.
static FORK: Lock = Lock::new();
/// Guards the list that starts at `FIRST`.
static LIST: Lock = Lock::new();
static FIRST: AtomicPtr<Record> = AtomicPtr::new(ptr::null_mut());
/// See [`generation`]. Changes only in a fork child, while it has one thread.
static GENERATION: AtomicU32 = AtomicU32::new(1);

/// What other threads see of a thread. `next` and `previous` are guarded by `LIST`.
struct Record {
    inside: AtomicU32,
    next: AtomicPtr<Record>,
    previous: AtomicPtr<Record>,
}

/// A thread's part of the gate. Only `record` is touched by other threads.
struct Local {
    record: Record,
    /// How many `InOperation`s of this thread are alive.
    depth: Cell<u32>,
    registered: Cell<bool>,
    /// How many prepare handlers of a fork by this thread have run without their counterpart.
    forking: Cell<u32>,
    /// See [`before_leaving`].
    last_thing: Cell<Option<fn()>>,
}

/// Unregisters its thread when the thread ends.
struct Registration;

thread_local! {
    // No destructor: reachable for as long as the thread runs.
    static LOCAL: Local = const {
        Local {
            record: Record {
                inside: AtomicU32::new(0),
                next: AtomicPtr::new(ptr::null_mut()),
                previous: AtomicPtr::new(ptr::null_mut()),
            },
            depth: Cell::new(0),
            registered: Cell::new(false),
            forking: Cell::new(0),
            last_thing: Cell::new(None),
        }
    };
    static REGISTRATION: Registration = const { Registration };
}

/// Keeps its thread marked as inside the library until it is dropped. Made by [`enter`].
#[must_use = "the thread is inside only while this lives"]
pub struct InOperation {
    /// The thread's own `LOCAL`; being a pointer, it also keeps the value in its thread.
    local: *const Local,
}

/// Marks the calling thread as inside the library; waits while another thread forks. Nests.
#[inline]
pub fn enter() -> InOperation {
    LOCAL.with(|local| {
        let depth = local.depth.get();
        local.depth.set(depth + 1);
        if depth == 0 {
            local.go_inside();
        }
        InOperation { local }
    })
}

impl Drop for InOperation {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `local` is this thread's (the pointer cannot leave its thread) and has no destructor,
        // so it is there for as long as the thread runs.
        let local = unsafe { &*self.local };
        let depth = local.depth.get() - 1;
        if depth == 0 {
            if local.last_thing.get().is_some() {
                local.do_last_thing();
            }
            local.come_out();
        }
        local.depth.set(depth);
    }
}

/// Has `work` run once when this thread's call is over, still inside: for what a call leaves to be done that cannot be done
/// in its middle, where it holds locks or a pin. Of several that are asked for in one call the last is done. A thread
/// that is not inside does it at the end of its next call.
pub(crate) fn before_leaving(work: fn()) {
    LOCAL.with(|local| local.last_thing.set(Some(work)));
}

/// Runs `sleep` with the calling thread outside, for waits without a bound.
///
/// The caller holds no lock of the library and has left every structure whole: a fork may happen
/// meanwhile, and the child has only the forking thread.
pub fn outside<R>(sleep: impl FnOnce() -> R) -> R {
    struct Back<'a> {
        local: &'a Local,
        depth: u32,
    }
    impl Drop for Back<'_> {
        fn drop(&mut self) {
            if self.depth > 0 {
                self.local.go_inside();
            }
            self.local.depth.set(self.depth);
        }
    }
    LOCAL.with(|local| {
        let back = Back { local, depth: local.depth.replace(0) };
        if back.depth > 0 {
            local.come_out();
        }
        sleep()
    })
}

/// Lets a pending fork of another thread through; for long work, between its steps. One load when
/// there is none. The caller holds no lock and has left every structure whole, as for [`outside`].
#[inline]
pub fn breathe() {
    if STATE.load(Relaxed) & PENDING != 0 {
        outside(|| ());
    }
}

/// Runs `work` while no other thread is inside, as if it were a fork: who comes waits until it is done.
///
/// The caller holds no lock of the library; a call of it that is under way in this thread counts as no other's.
pub(crate) fn alone<R>(work: impl FnOnce() -> R) -> R {
    struct Open;
    impl Drop for Open {
        fn drop(&mut self) {
            in_parent();
        }
    }
    arm();
    prepare();
    let _open = Open;
    work()
}

/// Which process this is, counted by forks: another number in a fork child than in its parent. Never 0. Unlike process
/// ids, the numbers of a process and its descendants are never the same.
pub(crate) fn generation() -> u32 {
    GENERATION.load(Relaxed)
}

/// Whether the calling thread is inside.
#[cfg(test)]
pub(crate) fn is_inside() -> bool {
    LOCAL.with(|local| local.depth.get() > 0)
}

impl Local {
    #[inline]
    fn go_inside(&self) {
        self.record.inside.store(1, Relaxed); // E1
        compiler_fence(SeqCst);
        // Acquire: what was changed while everybody was kept out (`alone`) is seen.
        if STATE.load(Acquire) != 0 || !self.registered.get() {
            self.go_inside_slowly();
        }
    }

    #[inline]
    fn come_out(&self) {
        if self.registered.get() {
            self.record.inside.store(0, Release); // E2
        } else {
            self.come_out_unregistered();
        }
    }

    #[cold]
    fn do_last_thing(&self) {
        /// Comes out when what is done last unwinds.
        struct Unwound<'a>(&'a Local);
        impl Drop for Unwound<'_> {
            fn drop(&mut self) {
                self.0.depth.set(0);
                self.0.come_out();
            }
        }
        // Not on the way of a panic, where another one would end the process: at the end of the next call.
        if !std::thread::panicking()
            && let Some(work) = self.last_thing.take()
        {
            let unwound = Unwound(self);
            work();
            core::mem::forget(unwound);
        }
    }

    #[cold]
    fn go_inside_slowly(&self) {
        if self.forking.get() > 0 {
            // Another library's fork handler calls us: nobody waits for this thread.
            return;
        }
        self.record.inside.store(0, Release);
        let registered = self.registered.get() || self.register();
        loop {
            if registered {
                self.record.inside.store(1, Relaxed);
            } else {
                ORPHANS.fetch_add(1, SeqCst);
            }
            fence(SeqCst);
            if STATE.load(SeqCst) & PENDING == 0 {
                return;
            }
            self.come_out();
            wait_for_the_fork();
        }
    }

    #[cold]
    fn come_out_unregistered(&self) {
        if self.forking.get() == 0 {
            ORPHANS.fetch_sub(1, SeqCst);
        }
    }

    /// Puts this thread's record in the list; `false` when the thread is too far in its end for that.
    fn register(&self) -> bool {
        arm();
        if REGISTRATION.try_with(|_| ()).is_err() {
            return false;
        }
        LIST.lock();
        let me = ptr::from_ref(&self.record).cast_mut();
        let next = FIRST.load(Relaxed);
        self.record.previous.store(ptr::null_mut(), Relaxed);
        self.record.next.store(next, Relaxed);
        // SAFETY: a record in the list belongs to a living thread, which unlinks it under the lock that
        // is held here.
        if let Some(next) = unsafe { next.as_ref() } {
            next.previous.store(me, Relaxed);
        }
        FIRST.store(me, Relaxed);
        LIST.unlock();
        self.registered.set(true);
        true
    }

    fn unregister(&self) {
        if !self.registered.replace(false) {
            return;
        }
        LIST.lock();
        let (previous, next) = (self.record.previous.load(Relaxed), self.record.next.load(Relaxed));
        // SAFETY: neighbours in the list belong to living threads, as in `register`.
        match unsafe { previous.as_ref() } {
            Some(previous) => previous.next.store(next, Relaxed),
            None => FIRST.store(next, Relaxed),
        }
        // SAFETY: as above.
        if let Some(next) = unsafe { next.as_ref() } {
            next.previous.store(previous, Relaxed);
        }
        LIST.unlock();
    }

    /// Takes `FORK`. A thread that forks from inside stands outside meanwhile, for whoever holds `FORK` would
    /// wait for it to leave.
    fn await_turn_to_fork(&self) {
        let (is_inside, registered) = (self.depth.get() > 0, self.registered.get());
        if is_inside && registered {
            self.record.inside.store(0, Release);
        } else if is_inside {
            ORPHANS.fetch_sub(1, SeqCst);
        }
        FORK.lock();
        if is_inside && registered {
            self.record.inside.store(1, Relaxed);
        } else if is_inside {
            ORPHANS.fetch_add(1, SeqCst);
        }
    }

    /// Whether this thread itself is counted in `ORPHANS`.
    fn is_orphan_inside(&self) -> bool {
        self.depth.get() > 0 && !self.registered.get()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        LOCAL.with(Local::unregister);
    }
}

#[cold]
fn wait_for_the_fork() {
    loop {
        let state = STATE.load(Acquire);
        if state & PENDING == 0 {
            return;
        }
        // Interrupted or too late: looked at again.
        let _ = futex::wait(&STATE, futex::Flags::PRIVATE, state, None);
    }
}

/// Registers the fork handlers and the membarrier, and finds what the dynamic linker is asked for, once. Two threads may do it at the same time:
/// the handlers count, so that being registered twice does no harm.
fn arm() {
    if ARMED.load(Acquire) {
        return;
    }
    // SAFETY: the handlers are functions of this library, which is never unloaded (linked with nodelete)
    // and which they need nothing else of.
    if unsafe { libc::pthread_atfork(Some(prepare), Some(in_parent), Some(in_child)) } != 0 {
        // Out of memory: the next thread that registers tries again.
        return;
    }
    ARMED.store(true, Release);
    use_membarrier();
    // Here, because this thread is outside, and not with the first inode, where a fork would wait for it.
    ermfs_memory::find_leak_checker();
}

/// Lets entries do without a fence, if the kernel can make up for it.
fn use_membarrier() {
    if membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok() {
        STATE.fetch_and(!NEEDS_FENCE, SeqCst);
    }
}

/// F1's fence, in this thread and in all others.
fn fence_everywhere() {
    fence(SeqCst);
    if STATE.load(Relaxed) & NEEDS_FENCE == 0 && membarrier(MembarrierCommand::PrivateExpedited).is_err() {
        // It was registered and is refused now (a system call filter was set up). From now on entries fence;
        // those under way are given far longer than a store takes to become visible.
        STATE.fetch_or(NEEDS_FENCE, SeqCst);
        std::thread::sleep(Duration::from_millis(10));
    }
}

extern "C" fn prepare() {
    LOCAL.with(|local| {
        let nested = local.forking.get();
        local.forking.set(nested + 1);
        if nested > 0 {
            return;
        }
        local.await_turn_to_fork();
        STATE.fetch_or(PENDING, SeqCst); // F1
        fence_everywhere();
        LIST.lock();
        let mut at = FIRST.load(Relaxed);
        // SAFETY: records in the list live while the list is locked.
        while let Some(record) = unsafe { at.as_ref() } {
            if !ptr::eq(record, &local.record) {
                wait_until(|| record.inside.load(Acquire) == 0); // F2
            }
            at = record.next.load(Relaxed);
        }
        let own = u32::from(local.is_orphan_inside());
        wait_until(|| ORPHANS.load(SeqCst) <= own);
    });
}

extern "C" fn in_parent() {
    LOCAL.with(|local| {
        if fork_goes_on(local) {
            return;
        }
        LIST.unlock();
        STATE.fetch_and(!PENDING, SeqCst);
        // Nobody to wake, or a bad address: neither is an error here.
        let _ = futex::wake(&STATE, futex::Flags::PRIVATE, i32::MAX as u32);
        FORK.unlock();
    });
}

extern "C" fn in_child() {
    LOCAL.with(|local| {
        if fork_goes_on(local) {
            return;
        }
        let only =
            if local.registered.get() { ptr::from_ref(&local.record).cast_mut() } else { ptr::null_mut() };
        local.record.next.store(ptr::null_mut(), Relaxed);
        local.record.previous.store(ptr::null_mut(), Relaxed);
        FIRST.store(only, Relaxed);
        GENERATION.fetch_add(1, Relaxed);
        ORPHANS.store(u32::from(local.is_orphan_inside()), Relaxed);
        // The kernel does not promise that the child inherits the registration.
        STATE.store(NEEDS_FENCE, SeqCst);
        use_membarrier();
        LIST.reset();
        FORK.reset();
    });
}

/// Counts one handler after the fork; `true` when further ones will follow, or when none ran before it
/// (they were registered while the fork was under way).
fn fork_goes_on(local: &Local) -> bool {
    let handlers = local.forking.get();
    local.forking.set(handlers.saturating_sub(1));
    handlers != 1
}

/// Waits for another thread to leave. It knows nothing of being waited for, so it is looked at again
/// and again: calls are short, and a long one takes a breath between its steps.
fn wait_until(done: impl Fn() -> bool) {
    for round in 0u32.. {
        if done() {
            return;
        }
        if round < 50 {
            std::thread::yield_now();
        } else {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

/// A mutex that a fork child can set free, whoever held or awaited it: one futex word, 0 free, 1 held,
/// 2 held and perhaps awaited.
struct Lock(AtomicU32);

impl Lock {
    const fn new() -> Lock {
        Lock(AtomicU32::new(0))
    }

    fn lock(&self) {
        if self.0.compare_exchange(0, 1, Acquire, Relaxed).is_ok() {
            return;
        }
        while self.0.swap(2, Acquire) != 0 {
            // Interrupted or too late: tried again.
            let _ = futex::wait(&self.0, futex::Flags::PRIVATE, 2, None);
        }
    }

    fn unlock(&self) {
        if self.0.swap(0, Release) == 2 {
            // There may be nobody any more.
            let _ = futex::wake(&self.0, futex::Flags::PRIVATE, 1);
        }
    }

    fn reset(&self) {
        self.0.store(0, Release);
    }
}

#[cfg(test)]
mod tests;
