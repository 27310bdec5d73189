//! Files in every form that their blocks can have, to be exported and imported.

use ermfs_memory::sync::Arc;

use super::{BLOCK, PAGE, random, text, write};
use crate::content::Content;
use crate::space::Space;

/// One file and what it holds.
pub(super) struct Example {
    pub(super) what: String,
    pub(super) content: Content,
    pub(super) bytes: Vec<u8>,
}

struct Maker<'a> {
    space: &'a Arc<Space>,
    examples: Vec<Example>,
}

impl Maker<'_> {
    /// A file of `size` bytes with those parts at those offsets.
    fn add(&mut self, what: impl Into<String>, size: usize, parts: &[(usize, Vec<u8>)]) -> &mut Example {
        let content = Content::new(self.space);
        let mut bytes = vec![0; size];
        for (at, part) in parts {
            write(&content, *at as u64, part);
            bytes[*at..at + part.len()].copy_from_slice(part);
        }
        content.truncate(size as u64).unwrap();
        self.examples.push(Example { what: what.into(), content, bytes });
        self.examples.last_mut().unwrap()
    }

    /// As [`Maker::add`], packed.
    fn packed(&mut self, what: impl Into<String>, size: usize, parts: &[(usize, Vec<u8>)]) {
        self.add(what, size, parts).content.pack();
    }
}

/// Files of every form, at the sizes where the forms change.
pub(super) fn examples(space: &Arc<Space>) -> Vec<Example> {
    let mut files = Maker { space, examples: Vec::new() };
    for base in [0, PAGE, BLOCK, 2 * BLOCK] {
        for size in base.saturating_sub(1)..=base + 1 {
            let text = text(size as u64, size);
            let random = random(size as u64, size);
            files.add(format!("raw text of {size}"), size, &[(0, text.clone())]);
            files.add(format!("raw random of {size}"), size, &[(0, random.clone())]);
            files.packed(format!("packed text of {size}"), size, &[(0, text)]);
            files.packed(format!("packed random of {size}"), size, &[(0, random)]);
            files.add(format!("hole of {size}"), size, &[]);
        }
    }
    files.packed("packed, then a hole in the block and after", 3 * BLOCK + 5, &[(0, text(1, 10_000))]);
    files.packed("stored end, then holes", 2 * BLOCK, &[(0, random(2, 5000))]);
    files.packed("holes around a packed block", 4 * BLOCK + 100, &[(BLOCK, text(3, BLOCK))]);
    files.add("raw in the middle of holes", 3 * BLOCK + 1, &[(BLOCK + 3 * PAGE + 7, text(4, 2 * PAGE))]);
    files.add("every other page", 3 * BLOCK, &every_other_page(3 * BLOCK, false));
    files.add("every other page, from behind", 3 * BLOCK, &every_other_page(3 * BLOCK, true));
    files.packed(
        "packed, stored, hole, zeros written",
        4 * BLOCK,
        &[(0, text(5, BLOCK)), (BLOCK, random(6, BLOCK)), (3 * BLOCK, vec![0; BLOCK])],
    );
    let mixed = files.add("packed, then changed", 3 * BLOCK, &[(0, text(7, 3 * BLOCK))]);
    mixed.content.pack();
    let change = random(8, 3000);
    write(&mixed.content, BLOCK as u64 + 100, &change);
    mixed.bytes[BLOCK + 100..][..3000].copy_from_slice(&change);
    let grown = files.add("packed short, then grown", 1000, &[(0, text(9, 1000))]);
    grown.content.pack();
    grown.content.truncate(2 * BLOCK as u64 + 10).unwrap();
    grown.bytes.resize(2 * BLOCK + 10, 0);
    let long: Vec<_> = (0..70)
        .map(|i| (i * BLOCK, if i % 3 == 0 { random(i as u64, BLOCK) } else { text(i as u64, BLOCK) }))
        .collect();
    files.add("70 raw blocks", 70 * BLOCK, &long);
    files.packed("70 packed and stored blocks", 70 * BLOCK, &long);
    files.examples
}

fn every_other_page(size: usize, backwards: bool) -> Vec<(usize, Vec<u8>)> {
    let mut parts: Vec<_> =
        (0..size / PAGE).step_by(2).map(|page| (page * PAGE, text(page as u64, PAGE))).collect();
    if backwards {
        parts.reverse();
    }
    parts
}
