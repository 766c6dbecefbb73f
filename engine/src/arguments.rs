//! Words of a command: flags with and without values, and the rest.

/// The words behind a command, taken apart.
#[derive(Debug, Clone, Default)]
pub struct Arguments {
    flags: Vec<(&'static str, String)>,
    /// Words that are no flags, in order.
    pub words: Vec<String>,
}

/// A flag a command knows: its name, with the dashes, and whether a value follows.
pub type Flag = (&'static str, bool);

impl Arguments {
    /// Takes `words` apart. Values follow their flag as the next word or behind `=`; `--` ends the flags.
    ///
    /// # Errors
    /// In Prometheus's words: a flag that is not in `known`, or lacks its value.
    pub fn parse(words: &[&str], known: &[Flag]) -> Result<Arguments, String> {
        let mut arguments = Arguments::default();
        let mut rest = words.iter();
        while let Some(&word) = rest.next() {
            if word == "--" {
                arguments.words.extend(rest.by_ref().map(|word| (*word).to_owned()));
                break;
            }
            if !word.starts_with('-') || word == "-" {
                arguments.words.push(word.to_owned());
                continue;
            }
            let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
            let Some(&(name, takes_value)) = known.iter().find(|(known, _)| *known == name) else {
                let kind = if name.starts_with("--") { "long" } else { "short" };
                return Err(format!("unknown {kind} flag '{name}'"));
            };
            let value = match (takes_value, value) {
                (true, Some(value)) => value.to_owned(),
                (true, None) => {
                    let value = rest.next().ok_or_else(|| format!("expected argument for flag '{name}'"))?;
                    (*value).to_owned()
                }
                (false, None) => String::new(),
                (false, Some(value)) => return Err(format!("unexpected argument '{value}' for flag '{name}'")),
            };
            arguments.flags.push((name, value));
        }
        Ok(arguments)
    }

    /// Whether the flag was given.
    pub fn has(&self, name: &str) -> bool {
        self.flags.iter().any(|(have, _)| *have == name)
    }

    /// The last value of a flag.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.flags.iter().rfind(|(have, _)| *have == name).map(|(_, value)| value.as_str())
    }

    /// All values of a flag, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.flags.iter().filter(move |(have, _)| *have == name).map(|(_, value)| value.as_str())
    }

    /// The last value of a flag as a number.
    ///
    /// # Errors
    /// It is none.
    pub fn number<T: std::str::FromStr>(&self, name: &str, default: T) -> Result<T, String> {
        match self.get(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("invalid value '{text}' for flag '{name}'")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [Flag; 3] = [("--match", true), ("--quiet", false), ("-r", false)];

    #[test]
    fn values_follow_or_are_joined() {
        let parsed = Arguments::parse(&["a", "--match=x=y", "--match", "z", "-r", "--", "--b"], &KNOWN).unwrap();
        assert_eq!(parsed.all("--match").collect::<Vec<_>>(), ["x=y", "z"]);
        assert_eq!((parsed.words, parsed.flags.len()), (vec!["a".to_owned(), "--b".to_owned()], 3));
    }

    #[test]
    fn wrong_words_are_told() {
        let error = |words: &[&str]| Arguments::parse(words, &KNOWN).unwrap_err();
        assert_eq!(error(&["--nope"]), "unknown long flag '--nope'");
        assert_eq!(error(&["-x"]), "unknown short flag '-x'");
        assert_eq!(error(&["--match"]), "expected argument for flag '--match'");
        assert_eq!(error(&["--quiet=1"]), "unexpected argument '1' for flag '--quiet'");
    }
}
