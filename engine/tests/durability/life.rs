//! A short life of a server that touches every kind of file: start, flush, compaction, writes, a deletion, its
//! cleaning, a snapshot, the end. Its fault may be one that the test puts in.

use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::StatusCode;

use crate::damage::metrics;
use crate::ledger::{Ledger, post, read};
use crate::server::Server;

const HOUR_MS: i64 = 3_600_000;
/// From the first sample to the last.
const HOURS: i64 = 24;
const SERIES: std::ops::Range<u32> = 0..4;

/// How the life before ended up: a directory whose log is ready to be flushed and merged.
pub async fn before(client: &reqwest::Client, dir: &Path, start_ms: i64) -> Ledger {
    let mut ledger = Ledger::default();
    let mut server = Server::start(dir);
    server.wait_ready(client).await;
    for half in 0..2 * (HOURS - 4) {
        let timestamp_ms = start_ms + half * HOUR_MS / 2;
        assert!(ledger.write(client, &server.url, SERIES, timestamp_ms).await.unwrap().status().is_success());
    }
    server.terminate();
    ledger
}

/// Lives the life, as far as it goes. `faulty` servers may refuse what they are asked with a server error; what is
/// refused is asked again, and must be granted soon.
pub async fn live(client: &reqwest::Client, server: &mut Server, ledger: &mut Ledger, start_ms: i64) -> Option<()> {
    server.ready_or_ended(client).await.ok()?;
    let url = server.url.clone();
    // The first upkeep begins at once, and ends early where something fails.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = client.get(format!("{url}/metrics")).send().await.ok()?;
        let text = answer.text().await.ok()?;
        let is_over = |of: &str| text.contains(&format!("pilaster_storage_maintenance_{of} 1"));
        if is_over("seconds_count{kind=\"blocks\"}") || is_over("failures_total") {
            break;
        }
        assert!(Instant::now() < deadline, "no upkeep\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for half in 2 * (HOURS - 4)..2 * (HOURS - 1) {
        patiently(server, async || {
            ledger.write(client, &url, SERIES, start_ms + half * HOUR_MS / 2).await.map(|answer| answer.status())
        })
        .await?;
        if half == 2 * HOURS - 5 {
            let (from_ms, to_ms) = (start_ms + HOUR_MS, start_ms + 30 * HOUR_MS);
            let seconds = |ms: i64| format!("{}", ms as f64 / 1000.0);
            let (start, end) = (seconds(from_ms), seconds(to_ms));
            let fields = [("match[]", "ledger_test{series=\"2\"}"), ("start", &start), ("end", &end)];
            // From here on nobody knows, until the answer is there.
            ledger.delete(2, from_ms, to_ms, false);
            let at = format!("{url}/api/v1/admin/tsdb/delete_series");
            patiently(server, async || post(client, &at, &fields).await.map(|(status, _)| status)).await?;
            ledger.delete(2, from_ms, to_ms, true);
            let at = format!("{url}/api/v1/admin/tsdb/clean_tombstones");
            patiently(server, async || post(client, &at, &[]).await.map(|(status, _)| status)).await?;
        }
    }
    // Older servers have no snapshots.
    let at = format!("{url}/api/v1/admin/tsdb/snapshot");
    let (status, text) = post(client, &at, &[]).await?;
    assert!(status.is_success() || status.is_server_error(), "{status} {text}");
    assert!(metrics(client, &url).await.contains("prometheus_tsdb_head_series"));
    Some(())
}

/// Asks until the server grants it; `None` where the server is gone.
async fn patiently(server: &Server, mut ask: impl AsyncFnMut() -> Option<StatusCode>) -> Option<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let status = ask().await?;
        if status.is_success() {
            return Some(());
        }
        assert!(status.is_server_error(), "{status}\n{}", server.log());
        assert!(Instant::now() < deadline, "still refused: {status}\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Starts the server once more, without faults, and compares.
pub async fn check_after(client: &reqwest::Client, dir: &Path, ledger: &Ledger, start_ms: i64, what: &str) {
    // Twice: recovery itself must leave things in order.
    for _ in 0..2 {
        let mut server = Server::start(dir);
        server.wait_ready(client).await;
        let there = read(client, &server.url, start_ms + HOURS * HOUR_MS, 1).await;
        let there = there.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(there.warnings.is_empty(), "{what}: {:?}", there.warnings);
        ledger.check(&there.samples).unwrap_or_else(|error| panic!("{what}: {error}\n{}", server.log()));
        let log = server.log();
        assert!(!log.contains("can no longer be read") && !log.contains("panicked"), "{what}: {log}");
        server.terminate();
    }
}
