//! `histogram_quantile` and its siblings: which series are the buckets of one classic histogram.

use std::sync::Arc;

use datafusion::common::HashMap;
use pilaster_model::Labels;

use crate::annotations::Place;
use crate::ast::Expr;
use crate::error::QueryError;
use crate::exec::histogram_call::{HistogramCall, Measure, Role, Variant};
use crate::exec::merge_series::Collision;
use crate::kernels::{format_openmetrics, parse_le};
use crate::prepare::labels::string;
use crate::prepare::node::Node;
use crate::prepare::{Evaluation, Preparer, unwrap_parens};
use crate::series_table::{SeriesTable, without_name};

const BUCKET_LABEL: &str = "le";

/// A measure, and the label that tells its results from those of other measures.
struct Asked {
    measure: Measure,
    label: Option<(String, u64)>,
}

impl Preparer {
    pub(super) async fn histogram_call(
        &self,
        expr: &Expr,
        name: &str,
        args: &[Expr],
        evaluation: Evaluation,
    ) -> Result<Node, QueryError> {
        let place = |arg: &Expr| Place { span: unwrap_parens(arg).span, owner: expr.span };
        let (vector, label, asked) = match (name, args) {
            ("histogram_quantile", [quantile, vector]) => {
                let place = place(quantile);
                let measure = Measure::Quantile(self.scalar(quantile, evaluation).await?, place);
                (vector, None, vec![Asked { measure, label: None }])
            }
            ("histogram_fraction", [lower, upper, vector]) => {
                let lower = self.scalar(lower, evaluation).await?;
                let upper = self.scalar(upper, evaluation).await?;
                (vector, None, vec![Asked { measure: Measure::Fraction(lower, upper), label: None }])
            }
            ("histogram_quantiles", [vector, label, quantiles @ ..]) => {
                let mut asked = Vec::new();
                for quantile in quantiles {
                    let place = place(quantile);
                    let quantile = self.scalar(quantile, evaluation).await?;
                    // A value that changes from step to step makes a series per value.
                    let mut values = quantile.distinct(evaluation.steps.count);
                    values.sort_by_key(|value| value.to_bits());
                    values.dedup_by_key(|value| value.to_bits());
                    for value in values {
                        let text = if value.is_nan() { "NaN".to_owned() } else { format_openmetrics(value) };
                        let measure = Measure::Quantile(quantile.clone(), place);
                        asked.push(Asked { measure, label: Some((text, value.to_bits())) });
                    }
                }
                (vector, Some(string(label)?), asked)
            }
            _ => return Err(QueryError::BadData(format!("wrong number of arguments for {name}"))),
        };
        let vector = unwrap_parens(vector);
        let node = self.vector(vector, evaluation.of_whole_histograms()).await?;
        let input = Arc::clone(&node.table);
        let classic = ClassicHistograms::of(&input);
        let names = Naming { label, delayed: self.options.delayed_name_removal };
        let mut output = OutputTable::default();
        let variants = asked
            .into_iter()
            .map(|asked| {
                let text = asked.label.as_ref().map(|(text, _)| text.as_str());
                let classic = classic.labels.iter().map(|labels| output.push(names.of(labels, text))).collect();
                let native = input.labels().iter().map(|labels| output.push(names.of(labels, text))).collect();
                Variant { measure: asked.measure, only: asked.label.map(|(_, bits)| bits), classic, native }
            })
            .collect();
        let count = output.labels.len();
        let drop_name = vec![self.options.delayed_name_removal; count];
        let table = Arc::new(SeriesTable::with_drop_names(output.labels, drop_name));
        let width = evaluation.steps.count;
        let operator = HistogramCall {
            name: static_name(name),
            roles: classic.roles,
            classic_count: classic.labels.len(),
            variants,
            input,
            steps: evaluation.steps,
            names_metric: self.options.delayed_name_removal,
            place: place(vector),
        };
        let node = Node::gather(operator, vec![node], Arc::clone(&table), width);
        Ok(self.merge_equal(node, &table, Collision::SameStep, expr.span.start))
    }
}

fn static_name(name: &str) -> &'static str {
    match name {
        "histogram_quantile" => "histogram_quantile",
        "histogram_fraction" => "histogram_fraction",
        _ => "histogram_quantiles",
    }
}

/// The series of a vector, sorted into classic histograms.
struct ClassicHistograms {
    roles: Vec<Role>,
    /// Without `le`, by number.
    labels: Vec<Labels>,
}

impl ClassicHistograms {
    fn of(input: &SeriesTable) -> ClassicHistograms {
        let mut numbers: HashMap<Labels, u32> = HashMap::new();
        let mut classic = ClassicHistograms { roles: Vec::with_capacity(input.len()), labels: Vec::new() };
        for labels in input.labels() {
            let bound = labels.find(BUCKET_LABEL).and_then(parse_le);
            let bucket = bound.map(|bound| {
                let key = labels.filter(|name, _| name != BUCKET_LABEL);
                let number = *numbers.entry(key).or_insert_with_key(|key| {
                    classic.labels.push(key.clone());
                    classic.labels.len() as u32 - 1
                });
                (number, bound)
            });
            classic.roles.push(Role { bucket, namesake: None });
        }
        for (role, labels) in classic.roles.iter_mut().zip(input.labels()) {
            role.namesake = numbers.get(labels).copied();
        }
        classic
    }
}

/// What results are called.
struct Naming<'a> {
    /// Of `histogram_quantiles`.
    label: Option<&'a str>,
    delayed: bool,
}

impl Naming<'_> {
    fn of(&self, labels: &Labels, value: Option<&str>) -> Labels {
        let labels = if self.delayed { labels.clone() } else { without_name(labels) };
        match (self.label, value) {
            (Some(label), Some(value)) => {
                let mut builder = labels.to_builder();
                builder.set(label, value);
                builder.build()
            }
            _ => labels,
        }
    }
}

#[derive(Default)]
struct OutputTable {
    labels: Vec<Labels>,
}

impl OutputTable {
    fn push(&mut self, labels: Labels) -> u32 {
        self.labels.push(labels);
        self.labels.len() as u32 - 1
    }
}
