//! Decodes what is wanted of a block's pages, each once and in file order.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use pilaster_model::{Histogram, RangeGrid, ReducedWindows, TimeRange, stale_nan};

use super::super::divide::push_quotients;
use super::super::file::Window;
use super::super::index::{Index, Page, Part};
use super::super::page::{PageDecoder, parse_runs};
use super::super::reduce::is_reducible;
use super::{Block, BlockError};

/// What is wanted of one series.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub id: u32,
    group: usize,
    cut: Cut,
}

impl Item {
    /// Of the series, inside the time range.
    pub fn rows(&self) -> Range<u32> {
        self.cut.rows.clone()
    }

    /// Whether some of these rows are left out, because no window has them.
    pub fn leaves_out(&self) -> bool {
        self.cut.kept.is_some()
    }

    /// Of the rows that are not left out.
    pub fn timestamps(&self) -> &Arc<[i64]> {
        &self.cut.timestamps
    }
}

/// The part of a timeline that is inside the time range.
#[derive(Debug, Clone)]
struct Cut {
    /// Counted from the start of the part that is the series'.
    rows: Range<u32>,
    /// The rows that windows have, ascending, where those are not all.
    kept: Option<Arc<[Range<u32>]>>,
    /// Of the rows that are kept.
    timestamps: Arc<[i64]>,
}

impl Cut {
    /// Ranges of rows, ascending.
    fn parts(&self) -> &[Range<u32>] {
        match &self.kept {
            Some(kept) => kept,
            None => std::slice::from_ref(&self.rows),
        }
    }
}

/// The page of a column that was decoded last.
#[derive(Default)]
pub(super) struct Decoded {
    window: Window,
    /// Group and page.
    page: Option<(usize, usize)>,
    integers: Vec<i64>,
    doubles: Vec<f64>,
    histograms: Vec<Arc<Histogram>>,
    /// Group and page whose levels are in `levels`.
    levels_page: Option<(usize, usize)>,
    levels: Vec<(u32, usize)>,
}

/// What a page can hold.
pub(super) trait PageValue: Clone {
    /// Decodes the first `wanted` values of a page; `None` where it holds something else.
    fn decode(decoder: &mut PageDecoder, page: &Page, body: &[u8], wanted: usize, into: &mut Decoded) -> Option<()>;
    fn decoded(from: &Decoded) -> &[Self];
}

impl PageValue for i64 {
    fn decode(decoder: &mut PageDecoder, page: &Page, body: &[u8], wanted: usize, into: &mut Decoded) -> Option<()> {
        decoder.integers(&page.at, body, wanted, &mut into.integers)
    }

    fn decoded(from: &Decoded) -> &[i64] {
        &from.integers
    }
}

impl PageValue for f64 {
    fn decode(decoder: &mut PageDecoder, page: &Page, body: &[u8], wanted: usize, into: &mut Decoded) -> Option<()> {
        decoder.doubles(&page.at, body, wanted, &mut into.doubles)
    }

    fn decoded(from: &Decoded) -> &[f64] {
        &from.doubles
    }
}

impl PageValue for Arc<Histogram> {
    fn decode(decoder: &mut PageDecoder, page: &Page, body: &[u8], wanted: usize, into: &mut Decoded) -> Option<()> {
        into.histograms.clear();
        let mut bounds: Arc<[f64]> = Arc::from([]);
        decoder.byte_arrays(&page.at, body, wanted, |bytes| {
            let (mut histogram, len) = Histogram::decode(bytes).ok()?;
            // Bounds hardly ever change: keep them once.
            if histogram.custom_bounds == bounds {
                histogram.custom_bounds = bounds.clone();
            } else {
                bounds = histogram.custom_bounds.clone();
            }
            into.histograms.push(Arc::new(histogram));
            (len == bytes.len()).then_some(())
        })
    }

    fn decoded(from: &Decoded) -> &[Arc<Histogram>] {
        &from.histograms
    }
}

pub(super) struct Reader<'a> {
    pub block: &'a Block,
    /// One of the block's, once a page is to be decoded.
    decoder: Option<PageDecoder>,
    /// By [`Part`].
    parts: [Decoded; 5],
    /// What was read ahead, ascending.
    ahead: Vec<Window>,
    integers: Vec<i64>,
    doubles: Vec<f64>,
}

impl<'a> Reader<'a> {
    pub fn new(block: &'a Block) -> Reader<'a> {
        let (integers, doubles) = (Vec::new(), Vec::new());
        Reader { block, decoder: None, parts: Default::default(), ahead: Vec::new(), integers, doubles }
    }

    /// Reads all pages that the series need, in as few requests as they lie in places. Where the index does not say which
    /// rows of a series are inside `range`, that is all its pages.
    pub fn read_ahead(
        &mut self,
        ids: &[u32],
        range: TimeRange,
        wanted: Option<&ReducedWindows>,
    ) -> Result<(), BlockError> {
        let index = &self.block.index;
        let mut places: Vec<(u64, usize)> = Vec::new();
        for &id in ids {
            let group = &index.groups()[index.group_of(id)];
            let (inside, own_timestamps) = match index.timestamps(id) {
                Ok((timeline, part)) => (rows_inside(&timeline[part], range), false),
                Err(whole) if !whole.overlaps(&range) => continue,
                Err(_) => (0..index.series(id).rows as usize, true),
            };
            if inside.is_empty() {
                continue;
            }
            let whole = index.range(id);
            let all = range.min_ms <= whole.min_ms && whole.max_ms <= range.max_ms;
            let reducible =
                wanted.is_some_and(|wanted| is_reducible(index, id, wanted, whole.min_ms, whole.max_ms, all));
            for part in Part::ALL {
                let count = index.count(part, id);
                if count == 0 || (reducible && part != Part::Ts) || (part == Part::Ts && !own_timestamps) {
                    continue;
                }
                let first = index.position(part, id);
                // One value a row: then the rows say which.
                let values = if count == index.series(id).rows {
                    first + inside.start as u32..first + inside.end as u32
                } else {
                    first..first + count
                };
                let pages = group.pages(part);
                let from = pages.partition_point(|page| page.first_value + page.at.values <= values.start);
                let wanted = pages[from..].iter().take_while(|page| page.first_value < values.end);
                for page in wanted {
                    let place = (page.at.offset, page.at.header_len as usize + page.at.stored_len as usize);
                    // Neighbouring series share pages.
                    if places.last() != Some(&place) {
                        places.push(place);
                    }
                }
            }
        }
        self.ahead = self.block.samples.windows(places)?;
        Ok(())
    }

    /// Finds the rows of every series inside `range`, and their timestamps. Of series that are plain, rows outside of
    /// `windows` may be left out.
    pub fn resolve(
        &mut self,
        ids: &[u32],
        range: TimeRange,
        windows: Option<&RangeGrid>,
    ) -> Result<Vec<Item>, BlockError> {
        let index = &self.block.index;
        let nothing = Cut { rows: 0..0, kept: None, timestamps: Arc::from([]) };
        let mut items = Vec::with_capacity(ids.len());
        // By timeline, the part of it that a series has, and whether rows may be left out.
        let mut cuts: HashMap<(*const i64, usize, usize, bool), Cut> = HashMap::new();
        // Neighbours mostly share a timeline.
        let mut last = ((std::ptr::null(), 0, 0, false), nothing.clone());
        let mut group = 0;
        for &id in ids {
            if id >= index.groups()[group].first_series + index.groups()[group].series_count {
                group = index.group_of(id);
            }
            let windows = windows.filter(|_| is_plain(index, id));
            let cut = match index.timestamps(id) {
                Ok((timeline, part)) => {
                    let key = (timeline.as_ptr(), part.start, part.end, windows.is_some());
                    if last.0 != key {
                        let cut = || cut_timeline(timeline, part, range, windows);
                        last = (key, cuts.entry(key).or_insert_with(cut).clone());
                    }
                    last.1.clone()
                }
                Err(whole) if !whole.overlaps(&range) => nothing.clone(),
                Err(_) => self.cut_own(id, group, range, windows)?,
            };
            items.push(Item { id, group, cut });
        }
        Ok(items)
    }

    /// The timestamps inside `range` of a series that shares them with no one.
    fn cut_own(
        &mut self,
        id: u32,
        group: usize,
        range: TimeRange,
        windows: Option<&RangeGrid>,
    ) -> Result<Cut, BlockError> {
        let series = *self.block.index.series(id);
        let wanted = series.first_row..series.first_row + series.rows;
        let mut timestamps = Vec::with_capacity(series.rows as usize);
        let last = self.block.index.groups()[group].rows;
        self.column::<i64>(Part::Ts, group, wanted, last, |part| timestamps.extend_from_slice(part))?;
        if timestamps.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(self.malformed("timestamps do not ascend"));
        }
        let rows = rows_inside(&timestamps, range);
        let all = || Arc::from(&timestamps[rows.clone()]);
        Ok(cut_rows(&timestamps, rows.clone(), windows, all))
    }

    fn malformed(&self, reason: impl Into<String>) -> BlockError {
        BlockError::malformed(self.block.samples.path(), reason)
    }

    /// Appends the values of an item; `ahead` begins with it and says what else will be wanted.
    pub fn values(&mut self, item: &Item, ahead: &[Item], values: &mut Vec<f64>) -> Result<(), BlockError> {
        let series = *self.block.index.series(item.id);
        if item.timestamps().is_empty() {
            return Ok(());
        }
        match series.divisor {
            Some(divisor) if series.integers == series.rows => {
                let first = series.first_integer;
                let last = self.last_wanted(Part::Integers, ahead);
                item.cut.parts().iter().try_for_each(|rows| {
                    let wanted = first + rows.start..first + rows.end;
                    self.column::<i64>(Part::Integers, item.group, wanted, last, |integers| {
                        push_quotients(integers, divisor, values);
                    })
                })
            }
            Some(_) | None if series.doubles == series.rows => {
                let first = series.first_double;
                let last = self.last_wanted(Part::Doubles, ahead);
                item.cut.parts().iter().try_for_each(|rows| {
                    let wanted = first + rows.start..first + rows.end;
                    let take = |doubles: &[f64]| values.extend_from_slice(doubles);
                    self.column::<f64>(Part::Doubles, item.group, wanted, last, take)
                })
            }
            Some(_) | None => self.mixed_values(item, ahead, values),
        }
    }

    /// How far the page in which the first item's values end will be needed by the items after it.
    fn last_wanted(&self, part: Part, ahead: &[Item]) -> u32 {
        let index = &self.block.index;
        let group = ahead[0].group;
        let end_of = |item: &Item| index.position(part, item.id) + index.count(part, item.id);
        let end = end_of(&ahead[0]);
        let pages = index.groups()[group].pages(part);
        let reaches = |page: &Page| page.first_value + page.at.values >= end;
        if self.parts[part as usize].page.is_some_and(|(known, page)| known == group && reaches(&pages[page])) {
            // When that page was decoded, this was asked.
            return end;
        }
        let page_end =
            pages.get(pages.partition_point(|page| page.first_value < end)).map_or(u32::MAX, |next| next.first_value);
        let same_page = |item: &&Item| item.group == group && index.position(part, item.id) < page_end;
        ahead[1..].iter().take_while(same_page).last().map_or(end, end_of)
    }

    /// Values of a series whose samples are not all of one kind.
    fn mixed_values(&mut self, item: &Item, ahead: &[Item], values: &mut Vec<f64>) -> Result<(), BlockError> {
        let series = *self.block.index.series(item.id);
        let (mut integers, mut doubles) = (std::mem::take(&mut self.integers), std::mem::take(&mut self.doubles));
        integers.clear();
        doubles.clear();
        let last = self.last_wanted(Part::Integers, ahead);
        let wanted = series.first_integer..series.first_integer + series.integers;
        self.column::<i64>(Part::Integers, item.group, wanted, last, |part| integers.extend_from_slice(part))?;
        let last = self.last_wanted(Part::Doubles, ahead);
        let wanted = series.first_double..series.first_double + series.doubles;
        self.column::<f64>(Part::Doubles, item.group, wanted, last, |part| doubles.extend_from_slice(part))?;
        let rows = series.first_row..series.first_row + series.rows;
        let is_integer = self.present(Part::Integers, item.group, rows.clone(), series.integers)?;
        let is_double = self.present(Part::Doubles, item.group, rows.clone(), series.doubles)?;
        let histograms = self.block.index.count(Part::Histograms, item.id);
        let is_histogram = self.present(Part::Histograms, item.group, rows, histograms)?;

        let (mut next_integer, mut next_double) = (integers.iter(), doubles.iter());
        let mut parts = item.cut.parts().iter().peekable();
        for row in 0..series.rows as usize {
            let value = if is_integer[row] {
                next_integer.next().zip(series.divisor).map(|(&integer, divisor)| integer as f64 / divisor.value())
            } else if is_double[row] {
                next_double.next().copied()
            } else if is_histogram[row] {
                Some(0.0)
            } else {
                Some(stale_nan())
            };
            let value = value.ok_or_else(|| self.malformed("more values than the index says"))?;
            while parts.next_if(|part| part.end <= row as u32).is_some() {}
            if parts.peek().is_some_and(|part| part.contains(&(row as u32))) {
                values.push(value);
            }
        }
        (self.integers, self.doubles) = (integers, doubles);
        Ok(())
    }

    pub fn starts(&mut self, item: &Item, ahead: &[Item]) -> Result<Option<Vec<i64>>, BlockError> {
        let starts = self.sparse::<i64>(Part::Starts, item, ahead)?;
        Ok(starts.map(|starts| starts.into_iter().map(|start_ms| start_ms.unwrap_or(0)).collect()))
    }

    /// A column that most series have nothing in; `None` where nothing is in the item's rows.
    pub fn sparse<T: PageValue>(
        &mut self,
        part: Part,
        item: &Item,
        ahead: &[Item],
    ) -> Result<Option<Vec<Option<T>>>, BlockError> {
        let count = self.block.index.count(part, item.id);
        if count == 0 || item.cut.rows.is_empty() {
            return Ok(None);
        }
        debug_assert!(!item.leaves_out(), "only of plain series rows are left out");
        let series = *self.block.index.series(item.id);
        let rows = series.first_row..series.first_row + series.rows;
        let present = self.present(part, item.group, rows, count)?;
        let (before, after) = present.split_at(item.cut.rows.start as usize);
        let inside = &after[..item.cut.rows.len()];
        let positions = |present: &[bool]| present.iter().filter(|&&there| there).count() as u32;
        let first = self.block.index.position(part, item.id) + positions(before);
        let wanted = first..first + positions(inside);
        if wanted.is_empty() {
            return Ok(None);
        }
        let mut values = Vec::with_capacity(wanted.len());
        let last = self.last_wanted(part, ahead);
        self.column::<T>(part, item.group, wanted, last, |piece| values.extend_from_slice(piece))?;
        let mut next = values.into_iter();
        Ok(Some(inside.iter().map(|&there| if there { next.next() } else { None }).collect()))
    }

    /// Whether each of `rows` of a group has a value in a column, in which `count` of them have one.
    fn present(&mut self, part: Part, group: usize, rows: Range<u32>, count: u32) -> Result<Vec<bool>, BlockError> {
        if count == 0 || count as usize == rows.len() {
            return Ok(vec![count > 0; rows.len()]);
        }
        let block = self.block;
        let pages = block.index.groups()[group].pages(part);
        let mut present = Vec::with_capacity(rows.len());
        let first = pages.partition_point(|page| page.first_row + page.rows <= rows.start);
        for (at, page) in pages.iter().enumerate().skip(first).take_while(|(_, page)| page.first_row < rows.end) {
            if self.parts[part as usize].levels_page != Some((group, at)) {
                self.load_window(part, page)?;
                let decoded = &mut self.parts[part as usize];
                let levels = decoded
                    .window
                    .slice(page.at.offset + u64::from(page.at.header_len), page.at.levels_len as usize)
                    .and_then(|levels| parse_runs(levels, 1, page.rows as usize))
                    .ok_or_else(|| malformed_page(block, page, "definition levels"))?;
                decoded.levels = levels;
                decoded.levels_page = Some((group, at));
            }
            let mut row = page.first_row;
            for &(level, len) in &self.parts[part as usize].levels {
                let run = row..row + len as u32;
                let inside = run.end.min(rows.end).saturating_sub(run.start.max(rows.start));
                present.resize(present.len() + inside as usize, level == 1);
                row = run.end;
            }
        }
        if present.len() != rows.len() || present.iter().filter(|&&there| there).count() != count as usize {
            return Err(self.malformed("definition levels are not those that the index counts"));
        }
        Ok(present)
    }

    /// Makes sure that the whole page is in the column's window.
    fn load_window(&mut self, part: Part, page: &Page) -> Result<(), BlockError> {
        let len = page.at.header_len as usize + page.at.stored_len as usize;
        let window = &mut self.parts[part as usize].window;
        if window.slice(page.at.offset, len).is_none() {
            let at = self.ahead.partition_point(|window| window.start <= page.at.offset);
            let ahead = self.ahead[..at].last().filter(|window| window.slice(page.at.offset, len).is_some());
            *window = match ahead {
                Some(window) => window.clone(),
                None => self.block.samples.window(page.at.offset, len)?,
            };
        }
        Ok(())
    }

    /// Hands the values at positions `wanted` of a group's column to `take`, in pieces. Pages are decoded up to
    /// position `last`, which is not before the end of `wanted`.
    #[inline]
    fn column<T: PageValue>(
        &mut self,
        part: Part,
        group: usize,
        wanted: Range<u32>,
        last: u32,
        mut take: impl FnMut(&[T]),
    ) -> Result<(), BlockError> {
        let block = self.block;
        let pages = block.index.groups()[group].pages(part);
        let mut from = wanted.start;
        // The page decoded last is mostly the right one.
        let mut at = match self.parts[part as usize].page {
            Some((known, page)) if known == group && pages[page].first_value <= from => page,
            _ => 0,
        };
        while from < wanted.end {
            let ends_before = |page: &Page| page.first_value + page.at.values <= from;
            if pages.get(at).is_some_and(ends_before) {
                at += pages[at..].partition_point(ends_before);
            }
            let Some(page) = pages.get(at) else { return Err(self.malformed("fewer values than the index says")) };
            let to = wanted.end.min(page.first_value + page.at.values);
            let decoded = &self.parts[part as usize];
            let there = if decoded.page == Some((group, at)) { T::decoded(decoded).len() as u32 } else { 0 };
            if page.first_value + there < to {
                self.load_window(part, page)?;
                let decoder = match &mut self.decoder {
                    Some(decoder) => decoder,
                    none => none.insert(block.decoders.take()?),
                };
                let decoded = &mut self.parts[part as usize];
                let wanted = last.max(to).min(page.first_value + page.at.values) - page.first_value;
                let window = decoded.window.clone();
                decoded.page = None;
                window
                    .slice(page.at.offset + u64::from(page.at.header_len), page.at.stored_len as usize)
                    .and_then(|body| T::decode(decoder, page, body, wanted as usize, decoded))
                    .ok_or_else(|| malformed_page(block, page, "values"))?;
                decoded.page = Some((group, at));
            }
            let decoded = T::decoded(&self.parts[part as usize]);
            take(&decoded[(from - page.first_value) as usize..(to - page.first_value) as usize]);
            from = to;
        }
        Ok(())
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if let Some(decoder) = self.decoder.take() {
            self.block.decoders.give_back(decoder);
        }
    }
}

fn malformed_page(block: &Block, page: &Page, what: &str) -> BlockError {
    BlockError::malformed(block.samples.path(), format!("page at {} has no valid {what}", page.at.offset))
}

/// Positions of the timestamps inside `range`.
fn rows_inside(timestamps: &[i64], range: TimeRange) -> Range<usize> {
    let start = timestamps.partition_point(|&timestamp| timestamp < range.min_ms);
    let end = timestamps.partition_point(|&timestamp| timestamp <= range.max_ms);
    start..end.max(start)
}

/// Whether a series has floats and staleness markers only, without start timestamps.
pub(super) fn is_plain(index: &Index, id: u32) -> bool {
    index.count(Part::Histograms, id) == 0 && index.count(Part::Starts, id) == 0
}

fn cut_timeline(timeline: &Arc<[i64]>, part: Range<usize>, range: TimeRange, windows: Option<&RangeGrid>) -> Cut {
    let own = &timeline[part];
    let rows = rows_inside(own, range);
    // The whole timeline needs no copy, and is then the same for all calls.
    let all = || if rows.len() == timeline.len() { timeline.clone() } else { Arc::from(&own[rows.clone()]) };
    cut_rows(own, rows.clone(), windows, all)
}

/// These rows of `own` timestamps without those that no window has, or with `all` of their timestamps.
fn cut_rows(own: &[i64], rows: Range<usize>, windows: Option<&RangeGrid>, all: impl FnOnce() -> Arc<[i64]>) -> Cut {
    let whole = rows.start as u32..rows.end as u32;
    let Some(parts) = windows.and_then(|windows| windows.parts_inside(&own[rows.clone()])) else {
        return Cut { rows: whole, kept: None, timestamps: all() };
    };
    let timestamps: Vec<i64> = parts.iter().flat_map(|part| &own[rows.clone()][part.clone()]).copied().collect();
    let in_series = |part: &Range<usize>| whole.start + part.start as u32..whole.start + part.end as u32;
    let kept = parts.iter().map(in_series).collect();
    Cut { rows: whole, kept: Some(kept), timestamps: Arc::from(timestamps) }
}
