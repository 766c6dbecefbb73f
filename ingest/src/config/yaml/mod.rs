//! YAML as Prometheus reads it: a tree that knows its lines, decoded strictly.
//!
//! A scalar keeps the text it was written with until somebody asks for a type, so `regex: 1.0` is the string `1.0`.
//! Unknown and repeated keys are errors. All type errors of a document are reported together, in the form users of
//! Prometheus know: `yaml: unmarshal errors:` and then `line 12: field xyz not found in type config.plain`.

mod decode;
mod json;
mod print;

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span};

pub use decode::{Fields, FromYaml};
pub use print::print;

use super::Error;

/// Aliases may repeat a subtree; more nodes than this is an attack, not a configuration.
const MAX_NODES: usize = 1_000_000;
/// Collections inside each other; reading them recurses.
const MAX_DEPTH: usize = 200;

/// A value and the line it starts on, counted from 1; 0 where the line is not known.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub line: usize,
    pub value: Value,
}

/// What stands at a node. The keys of a mapping are in file order.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    /// `plain` is false for quoted and block scalars, which are always strings.
    Scalar {
        text: String,
        plain: bool,
    },
    Sequence(Vec<Node>),
    Mapping(Vec<(Node, Node)>),
}

/// What a scalar means by YAML 1.1's rules.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar<'a> {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(&'a str),
}

/// Reads the first document of `text`; an empty text is [`Value::Null`].
///
/// # Errors
/// [`Error::Syntax`] where it is not YAML.
pub fn parse(text: &str) -> Result<Node, Error> {
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0, depth: 0 };
    loop {
        match reader.next()? {
            Some((Event::StreamStart | Event::DocumentStart(..), _)) => {}
            Some((Event::DocumentEnd | Event::StreamEnd, _)) | None => return Ok(Node::null(1)),
            Some((event, span)) => {
                return Ok(reader.node(event, span)?.unwrap_or_else(|| Node::null(1)));
            }
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Error> {
        loop {
            match self.parser.next_event() {
                None => return Ok(None),
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok(pair)) => return Ok(Some(pair)),
                Some(Err(error)) => {
                    let reason = error.info().to_string();
                    return Err(Error::Syntax { line: error.marker().line(), reason });
                }
            }
        }
    }

    /// The node that `event` starts; `None` where it ends the collection around it.
    fn node(&mut self, event: Event<'a>, span: Span) -> Result<Option<Node>, Error> {
        let line = span.start.line();
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Error::Syntax { line, reason: "document contains excessive aliasing".to_owned() });
        }
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let null = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                (anchor, if null { Value::Null } else { Value::Scalar { text: text.into_owned(), plain } })
            }
            Event::SequenceStart(_, anchor, _) => {
                let mut items = Vec::new();
                while let Some(item) = self.child(line)? {
                    items.push(item);
                }
                (anchor, Value::Sequence(items))
            }
            Event::MappingStart(_, anchor, _) => {
                let mut pairs = Vec::new();
                let mut merged = Vec::new();
                while let Some(key) = self.child(line)? {
                    let value = self.child(line)?.unwrap_or_else(|| Node::null(line));
                    match key.text() {
                        Some("<<") => merged.push(value),
                        _ => pairs.push((key, value)),
                    }
                }
                for source in merged {
                    merge(&mut pairs, source);
                }
                (anchor, Value::Mapping(pairs))
            }
            Event::Alias(id) => {
                let target = self.anchors.get(&id).cloned();
                let target =
                    target.ok_or_else(|| Error::Syntax { line, reason: "anchor value contains itself".to_owned() })?;
                self.nodes += target.count();
                if self.nodes > MAX_NODES {
                    return Err(Error::Syntax { line, reason: "document contains excessive aliasing".to_owned() });
                }
                return Ok(Some(target));
            }
            _ => return Ok(None),
        };
        let node = Node { line, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(Some(node))
    }

    fn child(&mut self, line: usize) -> Result<Option<Node>, Error> {
        if self.depth == MAX_DEPTH {
            return Err(Error::Syntax { line, reason: "exceeded max depth of 200".to_owned() });
        }
        self.depth += 1;
        let child = match self.next()? {
            Some((event, span)) => self.node(event, span),
            None => Err(Error::Syntax { line, reason: "unexpected end of the document".to_owned() }),
        };
        self.depth -= 1;
        child
    }
}

/// `<<`: keys of `source` that are not there yet.
fn merge(pairs: &mut Vec<(Node, Node)>, source: Node) {
    match source.value {
        Value::Mapping(more) => {
            for (key, value) in more {
                if !pairs.iter().any(|(have, _)| have.text() == key.text()) {
                    pairs.push((key, value));
                }
            }
        }
        Value::Sequence(sources) => sources.into_iter().for_each(|source| merge(pairs, source)),
        Value::Null | Value::Scalar { .. } => {}
    }
}

impl Node {
    pub fn null(line: usize) -> Node {
        Node { line, value: Value::Null }
    }

    /// A string that is written back with quotes where it needs them.
    pub fn string(text: impl Into<String>) -> Node {
        Node { line: 0, value: Value::Scalar { text: text.into(), plain: false } }
    }

    /// A number, boolean or duration, written back as it is.
    pub fn plain(value: impl ToString) -> Node {
        Node { line: 0, value: Value::Scalar { text: value.to_string(), plain: true } }
    }

    pub fn sequence(items: impl IntoIterator<Item = Node>) -> Node {
        Node { line: 0, value: Value::Sequence(items.into_iter().collect()) }
    }

    /// Strings on one line: `[a, b]`; for printing.
    pub fn flow(items: impl IntoIterator<Item = impl AsRef<str>>) -> Node {
        let mut text = "[".to_owned();
        for item in items {
            if text.len() > 1 {
                text.push_str(", ");
            }
            print::print_string(item.as_ref(), &mut text);
        }
        text.push(']');
        Node::plain(text)
    }

    pub fn mapping(pairs: impl IntoIterator<Item = (String, Node)>) -> Node {
        let pairs = pairs.into_iter().map(|(key, value)| (Node::string(key), value)).collect();
        Node { line: 0, value: Value::Mapping(pairs) }
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            Value::Null | Value::Sequence(_) | Value::Mapping(_) => None,
        }
    }

    pub fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// The meaning of a scalar or null; `None` for sequences and mappings.
    pub fn scalar(&self) -> Option<Scalar<'_>> {
        match &self.value {
            Value::Null => Some(Scalar::Null),
            Value::Scalar { text, plain: false } => Some(Scalar::Text(text)),
            Value::Scalar { text, plain: true } => Some(resolve(text)),
            Value::Sequence(_) | Value::Mapping(_) => None,
        }
    }

    /// The items of a sequence; none for anything else.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::Sequence(items) => items,
            Value::Null | Value::Scalar { .. } | Value::Mapping(_) => &[],
        }
    }

    /// The pairs of a mapping in file order; none for anything else.
    pub fn entries(&self) -> &[(Node, Node)] {
        match &self.value {
            Value::Mapping(pairs) => pairs,
            Value::Null | Value::Scalar { .. } | Value::Sequence(_) => &[],
        }
    }

    /// The value under `key` of a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Mapping(pairs) => pairs.iter().find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value),
            Value::Null | Value::Scalar { .. } | Value::Sequence(_) => None,
        }
    }

    fn count(&self) -> usize {
        match &self.value {
            Value::Null | Value::Scalar { .. } => 1,
            Value::Sequence(items) => 1 + items.iter().map(Node::count).sum::<usize>(),
            Value::Mapping(pairs) => 1 + pairs.iter().map(|(key, value)| key.count() + value.count()).sum::<usize>(),
        }
    }

    /// Tag and shortened text, as Go's yaml.v2 names a value that it cannot use: `!!str `abc``.
    pub fn describe(&self) -> String {
        let tag = match self.scalar() {
            Some(Scalar::Null) => "!!null",
            Some(Scalar::Bool(_)) => "!!bool",
            Some(Scalar::Int(_)) => "!!int",
            Some(Scalar::Float(_)) => "!!float",
            Some(Scalar::Text(_)) => "!!str",
            None if matches!(self.value, Value::Sequence(_)) => "!!seq",
            None => "!!map",
        };
        match self.text() {
            Some(text) if text.len() > 10 => format!("{tag} `{}...`", &text[..text.floor_char_boundary(7)]),
            Some(text) => format!("{tag} `{text}`"),
            None => tag.to_owned(),
        }
    }

    /// `line 3: cannot unmarshal !!str `abc` into int`.
    pub fn type_error(&self, target: &str) -> Error {
        Error::Type(vec![format!("line {}: cannot unmarshal {} into {target}", self.line, self.describe())])
    }
}

fn resolve(text: &str) -> Scalar<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        _ => {}
    }
    if let Some(value) = parse_bool(text) {
        return Scalar::Bool(value);
    }
    // Rust also reads `inf`, `nan` and `infinity`; the first character rules them out.
    if !text.trim_start_matches(['+', '-']).starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Scalar::Text(text);
    }
    match (parse_int(text), text.replace('_', "").parse()) {
        (Some(value), _) => Scalar::Int(value),
        (None, Ok(value)) => Scalar::Float(value),
        (None, Err(_)) => Scalar::Text(text),
    }
}

/// YAML 1.1 booleans, as the Go library that Prometheus uses takes them.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

fn parse_int(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let digits = digits.replace('_', "");
    let magnitude = if let Some(hex) = digits.strip_prefix("0x") {
        i128::from_str_radix(hex, 16).ok()?
    } else if let Some(bits) = digits.strip_prefix("0b") {
        i128::from_str_radix(bits, 2).ok()?
    } else if let Some(octal) = digits.strip_prefix("0o") {
        i128::from_str_radix(octal, 8).ok()?
    } else if digits.len() > 1 && digits.starts_with('0') {
        i128::from_str_radix(&digits, 8).ok()?
    } else {
        digits.parse().ok()?
    };
    Some(if negative { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[test]
    fn scalars_keep_their_text_until_a_type_is_asked_for() {
        let node = parse("a: 1.0\nb: 'yes'\nc: yes\nd: 0x10\ne: ~\nf: [x, 2]\n").unwrap();
        let mut fields = Fields::of(&node, "t").unwrap();
        assert_eq!(fields.take::<String>("a").unwrap().as_deref(), Some("1.0"));
        assert_eq!(fields.take::<String>("b").unwrap().as_deref(), Some("yes"));
        assert_eq!(fields.take::<bool>("c").unwrap(), Some(true));
        assert_eq!(fields.take::<u64>("d").unwrap(), Some(16));
        assert_eq!(fields.take::<u64>("e").unwrap(), None);
        assert_eq!(fields.take::<Vec<String>>("f").unwrap(), Some(vec!["x".to_owned(), "2".to_owned()]));
        fields.finish().unwrap();
    }

    #[test]
    fn errors_name_line_key_and_type() {
        let node = parse("a: x\n\nb: 1\nb: 2\nc: [1]\n").unwrap();
        let mut fields = Fields::of(&node, "config.plain").unwrap();
        assert_eq!(fields.take::<usize>("a").unwrap(), None);
        assert_eq!(fields.take::<u64>("b").unwrap(), Some(1));
        assert_eq!(
            fields.finish().unwrap_err().to_string(),
            "yaml: unmarshal errors:\n  line 1: cannot unmarshal !!str `x` into uint\n  \
             line 4: field b already set in type config.plain\n  \
             line 5: field c not found in type config.plain"
        );
        assert!(parse("a: [1\nb: 2").unwrap_err().to_string().starts_with("yaml: line "));
    }

    #[test]
    fn anchors_and_merge_keys() {
        let node = parse("base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\n").unwrap();
        let used = node.get("use").unwrap();
        assert_eq!(used.get("x").unwrap().text(), Some("1"));
        assert_eq!(used.get("y").unwrap().text(), Some("3"));
        // Each level doubles: 2^40 nodes if it were let.
        let mut bomb = "a0: &a0 [x, x]\n".to_owned();
        for level in 1..40 {
            bomb.push_str(&format!("a{level}: &a{level} [*a{}, *a{}]\n", level - 1, level - 1));
        }
        assert!(parse(&bomb).unwrap_err().to_string().contains("excessive aliasing"));
    }

    #[test]
    fn printing_reads_back() {
        let text = "global:\n  scrape_interval: 15s\njobs:\n- name: a\n  targets:\n  - localhost:9090\n  - '*x'\n- empty: []\n  name: \"1\"\n";
        let node = parse(text).unwrap();
        let strings = Node::deserialize(serde_json::to_value(&node).unwrap()).unwrap();
        assert_eq!(print(&strings), text);
    }
}
