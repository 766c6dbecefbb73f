//! From an answer to appended samples.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pilaster_model::{Labels, LabelsBuilder, METRIC_NAME, stale_nan};
use pilaster_storage::{RejectReason, Sample, SeriesRef, Store};
use tokio::time::Instant;

use super::ScrapeOptions;
use super::cache::{EntryKind, SeriesCache, StartGroup};
use super::fetch::{FetchError, Fetched, decompress};
use super::stats::{ScrapeCounters, add};
use super::target::{MetadataEntry, Target};
use crate::config::ScrapeConfig;
use crate::exposition::{Entry, Format, MetricKind, Parser, format_of, go_quote};
use crate::relabel;

/// Samples from further in the future than this are refused.
const MAX_AHEAD_MS: i64 = 10 * 60_000;

/// Scrapes for which metadata outlives its metric.
const METADATA_SCRAPES: u64 = 10;

/// What taking a scrape needs besides the target.
#[derive(Debug)]
pub(super) struct Job {
    pub config: Arc<ScrapeConfig>,
    pub store: Arc<Store>,
    pub counters: Arc<ScrapeCounters>,
    pub options: Arc<ScrapeOptions>,
}

/// Takes the scrapes of one target, one after the other.
#[derive(Debug, Default)]
pub(super) struct Taker {
    cache: SeriesCache,
    report: Report,
    pending: Vec<Pending>,
    starts: Starts,
    samples: Vec<Sample>,
    /// Decompressed body, kept for its room.
    plain: Vec<u8>,
    /// Room for the next body.
    spare: Vec<u8>,
}

/// A sample that will be appended when the whole scrape is good.
#[derive(Debug, Clone, Copy)]
struct Pending {
    entry: u32,
    timestamp_ms: i64,
    value: f64,
    /// Whether its series gets a staleness marker when it disappears.
    tracked: bool,
}

/// What the report says about a scrape.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    scraped: usize,
    after_relabelling: usize,
    series_added: usize,
    /// Of the decompressed body; -1 where it was too large.
    body_bytes: i64,
}

impl Taker {
    /// Room for the body of the next scrape.
    pub fn take_room(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.spare)
    }

    /// Appends what a scrape brought, markers for what it did not bring any more, and its report. Blocks on the store.
    pub fn take(
        &mut self,
        job: &Job,
        target: &Target,
        answer: Result<Fetched, FetchError>,
        scrape_ms: i64,
        begun: Instant,
    ) {
        let mut counts = Counts::default();
        let mut error = None;
        self.pending.clear();
        let scrape = self.cache.begin();
        match self.unpack(job, answer) {
            Ok((body, content_type)) => {
                counts.body_bytes = body.len() as i64;
                if !body.is_empty() {
                    let read = self.read(job, target, &body, &content_type, scrape_ms, &mut counts);
                    error = read.err();
                }
                self.spare = body;
            }
            Err(reason) => {
                if reason == FetchError::BodyTooLarge {
                    counts.body_bytes = -1;
                    job.counters.exceeded_body_size_limit.fetch_add(1, Ordering::Relaxed);
                }
                error = Some(reason.to_string());
            }
        }
        let success = error.is_none() && counts.body_bytes > 0;
        if success {
            for index in 0..self.pending.len() {
                if self.pending[index].tracked {
                    self.cache.track(self.pending[index].entry);
                }
            }
        } else {
            self.pending.clear();
        }
        let stale = self.cache.stale();
        let duration = begun.elapsed();
        let extra = job.config.extra_scrape_metrics == Some(true);
        let mut report = vec![
            f64::from(u8::from(error.is_none())),
            duration.as_secs_f64(),
            counts.scraped as f64,
            counts.after_relabelling as f64,
        ];
        job.counters.scrapes.fetch_add(1, Ordering::Relaxed);
        add(&job.counters.scrapes_failed, usize::from(error.is_some()));
        report.push(counts.series_added as f64);
        if extra {
            report.extend([target.timeout().as_secs_f64(), job.config.limits.samples as f64, counts.body_bytes as f64]);
        }
        target.report(scrape_ms, duration, error.as_deref());
        self.commit(job, target, &stale, &report, scrape_ms);
        if success {
            self.publish_metadata(job, target, scrape);
        }
        if self.cache.finish(success) {
            job.counters.cache_flushes_forced.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends all series of the target, its report included, at `timestamp_ms`. Blocks on the store.
    pub fn end(&mut self, job: &Job, target: &Target, timestamp_ms: i64) {
        self.pending.clear();
        self.cache.begin();
        let stale = self.cache.stale();
        let report = vec![stale_nan(); self.report.series.len()];
        self.commit(job, target, &stale, &report, timestamp_ms);
        self.cache.finish(false);
    }

    fn unpack(&mut self, job: &Job, answer: Result<Fetched, FetchError>) -> Result<(Vec<u8>, String), FetchError> {
        let Fetched { body, gzip, content_type } = answer?;
        if !gzip {
            return Ok((body, content_type));
        }
        let mut plain = std::mem::take(&mut self.plain);
        let result = decompress(&body, job.config.limits.body_size.0, &mut plain);
        self.plain = body;
        result.map(|()| (plain, content_type))
    }

    /// Reads a body into `pending`.
    fn read(
        &mut self,
        job: &Job,
        target: &Target,
        body: &[u8],
        content_type: &str,
        scrape_ms: i64,
        counts: &mut Counts,
    ) -> Result<(), String> {
        let format = format_of(content_type, job.config.fallback_protocol()).map_err(|error| error.to_string())?;
        let config = &job.config;
        let starts = job.options.start_timestamps && format == Format::OpenMetrics;
        self.starts.begin();
        let scrape = self.cache.current();
        let mut metadata = target.metadata.lock();
        let mut parser = Parser::new(format, body);
        let (mut limited, mut over_limit, mut duplicates, mut out_of_bounds) = (0, false, 0, 0);
        while let Some(entry) = parser.next() {
            let sample = match entry.map_err(|error| error.to_string())? {
                Entry::Sample(sample) => sample,
                Entry::Type { metric, kind } => {
                    note(&mut metadata, &metric, scrape, |entry| replace(&mut entry.kind, kind));
                    continue;
                }
                Entry::Help { metric, text } => {
                    note(&mut metadata, &metric, scrape, |entry| replace_text(&mut entry.help, &text));
                    continue;
                }
                Entry::Unit { metric, unit } => {
                    note(&mut metadata, &metric, scrape, |entry| replace_text(&mut entry.unit, &unit));
                    continue;
                }
            };
            let explicit_ms = sample.timestamp_ms.filter(|_| config.honor_timestamps);
            let timestamp_ms = explicit_ms.unwrap_or(scrape_ms);
            let known = self.cache.find(sample.series);
            let mut fresh = None;
            if let Some(hit) = known {
                match self.cache.entry(hit.index).kind {
                    EntryKind::Dropped => {
                        counts.scraped += 1;
                        continue;
                    }
                    EntryKind::Series { start: StartGroup::Created(group), .. } => {
                        self.starts.tell(group, scrape, sample.value);
                        continue;
                    }
                    EntryKind::Series { .. } => {}
                }
                counts.scraped += 1;
                if hit.again && explicit_ms.is_none() {
                    duplicates += 1;
                    counts.after_relabelling += 1;
                    continue;
                }
            } else {
                let start = if starts { self.starts.group_of(&parser) } else { StartGroup::None };
                if let StartGroup::Created(group) = start {
                    let kind = EntryKind::Series { labels: Labels::empty(), series: None, start };
                    self.cache.insert(sample.series, kind);
                    self.starts.tell(group, scrape, sample.value);
                    continue;
                }
                counts.scraped += 1;
                match series_labels(&parser, target, config)? {
                    Some(labels) => {
                        check_labels(&labels, config).inspect_err(|error| {
                            let limit = usize::from(error.contains("_limit exceeded"));
                            add(&job.counters.exceeded_label_limits, limit);
                        })?;
                        fresh = Some(EntryKind::Series { labels, series: None, start });
                    }
                    None => {
                        self.cache.insert(sample.series, EntryKind::Dropped);
                        continue;
                    }
                }
            }
            counts.after_relabelling += 1;
            limited += 1;
            if config.limits.samples > 0 && limited > config.limits.samples {
                // Reading goes on: the report tells how many there are.
                over_limit = true;
                continue;
            }
            if timestamp_ms > scrape_ms + MAX_AHEAD_MS {
                out_of_bounds += 1;
                continue;
            }
            let entry = match (fresh, known) {
                (Some(kind), _) => {
                    counts.series_added += 1;
                    self.cache.insert(sample.series, kind)
                }
                (None, Some(hit)) => hit.index,
                (None, None) => continue,
            };
            let tracked = explicit_ms.is_none() || config.track_timestamps_staleness;
            self.pending.push(Pending { entry, timestamp_ms, value: sample.value, tracked });
        }
        add(&job.counters.samples_duplicate, duplicates);
        add(&job.counters.samples_out_of_bounds, out_of_bounds);
        if duplicates > 0 {
            let (url, count) = (target.url(), duplicates);
            tracing::warn!(
                target = url,
                num_dropped = count,
                "Error on ingesting samples with different value but same timestamp"
            );
        }
        if over_limit {
            job.counters.exceeded_sample_limit.fetch_add(1, Ordering::Relaxed);
            return Err("sample limit exceeded".to_owned());
        }
        Ok(())
    }

    /// Brings samples, staleness markers and report to the store in one append.
    fn commit(&mut self, job: &Job, target: &Target, stale: &[SeriesRef], report: &[f64], scrape_ms: i64) {
        let mut samples = std::mem::take(&mut self.samples);
        samples.clear();
        for pending in &self.pending {
            let start_ms = self.start_of(pending.entry);
            if let Some((labels, series)) = self.cache.series(pending.entry) {
                let series = *series.get_or_insert_with(|| job.store.series(labels));
                let (timestamp_ms, value) = (pending.timestamp_ms, pending.value);
                samples.push(Sample { series, timestamp_ms, value, start_ms });
            }
        }
        let markers = samples.len();
        let marker = |series: &SeriesRef| Sample {
            series: *series,
            timestamp_ms: scrape_ms,
            value: stale_nan(),
            start_ms: None,
        };
        samples.extend(stale.iter().map(marker));
        let report_at = samples.len();
        self.report.resolve(job, target, report.len());
        samples.extend(report.iter().zip(&self.report.series).map(|(value, (_, series))| Sample {
            series: *series,
            timestamp_ms: scrape_ms,
            value: *value,
            start_ms: None,
        }));
        match job.store.append(&samples) {
            Ok(outcome) => {
                let mut again = Vec::new();
                let (mut out_of_order, mut duplicates, mut out_of_bounds) = (0, 0, 0);
                for rejected in &outcome.rejected {
                    let index = rejected.index;
                    match rejected.reason {
                        RejectReason::UnknownSeries if index < markers || index >= report_at => again.push(index),
                        // The marker of a series that the store has forgotten, or that another loop goes on with.
                        _ if index >= markers => {}
                        RejectReason::OutOfOrder => out_of_order += 1,
                        RejectReason::DuplicateDifferentValue => duplicates += 1,
                        RejectReason::TooOld | RejectReason::UnknownSeries => out_of_bounds += 1,
                    }
                }
                self.count_rejected(job, target, out_of_order, duplicates, out_of_bounds);
                if !again.is_empty() {
                    self.append_again(job, &samples, &again, report_at);
                }
            }
            Err(error) => {
                job.counters.commits_failed.fetch_add(1, Ordering::Relaxed);
                tracing::error!(target = target.url(), err = %error, "Scrape commit failed");
            }
        }
        self.samples = samples;
    }

    /// The store has forgotten these series: they were silent for long. Their labels find them again.
    fn append_again(&mut self, job: &Job, samples: &[Sample], again: &[usize], report_at: usize) {
        let mut second = Vec::with_capacity(again.len());
        for index in again {
            let series = if *index < report_at {
                let Some((labels, series)) = self.cache.series(self.pending[*index].entry) else { continue };
                *series.insert(job.store.series(labels))
            } else {
                let (labels, series) = &mut self.report.series[*index - report_at];
                *series = job.store.series(labels);
                *series
            };
            second.push(Sample { series, ..samples[*index] });
        }
        if let Err(error) = job.store.append(&second) {
            job.counters.commits_failed.fetch_add(1, Ordering::Relaxed);
            tracing::error!(err = %error, "Scrape commit failed");
        }
    }

    fn count_rejected(&self, job: &Job, target: &Target, out_of_order: usize, duplicates: usize, out_of_bounds: usize) {
        let url = target.url();
        add(&job.counters.samples_out_of_order, out_of_order);
        add(&job.counters.samples_duplicate, duplicates);
        add(&job.counters.samples_out_of_bounds, out_of_bounds);
        if out_of_order > 0 {
            tracing::warn!(target = url, num_dropped = out_of_order, "Error on ingesting out-of-order samples");
        }
        if duplicates > 0 {
            tracing::warn!(
                target = url,
                num_dropped = duplicates,
                "Error on ingesting samples with different value but same timestamp"
            );
        }
        if out_of_bounds > 0 {
            tracing::warn!(
                target = url,
                num_dropped = out_of_bounds,
                "Error on ingesting samples that are too old or are too far into the future"
            );
        }
    }

    fn start_of(&self, entry: u32) -> Option<i64> {
        match self.cache.entry(entry).kind {
            EntryKind::Series { start: StartGroup::Member(group), .. } => self.starts.of(group, self.cache.current()),
            EntryKind::Series { .. } | EntryKind::Dropped => None,
        }
    }

    /// Tells the store what changed, and forgets what is long gone.
    fn publish_metadata(&self, job: &Job, target: &Target, scrape: u64) {
        let mut metadata = target.metadata.lock();
        metadata.retain(|_, entry| scrape - entry.seen <= METADATA_SCRAPES);
        for (metric, entry) in metadata.iter().filter(|(_, entry)| entry.changed == scrape) {
            job.store.set_metadata(metric, entry.kind.name(), &entry.help, &entry.unit);
        }
    }
}

fn note(
    metadata: &mut HashMap<String, MetadataEntry>,
    metric: &str,
    scrape: u64,
    change: impl FnOnce(&mut MetadataEntry) -> bool,
) {
    let entry = match metadata.get_mut(metric) {
        Some(entry) => entry,
        None => {
            metadata.entry(metric.to_owned()).or_insert(MetadataEntry { changed: scrape, ..MetadataEntry::default() })
        }
    };
    entry.seen = scrape;
    if change(entry) {
        entry.changed = scrape;
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

/// The labels under which the parser's last sample is stored; `None` where metric relabelling drops it.
///
/// Source: `mutateSampleLabels`, Prometheus v3 `scrape/scrape.go`.
fn series_labels(parser: &Parser<'_>, target: &Target, config: &ScrapeConfig) -> Result<Option<Labels>, String> {
    let mut builder = LabelsBuilder::default();
    let mut exposed: Vec<String> = Vec::new();
    for (name, value) in parser.labels() {
        if exposed.iter().any(|known| *known == *name) {
            return Err(format!("label name {} is not unique: invalid sample", go_quote(name.as_bytes())));
        }
        builder.set(&name, &value);
        exposed.push(name.into_owned());
    }
    let mut conflicts: Vec<(String, String)> = Vec::new();
    for (name, value) in target.labels().iter() {
        if config.honor_labels {
            // A label that is exposed as empty stays so: that is how a target says to have none.
            if !exposed.iter().any(|exposed| exposed == name) {
                builder.set(name, value);
            }
            continue;
        }
        let current = builder.get(name);
        if !current.is_empty() {
            conflicts.push((name.to_owned(), current.to_owned()));
        }
        builder.set(name, value);
    }
    conflicts.sort_by_key(|(name, _)| name.len());
    for (name, value) in conflicts {
        let mut renamed = format!("exported_{name}");
        while !builder.get(&renamed).is_empty() {
            renamed.insert_str(0, "exported_");
        }
        builder.set(&renamed, &value);
    }
    let kept = relabel::process(&mut builder, &config.metric_relabel_configs);
    Ok(kept.then(|| builder.build()).filter(|labels| !labels.is_empty()))
}

/// Names and limits.
fn check_labels(labels: &Labels, config: &ScrapeConfig) -> Result<(), String> {
    let metric = labels.metric_name();
    if metric.is_empty() {
        return Err("missing metric name (__name__ label)".to_owned());
    }
    let validation = config.validation();
    let names_fit = labels.iter().all(|(name, _)| name == METRIC_NAME || validation.accepts_label(name));
    if !validation.accepts_metric(metric) || !names_fit {
        return Err(format!("invalid metric name or label names: {labels}"));
    }
    let limits = &config.limits;
    let metric = short(metric);
    if limits.labels > 0 && labels.len() > limits.labels {
        let (count, limit) = (labels.len(), limits.labels);
        return Err(format!("label_limit exceeded (metric: {metric}, number of labels: {count}, limit: {limit})"));
    }
    for (name, value) in labels.iter() {
        let (length, limit) = (name.len(), limits.label_name_length);
        let name = short(name);
        if limit > 0 && length > limit {
            return Err(format!(
                "label_name_length_limit exceeded (metric: {metric}, label name: {name}, length: {length}, limit: {limit})"
            ));
        }
        let (length, limit) = (value.len(), limits.label_value_length);
        if limit > 0 && length > limit {
            let value = go_quote(short(value).as_bytes());
            return Err(format!(
                "label_value_length_limit exceeded (metric: {metric}, label name: {name}, value: {value}, length: {length}, limit: {limit})"
            ));
        }
    }
    Ok(())
}

/// The first 50 characters.
fn short(text: &str) -> &str {
    text.char_indices().nth(50).map_or(text, |(end, _)| &text[..end])
}

/// The series that a scrape makes about itself.
#[derive(Debug, Default)]
struct Report {
    series: Vec<(Labels, SeriesRef)>,
}

const REPORT: [&str; 8] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
    "scrape_timeout_seconds",
    "scrape_sample_limit",
    "scrape_body_size_bytes",
];

impl Report {
    /// Makes the first `count` series known. They have the target's labels and are not relabelled.
    fn resolve(&mut self, job: &Job, target: &Target, count: usize) {
        while self.series.len() < count {
            let mut labels = target.labels().to_builder();
            labels.set(METRIC_NAME, REPORT[self.series.len()]);
            let labels = labels.build();
            let series = job.store.series(&labels);
            self.series.push((labels, series));
        }
    }
}

/// Start timestamps that `_created` lines tell: one for the samples of a metric family with the same labels.
#[derive(Debug, Default)]
struct Starts {
    groups: HashMap<String, u32>,
    /// The scrape that told it, and the start in milliseconds.
    told: Vec<(u64, i64)>,
}

impl Starts {
    fn begin(&mut self) {
        // Groups of series that are long gone must not pile up; those in use come back with their series' next text.
        if self.groups.len() > 1_000_000 {
            self.groups.clear();
        }
    }

    fn tell(&mut self, group: u32, scrape: u64, seconds: f64) {
        self.told[group as usize] = (scrape, (seconds * 1000.0) as i64);
    }

    fn of(&self, group: u32, scrape: u64) -> Option<i64> {
        let (told, start_ms) = self.told[group as usize];
        (told == scrape && start_ms > 0).then_some(start_ms)
    }

    /// The group of the parser's last sample.
    fn group_of(&mut self, parser: &Parser<'_>) -> StartGroup {
        let kind = parser.kind();
        if !kind.has_start() {
            return StartGroup::None;
        }
        let own = match kind {
            MetricKind::Histogram => "le",
            MetricKind::Summary => "quantile",
            _ => "",
        };
        let mut pairs: Vec<(String, String)> = Vec::new();
        let mut created = false;
        for (name, value) in parser.labels() {
            if name == METRIC_NAME {
                created = value.ends_with("_created");
                let suffixes = ["_created", "_total", "_bucket", "_sum", "_count"];
                let family = suffixes.iter().find_map(|suffix| value.strip_suffix(suffix)).unwrap_or(&value);
                pairs.push((String::new(), family.to_owned()));
            } else if name != own {
                pairs.push((name.into_owned(), value.into_owned()));
            }
        }
        pairs.sort();
        let key = pairs.iter().map(|(name, value)| format!("{name}\u{1}{value}\u{1}")).collect();
        let next = self.told.len() as u32;
        let group = *self.groups.entry(key).or_insert(next);
        if group == next {
            self.told.push((0, 0));
        }
        if created { StartGroup::Created(group) } else { StartGroup::Member(group) }
    }
}
