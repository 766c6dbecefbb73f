//! The samples of one series in memory.

mod stored;

use std::sync::Arc;

use pilaster_model::{Columns, Histogram, TimeRange};

use super::epochs::Epochs;
use super::samples::{Samples, Scratch};
use super::{Flushed, Limits, RejectReason, Taken};
use crate::wal::WalSample;

pub use stored::Restored;

/// A sample that came out of order.
#[derive(Debug, Clone)]
struct Late {
    timestamp_ms: i64,
    value: f64,
    start_ms: i64,
    epoch: u64,
    histogram: Option<Arc<Histogram>>,
}

/// What few series have.
#[derive(Debug, Default)]
struct Rare {
    /// Timestamp from which on samples in order have a start timestamp, and that one; ascending.
    starts: Vec<(i64, i64)>,
    /// In-order samples that are histograms, ascending. Their places among the samples hold 0.
    histograms: Vec<(i64, Arc<Histogram>)>,
    /// Ascending, at timestamps that nothing in order has.
    late: Vec<Late>,
    /// The newest sample in order, where it is one.
    last_histogram: Option<Arc<Histogram>>,
    /// When the series was first found without samples; appends clear it.
    idle_since_ms: Option<i64>,
}

impl Rare {
    fn is_empty(&self) -> bool {
        self.starts.is_empty()
            && self.histograms.is_empty()
            && self.late.is_empty()
            && self.last_histogram.is_none()
            && self.idle_since_ms.is_none()
    }
}

/// What series have now and then.
#[derive(Debug, Default)]
struct Extra {
    /// `(epoch, newest timestamp in order at its end)`, ascending; only what a living snapshot may ask for.
    notes: Vec<(u64, i64)>,
    rare: Option<Box<Rare>>,
}

/// See the module. What every series has takes 64 bytes.
#[derive(Debug, Default)]
pub struct HeadSeries {
    samples: Samples,
    extra: Option<Box<Extra>>,
    /// Newest sample in order; it is known even when its chunk is gone.
    last_ms: i64,
    last_bits: u64,
    /// The epoch of the newest sample in order.
    last_epoch: u64,
}

/// The newest sample in a range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Newest {
    None,
    /// Timestamp and value.
    Float(i64, f64),
    Histogram,
}

/// Whether the sample that is there already, `(bits, histogram)`, is the one that comes.
fn same(
    bits: u64,
    histogram: Option<&Arc<Histogram>>,
    value: f64,
    new: Option<&Arc<Histogram>>,
) -> Result<Taken, RejectReason> {
    let equal = match (histogram, new) {
        (None, None) => bits == value.to_bits(),
        (Some(old), Some(new)) => old.is_same_data(new),
        (None, Some(_)) | (Some(_), None) => false,
    };
    if equal { Ok(Taken::Known) } else { Err(RejectReason::DuplicateDifferentValue) }
}

impl HeadSeries {
    pub fn append(
        &mut self,
        sample: &WalSample,
        histogram: Option<&Arc<Histogram>>,
        limits: Limits,
        epoch: u64,
        epochs: &Epochs,
        scratch: &mut Scratch,
    ) -> Result<Taken, RejectReason> {
        let timestamp_ms = sample.timestamp_ms;
        let value = if histogram.is_some() { 0.0 } else { sample.value };
        let has_last = self.samples.ever;
        if has_last && timestamp_ms == self.last_ms {
            let last_histogram = self.rare().and_then(|rare| rare.last_histogram.as_ref());
            let taken = same(self.last_bits, last_histogram, value, histogram)?;
            let is_flushed = timestamp_ms < limits.flushed.before_ms && self.last_epoch <= limits.flushed.epoch;
            return Ok(if is_flushed { Taken::InBlocks } else { taken });
        }
        if timestamp_ms < limits.closed_before_ms || (has_last && timestamp_ms < self.last_ms) {
            return self.append_late(sample, histogram, limits, epoch);
        }
        if self.samples.is_full() {
            return Err(RejectReason::TooOld);
        }
        self.note(epoch, epochs);
        if sample.start_ms != 0 || histogram.is_some() || self.rare().is_some() {
            self.append_rare(sample, histogram);
        }
        self.samples.push(timestamp_ms, value.to_bits(), self.last_ms, self.last_bits, scratch);
        self.last_ms = timestamp_ms;
        self.last_bits = value.to_bits();
        self.last_epoch = epoch;
        Ok(Taken::New)
    }

    fn rare(&self) -> Option<&Rare> {
        self.extra.as_ref()?.rare.as_deref()
    }

    fn rare_mut(&mut self) -> &mut Rare {
        self.extra.get_or_insert_default().rare.get_or_insert_default()
    }

    /// Keeps of a sample in order what most samples do not have.
    fn append_rare(&mut self, sample: &WalSample, histogram: Option<&Arc<Histogram>>) {
        let was_empty = self.samples.is_empty();
        let rare = self.rare_mut();
        rare.idle_since_ms = None;
        let last_start_ms = rare.starts.last().map_or(0, |(_, start_ms)| *start_ms);
        if was_empty {
            rare.starts.clear();
        }
        if sample.start_ms != last_start_ms || (was_empty && sample.start_ms != 0) {
            rare.starts.push((sample.timestamp_ms, sample.start_ms));
        }
        rare.last_histogram = histogram.cloned();
        if let Some(histogram) = histogram {
            rare.histograms.push((sample.timestamp_ms, histogram.clone()));
        }
        self.tidy();
    }

    /// Frees what is empty.
    fn tidy(&mut self) {
        if let Some(extra) = &mut self.extra {
            if extra.rare.as_ref().is_some_and(|rare| rare.is_empty()) {
                extra.rare = None;
            }
            if extra.rare.is_none() && extra.notes.is_empty() {
                self.extra = None;
            }
        }
    }

    /// Keeps what older epochs saw, for snapshots that still see one of them.
    fn note(&mut self, epoch: u64, epochs: &Epochs) {
        if self.last_epoch == epoch || !self.samples.ever {
            return;
        }
        let has_notes = self.extra.as_ref().is_some_and(|extra| !extra.notes.is_empty());
        if epochs.is_seen(self.last_epoch) {
            let notes = &mut self.extra.get_or_insert_default().notes;
            if notes.is_empty() {
                notes.reserve_exact(1);
            }
            notes.push((self.last_epoch, self.last_ms));
            let oldest = epochs.oldest_seen();
            // The newest note at or before the oldest snapshot answers for it; older ones are never asked.
            let needed = notes.partition_point(|(noted, _)| *noted <= oldest).saturating_sub(1);
            notes.drain(..needed);
        } else if has_notes && epochs.oldest_seen() >= self.last_epoch {
            self.extra.get_or_insert_default().notes = Vec::new();
            self.tidy();
        }
    }

    fn append_late(
        &mut self,
        sample: &WalSample,
        histogram: Option<&Arc<Histogram>>,
        limits: Limits,
        epoch: u64,
    ) -> Result<Taken, RejectReason> {
        let timestamp_ms = sample.timestamp_ms;
        match limits.late_from_ms {
            None if timestamp_ms < limits.closed_before_ms => return Err(RejectReason::TooOld),
            None => return Err(RejectReason::OutOfOrder),
            Some(from_ms) if timestamp_ms < from_ms => return Err(RejectReason::TooOld),
            Some(_) => {}
        }
        let value = if histogram.is_some() { 0.0 } else { sample.value };
        let mut there = Columns::default();
        self.read_in_order(timestamp_ms, timestamp_ms, &mut there);
        if let Some(old) = there.values.first() {
            return same(old.to_bits(), there.histogram(0), value, histogram);
        }
        let rare = self.rare_mut();
        let late = &mut rare.late;
        match late.binary_search_by_key(&timestamp_ms, |late| late.timestamp_ms) {
            Ok(at) => same(late[at].value.to_bits(), late[at].histogram.as_ref(), value, histogram),
            Err(at) => {
                let start_ms = sample.start_ms;
                late.insert(at, Late { timestamp_ms, value, start_ms, epoch, histogram: histogram.cloned() });
                rare.idle_since_ms = None;
                Ok(Taken::New)
            }
        }
    }

    /// Appends to `out` the samples in order in `[min_ms, max_ms]`.
    fn read_in_order(&self, min_ms: i64, max_ms: i64, out: &mut Columns) {
        let base = out.len();
        self.samples.read(min_ms, max_ms, out);
        let Some(rare) = self.rare() else {
            if !out.starts_ms.is_empty() {
                out.starts_ms.resize(out.timestamps.len(), 0);
            }
            return;
        };
        if !rare.starts.is_empty() || !out.starts_ms.is_empty() {
            out.starts_ms.resize(base, 0);
            let mut at = 0;
            for &timestamp_ms in &out.timestamps[base..] {
                while rare.starts.get(at).is_some_and(|(from_ms, _)| *from_ms <= timestamp_ms) {
                    at += 1;
                }
                out.starts_ms.push(at.checked_sub(1).map_or(0, |at| rare.starts[at].1));
            }
        }
        let histograms = &rare.histograms;
        let from = histograms.partition_point(|(timestamp_ms, _)| *timestamp_ms < min_ms);
        let mut at = base;
        for (timestamp_ms, histogram) in histograms[from..].iter().take_while(|(ms, _)| *ms <= max_ms) {
            at += out.timestamps[at..].partition_point(|ms| ms < timestamp_ms);
            if out.timestamps.get(at) == Some(timestamp_ms) {
                out.histograms.push((at, histogram.clone()));
            }
        }
    }

    /// The newest timestamp in order that `epoch` sees.
    fn visible_to(&self, epoch: u64) -> Option<i64> {
        if !self.samples.ever {
            return None;
        }
        if self.last_epoch <= epoch {
            return Some(self.last_ms);
        }
        let notes = &self.extra.as_ref()?.notes;
        let after = notes.partition_point(|(noted, _)| *noted <= epoch);
        Some(notes.get(after.checked_sub(1)?)?.1)
    }

    fn visible_late(&self, range: TimeRange, epoch: u64, flushed: Flushed) -> impl Iterator<Item = &Late> {
        let late = self.rare().map_or(&[][..], |rare| &rare.late);
        let from = late.partition_point(|late| late.timestamp_ms < range.min_ms);
        late[from..].iter().take_while(move |late| late.timestamp_ms <= range.max_ms).filter(move |late| {
            late.epoch <= epoch && !(late.timestamp_ms < flushed.before_ms && late.epoch <= flushed.epoch)
        })
    }

    /// Appends to `out` the samples in `range` that `epoch` sees and that blocks do not hold; ascending.
    pub fn read(&self, range: TimeRange, epoch: u64, flushed: Flushed, out: &mut Columns) {
        let min_ms = range.min_ms.max(flushed.before_ms);
        let visible_to = self.visible_to(epoch);
        let mut late = self.visible_late(range, epoch, flushed).peekable();
        if late.peek().is_none() {
            if let Some(visible_to) = visible_to {
                self.read_in_order(min_ms, range.max_ms.min(visible_to), out);
            }
            return;
        }
        let mut in_order = Columns::default();
        if let Some(visible_to) = visible_to {
            self.read_in_order(min_ms, range.max_ms.min(visible_to), &mut in_order);
        }
        let mut out_of_order = Columns::default();
        late.for_each(|one| out_of_order.push(one.timestamp_ms, one.value, one.start_ms, one.histogram.clone()));
        let merged = in_order.merged(out_of_order);
        if out.is_empty() {
            *out = merged;
        } else {
            out.extend_from(&merged);
        }
    }

    /// The newest of the samples that [`HeadSeries::read`] finds, mostly without reading any. `columns` is room to work in.
    pub fn newest(&self, range: TimeRange, epoch: u64, flushed: Flushed, columns: &mut Columns) -> Newest {
        let has_last = self.samples.ever && self.last_epoch <= epoch && self.last_ms <= range.max_ms;
        if has_last && self.rare().is_none() {
            let is_inside = self.last_ms >= range.min_ms.max(flushed.before_ms);
            return if is_inside { Newest::Float(self.last_ms, f64::from_bits(self.last_bits)) } else { Newest::None };
        }
        columns.clear();
        self.read(range, epoch, flushed, columns);
        match (columns.timestamps.last(), columns.values.last()) {
            (Some(_), Some(_)) if columns.histogram(columns.len() - 1).is_some() => Newest::Histogram,
            (Some(&timestamp_ms), Some(&value)) => Newest::Float(timestamp_ms, value),
            (_, _) => Newest::None,
        }
    }

    /// Whether [`HeadSeries::read`] may find something; never wrong when it says no.
    pub fn may_overlap(&self, range: TimeRange, epoch: u64, flushed: Flushed) -> bool {
        let min_ms = range.min_ms.max(flushed.before_ms);
        // Mostly the newest sample says it, without a look at the others.
        let newest_is_seen = self.last_epoch <= epoch && !self.samples.is_empty();
        if newest_is_seen && min_ms <= self.last_ms && self.last_ms <= range.max_ms {
            return true;
        }
        let in_order = match (self.visible_to(epoch), self.samples.first_ms()) {
            (Some(visible_to), Some(first_ms)) => {
                let max_ms = range.max_ms.min(visible_to);
                min_ms <= max_ms && first_ms <= max_ms && min_ms <= self.last_ms
            }
            (Some(_), None) | (None, _) => false,
        };
        in_order || self.visible_late(range, epoch, flushed).next().is_some()
    }

    /// Oldest timestamp that blocks do not hold; it may be too low by less than a chunk, not below the flushed range.
    pub fn min_ms(&self, flushed: Flushed) -> Option<i64> {
        let in_order = self.samples.first_ms().filter(|_| self.last_ms >= flushed.before_ms);
        let late = self.visible_late(TimeRange::ALL, u64::MAX, flushed).next().map(|late| late.timestamp_ms);
        [in_order.map(|ms| ms.max(flushed.before_ms)), late].into_iter().flatten().min()
    }

    pub fn late_len(&self) -> usize {
        self.rare().map_or(0, |rare| rare.late.len())
    }

    /// Frees what blocks hold: whole chunks and late samples. Returns how many samples in order and late ones went.
    pub fn drop_flushed(&mut self, flushed: Flushed) -> (usize, usize) {
        let in_order = self.samples.drop_before(flushed.before_ms, self.last_ms);
        let late_before = self.late_len();
        let first_ms = self.samples.first_ms().unwrap_or(i64::MAX);
        if let Some(rare) = self.extra.as_mut().and_then(|extra| extra.rare.as_deref_mut()) {
            let gone = rare.histograms.partition_point(|(timestamp_ms, _)| *timestamp_ms < flushed.before_ms);
            rare.histograms.drain(..gone);
            // The one in force at the first sample stays.
            let gone = rare.starts.partition_point(|(from_ms, _)| *from_ms <= first_ms).saturating_sub(1);
            rare.starts.drain(..gone);
            rare.late.retain(|late| late.timestamp_ms >= flushed.before_ms || late.epoch > flushed.epoch);
            rare.starts.shrink_to_fit();
            rare.histograms.shrink_to_fit();
            rare.late.shrink_to_fit();
        }
        self.tidy();
        (in_order, late_before - self.late_len())
    }

    /// Samples in memory.
    pub fn count(&self) -> usize {
        self.samples.count() + self.late_len()
    }

    /// Whether no sample is in memory.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty() && self.late_len() == 0
    }

    /// When the series was first found without samples, which is `now_ms` where it had some until now.
    pub fn idle_since(&mut self, now_ms: i64) -> i64 {
        *self.rare_mut().idle_since_ms.get_or_insert(now_ms)
    }

    /// Bytes beside the struct itself.
    pub fn heap_bytes(&self) -> usize {
        let of_rare = |rare: &Rare| {
            size_of::<Rare>()
                + rare.starts.capacity() * 16
                + rare.histograms.capacity() * 16
                + rare.histograms.iter().map(|(_, histogram)| histogram_bytes(histogram)).sum::<usize>()
                + rare.late.capacity() * size_of::<Late>()
        };
        let of_extra =
            |extra: &Extra| size_of::<Extra>() + extra.notes.capacity() * 16 + extra.rare.as_deref().map_or(0, of_rare);
        self.samples.heap_bytes() + self.extra.as_deref().map_or(0, of_extra)
    }
}

fn histogram_bytes(histogram: &Histogram) -> usize {
    size_of::<Histogram>()
        + 8 * (histogram.positive.len() + histogram.negative.len())
        + 8 * (histogram.positive_spans.len() + histogram.negative_spans.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_takes_one_line_of_the_cache() {
        assert_eq!(size_of::<HeadSeries>(), 64);
    }

    #[test]
    fn start_timestamps_stand_where_they_change() {
        let flushed = Flushed { before_ms: i64::MIN, epoch: 0 };
        let limits = Limits { closed_before_ms: i64::MIN, late_from_ms: None, flushed };
        let (epochs, mut scratch) = (Epochs::default(), Scratch::default());
        let mut series = HeadSeries::default();
        let start = |step: i64| if step < 10 { 0 } else { step / 100 * 1000 + 5 };
        for step in 0..500 {
            let sample = WalSample { series: 0, timestamp_ms: step * 10, value: 1.0, start_ms: start(step) };
            assert_eq!(series.append(&sample, None, limits, 1, &epochs, &mut scratch), Ok(Taken::New));
        }
        let check = |series: &HeadSeries, steps: std::ops::Range<i64>| {
            let mut out = Columns::default();
            series.read_in_order(steps.start * 10, (steps.end - 1) * 10, &mut out);
            assert_eq!(out.starts_ms, steps.map(start).collect::<Vec<_>>());
        };
        check(&series, 0..500);
        check(&series, 99..101);
        series.drop_flushed(Flushed { before_ms: 3_300, epoch: 1 });
        check(&series, 330..500);
        series.drop_flushed(Flushed { before_ms: 9_000, epoch: 1 });
        assert!(series.is_empty());
        let sample = WalSample { series: 0, timestamp_ms: 10_000, value: 1.0, start_ms: 7 };
        assert_eq!(series.append(&sample, None, limits, 1, &epochs, &mut scratch), Ok(Taken::New));
        let mut out = Columns::default();
        series.read_in_order(0, 10_000, &mut out);
        assert_eq!((out.timestamps, out.starts_ms), (vec![10_000], vec![7]));
    }
}
