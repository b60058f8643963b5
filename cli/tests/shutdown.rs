//! `convgroups serve` that is told to stop under load: a real process, real sockets, a store on disk, signals.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use convgroups_host::model::GroupState;
use convgroups_host::store::Store;
use convgroups_host::{SqliteStore, UserId};
use convgroups_server::usersig::Keys;
use convgroups_tests::server::put_secret;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Far longer than anything takes; only a process that hangs uses it up.
const PATIENCE: Duration = Duration::from_secs(120);
const APP: u64 = 1_400_000_000;
const KEY: &str = "a key for tests of more than 16 bytes";

/// Compiled plugins, shared by all tests.
static CACHE: LazyLock<PathBuf> =
    LazyLock::new(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("convgroups-shutdown-cache"));

/// The program in this directory, without settings from outside.
fn serve(place: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convgroups"));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CONVGROUPS_")) {
            command.env_remove(name);
        }
    }
    command.current_dir(place.path()).env("CONVGROUPS_CACHE_DIR", &*CACHE).arg("serve");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A server that runs until it is told to stop.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the program starts");
        let mut errors = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut said = String::new();
        let address = loop {
            let mut line = String::new();
            assert_ne!(errors.read_line(&mut line).expect("UTF-8"), 0, "it ended: {said}");
            if let Some((_, address)) = line.trim_end().split_once("listening on http://") {
                break address.to_owned();
            }
            said += &line;
        };
        // Whoever logs must not wait for a reader.
        std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
        Self { child, address }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    fn end(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the process can be waited for") {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "it does not stop");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It has ended by itself, or the test failed; in both cases nobody is interested.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect(address: &str) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn sign(user: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    Keys::parse(KEY).expect("a key").sign(user, APP, now, 3600)
}

/// One call on a connection that stays open: status and answer; nothing when the connection breaks.
fn call(stream: &mut TcpStream, signature: &str, method: &str, params: &Value) -> Option<(u16, Value)> {
    let body = params.to_string();
    let length = body.len();
    let head = format!(
        "POST /v1/{method} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {signature}\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all((head + &body).as_bytes()).ok()?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.extend(byte);
    }
    let head = String::from_utf8(head).expect("headers are ASCII").to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).expect("a length");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let status = head.get(9..12).and_then(|status| status.parse().ok()).expect("a status");
    Some((status, serde_json::from_slice(&body).expect("JSON")))
}

/// A directory with settings and a keys file.
fn place() -> TempDir {
    let place = tempfile::tempdir().expect("a directory");
    let settings = format!(
        "store = \"sqlite:groups.db\"\n[server]\nlisten = \"127.0.0.1:0\"\ncalls_per_second = 0\n\
         calls_per_second_per_user = 0\n[auth]\nsdk_app_id = {APP}\nkeys_file = \"keys\"\n"
    );
    std::fs::write(place.path().join("convgroups.toml"), settings).expect("writes");
    put_secret(&place.path().join("keys"), KEY);
    place
}

/// Creates and removes a group until the server is gone; whether it may be there afterwards.
fn create_and_delete(address: &str, user: &str, acknowledged: &AtomicU32) -> Vec<bool> {
    let Ok(mut stream) = connect(address) else { return vec![false] };
    let signature = sign(user);
    let mut there = false;
    loop {
        let answer = if there {
            call(&mut stream, &signature, "deleteConversationGroup", &json!({ "groupName": "Work" }))
        } else {
            let params = json!({ "groupName": "Work", "conversationIDList": ["c2c_bob", "group_42"] });
            call(&mut stream, &signature, "createConversationGroup", &params)
        };
        match answer {
            Some((200, answer)) => {
                assert_eq!(answer["code"], 0, "{answer}");
                there = !there;
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Some((status, answer)) => {
                assert_eq!(status, 503, "{answer}");
                return vec![there];
            }
            // It was not answered, and may have been done.
            None => return vec![there, !there],
        }
    }
}

#[test]
fn a_server_that_is_terminated_under_load_has_kept_all_that_it_acknowledged() {
    for signal in ["TERM", "INT"] {
        let place = place();
        let mut serving = Serving::start(serve(&place));
        let mut events = connect(&serving.address).expect("connects");
        let asked = format!("GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", sign("zoe"));
        events.write_all(asked.as_bytes()).expect("writes");
        let acknowledged = AtomicU32::new(0);
        let users: Vec<String> = (0..4).map(|number| format!("user {number}")).collect();
        let possible: Vec<Vec<bool>> = std::thread::scope(|scope| {
            let (address, acknowledged) = (&serving.address, &acknowledged);
            let callers: Vec<_> =
                users.iter().map(|user| scope.spawn(move || create_and_delete(address, user, acknowledged))).collect();
            let started = Instant::now();
            while acknowledged.load(Ordering::Relaxed) < 50 {
                assert!(started.elapsed() < PATIENCE, "nothing is acknowledged");
                std::thread::sleep(Duration::from_millis(1));
            }
            serving.signal(signal);
            callers.into_iter().map(|caller| caller.join().expect("no panic")).collect()
        });
        let mut text = String::new();
        events.read_to_string(&mut text).expect("it is closed in good order");
        assert!(text.contains(r#"{"reason":"shutdown"}"#), "{text}");
        assert_eq!(serving.end().code(), Some(0), "{signal}");

        let store = SqliteStore::open(place.path().join("groups.db")).expect("nobody else has it");
        let whole = GroupState {
            group_name: "Work".to_owned(),
            conversation_id_list: vec!["c2c_bob".to_owned(), "group_42".to_owned()],
        };
        for (user, possible) in users.iter().zip(possible) {
            let state = store.state(&UserId::new(user.as_str()).expect("a user")).expect("reads");
            assert!(state.value.groups.is_empty() || state.value.groups == [whole.clone()], "{user}: {state:?}");
            assert!(possible.contains(&!state.value.groups.is_empty()), "{user}: {state:?}, {possible:?}");
        }
    }
}

#[test]
fn a_second_signal_stops_the_server_at_once() {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT"), ("TERM", "INT")] {
        let place = place();
        let mut command = serve(&place);
        command.args(["--set=server.body_timeout_ms=600000", "--set=server.shutdown_timeout_ms=3600000"]);
        let mut serving = Serving::start(command);
        let mut slow = connect(&serving.address).expect("connects");
        let head = format!(
            "POST /v1/createConversationGroup HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 9\r\n\r\n{{",
            sign("alice")
        );
        slow.write_all(head.as_bytes()).expect("writes");
        let mut other = connect(&serving.address).expect("connects");
        let listed = call(&mut other, &sign("bob"), "getConversationGroupList", &json!({}));
        assert_eq!(listed.map(|(status, _)| status), Some(200));
        serving.signal(first);
        let started = Instant::now();
        while TcpStream::connect(&serving.address).is_ok() {
            assert!(started.elapsed() < PATIENCE, "it does not begin to stop");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(serving.child.try_wait().expect("it can be asked").is_none(), "it waits for the body");
        serving.signal(second);
        assert_eq!(serving.end().code(), Some(1), "{first} {second}");
    }
}
