//! Where the bytes of a block's files come from.

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::FileMeta;
use crate::env::{Files, atomic_write};

/// Which copy of a file to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    /// The one that is nearest.
    Nearest,
    /// The one that the others were made from, because a nearer one proved wrong.
    Original,
}

/// A place that blocks are read from. Nothing that it gives is trusted: the reader holds the checksums.
pub trait BlockFiles: Send + Sync + Debug {
    /// The name of a file in messages.
    fn path(&self, file: &FileMeta) -> PathBuf;

    /// Whether a read may be a request over the network: many small ones are to be avoided, one large one is not.
    fn is_far(&self) -> bool;

    /// The length of a file in bytes, as far as that is known without a request.
    fn len(&self, file: &FileMeta) -> io::Result<u64>;

    /// The bytes of `ranges`, which ascend, end within the file and begin at multiples of [`super::RANGE_BYTES`].
    fn read(&self, file: &FileMeta, ranges: &[Range<u64>], copy: Copy) -> io::Result<Vec<Bytes>>;

    /// Puts back a file that was lost or damaged.
    fn replace(&self, file: &FileMeta, bytes: &[u8]) -> io::Result<()>;
}

/// Blocks in a directory.
#[derive(Debug)]
pub struct LocalBlocks {
    files: Arc<dyn Files>,
    dir: PathBuf,
}

impl LocalBlocks {
    pub fn new(files: Arc<dyn Files>, dir: &Path) -> LocalBlocks {
        LocalBlocks { files, dir: dir.to_owned() }
    }
}

impl BlockFiles for LocalBlocks {
    fn path(&self, file: &FileMeta) -> PathBuf {
        self.dir.join(&file.path)
    }

    fn is_far(&self) -> bool {
        false
    }

    fn len(&self, file: &FileMeta) -> io::Result<u64> {
        self.files.len(&self.path(file))
    }

    fn read(&self, file: &FileMeta, ranges: &[Range<u64>], _: Copy) -> io::Result<Vec<Bytes>> {
        let path = self.path(file);
        let read = |range: &Range<u64>| {
            let len = usize::try_from(range.end - range.start).map_err(|_| io::ErrorKind::OutOfMemory)?;
            self.files.read_range(&path, range.start, len).map(Bytes::from)
        };
        ranges.iter().map(read).collect()
    }

    fn replace(&self, file: &FileMeta, bytes: &[u8]) -> io::Result<()> {
        atomic_write(&*self.files, &self.path(file), bytes)
    }
}
