//! `convgroups call`: one operation.

use convgroups_host::Host;
use convgroups_host::api::Request;
use convgroups_host::escape::json_for_people;

use super::args::{Call, Output};
use super::{Done, Failed, Outcome, print, table};

pub(crate) fn call(command: &Call, open: impl FnOnce() -> Result<Host, Failed>) -> Outcome {
    if let Err(error) = serde_json::from_str::<serde_json::Value>(&command.params) {
        return Err(Failed::Usage(format!("--params is not JSON: {error}")));
    }
    let as_json = command.output == Output::Json;
    let (text, done) = match Request::from_json(command.method, &command.params) {
        Err(bad) if as_json => (bad.to_json(), Done::WithCode),
        Err(bad) => (table::failure(bad.code, &bad.desc), Done::WithCode),
        Ok(request) => match open()?.call(&command.user, &request) {
            Ok(reply) if as_json => (reply.to_json(), Done::Well),
            Ok(reply) => (table::answer(&reply.result), Done::Well),
            Err(error) if as_json => (error.to_json(), Done::WithCode),
            Err(error) => (table::failure(error.code(), &error.desc()), Done::WithCode),
        },
    };
    let text = if as_json { json_for_people(&text) } else { text.into() };
    print(format!("{text}\n").as_bytes())?;
    Ok(done)
}
