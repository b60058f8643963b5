//! Plugins and stores that fail: the caller learns that, the operator learns what, and nothing is changed.

use std::sync::Arc;

use convgroups_host::MemoryStore;
use convgroups_tests::gated::GatedStore;
use convgroups_tests::guests::guest;
use convgroups_tests::server::{Reply, Setup, TestServer};
use convgroups_tests::user;
use serde_json::json;

fn create(server: &TestServer) -> Reply {
    server.sdk("alice", "createConversationGroup", &json!({ "groupName": "Work", "conversationIDList": ["c2c_bob"] }))
}

fn delete(server: &TestServer) -> Reply {
    let params = json!({ "groupName": "Work", "conversationIDList": ["c2c_bob"] });
    server.sdk("alice", "deleteConversationsFromGroup", &params)
}

fn delete_by_admin(server: &TestServer) -> Reply {
    let contact = json!({ "Type": 1, "To_Account": "bob" });
    let update = json!({
        "From_Account": "alice",
        "UpdateType": 1,
        "UpdateGroup": {
            "UpdateGroupType": 2,
            "OldGroupName": "Work",
            "ContactUpdateItem": [{ "ContactOptType": 2, "ContactItem": contact }],
        },
    });
    server.rest("update_contact_group", &update)
}

fn assert_tells_nothing(reply: &Reply) {
    assert!(reply.reason().contains(reply.request_id()), "an operator can be asked: {}", reply.reason());
    for secret in ["wasm", "backtrace", "unreachable", "panic", "deadline", "ms", "/secret/path", ".rs", "fire"] {
        assert!(!reply.body.contains(secret), "{secret}: {}", reply.body);
    }
}

fn calls(api: &str, method: &str, outcome: &str, blame: &str) -> String {
    format!(r#"convgroups_calls_total{{api="{api}",method="{method}",outcome="{outcome}",blame="{blame}"}}"#)
}

#[test]
fn a_plugin_that_fails_is_to_blame_and_says_nothing_of_itself() {
    // Short where it is what ends the call.
    for (name, deadline_ms) in [
        ("stages_then_traps", 10_000),
        ("stages_then_panics", 10_000),
        ("stages_then_loops", 200),
        ("allocates", 10_000),
    ] {
        let setup = Setup::default().plugin(guest(name)).with(|settings| {
            settings.sandbox.deadline_ms = deadline_ms;
        });
        let server = setup.start();
        assert_eq!(create(&server).outcome(), (200, 0));
        let before = server.host().store().state(&user("alice")).expect("reads");
        let reply = delete(&server);
        assert_eq!(reply.outcome(), (500, 50004), "{name}");
        assert_tells_nothing(&reply);
        let reply = delete_by_admin(&server);
        assert_eq!(reply.outcome(), (200, 50004), "{name}");
        assert_eq!(reply.json()["ActionStatus"], "FAIL");
        assert_tells_nothing(&reply);
        assert_eq!(server.host().store().state(&user("alice")).expect("reads"), before, "{name}");

        let list = server.sdk("alice", "getConversationGroupList", &json!({}));
        assert_eq!(list.json()["data"], json!(["Work"]), "{name}: the next call is fine");
        assert_eq!(server.metric(&calls("v1", "deleteConversationsFromGroup", "plugin_failed", "plugin")), 1);
        assert_eq!(server.metric(&calls("v4", "update_contact_group", "plugin_failed", "plugin")), 1);
        assert_eq!(server.metric(&calls("v1", "createConversationGroup", "ok", "nobody")), 1);
        assert_eq!(server.get("/readyz").status, 200, "{name}: a plugin's failure is not the server's");
    }
}

#[test]
fn a_refusal_is_the_callers_and_an_answer_like_any_other() {
    let server = Setup::default().plugin(guest("stages_then_refuses")).start();
    assert_eq!(create(&server).outcome(), (200, 0));
    assert_eq!((delete(&server).outcome(), delete(&server).reason()), ((200, 7), "on second thoughts".to_owned()));
    assert_eq!(delete_by_admin(&server).outcome(), (200, 7));
    assert_eq!(server.metric(&calls("v1", "deleteConversationsFromGroup", "refused", "caller")), 2);
    assert_eq!(server.metric(&calls("v4", "update_contact_group", "refused", "caller")), 1);
}

#[test]
fn a_store_that_fails_is_the_hosts_to_blame() {
    let store = GatedStore::new(Arc::new(MemoryStore::new()));
    let server = Setup::default().store(store.clone()).start();
    assert_eq!(create(&server).outcome(), (200, 0));
    store.fail(true);
    let reply = delete(&server);
    assert_eq!(reply.outcome(), (500, 50004));
    assert_tells_nothing(&reply);
    let reply = delete_by_admin(&server);
    assert_eq!(reply.outcome(), (200, 50004));
    assert_tells_nothing(&reply);
    store.fail(false);
    assert_eq!(delete(&server).outcome(), (200, 0));
    assert_eq!(server.metric(&calls("v1", "deleteConversationsFromGroup", "store_failed", "host")), 1);
    assert_eq!(server.metric(&calls("v4", "update_contact_group", "store_failed", "host")), 1);
    assert_eq!(server.metric(&calls("v1", "deleteConversationsFromGroup", "ok", "nobody")), 1);
}
