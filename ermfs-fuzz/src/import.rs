//! The target `import_gzip`.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use ermfs_core::process::Operation;
use ermfs_core::{At, Compress, Config, Errno, ExportFlags, Fs, InodeRef, Mode, Sink, gate};

use crate::gzip;

/// Every filesystem's budget: what a short stream grows to may well be more.
const BUDGET: u64 = 1 << 20;
/// A content that fits every budget, however badly it packs.
const ALWAYS_FITS: usize = 256 * 1024;

/// Imports `stream` in both modes.
pub(crate) fn run(stream: &[u8]) {
    let expected = gzip::read(stream);
    for mode in [Mode::Locked, Mode::Lockless] {
        for &compress in policies(stream) {
            import(stream, &expected, &config(mode, compress, stream));
        }
    }
}

/// Each input has one that packs, and some have the other.
fn policies(stream: &[u8]) -> &'static [Compress] {
    if stream.len().is_multiple_of(4) { &[Compress::OnClose, Compress::Never] } else { &[Compress::OnClose] }
}

fn config(mode: Mode, compress: Compress, stream: &[u8]) -> Config {
    let max_file_bytes = if stream.len() % 5 == 4 { BUDGET / 2 } else { 0 };
    Config { max_bytes: BUDGET, max_file_bytes, compress, mode, ..Config::default() }
}

/// A memfd that holds `bytes`, its own offset at their end.
pub(crate) fn kernel_file(bytes: &[u8]) -> OwnedFd {
    let fd = rustix::fs::memfd_create("input", rustix::fs::MemfdFlags::CLOEXEC).expect("a memfd");
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes).expect("room for an input");
    file.into()
}

/// All that a kernel descriptor holds.
pub(crate) fn content_of(fd: OwnedFd) -> Vec<u8> {
    let mut file = std::fs::File::from(fd);
    let mut bytes = Vec::new();
    std::io::Seek::rewind(&mut file).expect("a memfd seeks");
    file.read_to_end(&mut bytes).expect("a memfd reads");
    bytes
}

/// A filesystem and its root.
struct Tree {
    fs: Arc<Fs>,
    root: InodeRef,
}

impl Tree {
    fn at(&self) -> At<'_> {
        At { fs: &self.fs, dir: &self.root, who: self.fs.credentials(), umask: 0 }
    }

    fn in_use(&self) -> (u64, u64) {
        let statistics = self.fs.statistics();
        (statistics.files, statistics.bytes_in_use)
    }
}

/// How often it is looked whether all has been freed.
const LOOKS: usize = 2000;

fn import(stream: &[u8], expected: &gzip::Content, config: &Config) {
    let _inside = gate::enter();
    let fs = Fs::new(config).expect("a filesystem");
    let tree = Tree { root: fs.root(), fs };
    // The root's table stays once it was needed.
    Fs::mkdir(tree.at(), b"file", 0o755).and_then(|()| Fs::rmdir(tree.at(), b"file")).expect("a name");
    let before = tree.in_use();
    match Fs::import_gzip(tree.at(), b"file", kernel_file(stream).as_fd(), 0o644) {
        Ok(()) => {
            assert!(expected.whole, "a stream that is at fault was taken");
            check(&tree, &expected.bytes);
            let _operation = Operation::begin(&tree.fs).expect("no panic came before");
            Fs::unlink(tree.at(), b"file").expect("what was imported can be removed");
        }
        Err(Errno::EIO) => assert!(!expected.whole, "a stream without fault was refused"),
        Err(Errno::ENOSPC) => assert!(expected.bytes.len() > ALWAYS_FITS, "no room for little"),
        Err(Errno::EFBIG) => {
            assert!(expected.bytes.len() > ALWAYS_FITS && config.max_file_bytes > 0, "too large, but is not");
        }
        Err(error) => panic!("{error:?} is not documented"),
    }
    // Another thread's pin may hold back what went; it may also have done so at the first look.
    let mut after = tree.in_use();
    for _ in 0..LOOKS {
        if after.1 <= before.1 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
        after = tree.in_use();
    }
    assert!(
        after.0 == before.0 && after.1 <= before.1,
        "files and bytes: {before:?} before, {after:?} after"
    );
}

/// The file holds `expected`, and so does what it is exported as.
fn check(tree: &Tree, expected: &[u8]) {
    let at = tree.at();
    let inode = Fs::lookup(at, b"file", false).expect("the imported file");
    let content = inode.content().expect("a regular file");
    assert_eq!(content.size(), expected.len() as u64, "the size");
    let mut bytes = vec![0xa5; expected.len() + 1];
    let mut filled = 0;
    // In pieces that are no blocks, so that both ways to read a packed block are gone.
    while filled < expected.len() {
        let end = (filled + 100_000).min(bytes.len());
        filled += content
            .read_at(filled as u64, &mut Sink::new(&mut bytes[filled..end]))
            .expect("a file that was just packed reads");
    }
    assert!(bytes[..filled] == *expected, "other bytes");
    let exported = Fs::export_gzip(at, b"file", ExportFlags::empty()).expect("an export");
    let again = gzip::read(&content_of(exported));
    assert!(again.whole && again.bytes == expected, "the export holds other bytes");
}
