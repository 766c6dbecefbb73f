//! Start timestamps of OpenMetrics: `_created` lines beside the samples they are about.

use std::collections::HashMap;

use pilaster_model::METRIC_NAME;

use super::cache::StartGroup;
use crate::exposition::{MetricKind, Parser};

/// Start timestamps that `_created` lines tell: one for the samples of a metric family with the same labels.
#[derive(Debug, Default)]
pub(super) struct Starts {
    groups: HashMap<String, u32>,
    /// The scrape that told it, and the start in milliseconds.
    told: Vec<(u64, i64)>,
}

impl Starts {
    pub fn begin(&mut self) {
        // Groups of series that are long gone must not pile up; those in use come back with their series' next text.
        if self.groups.len() > 1_000_000 {
            self.groups.clear();
        }
    }

    pub fn tell(&mut self, group: u32, scrape: u64, seconds: f64) {
        self.told[group as usize] = (scrape, (seconds * 1000.0) as i64);
    }

    pub fn of(&self, group: u32, scrape: u64) -> Option<i64> {
        let (told, start_ms) = self.told[group as usize];
        (told == scrape && start_ms > 0).then_some(start_ms)
    }

    /// The group of the parser's last sample.
    pub fn group_of(&mut self, parser: &Parser<'_>) -> StartGroup {
        let kind = parser.kind();
        if !kind.has_start() {
            return StartGroup::None;
        }
        let own = match kind {
            MetricKind::Histogram => "le",
            MetricKind::Summary => "quantile",
            _ => "",
        };
        let mut pairs: Vec<(String, String)> = Vec::new();
        let mut created = false;
        for (name, value) in parser.labels() {
            if name == METRIC_NAME {
                created = value.ends_with("_created");
                let suffixes = ["_created", "_total", "_bucket", "_sum", "_count"];
                let family = suffixes.iter().find_map(|suffix| value.strip_suffix(suffix)).unwrap_or(&value);
                pairs.push((String::new(), family.to_owned()));
            } else if name != own {
                pairs.push((name.into_owned(), value.into_owned()));
            }
        }
        pairs.sort();
        let key = pairs.iter().map(|(name, value)| format!("{name}\u{1}{value}\u{1}")).collect();
        let next = self.told.len() as u32;
        let group = *self.groups.entry(key).or_insert(next);
        if group == next {
            self.told.push((0, 0));
        }
        if created { StartGroup::Created(group) } else { StartGroup::Member(group) }
    }
}
