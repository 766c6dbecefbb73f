//! Sending whole fleets to a server, as several Prometheus servers would.

use tokio::task::JoinSet;

use crate::dataset::Fleet;
use crate::server::{Server, write_request};
use pilaster_ingest::remote_write::SeriesToSend;

/// What a Prometheus sender puts in one request by default.
const SAMPLES_PER_REQUEST: usize = 2000;

/// One scrape of all fleets, each over a connection of its own. Returns the number of samples.
pub async fn send(server: &Server, fleets: &mut Vec<Fleet>, timestamp_ms: i64) -> anyhow::Result<u64> {
    let mut senders = JoinSet::new();
    for (number, mut fleet) in std::mem::take(fleets).into_iter().enumerate() {
        let writer = server.writer();
        senders.spawn(async move {
            let scrape: Vec<_> =
                fleet.scrape().map(|(labels, value)| (labels.clone(), [(timestamp_ms, value)])).collect();
            for part in scrape.chunks(SAMPLES_PER_REQUEST) {
                let body = write_request(part.iter().map(|(labels, samples)| SeriesToSend::floats(labels, samples)))?;
                writer.write(body).await?;
            }
            anyhow::Ok((number, fleet, scrape.len() as u64))
        });
    }
    let mut samples = 0;
    let mut back = Vec::new();
    while let Some(sent) = senders.join_next().await {
        let (number, fleet, count) = sent??;
        back.push((number, fleet));
        samples += count;
    }
    back.sort_by_key(|(number, _)| *number);
    fleets.extend(back.into_iter().map(|(_, fleet)| fleet));
    Ok(samples)
}
