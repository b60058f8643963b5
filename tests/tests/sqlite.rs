//! What is particular about the SQLite store: files, locks, and what other programs see.

use std::path::Path;
use std::sync::Arc;

use convgroups_host::events::{Event, EventReader};
use convgroups_host::model::{Change, Origin};
use convgroups_host::store::{Commit, CommitOutcome, Skip, Store, StoreErrorKind};
use convgroups_host::{EventId, History, SqliteStore, Version};
use convgroups_tests::user;
use rusqlite::Connection;

/// A step of a test, and what to call it.
type Step = (&'static str, fn(&Path));

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

/// Runs that many threads at once. All are joined: glibc 2.36 may read a thread that has just ended while it detaches it.
fn at_once(count: u64, work: impl Fn(u64) + Sync) {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|number| scope.spawn(move || work(number))).collect();
        for thread in threads {
            thread.join().expect("the thread does not panic");
        }
    });
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
#[cfg(unix)]
fn what_is_made_is_for_the_own_user_alone_and_what_was_there_keeps_its_rights() {
    use std::os::unix::fs::PermissionsExt;
    let directory = temporary();
    let mode = |name: &str| {
        let metadata = std::fs::metadata(directory.path().join(name)).expect(name);
        metadata.permissions().mode() & 0o777
    };
    let path = directory.path().join("store.db");
    let store = SqliteStore::open(&path).expect("opens");
    create(&store, "alice", 0, "Work");
    store.backup(directory.path().join("copy.db")).expect("copies");
    for name in ["store.db", "store.db-wal", "store.db-shm", "store.db-lock", "store.db-history", "copy.db"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }

    drop(store);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("it is ours");
    let store = SqliteStore::open(&path).expect("opens");
    create(&store, "alice", 1, "Home");
    for name in ["store.db", "store.db-wal"] {
        assert_eq!(mode(name), 0o640, "{name}");
    }
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
        at_once(64, |id| {
            let fits = id % 3 != 0;
            let group = if fits { format!("group {round}") } else { "Work".to_owned() };
            let base = if fits { round } else { 1 };
            let result = store.commit(creation(&format!("user {id}"), base, &group));
            assert_eq!(result.is_ok(), fits, "user {id} in round {round}: {result:?}");
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
        ("newer", "has format 99, this program knows formats up to 2"),
        ("no/such/directory/store", "no/such/directory"),
    ] {
        let before = std::fs::read(file(name)).ok();
        let error = SqliteStore::open(file(name)).expect_err(name);
        assert!(error.message.contains(reason), "{name}: {error}");
        assert_eq!(std::fs::read(file(name)).ok(), before, "{name}");
        assert!(SqliteStore::open_read_only(file(name)).is_err(), "{name}");
    }
}

/// Copies a store's files as a crash at this moment would leave them. The store must be at rest.
fn crash_image(store: &Path, directory: &Path) -> std::path::PathBuf {
    let image = directory.join("store.db");
    for suffix in ["", "-wal"] {
        std::fs::copy(beside(store, suffix), beside(&image, suffix)).expect("copies");
    }
    image
}

fn beside(store: &Path, suffix: &str) -> std::path::PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

#[test]
fn acknowledges_nothing_once_a_file_of_the_store_is_no_longer_at_its_path() {
    let change: [Step; 3] = [
        ("moved", |file| std::fs::rename(file, beside(file, ".away")).expect("moves")),
        ("removed", |file| std::fs::remove_file(file).expect("removes")),
        ("replaced", |file| {
            std::fs::copy(file, beside(file, ".copy")).expect("copies");
            std::fs::rename(beside(file, ".copy"), file).expect("replaces");
        }),
    ];
    for suffix in ["", "-wal", "-shm"] {
        for (name, change) in change {
            let what = format!("store.db{suffix} is {name}");
            let directory = temporary();
            let path = directory.path().join("store.db");
            let store = SqliteStore::open(&path).expect("opens");
            create(&store, "alice", 0, "Work");
            assert_eq!(names(&store, "alice"), ["Work"], "{what}");
            change(&beside(&path, suffix));
            for _ in 0..2 {
                let error = store.commit(creation("alice", 1, "Home")).expect_err(&what);
                assert_eq!(error.kind, StoreErrorKind::Unavailable, "{what}");
                assert!(error.message.contains("was moved, removed or replaced"), "{what}: {error}");
                store.health().expect_err(&what);
            }
            assert_eq!(names(&store, "alice"), ["Work"], "{what}");
        }
    }
}

#[test]
fn a_store_that_is_moved_and_put_back_has_everything_that_was_acknowledged() {
    for stopped in [false, true] {
        let directory = temporary();
        let [path, away] = ["store.db", "away.db"].map(|name| directory.path().join(name));
        let store = SqliteStore::open(&path).expect("opens");
        create(&store, "alice", 0, "Work");
        std::fs::rename(&path, &away).expect("moves");
        store.commit(creation("alice", 1, "Home")).expect_err("it is elsewhere");
        if stopped {
            drop(store);
            for error in [SqliteStore::open(&path), SqliteStore::open_read_only(&path)].map(Result::err) {
                let error = error.expect("the WAL has the only copy");
                assert!(error.message.contains("changes of a store that is no longer at"), "{error}");
                assert!(!path.exists());
            }
            std::fs::rename(&away, &path).expect("moves");
            let store = SqliteStore::open(&path).expect("opens");
            assert_eq!(names(&store, "alice"), ["Work"]);
        } else {
            std::fs::rename(&away, &path).expect("moves");
            create(&store, "alice", 1, "Home");
            assert_eq!(names(&store, "alice"), ["Work", "Home"]);
        }
    }
}

#[test]
fn a_wal_without_its_store_is_kept_and_no_store_is_created_beside_it() {
    for empty in [false, true] {
        let [directory, image] = [(); 2].map(|()| temporary());
        let path = directory.path().join("store.db");
        let store = SqliteStore::open(&path).expect("opens");
        create(&store, "alice", 0, "Work");
        let image = crash_image(&path, image.path());
        let (file, wal) =
            (std::fs::read(&image).expect("reads"), std::fs::read(beside(&image, "-wal")).expect("reads"));
        std::fs::remove_file(&image).expect("removes");
        if empty {
            std::fs::write(&image, "").expect("writes");
        }
        for error in [SqliteStore::open(&image), SqliteStore::open_read_only(&image)].map(Result::err) {
            let error = error.expect("the WAL has the only copy");
            assert_eq!(error.kind, StoreErrorKind::Unusable);
            assert!(error.message.contains("changes of a store that is no longer at"), "{error}");
            assert_eq!(std::fs::read(beside(&image, "-wal")).expect("it is kept"), wal);
        }
        std::fs::write(&image, file).expect("writes");
        assert_eq!(names(&SqliteStore::open(&image).expect("opens"), "alice"), ["Work"]);
    }
}

#[test]
fn a_store_with_a_second_hard_link_is_refused() {
    let [directory, other] = [(); 2].map(|()| temporary());
    let (path, link) = (directory.path().join("store.db"), other.path().join("link.db"));
    let store = SqliteStore::open(&path).expect("opens");
    create(&store, "alice", 0, "Work");
    std::fs::hard_link(&path, &link).expect("links");
    let refused = |path: &Path| {
        for error in [SqliteStore::open(path), SqliteStore::open_read_only(path)].map(Result::err) {
            let error = error.expect("it has another name");
            assert_eq!(error.kind, StoreErrorKind::Unusable);
            assert!(error.message.contains("has 2 hard links"), "{error}");
        }
    };
    refused(&link);
    // The host that has it open goes on: it had it first. Two reads at once need a reader that was opened after the link was made.
    create(&store, "alice", 1, "Home");
    let barrier = &std::sync::Barrier::new(8);
    at_once(8, |_| {
        barrier.wait();
        for _ in 0..200 {
            assert_eq!(names(&store, "alice"), ["Work", "Home"]);
        }
    });
    store.backup(directory.path().join("copy.db")).expect("copies");
    drop(store);
    refused(&path);
    std::fs::remove_file(&link).expect("removes");
    assert_eq!(names(&SqliteStore::open(&path).expect("opens"), "alice"), ["Work", "Home"]);
}

#[test]
fn a_removed_lock_file_lets_no_second_host_in() {
    let directory = temporary();
    let path = directory.path().join("store.db");
    let store = SqliteStore::open(&path).expect("opens");
    create(&store, "alice", 0, "Work");
    std::fs::remove_file(beside(&path, "-lock")).expect("removes");
    for _ in 0..3 {
        let error = SqliteStore::open(&path).expect_err("it is in use");
        assert!(error.message.contains("in use by another host"), "{error}");
    }
    // Another program that closes the store deletes the WAL, unless SQLite still has its lock on the database.
    let script = format!("import sqlite3; sqlite3.connect({path:?}).execute('SELECT * FROM users').fetchall()");
    let other = std::process::Command::new("python3").args(["-c", &script]).status();
    println!("another program: {other:?}");
    assert!(beside(&path, "-wal").exists());
    create(&store, "alice", 1, "Home");
    drop(store);
    assert_eq!(names(&SqliteStore::open(&path).expect("opens"), "alice"), ["Work", "Home"]);
}

/// Creates a group that takes about 120 pages, with what is logged of it.
fn large(id: &str, base: u64) -> Commit {
    let conversation_list = (0..1000).map(|number| format!("c2c_{base}_{number}_{}", "x".repeat(200))).collect();
    let changes = vec![Change::GroupCreated { group_name: format!("large {base}"), conversation_list }];
    Commit { changes, ..creation(id, base, "") }
}

#[test]
fn a_wal_is_used_with_the_file_that_it_continues_and_with_no_other() {
    let directory = temporary();
    let path = directory.path().join("store.db");
    let store = SqliteStore::open(&path).expect("opens");
    let mut images = Vec::new();
    let mut files: Vec<Vec<u8>> = Vec::new();
    let mut checkpoints = 0;
    // Enough for several checkpoints, which come at 4000 pages.
    for version in 0..180 {
        let made = large("alice", version);
        let gone = vec![Change::GroupDeleted { group_name: format!("large {}", version.saturating_sub(1)) }];
        let changes = if version.is_multiple_of(2) { made.changes } else { gone };
        store.commit(Commit { changes, keep: 1, ..creation("alice", version, "") }).expect("commits");
        // Replies when everything that goes with the last commit has been done.
        store.health().expect("it is well");
        let file = std::fs::read(&path).expect("reads");
        let checkpoint = files.last().is_some_and(|last| *last != file);
        checkpoints += usize::from(checkpoint);
        if version.is_multiple_of(20) || checkpoint {
            let directory = temporary();
            let path = crash_image(&path, directory.path());
            images.push((directory, path, store.state(&user("alice")).expect("reads")));
            files.push(file);
        }
    }
    assert!(checkpoints >= 2, "there were only {checkpoints} checkpoints");
    let [mut opened, mut refused] = [0; 2];
    for (file, bytes) in files.iter().enumerate() {
        for (wal, (_, image, state)) in images.iter().enumerate() {
            let directory = temporary();
            let path = crash_image(image, directory.path());
            std::fs::write(&path, bytes).expect("writes");
            let what = format!("file {file} with WAL {wal}");
            let reader = SqliteStore::open_read_only(&path).map(|store| store.state(&user("alice")));
            match SqliteStore::open(&path) {
                Ok(store) => {
                    let read = store.state(&user("alice")).expect(&what);
                    // A WAL with nothing but a probe changes nothing in a newer file of the same history.
                    let mut alike = images.iter().zip(&files).filter(|(_, other)| *other == bytes);
                    let right = read == *state || (*bytes != files[wal] && alike.any(|(image, _)| read == image.2));
                    assert!(right, "{what}: {:?} was read, {:?} is right", read.version, state.version);
                    assert!(reader.expect("as for a host").expect("reads") == read, "{what}");
                    opened += 1;
                }
                Err(error) => {
                    assert!(*bytes != files[wal], "{what}: {error}");
                    assert_eq!(error.kind, StoreErrorKind::Corrupt, "{what}: {error}");
                    refused += 1;
                }
            }
        }
    }
    println!("{opened} opened, {refused} refused");
    assert!(opened >= images.len() && refused > 0);
}

#[test]
fn a_backup_put_over_a_store_whose_wal_was_left_is_refused() {
    let directory = temporary();
    let [path, copy] = ["store.db", "copy.db"].map(|name| directory.path().join(name));
    let store = SqliteStore::open(&path).expect("opens");
    for version in 0..5 {
        create(&store, "alice", version, &format!("group {version}"));
    }
    store.backup(&copy).expect("copies");
    for version in 5..10 {
        create(&store, "alice", version, &format!("group {version}"));
    }
    let crashed = temporary();
    let image = crash_image(&path, crashed.path());
    let wal = std::fs::read(beside(&image, "-wal")).expect("reads");
    std::fs::copy(&copy, &image).expect("copies");
    for error in [SqliteStore::open(&image), SqliteStore::open_read_only(&image)].map(Result::err) {
        let error = error.expect("it is a mixture");
        assert_eq!(error.kind, StoreErrorKind::Corrupt, "{error}");
        assert!(error.message.contains("belong"), "{error}");
    }
    assert_eq!(std::fs::read(&image).expect("reads"), std::fs::read(&copy).expect("reads"), "nothing was changed");
    assert_eq!(std::fs::read(beside(&image, "-wal")).expect("reads"), wal, "nothing was changed");
    std::fs::remove_file(beside(&image, "-wal")).expect("removes");
    assert_eq!(names(&SqliteStore::open(&image).expect("opens"), "alice").len(), 5);
}

#[test]
fn a_wal_is_used_though_frames_of_another_transaction_are_left_behind_its_own() {
    const FRAME: usize = 24 + 4096;
    const MAGIC: &[u8] = b"\xff\xfewal-mk";
    let [directory, image] = [(); 2].map(|()| temporary());
    let path = directory.path().join("store.db");
    let store = SqliteStore::open(&path).expect("opens");
    create(&store, "alice", 0, "Work");
    let image = crash_image(&path, image.path());
    let mut wal = std::fs::read(beside(&image, "-wal")).expect("reads");
    let marked = |frame: &&[u8]| frame.windows(MAGIC.len()).any(|part| part == MAGIC);
    // As a longer transaction leaves it that was not committed: with the salts of the WAL, and a mark of its own.
    let mut left: Vec<u8> = wal[32..].chunks(FRAME).rfind(marked).expect("there is a mark").to_vec();
    let marks = left.windows(MAGIC.len()).rposition(|part| part == MAGIC).expect("there is a mark") + MAGIC.len();
    left[marks..marks + 32].fill(0x5a);
    wal.extend_from_slice(&left);
    std::fs::write(beside(&image, "-wal"), wal).expect("writes");
    assert_eq!(names(&SqliteStore::open_read_only(&image).expect("opens"), "alice"), ["Work"]);
    assert_eq!(names(&SqliteStore::open(&image).expect("opens"), "alice"), ["Work"]);
}

#[test]
fn a_wal_without_a_mark_is_used_only_if_the_store_is_sound_with_it() {
    // As hosts left it before there were marks.
    let unmarked = |groups: u64| {
        let directory = temporary();
        let path = directory.path().join("store.db");
        let store = SqliteStore::open(&path).expect("opens");
        for version in 0..groups {
            store.commit(large("alice", version)).expect("commits");
        }
        drop(store);
        Connection::open(&path).and_then(|plain| plain.execute_batch("DROP TABLE wal_mark")).expect("drops");
        let plain = Connection::open(&path).expect("opens");
        let sql = "PRAGMA wal_autocheckpoint = 0; UPDATE members SET position = position + 1 WHERE group_id = 2;
                   DELETE FROM log WHERE version = 2";
        plain.execute_batch(sql).expect("writes");
        let image = temporary();
        let path = crash_image(&path, image.path());
        (image, path)
    };
    let (_one, right) = unmarked(3);
    assert_eq!(names(&SqliteStore::open(&right).expect("opens"), "alice").len(), 3);
    let (_two, wrong) = unmarked(9);
    // A page in the middle that the WAL does not have.
    let mut file = std::fs::read(&wrong).expect("reads");
    let middle = file.len() / 2 / 4096 * 4096;
    file[middle..middle + 4096].fill(0xff);
    std::fs::write(&wrong, file).expect("writes");
    let error = SqliteStore::open(&wrong).expect_err("it is a mixture");
    assert_eq!(error.kind, StoreErrorKind::Corrupt, "{error}");
}

#[test]
fn sqlite_is_compiled_so_that_temporary_data_can_stay_in_memory() {
    let connection = Connection::open_in_memory().expect("opens");
    let mut options = connection.prepare("PRAGMA compile_options").expect("runs");
    let options: Vec<String> =
        options.query_map([], |row| row.get(0)).expect("runs").map(|row| row.expect("reads")).collect();
    // With it the setting is without effect.
    assert!(!options.contains(&"TEMP_STORE=0".to_owned()), "{options:?}");
}

#[test]
fn a_commit_that_sqlite_fails_does_not_fail_those_beside_it() {
    let directory = temporary();
    let path = directory.path().join("store.db");
    let store = SqliteStore::open(&path).expect("opens");
    let fails = "CREATE TRIGGER fails BEFORE INSERT ON groups WHEN new.name = 'fails'
                 BEGIN SELECT abs(-9223372036854775807 - 1); END";
    Connection::open(&path).and_then(|plain| plain.execute_batch(fails)).expect("creates");
    // All at once, so that they share batches.
    for round in 0..20 {
        at_once(64, |id| {
            let fits = id % 3 != 0;
            let group = if fits { format!("group {round}") } else { "fails".to_owned() };
            let result = store.commit(creation(&format!("user {id}"), if fits { round } else { 0 }, &group));
            match result {
                Ok(outcome) => assert!(fits && outcome == CommitOutcome::Committed(Version(round + 1))),
                Err(error) => {
                    assert!(!fits, "user {id} in round {round}: {error}");
                    assert_eq!(error.kind, StoreErrorKind::Unavailable);
                    assert!(error.message.contains("SQLite's code 1"), "{error}");
                }
            }
        });
    }
    for id in 0..64 {
        assert_eq!(names(&store, &format!("user {id}")).len(), if id % 3 == 0 { 0 } else { 20 });
    }
}

/// A host's life: opens the store, commits some changes of alice's, and closes it. The history and the version that it leaves.
fn live(path: &Path, changes: u64) -> EventId {
    let store = SqliteStore::open(path).expect("opens");
    let base = store.groups(&user("alice")).expect("reads").version.0;
    for version in base..base + changes {
        create(&store, "alice", version, &format!("group {version} {}", fastrand::u64(..)));
    }
    EventId { version: Version(base + changes), history: Some(store.history().expect("reads")) }
}

fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).map(drop).expect("copies");
}

/// Copies under another name and renames, as rsync and unpackers do.
fn replace(from: &Path, to: &Path) {
    let beside = to.with_extension("new");
    std::fs::copy(from, &beside).and_then(|_| std::fs::rename(&beside, to)).expect("copies");
}

fn with_suffix(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[test]
fn a_file_put_in_place_by_other_means_begins_a_new_history_and_the_file_of_the_last_host_does_not() {
    type Step = fn(&Path, &Path);
    /// What is done before the changes that get lost, and afterwards with the store's path and that of the copy.
    struct Case {
        what: &'static str,
        new: bool,
        take: Step,
        put: Step,
    }
    let nothing: Step = |_, _| {};
    let backup: Step = |store, saved| {
        SqliteStore::open_read_only(store).expect("opens").backup(saved).expect("copies");
    };
    let with_note: Step = |store, saved| {
        copy(store, saved);
        copy(&with_suffix(store, "-history"), &with_suffix(saved, "-history"));
    };
    let cases = [
        Case { what: "it was opened again", new: false, take: nothing, put: nothing },
        Case {
            what: "it was moved away and back",
            new: false,
            take: nothing,
            put: |store, saved| {
                std::fs::rename(store, saved).and_then(|()| std::fs::rename(saved, store)).expect("moves");
            },
        },
        Case { what: "a backup was copied over it", new: true, take: backup, put: |store, saved| copy(saved, store) },
        Case { what: "a backup took its place", new: true, take: backup, put: |store, saved| replace(saved, store) },
        Case {
            what: "a plain copy was copied over it",
            new: true,
            take: copy_to,
            put: |store, saved| copy(saved, store),
        },
        Case {
            what: "a plain copy took its place",
            new: true,
            take: copy_to,
            put: |store, saved| replace(saved, store),
        },
        Case {
            what: "a copy took its place with what was noted beside it",
            new: true,
            take: with_note,
            put: |store, saved| {
                replace(saved, store);
                copy(&with_suffix(saved, "-history"), &with_suffix(store, "-history"));
            },
        },
        Case {
            what: "what was noted beside it is gone",
            new: true,
            take: nothing,
            put: |store, _| std::fs::remove_file(with_suffix(store, "-history")).expect("it is there"),
        },
    ];
    fn copy_to(store: &Path, saved: &Path) {
        copy(store, saved);
    }
    for Case { what, new, take, put } in cases {
        let directory = temporary();
        let (path, saved) = (directory.path().join("store.db"), directory.path().join("saved.db"));
        let begun = live(&path, 10);
        take(&path, &saved);
        let seen = live(&path, 5);
        assert_eq!(seen.history, begun.history, "{what}");
        put(&path, &saved);
        let now = live(&path, 6);
        assert_eq!(now.history != begun.history, new, "{what}");
        // And it stays.
        assert_eq!(live(&path, 1).history, now.history, "{what}");
        let store = Arc::new(SqliteStore::open_read_only(&path).expect("opens"));
        let events = EventReader::new(store, user("alice"), seen).read().expect("reads");
        assert_eq!(matches!(events.as_slice(), [Event::Full(_)]), new, "{what}: {events:?}");
    }
}

#[test]
fn a_store_of_the_format_before_gets_a_history_and_keeps_all_it_has() {
    let directory = temporary();
    let path = directory.path().join("store.db");
    live(&path, 3);
    Connection::open(&path)
        .and_then(|other| other.execute_batch("DROP TABLE history; PRAGMA user_version = 1"))
        .expect("writes");
    let first = live(&path, 1);
    assert_eq!(first.version, Version(4));
    assert_eq!(live(&path, 1).history, first.history);
}

#[test]
fn a_restored_backup_has_a_new_history_and_nothing_of_the_store_before() {
    let directory = temporary();
    let file = |name: &str| directory.path().join(name);
    let path = file("store.db");
    live(&path, 10);
    SqliteStore::open_read_only(&path).expect("opens").backup(file("backup.db")).expect("copies");
    let seen = live(&path, 5);
    // A plain copy with part of what it has in its log; and one of the format before.
    let running = SqliteStore::open(&path).expect("opens");
    create(&running, "alice", 15, "in the log");
    copy(&path, &file("hot.db"));
    copy(&with_suffix(&path, "-wal"), &with_suffix(&file("hot.db"), "-wal"));
    drop(running);
    copy(&file("backup.db"), &file("old.db"));
    Connection::open(file("old.db"))
        .and_then(|other| other.execute_batch("DROP TABLE history; PRAGMA user_version = 1"))
        .expect("writes");
    let mut histories = vec![seen.history];
    for (backup, version) in [("backup.db", 10), ("hot.db", 16), ("old.db", 10), ("backup.db", 10)] {
        let before = std::fs::read(file(backup)).expect("reads");
        let history = SqliteStore::restore(file(backup), &path).expect("restores");
        assert!(!histories.contains(&Some(history)), "{backup}");
        histories.push(Some(history));
        assert!(!with_suffix(&path, "-wal").exists() && !with_suffix(&path, "-shm").exists(), "{backup}");
        assert!(!with_suffix(&path, "-restoring").exists(), "{backup}");
        assert_eq!(std::fs::read(file(backup)).expect("reads"), before, "{backup} is as it was");
        let read_only = SqliteStore::open_read_only(&path).expect("opens");
        assert_eq!(read_only.history().expect("reads"), history, "{backup}");
        drop(read_only);
        let now = live(&path, 6);
        assert_eq!(now, EventId { version: Version(version + 6), history: Some(history) }, "{backup}");
    }
    // Into an empty place, too.
    let other = file("other.db");
    let history = SqliteStore::restore(file("backup.db"), &other).expect("restores");
    assert_eq!(live(&other, 0), EventId { version: Version(10), history: Some(history) });
}

#[test]
fn a_restore_that_cannot_be_done_is_refused_and_changes_nothing() {
    let directory = temporary();
    let file = |name: &str| directory.path().join(name);
    let path = file("store.db");
    live(&path, 300);
    SqliteStore::open_read_only(&path).expect("opens").backup(file("backup.db")).expect("copies");
    std::fs::write(file("text"), "this is no database, and long enough to tell").expect("writes");
    Connection::open(file("foreign")).and_then(|c| c.execute_batch("CREATE TABLE t (x)")).expect("writes");
    let mut bytes = std::fs::read(file("backup.db")).expect("reads");
    std::fs::write(file("short"), &bytes[..bytes.len() / 2]).expect("writes");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 3 * 4096].fill(0x5a);
    std::fs::write(file("damaged"), bytes).expect("writes");
    copy(&file("backup.db"), &file("untrue"));
    let untrue = "UPDATE users SET groups_created = 7";
    Connection::open(file("untrue")).and_then(|c| c.execute_batch(untrue)).expect("writes");
    let refused = |backup: &str, reasons: &[&str]| {
        let before = std::fs::read(&path).expect("reads");
        let error = SqliteStore::restore(file(backup), &path).expect_err(backup);
        assert!(reasons.iter().any(|reason| error.message.contains(reason)), "{backup}: {error}");
        assert_eq!(std::fs::read(&path).expect("reads"), before, "{backup}");
        assert!(!with_suffix(&path, "-restoring").exists(), "{backup}");
    };
    for (backup, reasons) in [
        ("none", &["there is no backup at"][..]),
        ("text", &["file is not a database"]),
        ("foreign", &["not a store of conversation groups"]),
        ("short", &["malformed", "damaged"]),
        ("damaged", &["malformed", "damaged"]),
        ("untrue", &["though 7 were created"]),
        ("store.db", &["is the store itself"]),
    ] {
        refused(backup, reasons);
    }
    let reader = SqliteStore::open_read_only(&path).expect("opens");
    reader.groups(&user("alice")).expect("reads");
    refused("backup.db", &["another program has"]);
    drop(reader);
    let running = SqliteStore::open(&path).expect("opens");
    refused("backup.db", &["in use by another host"]);
    create(&running, "alice", 300, "More");
    drop(running);
    assert_eq!(live(&path, 0).version, Version(301));
    SqliteStore::restore(file("backup.db"), &path).expect("restores");
    assert_eq!(live(&path, 0).version, Version(300));
}

#[test]
fn a_store_too_damaged_to_be_read_is_moved_away_by_a_restore() {
    let directory = temporary();
    let path = directory.path().join("store.db");
    let backup = directory.path().join("backup.db");
    live(&path, 10);
    SqliteStore::open_read_only(&path).expect("opens").backup(&backup).expect("copies");
    let garbage = b"this was a store once, and is nothing now".repeat(1000);
    std::fs::write(&path, &garbage).expect("writes");
    std::fs::write(with_suffix(&path, "-wal"), "with a log").expect("writes");
    SqliteStore::restore(&backup, &path).expect("restores");
    assert_eq!(live(&path, 0).version, Version(10));
    let damaged = with_suffix(&path, "-damaged");
    assert_eq!(std::fs::read(&damaged).expect("reads"), garbage);
    assert_eq!(std::fs::read(with_suffix(&damaged, "-wal")).expect("reads"), b"with a log");
}

#[test]
fn a_restore_over_a_damaged_store_can_be_interrupted_at_every_step_and_run_again() {
    let garbage = b"this was a store once, and is nothing now".repeat(1000);
    let steps: [Step; 3] = [
        ("nothing was done", |_| {}),
        ("the second name was made", |path| {
            std::fs::hard_link(path, with_suffix(path, "-damaged")).expect("links");
        }),
        ("the WAL was moved", |path| {
            std::fs::hard_link(path, with_suffix(path, "-damaged")).expect("links");
            std::fs::rename(with_suffix(path, "-wal"), with_suffix(path, "-damaged-wal")).expect("moves");
        }),
    ];
    for (what, step) in steps {
        for started in [false, true] {
            let directory = temporary();
            let [path, backup] = ["store.db", "backup.db"].map(|name| directory.path().join(name));
            live(&path, 10);
            SqliteStore::open_read_only(&path).expect("opens").backup(&backup).expect("copies");
            std::fs::write(&path, &garbage).expect("writes");
            std::fs::write(with_suffix(&path, "-wal"), "with a log").expect("writes");
            step(&path);
            let damaged = with_suffix(&path, "-damaged");
            if started {
                // A host makes no new store, and leaves everything as it was before the restore.
                let error = SqliteStore::open(&path).expect_err(what);
                assert!(!error.message.contains("hard links"), "{what}: {error}");
                assert_eq!(std::fs::read(&path).expect("reads"), garbage, "{what}");
                assert_eq!(std::fs::read(with_suffix(&path, "-wal")).expect("reads"), b"with a log", "{what}");
                assert!(!damaged.exists() && !with_suffix(&damaged, "-wal").exists(), "{what}");
            }
            // There is a database at the path all the time.
            let restored = std::sync::atomic::AtomicBool::new(false);
            std::thread::scope(|scope| {
                let watcher = scope.spawn(|| {
                    while !restored.load(std::sync::atomic::Ordering::Relaxed) {
                        assert!(path.exists(), "{what}");
                    }
                });
                let done = SqliteStore::restore(&backup, &path);
                restored.store(true, std::sync::atomic::Ordering::Relaxed);
                watcher.join().expect(what);
                done.expect(what);
            });
            assert_eq!(live(&path, 0).version, Version(10), "{what}");
            assert_eq!(std::fs::read(&damaged).expect("reads"), garbage, "{what}");
            assert_eq!(std::fs::read(with_suffix(&damaged, "-wal")).expect("reads"), b"with a log", "{what}");
        }
    }
}

#[test]
fn a_damaged_store_is_left_as_it_is_if_there_is_one_from_an_earlier_restore() {
    let directory = temporary();
    let [path, backup] = ["store.db", "backup.db"].map(|name| directory.path().join(name));
    live(&path, 10);
    SqliteStore::open_read_only(&path).expect("opens").backup(&backup).expect("copies");
    std::fs::write(&path, "no store".repeat(1000)).expect("writes");
    let damaged = with_suffix(&path, "-damaged");
    std::fs::write(&damaged, "an earlier one").expect("writes");
    let error = SqliteStore::restore(&backup, &path).expect_err("the name is taken");
    assert!(error.message.contains("move that one away"), "{error}");
    assert_eq!(std::fs::read(&path).expect("reads"), "no store".repeat(1000).into_bytes());
    assert_eq!(std::fs::read(&damaged).expect("reads"), b"an earlier one");
}

#[test]
fn a_host_that_ends_around_its_first_commit_leaves_a_note_that_goes_on_with_the_history() {
    let directory = temporary();
    let path = directory.path().join("store.db");
    let noted = || std::fs::read_to_string(with_suffix(&path, "-history")).expect("it is there");
    let begun = live(&path, 1);
    let before = noted();
    let store = SqliteStore::open(&path).expect("opens");
    let fails = "CREATE TRIGGER fails BEFORE INSERT ON groups WHEN new.name = 'fails'
                 BEGIN SELECT abs(-9223372036854775807 - 1); END";
    Connection::open(&path).and_then(|plain| plain.execute_batch(fails)).expect("creates");
    // The first commit is undone: the file has the mark before, and the note has both.
    store.commit(creation("bob", 0, "fails")).expect_err("SQLite fails");
    let both = noted();
    assert!(both.starts_with(&before) && both.lines().count() == 2, "{both:?} after {before:?}");
    drop(store);
    let undone = live(&path, 1);
    assert_eq!(undone.history, begun.history);
    let after = noted();
    assert_eq!(after.lines().count(), 1, "{after:?}");
    let other = after.replace(|letter: char| letter.is_ascii_digit(), "1");
    let notes = [
        // Committed, and the host was killed before it noted that.
        (format!("{before}{after}"), false),
        // Killed before the commit.
        (format!("{after}{other}"), false),
        (format!("{before}{other}"), true),
    ];
    for (note, new) in notes {
        // Opening changes the file only where a history begins.
        std::fs::write(with_suffix(&path, "-history"), &note).expect("writes");
        let store = SqliteStore::open(&path).expect("opens");
        assert_eq!(Some(store.history().expect("reads")) != begun.history, new, "{note:?}");
    }
}

#[test]
#[cfg(unix)]
fn what_is_noted_beside_a_store_belongs_to_the_owner_of_the_store() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let directory = temporary();
    let path = directory.path().join("store.db");
    let first = live(&path, 1);
    std::fs::remove_file(with_suffix(&path, "-history")).expect("it is there");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).expect("it is ours");
    if chown(&path, Some(4321), Some(4322)).is_err() {
        println!("only the mode is tested: this user may not give files away");
    }
    let second = live(&path, 1);
    assert_ne!(first.history, second.history, "the note was gone");
    let [store, note] =
        [path.clone(), with_suffix(&path, "-history")].map(|path| std::fs::metadata(path).expect("reads"));
    assert_eq!((note.uid(), note.gid(), note.mode()), (store.uid(), store.gid(), store.mode()));
    assert_eq!(live(&path, 1).history, second.history);
}

#[test]
fn a_reader_that_outlives_a_restore_goes_on_with_the_restored_store() {
    let directory = temporary();
    let (path, backup) = (directory.path().join("store.db"), directory.path().join("backup.db"));
    live(&path, 10);
    let store = Arc::new(SqliteStore::open_read_only(&path).expect("opens"));
    store.backup(&backup).expect("copies");
    let seen = live(&path, 5);
    let mut reader = EventReader::new(store, user("alice"), seen);
    assert!(reader.read().expect("reads").is_empty());
    // As by hand, which nothing keeps anybody from.
    for suffix in ["-wal", "-shm"] {
        std::fs::remove_file(with_suffix(&path, suffix)).expect("the reader keeps it there");
    }
    std::fs::rename(&backup, &path).expect("moves");
    let now = live(&path, 6);
    let events = reader.read().expect("reads");
    assert!(matches!(events.as_slice(), [Event::Full(full)] if full.version == now.version), "{events:?}");
    assert_eq!(reader.after(), now);
}

#[test]
fn a_history_can_be_begun_by_hand_while_no_host_runs() {
    let directory = temporary();
    let path = directory.path().join("store.db");
    assert!(SqliteStore::begin_history(&path).is_err(), "there is no store");
    let first = live(&path, 1);
    let running = SqliteStore::open(&path).expect("opens");
    let error = SqliteStore::begin_history(&path).expect_err("a host runs");
    assert!(error.message.contains("in use by another host"), "{error}");
    drop(running);
    let begun: History = SqliteStore::begin_history(&path).expect("begins");
    assert_ne!(Some(begun), first.history);
    assert_eq!(live(&path, 1).history, Some(begun));
}

#[test]
fn what_cannot_be_true_of_a_store_is_named_when_it_is_verified() {
    let cases = [
        ("UPDATE users SET version = 0 WHERE user_id = 'alice'", "user \"alice\": the version 0 is not between 1 and"),
        (
            "UPDATE users SET version = 9 WHERE user_id = 'alice'",
            "the change log ends with version 2, the user is at version 9",
        ),
        ("UPDATE users SET version = 1 WHERE user_id = 'alice'", "is of none of its versions up to 1"),
        ("UPDATE users SET groups_created = 1", "the group \"Home\" has the ID 2, though 1 were created"),
        ("UPDATE users SET user_id = ''", "user \"\": the user id is empty"),
        ("UPDATE groups SET number = 1", "two groups have the ID 1"),
        ("UPDATE groups SET name = char(10) WHERE number = 1", "the group name \"\\n\" is not 1 to 256 bytes"),
        ("UPDATE members SET position = 1048576", "is another's too"),
        ("UPDATE members SET position = 5 WHERE group_id = 1 AND conversation_id = 'c2c_bob'", "the position 5"),
        (
            "UPDATE members SET conversation_id = '' WHERE group_id = 1 AND conversation_id = 'c2c_bob'",
            "the conversation ID \"\"",
        ),
        (
            "PRAGMA foreign_keys = off; DELETE FROM groups WHERE number = 1",
            "a row of the table members belongs to none",
        ),
        ("PRAGMA foreign_keys = off; DELETE FROM users", "a row of the table groups belongs to none"),
        ("INSERT INTO conversations VALUES (1, 'c2c_x', 0, '', 1048590)", "has neither"),
        (
            "INSERT INTO conversations VALUES (1, 'c2c_x', 0, printf('%5000d', 1), 1048590)",
            "has 5000 bytes, at most 4096",
        ),
        ("DELETE FROM log WHERE version = 2", "the change log ends with version 1, the user is at version 2"),
        ("UPDATE log SET version = 5 WHERE version = 2", "the change log goes from version 1 to 5"),
        ("UPDATE log SET events = '[]' WHERE version = 2", "the change log has no change for version 2"),
        ("UPDATE log SET events = 'x' WHERE version = 2", "the change log's entry for version 2 cannot be read"),
        ("UPDATE history SET identity = 'x'", "the history cannot be read"),
    ];
    for (sql, expected) in cases {
        let directory = temporary();
        let path = directory.path().join("store.db");
        let store = SqliteStore::open(&path).expect("opens");
        create(&store, "alice", 0, "Work");
        create(&store, "alice", 1, "Home");
        let verify = || {
            let mut found = Vec::new();
            store.verify(&mut |line| found.push(line)).expect("it can be read");
            found
        };
        assert_eq!(verify(), [] as [String; 0]);
        Connection::open(&path).and_then(|other| other.execute_batch(sql)).expect(sql);
        let found = verify();
        assert!(found.iter().any(|line| line.contains(expected)), "{sql}: {found:?}");
    }
}

#[test]
fn a_change_log_record_of_a_later_version_is_read_as_a_full_snapshot() {
    let later = [
        r#"{"format":1,"events":[{"event":"onConversationGroupColoured","groupName":"Home","colour":7}]}"#,
        r#"{"format":2,"changes":"of another form"}"#,
    ];
    for record in later {
        let directory = temporary();
        let path = directory.path().join("store.db");
        let store = Arc::new(SqliteStore::open(&path).expect("opens"));
        create(&store, "alice", 0, "Work");
        create(&store, "alice", 1, "Home");
        let other = Connection::open(&path).expect("opens");
        other.execute("UPDATE log SET events = ?1 WHERE version = 2", [record]).expect("changes the record");
        let mut reader = EventReader::new(store.clone(), user("alice"), Version(0));
        let events = reader.read().expect("reads");
        let [Event::Full(full)] = events.as_slice() else { panic!("{record}: {events:?}") };
        assert_eq!((full.version, full.groups.len()), (Version(2), 2), "{record}");
        let mut found = Vec::new();
        store.verify(&mut |line| found.push(line)).expect("it can be read");
        assert_eq!(found, [] as [String; 0], "a later version's record is not corrupt");
        // This version goes on, and so does the reader.
        create(&store, "alice", 2, "Friends");
        let events = reader.read().expect("reads");
        assert!(matches!(events.as_slice(), [Event::Change(change)] if change.version == Version(3)), "{events:?}");
    }
}
