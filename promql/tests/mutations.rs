//! Queries of the scripts, mutated: what the fuzz targets of `promql/fuzz` check, without a fuzzer. More of them with
//! `PROMQL_MUTATIONS=1000000` and another `PROMQL_SEED`.

#[path = "../fuzz/fuzz_targets/check_evaluation.rs"]
mod check_evaluation;
#[path = "../fuzz/fuzz_targets/check_parsing.rs"]
mod check_parsing;

mod script_files;

use std::path::PathBuf;

use pilaster_promql::parser::{ParseOptions, parse};
use script_files::{prometheus_scripts, scripts_in};

/// What is put into queries.
const PIECES: [&str; 42] = [
    "x",
    "y",
    "h",
    "{__name__=~\"x|h\"}",
    "x[5m]",
    "h[5m]",
    "x[5m:1m]",
    "(",
    ")",
    "\"",
    "@",
    "offset",
    "[",
    "]",
    "{",
    "}",
    "^",
    "-",
    "1e3",
    "NaN",
    "\\",
    "\u{e9}",
    "#",
    "\n",
    "by",
    "on",
    ":",
    "5m",
    "step()",
    "=~",
    "sum(",
    "rate(",
    "info(",
    "smoothed",
    "anchored",
    "fill(0)",
    "\"\\xff\"",
    "'",
    "`",
    "0x",
    ">/",
    "histogram_quantile(0.5,",
];

/// Names in the scripts that stand for series of ours.
const NAMES: [&str; 10] =
    ["metric", "http_requests", "http_requests_total", "test", "foo", "bar", "data", "some_metric", "left", "right"];

/// Repeatable randomness (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as usize % bound
    }

    fn pick<'a>(&mut self, from: &'a [impl AsRef<str>]) -> &'a str {
        from[self.below(from.len())].as_ref()
    }

    /// A position between characters.
    fn cut(&mut self, text: &str) -> usize {
        let at = self.below(text.len() + 1);
        (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
    }
}

/// The queries of all scripts at hand.
fn corpus() -> Vec<String> {
    let paths: Vec<PathBuf> = scripts_in("tests/scripts").into_iter().chain(prometheus_scripts()).flatten().collect();
    let texts = paths.iter().filter_map(|path| std::fs::read_to_string(path).ok());
    let query = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let before = if words.get(1) == Some(&"instant") { 4 } else { 8 };
        words.get(before..).map(|query| query.join(" "))
    };
    texts
        .flat_map(|text| text.lines().filter(|line| line.starts_with("eval")).filter_map(query).collect::<Vec<_>>())
        .collect()
}

fn mutate(text: &mut String, corpus: &[String], random: &mut Random) {
    let (one, other) = (random.cut(text), random.cut(text));
    let (start, end) = (one.min(other), one.max(other).min(one.min(other) + 8));
    let end = (end..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    match random.below(5) {
        0 => text.insert_str(start, random.pick(&PIECES)),
        1 => text.replace_range(start..end, ""),
        2 => text.replace_range(start..end, random.pick(&PIECES)),
        3 => {
            let tail = random.pick(corpus);
            let cut = random.cut(tail);
            text.truncate(start);
            text.push_str(&tail[cut..]);
        }
        _ => {
            text.push_str(random.pick(&[" + ", " or ", ",", " "]));
            text.push_str(random.pick(corpus));
        }
    }
}

/// `text` about series that exist.
fn about_ours(text: &str, random: &mut Random) -> String {
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let mut query = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|character: char| is_word(character) != is_word(first)).unwrap_or(rest.len());
        let (piece, tail) = rest.split_at(end);
        query.push_str(if NAMES.contains(&piece) { random.pick(&["x", "h", "y"]) } else { piece });
        rest = tail;
    }
    query
}

#[test]
fn mutated_queries_neither_panic_nor_depend_on_tiles() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (count, seed) = (number("PROMQL_MUTATIONS").unwrap_or(5_000), number("PROMQL_SEED").unwrap_or(1));
    let corpus = corpus();
    let mut random = Random(seed);
    let mut evaluated = 0;
    for nth in 0..count {
        let mut text = random.pick(&corpus).to_owned();
        for _ in 0..random.below(5) {
            mutate(&mut text, &corpus, &mut random);
        }
        check_parsing::check_parsing(&text);
        if nth % 4 == 0 && text.len() < 300 && parse(&text, &ParseOptions::all()).is_ok() {
            check_evaluation::check_evaluation(&about_ours(&text, &mut random));
            evaluated += 1;
        }
    }
    println!("{count} texts, {evaluated} evaluated");
    assert!(evaluated > 0);
}
