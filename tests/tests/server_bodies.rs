//! Bodies: too long, too deep, broken, or none.

use std::io::{Cursor, Read, Write};
use std::thread::sleep;
use std::time::Duration;

use convgroups_tests::server::{ADMIN, Reply, Setup, TestServer, answer_on, rest_of, rest_path, sign, status_of};
use convgroups_tests::user;
use reqwest::blocking::Body;
use serde_json::{Value, json};

const MAX: usize = 4096;
const CREATE: &str = "/v1/createConversationGroup";

fn padded(value: &Value, length: usize) -> String {
    let json = value.to_string();
    let padding = " ".repeat(length - json.len());
    json + &padding
}

/// A body whose length is told, and the same in chunks.
fn both_ways(body: &str) -> [Body; 2] {
    [Body::from(body.to_owned()), Body::new(Cursor::new(body.to_owned()))]
}

#[test]
fn a_body_may_be_as_long_as_the_setting_says_and_no_longer() {
    let server = Setup::default().with(|settings| settings.server.max_body_bytes = MAX).start();
    let rest = rest_path("create_contact_group", ADMIN, &sign(ADMIN));
    for way in 0..2 {
        for (length, status, code) in [(MAX - 1, 200, 0), (MAX, 200, 0), (MAX + 1, 413, 50002), (2 * MAX, 413, 50002)] {
            let name = format!("{length} {way}");
            let create = json!({ "groupName": name, "conversationIDList": ["c2c_bob"] });
            let [whole, chunked] = both_ways(&padded(&create, length));
            let request = server.post(CREATE).bearer_auth(sign("alice"));
            let reply = Reply::to(request.body(if way == 0 { whole } else { chunked }));
            assert_eq!(reply.outcome(), (status, code), "{length}: {reply:?}");

            let create = json!({
                "From_Account": "bob",
                "GroupContactItem": [{ "GroupName": name, "ContactItem": [{ "Type": 1, "To_Account": "x" }] }],
            });
            let [whole, chunked] = both_ways(&padded(&create, length));
            let reply = server.rest_at(&rest, if way == 0 { whole } else { chunked });
            assert_eq!(reply.outcome(), (200, code), "{length}: {reply:?}");
            assert_eq!(reply.json()["ActionStatus"], if code == 0 { "OK" } else { "FAIL" });
        }
    }
    for name in ["alice", "bob"] {
        let state = server.host().store().state(&user(name)).expect("reads");
        assert_eq!(state.value.groups.len(), 4, "{name}");
    }
}

#[test]
fn an_endless_body_is_not_read_to_its_end_and_its_sender_learns_why() {
    let server = Setup::default().with(|settings| settings.server.max_body_bytes = MAX).start();
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
    let bodies = [
        format!("Content-Length: 1000000000000\r\n\r\n{}", " ".repeat(16 << 20)),
        format!("Transfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(4000)),
    ];
    for body in bodies {
        let head = format!("POST {CREATE} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n", sign("alice"));
        let answer = server.exchange(format!("{head}{body}").as_bytes());
        assert_eq!(status_of(&answer), Some(413), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    }
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn a_connection_can_be_used_on_after_a_body_that_was_refused_before_it_had_come() {
    let server = Setup::default().with(|settings| settings.server.max_body_bytes = MAX).start();
    let (signed, unsigned) = (format!("Authorization: Bearer {}\r\n", sign("alice")), String::new());
    let cases = [
        ("too long", CREATE, &signed, MAX + 1, 413),
        ("without a signature", CREATE, &unsigned, 10, 401),
        ("no such method", "/v1/no", &signed, 10, 404),
        ("no such address", "/no", &signed, 10, 404),
        ("no such command", "/v4/recentcontact/no", &unsigned, 10, 200),
    ];
    for (case, path, headers, length, status) in cases {
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\n{headers}");
        let body = " ".repeat(length);
        let requests = [
            (format!("{head}Content-Length: {length}\r\n\r\n{}", &body[1..]), " "),
            (format!("{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n"), "0\r\n\r\n"),
        ];
        for (most, end) in requests {
            let mut stream = server.connect();
            stream.write_all(most.as_bytes()).expect("is sent");
            // Long enough for an answer that did not wait for the end.
            sleep(Duration::from_millis(100));
            stream.write_all(end.as_bytes()).expect("is sent");
            let answer = answer_on(&mut stream);
            assert_eq!(status_of(&answer), Some(status), "{case}: {answer}");
            assert!(!answer.contains("connection: close"), "{case}: {answer}");
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").expect("is sent");
            assert_eq!(status_of(&answer_on(&mut stream)), Some(200), "{case}");
        }
    }
}

#[test]
fn who_asks_before_sending_a_body_is_not_told_to_send_one_that_nobody_reads() {
    let server = Setup::default().with(|settings| settings.server.max_body_bytes = MAX).start();
    let signed = format!("Authorization: Bearer {}\r\n", sign("alice"));
    for (headers, length, status) in [("", 10, 401), (&*signed, MAX + 1, 413), (&signed, 2, 100)] {
        let mut stream = server.connect();
        let head = format!("POST /v1/getConversationGroupList HTTP/1.1\r\nHost: x\r\n{headers}");
        let head = format!("{head}Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("is sent");
        if status == 100 {
            let mut go_on = [0; 25];
            stream.read_exact(&mut go_on).expect("an answer");
            assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
            stream.write_all(b"{}").expect("is sent");
            assert_eq!(status_of(&answer_on(&mut stream)), Some(200));
        } else {
            let answer = rest_of(&mut stream);
            assert_eq!(status_of(&answer), Some(status), "{answer}");
            assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        }
    }
}

#[test]
fn depth_is_no_danger() {
    const DEPTH: usize = 100_000;
    let server = Setup::default().with(|settings| settings.server.max_body_bytes = 2 << 20).start();
    let arrays = "[".repeat(DEPTH) + &"]".repeat(DEPTH);
    let objects = "{\"a\":".repeat(DEPTH) + "1" + &"}".repeat(DEPTH);
    let open = "[".repeat(DEPTH);
    let sdk = |body: &str| server.sdk_signed(&sign("alice"), "createConversationGroup", body).outcome();
    let path = rest_path("get_contact_group", ADMIN, &sign(ADMIN));
    let rest = |body: &str| server.rest_at(&path, body.to_owned()).outcome();
    for deep in [&arrays, &objects, &open, &"{\"a\":".repeat(DEPTH)] {
        assert_eq!(sdk(deep), (400, 50002));
        assert_eq!(sdk(&format!(r#"{{"groupName":{deep}}}"#)), (400, 50002));
        assert_eq!(sdk(&format!(r#"{{"groupName":"x","conversationIDList":[{deep}]}}"#)), (400, 50002));
        assert_eq!(sdk(&format!(r#"{{"unknown":{deep}}}"#)), (400, 50002));
        assert!(matches!(rest(deep), (200, 50002 | 60003)));
        assert_eq!(rest(&format!(r#"{{"From_Account":{deep}}}"#)), (200, 50002));
    }
    // What is ignored is not looked into, but must be JSON.
    assert_eq!(rest(&format!(r#"{{"From_Account":"alice","Unknown":{arrays}}}"#)), (200, 0));
    assert_eq!(rest(&format!(r#"{{"From_Account":"alice","Unknown":{objects}}}"#)), (200, 0));
    assert_eq!(rest(&format!(r#"{{"From_Account":"alice","Unknown":{open}}}"#)), (200, 60003));
}

#[test]
fn bytes_that_are_no_text_and_bodies_that_are_empty_are_refused_in_words() {
    let server = TestServer::start();
    let sdk = |method: &str, body: &[u8]| {
        Reply::to(server.post(&format!("/v1/{method}")).bearer_auth(sign("alice")).body(body.to_vec()))
    };
    let rest = |body: &[u8]| server.rest_at(&rest_path("get_contact_group", ADMIN, &sign(ADMIN)), body.to_vec());
    for body in
        [&b"\xff"[..], b"{\"groupName\":\"\xc3\x28\",\"conversationIDList\":[]}", b"{\"groupName\":\"\xed\xa0\x80\"}"]
    {
        assert_eq!(sdk("createConversationGroup", body).outcome(), (400, 60003));
        assert_eq!(rest(body).outcome(), (200, 60003));
        assert!(sdk("createConversationGroup", body).reason().contains("UTF-8"));
    }
    for (body, listed, created) in
        [("", (200, 0), (400, 50002)), (" ", (400, 60003), (400, 60003)), ("\r", (400, 60003), (400, 60003))]
    {
        assert_eq!(sdk("getConversationGroupList", body.as_bytes()).outcome(), listed, "{body:?}");
        assert_eq!(sdk("createConversationGroup", body.as_bytes()).outcome(), created, "{body:?}");
        assert_eq!(rest(body.as_bytes()).outcome(), (200, 60003), "{body:?}");
    }
    // Half a surrogate is JSON and no text.
    assert_eq!(sdk("deleteConversationGroup", br#"{"groupName":"\ud800"}"#).outcome(), (400, 60003));
}
