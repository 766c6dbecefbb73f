//! SQL filters as matchers and time ranges.
//!
//! A label that a series lacks is NULL in SQL and equals the empty string in a matcher; labels never hold the empty
//! string. So `l = 'a'` is `l="a"`, but `l <> 'a'`, which NULL does not satisfy, is `l!="a",l!=""`. What is
//! translated is translated exactly; everything else stays with DataFusion's own filter.

use std::collections::BTreeSet;

use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::{Between, InList, Like};
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, Operator, TryCast};
use pilaster_model::{METRIC_NAME, MatchOp, Matcher, TimeRange};

use arrow::datatypes::{DataType, TimeUnit};

use crate::functions::JSON_GET_TEXT;

/// What a table knows about its columns: which label each stands for.
pub trait LabelColumns {
    /// The label behind column `name`; `None` for `ts`, `value`, `labels` and unknown names.
    fn label_of(&self, name: &str) -> Option<&str>;
    /// Whether column `name` is the samples' timestamp.
    fn is_time(&self, name: &str) -> bool;
    /// Whether column `name` holds all labels but the metric's name, as JSON.
    fn is_labels(&self, name: &str) -> bool;
}

/// The exact meaning of one or more filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    pub matchers: Vec<Matcher>,
    pub range: TimeRange,
}

impl Pushed {
    pub fn everything() -> Pushed {
        Pushed { matchers: Vec::new(), range: TimeRange::ALL }
    }

    /// Whether no timestamp can satisfy the range.
    pub fn is_empty(&self) -> bool {
        self.range.min_ms > self.range.max_ms
    }

    /// Both conditions at once.
    pub fn and(mut self, other: Pushed) -> Pushed {
        for matcher in other.matchers {
            if !self.matchers.contains(&matcher) {
                self.matchers.push(matcher);
            }
        }
        self.range.min_ms = self.range.min_ms.max(other.range.min_ms);
        self.range.max_ms = self.range.max_ms.min(other.range.max_ms);
        self
    }

    fn of(matchers: Vec<Matcher>) -> Pushed {
        Pushed { matchers, range: TimeRange::ALL }
    }
}

/// `filter` as matchers and a time range that select exactly the rows it is true for; `None` where that is not possible.
pub fn translate(filter: &Expr, columns: &dyn LabelColumns) -> Option<Pushed> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            Some(translate(left, columns)?.and(translate(right, columns)?))
        }
        Expr::BinaryExpr(BinaryExpr { op: Operator::Or, .. }) => {
            let mut values = BTreeSet::new();
            let label = alternatives(filter, columns, &mut values)?;
            one_of(&label, &values)
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            comparison(left, *op, right, columns).or_else(|| comparison(right, op.swap()?, left, columns))
        }
        Expr::InList(InList { expr, list, negated }) => {
            let label = label(expr, columns)?;
            let mut values = BTreeSet::new();
            for item in list {
                values.insert(text(item)?.to_owned());
            }
            if *negated { none_of(label, &values) } else { one_of(label, &values) }
        }
        Expr::IsNull(expr) => Some(Pushed::of(vec![Matcher::equal(label(expr, columns)?, "")])),
        Expr::IsNotNull(expr) => {
            if is_time(expr, columns) {
                return Some(Pushed::everything());
            }
            Some(Pushed::of(vec![not_empty(label(expr, columns)?)]))
        }
        Expr::Not(inner) => match inner.as_ref() {
            Expr::IsNull(expr) => translate(&Expr::IsNotNull(expr.clone()), columns),
            Expr::IsNotNull(expr) => translate(&Expr::IsNull(expr.clone()), columns),
            _ => None,
        },
        Expr::Like(Like { negated, expr, pattern, escape_char: None, case_insensitive: false }) => {
            let label = label(expr, columns)?;
            let regex = like_regex(text(pattern)?)?;
            let op = if *negated { MatchOp::NotRegex } else { MatchOp::Regex };
            Some(Pushed::of(vec![Matcher::new(op, label, &regex).ok()?, not_empty(label)]))
        }
        Expr::Between(Between { expr, negated: false, low, high }) => {
            let low = comparison(expr, Operator::GtEq, low, columns)?;
            Some(low.and(comparison(expr, Operator::LtEq, high, columns)?))
        }
        _ => None,
    }
}

/// Collects the values of `l = 'a' OR l IN ('b', 'c') OR …`; the label all of them are about.
fn alternatives(filter: &Expr, columns: &dyn LabelColumns, values: &mut BTreeSet<String>) -> Option<String> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let left = alternatives(left, columns, values)?;
            let right = alternatives(right, columns, values)?;
            (left == right).then_some(left)
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            let (label, value) = match (label(left, columns), text(right)) {
                (Some(label), Some(value)) => (label, value),
                _ => (label(right, columns)?, text(left)?),
            };
            values.insert(value.to_owned());
            Some(label.to_owned())
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            for item in list {
                values.insert(text(item)?.to_owned());
            }
            Some(label(expr, columns)?.to_owned())
        }
        _ => None,
    }
}

fn comparison(column: &Expr, op: Operator, literal: &Expr, columns: &dyn LabelColumns) -> Option<Pushed> {
    if is_time(column, columns) {
        let range = time_range(op, literal)?;
        return Some(Pushed { matchers: Vec::new(), range });
    }
    let label = label(column, columns)?;
    let value = text(literal)?;
    match op {
        // No label is ever the empty string, so these two are constants that DataFusion may keep.
        Operator::Eq | Operator::NotEq if value.is_empty() => None,
        Operator::Eq => Some(Pushed::of(vec![Matcher::equal(label, value)])),
        Operator::NotEq => {
            Some(Pushed::of(vec![Matcher::new(MatchOp::NotEqual, label, value).ok()?, not_empty(label)]))
        }
        Operator::RegexMatch | Operator::RegexNotMatch => {
            let regex = search_regex(value)?;
            let op = if op == Operator::RegexMatch { MatchOp::Regex } else { MatchOp::NotRegex };
            Some(Pushed::of(vec![Matcher::new(op, label, &regex).ok()?, not_empty(label)]))
        }
        Operator::LikeMatch | Operator::NotLikeMatch => {
            let regex = like_regex(value)?;
            let op = if op == Operator::LikeMatch { MatchOp::Regex } else { MatchOp::NotRegex };
            Some(Pushed::of(vec![Matcher::new(op, label, &regex).ok()?, not_empty(label)]))
        }
        _ => None,
    }
}

fn one_of(label: &str, values: &BTreeSet<String>) -> Option<Pushed> {
    let mut present = values.iter().filter(|value| !value.is_empty());
    let first = present.next()?;
    if present.next().is_none() {
        return Some(Pushed::of(vec![Matcher::equal(label, first)]));
    }
    let regex = alternation(values);
    Some(Pushed::of(vec![Matcher::new(MatchOp::Regex, label, &regex).ok()?]))
}

fn none_of(label: &str, values: &BTreeSet<String>) -> Option<Pushed> {
    let mut matchers: Vec<Matcher> = Vec::new();
    match values.len() {
        0 => {}
        1 => matchers.push(Matcher::new(MatchOp::NotEqual, label, values.first()?).ok()?),
        _ => matchers.push(Matcher::new(MatchOp::NotRegex, label, &alternation(values)).ok()?),
    }
    let present = not_empty(label);
    if !matchers.contains(&present) {
        matchers.push(present);
    }
    Some(Pushed::of(matchers))
}

fn alternation(values: &BTreeSet<String>) -> String {
    let parts: Vec<String> = values.iter().filter(|value| !value.is_empty()).map(|value| escape(value)).collect();
    parts.join("|")
}

fn not_empty(label: &str) -> Matcher {
    Matcher::new(MatchOp::NotEqual, label, "").expect("only regexes can be invalid")
}

/// The column's name, through casts between string types (which change no text).
fn column(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => match field.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => column(expr),
            _ => None,
        },
        _ => None,
    }
}

/// The label that `expr` is the value of: a label column, or `labels->>'name'`.
fn label<'a>(expr: &'a Expr, columns: &'a dyn LabelColumns) -> Option<&'a str> {
    if let Expr::ScalarFunction(call) = expr
        && call.name() == JSON_GET_TEXT
        && let [labels, name] = call.args.as_slice()
    {
        let name = text(name)?;
        return (columns.is_labels(&column(labels)?.name) && name != METRIC_NAME && !name.is_empty()).then_some(name);
    }
    columns.label_of(&column(expr)?.name)
}

/// Whether `expr` is the time column, perhaps cast to another timestamp type that is at least as fine.
fn is_time(expr: &Expr, columns: &dyn LabelColumns) -> bool {
    match expr {
        Expr::Column(column) => columns.is_time(&column.name),
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => match field.data_type() {
            DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond | TimeUnit::Nanosecond, zone) => {
                is_utc(zone.as_deref()) && is_time(expr, columns)
            }
            _ => false,
        },
        _ => false,
    }
}

/// A timestamp without zone is UTC here: the session's zone is UTC and cannot be changed.
fn is_utc(zone: Option<&str>) -> bool {
    matches!(zone, None | Some("UTC" | "utc" | "Z" | "+00:00" | "+00" | "Etc/UTC"))
}

fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)), _)
        | Expr::Literal(ScalarValue::LargeUtf8(Some(text)), _)
        | Expr::Literal(ScalarValue::Utf8View(Some(text)), _) => Some(text),
        _ => None,
    }
}

/// Timestamps in milliseconds for which `ts op literal` holds.
fn time_range(op: Operator, literal: &Expr) -> Option<TimeRange> {
    let Expr::Literal(value, _) = literal else {
        return None;
    };
    let (count, per_ms) = match value {
        ScalarValue::TimestampSecond(Some(count), _) => (count.checked_mul(1000)?, 1),
        ScalarValue::TimestampMillisecond(Some(count), _) => (*count, 1),
        ScalarValue::TimestampMicrosecond(Some(count), _) => (*count, 1000),
        ScalarValue::TimestampNanosecond(Some(count), _) => (*count, 1_000_000),
        _ => return None,
    };
    // A bound between two milliseconds lies above the lower and below the upper one.
    let floor = count.div_euclid(per_ms);
    let whole = count.rem_euclid(per_ms) == 0;
    let (min_ms, max_ms) = match op {
        Operator::Eq if whole => (floor, floor),
        Operator::Eq => (i64::MAX, i64::MIN),
        Operator::Gt => (floor.checked_add(1)?, i64::MAX),
        Operator::GtEq => (if whole { floor } else { floor.checked_add(1)? }, i64::MAX),
        Operator::Lt => (i64::MIN, if whole { floor.checked_sub(1)? } else { floor }),
        Operator::LtEq => (i64::MIN, floor),
        _ => return None,
    };
    Some(TimeRange { min_ms, max_ms })
}

/// Text as a regex that matches exactly it.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// A LIKE pattern as a regex over the whole value; matchers' regexes are anchored and let `.` match line ends.
fn like_regex(pattern: &str) -> Option<String> {
    // A backslash escapes the character after it, with corner cases at the end of the pattern: left to DataFusion.
    if pattern.contains('\\') {
        return None;
    }
    let mut regex = String::with_capacity(pattern.len() + 4);
    let mut literal = [0; 4];
    for character in pattern.chars() {
        match character {
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            other => regex.push_str(&escape(other.encode_utf8(&mut literal))),
        }
    }
    Some(regex)
}

/// A regex that SQL searches anywhere in the value as one over the whole value; `None` for syntax that the two
/// regex dialects may read differently (classes such as `\d`, flags, POSIX classes, line anchors).
fn search_regex(pattern: &str) -> Option<String> {
    let mut characters = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                let next = characters.next()?;
                if next.is_alphanumeric() || in_class {
                    return None;
                }
            }
            '[' if in_class => return None,
            '[' => {
                in_class = true;
                // `[]…]` and `[^]…]` start with a literal bracket in one dialect only.
                if characters.peek() == Some(&'^') {
                    characters.next();
                }
                if characters.peek() == Some(&']') {
                    return None;
                }
            }
            ']' => in_class = false,
            '&' | '~' | '-' if in_class && characters.peek() == Some(&character) => return None,
            '(' if characters.peek() == Some(&'?') => return None,
            _ => {}
        }
    }
    Some(format!("(?s:.*)(?-s:{pattern})(?s:.*)"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::logical_expr::{col, lit};

    struct Columns;

    impl LabelColumns for Columns {
        fn label_of(&self, name: &str) -> Option<&str> {
            ["job", "instance"].into_iter().find(|label| *label == name)
        }

        fn is_time(&self, name: &str) -> bool {
            name == "ts"
        }

        fn is_labels(&self, name: &str) -> bool {
            name == "labels"
        }
    }

    fn check(filter: Expr) -> String {
        match translate(&filter, &Columns) {
            None => "-".to_owned(),
            Some(pushed) => {
                let mut parts: Vec<String> = pushed.matchers.iter().map(ToString::to_string).collect();
                if pushed.range != TimeRange::ALL {
                    let bound = |ms: i64| match ms {
                        i64::MIN | i64::MAX => String::new(),
                        ms => ms.to_string(),
                    };
                    parts.push(format!("[{},{}]", bound(pushed.range.min_ms), bound(pushed.range.max_ms)));
                }
                parts.join(" ")
            }
        }
    }

    fn millis(ms: i64) -> Expr {
        lit(ScalarValue::TimestampMillisecond(Some(ms), Some("UTC".into())))
    }

    fn nanos(ns: i64) -> Expr {
        lit(ScalarValue::TimestampNanosecond(Some(ns), None))
    }

    #[test]
    fn label_filters_become_matchers() {
        assert_eq!(check(col("job").eq(lit("a"))), r#"job="a""#);
        assert_eq!(check(lit("a").eq(col("job"))), r#"job="a""#);
        assert_eq!(check(col("job").not_eq(lit("a"))), r#"job!="a" job!="""#, "NULL <> 'a' is not true");
        assert_eq!(check(col("job").is_null()), r#"job="""#);
        assert_eq!(check(col("job").is_not_null()), r#"job!="""#);
        assert_eq!(check(col("job").in_list(vec![lit("a.b"), lit("c")], false)), r#"job=~"a\\.b|c""#);
        assert_eq!(check(col("job").in_list(vec![lit("a")], false)), r#"job="a""#);
        assert_eq!(check(col("job").in_list(vec![lit("a"), lit("c")], true)), r#"job!~"a|c" job!="""#);
        assert_eq!(check(col("job").eq(lit("a")).or(col("job").eq(lit("b")))), r#"job=~"a|b""#);
        assert_eq!(check(col("job").eq(lit("a")).or(col("instance").eq(lit("b")))), "-");
        assert_eq!(check(col("job").like(lit("a.%_"))), r#"job=~"a\\..*." job!="""#);
        assert_eq!(check(col("job").ilike(lit("a%"))), "-");
        assert_eq!(check(col("job").gt(lit("a"))), "-");
        assert_eq!(check(col("job").eq(lit(""))), "-");
        assert_eq!(check(col("value").eq(lit(1.0))), "-");
    }

    #[test]
    fn regexes_pass_only_where_both_dialects_agree() {
        let regex = |pattern: &str| {
            check(Expr::BinaryExpr(BinaryExpr::new(Box::new(col("job")), Operator::RegexMatch, Box::new(lit(pattern)))))
        };
        assert_eq!(regex("^a.*[0-9]$"), r#"job=~"(?s:.*)(?-s:^a.*[0-9]$)(?s:.*)" job!="""#);
        for pattern in [r"\d", "(?i)a", "[[:alpha:]]", "[a&&b]", r"[\]]", "["] {
            assert!(regex(pattern) == "-" || pattern == "[", "{pattern}");
        }
        assert_eq!(regex("["), "-", "an invalid regex is DataFusion's to report");
    }

    #[test]
    fn time_filters_become_closed_ranges() {
        assert_eq!(check(col("ts").gt_eq(millis(5))), "[5,]");
        assert_eq!(check(col("ts").gt(millis(5))), "[6,]");
        assert_eq!(check(millis(5).gt(col("ts"))), "[,4]");
        assert_eq!(check(col("ts").eq(millis(5))), "[5,5]");
        assert_eq!(check(col("ts").between(millis(5), millis(9))), "[5,9]");
        assert_eq!(check(col("ts").gt_eq(nanos(5_000_001))), "[6,]");
        assert_eq!(check(col("ts").lt(nanos(5_000_001))), "[,5]");
        assert_eq!(check(col("ts").lt_eq(nanos(-1))), "[,-1]");
        assert_eq!(check(col("ts").gt(millis(i64::MAX))), "-");
        let both = translate(&col("ts").gt(millis(5)).and(col("ts").lt(millis(3))), &Columns).unwrap();
        assert!(both.is_empty());
    }
}
