//! Random PromQL that is mostly valid, and its reduction to the smallest query that still shows a difference.

use std::fmt;

/// Repeatable randomness (splitmix64).
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
    /// Where `@` times lie: seconds since the epoch, and how many seconds before it.
    end_s: i64,
}

/// How far `@` times go back.
const AT_SECONDS: usize = 7200;

impl Random {
    pub fn new(seed: u64) -> Random {
        Random { state: seed, end_s: 0 }
    }

    /// The same with `@` times before `end_ms`.
    pub fn before(seed: u64, end_ms: i64) -> Random {
        Random { state: seed, end_s: end_ms / 1000 }
    }

    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// In `[0, bound)`; 0 where `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next_u64() % bound.max(1) as u64) as usize
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Vector,
    Range,
    Scalar,
}

/// A node of a query: text with its operands in between, `texts[0] operand[0] texts[1] …`.
#[derive(Debug, Clone)]
pub struct Query {
    pub kind: Kind,
    texts: Vec<String>,
    operands: Vec<Query>,
}

impl fmt::Display for Query {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, text) in self.texts.iter().enumerate() {
            out.write_str(text)?;
            if let Some(operand) = self.operands.get(index) {
                operand.fmt(out)?;
            }
        }
        Ok(())
    }
}

impl Query {
    fn leaf(kind: Kind, text: String) -> Query {
        Query { kind, texts: vec![text], operands: Vec::new() }
    }

    /// `template` marks operands by `{}`.
    fn node(kind: Kind, template: &str, operands: Vec<Query>) -> Query {
        let texts: Vec<String> = template.split("{}").map(str::to_owned).collect();
        debug_assert_eq!(texts.len(), operands.len() + 1, "{template}");
        Query { kind, texts, operands }
    }

    /// Queries that are one step smaller: an operand in place of this node, or the same inside an operand.
    pub fn smaller(&self) -> Vec<Query> {
        let mut found: Vec<Query> = self.operands.iter().filter(|operand| operand.kind == self.kind).cloned().collect();
        for (index, operand) in self.operands.iter().enumerate() {
            for replacement in operand.smaller() {
                let mut copy = self.clone();
                copy.operands[index] = replacement;
                found.push(copy);
            }
        }
        found
    }
}

/// What the queries are about; every name is in the data set that the judge loads.
const METRICS: [&str; 13] = [
    "judge_requests_total",
    "judge_gauge",
    "judge_sparse",
    "judge_latency_bucket",
    "judge_constant",
    "judge_special",
    "judge_missing",
    "judge_native",
    "judge_custom",
    "judge_mixed",
    "judge_churn_total",
    "judge_sizes",
    "target_info",
];
const LABELS: [&str; 5] = ["job", "instance", "zone", "le", "pod"];
const MATCHERS: [&str; 11] = [
    "job=\"api\"",
    "job!=\"api\"",
    "job=~\"a.*|web\"",
    "instance!~\"i[0-2]\"",
    "zone=\"\"",
    "zone!=\"\"",
    "zone=~\"x?\"",
    "instance=\"i1\"",
    "instance=~\"i0|i3\"",
    "\"job\"=\"db\"",
    "le=~\"0.1|\\\\+Inf\"",
];
const WIDTHS: [&str; 12] =
    ["1m", "90s", "5m", "17m", "45s", "1h", "300", "5m*2", "max_of(1m, step())", "1m+step()", "10m/3", "2^9"];
const RANGE_FUNCTIONS: [&str; 28] = [
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "deriv",
    "changes",
    "resets",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "sum_over_time",
    "count_over_time",
    "last_over_time",
    "present_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "absent_over_time",
    "rate",
    "increase",
    "avg_over_time",
    "sum_over_time",
    "mad_over_time",
    "first_over_time",
    "ts_of_min_over_time",
    "ts_of_max_over_time",
    "ts_of_last_over_time",
    "ts_of_first_over_time",
];
/// Functions of one native histogram.
const HISTOGRAM_MAPS: [&str; 5] =
    ["histogram_count", "histogram_sum", "histogram_avg", "histogram_stddev", "histogram_stdvar"];
/// Functions over a range whose ends are interpolated (`smoothed`) or taken from outside (`anchored`).
const EXTENDED: [&str; 8] = [
    "rate({} anchored)",
    "increase({} anchored)",
    "delta({} anchored)",
    "changes({} anchored)",
    "resets({} anchored)",
    "rate({} smoothed)",
    "increase({} smoothed)",
    "delta({} smoothed)",
];
const MAPS: [&str; 34] = [
    "abs",
    "ceil",
    "floor",
    "exp",
    "ln",
    "log2",
    "log10",
    "sqrt",
    "sgn",
    "round",
    "sin",
    "cos",
    "tan",
    "asinh",
    "atan",
    "tanh",
    "deg",
    "rad",
    "minute",
    "hour",
    "day_of_week",
    "day_of_month",
    "days_in_month",
    "timestamp",
    "year",
    "acos",
    "asin",
    "acosh",
    "atanh",
    "sinh",
    "cosh",
    "month",
    "day_of_year",
    "timestamp",
];
const AGGREGATIONS: [&str; 8] = ["sum", "avg", "min", "max", "count", "stddev", "stdvar", "group"];
const NUMBERS: [&str; 10] = ["0", "1", "-1", "2.5", "0.001", "1e6", "NaN", "Inf", "-Inf", "3"];

/// A random query that yields `kind`; at most about `depth` levels.
pub fn random_query(random: &mut Random, kind: Kind, depth: usize) -> Query {
    match kind {
        Kind::Vector => vector(random, depth),
        Kind::Range => range(random, depth),
        Kind::Scalar => scalar(random, depth),
    }
}

fn modifiers(random: &mut Random) -> String {
    let mut text = String::new();
    if random.chance(15) {
        text.push_str(random.pick(&[
            " offset 5m",
            " offset -2m",
            " offset 37s",
            " offset 1h",
            " offset (1m + 2 * step())",
            " offset -(10s * 3)",
        ]));
    }
    match random.below(24) {
        0 => text.push_str(" @ start()"),
        1 => text.push_str(" @ end()"),
        2 => text.push_str(&format!(" @ {}", random.end_s - random.below(AT_SECONDS) as i64)),
        _ => {}
    }
    text
}

fn selector(random: &mut Random) -> String {
    if random.chance(2) {
        let name = random.pick(&["=~\"judge_(gauge|sparse)\"", "=\"judge_gauge\"", "=~\"judge_re.*\""]);
        return format!("{{__name__{name},{}}}", random.pick(&MATCHERS));
    }
    if random.chance(2) {
        return format!("{{\"{}\",{}}}", random.pick(&METRICS), random.pick(&MATCHERS));
    }
    let mut text = random.pick(&METRICS).to_owned();
    let matchers: Vec<&str> = (0..random.below(3)).map(|_| random.pick(&MATCHERS)).collect();
    if !matchers.is_empty() {
        text.push_str(&format!("{{{}}}", matchers.join(",")));
    }
    text
}

fn range(random: &mut Random, depth: usize) -> Query {
    if depth > 1 && random.chance(25) {
        let step = random.pick(&["", "15s", "1m", "7s", "15s*2"]);
        let width = random.pick(&["3m", "10m", "31m", "2m*3"]);
        let template = format!("({{}})[{width}:{step}]{}", modifiers(random));
        let inner = vector(random, depth - 1);
        return Query::node(Kind::Range, &template, vec![inner]);
    }
    let (selector, width, modifiers) = (selector(random), random.pick(&WIDTHS), modifiers(random));
    Query::leaf(Kind::Range, format!("{selector}[{width}]{modifiers}"))
}

fn scalar(random: &mut Random, depth: usize) -> Query {
    match random.below(if depth > 1 { 9 } else { 3 }) {
        0 | 1 => Query::leaf(Kind::Scalar, random.pick(&NUMBERS).to_owned()),
        2 => {
            let calls = ["time()", "time()", "pi()", "start()", "end()", "step()", "range()", "(time() % 7)", "1m30s"];
            Query::leaf(Kind::Scalar, random.pick(&calls).to_owned())
        }
        3 => {
            let template = random.pick(&["min_of({}, {})", "max_of({}, {})"]);
            let (left, right) = (scalar(random, depth - 1), scalar(random, depth - 1));
            Query::node(Kind::Scalar, template, vec![left, right])
        }
        4 => {
            let operator = random.pick(&["== bool", "< bool", ">= bool", "atan2"]);
            let (left, right) = (scalar(random, depth - 1), scalar(random, depth - 1));
            Query::node(Kind::Scalar, &format!("({{}} {operator} {{}})"), vec![left, right])
        }
        5 => Query::node(Kind::Scalar, "-({})", vec![scalar(random, depth - 1)]),
        6 => {
            let inner = vector(random, depth - 1);
            Query::node(Kind::Scalar, "scalar({})", vec![inner])
        }
        _ => {
            let operator = random.pick(&["+", "-", "*", "/", "%", "^"]);
            let (left, right) = (scalar(random, depth - 1), scalar(random, depth - 1));
            Query::node(Kind::Scalar, &format!("({{}} {operator} {{}})"), vec![left, right])
        }
    }
}

fn label_list(random: &mut Random) -> String {
    let labels: Vec<&str> = LABELS.iter().copied().filter(|_| random.chance(45)).collect();
    labels.join(", ")
}

fn vector(random: &mut Random, depth: usize) -> Query {
    if depth <= 1 {
        let text = selector(random) + &modifiers(random);
        return Query::leaf(Kind::Vector, text);
    }
    match random.below(26) {
        0 | 1 => Query::leaf(Kind::Vector, selector(random) + &modifiers(random)),
        2..=5 => {
            let inner = range(random, depth - 1);
            match random.below(14) {
                0 => Query::node(Kind::Vector, "quantile_over_time({}, {})", vec![scalar(random, 1), inner]),
                1 => Query::node(Kind::Vector, "predict_linear({}, {})", vec![inner, scalar(random, 1)]),
                2 => {
                    let factors = random.pick(&["0.5, 0.5", "0.1, 0.9", "0.3, 0.01", "1.5, 0.5"]);
                    let template = format!("double_exponential_smoothing({{}}, {factors})");
                    Query::node(Kind::Vector, &template, vec![inner])
                }
                3 => Query::node(Kind::Vector, "quantile_over_time({}, {})", vec![scalar(random, depth - 1), inner]),
                _ => Query::node(Kind::Vector, &format!("{}({{}})", random.pick(&RANGE_FUNCTIONS)), vec![inner]),
            }
        }
        6 | 7 => {
            let inner = vector(random, depth - 1);
            match random.below(8) {
                0 => Query::node(Kind::Vector, "clamp_min({}, {})", vec![inner, scalar(random, depth - 1)]),
                1 => Query::node(Kind::Vector, "clamp({}, -1, {})", vec![inner, scalar(random, depth - 1)]),
                2 => Query::node(Kind::Vector, "round({}, {})", vec![inner, scalar(random, 1)]),
                _ => Query::node(Kind::Vector, &format!("{}({{}})", random.pick(&MAPS)), vec![inner]),
            }
        }
        8..=11 => {
            let inner = vector(random, depth - 1);
            let grouping = match random.below(3) {
                0 => String::new(),
                1 => format!(" by ({})", label_list(random)),
                _ => format!(" without ({})", label_list(random)),
            };
            match random.below(14) {
                12 => {
                    let operator = random.pick(&["topk", "bottomk", "limitk", "quantile", "limit_ratio"]);
                    let template = format!("{operator}{grouping} ({{}}, {{}})");
                    Query::node(Kind::Vector, &template, vec![scalar(random, depth - 1), inner])
                }
                3 => Query::node(Kind::Vector, &format!("limitk{grouping} (2, {{}})"), vec![inner]),
                4 => {
                    let ratio = random.pick(&["0.5", "-0.5", "0.1", "1", "-1"]);
                    Query::node(Kind::Vector, &format!("limit_ratio{grouping} ({ratio}, {{}})"), vec![inner])
                }
                0 => {
                    let template = format!("quantile{grouping} ({{}}, {{}})");
                    Query::node(Kind::Vector, &template, vec![scalar(random, 1), inner])
                }
                1 => {
                    let operator = random.pick(&["topk", "bottomk"]);
                    Query::node(Kind::Vector, &format!("{operator}{grouping} (2, {{}})"), vec![inner])
                }
                2 => Query::node(Kind::Vector, &format!("count_values{grouping} (\"v\", {{}})"), vec![inner]),
                _ => {
                    let operator = random.pick(&AGGREGATIONS);
                    Query::node(Kind::Vector, &format!("{operator}{grouping} ({{}})"), vec![inner])
                }
            }
        }
        12 | 13 => {
            let operator = random
                .pick(&["+", "-", "*", "/", "%", "^", "==", "!=", ">", "<", ">=", "<=", "> bool", "== bool", "atan2"]);
            let (one, other) = (vector(random, depth - 1), scalar(random, depth - 1));
            let operands = if random.chance(50) { vec![one, other] } else { vec![other, one] };
            Query::node(Kind::Vector, &format!("({{}} {operator} {{}})"), operands)
        }
        14 | 15 => {
            let operator = random
                .pick(&["+", "-", "*", "/", "==", "!=", ">", "<=", "> bool", "== bool", "!= bool", "%", "^", "atan2"]);
            let matching = match random.below(6) {
                0 => " on (job, instance)".to_owned(),
                4 => " ignoring (zone, le) group_left (zone)".to_owned(),
                1 => " ignoring (zone, le)".to_owned(),
                2 => " on (instance) group_left ()".to_owned(),
                3 => format!(" on (job, instance) group_right ({})", random.pick(&["", "zone"])),
                _ => String::new(),
            };
            let set_free = !matching.contains("group");
            let fill = match random.below(8) {
                0 if set_free => {
                    random.pick(&[" fill (0)", " fill_left (1)", " fill_right (NaN)", " fill_left (2) fill_right (3)"])
                }
                0 => random.pick(&[" fill (0)", " fill_left (1)", " fill_right (-1)"]),
                _ => "",
            };
            let matching = matching + fill;
            let (left, right) = (vector(random, depth - 1), vector(random, depth - 1));
            Query::node(Kind::Vector, &format!("({{}} {operator}{matching} {{}})"), vec![left, right])
        }
        16 => {
            let operator = random.pick(&["and", "or", "unless"]);
            let matching = random.pick(&["", " on (job)", " ignoring (instance)", " on ()"]);
            let (left, right) = (vector(random, depth - 1), vector(random, depth - 1));
            Query::node(Kind::Vector, &format!("({{}} {operator}{matching} {{}})"), vec![left, right])
        }
        17 => {
            let inner = vector(random, depth - 1);
            let phi = random.pick(&["0.5", "0.9", "0.99", "0", "1", "-1", "2", "NaN"]);
            let buckets = random.pick(&["rate(judge_latency_bucket[5m])", "judge_latency_bucket"]);
            match random.below(3) {
                0 => Query::node(Kind::Vector, &format!("histogram_quantile({phi}, {{}})"), vec![inner]),
                1 => Query::leaf(Kind::Vector, format!("histogram_quantile({phi}, sum by (le, job) ({buckets}))")),
                _ => Query::leaf(Kind::Vector, format!("histogram_quantile({phi}, {buckets})")),
            }
        }
        18 => {
            let inner = vector(random, depth - 1);
            let template = random.pick(&[
                "label_replace({}, \"zone\", \"$1-x\", \"instance\", \"i(.*)\")",
                "label_replace({}, \"job\", \"\", \"job\", \"web\")",
                "label_join({}, \"zone\", \"/\", \"job\", \"instance\")",
                "absent({})",
                "-({})",
                "absent_over_time(({})[5m:1m])",
                "label_replace({}, \"__name__\", \"other\", \"job\", \"api\")",
                "label_join({}, \"new\", \"-\", \"zone\", \"job\", \"missing\")",
                "sort({})",
                "sort_desc({})",
                "sort_by_label({}, \"instance\")",
                "sort_by_label_desc({}, \"job\", \"instance\")",
                "sort_by_label({}, \"le\", \"job\")",
            ]);
            Query::node(Kind::Vector, template, vec![inner])
        }
        19 | 20 => native(random, depth),
        21 => {
            // The modifier stands on the selector itself.
            let (selector, width) = (selector(random), random.pick(&WIDTHS));
            let text = random.pick(&EXTENDED).replace("{}", &format!("{selector}[{width}]"));
            Query::leaf(Kind::Vector, text)
        }
        22 | 23 => {
            let described = vector(random, depth - 1);
            let template = random.pick(&[
                "info({})",
                "info({}, {version=~\".+\"})",
                "info({}, {version=\"1.0\"})",
                "info({}, {zone=~\"x|y\"})",
                "info({}, {__name__=\"build_info\"})",
                "info({}, {__name__=~\"(target|build)_info\"})",
                "info({}, {__name__=~\".+_info\", revision!=\"r1\"})",
            ]);
            // Braces of the template are not operands.
            let (before, after) = template.split_once("{}").unwrap_or((template, ""));
            let texts = vec![before.to_owned(), after.to_owned()];
            Query { kind: Kind::Vector, texts, operands: vec![described] }
        }
        24 => {
            let metric = random.pick(&["judge_gauge", "judge_requests_total", "judge_sparse", "judge_constant"]);
            Query::leaf(Kind::Vector, format!("{metric} smoothed"))
        }
        _ => {
            let inner = scalar(random, depth - 1);
            Query::node(Kind::Vector, "vector({})", vec![inner])
        }
    }
}

/// What is asked of native histograms: their numbers, their quantiles, cutting them, and their arithmetic.
fn native(random: &mut Random, depth: usize) -> Query {
    let metric = random.pick(&["judge_native", "judge_custom", "judge_mixed", "judge_sizes"]);
    let histograms = match random.below(5) {
        0 => Query::leaf(Kind::Vector, metric.to_owned()),
        1 => Query::leaf(Kind::Vector, format!("rate({metric}[{}])", random.pick(&WIDTHS))),
        2 => Query::leaf(Kind::Vector, format!("sum by (job) (rate({metric}[5m]))")),
        3 => {
            Query::leaf(Kind::Vector, format!("avg without (instance) (increase({metric}[{}]))", random.pick(&WIDTHS)))
        }
        _ => vector(random, depth - 1),
    };
    let number = random.pick(&NUMBERS);
    let template = match random.below(10) {
        9 => "histogram_quantiles({}, \"q\", 0.1, 0.5, 0.99)".to_owned(),
        0 | 1 => format!("histogram_quantile({}, {{}})", random.pick(&["0.5", "0.9", "0", "1", "0.01", "-1", "2"])),
        2 => format!("histogram_fraction({}, {})", random.pick(&["0, 1", "-Inf, 0.5", "-1, +Inf", "1, 0"]), "{}"),
        3 => format!("({{}} {} {number})", random.pick(&["*", "/", "+"])),
        4 => format!("({{}} {} {})", random.pick(&["</", ">/"]), random.pick(&["0", "0.5", "1", "3.3", "-1", "+Inf"])),
        5 => "-({})".to_owned(),
        _ => format!("{}({{}})", random.pick(&HISTOGRAM_MAPS)),
    };
    if random.chance(15) {
        let operator = random.pick(&["+", "-", "==", "!=", "and", "or"]);
        let metrics = ["judge_native", "judge_custom", "judge_mixed", "judge_sizes"];
        let other = Query::leaf(Kind::Vector, random.pick(&metrics).to_owned());
        return Query::node(Kind::Vector, &format!("({{}} {operator} {{}})"), vec![histograms, other]);
    }
    Query::node(Kind::Vector, &template, vec![histograms])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_queries_and_reduction_ends() {
        for seed in 0..200 {
            let make = || random_query(&mut Random::new(seed), Kind::Vector, 5);
            let mut query = make();
            assert_eq!(query.to_string(), make().to_string());
            let mut steps = 0;
            while let Some(next) = query.smaller().pop() {
                query = next;
                steps += 1;
                assert!(steps < 1000);
            }
        }
    }
}
