//! LEB128 integers and a cursor that never reads past its end.

/// Appends `value` in seven-bit groups, lowest first.
pub fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed integer: zigzag, then as [`put_uvarint`].
pub fn put_svarint(out: &mut Vec<u8>, value: i64) {
    put_uvarint(out, zigzag(value));
}

/// Small magnitudes to small numbers: 0, -1, 1, -2 … become 0, 1, 2, 3 ….
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// What [`zigzag`] was made of.
pub fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// Reads forward; every method answers `None` where the bytes end too early.
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    /// Bytes consumed so far.
    pub fn position(&self) -> usize {
        self.at
    }

    pub fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    #[inline]
    pub fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    pub fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let bytes = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(bytes)
    }

    pub fn skip(&mut self, len: usize) -> Option<()> {
        self.bytes(len).map(drop)
    }

    /// `None` also where the number does not fit 64 bits.
    #[inline]
    pub fn uvarint(&mut self) -> Option<u64> {
        let first = self.byte()?;
        if first < 0x80 {
            return Some(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        let mut shift = 7;
        loop {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift >= 64 || (shift == 63 && bits > 1) {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
            shift += 7;
        }
    }

    #[inline]
    pub fn svarint(&mut self) -> Option<i64> {
        self.uvarint().map(unzigzag)
    }

    /// An unsigned number that must fit `T`.
    #[inline]
    pub fn number<T: TryFrom<u64>>(&mut self) -> Option<T> {
        T::try_from(self.uvarint()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_round_trip(unsigned: u64, signed: i64) {
            let mut bytes = Vec::new();
            put_uvarint(&mut bytes, unsigned);
            put_svarint(&mut bytes, signed);
            let mut cursor = Cursor::new(&bytes);
            assert_eq!(cursor.uvarint(), Some(unsigned));
            assert_eq!(cursor.svarint(), Some(signed));
            assert!(cursor.is_empty());
            assert_eq!(cursor.byte(), None);
        }
    }

    #[test]
    fn too_long_numbers_are_refused() {
        assert_eq!(Cursor::new(&[0xff; 12]).uvarint(), None);
        let mut eleventh_bit = [0xff; 10];
        eleventh_bit[9] = 2;
        assert_eq!(Cursor::new(&eleventh_bit).uvarint(), None);
    }
}
