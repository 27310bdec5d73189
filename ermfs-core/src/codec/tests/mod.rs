//! Tests of the codec: blocks, streams, and what the common commands make of both.

mod block;
mod commands;
mod stream;

use core::mem::MaybeUninit;

use proptest::prelude::ProptestConfig;

use super::{Packed, pack, unpack};
use crate::errno::Result;

/// Bytes that do not compress, the same for the same seed.
pub(super) fn random(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Bytes that compress about as well as prose.
pub(super) fn text(len: usize) -> Vec<u8> {
    const WORDS: &str = "inode dentry block page member hole arena the of a is and link rename open seek";
    let words: Vec<&[u8]> = WORDS.split(' ').map(str::as_bytes).collect();
    let mut text = Vec::new();
    for word in random(len / 2 + 1, 7) {
        text.extend_from_slice(words[usize::from(word % 16)]);
        // Blanks and other bytes in turn.
        text.extend_from_slice(&[b' ', word]);
    }
    text.truncate(len);
    text
}

/// The member of a block that is known to shrink.
fn packed(block: &[u8], level: i32) -> Vec<u8> {
    let mut out = Vec::new();
    assert_eq!(pack(block, level, false, &mut out), Ok(Packed::Member(out.len())));
    out
}

/// The content of a member, which is said to have `len` bytes.
fn unpacked(member: &[u8], len: usize) -> Result<Vec<u8>> {
    let mut out = vec![MaybeUninit::new(0xa5); len];
    unpack(member, &mut out)?;
    // SAFETY: every byte was initialised before `unpack` was called.
    Ok(out.into_iter().map(|byte| unsafe { byte.assume_init() }).collect())
}

/// What a property is tried with: enough to be of use, and nothing written to disk.
fn cases() -> ProptestConfig {
    ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() }
}
