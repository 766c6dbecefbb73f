//! Whether the files of a block are the ones that were written.

use std::path::Path;
use std::sync::Arc;

use super::file::{CheckedFile, RANGE_BYTES, RangeWriter, read_whole};
use super::{BlockError, BlockFiles, BlockMeta, Copy, FileMeta, seal};
use crate::env::Files;

/// Reads all bytes of the block that `meta` describes in `source`, and compares every checksum.
///
/// # Errors
/// The first file that is missing, of another length, or damaged.
pub fn verify(source: Arc<dyn BlockFiles>, meta: &BlockMeta) -> Result<(), BlockError> {
    let [samples, index] = meta.both_files()?;
    let bytes = read_whole(&*source, index, Copy::Original)?;
    let (_, ranges) = seal::open(&source.path(index), &bytes)?;
    CheckedFile::open(source, samples.clone(), ranges)?.verify()
}

/// [`verify`] for the sample file alone, from which the index follows.
pub fn verify_samples(source: Arc<dyn BlockFiles>, meta: &BlockMeta) -> Result<(), BlockError> {
    CheckedFile::measure(source, meta.both_files()?[0].clone()).map(drop)
}

/// Makes a durable copy of a block's file below `dir`, where its folder exists. Every byte is checked on its way.
///
/// # Errors
/// The file is not the one that was written, or one cannot be read or the other written.
pub fn copy(source: &dyn BlockFiles, file: &FileMeta, files: &dyn Files, dir: &Path) -> Result<(), BlockError> {
    match copy_of(source, file, files, dir, Copy::Nearest) {
        Err(error) if error.is_corruption() && source.is_far() => copy_of(source, file, files, dir, Copy::Original),
        other => other,
    }
}

fn copy_of(
    source: &dyn BlockFiles,
    file: &FileMeta,
    files: &dyn Files,
    dir: &Path,
    which: Copy,
) -> Result<(), BlockError> {
    use std::io::Write;
    const STEP: u64 = 64 * RANGE_BYTES as u64;
    let (from, to) = (source.path(file), dir.join(&file.path));
    let mut writer = RangeWriter::create(files, &to)?;
    for offset in (0..file.bytes).step_by(STEP as usize) {
        let range = offset..file.bytes.min(offset + STEP);
        let read = source.read(file, std::slice::from_ref(&range), which).map_err(BlockError::io("read", &from))?;
        read.iter().try_for_each(|bytes| writer.write_all(bytes)).map_err(BlockError::io("write", &to))?;
    }
    let (_, ranges) = writer.finish(file.path.clone())?;
    file.check_ranges(&from, &ranges)
}
