//! What a block is, by its files alone.

use std::sync::Arc;

use super::file::{CheckedFile, checksums};
use super::index::Index;
use super::{BlockError, BlockFiles, BlockMeta, Copy, FileMeta, seal};

/// Describes the block `name` whose files have these paths and lengths: what a manifest would say of it. Its index is
/// read; its samples are checked when somebody reads them.
///
/// # Errors
/// The index is damaged, or from before blocks had the checksums of their samples in it.
pub fn describe(
    source: Arc<dyn BlockFiles>,
    name: &str,
    samples: (&str, u64),
    index: (&str, u64),
) -> Result<BlockMeta, BlockError> {
    let file = |(path, bytes): (&str, u64)| FileMeta::with_ranges(path.to_owned(), bytes, &[]);
    let unchecked = file(index);
    let path = source.path(&unchecked);
    let malformed = |reason: &str| BlockError::malformed(&path, reason);
    let read = source.read(&unchecked, std::slice::from_ref(&(0..index.1)), Copy::Original);
    let bytes = read.map_err(BlockError::io("read", &path))?.pop().unwrap_or_default();
    let (content, ranges) = seal::open(&path, &bytes)?;
    let ranges = ranges.ok_or_else(|| malformed("index without checksums of its sample file"))?;
    let samples = FileMeta::with_ranges(samples.0.to_owned(), samples.1, &ranges);
    let checked = CheckedFile::open(source, samples.clone(), Some(ranges))?;
    let decoded = Index::decode(&path, content, checked.len())?;
    let ids = || 0..decoded.series_count() as u32;
    let level = name.rsplit('-').nth(1).and_then(|level| level.parse().ok());
    Ok(BlockMeta {
        name: name.to_owned(),
        level: level.ok_or_else(|| malformed("its name is not that of a block"))?,
        min_ms: ids().map(|id| decoded.range(id).min_ms).min().ok_or_else(|| malformed("index without series"))?,
        max_ms: ids().map(|id| decoded.range(id).max_ms).max().unwrap_or(i64::MIN),
        series_count: decoded.series_count() as u64,
        sample_count: ids().map(|id| u64::from(decoded.series(id).rows)).sum(),
        files: vec![samples, FileMeta::with_ranges(index.0.to_owned(), index.1, &checksums(&bytes))],
    })
}
