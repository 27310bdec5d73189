//! Tells the model checker which bytes of pages are read and written: it sees atomics only, and a reader that gets at bytes
//! before they are published to it is just what it is to find.
//!
//! Promises: nothing, and costs nothing, but in a build with `--cfg loom`; there, two accesses to the same kilobyte that are
//! not ordered, one of them a write, fail the model. Owns that build's books, one for each execution.

/// Bytes are being read.
#[cfg(not(loom))]
#[inline(always)]
pub(super) fn read(_address: *const u8, _len: usize) {}

/// Bytes are being written.
#[cfg(not(loom))]
#[inline(always)]
pub(super) fn written(_address: *const u8, _len: usize) {}

#[cfg(loom)]
pub(super) use books::{forget, read, written};

#[cfg(loom)]
mod books {
    use core::mem::ManuallyDrop;
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::rc::Rc;

    use ::loom::cell::UnsafeCell;

    const UNIT: usize = 1024;

    type Cells = BTreeMap<usize, Rc<UnsafeCell<()>>>;

    std::thread_local! {
        /// Not dropped with its thread, because the model is over by then.
        static CELLS: ManuallyDrop<RefCell<Cells>> = const { ManuallyDrop::new(RefCell::new(Cells::new())) };
    }

    fn for_each(address: *const u8, len: usize, access: impl Fn(&UnsafeCell<()>)) {
        if len == 0 {
            return;
        }
        for unit in address.addr() / UNIT..(address.addr() + len).div_ceil(UNIT) {
            let cell = CELLS.with(|cells| {
                Rc::clone(cells.borrow_mut().entry(unit).or_insert_with(|| Rc::new(UnsafeCell::new(()))))
            });
            access(&cell);
        }
    }

    pub(in crate::content) fn read(address: *const u8, len: usize) {
        for_each(address, len, |cell| cell.with(|_| ()));
    }

    pub(in crate::content) fn written(address: *const u8, len: usize) {
        for_each(address, len, |cell| cell.with_mut(|_| ()));
    }

    /// Ends an execution.
    pub(in crate::content) fn forget() {
        CELLS.with(|cells| cells.borrow_mut().clear());
    }
}
