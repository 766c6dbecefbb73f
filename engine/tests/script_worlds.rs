//! Prometheus's scripts over real stores: in the head, flushed, half flushed, compacted and opened again. Where the
//! samples lie must not change an answer.

#[path = "../../ingest/tests/prometheus_encoder/mod.rs"]
mod prometheus_encoder;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use pilaster_engine::import::import_prometheus;
use pilaster_engine::source::StoreSource;
use pilaster_promql::promqltest::{
    FileReport, LoadedSample, LoadedSeries, LoadedValue, MemoryWorld, World, engine_options, run,
};
use pilaster_promql::source::Source;
use pilaster_promql::{Engine, EngineOptions};
use pilaster_storage::env::Env;
use pilaster_storage::env::objects::{Objects, open_url};
use pilaster_storage::{HistogramSample, ObjectOptions, Sample, Store, StoreOptions, WalSync};

/// Where the samples of a script are when it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Head,
    Blocks,
    /// The older half in blocks, the newer in the head.
    Both,
    /// In many small blocks that were merged, by a store that was closed and opened since.
    Reopened,
    /// In the blocks of an object store, the newest part in the head; opened again without a cache.
    ObjectStore,
    /// In blocks that were made of a Prometheus's directory: the older half from its blocks, the newer from its log.
    Imported,
}

/// A store that is emptied by beginning another one.
struct StoreWorld {
    place: Place,
    store: Option<(Home, Arc<Store>)>,
}

/// What outlives a store.
struct Home {
    dir: tempfile::TempDir,
    objects: Option<Arc<dyn Objects>>,
}

impl StoreWorld {
    fn new(place: Place) -> StoreWorld {
        StoreWorld { place, store: None }
    }

    fn store(&mut self) -> Result<Arc<Store>, String> {
        if let Some((_, store)) = &self.store {
            return Ok(store.clone());
        }
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let far = self.place == Place::ObjectStore;
        let objects = far.then(|| open_url("memory:///scripts", &[], Env::real().files)).transpose()?;
        let home = Home { dir, objects };
        let store = open(&home)?;
        self.store = Some((home, store.clone()));
        Ok(store)
    }

    fn reopen(&mut self) -> Result<(), String> {
        if let Some((home, store)) = self.store.take() {
            drop(store);
            // Nothing is cached yet, or nothing stays so.
            let _ = std::fs::remove_dir_all(home.dir.path().join("cache"));
            let store = open(&home)?;
            self.store = Some((home, store));
        }
        Ok(())
    }
}

fn open(home: &Home) -> Result<Arc<Store>, String> {
    let options = StoreOptions {
        // A script may load anything after anything.
        out_of_order_ms: i64::MAX / 4,
        wal_sync: WalSync::Written,
        wal_segment_bytes: 1 << 20,
        blocks: home.objects.clone().map(ObjectOptions::new),
        ..StoreOptions::new(home.dir.path())
    };
    Store::open(options, Env::real()).map_err(|error| error.to_string())
}

impl World for StoreWorld {
    fn clear(&mut self) -> Result<(), String> {
        self.store = None;
        Ok(())
    }

    fn load(&mut self, series: &[LoadedSeries]) -> Result<(), String> {
        let flush = |store: &Store| store.flush().map_err(|error| error.to_string());
        let store = self.store()?;
        match self.place {
            Place::Head => append(&store, series, |_, _| true),
            Place::Blocks => {
                append(&store, series, |_, _| true)?;
                flush(&store)
            }
            Place::Both => {
                append(&store, series, |index, count| index < count / 2)?;
                flush(&store)?;
                append(&store, series, |index, count| index >= count / 2)
            }
            Place::Reopened => {
                for part in 0..4 {
                    append(&store, series, |index, count| index * 4 / count == part)?;
                    if part != 2 {
                        flush(&store)?;
                    }
                }
                store.maintain().map_err(|error| error.to_string())?;
                drop(store);
                self.reopen()
            }
            Place::ObjectStore => {
                for part in 0..3 {
                    append(&store, series, |index, count| index * 3 / count == part)?;
                    if part != 2 {
                        flush(&store)?;
                    }
                }
                drop(store);
                self.reopen()
            }
            Place::Imported => import(&store, series),
        }
    }

    fn source(&mut self) -> Result<Arc<dyn Source>, String> {
        Ok(Arc::new(StoreSource::new(self.store()?.snapshot())))
    }
}

/// Appends the samples of which `take` says so by their index and count in their series.
fn append(store: &Store, series: &[LoadedSeries], take: impl Fn(usize, usize) -> bool) -> Result<(), String> {
    let (mut floats, mut histograms) = (Vec::new(), Vec::new());
    for LoadedSeries { labels, samples } in series {
        let reference = store.series(labels);
        for (index, sample) in samples.iter().enumerate() {
            let LoadedSample { timestamp_ms, value, start_ms } = sample.clone();
            if !take(index, samples.len()) {
                continue;
            }
            match value {
                LoadedValue::Float(value) => floats.push(Sample { series: reference, timestamp_ms, value, start_ms }),
                LoadedValue::Histogram(histogram) => {
                    histograms.push(HistogramSample { series: reference, timestamp_ms, histogram, start_ms });
                }
            }
        }
    }
    let outcome = store.append_batch(&floats, &histograms).map_err(|error| error.to_string())?;
    match outcome.rejected.first() {
        None => Ok(()),
        Some(rejected) => Err(format!("{} samples were refused: {:?}", outcome.rejected.len(), rejected.reason)),
    }
}

/// Writes the samples as Prometheus would, and imports them.
fn import(store: &Store, series: &[LoadedSeries]) -> Result<(), String> {
    let sample = |LoadedSample { timestamp_ms, value, start_ms }: LoadedSample| {
        let (value, histogram) = match value {
            LoadedValue::Float(value) => (value, None),
            LoadedValue::Histogram(histogram) => (0.0, Some((*histogram).clone())),
        };
        // Start timestamps of zero are no start timestamps there.
        prometheus_encoder::Sample { timestamp_ms, start_ms: start_ms.unwrap_or(0), value, histogram }
    };
    let all: Vec<_> = series
        .iter()
        .map(|LoadedSeries { labels, samples }| (labels.clone(), samples.iter().cloned().map(sample).collect()))
        .collect();
    let mut times: Vec<i64> = series.iter().flat_map(|one| &one.samples).map(|sample| sample.timestamp_ms).collect();
    times.sort_unstable();
    let Some(&cut_ms) = times.get(times.len() / 2) else { return Ok(()) };
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    prometheus_encoder::write_directory(dir.path(), &all, cut_ms);
    match import_prometheus(dir.path(), store) {
        Ok((_, 0)) => Ok(()),
        Ok((_, damages)) => Err(format!("{damages} damages")),
        Err(error) => Err(format!("{error:#}")),
    }
}

fn scripts() -> Option<Vec<PathBuf>> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/promqltest");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&dir)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "test"))
        .collect();
    paths.sort();
    Some(paths)
}

fn failures(report: &FileReport) -> BTreeSet<(usize, String)> {
    report.failures.iter().map(|failure| (failure.line, failure.query.clone())).collect()
}

/// Runs every script in `place` with each number of partitions, and compares with a world in memory.
fn check(place: Place, partitions: &[usize]) {
    let Some(paths) = scripts() else {
        println!("no folder ../../shared/promqltest: nothing to run");
        return;
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_stack_size(8 << 20).build().unwrap();
    let mut evaluations = 0;
    let mut wrong = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let reference = {
            let engine = Arc::new(Engine::new(engine_options()));
            runtime.block_on(run(&name, &text, &engine, &mut MemoryWorld::default()))
        };
        for partitions in partitions {
            let options = EngineOptions { partitions: *partitions, partition_cells: 1, ..engine_options() };
            let engine = Arc::new(Engine::new(options));
            let report = runtime.block_on(run(&name, &text, &engine, &mut StoreWorld::new(place)));
            evaluations += report.total();
            let known = failures(&reference);
            for failure in &report.failures {
                if !known.contains(&(failure.line, failure.query.clone())) {
                    wrong.push(format!(
                        "{name}:{} ({partitions} partitions): {}\n  expected {}\n  got      {}",
                        failure.line, failure.query, failure.expected, failure.got
                    ));
                }
            }
        }
    }
    println!("{place:?}: {evaluations} evaluations");
    assert!(evaluations > 2000, "{evaluations} evaluations ran");
    assert!(wrong.is_empty(), "{place:?}: {} differ from memory:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn scripts_over_the_head() {
    check(Place::Head, &[1, 4]);
}

#[test]
fn scripts_over_blocks() {
    check(Place::Blocks, &[4]);
}

#[test]
fn scripts_over_blocks_and_head() {
    check(Place::Both, &[4]);
}

#[test]
fn scripts_over_an_object_store() {
    check(Place::ObjectStore, &[4]);
}

#[test]
fn scripts_over_a_reopened_store() {
    check(Place::Reopened, &[4]);
}

#[test]
fn scripts_over_an_imported_directory() {
    check(Place::Imported, &[4]);
}
