//! What can be wrong with a data directory.

use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The operating system refused. The same call may succeed later.
    #[error("could not {action} {path:?}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// Bytes are not those that were written.
    #[error("corrupt {path:?} at byte {offset}: {reason}")]
    Corrupt { path: PathBuf, offset: u64, reason: String },
    /// The file is whole and of a kind that is not known here.
    #[error("cannot read {path:?}: {reason}")]
    Unknown { path: PathBuf, reason: String },
}

impl DataError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataError {
        move |source| DataError::Io { action, path: path.to_owned(), source }
    }

    pub(super) fn corrupt(path: &Path, offset: u64, reason: impl Into<String>) -> DataError {
        DataError::Corrupt { path: path.to_owned(), offset, reason: reason.into() }
    }

    pub(super) fn unknown(path: &Path, reason: impl Into<String>) -> DataError {
        DataError::Unknown { path: path.to_owned(), reason: reason.into() }
    }
}

/// Why bytes in memory are not what they should be; whoever knows the file adds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl From<Malformed> for String {
    fn from(malformed: Malformed) -> String {
        malformed.0.to_owned()
    }
}
