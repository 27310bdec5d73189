//! One side of the test: a filesystem behind an [`Abi`], its descriptors and streams, and the running of one step.
//!
//! Promises that the answer of a step is a text that holds everything to be compared and nothing that may differ
//! (inode numbers, allocated blocks, clock times). Owns the slots. Never compares; `shrink` does.
//!
//! Answers of lseek with SEEK_DATA and SEEK_HOLE are judged here, on each side alone: granularity is the filesystem's
//! choice, so only an answer that contradicts the file's bytes is a difference.

use super::answer::{Reply, bytes_text, errno_name, reply_text, stat_text};
use super::field::{At, Fd, OpenFlags, SLOTS, STREAMS, Slot, Text};
use super::op::{Op, Step};
use super::stream::Stream;
use crate::abi::Abi;
use libc::{c_char, c_int};
use std::ffi::CString;

/// A number above every descriptor that a world opens.
const NEVER_OPEN: c_int = 900;
/// dup2 into an empty slot aims this far above the first descriptor.
const DUP_TARGET: c_int = 20;

/// The answer of an open that is not made.
const FIFO: &str = "not asked: a fifo";

/// Calls a function of the table and takes its answer with errno.
macro_rules! call {
    ($world:expr, $name:ident ( $($argument:expr),* $(,)? )) => {{
        let function = $world.abi.$name;
        super::answer::clear_errno();
        // SAFETY: every pointer among the arguments is NULL, which the functions under test answer, or points to a
        // NUL-terminated string, a buffer of the stated length or a struct that outlives the call.
        let value = unsafe { function($($argument),*) };
        super::answer::reply(value as i64)
    }};
}
pub(super) use call;

/// One filesystem with everything a sequence holds open in it.
pub(super) struct World {
    pub(super) abi: Abi,
    /// The number of the root's descriptor; descriptors are compared by their distance from it.
    pub(super) root: c_int,
    pub(super) slots: [Option<c_int>; SLOTS as usize + 1],
    /// Slots whose position another descriptor shares or shared.
    pub(super) duplicated: [bool; SLOTS as usize + 1],
    pub(super) streams: [Option<Stream>; STREAMS as usize],
    /// Whether two changes within one tick of the coarse clock get the same time, so that watching has to wait.
    pub(super) coarse_times: bool,
    /// Whether access times are compared.
    pub(super) access_times: bool,
    /// Whose calls these are; an index of `people`.
    pub(super) who: usize,
    /// ERMFS's side is told when that changes.
    pub(super) refresh: Option<unsafe extern "C" fn() -> c_int>,
    /// What reads fill.
    pub(super) buffer: Vec<u8>,
}

/// A path argument, alive for a call.
pub(super) struct Argument(Option<CString>);

impl Argument {
    pub(super) fn new(text: &Text) -> Argument {
        Argument(text.0.as_ref().map(|bytes| CString::new(bytes.as_slice()).unwrap_or_default()))
    }

    pub(super) fn pointer(&self) -> *const c_char {
        self.0.as_ref().map_or(std::ptr::null(), |path| path.as_ptr())
    }
}

impl World {
    pub(super) fn new(abi: Abi, root: c_int, access_times: bool) -> World {
        World {
            abi,
            root,
            slots: [None; SLOTS as usize + 1],
            duplicated: [false; SLOTS as usize + 1],
            streams: [const { None }; STREAMS as usize],
            coarse_times: false,
            access_times,
            who: 0,
            refresh: None,
            buffer: Vec::new(),
        }
    }

    /// Runs a step and says what was to be seen of it.
    pub(super) fn run(&mut self, step: &Step) -> String {
        if self.access_times && step.op.has_null_path() {
            // The kernel may have followed a link on the other path by then.
            return "not asked: whether a call with a NULL path moves access times".into();
        }
        let before = step.watch.then(|| self.as_root(World::watch_begin));
        let mut text = self.execute(&step.op);
        // A NULL path is EFAULT, but other arguments may be wrong as well, and which error comes first is left open.
        if step.op.has_null_path() && text.starts_with("-1 ") {
            text = "refused".into();
        }
        if let Some(before) = before {
            text.push_str(&self.as_root(|world| world.watch_end(&before)));
        }
        self.refresh_streams();
        text
    }

    /// The number that stands for a descriptor argument.
    pub(super) fn number(&self, fd: Fd) -> c_int {
        match fd {
            Fd::Root => self.root,
            Fd::None => -1,
            Fd::Slot(slot) => self.slots[slot as usize].unwrap_or(self.root + NEVER_OPEN),
        }
    }

    /// The directory descriptor of an `at` call with this path; `None`: the call without one is meant. An absolute path
    /// beside a descriptor that is not open gets the root: the kernel does not look at the descriptor then, but to
    /// ERMFS it names the filesystem.
    pub(super) fn at(&self, at: At, path: &Text) -> Option<c_int> {
        match at {
            At::Plain => None,
            At::Cwd => Some(libc::AT_FDCWD),
            At::Of(fd) => {
                let absolute = path.0.as_ref().is_some_and(|path| path.first() == Some(&b'/'));
                let number = self.number(fd);
                // Two slots may hold one number, which is closed through either.
                let closed = || call!(self, fcntl(number, libc::F_GETFD)).value < 0;
                Some(if absolute && closed() { self.root } else { number })
            }
        }
    }

    /// Puts a new descriptor into a slot; what was there is closed.
    fn keep(&mut self, to: Slot, reply: Reply) -> String {
        if reply.value < 0 {
            return reply_text(&reply);
        }
        let number = reply.value as c_int;
        let mut text = self.rank(number);
        let old = self.slots[to.0 as usize].replace(number);
        self.duplicated[to.0 as usize] = false;
        if let Some(old) = old.filter(|old| *old != number) {
            text.push_str(", close the old one ");
            text.push_str(&reply_text(&call!(self, close(old))));
        }
        text
    }

    /// As `keep`, for a duplicate of `fd`.
    fn keep_duplicate(&mut self, fd: Fd, to: Slot, reply: Reply) -> String {
        let done = reply.value >= 0;
        let text = self.keep(to, reply);
        if done {
            self.duplicated[to.0 as usize] = true;
            if let Fd::Slot(slot) = fd {
                self.duplicated[slot as usize] = true;
            }
        }
        text
    }

    fn rank(&self, number: c_int) -> String {
        format!("= descriptor {}", i64::from(number) - i64::from(self.root))
    }

    fn execute(&mut self, op: &Op) -> String {
        match op {
            Op::Walk {} => self.as_root(World::walk_text),
            Op::Become { who } => self.take_on(*who),
            Op::Opendir { .. }
            | Op::Fdopendir { .. }
            | Op::Readdir { .. }
            | Op::Rewinddir { .. }
            | Op::Telldir { .. }
            | Op::Seekdir { .. }
            | Op::Closedir { .. }
            | Op::List { .. } => self.stream_call(op),
            Op::Read { .. }
            | Op::Pread { .. }
            | Op::Readv { .. }
            | Op::Preadv { .. }
            | Op::Write { .. }
            | Op::Pwrite { .. }
            | Op::Writev { .. }
            | Op::Pwritev { .. }
            | Op::Iovcnt { .. }
            | Op::CopyRange { .. } => self.transfer(op),
            Op::Open { .. }
            | Op::Creat { .. }
            | Op::Close { .. }
            | Op::Dup { .. }
            | Op::Dup2 { .. }
            | Op::Dup2Bad { .. }
            | Op::Dup3 { .. }
            | Op::FcntlDup { .. }
            | Op::FcntlGetFd { .. }
            | Op::FcntlSetFd { .. }
            | Op::FcntlGetFl { .. }
            | Op::FcntlSetFl { .. }
            | Op::FcntlBad { .. } => self.descriptor_call(op),
            Op::Lseek { .. }
            | Op::Truncate { .. }
            | Op::Ftruncate { .. }
            | Op::Fallocate { .. }
            | Op::Fadvise { .. }
            | Op::Fsync { .. } => self.size_call(op),
            Op::Mkdir { .. }
            | Op::Mknod { .. }
            | Op::Rmdir { .. }
            | Op::Unlink { .. }
            | Op::Unlinkat { .. }
            | Op::Rename { .. }
            | Op::Rename2 { .. }
            | Op::Link { .. }
            | Op::Symlink { .. }
            | Op::Readlink { .. } => self.name_call(op),
            Op::Chdir { .. }
            | Op::Fchdir { .. }
            | Op::Getcwd { .. }
            | Op::Realpath { .. }
            | Op::Umask { .. } => self.process_call(op),
            Op::Getxattr { .. }
            | Op::Fgetxattr { .. }
            | Op::Setxattr { .. }
            | Op::Fsetxattr { .. }
            | Op::Listxattr { .. }
            | Op::Flistxattr { .. }
            | Op::Removexattr { .. }
            | Op::Fremovexattr { .. } => self.attribute_call(op),
            Op::FcntlLock { .. } | Op::Flock { .. } => self.lock_call(op),
            _ => self.metadata_call(op),
        }
    }

    fn descriptor_call(&mut self, op: &Op) -> String {
        match op {
            Op::Open { at, path, flags, .. } if self.leads_to_fifo(*at, path, *flags) => FIFO.into(),
            Op::Creat { path, .. } if self.leads_to_fifo(At::Plain, path, OpenFlags(0)) => FIFO.into(),
            Op::Open { to, at, path, flags, mode } => {
                let start = self.at(*at, path);
                let path = Argument::new(path);
                let reply = match start {
                    None => call!(self, open(path.pointer(), flags.0, mode.0)),
                    Some(dir) => call!(self, openat(dir, path.pointer(), flags.0, mode.0)),
                };
                self.keep(*to, reply)
            }
            Op::Creat { to, path, mode } => {
                let path = Argument::new(path);
                let reply = call!(self, creat(path.pointer(), mode.0));
                self.keep(*to, reply)
            }
            Op::Close { fd } => {
                let reply = call!(self, close(self.number(*fd)));
                if let Fd::Slot(slot) = fd {
                    self.slots[*slot as usize] = None;
                }
                reply_text(&reply)
            }
            Op::Dup { fd, to } => {
                let reply = call!(self, dup(self.number(*fd)));
                self.keep_duplicate(*fd, *to, reply)
            }
            Op::Dup2 { fd, to } => {
                let reply = call!(self, dup2(self.number(*fd), self.dup_target(*to)));
                self.keep_duplicate(*fd, *to, reply)
            }
            Op::Dup2Bad { fd, number } => reply_text(&call!(self, dup2(self.number(*fd), *number as c_int))),
            Op::Dup3 { fd, to, flags } => {
                let reply = call!(self, dup3(self.number(*fd), self.dup_target(*to), flags.0));
                self.keep_duplicate(*fd, *to, reply)
            }
            Op::FcntlDup { fd, min, cloexec, to } => {
                let command = if *cloexec { libc::F_DUPFD_CLOEXEC } else { libc::F_DUPFD };
                let min = match *min {
                    -2 => 0,
                    -1 => -1,
                    near if near < 1000 => self.root + near as c_int,
                    far => far as c_int,
                };
                let reply = call!(self, fcntl(self.number(*fd), command, min));
                self.keep_duplicate(*fd, *to, reply)
            }
            Op::FcntlGetFd { fd } => reply_text(&call!(self, fcntl(self.number(*fd), libc::F_GETFD))),
            Op::FcntlSetFd { fd, value } => {
                reply_text(&call!(self, fcntl(self.number(*fd), libc::F_SETFD, *value as c_int)))
            }
            Op::FcntlGetFl { fd } => {
                let mut reply = call!(self, fcntl(self.number(*fd), libc::F_GETFL));
                // glibc adds the kernel's O_LARGEFILE to every open; programs on LP64 know it as 0.
                const KERNEL_O_LARGEFILE: i64 = 0o100000;
                if reply.value >= 0 {
                    reply.value &= !KERNEL_O_LARGEFILE;
                }
                reply_text(&reply)
            }
            Op::FcntlSetFl { fd, flags } => {
                reply_text(&call!(self, fcntl(self.number(*fd), libc::F_SETFL, flags.0)))
            }
            Op::FcntlBad { fd, command } => {
                reply_text(&call!(self, fcntl(self.number(*fd), *command as c_int, 0)))
            }
            _ => unreachable!("{op:?} is no descriptor call"),
        }
    }

    fn dup_target(&self, to: Slot) -> c_int {
        self.slots[to.0 as usize].unwrap_or(self.root + DUP_TARGET + c_int::from(to.0))
    }

    fn name_call(&mut self, op: &Op) -> String {
        let reply = match op {
            Op::Mkdir { at, path, mode } => {
                let start = self.at(*at, path);
                let path = Argument::new(path);
                match start {
                    None => call!(self, mkdir(path.pointer(), mode.0)),
                    Some(dir) => call!(self, mkdirat(dir, path.pointer(), mode.0)),
                }
            }
            Op::Mknod { at, path, mode, dev } => {
                let start = self.at(*at, path);
                let path = Argument::new(path);
                match start {
                    None => call!(self, mknod(path.pointer(), mode.0, *dev as u64)),
                    Some(dir) => call!(self, mknodat(dir, path.pointer(), mode.0, *dev as u64)),
                }
            }
            Op::Rmdir { path } => call!(self, rmdir(Argument::new(path).pointer())),
            Op::Unlink { path } => call!(self, unlink(Argument::new(path).pointer())),
            Op::Unlinkat { at, path, flags } => {
                let dir = self.at(*at, path).unwrap_or(libc::AT_FDCWD);
                call!(self, unlinkat(dir, Argument::new(path).pointer(), *flags as c_int))
            }
            Op::Rename { at, old, to, new } => {
                let starts = (self.at(*at, old), self.at(*to, new));
                let (old, new) = (Argument::new(old), Argument::new(new));
                match starts {
                    (Some(from), Some(to)) => call!(self, renameat(from, old.pointer(), to, new.pointer())),
                    _ => call!(self, rename(old.pointer(), new.pointer())),
                }
            }
            Op::Rename2 { at, old, to, new, flags } => {
                let from = self.at(*at, old).unwrap_or(libc::AT_FDCWD);
                let to = self.at(*to, new).unwrap_or(libc::AT_FDCWD);
                let (old, new) = (Argument::new(old), Argument::new(new));
                call!(self, renameat2(from, old.pointer(), to, new.pointer(), flags.0 as u32))
            }
            Op::Link { flags, .. } if self.who != 0 && flags.0 & libc::AT_EMPTY_PATH != 0 => {
                return "not asked: the kernel compares who opened a descriptor, down to how often the ids changed".into();
            }
            Op::Link { at, old, to, new, flags } => {
                let starts = (self.at(*at, old), self.at(*to, new));
                let (old, new) = (Argument::new(old), Argument::new(new));
                match starts {
                    (None, None) if flags.0 == 0 => call!(self, link(old.pointer(), new.pointer())),
                    (from, to) => {
                        let (from, to) = (from.unwrap_or(libc::AT_FDCWD), to.unwrap_or(libc::AT_FDCWD));
                        call!(self, linkat(from, old.pointer(), to, new.pointer(), flags.0))
                    }
                }
            }
            Op::Symlink { target, at, path } => {
                let start = self.at(*at, path);
                let (target, path) = (Argument::new(target), Argument::new(path));
                match start {
                    None => call!(self, symlink(target.pointer(), path.pointer())),
                    Some(dir) => call!(self, symlinkat(target.pointer(), dir, path.pointer())),
                }
            }
            Op::Readlink { at, path, size, null } => return self.readlink(*at, path, *size as usize, *null),
            _ => unreachable!("{op:?} is no call on names"),
        };
        reply_text(&reply)
    }

    fn readlink(&mut self, at: At, path: &Text, size: usize, null: bool) -> String {
        let start = self.at(at, path);
        let path = Argument::new(path);
        let mut target = vec![0u8; size];
        let pointer = if null { std::ptr::null_mut() } else { target.as_mut_ptr().cast::<c_char>() };
        let reply = match start {
            None => call!(self, readlink(path.pointer(), pointer, size)),
            Some(dir) => call!(self, readlinkat(dir, path.pointer(), pointer, size)),
        };
        target.truncate(reply.value.max(0) as usize);
        format!("{} {}", reply_text(&reply), bytes_text(&target))
    }

    fn process_call(&mut self, op: &Op) -> String {
        match op {
            Op::Chdir { path } => reply_text(&call!(self, chdir(Argument::new(path).pointer()))),
            Op::Fchdir { fd } => reply_text(&call!(self, fchdir(self.number(*fd)))),
            Op::Umask { mode } => format!("= 0{:o}", call!(self, umask(mode.0)).value),
            Op::Getcwd { size } => {
                let mut path = vec![0u8; *size as usize];
                let reply = call!(self, getcwd(path.as_mut_ptr().cast::<c_char>(), *size as usize));
                path_text(&reply, &path)
            }
            Op::Realpath { path } => {
                // glibc resolves what the kernel would find too long, where it can.
                if path.0.as_ref().is_some_and(|path| path.len() >= libc::PATH_MAX as usize) {
                    return "not asked: realpath of a path that is too long".into();
                }
                if self.who != 0 {
                    return "not asked: glibc looks at the directories above the working directory, too"
                        .into();
                }
                let mut resolved = vec![0u8; libc::PATH_MAX as usize];
                let path = Argument::new(path);
                let reply = call!(self, realpath(path.pointer(), resolved.as_mut_ptr().cast::<c_char>()));
                path_text(&reply, &resolved)
            }
            _ => unreachable!("{op:?} is no call on the process"),
        }
    }

    fn metadata_call(&mut self, op: &Op) -> String {
        let reply = match op {
            Op::Access { at, path, amode, flags } => {
                let start = self.at(*at, path);
                let path = Argument::new(path);
                match start {
                    None if flags.0 == 0 => call!(self, access(path.pointer(), *amode as c_int)),
                    dir => {
                        let dir = dir.unwrap_or(libc::AT_FDCWD);
                        call!(self, faccessat(dir, path.pointer(), *amode as c_int, flags.0))
                    }
                }
            }
            Op::Stat { .. } | Op::Fstat { .. } => return self.stat_call(op),
            Op::Statvfs { .. } | Op::Fstatvfs { .. } => return self.statvfs_call(op),
            Op::Chmod { at, path, mode, flags } => {
                let start = self.at(*at, path);
                let path = Argument::new(path);
                match start {
                    None if flags.0 == 0 => call!(self, chmod(path.pointer(), mode.0)),
                    dir => {
                        call!(self, fchmodat(dir.unwrap_or(libc::AT_FDCWD), path.pointer(), mode.0, flags.0))
                    }
                }
            }
            Op::Fchmod { fd, mode } => call!(self, fchmod(self.number(*fd), mode.0)),
            Op::Chown { at, path, uid, gid, flags } => {
                let start = self.at(*at, path);
                let path = Argument::new(path);
                let (uid, gid) = (*uid as u32, *gid as u32);
                match (start, flags.0) {
                    (None, 0) => call!(self, chown(path.pointer(), uid, gid)),
                    (None, libc::AT_SYMLINK_NOFOLLOW) => call!(self, lchown(path.pointer(), uid, gid)),
                    (dir, flags) => {
                        let dir = dir.unwrap_or(libc::AT_FDCWD);
                        call!(self, fchownat(dir, path.pointer(), uid, gid, flags))
                    }
                }
            }
            Op::Fchown { fd, uid, gid } => call!(self, fchown(self.number(*fd), *uid as u32, *gid as u32)),
            Op::Utimens { at, path, times, flags } => {
                let dir = self.at(*at, path).unwrap_or(libc::AT_FDCWD);
                let path = Argument::new(path);
                let times = times.0.map(timespecs);
                call!(self, utimensat(dir, path.pointer(), pointer_to(&times), flags.0))
            }
            Op::Futimens { fd, times } => {
                let times = times.0.map(timespecs);
                call!(self, futimens(self.number(*fd), pointer_to(&times)))
            }
            _ => unreachable!("{op:?} is no call on metadata"),
        };
        reply_text(&reply)
    }

    fn stat_call(&mut self, op: &Op) -> String {
        let mut status = super::answer::empty_stat();
        let target =
            |null: bool, status: &mut libc::stat| if null { std::ptr::null_mut() } else { &raw mut *status };
        let (reply, null) = match op {
            Op::Stat { at, path, flags, null } => {
                let start = self.at(*at, path);
                let (path, target) = (Argument::new(path), target(*null, &mut status));
                let reply = match (start, flags.0) {
                    (None, 0) => call!(self, stat(path.pointer(), target)),
                    (None, libc::AT_SYMLINK_NOFOLLOW) => call!(self, lstat(path.pointer(), target)),
                    (dir, flags) => {
                        call!(self, fstatat(dir.unwrap_or(libc::AT_FDCWD), path.pointer(), target, flags))
                    }
                };
                (reply, *null)
            }
            Op::Fstat { fd, null } => {
                let target = target(*null, &mut status);
                (call!(self, fstat(self.number(*fd), target)), *null)
            }
            _ => unreachable!("{op:?} is no stat"),
        };
        if reply.value == 0 && !null { stat_text(&status, self.access_times) } else { reply_text(&reply) }
    }

    fn statvfs_call(&mut self, op: &Op) -> String {
        // SAFETY: statvfs is a struct of integers, for which zeros are values.
        let mut status: libc::statvfs = unsafe { std::mem::zeroed() };
        let target = &raw mut status;
        let reply = match op {
            Op::Statvfs { path } => call!(self, statvfs(Argument::new(path).pointer(), target)),
            Op::Fstatvfs { fd } => call!(self, fstatvfs(self.number(*fd), target)),
            _ => unreachable!("{op:?} is no statvfs"),
        };
        if reply.value == 0 { format!("= 0 namemax={}", status.f_namemax) } else { reply_text(&reply) }
    }
}

fn path_text(reply: &Reply, bytes: &[u8]) -> String {
    if reply.value == 0 {
        return format!("NULL {}", errno_name(reply.errno));
    }
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    format!("= {:?}", String::from_utf8_lossy(&bytes[..end]))
}

fn timespecs(times: [(i64, i64); 2]) -> [libc::timespec; 2] {
    times.map(|(tv_sec, tv_nsec)| libc::timespec { tv_sec, tv_nsec })
}

fn pointer_to(times: &Option<[libc::timespec; 2]>) -> *const libc::timespec {
    times.as_ref().map_or(std::ptr::null(), |pair| pair.as_ptr())
}
