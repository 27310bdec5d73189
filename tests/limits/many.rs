//! The largest numbers.

use std::collections::BTreeSet;
use std::process::Command;

use ermfs_core::process::{self, AT_FDCWD, DirStream};
use ermfs_core::{Config, Errno};

use super::{held, number};

fn name(number: usize) -> Vec<u8> {
    format!("d/{number}").into_bytes()
}

#[test]
fn a_directory_of_a_million_files_is_listed_whole_and_emptied() {
    let count = number(1_000_000, 30_000);
    let root = process::fsmount(&Config::default()).expect("a filesystem");
    process::mkdirat(root, b"d", 0o755).expect("a directory");
    process::unlinkat(root, b"d", libc::AT_REMOVEDIR).expect("removed");
    let before = held(root, None).bytes_in_use;
    process::mkdirat(root, b"d", 0o755).expect("a directory");
    for number in 0..count {
        process::mknodat(root, &name(number), libc::S_IFREG | 0o644, 0).expect("a file");
    }
    assert_eq!(process::statistics(root).expect("statistics").files as usize, count);
    let fd = process::openat(root, b"d", libc::O_RDONLY | libc::O_DIRECTORY, 0).expect("open");
    let mut stream = DirStream::fdopendir(fd).expect("a stream");
    let mut seen = BTreeSet::new();
    while let Some(entry) = stream.readdir().expect("an entry") {
        if let Ok(number) = String::from_utf8_lossy(entry.name).parse::<usize>() {
            assert!(seen.insert(number), "{number} twice");
        }
    }
    stream.closedir().expect("closed");
    assert!(seen.len() == count && seen.last() == Some(&(count - 1)));
    for number in 0..count {
        process::unlinkat(root, &name(number), 0).expect("removed");
    }
    process::unlinkat(root, b"d", libc::AT_REMOVEDIR).expect("removed");
    assert_eq!(held(root, Some(before)).bytes_in_use, before);
    process::close(root).expect("closed");
    println!("{count} files in a directory");
}

#[test]
fn a_file_has_65_000_links_and_more() {
    let count = 65_001;
    let root = process::fsmount(&Config::default()).expect("a filesystem");
    process::mkdirat(root, b"d", 0o755).expect("a directory");
    process::mknodat(root, &name(0), libc::S_IFREG | 0o644, 0).expect("a file");
    for number in 1..count {
        process::linkat(root, &name(0), root, &name(number), 0).expect("a link");
    }
    let links = |at: usize| process::fstatat(root, &name(at), 0).expect("stat").st_nlink as usize;
    assert_eq!((links(0), links(count - 1)), (count, count));
    for number in 1..count {
        process::unlinkat(root, &name(number), 0).expect("removed");
    }
    assert_eq!(links(0), 1);
    process::close(root).expect("closed");
}

/// In a process of its own, in which nobody else opens anything.
#[test]
fn the_last_descriptor_and_one_more() {
    const CAPACITY: usize = 300;
    const SETTING: &str = "ERMFS_MAX_FDS";
    const TEST: &str = "many::the_last_descriptor_and_one_more";
    if std::env::var(SETTING).is_err() {
        let mut itself = Command::new(std::env::current_exe().expect("this test"));
        let output = itself.args(["--exact", TEST]).env(SETTING, CAPACITY.to_string()).output();
        let output = output.expect("this test can be run again");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let open = |name: &[u8]| process::openat(AT_FDCWD, name, libc::O_CREAT | libc::O_RDWR, 0o644);
    let all: Vec<i32> = (0..CAPACITY).map(|_| open(b"/f").expect("a descriptor")).collect();
    assert_eq!(open(b"/g"), Err(Errno::EMFILE));
    assert_eq!(process::dup(all[0]), Err(Errno::EMFILE));
    assert_eq!(process::fsmount(&Config::default()), Err(Errno::EMFILE));
    assert_eq!(process::fstatat(AT_FDCWD, b"/g", 0).err(), Some(Errno::ENOENT), "it was made");
    process::close(all[7]).expect("closed");
    assert_eq!(open(b"/g"), Ok(all[7]));
    assert_eq!(open(b"/f"), Err(Errno::EMFILE));
}
