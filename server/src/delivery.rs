//! Delivery of responses: a client that does not read its responses must not keep them in the server's memory.
//!
//! An HTTP/2 client can open many streams and never open their windows. Each stream then keeps its response until the
//! connection ends, which costs the client only a PING now and then. The write timeout of the connection does not help,
//! because the connection is not blocked, only its streams are.
//!
//! A timeout inside the body cannot work: hyper polls one chunk of a body and no more until the window is open, and a chunk
//! that the body has returned may stay in h2 after the body has ended. Therefore:
//!
//! - each chunk has an owner whose drop shows that the chunk was written or discarded;
//! - a body ends only after all its chunks were written, so that the stream's task lives as long as its data;
//! - if a chunk waits too long, the task ends, and h2 resets the stream.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use hyper::rt::Executor;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::connection::{PARTING, UnderWay};

/// The size of a chunk. A client has the write timeout to read this much.
const CHUNK_BYTES: usize = 16 << 10;
/// The limit of one stream's chunks that are not written yet: enough to keep a fast connection busy.
pub(super) const MAX_IN_FLIGHT_BYTES: usize = 64 << 10;
/// The estimated size of a response that has not been computed yet.
const RESERVED_BYTES: usize = 16 << 10;

tokio::task_local! {
    /// The delivery of the stream whose task this is.
    static DELIVERY: Arc<Delivery>;
}

/// How far a stream's response has been delivered.
#[derive(Default)]
struct Delivery {
    progress: Mutex<Progress>,
    /// There is something to write.
    begun: Notify,
}

#[derive(Default)]
struct Progress {
    /// Bytes of chunks that are not written yet.
    in_flight: usize,
    /// When the response was computed, the oldest of these chunks was returned, or the last chunk was written; `None` if all
    /// are written.
    since: Option<Instant>,
    /// The body's task, if it waits for a chunk to be written.
    waiting: Option<Waker>,
}

impl Delivery {
    /// Starts the timer, unless it runs already.
    fn begin(&self) {
        self.progress.lock().since.get_or_insert_with(Instant::now);
        self.begun.notify_one();
    }

    /// Ends when no chunk has been written for too long, though some are waiting.
    async fn stalled(&self, write_timeout: Duration, mut stopping: watch::Receiver<bool>) {
        loop {
            let begun = self.begun.notified();
            let since = self.progress.lock().since;
            let Some(since) = since else {
                begun.await;
                continue;
            };
            let is_stopping = *stopping.borrow_and_update();
            let patience = if is_stopping { write_timeout.min(PARTING) } else { write_timeout };
            let until = since + patience;
            if Instant::now() >= until {
                return;
            }
            tokio::select! {
                () = sleep_until(until) => {}
                // Without a sender, the other branch remains.
                Ok(()) = stopping.changed(), if !is_stopping => {}
            }
        }
    }
}

/// A part of a response, until it is written or discarded.
struct Chunk {
    bytes: Bytes,
    delivery: Arc<Delivery>,
    _held: Held,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let mut progress = self.delivery.progress.lock();
        progress.in_flight -= self.bytes.len();
        progress.since = (progress.in_flight > 0).then(Instant::now);
        let waiting = progress.waiting.take();
        drop(progress);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }
}

/// Spawns the tasks of a connection's HTTP/2 streams; each ends when its client stalls.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) write_timeout: Duration,
    pub(super) stopping: watch::Receiver<bool>,
    pub(super) stalled: Counter,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let Self { write_timeout, stopping, stalled } = self.clone();
        let delivery = Arc::new(Delivery::default());
        tokio::spawn(DELIVERY.scope(Arc::clone(&delivery), async move {
            tokio::select! {
                biased;
                _ = stream => {}
                () = delivery.stalled(write_timeout, stopping) => {
                    stalled.inc();
                }
            }
        }));
    }
}

/// Bytes of responses that the client of one connection has not read yet, and estimates for responses that are being computed.
#[derive(Clone)]
pub(super) struct Budget {
    held: Arc<watch::Sender<usize>>,
    max: usize,
}

/// Counted bytes, until this is dropped.
pub(super) struct Held {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    pub(super) fn new(max: usize) -> Self {
        Self { held: Arc::new(watch::Sender::new(0)), max }
    }

    /// Waits until there is room for another response, and reserves an estimate, so that requests that come at the same time
    /// do not all find the same room. A computed response is kept whatever its size. The limit can therefore be exceeded, but
    /// only by the responses of requests whose estimates fit into it together. If nothing is held, one request may always
    /// continue.
    pub(super) async fn reserve(&self) -> Held {
        let mut changes = self.held.subscribe();
        loop {
            let is_reserved = self.held.send_if_modified(|held| {
                let fits = *held == 0 || held.saturating_add(RESERVED_BYTES) <= self.max;
                if fits {
                    *held += RESERVED_BYTES;
                }
                fits
            });
            if is_reserved {
                return Held { budget: self.clone(), bytes: RESERVED_BYTES };
            }
            // The sender is here.
            let _ = changes.changed().await;
        }
    }
}

impl Held {
    /// Splits some off.
    fn take(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { budget: self.budget.clone(), bytes }
    }

    /// Replaces the counted bytes.
    fn set(&mut self, bytes: usize) {
        self.budget.held.send_modify(|held| *held = *held - self.bytes + bytes);
        self.bytes = bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.held.send_modify(|held| *held -= self.bytes);
        }
    }
}

/// A response's body on its way to the client.
pub(super) struct Delivered {
    body: Body,
    /// Data from the body that is not in a chunk yet.
    rest: Bytes,
    /// The counted bytes of both.
    held: Held,
    is_ended: bool,
    /// `None` in HTTP/1, where a connection has one response at a time and blocks as a whole.
    delivery: Option<Arc<Delivery>>,
    _under_way: UnderWay,
}

impl Delivered {
    /// Replaces the estimate by the size. An event stream has no size and counts what it has read.
    pub(super) fn new(body: Body, reserved: Held, under_way: UnderWay) -> Self {
        let bytes = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
        let mut held = reserved;
        held.set(bytes);
        let delivery = DELIVERY.try_with(Arc::clone).ok();
        if let Some(delivery) = &delivery
            && bytes > 0
        {
            // Before the first chunk, so that a response times out even if hyper never asks for one.
            delivery.begin();
        }
        Self { body, rest: Bytes::new(), held, is_ended: false, delivery, _under_way: under_way }
    }
}

impl HttpBody for Delivered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let Some(delivery) = &this.delivery else { return Pin::new(&mut this.body).poll_frame(context) };
        loop {
            {
                let mut progress = delivery.progress.lock();
                let is_last = this.rest.is_empty() && (this.is_ended || this.body.is_end_stream());
                if progress.in_flight >= MAX_IN_FLIGHT_BYTES || (is_last && progress.in_flight > 0) {
                    progress.waiting = Some(context.waker().clone());
                    return Poll::Pending;
                }
                if is_last {
                    return Poll::Ready(None);
                }
                if !this.rest.is_empty() {
                    let bytes = this.rest.split_to(this.rest.len().min(CHUNK_BYTES));
                    progress.in_flight += bytes.len();
                    progress.since.get_or_insert_with(Instant::now);
                    delivery.begun.notify_one();
                    let held = this.held.take(bytes.len());
                    let chunk = Chunk { bytes, delivery: Arc::clone(delivery), _held: held };
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(chunk)))));
                }
            }
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                None => this.is_ended = true,
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => {
                        this.held.set(bytes.len().max(this.held.bytes));
                        this.rest = bytes;
                    }
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_delivered = self.delivery.as_ref().is_none_or(|delivery| delivery.progress.lock().in_flight == 0);
        self.rest.is_empty() && (self.is_ended || self.body.is_end_stream()) && is_delivered
    }

    fn size_hint(&self) -> SizeHint {
        let (of_body, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower() + rest);
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
