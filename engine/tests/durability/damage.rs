//! Flipped bits, one at a time, anywhere in a data directory: what was acknowledged is served, or the server says which
//! file is damaged; what is served is never wrong.
//!
//! `PILASTER_FLIPS` sets the number of bits (24 without it).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::ledger::{Ledger, client, now_ms, number, read};
use crate::server::Server;
use crate::torn::copy;

const HOUR_MS: i64 = 3_600_000;

/// All files below a directory, with their lengths.
fn files(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push((entry.path(), entry.metadata().unwrap().len()));
        }
    }
    found.sort();
    found
}

/// A directory with several blocks, a log, a manifest, and all that belongs to them.
async fn build(client: &reqwest::Client, end_ms: i64) -> (tempfile::TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::default();
    for life in 0..2 {
        let mut server = Server::start(dir.path());
        server.wait_ready(client).await;
        // What the life before left is flushed first.
        let deadline = Instant::now() + Duration::from_secs(30);
        while life > 0 && metrics(client, &server.url).await.contains("prometheus_tsdb_head_truncations_total 0") {
            assert!(Instant::now() < deadline, "nothing is flushed\n{}", server.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for step in 0..20 {
            let timestamp_ms = end_ms - (20 - step) * HOUR_MS / 2 - (1 - life) * 10 * HOUR_MS;
            assert!(ledger.write(client, &server.url, 0..6, timestamp_ms).await.unwrap().status().is_success());
        }
        server.terminate();
    }
    (dir, ledger)
}

/// At how many of its times the ledger is served in full.
async fn served_times(client: &reqwest::Client, url: &str, ledger: &Ledger) -> usize {
    let times: BTreeSet<i64> = ledger.acknowledged.keys().map(|key| key.1).collect();
    let mut served = 0;
    for timestamp_ms in times {
        let at = format!("{}", timestamp_ms as f64 / 1000.0);
        let query = [("query", "count(ledger_test)"), ("time", at.as_str())];
        let answer = client.get(format!("{url}/api/v1/query")).query(&query).send().await.unwrap();
        served += usize::from(answer.text().await.unwrap().contains(",\"6\"]"));
    }
    served
}

pub async fn metrics(client: &reqwest::Client, url: &str) -> String {
    client.get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_is_recovered_or_reported() {
    let flips = number("PILASTER_FLIPS", 24) as u64;
    let client = client();
    let end_ms = now_ms() - HOUR_MS;
    let (built, ledger) = build(&client, end_ms).await;
    let all = files(&built.path().join("data"));
    let has = |part: &str| all.iter().any(|(path, _)| path.to_string_lossy().contains(part));
    assert!(has(".parquet") && has(".index") && has("manifest") && has(".wal"), "{all:?}");
    let (mut harmless, mut served_in_part) = (0, 0);
    for flip in 0..flips {
        let with_bytes: Vec<_> = all.iter().filter(|(_, bytes)| *bytes > 0).collect();
        let (path, bytes) = with_bytes[flip as usize % with_bytes.len()];
        let (byte, bit) = ((flip * 2_654_435_761 + flip / 7) % bytes, flip % 8);
        let name = path.strip_prefix(built.path()).unwrap();
        let what = format!("bit {bit} of byte {byte} of {}", name.display());
        let dir = tempfile::tempdir().unwrap();
        copy(built.path(), dir.path());
        let mut content = std::fs::read(dir.path().join(name)).unwrap();
        content[byte as usize] ^= 1 << bit;
        std::fs::write(dir.path().join(name), content).unwrap();
        let mut server = Server::start(dir.path());
        let file_name = name.file_name().unwrap().to_string_lossy().into_owned();
        server.wait_ready(&client).await;
        if name.ends_with("manifest.jsonl") {
            let log = server.log();
            assert!(log.contains("made again from the blocks"), "{what}: {log}");
        }
        let there = read(&client, &server.url, end_ms, 1).await;
        let log = server.log();
        assert!(!log.contains("panicked"), "{what}: {log}");
        match there {
            Err(error) => {
                assert!(error.contains(&file_name), "{what}: {error}");
                let served = served_times(&client, &server.url, &ledger).await;
                assert!(served > 0, "{what}: nothing is served");
                served_in_part += 1;
            }
            Ok(there) => {
                ledger.check_not_invented(&there.samples).unwrap_or_else(|error| panic!("{what}: {error}"));
                if there.samples == ledger.acknowledged {
                    harmless += 1;
                    continue;
                }
                let torn = log.contains("ends within a record") && log.contains(&file_name);
                let lost = log.contains("can no longer be read") && log.contains(&file_name);
                let aside = log.contains("set aside") && !there.warnings.is_empty();
                assert!(torn || lost || aside, "{what}: samples are missing and nobody says so\n{log}");
                assert!(!there.samples.is_empty(), "{what}");
                served_in_part += 1;
            }
        }
    }
    println!("{flips} bits: {harmless} without effect, {served_in_part} reported and the rest served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_is_gone_is_set_aside_and_answers_say_so() {
    let client = client();
    let end_ms = now_ms() - HOUR_MS;
    let (dir, ledger) = build(&client, end_ms).await;
    let all = files(&dir.path().join("data/samples"));
    let blocks: Vec<_> = all.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "parquet")).collect();
    std::fs::write(&blocks[0].0, b"not what was written").unwrap();
    let mut server = Server::start(dir.path());
    server.wait_ready(&client).await;
    let log = server.log();
    assert!(log.contains("set aside"), "{log}");
    assert!(metrics(&client, &server.url).await.contains("pilaster_blocks_set_aside 1"));
    let there = read(&client, &server.url, end_ms, 1).await.unwrap();
    assert!(there.warnings.iter().any(|warning| warning.contains("set aside")), "{:?}", there.warnings);
    ledger.check_not_invented(&there.samples).unwrap();
    assert!(!there.samples.is_empty() && there.samples.len() < ledger.acknowledged.len());
    // Where nothing is missing nobody is warned.
    let query = [("query", "vector(1)")];
    let sent = client.get(format!("{}/api/v1/query", server.url)).query(&query).send().await.unwrap();
    assert!(!sent.text().await.unwrap().contains("warnings"));
    // SQL has no warnings, so it refuses.
    let sql = client.post(format!("{}/api/v1/sql", server.url)).body("select count(*) from ledger_test");
    let answer = sql.send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(!status.is_success() && text.contains("set aside"), "{status} {text}");
}
