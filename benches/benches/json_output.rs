//! Query answers as JSON: our writer against serde_json over the same values.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pilaster_engine::api::output::{StatsDetail, Timings, query_body};
use pilaster_model::Labels;
use pilaster_promql::{Annotations, MatrixSeries, Output, QueryStats, QueryValue};
use serde_json::json;

/// `series` x `points` of a kind of value that monitoring has.
fn matrix(series: usize, points: usize, value: fn(usize, usize) -> f64) -> Output {
    let series = (0..series).map(|index| MatrixSeries {
        labels: Labels::from_pairs([
            ("__name__", "http_request_duration_seconds_bucket"),
            ("instance", &format!("10.0.0.{}:9100", index % 250)),
            ("job", "api"),
            ("le", &format!("0.{index}")),
        ]),
        points: (0..points).map(|step| (1_795_248_000_000 + step as i64 * 15_000, value(index, step))).collect(),
        histograms: Vec::new(),
    });
    Output {
        value: QueryValue::Matrix(series.collect()),
        annotations: Annotations::default(),
        stats: QueryStats::default(),
    }
}

/// The straightforward way: a tree of values with the same numbers as text.
fn with_serde(output: &Output) -> Vec<u8> {
    let QueryValue::Matrix(series) = &output.value else { return Vec::new() };
    let result: Vec<_> = series
        .iter()
        .map(|one| {
            let metric: serde_json::Map<String, serde_json::Value> =
                one.labels.iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
            let values: Vec<_> =
                one.points.iter().map(|(at, value)| json!([*at as f64 / 1000.0, value.to_string()])).collect();
            json!({ "metric": metric, "values": values })
        })
        .collect();
    json!({ "status": "success", "data": { "resultType": "matrix", "result": result } }).to_string().into_bytes()
}

/// The value of a series at a step.
type Value = fn(usize, usize) -> f64;

fn counter(series: usize, step: usize) -> f64 {
    (series * 1000 + step * 17) as f64
}

fn rate(series: usize, step: usize) -> f64 {
    (series as f64 + 0.5) / (step as f64 + 3.0)
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("json_output");
    let kinds: [(&str, Value); 2] = [("counters", counter), ("rates", rate)];
    for (name, value) in kinds {
        let output = matrix(100, 1000, value);
        group.throughput(Throughput::Elements(100 * 1000));
        group.bench_with_input(BenchmarkId::new("ours", name), &output, |bencher, output| {
            bencher.iter(|| query_body(black_box(output), StatsDetail::None, &Timings::default()));
        });
        group.bench_with_input(BenchmarkId::new("serde_json", name), &output, |bencher, output| {
            bencher.iter(|| with_serde(black_box(output)));
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
