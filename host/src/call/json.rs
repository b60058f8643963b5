//! Replies and failures as JSON, as the SDK's callbacks get them.

use serde::Serialize;

use super::Completed;
use super::error::CallError;
use crate::api::{BadRequest, Output};
use crate::marks::{self, Form};

/// `{code, desc, data}`, as the SDK's callbacks get it.
#[derive(Serialize)]
struct Envelope<'a, T> {
    code: i32,
    desc: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a T>,
}

impl<T: Serialize> Envelope<'_, T> {
    fn to_json(&self, form: Form) -> String {
        marks::to_json(self, form).expect("numbers and texts have a JSON form")
    }
}

fn failed(code: i32, desc: &str) -> String {
    Envelope::<()> { code, desc, data: None }.to_json(Form::Numbers)
}

impl<T: Output> Completed<T> {
    /// The answer as the SDK gives it: `{"code":0,"desc":"","data":…}`; without `data` where the SDK has none.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.to_json_with(Form::Numbers)
    }

    /// As [`Completed::to_json`], with each `markList` in a form.
    #[must_use]
    pub fn to_json_with(&self, form: Form) -> String {
        let data = (!self.result.is_nothing()).then_some(&self.result);
        Envelope { code: 0, desc: "", data }.to_json(form)
    }
}

impl CallError {
    /// The failure as the SDK gives it: `{"code":…,"desc":…}`.
    #[must_use]
    pub fn to_json(&self) -> String {
        failed(self.code(), &self.desc())
    }
}

impl BadRequest {
    /// The failure as the SDK gives it: `{"code":…,"desc":…}`.
    #[must_use]
    pub fn to_json(&self) -> String {
        failed(self.code, &self.desc)
    }
}
