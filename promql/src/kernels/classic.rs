//! `histogram_quantile` and `histogram_fraction` of classic histograms: cumulative counts in `_bucket` series.

use super::range::Param;

/// Relative difference between neighbouring buckets that is taken for rounding noise.
const NOISE: f64 = 1e-12;

/// One `_bucket` series of a group.
#[derive(Debug, Clone, Copy)]
pub struct BucketRow<'a> {
    /// Value of its `le` label.
    pub upper_bound: f64,
    /// Cumulative count at each step.
    pub values: &'a [f64],
    pub valid: &'a [bool],
}

/// A step at which a bucket held less than a lower one, which was repaired.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ForcedMonotonicity {
    pub step: usize,
    /// Smallest and largest upper bound among the repaired buckets.
    pub min_bucket: f64,
    pub max_bucket: f64,
    /// Largest amount by which a bucket fell short.
    pub max_diff: f64,
}

/// What `histogram_quantile` noticed, for annotations.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QuantileNotes {
    /// Ascending by step.
    pub forced_monotonicity: Vec<ForcedMonotonicity>,
}

/// An upper bound as written in an `le` label; `None` where it is not a number.
pub fn parse_le(label: &str) -> Option<f64> {
    super::format::parse_float(label)
}

/// The φ-quantile at every step where any bucket has a count; linear inside a bucket.
///
/// NaN with fewer than two buckets, without a `+Inf` bucket, without observations, or for φ = NaN; infinite for φ
/// outside [0, 1]. The lowest bucket begins at 0 where its bound is positive; a quantile in the `+Inf` bucket is the
/// bound below it. Counts that fall from one bucket to the next are repaired first. Sorts `rows`.
///
/// Source: `BucketQuantile`, Prometheus 3.14 `promql/quantile.go`.
pub fn bucket_quantile_cells(
    quantile: Param,
    rows: &mut [BucketRow],
    out: &mut [f64],
    valid: &mut [bool],
    notes: &mut QuantileNotes,
) {
    per_step(rows, out, valid, |step, bounds, counts| {
        let quantile = quantile.at(step);
        if quantile.is_nan() {
            return f64::NAN;
        }
        if quantile < 0.0 {
            return f64::NEG_INFINITY;
        }
        if quantile > 1.0 {
            return f64::INFINITY;
        }
        if bounds[bounds.len() - 1] != f64::INFINITY {
            return f64::NAN;
        }
        if let Some(repair) = make_monotonic(bounds, counts) {
            notes.forced_monotonicity.push(ForcedMonotonicity { step, ..repair });
        }
        of_monotonic(quantile, bounds, counts)
    });
}

/// The share of observations between `lower` and `upper` at every step where any bucket has a count.
///
/// 0 where `lower >= upper`; NaN for a NaN bound, without observations, or without a `+Inf` bucket. Sorts `rows`.
///
/// Source: `BucketFraction`, Prometheus 3.14 `promql/quantile.go`.
pub fn bucket_fraction_cells(lower: Param, upper: Param, rows: &mut [BucketRow], out: &mut [f64], valid: &mut [bool]) {
    per_step(rows, out, valid, |step, bounds, counts| fraction(lower.at(step), upper.at(step), bounds, counts));
}

/// Calls `of` with the ascending distinct bounds of the buckets that have a count at a step, and those counts.
#[inline(always)]
fn per_step(
    rows: &mut [BucketRow],
    out: &mut [f64],
    valid: &mut [bool],
    mut of: impl FnMut(usize, &[f64], &mut [f64]) -> f64,
) {
    // A cache line of each row at a time: rows lie far apart.
    const STEPS: usize = 8;
    rows.sort_by(|a, b| a.upper_bound.partial_cmp(&b.upper_bound).unwrap_or(std::cmp::Ordering::Equal));
    let distinct = rows.windows(2).all(|pair| pair[0].upper_bound != pair[1].upper_bound);
    let all_bounds: Vec<f64> = rows.iter().map(|row| row.upper_bound).collect();
    let mut block = vec![0.0; rows.len() * STEPS];
    let (mut bounds, mut counts) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
    let steps = out.len();
    for first in (0..steps).step_by(STEPS) {
        let some = STEPS.min(steps - first);
        let mut complete = [!rows.is_empty() && distinct; STEPS];
        for (nth, row) in rows.iter().enumerate() {
            for offset in 0..some {
                block[offset * rows.len() + nth] = row.values[first + offset];
                complete[offset] &= row.valid[first + offset];
            }
        }
        for offset in 0..some {
            let step = first + offset;
            if complete[offset] {
                valid[step] = true;
                out[step] = of(step, &all_bounds, &mut block[offset * rows.len()..(offset + 1) * rows.len()]);
                continue;
            }
            bounds.clear();
            counts.clear();
            for row in rows.iter().filter(|row| row.valid[step]) {
                match counts.last_mut() {
                    // `le="1"` and `le="1.0"` are one bucket.
                    Some(count) if bounds.last() == Some(&row.upper_bound) => *count += row.values[step],
                    _ => {
                        bounds.push(row.upper_bound);
                        counts.push(row.values[step]);
                    }
                }
            }
            valid[step] = !bounds.is_empty();
            out[step] = if valid[step] { of(step, &bounds, &mut counts) } else { 0.0 };
        }
    }
}

/// Raises every count to at least the one below it; `Some` where that took more than smoothing out rounding noise.
///
/// Source: `ensureMonotonicAndIgnoreSmallDeltas`, Prometheus 3.14 `promql/quantile.go`.
fn make_monotonic(bounds: &[f64], counts: &mut [f64]) -> Option<ForcedMonotonicity> {
    let mut repair: Option<ForcedMonotonicity> = None;
    let mut reached = counts[0];
    for (&bound, count) in bounds.iter().zip(counts).skip(1) {
        // Most buckets rise by far more than noise.
        if *count > reached * (1.0 + 1e-9) && reached > 0.0 && *count < f64::MAX / 4.0 {
            reached = *count;
        } else if *count == reached {
        } else if is_noise(reached, *count) {
            *count = reached;
        } else if *count < reached {
            let so_far = repair.get_or_insert(ForcedMonotonicity {
                step: 0,
                min_bucket: f64::INFINITY,
                max_bucket: f64::NEG_INFINITY,
                max_diff: 0.0,
            });
            so_far.min_bucket = so_far.min_bucket.min(bound);
            so_far.max_bucket = so_far.max_bucket.max(bound);
            so_far.max_diff = so_far.max_diff.max(reached - *count);
            *count = reached;
        } else {
            reached = *count;
        }
    }
    repair
}

/// Source: `almost.Equal`, Prometheus 3.14 `util/almost`.
fn is_noise(a: f64, b: f64) -> bool {
    if a.is_nan() && b.is_nan() || a == b {
        return true;
    }
    let (magnitude, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || magnitude < f64::MIN_POSITIVE {
        return difference < NOISE * f64::MIN_POSITIVE;
    }
    difference / magnitude.min(f64::MAX) < NOISE
}

fn of_monotonic(quantile: f64, bounds: &[f64], counts: &[f64]) -> f64 {
    let last = bounds.len() - 1;
    let observations = counts[last];
    if last == 0 || observations == 0.0 {
        return f64::NAN;
    }
    let mut rank = quantile * observations;
    let bucket = first_reaching(rank, &counts[..last]);
    if bucket == last {
        return bounds[last - 1];
    }
    if bucket == 0 && bounds[0] <= 0.0 {
        return bounds[0];
    }
    let (mut start, mut count) = (0.0, counts[bucket]);
    if bucket > 0 {
        start = bounds[bucket - 1];
        count -= counts[bucket - 1];
        rank -= counts[bucket - 1];
    }
    start + (bounds[bucket] - start) * (rank / count)
}

/// Position of the first count that is at least `rank`, by bisection; NaN counts reach nothing.
fn first_reaching(rank: f64, counts: &[f64]) -> usize {
    let reaches = |count: &f64| *count >= rank;
    counts.partition_point(|count| !reaches(count))
}

fn fraction(lower: f64, upper: f64, bounds: &[f64], counts: &[f64]) -> f64 {
    let last = bounds.len() - 1;
    let total = counts[last];
    if bounds[last] != f64::INFINITY || total == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank_of(upper, bounds, counts) - rank_of(lower, bounds, counts)) / total
}

/// Estimated number of observations below `value`, at most all of them.
fn rank_of(value: f64, bounds: &[f64], counts: &[f64]) -> f64 {
    let total = counts[counts.len() - 1];
    let mut start = if bounds[0] <= 0.0 { f64::NEG_INFINITY } else { 0.0 };
    let mut below = 0.0;
    for (&end, &count) in bounds.iter().zip(counts) {
        if start >= value {
            return cap(below, total);
        }
        if end > value {
            // Nothing is known about how observations spread over a bucket without a lower end: all count.
            let rank = if start == f64::NEG_INFINITY {
                count
            } else {
                below + (count - below) * (value - start) / (end - start)
            };
            return cap(rank, total);
        }
        (start, below) = (end, count);
    }
    total
}

fn cap(rank: f64, total: f64) -> f64 {
    if rank > total { total } else { rank }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quantile_of(q: f64, buckets: &[(f64, f64)]) -> (f64, QuantileNotes) {
        let cells: Vec<[f64; 1]> = buckets.iter().map(|bucket| [bucket.1]).collect();
        let mut rows: Vec<BucketRow> = buckets
            .iter()
            .zip(&cells)
            .map(|(bucket, values)| BucketRow { upper_bound: bucket.0, values, valid: &[true] })
            .collect();
        let (mut out, mut valid, mut notes) = ([9.0], [false], QuantileNotes::default());
        bucket_quantile_cells(Param::Const(q), &mut rows, &mut out, &mut valid, &mut notes);
        assert_eq!(valid[0], !buckets.is_empty());
        (out[0], notes)
    }

    fn fraction_of(lower: f64, upper: f64, buckets: &[(f64, f64)]) -> f64 {
        let cells: Vec<[f64; 1]> = buckets.iter().map(|bucket| [bucket.1]).collect();
        let mut rows: Vec<BucketRow> = buckets
            .iter()
            .zip(&cells)
            .map(|(bucket, values)| BucketRow { upper_bound: bucket.0, values, valid: &[true] })
            .collect();
        let (mut out, mut valid) = ([9.0], [false]);
        bucket_fraction_cells(Param::Const(lower), Param::Const(upper), &mut rows, &mut out, &mut valid);
        out[0]
    }

    const INF: f64 = f64::INFINITY;

    #[test]
    fn quantiles_interpolate_inside_a_bucket() {
        let buckets = [(INF, 10.0), (1.0, 4.0), (2.0, 8.0)];
        assert_eq!(quantile_of(0.2, &buckets).0, 0.5);
        assert_eq!(quantile_of(0.6, &buckets).0, 1.5);
        assert_eq!(quantile_of(0.95, &buckets).0, 2.0);
        assert_eq!(quantile_of(1.5, &buckets).0, INF);
        assert_eq!(quantile_of(-1.0, &buckets).0, -INF);
        assert!(quantile_of(f64::NAN, &buckets).0.is_nan());
    }

    #[test]
    fn some_groups_have_no_quantile() {
        assert!(quantile_of(0.5, &[(INF, 3.0)]).0.is_nan());
        assert!(quantile_of(0.5, &[(1.0, 3.0), (2.0, 4.0)]).0.is_nan());
        assert!(quantile_of(0.5, &[(1.0, 0.0), (INF, 0.0)]).0.is_nan());
        assert_eq!(quantile_of(0.1, &[(-1.0, 3.0), (INF, 4.0)]).0, -1.0);
        quantile_of(0.5, &[]);
    }

    #[test]
    fn falling_counts_are_repaired_and_noted() {
        let (value, notes) = quantile_of(0.5, &[(1.0, 10.0), (2.0, 4.0), (3.0, 12.0), (4.0, 11.5), (INF, 20.0)]);
        assert_eq!(value, 1.0);
        let expected = ForcedMonotonicity { step: 0, min_bucket: 2.0, max_bucket: 4.0, max_diff: 6.0 };
        assert_eq!(notes.forced_monotonicity, [expected]);
        let (_, notes) = quantile_of(0.5, &[(1.0, 10.0), (2.0, 10.0 - 1e-12), (INF, 20.0)]);
        assert_eq!(notes, QuantileNotes::default());
    }

    #[test]
    fn equal_bounds_are_one_bucket() {
        assert_eq!(quantile_of(0.5, &[(1.0, 2.0), (1.0, 2.0), (2.0, 8.0), (INF, 8.0)]).0, 1.0);
    }

    #[test]
    fn a_missing_cell_is_a_missing_bucket() {
        let (counts, all) = ([4.0, 4.0], [true, true]);
        let mut rows = [
            BucketRow { upper_bound: 1.0, values: &[1.0, 99.0], valid: &[true, false] },
            BucketRow { upper_bound: 2.0, values: &counts, valid: &all },
            BucketRow { upper_bound: INF, values: &counts, valid: &all },
        ];
        let (mut out, mut valid) = ([0.0; 2], [false; 2]);
        bucket_quantile_cells(
            Param::PerStep(&[0.25, 0.25]),
            &mut rows,
            &mut out,
            &mut valid,
            &mut QuantileNotes::default(),
        );
        assert_eq!((out, valid), ([1.0, 0.5], [true, true]));
    }

    #[test]
    fn fractions_are_ranks_over_the_total() {
        let buckets = [(1.0, 4.0), (2.0, 8.0), (INF, 10.0)];
        assert_eq!(fraction_of(0.0, 1.0, &buckets), 0.4);
        assert_eq!(fraction_of(-INF, INF, &buckets), 1.0);
        assert_eq!(fraction_of(0.5, 1.5, &buckets), 0.4);
        assert_eq!(fraction_of(3.0, INF, &buckets), 0.2);
        assert_eq!(fraction_of(2.0, 2.0, &buckets), 0.0);
        assert!(fraction_of(f64::NAN, 2.0, &buckets).is_nan() && fraction_of(0.0, 1.0, &[(INF, 0.0)]).is_nan());
    }

    /// The quantile by walking over buckets instead of bisecting, and without any shortcut.
    fn twin(q: f64, counts: &[f64], bounds: &[f64]) -> f64 {
        let mut counts = counts.to_vec();
        for i in 1..counts.len() {
            if counts[i] < counts[i - 1] || is_noise(counts[i], counts[i - 1]) {
                counts[i] = counts[i - 1];
            }
        }
        let total = *counts.last().unwrap();
        if counts.len() < 2 || total == 0.0 {
            return f64::NAN;
        }
        let rank = q * total;
        let Some(i) = (0..counts.len() - 1).find(|&i| counts[i] >= rank) else { return bounds[bounds.len() - 2] };
        let (start, below) = if i == 0 { (0.0, 0.0) } else { (bounds[i - 1], counts[i - 1]) };
        if i == 0 && bounds[0] <= 0.0 {
            return bounds[0];
        }
        start + (bounds[i] - start) * ((rank - below) / (counts[i] - below))
    }

    proptest! {
        #[test]
        fn bisecting_is_walking(
            counts in prop::collection::vec((0_u32..50).prop_map(f64::from), 1..12), shift in -3_i32..3, q in 0.0..=1.0_f64,
        ) {
            let mut bounds: Vec<f64> = (0..counts.len() as i32).map(|i| f64::from(i + shift)).collect();
            *bounds.last_mut().unwrap() = INF;
            let buckets: Vec<(f64, f64)> = bounds.iter().copied().zip(counts.iter().copied()).collect();
            let (value, expected) = (quantile_of(q, &buckets).0, twin(q, &counts, &bounds));
            prop_assert!(value.to_bits() == expected.to_bits() || value.is_nan() && expected.is_nan(), "{value} {expected}");
        }

        #[test]
        fn the_fraction_below_a_quantile_is_the_quantile(
            steps in prop::collection::vec((1_u32..50).prop_map(f64::from), 2..12), q in 0.0..1.0_f64,
        ) {
            let mut below = 0.0;
            let mut buckets: Vec<(f64, f64)> = steps.iter().enumerate().map(|(i, n)| { below += n; (i as f64 + 1.0, below) }).collect();
            buckets.push((INF, below));
            let value = quantile_of(q, &buckets).0;
            prop_assert!((fraction_of(-INF, value, &buckets) - q).abs() < 1e-9);
        }
    }
}
