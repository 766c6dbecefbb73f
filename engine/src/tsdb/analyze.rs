//! `pilaster tsdb analyze`: what a block has most of, in promtool's lists.

use std::collections::HashMap;

use anyhow::{Context, anyhow};
use pilaster_model::METRIC_NAME;
use pilaster_promql::parser::parse_selector;
use pilaster_storage::env::Env;

use super::{PLACE, directory, go_duration, place};
use crate::arguments::Arguments;
use crate::import::Failure;

pub(super) fn run(words: &[&str]) -> Result<(), Failure> {
    let arguments = Arguments::parse(words, &[&PLACE[..], &[("--limit", true), ("--match", true)]].concat())?;
    let limit: usize = arguments.number("--limit", 20)?;
    let dir = directory(&arguments, 2)?;
    let matchers = match arguments.get("--match") {
        Some(text) => parse_selector(text).map_err(|error| error.to_string())?,
        None => Vec::new(),
    };
    let env = Env::real();
    let place = place(&env, dir, &arguments)?;
    let blocks = place.blocks().map_err(anyhow::Error::from)?;
    let meta = match arguments.words.get(1) {
        Some(name) => blocks.iter().find(|block| block.name == *name),
        None => blocks.iter().max_by_key(|block| block.max_ms),
    };
    let meta = meta.ok_or_else(|| anyhow!("block not found"))?;
    let block = place.open(meta).with_context(|| format!("cannot read block {}", meta.name))?;
    let ids = block.select(&matchers);

    println!("Block ID: {}", meta.name);
    println!("Duration: {}", go_duration(meta.max_ms.saturating_sub(meta.min_ms).saturating_add(1)));
    println!("Total Series: {}", meta.series_count);
    if let Some(text) = arguments.get("--match") {
        println!("Matcher: {text}\nMatched series: {}", ids.len());
    }
    let names = if matchers.is_empty() { block.label_names() } else { block.label_names_of(&ids) };
    println!("Label names: {}", names.len());

    let span_ms = meta.max_ms.saturating_sub(meta.min_ms).saturating_add(1) as u64;
    let mut names_uncovered: HashMap<String, u64> = HashMap::new();
    let mut pairs: HashMap<String, (u64, u64)> = HashMap::new();
    let mut metrics: HashMap<String, u64> = HashMap::new();
    let mut entries = 0;
    for &id in &ids {
        let range = block.series_range(id);
        // Of the block's time, what the series does not cover.
        let uncovered = span_ms.saturating_sub(range.max_ms.saturating_sub(range.min_ms) as u64);
        let labels = block.labels(id);
        for (name, value) in labels.iter() {
            *names_uncovered.entry(name.to_owned()).or_default() += uncovered;
            let pair = pairs.entry(format!("{name}={value}")).or_default();
            *pair = (pair.0 + uncovered, pair.1 + 1);
            entries += 1;
        }
        if labels.find(METRIC_NAME).is_some() {
            *metrics.entry(labels.metric_name().to_owned()).or_default() += 1;
        }
    }
    println!("Postings (unique label pairs): {}", pairs.len());
    println!("Postings entries (total label pairs): {entries}");
    let list = |title: &str, all: Vec<(String, u64)>| {
        println!("\n{title}:");
        for (text, number) in most(all, limit) {
            println!("{number} {text}");
        }
    };
    let share = |uncovered: u64| uncovered / span_ms.max(1);
    list("Label pairs most involved in churning", pairs.iter().map(|(p, (u, _))| (p.clone(), share(*u))).collect());
    list("Label names most involved in churning", names_uncovered.into_iter().map(|(n, u)| (n, share(u))).collect());
    list("Most common label pairs", pairs.iter().map(|(pair, (_, count))| (pair.clone(), *count)).collect());
    let values = |name: &String| {
        if matchers.is_empty() { block.label_values(name) } else { block.label_values_of(name, &ids) }
    };
    let lengths = names.iter().map(|name| (name.clone(), values(name).iter().map(|value| value.len() as u64).sum()));
    list("Label names with highest cumulative label value length", lengths.collect());
    list("Highest cardinality labels", names.iter().map(|name| (name.clone(), values(name).len() as u64)).collect());
    list("Highest cardinality metric names", metrics.into_iter().collect());
    Ok(())
}

/// The `limit` entries with the highest numbers, of equal ones the first by text.
fn most(mut all: Vec<(String, u64)>, limit: usize) -> Vec<(String, u64)> {
    all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all.truncate(limit);
    all
}
