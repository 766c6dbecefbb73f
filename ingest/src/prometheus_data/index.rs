//! The index of a block: its texts, and labels and chunks of each series.
//!
//! ```text
//! magic, version | texts, ascending | series, each at a multiple of 16 | ... | table of contents
//! ```
//!
//! Texts ascend, so comparing their numbers compares them: series are put into the order of our blocks without their
//! labels in memory.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use pilaster_model::{Labels, METRIC_NAME};
use pilaster_storage::block::OrderKey;
use pilaster_storage::frame::crc32c;

use super::DataError;
use super::bytes::Bytes;
use super::error::Malformed;

const MAGIC: u32 = 0xbaaa_d700;
const CONTENTS_BYTES: u64 = 52;
/// Read at once while series are listed.
const WINDOW_BYTES: usize = 4 << 20;
/// Longer entries are taken for damage.
const MOST_ENTRY_BYTES: u64 = 1 << 30;

/// Where a series stands in the index.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    bytes: u32,
}

/// A chunk of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRef {
    pub min_ms: i64,
    pub max_ms: i64,
    /// From 0.
    pub segment: u32,
    pub offset: u32,
}

/// A series of the index.
#[derive(Debug, Clone)]
pub struct SeriesEntry {
    /// What tombstones call it.
    pub reference: u64,
    pub labels: Labels,
    /// Ascending by time.
    pub chunks: Vec<ChunkRef>,
}

pub struct Index {
    path: PathBuf,
    file: File,
    texts: Texts,
    /// In the order of blocks.
    places: Vec<Place>,
}

struct Texts {
    bytes: Vec<u8>,
    /// Begin of each text in `bytes`, and the end of the last.
    starts: Vec<u32>,
}

impl Texts {
    fn parse(body: Vec<u8>) -> Result<Texts, Malformed> {
        let mut rest = Bytes(&body);
        let count = rest.be32()? as usize;
        if count > rest.0.len() {
            return Err(Malformed("more texts than bytes"));
        }
        let mut texts = Texts { bytes: Vec::with_capacity(rest.0.len()), starts: Vec::with_capacity(count + 1) };
        for _ in 0..count {
            texts.starts.push(texts.bytes.len() as u32);
            texts.bytes.extend_from_slice(rest.text()?.as_bytes());
        }
        if u32::try_from(texts.bytes.len()).is_err() {
            return Err(Malformed("more than 4 GiB of texts"));
        }
        texts.starts.push(texts.bytes.len() as u32);
        Ok(texts)
    }

    fn len(&self) -> usize {
        self.starts.len() - 1
    }

    fn get(&self, number: u32) -> Result<&str, Malformed> {
        let at = number as usize;
        let (Some(&start), Some(&end)) = (self.starts.get(at), self.starts.get(at + 1)) else {
            return Err(Malformed("names a text that is not there"));
        };
        // They were texts one by one, and are cut where they were.
        std::str::from_utf8(&self.bytes[start as usize..end as usize]).map_err(|_| Malformed("a text is not UTF-8"))
    }

    fn find(&self, text: &str) -> Option<u32> {
        let all = (0..self.len() as u32).collect::<Vec<_>>();
        all.binary_search_by(|&number| self.get(number).unwrap_or_default().cmp(text)).ok().map(|at| all[at])
    }

    /// Whether comparing numbers is comparing texts, with a NUL behind each.
    fn numbers_compare(&self) -> bool {
        let ascending = (1..self.len() as u32).all(|number| self.get(number - 1).ok() < self.get(number).ok());
        ascending && !self.bytes.contains(&0)
    }
}

impl Index {
    /// Reads texts and the place of every series. Damaged series are left out and told to `damage`.
    pub fn open(dir: &Path, damage: &mut dyn FnMut(DataError)) -> Result<Index, DataError> {
        let path = dir.join("index");
        let file = File::open(&path).map_err(DataError::io("open", &path))?;
        let len = file.metadata().map_err(DataError::io("open", &path))?.len();
        let corrupt = |offset: u64| {
            let path = path.clone();
            move |Malformed(reason)| DataError::corrupt(&path, offset, reason)
        };
        let read = |offset: u64, bytes: usize| -> Result<Vec<u8>, DataError> {
            if offset.checked_add(bytes as u64).is_none_or(|end| end > len) {
                return Err(DataError::corrupt(&path, offset, "cut short"));
            }
            let mut read = vec![0; bytes];
            file.read_exact_at(&mut read, offset).map_err(DataError::io("read", &path))?;
            Ok(read)
        };
        let head = read(0, 5)?;
        if Bytes(&head).be32() != Ok(MAGIC) {
            return Err(DataError::corrupt(&path, 0, "does not begin as an index does"));
        }
        if head[4] != 2 {
            return Err(DataError::unknown(&path, format!("version {} of the index is not known", head[4])));
        }
        let contents_at = len.saturating_sub(CONTENTS_BYTES);
        let contents = checked(read(contents_at, CONTENTS_BYTES as usize)?).map_err(corrupt(contents_at))?;
        let mut sections = [0; 6];
        let mut rest = Bytes(&contents);
        for section in &mut sections {
            *section = rest.be64().map_err(corrupt(contents_at))?;
        }
        let [texts_at, series_at, others @ ..] = sections;
        let next = |from: u64| others.into_iter().chain([contents_at]).filter(|at| *at > from).min();
        let series_end = next(series_at).unwrap_or(contents_at);

        let bytes = u32::from_be_bytes(read(texts_at, 4)?.try_into().unwrap_or_default());
        let body = checked(read(texts_at + 4, bytes as usize + 4)?).map_err(corrupt(texts_at))?;
        let texts = Texts::parse(body).map_err(corrupt(texts_at))?;
        let mut index = Index { path: path.clone(), file, texts, places: Vec::new() };
        index.list(series_at, series_end, damage)?;
        Ok(index)
    }

    /// Finds all series in `[offset, end)` and puts them into the order of blocks.
    fn list(&mut self, mut offset: u64, end: u64, damage: &mut dyn FnMut(DataError)) -> Result<(), DataError> {
        let mut keys = Keys::new(&self.texts);
        let mut damaged_at = None;
        let mut window = (0, Vec::new());
        while offset < end {
            match self.entry(&mut window, offset, end)? {
                Entry::Padding => offset += 16 - offset % 16,
                Entry::Whole { place, body_at, next } => {
                    let body = &window.1[body_at..body_at + place.bytes as usize];
                    match keys.push(body, &self.texts) {
                        Ok(()) => {
                            self.places.push(place);
                            if let Some(from) = damaged_at.take() {
                                damage(DataError::corrupt(&self.path, from, lost_series(from, offset)));
                            }
                        }
                        Err(Malformed(reason)) => damage(DataError::corrupt(&self.path, offset, reason)),
                    }
                    offset = next.next_multiple_of(16);
                }
                Entry::Damaged => {
                    damaged_at.get_or_insert(offset);
                    offset += 16 - offset % 16;
                }
            }
        }
        if let Some(from) = damaged_at {
            damage(DataError::corrupt(&self.path, from, lost_series(from, end)));
        }
        self.places = keys.into_order(std::mem::take(&mut self.places));
        Ok(())
    }

    /// The entry at `offset`, in a window that is moved where it must be.
    fn entry(&self, window: &mut (u64, Vec<u8>), offset: u64, end: u64) -> Result<Entry, DataError> {
        let mut want = WINDOW_BYTES as u64;
        loop {
            let at = offset.wrapping_sub(window.0) as usize;
            let there = if offset >= window.0 { window.1.get(at..).unwrap_or_default() } else { &[] };
            let whole = window.0 + window.1.len() as u64 >= end;
            let mut rest = Bytes(there);
            let parsed = rest.uvarint();
            if parsed == Ok(0) && !there.is_empty() {
                return Ok(Entry::Padding);
            }
            if let Ok(bytes) = parsed {
                let head = there.len() - rest.0.len();
                let needed = head as u64 + bytes.min(MOST_ENTRY_BYTES) + 4;
                if bytes > MOST_ENTRY_BYTES || offset + needed > end {
                    return Ok(Entry::Damaged);
                }
                if let (Ok(body), Ok(checksum)) = (rest.take(bytes as usize), rest.be32()) {
                    if crc32c(body) != checksum {
                        return Ok(Entry::Damaged);
                    }
                    let place = Place { offset: offset + head as u64, bytes: bytes as u32 };
                    return Ok(Entry::Whole { place, body_at: at + head, next: offset + needed });
                }
                want = want.max(needed);
            } else if there.len() >= 10 || (whole && !there.is_empty()) {
                return Ok(Entry::Damaged);
            }
            let bytes = want.min(end - offset) as usize;
            window.0 = offset;
            window.1.resize(bytes, 0);
            self.file.read_exact_at(&mut window.1, offset).map_err(DataError::io("read", &self.path))?;
        }
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// The series number `number` in the order of blocks, with its chunks that overlap `[min_ms, max_ms]`.
    pub fn series(&self, number: usize, min_ms: i64, max_ms: i64) -> Result<SeriesEntry, DataError> {
        let place = self.places[number];
        let mut bytes = vec![0; place.bytes as usize + 4];
        self.file.read_exact_at(&mut bytes, place.offset).map_err(DataError::io("read", &self.path))?;
        let corrupt = |Malformed(reason)| DataError::corrupt(&self.path, place.offset, reason);
        let body = checked(bytes).map_err(corrupt)?;
        parse_series(&body, &self.texts, min_ms, max_ms)
            .map(|(labels, chunks)| SeriesEntry { reference: place.offset / 16, labels, chunks })
            .map_err(corrupt)
    }
}

fn lost_series(from: u64, to: u64) -> String {
    format!("series in the {} bytes from here on have no right checksum", to - from)
}

enum Entry {
    Padding,
    Whole { place: Place, body_at: usize, next: u64 },
    Damaged,
}

/// `bytes` without the checksum behind them, where it is right.
fn checked(mut bytes: Vec<u8>) -> Result<Vec<u8>, Malformed> {
    let Some((body, checksum)) = bytes.split_last_chunk::<4>() else { return Err(Malformed("cut short")) };
    if crc32c(body) != u32::from_be_bytes(*checksum) {
        return Err(Malformed("checksum does not match"));
    }
    bytes.truncate(bytes.len() - 4);
    Ok(bytes)
}

fn text_number(rest: &mut Bytes) -> Result<u32, Malformed> {
    u32::try_from(rest.uvarint()?).map_err(|_| Malformed("names a text that is not there"))
}

fn parse_labels(rest: &mut Bytes, texts: &Texts) -> Result<Labels, Malformed> {
    let count = rest.count()?;
    let mut pairs = Vec::with_capacity(count);
    for _ in 0..count {
        let (name, value) = (text_number(rest)?, text_number(rest)?);
        pairs.push((texts.get(name)?, texts.get(value)?));
    }
    let sorted = pairs.windows(2).all(|pair| pair[0].0 < pair[1].0) && pairs.iter().all(|pair| !pair.1.is_empty());
    Ok(if sorted { Labels::from_sorted_pairs(pairs) } else { Labels::from_pairs(pairs) })
}

fn parse_series(body: &[u8], texts: &Texts, from_ms: i64, to_ms: i64) -> Result<(Labels, Vec<ChunkRef>), Malformed> {
    let mut rest = Bytes(body);
    let labels = parse_labels(&mut rest, texts)?;
    let count = rest.count()?;
    let mut chunks = Vec::new();
    let (mut end_ms, mut reference) = (0_i64, 0_u64);
    for number in 0..count {
        let min_ms = if number == 0 { rest.varint()? } else { end_ms.wrapping_add(rest.uvarint()? as i64) };
        let max_ms = min_ms.wrapping_add(rest.uvarint()? as i64);
        let moved = if number == 0 { rest.uvarint()? } else { rest.varint()? as u64 };
        (end_ms, reference) = (max_ms, reference.wrapping_add(moved));
        if min_ms <= to_ms && max_ms >= from_ms {
            chunks.push(ChunkRef { min_ms, max_ms, segment: (reference >> 32) as u32, offset: reference as u32 });
        }
    }
    Ok((labels, chunks))
}

/// What series are sorted by.
enum Keys {
    /// Numbers of texts, plus one: metric, job, instance, the other labels, none, `le`. See [`OrderKey`].
    Numbers { keys: Vec<u32>, starts: Vec<usize>, special: [Option<u32>; 4] },
    /// Where texts hold NULs, or do not ascend.
    Texts(Vec<OrderKey>),
}

impl Keys {
    fn new(texts: &Texts) -> Keys {
        if !texts.numbers_compare() {
            return Keys::Texts(Vec::new());
        }
        let special = [METRIC_NAME, "job", "instance", "le"].map(|name| texts.find(name));
        Keys::Numbers { keys: Vec::new(), starts: Vec::new(), special }
    }

    fn push(&mut self, body: &[u8], texts: &Texts) -> Result<(), Malformed> {
        let (keys, starts, special) = match self {
            Keys::Texts(keys) => {
                keys.push(OrderKey::of(&parse_labels(&mut Bytes(body), texts)?));
                return Ok(());
            }
            Keys::Numbers { keys, starts, special } => (keys, starts, *special),
        };
        let mut rest = Bytes(body);
        let count = rest.count()?;
        let start = keys.len();
        let mut put = || {
            keys.extend([0; 3]);
            let mut le = 0;
            for _ in 0..count {
                let (name, value) = (text_number(&mut rest)?, text_number(&mut rest)?);
                if name.max(value) as usize >= texts.len() {
                    return Err(Malformed("names a text that is not there"));
                }
                let rank = if texts.get(value)?.is_empty() { 0 } else { value + 1 };
                match special.iter().position(|known| *known == Some(name)) {
                    Some(3) => le = rank,
                    Some(at) => keys[start + at] = rank,
                    None if rank == 0 => {}
                    None => keys.extend([name + 1, rank]),
                }
            }
            keys.extend([0, le]);
            Ok(())
        };
        if let Err(error) = put() {
            keys.truncate(start);
            return Err(error);
        }
        starts.push(start);
        Ok(())
    }

    fn into_order(self, places: Vec<Place>) -> Vec<Place> {
        let mut order: Vec<u32> = (0..places.len() as u32).collect();
        match &self {
            Keys::Numbers { keys, starts, .. } => {
                let key = |series: u32| {
                    let at = series as usize;
                    &keys[starts[at]..starts.get(at + 1).copied().unwrap_or(keys.len())]
                };
                order.sort_by(|&a, &b| key(a).cmp(key(b)));
            }
            Keys::Texts(keys) => order.sort_by(|&a, &b| keys[a as usize].cmp(&keys[b as usize])),
        }
        order.into_iter().map(|at| places[at as usize]).collect()
    }
}
