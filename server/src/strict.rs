//! Checks that HTTP/1.1 requires and hyper leaves to the application: a proxy and this server must not interpret a request
//! differently (RFC 9112, 3.2, 6.1 and 6.3).

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::Response;

use super::refuse;
use super::rejection::{Rejection, code};

/// Rejects ambiguous requests and closes their connections, because the end of such a request is uncertain.
pub(super) async fn check(request: Request, next: Next) -> Response {
    let Err(rejection) = unambiguous(request.version(), request.headers()) else { return next.run(request).await };
    let status = rejection.status;
    let mut response = refuse(request.uri(), rejection);
    // Also on `/v4`, whose other responses have the status 200.
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn unambiguous(version: Version, headers: &HeaderMap) -> Result<(), Rejection> {
    let bad = |desc: String| Rejection::bad_request(code::MALFORMED_URL, desc);
    let hosts: Vec<&HeaderValue> = headers.get_all(header::HOST).iter().collect();
    match hosts.as_slice() {
        [] if version == Version::HTTP_11 => {
            return Err(bad("the header Host is missing: expected one in a request of HTTP/1.1".to_owned()));
        }
        [] => {}
        [host] => {
            // Empty where the address has no host (RFC 9112, 3.2).
            let is_host = |host: &str| {
                host.is_empty() || host.parse::<Authority>().is_ok_and(|host| !host.as_str().contains('@'))
            };
            if !host.to_str().is_ok_and(is_host) {
                return Err(bad(format!(
                    "the header Host is {host:?}: expected a host name or address, and a port if need be"
                )));
            }
        }
        _ => return Err(bad(format!("there are {} headers Host: expected one", hosts.len()))),
    }
    let codings: Vec<&HeaderValue> = headers.get_all(header::TRANSFER_ENCODING).iter().collect();
    match codings.as_slice() {
        [] => Ok(()),
        // A Content-Length beside it is dropped by hyper, as RFC 9112, 6.3 says.
        [coding] if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => {
            let desc =
                format!("the header Transfer-Encoding is {codings:?}: expected chunked, or none and a Content-Length");
            Err(Rejection { status: StatusCode::NOT_IMPLEMENTED, ..bad(desc) })
        }
    }
}
