//! The life of one target's scrapes: wait for its place in the interval, scrape, wait for the next tick.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::Clock;
use super::append::{Job, Taker};
use super::fetch::{FetchError, fetch};
use super::target::Target;
use crate::http::HttpClient;

/// What a pool says to one of its loops.
#[derive(Debug)]
pub(super) struct Control {
    stop: watch::Sender<bool>,
    /// Where set, scrapes fail with it and the target is not asked.
    forced_error: Mutex<Option<String>>,
    /// Another loop goes on with the target's series: no markers at the end.
    handed_over: AtomicBool,
}

impl Control {
    pub fn new() -> Arc<Control> {
        let stop = watch::channel(false).0;
        Arc::new(Control { stop, forced_error: Mutex::new(None), handed_over: AtomicBool::new(false) })
    }

    pub fn set_forced_error(&self, error: Option<String>) {
        *self.forced_error.lock() = error;
    }

    pub fn stop(&self, handed_over: bool) {
        self.handed_over.store(handed_over, Ordering::Relaxed);
        self.stop.send_replace(true);
    }
}

/// Scrapes one target until it is told to stop.
pub(super) struct ScrapeLoop {
    pub target: Arc<Target>,
    pub job: Arc<Job>,
    pub client: Arc<HttpClient>,
    pub clock: Clock,
    pub control: Arc<Control>,
    pub shutdown: watch::Receiver<bool>,
    /// Away while a scrape is being taken.
    pub taker: Option<Taker>,
}

impl ScrapeLoop {
    /// Runs until [`Control::stop`] or shutdown. `stopped` gets the cache when the last scrape is taken; markers for
    /// the end of the target come later, should nobody scrape it then.
    pub async fn run(mut self, stopped: oneshot::Sender<Option<Taker>>) {
        let interval = self.target.interval();
        let mut ticker = tokio::time::interval_at(Instant::now() + interval, interval);
        let scraped = self.repeat(&mut ticker).await;
        if self.control.handed_over.load(Ordering::Relaxed) {
            // A receiver that is gone does not want it.
            let _ = stopped.send(self.taker.take());
            return;
        }
        let _ = stopped.send(None);
        if scraped {
            self.end(ticker).await;
        }
    }

    /// Whether it scraped at all.
    async fn repeat(&mut self, ticker: &mut Interval) -> bool {
        let interval = self.target.interval();
        let interval_ms = interval.as_millis().max(1) as i64;
        let tolerance_ms = self.job.options.timestamp_tolerance_ms.min(interval_ms / 100);
        let mut stop = self.control.stop.subscribe();
        let mut shutdown = self.shutdown.clone();
        if self.job.options.jitter {
            let offset = self.target.offset((self.clock)(), self.job.options.offset_seed);
            tokio::select! {
                () = tokio::time::sleep(offset) => {}
                _ = stop.wait_for(|stop| *stop) => return false,
                _ = shutdown.wait_for(|stop| *stop) => return false,
            }
        }
        *ticker = tokio::time::interval_at(Instant::now() + interval, interval);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut aligned_ms = (self.clock)();
        let mut scraped = false;
        loop {
            if *stop.borrow() || *shutdown.borrow() {
                return scraped;
            }
            let now_ms = (self.clock)();
            aligned_ms += (now_ms - aligned_ms).div_euclid(interval_ms) * interval_ms;
            // A little early counts for the tick to come.
            if aligned_ms + interval_ms - now_ms <= tolerance_ms {
                aligned_ms += interval_ms;
            }
            let on_time = (now_ms - aligned_ms).abs() <= tolerance_ms;
            let taken = self.scrape(if on_time { aligned_ms } else { now_ms }, &mut shutdown).await;
            scraped |= taken;
            tokio::select! {
                _ = ticker.tick() => {}
                _ = stop.wait_for(|stop| *stop) => return scraped,
                _ = shutdown.wait_for(|stop| *stop) => return scraped,
            }
        }
    }

    /// One scrape; false where shutdown came in between and nothing was taken.
    async fn scrape(&mut self, scrape_ms: i64, shutdown: &mut watch::Receiver<bool>) -> bool {
        let begun = Instant::now();
        let forced = self.control.forced_error.lock().clone();
        let taker = self.taker.take().unwrap_or_default();
        let answer = match forced {
            Some(error) => Err(FetchError::Failed(error)),
            None => {
                let fetch = fetch(&self.client, &self.job.config, &self.target, self.job.body_limit());
                let fetch = tokio::time::timeout(self.target.timeout(), fetch);
                let answer = tokio::select! {
                    answer = fetch => answer,
                    _ = shutdown.wait_for(|stop| *stop) => return false,
                };
                let late = || FetchError::Failed(format!("Get {:?}: context deadline exceeded", self.target.url()));
                answer.unwrap_or_else(|_| Err(late()))
            }
        };
        self.blocking(taker, move |taker, job, target| taker.take(job, target, answer, scrape_ms, begun)).await;
        true
    }

    async fn blocking(&mut self, mut taker: Taker, work: impl FnOnce(&mut Taker, &Job, &Target) + Send + 'static) {
        let (job, target) = (self.job.clone(), self.target.clone());
        let done = tokio::task::spawn_blocking(move || {
            work(&mut taker, &job, &target);
            taker
        });
        match done.await {
            Ok(taker) => self.taker = Some(taker),
            // The next scrape begins with an empty cache.
            Err(error) => tracing::error!(target = self.target.url(), err = %error, "Scrape panicked"),
        }
    }

    /// Writes staleness markers, unless the target comes back within two intervals: then the markers would be older
    /// than its new samples, and the store refuses them.
    async fn end(&mut self, mut ticker: Interval) {
        let mut shutdown = self.shutdown.clone();
        let interval = self.target.interval();
        let wait = async {
            ticker.tick().await;
            let stale_ms = (self.clock)();
            ticker.tick().await;
            tokio::time::sleep(interval / 10).await;
            stale_ms
        };
        let stale_ms = tokio::select! {
            stale_ms = wait => stale_ms,
            _ = shutdown.wait_for(|stop| *stop) => return,
        };
        if let (Some(taker), false) = (self.taker.take(), self.control.handed_over.load(Ordering::Relaxed)) {
            self.blocking(taker, move |taker, job, target| taker.end(job, target, stale_ms)).await;
        }
    }
}
