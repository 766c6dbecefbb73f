//! Kernels on one core, in time per cell: what a query costs once its samples are in memory.
//!
//! The data set of every bench is a slice of the same fleet: series of one target share a timeline of one sample per
//! 15 s, values are counters with rare resets (or gauges made of them), queries have 1,000 steps.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pilaster_promql::ast::BinaryOp;
use pilaster_promql::kernels::{
    Accumulator, BucketRow, Extension, FloatAggregate, Operand, Param, QuantileNotes, RangeFunction, RangeGrid,
    RangeInput, UnaryFunction, Windows, arithmetic, bucket_quantile_cells, compare, latest, quantile_cells,
    range_function, top_k, unary,
};

const STEPS: usize = 1_000;
const SERIES: usize = 100;
const SPACING_MS: i64 = 15_000;
/// 1,000 steps of 15 s with the 5 m before them.
const SAMPLES: usize = STEPS + 20;

/// A multiplicative generator is all the randomness a bench needs.
fn random(state: &mut u64) -> f64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 11) as f64 / (1_u64 << 53) as f64
}

fn counter(seed: u64) -> Vec<f64> {
    let (mut state, mut value) = (seed, 1e6);
    let next = |_| {
        value = if random(&mut state) < 0.001 { 0.0 } else { value + (random(&mut state) * 100.0).floor() };
        value
    };
    (0..SAMPLES).map(next).collect()
}

fn cells(seed: u64) -> Vec<f64> {
    let mut state = seed;
    (0..STEPS).map(|_| random(&mut state) * 1e3).collect()
}

fn timeline() -> Vec<i64> {
    (0..SAMPLES as i64).map(|i| i * SPACING_MS).collect()
}

fn grid(width_ms: i64) -> RangeGrid {
    RangeGrid { first_end_ms: 20 * SPACING_MS, step_ms: SPACING_MS, steps: STEPS, width_ms }
}

fn elementwise(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("elementwise");
    group.throughput(Throughput::Elements(STEPS as u64));
    let (left, right, mut out) = (cells(1), cells(2), vec![0.0; STEPS]);
    let mut keep = vec![false; STEPS];
    group.bench_function("multiply by a scalar", |b| {
        b.iter(|| arithmetic(BinaryOp::Mul, Operand::Cells(black_box(&left)), Operand::Scalar(8.0), &mut out));
    });
    group.bench_function("divide rows", |b| {
        b.iter(|| arithmetic(BinaryOp::Div, Operand::Cells(black_box(&left)), Operand::Cells(&right), &mut out));
    });
    group.bench_function("compare with a scalar", |b| {
        b.iter(|| compare(BinaryOp::Gt, Operand::Cells(black_box(&left)), Operand::Scalar(500.0), &mut keep));
    });
    group.bench_function("floor", |b| b.iter(|| unary(UnaryFunction::Floor, black_box(&left), &mut out)));
    group.finish();
}

fn aggregate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("aggregate");
    group.throughput(Throughput::Elements((STEPS * SERIES) as u64));
    let rows: Vec<Vec<f64>> = (0..SERIES as u64).map(cells).collect();
    let all = vec![true; STEPS];
    let (mut out, mut valid) = (vec![0.0; STEPS], vec![false; STEPS]);
    for op in [FloatAggregate::Sum, FloatAggregate::Avg, FloatAggregate::Max, FloatAggregate::Stddev] {
        group.bench_function(format!("{op:?}").to_lowercase(), |b| {
            b.iter(|| {
                let mut accumulator = Accumulator::new(op, STEPS);
                rows.iter().for_each(|row| accumulator.add(black_box(row), &all));
                accumulator.finish(&mut out, &mut valid);
            });
        });
    }
    let borrowed: Vec<(&[f64], &[bool])> = rows.iter().map(|row| (&row[..], &all[..])).collect();
    group.bench_function("quantile", |b| {
        b.iter(|| quantile_cells(Param::Const(0.9), black_box(&borrowed), &mut out, &mut valid));
    });
    let columns: Vec<Vec<(u32, f64)>> = (0..STEPS)
        .map(|step| rows.iter().enumerate().map(|(series, row)| (series as u32, row[step])).collect())
        .collect();
    let mut kept = Vec::new();
    group.bench_function("topk 5", |b| {
        b.iter(|| columns.iter().for_each(|column| top_k(5, true, black_box(column), &mut kept)));
    });
    group.finish();
}

fn range(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("range");
    group.throughput(Throughput::Elements((STEPS * SERIES) as u64));
    let timestamps_ms = timeline();
    let rows: Vec<Vec<f64>> = (0..SERIES as u64).map(counter).collect();
    let (mut out, mut valid) = (vec![0.0; STEPS], vec![false; STEPS]);
    let grid = grid(300_000);
    let mut evaluate = |function: RangeFunction, values: &[f64], windows: &Windows| {
        let input = RangeInput {
            timestamps_ms: &timestamps_ms,
            values,
            starts_ms: None,
            windows,
            grid: &grid,
            params: [Param::Const(0.9), Param::Const(0.5)],
            extension: Extension::None,
            eval_offset_ms: 0,
        };
        range_function(function, &input, &mut out, &mut valid).is_ok()
    };
    let functions = [
        RangeFunction::Rate,
        RangeFunction::Irate,
        RangeFunction::Sum,
        RangeFunction::Avg,
        RangeFunction::Max,
        RangeFunction::Stddev,
        RangeFunction::Quantile,
        RangeFunction::Deriv,
        RangeFunction::Changes,
    ];
    for function in functions {
        group.bench_function(format!("{function:?}[5m], shared timeline").to_lowercase(), |b| {
            b.iter(|| {
                let windows = Windows::new(&timestamps_ms, &grid);
                rows.iter().all(|row| evaluate(function, black_box(row), &windows))
            });
        });
    }
    group.bench_function("rate[5m], a timeline each", |b| {
        b.iter(|| {
            rows.iter().all(|row| evaluate(RangeFunction::Rate, black_box(row), &Windows::new(&timestamps_ms, &grid)))
        });
    });
    group.bench_function("instant selector, shared timeline", |b| {
        let (mut out, mut valid) = (vec![0.0; STEPS], vec![false; STEPS]);
        b.iter(|| {
            let windows = Windows::new(&timestamps_ms, &grid);
            rows.iter().for_each(|row| latest(black_box(row), &windows, &mut out, &mut valid));
        });
    });
    group.finish();
}

fn classic_histogram(criterion: &mut Criterion) {
    const BUCKETS: usize = 12;
    let mut group = criterion.benchmark_group("histogram_quantile");
    group.throughput(Throughput::Elements((STEPS * BUCKETS) as u64));
    let mut below = vec![0.0; STEPS];
    let rows: Vec<Vec<f64>> = (0..BUCKETS as u64)
        .map(|bucket| {
            below.iter_mut().zip(cells(bucket)).for_each(|(below, more)| *below += more);
            below.clone()
        })
        .collect();
    let all = vec![true; STEPS];
    let (mut out, mut valid) = (vec![0.0; STEPS], vec![false; STEPS]);
    group.bench_function("12 buckets", |b| {
        b.iter(|| {
            let bound = |nth: usize| if nth == BUCKETS - 1 { f64::INFINITY } else { 0.005 * 2_f64.powi(nth as i32) };
            let mut buckets: Vec<BucketRow> = rows
                .iter()
                .enumerate()
                .map(|(nth, values)| BucketRow { upper_bound: bound(nth), values: black_box(values), valid: &all })
                .collect();
            let mut notes = QuantileNotes::default();
            bucket_quantile_cells(Param::Const(0.9), &mut buckets, &mut out, &mut valid, &mut notes);
        });
    });
    group.finish();
}

criterion_group!(benches, elementwise, aggregate, range, classic_histogram);
criterion_main!(benches);
