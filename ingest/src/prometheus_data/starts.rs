//! Start timestamps beside the samples of a chunk.
//!
//! A header byte says whether the first sample has one (highest bit) and from which sample on they change (the others,
//! 0: never). Each is a distance from the timestamp of the sample before, given by how much that distance changed.

use super::bits::Bits;
use super::error::Malformed;

#[derive(Debug, Clone, Copy)]
pub struct Starts {
    first_known: bool,
    change_from: usize,
    start_ms: i64,
    distance_ms: i64,
}

impl Starts {
    pub fn new(header: u8) -> Starts {
        Starts { first_known: header & 0x80 != 0, change_from: usize::from(header & 0x7f), start_ms: 0, distance_ms: 0 }
    }

    /// The start timestamp of sample `index`, 0 where it has none. `before_ms` is the timestamp of the sample before it,
    /// or its own for the first.
    pub fn next(&mut self, bits: &mut Bits, index: usize, before_ms: i64) -> Result<i64, Malformed> {
        if index == 0 {
            if self.first_known {
                // Where changes begin later, they begin anew.
                self.start_ms = before_ms.wrapping_sub(bits.varint()?);
            }
        } else if self.change_from > 0 && index >= self.change_from {
            let change = bits.varbit_int()?;
            self.distance_ms = if index == self.change_from { change } else { self.distance_ms.wrapping_add(change) };
            self.start_ms = before_ms.wrapping_sub(self.distance_ms);
        }
        Ok(self.start_ms)
    }
}
