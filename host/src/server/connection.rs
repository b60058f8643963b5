//! Connections: how many there are, how long one may be idle or refuse to take what it is sent, and how they end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::extract::Request;
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tokio_io_timeout::TimeoutStream;

use super::delivery::{Budget, Delivered, MAX_IN_FLIGHT_BYTES, Streams};
use super::descriptors;
use super::metrics::Metrics;
use crate::settings::ServerSettings;

/// How long a client has to close a connection that the server has closed; and the send timeout during shutdown.
pub(super) const PARTING: Duration = Duration::from_secs(1);
/// How often a closing connection is checked.
const TICK: Duration = Duration::from_millis(50);
/// How often the server sends a PING to find out whether the client of an HTTP/2 connection is still there.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// The pause after a failed accept: it would fail again at once, for example if there are too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all connections of a server share.
pub(super) struct Connections {
    router: TowerToHyperService<Router>,
    tls: Option<RustlsConfig>,
    limits: Limits,
    places: Arc<Semaphore>,
    max_connections: u32,
    open: Gauge,
    stalled: Counter,
    stopping: watch::Receiver<bool>,
}

#[derive(Clone, Copy)]
struct Limits {
    header_timeout: Duration,
    write_timeout: Duration,
    idle_timeout: Duration,
    max_header_bytes: usize,
    max_streams: u32,
    max_buffered_bytes: usize,
}

impl Connections {
    pub(super) fn new(
        router: Router,
        tls: Option<RustlsConfig>,
        settings: &ServerSettings,
        metrics: &Metrics,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let limits = Limits {
            header_timeout: Duration::from_millis(settings.header_timeout_ms),
            write_timeout: Duration::from_millis(settings.write_timeout_ms),
            idle_timeout: Duration::from_millis(settings.idle_timeout_ms),
            max_header_bytes: settings.max_header_bytes,
            max_streams: settings.max_streams_per_connection,
            max_buffered_bytes: settings.max_buffered_bytes_per_connection,
        };
        let places = Arc::new(Semaphore::new(settings.max_connections as usize));
        let (open, stalled) = (metrics.connections.clone(), metrics.stalled_streams.clone());
        let max_connections = settings.max_connections;
        Self { router: TowerToHyperService::new(router), tls, limits, places, max_connections, open, stalled, stopping }
    }

    /// Accepts connections and serves them until the server stops; then waits until they have ended, `patience` at most,
    /// and breaks those that have not.
    pub(super) async fn serve(self, listener: std::net::TcpListener, patience: Duration) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let mut stopping = self.stopping.clone();
        let shared = Arc::new(self);
        let mut running = JoinSet::new();
        let accept_failed = descriptors::on_accept_failure(shared.max_connections, shared.open.clone());
        loop {
            tokio::select! {
                biased;
                () = stop(&mut stopping) => break,
                Some(_) = running.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        // Without a permit, the connection is closed at once.
                        if let Ok(place) = Arc::clone(&shared.places).try_acquire_owned() {
                            running.spawn(Arc::clone(&shared).converse(stream, peer, place));
                        }
                    }
                    Err(error) => {
                        accept_failed(&error);
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
        // The system refuses new connections from now on.
        drop(listener);
        let ended = async { while running.join_next().await.is_some() {} };
        if timeout(patience, ended).await.is_err() {
            tracing::warn!(connections = running.len(), "the time to stop is over: connections are broken off");
        }
        running.shutdown().await;
        Ok(())
    }

    /// One connection from its first byte to its last.
    async fn converse(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
        // Responses are small and should not wait for more data.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let state = Arc::new(State::new(self.limits.max_buffered_bytes));
        let mut timed = TimeoutStream::new(stream);
        timed.set_write_timeout(Some(self.limits.write_timeout));
        self.open.inc();
        let connection = Connection {
            stream: Box::pin(timed),
            parting: None,
            state: Arc::clone(&state),
            open: self.open.clone(),
            _place: place,
        };
        let Some(tls) = self.tls.clone() else { return self.exchange(connection, peer, &state).await };
        let acceptor = RustlsAcceptor::new(tls).handshake_timeout(self.limits.header_timeout);
        let mut stopping = self.stopping.clone();
        let accepted = tokio::select! {
            biased;
            () = stop(&mut stopping) => return,
            accepted = acceptor.accept(connection, ()) => accepted,
        };
        if let Ok((stream, _)) = accepted {
            self.exchange(stream, peer, &state).await;
        }
    }

    /// Requests and responses, by whichever version of HTTP the client speaks.
    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: SocketAddr,
        state: &Arc<State>,
    ) {
        let Limits { header_timeout, write_timeout, idle_timeout, max_header_bytes, max_streams, .. } = self.limits;
        let streams = Streams { write_timeout, stopping: self.stopping.clone(), stalled: self.stalled.clone() };
        let mut builder = auto::Builder::new(streams);
        builder.http1().timer(TokioTimer::new()).header_read_timeout(header_timeout).max_buf_size(max_header_bytes);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(max_header_bytes).unwrap_or(u32::MAX))
            .max_concurrent_streams(max_streams)
            .max_send_buf_size(MAX_IN_FLIGHT_BYTES)
            .keep_alive_interval(Some(PING_INTERVAL));
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let under_way = state.begin();
            let (router, state) = (self.router.clone(), Arc::clone(state));
            async move {
                // The client must read earlier responses before another one is computed.
                state.budget.wait().await;
                let mut request: Request = request.map(Body::new);
                request.extensions_mut().insert(ConnectInfo(peer));
                let response = router.call(request).await?;
                Ok::<_, Infallible>(response.map(|body| Delivered::new(body, &state.budget, under_way)))
            }
        });
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut stopping = self.stopping.clone();
        tokio::select! {
            biased;
            _ = connection.as_mut() => return,
            () = state.first_request(header_timeout) => return,
            () = state.idle(idle_timeout) => {}
            () = stop(&mut stopping) => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            biased;
            _ = connection.as_mut() => {}
            () = self.given_up(state) => {}
        }
    }

    /// Waits until a closing connection is to be dropped: it has had no request for a while, or the server stops and its
    /// client does not read.
    async fn given_up(&self, state: &State) {
        let mut since = Instant::now();
        loop {
            sleep(TICK).await;
            if state.requests.borrow().under_way > 0 {
                since = Instant::now();
            }
            if since.elapsed() > PARTING * 2 || (*self.stopping.borrow() && state.blocked_for() > PARTING) {
                return;
            }
        }
    }
}

/// Waits until the server is to stop.
async fn stop(stopping: &mut watch::Receiver<bool>) {
    // The sender lives as long as the server.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// The state of one connection.
struct State {
    requests: watch::Sender<Requests>,
    budget: Budget,
    /// Since when the client has read nothing.
    blocked: Mutex<Option<Instant>>,
}

#[derive(Clone, Copy, Default)]
struct Requests {
    any: bool,
    /// Those whose responses have not been delivered.
    under_way: u64,
}

impl State {
    fn new(max_buffered_bytes: usize) -> Self {
        Self {
            requests: watch::Sender::new(Requests::default()),
            budget: Budget::new(max_buffered_bytes),
            blocked: Mutex::new(None),
        }
    }

    fn begin(&self) -> UnderWay {
        self.requests.send_modify(|requests| {
            *requests = Requests { any: true, under_way: requests.under_way + 1 };
        });
        UnderWay(self.requests.clone())
    }

    fn blocked_for(&self) -> Duration {
        self.blocked.lock().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Ends when no request has come in this time, and never if one has.
    async fn first_request(&self, patience: Duration) {
        let mut requests = self.requests.subscribe();
        let first = async { drop(requests.wait_for(|requests| requests.any).await) };
        if timeout(patience, first).await.is_ok() {
            std::future::pending::<()>().await;
        }
    }

    /// Ends when there has been no request for this time. Other frames, such as PING, do not count.
    async fn idle(&self, patience: Duration) {
        let mut requests = self.requests.subscribe();
        loop {
            drop(requests.wait_for(|requests| requests.under_way == 0).await);
            if timeout(patience, requests.changed()).await.is_err() {
                return;
            }
        }
    }
}

/// A request whose response has not been delivered, until it is dropped.
pub(super) struct UnderWay(watch::Sender<Requests>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|requests| requests.under_way -= 1);
    }
}

/// A connection that is counted, and fails if its client does not read.
struct Connection {
    stream: Pin<Box<TimeoutStream<TcpStream>>>,
    parting: Option<Pin<Box<Sleep>>>,
    state: Arc<State>,
    open: Gauge,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn note<T>(&self, written: &Poll<T>) {
        let mut blocked = self.state.blocked.lock();
        match written {
            Poll::Ready(_) => *blocked = None,
            Poll::Pending => {
                blocked.get_or_insert_with(Instant::now);
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.dec();
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.stream.as_mut().poll_write(context, bytes);
        self.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream.as_mut().poll_write_vectored(context, buffers);
        self.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(context)
    }

    /// Says that nothing more will come, then reads what still comes and throws it away: a connection that is closed with
    /// bytes unread is reset, and a client that is still sending a body would lose the answer that says why it need not.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, parting, .. } = &mut *self;
        let parting = match parting {
            Some(parting) => parting,
            None => {
                ready!(stream.as_mut().poll_shutdown(context))?;
                parting.insert(Box::pin(sleep(PARTING)))
            }
        };
        while parting.as_mut().poll(context).is_pending() {
            let mut unread = [MaybeUninit::uninit(); 8 << 10];
            let mut buffer = ReadBuf::uninit(&mut unread);
            let read = ready!(stream.as_mut().poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}
