use proptest::prelude::*;

use super::*;

fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

/// What an aggregation is, one step at a time, in Prometheus's order of operations.
fn twin(op: FloatAggregate, values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let welford = || {
        let (mut mean, mut squares) = (values[0], if values[0].is_finite() { 0.0 } else { f64::NAN });
        for (nth, value) in values.iter().enumerate().skip(1) {
            let delta = value - mean;
            mean += delta / (nth as f64 + 1.0);
            squares += delta * (value - mean);
        }
        squares
    };
    let extreme = |better: fn(f64, f64) -> bool| {
        values
            .iter()
            .skip(1)
            .fold(values[0], |kept, &value| if better(value, kept) || kept.is_nan() { value } else { kept })
    };
    match op {
        FloatAggregate::Count => n,
        FloatAggregate::Group => 1.0,
        FloatAggregate::Min => extreme(|new, kept| new < kept),
        FloatAggregate::Max => extreme(|new, kept| new > kept),
        FloatAggregate::Stdvar => welford() / n,
        FloatAggregate::Stddev => (welford() / n).sqrt(),
        FloatAggregate::Sum => {
            let (sum, compensation) = values[1..].iter().fold((values[0], 0.0), |(s, c), &v| add_compensated(v, s, c));
            sum + compensation
        }
        FloatAggregate::Avg => {
            let (mut sum, mut compensation, mut as_mean) = (values[0], 0.0, false);
            for (nth, &value) in values.iter().enumerate().skip(1) {
                let count = nth as f64 + 1.0;
                if !as_mean {
                    let longer = add_compensated(value, sum, compensation);
                    if !longer.0.is_infinite() {
                        (sum, compensation) = longer;
                        continue;
                    }
                    as_mean = true;
                    sum /= count - 1.0;
                    compensation /= count - 1.0;
                }
                let kept = (count - 1.0) / count;
                (sum, compensation) = add_compensated(value / count, kept * sum, kept * compensation);
            }
            if as_mean { sum + compensation } else { sum / n + compensation / n }
        }
    }
}

const ALL: [FloatAggregate; 8] = [
    FloatAggregate::Sum,
    FloatAggregate::Avg,
    FloatAggregate::Count,
    FloatAggregate::Group,
    FloatAggregate::Min,
    FloatAggregate::Max,
    FloatAggregate::Stddev,
    FloatAggregate::Stdvar,
];

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => -1e3..1e3_f64,
        2 => prop::sample::select(vec![0.0, -0.0, 1.0, 1e308, -1e308, 1.7e308, 1e100, 5e-324]),
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY]),
    ]
}

type Row = Vec<(f64, bool)>;

fn check(rows: &[Row], steps: usize) {
    for op in ALL {
        let mut accumulator = Accumulator::new(op, steps);
        for round in 0..2 {
            // Garbage of an earlier group must not show.
            if round == 0 {
                accumulator.add(&vec![f64::INFINITY; steps], &vec![true; steps]);
                accumulator.add(&vec![1.0; steps], &vec![true; steps]);
                accumulator.reset();
            }
            for row in rows {
                let (values, valid): (Vec<f64>, Vec<bool>) = row.iter().copied().unzip();
                accumulator.add(&values, &valid);
            }
            let (mut out, mut valid) = (vec![9.0; steps], vec![true; steps]);
            accumulator.clone().finish(&mut out, &mut valid);
            accumulator.reset();
            for step in 0..steps {
                let column: Vec<f64> = rows.iter().filter(|row| row[step].1).map(|row| row[step].0).collect();
                assert_eq!(valid[step], !column.is_empty());
                let expected = if column.is_empty() { 0.0 } else { twin(op, &column) };
                assert!(same(out[step], expected), "{op:?} of {column:?} = {}, not {expected}", out[step]);
            }
        }
    }
}

proptest! {
    #[test]
    fn folding_rows_is_folding_columns(rows in prop::collection::vec(prop::collection::vec((value(), any::<bool>()), 70), 0..9)) {
        check(&rows, 70);
    }

    #[test]
    fn quantiles_of_rows_are_quantiles_of_columns(rows in prop::collection::vec(prop::collection::vec((value(), any::<bool>()), 19), 0..12), q in -0.1..1.1_f64) {
        let split: Vec<(Vec<f64>, Vec<bool>)> = rows.iter().map(|row| row.iter().copied().unzip()).collect();
        let borrowed: Vec<(&[f64], &[bool])> = split.iter().map(|(values, valid)| (&values[..], &valid[..])).collect();
        let (mut out, mut valid) = (vec![9.0; 19], vec![true; 19]);
        quantile_cells(Param::Const(q), &borrowed, &mut out, &mut valid);
        for step in 0..19 {
            let mut column: Vec<f64> = rows.iter().filter(|row| row[step].1).map(|row| row[step].0).collect();
            prop_assert_eq!(valid[step], !column.is_empty());
            if valid[step] {
                let expected = order::quantile(q, &mut column);
                // Which of 0 and -0 comes first is open.
                prop_assert!(same(out[step], expected) || out[step] == expected);
            }
        }
    }

    #[test]
    fn top_k_keeps_the_best(values in prop::collection::vec(value(), 0..40), k in 0_usize..12, largest in any::<bool>()) {
        let column: Vec<(u32, f64)> = values.iter().copied().enumerate().map(|(i, v)| (i as u32, v)).collect();
        let mut kept = Vec::new();
        top_k(k, largest, &column, &mut kept);
        let rank = |v: f64| if v.is_nan() { f64::NEG_INFINITY } else if largest { v } else { -v };
        let mut sorted: Vec<f64> = values.clone();
        sorted.sort_by(|a, b| (a.is_nan(), rank(*b)).partial_cmp(&(b.is_nan(), rank(*a))).unwrap());
        sorted.truncate(k);
        let result: Vec<f64> = kept.iter().map(|&series| values[series as usize]).collect();
        prop_assert_eq!(result.len(), sorted.len());
        prop_assert!(result.iter().zip(&sorted).all(|(a, b)| a == b || a.is_nan() && b.is_nan()), "{:?} {:?}", result, sorted);
        let distinct: std::collections::HashSet<_> = kept.iter().collect();
        prop_assert_eq!(distinct.len(), kept.len());
    }
}

#[test]
fn a_mean_survives_a_sum_that_does_not() {
    check(&vec![vec![(1.7e308, true)]; 5], 1);
    assert_eq!(twin(FloatAggregate::Avg, &[f64::MAX, f64::MAX]), f64::MAX);
}

#[test]
fn among_equals_the_first_stay() {
    let mut kept = Vec::new();
    top_k(2, true, &[(0, 1.0), (1, 1.0), (2, 1.0)], &mut kept);
    assert_eq!(kept, [0, 1]);
    top_k(1, false, &[(0, f64::NAN), (1, 7.0), (2, 7.0)], &mut kept);
    assert_eq!(kept, [1]);
}

#[test]
fn a_ratio_and_its_complement_split_the_series() {
    let series: Vec<Labels> =
        (0..1000).map(|i| Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])).collect();
    let kept = |ratio: f64| series.iter().filter(|labels| limit_ratio_keeps(ratio, labels)).count();
    assert_eq!((kept(0.0), kept(1.0), kept(-1.0), kept(5.0)), (0, 1000, 1000, 1000));
    assert_eq!(kept(0.3) + kept(-0.7), 1000);
    assert!((200..400).contains(&kept(0.3)));
    let long = Labels::from_pairs([("a", "x".repeat(300))]);
    assert_eq!(limit_ratio_keeps(0.5, &long), !limit_ratio_keeps(-0.5, &long));
}
