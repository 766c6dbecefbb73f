//! What is wrong with a query that the grammar refuses, in Prometheus' words.
//!
//! Prometheus names the innermost construct that is open where a token does not fit. The tokens before that one are
//! well formed, so one pass with a stack of open constructs finds it.

use super::token::{Kind, Token};
use super::{Problem, Read, Rule};

/// The token at index `at` (or the end) cannot follow what stands before it.
pub fn syntax(text: &str, tokens: &[Token], at: usize, rule: Rule) -> Problem {
    let read = Read::looking(at);
    if tokens.is_empty() {
        return Problem { at: 0, message: "no expression found in input".to_owned(), read };
    }
    let at = at.min(tokens.len());
    let (start, description) = match tokens.get(at) {
        Some(token) => (token.start, token.describe(text)),
        None => (text.len(), "end of input".to_owned()),
    };
    let mut scan = Scan::over(&tokens[..at], tokens.get(at));
    if rule == Rule::selector {
        // Nothing but a selector's own braces is known there.
        scan.stack.retain(|frame| matches!(frame, Frame::Braces(_)));
    }
    let context = scan.context();
    Problem { at: start, message: format!("unexpected {description}{context}"), read }
}

/// `tokens` with what is open closed, so that the grammar accepts them; `next` is the token that does not fit.
///
/// The added tokens have no text and stand at `end`.
pub fn complete(tokens: &[Token], next: Option<&Token>, end: usize) -> Vec<Token> {
    let mut completed = tokens.to_vec();
    let added = Scan::over(tokens, next).closing(tokens.last());
    completed.extend(added.into_iter().map(|kind| Token { kind, start: end, end }));
    completed
}

/// Where a bracketed duration is.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Range,
    Step,
}

#[derive(Clone, Copy, PartialEq)]
enum Group {
    Unopened,
    /// A label may follow.
    Label,
    /// A comma or the end may follow.
    Comma,
}

#[derive(Clone, Copy, PartialEq)]
enum Brace {
    Matcher,
    Operator { quoted: bool },
    Value,
    Comma,
}

#[derive(Clone, Copy, PartialEq)]
enum Paren {
    /// Around an expression, the arguments of a call or of an aggregation.
    Expression,
    /// Around a duration.
    Duration,
    /// Of `step()` and `range()` in a duration.
    DurationCall,
    /// Around the arguments of `min_of` and `max_of` in a duration.
    DurationPair {
        comma: bool,
    },
    Fill,
}

/// A construct that is open.
#[derive(Clone, Copy, PartialEq)]
enum Frame {
    /// From the operator to the end of its clause.
    Aggregate {
        clause: bool,
        body: bool,
    },
    Parens(Paren),
    Grouping(Group),
    Braces(Brace),
    Brackets {
        part: Part,
        done: bool,
    },
    /// `general` once it is more than one signed operand.
    Offset {
        signs: usize,
        general: bool,
    },
    At,
}

struct Scan {
    stack: Vec<Frame>,
    /// Whether the innermost expression has its operand.
    operand: bool,
}

impl Scan {
    fn over(tokens: &[Token], next: Option<&Token>) -> Scan {
        let mut scan = Scan { stack: Vec::new(), operand: false };
        for (index, token) in tokens.iter().enumerate() {
            let previous = index.checked_sub(1).map(|before| tokens[before].kind);
            let following = tokens.get(index + 1).or(next.filter(|_| index + 1 == tokens.len()));
            let last = index + 1 == tokens.len();
            scan.take(token.kind, previous, following.map(|token| token.kind), last);
        }
        scan
    }

    fn take(&mut self, kind: Kind, previous: Option<Kind>, next: Option<Kind>, last: bool) {
        match self.stack.last().copied() {
            Some(Frame::Braces(state)) => self.in_braces(state, kind),
            Some(Frame::Grouping(state)) => self.in_grouping(state, kind),
            Some(Frame::Brackets { part, done }) => self.in_brackets(part, done, kind, previous),
            Some(Frame::Offset { signs, general }) => self.in_offset(signs, general, kind, previous, next),
            Some(Frame::At) => match kind {
                Kind::Number | Kind::Duration | Kind::RightParen => {
                    self.stack.pop();
                }
                _ => {}
            },
            Some(Frame::Aggregate { clause, .. }) => match kind {
                Kind::By | Kind::Without => self.stack.push(Frame::Grouping(Group::Unopened)),
                _ => {
                    self.replace(Frame::Aggregate { clause, body: true });
                    self.open_parens(Paren::Expression);
                }
            },
            Some(Frame::Parens(_)) | None => self.in_expression(kind, previous, next, last),
        }
    }

    fn replace(&mut self, frame: Frame) {
        if let Some(top) = self.stack.last_mut() {
            *top = frame;
        }
    }

    fn open_parens(&mut self, paren: Paren) {
        self.stack.push(Frame::Parens(paren));
        self.operand = false;
    }

    fn in_braces(&mut self, state: Brace, kind: Kind) {
        let next = match (state, kind) {
            (_, Kind::RightBrace) => {
                self.stack.pop();
                self.operand = true;
                return;
            }
            (_, Kind::Comma) => Brace::Matcher,
            (Brace::Matcher, _) => Brace::Operator { quoted: kind == Kind::String },
            (Brace::Operator { .. }, _) => Brace::Value,
            (Brace::Value | Brace::Comma, _) => Brace::Comma,
        };
        self.replace(Frame::Braces(next));
    }

    fn in_grouping(&mut self, state: Group, kind: Kind) {
        let next = match (state, kind) {
            (Group::Unopened, _) | (_, Kind::Comma) => Group::Label,
            (_, Kind::RightParen) => {
                self.stack.pop();
                if let Some(Frame::Aggregate { body, .. }) = self.stack.last().copied() {
                    if body {
                        self.stack.pop();
                    } else {
                        self.replace(Frame::Aggregate { clause: true, body });
                    }
                }
                return;
            }
            (Group::Label | Group::Comma, _) => Group::Comma,
        };
        self.replace(Frame::Grouping(next));
    }

    fn in_brackets(&mut self, part: Part, done: bool, kind: Kind, previous: Option<Kind>) {
        let next = match kind {
            Kind::RightBracket => {
                self.stack.pop();
                self.operand = true;
                return;
            }
            Kind::Colon => Frame::Brackets { part: Part::Step, done: false },
            Kind::Number | Kind::Duration => Frame::Brackets { part, done: true },
            Kind::LeftParen => return self.open_parens(duration_paren(previous)),
            Kind::Step | Kind::Range | Kind::MaxOf | Kind::MinOf => Frame::Brackets { part, done },
            _ => Frame::Brackets { part, done: false },
        };
        self.replace(next);
    }

    fn in_offset(&mut self, signs: usize, general: bool, kind: Kind, previous: Option<Kind>, next: Option<Kind>) {
        match kind {
            Kind::Number | Kind::Duration => self.offset_operand(!general && signs <= 1, next),
            Kind::LeftParen => self.open_parens(duration_paren(previous)),
            Kind::Add | Kind::Sub => {
                let signs = signs + 1;
                self.replace(Frame::Offset { signs, general: general || signs > 1 });
            }
            _ => {}
        }
    }

    /// An operand of an offset ends; a `lone` one ends the offset, others may be followed by an operator.
    fn offset_operand(&mut self, lone: bool, next: Option<Kind>) {
        let continues =
            matches!(next, Some(Kind::Add | Kind::Sub | Kind::Mul | Kind::Div | Kind::Mod | Kind::Pow)) && !lone;
        if continues {
            self.replace(Frame::Offset { signs: 0, general: true });
        } else {
            self.stack.pop();
            self.operand = true;
        }
    }

    fn in_expression(&mut self, kind: Kind, previous: Option<Kind>, next: Option<Kind>, last: bool) {
        match kind {
            Kind::LeftBrace => self.stack.push(Frame::Braces(Brace::Matcher)),
            Kind::LeftBracket => self.stack.push(Frame::Brackets { part: Part::Range, done: false }),
            Kind::LeftParen => self.open_parens(match (previous, self.stack.last()) {
                (Some(Kind::Fill | Kind::FillLeft | Kind::FillRight), _) => Paren::Fill,
                (_, Some(Frame::Parens(Paren::Duration | Paren::DurationCall | Paren::DurationPair { .. }))) => {
                    duration_paren(previous)
                }
                _ => Paren::Expression,
            }),
            Kind::RightParen => self.close_parens(next),
            Kind::Comma => {
                self.operand = false;
                if let Some(Frame::Parens(Paren::DurationPair { .. })) = self.stack.last() {
                    self.replace(Frame::Parens(Paren::DurationPair { comma: true }));
                }
            }
            Kind::On | Kind::Ignoring => self.stack.push(Frame::Grouping(Group::Unopened)),
            Kind::GroupLeft | Kind::GroupRight => {
                // Its labels may be left out, but what does not fit behind it is said to be missing them.
                if last || next == Some(Kind::LeftParen) {
                    self.stack.push(Frame::Grouping(Group::Unopened));
                }
            }
            Kind::Offset if self.operand => self.stack.push(Frame::Offset { signs: 0, general: false }),
            Kind::At => self.stack.push(Frame::At),
            Kind::Anchored | Kind::Smoothed if self.operand => {}
            Kind::Bool => {}
            // `fill` is lexed as such only before a parenthesis.
            Kind::Fill | Kind::FillLeft | Kind::FillRight => {}
            Kind::Aggregator(_) if matches!(next, Some(Kind::LeftParen | Kind::By | Kind::Without)) => {
                self.stack.push(Frame::Aggregate { clause: false, body: false });
            }
            Kind::Add | Kind::Sub => self.operand = false,
            _ => self.operand = !self.operand || !is_operator(kind),
        }
    }

    fn close_parens(&mut self, next: Option<Kind>) {
        let closed = self.stack.pop();
        self.operand = closed != Some(Frame::Parens(Paren::Fill));
        match self.stack.last().copied() {
            Some(Frame::Aggregate { clause, .. }) if clause || !matches!(next, Some(Kind::By | Kind::Without)) => {
                self.stack.pop();
            }
            Some(Frame::Brackets { part, .. }) => self.replace(Frame::Brackets { part, done: true }),
            Some(Frame::Offset { signs, general }) => {
                // A call ends the offset, as does a signed parenthesis.
                let call = matches!(closed, Some(Frame::Parens(Paren::DurationCall | Paren::DurationPair { .. })));
                let call = call || signs == 1;
                self.offset_operand(!general && call, next);
            }
            _ => {}
        }
    }

    /// ` in …, expected …` for the innermost construct that has words of its own.
    fn context(&self) -> &'static str {
        self.stack.iter().rev().find_map(|frame| frame_context(*frame)).unwrap_or("")
    }

    /// The tokens that close everything, innermost first.
    fn closing(mut self, last: Option<&Token>) -> Vec<Kind> {
        let mut added = Vec::new();
        let after_comma = last.is_some_and(|token| token.kind == Kind::Comma);
        let mut first = true;
        let in_duration = match self.stack.last() {
            Some(Frame::Parens(paren)) => !matches!(paren, Paren::Expression | Paren::Fill),
            Some(Frame::Brackets { .. } | Frame::Offset { .. }) => true,
            _ => false,
        };
        // A name of a duration's function without its arguments.
        let named = match last.map(|token| token.kind) {
            Some(Kind::Step | Kind::Range) if in_duration => {
                added.extend([Kind::LeftParen, Kind::RightParen]);
                true
            }
            Some(Kind::MaxOf | Kind::MinOf) if in_duration => {
                added.extend([Kind::LeftParen, Kind::Number, Kind::Comma, Kind::Number, Kind::RightParen]);
                true
            }
            _ => false,
        };
        self.operand |= named;
        while let Some(frame) = self.stack.pop() {
            let is_first = std::mem::replace(&mut first, false);
            let after_argument = is_first && after_comma;
            match frame {
                Frame::Braces(state) => {
                    match state {
                        Brace::Operator { quoted: false } => added.extend([Kind::Equal, Kind::String]),
                        Brace::Value => added.push(Kind::String),
                        Brace::Operator { quoted: true } | Brace::Matcher | Brace::Comma => {}
                    }
                    added.push(Kind::RightBrace);
                    self.operand = true;
                }
                Frame::Grouping(state) => {
                    if state == Group::Unopened {
                        added.push(Kind::LeftParen);
                    }
                    added.push(Kind::RightParen);
                    if let Some(Frame::Aggregate { body: true, .. }) = self.stack.last() {
                        self.stack.pop();
                        self.operand = true;
                    }
                }
                Frame::Aggregate { body, .. } => {
                    if !body {
                        added.extend([Kind::LeftParen, Kind::Number, Kind::RightParen]);
                    }
                    self.operand = true;
                }
                Frame::Parens(Paren::DurationCall) => {
                    added.push(Kind::RightParen);
                    self.operand = true;
                }
                Frame::Parens(Paren::DurationPair { comma }) => {
                    if !self.operand {
                        added.push(Kind::Number);
                    }
                    if !comma {
                        added.extend([Kind::Comma, Kind::Number]);
                    }
                    added.push(Kind::RightParen);
                    self.operand = true;
                }
                Frame::Parens(_) => {
                    let empty = last.is_some_and(|token| token.kind == Kind::LeftParen) && added.is_empty();
                    if !self.operand && !after_argument || empty {
                        added.push(Kind::Number);
                    }
                    added.push(Kind::RightParen);
                    self.operand = true;
                }
                Frame::Brackets { done, .. } => {
                    let has_operand = done || if is_first { named } else { self.operand };
                    if !has_operand {
                        added.push(Kind::Number);
                    }
                    added.push(Kind::RightBracket);
                    self.operand = true;
                }
                Frame::Offset { .. } => {
                    if is_first && !named {
                        added.push(Kind::Number);
                    }
                    self.operand = true;
                }
                Frame::At => {
                    // Behind `@ start` stand parentheses.
                    match last.map(|token| token.kind) {
                        Some(Kind::Start | Kind::End) => added.extend([Kind::LeftParen, Kind::RightParen]),
                        Some(Kind::LeftParen) => added.push(Kind::RightParen),
                        _ => added.push(Kind::Number),
                    }
                    self.operand = true;
                }
            }
        }
        if !self.operand {
            added.push(Kind::Number);
        }
        added
    }
}

fn duration_paren(previous: Option<Kind>) -> Paren {
    match previous {
        Some(Kind::Step | Kind::Range) => Paren::DurationCall,
        Some(Kind::MaxOf | Kind::MinOf) => Paren::DurationPair { comma: false },
        _ => Paren::Duration,
    }
}

fn is_operator(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Add
            | Kind::Sub
            | Kind::Mul
            | Kind::Div
            | Kind::Mod
            | Kind::Pow
            | Kind::EqualEqual
            | Kind::NotEqual
            | Kind::GreaterEqual
            | Kind::Greater
            | Kind::LessEqual
            | Kind::Less
            | Kind::TrimUpper
            | Kind::TrimLower
            | Kind::And
            | Kind::Or
            | Kind::Unless
            | Kind::Atan2
    )
}

fn frame_context(frame: Frame) -> Option<&'static str> {
    Some(match frame {
        Frame::Parens(_) => return None,
        Frame::Aggregate { .. } => " in aggregation",
        Frame::Grouping(Group::Unopened) => " in grouping opts, expected \"(\"",
        Frame::Grouping(Group::Label) => " in grouping opts, expected label",
        Frame::Grouping(Group::Comma) => " in grouping opts, expected \",\" or \")\"",
        Frame::Braces(Brace::Matcher) => " in label matching, expected identifier or \"}\"",
        Frame::Braces(Brace::Operator { quoted: false }) => " in label matching, expected label matching operator",
        Frame::Braces(Brace::Value) => " in label matching, expected string",
        Frame::Braces(Brace::Comma | Brace::Operator { quoted: true }) => " in label matching, expected \",\" or \"}\"",
        Frame::Brackets { part: Part::Range, done: false } => {
            " in subquery or range selector, expected number, duration, step(), or range()"
        }
        Frame::Brackets { part: Part::Range, done: true } => " in subquery or range, expected \":\" or \"]\"",
        Frame::Brackets { part: Part::Step, done: false } => {
            " in subquery selector, expected number, duration, step(), range(), or \"]\""
        }
        Frame::Brackets { part: Part::Step, done: true } => " in subquery selector, expected \"]\"",
        Frame::Offset { .. } => " in offset, expected number, duration, step(), or range()",
        Frame::At => " in @, expected timestamp",
    })
}
