//! Text quoted the way Go quotes it, since that is what messages and printed queries show.
//!
//! PromQL strings are bytes: `"\xff"` is legal though it is not UTF-8. A byte that belongs to no UTF-8 sequence is
//! carried as the character `U+10FF00 + byte` (a private-use plane) and shown as `\xff` again.

const STRAY_BYTE_BASE: u32 = 0x10_ff00;

/// Text for `bytes`; bytes outside UTF-8 become stray-byte characters.
pub fn text_from_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().filter_map(|&byte| char::from_u32(STRAY_BYTE_BASE + u32::from(byte))));
    }
    text
}

fn stray_byte(c: char) -> Option<u32> {
    (STRAY_BYTE_BASE + 0x80..=STRAY_BYTE_BASE + 0xff).contains(&(c as u32)).then(|| c as u32 - STRAY_BYTE_BASE)
}

/// `text` as JSON shows it: stray bytes become U+FFFD.
pub fn lossy(text: &str) -> String {
    text.chars().map(|c| if stray_byte(c).is_some() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Whether `name` can be a label's name: not empty, and UTF-8.
pub fn is_label_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| stray_byte(c).is_some())
}

/// Whether `name` needs no quotes as a label's name.
pub fn is_plain_label_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c == '_' || c.is_ascii_alphabetic())
        && chars.all(|c| c == '_' || c.is_ascii_alphanumeric())
}

/// `text` in double quotes. Source: Go `strconv.Quote`.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        if c == '\'' {
            out.push(c);
        } else {
            push_escaped(&mut out, c);
        }
    }
    out.push('"');
    out
}

/// `c` in single quotes; the end of input shows as the replacement character, as Go's `%q` of rune -1 does.
pub fn quote_char(c: Option<char>) -> String {
    let mut out = String::from("'");
    match c.unwrap_or(char::REPLACEMENT_CHARACTER) {
        '"' => out.push('"'),
        c => push_escaped(&mut out, c),
    }
    out.push('\'');
    out
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '"' | '\'' | '\\' => {
            out.push('\\');
            out.push(c);
        }
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        _ if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
        _ if stray_byte(c).is_some() => {
            out.push_str(&format!("\\x{:02x}", stray_byte(c).unwrap_or_default()));
        }
        _ if is_printable(c) => out.push(c),
        _ if (c as u32) < 0x1_0000 => out.push_str(&format!("\\u{:04x}", c as u32)),
        _ => out.push_str(&format!("\\U{:08x}", c as u32)),
    }
}

/// Rust's own debug form leaves printable characters alone, by the same Unicode classes as Go.
fn is_printable(c: char) -> bool {
    c == ' ' || (!c.is_whitespace() && c.escape_debug().len() == 1) || is_combining_mark(c)
}

/// `escape_debug` escapes combining marks, which Go prints.
fn is_combining_mark(c: char) -> bool {
    c.escape_debug().len() > 1 && !c.is_control() && format!("a{c}").escape_debug().count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_is_gos() {
        assert_eq!(quote("a\"b'\\\n\u{7f}é\u{a0}"), r#""a\"b'\\\n\x7fé\u00a0""#);
        assert_eq!(quote(&text_from_bytes(b"a\xc5z")), r#""a\xc5z""#);
        assert_eq!(quote_char(Some('\'')), r"'\''");
        assert_eq!(quote_char(None), "'\u{fffd}'");
    }

    #[test]
    fn a_stray_byte_is_no_label_name() {
        assert!(is_label_name("a.b é"));
        assert!(!is_label_name(&text_from_bytes(b"\xff")));
        assert!(!is_label_name(""));
    }
}
