//! Expressions as text: what Prometheus prints, on one line.
//!
//! Parsing the text again gives the same expression, positions apart.

use std::fmt::{self, Display, Formatter, Write};

use pilaster_model::histogram::format_decimal;
use pilaster_model::{METRIC_NAME, MatchOp, Matcher};

use crate::ast::{
    Aggregate, At, Binary, BinaryOp, Cardinality, Duration, DurationExpr, DurationExprKind, Expr, ExprKind, Modifiers,
    SelectorExtension, VectorMatching, VectorSelector,
};
use crate::parser::literal::format_duration_ms;
use crate::parser::quote::{is_plain_label_name, quote};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Number(value) => f.write_str(&format_number(*value)),
            ExprKind::DurationLiteral(seconds) => write_duration_literal(f, *seconds),
            ExprKind::String(text) => f.write_str(&quote(text)),
            ExprKind::VectorSelector(selector) => write_selector(f, selector),
            ExprKind::MatrixSelector { selector, range } => {
                write_selector_core(f, selector)?;
                write!(f, "[{range}]{}{}", Extension(selector), selector.modifiers)
            }
            ExprKind::Subquery { expr, range, step, modifiers } => {
                write!(f, "{expr}{}", SubquerySuffix { range, step: step.as_ref(), modifiers })
            }
            ExprKind::Call { function, args } => {
                write!(f, "{}(", function.name)?;
                for (index, arg) in args.iter().enumerate() {
                    let comma = if index > 0 { ", " } else { "" };
                    write!(f, "{comma}{arg}")?;
                }
                f.write_char(')')
            }
            ExprKind::Aggregate(aggregate) => {
                write!(f, "{}(", AggregateHead(aggregate))?;
                if let Some(param) = &aggregate.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", aggregate.expr)
            }
            ExprKind::Binary(binary) => {
                write!(f, "{} {} {}", binary.left, BinaryHead(binary), binary.right)
            }
            ExprKind::Unary { negative, expr } => {
                f.write_char(if *negative { '-' } else { '+' })?;
                Display::fmt(expr, f)
            }
            ExprKind::Paren(inner) => write!(f, "({inner})"),
        }
    }
}

/// A float without exponent, in the fewest digits that read back as the same. Source: Go `FormatFloat(v, 'f', -1, 64)`.
pub fn format_number(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value.is_nan() {
        return "NaN".to_owned();
    }
    format_decimal(value)
}

/// Like [`format_number`], with an exponent below 1e-4 and from 1e21 on. Source: Go `%v` of a float.
fn format_general(value: f64) -> String {
    let magnitude = value.abs();
    if value.is_finite() && value != 0.0 && !(1e-4..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        if let Some((digits, exponent)) = text.split_once('e') {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            return format!("{digits}e{sign}{exponent:0>2}");
        }
    }
    format_number(value)
}

fn write_duration_literal(f: &mut Formatter<'_>, seconds: f64) -> fmt::Result {
    let ms = |seconds: f64| (seconds * 1e9) as i64 / 1_000_000;
    if seconds < 0.0 {
        return write!(f, "-{}", format_duration_ms(ms(-seconds)));
    }
    f.write_str(&format_duration_ms(ms(seconds)))
}

impl Display for Duration {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Duration::Literal(ms) if *ms < 0 => write!(f, "-{}", format_duration_ms(ms.saturating_neg())),
            Duration::Literal(ms) => f.write_str(&format_duration_ms(*ms)),
            Duration::Expr(expr) => Display::fmt(expr, f),
        }
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            DurationExprKind::Number(value) => f.write_str(&format_number(*value)),
            DurationExprKind::Literal(seconds) => write_duration_literal(f, *seconds),
            DurationExprKind::Step => f.write_str("step()"),
            DurationExprKind::Range => f.write_str("range()"),
            DurationExprKind::Plus(inner) => write!(f, "{inner}"),
            DurationExprKind::Negate(inner) => write!(f, "-{inner}"),
            DurationExprKind::Paren(inner) => write!(f, "({inner})"),
            // The parser forgets parentheses around a literal, but a sign binds less tightly than a power.
            DurationExprKind::Binary { op: BinaryOp::Pow, left, right } if is_negative_literal(left) => {
                write!(f, "({left}) ^ {right}")
            }
            DurationExprKind::Binary { op, left, right } => write!(f, "{left} {} {right}", op.symbol()),
            DurationExprKind::Min(a, b) => write!(f, "min_of({a}, {b})"),
            DurationExprKind::Max(a, b) => write!(f, "max_of({a}, {b})"),
        }
    }
}

fn is_negative_literal(expr: &DurationExpr) -> bool {
    matches!(expr.kind, DurationExprKind::Number(value) | DurationExprKind::Literal(value) if value.is_sign_negative())
}

impl Display for At {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            At::Timestamp(ms) => write!(f, " @ {:.3}", *ms as f64 / 1000.0),
            At::Start => f.write_str(" @ start()"),
            At::End => f.write_str(" @ end()"),
        }
    }
}

fn write_offset(f: &mut Formatter<'_>, modifiers: &Modifiers) -> fmt::Result {
    match &modifiers.offset {
        None | Some(Duration::Literal(0)) => Ok(()),
        Some(offset) => write!(f, " offset {offset}"),
    }
}

/// ` @ … offset …`, each where present.
impl Display for Modifiers {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.at {
            Display::fmt(at, f)?;
        }
        write_offset(f, self)
    }
}

/// ` anchored` or ` smoothed`, where present.
struct Extension<'a>(&'a VectorSelector);

impl Display for Extension<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0.extension {
            Some(SelectorExtension::Anchored) => f.write_str(" anchored"),
            Some(SelectorExtension::Smoothed) => f.write_str(" smoothed"),
            None => Ok(()),
        }
    }
}

fn write_selector(f: &mut Formatter<'_>, selector: &VectorSelector) -> fmt::Result {
    write_selector_core(f, selector)?;
    if let Some(at) = &selector.modifiers.at {
        Display::fmt(at, f)?;
    }
    Display::fmt(&Extension(selector), f)?;
    write_offset(f, &selector.modifiers)
}

/// Name and matchers, without modifiers.
fn write_selector_core(f: &mut Formatter<'_>, selector: &VectorSelector) -> fmt::Result {
    let name = selector.name.as_deref().unwrap_or("");
    let is_name = |matcher: &Matcher| {
        matcher.name() == METRIC_NAME && matcher.op() == MatchOp::Equal && matcher.value() == name && !name.is_empty()
    };
    let mut matchers: Vec<String> =
        selector.matchers.iter().filter(|matcher| !is_name(matcher)).map(format_matcher).collect();
    matchers.sort_unstable();
    f.write_str(name)?;
    if matchers.is_empty() {
        return Ok(());
    }
    write!(f, "{{{}}}", matchers.join(","))
}

/// `name="value"`; the name is quoted where it must be.
pub fn format_matcher(matcher: &Matcher) -> String {
    format!("{}{}{}", format_label_name(matcher.name()), matcher.op().symbol(), quote(matcher.value()))
}

fn format_label_name(name: &str) -> String {
    if is_plain_label_name(name) { name.to_owned() } else { quote(name) }
}

fn format_labels(labels: &[String]) -> String {
    labels.iter().map(|label| format_label_name(label)).collect::<Vec<_>>().join(", ")
}

/// `[5m:1m] @ … offset …`
pub(crate) struct SubquerySuffix<'a> {
    pub range: &'a Duration,
    pub step: Option<&'a Duration>,
    pub modifiers: &'a Modifiers,
}

impl Display for SubquerySuffix<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "[{}:", self.range)?;
        if let Some(step) = self.step {
            Display::fmt(step, f)?;
        }
        write!(f, "]{}", self.modifiers)
    }
}

/// `sum by (a) `: everything before the parenthesis.
pub(crate) struct AggregateHead<'a>(pub &'a Aggregate);

impl Display for AggregateHead<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Aggregate { op, without, labels, .. } = self.0;
        f.write_str(op.name())?;
        match (without, labels.is_empty()) {
            (true, _) => write!(f, " without ({}) ", format_labels(labels)),
            (false, false) => write!(f, " by ({}) ", format_labels(labels)),
            (false, true) => Ok(()),
        }
    }
}

/// `== bool on (a) group_left (b)`: the operator and its modifiers.
pub(crate) struct BinaryHead<'a>(pub &'a Binary);

impl Display for BinaryHead<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.symbol())?;
        if self.0.return_bool {
            f.write_str(" bool")?;
        }
        self.0.matching.as_ref().map_or(Ok(()), |matching| write_matching(f, matching))
    }
}

fn write_matching(f: &mut Formatter<'_>, matching: &VectorMatching) -> fmt::Result {
    let group = match matching.cardinality {
        Cardinality::ManyToOne => Some("left"),
        Cardinality::OneToMany => Some("right"),
        Cardinality::OneToOne | Cardinality::ManyToMany => None,
    };
    if !matching.labels.is_empty() || matching.on || group.is_some() {
        let tag = if matching.on { "on" } else { "ignoring" };
        write!(f, " {tag} ({})", format_labels(&matching.labels))?;
    }
    if let Some(group) = group {
        write!(f, " group_{group} ({})", format_labels(&matching.include))?;
    }
    match (matching.fill_left, matching.fill_right) {
        (Some(left), Some(right)) if left == right => write!(f, " fill ({})", format_general(left)),
        (left, right) => {
            if let Some(left) = left {
                write!(f, " fill_left ({})", format_general(left))?;
            }
            if let Some(right) = right {
                write!(f, " fill_right ({})", format_general(right))?;
            }
            Ok(())
        }
    }
}
