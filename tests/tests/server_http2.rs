//! HTTP/2 clients that do not read their responses.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Request, StatusCode};
use convgroups_host::api::CreateConversationGroup;
use convgroups_host::{MemoryStore, Version};
use convgroups_tests::gated::GatedStore;
use convgroups_tests::server::{APP, PATIENCE, Setup, TestServer, eventually, keys, now, request, sign};
use convgroups_tests::user;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// A connection without TLS, and a task that drives it.
struct Client {
    runtime: Runtime,
    requests: SendRequest<Bytes>,
    ended: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    /// Each stream's window is so large until it is opened further.
    fn connect(server: &TestServer, window: u32) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("threads can be made");
        let (requests, connection) = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(server.address()).await.expect("the server accepts");
            let shaken = h2::client::Builder::new().initial_window_size(window).handshake::<_, Bytes>(stream);
            shaken.await.expect("it shakes hands")
        });
        let ended = runtime.spawn(connection);
        Self { runtime, requests, ended }
    }

    /// Sends a request without a body.
    fn send(&mut self, method: &str, path: &str, signature: Option<&str>) -> ResponseFuture {
        let mut request = Request::builder().method(method).uri(format!("http://test{path}"));
        if let Some(signature) = signature {
            request = request.header("authorization", format!("Bearer {signature}"));
        }
        let request = request.body(()).expect("a request");
        let mut requests = self.runtime.block_on(self.requests.clone().ready()).expect("the connection is there");
        requests.send_request(request, true).expect("it is sent").0
    }

    /// The status of a response, and its body.
    fn head(&self, response: ResponseFuture) -> (StatusCode, RecvStream) {
        let response = self.runtime.block_on(async { timeout(PATIENCE, response).await.expect("headers come") });
        let response = response.expect("a response");
        (response.status(), response.into_body())
    }

    /// Reads a body without opening its window, and returns its length and the reason if it was reset.
    fn rest(&self, mut body: RecvStream) -> (usize, Option<Reason>) {
        self.runtime.block_on(async {
            let mut length = 0;
            loop {
                match timeout(PATIENCE, body.data()).await.expect("it ends") {
                    None => return (length, None),
                    Some(Ok(data)) => length += data.len(),
                    Some(Err(error)) => return (length, error.reason()),
                }
            }
        })
    }
}

const STALLED: &str = "convgroups_stalled_http2_streams_total";

#[test]
fn http2_streams_with_a_closed_window_are_reset_and_their_connection_stays_usable() {
    let server = Setup::default().with(|settings| settings.server.write_timeout_ms = 300).start();
    let signature = sign("alice");
    let paths = ["/openapi.json", "/console/console.js", "/metrics", "/v1/events"];
    let mut stalled = 0;
    // Nothing; one byte; all but the end of a response.
    for window in [0, 1, 40_000] {
        let mut client = Client::connect(&server, window);
        for path in paths {
            let response = client.send("GET", path, Some(&signature));
            let (status, body) = client.head(response);
            assert_eq!(status, 200, "{path}");
            if window < 10 || path == "/openapi.json" {
                stalled += 1;
                assert_eq!(client.rest(body), (window as usize, Some(Reason::CANCEL)), "{path} {window}");
            }
        }
        let response = client.send("GET", "/healthz", None);
        assert_eq!(client.head(response).0, 200, "the connection goes on");
        assert_eq!(server.get("/healthz").status, 200);
    }
    eventually("all are reset", || server.metric(STALLED) >= stalled);
    eventually("no stream is left", || server.metric("convgroups_event_streams") == 0);
}

#[test]
fn a_slow_client_that_keeps_reading_gets_the_whole_response() {
    let server = Setup::default().with(|settings| settings.server.write_timeout_ms = 3000).start();
    let whole = server.get("/openapi.json").body.len();
    let mut client = Client::connect(&server, 16 << 10);
    let response = client.send("GET", "/openapi.json", None);
    let (_, mut body) = client.head(response);
    let read = client.runtime.block_on(async {
        let mut read = 0;
        while let Some(data) = timeout(PATIENCE, body.data()).await.expect("more comes") {
            let length = data.expect("it is not reset").len();
            read += length;
            // In all longer than the server waits for one part of it.
            sleep(Duration::from_millis(800)).await;
            body.flow_control().release_capacity(length).expect("so much was read");
        }
        read
    });
    assert_eq!(read, whole);
    assert!(read > 48 << 10, "{read}: too small to show anything");
    assert_eq!(server.metric(STALLED), 0);
}

#[test]
fn clients_that_do_not_read_do_not_delay_shutdown() {
    let mut server = Setup::default()
        .with(|settings| {
            settings.server.write_timeout_ms = 600_000;
            settings.server.shutdown_timeout_ms = 3_600_000;
        })
        .start();
    let mut stalled = Client::connect(&server, 0);
    // Dropped, they would be reset by the client.
    let bodies = ["/openapi.json", "/v1/events"].map(|path| {
        let response = stalled.send("GET", path, Some(&sign("alice")));
        stalled.head(response).1
    });
    assert_eq!(server.metric("convgroups_event_streams"), 1);
    // A connection of HTTP/1.1 on which more is asked for than its buffers hold.
    let blocked = server.connect();
    let asked = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    let mut writer = blocked.try_clone().expect("it can be written to");
    std::thread::spawn(move || {
        for _ in 0..10_000 {
            if std::io::Write::write_all(&mut writer, asked.as_bytes()).is_err() {
                break;
            }
        }
    });
    std::thread::sleep(Duration::from_millis(500));
    server.ask_to_stop();
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        server.stop();
        // The test may have failed and be gone.
        let _ = done.send(());
    });
    is_done.recv_timeout(PATIENCE).expect("it stops");
    drop((blocked, bodies));
}

#[test]
fn an_http2_connection_without_requests_is_closed_despite_its_pings() {
    let server = Setup::default().with(|settings| settings.server.idle_timeout_ms = 400).start();
    let mut busy = Client::connect(&server, 65_535);
    let response = busy.send("GET", "/v1/events?after=0", Some(&sign("alice")));
    let (status, mut events) = busy.head(response);
    assert_eq!(status, 200);

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let ended = runtime.expect("threads can be made").block_on(async {
        let stream = tokio::net::TcpStream::connect(server.address()).await.expect("the server accepts");
        let (mut requests, mut connection) = h2::client::handshake(stream).await.expect("it shakes hands");
        let mut pings = connection.ping_pong().expect("once");
        let ended = tokio::spawn(connection);
        let asked = Request::get("http://test/healthz").body(()).expect("a request");
        let (response, _) = requests.send_request(asked, true).expect("it is sent");
        assert_eq!(response.await.expect("a response").status(), 200);
        let ping = async {
            while pings.ping(h2::Ping::opaque()).await.is_ok() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, async { tokio::join!(ping, ended).1 }).await.expect("it is closed")
    });
    let ended = ended.expect("no panic");
    assert!(ended.as_ref().map_or_else(h2::Error::is_go_away, |()| true), "{ended:?}");

    // An open event stream counts as a request.
    server.host().call(&user("alice"), &CreateConversationGroup::new("Work", ["c2c_bob"])).expect("creates");
    let event = busy.runtime.block_on(async { timeout(PATIENCE, events.data()).await.expect("an event comes") });
    assert!(event.is_some_and(|event| event.is_ok()));
    assert!(!busy.ended.is_finished());
}

#[test]
fn the_setting_limits_the_streams_of_a_connection() {
    for (set, expected) in [(None, 32), (Some(3), 3)] {
        let server = Setup::default().with(|settings| {
            if let Some(set) = set {
                settings.server.max_streams_per_connection = set;
            }
        });
        let server = server.start();
        let mut client = Client::connect(&server, 65_535);
        let response = client.send("GET", "/healthz", None);
        assert_eq!(client.head(response).0, 200);
        assert_eq!(client.requests.current_max_send_streams(), expected);
    }
}

#[test]
fn a_request_waits_while_its_connection_has_too_many_unread_response_bytes() {
    let server = Setup::default().with(|settings| settings.server.max_buffered_bytes_per_connection = 1024).start();
    let mut client = Client::connect(&server, 0);
    let response = client.send("GET", "/openapi.json", None);
    let (_, unread) = client.head(response);
    let signature = sign("alice");
    let later = client.send("GET", "/v1/events", Some(&signature));
    for _ in 0..10 {
        // On another connection.
        assert_eq!(server.sdk("bob", "getConversationGroupList", &json!({})).outcome(), (200, 0));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(server.metric("convgroups_event_streams"), 0);
    // The client gives the first response up.
    drop(unread);
    let (status, _stream) = client.head(later);
    assert_eq!((status, server.metric("convgroups_event_streams")), (StatusCode::OK, 1));
}

#[test]
fn requests_that_come_at_once_share_the_limit_of_unread_bytes_of_their_connection() {
    let store = GatedStore::new(Arc::new(MemoryStore::new()));
    let setup = Setup::default().store(store.clone()).with(|settings| {
        settings.calls.max_concurrent = 16;
        // Room for the estimates of two responses.
        settings.server.max_buffered_bytes_per_connection = 32 << 10;
    });
    let server = setup.start();
    store.close();
    let mut client = Client::connect(&server, 65_535);
    let create = |client: &mut Client, user: &str| {
        let asked = Request::post("http://test/v1/createConversationGroup");
        let asked = asked.header("authorization", format!("Bearer {}", sign(user))).body(()).expect("a request");
        let mut requests = client.runtime.block_on(client.requests.clone().ready()).expect("the connection is there");
        let (response, mut body) = requests.send_request(asked, false).expect("it is sent");
        let group = json!({ "groupName": "Work", "conversationIDList": ["c2c_bob"] });
        body.send_data(group.to_string().into(), true).expect("it is sent");
        response
    };
    let responses: Vec<_> = (0..10).map(|number| create(&mut client, &format!("user {number}"))).collect();
    store.wait_for(2);
    for _ in 0..10 {
        // On another connection.
        assert_eq!(server.metric("convgroups_calls_running"), 2);
        std::thread::sleep(Duration::from_millis(20));
    }
    store.open();
    for response in responses {
        assert_eq!(client.head(response).0, 200);
    }
    // Open event streams keep no estimates.
    let streams: Vec<_> = (0..3).map(|_| client.send("GET", "/v1/events", Some(&sign("alice")))).collect();
    let streams: Vec<_> = streams.into_iter().map(|response| client.head(response)).collect();
    assert!(streams.iter().all(|(status, _)| *status == 200));
    let response = create(&mut client, "alice");
    assert_eq!(client.head(response).0, 200);
}

#[test]
fn an_event_stream_counts_until_its_response_has_ended() {
    let server = Setup::default().with(|settings| settings.server.max_event_streams_per_user = 1).start();
    let mut client = Client::connect(&server, 0);
    let brief = keys().sign("alice", APP, now(), 2);
    let response = client.send("GET", "/v1/events", Some(&brief));
    let (status, stream) = client.head(response);
    assert_eq!(status, 200);
    let expired = r#"convgroups_ended_event_streams_total{reason="expired"}"#;
    eventually("the server has ended it", || server.metric(expired) == 1);
    assert_eq!(server.metric("convgroups_event_streams"), 1);
    let refused = server.try_events(&sign("alice"), "", None).expect_err("there is one already");
    assert_eq!(refused.outcome(), (503, 60018));
    drop(stream);
    eventually("it is gone", || server.metric("convgroups_event_streams") == 0);
    assert_eq!(server.events("alice", "", None).expect().event, "full");
}

#[test]
fn stalled_event_streams_are_reset_while_changes_go_on() {
    let server = Setup::default().with(|settings| settings.server.write_timeout_ms = 300).start();
    for _ in 0..3 {
        let mut client = Client::connect(&server, 0);
        let responses: Vec<_> = (0..10).map(|_| client.send("GET", "/v1/events", Some(&sign("alice")))).collect();
        let bodies: Vec<_> = responses.into_iter().map(|response| client.head(response)).collect();
        assert!(bodies.iter().all(|(status, _)| *status == 200));
        for number in 0..11 {
            let create = json!({ "customData": number.to_string(), "conversationIDList": ["c2c_bob"] });
            assert_eq!(server.sdk("alice", "setConversationCustomData", &create).outcome(), (200, 0));
        }
        for (_, body) in bodies {
            assert_eq!(client.rest(body), (0, Some(Reason::CANCEL)));
        }
        eventually("all are gone", || server.metric("convgroups_event_streams") == 0);
    }
    assert_eq!(server.host().store().state(&user("alice")).expect("reads").version, Version(33));
    assert_eq!(server.metric(STALLED), 30);
}

#[test]
fn http1_responses_larger_than_the_unread_limit_are_sent_whole() {
    let server = Setup::default().with(|settings| settings.server.max_buffered_bytes_per_connection = 1024).start();
    let mut stream = server.connect();
    for _ in 0..3 {
        let asked = request("GET", "/openapi.json", "alice", "", "");
        std::io::Write::write_all(&mut stream, asked.as_bytes()).expect("writes");
        let answer = convgroups_tests::server::answer_on(&mut stream);
        assert!(answer.contains("\r\ncontent-length: ") && answer.ends_with('}'), "{}", answer.len());
    }
}
