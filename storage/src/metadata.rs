//! What targets and senders say about their metrics. The log has every change, and a file what the log no longer has.
//!
//! ```text
//! metadata.jsonl   {"crc32c":"1a2b3c4d"}     over all that follows
//!                  {"metric":…,"type":…,"help":…,"unit":…}     a line each
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::env::{Files, atomic_write};

const FILE: &str = "metadata.jsonl";
/// Metrics that are remembered; beyond them those go that nobody has spoken of for longest.
const MAX_METRICS: usize = 100_000;
/// Bytes of a help text; the rest is cut off.
const MAX_HELP_BYTES: usize = 1024;

/// Whether `dir` has the file.
pub fn is_there(files: &dyn Files, dir: &Path) -> bool {
    files.len(&dir.join(FILE)).is_ok()
}

/// Type, help and unit of a metric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    pub metric: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub help: String,
    pub unit: String,
}

impl Metadata {
    pub fn new(metric: &str, kind: &str, help: &str, unit: &str) -> Metadata {
        let help = shortened(help);
        Metadata { metric: metric.to_owned(), kind: kind.to_owned(), help: help.to_owned(), unit: unit.to_owned() }
    }
}

fn shortened(help: &str) -> &str {
    &help[..help.floor_char_boundary(MAX_HELP_BYTES)]
}

#[derive(Serialize, Deserialize)]
struct Checksum {
    crc32c: String,
}

#[derive(Debug)]
struct Entry {
    metadata: Metadata,
    /// When somebody spoke of it last, as the table counts.
    told: AtomicU64,
}

/// By metric.
#[derive(Debug, Default)]
pub struct MetadataTable {
    entries: RwLock<BTreeMap<String, Entry>>,
    clock: AtomicU64,
    /// Whether the file lacks something.
    dirty: AtomicBool,
}

impl MetadataTable {
    /// The table in `dir`, empty where there is none, and whether the file is there and whole. A damaged file is said in
    /// the log and passed over: targets repeat what it held.
    ///
    /// # Errors
    /// The operating system refuses to read.
    pub fn load(files: &dyn Files, dir: &Path) -> Result<(MetadataTable, bool), Error> {
        let path = dir.join(FILE);
        let table = MetadataTable::default();
        let bytes = match files.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((table, false)),
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        let parsed = parse(&bytes);
        let is_whole = parsed.is_some();
        match parsed {
            Some(metadata) => table.apply(metadata),
            None => tracing::warn!(?path, "metadata of metrics is damaged and forgotten until it is told again"),
        }
        table.dirty.store(false, Ordering::Relaxed);
        Ok((table, is_whole))
    }

    /// Whether this was said before, and nothing else since.
    pub fn knows(&self, metric: &str, kind: &str, help: &str, unit: &str) -> bool {
        let entries = self.entries.read();
        let Some(Entry { metadata, told }) = entries.get(metric) else { return false };
        let known = metadata.kind == kind && metadata.help == shortened(help) && metadata.unit == unit;
        if known {
            told.store(self.clock.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        known
    }

    /// Those of `metadata` that say something new.
    pub fn changed(&self, metadata: &[Metadata]) -> Vec<Metadata> {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        // Almost always said before, so readers do not wait for it.
        let entries = self.entries.read();
        let known = |one: &&Metadata| {
            entries.get(&one.metric).is_some_and(|entry| {
                entry.told.store(now, Ordering::Relaxed);
                entry.metadata == **one
            })
        };
        metadata.iter().filter(|one| !known(one)).cloned().collect()
    }

    pub fn apply(&self, metadata: Vec<Metadata>) {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let entries = &mut *self.entries.write();
        for one in metadata {
            let known = entries.get(&one.metric);
            if known.is_none_or(|entry| entry.metadata != one) {
                self.dirty.store(true, Ordering::Relaxed);
            }
            entries.insert(one.metric.clone(), Entry { metadata: one, told: AtomicU64::new(now) });
        }
        if entries.len() > MAX_METRICS {
            let mut told: Vec<u64> = entries.values().map(|entry| entry.told.load(Ordering::Relaxed)).collect();
            // Some at once, so that not every new one costs a look at all.
            let too_many = entries.len() - MAX_METRICS + MAX_METRICS / 16;
            let (_, limit, _) = told.select_nth_unstable(too_many);
            let (limit, mut left) = (*limit, too_many);
            entries.retain(|_, entry| {
                let goes = left > 0 && entry.told.load(Ordering::Relaxed) <= limit;
                left -= usize::from(goes);
                !goes
            });
        }
    }

    /// Writes the file, where it lacks something.
    pub fn store(&self, files: &dyn Files, dir: &Path) -> Result<(), Error> {
        if !self.dirty.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let path = dir.join(FILE);
        let mut body = Vec::new();
        for entry in self.entries.read().values() {
            if serde_json::to_writer(&mut body, &entry.metadata).is_ok() {
                body.push(b'\n');
            }
        }
        let mut bytes = format!("{{\"crc32c\":\"{:08x}\"}}\n", crc32c::crc32c(&body)).into_bytes();
        bytes.append(&mut body);
        atomic_write(files, &path, &bytes).map_err(|error| {
            self.dirty.store(true, Ordering::Relaxed);
            Error::io("write", &path)(error)
        })
    }

    /// Ascending by metric.
    pub fn list(&self) -> Vec<Metadata> {
        self.entries.read().values().map(|entry| entry.metadata.clone()).collect()
    }

    pub fn len(&self) -> usize {
        self.entries.read().len()
    }
}

fn parse(bytes: &[u8]) -> Option<Vec<Metadata>> {
    let (first, body) = bytes.split_at(bytes.iter().position(|&byte| byte == b'\n')? + 1);
    let checksum: Checksum = serde_json::from_slice(first).ok()?;
    if checksum.crc32c != format!("{:08x}", crc32c::crc32c(body)) {
        return None;
    }
    serde_json::Deserializer::from_slice(body).into_iter().collect::<Result<_, _>>().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::sim::Sim;

    #[test]
    fn a_table_comes_back_and_a_damaged_one_is_empty() {
        let sim = Sim::new(1);
        let files = sim.env().files;
        let dir = Path::new("/data");
        let (table, is_whole) = MetadataTable::load(&*files, dir).unwrap();
        assert!(!is_whole);
        let all = vec![Metadata::new("a", "counter", "what \"it\"\nis", ""), Metadata::new("b", "gauge", "", "bytes")];
        assert_eq!(table.changed(&all), all);
        table.apply(all.clone());
        assert_eq!(table.changed(&all), []);
        table.store(&*files, dir).unwrap();
        assert_eq!(MetadataTable::load(&*files, dir).unwrap().0.list(), all);
        let path = dir.join(FILE);
        for byte in 0..files.len(&path).unwrap() as usize {
            sim.flip_bit(&path, byte, 3);
            let read = MetadataTable::load(&*files, dir).unwrap().0.list();
            assert!(read.is_empty() || read == all, "byte {byte}");
            sim.flip_bit(&path, byte, 3);
        }
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_spoken_of() {
        let table = MetadataTable::default();
        let one = |number: usize| {
            let help = "x".repeat(if number == 3 { MAX_HELP_BYTES + 9 } else { 1 });
            Metadata::new(&format!("m{number:07}"), "gauge", &help, "")
        };
        table.apply((0..MAX_METRICS).map(one).collect());
        table.changed(&[one(3)]);
        table.apply(vec![one(MAX_METRICS)]);
        assert!(table.len() <= MAX_METRICS, "{}", table.len());
        let listed = table.list();
        let spoken_of = listed.iter().find(|metadata| metadata.metric == "m0000003").unwrap();
        assert_eq!(spoken_of.help.len(), MAX_HELP_BYTES);
        assert_eq!(listed.last().unwrap().metric, format!("m{MAX_METRICS:07}"));
    }
}
