//! Logarithms.

use std::f64::consts::{FRAC_1_SQRT_2, LOG2_E, LOG10_E};

use super::{EXPONENT_BIAS, FRACTION_BITS, LN_2_HIGH, LN_2_LOW, polynomial, split};

/// Of `ln(1+f) = 2s + s^3 …` with `s = f / (2+f)`: the terms of odd powers of `s^2`, and those of even ones.
const ODD: [f64; 4] = [
    f64::from_bits(0x3fc2_f112_df3e_5244),
    f64::from_bits(0x3fc7_4664_96cb_03de),
    f64::from_bits(0x3fd2_4924_9422_9359),
    f64::from_bits(0x3fe5_5555_5555_5593),
];
const EVEN: [f64; 3] = [
    f64::from_bits(0x3fc3_9a09_d078_c69f),
    f64::from_bits(0x3fcc_71c5_1d8e_78af),
    f64::from_bits(0x3fd9_9999_9997_fa04),
];

/// Natural logarithm; of a subnormal number that of its fraction with the smallest exponent, as in Go.
///
/// Source: Go 1.26 `math/log_amd64.s`, after FreeBSD's `e_log.c`.
#[inline]
pub fn ln(x: f64) -> f64 {
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    if x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    if x == f64::INFINITY {
        return x;
    }
    // The assembly takes exponent and fraction from the bits as they are: a subnormal number has a fraction without its
    // leading one there, which it reads as if it had one.
    let bits = x.to_bits();
    let mut fraction = f64::from_bits(bits & FRACTION_BITS | 0.5_f64.to_bits());
    let mut exponent = f64::from((bits >> 52) as i32 - (EXPONENT_BIAS - 1));
    if fraction <= FRAC_1_SQRT_2 {
        fraction *= 2.0;
        exponent -= 1.0;
    }
    let less_one = fraction - 1.0;
    let s = less_one / (2.0 + less_one);
    let square = s * s;
    let fourth = square * square;
    let series = square * polynomial(fourth, ODD) + fourth * polynomial(fourth, EVEN);
    let half_square = 0.5 * less_one * less_one;
    exponent * LN_2_HIGH - ((half_square - (s * (half_square + series) + exponent * LN_2_LOW)) - less_one)
}

/// Logarithm to base 10.
///
/// Source: Go 1.26 `math/log10.go`.
#[inline]
pub fn log10(x: f64) -> f64 {
    ln(x) * LOG10_E
}

/// Logarithm to base 2, exact for powers of two.
///
/// Source: Go 1.26 `math/log10.go`.
#[inline]
pub fn log2(x: f64) -> f64 {
    let (fraction, exponent) = split(x);
    if fraction == 0.5 {
        return f64::from(exponent - 1);
    }
    ln(fraction) * LOG2_E + f64::from(exponent)
}

/// `ln(1 + x)`, precise for small `x`.
///
/// Source: Go 1.26 `math/log1p.go`, after FreeBSD's `s_log1p.c`.
pub fn ln_1p(x: f64) -> f64 {
    const SQRT_2_LESS_1: f64 = f64::from_bits(0x3fda_8279_99fc_ef32);
    const SQRT_HALF_LESS_1: f64 = f64::from_bits(0xbfd2_bec3_3301_8867);
    const TWO_53: f64 = (1_u64 << 53) as f64;
    /// Bits of the fraction of the square root of two.
    const SQRT_2_FRACTION: u64 = 0x0006_a09e_667f_3bcd;
    const SERIES: [f64; 7] = [ODD[0], EVEN[0], ODD[1], EVEN[1], ODD[2], EVEN[2], ODD[3]];
    if x.is_nan() || x < -1.0 {
        return f64::NAN;
    }
    if x == -1.0 {
        return f64::NEG_INFINITY;
    }
    if x == f64::INFINITY {
        return x;
    }
    let size = x.abs();
    if size < 1.0 / (1_u64 << 29) as f64 {
        return if size < 1.0 / (1_u64 << 54) as f64 { x } else { x - x * x * 0.5 };
    }
    // 1 + x = 2^exponent (1 + f) with f between sqrt(1/2) - 1 and sqrt(2) - 1; `lost` is what rounding 1 + x left out.
    let (exponent, f, lost, tiny) = if size < SQRT_2_LESS_1 && x > SQRT_HALF_LESS_1 {
        (0.0, x, 0.0, false)
    } else {
        let sum = if size < TWO_53 { 1.0 + x } else { x };
        let bits = sum.to_bits();
        let exponent = (bits >> 52) as i32 - EXPONENT_BIAS;
        let lost = if size >= TWO_53 {
            0.0
        } else if exponent > 0 {
            (1.0 - (sum - x)) / sum
        } else {
            (x - (sum - 1.0)) / sum
        };
        let fraction = bits & FRACTION_BITS;
        let (exponent, normal, rest) = if fraction < SQRT_2_FRACTION {
            (exponent, f64::from_bits(fraction | 1.0_f64.to_bits()), fraction)
        } else {
            (exponent + 1, f64::from_bits(fraction | 0.5_f64.to_bits()), ((1 << 52) - fraction) >> 2)
        };
        (f64::from(exponent), normal - 1.0, lost, rest == 0)
    };
    let half_square = 0.5 * f * f;
    if tiny {
        if f == 0.0 {
            return if exponent == 0.0 { 0.0 } else { exponent * LN_2_HIGH + (lost + exponent * LN_2_LOW) };
        }
        let series = half_square * (1.0 - 0.666_666_666_666_666_66 * f);
        return match exponent == 0.0 {
            true => f - series,
            false => exponent * LN_2_HIGH - ((series - (exponent * LN_2_LOW + lost)) - f),
        };
    }
    let s = f / (2.0 + f);
    let square = s * s;
    let series = square * polynomial(square, SERIES);
    if exponent == 0.0 {
        return f - (half_square - s * (half_square + series));
    }
    exponent * LN_2_HIGH - ((half_square - (s * (half_square + series) + (exponent * LN_2_LOW + lost))) - f)
}
