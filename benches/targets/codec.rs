//! What packed files are compared to: the bare codec, and the commands that do the same.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};
use std::process::{Command, Stdio};

use crate::side::nanoseconds;

/// Bytes of a block of ERMFS.
pub(crate) const BLOCK: usize = 65_536;

/// The codec without a filesystem around it.
pub(crate) struct Bare {
    compressor: *mut libdeflate_sys::libdeflate_compressor,
    decompressor: *mut libdeflate_sys::libdeflate_decompressor,
}

impl Bare {
    pub(crate) fn new() -> Bare {
        // SAFETY: no arguments that could be wrong.
        unsafe {
            Bare {
                compressor: libdeflate_sys::libdeflate_alloc_compressor(1),
                decompressor: libdeflate_sys::libdeflate_alloc_decompressor(),
            }
        }
    }

    /// The members of all blocks.
    pub(crate) fn pack(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut out = vec![0u8; BLOCK + 1024];
        let pack = |block: &[u8]| {
            // SAFETY: both buffers are live and of the lengths given.
            let n = unsafe {
                libdeflate_sys::libdeflate_gzip_compress(
                    self.compressor,
                    block.as_ptr().cast(),
                    block.len(),
                    out.as_mut_ptr().cast(),
                    out.len(),
                )
            };
            out[..n].to_vec()
        };
        bytes.chunks(BLOCK).map(pack).collect()
    }

    pub(crate) fn inflate(&self, member: &[u8], room: &mut [u8]) {
        let mut n = 0;
        // SAFETY: both buffers are live and of the lengths given.
        let result = unsafe {
            libdeflate_sys::libdeflate_gzip_decompress(
                self.decompressor,
                member.as_ptr().cast(),
                member.len(),
                room.as_mut_ptr().cast(),
                room.len(),
                &mut n,
            )
        };
        assert!(result == 0 && n > 0);
    }

    /// Milliseconds to inflate all members into a buffer of 1 MiB, one after the other.
    pub(crate) fn inflate_all(&self, members: &[Vec<u8>]) -> f64 {
        const TURN: usize = 16;
        let mut room = vec![0u8; TURN * BLOCK];
        nanoseconds(1, || {
            for (i, member) in members.iter().enumerate() {
                let at = i % TURN * BLOCK;
                self.inflate(member, &mut room[at..at + BLOCK]);
            }
        }) / 1e6
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and nobody else has them.
        unsafe {
            libdeflate_sys::libdeflate_free_compressor(self.compressor);
            libdeflate_sys::libdeflate_free_decompressor(self.decompressor);
        }
    }
}

/// Milliseconds that a command takes over `bytes` on its standard input, and what it answered. Both are files in memory.
pub(crate) fn filter(command: &str, arguments: &[&str], bytes: &[u8]) -> (f64, Vec<u8>) {
    let (input, output) = (memfd(), memfd());
    (&input).write_all(bytes).expect("memory");
    // SAFETY: no pointers.
    unsafe { libc::lseek(input.as_raw_fd(), 0, libc::SEEK_SET) };
    let stdout = output.try_clone().expect("a descriptor");
    let time = nanoseconds(1, || {
        let status =
            Command::new(command).args(arguments).arg("-c").stdin(input).stdout(Stdio::from(stdout)).status();
        assert!(status.is_ok_and(|status| status.success()), "{command} {arguments:?}");
    });
    (time / 1e6, content(&output))
}

/// All bytes of a file.
pub(crate) fn content(file: &File) -> Vec<u8> {
    let len = file.metadata().expect("an open file").len() as usize;
    let mut bytes = vec![0; len];
    std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, 0).expect("a file that stays as it is");
    bytes
}

pub(crate) fn memfd() -> File {
    // SAFETY: a literal name; the descriptor is new and ours.
    unsafe { File::from_raw_fd(libc::memfd_create(c"bench".as_ptr(), libc::MFD_CLOEXEC)) }
}
