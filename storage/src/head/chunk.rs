//! Older samples of a series, compressed.
//!
//! ```text
//! timestamps  nothing where they are evenly spaced: ends and count say all; else
//!             first: 8 bytes, then zigzag varints of the change of the distance to the one before
//! values      Constant  one value for all
//!             Decimals  as integers over a power of ten: first, then zigzag varints of the change of the difference
//!             Xor       per value: bytes that differ from the one before (leading zero bytes << 4 | count), then those
//! ```
//!
//! Start timestamps, where any is known, are packed like timestamps. Every class is bit-exact: a chunk counts as decimals only when each value comes back with the same bits.

use super::columns::Columns;

/// Samples in a sealed chunk, ascending by time.
#[derive(Debug, Clone)]
pub struct Chunk {
    pub min_ms: i64,
    pub max_ms: i64,
    pub count: u32,
    class: Class,
    /// Whether the distance from each timestamp to the next is the same.
    even: bool,
    bytes: Box<[u8]>,
    /// Start timestamps as changes of differences, where any is known.
    starts: Option<Box<[u8]>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Constant,
    /// With so many digits behind the point.
    Decimals(u8),
    Xor,
}

const POWERS: [f64; 5] = [1.0, 10.0, 100.0, 1000.0, 10_000.0];
/// Integers of this size and below are exact in a double.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl Chunk {
    /// Compresses samples with strictly ascending timestamps, but for histograms. `None` for no samples. `bytes` is for
    /// use on the way.
    pub fn seal(samples: &Columns, bytes: &mut Vec<u8>) -> Option<Chunk> {
        let Columns { timestamps, values, starts_ms, histograms: _ } = samples;
        let (&min_ms, &max_ms) = (timestamps.first()?, timestamps.last()?);
        bytes.clear();
        let even = is_even(timestamps);
        if !even {
            put_deltas(timestamps.iter().copied(), bytes);
        }
        let first = values.first()?.to_bits();
        let class = if values.iter().all(|value| value.to_bits() == first) {
            bytes.extend_from_slice(&first.to_le_bytes());
            Class::Constant
        } else if let Some(digits) = digits(values) {
            put_deltas(values.iter().map(|&value| scaled(value, digits)), bytes);
            Class::Decimals(digits)
        } else {
            put_xor(values, bytes);
            Class::Xor
        };
        let packed = bytes[..].into();
        let starts = starts_ms.iter().any(|&start| start != 0).then(|| {
            bytes.clear();
            put_deltas(starts_ms.iter().copied(), bytes);
            bytes[..].into()
        });
        let count = timestamps.len() as u32;
        Some(Chunk { min_ms, max_ms, count, class, even, bytes: packed, starts })
    }

    /// Appends all samples to `out`.
    pub fn read(&self, out: &mut Columns) {
        let count = self.count as usize;
        let before = out.len();
        let mut bytes = &self.bytes[..];
        out.timestamps.reserve(count);
        if self.even {
            let step_ms = (self.max_ms - self.min_ms) / (count as i64 - 1).max(1);
            out.timestamps.extend((0..count as i64).map(|index| self.min_ms + index * step_ms));
        } else {
            take_deltas(&mut bytes, count, |timestamp| out.timestamps.push(timestamp));
        }
        let values = &mut out.values;
        values.reserve(count);
        match self.class {
            Class::Constant => values.extend(std::iter::repeat_n(f64::from_bits(take_u64(&mut bytes)), count)),
            Class::Decimals(digits) => {
                let divisor = POWERS[digits as usize];
                take_deltas(&mut bytes, count, |value| values.push(value as f64 / divisor));
            }
            Class::Xor => take_xor(&mut bytes, count, values),
        }
        if let Some(starts) = &self.starts {
            out.starts_ms.resize(before, 0);
            take_deltas(&mut &starts[..], count, |start| out.starts_ms.push(start));
        } else if !out.starts_ms.is_empty() {
            out.starts_ms.resize(before + count, 0);
        }
    }

    /// Appends the samples in `[min_ms, max_ms]` to `out`.
    pub fn read_range(&self, min_ms: i64, max_ms: i64, out: &mut Columns) {
        let before = out.len();
        self.read(out);
        if self.max_ms > max_ms {
            let keep = before + out.timestamps[before..].partition_point(|&ms| ms <= max_ms);
            out.timestamps.truncate(keep);
            out.values.truncate(keep);
            out.starts_ms.truncate(keep);
        }
        if self.min_ms < min_ms {
            let from = before + out.timestamps[before..].partition_point(|&ms| ms < min_ms);
            out.timestamps.drain(before..from);
            out.values.drain(before..from);
            if !out.starts_ms.is_empty() {
                out.starts_ms.drain(before..from);
            }
        }
    }

    pub fn memory_bytes(&self) -> usize {
        self.bytes.len() + 16 + self.starts.as_ref().map_or(0, |starts| starts.len() + 16)
    }
}

/// Whether the distance from each to the next is the same, and all distances fit into 63 bits.
fn is_even(timestamps: &[i64]) -> bool {
    let (&[first, ..], &[.., last]) = (timestamps, timestamps) else { return false };
    let step = timestamps.get(1).and_then(|second| second.checked_sub(first));
    let steps_fit = last.checked_sub(first).is_some();
    steps_fit && timestamps.windows(2).all(|pair| Some(pair[1] - pair[0]) == step)
}

/// The nearest integer to `value` with its point moved.
fn scaled(value: f64, digits: u8) -> i64 {
    let moved = value * POWERS[digits as usize];
    (moved + 0.5f64.copysign(moved)) as i64
}

/// So many digits behind the point that nothing is lost by keeping them only.
fn digits(values: &[f64]) -> Option<u8> {
    let exact = |value: f64, digits: u8| {
        let integer = scaled(value, digits) as f64;
        integer.abs() <= EXACT && (integer / POWERS[digits as usize]).to_bits() == value.to_bits()
    };
    (0..POWERS.len() as u8).find(|&digits| values.iter().all(|&value| exact(value, digits)))
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The first number in eight bytes, then changes of the difference; wrapping, so that any numbers will do.
fn put_deltas(numbers: impl IntoIterator<Item = i64>, out: &mut Vec<u8>) {
    let (mut last, mut last_delta) = (0i64, 0i64);
    for (index, number) in numbers.into_iter().enumerate() {
        if index == 0 {
            out.extend_from_slice(&number.to_le_bytes());
        } else {
            let delta = number.wrapping_sub(last);
            let change = delta.wrapping_sub(last_delta);
            put_varint(((change << 1) ^ (change >> 63)) as u64, out);
            last_delta = delta;
        }
        last = number;
    }
}

fn take_deltas(bytes: &mut &[u8], count: usize, mut push: impl FnMut(i64)) {
    let mut last = take_u64(bytes) as i64;
    push(last);
    let mut delta = 0i64;
    for _ in 1..count {
        let raw = take_varint(bytes);
        delta = delta.wrapping_add((raw >> 1) as i64 ^ -((raw & 1) as i64));
        last = last.wrapping_add(delta);
        push(last);
    }
}

fn take_varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0u64;
    let mut shift = 0;
    while let [byte, rest @ ..] = bytes {
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn take_u64(bytes: &mut &[u8]) -> u64 {
    let Some((head, rest)) = bytes.split_first_chunk::<8>() else { return 0 };
    *bytes = rest;
    u64::from_le_bytes(*head)
}

fn put_xor(values: &[f64], out: &mut Vec<u8>) {
    let mut last = 0u64;
    for value in values {
        let bits = value.to_bits();
        let xor = bits ^ last;
        last = bits;
        if xor == 0 {
            out.push(0);
            continue;
        }
        let leading = xor.leading_zeros() as usize / 8;
        let trailing = xor.trailing_zeros() as usize / 8;
        let len = 8 - leading - trailing;
        out.push((leading << 4 | len) as u8);
        out.extend_from_slice(&xor.to_be_bytes()[leading..leading + len]);
    }
}

fn take_xor(bytes: &mut &[u8], count: usize, values: &mut Vec<f64>) {
    let mut bits = 0u64;
    for _ in 0..count {
        let Some((&control, rest)) = bytes.split_first() else { return };
        let (leading, len) = ((control >> 4) as usize, (control & 15) as usize);
        let Some((changed, rest)) = rest.split_at_checked(len) else { return };
        *bytes = rest;
        let mut xor = [0u8; 8];
        if let Some(place) = xor.get_mut(leading..leading + len) {
            place.copy_from_slice(changed);
        }
        bits ^= u64::from_be_bytes(xor);
        values.push(f64::from_bits(bits));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(samples: Vec<(i64, f64)>) {
        let (timestamps, values): (Vec<i64>, Vec<f64>) = samples.into_iter().unzip();
        let samples = Columns { timestamps: timestamps.clone(), values: values.clone(), ..Columns::default() };
        let chunk = Chunk::seal(&samples, &mut Vec::new()).unwrap();
        let mut back = Columns::default();
        chunk.read(&mut back);
        assert_eq!(back.timestamps, timestamps);
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back.values), bits(&values));
        assert!(back.starts_ms.is_empty());
    }

    proptest! {
        #[test]
        fn what_is_sealed_comes_back_bit_for_bit(
            samples in prop::collection::btree_map(any::<i64>(), any::<u64>().prop_map(f64::from_bits), 1..200)
        ) {
            check(samples.into_iter().collect());
        }

        #[test]
        fn integers_come_back(
            samples in prop::collection::btree_map(any::<i64>(), (-1i64 << 54..1 << 54).prop_map(|v| v as f64), 1..200)
        ) {
            check(samples.into_iter().collect());
        }

        #[test]
        fn decimals_come_back(
            samples in prop::collection::btree_map(any::<i64>(), -1_000_000i64..1_000_000, 1..200), divisor in 0..7usize
        ) {
            let divisor = [1.0, 10.0, 100.0, 1000.0, 10_000.0, 8.0, 3.0][divisor];
            check(samples.into_iter().map(|(timestamp_ms, value)| (timestamp_ms, value as f64 / divisor)).collect());
        }
    }

    #[test]
    fn staleness_markers_and_negative_zero_come_back() {
        check(vec![(1, 0.0), (2, -0.0), (3, pilaster_model::stale_nan()), (4, f64::NAN), (5, f64::INFINITY)]);
        check(vec![(1, pilaster_model::stale_nan())]);
        check(vec![(1, 0.1), (2, -0.0), (3, 0.3), (4, -2.5), (5, 1e300), (6, 5e-324)]);
        let decimals: Vec<f64> = (0..128).map(|step| f64::from(step * 7 % 101) * 0.01).collect();
        assert!(digits(&decimals).is_none(), "a product with 0.01 is not always the decimal it looks like");
        assert_eq!(digits(&[0.25, -17.5, 3.0]), Some(2));
    }

    #[test]
    fn a_part_of_a_chunk_has_its_start_timestamps() {
        let mut samples = Columns::default();
        [(10, 1.0, 0), (20, 2.0, 5), (30, 3.0, 5)]
            .iter()
            .for_each(|&(ms, value, start)| samples.push(ms, value, start, None));
        let chunk = Chunk::seal(&samples, &mut Vec::new()).unwrap();
        let mut out = Columns::default();
        out.push(1, 0.5, 0, None);
        chunk.read_range(15, 20, &mut out);
        assert_eq!((out.timestamps, out.values, out.starts_ms), (vec![1, 20], vec![0.5, 2.0], vec![0, 5]));
    }

    #[test]
    fn even_timestamps_take_no_room() {
        let steps = |step: i64| (0..100).map(move |index| (index * step - 7, 3.0));
        let room = |samples: Vec<(i64, f64)>| {
            let mut columns = Columns::default();
            samples.iter().for_each(|&(ms, value)| columns.push(ms, value, 0, None));
            Chunk::seal(&columns, &mut Vec::new()).unwrap().bytes.len()
        };
        for step in [1, 15_000, i64::MAX / 100] {
            check(steps(step).collect());
            assert_eq!(room(steps(step).collect()), 8);
        }
        check(vec![(i64::MIN, 1.0), (0, 2.0), (i64::MAX, 3.0)]);
        check(vec![(i64::MIN, 1.0), (-1, 2.0), (i64::MAX - 1, 3.0)]);
        check(vec![(i64::MIN, 1.0), (i64::MAX, 2.0)]);
        let mut uneven: Vec<_> = steps(15_000).collect();
        uneven[50].0 += 1;
        check(uneven);
    }
}
