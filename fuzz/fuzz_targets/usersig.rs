//! UserSigs: only what was signed with a key of the app is accepted.

#![no_main]

use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use convgroups_fuzz::KEY;
use convgroups_server::usersig::{Keys, MAX_BYTES, UserSig, UserSigError};
use hmac::{Hmac, Mac};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use sha2::Sha256;

const APP: u64 = 1_400_000_000;
const NOW: u64 = 1_795_477_366;
const LIFETIME: u64 = 60;
/// Signs no longer, and still verifies.
const OLD_KEY: &str = "a key that is about to be replaced";
const WRONG_KEY: &str = "a key that is none of the app's";
/// What a signature may unfold to, in bytes.
const MAX_JSON_BYTES: usize = 4096;

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::parse(&format!("{KEY}\n{OLD_KEY}")).expect("keys"));

// The first byte says what the rest is: a signature (r), its JSON as it is (j), signed by the key (s), by the one before (o),
// or by a wrong one (w); or an identifier that a signature is generated for (g), with what to change in it before.
fuzz_target!(|input: &[u8]| {
    let Some((&kind, rest)) = input.split_first() else { return };
    match kind {
        b'r' => {
            let Ok(signature) = str::from_utf8(rest) else { return };
            assert_proven(signature);
        }
        b'j' => assert_proven(&encode(rest)),
        b's' => assert_signed(rest, KEY, true),
        b'o' => assert_signed(rest, OLD_KEY, true),
        b'w' => assert_signed(rest, WRONG_KEY, false),
        b'g' => assert_generated(rest),
        _ => {}
    }
});

fn verify(signature: &str) -> Result<UserSig, UserSigError> {
    let verified = KEYS.verify(signature, APP, NOW);
    if let Err(error) = &verified {
        assert!((70001..=70014).contains(&error.code()));
    }
    verified
}

/// What is accepted has fields that hold, and a digest of them by one of the keys.
fn assert_proven(signature: &str) {
    let Ok(accepted) = verify(signature) else { return };
    let fields = decode(signature).expect("what is accepted can be read");
    assert_eq!(holding(&fields), Some(accepted));
    let sig = fields["TLS.sig"].as_str().and_then(|sig| BASE64_STANDARD.decode(sig).ok()).expect("a digest");
    assert!([KEY, OLD_KEY].iter().any(|key| digest(&fields, key).as_deref() == Some(&sig[..])), "{fields:?}");
}

/// Signed by a right key, fields that hold are accepted, and no others; signed by a wrong one, none are.
fn assert_signed(json: &[u8], key: &str, right: bool) {
    let Ok(Value::Object(mut fields)) = serde_json::from_slice(json) else { return };
    let Some(sig) = digest(&fields, key) else { return };
    fields.insert("TLS.sig".to_owned(), BASE64_STANDARD.encode(sig).into());
    let json = serde_json::to_vec(&fields).expect("fields have a JSON form");
    let signature = encode(&json);
    let fits = signature.len() <= MAX_BYTES && json.len() <= MAX_JSON_BYTES;
    let expected = holding(&fields).filter(|_| right && fits);
    assert_eq!(verify(&signature).ok(), expected, "{fields:?}");
}

/// What the generator makes is accepted; with any character changed it is not, or says the same.
fn assert_generated(rest: &[u8]) {
    let Some((&[position_high, position_low, character], identifier)) = rest.split_first_chunk() else { return };
    let Ok(identifier) = str::from_utf8(identifier) else { return };
    let signature = KEYS.sign(identifier, APP, NOW, LIFETIME);
    let expected = UserSig { identifier: identifier.to_owned(), expires: NOW + LIFETIME };
    let possible = signature.len() <= MAX_BYTES && !identifier.contains(char::is_control);
    match verify(&signature) {
        Ok(accepted) => assert_eq!(accepted, expected),
        Err(error) => assert!(!possible || identifier.len() > 3000, "{error}: {identifier:?}"),
    }
    let mut changed: Vec<char> = signature.chars().collect();
    let position = usize::from(u16::from_be_bytes([position_high, position_low])) % changed.len();
    changed[position] = character.into();
    let changed: String = changed.into_iter().collect();
    if let Ok(accepted) = verify(&changed) {
        assert_eq!(accepted, expected);
    }
    assert_proven(&changed);
}

/// Who fields are for, and until when, if a signature of them is to be accepted.
fn holding(fields: &Map<String, Value>) -> Option<UserSig> {
    let number = |name| number(fields, name);
    let identifier = fields.get("TLS.identifier")?.as_str()?.to_owned();
    let expires = number("TLS.time")?.saturating_add(number("TLS.expire")?);
    let userbuf_is_one = fields.get("TLS.userbuf").is_none_or(|userbuf| userbuf.is_string() || userbuf.is_null());
    let holds = fields.get("TLS.ver")?.as_str()? == "2.0"
        && number("TLS.sdkappid")? == APP
        && userbuf_is_one
        && !identifier.contains(char::is_control)
        && NOW <= expires;
    holds.then_some(UserSig { identifier, expires })
}

/// A number, or the digits of one in a string, which have one spelling.
fn number(fields: &Map<String, Value>, name: &str) -> Option<u64> {
    match fields.get(name)? {
        Value::String(digits) => digits.parse().ok().filter(|number: &u64| number.to_string() == *digits),
        value => value.as_u64(),
    }
}

/// What a key makes of fields, if they are of the right types.
fn digest(fields: &Map<String, Value>, key: &str) -> Option<Vec<u8>> {
    let number = |name| number(fields, name);
    let mut text = format!(
        "TLS.identifier:{}\nTLS.sdkappid:{}\nTLS.time:{}\nTLS.expire:{}\n",
        fields.get("TLS.identifier")?.as_str()?,
        number("TLS.sdkappid")?,
        number("TLS.time")?,
        number("TLS.expire")?,
    );
    if let Some(userbuf) = fields.get("TLS.userbuf").and_then(Value::as_str) {
        text += &format!("TLS.userbuf:{userbuf}\n");
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key may have any length");
    mac.update(text.as_bytes());
    Some(mac.finalize().into_bytes().to_vec())
}

fn encode(json: &[u8]) -> String {
    let compressed = miniz_oxide::deflate::compress_to_vec_zlib(json, 6);
    BASE64_STANDARD.encode(compressed).replace('+', "*").replace('/', "-").replace('=', "_")
}

fn decode(signature: &str) -> Option<Map<String, Value>> {
    let standard = signature.replace('*', "+").replace('-', "/").replace('_', "=");
    let compressed = BASE64_STANDARD.decode(standard).ok()?;
    let json = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(&compressed, MAX_JSON_BYTES).ok()?;
    serde_json::from_slice(&json).ok()
}
