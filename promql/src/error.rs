//! Why a query could not be answered, cut by what a caller can do about it.

use datafusion::error::DataFusionError;

use crate::parser::ParseError;
use crate::source::SourceError;

/// `Display` is the text that Prometheus answers with.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The text is not PromQL.
    #[error("{0}")]
    Parse(ParseError),
    /// The request's parameters make no sense together.
    #[error("{0}")]
    BadData(String),
    /// The query is well formed but its data or parameters make it fail.
    #[error("{0}")]
    Execution(String),
    /// The time limit was reached; the work has been stopped.
    #[error("query timed out in {0}")]
    Timeout(String),
    /// The caller went away or asked to stop.
    #[error("query was canceled in {0}")]
    Canceled(String),
    /// The source of samples failed.
    #[error("{}", chain(.0))]
    Storage(SourceError),
    /// A part of PromQL that is not built.
    #[error("{0}")]
    Unsupported(String),
}

impl QueryError {
    /// The error for two series of one label set at one time.
    pub(crate) fn same_labelset() -> QueryError {
        QueryError::Execution("vector cannot contain metrics with the same labelset".to_owned())
    }

    pub(crate) fn execution(text: impl Into<String>) -> QueryError {
        QueryError::Execution(text.into())
    }

    /// Unwraps what an operator raised; an error of DataFusion itself becomes an execution error.
    pub(crate) fn from_datafusion(error: DataFusionError) -> QueryError {
        match error {
            DataFusionError::External(inner) => match inner.downcast::<QueryError>() {
                Ok(own) => *own,
                Err(other) => QueryError::Execution(other.to_string()),
            },
            DataFusionError::Context(_, inner) => QueryError::from_datafusion(*inner),
            other => QueryError::Execution(other.to_string()),
        }
    }
}

impl From<SourceError> for QueryError {
    fn from(error: SourceError) -> QueryError {
        QueryError::Storage(error)
    }
}

impl From<ParseError> for QueryError {
    fn from(error: ParseError) -> QueryError {
        QueryError::Parse(error)
    }
}

impl From<QueryError> for DataFusionError {
    fn from(error: QueryError) -> DataFusionError {
        DataFusionError::External(Box::new(error))
    }
}

/// An error with its causes, `: ` between them.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
