//! Sending whole fleets to a server, as several Prometheus servers would.

use tokio::task::JoinSet;

use crate::dataset::Fleet;
use crate::server::{Server, write_request};
use pilaster_ingest::remote_write::SeriesToSend;

/// What a Prometheus sender puts in one request by default.
const SAMPLES_PER_REQUEST: usize = 2000;

/// One scrape of all fleets over so many connections. Returns the number of samples.
pub async fn send(
    server: &Server,
    fleets: &mut Vec<Fleet>,
    connections: usize,
    timestamp_ms: i64,
) -> anyhow::Result<u64> {
    let together = fleets.len().div_ceil(connections.max(1)).max(1);
    let mut all = std::mem::take(fleets);
    let mut senders = JoinSet::new();
    while !all.is_empty() {
        let mut some: Vec<Fleet> = all.drain(..together.min(all.len())).collect();
        let (number, writer) = (senders.len(), server.writer());
        senders.spawn(async move {
            let scrape: Vec<_> = some
                .iter_mut()
                .flat_map(Fleet::scrape)
                .map(|(labels, value)| (labels.clone(), [(timestamp_ms, value)]))
                .collect();
            for part in scrape.chunks(SAMPLES_PER_REQUEST) {
                let body = write_request(part.iter().map(|(labels, samples)| SeriesToSend::floats(labels, samples)))?;
                writer.write(body).await?;
            }
            anyhow::Ok((number, some, scrape.len() as u64))
        });
    }
    let mut samples = 0;
    let mut back = Vec::new();
    while let Some(sent) = senders.join_next().await {
        let (number, some, count) = sent??;
        back.push((number, some));
        samples += count;
    }
    back.sort_by_key(|(number, _)| *number);
    fleets.extend(back.into_iter().flat_map(|(_, some)| some));
    Ok(samples)
}
