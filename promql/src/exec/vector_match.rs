//! Binary operators between two vectors: each sample of the "many" side meets the one sample of equal signature.
//!
//! Who meets whom and what the result is called is known before (see [`crate::prepare`]); what remains per step is who
//! is present. A pair of series that only meet each other is one kernel call over the whole row; everything else,
//! such as several series that take turns on the "one" side, goes step by step.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::HashMap;
use pilaster_model::Histogram;

use crate::annotations::Place;
use crate::ast::BinaryOp;
use crate::error::QueryError;
use crate::exec::beside::{BatchFunction, BesideOperator};
use crate::exec::histogram_cells::{self, Refusal};
use crate::exec::merge_series::merge_rows;
use crate::exec::plan::{GridOperator, GridStream};
use crate::exec::query_state::QueryState;
use crate::grid::{Grid, GridBatch, GridBuilder, HistogramCell, Row};
use crate::kernels::{self, Operand};
use crate::series_table::{Key, SeriesTable};

/// One operand: its series and the signature of each.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    pub table: Arc<SeriesTable>,
    /// Equal numbers match.
    pub signature: Vec<u32>,
}

/// Which output series a pair of input series has.
#[derive(Debug, Clone, Default)]
pub(crate) struct OutputNumbers {
    /// By series of the "many" side, where the "one" side adds no labels.
    pub by_many: Vec<u32>,
    /// By pair, where it does (`group_left(labels)`).
    pub by_pair: HashMap<(u32, u32), u32>,
    /// By series of the "many" side, where a fill value stands in for the "one" side.
    pub without_one: Vec<u32>,
    /// By series of the "one" side, where a fill value stands in for the "many" side.
    pub without_many: Vec<u32>,
    /// Input series that may end up in each output series.
    pub producers: Vec<u32>,
}

impl OutputNumbers {
    fn of(&self, many: u32, one: Option<u32>) -> u32 {
        match one {
            None => self.without_one[many as usize],
            Some(one) if self.by_many.is_empty() => self.by_pair[&(many, one)],
            Some(_) => self.by_many[many as usize],
        }
    }
}

/// A binary operator over two vectors.
#[derive(Debug, Clone)]
pub(crate) struct VectorMatch {
    pub op: BinaryOp,
    pub return_bool: bool,
    /// Neither `group_left` nor `group_right`.
    pub one_to_one: bool,
    /// The "many" side is the right operand.
    pub swapped: bool,
    pub many: Side,
    pub one: Side,
    pub signature_count: usize,
    pub outputs: OutputNumbers,
    /// In place of a missing sample of the "one" side.
    pub fill_one: Option<f64>,
    /// In place of a missing sample of the "many" side.
    pub fill_many: Option<f64>,
    pub on: bool,
    pub labels: Vec<String>,
    pub width: usize,
    pub place: Place,
}

/// The rows of one signature on the "one" side.
enum Ones<'a> {
    None,
    Single(Row<'a>),
    /// They take turns: per step the row that has the sample, `u32::MAX` for none.
    Turns(Vec<Row<'a>>, Vec<u32>),
}

impl<'a> Ones<'a> {
    fn at(&self, step: usize) -> Option<Row<'a>> {
        match self {
            Ones::None => None,
            Ones::Single(row) => row.is_present(step).then_some(*row),
            Ones::Turns(rows, turns) => rows.get(turns[step] as usize).copied(),
        }
    }
}

/// A float or a histogram.
enum Cell<'a> {
    Float(f64),
    Histogram(&'a Arc<Histogram>),
}

fn cell_of<'a>(row: &Row<'a>, step: usize) -> Cell<'a> {
    match row.histogram(step) {
        Some(histogram) if !row.valid[step] => Cell::Histogram(histogram),
        _ => Cell::Float(row.values[step]),
    }
}

/// Result cells of one output series that cannot be written straight into a batch.
struct Buffer {
    values: Vec<f64>,
    valid: Vec<bool>,
    histograms: Vec<HistogramCell>,
    /// Steps that hold a histogram.
    histogram_steps: Vec<bool>,
    /// Per step the signature that produced a pair last, plus 1.
    produced: Vec<u32>,
}

impl Buffer {
    fn new(width: usize) -> Buffer {
        Buffer {
            values: vec![0.0; width],
            valid: vec![false; width],
            histograms: Vec::new(),
            histogram_steps: vec![false; width],
            produced: vec![0; width],
        }
    }
}

/// Where two cells meet, and the output series of their result.
#[derive(Clone, Copy)]
struct Meeting {
    step: usize,
    signature: u32,
    output: u32,
}

/// State of one run.
struct Run<'a> {
    buffers: HashMap<u32, Buffer>,
    /// Outputs of `buffers` in order of appearance.
    order: Vec<u32>,
    /// Per signature the steps that already had a pair; only for signatures where it matters.
    matched: Vec<Option<Vec<bool>>>,
    ones: Vec<Ones<'a>>,
}

impl<'a> Run<'a> {
    fn new(matched: Vec<Option<Vec<bool>>>, ones: Vec<Ones<'a>>) -> Run<'a> {
        Run { buffers: HashMap::new(), order: Vec::new(), matched, ones }
    }

    /// Writes what could not be written straight away.
    fn finish(&mut self, out: &mut GridBuilder) -> Result<(), QueryError> {
        for output in &self.order {
            let Some(buffer) = self.buffers.get_mut(output) else { continue };
            buffer.histograms.sort_by_key(|(step, _)| *step);
            let row =
                Row { series: *output, values: &buffer.values, valid: &buffer.valid, histograms: &buffer.histograms };
            if row.has_samples() {
                merge_rows(*output, &[row], out)?;
            }
        }
        Ok(())
    }
}

impl VectorMatch {
    fn operands<'c>(&self, many: Cell<'c>, one: Cell<'c>) -> (Cell<'c>, Cell<'c>) {
        if self.swapped { (one, many) } else { (many, one) }
    }

    /// Sorts the "one" side by signature.
    ///
    /// # Errors
    /// Where two series of a signature have a sample at one step at which the operator runs.
    fn ones<'a>(&self, one: &'a Grid, runs: &[bool]) -> Result<Vec<Ones<'a>>, QueryError> {
        let mut ones: Vec<Ones<'a>> = Vec::new();
        ones.resize_with(self.signature_count, || Ones::None);
        for row in one.rows().filter(Row::has_samples) {
            let slot = &mut ones[self.one.signature[row.series as usize] as usize];
            match slot {
                Ones::None => *slot = Ones::Single(row),
                Ones::Single(first) => *slot = Ones::Turns(vec![*first, row], Vec::new()),
                Ones::Turns(rows, _) => rows.push(row),
            }
        }
        for slot in &mut ones {
            if let Ones::Turns(rows, turns) = slot {
                turns.resize(self.width, u32::MAX);
                for (index, row) in rows.iter().enumerate() {
                    for step in (0..self.width).filter(|step| row.is_present(*step)) {
                        if turns[step] != u32::MAX && runs[step] {
                            return Err(self.duplicate(rows[turns[step] as usize].series, row.series));
                        }
                        turns[step] = index as u32;
                    }
                }
            }
        }
        Ok(ones)
    }

    fn duplicate(&self, first: u32, second: u32) -> QueryError {
        let labels = &self.one.table.labels()[second as usize];
        let key = if self.on { Key::With(&self.labels) } else { Key::Without(&self.labels) };
        let group = key.labels(labels);
        let side = if self.swapped { "left" } else { "right" };
        // Ordered, so that the message does not depend on the order of evaluation.
        let mut pair = [&self.one.table.labels()[first as usize], labels].map(|labels| labels.to_string());
        pair.sort_unstable();
        let [first, second] = pair;
        QueryError::execution(format!(
            "found duplicate series for the match group {group} on the {side} hand-side of the operation: \
             [{first}, {second}];many-to-many matching not allowed: matching labels must be unique on one side"
        ))
    }

    /// One kernel call for two rows of floats; false where the step-by-step path has to do it.
    fn whole_row(&self, many: Row<'_>, ones: &Ones<'_>, run_matched: bool, out: &mut GridBuilder) -> bool {
        let Ones::Single(one) = ones else { return false };
        let trims = matches!(self.op, BinaryOp::TrimLower | BinaryOp::TrimUpper);
        if trims || run_matched || self.fill_one.is_some() || !many.histograms.is_empty() || !one.histograms.is_empty()
        {
            return false;
        }
        let output = self.outputs.of(many.series, Some(one.series));
        if self.outputs.producers[output as usize] > 1 {
            return false;
        }
        let (left, right) = if self.swapped { (*one, many) } else { (many, *one) };
        let (values, valid) = out.push(output);
        kernels::and_valid(left.valid, right.valid, valid);
        let (l, r) = (Operand::Cells(left.values), Operand::Cells(right.values));
        if !self.op.is_comparison() {
            kernels::arithmetic(self.op, l, r, values);
        } else if self.return_bool {
            kernels::compare_bool(self.op, l, r, values);
        } else {
            let mut keep = vec![false; valid.len()];
            kernels::compare(self.op, l, r, &mut keep);
            valid.iter_mut().zip(&keep).for_each(|(valid, keep)| *valid &= keep);
            values.copy_from_slice(left.values);
        }
        out.drop_empty();
        true
    }

    fn pair(
        &self,
        meeting: Meeting,
        many: Cell<'_>,
        one: Cell<'_>,
        run: &mut Run<'_>,
        query: &QueryState,
    ) -> Result<(), QueryError> {
        let Meeting { step, signature, output } = meeting;
        let (left, right) = self.operands(many, one);
        let Some(result) = self.evaluate(left, right, query)? else { return Ok(()) };
        let matched = run.matched[signature as usize].as_mut().map(|steps| std::mem::replace(&mut steps[step], true));
        if matched == Some(true) && self.one_to_one {
            return Err(QueryError::execution(
                "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
            ));
        }
        let order = &mut run.order;
        let buffer = run.buffers.entry(output).or_insert_with(|| {
            order.push(output);
            Buffer::new(self.width)
        });
        if !self.one_to_one && std::mem::replace(&mut buffer.produced[step], signature + 1) == signature + 1 {
            return Err(QueryError::execution(
                "multiple matches for labels: grouping labels must ensure unique matches",
            ));
        }
        let Some(result) = result else { return Ok(()) };
        if buffer.valid[step] || buffer.histogram_steps[step] {
            return Err(QueryError::same_labelset());
        }
        match result {
            Kept::Float(value) => (buffer.values[step], buffer.valid[step]) = (value, true),
            Kept::Histogram(histogram) => {
                buffer.histograms.push((step as u32, histogram));
                buffer.histogram_steps[step] = true;
            }
        }
        Ok(())
    }

    /// `None` where the operator refuses the pair, `Some(None)` where a comparison is false.
    fn evaluate(
        &self,
        left: Cell<'_>,
        right: Cell<'_>,
        query: &QueryState,
    ) -> Result<Option<Option<Kept>>, QueryError> {
        let refused = |left: &str, right: &str| {
            query.note(|notes| notes.incompatible_types(left, self.op.symbol(), right, self.place));
            Ok(None)
        };
        let kept = match (left, right) {
            (Cell::Float(l), Cell::Float(r)) => {
                if matches!(self.op, BinaryOp::TrimLower | BinaryOp::TrimUpper) {
                    return refused("float", "float");
                }
                let result = kernels::scalar(self.op, l, r);
                if !self.op.is_comparison() {
                    Some(Kept::Float(result))
                } else {
                    (result == 1.0).then_some(Kept::Float(l))
                }
            }
            (Cell::Float(l), Cell::Histogram(r)) => match histogram_cells::float_with_histogram(self.op, l, r) {
                Some(result) => Some(Kept::Histogram(result)),
                None => return refused("float", "histogram"),
            },
            (Cell::Histogram(l), Cell::Float(r)) => match histogram_cells::histogram_with_float(self.op, l, r) {
                Some(result) => Some(Kept::Histogram(result)),
                None => return refused("histogram", "float"),
            },
            (Cell::Histogram(l), Cell::Histogram(r)) => {
                match histogram_cells::histogram_with_histogram(self.op, l, r, self.place, query) {
                    Ok(result) => result.map(Kept::Histogram),
                    Err(Refusal::Types) => return refused("histogram", "histogram"),
                    Err(Refusal::Noted) => return Ok(None),
                }
            }
        };
        if self.return_bool {
            return Ok(Some(Some(Kept::Float(if kept.is_some() { 1.0 } else { 0.0 }))));
        }
        Ok(Some(kept))
    }

    fn many_row(
        &self,
        many: Row<'_>,
        run: &mut Run<'_>,
        out: &mut GridBuilder,
        query: &QueryState,
    ) -> Result<(), QueryError> {
        let signature = self.many.signature[many.series as usize];
        let run_matched = run.matched[signature as usize].is_some();
        if self.whole_row(many, &run.ones[signature as usize], run_matched, out) {
            return Ok(());
        }
        self.step_by_step(many, signature, run, query)
    }

    /// `signature` is a position in the lists of `run`.
    fn step_by_step(
        &self,
        many: Row<'_>,
        signature: u32,
        run: &mut Run<'_>,
        query: &QueryState,
    ) -> Result<(), QueryError> {
        for step in (0..self.width).filter(|step| many.is_present(*step)) {
            let partner = run.ones[signature as usize].at(step);
            let (one, output) = match (&partner, self.fill_one) {
                (Some(one), _) => (cell_of(one, step), self.outputs.of(many.series, Some(one.series))),
                (None, Some(fill)) => (Cell::Float(fill), self.outputs.of(many.series, None)),
                (None, None) => continue,
            };
            self.pair(Meeting { step, signature, output }, cell_of(&many, step), one, run, query)?;
        }
        Ok(())
    }

    /// Samples of the "one" side that met nobody.
    fn unmatched_ones(&self, one: &Grid, fill: f64, run: &mut Run<'_>, query: &QueryState) -> Result<(), QueryError> {
        let before: Vec<Option<Vec<bool>>> = run.matched.clone();
        for row in one.rows() {
            let signature = self.one.signature[row.series as usize];
            let output = self.outputs.without_many[row.series as usize];
            for step in (0..self.width).filter(|step| row.is_present(*step)) {
                if before[signature as usize].as_ref().is_some_and(|matched| matched[step]) {
                    continue;
                }
                let meeting = Meeting { step, signature, output };
                self.pair(meeting, Cell::Float(fill), cell_of(&row, step), run, query)?;
            }
        }
        Ok(())
    }

    /// Per signature a list of steps, where matches have to be remembered.
    fn matched(&self, many: &Grid) -> Vec<Option<Vec<bool>>> {
        let mut counts = vec![0_u32; self.signature_count];
        for row in many.rows().filter(Row::has_samples) {
            counts[self.many.signature[row.series as usize] as usize] += 1;
        }
        let needed = |count: &u32| self.fill_many.is_some() || (self.one_to_one && *count > 1);
        counts.iter().map(|count| needed(count).then(|| vec![false; self.width])).collect()
    }
}

/// A result cell.
enum Kept {
    Float(f64),
    Histogram(Arc<Histogram>),
}

/// Per step whether any row has a sample.
fn present_steps(grid: &Grid, width: usize) -> Vec<bool> {
    let mut present = vec![false; width];
    for row in grid.rows() {
        present.iter_mut().zip(row.valid).for_each(|(present, valid)| *present |= valid);
        row.histograms.iter().for_each(|(step, _)| present[*step as usize] = true);
    }
    present
}

impl VectorMatch {
    /// Whether a series of the "many" side meets one series at most, with which it makes a series of its own: then nothing
    /// has to be known of the others.
    pub fn meets_one_at_most(&self) -> bool {
        let occurs_once = |signatures: &[u32]| {
            let mut seen = vec![false; self.signature_count];
            signatures.iter().all(|&signature| !std::mem::replace(&mut seen[signature as usize], true))
        };
        self.fill_one.is_none()
            && self.fill_many.is_none()
            && self.outputs.producers.iter().all(|&producers| producers <= 1)
            && occurs_once(&self.one.signature)
            && (!self.one_to_one || occurs_once(&self.many.signature))
    }

    fn beside(
        &self,
        many: &GridBatch,
        one: &Grid,
        one_of: &[u32],
        query: &QueryState,
    ) -> Result<GridBatch, QueryError> {
        let mut out = GridBuilder::new(self.width, many.row_count());
        for (index, row) in many.rows().enumerate() {
            if index % 256 == 0 {
                query.check()?;
            }
            let signature = self.many.signature[row.series as usize];
            let Some(one) = one.get(one_of[signature as usize]) else { continue };
            let one = Ones::Single(one);
            if !self.whole_row(row, &one, false, &mut out) {
                let mut run = Run::new(vec![None], vec![one]);
                self.step_by_step(row, 0, &mut run, query)?;
                run.finish(&mut out)?;
            }
        }
        Ok(out.finish())
    }
}

/// Where the "many" side [meets one at most](VectorMatch::meets_one_at_most), it passes beside the "one" side.
#[async_trait]
impl BesideOperator for VectorMatch {
    async fn prepare(self: Arc<Self>, one: GridStream, _: &QueryState) -> Result<BatchFunction, QueryError> {
        let one = one.collect().await?;
        let mut one_of = vec![u32::MAX; self.signature_count];
        for (series, &signature) in self.one.signature.iter().enumerate() {
            one_of[signature as usize] = series as u32;
        }
        Ok(Arc::new(move |many, query| self.beside(&many, &one, &one_of, query)))
    }
}

#[async_trait]
impl GridOperator for VectorMatch {
    fn name(&self) -> &'static str {
        "VectorMatchExec"
    }

    fn arguments(&self) -> String {
        let (many, one) = (self.many.table.len(), self.one.table.len());
        let kind = if self.one_to_one { "one-to-one" } else { "many-to-one" };
        format!("{} {kind}, series={many} and {one}, signatures={}", self.op.symbol(), self.signature_count)
    }

    /// Inputs: the "many" side, then the "one" side.
    async fn run(&self, inputs: Vec<GridStream>, query: &QueryState) -> Result<Vec<GridBatch>, QueryError> {
        let Ok([many, one]) = <[GridStream; 2]>::try_from(inputs) else {
            return Err(QueryError::execution("a vector match has two inputs"));
        };
        let (many, one) = (many.collect().await?, one.collect().await?);
        match self.join(&many, &one, query) {
            Err(error @ QueryError::Execution(_)) => Err(self.first_error(&many, &one, query).unwrap_or(error)),
            joined => joined,
        }
    }
}

impl VectorMatch {
    /// The error of the first step that has one: that is what Prometheus, which goes step by step, ends with.
    fn first_error(&self, many: &Grid, one: &Grid, query: &QueryState) -> Option<QueryError> {
        let narrow = VectorMatch { width: 1, ..self.clone() };
        let mut steps = 0..self.width;
        steps.find_map(|step| narrow.join(&many.column(step), &one.column(step), query).err())
    }

    fn join(&self, many: &Grid, one: &Grid, query: &QueryState) -> Result<Vec<GridBatch>, QueryError> {
        let filled = self.fill_one.is_some() || self.fill_many.is_some();
        if (many.is_empty() || one.is_empty()) && !filled {
            return Ok(Vec::new());
        }
        // With nothing on one side of a step, that step is over before duplicates are looked for.
        let runs = if filled { vec![true; self.width] } else { present_steps(many, self.width) };
        let ones = self.ones(one, &runs)?;
        let mut run = Run::new(self.matched(many), ones);
        let mut out = GridBuilder::new(self.width, many.row_count());
        for (index, row) in many.rows().enumerate() {
            if index % 256 == 0 {
                query.check()?;
            }
            self.many_row(row, &mut run, &mut out, query)?;
        }
        if let Some(fill) = self.fill_many {
            self.unmatched_ones(one, fill, &mut run, query)?;
        }
        run.finish(&mut out)?;
        Ok(vec![out.finish()])
    }
}
