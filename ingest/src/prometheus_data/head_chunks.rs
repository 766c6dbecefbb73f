//! Chunks of the head that were put on disk, with the series they belong to.

use std::path::{Path, PathBuf};

use pilaster_storage::frame::crc32c;

use super::DataError;
use super::bytes::Bytes;
use super::chunk::Encoding;
use super::wal::numbered;

const MAGIC: u32 = 0x0130_bc91;
const HEADER_BYTES: usize = 8;
/// The encoding's bit that says that the chunk came late.
const OUT_OF_ORDER: u8 = 0x80;

/// A chunk in a file.
#[derive(Debug, Clone, Copy)]
pub struct MappedChunk {
    pub series: u64,
    pub min_ms: i64,
    pub max_ms: i64,
    pub out_of_order: bool,
    pub encoding: Encoding,
    pub samples: u32,
    /// Of the data.
    pub offset: usize,
    pub len: usize,
}

/// The files of `dir`, ascending; none where it does not exist.
pub fn files(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    Ok(numbered(dir)?.into_iter().map(|(_, path)| path).collect())
}

/// Chunks of the file whose content is `bytes`. Where one is damaged, it and those behind it are told to `damage`.
pub fn list(path: &Path, bytes: &[u8], damage: &mut dyn FnMut(DataError)) -> Vec<MappedChunk> {
    let mut found = Vec::new();
    if bytes.iter().all(|byte| *byte == 0) {
        // Made, and never used.
        return found;
    }
    let mut head = Bytes(bytes);
    if head.be32() != Ok(MAGIC) || head.byte() != Ok(1) || bytes.len() < HEADER_BYTES {
        damage(DataError::corrupt(path, 0, "does not begin as chunks of the head do"));
        return found;
    }
    let mut at = HEADER_BYTES;
    while at < bytes.len() {
        match one(bytes, at) {
            Ok(Some((chunk, next))) => {
                found.extend(chunk);
                at = next;
            }
            Ok(None) => break,
            Err(reason) => {
                damage(DataError::corrupt(path, at as u64, reason));
                break;
            }
        }
    }
    found
}

/// The chunk at `at`, where its encoding is known, and where the next one begins; `None` at the end.
fn one(bytes: &[u8], at: usize) -> Result<Option<(Option<MappedChunk>, usize)>, String> {
    let mut rest = Bytes(&bytes[at..]);
    let mut read = || -> Result<_, super::error::Malformed> {
        Ok((rest.be64()?, rest.be64()? as i64, rest.be64()? as i64, rest.byte()?, rest.uvarint()?))
    };
    let Ok((series, min_ms, max_ms, encoding, len)) = read() else {
        // Files are longer than what is in them.
        return if bytes[at..].iter().all(|byte| *byte == 0) { Ok(None) } else { Err("cut short".to_owned()) };
    };
    if (series, min_ms, max_ms) == (0, 0, 0) {
        return Ok(None);
    }
    let offset = bytes.len() - rest.0.len();
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let data = rest.take(len).map_err(|_| "a chunk is cut short")?;
    let checksum = rest.be32().map_err(|_| "a chunk is cut short")?;
    if crc32c(&bytes[at..offset + len]) != checksum {
        return Err("the checksum of a chunk does not match".to_owned());
    }
    let chunk = Encoding::from_byte(encoding & !OUT_OF_ORDER).map(|kind| MappedChunk {
        series,
        min_ms,
        max_ms,
        out_of_order: encoding & OUT_OF_ORDER != 0,
        encoding: kind,
        samples: kind.sample_count(data) as u32,
        offset,
        len,
    });
    Ok(Some((chunk, offset + len + 4)))
}
