//! Directories: making, listing and removing whole trees, also while they change.

use std::collections::BTreeSet;

use ermfs::Fs;

use crate::common::{errno, for_each_policy, new_fs, wait_until};

fn names(fs: &Fs, path: &str) -> BTreeSet<String> {
    fs.read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_listing_has_every_entry_once_in_the_order_they_were_made() {
    let fs = new_fs();
    fs.create_dir("/dir").unwrap();
    for size in [0, 1, 7, 8, 9, 127, 128, 129, 1000] {
        fs.remove_dir_all("/dir").unwrap();
        fs.create_dir("/dir").unwrap();
        for number in 0..size {
            fs.write(format!("/dir/{number}"), "").unwrap();
        }
        let listed: Vec<_> = fs.read_dir("/dir").unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(listed.len(), size);
        assert!(listed.iter().enumerate().all(|(number, name)| *name == *number.to_string()));
    }
}

#[test]
fn entries_tell_what_they_are() {
    let fs = new_fs();
    fs.create_dir_all("/dir/sub").unwrap();
    fs.write("/dir/file", "four").unwrap();
    fs.symlink("file", "/dir/link").unwrap();
    for entry in fs.read_dir("/dir").unwrap() {
        let entry = entry.unwrap();
        let (kind, metadata) = (entry.file_type().unwrap(), entry.metadata().unwrap());
        assert_eq!(kind, metadata.file_type());
        assert_eq!(entry.ino(), metadata.ino());
        assert_eq!(entry.path().parent().unwrap().as_os_str(), "/dir");
        match entry.file_name().to_str().unwrap() {
            "sub" => assert!(kind.is_dir()),
            "file" => assert!(kind.is_file() && metadata.len() == 4),
            "link" => assert!(kind.is_symlink()),
            name => panic!("{name}"),
        }
    }
    assert_eq!(errno(fs.read_dir("/dir/file")), libc::ENOTDIR);
    assert_eq!(errno(fs.read_dir("/missing")), libc::ENOENT);
}

#[test]
fn a_listing_under_change_gives_what_stays_exactly_once() {
    let fs = new_fs();
    fs.create_dir("/dir").unwrap();
    for number in 0..1000 {
        fs.write(format!("/dir/stays-{number}"), "").unwrap();
        fs.write(format!("/dir/goes-{number}"), "").unwrap();
    }
    let mut stayed = Vec::new();
    for (step, entry) in fs.read_dir("/dir").unwrap().enumerate() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with("stays") {
            stayed.push(name);
        }
        if step < 1000 {
            // From the end, so that most of them go before they are listed.
            fs.remove_file(format!("/dir/goes-{}", 999 - step)).unwrap();
            fs.write(format!("/dir/comes-{step}"), "").unwrap();
            fs.rename(format!("/dir/comes-{step}"), format!("/dir/came-{step}")).unwrap();
        }
    }
    assert_eq!(stayed.len(), 1000);
    assert_eq!(stayed.iter().collect::<BTreeSet<_>>().len(), 1000);
    assert_eq!(names(&fs, "/dir").len(), 2000);
}

#[test]
fn a_listing_of_a_removed_directory_ends_and_nothing_is_made_in_it() {
    let fs = new_fs();
    fs.create_dir("/dir").unwrap();
    let mut listing = fs.read_dir("/dir").unwrap();
    fs.remove_dir("/dir").unwrap();
    assert!(listing.next().is_none());
    assert!(listing.next().is_none());
    assert_eq!(errno(fs.write("/dir/file", "")), libc::ENOENT);
}

#[test]
fn create_dir_all_makes_what_is_missing() {
    let fs = new_fs();
    fs.create_dir_all("a/b/c/d").unwrap();
    fs.create_dir_all("/a/b/c/d").unwrap();
    fs.create_dir_all("/a/b/../z/").unwrap();
    fs.create_dir_all("/").unwrap();
    assert_eq!(names(&fs, "/a"), ["b", "z"].map(String::from).into());
    // As the standard library does it: what lies before the dots is made as well.
    fs.create_dir_all("/a/x/../y").unwrap();
    assert_eq!(names(&fs, "/a"), ["b", "x", "y", "z"].map(String::from).into());
    fs.write("/file", "").unwrap();
    assert_eq!(errno(fs.create_dir_all("/file")), libc::EEXIST);
    assert_eq!(errno(fs.create_dir_all("/file/below")), libc::ENOTDIR);
    fs.symlink("a/b", "/link").unwrap();
    fs.create_dir_all("/link/below").unwrap();
    assert!(fs.metadata("/a/b/below").unwrap().is_dir());
    assert_eq!(fs.metadata("/a/b/below").unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn remove_dir_all_takes_the_tree_and_no_more() {
    for_each_policy(|fs| {
        fs.create_dir_all("/keep/this").unwrap();
        fs.write("/keep/file", "kept").unwrap();
        for number in 0..200 {
            fs.create_dir_all(format!("/tree/{}/{number}", number % 7)).unwrap();
            fs.write(format!("/tree/{}/{number}/file", number % 7), "content").unwrap();
        }
        fs.symlink("/keep", "/tree/link").unwrap();
        fs.symlink("tree", "/alias").unwrap();
        fs.remove_dir_all("/alias").unwrap();
        assert!(fs.exists("/tree").unwrap() && fs.symlink_metadata("/alias").is_err());
        fs.remove_dir_all("/tree").unwrap();
        assert_eq!(names(fs, "/"), ["keep".to_string()].into());
        assert_eq!(fs.read("/keep/file").unwrap(), b"kept");
        assert_eq!(errno(fs.remove_dir_all("/keep/file")), libc::ENOTDIR);
        assert_eq!(errno(fs.remove_dir_all("/")), libc::EBUSY);
        assert_eq!(names(fs, "/").len(), 0);
        wait_until("the packer", || fs.statistics().unwrap().files == 0);
        assert_eq!(fs.statistics().unwrap().directories, 1);
    });
}

#[test]
fn a_tree_deeper_than_any_path_can_be_removed() {
    let fs = new_fs();
    // Each step puts all that is there one deeper: far beyond what a path reaches, and any stack.
    fs.create_dir("/deep").unwrap();
    for _ in 0..20_000 {
        fs.create_dir("/top").unwrap();
        fs.rename("/deep", "/top/deep").unwrap();
        fs.rename("/top", "/deep").unwrap();
    }
    assert_eq!(fs.statistics().unwrap().directories, 20_002);
    fs.remove_dir_all("/deep").unwrap();
    assert_eq!(fs.statistics().unwrap().directories, 1);
}
