//! Log segments: records in fragments, fragments in pages.
//!
//! ```text
//! page (32 KiB)   type 1 | length 2 | CRC32C 4 | fragment ... | zeros to its end
//! type            0 zeros follow; 1 whole, 2 first, 3 middle, 4 last; +8 snappy, +16 zstd
//! ```
//!
//! A record lies in one segment, so segments are read on their own. Behind damage reading goes on at the next page where a
//! record begins.

use std::path::{Path, PathBuf};

use pilaster_storage::frame::{crc32c, unpack_zstd};

use super::DataError;
use super::bytes::Bytes;

const PAGE: usize = 32 << 10;
const HEADER: usize = 7;
const SNAPPY: u8 = 1 << 3;
const ZSTD: u8 = 1 << 4;
/// Unpacked; Prometheus's are far smaller.
const MOST_RECORD_BYTES: usize = 256 << 20;

/// The segments of a log directory in order, the last checkpoint's before those that follow it.
pub fn segments(dir: &Path, damage: &mut dyn FnMut(DataError)) -> Result<Vec<PathBuf>, DataError> {
    let mut checkpoint: Option<(u64, PathBuf)> = None;
    let mut numbered = numbered(dir)?;
    if numbered.is_empty() && !dir.exists() {
        return Ok(Vec::new());
    }
    for entry in std::fs::read_dir(dir).map_err(DataError::io("list", dir))? {
        let path = entry.map_err(DataError::io("list", dir))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // While it is written its name ends in `.tmp`.
        let number = name.strip_prefix("checkpoint.").and_then(|number| number.parse().ok());
        if let Some(number) = number
            && path.is_dir()
            && checkpoint.as_ref().is_none_or(|(known, _)| *known < number)
        {
            checkpoint = Some((number, path));
        }
    }
    let mut all = Vec::new();
    if let Some((last, dir)) = checkpoint {
        all.extend(self::numbered(&dir)?.into_iter().map(|(_, path)| path));
        numbered.retain(|(number, _)| *number > last);
    }
    for pair in numbered.windows(2) {
        if pair[0].0 + 1 != pair[1].0 {
            damage(DataError::unknown(&pair[1].1, format!("the log has no segments between {} and it", pair[0].0)));
        }
    }
    all.extend(numbered.into_iter().map(|(_, path)| path));
    Ok(all)
}

/// Files in `dir` that have numbers for names, ascending; none where it does not exist.
pub fn numbered(dir: &Path) -> Result<Vec<(u64, PathBuf)>, DataError> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(DataError::io("list", dir))? {
        let path = entry.map_err(DataError::io("list", dir))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Ok(number) = name.parse() {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Calls `record` with the offset and the unpacked bytes of each record of a segment, which lies whole in `bytes`.
///
/// Damage is told to `damage`. So is a record at the very end that is not complete, unless the segment is the `last`:
/// then it was never acknowledged.
pub fn records(
    path: &Path,
    bytes: &[u8],
    last: bool,
    record: &mut dyn FnMut(u64, &[u8]),
    damage: &mut dyn FnMut(DataError),
) {
    let mut at = 0;
    let mut packed: Vec<u8> = Vec::new();
    // Where the record began whose fragments are being collected.
    let mut begun: Option<usize> = None;
    // Fragments are ignored until a record begins.
    let mut lost = false;
    while at < bytes.len() {
        let page_end = at - at % PAGE + PAGE;
        let page = &bytes[at..page_end.min(bytes.len())];
        let step = fragment(page, bytes.len() < page_end);
        let (kind, data) = match step {
            Ok(Some(fragment)) => fragment,
            Ok(None) => {
                at = page_end;
                continue;
            }
            Err(Wrong::Torn) if last => return,
            Err(wrong) => {
                damage(DataError::corrupt(path, at as u64, wrong.reason()));
                (begun, lost, at) = (None, true, page_end);
                continue;
            }
        };
        let fragment_at = at;
        at += HEADER + data.len();
        match (kind & 7, begun) {
            (1 | 2, None) => {
                packed.clear();
                packed.extend_from_slice(data);
                begun = Some(fragment_at);
                lost = false;
            }
            (3 | 4, Some(_)) => packed.extend_from_slice(data),
            (3 | 4, None) if lost => continue,
            _ => {
                damage(DataError::corrupt(path, fragment_at as u64, "a fragment of a record without its others"));
                (begun, lost) = (None, true);
                // It may be the first of another.
                if kind & 7 == 1 || kind & 7 == 2 {
                    at = fragment_at;
                    lost = false;
                }
                continue;
            }
        }
        if kind & 7 == 1 || kind & 7 == 4 {
            let from = begun.take().unwrap_or(fragment_at) as u64;
            match unpack(kind, &packed) {
                Ok(Some(unpacked)) => record(from, &unpacked),
                Ok(None) => record(from, &packed),
                Err(reason) => damage(DataError::corrupt(path, from, reason)),
            }
        }
        if packed.len() > MOST_RECORD_BYTES {
            damage(DataError::corrupt(path, fragment_at as u64, "a record is too long"));
            (begun, lost) = (None, true);
            packed.clear();
        }
    }
    if let Some(from) = begun
        && !last
    {
        damage(DataError::corrupt(path, from as u64, "the last record is torn"));
    }
}

enum Wrong {
    /// The file ends inside.
    Torn,
    Reason(&'static str),
}

impl Wrong {
    fn reason(self) -> &'static str {
        match self {
            Wrong::Torn => "the last record is torn",
            Wrong::Reason(reason) => reason,
        }
    }
}

/// The fragment that begins `page`, the rest of one; `None` where only padding follows. `short`: the file ends before
/// the page does.
fn fragment(page: &[u8], short: bool) -> Result<Option<(u8, &[u8])>, Wrong> {
    let torn = |reason| if short { Wrong::Torn } else { Wrong::Reason(reason) };
    let mut rest = Bytes(page);
    let kind = rest.byte().map_err(|_| torn("no fragment"))?;
    if kind & 7 == 0 {
        return match page.iter().all(|byte| *byte == 0) {
            true => Ok(None),
            false => Err(Wrong::Reason("padding is not zero")),
        };
    }
    let head = rest.take(6).map_err(|_| torn("a fragment leaves its page"))?;
    let len = u16::from_be_bytes([head[0], head[1]]);
    let checksum = u32::from_be_bytes([head[2], head[3], head[4], head[5]]);
    if usize::from(len) > PAGE - HEADER {
        return Err(Wrong::Reason("a fragment is longer than a page"));
    }
    let data = rest.take(usize::from(len)).map_err(|_| torn("a fragment leaves its page"))?;
    if crc32c(data) != checksum {
        return Err(Wrong::Reason("the checksum of a record does not match"));
    }
    if kind & 7 > 4 {
        return Err(Wrong::Reason("a kind of fragment that is not known"));
    }
    Ok(Some((kind, data)))
}

/// The record behind its compression, `None` where it has none.
fn unpack(kind: u8, packed: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    if packed.is_empty() {
        return Ok(None);
    }
    if kind & SNAPPY != 0 {
        let wrong = "a record is not what snappy made";
        let len = snap::raw::decompress_len(packed).map_err(|_| wrong)?;
        // Snappy's densest element makes 64 bytes of three.
        if len > MOST_RECORD_BYTES.min(packed.len().saturating_mul(32) + 64) {
            return Err(wrong);
        }
        return snap::raw::Decoder::new().decompress_vec(packed).map(Some).map_err(|_| wrong);
    }
    if kind & ZSTD != 0 {
        return unpack_zstd(packed, MOST_RECORD_BYTES).map(Some).map_err(|_| "a record is not what zstd made");
    }
    Ok(None)
}
