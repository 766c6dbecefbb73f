//! Binary operators: who matches whom, and what the results are called.

use std::sync::Arc;

use datafusion::common::HashMap;
use pilaster_model::{Labels, METRIC_NAME};

use crate::annotations::Place;
use crate::ast::{Binary, BinaryOp, Cardinality, Expr, ValueType, VectorMatching};
use crate::error::QueryError;
use crate::exec::elementwise::VectorScalar;
use crate::exec::merge_series::Collision;
use crate::exec::set_operation::SetOperation;
use crate::exec::vector_match::{OutputNumbers, Side, VectorMatch};
use crate::prepare::node::Node;
use crate::prepare::{Evaluation, Preparer};
use crate::series_table::{Key, KeyNumbers, SeriesTable, is_metadata_label};

/// Arithmetic changes what a metric means, so its name goes; comparisons and trimming keep it.
fn changes_meaning(op: BinaryOp) -> bool {
    use BinaryOp::*;
    matches!(op, Add | Sub | Mul | Div | Mod | Pow | Atan2)
}

/// What is assumed where nothing is written: match on all labels.
fn default_matching() -> VectorMatching {
    VectorMatching {
        cardinality: Cardinality::OneToOne,
        on: false,
        labels: Vec::new(),
        include: Vec::new(),
        fill_left: None,
        fill_right: None,
    }
}

impl Preparer {
    pub(super) async fn binary(
        &self,
        expr: &Expr,
        binary: &Binary,
        evaluation: Evaluation,
    ) -> Result<Node, QueryError> {
        let trims = matches!(binary.op, BinaryOp::TrimLower | BinaryOp::TrimUpper);
        let evaluation = if trims { evaluation.of_whole_histograms() } else { evaluation };
        let scalar = |side: &Expr| side.value_type() == ValueType::Scalar;
        let (vector, scalar, scalar_first) = match (scalar(&binary.left), scalar(&binary.right)) {
            (true, _) => (&binary.right, &binary.left, true),
            (_, true) => (&binary.left, &binary.right, false),
            (false, false) => return self.vectors(expr, binary, evaluation).await,
        };
        let scalar = self.scalar(scalar, evaluation).await?;
        let node = self.vector(vector, evaluation).await?;
        let (op, return_bool) = (binary.op, binary.return_bool);
        let place = Place { span: expr.span, owner: expr.span };
        let node = node.then(VectorScalar { op, scalar, scalar_first, return_bool, place });
        if changes_meaning(op) || return_bool {
            return Ok(self.drop_names(node, Collision::SameStep, expr.span.start));
        }
        Ok(node)
    }

    async fn vectors(&self, expr: &Expr, binary: &Binary, evaluation: Evaluation) -> Result<Node, QueryError> {
        let left = self.vector(&binary.left, evaluation).await?;
        let right = self.vector(&binary.right, evaluation).await?;
        let default = default_matching();
        let matching = binary.matching.as_ref().unwrap_or(&default);
        if binary.op.is_set() {
            return Ok(self.set_operation(expr, binary.op, matching, left, right, evaluation));
        }
        let swapped = matching.cardinality == Cardinality::OneToMany;
        let (many, one) = if swapped { (right, left) } else { (left, right) };
        let (many_signature, one_signature, signature_count) = signatures(matching, &many.table, &one.table);
        let naming = Naming {
            matching,
            changes_meaning: changes_meaning(binary.op) || (binary.return_bool && !self.options.delayed_name_removal),
            return_bool: binary.return_bool,
        };
        let many = (Side { table: Arc::clone(&many.table), signature: many_signature }, many);
        let one = (Side { table: Arc::clone(&one.table), signature: one_signature }, one);
        let (outputs, table) = naming.outputs(&many.0, &one.0, signature_count);
        let width = evaluation.steps.count;
        let operator = VectorMatch {
            op: binary.op,
            return_bool: binary.return_bool,
            one_to_one: matching.cardinality == Cardinality::OneToOne,
            swapped,
            many: many.0,
            one: one.0,
            signature_count,
            outputs,
            // The right fill value stands in for the "one" side and the left one for the "many" side, on whichever
            // side they were written: so does Prometheus.
            fill_one: matching.fill_right,
            fill_many: matching.fill_left,
            on: matching.on,
            labels: matching.labels.clone(),
            width,
            place: Place { span: expr.span, owner: expr.span },
        };
        let table = Arc::new(table);
        Ok(match operator.meets_one_at_most() {
            true => Node::beside(operator, many.1, one.1, table, width),
            false => Node::gather(operator, vec![many.1, one.1], table, width),
        })
    }

    fn set_operation(
        &self,
        expr: &Expr,
        op: BinaryOp,
        matching: &VectorMatching,
        left: Node,
        right: Node,
        evaluation: Evaluation,
    ) -> Node {
        let (left_signature, right_signature, signature_count) = signatures(matching, &left.table, &right.table);
        let table = if op == BinaryOp::Or { left.table.concat(&right.table) } else { Arc::clone(&left.table) };
        let width = evaluation.steps.count;
        let operator = SetOperation { op, left_signature, right_signature, signature_count, width };
        let node = match op {
            BinaryOp::Or => Node::gather(operator, vec![left, right], Arc::clone(&table), width),
            _ => Node::beside(operator, left, right, Arc::clone(&table), width),
        };
        // `a or b or c` begins where `a or b` does.
        self.merge_equal(node, &table, Collision::SameStep, expr.span.end)
    }
}

/// Numbers both sides' series by the labels that have to be equal.
fn signatures(matching: &VectorMatching, many: &SeriesTable, one: &SeriesTable) -> (Vec<u32>, Vec<u32>, usize) {
    let key = if matching.on { Key::With(&matching.labels) } else { Key::Without(&matching.labels) };
    let mut numbers = KeyNumbers::default();
    let (many, one) = (numbers.of_table(key, many), numbers.of_table(key, one));
    (many, one, numbers.len())
}

/// How results are called. Source: `resultMetric`, Prometheus 3.14 `promql/engine.go`.
struct Naming<'a> {
    matching: &'a VectorMatching,
    changes_meaning: bool,
    return_bool: bool,
}

/// Output labels by number.
#[derive(Default)]
struct OutputLabels {
    numbers: HashMap<Labels, u32>,
    labels: Vec<Labels>,
    producers: Vec<u32>,
}

impl OutputLabels {
    fn number(&mut self, labels: Labels) -> u32 {
        let next = self.labels.len() as u32;
        let number = *self.numbers.entry(labels).or_insert_with_key(|labels| {
            self.labels.push(labels.clone());
            next
        });
        if number == next {
            self.producers.push(0);
        }
        self.producers[number as usize] += 1;
        number
    }
}

impl Naming<'_> {
    /// The labels of a result, before those of `include`.
    fn base(&self, many: &Labels) -> Labels {
        let one_to_one = self.matching.cardinality == Cardinality::OneToOne;
        let listed = |name: &str| self.matching.labels.iter().any(|label| label == name);
        many.filter(|name, _| {
            !(self.changes_meaning && is_metadata_label(name)) && (!one_to_one || listed(name) == self.matching.on)
        })
    }

    /// Labels of `group_left(…)` come from the "one" side, absence included.
    fn with_included(&self, base: &Labels, one: &Labels) -> Labels {
        if self.matching.include.is_empty() {
            return base.clone();
        }
        let mut builder = base.to_builder();
        for name in &self.matching.include {
            builder.set(name, one.get(name));
        }
        builder.build()
    }

    /// What a fill value is taken to be called.
    fn filler(&self, other: &Labels) -> Labels {
        let labels = &self.matching.labels;
        if self.matching.on { Key::With(labels).labels(other) } else { Key::Without(labels).labels(other) }
    }

    fn outputs(&self, many: &Side, one: &Side, signature_count: usize) -> (OutputNumbers, SeriesTable) {
        let mut all = OutputLabels::default();
        let mut numbers = OutputNumbers::default();
        let filled = self.matching.fill_right.is_some();
        let include = !self.matching.include.is_empty();
        let mut ones: Vec<Vec<u32>> = vec![Vec::new(); signature_count];
        for (series, signature) in one.signature.iter().enumerate() {
            ones[*signature as usize].push(series as u32);
        }
        for (series, labels) in many.table.labels().iter().enumerate() {
            let partners = &ones[many.signature[series] as usize];
            // A series that meets nobody has no output and needs no name.
            if partners.is_empty() && !filled {
                numbers.by_many.push(u32::MAX);
                continue;
            }
            let base = self.base(labels);
            if include {
                for partner in partners {
                    let output = all.number(self.with_included(&base, &one.table.labels()[*partner as usize]));
                    numbers.by_pair.insert((series as u32, *partner), output);
                }
            } else {
                numbers.by_many.push(all.number(base.clone()));
            }
            if filled {
                numbers.without_one.push(all.number(self.with_included(&base, &self.filler(labels))));
            }
        }
        if include {
            numbers.by_many.clear();
        }
        if self.matching.fill_left.is_some() {
            for labels in one.table.labels() {
                let base = self.base(&self.filler(labels));
                numbers.without_many.push(all.number(self.with_included(&base, labels)));
            }
        }
        numbers.producers = all.producers;
        let count = all.labels.len();
        let drop_name = vec![self.return_bool; count];
        // Without a name there is nothing left to drop.
        let named = all.labels.iter().any(|labels| labels.find(METRIC_NAME).is_some());
        let drop_name = if named { drop_name } else { vec![false; count] };
        (numbers, SeriesTable::with_drop_names(all.labels, drop_name))
    }
}
