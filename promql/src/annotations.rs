//! Warnings and infos that travel beside a result: their texts, their merging and their positions.
//!
//! Texts are the ones of Prometheus (`util/annotations`), because clients and tests match them. Two notes of equal text
//! are one, at the place of the one that Prometheus would write last.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::ast::Span;
use crate::kernels::format_g;
use crate::parser::quote::quote;

/// What a finished query reports beside its value, ready to print.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations {
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Warning,
    Info,
}

#[derive(Debug, Clone)]
struct Note {
    place: Place,
    detail: Detail,
}

/// Where a note points, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// What it points at.
    pub span: Span,
    /// The expression that writes it.
    pub owner: Span,
}

impl Place {
    /// Ascends in the order in which Prometheus evaluates: operands before operators, left before right.
    fn order(&self) -> (usize, Reverse<usize>, usize) {
        (self.owner.end, Reverse(self.owner.start), self.span.start)
    }
}

/// What merging adds up.
#[derive(Debug, Clone)]
enum Detail {
    None,
    ForcedMonotonicity { from_ms: i64, to_ms: i64, min_bucket: f64, max_bucket: f64, max_diff: f64, count: usize },
    Occurrences(usize),
}

/// Collects notes while a query runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes {
    notes: BTreeMap<(Level, String), Note>,
}

/// Which histogram arithmetic a note speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HistogramOperation {
    Addition,
    Subtraction,
    Aggregation,
}

impl HistogramOperation {
    fn name(self) -> &'static str {
        match self {
            HistogramOperation::Addition => "addition",
            HistogramOperation::Subtraction => "subtraction",
            HistogramOperation::Aggregation => "aggregation",
        }
    }
}

fn for_metric(metric: &str) -> String {
    if metric.is_empty() { String::new() } else { format!(" for metric name {}", quote(metric)) }
}

impl Notes {
    fn add(&mut self, level: Level, text: String, place: Place, detail: Detail) {
        self.notes
            .entry((level, text))
            .and_modify(|note| {
                if place.order() > note.place.order() {
                    note.place = place;
                }
                note.detail.merge(&detail);
            })
            .or_insert(Note { place, detail });
    }

    fn warn(&mut self, text: String, place: Place) {
        self.add(Level::Warning, text, place, Detail::None);
    }

    fn info(&mut self, text: String, place: Place) {
        self.add(Level::Info, text, place, Detail::None);
    }

    pub fn invalid_quantile(&mut self, quantile: f64, place: Place) {
        self.warn(format!("quantile value should be between 0 and 1, got {}", format_g(quantile)), place);
    }

    pub fn invalid_ratio(&mut self, ratio: f64, capped: f64, place: Place) {
        let (ratio, capped) = (format_g(ratio), format_g(capped));
        self.warn(format!("ratio value should be between -1 and 1, got {ratio}, capping to {capped}"), place);
    }

    pub fn bad_bucket_label(&mut self, metric: &str, label: &str, place: Place) {
        let (label, metric) = (quote(label), for_metric(metric));
        self.warn(format!("bucket label \"le\" is missing or has a malformed value of {label}{metric}"), place);
    }

    pub fn mixed_floats_histograms(&mut self, metric: &str, place: Place) {
        self.warn(format!("encountered a mix of histograms and floats for metric name {}", quote(metric)), place);
    }

    pub fn mixed_floats_histograms_in_aggregation(&mut self, place: Place) {
        self.warn("encountered a mix of histograms and floats for aggregation".to_owned(), place);
    }

    pub fn mixed_classic_native(&mut self, metric: &str, place: Place) {
        self.warn(format!("vector contains a mix of classic and native histograms{}", for_metric(metric)), place);
    }

    pub fn histogram_not_counter(&mut self, metric: &str, place: Place) {
        self.warn(format!("this native histogram metric is not a counter: {}", quote(metric)), place);
    }

    pub fn histogram_not_gauge(&mut self, metric: &str, place: Place) {
        self.warn(format!("this native histogram metric is not a gauge: {}", quote(metric)), place);
    }

    pub fn mixed_exponential_custom(&mut self, metric: &str, place: Place) {
        let metric = quote(metric);
        self.warn(
            format!(
                "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {metric}"
            ),
            place,
        );
    }

    pub fn incompatible_bucket_layout(&mut self, operator: &str, place: Place) {
        self.warn(format!("incompatible bucket layout encountered for binary operator {operator}"), place);
    }

    pub fn sort_in_range_query(&mut self, place: Place) {
        self.warn("sort is ineffective for range queries since results are always ordered by labels".to_owned(), place);
    }

    pub fn counter_reset_collision(&mut self, operation: HistogramOperation, place: Place) {
        self.warn(format!("conflicting counter resets during histogram {}", operation.name()), place);
    }

    pub fn start_time_overlap(&mut self, metric: &str, occurrences: usize, place: Place) {
        let text =
            format!("sample has start time that overlaps with previous sample timestamp for metric {}", quote(metric));
        self.add(Level::Warning, text, place, Detail::Occurrences(occurrences));
    }

    pub fn possible_non_counter(&mut self, metric: &str, place: Place) {
        let metric = quote(metric);
        self.info(
            format!("metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {metric}"),
            place,
        );
    }

    pub fn possible_non_counter_label(&mut self, metric: &str, kind: &str, place: Place) {
        let (kind, metric) = (quote(kind), quote(metric));
        self.info(
            format!(
                "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got {kind}: {metric}"
            ),
            place,
        );
    }

    pub fn incompatible_types(&mut self, left: &str, operator: &str, right: &str, place: Place) {
        self.info(
            format!(
                "incompatible sample types encountered for binary operator \"{operator}\": {left} {operator} {right}"
            ),
            place,
        );
    }

    pub fn histogram_ignored_in_aggregation(&mut self, aggregation: &str, place: Place) {
        self.info(format!("ignored histogram in {aggregation} aggregation"), place);
    }

    pub fn histogram_ignored_in_mixed_range(&mut self, metric: &str, place: Place) {
        let metric = quote(metric);
        self.info(
            format!("ignored histograms in a range containing both floats and histograms for metric name {metric}"),
            place,
        );
    }

    pub fn quantile_nan_result(&mut self, metric: &str, place: Place) {
        let metric = for_metric(metric);
        self.info(format!("input to histogram_quantile has NaN observations, result is NaN{metric}"), place);
    }

    pub fn quantile_nan_skew(&mut self, metric: &str, place: Place) {
        let metric = for_metric(metric);
        self.info(format!("input to histogram_quantile has NaN observations, result is skewed higher{metric}"), place);
    }

    pub fn fraction_nans(&mut self, metric: &str, place: Place) {
        let metric = for_metric(metric);
        self.info(
            format!("input to histogram_fraction has NaN observations, which are excluded from all fractions{metric}"),
            place,
        );
    }

    pub fn mismatched_custom_buckets(&mut self, operation: HistogramOperation, place: Place) {
        self.info(format!("mismatched custom buckets were reconciled during {}", operation.name()), place);
    }

    pub fn forced_monotonicity(
        &mut self,
        metric: &str,
        timestamp_ms: i64,
        min_bucket: f64,
        max_bucket: f64,
        max_diff: f64,
        place: Place,
    ) {
        let text = format!(
            "input to histogram_quantile needed to be fixed for monotonicity \
             (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){}",
            for_metric(metric)
        );
        let detail = Detail::ForcedMonotonicity {
            from_ms: timestamp_ms,
            to_ms: timestamp_ms,
            min_bucket,
            max_bucket,
            max_diff,
            count: 1,
        };
        self.add(Level::Info, text, place, detail);
    }

    /// The finished texts, ` (line:column)` of `query` behind each.
    pub fn render(&self, query: &str) -> Annotations {
        let mut annotations = Annotations::default();
        for ((level, text), note) in &self.notes {
            let (line, column) = line_column(query, note.place.span.start);
            let detail = note.detail.text();
            match level {
                Level::Warning => {
                    annotations.warnings.push(format!("PromQL warning: {text}{detail} ({line}:{column})"));
                }
                Level::Info => annotations.infos.push(format!("PromQL info: {text}{detail} ({line}:{column})")),
            }
        }
        annotations
    }
}

impl Detail {
    fn merge(&mut self, other: &Detail) {
        match (self, other) {
            (
                Detail::ForcedMonotonicity { from_ms, to_ms, min_bucket, max_bucket, max_diff, count },
                Detail::ForcedMonotonicity {
                    from_ms: other_from,
                    to_ms: other_to,
                    min_bucket: other_min,
                    max_bucket: other_max,
                    max_diff: other_diff,
                    count: other_count,
                },
            ) => {
                *from_ms = (*from_ms).min(*other_from);
                *to_ms = (*to_ms).max(*other_to);
                *min_bucket = min_bucket.min(*other_min);
                *max_bucket = max_bucket.max(*other_max);
                *max_diff = max_diff.max(*other_diff);
                *count += other_count;
            }
            (Detail::Occurrences(count), Detail::Occurrences(more)) => *count += more,
            _ => {}
        }
    }

    fn text(&self) -> String {
        match self {
            Detail::None => String::new(),
            Detail::Occurrences(count) if *count > 1 => format!(" ({count} occurrences)"),
            Detail::Occurrences(_) => String::new(),
            Detail::ForcedMonotonicity { from_ms, to_ms, min_bucket, max_bucket, max_diff, count } => format!(
                ", from buckets {} to {}, with a max diff of {}, over {count} samples from {} to {}",
                format_g(*min_bucket),
                format_g(*max_bucket),
                two_digits(*max_diff),
                rfc3339(*from_ms),
                rfc3339(*to_ms)
            ),
        }
    }
}

/// Go's `%.2g`.
fn two_digits(value: f64) -> String {
    let scientific = format!("{value:.1e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return format_g(value) };
    let Ok(exponent) = exponent.parse::<i32>() else { return format_g(value) };
    if (-4..2).contains(&exponent) {
        let fixed = format!("{value:.*}", (1 - exponent).max(0) as usize);
        if fixed.contains('.') { fixed.trim_end_matches('0').trim_end_matches('.').to_owned() } else { fixed }
    } else {
        let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{mantissa}e{sign}{:02}", exponent.abs())
    }
}

/// Seconds precision, UTC: `1970-01-01T00:05:00Z`.
fn rfc3339(timestamp_ms: i64) -> String {
    let seconds = timestamp_ms.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Civil date of a day number, by eras of 400 years that start in March.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// Line and column, both from 1, of a byte offset.
fn line_column(query: &str, position: usize) -> (usize, usize) {
    let position = position.min(query.len());
    let before = &query.as_bytes()[..position];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |index| index + 1);
    (line, position - line_start + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_note_at_the_last_position() {
        let mut notes = Notes::default();
        let place = |start, end| Place { span: Span { start, end }, owner: Span { start: 0, end } };
        notes.possible_non_counter("x", place(12, 13));
        notes.possible_non_counter("x", place(5, 6));
        let annotations = notes.render("rate(x[1m])\n+ 1");
        assert_eq!(
            annotations.infos,
            [
                "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"x\" (2:1)"
            ]
        );
    }

    #[test]
    fn dates_and_two_digit_numbers_read_as_in_go() {
        assert_eq!(rfc3339(1_700_000_000_123), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59Z");
        assert_eq!(two_digits(1.0), "1");
        assert_eq!(two_digits(1.25), "1.2");
        assert_eq!(two_digits(123.0), "1.2e+02");
        assert_eq!(two_digits(0.000_012), "1.2e-05");
    }
}
