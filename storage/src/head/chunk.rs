//! A run of samples of one series, packed.
//!
//! ```text
//! first timestamp   zigzag varint: distance from the first of the chunk before, or from 0
//! count             1 byte
//! length of body    varint
//! body: distances between timestamps, as a list of numbers; class, 1 byte; values
//!   Constant   8 bytes
//!   Integers   a list of numbers: each value is one of them over a power of ten
//!   Changes    the first such integer as a zigzag varint, then distances from each to the next as a list of numbers
//!   Xor        per value: bytes that differ from the one before (leading zero bytes << 4 | count), then those
//! ```
//!
//! Every class is bit-exact: values count as decimals only when each one comes back with the same bits.

use pilaster_model::Columns;

use super::numbers::{put_list, put_varint, take_byte, take_list, take_u64, take_varint, unzigzag, zigzag};
use crate::decimal::{MOST_DIGITS, is_decimal, scaled, unscaled};

/// A chunk holds no more samples.
pub const FULL: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Constant,
    /// With so many digits behind the point.
    Integers(u8),
    Changes(u8),
    Xor,
}

impl Class {
    fn encode(self) -> u8 {
        match self {
            Class::Constant => 0,
            Class::Integers(digits) => 0x10 | digits,
            Class::Changes(digits) => 0x20 | digits,
            Class::Xor => 0x30,
        }
    }

    fn decode(byte: u8) -> Class {
        match byte >> 4 {
            0 => Class::Constant,
            1 => Class::Integers(byte & 15),
            2 => Class::Changes(byte & 15),
            _ => Class::Xor,
        }
    }
}

/// Where a chunk stands in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub first_ms: i64,
    pub count: usize,
    /// The body is `[body, end)`; the next chunk begins at its end.
    pub body: usize,
    pub end: usize,
}

/// The chunk at `at`, when the one before it begins at `before_ms`; 0 for the first.
pub fn place(bytes: &[u8], at: usize, before_ms: i64) -> Option<Place> {
    let mut rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
    let first_ms = before_ms.wrapping_add(unzigzag(take_varint(&mut rest)));
    let count = usize::from(take_byte(&mut rest));
    let len = take_varint(&mut rest) as usize;
    let body = bytes.len() - rest.len();
    Some(Place { first_ms, count, body, end: body + len })
}

/// The bytes in front of a body.
pub fn put_head(first_ms: i64, before_ms: i64, count: usize, body_bytes: usize, out: &mut Vec<u8>) {
    put_varint(zigzag(first_ms.wrapping_sub(before_ms)), out);
    out.push(count as u8);
    put_varint(body_bytes as u64, out);
}

/// Appends the body of a chunk with these samples: at least one and no more than [`FULL`], strictly ascending in time.
/// Returns the digits that the values have behind the point, `None` where they are not decimals.
pub fn put_body(timestamps: &[i64], values: &[f64], out: &mut Vec<u8>) -> Option<u8> {
    let mut numbers = [0i64; FULL];
    put_list(distances(timestamps.iter().copied(), &mut numbers), out);
    let first = values.first().map_or(0, |value| value.to_bits());
    if values.iter().all(|value| value.to_bits() == first) {
        out.push(Class::Constant.encode());
        out.extend_from_slice(&first.to_le_bytes());
        return digits(&values[..1]);
    }
    let Some(digits) = digits(values) else {
        out.push(Class::Xor.encode());
        put_xor(values, out);
        return None;
    };
    let mut integers = [0i64; FULL];
    for (integer, &value) in integers.iter_mut().zip(values) {
        *integer = scaled(value, digits);
    }
    let integers = &integers[..values.len()];
    let changes = distances(integers.iter().copied(), &mut numbers);
    // What jumps about has changes twice as wide as its values.
    if spread(integers) <= spread(changes) / 2 {
        out.push(Class::Integers(digits).encode());
        put_list(integers, out);
    } else {
        out.push(Class::Changes(digits).encode());
        put_varint(zigzag(integers[0]), out);
        put_list(changes, out);
    }
    Some(digits)
}

/// The distance from each number to the next.
fn distances(numbers: impl Iterator<Item = i64> + Clone, out: &mut [i64; FULL]) -> &[i64] {
    let mut count = 0;
    for ((place, number), next) in out.iter_mut().zip(numbers.clone()).zip(numbers.skip(1)) {
        *place = next.wrapping_sub(number);
        count += 1;
    }
    &out[..count]
}

fn spread(numbers: &[i64]) -> u64 {
    let (least, most) = numbers.iter().fold((i64::MAX, i64::MIN), |(least, most), &n| (least.min(n), most.max(n)));
    if least > most { 0 } else { most.abs_diff(least) }
}

/// Appends all samples of the chunk at `place`.
pub fn read(bytes: &[u8], place: &Place, out: &mut Columns) {
    let Some(mut body) = bytes.get(place.body..place.end) else { return };
    let count = place.count;
    out.timestamps.reserve(count);
    let mut last_ms = place.first_ms;
    out.timestamps.push(last_ms);
    take_list(&mut body, count - 1, |distance| {
        last_ms = last_ms.wrapping_add(distance);
        out.timestamps.push(last_ms);
    });
    let values = &mut out.values;
    values.reserve(count);
    match Class::decode(take_byte(&mut body)) {
        Class::Constant => values.extend(std::iter::repeat_n(f64::from_bits(take_u64(&mut body)), count)),
        Class::Integers(digits) => {
            take_list(&mut body, count, |integer| values.push(unscaled(integer, digits)));
        }
        Class::Changes(digits) => {
            let mut integer = unzigzag(take_varint(&mut body));
            values.push(unscaled(integer, digits));
            take_list(&mut body, count - 1, |change| {
                integer = integer.wrapping_add(change);
                values.push(unscaled(integer, digits));
            });
        }
        Class::Xor => take_xor(&mut body, count, values),
    }
}

/// So many digits behind the point that nothing is lost by keeping them only.
fn digits(values: &[f64]) -> Option<u8> {
    let mut digits = 0;
    for &value in values {
        // What comes back with some digits does so with more, as long as the integers are exact: checked below.
        while !is_decimal(value, digits) {
            if digits == MOST_DIGITS {
                return None;
            }
            digits += 1;
        }
    }
    values.iter().all(|&value| is_decimal(value, digits)).then_some(digits)
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
        let control = take_byte(bytes);
        let (leading, len) = (usize::from(control >> 4), usize::from(control & 15));
        let Some((changed, rest)) = bytes.split_at_checked(len) else { return };
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

    fn check(samples: &[(i64, f64)]) -> usize {
        let (timestamps, values): (Vec<i64>, Vec<f64>) = samples.iter().copied().unzip();
        let mut body = Vec::new();
        put_body(&timestamps, &values, &mut body);
        let mut bytes = vec![9; 5];
        put_head(timestamps[0], 77, values.len(), body.len(), &mut bytes);
        bytes.extend_from_slice(&body);
        let place = place(&bytes, 5, 77).unwrap();
        assert_eq!((place.first_ms, place.count, place.end), (timestamps[0], values.len(), bytes.len()));
        let mut back = Columns::default();
        read(&bytes, &place, &mut back);
        assert_eq!(back.timestamps, timestamps);
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back.values), bits(&values));
        assert!(back.starts_ms.is_empty());
        bytes.len() - 5
    }

    proptest! {
        #[test]
        fn what_is_sealed_comes_back_bit_for_bit(
            samples in prop::collection::btree_map(any::<i64>(), any::<u64>().prop_map(f64::from_bits), 1..=FULL)
        ) {
            check(&samples.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn integers_come_back(
            samples in prop::collection::btree_map(any::<i64>(), (-1i64 << 54..1 << 54).prop_map(|v| v as f64), 1..=FULL)
        ) {
            check(&samples.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn decimals_come_back(
            samples in prop::collection::btree_map(any::<i64>(), -1_000_000i64..1_000_000, 1..=FULL), divisor in 0..8usize
        ) {
            let divisor = [1.0, 10.0, 100.0, 1000.0, 10_000.0, 1e9, 8.0, 3.0][divisor];
            let samples: Vec<_> = samples.into_iter().map(|(ms, value)| (ms, value as f64 / divisor)).collect();
            check(&samples);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), count in 1..=255usize) {
            let place = Place { first_ms: 0, count, body: 0, end: bytes.len() };
            read(&bytes, &place, &mut Columns::default());
        }
    }

    #[test]
    fn staleness_markers_and_negative_zero_come_back() {
        check(&[(1, 0.0), (2, -0.0), (3, pilaster_model::stale_nan()), (4, f64::NAN), (5, f64::INFINITY)]);
        check(&[(1, pilaster_model::stale_nan())]);
        check(&[(1, 0.1), (2, -0.0), (3, 0.3), (4, -2.5), (5, 1e300), (6, 5e-324)]);
        let decimals: Vec<f64> = (0..128).map(|step| f64::from(step * 7 % 101) * 0.01).collect();
        assert_eq!(digits(&decimals), None, "a product with 0.01 is not always the decimal it looks like");
        assert_eq!(digits(&[0.25, -17.5, 3.0]), Some(2));
        assert_eq!(digits(&[0.000_000_001, 9e15]), None);
    }

    #[test]
    fn what_repeats_takes_little_room() {
        let steps = |step: i64| (0..FULL as i64).map(move |index| (index * step, 3.0)).collect::<Vec<_>>();
        for step in [1, 15_000, i64::MAX / 100] {
            assert!(check(&steps(step)) <= 25);
        }
        let counter: Vec<_> = (0..FULL as i64).map(|index| (index * 15_000, (1000 + index * 25) as f64)).collect();
        assert!(check(&counter) <= 14, "{}", check(&counter));
        let mut late = counter.clone();
        late[30].0 += 20;
        assert!(check(&late) <= 22, "{}", check(&late));
        let noisy: Vec<_> = counter.iter().map(|&(ms, value)| (ms, value + (ms / 15_000 * 37 % 16) as f64)).collect();
        assert!(check(&noisy) <= 60, "{}", check(&noisy));
        check(&[(i64::MIN, 1.0), (0, 2.0), (i64::MAX, 3.0)]);
        check(&[(i64::MIN, 1.0), (-1, 2.0), (i64::MAX - 1, 3.0)]);
    }
}
