//! `and`, `or`, `unless`: samples pass by whether their signature is present on the other side at the same step.

use std::sync::Arc;

use async_trait::async_trait;

use crate::ast::BinaryOp;
use crate::error::QueryError;
use crate::exec::beside::{BatchFunction, BesideOperator};
use crate::exec::plan::{GridOperator, GridStream};
use crate::exec::query_state::QueryState;
use crate::grid::{GridBatch, GridBuilder, HistogramCell, Row};

/// A set operator; its series are those of the left side, then (`or` only) those of the right side.
#[derive(Debug)]
pub(crate) struct SetOperation {
    pub op: BinaryOp,
    pub left_signature: Vec<u32>,
    pub right_signature: Vec<u32>,
    pub signature_count: usize,
    pub width: usize,
}

/// Which signatures are present at which steps.
struct Presence {
    width: usize,
    steps: Vec<bool>,
}

impl Presence {
    fn new(signature_count: usize, width: usize) -> Presence {
        Presence { width, steps: vec![false; signature_count * width] }
    }

    fn of(&self, signature: u32) -> &[bool] {
        let start = signature as usize * self.width;
        &self.steps[start..start + self.width]
    }

    fn add(&mut self, signature: u32, row: Row<'_>) {
        let start = signature as usize * self.width;
        let steps = &mut self.steps[start..start + self.width];
        steps.iter_mut().zip(row.valid).for_each(|(present, valid)| *present |= valid);
        row.histograms.iter().for_each(|(step, _)| steps[*step as usize] = true);
    }
}

/// Appends the samples of `row` at the steps where `other` is `wanted`.
fn emit(series: u32, row: Row<'_>, other: &[bool], wanted: bool, out: &mut GridBuilder) {
    let (values, valid) = out.push(series);
    values.copy_from_slice(row.values);
    for ((valid, own), other) in valid.iter_mut().zip(row.valid).zip(other) {
        *valid = *own && *other == wanted;
    }
    if !row.histograms.is_empty() {
        let kept: Vec<HistogramCell> =
            row.histograms.iter().filter(|(step, _)| other[*step as usize] == wanted).cloned().collect();
        out.set_histograms(kept);
    }
    out.drop_empty();
}

/// `or`
#[async_trait]
impl GridOperator for SetOperation {
    fn name(&self) -> &'static str {
        "SetExec"
    }

    fn arguments(&self) -> String {
        let (left, right) = (self.left_signature.len(), self.right_signature.len());
        format!("{}, series={left} and {right}, signatures={}", self.op.symbol(), self.signature_count)
    }

    async fn run(&self, inputs: Vec<GridStream>, _: &QueryState) -> Result<Vec<GridBatch>, QueryError> {
        debug_assert!(self.op == BinaryOp::Or, "the others have a side that passes");
        let Ok([mut left, mut right]) = <[GridStream; 2]>::try_from(inputs) else {
            return Err(QueryError::execution("a set operator has two inputs"));
        };
        let mut presence = Presence::new(self.signature_count, self.width);
        let mut batches = Vec::new();
        while let Some(batch) = left.next().await? {
            for row in batch.rows() {
                presence.add(self.left_signature[row.series as usize], row);
            }
            batches.push(batch);
        }
        let offset = self.left_signature.len() as u32;
        while let Some(batch) = right.next().await? {
            let mut out = GridBuilder::new(self.width, batch.row_count());
            for row in batch.rows() {
                let taken = presence.of(self.right_signature[row.series as usize]);
                emit(offset + row.series, row, taken, false, &mut out);
            }
            batches.push(out.finish());
        }
        Ok(batches)
    }
}

/// `and`, `unless`: the left side passes beside the right one.
#[async_trait]
impl BesideOperator for SetOperation {
    async fn prepare(self: Arc<Self>, mut right: GridStream, _: &QueryState) -> Result<BatchFunction, QueryError> {
        let mut presence = Presence::new(self.signature_count, self.width);
        while let Some(batch) = right.next().await? {
            for row in batch.rows() {
                presence.add(self.right_signature[row.series as usize], row);
            }
            right.let_go();
        }
        Ok(Arc::new(move |batch, _| {
            let mut out = GridBuilder::new(self.width, batch.row_count());
            for row in batch.rows() {
                let other = presence.of(self.left_signature[row.series as usize]);
                emit(row.series, row, other, self.op == BinaryOp::And, &mut out);
            }
            Ok(out.finish())
        }))
    }
}
