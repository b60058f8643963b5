//! Several operations in one transaction: all are kept, or none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use convgroups_host::api::{
    AddConversationsToGroup, CreateConversationGroup, DeleteConversationGroup, GetConversationGroupList,
};
use convgroups_host::call::{CallContext, Interrupted, Session};
use convgroups_host::events::Event;
use convgroups_host::{Failure, Host, HostFault, Version};
use convgroups_tests::{TestStore, user};

fn create(name: &str, ids: &[&str]) -> CreateConversationGroup {
    CreateConversationGroup::new(name, ids.iter().copied())
}

fn host(store: &TestStore) -> Host {
    Host::builder().store(store.store.clone()).build().expect("it builds")
}

fn names(session: &mut Session<'_>) -> Result<Vec<String>, Interrupted> {
    Ok(session.groups()?.into_iter().map(|group| group.name).collect())
}

#[test]
fn several_operations_are_one_version_and_see_each_other() {
    for (kind, store) in TestStore::all() {
        let host = host(&store);
        let reply = host.transact(&user("alice"), "several", CallContext::default(), |session| {
            session.call(&create("Work", &["c2c_bob"]))?;
            assert_eq!(names(session)?, ["Work"]);
            session.call(&create("Play", &["c2c_eve"]))?;
            assert_eq!(session.call(&GetConversationGroupList {})?, ["Work", "Play"]);
            session.call(&AddConversationsToGroup::new("Work", ["c2c_eve"]))?;
            names(session)
        });
        let reply = reply.expect("it goes through");
        assert_eq!((reply.version, reply.attempts), (Some(Version(1)), 1), "{kind}");
        assert_eq!(reply.result, ["Work", "Play"]);

        let events = host.events(user("alice"), Version(0)).read().expect("reads");
        let [Event::Change(change)] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!(change.events.len(), 3, "{kind}");
        // Each kind of operation once, in the order of their first use.
        let method = "createConversationGroup+getConversationGroupList+addConversationsToGroup";
        assert_eq!(change.origin.method, method, "{kind}");
        assert_eq!(change.origin.request_id, reply.request_id);
    }
}

#[test]
fn operations_that_change_nothing_leave_no_version() {
    for (kind, store) in TestStore::all() {
        let host = host(&store);
        let nothing =
            host.transact(&user("alice"), "nothing", CallContext::default(), |_| Ok(7)).expect("it goes through");
        assert_eq!((nothing.result, nothing.version), (7, None), "{kind}");
        let reply = host.transact(&user("alice"), "there and back", CallContext::default(), |session| {
            session.call(&create("Work", &["c2c_bob"]))?;
            session.call(&DeleteConversationGroup::new("Work"))?;
            names(session)
        });
        assert_eq!(reply.expect("it goes through").result, Vec::<String>::new(), "{kind}");
        assert_eq!(store.store.state(&user("alice")).expect("reads").value.groups, [], "{kind}");
    }
}

#[test]
fn a_refusal_drops_what_was_done_before_it_even_when_it_is_swallowed() {
    for (kind, store) in TestStore::all() {
        let host = host(&store);
        host.call(&user("alice"), &CreateConversationGroup::new("Work", ["c2c_bob"])).expect("creates");
        let before = store.store.state(&user("alice")).expect("reads");
        let handed_back = host.transact(&user("alice"), "two", CallContext::default(), |session| {
            session.call(&create("Play", &["c2c_eve"]))?;
            session.call(&create("Work", &["c2c_eve"]))
        });
        let swallowed = host.transact(&user("alice"), "two", CallContext::default(), |session| {
            session.call(&create("Play", &["c2c_eve"]))?;
            session.call(&create("Work", &["c2c_eve"])).expect_err("there is one");
            // The session is over, whatever is tried.
            session.call(&create("More", &["c2c_eve"])).expect_err("over");
            session.groups().expect_err("over");
            Ok(Vec::new())
        });
        let own = host.transact(&user("alice"), "two", CallContext::default(), |session| {
            session.call(&create("Play", &["c2c_eve"]))?;
            Err::<Vec<_>, _>(session.refuse(4711, "on second thoughts"))
        });
        let own_swallowed = host.transact(&user("alice"), "two", CallContext::default(), |session| {
            session.call(&create("Play", &["c2c_eve"]))?;
            let _ = session.refuse(4711, "on second thoughts");
            Ok(Vec::new())
        });
        for (result, own) in [(handed_back, false), (swallowed, false), (own, true), (own_swallowed, true)] {
            let error = result.expect_err("refused");
            assert!(matches!(error.failure, Failure::Refused(_)), "{kind}: {error:?}");
            assert_eq!(error.code() == 4711, own, "{kind}: {error}");
        }
        assert_eq!(store.store.state(&user("alice")).expect("reads"), before, "{kind}");
        host.call(&user("alice"), &CreateConversationGroup::new("Play", ["c2c_eve"])).expect("the lane is free again");
    }
}

#[test]
fn an_interruption_of_another_session_is_no_reason_to_panic() {
    for (kind, store) in TestStore::all() {
        let host = host(&store);
        let mut stolen = None;
        let stealing = host.transact(&user("alice"), "steals", CallContext::default(), |session| {
            stolen = session.call(&DeleteConversationGroup::new("nowhere")).err();
            Ok(())
        });
        stealing.expect_err("refused");
        let result = host.transact(&user("bob"), "lies", CallContext::default(), |session| {
            session.call(&create("Work", &["c2c_eve"]))?;
            stolen.take().map_or(Ok(()), Err)
        });
        assert!(matches!(result.expect_err("it says so").failure, Failure::Refused(_)), "{kind}");
        assert_eq!(store.store.state(&user("bob")).expect("reads").version, Version(0), "{kind}");
    }
}

#[test]
fn after_a_conflict_with_another_host_all_of_it_runs_again() {
    for (kind, store) in TestStore::all() {
        let (ours, theirs) = (host(&store), host(&store));
        ours.call(&user("alice"), &CreateConversationGroup::new("Work", ["c2c_bob"])).expect("creates");
        let runs = Arc::new(AtomicU32::new(0));
        let reply = ours.transact(&user("alice"), "several", CallContext::default(), |session| {
            let run = runs.fetch_add(1, Ordering::Relaxed);
            let seen = names(session)?;
            session.call(&create("Play", &["c2c_eve"]))?;
            if run < 2 {
                let name = format!("by another host {run}");
                theirs.call(&user("alice"), &CreateConversationGroup::new(name, ["c2c_bob"])).expect("creates");
            }
            session.call(&create("More", &["c2c_eve"]))?;
            Ok(seen)
        });
        let reply = reply.expect("the third run goes through");
        assert_eq!((reply.attempts, runs.load(Ordering::Relaxed)), (3, 3), "{kind}");
        assert_eq!(reply.result, ["Work", "by another host 0", "by another host 1"], "{kind}");
        assert_eq!(reply.version, Some(Version(4)), "{kind}");
        let groups = ours.call(&user("alice"), &GetConversationGroupList::new()).expect("lists").result;
        assert_eq!(groups, ["Work", "by another host 0", "by another host 1", "Play", "More"], "{kind}");
    }
}

#[test]
fn operations_that_meet_conflicts_without_end_give_up_and_change_nothing() {
    let store = TestStore::memory();
    let (ours, theirs) = (host(&store), host(&store));
    let mut run = 0;
    let result = ours.transact(&user("alice"), "several", CallContext::default(), |session| {
        session.call(&create("Mine", &["c2c_eve"]))?;
        run += 1;
        theirs
            .call(&user("alice"), &CreateConversationGroup::new(format!("theirs {run}"), ["c2c_bob"]))
            .expect("creates");
        session.call(&create("Mine too", &["c2c_eve"]))
    });
    let failure = result.expect_err("it gives up").failure;
    assert_eq!(failure, Failure::Host(HostFault::Busy { attempts: 10 }));
    let groups = ours.call(&user("alice"), &GetConversationGroupList::new()).expect("lists").result;
    assert!(groups.len() == 10 && groups.iter().all(|name| name.starts_with("theirs")), "{groups:?}");
}
