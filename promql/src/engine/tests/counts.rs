//! How many samples the steps of a query look at.

use super::*;

/// A sample a minute from 0 to 60 minutes in two series of floats, one of them ending after half of it, and one of histograms.
fn three() -> Arc<dyn Source> {
    let labels = |name: &str| Labels::from_pairs([("__name__", "m"), ("series", name)]);
    let floats = |name: &str, minutes: i64| Stored {
        labels: labels(name),
        samples: (0..=minutes)
            .map(|minute| (minute * MINUTE, Value::Float(minute as f64)))
            .chain([((minutes + 1) * MINUTE, Value::Float(stale_nan()))])
            .collect(),
    };
    let histogram = Arc::new(Histogram { count: 3.0, ..Histogram::default() });
    let histograms = Stored {
        labels: labels("c"),
        samples: (0..=60).map(|minute| (minute * MINUTE, Value::Histogram(Arc::clone(&histogram)))).collect(),
    };
    Arc::new(Memory(Arc::new(vec![floats("a", 60), floats("b", 30), histograms])))
}

/// What the steps at 20, 30, 40 and 50 minutes look at, and how much of it no step before has looked at.
async fn counts(query: &str) -> (Vec<u64>, Vec<u64>) {
    let limits = QueryLimits { count_samples: true, ..QueryLimits::default() };
    let mut found = Vec::new();
    for (partitions, tile) in [(1, 1024), (4, 2)] {
        let engine = engine(partitions, tile);
        let range = engine.range_with(three(), query, 20 * MINUTE, 50 * MINUTE, 10 * MINUTE, &limits);
        let steps = range.await.expect(query).stats.steps.expect("counts");
        let times: Vec<i64> = steps.seen.iter().map(|(ms, _)| *ms / MINUTE).collect();
        assert_eq!(times, [20, 30, 40, 50]);
        found.push(steps);
    }
    assert_eq!(found[0], found[1], "{query}");
    let numbers = |counts: &[(i64, u64)]| counts.iter().map(|(_, count)| *count).collect();
    (numbers(&found[0].seen), numbers(&found[0].read))
}

#[tokio::test]
async fn steps_count_what_they_look_at() {
    // A histogram without buckets counts for eleven.
    let all: [(&str, [u64; 4], [u64; 4]); 10] = [
        ("m", [13, 13, 12, 12], [13, 13, 12, 12]),
        ("timestamp(m)", [3, 3, 2, 2], [3, 3, 2, 2]),
        ("sum(m{series=\"a\"}) + m{series=\"b\"}", [2, 2, 1, 1], [2, 2, 1, 1]),
        ("m{series=\"a\"} @ 1200", [1, 1, 1, 1], [1, 0, 0, 0]),
        ("rate(m{series=\"a\"}[5m])", [5, 5, 5, 5], [5, 5, 5, 5]),
        ("rate(m{series=\"a\"}[15m])", [15, 15, 15, 15], [15, 10, 10, 10]),
        ("max_over_time(m{series=\"b\"}[15m])", [15, 15, 5, 0], [15, 10, 0, 0]),
        ("count_over_time(m{series=\"c\"}[2m])", [22, 22, 22, 22], [22, 22, 22, 22]),
        ("sum_over_time(m{series=\"a\"}[10m] @ 1200)", [10, 10, 10, 10], [10, 0, 0, 0]),
        // The inner steps read a sample each and five an outer one; what that takes is what it looks at.
        ("max_over_time(m{series=\"a\"}[10m:2m])", [5, 5, 5, 5], [5, 5, 5, 5]),
    ];
    for (query, seen, read) in all {
        assert_eq!(counts(query).await, (seen.to_vec(), read.to_vec()), "{query}");
    }
}

#[tokio::test]
async fn an_instant_query_is_one_step() {
    let limits = QueryLimits { count_samples: true, ..QueryLimits::default() };
    for (query, seen, read) in [
        ("m", 13, 13),
        ("m[3m]", 39, 39),
        ("m{series=\"a\"}[10m:1m]", 10, 10),
        ("scalar(m{series=\"a\"})", 1, 1),
        ("1", 0, 0),
    ] {
        let output = engine(1, 1024).instant_with(three(), query, 30 * MINUTE, &limits).await.expect(query);
        let steps = output.stats.steps.expect("counts");
        assert_eq!((steps.seen, steps.read), (vec![(30 * MINUTE, seen)], vec![(30 * MINUTE, read)]), "{query}");
    }
}

#[tokio::test]
async fn nothing_is_counted_unasked() {
    let output = engine(1, 1024).instant(three(), "m", 30 * MINUTE).await.expect("m");
    assert_eq!(output.stats.steps, None);
}
