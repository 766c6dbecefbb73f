//! Go RE2 syntax on Rust's `regex`.
//!
//! Both engines are RE2's children, but their syntaxes differ at the edges: Perl classes are ASCII in Go,
//! `\Q…\E` exists only there, a lone `{` is a literal, and inside a class `[`, `&&`, `--` and `~~` mean themselves.
//! The pattern is rewritten here, once, so that every place that takes a regex takes Go's.

use regex::Regex;
use regex_syntax::hir::{Hir, HirKind};

/// The pattern cannot be compiled; the text is Go's: the reason and the part of the pattern that it is about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {reason}: `{part}`")]
pub struct RegexError {
    pub reason: String,
    pub part: String,
}

/// Go's limit on a counted repetition.
const MAX_REPEAT: u32 = 1000;
/// More literals than this are not worth a set.
const MAX_LITERALS: usize = 256;

/// A compiled regex written in Go's syntax.
#[derive(Debug, Clone)]
pub struct GoRegex {
    regex: Regex,
    literals: Option<Vec<String>>,
}

impl GoRegex {
    /// Compiles `^(?s:pattern)$`, the form of every matcher and relabelling rule.
    pub fn new_anchored(pattern: &str) -> Result<GoRegex, RegexError> {
        let rust = translate(pattern)?;
        let regex = compile(&format!("^(?s:{rust})$"), pattern)?;
        Ok(GoRegex { regex, literals: literals_of(&rust) })
    }

    pub fn is_match(&self, text: &str) -> bool {
        match &self.literals {
            Some(literals) => literals.iter().any(|literal| literal == text),
            None => self.regex.is_match(text),
        }
    }

    /// The compiled regex, for capture groups.
    pub fn regex(&self) -> &Regex {
        &self.regex
    }

    /// The finite set of texts that match, where there is one.
    pub fn literals(&self) -> Option<&[String]> {
        self.literals.as_deref()
    }

    /// Replaces the groups named in a Go template (`$1`, `${name}`, `$$`) by what they matched in `text`;
    /// `None` where `text` does not match.
    pub fn expand(&self, text: &str, template: &str) -> Option<String> {
        let captures = self.regex.captures(text)?;
        let mut out = String::new();
        captures.expand(template, &mut out);
        Some(out)
    }
}

fn compile(rust: &str, pattern: &str) -> Result<Regex, RegexError> {
    regex::RegexBuilder::new(rust).octal(true).size_limit(8 << 20).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => fail("expression too large", pattern),
        _ => explain(pattern),
    })
}

fn fail(reason: &str, part: impl Into<String>) -> RegexError {
    RegexError { reason: reason.to_owned(), part: part.into() }
}

/// Go's words for what is wrong with `pattern`, which does not compile.
fn explain(pattern: &str) -> RegexError {
    use regex_syntax::ast::ErrorKind as Kind;
    let translated = match translate(pattern) {
        Ok(translated) => translated,
        Err(error) => return error,
    };
    let Err(error) = regex_syntax::ast::parse::ParserBuilder::new().octal(true).build().parse(&translated) else {
        // What parses and still does not compile names a class that is not known.
        let from = translated.rfind(r"\p").or(translated.rfind(r"\P")).unwrap_or(0);
        let length = translated[from..].find('}').map_or(3, |end| end + 1);
        return fail("invalid character class range", translated[from..].chars().take(length).collect::<String>());
    };
    let (start, end) = (error.span().start.offset, error.span().end.offset);
    let part = &translated[start..end];
    match error.kind() {
        Kind::GroupUnclosed
            if translated[start..].starts_with("(?") && !translated[start..].contains([')', ':', '>']) =>
        {
            fail("invalid or unsupported Perl syntax", &translated[start..])
        }
        Kind::GroupUnclosed => fail("missing closing )", pattern),
        Kind::GroupUnopened => fail("unexpected )", pattern),
        Kind::RepetitionMissing => {
            let operator: String = translated[start..].chars().take(1).collect();
            fail("missing argument to repetition operator", operator)
        }
        Kind::ClassRangeInvalid => fail("invalid character class range", part),
        Kind::ClassUnclosed => fail("missing closing ]", &translated[start..]),
        Kind::EscapeUnexpectedEof => fail("trailing backslash at end of expression", ""),
        Kind::GroupNameEmpty
        | Kind::GroupNameInvalid
        | Kind::GroupNameUnexpectedEof
        | Kind::GroupNameDuplicate { .. } => {
            let from = translated[..start].rfind("(?").unwrap_or(start);
            fail("invalid named capture", &translated[from..])
        }
        Kind::FlagUnrecognized | Kind::UnsupportedLookAround | Kind::FlagDanglingNegation | Kind::FlagUnexpectedEof => {
            let from = translated[..end].rfind("(?").unwrap_or(start);
            let closed = usize::from(matches!(error.kind(), Kind::FlagDanglingNegation));
            fail(
                "invalid or unsupported Perl syntax",
                translated[from..].chars().take(end - from + closed).collect::<String>(),
            )
        }
        Kind::RepetitionCountInvalid | Kind::RepetitionCountUnclosed | Kind::DecimalInvalid => {
            fail("invalid repeat count", part)
        }
        _ => {
            let from = translated[..end].rfind('\\').unwrap_or(start);
            fail("invalid escape sequence", &translated[from..end])
        }
    }
}

/// Rewrites Go syntax into Rust's; meaning is unchanged.
fn translate(pattern: &str) -> Result<String, RegexError> {
    let chars: Vec<char> = pattern.chars().collect();
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut at = 0;
    // Where the last thing written starts if it was a repetition operator: Go refuses `a**`.
    let mut last_repeat = None;
    while at < chars.len() {
        let c = chars[at];
        let repeat_start = last_repeat.take();
        match c {
            '\\' => {
                let Some(&next) = chars.get(at + 1) else {
                    return Err(fail("trailing backslash at end of expression", ""));
                };
                at += 2;
                match next {
                    'd' => out.push_str("[0-9]"),
                    'D' => out.push_str("[^0-9]"),
                    'w' => out.push_str("[0-9A-Za-z_]"),
                    'W' => out.push_str("[^0-9A-Za-z_]"),
                    's' => out.push_str(r"[\t\n\x0C\r ]"),
                    'S' => out.push_str(r"[^\t\n\x0C\r ]"),
                    'b' => out.push_str(r"(?-u:\b)"),
                    'B' => out.push_str(r"(?-u:\B)"),
                    'Q' => {
                        let end = (at..chars.len()).find(|&i| chars[i] == '\\' && chars.get(i + 1) == Some(&'E'));
                        let text: String = chars[at..end.unwrap_or(chars.len())].iter().collect();
                        out.push_str(&regex_syntax::escape(&text));
                        at = end.map_or(chars.len(), |i| i + 2);
                    }
                    'u' | 'U' | '<' | '>' if next.is_alphabetic() => {
                        return Err(fail("invalid escape sequence", format!("\\{next}")));
                    }
                    '<' | '>' => out.push(next),
                    _ => {
                        out.push('\\');
                        out.push(next);
                        // The braces of `\x{1f600}` and `\p{Greek}` are no repetition.
                        if matches!(next, 'x' | 'p' | 'P')
                            && chars.get(at) == Some(&'{')
                            && let Some(end) = (at..chars.len()).find(|&i| chars[i] == '}')
                        {
                            out.extend(&chars[at..=end]);
                            at = end + 1;
                        }
                    }
                }
                continue;
            }
            '[' => {
                at = translate_class(&chars, at, &mut out)
                    .ok_or_else(|| fail("missing closing ]", chars[at..].iter().collect::<String>()))?;
                continue;
            }
            '{' => match counted_repeat(&chars, at) {
                Some((end, min, max)) => {
                    if let Some(before) = repeat_start {
                        let part: String = chars[before..end].iter().collect();
                        return Err(fail("invalid nested repetition operator", part));
                    }
                    if min > MAX_REPEAT || max.is_some_and(|max| max > MAX_REPEAT || max < min) {
                        return Err(fail("invalid repeat count", chars[at..end].iter().collect::<String>()));
                    }
                    out.extend(&chars[at..end]);
                    last_repeat = Some(at);
                    at = end;
                    if chars.get(at) == Some(&'?') {
                        out.push('?');
                        at += 1;
                    }
                    continue;
                }
                None => out.push_str(r"\{"),
            },
            '}' => out.push_str(r"\}"),
            '*' | '+' | '?' => {
                if let Some(before) = repeat_start {
                    let part: String = chars[before..=at].iter().collect();
                    return Err(fail("invalid nested repetition operator", part));
                }
                last_repeat = Some(at);
                out.push(c);
                if chars.get(at + 1) == Some(&'?') {
                    out.push('?');
                    at += 1;
                }
            }
            '(' if chars.get(at + 1) == Some(&'?') => {
                let flags_end = (at + 2..chars.len()).find(|&i| matches!(chars[i], ':' | ')' | '<' | 'P'));
                let flags: &[char] = flags_end.map_or(&[], |end| &chars[at + 2..end]);
                if flags.iter().any(|flag| matches!(flag, 'x' | 'R' | 'u')) {
                    return Err(fail("invalid or unsupported Perl syntax", pattern));
                }
                out.push_str("(?");
                at += 2;
                continue;
            }
            _ => out.push(c),
        }
        at += 1;
    }
    Ok(out)
}

/// `{n}`, `{n,}` or `{n,m}` at `at`: the position behind it, and the counts. Anything else is a literal brace in Go.
fn counted_repeat(chars: &[char], at: usize) -> Option<(usize, u32, Option<u32>)> {
    let close = (at + 1..chars.len().min(at + 14)).find(|&i| chars[i] == '}')?;
    let body: String = chars[at + 1..close].iter().collect();
    let number = |text: &str| -> Option<u32> {
        let canonical = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        canonical.then(|| text.parse().ok()).flatten()
    };
    match body.split_once(',') {
        None => number(&body).map(|n| (close + 1, n, Some(n))),
        Some((min, "")) => number(min).map(|n| (close + 1, n, None)),
        Some((min, max)) => Some((close + 1, number(min)?, Some(number(max)?))),
    }
}

/// Copies the class that starts at `at`, escaping what only Rust gives a meaning; returns the position behind it.
fn translate_class(chars: &[char], at: usize, out: &mut String) -> Option<usize> {
    out.push('[');
    let mut i = at + 1;
    if chars.get(i) == Some(&'^') {
        out.push('^');
        i += 1;
    }
    let first = i;
    loop {
        let c = *chars.get(i)?;
        match c {
            ']' if i > first => {
                out.push(']');
                return Some(i + 1);
            }
            ']' => out.push_str(r"\]"),
            '[' if chars.get(i + 1) == Some(&':') => {
                let end = (i + 2..chars.len()).find(|&j| chars[j] == ':' && chars.get(j + 1) == Some(&']'));
                match end {
                    Some(end) => {
                        out.extend(&chars[i..end + 2]);
                        i = end + 2;
                        continue;
                    }
                    None => out.push_str(r"\["),
                }
            }
            '[' => out.push_str(r"\["),
            '&' | '~' => {
                out.push('\\');
                out.push(c);
            }
            '-' if chars.get(i + 1) == Some(&'-') || i == first || chars.get(i + 1) == Some(&']') => {
                out.push_str(r"\-")
            }
            '\\' => {
                let next = *chars.get(i + 1)?;
                match next {
                    'd' => out.push_str("0-9"),
                    'w' => out.push_str("0-9A-Za-z_"),
                    's' => out.push_str(r"\t\n\x0C\r "),
                    'D' => out.push_str("[^0-9]"),
                    'W' => out.push_str("[^0-9A-Za-z_]"),
                    'S' => out.push_str(r"[^\t\n\x0C\r ]"),
                    '<' | '>' => out.push(next),
                    _ => {
                        out.push('\\');
                        out.push(next);
                    }
                }
                i += 2;
                // `[\d-z]`: the dash behind a class is a literal in Go and an error in Rust.
                if matches!(next, 'd' | 'w' | 's' | 'D' | 'W' | 'S') && chars.get(i) == Some(&'-') {
                    out.push_str(r"\-");
                    i += 1;
                }
                continue;
            }
            _ => out.push(c),
        }
        i += 1;
    }
}

/// The texts that `rust` accepts when it is an alternation of plain texts.
fn literals_of(rust: &str) -> Option<Vec<String>> {
    let hir = regex_syntax::ParserBuilder::new().octal(true).dot_matches_new_line(true).build().parse(rust).ok()?;
    let mut out = Vec::new();
    collect_literals(&hir, &mut out)?;
    Some(out)
}

fn collect_literals(hir: &Hir, out: &mut Vec<String>) -> Option<()> {
    match hir.kind() {
        HirKind::Empty => out.push(String::new()),
        HirKind::Literal(literal) => out.push(String::from_utf8(literal.0.to_vec()).ok()?),
        HirKind::Capture(capture) => collect_literals(&capture.sub, out)?,
        HirKind::Alternation(arms) => {
            for arm in arms {
                collect_literals(arm, out)?;
            }
        }
        HirKind::Concat(parts) => {
            let mut product = vec![String::new()];
            for part in parts {
                let mut texts = Vec::new();
                collect_literals(part, &mut texts)?;
                if product.len() * texts.len() > MAX_LITERALS {
                    return None;
                }
                product =
                    product.iter().flat_map(|head| texts.iter().map(move |tail| format!("{head}{tail}"))).collect();
            }
            out.append(&mut product);
        }
        HirKind::Class(class) => {
            let literal = class.literal()?;
            out.push(String::from_utf8(literal).ok()?);
        }
        HirKind::Look(_) | HirKind::Repetition(_) => return None,
    }
    (out.len() <= MAX_LITERALS).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, accepts: &[&str], refuses: &[&str]) {
        let regex = GoRegex::new_anchored(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        for text in accepts {
            assert!(regex.is_match(text), "{pattern} must accept {text:?}");
        }
        for text in refuses {
            assert!(!regex.is_match(text), "{pattern} must refuse {text:?}");
        }
    }

    #[test]
    fn go_syntax_keeps_its_meaning() {
        check(r"\d+", &["12"], &["١", ""]);
        check(r"\w", &["a"], &["é"]);
        check(r"\Qa.b\E+", &["a.b", "a.bb"], &["axb"]);
        check("a{", &["a{"], &["a"]);
        check("a{,2}", &["a{,2}"], &["aa"]);
        check("{a}", &["{a}"], &["a"]);
        check("[a[]", &["a", "["], &["b"]);
        check("[a&&b]", &["&", "a", "b"], &["c"]);
        check("[~~]", &["~"], &["a"]);
        check(r"[\d-z]", &["5", "-", "z"], &["a"]);
        check(r"\101", &["A"], &["101"]);
        check(r"\<a\>", &["<a>"], &["a"]);
        check(r"\x{1F600}\p{Greek}{2}", &["😀αβ"], &["😀a"]);
        check(".*", &["", "a\nb"], &[]);
        check("[^a-c]x", &["dx"], &["ax"]);
        check("[-a]", &["-", "a"], &["b"]);
        check("(?i)abc", &["ABC", "abc"], &["abd"]);
        check("(?P<n>a)|b", &["a", "b"], &["c"]);
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for pattern in ["a**", "a++", "a{2}{3}", "a{1001}", "(?x)a", r"\u0041", "(", "[a", "a\\", "*"] {
            assert!(GoRegex::new_anchored(pattern).is_err(), "{pattern} must be refused");
        }
    }

    #[test]
    fn alternations_of_texts_become_sets() {
        let set = |pattern: &str| GoRegex::new_anchored(pattern).unwrap().literals().map(<[String]>::to_vec);
        assert_eq!(set("api|db"), Some(vec!["api".into(), "db".into()]));
        assert_eq!(set("node_(cpu|mem)"), Some(vec!["node_cpu".into(), "node_mem".into()]));
        assert_eq!(set("a.*"), None);
        assert_eq!(set("(?i)a"), None);
    }

    #[test]
    fn templates_expand_groups() {
        let regex = GoRegex::new_anchored("(.*):(\\d+)").unwrap();
        assert_eq!(regex.expand("host:80", "$2-${1}x$$").as_deref(), Some("80-hostx$"));
        assert_eq!(regex.expand("host", "$1"), None);
    }
}
