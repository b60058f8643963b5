//! `convgroups serve` and `convgroups usersig` as users run them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use convgroups_server::usersig::Keys;
use convgroups_tests::server::{now, put_secret};

const KEY: &str = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e";

/// The program in an empty directory, without settings from outside.
fn convgroups(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convgroups"));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CONVGROUPS_") || name.starts_with("OTEL_")) {
            command.env_remove(name);
        }
    }
    command.current_dir(directory).env("CONVGROUPS_CACHE_DIR", directory.join("cache"));
    command
}

/// A running server, and what it said until it listened.
struct Running {
    process: Child,
    said: Vec<String>,
    rest: BufReader<Box<dyn Read>>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut process = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it starts");
        let stderr = process.stderr.take().expect("piped");
        Self::read(process, Box::new(stderr))
    }

    /// Starts it with a standard error in non-blocking mode.
    #[cfg(unix)]
    fn start_non_blocking(mut command: Command) -> Self {
        let (ours, its) = std::os::unix::net::UnixStream::pair().expect("a pair");
        its.set_nonblocking(true).expect("a mode");
        let its = Stdio::from(std::os::fd::OwnedFd::from(its));
        let process = command.stderr(its).stdout(Stdio::null()).spawn().expect("it starts");
        // The command holds the other end.
        drop(command);
        Self::read(process, Box::new(ours))
    }

    fn read(process: Child, stderr: Box<dyn Read>) -> Self {
        let mut rest = BufReader::new(stderr);
        let mut said = Vec::new();
        while !said.last().is_some_and(|line: &String| line.starts_with("convgroups: listening on ")) {
            let mut line = String::new();
            let read = rest.read_line(&mut line).expect("text");
            assert!(read > 0, "it ended: {said:?}");
            said.push(line.trim_end().to_owned());
        }
        Self { process, said, rest }
    }

    fn address(&self) -> &str {
        self.said.last().and_then(|line| line.strip_prefix("convgroups: listening on ")).expect("it listens")
    }

    /// Asks it to stop; answers what it said after it had begun to listen.
    fn stop(mut self) -> String {
        let asked = Command::new("kill").arg(self.process.id().to_string()).status().expect("there is kill");
        assert!(asked.success());
        let mut said = String::new();
        self.rest.read_to_string(&mut said).expect("text");
        let status = self.process.wait().expect("it ends");
        assert!(status.success(), "{status}: {said}");
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Of a test that failed; otherwise it has ended.
        let _ = self.process.kill();
    }
}

#[cfg(unix)]
impl Running {
    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.process.id().to_string()]).status();
        assert!(sent.expect("there is kill").success());
    }

    /// Reads the log until a line has these words.
    fn until(&mut self, words: &str) -> String {
        let mut said = String::new();
        loop {
            let mut line = String::new();
            let read = self.rest.read_line(&mut line).expect("text");
            assert!(read > 0, "it ended without {words:?}: {said}");
            said += &line;
            if line.contains(words) {
                return said;
            }
        }
    }
}

fn shell(directory: &Path, script: &str) -> String {
    let output = Command::new("sh").args(["-c", script]).current_dir(directory).output().expect("there is a shell");
    String::from_utf8(output.stdout).expect("text")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[test]
fn every_line_that_dev_prints_can_be_pasted() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = convgroups(directory.path());
    command.args(["serve", "--dev", "--store", "memory:", "--listen", "127.0.0.1:0"]);
    let server = Running::start(command);
    let signature = server.said.iter().find(|line| line.starts_with("SIG=")).expect("a signature");
    let curls: Vec<&String> = server.said.iter().filter(|line| line.starts_with("curl ")).collect();
    let answers: Vec<String> = curls
        .iter()
        // The stream of events would go on for ever.
        .map(|line| shell(directory.path(), &format!("{signature}\n{}", line.replacen("curl ", "curl -s -m 2 ", 1))))
        .collect();
    assert_eq!(answers.len(), 4, "{curls:?}");
    assert!(answers[0].starts_with(r#"{"code":0,"#), "{answers:?}");
    assert!(answers[1].contains(r#"{"conversationID":"c2c_bob","resultCode":0,"resultInfo":""}"#), "{answers:?}");
    assert!(answers[2].contains("event: change") && answers[2].contains("id: 2"), "{answers:?}");
    assert!(answers[3].contains(r#""ActionStatus":"OK""#) && answers[3].contains(r#""ToGroupId":"42""#), "{answers:?}");
    let page = shell(directory.path(), &format!("curl -s {}/console/", server.address()));
    assert!(page.starts_with("<!doctype html>"), "{page}");
    server.stop();
}

#[test]
fn a_signature_is_made_and_looked_at_and_no_key_is_ever_printed() {
    let directory = tempfile::tempdir().expect("a directory");
    let run = |arguments: &[&str], input: &str| -> Output {
        let mut command = convgroups(directory.path());
        command.env("CONVGROUPS_USERSIG_KEYS", KEY).env("CONVGROUPS_AUTH__SDK_APP_ID", "1400000000");
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        // Who does not read may be gone.
        let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
        child.wait_with_output().expect("it ends")
    };
    let made = run(&["usersig", "alice", "--expire", "60"], "");
    assert!(made.status.success(), "{}", text(&made.stderr));
    let signature = text(&made.stdout);
    let seen = run(&["usersig", "--verify"], &signature);
    assert!(seen.status.success() && text(&seen.stdout).starts_with(r#"{"identifier":"alice","expires":"#));

    let wrong = run(&["usersig", "--verify"], &signature.replacen('e', "f", 1));
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stdout).starts_with(r#"{"code":700"#), "{}", text(&wrong.stdout));
    let other_app = run(&["usersig", "--verify", "--set", "auth.sdk_app_id=7"], &signature);
    assert_eq!(other_app.status.code(), Some(1));
    assert!(text(&other_app.stdout).contains(r#""field":"TLS.sdkappid""#), "{}", text(&other_app.stdout));
    let long = run(&["usersig", "--verify"], &"x".repeat(1 << 20));
    assert!(text(&long.stdout).starts_with(r#"{"code":70003,"#), "{}", text(&long.stdout));

    let config = run(&["config"], "");
    assert!(config.status.success());
    for output in [&made, &seen, &wrong, &config] {
        assert!(!text(&output.stdout).contains(KEY) && !text(&output.stderr).contains(KEY));
    }
}

#[test]
fn a_server_that_cannot_be_right_does_not_start_and_says_why() {
    let directory = tempfile::tempdir().expect("a directory");
    put_secret(&directory.path().join("short.keys"), "short\n");
    put_secret(&directory.path().join("quoted.keys"), format!("\"{KEY}\"\n"));
    let key = ("CONVGROUPS_USERSIG_KEYS", KEY);
    let app = "--set=auth.sdk_app_id=1400000000";
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], i32, &'a str);
    let cases: [Case<'_>; 12] = [
        (&[], &[app], 2, "there are no keys"),
        (&[key], &[], 2, "auth.sdk_app_id: is not set"),
        (&[("CONVGROUPS_USERSIG_KEYS", "short")], &[app], 2, "line 1 has a key of less than 16 bytes"),
        (&[], &[app, "--set=auth.keys_file=none.keys"], 2, "the keys file none.keys"),
        (&[], &[app, "--set=auth.keys_file=short.keys"], 2, "line 1 has a key of less than 16 bytes"),
        (&[], &[app, "--set=auth.keys_file=quoted.keys"], 2, "line 1 begins or ends with a quotation mark"),
        (&[("CONVGROUPS_USERSIG_KEYS", "'a quoted key of enough bytes'")], &[app], 2, "line 1 begins or ends"),
        (
            &[("CONVGROUPS_USERSIG_KEYS", "a key of more than 16 bytes,KEY=value of a name")],
            &[app],
            2,
            "line 2 is of the form",
        ),
        (&[key], &[app, "--set=server.trusted_proxies=[\"nginx\"]"], 2, "server.trusted_proxies: has \"nginx\""),
        (&[key], &[app, "--listen=0.0.0.0:0"], 2, "can be reached from other machines"),
        (&[key], &[app, "--set=server.tls_key=key.pem"], 2, "goes together"),
        (&[key], &[app, "--listen=256.1.1.1:80"], 1, "could not listen on 256.1.1.1:80"),
    ];
    for (environment, arguments, code, reason) in cases {
        let mut command = convgroups(directory.path());
        command.args(["serve", "--store", "memory:", "--listen", "127.0.0.1:0"]);
        // A second --listen would be an error of its own.
        if arguments.iter().any(|argument| argument.starts_with("--listen")) {
            command = convgroups(directory.path());
            command.args(["serve", "--store", "memory:"]);
        }
        let output = command.args(arguments).envs(environment.iter().copied()).output().expect("it runs");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(reason), "{arguments:?}: {said}");
        assert!(!said.contains(KEY), "{said}");
    }
}

#[test]
fn a_taken_port_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let mut command = convgroups(directory.path());
    command.args(["serve", "--dev", "--store", "memory:", "--listen", &address]);
    let output = command.output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&format!("could not listen on {address}")), "{}", text(&output.stderr));
}

#[test]
fn log_lines_carry_the_id_of_the_answer_and_no_signature() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = convgroups(directory.path());
    command.args(["serve", "--dev", "--store", "memory:", "--listen", "127.0.0.1:0", "--log-json"]);
    let server = Running::start(command);
    let signature = server.said.iter().find_map(|line| line.strip_prefix("SIG=")).expect("a signature").to_owned();
    let bare = signature.trim_matches('\'').to_owned();
    let call = format!(
        "curl -s -i -H 'Authorization: Bearer {bare}' {}/v1/createConversationGroup \
         -d '{{\"groupName\":\"Secret plans\",\"conversationIDList\":[\"c2c_bob\"]}}'",
        server.address()
    );
    let answer = shell(directory.path(), &call);
    let id = answer.lines().find_map(|line| line.strip_prefix("x-request-id: ")).expect("an id").to_owned();
    let said = server.stop();
    let line = said.lines().find(|line| line.contains(&id)).expect("a line about the call");
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(line["fields"]["user"], "alice");
    assert_eq!(line["fields"]["method"], "createConversationGroup");
    assert!(!said.contains(&bare) && !said.contains("Secret plans"), "{said}");
}

/// Sends this many requests on one connection; each adds a line to the server log.
fn make_lines(address: &str, lines: usize) {
    let address = address.strip_prefix("http://").expect("plain HTTP");
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    let mut answers = BufReader::new(stream.try_clone().expect("a stream"));
    for _ in 0..lines {
        stream.write_all(b"POST /v1/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").expect("writes");
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            assert_ne!(answers.read_line(&mut line).expect("it goes on answering"), 0, "it is closed");
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().expect("a length");
            }
        }
        answers.read_exact(&mut vec![0; length]).expect("it goes on answering");
    }
}

fn lost(metrics: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix("convgroups_log_lines_lost_total "));
    line.expect("the metric").parse().expect("a number")
}

#[test]
fn a_stalled_log_reader_does_not_stop_the_server_and_lost_lines_are_counted() {
    type Start = fn(Command) -> Running;
    let mut cases: Vec<(bool, Start)> = vec![(true, Running::start), (false, Running::start)];
    #[cfg(unix)]
    cases.push((true, Running::start_non_blocking));
    for (is_json, start) in cases {
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = convgroups(directory.path());
        command.args(["serve", "--store", "memory:", "--listen", "127.0.0.1:0", "--dev"]);
        if is_json {
            command.arg("--log-json");
        }
        let mut server = start(command);
        let address = server.address().to_owned();
        let fetch = |path: &str| shell(directory.path(), &format!("curl -s -m 60 {address}{path}"));
        assert_eq!(lost(&fetch("/metrics")), 0);
        // More than the pipe and the server's queue hold.
        make_lines(&address, 15_000);
        assert_eq!(fetch("/healthz"), r#"{"status":"ok"}"#);
        let known = lost(&fetch("/metrics"));
        assert!(known > 0, "nothing was lost");
        // The reader goes on.
        let mut line = String::new();
        while !line.contains("lines were lost") {
            line.clear();
            assert_ne!(server.rest.read_line(&mut line).expect("text"), 0, "it ended");
        }
        assert!(line.contains(&known.to_string()), "{known}: {line}");
        make_lines(&address, 1);
        while !line.contains("nothing") && !line.contains("unknown") {
            line.clear();
            assert_ne!(server.rest.read_line(&mut line).expect("text"), 0, "it ended");
        }
        server.stop();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn log_lines_that_cannot_be_written_are_counted() {
    let directory = tempfile::tempdir().expect("a directory");
    // The server cannot say which port it has.
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let full = std::fs::File::options().write(true).open("/dev/full").expect("it is there");
    let mut command = convgroups(directory.path());
    command.args(["serve", "--store", "memory:", "--listen", &free.to_string(), "--dev"]);
    let mut process = command.stderr(full).stdout(Stdio::null()).spawn().expect("it starts");
    let ended = |process: &mut Child| process.try_wait().expect("it can be asked");
    while TcpStream::connect(free).is_err() {
        assert_eq!(ended(&mut process), None);
        std::thread::sleep(Duration::from_millis(50));
    }
    let address = format!("http://{free}");
    make_lines(&address, 100);
    let metrics = || shell(directory.path(), &format!("curl -s -m 60 {address}/metrics"));
    // The thread that writes may be behind.
    let known = (0..1000).map(|_| lost(&metrics())).find(|lost| *lost >= 100);
    process.kill().expect("it runs");
    process.wait().expect("it ends");
    assert!(known.is_some(), "fewer than 100 lines are counted");
}

#[test]
fn a_stalled_log_reader_does_not_delay_shutdown() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = convgroups(directory.path());
    command.args(["serve", "--store", "memory:", "--listen", "127.0.0.1:0", "--dev"]);
    let mut server = Running::start(command);
    make_lines(server.address(), 2000);
    let asked = Command::new("kill").arg(server.process.id().to_string()).status().expect("there is kill");
    assert!(asked.success());
    for _ in 0..6000 {
        if let Some(status) = server.process.try_wait().expect("it can be asked") {
            assert!(status.success(), "{status}");
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it does not stop");
}

#[test]
fn log_lines_carry_the_address_of_the_client_and_of_a_trusted_proxy() {
    let directory = tempfile::tempdir().expect("a directory");
    let said = |trusted: &str, form: &str, header: &str| {
        let mut command = convgroups(directory.path());
        command.args(["serve", "--dev", "--store", "memory:", "--listen", "127.0.0.1:0", "--log-json"]);
        command.args(["--set", &format!("server.trusted_proxies={trusted}")]);
        command.args(["--set", &format!("server.forwarded_header={form}")]);
        let server = Running::start(command);
        let call = format!("curl -s -H '{header}' {}/v1/getConversationGroupList -d '{{}}'", server.address());
        assert!(shell(directory.path(), &call).contains("60005"));
        let said = server.stop();
        let lines = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let call = lines.clone().find(|line| line["fields"]["message"] == "call").expect("a line about the call");
        assert_eq!(call["fields"]["outcome"], "unauthenticated");
        let warned = lines.filter(|line| line["level"] == "WARN").map(|line| line["fields"]["message"].to_string());
        (call["span"].clone(), warned.collect::<Vec<_>>().join("\n"))
    };
    let (span, warned) = said("[]", "x-forwarded-for", "X-Forwarded-For: 203.0.113.9");
    assert_eq!(span["address"], "127.0.0.1");
    assert!(span["proxy"].is_null() && warned.contains("not in server.trusted_proxies"), "{span} {warned}");
    let (span, warned) = said("[\"127.0.0.1\"]", "x-forwarded-for", "X-Forwarded-For: 10.0.0.1, 203.0.113.9");
    assert_eq!((&span["address"], &span["proxy"]), (&"203.0.113.9".into(), &"127.0.0.1".into()));
    assert!(span["scheme"].is_null() && warned.is_empty(), "{span} {warned}");
    let headers = "X-Forwarded-Proto: http' -H 'X-Forwarded-For: 203.0.113.9";
    let (span, warned) = said("[\"127.0.0.1\"]", "x-forwarded-for", headers);
    assert!(span["scheme"] == "http" && warned.contains("plain HTTP"), "{span} {warned}");
    let (span, warned) = said("[\"127.0.0.0/8\"]", "forwarded", "Forwarded: for=\"[2001:db8::9]:99\";proto=https");
    assert_eq!((&span["address"], &span["proxy"]), (&"2001:db8::9".into(), &"127.0.0.1".into()));
    assert!(span["scheme"] == "https" && warned.is_empty(), "{span} {warned}");
}

#[cfg(unix)]
#[test]
fn sighup_reloads_keys_and_admins_and_failures_change_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let keys = directory.path().join("keys");
    let settings = |admin: &str, port: u16, rest: &str| {
        let text = format!(
            "store = \"memory:\"\n[server]\nlisten = \"127.0.0.1:{port}\"\ntrusted_proxies = [\"192.0.2.{port}\"]\n[auth]\nsdk_app_id = 1400000000\n\
             keys_file = \"keys\"\nadmins = [\"{admin}\"]\n{rest}"
        );
        std::fs::write(directory.path().join("convgroups.toml"), text).expect("writes");
    };
    put_secret(&keys, KEY);
    settings("first", 0, "");
    let mut command = convgroups(directory.path());
    command.arg("serve");
    let mut server = Running::start(command);
    let address = server.address().to_owned();
    let sign = |key: &str, user: &str| Keys::parse(key).expect("a key").sign(user, 1_400_000_000, now(), 600);
    let code = |key: &str, admin: &str| {
        let signature = sign(key, admin).replace('*', "%2A");
        let url = format!(
            "{address}/v4/recentcontact/get_contact_group?sdkappid=1400000000&identifier={admin}&usersig={signature}"
        );
        let answer = shell(directory.path(), &format!("curl -s -d '{{\"From_Account\":\"alice\"}}' '{url}'"));
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        answer["ErrorCode"].as_i64().expect("a code")
    };
    assert_eq!((code(KEY, "first"), code(KEY, "second")), (0, 60010));

    for name in ["USR1", "USR2"] {
        server.signal(name);
    }
    server.signal("HUP");
    server.until("the keys were read again, and are unchanged");

    settings("second", 9, "");
    let other = KEY.replace('5', "6");
    put_secret(&keys, &other);
    server.signal("HUP");
    // The file may have been noticed before the signal.
    let said = server.until("SIGHUP") + &server.until("auth.admins has changed") + &server.until("the keys ");
    assert!(said.contains("the keys have changed") && said.contains("changed=\"server.listen\""), "{said}");
    assert!(said.contains("the trusted proxies have changed"), "{said}");
    assert_eq!((code(&other, "first"), code(&other, "second"), code(KEY, "second")), (60010, 0, 70009));

    settings("third", 0, "nonsense = 1\n");
    put_secret(&keys, format!("\"{KEY}\""));
    server.signal("HUP");
    let said = server.until("the settings cannot be used") + &server.until("the keys cannot be used");
    assert!(said.contains("SIGHUP") && said.contains("nonsense"), "{said}");
    assert!(said.contains("quotation mark") && !said.contains(KEY), "{said}");
    assert_eq!((code(&other, "second"), code(&other, "third"), code(KEY, "second")), (0, 60010, 70009));
    server.stop();
}

#[cfg(unix)]
#[test]
fn a_low_limit_of_open_files_and_failing_accepts_are_warnings_with_numbers() {
    let directory = tempfile::tempdir().expect("a directory");
    let limited = |limits: &str, arguments: &str| {
        let program = env!("CARGO_BIN_EXE_convgroups");
        let script = format!("{limits} && exec {program} serve --dev --store memory: --listen 127.0.0.1:0 {arguments}");
        let mut command = convgroups(directory.path());
        let environment: Vec<_> =
            command.get_envs().map(|(name, value)| (name.to_owned(), value.map(Into::into))).collect();
        command = Command::new("sh");
        command.current_dir(directory.path()).args(["-c", &script]);
        for (name, value) in environment {
            let value: Option<std::ffi::OsString> = value;
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Running::start(command)
    };
    // The soft limit alone is raised.
    let roomy = "--set server.max_connections=100 --set calls.max_concurrent=1";
    let server = limited("ulimit -n 400 && ulimit -S -n 64", roomy);
    assert!(!server.said.iter().any(|line| line.contains("server.max_connections is")), "{:?}", server.said);
    // Once it has answered, it also listens for signals.
    assert!(shell(directory.path(), &format!("curl -s {}/healthz", server.address())).contains("ok"));
    server.stop();

    let mut server = limited("ulimit -n 64", roomy);
    let warned = server.said.iter().find(|line| line.contains("WARN")).expect("a warning");
    for number in ["server.max_connections is 100", "may open 64 files", "LimitNOFILE"] {
        assert!(warned.contains(number), "{warned}");
    }
    let address = server.address().strip_prefix("http://").expect("plain").to_owned();
    let connections: Vec<_> = (0..80).filter_map(|_| std::net::TcpStream::connect(&address).ok()).collect();
    let said = server.until("connections cannot be accepted");
    for number in ["server.max_connections is 100", "may open 64 files", " are open"] {
        assert!(said.contains(number), "{said}");
    }
    drop(connections);
    assert!(shell(directory.path(), &format!("curl -s http://{address}/healthz")).contains("ok"), "it goes on");
    let said = server.stop();
    assert!(said.matches("connections cannot be accepted").count() <= 3, "{said}");
}

#[cfg(feature = "otlp")]
#[test]
fn traces_go_to_the_collector_that_the_environment_names() {
    let collector = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", collector.local_addr().expect("an address"));
    let received = std::thread::spawn(move || {
        let (mut stream, _) = collector.accept().expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let begun = head.len();
            reader.read_line(&mut head).expect("a line");
            if let Some(value) = head[begun..].to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a number");
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("the body");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").expect("writes");
        (head, String::from_utf8_lossy(&body).into_owned())
    });
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = convgroups(directory.path());
    command.args(["serve", "--dev", "--store", "memory:", "--listen", "127.0.0.1:0"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    let server = Running::start(command);
    let signature = server.said.iter().find(|line| line.starts_with("SIG=")).expect("a signature");
    let create = server.said.iter().find(|line| line.contains("createConversationGroup")).expect("a call");
    assert!(shell(directory.path(), &format!("{signature}\n{create}")).starts_with(r#"{"code":0,"#));
    // What was not sent yet is sent at the end.
    let said = server.stop();
    assert!(received.is_finished() || !said.contains("traces"), "{said}");
    let (head, body) = received.join().expect("the collector got something");
    assert!(head.starts_with("POST /v1/traces "), "{head}");
    for name in ["convgroups", "request", "call", "operation", "commit", "createConversationGroup", "alice"] {
        assert!(body.contains(name), "{name} is missing in {body:?}");
    }
}
