//! PostgreSQL: several hosts on one database, what is between them and it, and what they say when it is not as it should be.

use std::path::Path;
use std::time::{Duration, Instant};

use convgroups_host::api::{AddConversationsToGroup, CreateConversationGroup};
use convgroups_host::events::{Event, EventReader};
use convgroups_host::model::{Change, Origin};
use convgroups_host::settings::PostgresSettings;
use convgroups_host::store::{Commit, Skip, Store, StoreErrorKind};
use convgroups_host::{EventId, History, Host, MemoryStore, PostgresStore, Version};
use convgroups_tests::user;
use postgres_for_tests::{Database, Pooler, Server};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// Far longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn open(url: &str, settings: &PostgresSettings) -> PostgresStore {
    PostgresStore::open(url, settings).expect("it opens")
}

#[test]
fn what_one_host_commits_wakes_the_readers_of_every_other() {
    let Some(database) = Database::create() else { return };
    let pooler = Pooler::start();
    let listening = PostgresSettings::default();
    let looking = PostgresSettings { listen: false, ..PostgresSettings::default() };
    let whole = PostgresSettings { prepare: false, ..PostgresSettings::default() };
    let mut stores = vec![
        ("listening", open(database.url(), &listening)),
        ("looking", open(database.url(), &looking)),
        ("sending statements whole", open(database.url(), &whole)),
        ("reading", PostgresStore::open_read_only(database.url(), &listening).expect("it opens")),
    ];
    // Notifications do not come through it.
    stores.extend(pooler.as_ref().map(|pooler| ("behind a pooler", open(&pooler.url(database.url()), &listening))));
    let writer = Host::builder().store(open(database.url(), &listening)).build().expect("it builds");
    let alice = user("alice");
    writer.call(&alice, &CreateConversationGroup::new("Work", ["c2c_0"])).expect("creates");

    std::thread::scope(|scope| {
        let mut readers = Vec::new();
        for (kind, store) in stores {
            let alice = alice.clone();
            readers.push(scope.spawn(move || {
                let mut reader = EventReader::new(std::sync::Arc::new(store), alice, Version(1));
                let mut versions = Vec::new();
                while versions.len() < 5 {
                    let events = reader.wait(PATIENCE).expect("reads");
                    assert!(!events.is_empty(), "{kind}: nothing came after {versions:?}");
                    versions.extend(events.iter().map(|event| event.version().0));
                }
                assert_eq!(versions, [2, 3, 4, 5, 6], "{kind}");
            }));
        }
        for number in 1..=5 {
            // Some in one go, some after the readers have gone to sleep.
            std::thread::sleep(Duration::from_millis(number % 2 * 300));
            writer.call(&alice, &AddConversationsToGroup::new("Work", [format!("c2c_{number}")])).expect("adds");
        }
        readers.into_iter().for_each(|reader| reader.join().expect("the reader is well"));
    });
}

#[test]
fn readers_go_on_when_the_database_has_been_away() {
    let Some(mut server) = Server::start() else { return };
    let database = server.create_database();
    let settings = PostgresSettings { timeout_ms: 60_000, ..PostgresSettings::default() };
    let reading = std::sync::Arc::new(open(database.url(), &settings));
    let writer = Host::builder().store(open(database.url(), &settings)).build().expect("it builds");
    let alice = user("alice");
    writer.call(&alice, &CreateConversationGroup::new("Work", ["c2c_0"])).expect("creates");
    let mut reader = EventReader::new(reading, alice.clone(), Version(0));
    for number in 1..4 {
        server.crash();
        server.resume();
        writer.call(&alice, &AddConversationsToGroup::new("Work", [format!("c2c_{number}")])).expect("adds");
    }
    let mut versions = Vec::new();
    while versions.len() < 4 {
        let events = reader.wait(PATIENCE).expect("reads");
        assert!(!events.is_empty(), "nothing came after {versions:?}");
        versions.extend(events.iter().map(|event| event.version().0));
    }
    assert_eq!(versions, [1, 2, 3, 4]);
    assert_eq!(reader.read().expect("reads"), [] as [Event; 0]);
}

#[test]
fn a_commit_that_is_given_up_does_not_go_on_waiting_in_the_database() {
    let Some(database) = Database::create() else { return };
    let store = open(database.url(), &PostgresSettings::default());
    let alice = user("alice");
    let change = |base, name: &str, deadline| Commit {
        user: alice.clone(),
        base: Version(base),
        changes: vec![Change::GroupCreated { group_name: name.to_owned(), conversation_list: vec![] }],
        origin: Origin { method: "test".to_owned(), request_id: name.to_owned() },
        keep: 100,
        skip: Skip::default(),
        deadline,
    };
    store.commit(change(0, "Work", None)).expect("commits");
    std::thread::scope(|scope| {
        let holder = "BEGIN; SELECT FROM convgroups.users FOR UPDATE; SELECT pg_sleep(6); ROLLBACK";
        scope.spawn(|| database.execute(&[holder]));
        let seen = |condition: &str| {
            let count =
                format!("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND {condition}");
            database.query(&count) != ["0"]
        };
        let held = || seen("wait_event = 'PgSleep'");
        while !held() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let deadline = Instant::now() + Duration::from_millis(300);
        let error = store.commit(change(1, "Home", Some(deadline))).expect_err("the row is locked");
        assert_eq!(error.kind, StoreErrorKind::OutcomeUnknown, "{error}");
        while seen("wait_event_type = 'Lock'") {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(held(), "it waited until the lock was free");
    });
    assert_eq!(store.groups(&alice).expect("reads").version, Version(1));
}

#[test]
fn a_commit_of_very_many_changes_is_applied_in_their_order() {
    let Some(database) = Database::create() else { return };
    let stores: [Box<dyn Store>; 2] =
        [Box::new(MemoryStore::new()), Box::new(open(database.url(), &PostgresSettings::default()))];
    let (name, id) = (|number: usize| format!("group {}", number % 7), |number: usize| format!("c2c_{number}"));
    let mut changes = Vec::new();
    for number in 0..200 {
        // A name is free again as soon as its group has another.
        changes.push(Change::GroupCreated { group_name: name(number), conversation_list: vec![id(number)] });
        let conversation_list = vec![id(number + 1), id(number + 2)];
        changes.push(Change::ConversationsAdded { group_name: name(number), conversation_list });
        let new_name = format!("kept {number}");
        changes.push(Change::GroupRenamed { old_name: name(number), new_name: new_name.clone() });
        if number % 3 == 0 {
            changes.push(Change::GroupDeleted { group_name: new_name });
        }
    }
    let [memory, postgres] = stores.map(|store| {
        let commit = Commit {
            user: user("alice"),
            base: Version(0),
            changes: changes.clone(),
            origin: Origin { method: "test".to_owned(), request_id: "many".to_owned() },
            keep: 100,
            skip: Skip::default(),
            deadline: None,
        };
        store.commit(commit).expect("commits");
        let (state, groups) =
            (store.state(&user("alice")).expect("reads"), store.groups(&user("alice")).expect("reads"));
        (state, groups, store.page(&user("alice"), None, 0, 1000).expect("reads"))
    });
    assert_eq!(postgres, memory);
}

/// An authority, and a server's certificate and key signed by it.
struct Certificates {
    directory: TempDir,
    certificate: String,
    key: String,
}

impl Certificates {
    fn new(host: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().expect("a key can be made");
        let signed = authority.self_signed(&authority_key).expect("an authority signs itself");
        std::fs::write(directory.path().join("ca.pem"), signed.pem()).expect("writes");
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = CertificateParams::new([host.to_owned()]).expect("a name");
        let certificate = certificate.signed_by(&key, &Issuer::new(authority, authority_key)).expect("it is signed");
        Self { certificate: certificate.pem(), key: key.serialize_pem(), directory }
    }

    fn settings(&self) -> PostgresSettings {
        PostgresSettings { ca_file: self.directory.path().join("ca.pem"), ..PostgresSettings::default() }
    }
}

fn refused(url: &str, settings: &PostgresSettings) -> String {
    let error = PostgresStore::open(url, settings).expect_err("it does not open");
    assert_eq!(error.kind, StoreErrorKind::Unusable, "{error}");
    error.message
}

#[test]
fn tls_is_spoken_to_the_server_that_was_meant_and_to_no_other() {
    let Some(mut server) = Server::start() else { return };
    let url = |query: &str| format!("postgres://postgres@localhost:{}/postgres{query}", server.port());
    let (plain, secure) = (url("?sslmode=disable"), url("?sslmode=verify-full"));
    let other_name = secure.replace("localhost", "127.0.0.1");
    let good = Certificates::new("localhost");
    let reason = refused(&secure, &good.settings());
    assert!(reason.contains("server does not support TLS"), "{reason}");

    let certificate = server.write("server.pem", &good.certificate).display().to_string();
    let key = server.write("server.key", &good.key).display().to_string();
    server.configure(&["ssl=on", &format!("ssl_cert_file={certificate}"), &format!("ssl_key_file={key}")]);
    let store = open(&secure, &good.settings());
    store.health().expect("it is well");
    let database = server.create_database();
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE ssl AND application_name = 'convgroups'";
    assert_ne!(database.query(encrypted), ["0"]);
    open(&plain, &good.settings()).health().expect("it is well");

    for (url, settings, expected) in [
        (&secure, Certificates::new("localhost").settings(), "invalid peer certificate"),
        (&other_name, good.settings(), "not valid for name"),
        (
            &secure,
            PostgresSettings { ca_file: "/nowhere/ca.pem".into(), ..PostgresSettings::default() },
            "postgres.ca_file",
        ),
        (
            &secure,
            PostgresSettings { ca_file: Path::new(&certificate).into(), ..PostgresSettings::default() },
            "invalid",
        ),
    ] {
        let reason = refused(url, &settings);
        assert!(reason.contains(expected), "{reason}");
    }
}

#[test]
fn a_password_is_read_again_for_each_new_connection() {
    let Some(mut server) = Server::start() else { return };
    let database = server.create_database();
    database.execute(&["CREATE ROLE chat LOGIN SUPERUSER PASSWORD 'first'"]);
    let rules = "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
    let rules = server.write("hba", rules).display().to_string();
    server.configure(&[&format!("hba_file={rules}")]);
    let directory = tempfile::tempdir().expect("a directory can be made");
    let password_file = directory.path().join("password");
    let settings = PostgresSettings { password_file: password_file.clone(), ..PostgresSettings::default() };
    let url = database.url().replace("postgres@", "chat@");

    let reason = refused(&url, &settings);
    assert!(reason.contains("postgres.password_file"), "{reason}");
    for wrong in ["second", ""] {
        std::fs::write(&password_file, wrong).expect("writes");
        let reason = refused(&url, &settings);
        assert!(reason.contains("password"), "{reason}");
        assert!(wrong.is_empty() || !reason.contains(wrong), "{reason}");
    }
    std::fs::write(&password_file, "first\n").expect("writes");
    let store = open(&url, &settings);
    store.health().expect("it is well");

    database.execute(&["ALTER ROLE chat PASSWORD 'second'"]);
    std::fs::write(&password_file, "second\r\n").expect("writes");
    server.crash();
    server.resume();
    store.health().expect("a new connection has the new password");
    // A file that is gone for a moment is not missed.
    std::fs::remove_file(&password_file).expect("removes");
    store.health().expect("it is well");
}

#[test]
fn a_database_that_only_takes_reads_is_not_healthy_and_says_why() {
    let Some(database) = Database::create() else { return };
    let settings = PostgresSettings::default();
    let store = open(database.url(), &settings);
    store.health().expect("it is well");
    let name = database.query("SELECT current_database()").remove(0);
    database.execute(&[&format!("ALTER DATABASE {name} SET default_transaction_read_only = on")]);
    // As after a failover: connections that were made before are gone.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    drop(database.query(end));
    for store in [store, open(database.url(), &settings)] {
        let error = store.health().expect_err("nothing can be written");
        assert_eq!(error.kind, StoreErrorKind::Unavailable, "{error}");
        assert!(error.message.contains("SQLSTATE 25006") && error.message.contains("standby"), "{error}");
        store.users(None, 1).expect("it can be read");
    }
    PostgresStore::open_read_only(database.url(), &settings).expect("opens").health().expect("it is only read");
    database.execute(&[
        "SET default_transaction_read_only = off",
        &format!("ALTER DATABASE {name} SET default_transaction_read_only = off"),
    ]);
    let store = open(database.url(), &settings);
    store.health().expect("it is well again");
    assert_eq!(database.query("SELECT count(*) FROM convgroups.log"), ["0"], "a probe leaves nothing");
}

#[test]
fn databases_that_cannot_keep_the_promises_are_refused_and_tell_why() {
    let Some(database) = Database::create() else { return };
    let settings = PostgresSettings::default();
    let read_only = |url: &str| PostgresStore::open_read_only(url, &settings).expect_err("it does not open").message;
    let reason = read_only(database.url());
    assert!(reason.contains("schema of version 0") && reason.contains("convgroups migrate"), "{reason}");

    database.execute(&["CREATE DATABASE convgroups_test_latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'"]);
    let (address, _) = database.url().rsplit_once('/').expect("a URL");
    let reason = refused(&format!("{address}/convgroups_test_latin"), &settings);
    database.execute(&["DROP DATABASE convgroups_test_latin WITH (FORCE)"]);
    assert!(reason.contains("LATIN1") && reason.contains("UTF8"), "{reason}");

    let store = open(database.url(), &settings);
    let alice = user("alice");
    database.execute(&["INSERT INTO convgroups.users VALUES ('alice', -1, 0)"]);
    let error = store.groups(&alice).expect_err("no version is negative");
    assert_eq!(error.kind, StoreErrorKind::Corrupt, "{error}");
}

/// Adds conversations, after which alice's groups have a version. The ID of the event that led to it.
fn add_up_to(host: &Host, version: u64) -> EventId {
    let alice = user("alice");
    let mut at = host.store().groups(&alice).expect("reads").version.0;
    while at < version {
        if at == 0 {
            host.call(&alice, &CreateConversationGroup::new("Work", ["c2c_0"])).expect("creates");
        } else {
            let id = format!("c2c_{at}_{}", fastrand::u64(..));
            host.call(&alice, &AddConversationsToGroup::new("Work", [id])).expect("adds");
        }
        at += 1;
    }
    EventId { version: Version(version), history: Some(host.store().history().expect("reads")) }
}

fn patient() -> PostgresSettings {
    PostgresSettings { timeout_ms: 60_000, ..PostgresSettings::default() }
}

fn patient_host(url: &str) -> Host {
    let mut settings = convgroups_host::Settings::default();
    settings.calls.timeout_ms = 60_000;
    Host::builder().settings(settings).store(open(url, &patient())).build().expect("it builds")
}

#[test]
fn after_a_point_in_time_recovery_readers_of_hosts_that_ran_on_and_of_new_ones_get_everything() {
    let Some(mut server) = Server::start() else { return };
    let database = server.create_database();
    let running: Vec<Host> = (0..3).map(|_| patient_host(database.url())).collect();
    let [first, ..] = running.as_slice() else { unreachable!("there are three") };
    add_up_to(first, 10);
    server.save();
    let seen = add_up_to(first, 15);
    for host in &running {
        assert_eq!(host.store().history().ok(), seen.history, "a stop alone begins no history");
    }
    let mut open_reader = first.events(user("alice"), seen);
    assert!(open_reader.read().expect("reads").is_empty());
    server.recover_saved();
    let now = add_up_to(first, 16);
    assert_ne!(now.history, seen.history);
    let new = patient_host(database.url());
    for host in running.iter().chain([&new]) {
        assert_eq!(host.store().history().ok(), now.history, "all hosts have the same");
        let events = host.events(user("alice"), seen).read().expect("reads");
        let [Event::Full(full)] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!((full.version, full.groups[0].conversation_id_list.len()), (Version(16), 16));
    }
    // One that has never gone away is woken, and also gets the full snapshot.
    let events = open_reader.wait(PATIENCE).expect("reads");
    assert!(matches!(events.as_slice(), [Event::Full(_)]), "{events:?}");
    assert_eq!(open_reader.after(), now);
}

#[test]
fn a_dump_that_was_restored_begins_a_new_history_wherever_it_was_restored() {
    let Some(server) = Server::start() else { return };
    let database = server.create_database();
    let host = patient_host(database.url());
    add_up_to(&host, 10);
    let dump = server.dump(&database, "convgroups");
    let seen = add_up_to(&host, 15);
    let other = server.create_database();
    other.execute(&[&dump]);
    // Of the database itself the tables are emptied and filled again.
    let tables = ["history", "users", "groups", "members", "conversations", "log"];
    let emptied: Vec<String> = tables.iter().map(|table| format!("DELETE FROM convgroups.{table};")).collect();
    let filled = dump
        .lines()
        .filter(|line| tables.iter().any(|table| line.starts_with(&format!("INSERT INTO convgroups.{table} "))));
    let same = format!("BEGIN; {} {} COMMIT;", emptied.concat(), filled.collect::<Vec<_>>().join("\n"));
    database.execute(&[&same]);
    for database in [&database, &other] {
        let host = patient_host(database.url());
        let now = add_up_to(&host, 16);
        assert_ne!(now.history, seen.history);
        let events = host.events(user("alice"), seen).read().expect("reads");
        assert!(matches!(events.as_slice(), [Event::Full(full)] if full.version == Version(16)), "{events:?}");
        // And stays, also when the table is rewritten.
        database.execute(&["VACUUM FULL convgroups.history", "VACUUM FREEZE convgroups.history"]);
        assert_eq!(patient_host(database.url()).store().history().ok(), now.history);
    }
}

#[test]
fn many_hosts_that_notice_a_restore_at_once_begin_one_history() {
    let Some(database) = Database::create() else { return };
    let looking = PostgresSettings { listen: false, ..patient() };
    let hosts: Vec<PostgresStore> = (0..6).map(|_| open(database.url(), &looking)).collect();
    let histories = || -> Vec<History> {
        std::thread::scope(|scope| {
            let asked: Vec<_> = hosts.iter().map(|host| scope.spawn(|| host.history().expect("reads"))).collect();
            asked.into_iter().map(|history| history.join().expect("no panic")).collect()
        })
    };
    let mut before = histories();
    for round in 0..20 {
        // Written by another transaction than it says, as by a restore.
        database.execute(&["UPDATE convgroups.history SET written_by = 1"]);
        let now = histories();
        assert!(now.iter().all(|history| *history == now[0]) && now[0] != before[0], "round {round}: {now:?}");
        before = now;
    }
}

#[test]
fn a_database_that_does_not_tell_where_it_is_keeps_its_history_until_one_is_begun_by_hand() {
    let Some(server) = Server::start() else { return };
    let database = server.create_database();
    drop(open(database.url(), &patient()));
    let name = database.query("SELECT current_database()").remove(0);
    database.execute(&[
        "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC",
        "REVOKE EXECUTE ON FUNCTION pg_current_wal_lsn() FROM PUBLIC",
        "CREATE ROLE plain LOGIN",
        "GRANT USAGE ON SCHEMA convgroups TO plain",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA convgroups TO plain",
    ]);
    let plain = database.url().replace("postgres@", "plain@");
    assert!(plain.contains("plain@") && plain.ends_with(&name));
    let settings = PostgresSettings { migrate: false, ..patient() };
    let store = open(&plain, &settings);
    let history = store.history().expect("reads");
    database
        .execute(&["UPDATE convgroups.history SET timeline = 'FFFFFFFF', written_by = (txid_current() & 4294967295)"]);
    assert_eq!(store.history(), Ok(history), "it cannot know");
    assert_eq!(open(&plain, &settings).history(), Ok(history));
    let begun = PostgresStore::begin_history(&plain, &settings).expect("begins");
    assert_ne!(begun, history);
    assert_eq!(store.history(), Ok(begun));
    // One that may ask does know, and hosts that may not leave its history alone.
    database
        .execute(&["UPDATE convgroups.history SET timeline = 'FFFFFFFF', written_by = (txid_current() & 4294967295)"]);
    let known = open(database.url(), &patient()).history().expect("reads");
    assert_ne!(known, begun);
    assert_eq!((store.history(), open(&plain, &settings).history()), (Ok(known), Ok(known)));
}

#[test]
fn what_cannot_be_true_of_a_database_is_named_when_it_is_verified() {
    let cases = [
        ("UPDATE convgroups.users SET version = 0", "user \"alice\": the version 0 is not between 1 and"),
        ("UPDATE convgroups.users SET version = 9", "the change log ends with version 2, the user is at version 9"),
        ("UPDATE convgroups.users SET groups_created = 0", "the group \"Work\" has the ID 1, though 0 were created"),
        ("UPDATE convgroups.groups SET name = chr(10)", "the group name \"\\n\" is not 1 to 256 bytes"),
        ("UPDATE convgroups.members SET position = 1048576", "is another's too"),
        ("UPDATE convgroups.members SET position = 5 WHERE conversation_id = 'c2c_0'", "the position 5"),
        ("DELETE FROM convgroups.groups", "is in the group 1, which does not exist"),
        ("DELETE FROM convgroups.users", "the table members has rows of this user, the table users has none"),
        (
            "DELETE FROM convgroups.log WHERE version = 2",
            "the change log ends with version 1, the user is at version 2",
        ),
        ("UPDATE convgroups.log SET version = 5 WHERE version = 2", "the change log goes from version 1 to 5"),
        ("UPDATE convgroups.log SET events = 'x' WHERE version = 2", "entry for version 2 cannot be read"),
        ("DELETE FROM convgroups.history", "the table history has 0 rows, 1 is expected"),
        ("UPDATE convgroups.history SET identity = 'x'", "the history cannot be read"),
    ];
    let Some(server) = Server::start() else { return };
    for (sql, expected) in cases {
        let database = server.create_database();
        let host = patient_host(database.url());
        add_up_to(&host, 2);
        let reader = PostgresStore::open_read_only(database.url(), &patient()).expect("opens");
        let verify = || {
            let mut found = Vec::new();
            reader.verify(&mut |line| found.push(line)).expect("it can be read");
            found
        };
        assert_eq!(verify(), [] as [String; 0]);
        drop(host);
        database.execute(&[sql]);
        let found = verify();
        assert!(found.iter().any(|line| line.contains(expected)), "{sql}: {found:?}");
    }
}

#[test]
fn a_record_of_a_later_version_in_a_shared_change_log_is_read_as_a_full_snapshot() {
    let Some(database) = Database::create() else { return };
    let host = patient_host(database.url());
    add_up_to(&host, 3);
    let later = r#"{"format":1,"events":[{"event":"onConversationGroupColoured","groupName":"Work","colour":7}]}"#;
    database.execute(&[&format!("UPDATE convgroups.log SET events = '{later}' WHERE version = 2")]);
    let mut reader = host.events(user("alice"), Version(1));
    let events = reader.read().expect("reads");
    assert!(matches!(events.as_slice(), [Event::Full(full)] if full.version == Version(3)), "{events:?}");
    let mut found = Vec::new();
    host.store().verify(&mut |line| found.push(line)).expect("it can be read");
    assert_eq!(found, [] as [String; 0], "a later version's record is not corrupt");
    add_up_to(&host, 4);
    let events = reader.read().expect("reads");
    assert!(matches!(events.as_slice(), [Event::Change(change)] if change.version == Version(4)), "{events:?}");
}
