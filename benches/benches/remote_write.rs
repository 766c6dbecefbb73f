//! Remote write into the head: decompressing, decoding, logging and applying, on one thread. Samples per second.
//!
//! The log is written but not synced, so that the figure is the processor's work and not the disk's.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pilaster_benches::dataset::{Fleet, INTERVAL_MS};
use pilaster_ingest::remote_write::{SeriesToSend, encode_v1, encode_v2, receive};
use pilaster_model::Labels;
use pilaster_storage::env::Env;
use pilaster_storage::{Store, StoreOptions, WalSync};

/// As many series as a Prometheus sends in one request by default.
const SERIES_PER_REQUEST: usize = 2000;
const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

/// A message of one version out of one scrape's part.
type Encode = fn(&[(Labels, f64)], i64) -> Vec<u8>;

fn first_version(part: &[(Labels, f64)], timestamp_ms: i64) -> Vec<u8> {
    let samples: Vec<[(i64, f64); 1]> = part.iter().map(|(_, value)| [(timestamp_ms, *value)]).collect();
    encode_v1(part.iter().zip(&samples).map(|((labels, _), samples)| SeriesToSend::floats(labels, samples)))
}

fn second_version(part: &[(Labels, f64)], timestamp_ms: i64) -> Vec<u8> {
    let samples: Vec<[(i64, f64); 1]> = part.iter().map(|(_, value)| [(timestamp_ms, *value)]).collect();
    encode_v2(part.iter().zip(&samples).map(|((labels, _), samples)| SeriesToSend::floats(labels, samples)))
}

fn remote_write(criterion: &mut Criterion) {
    let versions: [(&str, &str, Encode); 2] =
        [("version 1.0", "application/x-protobuf", first_version), ("version 2.0", V2, second_version)];
    let mut group = criterion.benchmark_group("remote write");
    group.sample_size(20);
    for (name, content_type, encode) in versions {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let options = StoreOptions { wal_sync: WalSync::Written, ..StoreOptions::new(dir.path()) };
        let store = Store::open(options, Env::real()).expect("a store");
        let mut fleet = Fleet::new(400);
        let series_count = fleet.series_count();
        let mut timestamp_ms = 1_760_000_000_000;
        group.throughput(Throughput::Elements(series_count as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || {
                    timestamp_ms += INTERVAL_MS;
                    let scrape: Vec<(Labels, f64)> =
                        fleet.scrape().map(|(labels, value)| (labels.clone(), value)).collect();
                    let mut snappy = snap::raw::Encoder::new();
                    let bodies: Vec<Vec<u8>> = scrape
                        .chunks(SERIES_PER_REQUEST)
                        .map(|part| snappy.compress_vec(&encode(part, timestamp_ms)).expect("compressed"))
                        .collect();
                    (bodies, timestamp_ms)
                },
                |(bodies, now_ms)| {
                    for body in &bodies {
                        let response = receive(&store, content_type, "snappy", black_box(body), now_ms);
                        assert_eq!(response.status, 204, "{}", response.body);
                    }
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, remote_write);
criterion_main!(benches);
