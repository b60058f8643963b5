//! The settings of the server, with their defaults and ranges.

use std::path::PathBuf;

use convgroups_host::settings::{InvalidSetting, within};
use serde::{Deserialize, Serialize};

/// The settings of a [`Server`](crate::Server).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the server listens, and how much of it one caller may use.
    pub server: ServerSettings,
    /// Who may call the server.
    pub auth: AuthSettings,
}

impl Settings {
    /// Checks what types do not.
    ///
    /// # Errors
    ///
    /// The first setting that is out of its range.
    pub fn check(&self) -> Result<(), InvalidSetting> {
        let Self { server, .. } = self;
        let any = u64::from(u32::MAX);
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
        within("server.shutdown_timeout_ms", server.shutdown_timeout_ms, 0, 3_600_000)
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
