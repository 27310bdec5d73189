//! The target `member`.

use arbitrary::Unstructured;
use ermfs_core::{Errno, members};

use crate::bytes::pattern;
use crate::gzip;

/// Of the trailer: the content's CRC-32 and its length.
const TRAILER: usize = 8;
const HEADER: usize = 18;

/// Packs a block that the input describes, damages its member as it says, and unpacks it.
pub(crate) fn run(input: &[u8]) {
    // An input that ends early ends the damage.
    let _ = damage(&mut Unstructured::new(input));
}

fn damage(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let len = 1 + usize::from(input.arbitrary::<u16>()?);
    let (kind, level) = (input.arbitrary::<u8>()?, input.int_in_range(1..=9)?);
    let block = pattern(kind, len);
    let Some(member) = members::pack(&block, level).expect("a block and a level") else { return Ok(()) };
    let mut damaged = member.clone();
    while !input.is_empty() {
        change(input, &mut damaged)?;
        judge(&block, &member, &damaged);
    }
    Ok(())
}

/// Changes some bytes, or the length.
fn change(input: &mut Unstructured<'_>, member: &mut Vec<u8>) -> arbitrary::Result<()> {
    let (what, at, value) =
        (input.arbitrary::<u8>()?, usize::from(input.arbitrary::<u16>()?), input.arbitrary()?);
    if member.is_empty() {
        return Ok(());
    }
    let at = at % member.len();
    match what % 8 {
        0..=3 => member[at] ^= value,
        4 => member[at] = value,
        5 => {
            let bytes = input.bytes(usize::from(value).min(input.len()))?;
            let end = (at + bytes.len()).min(member.len());
            member[at..end].copy_from_slice(&bytes[..end - at]);
        }
        6 => member.truncate(at),
        _ => member.insert(at, value),
    }
    Ok(())
}

fn judge(block: &[u8], member: &[u8], damaged: &[u8]) {
    match members::unpack(damaged, block.len()) {
        Err(Errno::EIO) => assert!(damaged != member, "an undamaged member was refused"),
        Err(error) => panic!("{error:?} is not documented"),
        Ok(bytes) if bytes == block => {}
        Ok(bytes) => {
            // Only a member that was made into another one, CRC-32 and all, may say something else.
            let crc = &damaged[damaged.len() - TRAILER..][..4];
            assert_eq!(crc, crc32fast::hash(&bytes).to_le_bytes(), "other bytes than the CRC-32 says");
            assert_ne!(crc, crc32fast::hash(block).to_le_bytes(), "other bytes under the block's own CRC-32");
            let mut other = Vec::new();
            let rest = gzip::inflate(&damaged[HEADER..], &mut other);
            assert!(rest.is_some_and(|rest| rest.len() == TRAILER) && other == bytes, "decoders disagree");
        }
    }
}
