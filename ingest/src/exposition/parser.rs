//! Walks through a body entry by entry.

use std::borrow::Cow;

use memchr::{memchr, memchr3};
use pilaster_model::METRIC_NAME;

use super::grammar::{self, is_name_byte, is_name_start};
use super::number::{format_bound, parse_value};
use super::{Format, MetricKind, ParseError};

/// One thing that a body says.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry<'a> {
    Type { metric: Cow<'a, str>, kind: MetricKind },
    Help { metric: Cow<'a, str>, text: Cow<'a, str> },
    Unit { metric: Cow<'a, str>, unit: Cow<'a, str> },
    Sample(Sample<'a>),
}

/// One sample line. Its labels are in [`Parser::labels`] until the next entry is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<'a> {
    /// Name and labels exactly as written: equal text under the same `# TYPE` is the same series.
    pub series: &'a [u8],
    pub value: f64,
    /// What the target says; `None` where it leaves the time to the scraper.
    pub timestamp_ms: Option<i64>,
}

/// A part of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub const MISSING: Span = Span { start: usize::MAX, end: usize::MAX };
}

/// An entry as positions in the body.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Line {
    Blank,
    Comment,
    /// Nothing follows.
    End,
    Type {
        metric: Span,
        kind: MetricKind,
    },
    Help {
        metric: Span,
        text: Span,
    },
    Unit {
        metric: Span,
        text: Span,
    },
    Sample {
        series: Span,
        value: f64,
        timestamp_ms: Option<i64>,
        /// Behind the opening brace of its exemplar's labels.
        exemplar: Option<usize>,
    },
}

/// Reads a body. After an error or the end it yields nothing more.
#[derive(Debug)]
pub struct Parser<'a> {
    format: Format,
    input: &'a [u8],
    at: usize,
    done: bool,
    /// Of the last sample: the metric's name, then name and value of each label.
    spans: Vec<Span>,
    /// Of the last `# TYPE` line.
    kind: MetricKind,
    /// Of the last sample: where its exemplar's labels begin, behind the brace.
    exemplar: Option<usize>,
}

/// An example of what a sample counts, such as the trace of one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar<'a> {
    /// In the order of the line; a name may repeat.
    pub labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub value: f64,
    /// What the target says; `None` where it leaves the time to the scraper.
    pub timestamp_ms: Option<i64>,
}

impl<'a> Parser<'a> {
    pub fn new(format: Format, input: &'a [u8]) -> Parser<'a> {
        Parser {
            format,
            input,
            at: 0,
            done: false,
            spans: Vec::with_capacity(32),
            kind: MetricKind::Unknown,
            exemplar: None,
        }
    }

    /// The kind that the last `# TYPE` line named, whichever metric it was for.
    pub fn kind(&self) -> MetricKind {
        self.kind
    }

    /// Reads the next entry; `None` at the end.
    ///
    /// # Errors
    /// [`ParseError`] for the first line that is not in the format. What came before it is valid.
    #[allow(clippy::should_implement_trait)] // An iterator could not hand out labels beside its items.
    pub fn next(&mut self) -> Option<Result<Entry<'a>, ParseError>> {
        loop {
            if self.done {
                return None;
            }
            if let Some((series, value, timestamp_ms, end)) = self.plain_sample() {
                self.at = end;
                return Some(Ok(Entry::Sample(Sample { series: self.slice(series), value, timestamp_ms })));
            }
            let line = match grammar::read(self.format, self.input, self.at, &mut self.spans) {
                Ok((line, end)) => {
                    self.at = end;
                    line
                }
                Err(message) => {
                    self.done = true;
                    let line = 1 + self.input[..self.at].iter().filter(|byte| **byte == b'\n').count();
                    return Some(Err(ParseError { line, message }));
                }
            };
            return Some(Ok(match line {
                Line::Blank | Line::Comment => continue,
                Line::End => {
                    self.done = true;
                    return None;
                }
                Line::Type { metric, kind } => {
                    self.kind = kind;
                    Entry::Type { metric: self.unescaped(metric), kind }
                }
                Line::Help { metric, text } => {
                    let text = match self.format {
                        Format::PrometheusText => unescape(self.text(text), false),
                        Format::OpenMetrics => unescape(self.text(text), true),
                    };
                    Entry::Help { metric: self.unescaped(metric), text }
                }
                Line::Unit { metric, text } => Entry::Unit { metric: self.unescaped(metric), unit: self.text(text) },
                Line::Sample { series, value, timestamp_ms, exemplar } => {
                    self.exemplar = exemplar;
                    Entry::Sample(Sample { series: self.slice(series), value, timestamp_ms })
                }
            }));
        }
    }

    /// Name and value of each label of the last sample, the metric's name first, in the order of the line.
    ///
    /// Bounds of histogram buckets and quantiles of summaries come in one spelling: `1` as `1.0`. A name may repeat.
    pub fn labels(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + '_ {
        let name = self.spans.first().map(|span| (Cow::Borrowed(METRIC_NAME), self.unescaped(*span)));
        let pairs = self.spans.get(1..).unwrap_or_default().chunks_exact(2);
        name.into_iter().chain(pairs.map(|pair| {
            let name = self.unescaped(pair[0]);
            let value = self.unescaped(pair[1]);
            let bound =
                matches!((self.kind, &*name), (MetricKind::Histogram, "le") | (MetricKind::Summary, "quantile"));
            let number = if bound { parse_bound(&value) } else { None };
            (name, number.map_or(value, Cow::Owned))
        }))
    }

    /// The exemplar of the last sample.
    pub fn exemplar(&self) -> Option<Exemplar<'a>> {
        let mut spans = Vec::new();
        // Its line has been read, so it is in the format.
        let (value, timestamp_ms) = grammar::exemplar(self.input, self.exemplar?, &mut spans).ok()?;
        let pairs = spans.chunks_exact(2);
        let labels = pairs.map(|pair| (self.unescaped(pair[0]), self.unescaped(pair[1]))).collect();
        Some(Exemplar { labels, value, timestamp_ms })
    }

    #[cfg(test)]
    pub(super) fn spans(&self) -> &[Span] {
        &self.spans
    }

    fn slice(&self, span: Span) -> &'a [u8] {
        self.input.get(span.start..span.end).unwrap_or_default()
    }

    fn text(&self, span: Span) -> Cow<'a, str> {
        String::from_utf8_lossy(self.slice(span))
    }

    fn unescaped(&self, span: Span) -> Cow<'a, str> {
        unescape(self.text(span), true)
    }

    /// `name value`, `name{label="value",…} value`, each with or without a timestamp: series, value, timestamp and
    /// the position behind the line. `None` for every other line, right or wrong; the grammar decides then.
    fn plain_sample(&mut self) -> Option<(Span, f64, Option<i64>, usize)> {
        let input = self.input;
        let start = self.at;
        let mut at = start;
        if !is_name_start(*input.get(at)?) && input[at] != b':' {
            return None;
        }
        at += 1;
        while is_name_byte(*input.get(at)?) || input[at] == b':' {
            at += 1;
        }
        self.spans.clear();
        self.exemplar = None;
        self.spans.push(Span { start, end: at });
        if input[at] == b'{' {
            at += 1;
            while *input.get(at)? != b'}' {
                at = self.plain_label(at)?;
                if *input.get(at)? == b',' {
                    at += 1;
                } else if input[at] != b'}' {
                    return None;
                }
            }
            at += 1;
        }
        let series = Span { start, end: at };
        if *input.get(at)? != b' ' {
            return None;
        }
        let rest = &input[at + 1..];
        let line = match memchr(b'\n', rest) {
            Some(length) => &rest[..length],
            None if self.format == Format::PrometheusText => rest,
            None => return None,
        };
        let end = (at + 1 + line.len() + 1).min(input.len());
        let numbers = match memchr(b'#', line) {
            None => line,
            Some(mark) if self.format == Format::OpenMetrics && mark > 0 && line[mark - 1] == b' ' => {
                self.plain_exemplar(at + 1 + mark, end - 1)?;
                &line[..mark - 1]
            }
            Some(_) => return None,
        };
        let number = memchr(b' ', numbers).unwrap_or(numbers.len());
        let value = parse_value(&numbers[..number]).ok()?;
        let timestamp_ms = match numbers.get(number + 1..) {
            None => None,
            Some(text) => Some(self.plain_timestamp(text)?),
        };
        Some((series, value, timestamp_ms, end))
    }

    /// Checks the exemplar `# {label="value",…} value timestamp` between `at` and the newline at `end`.
    fn plain_exemplar(&mut self, at: usize, end: usize) -> Option<()> {
        let text = self.input.get(at..end)?;
        // The grammar has no null byte here, other than in label values of series.
        if !text.starts_with(b"# {") || memchr(0, text).is_some() {
            return None;
        }
        let of_series = self.spans.len();
        let labels_at = at + 3;
        let mut at = labels_at;
        while *self.input.get(at)? != b'}' {
            at = self.plain_label(at)?;
            if *self.input.get(at)? == b',' {
                at += 1;
            } else if self.input[at] != b'}' {
                return None;
            }
        }
        self.spans.truncate(of_series);
        let numbers = self.input.get(at + 1..end)?.strip_prefix(b" ")?;
        let number = memchr(b' ', numbers).unwrap_or(numbers.len());
        parse_value(&numbers[..number]).ok()?;
        if let Some(text) = numbers.get(number + 1..) {
            self.plain_timestamp(text)?;
        }
        self.exemplar = Some(labels_at);
        Some(())
    }

    /// Reads `label="value"` at `at` and returns the position behind it.
    fn plain_label(&mut self, at: usize) -> Option<usize> {
        let input = self.input;
        let mut name_end = at;
        while is_name_byte(*input.get(name_end)?) {
            name_end += 1;
        }
        if name_end == at || input[at].is_ascii_digit() || !input[name_end..].starts_with(b"=\"") {
            return None;
        }
        let value_start = name_end + 2;
        let mut value_end = value_start;
        loop {
            value_end += memchr3(b'"', b'\\', b'\n', &input[value_end..])?;
            match input[value_end] {
                b'"' => break,
                b'\\' if *input.get(value_end + 1)? != b'\n' => value_end += 2,
                _ => return None,
            }
        }
        std::str::from_utf8(&input[value_start..value_end]).ok()?;
        self.spans.push(Span { start: at, end: name_end });
        self.spans.push(Span { start: value_start, end: value_end });
        Some(value_end + 1)
    }

    fn plain_timestamp(&self, text: &[u8]) -> Option<i64> {
        match self.format {
            Format::PrometheusText => {
                if text.is_empty() || text.len() > 18 || !text.iter().all(u8::is_ascii_digit) {
                    return None;
                }
                Some(text.iter().fold(0, |total, digit| total * 10 + i64::from(digit - b'0')))
            }
            Format::OpenMetrics => {
                let seconds = parse_value(text).ok()?;
                seconds.is_finite().then_some((seconds * 1000.0) as i64)
            }
        }
    }
}

fn parse_bound(text: &str) -> Option<String> {
    // Go's parser reads hexadecimal floats and underscores here; no target writes them.
    parse_value(text.as_bytes()).ok().map(format_bound)
}

/// `\\` and `\n`, and `\"` where `quotes`; other backslashes stay.
fn unescape(text: Cow<'_, str>, quotes: bool) -> Cow<'_, str> {
    if memchr(b'\\', text.as_bytes()).is_none() {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let mut ahead = chars.clone();
        let replaced = match ahead.next() {
            Some('\\') => Some('\\'),
            Some('n') => Some('\n'),
            Some('"') if quotes => Some('"'),
            _ => None,
        };
        match replaced {
            Some(replaced) => {
                out.push(replaced);
                chars = ahead;
            }
            None => out.push('\\'),
        }
    }
    Cow::Owned(out)
}
