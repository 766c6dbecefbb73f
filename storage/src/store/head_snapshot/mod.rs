//! The head in a file beside the log, so that a start goes on with the log's tail.
//!
//! ```text
//! wal/head.snapshot   magic | frames: label pairs, series | directory | trailer        (storage/FORMAT.md, byte by byte)
//! ```
//!
//! * It holds nothing alone: the log is cut by what is in blocks, and whoever doubts the file replays the whole log.
//! * Appends take their sequence with the shards held that they touch. So a part of a shard that is copied under its lock is
//!   the part as it was at the log's sequence of that moment, which is noted with it; what the log has for that part from
//!   there on is replayed.
//! * It gets its name only when the log is durable through all that was copied. Where a sequence may have been given out
//!   twice since, because the log failed, it does not get it.
//! * A flush makes it no worse: what was copied stood in the log below the flush's sequence, so what lies before the end of
//!   the flushed range is in blocks.

mod directory;
mod read;
mod write;

use std::path::{Path, PathBuf};

use super::maintenance::Mark;
use directory::{Directory, FrameKind};

pub use write::Occasion;

pub(super) use read::{Beside, load};
pub(super) use write::Saved;

const FILE: &str = "head.snapshot";

pub(super) fn path(wal_dir: &Path) -> PathBuf {
    wal_dir.join(FILE)
}

fn temporary(wal_dir: &Path) -> PathBuf {
    wal_dir.join("head.snapshot.tmp")
}

/// What the head has when the replay of the log begins.
#[derive(Debug)]
pub(super) struct Base {
    /// It has everything below, or blocks do,
    begin: u64,
    /// and nothing from here on.
    end: u64,
    /// Shards of the head that was copied.
    shards: u64,
    /// By such a shard: slots `[first, end)` of it, and the sequence below which it has their samples; ascending.
    copied: Vec<Vec<(u32, u32, u64)>>,
    pub marks: Vec<Mark>,
    /// Segments of the log that are not read.
    pub segments_left_out: u64,
}

impl Base {
    fn new(directory: &Directory, segments_left_out: u64) -> Base {
        let mut copied = vec![Vec::new(); directory.shards as usize];
        for frame in &directory.frames {
            if let FrameKind::Series { shard, first, end, sequence } = frame.kind
                && let Some(parts) = copied.get_mut(shard as usize)
            {
                parts.push((first, end, sequence));
            }
        }
        Base {
            begin: directory.begin,
            end: directory.end,
            shards: u64::from(directory.shards),
            copied,
            marks: directory.marks.clone(),
            segments_left_out,
        }
    }

    /// Whether it has the samples of a series, by its reference in the log, that stand there under `sequence`.
    pub fn has(&self, sequence: u64, reference: u64) -> bool {
        if sequence < self.begin || sequence >= self.end {
            return sequence < self.begin;
        }
        // All sequences in between are of the process that copied its head, and so are the references.
        let slot = reference & u64::from(u32::MAX);
        let local = (slot >> self.shards.trailing_zeros()) as u32;
        let Some(parts) = self.copied.get((slot & (self.shards - 1)) as usize) else { return false };
        let at = parts.partition_point(|(_, end, _)| *end <= local);
        parts.get(at).is_some_and(|&(first, _, copied_at)| first <= local && sequence < copied_at)
    }
}

#[cfg(test)]
mod tests;
