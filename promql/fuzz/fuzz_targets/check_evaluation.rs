//! What must hold for any query, whoever makes it up: the fuzzer, or the test that mutates the queries of scripts.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use pilaster_model::{Histogram, Labels, Span};
use pilaster_promql::parser::ParseOptions;
use pilaster_promql::promqltest::{LoadedSample, LoadedSeries, LoadedValue, MemorySource};
use pilaster_promql::source::Source;
use pilaster_promql::{Engine, EngineOptions, QueryValue};

/// Evaluating `query` over a few samples of every kind (series `x`, `y` and `h`) does not panic, and a plan cut into
/// tiles and partitions gives what a whole one gives.
pub fn check_evaluation(query: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let mut whole: Option<String> = None;
    for (tile, partitions) in [(1024, 1), (3, 2)] {
        let engine = engine(tile, partitions);
        let source = Arc::clone(&SOURCE);
        let answer = runtime.block_on(async { engine.range(source, query, 0, 15 * MINUTE_MS, MINUTE_MS).await });
        let Ok(output) = answer else { return };
        let QueryValue::Matrix(matrix) = &output.value else { panic!("{query:?} gives no matrix") };
        let text = format!("{matrix:?}");
        match &whole {
            None => whole = Some(text),
            Some(whole) => assert_eq!(&text, whole, "{query:?} with tile {tile}"),
        }
    }
}

const MINUTE_MS: i64 = 60_000;

static SOURCE: LazyLock<Arc<dyn Source>> = LazyLock::new(|| {
    let series = |name: &str, instance: &str, value: &dyn Fn(i64) -> LoadedValue| LoadedSeries {
        labels: Labels::from_pairs([("__name__", name), ("instance", instance), ("job", "a"), ("le", instance)]),
        samples: (0..20)
            .map(|step| LoadedSample { timestamp_ms: step * MINUTE_MS, value: value(step), start_ms: None })
            .collect(),
    };
    let histogram = |step: i64| {
        let count = step as f64;
        LoadedValue::Histogram(Arc::new(Histogram {
            count: count * 3.0,
            sum: count,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive: vec![count, count * 2.0],
            ..Histogram::default()
        }))
    };
    Arc::new(MemorySource::new([
        series("x", "1", &|step| LoadedValue::Float(step as f64)),
        series("x", "2", &|step| LoadedValue::Float((step % 5) as f64)),
        series("y", "1", &|_| LoadedValue::Float(f64::NAN)),
        series("h", "1", &histogram),
        series("h", "2", &histogram),
    ]))
});

fn engine(tile: usize, partitions: usize) -> Arc<Engine> {
    Arc::new(Engine::new(EngineOptions {
        tile,
        partitions,
        partition_cells: 1,
        max_samples: 20_000,
        timeout: Duration::from_secs(5),
        parse: ParseOptions::all(),
        ..EngineOptions::default()
    }))
}
