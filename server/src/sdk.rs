//! `/v1`: the API in the SDK's words.

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, Method as HttpMethod, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::auth::Caller;
use super::body::read_body;
use super::client::Client;
use super::metrics::Label;
use super::rejection::{Outcome, Rejection, code};
use super::{App, RequestId, json};
use convgroups_host::api::{Method, Request, UnknownMethod};
use convgroups_host::marks::Form;

const API: &str = "v1";
/// The label of calls to methods that do not exist.
const UNKNOWN: &str = "unknown";

/// `POST /v1/<method>`
pub(super) async fn call(
    State(app): State<Arc<App>>,
    Extension(RequestId(id)): Extension<RequestId>,
    Extension(client): Extension<Client>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let started = Instant::now();
    // What is not UTF-8 names no method.
    let name = path.map(|Path(name)| name).unwrap_or_default();
    let method = method_of(&name);
    let label = Label { api: API, method: method.map_or(UNKNOWN, Method::name) };
    let (answer, user) = match authenticate(&app, client, &headers) {
        Err(rejection) => (Err(rejection), None),
        Ok(caller) => (answer(&app, &id, method, &name, query, &caller, body).await, Some(caller.user)),
    };
    let (outcome, code) = answer.as_ref().map_or_else(|failed| (failed.outcome, failed.code), |_| (Outcome::Ok, 0));
    app.ended(label, outcome, code, user.as_ref(), started.elapsed());
    answer.map_or_else(render, json)
}

/// The caller of a request to `/v1`.
pub(super) fn authenticate(app: &App, client: Client, headers: &HeaderMap) -> Result<Caller, Rejection> {
    let caller = app.auth.authenticate(client.address, signature(headers)?)?;
    app.rates.check_rate(Some(&caller.user))?;
    Ok(caller)
}

/// The signature that a request to `/v1` carries.
pub(super) fn signature(headers: &HeaderMap) -> Result<&str, Rejection> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let header = given.next().ok_or_else(|| {
        Rejection::unauthenticated(
            code::USERSIG,
            "there is no UserSig: send the header Authorization: Bearer <UserSig>",
        )
    })?;
    if given.next().is_some() {
        let desc = "the header Authorization is there more than once: expected one, of the form Bearer <UserSig>";
        return Err(Rejection::unauthenticated(code::USERSIG, desc));
    }
    // The scheme's name is written in any case (RFC 9110, 11.1); a space that nothing follows does not arrive.
    header
        .to_str()
        .ok()
        .map(|text| text.split_once(' ').unwrap_or((text, "")))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, signature)| signature.trim())
        .ok_or_else(|| {
            Rejection::unauthenticated(code::USERSIG, "the header Authorization is not of the form Bearer <UserSig>")
        })
}

/// Rejects a wrong HTTP method.
pub(super) async fn wrong_verb(verb: HttpMethod, uri: Uri) -> Response {
    let allowed = match uri.path().strip_prefix("/v1/") {
        Some("events") | None => "GET, HEAD",
        Some(name) if method_of(name).is_some() => "POST",
        Some(name) => return render(unknown(name)),
    };
    let path = uri.path();
    let mut response = render(Rejection::wrong_verb(format!("{verb} is not for {path}: expected {allowed}")));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// The operation of an address: only the SDK's spelling is one.
fn method_of(name: &str) -> Option<Method> {
    Method::ALL.iter().copied().find(|method| method.name() == name)
}

fn unknown(name: &str) -> Rejection {
    Rejection::no_such_method(UnknownMethod { name: name.to_owned() }.to_string())
}

async fn answer(
    app: &Arc<App>,
    id: &str,
    method: Option<Method>,
    name: &str,
    query: Option<String>,
    caller: &Caller,
    body: Body,
) -> Result<String, Rejection> {
    let method = method.ok_or_else(|| unknown(name))?;
    let mut form = None;
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if name == MARK_LIST {
            read_form(&mut form, &value)?;
        }
    }
    let body = read_body(app, body).await?;
    // A method without parameters may be called without a body.
    let params = if body.is_empty() { "{}" } else { &body };
    let request = Request::from_json(method, params)?;
    let reply = app.host.call_async(&caller.user, request, app.call_context(id)?).await?;
    app.metrics.call_succeeded(&reply.spent, reply.attempts, reply.version.is_some());
    Ok(reply.to_json_with(form.unwrap_or_default()))
}

/// The parameter of an address that says how marks are written.
pub(super) const MARK_LIST: &str = "markList";

/// Reads the value of the parameter [`MARK_LIST`], which may be there once.
pub(super) fn read_form(form: &mut Option<Form>, value: &str) -> Result<(), Rejection> {
    let wrong = |desc| Err(Rejection::bad_request(code::MALFORMED_URL, desc));
    if form.is_some() {
        return wrong(format!("repeated parameter {MARK_LIST}: expected it once"));
    }
    match value.parse() {
        Ok(read) => {
            *form = Some(read);
            Ok(())
        }
        Err(unknown) => wrong(format!("invalid parameter {MARK_LIST} {unknown}")),
    }
}

/// A rejection as the SDK gives it: `{"code":…,"desc":…}`.
#[derive(Serialize)]
struct Failed<'a> {
    code: i32,
    desc: &'a str,
}

pub(super) fn render(rejection: Rejection) -> Response {
    let Rejection { status, code, desc, retry_after, .. } = rejection;
    let body = serde_json::to_string(&Failed { code, desc: &desc }).expect("a number and a text have a JSON form");
    let mut response = (status, json(body)).into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == axum::http::StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}
