//! Arcus functions.

use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI};

use super::polynomial;

/// The angle between -π/2 and π/2 whose tangent is `x`.
///
/// Source: Go 1.26 `math/atan.go`, after Cephes' `atan.c`.
#[inline]
pub fn atan(x: f64) -> f64 {
    if x > 0.0 {
        atan_positive(x)
    } else if x == 0.0 {
        x
    } else {
        -atan_positive(-x)
    }
}

/// The angle between -π/2 and π/2 whose sine is `x`; NaN outside `[-1, 1]`.
///
/// Source: Go 1.26 `math/asin.go`.
#[inline]
pub fn asin(x: f64) -> f64 {
    if x == 0.0 {
        return x;
    }
    let size = x.abs();
    if size > 1.0 {
        return f64::NAN;
    }
    let cosine = (1.0 - size * size).sqrt();
    let angle = if size > 0.7 { FRAC_PI_2 - atan_positive(cosine / size) } else { atan_positive(size / cosine) };
    if x < 0.0 { -angle } else { angle }
}

/// The angle between 0 and π whose cosine is `x`; NaN outside `[-1, 1]`.
#[inline]
pub fn acos(x: f64) -> f64 {
    FRAC_PI_2 - asin(x)
}

/// The angle of the point `(x, y)` between -π and π.
///
/// Source: Go 1.26 `math/atan2.go`.
#[inline]
pub fn atan2(y: f64, x: f64) -> f64 {
    if x.is_nan() || y.is_nan() {
        return f64::NAN;
    }
    let size = match (x, y) {
        (x, 0.0) => {
            if x.is_sign_negative() {
                PI
            } else {
                0.0
            }
        }
        (0.0, _) => FRAC_PI_2,
        (f64::INFINITY, _) => {
            if y.is_infinite() {
                FRAC_PI_4
            } else {
                0.0
            }
        }
        (f64::NEG_INFINITY, _) => {
            if y.is_infinite() {
                3.0 * FRAC_PI_4
            } else {
                PI
            }
        }
        (_, f64::INFINITY | f64::NEG_INFINITY) => FRAC_PI_2,
        _ => {
            let angle = atan(y / x);
            return if x > 0.0 {
                angle
            } else if angle <= 0.0 {
                angle + PI
            } else {
                angle - PI
            };
        }
    };
    size.copysign(y)
}

#[inline]
fn atan_positive(x: f64) -> f64 {
    /// What the double nearest to π/2 lacks.
    const PI_2_REST: f64 = 6.123_233_995_736_765_886_130e-17;
    const TAN_3_PI_8: f64 = 2.414_213_562_373_095_048_80;
    if x <= 0.66 {
        atan_near_zero(x)
    } else if x > TAN_3_PI_8 {
        FRAC_PI_2 - atan_near_zero(1.0 / x) + PI_2_REST
    } else {
        FRAC_PI_4 + atan_near_zero((x - 1.0) / (x + 1.0)) + 0.5 * PI_2_REST
    }
}

/// In `[0, 0.66]`.
#[inline(always)]
fn atan_near_zero(x: f64) -> f64 {
    const NUMERATOR: [f64; 5] = [
        -8.750_608_600_031_904_122_785e-01,
        -1.615_753_718_733_365_076_637e+01,
        -7.500_855_792_314_704_667_340e+01,
        -1.228_866_684_490_136_173_410e+02,
        -6.485_021_904_942_025_371_773e+01,
    ];
    const DENOMINATOR: [f64; 6] = [
        1.0,
        2.485_846_490_142_306_297_962e+01,
        1.650_270_098_316_988_542_046e+02,
        4.328_810_604_912_902_668_951e+02,
        4.853_903_996_359_136_964_868e+02,
        1.945_506_571_482_613_964_425e+02,
    ];
    let square = x * x;
    x * (square * polynomial(square, NUMERATOR) / polynomial(square, DENOMINATOR)) + x
}
