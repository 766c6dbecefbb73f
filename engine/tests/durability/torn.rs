//! The end of the log torn: cut anywhere, or followed by what is no record. Everything acknowledged before is there,
//! nothing is invented, and the server says what it drops.
//!
//! `PILASTER_TEARS` sets the number of cuts and additions (16 without it).

use std::path::{Path, PathBuf};

use crate::ledger::{Ledger, client, now_ms, number, read};
use crate::server::Server;

const WRITES: i64 = 12;
const STEP_MS: i64 = 60_000;

/// A data directory as a kill left it, and how long the last segment was after each acknowledged write.
struct Torn {
    dir: tempfile::TempDir,
    segment: PathBuf,
    ledger: Ledger,
    /// `(bytes, timestamp)`.
    ends: Vec<(u64, i64)>,
    end_ms: i64,
}

fn last_segment(dir: &Path) -> PathBuf {
    let segments = std::fs::read_dir(dir.join("data/wal")).unwrap().map(|entry| entry.unwrap().path());
    segments.filter(|path| path.extension().is_some_and(|extension| extension == "wal")).max().unwrap()
}

pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

async fn build(client: &reqwest::Client) -> Torn {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path());
    server.wait_ready(client).await;
    let (mut ledger, mut ends) = (Ledger::default(), Vec::new());
    let start_ms = now_ms() - 3_600_000;
    for write in 0..WRITES {
        let timestamp_ms = start_ms + write * STEP_MS;
        // The number of series changes, so that later records have names before them.
        let answer = ledger.write(client, &server.url, 0..3 + write as u32, timestamp_ms).await.unwrap();
        assert!(answer.status().is_success());
        let segment = last_segment(dir.path());
        ends.push((std::fs::metadata(&segment).unwrap().len(), timestamp_ms));
    }
    server.kill();
    let segment = last_segment(dir.path()).strip_prefix(dir.path()).unwrap().to_owned();
    Torn { dir, segment, ledger, ends, end_ms: start_ms + WRITES * STEP_MS }
}

/// Whether nothing but a record's padding is missing; then nothing tells that there was more.
fn ends_between_records(bytes: &[u8]) -> bool {
    let mut at = 40;
    // The head of a segment ends in padding too.
    if (36..=at).contains(&bytes.len()) {
        return true;
    }
    while let Some(length) = bytes.get(at + 8..at + 12) {
        let end = at + 32 + u32::from_le_bytes(length.try_into().unwrap()) as usize;
        let next = end.next_multiple_of(8);
        if (end..=next).contains(&bytes.len()) {
            return true;
        }
        at = next;
    }
    false
}

impl Torn {
    /// Starts a server over a copy whose last segment `tear` has changed; `intact` bytes of it are as they were.
    async fn check(&self, client: &reqwest::Client, what: &str, intact: u64, tear: impl FnOnce(&mut Vec<u8>)) {
        let dir = tempfile::tempdir().unwrap();
        copy(self.dir.path(), dir.path());
        let path = dir.path().join(&self.segment);
        let mut bytes = std::fs::read(&path).unwrap();
        tear(&mut bytes);
        std::fs::write(&path, &bytes).unwrap();
        let mut server = Server::start(dir.path());
        server.wait_ready(client).await;
        let there = read(client, &server.url, self.end_ms, 0).await.unwrap();
        let whole: Vec<i64> = self.ends.iter().filter(|(end, _)| *end <= intact).map(|(_, ms)| *ms).collect();
        let promised = self.ledger.acknowledged.iter().filter(|(key, _)| whole.contains(&key.1));
        for (key, bits) in promised {
            assert_eq!(there.samples.get(key), Some(bits), "{what}: {key:?}");
        }
        self.ledger.check_not_invented(&there.samples).unwrap_or_else(|error| panic!("{what}: {error}"));
        let log = server.log();
        assert!(
            ends_between_records(&bytes) || log.contains("ends within a record"),
            "{what}: the server says nothing\n{log}"
        );
        assert!(!log.contains("panicked"), "{what}: {log}");
        // It goes on behind the tear, and the next start finds both.
        let mut ledger = Ledger::default();
        let answer = ledger.write(client, &server.url, 100..103, self.end_ms).await.unwrap();
        assert!(answer.status().is_success(), "{what}");
        server.kill();
        let mut server = Server::start(dir.path());
        server.wait_ready(client).await;
        let mut again = read(client, &server.url, self.end_ms, 0).await.unwrap().samples;
        ledger.check(&again.split_off(&(100, 0))).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(again, there.samples, "{what}: the second start finds something else");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_end_of_the_log_costs_only_what_was_torn() {
    let tears = number("PILASTER_TEARS", 16) as u64;
    let client = client();
    let torn = build(&client).await;
    let (first, _) = torn.ends[0];
    let (last, _) = torn.ends[torn.ends.len() - 1];
    // Half of them cuts, spread over all records and near the last one's ends, half of them something behind the end.
    let cuts = tears / 2;
    for number in 0..cuts {
        let cut = match number {
            0 => last - 1,
            1 => first,
            2 => 7,
            _ => (number * 2_654_435_761) % last,
        };
        torn.check(&client, &format!("cut at {cut} of {last}"), cut, |bytes| bytes.truncate(cut as usize)).await;
    }
    for number in 0..tears - cuts {
        let length = 1 + (number * 37 % 200) as usize;
        let what = format!("addition {number} of {length} bytes");
        torn.check(&client, &what, last, |bytes| match number % 4 {
            0 => bytes.resize(bytes.len() + length, 0),
            1 => bytes.extend((0..length).map(|byte| (byte as u64 * 31 + number) as u8)),
            // The beginning of a record, and of another segment.
            2 => bytes.extend_from_within(40..40 + length.min(60)),
            _ => bytes.extend_from_within(0..length.min(60)),
        })
        .await;
    }
}
