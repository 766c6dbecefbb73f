//! A real server killed with SIGKILL under remote write, again and again: whatever it acknowledged is there, once.
//!
//! `PILASTER_KILLS` sets the number of kills (25 without it).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use pilaster_ingest::remote_write::{SeriesToSend, encode_v1};
use pilaster_model::Labels;

use crate::server::{Server, free_port};

const WRITERS: usize = 4;
const SERIES_PER_WRITER: usize = 25;

/// What one writer was told about its samples: every series of a request has the same timestamp and value.
#[derive(Default)]
struct Ledger {
    acknowledged: BTreeMap<i64, f64>,
    /// Sent, but the server died before it answered: may be there or not.
    unknown: BTreeMap<i64, f64>,
}

fn labels_of(writer: usize) -> Vec<Labels> {
    let label = |series: usize| {
        let (writer, series) = (writer.to_string(), series.to_string());
        Labels::from_pairs([("__name__", "kill_test"), ("series", series.as_str()), ("writer", writer.as_str())])
    };
    (0..SERIES_PER_WRITER).map(label).collect()
}

async fn write_until(
    url: String,
    client: reqwest::Client,
    writer: usize,
    mut next_ms: i64,
    ledger: &mut Ledger,
    stop: &AtomicBool,
) -> i64 {
    let labels = labels_of(writer);
    while !stop.load(Ordering::Relaxed) {
        let value = next_ms as f64 / 7.0;
        let sample = [(next_ms, value)];
        let body = encode_v1(labels.iter().map(|labels| SeriesToSend::floats(labels, &sample)));
        let body = snap::raw::Encoder::new().compress_vec(&body).unwrap();
        let request = client
            .post(format!("{url}/api/v1/write"))
            .header("Content-Type", "application/x-protobuf")
            .header("Content-Encoding", "snappy")
            .body(body);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => {
                ledger.acknowledged.insert(next_ms, value);
            }
            Ok(answer) => panic!("refused: {} {}", answer.status(), answer.text().await.unwrap_or_default()),
            Err(_) => {
                ledger.unknown.insert(next_ms, value);
                next_ms += 1;
                break;
            }
        }
        next_ms += 1;
    }
    next_ms
}

async fn compare(url: &str, client: &reqwest::Client, ledgers: &[Ledger], at_ms: i64) {
    for (writer, ledger) in ledgers.iter().enumerate() {
        let query = format!("kill_test{{writer=\"{writer}\"}}[2h]");
        let at = format!("{}", at_ms as f64 / 1000.0);
        let answer: serde_json::Value = client
            .get(format!("{url}/api/v1/query"))
            .query(&[("query", query.as_str()), ("time", at.as_str())])
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        assert_eq!(answer["status"], "success", "{answer}");
        let result = answer["data"]["result"].as_array().unwrap();
        if !ledger.acknowledged.is_empty() {
            assert_eq!(result.len(), SERIES_PER_WRITER);
        }
        for series in result {
            let points = series["values"].as_array().unwrap();
            let mut found = BTreeMap::new();
            for point in points {
                let timestamp_ms = (point[0].as_f64().unwrap() * 1000.0).round() as i64;
                let value: f64 = point[1].as_str().unwrap().parse().unwrap();
                assert!(found.insert(timestamp_ms, value).is_none(), "twice at {timestamp_ms}");
            }
            for (timestamp_ms, value) in &ledger.acknowledged {
                let stored = found.remove(timestamp_ms);
                assert_eq!(
                    stored.map(f64::to_bits),
                    Some(value.to_bits()),
                    "acknowledged at {timestamp_ms}, writer {writer}"
                );
            }
            for (timestamp_ms, value) in found {
                assert_eq!(
                    ledger.unknown.get(&timestamp_ms).map(|v| v.to_bits()),
                    Some(value.to_bits()),
                    "never sent: {timestamp_ms}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    let kills: usize = std::env::var("PILASTER_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(25);
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
    let now_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64;
    let mut ledgers: Vec<Ledger> = (0..WRITERS).map(|_| Ledger::default()).collect();
    let mut next_ms = [now_ms - 3_600_000; WRITERS];
    let mut server = Server::start(dir.path(), port);
    for round in 0..kills {
        server.wait_ready(&client).await;
        let stop = Arc::new(AtomicBool::new(false));
        let tasks: Vec<_> = ledgers
            .drain(..)
            .enumerate()
            .map(|(writer, mut ledger)| {
                let (url, client, stop, from_ms) = (server.url.clone(), client.clone(), stop.clone(), next_ms[writer]);
                tokio::spawn(async move {
                    let next_ms = write_until(url, client, writer, from_ms, &mut ledger, &stop).await;
                    (ledger, next_ms)
                })
            })
            .collect();
        // Spread over the first moments of a life, where replay, the first segment and group commit meet.
        tokio::time::sleep(Duration::from_millis(20 + (round as u64 * 37) % 250)).await;
        server.kill();
        stop.store(true, Ordering::Relaxed);
        for (writer, task) in tasks.into_iter().enumerate() {
            let (ledger, next) = task.await.unwrap();
            ledgers.push(ledger);
            next_ms[writer] = next;
        }
        server = Server::start(dir.path(), port);
    }
    server.wait_ready(&client).await;
    let acknowledged: usize = ledgers.iter().map(|ledger| ledger.acknowledged.len() * SERIES_PER_WRITER).sum();
    println!("{kills} kills, {acknowledged} acknowledged samples");
    assert!(acknowledged > 0, "no write was ever acknowledged");
    compare(&server.url, &client, &ledgers, now_ms).await;
}
