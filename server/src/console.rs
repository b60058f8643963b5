//! The page at `/console`: static files, with nothing from elsewhere.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

use super::App;

/// The page may load what comes with it, and call this server; nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/console", get(|| async { Redirect::permanent("/console/") }))
        .route("/console/", get(|| async { file("text/html; charset=utf-8", include_str!("console/index.html")) }))
        .route("/console/console.js", get(|| async { file("text/javascript", include_str!("console/console.js")) }))
        .route("/console/console.css", get(|| async { file("text/css", include_str!("console/console.css")) }))
        .route("/console/icon.svg", get(|| async { file("image/svg+xml", include_str!("console/icon.svg")) }))
}

fn file(content_type: &'static str, content: &'static str) -> Response {
    let headers: [(HeaderName, HeaderValue); 4] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        // A new version of the server brings a new page.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, content).into_response()
}
