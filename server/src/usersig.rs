//! UserSig (TLSSigAPIv2): the signature by which Tencent Cloud Chat's clients and back ends prove who they are.
//!
//! A JSON object with the identifier, the app, the time of signing, how long it holds, and an HMAC-SHA256 over these;
//! compressed with zlib, in base64 with `*-_` for `+/=`. Generators differ in the order of fields and in spacing, so a
//! signature is read, never compared as text.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, Mac};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::DecompressorOxide;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_PARSE_ZLIB_HEADER, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;

use convgroups_host::object;

/// A longer signature is not looked at. Those of the official generators have 150 to 300 bytes.
pub const MAX_BYTES: usize = 2048;
/// What a signature may unfold to, in bytes.
const MAX_JSON_BYTES: usize = 4096;
/// How long a signature holds where nobody says otherwise, in seconds: 180 days, as the official generators.
pub const DEFAULT_LIFETIME_SECONDS: u64 = 180 * 86_400;
/// A shorter key could be guessed. Tencent's have 64 characters.
const MIN_KEY_BYTES: usize = 16;

/// Why a signature proves nothing. Codes are Tencent Cloud Chat's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserSigError {
    /// 70002
    #[error("the UserSig is empty")]
    Empty,
    /// 70003: not what a generator makes. Says what is wrong, never what was sent.
    #[error("the UserSig is illegal: {0}")]
    Illegal(Flaw),
    /// 70009
    #[error("the UserSig was not made with a key of this app")]
    WrongKey,
    /// 70014
    #[error("the UserSig is for the SDKAppID {signed}, not for {wanted}")]
    WrongApp {
        /// The app that it was made for.
        signed: u64,
        /// The app that is served.
        wanted: u64,
    },
    /// 70013
    #[error("the UserSig is somebody else's: the identifier of the request does not match it")]
    WrongIdentifier,
    /// 70001
    #[error("the UserSig has expired")]
    Expired,
}

impl UserSigError {
    /// The code to answer with.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::Expired => 70001,
            Self::Empty => 70002,
            Self::Illegal(_) => 70003,
            Self::WrongKey => 70009,
            Self::WrongIdentifier => 70013,
            Self::WrongApp { .. } => 70014,
        }
    }

    /// The field that is wrong, if it is a single one.
    #[must_use]
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::Empty => None,
            Self::Illegal(flaw) => flaw.field,
            Self::WrongKey => Some(SIG),
            Self::WrongApp { .. } => Some(SDK_APP_ID),
            Self::WrongIdentifier => Some(IDENTIFIER),
            Self::Expired => Some(EXPIRE),
        }
    }

    pub(super) fn illegal(reason: &'static str) -> Self {
        Self::Illegal(Flaw { field: None, reason })
    }

    pub(super) fn illegal_field(field: &'static str, reason: &'static str) -> Self {
        Self::Illegal(Flaw { field: Some(field), reason })
    }
}

/// What is wrong with a malformed signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The invalid field, if it is a single one.
    pub field: Option<&'static str>,
    /// The reason.
    pub reason: &'static str,
}

impl fmt::Display for Flaw {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field {
            Some(field) => write!(formatter, "{field} {}", self.reason),
            None => formatter.write_str(self.reason),
        }
    }
}

/// What a verified signature says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserSig {
    /// Who it is for.
    pub identifier: String,
    /// When it ends, in seconds since 1970.
    pub expires: u64,
}

/// The keys of an app: the first signs, all verify, so that a key can be replaced without anybody noticing.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys(Vec<Box<[u8]>>);

impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Keys({} secrets)", self.0.len())
    }
}

/// Why a string is not a list of keys. Names lines, never what is on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeys {
    /// There is none.
    #[error("there is no key: expected one on each line, the one that signs first")]
    None,
    /// One is too short.
    #[error("line {0} has a key of less than {MIN_KEY_BYTES} bytes, which could be guessed: use a longer key")]
    TooShort(usize),
    /// One is in quotes.
    #[error(
        "line {0} begins or ends with a quotation mark, which would be a part of the key: remove the quotation marks"
    )]
    Quoted(usize),
    /// One has a name before it.
    #[error("line {0} is of the form NAME=value: expected the key alone, remove the name")]
    Named(usize),
    /// One has a comment behind it.
    #[error("line {0} has a comment behind the key, of which it would be a part: put the comment on a line of its own")]
    Commented(usize),
    /// One is a line of PEM.
    #[error(
        "line {0} is PEM: expected the app's secret key for UserSigs, a string, not a private key or a certificate"
    )]
    Pem(usize),
    /// One has invisible characters.
    #[error("line {line} has the invisible character {}: write the line again without it", .character.escape_unicode())]
    Invisible {
        /// The line.
        line: usize,
        /// What is on it.
        character: char,
    },
}

/// The mark that some editors put before the first line of a file.
const BYTE_ORDER_MARK: char = '\u{feff}';

impl Keys {
    /// Reads keys, one on each line. Empty lines and those that begin with `#` are left out, and so is a byte-order mark.
    ///
    /// # Errors
    ///
    /// When there is none, one is too short to be safe, or a line looks like something other than a key.
    pub fn parse(text: &str) -> Result<Self, InvalidKeys> {
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        let mut keys = Vec::new();
        for (line, key) in (1..).zip(text.lines().map(str::trim)) {
            if key.is_empty() || key.starts_with('#') {
                continue;
            }
            check_key(line, key)?;
            keys.push(key.as_bytes().into());
        }
        if keys.is_empty() { Err(InvalidKeys::None) } else { Ok(Self(keys)) }
    }

    /// Makes a signature with the first key.
    #[must_use]
    pub fn sign(&self, identifier: &str, sdk_app_id: u64, now: u64, lifetime: u64) -> String {
        let mut fields = Fields {
            version: VERSION.to_owned(),
            identifier: identifier.to_owned(),
            sdk_app_id,
            expire: lifetime,
            time: now,
            userbuf: None,
            sig: String::new(),
        };
        let key = self.0.first().expect("there is at least one key");
        fields.sig = BASE64_STANDARD.encode(fields.mac(key).finalize().into_bytes());
        let json = serde_json::to_vec(&fields).expect("texts and numbers have a JSON form");
        let compressed = miniz_oxide::deflate::compress_to_vec_zlib(&json, 6);
        BASE64_STANDARD.encode(compressed).replace('+', "*").replace('/', "-").replace('=', "_")
    }

    /// Reads a signature and checks its app, its key and its time, in this order.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with it.
    pub fn verify(&self, signature: &str, sdk_app_id: u64, now: u64) -> Result<UserSig, UserSigError> {
        let signed = self.verify_at_any_time(signature, sdk_app_id)?;
        if now > signed.expires {
            return Err(UserSigError::Expired);
        }
        Ok(signed)
    }

    /// As [`Keys::verify`], whether it has expired or not.
    pub(super) fn verify_at_any_time(&self, signature: &str, sdk_app_id: u64) -> Result<UserSig, UserSigError> {
        let fields = Fields::decode(signature)?;
        if fields.sdk_app_id != sdk_app_id {
            return Err(UserSigError::WrongApp { signed: fields.sdk_app_id, wanted: sdk_app_id });
        }
        // A line break in it would let one text be read as two sets of fields.
        if fields.identifier.contains(char::is_control) {
            return Err(UserSigError::illegal_field(IDENTIFIER, "has control characters"));
        }
        let sig = BASE64_STANDARD.decode(&fields.sig).map_err(|_| UserSigError::illegal_field(SIG, "is not base64"))?;
        // Compares in constant time.
        if !self.0.iter().any(|key| fields.mac(key).verify_slice(&sig).is_ok()) {
            return Err(UserSigError::WrongKey);
        }
        let expires = fields.time.saturating_add(fields.expire);
        Ok(UserSig { identifier: fields.identifier, expires })
    }
}

/// Refuses a line whose extra characters would silently become part of a key, so that no signature would verify.
fn check_key(line: usize, key: &str) -> Result<(), InvalidKeys> {
    let invisible = |character: &char| {
        character.is_control()
            || matches!(character, '\u{a0}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}' | '\u{feff}')
    };
    if let Some(character) = key.chars().find(invisible) {
        return Err(InvalidKeys::Invisible { line, character });
    }
    let quotes = ['"', '\'', '`', '\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}'];
    if key.starts_with(quotes) || key.ends_with(quotes) {
        return Err(InvalidKeys::Quoted(line));
    }
    if key.starts_with("-----") {
        return Err(InvalidKeys::Pem(line));
    }
    if is_named(key) {
        return Err(InvalidKeys::Named(line));
    }
    if key.contains(" #") || key.contains("\t#") {
        return Err(InvalidKeys::Commented(line));
    }
    if key.len() < MIN_KEY_BYTES {
        return Err(InvalidKeys::TooShort(line));
    }
    Ok(())
}

/// Whether this is a line of a shell script, a settings file or YAML. A key that only ends in `=` is base64.
fn is_named(key: &str) -> bool {
    let is_name = |name: &str| {
        let name = name.trim();
        let name = name.strip_prefix("export ").unwrap_or(name).trim_start();
        name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name.chars().all(|character| character.is_ascii_alphanumeric() || "_-.".contains(character))
    };
    let by_equals =
        key.split_once('=').is_some_and(|(name, value)| is_name(name) && !value.trim_matches('=').is_empty());
    let by_colon = key.split_once(": ").is_some_and(|(name, _)| is_name(name));
    by_equals || by_colon
}

const VERSION: &str = "2.0";
const VER: &str = "TLS.ver";
const IDENTIFIER: &str = "TLS.identifier";
const SDK_APP_ID: &str = "TLS.sdkappid";
const EXPIRE: &str = "TLS.expire";
const TIME: &str = "TLS.time";
const USERBUF: &str = "TLS.userbuf";
const SIG: &str = "TLS.sig";

/// A signature's fields as they were sent, of whatever types.
#[derive(Deserialize)]
struct Sent {
    #[serde(rename = "TLS.ver")]
    version: Option<Value>,
    #[serde(rename = "TLS.identifier")]
    identifier: Option<Value>,
    #[serde(rename = "TLS.sdkappid")]
    sdk_app_id: Option<Value>,
    #[serde(rename = "TLS.expire")]
    expire: Option<Value>,
    #[serde(rename = "TLS.time")]
    time: Option<Value>,
    #[serde(rename = "TLS.userbuf")]
    userbuf: Option<Value>,
    #[serde(rename = "TLS.sig")]
    sig: Option<Value>,
}

fn string(field: &'static str, value: Option<Value>) -> Result<String, UserSigError> {
    match value {
        Some(Value::String(text)) => Ok(text),
        None => Err(UserSigError::illegal_field(field, "is missing")),
        Some(_) => Err(UserSigError::illegal_field(field, "is not a string")),
    }
}

/// A number, or its digits in a string as some generators send it: the signed text is the same.
fn number(field: &'static str, value: Option<Value>) -> Result<u64, UserSigError> {
    let number = match value {
        None => return Err(UserSigError::illegal_field(field, "is missing")),
        Some(Value::Number(number)) => number.as_u64(),
        // A number has one spelling, which is the one that was signed.
        Some(Value::String(digits)) => digits.parse().ok().filter(|number: &u64| number.to_string() == digits),
        Some(_) => None,
    };
    number.ok_or_else(|| {
        UserSigError::illegal_field(field, "is neither a whole number nor the digits of one in a string")
    })
}

#[derive(Serialize)]
struct Fields {
    #[serde(rename = "TLS.ver")]
    version: String,
    #[serde(rename = "TLS.identifier")]
    identifier: String,
    #[serde(rename = "TLS.sdkappid")]
    sdk_app_id: u64,
    #[serde(rename = "TLS.expire")]
    expire: u64,
    #[serde(rename = "TLS.time")]
    time: u64,
    #[serde(rename = "TLS.userbuf", skip_serializing_if = "Option::is_none")]
    userbuf: Option<String>,
    #[serde(rename = "TLS.sig")]
    sig: String,
}

impl Fields {
    fn decode(signature: &str) -> Result<Self, UserSigError> {
        if signature.is_empty() {
            return Err(UserSigError::Empty);
        }
        if signature.len() > MAX_BYTES {
            return Err(UserSigError::illegal("it is too long"));
        }
        let standard = signature.replace('*', "+").replace('-', "/").replace('_', "=");
        let compressed = BASE64_STANDARD.decode(standard).map_err(|_| UserSigError::illegal("it is not base64"))?;
        let json = decompress(&compressed)?;
        let json = std::str::from_utf8(&json).map_err(|_| UserSigError::illegal("it is not UTF-8"))?;
        let sent: Sent = object::from_str(json)
            .map_err(|_| UserSigError::illegal("it is not one JSON object with each field at most once"))?;
        let fields = Self {
            version: string(VER, sent.version)?,
            identifier: string(IDENTIFIER, sent.identifier)?,
            sdk_app_id: number(SDK_APP_ID, sent.sdk_app_id)?,
            expire: number(EXPIRE, sent.expire)?,
            time: number(TIME, sent.time)?,
            userbuf: sent.userbuf.map(|userbuf| string(USERBUF, Some(userbuf))).transpose()?,
            sig: string(SIG, sent.sig)?,
        };
        if fields.version != VERSION {
            return Err(UserSigError::illegal_field(VER, "is not 2.0"));
        }
        Ok(fields)
    }

    /// Over the text that all generators sign.
    fn mac(&self, key: &[u8]) -> Hmac<Sha256> {
        let Self { identifier, sdk_app_id, time, expire, .. } = self;
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key may have any length");
        mac.update(
            format!("TLS.identifier:{identifier}\nTLS.sdkappid:{sdk_app_id}\nTLS.time:{time}\nTLS.expire:{expire}\n")
                .as_bytes(),
        );
        if let Some(userbuf) = &self.userbuf {
            mac.update(format!("TLS.userbuf:{userbuf}\n").as_bytes());
        }
        mac
    }
}

/// Decompresses one zlib stream and nothing else.
fn decompress(compressed: &[u8]) -> Result<Vec<u8>, UserSigError> {
    let flags = TINFL_FLAG_PARSE_ZLIB_HEADER | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let mut json = vec![0; MAX_JSON_BYTES];
    let (status, read, written) = miniz_oxide::inflate::core::decompress(
        &mut Box::<DecompressorOxide>::default(),
        compressed,
        &mut json,
        0,
        flags,
    );
    if status != TINFLStatus::Done {
        return Err(UserSigError::illegal("it cannot be decompressed to a signature's size"));
    }
    if read != compressed.len() {
        return Err(UserSigError::illegal("there are bytes after the end of the compressed data"));
    }
    json.truncate(written);
    Ok(json)
}
