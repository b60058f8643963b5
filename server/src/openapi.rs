//! `/openapi.json`: what the server understands, from the types that it reads and writes.

use std::sync::LazyLock;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use utoipa::openapi::header::Header;
use utoipa::openapi::path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{AllOfBuilder, AnyOfBuilder, ComponentsBuilder, Schema, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, HttpMethod, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, OpenApiVersion, Paths, Ref, RefOr,
    Required,
};

use super::rest;
use convgroups_host::api::Method;
use convgroups_host::events::FullState;
use convgroups_host::hex::hex;
use convgroups_host::model::LoggedChange;
use convgroups_host::schema::{Schemas, reference};

const JSON: &str = "application/json";
const BEARER: &str = "UserSig";

/// The document as it is sent. It does not change while the program runs.
struct Served {
    json: Bytes,
    etag: HeaderValue,
}

static SERVED: LazyLock<Served> = LazyLock::new(|| {
    let json = document().to_json().expect("an OpenAPI document has a JSON form");
    let digest = hex(&Sha256::digest(&json));
    let etag = HeaderValue::try_from(format!("\"{digest}\"")).expect("hexadecimal digits are ASCII");
    Served { json: json.into(), etag }
});

pub(super) async fn serve(headers: HeaderMap) -> Response {
    let Served { json, etag } = &*SERVED;
    let is_known = headers.get_all(header::IF_NONE_MATCH).iter().any(|known| names(known, etag));
    let mut response = if is_known { StatusCode::NOT_MODIFIED.into_response() } else { super::json(json.clone()) };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, etag.clone());
    // A new version of the server has a new document.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Whether `If-None-Match` has this tag, which a compressing proxy may have turned into a weak one.
fn names(known: &HeaderValue, etag: &HeaderValue) -> bool {
    known.to_str().is_ok_and(|known| {
        known.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
    })
}

pub(super) fn document() -> OpenApi {
    let mut schemas = Vec::new();
    let mut paths = Paths::new();
    for &method in Method::ALL {
        paths.add_path_operation(format!("/v1/{}", method.name()), vec![HttpMethod::Post], sdk(method, &mut schemas));
    }
    paths.add_path_operation("/v1/events", vec![HttpMethod::Get], events(&mut schemas));
    for command in rest::schemas(&mut schemas) {
        let path = format!("/v4/recentcontact/{}", command.name);
        paths.add_path_operation(path, vec![HttpMethod::Post], tencent(command));
    }
    for (path, summary) in [("/healthz", "The process runs and answers"), ("/readyz", "The server can take calls")] {
        let mut operation =
            OperationBuilder::new().summary(Some(summary)).tag("operating").response("200", status("Yes"));
        if path == "/readyz" {
            operation = operation.response("503", status("No: the store does not answer, or the server is stopping"));
        }
        paths.add_path_operation(path, vec![HttpMethod::Get], operation.build());
    }
    let text = || ContentBuilder::new().schema(Some(ObjectBuilder::new().schema_type(Type::String))).build();
    let metrics = ResponseBuilder::new()
        .description("Metrics, in the format that `Accept` asks for; `text/plain` where it names neither")
        .content("text/plain", text())
        .content("application/openmetrics-text", text());
    let metrics =
        OperationBuilder::new().summary(Some("Metrics for Prometheus")).tag("operating").response("200", metrics);
    paths.add_path_operation("/metrics", vec![HttpMethod::Get], metrics.build());
    paths.add_path_operation("/openapi.json", vec![HttpMethod::Get], description());

    reference::<Failed>(&mut schemas);
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("The UserSig of the user whose groups they are."))
        .build();
    let components = ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .security_scheme(BEARER, SecurityScheme::Http(bearer))
        .build();
    let info = InfoBuilder::new()
        .title("convgroups")
        .description(Some(
            "Conversation groups for chat back ends. At every path, a request of HTTP/1.1 with no header `Host` or with two is \
             rejected with the status 400, and one with a transfer coding other than `chunked` with 501.",
        ))
        .version(env!("CARGO_PKG_VERSION"))
        .build();
    OpenApiBuilder::new()
        .openapi(OpenApiVersion::Version31)
        .info(info)
        .paths(paths)
        .components(Some(components))
        .build()
}

/// This document.
fn description() -> Operation {
    let known = ParameterBuilder::new()
        .name("If-None-Match")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("The ETag of the client's copy"))
        .schema(Some(string()))
        .build();
    let tagged = |response: ResponseBuilder| {
        response.header("ETag", Header::new(string().build())).header("Cache-Control", Header::new(string().build()))
    };
    let whole = ResponseBuilder::from(response("The document", ObjectBuilder::new()));
    let unchanged = ResponseBuilder::new().description("The document has not changed");
    OperationBuilder::new()
        .summary(Some("This document"))
        .tag("operating")
        .parameter(known)
        .response("200", tagged(whole))
        .response("304", tagged(unchanged))
        .build()
}

fn integer() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer)
}

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// A failure, on `/v1`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is of use")]
struct Failed {
    /// What kind of failure; never 0.
    code: i32,
    /// The reason.
    desc: String,
}

fn sdk(method: Method, schemas: &mut Schemas) -> Operation {
    let operation = method.schema();
    schemas.extend(operation.schemas);
    let codes = method.codes().iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
    let code = match codes.as_str() {
        "" => "0, or the code of the rule that refused".to_owned(),
        codes => format!("0, or the code of the rule that refused; the reference plugin's are {codes}"),
    };
    let mut answer = ObjectBuilder::new()
        .property("code", integer().description(Some(code)))
        .property("desc", string().description(Some("Empty, or the reason")))
        .required("code")
        .required("desc");
    if let Some(data) = operation.data {
        answer = answer.property("data", data);
    }
    let body = RequestBodyBuilder::new()
        .content(JSON, ContentBuilder::new().schema(Some(operation.parameters)).build())
        // A body that is missing has no parameters.
        .required(Some(if operation.has_parameters { Required::True } else { Required::False }))
        .build();
    let described = OperationBuilder::new();
    let described = if operation.has_marks { described.parameter(mark_list_form()) } else { described };
    failures(described)
        .operation_id(Some(method.name()))
        .summary(Some(method.summary()))
        .tag("SDK")
        .request_body(Some(body))
        .response("200", response("The plugin's answer: a success, or a refusal by a rule", answer))
        .response("408", failure("The body did not come in time"))
        .response("413", failure("The body is too large"))
        .response("500", failure("The plugin or the store failed; nothing was changed, unless it says otherwise"))
        .response("504", failure("The call took too long; nothing was changed"))
        .build()
}

/// What can be answered instead to any request of `/v1`.
fn failures(operation: OperationBuilder) -> OperationBuilder {
    let later = |description| {
        ResponseBuilder::from(failure(description)).header("Retry-After", Header::new(integer().build())).build()
    };
    operation
        .security(SecurityRequirement::new(BEARER, Vec::<String>::new()))
        .response("400", failure("The parameters cannot be read; says where and why"))
        .response("401", failure("There is no UserSig, or it proves nothing; codes 70001 to 70014"))
        .response("429", later("Too many calls in a second; for event streams, also too many full snapshots"))
        .response("503", later("Too many calls at once, or the server is stopping"))
}

/// The parameter that says how marks are written.
fn mark_list_form() -> Parameter {
    ParameterBuilder::new()
        .name("markList")
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some("How the values in each `markList` are written; without it as numbers"))
        .schema(Some(string().enum_values(Some(["numbers", "strings"]))))
        .build()
}

fn response(description: &str, schema: impl Into<RefOr<Schema>>) -> utoipa::openapi::Response {
    ResponseBuilder::new()
        .description(description)
        .content(JSON, ContentBuilder::new().schema(Some(schema)).build())
        .header("X-Request-ID", Header::new(string().build()))
        .header("Cache-Control", Header::new(string().build()))
        .header("X-Content-Type-Options", Header::new(string().build()))
        .build()
}

fn failure(description: &str) -> utoipa::openapi::Response {
    response(description, Ref::from_schema_name(Failed::name()))
}

fn status(description: &str) -> utoipa::openapi::Response {
    response(description, ObjectBuilder::new().property("status", string()).required("status"))
}

fn events(schemas: &mut Schemas) -> Operation {
    let parameter = |name, place, description, schema: ObjectBuilder| {
        ParameterBuilder::new()
            .name(name)
            .parameter_in(place)
            .required(Required::False)
            .description(Some(description))
            .schema(Some(schema))
            .build()
    };
    // For who reads the stream: what stands behind `data:`.
    reference::<LoggedChange>(schemas);
    reference::<FullState>(schemas);
    let event = ObjectBuilder::new()
        .property("id", string().description(Some("The version that the event led to")))
        .property("event", string().enum_values(Some(["change", "full", "end"])))
        .property("data", string().description(Some("JSON")))
        .property("retry", integer());
    let stream = ContentBuilder::new().schema(Some(event)).build();
    let stream = ResponseBuilder::new()
        .description(
            "Events named `change` (see LoggedChange), `full` (see FullState) and `end` (the server ends the stream; its \
             data has the reason). The id of an event is the version that it led to, - and the history of the store.",
        )
        .content("text/event-stream", stream)
        .build();
    let header = "The id of the last event that was seen, or nothing. Without it and without `after`: the whole state, then \
                  changes";
    failures(OperationBuilder::new())
        .operation_id(Some("events"))
        .summary(Some("What changes for the user, as it happens, as Server-Sent Events"))
        .tag("SDK")
        .parameter(parameter(
            "Last-Event-ID",
            ParameterIn::Header,
            header,
            string().pattern(Some("^((0|[1-9][0-9]{0,12})(-[0-9a-f]{16})?)?$")),
        ))
        .parameter(parameter(
            "after",
            ParameterIn::Query,
            "The same, for who cannot send the header",
            string().pattern(Some("^(0|[1-9][0-9]{0,12})(-[0-9a-f]{16})?$")),
        ))
        .parameter(mark_list_form())
        .response("200", stream)
        .response("500", failure("The store failed"))
        .response("504", failure("The change log could not be read in time, because of earlier calls of the same user"))
        .build()
}

/// A command of Tencent's REST API.
pub(super) struct CommandSchemas {
    pub(super) name: &'static str,
    pub(super) summary: &'static str,
    pub(super) request: Ref,
    pub(super) answer: Ref,
}

fn tencent(command: CommandSchemas) -> Operation {
    let CommandSchemas { name, summary, request, answer } = command;
    let text = |name, required, description| {
        let parameter =
            ParameterBuilder::new().name(name).parameter_in(ParameterIn::Query).description(Some(description));
        parameter.required(required).schema(Some(string())).build()
    };
    let random = ParameterBuilder::new()
        .name("random")
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some("Any number"))
        .schema(Some(integer().minimum(Some(0)).maximum(Some(u32::MAX))))
        .build();
    let form = ParameterBuilder::new()
        .name("contenttype")
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some("What the body is"))
        .schema(Some(string().enum_values(Some(["json"]))))
        .build();
    let envelope = || {
        ObjectBuilder::new()
            .property("ActionStatus", string().enum_values(Some(["OK", "FAIL"])))
            .property("ErrorCode", integer())
            .property("ErrorInfo", string())
            .property("ErrorDisplay", string())
            .required("ActionStatus")
            .required("ErrorCode")
            .required("ErrorInfo")
    };
    let answer = AnyOfBuilder::new().item(AllOfBuilder::new().item(answer).item(envelope())).item(envelope());
    let body = RequestBodyBuilder::new()
        .content(JSON, ContentBuilder::new().schema(Some(request)).build())
        .required(Some(Required::True))
        .build();
    OperationBuilder::new()
        .operation_id(Some(name))
        .summary(Some(summary))
        .tag("Tencent REST")
        .parameter(text("sdkappid", Required::True, "The app"))
        .parameter(text("identifier", Required::True, "The admin who calls"))
        .parameter(text("usersig", Required::True, "The admin's UserSig"))
        .parameter(random)
        .parameter(form)
        .request_body(Some(body))
        .response("200", response("What came of it, be it a failure", answer))
        .build()
}
