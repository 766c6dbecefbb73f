//! Numbers and texts of index, log and tombstones.

use super::bits::unzigzag;
use super::error::Malformed;

const SHORT: Malformed = Malformed("cut short");

/// What is left of some bytes.
#[derive(Clone, Copy)]
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub fn be32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub fn be64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub fn f64(&mut self) -> Result<f64, Malformed> {
        Ok(f64::from_bits(self.be64()?))
    }

    pub fn uvarint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return if shift == 63 && byte > 1 { Err(Malformed("a number leaves 64 bits")) } else { Ok(value) };
            }
        }
        Err(Malformed("a number leaves 64 bits"))
    }

    pub fn varint(&mut self) -> Result<i64, Malformed> {
        Ok(unzigzag(self.uvarint()?))
    }

    /// A number of things that take a byte each at least.
    pub fn count(&mut self) -> Result<usize, Malformed> {
        let count = usize::try_from(self.uvarint()?).unwrap_or(usize::MAX);
        if count > self.0.len() { Err(SHORT) } else { Ok(count) }
    }

    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        let len = self.count()?;
        std::str::from_utf8(self.take(len)?).map_err(|_| Malformed("a text is not UTF-8"))
    }
}
