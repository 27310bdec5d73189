//! Who the calls are made for: the test is root and takes on other ids, on both sides alike.
//!
//! Promises that what the test does for itself (walks, watches) is done as root, and that each side's thread has the ids
//! that the sequence asks for. Owns the table of people. Never used where the kernel's optional protections of links and
//! sticky directories are not those that ERMFS has.

use super::field::{At, OpenFlags, Text};
use super::world::{Argument, World, call};
use libc::c_long;

/// One identity.
struct Person {
    real: u32,
    effective: u32,
    group: u32,
    groups: &'static [u32],
}

/// Root first. The ids are those that the generator gives files to.
const PEOPLE: &[Person] = &[
    Person { real: 0, effective: 0, group: 0, groups: &[] },
    Person { real: 1000, effective: 1000, group: 1000, groups: &[65534] },
    Person { real: 65534, effective: 65534, group: 65534, groups: &[] },
    Person { real: 1000, effective: 65534, group: 1000, groups: &[7] },
    Person { real: 65534, effective: 0, group: 1000, groups: &[] },
];

/// How many there are.
pub(super) const COUNT: i64 = PEOPLE.len() as i64;

/// Whether sequences may take on other ids: as root, where Linux protects what ERMFS protects and nothing else.
pub(super) fn possible() -> bool {
    let setting = |name: &str| std::fs::read_to_string(format!("/proc/sys/fs/protected_{name}"));
    let is = |name: &str, value: &str| setting(name).is_ok_and(|text| text.trim() == value);
    // SAFETY: asks for a number only.
    let root = unsafe { libc::geteuid() } == 0;
    root && is("hardlinks", "1") && ["symlinks", "fifos", "regular"].iter().all(|name| is(name, "0"))
}

/// A bare system call, which changes this thread only. The saved user stays 0, so that there is a way back.
fn bare(number: c_long, arguments: [usize; 3]) {
    // SAFETY: numbers, and for setgroups a list of the stated length.
    let answer = unsafe { libc::syscall(number, arguments[0], arguments[1], arguments[2]) };
    assert_eq!(answer, 0, "system call {number}: {}", std::io::Error::last_os_error());
}

fn take_on(person: &Person) {
    bare(libc::SYS_setresuid, [0, 0, 0]);
    bare(libc::SYS_setgroups, [person.groups.len(), person.groups.as_ptr() as usize, 0]);
    bare(libc::SYS_setresgid, [person.group as usize, person.group as usize, person.group as usize]);
    bare(libc::SYS_setresuid, [person.real as usize, person.effective as usize, 0]);
}

impl World {
    /// Makes the calls from now on somebody's.
    pub(super) fn take_on(&mut self, who: i64) -> String {
        self.who = who.clamp(0, COUNT - 1) as usize;
        self.change_ids(self.who)
    }

    /// Runs what the test does for itself.
    pub(super) fn as_root<R>(&mut self, work: impl FnOnce(&mut World) -> R) -> R {
        if self.who == 0 {
            return work(self);
        }
        self.change_ids(0);
        let result = work(self);
        self.change_ids(self.who);
        result
    }

    fn change_ids(&self, who: usize) -> String {
        take_on(&PEOPLE[who]);
        // SAFETY: a function of the library without arguments.
        match self.refresh.map(|refresh| unsafe { refresh() }) {
            None | Some(0) => "= 0".into(),
            Some(answer) => format!("WRONG: refresh_credentials answers {answer}"),
        }
    }

    /// Whether an open would come to a fifo, which the kernel would wait at and ERMFS does not open.
    pub(super) fn leads_to_fifo(&mut self, at: At, path: &Text, flags: OpenFlags) -> bool {
        let start = self.at(at, path).unwrap_or(libc::AT_FDCWD);
        let follow = if flags.0 & libc::O_NOFOLLOW != 0 { libc::AT_SYMLINK_NOFOLLOW } else { 0 };
        let path = Argument::new(path);
        let mut status = super::answer::empty_stat();
        let found = self.as_root(|world| {
            call!(world, fstatat(start, path.pointer(), &raw mut status, follow)).value == 0
        });
        found && flags.0 & libc::O_PATH == 0 && status.st_mode & libc::S_IFMT == libc::S_IFIFO
    }
}
