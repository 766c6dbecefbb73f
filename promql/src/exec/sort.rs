//! The order of an instant query's rows: by value, or by labels.

use std::cmp::Ordering;

use async_trait::async_trait;

use crate::error::QueryError;
use crate::exec::plan::{GridOperator, GridStream};
use crate::exec::query_state::QueryState;
use crate::grid::{Grid, GridBatch, GridBuilder, Row};

/// What rows are ordered by.
#[derive(Debug)]
pub(crate) enum SortBy {
    /// `sort` and `sort_desc`: histograms disappear, NaN is last.
    Value { descending: bool },
    /// `sort_by_label` and `sort_by_label_desc`: the place of each series, known before.
    Place(Vec<u32>),
}

/// Orders rows of one step.
#[derive(Debug)]
pub(crate) struct Sort {
    pub by: SortBy,
}

fn by_value(a: f64, b: f64, descending: bool) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => {
            let ascending = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
            if descending { ascending.reverse() } else { ascending }
        }
    }
}

#[async_trait]
impl GridOperator for Sort {
    fn name(&self) -> &'static str {
        "SortExec"
    }

    fn arguments(&self) -> String {
        match &self.by {
            SortBy::Value { descending } => format!("by value, descending={descending}"),
            SortBy::Place(_) => "by labels".to_owned(),
        }
    }

    async fn run(&self, inputs: Vec<GridStream>, _: &QueryState) -> Result<Vec<GridBatch>, QueryError> {
        let mut batches = Vec::new();
        for input in inputs {
            let grid: Grid = input.collect().await?;
            let mut rows: Vec<Row<'_>> = grid.rows().filter(Row::has_samples).collect();
            let mut out = GridBuilder::new(1, rows.len());
            match &self.by {
                SortBy::Value { descending } => {
                    rows.retain(|row| row.valid[0]);
                    rows.sort_by(|a, b| by_value(a.values[0], b.values[0], *descending));
                }
                SortBy::Place(places) => rows.sort_by_key(|row| places[row.series as usize]),
            }
            for row in rows {
                out.push_row(row.series, row);
            }
            batches.push(out.finish());
        }
        Ok(batches)
    }
}

/// Compares texts as people do: runs of digits by their number, as far as 64 bits hold it.
///
/// Where Prometheus contradicts itself, saying of neither or of both texts that it comes first (one of them is empty, or
/// all their numbers are equal), the shorter comes first.
///
/// Source: `natsort.Compare`, used by Prometheus.
pub(crate) fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (pieces(a), pieces(b));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(l), Some(r)) if l == r => {}
            (Some(l), Some(r)) => match (l.parse::<i64>(), r.parse::<i64>()) {
                (Ok(l), Ok(r)) if l == r => {}
                (Ok(l), Ok(r)) => return l.cmp(&r),
                _ => return l.cmp(r),
            },
        }
    }
}

/// Runs of digits and runs of everything else.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let end = rest.find(|c: char| c.is_ascii_digit() != first.is_ascii_digit()).unwrap_or(rest.len());
        let (piece, tail) = rest.split_at(end);
        rest = tail;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_order_by_number() {
        let mut texts = ["a10", "a9", "a", "b1", "a09", "10", "9"];
        texts.sort_by(|a, b| natural_order(a, b));
        assert_eq!(texts, ["9", "10", "a", "a9", "a09", "a10", "b1"]);
        assert_eq!(natural_order("a01b2", "a1b1"), Ordering::Greater);
        assert_eq!(natural_order("99999999999999999999", "100000000000000000000"), Ordering::Greater);
    }

    #[test]
    fn nan_is_last_both_ways() {
        for descending in [false, true] {
            assert_eq!(by_value(f64::NAN, 1.0, descending), Ordering::Greater);
        }
        assert_eq!(by_value(2.0, 1.0, true), Ordering::Less);
    }
}
