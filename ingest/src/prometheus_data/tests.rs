//! Hostile bytes in every decoder, and what a test-only encoder wrote. A real Prometheus's directories are read by
//! `engine/tests/import.rs`.

#[path = "../../tests/prometheus_encoder/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod prometheus_encoder;

use std::path::Path;

use pilaster_model::Columns;
use pilaster_storage::frame::crc32c;
use proptest::collection::vec;
use proptest::prelude::*;

use super::chunk::{Encoding, decode_chunk};
use super::{head_chunks, record, tombstones, wal};
use prometheus_encoder::segment;

const ENCODINGS: [Encoding; 6] = [
    Encoding::Xor,
    Encoding::Histogram,
    Encoding::FloatHistogram,
    Encoding::Xor2,
    Encoding::HistogramSt,
    Encoding::FloatHistogramSt,
];

proptest! {
    #[test]
    fn no_bytes_of_a_chunk_panic(kind in 0_usize..6, mut data in vec(any::<u8>(), 0..300), few in any::<bool>()) {
        if few && data.len() > 1 {
            // So that more than the first samples are looked at.
            data[0] = 0;
        }
        let mut out = Columns::default();
        let _ = decode_chunk(ENCODINGS[kind], &data, &mut out);
        prop_assert!(out.len() <= usize::from(u16::MAX));
        prop_assert_eq!(out.len(), out.values.len());
    }

    #[test]
    fn no_bytes_of_a_record_panic(kind in 0_u8..15, mut data in vec(any::<u8>(), 0..300)) {
        data.insert(0, kind);
        let _ = record::parse(&data);
    }

    #[test]
    fn no_bytes_of_tombstones_panic(body in vec(any::<u8>(), 0..60)) {
        let mut bytes = 0x0130_ba30_u32.to_be_bytes().to_vec();
        bytes.push(1);
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(&crc32c(&body).to_be_bytes());
        let _ = tombstones::parse(&bytes);
        let _ = tombstones::parse(&body);
    }

    #[test]
    fn no_bytes_of_head_chunks_panic(body in vec(any::<u8>(), 0..200)) {
        let mut bytes = vec![0x01, 0x30, 0xbc, 0x91, 1, 0, 0, 0];
        bytes.extend_from_slice(&body);
        let _ = head_chunks::list(Path::new("x"), &bytes, &mut |_| {});
    }

    #[test]
    fn damage_to_a_log_loses_records_of_its_page_only(
        lengths in vec(0_usize..50_000, 1..30),
        at in any::<prop::sample::Index>(),
        bit in 0_u8..8,
        last in any::<bool>(),
    ) {
        let records: Vec<Vec<u8>> =
            lengths.iter().enumerate().map(|(number, len)| vec![number as u8 + 1; *len]).collect();
        let mut bytes = segment(&records);
        prop_assert_eq!(&read(&bytes, last), &(records.clone(), 0));
        let byte = at.index(bytes.len());
        bytes[byte] ^= 1 << bit;
        let (got, damages) = read(&bytes, last);
        // What is read was written, in order; what is missing has a fragment in the page of the damage.
        let mut rest = records.iter();
        prop_assert!(got.iter().all(|one| rest.any(|written| written == one)), "{} of {}", got.len(), records.len());
        prop_assert!(damages > 0 || got.len() == records.len() || last);
    }

    #[test]
    fn no_bytes_of_a_log_panic(bytes in vec(any::<u8>(), 0..400), last in any::<bool>()) {
        read(&bytes, last);
    }
}

/// Records and damages of a segment.
fn read(bytes: &[u8], last: bool) -> (Vec<Vec<u8>>, usize) {
    let (mut records, mut damages) = (Vec::new(), 0);
    wal::records(Path::new("x"), bytes, last, &mut |_, bytes| records.push(bytes.to_vec()), &mut |_| damages += 1);
    (records, damages)
}

#[test]
fn an_index_with_any_bit_wrong_is_refused_or_told_of() {
    // Written by hand: two texts and the empty one, a series without chunks.
    let mut index = 0xbaaa_d700_u32.to_be_bytes().to_vec();
    index.push(2);
    let texts_at = index.len() as u64;
    let texts = [&[0, 0, 0, 3][..], &[0], &[8], b"__name__", &[2], b"up"].concat();
    index.extend_from_slice(&(texts.len() as u32).to_be_bytes());
    index.extend_from_slice(&texts);
    index.extend_from_slice(&crc32c(&texts).to_be_bytes());
    index.resize(index.len().next_multiple_of(16), 0);
    let series_at = index.len() as u64;
    let series = [1, 1, 2, 0];
    index.push(series.len() as u8);
    index.extend_from_slice(&series);
    index.extend_from_slice(&crc32c(&series).to_be_bytes());
    let series_end = index.len() as u64;
    let contents: Vec<u8> = [texts_at, series_at, series_end, series_end, series_end, series_end]
        .iter()
        .flat_map(|at| at.to_be_bytes())
        .collect();
    index.extend_from_slice(&contents);
    index.extend_from_slice(&crc32c(&contents).to_be_bytes());
    let dir = std::env::temp_dir().join(format!("pilaster-index-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let open = |bytes: &[u8]| {
        std::fs::write(dir.join("index"), bytes).unwrap();
        let mut damages = 0;
        let opened = super::index::Index::open(&dir, &mut |_| damages += 1);
        let metric = |index: super::index::Index| {
            let series = (index.len() == 1).then(|| index.series(0, 0, 0).ok()).flatten()?;
            Some(series.labels.metric_name().to_owned())
        };
        (opened.map(metric), damages)
    };
    let sound = |bytes: &[u8]| matches!(open(bytes), (Ok(Some(metric)), 0) if metric == "up");
    assert!(sound(&index));
    for byte in 0..index.len() {
        let padding = (texts_at as usize + 8 + texts.len()..series_at as usize).contains(&byte);
        let mut bad = index.clone();
        bad[byte] ^= 1;
        assert!(!sound(&bad) || padding, "byte {byte} of {}", index.len());
        assert!(!sound(&index[..byte]), "{byte} bytes of {}", index.len());
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn metadata_of_the_log_is_read_with_fields_of_later_versions_passed_over() {
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    let fields = |pairs: &[(&str, &str)]| {
        let texts = pairs.iter().flat_map(|(name, value)| [text(name), text(value)].concat());
        [pairs.len() as u8].into_iter().chain(texts).collect::<Vec<u8>>()
    };
    let mut bytes = vec![6, 101, 1];
    bytes.extend(fields(&[("UNIT", ""), ("HELP", "some")]));
    // 200 takes two bytes.
    bytes.extend([0xc8, 1, 9]);
    bytes.extend(fields(&[("later", "than us"), ("HELP", "b"), ("UNIT", "seconds")]));
    let said = |series, kind, help: &str, unit: &str| record::SeriesMetadata {
        series,
        kind,
        help: help.to_owned(),
        unit: unit.to_owned(),
    };
    let expected = vec![said(101, "counter", "some", ""), said(200, "unknown", "b", "seconds")];
    assert_eq!(record::parse(&bytes).unwrap(), record::Record::Metadata(expected));
    for len in [2, 3, 5, bytes.len() - 1] {
        assert!(record::parse(&bytes[..len]).is_err(), "cut to {len}");
    }
}

#[test]
fn the_last_word_of_the_log_on_a_metric_counts() {
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    let series = |reference: u8, name: &str| {
        [&[1, 0, 0, 0, 0, 0, 0, 0, reference, 1], &text("__name__")[..], &text(name)].concat()
    };
    let says = |reference: u8, kind: u8, help: &str| {
        [&[6, reference, kind, 2], &text("UNIT")[..], &text("s"), &text("HELP"), &text(help)].concat()
    };
    // The last is about a series that nothing names.
    let records =
        [series(7, "a"), series(8, "b"), says(7, 2, "first"), says(8, 3, "of b"), says(7, 1, "last"), says(9, 1, "?")];
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("wal")).unwrap();
    std::fs::write(dir.path().join("wal/00000000"), segment(&records)).unwrap();
    let head = super::Head::open(dir.path(), &mut |error| panic!("{error}")).unwrap();
    let said: Vec<_> = head.metadata().map(|one| [&one.metric[..], &one.kind, &one.help, &one.unit]).collect();
    assert_eq!(said, [["a", "counter", "last", "s"], ["b", "histogram", "of b", "s"]]);
    assert_eq!((head.summary().series, head.summary().skipped_records), (2, 0));
}
