//! Classic histograms of a load as native histograms with custom buckets (`load_with_nhcb`).

use std::collections::BTreeMap;
use std::sync::Arc;

use pilaster_model::histogram::ClassicBuckets;
use pilaster_model::{Labels, METRIC_NAME};

use super::world::{LoadedSample, LoadedSeries, LoadedValue};

enum Part {
    Bucket(f64),
    Count,
    Sum,
}

/// The histograms that `series` with the suffixes `_bucket`, `_count` and `_sum` make, under their base names.
pub fn from_classic(series: &[LoadedSeries]) -> Result<Vec<LoadedSeries>, String> {
    let mut collected: BTreeMap<Labels, BTreeMap<i64, ClassicBuckets>> = BTreeMap::new();
    for LoadedSeries { labels, samples } in series {
        let Some((base, part)) = split(labels) else { continue };
        let by_time = collected.entry(base).or_default();
        for sample in samples {
            let LoadedValue::Float(value) = sample.value else { continue };
            let buckets = by_time.entry(sample.timestamp_ms).or_default();
            match part {
                Part::Bucket(bound) => buckets.set_bucket(bound, value).map_err(|error| error.to_string())?,
                Part::Count => buckets.set_count(value).map_err(|error| error.to_string())?,
                Part::Sum => buckets.set_sum(value),
            }
        }
    }
    let mut histograms = Vec::new();
    for (labels, by_time) in collected {
        let mut samples = Vec::new();
        for (timestamp_ms, buckets) in by_time {
            let histogram = buckets.into_histogram().map_err(|error| error.to_string())?;
            let value = LoadedValue::Histogram(Arc::new(histogram));
            samples.push(LoadedSample { timestamp_ms, value, start_ms: None });
        }
        histograms.push(LoadedSeries { labels, samples });
    }
    Ok(histograms)
}

/// The labels of the whole histogram, and which part of it the series is.
fn split(labels: &Labels) -> Option<(Labels, Part)> {
    let name = labels.metric_name();
    let (base, part) = if let Some(base) = name.strip_suffix("_bucket") {
        let bound: f64 = labels.get("le").parse().ok()?;
        (base, Part::Bucket(bound))
    } else if let Some(base) = name.strip_suffix("_count") {
        (base, Part::Count)
    } else {
        (name.strip_suffix("_sum")?, Part::Sum)
    };
    if matches!(part, Part::Bucket(bound) if bound.is_nan()) {
        return None;
    }
    let mut builder = labels.to_builder();
    builder.set(METRIC_NAME, base).remove("le");
    Some((builder.build(), part))
}
