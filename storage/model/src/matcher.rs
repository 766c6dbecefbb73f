//! Label conditions as written in PromQL.

use std::fmt;
use std::sync::Arc;

use crate::{GoRegex, Labels, RegexError};

/// The four kinds of matcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOp {
    Equal,
    NotEqual,
    Regex,
    NotRegex,
}

impl MatchOp {
    /// The operator as PromQL writes it.
    pub fn symbol(self) -> &'static str {
        match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        }
    }
}

/// One label condition. A missing label equals the empty string; regexes are anchored at both ends.
#[derive(Clone)]
pub struct Matcher {
    op: MatchOp,
    name: Arc<str>,
    value: Arc<str>,
    regex: Option<GoRegex>,
}

impl Matcher {
    /// # Errors
    /// The regex is not valid Go RE2 syntax.
    pub fn new(op: MatchOp, name: &str, value: &str) -> Result<Matcher, RegexError> {
        let regex = match op {
            MatchOp::Regex | MatchOp::NotRegex => Some(GoRegex::new_anchored(value)?),
            MatchOp::Equal | MatchOp::NotEqual => None,
        };
        Ok(Matcher { op, name: name.into(), value: value.into(), regex })
    }

    /// `name="value"`.
    pub fn equal(name: &str, value: &str) -> Matcher {
        Matcher { op: MatchOp::Equal, name: name.into(), value: value.into(), regex: None }
    }

    pub fn op(&self) -> MatchOp {
        self.op
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value or the regex as written.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether a label with `value` satisfies the condition; pass `""` for a missing label.
    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.regex) {
            (MatchOp::Equal, _) => value == &*self.value,
            (MatchOp::NotEqual, _) => value != &*self.value,
            (MatchOp::Regex, Some(regex)) => regex.is_match(value),
            (MatchOp::NotRegex, Some(regex)) => !regex.is_match(value),
            (MatchOp::Regex | MatchOp::NotRegex, None) => unreachable!("`new` compiles every regex"),
        }
    }

    /// Whether `labels` satisfy the condition.
    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.get(&self.name))
    }

    /// Whether a series without the label satisfies the condition.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// The finite set of values that a regex accepts, where it is one (`a|b|c`); lets an index skip the scan.
    pub fn literal_values(&self) -> Option<&[String]> {
        self.regex.as_ref().and_then(GoRegex::literals)
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Matcher) -> bool {
        self.op == other.op && self.name == other.name && self.value == other.value
    }
}

impl Eq for Matcher {}

impl std::hash::Hash for Matcher {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.op.hash(state);
        self.name.hash(state);
        self.value.hash(state);
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.symbol(), &*self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_label_equals_the_empty_string() {
        let labels = Labels::from_pairs([("a", "1")]);
        assert!(Matcher::equal("b", "").matches_labels(&labels));
        assert!(Matcher::new(MatchOp::Regex, "b", ".*").unwrap().matches_labels(&labels));
        assert!(!Matcher::new(MatchOp::NotEqual, "b", "").unwrap().matches_labels(&labels));
    }

    #[test]
    fn regexes_are_anchored_and_cross_lines() {
        let matcher = Matcher::new(MatchOp::Regex, "a", "b|c.").unwrap();
        assert!(matcher.matches("b") && matcher.matches("c\n") && !matcher.matches("xb") && !matcher.matches("bx"));
    }
}
