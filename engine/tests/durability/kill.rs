//! A real server killed with SIGKILL under remote write and scraping, again and again, some times while it recovers:
//! whatever it acknowledged is there, once.
//!
//! `PILASTER_KILLS` sets the number of kills (25 without it).

use std::time::Duration;

use crate::ledger::{client, number};
use crate::load::Load;
use crate::server::{Server, Setup, free_port};
use crate::target::Target;

const TARGETS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    let kills = number("PILASTER_KILLS", 25);
    let dir = tempfile::tempdir().unwrap();
    let (port, client) = (free_port(), client());
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
    let mut server = Server::start_with(dir.path(), port, &setup);
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
        server = Server::start_with(dir.path(), port, &setup);
        if round % 100 == 99 {
            server.wait_ready(&client).await;
            load.check(&client, &server).await;
            println!("{} kills, {} acknowledged samples", round + 1, load.acknowledged());
        }
    }
    server.wait_ready(&client).await;
    assert!(load.acknowledged() > 0, "no write was ever acknowledged");
    load.check(&client, &server).await;
    let mut scraped = 0;
    for (index, target) in targets.iter().enumerate() {
        let there = scraped_values(&client, &server.url, index).await;
        assert!(there.is_sorted_by(|a, b| a < b), "a scraped value is there twice, or out of order");
        let stored = target.stored();
        let lost: Vec<_> = stored.iter().filter(|value| there.binary_search(value).is_err()).collect();
        assert!(lost.is_empty(), "lost of {} scrapes: {lost:?}", stored.len());
        assert!(there.last().is_none_or(|value| *value < target.scrapes()), "never shown");
        scraped += stored.len();
    }
    assert!(scraped > 0, "no scrape was ever stored");
    println!(
        "{kills} kills, {during_recovery} of them during recovery; {} acknowledged samples and {scraped} scrapes, all there",
        load.acknowledged()
    );
}

async fn scraped_values(client: &reqwest::Client, url: &str, target: usize) -> Vec<u64> {
    let query = format!("scrape_test{{job=\"target{target}\"}}[1d]");
    let sent = client.get(format!("{url}/api/v1/query")).query(&[("query", query.as_str())]).send().await.unwrap();
    let answer: serde_json::Value = sent.json().await.unwrap();
    assert_eq!(answer["status"], "success", "{answer}");
    let values = answer["data"]["result"][0]["values"].as_array().cloned().unwrap_or_default();
    let numbers = values.iter().map(|pair| pair[1].as_str().unwrap().to_owned());
    // The ends of lives leave no marker: the server had no time for one.
    numbers.filter_map(|text| text.parse().ok()).collect()
}
