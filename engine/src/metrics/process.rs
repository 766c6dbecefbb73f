//! What the operating system says about this process, under the names that every client library uses.

use super::TextWriter;

/// Adds the `process_*` families; on systems without `/proc` there are none.
pub(super) fn write(text: &mut TextWriter) {
    let Some(stat) = read("/proc/self/stat") else { return };
    // The name of the program may hold spaces and parentheses; what follows its last parenthesis does not.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let field = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok());
    // SAFETY: sysconf reads no memory of ours.
    let (ticks, page) = unsafe { (libc::sysconf(libc::_SC_CLK_TCK) as f64, libc::sysconf(libc::_SC_PAGESIZE) as f64) };
    if let (Some(user), Some(system)) = (field(11), field(12)) {
        let help = "Total user and system CPU time spent in seconds.";
        text.counter("process_cpu_seconds_total", help, (user + system) / ticks);
    }
    if let Some(threads) = field(17) {
        text.gauge("process_threads", "Number of threads of the process.", threads);
    }
    if let (Some(started), Some(boot)) = (field(19), boot_seconds()) {
        let help = "Start time of the process since unix epoch in seconds.";
        text.gauge("process_start_time_seconds", help, boot + started / ticks);
    }
    if let Some(bytes) = field(20) {
        text.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", bytes);
    }
    if let Some(pages) = field(21) {
        text.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", pages * page);
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        text.gauge("process_open_fds", "Number of open file descriptors.", entries.count() as f64);
    }
    let limits = read("/proc/self/limits").unwrap_or_default();
    let most = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    if let Some(most) = most.and_then(|text| text.parse().ok()) {
        text.gauge("process_max_fds", "Maximum number of open file descriptors.", most);
    }
}

fn boot_seconds() -> Option<f64> {
    read("/proc/stat")?.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}
