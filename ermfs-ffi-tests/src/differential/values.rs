//! The values that calls are made of: names, descriptors, sizes, flags.
//!
//! Promises small domains, so that calls often meet the same file, and every boundary of the content's pages and blocks.
//! Owns what a sequence probably made so far. Never knows whether it did: answers are not looked at.

use super::field::{At, AtFlags, Data, Dir, Fd, List, Mode, Pattern, SLOTS, STREAMS, Slot, Text, Times};
use super::generate::Limits;
use super::random::Random;
use libc::*;

/// The random values of one sequence, and what they were likely to have made so far.
pub(super) struct Generator<'a> {
    pub(super) random: Random,
    pub(super) limits: &'a Limits,
    /// Paths that may exist, the latest last.
    pub(super) made: Vec<Vec<u8>>,
    /// Those of them that may be directories.
    pub(super) directories: Vec<Vec<u8>>,
    /// Slots that may hold a directory.
    pub(super) directory_slots: Vec<u8>,
    /// What was last set by path: path, l- form, name.
    pub(super) attribute: Option<(Text, bool, Text)>,
    /// Slots opened on one file, so that their locks meet.
    pub(super) lock_slots: Vec<u8>,
    /// Slots that may be open.
    pub(super) open: Vec<u8>,
}

pub(super) const SMALL: &[i64] = &[0, 1, 2, 10, 100, 1000, 4095, 4096, 4097, 8192];
pub(super) const LARGE: &[i64] = &[65535, 65536, 65537, 131_071, 131_072, 131_073, 196_608];
pub(super) const FAR: &[i64] = &[
    1 << 20,
    (1 << 32) - 1,
    1 << 32,
    (1 << 32) + 1,
    1 << 62,
    i64::MAX - 65536,
    i64::MAX - 4096,
    i64::MAX - 1,
    i64::MAX,
    -1,
    -4096,
    i64::MIN,
];

pub(super) const NAMES: &[&[u8]] =
    &[b"a", b"b", b"c", b"d1", b"d2", b"l1", b"l2", b"x.txt", b"d1", b"d2", b"a", b"b"];
/// What directories, files and symlinks are mostly called, so that paths through them often lead somewhere.
pub(super) const DIRECTORY_NAMES: &[&[u8]] = &[b"d1", b"d2"];
pub(super) const FILE_NAMES: &[&[u8]] = &[b"a", b"b", b"c", b"x.txt"];
pub(super) const LINK_NAMES: &[&[u8]] = &[b"l1", b"l2"];
/// A bit that open(2) does not know.
pub(super) const UNKNOWN_OPEN_BIT: i32 = 0x0080_0000;

impl<'a> Generator<'a> {
    pub(super) fn new(seed: u64, limits: &'a Limits) -> Generator<'a> {
        Generator {
            random: Random::new(seed),
            limits,
            made: Vec::new(),
            directories: Vec::new(),
            directory_slots: Vec::new(),
            attribute: None,
            lock_slots: Vec::new(),
            open: Vec::new(),
        }
    }

    pub(super) fn component(&mut self) -> Vec<u8> {
        match self.random.below(100) {
            0..=85 => self.random.pick(NAMES).to_vec(),
            86..=89 => b".".to_vec(),
            90..=95 => b"..".to_vec(),
            96 | 97 => vec![b'n'; 255],
            98 => vec![b'n'; 256],
            _ => b"\xff\xfe \n\\".to_vec(),
        }
    }

    /// A path that probably leads somewhere.
    pub(super) fn bytes(&mut self) -> Vec<u8> {
        if self.made.is_empty() || self.random.percent(25) {
            return self.any_path();
        }
        let known = if self.random.percent(20) && !self.directories.is_empty() {
            &self.directories
        } else {
            &self.made
        };
        let mut path = known[self.random.below(known.len())].clone();
        match self.random.below(20) {
            0..=2 => {
                path.push(b'/');
                path.extend(self.component());
            }
            3 => path.insert(0, b'/'),
            4 => path.extend_from_slice(self.random.pick(&[b"/".as_slice(), b"//", b"/.", b"/.."])),
            _ => {}
        }
        path
    }

    /// A path for something new that is mostly called one of these names.
    pub(super) fn new_bytes(&mut self, names: &[&[u8]]) -> Vec<u8> {
        let last = if self.random.percent(75) { self.random.pick(names).to_vec() } else { self.component() };
        let path = match self.random.below(20) {
            0 => self.any_path(),
            1 | 2 => self.bytes(),
            3..=10 if !self.directories.is_empty() => {
                let parent = self.directories[self.random.below(self.directories.len())].clone();
                [parent, b"/".to_vec(), last].concat()
            }
            _ => last,
        };
        self.remember(path.clone());
        path
    }

    pub(super) fn remember(&mut self, path: Vec<u8>) {
        const MOST: usize = 14;
        if self.made.contains(&path) || path.len() > 1000 {
            return;
        }
        if self.made.len() >= MOST {
            let index = self.random.below(MOST);
            self.made.remove(index);
        }
        self.made.push(path);
    }

    pub(super) fn remember_directory(&mut self, path: &Text) {
        const MOST: usize = 5;
        let Some(path) = path.0.as_ref().filter(|path| path.len() < 1000) else { return };
        if self.directories.len() >= MOST {
            let index = self.random.below(MOST);
            self.directories.remove(index);
        }
        self.directories.push(path.clone());
    }

    pub(super) fn any_path(&mut self) -> Vec<u8> {
        let depth = self.random.pick(&[1, 1, 1, 2, 2, 3]);
        let mut path = Vec::new();
        if self.random.percent(8) {
            path.push(b'/');
        }
        for index in 0..depth {
            if index > 0 {
                path.extend_from_slice(if self.random.percent(5) { b"//" } else { b"/" });
            }
            path.extend(self.component());
        }
        match self.random.below(100) {
            0 => path.clear(),
            1 => path = vec![b'/'; self.random.pick(&[1, 2, 3, 4094, 4095, 4096])],
            2 => path = [vec![b'/'; self.random.pick(&[4093, 4094, 4095, 4096])], b"a".to_vec()].concat(),
            _ => {}
        }
        path
    }

    /// A path for something new, seldom NULL.
    pub(super) fn new_path(&mut self, names: &[&[u8]]) -> Text {
        if self.random.below(250) == 0 { Text(None) } else { Text(Some(self.new_bytes(names))) }
    }

    /// A path that is not NULL.
    pub(super) fn some_path(&mut self) -> Text {
        Text(Some(self.bytes()))
    }

    pub(super) fn path(&mut self) -> Text {
        if self.random.below(250) == 0 { Text(None) } else { self.some_path() }
    }

    /// Mostly a directory's path; never NULL.
    pub(super) fn directory_path(&mut self) -> Text {
        let known = !self.directories.is_empty();
        Text(Some(match self.random.below(10) {
            0..=4 if known => self.directories[self.random.below(self.directories.len())].clone(),
            0..=6 => self.random.pick(&[b".".as_slice(), b"..", b"/"]).to_vec(),
            _ => self.bytes(),
        }))
    }

    /// Where a rename goes: something new or something that is there.
    pub(super) fn target_path(&mut self) -> Text {
        if self.random.percent(50) { self.new_path(NAMES) } else { self.path() }
    }

    pub(super) fn fd(&mut self) -> Fd {
        match self.random.below(100) {
            0 => Fd::None,
            1..=4 => Fd::Root,
            5..=10 => Fd::Slot(1 + self.random.below(SLOTS as usize) as u8),
            _ if self.open.is_empty() => Fd::Slot(1),
            _ => Fd::Slot(self.random.pick(&self.open)),
        }
    }

    /// A slot that may be emptied, so never the root.
    pub(super) fn any_slot(&mut self) -> Fd {
        match self.fd() {
            Fd::Root => Fd::Slot(1),
            fd => fd,
        }
    }

    pub(super) fn to(&mut self) -> Slot {
        let slot = 1 + self.random.below(SLOTS as usize) as u8;
        self.lock_slots.retain(|&other| other != slot);
        if !self.open.contains(&slot) {
            self.open.push(slot);
        }
        Slot(slot)
    }

    pub(super) fn at(&mut self) -> At {
        let at = match self.random.below(100) {
            0..=34 => At::Plain,
            35..=49 => At::Cwd,
            50..=84 => At::Of(Fd::Root),
            _ => At::Of(self.fd()),
        };
        if self.limits.working_directory || matches!(at, At::Of(_)) { at } else { At::Of(Fd::Root) }
    }

    pub(super) fn len(&mut self) -> i64 {
        match self.random.below(100) {
            0..=69 => self.random.pick(SMALL),
            70..=98 => self.random.pick(LARGE),
            _ => 1 << 20,
        }
    }

    pub(super) fn off(&mut self) -> i64 {
        match self.random.below(100) {
            0..=54 => self.random.pick(SMALL),
            55..=86 => self.random.pick(LARGE),
            _ => self.random.pick(FAR),
        }
    }

    pub(super) fn data(&mut self) -> Data {
        let seed = self.random.below(4) as u8;
        let pattern = match self.random.below(20) {
            0..=9 => Pattern::Words(seed),
            10..=15 => Pattern::Noise(seed),
            _ => Pattern::Zeros,
        };
        Data { pattern, len: self.len() as u32 }
    }

    pub(super) fn data_or_null(&mut self) -> Data {
        let data = self.data();
        if self.random.percent(1) { Data { pattern: Pattern::Null, ..data } } else { data }
    }

    pub(super) fn pieces<T>(&mut self, mut one: impl FnMut(&mut Self) -> T) -> List<T> {
        let count = self.random.pick(&[0, 1, 2, 2, 3, 4]);
        List((0..count).map(|_| one(self)).collect())
    }

    pub(super) fn open_flags(&mut self) -> i32 {
        let mut flags = match self.random.below(40) {
            0..=7 => O_RDONLY,
            8..=11 => O_WRONLY,
            12 => O_RDWR | O_WRONLY,
            _ => O_RDWR,
        };
        const OFTEN: &[(i32, u32)] =
            &[(O_CREAT, 55), (O_EXCL, 10), (O_TRUNC, 15), (O_APPEND, 15), (O_NOFOLLOW, 8)];
        const RARE: &[(i32, u32)] = &[
            (O_DIRECTORY, 8),
            (O_CLOEXEC, 15),
            (O_PATH, 5),
            (O_NONBLOCK, 4),
            (O_SYNC, 3),
            (O_NOATIME, 3),
            (O_NOCTTY, 2),
            (UNKNOWN_OPEN_BIT, 2),
        ];
        for &(flag, chance) in OFTEN.iter().chain(RARE) {
            if self.random.percent(chance) {
                flags |= flag;
            }
        }
        match self.random.below(25) {
            0 | 1 if self.limits.tmpfile => (flags & !O_CREAT) | O_TMPFILE,
            2 | 3 => O_RDONLY | O_DIRECTORY,
            _ => flags,
        }
    }

    /// A file mode. None is sticky and writable by others, but for worlds with people: there the kernel's fs.protected_*
    /// settings may forbid even root what POSIX allows.
    pub(super) fn mode(&mut self) -> Mode {
        const MODES: &[u32] =
            &[0o644, 0o644, 0o600, 0o755, 0o777, 0o666, 0, 0o7755, 0o4755, 0o2775, 0o2644, 0o1755, 0o170644];
        const SHARED: &[u32] = &[
            0o1777, 0o1777, 0o777, 0o777, 0o770, 0o755, 0o750, 0o711, 0o666, 0o660, 0o640, 0o444, 0o222,
            0o3777, 0o6777,
        ];
        let modes = if self.limits.people && self.random.percent(60) { SHARED } else { MODES };
        Mode(self.random.pick(modes))
    }

    pub(super) fn at_flags(&mut self, known: &[i32], chance: u32) -> AtFlags {
        let mut flags = 0;
        if self.random.percent(chance) {
            flags |= self.random.pick(known);
        }
        match self.random.below(60) {
            // Newer kernels do not look at other flags beside AT_EMPTY_PATH.
            0 if flags & AT_EMPTY_PATH == 0 => flags |= 0x8000,
            1 if flags & 0x8000 == 0 => flags |= self.random.pick(known),
            _ => {}
        }
        AtFlags(flags)
    }

    pub(super) fn id(&mut self) -> i64 {
        let own = self.random.pick(&[-1, 0]);
        if self.limits.own_ids_only { own } else { self.random.pick(&[own, own, 1000, 65534, 4_294_967_294]) }
    }

    pub(super) fn times(&mut self) -> Times {
        let mut one = || match self.random.below(20) {
            0..=3 => (0, UTIME_NOW),
            4..=7 => (0, UTIME_OMIT),
            8 => (5, 1_000_000_000),
            9 => (5, -1),
            _ => (
                self.random.pick(&[0, 1, 1234, 0x7fff_ffff, 1 << 33, -1, -100_000]),
                self.random.pick(&[0, 1, 999_999_999]),
            ),
        };
        let pair = [one(), one()];
        if self.random.percent(15) { Times(None) } else { Times(Some(pair)) }
    }

    /// The name of an extended attribute. In a user namespace the kernel's superuser is none to `trusted.`.
    pub(super) fn attribute_name(&mut self) -> Text {
        const USER: &[&[u8]] = &[b"user.a", b"user.b", b"user.A", b"user.a.b"];
        const ROOT: &[&[u8]] = &[b"trusted.a", b"trusted.b", b"security.a"];
        const ODD: &[&[u8]] = &[
            b"",
            b"user.",
            b"security.",
            b"user",
            b"a",
            b"system.a",
            b"User.a",
            b".user.a",
            &[b'n'; 255],
            &[b'n'; 256],
        ];
        match self.random.below(20) {
            0 => Text(Some(self.random.pick(ODD).to_vec())),
            1 if self.random.percent(10) => Text(None),
            1 | 2 => Text(Some([b"user.".as_slice(), &[b'n'; 250]].concat())),
            3 if self.random.percent(30) => Text(Some([b"user.".as_slice(), &[b'n'; 251]].concat())),
            4 if !self.limits.own_ids_only && self.random.percent(20) => Text(Some(b"trusted.".to_vec())),
            3..=7 if !self.limits.own_ids_only => Text(Some(self.random.pick(ROOT).to_vec())),
            _ => Text(Some(self.random.pick(USER).to_vec())),
        }
    }

    /// The value of an extended attribute.
    pub(super) fn attribute_value(&mut self) -> Data {
        let len = self.random.pick(&[0, 1, 1, 4, 5, 5, 20, 300, 65536, 65537]);
        let pattern = match self.random.below(40) {
            0 => Pattern::Null,
            1 => Pattern::Zeros,
            _ => Pattern::Words(self.random.below(8) as u8),
        };
        Data { pattern, len }
    }

    pub(super) fn dir(&mut self) -> Dir {
        Dir(self.random.below(STREAMS as usize) as u8)
    }

    /// A path for a call with these flags: never NULL beside AT_EMPTY_PATH, and then often empty.
    pub(super) fn path_for(&mut self, flags: AtFlags) -> Text {
        if flags.0 & AT_EMPTY_PATH == 0 {
            return self.path();
        }
        if self.random.percent(70) { Text(Some(Vec::new())) } else { self.some_path() }
    }

    /// Where a call with AT_EMPTY_PATH starts: mostly at a descriptor.
    pub(super) fn at_for(&mut self, flags: AtFlags) -> At {
        if flags.0 & AT_EMPTY_PATH != 0 && self.random.percent(80) { At::Of(self.fd()) } else { self.at() }
    }
}
