//! Deleted ranges of a block's series.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use pilaster_model::TimeRange;
use pilaster_storage::frame::crc32c;

use super::DataError;
use super::bytes::Bytes;
use super::error::Malformed;

const MAGIC: u32 = 0x0130_ba30;

/// Deleted ranges by series reference; none where there is no file.
pub fn read(path: &Path) -> Result<HashMap<u64, Vec<TimeRange>>, DataError> {
    match std::fs::read(path) {
        Ok(bytes) => parse(&bytes).map_err(|reason| DataError::corrupt(path, 0, reason)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(HashMap::new()),
        Err(error) => Err(DataError::io("read", path)(error)),
    }
}

pub fn parse(bytes: &[u8]) -> Result<HashMap<u64, Vec<TimeRange>>, Malformed> {
    let Some((body, checksum)) = bytes.split_last_chunk::<4>() else { return Err(Malformed("cut short")) };
    let mut rest = Bytes(body);
    if rest.be32()? != MAGIC {
        return Err(Malformed("does not begin as tombstones do"));
    }
    if rest.byte()? != 1 {
        return Err(Malformed("a version that is not known"));
    }
    if crc32c(rest.0) != u32::from_be_bytes(*checksum) {
        return Err(Malformed("checksum does not match"));
    }
    let mut stones: HashMap<u64, Vec<TimeRange>> = HashMap::new();
    while !rest.is_empty() {
        let series = rest.uvarint()?;
        stones.entry(series).or_default().push(TimeRange::new(rest.varint()?, rest.varint()?));
    }
    Ok(stones)
}
