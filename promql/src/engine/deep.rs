//! Deeply nested queries run on a thread with a large stack: preparing and running a query recurses as its expression
//! does, and a worker's stack would be exhausted long before the parser's limit on depth.

use std::future::Future;

use futures::executor::block_on;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::ast::Expr;
use crate::error::QueryError;

/// Levels that fit on the stack of any worker, with debug builds' large frames.
const SHALLOW: usize = 20;

/// For [`crate::parser::MAX_DEPTH`] levels; only what is used of it becomes memory.
const STACK_BYTES: usize = 128 << 20;

/// Whether `expr` needs more stack than workers are sure to have.
pub(super) fn is_deep(expr: &Expr) -> bool {
    exceeds(expr, SHALLOW)
}

/// The output of `work`, which runs on a stack of its own where the query is deep.
pub(super) async fn run<F, T>(is_deep: bool, work: F) -> Result<T, QueryError>
where
    F: Future<Output = Result<T, QueryError>> + Send + 'static,
    T: Send + 'static,
{
    if is_deep { on_own_stack(work).await? } else { work.await }
}

fn exceeds(expr: &Expr, levels: usize) -> bool {
    levels == 0 || expr.children().into_iter().any(|child| exceeds(child, levels - 1))
}

/// The output of `work` on a stack of its own; dropping the future does not stop the work, which ends by itself once
/// the query is cancelled.
async fn on_own_stack<F, T>(work: F) -> Result<T, QueryError>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    let runtime = Handle::try_current().ok();
    let run = move || {
        let _entered = runtime.as_ref().map(Handle::enter);
        // Nobody may be waiting any more.
        let _ = sender.send(block_on(work));
    };
    std::thread::Builder::new().name("deep-query".to_owned()).stack_size(STACK_BYTES).spawn(run).map_err(|error| {
        QueryError::execution(format!("could not start a thread for a deeply nested query: {error}"))
    })?;
    receiver.await.map_err(|_| QueryError::execution("a deeply nested query ended without an answer"))
}
