//! What operators and their machines ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use convgroups_host::MemoryStore;
use convgroups_host::api::Method;
use convgroups_tests::gated::GatedStore;
use convgroups_tests::server::{Reply, Setup, TestServer, client, eventually, sign};
use serde_json::{Value, json};

const COMMANDS: [&str; 6] = [
    "create_contact_group",
    "del_contact_group",
    "update_contact_group",
    "get_contact_group",
    "search_contact_group",
    "mark_contact",
];

#[test]
fn a_server_is_ready_while_its_store_is_healthy() {
    let store = GatedStore::new(Arc::new(MemoryStore::new()));
    let server = Setup::default().store(store.clone()).start();
    let ready = || {
        let reply = server.get("/readyz");
        (reply.status, reply.json()["status"].clone())
    };
    assert_eq!(ready(), (200, json!("ready")));
    store.fail(true);
    eventually("it is not ready", || ready() == (503, json!("store unavailable")));
    assert!(!server.get("/readyz").body.contains("secret"));
    assert_eq!(server.get("/healthz").json(), json!({ "status": "ok" }), "it lives all the same");
    store.fail(false);
    eventually("it is ready again", || ready() == (200, json!("ready")));
}

const OPEN_METRICS: &str = "application/openmetrics-text";

/// What `/metrics` returns to a scraper with this `Accept`.
fn scrape(server: &TestServer, accept: &str) -> Reply {
    Reply::to(client().get(server.url("/metrics")).header("accept", accept))
}

/// Names of metrics with their types, and all lines of values.
fn parse(text: &str) -> (BTreeMap<String, String>, BTreeMap<String, f64>) {
    let (mut types, mut helps, mut values) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
    let body = text.strip_suffix("# EOF\n").expect("an end");
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert!(["counter", "gauge", "histogram", "info"].contains(&kind), "{line}");
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {line}");
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help");
            // The writer of the format adds a full stop.
            assert!(help.len() > 5, "{line}");
            assert!(helps.insert(name.to_owned()), "twice: {line}");
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let (name, unit) = rest.split_once(' ').expect("a unit");
            assert!(name.ends_with(unit), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let name = series.split('{').next().expect("a name");
            assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{line}");
            assert!(types.keys().any(|known| name.starts_with(known.as_str())), "no type: {line}");
            assert_eq!(series.contains('{'), series.ends_with('}'), "{line}");
            let value = value.parse().expect("a number");
            assert!(values.insert(series.to_owned(), value).is_none(), "twice: {line}");
        }
    }
    assert!(types.keys().all(|name| helps.contains(name) && name.starts_with("convgroups_")), "{types:?} {helps:?}");
    (types, values)
}

#[test]
fn metrics_are_open_metrics_and_count() {
    let server = TestServer::start();
    // What has not happened yet has no line.
    parse(&scrape(&server, OPEN_METRICS).body);
    assert_eq!(
        server
            .sdk("zoe", "setConversationCustomData", &json!({ "customData": "x", "conversationIDList": ["c2c_a"] }))
            .code(),
        0
    );
    let reply = scrape(&server, OPEN_METRICS);
    assert_eq!(reply.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let (types, values) = parse(&reply.body);
    for (name, kind) in [
        ("convgroups_calls", "counter"),
        ("convgroups_call_duration_seconds", "histogram"),
        ("convgroups_call_part_duration_seconds", "histogram"),
        ("convgroups_connections", "gauge"),
        ("convgroups_event_streams", "gauge"),
        ("convgroups_calls_running", "gauge"),
        ("convgroups_calls_waiting", "gauge"),
        ("convgroups_conflicts", "counter"),
        ("convgroups_build", "info"),
        ("convgroups_commits", "counter"),
    ] {
        assert_eq!(types.get(name).map(String::as_str), Some(kind), "{name}");
    }
    let plugin = &server.host().plugin().digest;
    assert!(values.keys().any(|series| series.starts_with("convgroups_build_info{") && series.contains(plugin)));

    let create = json!({ "groupName": "Work", "conversationIDList": ["c2c_bob"] });
    for _ in 0..3 {
        let _ = server.sdk("alice", "createConversationGroup", &create);
    }
    let _ = server.sdk_signed("x", "createConversationGroup", "{}");
    let _ = server.sdk("alice", "createConversationGroup", &json!({}));
    let _ = server.rest("get_contact_group", &json!({ "From_Account": "alice" }));
    let (_, values) = parse(&scrape(&server, OPEN_METRICS).body);
    let calls = |api: &str, method: &str, outcome: &str, blame: &str| {
        let series =
            format!(r#"convgroups_calls_total{{api="{api}",method="{method}",outcome="{outcome}",blame="{blame}"}}"#);
        values.get(&series).copied().unwrap_or_else(|| panic!("no {series}: {values:?}"))
    };
    assert_eq!(calls("v1", "createConversationGroup", "ok", "nobody"), 1.0);
    assert_eq!(calls("v1", "createConversationGroup", "refused", "caller"), 2.0);
    assert_eq!(calls("v1", "createConversationGroup", "unauthenticated", "caller"), 1.0);
    assert_eq!(calls("v1", "createConversationGroup", "bad_request", "caller"), 1.0);
    assert_eq!(calls("v4", "get_contact_group", "ok", "nobody"), 1.0);
    let histogram = r#"convgroups_call_duration_seconds_count{api="v1",method="createConversationGroup"}"#;
    assert_eq!(values.get(histogram), Some(&5.0));
    let commit = r#"convgroups_call_part_duration_seconds_count{part="commit"}"#;
    let sandbox = r#"convgroups_call_part_duration_seconds_count{part="sandbox"}"#;
    assert_eq!((values.get(commit), values.get(sandbox)), (Some(&2.0), Some(&3.0)));
}

#[test]
fn metrics_have_the_same_samples_in_the_text_format_of_prometheus() {
    let server = TestServer::start();
    let create = json!({ "groupName": "Work", "conversationIDList": ["c2c_bob"] });
    assert_eq!(server.sdk("alice", "createConversationGroup", &create).code(), 0);
    let plain = server.get("/metrics");
    let text = scrape(&server, "text/plain;version=0.0.4;q=0.5,*/*;q=0.1");
    for reply in [&plain, &text] {
        assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        assert!(!reply.body.contains("# EOF") && !reply.body.contains("# UNIT"), "{}", reply.body);
    }
    let open_metrics = scrape(&server, OPEN_METRICS);
    for reply in [&plain, &open_metrics] {
        assert_eq!(reply.header("vary"), Some("accept"));
    }
    let samples = |reply: &Reply| -> BTreeSet<String> {
        let lines = reply.body.lines().filter(|line| !line.starts_with('#'));
        // Connections come and go between two scrapes.
        lines.filter(|line| !line.starts_with("convgroups_connections ")).map(str::to_owned).collect()
    };
    assert_eq!(samples(&text), samples(&open_metrics));
    assert!(samples(&text).len() > 100, "{}", text.body);
    for (name, kind) in [
        ("convgroups_calls_total", "counter"),
        ("convgroups_build_info", "gauge"),
        ("convgroups_connections", "gauge"),
        ("convgroups_call_duration_seconds", "histogram"),
    ] {
        assert_eq!(text.body.matches(&format!("# TYPE {name} {kind}\n")).count(), 1, "{name}: {}", text.body);
        assert_eq!(text.body.matches(&format!("# HELP {name} ")).count(), 1, "{name}: {}", text.body);
    }
}

#[test]
fn labels_are_a_fixed_set_whatever_callers_send() {
    let server = TestServer::start();
    let call_all = |prefix: &str| {
        for number in 0..1000 {
            let name = format!("{prefix}{number}");
            assert_eq!(server.sdk(&format!("user {name}"), &name, &json!({})).outcome(), (404, 60009));
            if number % 10 == 0 {
                assert_eq!(server.rest(&name, &json!({})).outcome(), (200, 60009));
                let service = format!("/v4/{name}/get_contact_group");
                assert_eq!(server.rest_at(&service, "{}").code(), 60012);
                assert_eq!(server.rest_at(&format!("/{name}/x"), "{}").status, 404);
            }
        }
        scrape(&server, OPEN_METRICS).body
    };
    let series = |text: &str| parse(text).1.into_keys().collect::<Vec<_>>();
    let (first, second) = (call_all("first"), call_all("second"));
    assert_eq!(series(&first), series(&second));
    let unknown = r#"convgroups_calls_total{api="v1",method="unknown",outcome="bad_request",blame="caller"}"#;
    assert_eq!(parse(&second).1.get(unknown), Some(&2000.0));
}

#[test]
fn the_description_names_every_method_and_command_and_refers_to_nothing_that_is_not_there() {
    let server = TestServer::start();
    let reply = server.get("/openapi.json");
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let document = reply.json();
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{}", document["openapi"]);
    let paths = document["paths"].as_object().expect("paths");
    let mut expected: BTreeSet<(String, String)> = BTreeSet::new();
    expected.extend(Method::ALL.iter().map(|method| (format!("/v1/{}", method.name()), "post".to_owned())));
    expected.extend(COMMANDS.map(|command| (format!("/v4/recentcontact/{command}"), "post".to_owned())));
    for path in ["/v1/events", "/healthz", "/readyz", "/metrics", "/openapi.json"] {
        expected.insert((path.to_owned(), "get".to_owned()));
    }
    let described: BTreeSet<(String, String)> = paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().expect("methods").keys();
            methods.map(|method| (path.clone(), method.clone())).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(described, expected);
    // What is described is there.
    for (path, method) in &described {
        let reply = if method == "get" { server.get(path) } else { Reply::to(server.post(path)) };
        assert!(![404, 405].contains(&reply.status), "{path}: {}", reply.status);
    }
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(references.len() > 20);
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("a reference inside the document");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

fn collect_references(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                references.push(reference.clone());
            }
            fields.values().for_each(|value| collect_references(value, references));
        }
        Value::Array(values) => values.iter().for_each(|value| collect_references(value, references)),
        _ => {}
    }
}

#[test]
fn what_the_description_requires_the_server_requires() {
    let server = TestServer::start();
    let document = server.get("/openapi.json").json();
    let resolve = |mut schema: Value| {
        while let Some(reference) = schema["$ref"].as_str() {
            schema = document.pointer(&reference[1..]).expect("it is there").clone();
        }
        schema
    };
    for &method in Method::ALL {
        let operation = &document["paths"][format!("/v1/{}", method.name())]["post"];
        let schema = resolve(operation["requestBody"]["content"]["application/json"]["schema"].clone());
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let reply = server.sdk_signed(&sign("alice"), method.name(), "{}");
        if required.is_empty() {
            assert_eq!(reply.outcome(), (200, 0), "{}", method.name());
        } else {
            assert_eq!(reply.outcome(), (400, 50002), "{}", method.name());
            assert!(required.iter().any(|field| reply.reason().contains(field)), "{required:?}: {}", reply.reason());
        }
    }
}

#[test]
fn the_description_names_what_clients_may_send_otherwise() {
    let server = TestServer::start();
    let document = server.get("/openapi.json").json();
    let has_parameter = |path: &str, method: &str| {
        let parameters = document["paths"][path][method]["parameters"].as_array().cloned().unwrap_or_default();
        parameters.iter().any(|parameter| parameter["name"] == "markList" && parameter["in"] == "query")
    };
    assert!(has_parameter("/v1/events", "get"));
    for &method in Method::ALL {
        let answers_marks = matches!(method, Method::GetConversationListByFilter | Method::SearchConversations);
        assert_eq!(has_parameter(&format!("/v1/{}", method.name()), "post"), answers_marks, "{}", method.name());
    }
    let schema = |name: &str| document["components"]["schemas"][name]["properties"].clone();
    for name in ["hasUnreadCount", "hasGroupAtInfo"] {
        assert_eq!(schema("ConversationFilter")[name]["enum"], json!([false, null]), "{name}");
    }
    assert_eq!(schema("MarkConversation")["markType"]["oneOf"][0]["minimum"], i64::MIN);
    assert!(schema("GetContactGroup")["StartIndex"].to_string().contains("null"));
}
