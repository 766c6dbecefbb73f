//! Payloads of records: labels by reference, and samples in columns.
//!
//! A sample record holds `count`, then three or four columns: series references (zigzag deltas), timestamps (zigzag
//! deltas; by flag one for all), values (raw bits; by flag packed, see [`put_value`]) and, with the flag, distances from
//! start timestamp to timestamp. Samples of one scrape have ascending references and one timestamp, and most values are
//! small integers, so that a sample takes three to five bytes. A histogram record holds a whole sample record, whose
//! values mean nothing, and then the histograms one after another.

use std::sync::Arc;

use pilaster_model::{Histogram, Labels};

use super::extras::WalExemplar;
use crate::Metadata;
use crate::decimal::{is_decimal, scaled, unscaled};

/// One sample as the log keeps it.
#[derive(Debug, Clone, Copy)]
pub struct WalSample {
    /// Identifies a series for the life of the data directory.
    pub series: u64,
    pub timestamp_ms: i64,
    pub value: f64,
    /// 0 where unknown.
    pub start_ms: i64,
}

/// Bit for bit: a NaN equals itself and 0.0 does not equal -0.0.
impl PartialEq for WalSample {
    fn eq(&self, other: &WalSample) -> bool {
        let key = |s: &WalSample| (s.series, s.timestamp_ms, s.value.to_bits(), s.start_ms);
        key(self) == key(other)
    }
}

/// A decoded record.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// Labels of series that later records of the segment refer to.
    Series(Vec<(u64, Labels)>),
    Samples(Vec<WalSample>),
    /// Native histograms; the value of a sample means nothing.
    Histograms(Vec<(WalSample, Histogram)>),
    /// What was said about metrics; the last word counts.
    Metadata(Vec<Metadata>),
    Exemplars(Vec<WalExemplar>),
}

/// Set in a series record's flags when its payload is compressed with zstd, behind the length that it had.
const FLAG_COMPRESSED: u16 = 1;
/// Names of series repeat themselves, when there are a few.
const WORTH_COMPRESSING: usize = 512;
/// No record is longer, so that a damaged one cannot ask for all memory.
const MAX_UNPACKED: usize = 1 << 30;

/// Set in a sample record's flags when it has the column of start timestamps.
pub(super) const FLAG_START_TIMESTAMPS: u16 = 1;
/// Set when values are packed.
const FLAG_PACKED_VALUES: u16 = 2;
/// Set when all samples have the timestamp that stands there.
const FLAG_ONE_TIMESTAMP: u16 = 4;

/// Digits behind the point that integers stand for, by the low two bits of a packed value; [`RAW`] is a value itself.
const DIGITS: [u8; 3] = [0, 2, 3];
const RAW: u64 = 3;

pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_signed(value: i64, out: &mut Vec<u8>) {
    put_varint(((value << 1) ^ (value >> 63)) as u64, out);
}

/// A varint whose low two bits say what it is: an integer of zigzag form over a power of ten, or that the value follows
/// in eight bytes.
fn put_value(value: f64, out: &mut Vec<u8>) {
    for (kind, &digits) in DIGITS.iter().enumerate() {
        if is_decimal(value, digits) {
            let integer = scaled(value, digits);
            return put_varint((((integer << 1) ^ (integer >> 63)) as u64) << 2 | kind as u64, out);
        }
    }
    put_varint(RAW, out);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for (index, &byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.0 = &self.0[index + 1..];
                return Some(value);
            }
        }
        None
    }

    pub(super) fn signed(&mut self) -> Option<i64> {
        let raw = self.varint()?;
        Some((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let len = usize::try_from(self.varint()?).ok()?;
        std::str::from_utf8(self.take(len)?).ok()
    }

    fn value(&mut self) -> Option<f64> {
        let raw = self.varint()?;
        let Some(&digits) = DIGITS.get((raw & 3) as usize) else {
            return Some(f64::from_bits(u64::from_le_bytes(*self.take(8)?.first_chunk()?)));
        };
        let zigzag = raw >> 2;
        Some(unscaled((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64), digits))
    }

    /// A count of things that take at least one byte each: more than there are bytes is no count.
    pub(super) fn count(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok().filter(|&count| count <= self.0.len())
    }
}

pub(super) fn put_text(text: &str, out: &mut Vec<u8>) {
    put_varint(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

/// Appends a label set: count, then name and value of each.
pub(super) fn put_labels(labels: &Labels, out: &mut Vec<u8>) {
    put_varint(labels.len() as u64, out);
    for (name, value) in labels.iter() {
        put_text(name, out);
        put_text(value, out);
    }
}

pub(super) fn take_labels(bytes: &mut Bytes) -> Option<Labels> {
    let pairs = bytes.count()?;
    let mut labels = Vec::with_capacity(pairs);
    for _ in 0..pairs {
        labels.push((bytes.text()?, bytes.text()?));
    }
    let sorted = labels.is_sorted_by(|a, b| a.0 < b.0) && labels.iter().all(|(_, value)| !value.is_empty());
    Some(if sorted { Labels::from_sorted_pairs(labels) } else { Labels::from_pairs(labels) })
}

/// Appends the payload of a series record.
fn encode_series(series: &[(u64, Labels)], out: &mut Vec<u8>) {
    put_varint(series.len() as u64, out);
    for (reference, labels) in series {
        put_varint(*reference, out);
        put_labels(labels, out);
    }
}

/// The payload and the flags of a series record.
pub(super) fn pack_series(series: &[(u64, Labels)]) -> (Vec<u8>, u16) {
    let mut payload = Vec::new();
    encode_series(series, &mut payload);
    if payload.len() >= WORTH_COMPRESSING
        && let Ok(compressed) = zstd::bulk::compress(&payload, 1)
        && compressed.len() < payload.len()
    {
        let mut out = Vec::with_capacity(compressed.len() + 5);
        put_varint(payload.len() as u64, &mut out);
        out.extend_from_slice(&compressed);
        return (out, FLAG_COMPRESSED);
    }
    (payload, 0)
}

pub(super) fn unpack_series(payload: &[u8], flags: u16) -> Option<Record> {
    if flags & FLAG_COMPRESSED == 0 {
        return decode_series(payload);
    }
    let mut bytes = Bytes(payload);
    let len = usize::try_from(bytes.varint()?).ok().filter(|&len| len <= MAX_UNPACKED)?;
    decode_series(&zstd::bulk::decompress(bytes.0, len).ok()?)
}

/// Appends the payload of a sample record and returns its flags.
pub(super) fn encode_samples(samples: &[WalSample], out: &mut Vec<u8>) -> u16 {
    out.reserve(samples.len() * 11 + 10);
    put_varint(samples.len() as u64, out);
    let mut last = 0u64;
    for sample in samples {
        put_signed(sample.series.wrapping_sub(last) as i64, out);
        last = sample.series;
    }
    let mut flags = 0;
    let first_ms = samples.first().map(|sample| sample.timestamp_ms);
    if let Some(first_ms) = first_ms.filter(|&first_ms| samples.iter().all(|sample| sample.timestamp_ms == first_ms)) {
        flags |= FLAG_ONE_TIMESTAMP;
        put_signed(first_ms, out);
    } else {
        let mut last = 0i64;
        for sample in samples {
            put_signed(sample.timestamp_ms.wrapping_sub(last), out);
            last = sample.timestamp_ms;
        }
    }
    let before = out.len();
    flags |= FLAG_PACKED_VALUES;
    samples.iter().for_each(|sample| put_value(sample.value, out));
    if out.len() - before > 8 * samples.len() {
        flags &= !FLAG_PACKED_VALUES;
        out.truncate(before);
        samples.iter().for_each(|sample| out.extend_from_slice(&sample.value.to_bits().to_le_bytes()));
    }
    if samples.iter().any(|sample| sample.start_ms != 0) {
        flags |= FLAG_START_TIMESTAMPS;
        samples.iter().for_each(|sample| put_signed(sample.start_ms, out));
    }
    flags
}

fn decode_series(payload: &[u8]) -> Option<Record> {
    let mut bytes = Bytes(payload);
    let count = bytes.count()?;
    let mut series = Vec::with_capacity(count);
    for _ in 0..count {
        series.push((bytes.varint()?, take_labels(&mut bytes)?));
    }
    Some(Record::Series(series))
}

/// Appends the payload of a histogram record and returns its flags.
pub(super) fn encode_histograms(samples: &[(WalSample, Arc<Histogram>)], out: &mut Vec<u8>) -> u16 {
    if samples.is_empty() {
        return 0;
    }
    let plain: Vec<WalSample> = samples.iter().map(|(sample, _)| *sample).collect();
    let flags = encode_samples(&plain, out);
    samples.iter().for_each(|(_, histogram)| histogram.encode(out));
    flags
}

fn take_histogram(bytes: &mut Bytes) -> Option<Histogram> {
    let (histogram, len) = Histogram::decode(bytes.0).ok()?;
    bytes.take(len)?;
    Some(histogram)
}

pub(super) fn decode_histograms(payload: &[u8], flags: u16) -> Option<Record> {
    let mut bytes = Bytes(payload);
    let samples = take_samples(&mut bytes, flags)?;
    let with = samples.into_iter().map(|sample| Some((sample, take_histogram(&mut bytes)?)));
    Some(Record::Histograms(with.collect::<Option<_>>()?))
}

pub(super) fn decode_samples(payload: &[u8], flags: u16) -> Option<Record> {
    Some(Record::Samples(take_samples(&mut Bytes(payload), flags)?))
}

fn take_samples(bytes: &mut Bytes, flags: u16) -> Option<Vec<WalSample>> {
    let count = bytes.count()?;
    let mut samples = vec![WalSample { series: 0, timestamp_ms: 0, value: 0.0, start_ms: 0 }; count];
    let mut last = 0u64;
    for sample in &mut samples {
        last = last.wrapping_add(bytes.signed()? as u64);
        sample.series = last;
    }
    if flags & FLAG_ONE_TIMESTAMP != 0 {
        let timestamp_ms = bytes.signed()?;
        samples.iter_mut().for_each(|sample| sample.timestamp_ms = timestamp_ms);
    } else {
        let mut last = 0i64;
        for sample in &mut samples {
            last = last.wrapping_add(bytes.signed()?);
            sample.timestamp_ms = last;
        }
    }
    if flags & FLAG_PACKED_VALUES != 0 {
        for sample in &mut samples {
            sample.value = bytes.value()?;
        }
    } else {
        for (sample, value) in samples.iter_mut().zip(bytes.take(count.checked_mul(8)?)?.as_chunks::<8>().0) {
            sample.value = f64::from_bits(u64::from_le_bytes(*value));
        }
    }
    if flags & FLAG_START_TIMESTAMPS != 0 {
        for sample in &mut samples {
            sample.start_ms = bytes.signed()?;
        }
    }
    Some(samples)
}
