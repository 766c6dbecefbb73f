//! Native histograms as bytes in a grid's `Binary` cells: little-endian, in the order of the struct's fields.
//!
//! ```text
//! schema i32 | hint u8 | zero_threshold, zero_count, count, sum f64 | spans | f64s | spans | f64s | bounds
//! spans: count u32, then (offset i32, length u32) each      f64s, bounds: count u32, then f64 each
//! ```
//!
//! The form lives inside one query and is not stored.

use pilaster_model::{CounterResetHint, Histogram, Span};

/// Appends `histogram` to `out`.
pub fn encode(histogram: &Histogram, out: &mut Vec<u8>) {
    out.extend_from_slice(&histogram.schema.to_le_bytes());
    out.push(match histogram.counter_reset_hint {
        CounterResetHint::Unknown => 0,
        CounterResetHint::Reset => 1,
        CounterResetHint::NotReset => 2,
        CounterResetHint::Gauge => 3,
    });
    for value in [histogram.zero_threshold, histogram.zero_count, histogram.count, histogram.sum] {
        out.extend_from_slice(&value.to_le_bytes());
    }
    encode_spans(&histogram.positive_spans, out);
    encode_floats(&histogram.positive, out);
    encode_spans(&histogram.negative_spans, out);
    encode_floats(&histogram.negative, out);
    encode_floats(&histogram.custom_bounds, out);
}

fn encode_spans(spans: &[Span], out: &mut Vec<u8>) {
    out.extend_from_slice(&(spans.len() as u32).to_le_bytes());
    for span in spans {
        out.extend_from_slice(&span.offset.to_le_bytes());
        out.extend_from_slice(&span.length.to_le_bytes());
    }
}

fn encode_floats(floats: &[f64], out: &mut Vec<u8>) {
    out.extend_from_slice(&(floats.len() as u32).to_le_bytes());
    for float in floats {
        out.extend_from_slice(&float.to_le_bytes());
    }
}

/// Reads what [`encode`] wrote; `None` where bytes are missing or mean nothing.
pub fn decode(bytes: &[u8]) -> Option<Histogram> {
    let mut rest = Bytes(bytes);
    let schema = i32::from_le_bytes(rest.take()?);
    let counter_reset_hint = match u8::from_le_bytes(rest.take()?) {
        0 => CounterResetHint::Unknown,
        1 => CounterResetHint::Reset,
        2 => CounterResetHint::NotReset,
        3 => CounterResetHint::Gauge,
        _ => return None,
    };
    Some(Histogram {
        schema,
        counter_reset_hint,
        zero_threshold: rest.float()?,
        zero_count: rest.float()?,
        count: rest.float()?,
        sum: rest.float()?,
        positive_spans: rest.spans()?,
        positive: rest.floats()?,
        negative_spans: rest.spans()?,
        negative: rest.floats()?,
        custom_bounds: rest.floats()?.into(),
    })
}

/// What is not read yet.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    fn float(&mut self) -> Option<f64> {
        Some(f64::from_le_bytes(self.take()?))
    }

    fn length(&mut self, item_bytes: usize) -> Option<usize> {
        let length = u32::from_le_bytes(self.take()?) as usize;
        (length.checked_mul(item_bytes)? <= self.0.len()).then_some(length)
    }

    fn floats(&mut self) -> Option<Vec<f64>> {
        (0..self.length(8)?).map(|_| self.float()).collect()
    }

    fn spans(&mut self) -> Option<Vec<Span>> {
        (0..self.length(8)?)
            .map(|_| {
                let offset = i32::from_le_bytes(self.take()?);
                let length = u32::from_le_bytes(self.take()?);
                Some(Span { offset, length })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_survive_and_cut_bytes_are_refused() {
        let histogram = Histogram {
            schema: -53,
            counter_reset_hint: CounterResetHint::Gauge,
            zero_threshold: 1e-128,
            zero_count: 2.0,
            count: 9.5,
            sum: -3.25,
            positive_spans: vec![Span { offset: -2, length: 2 }, Span { offset: 4, length: 1 }],
            positive: vec![1.0, 2.0, 3.0],
            negative_spans: vec![],
            negative: vec![],
            custom_bounds: vec![0.5, 1.0].into(),
        };
        let mut bytes = Vec::new();
        encode(&histogram, &mut bytes);
        assert_eq!(decode(&bytes), Some(histogram));
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None);
        }
    }
}
