//! A series as a head snapshot keeps it.
//!
//! ```text
//! kind     1 byte: 1 has samples in order, 2 has something rare
//! in order svarint newest timestamp, 8 bytes its value, the samples (see `Samples::store`)
//! rare     start timestamps: uvarint number, of each svarint timestamp from which on, svarint start
//!          histograms in order: uvarint number, of each svarint timestamp, the histogram
//!          late samples: uvarint number, of each svarint timestamp, 8 bytes value, svarint start, 1 byte, [the histogram]
//! ```
//!
//! Timestamps of lists are distances from the one before.

use std::sync::Arc;

use pilaster_model::{Columns, Histogram, TimeRange};

use super::{HeadSeries, Late, Rare};
use crate::block::varint::{Cursor, put_svarint, put_uvarint};
use crate::head::epochs::Epochs;
use crate::head::samples::{Samples, Scratch};
use crate::head::{Flushed, Limits};
use crate::wal::WalSample;

const IN_ORDER: u8 = 1;
const RARE: u8 = 2;

/// A series, and how many samples it has.
#[derive(Debug)]
pub struct Restored {
    pub series: HeadSeries,
    pub in_order: usize,
    pub late: usize,
}

impl HeadSeries {
    /// Whether there is a sample that no block holds.
    pub fn has_unflushed(&self, flushed: Flushed) -> bool {
        self.has_unflushed_in_order(flushed) || self.visible_late(TimeRange::ALL, u64::MAX, flushed).next().is_some()
    }

    fn has_unflushed_in_order(&self, flushed: Flushed) -> bool {
        !self.samples.is_empty() && self.last_ms >= flushed.before_ms
    }

    /// Appends what [`HeadSeries::restore`] reads: what no block holds, and of samples in order what is packed with it.
    pub fn store(&self, flushed: Flushed, out: &mut Vec<u8>) {
        let in_order = self.has_unflushed_in_order(flushed);
        let rare = self.rare();
        out.push(if in_order { IN_ORDER } else { 0 } | if rare.is_some() { RARE } else { 0 });
        if in_order {
            put_svarint(out, self.last_ms);
            out.extend_from_slice(&self.last_bits.to_le_bytes());
            self.samples.store(out);
        }
        let Some(rare) = rare else { return };
        let mut before_ms = 0;
        let mut put_time = |timestamp_ms: i64, out: &mut Vec<u8>| {
            put_svarint(out, timestamp_ms.wrapping_sub(before_ms));
            before_ms = timestamp_ms;
        };
        let starts = if in_order { &*rare.starts } else { &[] };
        put_uvarint(out, starts.len() as u64);
        for &(from_ms, start_ms) in starts {
            put_time(from_ms, out);
            put_svarint(out, start_ms);
        }
        let histograms = if in_order { &*rare.histograms } else { &[] };
        put_uvarint(out, histograms.len() as u64);
        for (timestamp_ms, histogram) in histograms {
            put_time(*timestamp_ms, out);
            histogram.encode(out);
        }
        put_uvarint(out, self.visible_late(TimeRange::ALL, u64::MAX, flushed).count() as u64);
        for late in self.visible_late(TimeRange::ALL, u64::MAX, flushed) {
            put_time(late.timestamp_ms, out);
            out.extend_from_slice(&late.value.to_bits().to_le_bytes());
            put_svarint(out, late.start_ms);
            out.push(u8::from(late.histogram.is_some()));
            if let Some(histogram) = &late.histogram {
                histogram.encode(out);
            }
        }
    }

    /// The series that was stored, as if all of it had been appended in `epoch`. `None` for bytes that nobody has stored.
    pub fn restore(bytes: &mut Cursor<'_>, epoch: u64) -> Option<Restored> {
        let kind = bytes.byte().filter(|kind| *kind <= IN_ORDER | RARE)?;
        let mut series = HeadSeries::default();
        let mut in_order = 0;
        if kind & IN_ORDER != 0 {
            series.last_ms = bytes.svarint()?;
            series.last_bits = u64::from_le_bytes(*bytes.bytes(8)?.first_chunk()?);
            series.last_epoch = epoch;
            (series.samples, in_order) = Samples::restore(bytes)?;
            if in_order == 0 {
                return None;
            }
        }
        if kind & RARE != 0 {
            let mut before_ms = 0i64;
            let mut time = |bytes: &mut Cursor<'_>| {
                before_ms = before_ms.wrapping_add(bytes.svarint()?);
                Some(before_ms)
            };
            let mut rare = Rare::default();
            for _ in 0..count(bytes)? {
                rare.starts.push((time(bytes)?, bytes.svarint()?));
            }
            for _ in 0..count(bytes)? {
                rare.histograms.push((time(bytes)?, histogram(bytes)?));
            }
            for _ in 0..count(bytes)? {
                let timestamp_ms = time(bytes)?;
                let value = f64::from_bits(u64::from_le_bytes(*bytes.bytes(8)?.first_chunk()?));
                let start_ms = bytes.svarint()?;
                let histogram = if bytes.byte()? == 0 { None } else { Some(histogram(bytes)?) };
                rare.late.push(Late { timestamp_ms, value, start_ms, epoch, histogram });
            }
            let ascends = rare.late.is_sorted_by(|a, b| a.timestamp_ms < b.timestamp_ms)
                && rare.histograms.is_sorted_by(|a, b| a.0 < b.0)
                && rare.starts.is_sorted_by(|a, b| a.0 < b.0);
            if !ascends {
                return None;
            }
            let newest = rare.histograms.last().filter(|(ms, _)| *ms == series.last_ms);
            rare.last_histogram = newest.map(|(_, histogram)| histogram.clone());
            *series.rare_mut() = rare;
            series.tidy();
        }
        let late = series.late_len();
        Some(Restored { series, in_order, late })
    }

    /// Newest timestamp of all samples.
    pub fn max_ms(&self) -> Option<i64> {
        let in_order = (!self.samples.is_empty()).then_some(self.last_ms);
        let late = self.rare().and_then(|rare| rare.late.last()).map(|late| late.timestamp_ms);
        in_order.max(late)
    }

    /// The series without the samples in `hidden` and without those that blocks hold, as if nobody had ever appended them.
    pub fn without(&self, hidden: &[TimeRange], flushed: Flushed) -> HeadSeries {
        let mut columns = Columns::default();
        self.read(TimeRange::ALL, u64::MAX, flushed, &mut columns);
        columns.remove(hidden);
        let limits = Limits { closed_before_ms: flushed.before_ms, late_from_ms: Some(i64::MIN), flushed };
        let (epochs, mut scratch) = (Epochs::default(), Scratch::default());
        let mut series = HeadSeries::default();
        // Behind what is flushed: late samples from before the flushed range stay what they are.
        let epoch = flushed.epoch.saturating_add(1);
        for index in 0..columns.len() {
            let (timestamp_ms, value) = (columns.timestamps[index], columns.values[index]);
            let sample = WalSample { series: 0, timestamp_ms, value, start_ms: columns.start_ms(index) };
            let taken = series.append(&sample, columns.histogram(index), limits, epoch, &epochs, &mut scratch);
            debug_assert!(taken.is_ok(), "ascending samples are taken: {taken:?}");
        }
        series
    }
}

/// A number of things that take at least one byte each.
fn count(bytes: &mut Cursor<'_>) -> Option<usize> {
    bytes.number().filter(|&count: &usize| count <= bytes.rest().len())
}

fn histogram(bytes: &mut Cursor<'_>) -> Option<Arc<Histogram>> {
    let (histogram, len) = Histogram::decode(bytes.rest()).ok()?;
    bytes.skip(len)?;
    Some(Arc::new(histogram))
}
