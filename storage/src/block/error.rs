//! What can go wrong with a block.

use std::io;
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;

#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The operating system refused. The same call may succeed later.
    #[error("could not {action} {path:?}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// The bytes on disk are not the bytes that were written. Retrying cannot help.
    #[error(
        "corrupt block file {path:?}, bytes [{offset}, {end}): CRC32C should be {expected:08x} but is {got:08x}",
        end = offset + *len as u64
    )]
    Checksum { path: PathBuf, offset: u64, len: usize, expected: u32, got: u32 },
    /// The bytes have the right checksum, or none to check, and still are not what they should be.
    #[error("malformed block file {path:?}: {reason}")]
    Malformed { path: PathBuf, reason: String },
    /// The samples offered for a block break its rules; nothing was written.
    #[error("refused to write a block: {reason}")]
    Refused { reason: String },
    /// Parquet or zstd could not encode; not expected of valid input.
    #[error("could not encode a block")]
    Encode(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl BlockError {
    /// Whether space ran out on the device.
    pub fn is_disk_full(&self) -> bool {
        match self {
            BlockError::Io { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            BlockError::Checksum { .. }
            | BlockError::Malformed { .. }
            | BlockError::Refused { .. }
            | BlockError::Encode(_) => false,
        }
    }

    /// Whether bytes on disk are bad; the block cannot be trusted.
    pub fn is_corruption(&self) -> bool {
        matches!(self, BlockError::Checksum { .. } | BlockError::Malformed { .. })
    }

    /// Whether no later try could read it either: the bytes are bad, gone, or on a part of the disk that fails.
    pub fn is_lost(&self) -> bool {
        match self {
            BlockError::Io { source, .. } => {
                source.kind() == io::ErrorKind::NotFound || source.raw_os_error() == Some(libc::EIO)
            }
            other => other.is_corruption(),
        }
    }

    /// Whether a file is not where it should be.
    pub fn is_missing(&self) -> bool {
        matches!(self, BlockError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BlockError {
        move |source| BlockError::Io { action, path: path.to_owned(), source }
    }

    pub(super) fn malformed(path: &Path, reason: impl Into<String>) -> BlockError {
        BlockError::Malformed { path: path.to_owned(), reason: reason.into() }
    }

    pub(super) fn refused(reason: impl Into<String>) -> BlockError {
        BlockError::Refused { reason: reason.into() }
    }

    pub(super) fn compression(source: io::Error) -> BlockError {
        BlockError::Encode(Box::new(source))
    }

    /// What the Parquet writer reports: mostly the error of the file below it.
    pub(super) fn writing(path: &Path) -> impl FnOnce(ParquetError) -> BlockError {
        move |error| match error {
            ParquetError::External(source) => match source.downcast::<io::Error>() {
                Ok(source) => BlockError::Io { action: "write", path: path.to_owned(), source: *source },
                Err(source) => BlockError::Encode(source),
            },
            other => BlockError::Encode(Box::new(other)),
        }
    }
}

impl From<ParquetError> for BlockError {
    fn from(error: ParquetError) -> BlockError {
        BlockError::Encode(Box::new(error))
    }
}
