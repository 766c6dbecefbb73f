//! Appending to the log: group commit.
//!
//! Lock order: callers may hold locks of the head while they enqueue; nothing here calls back but `labels_of`.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard};
use pilaster_model::{Histogram, Labels};

use super::WalError;
use super::codec::{Record, WalSample, encode_histograms, encode_samples, pack_series};
use super::extras::{WalExemplar, encode_exemplars, encode_metadata};
use super::named::NamedSeries;
use super::replay::{Replay, replay};
use super::segment::{
    self, RawRecord, SegmentHeader, TYPE_EXEMPLARS, TYPE_HISTOGRAMS, TYPE_METADATA, TYPE_SAMPLES, TYPE_SERIES,
};
use super::tail::{LogPlace, LogTail};
use crate::Metadata;
use crate::env::{AppendFile, Env};

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalSync {
    /// When it is on disk.
    Commit,
    /// When the operating system has it; a power cut loses what it had not written. Prometheus' behaviour.
    Written,
}

#[derive(Debug, Clone, Copy)]
pub struct WalOptions {
    /// A segment that has reached this size is followed by a new one.
    pub segment_bytes: usize,
    pub sync: WalSync,
}

impl Default for WalOptions {
    fn default() -> WalOptions {
        WalOptions { segment_bytes: 64 << 20, sync: WalSync::Commit }
    }
}

/// Bytes waiting in memory beyond which writers wait before they add more.
const MAX_PENDING_BYTES: usize = 32 << 20;
/// A segment has at least so many times the bytes of its names besides.
const NAMED_SHARE: usize = 4;
/// Failures that are remembered for writers that still wait.
const MAX_FAILURES: usize = 256;

/// A claim on records that are in memory and on their way to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[must_use = "what was not waited for is not acknowledged"]
pub struct Ticket {
    /// Sequence of the last record; meaningful within `epoch`.
    sequence: u64,
    /// Counts failures: after one, sequences that were not written are given out again.
    epoch: u64,
}

impl Ticket {
    /// The sequence behind its last record.
    pub fn end(self) -> u64 {
        self.sequence + 1
    }

    /// Whether the log has failed between the two: sequences after that are not those of before.
    pub fn is_across_failure(self, other: Ticket) -> bool {
        self.epoch != other.epoch
    }
}

/// The write-ahead log of one data directory.
#[derive(Debug)]
pub struct Wal {
    env: Env,
    dir: PathBuf,
    options: WalOptions,
    state: Mutex<State>,
    /// Signalled when a group is done.
    progress: Condvar,
}

#[derive(Debug)]
struct State {
    /// Records in order, cut where a new segment begins.
    pending: VecDeque<Chunk>,
    pending_bytes: usize,
    next_sequence: u64,
    /// The last record that was written as [`WalOptions::sync`] demands: acknowledged.
    done_sequence: u64,
    /// The last record that is known to be on disk; stamped into records.
    durable_sequence: u64,
    epoch: u64,
    /// Why recent epochs ended, and the last sequence that was done by then.
    failures: BTreeMap<u64, (WalError, u64)>,
    /// Oldest first. The last is the one that pending records go to.
    segments: VecDeque<Segment>,
    /// Bytes of the current segment, `usize::MAX` where the next record must begin a new one.
    segment_bytes: usize,
    /// Those of them that name series.
    named_bytes: usize,
    /// Series that the current segment has named.
    named: NamedSeries,
    /// The highest segment number ever used: none is used twice, even when all segments are gone.
    last_number: u64,
    /// Absent while a writer is out writing with it.
    output: Option<Output>,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    number: u64,
    first_sequence: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    /// Set where the chunk begins a segment: its number and first sequence.
    new_segment: Option<(u64, u64)>,
    last_sequence: u64,
}

/// The file that is written to.
#[derive(Debug)]
struct Output {
    file: Option<Box<dyn AppendFile>>,
    path: PathBuf,
    written_bytes: u64,
    /// Length of the part that holds only acknowledged records.
    good_bytes: u64,
    segment_id: u64,
}

impl Wal {
    /// Opens the log in `dir`, feeding what it holds in `tail` to `apply` (segment number, some of its records with their
    /// sequences) first. New records go to a new segment.
    pub fn open(
        env: Env,
        dir: &Path,
        options: WalOptions,
        tail: &LogTail,
        mut apply: impl FnMut(u64, Vec<(u64, Record)>),
    ) -> Result<(Wal, Replay), WalError> {
        let failed = |error: io::Error| wal_error("read", dir, &error);
        env.files.create_dir_all(dir).map_err(failed)?;
        let mut firsts = tail.left_out.clone();
        let found = replay(&*env.files, dir, tail, |number, records| {
            firsts.entry(number).or_insert(records.first().map_or(0, |(sequence, _)| *sequence));
            apply(number, records);
        })
        .map_err(failed)?;
        let mut segments = VecDeque::new();
        // A segment without a readable record can go when the next one that has some may go.
        let mut first_sequence = found.last_sequence + 1;
        for path in env.files.list(dir).map_err(failed)?.iter().rev() {
            if let Some(number) = segment::number(path) {
                first_sequence = firsts.get(&number).copied().unwrap_or(first_sequence);
                let bytes = env.files.len(path).map_err(failed)?;
                segments.push_front(Segment { number, first_sequence, bytes });
            }
        }
        let state = State {
            pending: VecDeque::new(),
            pending_bytes: 0,
            next_sequence: found.last_sequence + 1,
            done_sequence: found.last_sequence,
            durable_sequence: found.last_sequence,
            epoch: 0,
            failures: BTreeMap::new(),
            segments,
            segment_bytes: usize::MAX,
            named_bytes: 0,
            named: NamedSeries::default(),
            last_number: found.last_segment_number,
            output: Some(Output {
                file: None,
                path: PathBuf::new(),
                written_bytes: 0,
                good_bytes: 0,
                segment_id: found.last_segment_id,
            }),
        };
        Ok((Wal { env, dir: dir.to_owned(), options, state: Mutex::new(state), progress: Condvar::new() }, found))
    }

    /// Puts `samples` in line, in the order of calls. `labels_of` is asked for series that the current segment has
    /// not named yet. Waits only while too much is pending.
    pub fn enqueue(&self, samples: &[WalSample], labels_of: &dyn Fn(u64) -> Labels) -> Ticket {
        self.enqueue_all(samples, &[], labels_of)
    }

    /// [`Wal::enqueue`] for samples of both kinds.
    pub fn enqueue_all(
        &self,
        samples: &[WalSample],
        histograms: &[(WalSample, Arc<Histogram>)],
        labels_of: &dyn Fn(u64) -> Labels,
    ) -> Ticket {
        let mut payload = Vec::new();
        let flags = encode_samples(samples, &mut payload);
        let mut histogram_payload = Vec::new();
        let histogram_flags = encode_histograms(histograms, &mut histogram_payload);
        let state = &mut *self.state.lock();
        let series = samples.iter().chain(histograms.iter().map(|(sample, _)| sample)).map(|sample| sample.series);
        self.prepare(state, series, labels_of);
        if !samples.is_empty() || histograms.is_empty() {
            state.push(TYPE_SAMPLES, flags, &payload);
        }
        if !histograms.is_empty() {
            state.push(TYPE_HISTOGRAMS, histogram_flags, &histogram_payload);
        }
        Ticket { sequence: state.next_sequence - 1, epoch: state.epoch }
    }

    /// Puts exemplars in line. `labels_of` is asked as by [`Wal::enqueue`].
    pub fn enqueue_exemplars(&self, exemplars: &[WalExemplar], labels_of: &dyn Fn(u64) -> Labels) -> Ticket {
        let mut payload = Vec::new();
        encode_exemplars(exemplars, &mut payload);
        let state = &mut *self.state.lock();
        self.prepare(state, exemplars.iter().map(|exemplar| exemplar.series), labels_of);
        state.push(TYPE_EXEMPLARS, 0, &payload);
        Ticket { sequence: state.next_sequence - 1, epoch: state.epoch }
    }

    /// Puts what is said about metrics in line.
    pub fn enqueue_metadata(&self, metadata: &[Metadata]) -> Ticket {
        let mut payload = Vec::new();
        encode_metadata(metadata, &mut payload);
        let state = &mut *self.state.lock();
        self.prepare(state, std::iter::empty(), &|_| Labels::empty());
        state.push(TYPE_METADATA, 0, &payload);
        Ticket { sequence: state.next_sequence - 1, epoch: state.epoch }
    }

    /// Begins a new segment where the current one is full, and names those of `series` that it has not named yet.
    fn prepare(&self, state: &mut State, series: impl Iterator<Item = u64>, labels_of: &dyn Fn(u64) -> Labels) {
        // Names do not count, and are a small part of a segment: with many series it would hold little else.
        let wanted_bytes = self.options.segment_bytes.max(NAMED_SHARE.saturating_mul(state.named_bytes));
        if state.segment_bytes >= wanted_bytes.saturating_add(state.named_bytes) {
            state.last_number += 1;
            let (number, first_sequence) = (state.last_number, state.next_sequence);
            state.segments.push_back(Segment { number, first_sequence, bytes: 0 });
            state.named.clear();
            (state.segment_bytes, state.named_bytes) = (0, 0);
            let new_segment = Some((number, state.next_sequence));
            state.pending.push_back(Chunk { bytes: Vec::new(), new_segment, last_sequence: 0 });
        }
        let mut unnamed: Vec<u64> = series.filter(|series| state.named.insert(*series)).collect();
        if !unnamed.is_empty() {
            unnamed.sort_unstable();
            let series: Vec<_> = unnamed.into_iter().map(|series| (series, labels_of(series))).collect();
            let (payload, flags) = pack_series(&series);
            state.push(TYPE_SERIES, flags, &payload);
            state.named_bytes += RawRecord::total_bytes(payload.len());
        }
    }

    /// A claim on everything enqueued so far.
    pub fn barrier(&self) -> Ticket {
        let state = self.state.lock();
        Ticket { sequence: state.next_sequence - 1, epoch: state.epoch }
    }

    /// Makes everything durable that was acknowledged so far, also where that does not take it.
    ///
    /// # Errors
    /// As for [`Wal::wait`].
    pub fn sync_all(&self) -> Result<(), WalError> {
        if self.options.sync == WalSync::Commit {
            return Ok(());
        }
        let mut state = self.state.lock();
        loop {
            let Some(mut output) = state.output.take() else {
                self.progress.wait(&mut state);
                continue;
            };
            let done_sequence = state.done_sequence;
            let synced = MutexGuard::unlocked(&mut state, || self.sync(&mut output));
            match &synced {
                Ok(()) => state.durable_sequence = state.durable_sequence.max(done_sequence),
                Err(error) => {
                    MutexGuard::unlocked(&mut state, || self.give_up(&mut output));
                    state.fail(error.clone());
                }
            }
            state.output = Some(output);
            self.progress.notify_all();
            return synced;
        }
    }

    /// Where the record with this sequence stands, which was waited for. `None` where the log does not have it any more.
    ///
    /// # Errors
    /// The segment cannot be read.
    pub fn place_of(&self, sequence: u64) -> Result<Option<LogPlace>, WalError> {
        let begins = |segment: &&Segment| segment.first_sequence <= sequence;
        let Some(number) = self.state.lock().segments.iter().rfind(begins).map(|segment| segment.number) else {
            return Ok(None);
        };
        let path = segment::path(&self.dir, number);
        match LogPlace::find(&*self.env.files, &path, number, sequence) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            found => found.map_err(|error| wal_error("read", &path, &error)),
        }
    }

    /// Gives out no sequence below `sequence` any more. Call before the first [`Wal::enqueue`].
    pub fn skip_to(&self, sequence: u64) {
        let state = &mut *self.state.lock();
        if state.next_sequence < sequence {
            state.next_sequence = sequence;
            state.done_sequence = sequence - 1;
            state.durable_sequence = sequence - 1;
            state.segment_bytes = usize::MAX;
        }
    }

    /// Blocks while so much waits in memory that more would not help; call before taking locks and [`Wal::enqueue`].
    pub fn wait_for_room(&self) {
        let mut state = self.state.lock();
        while state.pending_bytes > MAX_PENDING_BYTES {
            if state.output.is_some() {
                state = self.write_group(state);
            } else {
                self.progress.wait(&mut state);
            }
        }
    }

    /// Blocks until the ticket's records are durable.
    ///
    /// # Errors
    /// They could not be written; nothing of them was acknowledged, though a part may turn up after a restart.
    pub fn wait(&self, ticket: Ticket) -> Result<(), WalError> {
        let mut state = self.state.lock();
        loop {
            if ticket.epoch != state.epoch {
                // Written before the failure that ended its epoch, or not at all.
                let forgotten = || state.failures.values().next();
                return match state.failures.get(&ticket.epoch) {
                    Some((_, done)) if ticket.sequence <= *done => Ok(()),
                    Some((error, _)) => Err(error.clone()),
                    // Answered as failed, never the other way.
                    None => forgotten().map_or(Ok(()), |(error, _)| Err(error.clone())),
                };
            }
            if ticket.sequence <= state.done_sequence {
                return Ok(());
            }
            if state.output.is_some() {
                state = self.write_group(state);
            } else {
                self.progress.wait(&mut state);
            }
        }
    }

    /// Enqueues and waits.
    pub fn append(&self, samples: &[WalSample], labels_of: &dyn Fn(u64) -> Labels) -> Result<(), WalError> {
        self.wait_for_room();
        let ticket = self.enqueue(samples, labels_of);
        self.wait(ticket)
    }

    /// Writes and syncs everything pending, on behalf of all who wait.
    fn write_group<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let Some(mut output) = state.output.take() else { return state };
        let chunks = std::mem::take(&mut state.pending);
        state.pending_bytes = 0;
        let last_sequence = chunks.back().map_or(state.done_sequence, |chunk| chunk.last_sequence);
        let written = MutexGuard::unlocked(&mut state, || self.write(&mut output, chunks));
        match written {
            Ok(durable_sequence) => {
                output.good_bytes = output.written_bytes;
                state.done_sequence = last_sequence;
                state.durable_sequence = durable_sequence.unwrap_or(state.durable_sequence);
            }
            Err(error) => {
                MutexGuard::unlocked(&mut state, || self.give_up(&mut output));
                state.fail(error);
            }
        }
        state.output = Some(output);
        self.progress.notify_all();
        state
    }

    /// Returns the last sequence that is on disk now, where that is known.
    fn write(&self, output: &mut Output, chunks: VecDeque<Chunk>) -> Result<Option<u64>, WalError> {
        let mut last_sequence = None;
        let mut durable_sequence = None;
        for chunk in chunks {
            if let Some((number, first_sequence)) = chunk.new_segment {
                self.sync(output)?;
                durable_sequence = Some(first_sequence - 1);
                let header = SegmentHeader {
                    id: self.env.random.next_u64() | 1,
                    first_sequence,
                    previous_id: output.segment_id,
                };
                output.path = segment::path(&self.dir, number);
                (output.written_bytes, output.good_bytes) = (0, 0);
                output.file = None;
                let create = |error: io::Error| wal_error("create", &output.path, &error);
                output.file = Some(self.env.files.create(&output.path).map_err(create)?);
                output.append(&header.encode())?;
                output.segment_id = header.id;
                self.env.files.sync_dir(&self.dir).map_err(|error| wal_error("sync", &self.dir, &error))?;
            }
            output.append(&chunk.bytes)?;
            last_sequence = Some(chunk.last_sequence);
        }
        match self.options.sync {
            WalSync::Commit => self.sync(output).map(|()| last_sequence.or(durable_sequence)),
            WalSync::Written => Ok(durable_sequence),
        }
    }

    fn sync(&self, output: &mut Output) -> Result<(), WalError> {
        match &mut output.file {
            Some(file) => file.sync().map_err(|error| wal_error("sync", &output.path, &error)),
            None => Ok(()),
        }
    }

    /// Cuts off what a failed write left, as far as the disk lets us; replay copes with the rest. The file is never
    /// written again: after a failed sync nobody knows what it holds.
    fn give_up(&self, output: &mut Output) {
        if let Some(mut file) = output.file.take() {
            let cut = file.truncate(output.good_bytes).and_then(|()| file.sync());
            if let Err(error) = cut {
                tracing::warn!(path = ?output.path, %error, "could not cut a failed write off the write-ahead log");
            }
        }
    }

    /// Removes segments whose records all have sequences below `sequence`. The newest segment stays.
    pub fn truncate_before(&self, sequence: u64) -> Result<usize, WalError> {
        let mut removed = 0;
        loop {
            let number = {
                let state = self.state.lock();
                match (state.segments.front(), state.segments.get(1)) {
                    (Some(oldest), Some(next)) if next.first_sequence <= sequence => oldest.number,
                    (Some(_) | None, Some(_) | None) => break,
                }
            };
            let path = segment::path(&self.dir, number);
            match self.env.files.remove(&path) {
                Ok(()) => removed += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(wal_error("remove", &path, &error)),
            }
            self.state.lock().segments.pop_front();
        }
        if removed > 0 {
            self.env.files.sync_dir(&self.dir).map_err(|error| wal_error("sync", &self.dir, &error))?;
        }
        Ok(removed)
    }

    /// The next record begins a new segment, so that [`Wal::truncate_before`] can remove the current one.
    pub fn rotate(&self) {
        self.state.lock().segment_bytes = usize::MAX;
    }

    /// The sequence that the next record will have.
    pub fn next_sequence(&self) -> u64 {
        self.state.lock().next_sequence
    }

    pub fn segment_count(&self) -> usize {
        self.state.lock().segments.len()
    }

    /// Bytes of all segments, what still waits in memory included.
    pub fn size_bytes(&self) -> u64 {
        self.state.lock().segments.iter().map(|segment| segment.bytes).sum()
    }
}

impl State {
    fn push(&mut self, kind: u8, flags: u16, payload: &[u8]) {
        let record =
            RawRecord { kind, flags, sequence: self.next_sequence, durable_sequence: self.durable_sequence, payload };
        if self.pending.is_empty() {
            self.pending.push_back(Chunk { bytes: Vec::new(), new_segment: None, last_sequence: 0 });
        }
        if let Some(chunk) = self.pending.back_mut() {
            let before = chunk.bytes.len();
            record.encode(&mut chunk.bytes);
            chunk.last_sequence = self.next_sequence;
            let added = chunk.bytes.len() - before;
            self.segment_bytes = self.segment_bytes.saturating_add(added);
            self.pending_bytes += added;
            if let Some(segment) = self.segments.back_mut() {
                segment.bytes += added as u64;
            }
        }
        self.next_sequence += 1;
    }

    /// Ends the epoch: everything not done is dropped, its sequences are free again, a new segment comes next.
    fn fail(&mut self, error: WalError) {
        self.failures.insert(self.epoch, (error, self.done_sequence));
        if self.failures.len() > MAX_FAILURES {
            self.failures.pop_first();
        }
        self.epoch += 1;
        self.pending.clear();
        self.pending_bytes = 0;
        self.next_sequence = self.done_sequence + 1;
        self.segment_bytes = usize::MAX;
    }
}

impl Output {
    fn append(&mut self, bytes: &[u8]) -> Result<(), WalError> {
        let Some(file) = &mut self.file else {
            let reason = "no segment is open".to_owned();
            return Err(WalError::Io { action: "write", path: self.path.clone(), reason });
        };
        file.append(bytes).map_err(|error| wal_error("write", &self.path, &error))?;
        self.written_bytes += bytes.len() as u64;
        Ok(())
    }
}

fn wal_error(action: &'static str, path: &Path, error: &io::Error) -> WalError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            WalError::DiskFull { dir: path.parent().unwrap_or(path).to_owned() }
        }
        _ => WalError::Io { action, path: path.to_owned(), reason: error.to_string() },
    }
}
