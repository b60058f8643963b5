//! Hosts behind a pooler that hands each transaction another of the database's connections, and does not keep track of what
//! is prepared where. Processes number their statements alike, so that each finds statements of the others under the names
//! of its own.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use postgres_for_tests::{Database, Pooler};

const HOSTS: usize = 4;
const CALLS: usize = 60;

/// What a host is asked to do: by the time it has done it, its users have what `expected` says.
fn calls(host: usize) -> String {
    let line = |user: usize, method: &str, params: &str| {
        format!("{{\"user\":\"user-{host}-{user}\",\"method\":\"{method}\",\"params\":{params}}}\n")
    };
    let mut lines = String::new();
    for user in 0..4 {
        lines += &line(user, "createConversationGroup", r#"{"groupName":"Work","conversationIDList":["c2c_first"]}"#);
    }
    for call in 0..CALLS {
        let (user, id) = (call % 4, format!(r#"["c2c_{call}","group_{call}"]"#));
        // Alike in their parameters, unlike in what they do.
        lines +=
            &line(user, "addConversationsToGroup", &format!(r#"{{"groupName":"Work","conversationIDList":{id}}}"#));
        lines += &line(
            user,
            "markConversation",
            &format!(r#"{{"markType":1,"enableMark":true,"conversationIDList":{id}}}"#),
        );
        let gone = format!(r#"{{"groupName":"Work","conversationIDList":["group_{call}"]}}"#);
        lines += &line(user, "deleteConversationsFromGroup", &gone);
        lines += &line(user, "searchConversations", &format!(r#"{{"conversationIDList":{id}}}"#));
    }
    lines
}

#[test]
fn no_statement_is_taken_for_one_of_another_host() {
    let Some(database) = Database::create() else { return };
    let Some(pooler) = Pooler::start() else { return };
    let directory = tempfile::tempdir().expect("a directory can be made");
    let run = |host: usize| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_convgroups"));
        command.args(["run", "-", "--concurrency", "4", "--store", &pooler.url(database.url())]);
        command.args(["--set", "postgres.timeout_ms=60000", "--set", "calls.timeout_ms=60000"]);
        command.env("CONVGROUPS_CACHE_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("convgroups-cli-cache"));
        command.current_dir(&directory).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("it starts");
        let mut input = process.stdin.take().expect("it has an input");
        let writer = std::thread::spawn(move || input.write_all(calls(host).as_bytes()));
        let output = process.wait_with_output().expect("it ends");
        writer.join().expect("no panic").expect("all is read");
        output
    };
    let outputs: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..HOSTS).map(|host| scope.spawn(move || run(host))).collect();
        running.into_iter().map(|host| host.join().expect("no panic")).collect()
    });
    let mut noticed = 0;
    for output in outputs {
        let (answers, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let wrong: Vec<&str> = answers.lines().filter(|answer| !answer.starts_with(r#"{"code":0,"#)).collect();
        assert!(output.status.success() && wrong.is_empty(), "{wrong:#?}\n{log}");
        assert_eq!(answers.lines().count(), 4 + 4 * CALLS);
        noticed += usize::from(log.contains("does not keep track of prepared statements"));
    }
    assert!(noticed > 0, "no host has met what this is about");
    let members = (HOSTS * (4 + CALLS)).to_string();
    let marked = (HOSTS * 2 * CALLS).to_string();
    assert_eq!(database.query("SELECT count(*) FROM convgroups.members"), [members.as_str()]);
    let right = "SELECT count(*) FROM convgroups.members WHERE conversation_id LIKE 'c2c_%' AND user_id LIKE 'user-%'";
    assert_eq!(database.query(right), [members]);
    assert_eq!(database.query("SELECT count(*) FROM convgroups.conversations WHERE marks = 1"), [marked]);
    let changes = (HOSTS * (4 + 3 * CALLS)).to_string();
    assert_eq!(database.query("SELECT sum(version) FROM convgroups.users"), [changes.as_str()]);
    assert_eq!(database.query("SELECT count(*) FROM convgroups.log"), [changes]);
}
