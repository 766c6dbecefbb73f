//! Numbers in texts, as Go prints them: label values, sample values in JSON, histograms.
//!
//! All forms show the fewest digits that give the value back; they differ in where they use an exponent.

/// Go's `strconv` format `'f', -1`: `1000000`, `0.1`, `+Inf`. Never an exponent.
pub fn format_decimal(value: f64) -> String {
    let mut text = String::new();
    match Digits::new(value, &mut zmij::Buffer::new()) {
        Ok(digits) => digits.write_decimal(&mut text),
        Err(word) => text.push_str(word),
    }
    text
}

/// Go's `%g` and `%v`: with an exponent below 1e-4 and from 1e6 on.
pub fn format_g(value: f64) -> String {
    let mut text = String::new();
    push_g(value, &mut text);
    text
}

pub(super) fn push_g(value: f64, text: &mut String) {
    match Digits::new(value, &mut zmij::Buffer::new()) {
        Ok(digits) if (-3..=6).contains(&digits.point) => digits.write_decimal(text),
        Ok(digits) => digits.write_exponent(text),
        Err(word) => text.push_str(word),
    }
}

/// Go's `strconv` format `'e', -1`: `1e+21`, `-2.5e-07`; the exponent has at least two digits.
pub fn format_exponent(value: f64) -> String {
    let mut text = String::new();
    match Digits::new(value, &mut zmij::Buffer::new()) {
        Ok(digits) => digits.write_exponent(&mut text),
        Err(word) => text.push_str(word),
    }
    text
}

/// A number in a JSON answer of the HTTP API: with an exponent below 1e-6 and from 1e21 on.
///
/// Source: `MarshalFloat`, Prometheus 3.14 `util/jsonutil`.
pub fn format_json(value: f64) -> String {
    let mut text = String::new();
    push_json(value, &mut text);
    text
}

/// Appends what [`format_json`] returns.
pub fn push_json(value: f64, text: &mut String) {
    // Most values come out right at once: nothing around 1 has an exponent anywhere.
    if (1e-3..1e6).contains(&value.abs()) {
        let mut buffer = zmij::Buffer::new();
        let digits = buffer.format_finite(value);
        text.push_str(digits.strip_suffix(".0").unwrap_or(digits));
        return;
    }
    match Digits::new(value, &mut zmij::Buffer::new()) {
        Ok(digits) if value == 0.0 || (1e-6..1e21).contains(&value.abs()) => digits.write_decimal(text),
        Ok(digits) => digits.write_exponent(text),
        Err(word) => text.push_str(word),
    }
}

/// `±0.d₁d₂d₃… * 10^point`: the shortest digits of a finite value, of two equally near texts the one that ends even.
struct Digits {
    negative: bool,
    digits: [u8; 17],
    count: usize,
    point: i32,
}

impl Digits {
    /// The digits, or the word for what has none.
    fn new(value: f64, buffer: &mut zmij::Buffer) -> Result<Digits, &'static str> {
        if !value.is_finite() {
            return Err(match value {
                f64::INFINITY => "+Inf",
                f64::NEG_INFINITY => "-Inf",
                _ => "NaN",
            });
        }
        let mut digits = Digits { negative: value.is_sign_negative(), digits: [b'0'; 17], count: 0, point: 0 };
        let (mut whole, mut behind_point) = (0, false);
        let text = buffer.format_finite(value.abs());
        let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
        for byte in mantissa.bytes() {
            match byte {
                b'.' => behind_point = true,
                b'0' if digits.count == 0 => digits.point -= i32::from(behind_point),
                digit => {
                    // Behind 17 digits there are only zeros.
                    if let Some(place) = digits.digits.get_mut(digits.count) {
                        *place = digit;
                        digits.count += 1;
                    }
                    whole += i32::from(!behind_point);
                }
            }
        }
        while digits.count > 0 && digits.digits[digits.count - 1] == b'0' {
            digits.count -= 1;
        }
        digits.point += whole + exponent.parse::<i32>().unwrap_or(0);
        if digits.count == 0 {
            (digits.count, digits.point) = (1, 1);
        }
        Ok(digits)
    }

    fn write_sign(&self, text: &mut String) {
        if self.negative {
            text.push('-');
        }
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.digits[..self.count]).unwrap_or_default()
    }

    fn write_decimal(&self, text: &mut String) {
        self.write_sign(text);
        let digits = self.as_str();
        match usize::try_from(self.point) {
            Ok(point) if point >= digits.len() => {
                text.push_str(digits);
                text.extend(std::iter::repeat_n('0', point - digits.len()));
            }
            Ok(point) if point > 0 => {
                text.push_str(&digits[..point]);
                text.push('.');
                text.push_str(&digits[point..]);
            }
            _ => {
                text.push_str("0.");
                text.extend(std::iter::repeat_n('0', self.point.unsigned_abs() as usize));
                text.push_str(digits);
            }
        }
    }

    fn write_exponent(&self, text: &mut String) {
        self.write_sign(text);
        let digits = self.as_str();
        text.push_str(&digits[..1]);
        if digits.len() > 1 {
            text.push('.');
            text.push_str(&digits[1..]);
        }
        let exponent = if digits == "0" { 0 } else { self.point - 1 };
        text.push_str(if exponent < 0 { "e-" } else { "e+" });
        if exponent.unsigned_abs() < 10 {
            text.push('0');
        }
        text.push_str(&exponent.unsigned_abs().to_string());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn of_equally_near_texts_the_even_one() {
        let exact = 2_f64.powi(50);
        assert_eq!(format_decimal(exact + 0.25), "1125899906842624.2");
        assert_eq!(format_decimal(-exact - 0.75), "-1125899906842624.8");
        assert_eq!(format_g(exact + 0.25), "1.1258999068426242e+15");
        assert_eq!(
            [0.1 + 0.2, 5e-7, 1e22].map(format_decimal),
            ["0.30000000000000004", "0.0000005", "10000000000000000000000"]
        );
    }

    #[test]
    fn small_and_large_values_have_an_exponent() {
        let texts = [123_456.0, 999_999.5, 1e6, 1.25e-4, 1.25e-5, -1e100, 0.0, -0.0, 1e20].map(format_g);
        assert_eq!(texts, ["123456", "999999.5", "1e+06", "0.000125", "1.25e-05", "-1e+100", "0", "-0", "1e+20"]);
        assert_eq!([f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(format_g), ["NaN", "+Inf", "-Inf"]);
        let texts = [0.0, -0.0, 1e-6, 9.9e-7, 1.2345e20, 1e21, -1.5e300, 5e-324, f64::NAN].map(format_json);
        let written =
            ["0", "-0", "0.000001", "9.9e-07", "123450000000000000000", "1e+21", "-1.5e+300", "5e-324", "NaN"];
        assert_eq!(texts, written);
        assert_eq!([1e-3, -7.0, 999_999.5, 1e6, 0.5].map(format_json), ["0.001", "-7", "999999.5", "1000000", "0.5"]);
        assert_eq!([0.0, -25.0, 1e-10].map(format_exponent), ["0e+00", "-2.5e+01", "1e-10"]);
    }

    proptest! {
        #[test]
        fn texts_are_the_library_s_but_for_ties(bits: u64, small in -1e6..1e6_f64, power in -30..30_i32) {
            for value in [f64::from_bits(bits), small, (small * 10.0).round() * 10_f64.powi(power)] {
                if value.is_finite() {
                    let (text, library) = (format_decimal(value), value.to_string());
                    prop_assert!(text == library || text.len() == library.len() && text.parse() == Ok(value), "{text} {library}");
                    prop_assert_eq!(format_exponent(value).parse(), Ok(value));
                    prop_assert_eq!(format_g(value).parse(), Ok(value));
                }
            }
        }
    }
}
