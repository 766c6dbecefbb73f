//! Bodies that are compressed in pieces, side by side.

use axum::http::{HeaderMap, header};
use flate2::{Compress, Compression, Crc, FlushCompress};
use parking_lot::Mutex;

/// RFC 1952: deflate, no flags, no time, compressed fast, on no system in particular.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];
/// RFC 1951: a last block that holds nothing.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// A piece of a body, compressed so that others may stand before and behind it.
#[derive(Debug)]
pub struct Packed {
    deflated: Vec<u8>,
    crc: Crc,
}

/// Compresses pieces one after the other; what it needs for that is large beside a piece.
#[derive(Debug)]
pub struct Packer(Compress);

impl Packer {
    fn new() -> Packer {
        Packer(Compress::new(Compression::fast(), false))
    }

    /// Compresses a piece; `None` where that cannot be done.
    pub fn pack(&mut self, piece: &[u8]) -> Option<Packed> {
        let mut crc = Crc::new();
        crc.update(piece);
        let compress = &mut self.0;
        compress.reset();
        let mut deflated = Vec::with_capacity(piece.len() / 4 + 1024);
        loop {
            let rest = piece.get(compress.total_in() as usize..)?;
            compress.compress_vec(rest, &mut deflated, FlushCompress::Sync).ok()?;
            if compress.total_in() as usize == piece.len() && deflated.len() < deflated.capacity() {
                deflated.shrink_to_fit();
                return Some(Packed { deflated, crc });
            }
            deflated.reserve(deflated.capacity() / 2);
        }
    }
}

/// Packers for one body after another: what a new one needs, a third of a megabyte, takes longer to make than to pack a small
/// body with it.
#[derive(Debug)]
pub struct Packers {
    idle: Mutex<Vec<Packer>>,
    most_idle: usize,
}

impl Packers {
    /// Keeps so many at most while nobody uses them.
    pub fn new(most_idle: usize) -> Packers {
        Packers { idle: Mutex::default(), most_idle }
    }

    /// One for as long as it is held.
    pub fn lend(&self) -> Lent<'_> {
        let idle = self.idle.lock().pop();
        Lent { packer: Some(idle.unwrap_or_else(Packer::new)), home: self }
    }
}

/// See [`Packers::lend`].
#[derive(Debug)]
pub struct Lent<'a> {
    /// There until it goes home.
    packer: Option<Packer>,
    home: &'a Packers,
}

impl Lent<'_> {
    /// [`Packer::pack`]
    pub fn pack(&mut self, piece: &[u8]) -> Option<Packed> {
        self.packer.as_mut()?.pack(piece)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut idle = self.home.idle.lock();
        if idle.len() < self.home.most_idle {
            idle.extend(self.packer.take());
        }
    }
}

/// The whole body of these pieces, as one member of a gzip file.
pub fn join(pieces: &[Packed]) -> Vec<u8> {
    let len: usize = pieces.iter().map(|piece| piece.deflated.len()).sum();
    let mut body = Vec::with_capacity(len + HEADER.len() + LAST_BLOCK.len() + 8);
    body.extend_from_slice(&HEADER);
    let mut crc = Crc::new();
    for piece in pieces {
        body.extend_from_slice(&piece.deflated);
        crc.combine(&piece.crc);
    }
    body.extend_from_slice(&LAST_BLOCK);
    body.extend_from_slice(&crc.sum().to_le_bytes());
    body.extend_from_slice(&crc.amount().to_le_bytes());
    body
}

/// Whether a client takes gzip.
pub fn is_accepted(headers: &HeaderMap) -> bool {
    let all = headers.get_all(header::ACCEPT_ENCODING).into_iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").map_or(1.0, |weight| weight.trim().parse().unwrap_or(0.0));
        name.trim().eq_ignore_ascii_case("gzip") && weight > 0.0
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn unpacked(body: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        // Of one member only.
        flate2::read::GzDecoder::new(body).read_to_end(&mut text).unwrap();
        text
    }

    #[test]
    fn pieces_are_one_body() {
        let text: Vec<u8> = (0..200_000u32)
            .flat_map(|number| (u64::from(number) * u64::from(number) % 977).to_string().into_bytes())
            .collect();
        let noise: Vec<u8> = (0..300_000u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
        let all = [b"".as_slice(), b"a", &text, &noise, b"", &text[..1000]];
        let mut packer = Packer::new();
        for count in 0..=all.len() {
            let pieces: Vec<Packed> = all[..count].iter().map(|piece| packer.pack(piece).unwrap()).collect();
            assert_eq!(unpacked(&join(&pieces)), all[..count].concat());
        }
        let packed = packer.pack(&text).unwrap().deflated;
        assert!(packed.len() < text.len() / 2);
        assert_eq!(packed, Packer::new().pack(&text).unwrap().deflated);
    }

    #[test]
    fn packers_are_lent_again() {
        let packers = Packers::new(2);
        let mut lent: Vec<Lent<'_>> = (0..3).map(|_| packers.lend()).collect();
        let packed: Vec<Packed> = lent.iter_mut().map(|packer| packer.pack(b"one").unwrap()).collect();
        assert_eq!(unpacked(&join(&packed)), b"oneoneone");
        drop(lent);
        assert_eq!(packers.idle.lock().len(), 2);
        assert_eq!(packers.lend().pack(b"one").unwrap().deflated, packed[0].deflated);
        assert_eq!(packers.idle.lock().len(), 2);
    }

    #[test]
    fn clients_say_whether_they_take_it() {
        let accepted = |value: &'static str| {
            is_accepted(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, value.parse().unwrap())]))
        };
        assert!(["gzip", "deflate, gzip", "GZIP;q=0.5, br", "br , gzip ; q=1.0"].map(accepted).iter().all(|yes| *yes));
        assert!(!["", "br", "gzip;q=0", "gzip; q=0.0, br", "identity"].map(accepted).iter().any(|yes| *yes));
        assert!(!is_accepted(&HeaderMap::new()));
    }
}
