//! Events: a reader resumes without gap or repeat, and starts over when the log does not reach back to it.

use std::time::Duration;

use convgroups_host::api::{AddConversationsToGroup, CreateConversationGroup, DeleteConversationGroup};
use convgroups_host::events::{Event, EventReader};
use convgroups_host::settings::EventSettings;
use convgroups_host::{EventId, History, Host, Settings, Version};
use convgroups_tests::{TestStore, user};

fn host(store: &TestStore, keep_per_user: u32) -> Host {
    let settings = Settings { events: EventSettings { keep_per_user }, ..Settings::default() };
    Host::builder().settings(settings).store(store.store.clone()).build().expect("it builds")
}

#[test]
fn a_reader_gets_every_change_once_in_order_wherever_it_resumes() {
    for (_, store) in TestStore::all() {
        let host = host(&store, 100);
        let alice = user("alice");
        host.call(&alice, &CreateConversationGroup::new("Work", ["c2c_bob"])).expect("creates");
        for number in 0..20 {
            host.call(&alice, &AddConversationsToGroup::new("Work", [format!("c2c_{number}")])).expect("adds");
            // Nothing new, so no event.
            host.call(&alice, &AddConversationsToGroup::new("Work", [format!("c2c_{number}")])).expect("adds");
        }
        let all = host.events(alice.clone(), Version(0)).read().expect("reads");
        let versions: Vec<u64> = all.iter().map(|event| event.version().0).collect();
        assert_eq!(versions, (1..=21).collect::<Vec<_>>());
        for after in 0..=21 {
            let rest = host.events(alice.clone(), Version(after)).read().expect("reads");
            assert_eq!(rest, all[usize::try_from(after).expect("small")..]);
        }
    }
}

#[test]
fn a_reader_behind_the_end_of_the_log_gets_everything_and_goes_on_from_there() {
    for (_, store) in TestStore::all() {
        let host = host(&store, 2);
        let alice = user("alice");
        host.call(&alice, &CreateConversationGroup::new("Work", ["c2c_1"])).expect("creates");
        for number in 2..=5 {
            host.call(&alice, &AddConversationsToGroup::new("Work", [format!("c2c_{number}")])).expect("adds");
        }
        let mut reader = host.events(alice.clone(), Version(1));
        let events = reader.read().expect("reads");
        let [Event::Full(full)] = events.as_slice() else { panic!("{events:?}") };
        assert!(full.full);
        assert_eq!(full.version, Version(5));
        assert_eq!(full.groups[0].conversation_id_list, ["c2c_1", "c2c_2", "c2c_3", "c2c_4", "c2c_5"]);
        assert!(reader.read().expect("reads").is_empty());
        host.call(&alice, &DeleteConversationGroup::new("Work")).expect("deletes");
        let events = reader.read().expect("reads");
        assert!(matches!(events.as_slice(), [Event::Change(change)] if change.version == Version(6)), "{events:?}");
    }
}

#[test]
fn a_reader_that_waits_is_woken_by_a_commit_of_its_own_host_and_of_others() {
    for (_, store) in TestStore::all() {
        let (ours, theirs) = (host(&store, 10), host(&store, 10));
        let alice = user("alice");
        let mut readers =
            [ours.events(alice.clone(), Version(0)), EventReader::new(store.store.clone(), alice.clone(), Version(0))];
        for (version, host) in [&ours, &theirs].into_iter().enumerate() {
            std::thread::scope(|scope| {
                let waiting: Vec<_> = readers
                    .iter_mut()
                    .map(|reader| scope.spawn(|| reader.wait(Duration::from_secs(60)).expect("reads")))
                    .collect();
                host.call(&alice, &CreateConversationGroup::new(format!("group {version}"), ["c2c_bob"]))
                    .expect("creates");
                for reader in waiting {
                    assert_eq!(reader.join().expect("no panic").len(), 1);
                }
            });
        }
        let nothing = readers[0].wait(Duration::from_millis(1)).expect("reads");
        assert!(nothing.is_empty());
    }
}

#[test]
fn an_event_says_which_call_it_came_from() {
    let store = TestStore::memory();
    let host = host(&store, 10);
    let request = convgroups_host::api::Request::from_json(
        convgroups_host::api::Method::CreateConversationGroup,
        r#"{"groupName":"Work","conversationIDList":["c2c_bob"]}"#,
    );
    let reply = host.call(&user("alice"), &request.expect("well-formed")).expect("creates");
    let events = host.events(user("alice"), Version(0)).read().expect("reads");
    let [Event::Change(change)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(change.origin.request_id, reply.request_id);
    assert_eq!(change.origin.method, "createConversationGroup");
    let json = serde_json::to_string(&events[0]).expect("is JSON");
    let expected = format!(
        r#"{{"version":1,"origin":{{"method":"createConversationGroup","requestID":"{}"}},"events":[{{"event":"onConversationGroupCreated","groupName":"Work","conversationList":["c2c_bob"]}}]}}"#,
        reply.request_id
    );
    assert_eq!(json, expected);
}

#[test]
fn the_id_of_an_event_is_read_as_it_was_written_and_in_no_other_spelling() {
    let (first, second) = (History::random(), History::random());
    assert_ne!(first, second);
    for version in [0, 1, 15, Version::MAX.0] {
        for history in [None, Some(first), Some(second)] {
            let id = EventId { version: Version(version), history };
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }
    let digits = first.to_string();
    let wrong = [
        String::new(),
        "-".to_owned(),
        digits.clone(),
        format!("-{digits}"),
        format!("1-{}", &digits[1..]),
        format!("1-{digits}0"),
        format!("01-{digits}"),
        format!("1-{digits} "),
        (Version::MAX.0 + 1).to_string(),
        format!("1-{}", "ABCDEF0123456789"),
    ];
    for text in wrong {
        assert!(text.parse::<EventId>().is_err(), "{text:?}");
    }
}

#[test]
fn a_reader_knows_where_it_is_before_anything_has_happened() {
    for (name, store) in TestStore::all() {
        let mut reader = EventReader::new(store.store.clone(), user("alice"), Version(0));
        assert_eq!(reader.after().history, None, "{name}");
        assert!(reader.read().expect("reads").is_empty());
        let history = store.store.history().expect("reads");
        assert_eq!(reader.after(), EventId { version: Version(0), history: Some(history) }, "{name}");
        host(&store, 10).call(&user("alice"), &CreateConversationGroup::new("Work", ["c2c_bob"])).expect("creates");
        let events = reader.read().expect("reads");
        assert_eq!(reader.id(&events[0]), EventId { version: Version(1), history: Some(history) }, "{name}");
    }
}
