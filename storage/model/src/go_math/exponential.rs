//! Powers of e and of two.

use std::f64::consts::LOG2_E;

use super::{LN_2_HIGH, LN_2_LOW, polynomial, scale};

/// e to the power of `x`.
///
/// Source: Go 1.26 `math/exp_amd64.s`, after Shibata, "Efficient evaluation methods of elementary functions suitable for
/// SIMD computation" (2010).
#[inline]
pub fn exp(x: f64) -> f64 {
    const LN_2_UPPER: f64 = 0.693_147_180_559_662_956_511_601_805_686_950_683_593_75;
    const LN_2_LOWER: f64 = 0.282_352_905_630_315_771_225_884_481_750_134_360_255_254_120_68e-12;
    /// 1/8!, 1/7!, … 1/2!, 1.
    const TAYLOR: [f64; 8] = [
        2.480_158_730_158_730_158_7e-5,
        1.984_126_984_126_984_127_0e-4,
        1.388_888_888_888_888_888_9e-3,
        8.333_333_333_333_333_333_3e-3,
        4.166_666_666_666_666_666_7e-2,
        1.666_666_666_666_666_666_7e-1,
        0.5,
        1.0,
    ];
    if x.is_nan() {
        return x;
    }
    if x > 7.097_827_128_933_84e2 {
        return f64::INFINITY;
    }
    // Below -2^31 the power of two saturates, and the result is zero all the same.
    let power = (x * LOG2_E).round_ties_even().max(-2_147_483_648.0);
    let exponent = power as i32;
    if exponent < -1075 {
        return 0.0;
    }
    // e^x = 2^power * (e^(rest/16))^16.
    let rest = power.mul_add(-LN_2_LOWER, power.mul_add(-LN_2_UPPER, x)) * 0.0625;
    let mut sum = TAYLOR[0];
    for coefficient in &TAYLOR[1..] {
        sum = sum.mul_add(rest, *coefficient);
    }
    // Of y = e^r - 1, y (y + 2) is e^2r - 1.
    let mut less_one = rest * sum;
    for _ in 0..3 {
        less_one *= less_one + 2.0;
    }
    let fraction = (less_one + 2.0).mul_add(less_one, 1.0);
    power_of_two_times(fraction, exponent)
}

/// `fraction * 2^exponent` in two roundings where the result is subnormal.
#[inline]
fn power_of_two_times(fraction: f64, exponent: i32) -> f64 {
    let bits = |biased: i32| f64::from_bits((biased as u64) << 52);
    match exponent + 1023 {
        2047.. => f64::INFINITY,
        biased @ 1..2047 => fraction * bits(biased),
        biased @ -52..1 => fraction * bits(biased + 1022) * bits(1),
        ..-52 => 0.0,
    }
}

/// Two to the power of `x`.
///
/// Source: Go 1.26 `math/exp.go` (`exp2`), after FreeBSD's `e_exp.c`.
#[inline]
pub fn exp2(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x > 1.023_999_999_999_999_9e3 {
        return f64::INFINITY;
    }
    if x < -1.074e3 {
        return 0.0;
    }
    // Towards zero after adding a half: the nearest integer.
    let exponent = if x > 0.0 { (x + 0.5) as i32 } else { (x - 0.5) as i32 };
    let rest = x - f64::from(exponent);
    reduced(rest * LN_2_HIGH, -rest * LN_2_LOW, exponent)
}

/// `e^(high - low) * 2^exponent` for a difference of at most ln 2 / 2.
#[inline]
fn reduced(high: f64, low: f64, exponent: i32) -> f64 {
    const REMES: [f64; 5] = [
        f64::from_bits(0x3e66_3769_72be_a4d0),
        f64::from_bits(0xbebb_bd41_c5d2_6bf1),
        f64::from_bits(0x3f11_566a_af25_de2c),
        f64::from_bits(0xbf66_c16c_16be_bd93),
        f64::from_bits(0x3fc5_5555_5555_5555),
    ];
    let rest = high - low;
    let square = rest * rest;
    let correction = rest - square * polynomial(square, REMES);
    let fraction = 1.0 - ((low - (rest * correction) / (2.0 - correction)) - high);
    scale(fraction, exponent)
}
