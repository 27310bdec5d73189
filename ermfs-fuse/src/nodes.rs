//! The inodes that the kernel holds, and how often it was told of each.
//!
//! Promises: an inode that the kernel was told of is there, whatever becomes of its names, until the kernel has forgotten it
//! as often as it was told; its node number is its inode number, which is never used again. Owns a counted reference to
//! each. Never: a lock of the filesystem taken while one of its own is held; what it lets go of goes after.

use std::collections::HashMap;

use ermfs_core::{Errno, InodeRef, Result};
use parking_lot::Mutex;

/// Kept apart so that threads seldom meet.
const SHARDS: usize = 16;

struct Node {
    inode: InodeRef,
    /// How often the kernel was told and has not forgotten.
    told: u64,
    /// A directory that has another parent than when the kernel last began to list it.
    moved: bool,
}

/// See the module's page.
pub(crate) struct Nodes {
    root: InodeRef,
    shards: [Mutex<HashMap<u64, Node>>; SHARDS],
}

impl Nodes {
    pub(crate) fn new(root: InodeRef) -> Nodes {
        Nodes { root, shards: core::array::from_fn(|_| Mutex::new(HashMap::new())) }
    }

    fn shard(&self, number: u64) -> &Mutex<HashMap<u64, Node>> {
        &self.shards[(number % SHARDS as u64) as usize]
    }

    /// The inode of a node.
    ///
    /// # Errors
    /// `ESTALE` for one that the kernel has forgotten.
    pub(crate) fn get(&self, number: u64) -> Result<InodeRef> {
        if number == self.root.ino() {
            return Ok(self.root.clone());
        }
        self.shard(number).lock().get(&number).map(|node| node.inode.clone()).ok_or(Errno::ESTALE)
    }

    /// Whether the kernel holds it.
    pub(crate) fn knows(&self, number: u64) -> bool {
        number == self.root.ino() || self.shard(number).lock().contains_key(&number)
    }

    /// Notes that the kernel is being told of an inode.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn tell(&self, inode: &InodeRef) -> Result<()> {
        if inode.ino() == self.root.ino() {
            // Held for as long as the mount, so nobody counts.
            return Ok(());
        }
        let mut shard = self.shard(inode.ino()).lock();
        shard.try_reserve(1)?;
        shard
            .entry(inode.ino())
            .or_insert_with(|| Node { inode: inode.clone(), told: 0, moved: false })
            .told += 1;
        Ok(())
    }

    /// Notes that a directory has another parent, if the kernel holds it.
    pub(crate) fn moved(&self, number: u64) {
        if let Some(node) = self.shard(number).lock().get_mut(&number) {
            node.moved = true;
        }
    }

    /// Whether that was noted since it was last asked.
    pub(crate) fn take_moved(&self, number: u64) -> bool {
        self.shard(number).lock().get_mut(&number).is_some_and(|node| std::mem::take(&mut node.moved))
    }

    /// The kernel forgets what it was told so many times.
    pub(crate) fn forget(&self, number: u64, times: u64) {
        let mut shard = self.shard(number).lock();
        let gone = match shard.get_mut(&number) {
            Some(node) if node.told > times => {
                node.told -= times;
                None
            }
            Some(_) => shard.remove(&number),
            None => None,
        };
        drop(shard);
        // The last reference of an inode without a name frees its content.
        drop(gone);
    }

    /// Calls `of` with the number of every inode that the kernel holds, under no lock. `false`: for want of memory not with
    /// all of them.
    pub(crate) fn each(&self, mut of: impl FnMut(u64)) -> bool {
        of(self.root.ino());
        let mut numbers = Vec::new();
        self.shards.iter().all(|shard| {
            let shard = shard.lock();
            numbers.clear();
            let room = numbers.try_reserve(shard.len()).is_ok();
            if room {
                numbers.extend(shard.keys().copied());
            }
            drop(shard);
            numbers.iter().for_each(|number| of(*number));
            room
        })
    }

    /// How many the kernel holds beside the root.
    pub(crate) fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use ermfs_core::{At, Config, Fs, OpenHow};

    use super::*;

    #[test]
    fn a_node_stays_until_it_is_forgotten_as_often_as_told() {
        let fs = Fs::new(&Config::default()).unwrap();
        let root = fs.root();
        let at = At { fs: &fs, dir: &root, who: fs.credentials(), umask: 0 };
        let how = OpenHow { write: true, create: true, mode: 0o600, ..OpenHow::default() };
        let (inode, _) = Fs::open(at, b"f", &how).unwrap();
        let nodes = Nodes::new(fs.root());
        assert_eq!(nodes.get(inode.ino()).err(), Some(Errno::ESTALE));
        nodes.tell(&inode).unwrap();
        nodes.tell(&inode).unwrap();
        nodes.tell(&root).unwrap();
        let number = inode.ino();
        let mut all = Vec::new();
        assert!(nodes.each(|number| all.push(number)));
        assert_eq!(all, [root.ino(), number]);
        nodes.moved(number);
        assert!(nodes.take_moved(number) && !nodes.take_moved(number) && !nodes.take_moved(root.ino()));
        drop(inode);
        Fs::unlink(at, b"f").unwrap();
        assert_eq!((nodes.count(), fs.statistics().files), (1, 1));
        nodes.forget(number, 1);
        assert!(nodes.knows(number) && nodes.get(number).is_ok());
        nodes.forget(number, 1);
        assert!(!nodes.knows(number));
        assert_eq!((nodes.count(), fs.statistics().files), (0, 0));
        // What it never was told of, and the root, it cannot lose.
        nodes.forget(number, 5);
        nodes.forget(root.ino(), 100);
        assert_eq!(nodes.get(root.ino()), Ok(root));
    }
}
