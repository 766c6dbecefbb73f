//! Sine, cosine, tangent.

use std::f64::consts::{FRAC_PI_4, PI};

use super::{EXPONENT_BIAS, FRACTION_BITS, polynomial};

const SINE: [f64; 6] = [
    f64::from_bits(0x3de5_d8fd_1fd1_9ccd),
    f64::from_bits(0xbe5a_e5e5_a929_1f5d),
    f64::from_bits(0x3ec7_1de3_567d_48a1),
    f64::from_bits(0xbf2a_01a0_19bf_df03),
    f64::from_bits(0x3f81_1111_1110_f7d0),
    f64::from_bits(0xbfc5_5555_5555_5548),
];
const COSINE: [f64; 6] = [
    f64::from_bits(0xbda8_fa49_a086_1a9b),
    f64::from_bits(0x3e21_ee9d_7b4e_3f05),
    f64::from_bits(0xbe92_7e4f_7eac_4bc6),
    f64::from_bits(0x3efa_01a0_19c8_44f5),
    f64::from_bits(0xbf56_c16c_16c1_4f91),
    f64::from_bits(0x3fa5_5555_5555_554b),
];

/// The sine of `x` radians.
///
/// Source: Go 1.26 `math/sin.go`, after Cephes' `sin.c`.
#[inline]
pub fn sin(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() {
        return x;
    }
    if x.is_infinite() {
        return f64::NAN;
    }
    let (octant, rest) = reduce(x.abs());
    let size = if octant & 3 == 2 { cosine_near_zero(rest) } else { sine_near_zero(rest) };
    if (x < 0.0) != (octant > 3) { -size } else { size }
}

/// The cosine of `x` radians.
///
/// Source: Go 1.26 `math/sin.go`.
#[inline]
pub fn cos(x: f64) -> f64 {
    if !x.is_finite() {
        return f64::NAN;
    }
    let (octant, rest) = reduce(x.abs());
    let size = if octant & 3 == 2 { sine_near_zero(rest) } else { cosine_near_zero(rest) };
    if octant == 2 || octant == 4 { -size } else { size }
}

/// The tangent of `x` radians.
///
/// Source: Go 1.26 `math/tan.go`, after Cephes' `tan.c`.
#[inline]
pub fn tan(x: f64) -> f64 {
    const NUMERATOR: [f64; 3] = [
        f64::from_bits(0xc0c9_92d8_d24f_3f38),
        f64::from_bits(0x4131_99ec_a5fc_9ddd),
        f64::from_bits(0xc171_1fea_d329_9176),
    ];
    const DENOMINATOR: [f64; 5] = [
        1.0,
        f64::from_bits(0x40ca_b8a5_eeb3_6572),
        f64::from_bits(0xc134_27bc_582a_bc96),
        f64::from_bits(0x4177_d98f_c2ea_d8ef),
        f64::from_bits(0xc189_afe0_3cbe_5a31),
    ];
    if x == 0.0 || x.is_nan() {
        return x;
    }
    if x.is_infinite() {
        return f64::NAN;
    }
    let (octant, rest) = reduce(x.abs());
    let square = rest * rest;
    let mut tangent = rest;
    if square > 1e-14 {
        tangent = rest + rest * (square * polynomial(square, NUMERATOR) / polynomial(square, DENOMINATOR));
    }
    if octant & 2 == 2 {
        tangent = -1.0 / tangent;
    }
    if x < 0.0 { -tangent } else { tangent }
}

#[inline(always)]
fn sine_near_zero(x: f64) -> f64 {
    let square = x * x;
    x + x * square * polynomial(square, SINE)
}

#[inline(always)]
fn cosine_near_zero(x: f64) -> f64 {
    let square = x * x;
    1.0 - 0.5 * square + square * square * polynomial(square, COSINE)
}

/// `x`, finite and not negative, as an even number of eighths of a turn (modulo 8) and a rest in about `[-π/4, π/4]`.
#[inline]
fn reduce(x: f64) -> (u64, f64) {
    /// π/4 in three parts.
    const PARTS: [f64; 3] = [
        f64::from_bits(0x3fe9_21fb_4000_0000),
        f64::from_bits(0x3e64_442d_0000_0000),
        f64::from_bits(0x3ce8_4698_98cc_5170),
    ];
    if x >= (1_u64 << 29) as f64 {
        return reduce_large(x);
    }
    let mut octant = (x * (4.0 / PI)) as u64;
    octant += octant & 1;
    let count = octant as f64;
    (octant & 7, ((x - count * PARTS[0]) - count * PARTS[1]) - count * PARTS[2])
}

/// Of large numbers, by Payne and Hanek: only the bits of 4/π that matter are multiplied.
///
/// Source: Go 1.26 `math/trig_reduce.go`.
fn reduce_large(x: f64) -> (u64, f64) {
    let exponent = (x.to_bits() >> 52) as i32 - EXPONENT_BIAS - 52;
    let mantissa = x.to_bits() & FRACTION_BITS | 1 << 52;
    let (digit, shift) = ((exponent + 61) as usize / 64, (exponent + 61) as u32 % 64);
    let word = |index: usize| {
        let (high, low) = (FOUR_OVER_PI[digit + index], FOUR_OVER_PI[digit + index + 1]);
        ((u128::from(high) << 64 | u128::from(low)) << shift >> 64) as u64
    };
    let product = |word: u64| u128::from(word) * u128::from(mantissa);
    // 128 bits of the product behind its multiples of eight; three bits of octant come first.
    let bits = (product(word(0)) << 64).wrapping_add(product(word(1))).wrapping_add(product(word(2)) >> 64);
    let octant = (bits >> 125) as u64;
    let (high, low) = ((bits << 3 >> 64) as u64, bits as u64);
    let zeros = high.leading_zeros();
    // The lower half is not shifted by three as the upper one is: so it is in Go.
    let fraction = (high << zeros << 1 | low >> (63 - zeros)) >> (64 - 52);
    let fraction = f64::from_bits(fraction | (EXPONENT_BIAS as u64 - u64::from(zeros + 1)) << 52);
    match octant & 1 {
        0 => (octant, fraction * FRAC_PI_4),
        _ => ((octant + 1) & 7, (fraction - 1.0) * FRAC_PI_4),
    }
}

/// The binary digits of 4/π, 64 to a word; the first word is what is before the point.
const FOUR_OVER_PI: [u64; 20] = [
    0x0000_0000_0000_0001,
    0x45f3_06dc_9c88_2a53,
    0xf84e_afa3_ea69_bb81,
    0xb6c5_2b32_7887_2083,
    0xfca2_c757_bd77_8ac3,
    0x6e48_dc74_849b_a5c0,
    0x0c92_5dd4_13a3_2439,
    0xfc3b_d639_6253_4e7d,
    0xd104_6bea_5d76_8909,
    0xd338_e04d_68be_fc82,
    0x7323_ac73_06a6_73e9,
    0x3908_bf17_7bf2_5076,
    0x3ff1_2fff_bc0b_301f,
    0xde5e_2316_b414_da3e,
    0xda6c_fd9e_4f96_136e,
    0x9e8c_7ecd_3cbf_d45a,
    0xea4f_758f_d7cb_e2f6,
    0x7a0e_73ef_14a5_25d4,
    0xd7f6_bf62_3f1a_ba10,
    0xac06_608d_f8f6_d757,
];
