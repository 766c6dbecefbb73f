//! Values that must not be shown.

use std::fmt;

use super::Error;
use super::yaml::{FromYaml, Node};

/// A password or token; prints as `<secret>`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The value itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the configuration page shows.
    pub fn to_yaml(&self) -> Node {
        Node::plain(self)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "" } else { "<secret>" })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromYaml for Secret {
    fn type_name() -> String {
        "string".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<Secret, Error> {
        String::from_yaml(node).map(Secret)
    }
}
