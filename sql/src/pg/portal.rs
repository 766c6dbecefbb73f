//! A statement with its values, on its way from Bind to its last row; cursors are portals that SQL named.

use std::sync::Arc;

use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use crate::cell_text::{CellText, Spelling};
use crate::error::{SqlError, sqlstate};
use crate::output::OutputColumn;
use crate::parameters::Parameter;
use crate::pg::backend::{Outbox, format_of};
use crate::pg::binary::{BinaryColumn, write_sized};
use crate::service::{Planned, RowStream};
use crate::statement::Command;
use crate::stop::Stop;

/// What Bind made.
pub struct Portal {
    /// `None` for an empty statement.
    pub command: Option<Command>,
    pub parameters: Vec<Parameter>,
    pub result_formats: Vec<i16>,
    pub state: PortalState,
    /// A cursor that outlives its transaction.
    pub hold: bool,
    /// Made by DECLARE, to be read by FETCH.
    pub is_cursor: bool,
}

pub enum PortalState {
    New,
    /// Described, not run; with the stop that was given to its snapshot.
    Planned(Box<Planned>, Arc<Stop>),
    Rows(RowCursor),
    Done,
}

/// Rows that are taken a few at a time.
pub struct RowCursor {
    stream: RowStream,
    pub stop: Arc<Stop>,
    /// Rows of the last batch that are not sent yet.
    rest: Option<RecordBatch>,
    pub columns: Arc<[OutputColumn]>,
}

impl RowCursor {
    pub fn new(stream: RowStream, stop: Arc<Stop>) -> RowCursor {
        let columns = stream.columns();
        RowCursor { stream, stop, rest: None, columns }
    }

    /// Up to `limit` further rows; `None` at the end.
    pub async fn next(&mut self, limit: u64) -> Option<Result<RecordBatch, SqlError>> {
        let batch = match self.rest.take() {
            Some(rest) => rest,
            None => match self.stream.next().await? {
                Ok(batch) => batch,
                Err(error) => return Some(Err(error)),
            },
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if batch.num_rows() <= limit {
            return Some(Ok(batch));
        }
        self.rest = Some(batch.slice(limit, batch.num_rows() - limit));
        Some(Ok(batch.slice(0, limit)))
    }

    /// Whether a row is left; waits for it.
    pub async fn has_more(&mut self) -> Result<bool, SqlError> {
        if self.rest.is_some() {
            return Ok(true);
        }
        match self.stream.next().await {
            None => Ok(false),
            Some(Ok(batch)) => {
                self.rest = Some(batch);
                Ok(true)
            }
            Some(Err(error)) => Err(error),
        }
    }
}

enum CellWriter {
    Text(CellText),
    Binary(BinaryColumn),
}

/// Appends a DataRow for every row of `batch`.
///
/// # Errors
/// `XX000` where Arrow cannot convert a column.
pub fn write_rows(
    columns: &[OutputColumn],
    formats: &[i16],
    batch: &RecordBatch,
    outbox: &mut Outbox,
) -> Result<(), SqlError> {
    let writers = columns
        .iter()
        .zip(batch.columns())
        .enumerate()
        .map(|(index, (column, array))| match format_of(formats, index) {
            1 => BinaryColumn::new(array, column.type_oid).map(CellWriter::Binary),
            _ => CellText::new(array, Spelling::Postgres, false).map(CellWriter::Text),
        })
        .collect::<Result<Vec<_>, ArrowError>>()
        .map_err(|error| SqlError::new(sqlstate::INTERNAL, error.to_string()))?;
    for row in 0..batch.num_rows() {
        outbox.message(b'D', |body| {
            body.extend_from_slice(&(writers.len() as u16).to_be_bytes());
            for writer in &writers {
                match writer {
                    CellWriter::Text(cell) => write_sized(body, cell.is_null(row), |body| cell.write(row, body)),
                    CellWriter::Binary(cell) => write_sized(body, cell.is_null(row), |body| cell.write(row, body)),
                }
            }
        });
    }
    Ok(())
}
