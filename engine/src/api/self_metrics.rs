//! `/metrics`: the server's own, those of the store and those of the scraper.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use pilaster_storage::ObjectStats;

use crate::app::App;
use crate::metrics::TextWriter;

pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let mut text = TextWriter::default();
    app.metrics.write(&mut text);
    store(&app, &mut text);
    scrapes(&app, &mut text);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores")], text.finish())
        .into_response()
}

fn store(app: &App, text: &mut TextWriter) {
    let Some(parts) = app.parts() else { return };
    let stats = parts.store.stats();
    let number = |count: u64| count as f64;
    let seconds = |ms: Option<i64>| ms.map_or(0.0, |ms| (ms / 1000) as f64);
    for (name, help, value) in [
        ("prometheus_tsdb_head_series", "Total number of series in the head block.", number(stats.series)),
        ("prometheus_tsdb_head_chunks", "Total number of chunks in the head block.", number(stats.series)),
        ("pilaster_head_samples", "Samples in the head.", number(stats.head_samples)),
        ("pilaster_head_late_samples", "Samples in the head that came out of order.", number(stats.head_late_samples)),
        ("pilaster_head_memory_bytes", "Memory of the head.", number(parts.store.head_memory_bytes())),
        ("prometheus_tsdb_head_min_time_seconds", "Minimum time bound of the head block.", seconds(stats.head_min_ms)),
        ("prometheus_tsdb_head_max_time_seconds", "Maximum timestamp of the head block.", seconds(stats.head_max_ms)),
        ("prometheus_tsdb_lowest_timestamp_seconds", "Lowest timestamp value stored.", {
            seconds(stats.blocks_min_ms.into_iter().chain(stats.head_min_ms).min())
        }),
        ("prometheus_tsdb_blocks_loaded", "Number of currently loaded data blocks.", number(stats.blocks)),
        ("prometheus_tsdb_storage_blocks_bytes", "The number of bytes used by all blocks.", number(stats.block_bytes)),
        ("pilaster_blocks_set_aside", "Blocks that cannot be read and are not served.", number(stats.blocks_set_aside)),
        ("pilaster_block_index_memory_bytes", "Memory of the indexes of blocks.", number(stats.block_index_bytes)),
        ("pilaster_block_samples", "Samples in all blocks.", number(stats.block_samples)),
        ("prometheus_tsdb_wal_storage_size_bytes", "Size of the write log directory.", number(stats.wal_bytes)),
        ("prometheus_tsdb_wal_segment_current", "Number of segments of the write log.", number(stats.wal_segments)),
        ("pilaster_wal_damaged_ranges", "Parts of the write log that could not be read at start.", {
            number(stats.wal_damaged_ranges)
        }),
        ("pilaster_wal_torn_bytes", "Bytes at the end of the write log that were no whole record at start.", {
            number(stats.wal_torn_bytes)
        }),
        ("prometheus_tsdb_retention_limit_bytes", "Most bytes of blocks and log; 0 for no limit.", {
            number(parts.store.retention_limit_bytes().unwrap_or(0))
        }),
        (
            "prometheus_tsdb_retention_limit_percentage",
            "Most percent of the disk that blocks and log may take; 0 for no limit.",
            app.retention().percent.unwrap_or(0.0),
        ),
        ("prometheus_tsdb_exemplar_exemplars_in_storage", "Number of exemplars currently in circular storage.", {
            number(stats.exemplars.stored)
        }),
        (
            "prometheus_tsdb_exemplar_series_with_exemplars_in_storage",
            "Number of series with exemplars currently in circular storage.",
            number(stats.exemplars.series),
        ),
        (
            "prometheus_tsdb_exemplar_last_exemplars_timestamp_seconds",
            "The timestamp of the oldest exemplar stored in circular storage.",
            stats.exemplars.oldest_ms.map_or(0.0, |ms| ms as f64 / 1000.0),
        ),
        (
            "prometheus_tsdb_exemplar_max_exemplars",
            "Total number of exemplars the exemplar storage can store, resizeable.",
            number(stats.exemplars.max),
        ),
        (
            "prometheus_tsdb_retention_limit_seconds",
            "How long to retain samples.",
            app.retention().ms.map_or(0.0, |ms| (ms / 1000) as f64),
        ),
    ] {
        text.gauge(name, help, value);
    }
    for (name, help, value) in [
        (
            "prometheus_tsdb_head_series_created_total",
            "Total number of series created in the head",
            stats.series_created,
        ),
        (
            "prometheus_tsdb_head_series_removed_total",
            "Total number of series removed in the head",
            stats.series_forgotten,
        ),
        (
            "prometheus_tsdb_out_of_order_samples_total",
            "Samples refused because they were older than their series' latest.",
            { stats.rejected_out_of_order },
        ),
        ("prometheus_tsdb_too_old_samples_total", "Samples refused because they were too old.", stats.rejected_too_old),
        ("pilaster_duplicate_samples_total", "Samples refused because another value has their timestamp.", {
            stats.rejected_duplicate
        }),
        ("pilaster_appends_failed_total", "Appends that failed as a whole.", stats.appends_failed),
        ("prometheus_tsdb_head_truncations_total", "Total number of head flushes.", stats.flushes),
        (
            "prometheus_tsdb_head_truncations_failed_total",
            "Total number of head flushes that failed.",
            stats.flushes_failed,
        ),
        ("prometheus_tsdb_compactions_total", "Total number of compactions.", stats.compactions),
        (
            "prometheus_tsdb_compactions_failed_total",
            "Total number of compactions that failed.",
            stats.compactions_failed,
        ),
        (
            "prometheus_tsdb_time_retentions_total",
            "Blocks removed because the time limit was exceeded.",
            stats.blocks_expired,
        ),
        ("prometheus_tsdb_exemplar_exemplars_appended_total", "Total number of appended exemplars.", {
            stats.exemplars.appended
        }),
        (
            "prometheus_tsdb_exemplar_out_of_order_exemplars_total",
            "Total number of out of order exemplar ingestion failed attempts.",
            stats.exemplars.out_of_order,
        ),
        ("prometheus_tsdb_wal_corruptions_total", "Total number of WAL corruptions.", stats.wal_damaged_ranges),
    ] {
        text.counter(name, help, value as f64);
    }
    text.values(
        "prometheus_tsdb_head_samples_appended_total",
        "counter",
        "Total number of appended samples.",
        [
            (vec![("type", "float")], stats.samples_appended as f64),
            (vec![("type", "histogram")], stats.histograms_appended as f64),
        ],
    );
    if let Some(objects) = &stats.objects {
        object_store(objects, text);
    }
    text.gauge("pilaster_metadata_entries", "Metrics with metadata.", number(stats.metadata_entries));
}

fn object_store(stats: &ObjectStats, text: &mut TextWriter) {
    let requests = &stats.requests;
    let by_kind =
        [("get", requests.gets), ("list", requests.lists), ("put", requests.puts), ("remove", requests.removals)];
    text.values(
        "pilaster_object_store_requests_total",
        "counter",
        "Requests to object stores, repetitions not counted.",
        by_kind.iter().map(|(kind, count)| (vec![("operation", *kind)], *count as f64)),
    );
    for (name, help, value) in [
        ("pilaster_object_store_requests_failed_total", "Calls to object stores without an answer.", requests.failed),
        ("pilaster_object_store_read_bytes_total", "Bytes read from object stores.", requests.bytes_read),
        ("pilaster_object_store_written_bytes_total", "Bytes sent to object stores.", requests.bytes_written),
        ("pilaster_block_cache_hits_total", "Ranges of 64 KiB that the local cache had.", stats.cache.hits),
        ("pilaster_block_cache_misses_total", "Ranges of 64 KiB that were read from afar.", stats.cache.misses),
    ] {
        text.counter(name, help, value as f64);
    }
    for (name, help, value) in [
        ("pilaster_block_cache_bytes", "Bytes of samples in the local cache.", stats.cache.bytes),
        ("pilaster_block_cache_limit_bytes", "Most bytes of samples in the local cache.", stats.cache.limit_bytes),
        ("pilaster_block_sources", "Prefixes of other servers that are read.", stats.sources),
        ("pilaster_block_sources_readable", "Those that could be read last time.", stats.sources_readable),
        ("pilaster_block_source_blocks", "Blocks under prefixes of other servers.", stats.source_blocks),
    ] {
        text.gauge(name, help, value as f64);
    }
}

fn scrapes(app: &App, text: &mut TextWriter) {
    let Some(parts) = app.parts() else { return };
    let stats = parts.scrapes.stats();
    for (name, help, value) in [
        ("pilaster_scrapes_total", "Scrapes.", stats.scrapes),
        ("pilaster_scrapes_failed_total", "Scrapes that failed.", stats.scrapes_failed),
        ("pilaster_scrape_commits_failed_total", "Scrapes whose samples the store did not take.", stats.commits_failed),
        (
            "prometheus_target_scrapes_sample_out_of_order_total",
            "Samples refused: out of order.",
            stats.samples_out_of_order,
        ),
        (
            "prometheus_target_scrapes_sample_duplicate_timestamp_total",
            "Samples refused: other value at the same time.",
            { stats.samples_duplicate },
        ),
        (
            "prometheus_target_scrapes_sample_out_of_bounds_total",
            "Samples refused: out of bounds.",
            stats.samples_out_of_bounds,
        ),
        (
            "prometheus_target_scrapes_exceeded_sample_limit_total",
            "Scrapes over the sample limit.",
            stats.exceeded_sample_limit,
        ),
        (
            "prometheus_target_scrapes_exemplar_out_of_order_total",
            "Exemplars refused: out of order.",
            stats.exemplars_out_of_order,
        ),
        ("prometheus_target_scrapes_exceeded_body_size_limit_total", "Scrapes over the size limit.", {
            stats.exceeded_body_size_limit
        }),
        ("prometheus_target_scrape_pool_exceeded_label_limits_total", "Scrapes over the label limits.", {
            stats.exceeded_label_limits
        }),
        ("prometheus_target_scrape_pool_exceeded_target_limit_total", "Times a pool was over its target limit.", {
            stats.exceeded_target_limit
        }),
        ("prometheus_target_scrapes_cache_flush_forced_total", "Times a scrape cache was emptied because it grew.", {
            stats.cache_flushes_forced
        }),
        ("prometheus_target_scrape_pools_total", "Scrape pools made.", stats.pools_created),
        ("prometheus_target_scrape_pools_failed_total", "Scrape pools that could not be made.", stats.pools_failed),
        ("prometheus_target_scrape_pool_reloads_total", "Reloads of scrape pools.", stats.pool_reloads),
        ("prometheus_target_scrape_pool_sync_total", "Times targets were brought up to date.", stats.pool_syncs),
        ("prometheus_target_sync_failed_total", "Targets that could not be made.", stats.targets_refused),
    ] {
        text.counter(name, help, value as f64);
    }
    let pools = &stats.pools;
    let by_pool = |pick: fn(&(String, usize, usize)) -> usize| {
        pools.iter().map(move |pool| (vec![("scrape_job", pool.0.as_str())], pick(pool) as f64))
    };
    let help = "Current number of targets in this scrape pool.";
    text.values("prometheus_target_scrape_pool_targets", "gauge", help, by_pool(|pool| pool.1));
    let discovered =
        pools.iter().map(|pool| (vec![("name", "scrape"), ("config", pool.0.as_str())], (pool.1 + pool.2) as f64));
    text.values("prometheus_sd_discovered_targets", "gauge", "Current number of discovered targets.", discovered);
    let cached: Vec<(String, usize)> =
        parts.scrapes.metadata().iter().map(|one| (one.target.job().to_owned(), one.metrics.len())).collect();
    let entries = pools.iter().map(|pool| {
        let count: usize = cached.iter().filter(|(job, _)| *job == pool.0).map(|(_, count)| count).sum();
        (vec![("scrape_job", pool.0.as_str())], count as f64)
    });
    let help = "Total number of metric metadata entries in the cache.";
    text.values("prometheus_target_metadata_cache_entries", "gauge", help, entries);
}
