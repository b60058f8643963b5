//! Many callers: the outcome is as if they had come one after the other.

use std::sync::atomic::{AtomicU32, Ordering};

use convgroups_host::api::{
    AnyResult, ConversationFilter, ConversationType, CreateConversationGroup, DeleteConversationsFromGroup,
    GetConversationGroupList, GetConversationListByFilter, Request, SearchConversations,
};
use convgroups_host::model::{Change, DeletionReason, UserId, UserState, Version};
use convgroups_host::settings::{CallSettings, Limits, WhenFull};
use convgroups_host::store::{
    Bounds, Changes, Commit, CommitOutcome, MAX_BATCH, Store, StoreResult, Transaction, Versioned,
};
use convgroups_host::{Failure, Host, HostFault, Settings};
use convgroups_tests::meddled::{MeddledStore, Meddler};
use convgroups_tests::model::{Model, some_change, without_reasons};
use convgroups_tests::{TestStore, native, user};

const TASKS: u64 = 64;
const CALLS_EACH: usize = 12;

/// A change that committed: its version, what was asked, and what was answered.
type Committed = (Version, Request, AnyResult);

#[test]
fn what_64_callers_do_to_one_user_equals_some_serial_order() {
    for (kind, store) in TestStore::all() {
        run_and_compare(kind, &store, 1, &limits(WhenFull::Refuse));
    }
}

#[test]
fn callers_of_three_hosts_on_one_store_equal_some_serial_order_as_well() {
    for when_full in [WhenFull::Refuse, WhenFull::EvictOldest] {
        let makers = [
            || Some(TestStore::memory()),
            || Some(TestStore::sqlite()),
            TestStore::postgres,
            TestStore::serializable_postgres,
        ];
        for make in makers {
            // Whether hosts meet is a matter of chance; without a rerun nothing was tested.
            let met = (0..100)
                .map_while(|_| make())
                .map(|store| run_and_compare("three hosts", &store, 3, &limits(when_full)))
                .find(|reruns| *reruns > 0);
            assert!(met.is_some() || make().is_none(), "three hosts never met");
        }
    }
}

fn limits(when_full: WhenFull) -> Limits {
    Limits {
        max_groups: 4,
        max_conversations_per_group: 12,
        max_marked_conversations: 8,
        max_custom_data_bytes: 3,
        when_full,
        ..Limits::default()
    }
}

/// Runs the callers, replays what committed on the model in the order of the versions; answers how many reruns there were.
fn run_and_compare(kind: &str, store: &TestStore, hosts: usize, limits: &Limits) -> u32 {
    let hosts: Vec<Host> = (0..hosts)
        .map(|_| {
            let calls = CallSettings { max_attempts: 1000, timeout_ms: 60_000, ..CallSettings::default() };
            let settings = Settings { limits: limits.clone(), calls, ..Settings::default() };
            Host::builder().settings(settings).store(store.as_another_host()).build().expect("it builds")
        })
        .collect();
    let alice = user("alice");
    let reruns = AtomicU32::new(0);
    let mut committed: Vec<Committed> = std::thread::scope(|scope| {
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let host = &hosts[usize::try_from(task).expect("small") % hosts.len()];
                let (alice, reruns) = (&alice, &reruns);
                scope.spawn(move || work(host, alice, task, reruns))
            })
            .collect();
        tasks.into_iter().flat_map(|task| task.join().expect("no panic")).collect()
    });
    committed.sort_by_key(|(version, ..)| *version);

    let mut model = Model::default();
    for (place, (version, request, answer)) in committed.into_iter().enumerate() {
        assert_eq!(version.0, place as u64 + 1, "{kind}: versions without gap or repeat");
        let expected = model.run(&request, limits);
        assert_eq!(Ok(without_reasons(answer)), expected, "{kind}: {request:?} as change {version}");
    }
    let end = store.store.state(&alice).expect("reads");
    assert_eq!(end.value, model.state(), "{kind}");
    assert!(end.version.0 > 50, "{kind}: too little happened to mean anything");
    assert_log_tells_the_same(&*store.store, &alice, &end);
    reruns.load(Ordering::Relaxed)
}

/// The log has each of the last changes once, in order, and none without an event.
fn assert_log_tells_the_same(store: &dyn Store, user: &UserId, end: &Versioned<UserState>) {
    let Changes::Since(log) = store.changes(user, Version(end.version.0 - 20), MAX_BATCH).expect("reads") else {
        unreachable!("20 changes are kept")
    };
    let versions: Vec<u64> = log.iter().map(|change| change.version.0).collect();
    assert_eq!(versions, (end.version.0 - 19..=end.version.0).collect::<Vec<_>>());
    assert!(log.iter().all(|change| !change.events.is_empty()));
}

fn work(host: &Host, user: &UserId, task: u64, reruns: &AtomicU32) -> Vec<Committed> {
    let mut random = fastrand::Rng::with_seed(task);
    let mut committed = Vec::new();
    for _ in 0..CALLS_EACH {
        let request = some_change(&mut random);
        match host.call(user, &request) {
            Ok(reply) => {
                reruns.fetch_add(reply.attempts - 1, Ordering::Relaxed);
                committed.extend(reply.version.map(|version| (version, request, reply.result)));
            }
            Err(error) => assert!(matches!(error.failure, Failure::Refused(_)), "{request:?}: {error}"),
        }
    }
    committed
}

#[test]
fn one_by_one_the_plugin_answers_as_the_model_does() {
    for when_full in [WhenFull::Refuse, WhenFull::EvictOldest] {
        for (kind, store) in TestStore::all() {
            let limits = limits(when_full);
            let settings = Settings { limits: limits.clone(), ..Settings::default() };
            let host = Host::builder().settings(settings).store(store.store.clone()).build().expect("it builds");
            let mut random = fastrand::Rng::with_seed(3);
            let mut model = Model::default();
            for step in 0..2000 {
                let request = some_change(&mut random);
                let came = host.call(&user("alice"), &request).map(|reply| without_reasons(reply.result));
                let came = came.map_err(|error| error.code());
                assert_eq!(came, model.run(&request, &limits), "{kind}, step {step}: {request:?}");
                if step % 50 == 0 {
                    assert_eq!(store.store.state(&user("alice")).expect("reads").value, model.state());
                }
            }
        }
    }
}

#[test]
fn the_sandbox_answers_what_the_rules_answer_natively() {
    for when_full in [WhenFull::Refuse, WhenFull::EvictOldest] {
        for (kind, store) in TestStore::all() {
            let limits = limits(when_full);
            let settings = Settings { limits: limits.clone(), ..Settings::default() };
            let host = Host::builder().settings(settings).store(store.store.clone()).build().expect("it builds");
            let mut random = fastrand::Rng::with_seed(11);
            for step in 0..500 {
                let request = match random.u8(..5) {
                    0 => some_question(&mut random),
                    _ => some_change(&mut random),
                };
                let bounds = Bounds { max_ids: 1000, max_changes: 1000, ..Bounds::default() };
                let mut transaction = Transaction::new(store.store.clone(), user("alice"), bounds);
                let natively = native::run(&mut transaction, &limits, &request).map_err(Failure::Refused);
                let sandboxed = host.call(&user("alice"), &request);
                let sandboxed = sandboxed.map(|reply| reply.result).map_err(|error| error.failure);
                assert_eq!(sandboxed, natively, "{kind}, step {step}: {request:?}");
            }
        }
    }
}

/// Something that changes nothing.
fn some_question(random: &mut fastrand::Rng) -> Request {
    let group = ["Work", "Home", "", "nowhere"][random.usize(..4)].to_owned();
    match random.u8(..3) {
        0 => GetConversationGroupList {}.into(),
        1 => SearchConversations::new((0..random.u8(..8)).map(|number| format!("c2c_{number}"))).into(),
        _ => {
            let filter = ConversationFilter {
                conversation_type: [None, Some(ConversationType::C2c), Some(ConversationType::Group)]
                    [random.usize(..3)],
                conversation_group: random.bool().then_some(group),
                mark_type: [None, Some(0), Some(1), Some(3), Some(1 << 63)][random.usize(..5)],
            };
            GetConversationListByFilter { filter, next_seq: random.u64(..3) << 20, count: random.u32(..6) }.into()
        }
    }
}

/// Somebody else, who changes the user's groups just before the first this many commits.
#[derive(Debug)]
struct Contender {
    interruptions: AtomicU32,
}

impl Meddler for Contender {
    fn commit(&self, store: &dyn Store, commit: Commit) -> StoreResult<CommitOutcome> {
        let left = self.interruptions.load(Ordering::Relaxed);
        if left > 0 {
            self.interruptions.store(left - 1, Ordering::Relaxed);
            let name = format!("by somebody else {left}");
            let theirs = Change::GroupCreated { group_name: name, conversation_list: vec!["c2c_eve".to_owned()] };
            let removal = Change::ConversationsDeleted {
                group_name: "Work".to_owned(),
                conversation_list: vec!["c2c_bob".to_owned()],
                reason: DeletionReason::Requested,
            };
            let has_bob = store.contains(&commit.user, "Work", &["c2c_bob"])?.value == Some(vec![true]);
            let changes = if has_bob { vec![theirs, removal] } else { vec![theirs] };
            let base = store.groups(&commit.user)?.version;
            assert!(matches!(store.commit(Commit { base, changes, ..commit.clone() })?, CommitOutcome::Committed(_)));
        }
        store.commit(commit)
    }
}

fn contended(store: &TestStore, interruptions: u32) -> Host {
    let alice = user("alice");
    let quiet = Host::builder().store(store.store.clone()).build().expect("it builds");
    quiet.call(&alice, &CreateConversationGroup::new("Work", ["c2c_bob", "group_42"])).expect("creates");
    let contender = Contender { interruptions: AtomicU32::new(interruptions) };
    let contended = MeddledStore::with(store.store.clone(), contender);
    let settings =
        Settings { calls: CallSettings { max_attempts: 4, ..CallSettings::default() }, ..Settings::default() };
    Host::builder().settings(settings).store(contended).build().expect("it builds")
}

fn deletion() -> DeleteConversationsFromGroup {
    DeleteConversationsFromGroup::new("Work", ["c2c_bob", "group_42"])
}

#[test]
fn after_a_conflict_the_call_runs_again_on_what_is_there_now() {
    for (kind, store) in TestStore::all() {
        let host = contended(&store, 1);
        let reply = host.call(&user("alice"), &deletion()).expect("the second run goes through");
        assert_eq!(reply.attempts, 2, "{kind}");
        // Somebody else took Bob out in between: the answer is about the last run.
        assert_eq!(reply.result[0].result_info, "not in the group", "{kind}");
        assert_eq!(reply.result[1].result_info, "", "{kind}");
        let Changes::Since(log) = store.store.changes(&user("alice"), Version(2), MAX_BATCH).expect("reads") else {
            panic!()
        };
        assert_eq!(log.len(), 1, "{kind}: the run that met a conflict left nothing");
        let only = Change::ConversationsDeleted {
            group_name: "Work".to_owned(),
            conversation_list: vec!["group_42".to_owned()],
            reason: DeletionReason::Requested,
        };
        assert_eq!(log[0].events, [only], "{kind}");
    }
}

#[test]
fn a_call_that_meets_conflicts_without_end_gives_up_and_changes_nothing() {
    for (kind, store) in TestStore::all() {
        let host = contended(&store, 4);
        let error = host.call(&user("alice"), &deletion()).expect_err("it gives up");
        assert_eq!(error.failure, Failure::Host(HostFault::Busy { attempts: 4 }), "{kind}");
        assert_eq!(error.code(), 60018);
        let held = store.store.contains(&user("alice"), "Work", &["group_42"]).expect("reads").value;
        assert_eq!(held, Some(vec![true]), "{kind}");
    }
}
