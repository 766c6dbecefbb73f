//! Threads for work that may take long, so that it stands in nobody's way.

use std::io;
use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuilder};

/// How much threads are worth to the operating system beside those of queries and appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Less, and never so little that they stand still.
    Low,
    /// They get what is left over. Whoever waits for them, or for a lock that they hold, may wait long.
    Idle,
}

/// Some threads of their own. The default has none: then work is done by whoever asks for it, and by all cores.
#[derive(Debug, Clone, Default)]
pub struct Workers(Option<Arc<ThreadPool>>);

impl Workers {
    /// So many threads, at least one.
    ///
    /// # Errors
    /// The operating system has no more threads to give.
    pub fn new(name: &'static str, threads: usize, priority: Priority) -> io::Result<Workers> {
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads.max(1))
            .thread_name(move |number| format!("{name}-{number}"))
            .start_handler(move |_| {
                if let Err(error) = lower(priority) {
                    tracing::warn!(%error, name, "could not lower the priority of a thread");
                }
            })
            .build()
            .map_err(io::Error::other)?;
        Ok(Workers(Some(Arc::new(pool))))
    }

    /// Does `work`, and whatever parallel work it asks for, on these threads. No lock may be held that others need.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.0 {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// Calls `what` on each of these threads once it has nothing else to do, and waits for all of them.
    pub fn each(&self, what: impl Fn() + Sync) {
        if let Some(pool) = &self.0 {
            pool.broadcast(|_| what());
        }
    }
}

/// Lowers the priority of the calling thread, for good.
fn lower(priority: Priority) -> io::Result<()> {
    const LOW_NICENESS: libc::c_int = 10;
    let done = match priority {
        // SAFETY: takes numbers only; 0 is the calling thread.
        Priority::Low => unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, LOW_NICENESS) },
        #[cfg(target_os = "linux")]
        Priority::Idle => {
            // SAFETY: a structure of numbers, for which zero is right.
            let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
            // SAFETY: the pointer is to a local that outlives the call; 0 is the calling thread.
            unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) }
        }
        #[cfg(not(target_os = "linux"))]
        // SAFETY: takes numbers only.
        Priority::Idle => unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) },
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_is_called_once() {
        let called = parking_lot::Mutex::new(std::collections::BTreeSet::new());
        let call = || assert!(called.lock().insert(std::thread::current().name().map(str::to_owned)));
        Workers::default().each(call);
        Workers::new("each", 3, Priority::Low).unwrap().each(call);
        let names = ["each-0", "each-1", "each-2"].map(|name| Some(name.to_owned()));
        assert!(called.into_inner().into_iter().eq(names));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn work_runs_at_its_priority_and_leaves_that_of_the_caller() {
        // SAFETY: takes and gives numbers; 0 is the calling thread.
        let policy = || unsafe { libc::sched_getscheduler(0) };
        // SAFETY: as above.
        let niceness = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let before = (policy(), niceness());
        let idle = Workers::new("idle", 2, Priority::Idle).unwrap();
        assert_eq!(idle.run(|| (policy(), rayon::current_num_threads())), (libc::SCHED_IDLE, 2));
        let low = Workers::new("low", 0, Priority::Low).unwrap();
        assert_eq!(low.run(|| (niceness(), rayon::current_num_threads())), (before.1.max(10), 1));
        assert_eq!(Workers::default().run(|| (policy(), niceness())), before);
        assert_eq!((policy(), niceness()), before);
    }
}
