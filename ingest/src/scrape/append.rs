//! From an answer to appended samples.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pilaster_model::{Histogram, stale_nan};
use pilaster_storage::{Exemplar, ExemplarOutcome, HistogramSample, Metadata, RejectReason, Sample, SeriesRef, Store};
use tokio::time::Instant;

use super::ScrapeOptions;
use super::cache::{EntryKind, SeriesCache, StartGroup};
use super::failures::FailureLog;
use super::fetch::{FetchError, Fetched, decompress};
use super::read::Reading;
use super::report::Report;
use super::starts::Starts;
use super::stats::{ScrapeCounters, add};
use super::target::Target;
use crate::config::ScrapeConfig;

/// Scrapes for which metadata outlives its metric.
const METADATA_SCRAPES: u64 = 10;

/// What taking a scrape needs besides the target.
#[derive(Debug)]
pub(super) struct Job {
    pub config: Arc<ScrapeConfig>,
    pub store: Arc<Store>,
    pub counters: Arc<ScrapeCounters>,
    pub options: Arc<ScrapeOptions>,
    pub failures: Option<Arc<FailureLog>>,
}

impl Job {
    /// Bytes of a decompressed body that are too many.
    pub fn body_limit(&self) -> u64 {
        match self.config.limits.body_size.0 {
            0 => self.options.max_body_bytes,
            limit => limit,
        }
    }
}

/// Takes the scrapes of one target, one after the other.
///
/// Between scrapes it holds what the next one needs to know and no buffers: there may be ten thousand of them.
#[derive(Debug, Default)]
pub(super) struct Taker {
    cache: SeriesCache,
    report: Report,
    pending: Vec<Pending>,
    /// By positions of pending samples.
    exemplars: Vec<(usize, Exemplar)>,
    starts: Starts,
}

/// A sample that will be appended when the whole scrape is good.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub entry: u32,
    pub timestamp_ms: i64,
    pub value: Value,
    /// Where the format tells it beside the value.
    pub start_ms: Option<i64>,
    /// Whether its series gets a staleness marker when it disappears.
    pub tracked: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Float(f64),
    Histogram(Arc<Histogram>),
}

fn unpack(job: &Job, answer: Result<Fetched, FetchError>) -> Result<(Vec<u8>, String), FetchError> {
    let Fetched { body, gzip, content_type } = answer?;
    let plain = if gzip { decompress(&body, job.body_limit())? } else { body };
    Ok((plain, content_type))
}

/// What the report says about a scrape.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub scraped: usize,
    pub after_relabelling: usize,
    pub series_added: usize,
    /// Of the decompressed body; -1 where it was too large.
    body_bytes: i64,
}

impl Taker {
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
        let scrape = self.cache.begin();
        match unpack(job, answer) {
            Ok((body, content_type)) => {
                counts.body_bytes = body.len() as i64;
                if !body.is_empty() {
                    self.starts.begin();
                    let (cache, starts, pending) = (&mut self.cache, &mut self.starts, &mut self.pending);
                    let exemplars = &mut self.exemplars;
                    let mut reading = Reading::new(job, target, scrape_ms, cache, starts, pending, exemplars);
                    error = reading.read(&body, &content_type).err();
                    counts = Counts { body_bytes: counts.body_bytes, ..reading.finish() };
                }
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
            self.exemplars.clear();
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
        if let (Some(error), Some(log)) = (&error, &job.failures) {
            log.write(scrape_ms, &job.config.job_name, target.url(), error);
        }
        target.report(scrape_ms, duration, error.as_deref());
        self.commit(job, target, &stale, &report, scrape_ms);
        if success {
            self.publish_metadata(job, target, scrape);
        }
        self.commit_exemplars(job, target);
        self.pending = Vec::new();
        if self.cache.finish(success) {
            job.counters.cache_flushes_forced.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends all series of the target, its report included, at `timestamp_ms`. Blocks on the store.
    pub fn end(&mut self, job: &Job, target: &Target, timestamp_ms: i64) {
        self.cache.begin();
        let stale = self.cache.stale();
        let report = vec![stale_nan(); self.report.series.len()];
        self.commit(job, target, &stale, &report, timestamp_ms);
        self.cache.finish(false);
    }

    /// Brings samples, staleness markers and report to the store in one append.
    fn commit(&mut self, job: &Job, target: &Target, stale: &[SeriesRef], report: &[f64], scrape_ms: i64) {
        let mut batch = Batch::default();
        batch.floats.reserve(self.pending.len() + stale.len() + report.len());
        for index in 0..self.pending.len() {
            self.push(job, index, &mut batch);
        }
        let float = |series: SeriesRef, value: f64| Sample { series, timestamp_ms: scrape_ms, value, start_ms: None };
        batch.floats.extend(stale.iter().map(|series| float(*series, stale_nan())));
        let report_at = batch.floats.len();
        self.report.resolve(job, target, report.len());
        batch.floats.extend(report.iter().zip(&self.report.series).map(|(value, (_, series))| float(*series, *value)));
        let outcome = match job.store.append_batch(&batch.floats, &batch.histograms) {
            Ok(outcome) => outcome,
            Err(error) => {
                job.counters.commits_failed.fetch_add(1, Ordering::Relaxed);
                tracing::error!(target = target.url(), err = %error, "Scrape commit failed");
                return;
            }
        };
        let mut again = Batch::default();
        let (mut out_of_order, mut duplicates, mut out_of_bounds) = (0, 0, 0);
        for rejected in &outcome.rejected {
            let index = rejected.index;
            let pending = match index.checked_sub(batch.floats.len()) {
                Some(histogram) => batch.histograms_from.get(histogram),
                None => batch.floats_from.get(index),
            };
            match (rejected.reason, pending) {
                // The store has forgotten the series: it was silent for long. Its labels find it again.
                (RejectReason::UnknownSeries, Some(pending)) => {
                    if let Some((_, series)) = self.cache.series(self.pending[*pending].entry) {
                        *series = None;
                    }
                    self.push(job, *pending, &mut again);
                }
                (RejectReason::UnknownSeries, None) if index >= report_at => {
                    let (labels, series) = &mut self.report.series[index - report_at];
                    *series = job.store.series(labels);
                    again.floats.push(Sample { series: *series, ..batch.floats[index] });
                }
                // The marker of a series that the store has forgotten, or that another loop goes on with.
                (_, None) => {}
                (RejectReason::OutOfOrder, _) => out_of_order += 1,
                (RejectReason::DuplicateDifferentValue, _) => duplicates += 1,
                (RejectReason::TooOld, _) => out_of_bounds += 1,
            }
        }
        self.count_rejected(job, target, out_of_order, duplicates, out_of_bounds);
        if (!again.floats.is_empty() || !again.histograms.is_empty())
            && let Err(error) = job.store.append_batch(&again.floats, &again.histograms)
        {
            job.counters.commits_failed.fetch_add(1, Ordering::Relaxed);
            tracing::error!(target = target.url(), err = %error, "Scrape commit failed");
        }
    }

    /// Brings exemplars to the store; a scrape does not fail by them.
    fn commit_exemplars(&mut self, job: &Job, target: &Target) {
        let mut exemplars = std::mem::take(&mut self.exemplars);
        if exemplars.is_empty() {
            return;
        }
        exemplars.sort_by(|(at, a), (other_at, b)| {
            let by_time = || a.timestamp_ms.cmp(&b.timestamp_ms);
            at.cmp(other_at).then_with(by_time).then_with(|| a.value.total_cmp(&b.value))
        });
        let mut batch = Vec::with_capacity(exemplars.len());
        let mut places = Vec::with_capacity(exemplars.len());
        for (at, exemplar) in exemplars {
            let series = self.cache.series(self.pending[at].entry).and_then(|(_, series)| *series);
            if let Some(series) = series {
                batch.push((series, exemplar));
                places.push(at);
            }
        }
        let outcomes = match job.store.append_exemplars(&batch) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                tracing::error!(target = target.url(), err = %error, "Exemplars not stored");
                return;
            }
        };
        // Of a histogram's exemplars some are always old: it counts when all are.
        let mut out_of_order = 0;
        let of_series: Vec<_> = places.into_iter().zip(outcomes).collect();
        for of_series in of_series.chunk_by(|a, b| a.0 == b.0) {
            if of_series.iter().all(|(_, outcome)| *outcome == ExemplarOutcome::OutOfOrder) {
                out_of_order += of_series.len();
            }
        }
        add(&job.counters.exemplars_out_of_order, out_of_order);
        if out_of_order > 0 {
            tracing::warn!(
                target = target.url(),
                num_dropped = out_of_order,
                "Error on ingesting out-of-order exemplars"
            );
        }
    }

    /// Adds a pending sample to `batch`, under the reference of its series.
    fn push(&mut self, job: &Job, index: usize, batch: &mut Batch) {
        let pending = &self.pending[index];
        let start_ms = pending.start_ms.or_else(|| self.start_of(pending.entry));
        let Some((labels, series)) = self.cache.series(pending.entry) else { return };
        let series = *series.get_or_insert_with(|| job.store.series(labels));
        let timestamp_ms = pending.timestamp_ms;
        match &pending.value {
            Value::Float(value) => {
                batch.floats.push(Sample { series, timestamp_ms, value: *value, start_ms });
                batch.floats_from.push(index);
            }
            Value::Histogram(histogram) => {
                batch.histograms.push(HistogramSample { series, timestamp_ms, histogram: histogram.clone(), start_ms });
                batch.histograms_from.push(index);
            }
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
        let changed: Vec<Metadata> = metadata
            .iter()
            .filter(|(_, entry)| entry.changed == scrape)
            .map(|(metric, entry)| Metadata::new(metric, entry.kind.name(), &entry.help, &entry.unit))
            .collect();
        if let Err(error) = job.store.set_metadata(&changed) {
            tracing::error!(target = target.url(), err = %error, "Metadata not stored; the next scrape tells it again");
            let lost = metadata.values_mut().filter(|entry| entry.changed == scrape);
            lost.for_each(|entry| entry.changed = scrape + 1);
        }
    }
}

/// What goes to the store, and which pending samples the first floats and the histograms are.
#[derive(Debug, Default)]
struct Batch {
    floats: Vec<Sample>,
    floats_from: Vec<usize>,
    histograms: Vec<HistogramSample>,
    histograms_from: Vec<usize>,
}
