//! Functions that look at labels only.

use std::sync::Arc;

use pilaster_model::{GoRegex, Labels, METRIC_NAME, MatchOp};

use crate::ast::{Expr, ExprKind};
use crate::error::QueryError;
use crate::exec::merge_series::Collision;
use crate::exec::sort::natural_order;
use crate::parser::quote::is_label_name;
use crate::prepare::node::Node;
use crate::prepare::{Evaluation, Preparer, unwrap_parens};
use crate::series_table::SeriesTable;

/// The text of a string argument.
pub(super) fn string(expr: &Expr) -> Result<&str, QueryError> {
    match &unwrap_parens(expr).kind {
        ExprKind::String(text) => Ok(text),
        _ => Err(QueryError::BadData(format!("expected a string, got {}", expr.value_type().describe()))),
    }
}

impl Preparer {
    /// `label_replace(v, dst, replacement, src, regex)`
    pub(super) async fn label_replace(
        &self,
        expr: &Expr,
        args: &[Expr],
        evaluation: Evaluation,
    ) -> Result<Node, QueryError> {
        let [vector, target, replacement, source, pattern] = args else {
            return Err(QueryError::BadData("label_replace takes five arguments".to_owned()));
        };
        let (target, replacement) = (string(target)?, string(replacement)?);
        let (source, pattern) = (string(source)?, string(pattern)?);
        let regex = GoRegex::new_anchored(pattern)
            .map_err(|_| QueryError::execution(format!("invalid regular expression in label_replace(): {pattern}")))?;
        if !is_label_name(target) {
            return Err(QueryError::execution(format!("invalid destination label name in label_replace(): {target}")));
        }
        let node = self.vector(vector, evaluation).await?;
        Ok(self.relabelled(node, expr, target, |labels| regex.expand(labels.get(source), replacement)))
    }

    /// `label_join(v, dst, separator, src…)`
    pub(super) async fn label_join(
        &self,
        expr: &Expr,
        args: &[Expr],
        evaluation: Evaluation,
    ) -> Result<Node, QueryError> {
        let [vector, target, separator, sources @ ..] = args else {
            return Err(QueryError::BadData("label_join takes at least three arguments".to_owned()));
        };
        let (target, separator) = (string(target)?, string(separator)?);
        let sources = sources.iter().map(string).collect::<Result<Vec<&str>, QueryError>>()?;
        if let Some(source) = sources.iter().find(|source| !is_label_name(source)) {
            return Err(QueryError::execution(format!("invalid source label name in label_join(): {source}")));
        }
        if !is_label_name(target) {
            return Err(QueryError::execution(format!("invalid destination label name in label_join(): {target}")));
        }
        let node = self.vector(vector, evaluation).await?;
        Ok(self.relabelled(node, expr, target, |labels| {
            let values: Vec<&str> = sources.iter().map(|source| labels.get(source)).collect();
            Some(values.join(separator))
        }))
    }

    /// Sets `target` to what `value` says; `None` leaves a series as it is. A name set here stays to the end.
    fn relabelled(&self, node: Node, expr: &Expr, target: &str, value: impl Fn(&Labels) -> Option<String>) -> Node {
        let before = Arc::clone(&node.table);
        let mut labels = Vec::with_capacity(before.len());
        let mut drop_name = Vec::with_capacity(before.len());
        for (series, old) in before.labels().iter().enumerate() {
            match value(old) {
                Some(value) => {
                    let mut builder = old.to_builder();
                    builder.set(target, &value);
                    labels.push(builder.build());
                    drop_name.push(before.drops_name(series) && target != METRIC_NAME);
                }
                None => {
                    labels.push(old.clone());
                    drop_name.push(before.drops_name(series));
                }
            }
        }
        let table = Arc::new(SeriesTable::with_drop_names(labels, drop_name));
        self.merge_equal(node.with_table(table), &before, Collision::SameStep, expr.span.start)
    }
}

/// What `absent` knows of the missing series: labels that the selector fixes to one value.
pub(super) fn absent_labels(expr: &Expr) -> Labels {
    let selector = match &expr.kind {
        ExprKind::VectorSelector(selector) | ExprKind::MatrixSelector { selector, .. } => selector,
        _ => return Labels::empty(),
    };
    let mut builder = Labels::empty().to_builder();
    let mut seen: Vec<&str> = Vec::new();
    for matcher in selector.matchers.iter().filter(|matcher| matcher.name() != METRIC_NAME) {
        if matcher.op() == MatchOp::Equal && !seen.contains(&matcher.name()) {
            builder.set(matcher.name(), matcher.value());
            seen.push(matcher.name());
        } else {
            builder.remove(matcher.name());
        }
    }
    builder.build()
}

/// The place of each series when ordered by some labels' values, as people order text, then by all labels.
pub(super) fn places_by_label(table: &SeriesTable, names: &[&str], descending: bool) -> Vec<u32> {
    let mut order: Vec<u32> = (0..table.len() as u32).collect();
    order.sort_by(|a, b| {
        let (a, b) = (&table.labels()[*a as usize], &table.labels()[*b as usize]);
        let by_names = names.iter().map(|name| natural_order(a.get(name), b.get(name)));
        let ordering = by_names.into_iter().find(|ordering| ordering.is_ne()).unwrap_or_else(|| a.cmp(b));
        if descending { ordering.reverse() } else { ordering }
    });
    let mut places = vec![0; order.len()];
    for (place, series) in order.iter().enumerate() {
        places[*series as usize] = place as u32;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser::{ParseOptions, parse};

    #[test]
    fn absent_knows_labels_that_are_fixed_once() {
        let labels = |text: &str| absent_labels(&parse(text, &ParseOptions::default()).expect("query")).to_string();
        assert_eq!(labels(r#"x{a="1", b=~"2", c!="3"}"#), r#"{a="1"}"#);
        assert_eq!(labels(r#"x{a="1", a="2", d="4"}"#), r#"{d="4"}"#);
        assert_eq!(labels("sum(x)"), "{}");
    }
}
