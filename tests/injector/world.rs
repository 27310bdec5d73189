//! Calls on a filesystem, beside a byte model of it.
//!
//! Promises: after each call that fails, and whenever asked, all names, kinds, sizes, bytes, link counts and attributes are
//! looked at, and are those that the model has: those of before the call. A call fails only with an errno that its page
//! names, and only after a place was made to refuse. Owns the root's descriptor and those that the script opened.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use ermfs_core::process::{self, DirStream, FileView, XattrOf};
use ermfs_core::{Config, Errno, InodeKind, Result, Sink, Source, XattrName};
use ermfs_memory::inject;

pub(crate) const BLOCK: usize = 65_536;

/// What a call that takes memory may say.
pub(crate) const MEMORY: &[Errno] = &[Errno::ENOMEM, Errno::ENOSPC];
/// What a call that takes none of the budget may say.
pub(crate) const OWN_MEMORY: &[Errno] = &[Errno::ENOMEM];
/// What a call that needs nothing may say.
pub(crate) const NEVER: &[Errno] = &[];
pub(crate) const LOCKING: &[Errno] = &[Errno::ENOLCK];
/// `ENFILE` of memfd_create(2), `EBUSY` of sealing.
pub(crate) const EXPORTING: &[Errno] = &[Errno::ENOMEM, Errno::ENOSPC, Errno::ENFILE, Errno::EBUSY];
/// `EIO` of reading the descriptor.
pub(crate) const IMPORTING: &[Errno] = &[Errno::ENOMEM, Errno::ENOSPC, Errno::EIO];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    File(usize),
    Directory,
    Link(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Data {
    bytes: Vec<u8>,
    attributes: BTreeMap<String, Vec<u8>>,
}

/// An open file: its descriptor and its place in the model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    pub(crate) fd: i32,
    file: usize,
    append: bool,
    readable: bool,
}

pub(crate) struct World {
    /// A descriptor of the root.
    root: i32,
    names: BTreeMap<String, Node>,
    files: Vec<Data>,
    open: Vec<Open>,
    /// What is being done, for messages.
    doing: String,
}

/// What a call on an open file gets: some bytes that compress, some that do not.
pub(crate) fn text(seed: usize, len: usize) -> Vec<u8> {
    let mut line = seed;
    let mut bytes = Vec::with_capacity(len + 40);
    while bytes.len() < len {
        line += 1;
        bytes.extend_from_slice(format!("line {line} of {seed}: the same again\n").as_bytes());
    }
    bytes.truncate(len);
    bytes
}

pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

impl World {
    /// A filesystem of its own, unless making one fails.
    pub(crate) fn mounted(config: &Config) -> Option<World> {
        let mut world = World::of(-1);
        world.root = world.call("fsmount", MEMORY, || process::fsmount(config), |_, _| ())?;
        Some(world)
    }

    fn of(root: i32) -> World {
        World { root, names: BTreeMap::new(), files: Vec::new(), open: Vec::new(), doing: String::new() }
    }

    pub(crate) fn root(&self) -> i32 {
        self.root
    }

    /// Makes a call, and what it does to the model if it succeeds.
    fn call<R>(
        &mut self,
        what: impl Into<String>,
        allowed: &[Errno],
        call: impl FnOnce() -> Result<R>,
        apply: impl FnOnce(&mut World, &R),
    ) -> Option<R> {
        self.doing = what.into();
        match call() {
            Ok(answer) => {
                apply(self, &answer);
                Some(answer)
            }
            Err(error) => {
                let (made, last) = inject::made();
                assert!(made > 0, "{}: {error:?} without a reason", self.doing);
                assert!(allowed.contains(&error), "{}: {error:?} after {last:?}", self.doing);
                self.check();
                None
            }
        }
    }

    fn at(&self, path: &str) -> Vec<u8> {
        path.as_bytes().to_vec()
    }

    fn file_of(&self, path: &str) -> Option<usize> {
        match self.names.get(path) {
            Some(Node::File(file)) => Some(*file),
            _ => None,
        }
    }

    fn has(&self, path: &str) -> bool {
        path.is_empty() || self.names.contains_key(path)
    }

    fn has_parent(&self, path: &str) -> bool {
        self.has(path.rsplit_once('/').map_or("", |(parent, _)| parent))
    }

    // Files.

    /// Opens a file, making it unless the flags say otherwise.
    pub(crate) fn open(&mut self, path: &str, flags: i32) -> Option<Open> {
        if !self.has_parent(path) || (flags & libc::O_CREAT == 0 && self.file_of(path).is_none()) {
            return None;
        }
        let (root, at) = (self.root, self.at(path));
        let changes = flags & (libc::O_CREAT | libc::O_TRUNC | libc::O_WRONLY | libc::O_RDWR) != 0;
        let allowed = if changes { MEMORY } else { OWN_MEMORY };
        let call = || process::openat(root, &at, flags, 0o644);
        let fd = self.call(format!("open {path} {flags:o}"), allowed, call, |world, _| {
            if world.file_of(path).is_none() {
                world.files.push(Data::default());
                world.names.insert(path.into(), Node::File(world.files.len() - 1));
            }
            if flags & libc::O_TRUNC != 0 {
                let file = world.file_of(path).expect("just made");
                world.files[file].bytes.clear();
            }
        })?;
        let file = self.file_of(path).expect("open");
        let readable = flags & libc::O_ACCMODE != libc::O_WRONLY;
        let open = Open { fd, file, append: flags & libc::O_APPEND != 0, readable };
        self.open.push(open);
        Some(open)
    }

    pub(crate) fn create(&mut self, path: &str) -> Option<Open> {
        self.open(path, libc::O_CREAT | libc::O_RDWR)
    }

    /// A file without a name.
    pub(crate) fn nameless(&mut self) -> Option<Open> {
        let (root, at) = (self.root, self.at("."));
        let call = || process::openat(root, &at, libc::O_TMPFILE | libc::O_RDWR, 0o600);
        let fd = self.call("open O_TMPFILE", MEMORY, call, |world, _| world.files.push(Data::default()))?;
        let open = Open { fd, file: self.files.len() - 1, append: false, readable: true };
        self.open.push(open);
        Some(open)
    }

    pub(crate) fn close(&mut self, open: Option<Open>) {
        let Some(open) = open else { return };
        self.open.retain(|other| other.fd != open.fd);
        self.call("close", NEVER, || process::close(open.fd), |_, _| ());
    }

    /// Writes, at the offset or at the end for who appends. A part is written only after a refusal.
    pub(crate) fn write(&mut self, open: Option<Open>, offset: usize, bytes: &[u8]) {
        let Some(open) = open else { return };
        let call = || match open.append {
            true => process::write(open.fd, &mut Source::new(bytes)),
            false => process::pwrite(open.fd, &mut Source::new(bytes), offset as i64),
        };
        let what = format!("write {} at {offset}", bytes.len());
        self.call(what, MEMORY, call, |world, written| {
            assert!(*written == bytes.len() || inject::made().0 > 0, "{}: {written}", world.doing);
            let data = &mut world.files[open.file].bytes;
            let at = if open.append { data.len() } else { offset };
            if data.len() < at + written {
                data.resize(at + written, 0);
            }
            data[at..at + written].copy_from_slice(&bytes[..*written]);
        });
    }

    pub(crate) fn read(&mut self, open: Option<Open>, offset: usize, len: usize) {
        let Some(open) = open else { return };
        let mut room = vec![0xee; len];
        let call = || process::pread(open.fd, &mut Sink::new(&mut room), offset as i64);
        let Some(read) = self.call(format!("read {len} at {offset}"), OWN_MEMORY, call, |_, _| ()) else {
            return;
        };
        let bytes = &self.files[open.file].bytes;
        let there = &bytes[offset.min(bytes.len())..(offset + len).min(bytes.len())];
        assert!(room[..read] == there[..read], "{}: wrong bytes", self.doing);
        assert!(read == there.len() || inject::made().0 > 0, "{}: {read} bytes", self.doing);
    }

    pub(crate) fn truncate(&mut self, open: Option<Open>, size: usize) {
        let Some(open) = open else { return };
        let call = || process::ftruncate(open.fd, size as i64);
        self.call(format!("truncate to {size}"), MEMORY, call, |world, ()| {
            world.files[open.file].bytes.resize(size, 0);
        });
    }

    /// fallocate. Of the forms that punch, an edge may read as zeros after a failure.
    pub(crate) fn allocate(&mut self, open: Option<Open>, mode: i32, offset: usize, len: usize) {
        let Some(open) = open else { return };
        let before = self.files[open.file].bytes.clone();
        let mut after = before.clone();
        let end = offset + len;
        let keeps = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        let moves = mode & (libc::FALLOC_FL_COLLAPSE_RANGE | libc::FALLOC_FL_INSERT_RANGE) != 0;
        // Where an earlier write failed the range may lie past the end, which is another error.
        if moves && end >= before.len() {
            return;
        }
        let what = mode & !libc::FALLOC_FL_KEEP_SIZE;
        match what {
            0 if !keeps && after.len() < end => after.resize(end, 0),
            0 => {}
            libc::FALLOC_FL_COLLAPSE_RANGE => drop(after.drain(offset..end)),
            libc::FALLOC_FL_INSERT_RANGE => drop(after.splice(offset..offset, vec![0; len])),
            _ => {
                let within = end.min(after.len());
                after[offset.min(within)..within].fill(0);
                if !keeps && after.len() < end {
                    after.resize(end, 0);
                }
            }
        }
        let call = || process::fallocate(open.fd, mode, offset as i64, len as i64);
        let zeroes = matches!(what, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE);
        if zeroes {
            // What it may leave when it fails is taken over into the model before all is looked at.
            self.doing = format!("fallocate {mode} {offset} {len}");
            match call() {
                Ok(()) => self.files[open.file].bytes = after,
                Err(error) => {
                    assert!(inject::made().0 > 0 && MEMORY.contains(&error), "{}: {error:?}", self.doing);
                    let now = inject::paused(|| self.bytes_of(open.fd));
                    assert_eq!(now.len(), before.len(), "{}", self.doing);
                    let explained = (0..now.len())
                        .all(|at| now[at] == before[at] || (now[at] == 0 && (offset..end).contains(&at)));
                    assert!(explained, "{}: wrong bytes after a failure", self.doing);
                    self.files[open.file].bytes = now;
                    self.check();
                }
            }
            return;
        }
        self.call(format!("fallocate {mode} {offset} {len}"), MEMORY, call, |world, ()| {
            world.files[open.file].bytes = after;
        });
    }

    pub(crate) fn copy_range(
        &mut self,
        (from, offset_in): (Option<Open>, usize),
        (to, offset_out): (Option<Open>, usize),
        len: usize,
    ) {
        let (Some(from), Some(to)) = (from, to) else { return };
        if offset_in > self.files[from.file].bytes.len() {
            return;
        }
        let (mut at_in, mut at_out) = (offset_in as i64, offset_out as i64);
        let call = || process::copy_file_range(from.fd, Some(&mut at_in), to.fd, Some(&mut at_out), len, 0);
        let what = format!("copy_file_range {offset_in} {offset_out} {len}");
        self.call(what, MEMORY, call, |world, copied| {
            let source = &world.files[from.file].bytes;
            let most = source.len().saturating_sub(offset_in).min(len);
            assert!(*copied == most || inject::made().0 > 0, "{}: {copied}", world.doing);
            let part = source[offset_in..offset_in + copied].to_vec();
            let target = &mut world.files[to.file].bytes;
            if target.len() < offset_out + copied {
                target.resize(offset_out + copied, 0);
            }
            target[offset_out..offset_out + copied].copy_from_slice(&part);
        });
    }

    /// A view of a range, and the bytes that it must show as long as it lives.
    pub(crate) fn view(
        &mut self,
        open: Option<Open>,
        offset: usize,
        len: usize,
    ) -> Option<(FileView, Vec<u8>)> {
        let open = open?;
        if self.files[open.file].bytes.len() < offset + len {
            return None;
        }
        let call = || process::view_open(open.fd, offset as i64, len, 1000);
        let view = self.call(format!("view {offset} {len}"), MEMORY, call, |_, _| ())?;
        let bytes = self.files[open.file].bytes[offset..][..len].to_vec();
        Some((view, bytes))
    }

    pub(crate) fn look(&self, view: &Option<(FileView, Vec<u8>)>) {
        if let Some((view, bytes)) = view {
            let shown: Vec<u8> = view.pieces().collect::<Vec<_>>().concat();
            assert!(bytes.starts_with(&shown), "a view shows other bytes");
            assert!(shown.len() == bytes.len() || inject::made().0 > 0, "a view is short");
        }
    }

    // Names.

    pub(crate) fn mkdir(&mut self, path: &str) {
        if !self.has_parent(path) {
            return;
        }
        let (root, at) = (self.root, self.at(path));
        self.call(
            format!("mkdir {path}"),
            MEMORY,
            || process::mkdirat(root, &at, 0o755),
            |world, ()| {
                world.names.insert(path.into(), Node::Directory);
            },
        );
    }

    pub(crate) fn symlink(&mut self, target: &str, path: &str) {
        if !self.has_parent(path) {
            return;
        }
        let (root, at) = (self.root, self.at(path));
        let call = || process::symlinkat(target.as_bytes(), root, &at);
        self.call(format!("symlink {path}"), MEMORY, call, |world, ()| {
            world.names.insert(path.into(), Node::Link(target.into()));
        });
    }

    pub(crate) fn link(&mut self, from: &str, to: &str) {
        if !self.has(from) || !self.has_parent(to) {
            return;
        }
        let (root, old, new) = (self.root, self.at(from), self.at(to));
        let call = || process::linkat(root, &old, root, &new, 0);
        self.call(format!("link {from} {to}"), MEMORY, call, |world, ()| {
            let node = world.names[from].clone();
            world.names.insert(to.into(), node);
        });
    }

    pub(crate) fn remove(&mut self, path: &str) {
        let Some(node) = self.names.get(path) else { return };
        if self.names.keys().any(|other| other.starts_with(&format!("{path}/"))) {
            return;
        }
        let flags = if *node == Node::Directory { libc::AT_REMOVEDIR } else { 0 };
        let (root, at) = (self.root, self.at(path));
        // Taking something away needs no memory.
        let call = || process::unlinkat(root, &at, flags);
        self.call(format!("remove {path}"), NEVER, call, |world, ()| {
            world.names.remove(path);
        });
    }

    /// Renames, which may replace; with `RENAME_EXCHANGE` both are there.
    pub(crate) fn rename(&mut self, from: &str, to: &str, flags: u32) {
        let exchange = flags & libc::RENAME_EXCHANGE != 0;
        if !self.has(from) || !self.has_parent(to) || (exchange && !self.has(to)) {
            return;
        }
        let (root, old, new) = (self.root, self.at(from), self.at(to));
        // What replaces a name takes no room for it.
        let allowed = if self.has(to) { NEVER } else { MEMORY };
        let call = || process::renameat2(root, &old, root, &new, flags);
        self.call(format!("rename {from} {to} {flags}"), allowed, call, |world, ()| {
            let moved = world.take_tree(from);
            let other = world.take_tree(to);
            world.put_tree(to, moved);
            if exchange {
                world.put_tree(from, other);
            }
        });
    }

    fn take_tree(&mut self, path: &str) -> Vec<(String, Node)> {
        let below = format!("{path}/");
        let names: Vec<String> =
            self.names.keys().filter(|name| *name == path || name.starts_with(&below)).cloned().collect();
        let take = |name: String| {
            let node = self.names.remove(&name).expect("listed");
            (name[path.len()..].to_owned(), node)
        };
        names.into_iter().map(take).collect()
    }

    fn put_tree(&mut self, path: &str, tree: Vec<(String, Node)>) {
        self.names.extend(tree.into_iter().map(|(rest, node)| (format!("{path}{rest}"), node)));
    }

    /// Lists a directory to its end.
    pub(crate) fn list(&mut self, path: &str) {
        if !self.has(path) {
            return;
        }
        let (root, at) = (self.root, self.at(if path.is_empty() { "." } else { path }));
        let call = || entries(root, &at);
        let found = self.call(format!("list {path}"), OWN_MEMORY, call, |_, _| ());
        if let Some(found) = found {
            assert_eq!(found.into_keys().collect::<Vec<_>>(), self.below(path), "{}", self.doing);
        }
    }

    fn below(&self, path: &str) -> Vec<String> {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let names = self.names.keys().filter_map(|name| name.strip_prefix(&prefix));
        names.filter(|name| !name.is_empty() && !name.contains('/')).map(String::from).collect()
    }

    /// The working directory and its path, and a path made absolute.
    pub(crate) fn walk(&mut self, path: &str) {
        if !self.has(path) {
            return;
        }
        let (root, at) = (self.root, self.at(path));
        let open = || process::openat(root, &at, libc::O_RDONLY | libc::O_DIRECTORY, 0);
        let Some(fd) = self.call(format!("open directory {path}"), OWN_MEMORY, open, |_, _| ()) else {
            return;
        };
        let entered = self.call(format!("fchdir {path}"), OWN_MEMORY, || process::fchdir(fd), |_, _| ());
        if entered.is_some() {
            let here = self.call(format!("getcwd {path}"), OWN_MEMORY, process::getcwd, |_, _| ());
            assert!(here.is_none_or(|here| here == format!("/{path}").into_bytes()));
            let real = self.call("realpath .", OWN_MEMORY, || process::realpath(b"."), |_, _| ());
            assert!(real.is_none_or(|real| real == format!("/{path}").into_bytes()));
        }
        // Back to where it costs nothing.
        inject::paused(|| process::chdir(b"/")).expect("the default filesystem's root");
        self.call("close directory", NEVER, || process::close(fd), |_, _| ());
    }

    // Attributes and locks.

    pub(crate) fn set_attribute(&mut self, open: Option<Open>, name: &str, value: &[u8]) {
        let Some(open) = open else { return };
        let key = XattrName::new(name.as_bytes()).expect("a name");
        let how = process::xattr_flags(0).expect("no flags");
        let call = || process::setxattr(XattrOf::Descriptor(open.fd), key, value, how);
        self.call(format!("setxattr {name} {}", value.len()), MEMORY, call, |world, ()| {
            world.files[open.file].attributes.insert(name.into(), value.to_vec());
        });
    }

    pub(crate) fn remove_attribute(&mut self, open: Option<Open>, name: &str) {
        let Some(open) = open else { return };
        if !self.files[open.file].attributes.contains_key(name) {
            return;
        }
        let key = XattrName::new(name.as_bytes()).expect("a name");
        let call = || process::removexattr(XattrOf::Descriptor(open.fd), key);
        self.call(format!("removexattr {name}"), NEVER, call, |world, ()| {
            world.files[open.file].attributes.remove(name);
        });
    }

    pub(crate) fn get_attributes(&mut self, open: Option<Open>) {
        let Some(open) = open else { return };
        let of = XattrOf::Descriptor(open.fd);
        self.call("listxattr", OWN_MEMORY, || process::listxattr(of), |_, _| ());
        for (name, value) in self.files[open.file].attributes.clone() {
            let key = XattrName::new(name.as_bytes()).expect("a name");
            let found = self.call("getxattr", OWN_MEMORY, || process::getxattr(of, key), |_, _| ());
            assert!(found.is_none_or(|found| found == value));
        }
    }

    /// A lock of the open file's description, or the end of it.
    pub(crate) fn lock(&mut self, open: Option<Open>, kind: i32, start: i64, len: i64) {
        let Some(open) = open else { return };
        // SAFETY: a flock is plain numbers, for which zeros are values.
        let mut lock: libc::flock = unsafe { core::mem::zeroed() };
        (lock.l_type, lock.l_whence) = (kind as i16, libc::SEEK_SET as i16);
        (lock.l_start, lock.l_len) = (start, len);
        let call = || process::lock(open.fd, libc::F_OFD_SETLK, Some(&mut lock));
        self.call(format!("lock {kind} {start} {len}"), LOCKING, call, |_, ()| ());
    }

    // Kernel descriptors.

    pub(crate) fn export(&mut self, open: Option<Open>, flags: i32) -> Option<OwnedFd> {
        let open = open?;
        let call = || process::fexport_memfd(open.fd, flags);
        let fd = self.call(format!("export {flags}"), EXPORTING, call, |_, _| ())?;
        assert!(kernels_bytes(&fd) == self.files[open.file].bytes, "{}: wrong bytes", self.doing);
        Some(fd)
    }

    /// From the working directory, which the script has made this filesystem's root.
    pub(crate) fn export_gzip(&mut self, path: &str) -> Option<OwnedFd> {
        self.file_of(path)?;
        let at = self.at(path);
        self.call(format!("export gzip {path}"), EXPORTING, || process::export_gzip(&at, 0), |_, _| ())
    }

    pub(crate) fn import(&mut self, path: &str, from: &OwnedFd, gzip: bool, bytes: &[u8]) {
        use std::os::fd::AsFd;
        let at = self.at(path);
        let call = || match gzip {
            true => process::import_gzip(&at, from.as_fd(), 0o644),
            false => process::import_fd(&at, from.as_fd(), 0o644),
        };
        self.call(format!("import {path} gzip {gzip}"), IMPORTING, call, |world, ()| {
            world.files.push(Data { bytes: bytes.to_vec(), attributes: BTreeMap::new() });
            world.names.insert(path.into(), Node::File(world.files.len() - 1));
        });
    }

    /// Makes the root the working directory.
    pub(crate) fn enter(&mut self) -> bool {
        let root = self.root;
        self.call("fchdir", OWN_MEMORY, || process::fchdir(root), |_, _| ()).is_some()
    }

    pub(crate) fn leave(&mut self) {
        inject::paused(|| process::chdir(b"/")).expect("the default filesystem's root");
    }

    // Looking at everything.

    fn bytes_of(&self, fd: i32) -> Vec<u8> {
        let size = process::fstat(fd).expect("fstat").st_size as usize;
        let mut bytes = vec![0xee; size + 1];
        let read = process::pread(fd, &mut Sink::new(&mut bytes), 0);
        assert_eq!(read, Ok(size), "{}: a file is read to its end", self.doing);
        bytes.truncate(size);
        bytes
    }

    /// Compares all of the filesystem with the model.
    pub(crate) fn check(&self) {
        if self.root >= 0 {
            inject::paused(|| self.check_all());
        }
    }

    fn check_all(&self) {
        let mut found = BTreeMap::new();
        self.check_directory("", &mut found);
        let ours: Vec<_> = self.names.keys().collect();
        assert_eq!(found.keys().collect::<Vec<_>>(), ours, "{}: names", self.doing);
        for open in self.open.iter().filter(|open| open.readable) {
            assert!(self.bytes_of(open.fd) == self.files[open.file].bytes, "{}: wrong bytes", self.doing);
        }
    }

    fn check_directory(&self, path: &str, found: &mut BTreeMap<String, InodeKind>) {
        let at = self.at(if path.is_empty() { "." } else { path });
        let listed = entries(self.root, &at).expect("a listing");
        for (name, kind) in listed {
            let full = if path.is_empty() { name } else { format!("{path}/{name}") };
            let expected = match self.names.get(&full) {
                Some(Node::File(file)) => {
                    self.check_file(&full, *file);
                    InodeKind::File
                }
                Some(Node::Directory) => {
                    self.check_directory(&full, found);
                    InodeKind::Directory
                }
                Some(Node::Link(target)) => {
                    let there = process::readlinkat(self.root, &self.at(&full)).expect("a link");
                    assert_eq!(there, target.as_bytes(), "{}: {full}", self.doing);
                    InodeKind::Symlink
                }
                None => panic!("{}: {full} is there", self.doing),
            };
            assert_eq!(kind, expected, "{}: {full}", self.doing);
            found.insert(full, kind);
        }
    }

    fn check_file(&self, path: &str, file: usize) {
        let data = &self.files[file];
        let fd = process::openat(self.root, &self.at(path), libc::O_RDONLY, 0).expect("a file");
        assert!(self.bytes_of(fd) == data.bytes, "{}: {path} has wrong bytes", self.doing);
        let links = self.names.values().filter(|node| **node == Node::File(file)).count();
        assert_eq!(process::fstat(fd).expect("fstat").st_nlink as usize, links, "{}: {path}", self.doing);
        let of = XattrOf::Descriptor(fd);
        let list = process::listxattr(of).expect("names");
        let names: Vec<_> = list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
        assert_eq!(names.len(), data.attributes.len(), "{}: attributes of {path}", self.doing);
        for (name, value) in &data.attributes {
            let name = XattrName::new(name.as_bytes()).expect("a name");
            assert_eq!(process::getxattr(of, name).as_ref(), Ok(value), "{}: {path}", self.doing);
        }
        process::close(fd).expect("closed");
    }

    /// Closes and removes everything; what is left is a root that has had one entry and one file with attributes and a lock.
    pub(crate) fn clear(&mut self) {
        inject::paused(|| {
            for open in core::mem::take(&mut self.open) {
                process::close(open.fd).expect("closed");
            }
            self.check_all();
            while let Some((path, _)) = self.names.last_key_value() {
                let path = path.clone();
                self.remove(&path);
            }
            let file = self.create("warm");
            self.write(file, 0, b"x");
            self.set_attribute(file, "user.warm", b"value");
            self.lock(file, libc::F_WRLCK, 0, 1);
            self.close(file);
            self.remove("warm");
            ermfs_core::inject::settle();
        });
    }

    /// Gives the filesystem up.
    pub(crate) fn end(self) {
        process::close(self.root).expect("closed");
    }
}

/// Of a directory, without the two dots.
fn entries(root: i32, at: &[u8]) -> Result<BTreeMap<String, InodeKind>> {
    let fd = process::openat(root, at, libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    let mut stream = match DirStream::fdopendir(fd) {
        Ok(stream) => stream,
        Err(error) => {
            process::close(fd)?;
            return Err(error);
        }
    };
    let mut all = BTreeMap::new();
    while let Some(entry) = stream.readdir()? {
        let name = String::from_utf8(entry.name.to_vec()).expect("names of the script");
        if name != "." && name != ".." {
            assert!(all.insert(name, entry.kind).is_none(), "a name is listed twice");
        }
    }
    stream.closedir()?;
    Ok(all)
}

/// All bytes of a kernel descriptor, its offset left where it is.
pub(crate) fn kernels_bytes(fd: &OwnedFd) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut room = vec![0; 1 << 20];
    loop {
        match rustix::io::pread(fd, &mut room[..], bytes.len() as u64).expect("a memfd") {
            0 => return bytes,
            read => bytes.extend_from_slice(&room[..read]),
        }
    }
}
