//! Samples of one series, column by column.

use std::ops::Range;
use std::sync::Arc;

use crate::{Histogram, TimeRange, stale_nan};

/// Samples, ascending by time where nothing else is said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Columns {
    /// In milliseconds.
    pub timestamps: Vec<i64>,
    /// A placeholder where the sample is a histogram.
    pub values: Vec<f64>,
    /// In milliseconds, 0 where unknown. Empty where all are unknown.
    pub starts_ms: Vec<i64>,
    /// Positions and values of the samples that are histograms, ascending.
    pub histograms: Vec<(usize, Arc<Histogram>)>,
}

impl Columns {
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    pub fn clear(&mut self) {
        self.timestamps.clear();
        self.values.clear();
        self.starts_ms.clear();
        self.histograms.clear();
    }

    /// Appends a float.
    pub fn push_float(&mut self, timestamp_ms: i64, value: f64, start_ms: i64) {
        self.push(timestamp_ms, value, start_ms, None);
    }

    /// Appends a histogram; one that marks the end of its series becomes the float that does.
    pub fn push_histogram(&mut self, timestamp_ms: i64, histogram: Arc<Histogram>, start_ms: i64) {
        if histogram.is_stale() {
            return self.push_float(timestamp_ms, stale_nan(), start_ms);
        }
        self.push(timestamp_ms, 0.0, start_ms, Some(histogram));
    }

    /// Appends one sample behind the others.
    pub fn push(&mut self, timestamp_ms: i64, value: f64, start_ms: i64, histogram: Option<Arc<Histogram>>) {
        if start_ms != 0 || !self.starts_ms.is_empty() {
            self.starts_ms.resize(self.timestamps.len(), 0);
            self.starts_ms.push(start_ms);
        }
        if let Some(histogram) = histogram {
            self.histograms.push((self.timestamps.len(), histogram));
        }
        self.timestamps.push(timestamp_ms);
        self.values.push(value);
    }

    pub fn start_ms(&self, index: usize) -> i64 {
        self.starts_ms.get(index).copied().unwrap_or(0)
    }

    pub fn histogram(&self, index: usize) -> Option<&Arc<Histogram>> {
        let at = self.histograms.binary_search_by_key(&index, |(position, _)| *position).ok()?;
        Some(&self.histograms[at].1)
    }

    /// Appends sample `index` of `other`.
    pub fn push_from(&mut self, other: &Columns, index: usize) {
        let histogram = other.histogram(index).cloned();
        self.push(other.timestamps[index], other.values[index], other.start_ms(index), histogram);
    }

    /// Appends all samples of `other` behind those here, whatever their times.
    pub fn extend_from(&mut self, other: &Columns) {
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

    /// Removes the samples in `ranges`.
    pub fn remove(&mut self, ranges: &[TimeRange]) {
        if !ranges.is_empty() {
            self.retain(|ms| !ranges.iter().any(|range| range.contains(ms)));
        }
    }

    /// Removes the samples at times that `keep` does not accept.
    pub fn retain(&mut self, keep: impl Fn(i64) -> bool) {
        if !self.timestamps.iter().all(|&ms| keep(ms)) {
            *self = self.pick((0..self.len()).filter(|&index| keep(self.timestamps[index])));
        }
    }

    /// Ascending by time; of several samples at one time the one that was appended first stays.
    pub fn sorted(self) -> Columns {
        if self.timestamps.windows(2).all(|pair| pair[0] < pair[1]) {
            return self;
        }
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|&index| self.timestamps[index]);
        order.dedup_by_key(|index| self.timestamps[*index]);
        self.pick(order)
    }

    fn pick(&self, places: impl IntoIterator<Item = usize>) -> Columns {
        let mut picked = Columns::default();
        places.into_iter().for_each(|index| picked.push_from(self, index));
        picked
    }

    /// The histograms at `places`, one a place; `None` where there is none at all.
    pub fn histograms_in(&self, places: Range<usize>) -> Option<Vec<Option<Arc<Histogram>>>> {
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

    /// The union of two lists; where both have a timestamp, the sample of `self` stays.
    pub fn merged(self, other: Columns) -> Columns {
        match (self.timestamps.last(), other.timestamps.first()) {
            (None, _) => return other,
            (_, None) => return self,
            (Some(last), Some(first)) if last < first => {
                let mut out = self;
                out.extend_from(&other);
                return out;
            }
            (Some(_), Some(_)) => {}
        }
        let mut out = Columns::default();
        let (mut left, mut right) = (0, 0);
        while left < self.len() || right < other.len() {
            let from_left = match (self.timestamps.get(left), other.timestamps.get(right)) {
                (Some(a), Some(b)) => {
                    if a == b {
                        right += 1;
                    }
                    a <= b
                }
                (Some(_), None) => true,
                (None, _) => false,
            };
            if from_left {
                out.push_from(&self, left);
                left += 1;
            } else {
                out.push_from(&other, right);
                right += 1;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(samples: &[(i64, f64, i64)]) -> Columns {
        let mut columns = Columns::default();
        samples.iter().for_each(|&(timestamp_ms, value, start_ms)| columns.push(timestamp_ms, value, start_ms, None));
        columns
    }

    #[test]
    fn a_union_keeps_the_first_of_two_samples_at_one_time() {
        let merged = columns(&[(1, 1.0, 0), (3, 3.0, 0)]).merged(columns(&[(2, 2.0, 7), (3, 9.0, 0), (4, 4.0, 0)]));
        assert_eq!(merged.timestamps, [1, 2, 3, 4]);
        assert_eq!(merged.values, [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(merged.starts_ms, [0, 7, 0, 0]);
        let joined = columns(&[(1, 1.0, 5)]).merged(columns(&[(2, 2.0, 0)]));
        assert_eq!((joined.timestamps, joined.starts_ms), (vec![1, 2], vec![5, 0]));
    }

    #[test]
    fn sorting_keeps_the_first_of_two_samples_at_one_time() {
        let mut unsorted = columns(&[(5, 5.0, 0), (1, 1.0, 7), (5, 9.0, 0)]);
        unsorted.push_histogram(3, Arc::default(), 0);
        let sorted = unsorted.sorted();
        assert_eq!((&sorted.timestamps[..], &sorted.starts_ms[..]), (&[1, 3, 5][..], &[7, 0, 0][..]));
        assert_eq!(sorted.values[2], 5.0);
        assert_eq!(sorted.histograms_in(0..2), Some(vec![None, Some(Arc::default())]));
        assert_eq!(sorted.histograms_in(2..3), None);
        let mut rest = sorted.clone();
        rest.remove(&[TimeRange::new(1, 2)]);
        assert_eq!((rest.timestamps, rest.starts_ms), (vec![3, 5], Vec::new()));
    }

    #[test]
    fn histograms_keep_their_places() {
        let mut with = columns(&[(1, 0.0, 0)]);
        with.push(5, 0.0, 0, Some(Arc::default()));
        let merged = columns(&[(2, 1.0, 0)]).merged(with);
        assert_eq!(merged.timestamps, [1, 2, 5]);
        assert!(merged.histogram(2).is_some() && merged.histogram(1).is_none());
    }
}
