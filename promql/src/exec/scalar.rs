//! Scalar arguments: known before a plan is built, one value for all steps or one per step.

use std::sync::Arc;

use crate::kernels::{Operand, Param};

/// The value of a scalar expression.
#[derive(Debug, Clone)]
pub(crate) enum Scalar {
    Const(f64),
    /// One value per step of the node that uses it.
    PerStep(Arc<[f64]>),
}

impl Scalar {
    /// A value per step, or one where all are the same bits.
    pub fn from_steps(values: Vec<f64>) -> Scalar {
        match values.first() {
            Some(first) if values.iter().all(|value| value.to_bits() == first.to_bits()) => Scalar::Const(*first),
            _ => Scalar::PerStep(values.into()),
        }
    }

    pub fn at(&self, step: usize) -> f64 {
        match self {
            Scalar::Const(value) => *value,
            Scalar::PerStep(values) => values[step],
        }
    }

    pub fn param(&self) -> Param<'_> {
        match self {
            Scalar::Const(value) => Param::Const(*value),
            Scalar::PerStep(values) => Param::PerStep(values),
        }
    }

    /// As one side of an operator over a row.
    pub fn operand(&self) -> Operand<'_> {
        match self {
            Scalar::Const(value) => Operand::Scalar(*value),
            Scalar::PerStep(values) => Operand::Cells(values),
        }
    }

    pub fn as_const(&self) -> Option<f64> {
        match self {
            Scalar::Const(value) => Some(*value),
            Scalar::PerStep(_) => None,
        }
    }

    /// All values over `count` steps.
    pub fn values(&self, count: usize) -> impl Iterator<Item = f64> + '_ {
        (0..count).map(|step| self.at(step))
    }

    /// The distinct values over `count` steps, in order of appearance; few for all that people write.
    pub fn distinct(&self, count: usize) -> Vec<f64> {
        let mut distinct: Vec<f64> = Vec::new();
        match self {
            Scalar::Const(value) if count > 0 => distinct.push(*value),
            Scalar::Const(_) => {}
            Scalar::PerStep(values) => {
                for value in values.iter() {
                    if distinct.last().is_none_or(|last| last.to_bits() != value.to_bits()) {
                        distinct.push(*value);
                    }
                }
            }
        }
        distinct
    }

    /// Combines two scalars step by step.
    pub fn zip(&self, other: &Scalar, count: usize, combine: impl Fn(f64, f64) -> f64) -> Scalar {
        match (self, other) {
            (Scalar::Const(a), Scalar::Const(b)) => Scalar::Const(combine(*a, *b)),
            (a, b) => Scalar::PerStep((0..count).map(|step| combine(a.at(step), b.at(step))).collect()),
        }
    }

    /// For EXPLAIN.
    pub fn describe(&self) -> String {
        match self {
            Scalar::Const(value) => crate::kernels::format_float(*value),
            Scalar::PerStep(values) => format!("[{} values]", values.len()),
        }
    }
}
