//! Hyperbolic functions and their inverses.

use std::f64::consts::LN_2;

use super::{exp, ln, ln_1p, polynomial};

/// 2^28: from here on, and below its inverse, the shortest form is exact.
const LARGE: f64 = (1_u64 << 28) as f64;

/// Source: Go 1.26 `math/sinh.go`, with the approximation 2029 of Hart and Cheney.
#[inline]
pub fn sinh(x: f64) -> f64 {
    const NUMERATOR: [f64; 4] = [
        -0.263_056_321_339_749_706_281_948_9e+2,
        -0.289_421_135_598_956_380_728_466_036_6e+4,
        -0.899_127_202_203_950_935_539_801_351_1e+5,
        -0.630_767_364_049_771_699_118_478_725_1e+6,
    ];
    const DENOMINATOR: [f64; 4] = [
        1.0,
        -0.173_678_953_558_233_699_533_450_911e+3,
        0.152_151_737_879_001_907_069_648_517_6e+5,
        -0.630_767_364_049_771_699_121_207_727_7e+6,
    ];
    let size = x.abs();
    let result = if size > 21.0 {
        exp(size) * 0.5
    } else if size > 0.5 {
        let power = exp(size);
        (power - 1.0 / power) * 0.5
    } else {
        let square = size * size;
        polynomial(square, NUMERATOR) * size / polynomial(square, DENOMINATOR)
    };
    result.copysign(x)
}

/// Source: Go 1.26 `math/sinh.go`.
#[inline]
pub fn cosh(x: f64) -> f64 {
    let power = exp(x.abs());
    if x.abs() > 21.0 { power * 0.5 } else { (power + 1.0 / power) * 0.5 }
}

/// Source: Go 1.26 `math/tanh.go`, after Cephes' `tanh.c`.
#[inline]
pub fn tanh(x: f64) -> f64 {
    /// Half of ln 2^127.
    const ONE_FROM: f64 = 0.5 * 8.802_969_193_111_305_429_598_8e+01;
    const NUMERATOR: [f64; 3] =
        [-9.643_991_794_250_522_386_28e-1, -9.928_772_310_019_185_865_64e1, -1.614_687_684_417_084_479_52e3];
    const DENOMINATOR: [f64; 4] =
        [1.0, 1.128_116_784_916_329_314_02e2, 2.235_488_390_601_004_485_83e3, 4.844_063_053_251_254_860_48e3];
    let size = x.abs();
    if size > ONE_FROM {
        1.0_f64.copysign(x)
    } else if size >= 0.625 {
        let result = 1.0 - 2.0 / (exp(2.0 * size) + 1.0);
        result.copysign(x)
    } else if x == 0.0 {
        x
    } else {
        let square = x * x;
        x + x * square * polynomial(square, NUMERATOR) / polynomial(square, DENOMINATOR)
    }
}

/// Source: Go 1.26 `math/asinh.go`, after FreeBSD's `s_asinh.c`.
#[inline]
pub fn asinh(x: f64) -> f64 {
    if !x.is_finite() {
        return x;
    }
    let size = x.abs();
    let result = if size > LARGE {
        ln(size) + LN_2
    } else if size > 2.0 {
        ln(2.0 * size + 1.0 / ((size * size + 1.0).sqrt() + size))
    } else if size < 1.0 / LARGE {
        size
    } else {
        ln_1p(size + size * size / (1.0 + (1.0 + size * size).sqrt()))
    };
    result.copysign(x)
}

/// NaN below 1.
///
/// Source: Go 1.26 `math/acosh.go`, after FreeBSD's `e_acosh.c`.
#[inline]
pub fn acosh(x: f64) -> f64 {
    if x.is_nan() || x < 1.0 {
        f64::NAN
    } else if x == 1.0 {
        0.0
    } else if x >= LARGE {
        ln(x) + LN_2
    } else if x > 2.0 {
        ln(2.0 * x - 1.0 / (x + (x * x - 1.0).sqrt()))
    } else {
        let less_one = x - 1.0;
        ln_1p(less_one + (2.0 * less_one + less_one * less_one).sqrt())
    }
}

/// NaN outside `[-1, 1]`.
///
/// Source: Go 1.26 `math/atanh.go`, after FreeBSD's `e_atanh.c`.
#[inline]
pub fn atanh(x: f64) -> f64 {
    let size = x.abs();
    if x.is_nan() || size > 1.0 {
        return f64::NAN;
    }
    if size == 1.0 {
        return f64::INFINITY.copysign(x);
    }
    let result = if size < 1.0 / LARGE {
        size
    } else if size < 0.5 {
        let double = size + size;
        0.5 * ln_1p(double + double * size / (1.0 - size))
    } else {
        0.5 * ln_1p((size + size) / (1.0 - size))
    };
    result.copysign(x)
}
