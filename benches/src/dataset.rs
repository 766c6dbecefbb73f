//! Samples that look like those of a fleet of services, the same for the same arguments.

use pilaster_model::Labels;

/// Scraped every 15 s, as most fleets are.
pub const INTERVAL_MS: i64 = 15_000;

/// Series of one instance of a fleet.
pub const SERIES_PER_INSTANCE: usize = 27;

/// What a series does from scrape to scrape.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// Grows by up to `step` each time and starts over now and then.
    Counter {
        step: u64,
    },
    /// Wanders, in steps of a hundredth.
    Gauge,
    /// A bucket of a classic histogram: grows with the fraction of observations that fall below its bound.
    Bucket {
        fraction: f64,
    },
    One,
}

/// One series and its state.
#[derive(Debug, Clone)]
struct Series {
    labels: Labels,
    shape: Shape,
    random: u64,
    value: f64,
}

/// A fleet: every call of [`Fleet::scrape`] yields one sample of each series.
#[derive(Debug, Clone)]
pub struct Fleet {
    series: Vec<Series>,
}

const METHODS: [&str; 3] = ["GET", "POST", "PUT"];
const CODES: [&str; 3] = ["200", "404", "500"];
const BOUNDS: [(&str, f64); 7] =
    [("0.01", 0.2), ("0.05", 0.5), ("0.1", 0.7), ("0.5", 0.9), ("1", 0.97), ("5", 0.995), ("+Inf", 1.0)];

impl Fleet {
    /// `instances` instances of four jobs; [`SERIES_PER_INSTANCE`] series an instance.
    pub fn new(instances: usize) -> Fleet {
        Fleet::part(0..instances)
    }

    /// The instances of a larger fleet with these numbers.
    pub fn part(instances: std::ops::Range<usize>) -> Fleet {
        let mut series = Vec::new();
        for number in instances {
            let instance = format!("10.0.{}.{}:9100", number / 250, number % 250);
            let job = ["api", "web", "db", "cache"][number % 4];
            let mut add = |name: &str, extra: &[(&str, &str)], shape: Shape| {
                let mut pairs = vec![("__name__", name), ("instance", instance.as_str()), ("job", job)];
                pairs.extend_from_slice(extra);
                let random = ((number * SERIES_PER_INSTANCE + series.len() % SERIES_PER_INSTANCE) as u64 + 1)
                    .wrapping_mul(0x9E37_79B9_7F4A_7C15);
                series.push(Series { labels: Labels::from_pairs(pairs), shape, random, value: 0.0 });
            };
            add("up", &[], Shape::One);
            for method in METHODS {
                for code in CODES {
                    let step = if code == "200" { 400 } else { 5 };
                    add("http_requests_total", &[("code", code), ("method", method)], Shape::Counter { step });
                }
            }
            for mode in ["user", "system", "idle", "iowait"] {
                add("node_cpu_seconds_total", &[("cpu", "0"), ("mode", mode)], Shape::Counter { step: 15 });
            }
            for (le, fraction) in BOUNDS {
                add("http_request_duration_seconds_bucket", &[("le", le)], Shape::Bucket { fraction });
            }
            for device in ["sda", "sdb"] {
                add("node_filesystem_avail_bytes", &[("device", device)], Shape::Gauge);
                add("node_filesystem_size_bytes", &[("device", device)], Shape::One);
            }
            add("process_resident_memory_bytes", &[], Shape::Gauge);
            add("node_load1", &[], Shape::Gauge);
        }
        Fleet { series }
    }

    pub fn series_count(&self) -> usize {
        self.series.len()
    }

    /// Labels of every series, in the order of [`Fleet::scrape`].
    pub fn labels(&self) -> impl Iterator<Item = &Labels> {
        self.series.iter().map(|series| &series.labels)
    }

    /// The next value of every series, in the order of its labels' creation.
    pub fn scrape(&mut self) -> impl Iterator<Item = (&Labels, f64)> {
        self.series.iter_mut().map(|series| {
            let value = series.next();
            (&series.labels, value)
        })
    }
}

impl Series {
    fn next(&mut self) -> f64 {
        // xorshift: repeatable, and cheap beside what is measured.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let random = self.random;
        match self.shape {
            Shape::One => self.value = 1.0,
            Shape::Counter { step } => {
                let reset = random.is_multiple_of(2000);
                self.value = if reset { 0.0 } else { self.value + (random % step.max(1)) as f64 };
            }
            Shape::Gauge => {
                let change = (random % 2001) as f64 - 1000.0;
                self.value = ((self.value * 100.0 + change).round() / 100.0).abs();
            }
            Shape::Bucket { fraction } => self.value += (50.0 * fraction).round(),
        }
        self.value
    }
}
