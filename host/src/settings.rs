//! The settings of hosts and of the PostgreSQL store, with their defaults and ranges. The program reads them from a file, the
//! environment and flags; an embedder fills in the structs.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::range::{InvalidSetting, within};
pub use crate::store::PostgresSettings;
use crate::store::{Bounds, MAX_CUSTOM_DATA_BYTES, MAX_GROUPS};

/// The settings of a [`Host`](crate::Host).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What plugins may do with WASI. Default `refuse`.
    pub wasi: Wasi,
    /// The directory that keeps compiled plugins for the next start. It is created if it is missing. Where it cannot be created,
    /// plugins are compiled at every start, with a warning in the server log; where other users can write to it, building a host
    /// fails. Default: `None`, so that nothing is written.
    pub cache_dir: Option<PathBuf>,
    /// The limits of the feature, which the plugin enforces.
    pub limits: Limits,
    /// The limits of the sandbox, which the host enforces on the plugin.
    pub sandbox: SandboxSettings,
    /// How many calls, and for how long.
    pub calls: CallSettings,
    /// The change log.
    pub events: EventSettings,
}

/// What plugins may do with WASI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wasi {
    /// A plugin that imports any of it is not loaded.
    #[default]
    Refuse,
    /// It is there and leads nowhere: no files, environment, arguments or network; output goes to the log. Clocks and
    /// random numbers work. For plugins whose toolchain cannot do without.
    Inert,
}

/// The limits of conversation groups and marks, with Tencent Cloud Chat's numbers as defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Groups that a user may have. Default 20; the store takes up to 1000.
    pub max_groups: u32,
    /// Length of a group's name, in bytes of UTF-8. Default 32; the store takes up to 256.
    pub max_group_name_bytes: u32,
    /// Length of a conversation's id, in bytes of UTF-8. Default 255; the store takes up to 1024.
    pub max_conversation_id_bytes: u32,
    /// Conversations that one call may name to change. Default 100.
    pub max_conversations_per_call: u32,
    /// Conversations that one search may name. Default 300.
    pub max_conversations_per_search: u32,
    /// Conversations on one page of a listing. Default 100.
    pub max_conversations_per_page: u32,
    /// Conversations that a group may hold. Default 1000.
    pub max_conversations_per_group: u32,
    /// What happens when a group would pass `max_conversations_per_group`. Default `refuse`.
    pub when_full: WhenFull,
    /// Conversations of a user that may have marks or custom data. Default 1000; at most 1,000,000.
    pub max_marked_conversations: u32,
    /// Length of a conversation's custom data, in bytes of UTF-8. Default 256; the store takes up to 4096.
    pub max_custom_data_bytes: u32,
    /// Whether a group may be created without naming a conversation. Default false.
    pub allow_empty_creation: bool,
    /// Whether a new name of a group may be blank, begin or end with a blank, or have invisible characters or bidirectional
    /// controls. Default false.
    pub allow_unusual_group_names: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_groups: 20,
            max_group_name_bytes: 32,
            max_conversation_id_bytes: 255,
            max_conversations_per_call: 100,
            max_conversations_per_search: 300,
            max_conversations_per_page: 100,
            max_conversations_per_group: 1000,
            when_full: WhenFull::default(),
            max_marked_conversations: 1000,
            max_custom_data_bytes: 256,
            allow_empty_creation: false,
            allow_unusual_group_names: false,
        }
    }
}

/// What happens when a group is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// The addition is refused (51008).
    #[default]
    Refuse,
    /// The oldest leave; listeners learn the reason (1).
    EvictOldest,
}

/// What one call may use of the machine. All are armed anew for each call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SandboxSettings {
    /// How long a plugin may run, in milliseconds; it is stopped at most a tenth later. Default 500.
    pub deadline_ms: u64,
    /// Memory of all linear memories and tables of a call together, in bytes; what the host holds for the call's changes, or to
    /// answer one import, may be as large. Default 16 MiB.
    pub max_memory_bytes: usize,
    /// Stack of the plugin's code, in bytes. Default 512 KiB.
    pub max_stack_bytes: usize,
    /// Core instances that a plugin may be made of. Default 16.
    pub max_core_instances: u32,
    /// Linear memories that a plugin may have. Default 4.
    pub max_memories: u32,
    /// Tables that a plugin may have. Default 16.
    pub max_tables: u32,
    /// Elements that one table may have. Default 10,000.
    pub max_table_elements: usize,
    /// What one crossing between plugin and host may copy, in bytes: arguments and result of an import, the result of a call,
    /// also as JSON. Default 4 MiB.
    pub max_crossing_bytes: usize,
    /// Handles to resources: WASI's, and such as the plugin has of its own. Default 100.
    pub max_handles: usize,
    /// Ids that a plugin may pass to one import. Default 10,000.
    pub max_ids_per_import: u32,
    /// Groups and conversations that one call may change. Default 10,000; at most 1,000,000.
    pub max_changes: u32,
    /// Size of a plugin's file, in bytes. Default 32 MiB.
    pub max_plugin_bytes: u64,
    /// How long it may take to read, check and compile a plugin, in milliseconds; then it is not loaded. Default 60,000.
    pub max_compile_ms: u64,
    /// Address space of the process that checks and compiles a plugin which is not built in, in bytes. Default 2 GiB; at least
    /// 256 MiB.
    pub max_compile_memory_bytes: u64,
    /// Memory that a sandbox keeps for the next call, zeroed rather than given back to the system, in bytes. Default
    /// 256 KiB.
    pub keep_resident_bytes: usize,
}

impl Default for SandboxSettings {
    fn default() -> Self {
        let Bounds { max_ids, max_changes, max_result_bytes, max_held_bytes } = Bounds::default();
        Self {
            deadline_ms: 500,
            max_memory_bytes: max_held_bytes,
            max_stack_bytes: 512 << 10,
            max_core_instances: 16,
            max_memories: 4,
            max_tables: 16,
            max_table_elements: 10_000,
            max_crossing_bytes: max_result_bytes,
            max_handles: 100,
            max_ids_per_import: max_ids,
            max_changes,
            max_plugin_bytes: 32 << 20,
            max_compile_ms: 60_000,
            max_compile_memory_bytes: 2 << 30,
            keep_resident_bytes: 256 << 10,
        }
    }
}

impl SandboxSettings {
    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    /// How much one call may ask of the store.
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            max_ids: self.max_ids_per_import,
            max_changes: self.max_changes,
            max_result_bytes: self.max_crossing_bytes,
            max_held_bytes: self.max_memory_bytes,
        }
    }
}

/// How calls are admitted and repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallSettings {
    /// Calls in flight. Default 128.
    pub max_concurrent: u32,
    /// The most queued calls; further calls are rejected at once. Default 1024.
    pub max_waiting: u32,
    /// How long a call may take in all, waiting included, in milliseconds. Default 5000.
    pub timeout_ms: u64,
    /// How often a call is run when other hosts keep changing the same user's groups. Default 10.
    pub max_attempts: u32,
}

impl Default for CallSettings {
    fn default() -> Self {
        Self { max_concurrent: 128, max_waiting: 1024, timeout_ms: 5000, max_attempts: 10 }
    }
}

impl CallSettings {
    /// How long a call may take in all.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// The change log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventSettings {
    /// Changes that are kept for each user; a reader that is further behind gets the whole state. Default 100.
    pub keep_per_user: u32,
}

impl Default for EventSettings {
    fn default() -> Self {
        Self { keep_per_user: 100 }
    }
}

impl Settings {
    /// Checks what types do not.
    ///
    /// # Errors
    ///
    /// The first setting that is out of its range.
    pub fn check(&self) -> Result<(), InvalidSetting> {
        let Self { limits, sandbox, calls, events, .. } = self;
        within("sandbox.max_ids_per_import", sandbox.max_ids_per_import.into(), 1, 1_000_000)?;
        within("limits.max_groups", limits.max_groups.into(), 0, MAX_GROUPS.into())?;
        within("limits.max_group_name_bytes", limits.max_group_name_bytes.into(), 1, 256)?;
        within("limits.max_conversation_id_bytes", limits.max_conversation_id_bytes.into(), 1, 1024)?;
        within("limits.max_conversations_per_call", limits.max_conversations_per_call.into(), 1, ids(sandbox))?;
        within("limits.max_conversations_per_search", limits.max_conversations_per_search.into(), 1, ids(sandbox))?;
        within(
            "limits.max_conversations_per_page",
            limits.max_conversations_per_page.into(),
            1,
            ids(sandbox).min(999),
        )?;
        within("limits.max_conversations_per_group", limits.max_conversations_per_group.into(), 1, 1_000_000)?;
        within("limits.max_marked_conversations", limits.max_marked_conversations.into(), 0, 1_000_000)?;
        let most = MAX_CUSTOM_DATA_BYTES as u64;
        within("limits.max_custom_data_bytes", limits.max_custom_data_bytes.into(), 0, most)?;
        within("sandbox.deadline_ms", sandbox.deadline_ms, 10, 600_000)?;
        within("sandbox.max_memory_bytes", sandbox.max_memory_bytes as u64, 64 << 10, 4 << 30)?;
        within("sandbox.max_stack_bytes", sandbox.max_stack_bytes as u64, 16 << 10, 1 << 20)?;
        within("sandbox.max_core_instances", sandbox.max_core_instances.into(), 1, 1000)?;
        within("sandbox.max_memories", sandbox.max_memories.into(), 1, 100)?;
        within("sandbox.max_tables", sandbox.max_tables.into(), 1, 1000)?;
        within("sandbox.max_table_elements", sandbox.max_table_elements as u64, 1, 10_000_000)?;
        // What a call may name must be possible to change, and to answer with some text for each.
        let batch = u64::from(limits.max_conversations_per_call);
        within("sandbox.max_changes", sandbox.max_changes.into(), batch + 1, 1_000_000)?;
        within("sandbox.max_compile_ms", sandbox.max_compile_ms, 1, 3_600_000)?;
        within("sandbox.max_compile_memory_bytes", sandbox.max_compile_memory_bytes, 256 << 20, 1 << 40)?;
        within("sandbox.max_crossing_bytes", sandbox.max_crossing_bytes as u64, 64 << 10, 1 << 30)?;
        within("calls.max_concurrent", calls.max_concurrent.into(), 1, 10_000)?;
        within("calls.timeout_ms", calls.timeout_ms, 1, 3_600_000)?;
        within("calls.max_attempts", calls.max_attempts.into(), 1, 1000)?;
        within("events.keep_per_user", events.keep_per_user.into(), 1, u32::MAX.into())
    }
}

fn ids(sandbox: &SandboxSettings) -> u64 {
    sandbox.max_ids_per_import.into()
}
