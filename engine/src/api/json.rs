//! JSON in Prometheus's number formats, written straight into bytes.
//!
//! Values are strings in Go's shortest `'f'` form (`'e'` below 1e-6 and from 1e21 on), timestamps are numbers of
//! seconds with no decimals or three.

use pilaster_model::Labels;

/// Appends `text` as a JSON string; a stray byte of a PromQL string is no character, and shows as U+FFFD.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (index, byte) in bytes.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' && *byte != STRAY_LEAD {
            continue;
        }
        if *byte == STRAY_LEAD {
            if matches!(bytes.get(index + 1..index + 3), Some([0x8f, 0xbe | 0xbf])) {
                out.extend_from_slice(&bytes[copied..index]);
                out.extend_from_slice("\u{fffd}".as_bytes());
                copied = index + 4;
            }
            continue;
        }
        out.extend_from_slice(&bytes[copied..index]);
        copied = index + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => out.extend_from_slice(format!("\\u{control:04x}").as_bytes()),
        }
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

/// First byte, in UTF-8, of the characters that stand for bytes outside UTF-8: U+10FF80 to U+10FFFF.
const STRAY_LEAD: u8 = 0xf4;

/// Appends a label set as an object, names ascending.
pub fn push_labels(out: &mut Vec<u8>, labels: &Labels) {
    out.push(b'{');
    for (index, (name, value)) in labels.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_string(out, name);
        out.push(b':');
        push_string(out, value);
    }
    out.push(b'}');
}

/// Appends a list of strings.
pub fn push_strings<T: AsRef<str>>(out: &mut Vec<u8>, texts: &[T]) {
    out.push(b'[');
    for (index, text) in texts.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_string(out, text.as_ref());
    }
    out.push(b']');
}

/// Appends milliseconds as seconds.
pub fn push_timestamp(out: &mut Vec<u8>, timestamp_ms: i64) {
    let mut buffer = itoa::Buffer::new();
    if timestamp_ms < 0 {
        out.push(b'-');
    }
    let magnitude = timestamp_ms.unsigned_abs();
    out.extend_from_slice(buffer.format(magnitude / 1000).as_bytes());
    let rest = magnitude % 1000;
    if rest != 0 {
        out.extend_from_slice(&[
            b'.',
            b'0' + (rest / 100) as u8,
            b'0' + (rest / 10 % 10) as u8,
            b'0' + (rest % 10) as u8,
        ]);
    }
}

/// Appends a sample's value without quotes: `12.5`, `1e-07`, `NaN`, `+Inf`.
pub fn push_value(out: &mut Vec<u8>, value: f64) {
    // Most samples are whole numbers; below 2^53 an integer says them exactly. -0 is not one of them.
    let whole = value as i64;
    if whole as f64 == value && whole.unsigned_abs() < 1 << 53 && (whole != 0 || value.is_sign_positive()) {
        out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
        return;
    }
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
        return;
    }
    if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    // Not whole, and in this range written without an exponent: a search for one takes a third as long as all of it.
    if (1e-4..1e15).contains(&value.abs()) {
        debug_assert!(!text.contains('e') && !text.ends_with(".0"), "{text}");
        out.extend_from_slice(text.as_bytes());
        return;
    }
    match text.split_once('e') {
        None => out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes()),
        Some((mantissa, exponent)) => push_scientific(out, mantissa, exponent.parse().unwrap_or(0), value.abs()),
    }
}

/// Lays out `mantissa * 10^exponent`, positionally where Go does.
fn push_scientific(out: &mut Vec<u8>, mantissa: &str, exponent: i32, magnitude: f64) {
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    out.extend_from_slice(sign.as_bytes());
    let mantissa = mantissa.strip_suffix(".0").unwrap_or(mantissa);
    if !(1e-6..1e21).contains(&magnitude) {
        let sign = if exponent < 0 { '-' } else { '+' };
        out.extend_from_slice(format!("{mantissa}e{sign}{:02}", exponent.abs()).as_bytes());
        return;
    }
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    // The point stands behind this many digits.
    let point = whole.len() as i32 + exponent;
    if point <= 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', point.unsigned_abs() as usize));
        out.extend_from_slice(digits.as_bytes());
    } else if point as usize >= digits.len() {
        out.extend_from_slice(digits.as_bytes());
        out.extend(std::iter::repeat_n(b'0', point as usize - digits.len()));
    } else {
        out.extend_from_slice(&digits.as_bytes()[..point as usize]);
        out.push(b'.');
        out.extend_from_slice(&digits.as_bytes()[point as usize..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(push: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        push(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_are_written_as_go_writes_them() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-12.5, "-12.5"),
            (0.1, "0.1"),
            (1e-6, "0.000001"),
            (1.5e-6, "0.0000015"),
            (9.9e-7, "9.9e-07"),
            (1e-7, "1e-07"),
            (1e20, "100000000000000000000"),
            (1.2345e20, "123450000000000000000"),
            (1e21, "1e+21"),
            (-1.5e300, "-1.5e+300"),
            (5e-324, "5e-324"),
            (9007199254740993.0, "9007199254740992"),
            (123456789.125, "123456789.125"),
            (1795248131.063, "1795248131.063"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(written(|out| push_value(out, value)), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn values_read_back(bits: u64) {
            let value = f64::from_bits(bits);
            let text = written(|out| push_value(out, value));
            let again: f64 = text.parse().unwrap();
            proptest::prop_assert!(again.to_bits() == bits || (value.is_nan() && again.is_nan()), "{text}");
            let positional = !value.is_finite() || value == 0.0 || (1e-6..1e21).contains(&value.abs());
            proptest::prop_assert_eq!(positional, !text.contains('e'));
        }
    }

    #[test]
    fn timestamps_have_no_decimals_or_three() {
        for (timestamp_ms, expected) in
            [(0, "0"), (1500, "1.500"), (1_795_248_131_063, "1795248131.063"), (-1, "-0.001")]
        {
            assert_eq!(written(|out| push_timestamp(out, timestamp_ms)), expected);
        }
    }

    #[test]
    fn strings_are_escaped() {
        assert_eq!(written(|out| push_string(out, "a\"\\\n\u{1}é")), "\"a\\\"\\\\\\n\\u0001é\"");
        let labels = Labels::from_pairs([("b", "2"), ("__name__", "x")]);
        assert_eq!(written(|out| push_labels(out, &labels)), r#"{"__name__":"x","b":"2"}"#);
    }
}
