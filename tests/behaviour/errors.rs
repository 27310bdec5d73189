//! Errors carry the numbers that the kernel has for them.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::common::{errno, new_fs};

#[test]
fn kinds_are_those_of_the_standard_library() {
    let fs = new_fs();
    fs.create_dir_all("/dir/sub").unwrap();
    fs.write("/file", "").unwrap();
    for (error, kind) in [
        (fs.read("/missing").unwrap_err(), ErrorKind::NotFound),
        (fs.create_dir("/dir").unwrap_err(), ErrorKind::AlreadyExists),
        (fs.read("/file/below").unwrap_err(), ErrorKind::NotADirectory),
        (fs.read("/dir").unwrap_err(), ErrorKind::IsADirectory),
        (fs.remove_dir("/dir").unwrap_err(), ErrorKind::DirectoryNotEmpty),
        (fs.read("/nul\0").unwrap_err(), ErrorKind::InvalidInput),
    ] {
        assert_eq!(error.kind(), kind);
        assert!(error.raw_os_error().is_some());
    }
}

/// A directory in the kernel's own memory filesystem, removed at the end.
struct KernelDirectory(std::path::PathBuf);

impl Drop for KernelDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_numbers_are_the_kernels() {
    // The same calls here and on tmpfs.
    let kernel = KernelDirectory(Path::new("/dev/shm").join(format!("ermfs-errors-{}", std::process::id())));
    let _ = fs::remove_dir_all(&kernel.0);
    fs::create_dir_all(kernel.0.join("dir/sub")).unwrap();
    fs::write(kernel.0.join("file"), "").unwrap();
    std::os::unix::fs::symlink("loop", kernel.0.join("loop")).unwrap();
    let ours = new_fs();
    ours.create_dir_all("/dir/sub").unwrap();
    ours.write("/file", "").unwrap();
    ours.symlink("loop", "/loop").unwrap();

    let long = "n".repeat(256);
    let paths = [
        "",
        "dir",
        "dir/",
        "dir/sub",
        "file",
        "file/",
        "file/x",
        "missing",
        "missing/x",
        "loop",
        "loop/x",
        &long,
    ];
    let number = |result: io::Result<()>| result.err().map(|error| error.raw_os_error());
    // The empty path is the directory itself when it is joined, so it is asked for as it is here only.
    for path in &paths[1..] {
        let theirs = &kernel.0.join(path);
        assert_eq!(number(ours.read(path).map(drop)), number(fs::read(theirs).map(drop)), "read {path}");
        assert_eq!(
            number(ours.metadata(path).map(drop)),
            number(fs::metadata(theirs).map(drop)),
            "metadata {path}"
        );
        assert_eq!(
            number(ours.read_dir(path).map(drop)),
            number(fs::read_dir(theirs).map(drop)),
            "read_dir {path}"
        );
        assert_eq!(
            number(ours.read_link(path).map(drop)),
            number(fs::read_link(theirs).map(drop)),
            "read_link {path}"
        );
        if !path.starts_with("missing") {
            assert_eq!(number(ours.create_dir(path)), number(fs::create_dir(theirs)), "create_dir {path}");
        }
        assert_eq!(
            number(ours.hard_link(path, "dir")),
            number(fs::hard_link(theirs, kernel.0.join("dir"))),
            "link {path}"
        );
        assert_eq!(
            number(ours.canonicalize(path).map(drop)),
            number(fs::canonicalize(theirs).map(drop)),
            "canonicalize {path}"
        );
        let to = "dir/sub";
        if !["dir/sub"].contains(path) {
            assert_eq!(
                number(ours.rename(path, to)),
                number(fs::rename(theirs, kernel.0.join(to))),
                "rename {path}"
            );
        }
    }
    assert_eq!(errno(ours.read("")), libc::ENOENT);
    for path in ["file", "dir", "missing", "loop/x"] {
        let theirs = &kernel.0.join(path);
        assert_eq!(number(ours.remove_dir(path)), number(fs::remove_dir(theirs)), "remove_dir {path}");
        assert_eq!(number(ours.remove_file(path)), number(fs::remove_file(theirs)), "remove_file {path}");
        assert_eq!(
            number(ours.remove_dir_all(path)),
            number(fs::remove_dir_all(theirs)),
            "remove_dir_all {path}"
        );
    }
}

#[test]
fn everything_can_be_printed() {
    let fs = new_fs();
    fs.write("/file", "content").unwrap();
    let file = fs.open("/file").unwrap();
    let printed = format!(
        "{fs:?} {file:?} {:?} {:?} {:?}",
        file.view(..).unwrap(),
        fs.read_dir("/").unwrap(),
        fs.read_dir("/").unwrap().next().unwrap().unwrap()
    );
    for part in ["Fs", "File", "View { len: 7, pieces: 1 }", "ReadDir(\"/\")", "DirEntry(\"/file\")"] {
        assert!(printed.contains(part), "{printed}");
    }
}
