//! What is mounted where, as the kernel tells this process.
//!
//! Promises: a mount is found without asking its server, which may be gone. Never: a look into the filesystem itself.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The type of an ERMFS mount.
pub(crate) const TYPE: &str = "fuse.ermfs";

/// The type of what is mounted on a directory, the topmost if there are several.
///
/// # Errors
/// Those of finding the directory.
pub(crate) fn type_at(dir: &Path) -> io::Result<Option<OsString>> {
    let dir = place(dir)?;
    Ok(topmost(&std::fs::read("/proc/self/mountinfo")?, &dir))
}

/// A path without symbolic links. The last name is not looked at where that is refused: its server may be gone, or somebody
/// else's.
fn place(dir: &Path) -> io::Result<PathBuf> {
    let error = match dir.canonicalize() {
        Ok(path) => return Ok(path),
        Err(error) => error,
    };
    match (error.raw_os_error(), dir.file_name()) {
        (Some(libc::ENOTCONN | libc::EACCES), Some(name)) => {
            let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
            Ok(parent.unwrap_or(Path::new(".")).canonicalize()?.join(name))
        }
        _ => Err(error),
    }
}

/// proc_pid_mountinfo(5): the fifth word of a line is the place, the one after the lone hyphen the type. Later lines are mounted
/// over earlier ones.
fn topmost(mountinfo: &[u8], dir: &Path) -> Option<OsString> {
    let lines = mountinfo.split(|byte| *byte == b'\n').rev();
    lines
        .filter_map(|line| {
            let mut words = line.split(|byte| *byte == b' ').skip(4);
            let place = unescaped(words.next()?);
            let kind = words.skip_while(|word| *word != b"-").nth(1)?;
            (OsStr::from_bytes(&place) == dir.as_os_str()).then(|| OsString::from_vec(unescaped(kind)))
        })
        .next()
}

/// Spaces, tabs, line ends and backslashes are written `\ooo`.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, after)) = rest.split_first() {
        let code = (first == b'\\').then(|| after.get(..3)).flatten();
        let code = code.and_then(|octal| std::str::from_utf8(octal).ok());
        match code.and_then(|octal| u8::from_str_radix(octal, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = &after[3..];
            }
            None => {
                plain.push(first);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &[u8] = b"22 1 0:21 / / rw - ext4 /dev/root rw\n\
        40 22 0:40 / /a\\040b rw,nosuid shared:7 master:1 - tmpfs x\\134y rw\n\
        41 40 0:41 / /a\\040b rw - fuse.ermfs scratch rw,user_id=0\n\
        42 22 0:42 / /c rw - proc proc rw\n";

    #[test]
    fn the_topmost_mount_counts() {
        let at = |dir: &str| topmost(INFO, Path::new(dir));
        assert_eq!(at("/a b").as_deref(), Some(OsStr::new(TYPE)));
        assert_eq!(at("/c").as_deref(), Some(OsStr::new("proc")));
        assert_eq!(at("/").as_deref(), Some(OsStr::new("ext4")));
        assert_eq!((at("/a"), at("/a\\040b"), at("/c/d")), (None, None, None));
    }

    #[test]
    fn escapes_are_octal() {
        for (word, plain) in
            [("a\\040b", "a b"), ("\\134040", "\\040"), ("\\04", "\\04"), ("\\9x0", "\\9x0"), ("", "")]
        {
            assert_eq!(unescaped(word.as_bytes()), plain.as_bytes(), "{word}");
        }
        assert_eq!(unescaped(b"\\\xff01"), b"\\\xff01");
    }

    #[test]
    fn a_place_is_found_by_any_name() {
        assert_eq!(type_at(Path::new("/proc/../proc/.")).unwrap(), type_at(Path::new("/proc")).unwrap());
        assert!(type_at(Path::new("/proc")).unwrap().is_some_and(|kind| kind == "proc"));
        assert_eq!(type_at(Path::new("/proc/self")).unwrap(), None);
        let error = type_at(Path::new("/proc/there is no such file")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }
}
