//! What is done to a filesystem while places refuse.
//!
//! Promises: without a refusal every script makes the same calls each time. A call whose file is missing, because a call
//! before it failed, is left out. Owns nothing.

use std::os::fd::OwnedFd;

use ermfs_core::{Compress, Config};
use ermfs_memory::inject;
use rustix::fs::MemfdFlags;

use crate::world::{BLOCK, World, kernels_bytes, noise, text};

pub(crate) struct Script {
    pub(crate) name: &'static str,
    pub(crate) compress: Compress,
    pub(crate) run: fn(&mut World),
}

impl Script {
    pub(crate) fn config(&self) -> Config {
        Config { max_bytes: 64 << 20, compress: self.compress, ..Config::default() }
    }
}

pub(crate) const SCRIPTS: &[Script] = &[
    Script { name: "names", compress: Compress::OnClose, run: names },
    Script { name: "many names", compress: Compress::OnClose, run: many_names },
    Script { name: "writes, packed on close", compress: Compress::OnClose, run: writes },
    Script { name: "writes, never packed", compress: Compress::Never, run: writes },
    Script { name: "writes, packed in the background", compress: Compress::Background, run: writes },
    Script { name: "sizes, packed on close", compress: Compress::OnClose, run: sizes },
    Script { name: "sizes, never packed", compress: Compress::Never, run: sizes },
    Script { name: "allocation, packed on close", compress: Compress::OnClose, run: allocation },
    Script { name: "allocation, never packed", compress: Compress::Never, run: allocation },
    Script { name: "reads at rest", compress: Compress::OnClose, run: reads_at_rest },
    Script { name: "copies and views", compress: Compress::OnClose, run: copies_and_views },
    Script { name: "attributes and locks", compress: Compress::OnClose, run: attributes_and_locks },
    Script { name: "exports", compress: Compress::OnClose, run: exports },
    Script { name: "imports", compress: Compress::OnClose, run: imports },
];

fn names(world: &mut World) {
    world.mkdir("a");
    world.mkdir("a/b");
    world.mkdir("c");
    for name in ["a/one", "a/two", "c/three"] {
        let file = world.create(name);
        world.write(file, 0, name.as_bytes());
        world.close(file);
    }
    world.symlink("../a/one", "c/link");
    world.link("a/one", "a/b/other");
    world.rename("a/one", "a/first", 0);
    world.rename("a/two", "c/two", libc::RENAME_NOREPLACE);
    world.rename("c/three", "c/two", 0);
    world.rename("c/two", "a/first", libc::RENAME_EXCHANGE);
    world.rename("a/b", "c/b", 0);
    world.rename("c/link", "a/first", 0);
    world.list("");
    world.list("c");
    world.walk("c/b");
    let nameless = world.nameless();
    world.write(nameless, 10, b"no name");
    let kept = world.open("c/b/other", libc::O_RDWR | libc::O_TRUNC);
    world.remove("c/b/other");
    world.write(kept, 0, b"still open");
    world.close(kept);
    world.close(nameless);
    world.remove("c/b");
    world.check();
}

fn many_names(world: &mut World) {
    world.mkdir("d");
    let name = |number: usize| format!("d/{number}-{}", "n".repeat(number % 100));
    for number in 0..90 {
        world.symlink("somewhere", &name(number));
    }
    world.list("d");
    for number in (0..90).filter(|number| number % 3 != 0) {
        world.remove(&name(number));
    }
    for number in 90..120 {
        world.symlink("somewhere else", &name(number));
    }
    world.rename("d", "e", 0);
    world.list("e");
}

fn writes(world: &mut World) {
    let file = world.create("f");
    world.write(file, 0, &text(1, 3000));
    world.write(file, 3000, &text(2, 2 * BLOCK));
    world.write(file, 100, &noise(3, 5000));
    world.write(file, BLOCK - 10, &noise(4, 20));
    world.write(file, 40 * BLOCK + 5, b"far away");
    world.close(file);
    let file = world.open("f", libc::O_RDWR);
    world.write(file, BLOCK + 7, b"into a block at rest");
    world.write(file, 0, &text(5, BLOCK));
    world.close(file);
    let log = world.open("log", libc::O_CREAT | libc::O_WRONLY | libc::O_APPEND);
    for line in 0..6 {
        world.write(log, 0, &text(line, 900));
    }
    world.close(log);
    let log = world.open("log", libc::O_WRONLY | libc::O_APPEND);
    world.write(log, 0, &text(9, BLOCK));
    world.close(log);
    let still = world.create("noise");
    world.write(still, 0, &noise(6, BLOCK + 300));
    world.close(still);
    let again = world.open("noise", libc::O_RDWR | libc::O_TRUNC);
    world.write(again, 5, &noise(7, 50));
    world.close(again);
    world.check();
}

fn sizes(world: &mut World) {
    let file = world.create("f");
    world.write(file, 0, &text(1, 3 * BLOCK + 500));
    world.truncate(file, 2 * BLOCK + 4097);
    world.truncate(file, 5 * BLOCK);
    world.close(file);
    let file = world.open("f", libc::O_RDWR);
    world.truncate(file, BLOCK + 100);
    world.truncate(file, BLOCK + 200);
    world.close(file);
    let file = world.open("f", libc::O_RDWR);
    world.truncate(file, 77);
    world.write(file, 90, b"past the end");
    world.truncate(file, 40 * BLOCK);
    world.write(file, 39 * BLOCK, &noise(2, 100));
    world.truncate(file, 0);
    world.close(file);
}

fn allocation(world: &mut World) {
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    let file = world.create("f");
    world.allocate(file, 0, 100, 2 * BLOCK);
    world.allocate(file, libc::FALLOC_FL_KEEP_SIZE, 3 * BLOCK, 5000);
    world.write(file, 0, &text(1, 5 * BLOCK));
    world.allocate(file, PUNCH, BLOCK - 100, BLOCK + 200);
    world.close(file);
    let file = world.open("f", libc::O_RDWR);
    world.allocate(file, PUNCH, 50, 100);
    world.allocate(file, libc::FALLOC_FL_ZERO_RANGE, 3 * BLOCK + 10, BLOCK);
    world.allocate(file, libc::FALLOC_FL_ZERO_RANGE, 5 * BLOCK - 10, 2000);
    world.allocate(file, libc::FALLOC_FL_COLLAPSE_RANGE, BLOCK, BLOCK);
    world.allocate(file, libc::FALLOC_FL_INSERT_RANGE, 2 * BLOCK, 2 * BLOCK);
    world.allocate(file, 0, 0, 6 * BLOCK);
    world.close(file);
    world.check();
}

fn reads_at_rest(world: &mut World) {
    let file = world.create("f");
    world.write(file, 0, &text(1, 4 * BLOCK));
    world.write(file, 4 * BLOCK, &noise(2, BLOCK + 3000));
    world.close(file);
    let small = world.create("small");
    world.write(small, 0, &noise(3, 600));
    world.close(small);
    let file = world.open("f", libc::O_RDONLY);
    for round in 0..3 {
        world.read(file, 0, 100);
        world.read(file, BLOCK + 1000 * round, 100);
        world.read(file, 2 * BLOCK - 50, 100);
        world.read(file, 2 * BLOCK, BLOCK);
    }
    world.read(file, 100, 5 * BLOCK);
    world.close(file);
    let small = world.open("small", libc::O_RDONLY);
    world.read(small, 0, 1000);
    world.close(small);
}

fn copies_and_views(world: &mut World) {
    let from = world.create("from");
    world.write(from, 0, &text(1, 3 * BLOCK));
    world.close(from);
    let from = world.open("from", libc::O_RDWR);
    let to = world.create("to");
    world.copy_range((from, 0), (to, 0), 3 * BLOCK);
    world.copy_range((from, 100), (to, 7), BLOCK + 50);
    world.copy_range((to, 0), (to, 4 * BLOCK), BLOCK);
    let whole = world.view(to, 0, 2 * BLOCK);
    let part = world.view(from, 10, 3000);
    world.write(to, 50, b"under the eyes of a view");
    world.write(from, 0, &noise(2, 200));
    world.truncate(to, BLOCK);
    world.look(&whole);
    world.look(&part);
    drop(whole);
    world.copy_range((from, 0), (to, 1000), 3 * BLOCK);
    world.close(to);
    world.close(from);
    world.look(&part);
    world.check();
}

fn attributes_and_locks(world: &mut World) {
    let files: Vec<_> = (0..4).map(|number| world.create(&format!("f{number}"))).collect();
    for file in &files {
        world.set_attribute(*file, "user.one", b"1");
        world.set_attribute(*file, "user.two", &text(2, 3000));
        world.lock(*file, libc::F_WRLCK, 0, 100);
        world.lock(*file, libc::F_RDLCK, 10, 20);
        world.lock(*file, libc::F_WRLCK, 200, 0);
    }
    world.set_attribute(files[0], "user.one", &noise(3, 200));
    for number in 0..5 {
        world.set_attribute(files[1], &format!("user.n{number}"), b"");
    }
    world.get_attributes(files[1]);
    world.remove_attribute(files[1], "user.two");
    world.lock(files[0], libc::F_UNLCK, 0, 0);
    for file in files {
        world.close(file);
    }
    world.check();
}

fn exports(world: &mut World) {
    const SEALED: i32 = 1;
    const NOCLOEXEC: i32 = 2;
    const NOEXEC: i32 = 4;
    let file = world.create("f");
    world.write(file, 0, &text(1, 2 * BLOCK));
    world.write(file, 3 * BLOCK, &noise(2, BLOCK + 100));
    world.close(file);
    let file = world.open("f", libc::O_RDWR);
    let private = world.export(file, NOEXEC);
    let sealed = world.export(file, SEALED);
    let shared = world.export(file, SEALED | NOCLOEXEC);
    drop((private, sealed));
    world.write(file, 5, b"changed");
    let anew = world.export(file, SEALED);
    drop((shared, anew));
    let open_to_children = world.export(file, NOCLOEXEC);
    drop(open_to_children);
    world.close(file);
    if world.enter() {
        let raw = world.create("raw");
        world.write(raw, 1000, &text(4, 70_000));
        drop(world.export_gzip("raw"));
        world.close(raw);
        drop(world.export_gzip("f"));
        world.leave();
    }
    world.check();
}

fn imports(world: &mut World) {
    let bytes = [text(1, BLOCK + 100), vec![0; 3 * BLOCK], noise(2, 3000)].concat();
    let file = inject::paused(|| kernels_file(&bytes));
    let archive = inject::paused(|| archive_of(&bytes));
    if world.enter() {
        world.import("new", &file, false, &bytes);
        world.import("inflated", &archive, true, &bytes);
        world.import("new", &archive, true, &bytes);
        world.mkdir("d");
        world.leave();
    }
    world.check();
}

fn kernels_file(bytes: &[u8]) -> OwnedFd {
    let fd = rustix::fs::memfd_create("input", MemfdFlags::CLOEXEC).expect("a memfd");
    let mut at = 0;
    while at < bytes.len() {
        at += rustix::io::pwrite(&fd, &bytes[at..], at as u64).expect("written");
    }
    fd
}

/// A gzip stream of `bytes`, made by a filesystem of its own.
fn archive_of(bytes: &[u8]) -> OwnedFd {
    let mut world = World::mounted(&Config::default()).expect("a filesystem");
    let file = world.create("f");
    world.write(file, 0, bytes);
    world.close(file);
    assert!(world.enter());
    let fd = world.export_gzip("f").expect("an archive");
    world.leave();
    world.clear();
    world.end();
    assert!(kernels_bytes(&fd).len() < bytes.len());
    fd
}
