//! What the fuzz targets do with an input.
//!
//! Promises: each of [`import_gzip`], [`calls`] and [`member`] takes any bytes, does the same for the same bytes, and
//! panics exactly where the engine did something that it must not; afterwards the process is as it was before, so that
//! inputs can follow one another. The judges (`bytes`, `tree`, `gzip`) share no code with the engine. The targets in
//! `fuzz/` and the test that replays what they found both call these functions.
//!
//! One input runs at a time, whatever the number of threads: the mode and the table of descriptors are the process's.

mod bytes;
mod calls;
mod gzip;
mod import;
mod member;
mod tree;

use std::sync::{Mutex, MutexGuard, PoisonError};

fn alone() -> MutexGuard<'static, ()> {
    static RUNNING: Mutex<()> = Mutex::new(());
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The input is what a kernel descriptor holds that is imported as a gzip stream, in both modes.
///
/// # Panics
/// When the answer is no documented one, the file is not what another decoder makes of the stream, it exports to
/// something else, or a failed or removed import leaves anything behind.
pub fn import_gzip(input: &[u8]) {
    let _alone = alone();
    import::run(input);
}

/// The input is a sequence of calls, run in both modes.
///
/// # Panics
/// When an answer, a name or a byte is not what a model of names and bytes says, or anything is left behind.
pub fn calls(input: &[u8]) {
    let _alone = alone();
    calls::run(input);
}

/// The input is a block, and what is changed in its member.
///
/// # Panics
/// When the member is read as other bytes than the block's, except where its CRC-32 was changed to theirs.
pub fn member(input: &[u8]) {
    let _alone = alone();
    member::run(input);
}
