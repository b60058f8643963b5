//! Calls as JSON, as `convgroups run` reads them: one on each line.

#![no_main]

use std::cell::RefCell;

use convgroups_fuzz::{Renewed, empty, host, patient_settings, state};
use convgroups_host::api::{
    AnyResult, BadRequest, CallLine, ConversationOperationResult, ConversationPage, ConversationSearchResult, Method,
    Request, code,
};
use convgroups_host::{Failure, Host, PluginSource, UserId};
use libfuzzer_sys::fuzz_target;
use serde::de::DeserializeOwned;
use serde_json::Value;

thread_local! {
    static HOST: RefCell<Renewed<Host>> =
        const { RefCell::new(Renewed::by(|| host(patient_settings(), PluginSource::Bundled))) };
}

fuzz_target!(|input: &[u8]| {
    let Ok(text) = str::from_utf8(input) else { return };
    HOST.with_borrow_mut(|host| {
        let host = host.get();
        let users: Vec<UserId> = text.lines().take(20).filter_map(|line| call(host, line)).collect();
        for user in users {
            empty(host.store(), &user);
        }
    });
});

/// One call, and who called.
fn call(host: &Host, line: &str) -> Option<UserId> {
    let CallLine { user, request } = match CallLine::from_json(line) {
        Ok(line) => line,
        Err(bad) => {
            assert_refused(&bad, &[code::MALFORMED_JSON]);
            return None;
        }
    };
    let request = match request {
        Ok(request) => request,
        Err(bad) => {
            assert_refused(&bad, &[code::MALFORMED_JSON, code::INVALID_PARAMETER]);
            return None;
        }
    };
    assert_form(line);
    let again =
        Request::from_json(request.method(), &serde_json::to_string(&request).expect("parameters have a JSON form"));
    assert_eq!(again.as_ref(), Ok(&request));
    let before = state(host.store(), &user);
    let reply = host.call(&user, &request);
    let after = state(host.store(), &user);
    match reply {
        Ok(reply) => {
            assert_answers(request.method(), &reply.result, envelope(&reply.to_json(), 0));
            match reply.version {
                Some(version) => assert_eq!((version, before.version.next()), (after.version, version)),
                None => assert_eq!(before, after),
            }
        }
        Err(error) => {
            assert!(matches!(&error.failure, Failure::Refused(refusal) if refusal.code != 0), "{error}");
            assert_eq!(envelope(&error.to_json(), error.code()), None);
            assert_eq!(before, after, "{error}");
        }
    }
    Some(user)
}

/// In a call that was read, structs are objects; numbers in strings have digits and nothing else, but for the sign of marks;
/// and no number is one that JavaScript prints for another.
fn assert_form(line: &str) {
    let Ok(line) = serde_json::from_str::<Value>(line) else { return };
    let parameters = &line["params"];
    assert!(line.is_object() && (parameters.is_object() || parameters.is_null()), "{line}");
    let filter = &parameters["filter"];
    assert!(filter.is_object() || filter.is_null(), "{line}");
    let is_signed = [true, true, false];
    let numbers = [&parameters["markType"], &filter["markType"], &parameters["nextSeq"]];
    for (number, is_signed) in numbers.into_iter().zip(is_signed) {
        let digits = |text: &str| match text.strip_prefix('-') {
            Some(digits) => is_signed && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()),
            None => text.bytes().all(|byte| byte.is_ascii_digit()),
        };
        assert!(number.as_str().is_none_or(digits), "{number}");
        let misprinted = |exact: i128| {
            let double = exact as f64;
            double as i128 != exact && double.to_string() == exact.to_string()
        };
        let exact = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
        assert!(!exact.is_some_and(misprinted), "{number}");
    }
}

fn assert_refused(bad: &BadRequest, codes: &[i32]) {
    assert!(codes.contains(&bad.code), "{bad:?}");
    assert_eq!(envelope(&bad.to_json(), bad.code), None);
}

/// What an answer has as data. The rest must be a code, this one, and a text.
fn envelope(json: &str, code: i32) -> Option<Value> {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(json) else { panic!("{json}") };
    assert_eq!(fields.remove("code"), Some(code.into()), "{json}");
    let desc = fields.remove("desc");
    assert!(matches!(&desc, Some(Value::String(text)) if text.is_empty() == (code == 0)), "{json}");
    let data = fields.remove("data");
    assert!(fields.is_empty(), "{json}");
    data
}

/// The data of an answer, read again, is what was answered, and of the kind that was asked for.
fn assert_answers(method: Method, answer: &AnyResult, data: Option<Value>) {
    match method {
        Method::DeleteConversationGroup | Method::RenameConversationGroup => {
            assert_eq!((answer, data), (&AnyResult::Done, None));
        }
        Method::GetConversationGroupList => assert_eq!(answer, &AnyResult::GroupNames(read(data))),
        Method::GetConversationListByFilter => {
            let page: ConversationPage = read(data);
            assert_eq!(answer, &AnyResult::Page(page));
        }
        Method::SearchConversations => {
            let found: Vec<ConversationSearchResult> = read(data);
            assert_eq!(answer, &AnyResult::Found(found));
        }
        _ => {
            let results: Vec<ConversationOperationResult> = read(data);
            assert_eq!(answer, &AnyResult::Results(results));
        }
    }
}

fn read<T: DeserializeOwned>(data: Option<Value>) -> T {
    serde_json::from_value(data.expect("there is data")).expect("the data is of the method's kind")
}
