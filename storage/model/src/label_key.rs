//! Which series belong together.

use crate::{Labels, METRIC_NAME};

/// Which labels make two series belong together.
#[derive(Debug, Clone, Copy)]
pub enum LabelKey<'a> {
    /// `by (names)`, `on (names)`
    With(&'a [String]),
    /// `without (names)`, `ignoring (names)`: the metric's name never counts.
    Without(&'a [String]),
}

impl LabelKey<'_> {
    /// Whether a label is part of the key.
    pub fn holds(&self, name: &str) -> bool {
        match self {
            LabelKey::With(names) => names.iter().any(|candidate| candidate == name),
            LabelKey::Without(names) => name != METRIC_NAME && !names.iter().any(|candidate| candidate == name),
        }
    }

    pub fn labels(&self, labels: &Labels) -> Labels {
        labels.filter(|name, _| self.holds(name))
    }
}

/// Series, known by their positions, by what their labels have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeriesGroups {
    /// The number of each series' group: from 0 in the order of first appearance.
    pub group_of: Vec<u32>,
    /// The first series of each group.
    pub firsts: Vec<u32>,
}
