//! `histogram_quantile`, `histogram_quantiles` and `histogram_fraction`, over classic buckets and native histograms.

use std::sync::Arc;

use async_trait::async_trait;

use crate::annotations::Place;
use crate::error::QueryError;
use crate::exec::histogram_cells;
use crate::exec::plan::{GridOperator, GridStream};
use crate::exec::query_state::QueryState;
use crate::exec::scalar::Scalar;
use crate::grid::{Grid, GridBatch, GridBuilder, Row, Steps};
use crate::kernels::{BucketRow, QuantileNotes, bucket_fraction_cells, bucket_quantile_cells, is_valid_quantile};
use crate::series_table::SeriesTable;

/// What a series is to the function.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Role {
    /// Its classic histogram and upper bound, where its `le` is a number.
    pub bucket: Option<(u32, f64)>,
    /// The classic histogram that has the labels of this series, which may then not be a native histogram as well.
    pub namesake: Option<u32>,
}

/// One result per histogram.
#[derive(Debug)]
pub(crate) struct Variant {
    pub measure: Measure,
    /// Only the steps at which the quantile has these bits; `histogram_quantiles` writes its value into a label.
    pub only: Option<u64>,
    /// Output series per classic histogram.
    pub classic: Vec<u32>,
    /// Output series per input series, for those that hold native histograms.
    pub native: Vec<u32>,
}

/// What is asked of a histogram.
#[derive(Debug)]
pub(crate) enum Measure {
    Quantile(Scalar, Place),
    Fraction(Scalar, Scalar),
}

/// A function over histograms.
#[derive(Debug)]
pub(crate) struct HistogramCall {
    pub name: &'static str,
    pub roles: Vec<Role>,
    pub classic_count: usize,
    pub variants: Vec<Variant>,
    pub input: Arc<SeriesTable>,
    pub steps: Steps,
    /// Whether notes name the metric: only while names are kept to the end.
    pub names_metric: bool,
    /// Where the vector stands.
    pub place: Place,
}

/// The classic histograms of a grid, by number.
struct Classic<'a> {
    rows: Vec<Vec<(f64, Row<'a>)>>,
    /// Steps at which a native histogram has the same labels.
    conflicts: Vec<Option<Vec<bool>>>,
}

impl HistogramCall {
    fn noted_name(&self, series: u32) -> &str {
        if self.names_metric { self.input.metric_name(series) } else { "" }
    }

    fn sort_rows<'a>(&self, grid: &'a Grid, query: &QueryState) -> Classic<'a> {
        let mut classic =
            Classic { rows: vec![Vec::new(); self.classic_count], conflicts: vec![None; self.classic_count] };
        for row in grid.rows().filter(|row| row.valid.contains(&true)) {
            match self.roles[row.series as usize].bucket {
                Some((histogram, bound)) => classic.rows[histogram as usize].push((bound, row)),
                None => {
                    let label = self.input.labels()[row.series as usize].get("le");
                    query.note(|notes| notes.bad_bucket_label(self.noted_name(row.series), label, self.place));
                }
            }
        }
        for row in grid.rows() {
            let Some(namesake) = self.roles[row.series as usize].namesake else { continue };
            let buckets = &classic.rows[namesake as usize];
            for (step, _) in row.histograms {
                if buckets.iter().any(|(_, bucket)| bucket.valid[*step as usize]) {
                    let name = self.noted_name(row.series);
                    query.note(|notes| notes.mixed_classic_native(name, self.place));
                    let steps = &mut classic.conflicts[namesake as usize];
                    steps.get_or_insert_with(|| vec![false; self.steps.count])[*step as usize] = true;
                }
            }
        }
        classic
    }

    fn note_quantiles(&self, query: &QueryState) {
        for variant in &self.variants {
            let Measure::Quantile(quantile, place) = &variant.measure else { continue };
            for value in quantile.distinct(self.steps.count) {
                if !is_valid_quantile(value) {
                    query.note(|notes| notes.invalid_quantile(value, *place));
                }
            }
        }
    }

    fn native_row(
        &self,
        variant: &Variant,
        row: Row<'_>,
        conflicts: Option<&Vec<bool>>,
        out: &mut GridBuilder,
        query: &QueryState,
    ) {
        let name = self.input.metric_name(row.series);
        let name = if self.names_metric { name } else { "" };
        let (values, valid) = out.push(variant.native[row.series as usize]);
        for (step, histogram) in row.histograms {
            let step = *step as usize;
            if conflicts.is_some_and(|conflicts| conflicts[step]) || !variant.covers(step) {
                continue;
            }
            values[step] = match &variant.measure {
                Measure::Quantile(quantile, _) => {
                    histogram_cells::quantile(quantile.at(step), histogram, name, self.place, query)
                }
                Measure::Fraction(lower, upper) => {
                    histogram_cells::fraction(lower.at(step), upper.at(step), histogram, name, self.place, query)
                }
            };
            valid[step] = true;
        }
        out.drop_empty();
    }

    fn classic_row(
        &self,
        variant: &Variant,
        histogram: usize,
        classic: &Classic<'_>,
        out: &mut GridBuilder,
        query: &QueryState,
    ) {
        let rows = &classic.rows[histogram];
        let Some((_, first)) = rows.first() else { return };
        let mut buckets: Vec<BucketRow<'_>> = rows
            .iter()
            .map(|(bound, row)| BucketRow { upper_bound: *bound, values: row.values, valid: row.valid })
            .collect();
        let (values, valid) = out.push(variant.classic[histogram]);
        match &variant.measure {
            Measure::Quantile(quantile, _) => {
                let mut notes = QuantileNotes::default();
                bucket_quantile_cells(quantile.param(), &mut buckets, values, valid, &mut notes);
                let name = self.noted_name(first.series);
                for forced in notes.forced_monotonicity {
                    let at_ms = self.steps.at(forced.step);
                    query.note(|all| {
                        let (min, max, diff) = (forced.min_bucket, forced.max_bucket, forced.max_diff);
                        all.forced_monotonicity(name, at_ms, min, max, diff, self.place);
                    });
                }
            }
            Measure::Fraction(lower, upper) => {
                bucket_fraction_cells(lower.param(), upper.param(), &mut buckets, values, valid);
            }
        }
        for (step, valid) in valid.iter_mut().enumerate() {
            let conflict = classic.conflicts[histogram].as_ref().is_some_and(|steps| steps[step]);
            *valid &= !conflict && variant.covers(step);
        }
        out.drop_empty();
    }
}

impl Variant {
    fn covers(&self, step: usize) -> bool {
        match (&self.measure, self.only) {
            (Measure::Quantile(quantile, _), Some(bits)) => quantile.at(step).to_bits() == bits,
            _ => true,
        }
    }
}

#[async_trait]
impl GridOperator for HistogramCall {
    fn name(&self) -> &'static str {
        "HistogramExec"
    }

    fn arguments(&self) -> String {
        format!("{}, classic histograms={} of series={}", self.name, self.classic_count, self.roles.len())
    }

    async fn run(&self, inputs: Vec<GridStream>, query: &QueryState) -> Result<Vec<GridBatch>, QueryError> {
        let mut out = GridBuilder::new(self.steps.count, 0);
        self.note_quantiles(query);
        for input in inputs {
            let grid = input.collect().await?;
            let classic = self.sort_rows(&grid, query);
            for variant in &self.variants {
                for row in grid.rows().filter(|row| !row.histograms.is_empty()) {
                    let namesake = self.roles[row.series as usize].namesake;
                    let conflicts = namesake.and_then(|namesake| classic.conflicts[namesake as usize].as_ref());
                    self.native_row(variant, row, conflicts, &mut out, query);
                }
                for histogram in 0..self.classic_count {
                    if histogram % 64 == 0 {
                        query.check()?;
                    }
                    self.classic_row(variant, histogram, &classic, &mut out, query);
                }
            }
        }
        Ok(vec![out.finish()])
    }
}
