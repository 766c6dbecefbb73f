//! Parquet's DELTA_BINARY_PACKED for 64-bit integers: differences, packed 32 at a time at the width they need.
//!
//! Source: Apache Parquet format, `Encodings.md`, "Delta Encoding". Our own because a block's values are decoded whole
//! pages at a time, several times faster than a general reader does it, and because the block size is chosen per page.

use std::mem::MaybeUninit;

use super::varint::{Cursor, put_uvarint, zigzag};

/// Values in a miniblock; the format wants a multiple of 32.
const MINIBLOCK: usize = 32;
/// Bytes behind the encoded data that the unpacker may read (and ignore).
pub const PADDING: usize = 16;

/// Appends `values` as blocks of `miniblocks` times 32 values.
pub fn encode(values: &[i64], miniblocks: usize, out: &mut Vec<u8>) {
    let mut encoder = Encoder::new(values.len(), miniblocks, out);
    encoder.push(values, out);
    encoder.finish(out);
}

/// Appends `runs` of equal values, `(value, length)`, none of them empty, as [`encode`] does.
pub fn encode_runs(runs: &[(i64, usize)], miniblocks: usize, out: &mut Vec<u8>) {
    let mut encoder = Encoder::new(runs.iter().map(|(_, len)| len).sum(), miniblocks, out);
    for &(value, len) in runs {
        encoder.push_run(value, len, out);
    }
    encoder.finish(out);
}

/// The bytes that [`encode`] would append for the values of `slices`, `total` in all.
pub fn encoded_len(slices: &[&[i64]], total: usize, miniblocks: usize) -> usize {
    let mut scratch = Vec::new();
    let mut encoder = Encoder { only_measures: true, ..Encoder::new(total, miniblocks, &mut scratch) };
    let mut len = 0;
    for slice in slices {
        encoder.push(slice, &mut scratch);
        len += scratch.len();
        scratch.clear();
    }
    encoder.finish(&mut scratch);
    len + scratch.len()
}

/// Encodes values that come in slices.
pub struct Encoder {
    miniblocks: usize,
    /// What it appends is as long as it should be, and nothing else.
    only_measures: bool,
    is_first: bool,
    previous: i64,
    /// Of the block in the making.
    deltas: Vec<i64>,
}

impl Encoder {
    /// For `total` values in all; appends what stands before them.
    pub fn new(total: usize, miniblocks: usize, out: &mut Vec<u8>) -> Encoder {
        for number in [miniblocks * MINIBLOCK, miniblocks, total] {
            put_uvarint(out, number as u64);
        }
        if total == 0 {
            put_uvarint(out, 0);
        }
        let deltas = Vec::with_capacity(miniblocks * MINIBLOCK);
        Encoder { miniblocks, only_measures: false, is_first: true, previous: 0, deltas }
    }

    /// Appends the blocks that are complete with `values`.
    pub fn push(&mut self, mut values: &[i64], out: &mut Vec<u8>) {
        if self.is_first
            && let Some((&first, rest)) = values.split_first()
        {
            put_uvarint(out, zigzag(first));
            (self.is_first, self.previous, values) = (false, first, rest);
        }
        let block = self.miniblocks * MINIBLOCK;
        while !values.is_empty() {
            let taken;
            (taken, values) = values.split_at(values.len().min(block - self.deltas.len()));
            self.deltas.push(taken[0].wrapping_sub(self.previous));
            self.deltas.extend(taken.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])));
            self.previous = taken[taken.len() - 1];
            if self.deltas.len() == block {
                self.end_block(out);
            }
        }
    }

    /// [`Encoder::push`] for a value that comes `len` times, at least once.
    fn push_run(&mut self, value: i64, len: usize, out: &mut Vec<u8>) {
        self.push(&[value], out);
        let block = self.miniblocks * MINIBLOCK;
        let mut left = len - 1;
        while left > 0 {
            let taken = left.min(block - self.deltas.len());
            self.deltas.resize(self.deltas.len() + taken, 0);
            left -= taken;
            if self.deltas.len() == block {
                self.end_block(out);
            }
            // The rest of a long run: whole blocks of zeros, which no width has.
            while self.deltas.is_empty() && left >= block {
                out.resize(out.len() + 1 + self.miniblocks, 0);
                left -= block;
            }
        }
    }

    /// Appends the last block, which may be shorter.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        if !self.deltas.is_empty() {
            self.end_block(out);
        }
    }

    fn end_block(&mut self, out: &mut Vec<u8>) {
        let ends = |(min, max): (i64, i64), &delta: &i64| (min.min(delta), max.max(delta));
        let (min_delta, max_delta) = self.deltas.iter().fold((i64::MAX, i64::MIN), ends);
        put_uvarint(out, zigzag(min_delta));
        let widths_at = out.len();
        out.resize(widths_at + self.miniblocks, 0);
        if min_delta == max_delta {
            self.deltas.clear();
            return;
        }
        for (index, mini) in self.deltas.chunks(MINIBLOCK).enumerate() {
            let mut packed = [0u64; MINIBLOCK];
            let mut all = 0;
            for (slot, &delta) in packed.iter_mut().zip(mini) {
                *slot = delta.wrapping_sub(min_delta) as u64;
                all |= *slot;
            }
            let width = 64 - all.leading_zeros() as usize;
            out[widths_at + index] = width as u8;
            match self.only_measures {
                true => out.resize(out.len() + 4 * width, 0),
                false => pack(&packed, width, out),
            }
        }
        self.deltas.clear();
    }
}

macro_rules! of_width {
    ($width:expr, $function:ident, $arguments:tt; $none:expr; $($known:literal)*) => {
        match $width {
            $($known => $function::<$known>$arguments,)*
            _ => $none,
        }
    };
    ($width:expr, $function:ident, $arguments:tt; $none:expr) => {
        of_width!($width, $function, $arguments; $none;
            1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37
            38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64)
    };
}

/// Appends 32 values of `width` bits each, lowest bit first.
fn pack(values: &[u64; MINIBLOCK], width: usize, out: &mut Vec<u8>) {
    of_width!(width, pack_each, (values, out); ());
}

fn pack_each<const WIDTH: usize>(values: &[u64; MINIBLOCK], out: &mut Vec<u8>) {
    let mut words = [0u8; 8 * MINIBLOCK];
    let (mut pending, mut bits, mut at) = (0u64, 0, 0);
    for &value in values {
        pending |= value << bits;
        bits += WIDTH;
        if bits >= 64 {
            words[at..at + 8].copy_from_slice(&pending.to_le_bytes());
            at += 8;
            bits -= 64;
            // The bits of `value` that did not fit; none where it ended on the boundary.
            pending = if bits == 0 { 0 } else { value >> (WIDTH - bits) };
        }
    }
    if bits > 0 {
        words[at..at + 8].copy_from_slice(&pending.to_le_bytes());
    }
    out.extend_from_slice(&words[..4 * WIDTH]);
}

/// Unpacks 32 differences less `min_delta` from `source`, which holds `4 * WIDTH` bytes and at least eight more, and
/// writes the values behind `previous` that have them. Returns the last value.
#[inline(always)]
fn restore<const WIDTH: usize>(
    source: &[u8],
    min_delta: i64,
    mut previous: i64,
    values: &mut [MaybeUninit<i64>; MINIBLOCK],
) -> Option<i64> {
    let source = source.get(..4 * WIDTH + 8)?;
    // Eight values are `WIDTH` bytes: inside of such a group, bytes and shifts are constants.
    for (group, values) in values.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let source = source.get(group * WIDTH..)?.get(..WIDTH + 8)?;
        let packed = |index| packed::<WIDTH>(source, index);
        let all = [packed(0)?, packed(1)?, packed(2)?, packed(3)?, packed(4)?, packed(5)?, packed(6)?, packed(7)?];
        for (value, packed) in values.iter_mut().zip(all) {
            // The sum of what is known early first: only one addition waits for the value before.
            previous = previous.wrapping_add(min_delta.wrapping_add(packed as i64));
            value.write(previous);
        }
    }
    Some(previous)
}

/// Number `index` of eight that are packed at the start of `source`.
#[inline(always)]
fn packed<const WIDTH: usize>(source: &[u8], index: usize) -> Option<u64> {
    let mask = if WIDTH == 64 { u64::MAX } else { (1 << WIDTH) - 1 };
    let (byte, shift) = (index * WIDTH / 8, index * WIDTH % 8);
    let word = u64::from_le_bytes(*source.get(byte..)?.first_chunk()?) >> shift;
    let above = if shift + WIDTH > 64 { u64::from(*source.get(byte + 8)?) << (64 - shift) } else { 0 };
    Some((word | above) & mask)
}

/// Decodes the first `wanted` values into `out`, which is emptied first.
///
/// `source` must have [`PADDING`] readable bytes behind the encoded data. `None` where the data is not what it claims
/// to be, or holds fewer than `wanted` values.
pub fn decode(source: &[u8], wanted: usize, out: &mut Vec<i64>) -> Option<()> {
    out.clear();
    if wanted == 0 {
        return Some(());
    }
    let mut cursor = Cursor::new(source);
    let block = usize::try_from(cursor.uvarint()?).ok()?;
    let miniblocks = usize::try_from(cursor.uvarint()?).ok()?;
    let total = usize::try_from(cursor.uvarint()?).ok()?;
    if !(1..=64).contains(&miniblocks) || block != miniblocks * MINIBLOCK || total < wanted {
        return None;
    }
    let mut previous = cursor.svarint()?;
    // Room for whole miniblocks behind the first value: what is written is counted at the end, and cut to what is wanted.
    let mini_count = (wanted - 1).div_ceil(MINIBLOCK);
    out.reserve(1 + mini_count * MINIBLOCK);
    let (first, rest) = out.spare_capacity_mut().split_first_mut()?;
    first.write(previous);
    let mut minis = rest.as_chunks_mut::<MINIBLOCK>().0[..mini_count].iter_mut();
    while minis.len() > 0 {
        let min_delta = cursor.svarint()?;
        let widths = cursor.bytes(miniblocks)?;
        for (&width, values) in widths.iter().zip(&mut minis) {
            if width == 0 {
                for value in values {
                    previous = previous.wrapping_add(min_delta);
                    value.write(previous);
                }
                continue;
            }
            previous = of_width!(width, restore, (cursor.rest(), min_delta, previous, values); None)?;
            cursor.skip(4 * usize::from(width))?;
        }
    }
    // SAFETY: the loop ended, so the first value and every miniblock behind it are written: at least `wanted` values.
    unsafe { out.set_len(wanted) };
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(values: &[i64], miniblocks: usize) {
        let mut encoded = Vec::new();
        encode(values, miniblocks, &mut encoded);
        let len = encoded.len();
        encoded.resize(len + PADDING, 0xa5);
        let mut decoded = Vec::new();
        for wanted in [values.len(), values.len() / 2, values.len().min(33)] {
            decode(&encoded, wanted, &mut decoded).unwrap();
            assert_eq!(decoded, &values[..wanted]);
        }
        assert_eq!(decode(&encoded, values.len() + 1, &mut decoded), None);
        let slices: Vec<&[i64]> = values.chunks(37).collect();
        assert_eq!(encoded_len(&slices, values.len(), miniblocks), len);
    }

    fn check_runs(runs: &[(i64, usize)]) {
        let values: Vec<i64> = runs.iter().flat_map(|&(value, len)| std::iter::repeat_n(value, len)).collect();
        let (mut by_runs, mut by_values) = (Vec::new(), Vec::new());
        encode_runs(runs, 16, &mut by_runs);
        encode(&values, 16, &mut by_values);
        assert_eq!(by_runs, by_values);
    }

    #[test]
    fn every_width_round_trips() {
        for width in 0..64 {
            let values: Vec<i64> =
                (0..300i64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64)) >> (63 - width)).collect();
            check(&values, 4);
            check(&values, 16);
        }
        check(&[], 4);
        check(&[i64::MIN, i64::MAX, 0, -1, i64::MIN, i64::MIN], 4);
    }

    proptest! {
        #[test]
        fn any_values_round_trip(values in prop::collection::vec(any::<i64>(), 0..300), shift in 0..64u32) {
            let values: Vec<i64> = values.iter().map(|value| value >> shift).collect();
            check(&values, 4);
        }

        #[test]
        fn runs_are_encoded_as_their_values(runs in prop::collection::vec((-3..3i64, 1..3000usize), 0..20)) {
            check_runs(&runs);
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), wanted in 0..500usize) {
            let mut out = Vec::new();
            if decode(&bytes, wanted, &mut out).is_some() {
                assert_eq!(out.len(), wanted);
            }
        }
    }
}
