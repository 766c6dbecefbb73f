//! Range vectors as a query's value: samples as they are stored, or a subquery's points.

use std::sync::Arc;

use pilaster_model::{TimeRange, is_stale};

use crate::ast::{Expr, ExprKind, SelectorExtension, VectorSelector};
use crate::engine::assemble::MatrixBuilder;
use crate::engine::output::{MatrixSeries, QueryValue};
use crate::error::QueryError;
use crate::exec::sample_counts::samples_in;
use crate::grid::{Grid, Row};
use crate::prepare::{Evaluation, Preparer, Taker};

/// Series that are read at once.
const CHUNK_SERIES: usize = 64;

pub(super) async fn range_vector(
    preparer: &Preparer,
    expr: &Expr,
    evaluation: Evaluation,
) -> Result<QueryValue, QueryError> {
    match &expr.kind {
        ExprKind::MatrixSelector { selector, range } => {
            let width_ms = preparer.range.duration_ms(range, false)?;
            stored_samples(preparer, selector, width_ms, evaluation).await
        }
        ExprKind::Subquery { expr: inner, range, step, modifiers } => {
            let evaluation = preparer.subquery(range, step.as_ref(), modifiers, Taker::Query, evaluation)?.inner;
            let node = preparer.vector_or_scalar(inner, evaluation).await?;
            let node = preparer.finish_names(node);
            let table = Arc::clone(&node.table);
            let grid: Grid = preparer.collect(node).await?;
            let mut matrix = MatrixBuilder::default();
            for row in grid.rows().filter(Row::has_samples) {
                matrix.add(&table.labels()[row.series as usize], row, evaluation.steps);
            }
            Ok(QueryValue::Matrix(matrix.finish()))
        }
        _ => Err(QueryError::BadData("expected a range vector".to_owned())),
    }
}

async fn stored_samples(
    preparer: &Preparer,
    selector: &VectorSelector,
    width_ms: i64,
    evaluation: Evaluation,
) -> Result<QueryValue, QueryError> {
    let grid = preparer.range.pin(&selector.modifiers)?.grid(evaluation.steps, width_ms);
    let lookback_ms = preparer.options.lookback_ms;
    let (before_ms, after_ms) = match selector.extension {
        None => (0, 0),
        Some(SelectorExtension::Anchored) => (lookback_ms, 0),
        Some(SelectorExtension::Smoothed) => (lookback_ms, lookback_ms),
    };
    let first_ms = grid.start_ms(0).saturating_sub(before_ms).saturating_add(1);
    let range = TimeRange::new(first_ms, grid.end_ms(0).saturating_add(after_ms));
    let selection = preparer.source.select(&selector.matchers, range)?;
    let labels = selection.labels();
    let all: Vec<u32> = (0..labels.len() as u32).collect();
    let mut matrix = Vec::new();
    for chunk in all.chunks(CHUNK_SERIES) {
        preparer.query.check()?;
        let batch = selection.read(chunk)?;
        for run in &batch.runs {
            let timeline = &batch.timelines[run.timeline as usize];
            let labels = labels[run.series as usize].clone();
            let mut series = MatrixSeries { labels, points: Vec::new(), histograms: Vec::new() };
            for (index, timestamp_ms) in timeline.iter().enumerate().filter(|(_, t)| range.contains(**t)) {
                let histogram = run.histograms.as_ref().and_then(|histograms| histograms[index].as_ref());
                match histogram {
                    Some(histogram) if !is_stale(histogram.sum) => {
                        series.histograms.push((*timestamp_ms, Arc::clone(histogram)));
                    }
                    None if !is_stale(run.values[index]) => series.points.push((*timestamp_ms, run.values[index])),
                    Some(_) | None => {}
                }
            }
            if let Some(extension) = selector.extension {
                if !series.histograms.is_empty() {
                    let name = match extension {
                        SelectorExtension::Anchored => "anchored",
                        SelectorExtension::Smoothed => "smoothed",
                    };
                    let text = format!("{name} modifier is not supported with histograms");
                    return Err(QueryError::execution(text));
                }
                let smoothed = extension == SelectorExtension::Smoothed;
                series.points = up_to_edges(&series.points, grid.start_ms(0), grid.end_ms(0), smoothed);
            }
            let count = series.points.len() + series.histograms.len();
            preparer.query.count_read(count);
            if let Some(counts) = preparer.query.counts(evaluation.counts) {
                let in_histograms = series.histograms.iter().map(|(_, histogram)| samples_in(histogram)).sum::<u64>();
                counts.add(0, series.points.len() as u64 + in_histograms);
            }
            preparer.query.hold_samples(count)?;
            if count > 0 {
                matrix.push(series);
            }
        }
        tokio::task::yield_now().await;
    }
    matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(QueryValue::Matrix(matrix))
}

/// The points inside `(start_ms, end_ms)` between one at each edge: the nearest sample's value, or with `smoothed` the
/// value on the line to the next sample. Nothing where no sample lies after the start.
///
/// Source: `extendFloats`, Prometheus 3.14 `promql/engine.go`.
fn up_to_edges(points: &[(i64, f64)], start_ms: i64, end_ms: i64, smoothed: bool) -> Vec<(i64, f64)> {
    let Some(last) = points.len().checked_sub(1) else { return Vec::new() };
    let first = points[..last].partition_point(|(t, _)| *t <= start_ms).saturating_sub(1);
    let last = if smoothed { points[..last].partition_point(|(t, _)| *t < end_ms) } else { last };
    if points[last].0 <= start_ms {
        return Vec::new();
    }
    let between = |from: (i64, f64), to: (i64, f64), at_ms: i64| {
        from.1 + (to.1 - from.1) * (at_ms - from.0) as f64 / (to.0 - from.0) as f64
    };
    let left = match points.get(first + 1) {
        Some(next) if smoothed && points[first].0 < start_ms => between(points[first], *next, start_ms),
        _ => points[first].1,
    };
    let right = match last.checked_sub(1) {
        Some(previous) if smoothed && points[last].0 > end_ms => between(points[previous], points[last], end_ms),
        _ => points[last].1,
    };
    let inside = points[first..=last].iter().filter(|(t, _)| start_ms < *t && *t < end_ms).copied();
    std::iter::once((start_ms, left)).chain(inside).chain(std::iter::once((end_ms, right))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_windows_reach_their_edges() {
        let points = [(0, 1.0), (10, 2.0), (20, 4.0), (30, 8.0)];
        assert_eq!(up_to_edges(&points, 5, 25, true), [(5, 1.5), (10, 2.0), (20, 4.0), (25, 6.0)]);
        assert_eq!(up_to_edges(&points[..3], 5, 25, false), [(5, 1.0), (10, 2.0), (20, 4.0), (25, 4.0)]);
        assert!(up_to_edges(&points[..1], 5, 25, true).is_empty());
        assert!(up_to_edges(&[], 5, 25, true).is_empty());
    }
}
