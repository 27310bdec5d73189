//! The rename matrix: what replaces what, and what is refused.

use ermfs::Fs;

use crate::common::{errno, for_each_policy, mixed, new_fs, wait_until};

type Make = fn(&Fs, &str);

/// What a name may stand for, and how to make it.
const KINDS: [(&str, Make); 5] = [
    ("nothing", |_, _| {}),
    ("file", |fs, path| fs.write(path, path).unwrap()),
    ("link", |fs, path| fs.symlink("anywhere", path).unwrap()),
    ("empty directory", |fs, path| fs.create_dir(path).unwrap()),
    ("full directory", |fs, path| fs.create_dir_all(format!("{path}/inside")).unwrap()),
];

/// What rename(2) answers; 0 is success.
fn expected(from: &str, to: &str) -> i32 {
    let directory = |kind: &str| kind.ends_with("directory");
    match (from, to) {
        ("nothing", _) => libc::ENOENT,
        (_, "nothing") => 0,
        (from, to) if directory(from) && !directory(to) => libc::ENOTDIR,
        (from, to) if !directory(from) && directory(to) => libc::EISDIR,
        (_, "full directory") => libc::ENOTEMPTY,
        _ => 0,
    }
}

#[test]
fn every_kind_over_every_kind() {
    for (from, make_from) in KINDS {
        for (to, make_to) in KINDS {
            let fs = new_fs();
            make_from(&fs, "/from");
            make_to(&fs, "/to");
            let moved = fs.symlink_metadata("/from").ok().map(|metadata| metadata.ino());
            let renamed = fs.rename("/from", "/to");
            match expected(from, to) {
                0 => {
                    renamed.unwrap_or_else(|error| panic!("{from} over {to}: {error}"));
                    assert!(fs.symlink_metadata("/from").is_err());
                    assert_eq!(fs.symlink_metadata("/to").ok().map(|metadata| metadata.ino()), moved);
                }
                number => {
                    assert_eq!(errno(renamed), number, "{from} over {to}");
                    assert_eq!(fs.symlink_metadata("/from").ok().map(|metadata| metadata.ino()), moved);
                }
            }
        }
    }
}

#[test]
fn noreplace_replaces_nothing_of_any_kind() {
    for (to, make_to) in KINDS {
        let fs = new_fs();
        fs.write("/from", "").unwrap();
        make_to(&fs, "/to");
        match fs.rename_noreplace("/from", "/to") {
            Ok(()) => assert_eq!(to, "nothing"),
            renamed => {
                assert_eq!(errno(renamed), libc::EEXIST, "{to}");
                assert!(fs.exists("/from").unwrap());
            }
        }
    }
}

#[test]
fn exchange_swaps_any_two_kinds() {
    for (one, make_one) in &KINDS[1..] {
        for (other, make_other) in &KINDS[1..] {
            let fs = new_fs();
            fs.create_dir("/elsewhere").unwrap();
            make_one(&fs, "/one");
            make_other(&fs, "/elsewhere/other");
            let ino = |path: &str| fs.symlink_metadata(path).unwrap().ino();
            let before = (ino("/one"), ino("/elsewhere/other"));
            fs.exchange("/one", "/elsewhere/other")
                .unwrap_or_else(|error| panic!("{one} and {other}: {error}"));
            assert_eq!((ino("/elsewhere/other"), ino("/one")), before);
        }
    }
    let fs = new_fs();
    fs.write("/one", "").unwrap();
    assert_eq!(errno(fs.exchange("/one", "/missing")), libc::ENOENT);
}

#[test]
fn a_directory_does_not_go_into_itself() {
    let fs = new_fs();
    fs.create_dir_all("/a/b/c").unwrap();
    assert_eq!(errno(fs.rename("/a", "/a/b/c/d")), libc::EINVAL);
    assert_eq!(errno(fs.rename("/a", "/a/b")), libc::EINVAL);
    assert_eq!(errno(fs.rename("/a/b", "/a")), libc::ENOTEMPTY);
    assert_eq!(errno(fs.exchange("/a", "/a/b/c")), libc::EINVAL);
    assert_eq!(errno(fs.rename("/", "/a/root")), libc::EBUSY);
}

#[test]
fn renaming_a_name_to_itself_or_to_a_link_of_the_file_does_nothing() {
    let fs = new_fs();
    fs.write("/one", "content").unwrap();
    fs.hard_link("/one", "/two").unwrap();
    fs.rename("/one", "/one").unwrap();
    fs.rename("/one", "/two").unwrap();
    assert_eq!(fs.read("/one").unwrap(), fs.read("/two").unwrap());
    assert_eq!(fs.metadata("/one").unwrap().nlink(), 2);
}

#[test]
fn a_moved_directory_takes_everything_below_with_it() {
    for_each_policy(|fs| {
        fs.create_dir_all("/from/deep/er").unwrap();
        fs.create_dir("/to").unwrap();
        fs.write("/from/deep/er/file", mixed(1)).unwrap();
        let links = |path: &str| fs.metadata(path).unwrap().nlink();
        assert_eq!((links("/"), links("/from"), links("/to")), (4, 3, 2));
        fs.rename("/from/deep", "/to/deep").unwrap();
        assert_eq!(fs.read("/to/deep/er/file").unwrap(), mixed(1));
        assert_eq!((links("/from"), links("/to")), (2, 3));
        assert_eq!(fs.canonicalize("/to/deep/er/../..").unwrap().as_os_str(), "/to");
    });
}

#[test]
fn a_replaced_file_goes_with_its_last_reader() {
    for_each_policy(|fs| {
        fs.write("/old", mixed(2)).unwrap();
        fs.write("/new", "new").unwrap();
        let reader = fs.open("/old").unwrap();
        fs.rename("/new", "/old").unwrap();
        assert_eq!(std::io::Read::bytes(&reader).count(), mixed(2).len());
        drop(reader);
        wait_until("the packer", || fs.statistics().unwrap().files == 1);
        assert_eq!(fs.statistics().unwrap().logical_bytes, 3);
    });
}
