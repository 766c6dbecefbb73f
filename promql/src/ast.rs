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

impl ValueType {
    /// The name that messages use, such as `instant vector`.
    pub fn describe(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::InstantVector => "instant vector",
            ValueType::RangeVector => "range vector",
            ValueType::String => "string",
        }
    }

    /// The name that the HTTP API uses, such as `matrix`.
    pub fn name(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::InstantVector => "vector",
            ValueType::RangeVector => "matrix",
            ValueType::String => "string",
        }
    }
}

/// An expression and where it stands.
///
/// The parser refuses expressions deeper than `parser::MAX_DEPTH` levels, so recursion over one is safe.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    pub kind: ExprKind,
    pub span: Span,
}

impl Expr {
    /// What the expression evaluates to.
    pub fn value_type(&self) -> ValueType {
        match &self.kind {
            ExprKind::Number(_) | ExprKind::DurationLiteral(_) => ValueType::Scalar,
            ExprKind::String(_) => ValueType::String,
            ExprKind::VectorSelector(_) | ExprKind::Aggregate(_) => ValueType::InstantVector,
            ExprKind::MatrixSelector { .. } | ExprKind::Subquery { .. } => ValueType::RangeVector,
            ExprKind::Call { function, .. } => function.returns,
            ExprKind::Binary(binary) => {
                let scalar = |side: &Expr| side.value_type() == ValueType::Scalar;
                if scalar(&binary.left) && scalar(&binary.right) { ValueType::Scalar } else { ValueType::InstantVector }
            }
            ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => expr.value_type(),
        }
    }

    /// Levels of the tree; 1 for an expression without any inside.
    pub fn depth(&self) -> usize {
        1 + self.children().into_iter().map(Expr::depth).max().unwrap_or(0)
    }

    /// The expressions directly inside this one, in the order in which Prometheus visits them.
    pub fn children(&self) -> Vec<&Expr> {
        match &self.kind {
            ExprKind::Number(_)
            | ExprKind::DurationLiteral(_)
            | ExprKind::String(_)
            | ExprKind::VectorSelector(_)
            | ExprKind::MatrixSelector { .. } => Vec::new(),
            ExprKind::Subquery { expr, .. } | ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => vec![expr],
            ExprKind::Call { args, .. } => args.iter().collect(),
            ExprKind::Aggregate(aggregate) => {
                std::iter::once(&*aggregate.expr).chain(aggregate.param.as_deref()).collect()
            }
            ExprKind::Binary(binary) => vec![&binary.left, &binary.right],
        }
    }

    /// Like [`Expr::children`], for changing them.
    pub fn children_mut(&mut self) -> Vec<&mut Expr> {
        match &mut self.kind {
            ExprKind::Number(_)
            | ExprKind::DurationLiteral(_)
            | ExprKind::String(_)
            | ExprKind::VectorSelector(_)
            | ExprKind::MatrixSelector { .. } => Vec::new(),
            ExprKind::Subquery { expr, .. } | ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => vec![expr],
            ExprKind::Call { args, .. } => args.iter_mut().collect(),
            ExprKind::Aggregate(aggregate) => {
                std::iter::once(&mut *aggregate.expr).chain(aggregate.param.as_deref_mut()).collect()
            }
            ExprKind::Binary(binary) => vec![&mut binary.left, &mut binary.right],
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    Number(f64),
    /// A number written as a duration, such as `5m`: seconds. It differs from `Number` only when printed.
    DurationLiteral(f64),
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
    /// Seconds, written as a duration such as `5m`.
    Literal(f64),
    /// `step()`
    Step,
    /// `range()`
    Range,
    /// A sign before a call, as in `offset +step()`; elsewhere a plus is dropped.
    Plus(Box<DurationExpr>),
    Negate(Box<DurationExpr>),
    Paren(Box<DurationExpr>),
    /// `+ - * / % ^`
    Binary {
        op: BinaryOp,
        left: Box<DurationExpr>,
        right: Box<DurationExpr>,
    },
    /// `min_of(a, b)` / `max_of(a, b)`
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
    /// `None` unless both sides are vectors.
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

impl AggregateOp {
    /// As written in PromQL.
    pub fn name(self) -> &'static str {
        match self {
            AggregateOp::Sum => "sum",
            AggregateOp::Avg => "avg",
            AggregateOp::Count => "count",
            AggregateOp::Min => "min",
            AggregateOp::Max => "max",
            AggregateOp::Group => "group",
            AggregateOp::Stddev => "stddev",
            AggregateOp::Stdvar => "stdvar",
            AggregateOp::Topk => "topk",
            AggregateOp::Bottomk => "bottomk",
            AggregateOp::Quantile => "quantile",
            AggregateOp::CountValues => "count_values",
            AggregateOp::Limitk => "limitk",
            AggregateOp::LimitRatio => "limit_ratio",
        }
    }

    /// Whether it takes a parameter before the vector.
    pub fn takes_param(self) -> bool {
        use AggregateOp::*;
        matches!(self, Topk | Bottomk | Quantile | CountValues | Limitk | LimitRatio)
    }

    /// Whether it needs `promql-experimental-functions`.
    pub fn is_experimental(self) -> bool {
        matches!(self, AggregateOp::Limitk | AggregateOp::LimitRatio)
    }
}

/// A function's signature.
#[derive(Debug, PartialEq)]
pub struct Function {
    pub name: &'static str,
    pub args: &'static [ValueType],
    /// 0: exactly `args`; otherwise all but the last of `args` are required, and arguments of the last type follow: at
    /// most n of them for n > 0, any number for -1. Source: Prometheus `parser.Function.Variadic`.
    pub variadic: i32,
    pub returns: ValueType,
    pub experimental: bool,
}
