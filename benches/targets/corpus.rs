//! What is compressed: what a Debian machine holds anyway.

use std::path::Path;

/// C source text of `len` bytes: the machine's header files, one after the other, again and again.
pub(crate) fn text(len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    gather(Path::new("/usr/include"), len, &mut bytes);
    repeat(bytes, len)
}

/// Half C source, half programs, in turns of 1 MiB.
pub(crate) fn mixed(len: usize) -> Vec<u8> {
    let mut programs = Vec::new();
    gather(Path::new("/usr/bin"), 64 << 20, &mut programs);
    let (source, programs) = (text(len / 2), repeat(programs, len - len / 2));
    let chunk = 1 << 20;
    let turns = source.chunks(chunk).zip(programs.chunks(chunk)).flat_map(|(a, b)| [a, b]);
    turns.flatten().copied().collect()
}

fn gather(dir: &Path, most: usize, bytes: &mut Vec<u8>) {
    let mut entries: Vec<_> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        if bytes.len() >= most {
            return;
        }
        match path.symlink_metadata() {
            Ok(status) if status.is_dir() => gather(&path, most, bytes),
            Ok(status) if status.is_file() => bytes.extend(std::fs::read(&path).unwrap_or_default()),
            _ => {}
        }
    }
}

fn repeat(bytes: Vec<u8>, len: usize) -> Vec<u8> {
    assert!(!bytes.is_empty(), "no files to make a corpus of");
    bytes.iter().copied().cycle().take(len).collect()
}
