//! The write-ahead log: what was acknowledged is in here until a block holds it.
//!
//! ```text
//! wal/00000001.wal   segment: header, then records one after another, each 8-byte aligned
//!     record: magic version type flags length crc32c sequence durable_sequence | payload | padding
//! ```
//!
//! * Writers put records into memory in sequence order ([`Wal::enqueue`]) and wait ([`Wal::wait`]); one of the waiting
//!   writers writes and syncs for all (group commit).
//! * A segment is self-contained: before a sample record stand the labels of every series that the segment has not
//!   named yet, so losing one segment never makes another unreadable.
//! * Each record carries the highest sequence that was durable when it was written. Replay uses it to tell a torn tail,
//!   which nobody was promised, from damage to acknowledged data, which is reported.
//! * Nothing is ever appended behind a failed write or sync: the file is cut to its last good byte and given up.

mod codec;
mod extras;
mod named;
mod replay;
mod segment;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

pub use codec::{Record, WalSample};
pub use extras::WalExemplar;
pub use replay::{Damage, Replay, TornTail};
pub use tail::{LogPlace, LogTail};
pub use writer::{Ticket, Wal, WalOptions, WalSync};

use std::path::PathBuf;

/// Why the log could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WalError {
    /// No room. Nothing was acknowledged; the same call may succeed when there is room.
    #[error("no space left for the write-ahead log in {dir:?}")]
    DiskFull { dir: PathBuf },
    /// The operating system refused. Nothing was acknowledged; the same call may succeed later.
    #[error("could not {action} {path:?}: {reason}")]
    Io { action: &'static str, path: PathBuf, reason: String },
}
