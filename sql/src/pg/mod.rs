//! The Postgres wire: what psql, drivers and Grafana's PostgreSQL data source speak.
//!
//! The protocol is ours from the socket up: published servers decode messages without checking lengths, plan the
//! rows of a portal at once, and cannot cancel what already streams. Sessions need no password, so the listener
//! belongs on a loopback address; encryption is refused politely (`N`), and clients go on without.

mod backend;
mod binary;
mod cancel;
mod connection;
mod copy;
mod frontend;
mod portal;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::service::SqlService;
use cancel::Backends;

/// What all connections share.
struct Server {
    service: Arc<SqlService>,
    backends: Arc<Backends>,
    /// Sessions that may still begin.
    sessions: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
}

/// Sockets beyond the sessions that may be open at a time: cancel requests, and clients about to be told that there
/// are too many.
const EXTRA_SOCKETS: usize = 32;
/// How long open connections have to say goodbye.
const GRACE: Duration = Duration::from_secs(3);

/// Serves connections until `shutdown` resolves; then ends running statements, tells clients, and returns.
pub async fn serve(service: Arc<SqlService>, listener: TcpListener, shutdown: impl Future<Output = ()>) {
    let max_connections = service.options().max_connections;
    let (stop, stopping) = watch::channel(false);
    let server = Arc::new(Server {
        service,
        backends: Arc::new(Backends::default()),
        sessions: Arc::new(Semaphore::new(max_connections)),
        stopping,
    });
    let sockets = Arc::new(Semaphore::new(max_connections + EXTRA_SOCKETS));
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => {
                    // Above the limit a socket is closed without a word: there is no room even for an error.
                    let Ok(permit) = Arc::clone(&sockets).try_acquire_owned() else { continue };
                    tracing::debug!(%peer, "postgres connection");
                    let server = Arc::clone(&server);
                    connections.spawn(async move {
                        connection::run(&server, socket).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Mostly too many open files: others have to close first.
                    tracing::warn!(%error, "could not accept a postgres connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    let _ = stop.send(true);
    server.backends.shut_down();
    let _ = tokio::time::timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
    connections.abort_all();
}
