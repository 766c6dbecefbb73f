//! Rows as COPY … TO STDOUT writes them. Source: PostgreSQL 16, COPY, "File Formats".

use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use crate::cell_text::{CellText, Spelling};
use crate::output::OutputColumn;
use crate::pg::backend::Outbox;
use crate::pg::binary::{BinaryColumn, write_sized};
use crate::statement::{CopyFormat, CopyOptions};

/// What comes before the first row.
pub fn begin(options: &CopyOptions, columns: &[OutputColumn], outbox: &mut Outbox) {
    outbox.copy_out(columns.len(), options.format == CopyFormat::Binary);
    match options.format {
        CopyFormat::Binary => outbox.message(b'd', |body| {
            body.extend_from_slice(b"PGCOPY\n\xff\r\n\0");
            body.extend_from_slice(&[0; 8]);
        }),
        CopyFormat::Text | CopyFormat::Csv if options.header => outbox.message(b'd', |body| {
            for (index, column) in columns.iter().enumerate() {
                if index > 0 {
                    body.push(options.delimiter);
                }
                field(options, column.name.as_bytes(), body);
            }
            body.push(b'\n');
        }),
        CopyFormat::Text | CopyFormat::Csv => {}
    }
}

/// What comes behind the last row.
pub fn end(options: &CopyOptions, outbox: &mut Outbox) {
    if options.format == CopyFormat::Binary {
        outbox.message(b'd', |body| body.extend_from_slice(&(-1i16).to_be_bytes()));
    }
    outbox.copy_done();
}

/// # Errors
/// Where Arrow cannot convert a column.
pub fn rows(
    options: &CopyOptions,
    columns: &[OutputColumn],
    batch: &RecordBatch,
    outbox: &mut Outbox,
) -> Result<(), ArrowError> {
    if options.format == CopyFormat::Binary {
        let cells = columns
            .iter()
            .zip(batch.columns())
            .map(|(column, array)| BinaryColumn::new(array, column.type_oid))
            .collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            outbox.message(b'd', |body| {
                body.extend_from_slice(&(cells.len() as u16).to_be_bytes());
                for cell in &cells {
                    write_sized(body, cell.is_null(row), |body| cell.write(row, body));
                }
            });
        }
        return Ok(());
    }
    let cells = batch
        .columns()
        .iter()
        .map(|array| CellText::new(array, Spelling::Postgres, false))
        .collect::<Result<Vec<_>, _>>()?;
    let mut value = Vec::new();
    for row in 0..batch.num_rows() {
        outbox.message(b'd', |body| {
            for (index, cell) in cells.iter().enumerate() {
                if index > 0 {
                    body.push(options.delimiter);
                }
                if cell.is_null(row) {
                    body.extend_from_slice(options.null.as_bytes());
                } else {
                    value.clear();
                    cell.write(row, &mut value);
                    field(options, &value, body);
                }
            }
            body.push(b'\n');
        });
    }
    Ok(())
}

fn field(options: &CopyOptions, value: &[u8], body: &mut Vec<u8>) {
    if options.format == CopyFormat::Csv {
        let needs = value == options.null.as_bytes()
            || value == b"\\."
            || value
                .iter()
                .any(|byte| *byte == options.delimiter || *byte == options.quote || matches!(byte, b'\n' | b'\r'));
        if !needs {
            body.extend_from_slice(value);
            return;
        }
        body.push(options.quote);
        for byte in value {
            if *byte == options.quote {
                body.push(options.quote);
            }
            body.push(*byte);
        }
        body.push(options.quote);
        return;
    }
    for byte in value {
        match byte {
            b'\\' => body.extend_from_slice(b"\\\\"),
            b'\n' => body.extend_from_slice(b"\\n"),
            b'\r' => body.extend_from_slice(b"\\r"),
            b'\t' => body.extend_from_slice(b"\\t"),
            8 => body.extend_from_slice(b"\\b"),
            11 => body.extend_from_slice(b"\\v"),
            12 => body.extend_from_slice(b"\\f"),
            byte if *byte == options.delimiter => body.extend_from_slice(&[b'\\', *byte]),
            byte => body.push(*byte),
        }
    }
}
