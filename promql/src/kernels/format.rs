//! Numbers as Go writes and reads them: label values, API sample values, error texts.

/// Decimal notation with as many digits as the value needs and no exponent: Go's `strconv` format `'f', -1`.
///
/// `count_values` labels and scalar-to-string conversions.
pub fn format_float(value: f64) -> String {
    pilaster_model::histogram::format_decimal(value)
}

/// Go's `%g` and `%v`: shortest digits, with an exponent below 1e-4 and from 1e6 on ("1e+06").
pub fn format_g(value: f64) -> String {
    pilaster_model::histogram::format_g(value)
}

/// Go's `%f`: six decimals.
pub fn format_f6(value: f64) -> String {
    if value.is_finite() { format!("{value:.6}") } else { format_float(value) }
}

/// A sample value in a JSON answer: decimal notation, with an exponent below 1e-6 and from 1e21 on.
pub fn format_json(value: f64) -> String {
    pilaster_model::histogram::format_json(value)
}

/// `le` and `quantile` label values as OpenMetrics wants them: `%g`, always with a point or an exponent.
pub fn format_openmetrics(value: f64) -> String {
    let mut text = format_g(value);
    if value.is_finite() && !text.contains(['.', 'e']) {
        text.push_str(".0");
    }
    text
}

/// Reads what Go's `strconv.ParseFloat` reads, hexadecimal included; `None` for anything else and for overflow.
pub fn parse_float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    if unsigned.eq_ignore_ascii_case("inf") || unsigned.eq_ignore_ascii_case("infinity") {
        return Some(sign * f64::INFINITY);
    }
    if text.eq_ignore_ascii_case("nan") {
        return Some(f64::NAN);
    }
    let value = match unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X")) {
        Some(digits) => parse_hexadecimal(digits)?,
        // Rust reads the same decimal forms, and words that were dealt with above.
        None if unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') => unsigned.parse().ok()?,
        None => return None,
    };
    value.is_finite().then_some(sign * value)
}

/// `1.8p3`: hexadecimal digits with an optional point and the obligatory binary exponent.
fn parse_hexadecimal(text: &str) -> Option<f64> {
    let (digits, exponent) = text.split_once(['p', 'P'])?;
    let exponent_digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if exponent_digits.is_empty() || !exponent_digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut exponent =
        exponent.parse::<i32>().unwrap_or(if exponent.starts_with('-') { i32::MIN / 2 } else { i32::MAX / 2 });
    let (mut mantissa, mut seen_digit, mut after_point) = (0_u64, false, false);
    for character in digits.chars() {
        match (character, character.to_digit(16)) {
            ('.', _) if !after_point => after_point = true,
            (_, Some(digit)) => {
                seen_digit = true;
                if mantissa >> 60 == 0 {
                    mantissa = mantissa << 4 | u64::from(digit);
                    exponent = exponent.saturating_sub(if after_point { 4 } else { 0 });
                } else {
                    // Beyond 60 bits only "is there anything" matters for rounding.
                    mantissa |= u64::from(digit != 0);
                    exponent = exponent.saturating_add(if after_point { 0 } else { 4 });
                }
            }
            _ => return None,
        }
    }
    // Two factors, since 2^exponent alone may leave the range of a double that the product is still in.
    let half = exponent.clamp(-2200, 2200) / 2;
    let rest = exponent.clamp(-2200, 2200) - half;
    seen_digit.then(|| mantissa as f64 * 2_f64.powi(half) * 2_f64.powi(rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_go_s() {
        assert_eq!(
            [format_float(0.1), format_float(1e21), format_float(-0.0)],
            ["0.1", "1000000000000000000000", "-0"]
        );
        assert_eq!(
            [format_float(f64::NAN), format_float(f64::INFINITY), format_float(f64::NEG_INFINITY)],
            ["NaN", "+Inf", "-Inf"]
        );
        assert_eq!(
            [format_g(1e6), format_g(123_456_789.0), format_g(100_000.0)],
            ["1e+06", "1.23456789e+08", "100000"]
        );
        assert_eq!([format_g(0.0001), format_g(0.00001), format_g(-2.5e-7)], ["0.0001", "1e-05", "-2.5e-07"]);
        assert_eq!(
            [format_g(f64::INFINITY), format_g(0.0), format_g(21.5), format_g(1e100)],
            ["+Inf", "0", "21.5", "1e+100"]
        );
        assert_eq!([format_f6(1.5), format_f6(-0.1234567), format_f6(f64::NAN)], ["1.500000", "-0.123457", "NaN"]);
        assert_eq!(
            [format_json(1e-7), format_json(1e21), format_json(123_456_789.0), format_json(0.0)],
            ["1e-07", "1e+21", "123456789", "0"]
        );
        assert_eq!(
            [
                format_openmetrics(1.0),
                format_openmetrics(0.25),
                format_openmetrics(1e9),
                format_openmetrics(f64::INFINITY)
            ],
            ["1.0", "0.25", "1e+09", "+Inf"]
        );
    }

    #[test]
    fn reads_what_go_reads() {
        for (text, value) in [
            ("1", 1.0),
            ("+.5", 0.5),
            ("-1e3", -1000.0),
            ("iNf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("0x1.8p1", 3.0),
            ("-0X10P-4", -1.0),
        ] {
            assert_eq!(parse_float(text), Some(value), "{text}");
        }
        assert!(parse_float("NaN").is_some_and(f64::is_nan));
        for text in ["", ".", "+", "1_0", "-nan", "1e400", "0x1", "0xp1", "in", "1e", " 1", "--1", "0x1p", "1f"] {
            assert_eq!(parse_float(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn reading_undoes_writing(value in any::<f64>()) {
            for text in [format_float(value), format_g(value), format_json(value), format_openmetrics(value)] {
                let read = parse_float(&text).unwrap();
                prop_assert!(read.to_bits() == value.to_bits() || read.is_nan() && value.is_nan(), "{text}");
            }
        }
    }
}
