//! The remote-write receiver, versions 1.0 and 2.0: bytes of a request to logged samples.
//!
//! HTTP stays outside: [`receive`] takes header values and a body and says status, text and headers.
//! Source: Prometheus remote-write specifications 1.0 and 2.0.

mod encode;
pub(crate) mod histogram;
mod receiver;
mod request;

pub use crate::protobuf::DecodeError;
pub use encode::{SeriesToSend, encode_v1, encode_v2};
pub use histogram::RawHistogram;
pub use receiver::{MAX_DECODED_BYTES, Response, receive};
pub(crate) use request::metric_kind;
pub use request::{RawExemplar, RawMetadata, RawSample, RawSeries, Request, decode_v1, decode_v2};
