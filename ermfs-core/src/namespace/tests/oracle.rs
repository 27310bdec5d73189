//! The same random calls on tmpfs and here: the same answers, the same tree, the same times moved.
//!
//! Works in a directory of its own on /dev/shm, so far down that no path of a test leads out of it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid};

use super::*;

/// What is compared of one name.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    mode: u32,
    nlink: u64,
    /// Of files and links; tmpfs's own notion for directories has changed over time.
    size: u64,
    /// The first name, in the order of the listing, of the same inode.
    same_as: String,
}

/// (mtime, ctime), by inode number. Not the atime, which is of the coarse clock: whether it moves is a matter of the tick.
type Times = BTreeMap<u64, [(i64, u32); 2]>;
type View = (BTreeMap<String, Seen>, Times, BTreeMap<String, u64>);

fn add(
    view: &mut View,
    firsts: &mut BTreeMap<u64, String>,
    path: String,
    ino: u64,
    seen: (u32, u64, u64),
    times: [(i64, u32); 2],
) {
    let same_as = firsts.entry(ino).or_insert_with(|| path.clone()).clone();
    let (mode, nlink, size) = seen;
    let size = if mode & libc::S_IFMT == libc::S_IFDIR { 0 } else { size };
    view.1.insert(ino, times);
    view.2.insert(path.clone(), ino);
    view.0.insert(path, Seen { mode, nlink, size, same_as });
}

/// tmpfs.
struct Kernel {
    base: PathBuf,
    dir: OwnedFd,
}

/// How far down the test's directory is.
const DEPTH: usize = 40;

impl Kernel {
    fn new(name: &str) -> Kernel {
        let base = PathBuf::from(format!("/dev/shm/ermfs-{name}-{}", std::process::id()));
        let deep = (0..DEPTH).fold(base.clone(), |path, _| path.join("r"));
        std::fs::create_dir_all(&deep).expect("this test needs /dev/shm");
        let dir = fs::open(&deep, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        Kernel { base, dir }
    }

    fn view(&self) -> View {
        let (mut view, mut firsts) = (View::default(), BTreeMap::new());
        let mut pending = vec![String::from(".")];
        while let Some(prefix) = pending.pop() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOATIME;
            let fd = fs::openat(&self.dir, &*prefix, flags, Mode::empty()).unwrap();
            let entries = fs::Dir::read_from(&fd)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned());
            let mut names: Vec<String> = entries.filter(|name| name != "..").collect();
            names.sort();
            for name in names {
                let path = if name == "." { prefix.clone() } else { format!("{prefix}/{name}") };
                let stat = fs::statat(&self.dir, &*path, AtFlags::SYMLINK_NOFOLLOW).unwrap();
                let times = [(stat.st_mtime, stat.st_mtime_nsec), (stat.st_ctime, stat.st_ctime_nsec)];
                let times = times.map(|(seconds, nanoseconds)| (seconds, nanoseconds as u32));
                let seen = (stat.st_mode, stat.st_nlink as u64, stat.st_size as u64);
                if stat.st_mode & libc::S_IFMT == libc::S_IFDIR && name != "." {
                    pending.push(path.clone());
                }
                add(&mut view, &mut firsts, path, stat.st_ino, seen, times);
            }
        }
        view
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.base).unwrap();
    }
}

/// Here.
struct Ours {
    tree: Tree,
    dir: InodeRef,
}

impl Ours {
    fn new() -> Ours {
        let tree = Tree::new();
        let mut dir = tree.root.clone();
        for _ in 0..DEPTH {
            Fs::mkdir(tree.below(&dir), b"r", 0o755).unwrap();
            dir = Fs::lookup(tree.below(&dir), b"r", false).unwrap();
        }
        Ours { tree, dir }
    }

    fn at(&self) -> At<'_> {
        self.tree.below(&self.dir)
    }

    fn view(&self) -> View {
        let (mut view, mut firsts) = (View::default(), BTreeMap::new());
        let mut pending = vec![(String::from("."), self.dir.clone())];
        while let Some((prefix, dir)) = pending.pop() {
            let mut names = self.tree.list_of(&dir);
            names.insert(b".".to_vec(), dir.ino());
            for name in names.into_keys() {
                let inode = Fs::lookup(self.tree.below(&dir), &name, false).unwrap();
                let name = String::from_utf8(name).unwrap();
                let path = if name == "." { prefix.clone() } else { format!("{prefix}/{name}") };
                let stat = inode.stat();
                let seen = (stat.mode, stat.nlink, stat.size);
                add(&mut view, &mut firsts, path.clone(), stat.ino, seen, [stat.mtime, stat.ctime]);
                if stat.kind == InodeKind::Directory && name != "." {
                    pending.push((path, inode));
                }
            }
        }
        view
    }
}

#[derive(Debug)]
enum Call {
    Open(OFlags, u32),
    Mkdir(u32),
    Mknod(u32),
    Symlink(String),
    Link(bool),
    Unlink,
    Rmdir,
    Rename(fs::RenameFlags),
    Readlink,
    Stat(bool),
    Chmod(u32),
    Chown,
    Times(TimeSet, TimeSet),
    Write,
}

type Answer = core::result::Result<u64, i32>;

fn on_kernel(kernel: &Kernel, call: &Call, path: &str, other: &str) -> Answer {
    let dir = &kernel.dir;
    let mode = |bits: u32| Mode::from_raw_mode(bits);
    let follow = |follow: bool| if follow { AtFlags::SYMLINK_FOLLOW } else { AtFlags::empty() };
    let nothing = |result: rustix::io::Result<()>| result.map(|()| 0);
    let open = |flags| fs::openat(dir, path, flags, Mode::empty());
    match call {
        Call::Open(flags, bits) => nothing(fs::openat(dir, path, *flags, mode(*bits)).map(drop)),
        Call::Mkdir(bits) => nothing(fs::mkdirat(dir, path, mode(*bits))),
        Call::Mknod(bits) => nothing(fs::mknodat(dir, path, fs::FileType::RegularFile, mode(*bits), 0)),
        Call::Symlink(target) => nothing(fs::symlinkat(&**target, dir, path)),
        Call::Link(followed) => nothing(fs::linkat(dir, path, dir, other, follow(*followed))),
        Call::Unlink => nothing(fs::unlinkat(dir, path, AtFlags::empty())),
        Call::Rmdir => nothing(fs::unlinkat(dir, path, AtFlags::REMOVEDIR)),
        Call::Rename(flags) => nothing(fs::renameat_with(dir, path, dir, other, *flags)),
        Call::Readlink => fs::readlinkat(dir, path, Vec::new()).map(|target| target.as_bytes().len() as u64),
        Call::Stat(true) => fs::statat(dir, path, AtFlags::empty()).map(|stat| stat.st_mode.into()),
        Call::Stat(false) => fs::statat(dir, path, AtFlags::SYMLINK_NOFOLLOW).map(|stat| stat.st_mode.into()),
        Call::Chmod(bits) => nothing(fs::chmodat(dir, path, mode(*bits), AtFlags::empty())),
        Call::Chown => nothing(fs::chownat(dir, path, None::<Uid>, None::<Gid>, AtFlags::SYMLINK_NOFOLLOW)),
        Call::Times(atime, mtime) => {
            let spec = |set: &TimeSet| match *set {
                TimeSet::Omit => Timespec { tv_sec: 0, tv_nsec: fs::UTIME_OMIT },
                TimeSet::Now => Timespec { tv_sec: 0, tv_nsec: fs::UTIME_NOW },
                TimeSet::At(tv_sec, nanoseconds) => Timespec { tv_sec, tv_nsec: nanoseconds.into() },
            };
            let times = Timestamps { last_access: spec(atime), last_modification: spec(mtime) };
            nothing(fs::utimensat(dir, path, &times, AtFlags::SYMLINK_NOFOLLOW))
        }
        Call::Write => open(OFlags::WRONLY).and_then(|fd| rustix::io::pwrite(fd, b"x", 0)).map(|n| n as u64),
    }
    .map_err(|error| error.raw_os_error())
}

fn here(ours: &Ours, call: &Call, path: &str, other: &str) -> Answer {
    let at = ours.at();
    let (path, other) = (path.as_bytes(), other.as_bytes());
    let nothing = |result: Result<()>| result.map(|()| 0);
    let with = |follow: bool, change: &dyn Fn(&InodeRef) -> Result<()>| {
        nothing(Fs::lookup(at, path, follow).and_then(|inode| change(&inode)))
    };
    match call {
        Call::Open(flags, mode) => {
            nothing(Fs::open(at, path, &how(*flags, *mode)).map(|(inode, created)| {
                if flags.contains(OFlags::TRUNC) && !created && inode.kind() == InodeKind::File {
                    inode.content().unwrap().truncate(0).unwrap();
                    inode.note_write(&ROOT);
                }
            }))
        }
        Call::Mkdir(mode) => nothing(Fs::mkdir(at, path, *mode)),
        Call::Mknod(mode) => nothing(Fs::mknod(at, path, *mode, 0)),
        Call::Symlink(target) => nothing(Fs::symlink(target.as_bytes(), at, path)),
        Call::Link(follow) => nothing(Fs::link(at, path, at, other, *follow)),
        Call::Unlink => nothing(Fs::unlink(at, path)),
        Call::Rmdir => nothing(Fs::rmdir(at, path)),
        Call::Rename(flags) => {
            let exchange = flags.contains(fs::RenameFlags::EXCHANGE);
            let no_replace = flags.contains(fs::RenameFlags::NOREPLACE);
            nothing(Fs::rename(at, path, at, other, RenameFlags { no_replace, exchange }))
        }
        Call::Readlink => Fs::readlink(at, path, &mut [0; 300]).map(|n| n as u64),
        Call::Stat(follow) => Fs::stat(at, path, *follow).map(|stat| stat.mode.into()),
        Call::Chmod(mode) => with(true, &|inode| inode.chmod(*mode, &ROOT)),
        Call::Chown => with(false, &|inode| inode.chown(None, None, &ROOT)),
        Call::Times(atime, mtime) => with(false, &|inode| inode.set_times(*atime, *mtime, &ROOT)),
        Call::Write => {
            Fs::open(at, path, &OpenHow { write: true, ..OpenHow::default() }).and_then(|(inode, _)| {
                let written = inode.content().unwrap().write_at(0, &mut crate::content::Source::new(b"x"))?;
                inode.note_write(&ROOT);
                Ok(written as u64)
            })
        }
    }
    .map_err(Errno::raw)
}

fn how(flags: OFlags, mode: u32) -> OpenHow {
    let access = flags.bits() & OFlags::ACCMODE.bits();
    OpenHow {
        read: access != OFlags::WRONLY.bits(),
        write: access != OFlags::RDONLY.bits(),
        create: flags.contains(OFlags::CREATE),
        exclusive: flags.contains(OFlags::EXCL),
        truncate: flags.contains(OFlags::TRUNC),
        // O_TMPFILE contains O_DIRECTORY.
        directory: flags.contains(OFlags::DIRECTORY) && !flags.contains(OFlags::TMPFILE),
        nofollow: flags.contains(OFlags::NOFOLLOW),
        noatime: false,
        tmpfile: flags.contains(OFlags::TMPFILE),
        path_only: flags.contains(OFlags::PATH),
        mode,
    }
}

fn some_path(random: &mut Random, long: &str) -> String {
    let mut path = String::new();
    for i in 0..1 + random.below(3) {
        if i > 0 {
            path.push_str(random.pick(&["/", "/", "/", "//"]));
        }
        path.push_str(random.pick(&[
            "a",
            "b",
            "c",
            "a",
            "b",
            "c",
            "d",
            "a-name-of-more-than-nineteen-bytes",
            ".",
            "..",
            long,
        ]));
    }
    match random.below(80) {
        0 => String::new(),
        1..10 => path + "/",
        _ => path,
    }
}

fn some_call(random: &mut Random) -> Call {
    let modes = [0o600, 0o700, 0o400, 0o4700, 0o6700];
    let mode = modes[random.below(modes.len())];
    let time = |random: &mut Random| match random.below(4) {
        0 => TimeSet::Omit,
        1 => TimeSet::Now,
        2 => TimeSet::At(random.below(2_000_000_000) as i64 - 1_000_000_000, 999_999_999),
        _ => TimeSet::At(5, random.below(1_500_000_000) as u32),
    };
    match random.below(30) {
        0..=4 => {
            let mut flags = [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR][random.below(3)];
            for flag in [OFlags::CREATE, OFlags::EXCL, OFlags::TRUNC, OFlags::NOFOLLOW, OFlags::DIRECTORY] {
                if random.below(3) == 0 {
                    flags |= flag;
                }
            }
            match random.below(10) {
                0 => flags |= OFlags::PATH,
                1 => flags = OFlags::TMPFILE | OFlags::RDWR | flags & (OFlags::NOFOLLOW | OFlags::EXCL),
                _ => {}
            }
            if !flags.contains(OFlags::CREATE) && !flags.contains(OFlags::TMPFILE) {
                // Linux leaves it undefined.
                flags &= !OFlags::EXCL;
            }
            if flags.contains(OFlags::PATH) {
                flags &= !(OFlags::CREATE | OFlags::EXCL | OFlags::TRUNC);
            }
            Call::Open(flags, mode)
        }
        5..=8 => Call::Mkdir(0o700 | mode & 0o1000),
        9 => Call::Mknod(mode),
        10..=12 => Call::Symlink(
            random.pick(&["a", "b", "c/", "../b", "./c", "a/b", "nowhere", "d/../a"]).to_owned(),
        ),
        13..=14 => Call::Link(random.below(2) == 0),
        15..=16 => Call::Unlink,
        17 => Call::Rmdir,
        18..=22 => {
            let flags = [fs::RenameFlags::empty(), fs::RenameFlags::NOREPLACE, fs::RenameFlags::EXCHANGE];
            Call::Rename(flags[random.below(5) % 3])
        }
        23 => Call::Readlink,
        24 => Call::Stat(true),
        25 => Call::Stat(false),
        26 => Call::Chmod(mode | 0o700),
        27 => Call::Chown,
        28 => match (time(random), time(random)) {
            // Linux does not even look at the path then.
            (TimeSet::Omit, TimeSet::Omit) => Call::Times(TimeSet::Omit, TimeSet::Now),
            (atime, mtime) => Call::Times(atime, mtime),
        },
        _ => Call::Write,
    }
}

/// Which of the times moved, for every inode that has the same name before and after.
fn moved(before: &View, after: &View) -> BTreeMap<String, [bool; 2]> {
    let both = after.2.iter().filter(|(path, ino)| before.2.get(*path) == Some(*ino));
    both.map(|(path, ino)| {
        let (old, new) = (before.1[ino], after.1[ino]);
        (path.clone(), core::array::from_fn(|i| old[i] != new[i]))
    })
    .collect()
}

const LONGEST_TICK: Duration = Duration::from_millis(11);

#[test]
fn answers_trees_and_times_are_those_of_tmpfs() {
    let long = "n".repeat(256);
    let mut answered = BTreeMap::new();
    for seed in 1..=8 {
        let mut random = Random(seed * 0x9e37_79b9);
        let (kernel, ours) = (Kernel::new(&format!("oracle-{seed}")), Ours::new());
        let (mut kernel_view, mut our_view) = (kernel.view(), ours.view());
        for step in 0..1500 {
            let (call, path, other) =
                (some_call(&mut random), some_path(&mut random, &long), some_path(&mut random, &long));
            // The kernel may give two changes in one tick of its clock the same time.
            let in_new_tick = step % 25 == 0;
            if in_new_tick {
                std::thread::sleep(LONGEST_TICK);
            }
            let expected = on_kernel(&kernel, &call, &path, &other);
            let answer = here(&ours, &call, &path, &other);
            let what = || format!("seed {seed} step {step}: {call:?} {path:?} {other:?}");
            assert_eq!(answer, expected, "{}", what());
            *answered.entry(expected.err()).or_insert(0u32) += 1;
            let (kernel_now, ours_now) = (kernel.view(), ours.view());
            assert_eq!(ours_now.0, kernel_now.0, "{}", what());
            let (theirs, mine) = (moved(&kernel_view, &kernel_now), moved(&our_view, &ours_now));
            for (path, expected) in &theirs {
                for i in 0..2 {
                    let (mine, expected) = (mine[path][i], expected[i]);
                    let fits = mine == expected || mine && !in_new_tick;
                    assert!(fits, "{}: {} of {path}: {mine} for {expected}", what(), ["mtime", "ctime"][i]);
                }
            }
            (kernel_view, our_view) = (kernel_now, ours_now);
        }
        ours.tree.check();
    }
    // The test is worth something only if it got everywhere.
    for errno in [
        None,
        Some(libc::ENOENT),
        Some(libc::EEXIST),
        Some(libc::ENOTDIR),
        Some(libc::EISDIR),
        Some(libc::EBUSY),
        Some(libc::EINVAL),
        Some(libc::ELOOP),
        Some(libc::ENOTEMPTY),
        Some(libc::EPERM),
        Some(libc::ENAMETOOLONG),
    ] {
        assert!(answered.get(&errno).is_some_and(|n| *n > 5), "{errno:?} in {answered:?}");
    }
}
