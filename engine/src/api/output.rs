//! The answer to a query as JSON, written from the engine's own columns without a tree in between.

use pilaster_model::Histogram;
use pilaster_model::histogram::format_decimal;
use pilaster_promql::{MatrixSeries, Output, QueryStats, QueryValue, Value, VectorSample};

use rayon::prelude::*;

use super::json::{push_labels, push_string, push_strings, push_timestamp, push_value};

/// Which statistics an answer carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatsDetail {
    None,
    Totals,
    /// Of each step too.
    Steps,
}

/// Warnings and infos beyond this many are counted, not shown.
const MOST_ANNOTATIONS: usize = 10;

/// Points of a matrix, about, that are a piece of a body; a histogram is [`HISTOGRAM_POINTS`].
const PIECE_POINTS: usize = 2048;
/// What a histogram takes, about, in points.
const HISTOGRAM_POINTS: usize = 10;

/// The whole envelope of a successful query.
pub fn query_body(output: &Output, stats: StatsDetail, timings: &Timings) -> Vec<u8> {
    let mut pieces = query_pieces(output, stats, timings, || (), |(), piece| std::mem::take(piece));
    match pieces.as_mut_slice() {
        [one] => std::mem::take(one),
        several => several.concat(),
    }
}

/// The envelope of a successful query in pieces, in order, and what `finish` makes of each: on all threads where there
/// is more than one. It may leave a piece's buffer for the next one, and has what `begin` made for pieces in a row.
pub fn query_pieces<S, T: Send>(
    output: &Output,
    stats: StatsDetail,
    timings: &Timings,
    begin: impl Fn() -> S + Sync + Send,
    finish: impl Fn(&mut S, &mut Vec<u8>) -> T + Sync + Send,
) -> Vec<T> {
    let end = |out: &mut Vec<u8>| {
        if stats != StatsDetail::None {
            push_stats(out, &output.stats, stats, timings);
        }
        out.push(b'}');
        push_annotations(out, &output.annotations.warnings, &output.annotations.infos);
        out.push(b'}');
    };
    let mut out = Vec::new();
    out.extend_from_slice(b"{\"status\":\"success\",\"data\":{\"resultType\":");
    match &output.value {
        QueryValue::Scalar { timestamp_ms, value } => {
            out.extend_from_slice(b"\"scalar\",\"result\":");
            out.push(b'[');
            push_lone_timestamp(&mut out, *timestamp_ms);
            // Unlike a sample's value, a scalar never has an exponent.
            out.extend_from_slice(b",\"");
            out.extend_from_slice(format_decimal(*value).as_bytes());
            out.extend_from_slice(b"\"]");
        }
        QueryValue::String { timestamp_ms, value } => {
            out.extend_from_slice(b"\"string\",\"result\":[");
            push_lone_timestamp(&mut out, *timestamp_ms);
            out.push(b',');
            push_string(&mut out, value);
            out.push(b']');
        }
        QueryValue::Vector(samples) => {
            out.reserve(samples.len() * 160);
            out.extend_from_slice(b"\"vector\",\"result\":[");
            for (index, sample) in samples.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                push_vector_sample(&mut out, sample);
            }
            out.push(b']');
        }
        QueryValue::Matrix(series) => {
            out.extend_from_slice(b"\"matrix\",\"result\":[");
            return matrix_pieces(&out, series, end, begin, finish);
        }
    }
    end(&mut out);
    vec![finish(&mut begin(), &mut out)]
}

/// The pieces of a matrix, of which `before` stands before the first series, and `end` appends what comes behind the last.
fn matrix_pieces<S, T: Send>(
    before: &[u8],
    series: &[MatrixSeries],
    end: impl Fn(&mut Vec<u8>) + Sync,
    begin: impl Fn() -> S + Sync + Send,
    finish: impl Fn(&mut S, &mut Vec<u8>) -> T + Sync + Send,
) -> Vec<T> {
    let parts = parts(series);
    let last = parts.len() - 1;
    let piece = |(out, state): &mut (Vec<u8>, S), (number, part): (usize, &[MatrixSeries])| {
        out.clear();
        out.reserve(expected_bytes(part));
        if number == 0 {
            out.extend_from_slice(before);
        }
        let mut clock = Clock::default();
        for (index, one) in part.iter().enumerate() {
            if number + index > 0 {
                out.push(b',');
            }
            push_matrix_series(out, one, &mut clock);
        }
        if number == last {
            out.push(b']');
            end(out);
        }
        finish(state, out)
    };
    let begin = || (Vec::new(), begin());
    match parts.as_slice() {
        [one] => vec![piece(&mut begin(), (0, one))],
        several => several.par_iter().copied().enumerate().map_init(begin, piece).collect(),
    }
}

/// Consecutive series that are about a piece; one part at least.
fn parts(series: &[MatrixSeries]) -> Vec<&[MatrixSeries]> {
    let (mut parts, mut start, mut points) = (Vec::new(), 0, 0);
    for (index, one) in series.iter().enumerate() {
        if points >= PIECE_POINTS {
            parts.push(&series[start..index]);
            (start, points) = (index, 0);
        }
        points += one.points.len() + HISTOGRAM_POINTS * one.histograms.len();
    }
    parts.push(&series[start..]);
    parts
}

/// Appends `,"warnings":[…],"infos":[…]`, each only where there are some.
pub fn push_annotations(out: &mut Vec<u8>, warnings: &[String], infos: &[String]) {
    for (key, noun, texts) in [("warnings", "warning", warnings), ("infos", "info", infos)] {
        if texts.is_empty() {
            continue;
        }
        out.extend_from_slice(format!(",\"{key}\":").as_bytes());
        if texts.len() <= MOST_ANNOTATIONS {
            push_strings(out, texts);
        } else {
            let mut shown = texts[..MOST_ANNOTATIONS].to_vec();
            shown.push(format!("{} more {noun} annotations omitted", texts.len() - MOST_ANNOTATIONS));
            push_strings(out, &shown);
        }
    }
}

fn expected_bytes(series: &[MatrixSeries]) -> usize {
    256 + series.iter().map(|one| 128 + one.points.len() * 28 + one.histograms.len() * 256).sum::<usize>()
}

/// The timestamp of a scalar or string, which Prometheus writes as any number: `1.5`, not `1.500`.
fn push_lone_timestamp(out: &mut Vec<u8>, timestamp_ms: i64) {
    push_value(out, timestamp_ms as f64 / 1000.0);
}

fn push_point(out: &mut Vec<u8>, timestamp_ms: i64, value: f64) {
    out.push(b'[');
    push_timestamp(out, timestamp_ms);
    out.extend_from_slice(b",\"");
    push_value(out, value);
    out.extend_from_slice(b"\"]");
}

fn push_vector_sample(out: &mut Vec<u8>, sample: &VectorSample) {
    out.extend_from_slice(b"{\"metric\":");
    push_labels(out, &sample.labels);
    match &sample.value {
        Value::Float(value) => {
            out.extend_from_slice(b",\"value\":");
            push_point(out, sample.timestamp_ms, *value);
        }
        Value::Histogram(histogram) => {
            out.extend_from_slice(b",\"histogram\":[");
            push_timestamp(out, sample.timestamp_ms);
            out.push(b',');
            push_histogram(out, histogram);
            out.push(b']');
        }
    }
    out.push(b'}');
}

/// Timestamps of the series before, as text: the series of a grid share them.
#[derive(Default)]
struct Clock {
    timestamps: Vec<i64>,
    /// `ends[i]` is where the text of `timestamps[i]` ends.
    ends: Vec<usize>,
    text: Vec<u8>,
}

impl Clock {
    /// Appends `[timestamp,"`; `hint` is where the timestamp may stand.
    fn push_start(&mut self, out: &mut Vec<u8>, timestamp_ms: i64, hint: &mut usize) {
        while self.timestamps.get(*hint).is_some_and(|have| *have < timestamp_ms) {
            *hint += 1;
        }
        if self.timestamps.get(*hint) == Some(&timestamp_ms) {
            let start = if *hint == 0 { 0 } else { self.ends[*hint - 1] };
            out.extend_from_slice(&self.text[start..self.ends[*hint]]);
            return;
        }
        let start = out.len();
        out.push(b'[');
        push_timestamp(out, timestamp_ms);
        out.extend_from_slice(b",\"");
        if *hint == self.timestamps.len() {
            self.timestamps.push(timestamp_ms);
            self.text.extend_from_slice(&out[start..]);
            self.ends.push(self.text.len());
        }
    }
}

fn push_matrix_series(out: &mut Vec<u8>, series: &MatrixSeries, clock: &mut Clock) {
    out.extend_from_slice(b"{\"metric\":");
    push_labels(out, &series.labels);
    if !series.points.is_empty() {
        out.extend_from_slice(b",\"values\":[");
        let mut hint = 0;
        for (index, (timestamp_ms, value)) in series.points.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            clock.push_start(out, *timestamp_ms, &mut hint);
            push_value(out, *value);
            out.extend_from_slice(b"\"]");
        }
        out.push(b']');
    }
    if !series.histograms.is_empty() {
        out.extend_from_slice(b",\"histograms\":[");
        for (index, (timestamp_ms, histogram)) in series.histograms.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.push(b'[');
            push_timestamp(out, *timestamp_ms);
            out.push(b',');
            push_histogram(out, histogram);
            out.push(b']');
        }
        out.push(b']');
    }
    out.push(b'}');
}

fn push_histogram(out: &mut Vec<u8>, histogram: &Histogram) {
    let mut text = String::new();
    histogram.write_json(&mut text);
    out.extend_from_slice(text.as_bytes());
}

/// Seconds spent around the engine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timings {
    pub queue: f64,
    pub total: f64,
}

fn push_stats(out: &mut Vec<u8>, stats: &QueryStats, detail: StatsDetail, timings: &Timings) {
    let eval = stats.elapsed.as_secs_f64();
    out.extend_from_slice(b",\"stats\":{\"timings\":{");
    for (index, (key, seconds)) in [
        ("evalTotalTime", eval),
        ("resultSortTime", 0.0),
        ("queryPreparationTime", 0.0),
        ("innerEvalTime", eval),
        ("execQueueTime", timings.queue),
        ("execTotalTime", timings.total),
    ]
    .into_iter()
    .enumerate()
    {
        out.extend_from_slice(format!("{}\"{key}\":", if index == 0 { "" } else { "," }).as_bytes());
        push_value(out, seconds);
    }
    out.extend_from_slice(b"},\"samples\":{");
    if let Some(steps) = &stats.steps {
        let counts = [("totalQueryableSamples", &steps.seen), ("samplesRead", &steps.read)];
        for (name, counts) in counts {
            if detail == StatsDetail::Steps {
                out.extend_from_slice(format!("\"{name}PerStep\":[").as_bytes());
                for (index, (timestamp_ms, count)) in counts.iter().enumerate() {
                    out.extend_from_slice(if index == 0 { b"[" } else { b",[" });
                    push_lone_timestamp(out, *timestamp_ms);
                    out.extend_from_slice(format!(",{count}]").as_bytes());
                }
                out.extend_from_slice(b"],");
            }
            let total: u64 = counts.iter().map(|(_, count)| count).sum();
            out.extend_from_slice(format!("\"{name}\":{total},").as_bytes());
        }
    }
    out.extend_from_slice(format!("\"peakSamples\":{}}}}}", stats.peak_samples).as_bytes());
}

#[cfg(test)]
mod tests {
    use pilaster_model::Labels;
    use pilaster_promql::Annotations;

    use super::*;

    fn body(value: QueryValue, warnings: usize) -> String {
        let annotations = Annotations { warnings: (0..warnings).map(|i| format!("w{i}")).collect(), infos: Vec::new() };
        let output = Output { value, annotations, stats: QueryStats::default() };
        String::from_utf8(query_body(&output, StatsDetail::None, &Timings::default())).unwrap()
    }

    #[test]
    fn pieces_are_what_one_writer_writes() {
        let one = |number: usize| MatrixSeries {
            labels: Labels::from_pairs([("series", number.to_string())]),
            points: (0..number as i64 * 37 % 2_000).map(|at| (at * 500 + number as i64, at as f64 / 7.0)).collect(),
            histograms: if number % 9 == 3 { vec![(7, Histogram::default().into()); 500] } else { Vec::new() },
        };
        for count in [0, 1, 2, 150] {
            let series: Vec<MatrixSeries> = (0..count).map(one).collect();
            let written = series.iter().map(|one| {
                let mut out = Vec::new();
                push_matrix_series(&mut out, one, &mut Clock::default());
                String::from_utf8(out).unwrap()
            });
            let written = written.collect::<Vec<_>>().join(",");
            let expected = format!(
                r#"{{"status":"success","data":{{"resultType":"matrix","result":[{written}]}},"warnings":["w0"]}}"#
            );
            let piece_count = parts(&series).len();
            assert_eq!(piece_count > 1, count == 150);
            let value = QueryValue::Matrix(series);
            assert!(body(value.clone(), 1) == expected, "{count} series");
            let annotations = Annotations { warnings: vec!["w0".to_owned()], infos: Vec::new() };
            let output = Output { value, annotations, stats: QueryStats::default() };
            let pieces =
                query_pieces(&output, StatsDetail::None, &Timings::default(), || (), |(), piece| piece.clone());
            assert_eq!(pieces.len(), piece_count);
            assert!(pieces.concat() == expected.as_bytes(), "{count} series");
        }
    }

    #[test]
    fn values_of_each_type() {
        assert_eq!(
            body(QueryValue::Scalar { timestamp_ms: 1500, value: f64::INFINITY }, 0),
            r#"{"status":"success","data":{"resultType":"scalar","result":[1.5,"+Inf"]}}"#
        );
        assert_eq!(
            body(QueryValue::Scalar { timestamp_ms: 0, value: -1.5e-7 }, 0),
            r#"{"status":"success","data":{"resultType":"scalar","result":[0,"-0.00000015"]}}"#
        );
        assert_eq!(
            body(QueryValue::String { timestamp_ms: 1000, value: "a\"".to_owned() }, 0),
            r#"{"status":"success","data":{"resultType":"string","result":[1,"a\""]}}"#
        );
        assert_eq!(
            body(QueryValue::Vector(Vec::new()), 0),
            r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#
        );
        let labels = Labels::from_pairs([("__name__", "up")]);
        let sample = VectorSample { labels: labels.clone(), timestamp_ms: 1500, value: Value::Float(-0.0) };
        assert_eq!(
            body(QueryValue::Vector(vec![sample]), 0),
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up"},"value":[1.500,"-0"]}]}}"#
        );
        // The second series starts later and has a time that the first one lacks.
        let series = |points| MatrixSeries { labels: labels.clone(), points, histograms: Vec::new() };
        let matrix = vec![
            series(vec![(1000, 1.0), (2000, 2.0), (4000, 4.5)]),
            series(vec![(2000, 7.0), (3000, 8.0), (4000, 9.0), (5500, 1e21)]),
            series(Vec::new()),
        ];
        assert_eq!(
            body(QueryValue::Matrix(matrix), 0),
            concat!(
                r#"{"status":"success","data":{"resultType":"matrix","result":["#,
                r#"{"metric":{"__name__":"up"},"values":[[1,"1"],[2,"2"],[4,"4.5"]]},"#,
                r#"{"metric":{"__name__":"up"},"values":[[2,"7"],[3,"8"],[4,"9"],[5.500,"1e+21"]]},"#,
                r#"{"metric":{"__name__":"up"}}]}}"#
            )
        );
    }

    #[test]
    fn many_warnings_are_counted() {
        let text = body(QueryValue::Vector(Vec::new()), 12);
        assert!(text.ends_with(r#""w9","2 more warning annotations omitted"]}"#), "{text}");
    }
}
