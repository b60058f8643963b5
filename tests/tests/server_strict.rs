//! Ambiguous requests, wrong paths and methods, and headers for caches and browsers.

use convgroups_tests::server::{ADMIN, APP, Reply, TestServer, client, rest_path, sign, status_of};
use serde_json::{Value, json};

const LIST: &str = "/v1/getConversationGroupList";

/// The body of a response that was read as text.
fn body(answer: &str) -> Value {
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    serde_json::from_str(body).expect("JSON")
}

#[test]
fn ambiguous_http1_requests_are_rejected_and_their_connection_is_closed() {
    let server = TestServer::start();
    let signed = format!("Authorization: Bearer {}", sign("alice"));
    let cases: &[(&str, &str, &[&str], u16)] = &[
        ("no Host", "GET /healthz HTTP/1.1", &[], 400),
        ("two Hosts", "GET /healthz HTTP/1.1", &["Host: a", "Host: b"], 400),
        ("the same Host twice", "GET /healthz HTTP/1.1", &["Host: a", "Host: a"], 400),
        ("two Hosts in HTTP/1.0", "GET /healthz HTTP/1.0", &["Host: a", "Host: b"], 400),
        ("a Host with blanks", "GET /healthz HTTP/1.1", &["Host: a b"], 400),
        ("a Host with a path", "GET /healthz HTTP/1.1", &["Host: a/b"], 400),
        ("a Host with a user", "GET /healthz HTTP/1.1", &["Host: a@b"], 400),
        ("a Host that is not ASCII", "GET /healthz HTTP/1.1", &["Host: \u{e4}"], 400),
        ("no Host and a whole address", "GET http://a/healthz HTTP/1.1", &[], 400),
        ("gzip before chunked", "POST /v1/x HTTP/1.1", &["Host: a", "Transfer-Encoding: gzip, chunked"], 501),
        (
            "gzip and chunked",
            "POST /v1/x HTTP/1.1",
            &["Host: a", "Transfer-Encoding: gzip", "Transfer-Encoding: chunked"],
            501,
        ),
        ("chunked twice", "POST /v1/x HTTP/1.1", &["Host: a", "Transfer-Encoding: chunked, chunked"], 501),
        ("an unknown coding", "POST /v1/x HTTP/1.1", &["Host: a", "Transfer-Encoding: cow, chunked"], 501),
        ("gzip alone", "POST /v1/x HTTP/1.1", &["Host: a", "Transfer-Encoding: gzip"], 400),
        ("chunked is not last", "POST /v1/x HTTP/1.1", &["Host: a", "Transfer-Encoding: chunked, gzip"], 400),
        ("two lengths", "POST /v1/x HTTP/1.1", &["Host: a", "Content-Length: 5", "Content-Length: 6"], 400),
    ];
    for (what, line, headers, status) in cases {
        let bytes = format!("{line}\r\n{}\r\n{signed}\r\n\r\n0\r\n\r\n", headers.join("\r\n"));
        let bytes = bytes.replace("\r\n\r\nAuthorization", "\r\nAuthorization");
        let answer = server.exchange(bytes.as_bytes());
        assert_eq!(status_of(&answer.replace("HTTP/1.0", "HTTP/1.1")), Some(*status), "{what}: {answer}");
        // The bytes behind it are no second request.
        assert_eq!(answer.matches("HTTP/1.1 ").count() + answer.matches("HTTP/1.0 ").count(), 1, "{what}: {answer}");
    }
    for (headers, status) in [("Host: a", 200), ("Host: a:1", 200), ("Host: [::1]:1", 200), ("Host:", 200)] {
        let bytes = format!("GET /healthz HTTP/1.1\r\n{headers}\r\nConnection: close\r\n\r\n");
        assert_eq!(status_of(&server.exchange(bytes.as_bytes())), Some(status), "{headers}");
    }
    let old = server.exchange(b"GET /healthz HTTP/1.0\r\n\r\n");
    assert!(old.starts_with("HTTP/1.0 200"), "{old}");
    // On /v4 in its own form, though not with its status.
    let path = rest_path("get_contact_group", ADMIN, &sign(ADMIN));
    let answer = server.exchange(format!("POST {path} HTTP/1.1\r\nContent-Length: 0\r\n\r\n").as_bytes());
    assert_eq!((status_of(&answer), &body(&answer)["ErrorCode"]), (Some(400), &json!(60002)));
}

#[test]
fn a_second_authorization_header_is_rejected() {
    let server = TestServer::start();
    for second in [sign("alice"), sign("bob"), "x".to_owned()] {
        for path in [LIST, "/v1/events"] {
            let verb = if path == LIST { reqwest::Method::POST } else { reqwest::Method::GET };
            let request = client().request(verb, server.url(path));
            let reply =
                Reply::to(request.bearer_auth(sign("alice")).header("Authorization", format!("Bearer {second}")));
            assert_eq!(reply.outcome(), (401, 60005), "{reply:?}");
        }
    }
}

#[test]
fn repeated_url_parameters_are_rejected() {
    let server = TestServer::start();
    let path = rest_path("get_contact_group", ADMIN, &sign(ADMIN));
    let body = r#"{"From_Account":"alice"}"#;
    assert_eq!(server.rest_at(&path, body).outcome(), (200, 0));
    for again in [
        format!("sdkappid={APP}"),
        format!("identifier={ADMIN}"),
        format!("usersig={}", sign(ADMIN)),
        "random=1".to_owned(),
        "contenttype=json".to_owned(),
        "%72andom=2".to_owned(),
        "unknown=1&unknown=1".to_owned(),
    ] {
        let reply = server.rest_at(&format!("{path}&{again}"), body);
        assert_eq!(reply.outcome(), (200, 60002), "{again}: {reply:?}");
        assert!(reply.reason().contains("more than once"), "{again}");
    }
    assert_eq!(server.rest_at(&format!("{path}&unknown=1"), body).outcome(), (200, 0));
    let refused = server.try_events(&sign("alice"), "?after=1&after=1", None).expect_err("twice");
    assert_eq!(refused.outcome(), (400, 60002));
}

#[test]
fn every_v4_path_responds_in_the_form_of_v4_and_every_other_in_that_of_v1() {
    let server = TestServer::start();
    let path = rest_path("get_contact_group", ADMIN, &sign(ADMIN));
    let (command, query) = path.split_once('?').expect("parameters");
    for there in ["/v4", "/v4/", "//v4/recentcontact/x", "/v4/recentcontact", "/v4/a/b/c", "/v4//get_contact_group"] {
        for reply in [server.get(there), server.rest_at(there, "{}")] {
            assert_eq!(reply.status, 200, "{there}: {reply:?}");
            assert_eq!(reply.json()["ActionStatus"], "FAIL", "{there}");
        }
    }
    for there in [format!("/{command}?{query}"), format!("{command}/?{query}"), format!("//{command}/?{query}")] {
        let reply = server.rest_at(&there, r#"{"From_Account":"alice"}"#);
        assert_eq!(reply.outcome(), (200, 60009), "{there}: {reply:?}");
        assert_eq!(reply.json()["ActionStatus"], "FAIL", "{there}");
    }
    for there in ["/", "/v1", "/v1/a/b", "/v5/recentcontact", "/v40/x", "/V4/x", "/x/v4"] {
        assert_eq!(server.get(there).outcome(), (404, 60009), "{there}");
    }
}

#[test]
fn a_wrong_http_method_is_rejected_in_the_form_of_v1_with_allow() {
    let server = TestServer::start();
    let cases = [
        ("GET", LIST, "POST"),
        ("PUT", LIST, "POST"),
        ("POST", "/v1/events", "GET, HEAD"),
        ("DELETE", "/v1/events", "GET, HEAD"),
        ("POST", "/healthz", "GET, HEAD"),
        ("POST", "/readyz", "GET, HEAD"),
        ("PUT", "/metrics", "GET, HEAD"),
        ("POST", "/openapi.json", "GET, HEAD"),
    ];
    for (verb, path, allowed) in cases {
        let verb = reqwest::Method::from_bytes(verb.as_bytes()).expect("a method");
        let reply = Reply::to(client().request(verb.clone(), server.url(path)));
        assert_eq!((reply.outcome(), reply.header("allow")), ((405, 60009), Some(allowed)), "{verb} {path}: {reply:?}");
        assert!(reply.reason().contains(allowed), "{}", reply.reason());
    }
    assert_eq!(server.get("/v1/noSuchMethod").outcome(), (404, 60009));
}

#[test]
fn json_responses_are_not_cached_or_sniffed() {
    let server = TestServer::start();
    let replies = [
        server.sdk("alice", "getConversationGroupList", &json!({})),
        server.sdk("alice", "createConversationGroup", &json!({})),
        server.sdk_signed("x", "getConversationGroupList", ""),
        server.rest("get_contact_group", &json!({ "From_Account": "alice" })),
        server.rest_at("/v4/x/y", "{}"),
        server.get("/healthz"),
        server.get("/readyz"),
        server.get("/nothing"),
        server.get(LIST),
    ];
    for reply in replies {
        assert_eq!(reply.header("content-type"), Some("application/json"), "{reply:?}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{reply:?}");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{reply:?}");
    }
    for path in ["/metrics", "/console/", "/console/console.js", "/openapi.json"] {
        assert_eq!(server.get(path).header("x-content-type-options"), Some("nosniff"), "{path}");
    }
}

#[test]
fn an_unchanged_openapi_document_is_not_sent_again() {
    let (first, second) = (TestServer::start(), TestServer::start());
    let reply = first.get("/openapi.json");
    let etag = reply.header("etag").expect("a tag").to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() == 66, "a strong one: {etag}");
    assert_eq!(reply.header("cache-control"), Some("no-cache"));
    assert_eq!(second.get("/openapi.json").header("etag"), Some(&*etag), "of any server of this version");
    let ask = |known: &str| Reply::to(client().get(first.url("/openapi.json")).header("If-None-Match", known));
    for known in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
        let again = ask(&known);
        assert_eq!((again.status, &*again.body), (304, ""), "{known}");
        assert_eq!(again.header("etag"), Some(&*etag));
        assert_eq!(again.header("cache-control"), Some("no-cache"));
    }
    for other in ["\"x\"".to_owned(), etag.trim_matches('"').to_owned(), "W/\"x\"".to_owned(), String::new()] {
        assert_eq!(ask(&other).body, reply.body, "{other}");
    }
}
