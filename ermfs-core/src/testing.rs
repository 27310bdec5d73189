//! What tests of several modules share.

use std::process::Command;

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
