//! Calls that come in over HTTP: a call that waits is a task, not a thread.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use convgroups_host::api::{Method, Request};
use convgroups_host::call::CallContext;
use convgroups_host::{Host, SqliteStore, UserId};

type Answer = Result<String, (StatusCode, String)>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let host = Host::builder().store(SqliteStore::open("groups.db")?).build()?;
    let router = Router::new().route("/{user}/{method}", post(call)).with_state(host);
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, router).await?)
}

/// A real server authenticates the caller first.
async fn call(State(host): State<Host>, Path((user, method)): Path<(UserId, String)>, params: String) -> Answer {
    let method: Method = method.parse().map_err(|error| (StatusCode::NOT_FOUND, format!("{error}")))?;
    let request = Request::from_json(method, &params).map_err(|bad| (StatusCode::BAD_REQUEST, bad.to_json()))?;
    match host.call_async(&user, request, CallContext::default()).await {
        Ok(reply) => Ok(reply.to_json()),
        Err(error) => Err((StatusCode::OK, error.to_json())),
    }
}
