//! From what a selector says about time to the milliseconds it reads: durations, `offset` and `@`.

use crate::ast::{At, BinaryOp, Duration, DurationExpr, DurationExprKind, Modifiers};
use crate::error::QueryError;
use crate::grid::Steps;
use crate::kernels::{RangeGrid, go_max, go_min};

/// What the query as a whole was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueryRange {
    pub start_ms: i64,
    pub end_ms: i64,
    /// 0 in an instant query.
    pub step_ms: i64,
}

/// `offset` and `@`, resolved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pin {
    pub offset_ms: i64,
    pub at_ms: Option<i64>,
}

impl Pin {
    /// Windows of `width_ms` as seen from `steps`.
    pub fn grid(&self, steps: Steps, width_ms: i64) -> RangeGrid {
        let (end_ms, step_ms) = match self.at_ms {
            Some(at_ms) => (at_ms, 0),
            None => (steps.start_ms, steps.step_ms),
        };
        RangeGrid { first_end_ms: end_ms.saturating_sub(self.offset_ms), step_ms, steps: steps.count, width_ms }
    }
}

impl QueryRange {
    fn length_ms(&self) -> i64 {
        self.end_ms.saturating_sub(self.start_ms)
    }

    /// `step()`, in seconds.
    pub fn step_seconds(&self) -> f64 {
        if self.length_ms() == 0 { 0.0 } else { self.step_ms as f64 / 1000.0 }
    }

    /// `range()`, in seconds.
    pub fn range_seconds(&self) -> f64 {
        self.length_ms() as f64 / 1000.0
    }

    pub fn pin(&self, modifiers: &Modifiers) -> Result<Pin, QueryError> {
        let offset_ms = match &modifiers.offset {
            None => 0,
            Some(offset) => self.duration_ms(offset, true)?,
        };
        let at_ms = modifiers.at.map(|at| match at {
            At::Timestamp(at_ms) => at_ms,
            At::Start => self.start_ms,
            At::End => self.end_ms,
        });
        Ok(Pin { offset_ms, at_ms })
    }

    /// A duration in milliseconds; only offsets may be zero or negative.
    pub fn duration_ms(&self, duration: &Duration, is_offset: bool) -> Result<i64, QueryError> {
        let expr = match duration {
            Duration::Literal(ms) => return Ok(*ms),
            Duration::Expr(expr) => expr,
        };
        let seconds = self.seconds(expr)?;
        let refuse = |text: &str| Err(refused(expr, text));
        if !seconds.is_finite() {
            return refuse("duration is NaN or infinite");
        }
        if seconds <= 0.0 && !is_offset {
            return refuse("duration must be greater than 0");
        }
        // Prometheus holds durations as nanoseconds in 63 bits.
        if seconds.abs() > i64::MAX as f64 / 1e9 {
            return refuse("duration is out of range");
        }
        Ok((seconds * 1000.0) as i64)
    }

    fn seconds(&self, expr: &DurationExpr) -> Result<f64, QueryError> {
        Ok(match &expr.kind {
            DurationExprKind::Number(seconds) | DurationExprKind::Literal(seconds) => *seconds,
            DurationExprKind::Step => self.step_ms as f64 / 1000.0,
            DurationExprKind::Range => self.range_seconds(),
            DurationExprKind::Negate(inner) => -self.seconds(inner)?,
            DurationExprKind::Paren(inner) => self.seconds(inner)?,
            DurationExprKind::Min(a, b) => go_min(self.seconds(a)?, self.seconds(b)?),
            DurationExprKind::Max(a, b) => go_max(self.seconds(a)?, self.seconds(b)?),
            DurationExprKind::Binary { op, left, right } => {
                let (left, right) = (self.seconds(left)?, self.seconds(right)?);
                match op {
                    BinaryOp::Div if right == 0.0 => return Err(refused(expr, "division by zero")),
                    BinaryOp::Mod if right == 0.0 => return Err(refused(expr, "modulo by zero")),
                    op => crate::kernels::scalar(*op, left, right),
                }
            }
        })
    }
}

/// Byte offsets, not line and column: so does Prometheus here.
fn refused(expr: &DurationExpr, text: &str) -> QueryError {
    QueryError::BadData(format!("{}:{}: {text}", expr.span.start, expr.span.end))
}
