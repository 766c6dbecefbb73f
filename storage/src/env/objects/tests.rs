//! Every kind of object store does what the trait says, and the simulated one is as cruel as it claims.

use std::path::Path;

use super::super::Env;
use super::super::sim::{Fault, FaultKind, Sim};
use super::sim::{Bucket, BucketFault, BucketFaultKind};
use super::*;

fn open(url: &str) -> Arc<dyn Objects> {
    open_url(url, &[], Env::real().files).unwrap()
}

fn check(objects: &dyn Objects) {
    let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
    let name = "samples/date=2026-11-20/a.parquet";
    assert!(matches!(objects.get(name, None), Err(ObjectError::NotFound { .. })));
    assert!(objects.list("samples").unwrap().is_empty());

    let first = objects.put(name, bytes("0123456789"), Put::Absent).unwrap();
    assert!(matches!(objects.put(name, bytes("x"), Put::Absent), Err(ObjectError::Conflict { .. })));
    let (content, version) = objects.get(name, None).unwrap().unwrap();
    assert_eq!((content, &version), (bytes("0123456789"), &first));
    assert_eq!(objects.get(name, Some(&version)).unwrap(), None);
    assert_eq!(objects.get_ranges(name, &[2..4, 7..10]).unwrap(), [bytes("23"), bytes("789")]);
    let beyond = 7..11;
    assert!(objects.get_ranges(name, std::slice::from_ref(&beyond)).is_err());

    let second = objects.put(name, bytes("another"), Put::Unchanged(&first)).unwrap();
    assert!(matches!(objects.put(name, bytes("lost"), Put::Unchanged(&first)), Err(ObjectError::Conflict { .. })));
    assert_eq!(objects.get(name, Some(&first)).unwrap().unwrap(), (bytes("another"), second));
    let gone = objects.put("samples/b", bytes("b"), Put::Always).unwrap();
    objects.put("manifest.jsonl", bytes("m"), Put::Always).unwrap();
    let names: Vec<(String, u64)> = objects.list("samples").unwrap().into_iter().map(|o| (o.name, o.bytes)).collect();
    assert_eq!(names, [("samples/b".to_owned(), 1), (name.to_owned(), 7)]);

    objects.remove(&[name.to_owned(), "samples/never".to_owned(), "samples/b".to_owned()]).unwrap();
    assert!(objects.list("samples").unwrap().is_empty());
    assert!(matches!(objects.put("samples/b", bytes("c"), Put::Unchanged(&gone)), Err(ObjectError::Conflict { .. })));
}

#[test]
fn all_stores_do_the_same() {
    let dir = tempfile::tempdir().unwrap();
    check(&*open(&format!("file://{}/deep/er", dir.path().display())));
    check(&*open("memory:///"));
    check(&*open("memory:///some/prefix"));
    check(&*Bucket::new().seen_from(&Sim::new(1), "a"));
}

#[test]
fn a_long_object_is_put_in_parts() {
    let objects = open("memory:///");
    let bytes: Bytes = (0..40 << 20).map(|at| (at % 251) as u8).collect::<Vec<_>>().into();
    objects.put("long", bytes.clone(), Put::Always).unwrap();
    assert_eq!(objects.get("long", None).unwrap().unwrap().0, bytes);
}

#[test]
fn requests_are_made_from_inside_of_any_runtime() {
    let objects = open("memory:///");
    objects.put("a", Bytes::from_static(b"a"), Put::Always).unwrap();
    for mut builder in [tokio::runtime::Builder::new_current_thread(), tokio::runtime::Builder::new_multi_thread()] {
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let inside = objects.clone();
        runtime.block_on(async { inside.get("a", None).unwrap() });
        let inside = objects.clone();
        runtime.block_on(runtime.spawn(async move { inside.get("a", None).unwrap() })).unwrap();
        // Dropping the last handle in there does no harm either.
        let last = open("memory:///");
        runtime.block_on(async move { drop(last) });
    }
}

#[test]
fn mistakes_in_urls_and_options_are_told_without_values() {
    let files = Env::real().files;
    for (url, option, said) in [
        ("bucket", None, "is no URL"),
        ("ftp://host/x", None, "ftp:// is none of"),
        ("file:///x", Some("region"), "takes no option \"region\""),
        ("s3://bucket/x", Some("regoin"), "an S3 URL takes no option \"regoin\""),
        ("gs://bucket", Some("region"), "takes no option"),
        ("az://container", None, "Account must be specified"),
    ] {
        let options: Vec<_> = option.map(|key| (key.to_owned(), "hidden".to_owned())).into_iter().collect();
        let error = open_url(url, &options, files.clone()).unwrap_err();
        assert!(error.contains(said) && !error.contains("hidden"), "{url}: {error}");
    }
    let options = [("region", "us-east-1"), ("allow_http", "true"), ("endpoint", "http://127.0.0.1:1")];
    let options = options.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(open_url("s3://user:pass@bucket/x", &options, files).unwrap().place(), "s3://user@bucket/x");
}

#[test]
fn all_clouds_are_known() {
    for (url, options, place) in [
        (
            "s3://bucket/x",
            vec![("region", "eu-west-1"), ("access_key_id", "a"), ("secret_access_key", "b")],
            "s3://bucket/x",
        ),
        ("gs://bucket/x", vec![("skip_signature", "true")], "gs://bucket/x"),
        ("az://container/x", vec![("account_name", "a"), ("account_key", "YWJj")], "az://container/x"),
        ("abfss://c@a.dfs.core.windows.net/x", vec![("account_key", "YWJj")], "abfss://c@a.dfs.core.windows.net/x"),
    ] {
        let options: Vec<_> = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let opened = open_url(url, &options, Env::real().files).unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(opened.place(), place);
    }
}

#[test]
fn the_environment_knows_credentials_of_its_kind_of_store() {
    let variables =
        [("AWS_REGION", "r"), ("AWS_ACCESS_KEY_ID", "k"), ("AWS_PAGER", "less"), ("GOOGLE_BUCKET", "g"), ("PATH", "p")];
    let of = |url: &str| {
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        credentials(url, variables.into_iter()).into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(of("s3://b"), ["aws_access_key_id", "aws_region"]);
    assert_eq!(of("gs://b"), ["google_bucket"]);
    assert!(of("file:///x").is_empty() && of("az://c").is_empty());
}

#[test]
fn a_file_store_takes_conditional_puts_of_one_process_at_a_time() {
    let sim = Sim::new(1);
    let (one, other) =
        (files::FileObjects::new(Arc::new(sim.clone()), "/o".into()), sim.lock(Path::new("/o")).unwrap());
    let put = || one.put("m", Bytes::from_static(b"m"), Put::Absent);
    assert!(matches!(put(), Err(ObjectError::Unavailable { .. })));
    drop(other);
    put().unwrap();
}

#[test]
fn the_simulated_store_is_as_cruel_as_it_claims() {
    let (sim, bucket) = (Sim::new(1), Bucket::new());
    let objects = bucket.seen_from(&sim, "p");
    let put = |text: &'static str, condition: Put<'_>| objects.put("o", Bytes::from_static(text.as_bytes()), condition);
    let fault = |kind| bucket.set_fault(Some(BucketFault { at_call: bucket.calls() + 1, kind }));
    let there = || objects.get("o", None).unwrap().map(|(bytes, _)| bytes);

    fault(BucketFaultKind::Error);
    assert!(put("1", Put::Always).is_err());
    assert!(bucket.names().is_empty());
    fault(BucketFaultKind::AnswerLost);
    assert!(put("2", Put::Absent).is_err());
    assert_eq!(there().unwrap(), "2");
    let (_, version) = objects.get("o", None).unwrap().unwrap();
    fault(BucketFaultKind::Late { calls: 2 });
    assert!(put("3", Put::Unchanged(&version)).is_err());
    assert_eq!(there().unwrap(), "2");
    assert_eq!(there().unwrap(), "3");
    fault(BucketFaultKind::Outage);
    assert!(put("4", Put::Always).is_err() && put("4", Put::Always).is_err());
    bucket.set_fault(None);
    bucket.set_careless();
    put("5", Put::Absent).unwrap();

    // The power goes: what was put stays.
    sim.set_fault(Some(Fault { at_call: sim.calls() + 1, kind: FaultKind::PowerCut }));
    assert!(objects.get("o", None).is_err() && objects.get("o", None).is_err());
    sim.crash();
    assert_eq!(there().unwrap(), "5");
}
