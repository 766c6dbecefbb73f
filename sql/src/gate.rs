//! The gate before the parser: statements that could overflow the planner's stack or keep it busy are refused.
//!
//! Works on tokens, so that nothing recursive ever sees a refused statement. The parser's own recursion limit only
//! covers nesting; flat chains (`1+1+1…`, `a OR b OR…`, `x::int::int…`, `… UNION ALL …`) build left-deep trees that
//! planner, optimizer and even `Drop` walk recursively. So the gate computes an upper bound of the tree's depth.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, TokenizerError};

use crate::error::{SqlError, position_of, sqlstate};

/// Bounds on one message of SQL text. A bound is inclusive.
#[derive(Debug, Clone, Copy)]
pub struct GateLimits {
    pub max_bytes: usize,
    pub max_tokens: usize,
    /// Of expression trees: nested parentheses and operators in a row count alike.
    pub max_depth: usize,
    pub max_parentheses: usize,
    pub max_set_operations: usize,
    pub max_joins: usize,
}

impl Default for GateLimits {
    fn default() -> GateLimits {
        GateLimits {
            max_bytes: 256 * 1024,
            max_tokens: 50_000,
            max_depth: 400,
            max_parentheses: 100,
            max_set_operations: 64,
            max_joins: 24,
        }
    }
}

/// Tokens of each statement in `sql`, without whitespace, comments and semicolons; statements without tokens are left out.
///
/// # Errors
/// `42601` where text is no token; `54001` and `54000` where a limit is exceeded.
pub fn tokenize(sql: &str, limits: &GateLimits) -> Result<Vec<Vec<TokenWithSpan>>, SqlError> {
    if sql.len() > limits.max_bytes {
        return Err(SqlError::new(
            sqlstate::LIMIT_EXCEEDED,
            format!("statement has {} bytes, the limit is {}", sql.len(), limits.max_bytes),
        ));
    }
    if sql.contains('\0') {
        return Err(SqlError::new(sqlstate::SYNTAX_ERROR, "syntax error: the text holds a NUL character"));
    }
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize_with_location().map_err(|error| {
        let TokenizerError { message, location } = error;
        SqlError::new(sqlstate::SYNTAX_ERROR, format!("syntax error: {message}")).at(position_of(
            sql,
            location.line,
            location.column,
        ))
    })?;
    let mut statements = Vec::new();
    let mut current = Vec::new();
    let mut token_count = 0;
    for token in tokens {
        match token.token {
            Token::Whitespace(_) | Token::EOF => {}
            Token::SemiColon => {
                if !current.is_empty() {
                    statements.push(std::mem::take(&mut current));
                }
            }
            _ => {
                token_count += 1;
                current.push(token);
            }
        }
    }
    if !current.is_empty() {
        statements.push(current);
    }
    if token_count > limits.max_tokens {
        return Err(too_complex("words and symbols", token_count, limits.max_tokens));
    }
    for statement in &statements {
        check(statement, limits)?;
    }
    Ok(statements)
}

/// Depth bookkeeping of one pair of parentheses.
#[derive(Default)]
struct Level {
    /// Operators since the last comma or clause keyword: the spine of the current expression.
    operators: usize,
    /// Deepest thing inside parentheses of the current expression.
    deepest_child: usize,
    /// Deepest expression finished on this level.
    deepest: usize,
}

impl Level {
    fn end_expression(&mut self) {
        self.deepest = self.deepest.max(self.operators + self.deepest_child);
        self.operators = 0;
        self.deepest_child = 0;
    }
}

fn check(tokens: &[TokenWithSpan], limits: &GateLimits) -> Result<(), SqlError> {
    let mut levels = vec![Level::default()];
    let mut set_operations = 0;
    let mut joins = 0;
    for token in tokens {
        let level = levels.last_mut().expect("the outermost level is never closed");
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                // A subscript hangs on the expression before it, so it lengthens the spine as an operator does.
                if matches!(token.token, Token::LBracket) {
                    level.operators += 1;
                }
                if levels.len() > limits.max_parentheses {
                    return Err(too_complex("nested parentheses", levels.len(), limits.max_parentheses));
                }
                levels.push(Level::default());
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                level.end_expression();
                let depth = level.deepest + 1;
                if levels.len() > 1 {
                    levels.pop();
                    let parent = levels.last_mut().expect("just checked");
                    parent.deepest_child = parent.deepest_child.max(depth);
                }
            }
            Token::Comma => level.end_expression(),
            Token::Word(word) => match word.keyword {
                Keyword::SELECT
                | Keyword::FROM
                | Keyword::WHERE
                | Keyword::HAVING
                | Keyword::ORDER
                | Keyword::GROUP
                | Keyword::LIMIT
                | Keyword::ON
                    if word.quote_style.is_none() =>
                {
                    level.end_expression();
                }
                Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT if word.quote_style.is_none() => {
                    set_operations += 1;
                }
                Keyword::JOIN if word.quote_style.is_none() => joins += 1,
                Keyword::AND
                | Keyword::OR
                | Keyword::XOR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::NOTNULL
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::SIMILAR
                | Keyword::RLIKE
                | Keyword::REGEXP
                | Keyword::IN
                | Keyword::BETWEEN
                | Keyword::COLLATE
                | Keyword::AT
                | Keyword::CASE
                | Keyword::OPERATOR
                | Keyword::OVERLAPS
                | Keyword::DIV
                    if word.quote_style.is_none() =>
                {
                    level.operators += 1;
                }
                _ => {}
            },
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DollarQuotedString(_)
            | Token::Placeholder(_)
            | Token::Period => {}
            // Everything else is an operator, known or custom.
            _ => level.operators += 1,
        }
    }
    while let Some(mut level) = levels.pop() {
        level.end_expression();
        if level.deepest > limits.max_depth {
            return Err(too_complex("operators in one expression", level.deepest, limits.max_depth));
        }
        if let Some(parent) = levels.last_mut() {
            parent.deepest_child = parent.deepest_child.max(level.deepest + 1);
        }
    }
    if set_operations > limits.max_set_operations {
        return Err(too_complex("set operations", set_operations, limits.max_set_operations));
    }
    if joins > limits.max_joins {
        return Err(too_complex("joins", joins, limits.max_joins));
    }
    Ok(())
}

fn too_complex(what: &str, found: usize, limit: usize) -> SqlError {
    SqlError::new(sqlstate::TOO_COMPLEX, format!("statement is too complex: {found} {what}, the limit is {limit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str) -> Result<usize, &'static str> {
        tokenize(sql, &GateLimits::default()).map(|statements| statements.len()).map_err(|error| error.sqlstate)
    }

    #[test]
    fn ordinary_statements_pass() {
        assert_eq!(check("select 1; ; select a, b from t where x in (1,2,3) and y ~ 'z' -- ;\n"), Ok(2));
        assert_eq!(check(""), Ok(0));
        assert_eq!(check("-- ping"), Ok(0));
        let wide: Vec<String> = (0..2000).map(|i| format!("{i}+1")).collect();
        assert_eq!(check(&format!("select {}", wide.join(","))), Ok(1), "width is no depth");
    }

    #[test]
    fn chains_and_nests_are_too_complex() {
        for sql in [
            format!("select 1{}", "+1".repeat(2000)),
            format!("select x=0{}", " or x=0".repeat(2000)),
            format!("select 1{}", "::int".repeat(5000)),
            format!("select 1{}", " union all select 1".repeat(10_000)),
            format!("select {}1{}", "(".repeat(500), ")".repeat(500)),
            format!("select {} true", "not ".repeat(5000)),
            format!("select a{}", "[1]".repeat(1000)),
            format!("select 1 from a{}", " join b on true".repeat(40)),
            // Chains below the limit on each level of nesting still add up.
            format!("select {}1{}", "(1+1+1+1+1+1+".repeat(90), ")".repeat(90)),
        ] {
            assert_eq!(check(&sql), Err(sqlstate::TOO_COMPLEX), "{}", &sql[..60]);
        }
        assert_eq!(check(&"x".repeat(300_000)), Err(sqlstate::LIMIT_EXCEEDED));
        assert_eq!(check("select 'open"), Err(sqlstate::SYNTAX_ERROR));
        assert_eq!(check(&format!("select 1{}", "/*".repeat(5000))), Err(sqlstate::SYNTAX_ERROR));
    }
}
