//! One client, from its first byte to its last.

mod control;
mod prepared;
mod rows;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::error::{SqlError, sqlstate};
use crate::pg::Server;
use crate::pg::backend::{Outbox, TransactionState};
use crate::pg::cancel::Registered;
use crate::pg::frontend::{Frontend, FrontendReader, Opening, ReadError, Target};
use crate::pg::portal::{Portal, PortalState};
use crate::settings::Settings;
use crate::statement::Command;
use prepared::no_portal;

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
    command: Option<Command>,
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
        for command in statements {
            let mut portal = Portal {
                command: Some(command),
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
                self.keep_statement(name, Prepared { command: statements.pop(), types })?;
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
                if outcome.is_ok() && !matches!(portal.command, Some(Command::Discard { .. })) {
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
}

async fn stopped(stopping: &mut tokio::sync::watch::Receiver<bool>) {
    // An error means that the server is gone, which is the same.
    drop(stopping.wait_for(|stopping| *stopping).await);
}
