//! What tests of several modules share.

use core::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::process::Command;
use std::sync::Arc;

use ermfs_memory::Usage;

use crate::content::garbage;
use crate::epoch;
use crate::space::Space;

/// Runs `test`, the test `name` of the module `module` (its `module_path!()`), in a process of its own of
/// which it is the only test: other tests' threads may hold locks at the moment of a fork, because they do
/// not come through the gate.
pub(crate) fn alone(module: &str, name: &str, test: impl FnOnce()) {
    const MARK: &str = "ERMFS_TEST_ALONE";
    if std::env::var_os(MARK).is_some() {
        return test();
    }
    let (_, module) = module.split_once("::").expect("a path in this crate");
    let mut itself = Command::new(std::env::current_exe().expect("this test"));
    itself.args(["--exact", &format!("{module}::{name}"), "--test-threads=1"]).env(MARK, "1");
    let output = itself.output().expect("this test can be run again");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Waits until what this thread has retired is freed.
pub(crate) fn settle() {
    garbage::push();
    let done = Arc::new(AtomicBool::new(false));
    let sentinel = Arc::clone(&done);
    epoch::pin().defer(move || sentinel.store(true, SeqCst));
    while !done.load(SeqCst) {
        epoch::flush();
        std::thread::yield_now();
    }
}

/// What a filesystem takes, once what nobody looks at any more is freed.
pub(crate) fn usage(space: &Space) -> Usage {
    settle();
    // Another thread may have begun to free some of it; what a pin holds back stays.
    for _ in 0..1000 {
        if !space.has_garbage() {
            break;
        }
        std::thread::yield_now();
    }
    space.budget().usage()
}
