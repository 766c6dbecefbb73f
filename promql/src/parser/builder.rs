//! The grammar's pairs to an [`Expr`]: precedence, literals, selectors, modifiers.
//!
//! Problems are collected rather than returned, each with how far Prometheus has read when it notices it, since its
//! answer is the one it notices first.

use pest::iterators::{Pair, Pairs};
use pilaster_model::{METRIC_NAME, MatchOp, Matcher};

use super::literal::{duration_seconds, parse_duration_ms, parse_number, unquote};
use super::precedence::{AND, COMPARISON, Climber, Fold, OR, POWER, PRODUCT, SUM};
use super::quote::{is_label_name, quote};
use super::token::{Kind, Token};
use super::{MAX_DEPTH, ParseOptions, Problem, Read, Rule, depth_problem};
use crate::ast::{
    Aggregate, Binary, BinaryOp, Cardinality, Expr, ExprKind, Modifiers, Span, VectorMatching, VectorSelector,
};
use crate::functions;

pub struct Builder<'a> {
    text: &'a str,
    tokens: &'a [Token],
    options: &'a ParseOptions,
    problems: Vec<Problem>,
}

/// An expression and how deep it is.
pub struct Tree {
    pub expr: Expr,
    pub depth: usize,
}

impl Tree {
    fn leaf(kind: ExprKind, span: Span) -> Tree {
        Tree { expr: Expr { kind, span }, depth: 1 }
    }

    /// What stands for an expression that cannot be built because of a problem.
    fn nothing(span: Span) -> Tree {
        Tree::leaf(ExprKind::Number(0.0), span)
    }
}

/// A number or a duration as a number of seconds.
pub struct Number {
    pub value: f64,
    pub is_duration: bool,
    pub span: Span,
}

#[derive(Clone, Copy)]
struct Sign {
    negative: bool,
    at: usize,
}

/// A binary operator with its modifiers.
struct Operator {
    op: BinaryOp,
    return_bool: bool,
    matching: VectorMatching,
}

struct ExprFold<'b, 'a> {
    builder: &'b mut Builder<'a>,
    read: Read,
}

impl Fold<Tree, Sign, Operator> for ExprFold<'_, '_> {
    fn unary(&mut self, sign: Sign, mut operand: Tree) -> Tree {
        match &mut operand.expr.kind {
            ExprKind::Number(value) | ExprKind::DurationLiteral(value) => {
                if sign.negative {
                    *value = -*value;
                }
                operand.expr.span.start = sign.at;
                operand
            }
            _ => {
                let span = Span { start: sign.at, end: operand.expr.span.end };
                let kind = ExprKind::Unary { negative: sign.negative, expr: Box::new(operand.expr) };
                self.builder.bounded(kind, span, operand.depth)
            }
        }
    }

    fn binary(&mut self, left: Tree, operator: Operator, right: Tree) -> Tree {
        let span = Span { start: left.expr.span.start, end: right.expr.span.end };
        let Operator { op, return_bool, mut matching } = operator;
        let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
        if fills && !self.builder.options.fill_modifiers {
            self.builder.problem(span.start, self.read, "binop fill modifiers are experimental and not enabled");
        }
        if op.is_set() && matching.cardinality == Cardinality::OneToOne {
            matching.cardinality = Cardinality::ManyToMany;
        }
        let depth = left.depth.max(right.depth);
        let binary = Binary { op, left: left.expr, right: right.expr, return_bool, matching: Some(matching) };
        self.builder.bounded(ExprKind::Binary(Box::new(binary)), span, depth)
    }
}

impl<'a> Builder<'a> {
    pub fn new(text: &'a str, tokens: &'a [Token], options: &'a ParseOptions) -> Builder<'a> {
        Builder { text, tokens, options, problems: Vec::new() }
    }

    /// Everything wrong, in the order in which Prometheus notices it.
    pub fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// The whole expression; binary operators still carry their matching, also between scalars.
    pub fn query(&mut self, mut pairs: Pairs<'_, Rule>) -> Option<Expr> {
        let pair = pairs.find(|pair| pair.as_rule() == Rule::expression)?;
        Some(self.expression(pair).expr)
    }

    /// The matchers of a lone selector.
    pub fn selector(&mut self, mut pairs: Pairs<'_, Rule>) -> Option<Vec<Matcher>> {
        let pair = pairs.find(|pair| pair.as_rule() == Rule::vector_selector)?;
        match self.vector_selector(pair).kind {
            ExprKind::VectorSelector(selector) => Some(selector.matchers),
            _ => None,
        }
    }

    pub fn problem(&mut self, at: usize, read: Read, message: impl Into<String>) {
        self.problems.push(Problem { at, message: message.into(), read });
    }

    pub fn refuse_depth(&mut self, at: usize) {
        self.problems.push(depth_problem(at));
    }

    pub fn options(&self) -> &ParseOptions {
        self.options
    }

    pub fn tokens(&self) -> &'a [Token] {
        self.tokens
    }

    fn token(&self, pair: &Pair<'_, Rule>) -> &'a Token {
        &self.tokens[pair.as_span().start()]
    }

    fn token_text(&self, pair: &Pair<'_, Rule>) -> &'a str {
        let token = self.token(pair);
        &self.text[token.start..token.end]
    }

    /// The kind of the pair's first token.
    pub fn kind(&self, pair: &Pair<'_, Rule>) -> Kind {
        self.token(pair).kind
    }

    /// Byte offset of the pair's first token.
    pub fn start(&self, pair: &Pair<'_, Rule>) -> usize {
        self.token(pair).start
    }

    pub fn span(&self, pair: &Pair<'_, Rule>) -> Span {
        let span = pair.as_span();
        let end = self.tokens[span.start().max(span.end().saturating_sub(1))].end;
        Span { start: self.start(pair), end }
    }

    /// A node above something `depth` levels deep.
    pub fn bounded(&mut self, kind: ExprKind, span: Span, depth: usize) -> Tree {
        if depth >= MAX_DEPTH {
            self.refuse_depth(span.start);
            return Tree::nothing(span);
        }
        Tree { expr: Expr { kind, span }, depth: depth + 1 }
    }

    fn expression(&mut self, pair: Pair<'_, Rule>) -> Tree {
        let (span, end) = (self.span(&pair), pair.as_span().end());
        let mut climber = Climber::new();
        for part in parts(pair) {
            match part.as_rule() {
                Rule::unary => {
                    climber.unary(Sign { negative: self.kind(&part) == Kind::Sub, at: self.start(&part) });
                }
                Rule::binary => {
                    // Prometheus applies what is to the left once it has read the operator.
                    let read = Read::looking(part.as_span().start());
                    let (op, precedence) = binary_operator(self.kind(&part));
                    let mut operator = Operator { op, return_bool: false, matching: no_matching() };
                    climber.apply_left(precedence, &mut ExprFold { builder: self, read });
                    self.binary_modifiers(part, &mut operator);
                    climber.push(operator, precedence);
                }
                _ => {
                    let operand = self.operand(part);
                    climber.operand(operand);
                }
            }
        }
        climber.finish(&mut ExprFold { builder: self, read: Read::looking(end) }).unwrap_or(Tree::nothing(span))
    }

    fn binary_modifiers(&mut self, pair: Pair<'_, Rule>, operator: &mut Operator) {
        for part in parts(pair) {
            match part.as_rule() {
                Rule::BOOL => operator.return_bool = true,
                Rule::matching => self.matching(part, &mut operator.matching),
                Rule::fill => self.fill(part, &mut operator.matching),
                _ => {}
            }
        }
    }

    fn matching(&mut self, pair: Pair<'_, Rule>, matching: &mut VectorMatching) {
        let mut grouped = false;
        for part in parts(pair) {
            match part.as_rule() {
                Rule::ON => matching.on = true,
                Rule::GROUP_LEFT | Rule::GROUP_RIGHT => {
                    grouped = true;
                    matching.cardinality = if part.as_rule() == Rule::GROUP_LEFT {
                        Cardinality::ManyToOne
                    } else {
                        Cardinality::OneToMany
                    };
                }
                Rule::labels if grouped => matching.include = self.labels(part),
                Rule::labels => matching.labels = self.labels(part),
                _ => {}
            }
        }
    }

    fn fill(&mut self, pair: Pair<'_, Rule>, matching: &mut VectorMatching) {
        let (mut left, mut right) = (false, false);
        for part in parts(pair) {
            match part.as_rule() {
                Rule::FILL => (left, right) = (true, true),
                Rule::FILL_LEFT => (left, right) = (true, false),
                Rule::FILL_RIGHT => (left, right) = (false, true),
                _ => {
                    let value = self.signed_number(part);
                    if left {
                        matching.fill_left = Some(value);
                    }
                    if right {
                        matching.fill_right = Some(value);
                    }
                }
            }
        }
    }

    /// `unary? ~ number` inside `pair`.
    pub fn signed_number(&mut self, pair: Pair<'_, Rule>) -> f64 {
        let mut negative = false;
        let mut value = 0.0;
        for part in parts(pair) {
            match part.as_rule() {
                Rule::unary => negative = self.kind(&part) == Kind::Sub,
                _ => value = self.number(&part).value,
            }
        }
        if negative { -value } else { value }
    }

    /// A `number` pair.
    pub fn number(&mut self, pair: &Pair<'_, Rule>) -> Number {
        let (span, read) = (self.span(pair), Read::upto(pair.as_span().end()));
        let text = self.token_text(pair);
        let is_duration = self.kind(pair) == Kind::Duration;
        let value = if is_duration {
            parse_duration_ms(text).map(duration_seconds)
        } else {
            parse_number(text).map_err(|message| format!("error parsing number: {message}"))
        };
        let value = value.unwrap_or_else(|message| {
            self.problem(span.start, read, message);
            0.0
        });
        Number { value, is_duration, span }
    }

    fn string(&mut self, pair: &Pair<'_, Rule>) -> String {
        let text = self.token_text(pair);
        unquote(text).unwrap_or_else(|| {
            let (at, read) = (self.start(pair), Read::upto(pair.as_span().end()));
            self.problem(at, read, format!("error unquoting string {}: invalid syntax", quote(text)));
            String::new()
        })
    }

    fn operand(&mut self, pair: Pair<'_, Rule>) -> Tree {
        let span = self.span(&pair);
        let mut parts = parts(pair);
        let Some(primary) = parts.next() else { return Tree::nothing(span) };
        let mut tree = self.primary(primary);
        for part in parts {
            tree = self.postfix(tree, part);
        }
        tree
    }

    fn primary(&mut self, pair: Pair<'_, Rule>) -> Tree {
        let span = self.span(&pair);
        match pair.as_rule() {
            Rule::number => {
                let number = self.number(&pair);
                let kind = if number.is_duration {
                    ExprKind::DurationLiteral(number.value)
                } else {
                    ExprKind::Number(number.value)
                };
                Tree::leaf(kind, span)
            }
            Rule::string => {
                let text = self.string(&pair);
                Tree::leaf(ExprKind::String(text), span)
            }
            Rule::vector_selector => {
                let selector = self.vector_selector(pair);
                Tree { expr: selector, depth: 1 }
            }
            Rule::parenthesised => match parts(pair).next() {
                Some(inner) => {
                    let inner = self.expression(inner);
                    self.bounded(ExprKind::Paren(Box::new(inner.expr)), span, inner.depth)
                }
                None => Tree::nothing(span),
            },
            Rule::aggregate => self.aggregate(pair, span),
            _ => self.call(pair, span),
        }
    }

    fn call(&mut self, pair: Pair<'_, Rule>, span: Span) -> Tree {
        let read = Read::upto(pair.as_span().end());
        let mut parts = parts(pair);
        let (Some(name), Some(arguments)) = (parts.next(), parts.next()) else { return Tree::nothing(span) };
        let (args, depth) = self.arguments(arguments);
        let text = self.token_text(&name);
        let at = self.start(&name);
        let Some(function) = functions::lookup(text) else {
            self.problem(at, read, format!("unknown function with name {}", quote(text)));
            return Tree::nothing(span);
        };
        if function.experimental && !self.options.experimental_functions {
            self.problem(at, read, format!("function {} is not enabled", quote(text)));
        }
        self.bounded(ExprKind::Call { function, args }, span, depth)
    }

    /// The arguments and the greatest of their depths.
    fn arguments(&mut self, pair: Pair<'_, Rule>) -> (Vec<Expr>, usize) {
        let mut args = Vec::new();
        let mut depth = 0;
        for part in parts(pair) {
            if part.as_rule() == Rule::trailing_comma {
                let (at, read) = (self.start(&part), Read::looking(part.as_span().end()));
                self.problem(at, read, "trailing commas not allowed in function call args");
                continue;
            }
            let tree = self.expression(part);
            depth = depth.max(tree.depth);
            args.push(tree.expr);
        }
        (args, depth)
    }

    fn aggregate(&mut self, pair: Pair<'_, Rule>, span: Span) -> Tree {
        let end = pair.as_span().end();
        let Kind::Aggregator(op) = self.kind(&pair) else { return Tree::nothing(span) };
        let (mut args, mut depth) = (Vec::new(), 0);
        let (mut without, mut labels) = (false, Vec::new());
        let mut grouped = false;
        for part in parts(pair) {
            match part.as_rule() {
                Rule::arguments => (args, depth) = self.arguments(part),
                Rule::grouping => {
                    grouped = true;
                    for inner in parts(part) {
                        match inner.as_rule() {
                            Rule::WITHOUT => without = true,
                            Rule::labels => labels = self.labels(inner),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        // Without a clause Prometheus looks whether one follows.
        let read = if grouped { Read::upto(end) } else { Read::looking(end) };
        if args.is_empty() {
            self.problem(span.start, read, "no arguments for aggregate expression provided");
            return Tree::nothing(span);
        }
        if op.is_experimental() && !self.options.experimental_functions {
            let message = format!(
                "{}() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
                op.name()
            );
            self.problem(span.start, read, message);
        }
        let wanted = if op.takes_param() { 2 } else { 1 };
        let got = args.len();
        let (Some(expr), true) = (args.pop(), got == wanted) else {
            let message =
                format!("wrong number of arguments for aggregate expression provided, expected {wanted}, got {got}");
            self.problem(span.start, read, message);
            return Tree::nothing(span);
        };
        let param = args.pop().map(Box::new);
        self.bounded(ExprKind::Aggregate(Aggregate { op, expr: Box::new(expr), param, without, labels }), span, depth)
    }

    /// Label names of `by (…)`, `on (…)` and the like.
    fn labels(&mut self, pair: Pair<'_, Rule>) -> Vec<String> {
        let mut labels = Vec::new();
        for label in parts(pair) {
            let (at, read) = (self.start(&label), Read::upto(label.as_span().end()));
            let name = if self.kind(&label) == Kind::String {
                self.string(&label)
            } else {
                self.token_text(&label).to_owned()
            };
            if !is_label_name(&name) {
                self.problem(at, read, format!("invalid label name for grouping: {}", quote(&name)));
            }
            labels.push(name);
        }
        labels
    }

    fn vector_selector(&mut self, pair: Pair<'_, Rule>) -> Expr {
        let span = self.span(&pair);
        let mut name = None;
        let mut matchers = Vec::new();
        for part in parts(pair) {
            if part.as_rule() == Rule::metric {
                let metric = self.token_text(&part).to_owned();
                matchers.push(Matcher::equal(METRIC_NAME, &metric));
                name = Some(metric);
            } else {
                for matcher in parts(part) {
                    matchers.extend(self.matcher(matcher));
                }
            }
        }
        let selector = VectorSelector { name, matchers, modifiers: Modifiers::default(), extension: None };
        Expr { kind: ExprKind::VectorSelector(selector), span }
    }

    fn matcher(&mut self, pair: Pair<'_, Rule>) -> Option<Matcher> {
        let (at, read) = (self.start(&pair), Read::upto(pair.as_span().end()));
        let quoted = self.kind(&pair) == Kind::String;
        let mut name = None;
        let mut op = None;
        for part in parts(pair) {
            match part.as_rule() {
                Rule::match_op => op = Some(match_op(self.kind(&part))),
                _ if name.is_none() => {
                    name = Some(if quoted { self.string(&part) } else { self.token_text(&part).to_owned() });
                }
                _ => {
                    let value = self.string(&part);
                    return match Matcher::new(op?, &name?, &value) {
                        Ok(matcher) => Some(matcher),
                        Err(error) => {
                            self.problem(at, read, error.to_string());
                            None
                        }
                    };
                }
            }
        }
        name.map(|name| Matcher::equal(METRIC_NAME, &name))
    }
}

/// What is inside a pair, tokens that only separate left out.
pub fn parts<'i>(pair: Pair<'i, Rule>) -> impl Iterator<Item = Pair<'i, Rule>> {
    pair.into_inner().filter(|part| !is_separator(part.as_rule()))
}

fn is_separator(rule: Rule) -> bool {
    matches!(
        rule,
        Rule::COMMA
            | Rule::LEFT_BRACE
            | Rule::RIGHT_BRACE
            | Rule::LEFT_PAREN
            | Rule::RIGHT_PAREN
            | Rule::AT
            | Rule::OFFSET
            | Rule::AGGREGATOR
    )
}

fn no_matching() -> VectorMatching {
    VectorMatching {
        cardinality: Cardinality::OneToOne,
        on: false,
        labels: Vec::new(),
        include: Vec::new(),
        fill_left: None,
        fill_right: None,
    }
}

fn match_op(kind: Kind) -> MatchOp {
    match kind {
        Kind::NotEqual => MatchOp::NotEqual,
        Kind::EqualRegex => MatchOp::Regex,
        Kind::NotEqualRegex => MatchOp::NotRegex,
        _ => MatchOp::Equal,
    }
}

/// The operator and how tightly it binds; `kind` is one that the grammar's `binary_op` admits.
fn binary_operator(kind: Kind) -> (BinaryOp, u8) {
    match kind {
        Kind::Add => (BinaryOp::Add, SUM),
        Kind::Sub => (BinaryOp::Sub, SUM),
        Kind::Mul => (BinaryOp::Mul, PRODUCT),
        Kind::Div => (BinaryOp::Div, PRODUCT),
        Kind::Mod => (BinaryOp::Mod, PRODUCT),
        Kind::Atan2 => (BinaryOp::Atan2, PRODUCT),
        Kind::Pow => (BinaryOp::Pow, POWER),
        Kind::EqualEqual => (BinaryOp::Eq, COMPARISON),
        Kind::NotEqual => (BinaryOp::Ne, COMPARISON),
        Kind::Greater => (BinaryOp::Gt, COMPARISON),
        Kind::GreaterEqual => (BinaryOp::Ge, COMPARISON),
        Kind::Less => (BinaryOp::Lt, COMPARISON),
        Kind::LessEqual => (BinaryOp::Le, COMPARISON),
        Kind::TrimLower => (BinaryOp::TrimLower, COMPARISON),
        Kind::TrimUpper => (BinaryOp::TrimUpper, COMPARISON),
        Kind::And => (BinaryOp::And, AND),
        Kind::Unless => (BinaryOp::Unless, AND),
        _ => (BinaryOp::Or, OR),
    }
}
