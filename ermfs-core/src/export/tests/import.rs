use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use super::forms::examples;
use super::*;
use crate::errno::{Errno, Result};
use crate::export::{ExportFlags, export_gzip, export_memfd, fill_from_fd, fill_from_gzip, import};
use crate::fs::{Config, Fs};
use crate::gate;
use crate::namespace::{At, InodeRef, OpenHow};
use crate::testing::usage;

fn filled(space: &Arc<Space>, fd: BorrowedFd<'_>) -> Result<Content> {
    let content = Content::new(space);
    fill_from_fd(&content, fd)?;
    Ok(content)
}

fn gunzipped(space: &Arc<Space>, fd: BorrowedFd<'_>) -> Result<Content> {
    let content = Content::new(space);
    fill_from_gzip(&content, fd)?;
    Ok(content)
}

/// Runs `work` on the reading end of a pipe that gives `bytes`, in pieces of odd lengths.
fn through_a_pipe<R>(bytes: &[u8], work: impl FnOnce(BorrowedFd<'_>) -> R) -> R {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut writer = std::fs::File::from(writer);
            // Whoever reads may have had enough.
            let _ = bytes.chunks(7777).try_for_each(|piece| writer.write_all(piece));
        });
        let reader = reader;
        work(reader.as_fd())
    })
}

#[test]
fn every_form_comes_back_through_memfds_gz_files_and_pipes() {
    let space = space();
    for file in examples(&space) {
        let memfd = export_memfd(&file.content, b"name", ExportFlags::empty()).unwrap();
        let gz = export_gzip(&file.content.snapshot().unwrap(), b"name", ExportFlags::empty()).unwrap();
        // Neither the start nor the end of what is read depends on the offset, and it does not move.
        rustix::fs::seek(&memfd, SeekFrom::Start(77)).unwrap();
        rustix::fs::seek(&gz, SeekFrom::Start(77)).unwrap();
        let direct = filled(&space, memfd.as_fd()).unwrap();
        let unzipped = gunzipped(&space, gz.as_fd()).unwrap();
        assert_eq!((rustix::fs::tell(&memfd), rustix::fs::tell(&gz)), (Ok(77), Ok(77)));
        rustix::fs::seek(&gz, SeekFrom::Start(0)).unwrap();
        let piped = through_a_pipe(&file.bytes, |fd| filled(&space, fd)).unwrap();
        let piped_gz = through_a_pipe(&read_to_end(&gz), |fd| gunzipped(&space, fd)).unwrap();
        for copy in [&direct, &unzipped, &piped, &piped_gz] {
            assert!(contents(copy) == file.bytes, "{}", file.what);
            copy.pack();
            // Nothing takes more than the bytes that are there, holes nothing.
            assert!(copy.info().blocks_hole >= file.content.info().blocks_hole, "{}", file.what);
        }
    }
}

#[test]
fn holes_are_not_read() {
    let space = space();
    let fd = memfd_of(b"");
    rustix::fs::ftruncate(&fd, i64::MAX as u64).unwrap();
    rustix::io::pwrite(&fd, b"far", (7 << 40) + 4000).unwrap();
    rustix::io::pwrite(&fd, b"farther", (9 << 40) - 3).unwrap();
    let content = filled(&space, fd.as_fd()).unwrap();
    assert_eq!(content.size(), i64::MAX as u64);
    assert_eq!(content.seek_data(0), Ok(7 << 40));
    let mut bytes = [0; 5];
    assert_eq!(content.read_at((9 << 40) - 4, &mut Sink::new(&mut bytes)), Ok(5));
    assert_eq!(&bytes, b"\0fart");
    assert!(content.stored_bytes() <= 5 * PAGE as u64);
}

#[test]
fn what_has_no_offset_is_read_to_its_end() {
    let space = space();
    let (ours, theirs) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || (&theirs).write_all(&text(1, 300_000)).unwrap());
        assert!(contents(&filled(&space, ours.as_fd()).unwrap()) == text(1, 300_000));
    });
    // Files that have bytes but no size, and one that has no seek for holes.
    for path in ["/proc/version", "/proc/self/cmdline", "/proc/filesystems"] {
        let file = std::fs::File::open(path).unwrap();
        let content = filled(&space, file.as_fd()).unwrap();
        assert_eq!(contents(&content), std::fs::read(path).unwrap(), "{path}");
    }
    let null = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(filled(&space, null.as_fd()).unwrap().size(), 0);
}

#[test]
fn descriptors_that_cannot_be_read_are_refused_and_nothing_else_is_opened() {
    let space = space();
    let refused =
        |fd: OwnedFd| (filled(&space, fd.as_fd()).unwrap_err(), gunzipped(&space, fd.as_fd()).unwrap_err());
    let open = |path: &str, how| rustix::fs::open(path, how | OFlags::CLOEXEC, Mode::empty()).unwrap();
    assert_eq!(refused(open("/proc", OFlags::RDONLY)), (Errno::EISDIR, Errno::EISDIR));
    assert_eq!(refused(open("/proc/version", OFlags::PATH)), (Errno::EBADF, Errno::EBADF));
    assert_eq!(refused(open("/dev/null", OFlags::WRONLY)), (Errno::EBADF, Errno::EBADF));
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
    assert_eq!(refused(reader), (Errno::EAGAIN, Errno::EAGAIN));
    assert_eq!(refused(writer), (Errno::EBADF, Errno::EBADF));
    // A regular file that is open for writing only is not read by way of /proc.
    let memfd = memfd_of(b"secret");
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&memfd));
    assert_eq!(refused(open(&path, OFlags::WRONLY)), (Errno::EBADF, Errno::EBADF));
}

#[test]
fn a_gz_that_is_cut_off_or_damaged_is_an_error() {
    let space = space();
    let content = Content::new(&space);
    write(&content, 0, &text(1, 3 * BLOCK));
    let gz = read_to_end(&export_gzip(&content.snapshot().unwrap(), b"name", ExportFlags::empty()).unwrap());
    for len in [0, 1, 17, 100, gz.len() / 2, gz.len() - 1] {
        assert_eq!(gunzipped(&space, memfd_of(&gz[..len]).as_fd()).unwrap_err(), Errno::EIO, "{len}");
    }
    for at in [0, gz.len() / 2, gz.len() - 40] {
        let mut damaged = gz.clone();
        damaged[at] ^= 0x20;
        assert_eq!(gunzipped(&space, memfd_of(&damaged).as_fd()).unwrap_err(), Errno::EIO, "{at}");
    }
    assert_eq!(gunzipped(&space, memfd_of(b"plain text").as_fd()).unwrap_err(), Errno::EIO);
}

#[test]
fn a_long_file_never_stands_there_raw() {
    let bytes = text(3, 24 << 20);
    let fd = memfd_of(&bytes);
    let gz = {
        let content = filled(&space(), fd.as_fd()).unwrap();
        export_gzip(&content.snapshot().unwrap(), b"name", ExportFlags::empty()).unwrap()
    };
    for compress in [Compress::OnClose, Compress::Background] {
        // Less than half of what the file has.
        let space = space_of(12 << 20, compress);
        assert!(contents(&filled(&space, fd.as_fd()).unwrap()) == bytes);
        assert!(contents(&gunzipped(&space, gz.as_fd()).unwrap()) == bytes);
        assert_eq!(usage(&space).total, 0);
    }
    let space = space_of(12 << 20, Compress::Never);
    assert_eq!(filled(&space, fd.as_fd()).unwrap_err(), Errno::ENOSPC);
    assert_eq!(usage(&space).total, 0);
    // The steps of the policy that packs on close: a few MiB raw at a time.
    let space = space_of(1 << 30, Compress::OnClose);
    let content = filled(&space, fd.as_fd()).unwrap();
    content.pack();
    assert!(usage(&space).peak < content.stored_bytes() + (6 << 20));
}

/// A filesystem and a walk's start in it.
struct Tree(std::sync::Arc<Fs>, InodeRef);

impl Tree {
    fn new(max_bytes: u64) -> Tree {
        let fs = Fs::new(&Config { max_bytes, ..Config::default() }).unwrap();
        let root = fs.root();
        Tree(fs, root)
    }

    fn at(&self) -> At<'_> {
        At { fs: &self.0, dir: &self.1, who: self.0.credentials(), umask: 0 }
    }

    fn import(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let fd = memfd_of(bytes);
        import(self.at(), path.as_bytes(), 0o640, |content| fill_from_fd(content, fd.as_fd())).map(drop)
    }

    fn lookup(&self, path: &str) -> Result<InodeRef> {
        Fs::lookup(self.at(), path.as_bytes(), false)
    }

    fn read(&self, path: &str) -> Vec<u8> {
        contents(self.lookup(path).unwrap().content().unwrap())
    }

    fn symlink(&self, target: &str, path: &str) {
        Fs::symlink(target.as_bytes(), self.at(), path.as_bytes()).unwrap();
    }

    fn names(&self, path: &str) -> Vec<String> {
        let mut names = Vec::new();
        let dir = self.lookup(path).unwrap();
        let mut emit = |entry: crate::namespace::DirEntry<'_>| {
            names.push(String::from_utf8(entry.name.to_vec()).unwrap());
            core::ops::ControlFlow::Continue(())
        };
        self.0.read_dir(&dir, 0, &mut emit).unwrap();
        names.retain(|name| name != "." && name != "..");
        names.sort();
        names
    }

    fn bytes_in_use(&self) -> u64 {
        crate::testing::usage(self.0.space());
        self.0.statistics().bytes_in_use
    }
}

#[test]
fn a_file_takes_a_free_name_and_replaces_an_old_file() {
    let tree = Tree::new(64 << 20);
    tree.import("f", b"first").unwrap();
    let first = tree.lookup("f").unwrap();
    assert_eq!(
        (tree.read("f"), first.stat().mode & 0o7777, first.stat().nlink),
        (b"first".to_vec(), 0o640, 1)
    );
    assert_eq!(first.content().unwrap().info().form, crate::content::Form::Packed);
    Fs::link(tree.at(), b"f", tree.at(), b"other name", false).unwrap();
    // In the way of the name that the new file has for an instant.
    for ino in first.ino()..first.ino() + 50 {
        let how = OpenHow { create: true, write: true, ..OpenHow::default() };
        Fs::open(tree.at(), format!(".ermfs-import-{ino}").as_bytes(), &how).unwrap();
    }
    tree.import("./f", b"second").unwrap();
    assert_eq!((tree.read("f"), tree.read("other name")), (b"second".to_vec(), b"first".to_vec()));
    assert_eq!(tree.lookup("f").unwrap().stat().nlink, 1);
    let leftover = |name: &&String| name.starts_with(".ermfs") && tree.lookup(name).unwrap().stat().size > 0;
    assert_eq!(tree.names(".").iter().filter(leftover).count(), 0);
}

#[test]
fn symlinks_are_followed_to_what_they_stand_for() {
    let tree = Tree::new(64 << 20);
    Fs::mkdir(tree.at(), b"dir", 0o755).unwrap();
    tree.symlink("dir/target", "relative");
    tree.symlink("/dir/absolute target", "absolute");
    tree.symlink("../relative", "dir/chain");
    tree.symlink("loop", "loop");
    tree.symlink("dir", "to dir");
    tree.import("relative", b"made").unwrap();
    assert_eq!(tree.read("dir/target"), b"made");
    tree.import("dir/chain", b"replaced").unwrap();
    assert_eq!(tree.read("dir/target"), b"replaced");
    tree.import("absolute", b"made too").unwrap();
    assert_eq!(tree.read("dir/absolute target"), b"made too");
    tree.import("to dir/new", b"in the directory").unwrap();
    assert_eq!(tree.names("dir"), ["absolute target", "chain", "new", "target"]);
    for (path, error) in [
        ("loop", Errno::ELOOP),
        ("to dir", Errno::EISDIR),
        ("dir", Errno::EISDIR),
        ("dir/.", Errno::EISDIR),
        ("dir/..", Errno::EISDIR),
        ("dir/new/", Errno::EISDIR),
        ("dir/free/", Errno::EISDIR),
        ("/", Errno::EISDIR),
        ("", Errno::ENOENT),
        ("none/f", Errno::ENOENT),
        ("dir/new/f", Errno::ENOTDIR),
    ] {
        assert_eq!(tree.import(path, b"x").unwrap_err(), error, "{path}");
    }
    assert_eq!(tree.import(&"n".repeat(256), b"x").unwrap_err(), Errno::ENAMETOOLONG);
    assert_eq!(tree.names("."), ["absolute", "dir", "loop", "relative", "to dir"]);
}

#[test]
fn a_failed_import_leaves_names_and_budget_as_they_were() {
    let tree = Tree::new(4 << 20);
    tree.import("old", b"as it was").unwrap();
    let before = tree.bytes_in_use();
    for path in ["old", "new"] {
        // After some of it has been read and written.
        assert_eq!(tree.import(path, &random(1, 6 << 20)), Err(Errno::ENOSPC));
        let cut_off = {
            let content = Content::new(&space());
            write(&content, 0, &text(1, 1 << 20));
            let gz = export_gzip(&content.snapshot().unwrap(), b"name", ExportFlags::empty()).unwrap();
            let gz = read_to_end(&gz);
            memfd_of(&gz[..gz.len() - 50])
        };
        let fill = |content: &Content| fill_from_gzip(content, cut_off.as_fd());
        assert_eq!(import(tree.at(), path.as_bytes(), 0o644, fill).unwrap_err(), Errno::EIO);
    }
    assert_eq!((tree.names("."), tree.read("old")), (vec!["old".to_owned()], b"as it was".to_vec()));
    assert_eq!(tree.bytes_in_use(), before);
    // What took the name while the file was read is looked at again.
    let fill = |content: &Content| {
        Fs::mkdir(tree.at(), b"late", 0o755)?;
        fill_from_fd(content, memfd_of(b"x").as_fd())
    };
    assert_eq!(import(tree.at(), b"late", 0o644, fill).unwrap_err(), Errno::EISDIR);
    assert_eq!(tree.names("."), ["late", "old"]);
}

#[test]
fn an_import_that_waits_keeps_no_fork_waiting() {
    let space = space();
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _inside = gate::enter();
            assert_eq!(contents(&filled(&space, reader.as_fd()).unwrap()), b"begin, end");
        });
        rustix::io::write(&writer, b"begin").unwrap();
        std::thread::sleep(core::time::Duration::from_millis(20));
        // SAFETY: the child does nothing but leave.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(7) };
        }
        let mut status = 0;
        // SAFETY: `status` is writable, `child` is ours.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7);
        rustix::io::write(&writer, b", end").unwrap();
        drop(writer);
    });
}
