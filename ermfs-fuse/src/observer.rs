//! Changes that others make in process, on their way to the kernel's caches.
//!
//! Promises: a change that was not a request of the mount's own is told to the kernel as soon as the notifier's thread comes
//! to it, in no particular order and several of one kind as one. Until then the kernel shows what it knew. The notes are
//! bounded: where there is no room for one, every inode that the kernel holds is told of instead, and names that it should
//! have been told of it keeps for as long as the time to live in `server`. Owns the notes and the thread. Never waits under
//! a lock of the filesystem: telling the kernel may wait for requests that the mount has yet to answer.
//!
//! What a request changes the kernel changes in its own copies, by what it knew when it asked: a name that had been changed
//! beside it just before then goes wrong in a way that only the request knows of. So what requests did to names is kept for a
//! while, and told with the next change that was made beside the mount; until that one is told, everything is.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use ermfs_core::{Changed, Observer};
use fuser::{INodeNo, Notifier};
use parking_lot::{Condvar, Mutex};

use crate::nodes::Nodes;

/// The most notes of a kind that wait; those of names take at most some 300 bytes each.
const MOST_NOTES: usize = 8192;
/// How many changes by requests are kept: all from the moment of a change beside them to its note.
const MOST_RECENT: usize = 512;
/// How long the notifier rests when there was no memory to tell of everything.
const REST: Duration = Duration::from_millis(100);

thread_local! {
    /// Whether the thread is answering a request.
    static SERVING: Cell<bool> = const { Cell::new(false) };
}

/// Marks the thread as answering a request until it is dropped.
pub(crate) struct Serving(());

pub(crate) fn serving() -> Serving {
    SERVING.set(true);
    Serving(())
}

impl Drop for Serving {
    fn drop(&mut self) {
        SERVING.set(false);
    }
}

#[derive(Default)]
struct Notes {
    inodes: HashMap<u64, Changed>,
    entries: Vec<(u64, Vec<u8>)>,
    /// Inodes and names that requests changed.
    recent: VecDeque<Recent>,
    /// A name was changed beside the mount, and the kernel has not been told yet.
    beside: bool,
    /// There was no room for a note.
    lost: bool,
    ended: bool,
}

enum Recent {
    Inode(u64),
    Entry(u64, Vec<u8>),
}

impl Notes {
    fn is_empty(&self) -> bool {
        self.inodes.is_empty() && self.entries.is_empty() && !self.lost
    }

    fn inode(&mut self, ino: u64, changed: Changed) {
        if let Some(noted) = self.inodes.get_mut(&ino) {
            *noted = changed.max(*noted);
        } else if self.inodes.len() < MOST_NOTES && self.inodes.try_reserve(1).is_ok() {
            self.inodes.insert(ino, changed);
        } else {
            self.lost = true;
        }
    }

    fn entry(&mut self, directory: u64, name: Vec<u8>) {
        // By the name alone the kernel finds a directory only if it has met the name before. What it keeps of a directory's
        // listing is content.
        self.inode(directory, Changed::Content);
        if self.entries.len() < MOST_NOTES && self.entries.try_reserve(1).is_ok() {
            self.entries.push((directory, name));
        } else {
            self.lost = true;
        }
    }

    fn keep(&mut self, recent: Recent) {
        if self.recent.len() >= MOST_RECENT {
            self.recent.pop_front();
        }
        if self.recent.try_reserve(1).is_ok() {
            self.recent.push_back(recent);
        }
    }

    /// All that is to be told, and with a change of names beside the mount what requests changed at that time.
    fn take(&mut self) -> Notes {
        if self.beside {
            for recent in std::mem::take(&mut self.recent) {
                match recent {
                    Recent::Inode(ino) => self.inode(ino, Changed::Metadata),
                    Recent::Entry(directory, name) => self.entry(directory, name),
                }
            }
        }
        let (inodes, entries) = (std::mem::take(&mut self.inodes), std::mem::take(&mut self.entries));
        Notes { inodes, entries, lost: std::mem::take(&mut self.lost), ..Notes::default() }
    }
}

/// See the module's page.
pub(crate) struct Changes {
    nodes: Arc<Nodes>,
    notes: Mutex<Notes>,
    noted: Condvar,
}

impl Changes {
    pub(crate) fn new(nodes: Arc<Nodes>) -> Arc<Changes> {
        Arc::new(Changes { nodes, notes: Mutex::default(), noted: Condvar::new() })
    }

    /// Starts the thread that tells the kernel.
    ///
    /// # Errors
    /// What starting a thread gives.
    pub(crate) fn start(self: &Arc<Changes>, kernel: Notifier) -> io::Result<JoinHandle<()>> {
        let changes = Arc::clone(self);
        Builder::new().name("ermfs-notifier".into()).spawn(move || changes.tell(&kernel))
    }

    /// Ends the thread once it has told what it is telling.
    pub(crate) fn end(&self) {
        self.notes.lock().ended = true;
        self.noted.notify_all();
    }

    fn tell(&self, kernel: &Notifier) {
        loop {
            let mut notes = self.notes.lock();
            while notes.is_empty() && !notes.ended {
                self.noted.wait(&mut notes);
            }
            if notes.ended {
                return;
            }
            let Notes { inodes, entries, lost, .. } = notes.take();
            drop(notes);
            // What the kernel does not hold (any more) it answers with an error, and nothing is left to be done.
            for (directory, name) in entries {
                let _ = kernel.inval_entry(INodeNo(directory), OsStr::from_bytes(&name));
            }
            if !lost {
                inodes.into_iter().for_each(|(ino, changed)| tell_of(kernel, ino, changed));
            } else if !self.nodes.each(|ino| tell_of(kernel, ino, Changed::Content)) {
                let mut notes = self.notes.lock();
                notes.lost = true;
                if !notes.ended {
                    self.noted.wait_for(&mut notes, REST);
                }
            }
            let mut notes = self.notes.lock();
            notes.beside &= !notes.entries.is_empty();
        }
    }
}

impl Observer for Changes {
    fn inode_changed(&self, ino: u64, changed: Changed) {
        let serving = SERVING.get();
        // Bytes that the kernel has written it has in its pages.
        if serving && changed == Changed::Content || !self.nodes.knows(ino) {
            return;
        }
        let mut notes = self.notes.lock();
        if serving && !notes.beside {
            return notes.keep(Recent::Inode(ino));
        }
        notes.inode(ino, changed);
        drop(notes);
        self.noted.notify_one();
    }

    fn entry_changed(&self, directory: u64, name: &[u8]) {
        if !self.nodes.knows(directory) {
            return;
        }
        let mut copy = Vec::new();
        let room = copy.try_reserve_exact(name.len()).is_ok();
        if room {
            copy.extend_from_slice(name);
        }
        let mut notes = self.notes.lock();
        if SERVING.get() && !notes.beside {
            return if room {
                notes.keep(Recent::Entry(directory, copy))
            };
        }
        notes.beside = true;
        match room {
            true => notes.entry(directory, copy),
            false => notes.lost = true,
        }
        drop(notes);
        self.noted.notify_one();
    }
}

fn tell_of(kernel: &Notifier, ino: u64, changed: Changed) {
    // From a negative offset on means: the attributes alone.
    let from = if changed == Changed::Content { 0 } else { -1 };
    let _ = kernel.inval_inode(INodeNo(ino), from, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_bounded_and_loss_is_noted() {
        let mut notes = Notes::default();
        assert!(notes.is_empty());
        for ino in 0..MOST_NOTES as u64 {
            notes.inode(ino, Changed::Metadata);
            notes.entry(ino, b"name".to_vec());
            notes.keep(Recent::Entry(1, b"kept".to_vec()));
        }
        notes.inode(5, Changed::Content);
        notes.inode(5, Changed::Metadata);
        assert!(!notes.lost && notes.inodes[&5] == Changed::Content);
        assert_eq!(notes.recent.len(), MOST_RECENT);
        notes.entry(1, b"one too many".to_vec());
        assert!(notes.lost && notes.entries.len() == MOST_NOTES);
        notes.lost = false;
        notes.inode(MOST_NOTES as u64, Changed::Metadata);
        assert!(notes.lost && notes.inodes.len() == MOST_NOTES);
    }
    #[test]
    fn what_requests_changed_is_told_with_a_change_beside_them() {
        let mut notes = Notes::default();
        notes.keep(Recent::Inode(3));
        notes.keep(Recent::Entry(4, b"moved".to_vec()));
        notes.inode(9, Changed::Metadata);
        let told = notes.take();
        assert!(told.inodes.len() == 1 && told.entries.is_empty() && notes.recent.len() == 2);
        notes.beside = true;
        let told = notes.take();
        assert_eq!(told.entries, [(4, b"moved".to_vec())]);
        assert_eq!((told.inodes[&3], told.inodes[&4]), (Changed::Metadata, Changed::Content));
        assert!(notes.recent.is_empty() && notes.is_empty() && notes.beside);
    }
}
