//! `convgroups call`: one operation.

use convgroups_host::Host;
use convgroups_host::api::Request;

use super::args::{Call, Output};
use super::{Done, Failed, Outcome, print, table};

pub(crate) fn call(host: &Host, command: &Call) -> Outcome {
    if let Err(error) = serde_json::from_str::<serde_json::Value>(&command.params) {
        return Err(Failed::Usage(format!("--params is not JSON: {error}")));
    }
    let (text, done) = match Request::from_json(command.method, &command.params) {
        Err(bad) => (bad.to_json(), Done::WithCode),
        Ok(request) => match (host.call(&command.user, &request), command.output) {
            (Ok(reply), Output::Json) => (reply.to_json(), Done::Well),
            (Ok(reply), Output::Table) => (table::answer(&reply.answer), Done::Well),
            (Err(error), Output::Json) => (error.to_json(), Done::WithCode),
            (Err(error), Output::Table) => (table::failure(error.code(), &error.desc()), Done::WithCode),
        },
    };
    print(format!("{text}\n").as_bytes())?;
    Ok(done)
}
