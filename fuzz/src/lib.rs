//! What the targets have in common: hosts, what users have in them, and guests.

pub mod guests;
pub mod mutation;
pub mod served;

use std::sync::Arc;

use convgroups_host::model::{Change, ConversationData, Origin, UserState};
use convgroups_host::settings::{CallSettings, SandboxSettings};
use convgroups_host::store::{Commit, CommitOutcome, Skip, Store, Versioned};
use convgroups_host::{Examiner, Host, MemoryStore, PluginSource, Settings, UserId};

/// Where plugins that were compiled once are kept, so that a host with one of them is made quickly.
const COMPILED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/fuzz/compiled");

/// The key that signatures are made with.
pub const KEY: &str = "a key that is known to the target alone";

/// For hosts whose plugin can be trusted: a machine that is busy with fuzzing makes no call fail.
#[must_use]
pub fn patient_settings() -> Settings {
    Settings {
        cache_dir: Some(COMPILED.into()),
        calls: CallSettings { max_concurrent: 1, timeout_ms: 600_000, ..CallSettings::default() },
        sandbox: SandboxSettings { deadline_ms: 300_000, ..SandboxSettings::default() },
        ..Settings::default()
    }
}

/// A host on an empty store in memory.
///
/// # Panics
///
/// When the plugin cannot be loaded.
#[must_use]
pub fn host(settings: Settings, plugin: PluginSource) -> Host {
    let host = Host::builder().settings(settings).store(MemoryStore::new()).plugin(plugin);
    // It is one of our own.
    host.plugin_examiner(Examiner::InProcess).build().expect("the plugin loads")
}

/// A user's id that is known to be valid.
///
/// # Panics
///
/// When it is not.
#[must_use]
pub fn user(id: &str) -> UserId {
    UserId::new(id).expect("a valid user id")
}

/// Everything that a user has.
///
/// # Panics
///
/// When the store fails, which one in memory does not.
#[must_use]
pub fn state(store: &Arc<dyn Store>, user: &UserId) -> Versioned<UserState> {
    store.state(user).expect("memory can be read")
}

/// Commits changes to what a user has.
///
/// # Panics
///
/// When they do not fit.
pub fn commit(store: &Arc<dyn Store>, user: &UserId, changes: Vec<Change>) {
    let commit = Commit {
        user: user.clone(),
        base: state(store, user).version,
        changes,
        skip: Skip::default(),
        origin: Origin { method: "fuzz".to_owned(), request_id: String::new() },
        keep: 1,
        deadline: None,
    };
    assert!(matches!(store.commit(commit), Ok(CommitOutcome::Committed(_))));
}

/// Takes everything from a user, so that the next input begins with nothing. Versions and numbers of groups go on.
pub fn empty(store: &Arc<dyn Store>, user: &UserId) {
    let UserState { groups, conversations } = state(store, user).value;
    let deleted = groups.into_iter().map(|group| Change::GroupDeleted { group_name: group.group_name });
    let mut changes: Vec<Change> = deleted.collect();
    if !conversations.is_empty() {
        let none = |data: ConversationData| ConversationData::none(data.conversation_id);
        let conversation_list = conversations.into_iter().map(none).collect();
        changes.push(Change::ConversationsChanged { conversation_list });
    }
    if !changes.is_empty() {
        commit(store, user, changes);
    }
}

/// Something that is made anew every this many inputs, so that what they leave behind does not pile up.
#[derive(Debug)]
pub struct Renewed<T> {
    make: fn() -> T,
    current: Option<T>,
    used: u32,
}

impl<T> Renewed<T> {
    /// How many inputs one serves.
    const INPUTS: u32 = 20_000;

    /// Is made when it is needed.
    #[must_use]
    pub const fn by(make: fn() -> T) -> Self {
        Self { make, current: None, used: 0 }
    }

    /// The one for the next input.
    pub fn get(&mut self) -> &mut T {
        self.used += 1;
        if self.used > Self::INPUTS {
            self.current = None;
            self.used = 1;
        }
        self.current.get_or_insert_with(self.make)
    }
}
