//! A real mount, used by the calls of the kernel. Skipped, aloud, where there is no /dev/fuse or no right to mount.

use std::ffi::CString;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ermfs_core::{At, Config, Credentials, Fs, OpenHow, Source, XattrName, XattrSet};
use ermfs_fuse::{FILE_XATTR, Mount, MountOptions, STATISTICS_XATTR};

/// A mount that lasts as long as the value, and the directory it is on.
struct Mounted {
    fs: Arc<Fs>,
    mount: Mount,
    dir: PathBuf,
}

impl Mounted {
    fn new(name: &str) -> Option<Mounted> {
        Mounted::with(name, &Config::default(), &MountOptions::default())
    }

    fn with(name: &str, config: &Config, options: &MountOptions) -> Option<Mounted> {
        let dir = std::env::temp_dir().join(format!("ermfs-mount-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let fs = Fs::new(config).unwrap();
        match Mount::new(Arc::clone(&fs), &dir, options) {
            Ok(mount) => Some(Mounted { fs, mount, dir }),
            Err(error) => {
                println!("SKIPPED: nothing can be mounted here: {error}");
                fs::remove_dir(&dir).unwrap();
                None
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A change in process: a file's bytes.
    fn write_in_process(&self, name: &str, bytes: &[u8]) {
        let root = self.fs.root();
        let at = At { fs: &self.fs, dir: &root, who: self.fs.credentials(), umask: 0 };
        let how = OpenHow { write: true, create: true, mode: 0o644, ..OpenHow::default() };
        let (inode, _) = Fs::open(at, name.as_bytes(), &how).unwrap();
        let content = inode.content().unwrap();
        content.truncate(0).unwrap();
        content.write_at(0, &mut Source::new(bytes)).unwrap();
        inode.note_write(self.fs.credentials());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = self.mount.unmount() {
            println!("unmounting: {error}");
            let _ = self.mount.detach();
        }
        let _ = fs::remove_dir(&self.dir);
    }
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

fn is_root() -> bool {
    // SAFETY: asks for a number only.
    unsafe { libc::geteuid() == 0 }
}

/// Waits until `seen` holds, as long as a change in process may take to show.
fn soon(what: &str, seen: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(5);
    while !seen() {
        assert!(Instant::now() < end, "{what} does not show");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn files_directories_and_links() {
    let Some(mounted) = Mounted::new("files") else { return };
    let at = |name| mounted.path(name);
    fs::write(at("f"), "hello").unwrap();
    assert_eq!(fs::read(at("f")).unwrap(), b"hello");
    fs::create_dir_all(at("a/b/c")).unwrap();
    fs::hard_link(at("f"), at("a/g")).unwrap();
    symlink("../f", at("a/l")).unwrap();
    assert_eq!(fs::read_to_string(at("a/l")).unwrap(), "hello");
    assert_eq!(fs::read_link(at("a/l")).unwrap(), Path::new("../f"));
    let (f, g) = (fs::metadata(at("f")).unwrap(), fs::metadata(at("a/g")).unwrap());
    assert_eq!((f.ino(), f.nlink(), f.len()), (g.ino(), 2, 5));
    assert_eq!(fs::metadata(at("a")).unwrap().nlink(), 3);
    fs::set_permissions(at("f"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(fs::metadata(at("a/g")).unwrap().mode(), 0o100640);
    fs::rename(at("a/b"), at("moved")).unwrap();
    assert!(at("moved/c").is_dir() && !at("a/b").exists());
    assert_eq!(fs::remove_dir(at("moved")).unwrap_err().raw_os_error(), Some(libc::ENOTEMPTY));
    fs::remove_dir_all(at("moved")).unwrap();
    fs::remove_file(at("f")).unwrap();
    assert_eq!(fs::metadata(at("a/g")).unwrap().nlink(), 1);
    assert_eq!(fs::read(at("none")).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    let long = "n".repeat(256);
    assert_eq!(fs::write(at(&long), "").unwrap_err().raw_os_error(), Some(libc::ENAMETOOLONG));
}

#[test]
fn bytes_are_what_was_written() {
    let Some(mounted) = Mounted::new("bytes") else { return };
    let path = mounted.path("f");
    let mut file = fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    let mut model = vec![0u8; 0];
    for (offset, len) in [(0usize, 4096usize), (65_535, 2), (10, 131_073), (1 << 20, 3), (4095, 1)] {
        let bytes: Vec<u8> = (0..len).map(|i| (i * 31 + offset) as u8).collect();
        model.resize(model.len().max(offset + len), 0);
        model[offset..offset + len].copy_from_slice(&bytes);
        file.write_all_at(&bytes, offset as u64).unwrap();
    }
    assert_eq!(fs::read(&path).unwrap(), model);
    file.set_len(70_000).unwrap();
    model.truncate(70_000);
    file.set_len(80_000).unwrap();
    model.resize(80_000, 0);
    file.rewind().unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, model);
    drop(file);
    let mut appended = fs::File::options().append(true).open(&path).unwrap();
    appended.write_all(b"end").unwrap();
    appended.seek(SeekFrom::Start(0)).unwrap();
    appended.write_all(b"END").unwrap();
    model.extend_from_slice(b"endEND");
    assert_eq!(fs::read(&path).unwrap(), model);
    // And so it is in process, packed or not.
    drop(appended);
    let root = mounted.fs.root();
    let at = At { fs: &mounted.fs, dir: &root, who: mounted.fs.credentials(), umask: 0 };
    let inode = Fs::lookup(at, b"f", true).unwrap();
    let mut seen = vec![0; model.len()];
    let n = inode.content().unwrap().read_at(0, &mut ermfs_core::Sink::new(&mut seen)).unwrap();
    assert_eq!((n, &seen), (model.len(), &model));
    fs::File::create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
}

#[test]
fn mapped_files_are_shared() {
    let Some(mounted) = Mounted::new("mapped") else { return };
    let path = mounted.path("f");
    let file = fs::File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    file.set_len(200_000).unwrap();
    // SAFETY: a fresh shared mapping of 200,000 bytes of an open file, unmapped below.
    let map = unsafe {
        libc::mmap(
            core::ptr::null_mut(),
            200_000,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    assert_ne!(map, libc::MAP_FAILED);
    // SAFETY: the mapping is as long, and nobody truncates the file meanwhile.
    let bytes = unsafe { core::slice::from_raw_parts_mut(map.cast::<u8>(), 200_000) };
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = (index / 7) as u8;
    }
    let mut read = [0; 100];
    file.read_exact_at(&mut read, 150_000).unwrap();
    assert!(read.iter().enumerate().all(|(i, byte)| *byte == ((150_000 + i) / 7) as u8));
    file.write_all_at(b"written", 65_533).unwrap();
    assert_eq!(&bytes[65_533..65_540], b"written");
    // SAFETY: the mapping from above, which nothing refers to any more.
    unsafe {
        assert_eq!(libc::msync(map, 200_000, libc::MS_SYNC), 0);
        libc::munmap(map, 200_000);
    }
    drop(file);
    let again = fs::read(&path).unwrap();
    assert_eq!((&again[65_533..65_540], again[199_999]), (&b"written"[..], (199_999 / 7) as u8));
}

#[test]
fn files_without_a_name_go_on() {
    let Some(mounted) = Mounted::new("unlinked") else { return };
    let mut file =
        fs::File::options().read(true).write(true).create_new(true).open(mounted.path("f")).unwrap();
    file.write_all(b"before").unwrap();
    fs::remove_file(mounted.path("f")).unwrap();
    file.write_all(b" after").unwrap();
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), file.metadata().unwrap().nlink()), ("before after", 0));
    assert_eq!(mounted.fs.statistics().files, 1);
    drop(file);
    soon("the end of an unlinked file", || mounted.fs.statistics().files == 0);
    let dir = mounted.path("d");
    fs::create_dir(&dir).unwrap();
    let held = fs::File::open(&dir).unwrap();
    fs::remove_dir(&dir).unwrap();
    let inside = format!("/proc/self/fd/{}/new", held.as_raw_fd());
    assert_eq!(fs::write(inside, "").unwrap_err().raw_os_error(), Some(libc::ENOENT));
}

#[test]
fn renames_have_their_flags() {
    let Some(mounted) = Mounted::new("rename") else { return };
    fs::write(mounted.path("a"), "a").unwrap();
    fs::write(mounted.path("b"), "b").unwrap();
    let rename = |flags| {
        let (old, new) = (c_path(&mounted.path("a")), c_path(&mounted.path("b")));
        // SAFETY: two strings that outlive the call.
        match unsafe { libc::renameat2(libc::AT_FDCWD, old.as_ptr(), libc::AT_FDCWD, new.as_ptr(), flags) } {
            0 => 0,
            _ => errno(),
        }
    };
    assert_eq!(rename(libc::RENAME_NOREPLACE), libc::EEXIST);
    assert_eq!(rename(libc::RENAME_EXCHANGE), 0);
    assert_eq!(fs::read(mounted.path("a")).unwrap(), b"b");
    assert_eq!(rename(libc::RENAME_WHITEOUT), libc::EINVAL);
    assert_eq!(rename(0), 0);
    assert_eq!(fs::read(mounted.path("b")).unwrap(), b"b");
    assert!(!mounted.path("a").exists());
}

#[test]
fn attributes_are_kept_and_statistics_are_not_listed() {
    let Some(mounted) = Mounted::new("xattr") else { return };
    let path = c_path(&mounted.path("f"));
    fs::write(mounted.path("f"), vec![b'x'; 100_000]).unwrap();
    let get = |name: &str| {
        let (name, mut value) = (CString::new(name).unwrap(), vec![0u8; 4096]);
        // SAFETY: strings that outlive the call, and a buffer of the length that is stated.
        let n =
            unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        if n < 0 { Err(errno()) } else { Ok(String::from_utf8(value[..n as usize].to_vec()).unwrap()) }
    };
    let set = |name: &str, value: &str, flags| {
        let name = CString::new(name).unwrap();
        // SAFETY: strings that outlive the call, and a value of the length that is stated.
        match unsafe {
            libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags)
        } {
            0 => 0,
            _ => errno(),
        }
    };
    assert_eq!(get("user.a"), Err(libc::ENODATA));
    assert_eq!(set("user.a", "one", libc::XATTR_REPLACE), libc::ENODATA);
    assert_eq!(set("user.a", "one", libc::XATTR_CREATE), 0);
    assert_eq!(set("user.a", "two", libc::XATTR_CREATE), libc::EEXIST);
    assert_eq!(get("user.a"), Ok("one".into()));
    assert_eq!(set("ermfs.stats", "x", 0), libc::EOPNOTSUPP);
    assert!(get(STATISTICS_XATTR).unwrap().starts_with("{\"files\":1,"));
    soon("packing", || get(FILE_XATTR).unwrap().starts_with("{\"form\":\"packed\",\"size\":100000,"));
    let mut list = [0u8; 100];
    // SAFETY: a string and a buffer of the length that is stated.
    let n = unsafe { libc::listxattr(path.as_ptr(), list.as_mut_ptr().cast(), list.len()) };
    assert_eq!(&list[..n as usize], b"user.a\0");
    // The blocks that stat shows are those at rest.
    soon("the size at rest", || fs::metadata(mounted.path("f")).unwrap().blocks() < 16);
}

#[test]
fn ranges_are_allocated_punched_found_and_copied() {
    let Some(mounted) = Mounted::new("ranges") else { return };
    let open = |name| {
        let path = mounted.path(name);
        fs::File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap()
    };
    let file = open("f");
    file.write_all_at(&[7; 300_000], 0).unwrap();
    let allocate = |mode, offset, len| {
        // SAFETY: numbers, and a descriptor that is open.
        match unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, len) } {
            0 => 0,
            _ => errno(),
        }
    };
    let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    assert_eq!(allocate(punch, 65_536, 131_072), 0);
    assert_eq!(allocate(libc::FALLOC_FL_ZERO_RANGE, 10, 10), 0);
    assert_eq!(allocate(0, 300_000, 5000), 0);
    assert_eq!(allocate(libc::FALLOC_FL_KEEP_SIZE, 400_000, 5000), 0);
    let bytes = fs::read(mounted.path("f")).unwrap();
    assert_eq!(bytes.len(), 305_000);
    for (index, byte) in bytes.iter().enumerate() {
        let zero = (65_536..196_608).contains(&index) || (10..20).contains(&index) || index >= 300_000;
        assert_eq!(*byte, if zero { 0 } else { 7 }, "{index}");
    }
    // SAFETY: numbers, and a descriptor that is open.
    let seek = |offset, whence| unsafe { libc::lseek(file.as_raw_fd(), offset, whence) };
    assert_eq!((seek(0, libc::SEEK_HOLE), seek(65_536, libc::SEEK_DATA)), (65_536, 196_608));
    assert_eq!((seek(305_000, libc::SEEK_DATA), errno()), (-1, libc::ENXIO));
    let copy = open("copy");
    let (mut from, mut to, mut left) = (0i64, 0i64, 305_000usize);
    while left > 0 {
        // SAFETY: two descriptors that are open, and two offsets.
        let n =
            unsafe { libc::copy_file_range(file.as_raw_fd(), &mut from, copy.as_raw_fd(), &mut to, left, 0) };
        assert!(n > 0, "{}", errno());
        left -= n as usize;
    }
    assert_eq!(fs::read(mounted.path("copy")).unwrap(), bytes);
}

#[test]
fn special_nodes_are_the_kernels() {
    let Some(mounted) = Mounted::new("nodes") else { return };
    let path = c_path(&mounted.path("fifo"));
    // SAFETY: a string that outlives the call.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    assert!(fs::metadata(mounted.path("fifo")).unwrap().file_type().is_fifo());
    let writer = {
        let path = mounted.path("fifo");
        std::thread::spawn(move || fs::write(path, "through a fifo").unwrap())
    };
    assert_eq!(fs::read_to_string(mounted.path("fifo")).unwrap(), "through a fifo");
    writer.join().unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(mounted.path("socket")).unwrap();
    assert!(std::os::unix::net::UnixStream::connect(mounted.path("socket")).is_ok());
    if is_root() {
        let path = c_path(&mounted.path("null"));
        // SAFETY: a string that outlives the call.
        assert_eq!(unsafe { libc::mknod(path.as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(1, 3)) }, 0);
        fs::write(mounted.path("null"), "gone").unwrap();
        assert_eq!(fs::metadata(mounted.path("null")).unwrap().rdev(), libc::makedev(1, 3));
    }
}

#[test]
fn a_big_directory_is_listed_once_while_it_changes() {
    let Some(mounted) = Mounted::new("listing") else { return };
    const FILES: usize = 10_000;
    for i in 0..FILES {
        fs::write(mounted.path(&format!("stays-{i}")), "").unwrap();
    }
    let dir = mounted.dir.clone();
    let stop = Arc::new(core::sync::atomic::AtomicBool::new(false));
    let disturber = {
        let (stop, dir) = (Arc::clone(&stop), dir.clone());
        std::thread::spawn(move || {
            let mut i = 0usize;
            while !stop.load(core::sync::atomic::Ordering::Relaxed) {
                fs::write(dir.join(format!("comes-{i}")), "").unwrap();
                fs::remove_file(dir.join(format!("comes-{i}"))).unwrap();
                i += 1;
            }
        })
    };
    for _ in 0..3 {
        let mut seen = vec![0u8; FILES];
        for entry in fs::read_dir(&dir).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if let Some(number) = name.strip_prefix("stays-") {
                seen[number.parse::<usize>().unwrap()] += 1;
            }
        }
        assert!(seen.iter().all(|count| *count == 1));
    }
    stop.store(true, core::sync::atomic::Ordering::Relaxed);
    disturber.join().unwrap();
}

#[test]
fn inodes_are_forgotten_under_load() {
    let Some(mounted) = Mounted::new("forget") else { return };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let dir = mounted.path(&format!("d{thread}"));
            scope.spawn(move || {
                fs::create_dir(&dir).unwrap();
                for i in 0..1500 {
                    let path = dir.join(format!("f{i}"));
                    fs::write(&path, "x").unwrap();
                    let _ = fs::metadata(&path).unwrap();
                    if i % 3 == 0 {
                        fs::hard_link(&path, dir.join("link")).unwrap();
                        fs::remove_file(dir.join("link")).unwrap();
                    }
                    if i % 100 == 0 {
                        assert!(fs::read_dir(&dir).unwrap().all(|entry| entry.unwrap().metadata().is_ok()));
                    }
                    fs::remove_file(&path).unwrap();
                }
            });
        }
    });
    soon("the end of all files", || mounted.fs.statistics().files == 0);
    soon("forgetting", || mounted.mount.inodes_held() <= 4);
}

#[test]
fn what_others_change_in_process_shows() {
    let Some(mounted) = Mounted::new("inval") else { return };
    let path = mounted.path("f");
    assert!(!path.exists());
    mounted.write_in_process("f", b"one");
    soon("a new file", || path.exists());
    assert_eq!(fs::read(&path).unwrap(), b"one");
    mounted.write_in_process("f", b"two");
    soon("new bytes", || fs::read(&path).unwrap() == b"two");
    mounted.write_in_process("f", b"three, longer");
    soon("another size", || fs::metadata(&path).unwrap().len() == 13);
    let held = fs::File::open(&path).unwrap();
    let root = mounted.fs.root();
    let at = At { fs: &mounted.fs, dir: &root, who: mounted.fs.credentials(), umask: 0 };
    Fs::lookup(at, b"f", true).unwrap().chmod(0o600, &Credentials::superuser_as(0, 0)).unwrap();
    soon("other permissions", || fs::metadata(&path).unwrap().mode() == 0o100600);
    let name = XattrName::new(b"user.a").unwrap();
    let any = XattrSet { create: false, replace: false };
    Fs::lookup(at, b"f", true).unwrap().set_xattr(name, b"v", any, at.who).unwrap();
    Fs::rename(at, b"f", at, b"g", ermfs_core::RenameFlags::default()).unwrap();
    soon("a rename", || !path.exists() && mounted.path("g").exists());
    Fs::unlink(at, b"g").unwrap();
    soon("an unlink", || !mounted.path("g").exists() && held.metadata().unwrap().nlink() == 0);
    assert_eq!(fs::read_dir(&mounted.dir).unwrap().count(), 0);
}

#[test]
fn listings_follow_what_is_made_in_process() {
    let Some(mounted) = Mounted::new("listed") else { return };
    fs::create_dir(mounted.path("d")).unwrap();
    let names = |dir: &Path| {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    // Twice, so that the kernel answers from what it keeps.
    let d = mounted.path("d");
    assert!(names(&d).is_empty() && names(&d).is_empty());
    let before = fs::metadata(&d).unwrap();
    // A name that the kernel has never met.
    mounted.write_in_process("d/new", b"x");
    soon("a new name in a listing", || names(&d) == ["new"]);
    soon("the directory's time", || {
        fs::metadata(&d).unwrap().modified().unwrap() > before.modified().unwrap()
    });
    let root = mounted.fs.root();
    let at = At { fs: &mounted.fs, dir: &root, who: mounted.fs.credentials(), umask: 0 };
    Fs::mkdir(at, b"d/sub", 0o755).unwrap();
    soon("a new directory", || names(&d) == ["new", "sub"] && fs::metadata(&d).unwrap().nlink() == 3);
    Fs::rmdir(at, b"d/sub").unwrap();
    Fs::rename(at, b"d/new", at, b"away", ermfs_core::RenameFlags::default()).unwrap();
    soon("an empty directory", || names(&d).is_empty() && names(&mounted.dir) == ["away", "d"]);
}

#[test]
fn more_changes_than_can_be_noted_show_as_well() {
    let Some(mounted) = Mounted::new("flood") else { return };
    let path = mounted.path("f");
    fs::write(&path, "old").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"old");
    let root = mounted.fs.root();
    let at = At { fs: &mounted.fs, dir: &root, who: mounted.fs.credentials(), umask: 0 };
    for i in 0..30_000 {
        Fs::mkdir(at, format!("d{i}").as_bytes(), 0o755).unwrap();
    }
    mounted.write_in_process("f", b"new");
    soon("new bytes", || fs::read(&path).unwrap() == b"new");
    soon("all names", || fs::read_dir(&mounted.dir).unwrap().count() == 30_001);
}

#[test]
fn reading_moves_access_times_unless_told_not_to() {
    for (name, options, moves) in [
        ("atime", MountOptions::default(), true),
        ("noatime", MountOptions { noatime: true, ..MountOptions::default() }, false),
    ] {
        let Some(mounted) = Mounted::with(name, &Config::default(), &options) else { return };
        let path = mounted.path("f");
        let file = fs::File::create(&path).unwrap();
        let past = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        file.set_times(fs::FileTimes::new().set_accessed(past)).unwrap();
        drop(file);
        mounted.write_in_process("f", b"text");
        symlink("f", mounted.path("l")).unwrap();
        fs::File::open(&path).unwrap().set_times(fs::FileTimes::new().set_accessed(past)).unwrap();
        soon("bytes", || fs::read(&path).unwrap() == b"text");
        let root = mounted.fs.root();
        let at = At { fs: &mounted.fs, dir: &root, who: mounted.fs.credentials(), umask: 0 };
        let seconds = Fs::lookup(at, b"f", true).unwrap().stat().atime.0;
        assert_eq!(seconds != 1_000_000_000, moves, "{name}");
    }
}

#[test]
fn any_time_can_be_set() {
    let Some(mounted) = Mounted::new("times") else { return };
    let path = mounted.path("f");
    let file = fs::File::create(&path).unwrap();
    let set = |seconds, nanoseconds| {
        let time = libc::timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        // SAFETY: a descriptor that is open, and two times.
        unsafe { libc::futimens(file.as_raw_fd(), [time, time].as_ptr()) }
    };
    for (seconds, nanoseconds) in [(0, 0), (-1, 1), (-100_000, 999_999_999), (1_700_000_000, 5)] {
        assert_eq!(set(seconds, nanoseconds), 0);
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (seconds, nanoseconds));
        assert_eq!((metadata.atime(), metadata.atime_nsec()), (seconds, nanoseconds));
    }
    // What the engine does not reach is set to the nearest that it does.
    for seconds in [i64::MIN, i64::MIN + 1, i64::MAX] {
        assert_eq!(set(seconds, 999_999_999), 0);
        assert_eq!(fs::metadata(&path).unwrap().mtime() < 0, seconds < 0);
    }
    let root = mounted.fs.root();
    let at = At { fs: &mounted.fs, dir: &root, who: mounted.fs.credentials(), umask: 0 };
    let engine = Fs::lookup(at, b"f", true).unwrap().stat().mtime;
    assert_eq!((mounted.fs.statistics().errors, engine.0 > 9_000_000_000), (0, true));
}

#[test]
fn one_waits_while_another_unmounts() {
    let Some(mounted) = Mounted::new("wait") else { return };
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| mounted.mount.wait());
        std::thread::sleep(Duration::from_millis(50));
        assert!(mounted.mount.is_running() && !waiting.is_finished());
        // A child that another test has just forked may hold a copy of a descriptor for a moment.
        soon("unmounting", || mounted.mount.unmount().is_ok());
        waiting.join().unwrap();
    });
    assert!(!mounted.mount.is_running());
    mounted.mount.unmount().unwrap();
    // What the filesystem holds is not the mount's.
    assert_eq!((mounted.mount.inodes_held(), mounted.fs.statistics().directories), (0, 1));
}

#[test]
fn a_busy_mount_stays_and_can_be_detached() {
    let Some(mounted) = Mounted::new("busy") else { return };
    fs::write(mounted.path("f"), "held").unwrap();
    let mut held = fs::File::open(mounted.path("f")).unwrap();
    assert_eq!(mounted.mount.unmount().unwrap_err().raw_os_error(), Some(libc::EBUSY));
    assert!(mounted.mount.is_running());
    mounted.mount.detach().unwrap();
    assert!(!mounted.path("f").exists());
    let mut text = String::new();
    held.read_to_string(&mut text).unwrap();
    assert_eq!(text, "held");
    drop(held);
    mounted.mount.wait();
    assert!(!mounted.mount.is_running());
}

#[test]
fn what_others_mount_in_its_place_is_left_alone() {
    let Some(mounted) = Mounted::new("place") else { return };
    fs::write(mounted.path("f"), "ours").unwrap();
    let held = fs::File::open(mounted.path("f")).unwrap();
    mounted.mount.detach().unwrap();
    let other = Fs::new(&Config::default()).unwrap();
    let other = Mount::new(other, &mounted.dir, &MountOptions::default()).unwrap();
    fs::write(mounted.path("g"), "theirs").unwrap();
    assert_eq!(mounted.mount.unmount().unwrap_err().raw_os_error(), Some(libc::EBUSY));
    mounted.mount.detach().unwrap();
    assert!(other.is_running() && fs::read(mounted.path("g")).unwrap() == b"theirs");
    drop(held);
    mounted.mount.wait();
    // A child that another test has just forked holds a copy of every descriptor until it executes something.
    soon("unmounting", || other.unmount().is_ok());
}

#[test]
fn a_program_that_runs_is_not_truncated() {
    let Some(mounted) = Mounted::new("busy-text") else { return };
    let path = mounted.path("sleep");
    fs::copy("/bin/sleep", &path).unwrap();
    let size = fs::metadata(&path).unwrap().len();
    let mut running = std::process::Command::new(&path).arg("30").spawn().unwrap();
    for flags in [libc::O_WRONLY, libc::O_RDWR | libc::O_TRUNC, libc::O_RDONLY | libc::O_TRUNC] {
        let path = c_path(&path);
        // SAFETY: a string that outlives the call.
        assert_eq!((unsafe { libc::open(path.as_ptr(), flags) }, errno()), (-1, libc::ETXTBSY), "{flags:o}");
    }
    assert!(running.try_wait().unwrap().is_none());
    assert_eq!(fs::metadata(&path).unwrap().len(), size);
    assert_eq!(fs::read(&path).unwrap(), fs::read("/bin/sleep").unwrap());
    running.kill().unwrap();
    running.wait().unwrap();
}

#[test]
fn a_read_only_mount_refuses() {
    let options = MountOptions { read_only: true, noexec: true, ..MountOptions::default() };
    let Some(mounted) = Mounted::with("ro", &Config::default(), &options) else { return };
    assert_eq!(fs::write(mounted.path("f"), "x").unwrap_err().raw_os_error(), Some(libc::EROFS));
    mounted.write_in_process("f", b"#!/bin/sh\n");
    soon("a file", || mounted.path("f").exists());
    let root = mounted.fs.root();
    let at = At { fs: &mounted.fs, dir: &root, who: mounted.fs.credentials(), umask: 0 };
    Fs::lookup(at, b"f", true).unwrap().chmod(0o755, &Credentials::superuser_as(0, 0)).unwrap();
    let run = std::process::Command::new(mounted.path("f")).status();
    assert_eq!(run.unwrap_err().raw_os_error(), Some(libc::EACCES));
}

#[test]
fn a_full_filesystem_says_so_and_goes_on() {
    let config = Config { max_bytes: 4 << 20, ..Config::default() };
    let Some(mounted) = Mounted::with("full", &config, &MountOptions::default()) else { return };
    let noise: Vec<u8> =
        (0..8u64 << 17).flat_map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes()).collect();
    let error = fs::write(mounted.path("f"), &noise).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    let written = fs::read(mounted.path("f")).unwrap();
    assert!(written.len() > 1 << 20 && noise.starts_with(&written));
    fs::remove_file(mounted.path("f")).unwrap();
    soon("room", || fs::write(mounted.path("g"), &noise[..1 << 20]).is_ok());
    assert_eq!(fs::read(mounted.path("g")).unwrap(), &noise[..1 << 20]);
}
