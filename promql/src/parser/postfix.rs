//! What stands behind an operand: `[5m]`, `offset`, `@`, `anchored` and `smoothed`.

use pest::iterators::Pair;

use super::builder::{Builder, Tree, parts};
use super::duration::DurationTree;
use super::{Read, Rule};
use crate::ast::{At, Duration, Expr, ExprKind, Modifiers, SelectorExtension, Span};

impl Builder<'_> {
    /// `tree` with a postfix operator.
    pub fn postfix(&mut self, tree: Tree, pair: Pair<'_, Rule>) -> Tree {
        match pair.as_rule() {
            Rule::brackets => self.brackets(tree, pair),
            Rule::offset => self.offset(tree, pair),
            Rule::at => self.at(tree, pair),
            Rule::ANCHORED => self.extend(tree, pair, SelectorExtension::Anchored),
            _ => self.extend(tree, pair, SelectorExtension::Smoothed),
        }
    }

    /// `[5m]` or `[5m:1m]` behind `tree`.
    fn brackets(&mut self, tree: Tree, pair: Pair<'_, Rule>) -> Tree {
        let (at, read) = (self.start(&pair), Read::upto(pair.as_span().end()));
        let span = Span { start: tree.expr.span.start, end: self.span(&pair).end };
        let mut range = None;
        let mut step = None;
        let mut subquery = false;
        for part in parts(pair) {
            match part.as_rule() {
                Rule::COLON => subquery = true,
                Rule::duration_expression => {
                    let duration = self.positive_duration(part).into_duration();
                    if subquery {
                        step = Some(duration);
                    } else {
                        range = Some(duration);
                    }
                }
                _ => {}
            }
        }
        let Some(range) = range else { return tree };
        if subquery {
            // A step below a millisecond is none.
            let step = step.filter(|step| *step != Duration::Literal(0));
            let kind = ExprKind::Subquery { expr: Box::new(tree.expr), range, step, modifiers: Modifiers::default() };
            return self.bounded(kind, span, tree.depth);
        }
        let ExprKind::VectorSelector(selector) = tree.expr.kind else {
            self.problem(at, read, "ranges only allowed for vector selectors");
            return tree;
        };
        // Prometheus overlooks computed offsets and `@ start()` here.
        if matches!(selector.modifiers.offset, Some(Duration::Literal(_))) {
            self.problem(at, read, "no offset modifiers allowed before range");
        } else if matches!(selector.modifiers.at, Some(At::Timestamp(_))) {
            self.problem(at, read, "no @ modifiers allowed before range");
        }
        Tree { expr: Expr { kind: ExprKind::MatrixSelector { selector, range }, span }, depth: tree.depth }
    }

    fn offset(&mut self, mut tree: Tree, pair: Pair<'_, Rule>) -> Tree {
        let span = pair.as_span();
        let (read, end) = (Read::upto(span.end()), self.span(&pair).end);
        let Some(duration) = self.offset_duration(pair).map(DurationTree::into_duration) else { return tree };
        let at = tree.expr.span.start;
        match modifiers(&mut tree.expr) {
            None => self.problem(
                at,
                read,
                "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
            ),
            Some(modifiers) if modifiers.offset.is_some() => {
                self.problem(at, read, "offset may not be set multiple times");
            }
            Some(modifiers) => {
                // An offset of zero is none.
                modifiers.offset = Some(duration).filter(|duration| *duration != Duration::Literal(0));
                tree.expr.span.end = end;
            }
        }
        tree
    }

    fn at(&mut self, mut tree: Tree, pair: Pair<'_, Rule>) -> Tree {
        let (read, end) = (Read::upto(pair.as_span().end()), self.span(&pair).end);
        let start = tree.expr.span.start;
        let which = parts(pair.clone()).next().map(|part| part.as_rule());
        let at = match which {
            Some(Rule::START) => At::Start,
            Some(Rule::END) => At::End,
            _ => {
                let seconds = self.signed_number(pair);
                const LIMIT: f64 = 9_223_372_036_854_775_807.0;
                if !(seconds < LIMIT && seconds > -LIMIT) {
                    let message = format!("timestamp out of bounds for @ modifier: {}", fixed_six(seconds));
                    self.problem(start, read, message);
                }
                At::Timestamp((seconds * 1000.0).round() as i64)
            }
        };
        match modifiers(&mut tree.expr) {
            None => self.problem(
                start,
                read,
                "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery",
            ),
            Some(modifiers) if modifiers.at.is_some() => {
                self.problem(start, read, "@ <timestamp> may not be set multiple times");
            }
            Some(modifiers) => {
                modifiers.at = Some(at);
                tree.expr.span.end = end;
            }
        }
        tree
    }

    fn extend(&mut self, mut tree: Tree, pair: Pair<'_, Rule>, extension: SelectorExtension) -> Tree {
        let (read, start) = (Read::upto(pair.as_span().end()), tree.expr.span.start);
        let name = match extension {
            SelectorExtension::Anchored => "anchored",
            SelectorExtension::Smoothed => "smoothed",
        };
        if !self.options().extended_range_selectors {
            self.problem(start, read, format!("{name} modifier is experimental and not enabled"));
            return tree;
        }
        match &mut tree.expr.kind {
            ExprKind::VectorSelector(selector) | ExprKind::MatrixSelector { selector, .. } => {
                if selector.extension.is_some_and(|other| other != extension) {
                    self.problem(start, read, "anchored and smoothed modifiers cannot be used together");
                }
                selector.extension = Some(extension);
            }
            ExprKind::Subquery { .. } => {
                self.problem(start, read, format!("{name} modifier is not supported for subqueries"));
            }
            ExprKind::Number(_)
            | ExprKind::DurationLiteral(_)
            | ExprKind::String(_)
            | ExprKind::Call { .. }
            | ExprKind::Aggregate(_)
            | ExprKind::Binary(_)
            | ExprKind::Unary { .. }
            | ExprKind::Paren(_) => self.problem(start, read, format!("{name} modifier not implemented")),
        }
        tree
    }
}

/// The modifiers of an expression that can have them.
fn modifiers(expr: &mut Expr) -> Option<&mut Modifiers> {
    match &mut expr.kind {
        ExprKind::VectorSelector(selector) | ExprKind::MatrixSelector { selector, .. } => Some(&mut selector.modifiers),
        ExprKind::Subquery { modifiers, .. } => Some(modifiers),
        ExprKind::Number(_)
        | ExprKind::DurationLiteral(_)
        | ExprKind::String(_)
        | ExprKind::Call { .. }
        | ExprKind::Aggregate(_)
        | ExprKind::Binary(_)
        | ExprKind::Unary { .. }
        | ExprKind::Paren(_) => None,
    }
}

/// Go's `%f`.
fn fixed_six(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    format!("{value:.6}")
}
