//! Records beside samples: what was said about metrics, and exemplars.
//!
//! Both are lists behind their count. Metadata: metric, type, help and unit, each with its length before it. An
//! exemplar: series reference, timestamp (zigzag), raw bits of the value, a byte that tells whether the target gave the
//! timestamp, and its labels.

use pilaster_model::Labels;

use super::codec::{Bytes, Record, put_labels, put_signed, put_text, put_varint, take_labels};
use crate::{Exemplar, Metadata};

/// An exemplar as the log keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct WalExemplar {
    /// Identifies a series as samples do.
    pub series: u64,
    pub exemplar: Exemplar,
}

pub(super) fn encode_metadata(metadata: &[Metadata], out: &mut Vec<u8>) {
    put_varint(metadata.len() as u64, out);
    for one in metadata {
        for text in [&one.metric, &one.kind, &one.help, &one.unit] {
            put_text(text, out);
        }
    }
}

pub(super) fn decode_metadata(payload: &[u8]) -> Option<Record> {
    let mut bytes = Bytes(payload);
    let count = bytes.count()?;
    let mut metadata = Vec::with_capacity(count);
    for _ in 0..count {
        let mut text = || bytes.text().map(str::to_owned);
        metadata.push(Metadata { metric: text()?, kind: text()?, help: text()?, unit: text()? });
    }
    Some(Record::Metadata(metadata))
}

pub(super) fn encode_exemplars(exemplars: &[WalExemplar], out: &mut Vec<u8>) {
    put_varint(exemplars.len() as u64, out);
    for WalExemplar { series, exemplar } in exemplars {
        put_varint(*series, out);
        put_signed(exemplar.timestamp_ms, out);
        out.extend_from_slice(&exemplar.value.to_bits().to_le_bytes());
        out.push(u8::from(exemplar.has_timestamp));
        put_labels(&exemplar.labels, out);
    }
}

pub(super) fn decode_exemplars(payload: &[u8]) -> Option<Record> {
    let mut bytes = Bytes(payload);
    let count = bytes.count()?;
    let mut exemplars = Vec::with_capacity(count);
    for _ in 0..count {
        let (series, timestamp_ms) = (bytes.varint()?, bytes.signed()?);
        let value = f64::from_bits(u64::from_le_bytes(*bytes.take(8)?.first_chunk()?));
        let has_timestamp = bytes.take(1)? != [0];
        let labels: Labels = take_labels(&mut bytes)?;
        exemplars.push(WalExemplar { series, exemplar: Exemplar { labels, value, timestamp_ms, has_timestamp } });
    }
    Some(Record::Exemplars(exemplars))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            texts in prop::collection::vec(("[a-z]{1,8}", "[a-z]{0,8}", ".{0,20}"), 0..5),
            numbers in prop::collection::vec((any::<u64>(), any::<i64>(), any::<f64>(), any::<bool>()), 0..5),
        ) {
            let metadata: Vec<Metadata> = texts
                .iter()
                .map(|(metric, kind, help)| Metadata {
                    metric: metric.clone(),
                    kind: kind.clone(),
                    help: help.clone(),
                    unit: kind.clone(),
                })
                .collect();
            let mut payload = Vec::new();
            encode_metadata(&metadata, &mut payload);
            prop_assert_eq!(decode_metadata(&payload), Some(Record::Metadata(metadata)));
            let labels = Labels::from_pairs(texts.iter().map(|(name, value, _)| (name.as_str(), value.as_str())));
            let exemplars: Vec<WalExemplar> = numbers
                .into_iter()
                .filter(|(.., value, _)| !value.is_nan())
                .map(|(series, timestamp_ms, value, has_timestamp)| WalExemplar {
                    series,
                    exemplar: Exemplar { labels: labels.clone(), value, timestamp_ms, has_timestamp },
                })
                .collect();
            payload.clear();
            encode_exemplars(&exemplars, &mut payload);
            prop_assert_eq!(decode_exemplars(&payload), Some(Record::Exemplars(exemplars)));
        }

        #[test]
        fn decoders_never_panic(bytes: Vec<u8>) {
            let _ = decode_metadata(&bytes);
            let _ = decode_exemplars(&bytes);
        }
    }
}
