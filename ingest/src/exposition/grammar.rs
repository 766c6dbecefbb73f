//! One line by the letter of the grammar: tokens by lexer state, as in the lexers of Prometheus.
//!
//! Slow and complete. [`super::parser`] comes here for lines that its short path does not take.
//!
//! Source: `promlex.l`, `openmetricslex.l` and the parsers beside them, Prometheus v3 `model/textparse`.

use super::number::parse_value;
use super::parser::{Line, Span};
use super::{Format, MetricKind, go_quote};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Invalid,
    Eof,
    Linebreak,
    Help,
    Type,
    Unit,
    EofWord,
    Text,
    Comment,
    MetricName,
    QuotedString,
    BraceOpen,
    BraceClose,
    LabelName,
    LabelValue,
    Comma,
    Equal,
    Timestamp,
    Value,
}

impl Token {
    fn name(self) -> &'static str {
        match self {
            Token::Invalid => "INVALID",
            Token::Eof => "EOF",
            Token::Linebreak => "LINEBREAK",
            Token::Help => "HELP",
            Token::Type => "TYPE",
            Token::Unit => "UNIT",
            Token::EofWord => "EOFWORD",
            Token::Text => "TEXT",
            Token::Comment => "COMMENT",
            Token::MetricName => "MNAME",
            Token::QuotedString => "QSTRING",
            Token::BraceOpen => "BOPEN",
            Token::BraceClose => "BCLOSE",
            Token::LabelName => "LNAME",
            Token::LabelValue => "LVALUE",
            Token::Comma => "COMMA",
            Token::Equal => "EQUAL",
            Token::Timestamp => "TIMESTAMP",
            Token::Value => "VALUE",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Init,
    Comment,
    /// Before and after the name of a metadata line.
    MetaName,
    MetaText,
    Labels,
    LabelValue,
    Value,
    Timestamp,
    Exemplar,
    ExemplarValue,
    ExemplarTimestamp,
}

struct Lexer<'a> {
    input: &'a [u8],
    format: Format,
    /// Where the current token starts and where the next one will.
    start: usize,
    at: usize,
    state: State,
}

pub(super) fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

pub(super) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

impl Lexer<'_> {
    /// The byte at `at`. Prometheus text ends in a newline even where the body does not.
    fn byte(&self, at: usize) -> Option<u8> {
        match self.input.get(at) {
            Some(byte) => Some(*byte),
            None if at == self.input.len() && self.format == Format::PrometheusText => Some(b'\n'),
            None => None,
        }
    }

    fn end(&self) -> usize {
        self.input.len() + usize::from(self.format == Format::PrometheusText)
    }

    /// The bytes from `start` to before `end`, with the newline that is not there.
    fn bytes(&self, start: usize, end: usize) -> Vec<u8> {
        (start..end.min(self.end())).filter_map(|at| self.byte(at)).collect()
    }

    fn skip_while(&mut self, accept: impl Fn(u8) -> bool) -> usize {
        let from = self.at;
        while self.byte(self.at).is_some_and(&accept) {
            self.at += 1;
        }
        self.at - from
    }

    fn one(&mut self, token: Token, state: State) -> Token {
        self.at += 1;
        self.state = state;
        token
    }

    /// A text in double quotes; stops at the offending byte where there is none.
    fn quoted(&mut self, newline: bool, null: bool) -> bool {
        self.at += 1;
        loop {
            match self.byte(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return true;
                }
                Some(b'\\') => {
                    self.at += 1;
                    match self.byte(self.at) {
                        Some(b'\n') | None => return false,
                        Some(_) => self.at += 1,
                    }
                }
                Some(b'\n') if !newline => return false,
                Some(0) if !null => return false,
                Some(_) => self.at += 1,
                None => return false,
            }
        }
    }

    fn name(&mut self, colons: bool) -> bool {
        let starts = self.byte(self.at).is_some_and(|byte| is_name_start(byte) || (colons && byte == b':'));
        starts && self.skip_while(|byte| is_name_byte(byte) || (colons && byte == b':')) > 0
    }

    /// The next token; blanks between tokens are skipped where the format lets them be.
    fn next(&mut self) -> Token {
        // The text of a metadata line begins with its blank.
        if self.format == Format::PrometheusText && self.state != State::MetaText {
            self.skip_while(|byte| matches!(byte, b' ' | b'\t'));
        }
        if self.at >= self.end() {
            // `start` stays: messages show the last token before the end.
            return Token::Eof;
        }
        self.start = self.at;
        match self.format {
            Format::PrometheusText => self.text_token(),
            Format::OpenMetrics => self.open_metrics_token(),
        }
    }

    fn text_token(&mut self) -> Token {
        let Some(byte) = self.byte(self.at) else { return Token::Eof };
        match (self.state, byte) {
            (State::Init, 0) => self.one(Token::Eof, State::Init),
            (State::Init | State::Timestamp, b'\n') => self.one(Token::Linebreak, State::Init),
            (State::Init, b'#') => self.text_comment(),
            (State::Init | State::Value, b'{') => self.one(Token::BraceOpen, State::Labels),
            (State::Init, _) if self.name(true) => self.enter(Token::MetricName, State::Value),
            (State::MetaName, b'"') if self.quoted(true, false) => self.enter(Token::MetricName, State::MetaText),
            (State::MetaName, _) if byte != b'"' && self.name(true) => self.enter(Token::MetricName, State::MetaText),
            (State::MetaText, _) => {
                self.skip_while(|byte| byte != b'\n');
                self.enter(Token::Text, State::Init)
            }
            (State::Labels, _) => self.label_token(false),
            (State::LabelValue, b'"') if self.quoted(true, true) => self.enter(Token::LabelValue, State::Labels),
            (State::Value, _) if self.skip_while(|byte| !matches!(byte, b'{' | b' ' | b'\t' | b'\n' | 0)) > 0 => {
                self.enter(Token::Value, State::Timestamp)
            }
            (State::Timestamp, _) if self.skip_while(|byte| byte.is_ascii_digit()) > 0 => Token::Timestamp,
            _ => Token::Invalid,
        }
    }

    fn enter(&mut self, token: Token, state: State) -> Token {
        self.state = state;
        token
    }

    fn text_comment(&mut self) -> Token {
        self.at += 1;
        if self.skip_while(|byte| matches!(byte, b' ' | b'\t')) > 0 {
            let rest = &self.input[self.at.min(self.input.len())..];
            for (word, token) in [(b"HELP", Token::Help), (b"TYPE", Token::Type)] {
                if rest.starts_with(word) && matches!(rest.get(4), Some(b' ' | b'\t')) {
                    self.at += 4;
                    self.skip_while(|byte| matches!(byte, b' ' | b'\t'));
                    return self.enter(token, State::MetaName);
                }
            }
        }
        self.skip_while(|byte| byte != b'\n');
        self.enter(Token::Comment, State::Init)
    }

    /// A token between braces; `in_exemplar` has no newline in quotes and states of its own.
    fn label_token(&mut self, in_exemplar: bool) -> Token {
        let (value, close) = match in_exemplar {
            true => (State::ExemplarValue, State::ExemplarValue),
            false => (State::LabelValue, State::Value),
        };
        match self.byte(self.at) {
            Some(b'"') if self.quoted(!in_exemplar, false) => Token::QuotedString,
            Some(b'"') => Token::Invalid,
            Some(b'}') => self.one(Token::BraceClose, close),
            Some(b'=') => self.one(Token::Equal, value),
            Some(b',') => self.one(Token::Comma, self.state),
            Some(_) if self.name(false) => Token::LabelName,
            _ => Token::Invalid,
        }
    }

    fn open_metrics_token(&mut self) -> Token {
        let Some(byte) = self.byte(self.at) else { return Token::Eof };
        match (self.state, byte) {
            (State::Init, b'#') => {
                self.at += 1;
                if self.byte(self.at) != Some(b' ') {
                    return Token::Invalid;
                }
                self.at += 1;
                self.state = State::Comment;
                self.open_metrics_comment()
            }
            (State::Init | State::Value, b'{') => self.one(Token::BraceOpen, State::Labels),
            (State::Init, _) if self.name(true) => self.enter(Token::MetricName, State::Value),
            (State::MetaName, b'"') if self.quoted(true, false) => self.enter(Token::MetricName, State::MetaText),
            (State::MetaName, _) if byte != b'"' && self.name(true) => self.enter(Token::MetricName, State::MetaText),
            (State::MetaText, b' ') => {
                self.skip_while(|byte| byte != b'\n');
                match self.byte(self.at) {
                    Some(_) => self.one(Token::Text, State::Init),
                    None => Token::Invalid,
                }
            }
            (State::Labels, _) => self.label_token(false),
            (State::LabelValue, b'"') if self.quoted(false, true) => self.enter(Token::LabelValue, State::Labels),
            (State::Exemplar, _) => self.label_token(true),
            (State::ExemplarValue, b'"') if self.quoted(false, false) => self.enter(Token::LabelValue, State::Exemplar),
            (State::Timestamp, b' ') if self.input[self.at..].starts_with(b" # {") => {
                self.at += 4;
                self.enter(Token::Comment, State::Exemplar)
            }
            (State::Value | State::ExemplarValue | State::Timestamp | State::ExemplarTimestamp, b' ') => {
                self.at += 1;
                if self.skip_while(|byte| !matches!(byte, b' ' | b'\n' | 0)) == 0 {
                    return Token::Invalid;
                }
                match self.state {
                    State::Value => self.enter(Token::Value, State::Timestamp),
                    State::ExemplarValue => self.enter(Token::Value, State::ExemplarTimestamp),
                    _ => Token::Timestamp,
                }
            }
            (State::Timestamp | State::ExemplarTimestamp, b'\n') => self.one(Token::Linebreak, State::Init),
            _ => Token::Invalid,
        }
    }

    fn open_metrics_comment(&mut self) -> Token {
        let rest = &self.input[self.at..];
        for (word, token) in [(b"HELP ", Token::Help), (b"TYPE ", Token::Type), (b"UNIT ", Token::Unit)] {
            let same = rest.iter().zip(word).take_while(|(a, b)| a == b).count();
            if same == word.len() {
                self.at += same;
                return self.enter(token, State::MetaName);
            }
            if same > 0 {
                self.at += same;
                return Token::Invalid;
            }
        }
        let same = rest.iter().zip(b"EOF\n").take_while(|(a, b)| a == b).count();
        self.at += same;
        if same >= 3 { self.enter(Token::EofWord, State::Init) } else { Token::Invalid }
    }
}

/// Reads one entry; spans of labels go to `spans` as in [`super::Parser`].
///
/// Returns the line and the position behind it.
pub(super) fn read(format: Format, input: &[u8], at: usize, spans: &mut Vec<Span>) -> Result<(Line, usize), String> {
    let lexer = Lexer { input, format, start: at, at, state: State::Init };
    let mut reader = Reader { lexer, entry: at, spans, exemplar: None, in_exemplar: false };
    reader.spans.clear();
    let line = reader.line()?;
    Ok((line, reader.lexer.at))
}

struct Reader<'a, 's> {
    lexer: Lexer<'a>,
    /// Where the entry starts.
    entry: usize,
    spans: &'s mut Vec<Span>,
    /// Behind the opening brace of the exemplar's labels.
    exemplar: Option<usize>,
    /// Whether spans are those of an exemplar, or of a series.
    in_exemplar: bool,
}

/// Reads the exemplar whose labels begin at `at`, behind the brace: value and timestamp. Spans of its labels, name and
/// value each, go to `spans`.
pub(super) fn exemplar(input: &[u8], at: usize, spans: &mut Vec<Span>) -> Result<(f64, Option<i64>), String> {
    let lexer = Lexer { input, format: Format::OpenMetrics, start: at, at, state: State::Exemplar };
    Reader { lexer, entry: at, spans, exemplar: None, in_exemplar: true }.exemplar()
}

impl Reader<'_, '_> {
    fn token_bytes(&self) -> Vec<u8> {
        self.lexer.bytes(self.lexer.start, self.lexer.at)
    }

    fn unexpected<T>(&self, expected: &str, got: Token) -> Result<T, String> {
        let end = self.lexer.at + 1;
        let token = go_quote(&self.lexer.bytes(self.lexer.start, end));
        let entry = go_quote(&self.lexer.bytes(self.entry, end));
        Err(format!("{expected}, got {token} ({:?}) while parsing: {entry}", got.name()))
    }

    fn while_parsing(&self, reason: &str) -> String {
        format!("{reason} while parsing: {}", go_quote(&self.lexer.bytes(self.entry, self.lexer.at)))
    }

    fn line(&mut self) -> Result<Line, String> {
        match self.lexer.next() {
            Token::Eof if self.lexer.format == Format::PrometheusText => Ok(Line::End),
            Token::Eof => Err("data does not end with # EOF".to_owned()),
            Token::EofWord => match self.lexer.next() {
                Token::Eof => Ok(Line::End),
                _ => Err("unexpected data after # EOF".to_owned()),
            },
            Token::Linebreak => Ok(Line::Blank),
            Token::Comment => match self.lexer.next() {
                Token::Linebreak => Ok(Line::Comment),
                other => self.unexpected("linebreak expected after comment", other),
            },
            token @ (Token::Help | Token::Type | Token::Unit) => self.metadata(token),
            Token::BraceOpen => {
                self.spans.push(Span::MISSING);
                self.labels(false)?;
                self.sample()
            }
            Token::MetricName => {
                self.spans.push(Span { start: self.lexer.start, end: self.lexer.at });
                self.sample()
            }
            other => self.unexpected("expected a valid start token", other),
        }
    }

    fn metadata(&mut self, kind: Token) -> Result<Line, String> {
        let word = kind.name();
        match self.lexer.next() {
            Token::MetricName => {}
            other => return self.unexpected(&format!("expected metric name after {word}"), other),
        }
        let mut metric = Span { start: self.lexer.start, end: self.lexer.at };
        if self.lexer.byte(metric.start) == Some(b'"') {
            metric = Span { start: metric.start + 1, end: metric.end - 1 };
        }
        let text_format = self.lexer.format == Format::PrometheusText;
        match self.lexer.next() {
            Token::Text => {}
            _ if text_format => return Err(format!("expected text in {word}, got INVALID")),
            _ => return Err(format!("expected text in {word}")),
        }
        // The first byte is the blank; the last one in OpenMetrics is the newline.
        let (start, end) = (self.lexer.start, self.lexer.at - usize::from(!text_format));
        let mut text = Span { start: (start + 1).min(end), end };
        let bytes = &self.lexer.input[text.start..text.end];
        if text_format && self.lexer.input[start..end].iter().all(|byte| matches!(byte, b' ' | b'\t')) {
            text.start = text.end;
        }
        let line = match kind {
            Token::Type => {
                let bytes = &self.lexer.input[text.start..text.end];
                match MetricKind::parse(self.lexer.format, bytes) {
                    Some(kind) => Line::Type { metric, kind },
                    None => return Err(format!("invalid metric type {}", go_quote(bytes))),
                }
            }
            Token::Help if std::str::from_utf8(bytes).is_err() => {
                return Err(format!("help text {} is not a valid utf8 string", go_quote(bytes)));
            }
            Token::Help => Line::Help { metric, text },
            _ => {
                let name = &self.lexer.input[metric.start..metric.end];
                let fits = name.strip_suffix(bytes).is_some_and(|stem| stem.ends_with(b"_"));
                if !bytes.is_empty() && !fits {
                    let (unit, name) = (go_quote(bytes), go_quote(name));
                    return Err(format!("unit {unit} not a suffix of metric {name}"));
                }
                Line::Unit { metric, text }
            }
        };
        if text_format {
            match self.lexer.next() {
                Token::Linebreak => {}
                other => return self.unexpected("linebreak expected after metadata", other),
            }
        }
        Ok(line)
    }

    /// What follows an opening brace, up to the closing one. Spans of exemplars are kept where they are asked for.
    fn labels(&mut self, exemplar: bool) -> Result<(), String> {
        let mut token = self.lexer.next();
        loop {
            let mut name = Span { start: self.lexer.start, end: self.lexer.at };
            let quoted = match token {
                Token::BraceClose => return Ok(()),
                Token::LabelName => false,
                Token::QuotedString => true,
                other => return self.unexpected("expected label name", other),
            };
            if quoted {
                name = Span { start: name.start + 1, end: name.end - 1 };
            }
            token = self.lexer.next();
            // A quoted text followed by a comma or brace is the metric's name.
            if quoted && matches!(token, Token::Comma | Token::BraceClose) {
                if exemplar {
                    return self.unexpected("expected label name", token);
                }
                if self.spans[0] != Span::MISSING {
                    return Err(self.while_parsing("metric name already set"));
                }
                self.spans[0] = name;
                if token == Token::BraceClose {
                    return Ok(());
                }
                token = self.lexer.next();
                continue;
            }
            if token != Token::Equal {
                return self.unexpected("expected equal", token);
            }
            match self.lexer.next() {
                Token::LabelValue => {}
                other => return self.unexpected("expected label value", other),
            }
            if std::str::from_utf8(&self.token_bytes()).is_err() {
                return Err(format!("invalid UTF-8 label value: {}", go_quote(&self.token_bytes())));
            }
            if exemplar == self.in_exemplar {
                let value = Span { start: self.lexer.start + 1, end: self.lexer.at - 1 };
                self.spans.extend([name, value]);
            }
            token = self.lexer.next();
            if token == Token::Comma {
                token = self.lexer.next();
            } else if token != Token::BraceClose && self.lexer.format == Format::OpenMetrics {
                return self.unexpected("expected comma or brace close", token);
            }
        }
    }

    /// What follows the metric's name, or the braces where the name is in them.
    fn sample(&mut self) -> Result<Line, String> {
        let mut series = Span { start: self.entry, end: self.lexer.at };
        let mut token = self.lexer.next();
        if self.spans[0] == Span::MISSING {
            let end = self.lexer.at;
            let entry = go_quote(&self.lexer.bytes(self.entry, end));
            return Err(format!("metric name not set while parsing: {entry}"));
        }
        if token == Token::BraceOpen && self.spans[0].end == series.end {
            self.labels(false)?;
            series.end = self.lexer.at;
            token = self.lexer.next();
        }
        let value = self.number(token, "metric")?;
        let timestamp_ms = match self.lexer.format {
            Format::PrometheusText => self.text_timestamp()?,
            Format::OpenMetrics => self.open_metrics_timestamp()?,
        };
        while matches!(self.lexer.input.get(series.start), Some(b' ' | b'\t')) {
            series.start += 1;
        }
        // Values are checked where they stand; Prometheus too refuses names later than everything else.
        let names = self.spans.iter().take(1).chain(self.spans.iter().skip(1).step_by(2));
        for name in names.map(|span| &self.lexer.input[span.start..span.end]) {
            if std::str::from_utf8(name).is_err() {
                return Err(format!("invalid metric name or label names: {}", go_quote(name)));
            }
        }
        Ok(Line::Sample { series, value, timestamp_ms, exemplar: self.exemplar })
    }

    fn number(&mut self, token: Token, after: &str) -> Result<f64, String> {
        if token != Token::Value {
            return self.unexpected(&format!("expected value after {after}"), token);
        }
        let blank = usize::from(self.lexer.format == Format::OpenMetrics);
        parse_value(&self.token_bytes()[blank..]).map_err(|reason| self.while_parsing(&reason))
    }

    fn text_timestamp(&mut self) -> Result<Option<i64>, String> {
        match self.lexer.next() {
            Token::Linebreak => Ok(None),
            Token::Timestamp => {
                let digits = String::from_utf8_lossy(&self.token_bytes()).into_owned();
                let timestamp_ms = digits.parse().map_err(|_| {
                    self.while_parsing(&format!("strconv.ParseInt: parsing {digits:?}: value out of range"))
                })?;
                match self.lexer.next() {
                    Token::Linebreak => Ok(Some(timestamp_ms)),
                    other => self.unexpected("expected next entry after timestamp", other),
                }
            }
            other => self.unexpected("expected timestamp or new record", other),
        }
    }

    /// Seconds with a fraction, cut to milliseconds.
    fn seconds(&mut self, what: &str) -> Result<i64, String> {
        let seconds = parse_value(&self.token_bytes()[1..]).map_err(|reason| self.while_parsing(&reason))?;
        match seconds.is_finite() {
            true => Ok((seconds * 1000.0) as i64),
            false => Err(format!("invalid {what} {}", super::format_bound(seconds))),
        }
    }

    fn open_metrics_timestamp(&mut self) -> Result<Option<i64>, String> {
        let mut timestamp_ms = None;
        let mut token = self.lexer.next();
        if token == Token::Timestamp {
            timestamp_ms = Some(self.seconds("timestamp")?);
            token = self.lexer.next();
            if !matches!(token, Token::Linebreak | Token::Comment) {
                return self.unexpected("expected next entry after timestamp", token);
            }
        }
        match token {
            Token::Eof => Err("data does not end with # EOF".to_owned()),
            Token::Linebreak => Ok(timestamp_ms),
            Token::Comment => {
                self.exemplar = Some(self.lexer.at);
                self.exemplar().map(|_| timestamp_ms)
            }
            other => self.unexpected("expected timestamp or new record", other),
        }
    }

    /// Its value and timestamp.
    fn exemplar(&mut self) -> Result<(f64, Option<i64>), String> {
        self.labels(true)?;
        let token = self.lexer.next();
        let value = self.number(token, "exemplar labels")?;
        match self.lexer.next() {
            Token::Eof => Err("data does not end with # EOF".to_owned()),
            Token::Linebreak => Ok((value, None)),
            Token::Timestamp => {
                let timestamp_ms = self.seconds("exemplar timestamp")?;
                match self.lexer.next() {
                    Token::Linebreak => Ok((value, Some(timestamp_ms))),
                    other => self.unexpected("expected next entry after exemplar timestamp", other),
                }
            }
            other => self.unexpected("expected timestamp or comment", other),
        }
    }
}
