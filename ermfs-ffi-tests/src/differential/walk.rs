//! Looks at the whole world: the tree with contents, and which times a call changed.
//!
//! Promises a text with everything comparable about every file that a name or a descriptor leads to. Owns nothing
//! between calls. Leaves no descriptor open and, apart from access times and what `watch` says, changes nothing.

use super::answer::{empty_stat, errno_name, stat_text, sum};
use super::op::Op;
use super::size::windows;
use super::world::{World, call};
use libc::c_int;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};

/// The times that every file gets before a watched call; relatime would move the first on a read.
const OLD_ACCESS: i64 = 1000;
const OLD_MODIFY: i64 = 2000;
/// Longer than a tick of any kernel's coarse clock.
const TICK: std::time::Duration = std::time::Duration::from_millis(11);

/// A file as it was before a watched call.
pub(super) struct Watched {
    /// A name for the report.
    label: String,
    change: (i64, i64),
}

/// The files before a watched call, by inode number.
pub(super) type Before = BTreeMap<u64, Watched>;

/// One entry of the tree, as `visit` shows it: parent descriptor, name, path, stat.
type Seen<'a> = (c_int, &'a CStr, &'a str, &'a libc::stat);

impl World {
    /// Shows every entry of the tree, parents first, names in order; the stat is from before the listing is read.
    fn visit(
        &self,
        dir: c_int,
        name: &CStr,
        path: &str,
        show: &mut dyn FnMut(Seen<'_>),
    ) -> Result<(), String> {
        let mut status = empty_stat();
        let reply = call!(self, fstatat(dir, name.as_ptr(), &raw mut status, libc::AT_SYMLINK_NOFOLLOW));
        if reply.value != 0 {
            return Err(format!("stat {path}: {}", errno_name(reply.errno)));
        }
        show((dir, name, path, &status));
        if status.st_mode & libc::S_IFMT != libc::S_IFDIR {
            return Ok(());
        }
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let reply = call!(self, openat(dir, name.as_ptr(), flags));
        if reply.value < 0 {
            return Err(format!("open {path}: {}", errno_name(reply.errno)));
        }
        let opened = reply.value as c_int;
        let result = self.visit_entries(opened, path, show);
        call!(self, close(opened));
        result
    }

    fn visit_entries(&self, dir: c_int, path: &str, show: &mut dyn FnMut(Seen<'_>)) -> Result<(), String> {
        let listing = self.listing_at(dir, c".").map_err(|text| format!("list {path}: {text}"))?;
        for (name, (inode, kind)) in listing {
            if name == b"." || name == b".." {
                continue;
            }
            let inner = format!("{path}/{}", name.escape_ascii());
            let name = CString::new(name).map_err(|error| error.to_string())?;
            let mut wrong = false;
            self.visit(dir, &name, &inner, &mut |seen: Seen<'_>| {
                if seen.2 == inner {
                    wrong = seen.3.st_ino != inode || u32::from(kind) << 12 != seen.3.st_mode & libc::S_IFMT;
                }
                show(seen);
            })?;
            if wrong {
                return Err(format!("{inner}: readdir's inode number or type is not stat's"));
            }
        }
        Ok(())
    }

    /// The whole tree and all descriptors.
    pub(super) fn walk_text(&mut self) -> String {
        let mut lines = Vec::new();
        let mut names: BTreeMap<u64, String> = BTreeMap::new();
        let result = self.visit(self.root, c".", "", &mut |(dir, name, path, status)| {
            let mut line = format!("{path}/ {}", stat_text(status, self.access_times));
            match status.st_mode & libc::S_IFMT {
                libc::S_IFREG => line.push_str(&self.content_text(dir, name, status.st_size)),
                libc::S_IFLNK => line.push_str(&self.target_text(dir, name)),
                _ => {}
            }
            if let Some(other) = names.insert(status.st_ino, path.to_owned()) {
                line.push_str(&format!(" is also {other}"));
            }
            lines.push(line);
        });
        if let Err(text) = result {
            lines.push(format!("WRONG: {text}"));
        }
        for slot in 1..self.slots.len() {
            if let Some(number) = self.slots[slot] {
                lines.push(format!("f{slot} {}", self.descriptor_text(number)));
            }
        }
        lines.join("\n")
    }

    fn descriptor_text(&self, number: c_int) -> String {
        let mut status = empty_stat();
        let reply = call!(self, fstat(number, &raw mut status));
        if reply.value != 0 {
            return errno_name(reply.errno);
        }
        let mut text = stat_text(&status, self.access_times);
        if status.st_mode & libc::S_IFMT == libc::S_IFREG {
            let position = call!(self, lseek(number, 0, libc::SEEK_CUR));
            text.push_str(&format!(" at={} {}", position.value, errno_name(position.errno)));
            text.push_str(&self.bytes_of(number, status.st_size));
        }
        text.push_str(&self.attributes_text(number));
        text.push_str(&self.locks_text(number));
        text
    }

    fn content_text(&self, dir: c_int, name: &CStr, size: i64) -> String {
        let reply = call!(self, openat(dir, name.as_ptr(), libc::O_RDONLY | libc::O_NOFOLLOW));
        if reply.value < 0 {
            return format!(" WRONG: open {}", errno_name(reply.errno));
        }
        let opened = reply.value as c_int;
        let mut text = self.bytes_of(opened, size);
        text.push_str(&self.attributes_text(opened));
        call!(self, close(opened));
        text
    }

    /// The sums of a file's windows; a descriptor that cannot be read has none.
    fn bytes_of(&self, number: c_int, size: i64) -> String {
        let mut text = String::new();
        for (off, len) in windows(size) {
            match self.read_window(number, off, len) {
                Ok(bytes) => text.push_str(&format!(" {off}+{len}:{:016x}", sum(&bytes))),
                Err(why) => {
                    text.push_str(&format!(" {why}"));
                    break;
                }
            }
        }
        text
    }

    fn target_text(&self, dir: c_int, name: &CStr) -> String {
        let mut target = vec![0u8; libc::PATH_MAX as usize];
        let reply = call!(self, readlinkat(dir, name.as_ptr(), target.as_mut_ptr().cast(), target.len()));
        target.truncate(reply.value.max(0) as usize);
        format!(" -> {} \"{}\"", reply.value, target.escape_ascii())
    }

    /// Gives every file old times and notes when it last changed.
    pub(super) fn watch_begin(&mut self) -> Before {
        let old = [OLD_ACCESS, OLD_MODIFY].map(|tv_sec| libc::timespec { tv_sec, tv_nsec: 0 });
        let mut before = Before::new();
        for number in self.slots.iter().flatten() {
            call!(self, futimens(*number, old.as_ptr()));
        }
        // Files after directories, and these from the root down: tmpfs gives a directory the change time of the file
        // whose name it takes in or drops, which is later than the directory's only when the file's own was.
        for directories in [true, false] {
            // A tree that cannot be visited shows in the walk; here what was reached is watched.
            let _ = self.visit(self.root, c".", "", &mut |(dir, name, _, status)| {
                if (status.st_mode & libc::S_IFMT == libc::S_IFDIR) == directories {
                    call!(self, utimensat(dir, name.as_ptr(), old.as_ptr(), libc::AT_SYMLINK_NOFOLLOW));
                }
            });
        }
        self.every_file(|label, status| {
            before.entry(status.st_ino).or_insert(Watched {
                label: label.to_owned(),
                change: (status.st_ctime, status.st_ctime_nsec),
            });
        });
        if self.coarse_times {
            std::thread::sleep(TICK);
        }
        before
    }

    /// Which times moved since `watch_begin`, one file a word.
    pub(super) fn watch_end(&mut self, before: &Before) -> String {
        let mut moved: BTreeMap<String, String> = BTreeMap::new();
        self.every_file(|_, status| {
            let Some(watched) = before.get(&status.st_ino) else { return };
            let mut letters = String::new();
            if self.access_times && status.st_atime != OLD_ACCESS {
                letters.push('a');
            }
            if status.st_mtime != OLD_MODIFY {
                letters.push('m');
            }
            if (status.st_ctime, status.st_ctime_nsec) != watched.change {
                letters.push('c');
            }
            if !letters.is_empty() {
                moved.entry(watched.label.clone()).or_insert(letters);
            }
        });
        let words: Vec<String> = moved.iter().map(|(label, letters)| format!("{label}/:{letters}")).collect();
        format!("; times moved: {}", words.join(" "))
    }

    /// Shows the stat of every file that a name or a slot leads to. The descriptors come first, because a directory's
    /// listing may move its access time; within the tree the stat is from before the listing.
    fn every_file(&self, mut show: impl FnMut(&str, &libc::stat)) {
        for (slot, number) in self.slots.iter().enumerate() {
            let mut status = empty_stat();
            if let Some(number) = number
                && call!(self, fstat(*number, &raw mut status)).value == 0
            {
                show(&format!("f{slot}"), &status);
            }
        }
        let _ = self.visit(self.root, c".", "", &mut |(_, _, path, status)| show(path, status));
    }

    /// The mode of the root, type bits included.
    pub(super) fn root_mode(&self) -> u32 {
        let mut status = empty_stat();
        call!(self, fstat(self.root, &raw mut status));
        status.st_mode
    }

    /// Lets everybody make names in the root.
    pub(super) fn share_root(&mut self) {
        call!(self, fchmod(self.root, 0o1777));
    }

    /// Whether the filesystem gives two changes, with a look between them, the same time. Leaves the root with a mode
    /// that no fs.protected_* setting of the kernel is about, unlike tmpfs's own 01777.
    pub(super) fn probe_coarse_times(&mut self) -> bool {
        let mut last = None;
        (0..8).any(|_| {
            let mut status = empty_stat();
            call!(self, fchmod(self.root, 0o755));
            call!(self, fstat(self.root, &raw mut status));
            last.replace((status.st_ctime, status.st_ctime_nsec))
                == Some((status.st_ctime, status.st_ctime_nsec))
        })
    }
}

impl Op {
    /// Whether the answer is the text of a walk, a line for each file.
    pub(super) fn is_walk(&self) -> bool {
        matches!(self, Op::Walk {})
    }
}
