//! The samples of one series in memory.

use std::sync::Arc;

use pilaster_model::{Histogram, TimeRange};

use super::chunk::Chunk;
use super::columns::Columns;
use super::epochs::Epochs;
use super::{Flushed, Limits, RejectReason, Taken};
use crate::wal::WalSample;

/// Raw samples that become a chunk.
const TAIL: usize = 16;
/// So many neighbouring chunks of one tail each become one.
const MERGE: usize = 8;

/// Room to work in, for many series one after another.
#[derive(Debug, Default)]
pub struct Scratch {
    columns: Columns,
    bytes: Vec<u8>,
}

/// A sample of the tail, and what little else it has.
#[derive(Debug, Clone, Copy)]
struct Raw {
    timestamp_ms: i64,
    value: f64,
}

/// A sample that came out of order.
#[derive(Debug, Clone)]
struct Late {
    timestamp_ms: i64,
    value: f64,
    start_ms: i64,
    epoch: u64,
    histogram: Option<Arc<Histogram>>,
}

/// Histograms by timestamp, ascending.
type Histograms = Vec<(i64, Arc<Histogram>)>;

/// See the module. Sealed chunks, then the tail: strictly ascending in time.
#[derive(Debug, Default)]
#[allow(clippy::box_collection, reason = "what few series have takes one word in the others")]
pub struct HeadSeries {
    chunks: Vec<Chunk>,
    tail: Vec<Raw>,
    /// As long as the tail, where any start timestamp of it is known.
    tail_starts: Option<Box<Vec<i64>>>,
    /// In-order samples that are histograms, ascending. Their places in chunks and tail hold 0.
    histograms: Option<Box<Histograms>>,
    /// Ascending, at timestamps that nothing in order has.
    late: Option<Box<Vec<Late>>>,
    /// `(epoch, newest timestamp in order at its end)`, ascending; only what a living snapshot may ask for.
    notes: Option<Box<Vec<(u64, i64)>>>,
    /// Newest sample in order; it is known even when its chunk is gone.
    last_ms: i64,
    last_bits: u64,
    last_histogram: Option<Arc<Histogram>>,
    /// The epoch of the newest sample in order.
    last_epoch: u64,
    /// Whether there ever was a sample in order.
    has_last: bool,
    /// When it was first found without samples; appends clear it.
    pub idle_since_ms: Option<i64>,
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
        if self.has_last && timestamp_ms == self.last_ms {
            return same(self.last_bits, self.last_histogram.as_ref(), value, histogram);
        }
        if timestamp_ms < limits.closed_before_ms || (self.has_last && timestamp_ms < self.last_ms) {
            return self.append_late(sample, histogram, limits, epoch);
        }
        self.note(epoch, epochs);
        self.idle_since_ms = None;
        self.has_last = true;
        self.last_ms = timestamp_ms;
        self.last_bits = value.to_bits();
        self.last_epoch = epoch;
        if histogram.is_some() || self.last_histogram.is_some() {
            self.last_histogram = histogram.cloned();
        }
        if let Some(histogram) = histogram {
            self.histograms.get_or_insert_default().push((timestamp_ms, histogram.clone()));
        }
        if self.tail.len() == TAIL {
            self.seal(scratch);
        }
        if sample.start_ms != 0 || self.tail_starts.is_some() {
            let starts = self.tail_starts.get_or_insert_default();
            starts.resize(self.tail.len(), 0);
            starts.push(sample.start_ms);
        }
        self.tail.push(Raw { timestamp_ms, value });
        Ok(Taken::New)
    }

    /// Keeps what older epochs saw, for snapshots that still see one of them.
    fn note(&mut self, epoch: u64, epochs: &Epochs) {
        if self.last_epoch == epoch || !self.has_last {
            return;
        }
        if epochs.is_seen(self.last_epoch) {
            let notes = self.notes.get_or_insert_default();
            notes.push((self.last_epoch, self.last_ms));
            let oldest = epochs.oldest_seen();
            // The newest note at or before the oldest snapshot answers for it; older ones are never asked.
            let needed = notes.partition_point(|(noted, _)| *noted <= oldest).saturating_sub(1);
            notes.drain(..needed);
        } else if self.notes.is_some() && epochs.oldest_seen() >= self.last_epoch {
            self.notes = None;
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
        let late = self.late.get_or_insert_default();
        match late.binary_search_by_key(&timestamp_ms, |late| late.timestamp_ms) {
            Ok(at) => same(late[at].value.to_bits(), late[at].histogram.as_ref(), value, histogram),
            Err(at) => {
                let start_ms = sample.start_ms;
                late.insert(at, Late { timestamp_ms, value, start_ms, epoch, histogram: histogram.cloned() });
                self.idle_since_ms = None;
                Ok(Taken::New)
            }
        }
    }

    /// Makes a chunk of the tail, and one of many small chunks.
    fn seal(&mut self, scratch: &mut Scratch) {
        let Scratch { columns, bytes } = scratch;
        columns.clear();
        columns.timestamps.extend(self.tail.iter().map(|raw| raw.timestamp_ms));
        columns.values.extend(self.tail.iter().map(|raw| raw.value));
        if let Some(starts) = self.tail_starts.take() {
            columns.starts_ms = *starts;
        }
        self.chunks.extend(Chunk::seal(columns, bytes));
        self.tail.clear();
        let small = self.chunks.iter().rev().take_while(|chunk| chunk.count as usize <= TAIL).count();
        if small >= MERGE {
            let first = self.chunks.len() - small;
            columns.clear();
            self.chunks[first..].iter().for_each(|chunk| chunk.read(columns));
            let merged = Chunk::seal(columns, bytes);
            self.chunks.truncate(first);
            self.chunks.extend(merged);
        }
    }

    /// Appends to `out` the samples in order in `[min_ms, max_ms]`.
    fn read_in_order(&self, min_ms: i64, max_ms: i64, out: &mut Columns) {
        if min_ms > max_ms {
            return;
        }
        let base = out.len();
        let first = self.chunks.partition_point(|chunk| chunk.max_ms < min_ms);
        for chunk in self.chunks[first..].iter().take_while(|chunk| chunk.min_ms <= max_ms) {
            chunk.read_range(min_ms, max_ms, out);
        }
        if self.tail.first().is_some_and(|raw| raw.timestamp_ms <= max_ms) {
            let from = self.tail.partition_point(|raw| raw.timestamp_ms < min_ms);
            let to = self.tail.partition_point(|raw| raw.timestamp_ms <= max_ms);
            for (index, raw) in self.tail.iter().enumerate().take(to).skip(from) {
                let start_ms = self.tail_starts.as_ref().and_then(|starts| starts.get(index)).copied().unwrap_or(0);
                out.push(raw.timestamp_ms, raw.value, start_ms, None);
            }
        }
        if let Some(histograms) = &self.histograms {
            let from = histograms.partition_point(|(timestamp_ms, _)| *timestamp_ms < min_ms);
            let mut at = base;
            for (timestamp_ms, histogram) in histograms[from..].iter().take_while(|(ms, _)| *ms <= max_ms) {
                at += out.timestamps[at..].partition_point(|ms| ms < timestamp_ms);
                if out.timestamps.get(at) == Some(timestamp_ms) {
                    out.histograms.push((at, histogram.clone()));
                }
            }
        }
    }

    /// The newest timestamp in order that `epoch` sees.
    fn visible_to(&self, epoch: u64) -> Option<i64> {
        if !self.has_last {
            return None;
        }
        if self.last_epoch <= epoch {
            return Some(self.last_ms);
        }
        let notes = self.notes.as_ref()?;
        let after = notes.partition_point(|(noted, _)| *noted <= epoch);
        Some(notes.get(after.checked_sub(1)?)?.1)
    }

    fn visible_late(&self, range: TimeRange, epoch: u64, flushed: Flushed) -> impl Iterator<Item = &Late> {
        let late = self.late.as_ref().map_or(&[][..], |late| &late[..]);
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

    /// Whether [`HeadSeries::read`] may find something; never wrong when it says no.
    pub fn may_overlap(&self, range: TimeRange, epoch: u64, flushed: Flushed) -> bool {
        let min_ms = range.min_ms.max(flushed.before_ms);
        let in_order = match (self.visible_to(epoch), self.first_ms()) {
            (Some(visible_to), Some(first_ms)) => {
                let max_ms = range.max_ms.min(visible_to);
                min_ms <= max_ms && first_ms <= max_ms && min_ms <= self.last_ms
            }
            (Some(_), None) | (None, _) => false,
        };
        in_order || self.visible_late(range, epoch, flushed).next().is_some()
    }

    fn first_ms(&self) -> Option<i64> {
        match self.chunks.first() {
            Some(chunk) => Some(chunk.min_ms),
            None => self.tail.first().map(|raw| raw.timestamp_ms),
        }
    }

    /// Oldest timestamp that blocks do not hold; it may be too low by less than a chunk, not below the flushed range.
    pub fn min_ms(&self, flushed: Flushed) -> Option<i64> {
        let in_order = self.first_ms().filter(|_| self.last_ms >= flushed.before_ms);
        let late = self.visible_late(TimeRange::ALL, u64::MAX, flushed).next().map(|late| late.timestamp_ms);
        [in_order.map(|ms| ms.max(flushed.before_ms)), late].into_iter().flatten().min()
    }

    pub fn late_len(&self) -> usize {
        self.late.as_ref().map_or(0, |late| late.len())
    }

    /// Frees what blocks hold: whole chunks and late samples. Returns how many samples in order and late ones went.
    pub fn drop_flushed(&mut self, flushed: Flushed) -> (usize, usize) {
        let gone = self.chunks.partition_point(|chunk| chunk.max_ms < flushed.before_ms);
        let mut in_order: usize = self.chunks.drain(..gone).map(|chunk| chunk.count as usize).sum();
        if gone > 0 {
            self.chunks.shrink_to_fit();
        }
        if self.tail.last().is_some_and(|raw| raw.timestamp_ms < flushed.before_ms) {
            in_order += self.tail.len();
            self.tail = Vec::new();
            self.tail_starts = None;
        }
        if let Some(histograms) = &mut self.histograms {
            let gone = histograms.partition_point(|(timestamp_ms, _)| *timestamp_ms < flushed.before_ms);
            histograms.drain(..gone);
            if histograms.is_empty() {
                self.histograms = None;
            }
        }
        let late_before = self.late_len();
        if let Some(late) = &mut self.late {
            late.retain(|late| late.timestamp_ms >= flushed.before_ms || late.epoch > flushed.epoch);
            if late.is_empty() {
                self.late = None;
            }
        }
        (in_order, late_before - self.late_len())
    }

    /// Whether no sample is in memory.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.tail.is_empty() && self.late.is_none()
    }

    pub fn memory_bytes(&self) -> usize {
        let histograms = self.histograms.as_ref().map_or(0, |list| list.iter().map(|(_, h)| histogram_bytes(h)).sum());
        size_of::<HeadSeries>()
            + self.chunks.capacity() * size_of::<Chunk>()
            + self.chunks.iter().map(Chunk::memory_bytes).sum::<usize>()
            + self.tail.capacity() * size_of::<Raw>()
            + self.tail_starts.as_ref().map_or(0, |starts| starts.capacity() * 8 + 24)
            + self.late_len() * size_of::<Late>()
            + self.notes.as_ref().map_or(0, |notes| notes.capacity() * 16 + 24)
            + histograms
    }
}

fn histogram_bytes(histogram: &Histogram) -> usize {
    size_of::<Histogram>()
        + 8 * (histogram.positive.len() + histogram.negative.len())
        + 8 * (histogram.positive_spans.len() + histogram.negative_spans.len())
}
