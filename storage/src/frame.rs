//! Checksums and compression as other formats use them, for those who read such formats.

use std::io::{self, Read};

/// CRC-32C (Castagnoli) of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// What a zstd frame holds, `most_bytes` at most.
///
/// # Errors
/// The bytes are no such frame, or hold more.
pub fn unpack_zstd(bytes: &[u8], most_bytes: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)?;
    decoder.window_log_max(27)?;
    decoder.take(most_bytes as u64 + 1).read_to_end(&mut out)?;
    if out.len() > most_bytes {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "more bytes than a record may have"));
    }
    Ok(out)
}
