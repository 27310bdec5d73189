//! A file's bytes as the model has them, and the bytes that are written.
//!
//! Promises a size of up to 2^63 - 1 and memory for what was written only. Never looks at the engine.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

const PAGE: u64 = 4096;

/// `len` bytes of a kind: zeros, one byte again and again, lines of text, or noise.
pub(crate) fn pattern(kind: u8, len: usize) -> Vec<u8> {
    let seed = u64::from(kind / 4);
    match kind % 4 {
        0 => vec![0; len],
        1 => vec![kind; len],
        2 => {
            let line = format!("line {kind} of what shrinks well\n").into_bytes();
            let mut lines = line.repeat(len.div_ceil(line.len()));
            lines.truncate(len);
            lines
        }
        _ => {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut noise = Vec::with_capacity(len + 8);
            while noise.len() < len {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                noise.extend_from_slice(&state.to_le_bytes());
            }
            noise.truncate(len);
            noise
        }
    }
}

/// A file's bytes: those of a page that is not there are zeros, and so are those behind the end in one that is.
#[derive(Clone, Default)]
pub(crate) struct Bytes {
    size: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE as usize]>>,
}

impl Bytes {
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Up to `len` bytes from `start` on, as far as there are any.
    pub(crate) fn read(&self, start: u64, len: usize) -> Vec<u8> {
        let len = self.size.saturating_sub(start).min(len as u64) as usize;
        let mut bytes = vec![0; len];
        let Some(last) = len.checked_sub(1).map(|last| start + last as u64) else { return bytes };
        for (&number, page) in self.pages.range(start / PAGE..=last / PAGE) {
            let page_start = number * PAGE;
            let (from, to) = (start.max(page_start), (last + 1).min(page_start.saturating_add(PAGE)));
            bytes[(from - start) as usize..(to - start) as usize]
                .copy_from_slice(&page[(from - page_start) as usize..(to - page_start) as usize]);
        }
        bytes
    }

    pub(crate) fn write(&mut self, start: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let at = start + done as u64;
            let within = (at % PAGE) as usize;
            let n = (bytes.len() - done).min(PAGE as usize - within);
            let page = self.pages.entry(at / PAGE).or_insert_with(|| Box::new([0; PAGE as usize]));
            page[within..within + n].copy_from_slice(&bytes[done..done + n]);
            done += n;
        }
        if !bytes.is_empty() {
            self.size = self.size.max(start + bytes.len() as u64);
        }
    }

    pub(crate) fn resize(&mut self, size: u64) {
        if size < self.size {
            self.zero(size, self.size);
        }
        self.size = size;
    }

    /// Zeros from `start` to `end`; the size stays.
    pub(crate) fn zero(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        for (&number, page) in self.pages.range_mut(start / PAGE..=(end - 1) / PAGE) {
            let page_start = number * PAGE;
            let (from, to) = (start.max(page_start), end.min(page_start.saturating_add(PAGE)));
            page[(from - page_start) as usize..(to - page_start) as usize].fill(0);
        }
        let whole: Vec<u64> = self
            .pages
            .range(start.div_ceil(PAGE)..(end / PAGE).max(start.div_ceil(PAGE)))
            .map(|(&n, _)| n)
            .collect();
        for number in whole {
            self.pages.remove(&number);
        }
    }

    /// Takes `len` bytes out; both are multiples of a page, and end before the size.
    pub(crate) fn collapse(&mut self, start: u64, len: u64) {
        self.zero(start, start + len);
        let behind = self.pages.split_off(&(start / PAGE));
        self.pages.extend(behind.into_iter().map(|(number, page)| (number - len / PAGE, page)));
        self.size -= len;
    }

    /// Puts `len` zeros in; as [`Bytes::collapse`].
    pub(crate) fn insert(&mut self, start: u64, len: u64) {
        let behind = self.pages.split_off(&(start / PAGE));
        self.pages.extend(behind.into_iter().map(|(number, page)| (number + len / PAGE, page)));
        self.size += len;
    }

    /// Where the first byte that is not zero lies, from `start` on.
    pub(crate) fn next_nonzero(&self, start: u64) -> Option<u64> {
        let first = start / PAGE;
        let within = (start % PAGE) as usize;
        if let Some(page) = self.pages.get(&first)
            && let Some(at) = page[within..].iter().position(|&byte| byte != 0)
        {
            return Some(start + at as u64);
        }
        self.pages.range((Excluded(first), Unbounded)).find_map(|(number, page)| {
            page.iter().position(|&byte| byte != 0).map(|at| number * PAGE + at as u64)
        })
    }

    /// Where there are pages: their first bytes.
    pub(crate) fn places(&self) -> impl Iterator<Item = u64> {
        self.pages.keys().map(|number| number * PAGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparse_bytes_are_as_a_vector() {
        let (mut bytes, mut plain) = (Bytes::default(), Vec::new());
        let noise = pattern(7, 20_000);
        for (start, len) in [(0, 10), (4090, 12), (8192, 4096), (30_000, 20_000), (5, 1)] {
            bytes.write(start as u64, &noise[..len]);
            plain.resize(plain.len().max(start + len), 0);
            plain[start..start + len].copy_from_slice(&noise[..len]);
        }
        bytes.zero(4095, 12_289);
        plain[4095..12_289].fill(0);
        bytes.collapse(4096, 8192);
        plain.drain(4096..12_288);
        bytes.insert(16_384, 4096);
        plain.splice(16_384..16_384, [0; 4096]);
        bytes.resize(30_001);
        plain.truncate(30_001);
        bytes.resize(40_000);
        plain.resize(40_000, 0);
        assert!(bytes.read(0, 50_000) == plain);
        assert!(bytes.read(29_999, 100) == plain[29_999..30_099]);
        assert_eq!(bytes.next_nonzero(30_001), None);
        assert_eq!(
            bytes.next_nonzero(100),
            plain[100..].iter().position(|&b| b != 0).map(|at| at as u64 + 100)
        );
    }
}
