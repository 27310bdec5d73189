//! What a look at a block says before it is compressed: is it all zeros, will it not shrink?
//!
//! Promises: [`is_zero`] is exact; [`looks_random`] is a guess that costs a few microseconds where
//! compressing in vain costs hundreds, and a wrong guess costs space or time, never bytes. Never
//! allocates.

/// Whether every byte is zero.
pub(super) fn is_zero(block: &[u8]) -> bool {
    // One chunk is a few vector registers: wide enough to run at the speed of memory, small enough
    // that a block with content is recognised at once.
    const CHUNK: usize = 128;
    let (chunks, rest) = block.as_chunks::<CHUNK>();
    chunks.iter().all(is_zero_chunk) && rest.iter().all(|&byte| byte == 0)
}

#[inline]
fn is_zero_chunk<const N: usize>(chunk: &[u8; N]) -> bool {
    let (words, _) = chunk.as_chunks::<8>();
    words.iter().fold(0, |seen, word| seen | u64::from_ne_bytes(*word)) == 0
}

/// Bytes in one sample.
const SAMPLE: usize = 1024;
/// Samples taken of a block, evenly spread, the first at its start and the last at its end.
const SAMPLES: usize = 4;
/// Fraction bits of the fixed-point numbers in [`COUNT_LOG_COUNT`].
const FRACTION: u32 = 16;
/// A byte value seen this often is far from evenly spread, and the table need not go further.
const COUNTS: usize = 256;

/// `n * log2(n)` in fixed point, for the entropy of a histogram without a logarithm per symbol.
static COUNT_LOG_COUNT: [u32; COUNTS] = {
    let mut table = [0; COUNTS];
    let mut n = 1;
    while n < COUNTS {
        table[n] = n as u32 * log2(n as u32);
        n += 1;
    }
    table
};

/// The base-2 logarithm of a positive number below 2^16, with [`FRACTION`] fraction bits.
const fn log2(n: u32) -> u32 {
    let whole = n.ilog2();
    // The mantissa, 1 <= m < 2, with 31 fraction bits. Squaring it doubles its logarithm, so each
    // squaring that passes 2 yields a one bit.
    let mut mantissa = (n as u64) << (31 - whole);
    let mut result = whole;
    let mut bit = 0;
    while bit < FRACTION {
        mantissa = (mantissa * mantissa) >> 31;
        let carry = (mantissa >> 32) as u32;
        mantissa >>= carry;
        result = result << 1 | carry;
        bit += 1;
    }
    result
}

/// Whether a block of at least 4 KiB has, in four samples of 1 KiB taken together, more than 7.8
/// bits of entropy per byte (Shannon's, of order zero). Shorter blocks are never said to.
pub(super) fn looks_random(block: &[u8]) -> bool {
    const TOTAL: usize = SAMPLE * SAMPLES;
    if block.len() < TOTAL || has_few_values(&block[block.len() / 2..][..GLANCE]) {
        return false;
    }
    // Entropy per byte is log2(TOTAL) - sum(count * log2(count)) / TOTAL = 12 - sum / 4096; it is
    // above 7.8 exactly when the sum is below 4.2 * 4096.
    const LIMIT: u64 = (42 * TOTAL as u64 * (1 << FRACTION)) / 10;
    let histogram = sample(block);
    let mut sum = 0;
    for &count in &histogram {
        match COUNT_LOG_COUNT.get(usize::from(count)) {
            Some(&value) => sum += u64::from(value),
            None => return false,
        }
    }
    sum < LIMIT
}

/// Bytes that are looked at first, in the middle of the block: its start is more often a header of another kind.
const GLANCE: usize = 512;

/// Whether so few byte values occur that the samples need not be taken: of 512 random bytes about 221 differ, of a program
/// or a text a hundred at the most. A quarter of the samples' time, and most blocks are such.
fn has_few_values(bytes: &[u8]) -> bool {
    const FEW: u32 = 160;
    let mut seen = [0u64; 4];
    for &byte in bytes {
        seen[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }
    seen.iter().map(|word| word.count_ones()).sum::<u32>() < FEW
}

/// How often each byte value occurs in the samples of `block`, which is long enough for them.
fn sample(block: &[u8]) -> [u16; 256] {
    // One histogram per sample, filled side by side: an increment never waits for the one before.
    let mut counts = [[0u16; 256]; SAMPLES];
    let step = (block.len() - SAMPLE) / (SAMPLES - 1);
    let parts: [&[u8]; SAMPLES] = core::array::from_fn(|i| &block[i * step..][..SAMPLE]);
    for i in 0..SAMPLE {
        for (count, part) in counts.iter_mut().zip(parts) {
            count[usize::from(part[i])] += 1;
        }
    }
    core::array::from_fn(|value| counts.iter().map(|count| count[value]).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_right() {
        for n in 1..COUNTS {
            let exact = (n as f64).log2();
            let ours = f64::from(log2(n as u32)) / f64::from(1 << FRACTION);
            assert!((exact - ours).abs() < 1e-4, "log2({n}) is {exact}, not {ours}");
        }
    }

    #[test]
    fn one_set_byte_is_seen_wherever_it_is() {
        for len in [1, 7, 8, 9, 127, 128, 129, 256, 1000] {
            let mut block = vec![0; len];
            assert!(is_zero(&block));
            for at in 0..len {
                block[at] = 1;
                assert!(!is_zero(&block), "byte {at} of {len}");
                block[at] = 0;
            }
        }
        assert!(is_zero(&[]));
    }

    #[test]
    fn entropy_decides() {
        let random = crate::codec::tests::random(65536, 1);
        for len in [4096, 4097, 8191, 65535, 65536] {
            assert!(looks_random(&random[..len]), "{len}");
        }
        assert!(!looks_random(&random[..4095]), "too short to tell");
        assert!(!looks_random(&crate::codec::tests::text(65536)));
        assert!(!looks_random(&[0; 65536]), "few values");
        let mut zeros_between = random.clone();
        zeros_between[..SAMPLE].fill(0);
        assert!(!looks_random(&zeros_between), "a count beyond the table");
        // 200 byte values evenly spread are 7.64 bits, 250 of them 7.97.
        let spread = |values: u32| -> Vec<u8> { (0..65536u32).map(|i| (i % values) as u8).collect() };
        assert!(!looks_random(&spread(200)));
        assert!(looks_random(&spread(250)));
    }
}
