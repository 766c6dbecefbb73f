//! Deletions that head and blocks still have to be cleaned of.
//!
//! A tombstone hides the samples of some series in a range of time, in the head, in the blocks that it names and in the
//! log as it was. A flush does not write what is hidden in the head, a merge does not copy what is hidden in its sources,
//! and what is hidden in the log does not come back from it; when nothing is left that it hides, the tombstone goes. Samples that come later are not hidden, but for those that come to the
//! head while it still holds hidden ones.

use pilaster_model::{Labels, MatchOp, Matcher, TimeRange};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A deletion; kept in the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tombstone {
    #[serde(serialize_with = "write_matchers", deserialize_with = "read_matchers")]
    pub matchers: Vec<Matcher>,
    pub min_ms: i64,
    pub max_ms: i64,
    /// Whether the head may hold hidden samples.
    pub head: bool,
    /// Blocks that may.
    pub blocks: Vec<String>,
    /// Log records below this sequence may; 0 where none does.
    #[serde(default)]
    pub log_before: u64,
}

/// Where samples stand.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    Head,
    /// By name.
    Block(&'a str),
}

impl Tombstone {
    pub fn range(&self) -> TimeRange {
        TimeRange::new(self.min_ms, self.max_ms)
    }

    /// Whether it hides samples of the series with `labels`.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matchers.iter().all(|matcher| matcher.matches_labels(labels))
    }

    /// Whether it hides the same samples where both are about the same place.
    pub fn hides_as(&self, other: &Tombstone) -> bool {
        self.matchers == other.matchers && self.range() == other.range()
    }

    /// Tells it from all other deletions.
    pub fn hash(&self) -> u64 {
        let said = Tombstone { head: false, blocks: Vec::new(), ..self.clone() };
        let text = serde_json::to_vec(&said).unwrap_or_default();
        twox_hash::XxHash64::oneshot(0, &text)
    }

    fn is_about(&self, source: Source<'_>) -> bool {
        match source {
            Source::Head => self.head,
            Source::Block(name) => self.blocks.iter().any(|block| block == name),
        }
    }

    /// For who has the blocks, and neither head nor log.
    pub fn leave_blocks_only(&mut self) {
        self.head = false;
        self.log_before = 0;
    }

    pub fn is_done(&self) -> bool {
        !self.head && self.blocks.is_empty() && self.log_before == 0
    }
}

/// The tombstones that hide something in `source`.
pub fn about<'a>(tombstones: &'a [Tombstone], source: Source<'_>) -> Vec<&'a Tombstone> {
    tombstones.iter().filter(|tombstone| tombstone.is_about(source)).collect()
}

/// The tombstones that hide something in the log.
pub fn about_log(tombstones: &[Tombstone]) -> Vec<&Tombstone> {
    tombstones.iter().filter(|tombstone| tombstone.log_before > 0).collect()
}

/// The ranges in which samples of the series with `labels` are hidden.
pub fn hidden(tombstones: &[&Tombstone], labels: &Labels) -> Vec<TimeRange> {
    tombstones.iter().filter(|tombstone| tombstone.matches(labels)).map(|tombstone| tombstone.range()).collect()
}

#[derive(Serialize, Deserialize)]
struct Written {
    name: String,
    op: String,
    value: String,
}

const OPS: [MatchOp; 4] = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];

fn write_matchers<S: Serializer>(matchers: &[Matcher], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(matchers.iter().map(|matcher| Written {
        name: matcher.name().to_owned(),
        op: matcher.op().symbol().to_owned(),
        value: matcher.value().to_owned(),
    }))
}

fn read_matchers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Matcher>, D::Error> {
    let matcher = |written: Written| {
        let op = OPS.into_iter().find(|op| op.symbol() == written.op);
        let op = op.ok_or_else(|| serde::de::Error::custom(format!("{:?} is no matcher", written.op)))?;
        Matcher::new(op, &written.name, &written.value).map_err(serde::de::Error::custom)
    };
    Vec::<Written>::deserialize(deserializer)?.into_iter().map(matcher).collect()
}
