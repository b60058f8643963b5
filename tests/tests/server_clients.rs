//! Clients that are slow, many, or gone.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use convgroups_host::MemoryStore;
use convgroups_host::model::{Change, Origin, Version};
use convgroups_host::store::{Commit, CommitOutcome, Skip, Store};
use convgroups_tests::gated::GatedStore;
use convgroups_tests::server::{
    Reply, Setup, TestServer, answer_on, client, eventually, request, rest_of, sign, status_of,
};
use convgroups_tests::{ids, user};
use serde_json::json;

const LIST: &str = "/v1/getConversationGroupList";

fn create(name: &str) -> serde_json::Value {
    json!({ "groupName": name, "conversationIDList": ["c2c_bob"] })
}

/// Something of a few bytes at a time, until nobody takes it any more.
fn dribble(stream: &TcpStream, text: &str) {
    let mut stream = stream;
    for bytes in text.as_bytes().chunks(3) {
        if stream.write_all(bytes).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs something while a client that behaves goes on calling.
fn while_another_is_served(server: &TestServer, something: impl FnOnce()) {
    let (done, started) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let served = scope.spawn(|| {
            let mut calls = 0;
            while !done.load(Ordering::Relaxed) {
                // A connection each: none is idle for as long as slow clients are given.
                let reply = Reply::to(client().post(server.url(LIST)).bearer_auth(sign("bob")));
                assert_eq!(reply.outcome(), (200, 0));
                calls += 1;
                started.store(true, Ordering::Relaxed);
            }
            calls
        });
        eventually("another client is served", || started.load(Ordering::Relaxed) || served.is_finished());
        something();
        done.store(true, Ordering::Relaxed);
        assert!(served.join().expect("the other client is served") > 0);
    });
}

#[test]
fn a_client_that_takes_too_long_for_its_headers_is_disconnected() {
    let server = Setup::default().with(|settings| settings.server.header_timeout_ms = 2000).start();
    let endless = format!("{}{}", "GET /healthz HTTP/1.1\r\n", "a: b\r\n".repeat(2000));
    let after_another = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n{endless}");
    let cases = ["", "GET", "PRI * HTTP/2.0\r\n", &endless, &after_another];
    while_another_is_served(&server, || {
        std::thread::scope(|scope| {
            for sent in cases {
                let mut stream = server.connect();
                scope.spawn(move || {
                    dribble(&stream, sent);
                    let answer = rest_of(&mut stream);
                    assert!(matches!(status_of(&answer), Some(200 | 408) | None), "{answer}");
                });
            }
        });
    });
}

#[test]
fn a_client_that_takes_too_long_for_its_body_is_told_so() {
    let server = Setup::default().with(|settings| settings.server.body_timeout_ms = 500).start();
    let body = create("Work").to_string() + &" ".repeat(5000);
    let head = request("POST", "/v1/createConversationGroup", "alice", "", &body);
    let rest = convgroups_tests::server::rest_path("get_contact_group", "administrator", &sign("administrator"));
    let rest = request("POST", &rest, "administrator", "", &body);
    while_another_is_served(&server, || {
        std::thread::scope(|scope| {
            for (request, status) in [(&head, 408), (&rest, 200)] {
                let mut stream = server.connect();
                scope.spawn(move || {
                    let (head, body) = request.split_at(request.find("\r\n\r\n").expect("a head") + 4);
                    stream.write_all(head.as_bytes()).expect("writes");
                    let writer = stream.try_clone().expect("another handle");
                    let dribbling = std::thread::spawn({
                        let body = body.to_owned();
                        move || dribble(&writer, &body)
                    });
                    let answer = answer_on(&mut stream);
                    assert_eq!(status_of(&answer), Some(status), "{answer}");
                    assert!(answer.contains("60008"), "{answer}");
                    drop(stream.shutdown(Shutdown::Both));
                    dribbling.join().expect("no panic");
                });
            }
        });
    });
    assert_eq!(server.host().store().state(&user("alice")).expect("reads").version, Version(0));
}

/// Changes of 10 MB each, more than sockets hold.
fn with_large_changes(changes: u64) -> MemoryStore {
    let store = MemoryStore::new();
    for version in 0..changes {
        let conversation_list = ids(&"c2c_".repeat(250), 10_000);
        let commit = Commit {
            user: user("alice"),
            base: Version(version),
            changes: vec![Change::GroupCreated { group_name: format!("group {version}"), conversation_list }],
            origin: Origin { method: "import".to_owned(), request_id: String::new() },
            keep: 1000,
            skip: Skip::default(),
            deadline: None,
        };
        assert!(matches!(store.commit(commit).expect("commits"), CommitOutcome::Committed(_)));
    }
    store
}

#[test]
fn a_reader_that_does_not_read_is_disconnected_and_can_resume() {
    let store = std::sync::Arc::new(with_large_changes(4));
    let setup = Setup::default().store(store).with(|settings| settings.server.write_timeout_ms = 1000);
    let server = setup.start();
    while_another_is_served(&server, || {
        let mut stream = server.connect();
        stream.write_all(request("GET", "/v1/events?after=0", "alice", "", "").as_bytes()).expect("writes");
        eventually("the stream opens", || server.metric("convgroups_event_streams") == 1);
        // The connection is closed, not only the stream ended: nobody reads what would be left to write.
        eventually("the stream is ended", || server.metric("convgroups_event_streams") == 0);
        let answer = rest_of(&mut stream);
        assert_eq!(status_of(&answer), Some(200));
        assert!(!answer.contains("id: 4-"), "all of it was sent");
    });
    let mut again = server.events("alice", "", Some("1"));
    let versions: Vec<_> = (0..3).map(|_| again.expect().id).collect();
    assert_eq!(versions, [Some(2), Some(3), Some(4)]);
}

#[test]
fn a_thousand_connections_are_held_and_all_are_answered() {
    raise_the_limit_of_files();
    let server = TestServer::start();
    let mut streams: Vec<TcpStream> = (0..1000).map(|_| server.connect()).collect();
    eventually("all are let in", || server.metric("convgroups_connections") >= 1000);
    for (number, stream) in streams.iter_mut().enumerate() {
        let create = create(&format!("group {number}")).to_string();
        let user = format!("user {number}");
        let request = request("POST", "/v1/createConversationGroup", &user, "", &create);
        stream.write_all(request.as_bytes()).expect("writes");
    }
    for stream in &mut streams {
        let answer = answer_on(stream);
        assert!(status_of(&answer) == Some(200) && answer.contains(r#"{"code":0,"#), "{answer}");
    }
    for number in 0..1000 {
        let state = server.host().store().state(&user(&format!("user {number}"))).expect("reads");
        assert_eq!(state.value.groups[0].group_name, format!("group {number}"));
    }
    drop(streams);
    eventually("all are gone", || server.metric("convgroups_connections") <= 2);
}

/// Both ends of each connection are in this process.
fn raise_the_limit_of_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let wanted = 4096;
    if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).expect("the hard limit is higher");
    }
}

#[test]
fn one_connection_too_many_is_closed_at_once_and_the_others_go_on() {
    let server = Setup::default().with(|settings| settings.server.max_connections = 10).start();
    let call = |stream: &mut TcpStream| {
        stream.write_all(request("POST", LIST, "alice", "", "").as_bytes()).expect("writes");
        assert_eq!(status_of(&answer_on(stream)), Some(200));
    };
    let mut streams: Vec<TcpStream> = (0..10).map(|_| server.connect()).collect();
    for _ in 0..3 {
        streams.iter_mut().for_each(call);
        assert_eq!(rest_of(&mut server.connect()), "");
    }
    drop(streams.pop());
    eventually("there is a place again", || {
        let mut stream = server.connect();
        // It may be closed before it is written to.
        let written = stream.write_all(request("POST", LIST, "alice", "Connection: close\r\n", "").as_bytes());
        written.is_ok() && status_of(&rest_of(&mut stream)) == Some(200)
    });
    streams.iter_mut().for_each(call);
}

#[test]
fn what_a_client_asked_for_is_done_though_it_has_gone() {
    let store = GatedStore::new(std::sync::Arc::new(MemoryStore::new()));
    let setup = Setup::default().store(store.clone()).with(|settings| {
        settings.calls.max_concurrent = 1;
        settings.calls.max_waiting = 1;
    });
    let server = setup.start();
    store.close();
    let mut gone = server.connect();
    let asked = request("POST", "/v1/createConversationGroup", "alice", "", &create("Work").to_string());
    gone.write_all(asked.as_bytes()).expect("writes");
    store.wait_for(1);
    // Another waits for its turn, and leaves before it comes.
    let mut waiting = server.connect();
    let asked = request("POST", "/v1/createConversationGroup", "bob", "", &create("Work").to_string());
    waiting.write_all(asked.as_bytes()).expect("writes");
    eventually("it waits", || server.metric("convgroups_calls_waiting") == 1);
    drop((gone, waiting));
    eventually("it does not wait any more", || server.metric("convgroups_calls_waiting") == 0);
    assert_eq!(server.metric("convgroups_calls_running"), 1, "what runs goes on");
    store.open();

    eventually("it is committed", || store.state(&user("alice")).expect("reads").version == Version(1));
    // The turn, of which there is one, is given back.
    assert_eq!(server.sdk("alice", "getConversationGroupList", &json!({})).json()["data"], json!(["Work"]));
    assert_eq!(server.sdk("alice", "createConversationGroup", &create("Play")).outcome(), (200, 0));
    assert_eq!(server.metric("convgroups_calls_running"), 0);
    server.stop();
    assert_eq!(store.state(&user("bob")).expect("reads").version, Version(0));
}

#[test]
fn a_client_that_only_stops_sending_still_gets_its_answer_or_is_closed() {
    let server = TestServer::start();
    let mut stream = server.connect();
    let asked =
        request("POST", "/v1/createConversationGroup", "alice", "Connection: close\r\n", &create("Work").to_string());
    stream.write_all(asked.as_bytes()).expect("writes");
    stream.shutdown(Shutdown::Write).expect("half-closes");
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    assert!(read.is_err() || matches!(status_of(&answer), Some(200) | None), "{answer}");
    assert_eq!(server.get("/healthz").status, 200);
}
