//! Names: links, removal, and how a path is walked.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::common::{errno, new_fs};

#[test]
fn a_path_starts_at_the_root_with_or_without_a_slash() {
    let fs = new_fs();
    fs.create_dir("dir").unwrap();
    fs.write("dir/file", "content").unwrap();
    for path in ["/dir/file", "dir/file", "//dir///file", "./dir/./file", "../../dir/../dir/file"] {
        assert_eq!(fs.read(path).unwrap(), b"content", "{path}");
    }
    assert_eq!(errno(fs.read("/dir/file/")), libc::ENOTDIR);
    assert_eq!(errno(fs.read("/dir/file/..")), libc::ENOTDIR);
    assert_eq!(errno(fs.read("")), libc::ENOENT);
}

#[test]
fn names_are_bytes_and_all_but_slash_and_nul_are_allowed() {
    let fs = new_fs();
    let odd = Path::new(OsStr::from_bytes(b"/\xff\n \x01*?"));
    fs.write(odd, "odd").unwrap();
    let entry = fs.read_dir("/").unwrap().next().unwrap().unwrap();
    assert_eq!(entry.file_name().as_bytes(), b"\xff\n \x01*?");
    assert_eq!(fs.read(odd).unwrap(), b"odd");
    assert_eq!(errno(fs.write("/nul\0byte", "")), libc::EINVAL);
    assert_eq!(errno(fs.rename(odd, "/nul\0byte")), libc::EINVAL);
}

#[test]
fn names_have_255_bytes_and_paths_4095() {
    let fs = new_fs();
    let name = "n".repeat(255);
    fs.write(&name, "longest").unwrap();
    assert_eq!(errno(fs.write(format!("{name}n"), "too long")), libc::ENAMETOOLONG);
    let path = format!("{}{name}", "/".repeat(4095 - 255));
    assert_eq!(fs.read(&path).unwrap(), b"longest");
    assert_eq!(errno(fs.read(format!("/{path}"))), libc::ENAMETOOLONG);
}

#[test]
fn a_hard_link_is_the_same_file() {
    let fs = new_fs();
    fs.write("/one", "content").unwrap();
    fs.hard_link("/one", "/two").unwrap();
    let (one, two) = (fs.metadata("/one").unwrap(), fs.metadata("/two").unwrap());
    assert_eq!((one.ino(), one.nlink()), (two.ino(), 2));
    fs.remove_file("/one").unwrap();
    assert_eq!(fs.read("/two").unwrap(), b"content");
    assert_eq!(fs.metadata("/two").unwrap().nlink(), 1);
    assert_eq!(errno(fs.hard_link("/", "/root")), libc::EPERM);
    assert_eq!(errno(fs.hard_link("/missing", "/x")), libc::ENOENT);
    fs.write("/three", "").unwrap();
    assert_eq!(errno(fs.hard_link("/two", "/three")), libc::EEXIST);
}

#[test]
fn a_symbolic_link_is_followed_from_its_own_directory() {
    let fs = new_fs();
    fs.create_dir_all("/a/b").unwrap();
    fs.write("/a/target", "found").unwrap();
    fs.symlink("../target", "/a/b/link").unwrap();
    assert_eq!(fs.read("/a/b/link").unwrap(), b"found");
    assert_eq!(fs.read_link("/a/b/link").unwrap(), Path::new("../target"));
    assert!(fs.symlink_metadata("/a/b/link").unwrap().is_symlink());
    assert!(fs.metadata("/a/b/link").unwrap().is_file());
    assert_eq!(errno(fs.read_link("/a/target")), libc::EINVAL);
    assert_eq!(errno(fs.symlink("", "/empty")), libc::ENOENT);
    fs.remove_file("/a/b/link").unwrap();
    assert!(fs.exists("/a/target").unwrap());
}

#[test]
fn forty_links_are_followed_and_a_loop_is_eloop() {
    let fs = new_fs();
    fs.write("/0", "end").unwrap();
    for link in 1..=41 {
        fs.symlink(format!("{}", link - 1), format!("/{link}")).unwrap();
    }
    assert_eq!(fs.read("/40").unwrap(), b"end");
    assert_eq!(errno(fs.read("/41")), libc::ELOOP);
    fs.symlink("loop", "/loop").unwrap();
    assert_eq!(errno(fs.metadata("/loop")), libc::ELOOP);
    assert_eq!(errno(fs.canonicalize("/loop")), libc::ELOOP);
    assert!(fs.exists("/loop").is_err());
}

#[test]
fn a_dangling_link_does_not_exist_and_creating_through_it_makes_its_target() {
    let fs = new_fs();
    fs.symlink("target", "/link").unwrap();
    assert!(!fs.exists("/link").unwrap());
    fs.write("/link", "made").unwrap();
    assert_eq!(fs.read("/target").unwrap(), b"made");
}

#[test]
fn canonical_paths_have_no_links_and_no_dots() {
    let fs = new_fs();
    fs.create_dir_all("/a/b").unwrap();
    fs.write("/a/b/file", "").unwrap();
    fs.symlink("/a/b", "/short").unwrap();
    fs.symlink("../short/file", "/a/far").unwrap();
    for (path, canonical) in [
        ("/", "/"),
        ("..", "/"),
        ("a/./b/..", "/a"),
        ("/short", "/a/b"),
        ("/short/../b/file", "/a/b/file"),
        ("/a/far", "/a/b/file"),
    ] {
        assert_eq!(fs.canonicalize(path).unwrap(), Path::new(canonical), "{path}");
    }
    assert_eq!(errno(fs.canonicalize("/a/missing")), libc::ENOENT);
}

#[test]
fn removing_needs_the_right_call() {
    let fs = new_fs();
    fs.create_dir("/dir").unwrap();
    fs.write("/dir/file", "").unwrap();
    assert_eq!(errno(fs.remove_file("/dir")), libc::EISDIR);
    assert_eq!(errno(fs.remove_dir("/dir/file")), libc::ENOTDIR);
    assert_eq!(errno(fs.remove_dir("/dir")), libc::ENOTEMPTY);
    assert_eq!(errno(fs.remove_dir("/")), libc::EBUSY);
    fs.remove_file("/dir/file").unwrap();
    fs.remove_dir("/dir").unwrap();
    assert_eq!(errno(fs.remove_file("/dir")), libc::ENOENT);
}
