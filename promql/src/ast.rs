//! The abstract syntax of PromQL, with positions.
//!
//! Nodes hold only what was written: no caches, no plan state. Durations are milliseconds.

use pilaster_model::Matcher;

/// Byte offsets `[start, end)` into the query text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

/// What an expression evaluates to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    Scalar,
    InstantVector,
    RangeVector,
    String,
}

/// An expression and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    pub kind: ExprKind,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    Number(f64),
    String(String),
    /// `metric{…} [offset …] [@ …]`
    VectorSelector(VectorSelector),
    /// `metric{…}[5m] …`: modifiers are on `selector`.
    MatrixSelector {
        selector: VectorSelector,
        range: Duration,
    },
    /// `expr[range:step] [offset …] [@ …]`; `step` is `None` where the default applies.
    Subquery {
        expr: Box<Expr>,
        range: Duration,
        step: Option<Duration>,
        modifiers: Modifiers,
    },
    Call {
        function: &'static Function,
        args: Vec<Expr>,
    },
    Aggregate(Aggregate),
    Binary(Box<Binary>),
    /// Unary `+` or `-`; `negative` is true for `-`.
    Unary {
        negative: bool,
        expr: Box<Expr>,
    },
    Paren(Box<Expr>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct VectorSelector {
    /// The metric name as written before the braces, if it was.
    pub name: Option<String>,
    /// All matchers, the name's included (first, as `__name__=`).
    pub matchers: Vec<Matcher>,
    pub modifiers: Modifiers,
    /// `anchored` / `smoothed`, behind the feature `promql-extended-range-selectors`.
    pub extension: Option<SelectorExtension>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectorExtension {
    Anchored,
    Smoothed,
}

/// `offset` and `@`, in whichever order they were written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Modifiers {
    pub offset: Option<Duration>,
    pub at: Option<At>,
}

/// The time that `@` names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum At {
    /// Milliseconds since the Unix epoch.
    Timestamp(i64),
    Start,
    End,
}

/// A duration: a literal, or an expression behind the feature `promql-duration-expr`.
#[derive(Debug, Clone, PartialEq)]
pub enum Duration {
    /// Milliseconds; negative only for offsets.
    Literal(i64),
    Expr(Box<DurationExpr>),
}

/// Arithmetic over durations; evaluated in seconds, as Prometheus does.
#[derive(Debug, Clone, PartialEq)]
pub struct DurationExpr {
    pub kind: DurationExprKind,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq)]
pub enum DurationExprKind {
    /// Seconds.
    Number(f64),
    /// `step()`
    Step,
    /// `range()`
    Range,
    Negate(Box<DurationExpr>),
    Paren(Box<DurationExpr>),
    /// `+ - * / % ^`
    Binary {
        op: BinaryOp,
        left: Box<DurationExpr>,
        right: Box<DurationExpr>,
    },
    /// `min(a, b)` / `max(a, b)`
    Min(Box<DurationExpr>, Box<DurationExpr>),
    Max(Box<DurationExpr>, Box<DurationExpr>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    pub op: BinaryOp,
    pub left: Expr,
    pub right: Expr,
    /// `bool` behind a comparison.
    pub return_bool: bool,
    /// `None` where neither side is a vector.
    pub matching: Option<VectorMatching>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Eq,
    Ne,
    Gt,
    Lt,
    Ge,
    Le,
    /// `</` and `>/`: histogram trimming.
    TrimLower,
    TrimUpper,
    And,
    Or,
    Unless,
}

impl BinaryOp {
    pub fn is_comparison(self) -> bool {
        use BinaryOp::*;
        matches!(self, Eq | Ne | Gt | Lt | Ge | Le)
    }

    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }

    /// As written in PromQL.
    pub fn symbol(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "^",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::Eq => "==",
            BinaryOp::Ne => "!=",
            BinaryOp::Gt => ">",
            BinaryOp::Lt => "<",
            BinaryOp::Ge => ">=",
            BinaryOp::Le => "<=",
            BinaryOp::TrimLower => ">/",
            BinaryOp::TrimUpper => "</",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
            BinaryOp::Unless => "unless",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cardinality {
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
    /// Set operators.
    ManyToMany,
}

#[derive(Debug, Clone, PartialEq)]
pub struct VectorMatching {
    pub cardinality: Cardinality,
    /// True for `on (labels)`, false for `ignoring (labels)` and for none.
    pub on: bool,
    pub labels: Vec<String>,
    /// Labels of `group_left(…)` / `group_right(…)`.
    pub include: Vec<String>,
    /// `fill(…)`, `fill_left(…)`, `fill_right(…)`.
    pub fill_left: Option<f64>,
    pub fill_right: Option<f64>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    pub op: AggregateOp,
    pub expr: Box<Expr>,
    /// Of `topk`, `bottomk`, `quantile`, `count_values`, `limitk`, `limit_ratio`.
    pub param: Option<Box<Expr>>,
    /// True for `without (labels)`, false for `by (labels)` and for none.
    pub without: bool,
    pub labels: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    Quantile,
    CountValues,
    Limitk,
    LimitRatio,
}

/// A function's signature.
#[derive(Debug, PartialEq)]
pub struct Function {
    pub name: &'static str,
    pub args: &'static [ValueType],
    /// 0: exactly `args`; n > 0: the last argument type may be left out or repeated so that at most n more follow
    /// the required ones; -1: repeated without bound. Source: Prometheus `parser.Function.Variadic`.
    pub variadic: i32,
    pub returns: ValueType,
    pub experimental: bool,
}
