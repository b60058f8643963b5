//! `/v1`: what the host answers, over HTTP; nobody else's.

use convgroups_host::api::{Method, Request};
use convgroups_host::{Host, MemoryStore, Version};
use convgroups_tests::server::{Reply, TestServer, client, sign, status_of};
use convgroups_tests::user;
use serde_json::{Value, json};

/// Calls in an order in which each does something, all methods and some refusals among them.
fn calls() -> Vec<(Method, Value)> {
    use Method::{
        AddConversationsToGroup, CreateConversationGroup, DeleteConversationGroup, DeleteConversationsFromGroup,
        GetConversationGroupList, GetConversationListByFilter, MarkConversation, RenameConversationGroup,
        SearchConversations, SetConversationCustomData,
    };
    let both = |name: &str, ids: &[&str]| json!({ "groupName": name, "conversationIDList": ids });
    vec![
        (CreateConversationGroup, both("Work", &["c2c_bob", "group_42", "nonsense"])),
        (CreateConversationGroup, both("Work", &["c2c_bob"])),
        (CreateConversationGroup, both("Büro ☕", &["c2c_bob"])),
        (CreateConversationGroup, both("", &["c2c_bob"])),
        (GetConversationGroupList, json!({})),
        (AddConversationsToGroup, both("Work", &["c2c_eve", "c2c_bob"])),
        (AddConversationsToGroup, both("nowhere", &["c2c_eve"])),
        (DeleteConversationsFromGroup, both("Work", &["c2c_bob", "c2c_mallory"])),
        (DeleteConversationsFromGroup, both("Work", &[])),
        (RenameConversationGroup, json!({ "oldName": "Work", "newName": "Play" })),
        (RenameConversationGroup, json!({ "oldName": "Work", "newName": "Play" })),
        (
            MarkConversation,
            json!({ "markType": "9223372036854775809", "enableMark": true, "conversationIDList": ["c2c_eve"] }),
        ),
        (MarkConversation, json!({ "markType": 0, "enableMark": true, "conversationIDList": ["c2c_eve"] })),
        (SetConversationCustomData, json!({ "customData": "{\"a\":1}", "conversationIDList": ["c2c_zoe"] })),
        (SearchConversations, json!({ "conversationIDList": ["c2c_eve", "c2c_zoe", "c2c_nobody", "x"] })),
        (GetConversationListByFilter, json!({ "filter": {}, "nextSeq": "0", "count": 2 })),
        (GetConversationListByFilter, json!({ "filter": { "conversationGroup": "Play" }, "count": 10 })),
        (GetConversationListByFilter, json!({ "filter": { "markType": 1, "conversationType": 1 }, "count": 10 })),
        (DeleteConversationGroup, json!({ "groupName": "Play" })),
        (DeleteConversationGroup, json!({ "groupName": "Play" })),
        (GetConversationGroupList, json!({})),
    ]
}

#[test]
fn every_method_answers_over_http_what_the_host_answers() {
    let (server, host) = (TestServer::start(), Host::builder().store(MemoryStore::new()).build().expect("it builds"));
    let (mut succeeded, mut refused) = (Vec::new(), 0);
    for (method, params) in calls() {
        let request = Request::from_json(method, &params.to_string()).expect("well-formed");
        let expected = match host.call(&user("alice"), &request) {
            Ok(reply) => {
                succeeded.push(method);
                reply.to_json()
            }
            Err(error) => {
                refused += 1;
                error.to_json()
            }
        };
        let reply = server.sdk("alice", method.name(), &params);
        assert_eq!((reply.status, &reply.body), (200, &expected), "{} {params}", method.name());
        assert_eq!(reply.header("content-type"), Some("application/json"));
    }
    assert!(Method::ALL.iter().all(|method| succeeded.contains(method)));
    assert!(refused > 5);
    let events = |host: &Host| {
        let events = host.events(user("alice"), Version(0)).read().expect("reads");
        let events = serde_json::to_value(events).expect("is JSON");
        events.as_array().expect("a list").iter().map(|event| event["events"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(events(server.host()), events(&host));
}

#[test]
fn a_request_that_cannot_be_read_is_told_what_is_wrong_and_where() {
    let server = TestServer::start();
    let cases: &[(&str, &str, i64, &str)] = &[
        ("createConversationGroup", "{}", 50002, "params: missing field \"groupName\""),
        ("createConversationGroup", "", 50002, "missing field \"groupName\""),
        ("createConversationGroup", r#"{"groupName":1,"conversationIDList":[]}"#, 50002, "params.groupName: "),
        ("createConversationGroup", r#"{"groupName":"x","conversationIDList":["a",7]}"#, 50002, "IDList[1]: "),
        ("createConversationGroup", r#"["x",[]]"#, 50002, "expected an object"),
        ("createConversationGroup", "null", 50002, "expected an object"),
        ("createConversationGroup", r#"{"groupName":"x""#, 60003, "EOF"),
        ("createConversationGroup", r#"{"groupName":"x","conversationIDList":[]} {}"#, 60003, "trailing characters"),
        ("createConversationGroup", "groupName=x", 60003, "expected value"),
        ("getConversationGroupList", r#"{"a":1}"#, 50002, "params.a: unknown field"),
        ("deleteConversationGroup", r#"{"groupName":"x","groupName":"y"}"#, 50002, "duplicate field"),
        ("getConversationListByFilter", r#"{"filter":{"markType":"x"},"count":1}"#, 50002, "params.filter.markType: "),
        ("getConversationListByFilter", r#"{"filter":{"conversationType":3},"count":1}"#, 50002, "got 3"),
        ("getConversationListByFilter", r#"{"count":4294967296}"#, 50002, "params.count: "),
        ("getConversationListByFilter", r#"{"filter":[1,"Work",1,null,null],"count":1}"#, 50002, "params.filter: "),
        ("getConversationListByFilter", r#"{"filter":{"hasUnreadCount":true},"count":1}"#, 50002, "has no messages"),
        (
            "markConversation",
            r#"{"markType":576460752303423500,"enableMark":true,"conversationIDList":["c2c_a"]}"#,
            50002,
            "params.markType: ambiguous number 576460752303423500: JavaScript prints 576460752303423488 like this; \
             send the digits in a string",
        ),
        ("markConversation", r#"{"markType":1.5,"enableMark":true,"conversationIDList":[]}"#, 50002, "params.markType"),
    ];
    for (method, body, code, reason) in cases {
        let reply = server.sdk_signed(&sign("alice"), method, body);
        assert_eq!(reply.outcome(), (400, *code), "{method} {body}: {reply:?}");
        assert!(reply.reason().contains(reason), "{method} {body}: {}", reply.reason());
    }
}

#[test]
fn what_is_not_there_is_404_and_another_http_method_405() {
    let server = TestServer::start();
    let names =
        ["nothing", "CreateConversationGroup", "create-conversation-group", "createConversationGroup%20", "%00", "%FF"];
    for name in names {
        let reply = server.sdk_signed(&sign("alice"), name, "{}");
        assert_eq!(reply.outcome(), (404, 60009), "{name}: {reply:?}");
        assert_eq!(server.rest(name, &json!({})).outcome(), (200, 60009), "{name}");
    }
    for path in ["/", "/v1", "/v1/", "/v1/a/b", "/v2/createConversationGroup"] {
        assert_eq!(server.rest_at(path, "{}").outcome(), (404, 60009), "{path}");
    }
    for method in Method::ALL {
        for http_method in ["GET", "PUT", "DELETE", "PATCH", "HEAD"] {
            let http_method = reqwest::Method::from_bytes(http_method.as_bytes()).expect("a method");
            let url = server.url(&format!("/v1/{}", method.name()));
            let reply = Reply::to(client().request(http_method, url).bearer_auth(sign("alice")));
            assert_eq!(reply.status, 405);
            assert_eq!(reply.header("allow"), Some("POST"));
        }
    }
    assert_eq!(Reply::to(server.post("/v1/events").bearer_auth(sign("alice"))).status, 405);
    assert_eq!(server.host().events(user("alice"), Version(0)).read().expect("reads"), []);
}

#[test]
fn every_answer_carries_an_id_which_the_change_carries_too() {
    let server = TestServer::start();
    let create = json!({ "groupName": "Work", "conversationIDList": ["c2c_bob"] });
    let created = server.sdk("alice", "createConversationGroup", &create);
    let mut ids: Vec<String> = vec![
        created.request_id().to_owned(),
        server.sdk("alice", "createConversationGroup", &create).request_id().to_owned(),
        server.sdk("alice", "createConversationGroup", &json!({})).request_id().to_owned(),
        server.sdk("alice", "nothing", &json!({})).request_id().to_owned(),
        server.sdk_signed("", "createConversationGroup", "{}").request_id().to_owned(),
        server.rest("get_contact_group", &json!({ "From_Account": "alice" })).request_id().to_owned(),
        server.rest("nothing", &json!({})).request_id().to_owned(),
        server.rest_at("/v4/recentcontact/get_contact_group", "{}").request_id().to_owned(),
    ];
    for path in ["/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/createConversationGroup"] {
        ids.push(server.get(path).request_id().to_owned());
    }
    let events = server.host().events(user("alice"), Version(0)).read().expect("reads");
    let event = serde_json::to_value(&events).expect("is JSON")[0].clone();
    assert_eq!(event["origin"], json!({ "method": "createConversationGroup", "requestID": ids[0] }));
    let count = ids.len();
    assert!(ids.iter().all(|id| id.len() == 32), "{ids:?}");
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "each has its own");
    // What a client claims to be the id is not taken for it.
    let mine =
        Reply::to(server.post("/v1/getConversationGroupList").bearer_auth(sign("a")).header("x-request-id", "x"));
    assert_ne!(mine.request_id(), "x");
}

#[test]
fn nobody_sees_or_changes_what_is_another_users() {
    let server = TestServer::start();
    let both = |name: &str, ids: &[&str]| json!({ "groupName": name, "conversationIDList": ids });
    assert_eq!(server.sdk("alice", "createConversationGroup", &both("Work", &["c2c_eve"])).code(), 0);
    let mark = json!({ "markType": 1, "enableMark": true, "conversationIDList": ["c2c_eve"] });
    assert_eq!(server.sdk("alice", "markConversation", &mark).code(), 0);
    let before = server.host().store().state(&user("alice")).expect("reads");
    let mut bobs = server.events("bob", "?after=0", None);

    let refused = [
        ("deleteConversationGroup", json!({ "groupName": "Work" })),
        ("renameConversationGroup", json!({ "oldName": "Work", "newName": "Play" })),
        ("addConversationsToGroup", both("Work", &["c2c_eve"])),
        ("deleteConversationsFromGroup", both("Work", &["c2c_eve"])),
    ];
    for (method, params) in refused {
        assert_eq!(server.sdk("bob", method, &params).outcome(), (200, 51009), "{method}");
    }
    let empty = [
        ("getConversationGroupList", json!({}), json!([])),
        (
            "getConversationListByFilter",
            json!({ "count": 10 }),
            json!({ "nextSeq": "0", "isFinished": true, "conversationList": [] }),
        ),
        (
            "searchConversations",
            json!({ "conversationIDList": ["c2c_eve"] }),
            json!([{
                "conversationID": "c2c_eve", "resultCode": 0, "resultInfo": "",
                "conversationGroupList": [], "customData": "", "markList": [],
            }]),
        ),
    ];
    for (method, params, expected) in empty {
        assert_eq!(server.sdk("bob", method, &params).json()["data"], expected, "{method}");
    }
    // Of the same name, and his own.
    assert_eq!(server.sdk("bob", "createConversationGroup", &both("Work", &["c2c_alice"])).code(), 0);
    let mark = json!({ "markType": 1, "enableMark": false, "conversationIDList": ["c2c_eve"] });
    assert_eq!(server.sdk("bob", "markConversation", &mark).code(), 0);
    let data = json!({ "customData": "bob's", "conversationIDList": ["c2c_eve"] });
    assert_eq!(server.sdk("bob", "setConversationCustomData", &data).code(), 0);

    assert_eq!(server.host().store().state(&user("alice")).expect("reads"), before);
    let created = bobs.expect();
    assert_eq!((created.id, &created.data["events"][0]["conversationList"]), (Some(1), &json!(["c2c_alice"])));
    assert_eq!(bobs.expect().data["events"][0]["event"], "onConversationChanged");
}

#[test]
fn parameters_that_name_a_user_are_unknown_fields() {
    let server = TestServer::start();
    for (method, params) in calls() {
        for field in ["user", "userID", "From_Account", "identifier"] {
            let mut params = params.clone();
            params[field] = json!("alice");
            let reply = server.sdk("bob", method.name(), &params);
            assert_eq!(reply.outcome(), (400, 50002), "{}", method.name());
            assert!(reply.reason().starts_with(&format!("params.{field}: unknown field")), "{}", reply.reason());
        }
    }
    // A user in the address is no parameter either.
    let create = json!({ "groupName": "Work", "conversationIDList": ["c2c_bob"] });
    let path = "/v1/createConversationGroup?user=alice&identifier=alice&From_Account=alice";
    let reply = Reply::to(server.post(path).bearer_auth(sign("bob")).json(&create));
    assert_eq!(reply.outcome(), (200, 0));
    let events = |name: &str| server.host().events(user(name), Version(0)).read().expect("reads").len();
    assert_eq!((events("alice"), events("bob")), (0, 1));
    for query in ["?user=alice", "?after=0&user=alice"] {
        let refused = server.try_events(&sign("bob"), query, None).expect_err("no such parameter");
        assert_eq!(refused.outcome(), (400, 60002));
    }
}

#[test]
fn two_requests_in_one_packet_are_answered_in_their_order() {
    let server = TestServer::start();
    let request = |method: &str, end: &str| {
        format!("POST /v1/{method} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n{end}\r\n", sign("alice"))
    };
    let both = request("getConversationGroupList", "Content-Length: 0\r\n")
        + &request("nothing", "Content-Length: 0\r\nConnection: close\r\n");
    let answers = server.exchange(both.as_bytes());
    assert_eq!(status_of(&answers), Some(200));
    let second = answers.rfind("HTTP/1.1 ").and_then(|start| status_of(&answers[start..]));
    assert_eq!(second, Some(404), "{answers}");
}

#[test]
fn marks_are_written_as_the_request_asks() {
    let server = TestServer::start();
    let bit_63 = json!({ "markType": i64::MIN, "enableMark": true, "conversationIDList": ["c2c_bob"] });
    let mut as_usual = server.events("alice", "?after=0", None);
    let mut in_strings = server.events("alice", "?after=0&markList=strings", None);
    assert_eq!(server.sdk("alice", "markConversation", &bit_63).code(), 0);
    let star = json!({ "markType": 1, "enableMark": true, "conversationIDList": ["c2c_bob"] });
    assert_eq!(server.sdk("alice", "markConversation", &star).code(), 0);

    let (numbers, strings) = (json!([1, 1_u64 << 63]), json!(["1", "9223372036854775808"]));
    let ask = |method: &str, params: &Value, query: &str| {
        let path = format!("/v1/{method}{query}");
        Reply::to(server.post(&path).bearer_auth(sign("alice")).json(params))
    };
    let search = json!({ "conversationIDList": ["c2c_bob", "x"] });
    let list = json!({ "count": 10 });
    for (query, expected) in
        [("", &numbers), ("?x=strings", &numbers), ("?markList=numbers", &numbers), ("?markList=strings", &strings)]
    {
        let found = ask("searchConversations", &search, query).json();
        assert_eq!(&found["data"][0]["markList"], expected, "{query}");
        assert_eq!(found["data"][1]["markList"], json!([]), "{query}");
        assert_eq!(found["data"][0]["resultCode"], 0, "only marks are written otherwise");
        let page = ask("getConversationListByFilter", &list, query).json();
        assert_eq!(&page["data"]["conversationList"][0]["markList"], expected, "{query}");
    }
    for query in ["?markList=", "?markList=Strings", "?markList=strings&markList=numbers"] {
        assert_eq!(ask("searchConversations", &search, query).outcome(), (400, 60002), "{query}");
        let refused = server.try_events(&sign("alice"), query, None).expect_err("no such form");
        assert_eq!(refused.outcome(), (400, 60002), "{query}");
    }

    for (stream, expected) in [(&mut as_usual, &numbers), (&mut in_strings, &strings)] {
        let (first, second) = (stream.expect(), stream.expect());
        assert_eq!(first.data["events"][0]["conversationList"][0]["markList"], json!([expected[1]]));
        assert_eq!(&second.data["events"][0]["conversationList"][0]["markList"], expected);
        assert_eq!(second.data["version"], 2);
    }
    let whole = server.events("alice", "?markList=strings", None).expect();
    assert_eq!(whole.data["conversations"][0]["markList"], strings);
}
