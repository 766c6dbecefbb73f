//! Samples of one series, column by column.

use std::sync::Arc;

use pilaster_model::{Histogram, TimeRange, stale_nan};

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples {
    /// In milliseconds.
    pub timestamps: Vec<i64>,
    /// One a timestamp; meaningless beside a histogram.
    pub values: Vec<f64>,
    /// In milliseconds, 0 where unknown. Empty where all are unknown.
    pub starts_ms: Vec<i64>,
    /// With their positions, ascending.
    pub histograms: Vec<(usize, Arc<Histogram>)>,
}

impl Samples {
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    /// Appends a float sample.
    pub fn push(&mut self, timestamp_ms: i64, value: f64, start_ms: i64) {
        if start_ms != 0 || !self.starts_ms.is_empty() {
            self.starts_ms.resize(self.timestamps.len(), 0);
            self.starts_ms.push(start_ms);
        }
        self.timestamps.push(timestamp_ms);
        self.values.push(value);
    }

    /// Appends a histogram; one that marks the end of its series becomes the float that does.
    pub fn push_histogram(&mut self, timestamp_ms: i64, histogram: Arc<Histogram>, start_ms: i64) {
        if histogram.is_stale() {
            return self.push(timestamp_ms, stale_nan(), start_ms);
        }
        self.histograms.push((self.timestamps.len(), histogram));
        self.push(timestamp_ms, 0.0, start_ms);
    }

    fn push_from(&mut self, other: &Samples, index: usize, histogram: Option<&Arc<Histogram>>) {
        if let Some(histogram) = histogram {
            self.histograms.push((self.timestamps.len(), histogram.clone()));
        }
        self.push(other.timestamps[index], other.values[index], other.starts_ms.get(index).copied().unwrap_or(0));
    }

    /// Appends all samples of `other`, whatever their times.
    pub fn append(&mut self, other: &Samples) {
        let before = self.len();
        self.timestamps.extend_from_slice(&other.timestamps);
        self.values.extend_from_slice(&other.values);
        if !other.starts_ms.is_empty() {
            self.starts_ms.resize(before, 0);
            self.starts_ms.extend_from_slice(&other.starts_ms);
        } else if !self.starts_ms.is_empty() {
            self.starts_ms.resize(self.timestamps.len(), 0);
        }
        self.histograms.extend(other.histograms.iter().map(|(at, histogram)| (at + before, histogram.clone())));
    }

    /// Whether timestamps ascend strictly.
    pub fn is_sorted(&self) -> bool {
        self.timestamps.windows(2).all(|pair| pair[0] < pair[1])
    }

    /// Ascending by time; of several samples at one time the one that was appended first stays.
    pub fn sorted(self) -> Samples {
        if self.is_sorted() {
            return self;
        }
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|&index| self.timestamps[index]);
        order.dedup_by_key(|index| self.timestamps[*index]);
        self.pick(order)
    }

    /// The samples that `keep` accepts by their timestamp.
    pub fn filter(self, keep: impl Fn(i64) -> bool) -> Samples {
        if self.timestamps.iter().all(|&ms| keep(ms)) {
            return self;
        }
        let places = (0..self.len()).filter(|&index| keep(self.timestamps[index])).collect();
        self.pick(places)
    }

    /// The samples outside all of `ranges`.
    pub fn without(self, ranges: &[TimeRange]) -> Samples {
        if ranges.is_empty() {
            return self;
        }
        self.filter(|ms| !ranges.iter().any(|range| range.contains(ms)))
    }

    fn pick(&self, places: Vec<usize>) -> Samples {
        let mut picked = Samples::default();
        for index in places {
            let histogram = self.histograms.binary_search_by_key(&index, |(at, _)| *at).ok();
            picked.push_from(self, index, histogram.map(|at| &self.histograms[at].1));
        }
        picked
    }

    /// The samples at `places`, as blocks take their histograms: one a place.
    pub fn histograms_in(&self, places: std::ops::Range<usize>) -> Option<Vec<Option<Arc<Histogram>>>> {
        let from = self.histograms.partition_point(|(at, _)| *at < places.start);
        let to = self.histograms.partition_point(|(at, _)| *at < places.end);
        (from < to).then(|| {
            let mut all = vec![None; places.len()];
            for (at, histogram) in &self.histograms[from..to] {
                all[at - places.start] = Some(histogram.clone());
            }
            all
        })
    }
}
