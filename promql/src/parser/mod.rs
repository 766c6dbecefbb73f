//! Text to a checked [`Expr`].
//!
//! ```text
//! text -> lexer (tokens) -> promql.pest over the tokens -> builder (tree, precedence) -> check (types) -> Expr
//!                                   | syntax error
//!                                   +-> diagnosis (Prometheus' words for what is wrong where)
//! ```
//!
//! Accepted queries, messages and positions are those of Prometheus 3.14. Time is linear in the text, and nesting is
//! bounded by [`MAX_DEPTH`], so that hostile text exhausts neither.

mod builder;
mod check;
mod diagnosis;
mod duration;
mod lexer;
pub(crate) mod literal;
mod postfix;
mod precedence;
pub mod quote;
mod token;

use std::fmt;

use pest::Parser;
use pilaster_model::Matcher;

use crate::ast::Expr;
use builder::Builder;
use token::{Kind, Token};

/// The deepest expression that is accepted, in levels of the tree.
pub const MAX_DEPTH: usize = 256;

/// Which experimental parts of the language are accepted. The default is a Prometheus server without feature flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseOptions {
    /// `promql-experimental-functions`
    pub experimental_functions: bool,
    /// `foo[2 * 5m]`; on since Prometheus 3.14.
    pub duration_expressions: bool,
    /// `promql-extended-range-selectors`: `anchored` and `smoothed`.
    pub extended_range_selectors: bool,
    /// `promql-binop-fill-modifiers`: `fill(0)`.
    pub fill_modifiers: bool,
}

impl Default for ParseOptions {
    fn default() -> ParseOptions {
        ParseOptions {
            experimental_functions: false,
            duration_expressions: true,
            extended_range_selectors: false,
            fill_modifiers: false,
        }
    }
}

impl ParseOptions {
    /// The whole language.
    pub fn all() -> ParseOptions {
        ParseOptions {
            experimental_functions: true,
            duration_expressions: true,
            extended_range_selectors: true,
            fill_modifiers: true,
        }
    }
}

/// Why text is no query; its display is Prometheus' message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ParseError {
    /// Line and column, from 1, columns in bytes; `None` for the empty text.
    pub position: Option<(usize, usize)>,
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some((line, column)) => write!(f, "{line}:{column}: parse error: {}", self.message),
            None => write!(f, "unknown position: parse error: {}", self.message),
        }
    }
}

/// Line and column, from 1, of byte `offset`.
pub fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    (line, before.len() - line_start + 1)
}

/// How far Prometheus has read when it notices a problem: of several, the first noticed is told.
#[derive(Debug, Clone, Copy)]
struct Read {
    /// Tokens taken.
    tokens: usize,
    /// Whether the next one was looked at too.
    lookahead: bool,
}

impl Read {
    fn upto(tokens: usize) -> Read {
        Read { tokens, lookahead: false }
    }

    fn looking(tokens: usize) -> Read {
        Read { tokens, lookahead: true }
    }
}

/// Something wrong with a query, before it becomes a [`ParseError`].
#[derive(Debug, Clone)]
struct Problem {
    /// Byte offset.
    at: usize,
    message: String,
    read: Read,
}

impl Problem {
    fn into_error(self, text: &str) -> ParseError {
        let position = (!text.is_empty()).then(|| line_and_column(text, self.at));
        ParseError { position, message: self.message }
    }
}

#[derive(pest_derive::Parser)]
#[grammar = "parser/promql.pest"]
struct Grammar;

/// Parses and type-checks a query.
///
/// # Errors
/// The first thing wrong with `text`, in Prometheus' words.
pub fn parse(text: &str, options: &ParseOptions) -> Result<Expr, ParseError> {
    let mut expr = build(text, options, Rule::query, |builder, pairs| builder.query(pairs))?;
    check::check(&mut expr, text).map_err(|problem| problem.into_error(text))?;
    Ok(expr)
}

/// Parses a lone selector such as `up{job="x"}`, as in `match[]`; it may match everything.
///
/// # Errors
/// The first thing wrong with `text`, in Prometheus' words.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    build(text, &ParseOptions::default(), Rule::selector, |builder, pairs| builder.selector(pairs))
}

/// Milliseconds of a duration such as `1h30m`.
///
/// # Errors
/// Prometheus' message.
pub fn parse_duration_ms(text: &str) -> Result<i64, String> {
    literal::parse_duration_ms(text)
}

/// Lexes, matches the grammar and builds; the first problem in Prometheus' order wins.
fn build<T>(
    text: &str,
    options: &ParseOptions,
    rule: Rule,
    make: impl Fn(&mut Builder<'_>, pest::iterators::Pairs<'_, Rule>) -> Option<T>,
) -> Result<T, ParseError> {
    let (tokens, lex_error) = lexer::lex(text);
    if let Some(token) = too_deep(&tokens) {
        return Err(depth_problem(token.start).into_error(text));
    }
    let token_letters = letters(&tokens);
    let refused_at = match match_grammar(rule, &token_letters) {
        Ok(_) if lex_error.is_some() => tokens.len(),
        Ok(pairs) => {
            let mut builder = Builder::new(text, &tokens, options);
            let made = make(&mut builder, pairs);
            return match (builder.into_problems().into_iter().next(), made) {
                (Some(problem), _) => Err(problem.into_error(text)),
                (None, Some(made)) => Ok(made),
                (None, None) => Err(diagnosis::syntax(text, &tokens, tokens.len(), rule).into_error(text)),
            };
        }
        Err(at) => at,
    };
    // What Prometheus notices before it gets to the offending token comes first.
    let read = &tokens[..refused_at.min(tokens.len())];
    let is_lex_error = lex_error.is_some() && refused_at >= tokens.len();
    let completed = diagnosis::complete(read, tokens.get(refused_at), text.len());
    let completed_letters = letters(&completed);
    if let Ok(pairs) = match_grammar(rule, &completed_letters) {
        let mut builder = Builder::new(text, &completed, options);
        make(&mut builder, pairs);
        let noticed = |problem: &Problem| {
            let looked = usize::from(is_lex_error && problem.read.lookahead);
            problem.read.tokens + looked <= read.len()
        };
        if let Some(problem) = builder.into_problems().into_iter().find(noticed) {
            return Err(problem.into_error(text));
        }
    }
    let problem = match lex_error {
        Some(error) if is_lex_error => {
            Problem { at: error.at, message: error.message, read: Read::looking(read.len()) }
        }
        _ => diagnosis::syntax(text, &tokens, refused_at, rule),
    };
    Err(problem.into_error(text))
}

/// One letter a token, which is what the grammar is written over.
fn letters(tokens: &[Token]) -> String {
    tokens.iter().map(|token| token.kind.letter()).collect()
}

/// Matches the grammar, or returns the index of the first token that cannot stand where it does.
fn match_grammar(rule: Rule, letters: &str) -> Result<pest::iterators::Pairs<'_, Rule>, usize> {
    Grammar::parse(rule, letters).map_err(|error| match error.location {
        pest::error::InputLocation::Pos(at) | pest::error::InputLocation::Span((at, _)) => at,
    })
}

fn depth_problem(at: usize) -> Problem {
    Problem { at, message: format!("expression is nested deeper than {MAX_DEPTH} levels"), read: Read::upto(0) }
}

/// The token that opens one bracket too many: grammar and tree are walked with recursion.
fn too_deep(tokens: &[Token]) -> Option<&Token> {
    let mut depth = 0usize;
    tokens.iter().find(|token| {
        match token.kind {
            Kind::LeftParen | Kind::LeftBracket | Kind::LeftBrace => depth += 1,
            Kind::RightParen | Kind::RightBracket | Kind::RightBrace => {
                depth = depth.saturating_sub(1);
            }
            _ => {}
        }
        depth > MAX_DEPTH
    })
}
