//! A kill, and each kind of error, at file-system calls of a scripted life: nothing acknowledged is lost.
//!
//! `PILASTER_SYSCALLS` sets at how many calls (12 without it); `all` for every one.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::ledger::{client, now_ms};
use crate::life::{before, check_after, live};
use crate::server::{SNAPSHOTS, Server, Setup};
use crate::torn::copy;
use crate::trap::{Call, Verdict, spawn};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Kill,
    /// Once.
    Error(i32),
    /// From there on, ten times.
    Errors(i32),
    /// Half of a write, and then no room for the rest.
    Torn,
}

const FAULTS: [Fault; 6] = [
    Fault::Kill,
    Fault::Error(libc::EIO),
    Fault::Torn,
    Fault::Error(libc::ENOSPC),
    Fault::Errors(libc::ENOSPC),
    Fault::Errors(libc::EROFS),
];

/// A server whose calls are numbered, and `fault` comes at number `at`.
fn start(
    dir: &std::path::Path,
    at: usize,
    fault: Option<Fault>,
) -> (Server, std::thread::JoinHandle<Vec<Call>>, Arc<AtomicUsize>) {
    let mut watcher = None;
    let hits = Arc::new(AtomicUsize::new(0));
    let setup = Setup { flags: &[SNAPSHOTS], ..Setup::default() };
    let server = Server::spawn(dir, &setup, |command| {
        let (hits, mut number, mut torn) = (hits.clone(), 0, None::<PathBuf>);
        let (child, thread) = spawn(command, &dir.join("data"), move |call: &Call| {
            number += 1;
            if torn.as_ref() == Some(&call.path) && call.name == "write" {
                torn = None;
                return Verdict::Fail(libc::ENOSPC);
            }
            let now = number - 1 == at;
            let verdict = match fault {
                Some(Fault::Kill) if now => Verdict::Kill,
                Some(Fault::Error(error)) if now => Verdict::Fail(error),
                Some(Fault::Errors(error)) if (at..at + 10).contains(&(number - 1)) => Verdict::Fail(error),
                Some(Fault::Torn) if now && call.name == "write" => {
                    torn = Some(call.path.clone());
                    Verdict::Half
                }
                Some(Fault::Torn) if now => Verdict::Fail(libc::EIO),
                Some(_) | None => Verdict::Pass,
            };
            hits.fetch_add(usize::from(verdict != Verdict::Pass), Ordering::Relaxed);
            verdict
        });
        watcher = Some(thread);
        child
    });
    (server, watcher.unwrap(), hits)
}

/// A file is not written to again after a sync of it has failed, unless it is made anew or cut to what is known.
fn nothing_follows_a_failed_sync(calls: &[Call], at: usize, fault: Fault) -> Result<(), String> {
    let Some(failed) = calls.get(at).filter(|call| fault == Fault::Error(libc::EIO) && call.name == "fdatasync") else {
        return Ok(());
    };
    match calls[at + 1..].iter().find(|call| call.path == failed.path) {
        Some(call) if !["open", "unlink", "ftruncate"].contains(&call.name) => {
            Err(format!("{call:?} after a failed sync"))
        }
        Some(_) | None => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_file_system_call_may_fail_or_be_the_last() {
    let client = client();
    let start_ms = now_ms() / 86_400_000 * 86_400_000 - 5 * 86_400_000;
    let built = tempfile::tempdir().unwrap();
    let ledger_before = before(&client, built.path(), start_ms).await;
    let life = async |at: usize, fault: Option<Fault>| {
        let dir = tempfile::tempdir().unwrap();
        copy(built.path(), dir.path());
        let mut ledger = ledger_before.clone();
        let (mut server, watcher, hits) = start(dir.path(), at, fault);
        let done = live(&client, &mut server, &mut ledger, start_ms).await;
        let log = server.log();
        if done.is_some() {
            server.terminate();
        } else {
            server.kill();
        }
        drop(server);
        let calls = watcher.join().unwrap();
        let what = format!("{fault:?} at call {at}, {:?}", calls.get(at));
        assert!(!log.contains("panicked"), "{what}: {log}");
        assert!(done.is_some() || fault.is_some(), "the life ends without a fault: {log}");
        if let Some(fault) = fault {
            nothing_follows_a_failed_sync(&calls, at, fault).unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        check_after(&client, dir.path(), &ledger, start_ms, &what).await;
        (calls, hits.load(Ordering::Relaxed), done.is_some())
    };
    let (calls, ..) = life(0, None).await;
    for name in ["open", "write", "fdatasync", "fsync", "rename", "unlink"] {
        assert!(calls.iter().any(|call| call.name == name), "no {name} in {} calls", calls.len());
    }
    let chosen: Vec<(usize, Fault)> = match std::env::var("PILASTER_SYSCALLS").as_deref() {
        Ok("all") => (0..calls.len()).flat_map(|at| FAULTS.map(|fault| (at, fault))).collect(),
        text => {
            let count: usize = text.ok().and_then(|text| text.parse().ok()).unwrap_or(12);
            (0..count).map(|number| (number * calls.len() / count, FAULTS[number % FAULTS.len()])).collect()
        }
    };
    let (mut hit, mut survived) = (0, 0);
    for (number, (at, fault)) in chosen.iter().enumerate() {
        let (_, hits, done) = life(*at, Some(*fault)).await;
        hit += usize::from(hits > 0);
        survived += usize::from(done);
        if number % 100 == 99 {
            println!("{} of {} faults", number + 1, chosen.len());
        }
    }
    println!(
        "a life of {} file-system calls, {} faults, {hit} of them met; {survived} lives went on to their end",
        calls.len(),
        chosen.len()
    );
}
