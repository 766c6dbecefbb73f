//! Values as integers over a power of ten, where that keeps every bit.

/// Digits behind the point that values may have to be kept as integers.
pub const MOST_DIGITS: u8 = 9;
const POWERS: [f64; MOST_DIGITS as usize + 1] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// Integers of this size and below are exact in a double.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The nearest integer to `value` with its point moved.
pub fn scaled(value: f64, digits: u8) -> i64 {
    let moved = value * POWERS[usize::from(digits)];
    (moved + 0.5f64.copysign(moved)) as i64
}

pub fn unscaled(integer: i64, digits: u8) -> f64 {
    if digits == 0 { integer as f64 } else { integer as f64 / POWERS[usize::from(digits).min(POWERS.len() - 1)] }
}

/// Whether `value` comes back bit for bit when so many digits behind the point are kept.
pub fn is_decimal(value: f64, digits: u8) -> bool {
    let integer = scaled(value, digits);
    (integer as f64).abs() <= EXACT && unscaled(integer, digits).to_bits() == value.to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_as_a_decimal_comes_back() {
        for (value, digits) in [(0.25, 2), (-17.5, 1), (0.1, 1), (1e15, 0), (1e-9, 9), (123_456.789, 3)] {
            assert!(is_decimal(value, digits), "{value}");
            assert!(digits == 0 || !is_decimal(value, digits - 1), "{value}");
        }
        for value in [-0.0, f64::NAN, f64::INFINITY, 1.0 / 3.0, 1e300, 5e-324] {
            assert!(!(0..=MOST_DIGITS).any(|digits| is_decimal(value, digits)), "{value}");
        }
    }
}
