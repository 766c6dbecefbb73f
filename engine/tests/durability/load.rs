//! Writers that send as fast as they are answered, and what they were told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::ledger::{Ledger, now_ms, read};
use crate::server::Server;

const DAY_MS: i64 = 86_400_000;

/// Some writers with series of their own. They share a clock that goes much faster than the real one, so that ranges of
/// time fill up and become blocks.
pub struct Load {
    ledgers: Vec<Ledger>,
    clock_ms: Arc<AtomicI64>,
    start_ms: i64,
    step_ms: i64,
    series_per_writer: u32,
    /// Whether a refusal is a fault; otherwise it is a write that was not acknowledged.
    refusals_allowed: bool,
}

impl Load {
    pub fn new(writers: usize, series_per_writer: u32, step_ms: i64, refusals_allowed: bool) -> Load {
        let start_ms = now_ms() - 300 * DAY_MS;
        let ledgers = (0..writers).map(|_| Ledger::default()).collect();
        let clock_ms = Arc::new(AtomicI64::new(start_ms));
        Load { ledgers, clock_ms, start_ms, step_ms, series_per_writer, refusals_allowed }
    }

    /// Writes until `moment` is over and the writers have noticed it. From when `moment` sets the flag that it gets, no
    /// answer counts as a promise any more.
    pub async fn during(&mut self, client: &reqwest::Client, url: &str, moment: impl AsyncFnOnce(&AtomicBool)) {
        let stop = Arc::new(AtomicBool::new(false));
        let void = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for (writer, mut ledger) in self.ledgers.drain(..).enumerate() {
            let (client, url, stop, clock_ms) = (client.clone(), url.to_owned(), stop.clone(), self.clock_ms.clone());
            let (step_ms, refusals_allowed, void) = (self.step_ms, self.refusals_allowed, void.clone());
            let series = writer as u32 * self.series_per_writer..(writer as u32 + 1) * self.series_per_writer;
            tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let timestamp_ms = clock_ms.fetch_add(step_ms, Ordering::Relaxed);
                    match ledger.write(&client, &url, series.clone(), timestamp_ms).await {
                        Some(answer) if answer.status().is_success() => {
                            if void.load(Ordering::SeqCst) {
                                ledger.acknowledged.retain(|key, _| key.1 != timestamp_ms);
                            }
                        }
                        Some(answer) if refusals_allowed && answer.status().is_server_error() => {}
                        Some(answer) => {
                            let status = answer.status();
                            panic!("refused: {status} {}", answer.text().await.unwrap_or_default());
                        }
                        // The server is gone.
                        None => break,
                    }
                }
                ledger
            }));
        }
        moment(&void).await;
        stop.store(true, Ordering::Relaxed);
        for task in tasks {
            self.ledgers.push(task.await.unwrap());
        }
    }

    pub fn acknowledged(&self) -> usize {
        self.ledgers.iter().map(|ledger| ledger.acknowledged.len()).sum()
    }

    /// Compares what the server has with what it promised; panics where that differs.
    pub async fn check(&self, client: &reqwest::Client, server: &Server) {
        self.compare(client, server).await.unwrap_or_else(|error| panic!("{error}\n{}", server.log()));
    }

    /// What is wrong with what the server has.
    pub async fn compare(&self, client: &reqwest::Client, server: &Server) -> Result<(), String> {
        let url = &server.url;
        let mut all = Ledger::default();
        for ledger in &self.ledgers {
            all.acknowledged.extend(ledger.acknowledged.iter().map(|(key, bits)| (*key, *bits)));
            all.attempted.extend(ledger.attempted.iter().map(|(key, bits)| (*key, *bits)));
        }
        let end_ms = self.clock_ms.load(Ordering::Relaxed) + 1;
        let there = read(client, url, end_ms, (end_ms - self.start_ms) / DAY_MS + 1).await?;
        assert!(there.warnings.is_empty(), "{:?}", there.warnings);
        all.check(&there.samples)
    }
}
