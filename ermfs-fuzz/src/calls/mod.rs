//! The target `calls`: a sequence of calls, each followed by what the model says of it.
//!
//! Promises: the two runs of an input, one in each mode, make the same calls. Within a filesystem that is so small that
//! room may run out, `ENOSPC` and `EFBIG` are answers that change nothing; in any other they are faults. At the end of a
//! run every name and byte is compared, everything is taken away by calls, and the statistics are as at the start.
//! `ERMFS_FUZZ_TRACE` in the environment prints the calls. Never waits for a lock.

mod beside;
mod content;
mod descriptors;
mod names;
mod verify;
mod world;

use arbitrary::Unstructured;
use ermfs_core::process::{set_lockless_mode, umask};
use ermfs_core::{Compress, Config, Mode};

use world::World;

/// Most calls of one input, and the most bytes that they write, so that none takes long.
const MOST_CALLS: usize = 150;
const MOST_BYTES: usize = 6 << 20;

/// Runs the sequence in both modes.
pub(crate) fn run(input: &[u8]) {
    for mode in [Mode::Locked, Mode::Lockless] {
        set_lockless_mode(mode == Mode::Lockless).expect("nothing is open");
        umask(0o022);
        // The input's end ends the calls.
        let mut input = Unstructured::new(input);
        let Ok(config) = config(&mut input, mode) else { return };
        let mut world = World::new(config);
        let _ = sequence(&mut world, &mut input);
        world.end();
    }
}

/// What the sequence runs in: `None` for the default filesystem.
fn config(input: &mut Unstructured<'_>, mode: Mode) -> arbitrary::Result<Option<Config>> {
    let byte = input.arbitrary::<u8>()?;
    if byte.is_multiple_of(4) {
        return Ok(None);
    }
    let max_bytes = [300 << 10, 600 << 10, 1 << 20, 3 << 20, 256 << 20][usize::from(byte / 4) % 5];
    let compress = [Compress::OnClose, Compress::OnClose, Compress::Background, Compress::Never]
        [usize::from(byte / 20) % 4];
    let byte = input.arbitrary::<u8>()?;
    let max_file_bytes = if byte.is_multiple_of(8) { 200_000 } else { 0 };
    let cache_bytes = if byte / 8 % 4 == 1 { 70_000 } else { 0 };
    let level = i32::from(byte / 32);
    Ok(Some(Config { max_bytes, max_file_bytes, cache_bytes, level, compress, mode, ..Config::default() }))
}

fn sequence(world: &mut World, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    for _ in 0..MOST_CALLS {
        if input.is_empty() || world.written > MOST_BYTES {
            break;
        }
        let call = CALLS[usize::from(input.arbitrary::<u8>()?) % CALLS.len()];
        call(world, input)?;
    }
    Ok(())
}

type Call = fn(&mut World, &mut Unstructured<'_>) -> arbitrary::Result<()>;

/// What a byte stands for; what is there twice comes twice as often.
const CALLS: &[Call] = &[
    World::open,
    World::open,
    World::create,
    World::create,
    World::close,
    World::dup,
    World::dup2,
    World::set_flags,
    World::read,
    World::pread,
    World::write,
    World::write,
    World::pwrite,
    World::pwrite,
    World::ftruncate,
    World::truncate,
    World::fallocate,
    World::fallocate,
    World::lseek,
    World::copy_file_range,
    World::stat,
    World::mkdir,
    World::rename,
    World::rename,
    World::link,
    World::unlink,
    World::rmdir,
    World::symlink,
    World::readlink,
    World::chmod,
    World::list,
    World::chdir,
    World::getcwd,
    World::set_attribute,
    World::get_attributes,
    World::remove_attribute,
    World::record_lock,
    World::flock,
    World::export_memfd,
    World::export_gzip,
    World::import_fd,
    World::import_gzip,
    World::view,
    World::let_go,
    World::switch,
    World::fsync,
    World::info,
    World::compare_files,
];
