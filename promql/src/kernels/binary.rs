//! Binary operators over the cells of two rows, or of a row and a scalar.

use pilaster_model::go_math;

use super::vectorized::vectorized;
use crate::ast::BinaryOp;

/// One side of an operator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Operand<'a> {
    Cells(&'a [f64]),
    Scalar(f64),
}

/// `left op right` for each cell; invalid cells are computed too, validity is the caller's ([`and_valid`]).
///
/// `op` is one of `+ - * / % ^ atan2`; any other is a broken plan.
pub fn arithmetic(op: BinaryOp, left: Operand, right: Operand, out: &mut [f64]) {
    match op {
        BinaryOp::Add => zip(left, right, out, |l, r| l + r),
        BinaryOp::Sub => zip(left, right, out, |l, r| l - r),
        BinaryOp::Mul => zip(left, right, out, |l, r| l * r),
        BinaryOp::Div => zip(left, right, out, |l, r| l / r),
        BinaryOp::Mod => zip(left, right, out, |l, r| l % r),
        BinaryOp::Pow => zip(left, right, out, go_math::pow),
        BinaryOp::Atan2 => zip(left, right, out, go_math::atan2),
        other => unreachable!("{other:?} is not arithmetic"),
    }
}

/// Whether each cell passes `left op right`.
///
/// `op` is one of `== != > < >= <=`; any other is a broken plan.
pub fn compare(op: BinaryOp, left: Operand, right: Operand, keep: &mut [bool]) {
    compare_to(op, left, right, keep, |passes| passes);
}

/// Like [`compare`] with `bool`: 1 where the cell passes, else 0.
pub fn compare_bool(op: BinaryOp, left: Operand, right: Operand, out: &mut [f64]) {
    compare_to(op, left, right, out, |passes| f64::from(u8::from(passes)));
}

/// `left op right` of two scalars; comparisons give 1 or 0.
pub fn scalar(op: BinaryOp, left: f64, right: f64) -> f64 {
    let mut out = [0.0];
    if op.is_comparison() {
        compare_bool(op, Operand::Scalar(left), Operand::Scalar(right), &mut out);
    } else {
        arithmetic(op, Operand::Scalar(left), Operand::Scalar(right), &mut out);
    }
    out[0]
}

/// Where both sides have a cell.
pub fn and_valid(a: &[bool], b: &[bool], out: &mut [bool]) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = a & b;
    }
}

#[inline(always)]
fn compare_to<T>(op: BinaryOp, left: Operand, right: Operand, out: &mut [T], result: impl Fn(bool) -> T + Copy) {
    match op {
        BinaryOp::Eq => zip(left, right, out, |l, r| result(l == r)),
        BinaryOp::Ne => zip(left, right, out, |l, r| result(l != r)),
        BinaryOp::Gt => zip(left, right, out, |l, r| result(l > r)),
        BinaryOp::Lt => zip(left, right, out, |l, r| result(l < r)),
        BinaryOp::Ge => zip(left, right, out, |l, r| result(l >= r)),
        BinaryOp::Le => zip(left, right, out, |l, r| result(l <= r)),
        other => unreachable!("{other:?} is not a comparison"),
    }
}

#[inline(always)]
fn zip<T>(left: Operand, right: Operand, out: &mut [T], of: impl Fn(f64, f64) -> T) {
    match (left, right) {
        (Operand::Cells(left), Operand::Cells(right)) => vectorized(
            #[inline(always)]
            || {
                for ((out, &l), &r) in out.iter_mut().zip(left).zip(right) {
                    *out = of(l, r);
                }
            },
        ),
        (Operand::Cells(left), Operand::Scalar(r)) => vectorized(
            #[inline(always)]
            || {
                for (out, &l) in out.iter_mut().zip(left) {
                    *out = of(l, r);
                }
            },
        ),
        (Operand::Scalar(l), Operand::Cells(right)) => vectorized(
            #[inline(always)]
            || {
                for (out, &r) in out.iter_mut().zip(right) {
                    *out = of(l, r);
                }
            },
        ),
        (Operand::Scalar(l), Operand::Scalar(r)) => {
            for out in out {
                *out = of(l, r);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_has_go_s_meaning() {
        let check = |op, left, right, expected: f64| {
            let result = scalar(op, left, right);
            assert!(
                result.to_bits() == expected.to_bits() || result.is_nan() && expected.is_nan(),
                "{left} {op:?} {right} = {result}"
            );
        };
        check(BinaryOp::Mod, -5.0, 3.0, -2.0);
        check(BinaryOp::Mod, 5.0, -3.0, 2.0);
        check(BinaryOp::Mod, 5.0, 0.0, f64::NAN);
        check(BinaryOp::Mod, 5.0, f64::INFINITY, 5.0);
        check(BinaryOp::Mod, f64::INFINITY, 5.0, f64::NAN);
        check(BinaryOp::Pow, 0.0, 0.0, 1.0);
        check(BinaryOp::Pow, f64::NAN, 0.0, 1.0);
        check(BinaryOp::Pow, -1.0, f64::INFINITY, 1.0);
        check(BinaryOp::Pow, -8.0, 1.0 / 3.0, f64::NAN);
        check(BinaryOp::Atan2, 0.0, -1.0, std::f64::consts::PI);
        check(BinaryOp::Div, 1.0, -0.0, f64::NEG_INFINITY);
        check(BinaryOp::Ne, f64::NAN, f64::NAN, 1.0);
        check(BinaryOp::Ge, f64::NAN, f64::NAN, 0.0);
    }

    #[test]
    fn scalars_stand_for_every_cell() {
        let cells = Operand::Cells(&[1.0, 2.0, 3.0]);
        let mut out = [0.0; 3];
        arithmetic(BinaryOp::Sub, Operand::Scalar(10.0), cells, &mut out);
        assert_eq!(out, [9.0, 8.0, 7.0]);
        arithmetic(BinaryOp::Mul, cells, cells, &mut out);
        assert_eq!(out, [1.0, 4.0, 9.0]);
        let mut keep = [false; 3];
        compare(BinaryOp::Gt, cells, Operand::Scalar(1.5), &mut keep);
        assert_eq!(keep, [false, true, true]);
        let mut both = [true; 3];
        and_valid(&keep, &[true, true, false], &mut both);
        assert_eq!(both, [false, true, false]);
    }
}
