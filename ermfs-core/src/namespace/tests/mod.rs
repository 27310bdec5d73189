//! Tests of the namespace as a whole.

mod attributes;
mod concurrent;
mod convert;
mod limits;
mod listing;
mod oracle;
mod permissions;
mod rules;

use core::ops::ControlFlow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::epoch;
use crate::errno::Errno;
use crate::fs::Config;
use crate::space::Space;
use crate::testing::usage;

/// Who may do everything.
static ROOT: Credentials = Credentials::superuser_as(0, 0);

/// A filesystem and the calls on its root.
struct Tree {
    fs: Arc<Fs>,
    root: InodeRef,
}

impl Tree {
    fn new() -> Tree {
        Tree::with(&Config::default()).unwrap()
    }

    fn with(config: &Config) -> Result<Tree> {
        let fs = Fs::new(config)?;
        let root = fs.root();
        Ok(Tree { fs, root })
    }

    fn at(&self) -> At<'_> {
        At { fs: &self.fs, dir: &self.root, who: self.fs.credentials(), umask: 0 }
    }

    fn below<'a>(&'a self, dir: &'a InodeRef) -> At<'a> {
        At { fs: &self.fs, dir, who: self.fs.credentials(), umask: 0 }
    }

    fn create(&self, path: &str) -> Result<InodeRef> {
        let how = OpenHow { write: true, create: true, exclusive: true, mode: 0o600, ..OpenHow::default() };
        Fs::open(self.at(), path.as_bytes(), &how).map(|(inode, created)| {
            assert!(created);
            inode
        })
    }

    fn mkdir(&self, path: &str) -> Result<()> {
        Fs::mkdir(self.at(), path.as_bytes(), 0o700)
    }

    fn symlink(&self, target: &str, path: &str) -> Result<()> {
        Fs::symlink(target.as_bytes(), self.at(), path.as_bytes())
    }

    fn unlink(&self, path: &str) -> Result<()> {
        Fs::unlink(self.at(), path.as_bytes())
    }

    fn rmdir(&self, path: &str) -> Result<()> {
        Fs::rmdir(self.at(), path.as_bytes())
    }

    fn link(&self, old: &str, new: &str) -> Result<()> {
        Fs::link(self.at(), old.as_bytes(), self.at(), new.as_bytes(), false)
    }

    fn rename(&self, old: &str, new: &str) -> Result<()> {
        self.rename_with(old, new, RenameFlags::default())
    }

    fn rename_with(&self, old: &str, new: &str, flags: RenameFlags) -> Result<()> {
        Fs::rename(self.at(), old.as_bytes(), self.at(), new.as_bytes(), flags)
    }

    fn get(&self, path: &str) -> Result<InodeRef> {
        Fs::lookup(self.at(), path.as_bytes(), false)
    }

    fn stat(&self, path: &str) -> Result<Metadata> {
        Fs::stat(self.at(), path.as_bytes(), false)
    }

    /// Names (without the dots) and inode numbers.
    fn list(&self, path: &str) -> BTreeMap<Vec<u8>, u64> {
        self.list_of(&self.get(path).unwrap())
    }

    fn list_of(&self, dir: &InodeRef) -> BTreeMap<Vec<u8>, u64> {
        let mut names = BTreeMap::new();
        self.fs
            .read_dir(dir, 0, &mut |entry| {
                if entry.name != b"." && entry.name != b".." {
                    assert!(names.insert(entry.name.to_vec(), entry.ino).is_none(), "listed twice");
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        names
    }

    /// Everything below the root: path to (inode number, links).
    fn everything(&self) -> BTreeMap<String, (u64, u64)> {
        let mut all = BTreeMap::new();
        let mut pending = vec![(String::new(), self.root.clone())];
        while let Some((prefix, dir)) = pending.pop() {
            for (name, ino) in self.list_of(&dir) {
                let inode = Fs::lookup(self.below(&dir), &name, false).unwrap();
                assert_eq!(inode.ino(), ino);
                let path = format!("{prefix}/{}", String::from_utf8_lossy(&name));
                all.insert(path.clone(), (ino, inode.stat().nlink));
                if inode.kind() == InodeKind::Directory {
                    pending.push((path, inode));
                }
            }
        }
        all
    }

    /// What must hold of every tree that nobody is changing.
    fn check(&self) {
        let mut names: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        let (mut directories, mut pending) = (1, vec![(String::from("/"), self.root.clone())]);
        while let Some((path, dir)) = pending.pop() {
            assert_eq!(self.fs.path_of(&dir).unwrap(), path.as_bytes());
            let mut subdirectories = 0;
            let names_here = self.list_of(&dir);
            assert_eq!(dir.stat().size, names_here.len() as u64 * 20 + 40);
            for (name, ino) in names_here {
                let inode = Fs::lookup(self.below(&dir), &name, false).unwrap();
                assert_eq!(inode.ino(), ino);
                if inode.kind() == InodeKind::Directory {
                    (subdirectories, directories) = (subdirectories + 1, directories + 1);
                    assert_eq!(Fs::lookup(self.below(&inode), b"..", false).unwrap(), dir);
                    let slash = if path == "/" { "" } else { "/" };
                    pending.push((format!("{path}{slash}{}", String::from_utf8_lossy(&name)), inode));
                } else {
                    let seen = names.entry(ino).or_insert((0, inode.stat().nlink));
                    seen.0 += 1;
                }
            }
            assert_eq!(dir.stat().nlink, 2 + subdirectories, "{path}");
        }
        for (ino, (found, nlink)) in &names {
            assert_eq!(found, nlink, "inode {ino}");
        }
        let statistics = self.fs.statistics();
        assert_eq!((statistics.files, statistics.directories), (names.len() as u64, directories));
    }

    /// Removes everything below the root.
    fn clear(&self) {
        let all: Vec<String> = self.everything().into_keys().collect();
        // Longer paths sort after their directories.
        for path in all.iter().rev() {
            self.rmdir(path).or_else(|_| self.unlink(path)).unwrap();
        }
    }
}

/// Waits until the collector has freed what was retired, as far as `done` wants.
fn eventually(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "the collector stands still");
        epoch::flush();
        std::thread::yield_now();
    }
}

fn charged(space: &Space) -> u64 {
    usage(space).total
}

/// A small generator of test cases (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}
