//! What blocks hold of some series.

use std::collections::BTreeMap;
use std::sync::Arc;

use pilaster_model::{ReducedWindows, Reduction, TimeRange, is_stale};

use super::joined::Timeline;
use super::{SelectedSeries, Snapshot, unreadable};
use crate::Error;
use crate::block::{Block, FoundSamples, LiveBlock, ReducedValues, SeriesSamples};
use crate::tombstone::{Source, about, hidden};

/// Threads that read blocks of an object store for one call, each mostly waiting for an answer: blocks of a month.
const FAR_READERS: usize = 32;

/// What blocks gave of one series.
#[derive(Debug, Default)]
pub(super) struct FromBlocks {
    /// Whether it is plain floats, each part later than the one before: then values are appended to one list.
    pub consecutive: bool,
    pub timelines: Vec<Timeline>,
    pub values: Vec<f64>,
    /// Whether some samples stand for others.
    pub reduced: bool,
    /// Whether samples are left out, because no window has them.
    pub left_out: bool,
    pub sums: Magnitude,
    /// In all other cases, each with the position of its block.
    pub parts: Vec<(u32, SeriesSamples)>,
}

/// Whether additions are exact, in whatever order.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Magnitude {
    /// Of all samples together, at most.
    pub total: f64,
    any_fraction: bool,
}

impl Magnitude {
    pub fn add(&mut self, values: &[f64]) {
        for value in values.iter().filter(|value| !is_stale(**value)) {
            self.total += value.abs();
            self.any_fraction |= value.fract() != 0.0;
        }
    }

    /// Whether sums over all samples so far and `more` are integers of 53 bits, which doubles add exactly.
    fn is_exact_with(self, more: f64) -> bool {
        // Half of what would do makes up for the rounding of the total.
        !self.any_fraction && self.total + more < (1u64 << 52) as f64
    }
}

impl FromBlocks {
    /// The parts in the order of the list of blocks, in which the first to have a time counts.
    pub fn parts_by_block(&mut self) -> Vec<SeriesSamples> {
        self.parts.sort_by_key(|(number, _)| *number);
        self.parts.drain(..).map(|(_, part)| part).collect()
    }

    /// Appends what stands for the samples of the `at`th series, where the block's index answers for them.
    fn push_reduced(&mut self, found: &mut FoundSamples<'_>, at: usize, wanted: &ReducedWindows) -> bool {
        let Some(reduced) = found.reduced(at, wanted) else { return false };
        // What came before in its window decides how a sum is rounded.
        if wanted.reduction == Reduction::Sum && !self.sums.is_exact_with(reduced.magnitude) {
            return false;
        }
        self.sums.total += reduced.magnitude;
        match reduced.values {
            ReducedValues::Any => self.values.resize(self.values.len() + reduced.timestamps.len(), 0.0),
            ReducedValues::One(value) => self.values.push(value),
            ReducedValues::FirstAndLast(first, last) => self.values.extend([first, last]),
        }
        self.reduced |= reduced.weights.is_some();
        self.timelines.push(Timeline { timestamps: reduced.timestamps, weights: reduced.weights });
        true
    }

    /// Appends the samples of the `at`th series; there will be at most as many in all as there is `room` for.
    fn push(
        &mut self,
        found: &mut FoundSamples<'_>,
        at: usize,
        wanted: Option<&ReducedWindows>,
        room: impl FnOnce() -> usize,
    ) -> Result<(), Error> {
        self.timelines.push(Timeline { timestamps: found.timestamps(at).clone(), weights: None });
        if self.values.capacity() == 0 {
            self.values.reserve_exact(room());
        }
        let before = self.values.len();
        found.push_values(at, &mut self.values).map_err(unreadable)?;
        if wanted.is_some_and(|wanted| wanted.reduction == Reduction::Sum) {
            self.sums.add(&self.values[before..]);
        }
        Ok(())
    }
}

impl Snapshot {
    /// What blocks hold of `series` in `range`, in the same order.
    pub(super) fn read_blocks(
        &self,
        series: &[&SelectedSeries],
        range: TimeRange,
        wanted_windows: Option<&ReducedWindows>,
    ) -> Result<Vec<FromBlocks>, Error> {
        let mut out: Vec<FromBlocks> = Vec::with_capacity(series.len());
        out.resize_with(series.len(), || FromBlocks { consecutive: true, ..FromBlocks::default() });
        let mut by_block: BTreeMap<u32, Vec<(u32, usize)>> = BTreeMap::new();
        for (position, series) in series.iter().enumerate() {
            for &(block, id) in &series.blocks {
                by_block.entry(block).or_default().push((id, position));
            }
        }
        // First only found: then every list of values has room for all from the start, what comes from the head included.
        let live: Vec<&LiveBlock> =
            by_block.keys().filter_map(|&number| Some(&**self.blocks().get(number as usize)?)).collect();
        let opened = LiveBlock::open_all(&live).map_err(unreadable)?;
        let mut wanted_of = Vec::with_capacity(opened.len());
        for (block, (number, mut wanted)) in opened.into_iter().zip(by_block) {
            wanted.sort_unstable();
            wanted_of.push(WantedOf { number, block, wanted });
        }
        // Merged blocks come last in the list: in the order of time the parts of most series follow each other.
        wanted_of.sort_by_key(|of| of.block.meta().min_ms);
        let mut found = Vec::with_capacity(wanted_of.len());
        let mut rows = vec![0; series.len()];
        let mut last_ms = vec![i64::MIN; series.len()];
        let mut reducible_rows = vec![0; if wanted_windows.is_some() { series.len() } else { 0 }];
        for (of, samples) in wanted_of.iter().zip(find_in_blocks(&wanted_of, range, wanted_windows)) {
            let samples = samples?;
            let tombstones = about(&self.0.view.tombstones, Source::Block(&of.block.meta().name));
            for (at, &(_, position)) in of.wanted.iter().enumerate() {
                let (Some(first), Some(last)) = (samples.timestamps(at).first(), samples.timestamps(at).last()) else {
                    continue;
                };
                let follows = last_ms[position] < *first || rows[position] == 0;
                out[position].consecutive &=
                    follows && samples.is_plain(at) && hidden(&tombstones, &series[position].labels).is_empty();
                if wanted_windows.is_some_and(|wanted| out[position].consecutive && samples.is_reducible(at, wanted)) {
                    reducible_rows[position] += samples.timestamps(at).len();
                }
                out[position].left_out |= samples.leaves_out(at);
                last_ms[position] = *last;
                rows[position] += samples.timestamps(at).len();
            }
            found.push((of, samples, tombstones));
        }
        let most_in_head = |series: &SelectedSeries| series.head.map_or(0, |head| self.0.head.most_samples(head));
        // A series that is reduced shares its timestamps with nobody: for less than half of its samples it is dearer.
        let wanted_of_series =
            |position: usize| wanted_windows.filter(|_| reducible_rows[position] * 2 > rows[position]);
        for (of, mut samples, tombstones) in found {
            for (at, &(_, position)) in of.wanted.iter().enumerate() {
                let timestamps = samples.timestamps(at).clone();
                if timestamps.is_empty() {
                    continue;
                }
                let from_blocks = &mut out[position];
                if from_blocks.consecutive {
                    let wanted = wanted_of_series(position);
                    if wanted.is_some_and(|wanted| from_blocks.push_reduced(&mut samples, at, wanted)) {
                        continue;
                    }
                    let room = || rows[position] + most_in_head(series[position]);
                    from_blocks.push(&mut samples, at, wanted, room)?;
                } else {
                    let samples = samples.samples(at).map_err(unreadable)?;
                    let samples = samples.without(&hidden(&tombstones, &series[position].labels));
                    if !samples.values.is_empty() {
                        from_blocks.parts.push((of.number, samples));
                    }
                }
            }
        }
        Ok(out)
    }
}

/// What is wanted of a block.
struct WantedOf {
    /// The block's position in the list.
    number: u32,
    block: Arc<Block>,
    /// Ids of series and what they are for.
    wanted: Vec<(u32, usize)>,
}

/// Finds what is wanted, in the order of `wanted_of`; in far blocks several at the same time, for that is mostly waiting.
fn find_in_blocks<'a>(
    wanted_of: &'a [WantedOf],
    range: TimeRange,
    wanted_windows: Option<&'a ReducedWindows>,
) -> Box<dyn Iterator<Item = Result<FoundSamples<'a>, Error>> + 'a> {
    let find = move |of: &'a WantedOf| {
        let ids: Vec<u32> = of.wanted.iter().map(|(id, _)| *id).collect();
        of.block.find_for(&ids, range, wanted_windows).map_err(unreadable)
    };
    if wanted_of.iter().filter(|of| of.block.is_far()).count() < 2 {
        return Box::new(wanted_of.iter().map(find));
    }
    let per_thread = wanted_of.len().div_ceil(FAR_READERS);
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = wanted_of
            .chunks(per_thread)
            .map(|part| scope.spawn(move || part.iter().map(find).collect::<Vec<_>>()))
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().flat_map(join).collect()
    });
    Box::new(results.into_iter())
}
