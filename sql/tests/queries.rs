//! SQL meaning, over samples in memory, through the service and HTTP.

mod memory;

use std::sync::Arc;

use pilaster_sql::{SqlOptions, SqlService, http};

fn service() -> Arc<SqlService> {
    memory::service_over(memory::small(), SqlOptions::default())
}

/// The answer as CSV lines, or `SQLSTATE: message`.
async fn ask(service: &SqlService, sql: &str) -> String {
    let answer = http::respond(service, sql, "text/csv").await;
    let body = String::from_utf8(answer.body.to_vec()).unwrap();
    if answer.status == 200 {
        return body.trim_end().replace("\r\n", "\n");
    }
    let error: serde_json::Value = serde_json::from_str(&body).unwrap();
    format!("{}: {}", error["sqlstate"].as_str().unwrap(), error["error"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_tables() {
    let service = service();
    for (sql, expected) in [
        (
            "select * from up order by instance, ts",
            "\
ts,value,instance,job,labels
2026-11-21 07:59:30+00,1,a:80,api,\"{\"\"instance\"\":\"\"a:80\"\",\"\"job\"\":\"\"api\"\"}\"
2026-11-21 08:00:00+00,0,a:80,api,\"{\"\"instance\"\":\"\"a:80\"\",\"\"job\"\":\"\"api\"\"}\"
2026-11-21 07:59:30+00,1,c:80,web,\"{\"\"instance\"\":\"\"c:80\"\",\"\"job\"\":\"\"web\"\"}\"
2026-11-21 07:59:45+00,1,c:80,web,\"{\"\"instance\"\":\"\"c:80\"\",\"\"job\"\":\"\"web\"\"}\"
2026-11-21 08:00:00+00,1,c:80,web,\"{\"\"instance\"\":\"\"c:80\"\",\"\"job\"\":\"\"web\"\"}\"",
        ),
        ("select count(*) from up", "count\n5"),
        ("select count(*), count(*) from up", "count,count\n5,5"),
        (
            "select job, count(*), max(value) from http_requests_total where code = '500' group by job",
            "job,count,max\napi,240,478",
        ),
        ("select code, value from http_requests_total where job = 'web' order by ts", ",NaN"),
        ("select code from http_requests_total where code is null limit 1", "code\n"),
        ("select count(*) from http_requests_total where ts > now() - interval '1 minute' and job = 'api'", "count\n8"),
        (
            "select count(*) from http_requests_total where ts > now() - '1 minute'::interval and job in ('api')",
            "count\n8",
        ),
        (
            "select count(*) from http_requests_total where ts between '2026-11-21T07:59:00Z' and '2026-11-21T07:59:30Z'",
            "count\n7",
        ),
        (
            "select date_bin('30 minutes', ts) as t, max(value) from http_requests_total where code = '200' group by 1 order by 1",
            "t,max\n2026-11-21 07:00:00+00,118\n2026-11-21 07:30:00+00,238\n2026-11-21 08:00:00+00,239",
        ),
        (
            "select time_bucket('1h', ts) as t, count(*) from http_requests_total where code = '200' group by 1 order by 1",
            "t,count\n2026-11-21 07:00:00+00,239\n2026-11-21 08:00:00+00,1",
        ),
        (
            "select floor(extract(epoch from ts)/1800)*1800 as \"time\", count(*) from http_requests_total where code = '500' group by 1 order by 1",
            "time,count\n1795244400,119\n1795246200,120\n1795248000,1",
        ),
        ("select \"Zone\", label_ts from \"job:up:sum\"", "Zone,label_ts\neu,label called ts"),
        ("select value from latency order by ts", "value\n1\n"),
        (
            "select metric, labels->>'job' as job, count(*) from samples group by 1, 2 order by 1, 2",
            "metric,job,count\nhttp_requests_total,api,480\nhttp_requests_total,web,3\njob:up:sum,,1\nlatency,api,2\nup,api,2\nup,web,3",
        ),
        ("select count(*) from samples where labels->>'job' = 'web'", "count\n6"),
        (
            "select metric, type, help from metrics where help is not null",
            "metric,type,help\nhttp_requests_total,counter,Requests served.",
        ),
        (
            "select metric, count(*) from series group by 1 order by 1",
            "metric,count\nhttp_requests_total,3\njob:up:sum,1\nlatency,1\nup,2",
        ),
        (
            "select labels from series where metric = 'up' and job = 'web'",
            "labels\n\"{\"\"instance\"\":\"\"c:80\"\",\"\"job\"\":\"\"web\"\"}\"",
        ),
        (
            "select a.instance, a.value - b.value as d from up a join up b on a.instance = b.instance and a.ts = b.ts where a.job = 'api' order by a.ts",
            "instance,d\na:80,0\na:80,0",
        ),
        ("select now()", "now\n2026-11-21 08:00:00+00"),
        ("select now() at time zone 'Europe/Berlin'", "timezone\n2026-11-21 09:00:00"),
        (
            "select date_trunc('day', now() at time zone 'Europe/Berlin') at time zone 'Europe/Berlin'",
            "timezone\n2026-11-20 23:00:00+00",
        ),
        ("select 'a' || 1, 1::text || null", "?column?,?column?\na1,"),
        ("show server_version", "server_version\n16.6"),
        ("select s from generate_series(1,3) s", "s\n1\n2\n3"),
        (
            "select *, value from up where job = 'api' and value = 0",
            "ts,value,instance,job,labels,value\n2026-11-21 08:00:00+00,0,a:80,api,\"{\"\"instance\"\":\"\"a:80\"\",\"\"job\"\":\"\"api\"\"}\",0",
        ),
        (
            "with x as (select job, sum(value) as s from up group by job) select * from x order by s desc",
            "job,s\nweb,3\napi,1",
        ),
        ("select avg from (select avg(value) from up) q", "avg\n0.8"),
        (
            "select job, value, row_number() over (partition by job order by ts) as n from up where job = 'web' order by n desc limit 1",
            "job,value,n\nweb,1,3",
        ),
    ] {
        let found = ask(&service, sql).await;
        if expected.starts_with(',') {
            assert!(found.contains(expected), "{sql}\n{found}");
        } else {
            assert_eq!(found, expected.trim_end(), "{sql}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_a_state() {
    let service = service();
    for (sql, state) in [
        ("selec 1", "42601"),
        ("select 1 from", "42601"),
        ("", "42601"),
        ("select 1; select 2", "42601"),
        ("select * from nothing_like_it", "42P01"),
        ("select instnce from up", "42703"),
        ("select no_such_function(1)", "42883"),
        ("select * from no_such_function(1)", "42883"),
        ("select 1/0", "22012"),
        ("select 'x'::int", "22P02"),
        ("select job from up group by instance", "42803"),
        ("select a.job from up a, up b where job = 'x'", "42702"),
        ("insert into up values (1)", "25006"),
        ("begin", "0A000"),
        ("copy up to stdout", "0A000"),
        ("select $1", "42P02"),
        ("select current_setting('nonsense')", "42704"),
        ("select 'nonsense'::regclass", "42P01"),
    ] {
        let found = ask(&service, sql).await;
        assert!(found.starts_with(state), "{sql}: {found}");
    }
    let answer = http::respond(&service, "select instnce from up", "application/json").await;
    let error: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer.status, 400);
    assert_eq!(error["errorType"], "bad_data");
    assert_eq!(error["position"], 8);
    assert!(error["hint"].as_str().unwrap().contains("instance"));
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_shows_what_is_pushed_down() {
    let service = service();
    let plan = ask(
        &service,
        "explain select value from http_requests_total where job = 'api' and code <> '500' \
         and ts >= '2026-11-21T07:00:00Z' limit 5",
    )
    .await;
    assert!(
        plan.contains(
            "SampleScanExec: {__name__=\"\"http_requests_total\"\",job=\"\"api\"\",code!=\"\"500\"\",code!=\"\"\"\"}"
        ),
        "{plan}"
    );
    assert!(plan.contains("ts=[2026-11-21T07:00:00.000Z, ∞], series=1, blocks read 4 of 7, limit=5"), "{plan}");
    assert!(!plan.contains("FilterExec"), "{plan}");
    let plan =
        ask(&service, "explain select count(*) from samples where labels->>'job' = 'web' and metric ~ '^up$'").await;
    assert!(plan.contains("job=\"\"web\"\"") && !plan.contains("FilterExec"), "{plan}");
    let plan = ask(&service, "explain analyze select count(*) from up").await;
    assert!(plan.contains("samples_read=6"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn formats_of_answers() {
    let service = service();
    let answer = http::respond(&service, "select ts, value, labels from up where job = 'api' order by ts", "*/*").await;
    assert_eq!(answer.content_type, "application/json");
    let found: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        found,
        serde_json::json!({"status": "success", "data": {
            "columns": [
                {"name": "ts", "type": "timestamp with time zone"},
                {"name": "value", "type": "double precision"},
                {"name": "labels", "type": "jsonb"},
            ],
            "rows": [
                ["2026-11-21T07:59:30.000Z", 1, {"instance": "a:80", "job": "api"}],
                ["2026-11-21T08:00:00.000Z", 0, {"instance": "a:80", "job": "api"}],
            ],
        }})
    );
    let answer = http::respond(&service, "select value, value from up", "application/vnd.apache.arrow.stream").await;
    let reader = arrow::ipc::reader::StreamReader::try_new(std::io::Cursor::new(answer.body), None).unwrap();
    let batches: Vec<_> = reader.map(|batch| batch.unwrap()).collect();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 5);
    assert_eq!(batches[0].schema().field(1).name(), "value");
    assert_eq!(http::respond(&service, "select 1", "image/png").await.status, 406);
}

#[tokio::test(flavor = "multi_thread")]
async fn promql_is_a_table() {
    let service = service();
    for (sql, expected) in [
        (
            "select ts, job, value from promql('sum by (job) (up)') order by job",
            "ts,job,value\n2026-11-21 08:00:00+00,api,0\n2026-11-21 08:00:00+00,web,1",
        ),
        (
            "select * from promql('up{job=\"web\"}')",
            "ts,value,metric,instance,job,labels\n2026-11-21 08:00:00+00,1,up,c:80,web,\"{\"\"instance\"\":\"\"c:80\"\",\"\"job\"\":\"\"web\"\"}\"",
        ),
        (
            "select count(*), min(ts), max(ts) from promql('rate(http_requests_total{code=\"200\"}[5m])', now() - interval '30 minutes', now(), '1m')",
            "count,min,max\n31,2026-11-21 07:30:00+00,2026-11-21 08:00:00+00",
        ),
        ("select count(*) from promql('1', 1795240000, 1795240060, 15)", "count\n5"),
        ("select count(*) from promql('up', '2026-11-21T07:59:45Z')", "count\n1"),
        // No data: the columns that the query names are there all the same.
        ("select job, value from promql('sum by (job) (nothing_like_it)')", "job,value"),
        (
            "select p.job, m.type from promql('sum by (job) (up)') p join metrics m on m.metric = 'http_requests_total' order by 1",
            "job,type\napi,counter\nweb,counter",
        ),
        ("select value from promql('latency')", "value\n"),
    ] {
        assert_eq!(ask(&service, sql).await, expected.trim_end(), "{sql}");
    }
    for (sql, state) in [
        ("select * from promql('sum(')", "42601"),
        ("select * from promql()", "22023"),
        ("select * from promql('up', 'soon')", "22023"),
        ("select * from promql('up', now(), now() - interval '1 hour', '1m')", "22023"),
        ("select * from promql('up', 0, 1795240000, 1)", "22023"),
        ("select * from promql('\"text\"')", "22023"),
        ("select * from promql('up + on() up')", "22000"),
    ] {
        let found = ask(&service, sql).await;
        assert!(found.starts_with(state), "{sql}: {found}");
    }
}
