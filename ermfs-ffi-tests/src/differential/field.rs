//! The arguments of a call: their values, their text, and what is simpler than they are.
//!
//! Promises that `Field::parse(&field.text())` gives the field back, and that no text holds a space. Owns nothing.
//! Never touches a filesystem.

use libc::c_int;

/// One argument of an [`Op`](super::op::Op).
pub(super) trait Field: Sized + Clone {
    /// The argument's text, without spaces.
    fn text(&self) -> String;
    /// The argument that has this text.
    fn parse(text: &str) -> Option<Self>;
    /// Values that would make a shorter or plainer call; the shrinker tries them in this order.
    fn simpler(&self) -> Vec<Self>;
    /// Whether it is a NULL pointer in the place of a path.
    fn is_null_path(&self) -> bool {
        false
    }
}

impl Field for i64 {
    fn text(&self) -> String {
        self.to_string()
    }
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
    fn simpler(&self) -> Vec<Self> {
        let mut values = vec![0, 1, self / 2, self - self.signum()];
        values.retain(|value| value.unsigned_abs() < self.unsigned_abs());
        values.dedup();
        values
    }
}

impl Field for bool {
    fn text(&self) -> String {
        self.to_string()
    }
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
    fn simpler(&self) -> Vec<Self> {
        if *self { vec![false] } else { Vec::new() }
    }
}

/// File mode bits, written in octal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Mode(pub(super) u32);

impl Field for Mode {
    fn text(&self) -> String {
        format!("0{:o}", self.0)
    }
    fn parse(text: &str) -> Option<Self> {
        u32::from_str_radix(text, 8).ok().map(Mode)
    }
    fn simpler(&self) -> Vec<Self> {
        if self.0 == 0o644 { Vec::new() } else { vec![Mode(0o644)] }
    }
}

/// A descriptor: one of the world's slots, or a number that never is one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fd {
    /// The world's root directory, open for as long as the world is.
    Root,
    /// Slot 1 to [`SLOTS`]; a number that is not open while the slot is empty.
    Slot(u8),
    /// -1
    None,
}

/// How many descriptor slots a world has beside its root.
pub(super) const SLOTS: u8 = 10;

impl Field for Fd {
    fn text(&self) -> String {
        match self {
            Fd::Root => "root".into(),
            Fd::Slot(slot) => format!("f{slot}"),
            Fd::None => "none".into(),
        }
    }
    fn parse(text: &str) -> Option<Self> {
        match text {
            "root" => Some(Fd::Root),
            "none" => Some(Fd::None),
            _ => Slot::parse(text).map(|slot| Fd::Slot(slot.0)),
        }
    }
    fn simpler(&self) -> Vec<Self> {
        Vec::new()
    }
}

/// The slot that a new descriptor goes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Slot(pub(super) u8);

impl Field for Slot {
    fn text(&self) -> String {
        format!("f{}", self.0)
    }
    fn parse(text: &str) -> Option<Self> {
        let slot = text.strip_prefix('f')?.parse().ok()?;
        (1..=SLOTS).contains(&slot).then_some(Slot(slot))
    }
    fn simpler(&self) -> Vec<Self> {
        Vec::new()
    }
}

/// A directory stream's slot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Dir(pub(super) u8);

/// How many directory streams a world has.
pub(super) const STREAMS: u8 = 3;

impl Field for Dir {
    fn text(&self) -> String {
        format!("d{}", self.0)
    }
    fn parse(text: &str) -> Option<Self> {
        let slot = text.strip_prefix('d')?.parse().ok()?;
        (slot < STREAMS).then_some(Dir(slot))
    }
    fn simpler(&self) -> Vec<Self> {
        Vec::new()
    }
}

/// Where a path starts, and with it which of two functions is called.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum At {
    /// The function without a directory descriptor.
    Plain,
    /// The `at` function with AT_FDCWD.
    Cwd,
    /// The `at` function with this descriptor.
    Of(Fd),
}

impl Field for At {
    fn text(&self) -> String {
        match self {
            At::Plain => "plain".into(),
            At::Cwd => "cwd".into(),
            At::Of(fd) => fd.text(),
        }
    }
    fn parse(text: &str) -> Option<Self> {
        match text {
            "plain" => Some(At::Plain),
            "cwd" => Some(At::Cwd),
            _ => Fd::parse(text).map(At::Of),
        }
    }
    fn simpler(&self) -> Vec<Self> {
        // The root exists in worlds with and without a working directory.
        if *self == At::Of(Fd::Root) { Vec::new() } else { vec![At::Of(Fd::Root)] }
    }
}

/// A path or a symlink's target; `None` is a NULL pointer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Text(pub(super) Option<Vec<u8>>);

/// A run of one byte this long is written as `\{x*16}`.
const LONG_RUN: usize = 16;

impl Field for Text {
    fn is_null_path(&self) -> bool {
        self.0.is_none()
    }
    fn text(&self) -> String {
        let Some(bytes) = &self.0 else { return "null".into() };
        let mut text = String::from("\"");
        let mut rest = bytes.as_slice();
        while let Some(&byte) = rest.first() {
            let run = rest.iter().take_while(|&&other| other == byte).count();
            let plain = byte.is_ascii_graphic() && !b"\"\\{}*".contains(&byte);
            if plain && run >= LONG_RUN {
                text.push_str(&format!("\\{{{}*{run}}}", byte as char));
                rest = &rest[run..];
                continue;
            }
            if plain {
                text.push(byte as char)
            } else {
                text.push_str(&format!("\\x{byte:02x}"))
            }
            rest = &rest[1..];
        }
        text.push('"');
        text
    }

    fn parse(text: &str) -> Option<Self> {
        if text == "null" {
            return Some(Text(None));
        }
        let mut rest = text.strip_prefix('"')?.strip_suffix('"')?;
        let mut bytes = Vec::new();
        while let Some(first) = rest.chars().next() {
            if let Some(code) = rest.strip_prefix("\\x") {
                bytes.push(u8::from_str_radix(code.get(..2)?, 16).ok()?);
                rest = code.get(2..)?;
            } else if let Some(run) = rest.strip_prefix("\\{") {
                let (run, after) = run.split_once('}')?;
                let (byte, count) = run.split_once('*')?;
                let count: usize = count.parse().ok()?;
                bytes.extend(std::iter::repeat_n(*byte.as_bytes().first()?, count.min(1 << 16)));
                rest = after;
            } else {
                bytes.push(u8::try_from(first).ok()?);
                rest = rest.get(first.len_utf8()..)?;
            }
        }
        (!bytes.contains(&0)).then_some(Text(Some(bytes)))
    }

    fn simpler(&self) -> Vec<Self> {
        let Some(bytes) = &self.0 else { return Vec::new() };
        let mut values = Vec::new();
        let parts: Vec<&[u8]> = bytes.split(|&byte| byte == b'/').collect();
        for skip in 0..parts.len() {
            if parts.len() > 1 {
                let mut fewer = parts.clone();
                fewer.remove(skip);
                values.push(Text(Some(fewer.join(&b'/'))));
            }
        }
        values
    }
}

macro_rules! flags {
    ($(#[$doc:meta])* $name:ident { $($flag:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub(super) struct $name(pub(super) c_int);

        impl $name {
            const NAMED: &[(&str, c_int)] = &[$((stringify!($flag), libc::$flag as c_int)),*];
        }

        impl Field for $name {
            fn text(&self) -> String {
                let mut left = self.0;
                let mut words = Vec::new();
                for &(word, bits) in Self::NAMED {
                    if left & bits == bits {
                        words.push(word.to_owned());
                        left &= !bits;
                    }
                }
                if left != 0 {
                    words.push(format!("{left:#x}"));
                }
                if words.is_empty() {
                    words.push("0".into());
                }
                words.join("|")
            }
            fn parse(text: &str) -> Option<Self> {
                let mut value = 0;
                for word in text.split('|').filter(|word| *word != "0") {
                    let known = Self::NAMED.iter().find(|(name, _)| *name == word).map(|&(_, bits)| bits);
                    let number = || u32::from_str_radix(word.strip_prefix("0x")?, 16).ok().map(|bits| bits as c_int);
                    value |= known.or_else(number)?;
                }
                Some($name(value))
            }
            fn simpler(&self) -> Vec<Self> {
                let bits = (0..32).map(|bit| self.0 & !(1_i32.wrapping_shl(bit)));
                let named = Self::NAMED.iter().filter(|(_, bits)| self.0 & bits == *bits).map(|(_, bits)| self.0 & !bits);
                named.chain(bits).filter(|value| *value != self.0).map($name).collect()
            }
        }
    };
}

flags! {
    /// Flags of `open` and of F_SETFL.
    OpenFlags {
        O_TMPFILE, O_SYNC, O_DSYNC, O_RDWR, O_WRONLY, O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_NONBLOCK, O_DIRECTORY,
        O_NOFOLLOW, O_PATH, O_CLOEXEC, O_NOATIME, O_NOCTTY,
    }
}
flags! {
    /// Flags of the `at` functions, `AT_REMOVEDIR` apart.
    AtFlags { AT_SYMLINK_NOFOLLOW, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH, AT_EACCESS }
}
flags! {
    /// Flags of `renameat2`.
    RenameFlags { RENAME_NOREPLACE, RENAME_EXCHANGE }
}
flags! {
    /// `fallocate`'s mode.
    FallocateMode {
        FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_ZERO_RANGE,
        FALLOC_FL_INSERT_RANGE,
    }
}

/// `lseek`'s whence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Whence(pub(super) c_int);

const WHENCES: &[(&str, c_int)] = &[
    ("SEEK_SET", libc::SEEK_SET),
    ("SEEK_CUR", libc::SEEK_CUR),
    ("SEEK_END", libc::SEEK_END),
    ("SEEK_DATA", libc::SEEK_DATA),
    ("SEEK_HOLE", libc::SEEK_HOLE),
];

impl Field for Whence {
    fn text(&self) -> String {
        match WHENCES.iter().find(|(_, value)| *value == self.0) {
            Some((name, _)) => (*name).into(),
            None => self.0.to_string(),
        }
    }
    fn parse(text: &str) -> Option<Self> {
        let known = WHENCES.iter().find(|(name, _)| *name == text).map(|&(_, value)| value);
        known.or_else(|| text.parse().ok()).map(Whence)
    }
    fn simpler(&self) -> Vec<Self> {
        Vec::new()
    }
}

/// What the bytes of a write look like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pattern {
    /// Zeros.
    Zeros,
    /// Compresses well.
    Words(u8),
    /// Does not compress.
    Noise(u8),
    /// No bytes: a NULL pointer.
    Null,
}

/// The bytes of a write.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Data {
    /// What they look like.
    pub(super) pattern: Pattern,
    /// How many they are.
    pub(super) len: u32,
}

impl Data {
    /// The bytes; for a NULL pointer, none.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let len = self.len as usize;
        match self.pattern {
            Pattern::Null => Vec::new(),
            Pattern::Zeros => vec![0; len],
            Pattern::Words(seed) => words(seed, len),
            Pattern::Noise(seed) => noise(seed, len),
        }
    }
}

fn words(seed: u8, len: usize) -> Vec<u8> {
    // Each line carries its own number, so that a block at the wrong place is seen.
    let mut bytes = Vec::with_capacity(len + 64);
    let mut line = u64::from(seed) << 32;
    while bytes.len() < len {
        bytes.extend_from_slice(b"line ");
        bytes.extend_from_slice(&line.to_le_bytes().map(|byte| b'a' + byte % 26));
        bytes.extend_from_slice(b" of a file that compresses well\n");
        line += 1;
    }
    bytes.truncate(len);
    bytes
}

fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut random = super::random::Random::new(u64::from(seed) + 1);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

impl Field for Data {
    fn text(&self) -> String {
        let len = self.len;
        match self.pattern {
            Pattern::Zeros => format!("zeros:{len}"),
            Pattern::Words(seed) => format!("words:{len}:{seed}"),
            Pattern::Noise(seed) => format!("noise:{len}:{seed}"),
            Pattern::Null => format!("null:{len}"),
        }
    }
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(':');
        let (kind, len) = (words.next()?, words.next()?.parse().ok()?);
        let seed = words.next().map(str::parse).transpose().ok()?;
        let pattern = match (kind, seed) {
            ("zeros", None) => Pattern::Zeros,
            ("null", None) => Pattern::Null,
            ("words", Some(seed)) => Pattern::Words(seed),
            ("noise", Some(seed)) => Pattern::Noise(seed),
            _ => return None,
        };
        Some(Data { pattern, len })
    }
    fn simpler(&self) -> Vec<Self> {
        let lens = i64::from(self.len).simpler().into_iter();
        let mut values: Vec<Data> = lens.map(|len| Data { len: len as u32, ..*self }).collect();
        if matches!(self.pattern, Pattern::Noise(_)) {
            values.push(Data { pattern: Pattern::Words(0), ..*self });
        }
        values
    }
}

/// A list of arguments, joined by commas; `-` when empty.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T: Field> Field for List<T> {
    fn text(&self) -> String {
        if self.0.is_empty() {
            return "-".into();
        }
        self.0.iter().map(Field::text).collect::<Vec<_>>().join(",")
    }
    fn parse(text: &str) -> Option<Self> {
        if text == "-" {
            return Some(List(Vec::new()));
        }
        text.split(',').map(T::parse).collect::<Option<Vec<_>>>().map(List)
    }
    fn simpler(&self) -> Vec<Self> {
        let mut values = Vec::new();
        for index in 0..self.0.len() {
            let mut shorter = self.0.clone();
            shorter.remove(index);
            values.push(List(shorter));
            for simpler in self.0[index].simpler() {
                let mut plainer = self.0.clone();
                plainer[index] = simpler;
                values.push(List(plainer));
            }
        }
        values
    }
}

/// An offset behind a pointer; `None` is a NULL pointer.
impl Field for Option<i64> {
    fn text(&self) -> String {
        self.map_or("null".into(), |value| value.to_string())
    }
    fn parse(text: &str) -> Option<Self> {
        if text == "null" { Some(None) } else { text.parse().ok().map(Some) }
    }
    fn simpler(&self) -> Vec<Self> {
        self.map_or(Vec::new(), |value| value.simpler().into_iter().map(Some).collect())
    }
}

/// The two times of `utimensat`; `None` is a NULL pointer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Times(pub(super) Option<[(i64, i64); 2]>);

impl Field for Times {
    fn text(&self) -> String {
        let one = |(seconds, nanoseconds): (i64, i64)| match nanoseconds {
            libc::UTIME_NOW => "now".into(),
            libc::UTIME_OMIT => "omit".into(),
            _ => format!("{seconds}:{nanoseconds}"),
        };
        self.0.map_or("null".into(), |[access, modify]| format!("{},{}", one(access), one(modify)))
    }
    fn parse(text: &str) -> Option<Self> {
        if text == "null" {
            return Some(Times(None));
        }
        let one = |word: &str| match word {
            "now" => Some((0, libc::UTIME_NOW)),
            "omit" => Some((0, libc::UTIME_OMIT)),
            _ => {
                let (seconds, nanoseconds) = word.split_once(':')?;
                Some((seconds.parse().ok()?, nanoseconds.parse().ok()?))
            }
        };
        let (access, modify) = text.split_once(',')?;
        Some(Times(Some([one(access)?, one(modify)?])))
    }
    fn simpler(&self) -> Vec<Self> {
        Vec::new()
    }
}
