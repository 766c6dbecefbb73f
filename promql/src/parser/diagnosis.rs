//! What is wrong with a query that the grammar refuses, in Prometheus' words.

use super::lexer::Token;
use super::{ParseOptions, Problem, Rule};

/// The token at index `at` (or the end) cannot follow what stands before it.
pub fn syntax(text: &str, tokens: &[Token], at: usize) -> Problem {
    if tokens.is_empty() {
        return Problem { at: 0, message: "no expression found in input".to_owned(), read: 1 };
    }
    let (start, description) = match tokens.get(at) {
        Some(token) => (token.start, token.describe(text)),
        None => (text.len(), "end of input".to_owned()),
    };
    Problem { at: start, message: format!("unexpected {description}"), read: at + 1 }
}

pub fn first(_text: &str, _tokens: &[Token], _options: &ParseOptions, _rule: Rule, problem: Problem) -> Problem {
    problem
}
