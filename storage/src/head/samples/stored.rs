//! Samples as a head snapshot keeps them: the packed bytes as they are, and what says how they go on.
//!
//! ```text
//! step between the newest timestamps: uvarint | samples in the open run: 1 byte | digits: 1 byte
//! bytes before the open run: uvarint | bytes in all: uvarint, then those
//! ```

use super::{FULL, Samples, room_for};
use crate::block::varint::{Cursor, put_uvarint};
use crate::head::chunk;

impl Samples {
    /// Appends what [`Samples::restore`] reads.
    pub fn store(&self, out: &mut Vec<u8>) {
        put_uvarint(out, u64::from(self.step_ms));
        out.extend_from_slice(&[self.open_count, self.digits]);
        put_uvarint(out, u64::from(self.open_at));
        put_uvarint(out, u64::from(self.len));
        out.extend_from_slice(&self.room[..self.len as usize]);
    }

    /// The samples that were stored, and how many there are. `None` for bytes that nobody has stored.
    pub fn restore(bytes: &mut Cursor<'_>) -> Option<(Samples, usize)> {
        let step_ms = bytes.number()?;
        let (open_count, digits) = (bytes.byte()?, bytes.byte()?);
        let open_at: u32 = bytes.number()?;
        let len: u32 = bytes.number()?;
        let packed = bytes.bytes(len as usize)?;
        let (chunks, open) = packed.split_at_checked(open_at as usize)?;
        if usize::from(open_count) > FULL || (open_count > 0) == open.is_empty() {
            return None;
        }
        let mut count = usize::from(open_count);
        let (mut at, mut before_ms) = (0, 0);
        while at < chunks.len() {
            let place = chunk::place(chunks, at, before_ms)?;
            if !(1..=FULL).contains(&place.count) || place.end <= at || place.end > chunks.len() {
                return None;
            }
            (at, before_ms) = (place.end, place.first_ms);
            count += place.count;
        }
        let mut room = Vec::with_capacity(room_for(packed.len()));
        room.extend_from_slice(packed);
        room.resize(room_for(packed.len()), 0);
        let ever = !packed.is_empty();
        Some((Samples { room: room.into_boxed_slice(), len, open_at, step_ms, open_count, digits, ever }, count))
    }
}
