//! All directories of a filesystem from one mode to the other.
//!
//! Promises: names, inodes, order and cookies stay; on failure nothing has changed. Never: recursion.
//! A directory that was removed, and is only held, has nothing to convert and stays as it is.

use core::ops::ControlFlow;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

use ermfs_memory::sync::Arc;
use ermfs_memory::{Kind, try_vec};

use super::directory::{Directory, Table};
use super::entries::{Entries, Room};
use super::inode::{Inode, InodeRef};
use super::{InodeKind, malloc_footprint};
use crate::errno::Result;
use crate::fs::Mode;
use crate::space::Space;

/// A directory, and the table that it is to get.
struct Copied {
    directory: NonNull<Inode>,
    table: Table,
}

/// Copies of the tables of a tree's directories. Frees what it has when dropped.
struct Copies<'a> {
    space: &'a Arc<Space>,
    all: Vec<Copied>,
    charged: u64,
}

impl Drop for Copies<'_> {
    fn drop(&mut self) {
        for copied in self.all.drain(..) {
            copied.table.dismantle(self.space);
        }
        self.space.release(Kind::Metadata, self.charged);
    }
}

/// Has every directory below `root`, the root included, changed to `mode`.
///
/// # Errors
/// `ENOSPC`, `ENOMEM`: there must be room for the directories' tables, once more.
///
/// # Safety
/// `root` is a filesystem's root, and no other thread is inside the library.
pub(crate) unsafe fn convert(root: &InodeRef, mode: Mode) -> Result<()> {
    if entries_of(root).table().mode() == mode {
        return Ok(());
    }
    let space = root.shared.space();
    Room::attempt(space, |room| {
        let mut copies = copy_all(root, mode, room)?;
        for copied in &mut copies.all {
            // SAFETY: it has a name, and nobody is there to take it away.
            let inode = unsafe { copied.directory.as_ref() };
            let table = core::mem::replace(&mut copied.table, Table::new(mode));
            // SAFETY: by this function's contract. What was the directory's goes with `copies`.
            copied.table = unsafe { entries_of(inode).replace(table) };
        }
        Ok(())
    })
}

fn entries_of(inode: &Inode) -> &Directory {
    &inode.directory().expect("only directories are copied").entries
}

/// Copies the tables of a whole tree, from the root down: the list is also what is still to be gone into.
fn copy_all<'a>(root: &InodeRef, mode: Mode, room: &Room<'a>) -> Result<Copies<'a>> {
    let directories = root.shared.count_of(InodeKind::Directory).load(Relaxed) as usize;
    let charged = malloc_footprint(directories * size_of::<Copied>());
    let charge = room.charge(charged)?;
    let all = try_vec(directories)?;
    charge.keep();
    let mut copies = Copies { space: room.space(), all, charged };
    copies.all.push(Copied { directory: NonNull::from(&**root), table: Table::new(mode) });
    let mut at = 0;
    while let Some(copied) = copies.all.get(at) {
        // SAFETY: it has a name, and nobody is there to take it away.
        let directory = unsafe { copied.directory.as_ref() };
        let table = Table::new(mode);
        let done = copy(directory, &table, room, |directory| {
            copies.all.push(Copied { directory, table: Table::new(mode) });
        });
        copies.all[at].table = table;
        done?;
        at += 1;
    }
    Ok(copies)
}

/// Enters what is in `directory` into `table`, and hands over the directories among it.
fn copy(
    directory: &Inode,
    table: &Table,
    room: &Room<'_>,
    mut found: impl FnMut(NonNull<Inode>),
) -> Result<()> {
    let entries = entries_of(directory);
    table.prepare_copy(entries.len(), room)?;
    let mut done = Ok(());
    entries.next_after(0, &mut |cookie, name, inode| {
        let inode = NonNull::from(inode);
        let name = directory.shared.hasher().name(name);
        done = name.and_then(|name| table.enter_copy(name, cookie, inode, room));
        if done.is_err() {
            return ControlFlow::Break(());
        }
        // SAFETY: the inode that was just handed over.
        if unsafe { inode.as_ref() }.kind() == InodeKind::Directory {
            found(inode);
        }
        ControlFlow::Continue(())
    });
    done?;
    table.finish_copy(entries.table().next_cookie());
    Ok(())
}
