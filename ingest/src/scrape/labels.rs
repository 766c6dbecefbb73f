//! From the labels that a target shows to those of the stored series.

use std::borrow::Cow;

use pilaster_model::{Labels, LabelsBuilder, METRIC_NAME};

use super::target::Target;
use crate::config::ScrapeConfig;
use crate::exposition::go_quote;
use crate::relabel;

/// Labels with which a whole scrape is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum LabelError {
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Limit(String),
}

/// The labels under which a series shown with `shown` is stored; `None` where metric relabelling drops it.
///
/// # Errors
/// Prometheus's text where they make no series, or too long a one.
///
/// Source: `mutateSampleLabels`, Prometheus v3 `scrape/scrape.go`.
pub(super) fn series_labels<'a>(
    shown: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>,
    target: &Target,
    config: &ScrapeConfig,
) -> Result<Option<Labels>, LabelError> {
    let mut builder = LabelsBuilder::default();
    let mut exposed: Vec<String> = Vec::new();
    for (name, value) in shown {
        if exposed.iter().any(|known| *known == *name) {
            let name = go_quote(name.as_bytes());
            return Err(LabelError::Invalid(format!("label name {name} is not unique: invalid sample")));
        }
        builder.set(&name, &value);
        exposed.push(name.into_owned());
    }
    let mut conflicts: Vec<(String, String)> = Vec::new();
    for (name, value) in target.labels().iter() {
        if config.honor_labels {
            // A label that is exposed as empty stays so: that is how a target says to have none.
            if !exposed.iter().any(|exposed| exposed == name) {
                builder.set(name, value);
            }
            continue;
        }
        let current = builder.get(name);
        if !current.is_empty() {
            conflicts.push((name.to_owned(), current.to_owned()));
        }
        builder.set(name, value);
    }
    conflicts.sort_by_key(|(name, _)| name.len());
    for (name, value) in conflicts {
        let mut renamed = format!("exported_{name}");
        while !builder.get(&renamed).is_empty() {
            renamed.insert_str(0, "exported_");
        }
        builder.set(&renamed, &value);
    }
    if !relabel::process(&mut builder, &config.metric_relabel_configs) {
        return Ok(None);
    }
    let labels = builder.build();
    if labels.is_empty() {
        return Ok(None);
    }
    check_names(&labels, config).map_err(LabelError::Invalid)?;
    check_limits(&labels, config).map_err(LabelError::Limit)?;
    Ok(Some(labels))
}

fn check_names(labels: &Labels, config: &ScrapeConfig) -> Result<(), String> {
    let metric = labels.metric_name();
    if metric.is_empty() {
        return Err("missing metric name (__name__ label)".to_owned());
    }
    let validation = config.validation();
    let names_fit = labels.iter().all(|(name, _)| name == METRIC_NAME || validation.accepts_label(name));
    if !validation.accepts_metric(metric) || !names_fit {
        return Err(format!("invalid metric name or label names: {labels}"));
    }
    Ok(())
}

fn check_limits(labels: &Labels, config: &ScrapeConfig) -> Result<(), String> {
    let limits = &config.limits;
    let metric = short(labels.metric_name());
    if limits.labels > 0 && labels.len() > limits.labels {
        let (count, limit) = (labels.len(), limits.labels);
        return Err(format!("label_limit exceeded (metric: {metric}, number of labels: {count}, limit: {limit})"));
    }
    for (name, value) in labels.iter() {
        let (length, limit) = (name.len(), limits.label_name_length);
        let name = short(name);
        if limit > 0 && length > limit {
            return Err(format!(
                "label_name_length_limit exceeded (metric: {metric}, label name: {name}, length: {length}, limit: {limit})"
            ));
        }
        let (length, limit) = (value.len(), limits.label_value_length);
        if limit > 0 && length > limit {
            let value = go_quote(short(value).as_bytes());
            return Err(format!(
                "label_value_length_limit exceeded (metric: {metric}, label name: {name}, value: {value}, length: {length}, limit: {limit})"
            ));
        }
    }
    Ok(())
}

/// The first 50 characters.
fn short(text: &str) -> &str {
    text.char_indices().nth(50).map_or(text, |(end, _)| &text[..end])
}
