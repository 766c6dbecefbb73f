//! Lists of integers in few bytes: varints, and fixed widths with exceptions.
//!
//! ```text
//! list   base: zigzag varint | width: 1 byte, the top bit set where there are exceptions
//!        distances from the base, zigzag, in `width` bits each, low bits first
//!        exceptions: count 1 byte, then position 1 byte and distance as a varint each; their place above holds 0
//! ```
//!
//! All arithmetic wraps, so that any integers will do.

/// A list is no longer: positions take a byte.
const LONGEST: usize = 255;
const HAS_EXCEPTIONS: u8 = 0x80;

pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub fn unzigzag(raw: u64) -> i64 {
    (raw >> 1) as i64 ^ -((raw & 1) as i64)
}

pub fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn take_varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0u64;
    let mut shift = 0;
    while let [byte, rest @ ..] = bytes {
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 || shift > 63 {
            break;
        }
    }
    value
}

pub fn take_byte(bytes: &mut &[u8]) -> u8 {
    let Some((&byte, rest)) = bytes.split_first() else { return 0 };
    *bytes = rest;
    byte
}

pub fn take_u64(bytes: &mut &[u8]) -> u64 {
    let Some((head, rest)) = bytes.split_first_chunk::<8>() else { return 0 };
    *bytes = rest;
    u64::from_le_bytes(*head)
}

/// Appends at most [`LONGEST`] numbers.
pub fn put_list(numbers: &[i64], out: &mut Vec<u8>) {
    debug_assert!(numbers.len() <= LONGEST, "positions take a byte");
    let Some(&first) = numbers.first() else { return };
    let base = if numbers.iter().all(|&number| number == first) { first } else { middle(numbers) };
    let distance = |number: i64| zigzag(number.wrapping_sub(base));
    let mut by_width = [0u8; 65];
    for &number in numbers {
        by_width[64 - distance(number).leading_zeros() as usize] += 1;
    }
    let width = best_width(&by_width, numbers.len());
    put_varint(zigzag(base), out);
    let exceptions: u8 = by_width[width + 1..].iter().sum();
    out.push(width as u8 | if exceptions > 0 { HAS_EXCEPTIONS } else { 0 });
    let fits = |distance: u64| width == 64 || distance >> width == 0;
    if width > 0 {
        let (mut pending, mut bits) = (0u128, 0);
        for &number in numbers {
            let distance = Some(distance(number)).filter(|&distance| fits(distance)).unwrap_or(0);
            pending |= u128::from(distance) << bits;
            bits += width;
            while bits >= 8 {
                out.push(pending as u8);
                pending >>= 8;
                bits -= 8;
            }
        }
        if bits > 0 {
            out.push(pending as u8);
        }
    }
    if exceptions > 0 {
        out.push(exceptions);
        for (position, &number) in numbers.iter().enumerate().filter(|(_, number)| !fits(distance(**number))) {
            out.push(position as u8);
            put_varint(distance(number), out);
        }
    }
}

/// About the median: of a few numbers from all over the list.
fn middle(numbers: &[i64]) -> i64 {
    const FEW: usize = 15;
    let mut few = [0i64; FEW];
    let count = numbers.len().min(FEW);
    for (index, place) in few.iter_mut().enumerate().take(count) {
        *place = numbers[index * numbers.len() / count];
    }
    few[..count].sort_unstable();
    few[count / 2]
}

/// The width with which the list takes the fewest bytes; wider distances become exceptions.
fn best_width(by_width: &[u8; 65], count: usize) -> usize {
    let widest = by_width.iter().rposition(|&numbers| numbers > 0).unwrap_or(0);
    let (mut best, mut best_bytes) = (widest, (widest * count).div_ceil(8));
    let mut exception_bytes = 1;
    for width in (0..widest).rev() {
        let wider = usize::from(by_width[width + 1]);
        exception_bytes += wider * (1 + (width + 1).div_ceil(7));
        let bytes = (width * count).div_ceil(8) + exception_bytes;
        if bytes < best_bytes {
            (best, best_bytes) = (width, bytes);
        }
    }
    best
}

/// Takes `count` numbers off `bytes`.
pub fn take_list(bytes: &mut &[u8], count: usize, mut push: impl FnMut(i64)) {
    if count == 0 {
        return;
    }
    let base = unzigzag(take_varint(bytes));
    let head = take_byte(bytes);
    let width = usize::from(head & !HAS_EXCEPTIONS).min(64);
    let (packed, rest) = bytes.split_at_checked((count * width).div_ceil(8)).unwrap_or((bytes, &[]));
    *bytes = rest;
    if head & HAS_EXCEPTIONS == 0 {
        unpack(packed, width, count, |_, distance| push(base.wrapping_add(unzigzag(distance))));
        return;
    }
    let mut left = take_byte(bytes);
    let next = |bytes: &mut &[u8], left: &mut u8| {
        let more = *left > 0;
        *left = left.saturating_sub(1);
        more.then(|| (usize::from(take_byte(bytes)), take_varint(bytes)))
    };
    let mut exception = next(bytes, &mut left);
    unpack(packed, width, count, |position, distance| {
        let distance = match exception {
            Some((at, exceptional)) if at == position => {
                exception = next(bytes, &mut left);
                exceptional
            }
            Some(_) | None => distance,
        };
        push(base.wrapping_add(unzigzag(distance)));
    });
}

fn unpack(packed: &[u8], width: usize, count: usize, mut push: impl FnMut(usize, u64)) {
    if width == 0 {
        (0..count).for_each(|position| push(position, 0));
        return;
    }
    let mask = u64::MAX >> (64 - width);
    for position in 0..count {
        let bit = position * width;
        let (at, shift) = (bit / 8, bit % 8);
        let distance = if width <= 56 { word_at(packed, at) >> shift } else { wide_at(packed, at, shift) };
        push(position, distance & mask);
    }
}

/// Eight bytes at `at`, zeros behind the end.
fn word_at(bytes: &[u8], at: usize) -> u64 {
    let Some(bytes) = bytes.get(at..) else { return 0 };
    match bytes.first_chunk::<8>() {
        Some(word) => u64::from_le_bytes(*word),
        None => bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    }
}

fn wide_at(bytes: &[u8], at: usize, shift: usize) -> u64 {
    ((u128::from(word_at(bytes, at + 8)) << 64 | u128::from(word_at(bytes, at))) >> shift) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(numbers: &[i64]) -> usize {
        let mut bytes = Vec::new();
        put_list(numbers, &mut bytes);
        let len = bytes.len();
        bytes.extend([7; 3]);
        let mut rest = &bytes[..];
        let mut back = Vec::new();
        take_list(&mut rest, numbers.len(), |number| back.push(number));
        assert_eq!((&*back, rest), (numbers, &[7; 3][..]));
        len
    }

    proptest! {
        #[test]
        fn any_list_comes_back(numbers in prop::collection::vec(any::<i64>(), 0..=LONGEST)) {
            check(&numbers);
        }

        #[test]
        fn lists_of_one_magnitude_come_back(bits in 0..64u32, numbers in prop::collection::vec(any::<i64>(), 0..100)) {
            let numbers: Vec<i64> = numbers.into_iter().map(|number| number >> bits).collect();
            check(&numbers);
        }

        #[test]
        fn a_few_outliers_come_back(mut numbers in prop::collection::vec(0..9i64, 60..64), at in 0..60usize, wide: i64) {
            numbers[at] = wide;
            prop_assert!(check(&numbers) < 60);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), count in 0..=LONGEST) {
            take_list(&mut &bytes[..], count, |_| {});
        }
    }

    #[test]
    fn equal_numbers_take_no_room_of_their_own() {
        assert_eq!(check(&[15_000; 64]), 4);
        assert_eq!(check(&[0; 64]), 2);
        assert!(check(&[i64::MIN, i64::MAX, 0]) < 40);
    }
}
