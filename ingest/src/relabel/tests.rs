use pilaster_model::Labels;

use super::*;
use crate::config::ValidationScheme;
use crate::config::yaml::{self, FromYaml};

fn rules(text: &str) -> Result<Vec<RelabelConfig>, crate::config::Error> {
    let mut rules = Vec::<RelabelConfig>::from_yaml(&yaml::parse(text)?)?;
    for rule in &mut rules {
        rule.validate(ValidationScheme::Utf8)?;
    }
    Ok(rules)
}

/// `labels` and `expected` are `name=value` pairs separated by spaces; `None` means dropped.
fn check(labels: &str, text: &str, expected: Option<&str>) {
    let parse = |pairs: &str| {
        Labels::from_pairs(pairs.split_whitespace().map(|pair| pair.split_once('=').expect("name=value")))
    };
    let mut builder = parse(labels).to_builder();
    let kept = process(&mut builder, &rules(text).unwrap());
    assert_eq!(kept.then(|| builder.build()), expected.map(parse), "{labels} with {text}");
}

#[test]
fn replace() {
    check(
        "a=web1",
        "[{source_labels: [a], regex: 'w(.*)', target_label: d, replacement: 'x${1}-$1'}]",
        Some("a=web1 d=xeb1-eb1"),
    );
    check("a=web b=db", "[{source_labels: [a, b], target_label: c}]", Some("a=web b=db c=web;db"));
    check("a=web b=db", "[{source_labels: [a, b], separator: '', target_label: c}]", Some("a=web b=db c=webdb"));
    check("a=web", "[{source_labels: [a], regex: nothing, target_label: b, replacement: x}]", Some("a=web"));
    check("a=web", "[{target_label: b, replacement: x}]", Some("a=web b=x"));
    check("a=web b=x", "[{target_label: b, replacement: ''}]", Some("a=web"));
    // A group that did not take part is empty, and an empty value removes the label.
    check("a=web w=1", "[{source_labels: [a], regex: '(w).*', target_label: $1, replacement: $2}]", Some("a=web"));
    check(
        "a=k-v",
        "[{source_labels: [a], regex: '(.+)-(.+)', target_label: '${1}', replacement: '${2}'}]",
        Some("a=k-v k=v"),
    );
    // An empty target is no label.
    check(
        "a=k-v",
        "[{source_labels: [a], regex: '(.+)-(.+)', target_label: '${3}', replacement: '${2}'}]",
        Some("a=k-v"),
    );
    check(
        "a=xy",
        "[{source_labels: [a], regex: '(?P<one>x)(?<two>y)', target_label: b, replacement: '$two${one}'}]",
        Some("a=xy b=yx"),
    );
    check("a=x", "[{source_labels: [a], target_label: b.c, replacement: 'p$1q'}]", Some("a=x b.c=p"));
    check("a=x", "[{source_labels: [a], target_label: b, replacement: 'p${1}q'}]", Some("a=x b=pxq"));
}

#[test]
fn keep_and_drop() {
    check("a=web", "[{action: keep, source_labels: [a], regex: 'w.*'}]", Some("a=web"));
    // Anchored: a part is not enough.
    check("a=web", "[{action: keep, source_labels: [a], regex: 'w|b'}]", None);
    check("a=web", "[{action: drop, source_labels: [a], regex: 'w'}]", Some("a=web"));
    check("a=web", "[{action: Drop, source_labels: [a], regex: '.*e.*'}]", None);
    check("a=web", "[{action: drop, source_labels: [missing], regex: ''}]", None);
    check("a=1 b=1 c=2", "[{action: keepequal, source_labels: [a], target_label: b}]", Some("a=1 b=1 c=2"));
    check("a=1 b=1 c=2", "[{action: keepequal, source_labels: [a], target_label: c}]", None);
    check("a=1 b=1 c=2", "[{action: dropequal, source_labels: [a], target_label: c}]", Some("a=1 b=1 c=2"));
    check("a=1 b=1 c=2", "[{action: dropequal, source_labels: [a], target_label: b}]", None);
}

#[test]
fn dot_matches_newline() {
    let mut builder = Labels::from_pairs([("a", "x\ny")]).to_builder();
    assert!(process(&mut builder, &rules("[{action: keep, source_labels: [a], regex: 'x.y'}]").unwrap()));
}

#[test]
fn hashmod_is_the_end_of_md5() {
    // The end of md5("baz") is e44cf984c85f6e88.
    check("c=baz", "[{action: hashmod, source_labels: [c], target_label: d, modulus: 1000}]", Some("c=baz d=976"));
    assert_eq!(0xe44c_f984_c85f_6e88_u64 % 1000, 976);
}

#[test]
fn maps_of_names() {
    let labels = "a=0 __meta_x=1 __meta_y=2";
    check(labels, "[{action: labelmap, regex: '__meta_(.+)'}]", Some("a=0 __meta_x=1 __meta_y=2 x=1 y=2"));
    check(
        labels,
        "[{action: labelmap, regex: '__meta_(.+)', replacement: 'p_$1'}]",
        Some("a=0 __meta_x=1 __meta_y=2 p_x=1 p_y=2"),
    );
    check(labels, "[{action: labeldrop, regex: '__meta_.+'}]", Some("a=0"));
    check(labels, "[{action: labelkeep, regex: '__meta_.+'}]", Some("__meta_x=1 __meta_y=2"));
}

#[test]
fn letter_case() {
    check(
        "a=aBc",
        "[{action: uppercase, source_labels: [a], target_label: u}, {action: lowercase, source_labels: [a], target_label: l}]",
        Some("a=aBc l=abc u=ABC"),
    );
}

#[test]
fn rules_apply_in_order() {
    check(
        "__tags=path:/secret,job:some,label:k=v",
        "[{source_labels: [__tags], regex: '(?:.+,|^)path:(/[^,]+).*', target_label: __metrics_path__},
          {source_labels: [__tags], regex: '(?:.+,|^)job:([^,]+).*', target_label: job},
          {source_labels: [__tags], regex: '(?:.+,|^)label:([^=]+)=([^,]+).*', target_label: '${1}', replacement: '${2}'},
          {action: labeldrop, regex: __tags}]",
        Some("__metrics_path__=/secret job=some k=v"),
    );
}

#[test]
fn refusals() {
    for (text, message) in [
        ("[{action: hop}]", "unknown relabel action \"hop\""),
        ("[{source_labels: [a]}]", "relabel configuration for replace action requires 'target_label' value"),
        ("[{action: hashmod, target_label: a}]", "relabel configuration for hashmod requires non-zero modulus"),
        ("[{action: hashmod, modulus: 2}]", "relabel configuration for hashmod action requires 'target_label' value"),
        ("[{action: lowercase, target_label: a, replacement: b}]", "'replacement' can not be set for lowercase action"),
        (
            "[{action: keepequal, target_label: a, regex: b}]",
            "keepequal action requires only 'source_labels' and `target_label`, and no other fields",
        ),
        ("[{action: labeldrop, source_labels: [a]}]", "labeldrop action requires only 'regex', and no other fields"),
        ("[{action: labelkeep, modulus: 5}]", "labelkeep action requires only 'regex', and no other fields"),
        ("[{action: labelmap, replacement: ''}]", "\"\" is invalid 'replacement' for labelmap action"),
        ("[{source_labels: a}]", "yaml: unmarshal errors:\n  line 1: cannot unmarshal !!str `a` into model.LabelNames"),
        ("[{nope: a}]", "yaml: unmarshal errors:\n  line 1: field nope not found in type relabel.plain"),
    ] {
        assert_eq!(rules(text).unwrap_err().to_string(), message, "{text}");
    }
    assert!(rules("[{regex: '('}]").unwrap_err().to_string().starts_with("error parsing regexp: "));
}

#[test]
fn legacy_names() {
    for (text, legal) in [
        ("{source_labels: [a], target_label: 'b.c'}", false),
        ("{source_labels: [a], target_label: 'b_$1'}", true),
        ("{source_labels: [a], target_label: '${1}b'}", true),
        ("{source_labels: [a], target_label: '${1'}", false),
        ("{source_labels: [a], target_label: '1$1'}", false),
        ("{source_labels: [a], target_label: '$'}", false),
        ("{action: labelmap, replacement: 'a b'}", false),
        ("{action: lowercase, source_labels: [a], target_label: '1a'}", false),
    ] {
        let mut rule = RelabelConfig::from_yaml(&yaml::parse(text).unwrap()).unwrap();
        assert_eq!(rule.validate(ValidationScheme::Legacy).is_ok(), legal, "{text}");
    }
}
