//! The power of a server's disk cut under remote write: whatever was acknowledged is there, once.
//!
//! `PILASTER_POWER_CUTS` sets the number of cuts (8 without it).

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::disk::Disk;
use crate::ledger::{client, number};
use crate::load::Load;
use crate::server::{Server, Setup};

/// A server told to be content with what the operating system has, as Prometheus is: the test must notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_wait_for_the_disk_is_found_out() {
    let Some(mut disk) = Disk::create(64 << 20) else {
        println!("skipped: this machine does not let us mount a disk of our own");
        return;
    };
    let client = client();
    let mut load = Load::new(2, 10, 30_000, true);
    let setup = Setup { flags: &["--storage.tsdb.wal-sync=written"], config: "" };
    let mut server = Server::start_with(&disk.path(), &setup);
    server.wait_ready(&client).await;
    let url = server.url.clone();
    load.during(&client, &url, async |void| {
        tokio::time::sleep(Duration::from_millis(300)).await;
        void.store(true, Ordering::SeqCst);
        disk.cut_power();
        server.kill();
    })
    .await;
    drop(server);
    disk.power_on();
    let mut server = Server::start_with(&disk.path(), &setup);
    server.wait_ready(&client).await;
    let lost = load.compare(&client, &server).await;
    assert!(lost.is_err_and(|error| error.contains("lost")), "of {} samples none is lost", load.acknowledged());
    server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_loses_nothing_acknowledged() {
    let Some(mut disk) = Disk::create(512 << 20) else {
        println!("skipped: this machine does not let us mount a disk of our own");
        return;
    };
    let cuts = number("PILASTER_POWER_CUTS", 8) as u64;
    let client = client();
    // A write that comes when the power is gone fails, and is not acknowledged.
    let mut load = Load::new(4, 10, 30_000, true);
    let mut during_recovery = 0;
    for round in 0..cuts {
        let mut server = Server::start(&disk.path());
        if round % 5 == 4 {
            tokio::time::sleep(Duration::from_millis(round * 17 % 120)).await;
            disk.cut_power();
            during_recovery += 1;
        } else {
            server.wait_ready(&client).await;
            let url = server.url.clone();
            load.during(&client, &url, async |void| {
                tokio::time::sleep(Duration::from_millis(20 + round * 41 % 300)).await;
                // A real cut stops the server in the same instant. Here a sync that the cut overtakes may come back as
                // if it had worked, so only what was answered before counts.
                void.store(true, Ordering::SeqCst);
                disk.cut_power();
                tokio::time::sleep(Duration::from_millis(20)).await;
                server.kill();
            })
            .await;
        }
        server.kill();
        drop(server);
        disk.power_on();
        if round % 25 == 24 || round + 1 == cuts {
            let mut server = Server::start(&disk.path());
            server.wait_ready(&client).await;
            load.check(&client, &server).await;
            server.terminate();
            println!("{} power cuts, {} acknowledged samples", round + 1, load.acknowledged());
        }
    }
    assert!(load.acknowledged() > 0, "no write was ever acknowledged");
    println!("{cuts} power cuts, {during_recovery} of them during recovery: nothing lost");
}
