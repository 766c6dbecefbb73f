//! A Prometheus data directory, read straight from disk: blocks, and the head in its log and its mapped chunks.
//!
//! ```text
//! DIR/01J.../meta.json index chunks/000001 tombstones     Block        one series after another, any time range
//! DIR/wal/ checkpoint.N/ wbl/ chunks_head/                Head         in passes over as many series as fit in memory
//! ```
//!
//! * Nothing is written, and nothing is believed without its checksum.
//! * Damage is a [`DataError`] that names file and offset. What is damaged is left out and told of; the rest is read.
//! * No bytes panic, and none make more memory than a small multiple of the file.
//!
//! Source: `tsdb/docs/format` and the decoders of Prometheus v3.14.

mod bits;
mod block;
mod bytes;
mod chunk;
mod error;
mod head;
mod head_chunks;
mod histogram;
mod index;
mod meta;
mod record;
mod segments;
mod starts;
mod tombstones;
mod wal;
mod xor;
mod xor2;

pub use block::Block;
pub use chunk::{Encoding, decode_chunk};
pub use error::DataError;
pub use head::{Head, HeadSummary};
pub use index::{ChunkRef, SeriesEntry};
pub use meta::BlockMeta;

#[cfg(test)]
mod tests;
