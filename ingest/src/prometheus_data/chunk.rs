//! Chunks by their encoding.

use super::bits::Bits;
use super::error::Malformed;
use super::histogram::Integer;
use super::xor::Xor;
use super::{histogram, xor, xor2};
use pilaster_model::Columns;

/// How a chunk holds its samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Xor,
    Histogram,
    FloatHistogram,
    /// Floats, with start timestamps where there are any.
    Xor2,
    HistogramSt,
    FloatHistogramSt,
}

impl Encoding {
    /// The encoding with Prometheus's number `byte`.
    pub fn from_byte(byte: u8) -> Option<Encoding> {
        Some(match byte {
            1 => Encoding::Xor,
            2 => Encoding::Histogram,
            3 => Encoding::FloatHistogram,
            4 => Encoding::Xor2,
            5 => Encoding::HistogramSt,
            6 => Encoding::FloatHistogramSt,
            _ => return None,
        })
    }

    /// Samples in a chunk with these data.
    pub(super) fn sample_count(self, data: &[u8]) -> usize {
        let Some(head) = data.first_chunk() else { return 0 };
        let count = u16::from_be_bytes(*head);
        usize::from(match self {
            Encoding::Xor | Encoding::Histogram | Encoding::FloatHistogram | Encoding::Xor2 => count,
            // The highest bits tell of counter resets.
            Encoding::HistogramSt | Encoding::FloatHistogramSt => count & 0x3fff,
        })
    }
}

/// Appends the samples of a chunk to `out`. After an error `out` holds those before it.
///
/// # Errors
/// Why the bytes are no such chunk.
pub fn decode_chunk(encoding: Encoding, data: &[u8], out: &mut Columns) -> Result<(), String> {
    decode(encoding, data, out).map_err(String::from)
}

pub(super) fn decode(encoding: Encoding, data: &[u8], out: &mut Columns) -> Result<(), Malformed> {
    let count = encoding.sample_count(data);
    let header = match encoding {
        Encoding::Xor => 2,
        Encoding::Histogram
        | Encoding::FloatHistogram
        | Encoding::Xor2
        | Encoding::HistogramSt
        | Encoding::FloatHistogramSt => 3,
    };
    let Some((header, rest)) = data.split_at_checked(header) else {
        return Err(Malformed("the chunk has no header"));
    };
    let bits = Bits::new(rest);
    match encoding {
        Encoding::Xor => xor::decode(bits, count, out),
        Encoding::Xor2 => xor2::decode(bits, count, header[2], out),
        Encoding::Histogram => histogram::decode::<Integer>(bits, count, header[2], None, out),
        Encoding::FloatHistogram => histogram::decode::<Xor>(bits, count, header[2], None, out),
        Encoding::HistogramSt => histogram::decode::<Integer>(bits, count, header[0], Some(header[2]), out),
        Encoding::FloatHistogramSt => histogram::decode::<Xor>(bits, count, header[0], Some(header[2]), out),
    }
}
