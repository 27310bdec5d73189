//! A filesystem that has no room left.
//!
//! What is promised there: what takes something away or puts one name in another's place works, cutting a file and writing
//! over its bytes works while nobody else has the reserve, everything else works or is refused and has changed nothing.

use std::collections::BTreeMap;

use ermfs_core::process::{self, XattrOf};
use ermfs_core::{Compress, Config, Errno, Result, Sink, Source, XattrName};

use super::{held, number};

const MAX: u64 = 2 << 20;

struct Full {
    root: i32,
    files: BTreeMap<String, Vec<u8>>,
    random: u64,
    refused: usize,
}

impl Full {
    fn below(&mut self, limit: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as usize % limit
    }

    /// A short or a long name: directories fill up as well.
    fn name(&mut self) -> String {
        let number = self.below(5000);
        if number.is_multiple_of(9) { format!("{number}{}", "n".repeat(200)) } else { number.to_string() }
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        match self.below(3) {
            0 | 1 => (0..len).map(|_| self.below(256) as u8).collect(),
            kind => (0..len).map(|at| (at / (7 * kind) + len) as u8).collect(),
        }
    }

    fn existing(&mut self) -> Option<String> {
        let at = self.below(self.files.len().max(1));
        self.files.keys().nth(at).cloned()
    }

    /// Runs `work` on an open file.
    fn with<R>(&self, name: &str, flags: i32, work: impl FnOnce(i32) -> Result<R>) -> Result<R> {
        let fd = process::openat(self.root, name.as_bytes(), flags, 0o644)?;
        let done = work(fd);
        process::close(fd).expect("a close never fails");
        done
    }

    fn refusal(&mut self, what: &str, error: Errno) {
        assert_eq!(error, Errno::ENOSPC, "{what}");
        self.refused += 1;
    }

    /// Writes at an offset; what was written counts, whether there was room for all or not.
    fn write(&mut self, name: &str, offset: usize, bytes: &[u8], in_place: bool) {
        let flags = if in_place { libc::O_RDWR } else { libc::O_RDWR | libc::O_CREAT };
        let written =
            self.with(name, flags, |fd| Ok(process::pwrite(fd, &mut Source::new(bytes), offset as i64)));
        let written = match written {
            Ok(written) => written,
            Err(error) => return self.refusal("creating", error),
        };
        let content = self.files.entry(name.into()).or_default();
        match written {
            Ok(written) => {
                assert!(
                    !in_place || written == bytes.len(),
                    "overwriting {offset} {} {written}",
                    bytes.len()
                );
                content.resize(content.len().max(offset + written), 0);
                content[offset..offset + written].copy_from_slice(&bytes[..written]);
            }
            Err(error) => {
                assert!(!in_place, "overwriting: {error:?}");
                self.refusal("writing", error);
            }
        }
    }

    fn step(&mut self) {
        let Some(existing) = self.existing() else {
            let (name, bytes) = (self.name(), self.bytes(100));
            return self.write(&name, 0, &bytes, false);
        };
        let size = self.files[&existing].len();
        match self.below(20) {
            // More than goes away again, so that it stays full.
            0..9 => {
                let len = if self.below(4) == 0 { 70_000 } else { 3000 };
                let len = self.below(len);
                let (name, bytes) = (self.name(), self.bytes(len));
                let offset = if self.below(2) == 0 { 0 } else { self.files.get(&name).map_or(0, Vec::len) };
                self.write(&name, offset, &bytes, false);
            }
            9..12 if size > 0 => {
                let offset = self.below(size);
                let len = 1 + self.below((size - offset).min(2000));
                let bytes = self.bytes(len);
                self.write(&existing, offset, &bytes, true);
            }
            12..14 => {
                let size = self.below(size + 1);
                let cut = self.with(&existing, libc::O_RDWR, |fd| process::ftruncate(fd, size as i64));
                assert_eq!(cut, Ok(()), "a file is cut");
                self.files.get_mut(&existing).expect("there").truncate(size);
            }
            14 => {
                let (key, value) = (XattrName::new(b"user.a").expect("a name"), vec![7; self.below(500)]);
                let how = process::xattr_flags(0).expect("none");
                let set = |fd| process::setxattr(XattrOf::Descriptor(fd), key, &value, how);
                if let Err(error) = self.with(&existing, libc::O_RDWR, set) {
                    self.refusal("setting an attribute", error);
                }
            }
            15..17 => {
                let Some(other) = self.existing() else { return };
                let renamed =
                    process::renameat2(self.root, existing.as_bytes(), self.root, other.as_bytes(), 0);
                assert_eq!(renamed, Ok(()), "a rename over what is there");
                let bytes = self.files.remove(&existing).expect("there");
                self.files.insert(other, bytes);
            }
            _ => {
                assert_eq!(process::unlinkat(self.root, existing.as_bytes(), 0), Ok(()), "an unlink");
                self.files.remove(&existing);
            }
        }
    }

    fn check(&self) {
        for (name, bytes) in &self.files {
            let mut room = vec![0; bytes.len() + 1];
            let read = self.with(name, libc::O_RDONLY, |fd| process::pread(fd, &mut Sink::new(&mut room), 0));
            assert_eq!(read, Ok(bytes.len()), "{name}");
            assert!(room[..bytes.len()] == bytes[..], "{name} has other bytes");
        }
        let statistics = process::statistics(self.root).expect("statistics");
        assert_eq!(statistics.files as usize, self.files.len());
        assert!(statistics.peak_bytes <= MAX && statistics.errors == 0, "{statistics:?}");
    }
}

fn work_on_a_full_one(compress: Compress) {
    let config = Config { max_bytes: MAX, compress, ..Config::default() };
    let root = process::fsmount(&config).expect("a filesystem");
    let directory = || process::mkdirat(root, b"d", 0o755).expect("a directory");
    let remove = || process::unlinkat(root, b"d", libc::AT_REMOVEDIR).expect("removed");
    directory();
    remove();
    let before = held(root, None);
    directory();
    let dir = process::openat(root, b"d", libc::O_RDONLY | libc::O_DIRECTORY, 0).expect("open");
    let mut full = Full { root: dir, files: BTreeMap::new(), random: 0x5eed, refused: 0 };
    let calls = number(100_000, 10_000);
    for call in 0..calls {
        full.step();
        if call % 1000 == 0 {
            full.check();
        }
    }
    full.check();
    let statistics = process::statistics(root).expect("statistics");
    println!(
        "{compress:?}: {calls} calls, {} refused, {} files, {} of {MAX} bytes at the most",
        full.refused,
        full.files.len(),
        statistics.peak_bytes
    );
    assert!(full.refused > calls / 100, "it was full: {}", full.refused);
    for name in full.files.keys() {
        process::unlinkat(dir, name.as_bytes(), 0).expect("removed");
    }
    process::close(dir).expect("closed");
    remove();
    let after = held(root, Some(before.bytes_in_use));
    assert_eq!((after.bytes_in_use, after.files), (before.bytes_in_use, 0), "{after:?}");
    process::close(root).expect("closed");
}

#[test]
fn a_full_filesystem_that_packs_can_be_worked_on() {
    work_on_a_full_one(Compress::OnClose);
}

#[test]
fn a_full_filesystem_that_never_packs_can_be_worked_on() {
    work_on_a_full_one(Compress::Never);
}
