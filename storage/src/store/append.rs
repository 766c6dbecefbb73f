//! The way in: check, log, apply, wait.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pilaster_model::{Histogram, Labels, is_stale};

use super::{Store, Unlogged};
use crate::head::Limits;
use crate::wal::WalSample;
use crate::{Error, RejectReason, SeriesRef};

/// A float sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    pub series: SeriesRef,
    pub timestamp_ms: i64,
    /// Kept bit for bit, staleness markers and other NaNs included.
    pub value: f64,
    /// When the series began to count, where that is known.
    pub start_ms: Option<i64>,
}

/// A sample of a native histogram.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSample {
    pub series: SeriesRef,
    pub timestamp_ms: i64,
    /// A staleness marker where its sum is one, as Prometheus marks the end of such series.
    pub histogram: Arc<Histogram>,
    /// When the series began to count, where that is known.
    pub start_ms: Option<i64>,
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppendOutcome {
    /// Samples taken, those that were there already included.
    pub appended: usize,
    pub rejected: Vec<Rejected>,
}

/// A sample that was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejected {
    /// Position in the batch; histograms follow floats.
    pub index: usize,
    pub reason: RejectReason,
}

impl Store {
    /// Takes the samples that are acceptable and returns when they would survive a crash. A snapshot sees all of them
    /// or none.
    ///
    /// # Errors
    /// The log could not be written: nothing is acknowledged, and the batch may be sent again. What snapshots have
    /// seen of it stays, and is logged before anything else is taken.
    pub fn append(&self, samples: &[Sample]) -> Result<AppendOutcome, Error> {
        self.append_batch(samples, &[])
    }

    /// [`Store::append`] for native histograms.
    pub fn append_histograms(&self, samples: &[HistogramSample]) -> Result<AppendOutcome, Error> {
        self.append_batch(&[], samples)
    }

    /// [`Store::append`] for both kinds at once, as one scrape or request brings them.
    pub fn append_batch(&self, floats: &[Sample], histograms: &[HistogramSample]) -> Result<AppendOutcome, Error> {
        let result = self.append_and_wait(floats, histograms);
        if result.is_err() {
            self.counters.appends_failed.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    fn append_and_wait(&self, floats: &[Sample], histograms: &[HistogramSample]) -> Result<AppendOutcome, Error> {
        self.log_unlogged()?;
        self.wal.wait_for_room();
        let mut outcome = AppendOutcome::default();
        let mut taken: Vec<WalSample> = Vec::with_capacity(floats.len());
        let mut known = 0;
        let mut taken_histograms: Vec<(WalSample, Arc<Histogram>)> = Vec::new();
        let ticket = {
            let epoch = self.head.epochs.enter();
            let limits = self.limits();
            let series = floats.iter().map(|s| s.series.0).chain(histograms.iter().map(|s| s.series.0));
            let mut locked = self.head.lock(series);
            let mut refuse = |index: usize, reason: RejectReason| {
                self.counters.reject(reason);
                outcome.rejected.push(Rejected { index, reason });
            };
            for (index, sample) in floats.iter().enumerate() {
                let logged = WalSample {
                    series: sample.series.0,
                    timestamp_ms: sample.timestamp_ms,
                    value: sample.value,
                    start_ms: sample.start_ms.unwrap_or(0),
                };
                match locked.append(&logged, None, limits, epoch.number) {
                    Ok(true) => taken.push(logged),
                    Ok(false) => known += 1,
                    Err(reason) => refuse(index, reason),
                }
            }
            for (index, sample) in histograms.iter().enumerate() {
                // A marker is a value wherever it is kept.
                let is_marker = is_stale(sample.histogram.sum);
                let logged = WalSample {
                    series: sample.series.0,
                    timestamp_ms: sample.timestamp_ms,
                    value: if is_marker { sample.histogram.sum } else { 0.0 },
                    start_ms: sample.start_ms.unwrap_or(0),
                };
                let histogram = (!is_marker).then_some(&sample.histogram);
                match locked.append(&logged, histogram, limits, epoch.number) {
                    Ok(false) => known += 1,
                    Ok(true) if is_marker => taken.push(logged),
                    Ok(true) => taken_histograms.push((logged, sample.histogram.clone())),
                    Err(reason) => refuse(floats.len() + index, reason),
                }
            }
            outcome.appended = known + taken.len() + taken_histograms.len();
            if taken.is_empty() && taken_histograms.is_empty() {
                return Ok(outcome);
            }
            // With the shards still held: the log has the samples of a series in the order of the head.
            self.wal.enqueue_all(&taken, &taken_histograms, &|series| self.labels_of(series))
        };
        if let Err(error) = self.wal.wait(ticket) {
            let floats = taken.into_iter().map(|sample| (sample, None));
            let histograms = taken_histograms.into_iter().map(|(sample, histogram)| (sample, Some(histogram)));
            let unlogged = &mut *self.unlogged.lock();
            unlogged.extend(floats.chain(histograms));
            self.has_unlogged.store(true, Ordering::Release);
            return Err(error.into());
        }
        self.counters.samples_appended.fetch_add(taken.len() as u64, Ordering::Relaxed);
        self.counters.histograms_appended.fetch_add(taken_histograms.len() as u64, Ordering::Relaxed);
        Ok(outcome)
    }

    fn limits(&self) -> Limits {
        let oldest_late_ms = || self.max_ms().map_or(i64::MIN, |ms| ms.saturating_sub(self.options.out_of_order_ms));
        Limits {
            closed_before_ms: self.closed_before_ms.load(Ordering::Relaxed),
            late_from_ms: (self.options.out_of_order_ms > 0).then(oldest_late_ms),
            flushed: self.view.read().flushed,
        }
    }

    fn labels_of(&self, series: u64) -> Labels {
        self.head.labels(SeriesRef(series)).unwrap_or_default()
    }

    /// Brings to the log what an earlier failure kept from it. Until that succeeds nothing new is taken, so there is
    /// never more of it than what was on its way when the log failed.
    pub(super) fn log_unlogged(&self) -> Result<(), Error> {
        if !self.has_unlogged.load(Ordering::Acquire) {
            return Ok(());
        }
        let unlogged = &mut *self.unlogged.lock();
        // What the head has forgotten by now is in blocks.
        unlogged.retain(|(sample, _)| self.head.labels(SeriesRef(sample.series)).is_some());
        let (mut floats, mut histograms) = (Vec::new(), Vec::new());
        for (sample, histogram) in unlogged.iter() {
            match histogram {
                None => floats.push(*sample),
                Some(histogram) => histograms.push((*sample, histogram.clone())),
            }
        }
        if !unlogged.is_empty() {
            let ticket = self.wal.enqueue_all(&floats, &histograms, &|series| self.labels_of(series));
            self.wal.wait(ticket)?;
        }
        *unlogged = Vec::<Unlogged>::new();
        self.has_unlogged.store(false, Ordering::Release);
        Ok(())
    }
}
