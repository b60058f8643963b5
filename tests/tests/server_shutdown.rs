//! Stopping: acknowledged calls are stored, every other call is stored completely or not at all, and queued calls are rejected.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use convgroups_host::MemoryStore;
use convgroups_host::model::GroupState;
use convgroups_tests::gated::GatedStore;
use convgroups_tests::server::{Reply, Setup, TestServer, client, eventually, request, rest_of, sign};
use convgroups_tests::{TestStore, user};
use serde_json::json;

const MEMBERS: [&str; 3] = ["c2c_bob", "c2c_eve", "group_42"];

fn create(name: &str) -> serde_json::Value {
    json!({ "groupName": name, "conversationIDList": MEMBERS })
}

/// Creates and removes a group until the server is gone; what may be there afterwards: whether the group is there, as far
/// as that was acknowledged, and, where a call had no answer, as it would be after that.
fn create_and_delete(base: &str, name: &str, acknowledged: &AtomicU32) -> Vec<bool> {
    let client = client();
    let mut there = false;
    loop {
        let (method, body) = if there {
            ("deleteConversationGroup", json!({ "groupName": "Work" }))
        } else {
            ("createConversationGroup", create("Work"))
        };
        let sent = client.post(format!("{base}/v1/{method}")).bearer_auth(sign(name)).json(&body).send();
        let Ok(answer) = sent else { return vec![there, !there] };
        let status = answer.status().as_u16();
        let Ok(body) = answer.text() else { return vec![there, !there] };
        let reply = Reply { status, headers: reqwest::header::HeaderMap::new(), body };
        match reply.outcome() {
            (200, 0) => {
                there = !there;
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            other => {
                assert_eq!(other, (503, 60018), "{name}");
                return vec![there];
            }
        }
    }
}

#[test]
fn under_load_every_acknowledged_change_is_kept_and_none_by_halves() {
    for (_, store) in TestStore::all() {
        let mut server = Setup::default().store(store.store.clone()).start();
        let base = server.url("");
        let acknowledged = AtomicU32::new(0);
        let names: Vec<String> = (0..6).map(|number| format!("user {number}")).collect();
        let mut readers: Vec<_> = names.iter().map(|name| server.events(name, "?after=0", None)).collect();
        let possible: Vec<Vec<bool>> = std::thread::scope(|scope| {
            let (base, acknowledged) = (&base, &acknowledged);
            let callers: Vec<_> =
                names.iter().map(|name| scope.spawn(move || create_and_delete(base, name, acknowledged))).collect();
            eventually("changes are acknowledged", || acknowledged.load(Ordering::Relaxed) > 100);
            server.ask_to_stop();
            callers.into_iter().map(|caller| caller.join().expect("no panic")).collect()
        });
        for reader in &mut readers {
            assert_eq!(reader.end(), "shutdown");
        }
        server.stop();
        let whole =
            GroupState { group_name: "Work".to_owned(), conversation_id_list: MEMBERS.map(str::to_owned).to_vec() };
        for (name, possible) in names.iter().zip(possible) {
            let state = store.store.state(&user(name)).expect("reads");
            assert!(state.value.groups.is_empty() || state.value.groups == [whole.clone()], "{name}: {state:?}");
            let there = !state.value.groups.is_empty();
            assert!(possible.contains(&there), "{name}: {there}, expected one of {possible:?}");
            // Creations and removals take turns.
            assert_eq!(state.version.0 % 2 == 1, there, "{name}");
        }
    }
}

#[test]
fn calls_in_flight_get_their_answers_and_readers_are_told_why_they_end() {
    let store = GatedStore::new(Arc::new(MemoryStore::new()));
    let mut server = Setup::default().store(store.clone()).start();
    let names = ["alice", "bob", "carol"];
    let mut readers = names.map(|name| server.events(name, "", None));
    store.close();
    let base = server.url("/v1/createConversationGroup");
    std::thread::scope(|scope| {
        let base = &base;
        let calls = names.map(|name| {
            scope.spawn(move || {
                let request = client().post(base).bearer_auth(sign(name)).json(&create("Work"));
                Reply::to(request).outcome()
            })
        });
        store.wait_for(3);
        server.ask_to_stop();
        for reader in &mut readers {
            assert_eq!(reader.end(), "shutdown");
        }
        let address = server.address();
        eventually("nobody new is let in", || TcpStream::connect(address).is_err());
        store.open();
        for call in calls {
            assert_eq!(call.join().expect("no panic"), (200, 0));
        }
    });
    server.stop();
    for name in names {
        assert_eq!(convgroups_host::store::Store::state(&*store, &user(name)).expect("reads").version.0, 1);
    }
}

#[test]
fn who_takes_longer_than_the_time_to_stop_is_disconnected_and_their_change_is_whole_or_not_there() {
    let store = GatedStore::new(Arc::new(MemoryStore::new()));
    let setup = Setup::default().store(store.clone()).with(|settings| settings.server.shutdown_timeout_ms = 100);
    let mut server = setup.start();
    store.close();
    let mut stream = server.connect();
    let asked = request("POST", "/v1/createConversationGroup", "alice", "", &create("Work").to_string());
    std::io::Write::write_all(&mut stream, asked.as_bytes()).expect("writes");
    store.wait_for(1);
    server.ask_to_stop();
    assert_eq!(rest_of(&mut stream), "");
    store.open();
    server.stop();
    let state = convgroups_host::store::Store::state(&*store, &user("alice")).expect("reads");
    assert!(state.value.groups.iter().all(|group| group.conversation_id_list == MEMBERS));
}

#[test]
fn connections_on_which_nothing_happens_do_not_delay_the_end() {
    let mut server = TestServer::start();
    let mut silent = server.connect();
    let mut idle = server.connect();
    std::io::Write::write_all(&mut idle, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").expect("writes");
    let answer = convgroups_tests::server::answer_on(&mut idle);
    assert!(answer.starts_with("HTTP/1.1 200"));
    server.ask_to_stop();
    assert_eq!((rest_of(&mut silent), rest_of(&mut idle)), (String::new(), String::new()));
}
