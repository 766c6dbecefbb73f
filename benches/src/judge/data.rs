//! The judge's data set: series of every character, the same for the same end.

use pilaster_ingest::remote_write::SeriesToSend;
use pilaster_model::histogram::{CUSTOM_BUCKETS_SCHEMA, CounterResetHint, Histogram, Span};
use pilaster_model::{Labels, stale_nan};

use crate::random_query::Random;

/// How far back from its end the data reaches.
pub const HOURS: i64 = 2;

/// One series; floats and histograms may alternate, each ascending in time.
pub struct Series {
    labels: Labels,
    floats: Vec<(i64, f64)>,
    histograms: Vec<(i64, Histogram)>,
}

impl Series {
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    pub fn sample_count(&self) -> usize {
        self.floats.len() + self.histograms.len()
    }

    /// Removes and returns what is not later than `until_ms`.
    pub fn take_until(&mut self, until_ms: i64) -> Series {
        fn split<T>(samples: &mut Vec<(i64, T)>, until_ms: i64) -> Vec<(i64, T)> {
            let rest = samples.split_off(samples.partition_point(|(timestamp_ms, _)| *timestamp_ms <= until_ms));
            std::mem::replace(samples, rest)
        }
        Series {
            labels: self.labels.clone(),
            floats: split(&mut self.floats, until_ms),
            histograms: split(&mut self.histograms, until_ms),
        }
    }

    pub fn to_send(&self) -> SeriesToSend<'_> {
        SeriesToSend { labels: &self.labels, samples: &self.floats, histograms: &self.histograms }
    }
}

/// Counts that only grow, except for a reset now and then: a counter of observations in exponential buckets.
fn exponential_histogram(random: &mut Random, before: Option<&Histogram>, schema: i32) -> Histogram {
    let buckets = 6;
    let mut next = match before {
        Some(before) if !random.chance(1) => before.clone(),
        Some(_) | None => Histogram {
            schema,
            zero_threshold: 0.001,
            positive_spans: vec![Span { offset: -2, length: 4 }, Span { offset: 1, length: 2 }],
            positive: vec![0.0; buckets],
            negative_spans: vec![Span { offset: 0, length: 2 }],
            negative: vec![0.0; 2],
            ..Histogram::default()
        },
    };
    for (index, count) in next.positive.iter_mut().chain(&mut next.negative).enumerate() {
        let more = random.below(5) as f64;
        *count += more;
        next.count += more;
        next.sum += more * (index as f64 / 4.0 + 0.25) * if index < buckets { 1.0 } else { -1.0 };
    }
    let zeros = random.below(3) as f64;
    next.zero_count += zeros;
    next.count += zeros;
    next
}

/// The same with custom bounds; `wide` series have one bound more, so that adding them needs their common bounds.
fn custom_histogram(random: &mut Random, before: Option<&Histogram>, wide: bool) -> Histogram {
    let bounds: &[f64] = if wide { &[0.1, 0.5, 1.0, 2.5] } else { &[0.1, 0.5, 2.5] };
    let mut next = before.filter(|_| !random.chance(1)).cloned().unwrap_or_else(|| Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        positive_spans: vec![Span { offset: 0, length: bounds.len() as u32 + 1 }],
        positive: vec![0.0; bounds.len() + 1],
        custom_bounds: bounds.into(),
        ..Histogram::default()
    });
    for (index, count) in next.positive.iter_mut().enumerate() {
        let more = random.below(4) as f64;
        *count += more;
        next.count += more;
        next.sum += more * (index as f64 * 0.5 + 0.125);
    }
    next
}

/// A staleness marker, so that a series that begins later has its place in the order of creation from the start on.
fn born(start_ms: i64) -> impl Iterator<Item = (i64, f64)> {
    std::iter::once((start_ms, stale_nan()))
}

/// Series of every character: steady, sparse, churning, reset, ended by staleness markers, irregular, not a number,
/// native histograms with both kinds of buckets, counters and gauges, floats that alternate with histograms, pods that
/// come and go, and metrics that describe targets.
pub fn data(end_ms: i64) -> Vec<Series> {
    let start_ms = end_ms - HOURS * 3_600_000 + 1000;
    let mut random = Random::new(42);
    let mut all: Vec<Series> = Vec::new();
    let floats = |labels: Labels, floats: Vec<(i64, f64)>| Series { labels, floats, histograms: Vec::new() };
    let zones = ["", "x", "y"];
    for (job_index, job) in ["api", "web", "db"].into_iter().enumerate() {
        for number in 0..4 {
            let instance = format!("i{number}");
            let labels = |name: &str, extra: &[(&str, &str)]| {
                let mut pairs = vec![("__name__", name), ("job", job), ("instance", instance.as_str())];
                pairs.extend_from_slice(extra);
                pairs.retain(|(_, value)| !value.is_empty());
                Labels::from_pairs(pairs)
            };
            let zone = ("zone", zones[(job_index + number) % 3]);
            let mut counter = 0.0;
            let mut steady = Vec::new();
            for timestamp_ms in (start_ms..end_ms).step_by(15_000) {
                counter = if random.chance(1) { 0.0 } else { counter + random.below(40) as f64 };
                steady.push((timestamp_ms, counter));
            }
            all.push(floats(labels("judge_requests_total", &[zone]), steady));
            let mut gauge = 50.0;
            let mut irregular = Vec::new();
            let mut timestamp_ms = start_ms;
            while timestamp_ms < end_ms {
                gauge = ((gauge + random.below(2001) as f64 / 100.0 - 10.0) * 100.0).round() / 100.0;
                irregular.push((timestamp_ms, gauge));
                timestamp_ms += 5_000 + random.below(40_000) as i64;
            }
            all.push(floats(labels("judge_gauge", &[zone]), irregular));
            let mut sparse = Vec::new();
            let mut timestamp_ms = start_ms + random.below(600_000) as i64;
            while timestamp_ms < end_ms {
                let value = if random.chance(10) { stale_nan() } else { random.below(1000) as f64 / 7.0 };
                sparse.push((timestamp_ms, value));
                timestamp_ms += 20_000 + random.below(400_000) as i64;
            }
            all.push(floats(labels("judge_sparse", &[zone]), sparse));
            let mut counts = [0.0; 4];
            let mut buckets = vec![Vec::new(); 4];
            for timestamp_ms in (start_ms..end_ms).step_by(30_000) {
                let mut below = 0.0;
                for (count, bucket) in counts.iter_mut().zip(&mut buckets) {
                    below += random.below(9) as f64;
                    *count += below;
                    bucket.push((timestamp_ms, *count));
                }
            }
            for (le, samples) in ["0.1", "0.5", "2.5", "+Inf"].into_iter().zip(buckets) {
                all.push(floats(labels("judge_latency_bucket", &[("le", le)]), samples));
            }
            let constant =
                (start_ms..end_ms).step_by(60_000).map(|timestamp_ms| (timestamp_ms, number as f64)).collect();
            all.push(floats(labels("judge_constant", &[]), constant));
            let mut native =
                Series { labels: labels("judge_native", &[zone]), floats: Vec::new(), histograms: Vec::new() };
            let mut custom =
                Series { labels: labels("judge_custom", &[zone]), floats: Vec::new(), histograms: Vec::new() };
            let mut mixed =
                Series { labels: labels("judge_mixed", &[zone]), floats: Vec::new(), histograms: Vec::new() };
            for (step, timestamp_ms) in (start_ms..end_ms).step_by(30_000).enumerate() {
                let before = native.histograms.last().map(|(_, histogram)| histogram);
                let next = exponential_histogram(&mut random, before, (job_index as i32 + number as i32) % 3);
                native.histograms.push((timestamp_ms, next));
                let before = custom.histograms.last().map(|(_, histogram)| histogram);
                let next = custom_histogram(&mut random, before, number % 2 == 0);
                custom.histograms.push((timestamp_ms, next));
                match (step / 20) % 2 {
                    0 => mixed.floats.push((timestamp_ms, step as f64)),
                    _ => {
                        let before = mixed.histograms.last().map(|(_, histogram)| histogram);
                        let next = exponential_histogram(&mut random, before, 1);
                        mixed.histograms.push((timestamp_ms, next));
                    }
                }
            }
            all.extend([native, custom, mixed]);
            // Widths of the zero bucket differ between targets; adding them widens one.
            let mut gauges =
                Series { labels: labels("judge_sizes", &[zone]), floats: Vec::new(), histograms: Vec::new() };
            for timestamp_ms in (start_ms..end_ms).step_by(60_000) {
                let mut next = exponential_histogram(&mut random, None, number as i32 % 2);
                next.zero_threshold = if number == 1 { 0.25 } else { 0.001 };
                next.counter_reset_hint = CounterResetHint::Gauge;
                gauges.histograms.push((timestamp_ms, next));
            }
            all.push(gauges);
            for (pod, from_ms) in (start_ms..end_ms).step_by(1_500_000).enumerate() {
                let until_ms = (from_ms + 1_300_000 + random.below(600_000) as i64).min(end_ms);
                let pod = format!("pod-{}", pod * 4 + number);
                let own = (from_ms..until_ms).step_by(30_000).enumerate();
                let own = own.map(|(step, timestamp_ms)| (timestamp_ms, step as f64 * 2.5));
                let mut samples: Vec<(i64, f64)> =
                    born(start_ms).chain(own.filter(|(timestamp_ms, _)| *timestamp_ms > start_ms)).collect();
                if random.chance(50) {
                    samples.push((until_ms, stale_nan()));
                }
                all.push(floats(labels("judge_churn_total", &[("pod", &pod)]), samples));
            }
            // The version changes halfway through.
            for (version, half) in [("1.0", start_ms..end_ms - 3_600_000), ("1.1", end_ms - 3_600_000..end_ms)] {
                let samples = half.step_by(60_000).map(|timestamp_ms| (timestamp_ms, 1.0));
                let samples =
                    born(start_ms).chain(samples.filter(|(timestamp_ms, _)| *timestamp_ms > start_ms)).collect();
                all.push(floats(labels("target_info", &[("version", version), zone]), samples));
            }
            let samples = (start_ms..end_ms).step_by(60_000).map(|timestamp_ms| (timestamp_ms, 1.0)).collect();
            all.push(floats(labels("build_info", &[("revision", &format!("r{}", number % 2))]), samples));
            if number == 0 {
                let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, 1e300, -1e-300, 5.0];
                let steps = (start_ms..end_ms).step_by(45_000);
                all.push(floats(
                    labels("judge_special", &[zone]),
                    steps.map(|at_ms| (at_ms, random.pick(&values))).collect(),
                ));
            }
        }
    }
    all
}
