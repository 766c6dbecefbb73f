//! What the server counts about itself, under Prometheus's names where dashboards know them.

use super::{Buckets, Counter, Family, Gauge, Summary, TextWriter, process};

/// Seconds; Prometheus's own bounds for its HTTP handlers.
const HTTP_SECONDS: &[f64] = &[0.1, 0.2, 0.4, 1.0, 3.0, 8.0, 20.0, 60.0, 120.0];
const HTTP_BYTES: &[f64] = &[100.0, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
const QUERY_SECONDS: &[f64] = &[0.01, 0.1, 1.0, 10.0];

/// Counters and gauges that other parts of the server write to.
#[derive(Debug)]
pub struct ServerMetrics {
    /// By handler and status code.
    pub http_requests: Family<Counter>,
    /// By handler.
    pub http_seconds: Family<Buckets>,
    /// By handler.
    pub http_bytes: Family<Buckets>,
    /// By part of a query: `queue_time`, `prepare_time`, `inner_eval`, `result_sort`.
    pub query_seconds: Family<Summary>,
    /// Duration of whole queries by language: `promql`, `sql`.
    pub language_seconds: Family<Buckets>,
    pub queries: Gauge,
    pub queries_max: Gauge,
    pub query_samples: Counter,
    pub query_samples_read: Counter,
    pub reload_successful: Gauge,
    pub reload_success_seconds: Gauge,
    pub ready: Gauge,
    pub replay_seconds: Gauge,
    pub maintenance_seconds: Family<Summary>,
    pub maintenance_failures: Counter,
    pub federation_errors: Counter,
    /// By receiver: `remote_write`.
    pub received_samples: Family<Counter>,
}

impl Default for ServerMetrics {
    fn default() -> ServerMetrics {
        ServerMetrics {
            http_requests: Family::new(&["handler", "code"], Counter::default),
            http_seconds: Family::new(&["handler"], || Buckets::new(HTTP_SECONDS)),
            http_bytes: Family::new(&["handler"], || Buckets::new(HTTP_BYTES)),
            query_seconds: Family::new(&["slice"], Summary::default),
            language_seconds: Family::new(&["language"], || Buckets::new(QUERY_SECONDS)),
            queries: Gauge::default(),
            queries_max: Gauge::default(),
            query_samples: Counter::default(),
            query_samples_read: Counter::default(),
            reload_successful: Gauge::default(),
            reload_success_seconds: Gauge::default(),
            ready: Gauge::default(),
            replay_seconds: Gauge::default(),
            maintenance_seconds: Family::new(&["kind"], Summary::default),
            maintenance_failures: Counter::default(),
            federation_errors: Counter::default(),
            received_samples: Family::new(&["receiver"], Counter::default),
        }
    }
}

impl ServerMetrics {
    /// Adds every family of this struct, of the process and of the build.
    pub fn write(&self, text: &mut TextWriter) {
        let build = vec![
            ("version", crate::build::PROMETHEUS_VERSION),
            ("revision", "unknown"),
            ("branch", ""),
            ("goversion", ""),
            ("goos", std::env::consts::OS),
            ("goarch", crate::build::go_arch()),
            ("tags", "unknown"),
        ];
        let help = "A metric with a constant '1' value; version is the Prometheus whose interfaces this server has.";
        text.values("prometheus_build_info", "gauge", help, [(build, 1.0)]);
        let build = vec![("version", crate::build::VERSION)];
        text.values("pilaster_build_info", "gauge", "A metric with a constant '1' value.", [(build, 1.0)]);
        process::write(text);

        text.counters("prometheus_http_requests_total", "Counter of HTTP requests.", &self.http_requests);
        let help = "Histogram of latencies for HTTP requests.";
        text.histogram("prometheus_http_request_duration_seconds", help, &self.http_seconds);
        let help = "Histogram of response size for HTTP requests.";
        text.histogram("prometheus_http_response_size_bytes", help, &self.http_bytes);

        text.summary("prometheus_engine_query_duration_seconds", "Query timings.", &self.query_seconds);
        let help = "Duration of whole queries by language.";
        text.histogram("pilaster_query_duration_seconds", help, &self.language_seconds);
        let help = "The current number of queries being executed or waiting.";
        text.gauge("prometheus_engine_queries", help, self.queries.get());
        let help = "The max number of concurrent queries.";
        text.gauge("prometheus_engine_queries_concurrent_max", help, self.queries_max.get());
        text.gauge("prometheus_engine_query_log_enabled", "State of the query log.", 0.0);
        let help = "The total number of samples loaded by all queries (full window per step for range-vector).";
        text.counter("prometheus_engine_query_samples_total", help, self.query_samples.get() as f64);
        let help = "The total number of samples read by all queries.";
        text.counter("prometheus_engine_query_samples_read_total", help, self.query_samples_read.get() as f64);

        let help = "Whether the last configuration reload attempt was successful.";
        text.gauge("prometheus_config_last_reload_successful", help, self.reload_successful.get());
        let help = "Timestamp of the last successful configuration reload.";
        text.gauge("prometheus_config_last_reload_success_timestamp_seconds", help, self.reload_success_seconds.get());
        let help = "Whether startup was fully completed and the server is ready for normal operation.";
        text.gauge("prometheus_ready", help, self.ready.get());
        let help = "Time taken to replay the data on disk.";
        text.gauge("prometheus_tsdb_data_replay_duration_seconds", help, self.replay_seconds.get());
        let help = "Duration of upkeep, each run: flush, log truncation and retention (head), and compaction (blocks).";
        text.summary("pilaster_storage_maintenance_seconds", help, &self.maintenance_seconds);
        let help = "Total number of maintenance runs that failed; each is tried again.";
        text.counter("pilaster_storage_maintenance_failures_total", help, self.maintenance_failures.get() as f64);
        let help = "Total number of errors that occurred while sending federation responses.";
        text.counter("prometheus_web_federation_errors_total", help, self.federation_errors.get() as f64);
        let help = "Samples accepted by receivers.";
        text.counters("pilaster_received_samples_total", help, &self.received_samples);
    }
}
