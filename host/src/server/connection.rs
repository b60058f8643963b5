//! Connections: how many there are, how long one may block while it is written to, and how they end.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum_server::accept::Accept;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tokio_io_timeout::TimeoutStream;

/// How long the other end has to close a connection that was closed here.
const PARTING: Duration = Duration::from_secs(1);

/// Lets so many connections in, and closes the next at once.
#[derive(Clone, Debug)]
pub(super) struct Doorkeeper {
    places: Arc<Semaphore>,
    write_timeout: Duration,
    open: Gauge,
}

impl Doorkeeper {
    pub(super) fn new(max: u32, write_timeout: Duration, open: Gauge) -> Self {
        Self { places: Arc::new(Semaphore::new(max as usize)), write_timeout, open }
    }
}

impl<S> Accept<TcpStream, S> for Doorkeeper {
    type Stream = Connection;
    type Service = S;
    type Future = std::future::Ready<io::Result<(Connection, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return std::future::ready(Err(io::Error::other("there are too many connections")));
        };
        // Answers are small, and somebody waits for them.
        if let Err(error) = stream.set_nodelay(true) {
            return std::future::ready(Err(error));
        }
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.write_timeout));
        self.open.inc();
        let connection = Connection { stream: Box::pin(stream), parting: None, open: self.open.clone(), _place: place };
        std::future::ready(Ok((connection, service)))
    }
}

/// A connection that is counted, and breaks when its other end does not read.
pub(super) struct Connection {
    stream: Pin<Box<TimeoutStream<TcpStream>>>,
    parting: Option<Pin<Box<Sleep>>>,
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
        self.stream.as_mut().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write_vectored(context, buffers)
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
