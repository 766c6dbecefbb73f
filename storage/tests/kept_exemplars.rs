//! Exemplars that were acknowledged outlive restarts and crashes, also when the log that had them is cut.

use std::path::Path;
use std::sync::Arc;

use pilaster_model::{Labels, TimeRange};
use pilaster_storage::env::sim::{Fault, FaultKind, Sim};
use pilaster_storage::{Exemplar, ExemplarOutcome, Sample, Store, StoreOptions};

const HOUR_MS: i64 = 3_600_000;

fn options() -> StoreOptions {
    StoreOptions { max_exemplars: 8, wal_segment_bytes: 4_096, ..StoreOptions::new("/data") }
}

fn exemplar(nth: i64) -> Exemplar {
    let labels = Labels::from_pairs([("trace_id", format!("{nth:x}").as_str())]);
    Exemplar { labels, value: nth as f64 / 3.0, timestamp_ms: nth * HOUR_MS, has_timestamp: true }
}

/// Appends a sample and an exemplar an hour; the number of the last exemplar that was acknowledged.
fn live(store: &Store, hours: std::ops::Range<i64>, maintain: bool) -> Option<i64> {
    let mut last = None;
    for nth in hours {
        let series = store.series(&Labels::from_pairs([("__name__", "m")]));
        let sample = Sample { series, timestamp_ms: nth * HOUR_MS, value: 1.0, start_ms: None };
        if store.append(&[sample]).is_err() {
            break;
        }
        match store.append_exemplars(&[(series, exemplar(nth))]) {
            Ok(outcomes) if outcomes == [ExemplarOutcome::Taken] => last = Some(nth),
            Ok(outcomes) => panic!("{outcomes:?}"),
            Err(_) => break,
        }
        if maintain {
            let _ = store.maintain();
        }
    }
    last
}

fn numbers(store: &Store) -> Vec<i64> {
    let found = store.exemplars(&[vec![]], TimeRange::ALL);
    let all = found.into_iter().flat_map(|series| series.exemplars);
    all.inspect(|one| assert_eq!(*one, exemplar(one.timestamp_ms / HOUR_MS)))
        .map(|one| one.timestamp_ms / HOUR_MS)
        .collect()
}

#[test]
fn the_log_is_cut_and_exemplars_stay() {
    let sim = Sim::new(7);
    let store = Store::open(options(), sim.env()).unwrap();
    assert_eq!(live(&store, 1..21, true), Some(20));
    store.flush().unwrap();
    assert_eq!(live(&store, 21..24, false), Some(23));
    store.flush().unwrap();
    let expected: Vec<i64> = (16..24).collect();
    assert_eq!(numbers(&store), expected);
    for _ in 0..3 {
        // The file has some, and the log has some of these again.
        sim.crash();
        let store = Store::open(options(), sim.env()).unwrap();
        assert_eq!(numbers(&store), expected);
        assert_eq!(store.stats().exemplars.out_of_order, 0);
    }
    sim.crash();
    assert_eq!(numbers(&Store::open(StoreOptions { max_exemplars: 2, ..options() }, sim.env()).unwrap()), [22, 23]);

    // A damaged file costs what only it had, and nothing else.
    sim.crash();
    let path = Path::new("/data/exemplars.parquet");
    assert!(sim.env().files.len(path).is_ok());
    sim.flip_bit(path, 90, 1);
    let there = numbers(&Store::open(options(), sim.env()).unwrap());
    assert_eq!(there, [21, 22, 23]);
}

#[test]
fn a_power_cut_at_any_call_loses_no_acknowledged_exemplar() {
    let whole = Sim::new(1);
    live(&Store::open(options(), whole.env()).unwrap(), 1..12, true);
    for kind in [FaultKind::PowerCut, FaultKind::Error] {
        for at_call in 1..=whole.calls() {
            let sim = Sim::new(at_call);
            sim.set_fault(Some(Fault { at_call, kind }));
            let opened = Store::open(options(), sim.env());
            let last = opened.ok().and_then(|store: Arc<Store>| live(&store, 1..12, true));
            sim.set_fault(None);
            sim.crash();
            let there = numbers(&Store::open(options(), sim.env()).unwrap());
            // One more may be there: it was written, and nobody heard of it.
            let newest = there.last().copied().unwrap_or(0);
            assert!(
                newest == last.unwrap_or(0) || newest == last.unwrap_or(0) + 1,
                "{kind:?} {at_call}: {there:?} {last:?}"
            );
            assert_eq!(there, ((newest - 7).max(1)..=newest).collect::<Vec<_>>(), "{kind:?} {at_call}");
        }
    }
}
