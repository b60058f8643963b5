//! `GET /v1/events`: one user's changes as they happen, as Server-Sent Events.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::auth::{Caller, now};
use super::client::Client;
use super::metrics::Label;
use super::rejection::{Outcome, Rejection, code};
use super::tally::Counted;
use super::{App, RequestId, sdk};
use convgroups_host::events::{Event, EventReader, POLL_INTERVAL};
use convgroups_host::marks::{self, Form};
use convgroups_host::model::{EventId, UserId};
use convgroups_host::store::EventListener;

const LABEL: Label = Label { api: "v1", method: "events" };
/// Changes that wait for one reader to take them; those behind them are still in the log, not in memory.
const BUFFER: u32 = 8;
/// The pause before a read is tried again that was shed because of load.
const PAUSE: Duration = Duration::from_secs(1);
/// What a browser is to wait before it connects again, in milliseconds.
const RETRY: Duration = Duration::from_secs(2);

/// Tells proxies to pass on each event at once: nginx collects responses unless the first header says otherwise, others compress
/// them unless the second does.
const FOR_PROXIES: [(HeaderName, HeaderValue); 2] = [
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
];

/// Why the server ends a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The server stops.
    Shutdown,
    /// The reader does not keep up.
    Slow,
    /// The signature has expired, or its key is no longer one.
    Expired,
    /// The log cannot be read.
    Store,
}

impl End {
    fn as_str(self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown",
            Self::Slow => "slow",
            Self::Expired => "expired",
            Self::Store => "store",
        }
    }
}

pub(super) async fn events(
    State(app): State<Arc<App>>,
    Extension(RequestId(id)): Extension<RequestId>,
    Extension(client): Extension<Client>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let started = Instant::now();
    let opened = async {
        let caller = sdk::authenticate(&app, client, &headers)?;
        let stream = open(&app, &caller, &id, &headers, query.as_deref()).await?;
        Ok::<_, Rejection>((stream, caller.user))
    };
    match opened.await {
        Ok((stream, user)) => {
            app.ended(LABEL, Outcome::Ok, 0, Some(&user), started.elapsed());
            let heartbeat = KeepAlive::new().interval(app.heartbeat());
            (FOR_PROXIES, Sse::new(stream).keep_alive(heartbeat)).into_response()
        }
        Err(rejection) => {
            tracing::debug!(request_id = id, code = rejection.code, "no event stream");
            app.ended(LABEL, rejection.outcome, rejection.code, None, started.elapsed());
            sdk::render(rejection)
        }
    }
}

async fn open(
    app: &Arc<App>,
    caller: &Caller,
    id: &str,
    headers: &HeaderMap,
    query: Option<&str>,
) -> Result<impl Stream<Item = Result<sse::Event, Infallible>> + use<>, Rejection> {
    if app.is_stopping() {
        return Err(Rejection::overloaded("the server is stopping"));
    }
    let Wanted { after, form } = wanted(headers, query)?;
    app.rates.check_snapshots(&caller.user)?;
    let many = "you have too many event streams open";
    let counted = app.streams_of_users.count(&caller.user).ok_or_else(|| Rejection::overloaded(many))?;
    let too_many = || Rejection::overloaded("there are too many event streams, try again later");
    let place = Arc::clone(&app.streams).try_acquire_owned().map_err(|_| too_many())?;
    let store = Arc::clone(app.host.store());
    let reader = match after {
        Some(after) => EventReader::new(store, caller.user.clone(), after),
        None => EventReader::from_state(store, caller.user.clone()),
    };
    let signature = sdk::signature(headers)?.to_owned();
    app.metrics.event_streams.inc();
    let open = Open { app: Arc::clone(app), _counted: counted, _place: place };
    let feed = Feed {
        app: Arc::clone(app),
        user: caller.user.clone(),
        id: id.to_owned(),
        signature,
        expires: caller.expires,
        form,
        reader: Arc::new(Mutex::new(reader)),
    };
    // Before the response begins, so that a refusal has a status.
    let first = feed.read().await?;
    // One event: the feed holds the others that it has read.
    let (events, received) = mpsc::channel(1);
    let (end, ended) = oneshot::channel();
    tokio::spawn(feed.run(first, events, end));
    let last = stream::once(ended).filter_map(async |end| Some(goodbye(end.ok()?)));
    // The stream counts until its body is dropped, even if the feed has ended before.
    Ok(ReceiverStream::new(received).chain(last.boxed()).map(move |event| {
        let _ = &open;
        Ok(event)
    }))
}

/// What a reader asks for.
struct Wanted {
    /// The event that it has seen; nothing to begin with the state.
    after: Option<EventId>,
    /// How marks are written.
    form: Form,
}

fn wanted(headers: &HeaderMap, query: Option<&str>) -> Result<Wanted, Rejection> {
    let wrong = |what: &str| {
        let desc = format!("{what}: expected the id of an event, as 4-9f86d081884c7d65, or its version, as 4");
        Rejection::bad_request(convgroups_host::api::code::INVALID_PARAMETER, desc)
    };
    let read = |text: &str, what| text.parse::<EventId>().map_err(|_| wrong(what));
    let (mut after, mut form) = (None, None);
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*name {
            "after" => {
                if after.replace(read(&value, "after")?).is_some() {
                    let desc = "the parameter after is in the URL more than once: expected once";
                    return Err(Rejection::bad_request(code::MALFORMED_URL, desc));
                }
            }
            sdk::MARK_LIST => sdk::read_form(&mut form, &value)?,
            _ => {
                let desc = format!("there is no parameter {name:?}, but after and {}", sdk::MARK_LIST);
                return Err(Rejection::bad_request(code::MALFORMED_URL, desc));
            }
        }
    }
    if headers.get_all("last-event-id").iter().count() > 1 {
        let desc = "the header Last-Event-ID is there more than once: expected once";
        return Err(Rejection::bad_request(convgroups_host::api::code::INVALID_PARAMETER, desc));
    }
    // The header is of a later moment: a browser that connects again sends both.
    let after = match headers.get("last-event-id").map(|header| header.to_str()) {
        // The empty one is of a browser that has seen no event yet.
        None | Some(Ok("")) => after,
        Some(Ok(text)) => Some(read(text, "Last-Event-ID")?),
        Some(Err(_)) => return Err(wrong("Last-Event-ID")),
    };
    Ok(Wanted { after, form: form.unwrap_or_default() })
}

/// An open stream, counted until it is dropped.
struct Open {
    app: Arc<App>,
    _counted: Counted,
    _place: tokio::sync::OwnedSemaphorePermit,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.app.metrics.event_streams.dec();
    }
}

/// Reads the change log and sends its entries until the client is gone or the stream has to end.
struct Feed {
    app: Arc<App>,
    user: UserId,
    /// The id of the request that opened the stream.
    id: String,
    signature: String,
    /// When the signature ends, in seconds since 1970.
    expires: u64,
    /// How marks are written.
    form: Form,
    /// Shared with the thread that reads.
    reader: Arc<Mutex<EventReader>>,
}

impl Feed {
    async fn run(self, first: Vec<sse::Event>, events: mpsc::Sender<sse::Event>, end: oneshot::Sender<End>) {
        let Self { app, signature, .. } = &self;
        let patience = Duration::from_millis(app.settings.write_timeout_ms);
        let mut first = Some(first);
        let reason = loop {
            // Also while there is always more to send.
            if app.is_stopping() {
                break End::Shutdown;
            }
            // Remembered by its digest: asking again costs little.
            if app.auth.verify(signature).is_err() {
                break End::Expired;
            }
            let listener = self.reader.lock().listen();
            let was_first = first.is_some();
            let read = match first.take() {
                Some(read) => Ok(read),
                None => self.read().await,
            };
            let read = match read {
                Ok(read) => read,
                // The entries stay in the change log and can be read later.
                Err(rejection) if matches!(rejection.outcome, Outcome::Overloaded | Outcome::TimedOut) => {
                    tokio::select! {
                        () = tokio::time::sleep(PAUSE) => {}
                        () = events.closed() => return,
                        () = app.stopping() => {}
                    }
                    continue;
                }
                Err(_) => break End::Store,
            };
            let idle = read.is_empty() && !was_first;
            let mut slow = false;
            for event in read {
                match events.send_timeout(event, patience).await {
                    Ok(()) => {}
                    Err(mpsc::error::SendTimeoutError::Closed(_)) => return,
                    Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                        slow = true;
                        break;
                    }
                }
            }
            if slow {
                break End::Slow;
            }
            if idle && !self.change(listener, &events).await {
                return;
            }
        };
        app.metrics.stream_ended(reason.as_str());
        // The client may be gone.
        let _ = end.send(reason);
    }

    /// Waits until there may be something to read, or the stream has to end. Returns false if the client is gone.
    async fn change(&self, listener: Option<EventListener>, events: &mpsc::Sender<sse::Event>) -> bool {
        let mut replacements = self.app.auth.replacements();
        let mut changed = pin!(async {
            match listener {
                Some(listener) => listener.await,
                None => tokio::time::sleep(POLL_INTERVAL).await,
            }
        });
        // Checked before the first wait too: the keys may just have been replaced.
        while self.app.auth.verify(&self.signature).is_ok() {
            let left = Duration::from_secs(self.expires.saturating_sub(now()).saturating_add(1));
            tokio::select! {
                () = &mut changed => break,
                () = events.closed() => return false,
                () = self.app.stopping() => break,
                _ = replacements.changed() => {}
                // A timer does not notice that the wall clock is set.
                () = tokio::time::sleep(left.min(self.app.heartbeat())) => {}
            }
        }
        true
    }

    /// Reads the change log once, as a call of this user: it waits in the per-user queue, because it may return a full
    /// snapshot.
    async fn read(&self) -> Result<Vec<sse::Event>, Rejection> {
        let (rates, user, form) = (Arc::clone(&self.app.rates), self.user.clone(), self.form);
        let encode = move |reader: &EventReader, events: Vec<Event>| {
            let (mut encoded, mut snapshots) = (Vec::with_capacity(events.len()), 0);
            for event in &events {
                let Encoded { event, snapshot_bytes } = encode(event, reader.id(event), form);
                snapshots += snapshot_bytes.unwrap_or(0);
                encoded.push(event);
            }
            // Here and not after the read: the read finishes if the client has gone, and then nothing follows it.
            rates.charge_snapshot(&user, snapshots);
            encoded
        };
        let context = self.app.call_context(&self.id)?;
        Ok(self.app.host.read_events_async(Arc::clone(&self.reader), BUFFER, context, encode).await?)
    }
}

struct Encoded {
    event: sse::Event,
    /// Its size, if it is a full snapshot.
    snapshot_bytes: Option<usize>,
}

fn encode(event: &Event, id: EventId, form: Form) -> Encoded {
    let data = marks::to_json(event, form).expect("texts and numbers have a JSON form");
    let (name, snapshot_bytes) = match event {
        Event::Change(_) => ("change", None),
        Event::Full(_) => ("full", Some(data.len())),
    };
    let event = sse::Event::default().id(id.to_string()).event(name).retry(RETRY).data(data);
    Encoded { event, snapshot_bytes }
}

#[derive(Serialize)]
struct Goodbye {
    reason: &'static str,
}

fn goodbye(end: End) -> sse::Event {
    let data = serde_json::to_string(&Goodbye { reason: end.as_str() }).expect("a text has a JSON form");
    sse::Event::default().event("end").retry(RETRY).data(data)
}
