//! What is particular about the SQLite store: files, locks, and what other programs see.

use std::path::Path;
use std::sync::Arc;

use convgroups_host::model::{Change, Origin};
use convgroups_host::store::{Commit, CommitOutcome, Skip, Store, StoreErrorKind};
use convgroups_host::{SqliteStore, Version};
use convgroups_tests::user;
use rusqlite::Connection;

fn create(store: &SqliteStore, id: &str, base: u64, group: &str) -> CommitOutcome {
    store.commit(creation(id, base, group)).expect("commits")
}

fn creation(id: &str, base: u64, group: &str) -> Commit {
    let conversation_list = vec!["c2c_bob".to_owned(), "group_42".to_owned()];
    Commit {
        user: user(id),
        base: Version(base),
        changes: vec![Change::GroupCreated { group_name: group.to_owned(), conversation_list }],
        origin: Origin { method: "test".to_owned(), request_id: format!("{id} {base}") },
        keep: 100,
        skip: Skip::default(),
        deadline: None,
    }
}

fn names(store: &SqliteStore, id: &str) -> Vec<String> {
    let groups = store.groups(&user(id)).expect("reads").value.groups;
    groups.into_iter().map(|group| group.name).collect()
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}

#[test]
fn what_was_committed_is_there_after_opening_again() {
    let directory = temporary();
    let path = directory.path().join("store.db");
    for round in 0..5 {
        let store = SqliteStore::open(&path).expect("opens");
        assert_eq!(store.groups(&user("alice")).expect("reads").version, Version(round));
        create(&store, "alice", round, &format!("group {round}"));
    }
    let store = SqliteStore::open_read_only(&path).expect("opens");
    assert_eq!(names(&store, "alice"), ["group 0", "group 1", "group 2", "group 3", "group 4"]);
}

#[test]
fn a_second_host_is_kept_out_until_the_first_has_gone_and_readers_are_not() {
    let directory = temporary();
    let path = directory.path().join("store.db");
    let first = SqliteStore::open(&path).expect("opens");
    create(&first, "alice", 0, "Work");
    let error = SqliteStore::open(&path).expect_err("it is in use");
    assert_eq!(error.kind, StoreErrorKind::Unusable);
    assert!(error.message.contains("in use by another host"), "{error}");

    let reader = SqliteStore::open_read_only(&path).expect("opens beside it");
    assert_eq!(names(&reader, "alice"), ["Work"]);
    create(&first, "alice", 1, "Home");
    assert_eq!(names(&reader, "alice"), ["Work", "Home"]);
    let error = reader.commit(creation("alice", 2, "More")).expect_err("it is for reading");
    assert_eq!(error.kind, StoreErrorKind::Unusable);

    drop(first);
    SqliteStore::open(&path).expect("opens");
}

#[test]
fn the_file_can_be_read_with_plain_sql() {
    let directory = temporary();
    let path = directory.path().join("store.db");
    let store = SqliteStore::open(&path).expect("opens");
    create(&store, "alice", 0, "Work");
    let other = Connection::open_with_flags(&path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).expect("opens");
    let mut rows = other.prepare("SELECT user_id, group_name, conversation_id FROM memberships").expect("a view");
    let rows: Vec<[String; 3]> = rows
        .query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]))
        .expect("runs")
        .map(|row| row.expect("reads"))
        .collect();
    assert_eq!(rows, [["alice", "Work", "c2c_bob"], ["alice", "Work", "group_42"]]);
    let mode: String = other.pragma_query_value(None, "journal_mode", |row| row.get(0)).expect("reads");
    assert_eq!(mode, "wal");
}

#[test]
fn a_commit_that_does_not_fit_does_not_take_those_beside_it_along() {
    let directory = temporary();
    let store = SqliteStore::open(directory.path().join("store.db")).expect("opens");
    for id in 0..64 {
        create(&store, &format!("user {id}"), 0, "Work");
    }
    // All at once, so that fitting and unfitting ones share batches.
    for round in 1..20 {
        std::thread::scope(|scope| {
            for id in 0..64 {
                let store = &store;
                scope.spawn(move || {
                    let fits = id % 3 != 0;
                    let group = if fits { format!("group {round}") } else { "Work".to_owned() };
                    let base = if fits { round } else { 1 };
                    let result = store.commit(creation(&format!("user {id}"), base, &group));
                    assert_eq!(result.is_ok(), fits, "user {id} in round {round}: {result:?}");
                });
            }
        });
    }
    for id in 0..64 {
        let groups = names(&store, &format!("user {id}")).len();
        assert_eq!(groups, if id % 3 == 0 { 1 } else { 20 });
    }
}

#[test]
fn a_backup_made_under_load_is_whole() {
    let directory = temporary();
    let store = Arc::new(SqliteStore::open(directory.path().join("store.db")).expect("opens"));
    let copies = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let store = Arc::clone(&store);
                scope.spawn(move || {
                    for version in 0..60 {
                        create(&store, &format!("user {writer}"), version, &format!("group {version}"));
                    }
                })
            })
            .collect();
        let mut copies = Vec::new();
        while !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) || copies.is_empty() {
            let copy = directory.path().join(format!("copy {}.db", copies.len()));
            store.backup(&copy).expect("copies");
            copies.push(copy);
        }
        copies
    });
    let error = store.backup(&copies[0]).expect_err("it exists");
    assert!(error.message.contains("exists already"), "{error}");
    for copy in copies {
        assert_whole(&copy);
    }
}

/// Whether each user has as many groups and log rows as versions.
fn assert_whole(path: &Path) {
    let copy = SqliteStore::open(path).expect("a copy is a store");
    copy.health().expect("and can be written");
    drop(copy);
    let plain = Connection::open(path).expect("opens");
    let check: String = plain.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("runs");
    assert_eq!(check, "ok");
    let torn: i64 = plain
        .query_row(
            "SELECT count(*) FROM users
             WHERE version <> (SELECT count(*) FROM groups WHERE user = users.id)
                OR version <> (SELECT count(*) FROM log WHERE user = users.id)
                OR 2 * version <> (SELECT count(*) FROM members JOIN groups ON groups.id = group_id WHERE user = users.id)",
            [],
            |row| row.get(0),
        )
        .expect("runs");
    assert_eq!(torn, 0);
}

#[test]
fn a_link_to_a_store_is_the_same_store() {
    let directory = temporary();
    let (path, link) = (directory.path().join("store.db"), directory.path().join("link.db"));
    let store = SqliteStore::open(&path).expect("opens");
    std::os::unix::fs::symlink(&path, &link).expect("links");
    let error = SqliteStore::open(&link).expect_err("it is in use under another name");
    assert!(error.message.contains("in use by another host"), "{error}");
    drop(store);
    SqliteStore::open(&link).expect("opens");
}

#[test]
fn a_commit_that_cannot_be_made_in_time_says_that_its_outcome_is_not_known() {
    let directory = temporary();
    let path = directory.path().join("store.db");
    let store = SqliteStore::open(&path).expect("opens");
    // Somebody else holds on to the file.
    let other = Connection::open(&path).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("locks");
    let deadline = Some(std::time::Instant::now() + std::time::Duration::from_millis(20));
    let error = store.commit(Commit { deadline, ..creation("alice", 0, "Work") }).expect_err("it is late");
    assert_eq!(error.kind, StoreErrorKind::OutcomeUnknown);
    other.execute_batch("ROLLBACK").expect("unlocks");
    // What was asked for is done or not, as a whole; and the store goes on.
    let base = store.groups(&user("bob")).expect("reads").version.0;
    create(&store, "bob", base, "Home");
    assert!(names(&store, "alice").len() <= 1);
}

#[test]
fn a_row_that_makes_no_sense_is_corrupt_for_its_user_and_nobody_else() {
    for version in ["1 << 45", "1 << 43", "-1", "9223372036854775807"] {
        let directory = temporary();
        let path = directory.path().join("store.db");
        let store = SqliteStore::open(&path).expect("opens");
        create(&store, "alice", 0, "Work");
        create(&store, "bob", 0, "Work");
        let sql = format!("UPDATE users SET version = {version} WHERE user_id = 'alice'");
        Connection::open(&path).and_then(|other| other.execute_batch(&sql)).expect("writes");
        let error = store.groups(&user("alice")).expect_err(version);
        assert_eq!(error.kind, StoreErrorKind::Corrupt, "{version}");
        for base in [0, 1, 1 << 43, 1 << 45, u64::MAX] {
            let result = store.commit(creation("alice", base, "Home"));
            assert!(!matches!(result, Ok(CommitOutcome::Committed(_))), "{version} on {base}: {result:?}");
        }
        create(&store, "bob", 1, "Home");
    }
}

#[test]
fn files_that_are_not_stores_are_refused_and_left_as_they_are() {
    let directory = temporary();
    let file = |name: &str| directory.path().join(name);
    std::fs::write(file("text"), "this is no database, and long enough to tell").expect("writes");
    Connection::open(file("foreign")).and_then(|c| c.execute_batch("CREATE TABLE t (x)")).expect("writes");
    drop(SqliteStore::open(file("newer")).expect("opens"));
    Connection::open(file("newer")).and_then(|c| c.execute_batch("PRAGMA user_version = 99")).expect("writes");
    for (name, reason) in [
        ("text", "file is not a database"),
        ("foreign", "not a store of conversation groups"),
        ("newer", "has format 99, this program knows formats up to 1"),
        ("no/such/directory/store", "no/such/directory"),
    ] {
        let before = std::fs::read(file(name)).ok();
        let error = SqliteStore::open(file(name)).expect_err(name);
        assert!(error.message.contains(reason), "{name}: {error}");
        assert_eq!(std::fs::read(file(name)).ok(), before, "{name}");
        assert!(SqliteStore::open_read_only(file(name)).is_err(), "{name}");
    }
}
