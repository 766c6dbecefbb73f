//! The operating system behind the seam.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{AppendFile, Clock, DirLock, Files, Random};

#[derive(Debug)]
pub struct OsFiles;

#[derive(Debug)]
struct OsAppendFile(File);

impl AppendFile for OsAppendFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

/// The kernel frees the lock when the process dies, however it dies.
#[derive(Debug)]
struct OsDirLock(#[allow(dead_code, reason = "held for its drop")] File);

impl DirLock for OsDirLock {}

impl Files for OsFiles {
    fn create(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        File::create(path)?;
        // O_APPEND: after `truncate` the next write goes to the new end.
        Ok(Box::new(OsAppendFile(OpenOptions::new().append(true).open(path)?)))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn read_range(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        // Read into spare capacity: zeroing it before would cost as much as a third of the copy from the page cache.
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let at = offset.checked_add(bytes.len() as u64).and_then(|at| libc::off_t::try_from(at).ok());
            let at = at.ok_or(io::ErrorKind::InvalidInput)?;
            let spare = {
                let missing = len - bytes.len();
                &mut bytes.spare_capacity_mut()[..missing]
            };
            // SAFETY: `spare` is memory of `bytes` of the length given; the descriptor is open.
            let got = unsafe { libc::pread(file.as_raw_fd(), spare.as_mut_ptr().cast(), spare.len(), at) };
            match usize::try_from(got) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                // SAFETY: the call has written that many bytes behind what was there.
                Ok(got) => unsafe { bytes.set_len(bytes.len() + got) },
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
        Ok(bytes)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(std::fs::metadata(path)?.len())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn link_or_copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        match std::fs::hard_link(from, to) {
            Ok(()) => Ok(()),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => Err(error),
            // Another file system, or one without links.
            Err(_) => {
                std::fs::copy(from, to)?;
                File::open(to)?.sync_all()
            }
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut paths = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                paths.push(entry.path());
            }
        }
        paths.sort();
        Ok(paths)
    }

    fn list_tree(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        let mut open = vec![dir.to_owned()];
        while let Some(dir) = open.pop() {
            let entries = match std::fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    open.push(entry.path());
                } else if kind.is_file() {
                    paths.push(entry.path());
                }
            }
        }
        paths.sort();
        Ok(paths)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            self.create_dir_all(parent)?;
        }
        match std::fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        // The new name lives in the parent.
        self.sync_dir(parent.unwrap_or(Path::new(".")))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, dir: &Path) -> io::Result<Box<dyn DirLock>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(dir.join("lock"))?;
        // SAFETY: the descriptor is open for the length of the call; flock touches no memory of ours.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Box::new(OsDirLock(file)))
    }

    fn total_bytes(&self, dir: &Path) -> io::Result<u64> {
        statvfs(dir).map(|stat| stat.f_blocks * stat.f_frsize)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        statvfs(dir).map(|stat| stat.f_bavail * stat.f_frsize)
    }
}

fn statvfs(dir: &Path) -> io::Result<libc::statvfs> {
    let path = std::ffi::CString::new(dir.as_os_str().as_bytes())?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` is NUL-terminated and `stat` is large enough for what the call writes.
    if unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a successful call has written the whole structure.
    Ok(unsafe { stat.assume_init() })
}

#[derive(Debug)]
pub struct OsClock;

impl Clock for OsClock {
    fn now_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_millis() as i64,
            Err(before) => -(before.duration().as_millis() as i64),
        }
    }
}

/// splitmix64, seeded from the operating system once.
#[derive(Debug)]
pub struct OsRandom(AtomicU64);

impl OsRandom {
    pub fn new() -> OsRandom {
        use std::hash::{BuildHasher, Hasher};
        // RandomState is the standard library's one door to the system's entropy.
        OsRandom(AtomicU64::new(std::hash::RandomState::new().build_hasher().finish()))
    }
}

impl Random for OsRandom {
    fn next_u64(&self) -> u64 {
        splitmix64(&self.0)
    }
}

/// The next number of the splitmix64 sequence that `state` stands in.
pub fn splitmix64(state: &AtomicU64) -> u64 {
    let mut z = state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
