//! What the tests and the models of a directory share. Inodes are numbers here: a directory does not look into them,
//! except for a listing, which these go around.

use core::num::NonZero;

use super::*;
use crate::epoch;
use crate::fs::Mode;
use crate::space::{Compress, Policy};

pub(super) fn space(max_bytes: u64) -> Arc<Space> {
    let policy = Policy { compress: Compress::Never, level: 0, max_file_bytes: 0, cache_bytes: 0 };
    Space::new(max_bytes, 0, policy, Mode::Lockless)
}

fn inode<'a>(number: usize) -> Reached<'a> {
    let address = NonZero::new(number * align_of::<Inode>()).expect("not 0");
    // SAFETY: nothing of it is looked at.
    unsafe { Reached::new(NonNull::without_provenance(address)) }
}

fn number(inode: Reached<'_>) -> usize {
    inode.as_ptr().addr().get() / align_of::<Inode>()
}

/// What `name` stands for.
pub(super) fn lookup(directory: &Directory, name: Name<'_>) -> Option<usize> {
    directory.lookup(name, &epoch::pin()).map(number)
}

pub(super) fn insert(directory: &Directory, space: &Arc<Space>, name: Name<'_>, number: usize) -> Result<()> {
    Room::attempt(space, |room| directory.insert(name, inode(number), room, &epoch::pin(), || Ok(())))
}

/// Takes a name out and answers what it stood for.
pub(super) fn remove(directory: &Directory, space: &Arc<Space>, name: Name<'_>) -> Result<usize> {
    directory.remove(name, space, &epoch::pin(), |_| Ok(()), |child, ()| number(child))
}

/// As `Fs::rmdir` does: `child` stands in `parent` by that name.
pub(super) fn remove_directory(
    parent: &Directory,
    space: &Arc<Space>,
    name: Name<'_>,
    child: &Directory,
) -> Result<()> {
    parent.remove(name, space, &epoch::pin(), |_| child.seal(), |_, sealed| sealed.bury())
}

/// Moves over whatever there is, or exchanges; what the new name stood for.
pub(super) fn rename(
    from: (&Directory, Name<'_>),
    to: (&Directory, Name<'_>),
    exchange: bool,
    space: &Arc<Space>,
) -> Result<Option<usize>> {
    let elsewhere = (!ptr::eq(from.0, to.0)).then_some(to.0);
    let to_first = (ptr::from_ref(to.0)) < ptr::from_ref(from.0);
    let mut replaced = None;
    Room::attempt(space, |room| {
        let judge = |moved: Reached<'_>, other: Option<Reached<'_>>| {
            let change = match other {
                Some(other) if other.is(moved) => Change::Nothing,
                _ if exchange => Change::Exchange,
                _ => Change::Move,
            };
            Ok((change, other.map(number)))
        };
        let places = Places { from, to: (elsewhere, to.1), to_first };
        Directory::rename(places, room, &epoch::pin(), judge, |other| replaced = other)
    })?;
    Ok(replaced)
}

/// Takes everything out and frees all memory.
pub(super) fn dismantle(directory: &Directory, space: &Arc<Space>) {
    while directory.take_any(space).is_some() {}
    directory.clear(space, None);
}
