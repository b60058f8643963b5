//! Every setting, with its default. The command line reads them from a file, the environment and flags; an embedder fills
//! in the structs.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::store::{Bounds, MAX_CUSTOM_DATA_BYTES, MAX_GROUPS};

/// All settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where groups are kept: `sqlite:PATH`, `postgres://USER@HOST/DATABASE` or `memory:`. Default `sqlite:convgroups.db`.
    /// Used by the command line; an embedder hands over a store.
    pub store: String,
    /// The plugin's file. Default: empty, for the reference plugin that is built in. Used by the command line.
    pub plugin: PathBuf,
    /// What plugins may do with WASI. Default `refuse`.
    pub wasi: Wasi,
    /// Where compiled plugins are kept for the next start. Default: empty, for `convgroups` in the user's cache directory.
    pub cache_dir: PathBuf,
    /// Whether compiled plugins are kept at all. Default true.
    pub cache: bool,
    /// The limits of the feature, which the plugin enforces.
    pub limits: Limits,
    /// The limits of the sandbox, which the host enforces on the plugin.
    pub sandbox: SandboxSettings,
    /// How many calls, and for how long.
    pub calls: CallSettings,
    /// The change log.
    pub events: EventSettings,
    /// The server.
    pub server: ServerSettings,
    /// Who may call the server.
    pub auth: AuthSettings,
    /// The connection to PostgreSQL, where that is the store.
    pub postgres: PostgresSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            store: "sqlite:convgroups.db".to_owned(),
            plugin: PathBuf::new(),
            wasi: Wasi::default(),
            cache_dir: PathBuf::new(),
            cache: true,
            limits: Limits::default(),
            sandbox: SandboxSettings::default(),
            calls: CallSettings::default(),
            events: EventSettings::default(),
            server: ServerSettings::default(),
            auth: AuthSettings::default(),
            postgres: PostgresSettings::default(),
        }
    }
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
        Self {
            deadline_ms: 500,
            max_memory_bytes: 16 << 20,
            max_stack_bytes: 512 << 10,
            max_core_instances: 16,
            max_memories: 4,
            max_tables: 16,
            max_table_elements: 10_000,
            max_crossing_bytes: 4 << 20,
            max_handles: 100,
            max_ids_per_import: 10_000,
            max_changes: 10_000,
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
    /// Calls that wait for their turn; the next one is turned away at once. Default 1024.
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
    pub(crate) fn timeout(&self) -> Duration {
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

/// The server: where it listens, and how much of it one caller may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// The address and port to listen on. Default `127.0.0.1:8080`.
    pub listen: String,
    /// The certificate chain, a PEM file, read again when it changes. Default: empty, for plain HTTP.
    pub tls_certificate: PathBuf,
    /// The certificate's private key, a PEM file, read again when it changes.
    pub tls_key: PathBuf,
    /// Whether plain HTTP may be spoken on other addresses than this machine's own. Default false: signatures would be
    /// there for all to read. For servers behind a proxy that speaks TLS.
    pub allow_plain_http: bool,
    /// The addresses or networks of proxies in front, as `10.0.0.7` or `10.0.0.0/8`. The client address and scheme that they
    /// forward are believed. Default: none.
    pub trusted_proxies: Vec<String>,
    /// The header in which they forward the client's address. Default `x-forwarded-for`.
    pub forwarded_header: ForwardedHeader,
    /// Web pages from these origins may call `/v1`, as `https://chat.example.com`. Default: none.
    pub allowed_origins: Vec<String>,
    /// Connections at a time; the next one is closed at once. Default 10,000.
    pub max_connections: u32,
    /// Size of a request's body, in bytes. Default 256 KiB.
    pub max_body_bytes: usize,
    /// Size of a request's headers, in bytes. Default 16 KiB.
    pub max_header_bytes: usize,
    /// How long a client may take to send a request's headers or to shake hands, in milliseconds. Default 10,000.
    pub header_timeout_ms: u64,
    /// How long a client may take to send a request's body, in milliseconds. Default 10,000.
    pub body_timeout_ms: u64,
    /// How long a client may take to read what it is sent, in milliseconds; then its HTTP/2 stream is reset, or it is
    /// disconnected. Default 30,000.
    pub write_timeout_ms: u64,
    /// How long a connection may be open without a request, in milliseconds; then it is closed. A PING of HTTP/2
    /// does not count as a request. Default 120,000.
    pub idle_timeout_ms: u64,
    /// Requests that an HTTP/2 connection may have open at a time, event streams included. Default 32.
    pub max_streams_per_connection: u32,
    /// Bytes of responses that a connection may leave unread before its next request is handled. Default 256 KiB.
    pub max_buffered_bytes_per_connection: usize,
    /// Calls of one user in flight. Default 16.
    pub max_calls_per_user: u32,
    /// Calls to `/v1` and `/v4` together in a second. Default 200, as Tencent's REST API; 0 for no limit.
    pub calls_per_second: u32,
    /// Calls of one user to `/v1` in a second. Default 50; 0 for no limit.
    pub calls_per_second_per_user: u32,
    /// Event streams at a time. Default 10,000.
    pub max_event_streams: u32,
    /// Event streams of one user at a time. Default 10.
    pub max_event_streams_per_user: u32,
    /// How often an event stream on which nothing happens is given a sign of life, in milliseconds. Default 15,000.
    pub heartbeat_ms: u64,
    /// How long calls in flight may take to end when the server is to stop, in milliseconds. Default 30,000.
    pub shutdown_timeout_ms: u64,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            tls_certificate: PathBuf::new(),
            tls_key: PathBuf::new(),
            allow_plain_http: false,
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
            allowed_origins: Vec::new(),
            max_connections: 10_000,
            max_body_bytes: 256 << 10,
            max_header_bytes: 16 << 10,
            header_timeout_ms: 10_000,
            body_timeout_ms: 10_000,
            write_timeout_ms: 30_000,
            idle_timeout_ms: 120_000,
            max_streams_per_connection: 32,
            max_buffered_bytes_per_connection: 256 << 10,
            max_calls_per_user: 16,
            calls_per_second: 200,
            calls_per_second_per_user: 50,
            max_event_streams: 10_000,
            max_event_streams_per_user: 10,
            heartbeat_ms: 15_000,
            shutdown_timeout_ms: 30_000,
        }
    }
}

/// The header in which trusted proxies forward the client's address. Only one is read, because a proxy passes on unchanged
/// what a client sent in the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For` with the address, `X-Forwarded-Proto` with the scheme.
    #[default]
    XForwardedFor,
    /// `Forwarded` with both (RFC 7239).
    Forwarded,
}

/// Who may call the server. Keys are no setting, so that `convgroups config` and logs have none: they come from
/// `keys_file`, or from the environment variable `CONVGROUPS_USERSIG_KEYS`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// The SDKAppID that signatures must be made for. Default 0, for none.
    pub sdk_app_id: u64,
    /// The file with the app's keys, one on each line: the first signs, all verify. Read again every two seconds. Default:
    /// empty, for the environment variable.
    pub keys_file: PathBuf,
    /// The identifiers that may use `/v4`, for any user. Default: none.
    pub admins: Vec<String>,
    /// How many UserSigs from one address may fail to verify in a minute. Beyond that, the server refuses new ones from the
    /// address without reading them; those that it has verified before still pass. An IPv6 network of 64 bits counts as one
    /// address. Default 300; 0 for no limit.
    pub failures_per_minute_per_address: u32,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self { sdk_app_id: 0, keys_file: PathBuf::new(), admins: Vec::new(), failures_per_minute_per_address: 300 }
    }
}

/// The connection to PostgreSQL. TLS is spoken, with a certificate that is good for the host's name, unless the database is
/// on this machine or the store's URL says `sslmode=disable`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostgresSettings {
    /// Connections of this host for calls; one more listens for notifications. Default 16.
    pub max_connections: u32,
    /// How long a statement may take, waiting for a connection and trying again included, in milliseconds; a commit has
    /// what is left of its call's time. Default 5000.
    pub timeout_ms: u64,
    /// How long it may take to connect, in milliseconds. Default 3000.
    pub connect_timeout_ms: u64,
    /// The certificates of the authorities that may have signed the database's, a PEM file. Default: empty, for those of
    /// the system.
    pub ca_file: PathBuf,
    /// A file with the password, read again for each new connection. Default: empty, for the URL's.
    pub password_file: PathBuf,
    /// Whether the schema is brought to this program's version at the start. Default true; false for those who run
    /// `convgroups migrate` themselves.
    pub migrate: bool,
    /// Whether statements are prepared once for each connection. Default true; false behind a pooler in transaction mode
    /// that does not keep track of them, which is noticed otherwise.
    pub prepare: bool,
    /// Whether hosts notify each other of changes, for which each looks twice a second anyway. Default true; false where there
    /// is no `LISTEN`, or so many hosts that it is too much work.
    pub listen: bool,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            max_connections: 16,
            timeout_ms: 5000,
            connect_timeout_ms: 3000,
            ca_file: PathBuf::new(),
            password_file: PathBuf::new(),
            migrate: true,
            prepare: true,
            listen: true,
        }
    }
}

#[cfg(feature = "postgres")]
impl PostgresSettings {
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("setting {key}: {reason}")]
pub struct InvalidSetting {
    /// Its path, as in the file.
    pub key: &'static str,
    /// Why, and what would do.
    pub reason: String,
}

impl Settings {
    /// Checks what types do not.
    ///
    /// # Errors
    ///
    /// The first setting that is out of its range.
    pub fn check(&self) -> Result<(), InvalidSetting> {
        let Self { limits, sandbox, calls, events, server, postgres, .. } = self;
        let within = |key, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(InvalidSetting { key, reason: format!("is {value}, must be {least} to {most}") })
        };
        let any = u64::from(u32::MAX);
        within("sandbox.max_ids_per_import", sandbox.max_ids_per_import.into(), 1, 1_000_000)?;
        within("limits.max_groups", limits.max_groups.into(), 0, MAX_GROUPS as u64)?;
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
        within("events.keep_per_user", events.keep_per_user.into(), 1, any)?;
        within("server.max_connections", server.max_connections.into(), 1, 1_000_000)?;
        within("server.max_body_bytes", server.max_body_bytes as u64, 1 << 10, 64 << 20)?;
        within("server.max_header_bytes", server.max_header_bytes as u64, 8 << 10, 1 << 20)?;
        within("server.header_timeout_ms", server.header_timeout_ms, 10, 600_000)?;
        within("server.body_timeout_ms", server.body_timeout_ms, 10, 600_000)?;
        within("server.write_timeout_ms", server.write_timeout_ms, 10, 600_000)?;
        within("server.idle_timeout_ms", server.idle_timeout_ms, 10, 3_600_000)?;
        within("server.max_streams_per_connection", server.max_streams_per_connection.into(), 1, 10_000)?;
        let buffered = server.max_buffered_bytes_per_connection as u64;
        within("server.max_buffered_bytes_per_connection", buffered, 1 << 10, 1 << 30)?;
        within("server.max_calls_per_user", server.max_calls_per_user.into(), 1, any)?;
        within("server.max_event_streams_per_user", server.max_event_streams_per_user.into(), 1, any)?;
        within("server.heartbeat_ms", server.heartbeat_ms, 10, 600_000)?;
        within("server.shutdown_timeout_ms", server.shutdown_timeout_ms, 0, 3_600_000)?;
        within("postgres.max_connections", postgres.max_connections.into(), 1, 10_000)?;
        within("postgres.timeout_ms", postgres.timeout_ms, 10, 600_000)?;
        within("postgres.connect_timeout_ms", postgres.connect_timeout_ms, 10, 600_000)
    }
}

fn ids(sandbox: &SandboxSettings) -> u64 {
    sandbox.max_ids_per_import.into()
}
