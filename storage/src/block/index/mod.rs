//! The index file: which series a sample file holds, where their rows stand, and where its pages are.
//!
//! Everything in it follows from the sample file, so a lost index can be built again ([`super::rebuild_index`]). In memory
//! it takes about four bytes a label and forty a series. Postings are not stored: series are sorted by metric first, and
//! the lists of the few names that matchers ask for are made when they do (see `postings`).

mod codec;
mod timelines;

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use pilaster_model::{Labels, TimeRange};

use super::divide::Divisor;
use super::page::PageRef;
use super::postings::Postings;
use super::shelf::Charge;
use super::summary::{self, Summary};
use super::timeline::Timelines;

pub(in crate::block) use codec::checksum;
#[cfg(test)]
pub(in crate::block) use timelines::encode_differences;

/// What the writer knows of a series beyond its labels and timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub rows: u32,
    /// Rows with a `value_int`.
    pub integers: u32,
    /// Rows with a `value`.
    pub doubles: u32,
    /// Rows with a `start_ts`.
    pub starts: u32,
    /// Rows with a `histogram`.
    pub histograms: u32,
}

impl Counts {
    /// Whether the index holds a [`Summary`] of the series.
    pub fn has_summary(self) -> bool {
        self.rows >= summary::MIN_ROWS && self.integers == self.rows
    }

    pub fn of(self, part: Part) -> u32 {
        match part {
            Part::Ts => self.rows,
            Part::Integers => self.integers,
            Part::Doubles => self.doubles,
            Part::Starts => self.starts,
            Part::Histograms => self.histograms,
        }
    }
}

/// A column whose pages the index lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    Ts,
    Integers,
    Doubles,
    Starts,
    Histograms,
}

impl Part {
    pub const ALL: [Part; 5] = [Part::Ts, Part::Integers, Part::Doubles, Part::Starts, Part::Histograms];
}

/// A page of a row group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Of the row group.
    pub first_row: u32,
    pub rows: u32,
    /// Values that are not null in the pages before.
    pub first_value: u32,
    pub at: PageRef,
}

/// A row group: a run of series.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    pub first_series: u32,
    pub series_count: u32,
    pub rows: u32,
    /// By [`Part`], in its order.
    pub pages: [Vec<Page>; 5],
}

impl Group {
    pub fn pages(&self, part: Part) -> &[Page] {
        &self.pages[part as usize]
    }
}

/// All that is written into an index file.
#[derive(Debug)]
pub struct Content<'a> {
    /// Of the series, in file order.
    pub labels: &'a [Labels],
    pub counts: &'a [Counts],
    pub divisors: &'a [Option<Divisor>],
    /// Of the series that have one, with their rows.
    pub summaries: &'a [(u32, Summary)],
    /// First and last timestamp of every series.
    pub ranges: &'a [TimeRange],
    pub timelines: &'a Timelines,
    pub groups: &'a [Group],
}

/// A series in memory. Row and value positions count from the start of its row group.
#[derive(Debug, Clone, Copy)]
pub struct Series {
    pub first_row: u32,
    pub rows: u32,
    pub first_integer: u32,
    pub integers: u32,
    pub first_double: u32,
    pub doubles: u32,
    /// Index of the timeline, or with [`OWN`] of the time range.
    time: u32,
    /// Where in the timeline.
    at: u32,
    pub divisor: Option<Divisor>,
}

const OWN: u32 = 1 << 31;

/// The rare columns of a series.
#[derive(Debug, Clone, Copy, Default)]
struct Extras {
    first_start: u32,
    starts: u32,
    first_histogram: u32,
    histograms: u32,
}

/// An index file, opened.
#[derive(Debug)]
pub struct Index {
    pub pairs: Pairs,
    /// Pair ids of all series, one behind the other; each series' own ascend.
    pair_ids: Vec<u32>,
    /// Where each series' pair ids end.
    pair_ends: Vec<u32>,
    series: Vec<Series>,
    extras: Vec<Extras>,
    own_ranges: Vec<TimeRange>,
    timelines: Vec<Arc<[i64]>>,
    groups: Vec<Group>,
    postings: Vec<OnceLock<Postings>>,
    summaries: Summaries,
    charge: Charge,
}

/// The section of summaries, unpacked when somebody asks: most queries do not.
#[derive(Debug, Default)]
struct Summaries {
    packed: Vec<u8>,
    raw_len: u64,
    /// Ids of the series that have one, ascending, and theirs; empty where the section is malformed.
    unpacked: OnceLock<Vec<(u32, Summary)>>,
}

/// Every label pair of the block once, ascending by name, then value: a pair's id is its rank.
#[derive(Debug, Default)]
pub struct Pairs {
    text: String,
    /// Ends of names in `text` and the id of each name's first pair.
    names: Vec<Name>,
    /// Start and end of each pair's value in `text`.
    values: Vec<(u32, u32)>,
}

#[derive(Debug)]
struct Name {
    start: u32,
    end: u32,
    first_pair: u32,
}

impl Pairs {
    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn name_count(&self) -> usize {
        self.names.len()
    }

    pub fn name(&self, index: usize) -> &str {
        &self.text[self.names[index].start as usize..self.names[index].end as usize]
    }

    pub fn value(&self, pair: u32) -> &str {
        let (start, end) = self.values[pair as usize];
        &self.text[start as usize..end as usize]
    }

    /// Ids of the pairs with the name at `index`.
    pub fn of_name(&self, index: usize) -> Range<u32> {
        let end = self.names.get(index + 1).map_or(self.values.len() as u32, |next| next.first_pair);
        self.names[index].first_pair..end
    }

    pub fn find_name(&self, name: &str) -> Option<usize> {
        let index = self.names.partition_point(|known| &self.text[known.start as usize..known.end as usize] < name);
        (index < self.names.len() && self.name(index) == name).then_some(index)
    }

    /// The pair with the name at `index` and this value.
    pub fn find_value(&self, index: usize, value: &str) -> Option<u32> {
        let ids = self.of_name(index);
        let values = &self.values[ids.start as usize..ids.end as usize];
        let text = |&(start, end): &(u32, u32)| &self.text[start as usize..end as usize];
        let at = values.partition_point(|known| text(known) < value);
        values.get(at).filter(|known| text(known) == value).map(|_| ids.start + at as u32)
    }

    pub fn name_of(&self, pair: u32) -> usize {
        self.names.partition_point(|name| name.first_pair <= pair) - 1
    }
}

impl Index {
    /// Counts the memory that it takes, and `more`, to `charge` from now on.
    pub fn charge_to(&mut self, charge: Charge, more: usize) {
        charge.add(self.memory_bytes() + more);
        self.charge = charge;
    }

    pub fn end_charge(&self) {
        self.charge.end();
    }

    /// Bytes of memory, about, without what is made when somebody asks for it.
    fn memory_bytes(&self) -> usize {
        let pages = |group: &Group| group.pages.iter().map(Vec::len).sum::<usize>() * size_of::<Page>();
        size_of::<Index>()
            + self.pairs.text.len()
            + size_of_val(self.pairs.names.as_slice())
            + size_of_val(self.pairs.values.as_slice())
            + (self.pair_ids.len() + self.pair_ends.len()) * size_of::<u32>()
            + size_of_val(self.series.as_slice())
            + size_of_val(self.extras.as_slice())
            + size_of_val(self.own_ranges.as_slice())
            // Two counters stand before the timestamps.
            + self.timelines.iter().map(|timeline| 32 + size_of_val(&**timeline)).sum::<usize>()
            + self.groups.iter().map(|group| size_of::<Group>() + pages(group)).sum::<usize>()
            + size_of_val(self.postings.as_slice())
            + self.summaries.packed.len()
    }

    pub fn series_count(&self) -> usize {
        self.series.len()
    }

    pub fn series(&self, id: u32) -> &Series {
        &self.series[id as usize]
    }

    fn extras(&self, id: u32) -> Extras {
        self.extras.get(id as usize).copied().unwrap_or_default()
    }

    /// Where in its row group's values of a column a series begins.
    pub fn position(&self, part: Part, id: u32) -> u32 {
        match part {
            Part::Ts => self.series(id).first_row,
            Part::Integers => self.series(id).first_integer,
            Part::Doubles => self.series(id).first_double,
            Part::Starts => self.extras(id).first_start,
            Part::Histograms => self.extras(id).first_histogram,
        }
    }

    /// How many values a series has in a column.
    pub fn count(&self, part: Part, id: u32) -> u32 {
        match part {
            Part::Ts => self.series(id).rows,
            Part::Integers => self.series(id).integers,
            Part::Doubles => self.series(id).doubles,
            Part::Starts => self.extras(id).starts,
            Part::Histograms => self.extras(id).histograms,
        }
    }

    /// What is known of all samples of a series, where it is all integers and long enough.
    pub fn summary(&self, id: u32) -> Option<Summary> {
        let all = self.summaries.unpacked.get_or_init(|| {
            let unpacked = self.unpack_summaries().unwrap_or_default();
            self.charge.add(size_of_val(unpacked.as_slice()));
            unpacked
        });
        let at = all.binary_search_by_key(&id, |(known, _)| *known).ok()?;
        Some(all[at].1)
    }

    fn unpack_summaries(&self) -> Option<Vec<(u32, Summary)>> {
        let bytes = codec::unpack(&self.summaries.packed, self.summaries.raw_len)?;
        let with = (0..self.series.len() as u32).zip(&self.series).filter(|(_, series)| {
            Counts { rows: series.rows, integers: series.integers, ..Counts::default() }.has_summary()
        });
        let (ids, rows): (Vec<u32>, Vec<u32>) = with.map(|(id, series)| (id, series.rows)).unzip();
        Some(ids.into_iter().zip(summary::decode(&bytes, &rows)?).collect())
    }

    #[cfg(test)]
    pub fn timelines(&self) -> &[Arc<[i64]>] {
        &self.timelines
    }

    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The row group of a series.
    pub fn group_of(&self, id: u32) -> usize {
        self.groups.partition_point(|group| group.first_series <= id) - 1
    }

    /// Ids of a series' label pairs, ascending.
    pub fn pair_ids(&self, id: u32) -> &[u32] {
        let start = if id == 0 { 0 } else { self.pair_ends[id as usize - 1] };
        &self.pair_ids[start as usize..self.pair_ends[id as usize] as usize]
    }

    pub fn labels(&self, id: u32) -> Labels {
        Labels::from_sorted_pairs(
            self.pair_ids(id).iter().map(|&pair| (self.pairs.name(self.pairs.name_of(pair)), self.pairs.value(pair))),
        )
    }

    /// Whether `labels` are those of a series.
    pub fn has_labels(&self, id: u32, labels: &Labels) -> bool {
        let ids = self.pair_ids(id);
        // Values differ more often than names.
        let same = |(&pair, (name, value)): (&u32, (&str, &str))| {
            self.pairs.value(pair) == value && self.pairs.name(self.pairs.name_of(pair)) == name
        };
        ids.len() == labels.len() && ids.iter().zip(labels.iter()).all(same)
    }

    /// The pair of a series among `ids`, the pairs of one name.
    pub fn pair_among(&self, series: u32, ids: &Range<u32>) -> Option<u32> {
        self.pair_ids(series).iter().copied().find(|pair| ids.contains(pair))
    }

    /// Series by value of the name at `index`; made at the first call.
    pub fn postings(&self, index: usize) -> &Postings {
        self.postings[index].get_or_init(|| {
            let ids = self.pairs.of_name(index);
            let series = 0..self.series.len() as u32;
            let made = Postings::of(&ids, series.filter_map(|series| Some((self.pair_among(series, &ids)?, series))));
            self.charge.add(made.memory_bytes());
            made
        })
    }

    /// First and last timestamp of a series.
    pub fn range(&self, id: u32) -> TimeRange {
        match self.timestamps(id) {
            Ok((timeline, rows)) => TimeRange::new(timeline[rows.start], timeline[rows.end - 1]),
            Err(range) => range,
        }
    }

    /// The timeline of a series and the part of it that is the series'; its first and last timestamp where it has none.
    pub fn timestamps(&self, id: u32) -> Result<(&Arc<[i64]>, Range<usize>), TimeRange> {
        let series = self.series(id);
        if series.time & OWN == 0 {
            let at = series.at as usize;
            Ok((&self.timelines[series.time as usize], at..at + series.rows as usize))
        } else {
            Err(self.own_ranges[(series.time & !OWN) as usize])
        }
    }
}
