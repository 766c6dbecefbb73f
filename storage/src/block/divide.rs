//! The split of a series' values into integers over one divisor, and the rest.
//!
//! Most metrics are decimals with few digits, or integers, but travel as doubles, which compress badly. A sample is
//! kept as an integer only where `integer as f64 / divisor` gives back its very bits: the integer stays below 2^53, so
//! it converts exactly, and the one IEEE division is checked. Everything else (NaN with its payload, infinities, -0.0,
//! doubles with a full mantissa) stays a double; the staleness marker is stored as neither.

use pilaster_model::is_stale;

/// What a value is divided by, as one byte of the index file: 0 to 15 is a power of ten, 64 + k is 2^-k.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Divisor(u8);

const POWERS_OF_TEN: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
/// The byte for "no integers at all".
const NONE: u8 = 255;
const HALVES: u8 = 64;
const EXACT: u64 = 1 << 53;

impl Divisor {
    /// From the byte in an index file; `None` for a series without integers.
    ///
    /// # Errors
    /// The outer `None` says that the byte means nothing.
    pub fn from_code(code: u8) -> Option<Option<Divisor>> {
        match code {
            NONE => Some(None),
            0..=15 => Some(Some(Divisor(code))),
            65..=116 => Some(Some(Divisor(code))),
            16..=HALVES | 117..NONE => None,
        }
    }

    pub fn code(divisor: Option<Divisor>) -> u8 {
        divisor.map_or(NONE, |divisor| divisor.0)
    }

    /// The number in the `value_div` column.
    pub fn value(self) -> f64 {
        if self.0 < HALVES {
            POWERS_OF_TEN[usize::from(self.0)]
        } else {
            // 2^-k: exponent field 1023 - k, no mantissa.
            f64::from_bits((1023 - u64::from(self.0 - HALVES)) << 52)
        }
    }

    /// The divisor with this value, where it is one of ours.
    pub fn from_value(value: f64) -> Option<Divisor> {
        (0..=15).chain(65..=116).map(Divisor).find(|divisor| divisor.value().to_bits() == value.to_bits())
    }
}

/// Where a sample's value went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Integer,
    Double,
    Stale,
}

/// A series' values, split. Reused from series to series.
#[derive(Debug, Default)]
pub struct Split {
    pub divisor: Option<Divisor>,
    /// In time order, without the samples that are doubles or stale.
    pub integers: Vec<i64>,
    /// In time order, without the samples that are integers or stale.
    pub doubles: Vec<f64>,
    /// One entry a sample; empty where all samples are of one kind.
    pub kinds: Vec<Kind>,
}

impl Split {
    /// Splits `values`. What comes out depends on nothing else.
    pub fn of(&mut self, values: &[f64]) {
        if !self.try_divisor(values, 0)
            && !decimals_to_try(values).into_iter().flatten().any(|k| self.try_divisor(values, k))
        {
            self.all_doubles(values);
        }
        if self.divisor == Some(Divisor(0)) {
            self.shift_out_common_zeros();
        }
        if self.kinds.iter().all(|&kind| kind == Kind::Integer) || self.kinds.iter().all(|&kind| kind == Kind::Double) {
            self.kinds.clear();
        }
    }

    fn clear(&mut self) {
        self.divisor = None;
        self.integers.clear();
        self.doubles.clear();
        self.kinds.clear();
    }

    fn all_doubles(&mut self, values: &[f64]) {
        self.clear();
        for &value in values {
            if is_stale(value) {
                self.kinds.push(Kind::Stale);
            } else {
                self.kinds.push(Kind::Double);
                self.doubles.push(value);
            }
        }
    }

    /// Splits by 10^k; false where too few samples become integers for that to pay.
    fn try_divisor(&mut self, values: &[f64], k: u8) -> bool {
        self.clear();
        let scale = POWERS_OF_TEN[usize::from(k)];
        self.integers.reserve(values.len());
        let mut exceptions_left = values.len() / 8;
        for (index, &value) in values.iter().enumerate() {
            let integer = if k == 0 { whole(value) } else { scaled(value, scale) };
            if let Some(integer) = integer {
                self.integers.push(integer);
                if !self.kinds.is_empty() {
                    self.kinds.push(Kind::Integer);
                }
                continue;
            }
            if self.kinds.is_empty() {
                self.kinds.resize(index, Kind::Integer);
            }
            if is_stale(value) {
                self.kinds.push(Kind::Stale);
                continue;
            }
            // A value that no divisor helps costs the same in every class; the others are a reason to look further.
            if value.is_finite() && value != 0.0 {
                if exceptions_left == 0 {
                    return false;
                }
                exceptions_left -= 1;
            }
            self.kinds.push(Kind::Double);
            self.doubles.push(value);
        }
        if self.integers.is_empty() || self.integers.len() < self.doubles.len() / 8 {
            return false;
        }
        self.divisor = Some(Divisor(k));
        true
    }

    /// Page-sized gauges share low zero bits: divide them away, exactly.
    fn shift_out_common_zeros(&mut self) {
        let all = self.integers.iter().fold(0, |all, &integer| all | integer);
        let zeros = if all == 0 { 0 } else { all.trailing_zeros() as u8 };
        if zeros > 0 {
            self.integers.iter_mut().for_each(|integer| *integer >>= zeros);
            self.divisor = Some(Divisor(HALVES + zeros));
        }
    }
}

/// The integer that is `value`, bit for bit.
#[inline]
fn whole(value: f64) -> Option<i64> {
    let integer = value as i64;
    ((integer as f64).to_bits() == value.to_bits() && integer.unsigned_abs() < EXACT).then_some(integer)
}

/// The integer that divided by `scale` is `value`, bit for bit.
#[inline]
fn scaled(value: f64, scale: f64) -> Option<i64> {
    // Adding and taking away 1.5 * 2^52 rounds to the nearest integer, for magnitudes below 2^51.
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    let rounded = (value * scale + MAGIC) - MAGIC;
    (rounded.abs() < (EXACT / 4) as f64 && (rounded / scale).to_bits() == value.to_bits()).then_some(rounded as i64)
}

/// Powers of ten worth trying, judged by a few samples of the series: the most digits seen, then the fewest that serve
/// most samples.
fn decimals_to_try(values: &[f64]) -> [Option<u8>; 2] {
    const LOOKED_AT: usize = 48;
    let mut needing = [0usize; 16];
    let (mut hopeless, mut seen) = (0, 0);
    // Not in step with decimals, of which regular ones would all look rounder than they are.
    let step = (values.len() / LOOKED_AT..).find(|step| step % 2 != 0 && step % 5 != 0).unwrap_or(1);
    for &value in values.iter().step_by(step).filter(|value| value.is_finite()) {
        seen += 1;
        match (0..16).find(|&k| if k == 0 { whole(value) } else { scaled(value, POWERS_OF_TEN[k]) }.is_some()) {
            Some(k) => needing[k] += 1,
            None => hopeless += 1,
        }
    }
    if seen == 0 || hopeless > seen / 4 {
        return [None, None];
    }
    let most = (1..16).rev().find(|&k| needing[k] > 0);
    let mut served = 0;
    let enough = (0..16).find(|&k| {
        served += needing[k];
        served >= seen - seen / 8
    });
    let enough = enough.filter(|&k| k > 0 && Some(k) != most);
    [most.map(|k| k as u8), enough.map(|k| k as u8)]
}

/// Appends the values of `integers` over `divisor`.
pub fn push_quotients(integers: &[i64], divisor: Divisor, out: &mut Vec<f64>) {
    let divisor = divisor.value();
    if divisor == 1.0 {
        push_converted(integers, |value| value, out);
    } else if divisor < 1.0 {
        // A power of two: the product is exact, as the quotient is, and cheaper.
        let unit = 1.0 / divisor;
        push_converted(integers, |value| value * unit, out);
    } else {
        push_converted(integers, |value| value / divisor, out);
    }
}

/// Appends what `of` makes of every integer, as a double.
#[inline(always)]
fn push_converted(integers: &[i64], of: impl Fn(f64) -> f64, out: &mut Vec<f64>) {
    const SMALL: i64 = 1 << 51;
    /// 1.5 times 2^52: the doubles from 2^52 to 2^53 are the integers there, and differ by one in their last bit.
    const OFFSET: f64 = (3_i64 << 51) as f64;
    if integers.iter().fold(0, |all, &integer| all | (integer.wrapping_add(SMALL) as u64)) < 2 * SMALL as u64 {
        // Vector instructions know no conversion from 64 bits, but can add and take away.
        let converted = |&integer: &i64| f64::from_bits(OFFSET.to_bits().wrapping_add(integer as u64)) - OFFSET;
        out.extend(integers.iter().map(|integer| of(converted(integer))));
    } else {
        out.extend(integers.iter().map(|&integer| of(integer as f64)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pilaster_model::stale_nan;
    use proptest::prelude::*;

    /// The slow twin: puts the values together again.
    fn joined(split: &Split, len: usize) -> Vec<u64> {
        let (mut integers, mut doubles) = (split.integers.iter(), split.doubles.iter());
        let uniform = if split.integers.is_empty() { Kind::Double } else { Kind::Integer };
        (0..len)
            .map(|index| match split.kinds.get(index).copied().unwrap_or(uniform) {
                Kind::Integer => (*integers.next().unwrap() as f64 / split.divisor.unwrap().value()).to_bits(),
                Kind::Double => doubles.next().unwrap().to_bits(),
                Kind::Stale => stale_nan().to_bits(),
            })
            .collect()
    }

    fn check(values: &[f64]) -> Split {
        let mut split = Split::default();
        split.of(values);
        assert_eq!(joined(&split, values.len()), values.iter().map(|value| value.to_bits()).collect::<Vec<_>>());
        assert!(split.integers.iter().all(|integer| integer.unsigned_abs() < EXACT));
        split
    }

    #[test]
    fn classes_are_as_expected() {
        let class = |values: &[f64]| {
            let split = check(values);
            (split.divisor.map(Divisor::value), split.integers.clone(), split.doubles.len())
        };
        assert_eq!(class(&[1.0, 3.0, -5.0]), (Some(1.0), vec![1, 3, -5], 0));
        assert_eq!(class(&[4096.0, 8192.0, 0.0]), (Some(1.0 / 4096.0), vec![1, 2, 0], 0));
        assert_eq!(class(&[0.25, 1.5, 3.0]), (Some(100.0), vec![25, 150, 300], 0));
        assert_eq!(class(&[0.1 + 0.2]), (None, vec![], 1));
        let clock: Vec<f64> = (0..1440).map(|nth| f64::from(nth) / 100.0).collect();
        assert_eq!(class(&clock), (Some(100.0), (0..1440).collect(), 0));
        assert_eq!(class(&[-0.0]), (None, vec![], 1));
        assert_eq!(class(&[9_007_199_254_740_993.0]).0, None);
        assert_eq!(class(&[1.0, f64::NAN, 2.0, stale_nan()]), (Some(1.0), vec![1, 2], 1));
        assert_eq!(class(&[stale_nan()]), (None, vec![], 0));
        assert_eq!(class(&[f64::INFINITY, f64::NEG_INFINITY]), (None, vec![], 2));
    }

    #[test]
    fn every_divisor_has_a_code() {
        for code in 0..=255 {
            if let Some(Some(divisor)) = Divisor::from_code(code) {
                assert_eq!(Divisor::from_value(divisor.value()), Some(divisor));
                assert_eq!(Divisor::code(Some(divisor)), code);
            }
        }
        assert_eq!(Divisor::from_value(3.0), None);
    }

    proptest! {
        #[test]
        fn any_bits_survive(bits in prop::collection::vec(any::<u64>(), 0..80)) {
            check(&bits.into_iter().map(f64::from_bits).collect::<Vec<_>>());
        }

        #[test]
        fn decimals_with_oddities_survive(
            numbers in prop::collection::vec(any::<i64>(), 1..80), shift in 11..63u32, k in 0..16usize, odd in any::<u64>(), at in 0..80usize,
        ) {
            let mut values: Vec<f64> = numbers.iter().map(|n| (n >> shift) as f64 / POWERS_OF_TEN[k]).collect();
            check(&values);
            let at = at % values.len();
            values[at] = f64::from_bits(odd);
            check(&values);
        }
    }

    proptest! {
        #[test]
        fn quotients_are_those_of_one_integer_at_a_time(
            integers in prop::collection::vec(any::<i64>(), 0..100), shift in 0..64u32, code in 0..=15u8
        ) {
            let integers: Vec<i64> = integers.iter().map(|integer| integer >> shift).collect();
            for code in [code, 65 + code] {
                let divisor = Divisor::from_code(code).unwrap().unwrap();
                let mut quotients = vec![0.5];
                push_quotients(&integers, divisor, &mut quotients);
                let slowly = integers.iter().map(|&integer| (integer as f64 / divisor.value()).to_bits());
                prop_assert!(quotients[1..].iter().map(|value| value.to_bits()).eq(slowly));
            }
        }
    }

    #[test]
    fn the_widest_integers_convert() {
        let edges = [1_i64 << 51, (1 << 51) - 1, -(1 << 51), -(1 << 51) - 1, 0, -1, (1 << 53) - 1, 1 - (1 << 53)];
        for edge in edges {
            let mut out = Vec::new();
            push_quotients(&[edge, 1], Divisor::from_code(0).unwrap().unwrap(), &mut out);
            assert_eq!(out, [edge as f64, 1.0]);
        }
    }
}
