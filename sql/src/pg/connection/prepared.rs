//! Statements and portals by name: Parse, Bind and Describe.

use std::sync::Arc;

use super::rows::show_all_columns;
use super::rows::watched;
use super::{Connection, Failure, MAX_PORTALS, MAX_STATEMENTS, Prepared, Reader};
use crate::error::{SqlError, sqlstate};
use crate::parameters::Parameter;
use crate::pg::backend::format_of;
use crate::pg::binary::parameter_text;
use crate::pg::frontend::Bind;
use crate::pg::portal::{Portal, PortalState};
use crate::statement::{Command, RowsStatement};

impl Connection<'_> {
    pub(super) fn keep_statement(&mut self, name: String, prepared: Prepared) -> Result<(), SqlError> {
        if !name.is_empty() {
            if self.statements.contains_key(&name) {
                return Err(SqlError::new(
                    sqlstate::DUPLICATE_STATEMENT,
                    format!("prepared statement \"{name}\" already exists"),
                ));
            }
            if self.statements.len() >= MAX_STATEMENTS {
                return Err(SqlError::new(
                    sqlstate::LIMIT_EXCEEDED,
                    format!("a session can have at most {MAX_STATEMENTS} prepared statements"),
                ));
            }
        }
        self.statements.insert(name, prepared);
        Ok(())
    }

    pub(super) fn statement(&self, name: &str) -> Result<&Prepared, SqlError> {
        self.statements.get(name).ok_or_else(|| {
            SqlError::new(sqlstate::UNDEFINED_STATEMENT, format!("prepared statement \"{name}\" does not exist"))
        })
    }

    pub(super) fn bind(&mut self, bind: Bind) -> Result<(), SqlError> {
        let Prepared { command, types } = self.statement(&bind.statement)?.clone();
        let rows = command.as_ref().and_then(Command::rows);
        let placeholders = rows.and_then(|rows| rows.placeholders.last().copied()).unwrap_or(0);
        let needed = placeholders.max(types.len());
        if bind.parameters.len() != needed {
            return Err(SqlError::new(
                sqlstate::PROTOCOL_VIOLATION,
                format!(
                    "bind message supplies {} parameters, but prepared statement \"{}\" requires {needed}",
                    bind.parameters.len(),
                    bind.statement
                ),
            ));
        }
        let mut parameters = Vec::with_capacity(needed);
        for (index, value) in bind.parameters.iter().enumerate() {
            let type_oid = types.get(index).copied().unwrap_or(0);
            let text = match value {
                None => None,
                Some(bytes) => Some(match format_of(&bind.parameter_formats, index) {
                    0 => String::from_utf8(bytes.to_vec())
                        .map_err(|_| SqlError::new("22021", "invalid byte sequence for encoding \"UTF8\""))?,
                    1 => parameter_text(type_oid, bytes)?,
                    other => {
                        return Err(SqlError::new(
                            sqlstate::PROTOCOL_VIOLATION,
                            format!("unsupported format code: {other}"),
                        ));
                    }
                }),
            };
            if text.as_ref().is_some_and(|text| text.contains('\0')) {
                return Err(SqlError::new("22021", "invalid byte sequence for encoding \"UTF8\": 0x00"));
            }
            parameters.push(Parameter { type_oid, text });
        }
        let portal = Portal {
            command,
            parameters,
            result_formats: bind.result_formats,
            state: PortalState::New,
            hold: false,
            is_cursor: false,
        };
        self.keep_portal(bind.portal, portal)?;
        self.sink.outbox.bind_complete();
        Ok(())
    }

    pub(super) fn keep_portal(&mut self, name: String, portal: Portal) -> Result<(), SqlError> {
        if !name.is_empty() {
            if self.portals.contains_key(&name) {
                return Err(SqlError::new(sqlstate::DUPLICATE_CURSOR, format!("cursor \"{name}\" already exists")));
            }
            if self.portals.len() >= MAX_PORTALS {
                return Err(SqlError::new(
                    sqlstate::LIMIT_EXCEEDED,
                    format!("a session can have at most {MAX_PORTALS} open portals"),
                ));
            }
        }
        self.portals.insert(name, portal);
        Ok(())
    }

    pub(super) async fn describe_statement(&mut self, reader: &mut Reader, name: &str) -> Result<(), Failure> {
        let Prepared { command, types } = self.statement(name)?.clone();
        let rows = command.as_ref().and_then(Command::rows);
        let returns_rows = matches!(&command, Some(Command::Rows(_)));
        match rows {
            Some(rows) if returns_rows || !rows.placeholders.is_empty() => {
                self.allowed(command.as_ref())?;
                let stop = self.key.begin();
                let service = Arc::clone(&self.server.service);
                let settings = Arc::clone(&self.settings);
                let described = service.describe(&settings, rows, &types, &stop);
                let (types, columns) = watched(reader, &stop, described).await??;
                if let Some(prepared) = self.statements.get_mut(name) {
                    prepared.types = types.clone();
                }
                self.sink.outbox.parameter_description(&types);
                if returns_rows {
                    self.sink.outbox.row_description(&columns, &[]);
                } else {
                    self.sink.outbox.no_data();
                }
            }
            _ => {
                self.sink.outbox.parameter_description(&types);
                self.describe_command(command)?;
            }
        }
        Ok(())
    }

    pub(super) fn describe_cursor(&mut self, name: &str) -> Result<(), SqlError> {
        let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
        match &portal.state {
            PortalState::Rows(cursor) => self.sink.outbox.row_description(&cursor.columns, &portal.result_formats),
            PortalState::Planned(planned, _) => {
                self.sink.outbox.row_description(&planned.columns, &portal.result_formats);
            }
            PortalState::New | PortalState::Done => self.sink.outbox.no_data(),
        }
        Ok(())
    }

    pub(super) async fn describe_portal(&mut self, reader: &mut Reader, name: &str) -> Result<(), Failure> {
        let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
        let command = portal.command.clone();
        if portal.is_cursor || !matches!(portal.state, PortalState::New) {
            self.describe_cursor(name)?;
            return Ok(());
        }
        match command {
            Some(Command::Rows(rows)) => {
                self.allowed(portal.command.as_ref())?;
                let parameters = portal.parameters.clone();
                let (planned, stop) = self.plan(reader, &rows, &parameters).await?;
                let portal = self.portals.get_mut(name).ok_or_else(|| no_portal(name))?;
                self.sink.outbox.row_description(&planned.columns, &portal.result_formats);
                portal.state = PortalState::Planned(Box::new(planned), stop);
            }
            other => self.describe_command(other)?,
        }
        Ok(())
    }

    /// Describes what is not planned.
    fn describe_command(&mut self, command: Option<Command>) -> Result<(), SqlError> {
        match command {
            Some(Command::Fetch { name, .. }) => return self.describe_cursor(&name),
            Some(Command::Show(name)) => {
                let shown = RowsStatement::of_text(&name.to_lowercase(), "")?;
                self.sink.outbox.row_description(&shown.names.columns(&text_schema(1)), &[]);
            }
            Some(Command::ShowAll) => self.sink.outbox.row_description(&show_all_columns(), &[]),
            _ => self.sink.outbox.no_data(),
        }
        Ok(())
    }
}

pub(super) fn text_schema(columns: usize) -> arrow::datatypes::Schema {
    let field =
        |index: usize| arrow::datatypes::Field::new(format!("c{index}"), arrow::datatypes::DataType::Utf8View, true);
    arrow::datatypes::Schema::new((0..columns).map(field).collect::<Vec<_>>())
}

pub(super) fn no_portal(name: &str) -> SqlError {
    SqlError::new(sqlstate::UNDEFINED_CURSOR, format!("portal \"{name}\" does not exist"))
}
