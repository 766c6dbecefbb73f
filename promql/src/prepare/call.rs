//! Function calls whose value is a vector.

use std::sync::{Arc, OnceLock};

use pilaster_model::{Labels, TimeRange};

use crate::annotations::Place;
use crate::ast::{Expr, ExprKind, Function, SelectorExtension, Span};
use crate::error::QueryError;
use crate::exec::absent::Absent;
use crate::exec::elementwise::{Clamp, EvaluationTime, FloatsOnly, Nothing, Round, Unary};
use crate::exec::histogram_value::{HistogramMeasure, HistogramValue};
use crate::exec::merge_series::Collision;
use crate::exec::range_call::RangeCall;
use crate::exec::sample_counts::WindowCounts;
use crate::exec::scalar::Scalar;
use crate::exec::select::{InstantValue, Sampler};
use crate::exec::sort::{Sort, SortBy};
use crate::exec::subquery::SubqueryCall;
use crate::grid::{GridBuilder, Steps};
use crate::kernels::{Extension, RangeFunction, RangeGrid, UnaryFunction};
use crate::prepare::labels::{absent_labels, places_by_label, string};
use crate::prepare::node::Node;
use crate::prepare::{Evaluation, Preparer, Taker, unwrap_parens};
use crate::series_table::SeriesTable;

/// One series without labels.
pub(super) fn single_series(labels: Labels) -> Arc<SeriesTable> {
    Arc::new(SeriesTable::new(vec![labels]))
}

/// Where the first argument stands. A subquery has no place: Prometheus puts a selector without one in its stead.
fn first_span(args: &[Expr], call: Span) -> Span {
    let Some(first) = args.first().map(unwrap_parens) else { return call };
    match first.kind {
        ExprKind::Subquery { .. } => Span::default(),
        _ => first.span,
    }
}

/// From the first argument to the last.
fn arguments_span(args: &[Expr], call: Span) -> Span {
    let first = first_span(args, call);
    match args {
        [] | [_] => first,
        [.., last] => Span { start: first.start, end: last.span.end },
    }
}

impl Preparer {
    pub(super) async fn call(
        &self,
        expr: &Expr,
        function: &'static Function,
        args: &[Expr],
        evaluation: Evaluation,
    ) -> Result<Node, QueryError> {
        if let Some(range_function) = RangeFunction::from_name(function.name) {
            return self.range_call(expr, function, range_function, args, evaluation).await;
        }
        let position = expr.span.start;
        match (function.name, args) {
            ("vector", [scalar]) => {
                let scalar = self.scalar(scalar, evaluation).await?;
                Ok(known_row(&scalar, evaluation.steps))
            }
            ("absent", [vector]) => {
                let vector = unwrap_parens(vector);
                let (labels, node) = (absent_labels(vector), self.vector(vector, evaluation).await?);
                let width = evaluation.steps.count;
                Ok(Node::gather(Absent { width }, vec![node], single_series(labels), width))
            }
            ("timestamp" | "start_timestamp", [vector]) => {
                let node = self.sample_time(function.name, unwrap_parens(vector), evaluation).await?;
                Ok(self.drop_names(node, Collision::SameStep, position))
            }
            ("label_replace", _) => self.label_replace(expr, args, evaluation).await,
            ("label_join", _) => self.label_join(expr, args, evaluation).await,
            ("info", _) => self.info(expr, args, evaluation).await,
            ("sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc", [vector, labels @ ..]) => {
                self.sort(expr, function.name, vector, labels, evaluation).await
            }
            ("histogram_quantile" | "histogram_quantiles" | "histogram_fraction", _) => {
                self.histogram_call(expr, function.name, args, evaluation).await
            }
            (name, [] | [_]) if UnaryFunction::from_name(name).is_some() => {
                let function = UnaryFunction::from_name(name).unwrap_or(UnaryFunction::Abs);
                let node = match args {
                    [vector] => self.vector(vector, evaluation).await?,
                    _ => {
                        let steps = evaluation.steps;
                        let times = (0..steps.count).map(|step| steps.at(step) as f64 / 1000.0).collect();
                        known_row(&Scalar::from_steps(times), steps)
                    }
                };
                Ok(self.drop_names(node.then(Unary { function }), Collision::SameStep, position))
            }
            ("round", [vector, rest @ ..]) => {
                let to_nearest = match rest.first() {
                    Some(to_nearest) => self.scalar(to_nearest, evaluation).await?,
                    None => Scalar::Const(1.0),
                };
                let node = self.vector(vector, evaluation).await?.then(Round { to_nearest });
                Ok(self.drop_names(node, Collision::SameStep, position))
            }
            ("clamp" | "clamp_min" | "clamp_max", [vector, bounds @ ..]) => {
                let clamp = self.clamp(function.name, bounds, evaluation).await?;
                let node = self.vector(vector, evaluation).await?.then(clamp);
                Ok(self.drop_names(node, Collision::SameStep, position))
            }
            (name, [vector]) => {
                let Some(measure) = HistogramMeasure::from_name(name) else {
                    return Err(QueryError::Unsupported(format!("function {name} is not supported")));
                };
                let inside = match measure {
                    HistogramMeasure::Count | HistogramMeasure::Sum | HistogramMeasure::Average => {
                        evaluation.of_histogram_stats()
                    }
                    HistogramMeasure::Stddev | HistogramMeasure::Stdvar => evaluation,
                };
                let node = self.vector(vector, inside).await?.then(HistogramValue { measure });
                Ok(self.drop_names(node, Collision::SameStep, position))
            }
            (name, _) => Err(QueryError::Unsupported(format!("function {name} is not supported"))),
        }
    }

    async fn clamp(&self, name: &str, bounds: &[Expr], evaluation: Evaluation) -> Result<Clamp, QueryError> {
        let (mut min, mut max) = (Scalar::Const(f64::NEG_INFINITY), Scalar::Const(f64::INFINITY));
        match (name, bounds) {
            ("clamp_min", [bound]) => min = self.scalar(bound, evaluation).await?,
            ("clamp_max", [bound]) => max = self.scalar(bound, evaluation).await?,
            (_, [low, high]) => {
                min = self.scalar(low, evaluation).await?;
                max = self.scalar(high, evaluation).await?;
            }
            _ => return Err(QueryError::BadData(format!("wrong number of arguments for {name}"))),
        }
        Ok(Clamp { min, max })
    }

    /// `timestamp` and `start_timestamp`, which look at the samples of a selector and at nothing but presence elsewhere.
    async fn sample_time(&self, name: &str, vector: &Expr, evaluation: Evaluation) -> Result<Node, QueryError> {
        if let ExprKind::VectorSelector(selector) = &vector.kind {
            if name == "timestamp" {
                return self.instant_selector(selector, evaluation, InstantValue::Timestamp);
            }
            if self.options.start_timestamps {
                return self.instant_selector(selector, evaluation, InstantValue::StartTimestamp);
            }
        }
        let node = self.vector(vector, evaluation).await?;
        if name == "timestamp" {
            return Ok(node.then(EvaluationTime { steps: evaluation.steps }));
        }
        Ok(node.then(Nothing))
    }

    async fn sort(
        &self,
        expr: &Expr,
        name: &str,
        vector: &Expr,
        labels: &[Expr],
        evaluation: Evaluation,
    ) -> Result<Node, QueryError> {
        let node = self.vector(vector, evaluation).await?;
        let by_value = matches!(name, "sort" | "sort_desc");
        let descending = name.ends_with("_desc");
        if evaluation.is_range {
            self.query.note(|notes| notes.sort_in_range_query(Place { span: expr.span, owner: expr.span }));
            return Ok(if by_value { node.then(FloatsOnly) } else { node });
        }
        let by = if by_value {
            SortBy::Value { descending }
        } else {
            let labels = labels.iter().map(string).collect::<Result<Vec<&str>, QueryError>>()?;
            SortBy::Place(places_by_label(&node.table, &labels, descending))
        };
        let (table, width) = (Arc::clone(&node.table), node.width);
        Ok(Node::gather(Sort { by }, vec![node], table, width))
    }

    async fn range_call(
        &self,
        expr: &Expr,
        function: &'static Function,
        kind: RangeFunction,
        args: &[Expr],
        evaluation: Evaluation,
    ) -> Result<Node, QueryError> {
        let mut range_argument = None;
        let mut scalars = Vec::new();
        for arg in args.iter().map(unwrap_parens) {
            match &arg.kind {
                ExprKind::MatrixSelector { .. } | ExprKind::Subquery { .. } if range_argument.is_none() => {
                    range_argument = Some(arg);
                }
                _ => scalars.push(self.scalar(arg, evaluation).await?),
            }
        }
        let Some(range_argument) = range_argument else {
            return Err(QueryError::BadData(format!("{} takes a range vector", function.name)));
        };
        let mut scalars = scalars.into_iter();
        let mut next = || scalars.next().unwrap_or(Scalar::Const(0.0));
        let call = RangeCall {
            name: function.name,
            function: kind,
            grid: RangeGrid { first_end_ms: 0, step_ms: 0, steps: 0, width_ms: 0 },
            steps: evaluation.steps,
            extension: Extension::None,
            lookback_ms: self.options.lookback_ms,
            params: [next(), next()],
            use_starts: self.options.start_timestamps
                && matches!(function.name, "rate" | "irate" | "increase" | "resets"),
            type_labels: self.options.type_labels,
            argument_place: Place { span: first_span(args, expr.span), owner: expr.span },
            arguments_place: Place { span: arguments_span(args, expr.span), owner: expr.span },
            noted: OnceLock::new(),
            counts: None,
        };
        let node = self.range_node(range_argument, call, evaluation).await?;
        if function.name == "absent_over_time" {
            let width = evaluation.steps.count;
            let table = single_series(absent_labels(range_argument));
            return Ok(Node::gather(Absent { width }, vec![node], table, width));
        }
        if matches!(kind, RangeFunction::Last | RangeFunction::First) {
            let before = Arc::clone(&node.table);
            return Ok(self.merge_equal(node, &before, Collision::AnySample, expr.span.start));
        }
        Ok(self.drop_names(node, Collision::AnySample, expr.span.start))
    }

    /// Where a range function counts samples, if that is asked for; `beyond_ms` as in [`WindowCounts`].
    fn window_counts(&self, evaluation: Evaluation, beyond_ms: (i64, i64), stored: bool) -> Option<WindowCounts> {
        let counts = self.query.counts(evaluation.counts)?;
        Some(WindowCounts { counts, before_ms: beyond_ms.0, after_ms: beyond_ms.1, stored })
    }

    /// The rows of `call` over its range argument.
    async fn range_node(
        &self,
        argument: &Expr,
        mut call: RangeCall,
        evaluation: Evaluation,
    ) -> Result<Node, QueryError> {
        match &argument.kind {
            ExprKind::MatrixSelector { selector, range } => {
                call.extension = extension_of(selector.extension, call.name)?;
                let width_ms = self.range.duration_ms(range, false)?;
                call.grid = self.range.pin(&selector.modifiers)?.grid(evaluation.steps, width_ms);
                let (before_ms, after_ms) = match call.extension {
                    Extension::None => (0, 0),
                    Extension::Anchored => (call.lookback_ms, 0),
                    Extension::Smoothed => (call.lookback_ms, call.lookback_ms),
                };
                call.counts = self.window_counts(evaluation, (before_ms, after_ms), true);
                let first_ms = call.grid.start_ms(0).saturating_sub(before_ms).saturating_add(1);
                let last_ms = call.grid.end_ms(call.grid.steps - 1).saturating_add(after_ms);
                self.leaf(selector, TimeRange::new(first_ms, last_ms), Sampler::Range(call), evaluation)
            }
            ExprKind::Subquery { expr, range, step, modifiers } => {
                let subquery = self.subquery(range, step.as_ref(), modifiers, Taker::Function, evaluation)?;
                call.grid = subquery.grid;
                call.counts = self.window_counts(evaluation, (0, 0), false);
                let node = self.vector_or_scalar(expr, subquery.inner).await?;
                let width = evaluation.steps.count;
                let call = SubqueryCall::new(call, subquery.inner.steps, Arc::clone(&node.table));
                Ok(node.then_wide(call, width))
            }
            _ => Err(QueryError::BadData(format!("{} takes a range vector", call.name))),
        }
    }

    /// A subquery's inner expression may also be a scalar, which is then one series without labels.
    pub(crate) async fn vector_or_scalar(&self, expr: &Expr, evaluation: Evaluation) -> Result<Node, QueryError> {
        if expr.value_type() == crate::ast::ValueType::Scalar {
            let scalar = self.scalar(expr, evaluation).await?;
            return Ok(known_row(&scalar, evaluation.steps));
        }
        self.vector(expr, evaluation).await
    }
}

fn extension_of(extension: Option<SelectorExtension>, function: &str) -> Result<Extension, QueryError> {
    let (extension, name, allowed): (_, _, &[&str]) = match extension {
        None => return Ok(Extension::None),
        Some(SelectorExtension::Anchored) => {
            (Extension::Anchored, "anchored", &["changes", "delta", "increase", "rate", "resets"])
        }
        Some(SelectorExtension::Smoothed) => (Extension::Smoothed, "smoothed", &["delta", "increase", "rate"]),
    };
    if allowed.contains(&function) {
        return Ok(extension);
    }
    let allowed = allowed.join(", ");
    Err(QueryError::execution(format!("{name} modifier can only be used with: {allowed} - not with {function}")))
}

/// One series without labels that has `scalar` at every step.
pub(super) fn known_row(scalar: &Scalar, steps: Steps) -> Node {
    if steps.count == 0 {
        return Node::empty(0);
    }
    let mut builder = GridBuilder::new(steps.count, 1);
    let (values, valid) = builder.push(0);
    values.iter_mut().enumerate().for_each(|(step, value)| *value = scalar.at(step));
    valid.fill(true);
    Node::known(vec![builder.finish()], single_series(Labels::empty()), steps.count, "scalar")
}
