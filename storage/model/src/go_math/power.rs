//! Powers.

use super::{exp, ln, scale, split};

/// `x` to the power of `y`.
///
/// Source: Go 1.26 `math/pow.go`: the whole part of the exponent by repeated squaring of the fraction, the rest by
/// `exp` and `ln`.
pub fn pow(x: f64, y: f64) -> f64 {
    if let Some(value) = without_squaring(x, y) {
        return value;
    }
    let size = y.abs();
    let (mut whole, mut part) = (size.trunc(), size - size.trunc());
    if part != 0.0 && x < 0.0 {
        return f64::NAN;
    }
    if whole >= (1_u64 << 63) as f64 {
        // So large a power is even; anything but one overflows or vanishes.
        return match x == -1.0 {
            true => 1.0,
            false => limit(x, y),
        };
    }
    let mut fraction = 1.0;
    if part != 0.0 {
        if part > 0.5 {
            part -= 1.0;
            whole += 1.0;
        }
        fraction = exp(part * ln(x));
    }
    let mut exponent = 0;
    let (mut square, mut square_exponent) = split(x);
    let mut bits = whole as u64;
    while bits != 0 {
        if !(-(1 << 12)..=1 << 12).contains(&square_exponent) {
            // Far outside the range of doubles: the sum of what is known so far decides.
            exponent += square_exponent;
            break;
        }
        if bits & 1 == 1 {
            fraction *= square;
            exponent += square_exponent;
        }
        square *= square;
        square_exponent <<= 1;
        if square < 0.5 {
            square += square;
            square_exponent -= 1;
        }
        bits >>= 1;
    }
    if y < 0.0 {
        fraction = 1.0 / fraction;
        exponent = -exponent;
    }
    scale(fraction, exponent)
}

/// The cases that need no arithmetic, or a square root only.
#[inline]
fn without_squaring(x: f64, y: f64) -> Option<f64> {
    let odd = || y.abs() < (1_u64 << 53) as f64 && y % 2.0 != 0.0 && y.trunc() == y;
    Some(if y == 0.0 || x == 1.0 {
        1.0
    } else if y == 1.0 {
        x
    } else if x.is_nan() || y.is_nan() {
        f64::NAN
    } else if x == 0.0 {
        let size = if y < 0.0 { f64::INFINITY } else { 0.0 };
        if x.is_sign_negative() && odd() { -size } else { size }
    } else if y.is_infinite() {
        if x == -1.0 { 1.0 } else { limit(x, y) }
    } else if x.is_infinite() {
        let size = if y < 0.0 { 0.0 } else { f64::INFINITY };
        if x < 0.0 && odd() { -size } else { size }
    } else if y == 0.5 {
        x.sqrt()
    } else if y == -0.5 {
        1.0 / x.sqrt()
    } else {
        return None;
    })
}

/// What `x^y` tends to as `y` grows in its direction; `x` is neither 1 nor -1.
#[inline]
fn limit(x: f64, y: f64) -> f64 {
    if (x.abs() < 1.0) == (y > 0.0) { 0.0 } else { f64::INFINITY }
}
