//! Durations and sizes in the notation of configuration files.

use std::fmt;
use std::time::Duration;

use super::Error;
use super::yaml::{FromYaml, Node};

const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// A length of time in whole milliseconds, written `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PromDuration(pub i64);

impl PromDuration {
    pub const fn from_secs(seconds: i64) -> PromDuration {
        PromDuration(seconds * 1000)
    }

    pub const fn ms(self) -> i64 {
        self.0
    }

    /// `self`, or `default` where it is zero: for periods, which must not be.
    pub fn or(self, default: PromDuration) -> PromDuration {
        if self.0 == 0 { default } else { self }
    }

    /// Zero where negative.
    pub fn as_duration(self) -> Duration {
        Duration::from_millis(self.0.max(0) as u64)
    }

    /// Reads `1h30m`: units from years to milliseconds, each at most once, large before small; `0` needs no unit.
    ///
    /// # Errors
    /// [`Error::Invalid`] with Prometheus's text.
    ///
    /// Source: `model.ParseDuration` of Prometheus's common library.
    pub fn parse(text: &str) -> Result<PromDuration, Error> {
        let invalid = || Error::Invalid(format!("not a valid duration string: {text:?}"));
        match text {
            "0" => return Ok(PromDuration(0)),
            "" => return Err(Error::Invalid("empty duration string".to_owned())),
            _ => {}
        }
        let mut rest = text;
        let mut next_unit = 0;
        let mut total: i64 = 0;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if digits == 0 {
                return Err(invalid());
            }
            let count: i64 = rest[..digits].parse().map_err(|_| invalid())?;
            rest = &rest[digits..];
            let letters = rest.bytes().take_while(|b| !b.is_ascii_digit()).count();
            let (unit, tail) = rest.split_at(letters);
            rest = tail;
            if unit.is_empty() {
                return Err(invalid());
            }
            let Some(position) = UNITS.iter().position(|(name, _)| *name == unit) else {
                return Err(Error::Invalid(format!("unknown unit {unit:?} in duration {text:?}")));
            };
            if position < next_unit {
                return Err(invalid());
            }
            next_unit = position + 1;
            let out_of_range = || Error::Invalid("duration out of range".to_owned());
            let part = count.checked_mul(UNITS[position].1).ok_or_else(out_of_range)?;
            total = total.checked_add(part).ok_or_else(out_of_range)?;
        }
        // Go counts nanoseconds in 63 bits.
        if total > i64::MAX / 1_000_000 {
            return Err(Error::Invalid("duration out of range".to_owned()));
        }
        Ok(PromDuration(total))
    }
}

impl fmt::Display for PromDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        if rest == 0 {
            return f.write_str("0s");
        }
        if rest < 0 {
            f.write_str("-")?;
            rest = -rest;
        }
        for (index, (unit, ms)) in UNITS.iter().enumerate() {
            // Years and weeks only where nothing remains: 90d reads better than 12w6d.
            if index < 2 && rest % ms != 0 {
                continue;
            }
            if rest / ms > 0 {
                write!(f, "{}{unit}", rest / ms)?;
                rest %= ms;
            }
        }
        Ok(())
    }
}

impl FromYaml for PromDuration {
    fn type_name() -> String {
        "model.Duration".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<PromDuration, Error> {
        PromDuration::parse(&String::from_yaml(node)?)
    }
}

/// A number of bytes, written `512MB`; all units are powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

const SIZES: [(&str, u32); 7] =
    [("EiB", 60), ("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];

impl ByteSize {
    /// Reads `1GB512MB`, `10MiB`, `0`.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the text.
    pub fn parse(text: &str) -> Result<ByteSize, Error> {
        if text == "0" {
            return Ok(ByteSize(0));
        }
        let invalid = |what: &str| Error::Invalid(format!("units: {what} {text}"));
        if text.is_empty() {
            return Err(invalid("invalid"));
        }
        let mut rest = text;
        let mut total = 0.0;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
            let count: f64 = rest[..digits].parse().map_err(|_| invalid("invalid"))?;
            rest = &rest[digits..];
            let letters = rest.bytes().take_while(|b| !b.is_ascii_digit() && *b != b'.').count();
            let (unit, tail) = rest.split_at(letters);
            rest = tail;
            if unit.is_empty() {
                return Err(invalid("unknown unit  in"));
            }
            let shift = SIZES.iter().find(|(name, _)| *name == unit || name.replace('i', "") == unit);
            let Some((_, shift)) = shift else {
                return Err(Error::Invalid(format!("units: unknown unit {unit} in {text}")));
            };
            total += count * (1u64 << shift) as f64;
        }
        if total >= u64::MAX as f64 {
            return Err(invalid("invalid"));
        }
        Ok(ByteSize(total as u64))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        if rest == 0 {
            return f.write_str("0B");
        }
        for (unit, shift) in SIZES {
            let count = rest >> shift;
            if count > 0 {
                write!(f, "{count}{unit}")?;
                rest -= count << shift;
            }
        }
        Ok(())
    }
}

impl FromYaml for ByteSize {
    fn type_name() -> String {
        "units.Base2Bytes".to_owned()
    }

    fn from_yaml(node: &Node) -> Result<ByteSize, Error> {
        match node.text() {
            Some(text) => ByteSize::parse(text),
            None => Err(node.type_error("units.Base2Bytes")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_prometheus_reads_and_writes_them() {
        for (text, ms, back) in [
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("15s", 15_000, "15s"),
            ("90s", 90_000, "1m30s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("324ms", 324, "324ms"),
            ("90d", 90 * 86_400_000, "90d"),
            ("14d", 14 * 86_400_000, "2w"),
            ("1y1d", 366 * 86_400_000, "366d"),
        ] {
            let duration = PromDuration::parse(text).unwrap();
            assert_eq!((duration.ms(), duration.to_string().as_str()), (ms, back), "{text}");
        }
        for (text, message) in [
            ("", "empty duration string"),
            ("1", "not a valid duration string: \"1\""),
            ("1m1h", "not a valid duration string: \"1m1h\""),
            ("-1w", "not a valid duration string: \"-1w\""),
            ("1.5d", "unknown unit \".\" in duration \"1.5d\""),
            ("1q", "unknown unit \"q\" in duration \"1q\""),
            ("294y", "duration out of range"),
        ] {
            assert_eq!(PromDuration::parse(text).unwrap_err().to_string(), message, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes, back) in [
            ("512MB", 512 << 20, "512MiB"),
            ("1GiB", 1 << 30, "1GiB"),
            ("1536KB", 1536 << 10, "1MiB512KiB"),
            ("0", 0, "0B"),
        ] {
            let size = ByteSize::parse(text).unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, back));
        }
        assert!(ByteSize::parse("10").is_err());
        assert!(ByteSize::parse("10XB").is_err());
    }
}
