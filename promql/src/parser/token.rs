//! The tokens of PromQL.
//!
//! Every kind has one letter, so that the grammar in `promql.pest` is written over tokens, not characters: what a token
//! is depends on state that a context-free grammar cannot carry.

use super::quote::quote;
use crate::ast::AggregateOp;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Equal,
    Comma,
    Colon,
    LeftBrace,
    RightBrace,
    LeftParen,
    RightParen,
    LeftBracket,
    RightBracket,
    Identifier,
    MetricIdentifier,
    Number,
    Duration,
    String,
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    EqualEqual,
    NotEqual,
    GreaterEqual,
    Greater,
    LessEqual,
    Less,
    TrimUpper,
    TrimLower,
    EqualRegex,
    NotEqualRegex,
    At,
    And,
    Or,
    Unless,
    Atan2,
    Aggregator(AggregateOp),
    Bool,
    By,
    Without,
    On,
    Ignoring,
    GroupLeft,
    GroupRight,
    Fill,
    FillLeft,
    FillRight,
    Offset,
    Smoothed,
    Anchored,
    Start,
    End,
    Step,
    Range,
    MaxOf,
    MinOf,
}

impl Kind {
    /// The letter that stands for the kind in `promql.pest`.
    pub fn letter(self) -> char {
        match self {
            Kind::Equal => '=',
            Kind::Comma => ',',
            Kind::Colon => ':',
            Kind::LeftBrace => '{',
            Kind::RightBrace => '}',
            Kind::LeftParen => '(',
            Kind::RightParen => ')',
            Kind::LeftBracket => '[',
            Kind::RightBracket => ']',
            Kind::Identifier => 'i',
            Kind::MetricIdentifier => 'm',
            Kind::Number => 'n',
            Kind::Duration => 'd',
            Kind::String => 's',
            Kind::Add => '+',
            Kind::Sub => '-',
            Kind::Mul => '*',
            Kind::Div => '/',
            Kind::Mod => '%',
            Kind::Pow => '^',
            Kind::EqualEqual => 'e',
            Kind::NotEqual => '!',
            Kind::GreaterEqual => 'g',
            Kind::Greater => '>',
            Kind::LessEqual => 'l',
            Kind::Less => '<',
            Kind::TrimUpper => 'v',
            Kind::TrimLower => 'w',
            Kind::EqualRegex => '~',
            Kind::NotEqualRegex => '?',
            Kind::At => '@',
            Kind::And => '&',
            Kind::Or => '|',
            Kind::Unless => 'u',
            Kind::Atan2 => 't',
            Kind::Aggregator(_) => 'A',
            Kind::Bool => 'B',
            Kind::By => 'Y',
            Kind::Without => 'W',
            Kind::On => 'O',
            Kind::Ignoring => 'I',
            Kind::GroupLeft => 'L',
            Kind::GroupRight => 'R',
            Kind::Fill => 'F',
            Kind::FillLeft => 'C',
            Kind::FillRight => 'D',
            Kind::Offset => 'o',
            Kind::Smoothed => 'S',
            Kind::Anchored => 'H',
            Kind::Start => 'b',
            Kind::End => 'z',
            Kind::Step => 'p',
            Kind::Range => 'r',
            Kind::MaxOf => 'x',
            Kind::MinOf => 'y',
        }
    }

    fn is_keyword(self) -> bool {
        use Kind::*;
        matches!(
            self,
            Bool | By
                | GroupLeft
                | GroupRight
                | Fill
                | FillLeft
                | FillRight
                | Ignoring
                | Offset
                | Smoothed
                | Anchored
                | On
                | Without
        )
    }

    fn is_operator(self) -> bool {
        use Kind::*;
        matches!(
            self,
            Add | Sub
                | Mul
                | Div
                | Mod
                | Pow
                | EqualEqual
                | NotEqual
                | GreaterEqual
                | Greater
                | LessEqual
                | Less
                | TrimUpper
                | TrimLower
                | EqualRegex
                | NotEqualRegex
                | At
                | And
                | Or
                | Unless
                | Atan2
        )
    }
}

/// One token: `text[start..end]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

impl Token {
    /// The token as an error message names it, such as `<op:*>` or `identifier "x"`.
    pub fn describe(&self, text: &str) -> String {
        let value = &text[self.start..self.end];
        let class = match self.kind {
            Kind::Identifier => return format!("identifier {}", quote(value)),
            Kind::MetricIdentifier => return format!("metric identifier {}", quote(value)),
            kind if kind.is_keyword() => return format!("<{value}>"),
            kind if kind.is_operator() => return format!("<op:{value}>"),
            Kind::Aggregator(_) => return format!("<aggr:{value}>"),
            Kind::String => "string ",
            Kind::Number => "number ",
            Kind::Duration => "duration ",
            _ => "",
        };
        if value.len() > 10 {
            let head: String = value.chars().take(10).collect();
            return format!("{class}{}...", quote(&head));
        }
        format!("{class}{}", quote(value))
    }
}

/// The keyword that `word` is, in any case.
pub fn keyword(word: &str) -> Option<Kind> {
    use AggregateOp as Op;
    Some(match word.to_ascii_lowercase().as_str() {
        "and" => Kind::And,
        "or" => Kind::Or,
        "unless" => Kind::Unless,
        "atan2" => Kind::Atan2,
        "sum" => Kind::Aggregator(Op::Sum),
        "avg" => Kind::Aggregator(Op::Avg),
        "count" => Kind::Aggregator(Op::Count),
        "min" => Kind::Aggregator(Op::Min),
        "max" => Kind::Aggregator(Op::Max),
        "group" => Kind::Aggregator(Op::Group),
        "stddev" => Kind::Aggregator(Op::Stddev),
        "stdvar" => Kind::Aggregator(Op::Stdvar),
        "topk" => Kind::Aggregator(Op::Topk),
        "bottomk" => Kind::Aggregator(Op::Bottomk),
        "count_values" => Kind::Aggregator(Op::CountValues),
        "quantile" => Kind::Aggregator(Op::Quantile),
        "limitk" => Kind::Aggregator(Op::Limitk),
        "limit_ratio" => Kind::Aggregator(Op::LimitRatio),
        "offset" => Kind::Offset,
        "smoothed" => Kind::Smoothed,
        "anchored" => Kind::Anchored,
        "by" => Kind::By,
        "without" => Kind::Without,
        "on" => Kind::On,
        "ignoring" => Kind::Ignoring,
        "group_left" => Kind::GroupLeft,
        "group_right" => Kind::GroupRight,
        "fill" => Kind::Fill,
        "fill_left" => Kind::FillLeft,
        "fill_right" => Kind::FillRight,
        "bool" => Kind::Bool,
        "start" => Kind::Start,
        "end" => Kind::End,
        "step" => Kind::Step,
        "range" => Kind::Range,
        "max_of" => Kind::MaxOf,
        "min_of" => Kind::MinOf,
        "inf" | "nan" => Kind::Number,
        _ => return None,
    })
}
