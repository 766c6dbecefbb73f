//! Aggregations: groups on labels, then the operator that fits.

use std::sync::Arc;

use datafusion::common::HashMap;
use pilaster_model::Labels;

use crate::annotations::Place;
use crate::ast::{Aggregate, AggregateOp, Expr};
use crate::error::QueryError;
use crate::exec::aggregate::{Aggregation, float_aggregate};
use crate::exec::elementwise::Nothing;
use crate::exec::rank::{QuantileAggregation, Rank};
use crate::exec::scalar::Scalar;
use crate::grid::{Grid, GridBuilder};
use crate::kernels::{FloatAggregate, format_float, format_g, go_max, go_min, is_valid_quantile};
use crate::parser::quote::{is_label_name, quote};
use crate::prepare::labels::string;
use crate::prepare::node::Node;
use crate::prepare::{Evaluation, Preparer, unwrap_parens};
use crate::series_table::{Groups, Key, SeriesTable};

impl Preparer {
    pub(super) async fn aggregate(
        &self,
        expr: &Expr,
        aggregate: &Aggregate,
        evaluation: Evaluation,
    ) -> Result<Node, QueryError> {
        let inner = unwrap_parens(&aggregate.expr);
        let param = aggregate.param.as_deref().map(unwrap_parens);
        let width = evaluation.steps.count;
        if aggregate.op == AggregateOp::CountValues {
            let label = string(param.unwrap_or(inner))?;
            return self.count_values(aggregate, inner, label, evaluation).await;
        }
        if let Some(float_op) = float_aggregate(aggregate.op) {
            let mut node = self.vector(inner, evaluation).await?;
            // Sums are compensated, and in an order that is the same for all numbers of partitions. Means would show the
            // order in their last digit, because sum and compensation are divided apart; variances in several digits.
            let order_shows = matches!(float_op, FloatAggregate::Avg | FloatAggregate::Stddev | FloatAggregate::Stdvar);
            let reordered = !order_shows && node.reorder();
            let groups = Groups::new(&node.table, aggregate.without, &aggregate.labels);
            let (table, input) = (Arc::clone(&groups.table), Arc::clone(&node.table));
            let place = Place { span: inner.span, owner: expr.span };
            let operator =
                Aggregation::new(aggregate.op, float_op, groups, input, width, place).of_reordered(reordered);
            return Ok(Node::gather(operator, vec![node], table, width));
        }
        let Some(param_expr) = param else {
            return Err(QueryError::BadData(format!("{} needs a parameter", aggregate.op.name())));
        };
        let param = self.scalar(param_expr, evaluation).await?;
        let node = self.vector(inner, evaluation).await?;
        let bounds = Bounds::of(&param, width);
        let param_place = Place { span: param_expr.span, owner: expr.span };
        match aggregate.op {
            AggregateOp::Quantile => {
                let outside = [
                    bounds.any_nan.then_some(f64::NAN),
                    (bounds.max > 1.0).then_some(bounds.max),
                    (bounds.min < 0.0).then_some(bounds.min),
                ];
                for quantile in outside.into_iter().flatten().filter(|quantile| !is_valid_quantile(*quantile)) {
                    self.query.note(|notes| notes.invalid_quantile(quantile, param_place));
                }
                let groups = Groups::new(&node.table, aggregate.without, &aggregate.labels);
                let table = Arc::clone(&groups.table);
                let operator = QuantileAggregation {
                    quantile: param,
                    groups,
                    width,
                    place: Place { span: inner.span, owner: expr.span },
                };
                return Ok(Node::gather(operator, vec![node], table, width));
            }
            AggregateOp::LimitRatio => {
                if bounds.max == 0.0 && bounds.min == 0.0 {
                    return Ok(node.then(Nothing));
                }
                if bounds.any_nan {
                    return Err(QueryError::execution("Ratio value is NaN"));
                }
                for (ratio, capped) in [(bounds.max, 1.0), (bounds.min, -1.0)] {
                    if ratio.abs() > 1.0 && ratio.signum() == capped {
                        self.query.note(|notes| notes.invalid_ratio(ratio, capped, param_place));
                    }
                }
            }
            _ => {
                if bounds.max < 1.0 {
                    return Ok(node.then(Nothing));
                }
                if bounds.any_nan {
                    return Err(QueryError::execution("Parameter value is NaN"));
                }
                let (min, max) = (bounds.min, bounds.max);
                if min <= i64::MIN as f64 {
                    return Err(QueryError::execution(format!("Scalar value {} underflows int64", format_g(min))));
                }
                if max >= i64::MAX as f64 {
                    return Err(QueryError::execution(format!("Scalar value {} overflows int64", format_g(max))));
                }
            }
        }
        let groups = Groups::new(&node.table, aggregate.without, &aggregate.labels);
        let (table, input) = (Arc::clone(&node.table), Arc::clone(&node.table));
        let ordered = !evaluation.is_range && width == 1;
        let operator = Rank {
            op: aggregate.op,
            param,
            groups,
            input,
            width,
            ordered,
            place: Place { span: expr.span, owner: expr.span },
        };
        Ok(Node::gather(operator, vec![node], table, width))
    }

    /// `count_values("label", v)`: which series there are depends on the values, so it is computed here.
    async fn count_values(
        &self,
        aggregate: &Aggregate,
        inner: &Expr,
        label: &str,
        evaluation: Evaluation,
    ) -> Result<Node, QueryError> {
        if !is_label_name(label) {
            return Err(QueryError::execution(format!("invalid label name {}", quote(label))));
        }
        let node = self.vector(inner, evaluation).await?;
        let input = Arc::clone(&node.table);
        let grid = self.collect(node).await?;
        let mut names = aggregate.labels.clone();
        if !aggregate.without {
            names.push(label.to_owned());
        }
        let counted = count_by_value(&grid, &input, aggregate.without, &names, label, evaluation.steps.count);
        self.query.release_samples(grid.sample_count());
        Ok(counted)
    }
}

/// Counts samples by group and value.
fn count_by_value(
    grid: &Grid,
    input: &SeriesTable,
    without: bool,
    names: &[String],
    label: &str,
    width: usize,
) -> Node {
    let key = if without { Key::Without(names) } else { Key::With(names) };
    let mut numbers: HashMap<Labels, usize> = HashMap::new();
    let mut counts: Vec<(Labels, Vec<u32>)> = Vec::new();
    for row in grid.rows() {
        let labels = &input.labels()[row.series as usize];
        // Neighbouring steps mostly hold the same value.
        let mut last: Option<(u64, usize)> = None;
        for step in 0..width {
            let value = match row.histogram(step) {
                _ if row.valid[step] => {
                    let bits = row.values[step].to_bits();
                    if let Some((known, number)) = last.filter(|(known, _)| *known == bits) {
                        let _ = known;
                        counts[number].1[step] += 1;
                        continue;
                    }
                    format_float(row.values[step])
                }
                Some(histogram) => histogram.to_string(),
                None => continue,
            };
            let mut builder = labels.to_builder();
            builder.set(label, &value);
            let group = key.labels(&builder.build());
            let number = *numbers.entry(group).or_insert_with_key(|group| {
                counts.push((group.clone(), vec![0; width]));
                counts.len() - 1
            });
            counts[number].1[step] += 1;
            if row.valid[step] {
                last = Some((row.values[step].to_bits(), number));
            }
        }
    }
    let mut builder = GridBuilder::new(width, counts.len());
    let mut table = Vec::with_capacity(counts.len());
    for (number, (labels, counts)) in counts.into_iter().enumerate() {
        let (values, valid) = builder.push(number as u32);
        for (step, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            (values[step], valid[step]) = (f64::from(*count), true);
        }
        table.push(labels);
    }
    Node::known(vec![builder.finish()], Arc::new(SeriesTable::new(table)), width, "count_values")
}

/// The extremes of a parameter over all steps.
struct Bounds {
    min: f64,
    max: f64,
    any_nan: bool,
}

impl Bounds {
    fn of(param: &Scalar, width: usize) -> Bounds {
        let mut bounds = Bounds { min: f64::MAX, max: -f64::MAX, any_nan: false };
        if let Scalar::Const(value) = param {
            return Bounds { min: *value, max: *value, any_nan: value.is_nan() };
        }
        for value in param.values(width) {
            bounds.any_nan |= value.is_nan();
            (bounds.max, bounds.min) = (go_max(bounds.max, value), go_min(bounds.min, value));
        }
        bounds
    }
}
