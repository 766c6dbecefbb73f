//! Histograms against a twin that spells out every bucket.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Histogram {
    TestExpression::parse(text).unwrap().histogram
}

fn sum(a: &str, b: &str) -> (String, AddNotes) {
    let mut sum = parse(a);
    let notes = sum.add(&parse(b)).unwrap();
    (sum.compact().test_expression(), notes)
}

#[test]
fn the_text_form_reads_and_writes() {
    let text = "{{schema:1 count:8 sum:-0.5 z_bucket:2 z_bucket_w:0.001 counter_reset_hint:gauge offset:-3 buckets:[1 0 2] n_offset:2 n_buckets:[3]}}";
    assert_eq!(parse(text).test_expression(), text);
    assert_eq!(parse("{{}}"), Histogram::default());
    let custom = parse("{{ schema:-53 count:3 custom_values:[1 2.5] buckets:[1 2 0] }}");
    assert_eq!(custom.test_expression(), "{{schema:-53 count:3 custom_values:[1 2.5] buckets:[1 2]}}");
    assert!(TestExpression::parse("{{counter_reset_hint:reset sum:+inf}}").unwrap().has_hint);
    for bad in [
        "",
        "{{",
        "{{count}}",
        "{{count:x}}",
        "{{count:1 count:1}}",
        "{{schema:1.5}}",
        "{{size:1}}",
        "{{buckets:[1 2}}",
        "{{buckets:[1]2}}",
    ] {
        assert!(TestExpression::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn printed_like_prometheus() {
    let histogram = parse(
        "{{schema:0 count:9 sum:1234567 z_bucket:2 z_bucket_w:0.001 buckets:[1 0 2] n_offset:-1 n_buckets:[3 1]}}",
    );
    assert_eq!(
        histogram.to_string(),
        "{count:9, sum:1.234567e+06, [-1,-0.5):1, [-0.5,-0.25):3, [-0.001,0.001]:2, (0.5,1]:1, (2,4]:2}"
    );
    let custom = parse("{{schema:-53 count:6 sum:3 custom_values:[-1 2.5] buckets:[1 2 3]}}");
    assert_eq!(custom.to_string(), "{count:6, sum:3, [-Inf,-1]:1, (-1,2.5]:2, (2.5,+Inf]:3}");
    let unknown = Histogram { zero_count: f64::NAN, ..custom };
    assert_eq!(unknown.to_string(), "{count:6, sum:3, [-Inf,-1]:1, (-1,2.5]:2, (2.5,+Inf]:3}");
    let mut json = String::new();
    histogram.write_json(&mut json);
    let buckets =
        r#"[[1,"-1","-0.5","1"],[1,"-0.5","-0.25","3"],[3,"-0.001","0.001","2"],[0,"0.5","1","1"],[0,"2","4","2"]]"#;
    assert_eq!(json, format!(r#"{{"count":"9","sum":"1234567","buckets":{buckets}}}"#));
    json.clear();
    parse("{{sum:1e-9}}").write_json(&mut json);
    assert_eq!(json, r#"{"count":"0","sum":"1e-09"}"#);
}

#[test]
fn sums_meet_at_the_coarser_schema_and_the_wider_zero_bucket() {
    let (text, notes) = sum("{{schema:1 count:6 buckets:[1 2 3]}}", "{{schema:0 count:5 sum:1 offset:1 buckets:[5]}}");
    // (0.7,1], (1,1.4] and (1.4,2] of schema 1 are (0.5,1] and (1,2] of schema 0.
    assert_eq!(text, "{{count:11 sum:1 buckets:[1 10]}}");
    assert_eq!(notes, AddNotes::default());
    let (text, _) = sum(
        "{{count:4 z_bucket:1 z_bucket_w:0.1 buckets:[1 2]}}",
        "{{count:3 z_bucket:1 z_bucket_w:1 offset:1 buckets:[2]}}",
    );
    assert_eq!(text, "{{count:7 z_bucket:3 z_bucket_w:1 offset:1 buckets:[4]}}");
    // A threshold inside a populated bucket is moved to the bucket's end.
    let (text, _) = sum("{{count:4 z_bucket:1 z_bucket_w:0.7}}", "{{count:3 z_bucket:1 n_buckets:[2]}}");
    assert_eq!(text, "{{count:7 z_bucket:4 z_bucket_w:1}}");
}

#[test]
fn custom_bounds_meet_at_those_both_have() {
    let (text, notes) = sum(
        "{{schema:-53 count:10 custom_values:[1 2 3] buckets:[1 2 3 4]}}",
        "{{schema:-53 count:6 custom_values:[2 2.5 5] buckets:[1 1 2 2]}}",
    );
    assert_eq!(text, "{{schema:-53 count:16 custom_values:[2] buckets:[4 12]}}");
    assert!(notes.bounds_reconciled);
    let mut histogram = parse("{{schema:-53 custom_values:[1]}}");
    assert_eq!(histogram.add(&parse("{{}}")), Err(IncompatibleSchemas));
}

#[test]
fn hints_of_sums() {
    let hint = |a: &str, b: &str| {
        let mut sum = parse(&format!("{{{{counter_reset_hint:{a}}}}}"));
        let notes = sum.add(&parse(&format!("{{{{counter_reset_hint:{b}}}}}"))).unwrap();
        (sum.counter_reset_hint, notes.counter_reset_collision)
    };
    assert_eq!(hint("reset", "reset"), (CounterResetHint::Reset, false));
    assert_eq!(hint("reset", "gauge"), (CounterResetHint::Gauge, false));
    assert_eq!(hint("not_reset", "unknown"), (CounterResetHint::Unknown, false));
    assert_eq!(hint("not_reset", "reset"), (CounterResetHint::Unknown, true));
    let mut histogram = parse("{{count:4 sum:2 buckets:[4]}}");
    assert_eq!(histogram.mul(-0.5).test_expression(), "{{count:-2 sum:-1 counter_reset_hint:gauge buckets:[-2]}}");
    assert_eq!(histogram.div(0.0).test_expression(), "{{count:-Inf sum:-Inf z_bucket:NaN counter_reset_hint:gauge}}");
}

#[test]
fn resets() {
    let reset = |before: &str, now: &str| parse(now).detect_reset(&parse(before));
    assert!(!reset("{{count:2 buckets:[1 1]}}", "{{count:3 buckets:[1 2]}}"));
    assert!(reset("{{count:2 buckets:[1 1]}}", "{{count:3 buckets:[0 3]}}"));
    assert!(reset("{{count:2 buckets:[1 1]}}", "{{count:3 offset:1 buckets:[3]}}"));
    assert!(!reset("{{count:1 buckets:[0 1]}}", "{{count:3 offset:1 buckets:[3]}}"));
    assert!(reset("{{count:4}}", "{{count:3}}"));
    assert!(!reset("{{schema:1 count:3 buckets:[1 1 1]}}", "{{schema:0 count:3 buckets:[1 2]}}"));
    assert!(reset("{{schema:0 count:3 buckets:[1 2]}}", "{{schema:1 count:3 buckets:[1 1 1]}}"));
    assert!(!reset("{{count:3 z_bucket_w:0.1 buckets:[3]}}", "{{count:3 z_bucket:3 z_bucket_w:1}}"));
    assert!(reset("{{count:3 z_bucket_w:0.1 buckets:[3]}}", "{{count:3 z_bucket:3 z_bucket_w:0.8}}"));
    assert!(reset("{{count:4}}", "{{count:9 counter_reset_hint:reset}}"));
    assert!(!reset("{{count:4}}", "{{count:3 counter_reset_hint:not_reset}}"));
    let custom = "{{schema:-53 count:6 custom_values:[1 2] buckets:[1 2 3]}}";
    assert!(!reset(custom, "{{schema:-53 count:7 custom_values:[2] buckets:[3 4]}}"));
    assert!(reset(custom, "{{schema:-53 count:7 custom_values:[2] buckets:[2 5]}}"));
    assert!(reset("{{}}", "{{schema:-53}}") && reset("{{schema:-53}}", "{{}}"));
}

#[test]
fn quantiles_and_fractions() {
    let histogram = parse("{{schema:0 count:12 sum:100 z_bucket:2 z_bucket_w:0.001 buckets:[2 3 0 1 4]}}");
    let near = |value: f64, expected: f64| assert!((value - expected).abs() < 1e-9, "{value} {expected}");
    near(histogram.quantile(1.0).value, 16.0);
    near(histogram.quantile(0.5).value, 2_f64.powf(2.0 / 3.0));
    near(histogram.quantile(0.0).value, 0.0);
    near(histogram.fraction(0.0, 1.0).value, 4.0 / 12.0);
    near(histogram.fraction(f64::NEG_INFINITY, f64::INFINITY).value, 1.0);
    assert_eq!([histogram.quantile(-1.0).value, histogram.quantile(2.0).value], [f64::NEG_INFINITY, f64::INFINITY]);
    assert!(histogram.quantile(f64::NAN).value.is_nan() && parse("{{}}").quantile(0.5).value.is_nan());
    assert_eq!(histogram.fraction(1.0, 1.0).value, 0.0);
    let with_nan = parse("{{count:4 sum:NaN buckets:[2]}}");
    assert_eq!(with_nan.quantile(0.9).note, Some(QuantileNote::NanResult));
    assert_eq!(with_nan.quantile(0.1).note, Some(QuantileNote::NanSkew));
    assert!(with_nan.fraction(0.0, 1.0).has_nan_observations);
    let custom = parse("{{schema:-53 count:4 sum:9 custom_values:[2 4] buckets:[1 2 1]}}");
    near(custom.quantile(0.5).value, 3.0);
    near(custom.quantile(0.125).value, 1.0);
    near(custom.quantile(0.99).value, 4.0);
    // The lowest bucket begins at 0.
    near(custom.fraction(1.0, 3.0).value, 0.375);
}

#[test]
fn moments() {
    let histogram = parse("{{count:4 sum:6 buckets:[0 4]}}");
    assert_eq!(histogram.avg(), 1.5);
    assert!((histogram.variance() - (2_f64.sqrt() - 1.5).powi(2)).abs() < 1e-12);
    assert!((parse("{{count:2 sum:-3 n_buckets:[0 2]}}").variance() - (1.5 - 2_f64.sqrt()).powi(2)).abs() < 1e-12);
}

#[test]
fn trimming() {
    let trimmed = |text: &str, of: fn(&mut Histogram) -> &mut Histogram| of(&mut parse(text)).test_expression();
    assert_eq!(
        trimmed("{{count:7 sum:9 buckets:[1 2 4]}}", |h| h.trim_upper(4.0)),
        "{{count:7 sum:9 buckets:[1 2 4]}}"
    );
    let cut = trimmed("{{count:7 sum:9 buckets:[1 2 4]}}", |h| h.trim_upper(2.0));
    assert!(cut.starts_with("{{count:3 sum:3.5355") && cut.ends_with("buckets:[1 2]}}"), "{cut}");
    let custom = "{{schema:-53 count:10 sum:9 custom_values:[2 4] buckets:[4 4 2]}}";
    assert_eq!(
        trimmed(custom, |h| h.trim_upper(3.0)),
        "{{schema:-53 count:6 sum:9 custom_values:[2 4] buckets:[4 2]}}"
    );
    assert_eq!(
        trimmed(custom, |h| h.trim_lower(1.0)),
        "{{schema:-53 count:8 sum:23 custom_values:[2 4] buckets:[2 4 2]}}"
    );
    assert_eq!(
        trimmed("{{count:4 z_bucket:4 z_bucket_w:1}}", |h| h.trim_lower(0.0)),
        "{{count:2 sum:1 z_bucket:2 z_bucket_w:1}}"
    );
}

#[test]
fn classic_buckets_become_custom_ones() {
    let mut classic = ClassicBuckets::default();
    for (bound, count) in [(2.0, 5.0), (1.0, 3.0), (f64::INFINITY, 6.0), (1.0, 99.0), (4.0, 5.0)] {
        classic.set_bucket(bound, count).unwrap();
    }
    classic.set_sum(7.5);
    assert_eq!(
        classic.clone().into_histogram().unwrap().to_string(),
        "{count:6, sum:7.5, [-Inf,1]:3, (1,2]:2, (4,+Inf]:1}"
    );
    classic.set_count(7.0).unwrap();
    assert_eq!(classic.clone().into_histogram(), Err(ClassicBucketsError::CountMismatch { count: 7.0, bucket: 6.0 }));
    classic.set_bucket(3.0, 1.0).unwrap();
    assert_eq!(classic.into_histogram(), Err(ClassicBucketsError::NotCumulative { lower: 5.0, upper: 1.0 }));
    assert!(
        ClassicBuckets::default().set_bucket(f64::NAN, 1.0).is_err()
            && ClassicBuckets::default().set_count(-1.0).is_err()
    );
    let mut without_infinity = ClassicBuckets::default();
    without_infinity.set_bucket(1.0, 2.0).unwrap();
    without_infinity.set_count(5.0).unwrap();
    assert_eq!(without_infinity.into_histogram().unwrap().to_string(), "{count:5, sum:0, [-Inf,1]:2, (1,+Inf]:3}");
}

#[test]
fn integers_become_floats() {
    let mut integers = IntegerHistogram {
        schema: 3,
        count: 6,
        sum: 1.5,
        positive_spans: vec![Span { offset: 1, length: 2 }, Span { offset: 2, length: 1 }],
        positive_deltas: vec![1, 1, 1],
        ..IntegerHistogram::default()
    };
    assert_eq!(integers.clone().into_float().unwrap().positive, [1.0, 2.0, 3.0]);
    integers.schema = 9;
    let merged = integers.clone().into_float().unwrap();
    assert_eq!((merged.schema, merged.positive), (8, vec![3.0, 3.0]));
    integers.schema = -5;
    assert_eq!(integers.clone().into_float(), Err(Invalid::Schema(-5)));
    integers.schema = 0;
    integers.positive_deltas.pop();
    assert_eq!(integers.clone().into_float(), Err(Invalid::BucketCount { wanted: 3, found: 2 }));
    integers.positive_spans = vec![Span { offset: 1, length: 1 }, Span { offset: -1, length: 1 }];
    assert!(matches!(integers.into_float(), Err(Invalid::NegativeOffset { .. })));
}

#[test]
fn means_survive_sums_that_do_not() {
    let one = parse("{{count:1e308 sum:1e308 buckets:[1e308]}}");
    let mut mean = HistogramMean::new(one.clone());
    for _ in 0..4 {
        mean.add(&one).unwrap();
    }
    let mean = mean.total();
    assert!((mean.sum / 1e308 - 1.0).abs() < 1e-12 && (mean.positive[0] / 1e308 - 1.0).abs() < 1e-12);
    let mut sum = HistogramSum::new(parse("{{sum:1 buckets:[1]}}"));
    for text in ["{{sum:1e100 buckets:[1e100]}}", "{{sum:1 buckets:[1]}}", "{{sum:-1e100 buckets:[-1e100]}}"] {
        sum.add(&parse(text)).unwrap();
    }
    assert_eq!(sum.total().test_expression(), "{{sum:2 buckets:[2]}}");
}

fn counts() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(prop_oneof![1 => Just(0.0), 3 => (0_u32..20).prop_map(f64::from)], 0..9)
}

fn exponential() -> impl Strategy<Value = Histogram> {
    let side = || (-9..9_i32, counts(), prop::collection::vec(0..4_i32, 3));
    (-2..4_i32, side(), side(), 0..6_u32, prop::sample::select(vec![0.0, 0.001, 0.5, 1.0, 3.0])).prop_map(
        |(schema, (offset, positive, gaps), (negative_offset, negative, negative_gaps), zero_count, zero_threshold)| {
            let spans = |offset: i32, counts: &[f64], gaps: &[i32]| {
                let lengths = counts.chunks(3).map(|chunk| chunk.len() as u32);
                lengths
                    .enumerate()
                    .map(|(i, length)| Span { offset: if i == 0 { offset } else { gaps[i] }, length })
                    .collect::<Vec<_>>()
            };
            let total: f64 = positive.iter().chain(&negative).sum::<f64>() + f64::from(zero_count);
            Histogram {
                schema,
                zero_threshold,
                zero_count: f64::from(zero_count),
                count: total,
                sum: total / 3.0,
                positive_spans: spans(offset, &positive, &gaps),
                negative_spans: spans(negative_offset, &negative, &negative_gaps),
                positive,
                negative,
                ..Histogram::default()
            }
        },
    )
}

fn custom() -> impl Strategy<Value = Histogram> {
    (prop::collection::btree_set(-4..9_i32, 0..7), counts()).prop_map(|(bounds, mut positive)| {
        positive.truncate(bounds.len() + 1);
        Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: positive.iter().sum(),
            sum: 1.5,
            positive_spans: if positive.is_empty() {
                Vec::new()
            } else {
                vec![Span { offset: 0, length: positive.len() as u32 }]
            },
            positive,
            custom_bounds: bounds.into_iter().map(f64::from).collect(),
            ..Histogram::default()
        }
    })
}

/// Counts of a histogram's populated buckets by bounds, as text to be comparable.
fn by_bounds(histogram: &Histogram) -> BTreeMap<String, f64> {
    let populated = histogram.buckets().filter(|bucket| bucket.count != 0.0);
    populated.map(|bucket| (format!("{:?} {:?}", bucket.lower, bucket.upper), bucket.count)).collect()
}

proptest! {
    #[test]
    fn encoding_is_lossless(
        histogram in prop_oneof![exponential(), custom()], scale in prop::sample::select(vec![1.0, 0.3, -1.0, f64::NAN, 1e300]),
        hint in 0..4_usize, stale in any::<bool>(), cut in 0..40_usize,
    ) {
        let mut histogram = histogram;
        histogram.mul(scale);
        histogram.counter_reset_hint = [CounterResetHint::Unknown, CounterResetHint::Reset, CounterResetHint::NotReset, CounterResetHint::Gauge][hint];
        if stale {
            histogram.sum = crate::stale_nan();
        }
        let mut bytes = Vec::new();
        histogram.encode(&mut bytes);
        let length = bytes.len();
        bytes.extend([1, 2, 3]);
        let (back, read) = Histogram::decode(&bytes).unwrap();
        prop_assert_eq!(read, length);
        prop_assert!(back.is_same_data(&histogram) && back.positive_spans == histogram.positive_spans);
        prop_assert_eq!(back.counter_reset_hint, histogram.counter_reset_hint);
        prop_assert_eq!(back.custom_bounds, histogram.custom_bounds);
        prop_assert!(Histogram::decode(&bytes[..length.saturating_sub(1 + cut)]).is_err());
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Ok((histogram, _)) = Histogram::decode(&bytes) {
            let _consistent = histogram.validate();
            let _text = (histogram.to_string(), histogram.quantile(0.5), histogram.clone().compact().memory_bytes());
        }
    }

    #[test]
    fn nothing_gets_lost_in_a_sum(a in prop_oneof![exponential()], b in exponential(), c in exponential()) {
        let mut plain = a.clone();
        let mut compensated = HistogramSum::new(a.clone());
        for other in [&b, &c] {
            plain.add(other).unwrap();
            compensated.add(other).unwrap();
        }
        prop_assert_eq!(plain.count, a.count + b.count + c.count);
        plain.compact();
        let compensated = compensated.total();
        prop_assert!(plain.is_same_data(&compensated) || plain.sum != compensated.sum, "{} {}", plain, compensated);
        prop_assert_eq!(plain.schema, a.schema.min(b.schema).min(c.schema));
        prop_assert_eq!(by_bounds(&plain), by_bounds(&compensated));
        let mut difference = plain.clone();
        difference.sub(&c).unwrap();
        let mut expected = a.clone();
        expected.add(&b).unwrap();
        prop_assert_eq!(difference.count, expected.count);
    }

    #[test]
    fn sums_without_zero_buckets_are_sums_of_buckets(a in exponential(), b in exponential()) {
        let strip = |mut h: Histogram| { h.zero_threshold = 0.0; h.zero_count = 0.0; h };
        let (a, b) = (strip(a), strip(b));
        let schema = a.schema.min(b.schema);
        let mut expected = by_bounds(&a.at_schema(schema));
        for (bounds, count) in by_bounds(&b.at_schema(schema)) {
            *expected.entry(bounds).or_default() += count;
        }
        let mut sum = a.clone();
        sum.add(&b).unwrap();
        prop_assert_eq!(by_bounds(&sum), expected);
        let mut other_way = b.clone();
        other_way.add(&a).unwrap();
        prop_assert_eq!(by_bounds(&other_way), by_bounds(&sum));
        prop_assert!(!sum.detect_reset(&a) || a.schema < sum.schema);
    }

    #[test]
    fn custom_sums_are_sums_between_common_bounds(a in custom(), b in custom()) {
        let mut sum = a.clone();
        sum.add(&b).unwrap();
        let mut compensated = HistogramSum::new(a.clone());
        compensated.add(&b).unwrap();
        prop_assert_eq!(by_bounds(&sum), by_bounds(&compensated.total()));
        let upto = |h: &Histogram, bound: f64| h.buckets().filter(|bucket| bucket.upper <= bound).map(|bucket| bucket.count).sum::<f64>();
        for &bound in sum.custom_bounds.iter().chain(&[f64::INFINITY]) {
            prop_assert_eq!(upto(&sum, bound), upto(&a, bound) + upto(&b, bound));
        }
        prop_assert!(!sum.detect_reset(&a) && !sum.detect_reset(&b));
    }

    #[test]
    fn the_fraction_below_a_quantile_is_the_quantile(histogram in exponential(), q in 0.01..0.99_f64) {
        // Zero buckets that overlap others have two answers.
        let histogram = Histogram { zero_threshold: 0.0, zero_count: 0.0, count: histogram.count - histogram.zero_count, ..histogram };
        let value = histogram.quantile(q).value;
        if histogram.count > 0.0 {
            prop_assert!((histogram.fraction(f64::NEG_INFINITY, value).value - q).abs() < 1e-6, "{histogram} {value}");
        } else {
            prop_assert!(value.is_nan());
        }
    }

    #[test]
    fn compacting_and_printing_keep_buckets(histogram in prop_oneof![exponential(), custom()], limit in -9.0..9.0_f64) {
        let mut compact = histogram.clone();
        compact.compact();
        prop_assert_eq!(by_bounds(&compact), by_bounds(&histogram));
        prop_assert!(compact.positive.iter().all(|count| *count != 0.0));
        let read = parse(&histogram.test_expression());
        prop_assert_eq!(by_bounds(&read), by_bounds(&histogram));
        prop_assert!(histogram.validate().is_ok());
        let (mut below, mut above) = (histogram.clone(), histogram.clone());
        below.trim_upper(limit);
        above.trim_lower(limit);
        if !histogram.has_custom_buckets() {
            prop_assert!((below.count + above.count - histogram.count).abs() < 1e-6);
        }
    }
}

#[test]
fn bounds_are_shared_not_copied() {
    let bounds: Arc<[f64]> = Arc::from([1.0, 2.0]);
    let histogram = Histogram { schema: CUSTOM_BUCKETS_SCHEMA, custom_bounds: bounds.clone(), ..Histogram::default() };
    let mut sum = histogram.clone();
    sum.add(&histogram).unwrap();
    assert!(Arc::ptr_eq(&sum.custom_bounds, &bounds));
}
