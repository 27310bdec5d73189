//! Two per-thread buffers for work on one block: its plain bytes and its member.
//!
//! Promises: a buffer taken is the taker's alone until dropped; taking twice on one thread (a copy
//! between files inflates while it holds one) works and only costs an allocation. The memory is
//! bounded by 128 KiB a thread and not charged to any filesystem (docs/INVARIANTS.md, M4).

use core::cell::Cell;

use ermfs_memory::{BLOCK_SIZE, try_box};

use crate::errno::Result;
use crate::inject::allocation;

thread_local! {
    static KEPT: Cell<Option<Box<Buffers>>> = const { Cell::new(None) };
}

struct Buffers {
    plain: Vec<u8>,
    member: Vec<u8>,
}

/// The calling thread's buffers, given back when dropped.
pub(crate) struct Scratch(Option<Box<Buffers>>);

impl Scratch {
    /// Takes the thread's buffers, or new ones where they are taken already.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn take() -> Result<Scratch> {
        if let Ok(Some(kept)) = KEPT.try_with(Cell::take) {
            return Ok(Scratch(Some(kept)));
        }
        let mut plain = Vec::new();
        allocation!("scratch")?;
        plain.try_reserve_exact(BLOCK_SIZE)?;
        plain.resize(BLOCK_SIZE, 0);
        let buffers = try_box(Buffers { plain, member: Vec::new() }).map_err(|(error, _)| error)?;
        Ok(Scratch(Some(buffers)))
    }

    fn buffers(&mut self) -> &mut Buffers {
        self.0.as_mut().expect("held until dropped")
    }

    /// 64 KiB for a block's plain bytes; they hold whatever was left there.
    pub(crate) fn plain(&mut self) -> &mut [u8] {
        &mut self.buffers().plain
    }

    /// Both buffers: 64 KiB of plain bytes, and room for a member.
    pub(crate) fn both(&mut self) -> (&mut [u8], &mut Vec<u8>) {
        let buffers = self.buffers();
        (&mut buffers.plain, &mut buffers.member)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // On a thread that is ending, the buffers are simply freed.
        let _ = KEPT.try_with(|kept| kept.set(self.0.take()));
    }
}
