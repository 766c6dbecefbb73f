//! Samples that wait to be put into the head.
//!
//! A scrape touches every series once. Series by series in that order, each sample would find its series in main memory.
//! So the samples of several scrapes wait, and those of a few hundred series, which fit in a core's cache, go together.

use std::sync::Arc;

use parking_lot::Mutex;
use pilaster_model::Histogram;
use rayon::prelude::*;

use crate::head::{Head, Limits};
use crate::wal::WalSample;

/// Slots whose samples go together: with four lanes those of 512 series.
const TOGETHER: u32 = 2048;

/// Neighbourhoods that a record is sorted by: most go through far fewer.
const WIDEST: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Plain {
    series: u64,
    timestamp_ms: i64,
    value: f64,
}

/// What few samples have.
#[derive(Debug)]
struct Rare {
    start_ms: i64,
    histogram: Option<Arc<Histogram>>,
}

/// Samples of one record and one lane.
#[derive(Debug, Default)]
pub struct Piece {
    samples: Vec<Plain>,
    /// By positions in `samples`, ascending.
    rare: Vec<(u32, Rare)>,
    /// Slots over [`TOGETHER`], and where samples of such begin; ascending by position.
    starts: Vec<(u32, u32)>,
}

/// Neighbours in a piece whose series are neighbours too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    /// Their slots over [`TOGETHER`].
    slots: u32,
    /// The piece's position.
    piece: u32,
    start: u32,
    end: u32,
}

/// Records that wait, in order; of each a piece a lane.
#[derive(Debug, Default)]
pub struct Waiting {
    records: Vec<Vec<Piece>>,
    sample_count: usize,
    /// Pieces to be used again: new memory would have to be cleared first.
    spare: Mutex<Vec<Piece>>,
}

impl Piece {
    pub fn push(&mut self, sample: &WalSample, histogram: Option<Histogram>) {
        if sample.start_ms != 0 || histogram.is_some() {
            let rare = Rare { start_ms: sample.start_ms, histogram: histogram.map(Arc::new) };
            self.rare.push((self.samples.len() as u32, rare));
        }
        let &WalSample { series, timestamp_ms, value, .. } = sample;
        let slots = series as u32 / TOGETHER;
        if self.starts.last().is_none_or(|(last, _)| *last != slots) {
            self.starts.push((slots, self.samples.len() as u32));
        }
        self.samples.push(Plain { series, timestamp_ms, value });
    }

    /// Puts neighbours together, where samples of a record go to and fro between them: several senders at a time create
    /// series so. Samples of one series stay in order.
    pub fn gather(&mut self) {
        let slots = |sample: &Plain| sample.series as u32 / TOGETHER;
        let ends = self.starts.iter().fold((u32::MAX, 0), |(min, max), &(slots, _)| (min.min(slots), max.max(slots)));
        let (first, width) = (ends.0, ends.1.saturating_sub(ends.0) as usize + 1);
        if self.starts.len() <= width || width > WIDEST || !self.rare.is_empty() {
            return;
        }
        let mut starts = [0u32; WIDEST + 1];
        for sample in &self.samples {
            starts[(slots(sample) - first) as usize + 1] += 1;
        }
        for at in 1..=width {
            starts[at] += starts[at - 1];
        }
        self.starts.clear();
        self.starts.extend((first..).zip(&starts[..width]).map(|(slots, &start)| (slots, start)));
        let before = self.samples.clone();
        for sample in before {
            let place = &mut starts[(slots(&sample) - first) as usize];
            self.samples[*place as usize] = sample;
            *place += 1;
        }
    }

    fn clear(&mut self) {
        self.samples.clear();
        self.rare.clear();
        self.starts.clear();
    }

    fn runs(&self, piece: u32) -> impl Iterator<Item = Run> {
        let ends = self.starts.iter().skip(1).map(|(_, start)| *start).chain([self.samples.len() as u32]);
        self.starts.iter().zip(ends).map(move |(&(slots, start), end)| Run { slots, piece, start, end })
    }
}

impl Waiting {
    /// Empty pieces for a record of about so many samples: one a lane.
    pub fn pieces(&self, lanes: usize, sample_count: usize) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = {
            let spare = &mut *self.spare.lock();
            spare.split_off(spare.len().saturating_sub(lanes))
        };
        pieces.resize_with(lanes, Piece::default);
        // Some more than their share: lanes are about as long as each other.
        let share = sample_count / lanes;
        pieces.iter_mut().for_each(|piece| piece.samples.reserve(share + share / 4));
        pieces
    }

    /// Appends a record: of each lane a piece.
    pub fn push(&mut self, record: Vec<Piece>) {
        self.sample_count += record.iter().map(|piece| piece.samples.len()).sum::<usize>();
        self.records.push(record);
    }

    /// Samples that wait.
    pub fn len(&self) -> usize {
        self.sample_count
    }

    /// Puts all samples into the head, lanes side by side, and is empty then.
    pub fn put(&mut self, head: &Head, limits: Limits) {
        let lanes = self.records.first().map_or(0, Vec::len);
        let put = |lane: usize| {
            let pieces: Vec<&Piece> = self.records.iter().map(|record| &record[lane]).collect();
            put_lane(&pieces, (lane, lanes), head, limits);
        };
        (0..lanes).into_par_iter().for_each(put);
        self.sample_count = 0;
        let spare = &mut *self.spare.lock();
        spare.extend(self.records.drain(..).flatten());
        spare.iter_mut().for_each(Piece::clear);
    }
}

/// Runs of all pieces, those of neighbouring series together; those of one series stay in order.
fn runs_of(pieces: &[&Piece]) -> Vec<Run> {
    let mut runs: Vec<Run> = (0..).zip(pieces).flat_map(|(at, piece)| piece.runs(at)).collect();
    runs.sort_unstable_by_key(|run| (run.slots, run.piece, run.start));
    runs
}

/// Puts the pieces of `lane`, one of so many.
fn put_lane(pieces: &[&Piece], (lane, lanes): (usize, usize), head: &Head, limits: Limits) {
    let epoch = head.epochs.enter();
    // All shards that a series of the lane can have: there are 64 at most.
    let mut locked = head.lock((0..64).filter(|shard| shard % lanes as u64 == lane as u64));
    for run in runs_of(pieces) {
        let Piece { samples, rare, .. } = pieces[run.piece as usize];
        let mut next = rare.partition_point(|(at, _)| *at < run.start);
        for at in run.start..run.end {
            let Plain { series, timestamp_ms, value } = samples[at as usize];
            let mut sample = WalSample { series, timestamp_ms, value, start_ms: 0 };
            let mut histogram = None;
            if let Some((_, rare)) = rare.get(next).filter(|(place, _)| *place == at) {
                next += 1;
                sample.start_ms = rare.start_ms;
                histogram = rare.histogram.as_ref();
            }
            // The only refusal left is another value at the same timestamp, where the first write wins.
            let _ = locked.append(&sample, histogram, limits, epoch.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use pilaster_model::{Columns, Labels, TimeRange};
    use proptest::prelude::*;

    use super::*;
    use crate::SeriesRef;
    use crate::head::{Flushed, HeadView};

    const FLUSHED: Flushed = Flushed { before_ms: i64::MIN, epoch: 0 };
    const LIMITS: Limits = Limits { closed_before_ms: i64::MIN, late_from_ms: Some(i64::MIN), flushed: FLUSHED };

    /// `count` series, too far apart for one run to hold all.
    fn head(count: u64) -> (Head, Vec<SeriesRef>) {
        let head = Head::new(4);
        let labels = |number: u64| Labels::from_pairs([("n", number.to_string())]);
        let all: Vec<SeriesRef> = (0..count * 200).map(|number| head.series(&labels(number))).collect();
        (head, all.into_iter().step_by(200).collect())
    }

    fn read(head: &Head, series: &[SeriesRef]) -> Vec<String> {
        let (epoch, ()) = head.epochs.end_epoch(|| ());
        let view = HeadView { epoch, flushed: FLUSHED };
        let mut all = Vec::new();
        head.read_each(series, TimeRange::ALL, view, |columns: &Columns| all.push(format!("{columns:?}")));
        head.epochs.release(epoch);
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_head_is_as_if_samples_had_not_waited(
            records in prop::collection::vec(
                prop::collection::vec((0..60usize, 0..400i64, 0..3u8, 0..9u8), 0..300), 0..12,
            ),
            lanes in prop::sample::select(vec![1usize, 2, 4, 8]),
            with_rare in any::<bool>(),
        ) {
            let ((slow, series), (quick, same)) = (head(60), head(60));
            let mut waiting = Waiting::default();
            let mut expected = 0;
            for (nth, record) in records.iter().enumerate() {
                let mut pieces = waiting.pieces(lanes, record.len());
                for &(number, timestamp_ms, value, kind) in record {
                    let rare = if with_rare { kind } else { 9 };
                    let start_ms = if rare == 0 { timestamp_ms - 7 } else { 0 };
                    let histogram = (rare == 1).then(|| Histogram { count: f64::from(value), ..Histogram::default() });
                    let sample =
                        WalSample { series: series[number].0, timestamp_ms, value: f64::from(value), start_ms };
                    let epoch = slow.epochs.enter();
                    let shared = histogram.clone().map(Arc::new);
                    let _ = slow.lock([sample.series].into_iter()).append(&sample, shared.as_ref(), LIMITS, epoch.number);
                    let series = same[number].0;
                    pieces[series as usize % lanes].push(&WalSample { series, ..sample }, histogram);
                    expected += 1;
                }
                pieces.iter_mut().for_each(Piece::gather);
                waiting.push(pieces);
                prop_assert_eq!(waiting.len(), expected);
                if nth % 5 == 4 {
                    waiting.put(&quick, LIMITS);
                    expected = 0;
                }
            }
            waiting.put(&quick, LIMITS);
            prop_assert_eq!(read(&quick, &same), read(&slow, &series));
            prop_assert_eq!(quick.sample_count(), slow.sample_count());
            prop_assert_eq!(quick.max_ms(), slow.max_ms());
        }
    }

    #[test]
    fn neighbours_go_together_and_series_stay_in_order() {
        let piece = |slots: &[u64]| {
            let mut piece = Piece::default();
            for slot in slots {
                let sample = WalSample { series: 3 << 32 | slot, timestamp_ms: 0, value: 0.0, start_ms: 0 };
                piece.push(&sample, None);
            }
            piece
        };
        let pieces = [piece(&[9, 8, 5_000, 9, 5_001]), piece(&[70_000, 5_001]), piece(&[9])];
        let runs: Vec<(u32, u32, u32)> = runs_of(&pieces.iter().collect::<Vec<_>>())
            .into_iter()
            .map(|run| (run.piece, run.start, run.end))
            .collect();
        assert_eq!(runs, [(0, 0, 2), (0, 3, 4), (2, 0, 1), (0, 2, 3), (0, 4, 5), (1, 1, 2), (1, 0, 1)]);

        let [mut first, ..] = pieces;
        first.gather();
        assert_eq!(
            first.samples.iter().map(|sample| sample.series as u32).collect::<Vec<_>>(),
            [9, 8, 9, 5_000, 5_001]
        );
        let runs: Vec<Run> = first.runs(0).filter(|run| run.start < run.end).collect();
        let run = |slots, start, end| Run { slots, piece: 0, start, end };
        assert_eq!(runs, [run(0, 0, 3), run(2, 3, 5)]);
    }
}
