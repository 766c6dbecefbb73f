//! Prometheus's scripts over real stores: in the head, flushed, half flushed, compacted and opened again; with plans cut
//! into tiles and partitions. Where samples lie and how a plan is cut must not change an answer.

#[path = "../../ingest/tests/prometheus_encoder/mod.rs"]
mod prometheus_encoder;
#[path = "../../promql/tests/script_files/mod.rs"]
mod script_files;

use std::collections::BTreeSet;
use std::sync::Arc;

use pilaster_engine::import::import_prometheus;
use pilaster_engine::source::StoreSource;
use pilaster_promql::promqltest::{Failure, LoadedSample, LoadedSeries, LoadedValue, World, engine_options, run};
use pilaster_promql::source::Source;
use pilaster_promql::{Engine, EngineOptions};
use pilaster_storage::env::Env;
use pilaster_storage::env::objects::{Objects, open_url};
use pilaster_storage::env::sim::Sim;
use pilaster_storage::{HistogramSample, ObjectOptions, Sample, Store, StoreOptions, WalSync, inspect};
use script_files::prometheus_scripts;

/// Where the samples of a script are when it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Head,
    Blocks,
    /// The older half in blocks, the newer in the head.
    Both,
    /// In many small blocks that were merged, by a store that was closed and opened since.
    Reopened,
    /// The same with ranges so short that there are blocks of every level.
    Levels,
    /// In the blocks of an object store, the newest part in the head; opened again without a cache.
    ObjectStore,
    /// In blocks that were made of a Prometheus's directory: the older half from its blocks, the newer from its log.
    Imported,
}

/// A store that is emptied by beginning another one.
struct StoreWorld {
    place: Place,
    store: Option<(Home, Arc<Store>)>,
    /// Levels of blocks that queries have read.
    levels: BTreeSet<u8>,
}

/// What outlives a store.
struct Home {
    dir: tempfile::TempDir,
    objects: Option<Arc<dyn Objects>>,
}

impl StoreWorld {
    fn new(place: Place) -> StoreWorld {
        StoreWorld { place, store: None, levels: BTreeSet::new() }
    }

    fn store(&mut self) -> Result<Arc<Store>, String> {
        if let Some((_, store)) = &self.store {
            return Ok(store.clone());
        }
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let far = self.place == Place::ObjectStore;
        let objects = far.then(|| open_url("memory:///scripts", &[], Env::real().files)).transpose()?;
        let home = Home { dir, objects };
        let store = open(&home, self.place)?;
        self.store = Some((home, store.clone()));
        Ok(store)
    }

    fn reopen(&mut self) -> Result<(), String> {
        if let Some((home, store)) = self.store.take() {
            drop(store);
            // Nothing is cached yet, or nothing stays so.
            let _ = std::fs::remove_dir_all(home.dir.path().join("cache"));
            let store = open(&home, self.place)?;
            if self.place == Place::Levels {
                let blocks = inspect::Place::new(&Env::real(), home.dir.path(), None)
                    .and_then(|place| place.blocks())
                    .map_err(|error| error.to_string())?;
                self.levels.extend(blocks.iter().map(|block| block.level));
            }
            self.store = Some((home, store));
        }
        Ok(())
    }
}

fn open(home: &Home, place: Place) -> Result<Arc<Store>, String> {
    let defaults = StoreOptions::new(home.dir.path());
    let options = StoreOptions {
        // Blocks of 5, 15 and 60 minutes.
        block_ms: if place == Place::Levels { 300_000 } else { defaults.block_ms },
        // A script may load anything after anything.
        out_of_order_ms: i64::MAX / 4,
        wal_sync: WalSync::Written,
        wal_segment_bytes: 1 << 20,
        blocks: home.objects.clone().map(ObjectOptions::new),
        ..defaults
    };
    let mut env = Env::real();
    if place == Place::Levels {
        // In 1970 nothing is over but what was flushed: else all of a script is over, and one block of an hour.
        let sim = Sim::new(1);
        sim.set_now_ms(0);
        env.clock = sim.env().clock;
    }
    Store::open(options, env).map_err(|error| error.to_string())
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
            Place::Reopened | Place::Levels => {
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

/// Evaluations in all scripts of Prometheus 3.14; each at an instant is made several times in several forms.
const EVALUATIONS: usize = 2214;

/// How a plan is cut: steps in a tile, and partitions.
const WHOLE: (usize, usize) = (1024, 1);
const PARTED: (usize, usize) = (1024, 4);
const TILED: (usize, usize) = (64, 4);

/// Runs every script in `place` with plans cut in each way; the levels of the blocks that were read.
fn check(place: Place, cuts: &[(usize, usize)]) -> BTreeSet<u8> {
    let mut levels = BTreeSet::new();
    let Some(paths) = prometheus_scripts() else {
        return levels;
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_stack_size(8 << 20).build().unwrap();
    let mut evaluations = 0;
    let mut wrong = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        for &(tile, partitions) in cuts {
            let options = EngineOptions { tile, partitions, partition_cells: 1, ..engine_options() };
            let engine = Arc::new(Engine::new(options));
            let mut world = StoreWorld::new(place);
            let report = runtime.block_on(run(&name, &text, &engine, &mut world));
            evaluations += report.total();
            levels.extend(world.levels);
            for Failure { line, query, expected, got } in &report.failures {
                let cut = format!("tile {tile}, {partitions} partitions");
                wrong.push(format!("{name}:{line} ({cut}): {query}\n  expected {expected}\n  got      {got}"));
            }
        }
    }
    println!("{place:?}: {evaluations} evaluations, blocks of levels {levels:?}");
    assert_eq!(evaluations, EVALUATIONS * cuts.len(), "evaluations that ran");
    assert!(wrong.is_empty(), "{place:?}: {} fail:\n{}", wrong.len(), wrong.join("\n"));
    levels
}

#[test]
fn scripts_over_the_head() {
    check(Place::Head, &[WHOLE, PARTED, TILED]);
}

#[test]
fn scripts_over_blocks() {
    check(Place::Blocks, &[WHOLE, TILED]);
}

#[test]
fn scripts_over_blocks_and_head() {
    check(Place::Both, &[PARTED, TILED]);
}

#[test]
fn scripts_over_a_reopened_store() {
    check(Place::Reopened, &[WHOLE, TILED]);
}

#[test]
fn scripts_over_blocks_of_every_level() {
    let levels = check(Place::Levels, &[TILED]);
    assert!(
        levels.is_empty() && prometheus_scripts().is_none() || levels.is_superset(&BTreeSet::from([1, 2, 3])),
        "{levels:?}"
    );
}

#[test]
fn scripts_over_an_object_store() {
    check(Place::ObjectStore, &[TILED]);
}

#[test]
fn scripts_over_an_imported_directory() {
    check(Place::Imported, &[PARTED]);
}
