//! Starting on PostgreSQL: the schema and its versions, and what is said when the database cannot be used.

use std::net::TcpListener;
use std::process::Output;
use std::sync::Barrier;

use convgroups_host::PostgresStore;
use convgroups_host::settings::PostgresSettings;
use postgres_for_tests::{Database, Server};

use crate::processes::run;

const VERSION: &str = "SELECT version FROM convgroups.schema_version";

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// Lists alice's groups.
fn list(store: &str, settings: &[&str]) -> Output {
    let mut arguments = vec!["call", "--user", "alice", "getConversationGroupList", "--store", store];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    run(&arguments)
}

/// What is said when a command fails.
fn refused(output: &Output) -> String {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(text(&output.stdout), "");
    said
}

#[test]
fn hosts_that_start_at_once_on_an_empty_database_make_its_schema_once() {
    let Some(server) = Server::start() else { return };
    for round in 0..30 {
        let database = server.create_database();
        let all = Barrier::new(8);
        std::thread::scope(|scope| {
            let (all, url) = (&all, database.url());
            let hosts: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(move || {
                        all.wait();
                        PostgresStore::open(url, &PostgresSettings { listen: false, ..PostgresSettings::default() })
                    })
                })
                .collect();
            for host in hosts {
                host.join().expect("no panic").map_err(|error| format!("round {round}: {error}")).expect("it opens");
            }
        });
        assert_eq!(database.query("SELECT count(*) FROM convgroups.schema_version"), ["1"]);
    }
}

#[test]
fn processes_that_start_at_once_on_an_empty_database_make_its_schema_once() {
    let Some(server) = Server::start() else { return };
    for _ in 0..8 {
        let database = server.create_database();
        std::thread::scope(|scope| {
            let commands: Vec<_> = (0..4)
                .map(|number| {
                    let url = database.url();
                    scope.spawn(
                        move || {
                            if number % 2 == 0 { run(&["migrate", "--store", url]) } else { list(url, &[]) }
                        },
                    )
                })
                .collect();
            for command in commands {
                let output = command.join().expect("no panic");
                assert!(output.status.success(), "{}", text(&output.stderr));
            }
        });
        assert_eq!(database.query("SELECT count(*) FROM convgroups.schema_version"), ["1"]);
    }
}

#[test]
fn a_schema_is_left_alone_where_the_setting_says_so_and_migrated_by_the_command() {
    let Some(database) = Database::create() else { return };
    let alone = ["postgres.migrate=false"];
    let said = refused(&list(database.url(), &alone));
    assert!(said.contains("has a schema of version 0") && said.contains("run `convgroups migrate`"), "{said}");
    assert_eq!(database.query("SELECT to_regnamespace('convgroups') IS NULL"), ["t"], "it was left alone");

    let migrated = run(&["migrate", "--store", database.url()]);
    assert!(migrated.status.success(), "{}", text(&migrated.stderr));
    let version = database.query(VERSION).remove(0);
    let said = text(&migrated.stderr);
    assert!(said.contains(&format!("went from the schema's version 0 to {version}")), "{said}");
    assert!(list(database.url(), &alone).status.success());

    let again = text(&run(&["migrate", "--store", database.url()]).stderr);
    assert!(again.contains(&format!("has the schema's version {version} already")), "{again}");

    // As the program before this one would have left it.
    let tables = ["DROP VIEW convgroups.memberships", "DROP TABLE convgroups.history"];
    database.execute(&tables);
    database.execute(&["UPDATE convgroups.schema_version SET version = 1"]);
    let said = refused(&list(database.url(), &alone));
    assert!(said.contains("has a schema of version 1") && said.contains("run `convgroups migrate`"), "{said}");
    let said = text(&run(&["migrate", "--store", database.url()]).stderr);
    assert!(said.contains(&format!("went from the schema's version 1 to {version}")), "{said}");
}

#[test]
fn a_schema_of_a_newer_program_is_refused_and_left_alone() {
    let Some(database) = Database::create() else { return };
    assert!(list(database.url(), &[]).status.success());
    database.execute(&["UPDATE convgroups.schema_version SET version = 99"]);
    for output in [
        list(database.url(), &[]),
        list(database.url(), &["postgres.migrate=false"]),
        run(&["migrate", "--store", database.url()]),
        run(&["serve", "--dev", "--listen", "127.0.0.1:0", "--store", database.url()]),
        run(&["events", "--user", "alice", "--store", database.url()]),
    ] {
        let said = refused(&output);
        assert!(said.contains("has a schema of version 99") && said.contains("use a newer program"), "{said}");
    }
    assert_eq!(database.query(VERSION), ["99"]);
}

#[test]
fn a_role_without_rights_is_told_which_it_lacks() {
    let Some(server) = Server::start() else { return };
    let database = server.create_database();
    database.execute(&["CREATE ROLE guest LOGIN"]);
    let as_guest = database.url().replace("postgres@", "guest@");
    let said = refused(&list(&as_guest, &[]));
    assert!(said.contains("permission denied for database"), "{said}");
    assert!(list(database.url(), &[]).status.success());
    let said = refused(&list(&as_guest, &[]));
    assert!(said.contains("permission denied for schema convgroups"), "{said}");

    database.execute(&["GRANT USAGE ON SCHEMA convgroups TO guest"]);
    let said = refused(&list(&as_guest, &[]));
    assert!(said.contains("permission denied for table schema_version"), "{said}");
    database.execute(&["GRANT SELECT ON ALL TABLES IN SCHEMA convgroups TO guest"]);
    assert!(list(&as_guest, &[]).status.success(), "who may read may ask");
    let create = r#"{"groupName":"Work","conversationIDList":["c2c_bob"]}"#;
    let output = run(&["call", "--user", "alice", "createConversationGroup", "--params", create, "--store", &as_guest]);
    let said = text(&output.stderr);
    assert!(said.contains("permission denied for table"), "{said}");
    assert!(text(&output.stdout).contains("nothing was changed"), "{}", text(&output.stdout));
}

#[test]
fn a_database_that_cannot_be_reached_or_will_not_have_us_is_named_without_the_password() {
    let Some(mut server) = Server::start() else { return };
    let database = server.create_database();
    database.execute(&["CREATE ROLE chat LOGIN PASSWORD 'right-secret'"]);
    let rules = "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
    let file = server.write("hba", rules);
    server.configure(&[&format!("hba_file={}", file.display())]);

    // Takes connections, and never says anything.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().expect("an address").port();
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").port()
    };
    let to = |port: u16, name: &str| format!("postgres://chat:wrong-secret@127.0.0.1:{port}/{name}");
    let name = database.url().rsplit_once('/').expect("a URL").1.to_owned();
    let right = database.url().replace("postgres@", "chat:right-secret@");
    for (url, place, reason) in [
        (to(server.port(), &name), server.port(), "password authentication failed for user \"chat\""),
        (right.replace(&name, "absent"), server.port(), "database \"absent\" does not exist"),
        (to(closed, &name), closed, "Connection refused"),
        (to(silent, &name), silent, "did not answer in time"),
        (
            format!("postgres://chat:wrong-secret@no-such-host.invalid/{name}?sslmode=disable"),
            5432,
            "could not connect",
        ),
    ] {
        for command in ["call", "serve", "migrate"] {
            let output = match command {
                "call" => list(&url, &["postgres.connect_timeout_ms=300"]),
                "serve" => run(&[
                    "serve",
                    "--dev",
                    "--listen",
                    "127.0.0.1:0",
                    "--store",
                    &url,
                    "--set",
                    "postgres.connect_timeout_ms=300",
                ]),
                _ => run(&["migrate", "--store", &url, "--set", "postgres.connect_timeout_ms=300"]),
            };
            let said = refused(&output);
            assert!(said.contains(reason), "{command}: {said}");
            assert!(said.contains(&place.to_string()), "{command}: {said}");
            assert!(!said.contains("secret"), "{command}: {said}");
        }
    }
    assert!(!list(&right, &[]).status.success(), "the role may not create a schema");
}
