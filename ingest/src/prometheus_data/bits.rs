//! Bits of a chunk, highest of each byte first.

use super::error::Malformed;

const SHORT: Malformed = Malformed("the chunk is cut short");

pub struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits taken.
    at: usize,
}

impl<'a> Bits<'a> {
    pub fn new(bytes: &'a [u8]) -> Bits<'a> {
        Bits { bytes, at: 0 }
    }

    /// Bits not taken yet.
    pub fn left(&self) -> usize {
        8 * self.bytes.len() - self.at
    }

    /// The eight bytes from `byte` on, zeros behind the end.
    fn word(&self, byte: usize) -> u64 {
        match self.bytes.get(byte..byte + 8).and_then(|bytes| bytes.first_chunk()) {
            Some(bytes) => u64::from_be_bytes(*bytes),
            None => {
                let rest = self.bytes.get(byte..).unwrap_or_default();
                let mut bytes = [0; 8];
                bytes[..rest.len()].copy_from_slice(rest);
                u64::from_be_bytes(bytes)
            }
        }
    }

    /// The next `count` bits, 64 at most, as the low bits of a number.
    pub fn take(&mut self, count: u32) -> Result<u64, Malformed> {
        debug_assert!(count <= 64, "a number has 64 bits");
        if count as usize > self.left() {
            return Err(SHORT);
        }
        if count == 0 {
            return Ok(0);
        }
        let (byte, skip) = (self.at / 8, (self.at % 8) as u32);
        let mut value = (self.word(byte) << skip) >> (64 - count);
        if skip + count > 64 {
            value |= u64::from(self.bytes[byte + 8]) >> (72 - skip - count);
        }
        self.at += count as usize;
        Ok(value)
    }

    pub fn bit(&mut self) -> Result<bool, Malformed> {
        let byte = *self.bytes.get(self.at / 8).ok_or(SHORT)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Ok(bit == 1)
    }

    /// Ones before the next zero, which is taken too; `most` ones end the prefix without a zero.
    pub fn prefix(&mut self, most: u32) -> Result<u32, Malformed> {
        let (byte, skip) = (self.at / 8, self.at % 8);
        let ones = (self.word(byte) << skip).leading_ones().min(most);
        let taken = (ones + 1).min(most) as usize;
        if taken > self.left() {
            return Err(SHORT);
        }
        self.at += taken;
        Ok(ones)
    }

    /// Seven bits a byte, lowest first.
    pub fn uvarint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(8)?;
            value |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return if shift == 63 && byte > 1 { Err(Malformed("a number leaves 64 bits")) } else { Ok(value) };
            }
        }
        Err(Malformed("a number leaves 64 bits"))
    }

    pub fn varint(&mut self) -> Result<i64, Malformed> {
        Ok(unzigzag(self.uvarint()?))
    }

    /// Of `size` bits, where the upper half of the range is negative but for its lowest number.
    pub fn signed(&mut self, size: u32) -> Result<i64, Malformed> {
        let value = self.take(size)?;
        Ok(if (1..64).contains(&size) && value > 1 << (size - 1) { value as i64 - (1 << size) } else { value as i64 })
    }

    /// A prefix that says how many bits follow.
    fn varbit_size(&mut self) -> Result<u32, Malformed> {
        const SIZES: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];
        Ok(SIZES[self.prefix(8)? as usize])
    }

    pub fn varbit_int(&mut self) -> Result<i64, Malformed> {
        let size = self.varbit_size()?;
        self.signed(size)
    }

    pub fn varbit_uint(&mut self) -> Result<u64, Malformed> {
        let size = self.varbit_size()?;
        self.take(size)
    }

    pub fn f64(&mut self) -> Result<f64, Malformed> {
        Ok(f64::from_bits(self.take(64)?))
    }
}

pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
