//! Blocks in an object store without a cache before it, for who looks at every byte once.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::block::{BlockFiles, Copy, FileMeta};
use crate::env::objects::{Objects, Put};

#[derive(Debug)]
pub struct PlainObjects(pub Arc<dyn Objects>);

impl BlockFiles for PlainObjects {
    fn path(&self, file: &FileMeta) -> PathBuf {
        PathBuf::from(format!("{}/{}", self.0.place().trim_end_matches('/'), file.path))
    }

    fn is_far(&self) -> bool {
        true
    }

    /// As the manifest says: what is read shows it.
    fn len(&self, file: &FileMeta) -> io::Result<u64> {
        Ok(file.bytes)
    }

    fn read(&self, file: &FileMeta, ranges: &[Range<u64>], _: Copy) -> io::Result<Vec<Bytes>> {
        Ok(self.0.get_ranges(&file.path, ranges)?)
    }

    fn replace(&self, file: &FileMeta, bytes: &[u8]) -> io::Result<()> {
        self.0.put(&file.path, Bytes::copy_from_slice(bytes), Put::Always)?;
        Ok(())
    }
}
