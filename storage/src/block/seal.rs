//! The end of an index file: the checksums of the sample file beside it.
//!
//! ```text
//! index content                          as `index/codec.rs` writes it
//! checksums     4 bytes a range          CRC32C of every 64 KiB of the sample file, little-endian
//! count         4 bytes                  how many
//! checksum      4 bytes                  over checksums and count: the low half of their XXH64
//! magic         8 bytes                  "PILASEAL"
//! ```
//!
//! They stand here and not in the manifest, so that what it costs to write that does not grow with the samples.

use std::path::Path;

use super::BlockError;
use super::index::checksum;

const MAGIC: &[u8; 8] = b"PILASEAL";
const TAIL_BYTES: usize = 4 + 4 + MAGIC.len();

/// `content` and behind it the checksums of the ranges of its sample file.
pub fn seal(mut content: Vec<u8>, ranges: &[u32]) -> Vec<u8> {
    let start = content.len();
    content.extend(ranges.iter().flat_map(|crc| crc.to_le_bytes()));
    content.extend((ranges.len() as u32).to_le_bytes());
    let own = checksum(&content[start..]);
    content.extend(own.to_le_bytes());
    content.extend(MAGIC);
    content
}

/// The content of an index file, and the checksums of its sample file; `None` in files from before these stood here.
///
/// # Errors
/// The end is damaged.
pub fn open<'b>(path: &Path, bytes: &'b [u8]) -> Result<(&'b [u8], Option<Vec<u32>>), BlockError> {
    if !bytes.ends_with(MAGIC) {
        return Ok((bytes, None));
    }
    let parts = || {
        let tail_at = bytes.len().checked_sub(TAIL_BYTES)?;
        let count = u32::from_le_bytes(*bytes[tail_at..].first_chunk()?);
        let own = u32::from_le_bytes(*bytes[tail_at + 4..].first_chunk()?);
        let start = tail_at.checked_sub(usize::try_from(count).ok()?.checked_mul(4)?)?;
        (checksum(&bytes[start..tail_at + 4]) == own).then(|| {
            let ranges = bytes[start..tail_at].as_chunks().0.iter().map(|crc| u32::from_le_bytes(*crc));
            (&bytes[..start], Some(ranges.collect()))
        })
    };
    parts().ok_or_else(|| BlockError::malformed(path, "index without valid checksums of its sample file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_comes_back_and_damage_is_found() {
        let path = Path::new("a.index");
        for ranges in [vec![], vec![7], vec![1, 2, 0xffff_ffff]] {
            let sealed = seal(b"content".to_vec(), &ranges);
            assert_eq!(open(path, &sealed).unwrap(), (&b"content"[..], Some(ranges)));
            for byte in b"content".len()..sealed.len() {
                for bit in 0..8 {
                    let mut bad = sealed.clone();
                    bad[byte] ^= 1 << bit;
                    // Without its mark it is a file from before, whose content then ends wrongly.
                    assert!(
                        open(path, &bad).is_ok_and(|(content, ranges)| content == bad && ranges.is_none())
                            || open(path, &bad).is_err()
                    );
                }
            }
            for len in 0..sealed.len() {
                assert!(open(path, &sealed[..len]).is_ok_and(|(content, _)| content == &sealed[..len]));
                assert!(open(path, &sealed[sealed.len() - len..]).is_ok() || len < sealed.len() - 7);
            }
        }
        assert_eq!(open(path, b"content").unwrap(), (&b"content"[..], None));
    }
}
