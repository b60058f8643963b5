//! A host behind as little HTTP as there can be: no signatures, no limits, no log, no metrics. What the sandbox costs a served
//! call is the difference between two of these, one of which runs the rules without a sandbox.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::routing::post;
use convgroups_host::api::Request;
use convgroups_host::call::CallContext;
use convgroups_host::measure::Native;
use convgroups_host::{Host, UserId};
use convgroups_tests::native;

use crate::Failure;
use crate::naive::USER;

/// Serves until the runtime ends.
pub(crate) async fn serve(host: Host, natively: bool) -> Result<SocketAddr, Failure> {
    let router = Router::new().route("/v1/{method}", post(answer)).with_state((host, natively));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async { axum::serve(listener, router).await });
    Ok(address)
}

async fn answer(
    State((host, natively)): State<(Host, bool)>,
    Path(method): Path<String>,
    headers: HeaderMap,
    params: String,
) -> Result<String, String> {
    let user = headers.get(USER).and_then(|user| user.to_str().ok()).unwrap_or_default();
    let user = UserId::new(user).map_err(|error| error.to_string())?;
    let method = method.parse().map_err(|error| format!("{error}"))?;
    let request = Request::from_json(method, &params).map_err(|error| error.to_json())?;
    let context = CallContext::default();
    let reply = if natively {
        host.call_async(&user, Native { request, rules: native::run }, context).await
    } else {
        host.call_async(&user, request, context).await
    };
    reply.map(|reply| reply.to_json()).map_err(|error| error.to_json())
}
