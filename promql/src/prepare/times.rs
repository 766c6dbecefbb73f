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

/// 36 million years.
const FARTHEST_MS: i64 = 1 << 60;

impl Pin {
    /// Whether both read at the same times, whatever the step.
    pub fn same_times(self, other: Pin) -> bool {
        match (self.at_ms, other.at_ms) {
            (None, None) => self.offset_ms == other.offset_ms,
            (Some(one), Some(two)) => one.saturating_sub(self.offset_ms) == two.saturating_sub(other.offset_ms),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// Windows of `width_ms` as seen from `steps`.
    pub fn grid(&self, steps: Steps, width_ms: i64) -> RangeGrid {
        let (end_ms, step_ms) = match self.at_ms {
            Some(at_ms) => (at_ms, 0),
            None => (steps.start_ms, steps.step_ms),
        };
        // Far from where arithmetic on times could overflow, and far from any time that means something.
        let first_end_ms = end_ms.saturating_sub(self.offset_ms).clamp(-FARTHEST_MS, FARTHEST_MS);
        RangeGrid { first_end_ms, step_ms, steps: steps.count, width_ms: width_ms.min(FARTHEST_MS) }
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
            DurationExprKind::Plus(inner) | DurationExprKind::Paren(inner) => self.seconds(inner)?,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ast::{Expr, ExprKind};
    use crate::parser::{ParseOptions, parse};

    const RANGE: QueryRange = QueryRange { start_ms: 10_000, end_ms: 70_000, step_ms: 15_000 };

    fn selector(text: &str) -> (Modifiers, Duration) {
        match parse(text, &ParseOptions::all()).expect("query") {
            Expr { kind: ExprKind::MatrixSelector { selector, range }, .. } => (selector.modifiers, range),
            other => panic!("{other:?} is no range selector"),
        }
    }

    #[test]
    fn offsets_move_windows_and_at_pins_them() {
        let steps = Steps::range(RANGE.start_ms, RANGE.end_ms, RANGE.step_ms);
        let grid = |text: &str| {
            let (modifiers, range) = selector(text);
            RANGE.pin(&modifiers).expect("offset").grid(steps, RANGE.duration_ms(&range, false).expect("range"))
        };
        let moved = grid("x[1m] offset -5s");
        assert_eq!((moved.first_end_ms, moved.step_ms, moved.steps, moved.width_ms), (15_000, 15_000, 5, 60_000));
        let pinned = grid("x[1m] @ end() offset 10s");
        assert_eq!((pinned.first_end_ms, pinned.step_ms, pinned.steps), (60_000, 0, 5));
        assert_eq!(grid("x[step() * 2 + range() / 6]").width_ms, 40_000);
    }

    #[test]
    fn durations_that_mean_nothing_are_refused_where_they_stand() {
        let error = |text: &str| RANGE.duration_ms(&selector(text).1, false).expect_err(text).to_string();
        assert_eq!(error("x[range() - 60]"), "2:14: duration must be greater than 0");
        assert_eq!(error("x[1 / (step() - 15)]"), "2:18: division by zero");
    }

    #[test]
    fn far_times_stay_in_bounds() {
        let pin = Pin { offset_ms: i64::MIN, at_ms: Some(i64::MAX) };
        let grid = pin.grid(Steps::instant(0), i64::MAX);
        assert!(grid.start_ms(0) < grid.end_ms(0));
    }
}
