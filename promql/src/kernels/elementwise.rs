//! Functions of one value: mathematics, rounding, clamping, calendar.

use pilaster_model::go_math;

use super::date;
use super::range::Param;
use super::vectorized::{has_avx2, vectorized};

/// Functions of an instant vector that map each float to a float.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnaryFunction {
    Abs,
    Ceil,
    Floor,
    Exp,
    Ln,
    Log2,
    Log10,
    Sqrt,
    Sgn,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    Asinh,
    Acosh,
    Atanh,
    Deg,
    Rad,
    /// Unary minus.
    Neg,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    DaysInMonth,
    Hour,
    Minute,
    Month,
    Year,
}

impl UnaryFunction {
    /// By its PromQL name; `None` for any other function.
    pub fn from_name(name: &str) -> Option<UnaryFunction> {
        use UnaryFunction::*;
        Some(match name {
            "abs" => Abs,
            "ceil" => Ceil,
            "floor" => Floor,
            "exp" => Exp,
            "ln" => Ln,
            "log2" => Log2,
            "log10" => Log10,
            "sqrt" => Sqrt,
            "sgn" => Sgn,
            "sin" => Sin,
            "cos" => Cos,
            "tan" => Tan,
            "asin" => Asin,
            "acos" => Acos,
            "atan" => Atan,
            "sinh" => Sinh,
            "cosh" => Cosh,
            "tanh" => Tanh,
            "asinh" => Asinh,
            "acosh" => Acosh,
            "atanh" => Atanh,
            "deg" => Deg,
            "rad" => Rad,
            "day_of_month" => DayOfMonth,
            "day_of_week" => DayOfWeek,
            "day_of_year" => DayOfYear,
            "days_in_month" => DaysInMonth,
            "hour" => Hour,
            "minute" => Minute,
            "month" => Month,
            "year" => Year,
            _ => return None,
        })
    }
}

/// Applies `function` to every cell; validity stays what it was.
///
/// Calendar functions take seconds since the epoch, UTC.
pub fn unary(function: UnaryFunction, values: &[f64], out: &mut [f64]) {
    out.copy_from_slice(values);
    unary_in_place(function, out);
}

/// Like [`unary`], over its own input.
pub fn unary_in_place(function: UnaryFunction, values: &mut [f64]) {
    use UnaryFunction::*;
    match function {
        Abs => map(values, f64::abs),
        // With AVX2 both are one instruction.
        Ceil if has_avx2() => map(values, f64::ceil),
        Ceil => map(values, |v| -floor(-v)),
        Floor if has_avx2() => map(values, f64::floor),
        Floor => map(values, floor),
        Exp => map(values, go_math::exp),
        Ln => map(values, go_math::ln),
        Log2 => map(values, go_math::log2),
        Log10 => map(values, go_math::log10),
        Sqrt => map(values, f64::sqrt),
        Sgn => map(values, sign),
        Sin => map(values, go_math::sin),
        Cos => map(values, go_math::cos),
        Tan => map(values, go_math::tan),
        Asin => map(values, go_math::asin),
        Acos => map(values, go_math::acos),
        Atan => map(values, go_math::atan),
        Sinh => map(values, go_math::sinh),
        Cosh => map(values, go_math::cosh),
        Tanh => map(values, go_math::tanh),
        Asinh => map(values, go_math::asinh),
        Acosh => map(values, go_math::acosh),
        Atanh => map(values, go_math::atanh),
        Deg => map(values, |v| v * 180.0 / std::f64::consts::PI),
        Rad => map(values, |v| v * std::f64::consts::PI / 180.0),
        Neg => map(values, |v| -v),
        DayOfMonth => map(values, date::day_of_month),
        DayOfWeek => map(values, date::day_of_week),
        DayOfYear => map(values, date::day_of_year),
        DaysInMonth => map(values, date::days_in_month),
        Hour => map(values, date::hour),
        Minute => map(values, date::minute),
        Month => map(values, date::month),
        Year => map(values, date::year),
    }
}

#[inline(always)]
fn map(values: &mut [f64], of: impl Fn(f64) -> f64) {
    vectorized(
        #[inline(always)]
        || {
            for value in values {
                *value = of(*value);
            }
        },
    );
}

#[inline(always)]
fn sign(value: f64) -> f64 {
    if value < 0.0 {
        -1.0
    } else if value > 0.0 {
        1.0
    } else {
        value
    }
}

/// Largest integer not above `value`, signed zero kept. Written without a branch or a call, so that loops over it
/// vectorise on every x86-64: the library's `floor` is a function call there.
#[inline(always)]
fn floor(value: f64) -> f64 {
    const TWO_52: f64 = (1_u64 << 52) as f64;
    // Adding and taking away 2^52 rounds to an integer; from 2^52 on there is no fraction to round.
    let rounded = ((value.abs() + TWO_52) - TWO_52).copysign(value);
    let floored = (rounded - if rounded > value { 1.0 } else { 0.0 }).copysign(value);
    if value.abs() < TWO_52 { floored } else { value }
}

/// Rounds to the nearest multiple of `to_nearest`, ties up.
///
/// Source: `funcRound`, Prometheus 3.14 `promql/functions.go`.
pub fn round(values: &mut [f64], to_nearest: Param) {
    let rounded = |value: f64, inverse: f64| floor(value * inverse + 0.5) / inverse;
    match to_nearest {
        Param::Const(to_nearest) => {
            let inverse = 1.0 / to_nearest;
            map(values, |value| rounded(value, inverse));
        }
        Param::PerStep(to_nearest) => {
            for (value, to_nearest) in values.iter_mut().zip(to_nearest) {
                *value = rounded(*value, 1.0 / to_nearest);
            }
        }
    }
}

/// Limits values to `[min, max]`; at steps where `min > max` the cell becomes invalid, where either is NaN it is NaN.
///
/// `clamp_min` and `clamp_max` pass an infinity for the bound they do not have.
pub fn clamp(values: &mut [f64], valid: &mut [bool], min: Param, max: Param) {
    for (step, (value, valid)) in values.iter_mut().zip(valid).enumerate() {
        let (min, max) = (min.at(step), max.at(step));
        *valid &= max >= min || max.is_nan() || min.is_nan();
        *value = if *valid { go_max(min, go_min(max, *value)) } else { 0.0 };
    }
}

/// The larger of two values by Go's rules: +Inf wins over NaN, NaN over the rest, +0 over -0.
#[inline(always)]
pub fn go_max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 && b == 0.0 {
        if a.is_sign_negative() { b } else { a }
    } else if a > b {
        a
    } else {
        b
    }
}

/// The smaller of two values by Go's rules: -Inf wins over NaN, NaN over the rest, -0 over +0.
#[inline(always)]
pub fn go_min(a: f64, b: f64) -> f64 {
    -go_max(-a, -b)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(function: UnaryFunction, value: f64, expected: f64) {
        let mut out = [0.0];
        unary(function, &[value], &mut out);
        let same = if expected.is_nan() { out[0].is_nan() } else { out[0].to_bits() == expected.to_bits() };
        assert!(same, "{function:?}({value}) = {}", out[0]);
    }

    #[test]
    fn edges_of_simple_functions() {
        check(UnaryFunction::Sgn, -0.0, -0.0);
        check(UnaryFunction::Sgn, -7.0, -1.0);
        check(UnaryFunction::Sgn, f64::NAN, f64::NAN);
        check(UnaryFunction::Ceil, -0.4, -0.0);
        check(UnaryFunction::Floor, -0.4, -1.0);
        check(UnaryFunction::Ln, 0.0, f64::NEG_INFINITY);
        check(UnaryFunction::Sqrt, -1.0, f64::NAN);
        check(UnaryFunction::Deg, std::f64::consts::PI, 180.0);
        check(UnaryFunction::Neg, 0.0, -0.0);
    }

    proptest! {
        #[test]
        fn floor_and_ceil_are_the_library_s(value in any::<f64>(), small in -1e6_f64..1e6, whole in -1000_i32..1000) {
            for value in [value, small, f64::from(whole), f64::from(whole) + 0.5] {
                prop_assert_eq!(floor(value).to_bits() == value.floor().to_bits() || value.is_nan(), true, "{}", value);
                prop_assert_eq!((-floor(-value)).to_bits() == value.ceil().to_bits() || value.is_nan(), true, "{}", value);
            }
        }
    }

    #[test]
    fn rounding_ties_go_up() {
        let mut values = [2.5, -2.5, 0.04, 7.0];
        round(&mut values, Param::Const(1.0));
        assert_eq!(values, [3.0, -2.0, 0.0, 7.0]);
        let mut values = [7.4, 7.4];
        round(&mut values, Param::PerStep(&[5.0, 0.5]));
        assert_eq!(values, [5.0, 7.5]);
    }

    #[test]
    fn clamping_follows_go() {
        let (mut values, mut valid) = ([5.0, -5.0, f64::NAN, 1.0, 1.0], [true; 5]);
        clamp(&mut values, &mut valid, Param::PerStep(&[0.0, 0.0, 0.0, 3.0, f64::NAN]), Param::Const(2.0));
        assert_eq!(valid, [true, true, true, false, true]);
        assert_eq!(values[..2], [2.0, 0.0]);
        assert!(values[2].is_nan() && values[4].is_nan());
        assert_eq!(go_max(f64::NAN, f64::INFINITY), f64::INFINITY);
        assert!(go_min(f64::NAN, f64::INFINITY).is_nan());
        assert!(go_max(-0.0, 0.0).is_sign_positive() && go_min(0.0, -0.0).is_sign_negative());
    }
}
