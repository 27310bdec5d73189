//! Names, metadata and extended attributes.

use std::collections::BTreeMap;

use arbitrary::Unstructured;
use ermfs_core::process::{self, AT_FDCWD, DirStream, XattrOf};
use ermfs_core::{Errno, Result, XattrName, XattrSet};

use super::descriptors::UMASK;
use super::world::{Start, World, path};
use crate::bytes::pattern;
use crate::tree::{Id, Kind};

impl World {
    pub(super) fn mkdir(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let start = self.start(input)?;
        let got = process::mkdirat(start.dirfd, &start.path, 0o777);
        let want = start.node.and_then(|node| self.tree.free(node, &start.path));
        if self.with_room(&format!("mkdir {}", start.text()), got, want.map(drop)) {
            let node = start.node.expect("it has succeeded");
            self.tree.mkdir(node, &start.path, 0o777 & !UMASK).expect("it is free");
        }
        Ok(())
    }

    pub(super) fn unlink(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let start = self.start(input)?;
        let got = process::unlinkat(start.dirfd, &start.path, 0);
        let want = start.node.and_then(|node| self.tree.may_unlink(node, &start.path));
        self.exactly(
            &format!("unlink {}", start.text()),
            got,
            want.as_ref().map(drop).map_err(|&error| error),
        );
        if let Ok(last) = want {
            self.tree.remove(&last);
        }
        Ok(())
    }

    pub(super) fn rmdir(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let start = self.start(input)?;
        let got = process::unlinkat(start.dirfd, &start.path, libc::AT_REMOVEDIR);
        let want = start.node.and_then(|node| self.tree.may_rmdir(node, &start.path));
        self.exactly(
            &format!("rmdir {}", start.text()),
            got,
            want.as_ref().map(drop).map_err(|&error| error),
        );
        if let Ok(last) = want {
            self.tree.remove(&last);
        }
        Ok(())
    }

    pub(super) fn rename(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let flags =
            [0, 0, libc::RENAME_NOREPLACE, libc::RENAME_EXCHANGE][usize::from(input.arbitrary::<u8>()? % 4)];
        let (old, new) = (self.start(input)?, self.start(input)?);
        let got = process::renameat2(old.dirfd, &old.path, new.dirfd, &new.path, flags);
        let walk = |start: &Start| start.node.and_then(|node| self.tree.walk(node, &start.path));
        let want = self.tree.may_rename(walk(&old), walk(&new), flags);
        let call = format!("rename {} {} {flags}", old.text(), new.text());
        self.note(&call, &got);
        if self.no_room(&got) {
            return Ok(());
        }
        assert_eq!(got.err(), want.as_ref().err().copied(), "{call}");
        if let Ok(plan) = want {
            self.tree.rename(plan);
        }
        Ok(())
    }

    pub(super) fn link(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let follow = input.arbitrary::<u8>()? % 4 == 3;
        let (old, new) = (self.start(input)?, self.start(input)?);
        let flags = if follow { libc::AT_SYMLINK_FOLLOW } else { 0 };
        let got = process::linkat(old.dirfd, &old.path, new.dirfd, &new.path, flags);
        let want = self.may_link(&old, follow, &new);
        let call = format!("link {} {} {flags}", old.text(), new.text());
        if self.with_room(&call, got, want.as_ref().map(drop).map_err(|&error| error)) {
            let (id, last) = want.expect("it has succeeded");
            self.tree.set(&last, id);
        }
        Ok(())
    }

    fn may_link(&self, old: &Start, follow: bool, new: &Start) -> Result<(Id, crate::tree::Last)> {
        let id = self.tree.lookup(old.node?, &old.path, follow)?;
        let last = self.tree.free(new.node?, &new.path)?;
        if self.tree.is_dir(id) { Err(Errno::EPERM) } else { Ok((id, last)) }
    }

    pub(super) fn symlink(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let (target, start) = (path(input)?, self.start(input)?);
        let got = process::symlinkat(&target, start.dirfd, &start.path);
        let want = start.node.and_then(|node| self.tree.free(node, &start.path));
        let call = format!("symlink {} to {:?}", start.text(), String::from_utf8_lossy(&target));
        if self.with_room(&call, got, want.as_ref().map(drop).map_err(|&error| error)) {
            let id = self.tree.add(Kind::Symlink(target), 0o777);
            self.tree.set(&want.expect("it has succeeded"), id);
        }
        Ok(())
    }

    pub(super) fn readlink(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let start = self.start(input)?;
        let got = process::readlinkat(start.dirfd, &start.path);
        let want = start.node.and_then(|node| self.tree.lookup(node, &start.path, false));
        let want = want.and_then(|id| self.tree.symlink(id).map(<[u8]>::to_vec).ok_or(Errno::EINVAL));
        self.exactly(&format!("readlink {}", start.text()), got, want);
        Ok(())
    }

    pub(super) fn chmod(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        // The owner keeps all rights, so that it makes no difference who runs this.
        let mode = 0o700 | u32::from(input.arbitrary::<u8>()?) & 0o77;
        let start = self.start(input)?;
        let got = process::fchmodat(start.dirfd, &start.path, mode, 0);
        let want = start.node.and_then(|node| self.tree.lookup(node, &start.path, true));
        self.exactly(&format!("chmod {} {mode:o}", start.text()), got, want.map(drop));
        if let Ok(id) = want {
            self.tree.nodes[id].mode = mode;
        }
        Ok(())
    }

    pub(super) fn stat(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let follow = input.arbitrary::<u8>()?.is_multiple_of(2);
        let start = self.start(input)?;
        let flags = if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
        let got = process::fstatat(start.dirfd, &start.path, flags);
        let want = start.node.and_then(|node| self.tree.lookup(node, &start.path, follow));
        let call = format!("stat {} {flags:#x}", start.text());
        self.note(&call, &got.as_ref().map(|stat| stat.st_size));
        assert_eq!(got.err(), want.err(), "{call}");
        if let (Ok(stat), Ok(id)) = (got, want) {
            self.same_stat(&call, &stat, id);
        }
        Ok(())
    }

    /// Kind, mode, links, size and identity of what was looked at.
    pub(super) fn same_stat(&mut self, call: &str, stat: &libc::stat, id: Id) {
        let (kind, size) = match &self.tree.nodes[id].kind {
            Kind::File(bytes) => (libc::S_IFREG, Some(bytes.size())),
            Kind::Directory { .. } => (libc::S_IFDIR, None),
            Kind::Symlink(target) => (libc::S_IFLNK, Some(target.len() as u64)),
        };
        assert_eq!(stat.st_mode, kind | self.tree.nodes[id].mode, "{call}: the mode");
        assert_eq!(stat.st_nlink, self.tree.links(id), "{call}: the links");
        if let Some(size) = size {
            assert_eq!(stat.st_size as u64, size, "{call}: the size");
        }
        let ino = *self.tree.nodes[id].ino.get_or_insert(stat.st_ino);
        assert_eq!(stat.st_ino, ino, "{call}: another inode");
    }

    /// Lists a directory by a new descriptor.
    pub(super) fn list(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let start = self.start(input)?;
        let want = start.node.and_then(|node| {
            let id = self.tree.lookup(node, &start.path, true)?;
            if self.tree.is_dir(id) { Ok(id) } else { Err(Errno::ENOTDIR) }
        });
        let got = process::openat(start.dirfd, &start.path, libc::O_RDONLY | libc::O_DIRECTORY, 0);
        let call = format!("list {}", start.text());
        self.exactly(&call, got.map(drop), want.map(drop));
        if let (Ok(fd), Ok(id)) = (got, want) {
            self.same_listing(&call, fd, id);
        }
        Ok(())
    }

    /// What a directory's descriptor, which is closed, lists.
    pub(super) fn same_listing(&mut self, call: &str, fd: i32, id: Id) {
        let mut stream = DirStream::fdopendir(fd).expect("a directory");
        let mut found = BTreeMap::new();
        while let Some(entry) = stream.readdir().expect("an entry") {
            assert_eq!(found.insert(entry.name.to_vec(), entry.ino), None, "{call}: a name twice");
        }
        stream.closedir().expect("an open stream");
        if self.tree.is_dead(id) {
            assert!(found.is_empty(), "{call}: a removed directory has entries");
            return;
        }
        let dots = [found.remove(&b"."[..]), found.remove(&b".."[..])];
        assert!(dots.iter().all(Option::is_some), "{call}: no dots");
        let entries = self.tree.entries(id).expect("a directory").clone();
        assert!(found.keys().eq(entries.keys()), "{call}: {:?}, not {:?}", found.keys(), entries.keys());
        for (ino, entry) in found.into_values().zip(entries.into_values()) {
            let known = *self.tree.nodes[entry].ino.get_or_insert(ino);
            assert_eq!(ino, known, "{call}: another inode");
        }
    }

    pub(super) fn chdir(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let byte = input.arbitrary::<u8>()?;
        let (got, want) = if byte % 4 == 0 {
            let slot = self.slot(input)?;
            let want = self.file(slot).map(|file| file.borrow().node);
            (process::fchdir(self.fd(slot)), want)
        } else {
            let start = self.start_here(input)?;
            (process::chdir(&start.path), self.tree.lookup(self.cwd, &start.path, true))
        };
        let want = want.and_then(|id| if self.tree.is_dir(id) { Ok(id) } else { Err(Errno::ENOTDIR) });
        self.exactly("chdir", got, want.map(drop));
        if let Ok(id) = want {
            self.cwd = id;
        }
        Ok(())
    }

    pub(super) fn getcwd(&mut self, _: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        self.exactly("getcwd", process::getcwd(), self.tree.path_of(self.cwd).ok_or(Errno::ENOENT));
        Ok(())
    }

    // ---- extended attributes

    /// What a call on attributes is about, in the model and for the engine, and the name.
    fn of_attribute(
        &self,
        input: &mut Unstructured<'_>,
    ) -> arbitrary::Result<(Result<Id>, Of, &'static [u8])> {
        const NAMES: [&[u8]; 4] = [b"user.a", b"user.b", b"user.a.b", b"user.long name"];
        let byte = input.arbitrary::<u8>()?;
        let name = NAMES[usize::from(byte / 4 % 4)];
        if byte % 2 == 0 {
            let slot = self.slot(input)?;
            return Ok((
                self.usable(slot).map(|file| file.borrow().node),
                Of::Descriptor(self.fd(slot)),
                name,
            ));
        }
        let (start, follow) = (self.start_here(input)?, byte / 2 % 2 == 0);
        let id = self.tree.lookup(self.cwd, &start.path, follow);
        Ok((id, if follow { Of::Path(start.path) } else { Of::Link(start.path) }, name))
    }

    pub(super) fn set_attribute(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let (id, of, name) = self.of_attribute(input)?;
        let byte = input.arbitrary::<u8>()?;
        let how = XattrSet { create: byte % 4 == 1, replace: byte % 4 == 2 };
        let len = [0, 1, 10, 300, 5000, 65_536, 65_537, 40][usize::from(byte / 4 % 8)];
        let value = pattern(byte, len);
        self.written += len;
        let got = process::setxattr(of.borrow(), XattrName::new(name).expect("a name"), &value, how);
        let want = if len > ermfs_core::XATTR_SIZE_MAX { Err(Errno::E2BIG) } else { id };
        let want = want.and_then(|id| {
            let node = &self.tree.nodes[id];
            match node.attributes.contains_key(name) {
                _ if matches!(node.kind, Kind::Symlink(_)) => Err(Errno::EPERM),
                true if how.create => Err(Errno::EEXIST),
                false if how.replace => Err(Errno::ENODATA),
                _ => Ok(id),
            }
        });
        let call = format!("setxattr {of:?} {name:?} {len} {how:?}");
        self.note(&call, &got);
        let invalid_first = id.is_err() && len > ermfs_core::XATTR_SIZE_MAX && got.is_err();
        if self.no_room(&got) || invalid_first {
            return Ok(());
        }
        assert_eq!(got, want.map(drop), "{call}");
        if let Ok(id) = want {
            self.tree.nodes[id].attributes.insert(name.to_vec(), value);
        }
        Ok(())
    }

    pub(super) fn get_attributes(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let (id, of, name) = self.of_attribute(input)?;
        let got = process::getxattr(of.borrow(), XattrName::new(name).expect("a name"));
        let of_node = |id: Id| self.tree.nodes[id].attributes.get(name).cloned().ok_or(Errno::ENODATA);
        let want = id.and_then(of_node);
        let call = format!("getxattr {of:?} {name:?}");
        // A symlink has none, and Linux says so in two ways.
        if got != Err(Errno::EPERM) {
            self.exactly(&call, got, want);
        }
        let got = process::listxattr(of.borrow());
        let names = |list: Vec<u8>| {
            let mut names: Vec<Vec<u8>> =
                list.split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
            names.sort();
            names
        };
        let want = id.map(|id| self.tree.nodes[id].attributes.keys().cloned().collect());
        self.exactly(&format!("listxattr {of:?}"), got.map(names), want);
        Ok(())
    }

    pub(super) fn remove_attribute(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let (id, of, name) = self.of_attribute(input)?;
        let got = process::removexattr(of.borrow(), XattrName::new(name).expect("a name"));
        let want = id.and_then(|id| {
            let node = &mut self.tree.nodes[id];
            match node.kind {
                Kind::Symlink(_) => Err(Errno::EPERM),
                _ => node.attributes.remove(name).map(drop).ok_or(Errno::ENODATA),
            }
        });
        self.exactly(&format!("removexattr {of:?} {name:?}"), got, want);
        Ok(())
    }

    /// A new descriptor for reading what the model's node is called, if it has a name that a path reaches.
    pub(super) fn open_by_path(&self, path: &[u8], flags: i32) -> i32 {
        let path = [b"/".as_slice(), path].concat();
        process::openat(self.root.unwrap_or(AT_FDCWD), &path, flags, 0)
            .unwrap_or_else(|error| panic!("open {:?}: {error:?}", String::from_utf8_lossy(&path)))
    }
}

/// [`XattrOf`] that owns its path.
#[derive(Debug)]
enum Of {
    Path(Vec<u8>),
    Link(Vec<u8>),
    Descriptor(i32),
}

impl Of {
    fn borrow(&self) -> XattrOf<'_> {
        match self {
            Of::Path(path) => XattrOf::Path(path),
            Of::Link(path) => XattrOf::Link(path),
            Of::Descriptor(fd) => XattrOf::Descriptor(*fd),
        }
    }
}
