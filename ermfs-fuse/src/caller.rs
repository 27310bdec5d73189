//! Who makes a request.
//!
//! Promises: its ids as the kernel gives them, and its groups as they are now, where they are asked for. Owns nothing. Never
//! more of a judgement than the engine's: the kernel has made its own before.

use ermfs_core::Credentials;
use fuser::Request;

/// No one's user number: one who has no privilege.
const NOBODY: u32 = u32::MAX;

/// See the module's page.
#[derive(Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pid: u32,
}

impl Caller {
    pub(crate) fn of(request: &Request) -> Caller {
        Caller { uid: request.uid(), gid: request.gid(), pid: request.pid() }
    }

    /// To whom new files belong, with every check passed.
    pub(crate) fn owner(self) -> Credentials {
        Credentials::superuser_as(self.uid, self.gid)
    }

    /// Somebody in its groups without privilege. They are asked of /proc, since requests carry but one of them; a process
    /// that is not to be seen there is in no other.
    pub(crate) fn unprivileged(self) -> Credentials {
        let status = std::fs::read(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        Credentials::new(NOBODY, self.gid, groups(&status))
    }
}

/// The supplementary groups that a process's status names.
fn groups(status: &[u8]) -> Vec<u32> {
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Groups:"));
    let numbers = line.unwrap_or_default().split(u8::is_ascii_whitespace);
    numbers.filter_map(|number| str::from_utf8(number).ok()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_from_a_status() {
        assert_eq!(
            groups(b"Name:\tGroups: 7\nUid:\t0\t0\nGroups:\t4 24 4294967294 \nNStgid:\t1\n"),
            [4, 24, 4_294_967_294]
        );
        assert!(groups(b"Groups:\t \n").is_empty() && groups(b"").is_empty());
        let own = Caller { uid: 1, gid: 2, pid: std::process::id() }.unprivileged();
        assert!(own.has_group(2) && !own.is_privileged());
    }
}
