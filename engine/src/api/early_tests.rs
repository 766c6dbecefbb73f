//! What is answered while the write-ahead log is being read.

use std::path::Path;
use std::sync::Arc;

use pilaster_model::Labels;
use pilaster_promql::{Engine, EngineOptions};
use pilaster_storage::env::sim::Sim;
use pilaster_storage::{Sample, Store, StoreOptions};
use serde_json::Value;

use crate::app::{App, Early, Replay, Setup};
use crate::config::Config;
use crate::flags::{Command, parse};

const HOUR_MS: i64 = 3_600_000;

/// A server over a store whose log is read only as far as its first segment. Blocks have the first two hours of a
/// metric, the log the third.
async fn reading_its_log() -> (Arc<App>, String) {
    let sim = Sim::new(1);
    let options = StoreOptions::new("/data");
    let store = Store::open(options.clone(), sim.env()).unwrap();
    let append = |from_ms: i64| {
        let series = store.series(&Labels::from_pairs([("__name__", "up"), ("job", "a")]));
        let sample = |n: i64| Sample { series, timestamp_ms: from_ms + n * 60_000, value: 1.0, start_ms: None };
        assert_eq!(store.append(&(0..60).map(sample).collect::<Vec<_>>()).unwrap().appended, 60);
    };
    append(0);
    append(HOUR_MS);
    store.flush().unwrap();
    append(2 * HOUR_MS);
    drop(store);

    let Ok(Command::Serve(flags)) = parse(&[]) else { panic!("no flags are fine") };
    let app = Arc::new(App::new(Setup {
        thread_rests: || {},
        flags: *flags,
        config: Config::parse("", Path::new("/p.yml")).unwrap(),
        external_url: String::new(),
        prefix: String::new(),
        cors: regex::Regex::new(".*").unwrap(),
        queries: tokio::runtime::Handle::current(),
        control: tokio::sync::mpsc::unbounded_channel().0,
    }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let routes = super::router(&app);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    assert_eq!(ask(&url, "/api/v1/query?query=up&time=60").await.0, 503, "not even blocks");

    let engine = Arc::new(Engine::new(EngineOptions::default()));
    let early = |blocks| app.answer_early(Early { engine: engine.clone(), blocks });
    app.set_replay(Replay { min: 0, max: 7, current: 1 });
    // The rest of it is dropped: the test stays in the moment before.
    Store::open_with_progress(options, sim.env(), &|_| {}, &early).unwrap();
    (app, url)
}

async fn ask(url: &str, path: &str) -> (u16, Value) {
    let answer = reqwest::get(format!("{url}{path}")).await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or(Value::Null))
}

const MISSING: &str =
    "the write-ahead log is being read (1 of 7 segments): samples that are not in blocks yet are missing";

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_asked_while_the_log_is_read() {
    let (app, url) = reading_its_log().await;
    let warning = format!("incomplete: {MISSING}");
    for (path, results) in [
        ("/api/v1/query?query=up&time=3600", Some(1)),
        ("/api/v1/query?query=sum_over_time(up[1h]+offset+90m)&time=9000", Some(1)),
        ("/api/v1/query?query=nothing&time=3600", Some(0)),
        // As far as blocks go.
        ("/api/v1/query_range?query=up&start=0&end=10800&step=60", Some(1)),
        ("/api/v1/labels", None),
        ("/api/v1/label/job/values", None),
        ("/api/v1/series?match[]=up&start=0&end=9000", None),
    ] {
        let (status, answer) = ask(&url, path).await;
        assert_eq!((status, answer["status"].as_str()), (200, Some("success")), "{path}: {answer}");
        assert_eq!(answer["warnings"], serde_json::json!([warning]), "{path}: {answer}");
        let found = results.map_or(answer["data"].as_array(), |_| answer["data"]["result"].as_array()).map(Vec::len);
        assert_eq!(found, Some(results.unwrap_or(found.unwrap_or(0).max(1))), "{path}: {answer}");
    }
    let (_, answer) = ask(&url, "/api/v1/query_range?query=up&start=0&end=10800&step=60").await;
    let values = answer["data"]["result"][0]["values"].as_array().unwrap();
    assert_eq!(values.last().unwrap()[0], 2 * 3600 + 3 * 60, "the last sample and its lookback: {answer}");

    // Nothing there is in blocks: an empty answer would say that nothing was.
    for path in [
        "/api/v1/query?query=up&time=9000",
        "/api/v1/query?query=absent(up)&time=9000",
        "/api/v1/query?query=up+-+up+offset+1h&time=9000",
        "/api/v1/query_range?query=up&start=8000&end=10800&step=60",
        "/api/v1/series?match[]=up&start=8000&end=9000",
        "/api/v1/labels?start=8000",
    ] {
        let (status, answer) = ask(&url, path).await;
        let expected = serde_json::json!({"status": "error", "errorType": "unavailable", "error": MISSING});
        assert_eq!((status, answer), (503, expected), "{path}");
    }
    for path in ["/-/ready", "/federate?match[]=up", "/api/v1/targets", "/api/v1/status/tsdb", "/api/v1/sql?query=x"] {
        assert_eq!(ask(&url, path).await.0, 503, "{path}");
    }
    let (status, answer) = ask(&url, "/api/v1/query?query=1").await;
    assert_eq!((status, answer.get("warnings")), (200, None), "{answer}");
    app.begin_stop();
    assert_eq!(ask(&url, "/api/v1/query?query=up&time=3600").await.0, 503);
}
