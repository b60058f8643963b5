//! `convgroups usersig`: signatures for tools and development.

use std::io::Read;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::settings::Settings;
use convgroups_server::usersig::{DEFAULT_LIFETIME_SECONDS, Keys, MAX_BYTES};
use convgroups_server::{KEYS_VARIABLE, KeySource};

use super::args::Usersig;
use super::{Done, Failed, Outcome, print};

pub(crate) fn usersig(settings: &Settings, command: &Usersig) -> Outcome {
    let app = settings.auth.sdk_app_id;
    if app == 0 {
        let reason = "setting auth.sdk_app_id: is not set: it is the SDKAppID that signatures are made for";
        return Err(Failed::Usage(reason.to_owned()));
    }
    let keys = keys(settings)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(Failed::run)?.as_secs();
    match &command.identifier {
        Some(identifier) => {
            let lifetime = command.expire.unwrap_or(DEFAULT_LIFETIME_SECONDS);
            print(format!("{}\n", keys.sign(identifier.as_str(), app, now, lifetime)).as_bytes())
        }
        None => verify(&keys, app, now),
    }
}

fn keys(settings: &Settings) -> Result<Keys, Failed> {
    let source = KeySource::find(&settings.auth).map_err(Failed::usage)?.ok_or_else(|| {
        Failed::Usage(format!("there are no keys: set auth.keys_file, or the environment variable {KEYS_VARIABLE}"))
    })?;
    source.load().map_err(Failed::run)
}

fn verify(keys: &Keys, app: u64, now: u64) -> Outcome {
    let mut signature = String::new();
    // One more than the longest, which is refused as too long.
    let most = MAX_BYTES as u64 + 2;
    let read = std::io::stdin().take(most).read_to_string(&mut signature);
    read.map_err(|error| Failed::Run(format!("could not read the UserSig from standard input: {error}")))?;
    match keys.verify(signature.trim(), app, now) {
        Ok(signed) => {
            let answer = serde_json::json!({ "identifier": signed.identifier, "expires": signed.expires });
            print(format!("{answer}\n").as_bytes())
        }
        Err(error) => {
            let (code, desc, field) = (error.code(), error.to_string(), error.field());
            let answer = serde_json::json!({ "code": code, "desc": desc, "field": field });
            print(format!("{answer}\n").as_bytes())?;
            Ok(Done::WithCode)
        }
    }
}
