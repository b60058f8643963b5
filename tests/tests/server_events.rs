//! `GET /v1/events`: every change once, in order, wherever a reader is cut off and resumes.

use std::any::Any;
use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use convgroups_host::api::{
    AddConversationsToGroup, CreateConversationGroup, DeleteConversationGroup, MarkConversation,
};
use convgroups_host::model::{Change, Origin};
use convgroups_host::store::{Commit, CommitOutcome, Skip, Store, StoreResult};
use convgroups_host::{EventId, Host, MemoryStore, SqliteStore, Version};
use convgroups_tests::gated::GatedStore;
use convgroups_tests::meddled::{MeddledStore, Meddler};
use convgroups_tests::server::{
    APP, EventStream, Setup, TestServer, answer_on, eventually, keys, now, request, rest_of, sign,
};
use convgroups_tests::{ids, user};
use serde_json::{Value, json};

fn both(name: &str, ids: &[&str]) -> Value {
    json!({ "groupName": name, "conversationIDList": ids })
}

/// This many changes, the first of which creates a group.
fn change(host: &Host, name: &str, changes: usize) {
    let user = user(name);
    host.call(&user, &CreateConversationGroup::new("Work", ["c2c_0"])).expect("creates");
    for number in 1..changes {
        host.call(&user, &AddConversationsToGroup::new("Work", [format!("c2c_{number}")])).expect("adds");
    }
}

#[test]
fn a_reader_who_knows_nothing_begins_with_everything() {
    let server = TestServer::start();
    let mut nothing = server.events("bob", "", None);
    let full = nothing.expect();
    assert_eq!((full.event.as_str(), full.id), ("full", Some(0)));
    assert_eq!(full.data, json!({ "version": 0, "full": true, "groups": [], "conversations": [] }));

    change(server.host(), "alice", 2);
    server.host().call(&user("alice"), &MarkConversation::new(1, true, ["c2c_0"])).expect("marks");
    for last_event_id in [None, Some("")] {
        let mut stream = server.events("alice", "", last_event_id);
        let full = stream.expect();
        assert_eq!((full.event.as_str(), full.id), ("full", Some(3)));
        let groups = json!([{ "groupName": "Work", "conversationIDList": ["c2c_0", "c2c_1"] }]);
        let conversations = json!([{ "conversationID": "c2c_0", "markList": [1], "customData": "" }]);
        assert_eq!(full.data["groups"], groups);
        assert_eq!(full.data["conversations"], conversations);
    }
    // And goes on with what happens.
    let mut stream = server.events("alice", "", None);
    assert_eq!(stream.expect().event, "full");
    let reply = server.sdk("alice", "createConversationGroup", &both("Play", &["c2c_eve"]));
    let change = stream.expect();
    assert_eq!((change.event.as_str(), change.id), ("change", Some(4)));
    let origin = json!({ "method": "createConversationGroup", "requestID": reply.request_id() });
    let created =
        json!({ "event": "onConversationGroupCreated", "groupName": "Play", "conversationList": ["c2c_eve"] });
    assert_eq!(change.data, json!({ "version": 4, "origin": origin, "events": [created] }));
}

#[test]
fn a_reader_resumes_where_it_says_and_starts_over_where_the_log_does_not_reach() {
    let setup = Setup::default().with(|settings| settings.events.keep_per_user = 3);
    let server = setup.start();
    change(server.host(), "alice", 10);
    // What is sent at first: the kind of the first event, and the versions.
    let cases: &[(&str, Option<&str>, &str, &[u64])] = &[
        ("?after=7", None, "change", &[8, 9, 10]),
        ("?after=9", None, "change", &[10]),
        ("", Some("8"), "change", &[9, 10]),
        ("?after=9", Some("7"), "change", &[8, 9, 10]),
        ("?after=0", None, "full", &[10]),
        ("", Some("6"), "full", &[10]),
        ("", Some("0"), "full", &[10]),
        // Of another server, or of this one before it was set back.
        ("", Some("11"), "full", &[10]),
        ("?after=8796093022207", None, "full", &[10]),
        ("?after=%39", None, "change", &[10]),
    ];
    for (query, last_event_id, event, versions) in cases {
        let mut stream = server.events("alice", query, *last_event_id);
        for version in *versions {
            let sent = stream.expect();
            assert_eq!((sent.event.as_str(), sent.id), (*event, Some(*version)), "{query} {last_event_id:?}");
        }
    }
    let mut at_the_end = server.events("alice", "?after=10", None);
    server.host().call(&user("alice"), &DeleteConversationGroup::new("Work")).expect("deletes");
    assert_eq!(at_the_end.expect().id, Some(11));
}

#[test]
fn a_reader_that_comes_to_a_restored_store_gets_everything_and_misses_nothing() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let (path, backup) = (directory.path().join("groups.db"), directory.path().join("backup.db"));
    let serve = || Setup::default().store(Arc::new(SqliteStore::open(&path).expect("opens"))).start();
    let add = |server: &TestServer, numbers: std::ops::Range<u32>, what: &str| {
        for number in numbers {
            let ids = [format!("c2c_{what}_{number}")];
            server.host().call(&user("alice"), &AddConversationsToGroup::new("Work", ids)).expect("adds");
        }
    };
    let server = serve();
    server.host().call(&user("alice"), &CreateConversationGroup::new("Work", ["c2c_0"])).expect("creates");
    add(&server, 1..10, "kept");
    SqliteStore::open_read_only(&path).and_then(|store| store.backup(&backup)).expect("copies");
    add(&server, 10..15, "lost");
    let seen = server.events("alice", "?after=14", None).expect().resume.expect("an ID");
    assert_eq!(seen.version, Version(15));
    drop(server);
    SqliteStore::restore(&backup, &path).expect("restores");

    let server = serve();
    add(&server, 10..16, "new");
    let log = server.events("alice", "", None).expect().resume.expect("an ID");
    assert_eq!(log.version, Version(16));
    assert_ne!(log.history, seen.history);
    // What is sent first to a reader that says that it has seen this.
    let cases = [
        (seen.to_string(), "full", log),
        (EventId { version: Version(16), ..seen }.to_string(), "full", log),
        (EventId { version: Version(3), ..seen }.to_string(), "full", log),
        (EventId { version: Version(15), ..log }.to_string(), "change", log),
        // Without a history, only a version ahead of the store tells.
        ("17".to_owned(), "full", log),
        ("15".to_owned(), "change", log),
    ];
    for (id, event, resume) in cases {
        let query = format!("?after={id}");
        for (query, header) in [("", Some(id.as_str())), (query.as_str(), None)] {
            let sent = server.events("alice", query, header).expect();
            assert_eq!((sent.event.as_str(), sent.resume), (event, Some(resume)), "{id}");
            if event == "full" {
                let ids = sent.data["groups"][0]["conversationIDList"].as_array().expect("ids").len();
                assert_eq!(ids, 16, "{id}");
            }
        }
    }
    // The ID that came with the full state is where the reader goes on.
    let mut again = server.events("alice", "", Some(&log.to_string()));
    add(&server, 16..17, "new");
    assert_eq!(again.expect().event, "change");
}

#[test]
fn a_place_to_resume_from_that_is_none_is_refused() {
    let server = TestServer::start();
    let wrong = [
        "x",
        "-1",
        "+1",
        "01",
        "1.5",
        "1e3",
        "0x1",
        "99999999999999999999",
        "8796093022208",
        "1 2",
        "\u{661}",
        "1-",
        "1-0",
        "-0123456789abcdef",
        "1-0123456789ABCDEF",
        "1-0123456789abcdef0",
        "01-0123456789abcdef",
        "1-0123456789abcdef-0123456789abcdef",
        "1-0x23456789abcdef",
        "1-+123456789abcdef",
        "1_0123456789abcdef",
        "8796093022208-0123456789abcdef",
    ];
    for id in wrong {
        let (code, name) = (50002, "Last-Event-ID");
        if id.is_ascii() {
            let refused = server.try_events(&sign("alice"), "", Some(id)).expect_err(id);
            assert_eq!(refused.outcome(), (400, code), "{id}");
            assert!(refused.reason().starts_with(name), "{id}: {}", refused.reason());
        }
        let encoded = id.replace(' ', "%20").replace('+', "%2B");
        let refused = server.try_events(&sign("alice"), &format!("?after={encoded}"), None).expect_err(id);
        assert_eq!(refused.outcome(), (400, code), "{id}");
        assert!(refused.reason().starts_with("after"), "{id}: {}", refused.reason());
    }
    for query in ["?after=", "?after", "?after=%201", "?after=1%20"] {
        assert_eq!(server.try_events(&sign("alice"), query, None).expect_err(query).outcome(), (400, 50002));
    }
    for query in ["?before=1", "?After=1", "?after=1&x"] {
        assert_eq!(server.try_events(&sign("alice"), query, None).expect_err(query).outcome(), (400, 60002));
    }
    assert_eq!(server.metric("convgroups_event_streams"), 0);
}

#[test]
fn a_reader_that_is_cut_off_again_and_again_gets_every_change_once_and_in_order() {
    const WRITERS: usize = 3;
    const CHANGES: usize = 100;
    for (_, store) in convgroups_tests::TestStore::all() {
        let setup = Setup::default().store(store.store.clone()).with(|settings| {
            settings.events.keep_per_user = 10_000;
            settings.server.max_event_streams_per_user = 10_000;
        });
        let server = setup.start();
        let read = std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let server = &server;
                scope.spawn(move || {
                    let name = format!("writer {writer}");
                    for number in 0..CHANGES / 2 {
                        let id = format!("c2c_{number}");
                        let method = if number == 0 { "createConversationGroup" } else { "addConversationsToGroup" };
                        assert_eq!(server.sdk("alice", method, &both(&name, &[&id])).outcome(), (200, 0));
                        let data = json!({ "customData": format!("{writer} {number}"), "conversationIDList": [id] });
                        assert_eq!(server.sdk("alice", "setConversationCustomData", &data).outcome(), (200, 0));
                    }
                });
            }
            let mut random = fastrand::Rng::with_seed(17);
            let mut read: Vec<(u64, Value)> = Vec::new();
            while read.len() < WRITERS * CHANGES {
                let last = read.last().map(|(id, _)| id.to_string());
                let query = if last.is_none() { "?after=0" } else { "" };
                let mut stream = server.events("alice", query, last.as_deref());
                let room = WRITERS * CHANGES - read.len();
                for _ in 0..random.usize(1..12).min(room) {
                    let sent = stream.expect();
                    assert_eq!(sent.event, "change");
                    read.push((sent.id.expect("an id"), sent.data));
                }
            }
            read
        });
        let log = server.host().events(user("alice"), Version(0)).read().expect("reads");
        let log: Vec<(u64, Value)> =
            log.iter().map(|event| (event.version().0, serde_json::to_value(event).expect("is JSON"))).collect();
        assert_eq!(log.len(), WRITERS * CHANGES);
        assert_eq!(read, log);
    }
}

#[test]
fn a_stream_on_which_nothing_happens_shows_signs_of_life() {
    let server = Setup::default().with(|settings| settings.server.heartbeat_ms = 20).start();
    let mut stream = server.events("alice", "?after=0", None);
    for _ in 0..5 {
        let sent = stream.next_of_any_kind().expect("a heartbeat");
        assert_eq!((sent.event.as_str(), sent.id), ("", None));
    }
    change(server.host(), "alice", 1);
    assert_eq!(stream.expect().id, Some(1));
}

#[test]
fn streams_are_limited_for_each_user_and_in_all() {
    let setup = Setup::default().with(|settings| {
        settings.server.max_event_streams_per_user = 2;
        settings.server.max_event_streams = 3;
    });
    let server = setup.start();
    let refused = |name: &str| {
        let refused = server.try_events(&sign(name), "", None).expect_err("too many");
        assert_eq!((refused.outcome(), refused.header("retry-after")), ((503, 60018), Some("1")));
        refused.reason()
    };
    let first = server.events("alice", "", None);
    let mut second = server.events("alice", "", None);
    assert!(refused("alice").contains("you have too many"));
    let mut third = server.events("bob", "", None);
    assert!(refused("bob").contains("there are too many"));
    assert!(refused("carol").contains("there are too many"));
    assert_eq!(server.metric("convgroups_event_streams"), 3);
    assert_eq!((second.expect().event.as_str(), third.expect().event.as_str()), ("full", "full"));
    // Streams are no calls: those go on.
    assert_eq!(server.sdk("alice", "getConversationGroupList", &json!({})).outcome(), (200, 0));
    drop(first);
    let mut again = None;
    eventually("a place is free again", || {
        again = server.try_events(&sign("alice"), "", None).ok();
        again.is_some()
    });
    assert!(refused("alice").contains("you have too many"));
    drop((second, third, again));
    eventually("all places are free again", || server.metric("convgroups_event_streams") == 0);
}

#[test]
fn a_stream_ends_with_its_signature() {
    let server = TestServer::start();
    change(server.host(), "alice", 1);
    let signature = keys().sign("alice", APP, now(), 5);
    let mut stream = server.try_events(&signature, "?after=0", None).expect("it is valid");
    let mut lasting = server.events("alice", "?after=0", None);
    assert_eq!(stream.expect().id, Some(1));
    assert_eq!(stream.end(), "expired");
    assert_eq!(server.try_events(&signature, "", None).expect_err("expired").outcome(), (401, 70001));
    assert_eq!(server.metric("convgroups_ended_event_streams_total{reason=\"expired\"}"), 1);
    server.host().call(&user("alice"), &DeleteConversationGroup::new("Work")).expect("deletes");
    assert_eq!((lasting.expect().id, lasting.expect().id), (Some(1), Some(2)));
}

#[test]
fn a_stream_ends_with_its_signature_or_the_server_though_there_is_more_to_send() {
    const CHANGES: u64 = 80;
    // More than sockets and the server's memory of it hold; a reader who takes its time is behind when it is over.
    let store = Arc::new(MemoryStore::new());
    for version in 0..CHANGES {
        let commit = Commit {
            user: user("alice"),
            base: Version(version),
            changes: vec![Change::GroupCreated {
                group_name: format!("group {version}"),
                conversation_list: ids(&"c2c_".repeat(250), 1000),
            }],
            origin: Origin { method: "import".to_owned(), request_id: String::new() },
            keep: 1000,
            skip: Skip::default(),
            deadline: None,
        };
        assert!(matches!(store.commit(commit).expect("commits"), CommitOutcome::Committed(_)));
    }
    let mut server = Setup::default().store(store).start();
    let signature = keys().sign("alice", APP, now(), 5);
    let mut stream = server.try_events(&signature, "?after=0", None).expect("it is valid");
    let mut lasting = server.events("alice", "?after=0", None);
    assert_eq!((stream.expect().id, lasting.expect().id), (Some(1), Some(1)));
    eventually("the signature expires", || server.sdk_signed(&signature, "getConversationGroupList", "").status == 401);
    let rest = |stream: &mut EventStream| {
        let mut last = None;
        loop {
            let sent = stream.expect();
            if sent.event == "end" {
                break (last, sent.data["reason"].as_str().map(str::to_owned));
            }
            last = sent.id;
        }
    };
    let (last, reason) = rest(&mut stream);
    assert_eq!(reason.as_deref(), Some("expired"));
    assert!(last < Some(CHANGES), "all of it was sent: {last:?}");
    server.ask_to_stop();
    let address = server.address();
    eventually("it stops", || TcpStream::connect(address).is_err());
    let (last, reason) = rest(&mut lasting);
    assert_eq!(reason.as_deref(), Some("shutdown"));
    assert!(last < Some(CHANGES), "all of it was sent: {last:?}");
}

#[test]
fn a_signature_may_hold_for_ever() {
    let server = TestServer::start();
    let mut stream = server.try_events(&keys().sign("alice", APP, now(), u64::MAX), "", None).expect("it is valid");
    assert_eq!(stream.expect().event, "full");
    change(server.host(), "alice", 1);
    assert_eq!(stream.expect().id, Some(1));
}

#[test]
fn a_stream_ends_when_the_log_cannot_be_read() {
    let memory = Arc::new(MemoryStore::new());
    let store = GatedStore::new(memory.clone());
    let server = Setup::default().store(store.clone()).start();
    let mut stream = server.events("alice", "", None);
    assert_eq!(stream.expect().event, "full");
    store.fail(true);
    // A change to read.
    let behind = Host::builder().store(memory).build().expect("the host builds");
    change(&behind, "alice", 1);
    assert_eq!(stream.end(), "store");
    let refused = server.try_events(&sign("alice"), "", None).expect_err("nothing can be read");
    assert_eq!(refused.outcome(), (500, 50004));
    assert!(!refused.body.contains("secret"), "{refused:?}");
    store.fail(false);
    assert_eq!(server.events("alice", "", None).expect().event, "full");
    assert_eq!(server.metric("convgroups_ended_event_streams_total{reason=\"store\"}"), 1);
}

#[test]
fn opening_an_event_stream_waits_in_the_per_user_queue_and_counts_as_a_call() {
    let store = GatedStore::new(Arc::new(MemoryStore::new()));
    let setup = Setup::default().store(store.clone()).with(|settings| {
        settings.calls.timeout_ms = 500;
        settings.server.max_calls_per_user = 2;
    });
    let server = setup.start();
    store.close();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| server.sdk("alice", "createConversationGroup", &both("Work", &["c2c_bob"])));
        store.wait_for(1);
        for (query, id) in [("", None), ("?after=0", None), ("", Some("5"))] {
            let refused = server.try_events(&sign("alice"), query, id).expect_err("the call is in front");
            assert_eq!(refused.outcome(), (504, 50005), "{query} {id:?}");
        }
        assert_eq!(server.events("bob", "", None).expect().event, "full");
        let waiting = scope.spawn(|| server.try_events(&sign("alice"), "", None).expect_err("in vain").outcome());
        eventually("it waits with the call", || server.metric("convgroups_calls_waiting") == 1);
        let refused = server.try_events(&sign("alice"), "", None).expect_err("there are two already");
        assert_eq!(refused.outcome(), (503, 60018));
        assert_eq!(waiting.join().expect("no panic"), (504, 50005));
        assert_eq!(server.metric("convgroups_event_streams"), 0, "refused streams do not count");
        store.open();
        assert_eq!(call.join().expect("no panic").status, 200);
    });
    assert_eq!(server.events("alice", "?after=0", None).expect().id, Some(1));
}

/// Gives a user a state of some 2 MB, which count as 65 calls.
fn fill(store: &dyn Store, name: &str) {
    let commit = Commit {
        user: user(name),
        base: Version(0),
        changes: vec![Change::GroupCreated {
            group_name: "Work".to_owned(),
            conversation_list: ids(&"c2c_".repeat(250), 2000),
        }],
        origin: Origin { method: "import".to_owned(), request_id: String::new() },
        keep: 100,
        skip: Skip { versions: 5, ..Skip::default() },
        deadline: None,
    };
    assert!(matches!(store.commit(commit).expect("commits"), CommitOutcome::Committed(_)));
}

/// Lets reads wait.
#[derive(Debug, Default)]
struct ReadGate(Mutex<()>);

impl Meddler for ReadGate {
    fn read(&self) -> StoreResult<()> {
        drop(self.0.lock().expect("no panic"));
        Ok(())
    }

    fn commit(&self, store: &dyn Store, commit: Commit) -> StoreResult<CommitOutcome> {
        store.commit(commit)
    }
}

#[test]
fn cancelled_event_streams_are_charged() {
    let store = MeddledStore::with(Arc::new(MemoryStore::new()), ReadGate::default());
    let users = ["alice", "bob"];
    for name in users {
        fill(&*store, name);
    }
    // Both attempts of a user fit into the rate of calls.
    let setup = Setup::default().store(store.clone()).with(|settings| settings.server.calls_per_second_per_user = 4);
    let server = setup.start();
    let runtime = tokio::runtime::Runtime::new().expect("threads can be made");
    let mut requests = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(server.address()).await.expect("connects");
        let (requests, connection) = h2::client::handshake(stream).await.expect("it shakes hands");
        tokio::spawn(connection);
        requests
    });
    for name in users {
        let closed = store.0.lock().expect("no panic");
        // Over HTTP/1.1, dropping this disconnects; over HTTP/2, it resets the stream.
        let asked: Box<dyn Any> = if name == "alice" {
            let mut stream = server.connect();
            stream.write_all(request("GET", "/v1/events", name, "", "").as_bytes()).expect("writes");
            Box::new(stream)
        } else {
            let asked = axum::http::Request::get("http://test/v1/events");
            let asked = asked.header("authorization", format!("Bearer {}", sign(name))).body(()).expect("a request");
            Box::new(requests.send_request(asked, true).expect("it is sent"))
        };
        eventually("it reads", || server.metric("convgroups_calls_running") == 1);
        drop(asked);
        eventually("the server notices", || server.metric("convgroups_event_streams") == 0);
        drop(closed);
        eventually("the read ends", || server.metric("convgroups_calls_running") == 0);
        let refused = server.try_events(&sign(name), "", None).expect_err("the snapshot was charged");
        assert_eq!(refused.outcome(), (429, 60007), "{name}");
        assert!(refused.reason().contains("large full snapshots"), "{name}: {}", refused.reason());
    }
}

#[test]
fn large_full_snapshots_are_rate_limited_by_their_size() {
    let store = Arc::new(MemoryStore::new());
    fill(&*store, "alice");
    let setup = Setup::default().store(store).with(|settings| settings.server.calls_per_second_per_user = 10);
    let server = setup.start();
    let open = |query: &str| server.try_events(&sign("alice"), query, None);
    assert_eq!(open("").expect("the first").expect().event, "full");
    for query in ["", "?after=1", "?after=8"] {
        let refused = open(query).expect_err("it was large");
        assert_eq!(refused.outcome(), (429, 60007), "{query}");
        let seconds: u64 = refused.header("retry-after").expect("when").parse().expect("seconds");
        assert!((1..=3).contains(&seconds), "{seconds}");
    }
    // Calls are not streams, and others have their own.
    assert_eq!(server.sdk("alice", "getConversationGroupList", &json!({})).outcome(), (200, 0));
    assert_eq!(server.events("bob", "", None).expect().event, "full");
    eventually("they may have another", || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        open("").is_ok()
    });
}

#[test]
fn of_500_readers_only_the_one_whose_user_has_changed_receives_something() {
    const READERS: usize = 500;
    const CHANGED: usize = 123;
    let mut server = TestServer::start();
    let mut streams: Vec<TcpStream> = (0..READERS)
        .map(|number| {
            let mut stream = server.connect();
            let request = request("GET", "/v1/events?after=0", &format!("user {number}"), "", "");
            stream.write_all(request.as_bytes()).expect("writes");
            stream
        })
        .collect();
    eventually("all are open", || server.metric("convgroups_event_streams") == READERS as u64);
    change(server.host(), &format!("user {CHANGED}"), 1);
    let read = |stream: &mut TcpStream, until: &str| {
        let mut text = String::new();
        while !text.contains(until) {
            let mut byte = [0];
            std::io::Read::read_exact(stream, &mut byte).expect("more comes");
            text.push(char::from(byte[0]));
        }
        text
    };
    read(&mut streams[CHANGED], "onConversationGroupCreated");
    // Whatever others were sent comes before the end.
    server.ask_to_stop();
    for (number, stream) in streams.iter_mut().enumerate() {
        let text = rest_of(stream);
        assert!(text.contains(r#"{"reason":"shutdown"}"#), "{number}: {text}");
        assert!(!text.contains("event: change") && !text.contains("event: full"), "{number}: {text}");
    }
}

#[test]
fn what_is_sent_is_an_event_stream() {
    let server = TestServer::start();
    change(server.host(), "alice", 1);
    let mut stream = server.connect();
    stream
        .write_all(request("GET", "/v1/events?after=0", "alice", "Connection: close\r\n", "").as_bytes())
        .expect("writes");
    let mut head = String::new();
    let mut text = [0; 1];
    while !head.contains("\n\n") {
        std::io::Read::read_exact(&mut stream, &mut text).expect("more comes");
        head.push(char::from(text[0]));
    }
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let for_proxies = ["cache-control: no-cache, no-transform\r\n", "x-accel-buffering: no\r\n"];
    for header in ["content-type: text/event-stream", "x-request-id: "].into_iter().chain(for_proxies) {
        assert!(head.contains(header), "{header}: {head}");
    }
    let id = format!("id: 1-{}\n", server.host().store().history().expect("reads"));
    for line in [id.as_str(), "event: change\n", "retry: 2000\n", "data: {\"version\":1,"] {
        assert!(head.contains(line), "{line}: {head}");
    }
    let refused = request("GET", "/v1/events?after=x", "alice", "", "");
    let mut stream = server.connect();
    stream.write_all(refused.as_bytes()).expect("writes");
    assert!(answer_on(&mut stream).contains("content-type: application/json"));
}
