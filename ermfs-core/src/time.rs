//! The clock that file times come from.
//!
//! Promises: [`coarse`] costs a few nanoseconds and moves in ticks of the kernel's (1 to 10 ms);
//! [`fine`] is exact; a coarse time taken after a fine one is not earlier than it, so the order of
//! changes to different files shows in their times. Owns the latest fine time given out. Times are
//! nanoseconds since 1970 in an `i64`, which reaches from 1677 to 2262.

/// Nanoseconds in a second.
pub(crate) const SECOND: i64 = 1_000_000_000;

/// Longer than any tick: a fine time further ahead than this dates from before the clock was set back.
const LONGEST_TICK: i64 = SECOND / 50;

/// The latest time that [`fine`] gave out. Relaxed: it orders nothing but itself.
static LATEST_FINE: AtomicI64 = AtomicI64::new(i64::MIN);

/// The time of the last tick, or the latest fine time if that is later.
#[inline]
pub(crate) fn coarse() -> i64 {
    let tick = read(libc::CLOCK_REALTIME_COARSE);
    let fine = LATEST_FINE.load(Ordering::Relaxed);
    if fine > tick && fine - tick < LONGEST_TICK { fine } else { tick }
}

/// The exact time.
pub(crate) fn fine() -> i64 {
    let now = read(libc::CLOCK_REALTIME);
    let latest = LATEST_FINE.fetch_max(now, Ordering::Relaxed);
    if latest > now && latest - now > LONGEST_TICK {
        LATEST_FINE.store(now, Ordering::Relaxed);
    }
    now
}

/// Through libc, whose call valgrind knows; rustix looks for the vDSO itself, and crashes there.
fn read(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer. Every Linux has both clocks, so the call cannot fail.
    unsafe { libc::clock_gettime(clock, &mut time) };
    from_parts(time.tv_sec, time.tv_nsec as u32)
}

/// Seconds and nanoseconds (below [`SECOND`]) as nanoseconds; clamped to what an `i64` holds.
pub(crate) fn from_parts(seconds: i64, nanoseconds: u32) -> i64 {
    seconds.saturating_mul(SECOND).saturating_add(i64::from(nanoseconds))
}

/// Nanoseconds as seconds and nanoseconds; the latter are never negative.
pub(crate) fn to_parts(time: i64) -> (i64, u32) {
    (time.div_euclid(SECOND), time.rem_euclid(SECOND) as u32)
}

use ermfs_memory::sync::atomic::{AtomicI64, Ordering};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_round_trip_and_clamp() {
        for parts in
            [(0, 0), (1, 999_999_999), (-1, 999_999_999), (-1, 0), (9_000_000_000, 5), (-9_000_000_000, 5)]
        {
            assert_eq!(to_parts(from_parts(parts.0, parts.1)), parts);
        }
        assert_eq!(from_parts(i64::MAX, 0), i64::MAX);
        assert_eq!(from_parts(i64::MIN, 999_999_999), i64::MIN + 999_999_999);
    }

    #[test]
    fn a_coarse_time_is_not_before_an_earlier_fine_one() {
        for _ in 0..10_000 {
            let before = fine();
            assert!(coarse() >= before);
        }
    }
}
