//! Opening, closing, descriptors and their flags, and locks.

use std::cell::RefCell;
use std::rc::Rc;

use arbitrary::Unstructured;
use ermfs_core::process::{self, FIRST_FD, O_ANYFD};
use ermfs_core::{Errno, Result};

use super::world::{Description, DescriptionRef, LOCK_CELLS, Locks, Start, World, len};
use crate::bytes::Bytes;
use crate::tree::{Id, Kind};

/// What the process's umask takes away.
pub(super) const UMASK: u32 = 0o022;

impl World {
    pub(super) fn open(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let bits = input.arbitrary::<u16>()?;
        let mut flags = [libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR, libc::O_RDWR][usize::from(bits % 4)];
        for (bit, flag) in [(2, libc::O_CREAT), (3, libc::O_EXCL), (4, libc::O_TRUNC), (5, libc::O_APPEND)] {
            flags |= if bits >> bit & 1 == 1 { flag } else { 0 };
        }
        for (bit, flag) in [(6, libc::O_NOFOLLOW), (7, libc::O_CLOEXEC), (8, O_ANYFD)] {
            flags |= if bits >> bit & 1 == 1 { flag } else { 0 };
        }
        // What nobody asks for together, and Linux answers by its version.
        if flags & libc::O_CREAT == 0 {
            flags &= !libc::O_EXCL;
        }
        if flags & libc::O_ACCMODE == libc::O_RDONLY {
            flags &= !libc::O_TRUNC;
        }
        match bits >> 9 & 7 {
            0 => flags = libc::O_PATH | flags & (libc::O_NOFOLLOW | O_ANYFD),
            1 => flags = libc::O_TMPFILE | flags & (libc::O_ACCMODE | libc::O_APPEND),
            2 | 3 => flags = libc::O_DIRECTORY | flags & (libc::O_NOFOLLOW | O_ANYFD),
            _ => {}
        }
        self.open_with(input, flags)
    }

    pub(super) fn create(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        self.open_with(input, libc::O_RDWR | libc::O_CREAT)
    }

    fn open_with(&mut self, input: &mut Unstructured<'_>, flags: i32) -> arbitrary::Result<()> {
        let slot = usize::from(input.arbitrary::<u8>()?) % self.slots.len();
        let start = self.start(input)?;
        let call = format!("open {} {flags:#x}", start.text());
        let want = self.may_open(&start, flags);
        let got = process::openat(start.dirfd, &start.path, flags, 0o666 | 0o700);
        self.note(&call, &got);
        if flags & (libc::O_CREAT | libc::O_TRUNC | libc::O_TMPFILE & !libc::O_DIRECTORY) != 0
            && self.no_room(&got)
        {
            return Ok(());
        }
        assert_eq!(got.err(), want.as_ref().err().copied(), "{call}");
        let (Ok(fd), Ok(found)) = (got, want) else { return Ok(()) };
        if flags & O_ANYFD == 0 {
            assert_eq!(fd, self.lowest(), "{call}");
        }
        let node = self.opened(found, flags);
        let path_only = flags & libc::O_PATH != 0;
        let access = flags & libc::O_ACCMODE;
        let file = Description {
            node,
            readable: !path_only && access != libc::O_WRONLY,
            writable: !path_only && access != libc::O_RDONLY,
            append: flags & libc::O_APPEND != 0,
            path_only,
            offset: 0,
            flock: 0,
        };
        self.install(slot, fd, Rc::new(RefCell::new(file)));
        Ok(())
    }

    /// What an open finds, or where it makes something.
    fn may_open(&self, start: &Start, flags: i32) -> Result<Found> {
        let has = |flag: i32| flags & flag == flag;
        if has(libc::O_TMPFILE) && flags & libc::O_ACCMODE == libc::O_RDONLY {
            return Err(Errno::EINVAL);
        }
        let node = start.node?;
        if has(libc::O_TMPFILE) {
            let dir = self.tree.lookup(node, &start.path, true)?;
            return match () {
                () if !self.tree.is_dir(dir) => Err(Errno::ENOTDIR),
                () if self.tree.is_dead(dir) => Err(Errno::ENOENT),
                () => Ok(Found::Nameless),
            };
        }
        if has(libc::O_CREAT) {
            return self.may_create(node, start, flags);
        }
        let id = self.tree.lookup(node, &start.path, !has(libc::O_NOFOLLOW))?;
        let is_dir = self.tree.is_dir(id);
        if self.tree.symlink(id).is_some() && !has(libc::O_PATH) {
            return Err(if has(libc::O_DIRECTORY) { Errno::ENOTDIR } else { Errno::ELOOP });
        }
        if has(libc::O_DIRECTORY) && !is_dir {
            return Err(Errno::ENOTDIR);
        }
        if is_dir && !has(libc::O_PATH) && flags & libc::O_ACCMODE != libc::O_RDONLY {
            return Err(Errno::EISDIR);
        }
        Ok(Found::Old(id))
    }

    fn may_create(&self, node: Id, start: &Start, flags: i32) -> Result<Found> {
        if flags & (libc::O_EXCL | libc::O_NOFOLLOW) != 0 {
            let last = self.tree.walk(node, &start.path)?;
            if !last.is_plain() {
                return Err(if flags & libc::O_EXCL != 0 { Errno::EEXIST } else { Errno::EISDIR });
            }
            match self.tree.named(&last) {
                Err(Errno::ENOENT) => {}
                Err(error) => return Err(error),
                Ok(_) if flags & libc::O_EXCL != 0 => return Err(Errno::EEXIST),
                Ok(id) if self.tree.symlink(id).is_some() => return Err(Errno::ELOOP),
                Ok(_) => {}
            }
        }
        let (last, found) = self.tree.place(node, &start.path)?;
        match found {
            None if self.tree.is_dead(last.dir) => Err(Errno::ENOENT),
            None => Ok(Found::New(last)),
            Some(id) if self.tree.is_dir(id) => Err(Errno::EISDIR),
            Some(id) => Ok(Found::Old(id)),
        }
    }

    /// What an open that has succeeded does to the model.
    fn opened(&mut self, found: Found, flags: i32) -> Id {
        const MODE: u32 = (0o666 | 0o700) & !UMASK;
        match found {
            Found::Old(id) => {
                if flags & libc::O_TRUNC != 0 && self.tree.file(id).is_some() {
                    self.tree.file_mut(id).resize(0);
                }
                id
            }
            Found::Nameless => self.tree.add(Kind::File(Bytes::default()), MODE),
            Found::New(last) => {
                let id = self.tree.add(Kind::File(Bytes::default()), MODE);
                self.tree.set(&last, id);
                id
            }
        }
    }

    pub(super) fn close(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let slot = self.slot(input)?;
        if self.slots[slot].is_none() {
            self.exactly("close", process::close(self.fd(slot)), Err(Errno::EBADF));
        }
        self.close_slot(slot);
        Ok(())
    }

    pub(super) fn dup(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let (slot, to) = (self.slot(input)?, usize::from(input.arbitrary::<u8>()?) % self.slots.len());
        let want = self.file(slot).map(|file| (self.lowest(), file));
        let got = process::dup(self.fd(slot));
        self.exactly(
            &format!("dup {}", self.fd(slot)),
            got,
            want.as_ref().map(|(fd, _)| *fd).map_err(|&error| error),
        );
        if let Ok((fd, file)) = want {
            self.install(to, fd, file);
        }
        Ok(())
    }

    pub(super) fn dup2(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let (slot, to) = (self.slot(input)?, usize::from(input.arbitrary::<u8>()?) % self.slots.len());
        // Also a number that nothing has yet.
        let number = self.slots[to].as_ref().map_or(FIRST_FD + 20 + to as i32, |slot| slot.fd);
        let want = self.file(slot);
        let got = process::dup2(self.fd(slot), number);
        self.exactly(
            &format!("dup2 {} {number}", self.fd(slot)),
            got,
            want.as_ref().map(|_| number).map_err(|&error| error),
        );
        if let Ok(file) = want
            && self.fd(slot) != number
        {
            let old = self.slots[to].take();
            self.numbers.insert(number);
            self.slots[to] = Some(super::world::Slot { fd: number, file });
            if let Some(old) = old {
                self.forget(old.file);
            }
        }
        Ok(())
    }

    /// fcntl: sets and asks the status flags.
    pub(super) fn set_flags(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let (slot, append) = (self.slot(input)?, input.arbitrary::<u8>()? % 2 == 1);
        let fd = self.fd(slot);
        let want = self.usable(slot);
        let got = process::fcntl(fd, libc::F_SETFL, if append { libc::O_APPEND } else { 0 });
        self.exactly(&format!("setfl {fd} {append}"), got, want.as_ref().map(|_| 0).map_err(|&error| error));
        let Ok(file) = want else { return Ok(()) };
        file.borrow_mut().append = append;
        let flags = process::fcntl(fd, libc::F_GETFL, 0).expect("an open descriptor");
        assert_eq!(flags & libc::O_APPEND != 0, append, "F_GETFL");
        Ok(())
    }

    pub(super) fn fsync(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let slot = self.slot(input)?;
        self.exactly("fsync", process::fsync(self.fd(slot)), self.usable(slot).map(drop));
        Ok(())
    }

    // ---- locks

    pub(super) fn flock(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let slot = self.slot(input)?;
        let wanted = [libc::LOCK_SH, libc::LOCK_EX, libc::LOCK_UN][usize::from(input.arbitrary::<u8>()?) % 3];
        let got = process::flock(self.fd(slot), wanted | libc::LOCK_NB);
        if self.limited && got == Err(Errno::ENOLCK) {
            return Ok(());
        }
        let want = self.usable(slot).and_then(|file| self.may_flock(&file, wanted));
        self.exactly(&format!("flock {} {wanted}", self.fd(slot)), got, want);
        Ok(())
    }

    fn may_flock(&self, file: &DescriptionRef, wanted: i32) -> Result<()> {
        if wanted == libc::LOCK_UN {
            file.borrow_mut().flock = 0;
            return Ok(());
        }
        let node = file.borrow().node;
        let others = self.slots.iter().flatten().filter(|slot| !Rc::ptr_eq(&slot.file, file));
        let taken = others.map(|slot| slot.file.borrow()).any(|other| {
            other.node == node && other.flock != 0 && (wanted | other.flock) & libc::LOCK_EX != 0
        });
        let same = file.borrow().flock == wanted;
        // What is changed is given up first.
        file.borrow_mut().flock = if taken && !same { 0 } else { wanted };
        if taken && !same { Err(Errno::EAGAIN) } else { Ok(()) }
    }

    pub(super) fn record_lock(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let (slot, what) = (self.slot(input)?, input.arbitrary::<u8>()?);
        let (ofd, ask) = (what & 1 == 1, what >> 1 & 3 == 3);
        let kind = [0, 1, 2, 2][usize::from(what >> 3 & 3)];
        let first = len(input)? % LOCK_CELLS;
        let cells = match usize::from(what >> 5) * 5 {
            0 => LOCK_CELLS - first,
            most => most.min(LOCK_CELLS - first),
        };
        let to_end = first + cells == LOCK_CELLS;
        // SAFETY: a struct of integers, of which zero is a value.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = [libc::F_UNLCK, libc::F_RDLCK, libc::F_WRLCK][usize::from(kind)] as i16;
        lock.l_start = first as i64;
        lock.l_len = if to_end { 0 } else { cells as i64 };
        let command = match (ofd, ask) {
            (false, false) => libc::F_SETLK,
            (false, true) => libc::F_GETLK,
            (true, false) => libc::F_OFD_SETLK,
            (true, true) => libc::F_OFD_GETLK,
        };
        if ask && kind == 0 {
            return Ok(());
        }
        let got = process::lock(self.fd(slot), command, Some(&mut lock));
        let call = format!("lock {} {command} {kind} {first}+{cells}", self.fd(slot));
        let file = match self.usable(slot) {
            Ok(file) => file,
            Err(error) => {
                self.exactly(&call, got, Err(error));
                return Ok(());
            }
        };
        let (node, readable, writable) = {
            let file = file.borrow();
            (file.node, file.readable, file.writable)
        };
        let owner = ofd.then(|| Rc::clone(&file));
        let range = first..first + cells;
        let conflict = kind != 0
            && self.locks.iter().any(|locks| {
                locks.node == node
                    && !same_owner(&locks.owner, &owner)
                    && locks.cells[range.clone()].iter().any(|&cell| cell != 0 && (cell == 2 || kind == 2))
            });
        if ask {
            self.exactly(&call, got, Ok(()));
            assert_eq!(i32::from(lock.l_type) != libc::F_UNLCK, conflict, "{call}: {}", lock.l_type);
            return Ok(());
        }
        let want = match kind {
            1 if !readable => Err(Errno::EBADF),
            2 if !writable => Err(Errno::EBADF),
            _ if conflict => Err(Errno::EAGAIN),
            _ => Ok(()),
        };
        // A record of a lock is charged, and what there is no room for is ENOLCK.
        self.note(&call, &got);
        if self.limited && got == Err(Errno::ENOLCK) {
            return Ok(());
        }
        assert_eq!(got, want, "{call}");
        if got.is_ok() {
            self.set_cells(node, owner, range, kind);
        }
        Ok(())
    }

    fn set_cells(
        &mut self,
        node: Id,
        owner: Option<DescriptionRef>,
        range: std::ops::Range<usize>,
        kind: u8,
    ) {
        let found =
            self.locks.iter_mut().find(|locks| locks.node == node && same_owner(&locks.owner, &owner));
        match found {
            Some(locks) => locks.cells[range].fill(kind),
            None => {
                let mut cells = [0; LOCK_CELLS];
                cells[range].fill(kind);
                self.locks.push(Locks { node, owner, cells });
            }
        }
    }
}

fn same_owner(one: &Option<DescriptionRef>, other: &Option<DescriptionRef>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => Rc::ptr_eq(one, other),
        _ => false,
    }
}

/// What an open comes to.
enum Found {
    Old(Id),
    New(crate::tree::Last),
    Nameless,
}
