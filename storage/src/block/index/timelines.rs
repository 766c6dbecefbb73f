//! The section of timelines: how far each timestamp is from where regular scrapes would have put it.
//!
//! ```text
//! count, then each: length, interval, 0 or 1, start, width, planes
//! ```
//!
//! The first timestamp is expected at `start`, the next ones each an interval after the one before (0), or where a grid of
//! intervals through `start` goes on next (1): then what is early or late is so once, and not in two differences. Distances
//! are zigzag numbers of `width` bytes, their lowest bytes first, then the next ones: noise and zeros apart.

use std::sync::Arc;

use super::super::varint::{Cursor, put_svarint, put_uvarint, unzigzag, zigzag};

/// Where the next timestamp is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    AfterTheLast = 0,
    OnAGrid = 1,
}

impl Expected {
    /// Where the one after `timestamp` is, which was `distance` from where it was expected itself.
    fn next(self, timestamp: i64, distance: i64, interval: i64) -> i64 {
        match self {
            Expected::OnAGrid if interval > 0 => {
                // Scrapes that are missing leave the grid where it was.
                let missing = distance.wrapping_add(interval / 2).div_euclid(interval);
                timestamp.wrapping_sub(distance).wrapping_add(interval.wrapping_mul(missing.wrapping_add(1)))
            }
            Expected::OnAGrid | Expected::AfterTheLast => timestamp.wrapping_add(interval),
        }
    }

    /// Distances of `timestamps`, the first of which is expected at `start`.
    fn distances(self, timestamps: &[i64], start: i64, interval: i64) -> Vec<i64> {
        let mut expected = start;
        let distance = |&timestamp: &i64| {
            let distance = timestamp.wrapping_sub(expected);
            expected = self.next(timestamp, distance, interval);
            distance
        };
        timestamps.iter().map(distance).collect()
    }
}

fn median(mut numbers: Vec<i64>) -> i64 {
    let middle = numbers.len() / 2;
    if numbers.is_empty() { 0 } else { *numbers.select_nth_unstable(middle).1 }
}

/// The bytes of the section. No timeline is empty.
pub fn encode(timelines: &[Arc<[i64]>]) -> Vec<u8> {
    let mut out = Vec::new();
    put_uvarint(&mut out, timelines.len() as u64);
    for timeline in timelines {
        let interval = median(timeline.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect());
        let of_kind = |kind: Expected| {
            // The first is as early or late as any: half of all shall be on either side of the grid.
            let of_first = kind.distances(timeline, timeline[0], interval);
            let middle = if kind == Expected::OnAGrid { median(of_first) } else { 0 };
            let start = timeline[0].wrapping_add(middle);
            let distances = kind.distances(timeline, start, interval);
            let bits: u64 = distances.iter().map(|&distance| u64::from(64 - zigzag(distance).leading_zeros())).sum();
            (bits, kind, start, distances)
        };
        let [last, grid] = [Expected::AfterTheLast, Expected::OnAGrid].map(of_kind);
        let (_, kind, start, distances) = if last.0 <= grid.0 { last } else { grid };
        put_uvarint(&mut out, timeline.len() as u64);
        put_svarint(&mut out, interval);
        out.push(kind as u8);
        put_svarint(&mut out, start);
        let all = distances.iter().fold(0, |all, &distance| all | zigzag(distance));
        let width = (64 - all.leading_zeros()).div_ceil(8).max(1);
        out.push(width as u8);
        for plane in 0..width {
            out.extend(distances.iter().map(|&distance| (zigzag(distance) >> (8 * plane)) as u8));
        }
    }
    out
}

/// What [`encode`] wrote; `None` where the bytes are not that, or timestamps do not ascend.
pub fn decode(bytes: &[u8]) -> Option<Vec<Arc<[i64]>>> {
    let mut cursor = Cursor::new(bytes);
    let count: usize = cursor.number()?;
    let mut timelines = Vec::new();
    for _ in 0..count {
        let len: usize = cursor.number()?;
        let interval = cursor.svarint()?;
        let kind = match cursor.byte()? {
            0 => Expected::AfterTheLast,
            1 => Expected::OnAGrid,
            _ => return None,
        };
        let mut expected = cursor.svarint()?;
        let width = cursor.byte()?;
        if !(1..=8).contains(&width) || len == 0 {
            return None;
        }
        let planes = cursor.bytes(len.checked_mul(usize::from(width))?)?;
        let mut numbers = vec![0u64; len];
        for (plane, bytes) in planes.chunks(len).enumerate() {
            for (number, &byte) in numbers.iter_mut().zip(bytes) {
                *number |= u64::from(byte) << (8 * plane);
            }
        }
        let mut timeline = Vec::with_capacity(len);
        for number in numbers {
            let distance = unzigzag(number);
            let timestamp = expected.wrapping_add(distance);
            if timeline.last().is_some_and(|&last| timestamp <= last) {
                return None;
            }
            expected = kind.next(timestamp, distance, interval);
            timeline.push(timestamp);
        }
        timelines.push(timeline.into());
    }
    cursor.is_empty().then_some(timelines)
}

/// The section of files from before: lengths, and timestamps as differences of differences.
pub fn decode_differences(bytes: &[u8]) -> Option<Vec<Arc<[i64]>>> {
    let mut cursor = Cursor::new(bytes);
    let count: usize = cursor.number()?;
    let mut timelines = Vec::new();
    for _ in 0..count {
        let len: usize = cursor.number()?;
        if len > bytes.len() {
            return None;
        }
        let mut timeline = Vec::with_capacity(len);
        let (mut previous, mut delta) = (0i64, 0i64);
        for index in 0..len {
            delta = delta.wrapping_add(cursor.svarint()?);
            let timestamp = previous.wrapping_add(delta);
            if index > 0 && timestamp <= previous {
                return None;
            }
            previous = timestamp;
            timeline.push(timestamp);
        }
        timelines.push(timeline.into());
    }
    cursor.is_empty().then_some(timelines)
}

/// What [`decode_differences`] reads.
#[cfg(test)]
pub fn encode_differences(timelines: &[Arc<[i64]>]) -> Vec<u8> {
    let mut out = Vec::new();
    put_uvarint(&mut out, timelines.len() as u64);
    for timeline in timelines {
        put_uvarint(&mut out, timeline.len() as u64);
        let (mut previous, mut delta) = (0i64, 0i64);
        for &timestamp in timeline.iter() {
            let next = timestamp.wrapping_sub(previous);
            put_svarint(&mut out, next.wrapping_sub(delta));
            (previous, delta) = (timestamp, next);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes of the section, packed as the index packs it.
    fn check(timelines: &[Vec<i64>]) -> usize {
        let timelines: Vec<Arc<[i64]>> = timelines.iter().map(|one| Arc::from(one.as_slice())).collect();
        let bytes = encode(&timelines);
        assert_eq!(decode(&bytes).as_ref(), Some(&timelines));
        for end in (0..bytes.len()).step_by(bytes.len() / 100 + 1) {
            assert_eq!(decode(&bytes[..end]), None, "cut at {end}");
        }
        assert_eq!(decode_differences(&encode_differences(&timelines)), Some(timelines));
        zstd::bulk::compress(&bytes, 9).unwrap().len()
    }

    #[test]
    fn a_timestamp_takes_its_noise_and_no_more() {
        let mut state = 1u64;
        let mut noise = move |most: i64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as i64 % (2 * most + 1) - most
        };
        let scrape = |at: i64| 1_760_000_000_000 + at * 15_000;
        assert!(check(&[(0..5760).map(scrape).collect()]) < 60);
        // 7.24 bits each.
        let late: Vec<i64> = (0..5760).map(|at| scrape(at) + noise(75)).collect();
        assert!(check(std::slice::from_ref(&late)) < 5760 * 15 / 16);
        // The same without some; with a restart in between, it is not much more.
        let gaps = late.iter().enumerate().filter(|(at, _)| at % 500 != 0).map(|(_, &ms)| ms);
        assert!(check(&[gaps.collect()]) < 5760 * 15 / 16);
        let restarted = late.iter().enumerate().map(|(at, &ms)| if at < 2000 { ms } else { ms + 1_234_567 });
        assert!(check(&[restarted.collect()]) < 5760 * 9 / 8);
        // One that waits after each scrape: only differences are small.
        let mut now = 0;
        let waits: Vec<i64> = (0..5760)
            .map(|_| {
                now += 15_000 + noise(3) + 5;
                now
            })
            .collect();
        assert!(check(&[waits]) < 5760 / 2);
    }

    #[test]
    fn extremes_come_back() {
        check(&[]);
        check(&[vec![0], vec![i64::MIN], vec![i64::MAX], vec![i64::MIN, i64::MAX], vec![i64::MIN, 0, 1, i64::MAX]]);
        check(&[vec![i64::MAX - 2, i64::MAX - 1, i64::MAX], (0..300).collect()]);
    }

    proptest! {
        #[test]
        fn any_timelines(
            timelines in prop::collection::vec(prop::collection::btree_set(any::<i64>(), 1..40), 0..4), shift in 0..63u32
        ) {
            let ascending = |set: std::collections::BTreeSet<i64>| {
                set.into_iter().map(|ms| ms >> shift).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
            };
            check(&timelines.into_iter().map(ascending).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            for timeline in decode(&bytes).into_iter().chain(decode_differences(&bytes)).flatten() {
                prop_assert!(timeline.is_sorted_by(|a, b| a < b));
            }
        }
    }
}
