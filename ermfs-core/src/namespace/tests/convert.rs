//! A filesystem's directories from one mode to the other and back.

use super::*;
use crate::fs::Mode;

const MODES: [Mode; 2] = [Mode::Locked, Mode::Lockless];

fn tree_in(mode: Mode, max_bytes: u64) -> Tree {
    Tree::with(&Config { mode, max_bytes, ..Config::default() }).unwrap()
}

fn other(mode: Mode) -> Mode {
    if mode == Mode::Locked { Mode::Lockless } else { Mode::Locked }
}

/// As a caller that is alone: each test's tree is its own.
fn switch(tree: &Tree, mode: Mode) -> Result<()> {
    // SAFETY: no other thread has anything of this filesystem.
    let done = unsafe { tree.fs.set_mode(mode) };
    assert!(done.is_err() || tree.fs.space().mode() == mode);
    done
}

/// Every name below a directory with its cookie, in the order of listing.
fn cookies(tree: &Tree, dir: &InodeRef) -> Vec<(u64, Vec<u8>, u64)> {
    let mut all = Vec::new();
    tree.fs
        .read_dir(dir, 0, &mut |entry| {
            all.push((entry.next_cookie, entry.name.to_vec(), entry.ino));
            ControlFlow::Continue(())
        })
        .unwrap();
    all
}

fn fill(tree: &Tree, random: &mut Random) {
    for i in 0..30 {
        tree.mkdir(&format!("d{i}")).unwrap();
        for j in 0..random.below(40) {
            let name = format!("d{i}/{}-{j}", &"a-name-of-some-length"[..random.below(20)]);
            tree.create(&name).unwrap();
            if random.below(3) == 0 {
                tree.unlink(&name).unwrap();
            }
        }
    }
    for i in 1..30 {
        if random.below(2) == 0 {
            tree.rename(&format!("d{i}"), &format!("d0/moved-{i}")).unwrap();
        }
    }
}

#[test]
fn names_inodes_order_and_cookies_stay() {
    for mode in MODES {
        let tree = tree_in(mode, 1 << 30);
        let mut random = Random(0x5eed + mode as u64);
        fill(&tree, &mut random);
        let held = tree.get("d0").unwrap();
        tree.mkdir("removed").unwrap();
        let removed = tree.get("removed").unwrap();
        tree.rmdir("removed").unwrap();
        let (before, listed) = (tree.everything(), cookies(&tree, &held));
        let mut now = mode;
        for round in 0..200 {
            now = other(now);
            switch(&tree, now).unwrap();
            assert_eq!(cookies(&tree, &held), listed);
            assert_eq!(tree.everything(), before);
            // What comes now comes after all that was there, and goes again.
            tree.create("d0/new").unwrap();
            assert!(cookies(&tree, &held).last().unwrap().0 > listed.last().unwrap().0);
            tree.unlink("d0/new").unwrap();
            assert_eq!(tree.rename("d0", "d0x"), Ok(()));
            assert_eq!(tree.rename("d0x", "d0"), Ok(()));
            let into = Fs::mkdir(tree.below(&removed), b"below", 0o700);
            assert_eq!(into, Err(Errno::ENOENT), "round {round}");
            let place = Fs::rename(tree.at(), b"d0", tree.below(&removed), b"d0", RenameFlags::default());
            assert_eq!(place, Err(Errno::ENOENT));
        }
        drop(removed);
        tree.check();
        let space = tree.fs.space().clone();
        drop((held, tree));
        eventually(|| charged(&space) == 0);
    }
}

#[test]
fn a_deep_tree_needs_no_deep_stack() {
    let tree = Tree::new();
    let mut at = tree.root.clone();
    for _ in 0..20_000 {
        Fs::mkdir(tree.below(&at), b"d", 0o700).unwrap();
        at = Fs::lookup(tree.below(&at), b"d", false).unwrap();
    }
    for mode in MODES {
        switch(&tree, mode).unwrap();
        assert_eq!(tree.fs.path_of(&at).unwrap().len(), 40_000);
    }
}

#[test]
fn without_room_nothing_has_changed() {
    for mode in MODES {
        let (mut refused, mut done) = (0, 0);
        for max in (10_000..160_000).step_by(1501) {
            let tree = tree_in(mode, max);
            for i in 0..8 {
                let _ = tree.mkdir(&format!("d{i}"));
                for j in 0..40 {
                    let _ = tree.create(&format!("d{i}/file-{j}"));
                }
            }
            epoch::flush();
            let (before, bytes) = (tree.everything(), charged(tree.fs.space()));
            match switch(&tree, other(mode)) {
                Ok(()) => done += 1,
                Err(error) => {
                    assert_eq!((error, tree.fs.space().mode()), (Errno::ENOSPC, mode));
                    assert!(charged(tree.fs.space()) <= bytes);
                    refused += 1;
                }
            }
            assert_eq!(tree.everything(), before);
            tree.clear();
            tree.check();
            let space = tree.fs.space().clone();
            drop(tree);
            eventually(|| charged(&space) == 0);
        }
        assert!(refused > 0 && done > 0, "{refused} refused, {done} done");
    }
}
