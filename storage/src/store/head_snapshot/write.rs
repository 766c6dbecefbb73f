//! Taking a head snapshot.

use std::sync::atomic::Ordering;

use super::directory::{Directory, Frame, FrameKind, MAGIC, MOST_FRAME_BYTES};
use super::{path, temporary};
use crate::Error;
use crate::env::AppendFile;
use crate::head::{Copied, Copier, Flushed};
use crate::manifest::Manifest;
use crate::store::Store;
use crate::tombstone::{Source, Tombstone, about, about_log};
use crate::wal::Ticket;

/// Bytes of label pairs that wait until a frame is made of them.
const PAIRS_TOGETHER: usize = 256 << 10;

/// Bytes after which what was written goes to the disk, in a run: syncs of the log must not wait for all of it.
const SYNC_EVERY: u64 = 16 << 20;

/// The samples in a head for each that the log has more than the snapshot, above which a new snapshot is worth its bytes:
/// during a run, and at its end, when only the next start counts.
const WORTH_IN_A_RUN: u64 = 3;
const WORTH_AT_THE_END: u64 = 32;
/// One in so many of the samples that are worth a snapshot in a run are worth one at its end.
const FEWER_AT_THE_END: u64 = 4;

/// What a head snapshot is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// Somebody asks for one, whether it is worth it or not.
    Asked,
    /// A timer, in a run.
    Timer,
    /// The run ends.
    End,
}

/// What is known of the last snapshot.
#[derive(Debug, Default)]
pub struct Saved {
    /// Samples that the log had by then, as [`Store::logged`] counts.
    logged: u64,
}

/// What a snapshot is of, as it was before anything was copied.
struct Begin {
    manifest: Manifest,
    flushed: Flushed,
}

impl Store {
    /// Puts the head into a file beside the log, where that is worth it, so that the next start is quick. Appends go on
    /// meanwhile. Returns whether it did. Nothing depends on it: the log has all that the file has.
    ///
    /// # Errors
    /// The file or the log could not be written. The snapshot before, if any, stays.
    pub fn save_head(&self, occasion: Occasion) -> Result<bool, Error> {
        let saved = &mut *self.saved.lock();
        let logged = self.logged();
        let in_head = self.head.sample_count();
        // What was flushed since is no work for the next start.
        let new = (logged - saved.logged).min(in_head);
        let least = self.options.snapshot_samples;
        let is_worth_it = match occasion {
            Occasion::Asked => true,
            Occasion::Timer | Occasion::End if least == u64::MAX => false,
            Occasion::Timer => new >= least && new.saturating_mul(WORTH_IN_A_RUN) >= in_head,
            Occasion::End => {
                new > 0 && new >= least / FEWER_AT_THE_END && new.saturating_mul(WORTH_AT_THE_END) >= in_head
            }
        };
        if !is_worth_it {
            return Ok(false);
        }
        let written = match occasion {
            Occasion::Timer => self.options.flush_workers.run(|| self.write_snapshot(SYNC_EVERY)),
            Occasion::Asked | Occasion::End => self.write_snapshot(u64::MAX),
        };
        match &written {
            Ok(true) => saved.logged = logged,
            Ok(false) | Err(_) => {
                let _ = self.env.files.remove(&temporary(&self.options.dir.join("wal")));
            }
        }
        written
    }

    /// Samples that the log got, and those of its tail that were replayed.
    fn logged(&self) -> u64 {
        let counters = &self.counters;
        self.replayed_samples
            + counters.samples_appended.load(Ordering::Relaxed)
            + counters.histograms_appended.load(Ordering::Relaxed)
    }

    /// Returns whether there is a new one.
    fn write_snapshot(&self, sync_every: u64) -> Result<bool, Error> {
        let wal_dir = self.options.dir.join("wal");
        let files = &*self.env.files;
        // What the log has takes less room in the head, mostly; as much must be free afterwards, for the log.
        let room = self.wal.size_bytes().saturating_mul(2);
        if files.free_bytes(&wal_dir).map_err(Error::io("measure", &wal_dir))? < room {
            tracing::debug!(wanted_bytes = room, "no head snapshot: too little room on the disk");
            return Ok(false);
        }
        let begin = self.begin_snapshot()?;
        let (beside, from) = self.store_beside()?;
        let tombstones = about(&begin.manifest.tombstones, Source::Head);
        let mut copier = Copier::new(&self.head, begin.flushed, tombstones);
        let temporary = temporary(&wal_dir);
        let file = files.create(&temporary).map_err(Error::io("create", &temporary))?;
        let mut writer = Writer { file, bytes: 0, synced: 0, sync_every, frames: Vec::new() };
        let written = writer.append(MAGIC).and_then(|()| self.copy_head(&mut copier, &mut writer));
        let Some(last) = written.map_err(Error::io("write", &temporary))? else { return Ok(false) };
        let last = last.unwrap_or(from);
        if last.is_across_failure(from) {
            return Ok(false);
        }
        // What nobody was promised must not be there after a crash, and its sequences would be given out again.
        self.wal.wait(last)?;
        self.wal.sync_all()?;
        let Some(place) = last.end().checked_sub(1).map(|last| self.wal.place_of(last)).transpose()?.flatten() else {
            return Ok(false);
        };
        let Manifest { log, flushed_sequence, closed_before_ms, tombstones, .. } = &begin.manifest;
        let deletions: Vec<u64> = about_log(tombstones).into_iter().map(Tombstone::hash).collect();
        let marks = {
            let maintenance = &mut *self.maintenance.lock();
            self.mark(maintenance)?;
            let now = &maintenance.manifest;
            let is_known = |tombstone: &Tombstone| deletions.contains(&tombstone.hash());
            // One that is useless must not replace one that is not.
            if now.flushed_sequence != *flushed_sequence || !about_log(&now.tombstones).into_iter().all(is_known) {
                return Ok(false);
            }
            maintenance.marks.iter().copied().collect()
        };
        if self.wal.barrier().is_across_failure(from) {
            return Ok(false);
        }
        let directory = Directory {
            log: log.clone(),
            flushed_sequence: *flushed_sequence,
            closed_before_ms: *closed_before_ms,
            deletions,
            max_exemplars: self.exemplars.max() as u64,
            beside,
            shards: self.head.shard_count() as u32,
            begin: from.end(),
            end: last.end(),
            last: place,
            marks,
            names: copier.names().to_vec(),
            frames: std::mem::take(&mut writer.frames),
        };
        let offset = writer.bytes;
        let directory = directory.encode();
        let ended = writer.append(&directory).and_then(|()| writer.append(&Directory::trailer(offset, &directory)));
        ended.and_then(|()| writer.file.sync()).map_err(Error::io("write", &temporary))?;
        let file_bytes = writer.bytes;
        drop(writer);
        let path = path(&wal_dir);
        files.rename(&temporary, &path).map_err(Error::io("rename", &temporary))?;
        files.sync_dir(&wal_dir).map_err(Error::io("sync", &wal_dir))?;
        self.snapshot_bytes.store(file_bytes, Ordering::Relaxed);
        Ok(true)
    }

    fn begin_snapshot(&self) -> Result<Begin, Error> {
        let maintenance = &mut *self.maintenance.lock();
        // What is not in the log must be there before the next failure of the log.
        self.log_unlogged()?;
        Ok(Begin { manifest: maintenance.manifest.clone(), flushed: self.view.read().flushed })
    }

    /// Writes what the log says beside samples to the files that have it, and says which there are, and how far the log was.
    fn store_beside(&self) -> Result<(u8, Ticket), Error> {
        let _alone = self.beside_gate.write();
        let (files, dir) = (&*self.env.files, &self.options.dir);
        self.metadata.store(files, dir)?;
        self.exemplars.store(files, dir)?;
        let metadata = u8::from(crate::metadata::is_there(files, dir));
        let exemplars = u8::from(crate::exemplars::is_there(files, dir));
        Ok((metadata | exemplars << 1, self.wal.barrier()))
    }

    /// Writes all that the head holds; no lock of it is held for long. Returns how far the log was at the last part, if there
    /// was one, and `None` where a series has no room in a frame.
    fn copy_head(&self, copier: &mut Copier<'_>, writer: &mut Writer) -> std::io::Result<Option<Option<Ticket>>> {
        let mut out = Copied::default();
        let mut last: Option<Ticket> = None;
        let (mut pairs, mut pair_count) = (Vec::new(), 0);
        for shard in 0..self.head.shard_count() {
            let mut first = 0;
            while let Some(at) = copier.copy(shard, first, &mut out, || self.wal.barrier()) {
                let is_too_large = out.series.len().max(out.pairs.len() + pairs.len()) > MOST_FRAME_BYTES;
                if is_too_large || last.is_some_and(|last| last.is_across_failure(at)) {
                    return Ok(None);
                }
                last = Some(at);
                pairs.extend_from_slice(&out.pairs);
                pair_count += out.pair_count;
                if pairs.len() >= PAIRS_TOGETHER {
                    writer.frame(FrameKind::Pairs, pair_count, &pairs)?;
                    pairs.clear();
                    pair_count = 0;
                }
                let kind = FrameKind::Series { shard: shard as u32, first, end: out.end, sequence: at.end() };
                writer.frame(kind, out.series_count, &out.series)?;
                first = out.end;
            }
        }
        if pair_count > 0 {
            writer.frame(FrameKind::Pairs, pair_count, &pairs)?;
        }
        Ok(Some(last))
    }
}

/// The file, and what its directory will say.
struct Writer {
    file: Box<dyn AppendFile>,
    bytes: u64,
    synced: u64,
    sync_every: u64,
    frames: Vec<Frame>,
}

impl Writer {
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.bytes += bytes.len() as u64;
        self.file.append(bytes)?;
        if self.bytes - self.synced >= self.sync_every {
            self.file.sync()?;
            self.synced = self.bytes;
        }
        Ok(())
    }

    fn frame(&mut self, kind: FrameKind, count: u32, bytes: &[u8]) -> std::io::Result<()> {
        let frame = Frame { kind, count, bytes: bytes.len() as u32, crc32c: crc32c::crc32c(bytes) };
        self.frames.push(frame);
        if bytes.is_empty() { Ok(()) } else { self.append(bytes) }
    }
}
