//! Printing and parsing are each other's inverse, and no text makes the parser panic.

use pilaster_promql::ast_json::ast_json;
use pilaster_promql::parser::{ParseOptions, parse, parse_selector};
use pilaster_promql::pretty::pretty;
use pilaster_promql::promqltest::parse_script;
use pilaster_promql::promqltest::series::{parse_series, parse_values};
use proptest::prelude::*;

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<u32>().prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| n.to_string()),
        prop::sample::select(vec!["Inf", "NaN", "0x1F", "1e-3", "1_000", ".5", "017"]).prop_map(str::to_owned),
    ]
}

fn duration() -> impl Strategy<Value = String> {
    prop_oneof![
        (1u32..100, prop::sample::select(vec!["ms", "s", "m", "h", "d", "w"]))
            .prop_map(|(n, unit)| format!("{n}{unit}")),
        (1u32..50, 1u32..59).prop_map(|(h, m)| format!("{h}h{m}m")),
        (1u32..5000).prop_map(|seconds| seconds.to_string()),
    ]
}

fn computed_duration() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![duration(), Just("step()".to_owned()), Just("range()".to_owned())];
    leaf.prop_recursive(3, 12, 2, |inner| {
        prop_oneof![
            (inner.clone(), prop::sample::select(vec!["+", "-", "*", "^"]), inner.clone())
                .prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("max_of({a}, {b})")),
            inner.clone().prop_map(|a| format!("({a})")),
            inner.prop_map(|a| format!("-{a}")),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z_:][a-zA-Z0-9_:]{0,6}"
            .prop_filter("no number", |name| { !["inf", "nan"].contains(&name.to_ascii_lowercase().as_str()) }),
        prop::sample::select(vec!["sum", "offset", "step", "anchored", "by", "unless", "start"])
            .prop_map(str::to_owned),
    ]
}

fn string() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z.*|]{0,5}".prop_map(|text| format!("{text:?}")),
        any::<String>().prop_map(|text| pilaster_promql::parser::quote::quote(&text.replace('\u{fffd}', ""))),
        Just(r#""\xff\u00e9\n""#.to_owned()),
    ]
}

fn matcher() -> impl Strategy<Value = String> {
    let op = prop::sample::select(vec!["=", "!="]);
    let label = prop_oneof!["[a-z_][a-z0-9_]{0,4}".prop_map(|label| label.to_string()), string()];
    prop_oneof![
        (label, op, string()).prop_map(|(label, op, value)| format!("{label}{op}{value}")),
        ("[a-z]{1,4}", prop::sample::select(vec!["=~", "!~"]), "[a-z.*|]{0,4}")
            .prop_filter("a regex", |(_, _, regex)| !regex.contains("**")
                && !regex.starts_with('*')
                && !regex.contains("|*"))
            .prop_map(|(label, op, regex)| format!("{label}{op}{regex:?}")),
    ]
}

fn at_and_offset() -> impl Strategy<Value = String> {
    let at = prop_oneof![
        Just(String::new()),
        (-100_000i64..100_000).prop_map(|t| format!(" @ {}.{:03}", t / 1000, t.rem_euclid(1000))),
        Just(" @ start()".to_owned()),
        Just(" @ end()".to_owned()),
    ];
    let offset = prop_oneof![
        Just(String::new()),
        duration().prop_map(|d| format!(" offset {d}")),
        duration().prop_map(|d| format!(" offset -{d}")),
        computed_duration().prop_map(|d| format!(" offset ({d})")),
    ];
    // Printing puts `offset` last, and what is in parentheses there takes the operators behind it.
    (at, offset, any::<bool>()).prop_map(
        |(at, offset, swap)| {
            if swap && !offset.contains('(') { offset + &at } else { at + &offset }
        },
    )
}

fn selector() -> impl Strategy<Value = String> {
    let matchers = prop::collection::vec(matcher(), 0..3).prop_map(|matchers| matchers.join(", ")).boxed();
    prop_oneof![
        (name(), matchers.clone()).prop_map(|(name, matchers)| format!("{name}{{{matchers}}}")),
        name(),
        matchers.prop_map(|matchers| format!("{{\"a.b\", {matchers}}}")),
    ]
}

fn labels() -> impl Strategy<Value = String> {
    prop::collection::vec(prop_oneof!["[a-z_]{1,4}".prop_map(|l| l.to_string()), Just("\"c.d\"".to_owned())], 0..3)
        .prop_map(|labels| labels.join(", "))
}

fn vector() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        (selector(), at_and_offset()).prop_map(|(selector, modifiers)| selector + &modifiers),
        (selector(), computed_duration(), at_and_offset())
            .prop_map(|(selector, range, modifiers)| format!("rate({selector}[{range}]{modifiers})")),
        (selector(), duration(), prop::sample::select(vec!["anchored", "smoothed"]))
            .prop_map(|(selector, range, extension)| format!("increase({selector}[{range}] {extension})")),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let op = prop::sample::select(vec![
            "+", "-", "*", "/", "%", "^", "atan2", "==", "!=", ">", "<", ">=", "<=", "and", "or", "unless", ">/", "</",
        ]);
        let compare = prop::sample::select(vec!["== bool", "> bool"]);
        prop_oneof![
            (inner.clone(), op, inner.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            (inner.clone(), compare, number()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            (inner.clone(), labels(), labels(), inner.clone())
                .prop_map(|(a, on, include, b)| format!("{a} * ignoring ({on}) group_left ({include}) {b}")),
            (inner.clone(), labels(), number(), inner.clone())
                .prop_map(|(a, on, fill, b)| format!("{a} / on ({on}) fill_right ({fill}) fill_left (-1e-9) {b}")),
            (prop::sample::select(vec!["sum", "avg", "group"]), labels(), inner.clone())
                .prop_map(|(op, labels, a)| format!("{op} by ({labels}) ({a})")),
            (labels(), number(), inner.clone()).prop_map(|(labels, k, a)| format!("topk({k}, {a}) without ({labels})")),
            (inner.clone(), duration(), duration(), at_and_offset())
                .prop_map(|(a, range, step, modifiers)| format!("max_over_time(({a})[{range}:{step}]{modifiers})")),
            (inner.clone(), string(), string()).prop_map(|(a, s, t)| format!("label_join({a}, {s}, {t}, \"x\")")),
            inner.clone().prop_map(|a| format!("-{a}")),
            inner.prop_map(|a| format!("({a})")),
        ]
    })
}

/// Printing sorts matchers.
fn normal(mut value: serde_json::Value) -> serde_json::Value {
    match &mut value {
        serde_json::Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                *field = normal(field.take());
                if let (true, Some(matchers)) = (name == "matchers", field.as_array_mut()) {
                    matchers.sort_by_key(|matcher| matcher.to_string());
                }
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| *item = normal(item.take())),
        _ => {}
    }
    value
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_printed_query_is_the_same_query(text in vector()) {
        let options = ParseOptions::all();
        // A few are refused for what they mean, such as a negative range.
        let parsed = parse(&text, &options);
        prop_assume!(parsed.is_ok());
        let expr = parsed.expect("checked above");
        let printed = expr.to_string();
        let again = parse(&printed, &options).map_err(|error| TestCaseError::fail(format!("{printed}: {error}")))?;
        prop_assert_eq!(&again.to_string(), &printed);
        prop_assert_eq!(normal(ast_json(&again)), normal(ast_json(&expr)), "{} and {}", text, printed);
        let laid_out = parse(&pretty(&expr), &options).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(laid_out.to_string(), printed);
    }

    #[test]
    fn positions_lie_in_the_text(text in vector()) {
        let parsed = parse(&text, &ParseOptions::all());
        prop_assume!(parsed.is_ok());
        let expr = parsed.expect("checked above");
        let mut open = vec![&expr];
        while let Some(expr) = open.pop() {
            prop_assert!(expr.span.start < expr.span.end && expr.span.end <= text.len());
            prop_assert!(text.is_char_boundary(expr.span.start) && text.is_char_boundary(expr.span.end));
            open.extend(expr.children());
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = parse(&text, &ParseOptions::all());
        let _ = parse_selector(&text);
        let _ = parse_series(&text);
        let _ = parse_values(&text);
        let _ = parse_script(&text);
    }

    #[test]
    fn no_tokens_panic(tokens in prop::collection::vec(prop::sample::select(vec![
        "foo", "sum", "5m", "1", "(", ")", "[", "]", ":", "{", "}", ",", "offset", "@", "-", "+", "*", "step", "max_of",
        "start", "by", "on", "\"s\"", "=", "=~", "and", "bool", "rate", "==", "^", "anchored", "group_left", "fill", "é",
        "topk", "\n", "#", "'", "\\", "0x", "1e", ".", "`", "{{", "}}", "_x", "stale", "load", "eval", " ", "\u{10ffff}",
    ]), 0..24), gap in prop::sample::select(vec!["", " "])) {
        let text = tokens.join(gap);
        if let Ok(expr) = parse(&text, &ParseOptions::all()) {
            let _ = (pretty(&expr), ast_json(&expr));
        }
        let _ = parse_selector(&text);
        let _ = parse_series(&text);
        let _ = parse_script(&text);
    }
}
