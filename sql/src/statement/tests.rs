use super::*;

fn check(sql: &str) -> String {
    match parse(sql, &GateLimits::default()) {
        Err(error) => error.sqlstate.to_owned(),
        Ok(commands) => {
            let text = format!("{:?}", commands.first());
            text.chars().skip(5).take_while(|character| character.is_alphanumeric()).collect()
        }
    }
}

#[test]
fn writing_is_refused_as_in_a_read_only_transaction() {
    for sql in [
        "insert into up values (1)",
        "update up set value = 1",
        "delete from up",
        "merge into a using b on a.x = b.x when matched then delete",
        "truncate up",
        "create table t (x int)",
        "create external table t stored as csv location '/etc/passwd'",
        "create view v as select 1",
        "create function f() returns int language sql as 'select 1'",
        "create schema s",
        "drop table up",
        "alter table up add column x int",
        "select * into t from up",
        "with x as (insert into up values (1) returning *) select * from x",
        "explain analyze insert into up values (1)",
        "prepare p as delete from up",
        "select * from up for update",
        "copy up from stdin",
        "grant all on up to x",
        "vacuum",
    ] {
        let found = check(sql);
        assert!(found == "25006" || (found == "42601" && sql.contains("external")), "{sql}: {found}");
    }
    assert_eq!(check("copy up to '/tmp/x'"), "42501");
    assert_eq!(check("copy (select 1) to program 'sh'"), "42501");
    assert_eq!(check("load 'x'"), "0A000");
    assert_eq!(check("set role postgres"), "42501");
    assert_eq!(check("call f()"), "0A000");
}

#[test]
fn what_clients_send_is_understood() {
    for (sql, command) in [
        ("select 1", "Rows"),
        ("values (1)", "Rows"),
        ("explain (analyze, verbose) select 1", "Rows"),
        ("describe up", "Rows"),
        ("show tables", "Rows"),
        ("show transaction isolation level", "Show"),
        ("show all", "ShowAll"),
        ("set extra_float_digits = 3", "Set"),
        ("set local statement_timeout to '1s'", "Set"),
        ("set time zone 'UTC'", "Set"),
        ("set session characteristics as transaction read only", "NoEffect"),
        ("set transaction isolation level repeatable read", "NoEffect"),
        ("reset all", "Reset"),
        ("begin", "Begin"),
        ("begin read only", "Begin"),
        ("start transaction isolation level serializable", "Begin"),
        ("commit", "Commit"),
        ("end", "Commit"),
        ("rollback", "Rollback"),
        ("abort", "Rollback"),
        ("savepoint a", "Savepoint"),
        ("release savepoint a", "ReleaseSavepoint"),
        ("rollback to savepoint a", "RollbackToSavepoint"),
        ("discard all", "Discard"),
        ("deallocate all", "Deallocate"),
        ("prepare p (int) as select $1", "Prepare"),
        ("execute p (1)", "Execute"),
        ("declare c cursor for select 1", "DeclareCursor"),
        ("declare \"c\" no scroll cursor with hold for select 1", "DeclareCursor"),
        ("fetch forward 10 from c", "Fetch"),
        ("fetch all from c", "Fetch"),
        ("close c", "CloseCursor"),
        ("copy (select 1) to stdout with (format csv, header)", "Copy"),
        ("copy up to stdout", "Copy"),
        ("unlisten *", "NoEffect"),
    ] {
        assert_eq!(check(sql), command, "{sql}");
    }
    assert_eq!(check("selec 1"), "42601");
    assert_eq!(check("select $0"), "42601");
}
