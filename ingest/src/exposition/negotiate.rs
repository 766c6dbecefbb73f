//! Which format a target is asked for, and which one its answer is in.

use super::{Format, go_quote};
use crate::config::{EscapingScheme, ScrapeProtocol};

/// The `Accept` header: each protocol with a lower weight than the one before, then anything.
///
/// Source: `acceptHeader`, Prometheus v3 `scrape/scrape.go`.
pub fn accept_header(protocols: impl Iterator<Item = ScrapeProtocol>, escaping: EscapingScheme) -> String {
    let mut header = String::new();
    let mut weight = 6;
    for protocol in protocols {
        let (media_type, escapes) = match protocol {
            ScrapeProtocol::PrometheusProto => {
                ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", false)
            }
            ScrapeProtocol::PrometheusText004 => ("text/plain;version=0.0.4", false),
            ScrapeProtocol::PrometheusText100 => ("text/plain;version=1.0.0", true),
            ScrapeProtocol::OpenMetricsText001 => ("application/openmetrics-text;version=0.0.1", false),
            ScrapeProtocol::OpenMetricsText100 => ("application/openmetrics-text;version=1.0.0", true),
        };
        header.push_str(media_type);
        if escapes {
            header.push_str(";escaping=");
            header.push_str(escaping.name());
        }
        header.push_str(&format!(";q=0.{weight},"));
        weight -= 1;
    }
    header.push_str(&format!("*/*;q=0.{weight}"));
    header
}

/// How a body is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFormat {
    Text(Format),
    Protobuf,
}

/// A response whose content type says nothing useful, from a job without a fallback.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnknownContentType(String);

/// The format that `content_type` names, else the one of `fallback`.
///
/// # Errors
/// [`UnknownContentType`] where there is neither; the texts are Prometheus's.
pub fn format_of(content_type: &str, fallback: Option<ScrapeProtocol>) -> Result<BodyFormat, UnknownContentType> {
    let known = media_type(content_type).and_then(|media_type| match media_type.as_str() {
        "text/plain" => Some(BodyFormat::Text(Format::PrometheusText)),
        "application/openmetrics-text" => Some(BodyFormat::Text(Format::OpenMetrics)),
        "application/vnd.google.protobuf" => Some(BodyFormat::Protobuf),
        _ => None,
    });
    let fallback = fallback.map(|protocol| match protocol {
        ScrapeProtocol::PrometheusText004 | ScrapeProtocol::PrometheusText100 => {
            BodyFormat::Text(Format::PrometheusText)
        }
        ScrapeProtocol::OpenMetricsText001 | ScrapeProtocol::OpenMetricsText100 => {
            BodyFormat::Text(Format::OpenMetrics)
        }
        ScrapeProtocol::PrometheusProto => BodyFormat::Protobuf,
    });
    known.or(fallback).ok_or_else(|| {
        let quoted = go_quote(content_type.as_bytes());
        UnknownContentType(if content_type.is_empty() {
            "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target"
                .to_owned()
        } else if media_type(content_type).is_none() {
            format!("cannot parse Content-Type {quoted} and no fallback_scrape_protocol for target")
        } else {
            format!("received unsupported Content-Type {quoted} and no fallback_scrape_protocol specified for target")
        })
    })
}

/// `type/subtype` in lower case; `None` where the header is malformed.
fn media_type(content_type: &str) -> Option<String> {
    let mut parts = content_type.split(';');
    let media_type = parts.next()?.trim().to_ascii_lowercase();
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&b))
    };
    let well_formed = match media_type.split_once('/') {
        Some((kind, subtype)) => is_token(kind) && is_token(subtype),
        None => is_token(&media_type),
    };
    let parameters = parts.map(str::trim).filter(|part| !part.is_empty());
    let parameters_fit =
        parameters.into_iter().all(|part| part.split_once('=').is_some_and(|(key, _)| is_token(key.trim())));
    (well_formed && parameters_fit).then_some(media_type)
}
