//! Series whose labels became equal become one series, as long as they never have a sample at the same step.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::HashMap;
use pilaster_model::Labels;

use crate::error::QueryError;
use crate::exec::plan::{GridOperator, GridStream};
use crate::exec::query_state::QueryState;
use crate::grid::{Grid, GridBatch, GridBuilder, HistogramCell, Row};
use crate::series_table::{Merged, SeriesTable};

/// When equal labels are an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Collision {
    /// As soon as two of the series have samples, at whatever times: range functions.
    AnySample,
    /// Where two have a sample at one step: everything else.
    SameStep,
}

/// Merges rows by `target`.
#[derive(Debug)]
pub(crate) struct MergeSeries {
    /// New number per old one.
    pub target: Vec<u32>,
    pub collision: Collision,
    /// The labels before the merge, to recognise a series in another tile.
    pub before: Arc<SeriesTable>,
    pub after: Arc<SeriesTable>,
    pub width: usize,
    /// Where in the query the merge happens.
    pub position: usize,
    pub names: UndecidedNames,
}

/// Series merged from some that drop their name in the end and others that do not: in Prometheus the one with the first sample
/// decides for all.
#[derive(Debug, Default)]
pub(crate) struct UndecidedNames {
    /// By the number of such a series, that of its twin, which does with its name what it does not.
    twins: HashMap<u32, u32>,
    /// What series were before the merge.
    sources: Arc<SeriesTable>,
    /// Where in the query it is decided.
    position: usize,
}

impl UndecidedNames {
    /// The series of `merged`, and behind them twins, where its `sources` differ.
    pub fn of(merged: &Merged, sources: &Arc<SeriesTable>, position: usize) -> (Arc<SeriesTable>, UndecidedNames) {
        let Merged { target, table } = merged;
        let mut twins = HashMap::new();
        if sources.drops_any_name() {
            for (source, &target) in target.iter().enumerate() {
                if sources.drops_name(source) != table.drops_name(target as usize) {
                    let next = (table.len() + twins.len()) as u32;
                    twins.entry(target).or_insert(next);
                }
            }
        }
        if twins.is_empty() {
            return (Arc::clone(table), UndecidedNames::default());
        }
        let mut of_twins: Vec<(u32, u32)> = twins.iter().map(|(&target, &twin)| (twin, target)).collect();
        of_twins.sort_unstable();
        let of_twins = of_twins.iter().map(|(_, target)| *target as usize);
        let labels = table.labels().iter().chain(of_twins.clone().map(|target| &table.labels()[target])).cloned();
        let own = (0..table.len()).map(|series| table.drops_name(series));
        let drop_name = own.chain(of_twins.map(|target| !table.drops_name(target))).collect();
        let table = Arc::new(SeriesTable::with_drop_names(labels.collect(), drop_name));
        (table, UndecidedNames { twins, sources: Arc::clone(sources), position })
    }
}

#[async_trait]
impl GridOperator for MergeSeries {
    fn name(&self) -> &'static str {
        "MergeSeriesExec"
    }

    fn arguments(&self) -> String {
        format!("series={} from {}", self.after.len(), self.target.len())
    }

    async fn run(&self, inputs: Vec<GridStream>, query: &QueryState) -> Result<Vec<GridBatch>, QueryError> {
        let mut sources: Vec<Vec<u32>> = vec![Vec::new(); self.after.len()];
        let mut grids = Vec::new();
        for input in inputs {
            grids.push(input.collect().await?);
        }
        for row in grids.iter().flat_map(Grid::rows).filter(Row::has_samples) {
            sources[self.target[row.series as usize] as usize].push(row.series);
        }
        let mut out = GridBuilder::new(self.width, self.after.len());
        for (target, sources) in sources.iter().enumerate().filter(|(_, sources)| !sources.is_empty()) {
            if self.collision == Collision::AnySample {
                if sources.len() > 1 {
                    return Err(QueryError::same_labelset());
                }
                let labels: &Labels = &self.before.labels()[sources[0] as usize];
                query.claim_labels(self.position, &self.after.labels()[target], labels)?;
            }
            let rows: Vec<Row<'_>> =
                sources.iter().filter_map(|series| grids.iter().find_map(|grid| grid.get(*series))).collect();
            let number = self.named(target as u32, &rows, query);
            merge_rows(number, &rows, &mut out)?;
        }
        Ok(vec![out.finish()])
    }
}

impl MergeSeries {
    /// `target` or its twin.
    fn named(&self, target: u32, rows: &[Row<'_>], query: &QueryState) -> u32 {
        let Some(&twin) = self.names.twins.get(&target) else { return target };
        let first_step = |row: &&Row<'_>| (0..self.width).find(|step| row.is_present(*step));
        let Some(first) = rows.iter().min_by_key(first_step) else { return target };
        let drops = self.names.sources.drops_name(first.series as usize);
        let drops = query.decide_name(self.names.position, &self.after.labels()[target as usize], drops);
        if drops == self.after.drops_name(target as usize) { target } else { twin }
    }
}

/// Appends one row that holds the samples of all `rows`.
pub(crate) fn merge_rows(target: u32, rows: &[Row<'_>], out: &mut GridBuilder) -> Result<(), QueryError> {
    let [first, rest @ ..] = rows else { return Ok(()) };
    if rest.is_empty() {
        out.push_row(target, *first);
        return Ok(());
    }
    let (values, valid) = out.push(target);
    let mut histograms: Vec<HistogramCell> = Vec::new();
    let mut taken = vec![false; valid.len()];
    for row in rows {
        for step in 0..valid.len() {
            if row.is_present(step) && std::mem::replace(&mut taken[step], true) {
                return Err(QueryError::same_labelset());
            }
            if row.valid[step] {
                (values[step], valid[step]) = (row.values[step], true);
            }
        }
        histograms.extend_from_slice(row.histograms);
    }
    histograms.sort_by_key(|(step, _)| *step);
    out.set_histograms(histograms);
    Ok(())
}
