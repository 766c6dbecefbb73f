//! Puts the series of classic histograms together, so that each becomes one histogram with custom buckets.

use std::borrow::Cow;

use pilaster_model::METRIC_NAME;
use pilaster_model::histogram::ClassicBuckets;

use crate::exposition::{Sample, parse_value};

/// Collects the lines of one histogram; they stand together in a body.
#[derive(Debug, Default)]
pub(super) struct Collector {
    current: Option<Complete>,
}

/// The parts of one histogram.
#[derive(Debug)]
pub(super) struct Complete {
    /// Distinguishes its series from every text of a series.
    pub key: String,
    pub labels: Vec<(String, String)>,
    pub timestamp_ms: Option<i64>,
    pub buckets: ClassicBuckets,
}

/// What became of a line.
#[derive(Debug, Default)]
pub(super) struct Collected {
    /// It is a part of a histogram.
    pub taken: bool,
    /// It is the `_created` line of a histogram, which Prometheus stores as a series only where it does not convert.
    pub created: bool,
    /// The histogram that ended before it.
    pub complete: Option<Complete>,
}

impl Collector {
    /// Takes a sample line under the `# TYPE` line of the histogram `family`.
    pub fn collect<'a>(
        &mut self,
        family: &str,
        shown: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>,
        sample: &Sample<'_>,
    ) -> Collected {
        let mut labels = Vec::new();
        let (mut name, mut bound) = (String::new(), None);
        for (label, value) in shown {
            match &*label {
                METRIC_NAME => name = value.into_owned(),
                "le" => bound = Some(value),
                _ => labels.push((label.into_owned(), value.into_owned())),
            }
        }
        let suffix = name.strip_prefix(family).unwrap_or_default();
        let bound = bound.and_then(|bound| parse_value(bound.as_bytes()).ok()).filter(|bound| !bound.is_nan());
        let part = match (suffix, bound) {
            ("_bucket", Some(bound)) => Part::Bucket(bound),
            ("_count", _) => Part::Count,
            ("_sum", _) => Part::Sum,
            ("_created", _) => return Collected { created: true, ..self.complete() },
            _ => return self.complete(),
        };
        labels.sort();
        let mut key = format!("{family}\u{1}");
        for (name, value) in &labels {
            key.extend([name.as_str(), "\u{1}", value.as_str(), "\u{1}"]);
        }
        let complete = match &self.current {
            Some(current) if current.key == key => None,
            _ => self.current.take(),
        };
        labels.insert(0, (METRIC_NAME.to_owned(), family.to_owned()));
        let timestamp_ms = sample.timestamp_ms;
        let fresh = || Complete { key, labels, timestamp_ms, buckets: ClassicBuckets::default() };
        let buckets = &mut self.current.get_or_insert_with(fresh).buckets;
        // A part that is refused makes the rest inconsistent, which the conversion finds.
        let _ = match part {
            Part::Bucket(bound) => buckets.set_bucket(bound, sample.value),
            Part::Count => buckets.set_count(sample.value),
            Part::Sum => {
                buckets.set_sum(sample.value);
                Ok(())
            }
        };
        Collected { taken: true, created: false, complete }
    }

    /// Ends the histogram that is being collected.
    pub fn complete(&mut self) -> Collected {
        Collected { taken: false, created: false, complete: self.current.take() }
    }
}

enum Part {
    Bucket(f64),
    Count,
    Sum,
}
