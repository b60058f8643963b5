//! Operations as JSON, with the SDK's names.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::{Method, Request, code};
use crate::model::UserId;
use crate::object::{OnlyObjects, Worded};

/// A request that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{desc}")]
pub struct BadRequest {
    /// 60003: not JSON of the expected form. 50002: a parameter is missing, unknown or of the wrong type.
    pub code: i32,
    /// What is wrong, with the path of the field.
    pub desc: String,
}

/// A call as one line of JSON: `{"user":…,"method":…,"params":{…}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallLine {
    /// Who calls.
    pub user: UserId,
    /// What; or why its parameters could not be read.
    pub request: Result<Request, BadRequest>,
}

impl CallLine {
    /// Reads a line.
    ///
    /// # Errors
    ///
    /// 60003 when the line is not an object with exactly these fields, or names a method that does not exist.
    pub fn from_json(line: &str) -> Result<Self, BadRequest> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Line<'a> {
            user: UserId,
            method: String,
            #[serde(borrow)]
            params: Option<&'a RawValue>,
        }

        let malformed = |desc| BadRequest { code: code::MALFORMED_JSON, desc };
        let mut deserializer = serde_json::Deserializer::from_str(line);
        let line: Line<'_> = serde_path_to_error::deserialize(OnlyObjects(&mut deserializer))
            .map_err(|error| malformed(describe("", &error)))?;
        deserializer.end().map_err(|error| malformed(without_position(&error)))?;
        let method: Method = line.method.parse().map_err(|unknown| malformed(format!("method: {unknown}")))?;
        Ok(Self { user: line.user, request: Request::from_json(method, line.params.map_or("{}", RawValue::get)) })
    }
}

/// Parses a JSON object. Messages call it `root`.
///
/// # Errors
///
/// 60003 when `text` is not JSON; 50002 when it is not an object, or a field is missing, unknown or of the wrong type.
pub fn parse_object<T: DeserializeOwned>(root: &str, text: &str) -> Result<T, BadRequest> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let parsed = serde_path_to_error::deserialize(OnlyObjects(&mut deserializer)).map_err(|error| {
        let code = if error.inner().0.is_data() { code::INVALID_PARAMETER } else { code::MALFORMED_JSON };
        BadRequest { code, desc: describe(root, &error) }
    })?;
    let end = deserializer.end();
    end.map_err(|error| BadRequest { code: code::MALFORMED_JSON, desc: without_position(&error) })?;
    Ok(parsed)
}

/// The path of the offending field and what is wrong with it.
fn describe(root: &str, error: &serde_path_to_error::Error<Worded<serde_json::Error>>) -> String {
    let path = error.path().to_string();
    let reason = without_position(&error.inner().0);
    match (root, path.as_str()) {
        ("", "." | "?") => reason,
        (root, "." | "?") => format!("{root}: {reason}"),
        ("", path) => format!("{path}: {reason}"),
        (root, path) => format!("{root}.{path}: {reason}"),
    }
}

/// Without line and column, which only mean something inside the fragment that was read.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(position) if error.line() > 0 => match text.get(..position) {
            Some(reason) if error.is_data() => reason.to_owned(),
            Some(reason) => format!("{reason} at column {}", error.column()),
            None => text,
        },
        _ => text,
    }
}
