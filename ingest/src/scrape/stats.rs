//! Numbers about scraping, for the server's own metrics.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counted while scraping goes on.
        #[derive(Debug, Default)]
        pub struct ScrapeCounters {
            $($(#[$doc])* pub(super) $name: AtomicU64,)*
        }

        /// [`ScrapeCounters`] at a moment, with the pools as they are.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct ScrapeStats {
            $($(#[$doc])* pub $name: u64,)*
            /// Job, active targets and dropped targets of each pool.
            pub pools: Vec<(String, usize, usize)>,
        }

        impl ScrapeCounters {
            pub(super) fn read(&self) -> ScrapeStats {
                ScrapeStats { $($name: self.$name.load(Ordering::Relaxed),)* pools: Vec::new() }
            }
        }
    };
}

counters! {
    scrapes,
    scrapes_failed,
    samples_out_of_order,
    samples_duplicate,
    samples_out_of_bounds,
    exemplars_out_of_order,
    exceeded_sample_limit,
    exceeded_body_size_limit,
    exceeded_label_limits,
    exceeded_target_limit,
    cache_flushes_forced,
    pools_created,
    pools_failed,
    pool_reloads,
    pool_syncs,
    /// Targets that could not be made from what discovery found.
    targets_refused,
    /// Scrapes whose samples the store did not take at all.
    commits_failed,
}

pub(super) fn add(counter: &AtomicU64, count: usize) {
    if count > 0 {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }
}
