//! Request parameters: the form body and the URL's query together, and their types.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{Method, header};

use pilaster_ingest::config::PromDuration;

use super::error::ApiError;

/// Earliest and latest times of the API, in milliseconds: they must survive a division into seconds upstream.
pub const MIN_TIME_MS: i64 = (i64::MIN / 1000 + 62_135_596_801) * 1000;
/// See [`MIN_TIME_MS`].
pub const MAX_TIME_MS: i64 = (i64::MAX / 1000 - 62_135_596_801) * 1000 + 999;
const MIN_TIME_TEXT: &str = "-292273086-05-16T16:47:06Z";
const MAX_TIME_TEXT: &str = "292277025-08-18T07:12:54.999999999Z";

/// All parameters of a request, in order; those of a form body stand before those of the URL.
#[derive(Debug, Clone, Default)]
pub struct Params {
    pairs: Vec<(String, String)>,
}

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Params, ApiError> {
        let url = request.uri().query().unwrap_or_default().to_owned();
        let form = request.method() != Method::GET
            && request
                .headers()
                .get(header::CONTENT_TYPE)
                .and_then(|value| value.to_str().ok())
                .is_some_and(|value| value.split(';').next().unwrap_or_default().trim() == FORM);
        let mut params = Params::default();
        if form {
            let body = Bytes::from_request(request, state)
                .await
                .map_err(|error| ApiError::bad_data(format!("error parsing form values: {error}")))?;
            params.extend(&body);
        }
        params.extend(url.as_bytes());
        Ok(params)
    }
}

const FORM: &str = "application/x-www-form-urlencoded";

impl Params {
    /// The parameters of a URL's query.
    pub fn of_query(query: &str) -> Params {
        let mut params = Params::default();
        params.extend(query.as_bytes());
        params
    }

    fn extend(&mut self, encoded: &[u8]) {
        // Go drops a pair that has a semicolon or a wrong escape in it.
        for pair in encoded.split(|byte| *byte == b'&').filter(|pair| is_well_formed(pair)) {
            let pairs = form_urlencoded::parse(pair);
            self.pairs.extend(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())));
        }
    }

    /// The first value of `name`, empty where there is none.
    pub fn get(&self, name: &str) -> &str {
        self.pairs.iter().find(|(have, _)| have == name).map_or("", |(_, value)| value)
    }

    /// All values of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// A required time in milliseconds.
    ///
    /// # Errors
    /// No time, or none that can be read.
    pub fn time(&self, name: &str) -> Result<i64, ApiError> {
        parse_time(self.get(name)).map_err(|reason| ApiError::parameter(name, reason))
    }

    /// An optional time in milliseconds.
    ///
    /// # Errors
    /// A value that is no time.
    pub fn time_or(&self, name: &str, default_ms: i64) -> Result<i64, ApiError> {
        match self.get(name) {
            "" => Ok(default_ms),
            text => parse_time(text)
                .map_err(|reason| ApiError::parameter(name, format!("invalid time value for '{name}': {reason}"))),
        }
    }

    /// A required duration in nanoseconds.
    ///
    /// # Errors
    /// No duration, or none that can be read.
    pub fn duration_ns(&self, name: &str) -> Result<i64, ApiError> {
        parse_duration_ns(self.get(name)).map_err(|reason| ApiError::parameter(name, reason))
    }

    /// `limit`: `None` where there is no limit.
    ///
    /// # Errors
    /// Negative numbers and other text.
    pub fn limit(&self) -> Result<Option<usize>, ApiError> {
        let text = self.get("limit");
        if text.is_empty() {
            return Ok(None);
        }
        match parse_integer(text).map_err(|reason| ApiError::parameter("limit", reason))? {
            0 => Ok(None),
            limit if limit < 0 => Err(ApiError::parameter("limit", "limit must be non-negative")),
            limit => Ok(Some(usize::try_from(limit).unwrap_or(usize::MAX))),
        }
    }
}

fn is_well_formed(pair: &[u8]) -> bool {
    let mut escapes = pair.split(|byte| *byte == b'%').skip(1);
    !pair.contains(&b';')
        && escapes.all(|rest| rest.get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)))
}

/// A whole number; errors are worded as Go words them.
pub fn parse_integer(text: &str) -> Result<i64, String> {
    text.parse::<i64>().map_err(|error| {
        let reason = match error.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.Atoi: parsing {text:?}: {reason}")
    })
}

/// Milliseconds of a time: Unix seconds with decimals, or RFC 3339.
///
/// The decimals are rounded by themselves, so that 1.0005 is 1.000: its fraction lies just below a half.
///
/// # Errors
/// Text that is neither. Infinities, NaN and seconds beyond 64 bits of milliseconds are refused, too; Prometheus takes
/// them for whatever time they wrap around to.
pub fn parse_time(text: &str) -> Result<i64, String> {
    let refused = || format!("cannot parse {text:?} to a valid timestamp");
    if let Some(seconds) = parse_float(text) {
        let whole_ms = seconds.trunc() * 1000.0;
        return if whole_ms.abs() < 9.2e18 {
            Ok(whole_ms as i64 + (seconds.fract() * 1000.0).round() as i64)
        } else {
            Err(refused())
        };
    }
    if let Ok(time) = chrono::DateTime::parse_from_rfc3339(text) {
        return Ok(time.timestamp_millis());
    }
    match text {
        MIN_TIME_TEXT => Ok(MIN_TIME_MS),
        MAX_TIME_TEXT => Ok(MAX_TIME_MS),
        _ => Err(refused()),
    }
}

/// Nanoseconds of a duration: seconds with decimals, or `1m30s`.
///
/// # Errors
/// Text that is neither, and durations beyond 292 years.
pub fn parse_duration_ns(text: &str) -> Result<i64, String> {
    if let Some(seconds) = parse_float(text) {
        let nanoseconds = seconds * 1e9;
        return if nanoseconds.is_nan() {
            // What Go's conversion gives: no duration that anything accepts.
            Ok(i64::MIN)
        } else if nanoseconds.abs() > i64::MAX as f64 {
            Err(format!("cannot parse {text:?} to a valid duration. It overflows int64"))
        } else {
            Ok(nanoseconds as i64)
        };
    }
    PromDuration::parse(text)
        .map(|duration| duration.ms().saturating_mul(1_000_000))
        .map_err(|_| format!("cannot parse {text:?} to a valid duration"))
}

/// A float as Go reads it, in decimal.
fn parse_float(text: &str) -> Option<f64> {
    let bytes = text.as_bytes();
    let digit = |index: usize| bytes.get(index).is_some_and(u8::is_ascii_digit);
    let separates = |index: usize| index > 0 && digit(index - 1) && digit(index + 1);
    if bytes.iter().enumerate().any(|(index, byte)| *byte == b'_' && !separates(index)) {
        return None;
    }
    text.replace('_', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_durations() {
        for (text, expected) in [
            ("1.5", Ok(1500)),
            ("1.0005", Ok(1000)),
            ("-1.25", Ok(-1250)),
            ("1_000", Ok(1_000_000)),
            ("1__0", Err("cannot parse \"1__0\" to a valid timestamp".to_owned())),
            ("1435781451.781", Ok(1_435_781_451_781)),
            ("2015-07-01T20:10:51.781Z", Ok(1_435_781_451_781)),
            ("2015-06-03T13:21:58.555+00:30", Ok(1_433_335_918_555)),
            ("-292273086-05-16T16:47:06Z", Ok(MIN_TIME_MS)),
            ("292277025-08-18T07:12:54.999999999Z", Ok(MAX_TIME_MS)),
            ("x", Err("cannot parse \"x\" to a valid timestamp".to_owned())),
            ("inf", Err("cannot parse \"inf\" to a valid timestamp".to_owned())),
        ] {
            assert_eq!(parse_time(text), expected, "{text}");
        }
        for (text, expected) in [
            ("0.25", Ok(250_000_000)),
            ("0.0015", Ok(1_500_000)),
            ("1h30m", Ok(5_400_000_000_000)),
            ("-1", Ok(-1_000_000_000)),
            ("NaN", Ok(i64::MIN)),
            ("", Err("cannot parse \"\" to a valid duration".to_owned())),
            ("1e10", Err("cannot parse \"1e10\" to a valid duration. It overflows int64".to_owned())),
        ] {
            assert_eq!(parse_duration_ns(text), expected, "{text}");
        }
    }

    #[test]
    fn limits_and_repeated_parameters() {
        let params = Params::of_query("match[]=a&limit=3&match%5B%5D=b+c&time=");
        assert_eq!(params.all("match[]").collect::<Vec<_>>(), ["a", "b c"]);
        assert_eq!(params.limit(), Ok(Some(3)));
        assert_eq!(params.time_or("time", 7), Ok(7));
        let params = Params::of_query("a=1;b=2&c=%zz&d=%2&%=1&e=%41;&f=%41");
        assert_eq!(["a", "c", "d", "%", "e", "f"].map(|name| params.get(name)), ["", "", "", "", "", "A"]);
        let refused = |text: &str| Params::of_query(text).limit().unwrap_err().message;
        assert_eq!(refused("limit=-1"), "invalid parameter \"limit\": limit must be non-negative");
        assert_eq!(refused("limit=x"), "invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax");
    }
}
