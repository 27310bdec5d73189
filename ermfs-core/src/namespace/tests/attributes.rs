//! Extended attributes: what is kept, what it costs, and that it goes with the inode.

use super::*;

const ANY: XattrSet = XattrSet { create: false, replace: false };

fn name(name: &str) -> XattrName<'_> {
    XattrName::new(name.as_bytes()).unwrap()
}

fn names_of(inode: &InodeRef) -> Vec<String> {
    let list = inode.xattr_names(&ROOT).unwrap();
    let names = list.split_inclusive(|byte| *byte == 0);
    let mut names: Vec<String> =
        names.map(|name| String::from_utf8(name[..name.len() - 1].to_vec()).unwrap()).collect();
    names.sort_unstable();
    names
}

#[test]
fn attributes_are_each_inodes_own() {
    let tree = Tree::new();
    let before = charged(tree.fs.space());
    let files: Vec<InodeRef> = (0..100).map(|i| tree.create(&format!("f{i}")).unwrap()).collect();
    let bare = charged(tree.fs.space());
    for (i, file) in files.iter().enumerate() {
        for j in 0..i % 7 {
            let value = vec![i as u8; i * j];
            file.set_xattr(name(&format!("user.{j}")), &value, ANY, &ROOT).unwrap();
        }
    }
    for (i, file) in files.iter().enumerate() {
        assert_eq!(names_of(file), (0..i % 7).map(|j| format!("user.{j}")).collect::<Vec<_>>());
        for j in 0..i % 7 {
            assert_eq!(file.xattr(name(&format!("user.{j}")), &ROOT), Ok(vec![i as u8; i * j]));
        }
        assert_eq!(file.xattr(name("user.x"), &ROOT), Err(Errno::ENODATA));
        assert_eq!(file.has_attributes(), i % 7 > 0);
    }
    assert!(charged(tree.fs.space()) > bare);
    for (i, file) in files.iter().enumerate().filter(|(i, _)| i % 2 == 0) {
        for j in 0..i % 7 {
            file.remove_xattr(name(&format!("user.{j}")), &ROOT).unwrap();
        }
        assert!(!file.has_attributes());
        assert_eq!(file.remove_xattr(name("user.0"), &ROOT), Err(Errno::ENODATA));
    }
    // The others go with their files, those of an open one with its last reference.
    for i in 0..100 {
        tree.unlink(&format!("f{i}")).unwrap();
    }
    assert_eq!(files[13].xattr(name("user.5"), &ROOT), Ok(vec![13; 65]));
    drop(files);
    eventually(|| charged(tree.fs.space()) <= before + 4096);
    let space = tree.fs.space().clone();
    drop(tree);
    eventually(|| charged(&space) == 0);
}

#[test]
fn a_refused_set_changes_nothing() {
    let (mut refused, mut complete) = (0, 0);
    for max in (600..24_000).step_by(56) {
        let Ok(tree) = Tree::with(&Config { max_bytes: max, ..Config::default() }) else { continue };
        let Ok(files) = (0..12).map(|i| tree.create(&format!("f{i}"))).collect::<Result<Vec<_>>>() else {
            continue;
        };
        let sets = (0..36).map(|i| (&files[i % 12], format!("user.{}", i / 12), vec![i as u8; i * 8]));
        for (file, attribute, value) in sets {
            let (before, names, ctime) = (charged(tree.fs.space()), names_of(file), file.stat().ctime);
            match file.set_xattr(name(&attribute), &value, ANY, &ROOT) {
                Ok(()) => assert_eq!(file.xattr(name(&attribute), &ROOT), Ok(value)),
                Err(error) => {
                    assert_eq!(error, Errno::ENOSPC);
                    assert_eq!((names_of(file), file.stat().ctime), (names, ctime));
                    // What was retired before may have been freed meanwhile.
                    assert!(charged(tree.fs.space()) <= before);
                    refused += 1;
                }
            }
        }
        complete += u32::from(names_of(&files[11]).len() == 3);
        let space = tree.fs.space().clone();
        drop((files, tree));
        eventually(|| charged(&space) == 0);
    }
    assert!(refused > 0 && complete > 0, "{refused} refused, {complete} complete");
}

#[test]
fn threads_see_whole_values() {
    let tree = Tree::new();
    let file = tree.create("f").unwrap();
    let others: Vec<InodeRef> = (0..8).map(|i| tree.create(&format!("o{i}")).unwrap()).collect();
    std::thread::scope(|scope| {
        for byte in 0..2u8 {
            let (file, others) = (&file, &others);
            scope.spawn(move || {
                for round in 0..2_000usize {
                    file.set_xattr(name("user.a"), &vec![byte; 1 + round % 300], ANY, &ROOT).unwrap();
                    let other = &others[round % 4 * 2 + byte as usize];
                    other.set_xattr(name("user.b"), &[byte], ANY, &ROOT).unwrap();
                    if let Ok(value) = file.xattr(name("user.a"), &ROOT) {
                        assert!(!value.is_empty() && value.iter().all(|it| *it == value[0]));
                    }
                    other.remove_xattr(name("user.b"), &ROOT).unwrap();
                    let _ = file.remove_xattr(name("user.a"), &ROOT);
                    assert!(file.has_attributes() || file.xattr_names(&ROOT).is_ok());
                }
            });
        }
    });
    assert!(!file.has_attributes() && names_of(&file).is_empty());
}

#[test]
fn names_and_values_have_limits() {
    let tree = Tree::new();
    let file = tree.create("f").unwrap();
    assert_eq!(XattrName::new(b"").err(), Some(Errno::ERANGE));
    assert_eq!(XattrName::new(&[b'n'; 256]).err(), Some(Errno::ERANGE));
    assert!(XattrName::new(&[b'n'; 255]).is_ok());
    assert_eq!(file.set_xattr(name("user.a"), &[0; XATTR_SIZE_MAX + 1], ANY, &ROOT), Err(Errno::E2BIG));
    assert_eq!(file.set_xattr(name("user.a"), &[0; XATTR_SIZE_MAX], ANY, &ROOT), Ok(()));
    for unknown in ["a", "user", "system.posix_acl_access", "security.capability"] {
        assert_eq!(file.xattr(name(unknown), &ROOT), Err(Errno::EOPNOTSUPP), "{unknown}");
    }
    assert_eq!(file.xattr(name("user."), &ROOT), Err(Errno::EINVAL));
}
