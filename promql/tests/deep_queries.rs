//! The deepest queries that the parser accepts run on a small stack: an overflow would take the process down.

use std::sync::Arc;

use pilaster_model::Labels;
use pilaster_promql::engine::{Engine, QueryValue};
use pilaster_promql::promqltest::{LoadedSample, LoadedSeries, LoadedValue, MemorySource, engine_options};

const LEVELS: usize = 250;

#[test]
fn deep_queries_are_answered() {
    let nested = |open: &str, inner: &str, close: &str, levels: usize| {
        format!("{}{inner}{}", open.repeat(levels), close.repeat(levels))
    };
    let queries = [
        nested("abs(", "up", ")", LEVELS),
        nested("-(", "up", ")", LEVELS / 2),
        nested("sum(", "up", ")", LEVELS),
        nested("topk(1, ", "up", ")", LEVELS),
        nested("scalar(vector(", "1", "))", LEVELS / 2),
        nested("histogram_quantile(0.5, ", "up", ")", LEVELS),
        nested("label_replace(", "up", r#", "a", "b", "c", "d")"#, LEVELS),
        nested("count_values(\"v\", ", "up", ")", LEVELS),
        nested("info(", "up", ")", LEVELS),
        nested("absent(", "up", ")", LEVELS),
        vec!["up"; LEVELS].join(" + "),
        vec!["up"; LEVELS].join(" or "),
        vec!["up"; LEVELS].join(" ^ "),
        nested("max_over_time((", "up", ")[1m:1m])", LEVELS / 3),
    ];
    // Two megabytes a thread, as by default.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let engine = Arc::new(Engine::new(engine_options()));
    let sample = LoadedSample { timestamp_ms: 0, value: LoadedValue::Float(1.0), start_ms: None };
    let series = LoadedSeries { labels: Labels::from_pairs([("__name__", "up")]), samples: vec![sample] };
    let source = Arc::new(MemorySource::new([series]));
    for query in queries {
        let (engine, source, text) = (Arc::clone(&engine), Arc::clone(&source), query.clone());
        let answer = runtime
            .block_on(runtime.spawn(async move {
                engine.range(source.clone(), &text, 0, 60_000, 30_000).await?;
                engine.explain(source.clone(), &text, 0, 60_000, 30_000).await?;
                engine.instant(source, &text, 0).await
            }))
            .expect("no panic");
        let output = answer.unwrap_or_else(|error| panic!("{query}: {error}"));
        assert!(matches!(output.value, QueryValue::Vector(_) | QueryValue::Scalar { .. }), "{query}");
    }
}
