//! What is too old, or too much: whole blocks by time and size, and series by rules of their own.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pilaster_model::Labels;

use super::Store;
use super::maintenance::Maintenance;
use super::merge::Haste;
use super::options::RetentionLimits;
use crate::Error;
use crate::block::BlockMeta;

/// A clock that goes on by more than this between two looks has jumped, or the machine slept.
const LEAP_MS: i64 = 3_600_000;
/// Looks, half a minute each, that a leap must last before it counts.
const LOOKS: u32 = 20;

/// A time that a jumping clock does not carry away. A clock that is wrong for a moment, or at boot, must not expire
/// everything; the time after a long sleep is believed a little later.
#[derive(Debug, Default)]
pub(super) struct TrustedTime {
    ms: Option<i64>,
    looks: u32,
}

impl TrustedTime {
    /// The time to go by when the clock says `now_ms`; `newest_ms` is the last that was known before the first look.
    pub fn look(&mut self, now_ms: i64, newest_ms: i64) -> i64 {
        let trusted_ms = *self.ms.get_or_insert(newest_ms.min(now_ms));
        let leaps = now_ms > trusted_ms.saturating_add(LEAP_MS);
        self.looks = if leaps { self.looks + 1 } else { 0 };
        if leaps && self.looks <= LOOKS {
            return trusted_ms;
        }
        self.ms = Some(now_ms);
        now_ms
    }
}

impl Store {
    /// Removes blocks beyond retention.
    pub(super) fn expire(&self, maintenance: &mut Maintenance) -> Result<(), Error> {
        let oldest_ms = match self.retention_time(maintenance) {
            Some(now_ms) => now_ms.saturating_sub(longest_ms(&self.retention()).unwrap_or(i64::MAX)),
            None => i64::MIN,
        };
        let limit_bytes = self.retention_limit_bytes().unwrap_or(u64::MAX);
        let mut used_bytes = self.wal.size_bytes() + self.snapshot_bytes.load(Ordering::Relaxed);
        // Newest first: they may stay for as long as there is room, and nothing older than one that may not.
        let mut by_age: Vec<&BlockMeta> = maintenance.manifest.blocks.iter().collect();
        by_age.sort_by_key(|block| std::cmp::Reverse(block.max_ms));
        let fits = |block: &&BlockMeta| {
            used_bytes = used_bytes.saturating_add(block.bytes());
            block.max_ms >= oldest_ms && used_bytes <= limit_bytes
        };
        let kept: HashSet<String> = by_age.into_iter().take_while(fits).map(|block| block.name.clone()).collect();
        let (kept, expired): (Vec<BlockMeta>, Vec<BlockMeta>) =
            maintenance.manifest.blocks.iter().cloned().partition(|block| kept.contains(&block.name));
        if expired.is_empty() {
            return Ok(());
        }
        let view = self.current_view();
        self.replace_blocks(maintenance, kept, Vec::new())?;
        self.counters.blocks_expired.fetch_add(expired.len() as u64, Ordering::Relaxed);
        // Nobody has these open.
        let set_aside = expired.iter().filter(|meta| view.set_aside.iter().any(|aside| aside.name == meta.name));
        set_aside.for_each(|meta| self.remove_files(meta));
        Ok(())
    }

    /// Rewrites blocks without the series that are too old by a rule, or that no rule keeps any longer.
    ///
    /// As whole blocks do, a series goes from a block when its newest sample there could be too old. The caller merges
    /// alone.
    pub(super) fn apply_retention_rules(&self) -> Result<(), Error> {
        let limits = self.retention();
        let rules = &limits.rules;
        let mut maintenance = self.maintenance.lock();
        if !Arc::ptr_eq(&limits, &maintenance.rules_of) {
            maintenance.rules_applied.clear();
            maintenance.rules_of = limits.clone();
        }
        let Some(now_ms) = self.retention_time(&maintenance).filter(|_| !rules.is_empty()) else { return Ok(()) };
        let live: HashSet<String> = maintenance.manifest.blocks.iter().map(|block| block.name.clone()).collect();
        maintenance.rules_applied.retain(|name, _| live.contains(name));
        drop(maintenance);
        for live in self.current_view().own() {
            let meta = live.meta();
            let is_over = |ms: i64| meta.max_ms < now_ms.saturating_sub(ms);
            // One for each rule, and one for the series that none fits.
            let over: Vec<bool> =
                rules.iter().map(|rule| is_over(rule.ms)).chain([limits.ms.is_some_and(is_over)]).collect();
            if !over.contains(&true) || self.maintenance.lock().rules_applied.get(&meta.name) == Some(&over) {
                continue;
            }
            let keep = |labels: &Labels| {
                let rule = rules.iter().position(|rule| rule.fits(labels)).unwrap_or(rules.len());
                !over[rule]
            };
            if live.is_lost() {
                continue;
            }
            let block = live.open().map_err(Error::block(&self.options.dir))?;
            let names = if block.select(&[]).into_iter().all(|id| keep(&block.labels(id))) {
                vec![meta.name.clone()]
            } else {
                match self.rewrite(meta.name.clone(), &keep, Haste::Leisure)? {
                    Some(names) => names,
                    None => return Ok(()),
                }
            };
            self.maintenance.lock().rules_applied.extend(names.into_iter().map(|name| (name, over.clone())));
        }
        Ok(())
    }

    /// The time that retention goes by; `None` where there are no samples.
    fn retention_time(&self, maintenance: &Maintenance) -> Option<i64> {
        let (newest_ms, trusted_ms) = (self.max_ms()?, maintenance.trusted_time.ms?);
        // A sample from the future must not push everything out.
        Some(newest_ms.min(trusted_ms))
    }

    /// What is in effect.
    pub fn retention(&self) -> Arc<RetentionLimits> {
        self.retention.read().clone()
    }

    /// Changes what is in effect, from the next upkeep on.
    ///
    /// # Errors
    /// The limits make no sense; the old ones stay.
    pub fn set_retention(&self, limits: RetentionLimits) -> Result<(), Error> {
        limits.check()?;
        if *self.retention() != limits {
            *self.retention.write() = Arc::new(limits);
        }
        Ok(())
    }

    /// Bytes that blocks and log may take; `None` where there is no limit.
    pub fn retention_limit_bytes(&self) -> Option<u64> {
        let of_disk = |percent: f64| {
            let total_bytes = self.env.files.total_bytes(&self.options.dir).ok()?;
            Some((total_bytes as f64 * percent / 100.0) as u64)
        };
        // Blocks that are not on the disk are not measured by it.
        let limits = self.retention();
        limits.percent.filter(|_| !self.home.is_far()).and_then(of_disk).or(limits.bytes)
    }
}

/// The longest time for which any series may be kept; `None` for ever.
fn longest_ms(limits: &RetentionLimits) -> Option<i64> {
    limits.rules.iter().map(|rule| rule.ms).chain([limits.ms?]).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leap_of_the_clock_is_believed_late() {
        let hour = LEAP_MS;
        let mut time = TrustedTime::default();
        assert_eq!(time.look(10 * hour, 10 * hour), 10 * hour);
        assert_eq!(time.look(11 * hour, 0), 11 * hour);
        // One wrong look, and back.
        assert_eq!(time.look(90_000 * hour, 0), 11 * hour);
        assert_eq!(time.look(11 * hour + 1, 0), 11 * hour + 1);
        // Backwards at once: nothing expires by that.
        assert_eq!(time.look(5 * hour, 0), 5 * hour);
        // Back from a long sleep.
        for _ in 0..LOOKS {
            assert_eq!(time.look(500 * hour, 0), 5 * hour);
        }
        assert_eq!(time.look(500 * hour, 0), 500 * hour);
        // A server that was off for long knows its newest sample.
        assert_eq!(TrustedTime::default().look(500 * hour, 3 * hour), 3 * hour);
    }
}
