//! Plugins that misbehave: each call ends in a clear error with the right blame, nothing is changed, and the host goes on.
//!
//! Failures are told apart by kind and wording; a plugin that fails to load is in a test of its own.

use convgroups_host::api::{
    AddConversationsToGroup, ConversationOperationResult, CreateConversationGroup, DeleteConversationsFromGroup,
    GetConversationGroupList,
};
use convgroups_host::model::{Change, Origin};
use convgroups_host::settings::{SandboxSettings, Wasi};
use convgroups_host::store::{Commit, Skip};
use convgroups_host::{Failure, Host, HostBuilder, MemoryStore, PluginFaultKind, PluginSource, Settings, Version};
use convgroups_tests::bombs::{NEVER_START, bomb};
use convgroups_tests::guests::{ALL, examiner, guest};
use convgroups_tests::{TestStore, memory_kib, user};

/// What a call must end in: a fault of this kind whose detail contains this.
type Fault = (&'static str, PluginFaultKind, &'static str);

const FAULTS: &[Fault] = &[
    ("traps", PluginFaultKind::Trap, "unreachable"),
    ("panics", PluginFaultKind::Panic, "a message to find in the log"),
    ("loops", PluginFaultKind::Deadline, "longer than 100 ms"),
    ("loops_in_memory_copy", PluginFaultKind::Deadline, "longer than 100 ms"),
    ("loops_in_memory_fill", PluginFaultKind::Deadline, "longer than 100 ms"),
    ("loops_in_realloc", PluginFaultKind::Deadline, "longer than 100 ms"),
    ("loops_in_post_return", PluginFaultKind::Deadline, "longer than 100 ms"),
    ("imports_without_end", PluginFaultKind::Deadline, "longer than 100 ms"),
    ("allocates", PluginFaultKind::Memory, "at most 16777216 are allowed"),
    ("allocates_by_many_memories", PluginFaultKind::Memory, "at most 16777216 are allowed"),
    ("recurses", PluginFaultKind::Stack, "call stack exhausted"),
    ("recurses_with_imports", PluginFaultKind::Stack, "call stack exhausted"),
    ("makes_thousands_of_handles", PluginFaultKind::Trap, "handle limit exceeded"),
    ("imports_in_realloc", PluginFaultKind::Trap, "cannot leave component instance"),
    ("imports_in_post_return", PluginFaultKind::Trap, "cannot leave component instance"),
    ("gives_memory_that_it_has_not", PluginFaultKind::Trap, "beyond end of memory"),
    ("wants_answers_outside_memory", PluginFaultKind::Trap, "pointer out of bounds"),
    ("answers_too_few", PluginFaultKind::Answer, "not those of the request"),
    ("answers_foreign_ids", PluginFaultKind::Answer, "not those of the request"),
    ("answers_out_of_order", PluginFaultKind::Answer, "not those of the request"),
    ("answers_hugely", PluginFaultKind::Trap, "too much data is being copied"),
    ("answers_one_string_many_times", PluginFaultKind::Trap, "too much data is being copied"),
    ("answers_no_utf8", PluginFaultKind::Trap, "invalid utf-8"),
    ("answers_a_string_outside_memory", PluginFaultKind::Trap, "string pointer/length out of bounds"),
    ("answers_a_list_outside_memory", PluginFaultKind::Trap, "list pointer/length out of bounds"),
    ("answers_an_absurd_list", PluginFaultKind::Trap, "list pointer/length out of bounds"),
    ("answers_from_outside_memory", PluginFaultKind::Trap, "pointer out of bounds"),
    ("answers_neither_yes_nor_no", PluginFaultKind::Trap, "invalid expected discriminant"),
    ("refuses_with_code_zero", PluginFaultKind::Answer, "code 0"),
    ("passes_a_million_ids", PluginFaultKind::Trap, "too much data is being copied"),
    ("passes_no_utf8", PluginFaultKind::Trap, "invalid utf-8"),
    ("passes_an_absurd_list", PluginFaultKind::Trap, "list pointer/length out of bounds"),
    ("passes_a_list_outside_memory", PluginFaultKind::Trap, "list pointer/length out of bounds"),
    ("passes_too_many_ids", PluginFaultKind::Argument, "passed 50000 conversation ids, at most 10000"),
    ("passes_control_characters", PluginFaultKind::Argument, "control characters"),
    ("passes_an_endless_list_of_marks", PluginFaultKind::Trap, "too much data is being copied"),
    ("passes_control_characters_to_mark", PluginFaultKind::Argument, "control characters in a conversation id"),
    ("passes_endless_custom_data", PluginFaultKind::Argument, "1048576 bytes of custom data"),
    ("passes_an_empty_name", PluginFaultKind::Argument, "an empty group name"),
    ("passes_an_endless_name", PluginFaultKind::Argument, "1048576 bytes long group name"),
    ("stages_then_traps", PluginFaultKind::Trap, "unreachable"),
    ("stages_then_panics", PluginFaultKind::Panic, "after the change"),
    ("stages_then_loops", PluginFaultKind::Deadline, "longer than 100 ms"),
    ("stages_too_many_changes", PluginFaultKind::Argument, "more than 10000 changes"),
    ("stages_too_many_bytes", PluginFaultKind::Argument, "changes of more than 16777216 bytes"),
    ("asks_for_custom_data_of_one_id_many_times", PluginFaultKind::Argument, "more than 4194304 bytes of marks"),
];

/// Plugins that are odd and within their rights: what each answers for an id.
const ANSWERS: &[(&str, &str)] = &[
    ("remembers", "1"),
    ("searches_memory", "clean"),
    ("pages_from_the_end_of_time", "[Ok([]), Ok([])]"),
    ("names_other_users", "no such group"),
    ("imports_after_failures", r#"[true, true, true, true, true, true, true, true] ["Work"] Ok(2)"#),
    ("allocates_by_many_tables", ""),
];

/// Tested below, each on its own.
const OTHERS: &[&str] = &[
    "asks_for_memberships_of_one_id_many_times",
    "evicts_u32_max",
    "exports_nothing_of_ours",
    "imports_something_foreign",
    "loops_in_start",
    "needs_wasi",
    "panics_at_length",
    "refuses_at_length",
    "remarks_at_length",
    "speaks_another_version",
    "stages_many_small_changes",
    "stages_then_refuses",
];

/// Plugins are examined in a child process.
fn builder() -> HostBuilder {
    Host::builder().store(MemoryStore::new()).plugin_examiner(examiner())
}

fn host(plugin: PluginSource, store: &TestStore) -> Host {
    // Long, so that a busy machine does not make a deadline of another fault.
    host_with_deadline(plugin, store, 4000)
}

fn host_with_deadline(plugin: PluginSource, store: &TestStore, deadline_ms: u64) -> Host {
    host_with(Settings { ..Settings::default() }, plugin, store, deadline_ms)
}

fn host_with(settings: Settings, plugin: PluginSource, store: &TestStore, deadline_ms: u64) -> Host {
    let sandbox = SandboxSettings { deadline_ms, ..settings.sandbox };
    let settings = Settings { sandbox, ..settings };
    builder().settings(settings).store(store.store.clone()).plugin(plugin).build().expect("it loads")
}

fn delete(host: &Host) -> Result<Vec<ConversationOperationResult>, Failure> {
    let deleted = host.call(&user("alice"), &DeleteConversationsFromGroup::new("Work", ["c2c_bob", "group_42"]));
    deleted.map(|reply| reply.result).map_err(|error| error.failure)
}

/// Alice with a group, in a store that is about to see something.
fn prepared(host: &Host, store: &TestStore) -> impl Fn(&str) {
    host.call(&user("alice"), &CreateConversationGroup::new("Work", ["c2c_bob", "group_42"])).expect("creates a group");
    let store = store.store.clone();
    let before = store.state(&user("alice")).expect("reads");
    assert_eq!(before.value.groups.len(), 1);
    move |name| assert_eq!(store.state(&user("alice")).expect("reads"), before, "after {name}")
}

#[test]
fn every_plugin_of_the_collection_is_in_a_test() {
    let mut tested: Vec<&str> = FAULTS.iter().map(|(name, ..)| *name).collect();
    tested.extend(ANSWERS.iter().map(|(name, _)| *name));
    tested.extend(OTHERS);
    tested.sort_unstable();
    let mut all: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
    all.sort_unstable();
    assert_eq!(all, tested);
}

#[test]
fn a_plugin_that_fails_changes_nothing_and_the_next_call_is_fine() {
    // Each is compiled once for all stores.
    let cache = tempfile::tempdir().expect("a temporary directory can be made");
    for &(name, kind, detail) in FAULTS {
        for (store_kind, store) in TestStore::all() {
            let deadline_ms = if kind == PluginFaultKind::Deadline { 100 } else { 4000 };
            let settings = Settings { cache_dir: Some(cache.path().to_owned()), ..Settings::default() };
            let host = host_with(settings, guest(name), &store, deadline_ms);
            let assert_unchanged = prepared(&host, &store);
            for _ in 0..2 {
                match delete(&host) {
                    Err(Failure::Plugin(fault)) => {
                        assert_eq!(fault.kind, kind, "{name} on {store_kind}: {fault}");
                        assert!(fault.detail.contains(detail), "{name} on {store_kind}: {fault}");
                    }
                    other => panic!("{name} on {store_kind}: {other:?}"),
                }
                assert_unchanged(name);
                let groups =
                    host.call(&user("alice"), &GetConversationGroupList::new()).expect("the next call is fine").result;
                assert_eq!(groups, ["Work"], "{name} on {store_kind}");
            }
        }
    }
}

#[test]
fn a_plugin_that_does_not_start_for_one_user_starts_for_others() {
    for (_, store) in TestStore::all() {
        let good = host(PluginSource::Bundled, &store);
        let assert_unchanged = prepared(&good, &store);
        let host = host_with_deadline(guest("loops_in_start"), &store, 100);
        for _ in 0..2 {
            let Err(Failure::Plugin(fault)) = delete(&host) else { panic!("it does not start") };
            assert_eq!(fault.kind, PluginFaultKind::Deadline, "{fault}");
            assert_eq!(
                host.call(&user("bob"), &GetConversationGroupList::new()).expect("bob is served").result,
                [""; 0]
            );
        }
        assert_unchanged("loops_in_start");
    }
}

#[test]
fn a_plugin_that_fails_before_it_is_asked_anything_changes_nothing() {
    let expected = [(PluginFaultKind::Deadline, "longer than 100 ms"), (PluginFaultKind::Trap, "cannot enter")];
    for (&(name, addition), (kind, detail)) in NEVER_START.iter().zip(expected) {
        let store = TestStore::memory();
        let good = host(PluginSource::Bundled, &store);
        let assert_unchanged = prepared(&good, &store);
        let host = host_with_deadline(bomb(addition), &store, 100);
        for _ in 0..2 {
            let Err(Failure::Plugin(fault)) = delete(&host) else { panic!("{name} does not start") };
            assert_eq!(fault.kind, kind, "{name}: {fault}");
            assert!(fault.detail.contains(detail), "{name}: {fault}");
        }
        assert_unchanged(name);
    }
}

#[test]
fn a_plugin_serves_one_user_while_it_attacks_for_another() {
    for name in ["traps", "loops", "allocates", "recurses", "stages_then_traps", "makes_thousands_of_handles"] {
        let store = TestStore::sqlite();
        let host = host_with_deadline(guest(name), &store, 100);
        let assert_unchanged = prepared(&host, &store);
        let bob = user("bob");
        host.call(&bob, &CreateConversationGroup::new("Friends", ["c2c_carol"])).expect("creates a group");
        std::thread::scope(|scope| {
            let attacks = scope.spawn(|| (0..3).all(|_| matches!(delete(&host), Err(Failure::Plugin(_)))));
            for _ in 0..50 {
                host.call(&bob, &DeleteConversationsFromGroup::new("Friends", ["c2c_carol"])).expect("bob is served");
                host.call(&bob, &AddConversationsToGroup::new("Friends", ["c2c_carol"])).expect("bob is served");
            }
            assert!(attacks.join().expect("the attacker does not panic"), "{name}");
        });
        assert_unchanged(name);
    }
}

#[test]
fn the_operator_learns_where_a_plugin_failed_and_the_caller_does_not() {
    let store = TestStore::memory();
    let host = host(guest("stages_then_panics"), &store);
    drop(prepared(&host, &store));
    let error = host.call(&user("alice"), &DeleteConversationsFromGroup::new("Work", ["c2c_bob", "group_42"]));
    let error = error.expect_err("it panics");
    let Failure::Plugin(fault) = &error.failure else { panic!("{error}") };
    let backtrace = fault.backtrace.as_deref().expect("a trap has a backtrace");
    assert!(backtrace.contains("panic"), "{backtrace}");
    assert_eq!(error.code(), 50004);
    assert!(error.desc().contains(&error.request_id));
    assert!(!error.desc().contains("after the change"), "{}", error.desc());
}

#[test]
fn a_plugin_that_is_odd_but_within_its_rights_is_answered() {
    for &(name, info) in ANSWERS {
        for (store_kind, store) in TestStore::all() {
            let host = host(guest(name), &store);
            let assert_unchanged = prepared(&host, &store);
            // Again and again, for what one call could leave to the next.
            for _ in 0..3 {
                let results = delete(&host).unwrap_or_else(|failure| panic!("{name} on {store_kind}: {failure}"));
                assert!(results.iter().all(|result| result.result_info == info), "{name} on {store_kind}: {results:?}");
            }
            assert_unchanged(name);
        }
    }
}

#[test]
fn what_was_staged_before_a_refusal_is_dropped() {
    for (_, store) in TestStore::all() {
        let host = host(guest("stages_then_refuses"), &store);
        let assert_unchanged = prepared(&host, &store);
        let Err(Failure::Refused(refusal)) = delete(&host) else { panic!("it refuses") };
        assert_eq!((refusal.code, refusal.desc.as_str()), (7, "on second thoughts"));
        assert_unchanged("a refusal");
    }
}

#[test]
fn to_evict_more_than_there_are_evicts_all_and_says_which() {
    for (kind, store) in TestStore::all() {
        let host = host(guest("evicts_u32_max"), &store);
        drop(prepared(&host, &store));
        let results = delete(&host).unwrap_or_else(|failure| panic!("{kind}: {failure}"));
        assert_eq!(results[0].result_info, r#"Ok(["c2c_bob", "group_42"])"#, "{kind}");
        let state = store.store.state(&user("alice")).expect("reads").value.groups;
        assert_eq!((state.len(), state[0].conversation_id_list.len()), (1, 0), "{kind}");
    }
}

#[test]
fn memberships_beyond_the_limit_are_the_plugins_fault_and_are_not_built() {
    for (kind, store) in TestStore::all() {
        let alice = user("alice");
        // As many groups with names as long as a store takes, all of which hold one conversation.
        let group = |number: usize| Change::GroupCreated {
            group_name: format!("{number:0>256}"),
            conversation_list: vec!["c2c_bob".to_owned()],
        };
        let commit = Commit {
            user: alice.clone(),
            base: Version(0),
            changes: (0..999).map(group).collect(),
            skip: Skip::default(),
            origin: Origin { method: "test".to_owned(), request_id: String::new() },
            keep: 1,
            deadline: None,
        };
        store.store.commit(commit).expect("commits");
        let host = host(guest("asks_for_memberships_of_one_id_many_times"), &store);
        host.call(&alice, &CreateConversationGroup::new("Work", ["c2c_bob"])).expect("the last group that fits");
        let (before, started) = (memory_kib("VmHWM:"), std::time::Instant::now());
        let Err(Failure::Plugin(fault)) = delete(&host) else { panic!("{kind}: it asks for too much") };
        let took = started.elapsed();
        assert_eq!(fault.kind, PluginFaultKind::Argument, "{kind}: {fault}");
        assert!(fault.detail.contains("more than 4194304 bytes of memberships"), "{kind}: {fault}");
        let grown = memory_kib("VmHWM:").saturating_sub(before);
        println!("{kind}: refused after {took:?}, the host took {grown} KiB");
        assert!(grown < 64 << 10, "{kind}: the host took {grown} KiB");
    }
}

#[test]
fn what_a_plugin_writes_reaches_people_escaped_and_cut() {
    let harmless = |text: &str| {
        let unsafe_for_people = |character: char| character.is_control() || character == '\u{202e}';
        assert!(!text.contains(unsafe_for_people), "{text:?}");
        assert!(text.len() < 16 << 10, "{} bytes", text.len());
    };
    let store = TestStore::memory();
    let refusing = host(guest("refuses_at_length"), &store);
    drop(prepared(&refusing, &store));
    let Err(Failure::Refused(refusal)) = delete(&refusing) else { panic!("it refuses") };
    assert!(refusal.desc.starts_with(r"\u{1b}"), "{}", refusal.desc);
    harmless(&refusal.desc);

    for result in delete(&host(guest("remarks_at_length"), &store)).expect("it succeeds") {
        assert!(result.result_info.starts_with(r"\u{1b}\n\u{202e}"), "{}", result.result_info);
        harmless(&result.result_info);
    }

    let Err(Failure::Plugin(fault)) = delete(&host(guest("panics_at_length"), &store)) else { panic!("it panics") };
    assert!(fault.detail.contains(r"forged\n\u{1b}[2J"), "{}", fault.detail);
    harmless(&fault.detail);
    fault.backtrace.as_deref().expect("a trap has a backtrace").lines().for_each(harmless);
}

#[test]
fn a_plugin_that_stages_one_group_after_the_other_is_stopped_by_one_limit_or_another() {
    let store = TestStore::memory();
    let host = host(guest("stages_many_small_changes"), &store);
    let assert_unchanged = prepared(&host, &store);
    let Err(Failure::Plugin(fault)) = delete(&host) else { panic!("it is stopped") };
    assert!(matches!(fault.kind, PluginFaultKind::Deadline | PluginFaultKind::Argument), "{fault}");
    assert_unchanged("many changes");
}

#[test]
fn many_hostile_calls_at_once_leave_every_slot_of_the_pool_usable() {
    let store = TestStore::memory();
    let settings = Settings {
        calls: convgroups_host::settings::CallSettings { max_concurrent: 4, ..Default::default() },
        ..Settings::default()
    };
    let builder = builder().settings(settings).store(store.store.clone());
    let host = builder.plugin(guest("traps")).build().expect("it loads");
    drop(prepared(&host, &store));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert!(matches!(delete(&host), Err(Failure::Plugin(_))));
                }
            });
        }
    });
    assert_eq!(host.call(&user("alice"), &GetConversationGroupList::new()).expect("there is room").result, ["Work"]);
}

#[test]
fn a_plugin_with_foreign_imports_is_not_loaded_and_each_is_named() {
    let error = builder().plugin(guest("imports_something_foreign")).build().expect_err("it imports files");
    let text = error.to_string();
    assert!(text.contains("evil:thing/files@1.0.0"), "{text}");
    assert!(!text.contains("im:conversation-groups/group-store@"), "{text}");

    let error = builder().plugin(guest("needs_wasi")).build().expect_err("WASI is refused by default");
    let text = error.to_string();
    for name in
        ["wasi:filesystem/types@0.2", "wasi:cli/environment@0.2", "wasi:clocks/monotonic-clock@0.2", "\"inert\""]
    {
        assert!(text.contains(name), "{name} is missing in: {text}");
    }

    let inert = Settings { wasi: Wasi::Inert, ..Settings::default() };
    let plugin = guest("imports_something_foreign");
    let error = builder().settings(inert).plugin(plugin).build().expect_err("inert WASI admits WASI only");
    assert!(error.to_string().contains("evil:thing/files@1.0.0"));
}

#[test]
fn a_plugin_for_another_version_is_not_loaded_and_the_difference_is_shown() {
    let error = builder().plugin(guest("speaks_another_version")).build().expect_err("it speaks 0.2.0");
    let text = error.to_string();
    for part in [
        "im:conversation-groups@0.2.0",
        "im:conversation-groups@0.1.0",
        "- delete-conversations-from-group: func(group-name: string, conversation-ids: list<string>, force: bool)",
        "+ delete-conversations-from-group: func(group-name: string, conversation-ids: list<string>) ->",
        "- search-conversations: (not there)",
        "- mark-conversation: (not there)",
        "+ mark-conversation: func(mark-type: u64, enable-mark: bool, conversation-ids: list<string>) ->",
    ] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

#[test]
fn what_is_not_a_plugin_is_not_loaded_and_the_reason_is_told() {
    let load = |plugin| builder().plugin(plugin).build().expect_err("not a plugin").to_string();
    let error = load(guest("exports_nothing_of_ours"));
    assert!(error.contains("does not export im:conversation-groups@0.1.0's interface"), "{error}");
    assert!(error.contains("other:thing/numbers@1.0.0"), "{error}");
    for (bytes, reason) in [
        (b"".as_slice(), "does not begin like one"),
        (b"(component)", "does not begin like one"),
        (b"\0asm\x01\0\0\0", "core module"),
        (b"\x7fELF\x02\x01\x01\0\0\0", "compiled code"),
        (b"\0asm\x0d\0\x01\0rubbish", "not a WebAssembly component"),
    ] {
        let error = load(PluginSource::Bytes(bytes.to_vec()));
        assert!(error.contains(reason), "{error}");
    }
    let error = load(PluginSource::File("no/such/file.wasm".into()));
    assert!(error.contains("no/such/file.wasm"), "{error}");
    let settings = Settings {
        sandbox: SandboxSettings { max_plugin_bytes: 10, ..SandboxSettings::default() },
        ..Settings::default()
    };
    let error = builder().settings(settings).plugin(guest("traps")).build().expect_err("it is larger");
    assert!(error.to_string().contains("at most 10 are allowed"), "{error}");
}

#[test]
fn a_request_far_beyond_every_limit_is_the_callers_mistake_and_never_reaches_the_plugin() {
    let store = TestStore::memory();
    // A plugin that would trap on any of these.
    let host = host(guest("traps"), &store);
    drop(prepared(&host, &store));
    let refused = |ids: Vec<String>, code: i32| {
        let error =
            host.call(&user("alice"), &DeleteConversationsFromGroup::new("Work", ids)).expect_err("it is too much");
        assert!(matches!(error.failure, Failure::Refused(_)), "{error}");
        assert_eq!(error.code(), code, "{error}");
    };
    refused(vec![String::new(); 10_001], 51006);
    refused(vec!["x".repeat(1 << 20), "c2c_bob".to_owned()], 50002);
    assert!(matches!(delete(&host), Err(Failure::Plugin(_))));
}

#[test]
fn inert_wasi_leads_nowhere() {
    let started = std::time::Instant::now();
    let store = TestStore::memory();
    let settings = Settings { wasi: Wasi::Inert, ..Settings::default() };
    let builder = builder().settings(settings).store(store.store.clone());
    let host = builder.plugin(guest("needs_wasi")).build().expect("it loads");
    let assert_unchanged = prepared(&host, &store);
    let deletion = DeleteConversationsFromGroup::new("Work", ["c2c_bob"]);
    let results = host.call(&user("alice"), &deletion).expect("it answers").result;
    let expected = "env=0 args=0 read=refused write=refused connect=refused sleep=cut-short clock=runs random=some";
    assert_eq!(results[0].result_info, expected);
    assert_unchanged("WASI");
    // An hour was asked for.
    assert!(started.elapsed().as_secs() < 600, "it really slept");
}
