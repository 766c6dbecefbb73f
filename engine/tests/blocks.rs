//! Blocks that the server writes, read by DuckDB and pyarrow: their sums are those of SQL over the wire and of PromQL.

mod server;

use std::process::Command;

use pilaster_ingest::remote_write::{SeriesToSend, encode_v1};
use pilaster_model::{Labels, stale_nan};
use server::{Pilaster, program, wait};

const SERIES: usize = 12;
const STEP_MS: i64 = 15_000;
const SAMPLES: usize = 8 * 3600 / 15;

/// Prints `rows sum` of the metric up to a time as DuckDB sees it, then as pyarrow sees it, then the time itself.
const READ_BLOCKS: &str = r"
import sys, glob, datetime
import duckdb, pyarrow.dataset as ds, pyarrow.compute as pc
files = glob.glob(sys.argv[1] + '/samples/**/*.parquet', recursive=True)
files = [f for f in files if 'histogram' not in f.rsplit('/', 1)[-1]]
one = duckdb.sql('''select count(*), sum(coalesce(value_int / value_div, value)), epoch_ms(max(ts))
  from read_parquet(?) where metric = 'trips_total' ''', params=[files]).fetchall()[0]
print(one[0], repr(float(one[1])))
table = ds.dataset(files).to_table(filter=pc.field('metric') == 'trips_total', columns=['ts', 'value', 'value_int', 'value_div'])
values = pc.coalesce(pc.divide(table['value_int'].cast('double'), table['value_div']), table['value'])
print(len(table), repr(pc.sum(values).as_py()))
print(one[2])
";

#[test]
fn duckdb_and_pyarrow_read_what_the_server_wrote() {
    let Some(python) = program("PILASTER_PYTHON", "python3") else { return };
    let modules = Command::new(&python).args(["-c", "import duckdb, pyarrow.dataset"]).output();
    if !modules.is_ok_and(|output| output.status.success()) {
        println!("skipped: {} has no duckdb and pyarrow; PILASTER_PYTHON may name one that has", python.display());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let empty = dir.path().join("empty.yml");
    std::fs::write(&empty, "global: {}\n").unwrap();
    let config = format!("--config.file={}", empty.display());
    let flags = [config.as_str(), "--web.enable-remote-write-receiver"];

    let sent = Pilaster::start(&data, &flags);
    let now_ms = sent.form("/api/v1/query", &[("query", "1")])["data"]["result"][0].as_f64().unwrap() as i64 * 1000;
    let first_ms = now_ms / STEP_MS * STEP_MS - SAMPLES as i64 * STEP_MS;
    send(&sent, first_ms);
    assert_eq!(sent.stop(), Some(0));

    // The next start finds complete ranges in the log and writes them.
    let server = Pilaster::start(&data, &flags);
    wait("blocks are written", || server.metric("pilaster_block_samples") > (SERIES * SAMPLES / 2) as f64);
    assert!(server.metric("prometheus_tsdb_blocks_loaded") >= 1.0);
    let output = Command::new(&python).args(["-c", READ_BLOCKS]).arg(&data).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<&str> = printed.lines().collect();
    let (duckdb, pyarrow, last_ms) = (lines[0], lines[1], lines[2].parse::<i64>().unwrap());
    let number = |line: &str| line.split(' ').next_back().unwrap().parse::<f64>().unwrap();
    let rows = duckdb.split(' ').next().unwrap();
    assert!(rows.parse::<usize>().unwrap() > SERIES * SAMPLES / 2, "{printed}");
    assert_eq!(rows, pyarrow.split(' ').next().unwrap(), "{printed}");
    assert!(near(number(duckdb), number(pyarrow)), "{printed}");

    let at = format!("{}.{:03}", last_ms / 1000, last_ms % 1000);
    let ask = |query: &str| -> f64 {
        let answer = server.form("/api/v1/query", &[("query", query), ("time", &at)]);
        answer["data"]["result"][0]["value"][1].as_str().unwrap_or("NaN").parse().unwrap()
    };
    // A staleness marker is a row of the files, and no sample to PromQL.
    assert_eq!(ask("sum(count_over_time(trips_total[9h]))") + 1.0, rows.parse::<f64>().unwrap());
    assert!(near(ask("sum(sum_over_time(trips_total[9h]))"), number(duckdb)), "{printed}");
    let before = format!("where ts <= to_timestamp_millis({last_ms})");
    if let Some(sum) = psql(&server, &format!("select sum(value) from trips_total {before}")) {
        assert!(near(sum.parse().unwrap(), number(duckdb)), "{sum} {printed}");
        let joined = format!("select round(sum(value) / count(*)) from trips_total {before} and line = '3'");
        let average =
            ask("sum(sum_over_time(trips_total{line=\"3\"}[9h])) / sum(count_over_time(trips_total{line=\"3\"}[9h]))");
        assert!(near(psql(&server, &joined).unwrap().parse().unwrap(), average.round()), "{average}");
    }
    assert_eq!(server.stop(), Some(0));
}

fn psql(server: &Pilaster, statement: &str) -> Option<String> {
    let answer = server.psql(statement);
    if answer.is_none() {
        println!("not compared with SQL over the wire: there is no psql");
    }
    answer
}

/// Counters with decimals, whole numbers, and one staleness marker.
fn send(server: &Pilaster, first_ms: i64) {
    for part in 0..16 {
        let series: Vec<(Labels, Vec<(i64, f64)>)> = (0..SERIES)
            .map(|line| {
                let labels =
                    Labels::from_pairs([("__name__", "trips_total"), ("line", &line.to_string()), ("job", "bus")]);
                let samples = (part * SAMPLES / 16..(part + 1) * SAMPLES / 16).map(|index| {
                    let value = match line % 3 {
                        0 => (index * (line + 1)) as f64,
                        1 => (index * (line + 1)) as f64 / 8.0 + 0.1,
                        _ => ((index * line) as f64).sqrt(),
                    };
                    let gone = line == 5 && index == 700;
                    (first_ms + index as i64 * STEP_MS, if gone { stale_nan() } else { value })
                });
                (labels, samples.collect())
            })
            .collect();
        let message = encode_v1(series.iter().map(|(labels, samples)| SeriesToSend::floats(labels, samples)));
        let body = snap::raw::Encoder::new().compress_vec(&message).unwrap();
        let (status, text) = server.post("/api/v1/write", "application/x-protobuf", body);
        assert_eq!(status, 204, "{text}");
    }
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}
