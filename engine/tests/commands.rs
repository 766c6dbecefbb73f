//! Commands over a data directory: what is imported is dumped again, as promtool dumps it; exports, checks, repairs.

mod server;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use server::{Peer, Pilaster, binary, free_port, program, prometheus_3};

/// 2025-11-20T00:00:00Z.
const START_S: i64 = 1_763_596_800;

/// A day and a bit, with what text can say: gaps, odd numbers, labels with quotes, series that end.
fn openmetrics() -> String {
    let mut text = String::from("# TYPE requests counter\n");
    for path in ["/", "/a\\\\b", "/\\\"q\\\""] {
        for step in 0..1500 {
            text += &format!("requests_total{{job=\"x\",path=\"{path}\"}} {} {}\n", step * 7, START_S + step * 60);
        }
    }
    text += "# TYPE temperature gauge\n# HELP temperature Degrees.\n";
    for step in (0..1000).filter(|step| step % 10 != 3) {
        let value = (step as f64 / 9.0).sin() * 20.0;
        text += &format!("temperature{{job=\"x\"}} {value} {}.{:03}\n", START_S + step * 77, step % 1000);
    }
    text += "# TYPE odd gauge\n";
    for (step, value) in ["NaN", "+Inf", "-Inf", "-0.0", "1e300", "5e-324", "0.1"].into_iter().enumerate() {
        text += &format!("odd {value} {}\n", START_S + step as i64);
    }
    text + "# EOF\n"
}

fn run(words: &[&str]) -> Output {
    Command::new(binary()).args(words).output().unwrap()
}

/// Standard output of a command that succeeds.
fn succeed(words: &[&str]) -> String {
    let output = run(words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn data(path: &Path) -> String {
    format!("--storage.tsdb.path={}", path.display())
}

#[test]
fn an_openmetrics_file_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (file, ours) = (dir.path().join("om.txt"), dir.path().join("ours"));
    std::fs::write(&file, openmetrics()).unwrap();
    let said = succeed(&["import", "openmetrics", text(&file), "--label", "added=yes", &data(&ours)]);
    assert!(said.contains("imported 5,407 samples"), "{said}");
    let again = succeed(&["import", "openmetrics", text(&file), "--label=added=yes", &data(&ours)]);
    assert!(again.contains("imported 0 samples in 0 blocks") && again.contains("5,407 samples were there"), "{again}");

    let exported = succeed(&["export", "openmetrics", &data(&ours)]);
    let back = dir.path().join("back.txt");
    std::fs::write(&back, &exported).unwrap();
    assert!(
        exported.contains(r#"requests_total{added="yes",job="x",path="/\"q\""} 7 1763596860.000"#),
        "{exported:.300}"
    );
    let second = dir.path().join("second");
    succeed(&["import", "openmetrics", text(&back), &data(&second)]);
    assert_eq!(succeed(&["export", "openmetrics", &data(&second)]), exported);

    let part = ["--match={__name__=~\"odd|temperature\"}", "--end=2025-11-20T00:00:03Z"];
    let part = succeed(&["export", "openmetrics", part[0], part[1], &data(&ours)]);
    assert_eq!(part.lines().count(), 6, "{part}");

    for (line, reason) in [
        ("a{b=\"c\"} 1\n# EOF\n", "expected timestamp for series"),
        ("a 1 2\n", "does not end with # EOF"),
        ("a 1 2\nb c d\n# EOF\n", "line 2"),
    ] {
        std::fs::write(&file, line).unwrap();
        let output = run(&["import", "openmetrics", text(&file), &data(&second)]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && error.contains(reason), "{error}");
    }
}

#[test]
fn promtool_dumps_the_same_lines() {
    let Some(promtool) = program("PILASTER_PROMTOOL", "promtool") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (file, theirs, ours) = (dir.path().join("om.txt"), dir.path().join("theirs"), dir.path().join("ours"));
    std::fs::write(&file, openmetrics()).unwrap();
    std::fs::create_dir(&theirs).unwrap();
    let tool = |words: &[&str]| {
        let output = Command::new(&promtool).args(words).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    tool(&["tsdb", "create-blocks-from", "openmetrics", text(&file), text(&theirs)]);
    // It wants one, even empty.
    std::fs::create_dir(theirs.join("wal")).unwrap();
    succeed(&["import", "prometheus", text(&theirs), &data(&ours)]);
    let lines = |text: String| text.lines().map(str::to_owned).collect::<BTreeSet<String>>();
    for command in ["dump", "dump-openmetrics"] {
        let (mine, other) = (succeed(&["tsdb", command, text(&ours)]), tool(&["tsdb", command, text(&theirs)]));
        assert_eq!(mine.lines().count(), other.lines().count());
        assert_eq!(lines(mine), lines(other), "{command}");
    }
    let (mine, other) = ("--match={job=\"x\"}", "--format=seriesjson");
    let words = ["tsdb", "dump", mine, other];
    assert_eq!(
        lines(succeed(&[&words[..], &[text(&ours)]].concat())),
        lines(tool(&[&words[..], &[text(&theirs)]].concat()))
    );
    damaged_directories_give_a_part_of_the_truth(&theirs, &lines(succeed(&["tsdb", "dump", text(&ours)])));
    remote_read_gives_the_same(&theirs, &lines(succeed(&["tsdb", "dump", text(&ours)])));
}

/// Flips bits all over the files of a Prometheus: what is imported then was there, and what is missing is told of.
fn damaged_directories_give_a_part_of_the_truth(theirs: &Path, truth: &BTreeSet<String>) {
    let dir = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    let mut open = vec![theirs.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() { open.push(path) } else { files.push(path) }
        }
    }
    files.retain(|path| std::fs::metadata(path).unwrap().len() > 0 && !path.ends_with("lock"));
    files.sort();
    let mut seed = 7_u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut told = 0;
    for round in 0..40 {
        let path = &files[random(files.len() as u64) as usize];
        let good = std::fs::read(path).unwrap();
        let mut bad = good.clone();
        if round % 5 == 4 {
            bad.truncate(random(good.len() as u64) as usize);
        } else {
            bad[random(good.len() as u64) as usize] ^= 1 << random(8);
        }
        std::fs::write(path, &bad).unwrap();
        let ours = dir.path().join(format!("{round}"));
        let output = run(&["import", "prometheus", text(theirs), &data(&ours)]);
        std::fs::write(path, &good).unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(0 | 1)) && !error.contains("panicked"), "{path:?}: {error}");
        let got: BTreeSet<String> = succeed(&["tsdb", "dump", text(&ours)]).lines().map(str::to_owned).collect();
        assert!(got.is_subset(truth), "{path:?} gave what was never written");
        let name = path.file_name().unwrap().to_str().unwrap();
        if got.len() < truth.len() {
            // `meta.json` has no checksum: a wrong time in it hides samples.
            assert!(output.status.code() == Some(1) || name == "meta.json", "{path:?} round {round}: nothing was said");
            told += 1;
        }
    }
    assert!(told > 10, "{told}");
}

fn remote_read_gives_the_same(theirs: &Path, truth: &BTreeSet<String>) {
    let Some(prometheus) = prometheus_3() else { return };
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("empty.yml");
    std::fs::write(&config, "global: {}\n").unwrap();
    let port = free_port();
    let server = Peer::start(
        Command::new(prometheus)
            .arg(format!("--config.file={}", config.display()))
            .arg(data(theirs))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--storage.tsdb.retention.time=100y"),
        port,
        "/-/ready",
    );
    let ours = dir.path().join("ours");
    let running = run(&["import", "prometheus", text(theirs), &data(&ours)]);
    assert!(String::from_utf8_lossy(&running.stderr).contains("in use by a running Prometheus"));
    let url = format!("{}/api/v1/read", server.url);
    let times = ["--start=2025-11-20T00:00:00Z", "--end=2025-11-22T00:00:00Z"];
    let words = ["import", "remote-read", &url, times[0], times[1], &data(&ours)];
    let said = succeed(&words);
    assert!(said.contains("imported 5,407 samples"), "{said}");
    assert!(succeed(&words).contains("imported 0 samples in 0 blocks"));
    let got: BTreeSet<String> = succeed(&["tsdb", "dump", text(&ours)]).lines().map(str::to_owned).collect();
    assert_eq!(&got, truth);
    let part = dir.path().join("part");
    let said = succeed(&[&words[..5], &["--match=odd", "--match=temperature", &data(&part)]].concat());
    assert!(said.contains("imported 907 samples"), "{said}");
}

/// A file below `dir` with this extension.
fn find(dir: &Path, extension: &str) -> PathBuf {
    let mut entries = std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path());
    let path = entries.next().unwrap();
    if path.is_dir() {
        return find(&path, extension);
    }
    std::iter::once(path).chain(entries).find(|path| path.extension().is_some_and(|found| found == extension)).unwrap()
}

#[test]
fn blocks_go_where_the_server_would_put_them() {
    let dir = tempfile::tempdir().unwrap();
    let (file, ours, config) = (dir.path().join("om.txt"), dir.path().join("ours"), dir.path().join("p.yml"));
    std::fs::write(&file, openmetrics()).unwrap();
    std::fs::write(&config, format!("storage: {{blocks: {{url: \"file://{}/far\"}}}}\n", dir.path().display()))
        .unwrap();
    let flag = format!("--config.file={}", config.display());
    let said = succeed(&["import", "openmetrics", text(&file), &flag, &data(&ours)]);
    assert!(said.contains("imported 5,407 samples"), "{said}");
    assert!(!ours.join("samples").exists() && dir.path().join("far/manifest.jsonl").exists());
    assert_eq!(succeed(&["tsdb", "dump", &flag, text(&ours)]).lines().count(), 5407);
    assert_eq!(succeed(&["tsdb", "list", text(&ours)]).lines().count(), 3);
    let output = run(&["tsdb", "dump", text(&ours)]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("/far"), "{error}");
    // Where the blocks are, the directory says as well.
    for place in [&[flag.as_str(), text(&ours)][..], &[text(&ours)]] {
        assert_eq!(succeed(&[&["tsdb", "list"], place].concat()).lines().count(), 3);
        assert!(succeed(&[&["tsdb", "verify"], place].concat()).contains("2 blocks"));
        assert!(succeed(&[&["tsdb", "analyze"], place].concat()).contains("Total Series: "));
        let index = find(&dir.path().join("far/samples"), "index");
        let mut bytes = std::fs::read(&index).unwrap();
        bytes[30] ^= 1;
        std::fs::write(&index, bytes).unwrap();
        let damaged = run(&[&["tsdb", "verify"], place].concat());
        let error = String::from_utf8_lossy(&damaged.stderr).into_owned();
        assert!(!damaged.status.success() && error.contains("/far/samples/"), "{error}");
        assert!(succeed(&[&["tsdb", "repair"], place].concat()).contains("1 indexes made again, 0 blocks set aside"));
        assert!(succeed(&[&["tsdb", "verify"], place].concat()).contains("0 damaged"));
    }
    // A snapshot of it stands on its own.
    let flags = [flag.as_str(), "--web.enable-admin-api", "--storage.tsdb.retention.time=100y"];
    let server = Pilaster::start(&ours, &flags);
    let (status, answer) = server.post("/api/v1/admin/tsdb/snapshot", "text/plain", "");
    assert_eq!(status, 200, "{answer}");
    assert_eq!(server.stop(), Some(0));
    let snapshots = std::fs::read_dir(ours.join("snapshots")).unwrap().flatten();
    let snapshot = snapshots.map(|entry| entry.path()).next().unwrap();
    assert!(succeed(&["tsdb", "dump", "--match={job=\"x\"}", text(&snapshot)]).lines().count() == 5400);
}

#[test]
fn parquet_files_of_a_selection_are_read_by_others() {
    let dir = tempfile::tempdir().unwrap();
    let (file, ours, out) = (dir.path().join("om.txt"), dir.path().join("ours"), dir.path().join("out"));
    std::fs::write(&file, openmetrics()).unwrap();
    succeed(&["import", "openmetrics", text(&file), &data(&ours)]);
    let output = format!("--output={}", out.display());
    let said = succeed(&["export", "parquet", "--match=requests_total", &output, &data(&ours)]);
    assert!(said.contains("exported 4,500 samples to 2 files"), "{said}");
    let refused = run(&["export", "parquet", &format!("--output={}", ours.display()), &data(&ours)]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is a data directory itself"));
    let Some(python) = program("PILASTER_PYTHON", "python3") else { return };
    let script = "import duckdb, sys; print(duckdb.sql(f\"select count(*), sum(coalesce(value_int / value_div, value))::bigint, \
                  count(distinct labels) from read_parquet('{sys.argv[1]}/samples/*/*.parquet')\").fetchall())";
    let output = Command::new(python).args(["-c", script, text(&out)]).output().unwrap();
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if error.contains("No module named 'duckdb'") {
        println!("skipped: this Python has no duckdb");
        return;
    }
    let sum = 3 * (0..1500).map(|step| step * 7).sum::<i64>();
    assert_eq!(said.trim(), format!("[(4500, {sum}, 3)]"), "{error}");
}

#[test]
fn damage_is_seen_and_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (file, ours) = (dir.path().join("om.txt"), dir.path().join("ours"));
    std::fs::write(&file, openmetrics()).unwrap();
    succeed(&["import", "openmetrics", text(&file), &data(&ours)]);
    let list = succeed(&["tsdb", "list", text(&ours)]);
    assert!(list.starts_with("BLOCK NAME") && list.lines().count() == 3, "{list}");
    assert!(succeed(&["tsdb", "list", "-r", text(&ours)]).contains("2025-11-20 00:00:00"));
    let verified = succeed(&["tsdb", "verify", text(&ours)]);
    assert!(verified.contains("2 blocks") && verified.contains("0 damaged") && verified.contains("=="), "{verified}");
    let analyzed = succeed(&["tsdb", "analyze", "--limit=2", text(&ours)]);
    assert!(analyzed.contains("Highest cardinality metric names:\n3 requests_total\n"), "{analyzed}");

    let name = list.lines().nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let parquet = ours.join(format!("samples/date=2025-11-20/{name}.parquet"));
    let mut bytes = std::fs::read(&parquet).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&parquet, bytes).unwrap();
    let output = run(&["tsdb", "verify", text(&ours)]);
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.code() == Some(1) && said.contains("DAMAGED") && said.contains("!!"), "{said}");
    assert!(error.contains("CRC32C should be") && error.contains(&name), "{error}");
    let repaired = succeed(&["tsdb", "repair", text(&ours)]);
    assert!(repaired.contains("1 blocks sound, 0 indexes made again, 1 blocks set aside"), "{repaired}");
    assert!(succeed(&["tsdb", "verify", text(&ours)]).contains("1 blocks"));
    assert!(ours.join(format!("set-aside/{name}.parquet")).exists());
    assert!(succeed(&["tsdb", "dump", text(&ours)]).contains("requests_total"));
}

#[test]
fn a_snapshot_is_a_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (file, ours) = (dir.path().join("om.txt"), dir.path().join("ours"));
    std::fs::write(&file, openmetrics()).unwrap();
    succeed(&["import", "openmetrics", text(&file), &data(&ours)]);
    let config = dir.path().join("empty.yml");
    std::fs::write(&config, "global: {}\n").unwrap();
    let flag = format!("--config.file={}", config.display());
    let flags = [flag.as_str(), "--web.enable-admin-api", "--storage.tsdb.retention.time=100y"];
    let server = Pilaster::start(&ours, &flags);
    let post = |query: &str| server.post(&format!("/api/v1/admin/tsdb/snapshot{query}"), "text/plain", "");
    let (status, answer) = post("?skip_head=maybe");
    assert!(
        status == 400 && answer.contains("unable to parse boolean: strconv.ParseBool: parsing \\\"maybe\\\""),
        "{answer}"
    );
    let (status, answer) = post("?skip_head=true");
    assert_eq!(status, 200, "{answer}");
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let name = answer["data"]["name"].as_str().unwrap().to_owned();
    assert!(name.len() == 33 && name.contains("Z-"), "{name}");
    assert_eq!(post("").0, 200);
    let busy = run(&["tsdb", "dump", text(&ours)]);
    assert!(String::from_utf8_lossy(&busy.stderr).contains("in use by another process"));
    assert_eq!(server.stop(), Some(0));
    let expected = succeed(&["tsdb", "dump", text(&ours)]);
    assert_eq!(succeed(&["tsdb", "dump", text(&ours.join("snapshots").join(&name))]), expected);
    assert_eq!(expected.lines().count(), 5407);
}
