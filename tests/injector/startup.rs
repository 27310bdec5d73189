//! What a process makes once: address space, descriptor table, the default filesystem, the packer's thread, who it is; and the
//! switch of the mode. Each start is made in a process of its own.

use std::process::Command;
use std::sync::{Arc, PoisonError};

use ermfs_core::{Changed, Compress, Config, Observer, Result, Sink, Source, process};
use ermfs_memory::inject::{self, Which};

use crate::world::{MEMORY, text};

/// What is come to at the start only.
pub(crate) const LABELS: &[&str] =
    &["mmap", "mprotect", "arena", "zeroed", "credentials", "packer.thread", "observers.grow"];

const NUMBER: &str = "ERMFS_INJECTOR_START";
const FROM_THEN_ON: &str = "ERMFS_INJECTOR_START_ALL";
const TEST: &str = "startup::a_start_that_fails_can_be_made_again";

struct Deaf;

impl Observer for Deaf {
    fn inode_changed(&self, _: u64, _: Changed) {}
    fn entry_changed(&self, _: u64, _: &[u8]) {}
}

/// First use of everything; the file's name must be a new one.
fn start(name: &[u8]) -> Result<()> {
    let write = |root: i32| {
        let fd = process::openat(root, name, libc::O_CREAT | libc::O_RDWR, 0o644)?;
        let written = process::write(fd, &mut Source::new(&text(1, 100_000)));
        process::close(fd)?;
        written.map(drop)
    };
    process::refresh_credentials()?;
    write(process::AT_FDCWD)?;
    let root = process::fsmount(&Config { compress: Compress::Background, ..Config::default() })?;
    let observed = process::open_file(root).and_then(|file| file.fs().observe(Arc::new(Deaf)));
    let written = write(root);
    process::close(root)?;
    observed.and(written)
}

fn child(which: Which) {
    inject::arm(which);
    let started = start(b"first");
    let (made, _) = inject::disarm();
    if let Err(error) = started {
        assert!(made > 0 && MEMORY.contains(&error), "{which:?}: {error:?}");
    }
    assert_eq!(start(b"second"), Ok(()), "{which:?}");
    let fd = process::openat(process::AT_FDCWD, b"second", libc::O_RDONLY, 0).expect("it is there");
    let mut bytes = vec![0; 100_000];
    assert_eq!(process::read(fd, &mut Sink::new(&mut bytes)), Ok(100_000));
    assert!(bytes == text(1, 100_000));
    let at: Vec<_> = inject::failures().keys().map(|failure| failure.label).collect();
    println!("refused {made} {}", at.join(" "));
}

#[test]
fn a_start_that_fails_can_be_made_again() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    if let Some(number) = number(NUMBER) {
        return child(Which::One(number));
    }
    if let Some(number) = number(FROM_THEN_ON) {
        return child(Which::All(number));
    }
    // The other tests count the process's descriptors.
    let _alone = crate::ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut met = Vec::new();
    for plan in [NUMBER, FROM_THEN_ON] {
        for number in 1.. {
            let mut itself = Command::new(std::env::current_exe().expect("this test"));
            itself.args(["--exact", TEST, "--nocapture"]).env(plan, number.to_string());
            let output = itself.output().expect("this test can be run again");
            let said = String::from_utf8_lossy(&output.stdout);
            let refused = said.lines().find_map(|line| line.split_once("refused ").map(|(_, rest)| rest));
            let Some(refused) = refused.filter(|_| output.status.success()) else {
                panic!("{plan}={number}: {said}{}", String::from_utf8_lossy(&output.stderr));
            };
            if refused.starts_with("0 ") {
                println!("{plan}: {} starts without", number - 1);
                break;
            }
            met.extend(refused.split(' ').skip(1).map(String::from));
        }
    }
    let missed: Vec<_> = LABELS.iter().filter(|label| !met.iter().any(|met| met == *label)).collect();
    assert!(missed.is_empty(), "nothing failed at {missed:?}");
}

#[test]
fn a_switch_that_fails_changes_nothing() {
    let _alone = crate::ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let here = process::AT_FDCWD;
    let name = |directory: usize, number: usize| format!("/s{directory}/{number}").into_bytes();
    for directory in 0..3 {
        process::mkdirat(here, format!("/s{directory}").as_bytes(), 0o755).expect("a directory");
        (0..directory * 40)
            .for_each(|number| process::symlinkat(b"x", here, &name(directory, number)).expect("a link"));
    }
    let mut failed = 0;
    for plan in [Which::One, Which::All] {
        for number in 1.. {
            let before = process::is_lockless();
            inject::arm(plan(number));
            let switched = process::set_lockless_mode(!before);
            let (made, _) = inject::disarm();
            assert_eq!(process::is_lockless(), before != switched.is_ok());
            for directory in 0..3 {
                let all =
                    (0..directory * 40).all(|at| process::readlinkat(here, &name(directory, at)).is_ok());
                assert!(all, "{number}: a name is lost");
            }
            match switched {
                Ok(()) => process::set_lockless_mode(before).expect("and back"),
                Err(error) => {
                    failed += 1;
                    assert!(MEMORY.contains(&error) && made > 0, "{error:?}");
                }
            }
            if made == 0 {
                break;
            }
        }
    }
    for directory in 0..3 {
        (0..directory * 40)
            .for_each(|number| process::unlinkat(here, &name(directory, number), 0).expect("removed"));
        process::unlinkat(here, format!("/s{directory}").as_bytes(), libc::AT_REMOVEDIR).expect("removed");
    }
    println!("{failed} switches failed");
    assert!(failed > 0);
}
