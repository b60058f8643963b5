//! Signatures on both APIs: who they let in, and with which code they refuse.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use convgroups_server::KeySource;
use convgroups_server::usersig::{Keys, MAX_BYTES};
use convgroups_tests::server::{
    ADMIN, APP, KEY, Reply, Setup, TestServer, eventually, keys, now, put_secret, rest_path, sign, status_of,
};
use serde_json::{Value, json};

const OTHER_KEY: &str = "another key of more than 16 bytes";

/// What a generator makes of any bytes.
fn pack(bytes: &[u8]) -> String {
    encode(&miniz_oxide::deflate::compress_to_vec_zlib(bytes, 9))
}

fn encode(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes).replace('+', "*").replace('/', "-").replace('=', "_")
}

/// The fields of a valid signature.
fn fields(identifier: &str) -> Value {
    let standard = sign(identifier).replace('*', "+").replace('-', "/").replace('_', "=");
    let compressed = BASE64_STANDARD.decode(standard).expect("base64");
    let json = miniz_oxide::inflate::decompress_to_vec_zlib(&compressed).expect("zlib");
    serde_json::from_slice(&json).expect("JSON")
}

fn with(field: &str, value: impl Into<Value>) -> String {
    let mut fields = fields(ADMIN);
    fields[field] = value.into();
    pack(fields.to_string().as_bytes())
}

fn without(field: &str) -> String {
    let mut fields = fields(ADMIN);
    fields.as_object_mut().expect("an object").remove(field);
    pack(fields.to_string().as_bytes())
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    miniz_oxide::deflate::compress_to_vec_zlib(bytes, 9)
}

/// The values alone, in the order in which the fields are declared.
fn list(identifier: &str) -> String {
    let fields = fields(identifier);
    let in_order = ["TLS.ver", "TLS.identifier", "TLS.sdkappid", "TLS.expire", "TLS.time", "TLS.userbuf", "TLS.sig"];
    pack(Value::from(in_order.map(|name| fields[name].clone()).to_vec()).to_string().as_bytes())
}

/// A valid signature with bytes after it.
fn trailing(identifier: &str, bytes: &[u8]) -> String {
    encode(&[zlib(fields(identifier).to_string().as_bytes()), bytes.to_vec()].concat())
}

/// A valid signature with a field before it that stands there again.
fn twice(identifier: &str) -> String {
    let fields = fields(identifier).to_string();
    pack(fields.replacen('{', "{\"TLS.identifier\":\"alice\",", 1).as_bytes())
}

/// 100 MB of zeros in a hundred thousand bytes; or in less, where that is too long to be looked at.
fn bomb() -> String {
    pack(&vec![0; 100_000_000])
}

/// What a signature of the admin may be like, and what is answered to it.
fn cases() -> Vec<(&'static str, String, i64)> {
    let other = Keys::parse(OTHER_KEY).expect("a key");
    let nested = |count: usize| "[".repeat(count) + &"]".repeat(count);
    vec![
        ("expired long ago", keys().sign(ADMIN, APP, 1000, 60), 70001),
        ("expired just now", keys().sign(ADMIN, APP, now() - 61, 60), 70001),
        ("of another key", other.sign(ADMIN, APP, now(), 60), 70009),
        ("of another key and expired", other.sign(ADMIN, APP, 1000, 60), 70009),
        ("of another app", keys().sign(ADMIN, APP + 1, now(), 60), 70014),
        ("of another app and key", other.sign(ADMIN, 0, now(), 60), 70014),
        ("no base64", "%%%".to_owned(), 70003),
        ("no zlib", encode(b"not compressed"), 70003),
        ("no JSON", pack(b"not JSON"), 70003),
        ("JSON of another kind", pack(b"[1,2,3]"), 70003),
        ("nothing compressed", pack(b""), 70003),
        ("no UTF-8", pack(b"\"\xff\""), 70003),
        ("deep JSON", pack(nested(2000).as_bytes()), 70003),
        ("deep JSON in a field", with("TLS.userbuf", nested(1500)), 70009),
        ("100 MB compressed", bomb(), 70003),
        ("5000 bytes compressed", pack(&[b' '; 5000]), 70003),
        ("too long to be looked at", "e".repeat(MAX_BYTES + 1), 70003),
        ("as long as may be", "e".repeat(MAX_BYTES), 70003),
        ("of version 1", with("TLS.ver", "1.0"), 70003),
        ("with another identifier", with("TLS.identifier", "root"), 70009),
        ("with another time", with("TLS.time", now() + 1), 70009),
        ("that holds for ever", with("TLS.expire", u64::MAX), 70009),
        ("with a negative time", with("TLS.time", -1), 70003),
        ("with an app in a string with a sign", with("TLS.sdkappid", format!("+{APP}")), 70003),
        ("with an app in a string with a zero before it", with("TLS.sdkappid", format!("0{APP}")), 70003),
        ("with an app in a string with a blank", with("TLS.sdkappid", format!("{APP} ")), 70003),
        ("with another app in a string", with("TLS.sdkappid", (APP + 1).to_string()), 70014),
        ("with another time in a string", with("TLS.time", (now() + 1).to_string()), 70009),
        ("with a time of no number", with("TLS.time", "now"), 70003),
        ("with an identifier that is a number", with("TLS.identifier", 7), 70003),
        ("of a list in the place of the object", list(ADMIN), 70003),
        ("with bytes after its compressed data", trailing(ADMIN, b"x"), 70003),
        ("with a second stream after its compressed data", trailing(ADMIN, &zlib(b"{}")), 70003),
        ("with bytes after its JSON", pack(format!("{} x", fields(ADMIN)).as_bytes()), 70003),
        ("with a field that stands there twice", twice(ADMIN), 70003),
        ("with a line break", with("TLS.identifier", "administrator\nTLS.sdkappid:1"), 70003),
        ("with a user's buffer that was not signed", with("TLS.userbuf", "eA=="), 70009),
        ("with an empty MAC", with("TLS.sig", ""), 70009),
        ("with half a MAC", with("TLS.sig", &fields(ADMIN)["TLS.sig"].as_str().expect("text")[..20]), 70009),
        ("whose MAC is no base64", with("TLS.sig", "*"), 70003),
        ("without a MAC", without("TLS.sig"), 70003),
        ("without a time", without("TLS.time"), 70003),
        ("of nobody", keys().sign("", APP, now(), 60), 70003),
        ("of too long a name", keys().sign(&"x".repeat(256), APP, now(), 60), 70003),
    ]
}

#[test]
fn a_signature_that_proves_nothing_is_refused_with_its_code() {
    // So that even the longest is looked at.
    let server = Setup::default().with(|settings| settings.server.max_header_bytes = 1 << 20).start();
    assert_eq!(fields(ADMIN)["TLS.identifier"], ADMIN);
    for (what, signature, code) in cases() {
        let encoded = signature.replace('%', "%25").replace('*', "%2A");
        for _ in 0..2 {
            let answer = server.sdk_signed(&signature, "getConversationGroupList", "{}");
            assert_eq!(answer.outcome(), (401, code), "/v1: {what}: {}", answer.body);
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            assert!(!answer.body.contains(KEY) && !answer.body.contains(&signature), "{what}");
            let events = server.try_events(&signature, "", None).expect_err(what);
            assert_eq!(events.outcome(), (401, code), "events: {what}");
            let path = rest_path("get_contact_group", ADMIN, &encoded);
            if path.len() > 60_000 {
                // No address is that long.
                let request = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
                assert_eq!(status_of(&server.exchange(request.as_bytes())), Some(414), "{what}");
                continue;
            }
            let answer = server.rest_at(&path, r#"{"From_Account":"alice"}"#);
            assert_eq!(answer.outcome(), (200, code), "/v4: {what}: {}", answer.body);
            assert_eq!(answer.json()["ActionStatus"], "FAIL");
        }
    }
}

#[test]
fn headers_that_are_too_long_are_not_read_to_their_end() {
    let server = TestServer::start();
    let bomb = bomb();
    let heads = [
        format!("POST /v1/getConversationGroupList HTTP/1.1\r\nAuthorization: Bearer {bomb}\r\n\r\n"),
        format!("POST {} HTTP/1.1\r\nHost: x\r\n\r\n", rest_path("get_contact_group", ADMIN, &bomb)),
        format!("POST /{} HTTP/1.1\r\n", "x".repeat(17 << 10)),
        format!("GET /healthz HTTP/1.1\r\n{}", "a: b\r\n".repeat(4000)),
    ];
    for head in heads {
        let answer = server.exchange(head.as_bytes());
        // Or closed, before what is left could be sent.
        assert!(matches!(status_of(&answer), Some(414 | 431) | None), "{answer}");
    }
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn a_small_bomb_unfolds_to_no_more_than_a_signature() {
    // 2048 characters are 1536 bytes, which zlib unfolds to a thousand times as much.
    let mut zeros = 1_400_000;
    let signature = loop {
        let packed = pack(&vec![0; zeros]);
        if packed.len() <= MAX_BYTES {
            break packed;
        }
        zeros -= 50_000;
    };
    assert!(zeros > 1_000_000);
    let answer = TestServer::start().sdk_signed(&signature, "getConversationGroupList", "{}");
    assert_eq!(answer.outcome(), (401, 70003));
    assert!(answer.reason().contains("decompressed"), "{}", answer.reason());
}

#[test]
fn who_does_not_say_who_they_are_is_asked_for_it() {
    let server = TestServer::start();
    let path = "/v1/getConversationGroupList";
    assert_eq!(Reply::to(server.post(path)).outcome(), (401, 60005));
    let basic = format!("Basic {}", sign("alice"));
    let bare = sign("alice");
    let two_words = format!("Bearer {bare} {bare}");
    let cases = [
        (basic.as_str(), 60005),
        (bare.as_str(), 60005),
        ("", 60005),
        ("Bearers x", 60005),
        (two_words.as_str(), 70003),
        ("Bearer", 70002),
        ("Bearer ", 70002),
        ("bearer    ", 70002),
    ];
    for (header, code) in cases {
        let answer = Reply::to(server.post(path).header("authorization", header));
        assert_eq!(answer.outcome(), (401, code), "{header:?}");
    }
    for header in [format!("bearer {bare}"), format!("BEARER   {bare}  ")] {
        assert_eq!(Reply::to(server.post(path).header("authorization", header)).outcome(), (200, 0));
    }
    // Not in the address, where it would be in logs.
    assert_eq!(Reply::to(server.post(&format!("{path}?usersig={bare}"))).outcome(), (401, 60005));
}

#[test]
fn an_address_for_back_ends_says_app_admin_and_signature() {
    let server = TestServer::start();
    let admin = sign(ADMIN);
    let all = |appid: &str, identifier: &str, usersig: &str, rest: &str| {
        format!("sdkappid={appid}&identifier={identifier}&usersig={usersig}{rest}")
    };
    let app = APP.to_string();
    let cases = [
        (String::new(), 60012),
        (format!("identifier={ADMIN}&usersig={admin}"), 60012),
        (format!("SdkAppId={APP}&identifier={ADMIN}&usersig={admin}"), 60012),
        (all("", ADMIN, &admin, ""), 60006),
        (all("1", ADMIN, &admin, ""), 60006),
        (all("abc", ADMIN, &admin, ""), 60006),
        (all("1400000000.0", ADMIN, &admin, ""), 60006),
        (format!("sdkappid={APP}&usersig={admin}"), 60004),
        (all(&app, "", &admin, ""), 60004),
        (format!("sdkappid={APP}&identifier={ADMIN}"), 60005),
        (all(&app, ADMIN, "", ""), 70002),
        (all(&app, "root", &admin, ""), 70013),
        (all(&app, "Administrator", &admin, ""), 70013),
        (all(&app, ADMIN, &sign("alice"), ""), 70013),
        (all(&app, "alice", &sign("alice"), ""), 60010),
        (all(&app, ADMIN, &admin, "&random=-1"), 60002),
        (all(&app, ADMIN, &admin, "&random=4294967296"), 60002),
        (all(&app, ADMIN, &admin, "&random="), 60002),
        (all(&app, ADMIN, &admin, "&contenttype=xml"), 60002),
        (all(&app, ADMIN, &admin, ""), 0),
        (all(&app, ADMIN, &admin, "&random=0&contenttype=json&more=1"), 0),
        (all(&app, ADMIN, &admin, "&random=4294967295"), 0),
        (all(&app, "admin%69strator", &admin.replace('*', "%2A"), ""), 0),
    ];
    for (query, code) in cases {
        let path = format!("/v4/recentcontact/get_contact_group?{query}");
        let answer = server.rest_at(&path, r#"{"From_Account":"alice"}"#);
        assert_eq!(answer.outcome(), (200, code), "{query}: {answer:?}");
        assert_eq!(answer.json()["ActionStatus"], if code == 0 { "OK" } else { "FAIL" }, "{query}");
        assert_eq!(answer.json()["ErrorDisplay"], "");
    }
}

#[test]
fn no_part_of_a_signature_is_one() {
    let server = TestServer::start();
    let signature = sign(ADMIN);
    for length in 0..signature.len() {
        let part = &signature[..length];
        let code = if length == 0 { 70002 } else { 70003 };
        assert_eq!(server.sdk_signed(part, "getConversationGroupList", "").outcome(), (401, code), "{part}");
        let answer = server.rest_at(&rest_path("get_contact_group", ADMIN, part), r#"{"From_Account":"alice"}"#);
        assert_eq!(answer.outcome(), (200, code), "{part}");
    }
}

#[test]
fn a_signature_with_another_character_is_nobody_elses() {
    let server = TestServer::start();
    let create = json!({ "groupName": "Work", "conversationIDList": ["c2c_bob"] });
    assert_eq!(server.sdk("alice", "createConversationGroup", &create).code(), 0);
    let signature = sign("alice");
    let mut random = fastrand::Rng::with_seed(5);
    for position in 0..signature.len() {
        for _ in 0..2 {
            let mut changed = signature.clone().into_bytes();
            let old = changed[position];
            while changed[position] == old {
                changed[position] =
                    *random.choice(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789*-_").expect("some");
            }
            let changed = String::from_utf8(changed).expect("ASCII");
            let answer = server.sdk_signed(&changed, "getConversationGroupList", "{}");
            if answer.status == 200 {
                // Neither zlib's header nor the order of its codes is signed; who it is for is.
                assert_eq!(answer.json()["data"], json!(["Work"]), "{changed}");
                continue;
            }
            assert!(matches!(answer.outcome(), (401, 70003 | 70009 | 70014)), "{changed}: {answer:?}");
        }
    }
    let users = server.host().store().users(None, 10).expect("reads");
    assert_eq!(users.len(), 1);
}

#[test]
fn signatures_of_other_generators_are_read() {
    let server = TestServer::start();
    let fields = fields("alice");
    let spaced = serde_json::to_string_pretty(&fields).expect("JSON");
    let mut reversed = serde_json::Map::new();
    for (name, value) in fields.as_object().expect("an object").iter().rev() {
        reversed.insert(name.clone(), value.clone());
    }
    let uncompressed = encode(&miniz_oxide::deflate::compress_to_vec_zlib(fields.to_string().as_bytes(), 0));
    for signature in [pack(spaced.as_bytes()), pack(Value::from(reversed).to_string().as_bytes()), uncompressed] {
        assert_eq!(server.sdk_signed(&signature, "getConversationGroupList", "{}").outcome(), (200, 0));
    }
}

#[test]
fn signatures_whose_numbers_are_digits_in_strings_are_accepted() {
    let server = TestServer::start();
    let numbers = ["TLS.sdkappid", "TLS.time", "TLS.expire"];
    for count in 1..=numbers.len() {
        for chosen in [&numbers[..count], &numbers[numbers.len() - count..]] {
            let mut fields = fields(ADMIN);
            for name in chosen {
                fields[name] = fields[name].to_string().into();
            }
            let signature = pack(fields.to_string().as_bytes());
            let answer = server.sdk_signed(&signature, "getConversationGroupList", "{}");
            assert_eq!(answer.outcome(), (200, 0), "{fields}: {}", answer.body);
            let path = rest_path("get_contact_group", ADMIN, &signature.replace('*', "%2A"));
            assert_eq!(server.rest_at(&path, r#"{"From_Account":"alice"}"#).outcome(), (200, 0), "{fields}");
        }
    }
}

const LIST: &str = "/v1/getConversationGroupList";

/// Calls of any address, as a proxy forwards them.
fn forwarded(server: &TestServer, address: &str, signature: &str) -> Reply {
    Reply::to(server.post(LIST).bearer_auth(signature).header("x-forwarded-for", address))
}

#[test]
fn an_address_with_too_many_wrong_signatures_is_throttled_and_others_are_not() {
    let setup = Setup::default().with(|settings| {
        settings.auth.failures_per_minute_per_address = 5;
        settings.server.trusted_proxies = vec!["127.0.0.0/8".to_owned()];
    });
    let server = setup.start();
    let outcome = |address: &str, signature: &str| forwarded(&server, address, signature).outcome();
    let (known, new) = (sign("alice"), sign("bob"));
    let wrong = |number: u32| Keys::parse(OTHER_KEY).expect("a key").sign(&number.to_string(), APP, now(), 60);
    let bad = "203.0.113.9";
    assert_eq!(outcome(bad, &known), (200, 0));
    for number in 0..5 {
        // What the client says itself does not count.
        assert_eq!(outcome(&format!("198.51.100.{number}, {bad}"), &wrong(number)), (401, 70009));
    }
    let refused = forwarded(&server, bad, &wrong(5));
    assert_eq!(refused.outcome(), (429, 60007), "{refused:?}");
    assert!(refused.reason().contains("address"), "{refused:?}");
    let seconds: u64 = refused.header("retry-after").expect("when to try again").parse().expect("seconds");
    assert!((1..=13).contains(&seconds), "{seconds}");
    assert_eq!(outcome(bad, &new), (429, 60007), "nobody's is read");
    assert_eq!(outcome(bad, &known), (200, 0), "but for one that was verified before");
    let path = rest_path("get_contact_group", ADMIN, &sign(ADMIN).replace('*', "%2A"));
    let rest = |address: &str| {
        let request = server.post(&path).header("x-forwarded-for", address).body(r#"{"From_Account":"alice"}"#);
        Reply::to(request).outcome()
    };
    assert_eq!(rest(bad), (200, 60007));
    assert_eq!(rest("203.0.113.10"), (200, 0), "from another address");
    assert_eq!(outcome("203.0.113.10", &new), (200, 0));
    assert_eq!(server.metric("convgroups_throttled_signatures_total"), 3);

    // One network of IPv6 is one address.
    for number in 0..5 {
        assert_eq!(outcome(&format!("2001:db8:0:1::{number:x}"), &wrong(number)), (401, 70009));
    }
    assert_eq!(outcome("2001:db8:0:1:ffff::1", &sign("carol")), (429, 60007));
    assert_eq!(outcome("2001:db8:0:2::1", &sign("carol")), (200, 0));
}

#[test]
fn forwarded_addresses_of_untrusted_peers_are_ignored() {
    let setup = Setup::default().with(|settings| {
        settings.auth.failures_per_minute_per_address = 3;
        settings.server.trusted_proxies = vec!["192.0.2.1".to_owned()];
    });
    let server = setup.start();
    for number in 0..3 {
        assert_eq!(forwarded(&server, &format!("203.0.113.{number}"), "wrong").outcome(), (401, 70003));
    }
    assert_eq!(forwarded(&server, "203.0.113.99", "wrong").outcome(), (429, 60007));
}

#[test]
fn missing_and_expired_signatures_are_not_counted_as_failures() {
    let server = Setup::default().with(|settings| settings.auth.failures_per_minute_per_address = 1).start();
    let expired = keys().sign("alice", APP, 1000, 60);
    for _ in 0..10 {
        assert_eq!(Reply::to(server.post(LIST)).outcome(), (401, 60005));
        // Which tells a client that it has to renew its signature.
        assert_eq!(server.sdk_signed(&expired, "getConversationGroupList", "").outcome(), (401, 70001));
    }
    assert_eq!(server.sdk_signed("wrong", "getConversationGroupList", "").outcome(), (401, 70003));
    assert_eq!(server.sdk_signed("wrong", "getConversationGroupList", "").outcome(), (429, 60007));
}

#[test]
fn a_signature_that_expires_while_it_is_remembered_ends() {
    let server = TestServer::start();
    let signature = keys().sign("alice", APP, now(), 2);
    let mut accepted = 0;
    eventually("the signature expires", || {
        let answer = server.sdk_signed(&signature, "getConversationGroupList", "{}");
        accepted += u32::from(answer.status == 200);
        answer.status == 401 && answer.code() == 70001
    });
    assert!(accepted > 0, "it was valid before");
    assert_eq!(server.try_events(&signature, "", None).expect_err("expired").outcome(), (401, 70001));
}

const CREATION: &str = r#"{"groupName":"Work","conversationIDList":["c2c_bob"]}"#;

#[test]
fn a_key_is_replaced_while_the_server_runs_and_a_broken_file_changes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("keys");
    let write = |text: &str| put_secret(&path, text);
    write(&format!("# two keys\n{OTHER_KEY}\n{KEY}\n"));
    let server = Setup::default().keys(KeySource::File(path.clone())).start();
    let (old, new) = (sign("alice"), Keys::parse(OTHER_KEY).expect("a key").sign("alice", APP, now(), 3600));
    let outcome = |signature: &str| server.sdk_signed(signature, "getConversationGroupList", "{}").outcome();
    assert_eq!((outcome(&old), outcome(&new)), ((200, 0), (200, 0)));

    write("short\n");
    // The next good file is read after the broken one, or instead of it; either way both keys hold until then.
    for _ in 0..50 {
        assert_eq!((outcome(&old), outcome(&new)), ((200, 0), (200, 0)));
    }
    let (mut of_old, mut of_new) = (server.try_events(&old, "", None), server.try_events(&new, "", None));
    let of_old = of_old.as_mut().expect("a stream");
    let of_new = of_new.as_mut().expect("a stream");
    write(&format!("{OTHER_KEY}\n"));
    eventually("the removed key is refused", || outcome(&old) == (401, 70009));
    assert_eq!(of_old.end(), "expired", "a stream does not outlive its key");
    assert_eq!(of_new.expect().event, "full");
    assert_eq!(server.sdk_signed(&new, "createConversationGroup", CREATION).outcome(), (200, 0));
    assert_eq!(of_new.expect().event, "change", "the other stream goes on");
    assert_eq!(outcome(&new), (200, 0));

    std::fs::remove_file(&path).expect("removes");
    assert_eq!(outcome(&new), (200, 0));
    write(&format!("{KEY}\n"));
    eventually("the other key is refused", || outcome(&new) == (401, 70009));
    assert_eq!(outcome(&old), (200, 0));
}

#[test]
fn a_rotation_that_keeps_the_files_time_and_size_is_noticed() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("keys");
    let other = "x".repeat(KEY.len());
    put_secret(&path, KEY);
    let time = std::fs::metadata(&path).and_then(|metadata| metadata.modified()).expect("a time");
    let server = Setup::default().keys(KeySource::File(path.clone())).start();
    let outcome = |signature: &str| server.sdk_signed(signature, "getConversationGroupList", "{}").outcome();
    assert_eq!(outcome(&sign("alice")), (200, 0));
    // In place, as an editor may do.
    let file = std::fs::File::options().write(true).open(&path).expect("it is there");
    std::io::Write::write_all(&mut &file, other.as_bytes()).expect("writes");
    file.set_modified(time).expect("sets");
    eventually("the removed key is refused", || outcome(&sign("alice")) == (401, 70009));
    let new = Keys::parse(&other).expect("a key").sign("alice", APP, now(), 60);
    assert_eq!(outcome(&new), (200, 0));
}

#[cfg(unix)]
#[test]
fn an_unusable_keys_file_is_retried_even_if_it_is_unchanged() {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("keys");
    put_secret(&path, KEY);
    let server = Setup::default().keys(KeySource::File(path.clone())).start();
    let outcome = |signature: &str| server.sdk_signed(signature, "getConversationGroupList", "{}").outcome();
    put_secret(&directory.path().join("other"), OTHER_KEY);
    // A moment in which everybody could have written a key of theirs into it.
    std::fs::set_permissions(directory.path().join("other"), Permissions::from_mode(0o666)).expect("it is ours");
    std::fs::rename(directory.path().join("other"), &path).expect("renames");
    let new = Keys::parse(OTHER_KEY).expect("a key").sign("alice", APP, now(), 3600);
    let started = std::time::Instant::now();
    while started.elapsed() < std::time::Duration::from_secs(5) {
        assert_eq!((outcome(&new), outcome(&sign("alice"))), ((401, 70009), (200, 0)), "the old one is in force");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is ours");
    eventually("the new key is taken", || outcome(&new) == (200, 0));
    assert_eq!(outcome(&sign("alice")), (401, 70009));
}

#[test]
fn a_byte_order_mark_in_a_keys_file_is_ignored() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("keys");
    put_secret(&path, format!("\u{feff}{KEY}\r\n"));
    let server = Setup::default().keys(KeySource::File(path)).start();
    assert_eq!(server.sdk_signed(&sign("alice"), "getConversationGroupList", "{}").outcome(), (200, 0));
}
