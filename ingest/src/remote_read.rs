//! Remote read as a client speaks it: a query as bytes, and answers as series.
//!
//! A server answers with chunks in frames, as they stand in its storage, or with samples in one message.
//!
//! ```text
//! frame   uvarint bytes | CRC32C, 4 bytes big-endian | ChunkedReadResponse
//! ```
//!
//! Source: Prometheus `prompb/remote.proto`, `storage/remote/chunked.go`.

use pilaster_model::{Columns, Labels, MatchOp, Matcher, TimeRange};
use pilaster_storage::frame::crc32c;

use crate::prometheus_data::{Encoding, decode_chunk};
use crate::protobuf::{DecodeError, Message};
use crate::remote_write::decode_v1;

/// A frame that is longer is taken for damage; servers make them of a MiB.
const MOST_FRAME_BYTES: u64 = 1 << 30;

/// Content type of the answer in frames.
pub const STREAMED: &str = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";

/// Why an answer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RemoteReadError {
    #[error("the answer is not the message it should be")]
    Message(#[from] DecodeError),
    #[error("a frame of the answer is damaged: {0}")]
    Frame(&'static str),
    #[error("a chunk of {labels} is damaged: {reason}")]
    Chunk { labels: Labels, reason: String },
    #[error("a histogram of {0} is not valid")]
    Histogram(Labels),
}

/// `ReadRequest` for one query that takes both kinds of answer, frames rather; not compressed.
pub fn encode_request(matchers: &[Matcher], range: TimeRange) -> Vec<u8> {
    let mut query = Vec::new();
    put_number(1, range.min_ms as u64, &mut query);
    put_number(2, range.max_ms as u64, &mut query);
    for matcher in matchers {
        let mut one = Vec::new();
        let kind = match matcher.op() {
            MatchOp::Equal => 0,
            MatchOp::NotEqual => 1,
            MatchOp::Regex => 2,
            MatchOp::NotRegex => 3,
        };
        put_number(1, kind, &mut one);
        put_bytes(2, matcher.name().as_bytes(), &mut one);
        put_bytes(3, matcher.value().as_bytes(), &mut one);
        put_bytes(3, &one, &mut query);
    }
    let mut request = Vec::new();
    put_bytes(1, &query, &mut request);
    // STREAMED_XOR_CHUNKS, then SAMPLES.
    put_bytes(2, &[1, 0], &mut request);
    request
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_number(field: u64, value: u64, out: &mut Vec<u8>) {
    put_varint(field << 3, out);
    put_varint(value, out);
}

fn put_bytes(field: u64, bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(field << 3 | 2, out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Cuts a stream of bytes into frames.
#[derive(Debug, Default)]
pub struct Frames {
    pending: Vec<u8>,
}

impl Frames {
    /// Adds what the connection gave.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// The next whole frame's message; `None` until it is there.
    ///
    /// # Errors
    /// A wrong checksum, or a length that no frame has.
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>, RemoteReadError> {
        let mut len = 0_u64;
        let mut at = 0;
        loop {
            let Some(&byte) = self.pending.get(at) else { return Ok(None) };
            len |= u64::from(byte & 0x7f) << (7 * at);
            at += 1;
            if byte < 0x80 {
                break;
            }
            if at == 9 {
                return Err(RemoteReadError::Frame("its length has too many bytes"));
            }
        }
        if len > MOST_FRAME_BYTES {
            return Err(RemoteReadError::Frame("it is too long"));
        }
        let end = at + 4 + len as usize;
        let Some(frame) = self.pending.get(at..end) else { return Ok(None) };
        let (checksum, message) = frame.split_at(4);
        if crc32c(message).to_be_bytes() != checksum {
            return Err(RemoteReadError::Frame("its checksum does not match"));
        }
        let message = message.to_vec();
        self.pending.drain(..end);
        Ok(Some(message))
    }

    /// Whether all bytes were frames.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

/// The series of a `ChunkedReadResponse`. A series may go on in the next message.
///
/// # Errors
/// The message or one of its chunks is malformed.
pub fn decode_chunked(message: &[u8]) -> Result<Vec<(Labels, Columns)>, RemoteReadError> {
    let mut all = Vec::new();
    let mut message = Message::new(message);
    while let Some(field) = message.next_field()? {
        if field.number == 1 {
            all.push(chunked_series(field.bytes()?)?);
        }
    }
    Ok(all)
}

fn chunked_series(bytes: &[u8]) -> Result<(Labels, Columns), RemoteReadError> {
    let (mut pairs, mut chunks) = (Vec::new(), Vec::new());
    let mut message = Message::new(bytes);
    while let Some(field) = message.next_field()? {
        match field.number {
            1 => pairs.push(field.label()?),
            2 => chunks.push(chunk(field.bytes()?)?),
            _ => {}
        }
    }
    let labels = Labels::from_pairs(pairs);
    let mut samples = Columns::default();
    for (kind, data) in chunks {
        let refused = |reason: String| RemoteReadError::Chunk { labels: labels.clone(), reason };
        let kind = u8::try_from(kind).ok().and_then(Encoding::from_byte);
        let kind = kind.ok_or_else(|| refused("its encoding is not known".to_owned()))?;
        decode_chunk(kind, data, &mut samples).map_err(refused)?;
    }
    Ok((labels, samples))
}

fn chunk(bytes: &[u8]) -> Result<(u64, &[u8]), DecodeError> {
    let (mut kind, mut data) = (0, &[][..]);
    let mut message = Message::new(bytes);
    while let Some(field) = message.next_field()? {
        match field.number {
            3 => kind = field.varint()?,
            4 => data = field.bytes()?,
            _ => {}
        }
    }
    Ok((kind, data))
}

/// The series of a `ReadResponse`, which is not compressed any more.
///
/// # Errors
/// The message or one of its histograms is malformed.
pub fn decode_sampled(message: &[u8]) -> Result<Vec<(Labels, Columns)>, RemoteReadError> {
    let mut all = Vec::new();
    let mut message = Message::new(message);
    while let Some(field) = message.next_field()? {
        if field.number != 1 {
            continue;
        }
        // A result holds its series where a write request does.
        let result = decode_v1(field.bytes()?)?;
        let (mut label, mut float, mut histogram) = (0, 0, 0);
        for series in &result.series {
            let labels = Labels::from_pairs(result.labels[label..series.labels_end].iter().copied());
            let mut samples = Columns::default();
            for sample in &result.samples[float..series.samples_end] {
                samples.push_float(sample.timestamp_ms, sample.value, sample.start_ms);
            }
            for sample in &result.histograms[histogram..series.histograms_end] {
                let valid = sample.histogram.clone();
                let valid = if valid.is_stale() { Ok(valid) } else { valid.validated() };
                let valid = valid.map_err(|_| RemoteReadError::Histogram(labels.clone()))?;
                samples.push_histogram(sample.timestamp_ms, valid.into(), sample.start_ms);
            }
            (label, float, histogram) = (series.labels_end, series.samples_end, series.histograms_end);
            all.push((labels, samples.sorted()));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_however_the_bytes_are_cut() {
        let mut bytes = Vec::new();
        let messages: Vec<Vec<u8>> = [0_usize, 1, 127, 128, 70_000].map(|len| vec![7; len]).to_vec();
        for message in &messages {
            put_varint(message.len() as u64, &mut bytes);
            bytes.extend_from_slice(&crc32c(message).to_be_bytes());
            bytes.extend_from_slice(message);
        }
        for step in [1, 3, 1000, bytes.len()] {
            let (mut frames, mut got) = (Frames::default(), Vec::new());
            for piece in bytes.chunks(step) {
                frames.extend(piece);
                while let Some(message) = frames.next_message().unwrap() {
                    got.push(message);
                }
            }
            assert!(frames.is_empty());
            assert_eq!(got, messages);
        }
        bytes[1] ^= 1;
        let mut frames = Frames::default();
        frames.extend(&bytes);
        assert!(frames.next_message().is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = decode_chunked(&bytes);
            let _ = decode_sampled(&bytes);
            let mut frames = Frames::default();
            frames.extend(&bytes);
            while let Ok(Some(_)) = frames.next_message() {}
        }
    }
}
