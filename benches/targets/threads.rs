//! Two threads against one, each on a processor of its own; and what the same two threads reach on a loop that shares nothing,
//! because two virtual processors may be one core's, and no ratio goes beyond that.

use std::ffi::CString;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libc::{O_CREAT, O_EXCL, O_RDONLY, O_WRONLY};

use crate::Options;
use crate::side::{NEVER, Random, Side, Who, path};
use crate::stage::{Goal, Line, Measure, Stage};
use crate::table::{figure, median};

const PAGE: usize = 4096;
const FILE_PAGES: usize = 256;
/// Of the C interface.
const O_ANYFD: i32 = 1 << 30;

pub(crate) fn stages() -> Vec<Stage> {
    vec![
        Stage { name: "two threads", once: false, prepare: files, lines: file_lines },
        Stage { name: "two threads, names", once: false, prepare: names, lines: name_lines },
    ]
}

fn file_lines(_: &Options) -> Vec<Line> {
    let lines = [
        ("stat + pread 4 KiB, own files", "stat own", 1.9),
        ("stat + pread 4 KiB, one shared file", "stat shared", 1.8),
        ("open + pread 4 KiB + close, own files", "open own", 1.4),
        ("open + pread 4 KiB + close, one shared file", "open shared", 1.3),
        ("open + pread 4 KiB + close, own files, O_ANYFD", "any own", 1.9),
        ("open + pread 4 KiB + close, one shared file, O_ANYFD", "any shared", 1.4),
    ];
    let line = |(what, measurement, goal)| {
        Line::new(format!("two threads, {what}"), "", Goal::TimesOf(goal, "one thread"), measurement)
            .lockless_only()
            .detail(in_words)
    };
    lines.into_iter().map(line).collect()
}

fn in_words(figures: &[f64]) -> String {
    format!(
        "{} and {} million/s, sharing nothing {}",
        figure(figures[1] / 1e6),
        figure(figures[2] / 1e6),
        figure(figures[3])
    )
}

fn name_lines(_: &Options) -> Vec<Line> {
    let what = "two threads, create + close + unlink in one directory, per operation of either";
    vec![
        Line::new(what, "ns", Goal::TimesFaster(2.0), "create")
            .beside("two threads on tmpfs", "create")
            .lockless_only(),
    ]
}

/// How long each turn is.
fn turn_time(options: &Options) -> Duration {
    Duration::from_millis(if options.quick { 5 } else { 20 })
}

/// Operations a second of `threads` threads together. `worker` makes what one of them does again and again.
fn throughput<W: FnMut()>(threads: usize, time: Duration, worker: impl Fn(usize) -> W + Sync) -> f64 {
    let processors = processors();
    let (barrier, stop) = (Barrier::new(threads + 1), AtomicBool::new(false));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|number| {
                let (processor, worker, barrier, stop) =
                    (processors[number % processors.len()], &worker, &barrier, &stop);
                scope.spawn(move || {
                    pin_to(processor);
                    let mut operation = worker(number);
                    (0..64).for_each(|_| operation());
                    barrier.wait();
                    let mut count = 0u64;
                    while !stop.load(Ordering::Relaxed) {
                        operation();
                        count += 1;
                    }
                    // Nobody takes away what others still use.
                    barrier.wait();
                    count
                })
            })
            .collect();
        barrier.wait();
        let start = Instant::now();
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        let elapsed = start.elapsed().as_secs_f64();
        barrier.wait();
        let counts = workers.into_iter().map(|worker| worker.join().expect("no call fails"));
        counts.sum::<u64>() as f64 / elapsed
    })
}

/// Those that this process may run on.
fn processors() -> Vec<usize> {
    // SAFETY: an array of integers, of which zeros are a value; room for the answer.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of_val(&set), &mut set), 0);
        (0..libc::CPU_SETSIZE as usize).filter(|processor| libc::CPU_ISSET(*processor, &set)).collect()
    }
}

fn pin_to(processor: usize) {
    // SAFETY: as above; 0 is the calling thread.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &set), 0);
    }
}

/// Of two threads, those that are to work; with NOTHING, on what shares nothing.
const BOTH: u32 = 0b11;
const NOTHING: u32 = 0b100;
const END: u32 = 0b1000;

/// Two threads that each have a processor and work when they are told to.
#[derive(Default)]
struct Crew {
    told: AtomicU32,
    done: [Done; 2],
}

/// In a cache line and its neighbour that nobody else writes.
#[derive(Default)]
#[repr(align(128))]
struct Done(AtomicU64);

impl Crew {
    fn work(&self, number: usize, processor: usize, mut operation: impl FnMut()) {
        pin_to(processor);
        let mut nothing = copy_own();
        let mut count = 0;
        loop {
            match self.told.load(Ordering::Relaxed) {
                END => return,
                told if told & 1 << number == 0 => thread::sleep(Duration::from_micros(200)),
                told if told & NOTHING != 0 => nothing(),
                _ => operation(),
            }
            count += 1;
            self.done[number].0.store(count, Ordering::Relaxed);
        }
    }

    /// Operations a second while `told` is what the threads are told.
    fn throughput(&self, told: u32, time: Duration) -> f64 {
        let done = || {
            let by =
                |number: usize| self.done[number].0.load(Ordering::Relaxed) * u64::from(told >> number & 1);
            by(0) + by(1)
        };
        self.told.store(told, Ordering::Relaxed);
        thread::sleep(time / 8);
        let (before, start) = (done(), Instant::now());
        thread::sleep(time);
        let (after, elapsed) = (done(), start.elapsed());
        self.told.store(0, Ordering::Relaxed);
        // Until they have seen it.
        thread::sleep(Duration::from_micros(500));
        (after - before) as f64 / elapsed.as_secs_f64()
    }

    /// What one thread reaches, either in turn since processors differ, and what both do together.
    fn turn(&self, what: u32, time: Duration) -> Reached {
        let one = [0b01, 0b10].map(|who| self.throughput(what | who, time));
        Reached { one: (one[0] + one[1]) / 2.0, both: self.throughput(what | BOTH, time) }
    }
}

/// One and two threads in short turns, since the processors' speed changes by the second: how many times as much two reach,
/// what either reaches a second, and how many times as much two reach where they share nothing.
fn one_and_two<W: FnMut()>(time: Duration, worker: impl Fn(usize) -> W + Sync) -> Vec<f64> {
    const TURNS: usize = 9;
    let (crew, processors) = (Crew::default(), processors());
    thread::scope(|scope| {
        for number in 0..2 {
            let (crew, worker, processor) = (&crew, &worker, processors[number % processors.len()]);
            scope.spawn(move || crew.work(number, processor, worker(number)));
        }
        let turns: Vec<Turn> = (0..TURNS)
            .map(|_| Turn { files: crew.turn(0, time), nothing: crew.turn(NOTHING, time) })
            .collect();
        crew.told.store(END, Ordering::Relaxed);
        let of = |figure: fn(&Turn) -> f64| median(&turns.iter().map(figure).collect::<Vec<_>>());
        vec![
            of(|turn| turn.files.both / turn.files.one),
            of(|turn| turn.files.one),
            of(|turn| turn.files.both),
            of(|turn| turn.nothing.both / turn.nothing.one),
        ]
    })
}

/// What a turn gave.
struct Turn {
    files: Reached,
    nothing: Reached,
}

/// Operations a second.
struct Reached {
    one: f64,
    both: f64,
}

/// Copies 4 KiB of its own.
fn copy_own() -> impl FnMut() {
    let (from, mut to) = (vec![1u8; PAGE], vec![0u8; PAGE]);
    move || to.copy_from_slice(std::hint::black_box(&from))
}

fn files(who: Who, options: &Options) -> Measure {
    let side = Side::enter(who, NEVER);
    side.make_dir("d");
    for name in ["d/f0", "d/f1", "d/shared"] {
        side.write_file(name, &[b'p'; FILE_PAGES * PAGE]);
    }
    let time = turn_time(options);
    Box::new(move |measurement| {
        let (call, files) = measurement.split_once(' ').expect("two words");
        let name = |number: usize| match files {
            "own" => path(&format!("d/f{number}")),
            _ => path("d/shared"),
        };
        let any = if call == "any" { O_ANYFD } else { 0 };
        match call {
            "stat" => one_and_two(time, |number| stat_and_read(&side, name(number), number)),
            _ => one_and_two(time, |number| open_and_read(&side, name(number), any)),
        }
    })
}

fn stat_and_read(side: &Side, name: CString, number: usize) -> impl FnMut() {
    let file = OwnFd { side, fd: side.open(name.to_str().expect("made of text"), O_RDONLY) };
    let (mut random, mut page) = (Random(number as u64), vec![0u8; PAGE]);
    move || {
        // SAFETY: a NUL-terminated path and room for the answer; integers only, of which zeros are a value.
        unsafe {
            let mut status: libc::stat = std::mem::zeroed();
            assert_eq!((side.abi.stat)(name.as_ptr(), &mut status), 0);
        }
        // By a method: a closure that names fields alone would leave the descriptor behind, closed.
        file.pread(&mut page, random.below(FILE_PAGES) * PAGE);
    }
}

fn open_and_read(side: &Side, name: CString, any: i32) -> impl FnMut() {
    let mut page = vec![0u8; PAGE];
    move || {
        // SAFETY: a NUL-terminated path, a live buffer of that length.
        unsafe {
            let fd = (side.abi.open)(name.as_ptr(), O_RDONLY | any);
            assert_eq!((side.abi.pread)(fd, page.as_mut_ptr().cast(), PAGE, 0), PAGE as isize);
            assert_eq!((side.abi.close)(fd), 0);
        }
    }
}

/// Closed with the thread's work.
struct OwnFd<'a> {
    side: &'a Side,
    fd: i32,
}

impl OwnFd<'_> {
    fn pread(&self, buffer: &mut [u8], offset: usize) {
        self.side.pread(self.fd, buffer, offset);
    }
}

impl Drop for OwnFd<'_> {
    fn drop(&mut self) {
        self.side.close(self.fd);
    }
}

fn names(who: Who, options: &Options) -> Measure {
    let side = Side::enter(who, NEVER);
    side.make_dir("common");
    let time = turn_time(options) * 12;
    Box::new(move |_| {
        let total = throughput(2, time, |number| {
            let name = path(&format!("common/n{number}"));
            move || {
                // SAFETY: a NUL-terminated path.
                let gone = unsafe {
                    (side.abi.close)((side.abi.open)(name.as_ptr(), O_CREAT | O_EXCL | O_WRONLY, 0o644));
                    (side.abi.unlink)(name.as_ptr())
                };
                assert_eq!(gone, 0);
            }
        });
        vec![1e9 / total]
    })
}
