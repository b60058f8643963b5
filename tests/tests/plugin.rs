//! The reference plugin: as a file, how it is loaded, and what it makes of settings that change.

use convgroups_host::marks::{HIDE, STAR};
use convgroups_host::model::ConversationData;
use convgroups_host::plugin::{BUNDLED, CONTRACT};
use convgroups_host::settings::Limits;
use convgroups_host::{Host, PluginSource, Settings};
use convgroups_tests::{TestStore, user};

#[test]
fn the_reference_plugin_imports_the_contract_and_nothing_else() {
    // Read by the library that component tools are made of, not by this project's own code.
    let decoded = wit_component::decode(BUNDLED).expect("it is a component");
    let resolve = decoded.resolve();
    let (_, world) = resolve.worlds.iter().next().expect("a component has a world");
    let mut imports: Vec<String> = world.imports.keys().map(|key| resolve.name_world_key(key)).collect();
    imports.sort_unstable();
    let (package, version) = CONTRACT.split_once('@').expect("a version");
    let expected =
        ["diagnostics", "group-store", "mark-store", "settings"].map(|name| format!("{package}/{name}@{version}"));
    assert_eq!(imports, expected);
}

#[test]
fn over_a_limit_that_was_lowered_what_is_marked_can_be_changed_and_cleared_and_no_more_can_be_marked() {
    for (kind, store) in TestStore::all() {
        let host = |max_marked_conversations| {
            let limits = Limits { max_marked_conversations, ..Limits::default() };
            let settings = Settings { limits, ..Settings::default() };
            Host::builder().settings(settings).shared_store(store.store.clone()).build().expect("it builds")
        };
        let alice = user("alice");
        host(3).mark_conversation(&alice, STAR, true, ["c2c_1", "c2c_2", "c2c_3"]).expect("there is room");
        for lowered in [host(1), host(0)] {
            let more = lowered.mark_conversation(&alice, STAR, true, ["c2c_4"]).expect_err("there is no room");
            assert_eq!(more.code(), 51008, "{kind}");
            lowered.mark_conversation(&alice, HIDE, true, ["c2c_1", "c2c_2"]).expect("these are marked already");
            lowered.set_conversation_custom_data(&alice, "x", ["c2c_1"]).expect("this is marked already");
            lowered.set_conversation_custom_data(&alice, "", ["c2c_1"]).expect("it leaves room");
            lowered.mark_conversation(&alice, HIDE, false, ["c2c_1", "c2c_2"]).expect("it leaves room");
        }
        host(1).mark_conversation(&alice, STAR, false, ["c2c_1", "c2c_2"]).expect("it leaves room");
        let state = store.store.state(&alice).expect("reads").value;
        let left = ConversationData { marks: STAR, ..ConversationData::none("c2c_3") };
        assert_eq!(state.conversations, [left], "{kind}");
    }
}

#[test]
fn the_second_start_does_not_compile() {
    let cache = tempfile::tempdir().expect("a temporary directory can be made");
    let start = || {
        let settings = Settings { cache_dir: cache.path().to_owned(), ..Settings::default() };
        let host = Host::builder().settings(settings).build().expect("it builds");
        host.create_conversation_group(&user("alice"), "Work", ["c2c_bob"]).expect("it works");
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
fn hosts_that_want_the_same_plugin_at_once_compile_it_once() {
    let cache = tempfile::tempdir().expect("a temporary directory can be made");
    let settings = Settings { cache_dir: cache.path().to_owned(), ..Settings::default() };
    let all_at_once = std::sync::Barrier::new(8);
    let compiled: usize = std::thread::scope(|scope| {
        let start = || {
            all_at_once.wait();
            let host = Host::builder().settings(settings.clone()).build().expect("it builds");
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
    let settings = Settings { cache_dir: cache.path().to_owned(), ..Settings::default() };
    let error = Host::builder().settings(settings).build().expect_err("anybody could run code");
    assert!(error.to_string().contains("others can write to it"), "{error}");
}

#[test]
fn a_cache_directory_that_cannot_be_created_costs_a_start_and_nothing_else() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    let settings = Settings { cache_dir: file.path().join("cache"), ..Settings::default() };
    let host = Host::builder().settings(settings).build().expect("it builds");
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
    let settings = Settings { cache_dir: cache.path().to_owned(), ..Settings::default() };
    let error = Host::builder().settings(settings).build().expect_err("its owner could run code");
    assert!(error.to_string().contains("belongs to another user"), "{error}");
}

#[test]
#[cfg(unix)]
fn a_compiled_plugin_that_others_can_write_to_is_compiled_again() {
    use std::os::unix::fs::PermissionsExt;
    let cache = tempfile::tempdir().expect("a temporary directory can be made");
    let start = || {
        let settings = Settings { cache_dir: cache.path().to_owned(), ..Settings::default() };
        Host::builder().settings(settings).build().expect("it builds").plugin_was_cached()
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
    let digests = [PluginSource::Bundled, PluginSource::Bytes(BUNDLED.to_vec()), PluginSource::File(path)]
        .map(|source| Host::builder().plugin(source).build().expect("it loads").plugin().digest.clone());
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}
