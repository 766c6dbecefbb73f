//! The store's upkeep, by a timer: what must not wait, and beside it what may take long.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use pilaster_storage::{Error, Occasion, Store};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::app::App;

/// What is being done. Each kind once at a time: an object store that is away makes it long.
#[derive(Debug, Default)]
pub struct Upkeep {
    head: Option<JoinHandle<()>>,
    /// Begun when the other kind has come to an end.
    blocks: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Upkeep {
    /// Does in the background what there is to do, as far as it is not being done.
    pub fn begin(&mut self, app: &Arc<App>, store: &Arc<Store>) {
        if self.head.as_ref().is_some_and(|head| !head.is_finished()) {
            return;
        }
        let (app, store, blocks) = (app.clone(), store.clone(), self.blocks.clone());
        self.head = Some(spawn_blocking(move || {
            let done = run(&app, "head", || store.maintain_head());
            save_head(&store, Occasion::Timer);
            store.options().flush_workers.each(app.thread_rests);
            // Every attempt would be a long wait.
            if done.is_err_and(|error| error.is_of_objects()) {
                return;
            }
            let blocks = &mut *blocks.lock();
            if blocks.as_ref().is_none_or(JoinHandle::is_finished) {
                *blocks = Some(spawn_blocking(move || {
                    // The log and the metrics have the reason of a failure.
                    let _ = run(&app, "blocks", || store.maintain_blocks());
                    store.options().merge_workers.each(app.thread_rests);
                }));
            }
        }));
    }
}

/// Puts the head into a file where that is worth it. A failure costs the next start some time, and nothing else.
pub fn save_head(store: &Store, occasion: Occasion) {
    let started = Instant::now();
    match store.save_head(occasion) {
        Ok(true) => tracing::info!(duration = ?started.elapsed(), "Head snapshot taken"),
        Ok(false) => {}
        Err(error) => tracing::warn!(error = crate::api::with_causes(&error), "no head snapshot could be taken"),
    }
}

fn run(app: &App, kind: &str, work: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
    let started = Instant::now();
    let result = work();
    if let Err(error) = &result {
        app.metrics.maintenance_failures.add(1);
        tracing::error!(error = crate::api::with_causes(error), "storage maintenance failed; it is tried again");
    }
    app.metrics.maintenance_seconds.with(&[kind]).observe(started.elapsed().as_secs_f64());
    (app.thread_rests)();
    result
}
