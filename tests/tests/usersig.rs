//! UserSig against other people's programs: what they sign is verified here, and what is signed here is verified there.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use convgroups_server::usersig::{Keys, UserSigError};
use serde::Deserialize;

/// A signature by one of the official generators, made by `tests/usersig/make.sh`.
#[derive(Deserialize)]
struct Vector {
    generator: String,
    key: String,
    sdkappid: u64,
    identifier: String,
    made: u64,
    expire: u64,
    signature: String,
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("../usersig/vectors.json")).expect("the vectors are as they were made")
}

fn keys(text: &str) -> Keys {
    Keys::parse(text).expect("keys")
}

#[test]
fn signatures_of_the_official_generators_are_verified() {
    let vectors = vectors();
    for generator in ["PyPI tls-sig-api-v2 1.1", "npm tls-sig-api-v2 1.0.2"] {
        assert!(vectors.iter().filter(|vector| vector.generator == generator).count() >= 10, "{generator}");
    }
    for Vector { generator, key, sdkappid, identifier, made, expire, signature } in &vectors {
        let signed = keys(key).verify(signature, *sdkappid, *made);
        let signed = signed.unwrap_or_else(|error| panic!("{generator}, {identifier}: {error}"));
        assert_eq!(&signed.identifier, identifier, "{generator}");
        // The generator's clock may have gone on by a second between two looks at it.
        assert!((made + expire..=made + expire + 1).contains(&signed.expires), "{generator}, {identifier}");

        let expired = keys(key).verify(signature, *sdkappid, made + expire + 2);
        assert_eq!(expired, Err(UserSigError::Expired), "{generator}, {identifier}");
        let foreign = keys("another key of the app").verify(signature, *sdkappid, *made);
        assert_eq!(foreign, Err(UserSigError::WrongKey), "{generator}, {identifier}");
        let other_app = keys(key).verify(signature, sdkappid + 1, *made);
        assert!(matches!(other_app, Err(UserSigError::WrongApp { .. })), "{generator}, {identifier}");
        let both = keys(&format!("a key that came later\n# the one before\n{key}"));
        assert!(both.verify(signature, *sdkappid, *made).is_ok(), "{generator}, {identifier}");
    }
}

#[test]
fn signatures_of_ours_are_accepted_by_an_independent_check() {
    let python = Command::new("python3").arg("--version").output();
    if python.is_err() {
        assert!(std::env::var_os("CI").is_none(), "python3 is missing, and this must not be skipped here");
        eprintln!("skipped: python3 is not installed");
        return;
    }
    let key = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e";
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let identifiers = ["administrator", "alice", "пользователь", "用户", "quote\"back\\slash", &"long".repeat(60)];
    let mut check = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/usersig/check.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let mut input = check.stdin.take().expect("piped");
    for identifier in identifiers {
        let signature = keys(key).sign(identifier, 1_400_000_000, now, 3600);
        let line = serde_json::json!({
            "key": key, "sdkappid": 1_400_000_000, "identifier": identifier, "signature": signature,
        });
        writeln!(input, "{line}").expect("it reads");
    }
    drop(input);
    let output = check.wait_with_output().expect("it ends");
    assert!(output.status.success());
    let accepted = String::from_utf8(output.stdout).expect("text");
    assert_eq!(accepted.lines().filter(|line| line.starts_with("ok ")).count(), identifiers.len());
}

#[test]
fn keys_are_read_from_lines_and_weak_ones_are_refused() {
    assert!(Keys::parse("").is_err());
    assert!(Keys::parse("# only a remark\n\n").is_err());
    let short = Keys::parse("0123456789abcdef\n  short  \n").expect_err("a short key");
    assert!(short.to_string().starts_with("line 2 "), "{short}");
    assert_eq!(format!("{:?}", keys(" 0123456789abcdef \r\n# x\nfedcba9876543210\n")), "Keys(2 secrets)");
    let signature = keys(" 0123456789abcdef \r\n").sign("alice", 1, 10, 10);
    assert!(keys("0123456789abcdef").verify(&signature, 1, 20).is_ok());
}

#[test]
fn keys_files_are_read_strictly_and_errors_name_the_line() {
    let key = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e";
    let signature = keys(key).sign("alice", 1, 10, 10);
    for text in [
        format!("\u{feff}{key}"),
        format!("\u{feff}# a comment\r\n{key}\r\n"),
        format!("  {key}\t\n\n"),
        format!("anotherKeyInBase64WithPadding==\n{key}"),
        format!("a key with blanks, and = in the middle\n{key}"),
        format!("0123456789=abcdef0123456789\n{key}"),
    ] {
        assert!(keys(&text).verify(&signature, 1, 10).is_ok(), "{text:?}");
    }
    for (line, reason) in [
        (format!("\"{key}\""), "a quotation mark"),
        (format!("'{key}'"), "a quotation mark"),
        (format!("`{key}`"), "a quotation mark"),
        (format!("\u{201c}{key}\u{201d}"), "a quotation mark"),
        (format!("\"{key}"), "a quotation mark"),
        (format!("{key}\""), "a quotation mark"),
        (format!("USERSIG_KEY={key}"), "NAME=value"),
        (format!("export USERSIG_KEY={key}"), "NAME=value"),
        (format!("usersig.key = {key}"), "NAME=value"),
        (format!("KEY=\"{key}\""), "a quotation mark"),
        ("KEY=YWJjZGVmZ2hpamtsbW5vcA==".to_owned(), "NAME=value"),
        (format!("key: {key}"), "NAME=value"),
        (format!("{key} # the new one"), "a comment"),
        ("-----BEGIN PRIVATE KEY-----".to_owned(), "PEM"),
        (format!("\u{feff}{key}"), "\\u{feff}"),
        (format!("{key}\u{200b}"), "\\u{200b}"),
        (format!("{}\u{a0}{}", &key[..30], &key[30..]), "\\u{a0}"),
        (format!("{key}\0"), "\\u{0}"),
        ("short".to_owned(), "less than 16 bytes"),
    ] {
        let text = format!("# the keys\n{key}\n{line}\n");
        let refused = Keys::parse(&text).expect_err(&line).to_string();
        assert!(refused.starts_with("line 3 ") && refused.contains(reason), "{line:?}: {refused}");
        assert!(!refused.contains(key), "{refused}");
    }
}

/// A signature whose fields were changed after it was signed.
fn changed(change: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>)) -> String {
    let encode = |bytes: &[u8]| BASE64_STANDARD.encode(bytes).replace('+', "*").replace('/', "-").replace('=', "_");
    let signature = keys("0123456789abcdef").sign("alice", 1_400_000_000, 10, 60);
    let compressed = BASE64_STANDARD.decode(signature.replace('*', "+").replace('-', "/").replace('_', "="));
    let json = miniz_oxide::inflate::decompress_to_vec_zlib(&compressed.expect("base64")).expect("zlib");
    let mut fields = serde_json::from_slice(&json).expect("an object");
    change(&mut fields);
    let json = serde_json::to_vec(&fields).expect("JSON");
    encode(&miniz_oxide::deflate::compress_to_vec_zlib(&json, 6))
}

#[test]
fn the_field_that_is_wrong_is_named() {
    use serde_json::{Value, json};

    let set = |field: &str, value: Value| changed(|fields| drop(fields.insert(field.to_owned(), value)));
    let cases: [(String, Option<&str>, &str); 22] = [
        (String::new(), None, "empty"),
        ("%".to_owned(), None, "base64"),
        (changed(serde_json::Map::clear), Some("TLS.ver"), "TLS.ver is missing"),
        (changed(|fields| drop(fields.remove("TLS.time"))), Some("TLS.time"), "TLS.time is missing"),
        (set("TLS.time", json!(null)), Some("TLS.time"), "TLS.time is missing"),
        (set("TLS.time", json!("now")), Some("TLS.time"), "digits"),
        (set("TLS.time", json!("")), Some("TLS.time"), "digits"),
        (set("TLS.time", json!("010")), Some("TLS.time"), "digits"),
        (set("TLS.time", json!(10.5)), Some("TLS.time"), "digits"),
        (set("TLS.time", json!(-1)), Some("TLS.time"), "digits"),
        (set("TLS.expire", json!([60])), Some("TLS.expire"), "digits"),
        (set("TLS.expire", json!("18446744073709551616")), Some("TLS.expire"), "digits"),
        (set("TLS.sdkappid", json!(true)), Some("TLS.sdkappid"), "digits"),
        (set("TLS.sdkappid", json!("7")), Some("TLS.sdkappid"), "for the SDKAppID 7"),
        (set("TLS.identifier", json!(7)), Some("TLS.identifier"), "not a string"),
        (set("TLS.identifier", json!("a\nb")), Some("TLS.identifier"), "control characters"),
        (set("TLS.ver", json!("1.0")), Some("TLS.ver"), "not 2.0"),
        (set("TLS.ver", json!(2.0)), Some("TLS.ver"), "not a string"),
        (set("TLS.userbuf", json!(1)), Some("TLS.userbuf"), "not a string"),
        (set("TLS.sig", json!("%")), Some("TLS.sig"), "not base64"),
        (set("TLS.sig", json!("AAAA")), Some("TLS.sig"), "key"),
        (keys("0123456789abcdef").sign("alice", 1_400_000_000, 1, 1), Some("TLS.expire"), "expired"),
    ];
    for (signature, field, says) in cases {
        let error = keys("0123456789abcdef").verify(&signature, 1_400_000_000, 10).expect_err(says);
        assert_eq!(error.field(), field, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    for field in ["TLS.time", "TLS.expire", "TLS.sdkappid"] {
        let signature = changed(|fields| {
            let digits = fields[field].to_string();
            fields[field] = digits.into();
        });
        keys("0123456789abcdef").verify(&signature, 1_400_000_000, 10).expect("the signed text is the same");
    }
}
