//! Directory streams, compared where order and concurrent changes leave freedom.
//!
//! Promises that a stream passes exactly when it shows every entry that was there at its start and was not touched
//! since exactly once by its end, and nothing that never was. Owns the streams' histories. Never compares the order of
//! entries.

use super::answer::{Reply, empty_stat, errno_name, reply_text};
use super::op::Op;
use super::world::{World, call};
use libc::{DIR, c_int, c_long};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString};

/// A directory's entries: name to inode number and type.
pub(super) type Listing = BTreeMap<Vec<u8>, (u64, u8)>;

/// An open stream and what it has shown.
pub(super) struct Stream {
    handle: *mut DIR,
    /// The entries when the stream was opened or rewound.
    start: Listing,
    /// The entries after the last step.
    now: Listing,
    /// Names that came, went or changed since the start.
    touched: BTreeSet<Vec<u8>>,
    /// What it has shown since the start, in order.
    shown: Vec<(Vec<u8>, u8)>,
    /// telldir's answers, each with how much had been shown.
    marks: Vec<(c_long, usize)>,
}

impl World {
    pub(super) fn stream_call(&mut self, op: &Op) -> String {
        match op {
            Op::Opendir { dir, path } => {
                let path = CString::new(path.0.as_deref().unwrap_or_default()).unwrap_or_default();
                let reply = call!(self, opendir(path.as_ptr()));
                self.keep_stream(dir.0, reply)
            }
            Op::Fdopendir { dir, fd } => {
                if matches!(fd, super::field::Fd::Slot(slot) if self.duplicated[*slot as usize]) {
                    return "not asked: another descriptor could move the stream".into();
                }
                let number = self.number(*fd);
                let flags = call!(self, fcntl(number, libc::F_GETFL)).value;
                if flags >= 0 && flags as c_int & libc::O_PATH != 0 {
                    // POSIX wants EBADF; glibc gives a stream that cannot be read.
                    return "not asked: fdopendir with O_PATH".into();
                }
                let reply = call!(self, fdopendir(number));
                if let (super::field::Fd::Slot(slot), true) = (fd, reply.value != 0) {
                    self.slots[*slot as usize] = None;
                }
                self.keep_stream(dir.0, reply)
            }
            Op::List { at, path } => {
                let dir = self.at(*at, path).unwrap_or(libc::AT_FDCWD);
                let path = CString::new(path.0.as_deref().unwrap_or_default()).unwrap_or_default();
                match self.listing_at(dir, &path) {
                    Ok(listing) => names_text(&listing),
                    Err(text) => text,
                }
            }
            Op::Readdir { dir, .. }
            | Op::Rewinddir { dir }
            | Op::Telldir { dir }
            | Op::Seekdir { dir, .. }
            | Op::Closedir { dir } => {
                let Some(stream) = self.streams[dir.0 as usize].take() else {
                    return "not asked: no stream".into();
                };
                let (text, stream) = self.on_stream(op, stream);
                self.streams[dir.0 as usize] = stream;
                text
            }
            _ => unreachable!("{op:?} is no call on streams"),
        }
    }

    fn on_stream(&mut self, op: &Op, mut stream: Stream) -> (String, Option<Stream>) {
        let text = match op {
            Op::Readdir { count, .. } => self.read_stream(&mut stream, *count),
            Op::Rewinddir { .. } => {
                call_void!(self, rewinddir(stream.handle));
                stream.restart();
                "rewound".into()
            }
            Op::Telldir { .. } => {
                let reply = call!(self, telldir(stream.handle));
                stream.marks.push((reply.value, stream.shown.len()));
                if reply.value == -1 { reply_text(&reply) } else { "a mark".into() }
            }
            Op::Seekdir { mark, .. } => match stream.marks.get(*mark as usize) {
                Some(&(place, shown)) => {
                    call_void!(self, seekdir(stream.handle, place));
                    // Beyond a mark that lies ahead, what was skipped has not been shown: such seeks go back only.
                    stream.shown.truncate(shown);
                    stream.marks.retain(|&(_, other)| other <= shown);
                    "sought".into()
                }
                None => "not asked: no such mark".into(),
            },
            Op::Closedir { .. } => return (reply_text(&call!(self, closedir(stream.handle))), None),
            _ => unreachable!("{op:?} is no call on streams"),
        };
        (text, Some(stream))
    }

    fn keep_stream(&mut self, index: u8, reply: Reply) -> String {
        if reply.value == 0 {
            return format!("NULL {}", errno_name(reply.errno));
        }
        let handle = reply.value as usize as *mut DIR;
        let number = call!(self, dirfd(handle)).value;
        let mut text = format!("a stream on descriptor {}", number - i64::from(self.root));
        let now = self.as_root(|world| world.listing_at(number as c_int, c".")).unwrap_or_default();
        let stream = Stream::new(handle, now);
        if let Some(old) = self.streams[index as usize].replace(stream) {
            text.push_str(", close the old one ");
            text.push_str(&reply_text(&call!(self, closedir(old.handle))));
        }
        text
    }

    fn read_stream(&self, stream: &mut Stream, count: i64) -> String {
        let mut read = 0;
        let mut ended = false;
        while read < count && !ended {
            match self.next_entry(stream.handle) {
                Ok(Some((name, _, kind))) => {
                    stream.shown.push((name, kind));
                    read += 1;
                }
                Ok(None) => ended = true,
                Err(text) => return text,
            }
        }
        let mut text = match stream.touched.is_empty() {
            true => format!("{read} entries, end: {ended}"),
            false => "entries of a changing directory".into(),
        };
        for complaint in stream.complaints(ended) {
            text.push_str(", WRONG: ");
            text.push_str(&complaint);
        }
        text
    }

    /// The next entry's name, inode number and type.
    #[allow(clippy::type_complexity)]
    fn next_entry(&self, handle: *mut DIR) -> Result<Option<(Vec<u8>, u64, u8)>, String> {
        let reply = call!(self, readdir(handle));
        if reply.value == 0 {
            return if reply.errno == 0 {
                Ok(None)
            } else {
                Err(format!("readdir {}", errno_name(reply.errno)))
            };
        }
        let entry = reply.value as usize as *const libc::dirent;
        // SAFETY: readdir gave an entry, which is the stream's until the next call on it.
        let entry = unsafe { &*entry };
        // SAFETY: d_name is NUL-terminated.
        let name = unsafe { CStr::from_ptr(entry.d_name.as_ptr()) };
        Ok(Some((name.to_bytes().to_vec(), entry.d_ino, entry.d_type)))
    }

    /// All entries of a directory, "." and ".." among them.
    pub(super) fn listing_at(&self, dir: c_int, path: &CStr) -> Result<Listing, String> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let reply = call!(self, openat(dir, path.as_ptr(), flags));
        if reply.value < 0 {
            return Err(reply_text(&reply));
        }
        let number = reply.value as c_int;
        let reply = call!(self, fdopendir(number));
        if reply.value == 0 {
            call!(self, close(number));
            return Err(format!("fdopendir {}", errno_name(reply.errno)));
        }
        let handle = reply.value as usize as *mut DIR;
        let mut listing = Listing::new();
        let mut failure = None;
        loop {
            match self.next_entry(handle) {
                Ok(Some((name, inode, kind))) => {
                    if listing.insert(name.clone(), (inode, kind)).is_some() {
                        failure = Some(format!("WRONG: {} twice", name.escape_ascii()));
                    }
                }
                Ok(None) => break,
                Err(text) => {
                    failure = Some(text);
                    break;
                }
            }
        }
        call!(self, closedir(handle));
        failure.map_or(Ok(listing), Err)
    }

    /// Notes what the last step did to the directories of open streams.
    pub(super) fn refresh_streams(&mut self) {
        for index in 0..self.streams.len() {
            let Some(mut stream) = self.streams[index].take() else { continue };
            let number = call!(self, dirfd(stream.handle)).value as c_int;
            let mut status = empty_stat();
            let removed = call!(self, fstat(number, &raw mut status)).value != 0 || status.st_nlink == 0;
            let list = |world: &mut World| world.listing_at(number, c".").unwrap_or_default();
            let now = if removed { Listing::new() } else { self.as_root(list) };
            stream.note(now);
            self.streams[index] = Some(stream);
        }
    }
}

impl Stream {
    fn new(handle: *mut DIR, now: Listing) -> Stream {
        let start = now.clone();
        Stream { handle, start, now, touched: BTreeSet::new(), shown: Vec::new(), marks: Vec::new() }
    }

    fn restart(&mut self) {
        self.start = self.now.clone();
        self.touched.clear();
        self.shown.clear();
        self.marks.clear();
    }

    fn note(&mut self, now: Listing) {
        for name in self.now.keys().chain(now.keys()) {
            if self.now.get(name) != now.get(name) {
                self.touched.insert(name.clone());
            }
        }
        self.now = now;
    }

    /// What the stream has shown wrongly so far; at its end, also what it has not shown.
    fn complaints(&self, ended: bool) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut counts: BTreeMap<&[u8], usize> = BTreeMap::new();
        for (name, kind) in &self.shown {
            *counts.entry(name).or_default() += 1;
            if self.touched.contains(name) {
                continue;
            }
            match self.start.get(name) {
                None => complaints.push(format!("{} never was", name.escape_ascii())),
                Some((_, other)) if other != kind => {
                    complaints.push(format!("type of {}", name.escape_ascii()))
                }
                Some(_) => {}
            }
        }
        for name in self.start.keys().filter(|name| !self.touched.contains(*name)) {
            let count = counts.get(name.as_slice()).copied().unwrap_or(0);
            if count > 1 || (ended && count == 0) {
                complaints.push(format!("{} shown {count} times", name.escape_ascii()));
            }
        }
        complaints
    }
}

/// Calls a function of the table that answers nothing.
macro_rules! call_void {
    ($world:expr, $name:ident ( $($argument:expr),* )) => {{
        let function = $world.abi.$name;
        // SAFETY: the stream is open, and the place is one that telldir gave for it since it was last rewound.
        unsafe { function($($argument),*) };
    }};
}
use call_void;

/// A directory's names and types, sorted.
fn names_text(listing: &Listing) -> String {
    let one = |(name, (_, kind)): (&Vec<u8>, &(u64, u8))| format!("{}:{kind}", name.escape_ascii());
    format!("= [{}]", listing.iter().map(one).collect::<Vec<_>>().join(" "))
}
