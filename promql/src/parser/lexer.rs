//! Text to tokens, with the states of Prometheus' lexer: inside braces keywords are identifiers, inside brackets
//! durations are computed, and `fill` is a keyword only before a parenthesis.

use super::quote::{quote, quote_char};
use super::token::{Kind, Token, keyword};

/// Why lexing stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LexError {
    /// Byte offset that the message is about.
    pub at: usize,
    pub message: String,
}

/// All tokens up to the end of `text`, or up to the first error.
pub fn lex(text: &str) -> (Vec<Token>, Option<LexError>) {
    let mut lexer = Lexer { text, ..Lexer::default() };
    let error = lexer.run().err();
    (lexer.tokens, error)
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Mode {
    #[default]
    Statements,
    /// Between `[` and the first number: Prometheus reads only duration arithmetic there.
    Duration,
}

#[derive(Default)]
struct Lexer<'a> {
    text: &'a str,
    pos: usize,
    start: usize,
    tokens: Vec<Token>,
    mode: Mode,
    paren_depth: usize,
    brace_open: bool,
    bracket_open: bool,
    got_colon: bool,
    got_duration: bool,
}

impl Lexer<'_> {
    fn run(&mut self) -> Result<(), LexError> {
        loop {
            let done = match self.mode {
                Mode::Duration => self.duration_expression()?,
                Mode::Statements if self.brace_open => self.inside_braces()?,
                Mode::Statements => self.statement()?,
            };
            if done {
                return Ok(());
            }
        }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.pos..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek();
        self.pos += next.map_or(0, char::len_utf8);
        next
    }

    fn accept(&mut self, valid: &str) -> bool {
        let found = self.peek().is_some_and(|c| valid.contains(c));
        if found {
            self.pos += 1;
        }
        found
    }

    fn is(&self, valid: &str) -> bool {
        self.peek().is_some_and(|c| valid.contains(c))
    }

    fn emit(&mut self, kind: Kind) {
        self.tokens.push(Token { kind, start: self.start, end: self.pos });
        self.start = self.pos;
    }

    fn error<T>(&self, message: String) -> Result<T, LexError> {
        Err(LexError { at: self.start, message })
    }

    /// For the errors that Prometheus raises right after reading a token: the token is not seen by the parser, and
    /// the error stands behind it.
    fn error_behind<T>(&mut self, message: String) -> Result<T, LexError> {
        Err(LexError { at: self.pos, message })
    }

    fn skip_spaces(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.pos += 1;
        }
        self.start = self.pos;
    }

    fn line_comment(&mut self) {
        while self.peek().is_some_and(|c| c != '\n' && c != '\r') {
            self.next();
        }
        self.start = self.pos;
    }

    fn statement(&mut self) -> Result<bool, LexError> {
        let Some(c) = self.peek() else {
            if self.paren_depth != 0 {
                return self.error("unclosed left parenthesis".to_owned());
            }
            if self.bracket_open {
                return self.error("unclosed left bracket".to_owned());
            }
            return Ok(true);
        };
        if c == '#' {
            self.line_comment();
            return Ok(false);
        }
        self.next();
        match c {
            ',' => self.emit(Kind::Comma),
            _ if is_space(c) => self.skip_spaces(),
            '*' => self.emit(Kind::Mul),
            '/' => self.emit(Kind::Div),
            '%' => self.emit(Kind::Mod),
            '+' => self.emit(Kind::Add),
            '-' => self.emit(Kind::Sub),
            '^' => self.emit(Kind::Pow),
            '=' => match self.peek() {
                Some('=') => {
                    self.next();
                    self.emit(Kind::EqualEqual);
                }
                Some('~') => return self.error("unexpected character after '=': '~'".to_owned()),
                _ => self.emit(Kind::Equal),
            },
            '!' => match self.next() {
                Some('=') => self.emit(Kind::NotEqual),
                other => return self.error(format!("unexpected character after '!': {}", quote_char(other))),
            },
            '<' => {
                let kind = if self.accept("=") {
                    Kind::LessEqual
                } else if self.accept("/") {
                    Kind::TrimUpper
                } else {
                    Kind::Less
                };
                self.emit(kind);
            }
            '>' => {
                let kind = if self.accept("=") {
                    Kind::GreaterEqual
                } else if self.accept("/") {
                    Kind::TrimLower
                } else {
                    Kind::Greater
                };
                self.emit(kind);
            }
            _ if c.is_ascii_digit() || (c == '.' && self.peek().is_some_and(|c| c.is_ascii_digit())) => {
                self.pos -= 1;
                self.number_or_duration()?;
            }
            '"' | '\'' => self.string(c)?,
            '`' => self.raw_string()?,
            _ if is_alpha(c) || c == ':' => {
                if !self.bracket_open {
                    self.pos -= 1;
                    self.keyword_or_identifier();
                } else if c == ':' {
                    if self.got_colon {
                        return self.error("unexpected colon ':'".to_owned());
                    }
                    self.emit(Kind::Colon);
                    self.got_colon = true;
                } else if !(starts_duration_keyword(c) && self.duration_keyword()) {
                    return self.error(format!("unexpected character: {}, expected ':'", quote_char(Some(c))));
                }
            }
            '(' => {
                self.emit(Kind::LeftParen);
                self.paren_depth += 1;
            }
            ')' => self.right_paren()?,
            '{' => {
                self.emit(Kind::LeftBrace);
                self.brace_open = true;
            }
            '[' => {
                if self.bracket_open {
                    return self.error("unexpected left bracket '['".to_owned());
                }
                self.got_colon = false;
                self.emit(Kind::LeftBracket);
                self.skip_spaces();
                self.bracket_open = true;
                self.mode = Mode::Duration;
            }
            ']' => {
                if !self.bracket_open {
                    return self.error("unexpected right bracket ']'".to_owned());
                }
                self.emit(Kind::RightBracket);
                self.bracket_open = false;
            }
            '@' => self.emit(Kind::At),
            _ => return self.error(format!("unexpected character: {}", quote_char(Some(c)))),
        }
        Ok(false)
    }

    fn right_paren(&mut self) -> Result<(), LexError> {
        if self.paren_depth == 0 {
            return self.error_behind("unexpected right parenthesis ')'".to_owned());
        }
        self.emit(Kind::RightParen);
        self.paren_depth -= 1;
        Ok(())
    }

    fn duration_expression(&mut self) -> Result<bool, LexError> {
        let Some(c) = self.next() else {
            return self.error("unexpected end of input in duration expression".to_owned());
        };
        match c {
            ']' => {
                self.emit(Kind::RightBracket);
                self.bracket_open = false;
                self.got_colon = false;
                self.mode = Mode::Statements;
            }
            ':' => {
                if !self.got_duration {
                    return self.error_behind("unexpected colon before duration in duration expression".to_owned());
                }
                if self.got_colon {
                    return self.error_behind("unexpected repeated colon in duration expression".to_owned());
                }
                self.emit(Kind::Colon);
                self.got_colon = true;
            }
            '(' => {
                self.emit(Kind::LeftParen);
                self.paren_depth += 1;
            }
            ')' => self.right_paren()?,
            _ if is_space(c) => self.skip_spaces(),
            '+' => self.emit(Kind::Add),
            '-' => self.emit(Kind::Sub),
            '*' => self.emit(Kind::Mul),
            '/' => self.emit(Kind::Div),
            '%' => self.emit(Kind::Mod),
            '^' => self.emit(Kind::Pow),
            ',' => self.emit(Kind::Comma),
            _ if starts_duration_keyword(c) && self.duration_keyword() => {}
            _ if c.is_ascii_digit() || (c == '.' && self.peek().is_some_and(|c| c.is_ascii_digit())) => {
                self.pos -= 1;
                self.got_duration = true;
                self.mode = Mode::Statements;
                self.number_or_duration()?;
            }
            _ => {
                return self.error(format!("unexpected character in duration expression: {}", quote_char(Some(c))));
            }
        }
        Ok(false)
    }

    fn inside_braces(&mut self) -> Result<bool, LexError> {
        let Some(c) = self.peek() else {
            return self.error("unexpected end of input inside braces".to_owned());
        };
        if c == '#' {
            self.line_comment();
            return Ok(false);
        }
        self.next();
        match c {
            _ if is_space(c) => self.skip_spaces(),
            _ if is_alpha(c) => {
                while self.peek().is_some_and(is_alphanumeric) {
                    self.pos += 1;
                }
                self.emit(Kind::Identifier);
            }
            ',' => self.emit(Kind::Comma),
            '"' | '\'' => self.string(c)?,
            '`' => self.raw_string()?,
            '=' => {
                let kind = if self.accept("~") { Kind::EqualRegex } else { Kind::Equal };
                self.emit(kind);
            }
            '!' => match self.next() {
                Some('~') => self.emit(Kind::NotEqualRegex),
                Some('=') => self.emit(Kind::NotEqual),
                other => {
                    return self.error(format!("unexpected character after '!' inside braces: {}", quote_char(other)));
                }
            },
            '{' => return self.error("unexpected left brace '{'".to_owned()),
            '}' => {
                self.emit(Kind::RightBrace);
                self.brace_open = false;
            }
            _ => return self.error(format!("unexpected character inside braces: {}", quote_char(Some(c)))),
        }
        Ok(false)
    }

    /// The first letter of the word is already read.
    fn duration_keyword(&mut self) -> bool {
        while self.peek().is_some_and(is_alpha) {
            self.pos += 1;
        }
        let kind = match self.text[self.start..self.pos].to_ascii_lowercase().as_str() {
            "step" => Kind::Step,
            "range" => Kind::Range,
            "max_of" => Kind::MaxOf,
            "min_of" => Kind::MinOf,
            _ => return false,
        };
        self.emit(kind);
        true
    }

    fn keyword_or_identifier(&mut self) {
        while self.peek().is_some_and(|c| is_alphanumeric(c) || c == ':') {
            self.pos += 1;
        }
        let word = &self.text[self.start..self.pos];
        let kind = match keyword(word) {
            Some(Kind::Fill | Kind::FillLeft | Kind::FillRight)
                if !self.text[self.pos..].trim_start_matches(is_space).starts_with('(') =>
            {
                Kind::Identifier
            }
            Some(kind) => kind,
            None if word.contains(':') => Kind::MetricIdentifier,
            None => Kind::Identifier,
        };
        self.emit(kind);
    }

    fn string(&mut self, quote: char) -> Result<(), LexError> {
        loop {
            match self.next() {
                Some('\\') => self.escape(quote)?,
                Some(char::REPLACEMENT_CHARACTER) => return self.error("invalid UTF-8 rune".to_owned()),
                None | Some('\n') => return self.error("unterminated quoted string".to_owned()),
                Some(c) if c == quote => break,
                Some(_) => {}
            }
        }
        self.emit(Kind::String);
        Ok(())
    }

    fn raw_string(&mut self) -> Result<(), LexError> {
        loop {
            match self.next() {
                Some(char::REPLACEMENT_CHARACTER) => return self.error("invalid UTF-8 rune".to_owned()),
                None => return self.error("unterminated raw string".to_owned()),
                Some('`') => break,
                Some(_) => {}
            }
        }
        self.emit(Kind::String);
        Ok(())
    }

    fn escape(&mut self, quote: char) -> Result<(), LexError> {
        let mut next = self.next();
        let (digits, base, max) = match next {
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\') => return Ok(()),
            Some(c) if c == quote => return Ok(()),
            Some('0'..='7') => (3, 8, 255),
            Some('x') => (2, 16, 255),
            Some('u') => (4, 16, 0x10_ffff),
            Some('U') => (8, 16, 0x10_ffff),
            None => return self.error("escape sequence not terminated".to_owned()),
            Some(c) => return self.error(format!("unknown escape sequence {}", code_point(c))),
        };
        if base == 16 {
            next = self.next();
        }
        let mut value = 0u64;
        for digit in 0..digits {
            match next {
                None => return self.error("escape sequence not terminated".to_owned()),
                Some(c) => match c.to_digit(base) {
                    None => return self.error(format!("illegal character {} in escape sequence", code_point(c))),
                    Some(d) => value = value * u64::from(base) + u64::from(d),
                },
            }
            if digit + 1 < digits {
                next = self.next();
            }
        }
        if value > max || (0xd800..0xe000).contains(&value) {
            return self.error("escape sequence is an invalid Unicode code point".to_owned());
        }
        Ok(())
    }

    fn number_or_duration(&mut self) -> Result<(), LexError> {
        if self.scan_number() {
            self.emit(Kind::Number);
        } else if self.scan_rest_of_duration() {
            self.emit(Kind::Duration);
        } else {
            return self.error(format!("bad number or duration syntax: {}", quote(&self.text[self.start..self.pos])));
        }
        Ok(())
    }

    /// Leaves the position where scanning stopped, also on failure: [`Lexer::scan_rest_of_duration`] goes on there.
    fn scan_number(&mut self) -> bool {
        let begin = self.pos;
        let mut digits = "0123456789";
        if self.accept("0") && self.accept("xX") {
            self.accept("_");
            digits = "0123456789abcdefABCDEF";
        }
        let hexadecimal = digits.len() > 10;
        self.accept(".");
        self.accept(digits);
        let (mut dot_seen, mut exponent_seen) = (false, false);
        while self.is(digits) || self.is("._eE") {
            if self.is(".") && dot_seen || self.is("eE") && exponent_seen {
                self.pos += 1;
                return false;
            }
            if self.accept(".") {
                dot_seen = true;
                if self.accept("_.") || hexadecimal {
                    return false;
                }
            } else if self.accept("eE") {
                exponent_seen = true;
                self.accept("+-");
                if self.accept("._eE") || self.peek().is_none() {
                    return false;
                }
            } else if self.accept("_") {
                if self.accept("._eE") || self.peek().is_none() {
                    return false;
                }
            } else {
                while self.accept(digits) {}
            }
        }
        self.pos != begin && !self.peek().is_some_and(is_alphanumeric)
    }

    fn scan_rest_of_duration(&mut self) -> bool {
        if !self.accept("smhdwy") {
            return false;
        }
        // Bad units such as `hs` are told when the duration is parsed.
        self.accept("s");
        while self.is("0123456789") {
            while self.accept("0123456789") {}
            if !self.accept("smhdw") {
                return false;
            }
            self.accept("s");
        }
        if self.peek().is_some_and(is_alphanumeric) {
            self.pos += 1;
            return false;
        }
        // Prometheus reads one character further and, on success, steps back.
        true
    }
}

fn starts_duration_keyword(c: char) -> bool {
    matches!(c.to_ascii_lowercase(), 's' | 'r' | 'm')
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn is_alpha(c: char) -> bool {
    c == '_' || c.is_ascii_alphabetic()
}

fn is_alphanumeric(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric()
}

/// `U+0063 'c'`.
fn code_point(c: char) -> String {
    if quote_char(Some(c)).starts_with("'\\") && c != '\\' && c != '\'' {
        return format!("U+{:04X}", c as u32);
    }
    format!("U+{:04X} '{c}'", c as u32)
}
