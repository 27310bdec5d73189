//! Cookies, and a directory's table against a model.

use super::*;

/// Reads on from `cookie`, at most `n` entries; the names and the cookie after them.
fn read_on(tree: &Tree, dir: &InodeRef, mut cookie: u64, n: usize) -> (Vec<String>, u64) {
    let mut names = Vec::new();
    tree.fs
        .read_dir(dir, cookie, &mut |entry| {
            names.push(String::from_utf8(entry.name.to_vec()).unwrap());
            assert!(entry.next_cookie > cookie, "cookies grow");
            cookie = entry.next_cookie;
            if names.len() == n { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    (names, cookie)
}

#[test]
fn a_listing_can_stop_and_go_on_anywhere() {
    let tree = Tree::new();
    tree.mkdir("d").unwrap();
    for name in ["d/a", "d/b", "d/c"] {
        tree.create(name).unwrap();
    }
    let dir = tree.get("d").unwrap();
    for n in 1..=6 {
        let (mut all, mut cookie) = (Vec::new(), 0);
        loop {
            let (some, next) = read_on(&tree, &dir, cookie, n);
            if some.is_empty() {
                break;
            }
            all.extend(some);
            cookie = next;
        }
        assert_eq!(all, [".", "..", "a", "b", "c"]);
    }
    assert_eq!(
        tree.fs.read_dir(&tree.get("d/a").unwrap(), 0, &mut |_| ControlFlow::Break(())),
        Err(Errno::ENOTDIR)
    );
}

#[test]
fn what_is_left_alone_is_listed_exactly_once() {
    let mut random = Random(0x5eed);
    for round in 0..30 {
        let tree = Tree::new();
        let keep: Vec<String> = (0..60).map(|i| format!("keep-{i:03}-{}", "x".repeat(i % 40))).collect();
        let mut others = Vec::new();
        for (i, name) in keep.iter().enumerate() {
            tree.create(name).unwrap();
            for j in 0..random.below(4) {
                let other = format!("other-{i}-{j}");
                tree.create(&other).unwrap();
                others.push(other);
            }
        }
        let (mut seen, mut cookie, mut made) = (Vec::new(), 0, 0);
        loop {
            let (some, next) = read_on(&tree, &tree.root, cookie, 1 + random.below(9));
            if some.is_empty() {
                break;
            }
            seen.extend(some);
            cookie = next;
            // Disturb: remove, make, rename, replace; enough to close up holes.
            for _ in 0..6 {
                match random.below(4) {
                    0 if made < 100 => {
                        made += 1;
                        let name = format!("made-{round}-{made}");
                        tree.create(&name).unwrap();
                        others.push(name);
                    }
                    1 if others.len() > 1 => {
                        let (from, to) =
                            (others.swap_remove(random.below(others.len())), random.below(others.len()));
                        tree.rename(&from, &others[to]).unwrap();
                    }
                    2 if !others.is_empty() => {
                        let at = random.below(others.len());
                        let name = format!("{}+", others[at]);
                        tree.rename(&others[at], &name).unwrap();
                        others[at] = name;
                    }
                    _ if !others.is_empty() => {
                        tree.unlink(&others.swap_remove(random.below(others.len()))).unwrap();
                    }
                    _ => {}
                }
            }
        }
        let mut kept: Vec<String> = seen.into_iter().filter(|name| name.starts_with("keep")).collect();
        assert_eq!(kept.len(), keep.len());
        kept.sort();
        assert_eq!(kept, keep);
        tree.check();
    }
}

#[test]
fn renaming_while_listing_ends() {
    let tree = Tree::new();
    for i in 0..50 {
        tree.create(&format!("f{i}")).unwrap();
    }
    let (mut cookie, mut steps) = (2, 0);
    loop {
        let (some, next) = read_on(&tree, &tree.root, cookie, 1);
        let Some(name) = some.first() else { break };
        tree.rename(name, &format!("{name}.renamed-to-something-long")).unwrap();
        (cookie, steps) = (next, steps + 1);
    }
    assert_eq!(steps, 50);
}

#[test]
fn a_directory_behaves_as_a_map_at_every_size() {
    let mut random = Random(0xfeed);
    let tree = Tree::new();
    let before = charged(tree.fs.space());
    let mut model: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    // Grows to some size, shrinks to nothing, again and again: over all the steps of table and index.
    for target in [3, 8, 9, 20, 100, 1000, 5000] {
        let mut grow = true;
        while grow || !model.is_empty() {
            let name =
                format!("{}{}", "long-name-".repeat(random.below(4)), random.below(target * 2)).into_bytes();
            if grow || random.below(10) == 0 {
                match Fs::mknod(tree.at(), &name, 0o600, 0) {
                    Ok(()) => {
                        let ino = Fs::stat(tree.at(), &name, false).unwrap().ino;
                        assert!(model.insert(name, ino).is_none());
                    }
                    Err(error) => assert!(error == Errno::EEXIST && model.contains_key(&name)),
                }
            } else if let Some((name, _)) = model.pop_first() {
                Fs::unlink(tree.at(), &name).unwrap();
            }
            if random.below(3) == 0
                && let Some((other, ino)) = model.pop_last()
            {
                let new = format!("renamed-{}", random.below(target)).into_bytes();
                Fs::rename(tree.at(), &other, tree.at(), &new, RenameFlags::default()).unwrap();
                model.insert(new, ino);
            }
            grow = grow && model.len() < target;
            if model.len().is_multiple_of(64) {
                assert_eq!(tree.list("/"), model);
            }
            assert_eq!(tree.root.stat().size, model.len() as u64 * 20 + 40);
        }
        // An empty directory keeps a small table at the most.
        eventually(|| charged(tree.fs.space()) <= before + 400);
    }
}

#[test]
fn deep_trees_are_walked_listed_and_freed() {
    let tree = Tree::new();
    let space = tree.fs.space().clone();
    let depth = 100_000;
    let mut dir = tree.root.clone();
    for _ in 0..depth {
        Fs::mkdir(tree.below(&dir), b"d", 0o700).unwrap();
        dir = Fs::lookup(tree.below(&dir), b"d", false).unwrap();
    }
    assert_eq!(tree.fs.path_of(&dir).unwrap().len(), 2 * depth);
    assert_eq!(tree.fs.statistics().directories, depth as u64 + 1);
    let over = Fs::rename(tree.at(), b"d", tree.below(&dir), b"x", RenameFlags::default());
    assert_eq!(over, Err(Errno::EINVAL));
    // The deepest one is open while the tree goes, and lives on.
    drop(tree);
    assert_eq!(dir.stat().nlink, 0);
    assert!(charged(&space) > 0);
    // It was the last hold of all those above it.
    drop(dir);
    eventually(|| charged(&space) == 0);
}

#[test]
fn removed_directories_that_hang_on_one_another_go_together() {
    let tree = Tree::new();
    let before = charged(tree.fs.space());
    let mut chain = vec![tree.root.clone()];
    for i in 0..50_000 {
        Fs::mkdir(tree.below(&chain[i]), b"d", 0o700).unwrap();
        chain.push(Fs::lookup(tree.below(&chain[i]), b"d", false).unwrap());
    }
    let last = chain.pop().unwrap();
    while let Some(dir) = chain.pop() {
        Fs::rmdir(tree.below(&dir), b"d").unwrap();
    }
    assert_eq!(tree.fs.statistics().directories, 50_001);
    drop(last);
    assert_eq!(tree.fs.statistics().directories, 1);
    eventually(|| charged(tree.fs.space()) <= before + 400);
    tree.check();
}
