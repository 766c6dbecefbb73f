//! A block that is there, whether or not anybody has read it yet.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::source::BlockFiles;
use super::{Block, BlockError, BlockMeta};

/// Threads that load indexes at once, each mostly waiting for an answer.
const LOADERS: usize = 16;

/// A block by its description. Its index is loaded when it is first needed, and then kept.
#[derive(Debug)]
pub struct LiveBlock {
    meta: BlockMeta,
    files: Arc<dyn BlockFiles>,
    open: OnceLock<Block>,
    opening: Mutex<()>,
}

impl LiveBlock {
    /// The block that `meta` describes among `files`, which are not looked at yet.
    pub fn new(files: Arc<dyn BlockFiles>, meta: BlockMeta) -> LiveBlock {
        LiveBlock { meta, files, open: OnceLock::new(), opening: Mutex::new(()) }
    }

    pub fn meta(&self) -> &BlockMeta {
        &self.meta
    }

    /// Whether [`LiveBlock::open`] costs nothing.
    pub fn is_open(&self) -> bool {
        self.open.get().is_some()
    }

    /// The block, ready to read.
    ///
    /// # Errors
    /// As [`Block::open`]. The next call tries again.
    pub fn open(&self) -> Result<&Block, BlockError> {
        if let Some(block) = self.open.get() {
            return Ok(block);
        }
        let _alone = self.opening.lock();
        if let Some(block) = self.open.get() {
            return Ok(block);
        }
        let block = Block::load(self.files.clone(), self.meta.clone())?;
        Ok(self.open.get_or_init(|| block))
    }

    /// Opens several, where that means waiting all at the same time.
    ///
    /// # Errors
    /// The first that could not be opened, in the order of `blocks`.
    pub fn open_all(blocks: &[&LiveBlock]) -> Result<(), BlockError> {
        let closed: Vec<&LiveBlock> = blocks.iter().copied().filter(|block| !block.is_open()).collect();
        if closed.len() < 2 {
            return closed.into_iter().try_for_each(|block| block.open().map(drop));
        }
        let per_thread = closed.len().div_ceil(LOADERS);
        let open = |part: &[&LiveBlock]| part.iter().try_for_each(|block| block.open().map(drop));
        let results: Vec<Result<(), BlockError>> = std::thread::scope(|scope| {
            let threads: Vec<_> = closed.chunks(per_thread).map(|part| scope.spawn(move || open(part))).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect()
        });
        results.into_iter().collect()
    }
}
