//! One client, from its first byte to its last.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::sql::sqlparser::ast::Expr;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::error::{SqlError, sqlstate};
use crate::parameters::Parameter;
use crate::pg::Server;
use crate::pg::backend::{Outbox, TransactionState, format_of};
use crate::pg::binary::parameter_text;
use crate::pg::cancel::Registered;
use crate::pg::copy;
use crate::pg::frontend::{Bind, Frontend, FrontendReader, Opening, ReadError, Target};
use crate::pg::portal::{Portal, PortalState, RowCursor, write_rows};
use crate::rewrite;
use crate::settings::{Applied, Settings};
use crate::statement::{Command, CopyOptions, FetchCount, Parsed, RowsKind, RowsStatement, SetValue};
use crate::stop::Stop;
use crate::wire_type;

/// From accept to a complete startup message.
const OPENING_TIME: Duration = Duration::from_secs(10);
/// A client that takes nothing for this long is given up.
const WRITE_TIME: Duration = Duration::from_secs(60);
/// Answers are sent in pieces of about this size.
const FLUSH_BYTES: usize = 64 * 1024;
/// Room for parameters beside the statement's text.
const PARAMETER_BYTES: usize = 8 * 1024 * 1024;
const MAX_STATEMENTS: usize = 1_000;
const MAX_PORTALS: usize = 100;

/// Settings whose changes clients are told.
const REPORTED: &[(&str, &str)] = &[
    ("application_name", "application_name"),
    ("client_encoding", "client_encoding"),
    ("DateStyle", "datestyle"),
    ("IntervalStyle", "intervalstyle"),
    ("TimeZone", "timezone"),
    ("default_transaction_read_only", "default_transaction_read_only"),
    ("in_hot_standby", "in_hot_standby"),
    ("integer_datetimes", "integer_datetimes"),
    ("is_superuser", "is_superuser"),
    ("server_encoding", "server_encoding"),
    ("server_version", "server_version"),
    ("session_authorization", "session_authorization"),
    ("standard_conforming_strings", "standard_conforming_strings"),
];

/// Serves one socket. Errors of the socket end it silently: there is nobody to tell.
pub async fn run(server: &Server, socket: TcpStream) {
    // Answers are flushed whole: waiting to fill a packet only delays them.
    let _ = socket.set_nodelay(true);
    let (read, write) = socket.into_split();
    let max_message = server.service.options().max_sql_bytes + PARAMETER_BYTES;
    let mut reader = FrontendReader::new(read, max_message);
    let mut sink = Sink { stream: write, outbox: Outbox::default() };
    let Ok(Some((minor_version, parameters))) =
        tokio::time::timeout(OPENING_TIME, open(server, &mut reader, &mut sink)).await
    else {
        return;
    };
    let Ok(_permit) = Arc::clone(&server.sessions).try_acquire_owned() else {
        let error = SqlError::new(sqlstate::TOO_MANY_CONNECTIONS, "sorry, too many clients already");
        sink.outbox.error("FATAL", &error);
        let _ = sink.flush().await;
        return;
    };
    let key = server.backends.register();
    let settings = match startup_settings(&parameters, key.pid) {
        Ok(settings) => settings,
        Err(error) => {
            sink.outbox.error("FATAL", &error);
            let _ = sink.flush().await;
            return;
        }
    };
    let mut connection = Connection {
        server,
        sink,
        key,
        settings: Arc::new(settings),
        before_transaction: None,
        local_settings: Vec::new(),
        transaction: TransactionState::Idle,
        statements: HashMap::new(),
        portals: HashMap::new(),
        skip_to_sync: false,
    };
    connection.greet(minor_version, &parameters);
    let _ = connection.serve(&mut reader).await;
}

/// The startup message, once encryption is declined; `None` where the connection is over.
async fn open(
    server: &Server,
    reader: &mut FrontendReader<OwnedReadHalf>,
    sink: &mut Sink,
) -> Option<(u16, Vec<(String, String)>)> {
    // TLS, then GSSAPI, then plain: more refusals than that no client needs.
    for _ in 0..3 {
        match reader.opening().await {
            Ok(Opening::Encryption) => {
                sink.outbox.bytes.push(b'N');
                sink.flush().await.ok()?;
            }
            Ok(Opening::Cancel { pid, secret }) => {
                server.backends.cancel(pid, secret);
                return None;
            }
            Ok(Opening::Startup { minor_version, parameters }) => return Some((minor_version, parameters)),
            Err(ReadError::Closed) => return None,
            Err(ReadError::Malformed(error)) => {
                sink.outbox.error("FATAL", &error);
                let _ = sink.flush().await;
                return None;
            }
        }
    }
    None
}

fn startup_settings(parameters: &[(String, String)], pid: i32) -> Result<Settings, SqlError> {
    let mut settings = Settings::of_backend(pid);
    for (name, value) in parameters {
        match name.as_str() {
            "user" => {
                settings.user = value.clone();
                if parameters.iter().all(|(name, _)| name != "database") {
                    settings.database = value.clone();
                }
            }
            "database" if !value.is_empty() => settings.database = value.clone(),
            "database" => {}
            "replication" if !matches!(value.as_str(), "false" | "off" | "no" | "0") => {
                return Err(crate::statement::unsupported("replication"));
            }
            "options" => {
                for assignment in value.split("-c").map(str::trim).filter(|text| !text.is_empty()) {
                    if let Some((name, value)) = assignment.trim_start_matches('-').split_once('=') {
                        settings.set(&name.replace('-', "_"), value.trim())?;
                    }
                }
            }
            name if name.starts_with("_pq_.") || name == "replication" => {}
            name => {
                settings.set(name, value)?;
            }
        }
    }
    Ok(settings)
}

struct Sink {
    stream: OwnedWriteHalf,
    outbox: Outbox,
}

impl Sink {
    async fn flush(&mut self) -> Result<(), ReadError> {
        if self.outbox.bytes.is_empty() {
            return Ok(());
        }
        let written = tokio::time::timeout(WRITE_TIME, self.stream.write_all(&self.outbox.bytes)).await;
        self.outbox.bytes.clear();
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(ReadError::Closed),
        }
    }

    async fn flush_if_large(&mut self) -> Result<(), ReadError> {
        if self.outbox.bytes.len() >= FLUSH_BYTES { self.flush().await } else { Ok(()) }
    }
}

/// Why a message was not carried out.
enum Failure {
    /// To be told; the connection goes on.
    Sql(SqlError),
    /// The connection is over.
    Gone(ReadError),
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Failure {
        Failure::Sql(error)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Failure {
        Failure::Gone(error)
    }
}

/// A statement under a name, or under the empty one.
#[derive(Clone)]
struct Prepared {
    /// `None` for an empty statement.
    parsed: Option<Parsed>,
    /// As declared by the client, 0 where it left them open; complete once described.
    types: Vec<u32>,
}

struct Connection<'a> {
    server: &'a Server,
    sink: Sink,
    key: Registered,
    settings: Arc<Settings>,
    /// What ROLLBACK goes back to.
    before_transaction: Option<Arc<Settings>>,
    /// Names set for this transaction only.
    local_settings: Vec<String>,
    transaction: TransactionState,
    statements: HashMap<String, Prepared>,
    portals: HashMap<String, Portal>,
    skip_to_sync: bool,
}

type Reader = FrontendReader<OwnedReadHalf>;

impl Connection<'_> {
    fn greet(&mut self, minor_version: u16, parameters: &[(String, String)]) {
        let unknown: Vec<String> =
            parameters.iter().map(|(name, _)| name.clone()).filter(|name| name.starts_with("_pq_.")).collect();
        if minor_version > 0 || !unknown.is_empty() {
            self.sink.outbox.negotiate_version(&unknown);
        }
        self.sink.outbox.authentication_ok();
        for (shown, name) in REPORTED {
            let value = self.settings.get(name).unwrap_or_default();
            self.sink.outbox.parameter_status(shown, &value);
        }
        self.sink.outbox.backend_key(self.key.pid, self.key.secret);
        self.sink.outbox.ready(self.transaction);
    }

    async fn serve(&mut self, reader: &mut Reader) -> Result<(), ReadError> {
        let mut stopping = self.server.stopping.clone();
        loop {
            self.sink.flush().await?;
            let message = tokio::select! {
                message = reader.message() => message,
                () = stopped(&mut stopping) => {
                    let error = SqlError::new(
                        sqlstate::ADMIN_SHUTDOWN,
                        "terminating connection because the server is shutting down",
                    );
                    self.sink.outbox.error("FATAL", &error);
                    return self.sink.flush().await;
                }
            };
            let message = match message {
                Ok(message) => message,
                Err(ReadError::Closed) => return Ok(()),
                Err(ReadError::Malformed(error)) => {
                    self.sink.outbox.error("FATAL", &error);
                    return self.sink.flush().await;
                }
            };
            if self.skip_to_sync && !matches!(message, Frontend::Sync | Frontend::Terminate) {
                continue;
            }
            match message {
                Frontend::Terminate => return Ok(()),
                Frontend::Sync => {
                    self.skip_to_sync = false;
                    if self.transaction == TransactionState::Idle {
                        // Outside a transaction block, portals end with the implicit one.
                        self.portals.retain(|_, portal| portal.hold);
                    }
                    self.sink.outbox.ready(self.transaction);
                }
                Frontend::Query(sql) => {
                    if let Err(failure) = self.simple_query(reader, &sql).await {
                        self.report(failure)?;
                    }
                    self.key.end();
                    self.sink.outbox.ready(self.transaction);
                }
                extended => {
                    if let Err(failure) = self.extended(reader, extended).await {
                        self.report(failure)?;
                        self.skip_to_sync = true;
                    }
                    self.key.end();
                }
            }
            self.sink.flush_if_large().await?;
        }
    }

    fn report(&mut self, failure: Failure) -> Result<(), ReadError> {
        match failure {
            Failure::Sql(error) => {
                self.sink.outbox.error("ERROR", &error);
                if self.transaction == TransactionState::Open {
                    self.transaction = TransactionState::Failed;
                }
                Ok(())
            }
            Failure::Gone(error) => Err(error),
        }
    }

    async fn simple_query(&mut self, reader: &mut Reader, sql: &str) -> Result<(), Failure> {
        let statements = self.server.service.parse(sql).await?;
        if statements.is_empty() {
            self.sink.outbox.empty_query();
            return Ok(());
        }
        for parsed in statements {
            let mut portal = Portal {
                parsed: Some(parsed),
                parameters: Vec::new(),
                result_formats: Vec::new(),
                state: PortalState::New,
                hold: false,
                is_cursor: false,
            };
            self.run_portal(reader, &mut portal, 0, true).await?;
            self.sink.flush_if_large().await?;
        }
        Ok(())
    }

    async fn extended(&mut self, reader: &mut Reader, message: Frontend) -> Result<(), Failure> {
        match message {
            Frontend::Parse { name, sql, types } => {
                let mut statements = self.server.service.parse(&sql).await?;
                if statements.len() > 1 {
                    return Err(SqlError::new(
                        sqlstate::SYNTAX_ERROR,
                        "cannot insert multiple commands into a prepared statement",
                    )
                    .into());
                }
                self.keep_statement(name, Prepared { parsed: statements.pop(), types })?;
                self.sink.outbox.parse_complete();
            }
            Frontend::Bind(bind) => self.bind(bind)?,
            Frontend::Describe { target: Target::Statement, name } => self.describe_statement(reader, &name).await?,
            Frontend::Describe { target: Target::Portal, name } => self.describe_portal(reader, &name).await?,
            Frontend::Execute { portal: name, max_rows } => {
                let mut portal = self.portals.remove(&name).ok_or_else(|| no_portal(&name))?;
                let limit = u64::try_from(max_rows).unwrap_or(0);
                let outcome = self.run_portal(reader, &mut portal, limit, false).await;
                // It may have been closed by what it ran.
                if outcome.is_ok() && !matches!(portal.parsed, Some(Parsed { command: Command::Discard { .. } })) {
                    self.portals.insert(name, portal);
                }
                outcome?;
            }
            Frontend::Close { target: Target::Statement, name } => {
                self.statements.remove(&name);
                self.sink.outbox.close_complete();
            }
            Frontend::Close { target: Target::Portal, name } => {
                self.portals.remove(&name);
                self.sink.outbox.close_complete();
            }
            Frontend::Flush => self.sink.flush().await?,
            Frontend::FunctionCall => return Err(crate::statement::unsupported("the function call protocol").into()),
            Frontend::Copy => {}
            Frontend::Sync | Frontend::Terminate | Frontend::Query(_) => {}
        }
        Ok(())
    }

    fn keep_statement(&mut self, name: String, prepared: Prepared) -> Result<(), SqlError> {
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

    fn statement(&self, name: &str) -> Result<&Prepared, SqlError> {
        self.statements.get(name).ok_or_else(|| {
            SqlError::new(sqlstate::UNDEFINED_STATEMENT, format!("prepared statement \"{name}\" does not exist"))
        })
    }

    fn bind(&mut self, bind: Bind) -> Result<(), SqlError> {
        let Prepared { parsed, types } = self.statement(&bind.statement)?.clone();
        let placeholders = match parsed.as_ref().map(|parsed| &parsed.command) {
            Some(
                Command::Rows(rows)
                | Command::Copy { statement: rows, .. }
                | Command::DeclareCursor { statement: rows, .. },
            ) => rows.placeholders.last().copied().unwrap_or(0),
            _ => 0,
        };
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
            parsed,
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

    fn keep_portal(&mut self, name: String, portal: Portal) -> Result<(), SqlError> {
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

    async fn describe_statement(&mut self, reader: &mut Reader, name: &str) -> Result<(), Failure> {
        let Prepared { parsed, types } = self.statement(name)?.clone();
        let rows = match parsed.as_ref().map(|parsed| &parsed.command) {
            Some(
                Command::Rows(rows)
                | Command::Copy { statement: rows, .. }
                | Command::DeclareCursor { statement: rows, .. },
            ) => Some(rows),
            _ => None,
        };
        let returns_rows = matches!(parsed.as_ref().map(|parsed| &parsed.command), Some(Command::Rows(_)));
        match rows {
            Some(rows) if returns_rows || !rows.placeholders.is_empty() => {
                self.allowed(parsed.as_ref())?;
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
                match parsed.map(|parsed| parsed.command) {
                    Some(Command::Fetch { name, .. }) => self.describe_cursor(&name)?,
                    Some(Command::Show(name)) => {
                        let shown = RowsStatement::of_text(&name.to_lowercase(), "")?;
                        self.sink.outbox.row_description(&shown.names.columns(&text_schema(1)), &[]);
                    }
                    Some(Command::ShowAll) => self.sink.outbox.row_description(&show_all_columns(), &[]),
                    _ => self.sink.outbox.no_data(),
                }
            }
        }
        Ok(())
    }

    fn describe_cursor(&mut self, name: &str) -> Result<(), SqlError> {
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

    async fn describe_portal(&mut self, reader: &mut Reader, name: &str) -> Result<(), Failure> {
        let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
        let command = portal.parsed.as_ref().map(|parsed| parsed.command.clone());
        if portal.is_cursor || !matches!(portal.state, PortalState::New) {
            self.describe_cursor(name)?;
            return Ok(());
        }
        match command {
            Some(Command::Rows(rows)) => {
                self.allowed(portal.parsed.as_ref())?;
                let parameters = portal.parameters.clone();
                let (planned, stop) = self.plan(reader, &rows, &parameters).await?;
                let portal = self.portals.get_mut(name).ok_or_else(|| no_portal(name))?;
                self.sink.outbox.row_description(&planned.columns, &portal.result_formats);
                portal.state = PortalState::Planned(Box::new(planned), stop);
            }
            Some(Command::Fetch { name, .. }) => self.describe_cursor(&name)?,
            Some(Command::Show(name)) => {
                let shown = RowsStatement::of_text(&name.to_lowercase(), "")?;
                self.sink.outbox.row_description(&shown.names.columns(&text_schema(1)), &[]);
            }
            Some(Command::ShowAll) => self.sink.outbox.row_description(&show_all_columns(), &[]),
            _ => self.sink.outbox.no_data(),
        }
        Ok(())
    }

    /// In a failed transaction, nothing but its end.
    fn allowed(&self, parsed: Option<&Parsed>) -> Result<(), SqlError> {
        let ends = matches!(
            parsed.map(|parsed| &parsed.command),
            None | Some(Command::Commit | Command::Rollback | Command::RollbackToSavepoint)
        );
        if self.transaction == TransactionState::Failed && !ends {
            return Err(SqlError::new(
                sqlstate::ABORTED_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        Ok(())
    }

    async fn plan(
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
    async fn run_portal(
        &mut self,
        reader: &mut Reader,
        portal: &mut Portal,
        limit: u64,
        describe: bool,
    ) -> Result<(), Failure> {
        self.allowed(portal.parsed.as_ref())?;
        let Some(parsed) = portal.parsed.clone() else {
            self.sink.outbox.empty_query();
            return Ok(());
        };
        match parsed.command {
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

    async fn run_rows(
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
    async fn send_rows(
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

    async fn run_copy(
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

    async fn declare(
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
            parsed: None,
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

    async fn fetch(
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

    async fn execute_named(
        &mut self,
        reader: &mut Reader,
        name: &str,
        arguments: &[Expr],
        limit: u64,
        describe: bool,
    ) -> Result<(), Failure> {
        let Prepared { parsed, types } = self.statement(name)?.clone();
        let Some(Parsed { command: Command::Rows(rows) }) = parsed else {
            return Err(crate::statement::unsupported("EXECUTE of this statement").into());
        };
        let parameters = arguments
            .iter()
            .enumerate()
            .map(|(index, argument)| argument_parameter(argument, types.get(index).copied().unwrap_or(0)))
            .collect::<Result<Vec<_>, _>>()?;
        let mut inner = Portal {
            parsed: None,
            parameters,
            result_formats: Vec::new(),
            state: PortalState::New,
            hold: false,
            is_cursor: false,
        };
        self.run_rows(reader, &mut inner, &rows, limit, describe).await
    }

    /// Commands that the session answers itself; the command tag.
    fn control(&mut self, command: Command) -> Result<String, SqlError> {
        match command {
            Command::NoEffect(tag) => Ok(tag.to_owned()),
            Command::Set { name, value, is_local } => self.set(&name, value, is_local).map(|()| "SET".to_owned()),
            Command::Reset(name) => {
                let settings = Arc::make_mut(&mut self.settings);
                match name {
                    None => settings.reset_all(),
                    Some(name) => settings.reset(&name)?,
                }
                self.report_settings();
                Ok("RESET".to_owned())
            }
            Command::Begin { tag } => {
                if self.transaction == TransactionState::Idle {
                    self.transaction = TransactionState::Open;
                    self.before_transaction = Some(Arc::clone(&self.settings));
                } else {
                    self.sink.outbox.notice("WARNING", "25001", "there is already a transaction in progress");
                }
                Ok(tag.to_owned())
            }
            Command::Commit => {
                let failed = self.transaction == TransactionState::Failed;
                self.end_transaction(!failed);
                Ok(if failed { "ROLLBACK" } else { "COMMIT" }.to_owned())
            }
            Command::Rollback => {
                self.end_transaction(false);
                Ok("ROLLBACK".to_owned())
            }
            Command::Savepoint => self.in_transaction("SAVEPOINT").map(|()| "SAVEPOINT".to_owned()),
            Command::ReleaseSavepoint => self.in_transaction("RELEASE SAVEPOINT").map(|()| "RELEASE".to_owned()),
            Command::RollbackToSavepoint => {
                self.in_transaction("ROLLBACK TO SAVEPOINT")?;
                self.transaction = TransactionState::Open;
                Ok("ROLLBACK".to_owned())
            }
            Command::Discard { all } => {
                if all {
                    self.statements.clear();
                    self.portals.clear();
                    Arc::make_mut(&mut self.settings).reset_all();
                    self.report_settings();
                }
                Ok(if all { "DISCARD ALL" } else { "DISCARD" }.to_owned())
            }
            Command::Deallocate(None) => {
                self.statements.clear();
                Ok("DEALLOCATE ALL".to_owned())
            }
            Command::Deallocate(Some(name)) => {
                self.statement(&name)?;
                self.statements.remove(&name);
                Ok("DEALLOCATE".to_owned())
            }
            Command::Prepare { name, parameter_types, statement } => {
                let types = parameter_types.iter().map(rewrite::type_oid).collect::<Result<Vec<_>, _>>()?;
                let parsed = Parsed { command: Command::Rows(statement) };
                self.keep_statement(name, Prepared { parsed: Some(parsed), types })?;
                Ok("PREPARE".to_owned())
            }
            Command::CloseCursor(None) => {
                self.portals.retain(|_, portal| !portal.is_cursor);
                Ok("CLOSE CURSOR ALL".to_owned())
            }
            Command::CloseCursor(Some(name)) => {
                self.portals.remove(&name).ok_or_else(|| no_portal(&name))?;
                Ok("CLOSE CURSOR".to_owned())
            }
            Command::Rows(_)
            | Command::Show(_)
            | Command::ShowAll
            | Command::Execute { .. }
            | Command::DeclareCursor { .. }
            | Command::Fetch { .. }
            | Command::Copy { .. } => Err(crate::statement::unsupported("this statement here")),
        }
    }

    fn in_transaction(&self, what: &str) -> Result<(), SqlError> {
        if self.transaction == TransactionState::Idle {
            return Err(SqlError::new(
                sqlstate::NO_TRANSACTION,
                format!("{what} can only be used in transaction blocks"),
            ));
        }
        Ok(())
    }

    fn end_transaction(&mut self, commit: bool) {
        let before = self.before_transaction.take();
        if self.transaction == TransactionState::Idle {
            self.sink.outbox.notice("WARNING", sqlstate::NO_TRANSACTION, "there is no transaction in progress");
        } else if let Some(before) = before {
            if !commit {
                self.settings = before;
            } else {
                let settings = Arc::make_mut(&mut self.settings);
                for name in self.local_settings.drain(..) {
                    // Both were accepted once.
                    let _ = match before.get(&name) {
                        Ok(value) => settings.set(&name, &value).map(|_| ()),
                        Err(_) => settings.reset(&name),
                    };
                }
            }
            self.report_settings();
        }
        self.local_settings.clear();
        self.transaction = TransactionState::Idle;
        self.portals.retain(|_, portal| portal.hold);
    }

    fn set(&mut self, name: &str, value: SetValue, is_local: bool) -> Result<(), SqlError> {
        if is_local && self.transaction == TransactionState::Idle {
            self.sink.outbox.notice(
                "WARNING",
                sqlstate::NO_TRANSACTION,
                "SET LOCAL can only be used in transaction blocks",
            );
            return Ok(());
        }
        let settings = Arc::make_mut(&mut self.settings);
        let applied = match value {
            SetValue::Default => settings.reset(name).map(|()| Applied::Quietly)?,
            SetValue::Text(value) => settings.set(name, &value)?,
        };
        if is_local {
            self.local_settings.push(name.to_owned());
        }
        if let Applied::WithoutEffect(text) = applied {
            self.sink.outbox.notice("WARNING", sqlstate::FEATURE_NOT_SUPPORTED, &text);
        }
        self.report_settings();
        Ok(())
    }

    /// Clients keep track of some settings by these messages; repeating a value does no harm.
    fn report_settings(&mut self) {
        for (shown, name) in &REPORTED[..6] {
            let value = self.settings.get(name).unwrap_or_default();
            self.sink.outbox.parameter_status(shown, &value);
        }
    }

    fn send_texts(&mut self, columns: &[crate::output::OutputColumn], rows: &[Vec<String>], describe: bool, tag: &str) {
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

async fn stopped(stopping: &mut tokio::sync::watch::Receiver<bool>) {
    // An error means that the server is gone, which is the same.
    drop(stopping.wait_for(|stopping| *stopping).await);
}

/// Waits for `work`, and trips `stop` if the client goes away meanwhile.
async fn watched<T>(reader: &mut Reader, stop: &Stop, work: impl Future<Output = T>) -> Result<T, ReadError> {
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

fn no_portal(name: &str) -> SqlError {
    SqlError::new(sqlstate::UNDEFINED_CURSOR, format!("portal \"{name}\" does not exist"))
}

fn text_schema(columns: usize) -> arrow::datatypes::Schema {
    let field =
        |index: usize| arrow::datatypes::Field::new(format!("c{index}"), arrow::datatypes::DataType::Utf8View, true);
    arrow::datatypes::Schema::new((0..columns).map(field).collect::<Vec<_>>())
}

fn show_all_columns() -> Vec<crate::output::OutputColumn> {
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
fn argument_parameter(argument: &Expr, type_oid: u32) -> Result<Parameter, SqlError> {
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
