//! Where the engine itself can be refused something, for tests to make it happen; see [`ermfs_memory::inject`], which also
//! has the places of memory and budget and is asked here.
//!
//! Promises: nothing is left of it without the feature `injector`; a label that is not in [`LABELS`] does not compile. Owns
//! the list of the engine's labels. A system call at such a place is not made when it is to fail.

#![cfg_attr(not(feature = "injector"), allow(unreachable_pub, reason = "only tests reach it"))]

use ermfs_memory::inject::is_listed;

/// The engine's places. Labels that start with `locked.` or `lockless.` are of that mode only.
pub const LABELS: &[&str] = &[
    // Tables and lists, as they grow.
    "attributes.grow",
    "cache.grow",
    "charged.grow",
    "locks.grow",
    "names.grow",
    "lockless.names.table",
    "lockless.names.dentry",
    "sealed.grow",
    // What a thread keeps for its work, and what a call needs for its own.
    "scratch",
    "codec.state",
    "codec.room",
    "inflate.state",
    "inflate.input",
    "path",
    // The process: who it is, what its filesystems are; the packer's queue and thread.
    "credentials",
    "observers.grow",
    "packer.queue",
    "packer.thread",
    // Kernel descriptors out.
    "memfd.create",
    "memfd.truncate",
    "memfd.write",
    "memfd.write.short",
    "memfd.stat",
    "memfd.seal",
    "memfd.reopen",
    "memfd.setfd",
    // And in.
    "import.stat",
    "import.read",
    "import.seek",
];

/// For the check at compile time.
pub(crate) const fn is_ours(label: &str) -> bool {
    is_listed(LABELS, label)
}

/// Whether the place of this label, which has been come to, is to refuse.
macro_rules! fails {
    ($label:literal) => {{
        const { assert!($crate::inject::is_ours($label), "a label that is not in the list") };
        ermfs_memory::inject::fails($label)
    }};
}
pub(crate) use fails;

/// An `AllocError::Memory` when the place of this label is to refuse.
macro_rules! allocation {
    ($label:literal) => {{
        const { assert!($crate::inject::is_ours($label), "a label that is not in the list") };
        ermfs_memory::inject::allocation($label)
    }};
}
pub(crate) use allocation;

/// A system call, or without making it the error, when the place of this label is to refuse.
macro_rules! syscall {
    ($label:literal, $refused:ident, $call:expr) => {
        if $crate::inject::fails!($label) { Err(rustix::io::Errno::$refused) } else { $call }
    };
}
pub(crate) use syscall;

/// Frees all that the calling thread has retired and nobody looks at any more, as a charge does that finds a budget full.
#[cfg(feature = "injector")]
pub fn settle() {
    let _inside = crate::gate::enter();
    for _ in 0..4 {
        crate::content::garbage::settle();
    }
}

#[cfg(all(test, feature = "injector"))]
mod tests;
