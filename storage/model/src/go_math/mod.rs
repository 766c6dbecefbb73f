//! Elementary functions with the last digit that Go's `math` gives on amd64.
//!
//! No library rounds every result correctly, so two of them differ in the last bit of about every tenth logarithm or
//! sine. Answers are compared with Prometheus's to the last bit, and so these functions take the same steps in the same
//! order: the published methods of FreeBSD's msun (logarithms, `exp2`), of Cephes (`sin`, `tan`, `atan`, `tanh`), of
//! Hart and Cheney (`sinh`) and of SLEEF (`exp`). Where Go has an assembly version on amd64, that one counts, with the
//! fused multiply-add of every processor since 2013.
//!
//! What IEEE 754 rounds correctly (`+ - * /`, `sqrt`, `%`, `floor`) needs nothing here.
//!
//! NaN comes out where NaN went in or where the function has no value; which NaN is not promised.

// Coefficients stand as they were published, so that they can be found again.
#![allow(clippy::excessive_precision)]

mod exponential;
mod hyperbolic;
mod inverse;
mod logarithm;
mod power;
mod trigonometric;

#[cfg(test)]
mod tests;

pub use exponential::{exp, exp2};
pub use hyperbolic::{acosh, asinh, atanh, cosh, sinh, tanh};
pub use inverse::{acos, asin, atan, atan2};
pub use logarithm::{ln, ln_1p, log2, log10};
pub use power::pow;
pub use trigonometric::{cos, sin, tan};

const FRACTION_BITS: u64 = (1 << 52) - 1;
const EXPONENT_BIAS: i32 = 1023;
/// ln 2 in two parts; a product of the first with an exponent is exact.
const LN_2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
const LN_2_LOW: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);

/// `c[0] x^n + … + c[n]` by Horner's rule.
#[inline(always)]
fn polynomial<const N: usize>(x: f64, coefficients: [f64; N]) -> f64 {
    let mut sum = coefficients[0];
    for coefficient in &coefficients[1..] {
        sum = sum * x + coefficient;
    }
    sum
}

/// A fraction in `[0.5, 1)`, signed like `value`, and an exponent of two whose product is `value`.
///
/// Zero, infinities and NaN come back as they are, with exponent 0.
#[inline]
fn split(value: f64) -> (f64, i32) {
    if value == 0.0 || !value.is_finite() {
        return (value, 0);
    }
    let (normal, shift) =
        if value.abs() < f64::MIN_POSITIVE { (value * (1_u64 << 52) as f64, -52) } else { (value, 0) };
    let bits = normal.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i32 - (EXPONENT_BIAS - 1) + shift;
    (f64::from_bits(bits & !(0x7ff << 52) | (EXPONENT_BIAS as u64 - 1) << 52), exponent)
}

/// `fraction * 2^exponent`, rounded once.
#[inline]
fn scale(fraction: f64, exponent: i32) -> f64 {
    if fraction == 0.0 || !fraction.is_finite() {
        return fraction;
    }
    let (normal, own) = split(fraction);
    // Of a number in [1, 2).
    let exponent = own.saturating_add(exponent).saturating_sub(1);
    let (exponent, last) = match exponent {
        ..-1075 => return 0.0_f64.copysign(fraction),
        -1075..-1022 => (exponent + 53, 1.0 / (1_u64 << 53) as f64),
        -1022..1024 => (exponent, 1.0),
        1024.. => return f64::INFINITY.copysign(fraction),
    };
    let bits = normal.to_bits() & !(0x7ff << 52) | ((exponent + EXPONENT_BIAS) as u64) << 52;
    last * f64::from_bits(bits)
}
