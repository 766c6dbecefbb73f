//! The staleness marker: the one NaN that ends a series.
//!
//! It travels as a bit pattern. No layer may canonicalise NaN, or series would never end.

/// Bits of the staleness marker. Source: Prometheus `model/value/value.go`.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The staleness marker as a float.
pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Whether `value` is the staleness marker, bit for bit. An ordinary NaN is not.
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}
