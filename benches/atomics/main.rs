//! What a call writes to memory that threads share: atomic read-modify-writes, and stores to cache lines that others use.
//!
//! `make bench-atomics` runs it. Two threads do the same operation in turns, a step each, and every access that they make to
//! an atomic, a lock or an `Arc` of the engine is noted with its address. A line is shared if both threads have touched it,
//! even if one of them only reads it. Each small allocation has lines of its own in this program, and for good, so that two
//! objects do not pass for one because of where the C library's allocator put them. Not seen: what is not the engine's (the
//! words of crossbeam-epoch, nearly all of them a thread's own, and of that allocator), `Arc`s of other things than a
//! `Space`, and accesses that are not atomic.
//!
//! `--calls N`: how often each thread does an operation (default 1000). `--only TEXT`: the operations whose names hold the
//! text. `--where`: the places in the source that write to shared lines, and whether the other thread uses that word or only
//! its line.

mod memory;
mod operations;
mod turns;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::thread;

use ermfs_core::process;
use ermfs_core::{Compress, Config};
use ermfs_memory::sync::count::{Access, Kind, record};

use operations::{Actor, Files, OPERATIONS, Operation};
use turns::{THREADS, Turns};

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;
/// How often each thread does an operation before it is counted.
const WARM_UP: usize = 100;

/// What the command line asks for.
struct Options {
    calls: usize,
    only: String,
    places: bool,
}

fn options() -> Options {
    let mut options = Options { calls: 1000, only: String::new(), places: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--calls" => {
                options.calls = arguments.next().and_then(|n| n.parse().ok()).expect("--calls takes a number")
            }
            "--only" => options.only = arguments.next().expect("--only takes a text"),
            "--where" => options.places = true,
            // What cargo bench adds.
            "--bench" => {}
            other => panic!("unknown argument {other}"),
        }
    }
    options
}

fn main() {
    let options = options();
    let config = Config { compress: Compress::Never, ..Config::default() };
    process::configure_default(&config).expect("the default filesystem was not used yet");
    println!(
        "| operation                   | files  |  locked: RMW | stores | shared | lockless: RMW | stores | shared |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for operation in OPERATIONS.iter().filter(|operation| operation.name.contains(&options.only)) {
        for files in [Files::Own, Files::Shared] {
            let [locked, lockless] = [false, true].map(|lockless| {
                process::set_lockless_mode(lockless).expect("nothing is open");
                run(operation, files, options.calls)
            });
            let own = if files == Files::Own { "own" } else { "shared" };
            let (one, other) = (figures(&locked, &options), figures(&lockless, &options));
            println!("| {:<27} | {own:<6} | {one} | {other} |", operation.name);
            if options.places {
                list_places("locked", &locked, &options);
                list_places("lockless", &lockless, &options);
            }
        }
    }
}

/// What each thread did.
type Records = [Vec<Access>; THREADS];

/// Has each thread make `calls` calls.
fn run(operation: &Operation, files: Files, calls: usize) -> Records {
    let turns = Turns::default();
    thread::scope(|scope| {
        let threads = [0, 1].map(|number| {
            let turns = &turns;
            scope.spawn(move || {
                let mut actor = turns.take(number, || {
                    let mut actor = Actor::new(number, files);
                    (operation.begin)(&mut actor);
                    actor
                });
                let mut accesses = Vec::new();
                for call in 0..WARM_UP + calls {
                    if call == WARM_UP {
                        accesses.clear();
                    }
                    for step in operation.steps {
                        turns.take(number, || record(&mut accesses, || step(&mut actor)));
                    }
                }
                turns.take(number, || actor.clear());
                accesses
            })
        });
        threads.map(|thread| thread.join().expect("no call fails"))
    })
}

/// What both threads have touched, by a function of the address.
fn shared(records: &Records, of: impl Fn(usize) -> usize) -> HashSet<usize> {
    let touched = records
        .each_ref()
        .map(|record| record.iter().map(|access| of(access.address)).collect::<HashSet<_>>());
    let [one, other] = touched;
    one.intersection(&other).copied().collect()
}

fn line_of(address: usize) -> usize {
    address / LINE
}

/// The accesses that need a line alone.
fn writes(records: &Records) -> impl Iterator<Item = &Access> {
    records.iter().flatten().filter(|access| access.kind != Kind::Load)
}

/// Those of them whose line the other thread touches too.
fn shared_writes(records: &Records) -> impl Iterator<Item = &Access> {
    let lines = shared(records, line_of);
    writes(records).filter(move |access| lines.contains(&line_of(access.address)))
}

fn per_call(count: usize, options: &Options) -> f64 {
    count as f64 / (THREADS * options.calls) as f64
}

/// The columns of one mode.
fn figures(records: &Records, options: &Options) -> String {
    let of_kind = |kind| writes(records).filter(|access| access.kind == kind).count();
    let [swaps, stores, shared] =
        [of_kind(Kind::ReadModifyWrite), of_kind(Kind::Store), shared_writes(records).count()]
            .map(|count| per_call(count, options));
    format!("{swaps:>12.2} | {stores:>6.2} | {shared:>6.2}")
}

/// Says where shared lines are written.
fn list_places(mode: &str, records: &Records, options: &Options) {
    let words = shared(records, |address| address);
    let names = names_of_words(records);
    let mut places = BTreeMap::<_, usize>::new();
    for access in shared_writes(records) {
        let name = names.get(&access.address).copied().unwrap_or_else(|| place_of(access));
        let which = if words.contains(&access.address) { "word" } else { "line only" };
        *places.entry((name, place_of(access), which)).or_default() += 1;
    }
    for ((name, place, which), count) in places {
        let of = if name == place { String::new() } else { format!(" of {name}") };
        println!("    {mode:<8} {:>6.2}  {place}{of}  ({which})", per_call(count, options));
    }
}

/// A place in the source, without the path to its crate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place(&'static str, u32);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0, self.1)
    }
}

fn place_of(access: &Access) -> Place {
    let file = access.place.file();
    Place(file.rsplit_once("/src/").map_or(file, |(_, file)| file), access.place.line())
}

/// Where each word is used by the engine itself: the end of a guard or of an `Arc` knows no place there.
fn names_of_words(records: &Records) -> HashMap<usize, Place> {
    let engine = |access: &&Access| {
        let file = access.place.file();
        file.contains("ermfs-") && !file.contains("/sync/")
    };
    records.iter().flatten().filter(engine).map(|access| (access.address, place_of(access))).collect()
}
