//! The reference plugin as a file, and how it is loaded.

use convgroups_host::plugin::{BUNDLED, CONTRACT};
use convgroups_host::{Host, PluginSource, Settings};
use convgroups_tests::user;

#[test]
fn the_reference_plugin_imports_the_contract_and_nothing_else() {
    // Read by the library that component tools are made of, not by this project's own code.
    let decoded = wit_component::decode(BUNDLED).expect("it is a component");
    let resolve = decoded.resolve();
    let (_, world) = resolve.worlds.iter().next().expect("a component has a world");
    let mut imports: Vec<String> = world.imports.keys().map(|key| resolve.name_world_key(key)).collect();
    imports.sort_unstable();
    let (package, version) = CONTRACT.split_once('@').expect("a version");
    let expected = ["diagnostics", "group-store", "settings"].map(|name| format!("{package}/{name}@{version}"));
    assert_eq!(imports, expected);
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
fn the_reference_plugin_loads_from_bytes_and_from_a_file_alike() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let path = directory.path().join("reference.wasm");
    std::fs::write(&path, BUNDLED).expect("writes");
    let digests = [PluginSource::Bundled, PluginSource::Bytes(BUNDLED.to_vec()), PluginSource::File(path)]
        .map(|source| Host::builder().plugin(source).build().expect("it loads").plugin().digest.clone());
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}
