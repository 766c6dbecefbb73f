//! The server's own metrics: a small registry, and what goes into it.
//!
//! Families are described once, series appear when first used. `/metrics` is written in the text format 0.0.4, names
//! and labels ascending, so that two reads of an idle server differ in values only.

mod process;
mod server;

pub use server::ServerMetrics;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    pub fn add(&self, change: f64) {
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bits| Some((f64::from_bits(bits) + change).to_bits()));
    }

    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// Observations counted in buckets with ascending upper bounds.
#[derive(Debug)]
pub struct Buckets {
    bounds: &'static [f64],
    /// One more than there are bounds.
    counts: Vec<AtomicU64>,
    sum: Gauge,
}

impl Buckets {
    fn new(bounds: &'static [f64]) -> Buckets {
        Buckets {
            bounds,
            counts: std::iter::repeat_with(AtomicU64::default).take(bounds.len() + 1).collect(),
            sum: Gauge::default(),
        }
    }

    pub fn observe(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.add(value);
    }
}

/// Count, sum, and quantiles of the latest observations.
#[derive(Debug, Default)]
pub struct Summary(Mutex<SummaryState>);

#[derive(Debug, Default)]
struct SummaryState {
    count: u64,
    sum: f64,
    latest: VecDeque<f64>,
}

/// Quantiles are over this many observations.
const LATEST: usize = 512;

impl Summary {
    pub fn observe(&self, value: f64) {
        let mut state = self.0.lock();
        state.count += 1;
        state.sum += value;
        if state.latest.len() == LATEST {
            state.latest.pop_front();
        }
        state.latest.push_back(value);
    }
}

/// One family: the series behind each tuple of label values.
#[derive(Debug)]
pub struct Family<T> {
    labels: &'static [&'static str],
    series: Mutex<BTreeMap<Vec<String>, Arc<T>>>,
    make: fn() -> T,
}

impl<T> Family<T> {
    fn new(labels: &'static [&'static str], make: fn() -> T) -> Family<T> {
        Family { labels, series: Mutex::default(), make }
    }

    /// The series with these label values, in the order of the family's label names.
    pub fn with(&self, values: &[&str]) -> Arc<T> {
        debug_assert_eq!(values.len(), self.labels.len());
        let mut series = self.series.lock();
        if let Some(found) = series.iter().find(|(have, _)| have.iter().eq(values.iter())) {
            return found.1.clone();
        }
        let key = values.iter().map(|value| (*value).to_owned()).collect();
        series.entry(key).or_insert_with(|| Arc::new((self.make)())).clone()
    }

    fn each(&self, mut visit: impl FnMut(&[(&str, &str)], &T)) {
        for (values, one) in self.series.lock().iter() {
            let pairs: Vec<(&str, &str)> = self.labels.iter().copied().zip(values.iter().map(String::as_str)).collect();
            visit(&pairs, one);
        }
    }
}

/// Writes families in the text format.
#[derive(Debug, Default)]
pub struct TextWriter {
    families: BTreeMap<String, String>,
}

impl TextWriter {
    fn family(&mut self, name: &str, kind: &str, help: &str) -> &mut String {
        self.families
            .entry(name.to_owned())
            .or_insert_with(|| format!("# HELP {name} {}\n# TYPE {name} {kind}\n", help.replace('\n', " ")))
    }

    /// A gauge or counter of one number per label set.
    pub fn values<'a>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        values: impl IntoIterator<Item = (Vec<(&'a str, &'a str)>, f64)>,
    ) {
        let text = self.family(name, kind, help);
        for (labels, value) in values {
            line(text, name, &labels, value);
        }
    }

    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.values(name, "gauge", help, [(Vec::new(), value)]);
    }

    pub fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.values(name, "counter", help, [(Vec::new(), value)]);
    }

    fn counters(&mut self, name: &str, help: &str, family: &Family<Counter>) {
        let text = self.family(name, "counter", help);
        family.each(|labels, counter| line(text, name, labels, counter.get() as f64));
    }

    fn histogram(&mut self, name: &str, help: &str, family: &Family<Buckets>) {
        let text = self.family(name, "histogram", help);
        family.each(|labels, buckets| {
            let mut total = 0;
            for (index, count) in buckets.counts.iter().enumerate() {
                total += count.load(Ordering::Relaxed);
                let bound = buckets.bounds.get(index).map_or_else(|| "+Inf".to_owned(), f64::to_string);
                let labels: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
                line(text, &format!("{name}_bucket"), &labels, total as f64);
            }
            line(text, &format!("{name}_sum"), labels, buckets.sum.get());
            line(text, &format!("{name}_count"), labels, total as f64);
        });
    }

    fn summary(&mut self, name: &str, help: &str, family: &Family<Summary>) {
        let text = self.family(name, "summary", help);
        family.each(|labels, summary| {
            let state = summary.0.lock();
            let mut sorted: Vec<f64> = state.latest.iter().copied().collect();
            sorted.sort_by(f64::total_cmp);
            for (quantile, shown) in [(0.5, "0.5"), (0.9, "0.9"), (0.99, "0.99")] {
                let rank = (quantile * sorted.len() as f64).ceil() as usize;
                let value = sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN);
                let labels: Vec<_> = labels.iter().copied().chain([("quantile", shown)]).collect();
                line(text, name, &labels, value);
            }
            line(text, &format!("{name}_sum"), labels, state.sum);
            line(text, &format!("{name}_count"), labels, state.count as f64);
        });
    }

    /// The whole page.
    pub fn finish(self) -> String {
        self.families.into_values().collect()
    }
}

fn line(text: &mut String, name: &str, labels: &[(&str, &str)], value: f64) {
    text.push_str(name);
    for (index, (label, content)) in labels.iter().enumerate() {
        let escaped = content.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"");
        let _ = write!(text, "{}{label}=\"{escaped}\"", if index == 0 { '{' } else { ',' });
    }
    text.push_str(if labels.is_empty() { " " } else { "} " });
    let mut number = Vec::new();
    crate::api::json::push_value(&mut number, value);
    text.push_str(std::str::from_utf8(&number).unwrap_or("NaN"));
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_once_and_sorted() {
        let family: Family<Buckets> = Family::new(&["handler"], || Buckets::new(&[0.1, 1.0]));
        family.with(&["/a\"b"]).observe(0.5);
        family.with(&["/a\"b"]).observe(5.0);
        let summary: Family<Summary> = Family::new(&["slice"], Summary::default);
        (1..=100).for_each(|value| summary.with(&["x"]).observe(f64::from(value)));
        let mut text = TextWriter::default();
        text.summary("z", "Z.", &summary);
        text.histogram("h", "H.", &family);
        text.gauge("a", "A.", 1.5);
        assert_eq!(
            text.finish(),
            "# HELP a A.\n# TYPE a gauge\na 1.5\n# HELP h H.\n# TYPE h histogram\n\
             h_bucket{handler=\"/a\\\"b\",le=\"0.1\"} 0\nh_bucket{handler=\"/a\\\"b\",le=\"1\"} 1\n\
             h_bucket{handler=\"/a\\\"b\",le=\"+Inf\"} 2\nh_sum{handler=\"/a\\\"b\"} 5.5\nh_count{handler=\"/a\\\"b\"} 2\n\
             # HELP z Z.\n# TYPE z summary\nz{slice=\"x\",quantile=\"0.5\"} 50\nz{slice=\"x\",quantile=\"0.9\"} 90\n\
             z{slice=\"x\",quantile=\"0.99\"} 99\nz_sum{slice=\"x\"} 5050\nz_count{slice=\"x\"} 100\n"
        );
    }
}
