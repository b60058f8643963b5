//! `/v4/recentcontact/<command>`: Tencent's REST API for back ends. An admin calls in the name of any user. The status is
//! always 200; what happened is in `ActionStatus`, `ErrorCode` and `ErrorInfo` (REST documents 1047/53437 to 53442).

mod body;
mod commands;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::Method as HttpMethod;
use axum::response::Response;
use serde::Serialize;

pub(super) use self::body::schemas;
use self::commands::Command;
use super::body::read_body;
use super::client::Client;
use super::metrics::Label;
use super::rejection::{Outcome, Rejection, code};
use super::usersig::UserSigError;
use super::{App, RequestId, json};
use convgroups_host::model::UserId;

const API: &str = "v4";
const SERVICE: &str = "recentcontact";

pub(super) async fn call(
    State(app): State<Arc<App>>,
    Extension(RequestId(id)): Extension<RequestId>,
    Extension(client): Extension<Client>,
    http_method: HttpMethod,
    path: Result<Path<(String, String)>, PathRejection>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Response {
    let started = Instant::now();
    // What is not UTF-8 names no command.
    let (service, name) = path.map(|Path(names)| names).unwrap_or_default();
    let command = Command::ALL.into_iter().find(|command| service == SERVICE && command.name() == name);
    let label = Label { api: API, method: command.map_or("unknown", Command::name) };
    let answer = async {
        authorize(&app, client, query.as_deref().unwrap_or_default())?;
        let command = command.filter(|_| http_method == HttpMethod::POST).ok_or_else(|| {
            let commands = Command::ALL.map(Command::name).join(", ");
            let desc = format!("there is no such command; there are POST /v4/{SERVICE}/ and {commands}");
            Rejection::no_such_method(desc)
        })?;
        let body = read_body(&app, body).await?;
        command.run(&app, &id, &body).await
    };
    match answer.await {
        Ok((body, user)) => {
            app.ended(label, Outcome::Ok, 0, Some(&user), started.elapsed());
            json(body)
        }
        Err(rejection) => {
            app.ended(label, rejection.outcome, rejection.code, None, started.elapsed());
            render(&rejection)
        }
    }
}

/// The parameters in the URL. Names and values are case-sensitive (REST document 1047/34620).
#[derive(Default)]
struct Parameters {
    sdkappid: Option<String>,
    identifier: Option<String>,
    usersig: Option<String>,
    random: Option<String>,
    contenttype: Option<String>,
}

impl Parameters {
    fn read(query: &str) -> Result<Self, Rejection> {
        let mut parameters = Self::default();
        let mut seen = HashSet::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if !seen.insert(name.clone()) {
                // A proxy may have checked one of them, and this server would use the other.
                let desc = format!("the parameter {name:?} is in the URL more than once: expected each once");
                return Err(Rejection::bad_request(code::MALFORMED_URL, desc));
            }
            let place = match &*name {
                "sdkappid" => &mut parameters.sdkappid,
                "identifier" => &mut parameters.identifier,
                "usersig" => &mut parameters.usersig,
                "random" => &mut parameters.random,
                "contenttype" => &mut parameters.contenttype,
                _ => continue,
            };
            *place = Some(value.into_owned());
        }
        Ok(parameters)
    }
}

/// Lets admins of the app through.
fn authorize(app: &App, client: Client, query: &str) -> Result<(), Rejection> {
    let parameters = Parameters::read(query)?;
    let app_id = parameters
        .sdkappid
        .ok_or_else(|| Rejection::unauthenticated(code::APP_MISSING, "the parameter sdkappid is missing in the URL"))?;
    if app_id.parse() != Ok(app.auth.app()) {
        return Err(Rejection::unauthenticated(code::INVALID_APP, format!("sdkappid {app_id:?} is not served here")));
    }
    let identifier = parameters.identifier.filter(|identifier| !identifier.is_empty()).ok_or_else(|| {
        Rejection::unauthenticated(code::IDENTIFIER, "the parameter identifier is missing in the URL")
    })?;
    let signature = parameters
        .usersig
        .ok_or_else(|| Rejection::unauthenticated(code::USERSIG, "the parameter usersig is missing in the URL"))?;
    let caller = app.auth.authenticate(client.address, &signature)?;
    if caller.user.as_str() != identifier {
        return Err(UserSigError::WrongIdentifier.into());
    }
    if !app.auth.is_admin(&identifier) {
        let desc = format!("{identifier:?} is no admin of the app: set identifier to an admin's account");
        return Err(Rejection::unauthenticated(code::NOT_ADMIN, desc));
    }
    // `random` keeps caches out, and means nothing here.
    if let Some(random) = parameters.random.filter(|random| random.parse::<u32>().is_err()) {
        let desc = format!("the parameter random is {random:?}, must be 0 to 4294967295");
        return Err(Rejection::bad_request(code::MALFORMED_URL, desc));
    }
    if let Some(form) = parameters.contenttype.filter(|form| form != "json") {
        let desc = format!("the parameter contenttype is {form:?}, must be json");
        return Err(Rejection::bad_request(code::MALFORMED_URL, desc));
    }
    app.rates.check_rate(None)
}

/// What every answer has beside its own fields.
#[derive(Serialize)]
struct Envelope<T> {
    #[serde(flatten)]
    fields: T,
    #[serde(rename = "ActionStatus")]
    action_status: &'static str,
    #[serde(rename = "ErrorCode")]
    error_code: i32,
    #[serde(rename = "ErrorInfo")]
    error_info: String,
    #[serde(rename = "ErrorDisplay")]
    error_display: &'static str,
}

#[derive(Serialize)]
struct NoFields {}

fn ok(fields: impl Serialize) -> String {
    encode(&Envelope { fields, action_status: "OK", error_code: 0, error_info: String::new(), error_display: "" })
}

pub(super) fn render(rejection: &Rejection) -> Response {
    let envelope = Envelope {
        fields: NoFields {},
        action_status: "FAIL",
        error_code: rejection.code,
        error_info: rejection.desc.clone(),
        error_display: "",
    };
    json(encode(&envelope))
}

fn encode<T: Serialize>(envelope: &Envelope<T>) -> String {
    serde_json::to_string(envelope).expect("texts and numbers have a JSON form")
}

/// What a command that succeeded answers, and for whom.
type Answered = Result<(String, UserId), Rejection>;
