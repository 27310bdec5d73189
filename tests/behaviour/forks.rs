//! A child after `fork` has its own copy of everything, usable at once.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::scope;

use ermfs::Fs;

use crate::common::{BLOCK, for_each_policy, mixed, noise, text};

/// How long a child may take, in seconds, until it is killed: it hangs.
const LIMIT: u32 = 30;

/// Runs `work` in a child and answers whether it came to `true` there.
fn in_a_child(work: impl FnOnce() -> io::Result<bool>) -> bool {
    // SAFETY: the child calls only `work`, which uses the library and the allocator, both of which are made for that,
    // and leaves by _exit.
    match unsafe { libc::fork() } {
        -1 => panic!("{}", io::Error::last_os_error()),
        0 => {
            // SAFETY: neither call touches memory.
            unsafe {
                libc::alarm(LIMIT);
                libc::_exit(if matches!(work(), Ok(true)) { 0 } else { 1 })
            }
        }
        child => {
            let mut status = 0;
            // SAFETY: `status` is a local integer.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            status == 0
        }
    }
}

#[test]
fn a_child_finds_everything_whole_whatever_other_threads_were_doing() {
    for_each_policy(|fs| {
        let (content, stop) = (mixed(1), &AtomicBool::new(false));
        fs.write("/fixed", &content).unwrap();
        let fixed = fs.open("/fixed").unwrap();
        scope(|threads| {
            for thread in 0..3 {
                threads.spawn(move || {
                    while !stop.load(Relaxed) {
                        let path = format!("/{thread}");
                        fs.write(&path, text(thread, 2 * BLOCK)).unwrap();
                        let view = fs.open(&path).unwrap().view(..).unwrap();
                        fs.remove_file(&path).unwrap();
                        assert_eq!(view.len(), 2 * BLOCK);
                        // Dropping a whole tree, too, is work that a fork has to wait for.
                        let other = Fs::new().unwrap();
                        for number in 0..200 {
                            other.write(format!("/{number}"), noise(number, 300)).unwrap();
                        }
                    }
                });
            }
            for round in 0..20 {
                let whole = in_a_child(|| {
                    let mut whole = fs.read("/fixed")? == content;
                    whole &= fixed.view(..)?.len() == content.len();
                    fs.write("/child", text(round, BLOCK))?;
                    whole &= fs.read("/child")? == text(round, BLOCK);
                    fs.remove_file("/fixed")?;
                    let new = Fs::new()?;
                    new.create_dir_all("/a/b")?;
                    Ok(whole)
                });
                assert!(whole, "round {round}");
            }
            stop.store(true, Relaxed);
        });
        assert!(fs.read("/fixed").unwrap() == content);
        assert!(!fs.exists("/child").unwrap());
    });
}
