//! The operations that are counted, in steps: between two of them the other thread has its turn.
//!
//! Promises: what an actor makes it takes away, so that the next operation finds the filesystem empty. Owns an actor's
//! descriptors and names.

use ermfs_core::process::{self, AT_FDCWD, O_ANYFD};
use ermfs_core::{Errno, Sink, Source};
use libc::{O_APPEND, O_CREAT, O_RDONLY, O_RDWR};

/// What one step moves, in bytes, but for an append.
const PAGE: usize = 4096;
/// How long the files are: a block, so that no write makes them longer.
const FILE: usize = 65_536;
const RECORD: usize = 64;

/// Whether the threads work on files and directories of their own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Files {
    Own,
    Shared,
}

/// One thread's part.
pub(crate) struct Actor {
    directory: String,
    file: String,
    /// Names of its own in the directory.
    names: [String; 2],
    fd: i32,
    buffer: [u8; PAGE],
}

/// One step of an operation.
type Step = fn(&mut Actor);

/// An operation; `begin` is done once by each thread, uncounted.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) begin: Step,
    pub(crate) steps: &'static [Step],
}

/// All of them.
pub(crate) const OPERATIONS: [Operation; 10] = [
    Operation { name: "open + close", begin: nothing, steps: &[open, close] },
    Operation { name: "open + close, O_ANYFD", begin: nothing, steps: &[open_any, close] },
    Operation { name: "open + pread 4 KiB + close", begin: nothing, steps: &[open, pread, close] },
    Operation { name: "stat, 3 components", begin: nothing, steps: &[stat] },
    Operation { name: "fstat", begin: open, steps: &[fstat] },
    Operation { name: "pread 4 KiB", begin: open, steps: &[pread] },
    Operation { name: "pwrite 4 KiB", begin: open_to_write, steps: &[pwrite] },
    Operation { name: "append 64 bytes", begin: open_to_append, steps: &[append] },
    Operation { name: "create + close + unlink", begin: nothing, steps: &[create, close, unlink] },
    Operation { name: "rename", begin: make_name, steps: &[rename] },
];

impl Actor {
    /// The actor of thread `number`, with its directories and its file. Two actors that share make them once.
    pub(crate) fn new(number: usize, files: Files) -> Actor {
        let top = match files {
            Files::Own => format!("/thread-{number}"),
            Files::Shared => String::from("/together"),
        };
        let directory = format!("{top}/directory");
        let file = format!("{directory}/file");
        let names = ["there", "back"].map(|name| format!("{directory}/{number}-{name}"));
        for path in [&top, &directory] {
            let made = process::mkdirat(AT_FDCWD, path.as_bytes(), 0o755);
            assert!(matches!(made, Ok(()) | Err(Errno::EEXIST)), "{path}: {made:?}");
        }
        let mut actor = Actor { directory: top, file, names, fd: -1, buffer: [b'x'; PAGE] };
        actor.open_as(O_CREAT | O_RDWR);
        let written = process::pwrite(actor.fd, &mut Source::new(&[b'y'; FILE]), 0);
        assert_eq!(written, Ok(FILE));
        close(&mut actor);
        actor
    }

    /// Closes what is open and takes away what is there; the last of the actors that share a directory takes all.
    pub(crate) fn clear(mut self) {
        if self.fd >= 0 {
            close(&mut self);
        }
        let directory = format!("{}/directory", self.directory);
        for path in self.names.iter().chain([&self.file]) {
            let gone = process::unlinkat(AT_FDCWD, path.as_bytes(), 0);
            assert!(matches!(gone, Ok(()) | Err(Errno::ENOENT)), "{path}: {gone:?}");
        }
        for path in [&directory, &self.directory] {
            let gone = process::unlinkat(AT_FDCWD, path.as_bytes(), libc::AT_REMOVEDIR);
            let left = matches!(gone, Err(Errno::ENOTEMPTY | Errno::ENOENT));
            assert!(gone.is_ok() || left, "{path}: {gone:?}");
        }
    }

    fn open_as(&mut self, flags: i32) {
        let opened = process::openat(AT_FDCWD, self.file.as_bytes(), flags, 0o644);
        self.fd = opened.expect("the file can be opened");
    }
}

fn nothing(_: &mut Actor) {}

fn open(actor: &mut Actor) {
    actor.open_as(O_RDONLY);
}

fn open_any(actor: &mut Actor) {
    actor.open_as(O_RDONLY | O_ANYFD);
}

fn open_to_write(actor: &mut Actor) {
    actor.open_as(O_RDWR);
}

fn open_to_append(actor: &mut Actor) {
    actor.open_as(O_RDWR | O_APPEND);
}

fn close(actor: &mut Actor) {
    process::close(actor.fd).expect("it is open");
    actor.fd = -1;
}

fn stat(actor: &mut Actor) {
    let status = process::fstatat(AT_FDCWD, actor.file.as_bytes(), 0).expect("the file is there");
    assert_eq!(status.st_size, FILE as i64);
}

fn fstat(actor: &mut Actor) {
    assert_eq!(process::fstat(actor.fd).expect("it is open").st_size, FILE as i64);
}

fn pread(actor: &mut Actor) {
    let read = process::pread(actor.fd, &mut Sink::new(&mut actor.buffer), PAGE as i64);
    assert_eq!(read, Ok(PAGE));
}

fn pwrite(actor: &mut Actor) {
    let written = process::pwrite(actor.fd, &mut Source::new(&actor.buffer), PAGE as i64);
    assert_eq!(written, Ok(PAGE));
}

fn append(actor: &mut Actor) {
    assert_eq!(process::write(actor.fd, &mut Source::new(&actor.buffer[..RECORD])), Ok(RECORD));
}

fn create(actor: &mut Actor) {
    let created = process::openat(AT_FDCWD, actor.names[0].as_bytes(), O_CREAT | O_RDWR, 0o644);
    actor.fd = created.expect("the file can be created");
}

fn unlink(actor: &mut Actor) {
    process::unlinkat(AT_FDCWD, actor.names[0].as_bytes(), 0).expect("it was created");
}

fn make_name(actor: &mut Actor) {
    create(actor);
    close(actor);
}

/// Gives the file its other name.
fn rename(actor: &mut Actor) {
    let [from, to] = &actor.names;
    process::renameat2(AT_FDCWD, from.as_bytes(), AT_FDCWD, to.as_bytes(), 0).expect("it is there");
    actor.names.swap(0, 1);
}
