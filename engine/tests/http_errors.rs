//! What the API says to requests that make no sense: status, type and text are Prometheus's.

mod server;

use server::Pilaster;

/// Requests with their status and error; the type follows from the status.
const REFUSED: &[(&str, u16, &str)] = &[
    ("query", 400, "invalid parameter \"query\": unknown position: parse error: no expression found in input"),
    (
        "query?query=up&time=x",
        400,
        "invalid parameter \"time\": invalid time value for 'time': cannot parse \"x\" to a valid timestamp",
    ),
    ("query?query=up&timeout=x", 400, "invalid parameter \"timeout\": cannot parse \"x\" to a valid duration"),
    ("query?query=up&limit=-1", 400, "invalid parameter \"limit\": limit must be non-negative"),
    ("query?query=up&limit=x", 400, "invalid parameter \"limit\": strconv.Atoi: parsing \"x\": invalid syntax"),
    ("query?query=up(", 400, "invalid parameter \"query\": 1:4: parse error: unclosed left parenthesis"),
    (
        "query?query=rate(up)",
        400,
        "invalid parameter \"query\": 1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
    ),
    (
        "query?query=nofunction(up)",
        400,
        "invalid parameter \"query\": 1:1: parse error: unknown function with name \"nofunction\"",
    ),
    (
        "query?query=sum(up)by",
        400,
        "invalid parameter \"query\": 1:10: parse error: unexpected end of input in grouping opts, expected \"(\"",
    ),
    (
        "query?query={}",
        400,
        "invalid parameter \"query\": 1:1: parse error: vector selector must contain at least one non-empty matcher",
    ),
    (
        "query?query=up&lookback_delta=x",
        400,
        "error parsing lookback delta duration: cannot parse \"x\" to a valid duration",
    ),
    (
        "query?query=vector(1)%2Bon()group_left()(vector(2)%20or%20label_replace(vector(1),%22a%22,%22b%22,%22%22,%22%22))",
        422,
        "found duplicate series for the match group {} on the right hand-side of the operation: [{a=\"b\"}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
    ),
    ("query_range?query=up", 400, "invalid parameter \"start\": cannot parse \"\" to a valid timestamp"),
    ("query_range?query=up&start=0&end=x", 400, "invalid parameter \"end\": cannot parse \"x\" to a valid timestamp"),
    (
        "query_range?query=up&start=10&end=5&step=1",
        400,
        "invalid parameter \"end\": end timestamp must not be before start time",
    ),
    (
        "query_range?query=up&start=0&end=5&step=0",
        400,
        "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
    ),
    ("query_range?query=up&start=0&end=5", 400, "invalid parameter \"step\": cannot parse \"\" to a valid duration"),
    (
        "query_range?query=up&start=0&end=11001&step=1",
        400,
        "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
    ),
    (
        "query_range?query=up[1m]&start=0&end=11&step=1",
        400,
        "invalid parameter \"query\": invalid expression type \"range vector\" for range query, must be Scalar or instant Vector",
    ),
    (
        "query_range?query=up&start=1&end=2&step=0.0001",
        400,
        "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
    ),
    (
        "query_range?query=up&start=1&end=2&step=NaN",
        400,
        "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
    ),
    (
        "query?query=up;a=b",
        400,
        "invalid parameter \"query\": unknown position: parse error: no expression found in input",
    ),
    (
        "query?query=label_join(up,%22%5Cxff%22,%22-%22)",
        422,
        "invalid destination label name in label_join(): \u{fffd}",
    ),
    ("query_exemplars?query=up(", 400, "1:4: parse error: unclosed left parenthesis"),
    ("query_exemplars?query=up&start=2&end=1", 400, "end timestamp must not be before start timestamp"),
    ("series", 400, "no match[] parameter provided"),
    ("series?match[]={}", 400, "invalid parameter \"match[]\": match[] must contain at least one non-empty matcher"),
    ("series?match[]=a(", 400, "invalid parameter \"match[]\": 1:2: parse error: unexpected \"(\""),
    (
        "series?match[]=up&start=x",
        400,
        "invalid parameter \"start\": invalid time value for 'start': cannot parse \"x\" to a valid timestamp",
    ),
    ("labels?match[]=a(", 400, "1:2: parse error: unexpected \"(\""),
    ("label/__name__/values?match[]={}", 400, "match[] must contain at least one non-empty matcher"),
    ("label/%FF/values", 400, "invalid label name: \"\\xff\""),
    ("metadata?limit=x", 400, "limit must be a number"),
    ("status/tsdb?limit=0", 400, "limit must be a positive number"),
    ("format_query?query=up(", 400, "invalid parameter \"query\": 1:4: parse error: unclosed left parenthesis"),
    ("parse_query", 400, "invalid parameter \"query\": unknown position: parse error: no expression found in input"),
];

#[test]
fn refusals_are_prometheus_s() {
    let dir = tempfile::tempdir().unwrap();
    let server = Pilaster::start(&dir.path().join("data"), &["--web.page-title=<x>"]);
    let mut wrong = Vec::new();
    for (request, status, error) in REFUSED {
        let kind = if *status == 400 { "bad_data" } else { "execution" };
        let expected = serde_json::json!({ "status": "error", "errorType": kind, "error": error });
        let (got_status, body) = server.get(&format!("/api/v1/{request}"));
        let got = serde_json::from_str(&body).unwrap_or(serde_json::Value::String(body));
        if (got_status, &got) != (*status, &expected) {
            wrong.push(format!("{request}\n  expected {status} {expected}\n  got      {got_status} {got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    for (path, status, body) in [
        ("/api/v1/query_exemplars?query=1", 204, ""),
        (
            "/api/v1/query?query=1&timeout=0",
            503,
            r#"{"status":"error","errorType":"timeout","error":"query timed out in query execution"}"#,
        ),
        ("/nothing", 404, "404 page not found\n"),
        ("/api/v1/nothing", 404, "404 page not found\n"),
        ("/-/reload", 403, "Lifecycle API is not enabled."),
        ("/-/healthy", 200, "Prometheus Server is Healthy.\n"),
        ("/-/ready", 200, "Prometheus Server is Ready.\n"),
        ("/federate?match[]=up(", 400, "1:3: parse error: unexpected \"(\"\n"),
        ("/api/v1/write", 405, "Method Not Allowed\n"),
    ] {
        assert_eq!(server.get(path), (status, body.to_owned()), "{path}");
    }
    let (status, text) = server.post("/api/v1/write", "application/x-protobuf", Vec::new());
    assert_eq!(status, 404);
    assert_eq!(text, "remote write receiver needs to be enabled with --web.enable-remote-write-receiver\n");
    let (status, page) = server.get("/query");
    assert!(status == 200 && page.contains("<title>&lt;x&gt;</title>"), "{page}");
    for asset in ["page.js", "graph.js", "page.css"] {
        assert!(page.contains(asset) || asset == "graph.js");
        assert_eq!(server.get(&format!("/assets/{asset}")).0, 200, "{asset}");
    }
    assert_eq!(server.stop(), Some(0));
}

/// Command lines and files that cannot be used end the program with a reason.
#[test]
fn what_cannot_start_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let bad = dir.path().join("bad.yml");
    std::fs::write(&bad, "global:\n  scrape_intervall: 5s\n").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let data = format!("--storage.tsdb.path={}", dir.path().join("d").display());
    for (flags, code, reason) in [
        (vec!["--no-such-flag".to_owned()], 2, "unknown long flag '--no-such-flag'".to_owned()),
        (vec!["--web.config.file=w.yml".to_owned()], 2, "--web.config.file is not built yet".to_owned()),
        (vec!["--query.timeout=x".to_owned()], 2, "not a valid duration string: \"x\"".to_owned()),
        (
            vec![format!("--config.file={}", bad.display())],
            2,
            "line 2: field scrape_intervall not found in type config.plain".to_owned(),
        ),
        (
            vec![format!("--config.file={}/none.yml", dir.path().display())],
            2,
            "none.yml: no such file or directory".to_owned(),
        ),
        (
            vec![data, format!("--web.listen-address={address}")],
            1,
            format!("listen tcp {address}: Address already in use"),
        ),
    ] {
        let output = std::process::Command::new(server::binary()).args(&flags).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{flags:?}: {text}");
        assert!(text.contains(&reason.replace('"', "\\\"")) || text.contains(&reason), "{flags:?}: {text}");
    }
}
