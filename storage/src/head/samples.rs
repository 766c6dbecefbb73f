//! The samples of a series that came in order, in one buffer.
//!
//! ```text
//! chunk | chunk | … | open run      `open_at` is where the run begins; when it is full it becomes a chunk
//! ```
//!
//! Chunks are found by going from head to head: a few bytes each, which lie close together.

mod stored;

use std::ops::ControlFlow;

use pilaster_model::Columns;

use super::chunk::{self, FULL, Place};
use super::open::{self, State};
use crate::decimal::MOST_DIGITS;

/// Room to work in, for many series one after another.
#[derive(Debug, Default)]
pub struct Scratch {
    columns: Columns,
    bytes: Vec<u8>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Samples {
    /// Bytes behind `len` mean nothing yet.
    room: Box<[u8]>,
    len: u32,
    open_at: u32,
    step_ms: u32,
    open_count: u8,
    digits: u8,
    /// Whether there ever was a sample: then the series knows its last one.
    pub ever: bool,
}

impl Samples {
    /// Appends a sample behind the last one, which is `(last_ms, last_bits)` where the series [ever](Samples::ever) had
    /// one.
    ///
    /// # Panics
    /// Where it is [full](Samples::is_full).
    pub fn push(&mut self, timestamp_ms: i64, bits: u64, last_ms: i64, last_bits: u64, scratch: &mut Scratch) {
        if usize::from(self.open_count) >= FULL {
            self.seal(scratch);
        }
        let (packed, state) = if self.open_count == 0 {
            open::first(timestamp_ms, bits, (self.digits <= MOST_DIGITS).then_some(self.digits))
        } else {
            let mut state = State { last_ms, last_bits, step_ms: self.step_ms, digits: self.digits };
            (state.next(timestamp_ms, bits), state)
        };
        self.extend(packed.as_slice());
        (self.step_ms, self.digits) = (state.step_ms, state.digits);
        self.open_count += 1;
        self.ever = true;
    }

    /// Whether there is no room for another sample: four gigabytes are the most.
    pub fn is_full(&self) -> bool {
        self.len > u32::MAX - (64 << 10)
    }

    fn extend(&mut self, bytes: &[u8]) {
        let (len, end) = (self.len as usize, self.len as usize + bytes.len());
        if end > self.room.len() {
            self.resize(room_for(end));
        }
        self.room[len..end].copy_from_slice(bytes);
        self.len = end as u32;
    }

    fn resize(&mut self, room: usize) {
        let mut bytes = Vec::from(std::mem::take(&mut self.room));
        if room > bytes.len() {
            bytes.reserve_exact(room - bytes.len());
        }
        bytes.resize(room, 0);
        self.room = bytes.into_boxed_slice();
    }

    /// Makes a chunk of the open run.
    fn seal(&mut self, scratch: &mut Scratch) {
        let Scratch { columns, bytes } = scratch;
        columns.clear();
        let open_at = self.open_at as usize;
        open::read(&self.room[open_at..], usize::from(self.open_count), i64::MIN, i64::MAX, columns);
        bytes.clear();
        let digits = chunk::put_body(&columns.timestamps, &columns.values, bytes);
        let body = bytes.len();
        let mut before_ms = 0;
        self.each_chunk(|place| {
            before_ms = place.first_ms;
            ControlFlow::Continue(())
        });
        chunk::put_head(columns.timestamps[0], before_ms, columns.len(), body, bytes);
        bytes.rotate_left(body);
        self.len = self.open_at;
        self.open_count = 0;
        self.extend(bytes);
        self.open_at = self.len;
        self.digits = digits.unwrap_or(u8::MAX);
    }

    fn chunk_bytes(&self) -> &[u8] {
        &self.room[..self.open_at as usize]
    }

    /// Shows the chunks, ascending, until `visit` breaks.
    fn each_chunk(&self, mut visit: impl FnMut(&Place) -> ControlFlow<()>) {
        let (mut at, mut before_ms) = (0, 0);
        while let Some(place) = chunk::place(self.chunk_bytes(), at, before_ms) {
            (at, before_ms) = (place.end, place.first_ms);
            if visit(&place).is_break() {
                break;
            }
        }
    }

    fn open_first_ms(&self) -> Option<i64> {
        let bytes = self.room.get(self.open_at as usize..)?.first_chunk::<8>()?;
        (self.open_count > 0).then(|| i64::from_le_bytes(*bytes))
    }

    /// Timestamp of the first sample.
    pub fn first_ms(&self) -> Option<i64> {
        match chunk::place(self.chunk_bytes(), 0, 0) {
            Some(place) => Some(place.first_ms),
            None => self.open_first_ms(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn count(&self) -> usize {
        let mut count = usize::from(self.open_count);
        self.each_chunk(|place| {
            count += place.count;
            ControlFlow::Continue(())
        });
        count
    }

    /// Appends to `out` the samples in `[min_ms, max_ms]`.
    pub fn read(&self, min_ms: i64, max_ms: i64, out: &mut Columns) {
        if min_ms > max_ms {
            return;
        }
        let before = out.len();
        let open_first_ms = self.open_first_ms();
        // Where the run has begun by then, all of it that is wanted stands there: for the newest samples no head of a
        // chunk is looked at.
        if open_first_ms.is_none_or(|first_ms| min_ms < first_ms) {
            let bytes = self.chunk_bytes();
            // The last chunk that begins at or before `min_ms` is the first that may hold anything.
            let mut begun: Option<Place> = None;
            self.each_chunk(|place| {
                if place.first_ms <= min_ms {
                    begun = Some(*place);
                    return ControlFlow::Continue(());
                }
                if let Some(begun) = begun.take() {
                    chunk::read(bytes, &begun, out);
                }
                if place.first_ms > max_ms {
                    return ControlFlow::Break(());
                }
                chunk::read(bytes, place, out);
                ControlFlow::Continue(())
            });
            if let Some(begun) = begun {
                chunk::read(bytes, &begun, out);
            }
        }
        if open_first_ms.is_some_and(|first_ms| first_ms <= max_ms) {
            open::read(&self.room[self.open_at as usize..], usize::from(self.open_count), min_ms, max_ms, out);
        }
        let keep = before + out.timestamps[before..].partition_point(|&ms| ms <= max_ms);
        out.timestamps.truncate(keep);
        out.values.truncate(keep);
        let from = before + out.timestamps[before..].partition_point(|&ms| ms < min_ms);
        out.timestamps.drain(before..from);
        out.values.drain(before..from);
    }

    /// Frees whole chunks that end before `before_ms`, and everything when the last sample, at `last_ms`, lies before it.
    /// Returns how many samples went.
    pub fn drop_before(&mut self, before_ms: i64, last_ms: i64) -> usize {
        let mut places: Vec<Place> = Vec::new();
        self.each_chunk(|place| {
            places.push(*place);
            if place.first_ms > before_ms { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if self.ever && last_ms < before_ms {
            let count = places.iter().map(|place| place.count).sum::<usize>() + usize::from(self.open_count);
            let digits = self.digits;
            *self = Samples { digits, ever: true, ..Samples::default() };
            return count;
        }
        // What the next chunk or run begins with is later than all of a chunk.
        let next_first_ms = |index: usize| places.get(index + 1).map(|next| next.first_ms).or(self.open_first_ms());
        let is_gone = |index: usize| next_first_ms(index).is_some_and(|first_ms| first_ms <= before_ms);
        let gone = (0..places.len()).take_while(|&index| is_gone(index)).count();
        let Some(last_gone) = gone.checked_sub(1) else { return 0 };
        let mut bytes = Vec::new();
        if let Some(first) = places.get(gone) {
            chunk::put_head(first.first_ms, 0, first.count, first.end - first.body, &mut bytes);
            bytes.extend_from_slice(&self.room[first.body..self.open_at as usize]);
        }
        let open_at = bytes.len();
        debug_assert!(places.get(gone).is_some() || places[last_gone].end == self.open_at as usize);
        bytes.extend_from_slice(&self.room[self.open_at as usize..self.len as usize]);
        (self.open_at, self.len) = (open_at as u32, bytes.len() as u32);
        bytes.resize(room_for(bytes.len()), 0);
        self.room = bytes.into_boxed_slice();
        places[..gone].iter().map(|place| place.count).sum()
    }

    /// Bytes beside the struct itself.
    pub fn heap_bytes(&self) -> usize {
        self.room.len()
    }
}

/// A size that allocators have a class for, so that no byte is lost on top: four steps to each doubling.
fn room_for(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 8).max(16);
    bytes.next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Model {
        samples: Samples,
        expected: Vec<(i64, f64)>,
        scratch: Scratch,
    }

    impl Model {
        fn push(&mut self, timestamp_ms: i64, value: f64) {
            let (last_ms, last) = self.expected.last().copied().unwrap_or_default();
            self.samples.push(timestamp_ms, value.to_bits(), last_ms, last.to_bits(), &mut self.scratch);
            self.expected.push((timestamp_ms, value));
        }

        fn check(&self, min_ms: i64, max_ms: i64) {
            let mut out = Columns::default();
            out.push(-1, 0.5, 0, None);
            self.samples.read(min_ms, max_ms, &mut out);
            let expected = self.expected.iter().filter(|(ms, _)| (min_ms..=max_ms).contains(ms));
            let expected: Vec<_> = expected.map(|(ms, value)| (*ms, value.to_bits())).collect();
            let read = out.timestamps.iter().zip(&out.values).skip(1).map(|(ms, value)| (*ms, value.to_bits()));
            assert_eq!(read.collect::<Vec<_>>(), expected, "[{min_ms}, {max_ms}]");
        }
    }

    proptest! {
        #[test]
        fn ranges_are_those_of_a_list(
            count in 0..400usize, step in 1..50i64, ranges in prop::collection::vec((0..20_000i64, -5..9_000i64), 20),
            cuts in prop::collection::vec(0..20_000i64, 2)
        ) {
            let mut model = Model::default();
            for index in 0..count as i64 {
                model.push(index * step + index % 3 * (step > 3) as i64, (index * index % 17) as f64 / 4.0);
            }
            for cut in [i64::MIN].into_iter().chain(cuts) {
                let last_ms = model.expected.last().map_or(0, |(ms, _)| *ms);
                let gone = model.samples.drop_before(cut, last_ms);
                assert!(model.expected.iter().take(gone).all(|(ms, _)| *ms < cut));
                // No more than a chunk stays for nothing.
                assert!(model.expected.iter().skip(gone).filter(|(ms, _)| *ms < cut).count() <= FULL);
                model.expected.drain(..gone);
                assert_eq!(model.samples.first_ms(), model.expected.first().map(|(ms, _)| *ms));
                assert_eq!(model.samples.is_empty(), model.expected.is_empty());
                model.check(i64::MIN, i64::MAX);
                ranges.iter().for_each(|&(min_ms, width)| model.check(min_ms, min_ms + width));
                if !model.expected.is_empty() {
                    model.push(last_ms + step, 3.25);
                }
            }
        }
    }

    #[test]
    fn a_sample_takes_about_as_much_as_it_says() {
        let room = |value: fn(i64) -> f64| {
            let mut model = Model::default();
            (0..480).for_each(|step| model.push(step * 15_000, value(step)));
            model.samples.heap_bytes() as f64 / 480.0
        };
        let figures = [
            ("constant", room(|_| 1.0), 0.7),
            ("steady counter", room(|step| (step * 25) as f64), 0.9),
            ("counter", room(|step| (step * 400 + step * 7919 % 397) as f64), 1.9),
            ("hundredths", room(|step| (step * 7919 % 2001) as f64 / 100.0), 2.3),
            ("noise", room(|step| (step as f64).sin()), 9.5),
        ];
        for (name, bytes, most) in figures {
            assert!(bytes <= most, "{name}: {bytes} bytes a sample");
        }
    }

    #[test]
    fn rooms_are_size_classes() {
        assert_eq!([1, 16, 17, 40, 65, 129, 300, 1025].map(room_for), [16, 16, 32, 48, 80, 160, 320, 1280]);
    }
}
