//! `pilaster import remote-read`: samples of a running server, over its remote read API.
//!
//! Each block range is asked for on its own, and written before the next.

use anyhow::{Context, anyhow, bail};
use pilaster_ingest::remote_read::{Frames, decode_chunked, decode_sampled, encode_request};
use pilaster_ingest::remote_write::MAX_DECODED_BYTES;
use pilaster_model::{Columns, Labels, Matcher, TimeRange};
use pilaster_promql::parser::parse_selector;
use pilaster_storage::{Imported, Store};

use super::openmetrics::in_order;
use super::{Failure, Progress, STORE, import_series, open_store, rate, summary, time_text, window_of};
use crate::api::params::parse_time;
use crate::arguments::Arguments;

/// Samples in memory.
const MOST_SAMPLES: usize = 24 << 20;

/// Runs the command with the words behind `import remote-read`.
pub(super) fn run(words: &[&str]) -> Result<(), Failure> {
    let own = [("--match", true), ("--start", true), ("--end", true), ("--header", true)];
    let arguments = Arguments::parse(words, &[&STORE[..], &own].concat())?;
    let [url] = arguments.words.as_slice() else {
        return Err("expected the URL of a server's remote read API".to_owned().into());
    };
    let time = |name: &str| -> Result<i64, String> {
        parse_time(arguments.get(name).ok_or_else(|| format!("required flag {name} not provided"))?)
    };
    let range = TimeRange::new(time("--start")?, time("--end")?);
    if range.min_ms > range.max_ms {
        return Err("start time must not be after end time".to_owned().into());
    }
    let mut selectors = Vec::new();
    for text in arguments.all("--match") {
        selectors.push(parse_selector(text).map_err(|error| error.to_string())?);
    }
    if selectors.is_empty() {
        selectors.push(parse_selector("{__name__=~\".+\"}").map_err(|error| error.to_string())?);
    }
    let mut headers = Vec::new();
    for header in arguments.all("--header") {
        let (name, value) = header.split_once(':').ok_or_else(|| format!("expected NAME:VALUE got '{header}'"))?;
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    let store = open_store(&arguments)?;
    let server = Server::new(url, headers)?;
    Ok(import(&store, &server, &selectors, range)?)
}

fn import(store: &Store, server: &Server, selectors: &[Vec<Matcher>], range: TimeRange) -> anyhow::Result<()> {
    let progress = Progress::new(0);
    let (width_ms, _) = store.import_window(0);
    let mut imported = Imported::default();
    let mut read_bytes = 0;
    let mut start_ms = range.min_ms;
    while start_ms <= range.max_ms {
        let window = window_of(start_ms, width_ms);
        let asked = TimeRange::new(start_ms, window.max_ms.min(range.max_ms));
        for matchers in selectors {
            let mut sink = Sink { store, range: asked, progress: &progress, series: Vec::new(), samples: 0 };
            let mut written = Imported::default();
            read_bytes += server.read(matchers, asked, &mut |series| {
                written += sink.take(series)?;
                Ok(())
            })?;
            written += sink.write()?;
            if written != Imported::default() {
                let (from, to) = (time_text(asked.min_ms), time_text(asked.max_ms));
                let samples = super::grouped(written.samples);
                let speed = rate(imported.samples + written.samples, progress.elapsed());
                progress.say(&format!("{from} to {to}  {samples} samples; {speed} so far"));
            }
            imported += written;
        }
        start_ms = window.max_ms.saturating_add(1);
        if window.max_ms == i64::MAX {
            break;
        }
    }
    progress.finish();
    println!("{}", summary(&imported, Some(read_bytes), &progress));
    Ok(())
}

/// Series on their way to a block.
struct Sink<'s> {
    store: &'s Store,
    range: TimeRange,
    progress: &'s Progress,
    series: Vec<(Labels, Columns)>,
    samples: usize,
}

impl Sink<'_> {
    fn take(&mut self, series: Vec<(Labels, Columns)>) -> anyhow::Result<Imported> {
        for (labels, mut samples) in series {
            // Chunks are sent whole.
            samples.retain(|ms| self.range.contains(ms));
            self.samples += samples.len();
            self.progress.add(samples.len() as u64);
            self.series.push((labels, samples));
        }
        if self.samples >= MOST_SAMPLES { self.write() } else { Ok(Imported::default()) }
    }

    fn write(&mut self) -> anyhow::Result<Imported> {
        self.samples = 0;
        import_series(self.store, &in_order(std::mem::take(&mut self.series)), 0)
    }
}

/// The other server.
struct Server {
    url: String,
    headers: Vec<(String, String)>,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Server {
    fn new(url: &str, headers: Vec<(String, String)>) -> anyhow::Result<Server> {
        // Whoever came first has set the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().user_agent(pilaster_ingest::USER_AGENT).build()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Server { url: url.to_owned(), headers, client, runtime })
    }

    /// Gives the series of one query to `take`, some at a time; bytes that came.
    fn read(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        take: &mut dyn FnMut(Vec<(Labels, Columns)>) -> anyhow::Result<()>,
    ) -> anyhow::Result<u64> {
        let body = snap::raw::Encoder::new().compress_vec(&encode_request(matchers, range))?;
        let mut request = self
            .client
            .post(&self.url)
            .header("Content-Type", "application/x-protobuf")
            .header("Content-Encoding", "snappy")
            .header("X-Prometheus-Remote-Read-Version", "0.1.0");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        self.runtime.block_on(async {
            let failed = || format!("could not read from {}", self.url);
            let mut response = request.body(body).send().await.with_context(failed)?;
            let status = response.status();
            if !status.is_success() {
                let text = response.text().await.unwrap_or_default();
                bail!("{} answered {status}: {}", self.url, text.trim());
            }
            let kind = response.headers().get("Content-Type").and_then(|value| value.to_str().ok()).unwrap_or_default();
            let mut bytes = 0;
            if kind.starts_with("application/x-streamed-protobuf") {
                let mut frames = Frames::default();
                while let Some(piece) = response.chunk().await.with_context(failed)? {
                    bytes += piece.len() as u64;
                    frames.extend(&piece);
                    while let Some(message) = frames.next_message()? {
                        take(decode_chunked(&message)?)?;
                    }
                }
                if !frames.is_empty() {
                    bail!("{} ended its answer inside a frame", self.url);
                }
            } else {
                let packed = response.bytes().await.with_context(failed)?;
                bytes = packed.len() as u64;
                let len = snap::raw::decompress_len(&packed).map_err(|error| anyhow!("the answer: {error}"))?;
                if len > 16 * MAX_DECODED_BYTES {
                    bail!("{} answered with {len} bytes in one message; ask for less", self.url);
                }
                let message = snap::raw::Decoder::new().decompress_vec(&packed)?;
                take(decode_sampled(&message)?)?;
            }
            Ok(bytes)
        })
    }
}
