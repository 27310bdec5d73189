//! A descriptor's end while another thread looks at it.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::failpoint::{self, Parking, Plan};
use crate::testing;

/// The last descriptor of a filesystem goes, and the filesystem with it, while a call has just looked the number up.
#[test]
fn a_filesystem_that_goes_leaves_what_a_call_is_looking_at() {
    testing::alone(module_path!(), "a_filesystem_that_goes_leaves_what_a_call_is_looking_at", || {
        let root = fsmount(&Config::default()).unwrap();
        let fd = openat(root, b"f", O_RDWR | O_CREAT, 0o644).unwrap();
        assert_eq!(put_at(fd, b"hello", 0), Ok(5));
        close(root).unwrap();
        let parking = Arc::new(Parking::default());
        let caller = std::thread::spawn({
            let parking = Arc::clone(&parking);
            move || {
                failpoint::set(Plan::Park("fd.looked_up", 0, parking));
                fstat(fd).map(|status| status.st_size)
            }
        });
        assert!(parking.wait(Duration::from_secs(60)));
        close(fd).unwrap();
        parking.release();
        // Locked, the call holds the description; lockless, it finds that it has ended.
        let expected = if is_lockless() { Err(Errno::EBADF) } else { Ok(5) };
        assert_eq!(caller.join().unwrap(), expected);
    });
}
