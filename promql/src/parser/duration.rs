//! Builds durations: what stands in `[…]` and behind `offset`.

use pest::iterators::Pair;

use super::builder::{Builder, parts};
use super::precedence::{Climber, Fold, POWER, PRODUCT, SUM};
use super::token::Kind;
use super::{MAX_DEPTH, Read, Rule};
use crate::ast::{BinaryOp, Duration, DurationExpr, DurationExprKind, Span};

/// A duration expression and how deep it is.
pub struct DurationTree {
    expr: DurationExpr,
    depth: usize,
}

impl DurationTree {
    fn leaf(kind: DurationExprKind, span: Span) -> DurationTree {
        DurationTree { expr: DurationExpr { kind, span }, depth: 1 }
    }

    /// Seconds, where the duration is known without evaluation.
    pub fn seconds(&self) -> Option<f64> {
        match self.expr.kind {
            DurationExprKind::Number(seconds) | DurationExprKind::Literal(seconds) => Some(seconds),
            _ => None,
        }
    }

    pub fn start(&self) -> usize {
        self.expr.span.start
    }

    pub fn into_duration(self) -> Duration {
        match self.seconds() {
            Some(seconds) => Duration::Literal(seconds_to_ms(seconds)),
            None => Duration::Expr(Box::new(self.expr)),
        }
    }
}

/// Prometheus rounds to nanoseconds and counts whole milliseconds of these; NaN becomes its least duration.
fn seconds_to_ms(seconds: f64) -> i64 {
    if seconds.is_nan() {
        return i64::MIN / 1_000_000;
    }
    (seconds * 1e9).round() as i64 / 1_000_000
}

/// Whether `seconds` overflow 64 bits of nanoseconds.
fn out_of_range(seconds: f64) -> bool {
    const LIMIT: f64 = i64::MAX as f64 / 1e9;
    !(-LIMIT..=LIMIT).contains(&seconds) && !seconds.is_nan()
}

/// A sign: whether it is a minus, and where.
#[derive(Clone, Copy)]
struct Sign {
    negative: bool,
    at: usize,
}

struct Operator {
    op: BinaryOp,
    at: usize,
}

struct DurationFold<'b, 'a> {
    builder: &'b mut Builder<'a>,
    /// How many tokens were read when an operator is applied.
    read: Read,
}

impl Fold<DurationTree, Sign, Operator> for DurationFold<'_, '_> {
    fn unary(&mut self, sign: Sign, operand: DurationTree) -> DurationTree {
        self.builder.apply_sign(sign, operand, self.read)
    }

    fn binary(&mut self, left: DurationTree, operator: Operator, right: DurationTree) -> DurationTree {
        self.builder.require_duration_expressions(left.start(), self.read);
        let span = Span { start: left.start(), end: right.expr.span.end };
        let message = match (operator.op, right.seconds()) {
            (BinaryOp::Div, Some(0.0)) => Some("division by zero"),
            (BinaryOp::Mod, Some(0.0)) => Some("modulo by zero"),
            _ => None,
        };
        if let Some(message) = message {
            self.builder.problem(operator.at, self.read, message);
            return DurationTree::leaf(DurationExprKind::Number(0.0), span);
        }
        let depth = left.depth.max(right.depth) + 1;
        let kind = DurationExprKind::Binary { op: operator.op, left: Box::new(left.expr), right: Box::new(right.expr) };
        self.builder.bounded_duration(DurationTree { expr: DurationExpr { kind, span }, depth })
    }
}

impl Builder<'_> {
    /// A duration that must be positive where that is known already.
    pub fn positive_duration(&mut self, pair: Pair<'_, Rule>) -> DurationTree {
        let read = Read::looking(pair.as_span().end());
        let tree = self.duration_expression(pair);
        if tree.seconds().is_some_and(|seconds| seconds <= 0.0) {
            self.problem(tree.start(), read, "duration must be greater than 0");
        }
        tree
    }

    /// The duration behind `offset`.
    pub fn offset_duration(&mut self, pair: Pair<'_, Rule>) -> Option<DurationTree> {
        let inner = parts(pair).next()?;
        let end = Read::upto(inner.as_span().end());
        match inner.as_rule() {
            Rule::offset_simple => {
                let mut sign = None;
                let mut tree = None;
                for part in parts(inner) {
                    match part.as_rule() {
                        Rule::unary => sign = Some(self.sign(&part)),
                        Rule::number => tree = Some(self.offset_number(part, sign)),
                        _ => {
                            let start = sign.map_or(self.start(&part), |sign| sign.at);
                            self.require_duration_expressions(start, end);
                            let call = self.duration_call(part)?;
                            tree = Some(match sign {
                                Some(Sign { negative: false, at }) => self.plus(at, call),
                                Some(sign) => self.apply_sign(sign, call, end),
                                None => call,
                            });
                        }
                    }
                }
                tree
            }
            Rule::offset_parens => {
                let mut inner_parts = parts(inner);
                let sign = self.sign(&inner_parts.next()?);
                let tree = self.duration_expression(inner_parts.next()?);
                let tree = if tree.seconds().is_some() { tree } else { self.wrap(tree) };
                Some(self.apply_sign(sign, tree, end))
            }
            _ => Some(self.duration_expression(inner)),
        }
    }

    fn offset_number(&mut self, pair: Pair<'_, Rule>, sign: Option<Sign>) -> DurationTree {
        let read = Read::upto(pair.as_span().end());
        let mut tree = self.duration_number(pair);
        if let Some(sign) = sign {
            tree = signed_literal(tree, sign);
        }
        self.checked_literal(tree, sign.map(|sign| sign.at), read)
    }

    fn duration_expression(&mut self, pair: Pair<'_, Rule>) -> DurationTree {
        let end = pair.as_span().end();
        let mut climber = Climber::new();
        for part in parts(pair) {
            let read = Read::upto(part.as_span().end());
            match part.as_rule() {
                Rule::unary => climber.unary(self.sign(&part)),
                Rule::duration_op => {
                    let at = self.start(&part);
                    let (op, precedence) = match self.kind(&part) {
                        Kind::Add => (BinaryOp::Add, SUM),
                        Kind::Sub => (BinaryOp::Sub, SUM),
                        Kind::Mul => (BinaryOp::Mul, PRODUCT),
                        Kind::Div => (BinaryOp::Div, PRODUCT),
                        Kind::Mod => (BinaryOp::Mod, PRODUCT),
                        _ => (BinaryOp::Pow, POWER),
                    };
                    climber.apply_left(
                        precedence,
                        &mut DurationFold { builder: self, read: Read::looking(part.as_span().start()) },
                    );
                    climber.push(Operator { op, at }, precedence);
                }
                Rule::number => {
                    let number = self.duration_number(part);
                    let tree = self.checked_literal(number, None, read);
                    climber.operand(tree);
                }
                Rule::duration_call => {
                    let start = self.start(&part);
                    let call = self.duration_call(part);
                    self.require_duration_expressions(start, read);
                    climber.operand(call.unwrap_or_else(|| self.zero(start)));
                }
                _ => {
                    let start = self.start(&part);
                    let tree = match parts(part).next() {
                        Some(inner) => self.duration_expression(inner),
                        None => self.zero(start),
                    };
                    self.require_duration_expressions(tree.start(), read);
                    let tree = if tree.seconds().is_some() { tree } else { self.wrap(tree) };
                    climber.operand(tree);
                }
            }
        }
        let start = self.tokens().get(end.saturating_sub(1)).map_or(0, |token| token.start);
        let mut fold = DurationFold { builder: self, read: Read::looking(end) };
        climber.finish(&mut fold).unwrap_or_else(|| self.zero(start))
    }

    fn zero(&self, at: usize) -> DurationTree {
        DurationTree::leaf(DurationExprKind::Number(0.0), Span { start: at, end: at })
    }

    fn duration_number(&mut self, pair: Pair<'_, Rule>) -> DurationTree {
        let number = self.number(&pair);
        let kind = if number.is_duration {
            DurationExprKind::Literal(number.value)
        } else {
            DurationExprKind::Number(number.value)
        };
        DurationTree::leaf(kind, number.span)
    }

    fn checked_literal(&mut self, tree: DurationTree, at: Option<usize>, read: Read) -> DurationTree {
        if tree.seconds().is_some_and(out_of_range) {
            let start = tree.start();
            self.problem(at.unwrap_or(start), read, "duration out of range");
            return self.zero(start);
        }
        tree
    }

    fn apply_sign(&mut self, sign: Sign, operand: DurationTree, read: Read) -> DurationTree {
        if operand.seconds().is_some() {
            let tree = signed_literal(operand, sign);
            return self.checked_literal(tree, Some(sign.at), read);
        }
        if !sign.negative {
            return operand;
        }
        let span = Span { start: sign.at, end: operand.expr.span.end };
        let depth = operand.depth + 1;
        let kind = DurationExprKind::Negate(Box::new(operand.expr));
        self.bounded_duration(DurationTree { expr: DurationExpr { kind, span }, depth })
    }

    fn plus(&mut self, at: usize, operand: DurationTree) -> DurationTree {
        let span = Span { start: at, end: operand.expr.span.end };
        let depth = operand.depth + 1;
        let kind = DurationExprKind::Plus(Box::new(operand.expr));
        self.bounded_duration(DurationTree { expr: DurationExpr { kind, span }, depth })
    }

    /// `step()`, `range()`, `min_of(a, b)`, `max_of(a, b)`.
    fn duration_call(&mut self, pair: Pair<'_, Rule>) -> Option<DurationTree> {
        let span = self.span(&pair);
        let mut inner_parts = parts(pair);
        let function = inner_parts.next()?;
        let depth = |a: &DurationTree, b: &DurationTree| a.depth.max(b.depth) + 1;
        let (kind, depth) = match function.as_rule() {
            Rule::STEP => (DurationExprKind::Step, 1),
            Rule::RANGE => (DurationExprKind::Range, 1),
            which => {
                let a = self.duration_expression(inner_parts.next()?);
                let b = self.duration_expression(inner_parts.next()?);
                let depth = depth(&a, &b);
                let (a, b) = (Box::new(a.expr), Box::new(b.expr));
                let kind =
                    if which == Rule::MIN_OF { DurationExprKind::Min(a, b) } else { DurationExprKind::Max(a, b) };
                (kind, depth)
            }
        };
        Some(self.bounded_duration(DurationTree { expr: DurationExpr { kind, span }, depth }))
    }

    /// Parentheses around a computed duration; Prometheus keeps one pair, and positions ignore it.
    fn wrap(&mut self, tree: DurationTree) -> DurationTree {
        if matches!(tree.expr.kind, DurationExprKind::Paren(_)) {
            return tree;
        }
        let (span, depth) = (tree.expr.span, tree.depth + 1);
        let kind = DurationExprKind::Paren(Box::new(tree.expr));
        self.bounded_duration(DurationTree { expr: DurationExpr { kind, span }, depth })
    }

    fn bounded_duration(&mut self, tree: DurationTree) -> DurationTree {
        if tree.depth > MAX_DEPTH {
            let start = tree.start();
            self.refuse_depth(start);
            return self.zero(start);
        }
        tree
    }

    fn sign(&self, pair: &Pair<'_, Rule>) -> Sign {
        Sign { negative: self.kind(pair) == Kind::Sub, at: self.start(pair) }
    }

    fn require_duration_expressions(&mut self, at: usize, read: Read) {
        if !self.options().duration_expressions {
            self.problem(at, read, "experimental duration expression is not enabled");
        }
    }
}

fn signed_literal(mut tree: DurationTree, sign: Sign) -> DurationTree {
    tree.expr.span.start = sign.at;
    match &mut tree.expr.kind {
        DurationExprKind::Number(seconds) | DurationExprKind::Literal(seconds) if sign.negative => {
            *seconds = -*seconds;
        }
        _ => {}
    }
    tree
}
