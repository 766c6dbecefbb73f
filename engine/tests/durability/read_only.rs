//! A disk that takes no more writes: they are refused with 503, queries go on, and when it takes them again, or is
//! mounted again, everything acknowledged is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::StatusCode;

use crate::disk::Disk;
use crate::ledger::{Ledger, client, now_ms, read};
use crate::server::{Server, Setup};
use crate::trap::{Call, Verdict, spawn};

/// Writes are refused as they should be, and queries answered.
async fn check_refusal(client: &reqwest::Client, server: &Server, ledger: &mut Ledger, timestamp_ms: i64) {
    let refused = ledger.write(client, &server.url, 0..3, timestamp_ms).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"), "{:?}", refused.headers());
    let there = read(client, &server.url, timestamp_ms, 0).await.unwrap();
    ledger.check(&there.samples).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_read_only_for_a_while_stops_writes_for_that_while() {
    let dir = tempfile::tempdir().unwrap();
    let client = client();
    let read_only = Arc::new(AtomicBool::new(false));
    let mut watcher = None;
    let mut server = Server::spawn(dir.path(), &Setup::default(), |command| {
        let read_only = read_only.clone();
        let (child, thread) = spawn(command, &dir.path().join("data"), move |call: &Call| match call.name {
            // Files can be closed and read.
            _ if !read_only.load(Ordering::Relaxed) => Verdict::Pass,
            "open" if call.path.as_os_str().is_empty() || call.path.extension().is_none() => Verdict::Pass,
            _ => Verdict::Fail(libc::EROFS),
        });
        watcher = Some(thread);
        child
    });
    server.wait_ready(&client).await;
    let (mut ledger, mut next_ms) = (Ledger::default(), now_ms() - 3_600_000);
    for _ in 0..5 {
        next_ms += 1000;
        assert!(ledger.write(&client, &server.url, 0..3, next_ms).await.unwrap().status().is_success());
    }
    read_only.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        next_ms += 1000;
        check_refusal(&client, &server, &mut ledger, next_ms).await;
    }
    read_only.store(false, Ordering::Relaxed);
    let deadline = Instant::now() + Duration::from_secs(5);
    while !ledger.write(&client, &server.url, 0..3, next_ms).await.unwrap().status().is_success() {
        assert!(Instant::now() < deadline, "writes do not work 5 s after the disk takes them\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.kill();
    drop(server);
    watcher.unwrap().join().unwrap();
    let mut server = Server::start(dir.path());
    server.wait_ready(&client).await;
    ledger.check(&read(&client, &server.url, next_ms, 0).await.unwrap().samples).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_system_that_gives_up_costs_nothing_acknowledged() {
    let Some(mut disk) = Disk::create(64 << 20) else {
        println!("skipped: this machine does not let us mount a disk of our own");
        return;
    };
    let client = client();
    let mut server = Server::start(&disk.path());
    server.wait_ready(&client).await;
    let (mut ledger, mut next_ms) = (Ledger::default(), now_ms() - 3_600_000);
    for _ in 0..5 {
        next_ms += 1000;
        assert!(ledger.write(&client, &server.url, 0..3, next_ms).await.unwrap().status().is_success());
    }
    if !disk.become_read_only() {
        println!("skipped: this machine does not let us break a file system");
        return;
    }
    for _ in 0..3 {
        next_ms += 1000;
        check_refusal(&client, &server, &mut ledger, next_ms).await;
    }
    server.kill();
    drop(server);
    disk.power_on();
    let mut server = Server::start(&disk.path());
    server.wait_ready(&client).await;
    ledger.check(&read(&client, &server.url, next_ms, 0).await.unwrap().samples).unwrap();
    next_ms += 1000;
    assert!(ledger.write(&client, &server.url, 0..3, next_ms).await.unwrap().status().is_success());
    server.terminate();
}
