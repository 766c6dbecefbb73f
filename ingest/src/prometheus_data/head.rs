//! The head: what the log, its checkpoint, the log of late samples and the mapped chunks hold together.
//!
//! The log is read more than once: first to learn the series and how many samples each has, then once for each run of
//! neighbouring series whose samples fit into memory together.
//!
//! Of the log's samples those are taken that are newer than the series' last one: the others were refused, or came late
//! and stand in the other log. The log goes back behind the end of the blocks, so samples may be in both; see
//! [`Head::blocks_end_ms`].

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};

use pilaster_model::{Columns, Labels, TimeRange};
use pilaster_storage::Metadata;
use pilaster_storage::block::OrderKey;

use super::DataError;
use super::block::Block;
use super::chunk::decode;
use super::head_chunks::{self, MappedChunk};
use super::record::{self, Logged, Record};
use super::wal;

/// Segments that are read and unpacked at once.
const READERS: usize = 3;

/// What is in the head, beside samples that can be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeadSummary {
    pub series: u64,
    /// Before late ones, deleted ones and those that two files hold are taken out.
    pub samples: u64,
    /// Records of exemplars, which no block holds.
    pub skipped_records: u64,
    /// Samples whose series the log does not name.
    pub nameless_samples: u64,
}

/// A series of the head.
#[derive(Debug, Default)]
struct Series {
    samples: u64,
    deleted: Vec<TimeRange>,
    /// Files and chunks in them.
    chunks: Vec<(u32, MappedChunk)>,
}

pub struct Head {
    wal: Vec<PathBuf>,
    wbl: Vec<PathBuf>,
    chunk_files: Vec<PathBuf>,
    blocks_end_ms: i64,
    /// In the order of blocks.
    labels: Vec<Labels>,
    series: Vec<Series>,
    by_reference: HashMap<u64, u32>,
    metadata: BTreeMap<String, Metadata>,
    summary: HeadSummary,
}

impl Head {
    /// Learns what the head of the data directory `dir` has. Damage is told to `damage`.
    ///
    /// # Errors
    /// Files cannot be listed or read.
    pub fn open(dir: &Path, damage: &mut dyn FnMut(DataError)) -> Result<Head, DataError> {
        let mut blocks_end_ms = i64::MIN;
        for block in Block::list(dir)? {
            // A block that cannot be read is told of by who reads it.
            if let Ok(meta) = Block::read_meta(&block)
                && meta.is_from_head_in_order()
            {
                blocks_end_ms = blocks_end_ms.max(meta.end_ms);
            }
        }
        let mut head = Head {
            wal: wal::segments(&dir.join("wal"), damage)?,
            wbl: wal::segments(&dir.join("wbl"), damage)?,
            chunk_files: head_chunks::files(&dir.join("chunks_head"))?,
            blocks_end_ms,
            labels: Vec::new(),
            series: Vec::new(),
            by_reference: HashMap::new(),
            metadata: BTreeMap::new(),
            summary: HeadSummary::default(),
        };
        head.learn(damage)?;
        Ok(head)
    }

    /// The end of the blocks that hold what the head had once. In a range before it the samples of the log are in blocks,
    /// or were deleted there, unless the last of these blocks was merged with late samples of a range that the head still
    /// has: then a restarted Prometheus would lose the others of the range.
    pub fn blocks_end_ms(&self) -> i64 {
        self.blocks_end_ms
    }

    /// The last that the log says of each metric, ascending.
    pub fn metadata(&self) -> impl Iterator<Item = &Metadata> {
        self.metadata.values()
    }

    pub fn summary(&self) -> HeadSummary {
        self.summary
    }

    fn learn(&mut self, damage: &mut dyn FnMut(DataError)) -> Result<(), DataError> {
        let mut by_labels: HashMap<Labels, u32> = HashMap::new();
        let mut nameless = 0;
        let mut skipped = 0;
        let mut chunks: HashMap<u64, Vec<(u32, MappedChunk)>> = HashMap::new();
        for (number, path) in self.chunk_files.iter().enumerate() {
            let bytes = std::fs::read(path).map_err(DataError::io("read", path))?;
            for chunk in head_chunks::list(path, &bytes, damage) {
                chunks.entry(chunk.series).or_default().push((number as u32, chunk));
            }
        }
        let (labels, series, by_reference) = (&mut self.labels, &mut self.series, &mut self.by_reference);
        let metadata = &mut self.metadata;
        // One after the other: the log of late samples names no series.
        for paths in [&self.wal, &self.wbl] {
            let mut take = |record: Record| match record {
                Record::Series(named) => {
                    for (reference, named) in named {
                        let next = labels.len() as u32;
                        let at = *by_labels.entry(named.clone()).or_insert(next);
                        if at == next {
                            labels.push(named);
                            series.push(Series::default());
                        }
                        by_reference.insert(reference, at);
                    }
                }
                Record::Floats(all) => {
                    for sample in &all {
                        let at = by_reference.get(&sample.series);
                        at.map_or_else(|| nameless += 1, |at| series[*at as usize].samples += 1);
                    }
                }
                Record::Histograms(all) => {
                    for sample in &all {
                        let at = by_reference.get(&sample.series);
                        at.map_or_else(|| nameless += 1, |at| series[*at as usize].samples += 1);
                    }
                }
                Record::Tombstones(all) => {
                    for (reference, range) in all {
                        // All of a series: it left the head for a block of stale series.
                        if let Some(at) = by_reference.get(&reference)
                            && range != TimeRange::ALL
                        {
                            series[*at as usize].deleted.push(range);
                        }
                    }
                }
                Record::Metadata(said) => {
                    for one in said {
                        let metric = by_reference.get(&one.series).map(|at| labels[*at as usize].metric_name());
                        if let Some(metric) = metric.filter(|metric| !metric.is_empty()) {
                            let one = Metadata::new(metric, one.kind, &one.help, &one.unit);
                            metadata.insert(metric.to_owned(), one);
                        }
                    }
                }
                Record::Exemplars => skipped += 1,
                Record::Other => {}
            };
            replay(paths, &mut take, damage)?;
        }
        for (reference, chunks) in chunks {
            match self.by_reference.get(&reference) {
                Some(&at) => {
                    let series = &mut self.series[at as usize];
                    series.samples += chunks.iter().map(|(_, chunk)| u64::from(chunk.samples)).sum::<u64>();
                    series.chunks.extend(chunks);
                }
                None => nameless += chunks.iter().map(|(_, chunk)| u64::from(chunk.samples)).sum::<u64>(),
            }
        }
        self.put_in_order();
        self.summary = HeadSummary {
            series: self.series.len() as u64,
            samples: self.series.iter().map(|series| series.samples).sum(),
            skipped_records: skipped,
            nameless_samples: nameless,
        };
        Ok(())
    }

    fn put_in_order(&mut self) {
        let keys: Vec<OrderKey> = self.labels.iter().map(OrderKey::of).collect();
        let mut order: Vec<u32> = (0..keys.len() as u32).collect();
        order.sort_by(|&a, &b| keys[a as usize].cmp(&keys[b as usize]));
        let mut places = vec![0; order.len()];
        for (new, &old) in order.iter().enumerate() {
            places[old as usize] = new as u32;
        }
        self.by_reference.values_mut().for_each(|at| *at = places[*at as usize]);
        self.labels = order.iter().map(|&old| self.labels[old as usize].clone()).collect();
        self.series = order.iter().map(|&old| std::mem::take(&mut self.series[old as usize])).collect();
    }

    /// Runs of series with about `samples` samples each, to be read one after the other.
    pub fn passes(&self, samples: u64) -> Vec<Range<usize>> {
        let mut passes = Vec::new();
        let (mut from, mut together) = (0, 0);
        for (at, series) in self.series.iter().enumerate() {
            together += series.samples;
            if together >= samples {
                passes.push(from..at + 1);
                (from, together) = (at + 1, 0);
            }
        }
        if from < self.series.len() {
            passes.push(from..self.series.len());
        }
        passes
    }

    /// The samples of a run of series, in the order of blocks; series without any are left out. Damage of the log was told
    /// when it was opened; what is found only now is told to `damage`.
    ///
    /// # Errors
    /// Files cannot be read.
    pub fn read(
        &self,
        run: Range<usize>,
        damage: &mut dyn FnMut(DataError),
    ) -> Result<Vec<(Labels, Columns)>, DataError> {
        let mut gathered: Vec<Gathered> = self.series[run.clone()].iter().map(Gathered::of).collect();
        let place = |reference: u64| {
            let at = *self.by_reference.get(&reference)? as usize;
            run.contains(&at).then(|| at - run.start)
        };
        let mut known = |_: DataError| {};
        let mut take_in_order = |record: Record| match record {
            Record::Floats(all) => all.into_iter().for_each(|sample| {
                if let Some(at) = place(sample.series) {
                    gathered[at].put_in_order(&sample, |samples| {
                        samples.push_float(sample.timestamp_ms, sample.value, sample.start_ms);
                    });
                }
            }),
            Record::Histograms(all) => all.into_iter().for_each(|sample| {
                if let Some(at) = place(sample.series) {
                    gathered[at].put_in_order(&sample, |samples| {
                        samples.push_histogram(sample.timestamp_ms, sample.value.clone(), sample.start_ms);
                    });
                }
            }),
            Record::Tombstones(all) => {
                for (reference, range) in all {
                    // A series that comes back begins anew.
                    if let Some(at) = place(reference)
                        && range == TimeRange::ALL
                    {
                        gathered[at].last_ms = i64::MIN;
                    }
                }
            }
            Record::Series(_) | Record::Exemplars | Record::Metadata(_) | Record::Other => {}
        };
        replay(&self.wal, &mut take_in_order, &mut known)?;
        let mut take_late = |record: Record| match record {
            Record::Floats(all) => all.into_iter().for_each(|sample| {
                if let Some(at) = place(sample.series) {
                    gathered[at].samples.push_float(sample.timestamp_ms, sample.value, sample.start_ms);
                }
            }),
            Record::Histograms(all) => all.into_iter().for_each(|sample| {
                if let Some(at) = place(sample.series) {
                    gathered[at].samples.push_histogram(sample.timestamp_ms, sample.value, sample.start_ms);
                }
            }),
            Record::Series(_) | Record::Tombstones(_) | Record::Exemplars | Record::Metadata(_) | Record::Other => {}
        };
        replay(&self.wbl, &mut take_late, &mut known)?;
        self.read_chunks(run.clone(), &mut gathered, damage)?;
        let mut read = Vec::with_capacity(gathered.len());
        for (at, gathered) in run.zip(gathered) {
            let mut samples = gathered.samples.sorted();
            samples.remove(&self.series[at].deleted);
            if !samples.is_empty() {
                read.push((self.labels[at].clone(), samples));
            }
        }
        Ok(read)
    }

    fn read_chunks(
        &self,
        run: Range<usize>,
        gathered: &mut [Gathered],
        damage: &mut dyn FnMut(DataError),
    ) -> Result<(), DataError> {
        for (number, path) in self.chunk_files.iter().enumerate() {
            let mut bytes = Vec::new();
            for at in run.clone() {
                for (_, chunk) in self.series[at].chunks.iter().filter(|(file, _)| *file as usize == number) {
                    if bytes.is_empty() {
                        bytes = std::fs::read(path).map_err(DataError::io("read", path))?;
                    }
                    let data = bytes.get(chunk.offset..chunk.offset + chunk.len).unwrap_or_default();
                    let mut samples = Columns::default();
                    if let Err(reason) = decode(chunk.encoding, data, &mut samples) {
                        damage(DataError::corrupt(path, chunk.offset as u64, reason));
                    }
                    gathered[at - run.start].samples.extend_from(&samples);
                }
            }
        }
        Ok(())
    }
}

/// Samples of a series on their way.
struct Gathered {
    samples: Columns,
    /// Of the log's samples so far.
    last_ms: i64,
    /// What mapped chunks hold.
    mapped: Vec<TimeRange>,
}

impl Gathered {
    fn of(series: &Series) -> Gathered {
        let in_order = series.chunks.iter().filter(|(_, chunk)| !chunk.out_of_order);
        let mapped = in_order.map(|(_, chunk)| TimeRange::new(chunk.min_ms, chunk.max_ms)).collect();
        Gathered { samples: Columns::default(), last_ms: i64::MIN, mapped }
    }

    fn put_in_order<V>(&mut self, sample: &Logged<V>, put: impl FnOnce(&mut Columns)) {
        let ms = sample.timestamp_ms;
        if ms <= self.last_ms && self.last_ms != i64::MIN {
            return;
        }
        self.last_ms = ms;
        if !self.mapped.iter().any(|range| range.contains(ms)) {
            put(&mut self.samples);
        }
    }
}

/// Calls `take` with every record of the segments in `paths`, in order.
fn replay(paths: &[PathBuf], take: &mut dyn FnMut(Record), damage: &mut dyn FnMut(DataError)) -> Result<(), DataError> {
    std::thread::scope(|scope| {
        let start = |number: usize| -> Option<Receiver<Vec<Step>>> {
            let path = paths.get(number)?;
            // A few batches ahead, so that a segment that waits for its turn holds little.
            let (send, steps) = sync_channel(4);
            let last = number + 1 == paths.len();
            scope.spawn(move || {
                let mut batch = Vec::new();
                let mut put = |step: Step| {
                    batch.push(step);
                    if batch.len() >= 256 {
                        // Nobody listens any more after an error.
                        let _ = send.send(std::mem::take(&mut batch));
                    }
                };
                read_segment(path, last, &mut put);
                let _ = send.send(batch);
            });
            Some(steps)
        };
        let mut running: std::collections::VecDeque<_> = (0..READERS).filter_map(start).collect();
        for number in 0..paths.len() {
            let Some(steps) = running.pop_front() else { break };
            for step in steps.into_iter().flatten() {
                match step {
                    Step::Record(record) => take(record),
                    Step::Damage(error) => damage(error),
                    Step::Failed(error) => return Err(error),
                }
            }
            running.extend(start(number + READERS));
        }
        Ok(())
    })
}

enum Step {
    Record(Record),
    Damage(DataError),
    Failed(DataError),
}

fn read_segment(path: &Path, last: bool, put: &mut dyn FnMut(Step)) {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return put(Step::Failed(DataError::io("read", path)(error))),
    };
    let put = std::cell::RefCell::new(put);
    let mut record = |offset: u64, bytes: &[u8]| {
        (put.borrow_mut())(match record::parse(bytes) {
            Ok(record) => Step::Record(record),
            Err(reason) => Step::Damage(DataError::corrupt(path, offset, reason)),
        });
    };
    let mut damage = |error: DataError| (put.borrow_mut())(Step::Damage(error));
    wal::records(path, &bytes, last, &mut record, &mut damage);
}
