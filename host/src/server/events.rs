//! `GET /v1/events`: one user's changes as they happen, as Server-Sent Events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::auth::{Caller, now};
use super::client::Client;
use super::gate::Counted;
use super::metrics::Label;
use super::rejection::{Outcome, Rejection, code};
use super::{App, RequestId, sdk};
use crate::events::{Event, EventReader, POLL_INTERVAL};
use crate::model::Version;
use crate::store::StoreResult;

const LABEL: Label = Label { api: "v1", method: "events" };
/// Changes that wait for one reader to take them; those behind them are still in the log, not in memory.
const BUFFER: u32 = 8;
/// What a browser is to wait before it connects again, in milliseconds.
const RETRY: Duration = Duration::from_secs(2);

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
    let opened = sdk::authenticate(&app, client, &headers).and_then(|caller| {
        let stream = open(&app, &caller, &headers, query.as_deref())?;
        Ok((stream, caller.user))
    });
    match opened {
        Ok((stream, user)) => {
            app.ended(LABEL, Outcome::Ok, 0, Some(&user), started.elapsed());
            let heartbeat = KeepAlive::new().interval(Duration::from_millis(app.settings.heartbeat_ms));
            Sse::new(stream).keep_alive(heartbeat).into_response()
        }
        Err(rejection) => {
            tracing::debug!(request_id = id, code = rejection.code, "no event stream");
            app.ended(LABEL, rejection.outcome, rejection.code, None, started.elapsed());
            sdk::render(rejection)
        }
    }
}

fn open(
    app: &Arc<App>,
    caller: &Caller,
    headers: &HeaderMap,
    query: Option<&str>,
) -> Result<impl Stream<Item = Result<sse::Event, Infallible>> + use<>, Rejection> {
    if app.is_stopping() {
        return Err(Rejection::overloaded("the server is stopping"));
    }
    let after = last_seen(headers, query)?;
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
    let open = Open { app: Arc::clone(app), signature, expires: caller.expires, _counted: counted, _place: place };
    let (events, received) = mpsc::channel(BUFFER as usize);
    let (end, ended) = oneshot::channel();
    tokio::spawn(feed(open, reader, events, end));
    let last = stream::once(ended).filter_map(async |end| Some(Ok(goodbye(end.ok()?))));
    Ok(ReceiverStream::new(received).map(Ok).chain(last.boxed()))
}

/// The version that the reader has seen; nothing for who wants to begin with the state.
fn last_seen(headers: &HeaderMap, query: Option<&str>) -> Result<Option<Version>, Rejection> {
    let wrong = |what: &str| {
        let desc = format!("{what}: expected the id of an event, a whole number");
        Rejection::bad_request(crate::call::code::INVALID_PARAMETER, desc)
    };
    let read = |text: &str, what| {
        // Ids have one spelling: neither a sign nor zeros before the number.
        let seen = text.parse().ok().map(Version).filter(|seen| *seen <= Version::MAX && seen.to_string() == text);
        seen.ok_or_else(|| wrong(what))
    };
    let mut after = None;
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if name != "after" {
            let desc = format!("there is no parameter {name:?}, but after");
            return Err(Rejection::bad_request(code::MALFORMED_URL, desc));
        }
        after = Some(read(&value, "after")?);
    }
    // The header is of a later moment: a browser that connects again sends both.
    match headers.get("last-event-id").map(|header| header.to_str()) {
        // The empty one is of a browser that has seen no event yet.
        None | Some(Ok("")) => Ok(after),
        Some(Ok(text)) => read(text, "Last-Event-ID").map(Some),
        Some(Err(_)) => Err(wrong("Last-Event-ID")),
    }
}

/// An open stream, counted until it is dropped.
struct Open {
    app: Arc<App>,
    signature: String,
    /// When the signature ends, in seconds since 1970.
    expires: u64,
    _counted: Counted,
    _place: tokio::sync::OwnedSemaphorePermit,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.app.metrics.event_streams.dec();
    }
}

/// Reads the log and hands on what it says, until the reader has gone or has to go.
async fn feed(open: Open, mut reader: EventReader, events: mpsc::Sender<sse::Event>, end: oneshot::Sender<End>) {
    let app = &open.app;
    let patience = Duration::from_millis(app.settings.write_timeout_ms);
    let mut replacements = app.auth.replacements();
    let reason = loop {
        // Also while there is always more to send.
        if app.is_stopping() {
            break End::Shutdown;
        }
        // Remembered by its digest: asking again costs little.
        if app.auth.verify(&open.signature).is_err() {
            break End::Expired;
        }
        let listener = reader.listen();
        let Some((read, back)) = read(reader).await else { break End::Store };
        reader = back;
        let read = match read {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(%error, "an event stream could not be read on");
                break End::Store;
            }
        };
        let idle = read.is_empty();
        let mut slow = false;
        for event in &read {
            match events.send_timeout(encode(event), patience).await {
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
        if !idle {
            continue;
        }
        let left = Duration::from_secs(open.expires.saturating_sub(now()).saturating_add(1));
        let changed = async {
            match listener {
                Some(listener) => listener.await,
                None => tokio::time::sleep(POLL_INTERVAL).await,
            }
        };
        tokio::select! {
            () = changed => {}
            () = events.closed() => return,
            () = app.stopping() => break End::Shutdown,
            _ = replacements.changed() => {}
            () = tokio::time::sleep(left) => {}
        }
    };
    app.metrics.stream_ended(reason.as_str());
    // Who has gone meanwhile need not know.
    let _ = end.send(reason);
}

/// One read of the log, on a thread that may block. Nothing when there are no threads any more, or the read panicked.
async fn read(mut reader: EventReader) -> Option<(StoreResult<Vec<Event>>, EventReader)> {
    let reading = tokio::task::spawn_blocking(move || {
        let read = reader.read_some(BUFFER);
        (read, reader)
    });
    reading.await.inspect_err(|error| tracing::error!(%error, "an event stream could not be read on")).ok()
}

fn encode(event: &Event) -> sse::Event {
    let name = match event {
        Event::Change(_) => "change",
        Event::Full(_) => "full",
    };
    let data = serde_json::to_string(event).expect("texts and numbers have a JSON form");
    sse::Event::default().id(event.version().to_string()).event(name).retry(RETRY).data(data)
}

#[derive(Serialize)]
struct Goodbye {
    reason: &'static str,
}

fn goodbye(end: End) -> sse::Event {
    let data = serde_json::to_string(&Goodbye { reason: end.as_str() }).expect("a text has a JSON form");
    sse::Event::default().event("end").retry(RETRY).data(data)
}
