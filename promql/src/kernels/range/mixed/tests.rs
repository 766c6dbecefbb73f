//! Histograms with one bucket are floats by another name: they must fare as the float kernels do.

use pilaster_model::Span;
use proptest::prelude::*;

use super::*;

const OF_BOTH: [RangeFunction; 9] = [
    RangeFunction::Rate,
    RangeFunction::Increase,
    RangeFunction::Delta,
    RangeFunction::Irate,
    RangeFunction::Idelta,
    RangeFunction::Changes,
    RangeFunction::Resets,
    RangeFunction::Avg,
    RangeFunction::Sum,
];

fn one_bucket(count: f64) -> Arc<Histogram> {
    let positive = if count == 0.0 { Vec::new() } else { vec![count] };
    let positive_spans = if count == 0.0 { Vec::new() } else { vec![Span { offset: 0, length: 1 }] };
    Arc::new(Histogram { count, sum: count, positive, positive_spans, ..Histogram::default() })
}

struct Cells {
    floats: Vec<f64>,
    valid: Vec<bool>,
    histograms: Vec<Option<Arc<Histogram>>>,
    notes: MixedNotes,
}

fn evaluate(
    function: RangeFunction,
    extension: Extension,
    grid: &RangeGrid,
    timestamps_ms: &[i64],
    samples: &[(f64, bool)],
    starts_ms: Option<&[i64]>,
) -> Cells {
    let values: Vec<f64> = samples.iter().map(|sample| sample.0).collect();
    let histograms: Vec<_> = samples.iter().map(|&(value, histogram)| histogram.then(|| one_bucket(value))).collect();
    let input = MixedRangeInput {
        timestamps_ms,
        values: &values,
        histograms: &histograms,
        starts_ms,
        grid,
        lookback_ms: 60_000,
        params: [Param::Const(0.5); 2],
        extension,
        eval_offset_ms: 0,
    };
    let (mut floats, mut valid) = (vec![9.0; grid.steps], vec![true; grid.steps]);
    let mut histograms = vec![None; grid.steps];
    let notes = mixed_range_function(function, &input, &mut floats, &mut valid, &mut histograms).unwrap();
    assert!(valid.iter().zip(&histograms).all(|(valid, histogram)| !valid || histogram.is_none()));
    Cells { floats, valid, histograms, notes }
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs()))
}

proptest! {
    #[test]
    fn histograms_fare_like_floats(
        samples in prop::collection::vec((1_i64..40_000, 0_u32..30, prop::sample::select(vec![-1_i64, 0, 1, 500, 15_000, 60_000])), 0..40),
        extension in prop::sample::select(vec![Extension::None, Extension::Anchored, Extension::Smoothed]),
        first_end_ms in -10_000_i64..300_000, width_ms in 10_000_i64..130_000, with_starts in any::<bool>(),
    ) {
        let timestamps: Vec<i64> = samples.iter().scan(0, |at, sample| { *at += sample.0; Some(*at) }).collect();
        let starts: Vec<i64> = samples.iter().zip(&timestamps).map(|(sample, t)| if sample.2 < 0 { 0 } else { t - sample.2 }).collect();
        let starts = with_starts.then_some(&starts[..]).filter(|_| extension == Extension::None);
        let grid = RangeGrid { first_end_ms, step_ms: 15_000, steps: 20, width_ms };
        for function in OF_BOTH {
            let of = |is_histogram: bool| {
                let samples: Vec<(f64, bool)> = samples.iter().map(|sample| (f64::from(sample.1), is_histogram)).collect();
                evaluate(function, extension, &grid, &timestamps, &samples, starts)
            };
            let (floats, histograms) = (of(false), of(true));
            prop_assert_eq!(floats.notes.start_time_overlap, histograms.notes.start_time_overlap);
            let counts = matches!(function, RangeFunction::Changes | RangeFunction::Resets);
            for step in 0..grid.steps {
                let expected = floats.valid[step].then_some(floats.floats[step]);
                let result = if counts { histograms.valid[step].then_some(histograms.floats[step]) } else { histograms.histograms[step].as_ref().map(|h| h.count) };
                prop_assert!(
                    expected.is_some() == result.is_some() && near(expected.unwrap_or(0.0), result.unwrap_or(0.0)),
                    "{function:?} {extension:?} step {step}: {expected:?} {result:?} of {samples:?}"
                );
                if let Some(histogram) = &histograms.histograms[step] {
                    prop_assert!(near(histogram.sum, histogram.count) && near(histogram.positive.iter().sum(), histogram.count));
                }
            }
        }
    }
}

#[test]
fn mixed_windows() {
    let timestamps: Vec<i64> = (0..4).map(|i| i * 10_000).collect();
    let samples = [(1.0, false), (3.0, false), (4.0, true), (6.0, true)];
    let grid = RangeGrid { first_end_ms: 10_000, step_ms: 10_000, steps: 3, width_ms: 20_000 };
    let of = |function| evaluate(function, Extension::None, &grid, &timestamps, &samples, None);
    let increase = of(RangeFunction::Increase);
    assert!(increase.notes.mixed_floats_histograms && !increase.notes.histograms_ignored);
    assert_eq!(increase.valid, [true, false, false]);
    assert_eq!(increase.histograms.iter().map(|h| h.is_some()).collect::<Vec<_>>(), [false, false, true]);
    let max = of(RangeFunction::Max);
    assert!(max.notes.histograms_ignored && max.valid == [true, true, false] && max.floats[..2] == [3.0, 3.0]);
    let resets = of(RangeFunction::Resets);
    assert_eq!((resets.floats, resets.valid), (vec![0.0, 1.0, 0.0], vec![true; 3]));
    let last = of(RangeFunction::Last);
    assert_eq!((last.valid, last.floats[0]), (vec![true, false, false], 3.0));
    assert_eq!(last.histograms[1].as_ref().map(|h| h.count), Some(4.0));
    assert_eq!(of(RangeFunction::Count).floats, [2.0, 2.0, 2.0]);
    let irate = of(RangeFunction::Irate);
    assert!(
        irate.notes.mixed_floats_histograms && irate.valid == [true, false, false] && irate.histograms[2].is_some()
    );
    let delta = of(RangeFunction::Delta);
    assert!(delta.notes.not_gauge && !delta.notes.not_counter);
}

#[test]
fn smoothed_histograms_interpolate() {
    let grid = RangeGrid { first_end_ms: 5_000, step_ms: 10_000, steps: 4, width_ms: 0 };
    let histograms: Vec<_> = [2.0, 6.0, 1.0].into_iter().map(|count| Some(one_bucket(count))).collect();
    let input = MixedRangeInput {
        timestamps_ms: &[0, 10_000, 20_000],
        values: &[0.0; 3],
        histograms: &histograms,
        starts_ms: None,
        grid: &grid,
        lookback_ms: 12_000,
        params: [Param::Const(0.0); 2],
        extension: Extension::Smoothed,
        eval_offset_ms: 0,
    };
    let (mut out, mut valid, mut cells) = ([0.0; 4], [true; 4], vec![None; 4]);
    let notes = mixed_smoothed_instant(&input, &mut out, &mut valid, &mut cells);
    assert_eq!((notes, valid), (MixedNotes::default(), [false; 4]));
    let counts: Vec<f64> = cells.iter().flatten().map(|histogram| histogram.count).collect();
    // The counter restarted between the second and the third; the fourth step is too far behind the third.
    assert_eq!(counts, [4.0, 0.5, 1.0]);
}

fn of_histograms(function: RangeFunction, texts: &[&str]) -> (Option<String>, MixedNotes) {
    let parse = |text: &&str| pilaster_model::histogram::TestExpression::parse(text).unwrap().histogram;
    let histograms: Vec<_> = texts.iter().map(|text| Some(Arc::new(parse(text)))).collect();
    let timestamps_ms: Vec<i64> = (1..=texts.len() as i64).map(|i| i * 10_000).collect();
    let end_ms = texts.len() as i64 * 10_000;
    let grid = RangeGrid { first_end_ms: end_ms, step_ms: 1, steps: 1, width_ms: end_ms };
    let input = MixedRangeInput {
        timestamps_ms: &timestamps_ms,
        values: &vec![0.0; texts.len()],
        histograms: &histograms,
        starts_ms: None,
        grid: &grid,
        lookback_ms: 0,
        params: [Param::Const(0.0); 2],
        extension: Extension::None,
        eval_offset_ms: 0,
    };
    let mut cells = [None];
    let notes = mixed_range_function(function, &input, &mut [0.0], &mut [false], &mut cells).unwrap();
    (cells[0].as_ref().map(|histogram| histogram.test_expression()), notes)
}

#[test]
fn after_a_reset_at_the_start_the_rest_is_what_counts() {
    let (growth, notes) = of_histograms(
        RangeFunction::Increase,
        &[
            "{{schema:0 count:9 buckets:[9]}}",
            "{{schema:-53 count:2 custom_values:[1 3] buckets:[1 1]}}",
            "{{schema:-53 count:6 custom_values:[1 2 3] buckets:[2 2 2]}}",
        ],
    );
    // 6 observations in 20 of 30 seconds, and bounds that all samples after the reset have.
    assert_eq!(growth.unwrap(), "{{schema:-53 count:9 custom_values:[1 3] counter_reset_hint:gauge buckets:[3 6]}}");
    assert!(notes.bounds_reconciled_subtracting && !notes.mixed_exponential_custom);
}

#[test]
fn windows_of_two_kinds_have_no_growth() {
    let kinds = ["{{count:1 buckets:[1]}}", "{{schema:-53 counter_reset_hint:gauge}}", "{{count:2 buckets:[2]}}"];
    let (growth, notes) = of_histograms(RangeFunction::Rate, &kinds);
    assert_eq!((growth, notes), (None, MixedNotes { mixed_exponential_custom: true, ..MixedNotes::default() }));
    let (growth, notes) = of_histograms(RangeFunction::Delta, &kinds);
    assert_eq!(growth.unwrap(), "{{count:1.5 counter_reset_hint:gauge buckets:[1.5]}}");
    assert!(notes.not_gauge);
}
