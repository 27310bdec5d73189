//! A mount whose filesystem is changed by calls in process at the same time. Skipped, aloud, where nothing can be mounted.
//!
//! What must hold: nothing waits for anything for ever, and once nobody changes anything any more, what the kernel shows
//! through the mount is what the engine has, in every name, byte and attribute, within moments.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ermfs_core::{At, Config, Credentials, Errno, Fs, InodeRef, OpenHow, RenameFlags, Sink, Source};
use ermfs_fuse::{Mount, MountOptions};

/// Few names, so that all threads meet on them.
const NAMES: [&str; 6] = ["a", "b", "d/a", "d/b", "d/e/a", "d/e/c"];
const DIRECTORIES: [&str; 3] = ["d", "d/e", "x"];
const ROUNDS: usize = 4;
const CHANGES: usize = 3000;

/// A generator of numbers that need not be good: xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn of<'a>(&mut self, names: &[&'a str]) -> &'a str {
        names[self.below(names.len())]
    }
}

/// One change by the engine's calls. Whether it succeeds depends on what the others do.
fn change_in_process(fs: &Arc<Fs>, root: &InodeRef, who: &Credentials, random: &mut Random) {
    let at = At { fs, dir: root, who, umask: 0 };
    let (name, other) = (random.of(&NAMES).as_bytes(), random.of(&NAMES).as_bytes());
    let _: Result<(), Errno> = match random.below(8) {
        0 => Fs::unlink(at, name),
        1 => Fs::rename(at, name, at, other, RenameFlags::default()),
        2 => Fs::rename(at, name, at, other, RenameFlags { exchange: true, no_replace: false }),
        3 => Fs::link(at, name, at, other, false),
        4 => Fs::mkdir(at, random.of(&DIRECTORIES).as_bytes(), 0o755),
        5 => Fs::rename(at, b"d", at, b"x", RenameFlags::default()),
        _ => write_in_process(at, name, random),
    };
}

fn write_in_process(at: At<'_>, name: &[u8], random: &mut Random) -> Result<(), Errno> {
    let how = OpenHow { write: true, create: true, mode: 0o644, ..OpenHow::default() };
    let (inode, _) = Fs::open(at, name, &how)?;
    let content = inode.content().ok_or(Errno::EISDIR)?;
    let bytes = vec![random.below(256) as u8; random.below(20_000)];
    content.write_at(random.below(10_000) as u64, &mut Source::new(&bytes))?;
    inode.note_write(at.who);
    Ok(())
}

/// One change by the kernel's calls.
fn change_by_mount(dir: &Path, random: &mut Random) {
    let (name, other) = (dir.join(random.of(&NAMES)), dir.join(random.of(&NAMES)));
    let _: std::io::Result<()> = match random.below(10) {
        0 => fs::remove_file(name),
        1 => fs::rename(name, other),
        2 => fs::hard_link(name, other),
        3 => fs::create_dir(dir.join(random.of(&DIRECTORIES))),
        4 => fs::remove_dir(dir.join(random.of(&DIRECTORIES))),
        5 => fs::read(name).map(drop),
        6 => fs::read_dir(name.parent().unwrap()).map(|entries| assert!(entries.count() < 100)),
        7 => fs::metadata(name).map(drop),
        8 => fs::rename(dir.join("x"), dir.join("d")),
        _ => fs::File::options().write(true).create(true).truncate(false).open(name).and_then(|file| {
            let bytes = vec![random.below(256) as u8; random.below(20_000)];
            file.write_all_at(&bytes, random.below(10_000) as u64)
        }),
    };
}

/// All that is compared of a file or directory: number, mode, links, size, mtime, bytes.
type Seen = (u64, u32, u64, u64, (i64, i64), Vec<u8>);

fn engine_tree(fs: &Arc<Fs>, dir: &InodeRef, path: &str, tree: &mut BTreeMap<String, Seen>) {
    let mut names = Vec::new();
    fs.read_dir(dir, 0, &mut |entry| {
        if entry.name != b"." && entry.name != b".." {
            names.push(String::from_utf8(entry.name.to_vec()).unwrap());
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    for name in names {
        let at = At { fs, dir, who: fs.credentials(), umask: 0 };
        let inode = Fs::lookup(at, name.as_bytes(), false).unwrap();
        let metadata = inode.stat();
        let path = format!("{path}/{name}");
        let (mut bytes, mut size) = (Vec::new(), 0);
        if let Some(content) = inode.content() {
            bytes = vec![0; metadata.size as usize];
            assert_eq!(content.read_at(0, &mut Sink::new(&mut bytes)), Ok(bytes.len()));
            size = metadata.size;
        } else {
            engine_tree(fs, &inode, &path, tree);
        }
        let mtime = (metadata.mtime.0, metadata.mtime.1.into());
        tree.insert(path, (metadata.ino, metadata.mode, metadata.nlink, size, mtime, bytes));
    }
}

/// The same as the kernel shows it; an error where it shows what is not there.
fn kernel_tree(dir: &Path, path: &str, tree: &mut BTreeMap<String, Seen>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = format!("{path}/{}", entry.file_name().into_string().unwrap());
        let metadata = fs::symlink_metadata(entry.path())?;
        let (mut bytes, mut size) = (Vec::new(), 0);
        if metadata.is_dir() {
            kernel_tree(&entry.path(), &path, tree)?;
        } else {
            (bytes, size) = (fs::read(entry.path())?, metadata.len());
        }
        let mtime = (metadata.mtime(), metadata.mtime_nsec());
        tree.insert(path, (metadata.ino(), metadata.mode(), metadata.nlink(), size, mtime, bytes));
    }
    Ok(())
}

/// Names that the kernel shows to who asks for them alone, but wrongly: listing a directory would mend what it knows.
fn wrong_names(dir: &Path, engine: &BTreeMap<String, Seen>) -> Vec<String> {
    let leaves = ["a", "b", "c", "d", "e", "x"];
    let parents = ["", "/d", "/x", "/d/e", "/x/e"];
    let paths = parents.iter().flat_map(|parent| leaves.iter().map(move |leaf| format!("{parent}/{leaf}")));
    paths
        .filter(|path| {
            let shown = fs::symlink_metadata(dir.join(&path[1..])).ok().map(|metadata| metadata.ino());
            shown != engine.get(path).map(|seen| seen.0)
        })
        .collect()
}

/// What differs, without the bytes.
fn difference(engine: &BTreeMap<String, Seen>, kernel: &BTreeMap<String, Seen>) -> String {
    let mut text = String::new();
    for path in engine.keys().chain(kernel.keys().filter(|path| !engine.contains_key(*path))) {
        let (ours, theirs) = (engine.get(path), kernel.get(path));
        if ours != theirs {
            let brief =
                |seen: Option<&Seen>| seen.map(|(a, b, c, d, e, bytes)| (*a, *b, *c, *d, *e, bytes.len()));
            text += &format!("{path}: engine {:?}, kernel {:?}\n", brief(ours), brief(theirs));
        }
    }
    text
}

#[test]
fn the_kernel_shows_what_the_engine_has_after_both_have_changed_it() {
    let dir = std::env::temp_dir().join(format!("ermfs-beside-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let fs = Fs::new(&Config::default()).unwrap();
    let mount = match Mount::new(Arc::clone(&fs), &dir, &MountOptions::default()) {
        Ok(mount) => mount,
        Err(error) => {
            println!("SKIPPED: nothing can be mounted here: {error}");
            return fs::remove_dir(&dir).unwrap();
        }
    };
    for round in 0..ROUNDS {
        let running = AtomicBool::new(true);
        std::thread::scope(|scope| {
            let by_mount = scope.spawn(|| {
                let mut random = Random(round as u64 * 7 + 3);
                while running.load(Relaxed) {
                    change_by_mount(&dir, &mut random);
                }
            });
            let workers: Vec<_> = (0..2u64)
                .map(|worker| {
                    let fs = &fs;
                    scope.spawn(move || {
                        let mut random = Random(round as u64 * 1000 + worker + 1);
                        let root = fs.root();
                        for change in 0..CHANGES {
                            change_in_process(fs, &root, fs.credentials(), &mut random);
                            if change % 16 == 0 {
                                std::thread::sleep(Duration::from_micros(200));
                            }
                        }
                    })
                })
                .collect();
            workers.into_iter().for_each(|worker| worker.join().unwrap());
            running.store(false, Relaxed);
            by_mount.join().unwrap();
        });
        let mut engine = BTreeMap::new();
        engine_tree(&fs, &fs.root(), "", &mut engine);
        // Well before what the kernel keeps would end by itself.
        let end = Instant::now() + Duration::from_secs(3);
        loop {
            let wrong = wrong_names(&dir, &engine);
            if wrong.is_empty() {
                break;
            }
            assert!(Instant::now() < end, "round {round}: {wrong:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        loop {
            let mut kernel = BTreeMap::new();
            let shown = kernel_tree(&dir, "", &mut kernel);
            if shown.is_ok() && kernel == engine {
                break;
            }
            assert!(Instant::now() < end, "round {round}: {shown:?}\n{}", difference(&engine, &kernel));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    mount.unmount().unwrap();
    fs::remove_dir(&dir).unwrap();
}
