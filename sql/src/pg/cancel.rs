//! Who may cancel what: backend keys and the statements they stand for.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::stop::{Stop, StopReason};

/// Connections by their number.
#[derive(Debug, Default)]
pub struct Backends {
    by_pid: Mutex<HashMap<i32, Backend>>,
}

#[derive(Debug)]
struct Backend {
    secret: i32,
    running: Option<Arc<Stop>>,
}

/// A connection's entry; gone with it.
#[derive(Debug)]
pub struct Registered {
    backends: Arc<Backends>,
    pub pid: i32,
    pub secret: i32,
}

impl Backends {
    pub fn register(self: &Arc<Backends>) -> Registered {
        let mut by_pid = self.by_pid.lock();
        let secret = rand::random::<i32>();
        let pid = loop {
            let pid = rand::random::<i32>() & 0x7fff_ffff;
            if pid != 0 && !by_pid.contains_key(&pid) {
                break pid;
            }
        };
        by_pid.insert(pid, Backend { secret, running: None });
        Registered { backends: Arc::clone(self), pid, secret }
    }

    /// Stops the statement that connection `pid` runs, if the secret is right.
    pub fn cancel(&self, pid: i32, secret: i32) {
        if let Some(backend) = self.by_pid.lock().get(&pid)
            && backend.secret == secret
            && let Some(stop) = &backend.running
        {
            stop.trip(StopReason::Canceled);
        }
    }

    /// Stops everything.
    pub fn shut_down(&self) {
        for backend in self.by_pid.lock().values() {
            if let Some(stop) = &backend.running {
                stop.trip(StopReason::Shutdown);
            }
        }
    }
}

impl Registered {
    /// A stop for the next statement, known under this connection's key from now on.
    pub fn begin(&self) -> Arc<Stop> {
        let stop = Arc::new(Stop::default());
        if let Some(backend) = self.backends.by_pid.lock().get_mut(&self.pid) {
            backend.running = Some(Arc::clone(&stop));
        }
        stop
    }

    /// Makes a statement that was begun before the one to cancel.
    pub fn resume(&self, stop: &Arc<Stop>) {
        if let Some(backend) = self.backends.by_pid.lock().get_mut(&self.pid) {
            backend.running = Some(Arc::clone(stop));
        }
    }

    /// Nothing runs now: a cancel request that comes late hits nothing.
    pub fn end(&self) {
        if let Some(backend) = self.backends.by_pid.lock().get_mut(&self.pid) {
            backend.running = None;
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.backends.by_pid.lock().remove(&self.pid);
    }
}
