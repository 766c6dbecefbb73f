//! Where buckets begin and end.

use std::sync::LazyLock;

use super::{CUSTOM_BUCKETS_SCHEMA, MAX_SCHEMA};

/// `2^(i/256 - 1)`: bucket bounds of schema 8 in `[0.5, 1)`; lower schemas use every 2nd, 4th, … of them.
static FRACTIONS: LazyLock<[f64; 1 << MAX_SCHEMA]> = LazyLock::new(|| {
    // Prometheus prints bounds, so ours must be its bounds to the last bit, and those are not the nearest doubles: they
    // come from multiplying the roots 2^(1/2), 2^(1/4), … that i is made of, the first one rounded down.
    let mut roots = [std::f64::consts::SQRT_2; MAX_SCHEMA as usize];
    for nth in 1..roots.len() {
        roots[nth] = roots[nth - 1].sqrt();
    }
    roots[0] = roots[0].next_down();
    std::array::from_fn(|i| {
        let factors = roots.iter().enumerate().filter(|(nth, _)| i >> (MAX_SCHEMA as usize - 1 - nth) & 1 == 1);
        factors.fold(0.5, |product, (_, root)| product * root)
    })
});

/// Upper bound of the positive bucket `index` of an exponential schema.
///
/// The last bucket of finite values ends at the largest double, the one after it at infinity.
pub(super) fn exponential(index: i32, schema: i32) -> f64 {
    let (fraction, exponent) = if schema < 0 {
        (0.5, (i64::from(index) << -schema.max(-32)) + 1)
    } else {
        let schema = schema.min(MAX_SCHEMA);
        let position = index & ((1 << schema) - 1);
        (FRACTIONS[(position << (MAX_SCHEMA - schema)) as usize], i64::from(index >> schema) + 1)
    };
    if fraction == 0.5 && exponent == 1025 { f64::MAX } else { scale(fraction, exponent) }
}

/// `fraction * 2^exponent` for a fraction in `[0.5, 1)`.
fn scale(fraction: f64, exponent: i64) -> f64 {
    match exponent {
        1025.. => f64::INFINITY,
        // Two steps where 2^exponent itself is no normal double; the second one may round.
        ..-1000 if exponent < -1100 => 0.0,
        ..-1000 => fraction * 2_f64.powi(-1000) * 2_f64.powi((exponent + 1000) as i32),
        1024 => fraction * 2.0 * 2_f64.powi(1023),
        _ => fraction * 2_f64.powi(exponent as i32),
    }
}

/// Upper bound of bucket `index` on the positive side; `index - 1` gives its lower bound.
pub(super) fn upper(index: i32, schema: i32, custom_bounds: &[f64]) -> f64 {
    if schema != CUSTOM_BUCKETS_SCHEMA {
        return exponential(index, schema);
    }
    match usize::try_from(index) {
        Ok(index) => custom_bounds.get(index).copied().unwrap_or(f64::INFINITY),
        Err(_) => f64::NEG_INFINITY,
    }
}

/// The bucket of a coarser schema that contains bucket `index` of schema `from`.
pub(super) fn coarser_index(index: i32, from: i32, to: i32) -> i32 {
    ((index.wrapping_sub(1)) >> (from - to).clamp(0, 31)) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_prometheus_prints() {
        assert_eq!([exponential(0, 0), exponential(1, 0), exponential(-3, 0)], [1.0, 2.0, 0.125]);
        assert_eq!([exponential(1, 2), exponential(3, 1)], [1.189207115002721, 2.82842712474619]);
        assert_eq!([exponential(3, 2), exponential(-1, 8)], [1.6817928305074288, 0.9972960560854698]);
        assert_eq!([exponential(2, -1), exponential(1, -4), exponential(-2, -2)], [16.0, 65536.0, 1.0 / 256.0]);
    }

    #[test]
    fn the_ends_of_the_number_line() {
        assert_eq!(
            [exponential(1024, 0), exponential(1025, 0), exponential(64, -4)],
            [f64::MAX, f64::INFINITY, f64::MAX]
        );
        assert_eq!([exponential(1023 << 8, 8), exponential(1024 << 8, 8)], [2_f64.powi(1023), f64::MAX]);
        assert_eq!([exponential(-1074, 0), exponential(-1075, 0), exponential(-5000, 0)], [5e-324, 0.0, 0.0]);
        assert!(exponential((1 << 18) - 1, 8).is_finite() && exponential((1 << 18) - 1, 8) > 1e308);
        assert_eq!(exponential(i32::MIN, -4), 0.0);
    }

    #[test]
    fn finer_buckets_lie_in_coarser_ones() {
        for index in -300..300 {
            for to in -4..=8 {
                let coarse = coarser_index(index, 8, to);
                assert!(
                    exponential(index, 8) <= exponential(coarse, to)
                        && exponential(coarse - 1, to) <= exponential(index - 1, 8),
                    "{index} {to}"
                );
            }
        }
    }
}
