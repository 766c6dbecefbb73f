//! `info(v, {data labels})`: adds labels of info metrics. Which ones a series gets may change from step to step, so it
//! is computed while preparing.
//!
//! Source: Prometheus 3.15 `promql/info.go`; 3.14.0 neither looks info series up at the times of the selectors nor leaves out
//! names that are to be dropped, which its scripts already ask for, and where some series lack an identifying label, it does not
//! find those that describe them.

use std::sync::Arc;

use datafusion::common::HashMap;
use pilaster_model::{Labels, METRIC_NAME, MatchOp, Matcher, TimeRange};

use crate::ast::{Expr, ExprKind, VectorSelector};
use crate::error::QueryError;
use crate::exec::merge_series::merge_rows;
use crate::exec::select::{InstantCall, InstantValue, Sampler, Select};
use crate::grid::{Grid, GridBuilder, HistogramCell, Row};
use crate::prepare::node::Node;
use crate::prepare::references::shared_pin;
use crate::prepare::times::Pin;
use crate::prepare::{Evaluation, Preparer, unwrap_parens};
use crate::series_table::SeriesTable;

/// The labels that an info series shares with the series it describes.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// What is looked for where nothing else is named.
const DEFAULT_METRIC: &str = "target_info";

/// The second argument.
struct DataLabels {
    /// All but those on the metric's name.
    matchers: Vec<Matcher>,
    /// What info metrics are called.
    names: Vec<Matcher>,
}

impl DataLabels {
    fn new(selector: Option<&VectorSelector>) -> Result<DataLabels, QueryError> {
        let all = selector.map_or(&[][..], |selector| &selector.matchers);
        let (mut names, matchers): (Vec<Matcher>, Vec<Matcher>) =
            all.iter().cloned().partition(|matcher| matcher.name() == METRIC_NAME);
        let positive = |matcher: &Matcher| matches!(matcher.op(), MatchOp::Equal | MatchOp::Regex);
        if names.is_empty() {
            names.push(Matcher::equal(METRIC_NAME, DEFAULT_METRIC));
        } else if !names.iter().any(positive) {
            names.insert(0, matcher(MatchOp::Regex, METRIC_NAME, ".+_info")?);
        }
        Ok(DataLabels { matchers, names })
    }

    /// Whether a series is an info series itself, which gets no labels.
    fn is_info(&self, labels: &Labels) -> bool {
        self.names.iter().all(|matcher| matcher.matches(labels.metric_name()))
    }

    fn wants(&self, name: &str) -> bool {
        name != METRIC_NAME && (self.matchers.is_empty() || self.matchers.iter().any(|matcher| matcher.name() == name))
    }

    /// Whether a series without info series stays.
    fn optional(&self) -> bool {
        self.matchers.iter().all(|matcher| matcher.matches(""))
    }
}

fn matcher(op: MatchOp, name: &str, value: &str) -> Result<Matcher, QueryError> {
    Matcher::new(op, name, value).map_err(|error| QueryError::execution(error.to_string()))
}

/// The info series of one identity, by metric name, each with its row of sample times.
type InfoSeries<'a> = Vec<(&'a str, Vec<(&'a Labels, Row<'a>)>)>;

impl Preparer {
    pub(super) async fn info(&self, _: &Expr, args: &[Expr], evaluation: Evaluation) -> Result<Node, QueryError> {
        let (vector, selector) = match args {
            [vector] => (vector, None),
            [vector, data] => match &unwrap_parens(data).kind {
                ExprKind::VectorSelector(selector) => (vector, Some(selector)),
                _ => return Err(QueryError::BadData("info takes a selector as second argument".to_owned())),
            },
            _ => return Err(QueryError::BadData("info takes one or two arguments".to_owned())),
        };
        let data = DataLabels::new(selector)?;
        // The evaluation time where there is none.
        let pin = shared_pin(vector, &self.range)?.unwrap_or(Pin { offset_ms: 0, at_ms: None });
        let node = self.vector(vector, evaluation).await?;
        let table = Arc::clone(&node.table);
        let base = self.collect(node).await?;
        let mut info = Vec::new();
        for identities in identities(&base, &table, &data)? {
            let node = self.info_series(identities, &data, pin, evaluation)?;
            info.push((Arc::clone(&node.table), self.collect(node).await?));
        }
        combine(&base, &table, &info, &data, evaluation.steps.count)
    }

    fn info_series(
        &self,
        mut matchers: Vec<Matcher>,
        data: &DataLabels,
        pin: Pin,
        evaluation: Evaluation,
    ) -> Result<Node, QueryError> {
        matchers.extend(data.matchers.iter().chain(&data.names).cloned());
        let grid = pin.grid(evaluation.steps, self.options.lookback_ms);
        let range = TimeRange::new(grid.start_ms(0).saturating_add(1), grid.end_ms(grid.steps - 1));
        let selection = self.source.select(&matchers, range)?;
        let table = Arc::new(SeriesTable::of_selection(Arc::clone(&selection)));
        let counts = self.query.counts(evaluation.counts);
        let sampler = Sampler::Instant(InstantCall { grid, value: InstantValue::InfoTimestamp, counts });
        let width = evaluation.steps.count;
        let text = "info series".to_owned();
        Ok(Node::leaf(
            Select { selection, table, sampler, width, chunk_series: 256, order: None, stats_only: false, text },
            1,
        ))
    }
}

/// Matchers for the identities that occur, for each set of identifying labels that some series have and others lack; none for
/// series that have no such label.
fn identities(base: &Grid, table: &SeriesTable, data: &DataLabels) -> Result<Vec<Vec<Matcher>>, QueryError> {
    let mut identities: Vec<[&str; 2]> = base
        .rows()
        .filter(Row::has_samples)
        .map(|row| &table.labels()[row.series as usize])
        .filter(|labels| !data.is_info(labels))
        .map(identity)
        .collect();
    let has = |[instance, job]: &[&str; 2]| (!instance.is_empty(), !job.is_empty());
    identities.sort_unstable_by_key(|identity| (has(identity), *identity));
    let sets = identities.chunk_by(|one, other| has(one) == has(other)).filter(|set| has(&set[0]) != (false, false));
    sets.map(|set| {
        (0..IDENTIFYING.len()).map(|at| one_of(IDENTIFYING[at], set.iter().map(|identity| identity[at]))).collect()
    })
    .collect()
}

/// A matcher for these values, or for none where they are empty.
fn one_of<'a>(name: &str, values: impl Iterator<Item = &'a str>) -> Result<Matcher, QueryError> {
    let mut values: Vec<&str> = values.collect();
    values.sort_unstable();
    values.dedup();
    match values.as_slice() {
        [""] => Ok(Matcher::equal(name, "")),
        _ => matcher(MatchOp::Regex, name, &values.into_iter().map(quote_meta).collect::<Vec<_>>().join("|")),
    }
}

/// Go's `regexp.QuoteMeta`.
fn quote_meta(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for character in text.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted
}

fn identity(labels: &Labels) -> [&str; 2] {
    IDENTIFYING.map(|name| labels.get(name))
}

/// Per identity its info series.
fn by_identity(info: &[(Arc<SeriesTable>, Grid)]) -> HashMap<[&str; 2], InfoSeries<'_>> {
    let mut identities: HashMap<[&str; 2], InfoSeries<'_>> = HashMap::new();
    let rows = info.iter().flat_map(|(table, grid)| grid.rows().map(move |row| (table, row)));
    for (table, row) in rows.filter(|(_, row)| row.has_samples()) {
        let labels = &table.labels()[row.series as usize];
        let metrics = identities.entry(identity(labels)).or_default();
        match metrics.iter_mut().find(|(name, _)| *name == labels.metric_name()) {
            Some((_, series)) => series.push((labels, row)),
            None => metrics.push((labels.metric_name(), vec![(labels, row)])),
        }
    }
    identities
}

/// The newest info series of one metric at `step`.
fn newest<'a>(series: &[(&'a Labels, Row<'a>)], step: usize) -> Result<Option<&'a Labels>, QueryError> {
    let mut best: Option<(&Labels, f64)> = None;
    for (labels, row) in series.iter().filter(|(_, row)| row.valid[step]) {
        let time = row.values[step];
        match best {
            Some((known, at)) if at == time => {
                let at_ms = (time * 1000.0).round();
                return Err(QueryError::execution(format!(
                    "found duplicate series for info metric: existing {known} @ {at_ms}, new {labels} @ {at_ms}"
                )));
            }
            Some((_, at)) if at > time => {}
            _ => best = Some((labels, time)),
        }
    }
    Ok(best.map(|(labels, _)| labels))
}

/// The labels of a series with those of its info series; `None` where the series has to have some and has none.
fn enriched(base: &Labels, infos: &[&Labels], data: &DataLabels) -> Result<Option<Labels>, QueryError> {
    let mut added: Vec<(&str, &str)> = Vec::new();
    for (name, value) in infos.iter().flat_map(|labels| labels.iter()).filter(|(name, _)| data.wants(name)) {
        match added.iter().find(|(known, _)| *known == name) {
            Some((_, known)) if *known != value => {
                return Err(QueryError::execution(format!("conflicting label: {name}")));
            }
            Some(_) => {}
            None if base.find(name).is_none() => added.push((name, value)),
            None => {}
        }
    }
    if infos.is_empty() && !data.optional() {
        return Ok(None);
    }
    let mut builder = base.to_builder();
    for (name, value) in added {
        builder.set(name, value);
    }
    Ok(Some(builder.build()))
}

/// Cells of one output series.
struct Pending {
    values: Vec<f64>,
    valid: Vec<bool>,
    histograms: Vec<HistogramCell>,
    /// Steps that hold a sample of either kind.
    taken: Vec<bool>,
}

/// Output series in order of appearance.
#[derive(Default)]
struct Output {
    numbers: HashMap<Labels, usize>,
    labels: Vec<Labels>,
    drop_name: Vec<bool>,
    rows: Vec<Pending>,
}

impl Output {
    fn number(&mut self, labels: Labels, drop_name: bool, width: usize) -> usize {
        let next = self.labels.len();
        let number = *self.numbers.entry(labels.clone()).or_insert(next);
        if number == next {
            self.labels.push(labels);
            self.drop_name.push(drop_name);
            let (values, valid) = (vec![0.0; width], vec![false; width]);
            self.rows.push(Pending { values, valid, histograms: Vec::new(), taken: vec![false; width] });
        }
        number
    }

    fn set(&mut self, number: usize, row: Row<'_>, step: usize) -> Result<(), QueryError> {
        let pending = &mut self.rows[number];
        if std::mem::replace(&mut pending.taken[step], true) {
            return Err(QueryError::same_labelset());
        }
        match row.histogram(step) {
            Some(histogram) if !row.valid[step] => pending.histograms.push((step as u32, Arc::clone(histogram))),
            _ => (pending.values[step], pending.valid[step]) = (row.values[step], true),
        }
        Ok(())
    }
}

fn combine(
    base: &Grid,
    table: &SeriesTable,
    info: &[(Arc<SeriesTable>, Grid)],
    data: &DataLabels,
    width: usize,
) -> Result<Node, QueryError> {
    let identities = by_identity(info);
    let mut output = Output::default();
    for row in base.rows() {
        let labels = &table.labels()[row.series as usize];
        let drop_name = table.drops_name(row.series as usize);
        let ignored = data.is_info(labels);
        let metrics = identities.get(&identity(labels)).filter(|_| !ignored);
        // Info series rarely change: the labels of the step before mostly serve again.
        let mut last: Option<(Vec<&Labels>, Option<usize>)> = None;
        for step in (0..width).filter(|step| row.is_present(*step)) {
            let mut infos = Vec::new();
            for (_, series) in metrics.into_iter().flatten() {
                infos.extend(newest(series, step)?);
            }
            let known = last.as_ref().filter(|(known, _)| *known == infos).map(|(_, number)| *number);
            let number = match known {
                Some(number) => number,
                None if ignored => Some(output.number(labels.clone(), drop_name, width)),
                None => enriched(labels, &infos, data)?.map(|labels| output.number(labels, drop_name, width)),
            };
            if let Some(number) = number {
                output.set(number, row, step)?;
            }
            last = Some((infos, number));
        }
    }
    let mut builder = GridBuilder::new(width, output.rows.len());
    for (number, pending) in output.rows.iter_mut().enumerate() {
        pending.histograms.sort_by_key(|(step, _)| *step);
        let row = Row {
            series: number as u32,
            values: &pending.values,
            valid: &pending.valid,
            histograms: &pending.histograms,
        };
        merge_rows(number as u32, &[row], &mut builder)?;
    }
    let table = Arc::new(SeriesTable::with_drop_names(output.labels, output.drop_name));
    Ok(Node::known(vec![builder.finish()], table, width, "info"))
}
