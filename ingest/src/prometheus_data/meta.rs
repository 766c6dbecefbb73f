//! `meta.json` of a block.

use std::path::Path;

use serde::Deserialize;

use super::DataError;

/// What is longer is taken for damage: nothing protects the times in `meta.json`.
const LONGEST_MS: i64 = 100 * 366 * 86_400_000;

/// What a block says of itself.
#[derive(Debug, Clone, Deserialize)]
pub struct BlockMeta {
    pub ulid: String,
    /// Of the first sample, in milliseconds.
    #[serde(rename = "minTime")]
    pub min_ms: i64,
    /// Behind the last sample.
    #[serde(rename = "maxTime")]
    pub end_ms: i64,
    version: u32,
    #[serde(default)]
    pub stats: BlockStats,
    #[serde(default)]
    compaction: Compaction,
}

/// Counts, 0 where a block does not say.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct BlockStats {
    #[serde(default, rename = "numSamples")]
    pub samples: u64,
    #[serde(default, rename = "numSeries")]
    pub series: u64,
    #[serde(default, rename = "numChunks")]
    pub chunks: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Compaction {
    #[serde(default)]
    hints: Vec<String>,
}

impl BlockMeta {
    pub(super) fn read(dir: &Path) -> Result<BlockMeta, DataError> {
        let path = dir.join("meta.json");
        let bytes = std::fs::read(&path).map_err(DataError::io("read", &path))?;
        let meta: BlockMeta =
            serde_json::from_slice(&bytes).map_err(|error| DataError::corrupt(&path, 0, error.to_string()))?;
        if meta.version != 1 {
            return Err(DataError::unknown(&path, format!("version {} of meta.json is not known", meta.version)));
        }
        if meta.end_ms.checked_sub(meta.min_ms).is_none_or(|span_ms| span_ms > LONGEST_MS) {
            return Err(DataError::corrupt(&path, 0, "the block is longer than a hundred years"));
        }
        if meta.min_ms > meta.end_ms {
            return Err(DataError::corrupt(&path, 0, "minTime is after maxTime"));
        }
        Ok(meta)
    }

    /// Whether the head had nothing older left when this block was written.
    pub(super) fn is_from_head_in_order(&self) -> bool {
        const OTHERS: [&str; 3] = ["from-out-of-order", "from-stale-series", "from-selected-series"];
        !self.compaction.hints.iter().any(|hint| OTHERS.contains(&hint.as_str()))
    }
}
