//! Summaries: what is known of all samples of a series in a block without reading them.
//!
//! Only of series whose every sample is a `value_int`, and which are long enough that a summary costs next to nothing.
//! Integers can be compared and added exactly, so what is answered from a summary is what the samples would answer.

use super::varint::{Cursor, put_svarint, put_uvarint};

/// Series with fewer samples have none.
pub const MIN_ROWS: u32 = 256;
/// Integers of this magnitude and their sums are all doubles.
const EXACT: i64 = 1 << 53;

const ASCENDS: u8 = 1;
const HAS_SUM: u8 = 2;

/// About the `value_int`s of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    pub min: i64,
    pub max: i64,
    /// None is below the one before it: the first is the smallest and the last the largest.
    pub ascends: bool,
    /// Absent where it has more than 53 bits, and of counters, which nobody adds up over time.
    pub sum: Option<i64>,
}

impl Summary {
    /// Of one integer at least.
    pub fn of(integers: &[i64]) -> Summary {
        let (mut min, mut max, mut ascends, mut sum) = (integers[0], integers[0], true, 0i128);
        let mut previous = integers[0];
        for &integer in integers {
            min = min.min(integer);
            max = max.max(integer);
            ascends &= previous <= integer;
            sum += i128::from(integer);
            previous = integer;
        }
        let above = sum - i128::from(min) * integers.len() as i128;
        let sum = i64::try_from(sum).ok().filter(|sum| sum.abs() < EXACT && i64::try_from(above).is_ok());
        Summary { min, max, ascends, sum: sum.filter(|_| !ascends || min == max) }
    }

    /// The largest magnitude.
    pub fn largest(&self) -> u64 {
        self.min.unsigned_abs().max(self.max.unsigned_abs())
    }
}

/// The section of the index; `rows` and summaries are those of the series that have one, in file order.
pub fn encode(summaries: &[(u32, Summary)]) -> Vec<u8> {
    let mut out = Vec::new();
    let has_sum = |summary: &Summary| summary.sum.is_some() && summary.min != summary.max;
    for (_, summary) in summaries {
        out.push(u8::from(summary.ascends) * ASCENDS + u8::from(has_sum(summary)) * HAS_SUM);
    }
    let mut previous = 0i64;
    for (_, summary) in summaries {
        // Neighbours are mostly of the same metric.
        put_svarint(&mut out, summary.min.wrapping_sub(previous));
        previous = summary.min;
    }
    for (_, summary) in summaries {
        put_uvarint(&mut out, summary.max.wrapping_sub(summary.min) as u64);
    }
    for (rows, summary) in summaries.iter().filter(|(_, summary)| has_sum(summary)) {
        let least = i128::from(summary.min) * i128::from(*rows);
        put_uvarint(&mut out, (i128::from(summary.sum.unwrap_or_default()) - least) as u64);
    }
    out
}

/// What [`encode`] wrote, for series of so many `rows`.
pub fn decode(bytes: &[u8], rows: &[u32]) -> Option<Vec<Summary>> {
    let mut cursor = Cursor::new(bytes);
    let flags = cursor.bytes(rows.len())?;
    let mut summaries = Vec::with_capacity(rows.len());
    let mut previous = 0i64;
    for &flags in flags {
        let min = previous.wrapping_add(cursor.svarint()?);
        if flags > (ASCENDS | HAS_SUM) || min.unsigned_abs() >= EXACT as u64 {
            return None;
        }
        summaries.push(Summary { min, max: min, ascends: flags & ASCENDS != 0, sum: None });
        previous = min;
    }
    for summary in &mut summaries {
        summary.max = summary.min.checked_add_unsigned(cursor.uvarint()?)?;
        if summary.max.unsigned_abs() >= EXACT as u64 {
            return None;
        }
    }
    for ((summary, &flags), &rows) in summaries.iter_mut().zip(flags).zip(rows) {
        let (least, most) = (i128::from(summary.min) * i128::from(rows), i128::from(summary.max) * i128::from(rows));
        let sum = match flags & HAS_SUM != 0 {
            true if least == most => return None,
            true => least + i128::from(cursor.uvarint()?),
            false if least == most => least,
            false => continue,
        };
        if sum > most {
            return None;
        }
        summary.sum = i64::try_from(sum).ok().filter(|sum| sum.abs() < EXACT);
    }
    cursor.is_empty().then_some(summaries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The slow twin asks every pair of neighbours.
    fn check(series: &[Vec<i64>]) {
        let summaries: Vec<(u32, Summary)> =
            series.iter().map(|integers| (integers.len() as u32, Summary::of(integers))).collect();
        for (integers, (_, summary)) in series.iter().zip(&summaries) {
            assert_eq!(Some(&summary.min), integers.iter().min());
            assert_eq!(Some(&summary.max), integers.iter().max());
            assert_eq!(summary.ascends, integers.is_sorted());
            let sum: i128 = integers.iter().map(|&integer| i128::from(integer)).sum();
            assert!(summary.sum.is_none_or(|known| i128::from(known) == sum));
            let counter = summary.ascends && summary.min != summary.max;
            assert!(summary.sum.is_some() || counter || sum.abs() >= i128::from(EXACT));
        }
        let bytes = encode(&summaries);
        let (rows, expected): (Vec<u32>, Vec<Summary>) = summaries.into_iter().unzip();
        assert_eq!(decode(&bytes, &rows), Some(expected));
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end], &rows), None, "cut at {end}");
        }
    }

    #[test]
    fn extremes_fit() {
        let most = EXACT - 1;
        check(&[vec![most], vec![-most, most], vec![most, most], vec![-most; 3], vec![most, -most, -most], vec![0, 0]]);
        check(&[]);
    }

    proptest! {
        #[test]
        fn any_integers(
            series in prop::collection::vec(prop::collection::vec(any::<i64>(), 1..8), 0..6),
            shift in prop::sample::select(vec![10u32, 30, 60]),
        ) {
            let series: Vec<Vec<i64>> = series.iter().map(|one| one.iter().map(|n| n >> shift).collect()).collect();
            check(&series.into_iter().map(|one| one.into_iter().filter(|n| n.abs() < EXACT).chain([0]).collect()).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..40), rows in prop::collection::vec(1u32.., 0..5)) {
            for summary in decode(&bytes, &rows).into_iter().flatten() {
                assert!(summary.min <= summary.max && summary.largest() < EXACT as u64);
            }
        }
    }
}
