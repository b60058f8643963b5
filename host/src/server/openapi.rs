//! `/openapi.json`: what the server understands, from the types that it reads and writes.

use axum::response::Response;
use utoipa::openapi::header::Header;
use utoipa::openapi::path::{Operation, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{
    AdditionalProperties, AllOfBuilder, AnyOfBuilder, ArrayBuilder, ComponentsBuilder, Schema, Type,
};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, HttpMethod, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, OpenApiVersion, Paths, Ref, RefOr,
    Required,
};
use utoipa::{PartialSchema, ToSchema};

use super::{json, rest};
use crate::api::{
    ConversationListQuery, ConversationOperationResult, ConversationPage, ConversationSearchResult, Conversations,
    CustomData, GroupAndConversations, GroupName, Mark, Method, Rename,
};
use crate::events::FullState;
use crate::model::LoggedChange;

const JSON: &str = "application/json";
const BEARER: &str = "UserSig";

pub(super) async fn serve() -> Response {
    // Small, and seldom asked for.
    json(document().to_json().expect("an OpenAPI document has a JSON form"))
}

type Schemas = Vec<(String, RefOr<Schema>)>;

pub(super) fn document() -> OpenApi {
    let mut schemas = Vec::new();
    let mut paths = Paths::new();
    for method in Method::ALL {
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
    let metrics = ResponseBuilder::new().description("Metrics").content(
        "application/openmetrics-text",
        ContentBuilder::new().schema(Some(ObjectBuilder::new().schema_type(Type::String))).build(),
    );
    let metrics =
        OperationBuilder::new().summary(Some("Metrics for Prometheus")).tag("operating").response("200", metrics);
    paths.add_path_operation("/metrics", vec![HttpMethod::Get], metrics.build());

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
        .description(Some("Conversation groups for chat back ends."))
        .version(env!("CARGO_PKG_VERSION"))
        .build();
    OpenApiBuilder::new()
        .openapi(OpenApiVersion::Version31)
        .info(info)
        .paths(paths)
        .components(Some(components))
        .build()
}

/// A reference to the schema of a type, which is put with the others, and all that it refers to.
pub(super) fn reference<T: ToSchema>(schemas: &mut Schemas) -> Ref {
    schemas.push((T::name().into_owned(), T::schema()));
    T::schemas(schemas);
    Ref::from_schema_name(T::name())
}

fn array(items: Ref) -> RefOr<Schema> {
    ArrayBuilder::new().items(items).into()
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
    let results = |schemas: &mut Schemas| Some(array(reference::<ConversationOperationResult>(schemas)));
    let (summary, params, data) = match method {
        Method::CreateConversationGroup => (
            "Creates a group and puts conversations into it",
            Some(reference::<GroupAndConversations>(schemas)),
            results(schemas),
        ),
        Method::GetConversationGroupList => {
            ("The names of all groups", None, Some(ArrayBuilder::new().items(string()).into()))
        }
        Method::DeleteConversationGroup => ("Removes a group", Some(reference::<GroupName>(schemas)), None),
        Method::RenameConversationGroup => ("Gives a group another name", Some(reference::<Rename>(schemas)), None),
        Method::AddConversationsToGroup => {
            ("Puts conversations into a group", Some(reference::<GroupAndConversations>(schemas)), results(schemas))
        }
        Method::DeleteConversationsFromGroup => {
            ("Takes conversations out of a group", Some(reference::<GroupAndConversations>(schemas)), results(schemas))
        }
        Method::MarkConversation => {
            ("Sets or clears marks of conversations", Some(reference::<Mark>(schemas)), results(schemas))
        }
        Method::SetConversationCustomData => {
            ("Gives conversations custom data", Some(reference::<CustomData>(schemas)), results(schemas))
        }
        Method::GetConversationListByFilter => (
            "Lists conversations in pages",
            Some(reference::<ConversationListQuery>(schemas)),
            Some(reference::<ConversationPage>(schemas).into()),
        ),
        Method::SearchConversations => (
            "Tells which groups hold conversations",
            Some(reference::<Conversations>(schemas)),
            Some(array(reference::<ConversationSearchResult>(schemas))),
        ),
    };
    let mut answer = ObjectBuilder::new()
        .property("code", integer().description(Some("0, or the code of the rule that refused")))
        .property("desc", string().description(Some("Empty, or the reason")))
        .required("code")
        .required("desc");
    if let Some(data) = data {
        answer = answer.property("data", data);
    }
    let empty = || ObjectBuilder::new().additional_properties(Some(AdditionalProperties::FreeForm(false))).into();
    let params: RefOr<Schema> = params.map_or_else(empty, Into::into);
    let body = RequestBodyBuilder::new()
        .content(JSON, ContentBuilder::new().schema(Some(params)).build())
        // A body that is missing has no parameters.
        .required(Some(if method == Method::GetConversationGroupList { Required::False } else { Required::True }))
        .build();
    failures(OperationBuilder::new())
        .operation_id(Some(method.name()))
        .summary(Some(summary))
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
        .response("429", later("Too many calls in a second"))
        .response("503", later("Too many calls at once, or the server is stopping"))
}

fn response(description: &str, schema: impl Into<RefOr<Schema>>) -> utoipa::openapi::Response {
    ResponseBuilder::new()
        .description(description)
        .content(JSON, ContentBuilder::new().schema(Some(schema)).build())
        .header("X-Request-ID", Header::new(string().build()))
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
        .response("200", stream)
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

/// A number of 64 bits, as such or, for who has no such numbers, as its digits.
pub(crate) fn number_or_digits() -> RefOr<Schema> {
    let number = integer().minimum(Some(0)).maximum(Some(u64::MAX));
    let digits = string().pattern(Some("^[0-9]{1,19}$"));
    utoipa::openapi::schema::OneOfBuilder::new().item(number).item(digits).into()
}

/// As [`number_or_digits`], or nothing.
pub(crate) fn optional_number_or_digits() -> RefOr<Schema> {
    let number = integer().minimum(Some(0)).maximum(Some(u64::MAX));
    let digits = string().pattern(Some("^[0-9]{1,19}$"));
    let nothing = ObjectBuilder::new().schema_type(Type::Null);
    utoipa::openapi::schema::OneOfBuilder::new().item(number).item(digits).item(nothing).into()
}

/// As [`number_or_digits`], but the empty text stands for the beginning.
pub(crate) fn sequence() -> RefOr<Schema> {
    let number = integer().minimum(Some(0)).maximum(Some(u64::MAX));
    let digits = string().pattern(Some("^[0-9]{0,19}$"));
    utoipa::openapi::schema::OneOfBuilder::new().item(number).item(digits).into()
}

/// A number of 32 bits.
pub(crate) fn number() -> RefOr<Schema> {
    integer().minimum(Some(0)).maximum(Some(u32::MAX)).into()
}

/// The schema of an enum that is a number on the wire.
impl PartialSchema for crate::api::ConversationType {
    fn schema() -> RefOr<Schema> {
        integer().minimum(Some(1)).maximum(Some(2)).description(Some("1: with a user, 2: with a chat group")).into()
    }
}

impl ToSchema for crate::api::ConversationType {}
