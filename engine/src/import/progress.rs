//! How far an import is: a bar on a terminal, a line for each part of it elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Where progress is shown: standard error, so that the output of a command stays its own.
pub struct Progress {
    bar: ProgressBar,
    silent: bool,
    started: Instant,
}

impl Progress {
    /// Of `total` samples; 0 where nobody knows.
    pub fn new(total: u64) -> Progress {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr_with_hz(10)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target((total > 0).then_some(total), target);
        let style = if total > 0 {
            "{elapsed_precise} {wide_bar} {human_pos} of {human_len} samples, {per_sec}, {eta} left"
        } else {
            "{elapsed_precise} {spinner} {human_pos} samples, {per_sec}"
        };
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Progress { bar, silent: false, started: Instant::now() }
    }

    /// Shown nowhere.
    pub fn silent() -> Progress {
        Progress { bar: ProgressBar::hidden(), silent: true, started: Instant::now() }
    }

    pub fn add(&self, samples: u64) {
        self.bar.inc(samples);
    }

    /// Prints a line, above the bar where there is one.
    pub fn say(&self, line: &str) {
        if !self.silent {
            self.bar.suspend(|| eprintln!("{line}"));
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes in the largest unit that leaves more than one of it: `3.2 MiB`.
pub fn bytes(number: u64) -> String {
    let mut value = number as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{number} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// `12.3 M samples/s` and the like.
pub fn rate(samples: u64, taken: Duration) -> String {
    let a_second = samples as f64 / taken.as_secs_f64().max(1e-9);
    match a_second {
        high if high >= 1e6 => format!("{:.1} M samples/s", high / 1e6),
        middle if middle >= 1e3 => format!("{:.1} k samples/s", middle / 1e3),
        low => format!("{low:.0} samples/s"),
    }
}

/// A time as `2026-11-20 22:00:00`, in UTC.
pub fn time_text(timestamp_ms: i64) -> String {
    match chrono::DateTime::from_timestamp_millis(timestamp_ms) {
        Some(time) => time.format("%Y-%m-%d %H:%M:%S").to_string(),
        None => timestamp_ms.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!([1, 12, 123, 1234, 1_234_567].map(grouped), ["1", "12", "123", "1,234", "1,234,567"]);
        assert_eq!([7, 1536, 5 << 20].map(bytes), ["7 B", "1.5 KiB", "5.0 MiB"]);
        assert_eq!(rate(24_600_000, Duration::from_secs(2)), "12.3 M samples/s");
    }
}
