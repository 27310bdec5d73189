//! Comparing everything, taking everything away, and looking what is left.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use arbitrary::Unstructured;
use ermfs_core::process::{self, AT_FDCWD, XattrOf};
use ermfs_core::{MAX_FILE_SIZE, Sink, XattrName};

use super::world::World;
use crate::tree::{Id, ROOT};

/// Files up to this size are read whole, of others where there was data.
const READ_WHOLE: u64 = 400_000;
/// How often it is looked, a millisecond apart, whether the background packer has let go of what it works on, and other
/// threads of what was retired. Not a time: the process may be stopped meanwhile.
const LOOKS: u32 = 20_000;

/// What an empty filesystem's tables may take, in bytes.
const KEPT_TABLES: u64 = 16_384;

impl World {
    /// Compares all open files.
    pub(super) fn compare_files(&mut self, _: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        for slot in 0..self.slots.len() {
            let Ok(file) = self.usable(slot) else { continue };
            let (node, readable) = (file.borrow().node, file.borrow().readable);
            let stat = process::fstat(self.fd(slot)).expect("an open descriptor");
            self.same_stat("fstat", &stat, node);
            if readable && self.tree.file(node).is_some() {
                self.same_content(self.fd(slot), node);
            }
        }
        Ok(())
    }

    fn same_content(&self, fd: i32, node: Id) {
        let bytes = self.tree.file(node).expect("a file");
        let compare = |start: u64, len: usize| {
            // A read that would reach past the largest file is refused.
            let len = len.min((MAX_FILE_SIZE - start) as usize);
            let mut room = vec![0xa5; len];
            let n = process::pread(fd, &mut Sink::new(&mut room), start as i64).expect("a file reads");
            assert!(
                room[..n] == bytes.read(start, len),
                "the bytes of inode {:?} from {start} on",
                self.tree.nodes[node].ino
            );
        };
        if bytes.size() <= READ_WHOLE {
            return compare(0, READ_WHOLE as usize + 1);
        }
        bytes.places().for_each(|place| compare(place, 5000));
        compare(bytes.size() - 4000, 5000);
    }

    /// Files and open descriptions are counted as the model has them.
    pub(super) fn same_counts(&self) {
        let statistics = process::statistics(self.root.unwrap_or(AT_FDCWD)).expect("statistics");
        let mut open = Vec::new();
        for slot in self.slots.iter().flatten() {
            if !open.iter().any(|other| Rc::ptr_eq(other, &slot.file)) {
                open.push(Rc::clone(&slot.file));
            }
        }
        assert_eq!(
            statistics.open_descriptions,
            open.len() as u64 + u64::from(self.root.is_some()),
            "descriptions"
        );
        let held: BTreeSet<Id> = open.iter().map(|file| file.borrow().node).collect();
        let alive = |id: Id| !self.tree.is_dir(id) && (self.tree.nodes[id].names > 0 || held.contains(&id));
        let files = (0..self.tree.nodes.len()).filter(|&id| alive(id)).count() as u64;
        // The packer's thread may hold one more that has no name any more.
        let surplus = statistics.files.checked_sub(files).expect("a file is not counted");
        assert!(surplus <= u64::from(self.background), "{surplus} files too many");
        let kinds = [
            statistics.raw_bytes,
            statistics.packed_bytes,
            statistics.cached_bytes,
            statistics.exported_bytes,
        ];
        let sum = kinds.iter().sum::<u64>() + statistics.metadata_bytes;
        assert!(statistics.bytes_in_use <= statistics.max_bytes, "{statistics:?}");
        // The packer's thread may be at work between two of the numbers.
        assert!(sum == statistics.bytes_in_use || self.background, "{statistics:?}");
    }

    /// Compares all that is there, takes it away, and looks what is left.
    pub(super) fn end(mut self) {
        self.note("end", &self.tree.nodes.len());
        self.compare_files(&mut Unstructured::new(&[])).expect("takes nothing of the input");
        self.compare_below(ROOT, b"");
        std::mem::take(&mut self.held).iter().for_each(super::world::Held::check);
        (0..self.slots.len()).for_each(|slot| self.close_slot(slot));
        self.compare_below(ROOT, b"");
        process::chdir(b"/").expect("the default filesystem");
        self.remove_below(ROOT, b"");
        self.restore_root();
        self.nothing_is_left();
        if let Some(root) = self.root {
            process::close(root).expect("the root");
        }
    }

    /// Everything in a directory is what the model has there.
    fn compare_below(&mut self, dir: Id, path: &[u8]) {
        let fd = self.open_by_path(path, libc::O_RDONLY | libc::O_DIRECTORY);
        let call = String::from_utf8_lossy(path).into_owned();
        self.same_listing(&call, fd, dir);
        for (name, id) in self.tree.entries(dir).expect("a directory").clone() {
            let path = [path, b"/", &name].concat();
            let root = self.root.unwrap_or(AT_FDCWD);
            let stat =
                process::fstatat(root, &path, libc::AT_SYMLINK_NOFOLLOW).expect("a name that was listed");
            self.same_stat(&String::from_utf8_lossy(&path), &stat, id);
            if self.tree.is_dir(id) {
                self.compare_below(id, &path);
            } else if self.tree.file(id).is_some() {
                let fd = self.open_by_path(&path, libc::O_RDONLY);
                self.same_content(fd, id);
                process::close(fd).expect("an open descriptor");
            }
        }
    }

    fn remove_below(&mut self, dir: Id, path: &[u8]) {
        for (name, id) in self.tree.entries(dir).expect("a directory").clone() {
            let path = [path, b"/", &name].concat();
            let is_dir = self.tree.is_dir(id);
            if is_dir {
                self.remove_below(id, &path);
            }
            let flags = if is_dir { libc::AT_REMOVEDIR } else { 0 };
            // Needs no room.
            process::unlinkat(self.root.unwrap_or(AT_FDCWD), &path, flags)
                .unwrap_or_else(|error| panic!("remove {:?}: {error:?}", String::from_utf8_lossy(&path)));
        }
    }

    /// The root is as in a new filesystem.
    fn restore_root(&self) {
        let root = self.open_by_path(b"", libc::O_RDONLY | libc::O_DIRECTORY);
        for name in self.tree.nodes[ROOT].attributes.keys() {
            let name = XattrName::new(name).expect("a name");
            process::removexattr(XattrOf::Descriptor(root), name).expect("an attribute that was set");
        }
        process::fchmod(root, 0o1777).expect("the root");
        process::close(root).expect("an open descriptor");
    }

    /// What is in use is what was in use at the start, but for the tables that the root and the filesystem keep. In the
    /// default filesystem, which all inputs share, they have a limit for all times, so that what is lost a little at a time
    /// is noticed too.
    fn nothing_is_left(&self) {
        let start = &self.start;
        let mut looks = 0;
        loop {
            let now = process::statistics(self.root.unwrap_or(AT_FDCWD)).expect("statistics");
            let same = now.files == start.files
                && now.directories == start.directories
                && now.open_descriptions == start.open_descriptions
                && now.logical_bytes == start.logical_bytes
                && now.bytes_in_use - now.metadata_bytes == start.bytes_in_use - start.metadata_bytes
                && now.metadata_bytes <= KEPT_TABLES;
            if same {
                assert_eq!(now.errors, start.errors, "corrupt blocks or internal errors");
                return;
            }
            looks += 1;
            assert!(looks < LOOKS, "left behind:\n{now:?}, at the start\n{start:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
