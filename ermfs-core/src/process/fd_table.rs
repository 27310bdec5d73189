//! The process's descriptor table: what it promises in either mode, and the way to it.
//!
//! Promises: numbers start at [`FIRST_FD`], where no kernel descriptor is, and the lowest free one is
//! given out first; a lookup takes no lock that other descriptors share and gives a counted reference;
//! at most [`capacity`] descriptors exist at a time. Owns the choice of the table that is in use.
//! Never allocates after start except a chunk of slots when numbers first reach it.

use std::sync::OnceLock;

use ermfs_memory::Counted;

use super::locked;
use super::open_file::OpenFile;
use crate::errno::{Errno, Result};

/// The lowest descriptor number.
pub const FIRST_FD: i32 = 1 << 20;

/// How many descriptors there can be unless `ERMFS_MAX_FDS` says otherwise.
const DEFAULT_CAPACITY: usize = 65_536;
/// The largest number that `ERMFS_MAX_FDS` is heeded to; the table's directory is then 256 KiB.
const LARGEST_CAPACITY: usize = 1 << 24;

/// A table of descriptors. A number is free, claimed (taken by a call that has not finished), or open.
pub(super) trait FdTable: Sync {
    /// The description that `fd` names. `EBADF` unless open.
    fn lookup(&self, fd: i32) -> Result<Counted<OpenFile>>;

    /// Takes the lowest free number that is not below `lowest`, or, with `any`, one that suits the
    /// calling thread. `EMFILE` when there is none, `ENOMEM`.
    fn claim(&self, lowest: i32, any: bool) -> Result<i32>;

    /// Opens a claimed number.
    fn install(&self, fd: i32, file: Counted<OpenFile>, close_on_exec: bool);

    /// Frees a claimed number.
    fn unclaim(&self, fd: i32);

    /// Makes `fd`, free or open, name `file`, and gives back what it named before. `EBADF` outside
    /// the table, `EBUSY` while claimed, `ENOMEM`.
    fn replace(
        &self,
        fd: i32,
        file: Counted<OpenFile>,
        close_on_exec: bool,
    ) -> Result<Option<Counted<OpenFile>>>;

    /// Frees an open number and gives back what it named. `EBADF` unless open.
    fn remove(&self, fd: i32) -> Result<Counted<OpenFile>>;

    /// The descriptor's close-on-exec flag. `EBADF` unless open.
    fn close_on_exec(&self, fd: i32) -> Result<bool>;

    /// Sets the descriptor's close-on-exec flag. `EBADF` unless open.
    fn set_close_on_exec(&self, fd: i32, on: bool) -> Result<()>;

    /// How many numbers are not free.
    fn used(&self) -> usize;

    /// How many numbers there are.
    fn capacity(&self) -> usize;
}

static TABLE: OnceLock<locked::Table> = OnceLock::new();

/// The table in use, if any descriptor was ever made.
#[inline]
fn existing() -> Option<&'static impl FdTable> {
    TABLE.get()
}

/// The table in use, made on first need.
fn table() -> Result<&'static impl FdTable> {
    match TABLE.get() {
        Some(table) => Ok(table),
        None => make_table(),
    }
}

#[cold]
fn make_table() -> Result<&'static locked::Table> {
    let table = locked::Table::new(configured_capacity())?;
    // Another thread may have been faster; its table is as good.
    let _ = TABLE.set(table);
    TABLE.get().ok_or(Errno::ENOMEM)
}

/// What the environment asks for.
fn configured_capacity() -> usize {
    capacity_of(std::env::var("ERMFS_MAX_FDS").ok().as_deref())
}

/// What `ERMFS_MAX_FDS` asks for; what is no number between 1 and the largest is not heeded.
fn capacity_of(setting: Option<&str>) -> usize {
    setting
        .and_then(|text| text.trim().parse().ok())
        .filter(|capacity| (1..=LARGEST_CAPACITY).contains(capacity))
        .unwrap_or(DEFAULT_CAPACITY)
}

/// A number that is taken but not open yet; freed again unless something is installed.
pub(super) struct Claimed {
    fd: i32,
}

impl Claimed {
    /// Takes the lowest free number from `lowest` on (numbers below the table mean its start), or any.
    ///
    /// # Errors
    /// `EMFILE`, `ENOMEM`.
    pub(super) fn new(lowest: i32, any: bool) -> Result<Claimed> {
        Ok(Claimed { fd: table()?.claim(lowest, any)? })
    }

    /// Opens the number for `file` and answers it.
    pub(super) fn install(self, file: Counted<OpenFile>, close_on_exec: bool) -> i32 {
        let fd = self.fd;
        core::mem::forget(self);
        if let Some(table) = existing() {
            table.install(fd, file, close_on_exec);
        }
        fd
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if let Some(table) = existing() {
            table.unclaim(self.fd);
        }
    }
}

/// See [`FdTable::lookup`].
#[inline]
pub(super) fn lookup(fd: i32) -> Result<Counted<OpenFile>> {
    existing().ok_or(Errno::EBADF)?.lookup(fd)
}

/// See [`FdTable::replace`].
pub(super) fn replace(
    fd: i32,
    file: Counted<OpenFile>,
    close_on_exec: bool,
) -> Result<Option<Counted<OpenFile>>> {
    table()?.replace(fd, file, close_on_exec)
}

/// See [`FdTable::remove`].
pub(super) fn remove(fd: i32) -> Result<Counted<OpenFile>> {
    existing().ok_or(Errno::EBADF)?.remove(fd)
}

/// See [`FdTable::close_on_exec`].
pub(super) fn close_on_exec(fd: i32) -> Result<bool> {
    existing().ok_or(Errno::EBADF)?.close_on_exec(fd)
}

/// See [`FdTable::set_close_on_exec`].
pub(super) fn set_close_on_exec(fd: i32, on: bool) -> Result<()> {
    existing().ok_or(Errno::EBADF)?.set_close_on_exec(fd, on)
}

/// How many descriptors are open or being opened.
pub(super) fn used() -> usize {
    existing().map_or(0, FdTable::used)
}

/// Whether `fd` lies within the table: the first number that does not is what `dup2` refuses.
pub(super) fn is_in_range(fd: i32) -> bool {
    let capacity = existing().map_or_else(configured_capacity, FdTable::capacity);
    fd.checked_sub(FIRST_FD).is_some_and(|index| (0..capacity as i64).contains(&i64::from(index)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sensible_capacities_are_heeded() {
        for (setting, capacity) in [
            (None, 65_536),
            (Some("1"), 1),
            (Some(" 300\n"), 300),
            (Some("16777216"), 1 << 24),
            (Some("16777217"), 65_536),
            (Some("0"), 65_536),
            (Some("-5"), 65_536),
            (Some("many"), 65_536),
            (Some(""), 65_536),
        ] {
            assert_eq!(capacity_of(setting), capacity, "{setting:?}");
        }
    }
}
