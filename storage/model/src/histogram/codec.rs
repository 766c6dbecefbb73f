//! Histograms as bytes, for the log, for blocks and for batches between operators.
//!
//! ```text
//! head u8         bits 0-1 hint, bit 2 integers, bit 3 zero bucket, bit 4 negative side, bit 5 custom bounds
//! schema          zigzag varint
//! sum             f64, little-endian, bit-exact
//! count           number
//! zero bucket     threshold f64, count number                             where bit 3 is set
//! positive        spans: varint length, then zigzag offset and length each; counts: varint length, then numbers
//! negative        likewise                                                where bit 4 is set
//! custom bounds   varint length, then f64 each                            where bit 5 is set
//! ```
//!
//! A number is an f64; in a histogram whose counts are all integers (bit 2) it is a varint, and bucket counts are
//! zigzag differences from the bucket before. Every histogram decodes to itself, bit by bit.

use std::sync::Arc;

use super::{CounterResetHint, Histogram, Span};

const INTEGERS: u8 = 1 << 2;
const ZERO_BUCKET: u8 = 1 << 3;
const NEGATIVE: u8 = 1 << 4;
const CUSTOM: u8 = 1 << 5;

/// Largest count that is exact as a double and whose differences fit into 64 bits.
const MAX_INTEGER: f64 = (1_u64 << 53) as f64;

/// Bytes that are no histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed histogram at byte {offset} of {length}")]
pub struct CodecError {
    pub offset: usize,
    pub length: usize,
}

impl Histogram {
    /// Appends the encoded form; it says where it ends.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let scalars = [&self.count, &self.zero_count];
        let integers =
            scalars.into_iter().chain(&self.positive).chain(&self.negative).all(|number| is_integer(*number));
        let hint = match self.counter_reset_hint {
            CounterResetHint::Unknown => 0,
            CounterResetHint::Reset => 1,
            CounterResetHint::NotReset => 2,
            CounterResetHint::Gauge => 3,
        };
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        let has_zero = self.zero_threshold.to_bits() != 0 || self.zero_count.to_bits() != 0;
        let has_negative = !self.negative_spans.is_empty() || !self.negative.is_empty();
        let has_bounds = !self.custom_bounds.is_empty();
        out.push(
            hint | bit(integers, INTEGERS)
                | bit(has_zero, ZERO_BUCKET)
                | bit(has_negative, NEGATIVE)
                | bit(has_bounds, CUSTOM),
        );
        put_signed(i64::from(self.schema), out);
        put_float(self.sum, out);
        put_number(self.count, integers, out);
        if has_zero {
            put_float(self.zero_threshold, out);
            put_number(self.zero_count, integers, out);
        }
        put_side(&self.positive_spans, &self.positive, integers, out);
        if has_negative {
            put_side(&self.negative_spans, &self.negative, integers, out);
        }
        if has_bounds {
            put_varint(self.custom_bounds.len() as u64, out);
            self.custom_bounds.iter().for_each(|bound| put_float(*bound, out));
        }
    }

    /// Reads one histogram from the front of `bytes`, and returns how many bytes it took.
    ///
    /// # Errors
    /// Bytes that are not what [`Histogram::encode`] writes. Consistency of spans and counts is not checked.
    pub fn decode(bytes: &[u8]) -> Result<(Histogram, usize), CodecError> {
        let mut reader = Reader { bytes, offset: 0 };
        let histogram = reader.histogram().ok_or(CodecError { offset: reader.offset, length: bytes.len() })?;
        Ok((histogram, reader.offset))
    }
}

fn is_integer(number: f64) -> bool {
    (0.0..MAX_INTEGER).contains(&number) && number.is_sign_positive() && number.fract() == 0.0
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_signed(value: i64, out: &mut Vec<u8>) {
    put_varint(((value << 1) ^ (value >> 63)) as u64, out);
}

fn put_float(value: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_number(value: f64, integers: bool, out: &mut Vec<u8>) {
    if integers { put_varint(value as u64, out) } else { put_float(value, out) }
}

fn put_side(spans: &[Span], counts: &[f64], integers: bool, out: &mut Vec<u8>) {
    put_varint(spans.len() as u64, out);
    for span in spans {
        put_signed(i64::from(span.offset), out);
        put_varint(u64::from(span.length), out);
    }
    put_varint(counts.len() as u64, out);
    let mut previous = 0;
    for &count in counts {
        if integers {
            put_signed(count as i64 - previous, out);
            previous = count as i64;
        } else {
            put_float(count, out);
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl Reader<'_> {
    fn histogram(&mut self) -> Option<Histogram> {
        let head = self.byte()?;
        if head & !(CUSTOM | NEGATIVE | ZERO_BUCKET | INTEGERS | 3) != 0 {
            return None;
        }
        let has = |bit: u8| head & bit != 0;
        let integers = has(INTEGERS);
        let mut histogram = Histogram {
            counter_reset_hint: match head & 3 {
                0 => CounterResetHint::Unknown,
                1 => CounterResetHint::Reset,
                2 => CounterResetHint::NotReset,
                _ => CounterResetHint::Gauge,
            },
            schema: i32::try_from(self.signed()?).ok()?,
            sum: self.float()?,
            count: self.number(integers)?,
            ..Histogram::default()
        };
        if has(ZERO_BUCKET) {
            histogram.zero_threshold = self.float()?;
            histogram.zero_count = self.number(integers)?;
        }
        (histogram.positive_spans, histogram.positive) = self.side(integers)?;
        if has(NEGATIVE) {
            (histogram.negative_spans, histogram.negative) = self.side(integers)?;
        }
        if has(CUSTOM) {
            let length = self.length(8)?;
            histogram.custom_bounds = (0..length).map(|_| self.float()).collect::<Option<Arc<[f64]>>>()?;
        }
        Some(histogram)
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.offset)?;
        self.offset += 1;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn float(&mut self) -> Option<f64> {
        let bytes = self.bytes.get(self.offset..self.offset + 8)?;
        self.offset += 8;
        Some(f64::from_le_bytes(bytes.try_into().ok()?))
    }

    fn number(&mut self, integer: bool) -> Option<f64> {
        if integer { self.varint().map(|value| value as f64) } else { self.float() }
    }

    /// A number of things of at least `bytes_each`: no more than there can be, so that nobody makes us reserve memory.
    fn length(&mut self, bytes_each: usize) -> Option<usize> {
        let length = usize::try_from(self.varint()?).ok()?;
        (length <= (self.bytes.len() - self.offset) / bytes_each).then_some(length)
    }

    fn side(&mut self, integers: bool) -> Option<(Vec<Span>, Vec<f64>)> {
        let mut spans = Vec::with_capacity(self.length(2)?);
        for _ in 0..spans.capacity() {
            spans.push(Span {
                offset: i32::try_from(self.signed()?).ok()?,
                length: u32::try_from(self.varint()?).ok()?,
            });
        }
        let length = self.length(if integers { 1 } else { 8 })?;
        let mut counts = Vec::with_capacity(length);
        let mut previous = 0_i64;
        for _ in 0..length {
            counts.push(if integers {
                previous = previous.checked_add(self.signed()?)?;
                previous as f64
            } else {
                self.float()?
            });
        }
        Some((spans, counts))
    }
}
