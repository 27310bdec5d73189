//! Parts of the engine alone, by criterion; what has two modes in both. `make bench-micro` runs it.
//!
//! What a change does to one of them shows here and drowns in a whole call; what a program pays is measured by `targets`.

use std::hint::black_box;
use std::mem::MaybeUninit;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ermfs_core::process::{self, AT_FDCWD};
use ermfs_core::{At, Compress, Config, Fs, Mode, Sink, Source, gate, micro};
use ermfs_memory::{BLOCK_SIZE, PAGE_SIZE, Page, Piece};
use libc::{O_CREAT, O_RDWR};

const MODES: [(&str, Mode); 2] = [("locked", Mode::Locked), ("lockless", Mode::Lockless)];
/// What a cold copy walks through, in bytes: more than the caches hold.
const COLD: usize = 256 << 20;

/// The next of numbers in no order.
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

fn path_walk(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("path walk, 3 components");
    for (name, mode) in MODES {
        let fs = Fs::new(&Config { mode, ..Config::default() }).expect("memory");
        let root = fs.root();
        let at = At { fs: &fs, dir: &root, who: fs.credentials(), umask: 0 };
        let _inside = gate::enter();
        Fs::mkdir(at, b"/top", 0o755).expect("a new name");
        Fs::mkdir(at, b"/top/middle", 0o755).expect("a new name");
        Fs::mkdir(at, b"/top/middle/last", 0o755).expect("a new name");
        group.bench_function(name, |bencher| {
            bencher.iter(|| Fs::lookup(at, black_box(b"/top/middle/last"), true).expect("made above"))
        });
    }
}

fn descriptor(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("descriptor look-up, with a reference");
    for (name, mode) in MODES {
        process::set_lockless_mode(mode == Mode::Lockless).expect("nothing is open");
        let fd = process::openat(AT_FDCWD, b"/file", O_CREAT | O_RDWR, 0o644).expect("a file");
        group.bench_function(name, |bencher| {
            bencher.iter(|| process::open_file(black_box(fd)).expect("open"))
        });
        process::close(fd).expect("open");
    }
}

fn memory(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("allocate and free");
    group.bench_function("a page", |bencher| {
        bencher.iter(|| drop(black_box(Page::alloc().expect("memory"))));
    });
    group.bench_function("a block of pages", |bencher| {
        bencher.iter(|| drop(black_box(Page::alloc_block().expect("memory"))));
    });
    for len in [100, 4_096, 20_000] {
        group.bench_with_input(BenchmarkId::new("a piece", len), &len, |bencher, len| {
            bencher.iter(|| drop(black_box(Piece::alloc(*len).expect("memory"))));
        });
    }
    // Among 10,000 pieces of all sizes, one of which goes each time.
    let mut state = 1;
    let length = |state: &mut u64| 1 + next(state) % BLOCK_SIZE;
    let mut pieces: Vec<Piece> =
        (0..10_000).map(|_| Piece::alloc(length(&mut state)).expect("memory")).collect();
    group.bench_function("a piece among many", |bencher| {
        bencher.iter(|| {
            let victim = next(&mut state) % pieces.len();
            pieces[victim] = Piece::alloc(length(&mut state)).expect("memory");
        });
    });
}

/// Source text: this crate's own.
fn block() -> Vec<u8> {
    let text =
        concat!(include_str!("../src/file.rs"), include_str!("../src/fs.rs"), include_str!("../src/tree.rs"));
    text.bytes().cycle().take(BLOCK_SIZE).collect()
}

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a block of source text");
    group.throughput(Throughput::Bytes(BLOCK_SIZE as u64));
    let (block, mut member) = (block(), Vec::new());
    assert_eq!(micro::pack(&block, 1, &mut member), Ok(true));
    group.bench_function("pack, level 1", |bencher| {
        let mut out = Vec::new();
        bencher.iter(|| micro::pack(black_box(&block), 1, &mut out).expect("memory"));
    });
    group.bench_function("inflate", |bencher| {
        let mut out = vec![MaybeUninit::uninit(); BLOCK_SIZE];
        bencher.iter(|| micro::unpack(black_box(&member), &mut out).expect("a whole member"));
    });
}

fn map(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("block map, a slot");
    let fs = Fs::new(&Config::default()).expect("memory");
    // Files of 64 KiB, 2 MiB, 64 MiB and 1 GiB: no level, one, two and three.
    for blocks in [1, 32, 1_024, 16_384] {
        let map = micro::MapOfBlocks::new(fs.space(), blocks).expect("memory");
        let mut state = 1;
        group.bench_with_input(BenchmarkId::from_parameter(blocks), &blocks, |bencher, blocks| {
            bencher.iter(|| assert!(map.holds(next(&mut state) as u64 % blocks)));
        });
    }
}

/// pread of a page in a raw file beside memcpy, in a file that the cache holds and in one that it does not.
fn copy(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("copy 4 KiB");
    group.throughput(Throughput::Bytes(PAGE_SIZE as u64));
    let mut page = vec![0u8; PAGE_SIZE];
    for (temperature, size) in [("hot", PAGE_SIZE), ("cold", COLD)] {
        let mut state = 1;
        let memory = vec![1u8; size];
        group.bench_function(BenchmarkId::new("memcpy", temperature), |bencher| {
            bencher.iter(|| {
                let from = next(&mut state) % (size / PAGE_SIZE) * PAGE_SIZE;
                page.copy_from_slice(black_box(&memory[from..from + PAGE_SIZE]));
            });
        });
        for (name, mode) in MODES {
            process::set_lockless_mode(mode == Mode::Lockless).expect("nothing is open");
            let path = format!("/{name}-{temperature}");
            let fd = process::openat(AT_FDCWD, path.as_bytes(), O_CREAT | O_RDWR, 0o644).expect("a file");
            assert_eq!(process::pwrite(fd, &mut Source::new(&memory), 0), Ok(size));
            group.bench_function(BenchmarkId::new(format!("pread, {name}"), temperature), |bencher| {
                bencher.iter(|| {
                    let from = next(&mut state) % (size / PAGE_SIZE) * PAGE_SIZE;
                    process::pread(fd, &mut Sink::new(black_box(&mut page)), from as i64).expect("open")
                });
            });
            process::close(fd).expect("open");
            process::unlinkat(AT_FDCWD, path.as_bytes(), 0).expect("made above");
        }
    }
}

fn all(criterion: &mut Criterion) {
    let config = Config { compress: Compress::Never, max_bytes: 2 << 30, ..Config::default() };
    process::configure_default(&config).expect("the default filesystem was not used yet");
    for bench in [path_walk, descriptor, memory, codec, map, copy] {
        bench(criterion);
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
