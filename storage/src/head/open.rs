//! The newest samples of a series: packed as they come, one by one, until a chunk is made of them.
//!
//! ```text
//! first   timestamp 8 bytes, value 8 bytes, digits 1 byte
//! then    control: distance code << 6 | value code; distance; value
//!   distance to the timestamp before  0 the same as the last one   1, 2 change of it in so many bytes   3 in 8 bytes
//!   value  0 the one before   1..=4 change as an integer with the current digits, in so many bytes
//!          5 digits 1 byte, then such a change in 8 bytes   8.. bytes that differ from the one before, see `SHAPES`
//! ```
//!
//! Like [`super::chunk`] it keeps every bit.

mod read;

use crate::decimal::{MOST_DIGITS, is_decimal, scaled, unscaled};

pub use read::read;

/// Most bytes of one sample.
const LONGEST: usize = 1 + 8 + 9;

const SAME_STEP: u8 = 0;
const STEP_TAKES_EIGHT: u8 = 3;

const SAME_VALUE: u8 = 0;
const WIDEST_CHANGE: u8 = 4;
const NEW_DIGITS: u8 = 5;
const FIRST_SHAPE: u8 = 8;

/// Values are not decimals: they are kept by the bytes that differ.
const NO_DIGITS: u8 = MOST_DIGITS + 1;

/// Leading zero bytes of a difference, and how many bytes follow.
const SHAPES: [(u8, u8); 36] = {
    let mut shapes = [(0, 0); 36];
    let (mut index, mut leading) = (0, 0);
    while leading < 8 {
        let mut len = 1;
        while len <= 8 - leading {
            shapes[index] = (leading, len);
            index += 1;
            len += 1;
        }
        leading += 1;
    }
    shapes
};

/// Where the shapes with so many leading zero bytes begin.
const SHAPES_FROM: [u8; 8] = [0, 8, 15, 21, 26, 30, 33, 35];

/// What the next sample is packed against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    pub last_ms: i64,
    pub last_bits: u64,
    /// The last distance between timestamps; 0 where it is wider than that.
    pub step_ms: u32,
    pub digits: u8,
}

/// One packed sample.
#[derive(Debug)]
pub struct Packed {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Packed {
    fn new() -> Packed {
        Packed { bytes: [0; LONGEST], len: 0 }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The first sample of a run. `digits` is what the run before had.
pub fn first(timestamp_ms: i64, bits: u64, digits: Option<u8>) -> (Packed, State) {
    let digits = digits.unwrap_or(NO_DIGITS);
    let mut packed = Packed::new();
    packed.push(&timestamp_ms.to_le_bytes());
    packed.push(&bits.to_le_bytes());
    packed.push(&[digits]);
    (packed, State { last_ms: timestamp_ms, last_bits: bits, step_ms: 0, digits })
}

impl State {
    /// The next sample; `timestamp_ms` is behind the last one.
    pub fn next(&mut self, timestamp_ms: i64, bits: u64) -> Packed {
        let mut packed = Packed::new();
        packed.push(&[0]);
        let distance = timestamp_ms.wrapping_sub(self.last_ms);
        let change = distance.wrapping_sub(i64::from(self.step_ms));
        let step_code = if change == 0 {
            SAME_STEP
        } else if let Ok(change) = i8::try_from(change) {
            packed.push(&change.to_le_bytes());
            1
        } else if let Ok(change) = i16::try_from(change) {
            packed.push(&change.to_le_bytes());
            2
        } else {
            packed.push(&distance.to_le_bytes());
            STEP_TAKES_EIGHT
        };
        self.step_ms = u32::try_from(distance).unwrap_or(0);
        let value_code = self.value(bits, &mut packed);
        packed.bytes[0] = step_code << 6 | value_code;
        self.last_ms = timestamp_ms;
        self.last_bits = bits;
        packed
    }

    fn value(&mut self, bits: u64, packed: &mut Packed) -> u8 {
        if bits == self.last_bits {
            return SAME_VALUE;
        }
        let (last, value) = (f64::from_bits(self.last_bits), f64::from_bits(bits));
        if self.digits < NO_DIGITS {
            let from = scaled(last, self.digits);
            let change = scaled(value, self.digits).wrapping_sub(from);
            if let Ok(change) = i32::try_from(change)
                && unscaled(from.wrapping_add(i64::from(change)), self.digits).to_bits() == bits
            {
                // One bit more than the number has, for its sign.
                let len = (40 - (change ^ (change >> 31)).leading_zeros() as usize) / 8;
                packed.push(&change.to_le_bytes()[..len]);
                return len as u8;
            }
            if value.is_finite() && !is_decimal(value, self.digits) && value.to_bits() != (-0.0f64).to_bits() {
                let both = |digits: &u8| is_decimal(value, *digits) && is_decimal(last, *digits);
                match (self.digits + 1..=MOST_DIGITS).find(both) {
                    Some(digits) => {
                        self.digits = digits;
                        let change = scaled(value, digits).wrapping_sub(scaled(last, digits));
                        packed.push(&[digits]);
                        packed.push(&change.to_le_bytes());
                        return NEW_DIGITS;
                    }
                    None => self.digits = NO_DIGITS,
                }
            }
        }
        let xor = bits ^ self.last_bits;
        let leading = xor.leading_zeros() as usize / 8;
        let len = 8 - leading - xor.trailing_zeros() as usize / 8;
        packed.push(&xor.to_be_bytes()[leading..leading + len]);
        FIRST_SHAPE + SHAPES_FROM[leading] + len as u8 - 1
    }
}

#[cfg(test)]
mod tests {
    use pilaster_model::Columns;
    use proptest::prelude::*;

    use super::*;

    fn check(samples: &[(i64, f64)]) -> usize {
        let mut bytes = Vec::new();
        let (packed, mut state) = first(samples[0].0, samples[0].1.to_bits(), Some(0));
        bytes.extend_from_slice(packed.as_slice());
        for &(timestamp_ms, value) in &samples[1..] {
            bytes.extend_from_slice(state.next(timestamp_ms, value.to_bits()).as_slice());
        }
        let mut out = Columns::default();
        read(&bytes, samples.len(), i64::MIN, i64::MAX, &mut out);
        let (timestamps, values): (Vec<i64>, Vec<u64>) =
            samples.iter().map(|(ms, value)| (ms, value.to_bits())).unzip();
        assert_eq!(out.timestamps, timestamps);
        assert_eq!(out.values.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), values);
        let middle_ms = timestamps[samples.len() / 2];
        out.clear();
        read(&bytes, samples.len(), i64::MIN, middle_ms, &mut out);
        assert_eq!(out.timestamps, timestamps[..=samples.len() / 2]);
        let tail = &values[samples.len() / 2..];
        out.clear();
        read(&bytes, samples.len(), middle_ms, i64::MAX, &mut out);
        assert!(out.values.iter().map(|value| value.to_bits()).eq(tail.iter().copied()));
        bytes.len()
    }

    proptest! {
        #[test]
        fn any_samples_come_back(
            samples in prop::collection::btree_map(any::<i64>(), any::<u64>().prop_map(f64::from_bits), 1..100)
        ) {
            check(&samples.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn mixtures_of_digits_come_back(
            samples in prop::collection::vec((1..40_000i64, -1_000_000i64..1_000_000, 0..9usize), 1..100)
        ) {
            let mut timestamp_ms = 0;
            let samples: Vec<_> = samples.into_iter().map(|(step, value, kind)| {
                timestamp_ms += step;
                let divisor = [1.0, 10.0, 100.0, 1e4, 1e9, 3.0, 1.0, 1e-12, f64::INFINITY][kind];
                (timestamp_ms, value as f64 / divisor)
            }).collect();
            check(&samples);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), count in 0..255usize) {
            let mut columns = Columns::default();
            read(&bytes, count, i64::MIN, i64::MAX, &mut columns);
            let mut slowly = Columns::default();
            read::slowly(&bytes, count, i64::MAX, &mut slowly);
            prop_assert_eq!(&columns.timestamps, &slowly.timestamps);
            let bits = |columns: &Columns| columns.values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&columns), bits(&slowly));
        }
    }

    #[test]
    fn shapes_are_found_where_they_stand() {
        for (index, &(leading, len)) in SHAPES.iter().enumerate() {
            assert_eq!(usize::from(SHAPES_FROM[usize::from(leading)] + len - 1), index);
        }
    }

    #[test]
    fn common_samples_take_one_or_two_bytes() {
        let steps = |value: fn(i64) -> f64| (0..64i64).map(move |n| (n * 15_000, value(n))).collect::<Vec<_>>();
        assert_eq!(check(&steps(|_| 7.5)), 17 + 3 + 62);
        assert!(check(&steps(|n| (n * 90) as f64)) <= 17 + 2 * 63 + 2);
        assert!(check(&steps(|n| (n * 31 % 101) as f64 / 100.0)) <= 17 + 2 * 63 + 20);
        assert!(check(&steps(|n| (n as f64).sin())) <= 17 + 9 * 63 + 10);
        check(&[(i64::MIN, 0.0), (0, -0.0), (1, pilaster_model::stale_nan()), (i64::MAX, f64::NAN)]);
        for change in [127.0, 128.0, -128.0, -129.0, 32_767.0, 32_768.0, -8_388_609.0, 2_147_483_647.0, 2_147_483_648.0]
        {
            check(&[(0, 0.0), (1, change), (2, 0.0)]);
        }
    }
}
