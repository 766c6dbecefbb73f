//! Numbers of the text formats.

/// Powers of ten that a double holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// The double that `text` spells, every NaN in one form; the error is Go's text.
///
/// Accepts what Go's `strconv.ParseFloat` accepts, without hexadecimal numbers and underscores.
pub fn parse_value(text: &[u8]) -> Result<f64, String> {
    match parse_short(text) {
        Some(value) => Ok(value),
        None => parse_long(text),
    }
}

/// Up to 15 digits with a point anywhere: mantissa and power of ten are exact, so one division rounds once.
fn parse_short(text: &[u8]) -> Option<f64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    let mut mantissa: u64 = 0;
    let mut count = 0;
    let mut fraction = None;
    for byte in digits {
        match byte {
            b'0'..=b'9' => {
                mantissa = mantissa * 10 + u64::from(byte - b'0');
                count += 1;
            }
            b'.' if fraction.is_none() => fraction = Some(count),
            _ => return None,
        }
    }
    if count == 0 || count > 15 {
        return None;
    }
    let value = match fraction {
        Some(whole) => mantissa as f64 / POWERS[count - whole],
        None => mantissa as f64,
    };
    Some(if negative { -value } else { value })
}

fn parse_long(text: &[u8]) -> Result<f64, String> {
    if text.iter().any(|byte| matches!(byte, b'p' | b'P' | b'_')) {
        return Err("unsupported character in float".to_owned());
    }
    let failure = |what: &str| Err(format!("strconv.ParseFloat: parsing {}: {what}", super::go_quote(text)));
    let Some(value) = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok()) else {
        return failure("invalid syntax");
    };
    let first = text.first().map(u8::to_ascii_lowercase);
    let signed = matches!(first, Some(b'+' | b'-'));
    if value.is_nan() {
        return if signed { failure("invalid syntax") } else { Ok(f64::from_bits(NORMAL_NAN)) };
    }
    let spelled = matches!(text.get(usize::from(signed)), Some(b'i' | b'I'));
    if value.is_infinite() && !spelled { failure("value out of range") } else { Ok(value) }
}

/// The NaN of samples that are just not a number; staleness markers differ from it.
const NORMAL_NAN: u64 = 0x7ff8_0000_0000_0001;

/// A histogram bound or quantile in the one spelling that label values have: `1.0`, `0.5`, `+Inf`, `1e+06`.
///
/// Source: `FormatOpenMetricsFloat`, Prometheus v3 `model/labels`.
pub fn format_bound(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    // Rust prints the shortest digits that read back, as Go does; only the layout differs.
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{value}");
    if plain.contains('.') { plain } else { format!("{plain}.0") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_as_go_writes_them() {
        for (value, text) in [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (-1.0, "-1.0"),
            (0.005, "0.005"),
            (0.00001, "1e-05"),
            (2.5, "2.5"),
            (1000.0, "1000.0"),
            (1e6, "1e+06"),
            (123456.0, "123456.0"),
            (1234567.0, "1.234567e+06"),
            (1e21, "1e+21"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(format_bound(value), text);
        }
    }

    #[test]
    fn numbers_that_are_refused() {
        for (text, message) in [
            ("1_2", "unsupported character in float"),
            ("0x1p-3", "unsupported character in float"),
            ("true", "strconv.ParseFloat: parsing \"true\": invalid syntax"),
            ("", "strconv.ParseFloat: parsing \"\": invalid syntax"),
            ("-", "strconv.ParseFloat: parsing \"-\": invalid syntax"),
            ("-nan", "strconv.ParseFloat: parsing \"-nan\": invalid syntax"),
            ("1e999", "strconv.ParseFloat: parsing \"1e999\": value out of range"),
        ] {
            assert_eq!(parse_value(text.as_bytes()).unwrap_err(), message);
        }
        for (text, value) in
            [("Inf", f64::INFINITY), ("+Inf", f64::INFINITY), ("-inf", f64::NEG_INFINITY), (".5", 0.5), ("5.", 5.0)]
        {
            assert_eq!(parse_value(text.as_bytes()), Ok(value));
        }
        assert_eq!(parse_value(b"NaN").unwrap().to_bits(), NORMAL_NAN);
        assert_eq!(parse_value(b"-0").unwrap().to_bits(), (-0.0f64).to_bits());
    }

    proptest! {
        #[test]
        fn short_and_long_agree(text in "-?[0-9]{0,9}(\\.[0-9]{0,9})?(e[0-9])?") {
            prop_assert_eq!(parse_value(text.as_bytes()).map(f64::to_bits), parse_long(text.as_bytes()).map(f64::to_bits));
        }

        #[test]
        fn what_is_printed_reads_back(value: f64) {
            let value = if value.is_nan() { 1.0 } else { value };
            prop_assert_eq!(parse_value(format!("{value:e}").as_bytes()), Ok(value));
        }
    }
}
