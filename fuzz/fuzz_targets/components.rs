//! Components that were tampered with, components of other worlds than the contract's, and what never was one.
//!
//! Each is examined in a child process, as the program does it: this one, started again. That the libraries which decode and
//! compile panic or overflow their stack is then no finding; that the host notices and says so is what must hold.

#![no_main]

use std::sync::LazyLock;

use arbitrary::Unstructured;
use convgroups_fuzz::guests::{ANSWERS, GROWS, LOOPS, RECURSES, plugin};
use convgroups_fuzz::{mutation, state, user};
use convgroups_host::api::{CreateConversationGroup, DeleteConversationsFromGroup, Request, SearchConversations};
use convgroups_host::settings::{CallSettings, SandboxSettings};
use convgroups_host::{BuildError, Examiner, Failure, Host, MemoryStore, PluginSource, Settings};
use libfuzzer_sys::fuzz_target;

/// The argument by which this program starts itself to examine a component.
const EXAMINE: &str = "examine-plugin";
/// The first byte of inputs from which a component is generated, of whatever imports and exports.
const GENERATED: u8 = 255;

/// How long a plugin may take to be compiled, in milliseconds.
const COMPILED: u64 = 20_000;
/// How long a plugin may run, in milliseconds. Whether it ends, and loading does, is seen by libFuzzer's own time-out.
const DEADLINE: u64 = 20;

/// What is tampered with.
static BASES: LazyLock<[Vec<u8>; 5]> = LazyLock::new(|| {
    let [answers, loops, recurses, grows] = [ANSWERS, LOOPS, RECURSES, GROWS].map(plugin);
    [answers, loops, recurses, grows, convgroups_host::plugin::BUNDLED.to_vec()]
});

/// Does what a child process is started for, if this is one.
fn examine_if_asked() {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == EXAMINE) {
        let code = convgroups_host::plugin::examiner_main();
        std::process::exit(i32::from(code != std::process::ExitCode::SUCCESS));
    }
}

fn component(base: u8, rest: &[u8]) -> Option<Vec<u8>> {
    if let Some(base) = BASES.get(usize::from(base)) {
        return Some(mutation::mutated(base, rest));
    }
    if base == GENERATED {
        let mut input = Unstructured::new(rest);
        return Some(wasm_smith::Component::new(wasm_smith::Config::default(), &mut input).ok()?.to_bytes());
    }
    Some(rest.to_vec())
}

// The first byte says which component is changed by the instructions that follow; or that what follows is one, or is what one
// is generated from.
fuzz_target!(init: examine_if_asked(), |input: &[u8]| {
    let Some((&base, rest)) = input.split_first() else { return };
    let Some(component) = component(base, rest) else { return };
    let settings = Settings {
        calls: CallSettings { max_concurrent: 1, ..CallSettings::default() },
        sandbox: SandboxSettings {
            deadline_ms: DEADLINE,
            max_plugin_bytes: 1 << 20,
            max_compile_ms: COMPILED,
            ..SandboxSettings::default()
        },
        ..Settings::default()
    };
    let examiner = Examiner::this_program([EXAMINE]).expect("this program is known");
    let host = Host::builder().settings(settings).store(MemoryStore::new()).plugin(PluginSource::Bytes(component));
    match host.plugin_examiner(examiner).build() {
        Ok(host) => run(&host),
        Err(BuildError::Plugin(error)) => assert!(!error.to_string().is_empty()),
        Err(error) => panic!("{error}"),
    }
});

fn run(host: &Host) {
    let alice = user("alice");
    let ids = ["c2c_bob", "group_42"];
    let requests: [Request; 3] = [
        CreateConversationGroup::new("Work", ids).into(),
        DeleteConversationsFromGroup::new("Work", ids).into(),
        SearchConversations::new(ids).into(),
    ];
    for request in requests {
        let before = state(host.store(), &alice);
        let reply = host.call(&alice, &request);
        let after = state(host.store(), &alice);
        match reply {
            Ok(reply) => assert_eq!(after.version, reply.version.unwrap_or(before.version)),
            Err(error) => {
                assert!(!matches!(error.failure, Failure::Host(_)), "{error}");
                assert_eq!(before, after, "{error}");
            }
        }
    }
}
