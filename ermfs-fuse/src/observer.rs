//! Changes that others make in process, on their way to the kernel's caches.
//!
//! Promises: a change that was not a request of the mount's own is told to the kernel as soon as the notifier's thread comes
//! to it, in no particular order and several of one kind as one. Until then, and for as long as the times to live in
//! `server` where there was no memory to note it, the kernel shows what it knew. Owns the notes and the thread. Never
//! waits under a lock of the filesystem: telling the kernel may wait for requests that the mount has yet to answer.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use ermfs_core::{Changed, Observer};
use fuser::{INodeNo, Notifier};
use parking_lot::{Condvar, Mutex};

use crate::nodes::Nodes;

thread_local! {
    /// Whether the thread is answering a request, whose changes the kernel makes in its own copies.
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
    entries: VecDeque<(u64, Vec<u8>)>,
    ended: bool,
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
            while notes.inodes.is_empty() && notes.entries.is_empty() && !notes.ended {
                self.noted.wait(&mut notes);
            }
            if notes.ended {
                return;
            }
            let (inodes, entries) = (std::mem::take(&mut notes.inodes), std::mem::take(&mut notes.entries));
            drop(notes);
            // What the kernel does not hold (any more) it answers with an error, and nothing is left to be done.
            for (directory, name) in entries {
                let _ = kernel.inval_entry(INodeNo(directory), OsStr::from_bytes(&name));
            }
            for (ino, changed) in inodes {
                // From a negative offset on means: the attributes alone.
                let from = if changed == Changed::Content { 0 } else { -1 };
                let _ = kernel.inval_inode(INodeNo(ino), from, 0);
            }
        }
    }

    fn note(&self, node: u64, note: impl FnOnce(&mut Notes)) {
        if SERVING.get() || !self.nodes.knows(node) {
            return;
        }
        note(&mut self.notes.lock());
        self.noted.notify_one();
    }
}

impl Observer for Changes {
    fn inode_changed(&self, ino: u64, changed: Changed) {
        self.note(ino, |notes| {
            if notes.inodes.try_reserve(1).is_ok() {
                let noted = notes.inodes.entry(ino).or_insert(changed);
                *noted = changed.max(*noted);
            }
        });
    }

    fn entry_changed(&self, directory: u64, name: &[u8]) {
        self.note(directory, |notes| {
            let mut copy = Vec::new();
            if notes.entries.try_reserve(1).is_ok() && copy.try_reserve_exact(name.len()).is_ok() {
                copy.extend_from_slice(name);
                notes.entries.push_back((directory, copy));
            }
        });
    }
}
