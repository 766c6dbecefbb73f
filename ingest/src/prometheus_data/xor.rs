//! Float chunks: differences of differences of time, and values XORed with the one before.

use super::bits::Bits;
use super::error::Malformed;
use pilaster_model::Columns;

/// A value, and where in it the bits that changed last stand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Xor {
    pub bits: u64,
    leading: u32,
    trailing: u32,
}

impl Xor {
    pub fn of(bits: u64) -> Xor {
        Xor { bits, leading: 0, trailing: 0 }
    }

    pub fn value(&self) -> f64 {
        f64::from_bits(self.bits)
    }

    /// The next value: `0` the same; `10` other bits in the window there is; `11` another window.
    pub fn next(&mut self, bits: &mut Bits) -> Result<(), Malformed> {
        match bits.prefix(2)? {
            0 => Ok(()),
            1 => self.in_window(bits),
            _ => self.in_new_window(bits),
        }
    }

    pub fn in_window(&mut self, bits: &mut Bits) -> Result<(), Malformed> {
        self.bits ^= bits.take(64 - self.leading - self.trailing)? << self.trailing;
        Ok(())
    }

    pub fn in_new_window(&mut self, bits: &mut Bits) -> Result<(), Malformed> {
        let window = bits.take(11)? as u32;
        let (leading, significant) = (window >> 6, window & 0x3f);
        // 64 does not fit into six bits, and none at all is never written.
        let significant = if significant == 0 { 64 } else { significant };
        let Some(trailing) = 64_u32.checked_sub(leading + significant) else {
            return Err(Malformed("a value has more than 64 bits"));
        };
        (self.leading, self.trailing) = (leading, trailing);
        self.in_window(bits)
    }
}

/// Appends `count` samples.
pub fn decode(mut bits: Bits, count: usize, out: &mut Columns) -> Result<(), Malformed> {
    if count == 0 {
        return Ok(());
    }
    let mut timestamp_ms = bits.varint()?;
    let mut value = Xor::of(bits.take(64)?);
    out.push_float(timestamp_ms, value.value(), 0);
    if count == 1 {
        return Ok(());
    }
    let mut delta_ms = bits.uvarint()? as i64;
    for index in 1..count {
        if index > 1 {
            let change = match bits.prefix(4)? {
                0 => 0,
                1 => bits.signed(14)?,
                2 => bits.signed(17)?,
                3 => bits.signed(20)?,
                _ => bits.take(64)? as i64,
            };
            delta_ms = delta_ms.wrapping_add(change);
        }
        timestamp_ms = timestamp_ms.wrapping_add(delta_ms);
        value.next(&mut bits)?;
        out.push_float(timestamp_ms, value.value(), 0);
    }
    Ok(())
}
