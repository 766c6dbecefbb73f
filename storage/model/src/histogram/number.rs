//! Numbers inside a histogram's text, as Go prints them.

/// Go's `strconv` format `'f', -1` of a finite value: decimal notation in the fewest digits that give the value back.
///
/// Of two texts equally short and near Go takes the even one and Rust the greater: 1125899906842624.25 ends in `.2`.
pub fn format_decimal(value: f64) -> String {
    let text = value.to_string();
    // Neighbours are that near only where 16 digits or more are needed.
    let decimals = text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    if text.len() < 17 || decimals == 0 {
        return text;
    }
    let even = format!("{value:.decimals$}");
    if even.parse() == Ok(value) { even } else { text }
}

/// Go's `%g` and `%v`: the shortest digits that give the value back, with an exponent below 1e-4 and from 1e6 on.
pub fn format_g(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    // Which power of ten the first digit has can only be told from the shortest digits, as rounding may carry.
    let text = format!("{value:e}");
    let exponent: i32 = text.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0);
    if (-4..6).contains(&exponent) { format_decimal(value) } else { format_exponent(value) }
}

/// Go's `strconv` format `'e', -1` of a finite value: shortest digits and an exponent of at least two digits.
pub fn format_exponent(value: f64) -> String {
    let mut text = format!("{value:e}");
    if text.len() > 17 {
        // See `format_decimal`.
        let decimals = text.find('e').unwrap_or(0).saturating_sub(2 + usize::from(value < 0.0));
        let even = format!("{value:.decimals$e}");
        if even.parse() == Ok(value) {
            text = even;
        }
    }
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(positive) => ('-', positive),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

/// A number in a JSON answer of the HTTP API: decimal notation, with an exponent below 1e-6 and from 1e21 on.
///
/// Source: `MarshalFloat`, Prometheus 3.14 `util/jsonutil`.
pub fn format_json(value: f64) -> String {
    if !value.is_finite() {
        format_g(value)
    } else if value != 0.0 && !(1e-6..1e21).contains(&value.abs()) {
        format_exponent(value)
    } else {
        format_decimal(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_values_have_an_exponent() {
        let texts = [123_456.0, 999_999.5, 1e6, 1.25e-4, 1.25e-5, -1e100, 0.0, -0.0, 1e20].map(format_g);
        assert_eq!(texts, ["123456", "999999.5", "1e+06", "0.000125", "1.25e-05", "-1e+100", "0", "-0", "1e+20"]);
        let exact = 2f64.powi(50);
        assert_eq!(format_decimal(exact + 0.25), "1125899906842624.2");
        assert_eq!(format_decimal(-exact - 0.75), "-1125899906842624.8");
        assert_eq!(format_g(exact + 0.25), "1.1258999068426242e+15");
        assert_eq!([0.1 + 0.2, 1e300, 2f64.powi(70), 5e-7].map(format_decimal)[0], "0.30000000000000004");
        assert_eq!([f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(format_g), ["NaN", "+Inf", "-Inf"]);
    }
}
