//! How much one caller may take, and what is answered when it is more.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use convgroups_host::MemoryStore;
use convgroups_host::model::UserId;
use convgroups_host::store::{Commit, CommitOutcome, Store, StoreResult};
use convgroups_tests::gated::GatedStore;
use convgroups_tests::meddled::{MeddledStore, Meddler};
use convgroups_tests::server::{Reply, Setup, TestServer, eventually};
use convgroups_tests::user;
use serde_json::{Value, json};

fn list(server: &TestServer, user: &str) -> Reply {
    server.sdk(user, "getConversationGroupList", &json!({}))
}

fn rest(server: &TestServer) -> Reply {
    server.rest("get_contact_group", &json!({ "From_Account": "zoe" }))
}

fn create(name: &str) -> Value {
    json!({ "groupName": name, "conversationIDList": ["c2c_bob"] })
}

/// Calls until one call is rejected, and returns that.
fn until_turned_away(mut call: impl FnMut() -> Reply) -> Reply {
    let mut last = None;
    eventually("a call is rejected", || {
        let reply = call();
        let turned_away = reply.code() != 0;
        last = Some(reply);
        turned_away
    });
    last.expect("at least one call")
}

fn assert_retry(reply: &Reply) {
    let seconds: u64 = reply.header("retry-after").expect("when to try again").parse().expect("seconds");
    assert!((1..=2).contains(&seconds), "{seconds}");
}

#[test]
fn one_user_who_calls_too_often_is_turned_away_and_others_are_not() {
    let server = Setup::default().with(|settings| settings.server.calls_per_second_per_user = 1).start();
    let reply = until_turned_away(|| list(&server, "alice"));
    assert_eq!(reply.outcome(), (429, 60007));
    assert_retry(&reply);
    let events = until_turned_away(|| match server.try_events(&convgroups_tests::server::sign("alice"), "", None) {
        Ok(_) => list(&server, "bob"),
        Err(refused) => *refused,
    });
    assert_eq!(events.status, 429);
    assert_eq!(list(&server, "carol").outcome(), (200, 0));
    // Back ends call for many users, and are not one.
    for _ in 0..20 {
        assert_eq!(rest(&server).outcome(), (200, 0));
    }
    eventually("alice may call again", || list(&server, "alice").status == 200);
}

#[test]
fn an_app_that_calls_too_often_is_turned_away_on_both_apis() {
    let server = Setup::default().with(|settings| settings.server.calls_per_second = 1).start();
    let mut number = 0;
    let reply = until_turned_away(|| {
        number += 1;
        list(&server, &format!("user {number}"))
    });
    assert_eq!(reply.outcome(), (429, 60011));
    assert_retry(&reply);
    let reply = until_turned_away(|| rest(&server));
    assert_eq!(reply.outcome(), (200, 60011));
    assert_eq!(reply.json()["ActionStatus"], "FAIL");
    // What no signature proves costs nobody anything.
    for _ in 0..20 {
        assert_eq!(server.sdk_signed("x", "getConversationGroupList", "{}").outcome(), (401, 70003));
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(server.get(path).status, 200);
    }
    eventually("the app may call again", || rest(&server).code() == 0);
}

#[test]
fn a_rate_of_0_is_no_limit() {
    let server = TestServer::start();
    for _ in 0..300 {
        assert_eq!(list(&server, "alice").outcome(), (200, 0));
    }
}

#[test]
fn what_neither_runs_nor_waits_is_turned_away_at_once() {
    let store = GatedStore::new(Arc::new(MemoryStore::new()));
    let setup = Setup::default().store(store.clone()).with(|settings| {
        settings.calls.max_concurrent = 1;
        settings.calls.max_waiting = 1;
    });
    let server = setup.start();
    store.close();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| server.sdk("alice", "createConversationGroup", &create("Work")));
        store.wait_for(1);
        let waiting = scope.spawn(|| server.sdk("bob", "createConversationGroup", &create("Work")));
        eventually("one waits", || server.metric("convgroups_calls_waiting") == 1);
        assert_eq!(server.metric("convgroups_calls_running"), 1);
        assert_eq!(server.metric("convgroups_calls_running_max"), 1);

        for _ in 0..3 {
            let reply = list(&server, "carol");
            assert_eq!((reply.outcome(), reply.header("retry-after")), ((503, 60018), Some("1")));
            let reply = rest(&server);
            assert_eq!(reply.outcome(), (200, 60018));
            assert_eq!(reply.json()["ActionStatus"], "FAIL");
        }
        // What operators look at is no call.
        assert_eq!(server.get("/readyz").status, 200);
        store.open();
        assert_eq!(running.join().expect("no panic").outcome(), (200, 0));
        assert_eq!(waiting.join().expect("no panic").outcome(), (200, 0));
    });
    assert_eq!(list(&server, "carol").outcome(), (200, 0));
    let overloaded =
        r#"convgroups_calls_total{api="v1",method="getConversationGroupList",outcome="overloaded",blame="host"}"#;
    assert_eq!(server.metric(overloaded), 3);
}

#[test]
fn a_call_that_gets_no_permit_before_its_deadline_is_rejected_and_changes_nothing() {
    let store = GatedStore::new(Arc::new(MemoryStore::new()));
    let setup = Setup::default().store(store.clone()).with(|settings| {
        settings.calls.max_concurrent = 1;
        settings.calls.timeout_ms = 300;
    });
    let server = setup.start();
    store.close();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| server.sdk("alice", "createConversationGroup", &create("Work")));
        store.wait_for(1);
        let late = server.sdk("bob", "createConversationGroup", &create("Work"));
        assert_eq!(late.outcome(), (504, 50005));
        assert!(late.reason().contains(late.request_id()), "{}", late.reason());
        assert_eq!(rest(&server).outcome(), (200, 50005));
        store.open();
        // It was on its way to the disk, and is there.
        assert_eq!(running.join().expect("no panic").outcome(), (200, 0));
    });
    let versions = ["alice", "bob"].map(|name| server.host().store().state(&user(name)).expect("reads").version.0);
    assert_eq!(versions, [1, 0]);
}

#[test]
fn one_user_cannot_take_all_permits() {
    let store = GatedStore::new(Arc::new(MemoryStore::new()));
    let setup = Setup::default().store(store.clone()).with(|settings| settings.server.max_calls_per_user = 2);
    let server = setup.start();
    store.close();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| server.sdk("alice", "createConversationGroup", &create("Work")));
        store.wait_for(1);
        // It waits for the first, in the per-user queue.
        let second = scope.spawn(|| server.sdk("alice", "createConversationGroup", &create("Play")));
        eventually("both are in", || server.metric("convgroups_calls_waiting") == 1);
        assert_eq!(server.metric("convgroups_calls_running"), 1, "a queued call holds no permit");
        let reply = list(&server, "alice");
        assert_eq!((reply.outcome(), reply.header("retry-after")), ((503, 60018), Some("1")));
        // A back end that calls for her is no exception, and for others there is room.
        let command = |user: &str| server.rest("get_contact_group", &json!({ "From_Account": user })).outcome();
        assert_eq!((command("alice"), command("bob")), ((200, 60018), (200, 0)));
        assert_eq!(list(&server, "bob").outcome(), (200, 0));
        store.open();
        assert_eq!(first.join().expect("no panic").outcome(), (200, 0));
        assert_eq!(second.join().expect("no panic").outcome(), (200, 0));
    });
    assert_eq!(list(&server, "alice").json()["data"], json!(["Work", "Play"]));
}

/// Commits take their time, and who commits is noted.
#[derive(Debug, Default)]
struct SlowCommits(Mutex<Vec<UserId>>);

impl SlowCommits {
    /// Whose commits began, in order.
    fn order(&self) -> Vec<UserId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Meddler for SlowCommits {
    fn read(&self) -> StoreResult<()> {
        Ok(())
    }

    fn commit(&self, store: &dyn Store, commit: Commit) -> StoreResult<CommitOutcome> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(commit.user.clone());
        std::thread::sleep(Duration::from_millis(50));
        store.commit(commit)
    }
}

#[test]
fn a_user_does_not_wait_behind_the_queued_calls_of_other_users() {
    const PERMITS: u32 = 8;
    let store = MeddledStore::with(Arc::new(MemoryStore::new()), SlowCommits::default());
    let setup = Setup::default().store(store.clone()).with(|settings| settings.calls.max_concurrent = PERMITS);
    let server = setup.start();
    let others: Vec<String> = (0..8).map(|number| format!("user{number}")).collect();
    let call = |user: &str, group: &str| server.sdk(user, "createConversationGroup", &create(group)).outcome();
    let call = &call;
    std::thread::scope(|scope| {
        for (user, number) in others.iter().flat_map(|user| (0..16).map(move |number| (user, number))) {
            scope.spawn(move || assert_eq!(call(user, &format!("group {number}")), (200, 0), "{user}"));
        }
        eventually("most are queued", || server.metric("convgroups_calls_waiting") > 64);
        let before = store.order().len();
        assert_eq!(call("alice", "Work"), (200, 0));
        let order = store.order();
        let overtaken_by = order.iter().position(|user| user.as_str() == "alice").expect("it is here") - before;
        // The calls that ran already, and one more for each permit.
        assert!(overtaken_by <= 2 * PERMITS as usize, "alice waited for {overtaken_by} commits");
    });
}
