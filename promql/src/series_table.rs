//! The label side of a query: which series a plan node puts out, and the integer maps between nodes.
//!
//! Everything here runs once per query, before any cell is read. Cells carry only series numbers.

use std::sync::{Arc, LazyLock, OnceLock};

use datafusion::common::HashMap;
pub(crate) use pilaster_model::LabelKey as Key;
use pilaster_model::{Labels, METRIC_NAME, SeriesGroups};

use crate::source::Selection;

/// The output series of one plan node: position is the number that cells carry.
#[derive(Debug, Clone, Default)]
pub struct SeriesTable {
    rows: Rows,
    /// Computed when a name is to go.
    metadata: OnceLock<Metadata>,
    /// With delayed name removal: whether the metric's name goes away at the end of the query. Parallel to the labels,
    /// or empty where no name goes.
    drop_name: Vec<bool>,
}

/// The series' names, types and units.
#[derive(Debug, Clone)]
enum Metadata {
    /// No series has any.
    None,
    /// All series have those among these labels.
    Uniform(Labels),
    /// Not all have the same: those of each series stand in its labels.
    Mixed,
    /// The same, and each series has those of one of these label sets.
    Grouped { group_of: Vec<u32>, labels: Vec<Labels> },
}

#[derive(Debug, Clone)]
enum Rows {
    Given(Vec<Labels>),
    /// A selector's series. With many series, walking over their labels costs more than computing on their samples, so
    /// they are not copied.
    Selected(Arc<dyn Selection>),
    /// The labels of another table without the metric's name, type and unit. Most nodes above, such as aggregations,
    /// only need some of the labels, so these are made when somebody asks for them.
    Nameless {
        of: Arc<SeriesTable>,
        made: OnceLock<Vec<Labels>>,
    },
}

impl Default for Rows {
    fn default() -> Rows {
        Rows::Given(Vec::new())
    }
}

/// The labels that go away together with a metric's name.
pub(crate) fn is_metadata_label(name: &str) -> bool {
    matches!(name, METRIC_NAME | "__type__" | "__unit__")
}

fn metadata(labels: &Labels) -> impl Iterator<Item = (&str, &str)> {
    // Names ascend, and most sort behind these.
    labels.iter().take_while(|(name, _)| *name <= "__unit__").filter(|(name, _)| is_metadata_label(name))
}

/// The labels without the metric's name, type and unit.
pub(crate) fn without_name(labels: &Labels) -> Labels {
    if metadata(labels).next().is_some() { labels.filter(|name, _| !is_metadata_label(name)) } else { labels.clone() }
}

/// What [`is_metadata_label`].
static METADATA_LABELS: LazyLock<[String; 3]> =
    LazyLock::new(|| [METRIC_NAME, "__type__", "__unit__"].map(str::to_owned));

static NO_LABELS: LazyLock<Labels> = LazyLock::new(Labels::empty);

impl SeriesTable {
    pub fn new(labels: Vec<Labels>) -> SeriesTable {
        SeriesTable { rows: Rows::Given(labels), ..SeriesTable::default() }
    }

    /// The series of a selector.
    pub fn of_selection(selection: Arc<dyn Selection>) -> SeriesTable {
        SeriesTable { rows: Rows::Selected(selection), ..SeriesTable::default() }
    }

    pub(crate) fn with_drop_names(labels: Vec<Labels>, drop_name: Vec<bool>) -> SeriesTable {
        debug_assert_eq!(labels.len(), drop_name.len());
        let drop_name = if drop_name.contains(&true) { drop_name } else { Vec::new() };
        SeriesTable { rows: Rows::Given(labels), drop_name, ..SeriesTable::default() }
    }

    pub fn len(&self) -> usize {
        match &self.rows {
            Rows::Given(labels) => labels.len(),
            Rows::Selected(selection) => selection.len(),
            Rows::Nameless { of, .. } => of.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One label set per series.
    pub fn labels(&self) -> &[Labels] {
        match &self.rows {
            Rows::Given(labels) => labels,
            Rows::Selected(selection) => selection.labels(),
            Rows::Nameless { of, made } => made.get_or_init(|| of.labels().iter().map(without_name).collect()),
        }
    }

    pub(crate) fn drops_any_name(&self) -> bool {
        !self.drop_name.is_empty()
    }

    pub(crate) fn drops_name(&self, series: usize) -> bool {
        self.drop_name.get(series).copied().unwrap_or(false)
    }

    /// Labels among which those are that notes look at: the metric's name and type.
    pub(crate) fn noted_labels(&self, series: u32) -> &Labels {
        let metadata = match &self.rows {
            Rows::Nameless { .. } => return &NO_LABELS,
            // Labels that are there are read as cheaply.
            Rows::Given(_) => self.metadata.get().unwrap_or(&Metadata::Mixed),
            Rows::Selected(_) => self.metadata(),
        };
        match metadata {
            Metadata::None => &NO_LABELS,
            Metadata::Uniform(labels) => labels,
            Metadata::Grouped { group_of, labels } => &labels[group_of[series as usize] as usize],
            Metadata::Mixed => &self.labels()[series as usize],
        }
    }

    /// The name for annotations; empty where there is none.
    pub(crate) fn metric_name(&self, series: u32) -> &str {
        self.noted_labels(series).metric_name()
    }

    /// The labels from which keys are made, and whether the metric's name, type and unit have to be overlooked.
    fn key_labels(&self) -> (&[Labels], bool) {
        match &self.rows {
            Rows::Given(_) | Rows::Selected(_) => (self.labels(), false),
            Rows::Nameless { of, .. } => (of.labels(), true),
        }
    }

    /// The same series after a function that takes the name away: at once, or marked where removal is delayed.
    pub(crate) fn dropping_names(self: &Arc<SeriesTable>, delayed: bool) -> Arc<SeriesTable> {
        if delayed {
            if !self.drop_name.is_empty() && !self.drop_name.contains(&false) {
                return Arc::clone(self);
            }
            let drop_name = vec![true; self.len()];
            return Arc::new(SeriesTable { rows: self.rows.clone(), drop_name, ..SeriesTable::default() });
        }
        if matches!(self.rows, Rows::Nameless { .. }) || matches!(self.metadata(), Metadata::None) {
            return Arc::clone(self);
        }
        let rows = Rows::Nameless { of: Arc::clone(self), made: OnceLock::new() };
        Arc::new(SeriesTable { rows, ..SeriesTable::default() })
    }

    /// The series of `self`, then those of `other`.
    pub(crate) fn concat(&self, other: &SeriesTable) -> Arc<SeriesTable> {
        let labels = self.labels().iter().chain(other.labels()).cloned().collect();
        let own = (0..self.len()).map(|series| self.drops_name(series));
        let drop_name = own.chain((0..other.len()).map(|series| other.drops_name(series))).collect();
        Arc::new(SeriesTable::with_drop_names(labels, drop_name))
    }

    /// The labels as they leave the query.
    pub(crate) fn final_labels(&self, series: usize) -> Labels {
        let labels = &self.labels()[series];
        if self.drops_name(series) { without_name(labels) } else { labels.clone() }
    }

    fn metadata(&self) -> &Metadata {
        self.metadata.get_or_init(|| {
            if let Rows::Selected(selection) = &self.rows
                && let Some(SeriesGroups { group_of, firsts }) = selection.groups(Key::With(&*METADATA_LABELS))
            {
                let mut labels = selection.labels_at(&firsts);
                return match (labels.pop(), labels.is_empty()) {
                    (None, _) => Metadata::None,
                    (Some(only), true) if metadata(&only).next().is_none() => Metadata::None,
                    (Some(only), true) => Metadata::Uniform(only),
                    (Some(last), false) => {
                        labels.push(last);
                        Metadata::Grouped { group_of, labels }
                    }
                };
            }
            let [first, rest @ ..] = self.labels() else { return Metadata::None };
            let common: Vec<(&str, &str)> = metadata(first).collect();
            if !rest.iter().all(|labels| metadata(labels).eq(common.iter().copied())) {
                return Metadata::Mixed;
            }
            if common.is_empty() { Metadata::None } else { Metadata::Uniform(first.clone()) }
        })
    }

    /// The series in groups, and labels of the first of each group, where that is done without making all labels.
    fn groups(&self, key: Key<'_>) -> Option<(SeriesGroups, Vec<Labels>)> {
        let (selection, groups) = match &self.rows {
            Rows::Given(_) => return None,
            Rows::Selected(selection) => (selection, selection.groups(key)?),
            Rows::Nameless { of, .. } => {
                let Rows::Selected(selection) = &of.rows else { return None };
                let metadata = METADATA_LABELS.iter();
                let groups = match key {
                    Key::With(names) => {
                        let named = names.iter().filter(|name| !is_metadata_label(name)).cloned();
                        selection.groups(Key::With(&named.collect::<Vec<_>>()))
                    }
                    Key::Without(names) => {
                        selection.groups(Key::Without(&names.iter().chain(metadata).cloned().collect::<Vec<_>>()))
                    }
                };
                (selection, groups?)
            }
        };
        let labels = selection.labels_at(&groups.firsts);
        Some((groups, labels))
    }

    /// Whether labels may be equal. Series that differ with their names, which all are of one metric, differ without.
    fn may_repeat(&self) -> bool {
        match &self.rows {
            Rows::Given(_) => true,
            Rows::Selected(_) => false,
            Rows::Nameless { of, .. } => matches!(of.metadata(), Metadata::Mixed | Metadata::Grouped { .. }),
        }
    }

    /// A map from series to the first series of equal labels, `None` where all differ.
    pub(crate) fn duplicates(&self) -> Option<Merged> {
        if !self.may_repeat() {
            return None;
        }
        if let Rows::Nameless { of, .. } = &self.rows
            && let Rows::Selected(selection) = &of.rows
            && let Some(SeriesGroups { group_of, firsts }) = selection.groups(Key::Without(&*METADATA_LABELS))
        {
            if firsts.len() == self.len() {
                return None;
            }
            let labels = selection.labels_at(&firsts).iter().map(without_name).collect();
            return Some(Merged { target: group_of, table: Arc::new(SeriesTable::new(labels)) });
        }
        let mut seen: HashMap<&Labels, u32> = HashMap::with_capacity(self.len());
        let mut target = Vec::with_capacity(self.len());
        let mut keep = Vec::new();
        for (series, labels) in self.labels().iter().enumerate() {
            let next = keep.len() as u32;
            let index = *seen.entry(labels).or_insert(next);
            if index == next {
                keep.push(series);
            }
            target.push(index);
        }
        if keep.len() == self.len() {
            return None;
        }
        let labels = keep.iter().map(|series| self.labels()[*series].clone()).collect();
        let drop_name = keep.iter().map(|series| self.drops_name(*series)).collect();
        Some(Merged { target, table: Arc::new(SeriesTable::with_drop_names(labels, drop_name)) })
    }
}

/// Several series become one where their labels became equal.
pub(crate) struct Merged {
    /// New number per old series.
    pub target: Vec<u32>,
    pub table: Arc<SeriesTable>,
}

/// Numbers label sets by key: equal keys get equal numbers, from 0 in order of first appearance.
#[derive(Debug, Default)]
pub(crate) struct KeyNumbers {
    numbers: HashMap<Vec<u8>, u32>,
    buffer: Vec<u8>,
}

impl KeyNumbers {
    /// The number of each series of a table.
    pub fn of_table(&mut self, key: Key<'_>, table: &SeriesTable) -> Vec<u32> {
        let (labels, nameless) = table.key_labels();
        let mut numbers = Vec::with_capacity(labels.len());
        numbers.extend(labels.iter().map(|labels| self.number(key, labels, nameless)));
        numbers
    }

    fn number(&mut self, key: Key<'_>, labels: &Labels, nameless: bool) -> u32 {
        self.buffer.clear();
        let held = |name: &str| key.holds(name) && !(nameless && is_metadata_label(name));
        for (name, value) in labels.iter().filter(|(name, _)| held(name)) {
            for text in [name, value] {
                self.buffer.extend_from_slice(&(text.len() as u32).to_le_bytes());
                self.buffer.extend_from_slice(text.as_bytes());
            }
        }
        let next = self.numbers.len() as u32;
        *self.numbers.entry_ref(self.buffer.as_slice()).or_insert(next)
    }

    pub fn len(&self) -> usize {
        self.numbers.len()
    }
}

/// Series grouped for an aggregation.
#[derive(Debug)]
pub(crate) struct Groups {
    /// Group per input series.
    pub group_of: Vec<u32>,
    pub table: Arc<SeriesTable>,
}

impl Groups {
    /// Groups `table` by `labels`, or by all others.
    pub fn new(table: &SeriesTable, without: bool, labels: &[String]) -> Groups {
        let key = if without { Key::Without(labels) } else { Key::With(labels) };
        let mut groups: Vec<Labels> = Vec::new();
        let mut drop_name: Vec<bool> = Vec::new();
        let group_of = if !without && labels.is_empty() {
            // One group of everything: no hashing.
            if !table.is_empty() {
                groups.push(Labels::empty());
                drop_name.push(false);
            }
            vec![0; table.len()]
        } else if let Some((SeriesGroups { group_of, .. }, firsts)) = table.groups(key) {
            let nameless = matches!(table.rows, Rows::Nameless { .. });
            let held =
                |labels: &Labels| labels.filter(|name, _| key.holds(name) && !(nameless && is_metadata_label(name)));
            groups.extend(firsts.iter().map(held));
            drop_name.resize(groups.len(), false);
            if !table.drop_name.is_empty() {
                for (series, group) in group_of.iter().enumerate() {
                    drop_name[*group as usize] |= table.drops_name(series);
                }
            }
            group_of
        } else {
            let group_of = KeyNumbers::default().of_table(key, table);
            let (labels, nameless) = table.key_labels();
            for (series, group) in group_of.iter().enumerate() {
                if *group as usize == groups.len() {
                    let group = key.labels(&labels[series]);
                    groups.push(if nameless { without_name(&group) } else { group });
                    drop_name.push(false);
                }
                drop_name[*group as usize] |= table.drops_name(series);
            }
            group_of
        };
        Groups { group_of, table: Arc::new(SeriesTable::with_drop_names(groups, drop_name)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(sets: &[&[(&str, &str)]]) -> SeriesTable {
        SeriesTable::new(sets.iter().map(|pairs| Labels::from_pairs(pairs.iter().copied())).collect())
    }

    #[test]
    fn groups_follow_first_appearance() {
        let input = table(&[
            &[("__name__", "x"), ("job", "b"), ("i", "1")],
            &[("__name__", "x"), ("job", "a"), ("i", "1")],
            &[("__name__", "y"), ("job", "b"), ("i", "2")],
        ]);
        let groups = Groups::new(&input, false, &["job".to_owned()]);
        assert_eq!(groups.group_of, [0, 1, 0]);
        assert_eq!(groups.table.labels()[0].to_string(), r#"{job="b"}"#);
        let groups = Groups::new(&input, true, &["i".to_owned()]);
        assert_eq!(groups.group_of, [0, 1, 0]);
        assert_eq!(groups.table.labels()[1].to_string(), r#"{job="a"}"#);
        assert_eq!(Groups::new(&input, false, &[]).table.len(), 1);
    }

    #[test]
    fn dropped_names_make_duplicates() {
        let input = Arc::new(table(&[&[("__name__", "x"), ("a", "1")], &[("__name__", "y"), ("a", "1")]]));
        assert!(input.duplicates().is_none());
        let dropped = input.dropping_names(false);
        let merged = dropped.duplicates().expect("labels became equal");
        assert_eq!(merged.target, [0, 0]);
        let delayed = input.dropping_names(true);
        assert!(delayed.duplicates().is_none());
        let distinct = Arc::new(table(&[&[("__name__", "x"), ("a", "1")], &[("__name__", "x"), ("a", "2")]]));
        let nameless = distinct.dropping_names(false);
        assert!(nameless.duplicates().is_none());
        assert_eq!(nameless.labels()[1].to_string(), r#"{a="2"}"#);
        assert_eq!(Groups::new(&nameless, true, &[]).group_of, [0, 1]);
        assert_eq!(Groups::new(&nameless, false, &["__name__".to_owned()]).group_of, [0, 0]);
        assert_eq!(nameless.metric_name(0), "");
        assert_eq!(delayed.final_labels(1).to_string(), r#"{a="1"}"#);
    }
}
