//! Reading what is packed. Queries of the newest minutes do little else.

use pilaster_model::Columns;

use super::{FIRST_SHAPE, NEW_DIGITS, SAME_STEP, SAME_VALUE, SHAPES, WIDEST_CHANGE};
use crate::decimal::{MOST_DIGITS, scaled, unscaled};
use crate::head::numbers::{take_byte, take_u64};

/// Integers up to this are the same after they were made a value and scaled again, whatever their digits: rounding twice
/// moves them by less than a half.
const STAYS: u64 = 1 << 50;

/// The value of the sample at hand.
#[derive(Debug, Clone, Copy)]
struct Value {
    /// What stands for the value where it `is_integer`.
    integer: i64,
    is_integer: bool,
    bits: u64,
    digits: u8,
}

impl Value {
    fn bits(&self) -> u64 {
        if self.is_integer { unscaled(self.integer, self.digits).to_bits() } else { self.bits }
    }

    /// As a number of so many digits, which are its own from now on.
    fn integer(&mut self, digits: u8) -> i64 {
        if self.is_integer && self.digits == digits && self.integer.unsigned_abs() < STAYS {
            return self.integer;
        }
        let integer = scaled(f64::from_bits(self.bits()), digits);
        self.digits = digits;
        integer
    }

    fn change(&mut self, change: i64, digits: u8) {
        self.integer = self.integer(digits).wrapping_add(change);
        self.is_integer = true;
    }
}

/// Appends those of the `count` samples of a run whose timestamps are in `[min_ms, max_ms]`.
pub fn read(mut bytes: &[u8], count: usize, min_ms: i64, max_ms: i64, out: &mut Columns) {
    if count == 0 {
        return;
    }
    let bytes = &mut bytes;
    let mut timestamp_ms = take_u64(bytes) as i64;
    let bits = take_u64(bytes);
    let mut value = Value { integer: 0, is_integer: false, bits, digits: take_byte(bytes).min(MOST_DIGITS) };
    let mut step_ms = 0i64;
    for index in 0..count {
        if index > 0 && !next_quickly(bytes, step_ms, &mut timestamp_ms, &mut value) {
            let control = take_byte(bytes);
            let distance = match control >> 6 {
                SAME_STEP => step_ms,
                1 => step_ms.wrapping_add(take_signed(bytes, 1)),
                2 => step_ms.wrapping_add(take_signed(bytes, 2)),
                _ => take_signed(bytes, 8),
            };
            timestamp_ms = timestamp_ms.wrapping_add(distance);
            step_ms = u32::try_from(distance).map_or(0, i64::from);
            match control & 63 {
                SAME_VALUE => {}
                len @ 1..=WIDEST_CHANGE => value.change(take_signed(bytes, usize::from(len)), value.digits),
                NEW_DIGITS => {
                    let digits = take_byte(bytes).min(MOST_DIGITS);
                    value.change(take_signed(bytes, 8), digits);
                }
                code => {
                    let Some(&(leading, len)) = SHAPES.get(usize::from(code.wrapping_sub(FIRST_SHAPE))) else { return };
                    let Some((changed, rest)) = bytes.split_at_checked(usize::from(len)) else { return };
                    *bytes = rest;
                    let mut xor = [0u8; 8];
                    xor[usize::from(leading)..usize::from(leading + len)].copy_from_slice(changed);
                    value.bits = value.bits() ^ u64::from_be_bytes(xor);
                    value.is_integer = false;
                }
            }
        }
        if timestamp_ms > max_ms {
            return;
        }
        if timestamp_ms >= min_ms {
            out.timestamps.push(timestamp_ms);
            out.values.push(f64::from_bits(value.bits()));
        }
    }
}

/// The next sample where it is of the common kind, at the same distance and with a change of a few bytes or none; without
/// a branch that depends on how many.
fn next_quickly(bytes: &mut &[u8], step_ms: i64, timestamp_ms: &mut i64, value: &mut Value) -> bool {
    let Some((&[control, raw @ ..], _)) = bytes.split_first_chunk::<9>() else { return false };
    let is_small = value.is_integer && value.integer.unsigned_abs() < STAYS;
    if control > WIDEST_CHANGE || (control != SAME_VALUE && !is_small) {
        return false;
    }
    let unused = 64 - 8 * u32::from(control);
    // In two steps, because all 64 bits are unused where nothing changes.
    let shifted = u64::from_le_bytes(raw) << (unused - 1) << 1;
    value.integer = value.integer.wrapping_add((shifted as i64) >> (unused - 1) >> 1);
    *timestamp_ms = timestamp_ms.wrapping_add(step_ms);
    *bytes = &bytes[1 + usize::from(control)..];
    true
}

/// A little-endian number of `len` bytes, 8 at most.
fn take_signed(bytes: &mut &[u8], len: usize) -> i64 {
    let Some((taken, rest)) = bytes.split_at_checked(len) else { return 0 };
    *bytes = rest;
    let raw = taken.iter().rev().fold(0u64, |raw, &byte| raw << 8 | u64::from(byte));
    let unused = 64 - 8 * len as u32;
    ((raw << unused) as i64) >> unused
}

/// The slow twin, sample by sample as the format says.
#[cfg(test)]
pub fn slowly(mut bytes: &[u8], count: usize, max_ms: i64, out: &mut Columns) {
    if count == 0 {
        return;
    }
    let bytes = &mut bytes;
    let mut timestamp_ms = take_u64(bytes) as i64;
    let mut bits = take_u64(bytes);
    let mut digits = take_byte(bytes).min(MOST_DIGITS);
    let mut step_ms = 0i64;
    for index in 0..count {
        if index > 0 {
            let control = take_byte(bytes);
            let distance = match control >> 6 {
                SAME_STEP => step_ms,
                1 => step_ms.wrapping_add(take_signed(bytes, 1)),
                2 => step_ms.wrapping_add(take_signed(bytes, 2)),
                _ => take_signed(bytes, 8),
            };
            timestamp_ms = timestamp_ms.wrapping_add(distance);
            step_ms = u32::try_from(distance).map_or(0, i64::from);
            match control & 63 {
                SAME_VALUE => {}
                len @ 1..=WIDEST_CHANGE => {
                    let change = take_signed(bytes, usize::from(len));
                    let integer = scaled(f64::from_bits(bits), digits).wrapping_add(change);
                    bits = unscaled(integer, digits).to_bits();
                }
                NEW_DIGITS => {
                    digits = take_byte(bytes).min(MOST_DIGITS);
                    let change = take_signed(bytes, 8);
                    let integer = scaled(f64::from_bits(bits), digits).wrapping_add(change);
                    bits = unscaled(integer, digits).to_bits();
                }
                code => {
                    let Some(&(leading, len)) = SHAPES.get(usize::from(code.wrapping_sub(FIRST_SHAPE))) else { return };
                    let Some((changed, rest)) = bytes.split_at_checked(usize::from(len)) else { return };
                    *bytes = rest;
                    let mut xor = [0u8; 8];
                    xor[usize::from(leading)..usize::from(leading + len)].copy_from_slice(changed);
                    bits ^= u64::from_be_bytes(xor);
                }
            }
        }
        if timestamp_ms > max_ms {
            return;
        }
        out.timestamps.push(timestamp_ms);
        out.values.push(f64::from_bits(bits));
    }
}
