//! A block that is there, whether or not anybody has read it yet.

use std::sync::atomic::{AtomicBool, Ordering};
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
    lost: AtomicBool,
}

impl LiveBlock {
    /// The block that `meta` describes among `files`, which are not looked at yet.
    pub fn new(files: Arc<dyn BlockFiles>, meta: BlockMeta) -> LiveBlock {
        LiveBlock { meta, files, open: OnceLock::new(), opening: Mutex::new(()), lost: AtomicBool::new(false) }
    }

    pub fn meta(&self) -> &BlockMeta {
        &self.meta
    }

    /// Whether [`LiveBlock::open`] costs nothing.
    pub fn is_open(&self) -> bool {
        self.open.get().is_some()
    }

    /// Whether it could not be opened and will not be: it is set aside, and what it holds is missing.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// The block, ready to read.
    ///
    /// # Errors
    /// As [`Block::open`]. The next call tries again, whether the block [is lost](LiveBlock::is_lost) now or not.
    pub fn open(&self) -> Result<&Block, BlockError> {
        if let Some(block) = self.open.get() {
            return Ok(block);
        }
        let _alone = self.opening.lock();
        if let Some(block) = self.open.get() {
            return Ok(block);
        }
        let block = Block::load(self.files.clone(), self.meta.clone()).inspect_err(|error| {
            if error.is_lost() && !self.lost.swap(true, Ordering::Relaxed) {
                let BlockMeta { name, min_ms, max_ms, sample_count, .. } = &self.meta;
                tracing::error!(block = name, min_ms, max_ms, samples = sample_count, %error,
                    "a block cannot be read: it is set aside, and everything else is served");
            }
        })?;
        self.lost.store(false, Ordering::Relaxed);
        Ok(self.open.get_or_init(|| block))
    }

    /// Opens all of `blocks` that are not lost, and leaves those.
    ///
    /// # Errors
    /// The first that could not be opened and may be the next time.
    pub fn open_those_there(blocks: &[&LiveBlock]) -> Result<(), BlockError> {
        loop {
            let there: Vec<&LiveBlock> = blocks.iter().copied().filter(|block| !block.is_lost()).collect();
            match LiveBlock::open_all(&there) {
                // It is lost now, and one less to be tried.
                Err(error) if error.is_lost() => {}
                other => return other,
            }
        }
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
