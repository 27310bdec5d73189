//! The names as the model has them: directories, files, symlinks, and how a path leads through them.
//!
//! Promises the answers that Linux gives on tmpfs to who may do everything, for paths that do not end in a slash. Nodes
//! are never taken back. Never looks at the engine.

use std::collections::BTreeMap;

use ermfs_core::{Errno, Result};

use crate::bytes::Bytes;

/// A node's number.
pub(crate) type Id = usize;
pub(crate) const ROOT: Id = 0;

const NAME_MAX: usize = 255;
const MOST_SYMLINKS: u32 = 40;

pub(crate) enum Kind {
    File(Bytes),
    Directory { entries: BTreeMap<Vec<u8>, Id>, parent: Id, dead: bool },
    Symlink(Vec<u8>),
}

pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// Names of a file or symlink.
    pub(crate) names: u64,
    pub(crate) mode: u32,
    pub(crate) attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What the engine calls it, once that was seen.
    pub(crate) ino: Option<u64>,
}

/// The last part of a path, and the directory it is looked for in.
pub(crate) struct Last {
    pub(crate) dir: Id,
    pub(crate) name: Vec<u8>,
}

impl Last {
    /// Whether it can be made or taken away.
    pub(crate) fn is_plain(&self) -> bool {
        self.name != b"." && self.name != b".."
    }
}

pub(crate) struct Tree {
    pub(crate) nodes: Vec<Node>,
}

fn directory(parent: Id) -> Kind {
    Kind::Directory { entries: BTreeMap::new(), parent, dead: false }
}

impl Tree {
    pub(crate) fn new() -> Tree {
        let mut tree = Tree { nodes: Vec::new() };
        tree.add(directory(ROOT), 0o1777);
        tree
    }

    pub(crate) fn add(&mut self, kind: Kind, mode: u32) -> Id {
        self.nodes.push(Node { kind, names: 0, mode, attributes: BTreeMap::new(), ino: None });
        self.nodes.len() - 1
    }

    pub(crate) fn file(&self, id: Id) -> Option<&Bytes> {
        match &self.nodes[id].kind {
            Kind::File(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(crate) fn file_mut(&mut self, id: Id) -> &mut Bytes {
        match &mut self.nodes[id].kind {
            Kind::File(bytes) => bytes,
            _ => unreachable!("asked for before"),
        }
    }

    pub(crate) fn is_dir(&self, id: Id) -> bool {
        matches!(self.nodes[id].kind, Kind::Directory { .. })
    }

    pub(crate) fn entries(&self, id: Id) -> Option<&BTreeMap<Vec<u8>, Id>> {
        match &self.nodes[id].kind {
            Kind::Directory { entries, .. } => Some(entries),
            _ => None,
        }
    }

    pub(crate) fn symlink(&self, id: Id) -> Option<&[u8]> {
        match &self.nodes[id].kind {
            Kind::Symlink(target) => Some(target),
            _ => None,
        }
    }

    pub(crate) fn parent(&self, id: Id) -> Option<Id> {
        match self.nodes[id].kind {
            Kind::Directory { parent, dead, .. } if id == ROOT || !dead => Some(parent),
            _ => None,
        }
    }

    pub(crate) fn is_dead(&self, id: Id) -> bool {
        matches!(self.nodes[id].kind, Kind::Directory { dead: true, .. })
    }

    /// `st_nlink`.
    pub(crate) fn links(&self, id: Id) -> u64 {
        match &self.nodes[id].kind {
            Kind::Directory { dead: true, .. } => 0,
            Kind::Directory { entries, .. } => {
                2 + entries.values().filter(|&&entry| self.is_dir(entry)).count() as u64
            }
            _ => self.nodes[id].names,
        }
    }

    /// Whether `above` is `below` or lies above it.
    pub(crate) fn is_above(&self, above: Id, below: Id) -> bool {
        let mut at = below;
        loop {
            if at == above {
                return true;
            }
            match self.parent(at) {
                Some(parent) if at != ROOT => at = parent,
                _ => return false,
            }
        }
    }

    /// A directory's path, unless it was removed.
    pub(crate) fn path_of(&self, id: Id) -> Option<Vec<u8>> {
        let mut parts = Vec::new();
        let mut at = id;
        while at != ROOT {
            let parent = self.parent(at)?;
            let (name, _) = self.entries(parent)?.iter().find(|&(_, &entry)| entry == at)?;
            parts.push(name.clone());
            at = parent;
        }
        let mut path = Vec::new();
        for name in parts.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        if path.is_empty() { Some(b"/".to_vec()) } else { Some(path) }
    }

    /// Walks to the last part.
    pub(crate) fn walk(&self, start: Id, path: &[u8]) -> Result<Last> {
        self.walk_on(start, path, &mut 0)
    }

    fn walk_on(&self, start: Id, path: &[u8], links: &mut u32) -> Result<Last> {
        let mut dir = if path.first() == Some(&b'/') { ROOT } else { start };
        let mut parts = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).peekable();
        loop {
            let Some(part) = parts.next() else { return Err(Errno::ENOENT) };
            if !self.is_dir(dir) {
                return Err(Errno::ENOTDIR);
            }
            if parts.peek().is_none() {
                return Ok(Last { dir, name: part.to_vec() });
            }
            dir = self.part(dir, part, true, links)?;
        }
    }

    /// What one part of a path names.
    fn part(&self, dir: Id, part: &[u8], follow: bool, links: &mut u32) -> Result<Id> {
        let Kind::Directory { entries, parent, dead } = &self.nodes[dir].kind else {
            return Err(Errno::ENOTDIR);
        };
        match part {
            b"." => return Ok(dir),
            b".." => return Ok(*parent),
            _ if *dead => return Err(Errno::ENOENT),
            _ if part.len() > NAME_MAX => return Err(Errno::ENAMETOOLONG),
            _ => {}
        }
        let &found = entries.get(part).ok_or(Errno::ENOENT)?;
        let Some(target) = self.symlink(found).filter(|_| follow) else { return Ok(found) };
        *links += 1;
        if *links > MOST_SYMLINKS {
            return Err(Errno::ELOOP);
        }
        let last = self.walk_on(dir, target, links)?;
        self.part(last.dir, &last.name, true, links)
    }

    pub(crate) fn lookup(&self, start: Id, path: &[u8], follow: bool) -> Result<Id> {
        let mut links = 0;
        let last = self.walk_on(start, path, &mut links)?;
        self.part(last.dir, &last.name, follow, &mut links)
    }

    /// What a last part names, itself.
    pub(crate) fn named(&self, last: &Last) -> Result<Id> {
        self.part(last.dir, &last.name, false, &mut 0)
    }

    /// Where a file is made or found that symlinks may stand for.
    pub(crate) fn place(&self, start: Id, path: &[u8]) -> Result<(Last, Option<Id>)> {
        let mut links = 0;
        let mut last = self.walk_on(start, path, &mut links)?;
        loop {
            let found = match self.part(last.dir, &last.name, false, &mut links) {
                Err(Errno::ENOENT) => return Ok((last, None)),
                found => found?,
            };
            let Some(target) = self.symlink(found) else { return Ok((last, Some(found))) };
            links += 1;
            if links > MOST_SYMLINKS {
                return Err(Errno::ELOOP);
            }
            last = self.walk_on(last.dir, target, &mut links)?;
        }
    }

    /// Where something new gets a name that must be free.
    pub(crate) fn free(&self, start: Id, path: &[u8]) -> Result<Last> {
        let last = self.walk(start, path)?;
        match self.named(&last) {
            Ok(_) => Err(Errno::EEXIST),
            Err(Errno::ENOENT) if self.is_dead(last.dir) => Err(Errno::ENOENT),
            Err(Errno::ENOENT) => Ok(last),
            Err(error) => Err(error),
        }
    }

    /// Gives `id` the name, whatever had it before.
    pub(crate) fn set(&mut self, last: &Last, id: Id) {
        self.clear(last);
        let Kind::Directory { entries, .. } = &mut self.nodes[last.dir].kind else {
            unreachable!("walked to")
        };
        entries.insert(last.name.clone(), id);
        self.nodes[id].names += 1;
        if let Kind::Directory { parent, .. } = &mut self.nodes[id].kind {
            *parent = last.dir;
        }
    }

    /// Takes the name away.
    pub(crate) fn clear(&mut self, last: &Last) -> Option<Id> {
        let Kind::Directory { entries, .. } = &mut self.nodes[last.dir].kind else {
            unreachable!("walked to")
        };
        let old = entries.remove(&last.name)?;
        self.nodes[old].names -= 1;
        Some(old)
    }

    /// Takes the name away, and a directory with it.
    pub(crate) fn remove(&mut self, last: &Last) {
        if let Some(old) = self.clear(last)
            && let Kind::Directory { dead, .. } = &mut self.nodes[old].kind
        {
            *dead = true;
        }
    }

    pub(crate) fn mkdir(&mut self, start: Id, path: &[u8], mode: u32) -> Result<()> {
        let last = self.free(start, path)?;
        let id = self.add(directory(last.dir), mode);
        self.set(&last, id);
        Ok(())
    }

    pub(crate) fn may_unlink(&self, start: Id, path: &[u8]) -> Result<Last> {
        let last = self.walk(start, path)?;
        let is_dir = !last.is_plain() || self.is_dir(self.named(&last)?);
        if is_dir { Err(Errno::EISDIR) } else { Ok(last) }
    }

    pub(crate) fn may_rmdir(&self, start: Id, path: &[u8]) -> Result<Last> {
        let last = self.walk(start, path)?;
        match &last.name[..] {
            b"." => return Err(Errno::EINVAL),
            b".." => return Err(Errno::ENOTEMPTY),
            _ => {}
        }
        match self.entries(self.named(&last)?) {
            None => Err(Errno::ENOTDIR),
            Some(entries) if !entries.is_empty() => Err(Errno::ENOTEMPTY),
            Some(_) => Ok(last),
        }
    }

    /// renameat2 with no flag, `RENAME_NOREPLACE` or `RENAME_EXCHANGE`, as a plan: what is to be done when it succeeds.
    pub(crate) fn may_rename(&self, old: Result<Last>, new: Result<Last>, flags: u32) -> Result<Rename> {
        let (exchange, keep) = (flags == libc::RENAME_EXCHANGE, flags == libc::RENAME_NOREPLACE);
        let (old, new) = (old?, new?);
        if !old.is_plain() {
            return Err(Errno::EBUSY);
        }
        if !new.is_plain() {
            return Err(if keep { Errno::EEXIST } else { Errno::EBUSY });
        }
        let from = self.named(&old)?;
        let to = match self.named(&new) {
            Err(Errno::ENOENT) if exchange => return Err(Errno::ENOENT),
            Err(Errno::ENOENT) => None,
            to => Some(to?),
        };
        if keep && to.is_some() {
            return Err(Errno::EEXIST);
        }
        if self.is_dir(from) && self.is_above(from, new.dir) {
            return Err(Errno::EINVAL);
        }
        if let Some(to) = to.filter(|&to| self.is_dir(to) && self.is_above(to, old.dir)) {
            debug_assert_ne!(to, from);
            return Err(if exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
        }
        if self.is_dead(new.dir) {
            return Err(Errno::ENOENT);
        }
        if to == Some(from) {
            return Ok(Rename::Nothing);
        }
        if exchange {
            return Ok(Rename::Exchange(old, new));
        }
        if let Some(to) = to {
            match (self.is_dir(from), self.entries(to)) {
                (true, None) => return Err(Errno::ENOTDIR),
                (false, Some(_)) => return Err(Errno::EISDIR),
                (true, Some(entries)) if !entries.is_empty() => return Err(Errno::ENOTEMPTY),
                _ => {}
            }
        }
        Ok(Rename::Move(old, new))
    }

    pub(crate) fn rename(&mut self, plan: Rename) {
        match plan {
            Rename::Nothing => {}
            Rename::Move(old, new) => {
                self.remove(&new);
                if let Some(id) = self.clear(&old) {
                    self.set(&new, id);
                }
            }
            Rename::Exchange(old, new) => {
                if let (Some(from), Some(to)) = (self.clear(&old), self.clear(&new)) {
                    self.set(&old, to);
                    self.set(&new, from);
                }
            }
        }
    }
}

/// What a rename does.
pub(crate) enum Rename {
    Nothing,
    Move(Last, Last),
    Exchange(Last, Last),
}
