//! A block that is there, whether or not anybody has read it yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::shelf::{Shelf, Slot};
use super::source::BlockFiles;
use super::{Block, BlockError, BlockMeta};

/// Threads that load indexes at once, each mostly waiting for an answer.
const LOADERS: usize = 32;
/// Blocks that are opened together by who goes through many: the memory of no more is needed at a time.
pub const AT_ONCE: usize = 2 * LOADERS;

/// A block by its description. Its index is loaded when it is needed, and kept while there is room for it.
#[derive(Debug)]
pub struct LiveBlock {
    meta: BlockMeta,
    files: Arc<dyn BlockFiles>,
    shelf: Arc<Shelf>,
    slot: Arc<Slot>,
    opening: Mutex<()>,
    lost: AtomicBool,
}

impl LiveBlock {
    /// The block that `meta` describes among `files`, which are not looked at yet. Opened, it stands on `shelf`.
    pub fn new(files: Arc<dyn BlockFiles>, meta: BlockMeta, shelf: Arc<Shelf>) -> LiveBlock {
        let (slot, opening, lost) = (Arc::default(), Mutex::new(()), AtomicBool::new(false));
        LiveBlock { meta, files, shelf, slot, opening, lost }
    }

    pub fn meta(&self) -> &BlockMeta {
        &self.meta
    }

    #[cfg(test)]
    pub(super) fn slot(&self) -> &Slot {
        &self.slot
    }

    /// Whether it could not be opened and will not be: it is set aside, and what it holds is missing.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// The block, ready to read. It stays open as long as somebody has it, and longer where there is room.
    ///
    /// # Errors
    /// As [`Block::open`]. The next call tries again, whether the block [is lost](LiveBlock::is_lost) now or not.
    pub fn open(&self) -> Result<Arc<Block>, BlockError> {
        if let Some(block) = self.slot.get() {
            return Ok(block);
        }
        let _alone = self.opening.lock();
        if let Some(block) = self.slot.get() {
            return Ok(block);
        }
        let block = Block::load_shared(self.files.clone(), self.meta.clone(), self.shelf.share());
        let block = block.inspect_err(|error| {
            if error.is_lost() && !self.lost.swap(true, Ordering::Relaxed) {
                let BlockMeta { name, min_ms, max_ms, sample_count, .. } = &self.meta;
                tracing::error!(block = name, min_ms, max_ms, samples = sample_count, %error,
                    "a block cannot be read: it is set aside, and everything else is served");
            }
        })?;
        self.lost.store(false, Ordering::Relaxed);
        let block = Arc::new(block);
        self.shelf.put(&self.slot, &block);
        Ok(block)
    }

    /// Opens several, where that means waiting all at the same time; what `take` makes of each, in their order.
    pub fn open_each<T: Send>(
        blocks: &[&LiveBlock],
        take: impl Fn(Result<Arc<Block>, BlockError>) -> T + Sync,
    ) -> Vec<T> {
        let mut opened: Vec<Option<T>> = blocks.iter().map(|block| Some(take(Ok(block.slot.get()?)))).collect();
        let closed: Vec<usize> = (0..blocks.len()).filter(|&at| opened[at].is_none()).collect();
        let open = |part: &[usize]| part.iter().map(|&at| (at, take(blocks[at].open()))).collect::<Vec<_>>();
        let results = match closed.len() {
            0 | 1 => open(&closed),
            many => std::thread::scope(|scope| {
                let parts = closed.chunks(many.div_ceil(LOADERS));
                let threads: Vec<_> = parts.map(|part| scope.spawn(move || open(part))).collect();
                let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                };
                threads.into_iter().flat_map(join).collect()
            }),
        };
        results.into_iter().for_each(|(at, result)| opened[at] = Some(result));
        opened.into_iter().flatten().collect()
    }

    /// Opens all of `blocks` that are not lost; `None` for those.
    ///
    /// # Errors
    /// The first that could not be opened and may be the next time.
    pub fn open_those_there(blocks: &[&LiveBlock]) -> Result<Vec<Option<Arc<Block>>>, BlockError> {
        let there: Vec<&LiveBlock> = blocks.iter().copied().filter(|block| !block.is_lost()).collect();
        let mut opened = LiveBlock::open_each(&there, std::convert::identity).into_iter();
        let mut next = there.into_iter().map(std::ptr::from_ref).peekable();
        let mut out = Vec::with_capacity(blocks.len());
        for block in blocks {
            if next.next_if(|&there| std::ptr::eq(there, *block)).is_none() {
                out.push(None);
                continue;
            }
            out.push(match opened.next() {
                Some(Ok(block)) => Some(block),
                Some(Err(error)) if error.is_lost() => None,
                Some(Err(error)) => return Err(error),
                None => None,
            });
        }
        Ok(out)
    }

    /// Opens several, all at the same time.
    ///
    /// # Errors
    /// The first that could not be opened, in the order of `blocks`.
    pub fn open_all(blocks: &[&LiveBlock]) -> Result<Vec<Arc<Block>>, BlockError> {
        LiveBlock::open_each(blocks, std::convert::identity).into_iter().collect()
    }
}
