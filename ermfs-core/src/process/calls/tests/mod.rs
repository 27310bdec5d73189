//! The calls as a program makes them: what they answer to good and bad arguments (probed on a Linux
//! 6.18 tmpfs), offsets shared by descriptors, threads, and forks.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use crate::content::{Sink, Source};
use crate::errno::{Errno, Result};
use crate::fs::Config;
use crate::process::*;
use libc::{
    AT_EACCESS, AT_EMPTY_PATH, AT_NO_AUTOMOUNT, AT_REMOVEDIR, AT_SYMLINK_NOFOLLOW, F_DUPFD, F_DUPFD_CLOEXEC,
    F_GETFD, F_GETFL, F_OK, F_SETFD, F_SETFL, FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE,
    FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE, FD_CLOEXEC, O_ACCMODE, O_APPEND,
    O_ASYNC, O_CLOEXEC, O_CREAT, O_DIRECT, O_DIRECTORY, O_EXCL, O_NOATIME, O_NOCTTY, O_NOFOLLOW, O_NONBLOCK,
    O_PATH, O_RDONLY, O_RDWR, O_SYNC, O_TMPFILE, O_TRUNC, O_WRONLY, POSIX_FADV_DONTNEED, R_OK, S_IFDIR,
    S_IFLNK, S_IFMT, S_IFREG, SEEK_CUR, SEEK_DATA, SEEK_END, SEEK_HOLE, SEEK_SET, UTIME_NOW, UTIME_OMIT,
    W_OK, X_OK, timespec,
};

/// The working directory, the umask and fork belong to the process: their tests take turns.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A filesystem of its own for one test, by its root's descriptor.
struct Root(i32);

impl Root {
    fn new() -> Root {
        Root(fsmount(&Config::default()).unwrap())
    }

    fn open(&self, path: &str, flags: i32) -> Result<i32> {
        openat(self.0, path.as_bytes(), flags, 0o644)
    }

    /// A file that holds `bytes`, open for reading and writing, its offset at the start.
    fn file(&self, path: &str, bytes: &[u8]) -> i32 {
        let fd = self.open(path, O_RDWR | O_CREAT).unwrap();
        assert_eq!(put_at(fd, bytes, 0), Ok(bytes.len()));
        fd
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        close(self.0).unwrap();
    }
}

fn put(fd: i32, bytes: &[u8]) -> Result<usize> {
    write(fd, &mut Source::new(bytes))
}

fn put_at(fd: i32, bytes: &[u8], offset: i64) -> Result<usize> {
    pwrite(fd, &mut Source::new(bytes), offset)
}

fn get(fd: i32, room: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; room];
    let n = read(fd, &mut Sink::new(&mut bytes))?;
    bytes.truncate(n);
    Ok(bytes)
}

fn get_at(fd: i32, room: usize, offset: i64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; room];
    let n = pread(fd, &mut Sink::new(&mut bytes), offset)?;
    bytes.truncate(n);
    Ok(bytes)
}

fn names(stream: &mut DirStream) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    while let Some(entry) = stream.readdir().unwrap() {
        names.push(entry.name.to_vec());
    }
    names.sort();
    names
}

const BAD_FD: i32 = FIRST_FD + 60_000;

mod arguments;
mod behaviour;
#[cfg(feature = "failpoints")]
mod ended;
mod locks;
mod mode;
