//! A real psql against the wire; skipped with a message where there is none.

mod memory;

use std::process::Command;

use pilaster_sql::{SqlOptions, pg};
use tokio::net::TcpListener;

const PSQL: &str = "/usr/bin/psql";

/// What psql prints for each command.
async fn psql(commands: &[&str]) -> Option<Vec<String>> {
    if !std::path::Path::new(PSQL).exists() {
        println!("skipped: {PSQL} is not installed");
        return None;
    }
    let service = memory::service_over(memory::small(), SqlOptions::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let server = tokio::spawn(pg::serve(service, listener, std::future::pending()));
    let mut outputs = Vec::new();
    for command in commands {
        let (port, command) = (port.clone(), (*command).to_owned());
        let output = tokio::task::spawn_blocking(move || {
            Command::new(PSQL)
                .args(["-X", "-h", "127.0.0.1", "-p", &port, "-U", "tester", "-d", "metrics", "-A", "-c", &command])
                .env("PAGER", "")
                .env("LC_ALL", "C.UTF-8")
                .output()
                .unwrap()
        })
        .await
        .unwrap();
        outputs.push(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)));
    }
    server.abort();
    Some(outputs)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_describing_command_answers() {
    let commands = [
        r"\d",
        r"\d+",
        r"\dt",
        r"\dt+",
        r"\d up",
        r"\d+ up",
        r#"\d "job:up:sum""#,
        r"\l",
        r"\l+",
        r"\dn",
        r"\dn+",
        r"\df",
        r"\df+",
        r"\dv",
        r"\di",
        r"\ds",
        r"\dm",
        r"\du",
        r"\dg",
        r"\dT",
        r"\dx",
        r"\dp",
        r"\db",
        r"\dD",
        r"\dC",
        r"\do",
        r"\da",
        r"\dL",
        r"\dd",
        r"\ddp",
        r"\dE",
        r"\des",
        r"\det",
        r"\dew",
        r"\deu",
        r"\dF",
        r"\dO",
        r"\dP",
        r"\dRp",
        r"\dRs",
        r"\dy",
        r"\z",
        r"\conninfo",
        r"\encoding",
        r"\sv nothing",
        r"\d pg_class",
        r"\dconfig",
        r"\dAc",
        r"\dX",
        r"\dt public.*",
        r"\dt *requests*",
    ];
    let Some(outputs) = psql(&commands).await else { return };
    let mut failed = Vec::new();
    for (command, output) in commands.iter().zip(&outputs) {
        let expected = command.starts_with(r"\sv");
        if output.contains("ERROR") != expected {
            failed.push(format!("{command}\n{output}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let of = |command: &str| &outputs[commands.iter().position(|known| *known == command).unwrap()];
    assert!(of(r"\d").contains("public|http_requests_total|table|pilaster"), "{}", of(r"\d"));
    assert!(of(r"\dt *requests*").contains("public|http_requests_total|table|pilaster"));
    let described = of(r"\d up");
    for line in [
        "ts|timestamp with time zone||not null|",
        "value|double precision|||",
        "instance|text|||",
        "job|text|||",
        "labels|jsonb||not null|",
    ] {
        assert!(described.contains(line), "{line}\n{described}");
    }
    assert!(of(r"\l").contains("pilaster|pilaster|UTF8"), "{}", of(r"\l"));
    assert!(of(r"\dn").contains("public|pilaster"), "{}", of(r"\dn"));
    assert!(of(r"\df").contains("public|promql|SETOF record|query text"), "{}", of(r"\df"));
    assert!(of(r"\d+").contains("Requests served."), "{}", of(r"\d+"));
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_errors_and_copies() {
    let commands = [
        "select ts, value from up where job = 'api' order by ts",
        "select count(*), avg(value) from up",
        "select instnce from up",
        "select 1 +",
        "insert into up values (1)",
        r"\copy (select job, value from up where job = 'api' order by ts) to stdout with csv header",
        "select 'Infinity'::float8, 'NaN'::float8, null, array[1,2], true",
        "explain select count(*) from up where job = 'api'",
        "begin; select 1; commit",
        "select version()",
        "show all",
    ];
    let Some(outputs) = psql(&commands).await else { return };
    assert_eq!(outputs[0], "ts|value\n2026-11-21 07:59:30+00|1\n2026-11-21 08:00:00+00|0\n(2 rows)\n");
    assert_eq!(outputs[1], "count|avg\n5|0.8\n(1 row)\n");
    assert!(
        outputs[2]
            .contains("ERROR:  column \"instnce\" does not exist\nLINE 1: select instnce from up\n               ^\n"),
        "{}",
        outputs[2]
    );
    assert!(outputs[3].contains("ERROR:  syntax error"), "{}", outputs[3]);
    assert!(outputs[4].contains("ERROR:  cannot execute INSERT in a read-only transaction"), "{}", outputs[4]);
    assert_eq!(outputs[5], "job,value\napi,1\napi,0\n");
    assert_eq!(outputs[6], "float8|float8|?column?|array|bool\nInfinity|NaN||{1,2}|t\n(1 row)\n");
    assert!(outputs[7].contains("SampleScanExec") && outputs[7].contains("blocks read"), "{}", outputs[7]);
    assert!(outputs[8].contains("BEGIN") && outputs[8].contains("COMMIT"), "{}", outputs[8]);
    assert!(outputs[9].contains("PostgreSQL 16"), "{}", outputs[9]);
    assert!(outputs[10].contains("server_version|16.6"), "{}", outputs[10]);
}
