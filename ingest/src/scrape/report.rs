//! `up` and its companions.

use pilaster_model::{Labels, METRIC_NAME};
use pilaster_storage::SeriesRef;

use super::append::Job;
use super::target::Target;

/// The series that a scrape makes about itself.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub series: Vec<(Labels, SeriesRef)>,
}

const REPORT: [&str; 8] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
    "scrape_timeout_seconds",
    "scrape_sample_limit",
    "scrape_body_size_bytes",
];

impl Report {
    /// Makes the first `count` series known. They have the target's labels and are not relabelled.
    pub fn resolve(&mut self, job: &Job, target: &Target, count: usize) {
        while self.series.len() < count {
            let mut labels = target.labels().to_builder();
            labels.set(METRIC_NAME, REPORT[self.series.len()]);
            let labels = labels.build();
            let series = job.store.series(&labels);
            self.series.push((labels, series));
        }
    }
}
