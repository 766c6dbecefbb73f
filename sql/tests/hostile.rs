//! Statements that would kill, fill or block the server are refused or stopped, each within seconds.

mod memory;

use std::time::{Duration, Instant};

use pilaster_sql::{SqlOptions, SqlService};

async fn state(service: &SqlService, sql: &str) -> String {
    match service.query(sql).await {
        Ok(output) => format!("ok, {} rows", output.row_count()),
        Err(error) => error.sqlstate.to_owned(),
    }
}

/// Resident memory of this process in MiB, where the system tells.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_statements_do_not_overflow_the_stack() {
    let service = memory::service_over(memory::small(), SqlOptions::default());
    let chain = |first: &str, link: &str, count: usize| format!("select {first}{}", link.repeat(count));
    let nested_queries = |depth: usize| {
        (0..depth).fold("select 1 as x".to_owned(), |inner, level| format!("select x from ({inner}) as q{level}"))
    };
    for (sql, expected) in [
        (chain("1", "+1", 2_000), "54001"),
        (chain("1", "+1", 10_000), "54001"),
        (format!("select count(*) from up where value = 0{}", " or value = 0".repeat(2_000)), "54001"),
        (chain("1", "::int", 5_000), "54001"),
        (chain("1", " union all select 1", 20_000), "54000"),
        (chain("1", " union all select 1", 1_000), "54001"),
        (format!("select {}1{}", "(".repeat(10_000), ")".repeat(10_000)), "54001"),
        (format!("select {}true", "not ".repeat(10_000)), "54001"),
        (format!("select {}1", "- ".repeat(10_000)), "54001"),
        (chain("'a'", "||'a'", 10_000), "54001"),
        (format!("select {}1{}", "case when true then ".repeat(3_000), " end".repeat(3_000)), "54001"),
        (nested_queries(2_000), "54001"),
        (format!("select count(*) from up where job in ({}'x')", "'x',".repeat(60_000)), "54001"),
        (format!("select {}1", "1,".repeat(2_000)), "54011"),
        (format!("select {}", "x".repeat(300_000)), "54000"),
        (format!("select 1 from up{}", ", up".repeat(0) + &" cross join up".repeat(30)), "54001"),
        (format!("select '{}", "\u{0}"), "42601"),
    ] {
        let started = Instant::now();
        let found = state(&service, &sql).await;
        assert_eq!(found, expected, "{}", &sql[..sql.len().min(80)]);
        assert!(started.elapsed() < Duration::from_secs(5), "{}: {:?}", &sql[..sql.len().min(80)], started.elapsed());
    }
    // Just inside the limits: answered, on whatever stack they need.
    for sql in [
        chain("1", "+1", 390),
        format!("select count(*) from up where value = 0{}", " or value = 0".repeat(190)),
        chain("1", "::int", 390),
        chain("1", " union all select 1", 60),
        format!("select {}1{}", "(".repeat(90), ")".repeat(90)),
        chain("'a'", "||'a'", 190),
        nested_queries(40),
    ] {
        let found = state(&service, &sql).await;
        assert!(found.starts_with("ok") || found == "54001", "{}: {found}", &sql[..60]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn results_outside_the_memory_pool_are_bounded() {
    let options =
        SqlOptions { memory_bytes: 100 * 1024 * 1024, timeout: Duration::from_secs(5), ..SqlOptions::default() };
    let service = memory::service_over(memory::small(), options);
    let before = resident_mib();
    let doubling = (0..30).fold("select repeat('x', 1000) as x".to_owned(), |inner, level| {
        format!("select x || x as x from ({inner}) as q{level}")
    });
    for sql in [
        "select repeat('x', 2000000000)",
        "select length(repeat('x', 2000000000))",
        "select lpad('x', 2000000000, 'y')",
        "select rpad('x', 2000000000, 'y')",
        "select range(1, 300000000)",
        "select generate_series(1, 300000000)",
        "select array_repeat(1, 300000000)",
        "select array_resize(array[1], 300000000)",
        "select replace(repeat('a', 100000), 'a', repeat('b', 100000))",
        "select regexp_replace(repeat('a', 100000), 'a', repeat('b', 100000), 'g')",
        "select repeat(repeat('x', 100000), 100000)",
        "select count(repeat(job, 1000000)) from http_requests_total",
        "select to_char(now(), repeat('%c', 3000000))",
        "select levenshtein(repeat('a', 1000000), repeat('b', 1000000))",
        &doubling,
        "select repeat('x', 200000) || repeat('y', 200000)",
        "select repeat('x', 200000) as a, repeat('y', 200000) as b from generate_series(1, 4096)",
        "select s from (select string_agg('xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx', ',') as s from generate_series(1, 1000000)) a, generate_series(1, 1000000)",
        "select array_agg(a) from generate_series(1, 100000000) a",
        "select a, b from generate_series(1, 3000000) a, generate_series(1, 100) b order by b, a desc",
        "select string_agg('xxxxxxxxxxxxxxxxxxxxxxxx', ',') from generate_series(1, 100000000)",
        "select a, count(*) from generate_series(1, 100000000) a group by a",
        "select sum(a) over (order by a) from generate_series(1, 100000000) a",
    ] {
        let started = Instant::now();
        let found = state(&service, sql).await;
        assert!(matches!(found.as_str(), "53200" | "57014"), "{sql}: {found}");
        assert!(started.elapsed() < Duration::from_secs(12), "{sql}: {:?}", started.elapsed());
    }
    let grown = resident_mib().saturating_sub(before);
    assert!(grown < 1_500, "memory grew by {grown} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_work_ends_at_the_deadline() {
    let options =
        SqlOptions { memory_bytes: 200 * 1024 * 1024, timeout: Duration::from_secs(1), ..SqlOptions::default() };
    let service = memory::service_over(memory::small(), options);
    for sql in [
        "select count(*) from generate_series(1, 100000000000) a",
        "select count(*) from generate_series(1, 10000000) a, generate_series(1, 10000000) b",
        "select count(*) from generate_series(1, 10000000) a join generate_series(1, 10000000) b on a % 3 < b % 3",
        "select count(*) from generate_series(1,1000) a, generate_series(1,1000) b, generate_series(1,1000) c, generate_series(1,1000) d",
        "with recursive t(n) as (select 1 union all select n + 1 from t) select count(*) from t",
        "select count(*) from (select unnest(range(1, 1000000)) as x from generate_series(1, 1000000)) q",
    ] {
        let started = Instant::now();
        let found = state(&service, sql).await;
        assert!(matches!(found.as_str(), "57014" | "53200"), "{sql}: {found}");
        assert!(started.elapsed() < Duration::from_secs(6), "{sql}: {:?}", started.elapsed());
    }
    // Nothing of it goes on working.
    assert_eq!(state(&service, "select count(*) from up").await, "ok, 1 rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_query_stops() {
    let service = memory::service_over(memory::small(), SqlOptions { max_concurrent: 1, ..SqlOptions::default() });
    let endless = "select count(*) from generate_series(1, 10000000) a, generate_series(1, 10000000) b";
    assert!(tokio::time::timeout(Duration::from_millis(300), service.query(endless)).await.is_err());
    // The only place is free again.
    let next = tokio::time::timeout(Duration::from_secs(5), service.query("select 1")).await;
    assert_eq!(next.unwrap().unwrap().row_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_settings_and_definitions_are_out_of_reach() {
    let service = memory::service_over(memory::small(), SqlOptions::default());
    let target = std::env::temp_dir().join(format!("pilaster-hostile-{}", std::process::id()));
    let path = target.display();
    for sql in [
        "create external table t stored as csv location '/etc/passwd'".to_owned(),
        "create table t as select 1".to_owned(),
        "create view v as select 1".to_owned(),
        "create database d".to_owned(),
        "create function f() returns int return 1".to_owned(),
        "drop table up".to_owned(),
        format!("copy (select 1) to '{path}'"),
        format!("copy up to '{path}'"),
        format!("copy (select 1) to '{path}' stored as parquet"),
        "copy up from '/etc/passwd'".to_owned(),
        "insert into up select * from up".to_owned(),
        "select * from '/etc/passwd'".to_owned(),
        "select * from \"/etc/passwd\"".to_owned(),
        "select * from read_csv('/etc/passwd')".to_owned(),
        "select pg_read_file('/etc/passwd')".to_owned(),
        "select lo_import('/etc/passwd')".to_owned(),
        "select pg_sleep(1000)".to_owned(),
        "set datafusion.execution.target_partitions = 1000000".to_owned(),
        "explain analyze copy (select 1) to '/tmp/x'".to_owned(),
        "with x as (delete from up returning *) select * from x".to_owned(),
        "do $$ begin end $$".to_owned(),
        "load '/tmp/x.so'".to_owned(),
        "select dblink('host=evil', 'select 1')".to_owned(),
    ] {
        let found = state(&service, &sql).await;
        assert!(!found.starts_with("ok") && !found.starts_with("XX"), "{sql}: {found}");
    }
    assert!(!target.exists());
}
