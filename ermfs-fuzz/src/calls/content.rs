//! Bytes and sizes of open files.

use arbitrary::Unstructured;
use ermfs_core::process;
use ermfs_core::{Errno, MAX_FILE_SIZE, Result, Sink, Source};

use super::world::{DescriptionRef, World, len, near, offset};
use crate::tree::Id;

/// In whose multiples ranges are taken out and put in.
const BLOCK: u64 = 65_536;
/// Longer ranges there is never room for, shorter ones there always is in a filesystem that is not small.
const ROOM: u64 = 8 << 20;

impl World {
    /// The file to read, and its node.
    fn readable(&self, slot: usize) -> Result<(DescriptionRef, Id)> {
        let file = self.usable(slot)?;
        let (node, readable) = (file.borrow().node, file.borrow().readable);
        match () {
            () if !readable => Err(Errno::EBADF),
            () if self.tree.file(node).is_none() => Err(Errno::EISDIR),
            () => Ok((file, node)),
        }
    }

    fn writable(&self, slot: usize) -> Result<(DescriptionRef, Id)> {
        let file = self.usable(slot)?;
        let (node, writable) = (file.borrow().node, file.borrow().writable);
        if writable { Ok((file, node)) } else { Err(Errno::EBADF) }
    }

    pub(super) fn read(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let (slot, len) = (self.slot(input)?, len(input)?);
        let mut room = vec![0xa5; len];
        let got = process::read(self.fd(slot), &mut Sink::new(&mut room));
        let call = format!("read {} {len}", self.fd(slot));
        let want = self.readable(slot).and_then(|(file, node)| {
            let mut file = file.borrow_mut();
            if is_past(file.offset, len) {
                return Err(Errno::EINVAL);
            }
            let bytes = self.tree.file(node).expect("a file").read(file.offset, len);
            file.offset += bytes.len() as u64;
            Ok(bytes)
        });
        self.same_bytes(&call, got, &room, want);
        Ok(())
    }

    pub(super) fn pread(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let (slot, len, offset) = (self.slot(input)?, len(input)?, offset(input)?);
        let mut room = vec![0xa5; len];
        let got = process::pread(self.fd(slot), &mut Sink::new(&mut room), offset);
        let call = format!("pread {} {len} at {offset}", self.fd(slot));
        let want = match u64::try_from(offset) {
            Err(_) => Err(Errno::EINVAL),
            Ok(at) => match self.readable(slot) {
                Ok(_) | Err(Errno::EISDIR) if is_past(at, len) => Err(Errno::EINVAL),
                file => file.map(|(_, node)| self.tree.file(node).expect("a file").read(at, len)),
            },
        };
        self.same_bytes(&call, got, &room, want);
        Ok(())
    }

    fn same_bytes(&self, call: &str, got: Result<usize>, room: &[u8], want: Result<Vec<u8>>) {
        self.exactly(call, got, want.as_ref().map(Vec::len).map_err(|&error| error));
        if let Ok(bytes) = want {
            let differs = room.iter().zip(&bytes).position(|(one, other)| one != other);
            assert_eq!(differs, None, "{call}: the first byte that differs");
            assert!(room[bytes.len()..].iter().all(|&byte| byte == 0xa5), "{call}: more than was reported");
        }
    }

    pub(super) fn write(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let (slot, data) = (self.slot(input)?, self.data(input)?);
        let got = process::write(self.fd(slot), &mut Source::new(&data));
        let call = format!("write {} {}", self.fd(slot), data.len());
        let want = self.writable(slot).and_then(|(file, node)| {
            let file = file.borrow();
            // Looked at before it is known that the bytes go to the end.
            if is_past(file.offset, data.len()) && got == Err(Errno::EINVAL) {
                return Err(Errno::EINVAL);
            }
            let at = if file.append { self.tree.file(node).expect("a file").size() } else { file.offset };
            Ok((node, at))
        });
        if let Some((at, n)) = self.written_at(&call, got, want, &data)
            && n > 0
        {
            self.file(slot).expect("written to").borrow_mut().offset = at + n as u64;
        }
        Ok(())
    }

    pub(super) fn pwrite(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let (slot, data, offset) = (self.slot(input)?, self.data(input)?, offset(input)?);
        let got = process::pwrite(self.fd(slot), &mut Source::new(&data), offset);
        let call = format!("pwrite {} {} at {offset}", self.fd(slot), data.len());
        let want = match u64::try_from(offset) {
            Err(_) => Err(Errno::EINVAL),
            // Also where it is going to be appended.
            Ok(at) if self.writable(slot).is_ok() && is_past(at, data.len()) && got.is_err() => {
                got.map(|_| (0, 0))
            }
            Ok(at) => self.writable(slot).map(|(file, node)| {
                let append = file.borrow().append;
                (node, if append { self.tree.file(node).expect("a file").size() } else { at })
            }),
        };
        self.written_at(&call, got, want, &data);
        Ok(())
    }

    /// Judges a write and does it to the model: where, and how much.
    fn written_at(
        &mut self,
        call: &str,
        got: Result<usize>,
        want: Result<(Id, u64)>,
        data: &[u8],
    ) -> Option<(u64, usize)> {
        self.note(call, &got);
        let (node, at) = match want {
            Ok(want) => want,
            Err(error) => {
                assert_eq!(got, Err(error), "{call}");
                return None;
            }
        };
        let fits = (data.len() as u64).min(MAX_FILE_SIZE.saturating_sub(at)) as usize;
        match got {
            Ok(n) => {
                assert!(n == fits || self.limited && 0 < n && n < fits, "{call}: {n} bytes");
                assert!(n > 0 || data.is_empty(), "{call}: none of its bytes");
                self.tree.file_mut(node).write(at, &data[..n]);
                Some((at, n))
            }
            Err(error) => {
                let too_far = is_past(at, data.len()) && matches!(error, Errno::EINVAL | Errno::EFBIG);
                assert!(too_far || self.no_room(&got), "{call}: {error:?}");
                None
            }
        }
    }

    pub(super) fn ftruncate(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let (slot, size) = (self.slot(input)?, offset(input)?);
        let got = process::ftruncate(self.fd(slot), size);
        let want = match u64::try_from(size) {
            Err(_) => Err(Errno::EINVAL),
            Ok(size) => self.usable(slot).and_then(|file| {
                let file = file.borrow();
                if file.writable { Ok((file.node, size)) } else { Err(Errno::EINVAL) }
            }),
        };
        self.resized(&format!("ftruncate {} {size}", self.fd(slot)), got, want);
        Ok(())
    }

    pub(super) fn truncate(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let (start, size) = (self.start_here(input)?, offset(input)?);
        let got = process::truncate(&start.path, size);
        let want = match u64::try_from(size) {
            Err(_) => Err(Errno::EINVAL),
            Ok(size) => self
                .tree
                .lookup(self.cwd, &start.path, true)
                .and_then(|node| if self.tree.is_dir(node) { Err(Errno::EISDIR) } else { Ok((node, size)) }),
        };
        self.resized(&format!("truncate {} {size}", start.text()), got, want);
        Ok(())
    }

    fn resized(&mut self, call: &str, got: Result<()>, want: Result<(Id, u64)>) {
        if self.with_room(call, got, want.map(drop)) {
            let (node, size) = want.expect("it has succeeded");
            self.tree.file_mut(node).resize(size);
        }
    }

    pub(super) fn fallocate(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
        const MODES: [i32; 10] = [
            0,
            KEEP,
            libc::FALLOC_FL_PUNCH_HOLE | KEEP,
            libc::FALLOC_FL_ZERO_RANGE,
            libc::FALLOC_FL_ZERO_RANGE | KEEP,
            libc::FALLOC_FL_COLLAPSE_RANGE,
            libc::FALLOC_FL_INSERT_RANGE,
            libc::FALLOC_FL_PUNCH_HOLE | KEEP,
            libc::FALLOC_FL_COLLAPSE_RANGE | KEEP,
            libc::FALLOC_FL_PUNCH_HOLE,
        ];
        let (slot, mode) = (self.slot(input)?, MODES[usize::from(input.arbitrary::<u8>()?) % MODES.len()]);
        let (offset, len) = (offset(input)?, offset(input)?);
        let call = format!("fallocate {} {mode:#x} {offset}+{len}", self.fd(slot));
        let want = self.may_allocate(slot, mode, offset, len);
        let far = want.is_ok_and(|range| range.len > ROOM);
        if (self.limited || far) && self.readable(slot).is_err() {
            // Should it fail half-way, nobody could look what it has done.
            return Ok(());
        }
        let got = process::fallocate(self.fd(slot), mode, offset, len);
        self.note(&call, &got);
        if self.no_room(&got) || far && got == Err(Errno::ENOSPC) {
            if let Ok(range) = want {
                self.half_zeroed(&call, slot, range);
            }
            return Ok(());
        }
        assert_eq!(got, want.map(drop), "{call}");
        if let Ok(range) = want {
            self.allocated(mode, range);
        }
        Ok(())
    }

    fn may_allocate(&self, slot: usize, mode: i32, offset: i64, len: i64) -> Result<Range> {
        let file = self.usable(slot)?;
        let (node, writable) = (file.borrow().node, file.borrow().writable);
        let (Ok(start), Ok(len)) = (u64::try_from(offset), u64::try_from(len)) else {
            return Err(Errno::EINVAL);
        };
        let keep = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        let what = mode & !libc::FALLOC_FL_KEEP_SIZE;
        if len == 0 {
            return Err(Errno::EINVAL);
        }
        if matches!(what, libc::FALLOC_FL_PUNCH_HOLE if !keep)
            || what == libc::FALLOC_FL_COLLAPSE_RANGE && keep
        {
            return Err(Errno::EOPNOTSUPP);
        }
        if !writable {
            return Err(Errno::EBADF);
        }
        let end = start.checked_add(len).filter(|&end| end <= MAX_FILE_SIZE).ok_or(Errno::EFBIG)?;
        let size = self.tree.file(node).expect("a file").size();
        let whole = start.is_multiple_of(BLOCK) && len.is_multiple_of(BLOCK);
        match what {
            libc::FALLOC_FL_COLLAPSE_RANGE if !whole || end >= size => return Err(Errno::EINVAL),
            libc::FALLOC_FL_INSERT_RANGE if !whole => return Err(Errno::EINVAL),
            libc::FALLOC_FL_INSERT_RANGE if size.checked_add(len).is_none_or(|size| size > MAX_FILE_SIZE) => {
                return Err(Errno::EFBIG);
            }
            libc::FALLOC_FL_INSERT_RANGE if start >= size => return Err(Errno::EINVAL),
            _ => {}
        }
        Ok(Range { node, start, len, what, keep })
    }

    fn allocated(&mut self, mode: i32, range: Range) {
        let bytes = self.tree.file_mut(range.node);
        let end = range.start + range.len;
        match range.what {
            libc::FALLOC_FL_COLLAPSE_RANGE => bytes.collapse(range.start, range.len),
            libc::FALLOC_FL_INSERT_RANGE => bytes.insert(range.start, range.len),
            0 => {}
            _ => bytes.zero(range.start, end.min(bytes.size())),
        }
        if !range.keep && matches!(mode, 0 | libc::FALLOC_FL_ZERO_RANGE) {
            let size = bytes.size().max(end);
            bytes.resize(size);
        }
    }

    /// Where a call that zeroes has failed, an edge of the range may be zeros already: the model takes over what is there
    /// if it is the old byte or zero.
    fn half_zeroed(&mut self, call: &str, slot: usize, range: Range) {
        if !matches!(range.what, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE) {
            return;
        }
        let places: Vec<u64> = self.tree.file(range.node).expect("a file").places().collect();
        for place in places {
            let old = self.tree.file(range.node).expect("a file").read(place, 4096);
            let now = self.bytes_now(slot, place, old.len());
            for (index, (&old, &now)) in old.iter().zip(&now).enumerate() {
                let at = place + index as u64;
                let within = at >= range.start && at - range.start < range.len;
                assert!(now == old || within && now == 0, "{call}: the byte at {at}");
            }
            self.tree.file_mut(range.node).write(place, &now);
        }
    }

    fn bytes_now(&self, slot: usize, start: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let got = process::pread(self.fd(slot), &mut Sink::new(&mut bytes), start as i64);
        assert_eq!(got, Ok(len), "pread of what is there");
        bytes
    }

    pub(super) fn lseek(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        const WHENCES: [i32; 8] = [
            libc::SEEK_SET,
            libc::SEEK_CUR,
            libc::SEEK_END,
            libc::SEEK_DATA,
            libc::SEEK_HOLE,
            libc::SEEK_DATA,
            libc::SEEK_HOLE,
            99,
        ];
        let (slot, whence) =
            (self.slot(input)?, WHENCES[usize::from(input.arbitrary::<u8>()?) % WHENCES.len()]);
        let offset = offset(input)?;
        let call = format!("lseek {} {offset} {whence}", self.fd(slot));
        let file = match self.usable(slot) {
            Ok(file) => file,
            Err(error) => {
                self.exactly(&call, process::lseek(self.fd(slot), offset, whence), Err(error));
                return Ok(());
            }
        };
        let Some(bytes) = self.tree.file(file.borrow().node) else { return Ok(()) };
        let got = process::lseek(self.fd(slot), offset, whence);
        self.note(&call, &got);
        let (size, here) = (bytes.size(), file.borrow().offset);
        let base = match whence {
            libc::SEEK_SET => Some(0),
            libc::SEEK_CUR => Some(here),
            libc::SEEK_END => Some(size),
            _ => None,
        };
        if let Some(base) = base {
            let want = (base as i64).checked_add(offset).filter(|&at| at >= 0);
            assert_eq!(got.ok(), want, "{call}: {got:?}");
        } else if whence == 99 {
            assert_eq!(got, Err(Errno::EINVAL), "{call}");
        } else if offset < 0 || offset as u64 >= size {
            assert_eq!(got, Err(Errno::ENXIO), "{call}");
        } else if whence == libc::SEEK_DATA {
            let data = bytes.next_nonzero(offset as u64);
            match got {
                // What is no hole may be zeros, but what is passed over must be.
                Ok(at) => {
                    assert!(at >= offset && (at as u64) < size, "{call}: {at}");
                    assert!(data.is_none_or(|data| data >= at as u64), "{call}: {at} is past data");
                }
                Err(error) => assert!(error == Errno::ENXIO && data.is_none(), "{call}: {error:?}"),
            }
        } else {
            let at = got.unwrap_or_else(|error| panic!("{call}: {error:?}"));
            assert!(at >= offset && at as u64 <= size, "{call}: {at}");
            assert!(at as u64 == size || bytes.read(at as u64, 1) == [0], "{call}: {at} is data");
        }
        if let Ok(at) = got {
            file.borrow_mut().offset = at as u64;
        }
        Ok(())
    }

    pub(super) fn copy_file_range(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let (from, into, len) = (self.slot(input)?, self.slot(input)?, len(input)?);
        let mut place = || -> arbitrary::Result<Option<i64>> {
            let byte = input.arbitrary::<u8>()?;
            Ok(if byte >= 128 { None } else { Some(near(byte, input)?) })
        };
        let (mut at_in, mut at_out) = (place()?, place()?);
        self.written += len;
        let call = format!("copy {} {at_in:?} to {} {at_out:?} {len}", self.fd(from), self.fd(into));
        let want = self.may_copy(from, at_in, into, at_out, len);
        let got =
            process::copy_file_range(self.fd(from), at_in.as_mut(), self.fd(into), at_out.as_mut(), len, 0);
        self.note(&call, &got);
        let Some((node_in, start_in, node_out, start_out, count)) = want else {
            assert!(got.is_err() || got == Ok(0), "{call}: {got:?}");
            return Ok(());
        };
        if self.no_room(&got) {
            return Ok(());
        }
        let n = got.unwrap_or_else(|error| panic!("{call}: {error:?}"));
        assert!(n == count || self.limited && 0 < n && n < count, "{call}: {n}, not {count}");
        let bytes = self.tree.file(node_in).expect("a file").read(start_in, n);
        self.tree.file_mut(node_out).write(start_out, &bytes);
        self.moved(&call, from, at_in, start_in, n);
        self.moved(&call, into, at_out, start_out, n);
        Ok(())
    }

    /// An offset that was given, or the descriptor's own, has moved by what was copied.
    fn moved(&self, call: &str, slot: usize, given: Option<i64>, start: u64, n: usize) {
        let now = start + n as u64;
        match given {
            Some(given) => assert_eq!(given as u64, now, "{call}: the offset"),
            None => self.file(slot).expect("open").borrow_mut().offset = now,
        }
    }

    /// The two files, where, and how much; `None` where it must fail or copies nothing.
    fn may_copy(
        &self,
        from: usize,
        at_in: Option<i64>,
        into: usize,
        at_out: Option<i64>,
        len: usize,
    ) -> Option<(Id, u64, Id, u64, usize)> {
        let ((file_in, node_in), (file_out, node_out)) =
            (self.readable(from).ok()?, self.writable(into).ok()?);
        if file_out.borrow().append {
            return None;
        }
        let start_in = at_in.map_or(file_in.borrow().offset, |at| at as u64);
        let start_out = at_out.map_or(file_out.borrow().offset, |at| at as u64);
        let left = self.tree.file(node_in)?.size().saturating_sub(start_in);
        let count = left.min(len as u64).min(MAX_FILE_SIZE - start_out);
        let overlaps = node_in == node_out
            && start_in < start_out.saturating_add(count)
            && start_out < start_in.saturating_add(count);
        if count == 0 || overlaps {
            return None;
        }
        Some((node_in, start_in, node_out, start_out, count as usize))
    }
}

/// What a fallocate that can succeed is about.
#[derive(Clone, Copy)]
struct Range {
    node: Id,
    start: u64,
    len: u64,
    what: i32,
    keep: bool,
}

/// Whether a transfer would reach past the largest file.
fn is_past(start: u64, len: usize) -> bool {
    start.checked_add(len as u64).is_none_or(|end| end > MAX_FILE_SIZE)
}
