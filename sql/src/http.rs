//! SQL over HTTP: one statement in, one document out, in the format the client accepts.
//!
//! JSON is Prometheus's envelope: `{"status":"success","data":{"columns":[{"name","type"}],"rows":[[…]]}}`. Values that
//! JSON lacks (NaN, infinities) are strings, instants are RFC 3339 strings, `labels` is an object. CSV has a header line
//! and Postgres's spelling; Arrow is the IPC stream format. Errors are JSON in every case, with their `sqlstate`.

use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use serde_json::json;
use std::sync::Arc;

use crate::cell_text::{CellText, Spelling, write_json_string};
use crate::error::{SqlError, sqlstate};
use crate::output::QueryOutput;
use crate::service::SqlService;
use crate::wire_type;

/// What to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
    Arrow,
}

const JSON: &str = "application/json";
const CSV: &str = "text/csv; charset=utf-8";
const ARROW: &str = "application/vnd.apache.arrow.stream";

/// Runs `sql` and writes the answer in the first format of the `Accept` header that is known: JSON (also for `*/*` and
/// an empty header), `text/csv` or `application/vnd.apache.arrow.stream`.
pub async fn respond(service: &SqlService, sql: &str, accept: &str) -> HttpAnswer {
    let Some(format) = negotiate(accept) else {
        let error = SqlError::new(
            sqlstate::INVALID_PARAMETER,
            format!("none of the formats in \"{accept}\" is known: {JSON}, text/csv, {ARROW}"),
        );
        return HttpAnswer { status: 406, ..failure(&error) };
    };
    let output = match service.query(sql).await {
        Ok(output) => output,
        Err(error) => return failure(&error),
    };
    // Writing large answers takes a while: not on a thread that serves other connections.
    let written = tokio::task::spawn_blocking(move || match format {
        Format::Json => write_json(&output).map(|body| (JSON, body)),
        Format::Csv => write_csv(&output).map(|body| (CSV, body)),
        Format::Arrow => write_arrow(&output).map(|body| (ARROW, body)),
    })
    .await;
    match written {
        Ok(Ok((content_type, body))) => HttpAnswer { status: 200, content_type, body: body.into() },
        Ok(Err(error)) => failure(&SqlError::new(sqlstate::INTERNAL, error.to_string())),
        Err(_) => failure(&SqlError::new(sqlstate::INTERNAL, "the answer could not be written")),
    }
}

/// The best known format of an `Accept` header by its q-values; of equals, the first.
fn negotiate(accept: &str) -> Option<Format> {
    if accept.trim().is_empty() {
        return Some(Format::Json);
    }
    let mut best: Option<(f32, Format)> = None;
    for part in accept.split(',') {
        let mut pieces = part.split(';').map(str::trim);
        let format = match pieces.next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "application/json" | "application/*" | "*/*" => Format::Json,
            "text/csv" | "text/*" => Format::Csv,
            "application/vnd.apache.arrow.stream" => Format::Arrow,
            _ => continue,
        };
        let weight = pieces
            .find_map(|piece| piece.strip_prefix("q=").map(|weight| weight.parse::<f32>().unwrap_or(0.0)))
            .unwrap_or(1.0);
        if weight > 0.0 && best.is_none_or(|(found, _)| weight > found) {
            best = Some((weight, format));
        }
    }
    best.map(|(_, format)| format)
}

/// An error in Prometheus's envelope, extended by `sqlstate` and, where known, `hint` and `position`.
pub fn failure(error: &SqlError) -> HttpAnswer {
    let (status, error_type) = match error.sqlstate {
        sqlstate::QUERY_CANCELED if error.message.contains("timeout") => (503, "timeout"),
        sqlstate::QUERY_CANCELED => (499, "canceled"),
        sqlstate::OUT_OF_MEMORY | sqlstate::LIMIT_EXCEEDED => (422, "execution"),
        sqlstate::ADMIN_SHUTDOWN | sqlstate::TOO_MANY_CONNECTIONS => (503, "unavailable"),
        sqlstate::IO_ERROR | sqlstate::INTERNAL | sqlstate::SYSTEM_ERROR => (500, "internal"),
        state if state.starts_with("22") => (422, "execution"),
        _ => (400, "bad_data"),
    };
    let mut body = json!({
        "status": "error",
        "errorType": error_type,
        "error": error.message,
        "sqlstate": error.sqlstate,
    });
    if let Some(hint) = &error.hint {
        body["hint"] = json!(hint);
    }
    if let Some(position) = error.position {
        body["position"] = json!(position);
    }
    HttpAnswer { status, content_type: JSON, body: body.to_string().into() }
}

fn type_name(oid: u32) -> &'static str {
    wire_type::find(oid).map_or("text", |known| known.sql_name)
}

fn cells(output: &QueryOutput, batch: &RecordBatch, spelling: Spelling) -> Result<Vec<CellText>, ArrowError> {
    output
        .columns
        .iter()
        .zip(batch.columns())
        .map(|(column, array)| {
            let is_json = matches!(column.type_oid, wire_type::JSON | wire_type::JSONB)
                && matches!(column.data_type, arrow::datatypes::DataType::Utf8View);
            CellText::new(array, spelling, is_json)
        })
        .collect()
}

fn write_json(output: &QueryOutput) -> Result<Vec<u8>, ArrowError> {
    let mut out = Vec::new();
    out.extend_from_slice(b"{\"status\":\"success\",\"data\":{\"columns\":[");
    for (index, column) in output.columns.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"{\"name\":" } else { b",{\"name\":" });
        write_json_string(&column.name, &mut out);
        out.extend_from_slice(b",\"type\":");
        write_json_string(type_name(column.type_oid), &mut out);
        out.push(b'}');
    }
    out.extend_from_slice(b"],\"rows\":[");
    let mut first = true;
    for batch in &output.batches {
        let cells = cells(output, batch, Spelling::Json)?;
        for row in 0..batch.num_rows() {
            out.extend_from_slice(if first { b"[" } else { b",[" });
            first = false;
            for (index, cell) in cells.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                cell.write_json(row, &mut out);
            }
            out.push(b']');
        }
    }
    out.extend_from_slice(b"]}}");
    Ok(out)
}

/// RFC 4180; NULL is an empty field, an empty text is `""`.
fn write_csv(output: &QueryOutput) -> Result<Vec<u8>, ArrowError> {
    let mut out = Vec::new();
    for (index, column) in output.columns.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_csv_field(column.name.as_bytes(), &mut out);
    }
    out.extend_from_slice(b"\r\n");
    let mut field = Vec::new();
    for batch in &output.batches {
        let cells = cells(output, batch, Spelling::Postgres)?;
        for row in 0..batch.num_rows() {
            for (index, cell) in cells.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                if !cell.is_null(row) {
                    field.clear();
                    cell.write(row, &mut field);
                    write_csv_field(&field, &mut out);
                }
            }
            out.extend_from_slice(b"\r\n");
        }
    }
    Ok(out)
}

fn write_csv_field(field: &[u8], out: &mut Vec<u8>) {
    let quote = field.is_empty() || field.iter().any(|byte| matches!(byte, b'"' | b',' | b'\n' | b'\r'));
    if !quote {
        out.extend_from_slice(field);
        return;
    }
    out.push(b'"');
    for byte in field {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

fn write_arrow(output: &QueryOutput) -> Result<Vec<u8>, ArrowError> {
    let fields: Vec<Field> =
        output.columns.iter().map(|column| Field::new(&column.name, column.data_type.clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
    for batch in &output.batches {
        // Names as clients see them; an answer without columns still has rows.
        let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let renamed = RecordBatch::try_new_with_options(Arc::clone(&schema), batch.columns().to_vec(), &options)?;
        writer.write(&renamed)?;
    }
    writer.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_header_decides() {
        for (accept, format) in [
            ("", Some(Format::Json)),
            ("*/*", Some(Format::Json)),
            ("text/csv", Some(Format::Csv)),
            ("text/html, application/vnd.apache.arrow.stream;q=0.5, application/json;q=0.4", Some(Format::Arrow)),
            ("application/json;q=0, text/csv;q=0.1", Some(Format::Csv)),
            ("image/png", None),
        ] {
            assert_eq!(negotiate(accept), format, "{accept}");
        }
    }
}
