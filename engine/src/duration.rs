//! Durations as Prometheus writes them in flags and configuration: `1h30m`, whole units, largest first.

const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Why a text is no duration; worded as upstream words it.
#[derive(Debug, thiserror::Error)]
pub enum DurationError {
    #[error("empty duration string")]
    Empty,
    #[error("not a valid duration string: {0:?}")]
    Form(String),
    #[error("duration out of range")]
    Range,
}

/// Milliseconds of a duration such as `15d` or `1m30s`; `0` needs no unit.
///
/// # Errors
/// Empty text, units out of order, and values beyond what nanoseconds in 64 bits hold (292 years).
pub fn parse_duration_ms(text: &str) -> Result<i64, DurationError> {
    match text {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(0),
        _ => {}
    }
    let form = || DurationError::Form(text.to_owned());
    let (mut rest, mut next_unit, mut total) = (text, 0, 0_i64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(form)?;
        if digits == 0 {
            return Err(form());
        }
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        let unit = UNITS.iter().position(|(name, _)| *name == &rest[digits..unit_end]).ok_or_else(form)?;
        if unit < next_unit {
            return Err(form());
        }
        next_unit = unit + 1;
        let number: i64 = rest[..digits].parse().map_err(|_| DurationError::Range)?;
        total = number.checked_mul(UNITS[unit].1).and_then(|ms| ms.checked_add(total)).ok_or(DurationError::Range)?;
        rest = &rest[unit_end..];
    }
    if total > i64::MAX / 1_000_000 { Err(DurationError::Range) } else { Ok(total) }
}

/// The shortest such text; years and weeks only where nothing remains, so that 90 days stay `90d`.
pub fn format_duration(milliseconds: i64) -> String {
    if milliseconds <= 0 {
        return "0s".to_owned();
    }
    let (mut rest, mut text) = (milliseconds, String::new());
    for (unit, size) in UNITS {
        if matches!(unit, "y" | "w") && rest % size != 0 {
            continue;
        }
        if rest >= size {
            text.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_what_prometheus_does() {
        for (text, milliseconds, shown) in [
            ("15d", 1_296_000_000, "15d"),
            ("1h30m", 5_400_000, "1h30m"),
            ("90s", 90_000, "1m30s"),
            ("1500ms", 1500, "1s500ms"),
            ("0", 0, "0s"),
            ("14d", 1_209_600_000, "2w"),
            ("365d", 31_536_000_000, "1y"),
        ] {
            assert_eq!(parse_duration_ms(text).unwrap(), milliseconds, "{text}");
            assert_eq!(format_duration(milliseconds), shown);
        }
        for text in ["", "15", "s", "1s1h", "1.5h", "-1s", "1 s", "9999999y", "1s1s"] {
            assert!(parse_duration_ms(text).is_err(), "{text:?}");
        }
    }
}
