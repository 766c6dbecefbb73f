//! From a request's headers and body to samples in the store, and what to answer.
//!
//! A difference from Prometheus, on purpose: the valid samples of a version 1.0 request are kept when another of
//! its samples is refused. Senders never send a refused request again, so rolling back would lose good samples.

use std::fmt::Write as _;
use std::sync::Arc;

use pilaster_model::{Labels, METRIC_NAME, is_stale};
use pilaster_storage::{
    AppendOutcome, Error, Exemplar, ExemplarOutcome, HistogramSample, Metadata, RejectReason, Rejected, Sample,
    SeriesRef, Store,
};

use super::request::{Request, decode_v1, decode_v2};

/// The largest decompressed body; the length is checked before memory is taken.
pub const MAX_DECODED_BYTES: usize = 32 << 20;
/// Samples further ahead of the clock than this are refused, as Prometheus does.
const MAX_AHEAD_MS: i64 = 10 * 60 * 1000;
/// At most this many refusals are spelled out in an answer.
const MAX_REASONS: usize = 10;

/// What to answer a sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// Plain text; empty on success.
    pub body: String,
    pub headers: Vec<(&'static str, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// Receives one request. Blocks until what it accepted is durable.
///
/// `content_type` and `content_encoding` are header values, empty where missing; `now_ms` bounds timestamps.
pub fn receive(store: &Store, content_type: &str, content_encoding: &str, body: &[u8], now_ms: i64) -> Response {
    let version = match version_of(content_type) {
        Ok(version) => version,
        Err(text) => return refusal(415, text),
    };
    if !content_encoding.is_empty() && content_encoding != "snappy" {
        let text = format!(
            "{content_encoding} encoding (compression) is not accepted by this server; only snappy is acceptable"
        );
        return refusal(415, text);
    }
    let decoded = match decompress(body) {
        Ok(decoded) => decoded,
        Err(text) => return refusal(400, text),
    };
    let request = match version {
        Version::V1 => decode_v1(&decoded),
        Version::V2 => decode_v2(&decoded),
    };
    match request {
        Ok(request) => store_request(store, request, version, now_ms),
        Err(error) => refusal(400, error.to_string()),
    }
}

fn refusal(status: u16, body: String) -> Response {
    Response { status, body, headers: Vec::new() }
}

fn version_of(content_type: &str) -> Result<Version, String> {
    let mut parts = content_type.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or("");
    let unaccepted = || {
        format!(
            "{content_type} protobuf message is not accepted by this server; only prometheus.WriteRequest and io.prometheus.write.v2.Request are accepted"
        )
    };
    if !media_type.is_empty() && !media_type.eq_ignore_ascii_case("application/x-protobuf") {
        return Err(format!(
            "expected application/x-protobuf as the first (media) part, got {content_type:?} content-type"
        ));
    }
    for parameter in parts {
        match parameter.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
            Some(("proto", "prometheus.WriteRequest")) => return Ok(Version::V1),
            Some(("proto", "io.prometheus.write.v2.Request")) => return Ok(Version::V2),
            Some(("proto", _)) => return Err(unaccepted()),
            Some(_) | None => {}
        }
    }
    Ok(Version::V1)
}

fn decompress(body: &[u8]) -> Result<Vec<u8>, String> {
    let len = snap::raw::decompress_len(body).map_err(|_| "snappy: corrupt input".to_owned())?;
    if len > MAX_DECODED_BYTES {
        return Err(format!("snappy: decoded block is {len} bytes, more than the limit of {MAX_DECODED_BYTES}"));
    }
    snap::raw::Decoder::new().decompress_vec(body).map_err(|_| "snappy: corrupt input".to_owned())
}

/// What became of one request's content.
#[derive(Default)]
struct Outcome {
    reasons: String,
    refused: usize,
}

impl Outcome {
    fn refuse(&mut self, count: usize, reason: impl FnOnce() -> String) {
        if self.refused < MAX_REASONS {
            if !self.reasons.is_empty() {
                self.reasons.push('\n');
            }
            self.reasons.push_str(&reason());
        }
        self.refused += count;
    }
}

/// What one request brings, and which series each part came from, to name it when it is refused.
#[derive(Default)]
struct Batch<'a> {
    floats: Vec<Sample>,
    histograms: Vec<HistogramSample>,
    float_origins: Vec<&'a [(&'a str, &'a str)]>,
    histogram_origins: Vec<&'a [(&'a str, &'a str)]>,
}

impl<'a> Batch<'a> {
    /// The labels that sample `index` came with; histograms follow floats.
    fn origin(&self, index: usize) -> &'a [(&'a str, &'a str)] {
        match index.checked_sub(self.floats.len()) {
            None => self.float_origins[index],
            Some(index) => self.histogram_origins[index],
        }
    }

    fn timestamp_ms(&self, index: usize) -> i64 {
        match index.checked_sub(self.floats.len()) {
            None => self.floats[index].timestamp_ms,
            Some(index) => self.histograms[index].timestamp_ms,
        }
    }

    /// The parts at ascending positions, with their series looked up anew.
    fn again(&self, store: &Store, positions: &[usize]) -> Batch<'a> {
        let mut again = Batch::default();
        for &index in positions {
            let origin = self.origin(index);
            let series = store.series(&Labels::from_pairs(origin.iter().copied()));
            match index.checked_sub(self.floats.len()) {
                None => {
                    again.floats.push(Sample { series, ..self.floats[index] });
                    again.float_origins.push(origin);
                }
                Some(index) => {
                    again.histograms.push(HistogramSample { series, ..self.histograms[index].clone() });
                    again.histogram_origins.push(origin);
                }
            }
        }
        again
    }
}

fn store_request(store: &Store, request: Request<'_>, version: Version, now_ms: i64) -> Response {
    let mut outcome = Outcome::default();
    let Request { labels, samples, mut histograms, exemplars, series, metadata } = request;
    let keeps_exemplars = store.keeps_exemplars();
    let (mut shown, mut passed_exemplars) = (Vec::new(), 0);
    let mut batch = Batch { floats: Vec::with_capacity(samples.len()), ..Batch::default() };
    let (mut labels_start, mut samples_start, mut histograms_start, mut exemplars_start) = (0, 0, 0, 0);
    let latest_ms = now_ms.saturating_add(MAX_AHEAD_MS);
    for one in &series {
        let pairs = &labels[std::mem::replace(&mut labels_start, one.labels_end)..one.labels_end];
        let floats = &samples[std::mem::replace(&mut samples_start, one.samples_end)..one.samples_end];
        let histograms =
            &mut histograms[std::mem::replace(&mut histograms_start, one.histograms_end)..one.histograms_end];
        let exemplars = &exemplars[std::mem::replace(&mut exemplars_start, one.exemplars_end)..one.exemplars_end];
        if floats.is_empty() && histograms.is_empty() && exemplars.is_empty() {
            // A series without samples is only looked at by version 2.0, which says what is wrong with it.
            if version == Version::V2
                && let Err(reason) = labels_of(pairs)
            {
                outcome.refuse(0, || reason);
            }
            continue;
        }
        let series = match known_series(store, pairs).map_or_else(|| Ok(store.series(&labels_of(pairs)?)), Ok) {
            Ok(series) => series,
            // Version 1.0 skips such series without a word; senders would only repeat themselves.
            Err(_) if version == Version::V1 => continue,
            Err(reason) => {
                outcome.refuse(floats.len() + histograms.len(), || reason);
                continue;
            }
        };
        let labels = || Labels::from_pairs(pairs.iter().copied());
        if keeps_exemplars {
            shown.extend(exemplars.iter().map(|raw| {
                let exemplar = Exemplar {
                    labels: Labels::from_pairs(raw.labels.iter().copied()),
                    value: raw.value,
                    timestamp_ms: raw.timestamp_ms,
                    has_timestamp: raw.timestamp_ms != 0,
                };
                (labels(), exemplar)
            }));
        } else {
            passed_exemplars += exemplars.len();
        }
        let too_far = |timestamp_ms: i64| {
            format!("out of bounds: timestamp {timestamp_ms} is too far in the future for series {}", labels())
        };
        for raw in floats {
            if raw.timestamp_ms > latest_ms {
                outcome.refuse(1, || too_far(raw.timestamp_ms));
                continue;
            }
            let start_ms = (raw.start_ms != 0).then_some(raw.start_ms);
            batch.floats.push(Sample { series, timestamp_ms: raw.timestamp_ms, value: raw.value, start_ms });
            batch.float_origins.push(pairs);
        }
        for raw in histograms {
            if raw.timestamp_ms > latest_ms {
                outcome.refuse(1, || too_far(raw.timestamp_ms));
                continue;
            }
            // A series ends by a marker in the sum of a histogram that is otherwise empty.
            if !is_stale(raw.histogram.sum)
                && let Err(error) = raw.histogram.validate()
            {
                outcome.refuse(1, || format!("{error} for series {}", labels()));
                continue;
            }
            let histogram = Arc::new(std::mem::take(&mut raw.histogram));
            let start_ms = (raw.start_ms != 0).then_some(raw.start_ms);
            batch.histograms.push(HistogramSample { series, timestamp_ms: raw.timestamp_ms, histogram, start_ms });
            batch.histogram_origins.push(pairs);
        }
    }
    let metadata: Vec<Metadata> = metadata
        .iter()
        .filter(|one| !one.metric.is_empty())
        // Version 2.0 says it with every series of every request.
        .filter(|one| !store.knows_metadata(one.metric, one.kind, one.help, one.unit))
        .map(|one| Metadata::new(one.metric, one.kind, one.help, one.unit))
        .collect();
    let appended = match store.set_metadata(&metadata).and_then(|()| append(store, &batch)) {
        Ok(appended) => appended,
        Err(error) => return failure(&error),
    };
    for rejected in &appended.rejected {
        outcome.refuse(1, || {
            let reason = match rejected.reason {
                RejectReason::OutOfOrder => "out of order sample",
                RejectReason::TooOld => "out of bounds",
                RejectReason::DuplicateDifferentValue => "duplicate sample for timestamp",
                RejectReason::UnknownSeries => "unknown series ref",
            };
            let series = Labels::from_pairs(batch.origin(rejected.index).iter().copied());
            format!("{reason}: timestamp {} for series {series}", batch.timestamp_ms(rejected.index))
        });
    }
    let written_exemplars = match append_exemplars(store, shown, version, &mut outcome) {
        Ok(written) => written + passed_exemplars,
        Err(error) => return failure(&error),
    };
    let refused_histograms = appended.rejected.iter().filter(|rejected| rejected.index >= batch.floats.len()).count();
    let written_histograms = batch.histograms.len() - refused_histograms;
    let written = [appended.appended - written_histograms, written_histograms, written_exemplars];
    respond(version, written, outcome)
}

/// Takes exemplars behind their samples and counts those that are there now. Version 1.0 drops the others without a word;
/// in 2.0 those that are too late are refused.
fn append_exemplars(
    store: &Store,
    shown: Vec<(Labels, Exemplar)>,
    version: Version,
    outcome: &mut Outcome,
) -> Result<usize, Error> {
    let with_series = shown.iter().map(|(labels, exemplar)| (store.series(labels), exemplar.clone()));
    let outcomes = store.append_exemplars(&with_series.collect::<Vec<_>>())?;
    let mut late = 0;
    for (one, (labels, _)) in outcomes.iter().zip(&shown) {
        if *one == ExemplarOutcome::OutOfOrder {
            late += 1;
            if version == Version::V2 {
                outcome.refuse(1, || format!("out of order exemplar for series {labels}"));
            }
        }
    }
    if late > 0 {
        tracing::warn!(num_dropped = late, "Error on ingesting out-of-order exemplars");
    }
    let there = |one: &&ExemplarOutcome| matches!(one, ExemplarOutcome::Taken | ExemplarOutcome::Passed);
    Ok(outcomes.iter().filter(there).count())
}

/// Appends, and a second time what was refused because the store forgot an idle series between lookup and append.
fn append(store: &Store, batch: &Batch<'_>) -> Result<AppendOutcome, Error> {
    let mut outcome = store.append_batch(&batch.floats, &batch.histograms)?;
    let is_forgotten = |rejected: &Rejected| rejected.reason == RejectReason::UnknownSeries;
    let forgotten: Vec<usize> =
        outcome.rejected.iter().filter(|rejected| is_forgotten(rejected)).map(|rejected| rejected.index).collect();
    if forgotten.is_empty() {
        return Ok(outcome);
    }
    let again = batch.again(store, &forgotten);
    let second = store.append_batch(&again.floats, &again.histograms)?;
    outcome.appended += second.appended;
    outcome.rejected.retain(|rejected| !is_forgotten(rejected));
    let rejected = second.rejected.into_iter();
    outcome.rejected.extend(rejected.map(|rejected| Rejected { index: forgotten[rejected.index], ..rejected }));
    Ok(outcome)
}

fn respond(version: Version, [samples, histograms, exemplars]: [usize; 3], mut outcome: Outcome) -> Response {
    let headers = match version {
        Version::V1 => Vec::new(),
        Version::V2 => vec![
            ("X-Prometheus-Remote-Write-Samples-Written", samples.to_string()),
            ("X-Prometheus-Remote-Write-Histograms-Written", histograms.to_string()),
            ("X-Prometheus-Remote-Write-Exemplars-Written", exemplars.to_string()),
        ],
    };
    if outcome.refused == 0 {
        return Response { status: 204, body: String::new(), headers };
    }
    if outcome.refused > MAX_REASONS {
        let _ = write!(outcome.reasons, "\n… {} refused in all", outcome.refused);
    }
    Response { status: 400, body: outcome.reasons, headers }
}

/// The store refused or failed: senders keep the request and try again on 5xx.
fn failure(error: &Error) -> Response {
    let mut body = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let _ = write!(body, ": {inner}");
        source = inner.source();
    }
    // The disk is full, or read-only, or fails: the same request may succeed when that is over.
    let retry = matches!(error, Error::DiskFull { .. } | Error::Wal(_));
    let headers = if retry { vec![("Retry-After", "5".to_owned())] } else { Vec::new() };
    Response { status: if retry { 503 } else { 500 }, body, headers }
}

/// The series of sent pairs, where the store has it: most requests bring no other.
fn known_series(store: &Store, pairs: &[(&str, &str)]) -> Option<SeriesRef> {
    let ascending = pairs.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let plain = ascending && pairs.iter().all(|(name, value)| !name.is_empty() && !value.is_empty());
    let is_named = || pairs.iter().any(|(name, _)| *name == METRIC_NAME);
    if plain && is_named() { store.find_series(pairs) } else { None }
}

/// A label set out of sent pairs, or why it is none.
fn labels_of(pairs: &[(&str, &str)]) -> Result<Labels, String> {
    let ascending = pairs.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let plain = ascending && pairs.iter().all(|(name, value)| !name.is_empty() && !value.is_empty());
    let shown = || Labels::from_pairs(pairs.iter().copied());
    let labels = if plain {
        Labels::from_sorted_pairs(pairs.iter().copied())
    } else {
        let mut names: Vec<&str> = pairs.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("invalid labels for series, duplicated label {:?} in {}", pair[0], shown()));
        }
        if names.first() == Some(&"") {
            return Err(format!("invalid labels for series, empty label name in {}", shown()));
        }
        shown()
    };
    if labels.find(METRIC_NAME).is_none() {
        return Err(format!("invalid metric name or labels, got {labels}"));
    }
    Ok(labels)
}

#[cfg(test)]
mod tests;
