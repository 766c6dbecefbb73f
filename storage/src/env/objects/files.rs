//! A directory as an object store, durable at every put.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::super::{Files, atomic_write};
use super::{Listed, ObjectError, Objects, Put, Version};

/// Objects as files below a directory, which is made where it is not there. Conditions hold between processes of one
/// machine: they are checked under the directory's lock.
#[derive(Debug)]
pub struct FileObjects {
    files: Arc<dyn Files>,
    dir: PathBuf,
    place: String,
    /// Locks of files do not keep threads apart.
    conditional: Mutex<()>,
}

impl FileObjects {
    pub fn new(files: Arc<dyn Files>, dir: PathBuf) -> FileObjects {
        FileObjects { place: format!("file://{}", dir.display()), files, dir, conditional: Mutex::new(()) }
    }

    fn failed(&self, action: &'static str, name: &str) -> impl FnOnce(io::Error) -> ObjectError {
        let (place, name) = (self.place.clone(), name.to_owned());
        move |error| match error.kind() {
            io::ErrorKind::NotFound => ObjectError::NotFound { place, name },
            _ => ObjectError::Unavailable { action, place, name, source: error.into() },
        }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.files.create_dir_all(path.parent().unwrap_or(&self.dir))?;
        atomic_write(&*self.files, path, bytes)
    }

    /// Whether `condition` holds now.
    fn holds(&self, path: &Path, condition: Put<'_>) -> io::Result<bool> {
        let there = match self.files.read(path) {
            Ok(bytes) => Some(version_of(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(match condition {
            Put::Always => true,
            Put::Absent => there.is_none(),
            Put::Unchanged(version) => there.as_ref() == Some(version),
        })
    }
}

/// Contents stand for themselves: what is put under a condition says each time something new.
fn version_of(bytes: &[u8]) -> Version {
    Version { etag: Some(format!("{}-{:08x}", bytes.len(), crc32c::crc32c(bytes))), generation: None }
}

impl Objects for FileObjects {
    fn place(&self) -> &str {
        &self.place
    }

    fn get(&self, name: &str, known: Option<&Version>) -> Result<Option<(Bytes, Version)>, ObjectError> {
        let bytes = self.files.read(&self.dir.join(name)).map_err(self.failed("read", name))?;
        let version = version_of(&bytes);
        Ok((known != Some(&version)).then(|| (Bytes::from(bytes), version)))
    }

    fn get_ranges(&self, name: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, ObjectError> {
        let path = self.dir.join(name);
        let read = |range: &Range<u64>| {
            let len = usize::try_from(range.end - range.start).map_err(|_| io::ErrorKind::OutOfMemory)?;
            self.files.read_range(&path, range.start, len).map(Bytes::from)
        };
        ranges.iter().map(read).collect::<io::Result<_>>().map_err(self.failed("read", name))
    }

    fn put(&self, name: &str, bytes: Bytes, condition: Put<'_>) -> Result<Version, ObjectError> {
        let path = self.dir.join(name);
        if let Put::Always = condition {
            self.write(&path, &bytes).map_err(self.failed("write", name))?;
            return Ok(version_of(&bytes));
        }
        let _alone = self.conditional.lock();
        self.files.create_dir_all(&self.dir).map_err(self.failed("write", name))?;
        let _lock = self.files.lock(&self.dir).map_err(self.failed("lock", name))?;
        if !self.holds(&path, condition).map_err(self.failed("read", name))? {
            return Err(ObjectError::Conflict { place: self.place.clone(), name: name.to_owned() });
        }
        self.write(&path, &bytes).map_err(self.failed("write", name))?;
        Ok(version_of(&bytes))
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, ObjectError> {
        let listed = || -> io::Result<Vec<Listed>> {
            let mut list = Vec::new();
            for path in self.files.list_tree(&self.dir.join(folder))? {
                let Some(name) = path.strip_prefix(&self.dir).ok().and_then(Path::to_str) else { continue };
                list.push(Listed { name: name.to_owned(), bytes: self.files.len(&path)? });
            }
            list.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(list)
        };
        listed().map_err(self.failed("list", folder))
    }

    fn remove(&self, names: &[String]) -> Result<(), ObjectError> {
        for name in names {
            match self.files.remove(&self.dir.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.failed("remove", name)(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}
