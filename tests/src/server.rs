//! A server in this process, spoken to over real sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use convgroups_host::store::Store;
use convgroups_host::{EventId, Examiner, Host, MemoryStore, PluginSource};
use convgroups_server::settings::{AuthSettings, ServerSettings};
use convgroups_server::usersig::Keys;
use convgroups_server::{KeySource, Server, ServerError};
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::HeaderMap;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::sync::oneshot;

/// The app that signatures are made for.
pub const APP: u64 = 1_400_000_000;
/// Who may use `/v4`.
pub const ADMIN: &str = "administrator";
/// What signs.
pub const KEY: &str = "a key for tests of more than 16 bytes";
/// Far longer than anything takes; only what hangs uses it up.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Seconds since 1970.
///
/// # Panics
///
/// When the clock is before that.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs()
}

/// A valid signature.
#[must_use]
pub fn sign(identifier: &str) -> String {
    keys().sign(identifier, APP, now(), 3600)
}

/// What signs and verifies where a test does not say otherwise.
///
/// # Panics
///
/// Never: the key is long enough.
#[must_use]
pub fn keys() -> Keys {
    Keys::parse(KEY).expect("a key of enough bytes")
}

/// Makes or replaces a file that nobody else may read, in one step, as an operator should.
///
/// # Panics
///
/// When it cannot be written.
pub fn put_secret(path: &Path, content: impl AsRef<[u8]>) {
    let new = path.with_extension("new");
    let mut options = std::fs::File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&new).and_then(|mut file| file.write_all(content.as_ref()));
    written.and_then(|()| std::fs::rename(&new, path)).expect("it can be written");
}

/// The address of a command for back ends.
#[must_use]
pub fn rest_path(command: &str, identifier: &str, signature: &str) -> String {
    format!(
        "/v4/recentcontact/{command}?sdkappid={APP}&identifier={identifier}&usersig={signature}&random=1&contenttype=json"
    )
}

/// Looks again and again until something is so.
///
/// # Panics
///
/// When it does not become so.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The settings of a server and of its host, which can be changed without saying whose they are.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The host's.
    pub host: convgroups_host::Settings,
    /// Where the server listens, and how much of it one caller may use.
    pub server: ServerSettings,
    /// Who may call the server.
    pub auth: AuthSettings,
}

impl Settings {
    /// The server's.
    #[must_use]
    pub fn of_server(&self) -> convgroups_server::Settings {
        convgroups_server::Settings { server: self.server.clone(), auth: self.auth.clone() }
    }
}

impl Deref for Settings {
    type Target = convgroups_host::Settings;

    fn deref(&self) -> &Self::Target {
        &self.host
    }
}

impl DerefMut for Settings {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.host
    }
}

/// What a server is to be like.
#[derive(Debug)]
pub struct Setup {
    settings: Settings,
    keys: KeySource,
    store: Arc<dyn Store>,
    plugin: Option<PluginSource>,
}

impl Default for Setup {
    /// Without limits on rates, and with the patience that a busy machine needs.
    fn default() -> Self {
        let mut settings = Settings::default();
        settings.auth.sdk_app_id = APP;
        settings.auth.admins = vec![ADMIN.to_owned()];
        settings.auth.failures_per_minute_per_address = 0;
        "127.0.0.1:0".clone_into(&mut settings.server.listen);
        settings.server.calls_per_second = 0;
        settings.server.calls_per_second_per_user = 0;
        settings.server.header_timeout_ms = 120_000;
        settings.server.body_timeout_ms = 120_000;
        settings.server.write_timeout_ms = 120_000;
        settings.server.idle_timeout_ms = 600_000;
        settings.server.heartbeat_ms = 120_000;
        settings.server.shutdown_timeout_ms = 60_000;
        settings.calls.timeout_ms = 60_000;
        settings.sandbox.deadline_ms = 10_000;
        Self { settings, keys: KeySource::Fixed(keys()), store: Arc::new(MemoryStore::new()), plugin: None }
    }
}

impl Setup {
    /// With other settings.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// With other keys.
    #[must_use]
    pub fn keys(self, keys: KeySource) -> Self {
        Self { keys, ..self }
    }

    /// On this store.
    #[must_use]
    pub fn store(self, store: Arc<dyn Store>) -> Self {
        Self { store, ..self }
    }

    /// With this plugin.
    #[must_use]
    pub fn plugin(self, plugin: PluginSource) -> Self {
        Self { plugin: Some(plugin), ..self }
    }

    /// Binds, and runs nothing.
    ///
    /// # Errors
    ///
    /// The server's.
    ///
    /// # Panics
    ///
    /// When there can be no host with these settings.
    pub fn bind(self) -> Result<(Server, Host), ServerError> {
        let Self { settings, keys, store, plugin } = self;
        let builder = Host::builder().settings(settings.host.clone()).store(store);
        let builder = match plugin {
            Some(plugin) => builder.plugin(plugin).plugin_examiner(Examiner::InProcess),
            None => builder,
        };
        let host = builder.build().expect("the host builds");
        Server::bind(host.clone(), &settings.of_server(), keys).map(|server| (server, host))
    }

    /// Binds and runs.
    ///
    /// # Panics
    ///
    /// When the server cannot run with these settings.
    #[must_use]
    pub fn start(self) -> TestServer {
        let (server, host) = self.bind().expect("the server binds");
        let address = server.address();
        let scheme = if server.is_secure() { "https" } else { "http" };
        let (stop, stopped) = oneshot::channel::<()>();
        let running = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.expect("threads can be made").block_on(server.run(async {
                // Dropped is stopped, too.
                let _ = stopped.await;
            }))
        });
        let base = format!("{scheme}://{address}");
        TestServer { address, base, host, client: client(), stop: Some(stop), running: Some(running) }
    }
}

/// A client with connections of its own.
///
/// # Panics
///
/// When it cannot be made.
#[must_use]
pub fn client() -> Client {
    client_trusting(RootCertStore::empty())
}

/// A client for TLS with certificates of these authorities.
///
/// # Panics
///
/// When it cannot be made.
#[must_use]
pub fn client_trusting(roots: RootCertStore) -> Client {
    let mut tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let client = Client::builder().no_proxy().timeout(PATIENCE).tls_backend_preconfigured(tls);
    client.build().expect("a client can be made")
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct TestServer {
    address: SocketAddr,
    base: String,
    host: Host,
    client: Client,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<Result<(), ServerError>>>,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A test that has failed may hold what the server waits for.
        if !std::thread::panicking()
            && let Some(running) = self.running.take()
        {
            running.join().expect("the server does not panic").expect("the server stops well");
        }
    }
}

impl TestServer {
    /// One as most tests want it.
    #[must_use]
    pub fn start() -> Self {
        Setup::default().start()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The host behind it.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The whole of an address.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Asks it to stop, and does not wait for that.
    pub fn ask_to_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(self) {
        drop(self);
    }

    /// A request to be filled in.
    pub fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(self.url(path))
    }

    /// Asks for something.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    #[must_use]
    pub fn get(&self, path: &str) -> Reply {
        Reply::to(self.client.get(self.url(path)))
    }

    /// A call of a user.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub fn sdk(&self, user: &str, method: &str, params: &Value) -> Reply {
        self.sdk_signed(&sign(user), method, &params.to_string())
    }

    /// A call with any signature and any body.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub fn sdk_signed(&self, signature: &str, method: &str, body: &str) -> Reply {
        let request = self.post(&format!("/v1/{method}")).bearer_auth(signature);
        Reply::to(request.body(body.to_owned()))
    }

    /// A command of the admin.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub fn rest(&self, command: &str, body: &Value) -> Reply {
        self.rest_at(&rest_path(command, ADMIN, &sign(ADMIN)), body.to_string())
    }

    /// A command at any address, with any body.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub fn rest_at(&self, path: &str, body: impl Into<reqwest::blocking::Body>) -> Reply {
        Reply::to(self.post(path).body(body))
    }

    /// A connection that nothing was sent on.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream
    }

    /// Sends bytes on a connection of their own, and gives back what comes until that is closed.
    ///
    /// # Panics
    ///
    /// When it is not closed.
    #[must_use]
    pub fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // A server that has read enough closes without reading the rest.
        let _ = stream.write_all(bytes);
        rest_of(&mut stream)
    }

    /// The event stream of a user; `query` is what follows the path.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn events(&self, user: &str, query: &str, last_event_id: Option<&str>) -> EventStream {
        self.try_events(&sign(user), query, last_event_id).expect("a stream")
    }

    /// An event stream, or why there is none.
    ///
    /// # Errors
    ///
    /// What was answered instead.
    ///
    /// # Panics
    ///
    /// When nothing is answered.
    pub fn try_events(
        &self,
        signature: &str,
        query: &str,
        last_event_id: Option<&str>,
    ) -> Result<EventStream, Box<Reply>> {
        let mut request = self.client.get(self.url(&format!("/v1/events{query}"))).bearer_auth(signature);
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().expect("an answer");
        if response.status() == 200 { Ok(EventStream::from(response)) } else { Err(Box::new(Reply::from(response))) }
    }

    /// The value of a line of `/metrics`; 0 when there is none.
    ///
    /// # Panics
    ///
    /// When the metrics cannot be read.
    #[must_use]
    pub fn metric(&self, series: &str) -> u64 {
        let metrics = self.get("/metrics").body;
        let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().expect("a number"))
    }
}

/// What comes on a connection until it is closed, orderly or not.
///
/// # Panics
///
/// When it is not closed.
#[must_use]
pub fn rest_of(stream: &mut impl Read) -> String {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => all.extend(buffer.iter().take(count)),
            Err(error) => {
                let closed = matches!(
                    error.kind(),
                    std::io::ErrorKind::ConnectionReset
                        | std::io::ErrorKind::ConnectionAborted
                        | std::io::ErrorKind::BrokenPipe
                );
                assert!(closed, "the server does not close: {error}");
                break;
            }
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// One answer on a connection that stays open.
///
/// # Panics
///
/// When none comes, or it does not say how long it is.
#[must_use]
pub fn answer_on(stream: &mut impl Read) -> String {
    try_answer_on(stream).expect("an answer comes")
}

/// As [`answer_on`], where the server may end the connection first.
///
/// # Errors
///
/// When the connection ends before the answer does, or the answer does not say how long it is.
pub fn try_answer_on(stream: &mut impl Read) -> std::io::Result<String> {
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        answer.extend(byte);
    }
    let head = String::from_utf8(answer).map_err(invalid)?;
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.ok_or_else(|| invalid("no content-length in the answer"))?];
    stream.read_exact(&mut body)?;
    Ok(head + &String::from_utf8(body).map_err(invalid)?)
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, error)
}

/// A request without a body, or with one, as it is sent.
#[must_use]
pub fn request(method: &str, path: &str, user: &str, headers: &str, body: &str) -> String {
    let (signature, length) = (sign(user), body.len());
    format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {signature}\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )
}

/// The status of an answer that was read as text.
#[must_use]
pub fn status_of(answer: &str) -> Option<u16> {
    answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: String,
}

impl Reply {
    /// Sends a request.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    #[must_use]
    pub fn to(request: RequestBuilder) -> Self {
        Self::from(request.send().expect("an answer"))
    }

    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        let json = serde_json::from_str(&self.body);
        assert!(json.is_ok(), "no JSON: {self:?}");
        json.unwrap_or_default()
    }

    /// The code of either API.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn code(&self) -> i64 {
        let json = self.json();
        let code = json.get("code").or_else(|| json.get("ErrorCode"));
        code.and_then(Value::as_i64).expect("a code")
    }

    /// The reason that either API gives.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn reason(&self) -> String {
        let json = self.json();
        let reason = json.get("desc").or_else(|| json.get("ErrorInfo"));
        reason.and_then(Value::as_str).expect("a reason").to_owned()
    }

    /// A header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The id of the request.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn request_id(&self) -> &str {
        self.header("x-request-id").expect("every answer has an id")
    }

    /// Status and code, to compare with.
    #[must_use]
    pub fn outcome(&self) -> (u16, i64) {
        (self.status, self.code())
    }
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: response.text().expect("a body of text") }
    }
}

/// An event stream.
#[derive(Debug)]
pub struct EventStream(BufReader<Response>);

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSent {
    /// Its kind; empty for a heartbeat.
    pub event: String,
    /// The version that it led to.
    pub id: Option<u64>,
    /// Where to resume after it: the version and the history.
    pub resume: Option<EventId>,
    /// What it says.
    pub data: Value,
}

impl From<Response> for EventStream {
    fn from(response: Response) -> Self {
        Self(BufReader::new(response))
    }
}

impl EventStream {
    /// The next event, heartbeats included; nothing at the end of the stream, whatever ends it.
    ///
    /// # Panics
    ///
    /// When what comes is no event, or nothing comes.
    pub fn next_of_any_kind(&mut self) -> Option<ServerSent> {
        let mut sent = ServerSent { event: String::new(), id: None, resume: None, data: Value::Null };
        let mut any = false;
        loop {
            let mut line = String::new();
            match self.0.read_line(&mut line) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => {
                    assert_ne!(error.kind(), std::io::ErrorKind::TimedOut, "nothing comes: {error}");
                    return None;
                }
            }
            match line.trim_end().split_once(':') {
                None if any => return Some(sent),
                None => continue,
                Some(("event", kind)) => kind.trim().clone_into(&mut sent.event),
                Some(("id", id)) => {
                    let id: EventId = id.trim().parse().expect("the ID of an event");
                    assert!(id.history.is_some(), "an ID without a history: {id}");
                    (sent.id, sent.resume) = (Some(id.version.0), Some(id));
                }
                Some(("data", data)) => sent.data = serde_json::from_str(data).expect("data is JSON"),
                Some((field, _)) => assert!(["retry", ""].contains(&field), "no line of an event: {line:?}"),
            }
            any = true;
        }
    }

    /// The next event that says something; nothing at the end of the stream.
    ///
    /// # Panics
    ///
    /// When what comes is no event, or nothing comes.
    pub fn next_event(&mut self) -> Option<ServerSent> {
        loop {
            let sent = self.next_of_any_kind()?;
            if !sent.event.is_empty() {
                return Some(sent);
            }
        }
    }

    /// The next event, of which the test knows that it comes.
    ///
    /// # Panics
    ///
    /// When it does not come.
    pub fn expect(&mut self) -> ServerSent {
        self.next_event().expect("another event")
    }

    /// Reads to the end, and tells why the server ended the stream.
    ///
    /// # Panics
    ///
    /// When the stream ends without saying why.
    pub fn end(&mut self) -> String {
        loop {
            let sent = self.next_event().expect("an end that says why");
            if sent.event == "end" {
                assert_eq!(self.next_of_any_kind(), None, "nothing comes after the end");
                return sent.data["reason"].as_str().expect("a reason").to_owned();
            }
        }
    }
}
