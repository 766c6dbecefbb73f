//! What must hold for any text, whoever makes it up: the fuzzer, or the test that mutates the queries of scripts.

use pilaster_promql::ast_json::ast_json;
use pilaster_promql::parser::{ParseOptions, parse};
use pilaster_promql::pretty::pretty;

/// Parsing `text` does not panic, and what parses prints to text that parses and prints the same.
pub fn check_parsing(text: &str) {
    let options = ParseOptions::all();
    let Ok(expr) = parse(text, &options) else { return };
    let _ = ast_json(&expr);
    // Matchers are printed in order, so the trees themselves may differ.
    for printed in [expr.to_string(), pretty(&expr)] {
        let again = parse(&printed, &options).unwrap_or_else(|error| panic!("{text:?} as {printed:?}: {error}"));
        assert_eq!(again.to_string(), expr.to_string(), "{text:?} printed as {printed:?}");
    }
}
