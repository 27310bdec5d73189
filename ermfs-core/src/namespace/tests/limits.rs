//! Budgets: what refuses, what must not, and that everything comes back.

use super::*;

fn tiny(max_bytes: u64) -> Config {
    Config { max_bytes, ..Config::default() }
}

type Step = Box<dyn Fn(&Tree) -> Result<()>>;

/// A script that needs memory in every way there is; each step is tried by itself.
fn steps() -> Vec<Step> {
    fn step(run: impl Fn(&Tree) -> Result<()> + 'static) -> Step {
        Box::new(run)
    }
    let mut steps = vec![step(|tree| tree.mkdir("dir")), step(|tree| tree.mkdir("other"))];
    for i in 0..12 {
        steps.push(step(move |tree| tree.create(&format!("dir/f{i}")).map(drop)));
    }
    steps.push(step(|tree| tree.create("dir/a-name-that-does-not-fit-its-entry").map(drop)));
    steps.push(step(|tree| tree.symlink("a target of a symbolic link that takes some memory", "link")));
    steps.push(step(|tree| tree.link("dir/f0", "other/a-second-name-of-that-file")));
    steps.push(step(|tree| tree.rename("dir/f1", "dir/f1-with-a-name-that-is-much-longer")));
    steps.push(step(|tree| tree.mkdir("third")));
    // Its first entry is what a directory's table is made for.
    steps.push(step(|tree| tree.rename("dir/f2", "third/f2")));
    steps.push(step(|tree| tree.rename("dir", "other/dir-with-a-name-that-is-much-longer")));
    steps.push(step(|tree| {
        let how = OpenHow { tmpfile: true, write: true, mode: 0o600, ..OpenHow::default() };
        let (file, _) = Fs::open(tree.at(), b".", &how)?;
        Fs::link_inode(&file, tree.at(), b"from-a-temporary-file")
    }));
    steps
}

#[test]
fn what_is_refused_has_changed_nothing() {
    let (mut refusals, mut complete) = (std::collections::BTreeSet::new(), 0);
    for max in (200..12_000).step_by(24) {
        let Ok(tree) = Tree::with(&tiny(max)) else { continue };
        let space = tree.fs.space().clone();
        let mut refused = false;
        for (i, step) in steps().iter().enumerate() {
            let before = tree.everything();
            match step(&tree) {
                Ok(()) => {}
                Err(Errno::ENOSPC) => {
                    assert_eq!(tree.everything(), before);
                    refusals.insert(i);
                    refused = true;
                    break;
                }
                Err(error) => panic!("step {i}: {error:?}"),
            }
        }
        complete += u32::from(!refused);
        tree.check();
        assert!(charged(&space) <= max);
        // A full filesystem can be emptied, and then filled again as far as before.
        tree.clear();
        assert_eq!(tree.everything().len(), 0);
        drop(tree);
        eventually(|| charged(&space) == 0);
    }
    assert!(complete > 0);
    assert_eq!(refusals.len(), steps().len(), "each step was refused at some budget: {refusals:?}");
}

#[test]
fn replacing_works_in_a_full_filesystem() {
    let tree = Tree::with(&tiny(64 * 1024)).unwrap();
    tree.mkdir("d").unwrap();
    let mut files = 0;
    while tree.create(&format!("d/file-number-{files:08}-of-a-great-many")).is_ok() {
        files += 1;
    }
    assert!(files > 100);
    // What is left is less than an inode, after these.
    let how = OpenHow { tmpfile: true, write: true, ..OpenHow::default() };
    let held: Vec<_> = core::iter::from_fn(|| Fs::open(tree.at(), b".", &how).ok()).collect();
    assert_eq!(tree.mkdir("more"), Err(Errno::ENOSPC));
    let existing = |i: usize| format!("d/file-number-{i:08}-of-a-great-many");
    tree.rename(&existing(0), &existing(1)).unwrap();
    tree.rename_with(&existing(1), &existing(2), RenameFlags { exchange: true, ..RenameFlags::default() })
        .unwrap();
    drop(held);
    for i in 1..files {
        tree.unlink(&existing(i)).unwrap();
        // Room that was given back is there at once, though the collector holds the shells for a while.
        if i % 50 == 0 {
            tree.create("again").unwrap();
            tree.unlink("again").unwrap();
        }
    }
    tree.clear();
    assert!(tree.fs.statistics().hard_limit_hits >= 2);
    tree.check();
}

#[test]
fn what_takes_away_or_replaces_needs_not_one_byte() {
    let tree = Tree::with(&tiny(64 * 1024)).unwrap();
    let names = |i: usize| (format!("d{i}"), format!("file-{i}-with-a-name-that-takes-memory"));
    for (dir, file) in (0..18).map(names) {
        tree.mkdir(&dir).unwrap();
        tree.create(&file).unwrap();
    }
    let (budget, mut filled) = (tree.fs.space().budget(), 0);
    // What was retired before may come back at any time, so this is done again for each call.
    let mut fill = || {
        let left = budget.usage().max - budget.usage().total;
        assert_eq!(
            budget.charge(ermfs_memory::Kind::Metadata, left, ermfs_memory::Purpose::Reserved),
            Ok(())
        );
        filled += left;
    };
    let exchange = RenameFlags { exchange: true, no_replace: false };
    for i in (0..18).step_by(3) {
        let [(dir, file), (next_dir, next_file), (_, last_file)] = [names(i), names(i + 1), names(i + 2)];
        fill();
        tree.unlink(&file).unwrap();
        fill();
        tree.rename(&next_file, &last_file).unwrap();
        fill();
        tree.rename(&dir, &next_dir).unwrap();
        fill();
        tree.rename_with(&next_dir, &last_file, exchange).unwrap();
        fill();
        tree.rmdir(&last_file).unwrap();
    }
    tree.fs.space().release(ermfs_memory::Kind::Metadata, filled);
    tree.check();
    let left: Vec<_> = tree.everything().into_keys().collect();
    assert_eq!(left.len(), 12, "{left:?}");
    assert!((0..18).step_by(3).all(|i| tree.stat(&names(i + 1).0).unwrap().kind == InodeKind::File));
}

#[test]
fn a_full_filesystem_still_says_what_exists() {
    let tree = Tree::with(&tiny(8 * 1024)).unwrap();
    let mut files = 0;
    while tree.create(&format!("f{files}")).is_ok() {
        files += 1;
    }
    assert_eq!(tree.create("f0").unwrap_err(), Errno::EEXIST);
    assert_eq!(tree.mkdir("f0"), Err(Errno::EEXIST));
    assert_eq!(tree.symlink("x", "f0"), Err(Errno::EEXIST));
    let how = OpenHow { create: true, ..OpenHow::default() };
    assert!(!Fs::open(tree.at(), b"f0", &how).unwrap().1);
}

#[test]
fn a_dropped_filesystem_gives_everything_back() {
    let tree = Tree::new();
    let space = tree.fs.space().clone();
    for i in 0..20 {
        tree.mkdir(&format!("d{i}")).unwrap();
        for j in 0..40 {
            tree.create(&format!("d{i}/a-long-file-name-number-{j}")).unwrap();
            tree.symlink("target", &format!("d{i}/s{j}")).unwrap();
            tree.link(&format!("d{i}/s{j}"), &format!("hard-{i}-{j}")).unwrap();
        }
    }
    let held = tree.get("d3/a-long-file-name-number-7").unwrap();
    let held_dir = tree.get("d5").unwrap();
    assert!(charged(&space) > 20 * 40 * 400);
    drop(tree);
    // Two inodes are held, one of them a directory, and the parent that it holds.
    eventually(|| charged(&space) < 1000);
    assert_eq!((held.stat().nlink, held_dir.stat().nlink), (0, 0));
    drop((held, held_dir));
    eventually(|| charged(&space) == 0);
}

#[test]
fn unlinking_frees_content_at_once() {
    let tree = Tree::new();
    let file = tree.create("file").unwrap();
    let content = file.content().unwrap();
    let data = vec![7u8; 100_000];
    assert_eq!(content.write_at(0, &mut crate::content::Source::new(&data)), Ok(data.len()));
    let raw = || crate::testing::usage(tree.fs.space()).raw;
    assert!(raw() >= 100_000);
    tree.link("file", "other").unwrap();
    tree.unlink("file").unwrap();
    tree.unlink("other").unwrap();
    assert!(raw() >= 100_000 && file.stat().size == 100_000);
    drop(file);
    assert_eq!(raw(), 0);
}
