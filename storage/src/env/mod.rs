//! The one seam between storage and the outside world: files, time, randomness.
//!
//! Storage touches a disk, a clock or a random source only through these traits, so that a simulator can lose what
//! was not synced, tear writes, fill the disk and move the clock. [`Env::real`] is the operating system,
//! [`sim::Sim`] the simulated twin.

pub mod objects;
mod real;
pub mod sim;

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file open for appending. Dropping it closes it without a sync.
pub trait AppendFile: Send + Debug {
    /// Appends all of `bytes`. After an error an unknown part of them may stand in the file.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything appended durable (`fdatasync`). After an error nothing is known of what is durable, and a
    /// second call proves nothing: the file must be given up.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file to its first `len` bytes.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// Held while a directory belongs to this process; dropping it gives the directory free.
pub trait DirLock: Send + Sync + Debug {}

/// A file system.
pub trait Files: Send + Sync + Debug {
    /// Creates `path` for appending; an existing file is emptied.
    fn create(&self, path: &Path) -> io::Result<Box<dyn AppendFile>>;

    /// The whole content.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Exactly `len` bytes from `offset`; `UnexpectedEof` where the file is shorter.
    fn read_range(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>>;

    /// Length in bytes; `NotFound` where there is no such file.
    fn len(&self, path: &Path) -> io::Result<u64>;

    /// Atomically gives `from` the name `to`. Durable only after [`Files::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Gives the file `from`, which nobody changes any more, the second name `to`, or makes a durable copy of it where
    /// that cannot be. The new name is durable only after [`Files::sync_dir`].
    fn link_or_copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        const STEP: u64 = 4 << 20;
        let len = self.len(from)?;
        let mut file = self.create(to)?;
        for offset in (0..len).step_by(STEP as usize) {
            file.append(&self.read_range(from, offset, STEP.min(len - offset) as usize)?)?;
        }
        file.sync()
    }

    /// Paths of the files directly in `dir`, ascending; empty where `dir` does not exist.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;

    /// Paths of all files below `dir`, at any depth, ascending; empty where `dir` does not exist.
    fn list_tree(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;

    /// Creates `dir` and its parents, durably.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Makes creations, renames and removals in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes `dir` for this process; `WouldBlock` while another holds it.
    fn lock(&self, dir: &Path) -> io::Result<Box<dyn DirLock>>;

    /// Bytes of the whole disk that `dir` lies on.
    fn total_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// Bytes that can still be written below `dir`.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
}

/// The time.
pub trait Clock: Send + Sync + Debug {
    /// Milliseconds since the Unix epoch. May jump.
    fn now_ms(&self) -> i64;
}

/// Randomness for identities and jitter; not for secrets.
pub trait Random: Send + Sync + Debug {
    fn next_u64(&self) -> u64;
}

/// The outside world as storage sees it.
#[derive(Debug, Clone)]
pub struct Env {
    pub files: Arc<dyn Files>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
}

impl Env {
    /// The operating system's files, clock and randomness.
    pub fn real() -> Env {
        Env { files: Arc::new(real::OsFiles), clock: Arc::new(real::OsClock), random: Arc::new(real::OsRandom::new()) }
    }
}

/// Replaces `path` by `bytes` so that after a crash it holds the old content or the new, never a mixture:
/// write beside it, sync, rename, sync the directory.
pub fn atomic_write(files: &dyn Files, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let mut file = files.create(&temporary)?;
    file.append(bytes)?;
    file.sync()?;
    drop(file);
    files.rename(&temporary, path)?;
    files.sync_dir(path.parent().unwrap_or(Path::new(".")))
}

#[cfg(test)]
mod tests;
