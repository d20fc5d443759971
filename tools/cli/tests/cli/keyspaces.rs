//! `keyspaces`, and the option `--keyspace` of the other commands.

use crate::{Place, lightning};

#[test]
fn keyspaces_are_created_listed_used_and_dropped() {
    let place = Place::new();
    let db = place.database("k,v\n1,2\n");
    let listed = |db: &str| lightning(["keyspaces", db]).ends_with(0).text().to_owned();
    assert_eq!(listed(&db), "default\t1\n");
    lightning(["keyspaces", &db, "--create", "users"]).ends_with(0);
    lightning(["keyspaces", &db, "--create", "back\\slash"]).ends_with(0);
    assert_eq!(listed(&db), "default\t1\nback\\\\slash\t3\nusers\t2\n");
    let again = lightning(["keyspaces", &db, "--create", "users"]).ends_with(1);
    assert_eq!(again.err, "lightning: the keyspace \"users\" exists\n");
    lightning(["keyspaces", &db, "--create", "a\nb"]).ends_with(1);
    lightning(["keyspaces", &db, "--create", "a", "--drop", "users"]).ends_with(2);

    let users = ["--keyspace", "users"];
    let with = |command: &[&str]| lightning(command.iter().copied().chain(users));
    with(&["put", &db, "1", "Ada"]).ends_with(0);
    assert_eq!(with(&["get", &db, "1"]).ends_with(0).out, b"Ada");
    assert_eq!(with(&["scan", &db]).ends_with(0).text(), "1\tAda\n");
    assert_eq!(with(&["count", &db]).ends_with(0).text(), "1\n");
    lightning(["get", &db, "--keyspace", "users", "2"]).ends_with(1);
    let default = lightning(["get", &db, "1"]).ends_with(0);
    assert_eq!(default.text(), r#"{"k":"1","v":"2"}"#);
    with(&["delete", &db, "1"]).ends_with(0);
    assert_eq!(with(&["count", &db]).ends_with(0).text(), "0\n");

    lightning(["keyspaces", &db, "--drop", "users"]).ends_with(0);
    let missing = with(&["count", &db]).ends_with(1);
    assert_eq!(missing.err, "lightning: there is no keyspace \"users\"\n");
    lightning(["keyspaces", &db, "--drop", "users"]).ends_with(1);
    assert_eq!(listed(&db), "default\t1\nback\\\\slash\t3\n");
    assert_eq!(lightning(["count", &db]).ends_with(0).text(), "1\n");
}

#[test]
fn an_import_goes_to_the_keyspace_that_it_is_told() {
    let place = Place::new();
    let file = place.file("users.csv", "id,name\n1,Ada\n2,Grace\n");
    let db = place.path("db");
    let import = ["import", &db, &file, "--key", "id", "--keyspace", "users"];
    for _ in 0..2 {
        lightning(import).ends_with(0);
        let counted = lightning(["count", &db, "--keyspace", "users"]).ends_with(0);
        assert_eq!(counted.text(), "2\n");
    }
    assert_eq!(lightning(["count", &db]).ends_with(0).text(), "0\n");
}

#[test]
fn options_are_kept_and_listed_and_values_expire() {
    let place = Place::new();
    let db = place.database("k,v\n1,2\n");
    let create = |name: &str, options: &[&str]| {
        let command = ["keyspaces", &db, "--create", name];
        lightning(command.into_iter().chain(options.iter().copied()))
    };
    create("short", &["--ttl", "1ms"]).ends_with(0);
    create("long", &["--ttl", "24h", "--merge-operator", "add-u64"]).ends_with(0);
    create("bad", &["--ttl", "0s"]).ends_with(1);
    create("bad", &["--ttl", "soon"]).ends_with(2);
    create("bad", &["--merge-operator", "mine"]).ends_with(1);
    lightning(["keyspaces", &db, "--ttl", "1s"]).ends_with(2);
    let listed = lightning(["keyspaces", &db]).ends_with(0);
    assert_eq!(
        listed.text(),
        "default\t1\nlong\t3\tttl=1d\tmerge-operator=add-u64\nshort\t2\tttl=1ms\n"
    );
    // Each command opens the database anew, which takes longer than that.
    lightning(["put", &db, "--keyspace", "short", "k", "v"]).ends_with(0);
    lightning(["get", &db, "--keyspace", "short", "k"]).ends_with(1);
    lightning(["put", &db, "gone", "v", "--ttl", "1ms"]).ends_with(0);
    lightning(["put", &db, "there", "v", "--ttl", "7d"]).ends_with(0);
    let keys = lightning(["scan", &db, "--keys"]).ends_with(0);
    assert_eq!(keys.text(), "1\nthere\n");
}
