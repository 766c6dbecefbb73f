//! `info(v, {data labels})`: adds labels of info metrics. Which ones a series gets may change from step to step.

use crate::ast::Expr;
use crate::error::QueryError;
use crate::prepare::node::Node;
use crate::prepare::{Evaluation, Preparer};

impl Preparer {
    pub(super) async fn info(&self, _: &Expr, _: &[Expr], _: Evaluation) -> Result<Node, QueryError> {
        Err(QueryError::Unsupported("function info is not supported yet".to_owned()))
    }
}
