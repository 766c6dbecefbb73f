//! What a store keeps beside samples, what it lets go, and what it does about a block that cannot be read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pilaster_model::{Labels, Matcher, TimeRange};
use pilaster_storage::env::sim::{Fault, FaultKind, Sim};
use pilaster_storage::{
    Exemplar, ExemplarOutcome, Metadata, RetentionLimits, RetentionRule, Sample, Store, StoreOptions,
};

const DIR: &str = "/data";
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

fn labels(metric: &str) -> Labels {
    Labels::from_pairs([("__name__", metric), ("job", "j")])
}

fn options() -> StoreOptions {
    StoreOptions { block_ms: 2 * HOUR_MS, ..StoreOptions::new(DIR) }
}

fn open(options: &StoreOptions, sim: &Sim) -> Arc<Store> {
    Store::open(options.clone(), sim.env()).unwrap()
}

fn append(store: &Store, metric: &str, timestamp_ms: i64) {
    let series = store.series(&labels(metric));
    let outcome = store.append(&[Sample { series, timestamp_ms, value: 1.0, start_ms: None }]).unwrap();
    assert_eq!(outcome.appended, 1, "{metric} at {timestamp_ms}");
}

/// Timestamps of a metric in hours.
fn hours(store: &Store, metric: &str) -> Vec<i64> {
    let snapshot = store.snapshot();
    let found = snapshot.select(&[Matcher::equal("__name__", metric)], TimeRange::ALL).unwrap();
    let read = snapshot.read_many(&found, TimeRange::ALL).unwrap();
    read.iter().flat_map(|samples| samples.timestamps.iter().map(|ms| ms / HOUR_MS)).collect()
}

fn exemplar(timestamp_ms: i64) -> Exemplar {
    let labels = Labels::from_pairs([("trace_id", format!("t{timestamp_ms}"))]);
    Exemplar { labels, value: 0.5, timestamp_ms, has_timestamp: true }
}

#[test]
fn metadata_and_exemplars_survive_a_power_cut_and_a_flush() {
    let sim = Sim::new(5);
    let options = StoreOptions { max_exemplars: 10, ..options() };
    let store = open(&options, &sim);
    append(&store, "a", HOUR_MS);
    let series = store.series(&labels("a"));
    let said = [Metadata::new("a", "counter", "what a is", "seconds"), Metadata::new("b", "gauge", "", "")];
    store.set_metadata(&said).unwrap();
    store.set_metadata(&[Metadata::new("b", "gauge", "b, said again", "")]).unwrap();
    let outcomes = store.append_exemplars(&[(series, exemplar(1)), (series, exemplar(2)), (series, exemplar(2))]);
    assert_eq!(outcomes.unwrap(), [ExemplarOutcome::Taken, ExemplarOutcome::Taken, ExemplarOutcome::Passed]);
    let everything = [vec![Matcher::equal("job", "j")]];
    let expected = (store.metadata(), store.exemplars(&everything, TimeRange::ALL));
    assert_eq!((expected.0.len(), expected.1[0].exemplars.len()), (2, 2));
    sim.crash();
    let store = open(&options, &sim);
    assert_eq!((store.metadata(), store.exemplars(&everything, TimeRange::ALL)), expected);
    // The log goes, and with it exemplars as old as the blocks; what is said of metrics stays.
    store.flush().unwrap();
    sim.crash();
    let store = open(&options, &sim);
    assert_eq!(store.metadata(), expected.0);
    assert_eq!(hours(&store, "a"), [1]);
}

#[test]
fn no_power_cut_loses_metadata_that_was_acknowledged() {
    for seed in 0..300 {
        let sim = Sim::new(seed);
        let options = StoreOptions { wal_segment_bytes: 300, max_exemplars: 100, ..options() };
        let store = open(&options, &sim);
        sim.set_fault(Some(Fault { at_call: sim.calls() + seed / 3, kind: FaultKind::PowerCut }));
        let (mut said, mut shown) = (Vec::new(), Vec::new());
        for step in 0..12 {
            let one = Metadata::new(&format!("m{step:02}"), "gauge", "help", "");
            if store.set_metadata(std::slice::from_ref(&one)).is_ok() {
                said.push(one);
            }
            let series = store.series(&labels("a"));
            let at = step * HOUR_MS;
            let _ = store.append(&[Sample { series, timestamp_ms: at, value: 1.0, start_ms: None }]);
            if store.append_exemplars(&[(series, exemplar(at))]).is_ok_and(|o| o == [ExemplarOutcome::Taken]) {
                shown.push(at);
            }
            let _ = store.maintain();
        }
        sim.crash();
        let store = open(&options, &sim);
        let there = store.metadata();
        let lost: Vec<_> = said.iter().filter(|one| !there.contains(one)).collect();
        assert!(lost.is_empty(), "seed {seed}: {lost:?}");
        let exemplars = store.exemplars(&[vec![]], TimeRange::ALL);
        let kept = exemplars.iter().flat_map(|one| &one.exemplars).map(|one| one.timestamp_ms).collect::<Vec<_>>();
        // Those that only a segment had whose samples are in blocks went with it.
        let oldest_ms = store.stats().blocks_max_ms.unwrap_or(i64::MIN);
        let lost: Vec<_> = shown.iter().filter(|at| **at > oldest_ms && !kept.contains(at)).collect();
        assert!(lost.is_empty(), "seed {seed}: exemplars {lost:?}");
    }
}

#[test]
fn a_lost_block_is_set_aside_and_comes_back_when_its_file_does() {
    for damage in 0..4 {
        let sim = Sim::new(2);
        let store = open(&options(), &sim);
        for hour in 0..12 {
            append(&store, "a", hour * HOUR_MS);
            append(&store, "b", hour * HOUR_MS);
            if hour % 4 == 3 {
                store.flush().unwrap();
            }
        }
        let blocks = store.snapshot().blocks().to_vec();
        assert!(blocks.len() >= 3);
        let lost = blocks[1].meta().clone();
        let there = |store: &Store| hours(store, "a").into_iter().map(|hour| hour * HOUR_MS).collect::<BTreeSet<_>>();
        let all = there(&store);
        drop((store, blocks));
        let files = sim.env().files;
        let paths: Vec<PathBuf> = lost.files.iter().map(|file| Path::new(DIR).join(&file.path)).collect();
        let contents: Vec<Vec<u8>> = paths.iter().map(|path| files.read(path).unwrap()).collect();
        match damage {
            0 => files.remove(&paths[0]).unwrap(),
            1 => sim.cut(&paths[0], contents[0].len() / 2),
            2 => {
                sim.flip_bit(&paths[0], contents[0].len() / 2, 3);
                sim.flip_bit(&paths[1], contents[1].len() / 2, 3);
            }
            _ => paths.iter().for_each(|path| sim.cut(path, 0)),
        }
        let store = open(&options(), &sim);
        let range = TimeRange::new(lost.min_ms, lost.max_ms);
        let rest: BTreeSet<i64> = all.iter().copied().filter(|ms| !range.contains(*ms)).collect();
        assert_eq!(there(&store), rest, "damage {damage}");
        assert_eq!(store.stats().blocks_set_aside, 1);
        let missing = |range| store.snapshot().missing(range).map(|meta| meta.name.clone()).collect::<Vec<_>>();
        assert_eq!(missing(range), std::slice::from_ref(&lost.name));
        assert!(missing(TimeRange::new(lost.max_ms + 1, i64::MAX)).is_empty());
        // Everything else goes on beside it: writing, merging, deleting, cleaning.
        append(&store, "a", 20 * HOUR_MS);
        store.flush().unwrap();
        store.maintain().unwrap();
        store.delete(&[Matcher::equal("__name__", "b")], TimeRange::ALL).unwrap();
        store.clean_tombstones().unwrap();
        assert!(hours(&store, "b").is_empty());
        drop(store);
        // Somebody brings the files back.
        for (path, content) in paths.iter().zip(&contents) {
            let mut file = files.create(path).unwrap();
            file.append(content).unwrap();
            file.sync().unwrap();
            files.sync_dir(path.parent().unwrap()).unwrap();
        }
        let store = open(&options(), &sim);
        assert_eq!(store.stats().blocks_set_aside, 0);
        assert_eq!(there(&store), all.iter().copied().chain([20 * HOUR_MS]).collect::<BTreeSet<_>>());
        assert!(hours(&store, "b").is_empty(), "what was deleted while the block was away stays deleted");
    }
}

/// A sample of each metric every 12 hours, the clock going with them.
fn fill(store: &Store, sim: &Sim, metrics: &[&str], days: std::ops::Range<i64>) {
    for half in days.start * 2..days.end * 2 {
        sim.set_now_ms(half * DAY_MS / 2);
        metrics.iter().for_each(|metric| append(store, metric, half * DAY_MS / 2));
        // A leap of hours is believed after some looks.
        (0..25).for_each(|_| store.maintain().unwrap());
    }
}

#[test]
fn retention_rules_keep_some_series_for_longer_and_some_for_less() {
    let sim = Sim::new(1);
    let rule = |metric: &str, days: i64| RetentionRule {
        matchers: vec![Matcher::equal("__name__", metric)],
        ms: days * DAY_MS,
    };
    let options = StoreOptions {
        retention: RetentionLimits {
            rules: vec![rule("short", 3), rule("long", 30), rule("short", 99)],
            ..RetentionLimits::of_ms(10 * DAY_MS)
        },
        ..options()
    };
    let store = open(&options, &sim);
    fill(&store, &sim, &["short", "long", "plain"], 0..40);
    let oldest_day = |store: &Store, metric: &str| hours(store, metric)[0] / 24;
    let check = |store: &Store| {
        // As far as blocks reach, which are a day long at most.
        assert!((36..=37).contains(&oldest_day(store, "short")), "{}", oldest_day(store, "short"));
        assert!((28..=29).contains(&oldest_day(store, "plain")), "{}", oldest_day(store, "plain"));
        assert!((8..=10).contains(&oldest_day(store, "long")), "{}", oldest_day(store, "long"));
        for metric in ["short", "plain", "long"] {
            let there = hours(store, metric);
            let expected: Vec<i64> = (there[0]..40 * 24).step_by(12).collect();
            assert_eq!(there, expected, "{metric}: no hole and nothing twice");
        }
    };
    check(&store);
    drop(store);
    check(&open(&options, &sim));
    // Without rules there is the default for all; a running store is told so.
    let store = open(&options, &sim);
    store.set_retention(RetentionLimits::of_ms(10 * DAY_MS)).unwrap();
    assert!(store.set_retention(RetentionLimits::of_ms(0)).is_err());
    (0..25).for_each(|_| store.maintain().unwrap());
    assert!((28..=30).contains(&oldest_day(&store, "long")), "{}", oldest_day(&store, "long"));
}

#[test]
fn a_share_of_the_disk_limits_blocks() {
    let sim = Sim::new(1);
    let store = open(&options(), &sim);
    fill(&store, &sim, &["a", "b"], 0..10);
    let used_bytes = store.stats().block_bytes + store.stats().wal_bytes;
    drop(store);
    sim.set_capacity_bytes(10 * used_bytes);
    // 5 % of ten times as much is half.
    let options = StoreOptions {
        retention: RetentionLimits { percent: Some(5.0), bytes: Some(u64::MAX), ..RetentionLimits::default() },
        ..options()
    };
    let store = open(&options, &sim);
    assert_eq!(store.retention_limit_bytes(), Some(used_bytes / 2));
    store.maintain().unwrap();
    let there = hours(&store, "a");
    assert!(there[0] > 0 && *there.last().unwrap() == 9 * 24 + 12, "the oldest went: {there:?}");
    assert!(store.stats().block_bytes + store.stats().wal_bytes <= used_bytes / 2);
    for percent in [0.0, -1.0, 100.5, f64::NAN] {
        let retention = RetentionLimits { percent: Some(percent), ..RetentionLimits::default() };
        let wrong = StoreOptions { retention, ..StoreOptions::new("/other") };
        assert!(Store::open(wrong, sim.env()).is_err(), "{percent}");
    }
}

#[test]
fn a_jumping_clock_expires_nothing_and_stops_nothing() {
    let sim = Sim::new(1);
    let options = StoreOptions { retention: RetentionLimits::of_ms(15 * DAY_MS), ..options() };
    let store = open(&options, &sim);
    let year_ms = 365 * DAY_MS;
    let start_day = 20 * 365;
    fill(&store, &sim, &["a"], start_day..start_day + 5);
    let all = hours(&store, "a");
    // For a few minutes the clock is 40 years ahead, and scrapes are stamped by it.
    let now_ms = (start_day + 5) * DAY_MS;
    sim.set_now_ms(now_ms + 40 * year_ms);
    append(&store, "future", now_ms + 40 * year_ms);
    (0..10).for_each(|_| store.maintain().unwrap());
    sim.set_now_ms(now_ms);
    (0..100).for_each(|_| store.maintain().unwrap());
    assert_eq!(hours(&store, "a"), all, "a block from the future pushes nothing out");
    append(&store, "a", now_ms);
    append(&store, "new", now_ms);
    let all = hours(&store, "a");
    drop(store);
    // Ten years back, over a restart.
    sim.set_now_ms(now_ms - 10 * year_ms);
    let store = open(&options, &sim);
    (0..100).for_each(|_| store.maintain().unwrap());
    assert_eq!(hours(&store, "a"), all);
    assert_eq!(hours(&store, "future"), [(now_ms + 40 * year_ms) / HOUR_MS]);
}

#[test]
fn a_damaged_or_lost_manifest_is_made_again_from_the_blocks() {
    let sim = Sim::new(3);
    let store = open(&options(), &sim);
    for hour in 0..30 {
        append(&store, "a", hour * HOUR_MS);
        append(&store, "b", hour * HOUR_MS);
        if hour % 4 == 3 {
            store.flush().unwrap();
            store.maintain().unwrap();
        }
    }
    assert!(store.stats().compactions > 0 && store.stats().blocks > 2);
    let matchers = [Matcher::equal("__name__", "b")];
    store.delete(&matchers, TimeRange::new(0, 5 * HOUR_MS)).unwrap();
    store.clean_tombstones().unwrap();
    // Not carried out yet: only the manifest knows.
    store.delete(&matchers, TimeRange::new(6 * HOUR_MS, 9 * HOUR_MS)).unwrap();
    let blocks = store.stats().blocks;
    drop(store);
    // Files that were removed and are back after a power cut would be live again.
    sim.env().files.sync_dir(&Path::new(DIR).join("samples/date=1970-01-01")).unwrap();
    sim.crash();
    let manifest = Path::new(DIR).join("manifest.jsonl");
    let files = sim.env().files;
    let bytes = files.read(&manifest).unwrap();
    let restore = |bytes: &[u8]| {
        let mut file = files.create(&manifest).unwrap();
        file.append(bytes).unwrap();
        file.sync().unwrap();
        files.sync_dir(Path::new(DIR)).unwrap();
    };
    for case in 0..4 {
        match case {
            0 => sim.flip_bit(&manifest, 30, 1),
            1 => sim.flip_bit(&manifest, bytes.len() / 2, 6),
            2 => sim.cut(&manifest, bytes.len() / 3),
            _ => files.remove(&manifest).unwrap(),
        }
        let store = open(&options(), &sim);
        assert_eq!(store.stats().blocks, blocks, "case {case}");
        assert_eq!(hours(&store, "a"), (0..30).collect::<Vec<_>>(), "case {case}");
        assert_eq!(hours(&store, "b"), (6..30).collect::<Vec<_>>(), "case {case}: what was carried out stays so");
        if case < 3 {
            assert!(files.len(&manifest.with_extension("jsonl.damaged")).unwrap() > 0);
        }
        drop(store);
        // It is sound from now on.
        sim.crash();
        let store = open(&options(), &sim);
        assert_eq!(hours(&store, "a").len(), 30);
        append(&store, "c", 30 * HOUR_MS + case * 60_000);
        drop(store);
        restore(&bytes);
    }

    // A later version is no damage.
    let body = r#"{"version":9,"what":"is this"}"#;
    restore(format!("{{\"crc32c\":\"{:08x}\"}}\n{body}\n", crc32c::crc32c(body.as_bytes())).as_bytes());
    let error = Store::open(options(), sim.env()).unwrap_err().to_string();
    assert!(error.contains("has version 9"), "{error}");

    // Without its checksums nobody knows whether a sample file is right.
    files.remove(&manifest).unwrap();
    let index = files.list_tree(&Path::new(DIR).join("samples")).unwrap();
    let index = index.iter().find(|path| path.extension().is_some_and(|e| e == "index")).unwrap();
    sim.flip_bit(index, 50, 2);
    let store = open(&options(), &sim);
    assert_eq!(store.stats().blocks, blocks - 1);
    assert!(hours(&store, "a").len() < 30);
    let aside = files.list(&Path::new(DIR).join("set-aside")).unwrap();
    assert_eq!(aside.len(), 2, "both files of the block are kept: {aside:?}");
}

#[test]
fn a_crash_while_the_manifest_is_made_again_leaves_it_to_be_made_again() {
    for at in 0..25 {
        let sim = Sim::new(at);
        let store = open(&options(), &sim);
        for hour in 0..8 {
            append(&store, "a", hour * HOUR_MS);
            if hour % 3 == 2 {
                store.flush().unwrap();
            }
        }
        drop(store);
        sim.crash();
        sim.flip_bit(&Path::new(DIR).join("manifest.jsonl"), 40, 4);
        sim.set_fault(Some(Fault { at_call: sim.calls() + at, kind: FaultKind::PowerCut }));
        let opened = Store::open(options(), sim.env());
        assert!(opened.is_err() || at > 3, "call {at}");
        drop(opened);
        sim.set_fault(None);
        sim.crash();
        assert_eq!(hours(&open(&options(), &sim), "a"), (0..8).collect::<Vec<_>>(), "call {at}");
    }
}
