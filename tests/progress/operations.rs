//! What threads do while another stands still.
//!
//! Promises: every operation leaves the tree as it was, and fails loudly when a call does not answer what it must,
//! whatever others do. Owns a small tree of the default filesystem: what all threads share, and a directory for each.

use ermfs_core::process::{self, AT_FDCWD, O_ANYFD};
use ermfs_core::{At, Fs, Sink, Source};

const BLOCK: usize = 65_536;

/// What a thread that has stopped in an operation may keep others from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Nothing.
    Reads,
    /// Changing names in the shared directory.
    ChangesDirectory,
    /// Changing the shared file.
    ChangesFile,
    /// Nothing that others do: only the thread itself has to do with it.
    ChangesOwn,
}

pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) part: Part,
    pub(crate) run: fn(&World, usize),
}

/// Descriptors of the shared files.
pub(crate) struct World {
    /// Of `/shared/packed`, for reading.
    packed: i32,
    /// Of `/shared/raw`, for both.
    raw: i32,
    /// Of `/shared`.
    directory: i32,
}

const PACKED: &[u8] = b"/shared/packed";
const RAW: &[u8] = b"/shared/raw";
const LINK: &[u8] = b"/shared/link";

impl World {
    pub(crate) fn new(threads: usize) -> World {
        process::mkdirat(AT_FDCWD, b"/shared", 0o755).expect("a directory");
        process::symlinkat(b"packed", AT_FDCWD, LINK).expect("a link");
        let flags = libc::O_CREAT | libc::O_RDWR;
        let open = |path: &[u8]| process::openat(AT_FDCWD, path, flags, 0o644).expect("a file");
        for path in [PACKED, RAW] {
            let fd = open(path);
            let text = vec![b'x'; 2 * BLOCK + 100];
            assert_eq!(process::write(fd, &mut Source::new(&text)), Ok(text.len()));
            process::close(fd).expect("closed");
        }
        for thread in 0..threads {
            process::mkdirat(AT_FDCWD, &own(thread, ""), 0o755).expect("a directory");
        }
        let packed = process::openat(AT_FDCWD, PACKED, libc::O_RDONLY, 0).expect("a file");
        let directory = process::openat(AT_FDCWD, b"/shared", libc::O_DIRECTORY, 0).expect("a directory");
        process::chdir(b"/shared").expect("the working directory");
        // Closed it was packed, and is raw again where it is written, for as long as it is open.
        let raw = open(RAW);
        for block in 0..3 {
            assert_eq!(process::pwrite(raw, &mut Source::new(b"x"), (block * BLOCK) as i64), Ok(1));
        }
        World { packed, raw, directory }
    }
}

fn own(thread: usize, name: &str) -> Vec<u8> {
    format!("/own{thread}/{name}").into_bytes()
}

fn shared(thread: usize, name: &str) -> Vec<u8> {
    format!("/shared/{name}{thread}").into_bytes()
}

pub(crate) const OPERATIONS: &[Operation] = &[
    Operation { name: "stat", part: Part::Reads, run: stat },
    Operation { name: "stat from a directory", part: Part::Reads, run: stat_from },
    Operation { name: "access", part: Part::Reads, run: access },
    Operation { name: "readlink", part: Part::Reads, run: readlink },
    Operation { name: "fstat", part: Part::Reads, run: fstat },
    Operation { name: "fcntl", part: Part::Reads, run: fcntl },
    Operation { name: "pread of a packed file", part: Part::Reads, run: pread_packed },
    Operation { name: "pread of a raw file", part: Part::Reads, run: pread_raw },
    Operation { name: "open and close", part: Part::Reads, run: open_close },
    Operation { name: "open and close with O_ANYFD", part: Part::Reads, run: open_close_any },
    Operation { name: "dup and dup2", part: Part::Reads, run: dup },
    Operation { name: "create and unlink", part: Part::ChangesDirectory, run: create_unlink },
    Operation { name: "mkdir and rmdir", part: Part::ChangesDirectory, run: mkdir_rmdir },
    Operation { name: "link and rename", part: Part::ChangesDirectory, run: link_rename },
    Operation { name: "pwrite", part: Part::ChangesFile, run: pwrite },
    Operation { name: "ftruncate", part: Part::ChangesFile, run: truncate },
    Operation { name: "an own file's life", part: Part::ChangesOwn, run: own_life },
    Operation { name: "the first read of a packed file", part: Part::ChangesOwn, run: read_first },
];

fn stat(world: &World, _: usize) {
    let status = process::fstatat(AT_FDCWD, PACKED, 0).expect("stat");
    assert_eq!(status.st_size, (2 * BLOCK + 100) as i64);
    let through = process::fstatat(AT_FDCWD, LINK, 0).expect("stat through a link");
    assert_eq!(through.st_ino, process::fstat(world.packed).expect("fstat").st_ino);
}

fn stat_from(world: &World, _: usize) {
    for dirfd in [world.directory, AT_FDCWD] {
        let status = process::fstatat(dirfd, b"packed", 0).expect("stat");
        assert_eq!(status.st_size, (2 * BLOCK + 100) as i64);
    }
}

fn access(_: &World, _: usize) {
    process::faccessat(AT_FDCWD, RAW, libc::R_OK, 0).expect("access");
}

fn readlink(_: &World, _: usize) {
    assert_eq!(process::readlinkat(AT_FDCWD, LINK).as_deref(), Ok(b"packed".as_slice()));
    // As a mount does it.
    let fs = process::default_fs().expect("a filesystem");
    let _inside = process::Operation::begin(&fs).expect("a filesystem that is well");
    let at = At { fs: &fs, dir: &fs.root(), who: fs.credentials(), umask: 0 };
    assert_eq!(Fs::readlink(at, LINK, &mut [0; 10]), Ok(b"packed".len()));
}

fn fstat(world: &World, _: usize) {
    process::fstat(world.raw).expect("fstat");
    assert_eq!(process::fstat(world.packed).expect("fstat").st_size, (2 * BLOCK + 100) as i64);
}

fn fcntl(world: &World, _: usize) {
    let flags = process::fcntl(world.packed, libc::F_GETFL, 0).expect("its flags");
    assert_eq!(flags & libc::O_ACCMODE, libc::O_RDONLY);
    process::fcntl(world.packed, libc::F_GETFD, 0).expect("its flag");
}

fn pread(fd: i32, offset: usize, len: usize) {
    let mut bytes = vec![0; len];
    assert_eq!(process::pread(fd, &mut Sink::new(&mut bytes), offset as i64), Ok(len));
    assert!(bytes.iter().all(|byte| *byte == b'x'));
}

fn pread_packed(world: &World, _: usize) {
    pread(world.packed, BLOCK - 50, 100);
    pread(world.packed, 0, BLOCK);
}

fn pread_raw(world: &World, _: usize) {
    pread(world.raw, BLOCK - 50, 100);
}

fn open_close(_: &World, _: usize) {
    let fd = process::openat(AT_FDCWD, PACKED, libc::O_RDONLY, 0).expect("open");
    process::close(fd).expect("close");
}

fn open_close_any(_: &World, _: usize) {
    let fd = process::openat(AT_FDCWD, PACKED, libc::O_RDONLY | O_ANYFD, 0).expect("open");
    process::close(fd).expect("close");
}

fn dup(world: &World, _: usize) {
    let fd = process::dup(world.packed).expect("dup");
    assert_eq!(process::dup2(world.raw, fd), Ok(fd));
    process::close(fd).expect("close");
}

fn create_unlink(_: &World, thread: usize) {
    let path = shared(thread, "new");
    let fd = process::openat(AT_FDCWD, &path, libc::O_CREAT | libc::O_EXCL | libc::O_RDWR, 0o644);
    process::unlinkat(AT_FDCWD, &path, 0).expect("unlink");
    process::close(fd.expect("create")).expect("close");
}

fn mkdir_rmdir(_: &World, thread: usize) {
    let path = shared(thread, "dir");
    process::mkdirat(AT_FDCWD, &path, 0o755).expect("mkdir");
    process::unlinkat(AT_FDCWD, &path, libc::AT_REMOVEDIR).expect("rmdir");
}

fn link_rename(_: &World, thread: usize) {
    let (one, other) = (shared(thread, "one"), shared(thread, "other"));
    process::linkat(AT_FDCWD, RAW, AT_FDCWD, &one, 0).expect("link");
    process::renameat2(AT_FDCWD, &one, AT_FDCWD, &other, 0).expect("rename");
    process::unlinkat(AT_FDCWD, &other, 0).expect("unlink");
}

fn pwrite(world: &World, _: usize) {
    let bytes = [b'x'; 5_000];
    let at = (BLOCK - 5_000) as i64;
    assert_eq!(process::pwrite(world.raw, &mut Source::new(&bytes), at), Ok(bytes.len()));
    // Within a page, where the one before reaches over two.
    assert_eq!(process::pwrite(world.raw, &mut Source::new(b"x"), 100), Ok(1));
}

fn truncate(world: &World, _: usize) {
    let size = (2 * BLOCK + 100) as i64;
    process::ftruncate(world.raw, size + 5_000).expect("longer");
    process::ftruncate(world.raw, size).expect("shorter");
}

fn own_life(_: &World, thread: usize) {
    let (path, other) = (own(thread, "file"), own(thread, "other"));
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR | libc::O_APPEND;
    let fd = process::openat(AT_FDCWD, &path, flags, 0o644).expect("create");
    let bytes = vec![b'o'; 10_000];
    for half in bytes.chunks(bytes.len() / 2) {
        assert_eq!(process::write(fd, &mut Source::new(half)), Ok(half.len()));
    }
    let mut read = vec![0; 20_000];
    assert_eq!(process::pread(fd, &mut Sink::new(&mut read), 0), Ok(bytes.len()));
    assert_eq!(read[..bytes.len()], bytes);
    process::renameat2(AT_FDCWD, &path, AT_FDCWD, &other, 0).expect("rename");
    process::ftruncate(fd, 100).expect("cut");
    process::unlinkat(AT_FDCWD, &other, 0).expect("unlink");
    process::close(fd).expect("close");
    // A directory gets its table with its first name.
    let (dir, first) = (own(thread, "dir"), own(thread, "dir/first"));
    process::mkdirat(AT_FDCWD, &dir, 0o755).expect("mkdir");
    process::mkdirat(AT_FDCWD, &first, 0o755).expect("mkdir");
    process::unlinkat(AT_FDCWD, &first, libc::AT_REMOVEDIR).expect("rmdir");
    process::unlinkat(AT_FDCWD, &dir, libc::AT_REMOVEDIR).expect("rmdir");
}

fn read_first(_: &World, thread: usize) {
    let path = own(thread, "packed");
    let fd = process::openat(AT_FDCWD, &path, libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY, 0o644)
        .expect("create");
    let text = vec![b'x'; BLOCK];
    assert_eq!(process::write(fd, &mut Source::new(&text)), Ok(text.len()));
    process::close(fd).expect("close");
    let fd = process::openat(AT_FDCWD, &path, libc::O_RDONLY, 0).expect("open");
    pread(fd, 0, 100);
    process::close(fd).expect("close");
    process::unlinkat(AT_FDCWD, &path, 0).expect("unlink");
}
