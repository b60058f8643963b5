//! Components that were tampered with, and what never was one.

#![no_main]

use std::sync::LazyLock;

use convgroups_fuzz::guests::{ANSWERS, GROWS, LOOPS, RECURSES, plugin};
use convgroups_fuzz::{mutation, state, user};
use convgroups_host::api::{Conversations, GroupAndConversations, Request};
use convgroups_host::settings::{CallSettings, SandboxSettings};
use convgroups_host::{BuildError, Failure, Host, MemoryStore, PluginSource, Settings};
use libfuzzer_sys::fuzz_target;

/// How long a plugin may run, in milliseconds. Whether it ends, and loading does, is seen by libFuzzer's own time-out.
const DEADLINE: u64 = 20;

/// What is tampered with.
static BASES: LazyLock<[Vec<u8>; 5]> = LazyLock::new(|| {
    let [answers, loops, recurses, grows] = [ANSWERS, LOOPS, RECURSES, GROWS].map(plugin);
    [answers, loops, recurses, grows, convgroups_host::plugin::BUNDLED.to_vec()]
});

// The first byte says which component is changed by the instructions that follow; or that what follows is one.
fuzz_target!(|input: &[u8]| {
    let Some((&base, rest)) = input.split_first() else { return };
    let component = match BASES.get(usize::from(base)) {
        Some(base) => mutation::mutated(base, rest),
        None => rest.to_vec(),
    };
    let settings = Settings {
        cache: false,
        calls: CallSettings { max_concurrent: 1, ..CallSettings::default() },
        sandbox: SandboxSettings { deadline_ms: DEADLINE, max_plugin_bytes: 1 << 20, ..SandboxSettings::default() },
        ..Settings::default()
    };
    let host =
        Host::builder().settings(settings).store(MemoryStore::new()).plugin(PluginSource::Bytes(component)).build();
    match host {
        Ok(host) => run(&host),
        Err(BuildError::Plugin(error)) => assert!(!error.to_string().is_empty()),
        Err(error) => panic!("{error}"),
    }
});

fn run(host: &Host) {
    let alice = user("alice");
    let conversation_id_list = vec!["c2c_bob".to_owned(), "group_42".to_owned()];
    let conversations = Conversations { conversation_id_list: conversation_id_list.clone() };
    let group = GroupAndConversations { group_name: "Work".to_owned(), conversation_id_list };
    for request in [
        Request::CreateConversationGroup(group.clone()),
        Request::DeleteConversationsFromGroup(group),
        Request::SearchConversations(conversations),
    ] {
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
