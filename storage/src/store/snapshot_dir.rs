//! A copy of the store in a directory of its own, from which a store can be opened.

use std::path::Path;

use super::Store;
use crate::Error;
use crate::block::{self, BlockMeta};
use crate::head::HeadView;
use crate::manifest::Manifest;

impl Store {
    /// Puts all blocks, and the head as blocks of its own where `with_head`, into `dir`, which begins to exist. Files of
    /// blocks are hard links where the file system can, copies otherwise, checked ones where blocks are in an object
    /// store. [`Store::open`] opens the result; samples appended meanwhile are not in it, nor blocks that are set aside.
    ///
    /// # Errors
    /// `dir` exists already, or something could not be read or written; what was made of `dir` stays.
    pub fn snapshot_into(&self, dir: &Path, with_head: bool) -> Result<(), Error> {
        let files = &*self.env.files;
        if !files.list_tree(dir).map_err(Error::io("list", dir))?.is_empty() {
            let reason = format!("the directory of a snapshot, {dir:?}, is not empty");
            return Err(Error::InvalidOptions { reason });
        }
        // Blocks stay as they are for as long as this is held.
        let maintenance = &mut *self.maintenance.lock();
        let head = if with_head { self.head_as_blocks()? } else { Vec::new() };
        let mut manifest = Manifest {
            // The copy has no log.
            flushed_sequence: 0,
            log_from_sequence: 0,
            log: String::new(),
            earlier_logs: Vec::new(),
            put_number: 0,
            removed: Vec::new(),
            ..maintenance.manifest.clone()
        };
        let set_aside = self.current_view().unreadable();
        manifest.blocks.retain(|block| set_aside.iter().all(|aside| aside.name != block.name));
        manifest.blocks.extend(head.iter().cloned());
        for tombstone in &mut manifest.tombstones {
            // Carried out in what was written of the head.
            tombstone.leave_blocks_only();
        }
        manifest.tombstones.retain(|tombstone| !tombstone.is_done());
        let linked = self.link_blocks(&manifest, dir);
        head.iter().for_each(|meta| self.remove_files(meta));
        linked?;
        manifest.store(files, dir)
    }

    /// The head's samples in blocks that no manifest names.
    fn head_as_blocks(&self) -> Result<Vec<BlockMeta>, Error> {
        let (epoch, max_ms) = self.head.epochs.end_epoch(|| self.head.max_ms());
        let view = HeadView { epoch, flushed: self.view.read().flushed };
        let written = match max_ms {
            Some(max_ms) => self.write_blocks(view, max_ms.saturating_add(1)),
            None => Ok(Vec::new()),
        };
        self.head.epochs.release(epoch);
        written
    }

    fn link_blocks(&self, manifest: &Manifest, dir: &Path) -> Result<(), Error> {
        let files = &*self.env.files;
        files.create_dir_all(dir).map_err(Error::io("create", dir))?;
        let mut days: Vec<&Path> = Vec::new();
        for file in manifest.blocks.iter().flat_map(|block| &block.files) {
            let relative = Path::new(&file.path);
            let day = relative.parent().unwrap_or(Path::new(""));
            if !days.contains(&day) {
                let made = dir.join(day);
                files.create_dir_all(&made).map_err(Error::io("create", &made))?;
                days.push(day);
            }
            if self.home.is_far() {
                block::copy(&*self.home.blocks(), file, files, dir).map_err(Error::block(dir))?;
            } else {
                let (from, to) = (self.options.dir.join(relative), dir.join(relative));
                files.link_or_copy(&from, &to).map_err(Error::io("copy", &from))?;
            }
        }
        let views = self.home.writing_dir().join("views.sql");
        if files.len(&views).is_ok() {
            files.link_or_copy(&views, &dir.join("views.sql")).map_err(Error::io("copy", &views))?;
        }
        for day in days {
            let made = dir.join(day);
            files.sync_dir(&made).map_err(Error::io("sync", &made))?;
        }
        Ok(())
    }
}
