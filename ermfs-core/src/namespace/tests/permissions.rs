//! Who may do what, for users that the test process is not. That it is what the kernel answers is shown by the
//! differential test, which switches ids.

use super::*;

const OWNER: u32 = 1000;
const GROUP: u32 = 2000;

struct People {
    owner: Credentials,
    member: Credentials,
    other: Credentials,
}

fn people() -> People {
    People {
        owner: Credentials::new(OWNER, 1000, Vec::new()),
        member: Credentials::new(1001, 1001, vec![3, GROUP]),
        other: Credentials::new(1002, 1002, vec![1, 2]),
    }
}

impl Tree {
    fn at_as<'a>(&'a self, who: &'a Credentials) -> At<'a> {
        At { who, ..self.at() }
    }

    /// A directory, or else a file, of `OWNER` and `GROUP`.
    fn belonging(&self, path: &str, mode: u32, directory: bool) -> InodeRef {
        if directory {
            self.mkdir(path).unwrap()
        } else {
            drop(self.create(path).unwrap())
        };
        let inode = self.get(path).unwrap();
        inode.chown(Some(OWNER), Some(GROUP), &ROOT).unwrap();
        inode.chmod(mode, &ROOT).unwrap();
        inode
    }
}

#[test]
fn exactly_one_class_counts() {
    let tree = Tree::new();
    let who = people();
    let file = tree.belonging("file", 0o600, false);
    for mode in 0..0o1000u32 {
        file.chmod(mode, &ROOT).unwrap();
        for wanted in 0..8 {
            for (who, class) in [(&who.owner, mode >> 6), (&who.member, mode >> 3), (&who.other, mode)] {
                assert_eq!(file.permits(who, wanted), class & wanted == wanted, "{mode:o} {wanted} {who:?}");
            }
            let runs = mode & 0o111 != 0 || wanted & EXECUTE == 0;
            assert_eq!(file.permits(&ROOT, wanted), runs, "{mode:o} {wanted}");
        }
    }
    assert!(tree.belonging("dir", 0, true).permits(&ROOT, READ | WRITE | EXECUTE));
}

#[test]
fn a_path_leads_only_through_directories_that_may_be_searched() {
    let tree = Tree::new();
    let who = people();
    let dir = tree.belonging("dir", 0o750, true);
    tree.create("dir/file").unwrap();
    tree.symlink("dir/file", "link").unwrap();
    for path in [&b"dir/file"[..], b"dir/none", b"dir/.", b"dir/..", b"link"] {
        assert_eq!(Fs::lookup(tree.at_as(&who.other), path, true).err(), Some(Errno::EACCES), "{path:?}");
    }
    assert!(Fs::lookup(tree.at_as(&who.other), b"dir", true).is_ok());
    assert!(Fs::stat(tree.at_as(&who.member), b"link", true).is_ok());
    dir.chmod(0o700, &ROOT).unwrap();
    assert_eq!(Fs::walk_to_last(tree.at_as(&who.member), b"dir/x"), Err(Errno::EACCES));
    let long = [b"dir/".as_slice(), &[b'x'; 256]].concat();
    assert_eq!(Fs::lookup(tree.at_as(&who.member), &long, true).err(), Some(Errno::EACCES));
}

#[test]
fn names_are_made_and_taken_by_who_may_write_the_directory() {
    let tree = Tree::new();
    let who = people();
    let dir = tree.belonging("dir", 0o755, true);
    let theirs = tree.belonging("dir/theirs", 0o666, false);
    tree.belonging("dir/sub", 0o777, true);
    let at = tree.at_as(&who.other);
    let refused = |error| {
        assert_eq!(Fs::mkdir(at, b"dir/new", 0o700), Err(error));
        assert_eq!(Fs::mknod(at, b"dir/new", 0o600, 0), Err(error));
        assert_eq!(Fs::symlink(b"x", at, b"dir/new"), Err(error));
        assert_eq!(Fs::link(at, b"dir/theirs", at, b"dir/new", false), Err(error));
        let create = OpenHow { create: true, write: true, ..OpenHow::default() };
        assert_eq!(Fs::open(at, b"dir/new", &create).err(), Some(error));
        let nameless = OpenHow { tmpfile: true, ..create };
        assert_eq!(Fs::open(at, b"dir", &nameless).err(), Some(error));
        // What is there may be opened, made or not.
        assert!(Fs::open(at, b"dir/theirs", &create).is_ok());
    };
    let kept = |error| {
        assert_eq!(Fs::unlink(at, b"dir/theirs"), Err(error));
        assert_eq!(Fs::rmdir(at, b"dir/theirs"), Err(error));
        assert_eq!(Fs::rmdir(at, b"dir/sub"), Err(error));
        assert_eq!(Fs::rename(at, b"dir/theirs", at, b"moved", RenameFlags::default()), Err(error));
    };
    refused(Errno::EACCES);
    kept(Errno::EACCES);
    dir.chmod(0o1777, &ROOT).unwrap();
    kept(Errno::EPERM);
    // The directory's owner and the file's may.
    for owner in [&dir, &theirs] {
        owner.chown(Some(who.other.uid()), None, &ROOT).unwrap();
        assert_eq!(Fs::rename(at, b"dir/theirs", at, b"dir/moved", RenameFlags::default()), Ok(()));
        assert_eq!(Fs::rename(at, b"dir/moved", at, b"dir/theirs", RenameFlags::default()), Ok(()));
        owner.chown(Some(OWNER), None, &ROOT).unwrap();
    }
}

#[test]
fn a_directory_gets_another_parent_only_from_who_may_write_it() {
    let tree = Tree::new();
    let who = people();
    tree.belonging("from", 0o777, true);
    tree.belonging("to", 0o777, true);
    let moved = tree.belonging("from/moved", 0o755, true);
    let at = tree.at_as(&who.other);
    assert_eq!(Fs::rename(at, b"from/moved", at, b"to/moved", RenameFlags::default()), Err(Errno::EACCES));
    assert_eq!(Fs::rename(at, b"from/moved", at, b"from/other", RenameFlags::default()), Ok(()));
    moved.chmod(0o777, &ROOT).unwrap();
    assert_eq!(Fs::rename(at, b"from/other", at, b"to/moved", RenameFlags::default()), Ok(()));
}

#[test]
fn links_are_made_only_of_what_could_be_copied() {
    let tree = Tree::new();
    let who = people();
    let file = tree.belonging("file", 0o666, false);
    let at = tree.at_as(&who.other);
    assert_eq!(Fs::link(at, b"file", at, b"one", false), Ok(()));
    for mode in [0o644, 0o222, 0o4666, 0o2676] {
        file.chmod(mode, &ROOT).unwrap();
        assert_eq!(Fs::link(at, b"file", at, b"two", false), Err(Errno::EPERM), "{mode:o}");
        let owner = tree.at_as(&who.owner);
        assert_eq!(Fs::link(owner, b"file", owner, b"two", false), Ok(()));
        tree.unlink("two").unwrap();
    }
}

#[test]
fn only_the_owner_changes_what_is_the_owners() {
    let tree = Tree::new();
    let who = people();
    let file = tree.belonging("file", 0o662, false);
    let times = |atime, mtime, who| file.set_times(atime, mtime, who);
    let (now, then) = (TimeSet::Now, TimeSet::At(5, 5));
    assert_eq!(file.chmod(0o600, &who.member), Err(Errno::EPERM));
    assert_eq!(file.chmod(0o2662, &who.owner), Ok(()));
    assert_eq!(file.stat().mode, 0o100662, "the owner is not in the group");
    assert_eq!(times(then, now, &who.member), Err(Errno::EPERM));
    assert_eq!(times(now, TimeSet::Omit, &who.member), Err(Errno::EPERM));
    assert_eq!((times(now, now, &who.member), times(now, now, &who.other)), (Ok(()), Ok(())));
    file.chmod(0o600, &who.owner).unwrap();
    assert_eq!(times(now, now, &who.other), Err(Errno::EACCES));
    assert_eq!(times(then, now, &who.owner), Ok(()));
    assert_eq!(times(TimeSet::Omit, TimeSet::Omit, &who.other), Ok(()));
    assert_eq!(file.set_len(0, &who.other), Err(Errno::EACCES));
    assert_eq!(file.set_len(1, &who.owner), Ok(()));
}

#[test]
fn a_file_is_given_away_by_the_privileged_only() {
    let tree = Tree::new();
    let who = people();
    let file = tree.belonging("file", 0o755, false);
    let owner = Credentials::new(OWNER, 7, vec![8]);
    for (uid, gid, who, expected) in [
        (Some(1002), None, &owner, Err(Errno::EPERM)),
        (Some(OWNER), None, &owner, Ok(())),
        (None, Some(9), &owner, Err(Errno::EPERM)),
        (None, Some(8), &owner, Ok(())),
        (Some(OWNER), Some(7), &owner, Ok(())),
        (None, Some(7), &who.other, Err(Errno::EPERM)),
        (None, None, &who.other, Ok(())),
        (Some(1), Some(GROUP), &ROOT, Ok(())),
    ] {
        let before = file.stat();
        assert_eq!(file.chown(uid, gid, who), expected, "{uid:?} {gid:?} {who:?}");
        let (after, done) = (file.stat(), expected.is_ok());
        assert_eq!(after.uid, uid.filter(|_| done).unwrap_or(before.uid));
        assert_eq!(after.gid, gid.filter(|_| done).unwrap_or(before.gid));
    }
    // A bit to take is a change of mode, which is the owner's.
    file.chmod(0o4755, &ROOT).unwrap();
    assert_eq!(file.chown(None, None, &who.other), Err(Errno::EPERM));
    assert_eq!(file.stat().mode, 0o104755);
}

#[test]
fn who_writes_takes_set_id_bits() {
    let tree = Tree::new();
    let who = people();
    let file = tree.belonging("file", 0, false);
    for (before, member, other) in [(0o6777, 0o777, 0o777), (0o2767, 0o2767, 0o767), (0o4644, 0o644, 0o644)] {
        for (who, after) in [(&who.member, member), (&who.other, other), (&ROOT, before)] {
            file.chmod(before, &ROOT).unwrap();
            file.note_write(who);
            assert_eq!(file.stat().mode, 0o100000 | after, "{before:o} {who:?}");
        }
    }
    let dir = tree.belonging("dir", 0o6777, true);
    dir.note_write(&who.other);
    assert_eq!(dir.stat().mode, 0o046777);
}

#[test]
fn strangers_make_no_programs_that_run_for_the_directorys_group() {
    let tree = Tree::new();
    let who = people();
    tree.belonging("dir", 0o2777, true);
    for (who, mode, expected) in [
        (&who.other, 0o2711, 0o711),
        (&who.member, 0o2711, 0o2711),
        (&who.other, 0o2701, 0o2701),
        (&ROOT, 0o2711, 0o2711),
    ] {
        Fs::mknod(tree.at_as(who), b"dir/file", mode, 0).unwrap();
        let made = tree.stat("dir/file").unwrap();
        assert_eq!((made.mode, made.gid, made.uid), (0o100000 | expected, GROUP, who.uid()));
        tree.unlink("dir/file").unwrap();
    }
}

#[test]
fn special_nodes_are_names() {
    let tree = Tree::new();
    let who = people();
    for (mode, kind) in [
        (libc::S_IFIFO, InodeKind::Fifo),
        (libc::S_IFSOCK, InodeKind::Socket),
        (libc::S_IFCHR, InodeKind::CharDevice),
        (libc::S_IFBLK, InodeKind::BlockDevice),
    ] {
        let device = matches!(kind, InodeKind::CharDevice | InodeKind::BlockDevice);
        let by_other = Fs::mknod(tree.at_as(&who.other), b"node", mode | 0o640, 77);
        assert_eq!(by_other, if device { Err(Errno::EPERM) } else { Ok(()) });
        if device {
            Fs::mknod(tree.at_as(&ROOT), b"node", mode | 0o640, 77).unwrap();
        }
        let made = tree.stat("node").unwrap();
        assert_eq!((made.kind, made.mode), (kind, mode | 0o640));
        assert_eq!((made.rdev, made.size, made.nlink), (if device { 77 } else { 0 }, 0, 1));
        let how = OpenHow { read: true, ..OpenHow::default() };
        assert_eq!(Fs::open(tree.at(), b"node", &how).err(), Some(Errno::ENXIO));
        assert_eq!(Fs::open(tree.at_as(&who.member), b"node", &how).err(), Some(Errno::EACCES));
        let named = OpenHow { path_only: true, ..OpenHow::default() };
        assert!(Fs::open(tree.at(), b"node", &named).is_ok());
        assert_eq!(tree.get("node").unwrap().set_len(0, &ROOT), Err(Errno::EINVAL));
        tree.link("node", "again").unwrap();
        tree.rename("again", "moved").unwrap();
        tree.unlink("node").unwrap();
        tree.unlink("moved").unwrap();
    }
    Fs::mknod(tree.at_as(&who.other), b"socket", libc::S_IFSOCK | 0o666, 0).unwrap();
    tree.root.chmod(0o1777, &ROOT).unwrap();
    let create = OpenHow { create: true, write: true, ..OpenHow::default() };
    let mine = if tree.at().who.uid() == who.other.uid() { Errno::ENXIO } else { Errno::EACCES };
    for (who, error) in [(&who.member, Errno::EACCES), (&who.other, Errno::ENXIO), (tree.at().who, mine)] {
        assert_eq!(Fs::open(tree.at_as(who), b"socket", &create).err(), Some(error));
    }
    assert_eq!(Fs::mknod(tree.at_as(&who.other), b"whiteout", libc::S_IFCHR, 0), Ok(()));
    for (mode, error) in
        [(libc::S_IFDIR, Errno::EPERM), (libc::S_IFLNK, Errno::EINVAL), (0o170000, Errno::EINVAL)]
    {
        assert_eq!(Fs::mknod(tree.at(), b"node", mode, 0), Err(error));
    }
    tree.check();
}

#[test]
fn attributes_go_by_their_namespace() {
    let tree = Tree::new();
    let who = people();
    let file = tree.belonging("file", 0o640, false);
    let dir = tree.belonging("dir", 0o1777, true);
    let name = |name: &'static str| XattrName::new(name.as_bytes()).unwrap();
    let any = XattrSet { create: false, replace: false };
    let set = |inode: &InodeRef, attribute, who| inode.set_xattr(name(attribute), b"x", any, who);
    assert_eq!(set(&file, "user.a", &who.owner), Ok(()));
    assert_eq!(set(&file, "user.a", &who.member), Err(Errno::EACCES));
    assert_eq!(file.xattr(name("user.a"), &who.member), Ok(b"x".to_vec()));
    assert_eq!(file.xattr(name("user.a"), &who.other), Err(Errno::EACCES));
    assert_eq!(file.xattr(name("strange.a"), &who.other), Err(Errno::EACCES));
    assert_eq!(file.xattr(name("system.a"), &who.other), Err(Errno::EOPNOTSUPP));
    assert_eq!(set(&dir, "user.a", &who.other), Err(Errno::EPERM));
    assert_eq!(set(&dir, "user.a", &who.owner), Ok(()));
    assert_eq!(set(&file, "trusted.a", &who.owner), Err(Errno::EPERM));
    assert_eq!(set(&file, "security.a", &who.owner), Err(Errno::EPERM));
    assert_eq!((set(&file, "trusted.a", &ROOT), set(&file, "security.a", &ROOT)), (Ok(()), Ok(())));
    assert_eq!(file.xattr(name("trusted.a"), &who.owner), Err(Errno::ENODATA));
    assert_eq!(file.xattr(name("security.a"), &who.other), Ok(b"x".to_vec()));
    assert_eq!(file.xattr_names(&who.other).unwrap().len(), "user.a security.a ".len());
    assert_eq!(file.xattr_names(&ROOT).unwrap().len(), "user.a trusted.a security.a ".len());
    assert_eq!(file.remove_xattr(name("user.a"), &who.member), Err(Errno::EACCES));
}
