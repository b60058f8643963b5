//! What operators and their machines ask for: is it alive, is it ready, how is it doing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::exposition::Format;
use super::{App, json};
use convgroups_host::store::StoreResult;

/// How long an answer about the store holds, so that probes do not become a load.
const HOLDS: Duration = Duration::from_secs(1);
/// A store that takes longer to answer is not ready.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the store last said, and the question that it has not answered yet.
#[derive(Default)]
pub(super) struct Readiness(Mutex<Probe>);

#[derive(Default)]
struct Probe {
    last: Option<(Instant, bool)>,
    asked: Option<JoinHandle<StoreResult<()>>>,
}

/// The process runs and answers.
pub(super) async fn healthz() -> Response {
    json(r#"{"status":"ok"}"#.to_owned())
}

/// The store can be read and written, the plugin is loaded, and the server is not about to stop.
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let unready = |status: &str| {
        let body = format!(r#"{{"status":"{status}"}}"#);
        (StatusCode::SERVICE_UNAVAILABLE, json(body)).into_response()
    };
    if app.is_stopping() {
        return unready("stopping");
    }
    if store_is_healthy(&app).await { json(r#"{"status":"ready"}"#.to_owned()) } else { unready("store unavailable") }
}

async fn store_is_healthy(app: &Arc<App>) -> bool {
    // Held while asking, so that there is one question at a time, however long the answer takes.
    let mut probe = app.readiness.0.lock().await;
    if let Some((at, healthy)) = probe.last
        && at.elapsed() < HOLDS
    {
        return healthy;
    }
    let asked = probe.asked.get_or_insert_with(|| {
        let store = Arc::clone(app.host.store());
        tokio::task::spawn_blocking(move || store.health())
    });
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    if answer.is_ok() {
        probe.asked = None;
    }
    let healthy = match answer {
        Ok(Ok(Ok(()))) => true,
        Ok(Ok(Err(error))) => {
            tracing::error!(%error, "the store is not healthy");
            false
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "the store's health could not be asked for");
            false
        }
        Err(_elapsed) => {
            tracing::error!("the store does not answer in time");
            false
        }
    };
    probe.last = Some((Instant::now(), healthy));
    healthy
}

/// What the server counts, in the format that the scraper asks for.
pub(super) async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let format = Format::negotiate(&headers);
    match app.metrics.encode(format) {
        Ok(text) => {
            let content_type = HeaderValue::from_static(format.content_type());
            let vary = HeaderValue::from_name(header::ACCEPT);
            ([(header::CONTENT_TYPE, content_type), (header::VARY, vary)], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
