//! Every flag of the server: Prometheus 3's, in its order, and ours.

/// What a flag's value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Switch,
    Text,
    List,
    Duration,
    Number,
    Bytes,
    OneOf(&'static [&'static str]),
}

/// One row of the table.
#[derive(Debug)]
pub(super) struct Flag {
    pub name: &'static str,
    pub kind: Kind,
    pub default: &'static str,
    pub help: &'static str,
    /// Not shown by `--help`; shown by `status/flags`.
    pub hidden: bool,
    /// Whether the flag changes anything here.
    pub works: bool,
}

const fn works(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag { name, kind, default, help, hidden: false, works: true }
}

const fn known(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag { name, kind, default, help, hidden: false, works: false }
}

const fn hidden(name: &'static str, kind: Kind, default: &'static str) -> Flag {
    Flag { name, kind, default, help: "", hidden: true, works: false }
}

const fn hidden_works(name: &'static str, kind: Kind, default: &'static str) -> Flag {
    Flag { name, kind, default, help: "", hidden: true, works: true }
}

use Kind::{Bytes, Duration, List, Number, OneOf, Switch, Text};

pub(super) static FLAGS: &[Flag] = &[
    works(
        "config.file",
        Text,
        "prometheus.yml",
        "Configuration file. Without the flag and the file, Pilaster scrapes itself.",
    ),
    known("config.auto-reload", Switch, "false", "Reload the configuration when its file changes."),
    known("config.auto-reload-interval", Duration, "30s", "How often to look for changes."),
    works("web.listen-address", List, "0.0.0.0:9090", "Address of the HTTP API and the web pages. May be repeated."),
    known("auto-gomaxprocs", Switch, "true", "Go runtime."),
    known("auto-gomemlimit", Switch, "true", "Go runtime."),
    known("auto-gomemlimit.ratio", Number, "0.9", "Go runtime."),
    known("auto-gomemlimit.refresh-interval", Duration, "0s", "Go runtime."),
    works("web.config.file", Text, "", "TLS and authentication of the HTTP API. Not built yet: refused."),
    works("web.read-timeout", Duration, "5m", "Longest time without a byte before a connection is closed."),
    works("web.max-connections", Number, "512", "Most simultaneous connections over all addresses."),
    known("web.max-notifications-subscribers", Number, "16", "Most subscribers of live notifications."),
    works("web.external-url", Text, "", "URL under which users reach this server; its path becomes the route prefix."),
    works("web.route-prefix", Text, "", "Prefix of all routes. Default: the path of --web.external-url."),
    known("web.user-assets", Text, "", "Directory served at /user."),
    works("web.enable-lifecycle", Switch, "false", "Allow reload and shutdown by HTTP."),
    works("web.enable-admin-api", Switch, "false", "Allow deleting of series by HTTP."),
    works("web.enable-remote-write-receiver", Switch, "false", "Accept remote write requests."),
    known(
        "web.remote-write-receiver.accepted-protobuf-messages",
        List,
        "prometheus.WriteRequest,io.prometheus.write.v2.Request",
        "Remote write messages to accept.",
    ),
    known("web.enable-otlp-receiver", Switch, "false", "Accept OTLP metrics."),
    known("web.console.templates", Text, "consoles", "Console templates."),
    known("web.console.libraries", Text, "console_libraries", "Console libraries."),
    works("web.page-title", Text, "Pilaster", "Title of the web pages."),
    works("web.cors.origin", Text, ".*", "Regular expression, anchored, of origins that browsers may call from."),
    works("storage.tsdb.path", Text, "data/", "Directory of all stored data."),
    works("storage.tsdb.retention.time", Duration, "", "How long to keep samples. Default: 15d."),
    works("storage.tsdb.retention.size", Bytes, "", "How many bytes of blocks to keep."),
    known("storage.tsdb.no-lockfile", Switch, "false", "Do not lock the data directory."),
    known("storage.tsdb.head-chunks-write-queue-size", Number, "0", "Head chunk queue."),
    known("storage.tsdb.delay-compact-file.path", Text, "", "Thanos shipper file."),
    known("storage.agent.path", Text, "data-agent/", "Agent mode: data directory."),
    known("storage.agent.wal-compression", Switch, "true", "Agent mode: compress the WAL."),
    known("storage.agent.retention.min-time", Duration, "5m", "Agent mode: least age before deletion."),
    known("storage.agent.retention.max-time", Duration, "4h", "Agent mode: greatest age."),
    known("storage.agent.checkpoint-from-in-memory-series", Switch, "false", "Agent mode: checkpoints."),
    known("storage.agent.checkpoint-batch-size", Number, "1000", "Agent mode: checkpoints."),
    known("storage.agent.no-lockfile", Switch, "false", "Agent mode: do not lock the data directory."),
    known("storage.remote.flush-deadline", Duration, "1m", "How long to flush remote write at shutdown."),
    known("storage.remote.read-sample-limit", Number, "5e7", "Most samples of one remote read."),
    known("storage.remote.read-concurrent-limit", Number, "10", "Most simultaneous remote reads."),
    known("storage.remote.read-max-bytes-in-frame", Number, "1048576", "Frame size of streamed remote read."),
    known("web.search.max-limit", Number, "10000", "Most results of the search API."),
    known("rules.alert.for-outage-tolerance", Duration, "1h", "Longest outage after which alert state is restored."),
    known("rules.alert.for-grace-period", Duration, "10m", "Least time between restored alert and firing."),
    known("rules.alert.resend-delay", Duration, "1m", "Least time between two sends of an alert."),
    known("rules.max-concurrent-evals", Number, "4", "Most rules evaluated at once."),
    known("alertmanager.notification-queue-capacity", Number, "10000", "Alert queue."),
    known("alertmanager.notification-batch-size", Number, "256", "Alerts per request."),
    known("alertmanager.drain-notification-queue-on-shutdown", Switch, "true", "Send queued alerts at shutdown."),
    works("query.lookback-delta", Duration, "5m", "How far an instant selector looks back."),
    works("query.timeout", Duration, "2m", "Longest time of a query."),
    works("query.max-concurrency", Number, "20", "Most queries at once."),
    works("query.max-samples", Number, "50000000", "Most samples that one query may hold."),
    works("enable-feature", List, "", "Feature names, separated by commas. May be repeated."),
    works("agent", Switch, "false", "Agent mode. Not built yet: refused."),
    works("log.level", OneOf(&["debug", "info", "warn", "error"]), "info", "Least severity that is logged."),
    works("log.format", OneOf(&["logfmt", "json"]), "logfmt", "Form of log lines."),
    works(
        "sql.listen-address",
        Text,
        "127.0.0.1:9432",
        "Address of SQL over the PostgreSQL protocol; empty turns it off.",
    ),
    works(
        "storage.blocks.url",
        Text,
        "",
        "Where blocks go that do not stay in --storage.tsdb.path: s3://, gs://, az:// or file://. The file has options.",
    ),
    works(
        "storage.blocks.cache.path",
        Text,
        "",
        "Directory of what was read from there. Default: cache in the data directory.",
    ),
    works("storage.blocks.cache.max-bytes", Bytes, "10GB", "Most bytes of samples in that cache."),
    works(
        "storage.blocks.index.max-memory",
        Bytes,
        "1GB",
        "Most memory of the indexes of blocks, wherever they are; those that queries are reading stay beyond it.",
    ),
    works(
        "storage.blocks.take-over",
        Switch,
        "false",
        "Go on with the blocks there although they belong to another data directory, which must be gone for good.",
    ),
    works("sql.max-memory", Bytes, "1GB", "Most memory of all SQL queries together."),
    works(
        "storage.tsdb.wal-sync",
        OneOf(&["commit", "written"]),
        "commit",
        "commit: an acknowledged write is on the disk. written: it has reached the operating system, as in Prometheus.",
    ),
    works(
        "storage.head-snapshot.min-samples",
        Number,
        "4194304",
        "Samples that the log must have more than the last snapshot of the head for a new one; 0 takes none.",
    ),
    hidden("storage.tsdb.min-block-duration", Duration, "2h"),
    hidden("storage.tsdb.max-block-duration", Duration, "1d12h"),
    hidden("storage.tsdb.max-block-chunk-segment-size", Bytes, "512MB"),
    hidden_works("storage.tsdb.wal-segment-size", Bytes, "128MB"),
    hidden("storage.tsdb.allow-overlapping-blocks", Switch, "true"),
    hidden("storage.tsdb.allow-overlapping-compaction", Switch, "true"),
    hidden("storage.tsdb.wal-compression", Switch, "true"),
    hidden("storage.tsdb.wal-compression-type", OneOf(&["snappy", "zstd"]), "snappy"),
    hidden("storage.tsdb.samples-per-chunk", Number, "120"),
    hidden("storage.tsdb.delayed-compaction.max-percent", Number, "10"),
    hidden("storage.tsdb.block-reload-interval", Duration, "1m"),
    hidden("storage.agent.wal-segment-size", Bytes, "128MB"),
    hidden("storage.agent.wal-compression-type", OneOf(&["snappy", "zstd"]), "snappy"),
    hidden("storage.agent.wal-truncate-frequency", Duration, "2h"),
    hidden("scrape.adjust-timestamps", Switch, "true"),
    hidden("scrape.timestamp-tolerance", Duration, "2ms"),
    hidden("scrape.discovery-reload-interval", Duration, "5s"),
];
