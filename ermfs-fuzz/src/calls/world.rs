//! What a sequence of calls works on: the filesystem, its model, the open descriptors, and how an input's bytes become
//! arguments.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use arbitrary::Unstructured;
use ermfs_core::process::{self, AT_FDCWD, FIRST_FD, FileView};
use ermfs_core::{Compress, Config, Errno, Result, Statistics};

use crate::bytes::pattern;
use crate::tree::{Id, ROOT, Tree};

/// How many descriptors a sequence can name.
pub(super) const SLOTS: usize = 8;
/// Bytes of a file that record locks are asked for; the last stands for all that follow.
pub(super) const LOCK_CELLS: usize = 32;

/// An open file description as the model has it.
pub(super) struct Description {
    pub(super) node: Id,
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) append: bool,
    pub(super) path_only: bool,
    pub(super) offset: u64,
    /// `LOCK_SH` or `LOCK_EX`, or 0.
    pub(super) flock: i32,
}

pub(super) type DescriptionRef = Rc<RefCell<Description>>;

/// An open descriptor.
#[derive(Clone)]
pub(super) struct Slot {
    pub(super) fd: i32,
    pub(super) file: DescriptionRef,
}

/// Record locks of one owner on one file.
pub(super) struct Locks {
    pub(super) node: Id,
    /// The description of an OFD lock; the process's have none.
    pub(super) owner: Option<DescriptionRef>,
    /// 0, 1 for a read lock, 2 for a write lock.
    pub(super) cells: [u8; LOCK_CELLS],
}

/// Something that was handed out, and what it must go on to hold.
pub(super) enum Held {
    View(FileView, Vec<u8>),
    Export(OwnedFd, Vec<u8>),
}

pub(super) struct World {
    pub(super) tree: Tree,
    pub(super) slots: [Option<Slot>; SLOTS],
    /// The root's descriptor, unless it is the default filesystem.
    pub(super) root: Option<i32>,
    pub(super) cwd: Id,
    /// Whether room may run out.
    pub(super) limited: bool,
    /// Whether another thread packs.
    pub(super) background: bool,
    pub(super) numbers: BTreeSet<i32>,
    pub(super) held: Vec<Held>,
    pub(super) locks: Vec<Locks>,
    pub(super) written: usize,
    pub(super) start: Statistics,
    trace: bool,
}

/// Where a path starts: the argument, and the model's directory or why there is none.
pub(super) struct Start {
    pub(super) dirfd: i32,
    pub(super) node: Result<Id>,
    pub(super) path: Vec<u8>,
}

impl World {
    pub(super) fn new(config: Option<Config>) -> World {
        let limited =
            config.as_ref().is_some_and(|config| config.max_bytes < 64 << 20 || config.max_file_bytes > 0);
        let background = config.as_ref().is_some_and(|config| config.compress == Compress::Background);
        let mut numbers = BTreeSet::new();
        let root = config.map(|config| {
            let root = process::fsmount(&config).expect("a filesystem");
            process::fchdir(root).expect("a directory");
            numbers.insert(root);
            root
        });
        let start = process::statistics(root.unwrap_or(AT_FDCWD)).expect("statistics");
        World {
            tree: Tree::new(),
            slots: [const { None }; SLOTS],
            root,
            cwd: ROOT,
            limited,
            background,
            numbers,
            held: Vec::new(),
            locks: Vec::new(),
            written: 0,
            start,
            trace: std::env::var_os("ERMFS_FUZZ_TRACE").is_some(),
        }
    }

    // ---- judging

    /// The answer is what the model says.
    pub(super) fn exactly<T: PartialEq + Debug>(&self, call: &str, got: Result<T>, want: Result<T>) {
        self.note(call, &got);
        assert!(got == want, "{call}: {got:?}, not {want:?}");
    }

    /// The answer is what the model says, or that there is no room. Answers whether the call has succeeded.
    pub(super) fn with_room<T: PartialEq + Debug>(
        &self,
        call: &str,
        got: Result<T>,
        want: Result<T>,
    ) -> bool {
        self.note(call, &got);
        if self.no_room(&got) {
            return false;
        }
        assert!(got == want, "{call}: {got:?}, not {want:?}");
        got.is_ok()
    }

    pub(super) fn no_room<T>(&self, got: &Result<T>) -> bool {
        self.limited && matches!(got, Err(Errno::ENOSPC | Errno::EFBIG))
    }

    pub(super) fn note(&self, call: &str, got: &dyn Debug) {
        if self.trace {
            let mut got = format!("{got:?}");
            got.truncate(100);
            eprintln!("{call}: {got}");
        }
    }

    // ---- descriptors

    /// The description of a slot.
    ///
    /// # Errors
    /// `EBADF` for an empty one.
    pub(super) fn file(&self, slot: usize) -> Result<DescriptionRef> {
        self.slots[slot].as_ref().map(|slot| Rc::clone(&slot.file)).ok_or(Errno::EBADF)
    }

    /// As [`World::file`], for what O_PATH is no descriptor for.
    pub(super) fn usable(&self, slot: usize) -> Result<DescriptionRef> {
        self.file(slot).and_then(|file| if file.borrow().path_only { Err(Errno::EBADF) } else { Ok(file) })
    }

    /// The number of a slot; one that is not open for an empty one.
    pub(super) fn fd(&self, slot: usize) -> i32 {
        self.slots[slot].as_ref().map_or(FIRST_FD + 1000, |slot| slot.fd)
    }

    /// The lowest number that is free, which the next descriptor gets.
    pub(super) fn lowest(&self) -> i32 {
        (FIRST_FD..).find(|fd| !self.numbers.contains(fd)).expect("few are open")
    }

    /// Puts a new descriptor into a slot, and closes what was there.
    pub(super) fn install(&mut self, slot: usize, fd: i32, file: DescriptionRef) {
        assert!(self.numbers.insert(fd), "the number {fd} was open");
        if let Some(old) = self.slots[slot].replace(Slot { fd, file }) {
            self.close_descriptor(old);
        }
    }

    pub(super) fn close_slot(&mut self, slot: usize) {
        if let Some(old) = self.slots[slot].take() {
            self.close_descriptor(old);
        }
    }

    fn close_descriptor(&mut self, Slot { fd, file }: Slot) {
        self.exactly(&format!("close {fd}"), process::close(fd), Ok(()));
        self.numbers.remove(&fd);
        self.forget(file);
    }

    /// What goes with a descriptor that is no longer there.
    pub(super) fn forget(&mut self, file: DescriptionRef) {
        let (node, path_only) = (file.borrow().node, file.borrow().path_only);
        let is_open =
            |file: &DescriptionRef| self.slots.iter().flatten().any(|slot| Rc::ptr_eq(&slot.file, file));
        self.locks.retain(|locks| match &locks.owner {
            // Closing what O_PATH opened leaves them.
            None => path_only || locks.node != node,
            Some(owner) => is_open(owner),
        });
    }

    // ---- arguments

    pub(super) fn slot(&self, input: &mut Unstructured<'_>) -> arbitrary::Result<usize> {
        let byte = usize::from(input.arbitrary::<u8>()?);
        // Mostly one that is open.
        let open: Vec<usize> = (0..SLOTS).filter(|&slot| self.slots[slot].is_some()).collect();
        Ok(if byte >= 240 || open.is_empty() { byte % SLOTS } else { open[byte % open.len()] })
    }

    /// A path and where it starts.
    pub(super) fn start(&self, input: &mut Unstructured<'_>) -> arbitrary::Result<Start> {
        let byte = input.arbitrary::<u8>()?;
        let mut path = path(input)?;
        Ok(match byte % 8 {
            0..=3 => Start { dirfd: AT_FDCWD, node: Ok(self.cwd), path },
            4 | 5 => match self.root {
                Some(root) => Start { dirfd: root, node: Ok(ROOT), path },
                None => {
                    path.insert(0, b'/');
                    Start { dirfd: AT_FDCWD, node: Ok(ROOT), path }
                }
            },
            _ => {
                let slot = self.slot(input)?;
                Start { dirfd: self.fd(slot), node: self.file(slot).map(|file| file.borrow().node), path }
            }
        })
    }

    /// A path of a call that takes no descriptor beside it.
    pub(super) fn start_here(&self, input: &mut Unstructured<'_>) -> arbitrary::Result<Start> {
        let byte = input.arbitrary::<u8>()?;
        let mut path = path(input)?;
        if self.root.is_none() && byte % 4 == 3 {
            path.insert(0, b'/');
        }
        Ok(Start { dirfd: AT_FDCWD, node: Ok(self.cwd), path })
    }

    /// Bytes to write.
    pub(super) fn data(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
        let kind = input.arbitrary::<u8>()?;
        let data = if kind >= 250 {
            let len = usize::from(input.arbitrary::<u8>()?).min(input.len());
            input.bytes(len)?.to_vec()
        } else {
            pattern(kind, len(input)?)
        };
        self.written += data.len();
        Ok(data)
    }
}

impl Start {
    pub(super) fn text(&self) -> String {
        format!("{}:{:?}", self.dirfd, String::from_utf8_lossy(&self.path[..self.path.len().min(40)]))
    }
}

const NAMES: [&[u8]; 16] = [
    b"a",
    b"b",
    b"c",
    b"d",
    b"e",
    b"f",
    b"a",
    b"b",
    b"c",
    b"d",
    b"dir",
    b"dir",
    b"..",
    b".",
    &[b'n'; 255],
    &[b'n'; 256],
];

/// Up to four names, by two bytes at most.
pub(super) fn path(input: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
    let byte = input.arbitrary::<u8>()?;
    let mut path = NAMES[usize::from(byte % 16)].to_vec();
    let more = match byte / 16 {
        0..=7 => 0,
        8..=13 => 1,
        _ => 2,
    };
    for _ in 0..more {
        let byte = input.arbitrary::<u8>()?;
        path.push(b'/');
        path.extend_from_slice(NAMES[usize::from(byte % 16)]);
    }
    Ok(path)
}

/// Where things go wrong.
const SIZES: [u64; 21] = [
    0, 1, 2, 10, 100, 1000, 4095, 4096, 4097, 8192, 12_288, 65_535, 65_536, 65_537, 69_632, 131_071, 131_072,
    131_073, 196_608, 262_144, 300_000,
];
const FAR: [i64; 9] = [
    1 << 32,
    (1 << 32) + 65_536,
    1 << 40,
    1 << 62,
    i64::MAX - 65_536,
    i64::MAX - 4096,
    i64::MAX - 1,
    i64::MAX,
    -1,
];

pub(super) fn len(input: &mut Unstructured<'_>) -> arbitrary::Result<usize> {
    let byte = input.arbitrary::<u8>()?;
    Ok(match SIZES.get(usize::from(byte)) {
        Some(&size) => size as usize,
        None if byte < 64 => usize::from(input.arbitrary::<u16>()?),
        None => usize::from(byte - 64) * 37,
    })
}

pub(super) fn offset(input: &mut Unstructured<'_>) -> arbitrary::Result<i64> {
    let byte = input.arbitrary::<u8>()?;
    Ok(match byte {
        0..=246 => near(byte, input)?,
        _ => FAR[usize::from(byte - 247)],
    })
}

/// An offset that is not far.
pub(super) fn near(byte: u8, input: &mut Unstructured<'_>) -> arbitrary::Result<i64> {
    Ok(match SIZES.get(usize::from(byte)) {
        Some(&size) => size as i64,
        None if byte < 64 => i64::from(input.arbitrary::<u16>()?) * 5,
        None if byte < 128 => i64::from(byte % 8) * 65_536,
        None => i64::from(byte) * 411,
    })
}
