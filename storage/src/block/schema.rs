//! The columns of a sample file.

use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::file::metadata::SortingColumn;
use parquet::schema::types::{Type, TypePtr};
use pilaster_model::METRIC_NAME;

use super::BlockError;

pub const SERIES_ID: &str = "series_id";
pub const METRIC: &str = "metric";
pub const LABELS: &str = "labels";
pub const TS: &str = "ts";
pub const VALUE_INT: &str = "value_int";
pub const VALUE_DIV: &str = "value_div";
pub const VALUE: &str = "value";
pub const START_TS: &str = "start_ts";
pub const HISTOGRAM: &str = "histogram";
pub const HISTOGRAM_COUNT: &str = "histogram_count";
pub const HISTOGRAM_SUM: &str = "histogram_sum";

/// Names that a promoted label cannot have as its column: ours, and the one that readers make of the path.
const TAKEN: [&str; 12] = [
    SERIES_ID,
    METRIC,
    LABELS,
    TS,
    VALUE_INT,
    VALUE_DIV,
    VALUE,
    START_TS,
    HISTOGRAM,
    HISTOGRAM_COUNT,
    HISTOGRAM_SUM,
    "date",
];

/// A column of a sample file, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Column {
    SeriesId,
    Metric,
    Labels,
    /// A label with a column of its own.
    Promoted {
        label: String,
        column: String,
    },
    Ts,
    ValueInt,
    ValueDiv,
    Value,
    StartTs,
    Histogram,
    HistogramCount,
    HistogramSum,
}

impl Column {
    fn name(&self) -> &str {
        match self {
            Column::SeriesId => SERIES_ID,
            Column::Metric => METRIC,
            Column::Labels => LABELS,
            Column::Promoted { column, .. } => column,
            Column::Ts => TS,
            Column::ValueInt => VALUE_INT,
            Column::ValueDiv => VALUE_DIV,
            Column::Value => VALUE,
            Column::StartTs => START_TS,
            Column::Histogram => HISTOGRAM,
            Column::HistogramCount => HISTOGRAM_COUNT,
            Column::HistogramSum => HISTOGRAM_SUM,
        }
    }

    fn parquet_type(&self) -> Result<Type, BlockError> {
        let (physical, logical, repetition) = match self {
            Column::SeriesId => (Physical::INT32, None, Repetition::REQUIRED),
            Column::Metric | Column::Labels => (Physical::BYTE_ARRAY, Some(LogicalType::String), Repetition::REQUIRED),
            Column::Promoted { .. } => (Physical::BYTE_ARRAY, Some(LogicalType::String), Repetition::OPTIONAL),
            Column::Ts => (Physical::INT64, Some(millis()), Repetition::REQUIRED),
            Column::StartTs => (Physical::INT64, Some(millis()), Repetition::OPTIONAL),
            Column::ValueInt => (Physical::INT64, None, Repetition::OPTIONAL),
            Column::ValueDiv | Column::Value | Column::HistogramCount | Column::HistogramSum => {
                (Physical::DOUBLE, None, Repetition::OPTIONAL)
            }
            Column::Histogram => (Physical::BYTE_ARRAY, None, Repetition::OPTIONAL),
        };
        let builder = Type::primitive_type_builder(self.name(), physical);
        Ok(builder.with_logical_type(logical).with_repetition(repetition).build()?)
    }
}

fn millis() -> LogicalType {
    LogicalType::timestamp(true, TimeUnit::MILLIS)
}

/// All columns of a file with these promoted labels, in order. Every file of a store has the same ones, also where they
/// are null throughout, so that a reader of many files sees one schema.
pub fn columns(promoted_labels: &[String]) -> Vec<Column> {
    let mut columns = vec![Column::SeriesId, Column::Metric, Column::Labels];
    let mut known: Vec<String> = TAKEN.iter().map(|&name| name.to_owned()).collect();
    for label in promoted_labels {
        // The metric's name has its column already. Many readers take column names without regard to case.
        let mut column = label.clone();
        if label == METRIC_NAME
            || label.is_empty()
            || columns.iter().any(|c| matches!(c, Column::Promoted { label: other, .. } if other == label))
        {
            continue;
        }
        while known.contains(&column.to_lowercase()) {
            column.insert_str(0, "label_");
        }
        known.push(column.to_lowercase());
        columns.push(Column::Promoted { label: label.clone(), column });
    }
    columns.extend([
        Column::Ts,
        Column::ValueInt,
        Column::ValueDiv,
        Column::Value,
        Column::StartTs,
        Column::Histogram,
        Column::HistogramCount,
        Column::HistogramSum,
    ]);
    columns
}

/// The Parquet schema of `columns`.
pub fn parquet_schema(columns: &[Column]) -> Result<TypePtr, BlockError> {
    let fields = columns.iter().map(|column| column.parquet_type().map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(Type::group_type_builder("samples").with_fields(fields).build()?))
}

/// What the rows are sorted by, as far as Parquet can say it: the rank of the series, then time.
pub fn sorting(columns: &[Column]) -> Vec<SortingColumn> {
    let by = |wanted: &[Column]| {
        let at = columns.iter().position(|column| wanted.contains(column));
        at.map(|at| SortingColumn { column_idx: at as i32, descending: false, nulls_first: false })
    };
    [by(&[Column::SeriesId]), by(&[Column::Ts])].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promoted_labels_never_collide() {
        let labels = ["job", "value", "Job", "job", "__name__", "label_value", "date"].map(str::to_owned);
        let names: Vec<String> = columns(&labels).iter().map(|column| column.name().to_owned()).collect();
        assert_eq!(
            names[3..8],
            ["job", "label_value", "label_Job", "label_label_value", "label_date"].map(str::to_owned)
        );
        let mut lower: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
        lower.sort();
        lower.dedup();
        assert_eq!(lower.len(), names.len());
        parquet_schema(&columns(&labels)).unwrap();
    }
}
