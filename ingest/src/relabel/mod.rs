//! Relabelling: rules that rewrite the labels of targets and of scraped series, or drop them.
//!
//! [`RelabelConfig`] is one rule as written; [`process`] applies a list of them, in order.

mod rule;
#[cfg(test)]
mod tests;

use pilaster_model::LabelsBuilder;

pub use rule::{Action, RelabelConfig};

/// Applies `rules` to `labels`; false where a rule says to drop the target or series.
pub fn process(labels: &mut LabelsBuilder, rules: &[RelabelConfig]) -> bool {
    rules.iter().all(|rule| rule.apply(labels))
}
