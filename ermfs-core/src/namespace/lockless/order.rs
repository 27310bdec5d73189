//! A directory's dentries in the order of their cookies.
//!
//! Promises: taking out needs no memory. Owns its own memory and its charge, not the dentries. Only the
//! holder of the directory's lock has it.
//!
//! Dentries are only appended. One that is taken out leaves a hole, which keeps its cookie; when more
//! than half are holes, the others close up. When most of the allocation is unused, what is in it moves
//! to a smaller one, unless there is no memory or budget for the two together.

use core::ptr::{self, NonNull};

use ermfs_memory::{Kind, Purpose, try_vec};

use super::dentry::{self, Dentry};
use crate::errno::Result;
use crate::inject::allocation;
use crate::namespace::entries::Room;
use crate::namespace::malloc_footprint;
use crate::space::Space;

/// The largest allocation that is not shrunk, in places.
const SMALL: usize = 8;
/// Marks a hole: a dentry's address is even.
const HOLE: usize = 1;

/// A dentry, or the cookie of one that was here.
#[derive(Clone, Copy)]
struct Place(*mut dentry::Header);

impl Place {
    fn hole(cookie: u64) -> Place {
        Place(ptr::without_provenance_mut((cookie as usize) << 1 | HOLE))
    }

    /// The dentry, good while the lock is held.
    fn dentry<'a>(self) -> Option<Dentry<'a>> {
        let dentry = NonNull::new(self.0).filter(|at| at.addr().get() & HOLE == 0);
        // SAFETY: it is taken out of the order before it is retired, under the lock.
        dentry.map(|at| unsafe { Dentry::from_raw(at) })
    }

    fn cookie(self) -> u64 {
        self.dentry().map_or(self.0.addr() as u64 >> 1, Dentry::cookie)
    }
}

pub(super) struct Order {
    places: Vec<Place>,
}

// SAFETY: the dentries are used only by who holds the lock, on any thread, and are atomics and what never changes.
unsafe impl Send for Order {}

const fn footprint(capacity: usize) -> u64 {
    if capacity == 0 { 0 } else { malloc_footprint(capacity * size_of::<Place>()) }
}

impl Order {
    pub(super) const fn new() -> Order {
        Order { places: Vec::new() }
    }

    /// Makes room for one more.
    pub(super) fn reserve(&mut self, room: &Room<'_>) -> Result<()> {
        let old = self.places.capacity();
        if self.places.len() < old {
            return Ok(());
        }
        let new = match old {
            0 => SMALL / 2,
            1..64 => old * 2,
            _ => old + old / 2,
        };
        let charge = room.charge(footprint(new) - footprint(old))?;
        allocation!("names.grow")?;
        self.places.try_reserve_exact(new - self.places.len())?;
        debug_assert_eq!(self.places.capacity(), new);
        charge.keep();
        Ok(())
    }

    /// Appends a dentry, for which there is room, whose cookie is the highest.
    pub(super) fn push(&mut self, dentry: Dentry<'_>) {
        debug_assert!(self.places.last().is_none_or(|last| last.cookie() < dentry.cookie()));
        self.places.push(Place(dentry.as_ptr()));
    }

    /// Puts `dentry` in the place of one with the same cookie.
    pub(super) fn replace(&mut self, dentry: Dentry<'_>) {
        let place = self.place_of(dentry.cookie());
        self.places[place] = Place(dentry.as_ptr());
    }

    /// Takes the dentry with this cookie out; `live` are left.
    pub(super) fn take(&mut self, cookie: u64, live: usize, space: &Space) {
        let place = self.place_of(cookie);
        self.places[place] = Place::hole(cookie);
        while self.places.pop_if(|place| place.dentry().is_none()).is_some() {}
        if self.places.len() > SMALL && self.places.len() > live * 2 {
            self.places.retain(|place| place.dentry().is_some());
        }
        if self.places.capacity() > SMALL && self.places.capacity() > live * 4 {
            // An order that cannot shrink now is as good as it was.
            let _ = self.shrink((live * 2).max(SMALL), space);
        }
    }

    /// Takes the last dentry out.
    pub(super) fn pop<'a>(&mut self) -> Option<Dentry<'a>> {
        while let Some(place) = self.places.pop() {
            if let Some(dentry) = place.dentry() {
                return Some(dentry);
            }
        }
        None
    }

    /// The dentries whose cookie is above `cookie`, good while the lock is held.
    pub(super) fn after(&self, cookie: u64) -> impl Iterator<Item = Dentry<'_>> {
        let start = self.places.partition_point(|place| place.cookie() <= cookie);
        self.places[start..].iter().filter_map(|place| place.dentry())
    }

    /// Frees all memory.
    pub(super) fn free(&mut self, space: &Space) {
        space.release(Kind::Metadata, footprint(self.places.capacity()));
        self.places = Vec::new();
    }

    /// Where the dentry with this cookie is.
    fn place_of(&self, cookie: u64) -> usize {
        // Where it is if nothing behind it, or nothing before it, has closed up. Spares most the search.
        let ends = [self.places.last(), self.places.first()].map(|end| end.map_or(0, |end| end.cookie()));
        let behind = ends[0].wrapping_sub(cookie).wrapping_add(1);
        let guesses = [(self.places.len() as u64).wrapping_sub(behind), cookie.wrapping_sub(ends[1])];
        let is = |place: &u64| {
            let found = usize::try_from(*place).ok().and_then(|place| self.places.get(place));
            found.is_some_and(|found| found.cookie() == cookie)
        };
        let place = match guesses.into_iter().find(is) {
            Some(place) => place as usize,
            None => self.places.partition_point(|place| place.cookie() < cookie),
        };
        debug_assert!(self.places[place].dentry().is_some_and(|found| found.cookie() == cookie));
        place
    }

    fn shrink(&mut self, capacity: usize, space: &Space) -> Result<()> {
        // Not through `Space::charge`: this is no reason to let caches go.
        space.budget().charge(Kind::Metadata, footprint(capacity), Purpose::Ordinary)?;
        match try_vec(capacity) {
            Ok(mut places) => {
                debug_assert_eq!(places.capacity(), capacity);
                places.extend(self.places.drain(..).filter(|place: &Place| place.dentry().is_some()));
                self.free(space);
                self.places = places;
                Ok(())
            }
            Err(error) => {
                space.release(Kind::Metadata, footprint(capacity));
                Err(error.into())
            }
        }
    }
}
