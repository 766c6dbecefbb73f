//! Reads a body into samples that wait for the whole to be good.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;
use pilaster_model::histogram::MIN_SCHEMA;
use pilaster_model::{Histogram, Labels, METRIC_NAME};
use pilaster_storage::Exemplar;

use super::append::{Counts, Job, Pending, Value};
use super::cache::{EntryKind, SeriesCache, StartGroup};
use super::classic::{Collector, Complete};
use super::labels::{LabelError, series_labels};
use super::starts::Starts;
use super::stats::add;
use super::target::{MetadataEntry, Target};
use crate::exposition;
use crate::exposition::protobuf::{self, Family, Metric, MetricValue};
use crate::exposition::{BodyFormat, Entry, Format, MetricKind, Parser, format_bound, format_of};

/// Samples from further in the future than this are refused.
const MAX_AHEAD_MS: i64 = 10 * 60_000;

/// One scrape being read.
pub(super) struct Reading<'r> {
    job: &'r Job,
    target: &'r Target,
    scrape_ms: i64,
    /// Number of the scrape.
    scrape: u64,
    cache: &'r mut SeriesCache,
    starts: &'r mut Starts,
    pending: &'r mut Vec<Pending>,
    /// Exemplars of pending samples, by their positions; `None` where the store keeps none.
    exemplars: Option<&'r mut Vec<(usize, Exemplar)>>,
    metadata: MutexGuard<'r, HashMap<String, MetadataEntry>>,
    counts: Counts,
    /// Samples that count for the limit.
    limited: usize,
    over_sample_limit: bool,
    over_bucket_limit: bool,
    duplicates: usize,
    out_of_bounds: usize,
}

/// A series that a sample may be appended to.
struct Accepted {
    entry: u32,
    timestamp_ms: i64,
    tracked: bool,
}

impl<'r> Reading<'r> {
    pub fn new(
        job: &'r Job,
        target: &'r Target,
        scrape_ms: i64,
        cache: &'r mut SeriesCache,
        starts: &'r mut Starts,
        pending: &'r mut Vec<Pending>,
        exemplars: &'r mut Vec<(usize, Exemplar)>,
    ) -> Reading<'r> {
        Reading {
            job,
            target,
            scrape_ms,
            scrape: cache.current(),
            cache,
            starts,
            pending,
            exemplars: job.store.keeps_exemplars().then_some(exemplars),
            metadata: target.metadata.lock(),
            counts: Counts::default(),
            limited: 0,
            over_sample_limit: false,
            over_bucket_limit: false,
            duplicates: 0,
            out_of_bounds: 0,
        }
    }

    /// Reads all of `body`.
    ///
    /// # Errors
    /// The reason, in Prometheus's words, for which nothing of it is taken.
    pub fn read(&mut self, body: &[u8], content_type: &str) -> Result<(), String> {
        let fallback = self.job.config.fallback_protocol();
        match format_of(content_type, fallback).map_err(|error| error.to_string())? {
            BodyFormat::Text(format) => self.text(format, body)?,
            BodyFormat::Protobuf => self.protobuf(body)?,
        }
        let counters = &self.job.counters;
        if self.over_sample_limit {
            counters.exceeded_sample_limit.fetch_add(1, Ordering::Relaxed);
            return Err("sample limit exceeded".to_owned());
        }
        if self.over_bucket_limit {
            return Err("histogram bucket limit exceeded".to_owned());
        }
        Ok(())
    }

    /// What was counted, whether reading succeeded or not.
    pub fn finish(self) -> Counts {
        let counters = &self.job.counters;
        add(&counters.samples_duplicate, self.duplicates);
        add(&counters.samples_out_of_bounds, self.out_of_bounds);
        for (count, message) in [
            (self.duplicates, "Error on ingesting samples with different value but same timestamp"),
            (self.out_of_bounds, "Error on ingesting samples that are too old or are too far into the future"),
        ] {
            if count > 0 {
                tracing::warn!(target = self.target.url(), num_dropped = count, "{message}");
            }
        }
        self.counts
    }

    fn text(&mut self, format: Format, body: &[u8]) -> Result<(), String> {
        let starts = self.job.options.start_timestamps && format == Format::OpenMetrics;
        let mut collector = self.target.converts_classic_histograms().then(Collector::default);
        let keep_classic = self.target.keeps_classic_histograms();
        let mut parser = Parser::new(format, body);
        let mut last_type = Cow::Borrowed("");
        // Of the lines that the collector holds.
        let mut collected_exemplars = Vec::new();
        while let Some(entry) = parser.next() {
            let entry = entry.map_err(|error| error.to_string())?;
            if let Some(collector) = &mut collector {
                let collected = match &entry {
                    Entry::Sample(sample) if parser.kind() == MetricKind::Histogram => {
                        collector.collect(&last_type, parser.labels(), sample)
                    }
                    _ => collector.complete(),
                };
                if let Some(complete) = collected.complete {
                    let exemplars = std::mem::take(&mut collected_exemplars);
                    self.converted(complete, exemplars)?;
                }
                if collected.taken && self.exemplars.is_some() {
                    collected_exemplars.extend(parser.exemplar());
                }
                if collected.created || (collected.taken && !keep_classic) {
                    continue;
                }
            }
            match entry {
                Entry::Sample(sample) => {
                    let value = sample.value;
                    let start = |starts_of: &mut Starts| match starts {
                        true => starts_of.group_of(&parser),
                        false => StartGroup::None,
                    };
                    let shown = parser.labels();
                    if let Some(accepted) = self.accept(sample.series, sample.timestamp_ms, shown, start, value)? {
                        self.push(accepted, Value::Float(value), None);
                        if self.exemplars.is_some()
                            && let Some(shown) = parser.exemplar()
                        {
                            self.show(&shown);
                        }
                    }
                }
                Entry::Type { metric, kind } => {
                    self.note(&metric, |entry| replace(&mut entry.kind, kind));
                    last_type = metric;
                }
                Entry::Help { metric, text } => self.note(&metric, |entry| replace_text(&mut entry.help, &text)),
                Entry::Unit { metric, unit } => self.note(&metric, |entry| replace_text(&mut entry.unit, &unit)),
            }
        }
        if let Some(complete) = collector.and_then(|mut collector| collector.complete().complete) {
            self.converted(complete, collected_exemplars)?;
        }
        Ok(())
    }

    fn protobuf(&mut self, body: &[u8]) -> Result<(), String> {
        for family in protobuf::families(body) {
            let family = family.map_err(|error| error.to_string())?;
            if family.metrics.is_empty() {
                continue;
            }
            self.note(family.name, |entry| {
                let changed = [
                    replace(&mut entry.kind, family.kind),
                    replace_text(&mut entry.help, family.help),
                    replace_text(&mut entry.unit, family.unit),
                ];
                changed.contains(&true)
            });
            for metric in &family.metrics {
                let metric = Metric::decode(metric, family.kind).map_err(|error| error.to_string())?;
                self.protobuf_metric(&family, &metric)?;
            }
        }
        Ok(())
    }

    fn protobuf_metric(&mut self, family: &Family<'_>, metric: &Metric<'_>) -> Result<(), String> {
        match &metric.value {
            MetricValue::Number(value) => {
                let pushed = self.protobuf_float(family, metric, "", None, *value)?;
                metric.exemplars.iter().filter(|_| pushed).for_each(|(_, shown)| self.show(shown));
                Ok(())
            }
            MetricValue::Summary { count, sum, quantiles } => {
                self.protobuf_float(family, metric, "_count", None, *count)?;
                self.protobuf_float(family, metric, "_sum", None, *sum)?;
                for (quantile, value) in quantiles {
                    self.protobuf_float(family, metric, "", Some(("quantile", *quantile)), *value)?;
                }
                Ok(())
            }
            MetricValue::Histogram(histogram) => {
                let native = match histogram.native.clone() {
                    Some(native) if self.target.scrapes_native_histograms() => Some(native),
                    Some(_) | None => None,
                };
                let keep_classic = self.target.keeps_classic_histograms();
                let convert = native.is_none() && self.target.converts_classic_histograms();
                if let Some(native) = native {
                    let native = native.map_err(|error| format!("histogram {:?}: {error}", family.name))?;
                    self.protobuf_histogram(family, metric, native)?;
                    if !keep_classic || histogram.buckets.is_empty() {
                        return Ok(());
                    }
                }
                if !convert || keep_classic {
                    self.protobuf_float(family, metric, "_count", None, histogram.count)?;
                    self.protobuf_float(family, metric, "_sum", None, histogram.sum)?;
                    let infinite = histogram.buckets.last().is_some_and(|(bound, _)| *bound == f64::INFINITY);
                    let rest = (!infinite).then_some((f64::INFINITY, histogram.count));
                    for (index, (bound, count)) in histogram.buckets.iter().copied().chain(rest).enumerate() {
                        let pushed = self.protobuf_float(family, metric, "_bucket", Some(("le", bound)), count)?;
                        let of_bucket = metric.exemplars.iter().filter(|(bucket, _)| pushed && *bucket == Some(index));
                        of_bucket.for_each(|(_, shown)| self.show(shown));
                    }
                }
                if convert {
                    let classic = histogram.classic().map_err(|error| error.to_string())?;
                    self.protobuf_histogram(family, metric, classic)?;
                }
                Ok(())
            }
        }
    }

    fn protobuf_float(
        &mut self,
        family: &Family<'_>,
        metric: &Metric<'_>,
        suffix: &str,
        bound: Option<(&'static str, f64)>,
        value: f64,
    ) -> Result<bool, String> {
        let name = format!("{}{suffix}", family.name);
        let bound = bound.map(|(name, value)| (name, format_bound(value)));
        let key = metric.key(&name, bound.as_ref().map(|(name, value)| (*name, value.as_str())));
        let shown = [(Cow::Borrowed(METRIC_NAME), Cow::Owned(name))].into_iter();
        let own = metric.labels.iter().map(|(name, value)| (Cow::Borrowed(*name), Cow::Borrowed(*value)));
        let bound = bound.into_iter().map(|(name, value)| (Cow::Borrowed(name), Cow::Owned(value)));
        let shown = shown.chain(own).chain(bound);
        let accepted = self.accept(&key, metric.timestamp_ms, shown, |_| StartGroup::None, value)?;
        let pushed = accepted.is_some();
        if let Some(accepted) = accepted {
            self.push(accepted, Value::Float(value), self.start(metric));
        }
        Ok(pushed)
    }

    fn protobuf_histogram(
        &mut self,
        family: &Family<'_>,
        metric: &Metric<'_>,
        histogram: Histogram,
    ) -> Result<(), String> {
        // Classic samples have suffixes, so the bare name is free for the native one.
        let key = metric.key(family.name, None);
        let shown = [(Cow::Borrowed(METRIC_NAME), Cow::Borrowed(family.name))].into_iter();
        let own = metric.labels.iter().map(|(name, value)| (Cow::Borrowed(*name), Cow::Borrowed(*value)));
        let start_ms = self.start(metric);
        if self.histogram(&key, metric.timestamp_ms, shown.chain(own), histogram, start_ms)? {
            // The histogram's own list, or those of its buckets where it has none.
            let own_list = metric.exemplars.iter().any(|(bucket, _)| bucket.is_none());
            let shown = metric.exemplars.iter().filter(|(bucket, _)| bucket.is_none() == own_list);
            shown.for_each(|(_, shown)| self.show_dated(shown));
        }
        Ok(())
    }

    fn start(&self, metric: &Metric<'_>) -> Option<i64> {
        metric.start_ms.filter(|_| self.job.options.start_timestamps)
    }

    /// A classic histogram as one with custom buckets; buckets that make none are passed over, as in Prometheus.
    fn converted(&mut self, complete: Complete, exemplars: Vec<exposition::Exemplar<'_>>) -> Result<(), String> {
        let Complete { key, labels, timestamp_ms, buckets } = complete;
        let Ok(histogram) = buckets.into_histogram() else { return Ok(()) };
        let shown = labels.iter().map(|(name, value)| (Cow::Borrowed(name.as_str()), Cow::Borrowed(value.as_str())));
        if self.histogram(key.as_bytes(), timestamp_ms, shown, histogram, None)? {
            exemplars.iter().for_each(|shown| self.show_dated(shown));
        }
        Ok(())
    }

    /// Notes an exemplar of the sample that was pushed last.
    fn show(&mut self, shown: &exposition::Exemplar<'_>) {
        let (Some(exemplars), Some(pending)) = (&mut self.exemplars, self.pending.last()) else { return };
        let exemplar = Exemplar {
            labels: Labels::from_pairs(shown.labels.iter().map(|(name, value)| (name, value))),
            value: shown.value,
            timestamp_ms: shown.timestamp_ms.unwrap_or(pending.timestamp_ms),
            has_timestamp: shown.timestamp_ms.is_some(),
        };
        exemplars.push((self.pending.len() - 1, exemplar));
    }

    /// [`Reading::show`] for a native histogram, which may show the same one for long: without a timestamp nobody could
    /// tell.
    fn show_dated(&mut self, shown: &exposition::Exemplar<'_>) {
        if shown.timestamp_ms.is_some() {
            self.show(shown);
        }
    }

    fn histogram<'a>(
        &mut self,
        key: &[u8],
        timestamp_ms: Option<i64>,
        shown: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>,
        histogram: Histogram,
        start_ms: Option<i64>,
    ) -> Result<bool, String> {
        let Some(accepted) = self.accept(key, timestamp_ms, shown, |_| StartGroup::None, 0.0)? else {
            return Ok(false);
        };
        match within_limits(histogram, &self.job.config) {
            Some(histogram) => self.push(accepted, Value::Histogram(Arc::new(histogram)), start_ms),
            None => self.over_bucket_limit = true,
        }
        Ok(!self.over_bucket_limit)
    }

    /// Finds or makes the series shown as `series`; `None` where its sample goes no further.
    fn accept<'a>(
        &mut self,
        series: &[u8],
        timestamp_ms: Option<i64>,
        shown: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>,
        start: impl FnOnce(&mut Starts) -> StartGroup,
        value: f64,
    ) -> Result<Option<Accepted>, String> {
        let config = &self.job.config;
        let explicit_ms = timestamp_ms.filter(|_| config.honor_timestamps);
        let timestamp_ms = explicit_ms.unwrap_or(self.scrape_ms);
        let known = self.cache.find(series);
        let mut fresh = None;
        if let Some(hit) = known {
            match self.cache.entry(hit.index).kind {
                EntryKind::Dropped => {
                    self.counts.scraped += 1;
                    return Ok(None);
                }
                EntryKind::Series { start: StartGroup::Created(group), .. } => {
                    self.starts.tell(group, self.scrape, value);
                    return Ok(None);
                }
                EntryKind::Series { .. } => {}
            }
            self.counts.scraped += 1;
            if hit.again && explicit_ms.is_none() {
                self.duplicates += 1;
                self.counts.after_relabelling += 1;
                return Ok(None);
            }
        } else {
            let start = start(self.starts);
            if let StartGroup::Created(group) = start {
                self.cache.insert(series, EntryKind::Series { labels: Labels::empty(), series: None, start });
                self.starts.tell(group, self.scrape, value);
                return Ok(None);
            }
            self.counts.scraped += 1;
            let labels = series_labels(shown, self.target, config).map_err(|error| {
                let over_limit = matches!(error, LabelError::Limit(_));
                add(&self.job.counters.exceeded_label_limits, usize::from(over_limit));
                error.to_string()
            })?;
            let Some(labels) = labels else {
                self.cache.insert(series, EntryKind::Dropped);
                return Ok(None);
            };
            fresh = Some(EntryKind::Series { labels, series: None, start });
        }
        self.counts.after_relabelling += 1;
        self.limited += 1;
        if config.limits.samples > 0 && self.limited > config.limits.samples {
            // Reading goes on: the report tells how many there are.
            self.over_sample_limit = true;
            return Ok(None);
        }
        if timestamp_ms > self.scrape_ms + MAX_AHEAD_MS {
            self.out_of_bounds += 1;
            return Ok(None);
        }
        let entry = match (fresh, known) {
            (Some(kind), _) => {
                self.counts.series_added += 1;
                self.cache.insert(series, kind)
            }
            (None, Some(hit)) => hit.index,
            (None, None) => return Ok(None),
        };
        let tracked = explicit_ms.is_none() || config.track_timestamps_staleness;
        Ok(Some(Accepted { entry, timestamp_ms, tracked }))
    }

    fn push(&mut self, accepted: Accepted, value: Value, start_ms: Option<i64>) {
        let Accepted { entry, timestamp_ms, tracked } = accepted;
        self.pending.push(Pending { entry, timestamp_ms, value, start_ms, tracked });
    }

    /// Notes what the target says about `metric`; `change` tells whether it is new.
    fn note(&mut self, metric: &str, change: impl FnOnce(&mut MetadataEntry) -> bool) {
        let scrape = self.scrape;
        let entry = match self.metadata.get_mut(metric) {
            Some(entry) => entry,
            None => {
                let entry = MetadataEntry { changed: scrape, ..MetadataEntry::default() };
                self.metadata.entry(metric.to_owned()).or_insert(entry)
            }
        };
        entry.seen = scrape;
        if change(entry) {
            entry.changed = scrape;
        }
    }
}

fn replace<T: PartialEq>(current: &mut T, new: T) -> bool {
    let differs = *current != new;
    *current = new;
    differs
}

fn replace_text(current: &mut String, new: &str) -> bool {
    let differs = current != new;
    if differs {
        new.clone_into(current);
    }
    differs
}

/// The histogram in a resolution that the job's limits allow; `None` where there is none.
fn within_limits(mut histogram: Histogram, config: &crate::config::ScrapeConfig) -> Option<Histogram> {
    histogram.compact();
    if !histogram.has_custom_buckets() {
        let finest = config.finest_histogram_schema();
        if histogram.schema > finest {
            histogram = histogram.at_schema(finest);
        }
    }
    let limit = config.native_histogram_bucket_limit;
    while limit > 0 && histogram.positive.len() + histogram.negative.len() > limit {
        if histogram.has_custom_buckets() || histogram.schema <= MIN_SCHEMA {
            return None;
        }
        let hint = histogram.counter_reset_hint;
        histogram = histogram.at_schema(histogram.schema - 1);
        histogram.counter_reset_hint = hint;
    }
    Some(histogram)
}
