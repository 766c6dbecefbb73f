//! Going on from a head snapshot.

use std::io;
use std::path::Path;

use rayon::prelude::*;

use super::directory::{Directory, Frame, FrameKind, MAGIC, MOST_FRAME_BYTES, TRAILER_BYTES};
use super::{Base, path, temporary};
use crate::Error;
use crate::env::Files;
use crate::head::{Flushed, Head, Restoring};
use crate::manifest::Manifest;
use crate::store::StoreOptions;
use crate::tombstone::{Tombstone, about_log};
use crate::wal::LogTail;

/// Frames that are in memory at a time, for each thread.
const FRAMES_A_THREAD: usize = 4;

/// What the files beside the log were found to be.
#[derive(Debug, Clone, Copy)]
pub struct Beside {
    /// By bits, see [`Directory::beside`]: those that are there and whole.
    pub whole: u8,
}

/// The head of the snapshot in `wal_dir`, what it has, and the rest of the log. `None` where there is none, or none that
/// fits what else is there: the log has the reason then, and the whole log is to be replayed.
///
/// # Errors
/// The operating system refuses to read the log.
pub fn load(
    files: &dyn Files,
    wal_dir: &Path,
    options: &StoreOptions,
    manifest: &Manifest,
    beside: Beside,
) -> Result<Option<(Head, Base, LogTail)>, Error> {
    // Of a process that was ended while it wrote one.
    if files.len(&temporary(wal_dir)).is_ok() {
        let _ = files.remove(&temporary(wal_dir));
    }
    let file = path(wal_dir);
    let refused = match try_load(files, &file, wal_dir, options, manifest, beside) {
        Ok(Ok(loaded)) => return Ok(Some(loaded)),
        Ok(Err(reason)) => {
            // Nothing will make it fit again.
            let _ = files.remove(&file);
            reason.to_owned()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => error.to_string(),
    };
    tracing::warn!(path = ?file, reason = refused, "the head snapshot is not used: the whole write-ahead log is replayed");
    Ok(None)
}

type Loaded = (Head, Base, LogTail);

fn try_load(
    files: &dyn Files,
    file: &Path,
    wal_dir: &Path,
    options: &StoreOptions,
    manifest: &Manifest,
    beside: Beside,
) -> io::Result<Result<Loaded, &'static str>> {
    let directory = match read_directory(files, file)? {
        Ok(directory) => directory,
        Err(reason) => return Ok(Err(reason)),
    };
    if let Some(reason) = misfit(&directory, options, manifest, beside) {
        return Ok(Err(reason));
    }
    let Some(tail) = LogTail::from(files, wal_dir, directory.begin, &directory.last)? else {
        return Ok(Err("the write-ahead log does not have the last record that it has"));
    };
    let since = directory.flushed_sequence != manifest.flushed_sequence;
    let flushed_since = since.then_some(Flushed { before_ms: manifest.closed_before_ms, epoch: 0 });
    let base = Base::new(&directory, tail.segments_left_out());
    let head = read_head(files, file, options.shards, flushed_since, directory)?;
    Ok(head.map(|head| (head, base, tail)).ok_or(DAMAGED))
}

const DAMAGED: &str = "it is damaged";

/// The directory of a snapshot whose frames lie where it says.
fn read_directory(files: &dyn Files, file: &Path) -> io::Result<Result<Directory, &'static str>> {
    let file_bytes = files.len(file)?;
    let Some(trailer_at) = file_bytes.checked_sub(TRAILER_BYTES as u64).filter(|at| *at >= MAGIC.len() as u64) else {
        return Ok(Err("it is cut short"));
    };
    if files.read_range(file, 0, MAGIC.len())? != MAGIC {
        return Ok(Err("it is of another version, or no head snapshot"));
    }
    let trailer = files.read_range(file, trailer_at, TRAILER_BYTES)?;
    let Some((offset, len, crc32c)) = Directory::place(&trailer, file_bytes) else { return Ok(Err(DAMAGED)) };
    let bytes = files.read_range(file, offset, len)?;
    if crc32c::crc32c(&bytes) != crc32c {
        return Ok(Err(DAMAGED));
    }
    let Some(directory) = Directory::decode(&bytes) else { return Ok(Err(DAMAGED)) };
    let frame_bytes: u64 = directory.frames.iter().map(|frame| u64::from(frame.bytes)).sum();
    let fits = directory.frames.iter().all(|frame| frame.bytes as usize <= MOST_FRAME_BYTES);
    Ok(if fits && MAGIC.len() as u64 + frame_bytes == offset { Ok(directory) } else { Err(DAMAGED) })
}

/// Why a snapshot is not of this log, these blocks and these options.
fn misfit(directory: &Directory, options: &StoreOptions, manifest: &Manifest, beside: Beside) -> Option<&'static str> {
    if directory.log != manifest.log {
        return Some("it is of another log");
    }
    // A flush that came later has all that was copied below its sequence. One whose manifest was not known to be written
    // may be older than what was copied.
    let same = directory.flushed_sequence == manifest.flushed_sequence
        && directory.closed_before_ms == manifest.closed_before_ms;
    let later = directory.flushed_sequence < manifest.flushed_sequence && directory.end <= manifest.flushed_sequence;
    if !same && !later {
        return Some("it is of other blocks than those that the manifest names");
    }
    let is_known = |hash: u64| directory.deletions.contains(&hash);
    if !about_log(&manifest.tombstones).into_iter().map(Tombstone::hash).all(is_known) {
        return Some("samples were deleted since");
    }
    if options.max_exemplars as u64 > directory.max_exemplars {
        return Some("more exemplars are to be kept than were");
    }
    if directory.beside & !beside.whole != 0 {
        return Some("a file beside the log is damaged or missing, and the log has what it held");
    }
    None
}

/// `None`: it is damaged.
fn read_head(
    files: &dyn Files,
    file: &Path,
    shards: usize,
    flushed_since: Option<Flushed>,
    directory: Directory,
) -> io::Result<Option<Head>> {
    let mut at = MAGIC.len() as u64;
    let (mut pairs, mut series) = (Vec::new(), Vec::new());
    for frame in directory.frames {
        match frame.kind {
            FrameKind::Pairs => pairs.push((at, frame)),
            FrameKind::Series { .. } => series.push((at, frame)),
        }
        at += u64::from(frame.bytes);
    }
    let read = |(at, frame): &(u64, Frame)| {
        let bytes = files.read_range(file, *at, frame.bytes as usize)?;
        io::Result::Ok((crc32c::crc32c(&bytes) == frame.crc32c).then_some(bytes))
    };
    let Some(mut restoring) = Restoring::new(shards, directory.names, flushed_since) else { return Ok(None) };
    let together = FRAMES_A_THREAD * rayon::current_num_threads();
    for frames in pairs.chunks(together) {
        let decode = |frame: &(u64, Frame)| {
            let bytes = read(frame)?;
            io::Result::Ok(bytes.and_then(|bytes| restoring.decode_pairs(&bytes, frame.1.count as usize)))
        };
        let decoded: Vec<Option<Vec<_>>> = frames.par_iter().map(decode).collect::<io::Result<_>>()?;
        for pairs in decoded {
            let Some(pairs) = pairs else { return Ok(None) };
            restoring.add_pairs(pairs);
        }
    }
    for frames in series.chunks(together) {
        let decode = |frame: &(u64, Frame)| {
            let bytes = read(frame)?;
            io::Result::Ok(bytes.and_then(|bytes| restoring.decode_series(&bytes, frame.1.count as usize)))
        };
        let decoded: Option<Vec<_>> =
            frames.par_iter().map(decode).collect::<io::Result<Vec<_>>>()?.into_iter().collect();
        let Some(decoded) = decoded else { return Ok(None) };
        restoring.add_series(decoded);
    }
    Ok(restoring.finish())
}
