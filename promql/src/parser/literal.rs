//! Numbers, durations and strings as PromQL writes them.

use super::quote::{quote, text_from_bytes};

/// The value of a number token, or Go's message why it is none.
///
/// Integers follow Go's base prefixes (`0x1f`, `0o17`, `017`, `0b1`), anything else is a float. Source:
/// `strconv.ParseInt(s, 0, 64)`, then `strconv.ParseFloat`.
pub fn parse_number(text: &str) -> Result<f64, String> {
    if let Some(integer) = parse_go_integer(text) {
        return Ok(integer as f64);
    }
    let fail = |reason: &str| Err(format!("strconv.ParseFloat: parsing {}: {reason}", quote(text)));
    let lower = text.to_ascii_lowercase();
    let unsigned = lower.trim_start_matches(['+', '-']);
    if lower.len() - unsigned.len() > 1 {
        return fail("invalid syntax");
    }
    let sign = if lower.starts_with('-') { -1.0 } else { 1.0 };
    if unsigned == "inf" || unsigned == "infinity" {
        return Ok(sign * f64::INFINITY);
    }
    if unsigned == "nan" {
        return Ok(f64::from_bits(0x7ff8_0000_0000_0001));
    }
    if let Some(hexadecimal) = unsigned.strip_prefix("0x") {
        // An underscore may follow the prefix.
        let well_formed = underscores_separate_digits(&format!("0{hexadecimal}"));
        return match parse_hex_float(&hexadecimal.replace('_', "")).filter(|_| well_formed) {
            Some(value) if value.is_infinite() => fail("value out of range"),
            Some(value) => Ok(sign * value),
            None => fail("invalid syntax"),
        };
    }
    let well_formed = underscores_separate_digits(unsigned)
        && unsigned.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'+' | b'-' | b'_'));
    let digits = unsigned.replace('_', "");
    match digits.parse::<f64>() {
        Ok(value) if well_formed && value.is_infinite() => fail("value out of range"),
        Ok(value) if well_formed => Ok(sign * value),
        _ => fail("invalid syntax"),
    }
}

fn parse_go_integer(text: &str) -> Option<i64> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = unsigned.to_ascii_lowercase();
    let (radix, digits, prefixed) = if let Some(rest) = lower.strip_prefix("0x") {
        (16, rest, true)
    } else if let Some(rest) = lower.strip_prefix("0b") {
        (2, rest, true)
    } else if let Some(rest) = lower.strip_prefix("0o") {
        (8, rest, true)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..], true)
    } else {
        (10, lower.as_str(), false)
    };
    // An underscore stands between digits, or between the base prefix and a digit. With base prefix "0" (octal) and
    // without one (decimal) Go accepts underscores too.
    let mut previous_is_digit = prefixed;
    for byte in digits.bytes() {
        match byte {
            b'_' if previous_is_digit => previous_is_digit = false,
            b'_' => return None,
            _ => previous_is_digit = true,
        }
    }
    if !previous_is_digit || digits.is_empty() {
        return None;
    }
    let magnitude = u64::from_str_radix(&digits.replace('_', ""), radix).ok()?;
    if negative {
        (magnitude <= 1 << 63).then(|| (magnitude as i64).wrapping_neg())
    } else {
        i64::try_from(magnitude).ok()
    }
}

/// Whether each underscore stands between two digits.
fn underscores_separate_digits(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_hexdigit);
    bytes.iter().enumerate().all(|(at, &byte)| byte != b'_' || digit(at.checked_sub(1)) && digit(Some(at + 1)))
}

/// `1f.8p3`, without sign and prefix; the exponent is required, as in Go.
fn parse_hex_float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once('p')?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0f64;
    for digit in whole.chars() {
        value = value * 16.0 + f64::from(digit.to_digit(16)?);
    }
    let mut scale = 1.0 / 16.0;
    for digit in fraction.chars() {
        value += f64::from(digit.to_digit(16)?) * scale;
        scale /= 16.0;
    }
    Some(value * 2f64.powi(exponent))
}

/// Milliseconds of a Prometheus duration such as `1h30m`, or Prometheus' message why it is none.
///
/// Units descend and occur at most once. Source: `model.ParseDuration`.
pub fn parse_duration_ms(text: &str) -> Result<i64, String> {
    if text == "0" {
        return Ok(0);
    }
    if text.is_empty() {
        return Err("empty duration string".to_owned());
    }
    const UNITS: [(&str, u64); 7] = [
        ("y", 365 * 24 * 3_600_000),
        ("w", 7 * 24 * 3_600_000),
        ("d", 24 * 3_600_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    const MAX_MS: u64 = i64::MAX as u64 / 1_000_000;
    let invalid = || format!("not a valid duration string: {}", quote(text));
    let mut rest = text;
    let mut first_unit = 0;
    let mut total_ms = 0u64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return Err(invalid());
        }
        let amount: u64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(|b| !b.is_ascii_digit()).count();
        if letters == 0 {
            return Err(invalid());
        }
        let unit = &rest[..letters];
        let Some(position) = UNITS.iter().position(|(name, _)| *name == unit) else {
            return Err(format!("unknown unit {} in duration {}", quote(unit), quote(text)));
        };
        if position < first_unit {
            return Err(invalid());
        }
        first_unit = position + 1;
        total_ms = amount
            .checked_mul(UNITS[position].1)
            .and_then(|ms| ms.checked_add(total_ms))
            .filter(|&ms| ms <= MAX_MS)
            .ok_or("duration out of range")?;
        rest = &rest[letters..];
    }
    Ok(total_ms as i64)
}

/// Seconds of a duration, with the rounding of Go's `Duration.Seconds`.
pub fn duration_seconds(ms: i64) -> f64 {
    (ms / 1000) as f64 + (ms % 1000 * 1_000_000) as f64 / 1e9
}

/// A duration as Prometheus prints it, such as `1h30m`; never negative. Source: `model.Duration.String`.
pub fn format_duration_ms(ms: i64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut rest = ms;
    let mut out = String::new();
    let mut push = |unit: &str, unit_ms: i64, only_whole: bool| {
        if only_whole && rest % unit_ms != 0 {
            return;
        }
        let amount = rest / unit_ms;
        if amount > 0 {
            out.push_str(&format!("{amount}{unit}"));
            rest -= amount * unit_ms;
        }
    };
    // Only whole years, weeks and days are written so: `90d` reads better than `12w6d`.
    push("y", 365 * 24 * 3_600_000, true);
    push("w", 7 * 24 * 3_600_000, true);
    push("d", 24 * 3_600_000, false);
    push("h", 3_600_000, false);
    push("m", 60_000, false);
    push("s", 1_000, false);
    push("ms", 1, false);
    out
}

/// The text of a string token with its quotes, escapes resolved; `None` where Go would refuse it.
pub fn unquote(token: &str) -> Option<String> {
    let quote = token.chars().next()?;
    let inner = token.strip_prefix(quote)?.strip_suffix(quote)?;
    if quote == '`' {
        return Some(inner.to_owned());
    }
    if !inner.contains('\\') {
        return Some(inner.to_owned());
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = chars.next()?;
        match escape {
            'a' => bytes.push(7),
            'b' => bytes.push(8),
            'f' => bytes.push(12),
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            'v' => bytes.push(11),
            '\\' | '\'' | '"' => bytes.push(escape as u8),
            '0'..='7' => {
                let value = digits(&mut chars, 2, 8, escape.to_digit(8)?)?;
                bytes.push(u8::try_from(value).ok()?);
            }
            'x' => bytes.push(digits(&mut chars, 2, 16, 0)? as u8),
            'u' | 'U' => {
                let count = if escape == 'u' { 4 } else { 8 };
                let c = char::from_u32(digits(&mut chars, count, 16, 0)?)?;
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return None,
        }
    }
    Some(text_from_bytes(&bytes))
}

/// Reads `count` further digits behind `value`.
fn digits(chars: &mut std::str::Chars<'_>, count: usize, radix: u32, mut value: u32) -> Option<u32> {
    for _ in 0..count {
        value = value.checked_mul(radix)?.checked_add(chars.next()?.to_digit(radix)?)?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_gos_forms() {
        for (text, value) in [
            ("0x1F", 31.0),
            ("017", 15.0),
            ("0b11", 3.0),
            ("1_000", 1000.0),
            ("0x_1f", 31.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("08.5", 8.5),
            ("+Inf", f64::INFINITY),
            ("99999999999999999999", 1e20),
        ] {
            assert_eq!(parse_number(text), Ok(value), "{text}");
        }
        assert!(parse_number("NaN").unwrap().is_nan());
        assert_eq!(parse_number("08"), Ok(8.0));
        assert_eq!(parse_number("1_000.5"), Ok(1000.5));
        for text in ["1__000.5", "0x1e+5", "1e", "", "0x"] {
            assert!(parse_number(text).is_err(), "{text}");
        }
        assert_eq!(parse_number("1e999"), Err(r#"strconv.ParseFloat: parsing "1e999": value out of range"#.to_owned()));
    }

    #[test]
    fn durations_are_read_and_written() {
        for (text, ms) in [("0", 0), ("5m", 300_000), ("1h30m", 5_400_000), ("1d", 86_400_000), ("10s500ms", 10_500)] {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
        }
        assert_eq!(parse_duration_ms("5m1h"), Err(r#"not a valid duration string: "5m1h""#.to_owned()));
        assert_eq!(parse_duration_ms("5y1hs"), Err(r#"unknown unit "hs" in duration "5y1hs""#.to_owned()));
        assert_eq!(parse_duration_ms("300y"), Err("duration out of range".to_owned()));
        for (ms, text) in [(0, "0s"), (90 * 86_400_000, "90d"), (604_800_000, "1w"), (5_400_000, "1h30m"), (1, "1ms")] {
            assert_eq!(format_duration_ms(ms), text);
        }
    }

    #[test]
    fn strings_hold_any_byte() {
        assert_eq!(unquote(r#""a\tb\x41\101é\u00e9""#).as_deref(), Some("a\tbAAéé"));
        assert_eq!(unquote(r"`a\n`").as_deref(), Some(r"a\n"));
        assert_eq!(quote(&unquote(r#""\xff""#).unwrap()), r#""\xff""#);
    }
}
