//! What can be done with a description that is not held, only pinned.
//!
//! Promises: neither waits nor charges memory, so a pin lasts no longer than one block's work; what can't be done so is
//! declined (`None`). The description may end meanwhile, and its answer is then worth nothing. So this looks only at what
//! outlives that: the description's own memory and its inode's shell, never the filesystem. [`OpenFile::stat`] keeps to that as
//! it is.

use ermfs_memory::BLOCK_SIZE;

use super::OpenFile;
use crate::content::Sink;
use crate::errno::Result;

impl OpenFile {
    /// As [`OpenFile::read_at`], of no more than a block, where readers do not wait for writers; not where a block has to be
    /// inflated.
    #[inline]
    pub(in crate::process) fn read_briefly(&self, sink: &mut Sink<'_>, offset: i64) -> Option<Result<usize>> {
        if sink.remaining() > BLOCK_SIZE {
            return None;
        }
        self.read_at_briefly(sink, offset)
    }
}
