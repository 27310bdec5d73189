//! Random sequences of calls over few names, few descriptors and the sizes where things go wrong.
//!
//! Promises the same sequence for the same seed and limits. Owns the tables of values and weights. Never looks at an
//! answer: a sequence is made whole before it runs, so that it can be cut and run again.
//!
//! Left out, because POSIX leaves it open or glibc answers without asking the kernel: counts above SSIZE_MAX, NULL
//! paths together with AT_EMPTY_PATH or in utimensat and opendir, getcwd and realpath into NULL, O_DIRECT, O_ASYNC.

use super::field::{At, FallocateMode, Fd, Mode, OpenFlags, RenameFlags, SLOTS, Slot, Text, Whence};
use super::op::{Op, Step};
use super::values::{DIRECTORY_NAMES, FAR, FILE_NAMES, Generator, LARGE, LINK_NAMES, SMALL};
use libc::*;

/// What a world can take.
pub(super) struct Limits {
    /// Whether there is a working directory in the world's filesystem.
    pub(super) working_directory: bool,
    /// Whether files can be given only to the test's own user, as in a user namespace.
    pub(super) own_ids_only: bool,
    /// Whether calls are made for several users.
    pub(super) people: bool,
    /// Whether files without a name can be made (`O_TMPFILE`).
    pub(super) tmpfile: bool,
}

/// How many calls lie between two walks over the whole world.
const WALK_EVERY: usize = 50;
/// How many of a hundred calls are watched for the times they change.
const WATCHED_PERCENT: u32 = 12;

/// A sequence of `calls` calls, with walks between them and one at the end.
pub(super) fn sequence(seed: u64, calls: usize, limits: &Limits) -> Vec<Step> {
    let mut make = Generator::new(seed, limits);
    let calls_of = |&&(weight, _): &&(u32, Make)| weight > 0;
    let people: &[(u32, Make)] =
        if limits.people { &[(60, take_on), (60, chmod), (40, access)] } else { &[] };
    let table: Vec<&(u32, Make)> = CALLS.iter().chain(people).filter(calls_of).collect();
    let total: u32 = table.iter().map(|(weight, _)| weight).sum();
    let mut steps = Vec::with_capacity(calls + calls / WALK_EVERY + 1);
    for index in 0..calls {
        let mut ticket = make.random.below(total as usize) as u32;
        let call = table.iter().find(|(weight, _)| {
            let hit = ticket < *weight;
            ticket = ticket.wrapping_sub(*weight);
            hit
        });
        // The first calls of a world mostly make things.
        let make_call = if index < 16 && make.random.percent(60) {
            first_call(&mut make)
        } else {
            call.expect("below").1
        };
        let op = make_call(&mut make);
        steps.push(Step { watch: make.random.percent(WATCHED_PERCENT), op });
        if index % WALK_EVERY == WALK_EVERY - 1 {
            steps.push(Step { watch: false, op: Op::Walk {} });
        }
    }
    steps.push(Step { watch: false, op: Op::Walk {} });
    steps
}

type Make = fn(&mut Generator<'_>) -> Op;

/// What the first calls of a world are.
fn first_call(make: &mut Generator<'_>) -> Make {
    const FIRST: &[Make] = &[mkdir, mkdir, create, create, create, symlink, write];
    make.random.pick(FIRST)
}

fn open(make: &mut Generator<'_>) -> Op {
    let (at, flags, mode) = (make.at(), OpenFlags(make.open_flags()), make.mode());
    let path = if flags.0 & O_CREAT != 0 && make.random.percent(40) {
        make.new_path(FILE_NAMES)
    } else {
        make.path()
    };
    // Such an open fails as often as not; its slot counts as open only now and then.
    let to = Slot(1 + make.random.below(SLOTS as usize) as u8);
    let to = if flags.0 & O_CREAT != 0 || make.random.percent(40) { make.to() } else { to };
    Op::Open { to, at, path, flags, mode }
}

fn create(make: &mut Generator<'_>) -> Op {
    let (at, path) = (make.at(), make.new_path(FILE_NAMES));
    Op::Open { to: make.to(), at, path, flags: OpenFlags(O_RDWR | O_CREAT), mode: make.mode() }
}

fn open_directory(make: &mut Generator<'_>) -> Op {
    let (at, path) = (make.at(), make.directory_path());
    let to = make.to();
    make.directory_slots.push(to.0);
    Op::Open { to, at, path, flags: OpenFlags(O_RDONLY | O_DIRECTORY), mode: Mode(0) }
}

fn creat(make: &mut Generator<'_>) -> Op {
    if !make.limits.working_directory {
        return create(make);
    }
    let path = make.new_path(FILE_NAMES);
    Op::Creat { to: make.to(), path, mode: make.mode() }
}

fn close(make: &mut Generator<'_>) -> Op {
    let fd = make.any_slot();
    if let Fd::Slot(slot) = fd {
        make.open.retain(|&other| other != slot);
        make.lock_slots.retain(|&other| other != slot);
    }
    Op::Close { fd }
}

fn read(make: &mut Generator<'_>) -> Op {
    let null = make.random.percent(1);
    match make.random.below(4) {
        0 => Op::Read { fd: make.fd(), len: make.len(), null },
        1 => Op::Readv { fd: make.fd(), lens: make.pieces(Generator::len) },
        2 => Op::Preadv { fd: make.fd(), lens: make.pieces(Generator::len), off: make.off() },
        _ => Op::Pread { fd: make.fd(), len: make.len(), off: make.off(), null },
    }
}

fn write(make: &mut Generator<'_>) -> Op {
    match make.random.below(6) {
        0 | 1 => Op::Write { fd: make.fd(), data: make.data_or_null() },
        2 => Op::Writev { fd: make.fd(), data: make.pieces(Generator::data) },
        3 => Op::Pwritev { fd: make.fd(), data: make.pieces(Generator::data), off: make.off() },
        _ => Op::Pwrite { fd: make.fd(), data: make.data_or_null(), off: make.off() },
    }
}

fn iovcnt(make: &mut Generator<'_>) -> Op {
    let (write, null) = (make.random.percent(50), make.random.percent(20));
    Op::Iovcnt {
        fd: make.fd(),
        write,
        count: make.random.pick(&[-1, 0, 1, 1024, 1025, i64::from(i32::MAX)]),
        null,
    }
}

fn lseek(make: &mut Generator<'_>) -> Op {
    let whence = make.random.pick(&[SEEK_SET, SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE, 5, -1, 99]);
    let mut off = make.off();
    if matches!(whence, SEEK_CUR | SEEK_END) && make.random.percent(40) {
        off = off.wrapping_neg();
    }
    Op::Lseek { fd: make.fd(), off, whence: Whence(whence) }
}

fn truncate(make: &mut Generator<'_>) -> Op {
    if make.limits.working_directory && make.random.percent(30) {
        return Op::Truncate { path: make.path(), len: make.off() };
    }
    Op::Ftruncate { fd: make.fd(), len: make.off() }
}

fn fallocate(make: &mut Generator<'_>) -> Op {
    const PUNCH: i32 = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    const MODES: &[i32] = &[0, 0, FALLOC_FL_KEEP_SIZE, PUNCH, PUNCH, PUNCH, FALLOC_FL_PUNCH_HOLE, 0x1000];
    Op::Fallocate {
        fd: make.fd(),
        mode: FallocateMode(make.random.pick(MODES)),
        off: make.off(),
        len: make.off(),
    }
}

fn small_calls(make: &mut Generator<'_>) -> Op {
    match make.random.below(4) {
        0 => Op::Fadvise {
            fd: make.fd(),
            off: make.off(),
            len: make.off(),
            advice: make.random.pick(&[0, 1, 2, 3, 4, 5, 6, 99, -1]),
        },
        1 => Op::Umask { mode: Mode(make.random.pick(&[0o022, 0o022, 0, 0o077, 0o7777, 0o27])) },
        _ => Op::Fsync { fd: make.fd(), data: make.random.percent(50) },
    }
}

fn copy_range(make: &mut Generator<'_>) -> Op {
    let off = |make: &mut Generator<'_>| if make.random.percent(35) { None } else { Some(make.off()) };
    let (off_in, off_out) = (off(make), off(make));
    let flags = if make.random.percent(4) { 1 } else { 0 };
    Op::CopyRange { from: make.fd(), off_in, into: make.fd(), off_out, len: make.len(), flags }
}

fn dup(make: &mut Generator<'_>) -> Op {
    let fd = make.fd();
    match make.random.below(10) {
        0..=2 => Op::Dup { fd, to: make.to() },
        3 | 4 => Op::Dup2 { fd, to: make.to() },
        5 => Op::Dup2Bad { fd, number: make.random.pick(&[-1, i64::from(i32::MAX)]) },
        6 | 7 => Op::Dup3 {
            fd,
            to: make.to(),
            flags: OpenFlags(make.random.pick(&[0, O_CLOEXEC, O_CLOEXEC, O_APPEND, O_NONBLOCK | O_CLOEXEC])),
        },
        _ => {
            let min = make.random.pick(&[-2, -1, 0, 1, 3, 8, 25, i64::from(i32::MAX)]);
            Op::FcntlDup { fd, min, cloexec: make.random.percent(50), to: make.to() }
        }
    }
}

fn fcntl(make: &mut Generator<'_>) -> Op {
    let fd = make.fd();
    match make.random.below(8) {
        0 | 1 => Op::FcntlGetFd { fd },
        2 => Op::FcntlSetFd { fd, value: make.random.pick(&[0, 1, 1, 2, 3, -1]) },
        3 | 4 => Op::FcntlGetFl { fd },
        5 | 6 => Op::FcntlSetFl {
            fd,
            flags: OpenFlags(make.random.pick(&[
                0,
                O_APPEND,
                O_APPEND,
                O_NONBLOCK,
                O_NOATIME,
                O_TRUNC | O_RDWR,
                O_APPEND | O_WRONLY,
            ])),
        },
        _ => Op::FcntlBad { fd, command: make.random.pick(&[-1, 999, 1_000_000]) },
    }
}

/// One more description of a file that others lock too.
fn open_to_lock(make: &mut Generator<'_>) -> Op {
    let to = make.to();
    make.lock_slots.push(to.0);
    if make.lock_slots.len() > 4 {
        make.lock_slots.remove(0);
    }
    let flags = make.random.pick(&[O_RDWR, O_RDWR, O_RDWR, O_RDONLY, O_WRONLY]);
    let path = Text(Some(b"x.txt".to_vec()));
    Op::Open { to, at: At::Of(Fd::Root), path, flags: OpenFlags(flags | O_CREAT), mode: Mode(0o644) }
}

fn lock(make: &mut Generator<'_>) -> Op {
    if make.lock_slots.len() < 3 || make.random.percent(10) {
        return open_to_lock(make);
    }
    let fd = if make.random.percent(85) { Fd::Slot(make.random.pick(&make.lock_slots)) } else { make.fd() };
    let odd = |make: &mut Generator<'_>| make.random.percent(4);
    if make.random.percent(30) {
        // Never one that waits: LOCK_NB is 4. 32 and 64 are what is left of an old interface.
        const ODD: &[i64] = &[4, 7, 20, 36, 69, 1 << 30 | 4, -1];
        let operations = if odd(make) { ODD } else { &[5, 5, 6, 6, 8, 12] };
        return Op::Flock { fd, operation: make.random.pick(operations) };
    }
    const COMMANDS: &[i32] =
        &[F_SETLK, F_SETLK, F_GETLK, F_OFD_SETLK, F_OFD_SETLK, F_OFD_SETLK, F_OFD_SETLK, F_OFD_GETLK];
    // Few borders, so that ranges meet.
    let mut border = |near: &[i64]| match make.random.below(25) {
        0 => make.random.pick(FAR),
        1 => -make.random.pick(SMALL),
        2 => make.random.pick(&[i64::MAX - 2, i64::MAX - 1, i64::MAX]),
        _ => make.random.pick(near),
    };
    let (start, len) =
        (border(&[0, 0, 1, 2, 3, 4, 10, 11, 12, 4096]), border(&[0, 0, 0, 1, 1, 2, 3, 10, 5000]));
    let locks: &[i64] = if odd(make) { &[3, -1, 32] } else { &[0, 0, 0, 1, 1, 1, 1, 2, 2] };
    let whences =
        if odd(make) { &[SEEK_DATA, -1, 99][..] } else { &[0, 0, 0, 0, 0, 0, 0, SEEK_CUR, SEEK_END] };
    Op::FcntlLock {
        fd,
        command: i64::from(make.random.pick(COMMANDS)),
        lock: make.random.pick(locks),
        whence: Whence(make.random.pick(whences)),
        start,
        len,
        pid: if odd(make) { make.random.pick(&[1, -1]) } else { 0 },
        null: make.random.percent(1),
    }
}

fn mkdir(make: &mut Generator<'_>) -> Op {
    let (at, path, mode) = (make.at(), make.new_path(DIRECTORY_NAMES), make.mode());
    make.remember_directory(&path);
    Op::Mkdir { at, path, mode }
}

fn mknod(make: &mut Generator<'_>) -> Op {
    let kinds: &[u32] = if make.limits.own_ids_only {
        &[0, S_IFREG, S_IFIFO, S_IFSOCK, S_IFDIR]
    } else {
        &[0, S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFCHR, S_IFBLK, S_IFDIR, S_IFLNK, S_IFMT]
    };
    // No driver has these numbers, so that to open them is the same error everywhere.
    let (one, other) = (makedev(4000, 1) as i64, makedev(4001, 70_000) as i64);
    let dev = make.random.pick(&[0, one, one, one, other, other, other, 1 << 32, -1]);
    let (at, path, mode) = (make.at(), make.new_path(FILE_NAMES), make.mode().0 & 0o7777);
    Op::Mknod { at, path, mode: Mode(make.random.pick(kinds) | mode), dev }
}

fn take_on(make: &mut Generator<'_>) -> Op {
    // Mostly those whom permissions bind.
    Op::Become { who: make.random.pick(&[0, 1, 1, 2, 2, 3, super::people::COUNT - 1]) }
}

fn remove(make: &mut Generator<'_>) -> Op {
    if make.limits.working_directory && make.random.percent(40) {
        let directory = make.random.percent(40);
        return if directory {
            Op::Rmdir { path: make.directory_path() }
        } else {
            Op::Unlink { path: make.path() }
        };
    }
    let flags = make.random.pick(&[0, 0, 0, AT_REMOVEDIR, AT_REMOVEDIR, 1]);
    let path = if flags == AT_REMOVEDIR { make.directory_path() } else { make.path() };
    Op::Unlinkat { at: make.at(), path, flags: i64::from(flags) }
}

fn rename(make: &mut Generator<'_>) -> Op {
    let (at, old, to, new) = (make.at(), make.path(), make.at(), make.target_path());
    // The plain call has no descriptor on either side.
    let (at, to) = if at == At::Plain || to == At::Plain { (At::Plain, At::Plain) } else { (at, to) };
    if make.random.percent(55) {
        return Op::Rename { at, old, to, new };
    }
    const FLAGS: &[i32] = &[0, 1, 1, 2, 2, 2, 3, 8, 0x100];
    Op::Rename2 { at, old, to, new, flags: RenameFlags(make.random.pick(FLAGS)) }
}

fn link(make: &mut Generator<'_>) -> Op {
    let flags =
        make.at_flags(&[AT_SYMLINK_FOLLOW, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW], 40);
    let (at, old) = (make.at_for(flags), make.path_for(flags));
    let (to, new) = (make.at(), make.new_path(FILE_NAMES));
    let (at, to) = if at == At::Plain || to == At::Plain { (At::Plain, At::Plain) } else { (at, to) };
    Op::Link { at, old, to, new, flags }
}

fn symlink(make: &mut Generator<'_>) -> Op {
    Op::Symlink { target: make.path(), at: make.at(), path: make.new_path(LINK_NAMES) }
}

fn readlink(make: &mut Generator<'_>) -> Op {
    let null = make.random.percent(2);
    Op::Readlink { at: make.at(), path: make.path(), size: make.random.pick(&[0, 1, 2, 100, 4096]), null }
}

fn access(make: &mut Generator<'_>) -> Op {
    let flags = make.at_flags(&[AT_EACCESS, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH], 40);
    let amode = make.random.pick(&[0, 1, 2, 4, 7, 8, -1]);
    Op::Access { at: make.at_for(flags), path: make.path_for(flags), amode, flags }
}

fn directory(make: &mut Generator<'_>) -> Op {
    if !make.limits.working_directory {
        return open_directory(make);
    }
    match make.random.below(8) {
        0 | 1 => Op::Chdir { path: make.directory_path() },
        2 => Op::Fchdir { fd: Fd::Root },
        3 | 4 => Op::Fchdir { fd: make.fd() },
        5 => Op::Realpath { path: make.some_path() },
        _ => Op::Getcwd { size: make.random.pick(&[0, 1, 2, 4, 8, 4096]) },
    }
}

fn stat(make: &mut Generator<'_>) -> Op {
    let null = make.random.percent(1);
    if make.random.percent(30) {
        return Op::Fstat { fd: make.fd(), null };
    }
    let flags = make.at_flags(&[AT_SYMLINK_NOFOLLOW, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH], 50);
    Op::Stat { at: make.at_for(flags), path: make.path_for(flags), flags, null }
}

fn chmod(make: &mut Generator<'_>) -> Op {
    if make.random.percent(40) {
        return Op::Fchmod { fd: make.fd(), mode: make.mode() };
    }
    let flags = make.at_flags(&[AT_SYMLINK_NOFOLLOW, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH], 25);
    Op::Chmod { at: make.at_for(flags), path: make.path_for(flags), mode: make.mode(), flags }
}

fn chown(make: &mut Generator<'_>) -> Op {
    let (uid, gid) = (make.id(), make.id());
    if make.random.percent(40) {
        return Op::Fchown { fd: make.fd(), uid, gid };
    }
    let flags = make.at_flags(&[AT_SYMLINK_NOFOLLOW, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH], 50);
    Op::Chown { at: make.at_for(flags), path: make.path_for(flags), uid, gid, flags }
}

fn utimens(make: &mut Generator<'_>) -> Op {
    let times = make.times();
    if make.random.percent(40) {
        return Op::Futimens { fd: make.fd(), times };
    }
    let flags = make.at_flags(&[AT_SYMLINK_NOFOLLOW, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH], 40);
    let path = if flags.0 & AT_EMPTY_PATH != 0 { make.path_for(flags) } else { make.some_path() };
    Op::Utimens { at: make.at_for(flags), path, times, flags }
}

fn stream(make: &mut Generator<'_>) -> Op {
    let dir = make.dir();
    match make.random.below(20) {
        0..=4 if make.limits.working_directory => Op::Opendir { dir, path: make.directory_path() },
        0..=5 => {
            let fd = make.directory_slots.pop().map_or_else(|| make.any_slot(), Fd::Slot);
            Op::Fdopendir { dir, fd }
        }
        6..=11 => Op::Readdir { dir, count: make.random.pick(&[1, 2, 3, 100]) },
        12 => Op::Rewinddir { dir },
        13 | 14 => Op::Telldir { dir },
        15 | 16 => Op::Seekdir { dir, mark: make.random.pick(&[0, 0, 0, 1]) },
        17 => Op::Closedir { dir },
        _ => Op::List { at: make.at(), path: make.directory_path() },
    }
}

fn attribute(make: &mut Generator<'_>) -> Op {
    let null = make.random.percent(2);
    let (name, value, nofollow) = (make.attribute_name(), make.attribute_value(), make.random.percent(40));
    let size = make.random.pick(&[0, 0, 1, 5, 20, 300, 300, 65536, 70000]);
    let flags = make.random.pick(&[0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 4, -1]);
    let by_path = make.limits.working_directory && make.random.percent(55);
    match (make.random.below(8), by_path) {
        (0..=3, true) => {
            let path = make.path();
            make.attribute = Some((path.clone(), nofollow, name.clone()));
            Op::Setxattr { path, nofollow, name, value, flags }
        }
        (0..=3, false) => Op::Fsetxattr { fd: make.fd(), name, value, flags },
        (4, true) => {
            // By chance alone it would hardly ever ask for one that is there.
            let known = make.attribute.clone().filter(|_| make.random.percent(60));
            let (path, nofollow, name) = known.unwrap_or_else(|| (make.path(), nofollow, name));
            Op::Getxattr { path, nofollow, name, size, null }
        }
        (4, false) => Op::Fgetxattr { fd: make.fd(), name, size, null },
        (5, true) => Op::Listxattr { path: make.path(), nofollow, size, null },
        (5, false) => Op::Flistxattr { fd: make.fd(), size, null },
        (_, true) => Op::Removexattr { path: make.path(), nofollow, name },
        (_, false) => Op::Fremovexattr { fd: make.fd(), name },
    }
}

fn statvfs(make: &mut Generator<'_>) -> Op {
    if make.limits.working_directory && make.random.percent(50) {
        return Op::Statvfs { path: make.path() };
    }
    Op::Fstatvfs { fd: make.fd() }
}

const CALLS: &[(u32, Make)] = &[
    (60, open),
    (25, create),
    (12, open_directory),
    (5, creat),
    (28, close),
    (60, read),
    (90, write),
    (3, iovcnt),
    (40, lseek),
    (35, truncate),
    (25, fallocate),
    (12, small_calls),
    (25, copy_range),
    (25, dup),
    (15, fcntl),
    (90, lock),
    (35, mkdir),
    (20, mknod),
    (45, remove),
    (65, rename),
    (35, link),
    (30, symlink),
    (15, readlink),
    (12, access),
    (20, directory),
    (30, stat),
    (15, chmod),
    (15, chown),
    (20, utimens),
    (45, stream),
    (55, attribute),
    (3, statvfs),
];

/// A sequence for one file that a byte model can follow: every mode of fallocate, on one descriptor.
pub(super) fn file_sequence(seed: u64, calls: usize, modes: &[i32]) -> Vec<Step> {
    let limits = Limits { working_directory: true, own_ids_only: false, people: false, tmpfile: true };
    let mut make = Generator::new(seed, &limits);
    let open = || Op::Open {
        to: Slot(1),
        at: At::Of(Fd::Root),
        path: Text(Some(b"a".to_vec())),
        flags: OpenFlags(O_RDWR | O_CREAT),
        mode: Mode(0o644),
    };
    // What lies far must be an error everywhere: the model holds the whole file in memory.
    let near = |make: &mut Generator<'_>, far: &[i64]| match make.random.below(10) {
        0..=3 => 65536 * make.random.below(8) as i64,
        4 => make.random.pick(far),
        5..=7 => make.random.pick(SMALL),
        _ => make.random.pick(LARGE),
    };
    let fd = Fd::Slot(1);
    let mut ops = vec![open()];
    while ops.len() < calls {
        let op = match make.random.below(20) {
            0..=3 => Op::Pwrite {
                fd,
                data: make.data(),
                off: 65536 * make.random.below(8) as i64 + make.random.pick(SMALL),
            },
            4..=7 => Op::Pread { fd, len: make.len(), off: near(&mut make, FAR), null: false },
            8 | 9 => Op::Ftruncate { fd, len: near(&mut make, &[1 << 20]) },
            10 => {
                ops.push(Op::Close { fd });
                open()
            }
            11 => Op::Pread { fd, len: 1 << 20, off: 0, null: false },
            _ => {
                let mode = FallocateMode(make.random.pick(modes));
                // A hole of a TiB can be inserted, but not into the model.
                let far: &[i64] =
                    if mode.0 & FALLOC_FL_INSERT_RANGE != 0 { &[-1] } else { &[-1, 1 << 40, i64::MAX] };
                let (off, len) = (near(&mut make, &[-1, i64::MAX]), near(&mut make, far));
                Op::Fallocate { fd, mode, off, len }
            }
        };
        ops.push(op);
    }
    ops.into_iter().map(|op| Step { watch: false, op }).collect()
}
