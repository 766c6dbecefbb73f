//! `pilaster import openmetrics`: text with timestamps, as `promtool tsdb create-blocks-from openmetrics` takes it.
//!
//! Files are read piece by piece. When many samples are in memory they are written, so a long file becomes several blocks
//! for a range of time; a server merges them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use pilaster_ingest::exposition::{Entry, Format, Parser};
use pilaster_model::{Columns, Labels};
use pilaster_storage::block::OrderKey;
use pilaster_storage::{Imported, Store};

use super::{Failure, Progress, STORE, import_series, open_store, summary};
use crate::arguments::Arguments;

/// Samples in memory.
const MOST_SAMPLES: u64 = 24 << 20;
/// Of a file at a time, about: pieces end with a line.
const PIECE_BYTES: u64 = 8 << 20;
const END: &[u8] = b"# EOF";

/// Runs the command with the words behind `import openmetrics`.
pub(super) fn run(words: &[&str]) -> Result<(), Failure> {
    let arguments = Arguments::parse(words, &[&STORE[..], &[("--label", true)]].concat())?;
    if arguments.words.is_empty() {
        return Err("expected files in the OpenMetrics format".to_owned().into());
    }
    let mut labels = Vec::new();
    for pair in arguments.all("--label") {
        let (name, value) = pair.split_once('=').ok_or_else(|| format!("expected KEY=VALUE got '{pair}'"))?;
        labels.push((name.to_owned(), value.to_owned()));
    }
    let store = open_store(&arguments)?;
    let progress = Progress::new(0);
    let mut import = Import { store: &store, labels, series: HashMap::new(), gathered: Vec::new(), samples: 0 };
    let mut imported = Imported::default();
    let mut read_bytes = 0;
    for file in &arguments.words {
        read_bytes += import.read(Path::new(file), &progress, &mut imported)?;
    }
    imported += import.write()?;
    progress.finish();
    println!("{}", summary(&imported, Some(read_bytes), &progress));
    Ok(())
}

struct Import<'s> {
    store: &'s Store,
    /// Put on every series.
    labels: Vec<(String, String)>,
    /// By the text of the file.
    series: HashMap<Vec<u8>, usize>,
    gathered: Vec<(Labels, Columns)>,
    samples: u64,
}

impl Import<'_> {
    /// Reads a file; its bytes.
    fn read(&mut self, path: &Path, progress: &Progress, imported: &mut Imported) -> anyhow::Result<u64> {
        let file = File::open(path).with_context(|| format!("could not open {}", path.display()))?;
        let mut file = BufReader::with_capacity(1 << 20, file);
        let (mut lines, mut bytes) = (0, 0);
        let mut piece = Vec::new();
        let mut ended = false;
        loop {
            piece.clear();
            let failed = || format!("could not read {}", path.display());
            file.by_ref().take(PIECE_BYTES).read_to_end(&mut piece).with_context(failed)?;
            file.read_until(b'\n', &mut piece).with_context(failed)?;
            if piece.is_empty() {
                break;
            }
            bytes += piece.len() as u64;
            let text = piece.strip_suffix(b"\n").unwrap_or(&piece);
            ended = text.ends_with(END) && (text.len() == END.len() || text[text.len() - END.len() - 1] == b'\n');
            let count = piece.iter().filter(|byte| **byte == b'\n').count();
            if !ended {
                if piece.last() != Some(&b'\n') {
                    piece.push(b'\n');
                }
                piece.extend_from_slice(END);
                piece.push(b'\n');
            }
            self.parse(&piece, lines, path, progress)?;
            lines += count;
            if self.samples >= MOST_SAMPLES {
                *imported += self.write()?;
            }
        }
        if !ended {
            bail!("{}: data does not end with # EOF", path.display());
        }
        Ok(bytes)
    }

    fn parse(&mut self, piece: &[u8], lines: usize, path: &Path, progress: &Progress) -> anyhow::Result<()> {
        let mut parser = Parser::new(Format::OpenMetrics, piece);
        let mut samples = 0;
        while let Some(entry) = parser.next() {
            let entry = entry.map_err(|error| anyhow!("{}, line {}: {error}", path.display(), lines + error.line))?;
            let Entry::Sample(sample) = entry else { continue };
            let at = match self.series.get(sample.series) {
                Some(&at) => at,
                None => {
                    let given = self.labels.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into()));
                    let labels = Labels::from_pairs(parser.labels().chain(given));
                    self.series.insert(sample.series.to_vec(), self.gathered.len());
                    self.gathered.push((labels, Columns::default()));
                    self.gathered.len() - 1
                }
            };
            let (labels, gathered) = &mut self.gathered[at];
            let Some(timestamp_ms) = sample.timestamp_ms else {
                bail!("{}: expected timestamp for series {labels}, got none", path.display());
            };
            gathered.push_float(timestamp_ms, sample.value, 0);
            samples += 1;
        }
        self.samples += samples;
        progress.add(samples);
        Ok(())
    }

    /// Writes what is in memory.
    fn write(&mut self) -> anyhow::Result<Imported> {
        self.series.clear();
        self.samples = 0;
        let gathered = in_order(std::mem::take(&mut self.gathered));
        let times = || gathered.iter().flat_map(|(_, samples)| &samples.timestamps);
        let span_ms = match (times().min(), times().max()) {
            (Some(first), Some(last)) => last.saturating_sub(*first),
            _ => 0,
        };
        import_series(self.store, &gathered, span_ms)
    }
}

/// Series in the order of blocks, each label set once, each ascending by time.
pub(super) fn in_order(series: Vec<(Labels, Columns)>) -> Vec<(Labels, Columns)> {
    let mut keyed: Vec<(OrderKey, (Labels, Columns))> =
        series.into_iter().map(|one| (OrderKey::of(&one.0), one)).collect();
    // Stable: of two samples at one time the one that came first counts.
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    let mut all: Vec<(Labels, Columns)> = Vec::with_capacity(keyed.len());
    for (_, (labels, samples)) in keyed {
        match all.last_mut() {
            Some((last, before)) if *last == labels => before.extend_from(&samples),
            _ => all.push((labels, samples)),
        }
    }
    all.into_iter().map(|(labels, samples)| (labels, samples.sorted())).collect()
}
