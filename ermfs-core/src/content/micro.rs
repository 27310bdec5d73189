//! A block map by itself, for the micro benches.

use ermfs_memory::Purpose;
use ermfs_memory::sync::Arc;

use super::block::{Block, RawBlock};
use super::file::Books;
use super::map::BlockMap;
use crate::errno::Result;
use crate::space::Space;

/// The map of a file whose blocks are all there and hold no page.
pub struct MapOfBlocks {
    map: BlockMap,
    books: Books,
}

impl MapOfBlocks {
    /// With `blocks` blocks, charged to `space`.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`.
    pub fn new(space: &Arc<Space>, blocks: u64) -> Result<MapOfBlocks> {
        let (map, mut books) = (BlockMap::new(), Books::new());
        for index in 0..blocks {
            let block = Block::Raw(RawBlock::try_new(space, Purpose::Ordinary)?);
            map.insert(index, block, space, &mut books, Purpose::Ordinary)?;
        }
        Ok(MapOfBlocks { map, books })
    }

    /// Whether a block is at `index`.
    #[inline]
    pub fn holds(&self, index: u64) -> bool {
        self.map.get(index, &self.books).is_some()
    }
}
