//! What all operators of one running query share: limits, notes and the wish to stop.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Instant;

use datafusion::execution::TaskContext;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::SessionConfig;
use parking_lot::Mutex;
use pilaster_model::Labels;

use crate::annotations::Notes;
use crate::error::QueryError;
use crate::exec::sample_counts::{SampleCounts, Share, StepCounts};
use crate::grid::Steps;

/// Travels in the `TaskContext`'s session config, as an extension.
#[derive(Debug)]
pub(crate) struct QueryState {
    /// A monotonic instant, so that operators can stop themselves however busy the runtime is.
    deadline: Option<Instant>,
    cancelled: Arc<AtomicBool>,
    /// May be below zero for a moment: rows that were never counted are given back too.
    samples: AtomicI64,
    peak: AtomicUsize,
    read: AtomicUsize,
    max_samples: usize,
    notes: Mutex<Notes>,
    /// Which series an output of a range function came from, where its name was what told it from others. Tiles are
    /// separate plans, and the same labels from another series in another tile are an error too.
    claimed: Mutex<HashMap<(usize, Labels), Labels>>,
    /// Whether a merged series drops its name in the end, as the first tile with samples of it has decided.
    names: Mutex<HashMap<(usize, Labels), bool>>,
    /// Where samples are counted step by step, those of the query first; absent where nobody asked for it.
    counts: Option<Mutex<Vec<Arc<SampleCounts>>>>,
}

/// Which of a query's counts an evaluation adds to; none where nobody asked for any.
pub(crate) type CountsNumber = Option<usize>;

impl QueryState {
    pub fn new(deadline: Option<Instant>, max_samples: usize) -> QueryState {
        QueryState {
            deadline,
            cancelled: Arc::default(),
            samples: AtomicI64::new(0),
            peak: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
            max_samples,
            notes: Mutex::new(Notes::default()),
            claimed: Mutex::new(HashMap::new()),
            names: Mutex::new(HashMap::new()),
            counts: None,
        }
    }

    /// For another evaluation within the same request: of its deadline, and cancelled with it.
    pub fn anew(&self) -> QueryState {
        QueryState { cancelled: Arc::clone(&self.cancelled), ..QueryState::new(self.deadline, self.max_samples) }
    }

    /// Counts samples at each of `steps` too.
    pub fn counting(self, steps: Steps) -> QueryState {
        QueryState { counts: Some(Mutex::new(vec![Arc::new(SampleCounts::new(steps, None))])), ..self }
    }

    /// The counts of the query itself.
    pub fn outermost_counts(&self) -> CountsNumber {
        self.counts.as_ref().map(|_| 0)
    }

    /// New counts for an evaluation inside of that of `outer`.
    pub fn counts_inside(&self, outer: CountsNumber, steps: Steps, share: Share) -> CountsNumber {
        let outer = self.counts(outer)?;
        let mut all = self.counts.as_ref()?.lock();
        all.push(Arc::new(SampleCounts::new(steps, Some((outer, share)))));
        Some(all.len() - 1)
    }

    pub fn counts(&self, number: CountsNumber) -> Option<Arc<SampleCounts>> {
        self.counts.as_ref()?.lock().get(number?).cloned()
    }

    /// What was counted, once all is evaluated.
    pub fn take_counts(&self) -> Option<StepCounts> {
        let all = std::mem::take(&mut *self.counts.as_ref()?.lock());
        // Inner evaluations come after their outer ones.
        all.iter().rev().for_each(|counts| counts.hand_on());
        all.first().map(|counts| counts.finish())
    }

    /// What its operators run in.
    pub fn context(self: &Arc<Self>, config: SessionConfig, runtime: Arc<RuntimeEnv>) -> TaskContext {
        let config = config.with_extension(Arc::clone(self));
        let (scalar, higher_order, aggregate, window) = Default::default();
        TaskContext::new(None, String::new(), config, scalar, higher_order, aggregate, window, runtime)
    }

    /// The state that a task belongs to; one without limits where the plan runs outside of an engine.
    pub fn of(context: &TaskContext) -> Arc<QueryState> {
        context
            .session_config()
            .get_extension::<QueryState>()
            .unwrap_or_else(|| Arc::new(QueryState::new(None, usize::MAX)))
    }

    /// Operators call this between batches.
    pub fn check(&self) -> Result<(), QueryError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(QueryError::Canceled("expression evaluation".to_owned()));
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(QueryError::Timeout("expression evaluation".to_owned()));
        }
        Ok(())
    }

    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Counts samples that the query now holds.
    pub fn hold_samples(&self, count: usize) -> Result<(), QueryError> {
        let held = self.samples.fetch_add(count as i64, Ordering::Relaxed) + count as i64;
        let held = usize::try_from(held).unwrap_or(0);
        self.peak.fetch_max(held, Ordering::Relaxed);
        if held > self.max_samples {
            return Err(too_many_samples());
        }
        Ok(())
    }

    /// # Errors
    /// Where a series with a sample at each of `count` steps would be more than the query may hold.
    pub fn check_steps(&self, count: usize) -> Result<(), QueryError> {
        if count > self.max_samples { Err(too_many_samples()) } else { Ok(()) }
    }

    /// Most samples held at once so far.
    pub fn peak_samples(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    /// Counts samples that came from the source.
    pub fn count_read(&self, count: usize) {
        self.read.fetch_add(count, Ordering::Relaxed);
    }

    /// Samples that came from the source so far.
    pub fn read_samples(&self) -> usize {
        self.read.load(Ordering::Relaxed)
    }

    /// Forgets samples from which a part of the result has been made.
    pub fn release_samples(&self, count: usize) {
        self.samples.fetch_sub(count as i64, Ordering::Relaxed);
    }

    /// Says that the function at `position` made `labels` from the series `source`.
    ///
    /// # Errors
    /// Where they came from another series before.
    pub fn claim_labels(&self, position: usize, labels: &Labels, source: &Labels) -> Result<(), QueryError> {
        let mut claimed = self.claimed.lock();
        let key = (position, labels.clone());
        match claimed.get(&key) {
            Some(known) if known != source => Err(QueryError::same_labelset()),
            Some(_) => Ok(()),
            None => {
                claimed.insert(key, source.clone());
                Ok(())
            }
        }
    }

    /// Whether the series `labels` made at `position` drops its name: as was said first.
    pub fn decide_name(&self, position: usize, labels: &Labels, drops: bool) -> bool {
        *self.names.lock().entry((position, labels.clone())).or_insert(drops)
    }

    /// Adds notes.
    pub fn note(&self, add: impl FnOnce(&mut Notes)) {
        add(&mut self.notes.lock());
    }

    pub fn take_notes(&self) -> Notes {
        std::mem::take(&mut self.notes.lock())
    }
}

fn too_many_samples() -> QueryError {
    QueryError::execution("query processing would load too many samples into memory in query execution")
}
