//! Running statements and sending what they give.

use datafusion::sql::sqlparser::ast::Expr;
use std::sync::Arc;

use super::prepared::no_portal;
use super::prepared::text_schema;
use super::{Connection, Failure, Prepared, Reader};
use crate::error::{SqlError, sqlstate};
use crate::parameters::Parameter;
use crate::pg::backend::TransactionState;
use crate::pg::copy;
use crate::pg::frontend::ReadError;
use crate::pg::portal::{Portal, PortalState, RowCursor, write_rows};
use crate::statement::{Command, CopyOptions, FetchCount, RowsKind, RowsStatement};
use crate::stop::Stop;
use crate::{rewrite, wire_type};

impl Connection<'_> {
    /// In a failed transaction, nothing but its end.
    pub(super) fn allowed(&self, command: Option<&Command>) -> Result<(), SqlError> {
        let ends = matches!(command, None | Some(Command::Commit | Command::Rollback | Command::RollbackToSavepoint));
        if self.transaction == TransactionState::Failed && !ends {
            return Err(SqlError::new(
                sqlstate::ABORTED_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        Ok(())
    }

    pub(super) async fn plan(
        &mut self,
        reader: &mut Reader,
        rows: &RowsStatement,
        parameters: &[Parameter],
    ) -> Result<(crate::service::Planned, Arc<Stop>), Failure> {
        let stop = self.key.begin();
        let service = Arc::clone(&self.server.service);
        let settings = Arc::clone(&self.settings);
        let planned = watched(reader, &stop, service.plan(&settings, rows, parameters, &stop)).await??;
        Ok((planned, stop))
    }

    /// Runs the statement of `portal`, or goes on with it; at most `limit` rows where that is not 0. `describe` sends
    /// the columns before the rows, as the simple protocol wants it.
    pub(super) async fn run_portal(
        &mut self,
        reader: &mut Reader,
        portal: &mut Portal,
        limit: u64,
        describe: bool,
    ) -> Result<(), Failure> {
        self.allowed(portal.command.as_ref())?;
        let Some(command) = portal.command.clone() else {
            self.sink.outbox.empty_query();
            return Ok(());
        };
        match command {
            Command::Rows(rows) => self.run_rows(reader, portal, &rows, limit, describe).await,
            Command::Copy { statement, options } => {
                let parameters = std::mem::take(&mut portal.parameters);
                self.run_copy(reader, &statement, &parameters, &options).await
            }
            Command::Fetch { name, count } => self.fetch(reader, &name, count, describe, &portal.result_formats).await,
            Command::DeclareCursor { name, statement, hold } => {
                let parameters = std::mem::take(&mut portal.parameters);
                self.declare(reader, name, &statement, &parameters, hold).await
            }
            Command::Show(name) => {
                let value = self.settings.get(&name)?;
                let columns = RowsStatement::of_text(&name.to_lowercase(), "")?.names.columns(&text_schema(1));
                self.send_texts(&columns, &[vec![value]], describe, "SHOW");
                Ok(())
            }
            Command::ShowAll => {
                let rows: Vec<Vec<String>> =
                    self.settings.all().into_iter().map(|(name, value)| vec![name, value, String::new()]).collect();
                self.send_texts(&show_all_columns(), &rows, describe, "SHOW");
                Ok(())
            }
            Command::Execute { name, arguments } => {
                self.execute_named(reader, &name, &arguments, limit, describe).await
            }
            other => {
                let tag = self.control(other)?;
                self.sink.outbox.command_complete(&tag);
                Ok(())
            }
        }
    }

    pub(super) async fn run_rows(
        &mut self,
        reader: &mut Reader,
        portal: &mut Portal,
        rows: &RowsStatement,
        limit: u64,
        describe: bool,
    ) -> Result<(), Failure> {
        let tag = match rows.kind {
            RowsKind::Query => "SELECT",
            RowsKind::Explain { .. } => "EXPLAIN",
        };
        let mut cursor = match std::mem::replace(&mut portal.state, PortalState::Done) {
            PortalState::New => {
                let (planned, stop) = self.plan(reader, rows, &portal.parameters).await?;
                RowCursor::new(self.server.service.execute(planned), stop)
            }
            PortalState::Planned(planned, stop) => RowCursor::new(self.server.service.execute(*planned), stop),
            PortalState::Rows(cursor) => cursor,
            PortalState::Done => {
                self.sink.outbox.command_complete(&format!("{tag} 0"));
                return Ok(());
            }
        };
        if describe {
            self.sink.outbox.row_description(&cursor.columns, &portal.result_formats);
        }
        let (sent, more) = self.send_rows(reader, &mut cursor, limit, &portal.result_formats).await?;
        if more {
            self.sink.outbox.portal_suspended();
            portal.state = PortalState::Rows(cursor);
        } else if tag == "SELECT" {
            self.sink.outbox.command_complete(&format!("SELECT {sent}"));
        } else {
            self.sink.outbox.command_complete(tag);
        }
        Ok(())
    }

    /// Sends up to `limit` rows (0: all); how many, and whether there are more.
    pub(super) async fn send_rows(
        &mut self,
        reader: &mut Reader,
        cursor: &mut RowCursor,
        limit: u64,
        formats: &[i16],
    ) -> Result<(u64, bool), Failure> {
        let stop = Arc::clone(&cursor.stop);
        self.key.resume(&stop);
        let mut sent = 0;
        loop {
            let left = if limit == 0 { u64::MAX } else { limit - sent };
            if left == 0 {
                let more = watched(reader, &stop, cursor.has_more()).await??;
                return Ok((sent, more));
            }
            let Some(batch) = watched(reader, &stop, cursor.next(left)).await? else {
                return Ok((sent, false));
            };
            let batch = batch?;
            sent += batch.num_rows() as u64;
            // In pieces: a batch of wide rows can be large as text.
            for start in (0..batch.num_rows()).step_by(1024) {
                let piece = batch.slice(start, (batch.num_rows() - start).min(1024));
                write_rows(&cursor.columns, formats, &piece, &mut self.sink.outbox)?;
                self.sink.flush_if_large().await?;
            }
        }
    }

    pub(super) async fn run_copy(
        &mut self,
        reader: &mut Reader,
        rows: &RowsStatement,
        parameters: &[Parameter],
        options: &CopyOptions,
    ) -> Result<(), Failure> {
        let (planned, stop) = self.plan(reader, rows, parameters).await?;
        let mut cursor = RowCursor::new(self.server.service.execute(planned), Arc::clone(&stop));
        let columns = Arc::clone(&cursor.columns);
        copy::begin(options, &columns, &mut self.sink.outbox);
        let mut sent = 0;
        while let Some(batch) = watched(reader, &stop, cursor.next(1024)).await? {
            let batch = batch?;
            sent += batch.num_rows();
            copy::rows(options, &columns, &batch, &mut self.sink.outbox)
                .map_err(|error| SqlError::new(sqlstate::INTERNAL, error.to_string()))?;
            self.sink.flush_if_large().await?;
        }
        copy::end(options, &mut self.sink.outbox);
        self.sink.outbox.command_complete(&format!("COPY {sent}"));
        Ok(())
    }

    pub(super) async fn declare(
        &mut self,
        reader: &mut Reader,
        name: String,
        rows: &RowsStatement,
        parameters: &[Parameter],
        hold: bool,
    ) -> Result<(), Failure> {
        if self.transaction == TransactionState::Idle && !hold {
            return Err(SqlError::new(
                sqlstate::NO_TRANSACTION,
                "DECLARE CURSOR can only be used in transaction blocks",
            )
            .into());
        }
        let (planned, stop) = self.plan(reader, rows, parameters).await?;
        let portal = Portal {
            command: None,
            parameters: Vec::new(),
            result_formats: Vec::new(),
            state: PortalState::Planned(Box::new(planned), stop),
            hold,
            is_cursor: true,
        };
        self.keep_portal(name, portal)?;
        self.sink.outbox.command_complete("DECLARE CURSOR");
        Ok(())
    }

    pub(super) async fn fetch(
        &mut self,
        reader: &mut Reader,
        name: &str,
        count: FetchCount,
        describe: bool,
        formats: &[i16],
    ) -> Result<(), Failure> {
        let mut portal = self.portals.remove(name).ok_or_else(|| no_portal(name))?;
        let columns_known = match std::mem::replace(&mut portal.state, PortalState::Done) {
            PortalState::Planned(planned, stop) => Some(RowCursor::new(self.server.service.execute(*planned), stop)),
            PortalState::Rows(cursor) => Some(cursor),
            PortalState::New | PortalState::Done => None,
        };
        let Some(mut cursor) = columns_known else {
            self.portals.insert(name.to_owned(), portal);
            return Err(SqlError::new(sqlstate::UNDEFINED_CURSOR, format!("cursor \"{name}\" cannot be read")).into());
        };
        if describe {
            self.sink.outbox.row_description(&cursor.columns, formats);
        }
        let sent = match count {
            FetchCount::Rows(0) => 0,
            FetchCount::Rows(count) => self.send_rows(reader, &mut cursor, count, formats).await?.0,
            FetchCount::All => self.send_rows(reader, &mut cursor, 0, formats).await?.0,
        };
        portal.state = PortalState::Rows(cursor);
        self.portals.insert(name.to_owned(), portal);
        self.sink.outbox.command_complete(&format!("FETCH {sent}"));
        Ok(())
    }

    pub(super) async fn execute_named(
        &mut self,
        reader: &mut Reader,
        name: &str,
        arguments: &[Expr],
        limit: u64,
        describe: bool,
    ) -> Result<(), Failure> {
        let Prepared { command, types } = self.statement(name)?.clone();
        let Some(Command::Rows(rows)) = command else {
            return Err(crate::statement::unsupported("EXECUTE of this statement").into());
        };
        let parameters = arguments
            .iter()
            .enumerate()
            .map(|(index, argument)| argument_parameter(argument, types.get(index).copied().unwrap_or(0)))
            .collect::<Result<Vec<_>, _>>()?;
        let mut inner = Portal {
            command: None,
            parameters,
            result_formats: Vec::new(),
            state: PortalState::New,
            hold: false,
            is_cursor: false,
        };
        self.run_rows(reader, &mut inner, &rows, limit, describe).await
    }

    pub(super) fn send_texts(
        &mut self,
        columns: &[crate::output::OutputColumn],
        rows: &[Vec<String>],
        describe: bool,
        tag: &str,
    ) {
        if describe {
            self.sink.outbox.row_description(columns, &[]);
        }
        for row in rows {
            self.sink.outbox.message(b'D', |body| {
                body.extend_from_slice(&(row.len() as u16).to_be_bytes());
                for value in row {
                    body.extend_from_slice(&(value.len() as u32).to_be_bytes());
                    body.extend_from_slice(value.as_bytes());
                }
            });
        }
        self.sink.outbox.command_complete(tag);
    }
}

/// Waits for `work`, and trips `stop` if the client goes away meanwhile.
pub(super) async fn watched<T>(
    reader: &mut Reader,
    stop: &Stop,
    work: impl Future<Output = T>,
) -> Result<T, ReadError> {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => Ok(done),
        () = reader.closed() => {
            stop.trip(crate::stop::StopReason::Canceled);
            // The work ends by itself now, and nobody is left to hear of it.
            Err(ReadError::Closed)
        }
    }
}

pub(super) fn show_all_columns() -> Vec<crate::output::OutputColumn> {
    ["name", "setting", "description"]
        .into_iter()
        .map(|name| crate::output::OutputColumn {
            name: name.to_owned(),
            data_type: arrow::datatypes::DataType::Utf8View,
            type_oid: wire_type::TEXT,
        })
        .collect()
}

/// An argument of SQL's EXECUTE: a literal.
pub(super) fn argument_parameter(argument: &Expr, type_oid: u32) -> Result<Parameter, SqlError> {
    let text = match argument {
        Expr::Value(value) if matches!(value.value, datafusion::sql::sqlparser::ast::Value::Null) => None,
        Expr::Cast { expr, data_type, .. } => {
            let type_oid = if type_oid == 0 { rewrite::type_oid(data_type)? } else { type_oid };
            return argument_parameter(expr, type_oid);
        }
        other => match rewrite::text(other) {
            Some(text) => Some(text),
            None => match other {
                Expr::Value(_) | Expr::UnaryOp { .. } => Some(other.to_string()),
                _ => return Err(crate::statement::unsupported("an expression as an argument of EXECUTE")),
            },
        },
    };
    // A bare number is a number even where no type was declared.
    let is_number = matches!(argument, Expr::Value(value)
        if matches!(value.value, datafusion::sql::sqlparser::ast::Value::Number(..)))
        || matches!(argument, Expr::UnaryOp { .. });
    let type_oid = match (type_oid, is_number, &text) {
        (0, true, Some(text)) if text.parse::<i64>().is_ok() => wire_type::INT8,
        (0, true, _) => wire_type::FLOAT8,
        (declared, _, _) => declared,
    };
    Ok(Parameter { type_oid, text })
}
