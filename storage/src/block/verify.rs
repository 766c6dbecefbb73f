//! Whether the files of a block are the ones that were written.

use std::path::Path;
use std::sync::Arc;

use super::file::{CheckedFile, RANGE_BYTES, RangeWriter};
use super::{BlockError, BlockFiles, BlockMeta, FileMeta, LocalBlocks};
use crate::env::Files;

/// Reads all bytes of the block that `meta` describes below `dir`, and compares every checksum.
///
/// # Errors
/// The first file that is missing, of another length, or damaged.
pub fn verify(files: Arc<dyn Files>, dir: &Path, meta: &BlockMeta) -> Result<(), BlockError> {
    let source = Arc::new(LocalBlocks::new(files, dir));
    meta.files.iter().try_for_each(|file| CheckedFile::open(source.clone(), file.clone())?.verify())
}

/// [`verify`] for the sample file alone, from which the index follows.
pub fn verify_samples(files: Arc<dyn Files>, dir: &Path, meta: &BlockMeta) -> Result<(), BlockError> {
    let source = Arc::new(LocalBlocks::new(files, dir));
    meta.files.iter().take(1).try_for_each(|file| CheckedFile::open(source.clone(), file.clone())?.verify())
}

/// Makes a durable copy of a block's file below `dir`, where its folder exists. Every byte is checked on its way.
///
/// # Errors
/// The file is not the one that was written, or one cannot be read or the other written.
pub fn copy(source: Arc<dyn BlockFiles>, file: &FileMeta, files: &dyn Files, dir: &Path) -> Result<(), BlockError> {
    use std::io::Write;
    const STEP: u64 = 64 * RANGE_BYTES as u64;
    let checked = CheckedFile::open(source, file.clone())?;
    let path = dir.join(&file.path);
    let mut writer = RangeWriter::create(files, &path)?;
    for offset in (0..file.bytes).step_by(STEP as usize) {
        let len = STEP.min(file.bytes - offset) as usize;
        let window = checked.window(offset, len)?;
        let bytes = window.slice(offset, len).unwrap_or_default();
        writer.write_all(bytes).map_err(BlockError::io("write", &path))?;
    }
    writer.finish(file.path.clone())?;
    Ok(())
}
