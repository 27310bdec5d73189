//! What each call does, one rule at a time. The order of errors is tested against the kernel in `oracle`.

use super::*;

const EXCHANGE: RenameFlags = RenameFlags { no_replace: false, exchange: true };
const NO_REPLACE: RenameFlags = RenameFlags { no_replace: true, exchange: false };

fn open(tree: &Tree, path: &str, how: OpenHow) -> Result<(InodeRef, bool)> {
    Fs::open(tree.at(), path.as_bytes(), &how)
}

fn creating() -> OpenHow {
    OpenHow { create: true, write: true, mode: 0o600, ..OpenHow::default() }
}

#[test]
fn a_new_filesystem_has_an_empty_root() {
    let tree = Tree::new();
    let root = tree.stat("/").unwrap();
    assert_eq!((root.ino, root.mode, root.nlink, root.size), (1, 0o041777, 2, 40));
    assert_eq!(tree.get("../../.").unwrap(), tree.root);
    assert_eq!(tree.fs.path_of(&tree.root).unwrap(), b"/");
    assert_ne!(Tree::new().fs.device(), tree.fs.device());
    tree.check();
}

#[test]
fn a_config_out_of_range_is_refused() {
    let with = |change: fn(&mut Config)| {
        let mut config = Config::default();
        change(&mut config);
        Tree::with(&config).err()
    };
    assert_eq!(with(|c| c.max_bytes = 0), Some(Errno::EINVAL));
    assert_eq!(with(|c| c.soft_limit_percent = 101), Some(Errno::EINVAL));
    assert_eq!(with(|c| c.level = 13), Some(Errno::EINVAL));
    assert_eq!(with(|c| c.max_bytes = 100), Some(Errno::ENOSPC));
}

#[test]
fn open_creates_follows_and_refuses() {
    let tree = Tree::new();
    tree.symlink("made", "dangling").unwrap();
    let (made, created) = open(&tree, "dangling", creating()).unwrap();
    assert!(created && tree.get("made").unwrap() == made);
    let (again, created) = open(&tree, "dangling", creating()).unwrap();
    assert!(!created && again == made);
    let refused = |path: &str, how: OpenHow| open(&tree, path, how).unwrap_err();
    assert_eq!(refused("dangling", OpenHow { exclusive: true, ..creating() }), Errno::EEXIST);
    assert_eq!(refused("new/", creating()), Errno::EISDIR);
    assert_eq!(refused("dangling", OpenHow { nofollow: true, ..OpenHow::default() }), Errno::ELOOP);
    assert_eq!(refused(".", OpenHow { write: true, ..OpenHow::default() }), Errno::EISDIR);
    assert_eq!(refused("made", OpenHow { directory: true, ..OpenHow::default() }), Errno::ENOTDIR);
    let link = OpenHow { nofollow: true, path_only: true, ..OpenHow::default() };
    assert_eq!(open(&tree, "dangling", link).unwrap().0.kind(), InodeKind::Symlink);
}

#[test]
fn symbolic_links_end_at_forty() {
    let tree = Tree::new();
    tree.create("l0").unwrap();
    for i in 1..=41 {
        tree.symlink(&format!("l{}", i - 1), &format!("l{i}")).unwrap();
    }
    let follow = |path: &str| Fs::lookup(tree.at(), path.as_bytes(), true).map(|inode| inode.kind());
    assert_eq!(follow("l40"), Ok(InodeKind::File));
    assert_eq!(follow("l41"), Err(Errno::ELOOP));
    // Also when they nest, and when they are in the middle.
    tree.mkdir("d0").unwrap();
    for i in 1..=41 {
        tree.symlink(&format!("d{}/.", i - 1), &format!("d{i}")).unwrap();
    }
    assert_eq!(follow("d40/../l0"), Ok(InodeKind::File));
    assert_eq!(follow("d41/../l0"), Err(Errno::ELOOP));
    tree.symlink("self", "self").unwrap();
    assert_eq!(follow("self/x"), Err(Errno::ELOOP));
    let mut buffer = [0; 2];
    assert_eq!(Fs::readlink(tree.at(), b"self", &mut buffer), Ok(2));
    assert_eq!(&buffer, b"se");
}

#[test]
fn lengths_end_where_linux_ends_them() {
    let tree = Tree::new();
    let name = "n".repeat(255);
    tree.create(&name).unwrap();
    assert_eq!(tree.stat(&"n".repeat(256)).unwrap_err(), Errno::ENAMETOOLONG);
    assert_eq!(tree.create(&"n".repeat(256)).unwrap_err(), Errno::ENAMETOOLONG);
    assert!(tree.stat(&format!("{}{name}", "/".repeat(4095 - 255))).is_ok());
    assert_eq!(tree.stat(&format!("{}{name}", "/".repeat(4096 - 255))).unwrap_err(), Errno::ENAMETOOLONG);
    assert_eq!(tree.stat("").unwrap_err(), Errno::ENOENT);
    let target = "t".repeat(4095);
    tree.symlink(&target, "long").unwrap();
    assert_eq!(tree.stat("long").unwrap().size, 4095);
    assert_eq!(tree.get("long").unwrap().symlink_target(), Some(target.as_bytes()));
    assert_eq!(tree.symlink(&"t".repeat(4096), "longer"), Err(Errno::ENAMETOOLONG));
    assert_eq!(tree.symlink("", "none"), Err(Errno::ENOENT));
}

#[test]
fn a_directory_never_comes_to_be_below_itself() {
    let tree = Tree::new();
    for path in ["a", "a/b", "a/b/c", "x"] {
        tree.mkdir(path).unwrap();
    }
    tree.create("x/file").unwrap();
    assert_eq!(tree.rename("a", "a/b/c/d"), Err(Errno::EINVAL));
    assert_eq!(tree.rename("a", "a/b"), Err(Errno::EINVAL));
    assert_eq!(tree.rename("a/b/c", "a"), Err(Errno::ENOTEMPTY));
    assert_eq!(tree.rename_with("a/b/c", "a", EXCHANGE), Err(Errno::EINVAL));
    assert_eq!(tree.rename_with("a", "a/b/c", EXCHANGE), Err(Errno::EINVAL));
    assert_eq!(tree.rename("x", "a/b/c"), Ok(()));
    assert_eq!(tree.list("a/b/c").len(), 1);
    assert_eq!(tree.stat("x").unwrap_err(), Errno::ENOENT);
    tree.check();
}

#[test]
fn renames_replace_exchange_and_refuse() {
    let tree = Tree::new();
    for path in ["d", "d/sub", "e", "empty"] {
        tree.mkdir(path).unwrap();
    }
    let (one, two) = (tree.create("one").unwrap(), tree.create("d/two").unwrap());
    assert_eq!(tree.rename_with("one", "d/two", NO_REPLACE), Err(Errno::EEXIST));
    assert_eq!(tree.rename_with("one", "none", EXCHANGE), Err(Errno::ENOENT));
    tree.rename_with("one", "d/two", EXCHANGE).unwrap();
    assert_eq!((tree.get("one").unwrap(), tree.get("d/two").unwrap()), (two.clone(), one.clone()));
    tree.rename("one", "d/two").unwrap();
    assert!(!one.is_linked() && two.is_linked());
    assert_eq!(one.stat().nlink, 0);
    assert_eq!(tree.rename("d/two", "empty"), Err(Errno::EISDIR));
    assert_eq!(tree.rename("empty", "d/two"), Err(Errno::ENOTDIR));
    assert_eq!(tree.rename("empty", "d"), Err(Errno::ENOTEMPTY));
    tree.rename("d/sub", "empty").unwrap();
    tree.rename_with("empty", "d/two", EXCHANGE).unwrap();
    assert_eq!((tree.get("empty").unwrap(), tree.stat("d").unwrap().nlink), (two, 3));
    // Two names of one inode: nothing happens.
    tree.link("empty", "e/other").unwrap();
    tree.rename("empty", "e/other").unwrap();
    assert_eq!(tree.stat("empty").unwrap().nlink, 2);
    let both = RenameFlags { no_replace: true, exchange: true };
    assert_eq!(tree.rename_with("empty", "x", both), Err(Errno::EINVAL));
    assert_eq!(tree.rename(".", "x"), Err(Errno::EBUSY));
    assert_eq!(tree.rename("e", "d/.."), Err(Errno::EBUSY));
    drop(one);
    tree.check();
}

#[test]
fn a_removed_directory_keeps_its_parent() {
    let tree = Tree::new();
    tree.mkdir("a").unwrap();
    tree.mkdir("a/b").unwrap();
    let (a, b) = (tree.get("a").unwrap(), tree.get("a/b").unwrap());
    tree.rmdir("a/b").unwrap();
    tree.rmdir("a").unwrap();
    let below = tree.below(&b);
    assert_eq!(Fs::lookup(below, b"..", true).unwrap(), a);
    assert_eq!(Fs::lookup(below, b"../..", true).unwrap(), tree.root);
    assert_eq!(Fs::lookup(below, b".", true).unwrap(), b);
    assert_eq!(tree.fs.path_of(&b), Err(Errno::ENOENT));
    assert_eq!(Fs::mkdir(below, b"c", 0o700), Err(Errno::ENOENT));
    assert_eq!(Fs::open(below, b"c", &creating()).unwrap_err(), Errno::ENOENT);
    assert_eq!(Fs::rename(tree.at(), b".", below, b"c", RenameFlags::default()), Err(Errno::EBUSY));
    tree.create("file").unwrap();
    assert_eq!(Fs::rename(tree.at(), b"file", below, b"c", RenameFlags::default()), Err(Errno::ENOENT));
    assert_eq!(Fs::link(tree.at(), b"file", below, b"c", false), Err(Errno::ENOENT));
    assert_eq!((b.stat().nlink, tree.list_of(&b).len()), (0, 0));
    let mut emitted = 0;
    let count = &mut |_: DirEntry<'_>| {
        emitted += 1;
        ControlFlow::Continue(())
    };
    tree.fs.read_dir(&b, 0, count).unwrap();
    assert_eq!(emitted, 0);
    drop((a, b));
    tree.check();
}

#[test]
fn what_is_gone_is_not_acquired() {
    let tree = Tree::new();
    tree.create("file").unwrap();
    let guard = epoch::pin();
    let found = walk::Walk::new(tree.at(), &guard).resolve(tree.root.reach(), b"file", false).unwrap();
    tree.unlink("file").unwrap();
    assert!(found.acquire().is_none());
    // It was not counted and let go again, which would free it twice.
    assert!(found.get().counts.is_gone());
    assert_eq!(tree.fs.statistics().files, 0);
}

#[test]
fn tmpfiles_can_be_linked_once() {
    let tree = Tree::new();
    let how = OpenHow { tmpfile: true, write: true, mode: 0o640, ..OpenHow::default() };
    let (file, created) = open(&tree, ".", how).unwrap();
    assert!(created && file.stat().nlink == 0 && !file.is_linked());
    tree.create("taken").unwrap();
    assert_eq!(Fs::link_inode(&file, tree.at(), b"taken"), Err(Errno::EEXIST));
    Fs::link_inode(&file, tree.at(), b"named").unwrap();
    assert_eq!(tree.get("named").unwrap(), file);
    tree.unlink("named").unwrap();
    assert_eq!(Fs::link_inode(&file, tree.at(), b"named"), Err(Errno::ENOENT));
    drop(file);
    let (file, _) = open(&tree, ".", OpenHow { exclusive: true, ..how }).unwrap();
    assert_eq!(Fs::link_inode(&file, tree.at(), b"named"), Err(Errno::ENOENT));
    assert_eq!(open(&tree, "taken", how).unwrap_err(), Errno::ENOTDIR);
    let other = Tree::new();
    assert_eq!(Fs::link_inode(&tree.get("taken").unwrap(), other.at(), b"x"), Err(Errno::EXDEV));
    assert_eq!(Fs::rename(tree.at(), b"taken", other.at(), b"x", RenameFlags::default()), Err(Errno::EXDEV));
    assert_eq!(Fs::link(tree.at(), b"taken", other.at(), b"x", false), Err(Errno::EXDEV));
    drop(file);
    tree.check();
}

#[test]
fn setgid_directories_hand_on_their_group() {
    let tree = Tree::new();
    tree.mkdir("d").unwrap();
    let d = tree.get("d").unwrap();
    d.chmod(0o2770, &ROOT).unwrap();
    d.chown(None, Some(4711), &ROOT).unwrap();
    assert_eq!(d.stat().mode, 0o042770);
    tree.mkdir("d/sub").unwrap();
    tree.create("d/file").unwrap();
    tree.symlink("file", "d/link").unwrap();
    let (sub, file) = (tree.stat("d/sub").unwrap(), tree.stat("d/file").unwrap());
    assert_eq!((sub.mode, sub.gid), (0o042700, 4711));
    assert_eq!((file.mode, file.gid), (0o100600, 4711));
    assert_eq!(tree.stat("d/link").unwrap().gid, 4711);
}

#[test]
fn changes_of_owner_take_set_id_bits() {
    let tree = Tree::new();
    let file = tree.create("file").unwrap();
    for (before, after) in [(0o6755, 0o755), (0o6745, 0o2745), (0o6644, 0o2644)] {
        file.chmod(before, &ROOT).unwrap();
        file.chown(None, None, &ROOT).unwrap();
        assert_eq!(file.stat().mode, 0o100000 | after);
        file.chmod(before, &ROOT).unwrap();
        file.note_write(&ROOT);
        assert_eq!(file.stat().mode, 0o100000 | before);
    }
}

#[test]
fn a_change_after_a_look_is_later() {
    let tree = Tree::new();
    let file = tree.create("file").unwrap();
    let mut before = file.stat();
    for _ in 0..2000 {
        file.note_write(&ROOT);
        let after = file.stat();
        assert!(after.ctime > before.ctime && after.mtime == after.ctime);
        before = after;
    }
    // Unseen changes in one tick share a time, and it is never before what others got.
    let other = tree.create("other").unwrap();
    other.note_write(&ROOT);
    assert!(other.stat().mtime >= before.mtime);
}

#[test]
fn times_are_set_clamped_and_refused() {
    let tree = Tree::new();
    let file = tree.create("file").unwrap();
    let created = file.stat();
    file.set_times(TimeSet::At(-5, 7), TimeSet::Omit, &ROOT).unwrap();
    let set = file.stat();
    assert_eq!((set.atime, set.mtime, set.btime), ((-5, 7), created.mtime, created.btime));
    assert!(set.ctime > created.ctime);
    assert_eq!(file.set_times(TimeSet::Omit, TimeSet::At(0, 1_000_000_000), &ROOT), Err(Errno::EINVAL));
    file.set_times(TimeSet::Omit, TimeSet::Omit, &ROOT).unwrap();
    assert_eq!(file.stat(), set);
    file.set_times(TimeSet::Now, TimeSet::At(i64::MAX, 999_999_999), &ROOT).unwrap();
    let clamped = file.stat();
    assert_eq!(clamped.atime, clamped.ctime);
    assert_eq!(clamped.mtime, (i64::MAX / 1_000_000_000, (i64::MAX % 1_000_000_000) as u32));
}

#[test]
fn reading_moves_the_atime_when_relatime_says_so() {
    let tree = Tree::new();
    let file = tree.create("file").unwrap();
    tree.symlink("file", "link").unwrap();
    let link = tree.get("link").unwrap();
    let (old, new) = (TimeSet::At(1, 0), TimeSet::At(4_000_000_000, 0));
    let moves = |inode: &InodeRef, atime: TimeSet, read: &dyn Fn()| {
        inode.set_times(atime, TimeSet::At(2, 0), &ROOT).unwrap();
        let before = inode.stat();
        read();
        let after = inode.stat();
        assert_eq!((after.mtime, after.ctime), (before.mtime, before.ctime));
        after.atime != before.atime
    };
    assert!(moves(&file, old, &|| file.note_read()));
    // It is after both other times.
    assert!(!moves(&file, new, &|| file.note_read()));
    let follow = || assert_eq!(Fs::lookup(tree.at(), b"link", true).unwrap(), file);
    assert!(moves(&link, old, &follow) && !moves(&link, new, &follow));
    assert!(moves(&link, old, &|| assert_eq!(Fs::readlink(tree.at(), b"link", &mut [0; 9]), Ok(4))));
    assert!(!moves(&link, old, &|| assert_eq!(tree.stat("link").unwrap().size, 4)));
}
