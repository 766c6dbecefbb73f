//! A YAML document as a tree whose nodes know their line, so that errors can name it.
//!
//! YAML 1.1 scalars as Go's yaml.v2 reads them: `yes` is a bool, `~` is null, quoted text is always a string.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle};

/// Nodes that aliases may add to one document: enough for any real file, too few for an alias bomb.
const MOST_NODES: usize = 1_000_000;

/// One value with the line it starts on, from 1.
#[derive(Debug, Clone)]
pub struct Node {
    pub line: usize,
    pub value: Value,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub enum Value {
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    /// Entries in source order; keys may repeat, which the schema refuses.
    Map(Vec<(Node, Node)>),
}

/// What a plain scalar means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
}

/// The text is not YAML; the message is worded as yaml.v2 words it where the cause is the same.
#[derive(Debug, thiserror::Error)]
#[error("yaml: line {line}: {reason}")]
pub struct SyntaxError {
    pub line: usize,
    pub reason: String,
}

/// Reads the first document of `text`; `None` when it is empty.
///
/// # Errors
/// Text that is not YAML.
pub fn parse(text: &str) -> Result<Option<Node>, SyntaxError> {
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0, line: 1 };
    loop {
        match reader.next()? {
            Some(Event::DocumentStart(..)) => break,
            Some(Event::StreamEnd) | None => return Ok(None),
            Some(_) => {}
        }
    }
    let Some(event) = reader.next()? else { return Ok(None) };
    let root = reader.node(event, 0)?;
    Ok(if matches!(root.scalar(), Some(Scalar::Null)) { None } else { Some(root) })
}

impl Node {
    /// The meaning of a scalar node; `None` for lists and maps.
    pub fn scalar(&self) -> Option<Scalar<'_>> {
        match &self.value {
            Value::Scalar { text, plain: true } => Some(resolve(text)),
            Value::Scalar { text, plain: false } => Some(Scalar::Text(text)),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    /// Whether the node is `null`, `~` or nothing.
    pub fn is_null(&self) -> bool {
        self.scalar() == Some(Scalar::Null)
    }

    /// The text of a scalar that is not null.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// The value behind `key` of a map.
    pub fn get(&self, key: &str) -> Option<&Node> {
        let Value::Map(entries) = &self.value else { return None };
        entries
            .iter()
            .find(|(name, _)| name.text() == Some(key))
            .map(|(_, value)| value)
            .filter(|value| !value.is_null())
    }

    /// The items of a list; empty for anything else.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The entries of a map; empty for anything else.
    pub fn entries(&self) -> &[(Node, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The tag and, shortened, the text, as yaml.v2 names a value it cannot use.
    pub fn describe(&self) -> String {
        let (tag, text) = match (&self.value, self.scalar()) {
            (Value::List(_), _) => return "!!seq".to_owned(),
            (Value::Map(_), _) => return "!!map".to_owned(),
            (Value::Scalar { text, .. }, scalar) => (
                match scalar {
                    Some(Scalar::Null) => "!!null",
                    Some(Scalar::Bool(_)) => "!!bool",
                    Some(Scalar::Int(_)) => "!!int",
                    Some(Scalar::Float(_)) => "!!float",
                    Some(Scalar::Text(_)) | None => "!!str",
                },
                text,
            ),
        };
        if text.len() > 10 {
            format!("{tag} `{}...`", &text[..text.floor_char_boundary(7)])
        } else {
            format!("{tag} `{text}`")
        }
    }
}

fn resolve(text: &str) -> Scalar<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Scalar::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Scalar::Bool(false);
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Scalar::Text(text);
    }
    let digits = text.replace('_', "");
    let (sign, unsigned) = match digits.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, digits.strip_prefix('+').unwrap_or(&digits)),
    };
    let based = [("0x", 16), ("0b", 2), ("0o", 8)]
        .iter()
        .find_map(|(prefix, radix)| i64::from_str_radix(unsigned.strip_prefix(prefix)?, *radix).ok())
        .or_else(|| match unsigned.strip_prefix('0') {
            Some(octal) if !octal.is_empty() => i64::from_str_radix(octal, 8).ok(),
            _ => unsigned.parse().ok(),
        });
    if let Some(number) = based {
        return Scalar::Int(sign * number);
    }
    // Rust also reads `inf`, `nan` and `infinity`; the first character rules them out.
    match digits.parse::<f64>() {
        Ok(number) if unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') => Scalar::Float(number),
        _ => Scalar::Text(text),
    }
}

struct Reader<'input> {
    parser: Parser<'input, granit_parser::StrInput<'input>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    line: usize,
}

impl<'input> Reader<'input> {
    fn next(&mut self) -> Result<Option<Event<'input>>, SyntaxError> {
        loop {
            match self.parser.next_event() {
                None => return Ok(None),
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok((event, span))) => {
                    self.line = span.start.line();
                    return Ok(Some(event));
                }
                Some(Err(error)) => {
                    return Err(SyntaxError { line: error.marker().line(), reason: error.info().to_string() });
                }
            }
        }
    }

    fn required(&mut self) -> Result<Event<'input>, SyntaxError> {
        let line = self.line;
        self.next()?.ok_or_else(|| SyntaxError { line, reason: "unexpected end of the document".to_owned() })
    }

    fn refuse<T>(&self, reason: &str) -> Result<T, SyntaxError> {
        Err(SyntaxError { line: self.line, reason: reason.to_owned() })
    }

    fn node(&mut self, event: Event<'input>, depth: usize) -> Result<Node, SyntaxError> {
        self.nodes += 1;
        if self.nodes > MOST_NODES || depth > 200 {
            return self.refuse("document is too large or too deep");
        }
        let line = self.line;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && !tag.is_some_and(|tag| tag.core_suffix() == Some("str"));
                (Value::Scalar { text: text.into_owned(), plain }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.required()? {
                        Event::SequenceEnd => break,
                        event => items.push(self.node(event, depth + 1)?),
                    }
                }
                (Value::List(items), anchor)
            }
            Event::MappingStart(_, anchor, _) => {
                let (mut entries, mut merged) = (Vec::new(), Vec::new());
                loop {
                    let key = match self.required()? {
                        Event::MappingEnd => break,
                        event => self.node(event, depth + 1)?,
                    };
                    let event = self.required()?;
                    let value = self.node(event, depth + 1)?;
                    match key.text() {
                        Some("<<") => merged.push(value),
                        _ => entries.push((key, value)),
                    }
                }
                self.merge(&mut entries, merged)?;
                (Value::Map(entries), anchor)
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(node) => {
                    let copy = node.clone();
                    self.nodes += size(&copy);
                    return Ok(copy);
                }
                None => return self.refuse("unknown anchor referenced"),
            },
            _ => return self.refuse("unexpected end of a value"),
        };
        let node = Node { line, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    /// Adds the entries of `<<` maps whose keys are not there yet.
    fn merge(&self, entries: &mut Vec<(Node, Node)>, merged: Vec<Node>) -> Result<(), SyntaxError> {
        for node in merged {
            let maps = match node.value {
                Value::Map(_) => vec![node],
                Value::List(maps) => maps,
                Value::Scalar { .. } => return self.refuse("map merge requires map or sequence of maps as the value"),
            };
            for (key, value) in maps.into_iter().flat_map(|map| match map.value {
                Value::Map(entries) => entries,
                _ => Vec::new(),
            }) {
                if !entries.iter().any(|(name, _)| name.text() == key.text()) {
                    entries.push((key, value));
                }
            }
        }
        Ok(())
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.value {
        Value::Scalar { .. } => 0,
        Value::List(items) => items.iter().map(size).sum(),
        Value::Map(entries) => entries.iter().map(|(key, value)| size(key) + size(value)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_mean_what_yaml_1_1_says() {
        for (text, expected) in [
            ("~", Scalar::Null),
            ("yes", Scalar::Bool(true)),
            ("0x10", Scalar::Int(16)),
            ("010", Scalar::Int(8)),
            ("-5", Scalar::Int(-5)),
            ("1e3", Scalar::Float(1000.0)),
            ("15s", Scalar::Text("15s")),
            ("nan", Scalar::Text("nan")),
            ("-inf", Scalar::Text("-inf")),
        ] {
            assert_eq!(resolve(text), expected, "{text}");
        }
    }

    #[test]
    fn lines_anchors_and_merges() {
        let root = parse("# c\na: &x\n  b: 1\nc:\n  <<: *x\n  d: '2'\n").unwrap().unwrap();
        let c = root.get("c").unwrap();
        assert_eq!(c.line, 5);
        assert_eq!(c.get("b").unwrap().scalar(), Some(Scalar::Int(1)));
        assert_eq!(c.get("d").unwrap().scalar(), Some(Scalar::Text("2")));
        assert!(parse("").unwrap().is_none() && parse("# only\n").unwrap().is_none());
        assert!(parse("a: [\n").unwrap_err().to_string().starts_with("yaml: line "));
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for i in 1..9 {
            let list = vec![format!("*a{}", i - 1); 10].join(",");
            text.push_str(&format!("a{i}: &a{i} [{list}]\n"));
        }
        assert!(parse(&text).is_err());
    }
}
