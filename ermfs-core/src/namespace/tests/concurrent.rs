//! Threads against each other, and what must hold afterwards.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::*;

const DIRECTORIES: [&str; 8] = ["a", "b", "c", "a/b", "a/c", "b/c", "a/b/c", "c/a/b"];
const NAMES: [&str; 6] = ["a", "b", "c", "x", "y", "a-name-that-is-longer-than-its-entry"];

fn one_step(tree: &Tree, random: &mut Random) -> Result<()> {
    let path = |random: &mut Random| match random.below(4) {
        0 => random.pick(&NAMES).to_string(),
        _ => format!("{}/{}", random.pick(&DIRECTORIES), random.pick(&NAMES)),
    };
    let (one, other) = (path(random), path(random));
    match random.below(12) {
        0 | 1 => tree.mkdir(&one),
        2 => tree.rmdir(&one),
        3 => tree.create(&one).map(drop),
        4 => tree.unlink(&one),
        5 => tree.link(&one, &other),
        6 | 7 => tree.rename(&one, &other),
        8 => tree.rename_with(&one, &other, RenameFlags { exchange: true, no_replace: false }),
        9 => tree.rename_with(&one, &other, RenameFlags { exchange: false, no_replace: true }),
        10 => {
            let inode = tree.get(&one)?;
            if inode.kind() == InodeKind::Directory {
                match tree.fs.path_of(&inode) {
                    Ok(path) => assert_eq!(path.first(), Some(&b'/')),
                    Err(error) => assert_eq!(error, Errno::ENOENT),
                }
                tree.list_of(&inode);
                Fs::lookup(tree.below(&inode), b"..", false)?;
            }
            Ok(())
        }
        _ => {
            let how = OpenHow { create: true, write: true, mode: 0o600, ..OpenHow::default() };
            Fs::open(tree.at(), one.as_bytes(), &how).map(drop)
        }
    }
}

#[test]
fn random_changes_leave_a_tree_in_order() {
    for round in 0..6 {
        let tree = Tree::new();
        let space = tree.fs.space().clone();
        let empty = charged(&space);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let tree = &tree;
                scope.spawn(move || {
                    let mut random = Random(0x1234_5678 + thread * 7919 + round * 104_729);
                    for _ in 0..20_000 {
                        if let Err(error) = one_step(tree, &mut random) {
                            let expected = [
                                Errno::ENOENT,
                                Errno::EEXIST,
                                Errno::ENOTDIR,
                                Errno::EISDIR,
                                Errno::ENOTEMPTY,
                                Errno::EINVAL,
                                Errno::EPERM,
                            ];
                            assert!(expected.contains(&error), "{error:?}");
                        }
                    }
                });
            }
        });
        tree.check();
        tree.clear();
        tree.check();
        eventually(|| charged(&space) <= empty + 400);
        drop(tree);
        eventually(|| charged(&space) == 0);
    }
}

#[test]
fn a_replaced_name_is_never_missing() {
    let tree = Tree::new();
    tree.create("target").unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    assert_eq!(tree.get("target").unwrap().kind(), InodeKind::File);
                    assert_eq!(tree.stat("target").unwrap().mode, 0o100600);
                    let how = OpenHow { create: true, exclusive: true, ..OpenHow::default() };
                    assert_eq!(Fs::open(tree.at(), b"target", &how).unwrap_err(), Errno::EEXIST);
                }
            });
        }
        for _ in 0..20_000 {
            tree.create("new").unwrap();
            tree.rename("new", "target").unwrap();
        }
        stop.store(true, Relaxed);
    });
    tree.check();
}

#[test]
fn create_and_rmdir_agree_on_who_was_first() {
    let tree = Tree::new();
    std::thread::scope(|scope| {
        let maker = scope.spawn(|| (0..20_000).filter(|i| tree.create(&format!("d/f{i}")).is_ok()).count());
        let remover = scope.spawn(|| {
            let mut unlinked = 0;
            for _ in 0..20_000 {
                let _ = tree.mkdir("d");
                if tree.rmdir("d") == Err(Errno::ENOTEMPTY) {
                    for name in tree.list("d").into_keys() {
                        Fs::unlink(tree.at(), &[b"d/", &name[..]].concat()).unwrap();
                        unlinked += 1;
                    }
                }
            }
            unlinked
        });
        let (made, unlinked) = (maker.join().unwrap(), remover.join().unwrap());
        let left = tree.get("d").map_or(0, |dir| tree.list_of(&dir).len());
        assert_eq!(made, unlinked + left);
    });
    tree.check();
}

#[test]
fn crossing_moves_of_directories_do_not_lock_each_other_out() {
    let tree = Tree::new();
    for dir in ["a", "b", "a/x", "b/y", "a/x/deep", "b/y/deep"] {
        tree.mkdir(dir).unwrap();
    }
    tree.create("a/x/deep/file").unwrap();
    let moves = [("a/x", "b/y/deep/x"), ("b/y", "a/x/deep/y"), ("b/y/deep/x", "a/x"), ("a/x/deep/y", "b/y")];
    std::thread::scope(|scope| {
        for (from, to) in moves {
            let tree = &tree;
            scope.spawn(move || {
                for _ in 0..20_000 {
                    let _ = tree.rename(from, to);
                    let _ = tree.rename(&format!("{to}/deep/file"), "file");
                    let _ = tree.rename("file", &format!("{from}/deep/file"));
                    let _ = tree.rmdir(&format!("{from}/deep"));
                    let _ = tree.mkdir(&format!("{from}/deep"));
                }
            });
        }
    });
    tree.check();
}

/// A thread stops for good, as far as the others can tell, while it holds a directory's lock: nobody who only looks waits.
#[test]
fn in_lockless_mode_who_looks_up_waits_for_no_lock_of_a_directory() {
    use std::sync::mpsc;

    let tree = Tree::with(&Config { mode: crate::fs::Mode::Lockless, ..Config::default() }).unwrap();
    tree.mkdir("dir").unwrap();
    tree.create("dir/file").unwrap();
    tree.symlink("file", "dir/link").unwrap();
    let dir = tree.get("dir").unwrap();
    let ((stopped, is_stopped), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel::<()>());
    std::thread::scope(|scope| {
        scope.spawn({
            let (tree, dir) = (&tree, &dir);
            move || {
                let mut emit = |_: DirEntry<'_>| {
                    stopped.send(()).unwrap();
                    may_go_on.recv().unwrap();
                    ControlFlow::Break(())
                };
                tree.fs.read_dir(dir, 2, &mut emit).unwrap();
            }
        });
        is_stopped.recv().unwrap();
        let (finished, is_finished) = mpsc::channel();
        scope.spawn({
            let tree = &tree;
            move || {
                for _ in 0..1000 {
                    assert_eq!(tree.stat("dir").unwrap().size, 80);
                    assert_eq!(tree.stat("dir/../dir/file").unwrap().size, 0);
                    assert_eq!(tree.stat("dir/none"), Err(Errno::ENOENT));
                    for path in ["dir/file", "dir/link"] {
                        let how = OpenHow { read: true, create: true, ..OpenHow::default() };
                        assert!(!Fs::open(tree.at(), path.as_bytes(), &how).unwrap().1);
                    }
                    assert_eq!(Fs::readlink(tree.at(), b"dir/link", &mut [0; 8]), Ok(4));
                }
                finished.send(()).unwrap();
            }
        });
        let finished = is_finished.recv_timeout(Duration::from_secs(60));
        go_on.send(()).unwrap();
        finished.expect("the look-ups waited");
    });
}
