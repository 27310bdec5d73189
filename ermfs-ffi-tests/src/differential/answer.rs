//! What a call answered, as text.
//!
//! Promises that two texts are equal exactly when a program could not tell the answers apart by what is compared.
//! Owns nothing but the thread's errno for a moment. Never prints.

use libc::c_int;

/// A call's return value and errno.
pub(super) struct Reply {
    /// The return value.
    pub(super) value: i64,
    /// errno behind it; 0 when the call did not set it.
    pub(super) errno: c_int,
}

/// Sets errno to 0.
pub(super) fn clear_errno() {
    // SAFETY: glibc gives this thread's own errno.
    unsafe { *libc::__errno_location() = 0 };
}

/// The return value with the errno that stands behind it.
pub(super) fn reply(value: i64) -> Reply {
    // SAFETY: as above.
    Reply { value, errno: unsafe { *libc::__errno_location() } }
}

/// The answer's text; errno counts only on failure.
pub(super) fn reply_text(reply: &Reply) -> String {
    if reply.value == -1 { format!("-1 {}", errno_name(reply.errno)) } else { format!("= {}", reply.value) }
}

/// errno's name, or its number.
pub(super) fn errno_name(errno: c_int) -> String {
    macro_rules! names {
        ($($name:ident)*) => {
            match errno {
                $( libc::$name => stringify!($name).into(), )*
                _ => format!("errno {errno}"),
            }
        };
    }
    names!(
        EPERM ENOENT EINTR EIO ENXIO E2BIG ENODATA EBADF EAGAIN ENOMEM EACCES EFAULT EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR
        EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS
        ENOTEMPTY ELOOP EOVERFLOW EOPNOTSUPP EDQUOT ESTALE
    )
}

/// A stat struct of zeros, to be filled.
pub(super) fn empty_stat() -> libc::stat {
    // SAFETY: stat is a struct of integers, for which zeros are values.
    unsafe { std::mem::zeroed() }
}

/// Whether this time may be the clock's: whatever was set on purpose lies a day or more away from it.
fn is_now(seconds: i64) -> bool {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    seconds.abs_diff(now as i64) < 86_400
}

/// A time that was set on purpose, or `now`.
pub(super) fn time_text(seconds: i64, nanoseconds: i64) -> String {
    if is_now(seconds) { "now".into() } else { format!("{seconds}.{nanoseconds:09}") }
}

/// Everything of a stat struct that is compared.
pub(super) fn stat_text(status: &libc::stat, access_times: bool) -> String {
    let directory = status.st_mode & libc::S_IFMT == libc::S_IFDIR;
    let mut text = format!(
        "mode=0{:o} nlink={} uid={} gid={}",
        status.st_mode, status.st_nlink, status.st_uid, status.st_gid
    );
    if !directory {
        text.push_str(&format!(" size={}", status.st_size));
    }
    if status.st_rdev != 0 {
        text.push_str(&format!(" rdev={}", status.st_rdev));
    }
    text.push_str(&format!(" mtime={}", time_text(status.st_mtime, status.st_mtime_nsec)));
    if !is_now(status.st_ctime) {
        text.push_str(" CTIME IS NOT THE CLOCK'S");
    }
    if access_times {
        text.push_str(&format!(" atime={}", time_text(status.st_atime, status.st_atime_nsec)));
    }
    text
}

/// A fast sum of bytes; pages of zeros are skipped by memcmp.
pub(super) fn sum(bytes: &[u8]) -> u64 {
    const PAGE: usize = 4096;
    static ZEROS: [u8; PAGE] = [0; PAGE];
    let mut sum = bytes.len() as u64;
    for (index, page) in bytes.chunks(PAGE).enumerate() {
        if page == &ZEROS[..page.len()] {
            continue;
        }
        let mut part = index as u64 + 1;
        let mut words = page.chunks_exact(8);
        for word in &mut words {
            let word = u64::from_le_bytes(word.try_into().expect("8 bytes"));
            part = (part ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
        for &byte in words.remainder() {
            part = (part ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
        sum = sum.wrapping_add(part.wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (part >> 31));
    }
    sum
}

/// Bytes as their first and last few and a sum of each 64 KiB of them.
pub(super) fn bytes_text(bytes: &[u8]) -> String {
    const SHOWN: usize = 12;
    if bytes.len() <= 2 * SHOWN {
        return format!("\"{}\"", bytes.escape_ascii());
    }
    let (first, last) = (&bytes[..SHOWN], &bytes[bytes.len() - SHOWN..]);
    let mut text = format!("{} bytes \"{}\"..\"{}\"", bytes.len(), first.escape_ascii(), last.escape_ascii());
    for block in bytes.chunks(65536) {
        text.push_str(&format!(" {:08x}", sum(block) as u32));
    }
    text
}
