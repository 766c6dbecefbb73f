//! A block of the directory.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use pilaster_model::{Columns, Labels, TimeRange};

use super::DataError;
use super::index::Index;
use super::meta::BlockMeta;
use super::segments::Segments;
use super::tombstones;

/// A block, open for reading. Series are numbered in the order of our blocks.
pub struct Block {
    pub dir: PathBuf,
    pub meta: BlockMeta,
    index: Index,
    segments: Segments,
    tombstones: HashMap<u64, Vec<TimeRange>>,
}

impl Block {
    /// Directories below `dir` that are blocks, ascending by name, which is by age.
    ///
    /// # Errors
    /// `dir` cannot be listed.
    pub fn list(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(DataError::io("list", dir))? {
            let path = entry.map_err(DataError::io("list", dir))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // A ULID; what is being written or deleted has a suffix.
            if name.len() == 26
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
                && path.join("meta.json").exists()
            {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Opens the block in `dir`. Series and files that are damaged are told to `damage`, and left out.
    ///
    /// # Errors
    /// Nothing of the block can be read: its `meta.json`, texts, table of contents or tombstones are damaged or of
    /// another version. Without its tombstones deleted samples would come back.
    pub fn open(dir: &Path, damage: &mut dyn FnMut(DataError)) -> Result<Block, DataError> {
        let meta = BlockMeta::read(dir)?;
        let tombstones = tombstones::read(&dir.join("tombstones"))?;
        let index = Index::open(dir, damage)?;
        let segments = Segments::open(&dir.join("chunks"), damage)?;
        Ok(Block { dir: dir.to_owned(), meta, index, segments, tombstones })
    }

    /// Only what the block says of itself.
    pub fn read_meta(dir: &Path) -> Result<BlockMeta, DataError> {
        BlockMeta::read(dir)
    }

    pub fn series_count(&self) -> usize {
        self.index.len()
    }

    /// Samples in `range`, not deleted, of the series `numbers`; series without any are left out.
    pub fn read(
        &self,
        numbers: Range<usize>,
        range: TimeRange,
        damage: &mut dyn FnMut(DataError),
    ) -> Vec<(Labels, Columns)> {
        // What is beside the block's own range is deleted, or of no block.
        let range = TimeRange::new(range.min_ms.max(self.meta.min_ms), range.max_ms.min(self.meta.end_ms - 1));
        let mut read = Vec::with_capacity(numbers.len());
        for number in numbers {
            let series = match self.index.series(number, range.min_ms, range.max_ms) {
                Ok(series) => series,
                Err(error) => {
                    damage(error);
                    continue;
                }
            };
            let mut samples = Columns::default();
            self.segments.read(&series.chunks, &mut samples, damage);
            let deleted = self.tombstones.get(&series.reference).map_or(&[][..], Vec::as_slice);
            samples.retain(|ms| range.contains(ms));
            samples.remove(deleted);
            let samples = samples.sorted();
            if !samples.is_empty() {
                read.push((series.labels, samples));
            }
        }
        read
    }
}
