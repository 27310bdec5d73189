//! From a path to an inode.
//!
//! Promises the rules of path_resolution(7): symbolic links are followed, 40 in one path at the
//! most; a trailing slash asks for a directory; `..` of the root is the root; a directory is looked
//! into only by who may search it. Never: an allocation, a reference count, more than one lock at a time, or in
//! lockless mode any; all it returns is good for as long as the pin. A removed directory has no entries, but `.` and `..`.

use super::entries::Entries;
use super::inode::{DirectoryBody, Inode, Reached};
use super::name::Name;
use super::{At, EXECUTE};
use crate::credentials::Credentials;
use crate::epoch::Guard;
use crate::errno::{Errno, Result};
use crate::failpoint::failpoint;
use crate::fs::Fs;
use crate::observer::Changed;

/// The longest path, in bytes, with the NUL that C ends it with.
pub(super) const PATH_MAX: usize = 4096;
/// The number of symbolic links that a path may lead through.
const LINKS_MAX: u32 = 40;

/// What the last component of a path is.
#[derive(Clone, Copy)]
pub(super) enum Last<'g> {
    /// There is none: the path is made of slashes.
    Root,
    Dot,
    DotDot,
    Name(&'g [u8]),
}

/// Where a path's last component is to be looked for.
#[derive(Clone, Copy)]
pub(super) struct Parent<'g> {
    pub(super) dir: Reached<'g>,
    pub(super) last: Last<'g>,
    /// Whether slashes follow it.
    pub(super) slashes: bool,
}

/// One path's walk.
pub(super) struct Walk<'g> {
    fs: &'g Fs,
    who: &'g Credentials,
    guard: &'g Guard,
    links: u32,
}

/// Refuses what the system calls refuse before they look at the tree.
#[inline]
pub(super) fn check_path(path: &[u8]) -> Result<()> {
    match path.len() {
        0 => Err(Errno::ENOENT),
        PATH_MAX.. => Err(Errno::ENAMETOOLONG),
        _ => Ok(()),
    }
}

/// The number of bytes before the first slash.
#[inline]
fn component_len(path: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut len = 0;
    for chunk in path.chunks_exact(8) {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        // A byte of `differing` is zero where there is a slash; the lowest bit that results is exact.
        let differing = u64::from_le_bytes(word) ^ (ONES * b'/' as u64);
        let zero = differing.wrapping_sub(ONES) & !differing & (ONES << 7);
        if zero != 0 {
            return len + zero.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    len + path[len..].iter().position(|byte| *byte == b'/').unwrap_or(path.len() - len)
}

fn without_slashes(path: &[u8]) -> &[u8] {
    let slashes = path.iter().take_while(|byte| **byte == b'/').count();
    &path[slashes..]
}

impl<'g> Walk<'g> {
    #[inline]
    pub(super) fn new(at: At<'g>, guard: &'g Guard) -> Walk<'g> {
        Walk { fs: at.fs, who: at.who, guard, links: 0 }
    }

    /// Looks `name` up in a directory.
    #[inline(always)]
    pub(super) fn find(&self, dir: Reached<'g>, name: &[u8]) -> Result<Option<Reached<'g>>> {
        let entries = &directory_of(dir)?.entries;
        failpoint!("walk.directory");
        let found = entries.lookup(self.name(dir, name)?, self.guard);
        failpoint!("walk.found");
        Ok(found)
    }

    /// A component as a name in `dir`. In a removed directory there is nothing, whatever it would be called, so that is
    /// told before that the name is too long.
    #[inline]
    pub(super) fn name<'n>(&self, dir: Reached<'_>, name: &'n [u8]) -> Result<Name<'n>> {
        let name = self.fs.shared().hasher().name(name);
        name.map_err(|error| if dir.get().is_linked() { error } else { Errno::ENOENT })
    }

    /// Everything of a path but its last component, which the caller may look for. `path` is not empty.
    #[inline]
    pub(super) fn parent(&mut self, start: Reached<'g>, path: &'g [u8]) -> Result<Parent<'g>> {
        let (mut dir, mut rest) = (start, path);
        if path.first() == Some(&b'/') {
            (dir, rest) = (self.fs.root_reached(), without_slashes(path));
            if rest.is_empty() {
                return Ok(Parent { dir, last: Last::Root, slashes: false });
            }
        }
        loop {
            directory_of(dir)?;
            dir.get().require(self.who, EXECUTE)?;
            let (component, after) = rest.split_at(component_len(rest));
            let next = without_slashes(after);
            if next.is_empty() {
                let last = match component {
                    b"." => Last::Dot,
                    b".." => Last::DotDot,
                    name => Last::Name(name),
                };
                return Ok(Parent { dir, last, slashes: !after.is_empty() });
            }
            dir = self.step(dir, component)?;
            rest = next;
        }
    }

    /// From a directory that may be searched to what a component that others follow stands for.
    #[inline]
    fn step(&mut self, dir: Reached<'g>, component: &[u8]) -> Result<Reached<'g>> {
        match component {
            b"." => Ok(dir),
            b".." => Ok(directory_of(dir)?.parent(self.guard)),
            name => {
                let found = self.find(dir, name)?.ok_or(Errno::ENOENT)?;
                match found.get().symlink_target() {
                    None => Ok(found),
                    Some(target) => {
                        self.count_link(found.get())?;
                        self.resolve(dir, target, true)
                    }
                }
            }
        }
    }

    /// Everything of a path. A symbolic link at its end is followed when `follow_last` says so, or a slash follows it.
    #[inline]
    pub(super) fn resolve(
        &mut self,
        start: Reached<'g>,
        path: &'g [u8],
        follow_last: bool,
    ) -> Result<Reached<'g>> {
        let (mut start, mut path, mut follow, mut slashes) = (start, path, follow_last, false);
        loop {
            let parent = self.parent(start, path)?;
            slashes |= parent.slashes;
            let found = self.last_of(&parent)?.ok_or(Errno::ENOENT)?;
            match found.get().symlink_target() {
                Some(target) if follow || slashes => {
                    self.count_link(found.get())?;
                    (start, path, follow) = (parent.dir, target, true);
                }
                _ if slashes && found.directory().is_none() => return Err(Errno::ENOTDIR),
                _ => return Ok(found),
            }
        }
    }

    /// What the last component stands for, not following it.
    #[inline]
    pub(super) fn last_of(&self, parent: &Parent<'g>) -> Result<Option<Reached<'g>>> {
        match parent.last {
            Last::Root | Last::Dot => Ok(Some(parent.dir)),
            Last::DotDot => Ok(Some(directory_of(parent.dir)?.parent(self.guard))),
            Last::Name(name) => self.find(parent.dir, name),
        }
    }

    /// Notes that a symbolic link is being followed.
    pub(super) fn count_link(&mut self, link: &Inode) -> Result<()> {
        if self.links == LINKS_MAX {
            return Err(Errno::ELOOP);
        }
        self.links += 1;
        link.note_read();
        Ok(())
    }
}

impl Inode {
    /// Tells observers that a name of this directory stands for something else, and of the inode that has a name more or
    /// less. To be called when that can be seen.
    #[inline]
    pub(super) fn note_entry(&self, name: Name<'_>, inode: Option<&Inode>) {
        let observers = self.shared.observers();
        observers.entry_changed(self.ino, name.bytes);
        if let Some(inode) = inode {
            observers.inode_changed(inode.ino, Changed::Metadata);
        }
    }
}

#[inline]
pub(super) fn directory_of(inode: Reached<'_>) -> Result<&DirectoryBody> {
    inode.get().directory().ok_or(Errno::ENOTDIR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_end_at_the_first_slash() {
        for len in 0..40usize {
            for slash in 0..=len {
                // 0xaf and 0xae differ from a slash in the top bit: what a sloppy search would take for one.
                let mut path: Vec<u8> = (0..len).map(|i| [b'a', 0xaf, 0xae, b'.', b'0'][i % 5]).collect();
                let without = component_len(&path);
                assert_eq!(without, len);
                for at in [slash, len - len / 3] {
                    if at < len {
                        path[at] = b'/';
                    }
                }
                let expected = path.iter().position(|byte| *byte == b'/').unwrap_or(len);
                assert_eq!(component_len(&path), expected, "{path:?}");
            }
        }
    }
}
