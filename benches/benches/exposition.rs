//! Reading scraped bodies: bytes per second of one core, with and without taking the labels of each sample.
//!
//! A repeated scrape takes no labels: its series are known by their text.

use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pilaster_ingest::exposition::{Entry, Format, Parser};

/// Samples of `body`; the labels of each are read where `labels` is set.
fn read(format: Format, body: &[u8], labels: bool) -> usize {
    let mut parser = Parser::new(format, body);
    let mut samples = 0;
    while let Some(entry) = parser.next() {
        if let Ok(Entry::Sample(sample)) = entry {
            samples += 1;
            std::hint::black_box(sample);
            if labels {
                parser.labels().for_each(|pair| {
                    std::hint::black_box(pair);
                });
            }
        }
    }
    samples
}

/// A real scrape, or a made one of about the same size where the real ones are not beside the repository.
fn body(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/realdata/exposition");
    std::fs::read(folder.join(name)).unwrap_or_else(|_| {
        let lines = (0..2400).map(|i| {
            format!("node_cpu_seconds_total{{cpu=\"{i}\",mode=\"idle\",host=\"h-{i}.example\"}} {}.25\n", i * 37)
        });
        lines.chain(["# EOF\n".to_owned()]).collect::<String>().into_bytes()
    })
}

fn exposition(criterion: &mut Criterion) {
    for (name, format) in [
        ("node_exporter_all.t00min.text.prom", Format::PrometheusText),
        ("prometheus.t30min.text.prom", Format::PrometheusText),
        ("python_demo.t1.openmetrics.prom", Format::OpenMetrics),
    ] {
        let body = body(name);
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function("samples", |bencher| bencher.iter(|| read(format, &body, false)));
        group.bench_function("samples and labels", |bencher| bencher.iter(|| read(format, &body, true)));
        group.finish();
    }
}

criterion_group!(benches, exposition);
criterion_main!(benches);
