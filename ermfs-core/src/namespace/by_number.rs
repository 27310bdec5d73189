//! A table of what few inodes have, by inode number.
//!
//! Promises: an insert that fails has changed nothing; taking out needs no memory; an empty table takes none. Owns the
//! nodes, their charge, and the values' own memory but not its charge. Never: a lock, which is the user's.

use ermfs_memory::{Kind, try_box, try_vec};

use super::entries::Room;
use super::malloc_footprint;
use crate::errno::{Errno, Result};
use crate::space::Space;

struct Node<T> {
    ino: u64,
    next: Link<T>,
    value: T,
}

type Link<T> = Option<Box<Node<T>>>;

/// Chains of nodes, as many as a power of two or none.
pub(super) struct ByNumber<T> {
    heads: Vec<Link<T>>,
    len: usize,
}

/// The least number of chains.
const CHAINS: usize = 8;

impl<T> ByNumber<T> {
    const NODE: u64 = malloc_footprint(size_of::<Node<T>>());

    pub(super) const fn new() -> ByNumber<T> {
        ByNumber { heads: Vec::new(), len: 0 }
    }

    fn chain(&self, ino: u64) -> usize {
        // Fibonacci hashing: numbers that differ by a power of two spread as well.
        let hash = ino.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        hash as usize & (self.heads.len() - 1)
    }

    const fn heads_bytes(len: usize) -> u64 {
        if len == 0 { 0 } else { malloc_footprint(len * size_of::<Link<T>>()) }
    }

    pub(super) fn get(&self, ino: u64) -> Option<&T> {
        if self.heads.is_empty() {
            return None;
        }
        let mut node = self.heads[self.chain(ino)].as_deref()?;
        while node.ino != ino {
            node = node.next.as_deref()?;
        }
        Some(&node.value)
    }

    pub(super) fn get_mut(&mut self, ino: u64) -> Option<&mut T> {
        if self.heads.is_empty() {
            return None;
        }
        let chain = self.chain(ino);
        let mut node = self.heads[chain].as_deref_mut()?;
        while node.ino != ino {
            node = node.next.as_deref_mut()?;
        }
        Some(&mut node.value)
    }

    /// Every value, in no particular order.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.heads.iter_mut().flat_map(|head| {
            let mut link = head.as_deref_mut();
            core::iter::from_fn(move || {
                let node = link.take()?;
                link = node.next.as_deref_mut();
                Some(&mut node.value)
            })
        })
    }

    /// Enters a value for `ino`, which has none; `value`'s own memory is the caller's to take back on failure.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`, with the value.
    pub(super) fn insert(
        &mut self,
        ino: u64,
        value: T,
        room: &Room<'_>,
    ) -> core::result::Result<&mut T, (Errno, T)> {
        let charge = match room.charge(Self::NODE) {
            Ok(charge) => charge,
            Err(error) => return Err((error, value)),
        };
        if self.len == self.heads.len()
            && let Err(error) = self.grow(room)
        {
            return Err((error, value));
        }
        let chain = self.chain(ino);
        let mut node = match try_box(Node { ino, next: None, value }) {
            Ok(node) => node,
            Err((error, node)) => {
                drop(charge);
                self.give_back_if_empty(room.space());
                return Err((error.into(), node.value));
            }
        };
        charge.keep();
        node.next = self.heads[chain].take();
        self.len += 1;
        Ok(&mut self.heads[chain].insert(node).value)
    }

    fn grow(&mut self, room: &Room<'_>) -> Result<()> {
        let len = (2 * self.heads.len()).max(CHAINS);
        let charge = room.charge(Self::heads_bytes(len))?;
        let mut heads = try_vec(len)?;
        heads.resize_with(len, || None);
        charge.keep();
        let old = core::mem::replace(&mut self.heads, heads);
        let bytes = Self::heads_bytes(old.len());
        for mut link in old {
            while let Some(mut node) = link {
                link = node.next.take();
                let chain = self.chain(node.ino);
                node.next = self.heads[chain].take();
                self.heads[chain] = Some(node);
            }
        }
        room.space().release(Kind::Metadata, bytes);
        Ok(())
    }

    /// Takes a value out, and with the last one the chains.
    pub(super) fn remove(&mut self, ino: u64, space: &Space) -> Option<T> {
        if self.heads.is_empty() {
            return None;
        }
        let chain = self.chain(ino);
        let mut link = &mut self.heads[chain];
        while link.as_ref()?.ino != ino {
            link = &mut link.as_mut()?.next;
        }
        let mut node = link.take()?;
        *link = node.next.take();
        self.len -= 1;
        let Node { value, .. } = *node;
        space.release(Kind::Metadata, Self::NODE);
        self.give_back_if_empty(space);
        Some(value)
    }

    fn give_back_if_empty(&mut self, space: &Space) {
        if self.len == 0 {
            let bytes = Self::heads_bytes(self.heads.len());
            self.heads = Vec::new();
            space.release(Kind::Metadata, bytes);
        }
    }
}
