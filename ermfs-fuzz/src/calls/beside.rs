//! What POSIX has no call for: exports, imports, views, the mode.

use std::os::fd::{AsFd, OwnedFd};

use arbitrary::Unstructured;
use ermfs_core::process;
use ermfs_core::{Errno, Result};

use super::descriptors::UMASK;
use super::world::{Held, Start, World, len, offset};
use crate::bytes::Bytes;
use crate::gzip;
use crate::import::{content_of, kernel_file};
use crate::tree::{Id, Kind, Last};

/// Larger files are not exported here: they take long.
const LARGEST: u64 = 1 << 20;
/// Most bytes of a stream that is made to be imported.
const MOST_COMPRESSED: usize = 20_000;
/// Most views and exports that are kept.
const MOST_HELD: usize = 6;

impl World {
    pub(super) fn export_memfd(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let (byte, slot) = (input.arbitrary::<u8>()?, self.slot(input)?);
        let flags = i32::from(byte % 8);
        let (got, want, call) = if byte >= 128 {
            let want = self.usable(slot).and_then(|file| {
                let file = file.borrow();
                if file.readable { Ok(file.node) } else { Err(Errno::EBADF) }
            });
            if self.is_large(want) {
                return Ok(());
            }
            (process::fexport_memfd(self.fd(slot), flags), want, format!("fexport {} {flags}", self.fd(slot)))
        } else {
            let start = self.start(input)?;
            let want = start.node.and_then(|node| self.tree.lookup(node, &start.path, true));
            if self.is_large(want) {
                return Ok(());
            }
            let got = process::export_memfdat(start.dirfd, &start.path, flags);
            (got, want, format!("export {} {flags}", start.text()))
        };
        if let Some((fd, bytes)) = self.exported(&call, got, want) {
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
            assert!(std::fs::read(path).expect("/proc") == bytes, "{call}: other bytes");
            self.hold(Held::Export(fd, bytes));
        }
        Ok(())
    }

    pub(super) fn export_gzip(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let start = self.start_here(input)?;
        let want = self.tree.lookup(self.cwd, &start.path, true);
        if self.is_large(want) {
            return Ok(());
        }
        let call = format!("export_gzip {}", start.text());
        if let Some((fd, bytes)) = self.exported(&call, process::export_gzip(&start.path, 0), want) {
            let content = gzip::read(&content_of(fd));
            assert!(content.whole && content.bytes == bytes, "{call}: other bytes");
        }
        Ok(())
    }

    fn is_large(&self, node: Result<Id>) -> bool {
        node.is_ok_and(|node| self.tree.file(node).is_some_and(|bytes| bytes.size() > LARGEST))
    }

    /// Judges the answer of an export: the descriptor, and what it is to hold.
    fn exported(&self, call: &str, got: Result<OwnedFd>, want: Result<Id>) -> Option<(OwnedFd, Vec<u8>)> {
        self.note(call, &got);
        if self.no_room(&got) {
            return None;
        }
        let want = want.and_then(|id| if self.tree.is_dir(id) { Err(Errno::EISDIR) } else { Ok(id) });
        assert_eq!(got.as_ref().err(), want.as_ref().err(), "{call}");
        let bytes = self.tree.file(want.ok()?)?.read(0, LARGEST as usize);
        Some((got.ok()?, bytes))
    }

    pub(super) fn import_fd(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let (start, data) = (self.start_here(input)?, self.data(input)?);
        let hole = len(input)? as u64;
        let fd = kernel_file(&data);
        // Its own hole, at the end or, if it is short, none.
        let size = data.len() as u64 + hole;
        rustix::fs::ftruncate(&fd, size).expect("a memfd grows");
        let mut bytes = Bytes::default();
        bytes.write(0, &data);
        bytes.resize(size);
        let got = process::import_fd(&start.path, fd.as_fd(), 0o666 | 0o700);
        self.imported("import_fd", &start, got, bytes);
        Ok(())
    }

    pub(super) fn import_gzip(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let (start, mut data) = (self.start_here(input)?, self.data(input)?);
        // Compressing it takes most of the time.
        data.truncate(MOST_COMPRESSED);
        let damage = input.arbitrary::<u8>()?;
        let mut stream = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
        stream.extend(miniz_oxide::deflate::compress_to_vec(&data, damage % 4));
        stream.extend(crc32fast::hash(&data).to_le_bytes());
        stream.extend((data.len() as u32).to_le_bytes());
        if damage >= 200 {
            let at = usize::from(damage) * 7 % stream.len();
            stream[at] ^= 1 << (damage % 8);
        }
        let content = gzip::read(&stream);
        let fd = kernel_file(&stream);
        let got = process::import_gzip(&start.path, fd.as_fd(), 0o666 | 0o700);
        if !content.whole && self.may_import(&start).is_ok() {
            // How much came before the fault may have been too much.
            let refused = got == Err(Errno::EIO) || self.no_room(&got);
            assert!(refused, "import_gzip of a damaged stream: {got:?}");
            return Ok(());
        }
        let mut bytes = Bytes::default();
        bytes.write(0, &content.bytes);
        self.imported("import_gzip", &start, got, bytes);
        Ok(())
    }

    fn may_import(&self, start: &Start) -> Result<Last> {
        let (last, found) = self.tree.place(start.node?, &start.path)?;
        match found {
            Some(id) if self.tree.is_dir(id) => Err(Errno::EISDIR),
            None if self.tree.is_dead(last.dir) => Err(Errno::ENOENT),
            _ => Ok(last),
        }
    }

    fn imported(&mut self, call: &str, start: &Start, got: Result<()>, bytes: Bytes) {
        let call = format!("{call} {} {}", start.text(), bytes.size());
        let want = self.may_import(start);
        if self.with_room(&call, got, want.as_ref().map(drop).map_err(|&error| error)) {
            let id = self.tree.add(Kind::File(bytes), (0o666 | 0o700) & !UMASK);
            self.tree.set(&want.expect("it has succeeded"), id);
        }
    }

    pub(super) fn view(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let (slot, offset, len) = (self.slot(input)?, offset(input)?, len(input)?);
        let pieces = 1 + usize::from(input.arbitrary::<u8>()?) % 64;
        let call = format!("view {} {offset}+{len} in {pieces}", self.fd(slot));
        let want = match u64::try_from(offset) {
            Err(_) => Err(Errno::EINVAL),
            Ok(start) => self.usable(slot).and_then(|file| {
                let file = file.borrow();
                match self.tree.file(file.node) {
                    _ if !file.readable => Err(Errno::EBADF),
                    None => Err(Errno::EISDIR),
                    Some(bytes) => Ok(bytes.read(start, len)),
                }
            }),
        };
        let got = process::view_open(self.fd(slot), offset, len, pieces);
        self.note(&call, &got.as_ref().map(|view| view.len()).map_err(|&error| error));
        if self.no_room(&got) {
            return Ok(());
        }
        let view = match (got, want) {
            (Ok(view), Ok(bytes)) => (view, bytes),
            (got, want) => {
                assert_eq!(got.err(), want.err(), "{call}");
                return Ok(());
            }
        };
        let (view, mut bytes) = view;
        // The pieces may be too few for all of it, or room for a block that comes later too little.
        let count = view.pieces().len();
        assert!(view.len() == bytes.len() || self.limited || count == pieces, "{call}: {} bytes", view.len());
        assert!(count <= pieces && (count > 0 || bytes.is_empty()), "{call}: {count} pieces");
        bytes.truncate(view.len());
        self.hold(Held::View(view, bytes));
        Ok(())
    }

    fn hold(&mut self, held: Held) {
        held.check();
        if self.held.len() == MOST_HELD {
            self.held.remove(0).check();
        }
        self.held.push(held);
    }

    pub(super) fn let_go(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let byte = usize::from(input.arbitrary::<u8>()?);
        if !self.held.is_empty() {
            let held = self.held.remove(byte % self.held.len());
            held.check();
        }
        Ok(())
    }

    /// Switches to the other mode.
    pub(super) fn switch(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        if input.arbitrary::<u8>()?.is_multiple_of(2) {
            (0..self.slots.len()).for_each(|slot| self.close_slot(slot));
        }
        let want = if self.numbers.is_empty() { Ok(()) } else { Err(Errno::EBUSY) };
        let other = !process::is_lockless();
        self.exactly(&format!("switch {other}"), process::set_lockless_mode(other), want);
        assert_eq!(process::is_lockless() == other, want.is_ok(), "the mode");
        Ok(())
    }

    pub(super) fn info(&mut self, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let slot = self.slot(input)?;
        let got = process::file_info(self.fd(slot));
        let want = self
            .usable(slot)
            .and_then(|file| self.tree.file(file.borrow().node).map(Bytes::size).ok_or(Errno::EINVAL));
        self.exactly(&format!("info {}", self.fd(slot)), got.map(|info| info.size), want);
        if let Ok(info) = got {
            assert_eq!(info.blocks, info.size.div_ceil(65_536), "{info:?}");
            let sum = info.blocks_packed + info.blocks_raw + info.blocks_hole;
            assert!(sum == info.blocks || self.background, "{info:?}");
        }
        self.same_counts();
        Ok(())
    }
}

impl Held {
    /// It still holds what it was made with.
    pub(super) fn check(&self) {
        match self {
            Held::View(view, bytes) => {
                let mut rest = &bytes[..];
                for piece in view.pieces() {
                    rest = rest.strip_prefix(piece).expect("a view's bytes have changed");
                }
                assert!(rest.is_empty(), "a view has become shorter");
            }
            Held::Export(fd, bytes) => {
                let mut now = vec![0; bytes.len() + 1];
                let n = rustix::io::pread(fd, &mut now, 0).expect("a memfd reads");
                assert!(now[..n] == bytes[..], "an export's bytes have changed");
            }
        }
    }
}
