//! Beside samples: what is said about metrics, and exemplars.

use pilaster_model::{Labels, Matcher, TimeRange};

use super::Store;
use crate::wal::WalExemplar;
use crate::{Error, Exemplar, ExemplarOutcome, Metadata, SeriesExemplars, SeriesRef};

impl Store {
    /// Notes what is said about metrics and returns when it would survive a crash. The last word on a metric counts.
    ///
    /// # Errors
    /// The log could not be written: nothing of it counts.
    pub fn set_metadata(&self, metadata: &[Metadata]) -> Result<(), Error> {
        let changed = self.metadata.changed(metadata);
        if changed.is_empty() {
            return Ok(());
        }
        let _open = self.beside_gate.read();
        self.wal.wait(self.wal.enqueue_metadata(&changed))?;
        self.metadata.apply(changed);
        Ok(())
    }

    /// Whether [`Store::set_metadata`] would change nothing; costs less than asking it.
    pub fn knows_metadata(&self, metric: &str, kind: &str, help: &str, unit: &str) -> bool {
        self.metadata.knows(metric, kind, help, unit)
    }

    /// Ascending by metric.
    pub fn metadata(&self) -> Vec<Metadata> {
        self.metadata.list()
    }

    /// Takes the exemplars that are acceptable, and returns when they would survive a crash what became of each.
    ///
    /// # Errors
    /// The log could not be written: none is taken.
    pub fn append_exemplars(&self, exemplars: &[(SeriesRef, Exemplar)]) -> Result<Vec<ExemplarOutcome>, Error> {
        let labels_of = |series| self.head.labels(series).unwrap_or_default();
        let labelled: Vec<_> = exemplars.iter().map(|(series, exemplar)| (labels_of(*series), exemplar)).collect();
        let is_new = |labels: &Labels, exemplar| {
            !labels.is_empty() && self.exemplars.validate(labels, exemplar) == ExemplarOutcome::Taken
        };
        let logged: Vec<WalExemplar> = exemplars
            .iter()
            .zip(&labelled)
            .filter(|(_, (labels, exemplar))| is_new(labels, exemplar))
            .map(|((series, exemplar), _)| WalExemplar { series: series.0, exemplar: exemplar.clone() })
            .collect();
        if !logged.is_empty() {
            self.wal.wait_for_room();
        }
        // Between log and memory the log is not cut.
        let _open = self.beside_gate.read();
        if !logged.is_empty() {
            self.wal.wait(self.wal.enqueue_exemplars(&logged, &|series| labels_of(SeriesRef(series))))?;
        }
        let add = |(labels, exemplar): (Labels, &Exemplar)| match labels.is_empty() {
            true => ExemplarOutcome::UnknownSeries,
            false => self.exemplars.add(&labels, exemplar.clone()),
        };
        Ok(labelled.into_iter().map(add).collect())
    }

    /// Exemplars in `range` of series that satisfy one of `selectors`, ascending by series.
    pub fn exemplars(&self, selectors: &[Vec<Matcher>], range: TimeRange) -> Vec<SeriesExemplars> {
        self.exemplars.select(selectors, range)
    }

    pub fn keeps_exemplars(&self) -> bool {
        self.exemplars.is_on()
    }

    /// Changes how many exemplars are kept; of too many those go that came first.
    pub fn resize_exemplars(&self, max: usize) {
        self.exemplars.resize(max);
    }
}
