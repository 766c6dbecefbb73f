//! Timelines that parts of series make together.

use std::collections::HashMap;
use std::sync::Arc;

use crate::head::Timelines;

/// Some timestamp lists and all their timestamps. Holding the lists keeps their addresses taken.
struct Joined {
    _parts: Vec<Timeline>,
    whole: Timeline,
}

/// Timestamps, and how many samples stands at each where that is not one everywhere.
#[derive(Debug, Clone)]
pub(crate) struct Timeline {
    pub timestamps: Arc<[i64]>,
    pub weights: Option<Arc<[u32]>>,
}

/// Timestamps of consecutive parts, joined once for all series that share them in every part.
#[derive(Default)]
pub(crate) struct JoinedTimelines {
    /// By the addresses and lengths of the parts.
    known: HashMap<Vec<(*const i64, usize, *const u32)>, Joined>,
}

impl JoinedTimelines {
    pub fn join(&mut self, parts: &[Timeline], timelines: &mut Timelines) -> Timeline {
        let weights_at = |part: &Timeline| part.weights.as_ref().map_or(std::ptr::null(), |weights| weights.as_ptr());
        let key =
            parts.iter().map(|part| (part.timestamps.as_ptr(), part.timestamps.len(), weights_at(part))).collect();
        let join = || {
            let all: Vec<i64> = parts.iter().flat_map(|part| part.timestamps.iter().copied()).collect();
            let weights = parts.iter().any(|part| part.weights.is_some()).then(|| {
                let of_part = |part: &Timeline| match &part.weights {
                    Some(weights) => weights.to_vec(),
                    None => vec![1; part.timestamps.len()],
                };
                parts.iter().flat_map(of_part).collect()
            });
            let whole = Timeline { timestamps: timelines.share_arc(Arc::from(all)), weights };
            Joined { _parts: parts.to_vec(), whole }
        };
        self.known.entry(key).or_insert_with(join).whole.clone()
    }
}
