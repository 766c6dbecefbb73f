//! The server's command line: Prometheus's flags, by Prometheus's names and grammar.
//!
//! `--flag=value`, `--flag value`, `--switch` and `--no-switch`. Flags that exist upstream and have no effect here yet
//! are accepted, so that a unit file or an operator keeps working; [`Flags::without_effect`] names them for one warning.

mod table;

use std::time::Duration;

use pilaster_ingest::config::{ByteSize, PromDuration};

use self::table::{FLAGS, Flag, Kind};

/// Why a command line was refused.
#[derive(Debug, thiserror::Error)]
pub enum FlagError {
    /// The words do not fit the grammar; the text is the one that kingpin prints.
    #[error("{0}")]
    Grammar(String),
    /// A flag's value cannot be what it should be.
    #[error("{0}")]
    Value(String),
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    Serve(Box<Flags>),
    Help,
    Version,
}

/// The values of all flags, given or default.
#[derive(Debug, Clone)]
pub struct Flags {
    values: Vec<Vec<String>>,
    given: Vec<bool>,
}

/// Parses the words behind the program's name.
///
/// # Errors
/// Unknown flags, missing or surplus words, repeated flags, and values of the wrong form.
pub fn parse(words: &[String]) -> Result<Command, FlagError> {
    let mut flags = Flags { values: FLAGS.iter().map(default_values).collect(), given: vec![false; FLAGS.len()] };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(long) = word.strip_prefix("--") else {
            return match word.as_str() {
                "-h" => Ok(Command::Help),
                _ if word.len() > 1 && word.starts_with('-') => {
                    Err(FlagError::Grammar(format!("unknown short flag '{}'", &word[..word.ceil_char_boundary(2)])))
                }
                _ => Err(FlagError::Grammar(format!("unexpected {word}"))),
            };
        };
        let (name, inline) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        match name {
            "help" | "help-long" | "help-man" => return Ok(Command::Help),
            "version" => return Ok(Command::Version),
            _ => {}
        }
        let (index, negated) = match (position(name), name.strip_prefix("no-").and_then(position)) {
            (Some(index), _) => (index, false),
            (None, Some(index)) if FLAGS[index].kind == Kind::Switch => (index, true),
            (None, _) => return Err(FlagError::Grammar(unknown(name))),
        };
        let flag = &FLAGS[index];
        let value = match (flag.kind, inline) {
            (Kind::Switch, None) => (!negated).to_string(),
            (Kind::Switch, Some(value)) => return Err(FlagError::Grammar(format!("unexpected {value}"))),
            (_, Some(value)) => value.to_owned(),
            (_, None) => match words.next() {
                Some(value) => value.clone(),
                None => return Err(FlagError::Grammar(format!("expected argument for flag '--{name}'"))),
            },
        };
        check(flag, &value)?;
        match (flag.kind == Kind::List, flags.given[index]) {
            (true, true) => flags.values[index].push(value),
            (false, true) => return Err(FlagError::Value(format!("flag '{name}' cannot be repeated"))),
            (_, false) => flags.values[index] = vec![value],
        }
        flags.given[index] = true;
    }
    Ok(Command::Serve(Box::new(flags)))
}

/// The text of `--help`: every flag that is not hidden, with its default.
pub fn help() -> String {
    let mut text = String::from(
        "usage: pilaster [<flags>]\n       pilaster test promql [--server-defaults] FILE...\n\n\
         Pilaster, a columnar metrics database that speaks Prometheus and SQL\n\nFlags:\n  \
         -h, --help\n      Show this text.\n      --version\n      Show the version.\n",
    );
    for flag in FLAGS.iter().filter(|flag| !flag.hidden) {
        let shown = match (flag.kind, flag.default) {
            (Kind::Switch, "true") => format!("--[no-]{} (on)", flag.name),
            (Kind::Switch, _) => format!("--[no-]{}", flag.name),
            (_, default) => format!("--{}={default:?}", flag.name),
        };
        text.push_str(&format!("      {shown}\n          {}", flag.help));
        text.push_str(if flag.works { "\n" } else { " (accepted; no effect yet)\n" });
    }
    text
}

impl Flags {
    /// The value of `name`: the last one given, or the default.
    ///
    /// # Panics
    /// When no such flag exists: a flag's name is a literal of this crate.
    pub fn get(&self, name: &str) -> &str {
        self.list(name).last().map_or("", String::as_str)
    }

    /// All values of a flag that may be repeated.
    pub fn list(&self, name: &str) -> &[String] {
        &self.values[position(name).unwrap_or_else(|| panic!("flag {name:?} is in the table"))]
    }

    /// Whether a switch is on.
    pub fn on(&self, name: &str) -> bool {
        self.get(name) == "true"
    }

    /// Whether the command line named the flag.
    pub fn given(&self, name: &str) -> bool {
        position(name).is_some_and(|index| self.given[index])
    }

    /// A duration flag in milliseconds; its form was checked by [`parse`].
    pub fn duration_ms(&self, name: &str) -> i64 {
        PromDuration::parse(self.get(name)).map_or(0, PromDuration::ms)
    }

    /// A duration flag; its form was checked by [`parse`].
    pub fn duration(&self, name: &str) -> Duration {
        Duration::from_millis(self.duration_ms(name).unsigned_abs())
    }

    /// A number flag, truncated; its form was checked by [`parse`].
    pub fn count(&self, name: &str) -> usize {
        self.get(name).parse::<f64>().map_or(0, |number| number as usize)
    }

    /// A size flag in bytes; its form was checked by [`parse`].
    pub fn bytes(&self, name: &str) -> u64 {
        ByteSize::parse(self.get(name)).map_or(0, |size| size.0)
    }

    /// Names in `--enable-feature`, split at commas.
    pub fn features(&self) -> impl Iterator<Item = &str> {
        self.list("enable-feature")
            .iter()
            .flat_map(|list| list.split(','))
            .map(str::trim)
            .filter(|name| !name.is_empty())
    }

    /// Flags that the command line gave and that do nothing here.
    pub fn without_effect(&self) -> Vec<&'static str> {
        FLAGS
            .iter()
            .zip(&self.given)
            .filter(|(flag, given)| **given && !flag.works)
            .map(|(flag, _)| flag.name)
            .collect()
    }

    /// Every flag with its value, hidden ones too: what `status/flags` shows.
    pub fn shown(&self) -> impl Iterator<Item = (&'static str, String)> {
        FLAGS.iter().zip(&self.values).map(|(flag, values)| (flag.name, values.join(",")))
    }
}

fn position(name: &str) -> Option<usize> {
    FLAGS.iter().position(|flag| flag.name == name)
}

fn default_values(flag: &Flag) -> Vec<String> {
    match flag.default {
        "" => Vec::new(),
        default => vec![default.to_owned()],
    }
}

fn unknown(name: &str) -> String {
    let nearest = FLAGS.iter().map(|flag| (distance(name, flag.name), flag.name)).min();
    match nearest {
        Some((edits, near)) if edits <= 3 => format!("unknown long flag '--{name}' (did you mean '--{near}'?)"),
        _ => format!("unknown long flag '--{name}'"),
    }
}

fn check(flag: &Flag, value: &str) -> Result<(), FlagError> {
    let refuse = |text: String| Err(FlagError::Value(text));
    match flag.kind {
        Kind::Switch | Kind::Text | Kind::List => Ok(()),
        Kind::Duration => PromDuration::parse(value).map(drop).or_else(|error| refuse(error.to_string())),
        Kind::Number => match value.parse::<f64>() {
            Ok(number) if number.is_finite() && number >= 0.0 => Ok(()),
            _ => refuse(format!("strconv.ParseFloat: parsing {value:?}: invalid syntax")),
        },
        Kind::Bytes => ByteSize::parse(value).map(drop).or_else(|error| refuse(error.to_string())),
        Kind::OneOf(allowed) if allowed.contains(&value) => Ok(()),
        Kind::OneOf(allowed) if flag.name == "log.level" || flag.name == "log.format" => {
            let noun = flag.name.replace('.', " ");
            refuse(format!("unrecognized {noun} {value:?}, must be one of [{}]", allowed.join(" ")))
        }
        Kind::OneOf(allowed) => refuse(format!("enum value must be one of {}, got '{value}'", allowed.join(","))),
    }
}

/// Edit distance, for "did you mean".
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(words: &[&str]) -> Result<Flags, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        match parse(&words) {
            Ok(Command::Serve(flags)) => Ok(*flags),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn both_value_forms_switches_and_negations() {
        let flags = served(&["--config.file=a.yml", "--query.timeout", "3m", "--web.enable-lifecycle"]).unwrap();
        assert_eq!((flags.get("config.file"), flags.duration_ms("query.timeout")), ("a.yml", 180_000));
        assert!(flags.on("web.enable-lifecycle") && flags.given("config.file") && !flags.given("log.level"));
        assert!(!served(&["--no-web.enable-lifecycle"]).unwrap().on("web.enable-lifecycle"));
        assert_eq!(flags.get("sql.listen-address"), "127.0.0.1:9432");
        let many = served(&["--web.listen-address=:1", "--web.listen-address=:2", "--enable-feature=a,b"]).unwrap();
        assert_eq!(many.list("web.listen-address"), [":1", ":2"]);
        assert_eq!(many.features().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn refusals_are_worded_as_upstream_words_them() {
        for (words, expected) in [
            (&["--foo"][..], "unknown long flag '--foo'"),
            (&["--no-foo"], "unknown long flag '--no-foo'"),
            (&["-x"], "unknown short flag '-x'"),
            (&["extra"], "unexpected extra"),
            (&["--web.enable-lifecycle=true"], "unexpected true"),
            (&["--config.file"], "expected argument for flag '--config.file'"),
            (&["--config.file=a", "--config.file=b"], "flag 'config.file' cannot be repeated"),
            (&["--query.timeout=abc"], "not a valid duration string: \"abc\""),
            (&["--query.max-samples=abc"], "strconv.ParseFloat: parsing \"abc\": invalid syntax"),
            (
                &["--query.lookback-detla=1m"],
                "unknown long flag '--query.lookback-detla' (did you mean '--query.lookback-delta'?)",
            ),
        ] {
            assert_eq!(served(words).unwrap_err(), expected);
        }
    }

    #[test]
    fn upstream_flags_without_effect_are_named() {
        let flags =
            served(&["--web.console.templates=x", "--no-storage.tsdb.wal-compression", "--log.level=warn"]).unwrap();
        assert_eq!(flags.without_effect(), ["web.console.templates", "storage.tsdb.wal-compression"]);
        assert_eq!(flags.bytes("storage.tsdb.wal-segment-size"), 128 << 20);
        assert!(served(&["--sql.max-memory=5X"]).is_err());
    }
}
