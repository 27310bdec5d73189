//! The calls on record locks and flock.
//!
//! Promises answers in which process ids do not show, but for whose they are. Owns nothing. Never waits: both sides have
//! one thread.

use super::answer::{empty_stat, reply_text};
use super::field::Whence;
use super::op::Op;
use super::world::{World, call};
use libc::{c_int, c_short};

impl World {
    /// Runs a call on locks.
    pub(super) fn lock_call(&mut self, op: &Op) -> String {
        match op {
            Op::Flock { fd, operation } => {
                reply_text(&call!(self, flock(self.number(*fd), *operation as c_int)))
            }
            Op::FcntlLock { fd, command, lock, whence, start, len, pid, null } => {
                let number = self.number(*fd);
                if self.is_directorys_own_position(number, *whence) {
                    return "not asked: a position in a directory".into();
                }
                let mut flock = libc::flock {
                    l_type: *lock as c_short,
                    l_whence: whence.0 as c_short,
                    l_start: *start,
                    l_len: *len,
                    l_pid: *pid as c_int,
                };
                let pointer = if *null { std::ptr::null_mut() } else { &raw mut flock };
                let reply = call!(self, fcntl(number, *command as c_int, pointer));
                format!("{} {}", reply_text(&reply), flock_text(&flock))
            }
            _ => unreachable!("{op:?} is no call on locks"),
        }
    }

    /// Neither where a directory's end lies nor its positions are compared.
    fn is_directorys_own_position(&self, number: c_int, whence: Whence) -> bool {
        let mut status = empty_stat();
        matches!(whence.0, libc::SEEK_CUR | libc::SEEK_END)
            && call!(self, fstat(number, &raw mut status)).value == 0
            && status.st_mode & libc::S_IFMT == libc::S_IFDIR
    }

    /// The record locks that a descriptor sees, for a walk: the first that others have, and its own.
    pub(super) fn locks_text(&self, number: c_int) -> String {
        let mut text = String::new();
        let looks = [
            (libc::F_OFD_GETLK, libc::F_WRLCK),
            (libc::F_OFD_GETLK, libc::F_UNLCK),
            (libc::F_GETLK, libc::F_RDLCK),
        ];
        for (command, lock) in looks {
            // SAFETY: a struct of integers, for which zeros are values.
            let mut flock: libc::flock = unsafe { std::mem::zeroed() };
            // Own locks are looked at one after the other, as far as a few go.
            for _ in 0..16 {
                flock.l_type = lock as c_short;
                flock.l_len = 0;
                flock.l_pid = 0;
                let reply = call!(self, fcntl(number, command, &raw mut flock));
                if reply.value != 0 || i32::from(flock.l_type) == libc::F_UNLCK {
                    break;
                }
                text.push_str(&format!(" lock {}", flock_text(&flock)));
                let Some(next) = flock.l_start.checked_add(flock.l_len).filter(|_| flock.l_len > 0) else {
                    break;
                };
                flock.l_start = next;
            }
        }
        text
    }
}

fn flock_text(flock: &libc::flock) -> String {
    // SAFETY: asks for a number only.
    let own = unsafe { libc::getpid() };
    let pid = if flock.l_pid == own { "own".into() } else { flock.l_pid.to_string() };
    format!(
        "type={} whence={} start={} len={} pid={pid}",
        flock.l_type, flock.l_whence, flock.l_start, flock.l_len
    )
}
