//! The reference plugin: as a file, how it is loaded, and what it makes of settings that change.

use std::sync::Arc;

use convgroups_host::api::{
    AddConversationsToGroup, ConversationFilter, CreateConversationGroup, GetConversationListByFilter,
    MarkConversation, SetConversationCustomData,
};
use convgroups_host::call::inspect_plugin;
use convgroups_host::marks::{HIDE, STAR};
use convgroups_host::model::ConversationData;
use convgroups_host::plugin::{BUNDLED, CONTRACT};
use convgroups_host::settings::{Limits, SandboxSettings, Wasi};
use convgroups_host::{BuildError, Examiner, Host, MemoryStore, PluginSource, Settings};
use convgroups_tests::bombs::{bomb, slow_to_compile};
use convgroups_tests::gated::GatedStore;
use convgroups_tests::guests::{component, examiner};
use convgroups_tests::{TestStore, ids, user};
use wit_parser::{Resolve, Type, TypeDefKind, TypeOwner};

#[test]
fn the_reference_plugin_imports_the_contract_and_nothing_else() {
    // Read by the library that component tools are made of, not by this project's own code.
    let decoded = wit_component::decode(BUNDLED).expect("it is a component");
    let resolve = decoded.resolve();
    let (_, world) = resolve.worlds.iter().next().expect("a component has a world");
    let mut imports: Vec<String> = world.imports.keys().map(|key| resolve.name_world_key(key)).collect();
    imports.sort_unstable();
    let (package, version) = CONTRACT.split_once('@').expect("a version");
    let expected = ["annotation-store", "diagnostics", "group-store", "limits", "types"]
        .map(|name| format!("{package}/{name}@{version}"));
    assert_eq!(imports, expected);
}

#[test]
fn a_host_without_a_store_is_not_built() {
    let error = Host::builder().build().expect_err("it would forget everything");
    assert!(matches!(error, BuildError::NoStore), "{error}");
    assert!(error.to_string().contains("HostBuilder::store"), "{error}");
}

#[test]
fn listing_conversations_in_no_group_does_not_read_the_groups() {
    let store = GatedStore::new(Arc::new(MemoryStore::new()));
    let host = Host::builder().store(store.clone()).build().expect("it builds");
    let alice = user("alice");
    // All that the default limits allow.
    for number in 0..20 {
        let (group, ids) = (format!("group {number}"), ids(&format!("c2c_{number}_"), 1000));
        host.call(&alice, &CreateConversationGroup::new(&group, &ids[..100])).expect("creates");
        for ids in ids[100..].chunks(100) {
            host.call(&alice, &AddConversationsToGroup::new(&group, ids)).expect("adds");
        }
    }
    host.call(&alice, &MarkConversation::new(STAR, true, ["c2c_1_0001", "c2c_bob"])).expect("marks");

    let before = store.asked();
    let filter = ConversationFilter { conversation_group: Some(String::new()), ..ConversationFilter::default() };
    let query = GetConversationListByFilter { filter, next_seq: 0, count: 100 };
    let page = host.call(&alice, &query).expect("lists").result;
    let listed: Vec<&str> = page.conversation_list.iter().map(|it| it.conversation_id.as_str()).collect();
    assert_eq!((listed, page.is_finished), (vec!["c2c_bob"], true));
    // The annotated conversations, their groups, that nothing follows, and the groups and annotations of the one found.
    assert_eq!(store.asked() - before, 5);
}

#[test]
fn over_a_limit_that_was_lowered_what_is_marked_can_be_changed_and_cleared_and_no_more_can_be_marked() {
    for (kind, store) in TestStore::all() {
        let host = |max_marked_conversations| {
            let limits = Limits { max_marked_conversations, ..Limits::default() };
            let settings = Settings { limits, ..Settings::default() };
            Host::builder().settings(settings).store(store.store.clone()).build().expect("it builds")
        };
        let alice = user("alice");
        host(3).call(&alice, &MarkConversation::new(STAR, true, ["c2c_1", "c2c_2", "c2c_3"])).expect("there is room");
        for lowered in [host(1), host(0)] {
            let more =
                lowered.call(&alice, &MarkConversation::new(STAR, true, ["c2c_4"])).expect_err("there is no room");
            assert_eq!(more.code(), 51008, "{kind}");
            lowered
                .call(&alice, &MarkConversation::new(HIDE, true, ["c2c_1", "c2c_2"]))
                .expect("these are marked already");
            lowered.call(&alice, &SetConversationCustomData::new("x", ["c2c_1"])).expect("this is marked already");
            lowered.call(&alice, &SetConversationCustomData::new("", ["c2c_1"])).expect("it leaves room");
            lowered.call(&alice, &MarkConversation::new(HIDE, false, ["c2c_1", "c2c_2"])).expect("it leaves room");
        }
        host(1).call(&alice, &MarkConversation::new(STAR, false, ["c2c_1", "c2c_2"])).expect("it leaves room");
        let state = store.store.state(&alice).expect("reads").value;
        let left = ConversationData { marks: STAR, ..ConversationData::none("c2c_3") };
        assert_eq!(state.conversations, [left], "{kind}");
    }
}

#[test]
fn names_in_a_plugin_file_reach_people_escaped_and_cut() {
    let harmful = |character: char| character.is_control() || character == '\u{202e}';
    let hostile = r"\u{1b}[2Jforged\nline\u{202e}";
    let import = |name: &str| format!("(import \"{name}\" (instance))");
    let mut many = import(&format!("url=<https://example.com/{hostile}>"));
    many.extend((0..200).map(|number| import(&format!("url=<https://example.com/{number:0>500}>"))));
    for imports in [many, import(hostile), import(&hostile.repeat(1000))] {
        let file = wat::parse_str(format!("(component {imports})")).expect("it is well formed");
        for examiner in [examiner(), Examiner::InProcess] {
            let source = PluginSource::Bytes(file.clone());
            let info = inspect_plugin(&Settings::default(), &source, &examiner).expect("it can be read");
            let problem = info.problem.expect("not a plugin").to_string();
            assert!(problem.contains(r"\u{1b}[2Jforged"), "{problem:?}");
            assert!(info.imports.len() <= 101, "{} names are shown", info.imports.len());
            for shown in info.imports.iter().chain([&problem]) {
                assert!(!shown.contains(harmful), "{shown:?}");
                assert!(shown.len() < 32 << 10, "{} bytes", shown.len());
            }
        }
    }
}

#[test]
fn the_second_start_does_not_compile() {
    let cache = tempfile::tempdir().expect("a temporary directory can be made");
    let start = || {
        let settings = Settings { cache_dir: Some(cache.path().to_owned()), ..Settings::default() };
        let host = Host::builder().store(MemoryStore::new()).settings(settings).build().expect("it builds");
        host.call(&user("alice"), &CreateConversationGroup::new("Work", ["c2c_bob"])).expect("it works");
        host.plugin_was_cached()
    };
    assert!(!start());
    assert!(start());
    for entry in std::fs::read_dir(cache.path()).expect("reads") {
        let path = entry.expect("reads").path();
        let mut bytes = std::fs::read(&path).expect("reads");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).expect("writes");
    }
    assert!(!start(), "a damaged file must not be run");
    assert!(start(), "and is replaced");
}

#[test]
fn in_process_a_host_waits_no_longer_than_its_limit_for_a_plugin() {
    let sandbox = SandboxSettings { max_compile_ms: 50, ..SandboxSettings::default() };
    let settings = Settings { sandbox, ..Settings::default() };
    let host = Host::builder()
        .store(MemoryStore::new())
        .settings(settings)
        .plugin(bomb(slow_to_compile))
        .plugin_examiner(Examiner::InProcess);
    let error = host.build().expect_err("it takes seconds").to_string();
    assert!(error.contains("longer than 50 ms to read, check and compile (sandbox.max_compile_ms)"), "{error}");
}

#[test]
fn a_plugin_from_the_cache_is_loaded_without_a_child_process() {
    let cache = tempfile::tempdir().expect("a temporary directory can be made");
    let start = |examiner, wasi| {
        let settings = Settings { cache_dir: Some(cache.path().to_owned()), wasi, ..Settings::default() };
        let plugin = PluginSource::Bytes(component("remembers").to_vec());
        Host::builder().store(MemoryStore::new()).settings(settings).plugin(plugin).plugin_examiner(examiner).build()
    };
    let none = || Examiner::Program { path: "/no/such/program".into(), arguments: Vec::new() };
    start(none(), Wasi::Refuse).expect_err("it was never examined");
    let examined = start(examiner(), Wasi::Refuse).expect("it loads");
    let cached = start(none(), Wasi::Refuse).expect("it is in the cache");
    assert!(cached.plugin_was_cached() && !examined.plugin_was_cached());
    let (examined, cached) = (examined.plugin(), cached.plugin());
    assert!(!cached.imports.is_empty());
    assert_eq!((&cached.imports, &cached.exports), (&examined.imports, &examined.exports));
    assert_eq!((&cached.contract, &cached.needs), (&examined.contract, &examined.needs));
    start(none(), Wasi::Inert).expect_err("with other rights it is examined again");
}

#[test]
fn hosts_that_want_the_same_plugin_at_once_compile_it_once() {
    let cache = tempfile::tempdir().expect("a temporary directory can be made");
    let settings = Settings { cache_dir: Some(cache.path().to_owned()), ..Settings::default() };
    let all_at_once = std::sync::Barrier::new(8);
    let compiled: usize = std::thread::scope(|scope| {
        let start = || {
            all_at_once.wait();
            let host = Host::builder().store(MemoryStore::new()).settings(settings.clone()).build().expect("it builds");
            usize::from(!host.plugin_was_cached())
        };
        let starts: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
        starts.into_iter().map(|start| start.join().expect("it starts")).sum()
    });
    assert_eq!(compiled, 1);
    assert_eq!(std::fs::read_dir(cache.path()).expect("reads").count(), 1, "the compiled plugin and nothing else");
}

#[test]
#[cfg(unix)]
fn a_cache_directory_that_others_can_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let cache = tempfile::tempdir().expect("a temporary directory can be made");
    std::fs::set_permissions(cache.path(), std::fs::Permissions::from_mode(0o777)).expect("it is ours");
    let settings = Settings { cache_dir: Some(cache.path().to_owned()), ..Settings::default() };
    let error =
        Host::builder().store(MemoryStore::new()).settings(settings).build().expect_err("anybody could run code");
    assert!(error.to_string().contains("others can write to it"), "{error}");
}

#[test]
fn a_cache_directory_that_cannot_be_created_costs_a_start_and_nothing_else() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    let settings = Settings { cache_dir: Some(file.path().join("cache")), ..Settings::default() };
    let host = Host::builder().store(MemoryStore::new()).settings(settings).build().expect("it builds");
    assert!(!host.plugin_was_cached());
}

/// Whether the file or directory could be given to somebody else, which only root can.
#[cfg(unix)]
fn given_away(path: &std::path::Path) -> bool {
    std::os::unix::fs::chown(path, Some(54_321), None).is_ok()
}

#[test]
#[cfg(unix)]
fn a_cache_directory_of_somebody_else_is_refused() {
    let cache = tempfile::tempdir().expect("a temporary directory can be made");
    if !given_away(cache.path()) {
        eprintln!("skipped: only root can make a directory somebody else's");
        return;
    }
    let settings = Settings { cache_dir: Some(cache.path().to_owned()), ..Settings::default() };
    let error =
        Host::builder().store(MemoryStore::new()).settings(settings).build().expect_err("its owner could run code");
    assert!(error.to_string().contains("belongs to another user"), "{error}");
}

#[test]
#[cfg(unix)]
fn a_compiled_plugin_that_others_can_write_to_is_compiled_again() {
    use std::os::unix::fs::PermissionsExt;
    let cache = tempfile::tempdir().expect("a temporary directory can be made");
    let start = || {
        let settings = Settings { cache_dir: Some(cache.path().to_owned()), ..Settings::default() };
        Host::builder().store(MemoryStore::new()).settings(settings).build().expect("it builds").plugin_was_cached()
    };
    let file = || {
        let mut files = std::fs::read_dir(cache.path()).expect("reads");
        files.next().expect("there is one").expect("reads").path()
    };
    assert!(!start());
    for mode in [0o664, 0o646] {
        std::fs::set_permissions(file(), std::fs::Permissions::from_mode(mode)).expect("it is ours");
        assert!(!start(), "others could have written it");
        assert!(start(), "and is replaced by one of our own");
    }
    if given_away(&file()) {
        assert!(!start(), "somebody else could have written it");
        assert!(start(), "and is replaced by one of our own");
    }
}

#[test]
fn the_reference_plugin_loads_from_bytes_and_from_a_file_alike() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let path = directory.path().join("reference.wasm");
    std::fs::write(&path, BUNDLED).expect("writes");
    let load = |source| {
        Host::builder().store(MemoryStore::new()).plugin(source).plugin_examiner(examiner()).build().expect("it loads")
    };
    let digests = [PluginSource::Bundled, PluginSource::Bytes(BUNDLED.to_vec()), PluginSource::File(path)]
        .map(|source| load(source).plugin().digest.clone());
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

#[test]
fn a_middleware_imports_and_exports_the_operations_with_the_same_types() {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../wit")).expect("the contract parses");
    let world = resolve.select_world(&[package], Some("middleware")).expect("the world is there");
    let world = &resolve.worlds[world];
    let name = |key| resolve.name_world_key(key);
    let (imports, exports): (Vec<_>, Vec<_>) =
        (world.imports.keys().map(name).collect(), world.exports.keys().map(name).collect());
    let operations = "im:conversation-groups/operations@0.1.0".to_owned();
    assert_eq!(exports, std::slice::from_ref(&operations));
    assert!(imports.contains(&operations), "{imports:?}");
    // Types that were defined in an interface which is imported and exported would be two types each.
    let defined = |name: &str| resolve.packages[package].interfaces[name];
    let types = &resolve.interfaces[defined("types")];
    assert!(types.functions.is_empty() && types.types.len() > 10, "all types are there");
    for (name, id) in &resolve.interfaces[defined("operations")].types {
        let TypeDefKind::Type(Type::Id(shared)) = resolve.types[*id].kind else {
            panic!("{name} is a type of its own")
        };
        assert_eq!(resolve.types[shared].owner, TypeOwner::Interface(defined("types")), "{name}");
    }
}
