//! Bodies of requests to Tencent's REST API: whatever they have, the answer is one of that API.

#![no_main]

use std::cell::RefCell;
use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use convgroups_fuzz::served::{ADMIN, APP, Served};
use convgroups_fuzz::{Renewed, empty, state, user};
use convgroups_host::UserId;
use http_body_util::BodyExt;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

thread_local! {
    static SERVED: RefCell<Renewed<(Served, String)>> = const { RefCell::new(Renewed::by(serve)) };
}

/// A server, and the admin's signature.
fn serve() -> (Served, String) {
    let served = Served::new();
    let signature = served.sign(ADMIN);
    (served, signature)
}

// Requests, with a byte of 0 between: the name of a command, a line break, and the body.
fuzz_target!(|input: &[u8]| {
    SERVED.with_borrow_mut(|served| {
        let (served, signature) = served.get();
        let mut users = BTreeSet::new();
        for request in input.split(|&byte| byte == 0).take(20) {
            let end = request.iter().position(|&byte| byte == b'\n').unwrap_or(request.len());
            let (name, body) = request.split_at(end);
            let Ok(name) = str::from_utf8(name) else { continue };
            users.insert(call(served, signature, name, body.get(1..).unwrap_or_default()));
        }
        for user in users {
            empty(served.host.store(), &user);
        }
    });
});

/// Makes a request, and answers for whom.
fn call(served: &Served, signature: &str, name: &str, body: &[u8]) -> UserId {
    let url = format!("/v4/recentcontact/{name}?sdkappid={APP}&identifier={ADMIN}&usersig={signature}&random=1");
    let user = account(body).unwrap_or_else(|| user("nobody"));
    let Ok(request) = Request::post(url).body(Body::from(body.to_vec())) else { return user };
    // A name with a slash or a question mark leads elsewhere.
    let is_command =
        request.uri().path() == format!("/v4/recentcontact/{name}") && !name.contains('/') && !name.is_empty();
    let before = state(served.host.store(), &user);
    let (status, is_json, answer) = served.runtime.block_on(async {
        let response = served.answer(request).await;
        let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
        let status = response.status();
        (status, is_json, response.into_body().collect().await.expect("a whole answer").to_bytes())
    });
    let after = state(served.host.store(), &user);
    if !is_command {
        assert_eq!(before, after);
        return user;
    }
    assert_eq!((status, is_json), (StatusCode::OK, true));
    let succeeded = assert_well_formed(name, &answer);
    if succeeded {
        assert_objects(name, body);
    }
    if !succeeded {
        assert_eq!(before, after, "{}", String::from_utf8_lossy(&answer));
    } else if before.version != after.version {
        assert_eq!(before.version.next(), after.version, "one transaction");
    } else {
        assert_eq!(before, after);
    }
    user
}

/// In whose name a body is, if it says so.
fn account(body: &[u8]) -> Option<UserId> {
    let body: Value = serde_json::from_slice(body).ok()?;
    UserId::new(body.get("From_Account")?.as_str()?).ok()
}

/// What is done has objects where the API has them.
fn assert_objects(name: &str, body: &[u8]) {
    let body: Value = serde_json::from_slice(body).expect("what was read is JSON");
    let update = &body["UpdateGroup"];
    let list = match name {
        "create_contact_group" => &body["GroupContactItem"],
        "update_contact_group" => &update["ContactUpdateItem"],
        "search_contact_group" => &body["ContactItem"],
        "mark_contact" => &body["MarkItem"],
        _ => &Value::Null,
    };
    assert!(body.is_object() && (update.is_object() || name != "update_contact_group"), "{body}");
    assert!(list.as_array().into_iter().flatten().all(Value::is_object), "{body}");
}

/// Whether an answer says that it was done.
fn assert_well_formed(name: &str, answer: &[u8]) -> bool {
    let Ok(Value::Object(fields)) = serde_json::from_slice(answer) else {
        panic!("{} is no object", String::from_utf8_lossy(answer))
    };
    let code = fields.get("ErrorCode").and_then(Value::as_i64);
    let info = fields.get("ErrorInfo").and_then(Value::as_str);
    assert_eq!(fields.get("ErrorDisplay"), Some(&Value::from("")), "{fields:?}");
    match fields.get("ActionStatus").and_then(Value::as_str) {
        Some("OK") => {
            assert_eq!((code, info), (Some(0), Some("")), "{fields:?}");
            assert_fields(name, &fields);
            true
        }
        Some("FAIL") => {
            assert!(code.is_some_and(|code| code != 0) && info.is_some_and(|info| !info.is_empty()), "{fields:?}");
            // The plugin and the store have no reason to fail.
            assert!(code != Some(50004), "{fields:?}");
            assert_eq!(fields.len(), 4, "{fields:?}");
            false
        }
        _ => panic!("{fields:?} does not say whether it was done"),
    }
}

/// What a success of each command has beside.
fn assert_fields(name: &str, fields: &Map<String, Value>) {
    let expected: &[&str] = match name {
        "create_contact_group" => &["GroupResultItem"],
        "del_contact_group" => &["GroupItem"],
        "update_contact_group" => &["UpdateType", "UpdateGroupResult"],
        "get_contact_group" => &["ContactItem", "GroupItem", "CompleteFlag", "NextStartIndex"],
        "search_contact_group" => &["ContactResultItem", "GroupItem"],
        "mark_contact" => &["ResultItem"],
        _ => panic!("there is no command {name:?}, and it was done"),
    };
    assert!(fields.keys().map(String::as_str).take(fields.len() - 4).eq(expected.iter().copied()), "{fields:?}");
}
