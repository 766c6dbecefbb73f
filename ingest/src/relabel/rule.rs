//! One relabelling rule.

use pilaster_model::{GoRegex, LabelsBuilder};

use crate::config::yaml::{Fields, FromYaml, Node};
use crate::config::{Error, ValidationScheme};

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

const ACTIONS: [(&str, Action); 11] = [
    ("replace", Action::Replace),
    ("keep", Action::Keep),
    ("drop", Action::Drop),
    ("keepequal", Action::KeepEqual),
    ("dropequal", Action::DropEqual),
    ("hashmod", Action::HashMod),
    ("labelmap", Action::LabelMap),
    ("labeldrop", Action::LabelDrop),
    ("labelkeep", Action::LabelKeep),
    ("lowercase", Action::Lowercase),
    ("uppercase", Action::Uppercase),
];

impl Action {
    pub fn name(self) -> &'static str {
        ACTIONS.iter().find(|(_, action)| *action == self).map_or("", |(name, _)| name)
    }

    fn sets_target(self) -> bool {
        match self {
            Action::Replace
            | Action::HashMod
            | Action::Lowercase
            | Action::Uppercase
            | Action::KeepEqual
            | Action::DropEqual => true,
            Action::Keep | Action::Drop | Action::LabelMap | Action::LabelDrop | Action::LabelKeep => false,
        }
    }
}

impl FromYaml for Action {
    fn type_name() -> String {
        "relabel.Action".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<Action, Error> {
        let name = String::from_yaml(node)?;
        let known = ACTIONS.iter().find(|(known, _)| *known == name.to_lowercase());
        known.map(|(_, action)| *action).ok_or_else(|| Error::Invalid(format!("unknown relabel action {name:?}")))
    }
}

const DEFAULT_SEPARATOR: &str = ";";
const DEFAULT_PATTERN: &str = "(.*)";
const DEFAULT_REPLACEMENT: &str = "$1";

/// One entry of `relabel_configs` or a list like it.
#[derive(Debug, Clone)]
pub struct RelabelConfig {
    /// Their values, joined by `separator`, are what `regex` is matched against.
    pub source_labels: Vec<String>,
    pub separator: String,
    /// As written; `None` for the default, which matches everything.
    pattern: Option<String>,
    /// `None` where the default is meant.
    regex: Option<GoRegex>,
    pub modulus: u64,
    pub target_label: String,
    pub replacement: String,
    pub action: Action,
    validation: ValidationScheme,
}

impl PartialEq for RelabelConfig {
    fn eq(&self, other: &RelabelConfig) -> bool {
        self.source_labels == other.source_labels
            && self.separator == other.separator
            && self.pattern == other.pattern
            && self.modulus == other.modulus
            && self.target_label == other.target_label
            && self.replacement == other.replacement
            && self.action == other.action
            && self.validation == other.validation
    }
}

impl FromYaml for RelabelConfig {
    fn type_name() -> String {
        "*relabel.Config".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<RelabelConfig, Error> {
        let mut fields = Fields::of(node, "relabel.plain")?;
        let config = RelabelConfig {
            source_labels: fields.take_list("source_labels", "model.LabelNames")?.unwrap_or_default(),
            separator: fields.take_or("separator", DEFAULT_SEPARATOR.to_owned())?,
            pattern: fields.take("regex")?,
            regex: None,
            modulus: fields.take_default("modulus")?,
            target_label: fields.take_default("target_label")?,
            replacement: fields.take_or("replacement", DEFAULT_REPLACEMENT.to_owned())?,
            action: fields.take_or("action", Action::Replace)?,
            validation: ValidationScheme::default(),
        };
        fields.finish()?;
        if config.source_labels.iter().any(String::is_empty) {
            return Err(Error::Invalid("\"\" is not a valid label name".to_owned()));
        }
        let regex = config.pattern.as_deref().map(GoRegex::new_anchored).transpose();
        let regex = regex.map_err(|error| Error::Invalid(error.to_string()))?;
        Ok(RelabelConfig { regex, ..config })
    }
}

impl RelabelConfig {
    /// Checks the rule; `validation` says which label names are legal.
    ///
    /// # Errors
    /// [`Error::Invalid`] with Prometheus's texts.
    ///
    /// Source: `Config.Validate`, Prometheus v3 `model/relabel/relabel.go`.
    pub fn validate(&mut self, validation: ValidationScheme) -> Result<(), Error> {
        self.validation = validation;
        let action = self.action;
        let name = action.name();
        let refuse = |reason: String| Err(Error::Invalid(reason));
        if self.modulus == 0 && action == Action::HashMod {
            return refuse("relabel configuration for hashmod requires non-zero modulus".to_owned());
        }
        if action.sets_target() && self.target_label.is_empty() {
            return refuse(format!("relabel configuration for {name} action requires 'target_label' value"));
        }
        let target_is_valid = match action {
            Action::Replace if has_variable(&self.target_label) => accepts_template(validation, &self.target_label),
            _ => validation.accepts_label(&self.target_label),
        };
        if action.sets_target() && !target_is_valid {
            return refuse(format!("{:?} is invalid 'target_label' for {name} action", self.target_label));
        }
        let alone = matches!(action, Action::Lowercase | Action::Uppercase | Action::KeepEqual | Action::DropEqual);
        if alone && self.replacement != DEFAULT_REPLACEMENT {
            return refuse(format!("'replacement' can not be set for {name} action"));
        }
        if action == Action::LabelMap && !accepts_template(validation, &self.replacement) {
            return refuse(format!("{:?} is invalid 'replacement' for {name} action", self.replacement));
        }
        let plain = self.modulus == 0 && self.separator == DEFAULT_SEPARATOR && self.replacement == DEFAULT_REPLACEMENT;
        if matches!(action, Action::DropEqual | Action::KeepEqual) && !(plain && self.pattern.is_none()) {
            return refuse(format!(
                "{name} action requires only 'source_labels' and `target_label`, and no other fields"
            ));
        }
        let only_regex = plain && self.source_labels.is_empty() && self.target_label.is_empty();
        if matches!(action, Action::LabelDrop | Action::LabelKeep) && !only_regex {
            return refuse(format!("{name} action requires only 'regex', and no other fields"));
        }
        Ok(())
    }

    /// The rule as the configuration page shows it.
    pub fn to_yaml(&self) -> Node {
        let mut pairs = Vec::new();
        if !self.source_labels.is_empty() {
            pairs.push(("source_labels".to_owned(), Node::flow(&self.source_labels)));
        }
        pairs.push(("separator".to_owned(), Node::string(&self.separator)));
        if let Some(pattern) = &self.pattern {
            pairs.push(("regex".to_owned(), Node::string(pattern)));
        }
        if self.modulus > 0 {
            pairs.push(("modulus".to_owned(), Node::plain(self.modulus)));
        }
        if !self.target_label.is_empty() {
            pairs.push(("target_label".to_owned(), Node::string(&self.target_label)));
        }
        pairs.push(("replacement".to_owned(), Node::string(&self.replacement)));
        pairs.push(("action".to_owned(), Node::string(self.action.name())));
        Node::mapping(pairs)
    }

    /// The regex as written or by default.
    pub fn pattern(&self) -> &str {
        self.pattern.as_deref().unwrap_or(DEFAULT_PATTERN)
    }

    fn matches(&self, text: &str) -> bool {
        self.regex.as_ref().is_none_or(|regex| regex.is_match(text))
    }

    /// `template` with the groups of a match on `text`; `None` without a match.
    fn expand(&self, text: &str, template: &str) -> Option<String> {
        match &self.regex {
            _ if !has_variable(template) => self.matches(text).then(|| template.to_owned()),
            None if template == DEFAULT_REPLACEMENT => Some(text.to_owned()),
            None => default_regex().expand(text, template),
            Some(regex) => regex.expand(text, template),
        }
    }

    /// Applies the rule; false where it says to drop.
    pub(super) fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        let mut value = String::new();
        for (index, name) in self.source_labels.iter().enumerate() {
            if index > 0 {
                value.push_str(&self.separator);
            }
            value.push_str(labels.get(name));
        }
        match self.action {
            Action::Keep => return self.matches(&value),
            Action::Drop => return !self.matches(&value),
            Action::KeepEqual => return labels.get(&self.target_label) == value,
            Action::DropEqual => return labels.get(&self.target_label) != value,
            Action::Replace => {
                let target = self.expand(&value, &self.target_label);
                if let Some(target) = target.filter(|target| self.validation.accepts_label(target)) {
                    let replacement = self.expand(&value, &self.replacement).unwrap_or_default();
                    labels.set(&target, &replacement);
                }
            }
            Action::Lowercase => {
                labels.set(&self.target_label, &value.to_lowercase());
            }
            Action::Uppercase => {
                labels.set(&self.target_label, &value.to_uppercase());
            }
            Action::HashMod => {
                let digest = md5::compute(&value).0;
                let hash = digest[8..].iter().fold(0, |hash, byte| hash << 8 | u64::from(*byte));
                labels.set(&self.target_label, &(hash % self.modulus.max(1)).to_string());
            }
            Action::LabelMap => {
                let mapped: Vec<(String, String)> = labels
                    .iter()
                    .filter_map(|(name, value)| Some((self.expand(name, &self.replacement)?, value.to_owned())))
                    .collect();
                for (name, value) in mapped.iter().filter(|(name, _)| !name.is_empty()) {
                    labels.set(name, value);
                }
            }
            Action::LabelDrop => self.remove_where(labels, |matches| matches),
            Action::LabelKeep => self.remove_where(labels, |matches| !matches),
        }
        true
    }

    fn remove_where(&self, labels: &mut LabelsBuilder, chosen: impl Fn(bool) -> bool) {
        let names: Vec<String> =
            labels.iter().filter(|(name, _)| chosen(self.matches(name))).map(|(name, _)| name.to_owned()).collect();
        for name in &names {
            labels.remove(name);
        }
    }
}

fn default_regex() -> &'static GoRegex {
    static DEFAULT: std::sync::LazyLock<GoRegex> =
        std::sync::LazyLock::new(|| GoRegex::new_anchored(DEFAULT_PATTERN).expect("the default pattern compiles"));
    &DEFAULT
}

fn has_variable(template: &str) -> bool {
    template.contains('$')
}

/// Whether a template can become a label name. Under legacy rules: letters, digits, underscores and `$1`, `${1}`.
fn accepts_template(validation: ValidationScheme, template: &str) -> bool {
    match validation {
        ValidationScheme::Utf8 => !template.is_empty(),
        ValidationScheme::Legacy => {
            let mut rest = template;
            let word = |text: &str| text.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
            // The pieces of Prometheus's pattern: `(?:(?:[a-zA-Z_]|\$(?:\{\w+\}|\w+))+\w*)+`.
            while !rest.is_empty() {
                let piece = match rest.strip_prefix('$') {
                    Some(braced) if braced.starts_with('{') => match word(&braced[1..]) {
                        0 => return false,
                        length if braced[1 + length..].starts_with('}') => length + 3,
                        _ => return false,
                    },
                    Some(named) => match word(named) {
                        0 => return false,
                        length => length + 1,
                    },
                    None if rest.len() == template.len() && rest.starts_with(|c: char| c.is_ascii_digit()) => {
                        return false;
                    }
                    None => match word(rest) {
                        0 => return false,
                        length => length,
                    },
                };
                rest = &rest[piece..];
            }
            !template.is_empty()
        }
    }
}
