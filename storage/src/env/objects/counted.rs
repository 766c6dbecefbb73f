//! How much is asked of an object store.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::{Listed, ObjectError, Objects, Put, Version};

/// Requests so far, by kind. A list counts as one, however many pages it has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestCounts {
    pub gets: u64,
    pub puts: u64,
    pub lists: u64,
    pub removals: u64,
    /// Calls among them that found nobody, or a refusal.
    pub failed: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
}

impl RequestCounts {
    pub fn plus(self, other: RequestCounts) -> RequestCounts {
        RequestCounts {
            gets: self.gets + other.gets,
            puts: self.puts + other.puts,
            lists: self.lists + other.lists,
            removals: self.removals + other.removals,
            failed: self.failed + other.failed,
            bytes_read: self.bytes_read + other.bytes_read,
            bytes_written: self.bytes_written + other.bytes_written,
        }
    }
}

/// Objects whose use is counted.
#[derive(Debug)]
pub struct Counted {
    inner: Arc<dyn Objects>,
    gets: AtomicU64,
    puts: AtomicU64,
    lists: AtomicU64,
    removals: AtomicU64,
    failed: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
}

impl Counted {
    pub fn new(inner: Arc<dyn Objects>) -> Counted {
        Counted {
            inner,
            gets: AtomicU64::new(0),
            puts: AtomicU64::new(0),
            lists: AtomicU64::new(0),
            removals: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
        }
    }

    pub fn counts(&self) -> RequestCounts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RequestCounts {
            gets: load(&self.gets),
            puts: load(&self.puts),
            lists: load(&self.lists),
            removals: load(&self.removals),
            failed: load(&self.failed),
            bytes_read: load(&self.bytes_read),
            bytes_written: load(&self.bytes_written),
        }
    }

    fn note<T>(&self, result: Result<T, ObjectError>) -> Result<T, ObjectError> {
        if let Err(ObjectError::Unavailable { .. }) = &result {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        result
    }
}

impl Objects for Counted {
    fn place(&self) -> &str {
        self.inner.place()
    }

    fn get(&self, name: &str, known: Option<&Version>) -> Result<Option<(Bytes, Version)>, ObjectError> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        let got = self.note(self.inner.get(name, known))?;
        let bytes = got.as_ref().map_or(0, |(bytes, _)| bytes.len());
        self.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(got)
    }

    fn get_ranges(&self, name: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, ObjectError> {
        self.gets.fetch_add(ranges.len() as u64, Ordering::Relaxed);
        let got = self.note(self.inner.get_ranges(name, ranges))?;
        self.bytes_read.fetch_add(got.iter().map(|bytes| bytes.len() as u64).sum(), Ordering::Relaxed);
        Ok(got)
    }

    fn put(&self, name: &str, bytes: Bytes, condition: Put<'_>) -> Result<Version, ObjectError> {
        self.puts.fetch_add(1, Ordering::Relaxed);
        self.bytes_written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.note(self.inner.put(name, bytes, condition))
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, ObjectError> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        self.note(self.inner.list(folder))
    }

    fn remove(&self, names: &[String]) -> Result<(), ObjectError> {
        self.removals.fetch_add(names.len() as u64, Ordering::Relaxed);
        self.note(self.inner.remove(names))
    }
}
