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
                let reserved = state.budget.reserve().await;
                let mut request: Request = request.map(Body::new);
                request.extensions_mut().insert(ConnectInfo(peer));
                let response = router.call(request).await?;
                Ok::<_, Infallible>(response.map(|body| Delivered::new(body, reserved, under_way)))
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

    /// Waits until a closing connection is to be dropped: nothing has been under way for a while, or the server stops and the
    /// client does not read. While the server does not stop, the write timeout ends connections whose clients do not read.
    async fn given_up(&self, state: &State) {
        let mut since = Instant::now();
        loop {
            sleep(TICK).await;
            let activity = *state.activity.borrow();
            if activity.is_busy() {
                since = Instant::now();
            }
            let is_unread = activity.blocked.is_some_and(|since| since.elapsed() > PARTING);
            if since.elapsed() > PARTING * 2 || (*self.stopping.borrow() && is_unread) {
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
    activity: watch::Sender<Activity>,
    budget: Budget,
}

#[derive(Clone, Copy, Default)]
struct Activity {
    /// Whether a request has come.
    any: bool,
    /// Requests whose responses have not been delivered. HTTP/1 takes a whole body from its response at once, and then only
    /// `blocked` shows that it is not sent yet.
    under_way: u64,
    /// Since when the client has read nothing, though there is something to send.
    blocked: Option<Instant>,
}

impl Activity {
    fn is_busy(&self) -> bool {
        self.under_way > 0 || self.blocked.is_some()
    }
}

impl State {
    fn new(max_buffered_bytes: usize) -> Self {
        Self { activity: watch::Sender::new(Activity::default()), budget: Budget::new(max_buffered_bytes) }
    }

    fn begin(&self) -> UnderWay {
        self.activity.send_modify(|activity| {
            activity.any = true;
            activity.under_way += 1;
        });
        UnderWay(self.activity.clone())
    }

    /// Notes whether the client has read.
    fn note<T>(&self, written: &Poll<T>) {
        let is_blocked = written.is_pending();
        self.activity.send_if_modified(|activity| {
            let is_other = is_blocked != activity.blocked.is_some();
            if is_other {
                activity.blocked = is_blocked.then(Instant::now);
            }
            is_other
        });
    }

    /// Ends when no request has come in this time, and never if one has.
    async fn first_request(&self, patience: Duration) {
        let mut activity = self.activity.subscribe();
        let first = async { drop(activity.wait_for(|activity| activity.any).await) };
        if timeout(patience, first).await.is_ok() {
            std::future::pending::<()>().await;
        }
    }

    /// Ends when there has been no request and nothing to send for this time. Frames such as PING do not count.
    async fn idle(&self, patience: Duration) {
        let mut activity = self.activity.subscribe();
        loop {
            drop(activity.wait_for(|activity| !activity.is_busy()).await);
            if timeout(patience, activity.changed()).await.is_err() {
                return;
            }
        }
    }
}

/// A request whose response has not been delivered, until it is dropped.
pub(super) struct UnderWay(watch::Sender<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|activity| activity.under_way -= 1);
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
        self.state.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream.as_mut().poll_write_vectored(context, buffers);
        self.state.note(&written);
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use axum::routing::get;

    use super::*;

    /// More than the buffers of two sockets hold.
    const BYTES: usize = 64 << 20;
    /// Longer than a closing connection without requests is kept.
    const LONG: Duration = Duration::from_millis(3500);

    fn connections(idle_timeout: Duration, stopping: watch::Receiver<bool>) -> Connections {
        let long = Duration::from_secs(600);
        Connections {
            router: TowerToHyperService::new(Router::new().route("/", get(async || vec![b'x'; BYTES]))),
            tls: None,
            limits: Limits {
                header_timeout: long,
                write_timeout: long,
                idle_timeout,
                max_header_bytes: 16 << 10,
                max_streams: 10,
                max_buffered_bytes: 1 << 20,
            },
            places: Arc::new(Semaphore::new(10)),
            max_connections: 10,
            open: Gauge::default(),
            stalled: Counter::default(),
            stopping,
        }
    }

    /// Sends a request, and returns when the response begins.
    fn begin(address: SocketAddr) -> std::net::TcpStream {
        let mut stream = std::net::TcpStream::connect(address).expect("connects");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("writes");
        stream.read_exact(&mut [0]).expect("a response");
        stream
    }

    /// Reads the rest of the response, with a pause after each part.
    fn rest(mut stream: std::net::TcpStream, pause: Duration) -> usize {
        let (mut length, mut buffer) = (0, vec![0; 64 << 10]);
        loop {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return length,
                Ok(read) => length += read,
            }
            std::thread::sleep(pause);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn slow_http1_clients_get_whole_responses_despite_the_idle_timeout_and_shutdown() {
        // How long an idle connection is kept, and whether the server stops.
        for (idle_timeout, is_stopped) in [(Duration::from_millis(100), false), (Duration::from_secs(600), true)] {
            let (stop, stopping) = watch::channel(false);
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = listener.local_addr().expect("an address");
            let serving = tokio::spawn(connections(idle_timeout, stopping).serve(listener, Duration::from_secs(600)));
            let reading = tokio::task::spawn_blocking(move || {
                let stream = begin(address);
                if is_stopped {
                    stop.send(true).expect("the server runs");
                    // In all longer than `LONG`.
                    return (rest(stream, Duration::from_millis(4)), stop);
                }
                std::thread::sleep(LONG);
                (rest(stream, Duration::ZERO), stop)
            });
            let (length, stop) = reading.await.expect("no panic");
            assert!(length > BYTES, "{length} of {BYTES} bytes came, {is_stopped}");
            stop.send_replace(true);
            serving.await.expect("no panic").expect("it ends");
        }
    }
}
