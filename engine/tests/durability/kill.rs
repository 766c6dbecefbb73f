//! A real server killed with SIGKILL under remote write and scraping, again and again, some times while it recovers:
//! whatever it acknowledged is there, once.
//!
//! `PILASTER_KILLS` sets the number of kills (25 without it).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ledger::{client, number};
use crate::load::Load;
use crate::server::{SNAPSHOTS, Server, Setup};
use crate::target::Target;

const TARGETS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    let kills = number("PILASTER_KILLS", 25);
    let dir = tempfile::tempdir().unwrap();
    let client = client();
    let mut targets = Vec::new();
    // What is written goes through weeks, what is scraped is of now: together they are out of order.
    let mut config = "storage:\n  tsdb:\n    out_of_order_time_window: 400d\nscrape_configs:\n".to_owned();
    for index in 0..TARGETS {
        let target = Target::start().await;
        config += &format!(
            "  - job_name: target{index}\n    scrape_interval: 20ms\n    scrape_timeout: 20ms\n    static_configs: \
             [{{targets: [\"127.0.0.1:{}\"]}}]\n",
            target.port
        );
        targets.push(target);
    }
    let setup = Setup { config: &config, flags: &[] };
    let mut load = Load::new(4, 25, 10_000, false);
    let mut during_recovery = 0;
    let mut server = Server::start_with(dir.path(), &setup);
    for round in 0..kills as u64 {
        if round % 5 == 4 {
            // Before it is ready, or about when it is.
            tokio::time::sleep(Duration::from_millis(round * 13 % 120)).await;
            during_recovery += 1;
        } else {
            server.wait_ready(&client).await;
            // Spread over the first moments of a life, where replay, flush, compaction and the first segment meet.
            let moment = tokio::time::sleep(Duration::from_millis(20 + round * 37 % 250));
            let url = server.url.clone();
            load.during(&client, &url, async |_| {
                moment.await;
                server.kill();
            })
            .await;
        }
        server.kill();
        server = Server::start_with(dir.path(), &setup);
        if round % 100 == 99 {
            server.wait_ready(&client).await;
            load.check(&client, &server).await;
            println!("{} kills, {} acknowledged samples", round + 1, load.acknowledged());
        }
    }
    server.wait_ready(&client).await;
    assert!(load.acknowledged() > 0, "no write was ever acknowledged");
    load.check(&client, &server).await;
    let (mut scraped, mut failed) = (0, 0);
    for (index, target) in targets.iter().enumerate() {
        // Scrapes go on: what is reported here is there a moment later.
        let up = read(&client, &server.url, &format!("up{{job=\"target{index}\"}}")).await;
        let there = read(&client, &server.url, &format!("scrape_test{{job=\"target{index}\"}}")).await;
        let values: Vec<u64> = there.values().filter_map(|text| text.parse().ok()).collect();
        assert!(values.is_sorted_by(|a, b| a < b), "a scraped value is there twice, or out of order");
        assert!(values.last().is_none_or(|value| *value < target.scrapes()), "never shown");
        // What a scrape brought and its report are one write: none is there without the other.
        for (timestamp_ms, text) in &up {
            assert_eq!(text == "1", there.contains_key(timestamp_ms), "half of a scrape at {timestamp_ms}");
        }
        // An answer that came too late for its scrape was shown and not stored, which the report says.
        let late = up.values().filter(|text| *text == "0").count();
        let stored = target.stored();
        let lost: Vec<_> = stored.iter().filter(|value| values.binary_search(value).is_err()).collect();
        assert!(lost.len() <= late, "lost of {} scrapes, {late} of them late: {lost:?}", stored.len());
        scraped += stored.len() - lost.len();
        failed += late;
    }
    assert!(scraped > 0, "no scrape was ever stored");
    println!(
        "{kills} kills, {during_recovery} of them during recovery; {} acknowledged samples and {scraped} scrapes, all there \
         ({failed} scrapes were too late)",
        load.acknowledged()
    );
}

/// The samples of one series today, as texts by their times.
async fn read(client: &reqwest::Client, url: &str, series: &str) -> BTreeMap<i64, String> {
    let query = format!("{series}[1d]");
    let sent = client.get(format!("{url}/api/v1/query")).query(&[("query", query.as_str())]).send().await.unwrap();
    let answer: serde_json::Value = sent.json().await.unwrap();
    assert_eq!(answer["status"], "success", "{answer}");
    let pairs = answer["data"]["result"][0]["values"].as_array().cloned().unwrap_or_default();
    let time = |pair: &serde_json::Value| (pair[0].as_f64().unwrap() * 1000.0).round() as i64;
    pairs.iter().map(|pair| (time(pair), pair[1].as_str().unwrap().to_owned())).collect()
}

/// Ended and killed in turn while writes go on, with a head snapshot at every end and soon after every start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_from_head_snapshots_have_all_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let client = client();
    let config = "storage:\n  tsdb:\n    out_of_order_time_window: 400d\n";
    let setup = Setup { config, flags: &[SNAPSHOTS] };
    // Who is told to end may refuse.
    let mut load = Load::new(4, 25, 10_000, true);
    let mut from_snapshots = 0;
    let mut server = Server::start_with(dir.path(), &setup);
    for round in 0..12u64 {
        server.wait_ready(&client).await;
        from_snapshots += u64::from(!server.log().contains(" restored_samples=0 "));
        load.check(&client, &server).await;
        let url = server.url.clone();
        load.during(&client, &url, async |_| {
            tokio::time::sleep(Duration::from_millis(100 + round * 37 % 250)).await;
            if round % 2 == 0 {
                assert!(server.terminate().success(), "{}", server.log());
            } else {
                server.kill();
            }
        })
        .await;
        server = Server::start_with(dir.path(), &setup);
    }
    server.wait_ready(&client).await;
    load.check(&client, &server).await;
    assert!(from_snapshots >= 6, "{from_snapshots} of 12");
}
