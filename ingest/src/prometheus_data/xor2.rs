//! Float chunks whose control bits tell of time and value at once, with start timestamps.
//!
//! A staleness marker is not what the next value is XORed with: that is the last other value.

use pilaster_model::{Columns, stale_nan};

use super::bits::Bits;
use super::error::Malformed;
use super::starts::Starts;
use super::xor::Xor;

/// Appends `count` samples; `starts` is the header's byte about start timestamps.
pub fn decode(mut bits: Bits, count: usize, starts: u8, out: &mut Columns) -> Result<(), Malformed> {
    let mut starts = Starts::new(starts);
    if count == 0 {
        return Ok(());
    }
    let mut timestamp_ms = bits.varint()?;
    let first = bits.f64()?;
    let mut value = Xor::of(if pilaster_model::is_stale(first) { 0 } else { first.to_bits() });
    let start_ms = starts.next(&mut bits, 0, timestamp_ms)?;
    out.push_float(timestamp_ms, first, start_ms);
    let mut delta_ms = 0_i64;
    for index in 1..count {
        let before_ms = timestamp_ms;
        let stale = if index == 1 {
            delta_ms = bits.uvarint()? as i64;
            change_value(&mut bits, &mut value)?
        } else {
            match bits.prefix(5)? {
                0 => false,
                1 => {
                    if bits.bit()? {
                        value.in_new_window(&mut bits)?
                    } else {
                        value.in_window(&mut bits)?
                    }
                    false
                }
                prefix @ 2..=4 => {
                    let change = match prefix {
                        2 => two_complement(bits.take(13)?, 13),
                        3 => two_complement(bits.take(20)?, 20),
                        _ => bits.take(64)? as i64,
                    };
                    delta_ms = delta_ms.wrapping_add(change);
                    change_value(&mut bits, &mut value)?
                }
                _ => true,
            }
        };
        timestamp_ms = timestamp_ms.wrapping_add(delta_ms);
        let start_ms = starts.next(&mut bits, index, before_ms)?;
        out.push_float(timestamp_ms, if stale { stale_nan() } else { value.value() }, start_ms);
    }
    Ok(())
}

/// `0` the same; `10` other bits in the window; `110` another window; `111` a staleness marker: then true.
fn change_value(bits: &mut Bits, value: &mut Xor) -> Result<bool, Malformed> {
    match bits.prefix(3)? {
        0 => {}
        1 => value.in_window(bits)?,
        2 => value.in_new_window(bits)?,
        _ => return Ok(true),
    }
    Ok(false)
}

fn two_complement(value: u64, size: u32) -> i64 {
    (value << (64 - size)) as i64 >> (64 - size)
}
