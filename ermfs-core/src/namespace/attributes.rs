//! Where extended attributes are kept: one table a filesystem, reached from the inode by its number.
//!
//! Promises: a change is one step to all who look; a set that fails has changed nothing; removing
//! and forgetting need no memory. Owns the names and values and their charge; an inode without
//! attributes costs nothing here. Knows nothing of namespaces and permissions (`xattr` does). Never:
//! another lock while it holds its own, and what frees memory under it frees only its own.
//!
//! An inode's attributes are few, so they stand in a list that is searched from its start. The list
//! keeps the room it once had until its last attribute goes.

use ermfs_memory::sync::RwLock;
use ermfs_memory::{Kind, try_box, try_vec};

use super::entries::Room;
use super::malloc_footprint;
use crate::errno::{Errno, Result};
use crate::inject::allocation;
use crate::space::Space;

/// What is asked of an attribute that is set: `XATTR_CREATE` and `XATTR_REPLACE`. With both, no set succeeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XattrSet {
    /// It must not be there: else `EEXIST`.
    pub create: bool,
    /// It must be there: else `ENODATA`.
    pub replace: bool,
}

/// One attribute: its name, then its value.
pub(super) struct Attribute {
    bytes: Box<[u8]>,
    name_len: usize,
}

impl Attribute {
    fn new(name: &[u8], value: &[u8], room: &Room<'_>) -> Result<Attribute> {
        let len = name.len() + value.len();
        let charge = room.charge(malloc_footprint(len))?;
        let mut bytes = try_vec(len)?;
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(value);
        charge.keep();
        Ok(Attribute { bytes: bytes.into_boxed_slice(), name_len: name.len() })
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.bytes[..self.name_len]
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.bytes[self.name_len..]
    }

    /// Frees it.
    fn release(self, space: &Space) {
        let bytes = malloc_footprint(self.bytes.len());
        drop(self);
        space.release(Kind::Metadata, bytes);
    }
}

/// What the room for so many attributes takes.
const fn list_bytes(capacity: usize) -> u64 {
    if capacity == 0 { 0 } else { malloc_footprint(capacity * size_of::<Attribute>()) }
}

/// An inode with attributes; has at least one, but while it is made or taken out.
struct Owner {
    ino: u64,
    next: Link,
    list: Vec<Attribute>,
}

type Link = Option<Box<Owner>>;

const OWNER: u64 = malloc_footprint(size_of::<Owner>());

impl Owner {
    /// An owner of one attribute.
    fn new(ino: u64, name: &[u8], value: &[u8], room: &Room<'_>) -> Result<Box<Owner>> {
        let charge = room.charge(OWNER)?;
        let owner = Owner { ino, next: None, list: Vec::new() };
        let mut owner = try_box(owner).map_err(|(error, _)| error)?;
        charge.keep();
        match owner.add(name, value, room) {
            Ok(()) => Ok(owner),
            Err(error) => {
                owner.release(room.space());
                Err(error)
            }
        }
    }

    fn position(&self, name: &[u8]) -> Option<usize> {
        self.list.iter().position(|attribute| attribute.name() == name)
    }

    /// One more attribute, whose name is not there.
    fn add(&mut self, name: &[u8], value: &[u8], room: &Room<'_>) -> Result<()> {
        let attribute = Attribute::new(name, value, room)?;
        if let Err(error) = self.reserve(room) {
            attribute.release(room.space());
            return Err(error);
        }
        self.list.push(attribute);
        Ok(())
    }

    /// Makes room for one more.
    fn reserve(&mut self, room: &Room<'_>) -> Result<()> {
        let old = self.list.capacity();
        if self.list.len() == old {
            let new = (2 * old).max(1);
            let charge = room.charge(list_bytes(new) - list_bytes(old))?;
            allocation!("attributes.grow")?;
            self.list.try_reserve_exact(new - old).map_err(|_| Errno::ENOMEM)?;
            debug_assert_eq!(self.list.capacity(), new);
            charge.keep();
        }
        Ok(())
    }

    /// Frees it with all it has.
    fn release(mut self: Box<Self>, space: &Space) {
        debug_assert!(self.next.is_none(), "it is in no chain");
        let list = core::mem::take(&mut self.list);
        let bytes = OWNER + list_bytes(list.capacity());
        list.into_iter().for_each(|attribute| attribute.release(space));
        drop(self);
        space.release(Kind::Metadata, bytes);
    }
}

/// Chains of owners, as many as a power of two or none.
struct Table {
    heads: Vec<Link>,
    owners: usize,
}

/// The least number of chains.
const CHAINS: usize = 8;

impl Table {
    fn chain(&self, ino: u64) -> usize {
        // Fibonacci hashing: numbers that differ by a power of two spread as well.
        let hash = ino.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        hash as usize & (self.heads.len() - 1)
    }

    fn find(&self, ino: u64) -> Option<&Owner> {
        if self.heads.is_empty() {
            return None;
        }
        let mut owner = self.heads[self.chain(ino)].as_deref()?;
        while owner.ino != ino {
            owner = owner.next.as_deref()?;
        }
        Some(owner)
    }

    fn find_mut(&mut self, ino: u64) -> Option<&mut Owner> {
        if self.heads.is_empty() {
            return None;
        }
        let chain = self.chain(ino);
        let mut owner = self.heads[chain].as_deref_mut()?;
        while owner.ino != ino {
            owner = owner.next.as_deref_mut()?;
        }
        Some(owner)
    }

    fn link(&mut self, mut owner: Box<Owner>) {
        let chain = self.chain(owner.ino);
        owner.next = self.heads[chain].take();
        self.heads[chain] = Some(owner);
    }

    /// Enters a new owner; on failure frees it.
    fn enter(&mut self, owner: Box<Owner>, room: &Room<'_>) -> Result<()> {
        if self.owners == self.heads.len()
            && let Err(error) = self.grow(room)
        {
            owner.release(room.space());
            return Err(error);
        }
        self.link(owner);
        self.owners += 1;
        Ok(())
    }

    fn grow(&mut self, room: &Room<'_>) -> Result<()> {
        let len = (2 * self.heads.len()).max(CHAINS);
        let charge = room.charge(heads_bytes(len))?;
        let mut heads = try_vec(len)?;
        heads.resize_with(len, || None);
        charge.keep();
        let old = core::mem::replace(&mut self.heads, heads);
        let bytes = heads_bytes(old.len());
        for mut link in old {
            while let Some(mut owner) = link {
                link = owner.next.take();
                self.link(owner);
            }
        }
        room.space().release(Kind::Metadata, bytes);
        Ok(())
    }

    /// Frees an owner, and the chains with the last one.
    fn forget(&mut self, ino: u64, space: &Space) {
        let Some(owner) = self.take(ino) else { return };
        owner.release(space);
        self.owners -= 1;
        if self.owners == 0 {
            let bytes = heads_bytes(self.heads.len());
            self.heads = Vec::new();
            space.release(Kind::Metadata, bytes);
        }
    }

    fn take(&mut self, ino: u64) -> Option<Box<Owner>> {
        if self.heads.is_empty() {
            return None;
        }
        let chain = self.chain(ino);
        let mut link = &mut self.heads[chain];
        while link.as_ref()?.ino != ino {
            link = &mut link.as_mut()?.next;
        }
        let mut owner = link.take()?;
        *link = owner.next.take();
        Some(owner)
    }
}

const fn heads_bytes(len: usize) -> u64 {
    if len == 0 { 0 } else { malloc_footprint(len * size_of::<Link>()) }
}

/// The extended attributes of all inodes of a filesystem. All methods may be called from any thread. Empty when the last
/// inode is gone.
pub(crate) struct Attributes(RwLock<Table>);

impl Attributes {
    pub(crate) const fn new() -> Attributes {
        Attributes(RwLock::new(Table { heads: Vec::new(), owners: 0 }))
    }

    /// Runs `work` on the attributes of inode `ino`.
    pub(super) fn with<R>(&self, ino: u64, work: impl FnOnce(&[Attribute]) -> R) -> R {
        let table = self.0.read();
        work(table.find(ino).map_or(&[], |owner| &owner.list))
    }

    /// Sets an attribute; `commit` runs when that is done and before anyone can see it.
    ///
    /// # Errors
    /// `EEXIST`, `ENODATA` as `how` has it; `ENOSPC`, `ENOMEM`.
    pub(super) fn set(
        &self,
        ino: u64,
        (name, value): (&[u8], &[u8]),
        how: XattrSet,
        room: &Room<'_>,
        commit: impl FnOnce(),
    ) -> Result<()> {
        let mut table = self.0.write();
        let owner = table.find_mut(ino);
        let place = owner.as_ref().and_then(|owner| owner.position(name));
        match place {
            Some(_) if how.create => return Err(Errno::EEXIST),
            None if how.replace => return Err(Errno::ENODATA),
            _ => {}
        }
        match (owner, place) {
            (Some(owner), Some(place)) => {
                let new = Attribute::new(name, value, room)?;
                core::mem::replace(&mut owner.list[place], new).release(room.space());
            }
            (Some(owner), None) => owner.add(name, value, room)?,
            (None, _) => table.enter(Owner::new(ino, name, value, room)?, room)?,
        }
        commit();
        Ok(())
    }

    /// Removes an attribute; `commit`, which is told whether it was the inode's last, runs before anyone can see it.
    ///
    /// # Errors
    /// `ENODATA`.
    pub(super) fn remove(
        &self,
        ino: u64,
        name: &[u8],
        space: &Space,
        commit: impl FnOnce(bool),
    ) -> Result<()> {
        let mut table = self.0.write();
        let owner = table.find_mut(ino).ok_or(Errno::ENODATA)?;
        let place = owner.position(name).ok_or(Errno::ENODATA)?;
        owner.list.swap_remove(place).release(space);
        let last = owner.list.is_empty();
        if last {
            table.forget(ino, space);
        }
        commit(last);
        Ok(())
    }

    /// Removes all attributes of inode `ino`.
    #[cold]
    pub(super) fn forget(&self, ino: u64, space: &Space) {
        self.0.write().forget(ino, space);
    }
}
