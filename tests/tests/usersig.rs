//! UserSig against other people's programs: what they sign is verified here, and what is signed here is verified there.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use convgroups_host::server::usersig::{Keys, UserSigError};
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
