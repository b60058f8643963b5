//! UserSig (TLSSigAPIv2): the signature by which Tencent Cloud Chat's clients and back ends prove who they are.
//!
//! A JSON object with the identifier, the app, the time of signing, how long it holds, and an HMAC-SHA256 over these;
//! compressed with zlib, in base64 with `*-_` for `+/=`. Generators differ in the order of fields and in spacing, so a
//! signature is read, never compared as text.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

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
    Illegal(&'static str),
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
#[derive(Clone)]
pub struct Keys(Vec<Box<[u8]>>);

impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Keys({} secrets)", self.0.len())
    }
}

/// Why a text is no list of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeys {
    /// There is none.
    #[error("there is no key: expected one on each line, the one that signs first")]
    None,
    /// One is too short.
    #[error("line {0} has a key of less than {MIN_KEY_BYTES} bytes, which could be guessed")]
    TooShort(usize),
}

impl Keys {
    /// Reads keys, one on each line. Empty lines and those that begin with `#` are left out.
    ///
    /// # Errors
    ///
    /// When there is none, or one is too short to be safe.
    pub fn parse(text: &str) -> Result<Self, InvalidKeys> {
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let key = line.trim();
            if key.is_empty() || key.starts_with('#') {
                continue;
            }
            if key.len() < MIN_KEY_BYTES {
                return Err(InvalidKeys::TooShort(index + 1));
            }
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
        let fields = Fields::decode(signature)?;
        if fields.sdk_app_id != sdk_app_id {
            return Err(UserSigError::WrongApp { signed: fields.sdk_app_id, wanted: sdk_app_id });
        }
        // A line break in it would let one text be read as two sets of fields.
        if fields.identifier.contains(char::is_control) {
            return Err(UserSigError::Illegal("its identifier has control characters"));
        }
        let sig = BASE64_STANDARD.decode(&fields.sig).map_err(|_| UserSigError::Illegal("TLS.sig is not base64"))?;
        // Compares in constant time.
        if !self.0.iter().any(|key| fields.mac(key).verify_slice(&sig).is_ok()) {
            return Err(UserSigError::WrongKey);
        }
        let expires = fields.time.saturating_add(fields.expire);
        if now > expires {
            return Err(UserSigError::Expired);
        }
        Ok(UserSig { identifier: fields.identifier, expires })
    }
}

const VERSION: &str = "2.0";

#[derive(Serialize, Deserialize)]
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
    #[serde(rename = "TLS.userbuf", default, skip_serializing_if = "Option::is_none")]
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
            return Err(UserSigError::Illegal("it is too long"));
        }
        let standard = signature.replace('*', "+").replace('-', "/").replace('_', "=");
        let compressed = BASE64_STANDARD.decode(standard).map_err(|_| UserSigError::Illegal("it is not base64"))?;
        let json = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(&compressed, MAX_JSON_BYTES)
            .map_err(|_| UserSigError::Illegal("it cannot be decompressed to a signature's size"))?;
        let fields: Self =
            serde_json::from_slice(&json).map_err(|_| UserSigError::Illegal("its fields are not a signature's"))?;
        if fields.version != VERSION {
            return Err(UserSigError::Illegal("it is not of version 2.0"));
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
