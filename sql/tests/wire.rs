//! The Postgres wire, driven by a client library.

mod memory;

use std::sync::Arc;
use std::time::{Duration, Instant};

use pilaster_sql::{SqlOptions, pg};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

struct TestServer {
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

async fn start(options: SqlOptions) -> TestServer {
    let service = memory::service_over(memory::small(), options);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(pg::serve(service, listener, async {
        let _ = stopped.await;
    }));
    TestServer { port, stop: Some(stop), task }
}

impl TestServer {
    async fn connect(&self) -> Client {
        let config = format!("host=127.0.0.1 port={} user=tester dbname=metrics", self.port);
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        tokio::spawn(async move {
            let _ = connection.await;
        });
        client
    }
}

fn state(error: &tokio_postgres::Error) -> String {
    error.code().map_or_else(|| format!("no state: {error}"), |code| code.code().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_statements_in_binary() {
    let server = start(SqlOptions::default()).await;
    let client = server.connect().await;
    let statement = client
        .prepare("select ts, value, job, labels, 1::int4 as n, true as yes from up where job = $1 and value >= $2 order by ts limit $3")
        .await
        .unwrap();
    assert_eq!(statement.params(), [Type::TEXT, Type::FLOAT8, Type::INT8]);
    let types: Vec<&Type> = statement.columns().iter().map(|column| column.type_()).collect();
    assert_eq!(types, [&Type::TIMESTAMPTZ, &Type::FLOAT8, &Type::TEXT, &Type::JSONB, &Type::INT4, &Type::BOOL]);
    let rows = client.query(&statement, &[&"web", &1.0f64, &2i64]).await.unwrap();
    assert_eq!(rows.len(), 2);
    let at: std::time::SystemTime = rows[0].get(0);
    assert_eq!(at.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64, memory::NOW_MS - 30_000);
    assert_eq!(rows[0].get::<_, f64>(1), 1.0);
    assert_eq!(rows[0].get::<_, &str>(2), "web");
    assert_eq!(rows[0].get::<_, i32>(4), 1);
    assert!(rows[0].get::<_, bool>(5));
    // The same statement again, with other values and NULL.
    assert_eq!(client.query(&statement, &[&"api", &0.5f64, &9i64]).await.unwrap().len(), 1);
    assert_eq!(client.query(&statement, &[&None::<&str>, &0.5f64, &9i64]).await.unwrap().len(), 0);

    let since = std::time::UNIX_EPOCH + Duration::from_millis(memory::NOW_MS as u64 - 60_000);
    let row = client
        .query_one(
            "select count(*), array_agg(code) from http_requests_total where ts > $1 and code = any($2)",
            &[&since, &vec!["200", "404"]],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 4);
    assert_eq!(row.get::<_, Vec<String>>(1), vec!["200"; 4]);
    let row = client
        .query_one(
            "select value from promql('sum(up)', now() - interval '1 minute', now(), '30s') order by ts desc limit 1",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, f64>(0), 1.0);
    let row = client
        .query_one(
            "select 9223372036854775807::int8, '-1.5'::float8, 'NaN'::float8, date '2026-11-21', interval '1 day 2 hours', \
             12.5::numeric(10,2), null::text, 2::int2, now()::timestamp",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), i64::MAX);
    assert_eq!(row.get::<_, f64>(1), -1.5);
    assert!(row.get::<_, f64>(2).is_nan());
    assert_eq!(row.get::<_, Option<&str>>(6), None);
    assert_eq!(row.get::<_, i16>(7), 2);
    let _: std::time::SystemTime = row.get(8);
    assert_eq!(row.columns()[3].type_(), &Type::DATE);
    assert_eq!(row.columns()[4].type_(), &Type::INTERVAL);
    assert_eq!(row.columns()[5].type_(), &Type::NUMERIC);
    let error = client.query("select $1::int4", &[&"x"]).await.unwrap_err();
    assert!(error.to_string().contains("serializing"), "the client knows that $1 is an integer: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn simple_queries_and_transactions() {
    let server = start(SqlOptions::default()).await;
    let client = server.connect().await;
    let messages = client.simple_query("-- ping").await.unwrap();
    assert!(messages.iter().all(|message| !matches!(message, SimpleQueryMessage::Row(_))));
    let messages = client
        .simple_query("begin; set local statement_timeout to '5s'; select 1 as a; commit; show statement_timeout")
        .await
        .unwrap();
    let values: Vec<&str> = messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        })
        .collect();
    assert_eq!(values, ["1", "0"]);
    for (sql, expected) in [
        ("insert into up values (1)", "25006"),
        ("select nope from up", "42703"),
        ("set datafusion.execution.batch_size = 1", "42501"),
        ("set time zone 'Nowhere'", "ok"),
        ("declare c cursor for select 1", "25P01"),
        ("execute nothing", "26000"),
        ("fetch 1 from nothing", "34000"),
        ("copy up from stdin", "25006"),
        ("select * from pg_catalog.pg_authid", "ok"),
        ("prepare p as select job from up where value = $1", "ok"),
        ("execute p(1)", "ok"),
        ("deallocate p", "ok"),
        ("discard all", "ok"),
    ] {
        match client.batch_execute(sql).await {
            Ok(()) => assert_eq!(expected, "ok", "{sql}"),
            Err(error) => assert_eq!(state(&error), expected, "{sql}: {error:?}"),
        }
    }
    client.batch_execute("begin").await.unwrap();
    assert_eq!(state(&client.batch_execute("select 1/0").await.unwrap_err()), "22012");
    assert_eq!(state(&client.batch_execute("select 1").await.unwrap_err()), "25P02");
    client.batch_execute("rollback; select 1").await.unwrap();

    client
        .batch_execute("begin; declare c cursor for select generate_series from generate_series(1, 10)")
        .await
        .unwrap();
    let fetched = |count: usize| {
        let client = &client;
        async move {
            let messages = client.simple_query(&format!("fetch {count} from c")).await.unwrap();
            messages.iter().filter(|message| matches!(message, SimpleQueryMessage::Row(_))).count()
        }
    };
    assert_eq!((fetched(3).await, fetched(3).await, fetched(9).await, fetched(1).await), (3, 3, 4, 0));
    client.batch_execute("close c; commit").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn portals_stop_and_go() {
    let server = start(SqlOptions::default()).await;
    let mut client = server.connect().await;
    let transaction = client.transaction().await.unwrap();
    let statement = transaction.prepare("select * from generate_series(1, 25000)").await.unwrap();
    let portal = transaction.bind(&statement, &[]).await.unwrap();
    let mut counts = Vec::new();
    loop {
        let rows = transaction.query_portal(&portal, 10_000).await.unwrap();
        if rows.is_empty() {
            break;
        }
        counts.push(rows.len());
    }
    assert_eq!(counts, [10_000, 10_000, 5_000]);
    transaction.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_to_stdout() {
    use futures::TryStreamExt;
    let server = start(SqlOptions::default()).await;
    let client = server.connect().await;
    let read = |sql: &'static str| {
        let client = &client;
        async move {
            let stream = client.copy_out(sql).await.unwrap();
            let parts: Vec<bytes::Bytes> = stream.try_collect().await.unwrap();
            parts.concat()
        }
    };
    assert_eq!(
        read("copy (select job, value, null::text as n, 'a\tb' as t from up where job = 'web' limit 1) to stdout")
            .await,
        b"web\t1\t\\N\ta\\tb\n"
    );
    assert_eq!(
        read("copy (select job, 'x,\"y' as q from up where job = 'web' limit 1) to stdout with (format csv, header)")
            .await,
        b"job,q\nweb,\"x,\"\"y\"\n"
    );
    let binary = read("copy (select 1::int8 as one) to stdout with (format binary)").await;
    assert_eq!(&binary[..11], b"PGCOPY\n\xff\r\n\0");
    assert_eq!(&binary[19..], b"\0\x01\0\0\0\x08\0\0\0\0\0\0\0\x01\xff\xff");
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_are_cancelled_and_time_out() {
    let server = start(SqlOptions::default()).await;
    let client = Arc::new(server.connect().await);
    let endless =
        "select count(*) from generate_series(1, 100000000) a, generate_series(1, 100000000) b where a % 7 = b % 5";
    let started = Instant::now();
    let running = {
        let client = Arc::clone(&client);
        tokio::spawn(async move { client.batch_execute(endless).await })
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    client.cancel_token().cancel_query(NoTls).await.unwrap();
    let error = running.await.unwrap().unwrap_err();
    assert_eq!(state(&error), "57014", "{error}");
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    client.batch_execute("set statement_timeout = 300").await.unwrap();
    let started = Instant::now();
    let error = client.batch_execute(endless).await.unwrap_err();
    assert_eq!(state(&error), "57014", "{error}");
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    // A cancel that comes too late hits nothing, and the session goes on.
    client.cancel_token().cancel_query(NoTls).await.unwrap();
    client.batch_execute("reset statement_timeout; select 1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_limited_and_told_of_shutdown() {
    let mut server = start(SqlOptions { max_connections: 2, ..SqlOptions::default() }).await;
    let first = server.connect().await;
    let _second = server.connect().await;
    let config = format!("host=127.0.0.1 port={} user=tester", server.port);
    let error = tokio_postgres::connect(&config, NoTls).await.err().unwrap();
    assert_eq!(state(&error), "53300");
    server.stop.take().unwrap().send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), &mut server.task).await.unwrap().unwrap();
    assert!(first.batch_execute("select 1").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_messages_end_only_their_connection() {
    let server = start(SqlOptions::default()).await;
    for bytes in [
        b"\0\0\0\x08\x04\xd2\x16\x2f".as_slice(),
        b"\xff\xff\xff\xff",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\x09\0\x03\0\0\0",
    ] {
        let mut socket = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        let mut answer = vec![0; 64];
        let _ = tokio::time::timeout(Duration::from_millis(300), socket.read(&mut answer)).await;
    }
    // A whole startup, then a Bind whose counts lie.
    let mut socket = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    socket.write_all(b"\0\0\0\x10\0\x03\0\0user\0x\0\0").await.unwrap();
    socket.write_all(b"B\0\0\0\x0a\0\0\x7f\xff\0\0").await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(answer.windows(5).any(|window| window == b"08P01"));
    server.connect().await.batch_execute("select 1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn encryption_is_declined() {
    let server = start(SqlOptions::default()).await;
    let mut socket = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    socket.write_all(b"\0\0\0\x08\x04\xd2\x16\x2f").await.unwrap();
    let mut answer = [0; 1];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"N");
}
