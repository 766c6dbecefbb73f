use std::path::Path;

use pilaster_model::Labels;
use proptest::prelude::*;

use super::parser::Line;
use super::*;
use crate::config::{EscapingScheme, ScrapeProtocol};

use Format::{OpenMetrics, PrometheusText};

/// Everything a body says, one line each; the error last.
fn read(format: Format, body: &[u8]) -> Vec<String> {
    let mut parser = Parser::new(format, body);
    let mut out = Vec::new();
    while let Some(entry) = parser.next() {
        out.push(match entry {
            Ok(Entry::Type { metric, kind }) => format!("type {metric} {}", kind.name()),
            Ok(Entry::Help { metric, text }) => format!("help {metric} {text:?}"),
            Ok(Entry::Unit { metric, unit }) => format!("unit {metric} {unit}"),
            Ok(Entry::Sample(sample)) => {
                let time = sample.timestamp_ms.map_or(String::new(), |time| format!(" @{time}"));
                format!("{} {}{time}", Labels::from_pairs(parser.labels()), sample.value)
            }
            Err(error) => format!("error {error}"),
        });
    }
    out
}

fn check(format: Format, body: &str, expected: &[&str]) {
    assert_eq!(read(format, body.as_bytes()), expected, "{body:?}");
}

fn failure(format: Format, body: &[u8]) -> String {
    let last = read(format, body).pop().unwrap_or_default();
    last.strip_prefix("error ").unwrap_or("EOF").to_owned()
}

#[test]
fn a_body_of_prometheus_text() {
    check(
        PrometheusText,
        "# HELP a_total A \\\\ back\\nslash \\\" quote.\n# TYPE a_total counter\n# a comment\n#HELP none\n\n\
         a_total 1\na_total{x=\"1\",y=\"q\\\"b\\\\s\\nn\\z\"} 2.5e3 1700000000123\n  a_total { x = \"2\" , } \t+Inf\n\
         {\"b.c\",x=\"1\",\"y z\"=\"2\"} NaN\nb:c{x=\"multi\nline\"} 4\nempty{} -0",
        &[
            "help a_total \"A \\\\ back\\nslash \\\\\\\" quote.\"",
            "type a_total counter",
            "{__name__=\"a_total\"} 1",
            "{__name__=\"a_total\", x=\"1\", y=\"q\\\"b\\\\s\\nn\\\\z\"} 2500 @1700000000123",
            "{__name__=\"a_total\", x=\"2\"} inf",
            "{__name__=\"b.c\", x=\"1\", y z=\"2\"} NaN",
            "{__name__=\"b:c\", x=\"multi\\nline\"} 4",
            "{__name__=\"empty\"} -0",
        ],
    );
}

#[test]
fn a_body_of_open_metrics() {
    check(
        OpenMetrics,
        "# HELP a_seconds Help \\\"text\\\".\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n\
         a_seconds_bucket{le=\"1\"} 1 # {trace=\"x y\"} 0.5\na_seconds_bucket{le=\"+Inf\"} 2 1700000000.5 # {trace=\"\"} 0.5 1700000000.25\n\
         a_seconds_count 2\na_seconds_created 1.6e9\n# TYPE s summary\ns{quantile=\"0.50\"} 1 1700000000.1239\n\
         {\"q.r\",x=\"1\"} 5\n# EOF\n",
        &[
            "help a_seconds \"Help \\\"text\\\".\"",
            "type a_seconds histogram",
            "unit a_seconds seconds",
            "{__name__=\"a_seconds_bucket\", le=\"1.0\"} 1",
            "{__name__=\"a_seconds_bucket\", le=\"+Inf\"} 2 @1700000000500",
            "{__name__=\"a_seconds_count\"} 2",
            "{__name__=\"a_seconds_created\"} 1600000000",
            "type s summary",
            "{__name__=\"s\", quantile=\"0.5\"} 1 @1700000000123",
            "{__name__=\"q.r\", x=\"1\"} 5",
        ],
    );
}

#[test]
fn errors_of_prometheus_text_are_those_of_prometheus() {
    for (body, message) in [
        (&b"a"[..], r#"expected value after metric, got "\n" ("INVALID") while parsing: "a\n""#),
        (b"a{b='c'} 1\n", r#"expected label value, got "'" ("INVALID") while parsing: "a{b='""#),
        (b"a{b=\n", r#"expected label value, got "\n" ("INVALID") while parsing: "a{b=\n""#),
        (b"a{\xff=\"foo\"} 1\n", r#"expected label name, got "\xff" ("INVALID") while parsing: "a{\xff""#),
        (b"a{b=\"\xff\"} 1\n", r#"invalid UTF-8 label value: "\"\xff\"""#),
        (br#"{"a", "b = "c"}"#, r#"expected equal, got "c\"" ("LNAME") while parsing: "{\"a\", \"b = \"c\"""#),
        (br#"{"a",b\nc="d"} 1"#, r#"expected equal, got "\\" ("INVALID") while parsing: "{\"a\",b\\""#),
        (b"a true\n", r#"strconv.ParseFloat: parsing "true": invalid syntax while parsing: "a true""#),
        (b"weird{problem=\"", r#"expected label value, got "\"\n" ("INVALID") while parsing: "weird{problem=\"\n""#),
        (b"empty{=\"\"} 0", r#"expected label name, got "=\"" ("EQUAL") while parsing: "empty{=\"""#),
        (b"{A}0", r#"expected equal, got "}0" ("BCLOSE") while parsing: "{A}0""#),
        (b"foo 1_2\n", r#"unsupported character in float while parsing: "foo 1_2""#),
        (b"foo 0x1p-3\n", r#"unsupported character in float while parsing: "foo 0x1p-3""#),
        (b"foo 0 1_2\n", r#"expected next entry after timestamp, got "_" ("INVALID") while parsing: "foo 0 1_""#),
        (b"foo 0 -1\n", r#"expected timestamp or new record, got "-" ("INVALID") while parsing: "foo 0 -""#),
        (b"{a=\"ok\"} 1", r#"metric name not set while parsing: "{a=\"ok\"} 1""#),
        (b"a{\"b\"} 1", r#"metric name already set while parsing: "a{\"b\"}""#),
        (b"# TYPE #\n#EOF\n", r##"expected metric name after TYPE, got "#" ("INVALID") while parsing: "# TYPE #""##),
        (b"# HELP #\n", r##"expected metric name after HELP, got "#" ("INVALID") while parsing: "# HELP #""##),
        (b"# TYPE a whatever\n", r#"invalid metric type "whatever""#),
        (b"# TYPE a\n", r#"invalid metric type """#),
        (b"# TYPE a counter \n", r#"invalid metric type "counter ""#),
        (b"9 1\n", r#"expected a valid start token, got "9" ("INVALID") while parsing: "9""#),
        (b"a{b=\x00\"ssss\"} 1\n", r#"expected label value, got "\x00" ("INVALID") while parsing: "a{b=\x00""#),
        (b"a{b=\"\x00", r#"expected label value, got "\"\x00\n" ("INVALID") while parsing: "a{b=\"\x00\n""#),
        (b"a{b\x00=\"hiih\"}\t1", r#"expected equal, got "\x00" ("INVALID") while parsing: "a{b\x00""#),
        (b"a\x00{b=\"ddd\"} 1", r#"expected value after metric, got "\x00" ("INVALID") while parsing: "a\x00""#),
        (b"a 0 1\x00", r#"expected next entry after timestamp, got "\x00" ("INVALID") while parsing: "a 0 1\x00""#),
        (b"null{a=\"abc\x00\"} 1", "EOF"),
        (b"", "EOF"),
        (b"# HELP a\na 1\n", "EOF"),
        (b"# TYPER a\n#\n# \na 1", "EOF"),
    ] {
        assert_eq!(failure(PrometheusText, body), message, "{:?}", String::from_utf8_lossy(body));
    }
}

#[test]
fn errors_of_open_metrics_are_those_of_prometheus() {
    for (body, message) in [
        (&b"# EOF"[..], "EOF"),
        (b"# EOF\n", "EOF"),
        (b"", "data does not end with # EOF"),
        (b"\n", r#"expected a valid start token, got "\n" ("INVALID") while parsing: "\n""#),
        (b"metric", r#"expected value after metric, got "metric" ("EOF") while parsing: "metric""#),
        (b"metric 1", "data does not end with # EOF"),
        (b"metric 1\n", "data does not end with # EOF"),
        (b"m_total 1 # {aa=\"bb\"} 4", "data does not end with # EOF"),
        (b"a\n#EOF\n", r#"expected value after metric, got "\n" ("INVALID") while parsing: "a\n""#),
        (b" a 1\n", r#"expected a valid start token, got " " ("INVALID") while parsing: " ""#),
        (b"# TYPE u untyped\n", r#"invalid metric type "untyped""#),
        (b"# TYPE c counter \n", r#"invalid metric type "counter ""#),
        (b"#  TYPE c counter\n", r##"expected a valid start token, got "#  " ("INVALID") while parsing: "#  ""##),
        (b"# TYPE \n", r##"expected metric name after TYPE, got "\n" ("INVALID") while parsing: "# TYPE \n""##),
        (b"# TYPE m\n", "expected text in TYPE"),
        (b"# UNIT metric suffix\n", r#"unit "suffix" not a suffix of metric "metric""#),
        (b"# UNIT metricsuffix suffix\n", r#"unit "suffix" not a suffix of metric "metricsuffix""#),
        (b"# HELP m\n", "expected text in HELP"),
        (b"a\t1\n", r#"expected value after metric, got "\t" ("INVALID") while parsing: "a\t""#),
        (b"a 1\t2\n", r#"strconv.ParseFloat: parsing "1\t2": invalid syntax while parsing: "a 1\t2""#),
        (b"a 1 2 \n", r#"expected next entry after timestamp, got " \n" ("INVALID") while parsing: "a 1 2 \n""#),
        (b"a 1 2 #\n", r##"expected next entry after timestamp, got " #\n" ("TIMESTAMP") while parsing: "a 1 2 #\n""##),
        (b"a 1 1z\n", r#"strconv.ParseFloat: parsing "1z": invalid syntax while parsing: "a 1 1z""#),
        (b"# EOF\na 1", "unexpected data after # EOF"),
        (b"# EOF\n\n", "unexpected data after # EOF"),
        (b"# EOFa 1", "unexpected data after # EOF"),
        (b"#\tTYPE c counter\n", r##"expected a valid start token, got "#\t" ("INVALID") while parsing: "#\t""##),
        (b"a{b='c'} 1\n", r#"expected label value, got "'" ("INVALID") while parsing: "a{b='""#),
        (b"a{,b=\"c\"} 1\n", r#"expected label name, got ",b" ("COMMA") while parsing: "a{,b""#),
        (b"a{b=\"c\"d=\"e\"} 1\n", r#"expected comma or brace close, got "d=" ("LNAME") while parsing: "a{b=\"c\"d=""#),
        (b"a{b=\"c\",,d=\"e\"} 1\n", r#"expected label name, got ",d" ("COMMA") while parsing: "a{b=\"c\",,d""#),
        (b"x{problem=\"\n# EOF\n", r#"expected label value, got "\"\n" ("INVALID") while parsing: "x{problem=\"\n""#),
        (b"foo 0 1_2\n\n# EOF\n", r#"unsupported character in float while parsing: "foo 0 1_2""#),
        (b"m 1 # {aa=bb}\n", r##"expected label value, got "b" ("INVALID") while parsing: "m 1 # {aa=b""##),
        (
            b"m 1 # {aa=\"bb\"}\n",
            r##"expected value after exemplar labels, got "\n" ("INVALID") while parsing: "m 1 # {aa=\"bb\"}\n""##,
        ),
        (
            b"m 1 # {aa=\"bb\"}",
            r##"expected value after exemplar labels, got "}" ("EOF") while parsing: "m 1 # {aa=\"bb\"}""##,
        ),
        (b"m 1 # {bb}", r##"expected equal, got "}" ("BCLOSE") while parsing: "m 1 # {bb}""##),
        (b"m 1 # {bb, a=\"dd\"}", r##"expected equal, got ", " ("COMMA") while parsing: "m 1 # {bb, ""##),
        (
            b"m 1 # {aa=\"bb\"} true",
            r##"strconv.ParseFloat: parsing "true": invalid syntax while parsing: "m 1 # {aa=\"bb\"} true""##,
        ),
        (b"{b=\"c\",} 1", r#"metric name not set while parsing: "{b=\"c\",} 1""#),
        (b"a 1 NaN", "invalid timestamp NaN"),
        (b"a 1 -Inf", "invalid timestamp -Inf"),
        (b"h{le=\"+Inf\"} 1 # {aa=\"bb\"} 4 NaN", "invalid exemplar timestamp NaN"),
        (b"a{b=\"\x00", r#"expected label value, got "\"\x00" ("INVALID") while parsing: "a{b=\"\x00""#),
        (b"a\x00{b=\"ddd\"} 1", r#"expected value after metric, got "\x00" ("INVALID") while parsing: "a\x00""#),
        (b"#", r##"expected a valid start token, got "#" ("INVALID") while parsing: "#""##),
        (b"# H", r##"expected a valid start token, got "# H" ("INVALID") while parsing: "# H""##),
        (
            b"m 1 # {b=\"\x00ss\"} 1\n",
            r##"expected label value, got "\"\x00" ("INVALID") while parsing: "m 1 # {b=\"\x00""##,
        ),
        (b"a{b=\"\x00ss\"} 1\n# EOF\n", "EOF"),
    ] {
        assert_eq!(failure(OpenMetrics, body), message, "{:?}", String::from_utf8_lossy(body));
    }
}

#[test]
fn an_error_names_its_line() {
    let mut parser = Parser::new(PrometheusText, b"a 1\nb 2\nc x\nd 4\n");
    let error = std::iter::from_fn(|| parser.next()).find_map(Result::err).unwrap();
    assert_eq!(error.line, 3);
    assert!(parser.next().is_none());
}

#[test]
fn accept_headers() {
    let default = ScrapeProtocol::DEFAULT;
    assert_eq!(
        accept_header(default.into_iter(), EscapingScheme::AllowUtf8),
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,\
         text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    );
    assert_eq!(
        accept_header(
            [ScrapeProtocol::PrometheusProto, ScrapeProtocol::PrometheusText100].into_iter(),
            EscapingScheme::Dots
        ),
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
         text/plain;version=1.0.0;escaping=dots;q=0.5,*/*;q=0.4"
    );
}

#[test]
fn content_types() {
    for (content_type, fallback, expected) in [
        ("text/plain; version=0.0.4; charset=utf-8", None, Ok(BodyFormat::Text(PrometheusText))),
        ("Application/OpenMetrics-Text; version=1.0.0; escaping=allow-utf-8", None, Ok(BodyFormat::Text(OpenMetrics))),
        ("text/html", Some(ScrapeProtocol::OpenMetricsText100), Ok(BodyFormat::Text(OpenMetrics))),
        ("", Some(ScrapeProtocol::PrometheusText004), Ok(BodyFormat::Text(PrometheusText))),
        (
            "",
            None,
            Err(
                "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target",
            ),
        ),
        (
            "text/html",
            None,
            Err("received unsupported Content-Type \"text/html\" and no fallback_scrape_protocol specified for target"),
        ),
        (
            "text/plain; a b",
            None,
            Err("cannot parse Content-Type \"text/plain; a b\" and no fallback_scrape_protocol for target"),
        ),
    ] {
        let found = format_of(content_type, fallback);
        assert_eq!(found.map_err(|error| error.to_string()), expected.map_err(str::to_owned), "{content_type}");
    }
}

/// Real scrapes read without an error, and the short path reads them as the grammar does.
#[test]
fn real_scrapes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/realdata/exposition");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("no real scrapes at {}", folder.display());
        return;
    };
    for entry in entries.flatten().filter(|entry| entry.path().extension().is_some_and(|ending| ending == "prom")) {
        let body = std::fs::read(entry.path()).unwrap();
        let format = if entry.path().to_string_lossy().contains("openmetrics") { OpenMetrics } else { PrometheusText };
        let lines = read(format, &body);
        assert!(lines.len() > 50 && !lines.last().unwrap().starts_with("error"), "{:?}", entry.path());
        assert_same(format, &body);
    }
}

/// The parser against the grammar alone.
fn assert_same(format: Format, body: &[u8]) {
    let mut parser = Parser::new(format, body);
    let mut spans = Vec::new();
    let mut at = 0;
    loop {
        let slow = loop {
            match grammar::read(format, body, at, &mut spans) {
                Ok((Line::Blank | Line::Comment, end)) => at = end,
                Ok((Line::End, _)) => break None,
                Ok((line, end)) => {
                    at = end;
                    break Some(Ok(line));
                }
                Err(message) => break Some(Err(message)),
            }
        };
        let fast = parser.next();
        match (fast, slow) {
            (None, None) => return,
            (Some(Err(fast)), Some(Err(slow))) => return assert_eq!(fast.message, slow),
            (Some(Ok(Entry::Sample(fast))), Some(Ok(Line::Sample { series, value, timestamp_ms, exemplar }))) => {
                assert_eq!(parser.exemplar().is_some(), exemplar.is_some());
                assert_eq!(fast.series, &body[series.start..series.end]);
                assert_eq!((fast.value.to_bits(), fast.timestamp_ms), (value.to_bits(), timestamp_ms));
                assert_eq!(parser.spans(), spans);
            }
            (Some(Ok(fast)), Some(Ok(slow))) => {
                assert!(!matches!(fast, Entry::Sample(_)) && !matches!(slow, Line::Sample { .. }), "{fast:?} {slow:?}");
            }
            (fast, slow) => panic!("{fast:?} against {slow:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
        assert_same(PrometheusText, &body);
        assert_same(OpenMetrics, &body);
    }

    /// Made of the pieces of real lines, so that most of them are nearly right.
    #[test]
    fn any_pieces_are_read_or_refused(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "a", "b_total", ":c", "{", "}", "\"", "x=\"1\"", "y", "=", ",", " ", "\t", "\n", "1", "2.5", "-", "+Inf", "NaN",
            "1700000000", "# ", "#", "HELP ", "TYPE ", "UNIT ", "# EOF\n", "counter", "histogram", "\\", "\\n", "é", "\0",
            "le=\"0.5\"", " # {t=\"x\"} 1", " # {t=\"x\",u=\"\"} 1 5\n", "# {", "a_total{x=\"1\"} 1", "1_0", "e5",
        ]), 0..40)
    ) {
        let body = pieces.concat();
        assert_same(PrometheusText, body.as_bytes());
        assert_same(OpenMetrics, body.as_bytes());
        let _ = read(PrometheusText, body.as_bytes());
        let _ = read(OpenMetrics, body.as_bytes());
    }
}

/// Reads all of a protobuf body, whatever it says.
fn read_protobuf(body: &[u8]) -> usize {
    let mut metrics = 0;
    for family in protobuf::families(body).flatten() {
        for metric in &family.metrics {
            if let Ok(metric) = protobuf::Metric::decode(metric, family.kind) {
                metrics += 1;
                if let protobuf::MetricValue::Histogram(histogram) = &metric.value {
                    let _ = histogram.classic();
                }
            }
        }
    }
    metrics
}

proptest! {
    #[test]
    fn any_protobuf_is_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..300)) {
        read_protobuf(&body);
    }
}

/// Real bodies with a byte changed here and there.
#[test]
fn damaged_protobuf_is_read_or_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/realdata/exposition");
    let Ok(body) = std::fs::read(folder.join("prometheus.t10min.protobuf.bin")) else {
        println!("no real scrapes at {}", folder.display());
        return;
    };
    assert!(read_protobuf(&body) > 100);
    let mut damaged = body.clone();
    for at in (0..body.len()).step_by(97) {
        for byte in [0, 0xff, body[at] ^ 0x10] {
            damaged[at] = byte;
            read_protobuf(&damaged);
        }
        damaged[at] = body[at];
    }
}
