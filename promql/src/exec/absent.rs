//! `absent` and `absent_over_time`: 1 at the steps where no series has a sample.

use async_trait::async_trait;

use crate::error::QueryError;
use crate::exec::plan::{GridOperator, GridStream};
use crate::exec::query_state::QueryState;
use crate::grid::{GridBatch, GridBuilder};

/// Puts out one series, number 0.
#[derive(Debug)]
pub(crate) struct Absent {
    pub width: usize,
}

#[async_trait]
impl GridOperator for Absent {
    fn name(&self) -> &'static str {
        "AbsentExec"
    }

    fn arguments(&self) -> String {
        String::new()
    }

    async fn run(&self, mut inputs: Vec<GridStream>, _: &QueryState) -> Result<Vec<GridBatch>, QueryError> {
        let mut out = GridBuilder::new(self.width, 1);
        let (values, absent) = out.push(0);
        values.fill(1.0);
        absent.fill(true);
        for input in &mut inputs {
            while let Some(batch) = input.next().await? {
                let (_, absent) = out.last();
                for row in batch.rows() {
                    absent.iter_mut().zip(row.valid).for_each(|(absent, present)| *absent &= !present);
                    row.histograms.iter().for_each(|(step, _)| absent[*step as usize] = false);
                }
            }
        }
        out.drop_empty();
        Ok(vec![out.finish()])
    }
}
