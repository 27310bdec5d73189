//! The calls of a sequence, and their text.
//!
//! Promises that a step's text, parsed, gives the step back: a sequence that was printed can be replayed for good.
//! Owns no state. Never runs anything; `world` does.

use super::field::{
    At, AtFlags, Data, Dir, FallocateMode, Fd, Field, List, Mode, OpenFlags, RenameFlags, Slot, Text,
};
use super::field::{Times, Whence};

macro_rules! operations {
    ($( $(#[$doc:meta])* $variant:ident $name:literal { $($field:ident : $ty:ty),* } )*) => {
        /// One call, or one look at the whole world.
        #[derive(Clone, Debug, PartialEq)]
        pub(super) enum Op {
            $( $(#[$doc])* $variant { $($field: $ty),* }, )*
        }

        impl Op {
            /// The first word of its text.
            pub(super) fn name(&self) -> &'static str {
                match self {
                    $( Op::$variant { .. } => $name, )*
                }
            }

            fn text(&self) -> String {
                match self {
                    $( Op::$variant { $($field),* } => {
                        let words = [$name.to_owned() $(, format!(concat!(stringify!($field), "={}"), $field.text()))*];
                        words.join(" ")
                    } )*
                }
            }

            fn parse(text: &str) -> Result<Op, String> {
                let mut words = text.split(' ').filter(|word| !word.is_empty());
                let name = words.next().unwrap_or_default();
                let words: Vec<&str> = words.collect();
                match name {
                    $( $name => Ok(Op::$variant { $( $field: argument::<$ty>(&words, stringify!($field))? ),* }), )*
                    _ => Err(format!("no such call: {name}")),
                }
            }

            /// Whether a path among its arguments is NULL.
            pub(super) fn has_null_path(&self) -> bool {
                match self {
                    $( Op::$variant { $($field),* } => false $(|| $field.is_null_path())*, )*
                }
            }

            /// The same call with one argument made plainer.
            pub(super) fn simpler(&self) -> Vec<Op> {
                let mut calls = Vec::new();
                match self {
                    $( Op::$variant { $($field),* } => {
                        $(
                            for value in $field.simpler() {
                                let mut call = self.clone();
                                if let Op::$variant { $field, .. } = &mut call {
                                    *$field = value;
                                }
                                calls.push(call);
                            }
                        )*
                    } )*
                }
                calls
            }
        }
    };
}

fn argument<T: Field>(words: &[&str], field: &str) -> Result<T, String> {
    let find =
        |word: &&str| word.strip_prefix(field).and_then(|rest| rest.strip_prefix('=')).map(str::to_owned);
    let text = words.iter().find_map(find).ok_or_else(|| format!("no argument {field}"))?;
    T::parse(&text).ok_or_else(|| format!("{field}: {text}"))
}

operations! {
    Open "open" { to: Slot, at: At, path: Text, flags: OpenFlags, mode: Mode }
    Creat "creat" { to: Slot, path: Text, mode: Mode }
    Close "close" { fd: Fd }
    Read "read" { fd: Fd, len: i64, null: bool }
    Write "write" { fd: Fd, data: Data }
    Pread "pread" { fd: Fd, len: i64, off: i64, null: bool }
    Pwrite "pwrite" { fd: Fd, data: Data, off: i64 }
    Readv "readv" { fd: Fd, lens: List<i64> }
    Writev "writev" { fd: Fd, data: List<Data> }
    Preadv "preadv" { fd: Fd, lens: List<i64>, off: i64 }
    Pwritev "pwritev" { fd: Fd, data: List<Data>, off: i64 }
    /// A vector whose count is this number and whose pieces are empty.
    Iovcnt "iovcnt" { fd: Fd, write: bool, count: i64, null: bool }
    Lseek "lseek" { fd: Fd, off: i64, whence: Whence }
    Truncate "truncate" { path: Text, len: i64 }
    Ftruncate "ftruncate" { fd: Fd, len: i64 }
    Fallocate "fallocate" { fd: Fd, mode: FallocateMode, off: i64, len: i64 }
    Fadvise "fadvise" { fd: Fd, off: i64, len: i64, advice: i64 }
    Fsync "fsync" { fd: Fd, data: bool }
    CopyRange "copy_file_range" { from: Fd, off_in: Option<i64>, into: Fd, off_out: Option<i64>, len: i64, flags: i64 }
    Dup "dup" { fd: Fd, to: Slot }
    /// Onto the number of the slot's descriptor, or a fixed number while the slot is empty.
    Dup2 "dup2" { fd: Fd, to: Slot }
    Dup2Bad "dup2_bad" { fd: Fd, number: i64 }
    Dup3 "dup3" { fd: Fd, to: Slot, flags: OpenFlags }
    /// `min` counts from the first descriptor; -2 is the number 0 itself.
    FcntlDup "fcntl_dup" { fd: Fd, min: i64, cloexec: bool, to: Slot }
    FcntlGetFd "fcntl_getfd" { fd: Fd }
    FcntlSetFd "fcntl_setfd" { fd: Fd, value: i64 }
    FcntlGetFl "fcntl_getfl" { fd: Fd }
    FcntlSetFl "fcntl_setfl" { fd: Fd, flags: OpenFlags }
    FcntlBad "fcntl_bad" { fd: Fd, command: i64 }
    /// `lock`: `l_type`.
    FcntlLock "fcntl_lock" { fd: Fd, command: i64, lock: i64, whence: Whence, start: i64, len: i64, pid: i64, null: bool }
    Flock "flock" { fd: Fd, operation: i64 }
    Umask "umask" { mode: Mode }
    Mkdir "mkdir" { at: At, path: Text, mode: Mode }
    /// `mode` with the kind.
    Mknod "mknod" { at: At, path: Text, mode: Mode, dev: i64 }
    Rmdir "rmdir" { path: Text }
    Unlink "unlink" { path: Text }
    Unlinkat "unlinkat" { at: At, path: Text, flags: i64 }
    Rename "rename" { at: At, old: Text, to: At, new: Text }
    Rename2 "renameat2" { at: At, old: Text, to: At, new: Text, flags: RenameFlags }
    Link "link" { at: At, old: Text, to: At, new: Text, flags: AtFlags }
    Symlink "symlink" { target: Text, at: At, path: Text }
    Readlink "readlink" { at: At, path: Text, size: i64, null: bool }
    Access "access" { at: At, path: Text, amode: i64, flags: AtFlags }
    Chdir "chdir" { path: Text }
    Fchdir "fchdir" { fd: Fd }
    Getcwd "getcwd" { size: i64 }
    Realpath "realpath" { path: Text }
    Stat "stat" { at: At, path: Text, flags: AtFlags, null: bool }
    Fstat "fstat" { fd: Fd, null: bool }
    Chmod "chmod" { at: At, path: Text, mode: Mode, flags: AtFlags }
    Fchmod "fchmod" { fd: Fd, mode: Mode }
    Chown "chown" { at: At, path: Text, uid: i64, gid: i64, flags: AtFlags }
    Fchown "fchown" { fd: Fd, uid: i64, gid: i64 }
    Utimens "utimensat" { at: At, path: Text, times: Times, flags: AtFlags }
    Futimens "futimens" { fd: Fd, times: Times }
    /// `nofollow`: the l- form.
    Getxattr "getxattr" { path: Text, nofollow: bool, name: Text, size: i64, null: bool }
    Fgetxattr "fgetxattr" { fd: Fd, name: Text, size: i64, null: bool }
    Setxattr "setxattr" { path: Text, nofollow: bool, name: Text, value: Data, flags: i64 }
    Fsetxattr "fsetxattr" { fd: Fd, name: Text, value: Data, flags: i64 }
    Listxattr "listxattr" { path: Text, nofollow: bool, size: i64, null: bool }
    Flistxattr "flistxattr" { fd: Fd, size: i64, null: bool }
    Removexattr "removexattr" { path: Text, nofollow: bool, name: Text }
    Fremovexattr "fremovexattr" { fd: Fd, name: Text }
    Opendir "opendir" { dir: Dir, path: Text }
    Fdopendir "fdopendir" { dir: Dir, fd: Fd }
    Readdir "readdir" { dir: Dir, count: i64 }
    Rewinddir "rewinddir" { dir: Dir }
    Telldir "telldir" { dir: Dir }
    /// To the mark of an earlier telldir, counted from the first.
    Seekdir "seekdir" { dir: Dir, mark: i64 }
    Closedir "closedir" { dir: Dir }
    /// The whole of a directory, sorted.
    List "list" { at: At, path: Text }
    Statvfs "statvfs" { path: Text }
    Fstatvfs "fstatvfs" { fd: Fd }
    /// The calls from here on are somebody else's.
    Become "become" { who: i64 }
    /// The whole tree and every descriptor, contents included.
    Walk "walk" {}
}

/// One line of a sequence.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    /// Whether which times the call changes is looked at as well.
    pub(super) watch: bool,
    /// The call.
    pub(super) op: Op,
}

impl Step {
    /// The step's line.
    pub(super) fn text(&self) -> String {
        if self.watch { format!("watch {}", self.op.text()) } else { self.op.text() }
    }

    /// The step of a line.
    pub(super) fn parse(line: &str) -> Result<Step, String> {
        let (watch, call) = match line.strip_prefix("watch ") {
            Some(call) => (true, call),
            None => (false, line),
        };
        Op::parse(call).map(|op| Step { watch, op })
    }
}

#[cfg(test)]
mod tests {
    use super::super::generate::{Limits, sequence};
    use super::*;

    #[test]
    fn text_round_trips() {
        let limits = Limits { working_directory: true, own_ids_only: false, people: true, tmpfile: true };
        let mut names = std::collections::BTreeSet::new();
        for seed in 0..12 {
            for step in sequence(seed, 500, &limits) {
                names.insert(step.op.name());
                assert_eq!(Step::parse(&step.text()).as_ref(), Ok(&step), "{}", step.text());
                for op in step.op.simpler() {
                    let simpler = Step { watch: step.watch, op };
                    assert_eq!(Step::parse(&simpler.text()).as_ref(), Ok(&simpler), "{}", simpler.text());
                }
            }
        }
        assert!(names.len() >= 64, "the generator makes only {names:?}");
    }

    #[test]
    fn bad_text_is_refused() {
        for line in ["", "nosuch", "close", "close fd=f99", "watch", "umask mode=9", "rmdir path=\"\\x00\""] {
            assert!(Step::parse(line).is_err(), "{line}");
        }
    }
}
