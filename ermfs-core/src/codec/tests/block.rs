//! Blocks to members and back.

use core::cell::OnceCell;

use proptest::prelude::*;

use super::super::{END_OF_FILE, HOLE_BLOCK, Packed, hole_member, pack, store};
use super::{packed, random, text, unpacked};
use crate::errno::Errno;

const SIZES: [usize; 17] =
    [1, 2, 27, 28, 29, 63, 64, 65, 257, 511, 1024, 4095, 4096, 4097, 32768, 65535, 65536];

/// Packs without and with the probe; a member must come back as the block and save a sixteenth.
fn check(block: &[u8], level: i32, probe: bool) -> Packed {
    let mut out = random(7, 3);
    let packed = pack(block, level, probe, &mut out).unwrap();
    match packed {
        Packed::Zero => assert!(block.iter().all(|&byte| byte == 0)),
        Packed::Incompressible => {}
        Packed::Member(len) => {
            assert_eq!(len, out.len());
            assert!(len * 16 <= block.len() * 15, "{len} of {}", block.len());
            assert_eq!(unpacked(&out, block.len()).as_deref(), Ok(block));
        }
    }
    packed
}

#[test]
fn every_size_at_every_level() {
    for level in 1..=12 {
        for size in SIZES {
            for probe in [false, true] {
                assert_eq!(check(&vec![0; size], level, probe), Packed::Zero);
                assert_eq!(check(&random(size, 5), level, probe), Packed::Incompressible);
                let outcome = check(&text(size), level, probe);
                assert_eq!(matches!(outcome, Packed::Member(_)), size >= 257, "{size}: {outcome:?}");
                let outcome = check(&vec![b'x'; size], level, probe);
                assert_eq!(matches!(outcome, Packed::Member(_)), size >= 63, "{size}: {outcome:?}");
            }
        }
    }
}

#[test]
fn one_byte_in_zeros_is_kept() {
    for size in [4096, 65535, 65536] {
        for at in [0, 1, size / 2, size - 1] {
            let mut block = vec![0; size];
            block[at] = 1;
            assert!(matches!(check(&block, 1, true), Packed::Member(_)));
        }
    }
}

#[test]
fn the_margin_is_a_sixteenth() {
    // Random bytes with more and more zeros behind them: once it pays, it goes on paying.
    let mut pays = false;
    for zeros in (0..8192).step_by(64) {
        let mut block = random(65536, 11);
        block[65536 - zeros..].fill(0);
        let member = matches!(check(&block, 1, false), Packed::Member(_));
        assert!(member || !pays, "{zeros}");
        assert!(!member || zeros >= 4096, "{zeros} zeros cannot save 4096 bytes");
        pays = member;
    }
    assert!(pays);
}

#[test]
fn levels_take_turns() {
    let block = text(20_000);
    let first: Vec<_> = (1..=12).map(|level| packed(&block, level)).collect();
    for level in (1..=12).rev() {
        assert_eq!(packed(&block, level), first[level as usize - 1], "the same again at {level}");
    }
    assert!(first[11].len() < first[0].len());
}

#[test]
fn bad_parameters_are_refused() {
    let mut out = Vec::new();
    for level in [i32::MIN, -1, 0, 13, i32::MAX] {
        assert_eq!(pack(&[1; 100], level, true, &mut out), Err(Errno::EINVAL));
    }
    for size in [0, 65537] {
        assert_eq!(pack(&vec![1; size], 1, true, &mut out), Err(Errno::EINVAL));
        assert_eq!(store(&vec![1; size], &mut out), Err(Errno::EINVAL));
        assert_eq!(hole_member(size).err(), Some(Errno::EINVAL));
    }
}

/// Members of all makes and of the sizes that matter, with their content.
fn specimens() -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut specimens = Vec::new();
    for (size, level) in [(100, 1), (300, 1), (300, 12), (4096, 1), (4097, 6), (65536, 1), (65536, 9)] {
        let mut block = text(size);
        if size == 100 {
            block.fill(b'x');
        }
        specimens.push((packed(&block, level), block));
    }
    let mut stored = Vec::new();
    store(&random(3000, 1), &mut stored).unwrap();
    specimens.push((stored, random(3000, 1)));
    for size in [1, 258, 65536] {
        specimens.push((hole_member(size).unwrap().as_bytes().to_vec(), vec![0; size]));
    }
    specimens
}

#[test]
fn every_flipped_bit_is_detected() {
    for (mut member, content) in specimens() {
        let mut out = vec![core::mem::MaybeUninit::uninit(); content.len()];
        for bit in 0..member.len() * 8 {
            member[bit / 8] ^= 1 << (bit % 8);
            let verdict = super::unpack(&member, &mut out);
            assert_eq!(verdict, Err(Errno::EIO), "bit {bit} of {} bytes", member.len());
            member[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(unpacked(&member, content.len()), Ok(content));
    }
}

#[test]
fn two_flipped_bits_never_give_wrong_bytes() {
    // Two flips leave the parity as it was, so that the header, the decoder and the CRC must do.
    for (mut member, content) in specimens().into_iter().filter(|(_, content)| content.len() <= 4096) {
        let bits = member.len() * 8;
        for bit in 0..bits {
            for other in [(bit + 1) % bits, (bit + 8) % bits, (bit * 7 + 3) % bits] {
                if bit == other {
                    continue;
                }
                member[bit / 8] ^= 1 << (bit % 8);
                member[other / 8] ^= 1 << (other % 8);
                let in_frame = [bit / 8, other / 8].iter().any(|&at| at < 18 || at >= member.len() - 8);
                match unpacked(&member, content.len()) {
                    Ok(got) => assert!(got == content && !in_frame, "bits {bit} and {other}"),
                    Err(error) => assert_eq!(error, Errno::EIO),
                }
                member[bit / 8] ^= 1 << (bit % 8);
                member[other / 8] ^= 1 << (other % 8);
            }
        }
    }
}

#[test]
fn wrong_lengths_are_refused() {
    for (member, content) in specimens() {
        for len in [0, 1, content.len() - 1, content.len() + 1, 65536, 65537, 1 << 20] {
            if len != content.len() {
                assert_eq!(unpacked(&member, len), Err(Errno::EIO));
            }
        }
        for cut in 0..member.len().min(2000) {
            assert_eq!(unpacked(&member[..cut], content.len()), Err(Errno::EIO));
            assert_eq!(unpacked(&member[cut + 1..], content.len()), Err(Errno::EIO));
        }
        let mut longer = member.clone();
        longer.extend_from_slice(&[0; 3]);
        assert_eq!(unpacked(&longer, content.len()), Err(Errno::EIO));
        let mut twice = member.clone();
        twice.extend_from_slice(&member);
        assert_eq!(unpacked(&twice, content.len()), Err(Errno::EIO));
    }
    assert_eq!(unpacked(&vec![0; 1 << 17], 65536), Err(Errno::EIO));
}

#[test]
fn holes_of_every_kind() {
    assert_eq!(HOLE_BLOCK.as_bytes().len(), 104);
    assert_eq!(unpacked(HOLE_BLOCK.as_bytes(), 65536), Ok(vec![0; 65536]));
    // Every number of literals, with no, some and the most matches.
    let lengths = (1..=600).chain(32000..32300).chain(65000..=65536);
    for len in lengths {
        let member = hole_member(len).unwrap();
        assert!(member.as_bytes().len() <= 168);
        assert_eq!(unpacked(member.as_bytes(), len), Ok(vec![0; len]), "{len}");
    }
}

/// Splits a run of members by their BSIZE fields.
fn split(mut members: &[u8]) -> Vec<&[u8]> {
    let mut split = Vec::new();
    while !members.is_empty() {
        let len = usize::from(u16::from_le_bytes([members[16], members[17]])) + 1;
        split.push(&members[..len]);
        members = &members[len..];
    }
    split
}

#[test]
fn stored_blocks_are_one_member_or_two() {
    for (size, parts) in [(1, 1), (4096, 1), (65504, 1), (65505, 1), (65506, 2), (65535, 2), (65536, 2)] {
        let block = random(size, 9);
        let mut out = vec![1, 2, 3];
        store(&block, &mut out).unwrap();
        let members = split(&out);
        assert_eq!(members.len(), parts, "{size}");
        let mut content = Vec::new();
        for member in members {
            let isize = u32::from_le_bytes(*member.last_chunk().unwrap()) as usize;
            content.extend(unpacked(member, isize).unwrap());
        }
        assert_eq!(content, block);
    }
}

#[test]
fn the_end_of_file_is_the_standard_one() {
    let hex: String = END_OF_FILE.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "1f8b08040000000000ff0600424302001b0003000000000000000000");
}

#[test]
fn state_is_made_again_where_a_thread_is_ending() {
    use std::sync::mpsc::{Sender, channel};
    struct AtExit(Sender<bool>);
    impl Drop for AtExit {
        fn drop(&mut self) {
            let block = text(4096);
            let same = unpacked(&packed(&block, 3), 4096).as_deref() == Ok(&block[..]);
            let _ = self.0.send(same);
        }
    }
    thread_local!(static AT_EXIT: OnceCell<AtExit> = const { OnceCell::new() });
    let (sender, receiver) = channel();
    // Destructors run in the order of first use or against it: one thread for each.
    for codec_first in [false, true] {
        let sender = sender.clone();
        let thread = std::thread::spawn(move || {
            let use_codec = || assert_eq!(packed(&text(4096), 2), packed(&text(4096), 2));
            if codec_first {
                use_codec();
            }
            AT_EXIT.with(|cell| cell.set(AtExit(sender)).is_ok());
            use_codec();
        });
        thread.join().unwrap();
    }
    drop(sender);
    assert_eq!(receiver.iter().collect::<Vec<_>>(), [true, true]);
}

/// Blocks made of runs, copies of what came before, and noise.
fn blocks() -> impl Strategy<Value = Vec<u8>> {
    let piece = (0..3u8, any::<u8>(), 1..3000usize, any::<u64>());
    (prop::collection::vec(piece, 1..40), 1..=65536usize).prop_map(|(pieces, most)| {
        let mut block = Vec::new();
        for (kind, byte, len, seed) in pieces {
            match kind {
                0 => block.extend(std::iter::repeat_n(byte, len)),
                1 => block.extend(random(len, seed)),
                _ => {
                    let from = seed as usize % (block.len() + 1);
                    let to = block.len().min(from + len);
                    block.extend_from_within(from..to);
                    block.push(byte);
                }
            }
        }
        block.truncate(most);
        block
    })
}

proptest! {
    #![proptest_config(super::cases())]

    #[test]
    fn any_block_comes_back(block in blocks(), level in 1..=12, probe: bool) {
        check(&block, level, probe);
        let mut out = Vec::new();
        store(&block, &mut out).unwrap();
        let mut content = Vec::new();
        for member in split(&out) {
            let isize = u32::from_le_bytes(*member.last_chunk().unwrap()) as usize;
            content.extend(unpacked(member, isize).unwrap());
        }
        prop_assert_eq!(content, block);
    }

    #[test]
    fn no_bytes_are_mistaken_for_a_member(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        honest: bool,
    ) {
        if honest && bytes.len() >= 26 {
            let header = packed(&text(4096), 1);
            bytes[..18].copy_from_slice(&header[..18]);
            bytes[16] = (bytes.len() - 1) as u8;
            bytes[17] = 0;
            let end = bytes.len();
            bytes[end - 4..].copy_from_slice(&4096u32.to_le_bytes());
        }
        prop_assert_eq!(unpacked(&bytes, 4096), Err(Errno::EIO));
    }
}
