//! The HTTP server: the SDK-shaped API for apps (`/v1`), Tencent's REST API for back ends (`/v4`), a stream of events, and
//! what operators need. `docs/http.md` is its reference.
//!
//! ```no_run
//! use convgroups_host::{Host, SqliteStore};
//! use convgroups_server::{KeySource, Server, Settings};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let mut settings = Settings::default();
//! settings.auth.sdk_app_id = 1_400_000_000;
//! settings.auth.keys_file = "usersig.keys".into();
//! let store = SqliteStore::open("convgroups.db")?;
//! let host = Host::builder().store(store).build()?;
//! let keys = KeySource::find(&settings.auth)?.ok_or("no keys")?;
//!
//! let server = Server::bind(host, &settings, keys)?;
//! println!("listening on {}", server.address());
//! server.run(async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await?;
//! # Ok(())
//! # }
//! ```

mod auth;
mod body;
mod client;
mod connection;
mod console;
mod delivery;
mod descriptors;
mod events;
mod exposition;
mod failures;
mod files;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod metrics;
mod openapi;
mod ops;
mod rates;
mod rejection;
mod reload;
mod rest;
mod sdk;
pub mod settings;
mod strict;
mod tally;
mod tls;
pub mod usersig;

use std::future::Future;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, HeaderValue, Method as HttpMethod, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum_server::tls_rustls::RustlsConfig;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, watch};
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::Instrument;
use tracing::field::Empty;

use self::auth::Authenticator;
pub use self::auth::{KEYS_VARIABLE, KeySource, KeysError};
use self::client::{Client, Proxies, Scheme};
use self::connection::Connections;
pub use self::descriptors::raise_limit_of_open_files;
pub use self::files::{FileProblem, UnusableFile};
use self::metrics::{Label, Metrics};
use self::rates::RateLimits;
use self::rejection::{Outcome, Rejection};
pub use self::reload::Reloader;
use self::settings::ServerSettings;
pub use self::settings::Settings;
use self::tally::Tally;
use convgroups_host::call::{CallContext, Host, new_request_id};
use convgroups_host::model::UserId;
use convgroups_host::settings::InvalidSetting;

/// The header that carries a request's id in every answer.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How often files and memories are looked after.
const HOUSEKEEPING: Duration = Duration::from_secs(2);

/// What all handlers share.
struct App {
    host: Host,
    settings: ServerSettings,
    auth: Authenticator,
    proxies: RwLock<Proxies>,
    warnings: Warnings,
    rates: Arc<RateLimits>,
    metrics: Metrics,
    streams: Arc<Semaphore>,
    streams_of_users: Tally,
    readiness: ops::Readiness,
    stopping: watch::Sender<bool>,
    lost_log_lines: Arc<OnceLock<Arc<AtomicU64>>>,
}

impl App {
    fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Waits until the server is to stop.
    async fn stopping(&self) {
        // The sender is here, so that this ends only with the value.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    /// The context in which a request runs as a call.
    fn call_context(&self, request_id: &str) -> Result<CallContext, Rejection> {
        if self.is_stopping() {
            return Err(Rejection::overloaded("the server is stopping"));
        }
        let max_of_user = Some(self.settings.max_calls_per_user);
        Ok(CallContext { request_id: request_id.to_owned(), max_of_user, ..CallContext::default() })
    }

    fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.settings.heartbeat_ms)
    }

    /// Warns of proxies that are not set up right.
    fn warn_of(&self, client: &Client) {
        if client.is_ignored && self.warnings.untrusted_proxy.is_due() {
            let peer = client.peer;
            tracing::warn!(
                %peer,
                "a request has a forwarded address, which is ignored, because {peer} is not in server.trusted_proxies; if it \
                 is a proxy of yours, all its clients count as one address"
            );
        }
        let is_far = client.is_proxied && !client.address.is_loopback();
        if is_far && client.scheme == Some(Scheme::Http) && self.warnings.plain_http.is_due() {
            let peer = client.peer;
            tracing::warn!(%peer, "the proxy {peer} says that a client came by plain HTTP: its UserSig was sent in the clear");
        }
    }

    /// Counts a call and writes it to the log.
    fn ended(&self, label: Label, outcome: Outcome, code: i32, user: Option<&UserId>, took: Duration) {
        self.metrics.call_ended(label, outcome, took);
        let Label { api, method } = label;
        let user = user.map_or("", UserId::as_str);
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        tracing::info!(api, method, user, outcome = outcome.as_str(), code, microseconds, "call");
    }
}

/// Warnings that are logged rarely, however often their reason occurs.
#[derive(Debug, Default)]
struct Warnings {
    untrusted_proxy: Seldom,
    plain_http: Seldom,
}

/// Allows something once in ten minutes.
#[derive(Debug, Default)]
struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    fn is_due(&self) -> bool {
        let mut last = self.0.lock();
        let is_due = last.is_none_or(|last| last.elapsed() >= Duration::from_secs(600));
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}

/// The id of a request, which its answer and all log lines about it carry.
#[derive(Clone)]
struct RequestId(String);

/// Why a server cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A setting cannot be used.
    #[error(transparent)]
    Setting(#[from] InvalidSetting),
    /// The keys that UserSigs are checked with cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The certificate or its private key cannot be used.
    #[error("TLS: {0}")]
    Certificate(#[source] UnusableFile),
    /// The address cannot be listened on.
    #[error("could not listen on {address}: {error}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// It stopped by itself.
    #[error("the server stopped: {0}")]
    Stopped(#[from] std::io::Error),
}

/// A server that listens, but does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<RustlsConfig>,
    reload: reload::Reload,
    app: Arc<App>,
    pub(crate) router: Router,
}

impl std::fmt::Debug for App {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("App").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Server {
    /// Listens as the settings say.
    ///
    /// # Errors
    ///
    /// When a setting, a key or a certificate cannot be used, plain HTTP would be spoken to other machines though the
    /// settings do not allow it, or the address is taken.
    pub fn bind(host: Host, settings: &Settings, keys: KeySource) -> Result<Self, ServerError> {
        let server = &settings.server;
        if settings.auth.sdk_app_id == 0 {
            let reason = "is not set: it is the SDKAppID that signatures are made for".to_owned();
            return Err(InvalidSetting { key: "auth.sdk_app_id", reason }.into());
        }
        let loaded = keys.load()?;
        let tls = tls::configured(server)?;
        let proxies = Proxies::new(server, tls.is_some())?;
        let (listener, address) = listen(&server.listen)?;
        if tls.is_none() && !address.ip().is_loopback() && !server.allow_plain_http {
            let reason = format!(
                "{address} can be reached from other machines, and signatures would be sent in the clear: set \
                 server.tls_certificate and server.tls_key, or, behind a proxy that speaks TLS, server.allow_plain_http"
            );
            return Err(InvalidSetting { key: "server.listen", reason }.into());
        }
        let cors = cors(&server.allowed_origins)?;
        let lost_log_lines = Arc::new(OnceLock::<Arc<AtomicU64>>::new());
        let metrics = Metrics::new(&host, {
            let (host, lost) = (host.clone(), Arc::clone(&lost_log_lines));
            move || metrics::State {
                lost_log_lines: lost.get().map_or(0, |lines| lines.load(Ordering::Relaxed)),
                calls: host.call_counts(),
                max_running: host.max_concurrent(),
                store: host.store().counts(),
            }
        });
        descriptors::check(server.max_connections, host.max_concurrent());
        let app = Arc::new(App {
            auth: Authenticator::new(&settings.auth, loaded, metrics.throttled_signatures.clone()),
            proxies: RwLock::new(proxies),
            warnings: Warnings::default(),
            rates: Arc::new(RateLimits::new(server)),
            metrics,
            streams: Arc::new(Semaphore::new(server.max_event_streams as usize)),
            streams_of_users: Tally::new(server.max_event_streams_per_user),
            readiness: ops::Readiness::default(),
            stopping: watch::Sender::new(false),
            settings: server.clone(),
            host,
            lost_log_lines,
        });
        let reload = reload::Reload::new(Arc::clone(&app), keys, tls.clone());
        let tls = tls.map(|tls| tls.config);
        let router = router(Arc::clone(&app), cors);
        Ok(Self { listener, address, tls, reload, app, router })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it speaks TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Sets the counter of lost log lines that the metrics show. The writer of the server log increments it.
    #[must_use]
    pub fn lost_log_lines(self, lines: Arc<AtomicU64>) -> Self {
        // It is set once; a second one is ignored.
        let _ = self.app.lost_log_lines.set(lines);
        self
    }

    /// Returns a handle that makes the running server read its files again.
    #[must_use]
    pub fn reloader(&self) -> Reloader {
        self.reload.reloader()
    }

    /// Answers requests until `stop` is ready; then ends the event streams, lets calls in flight finish, refuses new ones,
    /// and returns.
    ///
    /// # Errors
    ///
    /// When it cannot go on.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) -> Result<(), ServerError> {
        let Self { listener, tls, reload, app, router, .. } = self;
        let housekeeping = tokio::spawn(reload.run());
        let patience = Duration::from_millis(app.settings.shutdown_timeout_ms);
        let connections = Connections::new(router, tls, &app.settings, &app.metrics, app.stopping.subscribe());
        let mut serving = pin!(connections.serve(listener, patience));
        let served = tokio::select! {
            served = &mut serving => served,
            () = stop => {
                let until = Instant::now() + patience;
                tracing::info!("stopping: calls in flight may finish, new ones are refused");
                app.stopping.send_replace(true);
                let served = serving.await;
                // Calls whose client has gone are finished all the same.
                if tokio::time::timeout_at(until.into(), app.host.idle()).await.is_err() {
                    tracing::warn!("calls were still running when the time to stop was over");
                }
                served
            }
        };
        housekeeping.abort();
        Ok(served?)
    }
}

fn listen(address: &str) -> Result<(TcpListener, SocketAddr), ServerError> {
    let failed = |error| ServerError::Listen { address: address.to_owned(), error };
    let resolved: Vec<SocketAddr> = address.to_socket_addrs().map_err(failed)?.collect();
    let listener = TcpListener::bind(resolved.as_slice()).map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    Ok((listener, local))
}

fn cors(origins: &[String]) -> Result<CorsLayer, ServerError> {
    let mut allowed = Vec::with_capacity(origins.len());
    for origin in origins {
        let value = if is_origin(origin) { HeaderValue::from_str(origin).ok() } else { None };
        allowed.push(value.ok_or_else(|| {
            let reason = format!(
                "has {origin:?}: expected scheme, host in lower case and, where it is not the scheme's own, port, as \
                 https://chat.example.com"
            );
            InvalidSetting { key: "server.allowed_origins", reason }
        })?);
    }
    Ok(CorsLayer::new()
        .allow_origin(AllowOrigin::list(allowed))
        .allow_methods([HttpMethod::GET, HttpMethod::POST])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, HeaderName::from_static("last-event-id")])
        .expose_headers([REQUEST_ID, header::RETRY_AFTER])
        .max_age(Duration::from_secs(3600)))
}

/// Whether a browser could send this: it sends neither a path nor a slash at the end, nor a port that goes without saying;
/// and `*` would be every page there is.
fn is_origin(origin: &str) -> bool {
    let (rest, own_port) = match (origin.strip_prefix("https://"), origin.strip_prefix("http://")) {
        (Some(rest), _) => (rest, 443),
        (None, Some(rest)) => (rest, 80),
        (None, None) => return false,
    };
    let (host, port) = match rest.rsplit_once(':') {
        // Not the end of an address of IPv6, which stands in brackets.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    let in_brackets = host.strip_prefix('[').and_then(|address| address.strip_suffix(']'));
    let host_is_one = match in_brackets {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(plain),
    };
    let port_counts =
        |port: &str| port.parse().is_ok_and(|number: u16| number != own_port && number.to_string() == port);
    host_is_one && port.is_none_or(port_counts)
}

fn router(app: Arc<App>, cors: CorsLayer) -> Router {
    let sdk = Router::new()
        .route("/v1/events", get(events::events).fallback(sdk::wrong_verb))
        .route("/v1/{method}", post(sdk::call).fallback(sdk::wrong_verb))
        .layer(cors);
    Router::new()
        .merge(sdk)
        .route("/v4/{service}/{command}", any(rest::call))
        .route("/healthz", get(ops::healthz).fallback(sdk::wrong_verb))
        .route("/readyz", get(ops::readyz).fallback(sdk::wrong_verb))
        .route("/metrics", get(ops::metrics).fallback(sdk::wrong_verb))
        .route("/openapi.json", get(openapi::serve).fallback(sdk::wrong_verb))
        .merge(console::router())
        .fallback(nowhere)
        // Bodies are read with a limit of our own, which has an answer of ours.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(Arc::clone(&app), body::finish))
        .layer(middleware::from_fn(strict::check))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), identify))
        .with_state(app)
}

/// Gives a request its id and determines its client. All log lines about it carry both.
async fn identify(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let id = new_request_id();
    let client = app.proxies.read().client(&request);
    let span =
        tracing::error_span!("request", request_id = id, address = %client.address, proxy = Empty, scheme = Empty);
    if client.is_proxied {
        span.record("proxy", tracing::field::display(client.peer));
        span.record("scheme", client.scheme.map(Scheme::as_str));
    }
    span.in_scope(|| app.warn_of(&client));
    request.extensions_mut().insert(RequestId(id.clone()));
    request.extensions_mut().insert(client);
    let mut response = next.run(request).instrument(span).await;
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Responds to a path that does not exist.
async fn nowhere(uri: Uri) -> Response {
    refuse(
        &uri,
        Rejection::no_such_method(format!(
            "there is nothing at {:?}: expected a path from /openapi.json, such as \
             /v4/recentcontact/get_contact_group, without extra slashes",
            uri.path()
        )),
    )
}

/// Renders a rejection in the form of the API that the path belongs to.
fn refuse(uri: &Uri, rejection: Rejection) -> Response {
    let first = uri.path().split('/').find(|segment| !segment.is_empty());
    if first == Some("v4") { rest::render(&rejection) } else { sdk::render(rejection) }
}

/// A JSON response that must not be cached.
fn json(body: impl Into<Body>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, body.into()).into_response()
}
