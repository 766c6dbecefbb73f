//! What can go wrong with a store.

use std::io;
use std::path::{Path, PathBuf};

use crate::block::BlockError;
use crate::env::objects::ObjectError;
use crate::wal::WalError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No room. Nothing was acknowledged; the same call may succeed when there is room. Queries go on.
    #[error("no space left in {dir:?}")]
    DiskFull { dir: PathBuf },
    /// Another process has the data directory.
    #[error("data directory {dir:?} is in use by another process")]
    Locked { dir: PathBuf },
    /// Bytes on disk are not the bytes that were written. Retrying cannot help.
    #[error("corrupt data in {path:?}: {reason}")]
    Corrupt { path: PathBuf, reason: String },
    /// A later version of this program has written it.
    #[error("{path:?} has version {version} of its format, which this program does not know")]
    TooNew { path: PathBuf, version: u32 },
    /// The options make no sense together.
    #[error("invalid storage option: {reason}")]
    InvalidOptions { reason: String },
    /// The write-ahead log could not be written or read. Nothing was acknowledged; the same call may succeed later.
    #[error(transparent)]
    Wal(WalError),
    /// A block could not be written or read.
    #[error(transparent)]
    Block(BlockError),
    /// The object store that has the blocks did not answer, or refused. The same call may succeed later.
    #[error(transparent)]
    Objects(ObjectError),
    /// The blocks at this URL belong to another data directory, whose log has the name `log`. Nothing was changed there.
    #[error(
        "blocks at {place} belong to another data directory (log {log}): give each server a prefix of its own, or, where \
         that server is gone for good, set storage.blocks.take_over"
    )]
    Foreign { place: String, log: String },
    /// The operating system refused. The same call may succeed later.
    #[error("could not {action} {path:?}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull { dir: path.to_owned() },
            _ => Error::Io { action, path: path.to_owned(), source },
        }
    }

    pub(crate) fn block(dir: &Path) -> impl FnOnce(BlockError) -> Error {
        move |error| if error.is_disk_full() { Error::DiskFull { dir: dir.to_owned() } } else { Error::Block(error) }
    }

    /// Whether the object store that has the blocks cannot be reached, or is not ours.
    pub fn is_of_objects(&self) -> bool {
        matches!(self, Error::Objects(_) | Error::Foreign { .. })
    }

    /// Whether no later try could read it either.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            Error::Block(error) => error.is_lost(),
            other => other.is_corruption(),
        }
    }

    /// Whether bytes on disk are bad.
    pub fn is_corruption(&self) -> bool {
        match self {
            Error::Corrupt { .. } => true,
            Error::Block(error) => error.is_corruption(),
            Error::DiskFull { .. }
            | Error::Locked { .. }
            | Error::TooNew { .. }
            | Error::InvalidOptions { .. }
            | Error::Objects(_)
            | Error::Foreign { .. }
            | Error::Wal(_)
            | Error::Io { .. } => false,
        }
    }
}

impl From<WalError> for Error {
    fn from(error: WalError) -> Error {
        match error {
            WalError::DiskFull { dir } => Error::DiskFull { dir },
            WalError::Io { .. } => Error::Wal(error),
        }
    }
}
