//! From matchers to series.

use std::ops::Range;

use pilaster_model::{MatchOp, Matcher};

use super::index::Index;

/// The series of every value of one label name.
#[derive(Debug)]
pub struct Postings {
    first_pair: u32,
    /// Where each pair's series end in `series`.
    ends: Vec<u32>,
    /// Ascending for each pair.
    series: Vec<u32>,
}

impl Postings {
    /// From `(pair, series)`, ascending by series, where `pairs` are the ids of one name.
    pub fn of(pairs: &Range<u32>, entries: impl Iterator<Item = (u32, u32)>) -> Postings {
        let entries: Vec<(u32, u32)> = entries.collect();
        // Counting sort: stable, so that series stay ascending.
        let mut next = vec![0u32; pairs.len() + 1];
        for (pair, _) in &entries {
            next[(pair - pairs.start) as usize + 1] += 1;
        }
        for index in 1..next.len() {
            next[index] += next[index - 1];
        }
        let mut series = vec![0; entries.len()];
        for (pair, id) in entries {
            let slot = &mut next[(pair - pairs.start) as usize];
            series[*slot as usize] = id;
            *slot += 1;
        }
        next.pop();
        Postings { first_pair: pairs.start, ends: next, series }
    }

    /// Bytes of memory that it takes, about.
    pub fn memory_bytes(&self) -> usize {
        (self.ends.len() + self.series.len()) * size_of::<u32>()
    }

    /// Series with the pair, ascending.
    pub fn series(&self, pair: u32) -> &[u32] {
        let at = (pair - self.first_pair) as usize;
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.series[start as usize..self.ends[at] as usize]
    }
}

/// A matcher, with the name and the values it can have in the block.
struct Condition<'a> {
    matcher: &'a Matcher,
    /// `None`: no series has the label.
    name: Option<usize>,
    /// The only values that can satisfy it, where they are few and known.
    exact: Option<Vec<u32>>,
}

impl Condition<'_> {
    fn of<'a>(index: &Index, matcher: &'a Matcher) -> Condition<'a> {
        let name = index.pairs.find_name(matcher.name());
        let exact = match (name, matcher.op()) {
            (Some(_), _) if matcher.matches_empty() => None,
            (Some(name), MatchOp::Equal) => Some(index.pairs.find_value(name, matcher.value()).into_iter().collect()),
            (Some(name), MatchOp::Regex) => matcher.literal_values().map(|values| {
                let mut pairs: Vec<u32> =
                    values.iter().filter_map(|value| index.pairs.find_value(name, value)).collect();
                pairs.sort_unstable();
                pairs.dedup();
                pairs
            }),
            (None, _) | (Some(_), MatchOp::NotEqual | MatchOp::NotRegex) => None,
        };
        Condition { matcher, name, exact }
    }

    /// Series that satisfy the condition, ascending.
    fn series(&self, index: &Index) -> Vec<u32> {
        let all = || 0..index.series_count() as u32;
        let Some(name) = self.name else {
            return if self.matcher.matches_empty() { all().collect() } else { Vec::new() };
        };
        if self.matcher.matches_empty() {
            let mut series: Vec<u32> = all().collect();
            self.keep(index, &mut series);
            return series;
        }
        let postings = index.postings(name);
        match &self.exact {
            Some(pairs) => union(postings, pairs.iter().copied()),
            None => {
                let fits = |pair: &u32| self.matcher.matches(index.pairs.value(*pair));
                union(postings, index.pairs.of_name(name).filter(fits))
            }
        }
    }

    /// Drops from `series` what does not satisfy the condition. Every value is put to the matcher once at most.
    fn keep(&self, index: &Index, series: &mut Vec<u32>) {
        let Some(name) = self.name else {
            if !self.matcher.matches_empty() {
                series.clear();
            }
            return;
        };
        let ids = index.pairs.of_name(name);
        let without = self.matcher.matches_empty();
        let mut known: Vec<Option<bool>> = vec![None; ids.len()];
        series.retain(|&id| match index.pair_among(id, &ids) {
            Some(pair) => {
                *known[(pair - ids.start) as usize].get_or_insert_with(|| self.matcher.matches(index.pairs.value(pair)))
            }
            None => without,
        });
    }
}

/// The series of several pairs of one name; a series has at most one of them.
fn union(postings: &Postings, pairs: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut lists = pairs.map(|pair| postings.series(pair));
    let mut series = lists.next().map(<[u32]>::to_vec).unwrap_or_default();
    let mut sorted = true;
    for list in lists {
        sorted &= series.last() < list.first();
        series.extend_from_slice(list);
    }
    if !sorted {
        series.sort_unstable();
    }
    series
}

/// Keeps of ascending `series` what is also in ascending `list`.
fn intersect(series: &mut Vec<u32>, mut list: &[u32]) {
    series.retain(|id| {
        // Gallop: lists may be a thousand times longer than what is left of `series`.
        let mut step = 1;
        while step < list.len() && list[step - 1] < *id {
            step *= 2;
        }
        let (from, to) = (step / 2, step.min(list.len()));
        let at = from.min(to) + list[from.min(to)..to].partition_point(|known| known < id);
        list = &list[at..];
        list.first() == Some(id)
    });
}

/// Ids of the series that satisfy all `matchers`, ascending.
pub fn select(index: &Index, matchers: &[Matcher]) -> Vec<u32> {
    let mut conditions: Vec<Condition<'_>> = matchers.iter().map(|matcher| Condition::of(index, matcher)).collect();
    let len_of = |condition: &Condition<'_>| match (&condition.exact, condition.name) {
        (Some(pairs), Some(name)) => {
            let postings = index.postings(name);
            pairs.iter().map(|&pair| postings.series(pair).len()).sum()
        }
        (None, None) if !condition.matcher.matches_empty() => 0,
        (Some(_) | None, _) => usize::MAX - usize::from(!condition.matcher.matches_empty()),
    };
    // The shortest list first; what needs a look at every value last, when few series are left.
    conditions.sort_by_cached_key(len_of);
    let Some((first, rest)) = conditions.split_first() else {
        return (0..index.series_count() as u32).collect();
    };
    let mut series = first.series(index);
    for condition in rest {
        match (&condition.exact, condition.name) {
            (Some(pairs), Some(name)) if pairs.len() == 1 => {
                intersect(&mut series, index.postings(name).series(pairs[0]))
            }
            (Some(_) | None, _) => condition.keep(index, &mut series),
        }
    }
    series
}
