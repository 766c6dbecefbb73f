//! What a label set is known by.

use std::hash::{BuildHasher, Hasher, RandomState};

use pilaster_model::put_identity;
use twox_hash::XxHash64;

/// Hashes of labels need no second hash.
#[derive(Debug, Default)]
pub struct SameHash(u64);

impl Hasher for SameHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// What tells a label set from all others: two hashes of the same bytes, one of them with a key that nobody outside
/// knows. Equal means the same labels: 128 bits do not meet by chance, and nobody can make them meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// [`Labels::hash64`].
    pub hash: u64,
    pub check: u64,
}

/// The key of this process.
#[derive(Debug, Default)]
pub struct IdentityKey(RandomState);

impl IdentityKey {
    /// The identity of the label set with these pairs, ascending by name and none of them empty.
    pub fn identity<'a>(&self, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Identity {
        let mut bytes = Vec::with_capacity(256);
        put_identity(pairs, &mut bytes);
        let mut check = self.0.build_hasher();
        check.write(&bytes);
        Identity { hash: XxHash64::oneshot(0, &bytes), check: check.finish() }
    }
}
