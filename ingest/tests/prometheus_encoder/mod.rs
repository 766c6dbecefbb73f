//! Writes data directories as Prometheus does: the slow twin of `prometheus_data`, for tests.

use std::path::Path;

use pilaster_model::histogram::{CounterResetHint, Histogram, Span};
use pilaster_model::{Labels, is_stale};
use pilaster_storage::frame::crc32c;

/// A float where there is no histogram.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub timestamp_ms: i64,
    /// 0 where unknown.
    pub start_ms: i64,
    pub value: f64,
    pub histogram: Option<Histogram>,
}

/// Puts samples before `cut_ms` into a block and the others into the log. Label sets are distinct, samples ascend.
pub fn write_directory(dir: &Path, series: &[(Labels, Vec<Sample>)], cut_ms: i64) {
    let part = |keep: &dyn Fn(i64) -> bool| -> Vec<(Labels, Vec<Sample>)> {
        let of = |samples: &[Sample]| samples.iter().filter(|sample| keep(sample.timestamp_ms)).cloned().collect();
        let all = series.iter().map(|(labels, samples)| (labels.clone(), of(samples)));
        all.filter(|(_, samples): &(_, Vec<Sample>)| !samples.is_empty()).collect()
    };
    let mut old = part(&|ms| ms < cut_ms);
    if !old.is_empty() {
        old.sort_by(|a, b| a.0.cmp(&b.0));
        write_block(&dir.join("01ARZ3NDEKTSV4RRFFQ69G5FAV"), &old);
    }
    std::fs::create_dir_all(dir.join("wal")).unwrap();
    std::fs::write(dir.join("wal/00000000"), segment(&log(&part(&|ms| ms >= cut_ms)))).unwrap();
}

/// Bits, highest first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: usize,
}

impl Bits {
    fn put(&mut self, value: u64, count: u32) {
        for at in (0..count).rev() {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let last = self.bytes.len() - 1;
            self.bytes[last] |= ((value >> at & 1) as u8) << (7 - self.used % 8);
            self.used += 1;
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.put(u64::from(*byte), 8));
    }

    fn varbit_int(&mut self, value: i64) {
        let fits = |bits: u32| value > -(1 << (bits - 1)) && value <= 1 << (bits - 1);
        match [3, 6, 9, 12, 18, 25, 56].into_iter().position(fits) {
            _ if value == 0 => self.put(0, 1),
            Some(at) => {
                self.put((1 << (at as u32 + 2)) - 2, at as u32 + 2);
                self.put(value as u64, [3, 6, 9, 12, 18, 25, 56][at]);
            }
            None => {
                self.put(0xff, 8);
                self.put(value as u64, 64);
            }
        }
    }

    fn varbit_uint(&mut self, value: u64) {
        match [3, 6, 9, 12, 18, 25, 56].into_iter().position(|bits| value < 1 << bits) {
            _ if value == 0 => self.put(0, 1),
            Some(at) => {
                self.put((1 << (at as u32 + 2)) - 2, at as u32 + 2);
                self.put(value, [3, 6, 9, 12, 18, 25, 56][at]);
            }
            None => {
                self.put(0xff, 8);
                self.put(value, 64);
            }
        }
    }
}

fn uvarint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint(value: i64, out: &mut Vec<u8>) {
    uvarint((value << 1 ^ value >> 63) as u64, out);
}

fn varint_bytes(value: i64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(value, &mut out);
    out
}

#[derive(Clone, Default)]
struct Xor {
    bits: u64,
    window: Option<(u32, u32)>,
}

impl Xor {
    /// Bits that changed and where, in the window there is or in a new one.
    fn change(&mut self, next: f64) -> Option<(bool, u32, u32, u64)> {
        let delta = self.bits ^ next.to_bits();
        self.bits = next.to_bits();
        if delta == 0 {
            return None;
        }
        let (leading, trailing) = (delta.leading_zeros().min(31), delta.trailing_zeros());
        if let Some((have, end)) = self.window
            && leading >= have
            && trailing >= end
        {
            return Some((false, have, end, delta));
        }
        self.window = Some((leading, trailing));
        Some((true, leading, trailing, delta))
    }

    fn put_change((new, leading, trailing, delta): (bool, u32, u32, u64), out: &mut Bits) {
        let significant = 64 - leading - trailing;
        if new {
            out.put(u64::from(leading), 5);
            out.put(u64::from(significant % 64), 6);
        }
        out.put(delta >> trailing, significant);
    }

    fn put(&mut self, next: f64, out: &mut Bits) {
        match self.change(next) {
            None => out.put(0, 1),
            Some(change) => {
                out.put(if change.0 { 0b11 } else { 0b10 }, 2);
                Xor::put_change(change, out);
            }
        }
    }
}

/// Encoding and data of a chunk of floats.
pub fn xor(samples: &[Sample]) -> (u8, Vec<u8>) {
    let mut out = Bits::default();
    out.bytes(&(samples.len() as u16).to_be_bytes());
    let (mut before_ms, mut delta_ms, mut value) = (0, 0, Xor::default());
    for (index, sample) in samples.iter().enumerate() {
        let delta = sample.timestamp_ms.wrapping_sub(before_ms);
        match index {
            0 => {
                out.bytes(&varint_bytes(sample.timestamp_ms));
                out.put(sample.value.to_bits(), 64);
                value.bits = sample.value.to_bits();
            }
            1 => {
                let mut bytes = Vec::new();
                uvarint(delta as u64, &mut bytes);
                out.bytes(&bytes);
            }
            _ => {
                let change = delta.wrapping_sub(delta_ms);
                let fits = |bits: u32| change > -(1 << (bits - 1)) && change <= 1 << (bits - 1);
                match change {
                    0 => out.put(0, 1),
                    _ if fits(14) => (out.put(0b10, 2), out.put(change as u64, 14)).1,
                    _ if fits(17) => (out.put(0b110, 3), out.put(change as u64, 17)).1,
                    _ if fits(20) => (out.put(0b1110, 4), out.put(change as u64, 20)).1,
                    _ => (out.put(0b1111, 4), out.put(change as u64, 64)).1,
                }
            }
        }
        if index > 0 {
            value.put(sample.value, &mut out);
            delta_ms = delta;
        }
        before_ms = sample.timestamp_ms;
    }
    (1, out.bytes)
}

/// Start timestamps from the first one that is not like the first sample's.
struct Starts {
    first: i64,
    from: usize,
    distance_ms: i64,
}

impl Starts {
    fn of(samples: &[Sample]) -> Starts {
        let first = samples[0].start_ms;
        let from = samples.iter().position(|sample| sample.start_ms != first).unwrap_or(0);
        // Later than that it has no place in the header.
        let from = if samples.len() > 127 && (from == 0 || from > 127) { 127 } else { from };
        Starts { first, from, distance_ms: 0 }
    }

    fn header(&self) -> u8 {
        u8::from(self.first != 0) << 7 | self.from as u8
    }

    fn put(&mut self, index: usize, before_ms: i64, sample: &Sample, out: &mut Bits) {
        if index == 0 && self.first != 0 {
            out.bytes(&varint_bytes(sample.timestamp_ms - sample.start_ms));
        } else if index > 0 && self.from > 0 && index >= self.from {
            let distance_ms = before_ms - sample.start_ms;
            out.varbit_int(if index == self.from { distance_ms } else { distance_ms - self.distance_ms });
            self.distance_ms = distance_ms;
        }
    }
}

/// Encoding and data of a chunk of floats with start timestamps.
pub fn xor2(samples: &[Sample]) -> (u8, Vec<u8>) {
    let mut starts = Starts::of(samples);
    let mut out = Bits::default();
    out.bytes(&(samples.len() as u16).to_be_bytes());
    out.bytes(&[starts.header()]);
    let (mut before_ms, mut delta_ms, mut value) = (0, 0, Xor::default());
    for (index, sample) in samples.iter().enumerate() {
        let delta = sample.timestamp_ms.wrapping_sub(before_ms);
        let stale = is_stale(sample.value);
        let put_value = |value: &mut Xor, out: &mut Bits| match stale {
            true => out.put(0b111, 3),
            false => match value.change(sample.value) {
                None => out.put(0, 1),
                Some(change) => {
                    if change.0 {
                        out.put(0b110, 3)
                    } else {
                        out.put(0b10, 2)
                    }
                    Xor::put_change(change, out);
                }
            },
        };
        match index {
            0 => {
                out.bytes(&varint_bytes(sample.timestamp_ms));
                out.put(sample.value.to_bits(), 64);
                if !stale {
                    value.bits = sample.value.to_bits();
                }
            }
            1 => {
                let mut bytes = Vec::new();
                uvarint(delta as u64, &mut bytes);
                out.bytes(&bytes);
                put_value(&mut value, &mut out);
            }
            _ => match delta.wrapping_sub(delta_ms) {
                0 if stale => out.put(0b11111, 5),
                0 => match value.change(sample.value) {
                    None => out.put(0, 1),
                    Some(change) => {
                        out.put(0b10, 2);
                        out.put(u64::from(change.0), 1);
                        Xor::put_change(change, &mut out);
                    }
                },
                change => {
                    match change {
                        -4096..=4095 => (out.put(0b110, 3), out.put(change as u64, 13)).1,
                        -524_288..=524_287 => (out.put(0b1110, 4), out.put(change as u64, 20)).1,
                        _ => (out.put(0b11110, 5), out.put(change as u64, 64)).1,
                    }
                    put_value(&mut value, &mut out);
                }
            },
        }
        starts.put(index, before_ms, sample, &mut out);
        if index > 0 {
            delta_ms = delta;
        }
        before_ms = sample.timestamp_ms;
    }
    (4, out.bytes)
}

/// Encoding and data of a chunk of histograms with the buckets of the first.
pub fn float_histograms(samples: &[Sample]) -> (u8, Vec<u8>) {
    let empty = Histogram::default();
    // The end of a series has no buckets.
    let of = |sample: &Sample| match &sample.histogram {
        Some(one) if !one.is_stale() => one.clone(),
        Some(one) => Histogram { sum: one.sum, ..empty.clone() },
        None => empty.clone(),
    };
    let layout = of(&samples[0]);
    let flags = if layout.counter_reset_hint == CounterResetHint::Gauge { 0xc0 } else { 0 };
    let with_starts = samples.iter().any(|sample| sample.start_ms != 0);
    let mut starts = Starts::of(samples);
    let mut out = Bits::default();
    let count = samples.len() as u16;
    if with_starts {
        out.bytes(&(count | u16::from(flags) << 8).to_be_bytes());
        out.bytes(&[starts.header()]);
    } else {
        out.bytes(&count.to_be_bytes());
        out.bytes(&[flags]);
    }
    if layout.zero_threshold == 0.0 {
        out.bytes(&[0]);
    } else {
        out.bytes(&[255]);
        out.put(layout.zero_threshold.to_bits(), 64);
    }
    out.varbit_int(i64::from(layout.schema));
    for spans in [&layout.positive_spans, &layout.negative_spans] {
        out.varbit_uint(spans.len() as u64);
        for span in spans {
            out.varbit_uint(u64::from(span.length));
            out.varbit_int(i64::from(span.offset));
        }
    }
    if layout.has_custom_buckets() {
        out.varbit_uint(layout.custom_bounds.len() as u64);
        for bound in layout.custom_bounds.iter() {
            let thousandths = (bound * 1000.0).round();
            if (0.0..=33_554_430.0).contains(&(bound * 1000.0)) && thousandths / 1000.0 == *bound {
                out.varbit_uint(thousandths as u64 + 1);
            } else {
                out.put(0, 1);
                out.put(bound.to_bits(), 64);
            }
        }
    }
    let (mut before_ms, mut delta_ms) = (0, 0);
    let mut numbers = vec![Xor::default(); 3 + layout.positive.len() + layout.negative.len()];
    for (index, sample) in samples.iter().enumerate() {
        let histogram = of(sample);
        let head = [histogram.count, histogram.zero_count, histogram.sum];
        let all = head.iter().chain(&histogram.positive).chain(&histogram.negative);
        if index == 0 {
            out.varbit_int(sample.timestamp_ms);
            for (number, next) in numbers.iter_mut().zip(all) {
                out.put(next.to_bits(), 64);
                number.bits = next.to_bits();
            }
        } else {
            let delta = sample.timestamp_ms - before_ms;
            out.varbit_int(delta - delta_ms);
            delta_ms = delta;
            numbers.iter_mut().zip(all).for_each(|(number, next)| number.put(*next, &mut out));
        }
        starts.put(index, before_ms, sample, &mut out);
        before_ms = sample.timestamp_ms;
    }
    (if with_starts { 6 } else { 3 }, out.bytes)
}

/// What samples in one chunk must share.
fn alike(a: &Sample, b: &Sample) -> bool {
    let gauge = |one: &Histogram| one.counter_reset_hint == CounterResetHint::Gauge;
    match (&a.histogram, &b.histogram) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            (a.schema, &a.positive_spans, &a.negative_spans) == (b.schema, &b.positive_spans, &b.negative_spans)
                && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
                && (&a.custom_bounds, gauge(a)) == (&b.custom_bounds, gauge(b))
        }
        _ => false,
    }
}

/// Chunks with the times of their first and last samples.
fn chunks(samples: &[Sample]) -> Vec<(i64, i64, (u8, Vec<u8>))> {
    let runs = samples.chunk_by(alike).flat_map(|run| run.chunks(130));
    let encode = |run: &[Sample]| {
        let encoded = match run[0].histogram {
            Some(_) => float_histograms(run),
            None if run.iter().any(|sample| sample.start_ms != 0) => xor2(run),
            None => xor(run),
        };
        (run[0].timestamp_ms, run[run.len() - 1].timestamp_ms, encoded)
    };
    runs.map(encode).collect()
}

fn checksummed(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
    out.extend_from_slice(&crc32c(bytes).to_be_bytes());
}

fn write_block(dir: &Path, series: &[(Labels, Vec<Sample>)]) {
    std::fs::create_dir_all(dir.join("chunks")).unwrap();
    let mut segment = vec![0x85, 0xbd, 0x40, 0xdd, 1, 0, 0, 0];
    let mut texts: Vec<&str> = series.iter().flat_map(|(labels, _)| labels.iter().flat_map(|(n, v)| [n, v])).collect();
    texts.push("");
    texts.sort_unstable();
    texts.dedup();

    let mut index = vec![0xba, 0xaa, 0xd7, 0x00, 2];
    let texts_at = index.len() as u64;
    let mut body = (texts.len() as u32).to_be_bytes().to_vec();
    for text in &texts {
        uvarint(text.len() as u64, &mut body);
        body.extend_from_slice(text.as_bytes());
    }
    index.extend_from_slice(&(body.len() as u32).to_be_bytes());
    checksummed(&mut index, &body);
    index.resize(index.len().next_multiple_of(16), 0);
    let series_at = index.len() as u64;
    let number = |text: &str| texts.binary_search(&text).unwrap() as u64;
    let mut range = (i64::MAX, i64::MIN);
    for (labels, samples) in series {
        let mut body = Vec::new();
        uvarint(labels.len() as u64, &mut body);
        for (name, value) in labels.iter() {
            uvarint(number(name), &mut body);
            uvarint(number(value), &mut body);
        }
        let chunks = chunks(samples);
        uvarint(chunks.len() as u64, &mut body);
        let mut before: Option<(i64, u64)> = None;
        for (min_ms, max_ms, (encoding, data)) in chunks {
            range = (range.0.min(min_ms), range.1.max(max_ms));
            let at = segment.len() as u64;
            match before {
                None => varint(min_ms, &mut body),
                Some((end_ms, _)) => uvarint((min_ms - end_ms) as u64, &mut body),
            }
            uvarint((max_ms - min_ms) as u64, &mut body);
            match before {
                None => uvarint(at, &mut body),
                Some((_, last)) => varint((at - last) as i64, &mut body),
            }
            before = Some((max_ms, at));
            uvarint(data.len() as u64, &mut segment);
            checksummed(&mut segment, &[&[encoding][..], &data].concat());
        }
        index.resize(index.len().next_multiple_of(16), 0);
        uvarint(body.len() as u64, &mut index);
        checksummed(&mut index, &body);
    }
    let end = index.len() as u64;
    let contents: Vec<u8> = [texts_at, series_at, end, end, end, end].iter().flat_map(|at| at.to_be_bytes()).collect();
    checksummed(&mut index, &contents);
    std::fs::write(dir.join("index"), index).unwrap();
    std::fs::write(dir.join("chunks/000001"), segment).unwrap();
    let samples: usize = series.iter().map(|(_, samples)| samples.len()).sum();
    let meta = format!(
        "{{\"ulid\":\"01ARZ3NDEKTSV4RRFFQ69G5FAV\",\"minTime\":{},\"maxTime\":{},\"version\":1,\"stats\":{{\"numSamples\":{samples},\
         \"numSeries\":{}}}}}",
        range.0,
        range.1 + 1,
        series.len()
    );
    std::fs::write(dir.join("meta.json"), meta).unwrap();
}

fn put_spans(spans: &[Span], out: &mut Vec<u8>) {
    uvarint(spans.len() as u64, out);
    for span in spans {
        varint(i64::from(span.offset), out);
        uvarint(u64::from(span.length), out);
    }
}

fn put_floats(values: &[f64], out: &mut Vec<u8>) {
    uvarint(values.len() as u64, out);
    values.iter().for_each(|value| out.extend_from_slice(&value.to_bits().to_be_bytes()));
}

/// The records of a log: series, then their samples, a record a sample.
fn log(series: &[(Labels, Vec<Sample>)]) -> Vec<Vec<u8>> {
    let mut named = vec![1];
    let mut records = Vec::new();
    for (number, (labels, samples)) in series.iter().enumerate() {
        let reference = number as u64 + 1;
        named.extend_from_slice(&reference.to_be_bytes());
        uvarint(labels.len() as u64, &mut named);
        for text in labels.iter().flat_map(|(name, value)| [name, value]) {
            uvarint(text.len() as u64, &mut named);
            named.extend_from_slice(text.as_bytes());
        }
        for sample in samples {
            let starts = sample.start_ms != 0;
            let mut record = vec![match (&sample.histogram, starts) {
                (None, false) => 2,
                (None, true) => 11,
                (Some(one), false) => {
                    if one.has_custom_buckets() {
                        10
                    } else {
                        8
                    }
                }
                (Some(_), true) => 13,
            }];
            if starts {
                varint(reference as i64, &mut record);
                varint(sample.timestamp_ms, &mut record);
                varint(sample.start_ms, &mut record);
            } else {
                record.extend_from_slice(&reference.to_be_bytes());
                record.extend_from_slice(&sample.timestamp_ms.to_be_bytes());
                record.extend_from_slice(&[0, 0]);
            }
            match &sample.histogram {
                None => record.extend_from_slice(&sample.value.to_bits().to_be_bytes()),
                Some(one) => {
                    record.push(if one.counter_reset_hint == CounterResetHint::Gauge { 3 } else { 0 });
                    varint(i64::from(one.schema), &mut record);
                    for value in [one.zero_threshold, one.zero_count, one.count, one.sum] {
                        record.extend_from_slice(&value.to_bits().to_be_bytes());
                    }
                    put_spans(&one.positive_spans, &mut record);
                    put_spans(&one.negative_spans, &mut record);
                    put_floats(&one.positive, &mut record);
                    put_floats(&one.negative, &mut record);
                    if one.has_custom_buckets() {
                        put_floats(&one.custom_bounds, &mut record);
                    }
                }
            }
            records.push(record);
        }
    }
    records.insert(0, named);
    records
}

/// A segment with `records`, without compression.
pub fn segment(records: &[Vec<u8>]) -> Vec<u8> {
    const PAGE: usize = 32 << 10;
    let mut bytes: Vec<u8> = Vec::new();
    for record in records {
        let mut rest = &record[..];
        let mut first = true;
        loop {
            let mut left = PAGE - bytes.len() % PAGE;
            if left < 7 {
                bytes.resize(bytes.len() + left, 0);
                left = PAGE;
            }
            let (now, later) = rest.split_at(rest.len().min(left - 7));
            bytes.push(match (first, later.is_empty()) {
                (true, true) => 1,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => 4,
            });
            bytes.extend_from_slice(&(now.len() as u16).to_be_bytes());
            bytes.extend_from_slice(&crc32c(now).to_be_bytes());
            bytes.extend_from_slice(now);
            (rest, first) = (later, false);
            if rest.is_empty() {
                break;
            }
        }
    }
    bytes
}
