//! Bodies of requests: read within limits, and never left lying in the connection.
//!
//! A request may be refused before its body has been read, or has come. What is left of it then stands before the next
//! request on the connection, so that it is read and thrown away before the answer goes out; when it is too long for that,
//! the answer says that the connection is closed (RFC 9112, 9.3 and 9.6). Clients would otherwise send their next request
//! to a connection that is closing, and could not know whether it was carried out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::App;
use super::rejection::{Rejection, code};

/// Reads a request's body within its limits of size and time.
pub(super) async fn read_body(app: &App, body: Body) -> Result<String, Rejection> {
    let max = app.settings.max_body_bytes;
    // Who says so before is not asked to send it.
    let body = limited(body, max).ok_or_else(|| Rejection::too_large(max))?;
    let patience = Duration::from_millis(app.settings.body_timeout_ms);
    let read = tokio::time::timeout(patience, body.collect());
    let bytes = read.await.map_err(|_| Rejection::slow_body())?.map_err(|error| {
        if error.is::<LengthLimitError>() {
            return Rejection::too_large(max);
        }
        Rejection::bad_request(code::MALFORMED_URL, "the request's body was cut off")
    })?;
    String::from_utf8(bytes.to_bytes().into()).map_err(|_| {
        Rejection::bad_request(convgroups_host::api::code::MALFORMED_JSON, "the request's body is not valid UTF-8")
    })
}

/// A body that fails where it becomes longer than `max` bytes; nothing when it says before that it will.
fn limited(body: Body, max: usize) -> Option<Limited<Body>> {
    (body.size_hint().lower() <= max as u64).then(|| Limited::new(body, max))
}

/// Takes care of what a handler leaves of a body: reads twice as much of it as a body may have, for as long as a body may take,
/// or closes the connection.
pub(super) async fn finish(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    // Streams of HTTP/2 end one by one.
    if request.body().is_end_stream() || request.version() >= Version::HTTP_2 {
        return next.run(request).await;
    }
    let until = Instant::now() + Duration::from_millis(app.settings.body_timeout_ms);
    let asks_first = request.headers().contains_key(header::EXPECT);
    let (parts, body) = request.into_parts();
    let (keeper, mut left) = oneshot::channel();
    let lent = Body::new(Lent { body, is_begun: false, keeper: Some(keeper) });
    let mut response = next.run(Request::from_parts(parts, lent)).await;
    let Ok(left) = left.try_recv() else { return response };
    // Reading the body of a client that asks first tells it to send it.
    let comes = left.is_begun || !asks_first;
    let max = app.settings.max_body_bytes.saturating_mul(2);
    if !comes || timeout_at(until.into(), is_discarded(left.body, max)).await != Ok(true) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Reads a body to its end, and throws it away. False when it is longer than `max` bytes or breaks off.
async fn is_discarded(body: Body, max: usize) -> bool {
    let Some(mut body) = limited(body, max) else { return false };
    loop {
        match body.frame().await {
            None => return true,
            Some(Ok(_)) => {}
            Some(Err(_)) => return false,
        }
    }
}

/// What is left of a body.
struct Left {
    body: Body,
    is_begun: bool,
}

/// A body that goes back to its keeper when it is dropped before its end.
struct Lent {
    body: Body,
    is_begun: bool,
    /// Nothing when there is nothing to give back.
    keeper: Option<oneshot::Sender<Left>>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.is_begun = true;
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        // After a failure nothing more is read, and the connection is closed anyway.
        if !matches!(frame, Some(Ok(_))) {
            self.keeper = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.take().filter(|_| !self.body.is_end_stream()) {
            let left = Left { body: std::mem::take(&mut self.body), is_begun: self.is_begun };
            // Nobody waits for it when the request was given up.
            let _ = keeper.send(left);
        }
    }
}
