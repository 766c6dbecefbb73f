//! A full disk: writes are refused with 503, queries go on, and with room again writes work without a restart.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use pilaster_ingest::remote_write::{SeriesToSend, encode_v1};
use pilaster_model::Labels;
use reqwest::StatusCode;

use crate::server::Server;

/// A small file system of its own, unmounted at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(bytes: u64) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(SmallDisk(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

async fn write(client: &reqwest::Client, url: &str, timestamp_ms: i64, series_count: usize) -> reqwest::Response {
    let labels: Vec<Labels> = (0..series_count)
        .map(|number| Labels::from_pairs([("__name__", "disk_test"), ("number", number.to_string().as_str())]))
        .collect();
    let samples = [(timestamp_ms, timestamp_ms as f64)];
    let body = encode_v1(labels.iter().map(|labels| SeriesToSend::floats(labels, &samples)));
    let request = client
        .post(format!("{url}/api/v1/write"))
        .header("Content-Type", "application/x-protobuf")
        .header("Content-Encoding", "snappy")
        .body(snap::raw::Encoder::new().compress_vec(&body).unwrap());
    request.send().await.unwrap()
}

/// Samples of the first series, as the server counts them.
async fn stored(client: &reqwest::Client, url: &str) -> u64 {
    let query = [("query", "count_over_time(disk_test{number=\"0\"}[1d])")];
    let answer: serde_json::Value =
        client.get(format!("{url}/api/v1/query")).query(&query).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["status"], "success", "{answer}");
    answer["data"]["result"][0]["value"][1].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_and_recovers() {
    let Some(disk) = SmallDisk::mount(8 << 20) else {
        println!("skipped: this machine does not let us mount a small disk");
        return;
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
    let mut server = Server::start(disk.path());
    server.wait_ready(&client).await;
    let now_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64;
    let mut next_ms = now_ms - 3_600_000;
    let mut acknowledged = 0;
    for _ in 0..5 {
        assert_eq!(write(&client, &server.url, next_ms, 500).await.status(), StatusCode::NO_CONTENT);
        next_ms += 1000;
        acknowledged += 1;
    }
    // Takes all room that is left.
    let ballast = disk.path().join("ballast");
    let filled = std::fs::write(&ballast, vec![1u8; 16 << 20]);
    assert!(filled.is_err(), "the ballast must not fit");
    let refused = write(&client, &server.url, next_ms, 500).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"), "{:?}", refused.headers());
    assert!(stored(&client, &server.url).await >= acknowledged, "queries go on");
    std::fs::remove_file(&ballast).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    // A sender repeats what was refused.
    while write(&client, &server.url, next_ms, 500).await.status() != StatusCode::NO_CONTENT {
        assert!(Instant::now() < deadline, "writes do not work 5 s after there is room again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    acknowledged += 1;
    next_ms += 1000;
    assert_eq!(write(&client, &server.url, next_ms, 500).await.status(), StatusCode::NO_CONTENT);
    acknowledged += 1;
    assert_eq!(stored(&client, &server.url).await, acknowledged);
    server.kill();
    let mut server = Server::start(disk.path());
    server.wait_ready(&client).await;
    assert_eq!(stored(&client, &server.url).await, acknowledged, "after a kill");
}
