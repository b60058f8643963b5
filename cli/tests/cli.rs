//! The command line as scripts and people have it: real processes, real files, answers byte for byte.
//!
//! Every wait has an end: a process that should answer and does not is a failure, not a test that hangs.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Far longer than anything takes; only a process that hangs uses it up.
const PATIENCE: Duration = Duration::from_secs(120);

const PROGRAM: &str = env!("CARGO_BIN_EXE_convgroups");

/// Compiled plugins, shared by all tests.
static CACHE: LazyLock<PathBuf> = LazyLock::new(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("convgroups-cli-cache"));

/// The first line of what is written by hand to be imported.
const HEADER: &str = r#"{"format":"convgroups-export","version":1}"#;

/// A directory of its own to run commands in.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory can be made"))
    }

    /// As new, with a group "Work" of alice.
    fn with_a_group() -> Self {
        let place = Self::new();
        place.feed(&["run", "-"], create("alice", "Work", &["c2c_bob", "group_42"])).succeeds();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).expect("the file can be written");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("the file can be read")
    }

    fn names(&self) -> Vec<String> {
        files(self.0.path()).into_keys().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect()
    }

    /// A program in this directory, without settings from outside.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("CONVGROUPS_")) {
                command.env_remove(name);
            }
        }
        command.current_dir(self.0.path()).env("CONVGROUPS_CACHE_DIR", &*CACHE);
        command
    }

    fn convgroups(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(PROGRAM);
        command.args(arguments);
        command
    }

    /// Runs a command to its end, with nothing to read.
    fn run(&self, arguments: &[&str]) -> Ended {
        self.feed(arguments, "")
    }

    /// Runs a command to its end.
    fn feed(&self, arguments: &[&str], input: impl Into<Vec<u8>>) -> Ended {
        Session::start(&mut self.convgroups(arguments)).feed(input.into())
    }

    fn start(&self, arguments: &[&str]) -> Session {
        Session::start(&mut self.convgroups(arguments))
    }

    /// Starts a command inside a shell's script, which calls it `"$0" "$@"`.
    fn start_in_shell(&self, script: &str, arguments: &[&str]) -> Session {
        Session::start(self.command("sh").args(["-c", script, PROGRAM]).args(arguments))
    }

    fn export(&self, store: &str) -> String {
        self.run(&["export", "--store", store]).succeeds().stdout
    }

    /// Everything in the default store: the conversations of each user's each group.
    fn groups(&self) -> Groups {
        let exported = self.export("sqlite:convgroups.db");
        let groups = exported
            .lines()
            .map(parse)
            .filter(|line| line.get("groupName").is_some())
            .map(|line| ((text(&line["user"]), text(&line["groupName"])), texts(&line["conversationIDList"])));
        groups.collect()
    }

    fn events(&self, user: &str) -> Vec<Value> {
        self.run(&["events", "--user", user]).succeeds().json()
    }
}

type Groups = BTreeMap<(String, String), Vec<String>>;

/// A process that runs.
struct Session {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Option<JoinHandle<String>>,
}

impl Session {
    fn start(command: &mut Command) -> Self {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("the program starts");
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut errors = child.stderr.take().expect("it is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            loop {
                let mut line = String::new();
                let read = output.read_line(&mut line).expect("the output is UTF-8");
                if read == 0 || sender.send(line).is_err() {
                    break;
                }
            }
        });
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).expect("the messages are UTF-8");
            text
        });
        Self { child, input, lines, errors: Some(errors) }
    }

    /// Sends something and leaves the input open.
    fn send(&mut self, text: &str) {
        let input = self.input.as_mut().expect("the input is open");
        input.write_all(text.as_bytes()).and_then(|()| input.flush()).expect("the process reads");
    }

    /// The next line that it prints.
    fn answer(&self) -> Value {
        parse(&self.lines.recv_timeout(PATIENCE).expect("it answers while its input is open"))
    }

    /// Sends all the rest, and waits for the end.
    fn feed(mut self, rest: Vec<u8>) -> Ended {
        let mut input = self.input.take().expect("the input is open");
        // A process that fails early does not read to the end.
        let feeding = std::thread::spawn(move || drop(input.write_all(&rest)));
        let ended = self.end();
        feeding.join().expect("no panic");
        ended
    }

    /// Kills the process as a crash would; what it had printed until then.
    fn kill(mut self) -> Ended {
        self.child.kill().expect("the process can be killed");
        self.end()
    }

    fn end(&mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        let mut stdout = String::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => stdout += &line,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => assert!(Instant::now() < deadline, "hangs after {stdout}"),
            }
        }
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the process can be waited for") {
                break status;
            }
            assert!(Instant::now() < deadline, "closed its output and hangs after {stdout}");
            std::thread::sleep(Duration::from_millis(1));
        };
        let errors = self.errors.take().expect("a process ends once");
        Ended { code: status.code(), stdout, stderr: errors.join().expect("no panic") }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It has ended by itself, or the test failed; in both cases nobody is interested.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that has ended.
#[derive(Debug)]
struct Ended {
    /// Nothing when it was killed.
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    #[track_caller]
    fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    fn succeeds(self) -> Self {
        self.exits(0)
    }

    /// Exits so, prints nothing, and says all of this on standard error.
    #[track_caller]
    fn fails(self, code: i32, says: &[&str]) {
        let Self { stdout, stderr, .. } = self.exits(code);
        assert_eq!(stdout, "", "{stderr}");
        for fragment in says {
            assert!(stderr.contains(fragment), "{fragment:?} is not in {stderr:?}");
        }
    }

    /// Everything printed, as JSON lines.
    fn json(&self) -> Vec<Value> {
        self.stdout.lines().map(parse).collect()
    }
}

#[track_caller]
fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| json!({ "not JSON": line, "because": error.to_string() }))
}

fn text(value: &Value) -> String {
    value.as_str().expect("is a text").to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().expect("is a list").iter().map(text).collect()
}

fn line(user: &str, method: &str, params: &Value) -> String {
    format!("{}\n", json!({ "user": user, "method": method, "params": params }))
}

fn create(user: &str, group: &str, ids: &[impl AsRef<str>]) -> String {
    line(user, "createConversationGroup", &group_and_ids(group, ids))
}

fn add(user: &str, group: &str, ids: &[impl AsRef<str>]) -> String {
    line(user, "addConversationsToGroup", &group_and_ids(group, ids))
}

fn mark(user: &str, marks: u64, ids: &[&str]) -> String {
    let params = json!({ "markType": marks, "enableMark": true, "conversationIDList": ids });
    line(user, "markConversation", &params)
}

fn give(user: &str, custom_data: &str, ids: &[&str]) -> String {
    let params = json!({ "customData": custom_data, "conversationIDList": ids });
    line(user, "setConversationCustomData", &params)
}

fn group_and_ids(group: &str, ids: &[impl AsRef<str>]) -> Value {
    let ids: Vec<&str> = ids.iter().map(AsRef::as_ref).collect();
    json!({ "groupName": group, "conversationIDList": ids })
}

/// All files below a directory, with content and time.
fn files(directory: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).expect("the directory can be read") {
            let path = entry.expect("the directory can be read").path();
            let metadata = std::fs::metadata(&path).expect("the file is there");
            if metadata.is_dir() {
                pending.push(path);
            } else {
                let content = std::fs::read(&path).expect("the file can be read");
                found.insert(path, (content, metadata.modified().expect("files have times")));
            }
        }
    }
    found
}

// ---- call

#[test]
fn a_call_prints_the_sdks_answer_and_exits_by_its_code() {
    let place = Place::new();
    let steps: &[(&str, &str, &str, i32)] = &[
        (
            "createConversationGroup",
            r#"{"groupName":"Work","conversationIDList":["c2c_bob","group_42"]}"#,
            r#"{"code":0,"desc":"","data":[{"conversationID":"c2c_bob","resultCode":0,"resultInfo":""},{"conversationID":"group_42","resultCode":0,"resultInfo":""}]}"#,
            0,
        ),
        (
            "create-conversation-group",
            r#"{"groupName":"Work","conversationIDList":["c2c_bob"]}"#,
            r#"{"code":50002,"desc":"a group named \"Work\" exists already"}"#,
            1,
        ),
        (
            "delete-conversations-from-group",
            r#"{"groupName":"Work","conversationIDList":["c2c_bob","c2c_eve"]}"#,
            r#"{"code":0,"desc":"","data":[{"conversationID":"c2c_bob","resultCode":0,"resultInfo":""},{"conversationID":"c2c_eve","resultCode":0,"resultInfo":"not in the group"}]}"#,
            0,
        ),
        ("renameConversationGroup", r#"{"oldName":"Work","newName":"Arbeit"}"#, r#"{"code":0,"desc":""}"#, 0),
        ("getConversationGroupList", "{}", r#"{"code":0,"desc":"","data":["Arbeit"]}"#, 0),
        (
            "markConversation",
            r#"{"markType":"4294967297","enableMark":true,"conversationIDList":["group_42"]}"#,
            r#"{"code":0,"desc":"","data":[{"conversationID":"group_42","resultCode":0,"resultInfo":""}]}"#,
            0,
        ),
        (
            "set-conversation-custom-data",
            r#"{"customData":"blue","conversationIDList":["group_42"]}"#,
            r#"{"code":0,"desc":"","data":[{"conversationID":"group_42","resultCode":0,"resultInfo":""}]}"#,
            0,
        ),
        (
            "searchConversations",
            r#"{"conversationIDList":["group_42"]}"#,
            r#"{"code":0,"desc":"","data":[{"conversationID":"group_42","resultCode":0,"resultInfo":"","conversationGroupList":["Arbeit"],"customData":"blue","markList":[1,4294967296]}]}"#,
            0,
        ),
        (
            "getConversationListByFilter",
            r#"{"count":10}"#,
            r#"{"code":0,"desc":"","data":{"nextSeq":"1048577","isFinished":true,"conversationList":[{"conversationID":"group_42","conversationGroupList":["Arbeit"],"customData":"blue","markList":[1,4294967296]}]}}"#,
            0,
        ),
        ("deleteConversationGroup", r#"{"groupName":"Arbeit"}"#, r#"{"code":0,"desc":""}"#, 0),
        (
            "deleteConversationGroup",
            r#"{"groupName":"Arbeit"}"#,
            r#"{"code":51009,"desc":"there is no group named \"Arbeit\""}"#,
            1,
        ),
        (
            "deleteConversationGroup",
            r#"{"group":"Work"}"#,
            r#"{"code":50002,"desc":"params.group: unknown field \"group\": expected groupName"}"#,
            1,
        ),
        ("getConversationGroupList", "[]", r#"{"code":50002,"desc":"params: expected an object, got a list"}"#, 1),
    ];
    for (method, params, answer, code) in steps {
        let ended = place.run(&["call", method, "--user", "alice", "--params", params]).exits(*code);
        assert_eq!(ended.stdout, format!("{answer}\n"), "{method} {params}");
        assert_eq!(ended.stderr, "", "{method} {params}");
    }
}

#[test]
fn an_operation_is_known_in_the_sdks_spelling_and_in_kebab_case() {
    let place = Place::new();
    let methods = [
        ("createConversationGroup", "create-conversation-group"),
        ("getConversationGroupList", "get-conversation-group-list"),
        ("deleteConversationGroup", "delete-conversation-group"),
        ("renameConversationGroup", "rename-conversation-group"),
        ("addConversationsToGroup", "add-conversations-to-group"),
        ("deleteConversationsFromGroup", "delete-conversations-from-group"),
        ("markConversation", "mark-conversation"),
        ("setConversationCustomData", "set-conversation-custom-data"),
        ("getConversationListByFilter", "get-conversation-list-by-filter"),
        ("searchConversations", "search-conversations"),
    ];
    for (sdk, kebab) in methods {
        let call = |method| place.run(&["call", method, "--user", "alice", "--store", "memory:"]);
        let (sdk, kebab) = (call(sdk), call(kebab));
        assert_eq!((sdk.code, &sdk.stdout), (kebab.code, &kebab.stdout));
        assert!(matches!(sdk.code, Some(0 | 1)), "{sdk:?}");
    }
}

#[test]
fn wrong_usage_exits_with_2_and_says_what_is_wrong() {
    let cases: &[(&[&str], &str)] = &[
        (&["call", "nope", "--user", "alice"], "createConversationGroup"),
        (&["call", "getConversationGroupList"], "--user"),
        (&["call", "getConversationGroupList", "--user", ""], "the user id is empty"),
        (&["call", "getConversationGroupList", "--user", "a\tb"], "control characters"),
        (&["call", "getConversationGroupList", "--user", "alice", "--params", "{"], "--params is not JSON"),
        (&["call", "getConversationGroupList", "--user", "alice", "--params", ""], "--params is not JSON"),
        (&["call", "getConversationGroupList", "--user", "alice", "--nope"], "--nope"),
        (&["call", "getConversationGroupList", "--user", "alice", "--output", "xml"], "xml"),
        (&["run", "--concurrency", "0"], "0 is not in 1..=1024"),
        (&["run", "--concurrency", "1025"], "1025 is not in 1..=1024"),
        (&["events"], "--user"),
        (&["events", "--user", "alice", "--after", "-1"], "-1"),
        (&["backup"], "<DESTINATION>"),
        (&["restore"], "<FILE>"),
        (&["completions", "cmd"], "cmd"),
        (&["nope"], "nope"),
    ];
    for (arguments, says) in cases {
        Place::new().run(arguments).fails(2, &[says]);
    }
}

#[test]
fn a_call_prints_a_table_for_people() {
    let place = Place::with_a_group();
    let call = |method: &str, params: &str| {
        place.run(&["call", method, "--user", "alice", "--output", "table", "--params", params])
    };
    assert_eq!(
        call("getConversationGroupList", "{}").succeeds().stdout,
        "┌───────┐\n│ group │\n╞═══════╡\n│ Work  │\n└───────┘\n"
    );
    let deleted =
        call("deleteConversationsFromGroup", r#"{"groupName":"Work","conversationIDList":["c2c_bob","c2c_x"]}"#);
    let deleted = deleted.succeeds().stdout;
    for fragment in ["conversation", "code", "remark", "c2c_bob", "c2c_x", "not in the group"] {
        assert!(deleted.contains(fragment), "{deleted}");
    }
    assert_eq!(call("deleteConversationGroup", r#"{"groupName":"Work"}"#).succeeds().stdout, "done\n");
    assert_eq!(
        call("deleteConversationGroup", r#"{"groupName":"Work"}"#).exits(1).stdout,
        "failed with code 51009: there is no group named \"Work\"\n"
    );
    assert_eq!(call("getConversationGroupList", "{}").succeeds().stdout, "no groups\n");
}

#[test]
fn marks_and_custom_data_are_shown_to_people_by_their_names_and_without_control_characters() {
    let place = Place::with_a_group();
    let input = mark("alice", 1 | 2 | 4 | 8 | 1 << 32, &["c2c_bob"])
        + &give("alice", "re\"d\u{1b}[2J\né", &["c2c_bob", "c2c_eve"])
        + &line("alice", "searchConversations", &json!({ "conversationIDList": ["c2c_bob", "c2c_x"] }))
        + &line("alice", "getConversationListByFilter", &json!({ "count": 9, "filter": { "markType": 8 } }))
        + &line("alice", "getConversationListByFilter", &json!({ "count": 9, "filter": { "markType": 0 } }))
        + &give("alice", "", &["c2c_eve"]);
    let run = place.feed(&["run", "-", "--output", "table"], input).succeeds().stdout;
    for fragment in [
        "markConversation set star, unread, fold, hide, 4294967296\n",
        "setConversationCustomData \"re\\\"d\\u{1b}[2J\\né\"\n",
        "getConversationListByFilter with hide\n",
        "getConversationListByFilter without marks\n",
        "star, unread, fold, hide, 4294967296, \"re\"d\\u{1b}[2J\\né\"",
    ] {
        assert!(run.contains(fragment), "{fragment} is not in\n{run}");
    }
    assert!(!run.contains('\u{1b}'), "{run}");
    let events = place.run(&["events", "--user", "alice", "--output", "table"]).succeeds().stdout;
    for fragment in ["onConversationChanged", "c2c_bob (star, unread, fold, hide, 4294967296)", "c2c_eve (nothing)"] {
        assert!(events.contains(fragment), "{fragment} is not in\n{events}");
    }
    assert!(!events.contains('\u{1b}'), "{events}");
}

#[test]
fn a_table_does_nothing_to_the_terminal_whatever_a_caller_or_a_plugin_says() {
    let place = Place::new();
    let ids = json!({ "groupName": "Work", "conversationIDList": ["c2c_bob", "c2c_\u{1b}[2J\n", "\u{9b}31m"] });
    let input = line("alice", "createConversationGroup", &ids) + "no JSON \u{1b}[2J\n";
    let run = place.feed(&["run", "-", "--output", "table"], input).stdout;
    for fragment in ["c2c_\\u{1b}[2J\\n", "\\u{9b}31m"] {
        assert!(run.contains(fragment), "{fragment} is not in\n{run}");
    }
    assert!(!run.contains(['\u{1b}', '\u{9b}']), "{run}");
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_an_error() {
    let place = Place::with_a_group();
    let cases: &[&[&str]] = &[
        &["call", "getConversationGroupList", "--user", "alice"],
        &["run", "-"],
        &["events", "--user", "alice"],
        &["export"],
        &["config"],
        &["completions", "bash"],
    ];
    for arguments in cases {
        let session = place.start_in_shell(r#"exec "$0" "$@" > /dev/full"#, arguments);
        let input = line("alice", "getConversationGroupList", &json!({})).repeat(2000);
        session.feed(input.into()).fails(1, &["could not write the output"]);
    }
}

// ---- run

#[test]
fn the_example_of_creating_and_deleting_is_answered_exactly() {
    let place = Place::new();
    let input = r#"{"user":"alice","method":"createConversationGroup","params":{"groupName":"Work","conversationIDList":["c2c_bob"]}}
{"user":"alice","method":"deleteConversationsFromGroup","params":{"groupName":"Work","conversationIDList":["c2c_bob","c2c_eve","nonsense","c2c_bob"]}}
"#;
    let answers = r#"{"code":0,"desc":"","data":[{"conversationID":"c2c_bob","resultCode":0,"resultInfo":""}]}
{"code":0,"desc":"","data":[{"conversationID":"c2c_bob","resultCode":0,"resultInfo":""},{"conversationID":"c2c_eve","resultCode":0,"resultInfo":"not in the group"},{"conversationID":"nonsense","resultCode":50002,"resultInfo":"malformed conversation id: expected \"c2c_\" and a user, or \"group_\" and a group"},{"conversationID":"c2c_bob","resultCode":0,"resultInfo":"repeated in the request"}]}
"#;
    place.write("calls.ndjson", input);
    for store in ["sqlite:a.db", "memory:"] {
        assert_eq!(place.run(&["run", "calls.ndjson", "--store", store]).succeeds().stdout, answers);
    }
    assert_eq!(place.feed(&["run", "-", "--store", "sqlite:b.db"], input).succeeds().stdout, answers);
    assert_eq!(place.feed(&["run", "--store", "sqlite:c.db"], input).succeeds().stdout, answers);
}

#[test]
fn a_malformed_line_is_answered_with_its_number_and_a_reason_and_the_rest_goes_on() {
    let good = line("alice", "getConversationGroupList", &json!({}));
    let long = format!(r#"{{"user":"alice","method":"{}"}}"#, "x".repeat(5 << 20));
    let cases: &[(&[u8], &str)] = &[
        (b"{\"user\":", "EOF while parsing"),
        (b"nonsense", "expected"),
        (b"[1, 2]", "expected an object, got a list"),
        (b"7", "expected an object, got 7"),
        (b"\"alice\"", "expected an object, got \"alice\""),
        (br#"{"user":"alice","method":"getConversationGroupList","more":1}"#, "unknown field \"more\""),
        (br#"{"method":"getConversationGroupList"}"#, "missing field \"user\""),
        (br#"{"user":"alice"}"#, "missing field \"method\""),
        (br#"{"user":"","method":"getConversationGroupList"}"#, "the user id is empty"),
        (br#"{"user":7,"method":"getConversationGroupList"}"#, "user: expected a string, got 7"),
        (br#"{"user":"alice","method":"nope"}"#, "method: unknown operation \"nope\""),
        (br#"{"user":"alice","method":"getConversationGroupList"} {}"#, "trailing characters"),
        (b"", "EOF while parsing"),
        (b"   ", "EOF while parsing"),
        (b"{\"user\":\"\xff\"}", "is not UTF-8"),
        (long.as_bytes(), "has more than 4194304 bytes"),
        (b"\xff\xfe\x00", "is not UTF-8"),
    ];
    let mut input = Vec::new();
    for (malformed, _) in cases {
        input.extend_from_slice(malformed);
        input.push(b'\n');
        input.extend_from_slice(good.as_bytes());
    }
    let ended = Place::new().feed(&["run", "-", "--store", "memory:"], input).succeeds();
    let answers = ended.json();
    assert_eq!(answers.len(), 2 * cases.len());
    for (index, ((_, reason), pair)) in cases.iter().zip(answers.chunks(2)).enumerate() {
        let desc = text(&pair[0]["desc"]);
        assert_eq!(pair[0]["code"], 60003, "{desc}");
        assert!(desc.starts_with(&format!("line {}: ", 2 * index + 1)), "{desc}");
        assert!(desc.contains(reason), "{reason:?} is not in {desc:?}");
        assert_eq!(pair[1], json!({ "code": 0, "desc": "", "data": [] }));
    }
    let summary = format!("{} succeeded, 0 refused, 0 failed, {} malformed lines\n", cases.len(), cases.len());
    assert!(ended.stderr.ends_with(&summary), "{}", ended.stderr);
}

#[test]
fn answers_come_in_the_order_of_the_lines_and_calls_of_one_user_keep_theirs() {
    const USERS: usize = 40;
    const ROUNDS: usize = 25;
    let mut lines: Vec<(String, Value)> = Vec::new();
    for round in 0..ROUNDS {
        // Each of a user's steps is only possible after the one before it.
        for step in 0..5 {
            for user in 0..USERS {
                let (name, id) = (format!("user{user}"), format!("c2c_{user}_{round}_{step}"));
                let (old, new) = (format!("old {round}"), format!("new {round}"));
                let delete = |group: &str| line(&name, "deleteConversationGroup", &json!({ "groupName": group }));
                let rename = json!({ "oldName": old, "newName": new });
                let result = json!([{ "conversationID": id, "resultCode": 0, "resultInfo": "" }]);
                let echoed = json!({ "code": 0, "desc": "", "data": result });
                let done = json!({ "code": 0, "desc": "" });
                lines.push(match step {
                    0 => (create(&name, &old, &[&id]), echoed),
                    1 => (line(&name, "renameConversationGroup", &rename), done),
                    2 => (add(&name, &new, &[&id]), echoed),
                    3 => (delete(&new), done),
                    _ => (delete(&id), json!({ "code": 51009, "desc": format!("there is no group named {id:?}") })),
                });
            }
        }
    }
    let input: String = lines.iter().map(|(line, _)| line.as_str()).collect();
    let place = Place::new();
    let ended = place.feed(&["run", "-", "--concurrency", "32"], input).succeeds();
    let answers = ended.json();
    assert_eq!(answers.len(), lines.len());
    for ((line, expected), answer) in lines.iter().zip(&answers) {
        assert_eq!(answer, expected, "{line}");
    }
    let refused = USERS * ROUNDS;
    let summary = format!("{} succeeded, {refused} refused, 0 failed, 0 malformed lines\n", 4 * refused);
    assert!(ended.stderr.starts_with(&format!("{} calls in ", 5 * refused)), "{}", ended.stderr);
    assert!(ended.stderr.ends_with(&summary), "{}", ended.stderr);
    assert_eq!(place.groups().len(), 0);
}

#[test]
fn the_end_of_the_input_may_come_anywhere() {
    let get = r#"{"user":"alice","method":"getConversationGroupList"}"#;
    let answer = "{\"code\":0,\"desc\":\"\",\"data\":[]}\n";
    let cases = [
        ("".to_owned(), 0, "0 calls"),
        (get.to_owned(), 1, "1 calls"),
        (format!("{get}\n"), 1, "1 calls"),
        (format!("{get}\r\n{get}"), 2, "2 calls"),
    ];
    for (input, answers, summary) in cases {
        let ended = Place::new().feed(&["run", "-", "--store", "memory:"], input.as_str()).succeeds();
        assert_eq!(ended.stdout, answer.repeat(answers), "{input:?}");
        assert!(ended.stderr.starts_with(summary), "{}", ended.stderr);
    }
}

#[test]
fn a_file_of_calls_that_cannot_be_read_is_an_error() {
    let place = Place::new();
    place.run(&["run", "missing.ndjson", "--store", "memory:"]).fails(1, &["could not read missing.ndjson"]);
    place.run(&["run", ".", "--store", "memory:"]).fails(1, &["could not read"]);
}

#[test]
fn run_prints_tables_for_people_below_what_was_asked() {
    let place = Place::with_a_group();
    let input = line("alice", "getConversationGroupList", &json!({}))
        + &line("alice", "deleteConversationGroup", &json!({ "groupName": "None" }));
    let ended = place.feed(&["run", "-", "--output", "table"], input).succeeds();
    assert!(ended.stdout.starts_with("alice: getConversationGroupList\n┌"), "{}", ended.stdout);
    let failure = "alice: deleteConversationGroup \"None\"\nfailed with code 51009: there is no group named \"None\"\n";
    assert!(ended.stdout.contains(failure), "{}", ended.stdout);
}

#[test]
fn an_answer_is_printed_while_the_input_is_still_open() {
    let place = Place::new();
    let mut session = place.start(&["run", "-", "--concurrency", "8"]);
    session.send(&create("alice", "Work", &["c2c_0"]));
    assert_eq!(session.answer()["code"], 0);
    for number in 1..50 {
        let id = format!("c2c_{number}");
        session.send(&add("alice", "Work", &[&id]));
        assert_eq!(session.answer()["data"][0]["conversationID"], id.as_str());
    }
    session.send("nonsense\n");
    assert_eq!(session.answer()["code"], 60003);
    let ended = session.feed(Vec::new()).succeeds();
    assert_eq!(ended.stdout, "");
    assert!(ended.stderr.starts_with("51 calls in "), "{}", ended.stderr);
}

#[test]
fn a_reader_that_leaves_ends_a_run_with_a_failure_and_a_word_about_it() {
    let place = Place::new();
    let input = line("alice", "getConversationGroupList", &json!({})).repeat(20_000);
    let script = r#"{ "$0" "$@"; echo "exit $?" >&2; } | head -n 1"#;
    let ended = place.start_in_shell(script, &["run", "-", "--store", "memory:"]).feed(input.into()).succeeds();
    assert_eq!(ended.stdout, "{\"code\":0,\"desc\":\"\",\"data\":[]}\n");
    for fragment in ["nobody reads the answers any more", "exit 1"] {
        assert!(ended.stderr.contains(fragment), "{}", ended.stderr);
    }
}

#[test]
fn an_answered_change_survives_the_kill_of_the_process() {
    const IDS_PER_CALL: usize = 3;
    let place = Place::new();
    let mut expected = Groups::new();
    let mut made: HashMap<String, usize> = HashMap::new();
    for round in 0..15 {
        let (user, group) = (format!("user{}", round % 3), format!("group {round}"));
        let ids = |call: usize| (0..IDS_PER_CALL).map(|id| format!("c2c_{call}_{id}")).collect::<Vec<_>>();
        let call = |call: usize| match call {
            0 => create(&user, &group, &ids(0)),
            _ => add(&user, &group, &ids(call)),
        };
        let mut session = place.start(&["run", "-", "--concurrency", "4", "--set", "events.keep_per_user=100000"]);
        let mut answered = 1 + round * 7 % 23;
        for number in 0..answered {
            session.send(&call(number));
            assert_eq!(session.answer()["code"], 0, "round {round}");
        }
        // Some more, in the midst of which it dies: each may be there as a whole or not at all.
        let sent = answered + round % 4 * 40;
        for number in answered..sent {
            session.send(&call(number));
        }
        for _ in 0..(round % 5 * 8).min(sent - answered) {
            assert_eq!(session.answer()["code"], 0, "round {round}");
            answered += 1;
        }
        let last_words = session.kill();
        assert_eq!(last_words.code, None);
        // Whatever had reached the pipe was promised too.
        answered += last_words.stdout.lines().filter(|line| parse(line)["code"] == 0).count();

        let found = place.groups();
        let members = found.get(&(user.clone(), group.clone())).expect("the group was answered").clone();
        let kept = members.len() / IDS_PER_CALL;
        assert!((answered..=sent).contains(&kept), "round {round}: {answered} answered, {kept} kept, {sent} sent");
        assert_eq!(members, (0..kept).flat_map(ids).collect::<Vec<_>>(), "round {round}");
        expected.insert((user.clone(), group), members);
        assert_eq!(found, expected, "round {round}");

        *made.entry(user.clone()).or_default() += kept;
        let versions: Vec<u64> = place.events(&user).iter().filter_map(|event| event["version"].as_u64()).collect();
        let all = u64::try_from(made[&user]).expect("small");
        assert_eq!(versions, (1..=all).collect::<Vec<_>>(), "round {round}");
    }
}

// ---- events

#[test]
fn events_are_told_from_the_beginning_or_after_a_version() {
    let place = Place::new();
    let input = create("alice", "Work", &["c2c_bob"])
        + &add("alice", "Work", &["c2c_bob", "c2c_eve"])
        + &add("alice", "Work", &["c2c_eve"])
        + &line("alice", "renameConversationGroup", &json!({ "oldName": "Work", "newName": "Arbeit" }))
        + &create("bob", "Friends", &["c2c_alice"])
        + &line("alice", "deleteConversationsFromGroup", &group_and_ids("Arbeit", &["c2c_bob"]))
        + &line("alice", "deleteConversationGroup", &json!({ "groupName": "Arbeit" }));
    place.feed(&["run", "-"], input).succeeds();
    let expected = [
        json!({ "event": "onConversationGroupCreated", "groupName": "Work", "conversationList": ["c2c_bob"] }),
        json!({ "event": "onConversationsAddedToGroup", "groupName": "Work", "conversationList": ["c2c_eve"] }),
        json!({ "event": "onConversationGroupNameChanged", "oldName": "Work", "newName": "Arbeit" }),
        json!({
            "event": "onConversationsDeletedFromGroup",
            "groupName": "Arbeit",
            "conversationList": ["c2c_bob"],
            "reason": 0,
        }),
        json!({ "event": "onConversationGroupDeleted", "groupName": "Arbeit" }),
    ];
    let all = place.events("alice");
    assert_eq!(
        all.iter().map(|event| event["events"].clone()).collect::<Vec<_>>(),
        expected.map(|event| json!([event]))
    );
    for (index, event) in all.iter().enumerate() {
        assert_eq!(event["version"], index + 1);
        assert_eq!(text(&event["origin"]["requestID"]).len(), 32);
    }
    for after in 0..=all.len() {
        let rest = place.run(&["events", "--user", "alice", "--after", &after.to_string()]).succeeds();
        assert_eq!(rest.json(), all[after..], "after {after}");
    }
    assert!(place.events("nobody").is_empty());
    let table = place.run(&["events", "--user", "alice", "--output", "table"]).succeeds().stdout;
    for fragment in ["onConversationGroupCreated", "Work → Arbeit", "c2c_bob"] {
        assert!(table.contains(fragment), "{table}");
    }
    Place::new().run(&["events", "--user", "alice"]).fails(1, &["there is no store at", "convgroups.db"]);
}

#[test]
fn a_follower_sees_what_another_process_changes() {
    let place = Place::with_a_group();
    let all = place.start(&["events", "--user", "alice", "--follow"]);
    let later = place.start(&["events", "--user", "alice", "--follow", "--after", "1"]);
    assert_eq!(all.answer()["version"], 1);
    for version in 2..6 {
        let params = group_and_ids("Work", &[format!("c2c_{version}")]).to_string();
        place.run(&["call", "addConversationsToGroup", "--user", "alice", "--params", &params]).succeeds();
        for follower in [&all, &later] {
            let event = follower.answer();
            assert_eq!(event["version"], version);
            assert_eq!(event["events"][0]["conversationList"], json!([format!("c2c_{version}")]));
        }
    }
    for follower in [all, later] {
        assert_eq!(follower.kill().stdout, "");
    }
}

#[test]
fn a_reader_behind_the_end_of_the_log_gets_everything_at_once_and_goes_on_from_there() {
    let place = Place::new();
    let input: String = (2..=5).map(|number| add("alice", "Work", &[format!("c2c_{number}")])).collect();
    let input = create("alice", "Work", &["c2c_1"]) + &mark("alice", 1, &["c2c_x"]) + &input;
    place.feed(&["run", "-", "--set", "events.keep_per_user=2"], input).succeeds();
    let full = json!({
        "version": 6,
        "full": true,
        "groups": [{ "groupName": "Work", "conversationIDList": ["c2c_1", "c2c_2", "c2c_3", "c2c_4", "c2c_5"] }],
        "conversations": [{ "conversationID": "c2c_x", "markList": [1], "customData": "" }],
    });
    let events = |after: &str| place.run(&["events", "--user", "alice", "--after", after]).succeeds().json();
    let without_id = |mut event: Value| {
        let id = event.as_object_mut().and_then(|event| event.shift_remove("id"));
        assert!(id.is_some_and(|id| text(&id).starts_with("6-")), "{event}");
        event
    };
    for after in ["0", "3", "7"] {
        let events: Vec<Value> = events(after).into_iter().map(without_id).collect();
        assert_eq!(events, std::slice::from_ref(&full), "after {after}");
    }
    let versions = |after| events(after).iter().map(|event| event["version"].clone()).collect::<Vec<_>>();
    assert_eq!(versions("4"), [5, 6]);
    assert_eq!(versions("5"), [6]);
    assert!(versions("6").is_empty());
    let table = place.run(&["events", "--user", "alice", "--output", "table"]).succeeds().stdout;
    for fragment in ["all there is", "Work", "c2c_x (star)"] {
        assert!(table.contains(fragment), "{table}");
    }

    let follower = place.start(&["events", "--user", "alice", "--follow"]);
    assert_eq!(without_id(follower.answer()), full);
    place.feed(&["run", "-"], add("alice", "Work", &["c2c_6"])).succeeds();
    assert_eq!(follower.answer()["version"], 7);
}

// ---- two processes, one store

#[test]
fn a_second_host_on_a_store_is_refused_and_commands_that_read_are_not() {
    let place = Place::new();
    let mut host = place.start(&["run", "-"]);
    host.send(&create("alice", "Work", &["c2c_bob"]));
    assert_eq!(host.answer()["code"], 0);

    let writers: &[&[&str]] =
        &[&["call", "getConversationGroupList", "--user", "alice"], &["run", "-"], &["import", "-"]];
    for writer in writers {
        place.run(writer).fails(1, &["convgroups.db is in use by another host"]);
    }
    assert_eq!(place.groups().len(), 1);
    assert_eq!(place.events("alice").len(), 1);
    place.run(&["backup", "copy.db"]).succeeds();
    assert_eq!(place.export("sqlite:copy.db"), place.export("sqlite:convgroups.db"));

    // None of them has disturbed it.
    host.send(&add("alice", "Work", &["c2c_eve"]));
    assert_eq!(host.answer()["code"], 0);
    assert_eq!(place.events("alice").len(), 2);
    host.feed(Vec::new()).succeeds();
    place.run(&["call", "getConversationGroupList", "--user", "alice"]).succeeds();
}

// ---- export and import

#[path = "cli/transfer.rs"]
mod transfer;

use transfer::{group, large_export};

// ---- backup

#[test]
fn a_backup_is_a_store_with_the_same_content() {
    let place = Place::new();
    place.feed(&["import", "-"], large_export()).succeeds();
    let backed_up = place.run(&["backup", "copy.db"]).succeeds();
    assert_eq!(backed_up.stdout, "");
    assert_eq!(place.export("sqlite:copy.db"), place.export("sqlite:convgroups.db"));
    assert!(!place.names().iter().any(|name| name.contains("partial")), "{:?}", place.names());
    // It is a store to write to, and the original does not notice.
    place.feed(&["run", "-", "--store", "sqlite:copy.db"], create("alice", "Work", &["c2c_bob"])).succeeds();
    assert_ne!(place.export("sqlite:copy.db"), place.export("sqlite:convgroups.db"));
    // The log came along; but what happens in the copy from now on is another history.
    let events = |store: &str| -> (Vec<String>, Vec<Value>) {
        let events = place.run(&["events", "--user", "user 0001", "--store", store]).succeeds().json();
        events.into_iter().map(|event| (text(&event["id"]), event["events"].clone())).unzip()
    };
    let ((ids, copied), (ids_before, original)) = (events("sqlite:copy.db"), events("sqlite:convgroups.db"));
    assert_eq!(copied, original);
    assert!(ids != ids_before && ids.iter().all(|id| id.starts_with("1-")), "{ids:?} {ids_before:?}");
}

#[test]
fn a_backup_is_refused_where_it_would_overwrite_or_has_nothing_to_copy() {
    let place = Place::with_a_group();
    place.write("there.db", "precious");
    place.run(&["backup", "there.db"]).fails(1, &["there.db", "exists already"]);
    assert_eq!(place.read("there.db"), b"precious");
    place.run(&["backup", "convgroups.db"]).fails(1, &["convgroups.db", "exists already"]);
    place.run(&["backup", "missing/copy.db"]).fails(1, &["missing/copy.db"]);
    place.run(&["backup", "copy.db", "--store", "memory:"]).fails(2, &["memory:"]);
    place.run(&["backup", "copy.db", "--store", "sqlite:none.db"]).fails(1, &["there is no store at", "none.db"]);
    assert!(!place.path("copy.db").exists());
    assert_eq!(place.groups().len(), 1);
}

// ---- config

/// What `config` printed: of each setting the value and where it comes from.
// ---- restore, verify-store

#[test]
fn events_after_a_restore_are_everything_and_not_the_changes_that_look_like_the_next() {
    let place = Place::with_a_group();
    let add = |numbers: std::ops::Range<u32>| {
        let lines: String = numbers.map(|number| add("alice", "Work", &[format!("c2c_{number}")])).collect();
        place.feed(&["run", "-"], lines).succeeds();
    };
    add(1..10);
    place.run(&["backup", "copy.db"]).succeeds();
    add(10..15);
    let seen = place.events("alice").pop().expect("there are changes");
    assert_eq!(seen["version"], 15);
    let restored = place.run(&["restore", "copy.db"]).succeeds();
    assert!(restored.stderr.contains("restored copy.db to convgroups.db"), "{}", restored.stderr);
    let (_, history) = restored.stderr.split_once("new history ").expect("it is told");
    let (history, _) = history.split_once(':').expect("and more");
    add(20..26);
    let after = |id: &str| place.run(&["events", "--user", "alice", "--after", id]).succeeds().json();
    let full = after(&text(&seen["id"]));
    assert_eq!(full.len(), 1, "{full:?}");
    assert_eq!(full[0]["id"], format!("16-{history}"));
    assert_eq!((&full[0]["version"], &full[0]["full"]), (&json!(16), &json!(true)));
    assert_eq!(after(&format!("16-{history}")), [] as [Value; 0]);
    assert_eq!(after(&format!("15-{history}"))[0]["id"], format!("16-{history}"));
    // A version alone tells only when it is ahead.
    assert_eq!(after("15")[0]["events"][0]["event"], "onConversationsAddedToGroup");
    assert_eq!(after("17")[0]["full"], true);
    for id in ["x", "-1", "1-", "1-0", "01"] {
        let argument = format!("--after={id}");
        place.run(&["events", "--user", "alice", &argument]).fails(2, &["is not the ID of an event"]);
    }
    let begun = place.run(&["restore", "--new-history"]).succeeds();
    assert!(begun.stderr.contains("has the new history ") && !begun.stderr.contains(history), "{}", begun.stderr);
    assert_eq!(after(&format!("16-{history}"))[0]["full"], true);
}

#[test]
fn a_restore_is_refused_beside_a_host_and_where_there_is_nothing_to_restore() {
    let place = Place::with_a_group();
    place.run(&["backup", "copy.db"]).succeeds();
    let mut host = place.start(&["run", "-"]);
    host.send(&create("alice", "Home", &["c2c_a"]));
    assert_eq!(host.answer()["code"], 0);
    place.run(&["restore", "copy.db"]).fails(1, &["in use by another host"]);
    place.run(&["restore", "--new-history"]).fails(1, &["in use by another host"]);
    host.feed(Vec::new()).succeeds();
    place.run(&["restore", "none.db"]).fails(1, &["there is no backup at", "none.db"]);
    place.run(&["restore"]).fails(2, &["<FILE>"]);
    place.run(&["restore", "copy.db", "--new-history"]).fails(2, &["cannot be used with"]);
    place.run(&["restore", "copy.db", "--store", "memory:"]).fails(2, &["memory:"]);
    place.run(&["restore", "--new-history", "--store", "memory:"]).fails(2, &["memory:"]);
    place
        .run(&["restore", "copy.db", "--store", "postgres://u:secret@h/d"])
        .fails(2, &["postgres://u:***@h/d", "--new-history"]);
    assert_eq!(place.groups().len(), 2);
    place.run(&["restore", "copy.db"]).succeeds();
    assert_eq!(place.groups().len(), 1);
}

#[test]
fn a_restore_that_is_killed_leaves_the_store_before_or_the_restored_one() {
    let place = Place::new();
    let large = |name: &str| -> String {
        (0..400).map(|user| create(&format!("user {user:04}"), name, &["c2c_a", "c2c_b", "c2c_c"])).collect()
    };
    place.feed(&["run", "-"], large("Old")).succeeds();
    place.run(&["backup", "copy.db"]).succeeds();
    place.feed(&["run", "-"], large("New")).succeeds();
    let (mut restored, mut kept) = (0, 0);
    for round in 0..24 {
        let mut restore = place.convgroups(&["restore", "copy.db"]);
        let mut restore = restore.stderr(Stdio::null()).spawn().expect("it starts");
        std::thread::sleep(Duration::from_millis(round * 3));
        restore.kill().expect("it can be killed");
        restore.wait().expect("it ends");
        place.run(&["verify-store"]).succeeds();
        match place.groups().len() {
            400 => {
                restored += 1;
                place.feed(&["run", "-"], large("New")).succeeds();
            }
            groups => {
                assert_eq!(groups, 800, "round {round}");
                kept += 1;
            }
        }
    }
    println!("killed: {kept} before, {restored} after the restore");
    place.run(&["restore", "copy.db"]).succeeds();
    assert_eq!(place.groups().len(), 400);
    assert!(!place.names().contains(&"convgroups.db-restoring".to_owned()), "{:?}", place.names());
}

#[test]
fn a_store_is_verified_beside_a_host_and_what_is_wrong_is_printed_a_line_each() {
    let place = Place::with_a_group();
    let mut host = place.start(&["run", "-"]);
    host.send(&create("bob", "Home", &["c2c_a"]));
    assert_eq!(host.answer()["code"], 0);
    let verified = place.run(&["verify-store"]).succeeds();
    assert_eq!(verified.stdout, "");
    let said = "sqlite:convgroups.db is in order: 2 users, 2 groups with 3 conversations";
    assert!(verified.stderr.contains(said), "{}", verified.stderr);
    host.feed(Vec::new()).succeeds();
    rusqlite::Connection::open(place.path("convgroups.db"))
        .and_then(|store| store.execute_batch("UPDATE users SET version = 7; DELETE FROM members"))
        .expect("writes");
    let wrong = place.run(&["verify-store"]).exits(1);
    assert!(wrong.stderr.contains("sqlite:convgroups.db has 2 errors"), "{}", wrong.stderr);
    let lines: Vec<&str> = wrong.stdout.lines().collect();
    let line = |user: &str| format!("user {user:?}: the change log ends with version 1, the user is at version 7");
    assert_eq!(lines, [line("alice"), line("bob")]);
    Place::new().run(&["verify-store"]).fails(1, &["there is no store at"]);
    place.write("text", "this is no database, and long enough to tell");
    place.run(&["verify-store", "--store", "sqlite:text"]).fails(1, &["file is not a database"]);
}

fn printed_settings(ended: Ended) -> BTreeMap<String, (String, String)> {
    let lines = ended.succeeds().stdout;
    let settings = lines.lines().map(|line| {
        let (setting, origin) = line.rsplit_once("  # ").expect("a line ends in its origin");
        let (key, value) = setting.split_once(" = ").expect("a line has a value");
        (key.to_owned(), (value.trim_end().to_owned(), origin.to_owned()))
    });
    settings.collect()
}

#[test]
fn a_setting_comes_from_the_last_of_default_file_environment_and_flag() {
    let place = Place::new();
    let settings = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = place.convgroups(&["config"]);
        command.args(arguments).envs(variables.iter().copied());
        printed_settings(Session::start(&mut command).feed(Vec::new()))
    };
    let check = |settings: &BTreeMap<String, (String, String)>, key: &str, value: &str, origin: &str| {
        let (found, from) = &settings[key];
        assert_eq!((found.as_str(), from.as_str()), (value, origin), "{key}");
    };
    let max_groups = "limits.max_groups";
    let variable = ("CONVGROUPS_LIMITS__MAX_GROUPS", "22");
    let from_variable = "environment CONVGROUPS_LIMITS__MAX_GROUPS";
    let flag = ["--set", "limits.max_groups=23"];

    let defaults = settings(&[], &[]);
    check(&defaults, max_groups, "20", "default");
    check(&defaults, "store", "\"sqlite:convgroups.db\"", "default");
    assert!(defaults.iter().all(|(key, (_, origin))| key == "cache_dir" || origin == "default"), "{defaults:?}");

    place.write("other.toml", "limits.max_groups = 21\n");
    let named = settings(&["--config", "other.toml"], &[]);
    check(&named, max_groups, "21", "file other.toml");
    check(&named, "limits.max_group_name_bytes", "32", "default");
    check(&settings(&[], &[("CONVGROUPS_CONFIG", "other.toml")]), max_groups, "21", "file other.toml");
    check(&settings(&[], &[variable]), max_groups, "22", from_variable);
    check(&settings(&flag, &[]), max_groups, "23", "flag");

    place.write("convgroups.toml", "wasi = \"inert\"\n[limits]\nmax_groups = 24\nwhen_full = \"evict-oldest\"\n");
    let found = settings(&[], &[]);
    check(&found, max_groups, "24", "file convgroups.toml");
    check(&found, "wasi", "\"inert\"", "file convgroups.toml");
    check(&found, "limits.when_full", "\"evict-oldest\"", "file convgroups.toml");
    // A file that is named stands in place of the one that is found.
    check(&settings(&["--config", "other.toml"], &[]), "wasi", "\"refuse\"", "default");
    check(&settings(&[], &[variable]), max_groups, "22", from_variable);
    check(&settings(&flag, &[]), max_groups, "23", "flag");
    let all = settings(&["--set", "limits.max_groups=23", "--store", "memory:", "--wasi", "refuse"], &[variable]);
    check(&all, max_groups, "23", "flag");
    check(&all, "store", "\"memory:\"", "flag");
    check(&all, "wasi", "\"refuse\"", "flag");
    check(&all, "limits.when_full", "\"evict-oldest\"", "file convgroups.toml");
    // The last of several flags.
    check(&settings(&["--set", "limits.max_groups=1", "--set", "limits.max_groups=2"], &[]), max_groups, "2", "flag");
}

#[test]
fn settings_are_in_force() {
    let place = Place::with_a_group();
    let params = r#"{"groupName":"More","conversationIDList":["c2c_bob"]}"#;
    let call = ["call", "createConversationGroup", "--user", "alice", "--params", params];
    let with_variable = place.convgroups(&call).env("CONVGROUPS_LIMITS__MAX_GROUPS", "1").output().expect("it runs");
    assert_eq!(with_variable.status.code(), Some(1));
    place.write("convgroups.toml", "[limits]\nmax_groups = 1\n");
    let refused = place.run(&call).exits(1).json();
    assert_eq!(refused[0]["code"], 51010, "{refused:?}");
    place.run(&[&call[..], &["--set", "limits.max_groups=2"]].concat()).succeeds();
}

#[test]
fn the_printed_settings_are_a_settings_file() {
    let place = Place::new();
    let arguments = [
        "config",
        "--store",
        "sqlite:it's \"odd\" \\ # ü\u{1}\t\n.db",
        "--plugin",
        "some where/plugin.wasm",
        "--set",
        "limits.max_groups=400",
        "--set",
        "limits.allow_empty_creation=true",
        "--set",
        "cache=false",
    ];
    let printed = place.run(&arguments);
    place.write("printed.toml", &printed.stdout);
    let printed = printed_settings(printed);
    assert_eq!(printed["limits.max_groups"].0, "400");
    let again = printed_settings(place.run(&["config", "--config", "printed.toml"]));
    let values = |settings: &BTreeMap<String, (String, String)>| {
        settings.iter().map(|(key, (value, _))| (key.clone(), value.clone())).collect::<Vec<_>>()
    };
    assert_eq!(values(&again), values(&printed));
    for (key, (_, origin)) in &again {
        assert!(key == "cache_dir" || origin == "file printed.toml", "{key} comes from {origin}");
    }
}

#[test]
fn a_setting_that_does_not_exist_or_cannot_be_is_wrong_usage() {
    let flags = [
        ("nope=1", "nope"),
        ("limits.nope=1", "unknown setting \"nope\": expected "),
        ("limits.max_grups=1", "; did you mean max_groups?"),
        ("limits.max_groups=many", "expected a whole number from 0 to 4294967295, got \"many\""),
        ("limits.max_groups.more=1", "max_groups"),
        ("nope", "expected KEY=VALUE"),
        ("limits.max_groups=-1", "limits.max_groups"),
        ("limits.max_groups=many", "limits.max_groups"),
        ("limits.max_groups=1.5", "limits.max_groups"),
        ("limits.max_groups=4294967296", "limits.max_groups"),
        ("limits.when_full=explode", "when_full"),
        ("cache=maybe", "cache"),
        ("wasi=all", "wasi"),
        ("limits.max_group_name_bytes=0", "limits.max_group_name_bytes: is 0, must be 1 to 256"),
        ("limits.max_group_name_bytes=257", "limits.max_group_name_bytes: is 257, must be 1 to 256"),
        ("limits.max_conversation_id_bytes=1025", "limits.max_conversation_id_bytes"),
        ("limits.max_conversations_per_call=10001", "limits.max_conversations_per_call"),
        ("limits.max_conversations_per_page=1000", "limits.max_conversations_per_page"),
        ("sandbox.deadline_ms=9", "sandbox.deadline_ms: is 9, must be 10 to 600000"),
        ("limits.max_marked_conversations=1000001", "must be 0 to 1000000"),
        ("limits.max_custom_data_bytes=4097", "limits.max_custom_data_bytes: is 4097, must be 0 to 4096"),
        ("sandbox.max_memory_bytes=1", "sandbox.max_memory_bytes"),
        ("sandbox.max_function_bytes=262144", "max_function_bytes"),
        ("sandbox.max_compile_memory_bytes=1000", "sandbox.max_compile_memory_bytes: is 1000, must be 268435456 to"),
        ("calls.max_concurrent=0", "calls.max_concurrent"),
        ("calls.max_attempts=0", "calls.max_attempts"),
        ("events.keep_per_user=0", "events.keep_per_user"),
    ];
    let place = Place::with_a_group();
    for (flag, says) in flags {
        for command in [&["config"][..], &["call", "getConversationGroupList", "--user", "alice"], &["export"]] {
            place.run(&[command, &["--set", flag]].concat()).fails(2, &[says]);
        }
    }
    for (variable, value, says) in [
        ("CONVGROUPS_NOPE", "1", "NOPE"),
        ("CONVGROUPS_LIMITS__NOPE", "1", "NOPE"),
        ("CONVGROUPS_LIMITS__MAX_GROUPS", "many", "MAX_GROUPS"),
        ("CONVGROUPS_SANDBOX__DEADLINE_MS", "1", "sandbox.deadline_ms"),
        ("CONVGROUPS_CONFIG", "missing.toml", "missing.toml"),
    ] {
        let session = Session::start(place.convgroups(&["config"]).env(variable, value));
        session.feed(Vec::new()).fails(2, &[says]);
    }
    for (file, says) in [
        ("nope = 1\n", "nope"),
        ("[limits]\nnope = 1\n", "nope"),
        ("[nope]\nmax_groups = 1\n", "nope"),
        ("limits.max_groups = \"many\"\n", "limits.max_groups"),
        ("sandbox.deadline_ms = 1\n", "sandbox.deadline_ms"),
        ("not toml at all\n", "other.toml"),
    ] {
        place.write("other.toml", file);
        place.run(&["config", "--config", "other.toml"]).fails(2, &[says]);
    }
    place.run(&["config", "--config", "missing.toml"]).fails(2, &["missing.toml"]);
    place.run(&["config", "--config", "."]).fails(2, &["there is no settings file"]);
}

#[test]
fn a_store_that_is_named_wrongly_is_an_error() {
    let place = Place::new();
    let known = "sqlite:PATH or postgres://USER@HOST/DATABASE or memory:";
    for store in ["nonsense", "sqlite:", "memory:x", "postgres:chat", "mysql://localhost", "chat.db"] {
        for command in [&["call", "getConversationGroupList", "--user", "alice"][..], &["export"]] {
            place.run(&[command, &["--store", store]].concat()).fails(1, &[store, known]);
        }
    }
    // What is secret in it is not repeated.
    let told = ["mysql://chat:***@localhost"];
    let ended = place.run(&["export", "--store", "mysql://chat:secret@localhost"]);
    assert!(!ended.stderr.contains("secret"), "{}", ended.stderr);
    ended.fails(1, &told);
    let config = place.run(&["config", "--store", "postgres://chat:se:cr@et@db/chat?sslmode=disable"]);
    assert!(!config.stdout.contains("cr@et"), "{}", config.stdout);
    assert!(config.stdout.contains("store = \"postgres://***\""), "{}", config.stdout);
    assert!(place.names().is_empty(), "{:?}", place.names());
}

#[test]
fn passwords_in_store_addresses_are_never_printed() {
    let right = "expected sqlite:PATH or postgres://USER@HOST/DATABASE or memory:";
    let escapes = "write @ as %40, / as %2F, # as %23, ? as %3F";
    // How it is printed, and what is said about it; nothing where it could be right.
    let forms: [(&str, &str, Option<&str>); 33] = [
        ("postgres://u:SECRET@localhost:1/d", "postgres://u:***@localhost:1/d", None),
        (
            "postgresql://u:SECRET@localhost:1/d?sslmode=disable",
            "postgresql://u:***@localhost:1/d?sslmode=disable",
            None,
        ),
        ("postgres://u@localhost:1/d?password=SECRET", "postgres://u@localhost:1/d?password=***", None),
        (
            "postgres://localhost:1/d?user=u&password=SECRET&connect_timeout=1",
            "postgres://localhost:1/d?user=u&password=***&connect_timeout=1",
            None,
        ),
        ("postgres://u:a%40SECRET%2F%25@localhost:1/d", "postgres://u:***@localhost:1/d", None),
        ("postgres://u:x:SECRET@localhost:1/d", "postgres://u:***@localhost:1/d", None),
        ("postgres://u:SECRET@localhost:1,127.0.0.1:1/d", "postgres://u:***@localhost:1,127.0.0.1:1/d", None),
        ("postgres://u:SECRET@[::1]:1/d", "postgres://u:***@[::1]:1/d", None),
        ("postgres://u:SECRET@h/d?sslpassword=SECRET", "postgres://u:***@h/d?sslpassword=***", Some("sslpassword")),
        ("postgres://u:SEC@RET@h/d", "postgres://***", Some(escapes)),
        ("postgres://u:x/SECRET@h/d", "postgres://***", Some(escapes)),
        ("postgres://u:5432/SECRET@h/d", "postgres://***", Some(escapes)),
        ("postgres://u:x?SECRET@h/d", "postgres://***", Some(escapes)),
        ("postgres://u:x#SECRET@h/d", "postgres://***", Some(escapes)),
        ("postgres://u:x%SECRET@h/d", "postgres://***", Some(escapes)),
        ("postgres://u:x SECRET@h/d", "postgres://***", Some(escapes)),
        ("postgres://u:SECRET", "postgres://***", Some(escapes)),
        ("postgres://u@h/d?password=x&SECRET", "postgres://***", Some("& as %26")),
        ("postgres://u@h/d?password=x&SECRET=y", "postgres://***", Some("& as %26")),
        ("postgres://u@h/d?password=x@SECRET", "postgres://***", Some(escapes)),
        ("postgres://u@h/d?pass%77ord=SECRET", "postgres://***", Some("a parameter is unknown")),
        ("postgres://u:SECRET@h/d?nope=SECRET", "postgres://***", Some("unknown parameter \"nope\"")),
        ("POSTGRES://u:SECRET@h/d", "POSTGRES://u:***@h/d", Some("in lower case")),
        ("postgres:u:SECRET@h/d", "***", Some(right)),
        ("jdbc:postgresql://h/d?user=u&password=SECRET", "jdbc:postgresql://h/d?user=u&password=***", Some("JDBC")),
        ("jdbc:postgresql://h/d?ssl=true&user=u&password=SECRET", "jdbc:postgresql://***", Some(right)),
        ("jdbc:oracle:thin:u/SECRET@h:1521/d", "***", Some("JDBC")),
        ("host=h user=u password=SECRET dbname=d", "***", Some("key=value")),
        ("host=h user=u password='x SECRET' dbname=d", "***", Some(right)),
        ("Host=h;Username=u;Password=SECRET;Database=d", "***", Some("key=value")),
        ("mysql://u:SECRET@h/d", "mysql://u:***@h/d", Some(right)),
        ("u:SECRET@h/d", "***", Some(right)),
        ("sqlite:x.db?cipher=aes&key=SECRET", "sqlite:x.db?***", Some("takes no parameters")),
    ];
    let place = Place::new();
    for (address, shown, says) in forms {
        let config = place.run(&["config", "--store", address]);
        assert!(config.stdout.contains(&format!("store = \"{shown}\"")), "{address}: {}", config.stdout);
        let mut ended = vec![config];
        let commands: [&[&str]; 6] = [
            &["export"],
            &["call", "getConversationGroupList", "--user", "alice"],
            &["serve", "--dev", "--listen", "127.0.0.1:0"],
            &["backup", "copy.db"],
            &["migrate"],
            &["events", "--user", "alice"],
        ];
        for command in commands {
            let refused = place.run(&[command, &["--store", address]].concat());
            assert!(!refused.stderr.is_empty() && refused.stdout.is_empty(), "{address}: {}", refused.stdout);
            if let Some(says) = says {
                assert!(refused.stderr.contains(says), "{address}, {command:?}: {}", refused.stderr);
            }
            ended.push(refused);
        }
        let mut export = place.convgroups(&["export"]);
        ended.push(Session::start(export.env("CONVGROUPS_STORE", address)).feed(Vec::new()));
        for output in ended.iter().flat_map(|ended| [&ended.stdout, &ended.stderr]) {
            assert!(!output.contains("SECRET") && !output.contains("RET@"), "{address}: {output}");
        }
    }
    assert!(place.names().is_empty(), "{:?}", place.names());
}

#[test]
fn passwords_in_unreadable_settings_are_never_printed() {
    let place = Place::new();
    place.write("broken.toml", "store = \"postgres://u:SECRET@h/d\n");
    place.write("twice.toml", "store = \"postgres://u:SECRET@h/d\" \"postgres://u:SECRET@h/d\"\n");
    let commands: [&[&str]; 5] = [
        &["config", "--config", "broken.toml"],
        &["export", "--config", "twice.toml"],
        &["export", "--set", "store=\"postgres://u:SECRET@h/d"],
        &["export", "--set", "postgres://u:x@h/d?password=SECRET"],
        &["export", "--set", "postgres://u:SECRET@h/d"],
    ];
    for command in commands {
        let ended = place.run(command);
        assert!(!ended.stderr.contains("SECRET") && !ended.stdout.contains("SECRET"), "{}", ended.stderr);
        ended.fails(2, &[]);
    }
}

// ---- plugins

#[test]
fn the_built_in_plugin_can_be_written_to_a_file_inspected_and_loaded_from_there() {
    let place = Place::new();
    place.run(&["plugin", "export", "plugin.wasm"]).succeeds();
    let bytes = place.read("plugin.wasm");

    let inspected = place.run(&["inspect", "plugin.wasm", "--json"]).succeeds().json();
    let [inspected] = inspected.as_slice() else { panic!("{inspected:?}") };
    assert_eq!(inspected["bytes"], bytes.len());
    assert_eq!(inspected["loadable"], true);
    assert_eq!(inspected["problem"], Value::Null);
    assert_eq!(inspected["contract"], inspected["hostContract"]);
    assert_eq!(inspected["exports"], json!(["im:conversation-groups/operations@0.1.0"]));
    let imports = texts(&inspected["imports"]);
    assert!(imports.iter().all(|name| name.starts_with("im:conversation-groups/")), "{imports:?}");
    assert_eq!(inspected["memories"], 1);
    let digest = text(&inspected["digest"]);
    assert_eq!(digest.len(), "sha256:".len() + 64);

    let for_people = place.run(&["inspect", "plugin.wasm"]).succeeds().stdout;
    let size = format!("{} bytes", bytes.len());
    for fragment in [digest.as_str(), &size, "im:conversation-groups@0.1.0", "loadable     yes"] {
        assert!(for_people.contains(fragment), "{fragment:?} is not in {for_people}");
    }

    let input = create("alice", "Work", &["c2c_bob"]);
    let arguments = ["run", "-", "--store", "memory:", "--plugin", "plugin.wasm"];
    let from_file = place.feed(&arguments, input.as_str()).succeeds();
    assert_eq!(from_file.stdout, place.feed(&arguments[..4], input).succeeds().stdout);

    place.run(&["plugin", "export", "plugin.wasm"]).fails(1, &["could not write plugin.wasm"]);
    assert_eq!(place.read("plugin.wasm"), bytes);
}

#[test]
fn what_is_no_plugin_is_inspected_with_a_reason_and_not_loaded() {
    let place = Place::new();
    place.run(&["plugin", "export", "plugin.wasm"]).succeeds();
    let whole = place.read("plugin.wasm");
    // A component without anything in it: the header alone.
    let files: &[(&str, &[u8], &str)] = &[
        ("text.wasm", b"hello", "it does not begin like one"),
        ("empty.wasm", b"", "it does not begin like one"),
        ("core.wasm", b"\0asm\x01\0\0\0", "it is a core module"),
        ("hollow.wasm", b"\0asm\x0d\0\x01\0", "does not export"),
        ("half.wasm", &whole[..whole.len() / 2], "the plugin is not a WebAssembly component"),
    ];
    for (name, content, reason) in files {
        place.write(name, content);
        let for_people = place.run(&["inspect", name]).exits(1).stdout;
        assert!(for_people.contains("loadable     no: ") && for_people.contains(reason), "{name}: {for_people}");
        let inspected = place.run(&["inspect", name, "--json"]).exits(1).json();
        assert_eq!(inspected[0]["loadable"], false, "{name}");
        assert_eq!(inspected[0]["bytes"], content.len(), "{name}");
        assert!(text(&inspected[0]["problem"]).contains(reason), "{name}: {inspected:?}");
        let call = ["call", "getConversationGroupList", "--user", "alice", "--store", "memory:", "--plugin", name];
        place.run(&call).fails(1, &[reason]);
    }
    place.run(&["inspect", "missing.wasm"]).fails(1, &["could not read the plugin missing.wasm"]);
    place.run(&["inspect", "."]).fails(1, &["could not read the plugin ."]);
    let limit = ["inspect", "plugin.wasm", "--set", "sandbox.max_plugin_bytes=1000"];
    place.run(&limit).fails(1, &["sandbox.max_plugin_bytes"]);
}

/// A component that imports a type of a function, which panics in the library that decodes it.
const PANICS: &[u8] = b"\0asm\x0d\0\x01\0\x07\x05\x01\x40\0\x01\0\x0a\x07\x01\0\x01t\x03\0\0";

#[test]
fn a_plugin_that_crashes_its_decoder_is_refused_by_every_command_that_loads_plugins() {
    let place = Place::new();
    place.write("panics.wasm", PANICS);
    let refused = "the plugin could not be examined: its examiner panicked";
    let inspected = place.run(&["inspect", "panics.wasm", "--json"]).exits(1);
    assert!(text(&inspected.json()[0]["problem"]).contains(refused), "{inspected:?}");
    assert_eq!(inspected.json()[0]["bytes"], PANICS.len());
    assert_eq!(inspected.stderr, "", "what the examiner said is in the answer and nowhere else");
    let for_people = place.run(&["inspect", "panics.wasm"]).exits(1).stdout;
    assert!(for_people.contains(refused), "{for_people}");
    for command in [
        &["call", "getConversationGroupList", "--user", "alice"][..],
        &["run", "-"],
        &["serve", "--dev", "--listen", "127.0.0.1:0"],
    ] {
        place.run(&[command, &["--store", "memory:", "--plugin", "panics.wasm"]].concat()).fails(1, &[refused]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn inspect_refuses_pipes_devices_and_growing_files_without_hanging() {
    let place = Place::new();
    let made = place.command("mkfifo").arg("pipe").status().expect("mkfifo runs");
    assert!(made.success());
    for name in ["pipe", "/dev/zero", "/dev/null", "."] {
        place.run(&["inspect", name]).fails(1, &[&format!("could not read the plugin {name}"), "not a regular file"]);
        let call = ["call", "getConversationGroupList", "--user", "alice", "--store", "memory:", "--plugin", name];
        place.run(&call).fails(1, &["not a regular file"]);
    }

    place.write("grows.wasm", PANICS);
    // Grows while it is inspected, to at most 256 MiB.
    let grows = "\"$0\" \"$@\" & inspecting=$!; while kill -0 $inspecting && [ $(stat -c %s grows.wasm) -lt 268435456 ]; do \
                 head -c 1000000 /dev/zero; done >> grows.wasm 2> /dev/null; wait $inspecting";
    let ended = place.start_in_shell(grows, &["inspect", "grows.wasm"]).feed(Vec::new()).exits(1);
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(said.contains("sandbox.max_plugin_bytes") || said.contains("loadable     no: "), "{said}");
}

#[test]
fn the_command_that_examines_plugins_is_in_no_help_and_does_nothing_for_people() {
    let place = Place::new();
    assert!(!place.run(&["--help"]).succeeds().stdout.contains("examine-plugin"));
    place.run(&["examine-plugin"]).fails(1, &["not for people"]);
}

/// A place with a cache of its own.
struct CachedPlace {
    place: Place,
    cache: TempDir,
}

impl CachedPlace {
    fn new() -> Self {
        Self { place: Place::new(), cache: tempfile::tempdir().expect("a directory can be made") }
    }

    fn run(&self) -> Ended {
        let arguments = ["run", "-", "--store", "memory:"];
        let session = Session::start(self.place.convgroups(&arguments).env("CONVGROUPS_CACHE_DIR", self.cache.path()));
        session.feed(create("alice", "Work", &["c2c_bob"]).into())
    }

    /// What was compiled, without what is noted about its use.
    fn compiled(&self) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
        let mut files = files(self.cache.path());
        files.retain(|path, _| path.extension().is_some_and(|kind| kind == "compiled"));
        files
    }
}

#[test]
fn a_second_start_takes_the_compiled_plugin_from_the_cache() {
    let place = CachedPlace::new();
    let first = place.run().succeeds();
    let compiled = place.compiled();
    assert_eq!(compiled.len(), 1, "{:?}", compiled.keys());
    assert_eq!(place.run().succeeds().stdout, first.stdout);
    assert_eq!(place.compiled(), compiled);
}

#[test]
fn a_cache_that_is_broken_off_or_overwritten_is_not_used() {
    let place = CachedPlace::new();
    let good = place.run().succeeds().stdout;
    let compiled = place.compiled();
    let (path, (content, _)) = compiled.first_key_value().expect("something is cached");
    let broken: [&[u8]; 4] = [b"", b"garbage", &content[..content.len() / 2], &vec![0; content.len()]];
    for broken in broken {
        std::fs::write(path, broken).expect("the file can be written");
        assert_eq!(place.run().succeeds().stdout, good, "{} bytes", broken.len());
    }
}

#[test]
fn without_a_cache_nothing_is_kept() {
    let place = Place::new();
    let arguments =
        ["call", "getConversationGroupList", "--user", "alice", "--store", "memory:", "--set", "cache=false"];
    let cache = place.path("cache");
    Session::start(place.convgroups(&arguments).env("CONVGROUPS_CACHE_DIR", &cache)).feed(Vec::new()).succeeds();
    assert!(!cache.exists());
}

// ---- disks and files

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_loses_nothing_that_was_answered() {
    // Of the largest file in blocks of 512 bytes, ids of a call, and bytes of an id. First SQLite's log meets the limit,
    // then the database.
    for (blocks, ids, bytes) in [(7000, 1, 10), (9000, 50, 200)] {
        let place = Place::new();
        let calls: Vec<(String, String)> =
            (0..2000).map(|number| (format!("user{}", number % 100), format!("group {}", number / 100))).collect();
        let ids: Vec<String> = (0..ids).map(|id| format!("c2c_{id}_{}", "x".repeat(bytes))).collect();
        let input: String = calls.iter().map(|(user, group)| create(user, group, &ids)).collect();
        let script = format!(r#"trap '' XFSZ; ulimit -f {blocks}; exec "$0" "$@""#);
        let ended = place.start_in_shell(&script, &["run", "-"]).feed(input.into()).succeeds();

        let answers = ended.json();
        assert_eq!(answers.len(), calls.len());
        let succeeded = answers.iter().filter(|answer| answer["code"] == 0).count();
        assert!((100..calls.len()).contains(&succeeded), "{succeeded} calls fitted into {blocks} blocks");
        let groups = place.groups();
        for (call, answer) in calls.iter().zip(&answers) {
            let kept = groups.get(call);
            match answer["code"].as_i64() {
                Some(0) => assert_eq!(kept, Some(&ids), "{call:?}"),
                Some(50004) if text(&answer["desc"]).contains("nothing was changed") => {
                    assert_eq!(kept, None, "{call:?}");
                }
                Some(50004) => assert!(kept.is_none_or(|kept| *kept == ids), "{call:?}: {kept:?}"),
                _ => panic!("{call:?} is answered {answer}"),
            }
        }
        // With room again, it works as before.
        place.feed(&["run", "-"], create("alice", "Work", &ids)).succeeds();
        assert_eq!(place.groups().len(), groups.len() + 1);
        assert_eq!(place.events("alice").len(), 1);
    }
}

#[test]
fn a_file_that_is_no_store_is_refused_and_left_as_it_is() {
    let place = Place::with_a_group();
    let database = |name: &str, statements: &str| {
        let connection = rusqlite::Connection::open(place.path(name)).expect("SQLite opens a file");
        connection.execute_batch(statements).expect("SQLite executes");
    };
    std::fs::copy(place.path("convgroups.db"), place.path("newer.db")).expect("the store can be copied");
    database("newer.db", "PRAGMA user_version = 99");
    database("foreign.db", "CREATE TABLE users (name TEXT); INSERT INTO users VALUES ('somebody')");
    place.write("text.db", "This is not a database, and long enough not to be taken for an empty one. ".repeat(20));
    place.write("damaged.db", {
        let mut content = place.read("convgroups.db");
        content[0..100].fill(7);
        content
    });
    let cases = [
        ("newer.db", "newer.db has format 99, this program knows formats up to 2; use a newer convgroups"),
        ("foreign.db", "foreign.db is a SQLite file, but not a store of conversation groups"),
        ("text.db", "text.db: file is not a database"),
        ("damaged.db", "damaged.db: file is not a database"),
    ];
    let commands: &[&[&str]] = &[
        &["call", "getConversationGroupList", "--user", "alice"],
        &["run", "-"],
        &["events", "--user", "alice"],
        &["export"],
        &["import", "-"],
        &["backup", "copy.db"],
    ];
    for (name, says) in cases {
        let before = place.read(name);
        for command in commands {
            place.run(&[command, &["--store", &format!("sqlite:{name}")][..]].concat()).fails(1, &[says]);
            assert!(place.read(name) == before, "{name} after {command:?}");
        }
    }
    for command in commands {
        let missing = place.run(&[command, &["--store", "sqlite:missing/chat.db"][..]].concat());
        missing.fails(1, &["missing"]);
    }
    assert!(!place.path("missing").exists() && !place.path("copy.db").exists());
}

#[test]
fn reading_commands_do_not_create_a_store() {
    let place = Place::new();
    let restore = ["restore", "--new-history"];
    for command in
        [&["events", "--user", "alice"][..], &["export"], &["backup", "copy.db"], &["verify-store"], &restore]
    {
        place.run(command).fails(1, &["there is no store at", "convgroups.db"]);
    }
    assert!(place.names().is_empty(), "{:?}", place.names());
}

// ---- help

#[test]
fn a_completion_script_is_printed_for_every_shell() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.run(&["completions", shell]).succeeds().stdout;
        for word in ["convgroups", "events", "concurrency"] {
            assert!(script.contains(word), "{shell} does not complete {word}");
        }
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    let place = Place::new();
    let commands: &[(&[&str], &str)] = &[
        (&[], "Examples:\n  convgroups call createConversationGroup"),
        (&["call"], "Example:\n  convgroups call "),
        (&["run"], "Example:\n  convgroups run "),
        (&["events"], "Example:\n  convgroups events "),
        (&["inspect"], "Example:\n  convgroups inspect "),
        (&["plugin"], "Usage: convgroups plugin"),
        (&["plugin", "export"], "Example:\n  convgroups plugin export "),
        (&["export"], "Examples:\n  convgroups export "),
        (&["import"], "Examples:\n  convgroups import "),
        (&["backup"], "Example:\n  convgroups backup "),
        (&["restore"], "Examples:\n  convgroups restore "),
        (&["verify-store"], "Example:\n  convgroups verify-store "),
        (&["config"], "Usage: convgroups config"),
        (&["completions"], "Example:\n  convgroups completions "),
    ];
    for (command, fragment) in commands {
        let help = place.run(&[command, &["--help"][..]].concat()).succeeds().stdout;
        assert!(help.contains(fragment), "{command:?}: {help}");
    }
    let version = place.run(&["--version"]).succeeds().stdout;
    assert_eq!(version, concat!("convgroups ", env!("CARGO_PKG_VERSION"), "\n"));
}

/// What once went wrong.
mod regressions {
    use super::*;

    /// Every call fails, and an error is logged: the plugin's stack alone takes this much memory.
    const PLUGIN_FAILS: &[&str] = &["--store", "memory:", "--set", "sandbox.max_memory_bytes=65536"];

    #[test]
    fn a_line_that_is_a_list_is_malformed() {
        let input = "[\"alice\",\"getConversationGroupList\",{}]\n";
        let answers = Place::new().feed(&["run", "-", "--store", "memory:"], input).succeeds().json();
        assert_eq!(answers[0]["code"], 60003, "{answers:?}");
        let input = "[\"convgroups-export\",1]\n";
        Place::new().feed(&["import", "-", "--store", "memory:"], input).fails(1, &["line 1: ", "not an export"]);
    }

    #[test]
    fn an_unknown_field_of_a_line_to_import_is_refused() {
        let place = Place::new();
        let more = r#"{"user":"alice","groupName":"Work","conversationIDList":[],"more":1}"#;
        place.feed(&["import", "-"], format!("{HEADER}\n{more}\n")).fails(1, &["line 2: ", "more"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_with_a_name_can_be_imported() {
        let place = Place::new();
        let input = format!("{HEADER}\n{}", group("alice", "Work", &["c2c_bob"]));
        place.feed(&["import", "/dev/stdin"], input).succeeds();
        assert_eq!(place.groups().len(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_plugin_whose_path_is_not_utf8_is_not_replaced_by_another() {
        use std::os::unix::ffi::OsStrExt;

        let place = Place::new();
        let mut command = place.convgroups(&["call", "getConversationGroupList", "--user", "alice", "--plugin"]);
        let ended = Session::start(command.arg(std::ffi::OsStr::from_bytes(b"missing-\xff.wasm"))).feed(Vec::new());
        assert_ne!(ended.code, Some(0), "{ended:?}");
    }

    #[test]
    fn a_store_named_memory_to_sqlite_is_refused() {
        let params = group_and_ids("Work", &["c2c_bob"]).to_string();
        let call = ["call", "createConversationGroup", "--user", "alice", "--params", &params];
        Place::new().run(&[&call[..], &["--store", "sqlite::memory:"]].concat()).fails(1, &["memory:"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_log_that_cannot_be_written_keeps_no_answer_back() {
        let script = r#"exec "$0" "$@" 2> /dev/full"#;
        let session = Place::new().start_in_shell(script, &[&["run", "-"], PLUGIN_FAILS].concat());
        let input = line("alice", "getConversationGroupList", &json!({})).repeat(50);
        assert_eq!(session.feed(input.into()).succeeds().json().len(), 50);
    }

    #[test]
    fn a_cache_with_a_flipped_bit_is_not_used() {
        let place = CachedPlace::new();
        let good = place.run().succeeds().stdout;
        let compiled = place.compiled();
        let (path, (content, _)) = compiled.first_key_value().expect("something is cached");
        for step in 0..40 {
            let mut content = content.clone();
            let position = content.len() * step / 40;
            content[position] ^= 1;
            std::fs::write(path, content).expect("the file can be written");
            let ended = place.run();
            assert_eq!((ended.code, &ended.stdout), (Some(0), &good), "byte {position}: {}", ended.stderr);
        }
    }

    #[test]
    fn a_log_in_a_file_has_no_colours() {
        let call = ["call", "getConversationGroupList", "--user", "alice"];
        let ended = Place::new().run(&[&call[..], PLUGIN_FAILS].concat()).exits(1);
        assert!(ended.stderr.contains("the plugin failed"), "{}", ended.stderr);
        assert!(!ended.stderr.contains('\u{1b}'), "{}", ended.stderr);
    }

    #[test]
    fn the_printed_settings_are_a_settings_file_whatever_characters_are_in_them() {
        let place = Place::new();
        let printed = place.run(&["config", "--store", "sqlite:\u{7f}"]).succeeds().stdout;
        place.write("printed.toml", printed);
        place.run(&["config", "--config", "printed.toml"]).succeeds();
    }
}
