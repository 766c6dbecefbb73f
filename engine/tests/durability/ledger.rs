//! What a server was told, what it promised, and whether it is all there.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use pilaster_ingest::remote_write::{SeriesToSend, encode_v1};
use pilaster_model::Labels;
use reqwest::StatusCode;
use serde_json::Value;

pub const METRIC: &str = "ledger_test";
const DAY_MS: i64 = 86_400_000;

/// Series and timestamp to the bits of the value.
pub type Samples = BTreeMap<(u32, i64), u64>;

/// Samples that were sent, and those of them that were acknowledged. A value follows from series and timestamp, so
/// wrong data shows.
#[derive(Debug, Default, Clone)]
pub struct Ledger {
    pub acknowledged: Samples,
    pub attempted: Samples,
}

/// What the sample of `series` at `timestamp_ms` says.
fn value(series: u32, timestamp_ms: i64) -> f64 {
    match series % 3 {
        0 => timestamp_ms as f64 / 7.0,
        1 => (timestamp_ms / 1000) as f64,
        _ => f64::from(series) + 0.25,
    }
}

fn labels(series: u32) -> Labels {
    Labels::from_pairs([("__name__", METRIC), ("series", series.to_string().as_str())])
}

pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap()
}

pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64
}

/// A number out of the environment, for longer runs.
pub fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// One remote-write request; `None` where no answer came.
pub async fn send(client: &reqwest::Client, url: &str, body: &[u8]) -> Option<reqwest::Response> {
    let request = client
        .post(format!("{url}/api/v1/write"))
        .header("Content-Type", "application/x-protobuf")
        .header("Content-Encoding", "snappy")
        .body(snap::raw::Encoder::new().compress_vec(body).unwrap());
    request.send().await.ok()
}

/// Status and body of a request without one; `None` where no answer came.
pub async fn post(client: &reqwest::Client, url: &str, fields: &[(&str, &str)]) -> Option<(StatusCode, String)> {
    let answer = client.post(url).query(fields).send().await.ok()?;
    let status = answer.status();
    Some((status, answer.text().await.ok()?))
}

impl Ledger {
    /// Sends a sample of each series at `timestamp_ms` in one request, and notes the answer.
    pub async fn write(
        &mut self,
        client: &reqwest::Client,
        url: &str,
        series: std::ops::Range<u32>,
        timestamp_ms: i64,
    ) -> Option<reqwest::Response> {
        let sets: Vec<Labels> = series.clone().map(labels).collect();
        let samples: Vec<[(i64, f64); 1]> =
            series.clone().map(|series| [(timestamp_ms, value(series, timestamp_ms))]).collect();
        let body = encode_v1(sets.iter().zip(&samples).map(|(labels, samples)| SeriesToSend::floats(labels, samples)));
        let keys = series.map(|series| ((series, timestamp_ms), value(series, timestamp_ms).to_bits()));
        self.attempted.extend(keys.clone());
        let answer = send(client, url, &body).await?;
        if answer.status().is_success() {
            self.acknowledged.extend(keys);
        }
        Some(answer)
    }

    /// Notes that samples of `series` in `[from_ms, to_ms]` were deleted; `known` where that was acknowledged.
    pub fn delete(&mut self, series: u32, from_ms: i64, to_ms: i64, known: bool) {
        let hit = |key: &(u32, i64)| key.0 == series && from_ms <= key.1 && key.1 <= to_ms;
        self.acknowledged.retain(|key, _| !hit(key));
        if known {
            self.attempted.retain(|key, _| !hit(key));
        }
    }

    /// What is wrong with `there`: a promised sample missing or changed, or a sample that nobody sent.
    pub fn check(&self, there: &Samples) -> Result<(), String> {
        for (key, bits) in &self.acknowledged {
            match there.get(key) {
                None => return Err(format!("lost: series {} at {}", key.0, key.1)),
                Some(other) if other != bits => return Err(format!("changed: series {} at {}", key.0, key.1)),
                Some(_) => {}
            }
        }
        self.check_not_invented(there)
    }

    /// Every sample of `there` was sent, as it is.
    pub fn check_not_invented(&self, there: &Samples) -> Result<(), String> {
        match there.iter().find(|(key, bits)| self.attempted.get(key) != Some(bits)) {
            Some((key, _)) => Err(format!("invented: series {} at {}", key.0, key.1)),
            None => Ok(()),
        }
    }
}

/// What a server answers about the samples of a ledger.
#[derive(Debug, Default)]
pub struct Answer {
    pub samples: Samples,
    pub warnings: Vec<String>,
}

/// All samples of the ledger's series in the day before `end_ms` and `days` before it.
///
/// # Errors
/// The server's own error, or a sample that is there twice.
pub async fn read(client: &reqwest::Client, url: &str, end_ms: i64, days: i64) -> Result<Answer, String> {
    let mut answer = Answer::default();
    // A day at a time, so that no answer is too long.
    for day in 0..=days {
        let at = format!("{}", (end_ms - day * DAY_MS) as f64 / 1000.0);
        let query = format!("{METRIC}[1d]");
        let sent = client.get(format!("{url}/api/v1/query")).query(&[("query", query.as_str()), ("time", &at)]);
        let text = sent.send().await.map_err(|error| error.to_string())?.text().await.map_err(|e| e.to_string())?;
        let value: Value = serde_json::from_str(&text).map_err(|_| text.clone())?;
        if value["status"] != "success" {
            return Err(text);
        }
        let warnings = value["warnings"].as_array().into_iter().flatten();
        answer.warnings.extend(warnings.filter_map(Value::as_str).map(str::to_owned));
        for series in value["data"]["result"].as_array().into_iter().flatten() {
            let number: u32 = series["metric"]["series"].as_str().and_then(|text| text.parse().ok()).ok_or("labels")?;
            for point in series["values"].as_array().into_iter().flatten() {
                let timestamp_ms = (point[0].as_f64().ok_or("time")? * 1000.0).round() as i64;
                let value: f64 = point[1].as_str().and_then(|text| text.parse().ok()).ok_or("value")?;
                if answer.samples.insert((number, timestamp_ms), value.to_bits()).is_some() {
                    return Err(format!("twice: series {number} at {timestamp_ms}"));
                }
            }
        }
    }
    Ok(answer)
}
