//! Bytes at rest: packing, inflating, random reads, appending to a packed file, exports, the ratio.

use std::ffi::c_void;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};
use std::process::{Command, Stdio};

use ermfs_ffi_tests::abi::Abi;
use libc::{O_APPEND, O_CREAT, O_RDONLY, O_TRUNC, O_WRONLY};

use crate::Options;
use crate::corpus;
use crate::side::{Goal, ON_CLOSE, Sides, Table, nanoseconds, open, path};

const MIB: usize = 1 << 20;
const BLOCK: usize = 65_536;

/// The codec without a filesystem around it.
struct Bare {
    compressor: *mut libdeflate_sys::libdeflate_compressor,
    decompressor: *mut libdeflate_sys::libdeflate_decompressor,
}

impl Bare {
    fn new() -> Bare {
        // SAFETY: no arguments that could be wrong.
        unsafe {
            Bare {
                compressor: libdeflate_sys::libdeflate_alloc_compressor(1),
                decompressor: libdeflate_sys::libdeflate_alloc_decompressor(),
            }
        }
    }

    /// The members of all blocks.
    fn pack(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut out = vec![0u8; BLOCK + 1024];
        let pack = |block: &[u8]| {
            // SAFETY: both buffers are live and of the lengths given.
            let n = unsafe {
                libdeflate_sys::libdeflate_gzip_compress(
                    self.compressor,
                    block.as_ptr().cast(),
                    block.len(),
                    out.as_mut_ptr().cast(),
                    out.len(),
                )
            };
            out[..n].to_vec()
        };
        bytes.chunks(BLOCK).map(pack).collect()
    }

    fn inflate(&self, member: &[u8], room: &mut [u8]) {
        let mut n = 0;
        // SAFETY: both buffers are live and of the lengths given.
        let result = unsafe {
            libdeflate_sys::libdeflate_gzip_decompress(
                self.decompressor,
                member.as_ptr().cast(),
                member.len(),
                room.as_mut_ptr().cast(),
                room.len(),
                &mut n,
            )
        };
        assert!(result == 0 && n > 0);
    }
}

pub(crate) fn run(sides: &Sides, options: &Options, table: &mut Table) {
    let mebibytes = if options.quick { 32 } else { 256 };
    let bytes = corpus::mixed(mebibytes * MIB);
    let bare = Bare::new();
    let root = sides.mount(ON_CLOSE);
    let abi = &sides.ermfs.abi;

    let what = format!("sequential write of {mebibytes} MiB, then close, level 1");
    let pack = || write_file(abi, "packed", &bytes);
    table.pair(&what, "ms", "bare codec loop", Goal::TimesFaster(0.95), pack, || {
        nanoseconds(1, || drop(bare.pack(&bytes))) / 1e6
    });
    table.pair("the same", "ms", "gzip -1", Goal::TimesFaster(2.7), pack, || {
        filter("gzip", &["-1"], &bytes).0
    });

    let members = bare.pack(&bytes);
    let what = format!("sequential read of the packed {mebibytes} MiB in 1 MiB calls");
    let read = || read_file(abi, "packed");
    table.pair(&what, "ms", "bare inflate loop", Goal::TimesFaster(0.95), read, || {
        inflate_all(&bare, &members)
    });
    let gz = filter("gzip", &["-1"], &bytes).1;
    table.pair("the same", "ms", "gzip -d", Goal::TimesFaster(4.5), read, || filter("gzip", &["-d"], &gz).0);

    random_line(abi, options, table, &bare, &members, &bytes);
    append_line(abi, table);
    export_lines(table, &bare, &members);
    ratio_line(sides, table, &bytes, gz.len());
    sides.unmount(root);
}

fn write_file(abi: &Abi, name: &str, bytes: &[u8]) -> f64 {
    nanoseconds(1, || {
        let fd = open(abi, name, O_CREAT | O_TRUNC | O_WRONLY);
        for part in bytes.chunks(MIB) {
            // SAFETY: a live buffer of that length.
            assert_eq!(unsafe { (abi.write)(fd, part.as_ptr().cast(), part.len()) }, part.len() as isize);
        }
        // SAFETY: no pointers.
        unsafe { (abi.close)(fd) };
    }) / 1e6
}

fn read_file(abi: &Abi, name: &str) -> f64 {
    let mut buffer = vec![0u8; MIB];
    nanoseconds(1, || {
        let fd = open(abi, name, O_RDONLY);
        // SAFETY: a live buffer of that length.
        while unsafe { (abi.read)(fd, buffer.as_mut_ptr().cast(), MIB) } > 0 {}
        // SAFETY: no pointers.
        unsafe { (abi.close)(fd) };
    }) / 1e6
}

fn inflate_all(bare: &Bare, members: &[Vec<u8>]) -> f64 {
    let mut room = vec![0u8; MIB];
    nanoseconds(1, || {
        for (i, member) in members.iter().enumerate() {
            let at = i % (MIB / BLOCK) * BLOCK;
            bare.inflate(member, &mut room[at..at + BLOCK]);
        }
    }) / 1e6
}

/// Milliseconds that a command takes over `bytes` on its standard input, and what it answered.
fn filter(command: &str, arguments: &[&str], bytes: &[u8]) -> (f64, Vec<u8>) {
    let (input, output) = (memfd(), memfd());
    (&input).write_all(bytes).expect("memory");
    // SAFETY: no pointers.
    unsafe { libc::lseek(input.as_raw_fd(), 0, libc::SEEK_SET) };
    let stdout = output.try_clone().expect("a descriptor");
    let time = nanoseconds(1, || {
        let status =
            Command::new(command).args(arguments).arg("-c").stdin(input).stdout(Stdio::from(stdout)).status();
        assert!(status.expect("gzip is installed").success());
    });
    let len = output.metadata().expect("a memfd").len() as usize;
    let mut answer = vec![0; len];
    std::os::unix::fs::FileExt::read_exact_at(&output, &mut answer, 0).expect("a memfd");
    (time / 1e6, answer)
}

fn memfd() -> File {
    // SAFETY: a literal name; the descriptor is new and ours.
    unsafe { File::from_raw_fd(libc::memfd_create(c"bench".as_ptr(), libc::MFD_CLOEXEC)) }
}

/// One 4 KiB read in a block that nobody has inflated yet, beside one inflate of the block.
fn random_line(
    abi: &Abi,
    options: &Options,
    table: &mut Table,
    bare: &Bare,
    members: &[Vec<u8>],
    bytes: &[u8],
) {
    // Each visit must find its block cold: a file that is much larger than the cache, and each block once.
    let copies = if options.quick { 1 } else { 4 };
    let fd = open(abi, "large", O_CREAT | O_TRUNC | O_WRONLY);
    for _ in 0..copies {
        // SAFETY: a live buffer of that length.
        assert_eq!(unsafe { (abi.write)(fd, bytes.as_ptr().cast(), bytes.len()) }, bytes.len() as isize);
    }
    // SAFETY: no pointers.
    unsafe { (abi.close)(fd) };
    let fd = open(abi, "large", O_RDONLY);
    let blocks = copies * members.len();
    let (mut round, visits) = (0, blocks / 8);
    let mut buffer = vec![0u8; BLOCK];
    let order = |i: usize| i * 4_099 % blocks;
    let what = format!("random 4 KiB read of a cold packed {} MiB file", copies * bytes.len() / MIB);
    let mut other = vec![0u8; BLOCK];
    let mut other_round = 0;
    table.pair(
        &what,
        "us",
        "one 64 KiB inflate",
        Goal::Beyond(10.0),
        || {
            let first = round * visits;
            round += 1;
            nanoseconds(visits, || {
                for i in first..first + visits {
                    let offset = (order(i) * BLOCK + 8192) as i64;
                    // SAFETY: a live buffer of that length.
                    assert_eq!(unsafe { (abi.pread)(fd, buffer.as_mut_ptr().cast(), 4096, offset) }, 4096);
                }
            }) / 1e3
        },
        || {
            let first = other_round * visits;
            other_round += 1;
            nanoseconds(visits, || {
                for i in first..first + visits {
                    bare.inflate(&members[order(i) % members.len()], &mut other);
                }
            }) / 1e3
        },
    );
    // SAFETY: no pointers.
    unsafe { (abi.close)(fd) };
}

fn append_line(abi: &Abi, table: &mut Table) {
    let record = corpus::text(4096);
    table.single("reopen, append 4 KiB to that file, close", "us", 700.0, || {
        nanoseconds(1, || {
            let fd = open(abi, "large", O_WRONLY | O_APPEND);
            // SAFETY: a live buffer of that length.
            assert_eq!(unsafe { (abi.write)(fd, record.as_ptr().cast(), 4096) }, 4096);
            // SAFETY: no pointers.
            unsafe { (abi.close)(fd) };
        }) / 1e3
    });
}

type Export = unsafe extern "C" fn(*const libc::c_char, i32) -> i32;

/// What `ermfs_export_memfd` gives.
pub(crate) fn take_export(name: &str, flags: i32) -> File {
    // SAFETY: the library is loaded, so dlsym finds its functions; this one has this type (ermfs.h). The path ends with NUL,
    // and the descriptor is new and ours.
    unsafe {
        let export = std::mem::transmute::<*mut c_void, Export>(library_symbol(c"ermfs_export_memfd"));
        File::from_raw_fd(export(path(name).as_ptr(), flags))
    }
}

fn export_lines(table: &mut Table, bare: &Bare, members: &[Vec<u8>]) {
    let take = |flags| take_export("packed", flags);
    let mut room = vec![0u8; BLOCK];
    table.pair(
        "export of the packed file",
        "ms",
        "inflate + write()",
        Goal::TimesFaster(0.95),
        || nanoseconds(1, || drop(take(0))) / 1e6,
        || {
            nanoseconds(1, || {
                let mut file = memfd();
                for member in members {
                    bare.inflate(member, &mut room);
                    file.write_all(&room).expect("memory");
                }
            }) / 1e6
        },
    );
    let first = take(1);
    table.single("second sealed export of the same file", "us", 10.0, || {
        nanoseconds(1, || drop(take(1))) / 1e3
    });
    drop(first);
}

pub(crate) fn library_symbol(name: &std::ffi::CStr) -> *mut c_void {
    let library =
        path(ermfs_ffi_tests::abi::library().expect("loaded before").to_str().expect("a path of text"));
    // SAFETY: NUL-terminated strings; the library is loaded already and never unloaded.
    let symbol = unsafe { libc::dlsym(libc::dlopen(library.as_ptr(), libc::RTLD_NOW), name.as_ptr()) };
    assert!(!symbol.is_null(), "{name:?}");
    symbol
}

/// How many times smaller the corpus is at rest, beside `gzip -1` of the whole.
fn ratio_line(sides: &Sides, table: &mut Table, bytes: &[u8], gz: usize) {
    // SAFETY: integers only, of which zeros are a value; a NUL-terminated path and room for the answer.
    let stored = unsafe {
        let mut status: libc::stat = std::mem::zeroed();
        assert_eq!((sides.ermfs.abi.stat)(path("packed").as_ptr(), &mut status), 0);
        status.st_blocks as f64 * 512.0
    };
    let ratio = |stored: f64| bytes.len() as f64 / stored;
    table.pair(
        "ratio at rest, level 1, C source and ELF",
        "x",
        "gzip -1",
        Goal::AtLeast(1.0),
        || ratio(stored),
        || ratio(gz as f64),
    );
}
