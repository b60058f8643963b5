//! What a reader of events says that it has seen: the ID of an event in its one spelling, or refused.

#![no_main]

use std::cell::RefCell;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::Response;
use convgroups_fuzz::served::{KEPT, Served};
use convgroups_fuzz::{Renewed, user};
use convgroups_host::Version;
use convgroups_host::api::CreateConversationGroup;
use http_body_util::BodyExt;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Stands for the server's history, which is another one each time, in what is fuzzed.
const HISTORY: &str = "0000000000000000";
/// Alice's version; the log has the last [`KEPT`] changes.
const VERSION: u64 = 12;
/// Much longer than the first event takes.
const PATIENCE: Duration = Duration::from_secs(20);

thread_local! {
    static SERVED: RefCell<Renewed<(Served, String)>> = const { RefCell::new(Renewed::by(serve)) };
}

/// A server with some changes of Alice's, and her signature.
fn serve() -> (Served, String) {
    let served = Served::new();
    for number in 1..=VERSION {
        let created =
            served.host.call(&user("alice"), &CreateConversationGroup::new(format!("Group {number}"), ["c2c_bob"]));
        created.expect("there is room for a group");
    }
    let signature = served.sign("alice");
    (served, signature)
}

// The query, a line break, and the header Last-Event-ID; without a line break there is no header. A history of zeros stands for
// the server's own.
fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|&byte| byte == b'\n');
    let (query, id) = end.map_or((input, None), |end| (&input[..end], Some(&input[end + 1..])));
    let Ok(query) = str::from_utf8(query) else { return };
    SERVED.with_borrow_mut(|served| {
        let (served, signature) = served.get();
        let history = served.host.store().history().expect("memory can be read").to_string();
        let query = query.replace(HISTORY, &history);
        let id = id.map(|id| match str::from_utf8(id) {
            Ok(id) => HeaderValue::from_bytes(id.replace(HISTORY, &history).as_bytes()),
            Err(_) => HeaderValue::from_bytes(id),
        });
        let Ok(id) = id.transpose() else { return };
        let mut request = Request::get(format!("/v1/events?{query}"));
        if let Some(id) = &id {
            request = request.header("last-event-id", id);
        }
        let request = request.header(header::AUTHORIZATION, format!("Bearer {signature}"));
        let Ok(request) = request.body(Body::empty()) else { return };
        let query = request.uri().query().unwrap_or_default().to_owned();
        let seen = seen(&query, id.as_ref());
        served.runtime.block_on(async {
            let response = served.answer(request).await;
            match seen {
                Ok(seen) => assert_resumes(response, seen, &history).await,
                Err(codes) => assert_refused(response, codes).await,
            }
        });
    });
});

/// A version, and the history that the reader says it is of.
type Seen = (u64, Option<String>);

/// What a reader has seen, if anything; or the codes that what it says may be refused with.
fn seen(query: &str, id: Option<&HeaderValue>) -> Result<Option<Seen>, &'static [i64]> {
    let mut after = None;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name != "after" {
            return Err(&[60002]);
        }
        if after.replace(event_id(&value).ok_or(&[50002][..])?).is_some() {
            return Err(&[60002]);
        }
    }
    match id.map(HeaderValue::to_str) {
        None | Some(Ok("")) => Ok(after),
        Some(Ok(text)) => event_id(text).map(Some).ok_or(&[50002][..]),
        Some(Err(_)) => Err(&[50002]),
    }
}

/// The ID of an event, if this is how one is written.
fn event_id(text: &str) -> Option<Seen> {
    let Some((number, history)) = text.split_once('-') else { return Some((version(text)?, None)) };
    let digits = history.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (digits && history.len() == 16).then_some((version(number)?, Some(history.to_owned())))
}

/// A version, if this is how one is written.
fn version(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text && number <= Version::MAX.0).then_some(number)
}

async fn assert_resumes(response: Response, seen: Option<Seen>, history: &str) {
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    // In another history, nothing that was seen counts.
    let here = seen.clone().filter(|(_, of)| of.as_ref().is_none_or(|of| of == history)).map(|(version, _)| version);
    let (id, name) = match here {
        // Nothing has happened since.
        Some(VERSION) => return,
        Some(seen) if seen < VERSION && seen >= VERSION - u64::from(KEPT) => (seen + 1, "change"),
        _ => (VERSION, "full"),
    };
    let frame = tokio::time::timeout(PATIENCE, response.into_body().frame()).await;
    let frame = frame.expect("there is an event").expect("the stream goes on").expect("the stream is whole");
    let event = frame.into_data().expect("an event is data");
    let event = str::from_utf8(&event).expect("an event is text");
    let has = |line: String| event.lines().any(|other| other == line);
    assert!(has(format!("id: {id}-{history}")) && has(format!("event: {name}")), "after {seen:?}: {event}");
    let data = event.lines().find_map(|line| line.strip_prefix("data: ")).expect("an event has data");
    let data: Value = serde_json::from_str(data).expect("data is JSON");
    assert_eq!((&data["version"], data.get("full").is_some()), (&Value::from(id), name == "full"));
}

async fn assert_refused(response: Response, codes: &[i64]) {
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let answer = response.into_body().collect().await.expect("a whole answer").to_bytes();
    let answer: Value = serde_json::from_slice(&answer).expect("an answer is JSON");
    assert!(answer["code"].as_i64().is_some_and(|code| codes.contains(&code)), "{answer}");
    assert!(answer["desc"].as_str().is_some_and(|desc| !desc.is_empty()), "{answer}");
}
