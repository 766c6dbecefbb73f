//! Compensated summation, in the order and with the guards Prometheus uses.

/// Adds `increment` to the running sum `(sum, compensation)`; the true total is `sum + compensation`.
///
/// Neumaier's variant: the compensation collects what the larger operand could not hold. An infinite sum drops it,
/// since infinity minus infinity would turn the total into NaN.
///
/// Source: `kahansum.Inc`, Prometheus 3.14 `util/kahansum`.
#[inline(always)]
pub fn add_compensated(increment: f64, sum: f64, compensation: f64) -> (f64, f64) {
    let total = sum + increment;
    let lost = if sum.abs() >= increment.abs() { (sum - total) + increment } else { (increment - total) + sum };
    (total, if total.is_infinite() { 0.0 } else { compensation + lost })
}

/// A running compensated sum.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Kahan {
    pub sum: f64,
    pub compensation: f64,
}

impl Kahan {
    #[inline(always)]
    pub fn add(&mut self, increment: f64) {
        (self.sum, self.compensation) = add_compensated(increment, self.sum, self.compensation);
    }

    #[inline(always)]
    pub fn total(&self) -> f64 {
        self.sum + self.compensation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_terms_survive_a_large_one() {
        let mut sum = Kahan::default();
        for term in [1.0, 1e100, 1.0, -1e100] {
            sum.add(term);
        }
        assert_eq!(sum.total(), 2.0);
    }

    #[test]
    fn infinity_stays_infinite() {
        let mut sum = Kahan::default();
        for term in [1.0, f64::INFINITY, 3.0] {
            sum.add(term);
        }
        assert_eq!(sum.total(), f64::INFINITY);
        sum.add(f64::NEG_INFINITY);
        assert!(sum.total().is_nan());
    }
}
