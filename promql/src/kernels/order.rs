//! Order statistics: quantiles of plain values.

use std::cmp::Ordering;

/// Whether φ is a quantile: outside [0, 1] and for NaN, Prometheus answers with infinities or NaN and warns.
pub fn is_valid_quantile(quantile: f64) -> bool {
    (0.0..=1.0).contains(&quantile)
}

/// Ascending, with NaN before everything else.
pub(super) fn nan_lowest(a: &f64, b: &f64) -> Ordering {
    a.partial_cmp(b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

/// The φ-quantile of `values`, which it sorts; NaN sorts lowest.
///
/// Interpolates linearly between the two nearest ranks. NaN for φ = NaN and for no values, -Inf for φ < 0, +Inf for φ > 1.
///
/// Source: `quantile`, Prometheus 3.14 `promql/quantile.go`.
pub fn quantile(quantile: f64, values: &mut [f64]) -> f64 {
    values.sort_unstable_by(nan_lowest);
    quantile_of_sorted(quantile, values)
}

pub(super) fn quantile_of_sorted(quantile: f64, sorted: &[f64]) -> f64 {
    if sorted.is_empty() || quantile.is_nan() {
        return f64::NAN;
    }
    if quantile < 0.0 {
        return f64::NEG_INFINITY;
    }
    if quantile > 1.0 {
        return f64::INFINITY;
    }
    let rank = quantile * (sorted.len() - 1) as f64;
    let lower = rank.floor() as usize;
    let upper = (lower + 1).min(sorted.len() - 1);
    let weight = rank - rank.floor();
    sorted[lower] * (1.0 - weight) + sorted[upper] * weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate_between_ranks() {
        let of = |q: f64, values: &[f64]| quantile(q, &mut values.to_vec());
        assert_eq!(of(0.5, &[3.0, 1.0]), 2.0);
        assert_eq!(of(0.25, &[4.0, 1.0, 2.0, 3.0]), 1.75);
        assert_eq!(of(1.0, &[4.0, 1.0]), 4.0);
        assert_eq!(of(-0.1, &[4.0]), f64::NEG_INFINITY);
        assert_eq!(of(1.1, &[4.0]), f64::INFINITY);
        assert!(of(f64::NAN, &[4.0]).is_nan() && of(0.5, &[]).is_nan());
        assert!(of(0.0, &[1.0, f64::NAN]).is_nan());
        assert_eq!(of(1.0, &[1.0, f64::NAN]), 1.0);
    }
}
